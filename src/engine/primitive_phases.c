/* The data gradient of a strided convolution as one forward convolution without stride.
 *
 * In each dimension gx[i] = sum over taps k and outputs o with o s + k - p = i of W[k] gy[o]. With i + p = s u + r, the
 * taps that reach i are k = r + s t with o = u - t: for each phase r a convolution of gy with T = ceil(K / s) flipped
 * taps. The phases become output channels (phase-major), and their maps are interleaved afterwards. Exact: only zeros
 * are added, where r + s t runs past K; with blocked maps each phase is a convolution of its own instead, without those
 * zeros. Without stride it is the usual flipped convolution, and may be dilated. */
#ifdef XAI_HAVE_ONEDNN

#include <string.h>

#include "engine/primitive_private.h"

/* More zeros than this per useful product, and another form is tried. */
#define WASTE_LIMIT 4.0

bool primitive_phases_of(const convolution *c, int block, convolution *run, interleave *g)
{
    const window *w = &c->geometry;
    double waste = 1;
    int64_t phases = 1;
    if (!c->backward || w->groups != 1)
        return false;
    *g = (interleave){.phase_channels = 0};
    *run = (convolution){
        .backward = false, .input_channels = c->output_channels, .plain_input = c->plain_output};
    run->geometry = (window){.rank = w->rank, .groups = 1};
    for (int i = 0; i < 3; i++) {
        g->size[i] = g->stride[i] = g->count[i] = 1;
        g->pad[i] = g->first[i] = 0;
    }
    for (int i = 0; i < w->rank; i++) {
        const int64_t s = w->stride[i], p = w->pad_begin[i], taps = (w->kernel[i] + s - 1) / s;
        const int at = 3 - w->rank + i;
        if (s > 1 && w->dilation[i] > 1)
            return false;
        g->size[at] = w->input[i];
        g->stride[at] = s;
        g->pad[at] = p;
        g->first[at] = p / s;
        g->count[at] = (w->input[i] - 1 + p) / s - g->first[at] + 1;
        phases *= s;
        waste *= (double)(taps * s) / (double)w->kernel[i];
        run->geometry.kernel[i] = taps;
        run->geometry.stride[i] = 1;
        run->geometry.dilation[i] = w->dilation[i];
        run->geometry.input[i] = w->output[i];
        run->geometry.output[i] = g->count[at];
        run->geometry.pad_begin[i] = (taps - 1) * w->dilation[i] -
                                     g->first[at]; /* perhaps negative: then only padded by copy */
    }
    /* Plain maps are picked lane by lane, so that few channels pack; blocked ones keep whole blocks. */
    g->phase_channels = c->plain_input && phases > 1 ? c->input_channels
                        : phases > 1 ? (c->input_channels + block - 1) / block * block
                                     : c->input_channels;
    run->output_channels = phases * g->phase_channels;
    g->waste = waste;
    return waste <= WASTE_LIMIT && phases <= 4096 && run->output_channels <= INT32_MAX;
}

/* (M, C, K...) -> (phases * phase_channels, M, T...) */
void primitive_phase_weights(const primitive *self, const char *weights, float *out)
{
    const convolution *c = &self->shape;
    const window *w = &c->geometry;
    const interleave *g = &self->form.phases;
    int64_t kernel[3] = {1, 1, 1}, taps[3] = {1, 1, 1};
    for (int i = 0; i < w->rank; i++) {
        kernel[3 - w->rank + i] = w->kernel[i];
        taps[3 - w->rank + i] = self->form.run.geometry.kernel[i];
    }
    const int64_t kernel_count = kernel[0] * kernel[1] * kernel[2],
                  tap_count = taps[0] * taps[1] * taps[2];
    const int64_t phases = g->stride[0] * g->stride[1] * g->stride[2];
    memset(out, 0,
           (size_t)(phases * g->phase_channels * c->output_channels * tap_count) * sizeof *out);
    for (int64_t phase = 0; phase < phases; phase++) {
        const int64_t r[3] = {phase / (g->stride[1] * g->stride[2]),
                              phase / g->stride[2] % g->stride[1], phase % g->stride[2]};
        for (int64_t t = 0; t < tap_count; t++) {
            const int64_t tap[3] = {t / (taps[1] * taps[2]), t / taps[2] % taps[1], t % taps[2]};
            int64_t k[3];
            bool inside = true;
            for (int i = 0; i < 3; i++) {
                k[i] = r[i] + g->stride[i] * (taps[i] - 1 - tap[i]);
                inside = inside && k[i] < kernel[i];
            }
            if (!inside)
                continue;
            const int64_t source = (k[0] * kernel[1] + k[1]) * kernel[2] + k[2];
            for (int64_t channel = 0; channel < c->input_channels; channel++)
                for (int64_t m = 0; m < c->output_channels; m++)
                    memcpy(&out[((phase * g->phase_channels + channel) * c->output_channels + m) *
                                    tap_count +
                                t],
                           weights +
                               (size_t)((m * c->input_channels + channel) * kernel_count + source) *
                                   sizeof(float),
                           sizeof(float));
        }
    }
}

