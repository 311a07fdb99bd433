/* Per-channel affine maps with known statistics: BatchNormalization at inference, and ScaleShift,
 * which it is folded to. */
#include <math.h>

#include "ops/families.h"
#include "ops/support.h"

/* x seen as (rows, channels, inner). */
typedef struct channel_view {
    size_t rows, channels, inner;
} channel_view;

static channel_view channel_view_of(const shape *dims, bool per_element)
{
    channel_view view = {1, 1, 1};
    if (dims->rank > 0)
        view.rows = (size_t)dims->dims[0];
    if (dims->rank > 1)
        view.channels = (size_t)dims->dims[1];
    for (int i = 2; i < dims->rank; i++)
        *(per_element ? &view.channels : &view.inner) *= (size_t)dims->dims[i];
    if (view.rows == 0 ||
        view.inner == 0) /* no element: keep loops over the other dimensions short */
        view.rows = 0;
    return view;
}

static xai_status check_parameter(const operator_call *call, int i, const channel_view *view,
                                  bool per_element)
{
    char text[SHAPE_TEXT_SIZE];
    const shape *dims = &call->inputs[i]->shape;
    size_t count;
    const xai_status status = operator_check_type(call, i, TYPES_FLOAT);
    if (status != XAI_OK)
        return status;
    if (!shape_count(dims, &count) || count != view->channels || (!per_element && dims->rank != 1))
        return operator_error(call, XAI_ERROR_SHAPE,
                              "input %d has shape %s where one value for each of %zu channels is "
                              "needed",
                              i, shape_text(dims, text), view->channels);
    return XAI_OK;
}

/* The map of one call: y = (x - mean) inverse scale + shift, one entry of each a channel. */
typedef struct affine {
    double *scale, *shift, *mean, *inverse; /* inverse = 1 / sqrt(variance + epsilon) */
} affine;

static void affine_free(affine *self)
{
    memory_free(self->scale);
    memory_free(self->shift);
    memory_free(self->mean);
    memory_free(self->inverse);
}

/* Gradients of one call by input, summed over a channel: 1 scale, 2 shift, and with statistics 3
 * mean, 4 variance. */
static xai_status channel_gradients(operator_call *call, const channel_view *view,
                                    const affine *map, bool statistics)
{
    double *x = NULL, *g = NULL, *sums = NULL;
    const tensor *given = operator_output_gradient(call, 0);
    const bool needs_x = operator_wanted_gradient(call, 1) || operator_wanted_gradient(call, 4);
    xai_status status = operator_read_doubles(call, given, &g);
    if (status == XAI_OK && needs_x)
        status = operator_read_doubles(call, call->inputs[0], &x);
    if (status == XAI_OK)
        status = operator_allocate(call, 2 * view->channels, &sums);
    if (status != XAI_OK)
        goto done;
    double *g_sum = sums, *gx_sum = sums + view->channels; /* sum g, sum g (x - mean) inverse */
    for (size_t n = 0; n < view->rows; n++) {
        for (size_t c = 0; c < view->channels; c++) {
            const size_t begin = (n * view->channels + c) * view->inner;
            const double mean = statistics ? map->mean[c] : 0,
                         inverse = statistics ? map->inverse[c] : 1;
            double sum = 0, product = 0;
            for (size_t i = begin; i < begin + view->inner; i++) {
                sum += g[i];
                if (x)
                    product += g[i] * (x[i] - mean) * inverse;
                g[i] *= inverse * map->scale[c];
            }
            g_sum[c] += sum;
            gx_sum[c] += product;
        }
    }
    if (operator_wanted_gradient(call, 0))
        tensor_write_doubles(call->input_gradients[0], 0, tensor_count(given), g);
    if (operator_wanted_gradient(call, 1))
        tensor_write_doubles(call->input_gradients[1], 0, view->channels, gx_sum);
    if (operator_wanted_gradient(call, 2))
        tensor_write_doubles(call->input_gradients[2], 0, view->channels, g_sum);
    for (size_t c = 0; statistics && c < view->channels; c++) {
        const double inverse = map->inverse[c];
        if (operator_wanted_gradient(call, 3))
            tensor_set(call->input_gradients[3], c, -g_sum[c] * map->scale[c] * inverse);
        if (operator_wanted_gradient(call, 4))
            tensor_set(call->input_gradients[4], c,
                       -0.5 * gx_sum[c] * map->scale[c] * inverse * inverse);
    }
done:
    memory_free(x);
    memory_free(g);
    memory_free(sums);
    return status;
}

