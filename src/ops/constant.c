/* Tensors made from attributes, shapes and scalars, and changes of type. */
#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/mapping.h"

/* --- Constant --- */

/* The attribute that holds the value, its type and shape; there is exactly one. */
static xai_status constant_read(const operator_call *call, const onnx_attribute **out,
                                int32_t *dtype, shape *y)
{
    static const struct {
        const char *name;
        int32_t type, dtype;
    } forms[] = {{"value", ONNX_ATTRIBUTE_TENSOR, 0},
                 {"value_float", ONNX_ATTRIBUTE_FLOAT, DTYPE_FLOAT},
                 {"value_floats", ONNX_ATTRIBUTE_FLOATS, DTYPE_FLOAT},
                 {"value_int", ONNX_ATTRIBUTE_INT, DTYPE_INT64},
                 {"value_ints", ONNX_ATTRIBUTE_INTS, DTYPE_INT64}};
    *out = NULL;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const onnx_attribute *found = operator_attribute(call, forms[i].name);
        if (!found)
            continue;
        if (*out || found->type != forms[i].type)
            return operator_error(call, XAI_ERROR_FORMAT, "attribute '%s' is %s", forms[i].name,
                                  *out ? "a second value" : "of another type than its name says");
        *out = found;
        *dtype = forms[i].dtype;
        *y = (shape){0};
        if (found->type == ONNX_ATTRIBUTE_TENSOR) {
            *dtype = found->tensor.dtype;
            *y = found->tensor.shape;
        } else if (found->type == ONNX_ATTRIBUTE_FLOATS || found->type == ONNX_ATTRIBUTE_INTS) {
            *y = shape_make(1, (const int64_t[]){(int64_t)found->count});
        }
    }
    if (*out && dtype_size(*dtype) > 0)
        return XAI_OK;
    return operator_error(call, XAI_ERROR_UNSUPPORTED,
                          *out ? "a constant of type %s" : "a constant without %s",
                          *out ? dtype_name(*dtype) : "numbers (value, value_float, value_int...)");
}

static xai_status constant_infer(operator_call *call)
{
    const onnx_attribute *value;
    int32_t dtype = DTYPE_UNDEFINED;
    shape y;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = constant_read(call, &value, &dtype, &y);
    return status == XAI_OK ? operator_set_output(call, 0, dtype, &y) : status;
}

static xai_status constant_forward(operator_call *call)
{
    const onnx_attribute *value;
    int32_t dtype;
    shape dims;
    tensor *y = call->outputs[0];
    const xai_status status = constant_read(call, &value, &dtype, &dims);
    const size_t bytes = tensor_bytes(y);
    if (status != XAI_OK || bytes == 0)
        return status;
    switch (value->type) {
    case ONNX_ATTRIBUTE_TENSOR:
        memcpy(y->data, value->tensor.data, bytes);
        break;
    case ONNX_ATTRIBUTE_FLOAT:
        memcpy(y->data, &value->f, bytes);
        break;
    case ONNX_ATTRIBUTE_INT:
        memcpy(y->data, &value->i, bytes);
        break;
    case ONNX_ATTRIBUTE_FLOATS:
        memcpy(y->data, value->floats, bytes);
        break;
    default:
        memcpy(y->data, value->ints, bytes);
        break;
    }
    return XAI_OK;
}

/* --- ConstantOfShape: one value, by default a float zero --- */

static xai_status filled_read(const operator_call *call, const tensor **value)
{
    const onnx_attribute *found = operator_attribute(call, "value");
    *value = NULL;
    if (!found)
        return XAI_OK;
    if (found->type != ONNX_ATTRIBUTE_TENSOR || tensor_count(&found->tensor) != 1)
        return operator_error(call, XAI_ERROR_FORMAT,
                              "attribute 'value' is not a tensor with one element");
    if (dtype_size(found->tensor.dtype) == 0)
        return operator_error(call, XAI_ERROR_UNSUPPORTED, "a value of type %s",
                              dtype_name(found->tensor.dtype));
    *value = &found->tensor;
    return XAI_OK;
}

