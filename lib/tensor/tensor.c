#include "tensor/tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tensor/half.h"

static const struct {
    uint8_t size;
    const char *name;
} dtypes[] = {
    [DTYPE_UNDEFINED] = {0, "undefined"}, [DTYPE_FLOAT] = {4, "float32"},
    [DTYPE_UINT8] = {1, "uint8"},         [DTYPE_INT8] = {1, "int8"},
    [DTYPE_UINT16] = {2, "uint16"},       [DTYPE_INT16] = {2, "int16"},
    [DTYPE_INT32] = {4, "int32"},         [DTYPE_INT64] = {8, "int64"},
    [DTYPE_STRING] = {0, "string"},       [DTYPE_BOOL] = {1, "bool"},
    [DTYPE_FLOAT16] = {2, "float16"},     [DTYPE_DOUBLE] = {8, "float64"},
    [DTYPE_UINT32] = {4, "uint32"},       [DTYPE_UINT64] = {8, "uint64"},
    [DTYPE_BFLOAT16] = {2, "bfloat16"},
};

static bool dtype_known(int32_t dtype)
{
    return dtype >= 0 && (size_t)dtype < sizeof dtypes / sizeof *dtypes && dtypes[dtype].name;
}

size_t dtype_size(int32_t dtype)
{
    return dtype_known(dtype) ? dtypes[dtype].size : 0;
}

const char *dtype_name(int32_t dtype)
{
    return dtype_known(dtype) ? dtypes[dtype].name : "unknown";
}

bool dtype_is_float(int32_t dtype)
{
    return dtype == DTYPE_FLOAT || dtype == DTYPE_DOUBLE || dtype == DTYPE_FLOAT16 ||
           dtype == DTYPE_BFLOAT16;
}

bool dtype_is_integer(int32_t dtype)
{
    return (dtype >= DTYPE_UINT8 && dtype <= DTYPE_INT64) || dtype == DTYPE_UINT32 ||
           dtype == DTYPE_UINT64;
}

shape shape_make(int rank, const int64_t *dims)
{
    shape made = {0};
    if (rank < 0 || rank > SHAPE_MAX_RANK) {
        made.rank = -1; /* shape_count() and tensor_create() refuse it */
        return made;
    }
    made.rank = rank;
    if (rank > 0)
        memcpy(made.dims, dims, (size_t)rank * sizeof *dims);
    return made;
}

bool shape_equal(const shape *a, const shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i])
            return false;
    return true;
}

bool shape_count(const shape *self, size_t *count)
{
    size_t product = 1;
    if (self->rank < 0 || self->rank > SHAPE_MAX_RANK)
        return false;
    /* A zero dimension does not excuse an overflow of the others: (2^40, 2^40, 0) is refused
     * too. */
    bool empty = false;
    for (int i = 0; i < self->rank; i++) {
        const int64_t dim = self->dims[i];
        if (dim < 0 || (uint64_t)dim > SIZE_MAX)
            return false;
        empty = empty || dim == 0;
        if (dim > 0 && !size_multiply(product, (size_t)dim, &product))
            return false;
    }
    *count = empty ? 0 : product;
    return true;
}

const char *shape_text(const shape *self, char out[SHAPE_TEXT_SIZE])
{
    if (self->rank < 0 || self->rank > SHAPE_MAX_RANK) {
        snprintf(out, SHAPE_TEXT_SIZE, "(unknown)");
        return out;
    }
    size_t length = (size_t)snprintf(out, SHAPE_TEXT_SIZE, "(");
    for (int i = 0; i < self->rank; i++) {
        const char *comma = i > 0 ? ", " : "";
        const int written = self->dims[i] < 0
                                ? snprintf(out + length, SHAPE_TEXT_SIZE - length, "%s?", comma)
                                : snprintf(out + length, SHAPE_TEXT_SIZE - length, "%s%lld", comma,
                                           (long long)self->dims[i]);
        length += (size_t)written; /* 8 dimensions of 19 digits need 168 bytes */
    }
    snprintf(out + length, SHAPE_TEXT_SIZE - length, ")");
    return out;
}

