/* Operators: for each, its types and shapes, a plain portable kernel and its vector-Jacobian
 * product.
 *
 * This folder knows tensors and attributes, never graphs, layouts or oneDNN. Kernels are plain
 * loops over row-major tensors that compute in double whatever the element type: they are the
 * library's reference. Adding an operator is one definition in a family's file and one line in
 * families.h. */
#ifndef OPS_OPERATOR_H
#define OPS_OPERATOR_H

#include "base/compiler.h"
#include "base/memory.h"
#include "onnx/onnx.h"
#include "tensor/tensor.h"

typedef struct operator_call operator_call;

/* Set: output 0 has the bytes of input 0 under another shape (Reshape, Flatten, Squeeze,
 * Identity, Dropout). */
#define OPERATOR_VIEW (1u << 0)
/* Set: y[i] depends on x[i] alone, one input, one output of the same shape (Relu, Sigmoid, Clip
 * with constant bounds...). */
#define OPERATOR_ELEMENTWISE (1u << 1)
/* Set: f(0) == 0 for every attribute, so padded channels stay zero. */
#define OPERATOR_KEEPS_ZERO (1u << 2)
/* Set: operator_prepare makes something of the attributes that speeds forward up. */
#define OPERATOR_PREPARES (1u << 3)

#define OPERATOR_VARIADIC 255

/* Values whose data `backward` reads: bit i = input i, bit 16 + i = output i (inputs from 15 on
 * share bit 15). */
#define OPERATOR_READS_INPUT(i) (1u << (i))
#define OPERATOR_READS_OUTPUT(i) (1u << (16 + (i)))

typedef struct operator_definition {
    const char *name;
    const char *domain; /* "" = ai.onnx; "xai" = internal, made by rewrites */
    uint8_t min_inputs, max_inputs, min_outputs, max_outputs;
    uint8_t since; /* lowest opset whose semantics are supported; 1 when all are */
    uint32_t flags;
    uint32_t backward_reads;
    /* Check everything and set dtype and shape of each output. Input shapes are static; an
     * input's `data` is NULL unless it is a constant. When an output's shape depends on a value
     * that is not constant: operator_needs_data(). */
    xai_status (*infer)(operator_call *call);
    /* Compute the outputs; their data is allocated by the caller with the inferred shapes. */
    xai_status (*forward)(operator_call *call);
    /* input_gradients[i] = sum over outputs of output_gradients . d output / d input_i. NULL = no
     * gradient (not differentiable or integer); wanted gradients are overwritten, never
     * accumulated. */
    xai_status (*backward)(operator_call *call);
} operator_definition;

struct operator_call {
    const operator_definition *definition;
    const onnx_attribute *attributes;
    size_t attribute_count;
    int opset; /* of the operator's domain in the model */
    int input_count, output_count;
    const tensor *const *inputs;           /* NULL entry = omitted */
    tensor *const *outputs;                /* NULL entry = omitted */
    const tensor *const *output_gradients; /* backward only; NULL entry = zero */
    tensor *const *input_gradients;        /* backward only; NULL entry = not wanted */
    const void *prepared;                  /* by operator_prepare, or NULL */
    bool *needs_data;                      /* for operator_needs_data(); may be NULL */
    const char *place;                     /* "node 'conv2' (Conv)", for error messages */
    xai_error **error;
};

/* NULL when there is none. The table is static and const. */
const operator_definition *operator_find(const char *domain, const char *name);
/* All of them, for docs and tests. */
const operator_definition *const *operator_table(size_t *count);

/* For OPERATOR_PREPARES: what forward needs of the attributes alone, made once and kept in the pool,
 * to be given to every forward as call->prepared. forward does without it, too, but slower. */
xai_status operator_prepare(const operator_call *call, memory_pool *pool, const void **out);

/* Attributes by name, with the default used when absent. A wrong type gives XAI_ERROR_FORMAT. */
const onnx_attribute *operator_attribute(const operator_call *call,
                                         const char *name); /* NULL = absent */
xai_status operator_attribute_int(const operator_call *call, const char *name, int64_t fallback,
                                  int64_t *out);
xai_status operator_attribute_float(const operator_call *call, const char *name, float fallback,
                                    float *out);
xai_status operator_attribute_text(const operator_call *call, const char *name,
                                   const char *fallback, const char **out);
/* *count is 0 and *out NULL when absent. */
xai_status operator_attribute_ints(const operator_call *call, const char *name, const int64_t **out,
                                   size_t *count);

/* Report a failure at this node. */
xai_status operator_error(const operator_call *call, xai_status status, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* XAI_ERROR_UNSUPPORTED for infer: an output's shape depends on a value that is computed at run time. Sets *call->needs_data
 * and makes no error when there is one: the caller then waits for the inputs. */
xai_status operator_needs_data(const operator_call *call, const char *format, ...)
    PRINTF_LIKE(2, 3);

/* Axis in [-rank, rank) -> [0, rank); error otherwise. */
xai_status operator_axis(const operator_call *call, int64_t axis, int rank, int *out);
/* NumPy broadcasting of two shapes. */
xai_status operator_broadcast(const operator_call *call, const shape *a, const shape *b,
                              shape *out);
/* A constant integer vector (or scalar) input such as `axes` or `shape`; error when it is not
 * constant. At most `capacity` values. */
xai_status operator_constant_ints(const operator_call *call, int input, int64_t *out,
                                  size_t capacity, size_t *count);

/* Geometry of Conv, ConvTranspose and the pools, shared with the engine. Spatial arrays hold
 * `rank` entries. */
#define WINDOW_MAX_RANK 3
typedef struct window {
    int rank; /* 1..3 spatial dimensions */
    int64_t groups;
    int64_t kernel[WINDOW_MAX_RANK], stride[WINDOW_MAX_RANK];
    int64_t dilation[WINDOW_MAX_RANK]; /* 1 = none */
    /* After auto_pad; pools: without the overhang of ceil_mode. */
    int64_t pad_begin[WINDOW_MAX_RANK], pad_end[WINDOW_MAX_RANK];
    int64_t input[WINDOW_MAX_RANK], output[WINDOW_MAX_RANK]; /* spatial sizes */
    bool count_include_pad;                                  /* AveragePool */
} window;
/* First index and step of every axis of a Slice whose parameters are known. */
xai_status operator_slice_steps(const operator_call *call, int64_t starts[SHAPE_MAX_RANK],
                                int64_t steps[SHAPE_MAX_RANK]);
/* How many elements a Pad puts in front of every axis, its parameters being known; *zeros: it puts zeros everywhere. */
xai_status operator_pad_begins(const operator_call *call, int64_t begins[SHAPE_MAX_RANK],
                               bool *zeros);
/* For Conv, ConvTranspose, MaxPool, AveragePool, LpPool and the Global pools, from input shapes
 * and attributes. */
xai_status operator_window(const operator_call *call, window *out);

#endif
