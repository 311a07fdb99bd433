/* Parts and repetitions of a tensor: Slice, Expand, Tile, Trilu. */
#include <string.h>

#include "ops/families.h"
#include "ops/mapping.h"

/* --- Slice --- */

/* One axis: first index, signed step and number of elements. Bounds are clamped to the dimension:
 * unlike in Python a start before the first element is the first element for negative steps too. */
typedef struct slice_axis {
    int64_t start, step, count;
} slice_axis;

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static slice_axis slice_resolve(int64_t dim, int64_t start, int64_t end, int64_t step)
{
    const bool down = step < 0;
    if (dim == 0)
        return (slice_axis){0, 1, 0};
    const int64_t longest =
        dim < INT64_MAX ? dim + 1 : dim; /* longer steps reach no second element either */
    step = clamp(step, -longest, longest);
    start = start < 0 ? start + dim : start;
    end = end < 0 ? end + dim : end;
    start = clamp(start, 0, down ? dim - 1 : dim);
    end = down ? clamp(end, -1, dim - 1) : clamp(end, 0, dim);
    const int64_t span = down ? start - end : end - start, stride = down ? -step : step;
    return (slice_axis){start, step, span <= 0 ? 0 : (span - 1) / stride + 1};
}

static xai_status slice_read(const operator_call *call, slice_axis axes[SHAPE_MAX_RANK], shape *out)
{
    const shape *x = &call->inputs[0]->shape;
    const bool attributes = call->opset < 10;
    int64_t starts[SHAPE_MAX_RANK], ends[SHAPE_MAX_RANK], named[SHAPE_MAX_RANK],
        steps[SHAPE_MAX_RANK];
    size_t count, end_count, axis_count, step_count;
    bool given, has_axes, has_steps = false, used[SHAPE_MAX_RANK] = {false};
    xai_status status =
        movement_ints(call, attributes, "starts", 1, starts, SHAPE_MAX_RANK, &count, &given);
    if (status == XAI_OK && given)
        status =
            movement_ints(call, attributes, "ends", 2, ends, SHAPE_MAX_RANK, &end_count, &given);
    if (status == XAI_OK)
        status = movement_ints(call, attributes, "axes", 3, named, SHAPE_MAX_RANK, &axis_count,
                               &has_axes);
    if (status == XAI_OK && !attributes)
        status =
            movement_ints(call, false, "steps", 4, steps, SHAPE_MAX_RANK, &step_count, &has_steps);
    if (status != XAI_OK)
        return status;
    if (!given)
        return operator_error(call, XAI_ERROR_FORMAT, "starts or ends are missing");
    if (end_count != count || (has_axes && axis_count != count) ||
        (has_steps && step_count != count) || (!has_axes && count > (size_t)x->rank))
        return operator_error(call, XAI_ERROR_SHAPE,
                              "starts, ends, axes and steps differ in length");
    *out = *x;
    for (int i = 0; i < x->rank; i++)
        axes[i] = (slice_axis){0, 1, x->dims[i]};
    for (size_t i = 0; i < count; i++) {
        int axis = (int)i;
        if (has_axes)
            status = operator_axis(call, named[i], x->rank, &axis);
        if (status != XAI_OK)
            return status;
        if (used[axis] || (has_steps && steps[i] == 0))
            return operator_error(
                call, XAI_ERROR_SHAPE,
                used[axis] ? "axis %d is listed twice" : "the step of axis %d is 0", axis);
        used[axis] = true;
        axes[axis] = slice_resolve(x->dims[axis], starts[i], ends[i], has_steps ? steps[i] : 1);
        out->dims[axis] = axes[axis].count;
    }
    return XAI_OK;
}

xai_status operator_slice_steps(const operator_call *call, int64_t starts[SHAPE_MAX_RANK],
                                int64_t steps[SHAPE_MAX_RANK])
{
    slice_axis axes[SHAPE_MAX_RANK];
    shape y;
    const xai_status status = slice_read(call, axes, &y);
    for (int i = 0; status == XAI_OK && i < y.rank; i++) {
        starts[i] = axes[i].start;
        steps[i] = axes[i].step;
    }
    return status;
}

static xai_status slice_mapping(const operator_call *call, mapping *out)
{
    slice_axis axes[SHAPE_MAX_RANK];
    shape y;
    *out = mapping_identity(&call->inputs[0]->shape);
    xai_status status = slice_read(call, axes, &y);
    for (int i = 0; i < out->in.rank && status == XAI_OK; i++) {
        if (axes[i].count == out->in.dims[i] && axes[i].step == 1)
            continue;
        status = mapping_axis(call, out, i, axes[i].count);
        for (int64_t o = 0; status == XAI_OK && o < axes[i].count; o++)
            out->maps[i][o] = axes[i].start + o * axes[i].step;
    }
    return status;
}

static xai_status slice_infer(operator_call *call)
{
    slice_axis axes[SHAPE_MAX_RANK];
    shape y;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = movement_check(call, 0);
    if (status == XAI_OK)
        status = slice_read(call, axes, &y);
    return status == XAI_OK ? movement_infer(call, &y) : status;
}