const char *shape_position(const shape *self, size_t index, char out[SHAPE_TEXT_SIZE])
{
    shape position = *self;
    for (int axis = self->rank; axis-- > 0;) {
        position.dims[axis] = (int64_t)(index % (size_t)self->dims[axis]);
        index /= (size_t)self->dims[axis];
    }
    return shape_text(&position, out);
}

xai_status tensor_create(tensor *self, int32_t dtype, const shape *dims, xai_error **error)
{
    size_t count, bytes;
    char text[SHAPE_TEXT_SIZE];
    *self = (tensor){0};
    if (dtype_size(dtype) == 0)
        return error_set(error, XAI_ERROR_UNSUPPORTED, NULL,
                         "tensors of type %s (%d) cannot be computed", dtype_name(dtype),
                         (int)dtype);
    if (!shape_count(dims, &count) || !size_multiply(count, dtype_size(dtype), &bytes))
        return error_set(error, XAI_ERROR_SHAPE, NULL, "shape %s is not one of a tensor in memory",
                         shape_text(dims, text));
    void *data = memory_allocate_aligned(bytes);
    if (!data)
        return error_memory(error, "a tensor", bytes);
    *self = (tensor){.dtype = dtype, .shape = *dims, .data = data, .owned = true};
    return XAI_OK;
}

/* Pointers and their bytes in one block, so that freeing the tensor frees all of it. */
static xai_status string_tensor_copy(tensor *self, const tensor *source, xai_error **error)
{
    const size_t count = tensor_count(source);
    const char *const *strings = source->data;
    size_t bytes;
    if (!size_multiply(count, sizeof *strings, &bytes))
        return error_memory(error, "a tensor of strings", 0);
    for (size_t i = 0; i < count; i++)
        if (!size_add(bytes, strlen(strings[i]) + 1, &bytes))
            return error_memory(error, "a tensor of strings", 0);
    char **pointers = memory_allocate_aligned(bytes);
    if (!pointers)
        return error_memory(error, "a tensor of strings", bytes);
    char *end = (char *)(pointers + count);
    for (size_t i = 0; i < count; i++) {
        const size_t size = strlen(strings[i]) + 1;
        pointers[i] = memcpy(end, strings[i], size);
        end += size;
    }
    *self =
        (tensor){.dtype = DTYPE_STRING, .shape = source->shape, .data = pointers, .owned = true};
    return XAI_OK;
}

xai_status tensor_copy(tensor *self, const tensor *source, xai_error **error)
{
    if (!source->data) {
        *self = (tensor){.dtype = source->dtype, .shape = source->shape};
        return XAI_OK;
    }
    *self = (tensor){0};
    if (source->dtype == DTYPE_STRING)
        return string_tensor_copy(self, source, error);
    const xai_status status = tensor_create(self, source->dtype, &source->shape, error);
    if (status == XAI_OK)
        memcpy(self->data, source->data, tensor_bytes(source));
    return status;
}

void tensor_free(tensor *self)
{
    if (self->owned)
        memory_free(self->data);
    *self = (tensor){0};
}

size_t tensor_count(const tensor *self)
{
    size_t count;
    return shape_count(&self->shape, &count) ? count : 0;
}

size_t tensor_bytes(const tensor *self)
{
    size_t bytes;
    return size_multiply(tensor_count(self), dtype_size(self->dtype), &bytes) ? bytes : 0;
}

/* Toward zero; out of range saturates and NaN is 0, where a C cast would be undefined. */
static int64_t double_to_int(double value)
{
    if (isnan(value))
        return 0;
    if (value >= 0x1p63)
        return INT64_MAX;
    if (value < -0x1p63)
        return INT64_MIN;
    return (int64_t)value;
}

static uint64_t double_to_unsigned(double value)
{
    if (isnan(value) || value <= 0)
        return 0;
    return value >= 0x1p64 ? UINT64_MAX : (uint64_t)value;
}

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* One loop a type over [0, count) of possibly unaligned elements. X is the element as its own C
 * type. */
#define READ_LOOP(type, expression)                \
    for (size_t i = 0; i < count; i++) {           \
        type X;                                    \
        memcpy(&X, from + i * sizeof X, sizeof X); \
        out[i] = (expression);                     \
    }                                              \
    break

