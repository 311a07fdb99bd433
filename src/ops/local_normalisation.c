/* Normalisations without parameters: LRN across channels, LpNormalization,
 * MeanVarianceNormalization. */
#include <math.h>

#include "ops/families.h"
#include "ops/support.h"

/* LRN: y_c = x_c d_c^-beta with d_c = bias + alpha / size * sum of x_j^2 over the channels j of
 * the window around c. */
typedef struct lrn {
    size_t rows, channels, inner;
    size_t before, after;      /* channels of the window on either side of c */
    double factor, beta, bias; /* factor = alpha / size */
} lrn;

static xai_status lrn_describe(const operator_call *call, lrn *out)
{
    float alpha, beta, bias;
    int64_t size;
    char text[SHAPE_TEXT_SIZE];
    const shape *dims = &call->inputs[0]->shape;
    xai_status status = operator_attribute_float(call, "alpha", 1e-4f, &alpha);
    if (status == XAI_OK)
        status = operator_attribute_float(call, "beta", 0.75f, &beta);
    if (status == XAI_OK)
        status = operator_attribute_float(call, "bias", 1.0f, &bias);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "size", 0, &size);
    if (status != XAI_OK)
        return status;
    if (size < 1)
        return operator_error(call, XAI_ERROR_FORMAT,
                              "attribute 'size' is missing or not positive");
    if (dims->rank < 2)
        return operator_error(call, XAI_ERROR_SHAPE, "x of shape %s has no channels",
                              shape_text(dims, text));
    *out = (lrn){.rows = (size_t)dims->dims[0], .channels = (size_t)dims->dims[1], .inner = 1};
    for (int i = 2; i < dims->rank; i++)
        out->inner *= (size_t)dims->dims[i];
    if (out->inner == 0 || out->channels == 0)
        out->rows = 0;
    out->before = (size_t)((size - 1) / 2);
    out->after = (size_t)(size - 1) - out->before;
    out->factor = (double)alpha / (double)size;
    out->beta = (double)beta;
    out->bias = (double)bias;
    return XAI_OK;
}

/* sum[c, i] = sum of values[j, i] over c - before <= j <= c + after, one example. */
static void window_sums(const lrn *self, size_t before, size_t after, const double *values,
                        double *sums)
{
    for (size_t c = 0; c < self->channels; c++) {
        const size_t first = c > before ? c - before : 0;
        const size_t end = self->channels - c > after ? c + after + 1 : self->channels;
        double *row = sums + c * self->inner;
        for (size_t i = 0; i < self->inner; i++)
            row[i] = 0;
        for (size_t j = first; j < end; j++)
            for (size_t i = 0; i < self->inner; i++)
                row[i] += values[j * self->inner + i];
    }
}

static xai_status lrn_infer(operator_call *call)
{
    lrn self;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_FLOAT);
    if (status == XAI_OK)
        status = lrn_describe(call, &self);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape);
    return status;
}

/* Forward, or with `given` the gradient of x:
 *   gx_i = g_i d_i^-beta - 2 factor beta x_i sum over { j : i in window(j) } of g_j x_j
 *   d_j^(-beta - 1) */
static xai_status lrn_compute(operator_call *call, const tensor *given, tensor *result)
{
    lrn self;
    double *x = NULL, *g = NULL, *terms = NULL, *sums = NULL, *scales = NULL;
    xai_status status = lrn_describe(call, &self);
    if (status != XAI_OK)
        return status;
    const size_t plane = self.rows > 0 ? self.channels * self.inner : 0;
    status = operator_read_doubles(call, call->inputs[0], &x);
    if (status == XAI_OK && given)
        status = operator_read_doubles(call, given, &g);
    if (status == XAI_OK)
        status = operator_allocate(call, plane, &terms);
    if (status == XAI_OK)
        status = operator_allocate(call, plane, &sums);
    if (status == XAI_OK)
        status = operator_allocate(call, plane, &scales);
    for (size_t n = 0; status == XAI_OK && n < self.rows; n++) {
        double *row = x + n * plane;
        for (size_t i = 0; i < plane; i++)
            terms[i] = row[i] * row[i];
        window_sums(&self, self.before, self.after, terms, sums);
        for (size_t i = 0; i < plane; i++) {
            const double d = self.bias + self.factor * sums[i];
            scales[i] = pow(d, -self.beta);
            if (given)
                terms[i] = g[n * plane + i] * row[i] * scales[i] / d;
            else
                row[i] *= scales[i];
        }
        if (!given)
            continue;
        window_sums(&self, self.after, self.before, terms, sums); /* the mirrored window */
        for (size_t i = 0; i < plane; i++)
            row[i] = g[n * plane + i] * scales[i] - 2 * self.factor * self.beta * row[i] * sums[i];
    }
    if (status == XAI_OK)
        tensor_write_doubles(result, 0, tensor_count(result), x);
    memory_free(x);
    memory_free(g);
    memory_free(terms);
    memory_free(sums);
    memory_free(scales);
    return status;
}

