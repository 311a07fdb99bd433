/* Kernel SHAP: Shapley values by weighted least squares over coalitions and their complements. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/random.h"
#include "games/private.h"

#define MAX_PLAYERS 8192

/* A coalition S (of at most half the players) and its complement. Because both are there, the
 * regression of v(S) - v(nobody) on the players is the regression of half the difference
 *   y = (v(S) - v(rest)) / 2     on     x_i = 1/2 for i in S, -1/2 else,
 * one equation instead of two. */
typedef struct pair {
    double weight, y;
    size_t count; /* times drawn; 0 = enumerated */
} pair;

typedef struct fit {
    const set_function *of;
    const game_options *options;
    game_values *out;
    size_t m, sizes;     /* sizes 1 .. M / 2 */
    size_t full_sizes;   /* of them, those enumerated */
    double *size_weight; /* (sizes): share of all weight, both halves together */
    double *chance;      /* (sizes): of a draw; 0 for enumerated sizes */
    pair *pairs;
    uint8_t *masks; /* (capacity, M) */
    size_t count, capacity, masks_capacity, scored;
    size_t drawn;              /* draws, repeated ones included */
    size_t *table, table_size; /* hash of masks -> pair + 1 */
    size_t enumerated;
    double *normal, *right; /* (M - 1)^2, (M - 1) */
    coalition_batch batch;
} fit;

/* Number of pairs of size k: C(M, k), or half of that when the complement has the same size. */
static double pairs_of_size(size_t m, size_t k)
{
    const double all =
        exp(lgamma((double)m + 1) - lgamma((double)k + 1) - lgamma((double)(m - k) + 1));
    return floor((2 * k == m ? all / 2 : all) + 0.5);
}

/* Sizes in order while the samples left cover the number that draws would put there (the rule of
 * SHAP), and the chances of the others. */
static void plan_sizes(fit *self, size_t samples)
{
    double total = 0, left = (double)samples / 2, open = 1;
    for (size_t k = 1; k <= self->sizes; k++) {
        const double kernel = (double)(self->m - 1) / ((double)k * (double)(self->m - k));
        self->size_weight[k - 1] = 2 * k == self->m ? kernel : 2 * kernel;
        total += self->size_weight[k - 1];
    }
    for (size_t k = 0; k < self->sizes; k++)
        self->size_weight[k] /= total;
    for (size_t k = 1; k <= self->sizes; k++) {
        const double number = pairs_of_size(self->m, k), weight = self->size_weight[k - 1];
        const bool last_fits = number <= left && k == self->sizes;
        if (!last_fits && left * (weight / open) < number * (1 - 1e-8))
            break;
        left -= number;
        open -= weight;
        self->full_sizes = k;
    }
    double chances = 0;
    for (size_t k = self->full_sizes; k < self->sizes; k++) {
        /* By leverage (Musco and Witter 2024) every size is as likely; by kernel weight the
         * draws need no weights of their own. */
        self->chance[k] =
            self->options->leverage ? (2 * (k + 1) == self->m ? 0.5 : 1) : self->size_weight[k];
        chances += self->chance[k];
    }
    for (size_t k = self->full_sizes; k < self->sizes; k++)
        self->chance[k] /= chances;
}

static uint64_t hash_mask(const uint8_t *mask, size_t m)
{
    uint64_t hash = 0x9E3779B97F4A7C15U;
    for (size_t i = 0; i < m; i++)
        hash = (hash ^ mask[i]) * 0x100000001B3U;
    return hash ^ hash >> 29;
}

static xai_status reserve(fit *self, xai_error **error)
{
    size_t masks = 0;
    const size_t needed = self->count + 1;
    if (!size_multiply(needed, self->m, &masks) ||
        !array_reserve((void **)&self->pairs, &self->capacity, needed, sizeof *self->pairs) ||
        !array_reserve((void **)&self->masks, &self->masks_capacity, masks, 1))
        return error_memory(error, "coalitions", needed * self->m);
    if (self->table_size >= 2 * needed)
        return XAI_OK;
    const size_t size = self->table_size == 0 ? 1024 : 2 * self->table_size;
    size_t *table = memory_allocate_zeroed(size, sizeof *table);
    if (table == NULL)
        return error_memory(error, "coalitions", size * sizeof *table);
    for (size_t p = 0; p < self->count; p++) {
        size_t at = (size_t)hash_mask(self->masks + p * self->m, self->m) & (size - 1);
        while (table[at] != 0)
            at = (at + 1) & (size - 1);
        table[at] = p + 1;
    }
    memory_free(self->table);
    self->table = table;
    self->table_size = size;
    return XAI_OK;
}

