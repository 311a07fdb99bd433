/* Choosing how oneDNN computes a convolution: forms are tried in order of speed until one is not a reference loop. */
#ifdef XAI_HAVE_ONEDNN

#include <string.h>

#include "engine/primitive_private.h"

static convolution convolution_of(const primitive_spec *spec)
{
    convolution c = {.backward = spec->kind == PRIMITIVE_CONVOLUTION_BACKWARD ||
                                 spec->kind == PRIMITIVE_DECONVOLUTION,
                     .geometry = spec->geometry,
                     .input_channels = spec->input_channels,
                     .output_channels = spec->output_channels,
                     .plain_input = spec->plain_input,
                     .plain_output = spec->plain_output};
    if (spec->kind == PRIMITIVE_DECONVOLUTION || spec->kind == PRIMITIVE_DECONVOLUTION_BACKWARD) {
        c.input_channels = spec->output_channels;
        c.output_channels = spec->input_channels;
        c.plain_input = spec->plain_output;
        c.plain_output = spec->plain_input;
        memcpy(c.geometry.input, spec->geometry.output, sizeof c.geometry.input);
        memcpy(c.geometry.output, spec->geometry.input, sizeof c.geometry.output);
    }
    return c;
}

/* Dimensions (batch, C, spatial...) in the plain layout, in blocks or with channels last. */
static dnnl_status_t describe_data(dnnl_memory_desc_t *out, const convolution_form *form,
                                   int64_t batch, int64_t channels, const int64_t *spatial,
                                   bool plain, int block)
{
    static const dnnl_format_tag_t last_tags[] = {dnnl_nwc, dnnl_nhwc, dnnl_ndhwc};
    static const dnnl_format_tag_t plain_tags[] = {dnnl_ncw, dnnl_nchw, dnnl_ncdhw};
    static const dnnl_format_tag_t tags8[] = {dnnl_nCw8c, dnnl_nChw8c, dnnl_nCdhw8c};
    static const dnnl_format_tag_t tags16[] = {dnnl_nCw16c, dnnl_nChw16c, dnnl_nCdhw16c};
    const int rank = form->run.geometry.rank;
    dnnl_dims_t dims = {batch, channels};
    for (int i = 0; i < rank; i++)
        dims[2 + i] = spatial[i];
    const dnnl_format_tag_t *tags = form->channels_last ? last_tags
                                    : plain             ? plain_tags
                                    : block == 8        ? tags8
                                                        : tags16;
    return dnnl_memory_desc_create_with_tag(out, 2 + rank, dims, dnnl_f32, tags[rank - 1]);
}

/* (O, I, k...) or (G, O/G, I/G, k...) in a layout of oneDNN's choice. */
static dnnl_status_t describe_weights(dnnl_memory_desc_t *out, const convolution *c, int64_t groups)
{
    dnnl_dims_t dims;
    int n = 0;
    if (groups > 1)
        dims[n++] = groups;
    dims[n++] = c->output_channels / groups;
    dims[n++] = c->input_channels / groups;
    for (int i = 0; i < c->geometry.rank; i++)
        dims[n++] = c->geometry.kernel[i];
    return dnnl_memory_desc_create_with_tag(out, n, dims, dnnl_f32, dnnl_format_tag_any);
}

