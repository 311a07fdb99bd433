/* Elementwise operators of two tensors that are broadcast together. Private to this folder. */
#ifndef OPS_BINARY_H
#define OPS_BINARY_H

#include <math.h>

#include "ops/support.h"

/* How the loops see an element type. */
typedef enum number_class {
    NUMBER_FLOAT,    /* double */
    NUMBER_SIGNED,   /* int64 */
    NUMBER_UNSIGNED, /* uint64 */
    NUMBER_CLASSES
} number_class;

number_class number_class_of(int32_t dtype); /* bool counts as signed */

/* Two inputs repeated to the output's shape, as 8-byte words of their class. */
typedef struct binary_operands {
    number_class class;
    size_t count;
    void *a, *b;
} binary_operands;

xai_status binary_operands_read(const operator_call *call, const shape *common,
                                binary_operands *out);
void binary_operands_free(binary_operands *self);

/* Type checks and the common shape; `output_dtype` 0 = the type of input 0. */
xai_status binary_infer(operator_call *call, uint32_t types, int32_t output_dtype);

#endif
