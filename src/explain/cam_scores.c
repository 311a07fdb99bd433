/* Score-CAM and Ablation-CAM: channels of a layer weighted by what the score does without gradients.
 * One evaluation a channel; for Ablation-CAM only of the network behind the layer. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "explain/attribution.h"
#include "explain/cam.h"

typedef struct channel_job {
    explainer *self;
    const batch *rows;
    const cam_layer *layer;
    size_t row;
    const float *planes; /* (C, pixels) of the layer in this row */
    const float *values; /* the same in the layer's own order */
    size_t count;        /* elements of them */
    size_t *asked;       /* the channels that are evaluated */
} channel_job;

/* Linear with aligned corners, as in the authors' code: out (H, W) from a plane (h, w), or (L) from
 * (l). */
static void upsample(const float *in, const spatial *layer, const spatial *input, float *out)
{
    const int64_t line[2][2] = {{1, layer->dims[0]}, {1, input->dims[0]}};
    const int64_t *from = layer->rank == 1 ? line[0] : layer->dims;
    const int64_t *to = input->rank == 1 ? line[1] : input->dims;
    for (int64_t y = 0; y < to[0]; y++) {
        const double fy = to[0] > 1 ? (double)y * (double)(from[0] - 1) / (double)(to[0] - 1) : 0;
        const int64_t y0 = (int64_t)fy, y1 = y0 + 1 < from[0] ? y0 + 1 : y0;
        for (int64_t x = 0; x < to[1]; x++) {
            const double fx =
                to[1] > 1 ? (double)x * (double)(from[1] - 1) / (double)(to[1] - 1) : 0;
            const int64_t x0 = (int64_t)fx, x1 = x0 + 1 < from[1] ? x0 + 1 : x0;
            const double wy = fy - (double)y0, wx = fx - (double)x0;
            const double top = (1 - wx) * in[y0 * from[1] + x0] + wx * in[y0 * from[1] + x1];
            const double bottom = (1 - wx) * in[y1 * from[1] + x0] + wx * in[y1 * from[1] + x1];
            out[y * to[1] + x] = (float)((1 - wy) * top + wy * bottom);
        }
    }
}

/* x times the channel's map, upsampled and stretched to [0, 1] with 1e-8 in the divisor. */
static xai_status fill_masked(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const channel_job *job = user;
    const size_t channel = job->asked[index];
    const cam_layer *layer = job->layer;
    const spatial *to = &layer->input_space;
    const graph *source = network_graph(job->self->engine.of->net);
    for (size_t i = 0; i < source->input_count; i++)
        variants_copy_row(job->rows, job->row, i, &inputs[i]);
    tensor *image = &inputs[layer->input];
    const size_t count = tensor_count(image);
    float *mask = memory_allocate(to->pixels, sizeof *mask);
    float *pixels = memory_allocate(count, sizeof *pixels);
    xai_status status = XAI_OK;
    if (mask == NULL || pixels == NULL) {
        status = error_memory(error, "a masked input", count * sizeof *pixels);
        goto done;
    }
    upsample(job->planes + channel * layer->space.pixels, &layer->space, to, mask);
    float low = mask[0], high = mask[0];
    for (size_t p = 0; p < to->pixels; p++) {
        low = fminf(low, mask[p]);
        high = fmaxf(high, mask[p]);
    }
    for (size_t p = 0; p < to->pixels; p++)
        mask[p] = (float)(((double)mask[p] - low) / ((double)high - low + 1e-8));
    tensor_read_floats(image, 0, count, pixels);
    for (size_t i = 0; i < count; i++) {
        /* Channels first or last: the pixel that an element belongs to. */
        const size_t p = to->pixel_stride == 1 ? i % to->pixels : i / to->channels;
        pixels[i] *= mask[p];
    }
    tensor_write_floats(image, pixels);
done:
    memory_free(mask);
    memory_free(pixels);
    return status;
}

