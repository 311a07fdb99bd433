/* Depthwise convolutions and their data gradients on the own kernel of kernels_depthwise.c, where it is faster than oneDNN's. */
#ifdef XAI_HAVE_ONEDNN

#include <stdio.h>

#include "engine/primitive_private.h"

/* What the engine fuses elsewhere, too, and leaves lanes behind the last channel 0. */
static bool is_fused(const activation *f)
{
    switch (f->kind) {
    case ACTIVATION_NONE:
    case ACTIVATION_RELU:
    case ACTIVATION_LEAKY_RELU:
    case ACTIVATION_ELU:
    case ACTIVATION_TANH:
    case ACTIVATION_CLIP:
    case ACTIVATION_SILU:
    case ACTIVATION_HARD_SWISH:
    case ACTIVATION_HARD_SIGMOID:
    case ACTIVATION_GELU:
    case ACTIVATION_GELU_TANH:
        return activation_keeps_zero(f);
    default:
        return false;
    }
}

static void key_of(const primitive *self, text *key)
{
    text_format(key, "depthwise;block %d;channels %zu;taps %zu,%zu%s", self->block,
                self->depthwise.channels, self->depthwise.taps[0], self->depthwise.taps[1],
                self->spec.kind == PRIMITIVE_CONVOLUTION_BACKWARD ? ";gradient" : "");
}

static void prepare(const primitive *self, const void *weights, void *prepared)
{
    depthwise_prepare(&self->depthwise, weights, self->spec.kind == PRIMITIVE_CONVOLUTION_BACKWARD,
                      prepared);
}

static void run(const primitive *self, const primitive_arguments *arguments)
{
    depthwise_run(&self->depthwise, arguments->source, arguments->weights,
                  self->spec.has_bias ? arguments->bias : NULL, arguments->destination);
}

static const own_kernel own = {.key = key_of, .prepare = prepare, .run = run};

bool primitive_choose_depthwise(primitive *self)
{
    const primitive_spec *spec = &self->spec;
    const window *w = &spec->geometry;
    const bool backward = spec->kind == PRIMITIVE_CONVOLUTION_BACKWARD;
    if ((spec->kind != PRIMITIVE_CONVOLUTION && !backward) || spec->batch > 1 || self->block != 8 ||
        spec->plain_input || spec->plain_output || spec->add_to_destination || spec->add_other ||
        !is_fused(&spec->post) || w->rank != 2 || w->groups != spec->input_channels ||
        w->groups != spec->output_channels)
        return false;
    depthwise made = {.block = self->block,
                      .channels = (size_t)spec->input_channels,
                      .post = spec->post,
                      .threads = self->threads};
    self->operations = 2.0 * (double)made.channels;
    for (int i = 0; i < 2; i++) {
        if (w->dilation[i] != 1 || w->stride[i] < 1 || w->kernel[i] < 1 || w->pad_begin[i] < 0 ||
            w->pad_begin[i] >= w->kernel[i] || (backward && w->stride[i] != 1))
            return false;
        /* The gradient: taps turned round, so padding becomes what is left of them. */
        made.taps[i] = (size_t)w->kernel[i];
        made.stride[i] = (size_t)w->stride[i];
        made.input[i] = (size_t)(backward ? w->output[i] : w->input[i]);
        made.output[i] = (size_t)(backward ? w->input[i] : w->output[i]);
        made.pad[i] = (size_t)(backward ? w->kernel[i] - 1 - w->pad_begin[i] : w->pad_begin[i]);
        self->operations *= (double)w->kernel[i] * (double)w->output[i];
    }
    if (!depthwise_supported(&made))
        return false;
    self->depthwise = made;
    self->own = &own;
    self->weights_bytes = depthwise_weights_bytes(&made);
    snprintf(self->implementation, sizeof self->implementation, "depthwise");
    return true;
}

#else
typedef int primitive_depthwise_without_onednn; /* an empty file is not C */
#endif