/* The pair of `mask`, new or known. */
static xai_status find_pair(fit *self, const uint8_t *mask, pair **out, xai_error **error)
{
    const xai_status status = reserve(self, error);
    if (status != XAI_OK)
        return status;
    size_t at = (size_t)hash_mask(mask, self->m) & (self->table_size - 1);
    while (self->table[at] != 0) {
        const size_t p = self->table[at] - 1;
        if (memcmp(self->masks + p * self->m, mask, self->m) == 0) {
            *out = &self->pairs[p];
            return XAI_OK;
        }
        at = (at + 1) & (self->table_size - 1);
    }
    memcpy(self->masks + self->count * self->m, mask, self->m);
    self->table[at] = self->count + 1;
    *out = &self->pairs[self->count++];
    **out = (pair){0};
    return XAI_OK;
}

/* All coalitions of one size, in lexical order; of two halves the one with player 0. */
static xai_status enumerate(fit *self, size_t k, uint8_t *mask, size_t *chosen, xai_error **error)
{
    const size_t m = self->m;
    const double weight = self->size_weight[k - 1] / pairs_of_size(m, k);
    for (size_t i = 0; i < k; i++)
        chosen[i] = i;
    for (;;) {
        if (2 * k == m && chosen[0] != 0)
            return XAI_OK;
        memset(mask, 0, m);
        for (size_t i = 0; i < k; i++)
            mask[chosen[i]] = 1;
        pair *found = NULL;
        const xai_status status = find_pair(self, mask, &found, error);
        if (status != XAI_OK)
            return status;
        found->weight = weight;
        size_t i = k;
        while (i > 0 && chosen[i - 1] == m - k + i - 1)
            i--;
        if (i == 0)
            return XAI_OK;
        chosen[i - 1]++;
        for (; i < k; i++)
            chosen[i] = chosen[i - 1] + 1;
    }
}

/* One draw: a size by its chance, then players. */
static xai_status draw(fit *self, uint8_t *mask, size_t *order, xai_error **error)
{
    const size_t m = self->m;
    const uint64_t seed = self->options->seed;
    const uint64_t stream = random_stream(DRAW_COALITION, (uint32_t)self->drawn);
    double where = random_uniform(seed, stream, 0);
    size_t size = self->full_sizes;
    while (size + 1 < self->sizes && where >= self->chance[size])
        where -= self->chance[size++];
    size++;
    memset(mask, 0, m);
    for (size_t i = 0; i < m; i++)
        order[i] = i;
    for (size_t i = 0; i < size; i++) {
        const size_t other = i + (size_t)random_below(seed, stream, i + 1, m - i);
        const size_t kept = order[i];
        order[i] = order[other];
        order[other] = kept;
        mask[order[i]] = 1;
    }
    if (2 * size == m && mask[0] == 0)
        for (size_t i = 0; i < m; i++)
            mask[i] = !mask[i];
    pair *found = NULL;
    const xai_status status = find_pair(self, mask, &found, error);
    if (status != XAI_OK)
        return status;
    found->count++;
    found->weight = self->size_weight[size - 1] / self->chance[size - 1]; /* of one draw */
    self->drawn++;
    return XAI_OK;
}

static xai_status score_new(fit *self, xai_error **error)
{
    const size_t begin = self->scored, m = self->m, count = self->count - begin;
    double *scores = memory_allocate(2 * count, sizeof *scores);
    if (scores == NULL)
        return error_memory(error, "scores", 2 * count * sizeof *scores);
    coalition_batch_target(&self->batch, scores);
    xai_status status = XAI_OK;
    for (size_t p = begin; status == XAI_OK && p < self->count; p++) {
        for (int half = 0; status == XAI_OK && half < 2; half++) {
            uint8_t *coalition = NULL;
            status = coalition_batch_add(&self->batch, &coalition, error);
            for (size_t i = 0; status == XAI_OK && i < m; i++)
                coalition[i] = self->masks[p * m + i] ^ (uint8_t)half;
        }
    }
    if (status == XAI_OK)
        status = coalition_batch_flush(&self->batch, error);
    for (size_t p = 0; status == XAI_OK && p < count; p++)
        self->pairs[begin + p].y = (scores[2 * p] - scores[2 * p + 1]) / 2;
    self->scored = self->count;
    memory_free(scores);
    return status;
}

