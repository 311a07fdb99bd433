/* Own loops over float32 buffers: what oneDNN does not do on channel slices, or does no faster.
 *
 * Blocked buffers hold one row: (ceil(C / block), spatial, block) floats, block = 8 or 16; lanes beyond C are zero and every
 * kernel keeps them zero. Plain C that compilers vectorise, cloned per instruction set at run time. Bits never depend on
 * `threads`. Pointers are 4-byte aligned at least; buffers do not overlap unless a comment allows it. */
#ifndef ENGINE_KERNELS_H
#define ENGINE_KERNELS_H

#include "ops/operator.h"

typedef enum activation_kind {
    ACTIVATION_NONE,
    ACTIVATION_RELU,
    ACTIVATION_LEAKY_RELU, /* alpha */
    ACTIVATION_ELU,        /* alpha */
    ACTIVATION_SELU,       /* alpha, beta = gamma */
    ACTIVATION_CELU,       /* alpha */
    ACTIVATION_SIGMOID,
    ACTIVATION_HARD_SIGMOID, /* max(0, min(1, alpha x + beta)) */
    ACTIVATION_HARD_SWISH,   /* x max(0, min(1, x / 6 + 1/2)) */
    ACTIVATION_TANH,
    ACTIVATION_SOFTPLUS,
    ACTIVATION_SILU, /* x sigmoid(x) */
    ACTIVATION_GELU, /* x/2 (1 + erf(x / sqrt 2)) */
    ACTIVATION_GELU_TANH,
    ACTIVATION_CLIP, /* alpha = low, beta = high */
    ACTIVATION_EXP,
    ACTIVATION_ABS,
    ACTIVATION_SQRT,
} activation_kind;

typedef struct activation {
    activation_kind kind;
    float alpha, beta;
} activation;

/* f(0) == 0: padded lanes stay zero by themselves. */
bool activation_keeps_zero(const activation *f);
/* What backward reads: true = the output y, false = the input x. (relu, sigmoid, tanh, exp, sqrt, elu, clip...: y) */
bool activation_backward_uses_output(const activation *f);

/* y = f(x), n elements; y may be x. Relative error <= 1e-6 against double. */
void kernel_activate(const activation *f, const float *x, float *y, size_t n, int threads);
/* gx = (accumulate ? gx : 0) + f'(.) gy; `xy` is x or y as activation_backward_uses_output says; gx may be gy. ReLU at 0 has slope 0. */
void kernel_activate_backward(const activation *f, const float *xy, const float *gy, float *gx,
                              size_t n, bool accumulate, int threads);

/* y = f(x) and slopes = f'(x) at once, for activations that share most of the work: GELU and SiLU. */
bool activation_gives_slopes(const activation *f);
void kernel_activate_both(const activation *f, const float *x, float *y, float *slopes, size_t n,
                          int threads);

/* y = f(a + b) and y = a * b; y may be a or b. */
void kernel_add(const float *a, const float *b, float *y, size_t n, const activation *f,
                int threads);
void kernel_multiply(const float *a, const float *b, float *y, size_t n, bool accumulate,
                     int threads);
/* The largest magnitude; NaN or infinity when there is one. */
float kernel_max_abs(const float *x, size_t n, int threads);
/* Sum of n magnitudes; `x` need not be aligned. */
double kernel_sum_abs(const char *x, size_t n);
void kernel_accumulate(const float *x, float *y, size_t n, int threads); /* y += x */

/* Layouts: (C, spatial) plain <-> blocked. The padded lanes of the blocked side are written with zero. */
void kernel_block(const float *plain, float *blocked, size_t channels, size_t spatial, int block,
                  int threads);
void kernel_unblock(const float *blocked, float *plain, size_t channels, size_t spatial, int block,
                    int threads);
/* (spatial, C) channels last <-> blocked; C a multiple of the block. += when accumulate. */
void kernel_to_channels_last(const float *blocked, float *last, size_t channels, size_t spatial,
                             int block, bool accumulate, int threads);
void kernel_from_channels_last(const float *last, float *blocked, size_t channels, size_t spatial,
                               int block, bool accumulate, int threads);
/* Copy `count` channels from channel `from` of src to channel `to` of dst (any offsets); += when accumulate. Other lanes of dst are untouched. */
void kernel_copy_channels(const float *src, size_t from, float *dst, size_t to, size_t count,
                          size_t spatial, int block, bool accumulate, int threads);

