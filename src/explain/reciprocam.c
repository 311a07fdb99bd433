/* Recipro-CAM (Byun and Lee 2022): the class score with only one place of a layer left.
 *   A'_q = K(q - p) A_q        values[p] = S(A')        for every place p of the layer A
 * K is one-hot, or (1 2 1; 2 4 2; 1 2 1) / 16. Only the network behind the layer is run. For token
 * models (ViT-Recipro-CAM) the class token is kept. The map shows S(A') - S(nothing left). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "explain/method.h"
#include "explain/rows.h"
#include "xai/explainer.h"

typedef struct recipro_job {
    explainer *self;
    const batch *rows;
    explanation **out;
    size_t target_count;
    fixed_score *scores; /* (N, T) */
    int *layers;         /* (T) */
    bool gaussian;
    /* Of the current layer. */
    int layer;
    shape layer_shape; /* of one run */
    spatial space, input_space;
    size_t input, size; /* elements of one row of the layer */
    tensor activations; /* (N, ...) */
    size_t row;
} recipro_job;

/* K over up to three axes: a product of (1 2 1) / 4. Place `p` seen from `centre`. */
static float kernel_at(const recipro_job *job, size_t centre, size_t p)
{
    float weight = 1;
    if (!job->gaussian)
        return centre == p ? 1 : 0;
    for (int axis = job->space.rank; axis-- > 0;) {
        const int64_t length = job->space.dims[axis];
        const int64_t away = (int64_t)centre % length - (int64_t)p % length;
        weight *= away == 0 ? 0.5F : away == 1 || away == -1 ? 0.25F : 0;
        centre /= (size_t)length;
        p /= (size_t)length;
    }
    return weight;
}

/* Variant p < pixels: place p is left; the last: none. */
static xai_status fill(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const recipro_job *job = user;
    const spatial *space = &job->space;
    const size_t input_count = network_graph(job->self->engine.of->net)->input_count;
    const float *activation = (const float *)job->activations.data + job->row * job->size;
    float *out = inputs[input_count].data;
    (void)error;
    for (size_t i = 0; i < input_count; i++)
        variants_copy_row(job->rows, job->row, i, &inputs[i]);
    memcpy(out, activation, job->size * sizeof *out);
    for (size_t p = 0; p < space->pixels; p++) {
        const float weight = index < space->pixels ? kernel_at(job, index, p) : 0;
        for (size_t c = 0; c < space->channels; c++)
            out[space->offset + c * space->channel_stride + p * space->pixel_stride] *= weight;
    }
    return XAI_OK;
}

/* Scores of one row and target to values and map. */
static xai_status store(recipro_job *job, size_t t, const double *scores, size_t stride,
                        xai_error **error)
{
    const size_t pixels = job->space.pixels;
    explanation *out = job->out[t];
    const fixed_score *fixed = &job->scores[job->row * job->target_count + t];
    const double nothing = scores[pixels * stride];
    float *values = (float *)out->parts[0].values.data + job->row * pixels;
    float *evidence = memory_allocate(pixels, sizeof *evidence);
    if (evidence == NULL)
        return error_memory(error, "a map", pixels * sizeof *evidence);
    for (size_t p = 0; p < pixels; p++) {
        values[p] = (float)scores[p * stride];
        evidence[p] = (float)(scores[p * stride] - nothing);
    }
    const bool any = map_scale(evidence, pixels, job->self->scaling, evidence);
    xai_status status = XAI_OK;
    if (out->map.data != NULL) {
        float *map = (float *)out->map.data + job->row * job->input_space.pixels;
        status = map_resize(evidence, job->space.dims, job->input_space.dims, job->space.rank, map,
                            error);
        if (status == XAI_OK && job->self->scaling == XAI_SCALING_MIN_MAX)
            (void)map_scale(map, job->input_space.pixels, XAI_SCALING_MIN_MAX, map);
    }
    memory_free(evidence);
    if (status == XAI_OK)
        status =
            explanation_set_facts(out, job->self->engine.of, job->row, &fixed->chosen,
                                  fixed->source.output, fixed->score, (int64_t)pixels + 3, error);
    out->base_values[job->row] = nothing;
    if (status == XAI_OK && !any)
        status =
            explanation_warn(out, (int64_t)job->row, error,
                             "row %zu: no place of layer '%.80s' alone speaks for '%.80s'; the "
                             "map is all zero",
                             job->row, out->layer, out->labels[job->row]);
    return status;
}

