/* Operators that change the shape alone: Reshape, Flatten, Squeeze, Unsqueeze, Identity, Dropout;
 * Shape and Size. */
#include <string.h>

#include "ops/families.h"
#include "ops/mapping.h"

/* The same bytes under another shape, forward and backward. */
static void copy_bytes(const tensor *from, tensor *to)
{
    const size_t bytes = tensor_bytes(to);
    if (bytes > 0 && from->data != to->data)
        memcpy(to->data, from->data, bytes);
}

static xai_status view_forward(operator_call *call)
{
    if (call->outputs[0])
        copy_bytes(call->inputs[0], call->outputs[0]);
    return XAI_OK;
}

static xai_status view_backward(operator_call *call)
{
    tensor *wanted = operator_wanted_gradient(call, 0);
    const tensor *given = operator_output_gradient(call, 0);
    if (wanted && given)
        copy_bytes(given, wanted);
    else if (wanted)
        operator_zero(wanted);
    return XAI_OK;
}

static xai_status check_view(const operator_call *call)
{
    const xai_status status = operator_check(call);
    return status == XAI_OK ? movement_check(call, 0) : status;
}

/* --- Reshape --- */

static xai_status reshape_fail(const operator_call *call, const shape *asked)
{
    char x_text[SHAPE_TEXT_SIZE], y_text[SHAPE_TEXT_SIZE];
    return operator_error(call, XAI_ERROR_SHAPE, "cannot reshape %s to %s",
                          shape_text(&call->inputs[0]->shape, x_text), shape_text(asked, y_text));
}

/* 0 copies the dimension of the input unless allowzero; one -1 takes what is left. */
static xai_status reshape_infer(operator_call *call)
{
    int64_t allow_zero;
    size_t length, count, known;
    shape y = {0};
    int open = -1;
    xai_status status = check_view(call);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "allowzero", 0, &allow_zero);
    if (status == XAI_OK)
        status = operator_constant_ints(call, 1, y.dims, SHAPE_MAX_RANK, &length);
    if (status != XAI_OK)
        return status;
    const shape *x = &call->inputs[0]->shape;
    y.rank = (int)length;
    const shape asked = y;
    bool zero = false;
    for (int i = 0; i < y.rank; i++) {
        if (y.dims[i] < -1 || (y.dims[i] == -1 && open >= 0))
            return reshape_fail(call, &asked);
        if (y.dims[i] == 0 && allow_zero)
            zero = true;
        else if (y.dims[i] == 0 && i >= x->rank)
            return reshape_fail(call, &asked);
        else if (y.dims[i] == 0)
            y.dims[i] = x->dims[i];
        if (y.dims[i] == -1)
            open = i;
    }
    if (!shape_count(x, &count) || (zero && open >= 0))
        return reshape_fail(call, &asked);
    if (open >= 0)
        y.dims[open] = 1;
    if (!shape_count(&y, &known))
        return reshape_fail(call, &asked);
    if (open >= 0 && known > 0 && count % known == 0)
        y.dims[open] = (int64_t)(count / known);
    else if (open >= 0 ? known > 0 || count > 0 : count != known)
        return reshape_fail(call, &asked);
    else if (open >= 0)
        y.dims[open] = 0; /* an empty tensor */
    return movement_infer(call, &y);
}

/* --- Flatten: (product of the axes before, product of the others) --- */

static xai_status flatten_infer(operator_call *call)
{
    int64_t axis;
    xai_status status = check_view(call);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "axis", 1, &axis);
    if (status != XAI_OK)
        return status;
    const shape *x = &call->inputs[0]->shape;
    if (axis < -(int64_t)x->rank || axis > x->rank)
        return operator_error(call, XAI_ERROR_SHAPE, "axis %lld is outside [%d, %d]",
                              (long long)axis, -x->rank, x->rank);
    if (axis < 0)
        axis += x->rank;
    shape y = {.rank = 2, .dims = {1, 1}};
    for (int i = 0; i < x->rank; i++)
        if (__builtin_mul_overflow(y.dims[i >= axis], x->dims[i], &y.dims[i >= axis]))
            return operator_error(call, XAI_ERROR_SHAPE, "dimensions overflow when flattened");
    return movement_infer(call, &y);
}

