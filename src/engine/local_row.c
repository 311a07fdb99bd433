/* Every value of one image, whole: of the row before its edits, and where a walk begins. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "engine/local_private.h"

static void join_pieces(const local_state *state, size_t v)
{
    const local_value *value = &state->of->values[v];
    float *out = state->maps[v];
    for (size_t i = 0; i < value->piece_count; i++) {
        const size_t count = local_whole_count(&state->of->values[value->pieces[i]]);
        memcpy(out, state->maps[value->pieces[i]], count * sizeof *out);
        out += count;
    }
}

/* Piece by piece of what may be a concatenation. */
static void scale_pieces(const local_state *state, const local_step *step, int threads)
{
    const local *self = state->of;
    float *to = state->maps[step->output];
    size_t count, channel = 0;
    const size_t *pieces = local_pieces(&self->values[step->inputs[0]], &step->inputs[0], &count);
    for (size_t i = 0; i < count; i++) {
        const local_value *in = &self->values[pieces[i]];
        kernel_scale_shift(state->maps[pieces[i]], step->scale + channel, step->shift + channel,
                           &step->f, to, in->channels, in->size[0] * in->size[1], (int)in->unit,
                           threads);
        channel += in->planes * in->unit;
        to += local_whole_count(in);
    }
}

static xai_status run_map(const local_state *state, const local_step *step, int threads,
                          void *scratch, xai_error **error)
{
    const local_value *out = &state->of->values[step->output];
    const float *in = state->maps[step->inputs[0]];
    float *to = state->maps[step->output];
    const size_t count = local_whole_count(out);
    const int block = (int)out->unit;
    switch (step->kind) {
    case LOCAL_CONVOLUTION:
        if (step->other != LOCAL_NONE)
            memcpy(to, state->maps[step->other], count * sizeof *to);
        return local_run_primitive(step, step->whole, step->whole_weights, in, to, scratch, error);
    case LOCAL_SCALE_SHIFT:
        scale_pieces(state, step, threads);
        break;
    case LOCAL_ACTIVATION:
        kernel_activate(&step->f, in, to, count, threads);
        break;
    case LOCAL_ADD:
        kernel_add(in, state->maps[step->inputs[1]], to, count, &step->f, threads);
        break;
    case LOCAL_CONCAT:
        if (out->needs_map)
            join_pieces(state, step->output);
        break;
    case LOCAL_MAX_POOL:
        kernel_max_pool(&step->geometry, in, to, NULL, out->channels, block, threads);
        break;
    case LOCAL_AVERAGE_POOL:
        kernel_average_pool(&step->geometry, false, in, to, out->channels, block, threads);
        break;
    }
    return XAI_OK;
}

/* The largest magnitude of a value, or what bounds it. */
static double map_bound(const local_state *state, size_t v)
{
    return v == LOCAL_NONE ? 0 : state->bounds[v];
}

xai_status local_compute_map(const local_state *state, const local_step *step, int threads,
                             void *scratch, xai_error **error)
{
    const local *self = state->of;
    const local_value *out = &self->values[step->output];
    double bound = 0;
    size_t count;
    const size_t *pieces = local_pieces(out, &step->inputs[0], &count);
    for (size_t i = 0; i < count; i++)
        bound = fmax(bound, map_bound(state, pieces[i]));
    if (step->kind != LOCAL_CONCAT)
        bound = local_bound(step, map_bound(state, step->inputs[0]),
                            map_bound(state, local_summand(step)));
    if (!local_bound_fits(local_partial_bound(step, map_bound(state, step->inputs[0]),
                                              map_bound(state, step->other))))
        return local_overflow(self, step, error);
    const xai_status status = run_map(state, step, threads, scratch, error);
    if (status == XAI_OK && local_bound_is_large(out, bound) && step->kind != LOCAL_CONCAT)
        bound = kernel_max_abs(state->maps[step->output], local_whole_count(out), threads);
    state->bounds[step->output] = bound;
    return status != XAI_OK || local_bound_fits(bound) ? status : local_overflow(self, step, error);
}

static bool has_map(const local_value *value)
{
    return value->used && (value->piece_count == 0 || value->needs_map);
}

size_t local_maps_bytes(const local *self)
{
    size_t floats = 0;
    for (size_t v = 0; v < self->graph->value_count; v++)
        floats += has_map(&self->values[v]) ? local_whole_count(&self->values[v]) : 0;
    return floats * sizeof(float);
}

size_t local_workspace_floats(const local *self)
{
    return self->box_floats + self->patch_floats + self->scratch_bytes / sizeof(float) + 32;
}

xai_status local_state_make(const local *of, bool walks, local_state **out, xai_error **error)
{
    local_state *made = memory_allocate_zeroed(1, sizeof *made);
    const size_t values = of->graph->value_count;
    if (made == NULL)
        return error_memory(error, "values of a row", sizeof *made);
    made->of = of;
    made->maps = memory_allocate_zeroed(values, sizeof *made->maps);
    made->bounds = memory_allocate_zeroed(values, sizeof *made->bounds);
    if (walks)
        made->workspace = memory_allocate_aligned(local_workspace_floats(of) * sizeof(float));
    bool done = made->maps != NULL && made->bounds != NULL && (!walks || made->workspace != NULL);
    for (size_t v = 0; done && v < values; v++) {
        if (!has_map(&of->values[v]))
            continue;
        made->maps[v] = memory_allocate_aligned(local_whole_count(&of->values[v]) * sizeof(float));
        done = made->maps[v] != NULL;
    }
    if (!done) {
        local_state_free(made);
        return error_memory(error, "values of a row", local_maps_bytes(of));
    }
    *out = made;
    return XAI_OK;
}

void local_state_free(local_state *self)
{
    if (self == NULL)
        return;
    for (size_t v = 0; self->maps != NULL && v < self->of->graph->value_count; v++)
        memory_free(self->maps[v]);
    memory_free((void *)self->maps);
    memory_free(self->bounds);
    memory_free(self->workspace);
    memory_free(self);
}

xai_status local_read_image(local_state *state, const float *image, int threads, xai_error **error)
{
    const local *self = state->of;
    const size_t id = (size_t)self->graph->inputs[self->input];
    const local_value *input = &self->values[id];
    if (input->unit == 1)
        memcpy(state->maps[id], image,
               input->planes * input->size[0] * input->size[1] * sizeof *image);
    else
        kernel_block(image, state->maps[id], input->channels, input->size[0] * input->size[1],
                     (int)input->unit, threads);
    state->bounds[id] = kernel_max_abs(state->maps[id], local_whole_count(input), threads);
    return local_bound_fits(state->bounds[id])
               ? XAI_OK
               : error_set(error, XAI_ERROR_NUMERIC, self->graph->values[id].name,
                           "the image holds a NaN or an infinity");
}

xai_status local_set_row(local *self, const float *image, xai_error **error)
{
    void *scratch = memory_allocate_aligned(self->scratch_bytes + 64);
    xai_status status = scratch != NULL ? local_read_image(self->row, image, self->threads, error)
                                        : error_memory(error, "scratch", self->scratch_bytes);
    for (size_t s = 0; status == XAI_OK && s < self->step_count; s++)
        status = local_compute_map(self->row, &self->steps[s], self->threads, scratch, error);
    memory_free(scratch);
    return status;
}