/* The layer with one channel zero. */
static xai_status fill_ablated(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const channel_job *job = user;
    const size_t channel = job->asked[index];
    const spatial *space = &job->layer->space;
    const graph *source = network_graph(job->self->engine.of->net);
    (void)error;
    for (size_t i = 0; i < source->input_count; i++)
        variants_copy_row(job->rows, job->row, i, &inputs[i]);
    float *layer = inputs[source->input_count].data;
    memcpy(layer, job->values, job->count * sizeof *layer);
    for (size_t p = 0; p < space->pixels; p++)
        layer[space->offset + channel * space->channel_stride + p * space->pixel_stride] = 0;
    return XAI_OK;
}

/* Score-CAM (Wang et al. 2020, eq. 3-5): w = softmax over channels of S(x * mask_c). The score of an
 * empty input, which the paper subtracts, drops out of the softmax. */
static void score_weights(const double *scores, size_t channels, size_t stride, double original,
                          double *weights)
{
    double highest = -INFINITY, total = 0;
    (void)original;
    for (size_t c = 0; c < channels; c++)
        highest = fmax(highest, scores[c * stride]);
    for (size_t c = 0; c < channels; c++)
        total += weights[c] = exp(scores[c * stride] - highest);
    for (size_t c = 0; c < channels; c++)
        weights[c] /= total;
}

/* Ablation-CAM (Desai & Ramaswamy 2020, eq. 4): w_c = (S - S without channel c) / |S|. The paper
 * divides by S, which turns the map over where the score is negative. */
static void ablation_weights(const double *scores, size_t channels, size_t stride, double original,
                             double *weights)
{
    const double divisor = original != 0 ? fabs(original) : 1;
    for (size_t c = 0; c < channels; c++)
        weights[c] = (original - scores[c * stride]) / divisor;
}

typedef struct channel_method {
    xai_status (*fill)(void *user, size_t index, tensor *inputs, xai_error **error);
    void (*weights)(const double *scores, size_t channels, size_t stride, double original,
                    double *out);
    bool from_layer;      /* variants are of the layer */
    const char *baseline; /* what stands for absence */
} channel_method;

/* Whether a channel is the same everywhere: its mask is 0, whatever the value. With its place in the
 * layer set to 0 nothing changes where it was 0. Many channels of a ReLU are, and all of those
 * give the same input: it is evaluated once. */
static bool is_empty(const channel_job *job, const channel_method *how, size_t channel)
{
    const size_t pixels = job->layer->space.pixels;
    const float *plane = job->planes + channel * pixels, value = how->from_layer ? 0 : plane[0];
    for (size_t p = 0; p < pixels; p++)
        if (plane[p] != value)
            return false;
    return true;
}

/* out[channel * score_count + score]; the number of evaluations. */
static xai_status score_channels(channel_job *job, const channel_method *how, variants *what,
                                 double *out, size_t *evaluations, xai_error **error)
{
    const size_t channels = job->layer->space.channels, scores = what->score_count;
    size_t *place = memory_allocate(channels, sizeof *place), empty = SIZE_MAX, count = 0;
    double *found = NULL;
    xai_status status = XAI_OK;
    job->asked = memory_allocate(channels, sizeof *job->asked);
    if (place == NULL || job->asked == NULL) {
        status = error_memory(error, "channels", channels * sizeof *place);
        goto done;
    }
    for (size_t c = 0; c < channels; c++) {
        const bool shared = is_empty(job, how, c);
        place[c] = shared && empty != SIZE_MAX ? empty : count;
        if (place[c] == count)
            job->asked[count++] = c;
        if (shared)
            empty = place[c];
    }
    found = memory_allocate(count * scores, sizeof *found);
    if (found == NULL) {
        status = error_memory(error, "the scores of channels", count * scores * sizeof *found);
        goto done;
    }
    what->count = *evaluations = count;
    status = evaluator_scores_of(&job->self->engine, what, found, error);
    for (size_t c = 0; status == XAI_OK && c < channels; c++)
        memcpy(out + c * scores, found + place[c] * scores, scores * sizeof *out);
done:
    memory_free(place);
    memory_free(found);
    memory_free(job->asked);
    job->asked = NULL;
    return status;
}