/* The primitive descriptor of one form, with or without the post-operations. */
static dnnl_status_t describe_form(const primitive *self, const convolution_form *form, bool post,
                                   dnnl_primitive_desc_t *out)
{
    const convolution *c = &form->run;
    const window *w = &c->geometry;
    dnnl_memory_desc_t input = NULL, weights = NULL, bias = NULL, output = NULL;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_dims_t strides, dilates, begin, end;
    const dnnl_dims_t bias_dims = {c->output_channels};
    const int64_t batch = self->spec.batch > 1 ? self->spec.batch : 1;
    *out = NULL;
    for (int i = 0; i < w->rank; i++) {
        const int64_t extent = (w->kernel[i] - 1) * w->dilation[i] + 1;
        strides[i] = w->stride[i];
        dilates[i] = w->dilation[i] - 1;
        begin[i] = w->pad_begin[i];
        end[i] = (w->output[i] - 1) * w->stride[i] + extent - w->input[i] -
                 w->pad_begin[i]; /* what is really read */
        if (end[i] < 0)
            end[i] = 0;
    }
    dnnl_status_t code = describe_data(&input, form, batch, c->input_channels, w->input,
                                       c->plain_input, self->block);
    if (code == dnnl_success)
        code = describe_data(&output, form, batch, c->output_channels, w->output, c->plain_output,
                             self->block);
    if (code == dnnl_success)
        code = describe_weights(&weights, c, w->groups / form->merged_groups);
    if (code == dnnl_success && self->spec.has_bias && !self->late_bias)
        code = dnnl_memory_desc_create_with_tag(&bias, 1, bias_dims, dnnl_f32, dnnl_a);
    if (code == dnnl_success)
        code = primitive_attributes(&self->spec, post, output, &attributes);
    if (code != dnnl_success)
        goto done;
    if (!c->backward) {
        code = dnnl_convolution_forward_primitive_desc_create(
            out, self->engine, dnnl_forward_inference, dnnl_convolution_direct, input, weights,
            bias, output, strides, dilates, begin, end, attributes);
        goto done;
    }
    code = dnnl_convolution_forward_primitive_desc_create(
        &hint, self->engine, dnnl_forward_training, dnnl_convolution_direct, input, weights, NULL,
        output, strides, dilates, begin, end, NULL);
    if (code == dnnl_success)
        code = dnnl_convolution_backward_data_primitive_desc_create(
            out, self->engine, dnnl_convolution_direct, input, weights, output, strides, dilates,
            begin, end, hint, attributes);
done:
    dnnl_primitive_desc_destroy(hint);
    dnnl_primitive_attr_destroy(attributes);
    dnnl_memory_desc_destroy(input);
    dnnl_memory_desc_destroy(output);
    dnnl_memory_desc_destroy(weights);
    dnnl_memory_desc_destroy(bias);
    return code;
}

/* oneDNN's kernel for channels last, rather than one that it falls back to. */
static bool is_window_kernel(const char *implementation)
{
    return strncmp(implementation, "brgconv:", strlen("brgconv:")) == 0;
}

/* Smallest number of groups that divides all groups and fills whole blocks on both sides; all of them when none does. */
static int64_t merge_of(const convolution *c, int block)
{
    const int64_t groups = c->geometry.groups, in = c->input_channels / groups,
                  out = c->output_channels / groups;
    for (int64_t m = 1; m < groups; m++)
        if (groups % m == 0 && m * in % block == 0 && m * out % block == 0)
            return m;
    return groups;
}

/* Groups merged until they fill blocks, the last merged one with groups that do not exist: the lanes that pad the last block
 * of the buffers, whose weights are zero. False when the buffers have no room for just that, or f(0) is not 0. */
static bool fill_last_group(const convolution *c, const activation *post, int block,
                            convolution_form *out)
{
    const int64_t groups = c->geometry.groups, in = c->input_channels / groups,
                  outputs = c->output_channels / groups;
    int64_t m = 1;
    while (m <= 4 * block && (m * in % block != 0 || m * outputs % block != 0))
        m++;
    const int64_t merged = (groups + m - 1) / m;
    const int64_t in_room = (c->input_channels + block - 1) / block * block,
                  out_room = (c->output_channels + block - 1) / block * block;
    if (groups == 1 || m == 1 || m > 4 * block || merged * m == groups ||
        merged * m * in != in_room || merged * m * outputs != out_room || c->plain_input ||
        c->plain_output || !activation_keeps_zero(post))
        return false;
    *out = (convolution_form){.run = *c, .merged_groups = m};
    out->run.geometry.groups = merged * m;
    out->run.input_channels = in_room;
    out->run.output_channels = out_room;
    return true;
}

