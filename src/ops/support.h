/* What the families of operators share: checks of a call, whole tensors as doubles or int64,
 * broadcasting, rows. Private to this folder. */
#ifndef OPS_SUPPORT_H
#define OPS_SUPPORT_H

#include "base/error.h"
#include "base/memory.h"
#include "ops/operator.h"

/* Checks that every infer begins with: numbers of inputs and outputs fit the definition, required
 * ones are there. */
xai_status operator_check(const operator_call *call);
/* Input i is there (given and not omitted). */
bool operator_has_input(const operator_call *call, int i);
/* The tensor where a result goes, or NULL when it is not wanted. */
tensor *operator_output(const operator_call *call, int i);
tensor *operator_wanted_gradient(const operator_call *call, int i);
/* The incoming gradient of output i, or NULL when it is zero. */
const tensor *operator_output_gradient(const operator_call *call, int i);

/* Sets of element types as bits (1 << DTYPE_*). */
#define TYPES_FLOAT \
    (1u << DTYPE_FLOAT | 1u << DTYPE_DOUBLE | 1u << DTYPE_FLOAT16 | 1u << DTYPE_BFLOAT16)
#define TYPES_SIGNED (1u << DTYPE_INT8 | 1u << DTYPE_INT16 | 1u << DTYPE_INT32 | 1u << DTYPE_INT64)
#define TYPES_UNSIGNED \
    (1u << DTYPE_UINT8 | 1u << DTYPE_UINT16 | 1u << DTYPE_UINT32 | 1u << DTYPE_UINT64)
#define TYPES_INTEGER (TYPES_SIGNED | TYPES_UNSIGNED)
#define TYPES_NUMBER (TYPES_FLOAT | TYPES_INTEGER)
#define TYPES_BOOL (1u << DTYPE_BOOL)
#define TYPES_INDEX (1u << DTYPE_INT32 | 1u << DTYPE_INT64)
/* Error XAI_ERROR_UNSUPPORTED unless the type of input i is in the set. */
xai_status operator_check_type(const operator_call *call, int i, uint32_t types);
/* Error unless inputs i and j have the same type. */
xai_status operator_check_same_type(const operator_call *call, int i, int j);

/* Set dtype and shape of output i when it is wanted. XAI_ERROR_SHAPE when the number of elements
 * overflows. */
xai_status operator_set_output(const operator_call *call, int i, int32_t dtype, const shape *dims);

/* A whole tensor as doubles or int64 in a new array (memory_free). */
xai_status operator_read_doubles(const operator_call *call, const tensor *self, double **out);
xai_status operator_read_ints(const operator_call *call, const tensor *self, int64_t **out);
/* As doubles or as int64 (8-byte words), repeated to the shape `common`. */
xai_status operator_read_repeated(const operator_call *call, const tensor *self, bool as_doubles,
                                  const shape *common, void **out);
/* A new array of `count` doubles, zeroed. */
xai_status operator_allocate(const operator_call *call, size_t count, double **out);
/* All elements from an array, wrapping to the width of the element type. */
void operator_write_ints(tensor *self, const int64_t *values);
void operator_fill(tensor *self, double value);
/* All zero bytes. */
void operator_zero(tensor *self);
/* Zero every wanted gradient. */
void operator_zero_gradients(operator_call *call);
/* Gradient g (shape `common`) of an input that was broadcast, summed over its repetitions into
 * `wanted`. */
xai_status operator_write_reduced(const operator_call *call, const shape *common, const double *g,
                                  tensor *wanted);

/* Broadcasting of 8-byte words (doubles or int64): `in` of shape `from` repeated to shape `to`. */
void broadcast_expand(const shape *from, const void *in, const shape *to, void *out);
/* Its transpose for gradients: out (shape `to`) = sum of `in` (shape `from`) over the repeated
 * positions. */
void broadcast_reduce(const shape *from, const double *in, const shape *to, double *out);

/* Rows: a tensor seen as (rows, width), width running over the axes in the set (bit k = axis k),
 * both in row-major order. */
size_t rows_count(const shape *dims, uint32_t axes); /* product of the other axes */
size_t rows_width(const shape *dims, uint32_t axes); /* product of the axes in the set */
/* Gather 8-byte words of a row-major tensor into rows, and back. */
void rows_gather(const shape *dims, uint32_t axes, const void *in, void *out);
void rows_scatter(const shape *dims, uint32_t axes, const void *in, void *out);
/* A whole tensor as rows of doubles in a new array (memory_free), and back. */
xai_status operator_read_rows(const operator_call *call, const tensor *self, uint32_t axes,
                              double **out);
xai_status operator_write_rows(const operator_call *call, tensor *self, uint32_t axes,
                               const double *rows);

#endif