/* One loop a type; V is the caller's value and the expression what is stored. */
#define WRITE_LOOP(type, expression)             \
    for (size_t i = 0; i < count; i++) {         \
        const value_type V = values[i];          \
        const type X = (type)(expression);       \
        memcpy(to + i * sizeof X, &X, sizeof X); \
    }                                            \
    break

/* Tables, one type a row. */
/* clang-format off */
void tensor_read_doubles(const tensor *self, size_t begin, size_t count, double *out)
{
    const unsigned char *from = (const unsigned char *)self->data + begin * dtype_size(self->dtype);
    switch (self->dtype) {
    case DTYPE_FLOAT: READ_LOOP(float, (double)X);
    case DTYPE_DOUBLE: READ_LOOP(double, X);
    case DTYPE_FLOAT16: READ_LOOP(uint16_t, (double)half_to_float(X));
    case DTYPE_BFLOAT16: READ_LOOP(uint16_t, (double)bfloat16_to_float(X));
    case DTYPE_INT8: READ_LOOP(int8_t, (double)X);
    case DTYPE_UINT8: READ_LOOP(uint8_t, (double)X);
    case DTYPE_INT16: READ_LOOP(int16_t, (double)X);
    case DTYPE_UINT16: READ_LOOP(uint16_t, (double)X);
    case DTYPE_INT32: READ_LOOP(int32_t, (double)X);
    case DTYPE_UINT32: READ_LOOP(uint32_t, (double)X);
    case DTYPE_INT64: READ_LOOP(int64_t, (double)X);
    case DTYPE_UINT64: READ_LOOP(uint64_t, (double)X);
    case DTYPE_BOOL: READ_LOOP(uint8_t, X != 0 ? 1.0 : 0.0);
    default: /* strings have no number */
        for (size_t i = 0; i < count; i++)
            out[i] = NAN;
    }
}

void tensor_read_floats(const tensor *self, size_t begin, size_t count, float *out)
{
    const unsigned char *from = (const unsigned char *)self->data + begin * dtype_size(self->dtype);
    switch (self->dtype) {
    case DTYPE_FLOAT:
        if (count > 0)
            memcpy(out, from, count * sizeof *out);
        break;
    case DTYPE_DOUBLE: READ_LOOP(double, (float)X);
    case DTYPE_FLOAT16: READ_LOOP(uint16_t, half_to_float(X));
    case DTYPE_BFLOAT16: READ_LOOP(uint16_t, bfloat16_to_float(X));
    case DTYPE_INT8: READ_LOOP(int8_t, (float)X);
    case DTYPE_UINT8: READ_LOOP(uint8_t, (float)X);
    case DTYPE_INT16: READ_LOOP(int16_t, (float)X);
    case DTYPE_UINT16: READ_LOOP(uint16_t, (float)X);
    case DTYPE_INT32: READ_LOOP(int32_t, (float)X);
    case DTYPE_UINT32: READ_LOOP(uint32_t, (float)X);
    case DTYPE_INT64: READ_LOOP(int64_t, (float)X);
    case DTYPE_UINT64: READ_LOOP(uint64_t, (float)X);
    case DTYPE_BOOL: READ_LOOP(uint8_t, X != 0 ? 1.0f : 0.0f);
    default:
        for (size_t i = 0; i < count; i++)
            out[i] = NAN;
    }
}

