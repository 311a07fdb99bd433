/* RNN (tanh), GRU (linear before reset) and LSTM of one row with the standard's activations: the recurrent part. Gates in the
 * order of ONNX. */
#ifndef ENGINE_KERNELS_RECURRENT_H
#define ENGINE_KERNELS_RECURRENT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct recurrence {
    size_t gates; /* 1 RNN, 3 GRU, 4 LSTM */
    size_t steps, directions, width;
    bool backward_first; /* direction 0 runs from the last input to the first */
} recurrence;

/* Weights and initial states. */
typedef struct recurrent_state {
    const float *packed, *packed_back; /* kernel_recurrent_pack() of each direction */
    const float *
        bias; /* ONNX's B (D, 2 gates width), of which GRU adds that of R h to the hidden gate; or NULL */
    const float *h0, *c0; /* (D, width), or NULL for zeros */
} recurrent_state;

/* R (gates width, width) of a direction in the order in which it is read. */
size_t kernel_recurrent_packed(size_t gates, size_t width);
void kernel_recurrent_pack(const float *r, float *packed, size_t gates, size_t width);
size_t kernel_recurrent_packed_back(size_t gates, size_t width);
void kernel_recurrent_pack_back(const float *r, float *packed, size_t gates, size_t width);

/* in (T, D, gates width) = W x and the biases that are not inside a gate; trace (T, D, fields, width): what backward reads. y
 * (T, D, width), y_h, y_c (D, width) or NULL. */
size_t kernel_recurrent_fields(size_t gates);
void kernel_recurrent(const recurrence *self, const recurrent_state *from, const float *in,
                      float *trace, float *y, float *y_h, float *y_c, int threads);

/* Gradients of the three results; NULL = zero. */
typedef struct recurrent_arriving {
    const float *y, *h, *c;
} recurrent_arriving;
/* ds (T, D, gates width) = gradient of `in`. scratch: kernel_recurrent_scratch() floats. */
size_t kernel_recurrent_scratch(const recurrence *self);
void kernel_recurrent_backward(const recurrence *self, const recurrent_state *from,
                               const float *trace, const recurrent_arriving *arriving, float *ds,
                               float *scratch, int threads);

#endif
