/* Resize and Upsample.
 *
 * Interpolation is separable: along one axis after the other, out[o] = sum_t weight[o, t] in[index[o, t]]. An axis is
 * described by that table of taps; nearest has 1, linear 2, cubic 4, antialiased filters more. */
#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/support.h"

typedef enum resize_mode { MODE_NEAREST, MODE_LINEAR, MODE_CUBIC } resize_mode;

typedef enum transformation {
    TRANSFORM_HALF_PIXEL,
    TRANSFORM_HALF_PIXEL_SYMMETRIC,
    TRANSFORM_PYTORCH_HALF_PIXEL,
    TRANSFORM_ALIGN_CORNERS,
    TRANSFORM_ASYMMETRIC,
    TRANSFORM_CROP_AND_RESIZE,
    TRANSFORM_HALF_PIXEL_FOR_NEAREST, /* opset 11 alone */
} transformation;

typedef enum rounding {
    ROUND_PREFER_FLOOR,
    ROUND_PREFER_CEIL,
    ROUND_FLOOR,
    ROUND_CEIL,
    ROUND_BY_DIRECTION, /* before opset 11: floor when enlarging, ceil when shrinking */
} rounding;

typedef struct resize_axis {
    bool resized;
    bool from_sizes;       /* scale is out / in */
    int64_t in, out;
    double scale;
    double begin, end;     /* region of interest, normalised */
} resize_axis;

typedef struct resize {
    resize_mode mode;
    transformation coordinates;
    rounding nearest;
    bool antialias, exclude_outside;
    double cubic_a, extrapolation;
    resize_axis axes[SHAPE_MAX_RANK];
    shape x, y;
} resize;

/* --- Reading a call --- */

static xai_status read_choice(const operator_call *call, const char *name, const char *const *names, int count, int fallback,
                              int *out)
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
    static const char *const transformations[] = {"half_pixel",         "half_pixel_symmetric", "pytorch_half_pixel",
                                                  "align_corners",      "asymmetric",           "tf_crop_and_resize",
                                                  "tf_half_pixel_for_nn"};
    static const char *const roundings[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};
    int mode, coordinates = TRANSFORM_ASYMMETRIC, nearest = ROUND_BY_DIRECTION;
    int64_t antialias = 0, exclude = 0;
    float cubic = -0.75f, extrapolation = 0;
    xai_status status = read_choice(call, "mode", modes, 4, MODE_NEAREST, &mode);
    if (status == XAI_OK && is_modern(call)) {
        status = read_choice(call, "coordinate_transformation_mode", transformations, 7, TRANSFORM_HALF_PIXEL, &coordinates);
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

/* The numbers of a constant input, or nothing when it is omitted or empty (as opset 11 writes an absent input). */
static xai_status read_numbers(const operator_call *call, int input, double *out, size_t capacity, size_t *count)
{
    *count = 0;
    if (!operator_has_input(call, input) || tensor_count(call->inputs[input]) == 0)
        return XAI_OK;
    const tensor *given = call->inputs[input];
    if (!given->data)
        return operator_error(call, XAI_ERROR_UNSUPPORTED, "input %d is computed at run time where a constant is needed",
                              input);
    *count = tensor_count(given);
    if (given->shape.rank != 1 || *count > capacity)
        return operator_error(call, XAI_ERROR_SHAPE, "input %d has %zu values where at most %zu make sense", input, *count,
                              capacity);
    tensor_read_doubles(given, 0, *count, out);
    return XAI_OK;
}

/* The axes that scales, sizes and roi speak of: the attribute `axes` (opset 18), or all. */
static xai_status read_axes(const operator_call *call, int rank, int axes[SHAPE_MAX_RANK], size_t *count)
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
        return operator_error(call, XAI_ERROR_FORMAT, "attribute 'scales' is not a list of at most %d numbers",
                              SHAPE_MAX_RANK);
    *count = scales->count;
    for (size_t i = 0; i < scales->count; i++)
        out[i] = (double)scales->floats[i];
    return XAI_OK;
}

static xai_status apply_scales(const operator_call *call, resize *self, const int *axes, const double *scales, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        resize_axis *axis = &self->axes[axes[i]];
        /* In single precision as the scales are: 3 times float(7 / 3) is 7 and not 6.99... */
        const double size = floor((double)((float)axis->in * (float)scales[i]));
        if (!(scales[i] > 0) || !(size >= 0 && size <= INT32_MAX))
            return operator_error(call, XAI_ERROR_SHAPE, "scale %g of axis %d with %lld elements", scales[i], axes[i],
                                  (long long)axis->in);
        axis->scale = scales[i];
        axis->out = (int64_t)size;
        axis->resized = true;
    }
    return XAI_OK;
}

