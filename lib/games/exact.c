/* Shapley values and interactions from all coalitions. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "games/private.h"

/* weights[k] = k! (n - k - 1)! / n!, for coalitions of k among the other n - 1 players. */
static void size_weights(size_t n, double *weights)
{
    for (size_t k = 0; k < n; k++)
        weights[k] = exp(lgamma((double)k + 1) + lgamma((double)(n - k)) - lgamma((double)n + 1));
}

static size_t bit_count(size_t bits)
{
    return (size_t)__builtin_popcountll(bits);
}

/* The s-th coalition of Gray's order: each has one player more or less than the one before, which a set
 * function may make use of. */
static size_t gray(size_t s)
{
    return s ^ s >> 1;
}

static double marginal(const double *v, size_t players, const double *weights, size_t i)
{
    const size_t bit = (size_t)1 << i;
    double sum = 0;
    for (size_t s = 0; s < (size_t)1 << players; s++)
        if ((s & bit) == 0)
            sum += weights[bit_count(s)] * (v[s | bit] - v[s]);
    return sum;
}

/* Half the Shapley interaction index of i and j (Lundberg et al. 2020):
 *   1/2 sum over S without i, j of |S|! (M - |S| - 2)! / (M - 1)!
 *       (v(S + i + j) - v(S + i) - v(S + j) + v(S)) */
static double half_interaction(const double *v, size_t players, const double *weights, size_t i,
                               size_t j)
{
    const size_t a = (size_t)1 << i, b = (size_t)1 << j;
    double sum = 0;
    for (size_t s = 0; s < (size_t)1 << players; s++)
        if ((s & (a | b)) == 0)
            sum += weights[bit_count(s)] * (v[s | a | b] - v[s | a] - v[s | b] + v[s]);
    return sum / 2;
}

static xai_status find_interactions(game_values *out, const double *v, xai_error **error)
{
    const size_t m = out->players;
    double weights[GAME_EXACT_PLAYERS + 1];
    out->interactions = memory_allocate_zeroed(m * m, sizeof *out->interactions);
    if (out->interactions == NULL)
        return error_memory(error, "interactions", m * m * sizeof(double));
    if (m > 1)
        size_weights(m - 1, weights);
    for (size_t i = 0; i < m; i++) {
        double diagonal = out->values[i];
        for (size_t j = 0; j < m; j++) {
            if (j > i)
                out->interactions[i * m + j] = out->interactions[j * m + i] =
                    half_interaction(v, m, weights, i, j);
            if (j != i)
                diagonal -= out->interactions[i * m + j];
        }
        out->interactions[i * m + i] = diagonal;
    }
    return XAI_OK;
}

xai_status shapley_exact(const set_function *of, const game_options *options, game_values *out,
                         xai_error **error)
{
    const size_t m = of->players;
    if (m > GAME_EXACT_PLAYERS)
        return error_set(error, XAI_ERROR_ARGUMENT, NULL,
                         "exact Shapley values of %zu features would take 2^%zu evaluations; at "
                         "most %d features, so give fewer segments, or take another method",
                         m, m, GAME_EXACT_PLAYERS);
    const size_t count = (size_t)1 << m;
    double weights[GAME_EXACT_PLAYERS + 1];
    coalition_batch batch = {0};
    double *v = memory_allocate(count, sizeof *v), *in_order = memory_allocate(count, sizeof *v);
    xai_status status = game_values_create(out, m, error);
    if (status == XAI_OK && (v == NULL || in_order == NULL))
        status = error_memory(error, "the scores of all coalitions", count * sizeof *v);
    if (status == XAI_OK)
        status = coalition_batch_init(&batch, of, &out->evaluations, error);
    if (status != XAI_OK)
        goto done;
    coalition_batch_target(&batch, in_order);
    for (size_t s = 0; status == XAI_OK && s < count; s++) {
        uint8_t *coalition = NULL;
        status = coalition_batch_add(&batch, &coalition, error);
        for (size_t i = 0; status == XAI_OK && i < m; i++)
            coalition[i] = (uint8_t)(gray(s) >> i & 1);
    }
    if (status == XAI_OK)
        status = coalition_batch_flush(&batch, error);
    if (status != XAI_OK)
        goto done;
    for (size_t s = 0; s < count; s++)
        v[gray(s)] = in_order[s];
    out->empty = v[0];
    out->full = v[count - 1];
    size_weights(m, weights);
    for (size_t i = 0; i < m; i++)
        out->values[i] = marginal(v, m, weights, i);
    if (options->interactions)
        status = find_interactions(out, v, error);
done:
    coalition_batch_free(&batch);
    memory_free(v);
    memory_free(in_order);
    return status;
}

xai_status leave_one_out(const set_function *of, game_values *out, xai_error **error)
{
    const size_t m = of->players;
    coalition_batch batch = {0};
    xai_status status = game_values_begin(out, of, error);
    if (status == XAI_OK)
        status = coalition_batch_init(&batch, of, &out->evaluations, error);
    if (status == XAI_OK)
        coalition_batch_target(&batch, out->values);
    for (size_t i = 0; status == XAI_OK && i < m; i++) {
        uint8_t *coalition = NULL;
        status = coalition_batch_add(&batch, &coalition, error);
        if (status != XAI_OK)
            break;
        memset(coalition, 1, m);
        coalition[i] = 0;
    }
    if (status == XAI_OK)
        status = coalition_batch_flush(&batch, error);
    for (size_t i = 0; status == XAI_OK && i < m; i++)
        out->values[i] = out->full - out->values[i];
    coalition_batch_free(&batch);
    return status;
}
