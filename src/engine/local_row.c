/* The row itself, before its edits: every value that is computed in boxes, whole. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "engine/local_private.h"

static void join_bases(const local *self, const local_value *value)
{
    float *out = value->base;
    for (size_t i = 0; i < value->piece_count; i++) {
        const local_value *in = &self->values[value->pieces[i]];
        memcpy(out, in->base, local_whole_count(in) * sizeof *out);
        out += local_whole_count(in);
    }
}

/* Piece by piece of what may be a concatenation. */
static void scale_base(const local *self, const local_step *step)
{
    const local_value *out = &self->values[step->output];
    float *to = out->base;
    size_t count, channel = 0;
    const size_t *pieces = local_pieces(&self->values[step->inputs[0]], &step->inputs[0], &count);
    for (size_t i = 0; i < count; i++) {
        const local_value *in = &self->values[pieces[i]];
        kernel_scale_shift(in->base, step->scale + channel, step->shift + channel, &step->f, to,
                           in->channels, in->size[0] * in->size[1], (int)in->unit, self->threads);
        channel += in->planes * in->unit;
        to += local_whole_count(in);
    }
}

static xai_status run_base(const local *self, const local_step *step, void *scratch,
                           xai_error **error)
{
    const local_value *in = &self->values[step->inputs[0]], *out = &self->values[step->output];
    const size_t count = local_whole_count(out);
    const int block = (int)out->unit, threads = self->threads;
    switch (step->kind) {
    case LOCAL_CONVOLUTION:
        if (step->other != LOCAL_NONE)
            memcpy(out->base, self->values[step->other].base, count * sizeof *out->base);
        return local_run_primitive(step, step->whole, step->whole_weights, in->base, out->base,
                                   scratch, error);
    case LOCAL_SCALE_SHIFT:
        scale_base(self, step);
        break;
    case LOCAL_ACTIVATION:
        kernel_activate(&step->f, in->base, out->base, count, threads);
        break;
    case LOCAL_ADD:
        kernel_add(in->base, self->values[step->inputs[1]].base, out->base, count, &step->f,
                   threads);
        break;
    case LOCAL_CONCAT:
        if (out->needs_base)
            join_bases(self, out);
        break;
    case LOCAL_MAX_POOL:
        kernel_max_pool(&step->geometry, in->base, out->base, NULL, out->channels, block, threads);
        break;
    case LOCAL_AVERAGE_POOL:
        kernel_average_pool(&step->geometry, false, in->base, out->base, out->channels, block,
                            threads);
        break;
    }
    return XAI_OK;
}

static xai_status allocate_base(local_value *value, xai_error **error)
{
    const size_t bytes = local_whole_count(value) * sizeof(float);
    if (value->piece_count > 0 && !value->needs_base)
        return XAI_OK;
    if (value->base == NULL)
        value->base = memory_allocate_aligned(bytes);
    return value->base != NULL ? XAI_OK : error_memory(error, "values of the row", bytes);
}

/* The largest magnitude of a value of the row, or what bounds it. */
static double base_bound(const local *self, size_t v)
{
    return v == LOCAL_NONE ? 0 : self->values[v].base_bound;
}

static xai_status compute_base(local *self, const local_step *step, void *scratch,
                               xai_error **error)
{
    local_value *out = &self->values[step->output];
    double bound = 0;
    size_t count;
    const size_t *pieces = local_pieces(out, &step->inputs[0], &count);
    for (size_t i = 0; i < count; i++)
        bound = fmax(bound, base_bound(self, pieces[i]));
    if (step->kind != LOCAL_CONCAT)
        bound = local_bound(step, base_bound(self, step->inputs[0]),
                            base_bound(self, local_summand(step)));
    if (!local_bound_fits(local_partial_bound(step, base_bound(self, step->inputs[0]),
                                              base_bound(self, step->other))))
        return local_overflow(self, step, error);
    xai_status status = allocate_base(out, error);
    if (status == XAI_OK)
        status = run_base(self, step, scratch, error);
    if (status == XAI_OK && !(bound < LOCAL_BOUND_LARGE) && step->kind != LOCAL_CONCAT)
        bound = kernel_max_abs(out->base, local_whole_count(out), self->threads);
    out->base_bound = bound;
    return status != XAI_OK || local_bound_fits(bound) ? status : local_overflow(self, step, error);
}

xai_status local_set_row(local *self, const float *image, xai_error **error)
{
    local_value *input = &self->values[self->graph->inputs[self->input]];
    void *scratch = memory_allocate_aligned(self->scratch_bytes + 64);
    xai_status status = scratch != NULL ? allocate_base(input, error)
                                        : error_memory(error, "scratch", self->scratch_bytes);
    if (status == XAI_OK && input->unit == 1)
        memcpy(input->base, image, input->planes * input->size[0] * input->size[1] * sizeof *image);
    else if (status == XAI_OK)
        kernel_block(image, input->base, input->channels, input->size[0] * input->size[1],
                     (int)input->unit, self->threads);
    if (status == XAI_OK)
        input->base_bound = kernel_max_abs(input->base, local_whole_count(input), self->threads);
    for (size_t s = 0; status == XAI_OK && s < self->step_count; s++)
        status = compute_base(self, &self->steps[s], scratch, error);
    memory_free(scratch);
    return status;
}
