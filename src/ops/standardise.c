/* Rows brought to mean 0 and variance 1 (or to a root mean square of 1), then scaled and shifted:
 * InstanceNormalization, LayerNormalization, GroupNormalization and RMSNormalization.
 *
 *     inverse = 1 / sqrt(variance + epsilon)
 *     normal = (x - mean) inverse
 *     y = scale normal + shift
 *
 * All are one map: x seen under another shape whose last axes make a row, with scale and shift
 * broadcast to it. */
#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/rescale.h"
#include "ops/support.h"

typedef struct standardisation {
    shape view;         /* of x */
    size_t rows, width; /* rows of the view's last axes */
    shape scale, shift; /* the parameters' shapes, broadcast to the view */
    double epsilon;
    bool centred; /* false: the mean is taken as 0 */
} standardisation;

/* Fills the struct for one operator, checking attributes and shapes. */
typedef xai_status (*describe)(const operator_call *call, standardisation *out);

static xai_status read_epsilon(const operator_call *call, double *epsilon)
{
    float given;
    const xai_status status = operator_attribute_float(call, "epsilon", 1e-5f, &given);
    *epsilon = (double)given;
    return status;
}

/* Rows of all view axes from `first` on. */
static void set_rows(standardisation *self, int first)
{
    self->rows = self->width = 1;
    for (int i = 0; i < self->view.rank; i++)
        *(i < first ? &self->rows : &self->width) *= (size_t)self->view.dims[i];
    if (self->width == 0)
        self->rows = 0;
}

static xai_status standardise_infer(operator_call *call, describe describe_call)
{
    standardisation s;
    xai_status status = operator_check(call);
    for (int i = 0; status == XAI_OK && i < call->input_count; i++) {
        if (!call->inputs[i])
            continue;
        status = operator_check_type(call, i, TYPES_FLOAT);
    }
    if (status == XAI_OK)
        status = describe_call(call, &s);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape);
    return status;
}

/* Rows of x to normal rows in place; the row's statistics may be wanted too. */
static void standardise_rows(const standardisation *s, double *x, double *means, double *inverses)
{
    for (size_t r = 0; r < s->rows; r++) {
        double *row = x + r * s->width;
        double mean = 0, variance = 0;
        for (size_t i = 0; s->centred && i < s->width; i++)
            mean += row[i];
        mean /= (double)s->width;
        for (size_t i = 0; i < s->width; i++) {
            row[i] -= mean;
            variance += row[i] * row[i];
        }
        const double inverse = 1 / sqrt(variance / (double)s->width + s->epsilon);
        for (size_t i = 0; i < s->width; i++)
            row[i] *= inverse;
        if (means)
            means[r] = mean;
        if (inverses)
            inverses[r] = inverse;
    }
}

static xai_status standardise_forward(operator_call *call, describe describe_call)
{
    standardisation s;
    double *x = NULL, *means = NULL, *inverses = NULL;
    void *scale = NULL, *shift = NULL;
    const size_t count = tensor_count(call->inputs[0]);
    xai_status status = describe_call(call, &s);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    if (status == XAI_OK)
        status = operator_allocate(call, s.rows, &means);
    if (status == XAI_OK)
        status = operator_allocate(call, s.rows, &inverses);
    tensor as_view; /* a parameter under the shape in which it is broadcast */
    if (status == XAI_OK) {
        as_view = *call->inputs[1];
        as_view.shape = s.scale;
        status = operator_read_repeated(call, &as_view, true, &s.view, &scale);
    }
    if (status == XAI_OK && operator_has_input(call, 2)) {
        as_view = *call->inputs[2];
        as_view.shape = s.shift;
        status = operator_read_repeated(call, &as_view, true, &s.view, &shift);
    }
    if (status == XAI_OK) {
        const double *factors = scale, *offsets = shift;
        standardise_rows(&s, x, means, inverses);
        for (size_t i = 0; i < count; i++)
            x[i] = x[i] * factors[i] + (offsets ? offsets[i] : 0);
        tensor_write_doubles(call->outputs[0], 0, count, x);
        if (operator_output(call, 1))
            tensor_write_doubles(call->outputs[1], 0, s.rows, means);
        if (operator_output(call, 2))
            tensor_write_doubles(call->outputs[2], 0, s.rows, inverses);
    }
    memory_free(x);
    memory_free(means);
    memory_free(inverses);
    memory_free(scale);
    memory_free(shift);
    return status;
}

