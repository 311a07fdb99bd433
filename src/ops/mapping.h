/* Data movement along axes: every output element is one input element or a fill value.
 *
 *   out[o_0, ..., o_r] = in[map_0[o_0], ..., map_r[o_r]], or `fill` where a map says MAPPING_FILL
 *
 * Slice, Pad, Expand, Tile and Gather are each a choice of maps. Private to this folder. */
#ifndef OPS_MAPPING_H
#define OPS_MAPPING_H

#include "ops/support.h"

#define MAPPING_FILL (-1)

typedef struct mapping {
    shape in, out;                 /* of the same rank */
    int64_t *maps[SHAPE_MAX_RANK]; /* [out.dims[i]] input indices; NULL = the index itself */
} mapping;

/* All maps the identity, out = in. */
mapping mapping_identity(const shape *in);
/* An uninitialised map for one axis of `out_size` output indices; the caller fills maps[axis]. */
xai_status mapping_axis(const operator_call *call, mapping *self, int axis, int64_t out_size);
void mapping_drop(mapping *self);

/* Bytes move, whatever the element type; `fill` is one element (NULL = zero bytes). in and out
 * have one type. */
void mapping_forward(const mapping *self, const tensor *in, const void *fill, tensor *out);
/* wanted = sum of the output gradients of every element's copies; zero when `given` is NULL. */
xai_status mapping_backward(const operator_call *call, const mapping *self, const tensor *given,
                            tensor *wanted);

/* What the operators that move data share. */

/* Error unless input i has elements of a fixed size: strings are refused. */
xai_status movement_check(const operator_call *call, int i);
/* Output 0 has the type of input 0. */
xai_status movement_infer(const operator_call *call, const shape *out);
/* Integers from an attribute (older opsets) or from a constant input. *given is false when there
 * are none. */
xai_status movement_ints(const operator_call *call, bool attribute, const char *name, int input,
                         int64_t *out, size_t capacity, size_t *count, bool *given);
/* forward or backward of an operator that is one mapping of input 0 to output 0, without fill. */
xai_status movement_run(operator_call *call,
                        xai_status (*make)(const operator_call *call, mapping *out), bool back);

#define MOVEMENT(symbol, title, first_opset, least, most, outputs, bits, reads) \
    const operator_definition operator_##symbol = {                             \
        .name = title,                                                          \
        .domain = "",                                                           \
        .min_inputs = least,                                                    \
        .max_inputs = most,                                                     \
        .min_outputs = 1,                                                       \
        .max_outputs = outputs,                                                 \
        .since = first_opset,                                                   \
        .flags = bits,                                                          \
        .backward_reads = reads,                                                \
        .infer = symbol##_infer,                                                \
        .forward = symbol##_forward,                                            \
        .backward = symbol##_backward,                                          \
    }

#endif
