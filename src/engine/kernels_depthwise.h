/* Depthwise convolutions (one input channel a group, as many outputs) of one row on channel blocks, in two dimensions.
 *
 * A group of neighbouring output columns stays in registers while the taps of its window pass, so that every input is loaded
 * once a row of taps. Each output sums its taps in the order of rows and columns, whatever the threads. */
#ifndef ENGINE_KERNELS_DEPTHWISE_H
#define ENGINE_KERNELS_DEPTHWISE_H

#include "engine/kernels_private.h"

/* y = f(sum over taps of w x + bias). */
typedef struct depthwise {
    int block; /* channels a block, a multiple of 8 */
    size_t channels;
    size_t input[2], output[2]; /* height, width */
    size_t taps[2], stride[2];
    size_t pad[2];   /* zeros above and to the left */
    activation post; /* one that keeps zero: lanes behind the last channel stay 0 */
    int threads;
} depthwise;

/* Whether the kernel exists for this processor and these sizes. */
bool depthwise_supported(const depthwise *self);
size_t depthwise_weights_bytes(const depthwise *self);
/* (C, 1, taps) float32, perhaps unaligned. `turned`: by half a turn, as the data gradient reads them. */
void depthwise_prepare(const depthwise *self, const char *weights, bool turned, float *prepared);
/* `bias` covers whole blocks and may be NULL. */
void depthwise_run(const depthwise *self, const float *x, const float *prepared, const float *bias,
                   float *y);

#endif
