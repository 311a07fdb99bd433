/* The list of operators, one macro a family; table.c turns it into the table.
 *
 * X(relu) stands for `const operator_definition operator_relu`, defined in the family's file. The
 * name after `operator_` is the ONNX name in lower case with underscores between words
 * (GlobalAveragePool: global_average_pool). A name is added here together with its definition, so
 * that the library always links. */
#ifndef OPS_FAMILIES_H
#define OPS_FAMILIES_H

#include "ops/operator.h"

/* clang-format off */
#define OPERATORS_CONVOLUTION(X) X(conv) X(conv_transpose)
#define OPERATORS_POOL(X)                                                            \
    X(max_pool) X(average_pool) X(lp_pool) X(global_max_pool) X(global_average_pool) \
    X(global_lp_pool)
#define OPERATORS_MATMUL(X) X(matmul) X(gemm)
#define OPERATORS_RESIZE(X) X(resize) X(upsample)
#define OPERATORS_SHAPE(X)                                                                \
    X(reshape) X(flatten) X(squeeze) X(unsqueeze) X(identity) X(dropout) X(shape) X(size) \
    X(transpose) X(depth_to_space) X(space_to_depth) X(col2im)
#define OPERATORS_SLICE(X)                                                                     \
    X(slice) X(expand) X(tile) X(compress) X(trilu) X(concat) X(split) X(pad) X(gather) X(gather_elements) \
    X(gather_nd) X(one_hot) X(non_zero) X(scatter) X(scatter_elements) X(scatter_nd)
#define OPERATORS_CONSTANT(X)                                                  \
    X(constant) X(constant_of_shape) X(cast) X(cast_like) X(range) X(eye_like)
#define OPERATORS_UNARY(X)                                                                     \
    X(exp) X(log) X(sqrt) X(reciprocal) X(erf) X(erfc) X(sin) X(cos) X(tan) X(asin) X(acos) X(atan)    \
    X(sinh) X(cosh) X(asinh) X(acosh) X(atanh) X(abs) X(neg) X(sign) X(floor) X(ceil) X(round) \
    X(not) X(is_nan) X(is_inf)
#define OPERATORS_ACTIVATION(X)                                                                 \
    X(relu) X(leaky_relu) X(thresholded_relu) X(elu) X(selu) X(celu) X(sigmoid) X(hard_sigmoid) \
    X(hard_swish) X(tanh) X(softplus) X(softsign) X(silu) X(swish) X(shrink) X(mish) X(gelu)    \
    X(clip)
#define OPERATORS_BINARY(X)                                                         \
    X(add) X(sub) X(mul) X(div) X(mod) X(prelu) X(pow) X(max) X(min) X(sum) X(mean)
#define OPERATORS_COMPARE(X)                                                             \
    X(equal) X(less) X(greater) X(less_or_equal) X(greater_or_equal) X(and) X(or) X(xor) \
    X(where)
#define OPERATORS_REDUCE(X)                                                              \
    X(reduce_sum) X(reduce_mean) X(reduce_max) X(reduce_min) X(reduce_prod) X(reduce_l1) \
    X(reduce_l2) X(reduce_log_sum) X(reduce_log_sum_exp) X(reduce_sum_square) X(argmax)  \
    X(argmin) X(cum_sum) X(topk)
#define OPERATORS_SOFTMAX(X) X(softmax) X(log_softmax) X(hardmax)
#define OPERATORS_NORMALISATION(X)                                                         \
    X(batch_normalization) X(scale_shift) X(instance_normalization) X(layer_normalization) \
    X(group_normalization) X(rms_normalization) X(lrn) X(lp_normalization)                 \
    X(mean_variance_normalization)
#define OPERATORS_BITWISE(X)                                              \
    X(bitwise_and) X(bitwise_or) X(bitwise_xor) X(bitwise_not) X(bit_shift)
#define OPERATORS_CONTROL(X) X(if) X(loop) X(scan)
#define OPERATORS_SEQUENCE(X)                                            \
    X(rnn) X(gru) X(lstm) X(attention) X(rotary_embedding) X(einsum) \
    X(reverse_sequence)
#define OPERATORS_SAMPLE(X)                                              \
    X(grid_sample) X(affine_grid) X(roi_align) X(non_max_suppression)
#define OPERATORS_QUANTISED(X)                                                            \
    X(quantize_linear) X(dequantize_linear) X(dynamic_quantize_linear) X(fake_quantize)   \
    X(matmul_integer) X(conv_integer) X(qlinear_matmul) X(qlinear_conv)
#define OPERATORS_TABLES(X)                                                                  \
    X(tree_ensemble_regressor) X(tree_ensemble_classifier) X(tree_ensemble) X(svm_regressor) \
    X(svm_classifier) X(linear_classifier) X(binarizer) X(normalizer) X(one_hot_encoder)     \
    X(array_feature_extractor) X(label_encoder)
/* clang-format on */

#define OPERATORS(X)           \
    OPERATORS_CONVOLUTION(X)   \
    OPERATORS_POOL(X)          \
    OPERATORS_MATMUL(X)        \
    OPERATORS_RESIZE(X)        \
    OPERATORS_SHAPE(X)         \
    OPERATORS_SLICE(X)         \
    OPERATORS_CONSTANT(X)      \
    OPERATORS_UNARY(X)         \
    OPERATORS_ACTIVATION(X)    \
    OPERATORS_BINARY(X)        \
    OPERATORS_COMPARE(X)       \
    OPERATORS_REDUCE(X)        \
    OPERATORS_SOFTMAX(X)       \
    OPERATORS_NORMALISATION(X) \
    OPERATORS_BITWISE(X)       \
    OPERATORS_CONTROL(X)       \
    OPERATORS_SEQUENCE(X)      \
    OPERATORS_SAMPLE(X)        \
    OPERATORS_QUANTISED(X)     \
    OPERATORS_TABLES(X)

#define OPERATOR_DECLARE(name) extern const operator_definition operator_##name;
OPERATORS(OPERATOR_DECLARE)
#undef OPERATOR_DECLARE

#endif
