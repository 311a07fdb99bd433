/* FullGrad: what the input and every bias of the network contribute to the score. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "explain/attribution.h"

/* FullGrad (Srinivas & Fleuret 2019, eq. 6):
 *   map = psi(x * dS/dx) + sum over biases b of layers z:  sum_c psi(b_c dS/dz_c)
 * psi: absolute value, stretched to [0, 1], resized to the input. A BatchNorm's bias is
 * beta - mean gamma / sqrt(variance + epsilon). */

/* A value that is differentiated: an input, or the output of a layer with a bias. */
typedef struct source {
    float *bias; /* (channels); NULL for an input */
    size_t channels;
    spatial space; /* rank 0: its axes are not those of the input; left out */
} source;

typedef struct fullgrad_job {
    explainer *self;
    const batch *rows;
    const attribution_inputs *inputs;
    size_t part; /* the input that the map belongs to */
    int *ids;
    source *sources;
    size_t count, capacity;
    explanation **out;
    double *maps; /* (target, row, pixels) */
    bool by_channel;
} fullgrad_job;

static bool is_operator(const graph_node *node, const char *name)
{
    return node->definition->domain[0] == '\0' && strcmp(node->definition->name, name) == 0;
}

static const tensor *constant_of(const graph *g, const graph_node *node, int input)
{
    if (input >= node->input_count || node->inputs[input] == GRAPH_NONE)
        return NULL;
    const graph_value *value = &g->values[node->inputs[input]];
    return value->is_constant ? &value->constant : NULL;
}

/* The bias of a layer, one a channel: 0 = it has none. */
static size_t read_bias(const graph *g, const graph_node *node, float **out, bool *failed)
{
    const bool norm = is_operator(node, "BatchNormalization");
    const tensor *shift = NULL, *scale = NULL, *mean = NULL, *variance = NULL;
    if (norm) {
        scale = constant_of(g, node, 1);
        shift = constant_of(g, node, 2);
        mean = constant_of(g, node, 3);
        variance = constant_of(g, node, 4);
    } else if (is_operator(node, "Conv") || is_operator(node, "ConvTranspose")) {
        shift = constant_of(g, node, 2);
    }
    if (shift == NULL || (norm && (scale == NULL || mean == NULL || variance == NULL)))
        return 0;
    double epsilon = 1e-5;
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, "epsilon") == 0)
            epsilon = node->attributes[i].f;
    const size_t channels = tensor_count(shift);
    *out = memory_allocate(channels, sizeof **out);
    *failed = *out == NULL;
    for (size_t c = 0; *out != NULL && c < channels; c++) {
        double bias = tensor_get(shift, c);
        if (norm)
            bias -= tensor_get(mean, c) * tensor_get(scale, c) /
                    sqrt(tensor_get(variance, c) + epsilon);
        (*out)[c] = (float)bias;
    }
    return *failed ? 0 : channels;
}

static xai_status add_source(fullgrad_job *job, int id, float *bias, size_t channels,
                             xai_error **error)
{
    if (job->count == job->capacity) {
        const size_t capacity = job->capacity * 2 + 16;
        int *ids = memory_resize(job->ids, capacity, sizeof *ids);
        job->ids = ids != NULL ? ids : job->ids;
        source *sources = memory_resize(job->sources, capacity, sizeof *sources);
        job->sources = sources != NULL ? sources : job->sources;
        if (ids == NULL || sources == NULL) {
            memory_free(bias);
            return error_memory(error, "the biases of a network", capacity * sizeof *sources);
        }
        job->capacity = capacity;
    }
    job->ids[job->count] = id;
    job->sources[job->count++] = (source){.bias = bias, .channels = channels};
    return XAI_OK;
}

static xai_status find_sources(fullgrad_job *job, xai_error **error)
{
    const graph *g = network_graph(job->self->engine.of->net);
    xai_status status = add_source(job, job->inputs->ids[job->part], NULL, 0, error);
    for (size_t n = 0; status == XAI_OK && n < g->node_count; n++) {
        const graph_node *node = &g->nodes[n];
        float *bias = NULL;
        bool failed = false;
        if (node->removed || node->output_count < 1 || node->outputs[0] == GRAPH_NONE ||
            !g->values[node->outputs[0]].varies)
            continue;
        const size_t channels = read_bias(g, node, &bias, &failed);
        if (failed)
            status = error_memory(error, "a bias", 0);
        else if (channels > 0)
            status = add_source(job, node->outputs[0], bias, channels, error);
    }
    return status;
}

