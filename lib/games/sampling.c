/* Shapley values from marginal contributions of one player at a time. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/random.h"
#include "games/private.h"

#define FIRST_DRAWS 4    /* a player, before variances are believed */
#define PRIOR 4          /* draws that the mean variance of all players counts for in each one's */
#define DRAW_COST 4      /* evaluations: S, S + i, and both for the mirror image of S */
#define DEFAULT_DRAWS 16 /* a player */

/* Draw `index` of player i: a coalition S of the others whose size is uniform in 0 .. M - 1, which
 * makes E[v(S + i) - v(S)] the Shapley value; and its complement among the others. */
static xai_status add_draw(coalition_batch *batch, size_t *order, size_t i, size_t index,
                           uint64_t seed, xai_error **error)
{
    const size_t m = batch->of->players;
    const uint64_t stream = random_stream(DRAW_CONTRIBUTION, (uint32_t)(index * m + i));
    random_permutation(seed, stream, m, order);
    for (int which = 0; which < DRAW_COST; which++) {
        uint8_t *coalition = NULL;
        const xai_status status = coalition_batch_add(batch, &coalition, error);
        if (status != XAI_OK)
            return status;
        const bool mirrored = which >= 2;
        uint8_t there = (uint8_t)!mirrored;
        for (size_t k = 0; k < m; k++) {
            if (order[k] == i)
                there = !there; /* before i: in S; behind it: in the complement */
            else
                coalition[order[k]] = there;
        }
        coalition[i] = (uint8_t)(which & 1);
    }
    return XAI_OK;
}

/* Variances of single draws. Those of a few draws vary by more than they differ among players, and
 * who seems certain by chance would get no more draws, stay so, and report too small an error. So
 * each is drawn towards their mean; one that never varied beside others that do keeps a little. */
static void find_variances(const moments *sums, size_t m, double *out)
{
    double mean = 0;
    for (size_t i = 0; i < m; i++) {
        out[i] = sums[i].squares / (double)(sums[i].count - 1);
        mean += out[i] / (double)m;
    }
    for (size_t i = 0; i < m; i++) {
        const double draws = (double)(sums[i].count - 1);
        out[i] = (draws * out[i] + PRIOR * mean) / (draws + PRIOR);
    }
}

/* How many more draws each player gets: proportional to its standard deviation (Neyman), so that
 * the sum of the variances falls fastest. */
static void share_out(const double *variances, size_t m, size_t draws, size_t *more)
{
    double total = 0;
    for (size_t i = 0; i < m; i++)
        total += sqrt(variances[i]);
    size_t given = 0;
    double ahead = 0;
    for (size_t i = 0; i < m; i++) {
        const double deviation = sqrt(variances[i]);
        ahead += total > 0 ? deviation / total * (double)draws : 0;
        more[i] = (size_t)floor(ahead + 1e-9) - given;
        given += more[i];
    }
}

static xai_status draw_round(coalition_batch *batch, size_t *order, const size_t *more,
                             moments *sums, double *scores, uint64_t seed, xai_error **error)
{
    const size_t m = batch->of->players;
    coalition_batch_target(batch, scores);
    xai_status status = XAI_OK;
    for (size_t i = 0; i < m; i++)
        for (size_t d = 0; status == XAI_OK && d < more[i]; d++)
            status = add_draw(batch, order, i, sums[i].count + d, seed, error);
    if (status == XAI_OK)
        status = coalition_batch_flush(batch, error);
    for (size_t i = 0; status == XAI_OK && i < m; i++)
        for (size_t d = 0; d < more[i]; d++, scores += DRAW_COST)
            moments_add(&sums[i], (scores[1] - scores[0] + scores[3] - scores[2]) / 2);
    return status;
}

/* Values whose sum is v(all) - v(nobody): what the independent means miss is shared out in
 * proportion to the variances that were seen. A player that never varied gets none of it: one that
 * changes nothing has exactly nothing. */
static void settle(game_values *out, const moments *sums, double *found)
{
    const size_t m = out->players;
    find_variances(sums, m, found);
    double gap = out->full - out->empty, all = 0, seen = 0; /* of the means' variances */
    for (size_t i = 0; i < m; i++) {
        const double error = moments_error(&sums[i]);
        out->values[i] = sums[i].mean;
        gap -= sums[i].mean;
        all += found[i] / (double)sums[i].count;
        seen += error * error;
    }
    for (size_t i = 0; i < m; i++) {
        const double error = moments_error(&sums[i]), variance = found[i] / (double)sums[i].count;
        const double share = seen > 0 ? error * error / seen : 0;
        out->values[i] += share * gap;
        /* of mean_i - share (mean_1 + ... + mean_m) */
        out->errors[i] = sqrt(fmax(0, variance - 2 * share * variance + share * share * all));
    }
}

xai_status shapley_sampling(const set_function *of, const game_options *options, game_values *out,
                            xai_error **error)
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
    const size_t least = 2 * m;
    size_t draws = options->samples == 0 ? DEFAULT_DRAWS * m : options->samples / DRAW_COST;
    if (draws < least) {
        status = error_set(error, XAI_ERROR_ARGUMENT, NULL,
                           "sampling Shapley values of %zu features takes at least %zu samples; "
                           "%zu were given",
                           m, least * DRAW_COST, options->samples);
        return status;
    }
    size_t *order = memory_allocate(m, sizeof *order);
    size_t *more = memory_allocate(m, sizeof *more);
    moments *sums = memory_allocate_zeroed(m, sizeof *sums);
    double *scores = memory_allocate(draws * DRAW_COST, sizeof *scores);
    double *variances = memory_allocate(m, sizeof *variances);
    if (order == NULL || more == NULL || sums == NULL || scores == NULL || variances == NULL) {
        status = error_memory(error, "draws of players", draws * DRAW_COST * sizeof *scores);
        goto done;
    }
    status = coalition_batch_init(&batch, of, &out->evaluations, error);
    const size_t first = draws / m < FIRST_DRAWS ? draws / m : FIRST_DRAWS;
    for (size_t i = 0; i < m; i++)
        more[i] = first;
    if (status == XAI_OK)
        status = draw_round(&batch, order, more, sums, scores, options->seed, error);
    size_t left = draws - first * m;
    while (status == XAI_OK) {
        settle(out, sums, variances);
        if (left == 0 ||
            (options->tolerance > 0 && game_values_relative_error(out) <= options->tolerance))
            break;
        /* Rounds of a draw a player and more, so that the variances are looked at again. */
        const size_t wished = options->tolerance > 0 ? (draws - left) / 2 : left / 2;
        const size_t round = left < 2 * m ? left : wished > m ? wished : m;
        share_out(variances, m, round, more);
        status = draw_round(&batch, order, more, sums, scores, options->seed, error);
        size_t used = 0;
        for (size_t i = 0; i < m; i++)
            used += more[i];
        if (used == 0)
            break; /* every contribution is constant: exact */
        left -= used < left ? used : left;
    }
done:
    coalition_batch_free(&batch);
    memory_free(order);
    memory_free(more);
    memory_free(sums);
    memory_free(scores);
    memory_free(variances);
    return status;
}