/* The scores of all channels of one row, then the maps of the targets that are about this layer. */
static xai_status explain_row(const cam_job *cam, const channel_method *how, channel_job *job,
                              size_t v, const fixed_score *fixed, const shape *layer_shape,
                              xai_error **error)
{
    const spatial *space = &job->layer->space;
    const size_t targets = cam->target_count, channels = space->channels;
    double *scores = memory_allocate(channels * targets, sizeof *scores);
    double *weights = memory_allocate(channels, sizeof *weights);
    double *raw = memory_allocate(space->pixels, sizeof *raw);
    xai_status status = XAI_OK;
    if (scores == NULL || weights == NULL || raw == NULL) {
        status = error_memory(error, "the scores of channels", channels * targets * sizeof *scores);
        goto done;
    }
    variants what = {.rows = job->rows,
                     .row = job->row,
                     .scores = fixed,
                     .score_count = targets,
                     .starts = how->from_layer ? &cam->values[v] : NULL,
                     .start_shapes = layer_shape,
                     .start_count = how->from_layer ? 1 : 0,
                     .fill = how->fill,
                     .user = job};
    size_t evaluations = 0;
    status = score_channels(job, how, &what, scores, &evaluations, error);
    for (size_t t = 0; status == XAI_OK && t < targets; t++) {
        if (cam->layer_of[t] != v)
            continue;
        how->weights(scores + t, channels, targets, fixed[t].score, weights);
        memset(raw, 0, space->pixels * sizeof *raw);
        for (size_t c = 0; c < channels; c++)
            for (size_t p = 0; p < space->pixels; p++)
                raw[p] += weights[c] * job->planes[c * space->pixels + p];
        status = cam_store(cam, t, job->row, raw, error);
        if (status == XAI_OK)
            status = explanation_set_facts(cam->out[t], job->self->engine.of, job->row,
                                           &fixed[t].chosen, fixed[t].source.output, fixed[t].score,
                                           (int64_t)evaluations + 2, error);
    }
done:
    memory_free(scores);
    memory_free(weights);
    memory_free(raw);
    return status;
}

/* Axes of every layer. */
static xai_status find_spaces(cam_job *cam, shape *shapes, bool masks_input, xai_error **error)
{
    xai_status status = XAI_OK;
    for (size_t v = 0; status == XAI_OK && v < cam->layer_count; v++) {
        cam_layer *layer = &cam->layers[v];
        evaluator *engine = &cam->self->engine;
        const graph *specialised = NULL;
        status = evaluator_value_shape(engine, cam->rows, cam->values[v], &shapes[v], error);
        if (status == XAI_OK)
            status = evaluator_graph(engine, cam->rows, &specialised, error);
        row_layout layout = {.row = shapes[v], .has_axis = shapes[v].rank > 0};
        if (status == XAI_OK)
            status = layer_find_spatial(specialised, cam->values[v], &layout, &layer->space,
                                        &layer->input_space, &layer->input, error);
        if (status == XAI_OK && masks_input &&
            (layer->input_space.rank < 1 || layer->input_space.rank > 2))
            status =
                error_set(error, XAI_ERROR_UNSUPPORTED, layer->name,
                          "'%s' masks pictures and signals: layer and input must have the same "
                          "one or two spatial axes",
                          cam->self->method->name);
    }
    return status == XAI_OK ? cam_create_maps(cam, error) : status;
}