/* gx = inverse (h - mean(h) - normal mean(h normal)) with h = scale g; without the middle term
 * when not centred. The statistics as outputs add g_mean / width and -g_inverse inverse^2 normal
 * / width. */
static void row_gradients(const standardisation *s, const double *normal, const double *inverses,
                          const double *g_means, const double *g_inverses, double *h)
{
    for (size_t r = 0; r < s->rows; r++) {
        const double *row = normal + r * s->width, width = (double)s->width;
        double *out = h + r * s->width, mean = 0, inner = 0;
        for (size_t i = 0; i < s->width; i++) {
            mean += out[i];
            inner += out[i] * row[i];
        }
        mean = s->centred ? mean / width : 0;
        inner /= width;
        const double inverse = inverses[r], g_mean = g_means ? g_means[r] / width : 0;
        const double g_inverse = g_inverses ? g_inverses[r] * inverse * inverse / width : 0;
        for (size_t i = 0; i < s->width; i++)
            out[i] = inverse * (out[i] - mean - row[i] * inner) + g_mean - g_inverse * row[i];
    }
}

static xai_status read_gradient(const operator_call *call, int i, size_t count, double **out)
{
    const tensor *given = operator_output_gradient(call, i);
    if (given)
        return operator_read_doubles(call, given, out);
    return operator_allocate(call, count, out);
}

/* Sum of g (the view's shape) over the repetitions of a parameter. */
static xai_status write_parameter_gradient(operator_call *call, int i, const standardisation *s,
                                           const shape *dims, const double *g)
{
    tensor *wanted = operator_wanted_gradient(call, i);
    if (!wanted)
        return XAI_OK;
    tensor as_view = *wanted;
    as_view.shape = *dims;
    return operator_write_reduced(call, &s->view, g, &as_view);
}

static xai_status standardise_backward(operator_call *call, describe describe_call)
{
    standardisation s;
    double *normal = NULL, *inverses = NULL, *g = NULL, *product = NULL, *g_means = NULL,
           *g_inverses = NULL;
    void *scale = NULL;
    const size_t count = tensor_count(call->inputs[0]);
    xai_status status = describe_call(call, &s);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &normal);
    if (status == XAI_OK)
        status = operator_allocate(call, s.rows, &inverses);
    if (status == XAI_OK)
        status = read_gradient(call, 0, count, &g);
    if (status != XAI_OK)
        goto done;
    standardise_rows(&s, normal, NULL, inverses);
    status = write_parameter_gradient(call, 2, &s, &s.shift, g);
    if (status == XAI_OK && operator_wanted_gradient(call, 1)) {
        status = operator_allocate(call, count, &product);
        for (size_t i = 0; status == XAI_OK && i < count; i++)
            product[i] = g[i] * normal[i];
        if (status == XAI_OK)
            status = write_parameter_gradient(call, 1, &s, &s.scale, product);
    }
    if (status != XAI_OK || !operator_wanted_gradient(call, 0))
        goto done;
    tensor as_view = *call->inputs[1];
    as_view.shape = s.scale;
    status = operator_read_repeated(call, &as_view, true, &s.view, &scale);
    if (status == XAI_OK && operator_output_gradient(call, 1))
        status = read_gradient(call, 1, s.rows, &g_means);
    if (status == XAI_OK && operator_output_gradient(call, 2))
        status = read_gradient(call, 2, s.rows, &g_inverses);
    if (status != XAI_OK)
        goto done;
    const double *factors = scale;
    for (size_t i = 0; i < count; i++)
        g[i] *= factors[i];
    row_gradients(&s, normal, inverses, g_means, g_inverses, g);
    tensor_write_doubles(call->input_gradients[0], 0, count, g);
