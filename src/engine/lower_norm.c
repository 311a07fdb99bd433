/* Group and instance normalisation on own kernels over channel blocks, with the activation behind them. */
#include "base/error.h"
#include "engine/lower.h"

/* 0 = x, 1 = scale, 2 = shift, 3 = y, 4 = factors, 5 = scratch; channels_to = groups */
static xai_status step_norm(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_norm(run_address(state, self->operands[0]), run_address(state, self->operands[1]),
                run_address(state, self->operands[2]), self->epsilon, &self->post,
                run_address(state, self->operands[3]), run_address(state, self->operands[4]),
                run_address(state, self->operands[5]), self->channels, self->channels_to,
                self->spatial, state->program->block, state->program->threads);
    return XAI_OK;
}

/* 0 = x, 1 = factors, 2 = gradient of y, 3 = of x, 4 = scratch */
static xai_status step_norm_backward(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_norm_backward(
        run_address(state, self->operands[0]), run_address(state, self->operands[1]), &self->post,
        run_address(state, self->operands[2]), run_address(state, self->operands[3]),
        run_address(state, self->operands[4]), self->channels, self->channels_to, self->spatial,
        state->program->block, self->accumulate, state->program->threads);
    return XAI_OK;
}

bool is_group_norm(const graph_node *node)
{
    return node_is(node, "", "GroupNormalization") || node_is(node, "", "InstanceNormalization");
}

xai_status norm_settings(const builder *b, const graph_node *node, size_t *groups, float *epsilon)
{
    node_call call;
    int64_t count = (int64_t)layout_channels(&b->graph->values[node->inputs[0]]);
    xai_status status = node_call_open(b->graph, node, &call, b->error);
    if (status != XAI_OK)
        return status;
    if (node_is(node, "", "GroupNormalization"))
        status = operator_attribute_int(&call.call, "num_groups", 0, &count);
    if (status == XAI_OK)
        status = operator_attribute_float(&call.call, "epsilon", 1e-5f, epsilon);
    *groups = (size_t)count;
    node_call_close(&call);
    return status;
}

/* Few channels in plain layout, such as an image, would fill little of their block. */
bool normalises_blocks(const builder *b, const graph_node *node)
{
    const graph *g = b->graph;
    if (!is_group_norm(node) || node->input_count != 3)
        return false;
    const graph_value *x = &g->values[node->inputs[0]];
    if (x->is_constant || !layout_can_block(x) || !layout_can_block(&g->values[node->outputs[0]]))
        return false;
    for (int i = 1; i < 3; i++) /* opset 18 has one a group: a rewrite makes them one a channel */
        if (node->inputs[i] == GRAPH_NONE || !g->values[node->inputs[i]].is_constant ||
            tensor_count(&g->values[node->inputs[i]].constant) != layout_channels(x))
            return false;
    return b->values[node->inputs[0]].primary == LAYOUT_BLOCKED ||
           2 * layout_channels(x) >= (size_t)b->program->block;
}

static xai_status scratch(builder *b, step *s, int index)
{
    const size_t bytes = kernel_norm_scratch(s->channels, s->spatial, b->program->block);
    const operand place = builder_buffer(b, bytes);
    if (place.buffer == BUFFER_NONE)
        return XAI_ERROR_MEMORY;
    builder_write(b, s, index, place, 0);
    return XAI_OK;
}