/* Tail runs of one row for the targets of the current layer. */
static xai_status explain_row(recipro_job *job, size_t row, fixed_score *wanted, double *scores,
                              xai_error **error)
{
    size_t count = 0;
    job->row = row;
    for (size_t t = 0; t < job->target_count; t++)
        if (job->layers[t] == job->layer)
            wanted[count++] = job->scores[row * job->target_count + t];
    const variants what = {.rows = job->rows,
                           .row = row,
                           .count = job->space.pixels + 1,
                           .scores = wanted,
                           .score_count = count,
                           .starts = &job->layer,
                           .start_shapes = &job->layer_shape,
                           .start_count = 1,
                           .fill = fill,
                           .user = job};
    xai_status status = evaluator_scores_of(&job->self->engine, &what, scores, error);
    size_t at = 0;
    for (size_t t = 0; status == XAI_OK && t < job->target_count; t++)
        if (job->layers[t] == job->layer)
            status = store(job, t, scores + at++, count, error);
    return status;
}

/* Shapes of a layer. */
static xai_status measure_layer(recipro_job *job, int of, xai_error **error)
{
    job->layer = of;
    evaluator *engine = &job->self->engine;
    plan *program = NULL;
    const plan_wish wish = {.ids = {&job->layer}, .counts = {1}};
    xai_status status =
        evaluator_value_shape(engine, job->rows, job->layer, &job->layer_shape, error);
    row_layout layout = {.row = job->layer_shape, .has_axis = job->rows->has_rows};
    if (status == XAI_OK && layout.has_axis) {
        layout.row.rank--;
        memmove(layout.row.dims, layout.row.dims + 1,
                (size_t)layout.row.rank * sizeof *layout.row.dims);
    }
    if (status == XAI_OK)
        status = evaluator_find_plan(engine, job->rows, &wish, &program, error);
    if (status == XAI_OK)
        status = layer_find_spatial(plan_graph(program), job->layer, &layout, &job->space,
                                    &job->input_space, &job->input, error);
    return status;
}

/* Shapes and values of a layer. */
static xai_status take_layer(recipro_job *job, int of, xai_error **error)
{
    evaluator *engine = &job->self->engine;
    xai_status status = measure_layer(job, of, error);
    if (status == XAI_OK)
        status = evaluator_values(engine, job->rows, &job->layer, 1, &job->activations, error);
    if (status == XAI_OK)
        job->size = tensor_count(&job->activations) / job->rows->rows;
    return status;
}

static xai_status create_parts(recipro_job *job, size_t t, xai_error **error)
{
    const subject *of = job->self->engine.of;
    const char *name = network_graph(of->net)->values[job->layer].name;
    const shape dims = spatial_rows(&job->space, job->rows->rows);
    const shape map_dims = spatial_rows(&job->input_space, job->rows->rows);
    char made[80];
    xai_status status = explanation_create(job->rows->rows, job->self->method->name, name, of->name,
                                           &job->out[t], error);
    if (status != XAI_OK)
        return status;
    explanation *out = job->out[t];
    out->score_kind = job->self->score;
    snprintf(made, sizeof made, "%zu places of the layer, %s kernel", job->space.pixels,
             job->gaussian ? "Gaussian" : "one-hot");
    status = explanation_add_part(out, name, &dims, false, error);
    if (status == XAI_OK)
        status = explanation_set_features(out, made, error);
    if (status == XAI_OK)
        status = explanation_set_baseline(out, "0 at the other places of the layer", error);
    if (status != XAI_OK)
        return status;
    if (job->input_space.rank == 0)
        return explanation_warn(out, -1, error,
                                "no input has the spatial axes of layer '%.80s': there are "
                                "values, but no map",
                                name);
    out->input_shape = job->rows->inputs[job->input]->shape;
    return tensor_create(&out->map, DTYPE_FLOAT, &map_dims, error);
}