static xai_status lrn_forward(operator_call *call)
{
    return lrn_compute(call, NULL, call->outputs[0]);
}

static xai_status lrn_backward(operator_call *call)
{
    const tensor *given = operator_output_gradient(call, 0);
    if (!given || !operator_wanted_gradient(call, 0)) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    return lrn_compute(call, given, call->input_gradients[0]);
}

const operator_definition operator_lrn = {
    "LRN", "", 1, 1, 1, 1, 1, 0, OPERATOR_READS_INPUT(0), lrn_infer, lrn_forward, lrn_backward};

/* Operators on rows of x in place; with g, which holds the gradient of y, the row of g becomes
 * the gradient of x. */
typedef void (*row_function)(double *x, double *g, size_t width);

static xai_status rows_compute(operator_call *call, uint32_t axes, row_function function,
                               const tensor *given, tensor *result)
{
    double *x = NULL, *g = NULL;
    const shape *dims = &call->inputs[0]->shape;
    xai_status status = operator_read_rows(call, call->inputs[0], axes, &x);
    if (status == XAI_OK && given)
        status = operator_read_rows(call, given, axes, &g);
    if (status == XAI_OK) {
        const size_t width = rows_width(dims, axes), count = width > 0 ? rows_count(dims, axes) : 0;
        for (size_t r = 0; r < count; r++)
            function(x + r * width, g ? g + r * width : NULL, width);
        status = operator_write_rows(call, result, axes, g ? g : x);
    }
    memory_free(x);
    memory_free(g);
    return status;
}

/* Forward when the gradient is not asked for; both operators have one input and one output. */
static xai_status rows_backward(operator_call *call, uint32_t axes, row_function function)
{
    const tensor *given = operator_output_gradient(call, 0);
    if (!given || !operator_wanted_gradient(call, 0)) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    return rows_compute(call, axes, function, given, call->input_gradients[0]);
}

/* LpNormalization: y = x / |x|_p, and 0 where the norm is 0. gx = (g - d|x| <g, y>) / |x|. */
static void l1_row(double *x, double *g, size_t width)
{
    double norm = 0, inner = 0;
    for (size_t i = 0; i < width; i++)
        norm += fabs(x[i]);
    const double inverse = norm > 0 || norm != norm ? 1 / norm : 0;
    for (size_t i = 0; g && i < width; i++)
        inner += g[i] * x[i] * inverse;
    for (size_t i = 0; i < width; i++) {
        if (g)
            g[i] = inverse * (g[i] - (double)((x[i] > 0) - (x[i] < 0)) * inner);
        else
            x[i] *= inverse;
    }
}

static void l2_row(double *x, double *g, size_t width)
{
    double norm = 0, inner = 0;
    for (size_t i = 0; i < width; i++)
        norm += x[i] * x[i];
    const double inverse = norm > 0 || norm != norm ? 1 / sqrt(norm) : 0;
    for (size_t i = 0; g && i < width; i++)
        inner += g[i] * x[i] * inverse;
    for (size_t i = 0; i < width; i++) {
        if (g)
            g[i] = inverse * (g[i] - x[i] * inverse * inner);
        else
            x[i] *= inverse;
    }
}

static xai_status lp_describe(const operator_call *call, uint32_t *axes, row_function *function)
{
    int64_t given, p;
    int axis = 0;
    xai_status status = operator_attribute_int(call, "axis", -1, &given);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "p", 2, &p);
    if (status == XAI_OK)
        status = operator_axis(call, given, call->inputs[0]->shape.rank, &axis);
    if (status == XAI_OK && p != 1 && p != 2)
        status = operator_error(call, XAI_ERROR_FORMAT, "attribute 'p' is %lld, not 1 or 2",
                                (long long)p);
    if (status != XAI_OK)
        return status;
    *axes = 1u << axis;
    *function = p == 1 ? l1_row : l2_row;
    return XAI_OK;
}