/* The form whose source is copied with its padding around it: oneDNN refuses padding that is wide for its tiles. */
static convolution_form padded_form(convolution_form form)
{
    window *w = &form.run.geometry;
    form.padded = true;
    for (int i = 0; i < w->rank; i++) {
        w->input[i] = (w->output[i] - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i] + 1;
        form.copied_begin[i] = w->pad_begin[i];
        w->pad_begin[i] = 0;
    }
    return form;
}

/* Multiplications and additions per converted number above which channels last are worth it. */
#define CHANNELS_LAST_GAIN 800.0
#define CHANNELS_LAST_WIDTH 28 /* wider maps gain nothing */

/* With AVX2, oneDNN's kernels for windows on small maps are faster with channels last (up to a
 * quarter at 7x7), by more than the two conversions cost. With AVX-512 they are not. */
static bool prefers_channels_last(const primitive_spec *spec, const convolution *c, int block)
{
    const window *w = &c->geometry;
    if (c->backward || block != 8 || w->rank != 2 || w->groups != 1 || c->plain_input ||
        c->plain_output || spec->add_other || spec->add_to_destination ||
        c->input_channels % block != 0 || c->output_channels % block != 0)
        return false;
    const double in = (double)c->input_channels, out = (double)c->output_channels,
                 taps = (double)w->kernel[0] * (double)w->kernel[1],
                 pixels_in = (double)w->input[0] * (double)w->input[1],
                 pixels_out = (double)w->output[0] * (double)w->output[1];
    return taps > 1 && w->output[1] <= CHANNELS_LAST_WIDTH &&
           2 * in * out * taps * pixels_out >
               CHANNELS_LAST_GAIN * (in * pixels_in + out * pixels_out);
}

/* Multiplications by zero per useful one up to which phases beat oneDNN's strided gradient. */
#define PHASES_WASTE 3.0

/* Forms worth trying, best first; returns how many. */
#define FORMS 12
static int forms_of(const convolution *c, const primitive_spec *spec, int block,
                    convolution_form out[FORMS])
{
    const convolution_form direct = {.run = *c, .merged_groups = 1};
    convolution_form phases = {.merged_groups = 1, .in_phases = true};
    const bool has_phases = primitive_phases_of(c, block, &phases.run, &phases.phases);
    bool strided = false;
    int n = 0;
    for (int i = 0; i < c->geometry.rank; i++)
        strided = strided || c->geometry.stride[i] > 1;
    /* oneDNN's own strided gradient is slow, and the few channels of a first layer fill a block
     * only when the phases are counted in. */
    const bool phases_first = has_phases && strided && phases.phases.waste < PHASES_WASTE;
    if (phases_first)
        out[n++] = phases;
    if (prefers_channels_last(spec, c, block)) {
        out[n] = direct;
        out[n++].channels_last = true;
    }
    out[n++] = direct;
    if (c->plain_output) {
        out[n] = direct;
        out[n++].run.plain_output = false;
    }
    if (c->plain_input) {
        out[n] = direct;
        out[n].run.plain_input = out[n].run.plain_output = false;
        n++;
    }
    const bool fills = fill_last_group(c, &spec->post, block, &out[n]);
    n += fills;
    if (c->geometry.groups > 1 && !fills) {
        const int64_t m = merge_of(c, block);
        if (m > 1 && m <= 4 * block) {
            out[n] = direct;
            out[n++].merged_groups = m;
        }
    }
    if (!c->backward) {
        out[n++] = padded_form(direct);
        if (c->plain_input !=
            (c->input_channels <
             block)) { /* fewer channels than a block are read plain, others blocked */
            out[n] = direct;
            out[n].run.plain_input = !c->plain_input;
            n++;
            out[n] = padded_form(out[n - 1]);
            n++;
        }
    }
    if (has_phases && !phases_first)
        out[n++] = phases;
    if (has_phases)
        out[n++] = padded_form(phases);
    out[n] = direct;
    out[n].run.plain_input = out[n].run.plain_output = true;
    return n + 1;
}

