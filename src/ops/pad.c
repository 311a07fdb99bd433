/* Pad: constant, reflect, edge and wrap, with negative amounts that remove elements. */
#include <string.h>

#include "ops/families.h"
#include "ops/mapping.h"

typedef enum pad_mode { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP } pad_mode;

typedef struct padding {
    pad_mode mode;
    int64_t begin[SHAPE_MAX_RANK], end[SHAPE_MAX_RANK];
    shape y;
} padding;

static xai_status read_mode(const operator_call *call, pad_mode *out)
{
    static const char *const names[] = {"constant", "reflect", "edge", "wrap"};
    const char *text;
    const xai_status status = operator_attribute_text(call, "mode", "constant", &text);
    *out = PAD_CONSTANT;
    if (status != XAI_OK)
        return status;
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (pad_mode)i;
            return XAI_OK;
        }
    return operator_error(call, XAI_ERROR_UNSUPPORTED,
                          "mode '%s' is not constant, reflect, edge or wrap", text);
}

/* [begin..., end...] for the axes listed by input 3, or for all. */
static xai_status read_amounts(const operator_call *call, padding *self)
{
    const int rank = call->inputs[0]->shape.rank;
    int64_t amounts[2 * SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK];
    size_t count, axis_count = (size_t)rank;
    bool given, has_axes = false, used[SHAPE_MAX_RANK] = {false};
    xai_status status = movement_ints(call, call->opset < 11, "pads", 1, amounts,
                                      2 * SHAPE_MAX_RANK, &count, &given);
    if (status == XAI_OK && call->opset >= 18)
        status =
            movement_ints(call, false, "axes", 3, axes, SHAPE_MAX_RANK, &axis_count, &has_axes);
    if (status != XAI_OK)
        return status;
    if (!has_axes)
        axis_count = (size_t)rank;
    if (!given || count != 2 * axis_count)
        return operator_error(call, XAI_ERROR_SHAPE, "%zu pads for %zu axes", count, axis_count);
    for (size_t i = 0; i < axis_count; i++) {
        int axis = (int)i;
        if (has_axes)
            status = operator_axis(call, axes[i], rank, &axis);
        if (status != XAI_OK)
            return status;
        if (used[axis])
            return operator_error(call, XAI_ERROR_SHAPE, "axis %d is listed twice", axis);
        used[axis] = true;
        self->begin[axis] = amounts[i];
        self->end[axis] = amounts[i + axis_count];
    }
    return XAI_OK;
}

static xai_status pad_read(const operator_call *call, padding *self)
{
    char text[SHAPE_TEXT_SIZE];
    const shape *x = &call->inputs[0]->shape;
    *self = (padding){.y = *x};
    xai_status status = read_mode(call, &self->mode);
    if (status == XAI_OK)
        status = read_amounts(call, self);
    for (int i = 0; i < x->rank && status == XAI_OK; i++) {
        int64_t *dim = &self->y.dims[i];
        const int64_t begin = self->begin[i], end = self->end[i];
        /* Elements that are left after removal: what the other modes take their values from. */
        const int64_t low = begin < 0 ? begin : 0, high = end < 0 ? end : 0;
        int64_t kept = 0;
        bool fits = !__builtin_add_overflow(*dim, begin, dim) &&
                    !__builtin_add_overflow(*dim, end, dim) && *dim >= 0;
        fits = fits && !__builtin_add_overflow(x->dims[i], low, &kept) &&
               !__builtin_add_overflow(kept, high, &kept);
        if (fits && self->mode != PAD_CONSTANT)
            fits = *dim == 0 || kept > 0;
        if (!fits)
            status = operator_error(call, XAI_ERROR_SHAPE,
                                    "cannot pad dimension %d of %s by %lld and %lld", i,
                                    shape_text(x, text), (long long)begin, (long long)end);
    }
    return status;
}

/* Input index of position `at` relative to the first kept element of `size` kept ones, which start
 * at `first`. */
