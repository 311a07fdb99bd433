/* DeepLIFT's Rescale rule (Shrikumar et al. 2017) for every operator, on portable tensors.
 *
 * Multipliers m of a call y = f(x) against a baseline, y_r = f(r), are such that
 *     sum over inputs of m (x - r) = sum over outputs of g (y - y_r)
 * for every g, the multipliers of y. Gradients are multipliers of linear operators; the others have
 * rules that differ by their kind. */
#ifndef OPS_RESCALE_H
#define OPS_RESCALE_H

#include "ops/operator.h"

typedef enum rescale_kind {
    RESCALE_MIDDLE,   /* linear, bilinear or quadratic: the gradient at (x + r) / 2 */
    RESCALE_QUOTIENT, /* y[i] = f(x[i]): (y - y_r) / (x - r) */
    RESCALE_PAIR, /* y[i] = f(a[i], b[i]): each input's quotient, averaged over the other's two values */
    RESCALE_EXTREME, /* maxima and minima: the change goes to the winner that moved at least as far */
    RESCALE_SELECT, /* Where */
    RESCALE_SOFTMAX,
    RESCALE_LOG_SOFTMAX,
    RESCALE_NORM, /* ReduceL1, ReduceL2, ReduceLogSum, ReduceLogSumExp */
    RESCALE_STANDARDISE,
    RESCALE_PATH, /* no rule of its own: the mean gradient along the line from r to x, which adds up
                   * as far as 32 points see it */
} rescale_kind;

rescale_kind operator_rescale_kind(const operator_definition *definition);

/* As definition->backward, with the inputs at the baseline besides; outputs are not read. Inputs that
 * definition->backward does not read need no data for RESCALE_MIDDLE; the other kinds read all. */
xai_status operator_rescale(operator_call *call, const tensor *const *baseline);

/* standardise.c, for InstanceNormalization and its relatives. */
xai_status standardise_rescale(operator_call *call, const tensor *const *baseline);

#endif