static size_t data_bytes(int64_t channels, const int64_t *spatial, int rank, bool plain, int block)
{
    size_t count = plain ? (size_t)channels : (size_t)((channels + block - 1) / block * block);
    for (int i = 0; i < rank; i++)
        count *= (size_t)spatial[i];
    return count * sizeof(float);
}

static xai_status check_geometry(const convolution *c, xai_error **error)
{
    const window *w = &c->geometry;
    bool good = w->rank >= 1 && w->rank <= WINDOW_MAX_RANK && w->groups >= 1 &&
                c->input_channels >= 1 && c->output_channels >= 1 &&
                c->input_channels % w->groups == 0 && c->output_channels % w->groups == 0;
    size_t bytes_in = sizeof(float) * 16,
           bytes_out = sizeof(float) * 16; /* a whole block of padding at most */
    good = good && size_multiply(bytes_in, (size_t)c->input_channels, &bytes_in) &&
           size_multiply(bytes_out, (size_t)c->output_channels, &bytes_out);
    for (int i = 0; good && i < w->rank; i++)
        good = w->kernel[i] >= 1 && w->stride[i] >= 1 && w->dilation[i] >= 1 &&
               w->pad_begin[i] >= 0 && w->input[i] >= 1 && w->output[i] >= 1 &&
               size_multiply(bytes_in, (size_t)w->input[i], &bytes_in) &&
               size_multiply(bytes_out, (size_t)w->output[i], &bytes_out);
    return good ? XAI_OK
                : error_set(error, XAI_ERROR_UNSUPPORTED, NULL,
                            "oneDNN has no convolution of this geometry");
}

