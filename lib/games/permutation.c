/* Shapley values from random orders, each run forwards and backwards. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/random.h"
#include "games/private.h"

#define DEFAULT_PAIRS 10
#define ROUND_EVALUATIONS 256 /* asked for together */
#define LEAST_PAIRS 5         /* two or three pairs agree by chance too often to be believed */

/* M - 1 coalitions where the first k + 1 players of the order are there, then as many where they are
 * missing. */
static xai_status add_coalitions(coalition_batch *batch, const size_t *order, xai_error **error)
{
    const size_t m = batch->of->players;
    for (int there = 1; there >= 0; there--) {
        for (size_t k = 0; k + 1 < m; k++) {
            uint8_t *coalition = NULL;
            const xai_status status = coalition_batch_add(batch, &coalition, error);
            if (status != XAI_OK)
                return status;
            memset(coalition, !there, m);
            for (size_t i = 0; i <= k; i++)
                coalition[order[i]] = (uint8_t)there;
        }
    }
    return XAI_OK;
}

static void add_order(const game_values *of, const size_t *order, const double *scores,
                      moments *sums)
{
    const size_t m = of->players;
    double grown = of->empty, shrunk = of->full;
    for (size_t k = 0; k < m; k++) {
        const double grows = k + 1 < m ? scores[k] : of->full;
        const double shrinks = k + 1 < m ? scores[m - 1 + k] : of->empty;
        moments_add(&sums[order[k]], (grows - grown + shrunk - shrinks) / 2);
        grown = grows;
        shrunk = shrinks;
    }
}

/* Orders [first, first + count) and the scores of their coalitions. */
static xai_status score_orders(coalition_batch *batch, uint64_t seed, size_t first, size_t count,
                               size_t *orders, double *scores, xai_error **error)
{
    const size_t m = batch->of->players;
    xai_status status = XAI_OK;
    coalition_batch_target(batch, scores);
    for (size_t p = 0; status == XAI_OK && p < count; p++) {
        random_permutation(seed, random_stream(DRAW_ORDER, (uint32_t)(first + p)), m,
                           orders + p * m);
        status = add_coalitions(batch, orders + p * m, error);
    }
    return status == XAI_OK ? coalition_batch_flush(batch, error) : status;
}

xai_status shapley_permutation(const set_function *of, const game_options *options,
                               game_values *out, xai_error **error)
{
    const size_t m = of->players;
    coalition_batch batch = {0};
    xai_status status = game_values_begin(out, of, error);
    if (status != XAI_OK)
        return status;
    if (m == 1) {
        game_values_single(out);
        return XAI_OK;
    }
    const size_t cost = 2 * (m - 1);
    size_t pairs = options->samples == 0 ? DEFAULT_PAIRS : options->samples / cost;
    pairs = pairs > 0 ? pairs : 1;
    /* Several orders at a time give many threads work; not more than are sure to be needed. */
    const size_t together = cost < ROUND_EVALUATIONS ? ROUND_EVALUATIONS / cost : 1;
    const size_t most = together > LEAST_PAIRS ? together : LEAST_PAIRS;
    size_t *orders = memory_allocate(most * m, sizeof *orders);
    double *scores = memory_allocate(most * cost, sizeof *scores);
    moments *sums = memory_allocate_zeroed(m, sizeof *sums);
    if (orders == NULL || scores == NULL || sums == NULL) {
        status = error_memory(error, "orders of players", most * cost * sizeof *scores);
        goto done;
    }
    status = coalition_batch_init(&batch, of, &out->evaluations, error);
    for (size_t pair = 0, now = 0; status == XAI_OK && pair < pairs; pair += now) {
        now = options->tolerance > 0 ? (pair == 0 ? LEAST_PAIRS : 1) : together;
        now = now < pairs - pair ? now : pairs - pair;
        status = score_orders(&batch, options->seed, pair, now, orders, scores, error);
        if (status != XAI_OK)
            break;
        for (size_t p = 0; p < now; p++)
            add_order(out, orders + p * m, scores + p * cost, sums);
        for (size_t i = 0; i < m; i++) {
            out->values[i] = sums[i].mean;
            out->errors[i] = moments_error(&sums[i]);
        }
        if (options->tolerance > 0 && pair + now >= LEAST_PAIRS &&
            game_values_relative_error(out) <= options->tolerance)
            break;
    }
done:
    coalition_batch_free(&batch);
    memory_free(orders);
    memory_free(scores);
    memory_free(sums);
    return status;
}
