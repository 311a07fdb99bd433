/* Layer-wise relevance propagation for every operator, on portable tensors.
 *
 * Relevance is carried as relevance / value (R = m v), so that it stays finite where a value is zero and is
 * the gradient where every operator is linear without bias. */
#ifndef OPS_RELEVANCE_H
#define OPS_RELEVANCE_H

#include "ops/operator.h"

/* Layers with weights (Conv, ConvTranspose, Gemm, MatMul with a constant). With the parts z_ij = x_i w_ij of z_j,
 * their positive ones adding up to P_j and the negative ones to N_j (bias included):
 *   epsilon     R_i = sum_j z_ij / (z_j +- epsilon) R_j
 *   gamma       z_j > 0: parts z_ij + gamma z_ij+ over z_j + gamma P_j; z_j < 0 the same with the negative ones
 *   alpha beta  R_i = sum_j (alpha z_ij+ / P_j - beta z_ij- / N_j) R_j, beta = alpha - 1
 * and for layers that read the input itself:
 *   flat        every input under a weight gets the same
 *   box         parts x_i w_ij - low w_ij+ - high w_ij- (pixels between low and high)
 * All denominators are moved away from zero by epsilon. Bach et al. 2015; Montavon et al. 2017, 2019. */
typedef enum relevance_kind {
    RELEVANCE_EPSILON,
    RELEVANCE_GAMMA,
    RELEVANCE_ALPHA_BETA,
    RELEVANCE_FLAT,
    RELEVANCE_BOX
} relevance_kind;

typedef struct relevance_rule {
    relevance_kind kind;
    double epsilon, gamma, alpha, low, high;
} relevance_rule;

/* Which rule an operator follows; layers with weights follow a relevance_rule. */
typedef enum relevance_role {
    RELEVANCE_WEIGHTED,    /* when its other factor is constant, else a product */
    RELEVANCE_LINEAR,      /* the gradient: sums, moves, winners of maxima, averages */
    RELEVANCE_CURVE,       /* y[i] = f(x[i]): R passes unchanged, m (y / x) */
    RELEVANCE_PRODUCT,     /* each factor gets its share of R */
    RELEVANCE_DIVIDE,      /* the numerator gets everything */
    RELEVANCE_STANDARDISE, /* the standard deviation counts as constant */
    RELEVANCE_UNRULED      /* the gradient, without a rule of its own */
} relevance_role;
relevance_role operator_relevance_role(const operator_definition *definition);

/* As definition->backward, with m in place of gradients; all inputs have data. RELEVANCE_FLAT and _BOX give R
 * itself. `shares`: of the two factors of a product. */
xai_status operator_relevance(operator_call *call, const relevance_rule *rule,
                              const double shares[2]);

#endif