/* y = f(scale[c] x + shift[c]), blocked; scale and shift have ceil(C/block)*block entries, zero beyond C. y may be x.
 * Padded lanes end as zero although f(0) may not be: `channels` tells which lanes are padding. */
void kernel_scale_shift(const float *x, const float *scale, const float *shift, const activation *f,
                        float *y, size_t channels, size_t spatial, int block, int threads);
/* Some rows of some positions of one block: `count` floats each, `stride` floats from row to row. */
typedef struct rectangle {
    const float *x;
    size_t x_stride;
    float *y;
    size_t y_stride, rows, count;
} rectangle;
/* kernel_scale_shift() of those, without a team of threads; `channels` of the block's lanes are no padding. */
void kernel_scale_shift_rows(const rectangle *of, const float *scale, const float *shift,
                             const activation *f, size_t channels, int block);
void kernel_copy_rows(const rectangle *of);
/* gx (+)= scale[c] f'(scale x + shift) gy; for f = none or relu from x alone. gx may be gy when not accumulating. */
void kernel_scale_shift_backward(const float *x, const float *scale, const float *shift,
                                 const activation *f, const float *gy, float *gx, size_t channels,
                                 size_t spatial, int block, bool accumulate, int threads);

/* y[c, s] = x[c, s] gate[c] (squeeze-and-excitation), blocked, gate (ceil(C/block)*block). y may be x. */
void kernel_gate(const float *x, const float *gate, float *y, size_t channels, size_t spatial,
                 int block, int threads);
void kernel_gate_backward(const float *x, const float *gate, const float *gy,
                          float *gx /* or NULL */,
                          float *ggate /* or NULL; overwritten or accumulated like gx */,
                          size_t channels, size_t spatial, int block, bool accumulate_x,
                          bool accumulate_gate, int threads);

/* y = scale round(x / scale), the quotient between the integers low and high, halves to the even one; false when an x is not a
 * number. Backward is straight-through: gx (+)= gy where the rounded quotient lies within. */
bool kernel_quantise(const float *x, float *y, size_t n, float scale, float low, float high,
                     int threads);
void kernel_quantise_backward(const float *x, const float *gy, float *gx, size_t n, float scale,
                              float low, float high, bool accumulate, int threads);
/* y = x < 0 ? slope[c] x : x, blocked, or plain with block 1; slope has ceil(C/block)*block entries. */
void kernel_prelu(const float *x, const float *slope, float *y, size_t channels, size_t spatial,
                  int block, int threads);
void kernel_prelu_backward(const float *x, const float *slope, const float *gy, float *gx,
                           size_t channels, size_t spatial, int block, bool accumulate,
                           int threads);

/* Group and instance normalisation, blocked: y = f(scale[c] (x - mean) / sqrt(variance + epsilon) + shift[c]) over the channels of
 * each of `groups` groups and all positions; scale and shift have `channels` entries. factors: kernel_norm_factors() floats, what
 * backward needs to know of x. scratch: kernel_norm_scratch() bytes, aligned for doubles. y may be x. */
size_t kernel_norm_factors(size_t channels, int block);
size_t kernel_norm_scratch(size_t channels, size_t spatial, int block);
void kernel_norm(const float *x, const float *scale, const float *shift, float epsilon,
                 const activation *f, float *y, float *factors, void *scratch, size_t channels,
                 size_t groups, size_t spatial, int block, int threads);
/* Whatever f is: its input is computed again. gx may not be gy. */
void kernel_norm_backward(const float *x, const float *factors, const activation *f,
                          const float *gy, float *gx, void *scratch, size_t channels, size_t groups,
                          size_t spatial, int block, bool accumulate, int threads);

/* Pools over blocked buffers, 1 to 3 spatial dimensions (w->rank). `argmax` (same element count as y) may be NULL; it holds the
 * winning input position within the channel plane. Max ignores padding; average divides by the window inside the input, or by
 * the window inside the padded input when include_pad (overhang of ceil_mode never counts), as ONNX does. */
void kernel_max_pool(const window *w, const float *x, float *y, int32_t *argmax, size_t channels,
                     int block, int threads);
void kernel_max_pool_backward(const window *w, const int32_t *argmax, const float *gy, float *gx,
                              size_t channels, int block, bool accumulate, int threads);