/* --- Squeeze and Unsqueeze --- */

/* The axes as bits, for a tensor of `rank` dimensions; *given is false when there are none. */
static xai_status read_axes(const operator_call *call, int extra, uint32_t *bits, size_t *count,
                            bool *given)
{
    int64_t axes[SHAPE_MAX_RANK];
    *bits = 0;
    xai_status status =
        movement_ints(call, call->opset < 13, "axes", 1, axes, SHAPE_MAX_RANK, count, given);
    const int rank = call->inputs[0]->shape.rank + (extra ? (int)*count : 0);
    if (status == XAI_OK && rank > SHAPE_MAX_RANK)
        status = operator_error(call, XAI_ERROR_UNSUPPORTED,
                                "the result would have more than %d dimensions", SHAPE_MAX_RANK);
    for (size_t i = 0; i < *count && status == XAI_OK; i++) {
        int axis;
        status = operator_axis(call, axes[i], rank, &axis);
        if (status == XAI_OK && (*bits >> axis & 1) && extra)
            status = operator_error(call, XAI_ERROR_SHAPE, "axis %d is listed twice", axis);
        if (status == XAI_OK)
            *bits |= 1u << axis;
    }
    return status;
}

static xai_status squeeze_infer(operator_call *call)
{
    char text[SHAPE_TEXT_SIZE];
    uint32_t bits = 0;
    size_t count;
    bool given;
    shape y = {0};
    xai_status status = check_view(call);
    if (status == XAI_OK)
        status = read_axes(call, 0, &bits, &count, &given);
    if (status != XAI_OK)
        return status;
    const shape *x = &call->inputs[0]->shape;
    for (int i = 0; i < x->rank; i++) {
        if (given && (bits >> i & 1) && x->dims[i] != 1)
            return operator_error(call, XAI_ERROR_SHAPE, "axis %d of shape %s is not 1", i,
                                  shape_text(x, text));
        if (given ? !(bits >> i & 1) : x->dims[i] != 1)
            y.dims[y.rank++] = x->dims[i];
    }
    return movement_infer(call, &y);
}

static xai_status unsqueeze_infer(operator_call *call)
{
    uint32_t bits = 0;
    size_t count;
    bool given;
    xai_status status = check_view(call);
    if (status == XAI_OK)
        status = read_axes(call, 1, &bits, &count, &given);
    if (status == XAI_OK && !given)
        status = operator_error(call, XAI_ERROR_FORMAT, "axes are missing");
    if (status != XAI_OK)
        return status;
    const shape *x = &call->inputs[0]->shape;
    shape y = {.rank = x->rank + (int)count};
    for (int i = 0, from = 0; i < y.rank; i++)
        y.dims[i] = bits >> i & 1 ? 1 : x->dims[from++];
    return movement_infer(call, &y);
}

/* --- Identity and Dropout (inference) --- */

static xai_status identity_infer(operator_call *call)
{
    const xai_status status = check_view(call);
    return status == XAI_OK ? movement_infer(call, &call->inputs[0]->shape) : status;
}

/* Training mode with a ratio above zero is random and therefore refused. */
static xai_status dropout_infer(operator_call *call)
{
    xai_status status = check_view(call);
    if (status == XAI_OK && operator_has_input(call, 2)) {
        const tensor *mode = call->inputs[2],
                     *ratio = operator_has_input(call, 1) ? call->inputs[1] : NULL;
        if (!mode->data || tensor_count(mode) != 1)
            return operator_error(
                call, XAI_ERROR_UNSUPPORTED,
                "training_mode is computed at run time where a constant is needed");
        if (tensor_get(mode, 0) != 0 &&
            !(ratio && ratio->data && tensor_count(ratio) == 1 && tensor_get(ratio, 0) == 0))
            return operator_error(
                call, XAI_ERROR_UNSUPPORTED,
                "training_mode is on: export the model for inference, where dropout does nothing");
    }
    if (status == XAI_OK)
        status = movement_infer(call, &call->inputs[0]->shape);
    if (status == XAI_OK)
        status =
            operator_set_output(call, 1, call->opset < 10 ? call->inputs[0]->dtype : DTYPE_BOOL,
                                &call->inputs[0]->shape);
    return status;
}