static xai_status apply_sizes(const operator_call *call, resize *self, const int *axes, const double *sizes, size_t count)
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
            return operator_error(call, XAI_ERROR_SHAPE, "axis %d would have size %g", axes[i], size);
        axis->out = (int64_t)size;
        axis->scale = policy == 0 ? size / (double)axis->in : common;
        axis->from_sizes = policy == 0;
        axis->resized = true;
    }
    return status;
}

static xai_status read_region(const operator_call *call, resize *self, const int *axes, size_t count)
{
    double region[2 * SHAPE_MAX_RANK];
    size_t length;
    const xai_status status = read_numbers(call, 1, region, 2 * SHAPE_MAX_RANK, &length);
    if (status != XAI_OK)
        return status;
    if (length != 2 * count)
        return operator_error(call, XAI_ERROR_SHAPE, "roi has %zu values for %zu axes", length, count);
    for (size_t i = 0; i < count; i++) {
        self->axes[axes[i]].begin = region[i];
        self->axes[axes[i]].end = region[i + count];
    }
    return XAI_OK;
}

/* An axis that stays as it is needs no pass over the data. */
static bool is_identity(const resize *self, const resize_axis *axis)
{
    /* A scale that rounding left beside 1 is 1: nearest would lose whole elements otherwise. */
    return !axis->resized || (axis->in == axis->out && fabs(axis->scale - 1) < 1e-6 &&
                              (self->coordinates != TRANSFORM_CROP_AND_RESIZE || (axis->begin == 0 && axis->end == 1)));
}

static xai_status resize_make(const operator_call *call, resize *self)
{
    char text[SHAPE_TEXT_SIZE];
    double scales[SHAPE_MAX_RANK], sizes[SHAPE_MAX_RANK];
    size_t axis_count = 0, scale_count = 0, size_count = 0;
    int axes[SHAPE_MAX_RANK] = {0};
    *self = (resize){.x = call->inputs[0]->shape, .y = call->inputs[0]->shape};
    xai_status status = read_attributes(call, self);
    for (int i = 0; i < self->x.rank; i++)
        self->axes[i] = (resize_axis){.in = self->x.dims[i], .out = self->x.dims[i], .scale = 1, .end = 1};
    if (status == XAI_OK)
        status = read_axes(call, self->x.rank, axes, &axis_count);
    if (status == XAI_OK)
        status = read_scales(call, scales, &scale_count);
    if (status == XAI_OK && is_modern(call))
        status = read_numbers(call, 3, sizes, SHAPE_MAX_RANK, &size_count);
    if (status != XAI_OK)
        return status;
    if ((scale_count > 0) == (size_count > 0) || (scale_count > 0 ? scale_count : size_count) != axis_count)
        return operator_error(call, XAI_ERROR_SHAPE, "%zu scales and %zu sizes for %zu axes of an input of shape %s",
                              scale_count, size_count, axis_count, shape_text(&self->x, text));
    for (size_t i = 0; i < axis_count; i++)
        if (self->axes[axes[i]].in < 1 || self->axes[axes[i]].in > INT32_MAX)
            return operator_error(call, XAI_ERROR_SHAPE, "cannot resize an input of shape %s", shape_text(&self->x, text));
    status = scale_count > 0 ? apply_scales(call, self, axes, scales, axis_count)
                             : apply_sizes(call, self, axes, sizes, axis_count);
    if (status == XAI_OK && self->coordinates == TRANSFORM_CROP_AND_RESIZE)
        status = read_region(call, self, axes, axis_count);
    for (int i = 0; i < self->x.rank && status == XAI_OK; i++) {
        self->y.dims[i] = self->axes[i].out;
        if (self->y.dims[i] < 1 && self->x.dims[i] > 0)
            status = operator_error(call, XAI_ERROR_SHAPE, "dimension %d of the output would be empty", i);
    }
    return status;
}

/* --- The taps of an axis --- */

typedef struct tap_table {
    size_t taps;                /* of each output position */
    int64_t *index;             /* (out, taps) */
    double *weight;             /* (out, taps) */
    const resize_axis *axis;
} tap_table;