/* Weight of a pair in the regression: drawn ones share what the enumerated ones leave. */
static double pair_weight(const pair *of, double drawn_scale)
{
    return of->count == 0 ? of->weight : of->weight * (double)of->count * drawn_scale;
}

static double drawn_scale(const fit *self)
{
    double drawn = 0, share = 0;
    for (size_t p = self->enumerated; p < self->count; p++)
        drawn += self->pairs[p].weight * (double)self->pairs[p].count;
    for (size_t k = self->full_sizes; k < self->sizes; k++)
        share += self->size_weight[k];
    return drawn > 0 ? share / drawn : 0;
}

/* x_i - x_last of a pair: 0, 1 or -1. */
static inline double contrast(const uint8_t *mask, size_t i, size_t last)
{
    return (double)mask[i] - (double)mask[last];
}

/* Squared standard errors from the residuals of the draws ("sandwich"): the solution moves by
 *   psi = A^-1 x w r
 * with each draw; enumerated pairs do not vary. */
static void estimate_errors(fit *self, double scale)
{
    const size_t m = self->m, n = m - 1;
    game_values *out = self->out;
    if (self->drawn == 0) {
        memset(out->errors, 0, m * sizeof *out->errors);
        return;
    }
    const double unknowns = (double)self->count - (double)n;
    double *psi = self->right;
    double *mean = memory_allocate_zeroed(2 * m, sizeof *mean);
    double *squares = mean + m;
    if (mean == NULL || unknowns <= 0 || self->drawn < 2) {
        for (size_t i = 0; i < m; i++)
            out->errors[i] = NAN;
        memory_free(mean);
        return;
    }
    for (size_t p = self->enumerated; p < self->count; p++) {
        const uint8_t *mask = self->masks + p * m;
        double residual = self->pairs[p].y;
        for (size_t i = 0; i < m; i++)
            residual -= (mask[i] ? 0.5 : -0.5) * out->values[i];
        const double force = self->pairs[p].weight * scale * residual;
        for (size_t i = 0; i < n; i++)
            psi[i] = contrast(mask, i, n) * force;
        cholesky_solve(self->normal, n, psi);
        double last = 0;
        const double count = (double)self->pairs[p].count;
        for (size_t i = 0; i <= n; i++) {
            const double value = i < n ? psi[i] : -last;
            last += i < n ? psi[i] : 0;
            mean[i] += count * value;
            squares[i] += count * value * value;
        }
    }
    const double draws = (double)self->drawn;
    for (size_t i = 0; i < m; i++) {
        const double spread = squares[i] - mean[i] * mean[i] / draws;
        out->errors[i] =
            sqrt(fmax(spread, 0) * draws / (draws - 1) * (double)self->count / unknowns);
    }
    memory_free(mean);
}

/* Minimise sum_p w_p (y_p - x_p phi)^2 with sum phi = v(all) - v(nobody): the last player's value
 * is what the others leave. */
static xai_status solve(fit *self, xai_error **error)
{
    const size_t m = self->m, n = m - 1;
    const double total = self->out->full - self->out->empty, scale = drawn_scale(self);
    memset(self->normal, 0, n * n * sizeof *self->normal);
    memset(self->right, 0, n * sizeof *self->right);
    for (size_t p = 0; p < self->count; p++) {
        const uint8_t *mask = self->masks + p * m;
        const double weight = pair_weight(&self->pairs[p], scale);
        const double y = self->pairs[p].y - (mask[n] ? 0.5 : -0.5) * total;
        for (size_t i = 0; i < n; i++) {
            const double at = contrast(mask, i, n) * weight;
            if (at == 0)
                continue;
            self->right[i] += at * y;
            double *row = self->normal + i * n;
            for (size_t j = 0; j <= i; j++)
                row[j] += at * contrast(mask, j, n);
        }
    }
    if (!cholesky(self->normal, n))
        return error_set(error, XAI_ERROR_ARGUMENT, NULL,
                         "%zu coalitions do not determine the values of %zu features; give at "
                         "least %zu samples",
                         2 * self->count, m, 4 * m);
    cholesky_solve(self->normal, n, self->right);
    double rest = total;
    for (size_t i = 0; i < n; i++) {
        self->out->values[i] = self->right[i];
        rest -= self->right[i];
    }
    self->out->values[n] = rest;
    estimate_errors(self, scale);
    return XAI_OK;
}