static xai_status slice_forward(operator_call *call)
{
    return movement_run(call, slice_mapping, false);
}

static xai_status slice_backward(operator_call *call)
{
    return movement_run(call, slice_mapping, true);
}

/* --- Expand --- */

/* The input's shape with ones in front, and the shape that it is repeated to. */
static xai_status expand_read(const operator_call *call, shape *in, shape *out)
{
    const shape *x = &call->inputs[0]->shape;
    shape asked = {0};
    size_t count;
    xai_status status = operator_constant_ints(call, 1, asked.dims, SHAPE_MAX_RANK, &count);
    if (status != XAI_OK)
        return status;
    asked.rank = (int)count;
    for (int i = 0; i < asked.rank; i++)
        if (asked.dims[i] < 0)
            return operator_error(call, XAI_ERROR_SHAPE, "the shape has the negative value %lld",
                                  (long long)asked.dims[i]);
    status = operator_broadcast(call, x, &asked, out);
    if (status != XAI_OK)
        return status;
    *in = (shape){.rank = out->rank};
    for (int i = 0; i < out->rank; i++)
        in->dims[i] = i < out->rank - x->rank ? 1 : x->dims[i - (out->rank - x->rank)];
    return XAI_OK;
}

static xai_status expand_mapping(const operator_call *call, mapping *map)
{
    shape in = {0}, y;
    *map = (mapping){0};
    xai_status status = expand_read(call, &in, &y);
    if (status == XAI_OK)
        *map = mapping_identity(&in);
    for (int i = 0; i < in.rank && status == XAI_OK; i++) {
        if (in.dims[i] == y.dims[i])
            continue;
        status = mapping_axis(call, map, i, y.dims[i]);
        if (status == XAI_OK)
            memset(map->maps[i], 0, (size_t)y.dims[i] * sizeof *map->maps[i]);
    }
    return status;
}

static xai_status expand_infer(operator_call *call)
{
    shape in, y;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = movement_check(call, 0);
    if (status == XAI_OK)
        status = expand_read(call, &in, &y);
    return status == XAI_OK ? movement_infer(call, &y) : status;
}

static xai_status expand_forward(operator_call *call)
{
    return movement_run(call, expand_mapping, false);
}

static xai_status expand_backward(operator_call *call)
{
    return movement_run(call, expand_mapping, true);
}

/* --- Tile --- */

static xai_status tile_read(const operator_call *call, shape *out)
{
    const shape *x = &call->inputs[0]->shape;
    int64_t repeats[SHAPE_MAX_RANK];
    size_t count;
    const xai_status status = operator_constant_ints(call, 1, repeats, SHAPE_MAX_RANK, &count);
    if (status != XAI_OK)
        return status;
    if (count != (size_t)x->rank)
        return operator_error(call, XAI_ERROR_SHAPE, "%zu repeats for a tensor with %d dimensions",
                              count, x->rank);
    *out = *x;
    for (int i = 0; i < x->rank; i++)
        if (repeats[i] < 0 || __builtin_mul_overflow(x->dims[i], repeats[i], &out->dims[i]))
            return operator_error(call, XAI_ERROR_SHAPE, "cannot repeat dimension %d %lld times", i,
                                  (long long)repeats[i]);
    return XAI_OK;
}

static xai_status tile_mapping(const operator_call *call, mapping *map)
{
    shape y;
    *map = mapping_identity(&call->inputs[0]->shape);
    xai_status status = tile_read(call, &y);
    for (int i = 0; i < map->in.rank && status == XAI_OK; i++) {
        if (y.dims[i] == map->in.dims[i])
            continue;
        status = mapping_axis(call, map, i, y.dims[i]);
        for (int64_t o = 0; status == XAI_OK && o < y.dims[i]; o++)
            map->maps[i][o] = o % map->in.dims[i];
    }
    return status;
}

static xai_status tile_infer(operator_call *call)
{
    shape y;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = movement_check(call, 0);
    if (status == XAI_OK)
        status = tile_read(call, &y);
    return status == XAI_OK ? movement_infer(call, &y) : status;
}

static xai_status tile_forward(operator_call *call)
{
    return movement_run(call, tile_mapping, false);
}

static xai_status tile_backward(operator_call *call)
{
    return movement_run(call, tile_mapping, true);
}

/* --- Compress: the entries along an axis (without one: of all elements in a row) whose condition holds; a short condition
 * leaves the rest out --- */

