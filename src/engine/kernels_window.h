/* Convolutions of windows on blocks of eight channels, for processors with AVX2.
 *
 * oneDNN's kernels for AVX2 walk along the rows of a map, and fill short rows of 7 to 28 positions badly. Here four to six
 * output positions of any rows form a tile, computed against two or three blocks of output channels at a time, with the
 * weights of the next ones on their way from memory. The sum of an output runs over input blocks, taps and channels in
 * this order whatever the tiles are, so that the bits follow from nothing else. */
#ifndef ENGINE_KERNELS_WINDOW_H
#define ENGINE_KERNELS_WINDOW_H

#include "engine/kernels_private.h"

/* A convolution of `batch` rows, forward: y = f(conv(x) + bias + other). */
typedef struct windowed {
    size_t batch;
    size_t input_channels, output_channels;
    size_t input[2], output[2]; /* height, width */
    size_t kernel[2], stride[2], dilation[2];
    int64_t pad[2];  /* zeros above and to the left; negative: rows and columns left out */
    activation post; /* any; f(0) = 0 where channels leave lanes */
    int threads;
    /* What follows is made by windowed_plan(). */
    bool copied;      /* x is copied with its padding around it */
    size_t padded[2]; /* height, width of what is read */
    size_t threes; /* groups of three blocks of output channels; the groups behind them have two */
    size_t groups; /* in all */
    size_t part;   /* input blocks at a time, so that their weights stay in the first-level cache */
    size_t chunks; /* pieces that the output positions are cut into */
    size_t shares; /* and the groups */
} windowed;

/* Whether the kernel exists for this processor and these sizes and is expected to be faster than oneDNN's; completes
 * `copied` to `shares`. */
bool windowed_plan(windowed *self);
size_t windowed_weights_bytes(const windowed *self);
size_t windowed_scratch_bytes(const windowed *self);
/* (M, C, h, w) float32, perhaps unaligned. `gradient`: of a convolution without stride whose data gradient this is,
 * M = input_channels and C = output_channels here. */
void windowed_prepare(const windowed *self, const char *weights, bool gradient, float *prepared);
/* `bias` and `other` may be NULL; `other` has y's layout and may not be x. */
void windowed_run(const windowed *self, const float *x, const float *prepared, const float *bias,
                  const float *other, float *y, void *scratch);

#endif