static void tap_table_drop(tap_table *self)
{
    memory_free(self->index);
    memory_free(self->weight);
}

/* Input coordinate of output position o. */
static double coordinate(const resize *self, const resize_axis *axis, int64_t o)
{
    const double x = (double)o, in = (double)axis->in, out = (double)axis->out, scale = axis->scale;
    switch (self->coordinates) {
    /* With the whole output size, as the definition says and frameworks do, also where the scale would give a fraction. */
    case TRANSFORM_ALIGN_CORNERS: return axis->out == 1 ? 0 : x * (in - 1) / (out - 1);
    /* x * in / out is exact where the result is a whole number */
    case TRANSFORM_ASYMMETRIC: return axis->from_sizes ? x * in / out : x / scale;
    case TRANSFORM_HALF_PIXEL_FOR_NEAREST: return (x + 0.5) / scale;
    case TRANSFORM_CROP_AND_RESIZE:
        return axis->out == 1 ? 0.5 * (axis->begin + axis->end) * (in - 1)
                              : axis->begin * (in - 1) + x * (axis->end - axis->begin) * (in - 1) / (out - 1);
    case TRANSFORM_PYTORCH_HALF_PIXEL:
        if (axis->out == 1)
            return 0;
        break;
    case TRANSFORM_HALF_PIXEL_SYMMETRIC: {
        const double adjustment = out / (scale * in);
        return in / 2 * (1 - adjustment) + (x + 0.5) / scale - 0.5;
    }
    default: break;
    }
    return axis->from_sizes ? (x + 0.5) * in / out - 0.5 : (x + 0.5) / scale - 0.5;
}

/* Nearest computes in single precision what it gets in single precision, as frameworks do: with float(7 / 3) the
 * position 7 / scale is 3 and not 2.99..., which floor would take for 2. */
static double nearest_coordinate(const resize *self, const resize_axis *axis, int64_t o)
{
    const float scale = (float)axis->scale, x = (float)o, begin = (float)axis->begin, end = (float)axis->end,
                last = (float)(axis->in - 1);
    switch (self->coordinates) {
    case TRANSFORM_CROP_AND_RESIZE:
        return (double)(axis->out == 1 ? 0.5f * (begin + end) * last
                                       : begin * last + x * (end - begin) * last / (float)(axis->out - 1));
    case TRANSFORM_ASYMMETRIC:
        if (!axis->from_sizes)
            return (double)(x / scale);
        break;
    case TRANSFORM_HALF_PIXEL:
    case TRANSFORM_PYTORCH_HALF_PIXEL:
        if (!axis->from_sizes && (axis->out > 1 || self->coordinates == TRANSFORM_HALF_PIXEL))
            return (double)((x + 0.5f) / scale - 0.5f);
        break;
    default: break;
    }
    return coordinate(self, axis, o);
}

static double round_position(rounding how, double x, double scale)
{
    switch (how) {
    case ROUND_PREFER_FLOOR: return ceil(x - 0.5);
    case ROUND_PREFER_CEIL: return floor(x + 0.5);
    case ROUND_CEIL: return ceil(x);
    case ROUND_BY_DIRECTION: return scale < 1 ? ceil(x) : floor(x);
    default: return floor(x);
    }
}

/* Keys' cubic with parameter a, or the triangle, at distance t from the centre. */
static double filter(const resize *self, double t)
{
    const double a = self->cubic_a;
    t = fabs(t);
    if (self->mode == MODE_LINEAR)
        return t < 1 ? 1 - t : 0;
    if (t <= 1)
        return ((a + 2) * t - (a + 3)) * t * t + 1;
    return t < 2 ? ((a * t - 5 * a) * t + 8 * a) * t - 4 * a : 0;
}

