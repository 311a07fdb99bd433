/* Score kinds: where the backward pass starts, and with what.
 *
 *   raw          S = y_i                          the output itself
 *   logit        S = z_i                          z = what the final Sigmoid, Softmax or
 *                                                 LogSoftmax of the model reads
 *   probability  S = y_i                          after a final Sigmoid or Softmax
 *                S = exp(y_i)                     after a final LogSoftmax
 *                S = sigmoid(y_i), softmax(y)_i   logits whose activation the card names
 * For a region S is the sum over its elements. */
#ifndef EXPLAIN_SCORE_H
#define EXPLAIN_SCORE_H

#include "explain/target.h"

typedef enum score_transform {
    SCORE_IDENTITY,
    SCORE_EXP,
    SCORE_SIGMOID,
    SCORE_SOFTMAX
} score_transform;

typedef struct score_source {
    int output;       /* position in the graph's outputs */
    int output_value; /* its value id */
    int seed_value;   /* value of the same shape that the score is a function of */
    score_transform transform;
    bool saturates; /* the seed value is the output of a Sigmoid or Softmax: gradients can vanish */
} score_source;

/* XAI_ERROR_UNSUPPORTED when the model and its card do not give that kind. */
xai_status score_source_find(const subject *of, int output, int32_t kind, score_source *out,
                             xai_error **error);

/* S of the selected box from one row of the seed value; `seed` (same elements, float32) receives
 * dS / d seed value, zero outside what S depends on; NULL = not wanted. */
double score_evaluate(const score_source *self, const selection *chosen, const shape *row_shape,
                      const double *values, float *seed);

#endif
