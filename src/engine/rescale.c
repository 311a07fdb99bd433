/* DeepLIFT: backward steps that read a run and its baseline. Linear operators keep their ordinary
 * backward steps; products take the mean of the other factor. */
#include "base/error.h"
#include "engine/lower.h"

static const void *baseline_operand(const step *self, const run *state, int index)
{
    return run_baseline_address(state, self->operands[index]);
}

/* Where a unit's multipliers of x go: the value's own place, or a temporary that close_target()
 * adds. */
typedef struct target {
    operand place;
    bool direct, accumulate;
} target;

static xai_status open_target(builder *b, int x, layout form, target *out)
{
    *out = (target){.direct = b->values[x].primary == form};
    if (out->direct)
        return gradient_write(b, x, &out->place, &out->accumulate);
    out->place = builder_buffer(b, layout_bytes(b, x, form));
    return out->place.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
}

static xai_status close_target(builder *b, int x, layout form, const target *self)
{
    return self->direct ? XAI_OK : gradient_add(b, x, self->place, form, true);
}

/* ---- activations: 0 = x, 1 = multipliers of y, 2 = of x ---- */

static xai_status step_rescale(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_rescale(&self->post, run_address(state, self->operands[0]),
                   baseline_operand(self, state, 0), run_address(state, self->operands[1]),
                   run_address(state, self->operands[2]), self->count, self->accumulate,
                   state->program->threads);
    return XAI_OK;
}

xai_status rescale_activation(builder *b, const unit *self)
{
    const int x = b->graph->nodes[self->node].inputs[0];
    const layout form = b->values[self->output].primary;
    operand known, gradient;
    target out;
    step *s = NULL;
    xai_status status = builder_input(b, x, form, &known);
    if (status == XAI_OK)
        status = gradient_read(b, self->output, &gradient);
    if (status == XAI_OK)
        status = open_target(b, x, form, &out);
    if (status == XAI_OK)
        status = builder_step(b, step_rescale, self->node, "rescale", &s);
    if (status != XAI_OK)
        return status;
    s->post = self->post;
    s->accumulate = out.accumulate;
    s->count = layout_bytes(b, x, form) / sizeof(float);
    builder_read(b, s, 0, known);
    builder_read(b, s, 1, gradient);
    builder_write(b, s, 2, out.place, s->count * sizeof(float));
    return close_target(b, x, form, &out);
}

/* ---- scale, shift and ReLU: 0 = x, 1 = scale, 2 = shift, 3 = multipliers of y, 4 = of x ---- */

static xai_status step_scale_shift_rescale(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_scale_shift_rescale(
        run_address(state, self->operands[0]), baseline_operand(self, state, 0),
        run_address(state, self->operands[1]), run_address(state, self->operands[2]),
        run_address(state, self->operands[3]), run_address(state, self->operands[4]),
        self->channels, self->spatial, state->program->block, self->accumulate,
        state->program->threads);
    return XAI_OK;
}

xai_status rescale_scale_shift(builder *b, const unit *self)
{
    const int x = b->graph->nodes[self->node].inputs[0];
    operand known, gradient;
    target out;
    step *s = NULL;
    xai_status status = builder_input(b, x, LAYOUT_BLOCKED, &known);
    if (status == XAI_OK)
        status = gradient_read(b, self->output, &gradient);
    if (status == XAI_OK)
        status = open_target(b, x, LAYOUT_BLOCKED, &out);
    if (status == XAI_OK)
        status = builder_step(b, step_scale_shift_rescale, self->node, "scale shift rescale", &s);
    if (status != XAI_OK)
        return status;
    s->accumulate = out.accumulate;
    s->channels = layout_channels(&b->graph->values[x]);
    s->spatial = layout_spatial(&b->graph->values[x]);
    builder_read(b, s, 0, known);
    builder_read(b, s, 1, self->scale);
    builder_read(b, s, 2, self->shift);
    builder_read(b, s, 3, gradient);
    builder_write(b, s, 4, out.place, layout_bytes(b, x, LAYOUT_BLOCKED));
    return close_target(b, x, LAYOUT_BLOCKED, &out);
}

/* ---- max pool: 0 = x, 1 = winners, 2 = multipliers of y, 3 = of x ---- */

static xai_status step_max_pool_rescale(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_max_pool_rescale(&self->geometry, run_address(state, self->operands[0]),
                            baseline_operand(self, state, 0), run_address(state, self->operands[1]),
                            baseline_operand(self, state, 1), run_address(state, self->operands[2]),
                            run_address(state, self->operands[3]), self->channels,
                            state->program->block, self->accumulate, state->program->threads);
    return XAI_OK;
}