done:
    memory_free(normal);
    memory_free(inverses);
    memory_free(g);
    memory_free(product);
    memory_free(g_means);
    memory_free(g_inverses);
    memory_free(scale);
    return status;
}

#define STANDARDISE(symbol, name, least_inputs, most_inputs, most_outputs, first_opset) \
    static xai_status symbol##_forward(operator_call *call)                             \
    {                                                                                   \
        return standardise_forward(call, symbol##_describe);                            \
    }                                                                                   \
    static xai_status symbol##_backward(operator_call *call)                            \
    {                                                                                   \
        return standardise_backward(call, symbol##_describe);                           \
    }                                                                                   \
    const operator_definition operator_##symbol = {name,                                \
                                                   "",                                  \
                                                   least_inputs,                        \
                                                   most_inputs,                         \
                                                   1,                                   \
                                                   most_outputs,                        \
                                                   first_opset,                         \
                                                   0,                                   \
                                                   OPERATOR_READS_INPUT(0) |            \
                                                       OPERATOR_READS_INPUT(1),         \
                                                   symbol##_infer,                      \
                                                   symbol##_forward,                    \
                                                   symbol##_backward}

/* Error unless parameter i is a list of `count` values. */
static xai_status check_list(const operator_call *call, int i, int64_t count, const char *each)
{
    char text[SHAPE_TEXT_SIZE];
    const shape *dims = &call->inputs[i]->shape;
    if (dims->rank == 1 && dims->dims[0] == count)
        return XAI_OK;
    return operator_error(call, XAI_ERROR_SHAPE,
                          "input %d has shape %s where one value for each of %lld %s is needed", i,
                          shape_text(dims, text), (long long)count, each);
}

static xai_status check_channels(const operator_call *call)
{
    char text[SHAPE_TEXT_SIZE];
    if (call->inputs[0]->shape.rank >= 2)
        return XAI_OK;
    return operator_error(call, XAI_ERROR_SHAPE, "x of shape %s has no channels",
                          shape_text(&call->inputs[0]->shape, text));
}

/* Product of the dimensions behind the channels. */
static int64_t inner_size(const shape *dims)
{
    int64_t inner = 1;
    for (int i = 2; i < dims->rank; i++)
        inner *= dims->dims[i];
    return inner;
}

/* InstanceNormalization: a row is one channel of one example. */
static xai_status instance_normalization_describe(const operator_call *call, standardisation *out)
{
    const shape *dims = &call->inputs[0]->shape;
    *out = (standardisation){.centred = true};
    xai_status status = read_epsilon(call, &out->epsilon);
    if (status == XAI_OK)
        status = check_channels(call);
    for (int i = 1; status == XAI_OK && i < 3; i++)
        status = check_list(call, i, dims->dims[1], "channels");
    if (status != XAI_OK)
        return status;
    out->view = shape_make(3, (const int64_t[]){dims->dims[0], dims->dims[1], inner_size(dims)});
    out->scale = out->shift = shape_make(2, (const int64_t[]){dims->dims[1], 1});
    set_rows(out, 2);
    return XAI_OK;
}

static xai_status instance_normalization_infer(operator_call *call)
{
    return standardise_infer(call, instance_normalization_describe);
}
STANDARDISE(instance_normalization, "InstanceNormalization", 3, 3, 1, 1);

/* GroupNormalization: a row is one group of channels. Parameters are one a group in opset 18, one
 * a channel since 21. */
static xai_status group_normalization_describe(const operator_call *call, standardisation *out)
{
    int64_t groups;
    const shape *dims = &call->inputs[0]->shape;
    *out = (standardisation){.centred = true};
    xai_status status = read_epsilon(call, &out->epsilon);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "num_groups", 0, &groups);
    if (status == XAI_OK)
        status = check_channels(call);
    if (status != XAI_OK)
        return status;
    const int64_t channels = dims->dims[1];
    if (groups < 1 || channels % groups != 0)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "%lld channels cannot be parted into num_groups = %lld",
                              (long long)channels, (long long)groups);
    const bool per_channel = call->opset >= 21;
    for (int i = 1; status == XAI_OK && i < 3; i++)
        status = check_list(call, i, per_channel ? channels : groups,
                            per_channel ? "channels" : "groups");
    if (status != XAI_OK)
        return status;
    out->view = shape_make(
        4, (const int64_t[]){dims->dims[0], groups, channels / groups, inner_size(dims)});
    out->scale = out->shift =
        shape_make(3, (const int64_t[]){groups, per_channel ? channels / groups : 1, 1});
    set_rows(out, 2);
    return XAI_OK;
}

