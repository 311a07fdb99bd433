/* Reading images at free positions: GridSample, and AffineGrid, which makes such positions.
 *
 *   GridSample  y[n, c, o] = sum over taps t of (product over axes of w_axis[t]) x[n, c, t]
 *
 * Positions run from -1 to 1 over an axis, the last coordinate of the grid is that of the first
 * spatial axis. A position has taps along each axis: 1 (nearest), 2 (linear) or 4 (cubic). */
#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/support.h"

#define MAX_SPATIAL 3
#define MAX_TAPS 4

typedef enum padding { PADDING_ZEROS, PADDING_BORDER, PADDING_REFLECTION } padding;

typedef struct sampler {
    int rank, taps; /* spatial axes; taps an axis */
    padding pad;
    bool corners;
    size_t batch, channels, positions; /* of the output, an image */
    size_t sizes[MAX_SPATIAL], plane;
} sampler;

/* Taps of one position along one axis: index (SIZE_MAX = padding with zeros), weight, and the
 * slope of the weight in the grid's coordinate. */
typedef struct taps {
    size_t at[MAX_TAPS];
    double weight[MAX_TAPS], slope[MAX_TAPS];
} taps;

static xai_status sampler_mode(const operator_call *call, sampler *self)
{
    const char *mode, *pad;
    int64_t corners = 0;
    const bool renamed = call->opset >= 20;
    xai_status status =
        operator_attribute_text(call, "mode", renamed ? "linear" : "bilinear", &mode);
    if (status == XAI_OK)
        status = operator_attribute_text(call, "padding_mode", "zeros", &pad);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "align_corners", 0, &corners);
    if (status != XAI_OK)
        return status;
    self->corners = corners != 0;
    self->taps = strcmp(mode, "nearest") == 0                                   ? 1
                 : strcmp(mode, "linear") == 0 || strcmp(mode, "bilinear") == 0 ? 2
                 : strcmp(mode, "cubic") == 0 || strcmp(mode, "bicubic") == 0   ? 4
                                                                                : 0;
    if (self->taps == 0)
        return operator_error(call, XAI_ERROR_UNSUPPORTED, "mode '%.40s' is not known", mode);
    if (strcmp(pad, "zeros") == 0)
        self->pad = PADDING_ZEROS;
    else if (strcmp(pad, "border") == 0)
        self->pad = PADDING_BORDER;
    else if (strcmp(pad, "reflection") == 0)
        self->pad = PADDING_REFLECTION;
    else
        return operator_error(call, XAI_ERROR_UNSUPPORTED, "padding_mode '%.40s' is not known",
                              pad);
    return XAI_OK;
}

static xai_status sampler_make(const operator_call *call, sampler *self)
{
    char x_text[SHAPE_TEXT_SIZE], g_text[SHAPE_TEXT_SIZE];
    const shape *x = &call->inputs[0]->shape, *grid = &call->inputs[1]->shape;
    *self = (sampler){.rank = x->rank - 2};
    const xai_status status = sampler_mode(call, self);
    if (status != XAI_OK)
        return status;
    bool fits = self->rank >= 1 && self->rank <= MAX_SPATIAL && grid->rank == x->rank &&
                grid->dims[0] == x->dims[0] && grid->dims[grid->rank - 1] == self->rank;
    for (int i = 2; fits && i < x->rank; i++)
        fits = x->dims[i] > 0;
    if (!fits)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "x of shape %s and grid of shape %s do not fit",
                              shape_text(x, x_text), shape_text(grid, g_text));
    self->batch = (size_t)x->dims[0];
    self->channels = (size_t)x->dims[1];
    self->positions = self->plane = 1;
    for (int i = 0; i < self->rank; i++) {
        self->sizes[i] = (size_t)x->dims[2 + i];
        self->plane *= self->sizes[i];
        self->positions *= (size_t)grid->dims[1 + i];
    }
    return XAI_OK;
}

static xai_status grid_sample_infer(operator_call *call)
{
    sampler self;
    xai_status status = operator_check(call);
    for (int i = 0; i < 2 && status == XAI_OK; i++)
        status = operator_check_type(call, i, TYPES_FLOAT);
    if (status == XAI_OK)
        status = sampler_make(call, &self);
    if (status != XAI_OK)
        return status;
    shape y = call->inputs[0]->shape;
    for (int i = 0; i < self.rank; i++)
        y.dims[2 + i] = call->inputs[1]->shape.dims[1 + i];
    return operator_set_output(call, 0, call->inputs[0]->dtype, &y);
}

