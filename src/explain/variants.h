/* Many variants of one row: perturbed copies, points on a path, noisy copies. Each is made when its
 * turn comes, so thousands cost the memory of a few.
 *
 * The target is fixed on the original row: a variant whose highest class is another still gives the
 * score of the original's. Results reach the body in the order of variants whatever the number of
 * threads, so sums taken there (in double) have the same bits for any of them. */
#ifndef EXPLAIN_VARIANTS_H
#define EXPLAIN_VARIANTS_H

#include "explain/evaluator.h"

/* A score of one row, resolved. */
typedef struct fixed_score {
    score_source source;
    selection chosen;
    shape row_shape; /* of a row of the output */
    double score;    /* of the original row */
} fixed_score;

/* One forward pass a row. scores[row * target_count + target]. */
xai_status evaluator_fix_scores(evaluator *self, const batch *rows,
                                const xai_target *const *targets, size_t target_count,
                                int32_t score, fixed_score *scores, xai_error **error);

/* The result of one variant; pointers are valid during the call of the body. */
typedef struct variant {
    size_t index;
    const double *scores; /* (score_count) */
    /* [score * wrt_count + v]: d score / d value v, one row; NULL without wrt */
    const float *const *gradients;
    const float *const *values; /* [v]: the value itself; NULL unless with_values */
    /* [score]: one row of the value that the score is a function of; NULL unless with_outputs */
    const double *const *outputs;
    const size_t *counts; /* [v]: its elements */
} variant;

typedef struct variants {
    const batch *rows;
    size_t row;   /* the original */
    size_t count; /* how many variants */
    const fixed_score *scores;
    size_t score_count;
    const int *wrt; /* value ids to differentiate with respect to; none = scores only */
    size_t wrt_count;
    bool with_values;
    bool with_outputs;
    /* A tail of the network: inner values that fill() writes besides the inputs, with their static
     * shapes of one run (see evaluator_value_shape). What they alone depend on is not computed.
     * They follow the model's inputs in what fill() gets. One alone may be an input of the model,
     * whose own tensor fill() then has to write before it. */
    const int *starts;
    const shape *start_shapes;
    size_t start_count;
    /* Write one variant: inputs[i] is one row of input i, then of each start. Called on several
     * threads at once, in any order. Write all of it: buffers are used again.
     * variants_copy_row() writes the original. */
    xai_status (*fill)(void *user, size_t index, tensor *inputs, xai_error **error);
    /* Whether score t of a variant is looked at; its score and gradients are left out otherwise, and
     * mean nothing. Several threads at once. NULL = all are. */
    bool (*wants)(void *user, size_t index, size_t score);
    /* In the order of variants, one at a time. */
    xai_status (*body)(void *user, const variant *of, xai_error **error);
    void *user;
} variants;

xai_status evaluator_run_variants(evaluator *self, const variants *what, xai_error **error);

/* The original row of input i: into `out`, or as a view of the caller's memory. */
void variants_copy_row(const batch *rows, size_t row, size_t input, tensor *out);
const void *variants_row(const batch *rows, size_t row, size_t input);
/* Elements of one row of input i. */
size_t variants_row_count(const batch *rows, size_t input);

/* The static shape of an inner value for these inputs, of one run, for `start_shapes`; refuses
 * values that are not float32 or have no row axis where there are several rows. */
xai_status evaluator_value_shape(evaluator *self, const batch *rows, int value, shape *out,
                                 xai_error **error);

/* Scores alone of `count` variants: out[index * score_count + score]. */
xai_status evaluator_scores_of(evaluator *self, const variants *what, double *out,
                               xai_error **error);

#endif