static xai_status constant_of_shape_infer(operator_call *call)
{
    const tensor *value;
    size_t rank;
    shape y = {0};
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = filled_read(call, &value);
    if (status == XAI_OK)
        status = operator_constant_ints(call, 0, y.dims, SHAPE_MAX_RANK, &rank);
    if (status != XAI_OK)
        return status;
    y.rank = (int)rank;
    for (int i = 0; i < y.rank; i++)
        if (y.dims[i] < 0)
            return operator_error(call, XAI_ERROR_SHAPE, "the shape has the negative value %lld",
                                  (long long)y.dims[i]);
    return operator_set_output(call, 0, value ? value->dtype : DTYPE_FLOAT, &y);
}

static xai_status constant_of_shape_forward(operator_call *call)
{
    const tensor *value;
    tensor *y = call->outputs[0];
    const size_t size = dtype_size(y->dtype), count = tensor_count(y);
    unsigned char *to = y->data;
    const xai_status status = filled_read(call, &value);
    if (status != XAI_OK)
        return status;
    for (size_t i = 0; i < count && value; i++)
        memcpy(to + i * size, value->data, size);
    if (!value)
        operator_zero(y);
    return XAI_OK;
}

/* --- Cast and CastLike --- */

#define CHUNK 1024

/* Float to integer truncates; integers keep their low bits; everything but zero is true. */
static void convert(const tensor *from, tensor *to)
{
    const size_t count = tensor_count(from);
    const bool integers = !dtype_is_float(from->dtype) && !dtype_is_float(to->dtype);
    /* int64 to float is rounded once, not by way of double; half types round from double */
    const bool exact = integers || (to->dtype == DTYPE_FLOAT && from->dtype == DTYPE_INT64);
    if (from->dtype == to->dtype && count > 0) {
        memcpy(to->data, from->data, tensor_bytes(to));
        return;
    }
    for (size_t begin = 0; begin < count; begin += CHUNK) {
        const size_t size = count - begin < CHUNK ? count - begin : CHUNK;
        if (exact) {
            int64_t values[CHUNK];
            tensor_read_ints(from, begin, size, values);
            for (size_t i = 0; i < size; i++)
                tensor_set_int(to, begin + i, values[i]);
        } else {
            double values[CHUNK];
            tensor_read_doubles(from, begin, size, values);
            tensor_write_doubles(to, begin, size, values);
        }
    }
}

static xai_status cast_to(operator_call *call, int64_t to)
{
    xai_status status = movement_check(call, 0);
    if (status == XAI_OK && (to < 1 || to > DTYPE_BFLOAT16 || dtype_size((int32_t)to) == 0))
        status = operator_error(call, XAI_ERROR_UNSUPPORTED, "cannot cast to type number %lld",
                                (long long)to);
    return status == XAI_OK ? operator_set_output(call, 0, (int32_t)to, &call->inputs[0]->shape)
                            : status;
}

static xai_status cast_infer(operator_call *call)
{
    int64_t to;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "to", 0, &to);
    return status == XAI_OK ? cast_to(call, to) : status;
}

static xai_status cast_like_infer(operator_call *call)
{
    const xai_status status = operator_check(call);
    return status == XAI_OK ? cast_to(call, call->inputs[1]->dtype) : status;
}

static xai_status cast_forward(operator_call *call)
{
    convert(call->inputs[0], call->outputs[0]);
    return XAI_OK;
}

/* Between float types the gradient passes through; truncation has none. */
static xai_status cast_backward(operator_call *call)
{
    tensor *wanted = operator_wanted_gradient(call, 0);
    const tensor *given = operator_output_gradient(call, 0);
    if (!wanted)
        return XAI_OK;
    if (given && dtype_is_float(given->dtype) && dtype_is_float(wanted->dtype))
        convert(given, wanted);
    else
        operator_zero(wanted);
    return XAI_OK;
}

/* --- Range: start + i delta, i < max(0, ceil((limit - start) / delta)) --- */

static xai_status range_count(const operator_call *call, int64_t *count)
{
    const tensor *start = call->inputs[0], *limit = call->inputs[1], *delta = call->inputs[2];
    *count = 0;
    if (!start->data || !limit->data || !delta->data)
        return operator_needs_data(
            call, "the bounds are computed at run time where constants are needed");
    if (dtype_is_float(start->dtype)) {
        const double steps =
            ceil((tensor_get(limit, 0) - tensor_get(start, 0)) / tensor_get(delta, 0));
        if (!(fabs(steps) < 0x1p53))
            return operator_error(call, XAI_ERROR_SHAPE,
                                  "the range from %g to %g by %g is not finite",
                                  tensor_get(start, 0), tensor_get(limit, 0), tensor_get(delta, 0));
        *count = steps > 0 ? (int64_t)steps : 0;
        return XAI_OK;
    }
    const int64_t from = tensor_get_int(start, 0), to = tensor_get_int(limit, 0),
                  step = tensor_get_int(delta, 0);
    if (step == 0)
        return operator_error(call, XAI_ERROR_SHAPE, "delta is 0");
    if (step > 0 ? to <= from : to >= from)
        return XAI_OK;
    const uint64_t span = step > 0 ? (uint64_t)to - (uint64_t)from : (uint64_t)from - (uint64_t)to,
                   stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step,
                   steps = (span - 1) / stride + 1;
    if (steps > INT64_MAX)
        return operator_error(call, XAI_ERROR_SHAPE, "the range is too long");
    *count = (int64_t)steps;
    return XAI_OK;
}