/* Mirrored at the borders until inside; *sign is its slope. */
static double reflect(double x, double low, double high, double *sign)
{
    const double range = high - low;
    *sign = 1;
    if (range <= 0) {
        *sign = 0;
        return low;
    }
    if (x >= low && x <= high)
        return x;
    const bool below = x < low;
    const double distance = below ? low - x : x - high, turns = floor(distance / range);
    const double rest = distance - turns * range;
    const bool even = fmod(turns, 2) == 0;
    *sign = even ? -1 : 1;
    return (below == even) ? low + rest : high - rest;
}

/* The weight of a tap `distance` away (Keys 1981 with a = -0.75), and its slope. */
static void cubic_weight(double distance, double *weight, double *slope)
{
    const double a = -0.75, d = fabs(distance), sign = distance < 0 ? -1 : 1;
    if (d <= 1) {
        *weight = ((a + 2) * d - (a + 3)) * d * d + 1;
        *slope = sign * (3 * (a + 2) * d - 2 * (a + 3)) * d;
    } else {
        *weight = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
        *slope = sign * ((3 * a * d - 10 * a) * d + 8 * a);
    }
}

/* The image's index for a tap, or SIZE_MAX for zeros. */
static size_t tap_index(const sampler *self, int axis, double at)
{
    const double last = (double)self->sizes[axis] - 1;
    double sign;
    if (at >= 0 && at <= last)
        return (size_t)at;
    if (self->pad == PADDING_ZEROS)
        return SIZE_MAX;
    if (self->pad == PADDING_BORDER)
        return at < 0 ? 0 : (size_t)last;
    const double edge = self->corners ? 0 : 0.5;
    const double inside = reflect(at, -edge, last + edge, &sign);
    return inside <= 0 ? 0 : inside >= last ? (size_t)last : (size_t)inside;
}

static void find_taps(const sampler *self, int axis, double position, taps *out)
{
    const double size = (double)self->sizes[axis], edge = self->corners ? 0 : 0.5;
    double scale = self->corners ? (size - 1) / 2 : size / 2, sign = 1;
    double x = self->corners ? (position + 1) / 2 * (size - 1) : ((position + 1) * size - 1) / 2;
    if (self->taps == 1)
        x = nearbyint((double)(float)x);
    if (!isfinite(x)) { /* shows as a NaN in the result */
        for (int k = 0; k < self->taps; k++) {
            out->at[k] = 0;
            out->weight[k] = out->slope[k] = NAN;
        }
        return;
    }
    if (x < -edge || x > size - 1 + edge) {
        if (self->pad == PADDING_BORDER) {
            x = x < 0 ? 0 : size - 1;
            scale = 0;
        } else if (self->pad == PADDING_REFLECTION) {
            x = reflect(x, -edge, size - 1 + edge, &sign);
            scale *= sign;
        }
    }
    const double first = floor(x) - (self->taps == 4 ? 1 : 0);
    for (int k = 0; k < self->taps; k++) {
        const double distance = x - (first + k);
        if (self->taps == 1) {
            out->weight[k] = 1;
            out->slope[k] = 0;
        } else if (self->taps == 2) {
            out->weight[k] = 1 - fabs(distance);
            out->slope[k] = k == 0 ? -1 : 1;
        } else {
            cubic_weight(distance, &out->weight[k], &out->slope[k]);
        }
        out->slope[k] *= scale;
        out->at[k] = tap_index(self, axis, self->taps == 1 ? x : first + k);
    }
}

/* What one position of the output reads, forward or back: all combinations of taps. */
static void visit(const sampler *self, const taps *axes, const double *x, double *y,
                  const double *slope, double *gx, double *ggrid)
{
    int index[MAX_SPATIAL] = {0};
    for (;;) {
        size_t at = 0;
        double weight = 1, slopes[MAX_SPATIAL];
        bool padded = false;
        for (int a = 0; a < self->rank; a++) {
            padded = padded || axes[a].at[index[a]] == SIZE_MAX;
            at = at * self->sizes[a] + (padded ? 0 : axes[a].at[index[a]]);
            weight *= axes[a].weight[index[a]];
        }
        if (!padded && !slope)
            *y += weight * x[at];
        if (!padded && gx)
            gx[at] += weight * *slope;
        for (int a = 0; !padded && ggrid && a < self->rank; a++) {
            slopes[a] = axes[a].slope[index[a]];
            for (int other = 0; other < self->rank; other++)
                slopes[a] *= other == a ? 1 : axes[other].weight[index[other]];
            ggrid[self->rank - 1 - a] += slopes[a] * x[at] * *slope;
        }
        int a = self->rank - 1;
        while (a >= 0 && ++index[a] == self->taps)
            index[a--] = 0;
        if (a < 0)
            return;
    }
}