static xai_status dropout_forward(operator_call *call)
{
    tensor *mask = operator_output(call, 1);
    if (mask && tensor_count(mask) > 0)
        operator_fill(mask, 1);
    return view_forward(call);
}

/* --- Shape and Size --- */

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* Dimensions [*begin, *end) are listed. */
static xai_status shape_range(const operator_call *call, int *begin, int *end)
{
    const int rank = call->inputs[0]->shape.rank;
    int64_t first, last;
    xai_status status = operator_attribute_int(call, "start", 0, &first);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "end", rank, &last);
    if (status != XAI_OK)
        return status;
    *begin = (int)clamp(first < 0 ? first + rank : first, 0, rank);
    *end = (int)clamp(last < 0 ? last + rank : last, *begin, rank);
    return status;
}

static xai_status shape_infer(operator_call *call)
{
    int begin = 0, end = 0;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = shape_range(call, &begin, &end);
    const shape y = shape_make(1, (const int64_t[]){end - begin});
    return status == XAI_OK ? operator_set_output(call, 0, DTYPE_INT64, &y) : status;
}

static xai_status shape_forward(operator_call *call)
{
    int begin = 0, end = 0;
    const xai_status status = shape_range(call, &begin, &end);
    for (int i = begin; i < end && status == XAI_OK; i++)
        tensor_set_int(call->outputs[0], (size_t)(i - begin), call->inputs[0]->shape.dims[i]);
    return status;
}

static xai_status size_infer(operator_call *call)
{
    const shape scalar = {0};
    const xai_status status = operator_check(call);
    return status == XAI_OK ? operator_set_output(call, 0, DTYPE_INT64, &scalar) : status;
}

static xai_status size_forward(operator_call *call)
{
    tensor_set_int(call->outputs[0], 0, (int64_t)tensor_count(call->inputs[0]));
    return XAI_OK;
}

#define VIEW(symbol, title, first_opset, least, most, outputs, forward_function) \
    const operator_definition operator_##symbol = {                              \
        .name = title,                                                           \
        .domain = "",                                                            \
        .min_inputs = least,                                                     \
        .max_inputs = most,                                                      \
        .min_outputs = 1,                                                        \
        .max_outputs = outputs,                                                  \
        .since = first_opset,                                                    \
        .flags = OPERATOR_VIEW,                                                  \
        .infer = symbol##_infer,                                                 \
        .forward = forward_function,                                             \
        .backward = view_backward,                                               \
    }

VIEW(reshape, "Reshape", 5, 2, 2, 1, view_forward);
VIEW(flatten, "Flatten", 1, 1, 1, 1, view_forward);
VIEW(squeeze, "Squeeze", 1, 1, 2, 1, view_forward);
VIEW(unsqueeze, "Unsqueeze", 1, 1, 2, 1, view_forward);
VIEW(identity, "Identity", 1, 1, 1, 1, view_forward);
VIEW(dropout, "Dropout", 7, 1, 3, 2, dropout_forward);

#define FACT(symbol, title)                         \
    const operator_definition operator_##symbol = { \
        .name = title,                              \
        .domain = "",                               \
        .min_inputs = 1,                            \
        .max_inputs = 1,                            \
        .min_outputs = 1,                           \
        .max_outputs = 1,                           \
        .since = 1,                                 \
        .infer = symbol##_infer,                    \
        .forward = symbol##_forward,                \
    }

FACT(shape, "Shape");
FACT(size, "Size");
