/* Shapley values from random orders, each run forwards and backwards. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/random.h"
#include "games/private.h"

#define DEFAULT_PAIRS 10

/* scores[0 .. M - 2]: the first k + 1 players of the order are there; scores[M - 1 .. 2 M - 3]: they
 * are missing. */
static xai_status score_order(coalition_batch *batch, const size_t *order, double *scores,
                              xai_error **error)
{
    const size_t m = batch->of->players;
    coalition_batch_target(batch, scores);
    for (int there = 1; there >= 0; there--) {
        const uint8_t *before = NULL;
        for (size_t k = 0; k + 1 < m; k++) {
            /* A flush inside keeps the bytes of `before` only until this coalition is filled. */
            uint8_t *coalition = NULL;
            const xai_status status = coalition_batch_add(batch, &coalition, error);
            if (status != XAI_OK)
                return status;
            if (before == NULL)
                memset(coalition, !there, m);
            else
                memmove(coalition, before, m);
            coalition[order[k]] = (uint8_t)there;
            before = coalition;
        }
    }
    return coalition_batch_flush(batch, error);
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
    size_t *order = memory_allocate(m, sizeof *order);
    double *scores = memory_allocate(cost, sizeof *scores);
    moments *sums = memory_allocate_zeroed(m, sizeof *sums);
    if (order == NULL || scores == NULL || sums == NULL) {
        status = error_memory(error, "an order of players", cost * sizeof *scores);
        goto done;
    }
    status = coalition_batch_init(&batch, of, &out->evaluations, error);
    for (size_t pair = 0; status == XAI_OK && pair < pairs; pair++) {
        random_permutation(options->seed, random_stream(DRAW_ORDER, (uint32_t)pair), m, order);
        status = score_order(&batch, order, scores, error);
        if (status != XAI_OK)
            break;
        add_order(out, order, scores, sums);
        for (size_t i = 0; i < m; i++) {
            out->values[i] = sums[i].mean;
            out->errors[i] = moments_error(&sums[i]);
        }
        /* Two or three pairs agree by chance too often to be believed. */
        if (options->tolerance > 0 && pair >= 4 &&
            game_values_relative_error(out) <= options->tolerance)
            break;
    }
done:
    coalition_batch_free(&batch);
    memory_free(order);
    memory_free(scores);
    memory_free(sums);
    return status;
}