static xai_status channel_forward(operator_call *call, const channel_view *view, const affine *map,
                                  bool statistics)
{
    double *x = NULL;
    xai_status status = operator_read_doubles(call, call->inputs[0], &x);
    if (status != XAI_OK)
        return status;
    for (size_t n = 0; n < view->rows; n++) {
        for (size_t c = 0; c < view->channels; c++) {
            double *row = x + (n * view->channels + c) * view->inner;
            const double mean = statistics ? map->mean[c] : 0, shift = map->shift[c];
            const double factor = map->scale[c] * (statistics ? map->inverse[c] : 1);
            for (size_t i = 0; i < view->inner; i++)
                row[i] = (row[i] - mean) * factor + shift;
        }
    }
    tensor_write_doubles(call->outputs[0], 0, tensor_count(call->inputs[0]), x);
    memory_free(x);
    return XAI_OK;
}

/* Opsets 7 and 8 may keep statistics an element (spatial = 0). */
typedef struct batch_attributes {
    bool per_element;
    bool training; /* the statistics are those of x itself */
    double epsilon, momentum;
} batch_attributes;

static xai_status read_batch_attributes(const operator_call *call, batch_attributes *out)
{
    int64_t spatial = 1, training = 0;
    float epsilon = 1e-5f, momentum = 0.9f;
    xai_status status = operator_attribute_float(call, "epsilon", 1e-5f, &epsilon);
    if (status == XAI_OK)
        status = operator_attribute_float(call, "momentum", 0.9f, &momentum);
    if (status == XAI_OK && call->opset < 9)
        status = operator_attribute_int(call, "spatial", 1, &spatial);
    if (status == XAI_OK && call->opset >= 14)
        status = operator_attribute_int(call, "training_mode", 0, &training);
    *out = (batch_attributes){
        .per_element = spatial == 0,
        .training = training != 0,
        .epsilon = (double)epsilon,
        .momentum = (double)momentum,
    };
    return status;
}

/* Training mode mixes the rows of a batch, so it is for constants: weights that are standardised
 * when the model is loaded. Its outputs 1 and 2 are the running statistics. */
static xai_status check_training(operator_call *call, const batch_attributes *attributes)
{
    const int outputs = attributes->training ? 3 : 1;
    if (attributes->training && !call->inputs[0]->data)
        return operator_error(call, XAI_ERROR_UNSUPPORTED,
                              "training_mode is on and x is not a constant; export the model for "
                              "inference");
    for (int i = outputs; i < call->output_count; i++)
        if (call->outputs[i])
            return operator_error(
                call, XAI_ERROR_UNSUPPORTED,
                "output %d exists in training mode only; export the model for inference", i);
    for (int i = 1; i < outputs && i < call->output_count; i++) {
        const tensor *like = call->inputs[i + 2];
        const xai_status status =
            call->outputs[i] ? operator_set_output(call, i, like->dtype, &like->shape) : XAI_OK;
        if (status != XAI_OK)
            return status;
    }
    return XAI_OK;
}

static xai_status batch_normalization_infer(operator_call *call)
{
    batch_attributes attributes;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = read_batch_attributes(call, &attributes);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_FLOAT);
    if (status == XAI_OK && call->inputs[0]->shape.rank == 0)
        status = operator_error(call, XAI_ERROR_SHAPE, "x is a scalar");
    if (status == XAI_OK) {
        const channel_view view = channel_view_of(&call->inputs[0]->shape, attributes.per_element);
        for (int i = 1; status == XAI_OK && i < 5; i++)
            status = check_parameter(call, i, &view, attributes.per_element);
    }
    if (status == XAI_OK)
        status = check_training(call, &attributes);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape);
    return status;
}

/* Mean and variance (of the population) of every channel of x. */
static xai_status measure_channels(const operator_call *call, const channel_view *view,
                                   double *mean, double *variance)
{
    double *x = NULL;
    const double count = (double)view->rows * (double)view->inner;
    const xai_status status = operator_read_doubles(call, call->inputs[0], &x);
    if (status != XAI_OK)
        return status;
    for (int pass = 0; pass < 2; pass++) {
        double *const into = pass == 0 ? mean : variance;
        for (size_t c = 0; c < view->channels; c++) {
            double sum = 0;
            for (size_t n = 0; n < view->rows; n++) {
                const double *row = x + (n * view->channels + c) * view->inner;
                for (size_t i = 0; i < view->inner; i++)
                    sum += pass == 0 ? row[i] : (row[i] - mean[c]) * (row[i] - mean[c]);
            }
            into[c] = count > 0 ? sum / count : 0;
        }
    }
    memory_free(x);
    return XAI_OK;
}