/* Enumerate, then draw in rounds; with a tolerance, look after every round. */
static xai_status run_fit(fit *self, size_t samples, uint8_t *mask, size_t *order,
                          xai_error **error)
{
    xai_status status = XAI_OK;
    const size_t all = samples / 2;
    for (size_t k = 1; status == XAI_OK && k <= self->full_sizes; k++)
        status = enumerate(self, k, mask, order, error);
    self->enumerated = self->count;
    size_t goal = self->count > 4 * self->m ? 2 * self->count : 4 * self->m;
    while (status == XAI_OK) {
        goal = goal > all || !(self->options->tolerance > 0) ? all : goal;
        /* Repeated draws cost nothing, but near the number of all coalitions they never end. */
        const size_t most = self->drawn + 4 * all + 64;
        while (status == XAI_OK && self->full_sizes < self->sizes && self->count < goal &&
               self->drawn < most)
            status = draw(self, mask, order, error);
        const bool exhausted = self->count < goal;
        if (status == XAI_OK)
            status = score_new(self, error);
        if (status == XAI_OK)
            status = solve(self, error);
        if (status != XAI_OK || exhausted || goal >= all ||
            game_values_relative_error(self->out) <= self->options->tolerance)
            break;
        goal = goal + goal / 2;
    }
    return status;
}

xai_status shapley_kernel(const set_function *of, const game_options *options, game_values *out,
                          xai_error **error)
{
    const size_t m = of->players;
    if (m > MAX_PLAYERS) {
        *out = (game_values){0};
        return error_set(error, XAI_ERROR_ARGUMENT, NULL,
                         "kernel SHAP of %zu features would solve a system of that size; at most "
                         "%d: give segments",
                         m, MAX_PLAYERS);
    }
    xai_status status = game_values_begin(out, of, error);
    if (status != XAI_OK)
        return status;
    if (m == 1) {
        game_values_single(out);
        return XAI_OK;
    }
    size_t samples = options->samples > 0 ? options->samples : 2 * m + 2048;
    if (m < 40 && samples > ((size_t)1 << m) - 2)
        samples = ((size_t)1 << m) - 2;
    fit self = {.of = of, .options = options, .out = out, .m = m, .sizes = m / 2};
    uint8_t *mask = memory_allocate(m, 1);
    size_t *order = memory_allocate(m, sizeof *order);
    self.size_weight = memory_allocate_zeroed(self.sizes, sizeof(double));
    self.chance = memory_allocate_zeroed(self.sizes, sizeof(double));
    self.normal = memory_allocate((m - 1) * (m - 1), sizeof(double));
    self.right = memory_allocate(m, sizeof(double));
    if (mask == NULL || order == NULL || self.size_weight == NULL || self.chance == NULL ||
        self.normal == NULL || self.right == NULL) {
        status = error_memory(error, "a regression", m * m * sizeof(double));
        goto done;
    }
    /* What is enumerated is all evaluated before the first look at the tolerance. */
    plan_sizes(&self, options->tolerance > 0 && samples > 8 * m ? 8 * m : samples);
    status = coalition_batch_init(&self.batch, of, &out->evaluations, error);
    if (status == XAI_OK)
        status = run_fit(&self, samples, mask, order, error);
done:
    coalition_batch_free(&self.batch);
    memory_free(mask);
    memory_free(order);
    memory_free(self.size_weight);
    memory_free(self.chance);
    memory_free(self.normal);
    memory_free(self.right);
    memory_free(self.pairs);
    memory_free(self.masks);
    memory_free(self.table);
    return status;
}
