#include <math.h>
#include <string.h>

#include "ops/resize.h"

static xai_status read_choice(const operator_call *call, const char *name, const char *const *names,
                              int count, int fallback, int *out)
{
    const char *text;
    const xai_status status = operator_attribute_text(call, name, names[fallback], &text);
    *out = fallback;
    if (status != XAI_OK)
        return status;
    for (int i = 0; i < count; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return XAI_OK;
        }
    return operator_error(call, XAI_ERROR_UNSUPPORTED, "%s '%s' is not known", name, text);
}

static bool is_upsample(const operator_call *call)
{
    return strcmp(call->definition->name, "Upsample") == 0;
}

/* Resize since opset 11: roi, sizes and the coordinate modes. */
static bool is_modern(const operator_call *call)
{
    return !is_upsample(call) && call->opset >= 11;
}

static xai_status read_attributes(const operator_call *call, resize *self)
{
    static const char *const modes[] = {"nearest", "linear", "cubic", "bilinear"};
    static const char *const transformations[] = {
        "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",  "align_corners",
        "asymmetric", "tf_crop_and_resize",   "tf_half_pixel_for_nn"};
    static const char *const roundings[] = {"round_prefer_floor", "round_prefer_ceil", "floor",
                                            "ceil"};
    int mode, coordinates = TRANSFORM_ASYMMETRIC, nearest = ROUND_BY_DIRECTION;
    int64_t antialias = 0, exclude = 0;
    float cubic = -0.75f, extrapolation = 0;
    xai_status status = read_choice(call, "mode", modes, 4, MODE_NEAREST, &mode);
    if (status == XAI_OK && is_modern(call)) {
        status = read_choice(call, "coordinate_transformation_mode", transformations, 7,
                             TRANSFORM_HALF_PIXEL, &coordinates);
        if (status == XAI_OK)
            status = read_choice(call, "nearest_mode", roundings, 4, ROUND_PREFER_FLOOR, &nearest);
        if (status == XAI_OK)
            status = operator_attribute_int(call, "antialias", 0, &antialias);
        if (status == XAI_OK)
            status = operator_attribute_int(call, "exclude_outside", 0, &exclude);
        if (status == XAI_OK)
            status = operator_attribute_float(call, "cubic_coeff_a", -0.75f, &cubic);
        if (status == XAI_OK)
            status = operator_attribute_float(call, "extrapolation_value", 0, &extrapolation);
    }
    self->mode = mode == 3 ? MODE_LINEAR : (resize_mode)mode;
    self->coordinates = (transformation)coordinates;
    self->nearest = (rounding)nearest;
    self->antialias = antialias != 0 && self->mode != MODE_NEAREST;
    self->exclude_outside = exclude != 0;
    self->cubic_a = (double)cubic;
    self->extrapolation = (double)extrapolation;
    return status;
}

/* The numbers of a constant input, or nothing when it is omitted or empty (as opset 11 writes an
 * absent input). */
static xai_status read_numbers(const operator_call *call, int input, double *out, size_t capacity,
                               size_t *count)
{
    *count = 0;
    if (!operator_has_input(call, input) || tensor_count(call->inputs[input]) == 0)
        return XAI_OK;
    const tensor *given = call->inputs[input];
    if (!given->data)
        return operator_needs_data(
            call, "input %d is computed at run time where a constant is needed", input);
    *count = tensor_count(given);
    if (given->shape.rank != 1 || *count > capacity)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "input %d has %zu values where at most %zu make sense", input, *count,
                              capacity);
    tensor_read_doubles(given, 0, *count, out);
    return XAI_OK;
}

/* The axes that scales, sizes and roi speak of: the attribute `axes` (opset 18), or all. */
static xai_status read_axes(const operator_call *call, int rank, int axes[SHAPE_MAX_RANK],
                            size_t *count)
{
    const int64_t *named = NULL;
    size_t length = 0;
    uint32_t used = 0;
    xai_status status = XAI_OK;
    if (call->opset >= 18)
        status = operator_attribute_ints(call, "axes", &named, &length);
    *count = length > 0 ? length : (size_t)rank;
    if (status == XAI_OK && *count > (size_t)rank)
        status = operator_error(call, XAI_ERROR_SHAPE, "%zu axes for %d dimensions", *count, rank);
    for (size_t i = 0; i < *count && status == XAI_OK; i++) {
        axes[i] = (int)i;
        if (length > 0)
            status = operator_axis(call, named[i], rank, &axes[i]);
        if (status == XAI_OK && (used >> axes[i] & 1))
            status = operator_error(call, XAI_ERROR_SHAPE, "axis %d is listed twice", axes[i]);
        used |= 1u << axes[i];
    }
    return status;
}

/* Upsample before opset 9 has its scales in an attribute. */
static xai_status read_scales(const operator_call *call, double *out, size_t *count)
{
    if (!is_upsample(call) || call->opset >= 9)
        return read_numbers(call, is_modern(call) ? 2 : 1, out, SHAPE_MAX_RANK, count);
    const onnx_attribute *scales = operator_attribute(call, "scales");
    *count = 0;
    if (!scales || scales->type != ONNX_ATTRIBUTE_FLOATS || scales->count > SHAPE_MAX_RANK)
        return operator_error(call, XAI_ERROR_FORMAT,
                              "attribute 'scales' is not a list of at most %d numbers",
                              SHAPE_MAX_RANK);
    *count = scales->count;
    for (size_t i = 0; i < scales->count; i++)
        out[i] = (double)scales->floats[i];
    return XAI_OK;
}