static int64_t source_index(pad_mode mode, int64_t at, int64_t first, int64_t size)
{
    if (at >= 0 && at < size)
        return first + at;
    if (mode == PAD_CONSTANT)
        return MAPPING_FILL;
    if (mode == PAD_EDGE)
        return first + (at < 0 ? 0 : size - 1);
    /* reflect: the border is not repeated, and long pads bounce to and fro */
    const int64_t period = mode == PAD_WRAP ? size : size > 1 ? 2 * (size - 1) : 1;
    const int64_t phase = (at % period + period) % period;
    return first + (phase < size ? phase : period - phase);
}

static xai_status pad_mapping(const operator_call *call, mapping *map)
{
    padding self;
    *map = mapping_identity(&call->inputs[0]->shape);
    xai_status status = pad_read(call, &self);
    for (int i = 0; i < map->in.rank && status == XAI_OK; i++) {
        const int64_t begin = self.begin[i], end = self.end[i];
        if (begin == 0 && end == 0)
            continue;
        const int64_t first = begin < 0 ? -begin : 0,
                      size = map->in.dims[i] - first + (end < 0 ? end : 0);
        status = mapping_axis(call, map, i, self.y.dims[i]);
        for (int64_t o = 0; status == XAI_OK && o < self.y.dims[i]; o++)
            map->maps[i][o] = source_index(self.mode, o - (begin > 0 ? begin : 0), first, size);
    }
    return status;
}

/* The fill value as one element of the data's type, in `out` (a tensor whose data has room). */
static xai_status read_fill(const operator_call *call, tensor *out)
{
    float value;
    memset(out->data, 0, dtype_size(out->dtype));
    if (call->opset < 11) {
        const xai_status status = operator_attribute_float(call, "value", 0, &value);
        if (status == XAI_OK)
            tensor_set(out, 0, (double)value);
        return status;
    }
    if (!operator_has_input(call, 2) || tensor_count(call->inputs[2]) == 0)
        return XAI_OK;
    memcpy(out->data, call->inputs[2]->data, dtype_size(out->dtype));
    return XAI_OK;
}

xai_status operator_pad_begins(const operator_call *call, int64_t begins[SHAPE_MAX_RANK],
                               bool *zeros)
{
    padding self;
    uint64_t element;
    tensor fill = {.dtype = call->inputs[0]->dtype, .data = &element}; /* a scalar */
    xai_status status = pad_read(call, &self);
    *zeros = false;
    if (status != XAI_OK)
        return status;
    for (int i = 0; i < call->inputs[0]->shape.rank; i++)
        begins[i] = self.begin[i];
    if (self.mode != PAD_CONSTANT ||
        (call->opset >= 11 && operator_has_input(call, 2) && !call->inputs[2]->data))
        return XAI_OK;
    status = read_fill(call, &fill);
    *zeros = status == XAI_OK && tensor_get(&fill, 0) == 0;
    return status;
}

static xai_status pad_infer(operator_call *call)
{
    padding self;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = movement_check(call, 0);
    if (status == XAI_OK && operator_has_input(call, 2)) {
        status = operator_check_same_type(call, 0, 2);
        if (status == XAI_OK && tensor_count(call->inputs[2]) > 1)
            status = operator_error(call, XAI_ERROR_SHAPE, "the fill value has %zu elements",
                                    tensor_count(call->inputs[2]));
    }
    if (status == XAI_OK)
        status = pad_read(call, &self);
    return status == XAI_OK ? movement_infer(call, &self.y) : status;
}

static xai_status pad_forward(operator_call *call)
{
    uint64_t element;
    tensor fill = {.dtype = call->inputs[0]->dtype, .data = &element}; /* a scalar */
    mapping map;
    xai_status status = pad_mapping(call, &map);
    if (status == XAI_OK)
        status = read_fill(call, &fill);
    if (status == XAI_OK)
        mapping_forward(&map, call->inputs[0], fill.data, call->outputs[0]);
    mapping_drop(&map);
    return status;
}

static xai_status pad_backward(operator_call *call)
{
    return movement_run(call, pad_mapping, true);
}

/* Reads the constants `pads` and `axes`, not the fill value. */
MOVEMENT(pad, "Pad", 2, 1, 4, 1, 0, OPERATOR_READS_INPUT(1) | OPERATOR_READS_INPUT(3));
