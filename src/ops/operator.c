#include "ops/operator.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "ops/support.h"

xai_status operator_error(const operator_call *call, xai_status status, const char *format, ...)
{
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return error_set(call->error, status, call->place, "%s", message);
}

xai_status operator_needs_data(const operator_call *call, const char *format, ...)
{
    char message[512];
    va_list arguments;
    if (call->needs_data) {
        *call->needs_data = true;
        return XAI_ERROR_UNSUPPORTED;
    }
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return error_set(call->error, XAI_ERROR_UNSUPPORTED, call->place, "%s", message);
}

const onnx_attribute *operator_attribute(const operator_call *call, const char *name)
{
    for (size_t i = 0; i < call->attribute_count; i++)
        if (strcmp(call->attributes[i].name, name) == 0)
            return &call->attributes[i];
    return NULL;
}

/* The attribute when it is there and of the type; *found is NULL when it is absent. */
static xai_status typed_attribute(const operator_call *call, const char *name, int32_t type,
                                  const char *type_name, const onnx_attribute **found)
{
    *found = operator_attribute(call, name);
    if (!*found || (*found)->type == type)
        return XAI_OK;
    *found = NULL;
    return operator_error(call, XAI_ERROR_FORMAT, "attribute '%s' is not %s", name, type_name);
}

xai_status operator_attribute_int(const operator_call *call, const char *name, int64_t fallback,
                                  int64_t *out)
{
    const onnx_attribute *found;
    const xai_status status = typed_attribute(call, name, ONNX_ATTRIBUTE_INT, "an integer", &found);
    *out = found ? found->i : fallback;
    return status;
}

xai_status operator_attribute_float(const operator_call *call, const char *name, float fallback,
                                    float *out)
{
    const onnx_attribute *found;
    const xai_status status = typed_attribute(call, name, ONNX_ATTRIBUTE_FLOAT, "a number", &found);
    *out = found ? found->f : fallback;
    return status;
}

xai_status operator_attribute_text(const operator_call *call, const char *name,
                                   const char *fallback, const char **out)
{
    const onnx_attribute *found;
    const xai_status status =
        typed_attribute(call, name, ONNX_ATTRIBUTE_STRING, "a string", &found);
    *out = found && found->s ? found->s : fallback;
    return status;
}

xai_status operator_attribute_ints(const operator_call *call, const char *name, const int64_t **out,
                                   size_t *count)
{
    const onnx_attribute *found;
    const xai_status status =
        typed_attribute(call, name, ONNX_ATTRIBUTE_INTS, "a list of integers", &found);
    *out = found ? found->ints : NULL;
    *count = found ? found->count : 0;
    return status;
}

xai_status operator_axis(const operator_call *call, int64_t axis, int rank, int *out)
{
    *out = 0;
    if (axis < -(int64_t)rank || axis >= rank)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "axis %lld is outside [%d, %d) of a tensor with %d dimensions",
                              (long long)axis, -rank, rank, rank);
    *out = (int)(axis < 0 ? axis + rank : axis);
    return XAI_OK;
}

xai_status operator_broadcast(const operator_call *call, const shape *a, const shape *b, shape *out)
{
    char a_text[SHAPE_TEXT_SIZE], b_text[SHAPE_TEXT_SIZE];
    shape joined = {.rank = a->rank > b->rank ? a->rank : b->rank};
    for (int i = 1; i <= joined.rank; i++) { /* from the last dimension */
        const int64_t p = i <= a->rank ? a->dims[a->rank - i] : 1,
                      q = i <= b->rank ? b->dims[b->rank - i] : 1;
        if (p != q && p != 1 && q != 1)
            return operator_error(call, XAI_ERROR_SHAPE,
                                  "shapes %s and %s cannot be broadcast together",
                                  shape_text(a, a_text), shape_text(b, b_text));
        joined.dims[joined.rank - i] = p == 1 ? q : p;
    }
    *out = joined;
    return XAI_OK;
}

xai_status operator_constant_ints(const operator_call *call, int input, int64_t *out,
                                  size_t capacity, size_t *count)
{
    char text[SHAPE_TEXT_SIZE];
    *count = 0;
    if (!operator_has_input(call, input))
        return operator_error(call, XAI_ERROR_FORMAT, "input %d is missing", input);
    const tensor *given = call->inputs[input];
    if (!dtype_is_integer(given->dtype))
        return operator_error(call, XAI_ERROR_UNSUPPORTED,
                              "input %d has type %s where integers are needed", input,
                              dtype_name(given->dtype));
    if (given->shape.rank > 1)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "input %d has shape %s where a list of integers is needed", input,
                              shape_text(&given->shape, text));
    if (!given->data)
        return operator_needs_data(
            call, "input %d is computed at run time where a constant is needed", input);
    const size_t length = tensor_count(given);
    if (length > capacity)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "input %d has %zu values where at most %zu make sense", input, length,
                              capacity);
    if (length > 0)
        tensor_read_ints(given, 0, length, out);
    *count = length;
    return XAI_OK;
}
