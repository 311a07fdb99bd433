/* Running a primitive: the caller's buffers are converted, padded and bound, oneDNN computes, and back. */
#ifdef XAI_HAVE_ONEDNN

#include "base/error.h"
#include "base/memory.h"
#include "engine/kernels_private.h"
#include "engine/primitive_private.h"

dnnl_status_t primitive_bind(const primitive *self, const_dnnl_memory_desc_t description,
                             const void *data, int argument, dnnl_exec_arg_t *list, int *count)
{
    dnnl_memory_t memory = NULL;
    const dnnl_status_t code = dnnl_memory_create(&memory, description, self->engine, (void *)data);
    if (code == dnnl_success)
        list[(*count)++] = (dnnl_exec_arg_t){argument, memory};
    return code;
}

void primitive_unbind(dnnl_exec_arg_t *list, int count)
{
    for (int i = 0; i < count; i++)
        dnnl_memory_destroy(list[i].memory);
}

static size_t spatial_count(const int64_t *sizes, int rank)
{
    size_t count = 1;
    for (int i = 0; i < rank; i++)
        count *= (size_t)sizes[i];
    return count;
}

/* (depth, height, width) of a spatial array; missing leading dimensions are `fill`. */
static void three(const int64_t *values, int rank, int64_t fill, int64_t out[3])
{
    for (int i = 0; i < 3; i++)
        out[i] = i < 3 - rank ? fill : values[i - (3 - rank)];
}

/* The caller's source as the executed convolution reads it; moves *scratch past what it used. */
static const float *enter_source(const primitive *self, const float *source, char **scratch)
{
    const convolution *c = &self->shape, *run = &self->form.run;
    const window *w = &c->geometry;
    const size_t channels = (size_t)(c->backward ? c->output_channels : c->input_channels);
    const int64_t *spatial = c->backward ? w->output : w->input;
    bool plain = c->backward ? c->plain_output : c->plain_input;
    if (self->source_converts) {
        float *out = (float *)*scratch;
        if (self->form.channels_last)
            kernel_to_channels_last(source, out, channels, spatial_count(spatial, w->rank),
                                    self->block, false, self->spec.threads);
        else if (plain)
            kernel_block(source, out, channels, spatial_count(spatial, w->rank), self->block,
                         self->spec.threads);
        else
            kernel_unblock(source, out, channels, spatial_count(spatial, w->rank), self->block,
                           self->spec.threads);
        plain = !plain;
        source = out;
        *scratch += primitive_round(self->converted_bytes);
    }
    if (self->form.padded) {
        float *out = (float *)*scratch;
        int64_t in[3], padded[3], begin[3];
        three(spatial, w->rank, 1, in);
        three(run->geometry.input, w->rank, 1, padded);
        three(self->form.copied_begin, w->rank, 0, begin);
        const size_t unit = plain ? 1 : (size_t)self->block;
        kernel_pad(source, out, kernel_pieces(channels, unit), in, padded, begin, unit,
                   self->spec.threads);
        source = out;
        *scratch += primitive_round(self->padded_bytes);
    }
    return source;
}

/* What the executed convolution wrote, as the caller wants it. */
static void leave_destination(const primitive *self, const float *made, float *destination)
{
    const convolution *c = &self->shape;
    const window *w = &c->geometry;
    const size_t channels = (size_t)(c->backward ? c->input_channels : c->output_channels);
    const size_t spatial = spatial_count(c->backward ? w->input : w->output, w->rank);
    const bool plain = c->backward ? c->plain_input : c->plain_output;
    const interleave *g = &self->form.phases;
    if (self->form.in_phases && (g->stride[0] > 1 || g->stride[1] > 1 || g->stride[2] > 1))
        kernel_interleave(g, made, destination, channels, plain, self->block, self->spec.threads);
    else if (self->form.channels_last)
        kernel_from_channels_last(made, destination, channels, spatial, self->block, false,
                                  self->spec.threads);
    else if (plain)
        kernel_unblock(made, destination, channels, spatial, self->block, self->spec.threads);
    else
        kernel_block(made, destination, channels, spatial, self->block, self->spec.threads);
}

static void add_late_bias(const primitive *self, const primitive_arguments *arguments)
{
    const convolution *c = &self->shape;
    kernel_add_bias(arguments->destination, arguments->bias, (size_t)c->input_channels,
                    spatial_count(c->geometry.input, c->geometry.rank),
                    c->plain_input ? 1 : self->block, self->spec.threads);
}

