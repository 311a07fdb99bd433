/* Primitives, weights and constants of the steps of local edits. */
#include <string.h>

#include "base/error.h"
#include "base/parallel.h"
#include "engine/local_private.h"

/* A constant of channels, padded with zeros; zeros without one. */
static xai_status read_channels(const tensor *constant, size_t channels, size_t padded, float **out,
                                xai_error **error)
{
    *out = memory_allocate_aligned(padded * sizeof **out);
    if (*out == NULL)
        return error_memory(error, "constants", padded * sizeof **out);
    memset(*out, 0, padded * sizeof **out);
    if (constant != NULL && tensor_count(constant) == channels)
        tensor_read_floats(constant, 0, channels, *out);
    else if (constant != NULL)
        return error_set(error, XAI_ERROR_UNSUPPORTED, NULL, "constants not one a channel");
    return XAI_OK;
}

static xai_status read_constants(const local *self, local_step *at, xai_error **error)
{
    const graph_node *node = &self->graph->nodes[at->node];
    const graph_value *values = self->graph->values;
    const local_value *out = &self->values[at->output];
    const size_t padded = out->planes * out->unit;
    xai_status status = XAI_OK;
    if (at->kind == LOCAL_SCALE_SHIFT) {
        status = read_channels(&values[node->inputs[1]].constant, out->channels, padded, &at->scale,
                               error);
        if (status == XAI_OK)
            status = read_channels(&values[node->inputs[2]].constant, out->channels, padded,
                                   &at->shift, error);
        if (status == XAI_OK) {
            at->gain = kernel_max_abs(at->scale, padded, 1);
            at->offset = kernel_max_abs(at->shift, padded, 1);
        }
    }
    if (at->kind == LOCAL_CONVOLUTION) {
        const bool biased = node->input_count > 2 && node->inputs[2] != GRAPH_NONE;
        status = read_channels(biased ? &values[node->inputs[2]].constant : NULL, out->channels,
                               padded, &at->shift, error);
        if (status == XAI_OK)
            at->offset = kernel_max_abs(at->shift, padded, 1);
    }
    return status;
}

static primitive_spec describe(const local *self, const local_step *at)
{
    const local_value *in = &self->values[at->inputs[0]], *out = &self->values[at->output];
    return (primitive_spec){.kind = PRIMITIVE_CONVOLUTION,
                            .threads = self->repeats > 0 ? 1 : self->threads,
                            .geometry = at->geometry,
                            .input_channels = (int64_t)in->channels,
                            .output_channels = (int64_t)out->channels,
                            .plain_input = in->unit == 1,
                            .batch = 1,
                            .has_bias = true,
                            .add_to_destination = at->other != LOCAL_NONE,
                            .post = at->f};
}

/* Of the boxes of a class, without padding; an edit at a time where oneDNN has no batch of them. */
static xai_status make_patches(const local *self, local_step *at, size_t class_index,
                               xai_error **error)
{
    const local_value *out = &self->values[at->output];
    primitive_spec spec = describe(self, at);
    spec.threads = 1;
    for (int axis = 0; axis < 2; axis++) {
        window *w = &spec.geometry;
        w->output[axis] = (int64_t)out->boxes[class_index].length[axis];
        w->input[axis] =
            (w->output[axis] - 1) * w->stride[axis] + (w->kernel[axis] - 1) * w->dilation[axis] + 1;
        w->pad_begin[axis] = w->pad_end[axis] = 0;
    }
    xai_status status = XAI_ERROR_UNSUPPORTED;
    for (int attempt = 0; attempt < 2 && status == XAI_ERROR_UNSUPPORTED; attempt++) {
        at->single[class_index] = attempt == 1;
        spec.batch = attempt == 0 ? self->group : 1;
        error_clear(error);
        status = primitive_create(&spec, &at->patches[class_index], error);
    }
    return status;
}