/* Weights of the taps first, first + 1, ... around x; their sum is 1 where that is asked for. */
static void fill_weights(const resize *self, const resize_axis *axis, double x, double stretch, size_t taps, int64_t *index,
                         double *weight)
{
    /* the middle pair is (ceil(x) - 1, ceil(x)) */
    const int64_t first = (int64_t)ceil(x) - (int64_t)(taps / 2);
    double sum = 0;
    for (size_t t = 0; t < taps; t++) {
        const int64_t at = first + (int64_t)t;
        const bool outside = at < 0 || at >= axis->in;
        weight[t] = outside && self->exclude_outside && !self->antialias ? 0 : filter(self, ((double)at - x) * stretch);
        sum += weight[t];
        index[t] = at < 0 ? 0 : at >= axis->in ? axis->in - 1 : at;
    }
    if (!self->antialias && !self->exclude_outside)
        return;
    for (size_t t = 0; t < taps && sum != 0; t++)
        weight[t] /= sum;
    if (!self->antialias || !self->exclude_outside)
        return;
    sum = 0;
    for (size_t t = 0; t < taps; t++) {
        if (first + (int64_t)t < 0 || first + (int64_t)t >= axis->in)
            weight[t] = 0;
        sum += weight[t];
    }
    for (size_t t = 0; t < taps && sum != 0; t++)
        weight[t] /= sum;
}

static bool is_extrapolated(const resize *self, const resize_axis *axis, double x)
{
    return self->coordinates == TRANSFORM_CROP_AND_RESIZE && (x < 0 || x > (double)(axis->in - 1));
}

/* Index of an output position that lies outside the region: it takes the extrapolation value. */
#define EXTRAPOLATED (-1)

static xai_status tap_table_make(const operator_call *call, const resize *self, const resize_axis *axis, tap_table *out)
{
    const double stretch = self->antialias ? fmin(axis->scale, 1) : 1; /* filters widen when shrinking */
    const double radius = self->mode == MODE_CUBIC ? 2 : 1;
    size_t count;
    *out = (tap_table){.taps = 1, .axis = axis};
    if (self->mode != MODE_NEAREST) {
        const double reach = ceil(radius / stretch); /* taps on either side */
        if (!(reach <= 4.0 * INT32_MAX))
            return operator_error(call, XAI_ERROR_SHAPE, "scale %g is too small", axis->scale);
        out->taps = 2 * (size_t)reach;
    }
    if (!size_multiply(out->taps, (size_t)axis->out, &count))
        return operator_error(call, XAI_ERROR_SHAPE, "scale %g is too small", axis->scale);
    out->index = memory_allocate(count, sizeof *out->index);
    out->weight = memory_allocate(count, sizeof *out->weight);
    if (!out->index || !out->weight) {
        tap_table_drop(out);
        *out = (tap_table){0};
        return operator_error(call, XAI_ERROR_MEMORY, "out of memory for %zu weights", count);
    }
    for (int64_t o = 0; o < axis->out; o++) {
        int64_t *index = out->index + (size_t)o * out->taps;
        double *weight = out->weight + (size_t)o * out->taps;
        double x = self->mode == MODE_NEAREST ? nearest_coordinate(self, axis, o) : coordinate(self, axis, o);
        const bool outside = is_extrapolated(self, axis, x);
        x = fmin(fmax(x, -4.0 * INT32_MAX), 4.0 * INT32_MAX);
        if (self->mode == MODE_NEAREST) {
            const double nearest = fmin(fmax(round_position(self->nearest, x, axis->scale), 0), (double)(axis->in - 1));
            *index = (int64_t)nearest;
            *weight = 1;
        } else {
            fill_weights(self, axis, x, stretch, out->taps, index, weight);
        }
        if (outside)
            index[0] = EXTRAPOLATED;
    }
    return XAI_OK;
}

/* --- Passes over the data: (outer, in, inner) -> (outer, out, inner) --- */

static void pass_forward(const resize *self, const tap_table *table, size_t outer, size_t inner, const double *x, double *y)
{
    const size_t in = (size_t)table->axis->in, out = (size_t)table->axis->out;
    for (size_t a = 0; a < outer; a++)
        for (size_t o = 0; o < out; o++) {
            const int64_t *index = table->index + o * table->taps;
            const double *weight = table->weight + o * table->taps;
            double *to = y + (a * out + o) * inner;
            const bool outside = index[0] == EXTRAPOLATED;
            for (size_t i = 0; i < inner; i++)
                to[i] = outside ? self->extrapolation : 0;
            for (size_t t = 0; t < table->taps && !outside; t++) {
                const double *from = x + (a * in + (size_t)index[t]) * inner, w = weight[t];
                if (self->mode == MODE_NEAREST)
                    memcpy(to, from, inner * sizeof *to); /* infinities stay what they are */
                else if (w != 0)
                    for (size_t i = 0; i < inner; i++)
                        to[i] += w * from[i];
            }
        }
}

