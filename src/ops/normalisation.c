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

/* BatchNormalization. Opsets 7 and 8 may keep statistics an element (spatial = 0). */
static xai_status batch_attributes(const operator_call *call, bool *per_element, double *epsilon)
{
    int64_t spatial = 1, training = 0;
    float given = 1e-5f;
    xai_status status = operator_attribute_float(call, "epsilon", 1e-5f, &given);
    if (status == XAI_OK && call->opset < 9)
        status = operator_attribute_int(call, "spatial", 1, &spatial);
    if (status == XAI_OK && call->opset >= 14)
        status = operator_attribute_int(call, "training_mode", 0, &training);
    if (status == XAI_OK && training)
        status = operator_error(call, XAI_ERROR_UNSUPPORTED,
                                "training_mode is on; export the model for inference");
    *per_element = spatial == 0;
    *epsilon = (double)given;
    return status;
}

static xai_status batch_normalization_infer(operator_call *call)
{
    bool per_element;
    double epsilon;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = batch_attributes(call, &per_element, &epsilon);
    for (int i = 1; status == XAI_OK && i < call->output_count; i++)
        if (call->outputs[i])
            status = operator_error(
                call, XAI_ERROR_UNSUPPORTED,
                "output %d exists in training mode only; export the model for inference", i);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_FLOAT);
    if (status == XAI_OK && call->inputs[0]->shape.rank == 0)
        status = operator_error(call, XAI_ERROR_SHAPE, "x is a scalar");
    if (status == XAI_OK) {
        const channel_view view = channel_view_of(&call->inputs[0]->shape, per_element);
        for (int i = 1; status == XAI_OK && i < 5; i++)
            status = check_parameter(call, i, &view, per_element);
    }
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape);
    return status;
}

/* The statistics and, forward only, the shift. */
static xai_status batch_map(const operator_call *call, bool with_shift, affine *map,
                            channel_view *view)
{
    bool per_element;
    double epsilon;
    xai_status status = batch_attributes(call, &per_element, &epsilon);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[1], &map->scale);
    if (status == XAI_OK && with_shift)
        status = operator_read_doubles(call, call->inputs[2], &map->shift);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[3], &map->mean);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[4], &map->inverse);
    if (status != XAI_OK)
        return status;
    *view = channel_view_of(&call->inputs[0]->shape, per_element);
    for (size_t c = 0; c < view->channels; c++)
        map->inverse[c] = 1 / sqrt(map->inverse[c] + epsilon);
    return XAI_OK;
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