/* y forward; gx and ggrid from the slopes backward. */
static void sample_all(const sampler *self, const double *x, const double *grid, double *y,
                       const double *slopes, double *gx, double *ggrid)
{
    taps axes[MAX_SPATIAL];
    for (size_t n = 0; n < self->batch; n++)
        for (size_t o = 0; o < self->positions; o++) {
            const size_t at = (n * self->positions + o) * (size_t)self->rank;
            for (int a = 0; a < self->rank; a++)
                find_taps(self, a, grid[at + (size_t)(self->rank - 1 - a)], &axes[a]);
            for (size_t c = 0; c < self->channels; c++) {
                const size_t image = (n * self->channels + c) * self->plane,
                             out = (n * self->channels + c) * self->positions + o;
                visit(self, axes, x + image, y ? y + out : NULL, slopes ? slopes + out : NULL,
                      gx ? gx + image : NULL, ggrid ? ggrid + at : NULL);
            }
        }
}

static xai_status grid_sample_forward(operator_call *call)
{
    sampler self;
    double *x = NULL, *grid = NULL, *y = NULL;
    const size_t count = tensor_count(call->outputs[0]);
    xai_status status = sampler_make(call, &self);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[1], &grid);
    if (status == XAI_OK)
        status = operator_allocate(call, count, &y);
    if (status == XAI_OK && count > 0) {
        sample_all(&self, x, grid, y, NULL, NULL, NULL);
        tensor_write_doubles(call->outputs[0], 0, count, y);
    }
    memory_free(x);
    memory_free(grid);
    memory_free(y);
    return status;
}

static xai_status grid_sample_backward(operator_call *call)
{
    sampler self;
    double *x = NULL, *grid = NULL, *slopes = NULL, *gradients[2] = {NULL, NULL};
    const tensor *given = operator_output_gradient(call, 0);
    if (!given) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    xai_status status = sampler_make(call, &self);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[1], &grid);
    if (status == XAI_OK)
        status = operator_read_doubles(call, given, &slopes);
    for (int i = 0; i < 2 && status == XAI_OK; i++)
        if (operator_wanted_gradient(call, i))
            status = operator_allocate(call, tensor_count(call->inputs[i]), &gradients[i]);
    if (status == XAI_OK)
        sample_all(&self, x, grid, NULL, slopes, gradients[0], gradients[1]);
    for (int i = 0; i < 2; i++) {
        if (status == XAI_OK && gradients[i] && tensor_count(call->inputs[i]) > 0)
            tensor_write_doubles(operator_wanted_gradient(call, i), 0,
                                 tensor_count(call->inputs[i]), gradients[i]);
        memory_free(gradients[i]);
    }
    memory_free(x);
    memory_free(grid);
    memory_free(slopes);
    return status;
}

/* --- AffineGrid: grid[n, o] = theta[n] (position of o, 1) --- */

typedef struct affine_grid {
    int rank;
    bool corners;
    size_t batch, positions;
    int64_t sizes[MAX_SPATIAL];
} affine_grid;