/* Taps of phase r in dimension `at`, of a kernel that is at least as wide as the stride. */
static int64_t phase_taps(const interleave *g, int at, int64_t kernel, int64_t r)
{
    return (kernel - r + g->stride[at] - 1) / g->stride[at];
}

/* Phase -> (depth, height, width). */
static void phase_of(const interleave *g, int64_t phase, int64_t r[3])
{
    r[0] = phase / (g->stride[1] * g->stride[2]);
    r[1] = phase / g->stride[2] % g->stride[1];
    r[2] = phase % g->stride[2];
}

/* The forward convolution of one phase; false when it reaches nothing. */
static bool phase_spec(const primitive *self, const interleave *g, int64_t phase,
                       primitive_spec *out)
{
    const convolution *c = &self->shape;
    const window *w = &c->geometry;
    int64_t r[3];
    phase_of(g, phase, r);
    *out = (primitive_spec){.kind = PRIMITIVE_CONVOLUTION,
                            .threads = self->spec.threads,
                            .input_channels = c->output_channels,
                            .output_channels = c->input_channels,
                            .plain_input = c->plain_output,
                            .constant_weights = true};
    out->geometry = (window){.rank = w->rank, .groups = 1};
    for (int i = 0; i < w->rank; i++) {
        const int at = 3 - w->rank + i;
        const int64_t taps = phase_taps(g, at, w->kernel[i], r[at]);
        out->geometry.kernel[i] = taps;
        out->geometry.stride[i] = 1;
        out->geometry.dilation[i] = w->dilation[i];
        out->geometry.input[i] = w->output[i];
        out->geometry.output[i] = interleave_count(g, at, r[at]);
        out->geometry.pad_begin[i] = (taps - 1) * w->dilation[i] - interleave_first(g, at, r[at]);
        if (out->geometry.output[i] < 1)
            return false;
    }
    return true;
}

xai_status primitive_split_phases(primitive *self, xai_error **error)
{
    const convolution *c = &self->shape;
    const window *w = &c->geometry;
    convolution whole;
    interleave *g = &self->form.phases;
    xai_error *reason = NULL;
    xai_status status = XAI_OK;
    int64_t phases = 1;
    size_t weights = 0, floats = 0, scratch = 0;
    if (c->plain_input || !primitive_phases_of(c, self->block, &whole, g) || g->waste <= 1)
        return XAI_ERROR_UNSUPPORTED;
    for (int i = 0; i < w->rank; i++) {
        phases *= w->stride[i];
        if (w->kernel[i] < w->stride[i] || phases > PRIMITIVE_PARTS)
            return XAI_ERROR_UNSUPPORTED;
    }
    g->split = true;
    for (int64_t phase = 0; phase < phases; phase++) {
        primitive_spec spec;
        primitive *part = NULL;
        status = phase_spec(self, g, phase, &spec) ? primitive_create(&spec, &part, &reason)
                                                   : XAI_ERROR_UNSUPPORTED;
        if (status != XAI_OK)
            goto done;
        self->parts[self->part_count++] = part;
        if (primitive_sums_by_thread(part->implementation)) {
            status = XAI_ERROR_UNSUPPORTED;
            goto done;
        }
        self->part_weights[phase] = weights;
        weights += primitive_round(part->weights_bytes);
        g->offset[phase] = floats;
        size_t positions = 1;
        for (int i = 0; i < w->rank; i++)
            positions *= (size_t)spec.geometry.output[i];
        floats += kernel_pieces((size_t)c->input_channels, (size_t)self->block) *
                  (size_t)self->block * positions;
        scratch = part->scratchpad_bytes > scratch ? part->scratchpad_bytes : scratch;
    }
    self->form.in_phases = true;
    self->weights_bytes = weights;
    self->destination_bytes = floats * sizeof(float);
    self->scratchpad_bytes = primitive_round(self->destination_bytes) + scratch;
    memcpy(self->implementation, self->parts[0]->implementation, sizeof self->implementation);
done:
    if (status != XAI_OK) {
        while (self->part_count > 0)
            primitive_free(self->parts[--self->part_count]);
        if (status == XAI_ERROR_UNSUPPORTED || error == NULL || *error != NULL)
            xai_error_free(reason);
        else
            *error = reason;
    }
    return status;
}