/* Replaces the stored statistics by those of x; the running ones are the outputs 1 and 2. */
static xai_status train(operator_call *call, const batch_attributes *attributes,
                        const channel_view *view, affine *map)
{
    double *measured = NULL;
    double *const statistics[] = {map->mean, map->inverse};
    xai_status status = operator_allocate(call, 2 * view->channels, &measured);
    if (status == XAI_OK)
        status = measure_channels(call, view, measured, measured + view->channels);
    for (int k = 0; status == XAI_OK && k < 2; k++) {
        for (size_t c = 0; c < view->channels; c++) {
            const double now = measured[(size_t)k * view->channels + c],
                         kept = attributes->momentum;
            if (k + 1 < call->output_count && call->outputs[k + 1])
                tensor_set(call->outputs[k + 1], c, statistics[k][c] * kept + now * (1 - kept));
            statistics[k][c] = now;
        }
    }
    memory_free(measured);
    return status;
}

/* The statistics and, forward only, the shift. */
static xai_status batch_map(operator_call *call, bool forward, affine *map, channel_view *view)
{
    batch_attributes attributes;
    xai_status status = read_batch_attributes(call, &attributes);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[1], &map->scale);
    if (status == XAI_OK && forward)
        status = operator_read_doubles(call, call->inputs[2], &map->shift);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[3], &map->mean);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[4], &map->inverse);
    if (status != XAI_OK)
        return status;
    *view = channel_view_of(&call->inputs[0]->shape, attributes.per_element);
    if (attributes.training && !forward)
        return operator_error(call, XAI_ERROR_UNSUPPORTED, "training_mode has no gradient");
    if (attributes.training)
        status = train(call, &attributes, view, map);
    for (size_t c = 0; status == XAI_OK && c < view->channels; c++)
        map->inverse[c] = 1 / sqrt(map->inverse[c] + attributes.epsilon);
    return status;
}

static xai_status batch_normalization_forward(operator_call *call)
{
    affine map = {0};
    channel_view view;
    xai_status status = batch_map(call, true, &map, &view);
    if (status == XAI_OK)
        status = channel_forward(call, &view, &map, true);
    affine_free(&map);
    return status;
}

static xai_status batch_normalization_backward(operator_call *call)
{
    affine map = {0};
    channel_view view;
    if (!operator_output_gradient(call, 0)) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    xai_status status = batch_map(call, false, &map, &view);
    if (status == XAI_OK)
        status = channel_gradients(call, &view, &map, true);
    affine_free(&map);
    return status;
}

const operator_definition operator_batch_normalization = {
    "BatchNormalization",
    "",
    5,
    5,
    1,
    5,
    7,
    0,
    OPERATOR_READS_INPUT(0) | OPERATOR_READS_INPUT(1) | OPERATOR_READS_INPUT(3) |
        OPERATOR_READS_INPUT(4),
    batch_normalization_infer,
    batch_normalization_forward,
    batch_normalization_backward};

/* ScaleShift (internal): y[n, c, ...] = scale[c] x[n, c, ...] + shift[c]. */
static xai_status scale_shift_infer(operator_call *call)
{
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_FLOAT);
    if (status == XAI_OK && call->inputs[0]->shape.rank < 2)
        status = operator_error(call, XAI_ERROR_SHAPE, "x has no channels");
    if (status == XAI_OK) {
        const channel_view view = channel_view_of(&call->inputs[0]->shape, false);
        for (int i = 1; status == XAI_OK && i < 3; i++)
            status = check_parameter(call, i, &view, false);
    }
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape);
    return status;
}

static xai_status scale_shift_forward(operator_call *call)
{
    affine map = {0};
    const channel_view view = channel_view_of(&call->inputs[0]->shape, false);
    xai_status status = operator_read_doubles(call, call->inputs[1], &map.scale);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[2], &map.shift);
    if (status == XAI_OK)
        status = channel_forward(call, &view, &map, false);
    affine_free(&map);
    return status;
}

static xai_status scale_shift_backward(operator_call *call)
{
    affine map = {0};
    const channel_view view = channel_view_of(&call->inputs[0]->shape, false);
    if (!operator_output_gradient(call, 0)) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    xai_status status = operator_read_doubles(call, call->inputs[1], &map.scale);
    if (status == XAI_OK)
        status = channel_gradients(call, &view, &map, false);
    affine_free(&map);
    return status;
}

const operator_definition operator_scale_shift = {"ScaleShift",
                                                  "xai",
                                                  3,
                                                  3,
                                                  1,
                                                  1,
                                                  1,
                                                  0,
                                                  OPERATOR_READS_INPUT(0) | OPERATOR_READS_INPUT(1),
                                                  scale_shift_infer,
                                                  scale_shift_forward,
                                                  scale_shift_backward};
