/* Means over samples of gradients, with standard errors and a stopping rule: what SmoothGrad,
 * VarGrad and expected gradients share.
 *
 * Samples come in rounds. Without a tolerance there is one round; with one, rounds of
 * SAMPLING_ROUND, and each target stops by itself when the norm of its standard errors is at most
 * `tolerance` times the norm of its attributions: several targets in one call give what each gives
 * alone. */
#ifndef EXPLAIN_SAMPLING_H
#define EXPLAIN_SAMPLING_H

#include "explain/attribution.h"

#define SAMPLING_ROUND 16

/* The samples of the round behind `done` of `samples`: what would not fill another round is added to the last. */
static inline size_t sampling_whole_round(size_t round, size_t samples, size_t done)
{
    return samples - done < 2 * round ? samples - done : round;
}

/* Sample k of a round of `size` samples. */
typedef struct sample_place {
    size_t round, index, size;
    size_t sample; /* over all rounds */
} sample_place;

typedef struct sampling {
    explainer *self;
    const attribution_inputs *inputs;
    size_t row;
    size_t samples; /* at most */
    double tolerance;
    size_t
        round; /* of whole rounds (see above), with a tolerance; 0 = SAMPLING_ROUND, the last may be smaller */
    /* false: samples are independent. true: samples are sorted into strata within a round, and the
     * variance is that of second differences of neighbours (each within its `group`). */
    bool stratified;
    /* Power sums of the differences to the first sample: 2, or 4 for the error of a variance. */
    int moments;
    /* The point at which the gradient is taken. Several threads at once. */
    xai_status (*fill)(void *user, const sample_place *at, float *const *point, xai_error **error);
    /* Sample values from gradients of one part; `point` is what fill() gave. In order. */
    void (*value)(void *user, const sample_place *at, size_t part, const float *gradient,
                  const float *point, double *out);
    /* Which stratum a sample is in: neighbours of different groups are not compared. May be NULL. */
    size_t (*group)(void *user, const sample_place *at);
    void *user;
    /* mean and standard error (NaN when unknown) of one element from the sums of d = y - first:
     * sums[0] = sum d, sums[1] = sum d^2, ...; NULL = the mean. For independent samples. */
    void (*finish)(size_t count, double first, const double *sums, double *mean, double *error);
} sampling;

/* Run them for the row, for `target_count` scores, and store values, standard errors, samples and
 * convergence in out[target]. *used = samples evaluated. */
xai_status sampling_run(const sampling *self, const fixed_score *scores, size_t target_count,
                        explanation **out, size_t *used, xai_error **error);

/* A warning for each row whose tolerance was not reached. */
xai_status sampling_warn(const explainer *self, explanation *out, xai_error **error);

#endif