static xai_status explain_layer(const cam_job *cam, const channel_method *how, size_t v,
                                const fixed_score *fixed, const shape *layer_shape,
                                xai_error **error)
{
    const spatial *space = &cam->layers[v].space;
    tensor activations = {0};
    channel_job job = {.self = cam->self, .rows = cam->rows, .layer = &cam->layers[v]};
    float *scratch = NULL;
    xai_status status =
        evaluator_values(&cam->self->engine, cam->rows, &cam->values[v], 1, &activations, error);
    if (status != XAI_OK)
        return status;
    job.count = tensor_count(&activations) / cam->rows->rows;
    scratch = memory_allocate(job.count, sizeof *scratch);
    if (scratch == NULL)
        status = error_memory(error, "a layer", job.count * sizeof *scratch);
    for (size_t row = 0; status == XAI_OK && row < cam->rows->rows; row++) {
        job.row = row;
        job.values = (const float *)activations.data + row * job.count;
        job.planes = spatial_planes(space, job.values, scratch);
        status =
            explain_row(cam, how, &job, v, fixed + row * cam->target_count, layer_shape, error);
    }
    memory_free(scratch);
    tensor_free(&activations);
    return status;
}

static xai_status explain_channels(explainer *self, const channel_method *how, const batch *rows,
                                   const xai_target *const *targets, size_t target_count,
                                   explanation **out, xai_error **error)
{
    cam_job cam;
    fixed_score *fixed = memory_allocate(rows->rows * target_count, sizeof *fixed);
    shape *shapes = memory_allocate(target_count, sizeof *shapes);
    xai_status status = cam_begin(&cam, self, rows, targets, target_count, out, error);
    if (status == XAI_OK && (fixed == NULL || shapes == NULL))
        status = error_memory(error, "targets", rows->rows * target_count * sizeof *fixed);
    if (status == XAI_OK)
        status = find_spaces(&cam, shapes, !how->from_layer, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++)
        status = explanation_set_baseline(out[t], how->baseline, error);
    size_t total = rows->runs;
    for (size_t v = 0; status == XAI_OK && v < cam.layer_count; v++)
        total += rows->runs + rows->rows * cam.layers[v].space.channels;
    evaluator_expect(&self->engine, total);
    if (status == XAI_OK)
        status = evaluator_fix_scores(&self->engine, rows, targets, target_count, self->score,
                                      fixed, error);
    for (size_t v = 0; status == XAI_OK && v < cam.layer_count; v++)
        status = explain_layer(&cam, how, v, fixed, &shapes[v], error);
    if (status == XAI_OK)
        status = cam_end(&cam, error);
    memory_free(fixed);
    memory_free(shapes);
    cam_free(&cam);
    return status;
}

static xai_status scorecam_explain(explainer *self, const batch *rows,
                                   const xai_target *const *targets, size_t target_count,
                                   explanation **out, xai_error **error)
{
    static const channel_method how = {.fill = fill_masked,
                                       .weights = score_weights,
                                       .baseline = "0 where the channel's map is low"};
    return explain_channels(self, &how, rows, targets, target_count, out, error);
}

static xai_status ablationcam_explain(explainer *self, const batch *rows,
                                      const xai_target *const *targets, size_t target_count,
                                      explanation **out, xai_error **error)
{
    static const channel_method how = {.fill = fill_ablated,
                                       .weights = ablation_weights,
                                       .from_layer = true,
                                       .baseline = "0 in place of the layer's channel"};
    return explain_channels(self, &how, rows, targets, target_count, out, error);
}

const method_definition method_scorecam = {
    .name = "scorecam",
    .description = "Score-CAM (Wang et al. 2020): channels weighted by the score of the input that "
                   "each leaves; one evaluation a channel",
    .explain = scorecam_explain,
    .options = cam_options,
};

const method_definition method_ablationcam = {
    .name = "ablationcam",
    .description =
        "Ablation-CAM (Desai & Ramaswamy 2020): channels weighted by what the score loses "
        "without each",
    .explain = ablationcam_explain,
    .options = cam_options,
};
