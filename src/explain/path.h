/* The straight path from a baseline to a row: what integrated gradients share, with a fixed number
 * of points (integrated_gradients.c) or as many as the score bends (adaptive_path.c). */
#ifndef EXPLAIN_PATH_H
#define EXPLAIN_PATH_H

#include "explain/reference_scores.h"

/* One row: its end points, and for each target sums over the path. */
typedef struct path {
    explainer *self;
    const attribution_inputs *inputs;
    const references *reference;
    size_t row;
    float **from, **to;        /* baseline and row */
    const fixed_score *scores; /* (targets) */
    size_t target_count;
    double **sums;       /* [target * parts + p]: weighted gradients, then attributions */
    int64_t evaluations; /* of the model, besides the points of the path */
} path;

/* b + a (x - b) into what fill() of variants gets. */
xai_status path_fill(const path *self, double a, tensor *inputs, xai_error **error);

/* phi = (to - from) * mean gradient, from the sums of target t, to `out`; `points` of the path were
 * evaluated for it, and S(b) is `base`. */
xai_status path_store(const path *self, size_t t, double base, size_t points, int8_t converged,
                      explanation *out, xai_error **error);

/* Every target with as few points as bring the errors of all parts of the path, as told by the
 * scores at their ends, within `tolerance` of |S(x) - S(b)|, and at most `most` points (3 at least).
 * Several targets in one call give what they give alone. */
xai_status path_integrate_adaptively(const path *self, double tolerance, size_t most,
                                     explanation **out, xai_error **error);

#endif
