/* Softmax and layer normalisation over the last axis, on plain rows. */
#include <string.h>

#include "base/error.h"
#include "engine/lower.h"

static xai_status step_softmax(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_softmax(run_address(state, self->operands[0]), run_address(state, self->operands[1]),
                   self->count, self->channels, state->program->threads);
    return XAI_OK;
}

static xai_status step_softmax_backward(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_softmax_backward(run_address(state, self->operands[0]),
                            run_address(state, self->operands[1]),
                            run_address(state, self->operands[2]), self->count, self->channels,
                            self->accumulate, state->program->threads);
    return XAI_OK;
}

static xai_status step_layer_norm(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_layer_norm(run_address(state, self->operands[0]), run_address(state, self->operands[2]),
                      run_address(state, self->operands[3]), self->epsilon,
                      run_address(state, self->operands[1]), self->count, self->channels,
                      state->program->threads);
    return XAI_OK;
}

static xai_status step_layer_norm_backward(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_layer_norm_backward(
        run_address(state, self->operands[0]), run_address(state, self->operands[3]), self->epsilon,
        run_address(state, self->operands[1]), run_address(state, self->operands[2]), self->count,
        self->channels, self->accumulate, state->program->threads);
    return XAI_OK;
}

static size_t width_of(const graph_value *v)
{
    return (size_t)v->shape.dims[v->shape.rank - 1];
}

/* Both: 0 = what backward reads, 1 = gradient of y, 2 = gradient of x, 3 = scale. */
static xai_status backward(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const bool softmax = node_is(node, "", "Softmax");
    const int x = node->inputs[0];
    const graph_value *v = &b->graph->values[x];
    operand known, gradient, target = OPERAND_NONE;
    bool accumulate = false;
    step *s = NULL;
    if (b->rule == ENGINE_RULE_DEEPLIFT)
        return rescale_rows(b, self);
    if (!b->values[x].needs_gradient)
        return XAI_OK;
    const bool direct = b->values[x].primary == LAYOUT_PLAIN;
    xai_status status = builder_input(b, softmax ? self->output : x, LAYOUT_PLAIN, &known);
    if (status == XAI_OK)
        status = gradient_read(b, self->output, &gradient);
    if (status == XAI_OK && direct)
        status = gradient_write(b, x, &target, &accumulate);
    else if (status == XAI_OK) {
        target = builder_buffer(b, layout_bytes(b, x, LAYOUT_PLAIN));
        status = target.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
    }
    if (status == XAI_OK)
        status = builder_step(b, softmax ? step_softmax_backward : step_layer_norm_backward,
                              self->node, softmax ? "softmax" : "layer norm", &s);
    if (status != XAI_OK)
        return status;
    s->channels = width_of(v);
    s->count = layout_bytes(b, x, LAYOUT_PLAIN) / sizeof(float) / s->channels;
    s->epsilon = self->post.alpha;
    s->accumulate = accumulate;
    builder_read(b, s, 0, known);
    builder_read(b, s, 1, gradient);
    builder_write(b, s, 2, target, layout_bytes(b, x, LAYOUT_PLAIN));
    builder_read(b, s, 3, self->scale);
    return direct ? XAI_OK : gradient_add(b, x, target, LAYOUT_PLAIN, true);
}

xai_status rows_over_last_axis(builder *b, const graph_node *node, bool *yes, float *epsilon)
{
    node_call call;
    int64_t axis;
    const int rank = b->graph->values[node->inputs[0]].shape.rank;
    xai_status status = node_call_open(b->graph, node, &call, b->error);
    if (status != XAI_OK)
        return status;
    const bool flattens = node_is(node, "", "Softmax") && call.call.opset < 13;
    status = operator_attribute_int(&call.call, "axis", flattens ? 1 : -1, &axis);
    if (status == XAI_OK)
        status = operator_attribute_float(&call.call, "epsilon", 1e-5f, epsilon);
    *yes = axis == -1 || axis == rank - 1;
    node_call_close(&call);
    return status;
}

xai_status lower_rows(builder *b, int index, bool *done)
{
    const graph *g = b->graph;
    const graph_node *node = &g->nodes[index];
    const bool softmax = node_is(node, "", "Softmax"),
               norm = node_is(node, "", "LayerNormalization");
    operand source, destination;
    step *s = NULL;
    bool last = false;
    float epsilon = 0;
    *done = false;
    if (b->reference || !(softmax || norm) || g->values[node->outputs[0]].dtype != DTYPE_FLOAT ||
        g->values[node->inputs[0]].shape.rank < 1 || g->values[node->inputs[0]].is_constant ||
        layout_bytes(b, node->inputs[0], LAYOUT_PLAIN) == 0)
        return XAI_OK;
    for (int i = 1; i < node->output_count; i++)
        if (node->outputs[i] != GRAPH_NONE)
            return XAI_OK;
    xai_status status = rows_over_last_axis(b, node, &last, &epsilon);
    if (status != XAI_OK || !last)
        return status;
    unit self = {.emit_backward = backward,
                 .node = index,
                 .output = node->outputs[0],
                 .other = GRAPH_NONE,
                 .scale = OPERAND_NONE,
                 .shift = OPERAND_NONE};
    const graph_value *x = &g->values[node->inputs[0]];
    self.post.alpha = epsilon;
    for (int i = 1; norm && i < node->input_count && i < 3; i++) {
        const int id = node->inputs[i];
        if (id == GRAPH_NONE)
            continue;
        if (!g->values[id].is_constant || tensor_count(&g->values[id].constant) != width_of(x))
            return XAI_OK;
        status = builder_parameter(b, &g->values[id].constant, width_of(x),
                                   i == 1 ? &self.scale : &self.shift);
        if (status != XAI_OK)
            return status;
    }
    *done = true;
    status = builder_input(b, node->inputs[0], LAYOUT_PLAIN, &source);
    if (status == XAI_OK)
        status = builder_output(b, self.output, LAYOUT_PLAIN, &destination);
    if (status == XAI_OK)
        status = builder_step(b, softmax ? step_softmax : step_layer_norm, index,
                              softmax ? "softmax" : "layer norm", &s);
    if (status != XAI_OK)
        return status;
    s->channels = width_of(x);
    s->count = layout_bytes(b, node->inputs[0], LAYOUT_PLAIN) / sizeof(float) / s->channels;
    s->epsilon = epsilon;
    builder_read(b, s, 0, source);
    builder_read(b, s, 2, self.scale);
    builder_read(b, s, 3, self.shift);
    builder_write(b, s, 1, destination, layout_bytes(b, self.output, LAYOUT_PLAIN));
    status = builder_finish(b, self.output, LAYOUT_PLAIN);
    return status == XAI_OK ? builder_unit(b, &self) : status;
}
