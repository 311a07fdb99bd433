/* Resize and Upsample.
 *
 * Interpolation is separable: along one axis after the other, out[o] = sum_t weight[o, t]
 * in[index[o, t]]. An axis is described by that table of taps; nearest has 1, linear 2, cubic 4,
 * antialiased filters more. */
#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/resize.h"

/* An axis that stays as it is needs no pass over the data. */
static bool is_identity(const resize *self, const resize_axis *axis)
{
    /* A scale that rounding left beside 1 is 1: nearest would lose whole elements otherwise. */
    return !axis->resized || (axis->in == axis->out && fabs(axis->scale - 1) < 1e-6 &&
                              (self->coordinates != TRANSFORM_CROP_AND_RESIZE ||
                               (axis->begin == 0 && axis->end == 1)));
}

typedef struct tap_table {
    size_t taps;    /* of each output position */
    int64_t *index; /* (out, taps) */
    double *weight; /* (out, taps) */
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
    /* With the whole output size, as the definition says and frameworks do, also where the
     * scale would give a fraction. */
    case TRANSFORM_ALIGN_CORNERS:
        return axis->out == 1 ? 0 : x * (in - 1) / (out - 1);
    /* x * in / out is exact where the result is a whole number */
    case TRANSFORM_ASYMMETRIC:
        return axis->from_sizes ? x * in / out : x / scale;
    case TRANSFORM_HALF_PIXEL_FOR_NEAREST:
        return (x + 0.5) / scale;
    case TRANSFORM_CROP_AND_RESIZE:
        return axis->out == 1
                   ? 0.5 * (axis->begin + axis->end) * (in - 1)
                   : axis->begin * (in - 1) + x * (axis->end - axis->begin) * (in - 1) / (out - 1);
    case TRANSFORM_PYTORCH_HALF_PIXEL:
        if (axis->out == 1)
            return 0;
        break;
    case TRANSFORM_HALF_PIXEL_SYMMETRIC: {
        const double adjustment = out / (scale * in);
        return in / 2 * (1 - adjustment) + (x + 0.5) / scale - 0.5;
    }
    default:
        break;
    }
    return axis->from_sizes ? (x + 0.5) * in / out - 0.5 : (x + 0.5) / scale - 0.5;
}

/* Nearest computes in single precision what it gets in single precision, as frameworks do: with
 * float(7 / 3) the position 7 / scale is 3 and not 2.99..., which floor would take for 2. */
static double nearest_coordinate(const resize *self, const resize_axis *axis, int64_t o)
{
    const float scale = (float)axis->scale, x = (float)o, begin = (float)axis->begin,
                end = (float)axis->end, last = (float)(axis->in - 1);
    switch (self->coordinates) {
    case TRANSFORM_CROP_AND_RESIZE:
        return (double)(axis->out == 1
                            ? 0.5f * (begin + end) * last
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
    default:
        break;
    }
    return coordinate(self, axis, o);
}

static double round_position(rounding how, double x, double scale)
{
    switch (how) {
    case ROUND_PREFER_FLOOR:
        return ceil(x - 0.5);
    case ROUND_PREFER_CEIL:
        return floor(x + 0.5);
    case ROUND_CEIL:
        return ceil(x);
    case ROUND_BY_DIRECTION:
        return scale < 1 ? ceil(x) : floor(x);
    default:
        return floor(x);
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
static void fill_weights(const resize *self, const resize_axis *axis, double x, double stretch,
                         size_t taps, int64_t *index, double *weight)
{
    /* the middle pair is (ceil(x) - 1, ceil(x)) */
    const int64_t first = (int64_t)ceil(x) - (int64_t)(taps / 2);
    double sum = 0;
    for (size_t t = 0; t < taps; t++) {
        const int64_t at = first + (int64_t)t;
        const bool outside = at < 0 || at >= axis->in;
        weight[t] = outside && self->exclude_outside && !self->antialias
                        ? 0
                        : filter(self, ((double)at - x) * stretch);
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

static xai_status tap_table_make(const operator_call *call, const resize *self,
                                 const resize_axis *axis, tap_table *out)
{
    const double stretch =
        self->antialias ? fmin(axis->scale, 1) : 1; /* filters widen when shrinking */
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
        double x = self->mode == MODE_NEAREST ? nearest_coordinate(self, axis, o)
                                              : coordinate(self, axis, o);
        const bool outside = is_extrapolated(self, axis, x);
        x = fmin(fmax(x, -4.0 * INT32_MAX), 4.0 * INT32_MAX);
        if (self->mode == MODE_NEAREST) {
            const double nearest = fmin(fmax(round_position(self->nearest, x, axis->scale), 0),
                                        (double)(axis->in - 1));
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

static void pass_forward(const resize *self, const tap_table *table, size_t outer, size_t inner,
                         const double *x, double *y)
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
static void pass_backward(const tap_table *table, size_t outer, size_t inner, const double *gy,
                          double *gx)
{
    const size_t in = (size_t)table->axis->in, out = (size_t)table->axis->out;
    for (size_t a = 0; a < outer; a++)
        for (size_t o = 0; o < out; o++) {
            const int64_t *index = table->index + o * table->taps;
            const double *weight = table->weight + o * table->taps,
                         *from = gy + (a * out + o) * inner;
            for (size_t t = 0; t < table->taps && index[0] != EXTRAPOLATED; t++) {
                double *to = gx + (a * in + (size_t)index[t]) * inner;
                for (size_t i = 0; i < inner; i++)
                    to[i] += weight[t] * from[i];
            }
        }
}

/* All passes, in the order of the axes forward and in the opposite order backward. `values` is
 * replaced by the result. */
static xai_status run_passes(const operator_call *call, const resize *self, bool back,
                             double **values)
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
            return operator_error(call, XAI_ERROR_SHAPE,
                                  "a step between the shapes would be too large");
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
        status = resize_read(call, &self);
    return status == XAI_OK ? operator_set_output(call, 0, call->inputs[0]->dtype, &self.y)
                            : status;
}

static xai_status resize_forward(operator_call *call)
{
    resize self;
    tensor *y = call->outputs[0];
    const size_t count = tensor_count(y);
    double *values = NULL;
    xai_status status = resize_read(call, &self);
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
    xai_status status = resize_read(call, &self);
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