void tensor_read_ints(const tensor *self, size_t begin, size_t count, int64_t *out)
{
    const unsigned char *from = (const unsigned char *)self->data + begin * dtype_size(self->dtype);
    switch (self->dtype) {
    case DTYPE_FLOAT: READ_LOOP(float, double_to_int((double)X));
    case DTYPE_DOUBLE: READ_LOOP(double, double_to_int(X));
    case DTYPE_FLOAT16: READ_LOOP(uint16_t, double_to_int((double)half_to_float(X)));
    case DTYPE_BFLOAT16: READ_LOOP(uint16_t, double_to_int((double)bfloat16_to_float(X)));
    case DTYPE_INT8: READ_LOOP(int8_t, (int64_t)X);
    case DTYPE_UINT8: READ_LOOP(uint8_t, (int64_t)X);
    case DTYPE_INT16: READ_LOOP(int16_t, (int64_t)X);
    case DTYPE_UINT16: READ_LOOP(uint16_t, (int64_t)X);
    case DTYPE_INT32: READ_LOOP(int32_t, (int64_t)X);
    case DTYPE_UINT32: READ_LOOP(uint32_t, (int64_t)X);
    case DTYPE_INT64: READ_LOOP(int64_t, X);
    case DTYPE_UINT64: READ_LOOP(uint64_t, (int64_t)X);
    case DTYPE_BOOL: READ_LOOP(uint8_t, X != 0 ? 1 : 0);
    default:
        for (size_t i = 0; i < count; i++)
            out[i] = 0;
    }
}

void tensor_write_doubles(tensor *self, size_t begin, size_t count, const double *values)
{
    typedef double value_type;
    unsigned char *to = (unsigned char *)self->data + begin * dtype_size(self->dtype);
    switch (self->dtype) {
    case DTYPE_FLOAT: WRITE_LOOP(float, V);
    case DTYPE_DOUBLE: WRITE_LOOP(double, V);
    case DTYPE_FLOAT16: WRITE_LOOP(uint16_t, double_to_half(V));
    case DTYPE_BFLOAT16: WRITE_LOOP(uint16_t, double_to_bfloat16(V));
    case DTYPE_INT8: WRITE_LOOP(int8_t, clamp(double_to_int(V), INT8_MIN, INT8_MAX));
    case DTYPE_UINT8: WRITE_LOOP(uint8_t, clamp(double_to_int(V), 0, UINT8_MAX));
    case DTYPE_INT16: WRITE_LOOP(int16_t, clamp(double_to_int(V), INT16_MIN, INT16_MAX));
    case DTYPE_UINT16: WRITE_LOOP(uint16_t, clamp(double_to_int(V), 0, UINT16_MAX));
    case DTYPE_INT32: WRITE_LOOP(int32_t, clamp(double_to_int(V), INT32_MIN, INT32_MAX));
    case DTYPE_UINT32: WRITE_LOOP(uint32_t, clamp(double_to_int(V), 0, UINT32_MAX));
    case DTYPE_INT64: WRITE_LOOP(int64_t, double_to_int(V));
    case DTYPE_UINT64: WRITE_LOOP(uint64_t, double_to_unsigned(V));
    case DTYPE_BOOL: WRITE_LOOP(uint8_t, V != 0);
    default: break;
    }
}
/* clang-format on */

double tensor_get(const tensor *self, size_t index)
{
    double value;
    tensor_read_doubles(self, index, 1, &value);
    return value;
}

int64_t tensor_get_int(const tensor *self, size_t index)
{
    int64_t value;
    tensor_read_ints(self, index, 1, &value);
    return value;
}

void tensor_set(tensor *self, size_t index, double value)
{
    tensor_write_doubles(self, index, 1, &value);
}

/* clang-format off */
/* Integers keep their low bits, as a cast between integer types does in ONNX. */
void tensor_set_int(tensor *self, size_t index, int64_t value)
{
    typedef int64_t value_type;
    const size_t count = 1;
    const int64_t *values = &value;
    unsigned char *to = (unsigned char *)self->data + index * dtype_size(self->dtype);
    switch (self->dtype) {
    case DTYPE_INT8:
    case DTYPE_UINT8: WRITE_LOOP(uint8_t, V);
    case DTYPE_INT16:
    case DTYPE_UINT16: WRITE_LOOP(uint16_t, V);
    case DTYPE_INT32:
    case DTYPE_UINT32: WRITE_LOOP(uint32_t, V);
    case DTYPE_INT64:
    case DTYPE_UINT64: WRITE_LOOP(uint64_t, V);
    case DTYPE_BOOL: WRITE_LOOP(uint8_t, V != 0);
    case DTYPE_FLOAT: WRITE_LOOP(float, V); /* rounded once, not by way of double */
    default: tensor_set(self, index, (double)value);
    }
}
/* clang-format on */