static xai_status prepare(void *user, const plan *program, const row_layout *layouts,
                          xai_error **error)
{
    fullgrad_job *job = user;
    const spatial *to = &job->inputs->spaces[job->part];
    for (size_t v = 0; v < job->count; v++) {
        source *from = &job->sources[v];
        spatial ignored;
        size_t input = 0;
        xai_error *reason = NULL;
        if (from->bias == NULL) {
            from->space = *to;
            continue;
        }
        const xai_status status = layer_find_spatial(plan_graph(program), job->ids[v], &layouts[v],
                                                     &from->space, &ignored, &input, &reason);
        xai_error_free(reason);
        if (status == XAI_ERROR_MEMORY)
            return error_memory(error, "the axes of a layer", 0);
        if (status != XAI_OK || from->space.rank != to->rank ||
            from->space.channels != from->channels)
            from->space = (spatial){0};
    }
    return XAI_OK;
}

/* Stretch to [0, 1] and add up channels: `planes` is (channels, pixels), absolute values. */
static void stretch(const float *planes, size_t channels, size_t pixels, bool by_channel,
                    float *out)
{
    const size_t group = by_channel ? pixels : channels * pixels;
    memset(out, 0, pixels * sizeof *out);
    for (size_t begin = 0; begin < channels * pixels; begin += group) {
        float low = INFINITY, high = 0;
        for (size_t i = begin; i < begin + group; i++) {
            low = fminf(low, planes[i]);
            high = fmaxf(high, planes[i]);
        }
        for (size_t i = begin; i < begin + group; i++)
            out[i % pixels] += (float)(((double)planes[i] - low) / (1e-7 + (double)high - low));
    }
}

static xai_status add_term(void *user, const sample *of, xai_error **error)
{
    fullgrad_job *job = user;
    const source *from = &job->sources[of->wrt];
    const spatial *space = &from->space, *to = &job->inputs->spaces[job->part];
    if (of->wrt == 0) {
        const xai_status status =
            explanation_set_row(job->out[of->target], job->self->engine.of, of, 1, error);
        if (status != XAI_OK)
            return status;
    }
    if (space->rank == 0)
        return XAI_OK;
    float *planes = memory_allocate(of->count, sizeof *planes);
    float *sums = memory_allocate(space->pixels, sizeof *sums);
    float *resized = memory_allocate(to->pixels, sizeof *resized);
    xai_status status = XAI_OK;
    if (planes == NULL || sums == NULL || resized == NULL) {
        status = error_memory(error, "a map", of->count * sizeof *planes);
        goto done;
    }
    for (size_t c = 0; c < space->channels; c++) {
        for (size_t p = 0; p < space->pixels; p++) {
            const size_t i = space->offset + c * space->channel_stride + p * space->pixel_stride;
            const float factor = from->bias != NULL ? from->bias[c] : of->activation[i];
            planes[c * space->pixels + p] = fabsf(factor * of->gradient[i]);
        }
    }
    stretch(planes, space->channels, space->pixels, job->by_channel, sums);
    status = map_resize(sums, space->dims, to->dims, space->rank, resized, error);
    double *map = job->maps + (of->target * job->rows->rows + of->row) * to->pixels;
    for (size_t p = 0; status == XAI_OK && p < to->pixels; p++)
        map[p] += resized[p];
done:
    memory_free(planes);
    memory_free(sums);
    memory_free(resized);
    return status;
}

