/* Convolutions and their data gradients on the own kernel of kernels_winograd.c, where precision `fast` allows it. */
#ifdef XAI_HAVE_ONEDNN

#include <stdio.h>

#include "engine/primitive_private.h"

static bool is_three_by_three(const window *w)
{
    if (w->rank != 2 || w->groups != 1)
        return false;
    for (int i = 0; i < 2; i++)
        if (w->kernel[i] != 3 || w->stride[i] != 1 || w->dilation[i] != 1 || w->pad_begin[i] < 0 ||
            w->pad_begin[i] > 2 || w->input[i] < 1)
            return false;
    return true;
}

static void key_of(const primitive *self, text *key)
{
    text_format(key, "winograd 4x4;block %d;from %zu to %zu%s", self->block,
                self->winograd.input_channels, self->winograd.output_channels,
                self->spec.kind == PRIMITIVE_CONVOLUTION_BACKWARD ? ";gradient" : "");
}

static void prepare(const primitive *self, const void *weights, void *prepared)
{
    winograd_prepare(&self->winograd, weights, self->spec.kind == PRIMITIVE_CONVOLUTION_BACKWARD,
                     prepared);
}

static void run(const primitive *self, const primitive_arguments *arguments)
{
    winograd_run(&self->winograd, arguments->source, arguments->weights,
                 self->spec.has_bias ? arguments->bias : NULL,
                 self->spec.add_other ? arguments->other : NULL, arguments->destination,
                 arguments->scratchpad);
}

static const own_kernel own = {
    .key = key_of, .prepare = prepare, .run = run, .growth = winograd_growth};

bool primitive_choose_winograd(primitive *self)
{
    const primitive_spec *spec = &self->spec;
    const window *w = &spec->geometry;
    const bool backward = spec->kind == PRIMITIVE_CONVOLUTION_BACKWARD;
    if (!spec->fast || (spec->kind != PRIMITIVE_CONVOLUTION && !backward) || spec->batch > 1 ||
        spec->plain_input || spec->plain_output || spec->add_to_destination ||
        !is_three_by_three(w) ||
        (spec->post.kind != ACTIVATION_NONE && spec->post.kind != ACTIVATION_RELU &&
         spec->post.kind != ACTIVATION_CLIP) ||
        !activation_keeps_zero(&spec->post))
        return false;
    winograd made = {
        .block = self->block,
        .input_channels = (size_t)(backward ? spec->output_channels : spec->input_channels),
        .output_channels = (size_t)(backward ? spec->input_channels : spec->output_channels),
        .post = spec->post,
        .threads = self->threads};
    for (int i = 0; i < 2;
         i++) { /* the gradient: taps turned round, so padding becomes 2 - padding */
        made.input[i] = (size_t)(backward ? w->output[i] : w->input[i]);
        made.output[i] = (size_t)(backward ? w->input[i] : w->output[i]);
        made.pad[i] = (size_t)(backward ? 2 - w->pad_begin[i] : w->pad_begin[i]);
    }
    if (!winograd_plan(&made))
        return false;
    self->winograd = made;
    self->own = &own;
    self->operations = 18.0 * (double)made.input_channels * (double)made.output_channels *
                       (double)w->output[0] * (double)w->output[1]; /* of the direct sum */
    self->weights_bytes = winograd_weights_bytes(&made);
    self->scratchpad_bytes = winograd_scratch_bytes(&made);
    snprintf(self->implementation, sizeof self->implementation, "winograd 4x4");
    return true;
}

#else
typedef int primitive_winograd_without_onednn; /* an empty file is not C */
#endif