static xai_status backward(builder *b, const unit *self)
{
    const int x = b->graph->nodes[self->node].inputs[0];
    const bool direct = b->values[x].primary == LAYOUT_BLOCKED;
    operand source, gradient, target = OPERAND_NONE;
    activation post = self->post;
    bool accumulate = false;
    step *s = NULL;
    if (!b->values[x].needs_gradient)
        return XAI_OK;
    xai_status status = builder_input(b, x, LAYOUT_BLOCKED, &source);
    if (status == XAI_OK)
        status = gradient_read(b, self->output, &gradient);
    if (status == XAI_OK)
        status = rule_guide(b, self, &gradient, &post);
    if (status == XAI_OK && direct)
        status = gradient_write(b, x, &target, &accumulate);
    else if (status == XAI_OK) {
        target = builder_buffer(b, layout_bytes(b, x, LAYOUT_BLOCKED));
        status = target.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
    }
    if (status == XAI_OK)
        status = builder_step(b, step_norm_backward, self->node, "norm", &s);
    if (status != XAI_OK)
        return status;
    s->post = post;
    s->accumulate = accumulate;
    s->channels = layout_channels(&b->graph->values[x]);
    s->channels_to = (size_t)self->spec.rows;
    s->spatial = layout_spatial(&b->graph->values[x]);
    builder_read(b, s, 0, source);
    builder_read(b, s, 1, self->factors);
    builder_read(b, s, 2, gradient);
    builder_write(b, s, 3, target, layout_bytes(b, x, LAYOUT_BLOCKED));
    status = scratch(b, s, 4);
    return status != XAI_OK || direct ? status : gradient_add(b, x, target, LAYOUT_BLOCKED, true);
}

/* DeepLIFT and LRP look at the normalisation's own output, in plain layout. */
static bool by_own_rule(const builder *b, int value)
{
    return rule_reads_input(b, value);
}

/* Any activation: backward computes its input again. */
static void fuse(builder *b, unit *self)
{
    const int next = builder_only_consumer(b, self->output);
    activation found;
    if (next == GRAPH_NONE || b->node_done[next] || by_own_rule(b, self->output) ||
        b->graph->nodes[next].inputs[0] != self->output ||
        !activation_of_node(b->graph, &b->graph->nodes[next], &found))
        return;
    self->post = found;
    self->output = b->graph->nodes[next].outputs[0];
    b->node_done[next] = true;
}

xai_status lower_norm(builder *b, int index, bool *done)
{
    const graph *g = b->graph;
    const graph_node *node = &g->nodes[index];
    operand source, plain, destination;
    step *s = NULL;
    size_t groups;
    float epsilon;
    *done = false;
    if (!normalises_blocks(b, node) || b->values[node->outputs[0]].primary != LAYOUT_BLOCKED)
        return XAI_OK;
    *done = true;
    const int x = node->inputs[0];
    unit self = {.emit_backward =
                     by_own_rule(b, node->outputs[0]) ? lower_portable_backward : backward,
                 .node = index,
                 .output = node->outputs[0],
                 .other = GRAPH_NONE};
    xai_status status = norm_settings(b, node, &groups, &epsilon);
    fuse(b, &self);
    self.spec.rows = (int64_t)groups;
    for (int i = 1; status == XAI_OK && i < 3; i++)
        status =
            builder_parameter(b, &g->values[node->inputs[i]].constant,
                              layout_channels(&g->values[x]), i == 1 ? &self.scale : &self.shift);
    if (status == XAI_OK)
        status = builder_input(b, x, LAYOUT_BLOCKED, &source);
    /* A baseline keeps what the forward pass made. */
    if (status == XAI_OK && by_own_rule(b, self.output))
        status = builder_input(b, x, LAYOUT_PLAIN, &plain);
    if (status == XAI_OK)
        status = builder_output(b, self.output, LAYOUT_BLOCKED, &destination);
    if (status == XAI_OK)
        status = builder_step(b, step_norm, index, "norm", &s);
    if (status != XAI_OK)
        return status;
    s->post = self.post;
    s->epsilon = epsilon;
    s->channels = layout_channels(&g->values[x]);
    s->channels_to = groups;
    s->spatial = layout_spatial(&g->values[x]);
    self.factors =
        builder_buffer(b, kernel_norm_factors(s->channels, b->program->block) * sizeof(float));
    if (self.factors.buffer == BUFFER_NONE)
        return XAI_ERROR_MEMORY;
    builder_read(b, s, 0, source);
    builder_read(b, s, 1, self.scale);
    builder_read(b, s, 2, self.shift);
    builder_write(b, s, 3, destination, layout_bytes(b, self.output, LAYOUT_BLOCKED));
    builder_write(b, s, 4, self.factors, 0);
    status = scratch(b, s, 5);
    return status == XAI_OK ? builder_unit(b, &self) : status;
}