static xai_status lp_normalization_infer(operator_call *call)
{
    uint32_t axes;
    row_function function;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_FLOAT);
    if (status == XAI_OK)
        status = lp_describe(call, &axes, &function);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape);
    return status;
}

static xai_status lp_normalization_forward(operator_call *call)
{
    uint32_t axes;
    row_function function;
    const xai_status status = lp_describe(call, &axes, &function);
    return status == XAI_OK ? rows_compute(call, axes, function, NULL, call->outputs[0]) : status;
}

static xai_status lp_normalization_backward(operator_call *call)
{
    uint32_t axes;
    row_function function;
    const xai_status status = lp_describe(call, &axes, &function);
    return status == XAI_OK ? rows_backward(call, axes, function) : status;
}

const operator_definition operator_lp_normalization = {"LpNormalization",
                                                       "",
                                                       1,
                                                       1,
                                                       1,
                                                       1,
                                                       1,
                                                       0,
                                                       OPERATOR_READS_INPUT(0),
                                                       lp_normalization_infer,
                                                       lp_normalization_forward,
                                                       lp_normalization_backward};

/* MeanVarianceNormalization: y = (x - mean) / (deviation + 1e-9). With c = x - mean, s =
 * deviation, d = s + 1e-9:
 *   gx = (g - mean(g)) / d - c <g, c> / (d^2 width s) */
static void mean_variance_row(double *x, double *g, size_t width)
{
    double mean = 0, variance = 0, g_mean = 0, inner = 0;
    for (size_t i = 0; i < width; i++)
        mean += x[i];
    mean /= (double)width;
    for (size_t i = 0; i < width; i++) {
        x[i] -= mean;
        variance += x[i] * x[i];
        if (g) {
            g_mean += g[i];
            inner += g[i] * x[i];
        }
    }
    const double deviation = sqrt(variance / (double)width), divisor = deviation + 1e-9;
    g_mean /= (double)width;
    inner = deviation > 0 ? inner / (divisor * divisor * (double)width * deviation) : 0;
    for (size_t i = 0; i < width; i++) {
        if (g)
            g[i] = (g[i] - g_mean) / divisor - x[i] * inner;
        else
            x[i] /= divisor;
    }
}

static xai_status mean_variance_axes(const operator_call *call, uint32_t *axes)
{
    static const int64_t all_but_channels[] = {0, 2, 3};
    const int64_t *given;
    size_t count;
    int axis;
    xai_status status = operator_attribute_ints(call, "axes", &given, &count);
    if (!given) {
        given = all_but_channels;
        count = 3;
    }
    *axes = 0;
    for (size_t i = 0; status == XAI_OK && i < count; i++) {
        status = operator_axis(call, given[i], call->inputs[0]->shape.rank, &axis);
        if (status == XAI_OK)
            *axes |= 1u << axis;
    }
    return status;
}

static xai_status mean_variance_normalization_infer(operator_call *call)
{
    uint32_t axes;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_FLOAT);
    if (status == XAI_OK)
        status = mean_variance_axes(call, &axes);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape);
    return status;
}

static xai_status mean_variance_normalization_forward(operator_call *call)
{
    uint32_t axes;
    const xai_status status = mean_variance_axes(call, &axes);
    return status == XAI_OK ? rows_compute(call, axes, mean_variance_row, NULL, call->outputs[0])
                            : status;
}

static xai_status mean_variance_normalization_backward(operator_call *call)
{
    uint32_t axes;
    const xai_status status = mean_variance_axes(call, &axes);
    return status == XAI_OK ? rows_backward(call, axes, mean_variance_row) : status;
}

const operator_definition operator_mean_variance_normalization = {
    "MeanVarianceNormalization",
    "",
    1,
    1,
    1,
    1,
    9,
    0,
    OPERATOR_READS_INPUT(0),
    mean_variance_normalization_infer,
    mean_variance_normalization_forward,
    mean_variance_normalization_backward};