static xai_status apply_scales(const operator_call *call, resize *self, const int *axes,
                               const double *scales, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        resize_axis *axis = &self->axes[axes[i]];
        /* In single precision as the scales are: 3 times float(7 / 3) is 7 and not 6.99... */
        const double size = floor((double)((float)axis->in * (float)scales[i]));
        if (!(scales[i] > 0) || !(size >= 0 && size <= INT32_MAX))
            return operator_error(call, XAI_ERROR_SHAPE, "scale %g of axis %d with %lld elements",
                                  scales[i], axes[i], (long long)axis->in);
        axis->scale = scales[i];
        axis->out = (int64_t)size;
        axis->resized = true;
    }
    return XAI_OK;
}

static xai_status apply_sizes(const operator_call *call, resize *self, const int *axes,
                              const double *sizes, size_t count)
{
    static const char *const policies[] = {"stretch", "not_larger", "not_smaller"};
    int policy = 0;
    double common = 0;
    xai_status status = XAI_OK;
    if (call->opset >= 18)
        status = read_choice(call, "keep_aspect_ratio_policy", policies, 3, 0, &policy);
    for (size_t i = 0; i < count && status == XAI_OK; i++) {
        const double ratio = sizes[i] / (double)self->axes[axes[i]].in;
        if (!(sizes[i] >= 1 && sizes[i] <= INT32_MAX))
            status = operator_error(call, XAI_ERROR_SHAPE, "size %g of axis %d", sizes[i], axes[i]);
        common = i == 0 ? ratio : policy == 1 ? fmin(common, ratio) : fmax(common, ratio);
    }
    for (size_t i = 0; i < count && status == XAI_OK; i++) {
        resize_axis *axis = &self->axes[axes[i]];
        const double size = policy == 0 ? sizes[i] : floor(common * (double)axis->in + 0.5);
        if (!(size >= 1 && size <= INT32_MAX))
            return operator_error(call, XAI_ERROR_SHAPE, "axis %d would have size %g", axes[i],
                                  size);
        axis->out = (int64_t)size;
        axis->scale = policy == 0 ? size / (double)axis->in : common;
        axis->from_sizes = policy == 0;
        axis->resized = true;
    }
    return status;
}

static xai_status read_region(const operator_call *call, resize *self, const int *axes,
                              size_t count)
{
    double region[2 * SHAPE_MAX_RANK];
    size_t length;
    const xai_status status = read_numbers(call, 1, region, 2 * SHAPE_MAX_RANK, &length);
    if (status != XAI_OK)
        return status;
    if (length != 2 * count)
        return operator_error(call, XAI_ERROR_SHAPE, "roi has %zu values for %zu axes", length,
                              count);
    for (size_t i = 0; i < count; i++) {
        self->axes[axes[i]].begin = region[i];
        self->axes[axes[i]].end = region[i + count];
    }
    return XAI_OK;
}

xai_status resize_read(const operator_call *call, resize *self)
{
    char text[SHAPE_TEXT_SIZE];
    double scales[SHAPE_MAX_RANK], sizes[SHAPE_MAX_RANK];
    size_t axis_count = 0, scale_count = 0, size_count = 0;
    int axes[SHAPE_MAX_RANK] = {0};
    *self = (resize){.x = call->inputs[0]->shape, .y = call->inputs[0]->shape};
    xai_status status = read_attributes(call, self);
    for (int i = 0; i < self->x.rank; i++)
        self->axes[i] =
            (resize_axis){.in = self->x.dims[i], .out = self->x.dims[i], .scale = 1, .end = 1};
    if (status == XAI_OK)
        status = read_axes(call, self->x.rank, axes, &axis_count);
    if (status == XAI_OK)
        status = read_scales(call, scales, &scale_count);
    if (status == XAI_OK && is_modern(call))
        status = read_numbers(call, 3, sizes, SHAPE_MAX_RANK, &size_count);
    if (status != XAI_OK)
        return status;
    if ((scale_count > 0) == (size_count > 0) ||
        (scale_count > 0 ? scale_count : size_count) != axis_count)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "%zu scales and %zu sizes for %zu axes of an input of shape %s",
                              scale_count, size_count, axis_count, shape_text(&self->x, text));
    for (size_t i = 0; i < axis_count; i++)
        if (self->axes[axes[i]].in < 1 || self->axes[axes[i]].in > INT32_MAX)
            return operator_error(call, XAI_ERROR_SHAPE, "cannot resize an input of shape %s",
                                  shape_text(&self->x, text));
    status = scale_count > 0 ? apply_scales(call, self, axes, scales, axis_count)
                             : apply_sizes(call, self, axes, sizes, axis_count);
    if (status == XAI_OK && self->coordinates == TRANSFORM_CROP_AND_RESIZE)
        status = read_region(call, self, axes, axis_count);
    for (int i = 0; i < self->x.rank && status == XAI_OK; i++) {
        self->y.dims[i] = self->axes[i].out;
        if (self->y.dims[i] < 1 && self->x.dims[i] > 0)
            status = operator_error(call, XAI_ERROR_SHAPE,
                                    "dimension %d of the output would be empty", i);
    }
    return status;
}