static xai_status compress_mapping(const operator_call *call, mapping *map)
{
    const tensor *condition = call->inputs[1];
    const onnx_attribute *along = operator_attribute(call, "axis");
    shape x = call->inputs[0]->shape;
    int64_t named = 0, kept = 0, at = 0;
    int axis = 0;
    *map = (mapping){0};
    xai_status status = operator_attribute_int(call, "axis", 0, &named);
    if (status == XAI_OK && along)
        status = operator_axis(call, named, x.rank, &axis);
    else if (status == XAI_OK)
        x = shape_make(1, (const int64_t[]){(int64_t)tensor_count(call->inputs[0])});
    if (status != XAI_OK)
        return status;
    if (condition->shape.rank != 1 || condition->shape.dims[0] > x.dims[axis])
        return operator_error(call, XAI_ERROR_SHAPE,
                              "the condition is not one list of at most %lld values",
                              (long long)x.dims[axis]);
    if (!condition->data)
        return operator_needs_data(call, "the condition is computed at run time");
    for (int64_t i = 0; i < condition->shape.dims[0]; i++)
        kept += tensor_get_int(condition, (size_t)i) != 0;
    *map = mapping_identity(&x);
    status = mapping_axis(call, map, axis, kept);
    for (int64_t i = 0; status == XAI_OK && i < condition->shape.dims[0]; i++)
        if (tensor_get_int(condition, (size_t)i) != 0)
            map->maps[axis][at++] = i;
    return status;
}

static xai_status compress_infer(operator_call *call)
{
    mapping map = {0};
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = movement_check(call, 0);
    if (status == XAI_OK)
        status = operator_check_type(call, 1, TYPES_BOOL);
    if (status == XAI_OK)
        status = compress_mapping(call, &map);
    if (status == XAI_OK)
        status = movement_infer(call, &map.out);
    mapping_drop(&map);
    return status;
}

static xai_status compress_forward(operator_call *call)
{
    return movement_run(call, compress_mapping, false);
}

static xai_status compress_backward(operator_call *call)
{
    return movement_run(call, compress_mapping, true);
}

/* --- Trilu --- */

static xai_status trilu_read(const operator_call *call, bool *upper, int64_t *k)
{
    int64_t flag = 1;
    size_t count = 0;
    *k = 0;
    xai_status status = operator_attribute_int(call, "upper", 1, &flag);
    if (status == XAI_OK && operator_has_input(call, 1))
        status = operator_constant_ints(call, 1, k, 1, &count);
    *upper = flag != 0;
    return status;
}

static xai_status trilu_infer(operator_call *call)
{
    char text[SHAPE_TEXT_SIZE];
    bool upper;
    int64_t k;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = movement_check(call, 0);
    if (status == XAI_OK && call->inputs[0]->shape.rank < 2)
        status = operator_error(call, XAI_ERROR_SHAPE, "input of shape %s is not a matrix",
                                shape_text(&call->inputs[0]->shape, text));
    if (status == XAI_OK)
        status = trilu_read(call, &upper, &k);
    return status == XAI_OK ? movement_infer(call, &call->inputs[0]->shape) : status;
}

/* y = x on the kept triangle (upper: column - row >= k; lower: <= k), zero elsewhere; the gradient
 * likewise. */
static xai_status trilu_apply(const operator_call *call, const tensor *x, tensor *y)
{
    bool upper;
    int64_t k;
    const xai_status status = trilu_read(call, &upper, &k);
    if (status != XAI_OK)
        return status;
    const size_t size = dtype_size(y->dtype), bytes = tensor_bytes(y);
    const int64_t rows = y->shape.dims[y->shape.rank - 2],
                  columns = y->shape.dims[y->shape.rank - 1];
    unsigned char *to = y->data;
    if (bytes == 0)
        return XAI_OK;
    k = clamp(k, -rows - 1, columns + 1);
    memcpy(to, x->data, bytes);
    for (unsigned char *end = to + bytes; to < end;)
        for (int64_t i = 0; i < rows; i++, to += (size_t)columns * size) {
            const int64_t border = clamp(upper ? i + k : i + k + 1, 0, columns);
            if (upper)
                memset(to, 0, (size_t)border * size);
            else
                memset(to + (size_t)border * size, 0, (size_t)(columns - border) * size);
        }
    return XAI_OK;
}

static xai_status trilu_forward(operator_call *call)
{
    return trilu_apply(call, call->inputs[0], call->outputs[0]);
}

static xai_status trilu_backward(operator_call *call)
{
    tensor *wanted = operator_wanted_gradient(call, 0);
    const tensor *given = operator_output_gradient(call, 0);
    if (!wanted)
        return XAI_OK;
    if (given)
        return trilu_apply(call, given, wanted);
    operator_zero(wanted);
    return XAI_OK;
}

/* What is read besides gradients are constants: bounds, shapes, repeats. */
MOVEMENT(slice, "Slice", 1, 1, 5, 1, 0,
         OPERATOR_READS_INPUT(1) | OPERATOR_READS_INPUT(2) | OPERATOR_READS_INPUT(3) |
             OPERATOR_READS_INPUT(4));
MOVEMENT(expand, "Expand", 8, 2, 2, 1, 0, OPERATOR_READS_INPUT(1));
MOVEMENT(tile, "Tile", 6, 2, 2, 1, 0, OPERATOR_READS_INPUT(1));
MOVEMENT(compress, "Compress", 9, 2, 2, 1, 0, OPERATOR_READS_INPUT(1));
MOVEMENT(trilu, "Trilu", 14, 1, 2, 1, 0, OPERATOR_READS_INPUT(1));
