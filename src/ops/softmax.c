/* Softmax, LogSoftmax and Hardmax over rows: since opset 13 along one axis, before over all axes
 * from `axis` on. */
#include <math.h>

#include "ops/families.h"
#include "ops/support.h"

/* The set of axes that make a row. */
static xai_status softmax_axes(const operator_call *call, uint32_t *axes)
{
    int64_t given;
    int axis;
    const int rank = call->inputs[0]->shape.rank;
    xai_status status = operator_attribute_int(call, "axis", call->opset < 13 ? 1 : -1, &given);
    if (status == XAI_OK)
        status = operator_axis(call, given, rank, &axis);
    if (status != XAI_OK)
        return status;
    *axes = call->opset < 13 ? (~0u << axis) & ((1u << rank) - 1) : 1u << axis;
    return XAI_OK;
}

static xai_status softmax_infer(operator_call *call)
{
    uint32_t axes;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_FLOAT);
    if (status == XAI_OK)
        status = softmax_axes(call, &axes);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape);
    return status;
}

/* y may be x. */
typedef void (*row_function)(const double *x, double *y, size_t width);
/* g (the gradient of y) becomes the gradient of x, from y. */
typedef void (*row_slope)(const double *y, double *g, size_t width);

static xai_status rows_forward(operator_call *call, row_function function)
{
    uint32_t axes;
    double *rows = NULL;
    const shape *dims = &call->inputs[0]->shape;
    xai_status status = softmax_axes(call, &axes);
    if (status == XAI_OK)
        status = operator_read_rows(call, call->inputs[0], axes, &rows);
    if (status == XAI_OK && tensor_count(call->inputs[0]) > 0) {
        const size_t width = rows_width(dims, axes), count = rows_count(dims, axes);
        for (size_t r = 0; r < count; r++)
            function(rows + r * width, rows + r * width, width);
        status = operator_write_rows(call, call->outputs[0], axes, rows);
    }
    memory_free(rows);
    return status;
}

static xai_status rows_backward(operator_call *call, row_slope slope)
{
    uint32_t axes;
    double *y = NULL, *g = NULL;
    tensor *wanted = operator_wanted_gradient(call, 0);
    const tensor *given = operator_output_gradient(call, 0);
    if (!wanted)
        return XAI_OK;
    if (!given) {
        operator_zero(wanted);
        return XAI_OK;
    }
    xai_status status = softmax_axes(call, &axes);
    if (status == XAI_OK)
        status = operator_read_rows(call, call->outputs[0], axes, &y);
    if (status == XAI_OK)
        status = operator_read_rows(call, given, axes, &g);
    if (status == XAI_OK && tensor_count(given) > 0) {
        const size_t width = rows_width(&given->shape, axes),
                     count = rows_count(&given->shape, axes);
        for (size_t r = 0; r < count; r++)
            slope(y + r * width, g + r * width, width);
        status = operator_write_rows(call, wanted, axes, g);
    }
    memory_free(y);
    memory_free(g);
    return status;
}

static double row_maximum(const double *x, size_t width)
{
    double maximum = x[0];
    for (size_t i = 1; i < width; i++)
        maximum = x[i] > maximum ? x[i] : maximum;
    return maximum;
}

/* y_i = exp(x_i - max x) / sum_j exp(x_j - max x) */
static void softmax_row(const double *x, double *y, size_t width)
{
    const double maximum = row_maximum(x, width);
    double sum = 0;
    for (size_t i = 0; i < width; i++)
        sum += y[i] = exp(x[i] - maximum);
    for (size_t i = 0; i < width; i++)
        y[i] /= sum;
}

/* gx = y (g - <g, y>) */
static void softmax_row_slope(const double *y, double *g, size_t width)
{
    double inner = 0;
    for (size_t i = 0; i < width; i++)
        inner += g[i] * y[i];
    for (size_t i = 0; i < width; i++)
        g[i] = y[i] * (g[i] - inner);
}

/* y_i = x_i - max x - log sum_j exp(x_j - max x) */
static void log_softmax_row(const double *x, double *y, size_t width)
{
    const double maximum = row_maximum(x, width);
    double sum = 0;
    for (size_t i = 0; i < width; i++)
        sum += exp(x[i] - maximum);
    const double logarithm = log(sum);
    for (size_t i = 0; i < width; i++)
        y[i] = x[i] - maximum - logarithm;
}

/* gx = g - exp(y) sum g */
static void log_softmax_row_slope(const double *y, double *g, size_t width)
{
    double sum = 0;
    for (size_t i = 0; i < width; i++)
        sum += g[i];
    for (size_t i = 0; i < width; i++)
        g[i] -= exp(y[i]) * sum;
}

/* 1 at the first maximum, 0 elsewhere. */
static void hardmax_row(const double *x, double *y, size_t width)
{
    size_t best = 0;
    for (size_t i = 1; i < width; i++)
        best = x[i] > x[best] ? i : best;
    for (size_t i = 0; i < width; i++)
        y[i] = i == best;
}

static xai_status softmax_forward(operator_call *call)
{
    return rows_forward(call, softmax_row);
}

static xai_status softmax_backward(operator_call *call)
{
    return rows_backward(call, softmax_row_slope);
}

static xai_status log_softmax_forward(operator_call *call)
{
    return rows_forward(call, log_softmax_row);
}

static xai_status log_softmax_backward(operator_call *call)
{
    return rows_backward(call, log_softmax_row_slope);
}

static xai_status hardmax_forward(operator_call *call)
{
    return rows_forward(call, hardmax_row);
}

const operator_definition operator_softmax = {
    "Softmax",       "", 1, 1, 1, 1, 1, 0, OPERATOR_READS_OUTPUT(0), softmax_infer, softmax_forward,
    softmax_backward};
const operator_definition operator_log_softmax = {"LogSoftmax",
                                                  "",
                                                  1,
                                                  1,
                                                  1,
                                                  1,
                                                  1,
                                                  0,
                                                  OPERATOR_READS_OUTPUT(0),
                                                  softmax_infer,
                                                  log_softmax_forward,
                                                  log_softmax_backward};
const operator_definition operator_hardmax = {
    "Hardmax", "", 1, 1, 1, 1, 1, 0, 0, softmax_infer, hardmax_forward, NULL};
