/* FakeQuantize with one scale, and PRelu with a slope a channel: functions of single elements that stay in the layout of their
 * input, so that a quantised network or one with PRelu runs from convolution to convolution in channel blocks. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "engine/lower.h"

typedef struct rounding {
    float scale, low, high; /* low and high without the zero point */
    bool is_score, zero_inside;
} rounding;

/* Constants of a FakeQuantize with one scale; false for any other. */
static bool read_rounding(const builder *b, const graph_node *node, rounding *out)
{
    const graph *g = b->graph;
    int64_t type = 0, is_score = 0;
    if (!node_is(node, "xai", "FakeQuantize"))
        return false;
    const graph_value *scale = &g->values[node->inputs[1]];
    const graph_value *zero =
        node->input_count > 2 && node->inputs[2] != GRAPH_NONE ? &g->values[node->inputs[2]] : NULL;
    if (!scale->is_constant || tensor_count(&scale->constant) != 1 ||
        (zero && (!zero->is_constant || tensor_count(&zero->constant) != 1)))
        return false;
    for (size_t i = 0; i < node->attribute_count; i++) {
        if (strcmp(node->attributes[i].name, "quantised_type") == 0)
            type = node->attributes[i].i;
        if (strcmp(node->attributes[i].name, "is_score") == 0)
            is_score = node->attributes[i].i;
    }
    const bool bytes = type == DTYPE_INT8 || type == DTYPE_UINT8,
               with_sign = type == DTYPE_INT8 || type == DTYPE_INT16;
    if (!bytes && type != DTYPE_INT16 && type != DTYPE_UINT16)
        return false;
    const double values = bytes ? 256 : 65536, low = with_sign ? -values / 2 : 0,
                 high = low + values - 1, at = zero ? tensor_get(&zero->constant, 0) : 0;
    *out = (rounding){.scale = (float)tensor_get(&scale->constant, 0),
                      .low = (float)(low - at),
                      .high = (float)(high - at),
                      .is_score = is_score != 0,
                      .zero_inside = at > low && at < high};
    return isfinite(out->scale) && out->scale > 0;
}

/* A slope for every channel, (C, 1, ...) against (1, C, ...). */
static bool has_slopes(const builder *b, const graph_node *node)
{
    const graph *g = b->graph;
    if (!node_is(node, "", "PRelu"))
        return false;
    const graph_value *x = &g->values[node->inputs[0]], *slope = &g->values[node->inputs[1]];
    const int shift = x->shape.rank - slope->shape.rank;
    if (!slope->is_constant || x->shape.rank < 2 || x->shape.dims[0] != 1 || shift < 0 || shift > 1)
        return false;
    for (int i = 0; i < slope->shape.rank; i++)
        if (slope->shape.dims[i] != (i + shift == 1 ? x->shape.dims[1] : 1))
            return false;
    return true;
}

bool keeps_channel_layout(const builder *b, const graph_node *node)
{
    rounding ignored;
    /* Rules with formulas of their own look at plain values. */
    return b->rule != ENGINE_RULE_DEEPLIFT && b->rule != ENGINE_RULE_LRP && !b->reference &&
           b->graph->values[node->outputs[0]].dtype == DTYPE_FLOAT &&
           !b->graph->values[node->inputs[0]].is_constant &&
           (has_slopes(b, node) || read_rounding(b, node, &ignored));
}

bool channel_bound(const builder *b, const graph_node *node, double *result, double *slope)
{
    rounding how;
    *result = *slope = 0;
    if (read_rounding(b, node, &how)) {
        *result = (double)how.scale * fmax(fabs((double)how.low), fabs((double)how.high));
        return true;
    }
    if (!has_slopes(b, node))
        return false;
    const tensor *slopes = &b->graph->values[node->inputs[1]].constant;
    *slope = 1;
    for (size_t i = 0; i < tensor_count(slopes); i++)
        *slope = fmax(*slope, fabs(tensor_get(slopes, i)));
    return isfinite(*slope);
}

/* 0 = x, 1 = y; the scale in epsilon, the bounds in post. */
static xai_status step_quantise(const step *self, run *state, xai_error **error)
{
    const bool numbers = kernel_quantise(
        run_address(state, self->operands[0]), run_address(state, self->operands[1]), self->count,
        self->epsilon, self->post.alpha, self->post.beta, state->program->threads);
    return numbers
               ? XAI_OK
               : error_set(error, XAI_ERROR_NUMERIC, state->program->graph->nodes[self->node].place,
                           "an element is not a number");
}

/* 0 = x, 1 = gy, 2 = gx */
static xai_status step_quantise_backward(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_quantise_backward(
        run_address(state, self->operands[0]), run_address(state, self->operands[1]),
        run_address(state, self->operands[2]), self->count, self->epsilon, self->post.alpha,
        self->post.beta, self->accumulate, state->program->threads);
    return XAI_OK;
}