static xai_status find_weights(const local *self, local_step *at, const primitive *of,
                               const void **out, xai_error **error)
{
    const tensor *weights = &self->graph->values[self->graph->nodes[at->node].inputs[1]].constant;
    return network_prepared(self->net, self->graph, of, weights, out, &at->gain, error);
}

static xai_status prepare_convolution(const local *self, local_step *at, xai_error **error)
{
    const size_t classes = self->class_count;
    const primitive_spec spec = describe(self, at);
    at->class_count = classes;
    at->patches = memory_allocate_zeroed(classes, sizeof *at->patches);
    at->weights = memory_allocate_zeroed(classes, sizeof *at->weights);
    at->single = memory_allocate_zeroed(classes, sizeof *at->single);
    if (at->patches == NULL || at->weights == NULL || at->single == NULL)
        return error_memory(error, "primitives", classes * sizeof *at->patches);
    xai_status status = primitive_create(&spec, &at->whole, error);
    if (status == XAI_OK)
        status = find_weights(self, at, at->whole, &at->whole_weights, error);
    for (size_t c = 0; status == XAI_OK && c < classes; c++) {
        if (self->repeats > 0 && local_is_whole(&self->values[at->output], c))
            continue;
        status = make_patches(self, at, c, error);
        const char *key = status == XAI_OK ? primitive_weights_key(at->patches[c]) : "";
        for (size_t d = 0; d < c && status == XAI_OK && at->weights[c] == NULL; d++)
            if (at->patches[d] != NULL && strcmp(key, primitive_weights_key(at->patches[d])) == 0)
                at->weights[c] = at->weights[d];
        if (status == XAI_OK && at->weights[c] == NULL &&
            strcmp(key, primitive_weights_key(at->whole)) == 0)
            at->weights[c] = at->whole_weights;
        if (status == XAI_OK && at->weights[c] == NULL)
            status = find_weights(self, at, at->patches[c], &at->weights[c], error);
    }
    return status;
}

typedef struct prepare_job {
    local *self;
    xai_status *statuses; /* one a step */
    xai_error **errors;
} prepare_job;

static void prepare_steps(void *user, size_t begin, size_t end)
{
    const prepare_job *job = user;
    for (size_t s = begin; s < end; s++) {
        local_step *at = &job->self->steps[s];
        job->statuses[s] = read_constants(job->self, at, &job->errors[s]);
        if (job->statuses[s] == XAI_OK && at->kind == LOCAL_CONVOLUTION)
            job->statuses[s] = prepare_convolution(job->self, at, &job->errors[s]);
    }
}

static void note_scratch(local *self, const primitive *of)
{
    const size_t bytes = of != NULL ? primitive_scratchpad_bytes(of) : 0;
    if (bytes > self->scratch_bytes)
        self->scratch_bytes = bytes;
}

xai_status local_prepare(local *self, xai_error **error)
{
    prepare_job job = {.self = self};
    job.statuses = memory_allocate_zeroed(self->step_count, sizeof *job.statuses);
    job.errors = memory_allocate_zeroed(self->step_count, sizeof *job.errors);
    xai_status status = XAI_OK;
    if (job.statuses == NULL || job.errors == NULL)
        status = error_memory(error, "steps", self->step_count * sizeof *job.errors);
    else
        parallel_for(self->threads, self->step_count, prepare_steps, &job);
    for (size_t s = 0; job.statuses != NULL && job.errors != NULL && s < self->step_count; s++) {
        if (status == XAI_OK && job.statuses[s] != XAI_OK) {
            status = job.statuses[s];
            if (error != NULL && *error == NULL) {
                *error = job.errors[s];
                job.errors[s] = NULL;
            }
        }
        xai_error_free(job.errors[s]);
        note_scratch(self, self->steps[s].whole);
        for (size_t c = 0; c < self->steps[s].class_count && self->steps[s].patches != NULL; c++)
            note_scratch(self, self->steps[s].patches[c]);
    }
    memory_free(job.statuses);
    memory_free((void *)job.errors);
    return status;
}