/* Values and map of every row. */
static xai_status draw(const fullgrad_job *job, size_t target, xai_error **error)
{
    const spatial *space = &job->inputs->spaces[job->part];
    explanation *out = job->out[target];
    xai_status status = XAI_OK;
    for (size_t row = 0; status == XAI_OK && row < out->rows; row++) {
        const double *raw = job->maps + (target * out->rows + row) * space->pixels;
        status = attribution_store(out, 0, row, space->pixels, raw, error);
        float *map = (float *)out->map.data + row * space->pixels;
        if (status == XAI_OK && !map_scale((float *)out->parts[0].values.data + row * space->pixels,
                                           space->pixels, job->self->scaling, map))
            status =
                explanation_warn(out, (int64_t)row, error,
                                 "row %zu: the score of '%.80s' depends on nothing here (every "
                                 "gradient is zero); the map is all zero",
                                 row, out->labels[row]);
    }
    return status;
}

static xai_status create(fullgrad_job *job, size_t target_count, xai_error **error)
{
    const subject *of = job->self->engine.of;
    const graph *g = network_graph(of->net);
    const spatial *space = &job->inputs->spaces[job->part];
    const shape dims = spatial_rows(space, job->rows->rows);
    size_t total = 0;
    xai_status status = XAI_OK;
    for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
        explanation **out = &job->out[t];
        status =
            explanation_create(job->rows->rows, job->self->method->name, "", of->name, out, error);
        if (status == XAI_OK)
            status = explanation_add_part(*out, g->values[job->inputs->ids[job->part]].name, &dims,
                                          false, error);
        if (status != XAI_OK)
            break;
        (*out)->score_kind = job->self->score;
        (*out)->input_shape = job->rows->inputs[job->inputs->inputs[job->part]]->shape;
        status = tensor_create(&(*out)->map, DTYPE_FLOAT, &dims, error);
    }
    if (status == XAI_OK &&
        (!size_multiply(target_count * job->rows->rows, space->pixels, &total) ||
         (job->maps = memory_allocate_zeroed(total, sizeof *job->maps)) == NULL))
        status = error_memory(error, "maps", total * sizeof *job->maps);
    return status;
}

static xai_status fullgrad_explain(explainer *self, const batch *rows,
                                   const xai_target *const *targets, size_t target_count,
                                   explanation **out, xai_error **error)
{
    attribution_inputs inputs = {0};
    const char *scale = option_text(&self->options, "scale");
    fullgrad_job job = {.self = self,
                        .rows = rows,
                        .inputs = &inputs,
                        .out = out,
                        .by_channel = scale != NULL && strcmp(scale, "channel") == 0};
    xai_status status = attribution_inputs_init_plain(&inputs, self, rows, error);
    while (status == XAI_OK && job.part < inputs.part_count && inputs.spaces[job.part].rank == 0)
        job.part++;
    if (status == XAI_OK && job.part == inputs.part_count)
        status = error_set(error, XAI_ERROR_UNSUPPORTED, NULL,
                           "no input has spatial axes to draw a map of");
    if (status == XAI_OK)
        status = find_sources(&job, error);
    if (status == XAI_OK)
        status = create(&job, target_count, error);
    const differentiation what = {.targets = targets,
                                  .target_count = target_count,
                                  .score = self->score,
                                  .wrt = job.ids,
                                  .wrt_count = job.count,
                                  .activations = 1, /* of the input */
                                  .one_by_one = true,
                                  .prepare = prepare,
                                  .body = add_term,
                                  .user = &job};
    if (status == XAI_OK)
        status = evaluator_differentiate(&self->engine, rows, &what, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++)
        status = draw(&job, t, error);
    for (size_t v = 0; v < job.count; v++)
        memory_free(job.sources[v].bias);
    memory_free(job.ids);
    memory_free(job.sources);
    memory_free(job.maps);
    attribution_inputs_free(&inputs);
    return status;
}

static const option_definition fullgrad_options[] = {
    {.name = "scale",
     .kinds = OPTION_TEXT,
     .text = "layer",
     .choices = "layer|channel",
     .description = "stretch each layer's contributions to [0, 1] together (the authors), or each "
                    "channel by itself (pytorch-grad-cam)"},
    {0}};

const method_definition method_fullgrad = {
    .name = "fullgrad",
    .description = "FullGrad (Srinivas & Fleuret 2019): input x gradient and bias x gradient of "
                   "every layer, stretched, resized and added up",
    .explain = fullgrad_explain,
    .options = fullgrad_options,
};
