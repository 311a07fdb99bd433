/* Gradients of scores as tensors. */
#ifndef EXPLAIN_GRADIENTS_H
#define EXPLAIN_GRADIENTS_H

#include "explain/evaluator.h"

/* gradients[t * wrt_count + v]: (N, ...) float32, d score of target t / d value v; scores[t]:
 * (N) float64, or scores NULL. */
xai_status evaluator_gradients(evaluator *self, const batch *rows, const xai_target *const *targets,
                               size_t target_count, int32_t score, const int *wrt, size_t wrt_count,
                               tensor *gradients, tensor *scores, xai_error **error);

#endif