static xai_status group_normalization_infer(operator_call *call)
{
    return standardise_infer(call, group_normalization_describe);
}
STANDARDISE(group_normalization, "GroupNormalization", 3, 3, 1, 18);

/* LayerNormalization and RMSNormalization: a row is all axes from `axis` on; parameters are
 * broadcast to x. */
static xai_status describe_last_axes(const operator_call *call, bool centred, standardisation *out,
                                     int *axis)
{
    char text[SHAPE_TEXT_SIZE], x_text[SHAPE_TEXT_SIZE];
    int64_t given;
    const shape *dims = &call->inputs[0]->shape;
    *out = (standardisation){.centred = centred, .view = *dims};
    xai_status status = read_epsilon(call, &out->epsilon);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "axis", -1, &given);
    if (status == XAI_OK)
        status = operator_axis(call, given, dims->rank, axis);
    for (int i = 1; status == XAI_OK && i < call->input_count; i++) {
        shape common;
        if (!call->inputs[i])
            continue;
        *(i == 1 ? &out->scale : &out->shift) = call->inputs[i]->shape;
        status = operator_broadcast(call, dims, &call->inputs[i]->shape, &common);
        if (status == XAI_OK && !shape_equal(&common, dims))
            status = operator_error(
                call, XAI_ERROR_SHAPE, "input %d of shape %s does not fit x of shape %s", i,
                shape_text(&call->inputs[i]->shape, text), shape_text(dims, x_text));
    }
    if (status == XAI_OK)
        set_rows(out, *axis);
    return status;
}

static xai_status layer_normalization_describe(const operator_call *call, standardisation *out)
{
    int axis;
    return describe_last_axes(call, true, out, &axis);
}

/* Outputs 1 and 2 hold the statistics: the shape of x with ones from `axis` on. */
static xai_status layer_normalization_infer(operator_call *call)
{
    standardisation s;
    int axis = 0;
    int64_t statistics_type = DTYPE_FLOAT;
    xai_status status = standardise_infer(call, layer_normalization_describe);
    if (status == XAI_OK)
        status = describe_last_axes(call, true, &s, &axis);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "stash_type", DTYPE_FLOAT, &statistics_type);
    if (status == XAI_OK &&
        (statistics_type > DTYPE_BFLOAT16 || !dtype_is_float((int32_t)statistics_type)))
        status = operator_error(call, XAI_ERROR_FORMAT, "stash_type %lld is not a float type",
                                (long long)statistics_type);
    if (status != XAI_OK)
        return status;
    shape statistics = call->inputs[0]->shape;
    for (int i = axis; i < statistics.rank; i++)
        statistics.dims[i] = 1;
    for (int i = 1; status == XAI_OK && i < 3; i++)
        status = operator_set_output(call, i, (int32_t)statistics_type, &statistics);
    return status;
}
STANDARDISE(layer_normalization, "LayerNormalization", 2, 3, 3, 17);

