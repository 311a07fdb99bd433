#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "games/private.h"

#define BATCH_COALITIONS 256
#define BATCH_BYTES ((size_t)1 << 24)

xai_status game_values_create(game_values *self, size_t players, xai_error **error)
{
    *self = (game_values){.players = players, .intercept = NAN, .r2 = NAN};
    self->values = memory_allocate_zeroed(players, sizeof *self->values);
    self->errors = memory_allocate_zeroed(players, sizeof *self->errors);
    if (self->values == NULL || self->errors == NULL) {
        game_values_free(self);
        return error_memory(error, "attributions", players * sizeof(double));
    }
    return XAI_OK;
}

void game_values_free(game_values *self)
{
    memory_free(self->values);
    memory_free(self->errors);
    memory_free(self->interactions);
    *self = (game_values){0};
}

double game_values_relative_error(const game_values *self)
{
    double errors = 0, values = 0;
    for (size_t i = 0; i < self->players; i++) {
        errors += self->errors[i] * self->errors[i];
        values += self->values[i] * self->values[i];
    }
    return errors == 0 ? 0 : sqrt(errors / values);
}

xai_status coalition_batch_init(coalition_batch *self, const set_function *of, size_t *evaluations,
                                xai_error **error)
{
    size_t capacity = BATCH_BYTES / of->players;
    capacity = capacity < 2 ? 2 : capacity > BATCH_COALITIONS ? BATCH_COALITIONS : capacity;
    *self = (coalition_batch){.of = of, .capacity = capacity, .evaluations = evaluations};
    self->coalitions = memory_allocate(capacity, of->players);
    return self->coalitions != NULL ? XAI_OK
                                    : error_memory(error, "coalitions", capacity * of->players);
}

void coalition_batch_free(coalition_batch *self)
{
    memory_free(self->coalitions);
    *self = (coalition_batch){0};
}

void coalition_batch_target(coalition_batch *self, double *scores)
{
    self->scores = scores;
}

xai_status coalition_batch_flush(coalition_batch *self, xai_error **error)
{
    if (self->count == 0)
        return XAI_OK;
    const xai_status status =
        self->of->score(self->of->user, self->coalitions, self->count, self->scores, error);
    self->scores += self->count;
    *self->evaluations += self->count;
    self->count = 0;
    return status;
}

xai_status coalition_batch_add(coalition_batch *self, uint8_t **coalition, xai_error **error)
{
    const xai_status status =
        self->count == self->capacity ? coalition_batch_flush(self, error) : XAI_OK;
    *coalition = self->coalitions + self->count++ * self->of->players;
    return status;
}

xai_status game_values_begin(game_values *self, const set_function *of, xai_error **error)
{
    const size_t players = of->players;
    xai_status status = game_values_create(self, players, error);
    uint8_t *both = memory_allocate_zeroed(2, players);
    double scores[2] = {0};
    if (status == XAI_OK && both == NULL)
        status = error_memory(error, "coalitions", 2 * players);
    if (status == XAI_OK) {
        memset(both + players, 1, players);
        status = of->score(of->user, both, 2, scores, error);
    }
    memory_free(both);
    self->empty = scores[0];
    self->full = scores[1];
    self->evaluations = 2;
    return status;
}

void game_values_single(game_values *self)
{
    self->values[0] = self->full - self->empty;
    self->errors[0] = 0;
}

bool cholesky(double *matrix, size_t n)
{
    double scale = 0;
    for (size_t i = 0; i < n; i++)
        scale = fmax(scale, matrix[i * n + i]);
    for (size_t j = 0; j < n; j++) {
        double *pivot_row = matrix + j * n;
        double pivot = pivot_row[j];
        for (size_t k = 0; k < j; k++)
            pivot -= pivot_row[k] * pivot_row[k];
        if (!(pivot > 1e-12 * scale))
            return false;
        pivot_row[j] = sqrt(pivot);
        for (size_t i = j + 1; i < n; i++) {
            double *row = matrix + i * n;
            double sum = row[j];
            for (size_t k = 0; k < j; k++)
                sum -= row[k] * pivot_row[k];
            row[j] = sum / pivot_row[j];
        }
    }
    return true;
}

void cholesky_solve(const double *factor, size_t n, double *b)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++)
            b[i] -= factor[i * n + k] * b[k];
        b[i] /= factor[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
        b[i] /= factor[i * n + i];
        for (size_t k = 0; k < i; k++)
            b[k] -= factor[i * n + k] * b[i];
    }
}

void moments_add(moments *self, double value)
{
    const double before = value - self->mean;
    self->count++;
    self->mean += before / (double)self->count;
    self->squares += before * (value - self->mean);
}

double moments_error(const moments *self)
{
    const double n = (double)self->count;
    return self->count < 2 ? NAN : sqrt(self->squares / (n - 1) / n);
}
