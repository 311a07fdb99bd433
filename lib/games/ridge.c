/* LIME: a weighted ridge regression on coalitions. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/random.h"
#include "games/private.h"

#define DEFAULT_SAMPLES 1000
#define MAX_COLUMNS 8192

/* Means weighted by w; that of y is taken from its first, so that equal scores have exactly their
 * mean and no coefficient comes out of rounding. */
static double weighted_means(const uint8_t *x, const double *y, const double *weights, size_t rows,
                             size_t columns, double *means)
{
    double total = 0, mean_y = 0;
    memset(means, 0, columns * sizeof *means);
    for (size_t r = 0; r < rows; r++) {
        total += weights[r];
        mean_y += weights[r] * (y[r] - y[0]);
        for (size_t c = 0; c < columns; c++)
            means[c] += x[r * columns + c] ? weights[r] : 0;
    }
    for (size_t c = 0; c < columns; c++)
        means[c] /= total;
    return y[0] + mean_y / total;
}

static double dot(const double *a, const double *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

typedef struct ridge {
    const uint8_t *x;
    const double *y, *weights;
    size_t rows, columns;
    double *means, *row, *normal, mean_y;
} ridge;

static void centre(const ridge *self, size_t r)
{
    for (size_t c = 0; c < self->columns; c++)
        self->row[c] = (double)self->x[r * self->columns + c] - self->means[c];
}

static void add_normal(const ridge *self, double alpha, double *right)
{
    const size_t n = self->columns;
    memset(self->normal, 0, n * n * sizeof *self->normal);
    memset(right, 0, n * sizeof *right);
    for (size_t r = 0; r < self->rows; r++) {
        centre(self, r);
        const double w = self->weights[r], y = self->y[r] - self->mean_y;
        for (size_t i = 0; i < n; i++) {
            const double at = w * self->row[i];
            right[i] += at * y;
            for (size_t j = 0; j <= i; j++)
                self->normal[i * n + j] += at * self->row[j];
        }
    }
    for (size_t i = 0; i < n; i++)
        self->normal[i * n + i] += alpha;
}

/* R^2 with the same weights, and A^-1 (sum w^2 r^2 x x^T) A^-1. */
static xai_status judge(const ridge *self, game_values *out, xai_error **error)
{
    const size_t n = self->columns;
    double residuals = 0, spread = 0;
    double *psi = memory_allocate(n, sizeof *psi);
    if (psi == NULL)
        return error_memory(error, "standard errors", n * sizeof *psi);
    memset(out->errors, 0, n * sizeof *out->errors);
    for (size_t r = 0; r < self->rows; r++) {
        centre(self, r);
        const double y = self->y[r] - self->mean_y, w = self->weights[r];
        const double residual = y - dot(self->row, out->values, n);
        residuals += w * residual * residual;
        spread += w * y * y;
        for (size_t c = 0; c < n; c++)
            psi[c] = w * residual * self->row[c];
        cholesky_solve(self->normal, n, psi);
        for (size_t c = 0; c < n; c++)
            out->errors[c] += psi[c] * psi[c];
    }
    const double free_rows = (double)self->rows - (double)n - 1;
    for (size_t c = 0; c < n; c++)
        out->errors[c] =
            free_rows > 0 ? sqrt(out->errors[c] * (double)self->rows / free_rows) : NAN;
    out->r2 = spread > 0 ? 1 - residuals / spread : 1;
    memory_free(psi);
    return XAI_OK;
}

xai_status ridge_fit(const uint8_t *x, const double *y, const double *weights, size_t rows,
                     size_t columns, double alpha, game_values *out, xai_error **error)
{
    ridge self = {.x = x, .y = y, .weights = weights, .rows = rows, .columns = columns};
    xai_status status = XAI_OK;
    self.means = memory_allocate(columns, sizeof(double));
    self.row = memory_allocate(columns, sizeof(double));
    self.normal = memory_allocate(columns * columns, sizeof(double));
    if (self.means == NULL || self.row == NULL || self.normal == NULL) {
        status = error_memory(error, "a regression", columns * columns * sizeof(double));
        goto done;
    }
    self.mean_y = weighted_means(x, y, weights, rows, columns, self.means);
    add_normal(&self, alpha, out->values);
    if (!cholesky(self.normal, columns)) {
        status = error_set(error, XAI_ERROR_NUMERIC, NULL,
                           "the regression of %zu features on %zu coalitions has no unique "
                           "solution; give more samples",
                           columns, rows);
        goto done;
    }
    cholesky_solve(self.normal, columns, out->values);
    out->intercept = self.mean_y - dot(self.means, out->values, columns);
    status = judge(&self, out, error);
done:
    memory_free(self.means);
    memory_free(self.row);
    memory_free(self.normal);
    return status;
}

double lime_weight(size_t present, size_t players, double width)
{
    /* cosine of k ones with M ones: k / (sqrt(k) sqrt(M)); 0 for no ones */
    const double distance = 1 - sqrt((double)present / (double)players);
    return sqrt(exp(-distance * distance / (width * width)));
}

/* Rows from `begin`: fair coins, a stream of its own each. */
static void flip(uint8_t *coalition, size_t players, uint64_t seed, size_t row)
{
    const uint64_t stream = random_stream(DRAW_COINS, (uint32_t)row);
    uint64_t bits = 0;
    for (size_t i = 0; i < players; i++, bits >>= 1) {
        if (i % 64 == 0)
            bits = random_bits(seed, stream, i / 64);
        coalition[i] = (uint8_t)(bits & 1);
    }
}

typedef struct lime_rows {
    uint8_t *x; /* (rows, M); row 0 all ones */
    double *y, *weights;
    size_t count;
} lime_rows;

static xai_status extend(lime_rows *self, const set_function *of, coalition_batch *batch,
                         size_t count, uint64_t seed, double width, xai_error **error)
{
    const size_t m = of->players;
    xai_status status = XAI_OK;
    coalition_batch_target(batch, self->y + self->count);
    for (; status == XAI_OK && self->count < count; self->count++) {
        uint8_t *row = self->x + self->count * m, *coalition = NULL;
        flip(row, m, seed, self->count);
        size_t present = 0;
        for (size_t i = 0; i < m; i++)
            present += row[i];
        self->weights[self->count] = lime_weight(present, m, width);
        status = coalition_batch_add(batch, &coalition, error);
        if (status == XAI_OK)
            memcpy(coalition, row, m);
    }
    return status == XAI_OK ? coalition_batch_flush(batch, error) : status;
}

xai_status lime_fit(const set_function *of, const game_options *options, const lime_options *kernel,
                    game_values *out, xai_error **error)
{
    const size_t m = of->players;
    const size_t samples = options->samples > 1 ? options->samples : DEFAULT_SAMPLES;
    if (m > MAX_COLUMNS) {
        *out = (game_values){0};
        return error_set(error, XAI_ERROR_ARGUMENT, NULL,
                         "LIME of %zu features would solve a system of that size; at most %d: give "
                         "segments",
                         m, MAX_COLUMNS);
    }
    coalition_batch batch = {0};
    lime_rows rows = {.x = memory_allocate(samples, m),
                      .y = memory_allocate(samples, sizeof(double)),
                      .weights = memory_allocate(samples, sizeof(double))};
    xai_status status = game_values_begin(out, of, error);
    if (status == XAI_OK && (rows.x == NULL || rows.y == NULL || rows.weights == NULL))
        status = error_memory(error, "coalitions", samples * m);
    if (status == XAI_OK)
        status = coalition_batch_init(&batch, of, &out->evaluations, error);
    if (status != XAI_OK)
        goto done;
    memset(rows.x, 1, m);
    rows.y[0] = out->full;
    rows.weights[0] = 1;
    rows.count = 1;
    size_t goal = options->tolerance > 0 ? 4 * m + 64 : samples;
    for (;;) {
        goal = goal < samples ? goal : samples;
        status = extend(&rows, of, &batch, goal, options->seed, kernel->width, error);
        if (status == XAI_OK)
            status =
                ridge_fit(rows.x, rows.y, rows.weights, rows.count, m, kernel->alpha, out, error);
        if (status != XAI_OK || goal == samples ||
            game_values_relative_error(out) <= options->tolerance)
            break;
        goal += goal / 2;
    }
done:
    coalition_batch_free(&batch);
    memory_free(rows.x);
    memory_free(rows.y);
    memory_free(rows.weights);
    return status;
}