xai_status primitive_prepare_parts(const primitive *self, const void *weights, void *prepared,
                                   xai_error **error)
{
    const convolution *c = &self->shape;
    const window *w = &c->geometry;
    const interleave *g = &self->form.phases;
    int64_t kernel[3] = {1, 1, 1};
    for (int i = 0; i < w->rank; i++)
        kernel[3 - w->rank + i] = w->kernel[i];
    const size_t channels = (size_t)c->input_channels, outputs = (size_t)c->output_channels;
    const int64_t kernel_count = kernel[0] * kernel[1] * kernel[2];
    float *copy = memory_allocate_aligned(channels * outputs * (size_t)kernel_count * sizeof *copy);
    xai_status status = copy == NULL
                            ? error_memory(error, "weights",
                                           channels * outputs * (size_t)kernel_count * sizeof *copy)
                            : XAI_OK;
    for (int part = 0; part < self->part_count && status == XAI_OK; part++) {
        int64_t r[3], taps[3];
        phase_of(g, part, r);
        for (int i = 0; i < 3; i++)
            taps[i] = phase_taps(g, i, kernel[i], r[i]);
        const int64_t tap_count = taps[0] * taps[1] * taps[2];
        for (int64_t t = 0; t < tap_count; t++) {
            const int64_t tap[3] = {t / (taps[1] * taps[2]), t / taps[2] % taps[1], t % taps[2]};
            int64_t source = 0;
            for (int i = 0; i < 3; i++)
                source = source * kernel[i] + r[i] + g->stride[i] * (taps[i] - 1 - tap[i]);
            for (size_t channel = 0; channel < channels; channel++)
                for (size_t m = 0; m < outputs; m++)
                    memcpy(&copy[(channel * outputs + m) * (size_t)tap_count + (size_t)t],
                           (const char *)weights +
                               ((m * channels + channel) * (size_t)kernel_count + (size_t)source) *
                                   sizeof(float),
                           sizeof(float));
        }
        status = primitive_prepare_weights(self->parts[part], copy,
                                           (char *)prepared + self->part_weights[part], error);
    }
    memory_free(copy);
    return status;
}

xai_status primitive_run_parts(const primitive *self, const primitive_arguments *arguments,
                               xai_error **error)
{
    const convolution *c = &self->shape;
    float *phases = arguments->scratchpad;
    for (int part = 0; part < self->part_count; part++) {
        const primitive_arguments own = {
            .source = arguments->source,
            .weights = (const float *)((const char *)arguments->weights + self->part_weights[part]),
            .destination = phases + self->form.phases.offset[part],
            .scratchpad = (char *)arguments->scratchpad + primitive_round(self->destination_bytes)};
        const xai_status status = primitive_run(self->parts[part], &own, error);
        if (status != XAI_OK)
            return status;
    }
    kernel_interleave(&self->form.phases, phases, arguments->destination, (size_t)c->input_channels,
                      false, self->block, self->spec.threads);
    return XAI_OK;
}

#else
typedef int primitive_phases_without_onednn; /* an empty file is not C */
#endif
