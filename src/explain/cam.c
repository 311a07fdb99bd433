/* What the CAM methods share: layer and gradient of every row, the method's formula, the map at
 * the input's resolution. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "explain/cam.h"
#include "explain/map.h"
#include "xai/explainer.h"

const option_definition cam_options[] = {OPTION_LAYER, {0}};

static xai_status prepare(void *user, const plan *program, const row_layout *layouts,
                          xai_error **error)
{
    cam_job *job = user;
    xai_status status = XAI_OK;
    for (size_t v = 0; status == XAI_OK && v < job->layer_count; v++) {
        cam_layer *layer = &job->layers[v];
        status = layer_find_spatial(plan_graph(program), job->values[v], &layouts[v], &layer->space,
                                    &layer->input_space, &layer->input, error);
    }
    return status == XAI_OK ? cam_create_maps(job, error) : status;
}

xai_status cam_create_maps(cam_job *job, xai_error **error)
{
    xai_status status = XAI_OK;
    for (size_t t = 0; status == XAI_OK && t < job->target_count; t++) {
        const cam_layer *layer = &job->layers[job->layer_of[t]];
        explanation *out = job->out[t];
        const shape dims = spatial_rows(&layer->space, job->rows->rows);
        status = explanation_add_part(out, layer->name, &dims, false, error);
        if (status != XAI_OK || layer->input_space.rank == 0)
            continue;
        out->input_shape = job->rows->inputs[layer->input]->shape;
        const shape map_dims = spatial_rows(&layer->input_space, job->rows->rows);
        status = tensor_create(&out->map, DTYPE_FLOAT, &map_dims, error);
    }
    return status;
}

static bool all_zero(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (values[i] != 0)
            return false;
    return true;
}

/* A probability so close to 0 or 1 that its slope underflows in float32. */
static bool is_saturated(const sample *of)
{
    return of->source->saturates && (of->score < 1e-6 || of->score > 1 - 1e-6);
}

xai_status cam_store(const cam_job *job, size_t target, size_t row, const double *raw,
                     xai_error **error)
{
    const cam_layer *layer = &job->layers[job->layer_of[target]];
    const spatial *space = &layer->space;
    explanation *out = job->out[target];
    float *values = (float *)out->parts[0].values.data + row * space->pixels;
    xai_status status = XAI_OK;
    for (size_t i = 0; i < space->pixels; i++) {
        values[i] = (float)raw[i];
        if (!isfinite(values[i]))
            return error_set(error, XAI_ERROR_NUMERIC, layer->name,
                             "the map of row %zu came out as NaN or infinite", row);
    }
    float *scaled = memory_allocate(space->pixels, sizeof *scaled);
    if (scaled == NULL)
        return error_memory(error, "a map", space->pixels * sizeof *scaled);
    if (!map_scale(values, space->pixels, job->self->scaling, scaled))
        job->notes[target * job->rows->rows + row] = CAM_NO_EVIDENCE;
    if (out->map.data != NULL) {
        const size_t pixels = layer->input_space.pixels;
        float *map = (float *)out->map.data + row * pixels;
        status = map_resize(scaled, space->dims, layer->input_space.dims, space->rank, map, error);
        if (status == XAI_OK && job->self->scaling == XAI_SCALING_MIN_MAX)
            (void)map_scale(map, pixels, XAI_SCALING_MIN_MAX,
                            map); /* pytorch-grad-cam scales again after resizing */
    }
    memory_free(scaled);
    return status;
}

static xai_status explain_sample(void *user, const sample *of, xai_error **error)
{
    const cam_job *job = user;
    const cam_layer *layer = &job->layers[of->wrt];
    const spatial *space = &layer->space;
    if (job->layer_of[of->target] != of->wrt)
        return XAI_OK;
    float *planes[2] = {memory_allocate(of->count, sizeof(float)),
                        memory_allocate(of->count, sizeof(float))};
    double *raw = memory_allocate_zeroed(space->pixels, sizeof *raw);
    xai_status status = XAI_OK;
    if (planes[0] == NULL || planes[1] == NULL || raw == NULL) {
        status = error_memory(error, "a map", 2 * of->count * sizeof(float));
        goto done;
    }
    const float *activation = spatial_planes(space, of->activation, planes[0]); /* (C, pixels) */
    const float *gradient = spatial_planes(space, of->gradient, planes[1]);
    if (!job->self->method->cam(activation, gradient, space->channels, space->pixels, raw)) {
        status = error_memory(error, "a map", space->pixels * sizeof *raw);
        goto done;
    }
    status = cam_store(job, of->target, of->row, raw, error);
    if (!job->self->method->ignores_target && all_zero(of->gradient, of->count))
        job->notes[of->target * job->rows->rows + of->row] =
            is_saturated(of) ? CAM_NO_GRADIENT_SATURATED : CAM_NO_GRADIENT;
    if (status == XAI_OK)
        status = explanation_set_row(job->out[of->target], job->self->engine.of, of, 1, error);
done:
    memory_free(planes[0]);
    memory_free(planes[1]);
    memory_free(raw);
    return status;
}

