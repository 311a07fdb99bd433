/* Max, average and global average pools on own kernels over channel blocks. */
#include "engine/lower.h"

#include "base/error.h"

static xai_status step_max_pool(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_max_pool(&self->geometry, run_address(state, self->operands[0]),
                    run_address(state, self->operands[1]), run_address(state, self->operands[2]),
                    self->channels, state->program->block, state->program->threads);
    return XAI_OK;
}

static xai_status step_max_pool_backward(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_max_pool_backward(&self->geometry, run_address(state, self->operands[0]),
                             run_address(state, self->operands[1]),
                             run_address(state, self->operands[2]), self->channels,
                             state->program->block, self->accumulate, state->program->threads);
    return XAI_OK;
}

static xai_status step_average_pool(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_average_pool(&self->geometry, self->include_pad, run_address(state, self->operands[0]),
                        run_address(state, self->operands[1]), self->channels,
                        state->program->block, state->program->threads);
    return XAI_OK;
}

static xai_status step_average_pool_backward(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_average_pool_backward(&self->geometry, self->include_pad,
                                 run_address(state, self->operands[0]),
                                 run_address(state, self->operands[1]), self->channels,
                                 state->program->block, self->accumulate, state->program->threads);
    return XAI_OK;
}

static xai_status step_global_average(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_global_average(run_address(state, self->operands[0]),
                          run_address(state, self->operands[1]), self->channels, self->spatial,
                          state->program->block, state->program->threads);
    return XAI_OK;
}

static xai_status step_global_average_backward(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_global_average_backward(run_address(state, self->operands[0]),
                                   run_address(state, self->operands[1]), self->channels,
                                   self->spatial, state->program->block, self->accumulate,
                                   state->program->threads);
    return XAI_OK;
}

/* How a pool's unit remembers what its backward step needs. */
static xai_status backward(builder *b, const unit *self, step_function execute,
                           const char *implementation, operand first, bool include_pad)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const int x = node->inputs[0];
    operand gradient, target;
    bool accumulate;
    step *s = NULL;
    int next = 0;
    xai_status status = gradient_read(b, self->output, &gradient);
    if (status == XAI_OK)
        status = gradient_write(b, x, &target, &accumulate);
    if (status == XAI_OK)
        status = builder_step(b, execute, self->node, implementation, &s);
    if (status != XAI_OK)
        return status;
    s->geometry = self->geometry;
    s->channels = layout_channels(&b->graph->values[x]);
    s->spatial = layout_spatial(&b->graph->values[x]);
    s->accumulate = accumulate;
    s->include_pad = include_pad;
    if (first.buffer != BUFFER_NONE)
        builder_read(b, s, next++, first);
    builder_read(b, s, next++, gradient);
    builder_write(b, s, next, target, layout_bytes(b, x, LAYOUT_BLOCKED));
    return XAI_OK;
}

static xai_status max_backward(builder *b, const unit *self)
{
    if (b->rule == ENGINE_RULE_DEEPLIFT)
        return rescale_max_pool(b, self);
    return backward(b, self, step_max_pool_backward, "max pool", self->argmax, false);
}

static xai_status average_backward(builder *b, const unit *self)
{
    return backward(b, self, step_average_pool_backward, "average pool", OPERAND_NONE,
                    self->include_pad);
}

static xai_status global_backward(builder *b, const unit *self)
{
    return backward(b, self, step_global_average_backward, "global average", OPERAND_NONE, false);
}

static xai_status attribute_int(builder *b, const graph_node *node, const char *name, int64_t *out)
{
    node_call call;
    xai_status status = node_call_open(b->graph, node, &call, b->error);
    if (status != XAI_OK)
        return status;
    status = operator_attribute_int(&call.call, name, 0, out);
    node_call_close(&call);
    return status;
}

xai_status lower_pool(builder *b, int index, bool *done)
{
    const graph_node *node = &b->graph->nodes[index];
    const bool maximum = node_is(node, "", "MaxPool"), average = node_is(node, "", "AveragePool"),
               global = node_is(node, "", "GlobalAveragePool");
    operand source, destination;
    step *s = NULL;
    int64_t include_pad = 0;
    xai_status status = XAI_OK;
    *done = false;
    if (!(maximum || average || global) || b->values[node->inputs[0]].primary != LAYOUT_BLOCKED ||
        b->values[node->outputs[0]].primary != LAYOUT_BLOCKED ||
        (node->output_count > 1 && node->outputs[1] != GRAPH_NONE))
        return XAI_OK;
    *done = true;
    unit self = {
        .node = index, .output = node->outputs[0], .other = GRAPH_NONE, .argmax = OPERAND_NONE};
    if (!global)
        status = lower_window(b, node, &self.geometry);
    if (status == XAI_OK && average)
        status = attribute_int(b, node, "count_include_pad", &include_pad);
    if (status == XAI_OK)
        status = builder_input(b, node->inputs[0], LAYOUT_BLOCKED, &source);
    if (status == XAI_OK)
        status = builder_output(b, self.output, LAYOUT_BLOCKED, &destination);
    if (status == XAI_OK)
        status = builder_step(b,
                              maximum   ? step_max_pool
                              : average ? step_average_pool
                                        : step_global_average,
                              index,
                              maximum   ? "max pool"
                              : average ? "average pool"
                                        : "global average",
                              &s);
    if (status != XAI_OK)
        return status;
    s->geometry = self.geometry;
    s->channels = layout_channels(&b->graph->values[node->inputs[0]]);
    s->spatial = layout_spatial(&b->graph->values[node->inputs[0]]);
    s->include_pad = self.include_pad = include_pad != 0;
    builder_read(b, s, 0, source);
    builder_write(b, s, 1, destination, layout_bytes(b, self.output, LAYOUT_BLOCKED));
    if (maximum && b->values[self.output].needs_gradient) {
        self.argmax = builder_buffer(b, layout_bytes(b, self.output, LAYOUT_BLOCKED));
        if (self.argmax.buffer == BUFFER_NONE)
            return XAI_ERROR_MEMORY;
        builder_write(b, s, 2, self.argmax, 0);
    }
    self.emit_backward = maximum ? max_backward : average ? average_backward : global_backward;
    return builder_unit(b, &self);
}