static xai_status affine_grid_make(const operator_call *call, affine_grid *self)
{
    char text[SHAPE_TEXT_SIZE];
    int64_t size[MAX_SPATIAL + 2], corners = 0;
    size_t count;
    const shape *theta = &call->inputs[0]->shape;
    xai_status status = operator_attribute_int(call, "align_corners", 0, &corners);
    if (status == XAI_OK)
        status = operator_constant_ints(call, 1, size, MAX_SPATIAL + 2, &count);
    if (status != XAI_OK)
        return status;
    *self = (affine_grid){.rank = (int)count - 2, .corners = corners != 0, .positions = 1};
    if ((count != 4 && count != 5) || theta->rank != 3 || theta->dims[0] != size[0] ||
        theta->dims[1] != self->rank || theta->dims[2] != self->rank + 1)
        return operator_error(call, XAI_ERROR_SHAPE, "theta of shape %s does not fit a size of %zu",
                              shape_text(theta, text), count);
    self->batch = (size_t)size[0];
    for (int i = 0; i < self->rank; i++) {
        if (size[2 + i] < 0 || size[2 + i] > INT32_MAX)
            return operator_error(call, XAI_ERROR_SHAPE, "a size of %lld", (long long)size[2 + i]);
        self->sizes[i] = size[2 + i];
        self->positions *= (size_t)size[2 + i];
    }
    return XAI_OK;
}

static xai_status affine_grid_infer(operator_call *call)
{
    affine_grid self;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_FLOAT);
    if (status == XAI_OK)
        status = affine_grid_make(call, &self);
    if (status != XAI_OK)
        return status;
    shape y = {.rank = self.rank + 2};
    y.dims[0] = (int64_t)self.batch;
    for (int i = 0; i < self.rank; i++)
        y.dims[1 + i] = self.sizes[i];
    y.dims[self.rank + 1] = self.rank;
    return operator_set_output(call, 0, call->inputs[0]->dtype, &y);
}

/* The homogeneous position of output o: the last axis first, then 1. */
static void home_position(const affine_grid *self, size_t o, double *out)
{
    for (int a = self->rank; a-- > 0;) {
        const size_t size = (size_t)self->sizes[a];
        const double i = (double)(o % size), n = (double)size;
        o /= size;
        out[self->rank - 1 - a] =
            self->corners ? (size > 1 ? 2 * i / (n - 1) - 1 : -1) : (2 * i + 1) / n - 1;
    }
    out[self->rank] = 1;
}

static xai_status affine_grid_run(operator_call *call, const tensor *from, bool back, tensor *to)
{
    affine_grid self;
    double *in = NULL, *out = NULL, home[MAX_SPATIAL + 1];
    xai_status status = affine_grid_make(call, &self);
    if (status == XAI_OK)
        status = operator_read_doubles(call, from, &in);
    if (status == XAI_OK)
        status = operator_allocate(call, tensor_count(to), &out);
    for (size_t n = 0; n < self.batch && status == XAI_OK; n++)
        for (size_t o = 0; o < self.positions; o++) {
            home_position(&self, o, home);
            for (int r = 0; r < self.rank; r++)
                for (int k = 0; k <= self.rank; k++) {
                    const size_t row = n * (size_t)self.rank + (size_t)r;
                    const size_t theta = row * (size_t)(self.rank + 1) + (size_t)k,
                                 y = (n * self.positions + o) * (size_t)self.rank + (size_t)r;
                    out[back ? theta : y] += in[back ? y : theta] * home[k];
                }
        }
    if (status == XAI_OK && tensor_count(to) > 0)
        tensor_write_doubles(to, 0, tensor_count(to), out);
    memory_free(in);
    memory_free(out);
    return status;
}

static xai_status affine_grid_forward(operator_call *call)
{
    return affine_grid_run(call, call->inputs[0], false, call->outputs[0]);
}

static xai_status affine_grid_backward(operator_call *call)
{
    tensor *wanted = operator_wanted_gradient(call, 0);
    const tensor *given = operator_output_gradient(call, 0);
    if (!wanted)
        return XAI_OK;
    if (!given) {
        operator_zero(wanted);
        return XAI_OK;
    }
    return affine_grid_run(call, given, true, wanted);
}

#define SAMPLE(symbol, title, first_opset, reads)   \
    const operator_definition operator_##symbol = { \
        .name = title,                              \
        .domain = "",                               \
        .min_inputs = 2,                            \
        .max_inputs = 2,                            \
        .min_outputs = 1,                           \
        .max_outputs = 1,                           \
        .since = first_opset,                       \
        .backward_reads = reads,                    \
        .infer = symbol##_infer,                    \
        .forward = symbol##_forward,                \
        .backward = symbol##_backward,              \
    }
SAMPLE(grid_sample, "GridSample", 16, OPERATOR_READS_INPUT(0) | OPERATOR_READS_INPUT(1));
SAMPLE(affine_grid, "AffineGrid", 20, OPERATOR_READS_INPUT(1));