struct primitive_binding {
    const primitive *of;
    primitive_arguments arguments;
    dnnl_exec_arg_t list[6];
    int count;
};

void primitive_binding_free(primitive_binding *self)
{
    if (!self)
        return;
    primitive_unbind(self->list, self->count);
    memory_free(self);
}

static bool is_bound(const primitive_binding *self, const primitive *to,
                     const primitive_arguments *arguments)
{
    const primitive_arguments *own = &self->arguments;
    return self->of == to && own->source == arguments->source &&
           own->weights == arguments->weights && own->bias == arguments->bias &&
           own->other == arguments->other && own->destination == arguments->destination &&
           own->scratchpad == arguments->scratchpad;
}

/* `source`, `destination` and `scratch` are those of oneDNN, the rest is the caller's. */
static dnnl_status_t bind_all(const primitive *self, const primitive_arguments *arguments,
                              const float *source, float *destination, char *scratch,
                              dnnl_exec_arg_t *list, int *count)
{
    dnnl_status_t code =
        primitive_bind(self, self->source, source, self->source_argument, list, count);
    if (code == dnnl_success)
        code =
            primitive_bind(self, self->weights, arguments->weights, DNNL_ARG_WEIGHTS, list, count);
    if (code == dnnl_success && self->spec.has_bias && !self->late_bias)
        code = primitive_bind(self, self->bias, arguments->bias, DNNL_ARG_BIAS, list, count);
    if (code == dnnl_success)
        code = primitive_bind(self, self->destination, destination, self->destination_argument,
                              list, count);
    if (code == dnnl_success && self->other_argument != 0)
        code = primitive_bind(self, self->destination, arguments->other, self->other_argument, list,
                              count);
    if (code == dnnl_success && self->library_bytes > 0)
        code = primitive_bind(self, self->scratchpad, scratch, DNNL_ARG_SCRATCHPAD, list, count);
    return code;
}

xai_status primitive_run(const primitive *self, const primitive_arguments *arguments,
                         xai_error **error)
{
    primitive_binding *binding = NULL;
    const xai_status status = primitive_run_bound(self, arguments, &binding, error);
    primitive_binding_free(binding);
    return status;
}

xai_status primitive_run_bound(const primitive *self, const primitive_arguments *arguments,
                               primitive_binding **binding, xai_error **error)
{
    if (self->own != NULL) {
        self->own->run(self, arguments);
        return XAI_OK;
    }
    if (self->tiled)
        return primitive_run_tiles(self, arguments, error);
    if (self->part_count > 0) {
        const xai_status status = primitive_run_parts(self, arguments, error);
        if (status == XAI_OK && self->late_bias)
            add_late_bias(self, arguments);
        return status;
    }
    char *scratch = arguments->scratchpad;
    const float *source =
        self->is_convolution ? enter_source(self, arguments->source, &scratch) : arguments->source;
    float *destination = arguments->destination;
    if (self->destination_bytes > 0) {
        destination = (float *)scratch;
        scratch += primitive_round(self->destination_bytes);
    }

    dnnl_status_t code = dnnl_success;
    if (*binding && !is_bound(*binding, self, arguments)) {
        primitive_binding_free(*binding);
        *binding = NULL;
    }
    if (!*binding) {
        primitive_binding *made = memory_allocate_zeroed(1, sizeof *made);
        if (!made)
            return error_memory(error, "the arguments of a primitive", sizeof *made);
        made->of = self;
        made->arguments = *arguments;
        code = bind_all(self, arguments, source, destination, scratch, made->list, &made->count);
        if (code == dnnl_success)
            *binding = made;
        else
            primitive_binding_free(made);
    }
    if (code == dnnl_success) {
        const int before = primitive_threads_enter(self->threads);
        code = dnnl_primitive_execute(self->operation, self->stream, (*binding)->count,
                                      (*binding)->list);
        if (code == dnnl_success)
            code = dnnl_stream_wait(self->stream);
        primitive_threads_leave(before, self->threads);
    }
    if (code != dnnl_success)
        return primitive_failure(code, XAI_ERROR_INTERNAL, "execution", error);

    if (self->destination_bytes > 0)
        leave_destination(self, destination, arguments->destination);
    if (self->late_bias)
        add_late_bias(self, arguments);
    return XAI_OK;
}

#else
typedef int primitive_run_without_onednn; /* an empty file is not C */
#endif
