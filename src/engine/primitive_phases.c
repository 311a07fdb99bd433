/* The data gradient of a strided convolution as one forward convolution without stride.
 *
 * In each dimension gx[i] = sum over taps k and outputs o with o s + k - p = i of W[k] gy[o]. With i + p = s u + r, the
 * taps that reach i are k = r + s t with o = u - t: for each phase r a convolution of gy with T = ceil(K / s) flipped
 * taps. The phases become output channels (phase-major), and their maps are interleaved afterwards. Exact: only zeros
 * are added, where r + s t runs past K. Without stride it is the usual flipped convolution, and may be dilated. */
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

#else
typedef int primitive_phases_without_onednn; /* an empty file is not C */
#endif