/* gx (zeroed) += the transpose */
static void pass_backward(const tap_table *table, size_t outer, size_t inner, const double *gy, double *gx)
{
    const size_t in = (size_t)table->axis->in, out = (size_t)table->axis->out;
    for (size_t a = 0; a < outer; a++)
        for (size_t o = 0; o < out; o++) {
            const int64_t *index = table->index + o * table->taps;
            const double *weight = table->weight + o * table->taps, *from = gy + (a * out + o) * inner;
            for (size_t t = 0; t < table->taps && index[0] != EXTRAPOLATED; t++) {
                double *to = gx + (a * in + (size_t)index[t]) * inner;
                for (size_t i = 0; i < inner; i++)
                    to[i] += weight[t] * from[i];
            }
        }
}

/* All passes, in the order of the axes forward and in the opposite order backward. `values` is replaced by the result. */
static xai_status run_passes(const operator_call *call, const resize *self, bool back, double **values)
{
    shape dims = back ? self->y : self->x;
    xai_status status = XAI_OK;
    for (int step = 0; step < dims.rank && status == XAI_OK; step++) {
        const int i = back ? dims.rank - 1 - step : step;
        const resize_axis *axis = &self->axes[i];
        size_t outer = 1, inner = 1, count;
        double *next = NULL;
        tap_table table;
        if (is_identity(self, axis))
            continue;
        for (int k = 0; k < dims.rank; k++)
            if (k != i)
                *(k < i ? &outer : &inner) *= (size_t)dims.dims[k];
        dims.dims[i] = back ? axis->in : axis->out;
        if (!shape_count(&dims, &count))
            return operator_error(call, XAI_ERROR_SHAPE, "a step between the shapes would be too large");
        status = tap_table_make(call, self, axis, &table);
        if (status == XAI_OK)
            status = operator_allocate(call, count, &next);
        if (status == XAI_OK && back)
            pass_backward(&table, outer, inner, *values, next);
        else if (status == XAI_OK)
            pass_forward(self, &table, outer, inner, *values, next);
        tap_table_drop(&table);
        if (status == XAI_OK) {
            memory_free(*values);
            *values = next;
        }
    }
    return status;
}

static xai_status resize_infer(operator_call *call)
{
    resize self;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_NUMBER);
    if (status == XAI_OK)
        status = resize_make(call, &self);
    return status == XAI_OK ? operator_set_output(call, 0, call->inputs[0]->dtype, &self.y) : status;
}

static xai_status resize_forward(operator_call *call)
{
    resize self;
    tensor *y = call->outputs[0];
    const size_t count = tensor_count(y);
    double *values = NULL;
    xai_status status = resize_make(call, &self);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &values);
    if (status == XAI_OK)
        status = run_passes(call, &self, false, &values);
    for (size_t i = 0; status == XAI_OK && !dtype_is_float(y->dtype) && i < count; i++)
        values[i] = nearbyint(values[i]);
    if (status == XAI_OK && count > 0)
        tensor_write_doubles(y, 0, count, values);
    memory_free(values);
    return status;
}

static xai_status resize_backward(operator_call *call)
{
    resize self;
    tensor *wanted = operator_wanted_gradient(call, 0);
    const tensor *given = operator_output_gradient(call, 0);
    double *values = NULL;
    if (!wanted)
        return XAI_OK;
    if (!given || tensor_count(wanted) == 0) {
        operator_zero(wanted);
        return XAI_OK;
    }
    xai_status status = resize_make(call, &self);
    if (status == XAI_OK)
        status = operator_read_doubles(call, given, &values);
    if (status == XAI_OK)
        status = run_passes(call, &self, true, &values);
    if (status == XAI_OK)
        tensor_write_doubles(wanted, 0, tensor_count(wanted), values);
    memory_free(values);
    return status;
}

/* Backward reads the constants roi, scales and sizes. */
const operator_definition operator_resize = {
    .name = "Resize",
    .domain = "",
    .min_inputs = 1,
    .max_inputs = 4,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 10,
    .backward_reads = OPERATOR_READS_INPUT(1) | OPERATOR_READS_INPUT(2) | OPERATOR_READS_INPUT(3),
    .infer = resize_infer,
    .forward = resize_forward,
    .backward = resize_backward,
};

const operator_definition operator_upsample = {
    .name = "Upsample",
    .domain = "",
    .min_inputs = 1,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 7,
    .backward_reads = OPERATOR_READS_INPUT(1),
    .infer = resize_infer,
    .forward = resize_forward,
    .backward = resize_backward,
};