static xai_status add_warnings(const cam_job *job, size_t target, xai_error **error)
{
    explanation *out = job->out[target];
    const char *layer = job->layers[job->layer_of[target]].name;
    xai_status status = XAI_OK;
    for (size_t row = 0; status == XAI_OK && row < job->rows->rows; row++) {
        const int64_t at = (int64_t)row;
        const char *label = out->labels[row] != NULL ? out->labels[row] : "";
        switch (job->notes[target * job->rows->rows + row]) {
        case CAM_NO_GRADIENT:
            status = explanation_warn(out, at, error,
                                      "row %zu: the score of '%.80s' does not depend on layer "
                                      "'%.80s' (its gradient is zero); "
                                      "the map is all zero",
                                      row, label, layer);
            break;
        case CAM_NO_GRADIENT_SATURATED:
            status = explanation_warn(out, at, error,
                                      "row %zu: the score of '%.80s' is saturated at %.6g (its "
                                      "gradient in layer '%.80s' is "
                                      "zero); the map is all zero; explain the logit instead",
                                      row, label, out->scores[row], layer);
            break;
        case CAM_NO_EVIDENCE:
            status = explanation_warn(
                out, at, error,
                "row %zu: no positive evidence for '%.80s' in layer '%.80s'; the map is all zero",
                row, label, layer);
            break;
        default:
            break;
        }
    }
    if (status == XAI_OK && out->map.data == NULL)
        status = explanation_warn(
            out, -1, error,
            "no input has the spatial axes of layer '%.80s': there are values, but no map", layer);
    return status;
}

/* The layer of every target. */
static xai_status find_layers(cam_job *job, const xai_target *const *targets, xai_error **error)
{
    explainer *self = job->self;
    const subject *of = self->engine.of;
    const graph *source = network_graph(of->net);
    for (size_t t = 0; t < job->target_count; t++) {
        int value = self->layer, output = 0;
        xai_status status = target_output(targets[t], source, &output, error);
        if (status == XAI_OK && value == GRAPH_NONE)
            status =
                layer_find_default_again(&self->memo, of, job->rows->shapes, output, &value, error);
        if (status != XAI_OK)
            return status;
        size_t v = 0;
        while (v < job->layer_count && job->values[v] != value)
            v++;
        job->layer_of[t] = v;
        if (v == job->layer_count) {
            job->values[v] = value;
            job->layers[v].name = source->values[value].name;
            job->layer_count++;
        }
    }
    return XAI_OK;
}

void cam_free(cam_job *job)
{
    memory_free(job->notes);
    memory_free(job->values);
    memory_free(job->layers);
    memory_free(job->layer_of);
}

xai_status cam_begin(cam_job *job, explainer *self, const batch *rows,
                     const xai_target *const *targets, size_t target_count, explanation **out,
                     xai_error **error)
{
    size_t notes = 0;
    *job = (cam_job){.self = self, .rows = rows, .out = out, .target_count = target_count};
    if (!size_multiply(target_count, rows->rows, &notes))
        return error_memory(error, "explanations", SIZE_MAX);
    job->notes = memory_allocate_zeroed(notes, sizeof *job->notes);
    job->values = memory_allocate_zeroed(target_count, sizeof *job->values);
    job->layers = memory_allocate_zeroed(target_count, sizeof *job->layers);
    job->layer_of = memory_allocate_zeroed(target_count, sizeof *job->layer_of);
    if (job->notes == NULL || job->values == NULL || job->layers == NULL || job->layer_of == NULL)
        return error_memory(error, "explanations", notes);
    const subject *of = self->engine.of;
    xai_status status = find_layers(job, targets, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
        status = explanation_create(rows->rows, self->method->name,
                                    job->layers[job->layer_of[t]].name, of->name, &out[t], error);
        if (status == XAI_OK)
            out[t]->score_kind = self->score;
    }
    return status;
}

xai_status cam_end(const cam_job *job, xai_error **error)
{
    xai_status status = XAI_OK;
    for (size_t t = 0; status == XAI_OK && t < job->target_count; t++)
        status = add_warnings(job, t, error);
    return status;
}

xai_status cam_explain(explainer *self, const batch *rows, const xai_target *const *targets,
                       size_t target_count, explanation **out, xai_error **error)
{
    cam_job job;
    xai_status status = cam_begin(&job, self, rows, targets, target_count, out, error);
    const differentiation what = {.targets = targets,
                                  .target_count = target_count,
                                  .score = self->score,
                                  .wrt = job.values,
                                  .wrt_count = job.layer_count,
                                  .activations = job.layer_count,
                                  .prepare = prepare,
                                  .body = explain_sample,
                                  .user = &job};
    if (status == XAI_OK)
        status = evaluator_differentiate(&self->engine, rows, &what, error);
    if (status == XAI_OK)
        status = cam_end(&job, error);
    cam_free(&job);
    return status;
}