xai_status primitive_describe_convolution(primitive *self, xai_error **error)
{
    const primitive_spec *spec = &self->spec;
    self->is_convolution = true;
    self->shape = convolution_of(spec);
    const convolution *c = &self->shape;
    const window *w = &c->geometry;
    const bool post =
        spec->add_to_destination || spec->add_other || spec->post.kind != ACTIVATION_NONE;
    xai_status status = check_geometry(c, error);
    if (status != XAI_OK)
        return status;
    self->late_bias = c->backward && spec->has_bias;
    if (c->backward && post)
        return error_set(error, XAI_ERROR_UNSUPPORTED, NULL,
                         "oneDNN fuses nothing into a transposed convolution");

    self->operations = 2.0 * (double)c->output_channels * (double)(c->input_channels / w->groups);
    for (int i = 0; i < w->rank; i++)
        self->operations *= (double)w->output[i] * (double)w->kernel[i];
    if (spec->batch > 1 && c->backward)
        return error_set(error, XAI_ERROR_UNSUPPORTED, NULL,
                         "several rows at a time: forward convolutions only");
    if (spec->batch > 1)
        self->operations *= (double)spec->batch;
    status = spec->batch > 1 ? XAI_ERROR_UNSUPPORTED : primitive_split_phases(self, error);
    if (status != XAI_ERROR_UNSUPPORTED)
        return status;

    convolution_form forms[FORMS];
    int count = forms_of(c, spec, self->block, forms);
    if (spec->batch > 1) { /* the other forms convert or copy one row */
        forms[0] = (convolution_form){.run = *c, .merged_groups = 1};
        count = 1;
    }
    dnnl_status_t code = dnnl_unimplemented;
    int chosen = -1;
    /* Matrix products inside a convolution sum by thread: the last form alone may be one, then on one thread. */
    for (int i = 0; i < count && chosen < 0; i++) {
        const bool last = i == count - 1 && spec->batch <= 1;
        if (last) {
            self->threads = 1;
            primitive_threads_enter(1);
        }
        code = describe_form(self, &forms[i], false, &self->descriptor);
        if (code == dnnl_out_of_memory)
            return primitive_failure(code, XAI_ERROR_MEMORY, "convolution", error);
        if (code == dnnl_success && primitive_name(self->descriptor, self->implementation) &&
            (last || !primitive_sums_by_thread(self->implementation)) &&
            (!forms[i].channels_last || is_window_kernel(self->implementation))) {
            chosen = i;
        } else {
            dnnl_primitive_desc_destroy(self->descriptor);
            self->descriptor = NULL;
        }
    }
    if (chosen < 0)
        return error_set(error, XAI_ERROR_UNSUPPORTED, NULL,
                         "oneDNN has no fast convolution of this geometry");
    self->form = forms[chosen];
    const convolution *run = &self->form.run;
    const bool source_plain = c->backward ? c->plain_output : c->plain_input;
    const bool destination_plain = c->backward ? c->plain_input : c->plain_output;
    const bool run_source_plain = run->backward ? run->plain_output : run->plain_input;
    const bool run_destination_plain = run->backward ? run->plain_input : run->plain_output;
    bool interleaves = false;
    for (int i = 0; i < 3; i++)
        interleaves = interleaves || (self->form.in_phases && self->form.phases.stride[i] > 1);
    const bool last = self->form.channels_last;
    self->source_converts = last || source_plain != run_source_plain;
    const bool destination_copies =
        last || interleaves || destination_plain != run_destination_plain;
    if (post) { /* the same form again: fusing must not cost the fast implementation */
        dnnl_primitive_desc_destroy(self->descriptor);
        self->descriptor = NULL;
        code = destination_copies && !last
                   ? dnnl_unimplemented
                   : describe_form(self, &self->form, true, &self->descriptor);
        if (code != dnnl_success || !primitive_name(self->descriptor, self->implementation))
            return primitive_failure(code, XAI_ERROR_UNSUPPORTED,
                                     "convolution with fused operations", error);
    }

    const window *r = &run->geometry;
    const size_t input_bytes =
        data_bytes(run->input_channels, r->input, r->rank, run->plain_input, self->block);
    const size_t output_bytes =
        data_bytes(run->output_channels, r->output, r->rank, run->plain_output, self->block);
    if (self->source_converts)
        self->converted_bytes =
            data_bytes(c->backward ? c->output_channels : c->input_channels,
                       c->backward ? w->output : w->input, w->rank, run_source_plain, self->block);
    if (self->form.padded)
        self->padded_bytes = input_bytes; /* always a forward convolution */
    if (destination_copies)
        self->destination_bytes = run->backward ? input_bytes : output_bytes;

    const_dnnl_primitive_desc_t d = self->descriptor;
    self->source = dnnl_primitive_desc_query_md(
        d, run->backward ? dnnl_query_diff_dst_md : dnnl_query_src_md, 0);
    self->destination = dnnl_primitive_desc_query_md(
        d, run->backward ? dnnl_query_diff_src_md : dnnl_query_dst_md, 0);
    self->weights = dnnl_primitive_desc_query_md(d, dnnl_query_weights_md, 0);
    self->bias = dnnl_primitive_desc_query_md(d, dnnl_query_weights_md, 1);
    self->scratchpad = dnnl_primitive_desc_query_md(d, dnnl_query_scratchpad_md, 0);
    self->source_argument = run->backward ? DNNL_ARG_DIFF_DST : DNNL_ARG_SRC;
    self->destination_argument = run->backward ? DNNL_ARG_DIFF_SRC : DNNL_ARG_DST;
    if (spec->add_other)
        self->other_argument =
            DNNL_ARG_ATTR_MULTIPLE_POST_OP(spec->add_to_destination ? 1 : 0) | DNNL_ARG_SRC_1;
    return XAI_OK;
}

#else
typedef int primitive_convolution_without_onednn; /* an empty file is not C */
#endif