xai_status rescale_max_pool(builder *b, const unit *self)
{
    const int x = b->graph->nodes[self->node].inputs[0];
    operand known, gradient;
    target out;
    step *s = NULL;
    xai_status status = builder_input(b, x, LAYOUT_BLOCKED, &known);
    if (status == XAI_OK)
        status = gradient_read(b, self->output, &gradient);
    if (status == XAI_OK)
        status = open_target(b, x, LAYOUT_BLOCKED, &out);
    if (status == XAI_OK)
        status = builder_step(b, step_max_pool_rescale, self->node, "max pool rescale", &s);
    if (status != XAI_OK)
        return status;
    s->geometry = self->geometry;
    s->channels = layout_channels(&b->graph->values[x]);
    s->accumulate = out.accumulate;
    builder_read(b, s, 0, known);
    builder_read(b, s, 1, self->argmax);
    builder_read(b, s, 2, gradient);
    builder_write(b, s, 3, out.place, layout_bytes(b, x, LAYOUT_BLOCKED));
    return close_target(b, x, LAYOUT_BLOCKED, &out);
}

/* ---- softmax and layer normalisation: 0 = x, 1 = y or scale, 2 = multipliers of y, 3 = of x ---- */

static xai_status step_softmax_rescale(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_softmax_rescale(run_address(state, self->operands[0]), baseline_operand(self, state, 0),
                           run_address(state, self->operands[1]), baseline_operand(self, state, 1),
                           run_address(state, self->operands[2]),
                           run_address(state, self->operands[3]), self->count, self->channels,
                           self->accumulate, state->program->threads);
    return XAI_OK;
}

static xai_status step_layer_norm_rescale(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_layer_norm_rescale(
        run_address(state, self->operands[0]), baseline_operand(self, state, 0),
        run_address(state, self->operands[1]), self->epsilon, run_address(state, self->operands[2]),
        run_address(state, self->operands[3]), self->count, self->channels, self->accumulate,
        state->program->threads);
    return XAI_OK;
}

xai_status rescale_rows(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const bool softmax = node_is(node, "", "Softmax");
    const int x = node->inputs[0];
    const shape *dims = &b->graph->values[x].shape;
    operand known, gradient, second = self->scale;
    target out;
    step *s = NULL;
    if (!b->values[x].needs_gradient)
        return XAI_OK;
    xai_status status = builder_input(b, x, LAYOUT_PLAIN, &known);
    if (status == XAI_OK && softmax)
        status = builder_input(b, self->output, LAYOUT_PLAIN, &second);
    if (status == XAI_OK)
        status = gradient_read(b, self->output, &gradient);
    if (status == XAI_OK)
        status = open_target(b, x, LAYOUT_PLAIN, &out);
    if (status == XAI_OK)
        status = builder_step(b, softmax ? step_softmax_rescale : step_layer_norm_rescale,
                              self->node, softmax ? "softmax rescale" : "layer norm rescale", &s);
    if (status != XAI_OK)
        return status;
    s->channels = (size_t)dims->dims[dims->rank - 1];
    s->count = layout_bytes(b, x, LAYOUT_PLAIN) / sizeof(float) / s->channels;
    s->epsilon = self->post.alpha;
    s->accumulate = out.accumulate;
    builder_read(b, s, 0, known);
    builder_read(b, s, 1, second);
    builder_read(b, s, 2, gradient);
    builder_write(b, s, 3, out.place, layout_bytes(b, x, LAYOUT_PLAIN));
    return close_target(b, x, LAYOUT_PLAIN, &out);
}

/* ---- products: 1 = mean of 0 over the run and its baseline ---- */

static xai_status step_mean(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_mean(run_address(state, self->operands[0]), baseline_operand(self, state, 0),
                run_address(state, self->operands[1]), self->count, state->program->threads);
    return XAI_OK;
}

xai_status rescale_mean(builder *b, int value, layout form, operand *place)
{
    step *s = NULL;
    if (b->rule != ENGINE_RULE_DEEPLIFT || !b->values[value].needs_gradient)
        return XAI_OK;
    const size_t bytes = layout_bytes(b, value, form);
    const operand mean = builder_buffer(b, bytes);
    if (mean.buffer == BUFFER_NONE)
        return XAI_ERROR_MEMORY;
    const xai_status status = builder_step(b, step_mean, GRAPH_NONE, "mean", &s);
    if (status != XAI_OK)
        return status;
    s->count = bytes / sizeof(float);
    builder_read(b, s, 0, *place);
    builder_write(b, s, 1, mean, bytes);
    *place = mean;
    return XAI_OK;
}
