/* oneDNN behind one door: convolutions, transposed convolutions and matrix products of one row, forward and with respect to
 * the data. The only header of the engine whose implementation includes dnnl.h; without oneDNN primitive_create says
 * XAI_ERROR_UNSUPPORTED and the plan takes the portable kernel.
 *
 * A primitive is immutable and may run on many threads at once. It fails to be created, with XAI_ERROR_UNSUPPORTED, rather than
 * fall to an implementation whose name starts with "ref" (the caller then takes another way). Thread counts are set and restored
 * within the call. */
#ifndef ENGINE_PRIMITIVE_H
#define ENGINE_PRIMITIVE_H

#include "engine/kernels.h"

typedef struct primitive primitive;

typedef enum primitive_kind {
    PRIMITIVE_CONVOLUTION, /* dst = post(conv(src, weights) + bias) */
    PRIMITIVE_CONVOLUTION_BACKWARD, /* dst = d/d src of a convolution; src = gradient of the convolution's output */
    PRIMITIVE_DECONVOLUTION, /* ONNX ConvTranspose */
    PRIMITIVE_DECONVOLUTION_BACKWARD,
    PRIMITIVE_MATMUL, /* dst (B, M, N) = a (B, M, K) . b (B or 1, K, N) + bias (N); src = a, weights = b */
} primitive_kind;

typedef struct primitive_spec {
    primitive_kind kind;
    int threads; /* threads that will run it; 1 inside a row-per-thread region */
    /* Convolutions; geometry of the forward operator also for the backward kinds. */
    window geometry;
    int64_t input_channels, output_channels; /* of the forward operator */
    /* The forward operator's input and output (or their gradients) are plain (C, spatial), else blocked. */
    bool plain_input, plain_output;
    /* Matrix products: B, M, N, K. Convolutions: `batch` rows at a time, each in the layout of one
     * row, forward; 0 or 1 = one. */
    int64_t batch, rows, columns, depth;
    bool transpose_a, transpose_b; /* stored as (K, M) / (N, K) */
    bool shared_b;                 /* b has batch 1 */
    /* Weights may be stored in a layout of the primitive's choice; always true for convolutions. */
    bool constant_weights;
    /* Convolutions of 3x3 taps and their gradients may be computed with larger rounding errors (kernels_winograd.h). */
    bool fast;
    /* Forward kinds only. */
    bool has_bias;
    bool add_to_destination; /* dst += ... before the activation */
    bool add_other;          /* + other (dst's shape and layout) before the activation */
    /* Kinds that oneDNN fuses: none, relu, leaky relu, elu, sigmoid, tanh, clip, silu, hard sigmoid, hard swish, gelu,
     * gelu tanh. Its relu and clip give 0 (or the low end) for NaN. */
    activation post;
} primitive_spec;

/* 8 or 16: channels a block of the layout that oneDNN prefers on this processor (8 without oneDNN). */
int primitive_block(void);
/* Whether this build has oneDNN, and its version text ("3.2.0"), or "none". */
bool primitive_available(void);
const char *primitive_library_version(char out[16]);

/* Channels beyond the block border are zero-padded in blocked layouts; weights and bias are padded alike by prepare. */
xai_status primitive_create(const primitive_spec *spec, primitive **out, xai_error **error);
void primitive_free(primitive *self);
const primitive_spec *primitive_specification(const primitive *self);
const char *primitive_implementation(const primitive *self); /* oneDNN's name, such as "jit:avx2" */
size_t primitive_scratchpad_bytes(const primitive *self);
double primitive_operations(
    const primitive
        *self); /* floating point operations a run, of the direct sum whatever is done */
/* Largest sum of magnitudes inside over that of the direct sum; 1 unless another algorithm is used. */
double primitive_growth(const primitive *self);

/* Prepared weights. Two primitives whose keys are equal share the bytes made from the same constant. */
size_t primitive_weights_bytes(const primitive *self);
const char *primitive_weights_key(const primitive *self);
/* `weights`: the ONNX tensor (M, C/g, k...) of Conv, (C, M/g, k...) of ConvTranspose, or b of a matrix product, float32, perhaps
 * unaligned. Writes primitive_weights_bytes() to the 64-byte aligned `prepared`. */
xai_status primitive_prepare_weights(const primitive *self, const void *weights, void *prepared,
                                     xai_error **error);
/* Floats that the bias buffer must hold (output channels padded to the block). */
size_t primitive_bias_count(const primitive *self);

/* `other` only with add_other; `bias` padded as above; scratchpad of primitive_scratchpad_bytes(), 64-byte aligned, private to the run. */
typedef struct primitive_arguments {
    const float *source, *weights, *bias, *other;
    float *destination;
    void *scratchpad;
} primitive_arguments;
xai_status primitive_run(const primitive *self, const primitive_arguments *arguments,
                         xai_error **error);

/* The same, with oneDNN's argument objects kept in *binding (NULL at first) for the next call, which finds them again while
 * primitive and addresses are the same: a few microseconds a layer. Of one thread at a time. */
typedef struct primitive_binding primitive_binding;
xai_status primitive_run_bound(const primitive *self, const primitive_arguments *arguments,
                               primitive_binding **binding, xai_error **error);
void primitive_binding_free(primitive_binding *self);

#endif