/* 0 = x, 1 = y, 3 = slopes; channels_to = block */
static xai_status step_prelu(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_prelu(run_address(state, self->operands[0]), run_address(state, self->operands[3]),
                 run_address(state, self->operands[1]), self->channels, self->spatial,
                 (int)self->channels_to, state->program->threads);
    return XAI_OK;
}

/* 0 = x, 1 = gy, 2 = gx, 3 = slopes */
static xai_status step_prelu_backward(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_prelu_backward(run_address(state, self->operands[0]),
                          run_address(state, self->operands[3]),
                          run_address(state, self->operands[1]),
                          run_address(state, self->operands[2]), self->channels, self->spatial,
                          (int)self->channels_to, self->accumulate, state->program->threads);
    return XAI_OK;
}

static void set_geometry(const builder *b, const unit *self, step *s, layout form)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const graph_value *x = &b->graph->values[node->inputs[0]];
    rounding how;
    s->count = layout_bytes(b, node->inputs[0], form) / sizeof(float);
    if (read_rounding(b, node, &how)) {
        s->epsilon = how.scale;
        s->post.alpha = how.low;
        s->post.beta = how.high;
        return;
    }
    s->channels = layout_channels(x);
    s->spatial = layout_spatial(x);
    s->channels_to = form == LAYOUT_BLOCKED ? (size_t)b->program->block : 1;
}

static xai_status backward(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const int x = node->inputs[0];
    const layout form = b->values[self->output].primary;
    rounding how = {0};
    operand source, gradient, target;
    bool accumulate = false;
    step *s = NULL;
    const bool rounds = read_rounding(b, node, &how);
    if (node->input_count > 1 && b->values[node->inputs[1]].needs_gradient)
        return lower_portable_backward(b, self);
    xai_status status = gradient_read(b, self->output, &gradient);
    if (status == XAI_OK && rounds && how.is_score && how.zero_inside)
        return gradient_add(b, x, gradient, form, false); /* saturated scores are explained, too */
    const bool direct = b->values[x].primary == form;
    if (status == XAI_OK)
        status = builder_input(b, x, form, &source);
    if (status == XAI_OK && direct)
        status = gradient_write(b, x, &target, &accumulate);
    else if (status == XAI_OK) {
        target = builder_buffer(b, layout_bytes(b, x, form));
        status = target.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
    }
    if (status == XAI_OK)
        status = builder_step(b, rounds ? step_quantise_backward : step_prelu_backward, self->node,
                              rounds ? "quantise" : "prelu", &s);
    if (status != XAI_OK)
        return status;
    set_geometry(b, self, s, form);
    s->accumulate = accumulate;
    builder_read(b, s, 0, source);
    builder_read(b, s, 1, gradient);
    builder_write(b, s, 2, target, s->count * sizeof(float));
    builder_read(b, s, 3, self->scale);
    return direct ? XAI_OK : gradient_add(b, x, target, form, true);
}

xai_status lower_channel(builder *b, int index, bool *done)
{
    const graph_node *node = &b->graph->nodes[index];
    operand source, destination;
    step *s = NULL;
    *done = false;
    if (node->output_count != 1 || node->input_count < 2 || !keeps_channel_layout(b, node))
        return XAI_OK;
    *done = true;
    unit self = {.emit_backward = backward,
                 .node = index,
                 .output = node->outputs[0],
                 .other = GRAPH_NONE,
                 .scale = OPERAND_NONE};
    const layout form = b->values[self.output].primary;
    const bool prelu = has_slopes(b, node);
    xai_status status = XAI_OK;
    if (prelu) {
        const size_t block = form == LAYOUT_BLOCKED ? (size_t)b->program->block : 1,
                     channels = layout_channels(&b->graph->values[node->inputs[0]]);
        status = builder_parameter(b, &b->graph->values[node->inputs[1]].constant,
                                   (channels + block - 1) / block * block, &self.scale);
    }
    if (status == XAI_OK)
        status = builder_input(b, node->inputs[0], form, &source);
    if (status == XAI_OK)
        status = builder_output(b, self.output, form, &destination);
    if (status == XAI_OK)
        status = builder_step(b, prelu ? step_prelu : step_quantise, index,
                              prelu ? "prelu" : "quantise", &s);
    if (status != XAI_OK)
        return status;
    set_geometry(b, &self, s, form);
    builder_read(b, s, 0, source);
    builder_read(b, s, 3, self.scale);
    builder_write(b, s, 1, destination, s->count * sizeof(float));
    status = builder_finish(b, self.output, form);
    return status == XAI_OK ? builder_unit(b, &self) : status;
}
