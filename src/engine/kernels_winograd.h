/* Winograd's algorithm F(4x4, 3x3) (Lavin & Gray 2016): convolutions of 3x3 taps, stride 1, one group, with a quarter of the
 * multiplications of the direct sum. Tiles of 6x6 input positions become 36 values a channel, 36 matrix products over the
 * channels follow, and each tile of 36 results gives 4x4 output positions.
 *
 * The interpolation points are 0, +-A, +-B and infinity. Coefficients grow numbers inside, so that rounding errors are larger
 * than those of the direct sum (about 1e-6 of the output's scale a layer) and overflow comes earlier: winograd_growth. */
#ifndef ENGINE_KERNELS_WINOGRAD_H
#define ENGINE_KERNELS_WINOGRAD_H

#include "engine/kernels_private.h"

/* A convolution of one row, forward: y = f(conv(x) + bias + other). */
typedef struct winograd {
    int block; /* channels a block: 16 needs AVX-512, 8 AVX2 */
    size_t input_channels, output_channels;
    size_t input[2], output[2]; /* height, width */
    size_t pad[2];              /* zeros above and to the left */
    activation post;            /* none, ReLU or clip */
    int threads;
    bool
        whole; /* one group of tiles at a time for all threads; else each thread has a group of its own */
    size_t group;  /* tiles of a group */
    size_t groups; /* in all */
} winograd;

/* Whether the kernel exists for this processor and these sizes and is expected to be faster than the direct sum; completes
 * `block` to `threads` with the rest. */
bool winograd_plan(winograd *self);
size_t winograd_weights_bytes(const winograd *self);
size_t winograd_scratch_bytes(const winograd *self);
/* (M, C, 3, 3) float32, perhaps unaligned. `gradient`: of a convolution whose data gradient this is, M = input_channels and
 * C = output_channels here. */
void winograd_prepare(const winograd *self, const char *weights, bool gradient, float *prepared);
/* Largest sum of magnitudes inside, over the largest sum of the direct algorithm. */
double winograd_growth(void);
/* `bias` and `other` may be NULL; `other` has y's layout and may not be x. */
void winograd_run(const winograd *self, const float *x, const float *prepared, const float *bias,
                  const float *other, float *y, float *scratch);

#endif