/* All targets whose layer is that of target `first`. */
static xai_status explain_layer(recipro_job *job, size_t first, xai_error **error)
{
    double *scores = NULL;
    fixed_score *wanted = memory_allocate(job->target_count, sizeof *wanted);
    xai_status status = take_layer(job, job->layers[first], error);
    for (size_t t = first; status == XAI_OK && t < job->target_count; t++)
        if (job->layers[t] == job->layer)
            status = create_parts(job, t, error);
    if (status == XAI_OK) {
        scores = memory_allocate((job->space.pixels + 1) * job->target_count, sizeof *scores);
        if (scores == NULL || wanted == NULL)
            status = error_memory(error, "scores", job->space.pixels * sizeof *scores);
    }
    for (size_t row = 0; status == XAI_OK && row < job->rows->rows; row++)
        status = explain_row(job, row, wanted, scores, error);
    tensor_free(&job->activations);
    memory_free(scores);
    memory_free(wanted);
    return status;
}

static xai_status find_layers(recipro_job *job, const xai_target *const *targets, xai_error **error)
{
    explainer *self = job->self;
    const subject *of = self->engine.of;
    for (size_t t = 0; t < job->target_count; t++) {
        int output = 0;
        xai_status status = target_output(targets[t], network_graph(of->net), &output, error);
        job->layers[t] = self->layer;
        if (status == XAI_OK && self->layer == GRAPH_NONE)
            status = layer_find_default_again(&self->memo, of, job->rows->shapes, output,
                                              &job->layers[t], error);
        if (status != XAI_OK)
            return status;
    }
    return XAI_OK;
}

/* For the progress: the scores, then of every layer its values and the network behind it. */
static xai_status expect(recipro_job *job, xai_error **error)
{
    size_t total = job->rows->runs;
    xai_status status = XAI_OK;
    for (size_t t = 0; status == XAI_OK && t < job->target_count; t++) {
        bool known = false;
        for (size_t before = 0; before < t; before++)
            known = known || job->layers[before] == job->layers[t];
        if (known)
            continue;
        status = measure_layer(job, job->layers[t], error);
        total += job->rows->runs + job->rows->rows * (job->space.pixels + 1);
    }
    evaluator_expect(&job->self->engine, total);
    return status;
}

static xai_status reciprocam_explain(explainer *self, const batch *rows,
                                     const xai_target *const *targets, size_t target_count,
                                     explanation **out, xai_error **error)
{
    const char *kernel = option_text(&self->options, "kernel");
    recipro_job job = {.self = self,
                       .rows = rows,
                       .out = out,
                       .target_count = target_count,
                       .gaussian = kernel == NULL || strcmp(kernel, "gaussian") == 0};
    xai_status status = XAI_OK;
    job.layers = memory_allocate(target_count, sizeof *job.layers);
    job.scores = memory_allocate(rows->rows * target_count, sizeof *job.scores);
    if (job.layers == NULL || job.scores == NULL)
        status = error_memory(error, "scores", rows->rows * target_count * sizeof *job.scores);
    if (status == XAI_OK)
        status = find_layers(&job, targets, error);
    if (status == XAI_OK)
        status = expect(&job, error);
    if (status == XAI_OK)
        status = evaluator_fix_scores(&self->engine, rows, targets, target_count, self->score,
                                      job.scores, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++)
        if (out[t] == NULL)
            status = explain_layer(&job, t, error);
    memory_free(job.layers);
    memory_free(job.scores);
    return status;
}

static const option_definition reciprocam_options[] = {
    OPTION_LAYER,
    {.name = "kernel",
     .kinds = OPTION_TEXT,
     .text = "gaussian",
     .choices = "gaussian|onehot",
     .description = "what is left around a place: 3 places an axis, weighted, or the place alone"},
    {0}};

const method_definition method_reciprocam = {
    .name = "reciprocam",
    .description =
        "Recipro-CAM (Byun and Lee 2022): the score with only one place of a layer left; "
        "no gradients",
    .explain = reciprocam_explain,
    .options = reciprocam_options,
};