static xai_status range_infer(operator_call *call)
{
    shape y = {.rank = 1};
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(
            call, 0, TYPES_FLOAT | 1u << DTYPE_INT16 | 1u << DTYPE_INT32 | 1u << DTYPE_INT64);
    for (int i = 0; i < 3 && status == XAI_OK; i++) {
        status = operator_check_same_type(call, 0, i);
        if (status == XAI_OK && tensor_count(call->inputs[i]) != 1)
            status = operator_error(call, XAI_ERROR_SHAPE, "input %d is not one number", i);
    }
    if (status == XAI_OK)
        status = range_count(call, &y.dims[0]);
    return status == XAI_OK ? operator_set_output(call, 0, call->inputs[0]->dtype, &y) : status;
}

static xai_status range_forward(operator_call *call)
{
    tensor *y = call->outputs[0];
    const size_t count = tensor_count(y);
    const bool is_float = dtype_is_float(y->dtype);
    const double start = tensor_get(call->inputs[0], 0), delta = tensor_get(call->inputs[2], 0);
    uint64_t next = (uint64_t)tensor_get_int(call->inputs[0], 0);
    const uint64_t step = (uint64_t)tensor_get_int(call->inputs[2], 0);
    for (size_t i = 0; i < count; i++, next += step)
        if (is_float)
            tensor_set(y, i, start + (double)i * delta);
        else
            tensor_set_int(y, i, (int64_t)next);
    return XAI_OK;
}

/* --- EyeLike: ones on diagonal k of a matrix like the input --- */

static xai_status eye_like_infer(operator_call *call)
{
    char text[SHAPE_TEXT_SIZE];
    int64_t dtype, k;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "dtype", call->inputs[0]->dtype, &dtype);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "k", 0, &k);
    if (status != XAI_OK)
        return status;
    const shape *x = &call->inputs[0]->shape;
    if (x->rank != 2)
        return operator_error(call, XAI_ERROR_SHAPE, "input of shape %s is not a matrix",
                              shape_text(x, text));
    return cast_to(call, dtype);
}

static xai_status eye_like_forward(operator_call *call)
{
    tensor *y = call->outputs[0];
    int64_t k;
    const xai_status status = operator_attribute_int(call, "k", 0, &k);
    const int64_t rows = y->shape.dims[0], columns = y->shape.dims[1];
    if (status != XAI_OK)
        return status;
    operator_zero(y);
    if (k <= -rows || k >= columns)
        return XAI_OK;
    for (int64_t i = k < 0 ? -k : 0; i < rows && i + k < columns; i++)
        tensor_set(y, (size_t)(i * columns + i + k), 1);
    return XAI_OK;
}

#define MAKER(symbol, title, first_opset, least, most) \
    const operator_definition operator_##symbol = {    \
        .name = title,                                 \
        .domain = "",                                  \
        .min_inputs = least,                           \
        .max_inputs = most,                            \
        .min_outputs = 1,                              \
        .max_outputs = 1,                              \
        .since = first_opset,                          \
        .infer = symbol##_infer,                       \
        .forward = symbol##_forward,                   \
    }

MAKER(constant, "Constant", 1, 0, 0);
MAKER(constant_of_shape, "ConstantOfShape", 9, 1, 1);
MAKER(range, "Range", 11, 3, 3);
MAKER(eye_like, "EyeLike", 9, 1, 1);

MOVEMENT(cast, "Cast", 6, 1, 1, 1, 0, 0);

const operator_definition operator_cast_like = {
    .name = "CastLike",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 15,
    .infer = cast_like_infer,
    .forward = cast_forward,
    .backward = cast_backward,
};