void kernel_average_pool(const window *w, bool include_pad, const float *x, float *y,
                         size_t channels, int block, int threads);
void kernel_average_pool_backward(const window *w, bool include_pad, const float *gy, float *gx,
                                  size_t channels, int block, bool accumulate, int threads);
/* y[c] = mean over spatial; y has ceil(C/block)*block entries. */
void kernel_global_average(const float *x, float *y, size_t channels, size_t spatial, int block,
                           int threads);
void kernel_global_average_backward(const float *gy, float *gx, size_t channels, size_t spatial,
                                    int block, bool accumulate, int threads);

/* y[destination + sum i to] (+)= x[source + sum i from] over all positions i of `dims`; in elements. */
typedef struct movement {
    int rank;
    int64_t dims[SHAPE_MAX_RANK], from[SHAPE_MAX_RANK], to[SHAPE_MAX_RANK];
    int64_t source, destination;
} movement;
void kernel_move(const movement *how, const float *x, float *y, bool accumulate, int threads);
/* Plain rows: y[r, :] = scale x[r, :] + shift, either may be NULL; with accumulate y += scale x. */
void kernel_affine_rows(const float *x, const float *scale, const float *shift, float *y,
                        size_t rows, size_t width, bool accumulate, int threads);

/* x and y alike along `how->to` (row-major, contiguous), the constant along `how->from`, 0 where it is repeated: y = x + shift,
 * or y (+)= scale x; one of scale and shift is NULL. */
void kernel_affine_broadcast(const movement *how, const float *x, const float *scale,
                             const float *shift, float *y, bool accumulate, int threads);

/* y[n] = sum_k W[n, k] x[k] + bias[n] (bias may be NULL), W row-major (n, k); fixed summation order. */
void kernel_matrix_vector(const float *weights, const float *x, const float *bias, float *y,
                          size_t n, size_t k, int threads);
/* gx[k] (+)= sum_n W[n, k] gy[n] */
void kernel_vector_matrix(const float *weights, const float *gy, float *gx, size_t n, size_t k,
                          bool accumulate, int threads);
/* Plain rows: y[r, :] = softmax(x[r, :]); gx[r, :] (+)= y (gy - <gy, y>). */
void kernel_softmax(const float *x, float *y, size_t rows, size_t width, int threads);
void kernel_softmax_backward(const float *y, const float *gy, float *gx, size_t rows, size_t width,
                             bool accumulate, int threads);
/* Plain rows: y = scale (x - mean) / sqrt(var + epsilon) + shift over the last axis; scale / shift may be NULL. */
void kernel_layer_norm(const float *x, const float *scale, const float *shift, float epsilon,
                       float *y, size_t rows, size_t width, int threads);
void kernel_layer_norm_backward(const float *x, const float *scale, float epsilon, const float *gy,
                                float *gx, size_t rows, size_t width, bool accumulate, int threads);

/* DeepLIFT's Rescale rule (kernels_rescale.c): gx (+)= multipliers times gy, from the values x and those
 * of the baseline, r. gx may be gy when not accumulating, where shapes are equal. */
void kernel_rescale(const activation *f, const float *x, const float *r, const float *gy, float *gx,
                    size_t n, bool accumulate, int threads);
/* relu(scale[c] x + shift[c]), blocked. */
void kernel_scale_shift_rescale(const float *x, const float *r, const float *scale,
                                const float *shift, const float *gy, float *gx, size_t channels,
                                size_t spatial, int block, bool accumulate, int threads);
/* Where a window's maximum rose, the change goes to its winner in x, else to its winner in r. */
void kernel_max_pool_rescale(const window *w, const float *x, const float *r, const int32_t *argmax,
                             const int32_t *argmax_r, const float *gy, float *gx, size_t channels,
                             int block, bool accumulate, int threads);
void kernel_softmax_rescale(const float *x, const float *r, const float *y, const float *y_r,
                            const float *gy, float *gx, size_t rows, size_t width, bool accumulate,
                            int threads);
void kernel_layer_norm_rescale(const float *x, const float *r, const float *scale, float epsilon,
                               const float *gy, float *gx, size_t rows, size_t width,
                               bool accumulate, int threads);
/* y = (x + r) / 2 */
void kernel_mean(const float *x, const float *r, float *y, size_t n, int threads);
/* y = max(x, 0); y may be x. */
void kernel_positive(const float *x, float *y, size_t n, int threads);

#endif