static xai_status rms_normalization_describe(const operator_call *call, standardisation *out)
{
    int axis;
    return describe_last_axes(call, false, out, &axis);
}

static xai_status rms_normalization_infer(operator_call *call)
{
    return standardise_infer(call, rms_normalization_describe);
}
STANDARDISE(rms_normalization, "RMSNormalization", 2, 2, 1, 23);

/* DeepLIFT's Rescale rule. With c = x - mean, u = 1 / sqrt(variance + epsilon), h = scale g, and the
 * same of the baseline (c_r, u_r):
 *     m_c = h (u + u_r) / 2 - (c + c_r) sum(h (c + c_r)) / 2 * (u u_r)^2 / (u + u_r) / width
 *     m = m_c - mean m_c (m_c when not centred) */
static void rescale_row(const standardisation *s, const double *x, const double *r, double u,
                        double u_r, double mean, double mean_r, double *h)
{
    const double width = (double)s->width, both = mean + mean_r;
    double inner = 0, sum = 0;
    for (size_t i = 0; i < s->width; i++) {
        inner += h[i] * (x[i] + r[i] - both);
        sum += h[i];
    }
    const double slope = 0.5 * inner * (u * u_r) * (u * u_r) / (u + u_r) / width;
    const double level = s->centred ? sum / width : 0;
    for (size_t i = 0; i < s->width; i++)
        h[i] = 0.5 * (u + u_r) * (h[i] - level) - slope * (x[i] + r[i] - both);
}

static xai_status describe_any(const operator_call *call, standardisation *out)
{
    const char *name = call->definition->name;
    if (strcmp(name, "InstanceNormalization") == 0)
        return instance_normalization_describe(call, out);
    if (strcmp(name, "GroupNormalization") == 0)
        return group_normalization_describe(call, out);
    if (strcmp(name, "RMSNormalization") == 0)
        return rms_normalization_describe(call, out);
    return layer_normalization_describe(call, out);
}

xai_status standardise_rescale(operator_call *call, const tensor *const *baseline)
{
    standardisation s;
    double *x = NULL, *r = NULL, *normal = NULL, *h = NULL, *statistics = NULL;
    void *scale = NULL;
    const size_t count = tensor_count(call->inputs[0]);
    if (!operator_wanted_gradient(call, 0))
        return XAI_OK;
    xai_status status = describe_any(call, &s);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    if (status == XAI_OK)
        status = operator_read_doubles(call, baseline[0], &r);
    if (status == XAI_OK)
        status = operator_read_doubles(call, operator_output_gradient(call, 0), &h);
    if (status == XAI_OK)
        status = operator_allocate(call, count, &normal);
    if (status == XAI_OK)
        status = operator_allocate(call, 4 * s.rows, &statistics);
    if (status == XAI_OK) {
        tensor as_view = *call->inputs[1];
        as_view.shape = s.scale;
        status = operator_read_repeated(call, &as_view, true, &s.view, &scale);
    }
    if (status == XAI_OK) {
        const double *factors = scale;
        double *means = statistics, *means_r = statistics + s.rows, *inverses = means_r + s.rows,
               *inverses_r = inverses + s.rows;
        memcpy(normal, x, count * sizeof *x);
        standardise_rows(&s, normal, means, inverses);
        memcpy(normal, r, count * sizeof *r);
        standardise_rows(&s, normal, means_r, inverses_r);
        for (size_t i = 0; i < count; i++)
            h[i] *= factors[i];
        for (size_t k = 0; k < s.rows; k++)
            rescale_row(&s, x + k * s.width, r + k * s.width, inverses[k], inverses_r[k], means[k],
                        means_r[k], h + k * s.width);
        tensor_write_doubles(call->input_gradients[0], 0, count, h);
    }
    memory_free(x);
    memory_free(r);
    memory_free(h);
    memory_free(normal);
    memory_free(statistics);
    memory_free(scale);
    return status;
}
