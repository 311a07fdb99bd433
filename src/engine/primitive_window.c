/* Convolutions of windows and their data gradients on the own kernel of kernels_window.c, where oneDNN's are slower. */
#ifdef XAI_HAVE_ONEDNN

#include <stdio.h>

#include "engine/primitive_private.h"

/* Wider maps fill the rows that oneDNN's kernels walk along. */
#define WIDTH_MOST 80

/* The convolution that is computed: of x, or of the gradient of y with its taps turned round. */
static bool describe(const primitive *self, windowed *made)
{
    const primitive_spec *spec = &self->spec;
    const window *w = &spec->geometry;
    const bool backward = spec->kind == PRIMITIVE_CONVOLUTION_BACKWARD;
    if ((spec->kind != PRIMITIVE_CONVOLUTION && !backward) || self->block != 8 ||
        spec->plain_input || spec->plain_output || spec->add_to_destination || w->rank != 2 ||
        w->groups != 1 || spec->input_channels < 1 || spec->output_channels < 1)
        return false;
    *made = (windowed){
        .batch = spec->batch > 1 ? (size_t)spec->batch : 1,
        .input_channels = (size_t)(backward ? spec->output_channels : spec->input_channels),
        .output_channels = (size_t)(backward ? spec->input_channels : spec->output_channels),
        .post = spec->post,
        .threads = self->threads};
    for (int i = 0; i < 2; i++) {
        if (w->kernel[i] < 1 || w->stride[i] < 1 || w->dilation[i] < 1 || w->input[i] < 1 ||
            w->output[i] < 1 || w->pad_begin[i] < 0 || (backward && w->stride[i] != 1))
            return false;
        made->kernel[i] = (size_t)w->kernel[i];
        made->stride[i] = (size_t)w->stride[i];
        made->dilation[i] = (size_t)w->dilation[i];
        made->input[i] = (size_t)(backward ? w->output[i] : w->input[i]);
        made->output[i] = (size_t)(backward ? w->input[i] : w->output[i]);
        made->pad[i] =
            backward ? (w->kernel[i] - 1) * w->dilation[i] - w->pad_begin[i] : w->pad_begin[i];
    }
    return made->output[1] <= WIDTH_MOST;
}

static void key_of(const primitive *self, text *key)
{
    const windowed *w = &self->window;
    text_format(key, "window;from %zu to %zu;taps %zu,%zu%s", w->input_channels, w->output_channels,
                w->kernel[0], w->kernel[1],
                self->spec.kind == PRIMITIVE_CONVOLUTION_BACKWARD ? ";gradient" : "");
}

static void prepare(const primitive *self, const void *weights, void *prepared)
{
    windowed_prepare(&self->window, weights, self->spec.kind == PRIMITIVE_CONVOLUTION_BACKWARD,
                     prepared);
}

static void run(const primitive *self, const primitive_arguments *arguments)
{
    windowed_run(&self->window, arguments->source, arguments->weights,
                 self->spec.has_bias ? arguments->bias : NULL,
                 self->spec.add_other ? arguments->other : NULL, arguments->destination,
                 arguments->scratchpad);
}

static const own_kernel own = {.key = key_of, .prepare = prepare, .run = run};

bool primitive_choose_window(primitive *self)
{
    const activation *post = &self->spec.post;
    windowed made;
    if (!describe(self, &made) || (made.output_channels % 8 != 0 && !activation_keeps_zero(post)) ||
        !windowed_plan(&made))
        return false;
    self->window = made;
    self->own = &own;
    self->operations = 2.0 * (double)made.input_channels * (double)made.output_channels *
                       (double)self->spec.geometry.output[0] *
                       (double)self->spec.geometry.output[1] * (double)made.kernel[0] *
                       (double)made.kernel[1] * (double)made.batch;
    self->weights_bytes = windowed_weights_bytes(&made);
    self->scratchpad_bytes = windowed_scratch_bytes(&made);
    snprintf(self->implementation, sizeof self->implementation, "window:avx2");
    return true;
}

#else
typedef int primitive_window_without_onednn; /* an empty file is not C */
#endif
