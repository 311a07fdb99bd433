/* Tensors: element type, shape, bytes. Row-major and contiguous, always. No operators here. */
#ifndef TENSOR_TENSOR_H
#define TENSOR_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "xai/status.h"

/* Element types, numbered as in ONNX TensorProto.DataType. */
enum {
    DTYPE_UNDEFINED = 0,
    DTYPE_FLOAT = 1,
    DTYPE_UINT8 = 2,
    DTYPE_INT8 = 3,
    DTYPE_UINT16 = 4,
    DTYPE_INT16 = 5,
    DTYPE_INT32 = 6,
    DTYPE_INT64 = 7,
    DTYPE_STRING = 8,
    DTYPE_BOOL = 9,
    DTYPE_FLOAT16 = 10,
    DTYPE_DOUBLE = 11,
    DTYPE_UINT32 = 12,
    DTYPE_UINT64 = 13,
    DTYPE_BFLOAT16 = 16,
};

#define SHAPE_MAX_RANK 8

/* dims[i] >= 0, or -1 for a dimension that is only known at run time (declared model inputs and
 * outputs). */
typedef struct shape {
    int rank;
    int64_t dims[SHAPE_MAX_RANK];
} shape;

/* `data` may be unaligned when the tensor is a view into a model file: read constants with
 * tensor_read_* or memcpy, never by dereferencing a typed pointer. Tensors made by tensor_create
 * are 64-byte aligned. */
typedef struct tensor {
    int32_t dtype;
    shape shape;
    void *data; /* NULL = value not known or not computed */
    bool owned; /* data is freed with the tensor */
} tensor;

size_t dtype_size(int32_t dtype);      /* bytes an element; 0 for unknown types and strings */
const char *dtype_name(int32_t dtype); /* "float32", "int64", ...; "unknown" */
bool dtype_is_float(int32_t dtype);    /* float16, bfloat16, float32, float64 */
bool dtype_is_integer(int32_t dtype);  /* signed and unsigned integers, not bool */

shape shape_make(int rank, const int64_t *dims);
bool shape_equal(const shape *a, const shape *b);
/* Number of elements; false when a dimension is negative or the product overflows size_t. */
bool shape_count(const shape *self, size_t *count);
/* "(1, 3, 224, 224)" into `out`; returns out. */
#define SHAPE_TEXT_SIZE 192
const char *shape_text(const shape *self, char out[SHAPE_TEXT_SIZE]);
/* The place of element `index` in a tensor of this shape, "(0, 2, 17, 4)", into `out`. */
const char *shape_position(const shape *self, size_t index, char out[SHAPE_TEXT_SIZE]);

/* Allocate the elements for dtype and shape (uninitialised). On failure *self is zeroed. */
xai_status tensor_create(tensor *self, int32_t dtype, const shape *dims, xai_error **error);
xai_status tensor_copy(tensor *self, const tensor *source, xai_error **error);
void tensor_free(tensor *self); /* frees owned data and zeroes the struct */
/* Elements; 0 with a zero dimension, 1 for a scalar. */
size_t tensor_count(const tensor *self);
size_t tensor_bytes(const tensor *self);

/* Element access with conversion, alignment-safe. Reading a float type as int64 truncates. */
double tensor_get(const tensor *self, size_t index);
int64_t tensor_get_int(const tensor *self, size_t index);
/* Rounds to nearest even for half types. */
void tensor_set(tensor *self, size_t index, double value);
void tensor_set_int(tensor *self, size_t index, int64_t value);
/* Many at once: [begin, begin + count) converted to/from the caller's array. Much faster than
 * one at a time. */
void tensor_read_doubles(const tensor *self, size_t begin, size_t count, double *out);
void tensor_write_doubles(tensor *self, size_t begin, size_t count, const double *values);
void tensor_read_floats(const tensor *self, size_t begin, size_t count, float *out);
void tensor_read_ints(const tensor *self, size_t begin, size_t count, int64_t *out);

float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);
uint16_t float_to_bfloat16(float value);

#endif
