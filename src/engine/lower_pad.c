/* Pads by zeros and crops of the spatial axes, in channel blocks: whole positions are copied, so that pools and convolutions before
 * and behind stay in blocks. */
#include <string.h>

#include "engine/kernels_private.h"
#include "engine/lower.h"

static bool spatial_only(const shape *x, const shape *y, const int64_t begin[SHAPE_MAX_RANK])
{
    return x->dims[0] == y->dims[0] && x->dims[1] == y->dims[1] && begin[0] == 0 && begin[1] == 0;
}

/* y[i] = x[i - begin] inside x, else 0, along the spatial axes of (1, C, spatial...). False when the node is not so, or when that
 * is not known: then it is lowered another way. */
static bool read_shift(const graph *g, const graph_node *node, int64_t begin[SHAPE_MAX_RANK])
{
    const bool pads = node_is(node, "", "Pad");
    const graph_value *x = &g->values[node->inputs[0]], *y = &g->values[node->outputs[0]];
    int64_t steps[SHAPE_MAX_RANK];
    node_call call;
    bool zeros = true;
    if (!pads && !node_is(node, "", "Slice"))
        return false;
    if (!layout_can_block(x) || !layout_can_block(y) ||
        node_call_open(g, node, &call, NULL) != XAI_OK)
        return false;
    const xai_status status = pads ? operator_pad_begins(&call.call, begin, &zeros)
                                   : operator_slice_steps(&call.call, begin, steps);
    node_call_close(&call);
    if (status != XAI_OK || !zeros)
        return false;
    for (int i = 0; !pads && i < x->shape.rank; i++) {
        if (steps[i] != 1 && y->shape.dims[i] > 1)
            return false;
        begin[i] = -begin[i];
    }
    return spatial_only(&x->shape, &y->shape, begin);
}

bool pads_blocks(const builder *b, const graph_node *node)
{
    int64_t begin[SHAPE_MAX_RANK];
    return (node_is(node, "", "Pad") || node_is(node, "", "Slice")) &&
           b->values[node->inputs[0]].primary == LAYOUT_BLOCKED &&
           read_shift(b->graph, node, begin);
}

static xai_status step_pad(const step *self, run *state, xai_error **error)
{
    const size_t block = (size_t)state->program->block;
    (void)error;
    kernel_pad(run_address(state, self->operands[0]), run_address(state, self->operands[1]),
               kernel_pieces(self->channels, block), self->geometry.input, self->geometry.output,
               self->geometry.pad_begin, block, state->program->threads);
    return XAI_OK;
}

/* Sizes as depth, height, width. */
static void sizes(const shape *of, int64_t out[3])
{
    for (int i = 0; i < 3; i++)
        out[i] = of->rank - 3 + i < 2 ? 1 : of->dims[of->rank - 3 + i];
}

static xai_status emit(builder *b, const unit *self, int from, int to, int sign, operand source,
                       operand target)
{
    const shape *x = &b->graph->values[from].shape;
    step *s = NULL;
    const xai_status status = builder_step(b, step_pad, self->node, "pad", &s);
    if (status != XAI_OK)
        return status;
    s->channels = layout_channels(&b->graph->values[from]);
    sizes(x, s->geometry.input);
    sizes(&b->graph->values[to].shape, s->geometry.output);
    for (int i = 0; i < 3; i++)
        s->geometry.pad_begin[i] = sign * self->geometry.pad_begin[i];
    builder_read(b, s, 0, source);
    builder_write(b, s, 1, target, layout_bytes(b, to, LAYOUT_BLOCKED));
    return XAI_OK;
}

static xai_status backward(builder *b, const unit *self)
{
    const int x = b->graph->nodes[self->node].inputs[0];
    operand gradient, target;
    bool accumulate = false;
    if (!b->values[x].needs_gradient)
        return XAI_OK;
    const bool first = !gradient_exists(b, x);
    xai_status status = gradient_read(b, self->output, &gradient);
    if (status != XAI_OK)
        return status;
    if (first) {
        status = gradient_write(b, x, &target, &accumulate);
        if (status == XAI_OK && !accumulate)
            return emit(b, self, self->output, x, -1, gradient, target);
    }
    if (status != XAI_OK)
        return status;
    target = builder_buffer(b, layout_bytes(b, x, LAYOUT_BLOCKED));
    if (target.buffer == BUFFER_NONE)
        return XAI_ERROR_MEMORY;
    status = emit(b, self, self->output, x, -1, gradient, target);
    return status == XAI_OK ? gradient_add(b, x, target, LAYOUT_BLOCKED, true) : status;
}

xai_status lower_pad(builder *b, int index, bool *done)
{
    const graph_node *node = &b->graph->nodes[index];
    int64_t begin[SHAPE_MAX_RANK];
    operand source, destination;
    *done = false;
    if ((!node_is(node, "", "Pad") && !node_is(node, "", "Slice")) ||
        b->values[node->inputs[0]].primary != LAYOUT_BLOCKED ||
        b->values[node->outputs[0]].primary != LAYOUT_BLOCKED || !read_shift(b->graph, node, begin))
        return XAI_OK;
    *done = true;
    unit self = {
        .emit_backward = backward, .node = index, .output = node->outputs[0], .other = GRAPH_NONE};
    const int rank = b->graph->values[self.output].shape.rank;
    for (int i = 0; i < 3; i++)
        self.geometry.pad_begin[i] = rank - 3 + i < 2 ? 0 : begin[rank - 3 + i];
    xai_status status = builder_input(b, node->inputs[0], LAYOUT_BLOCKED, &source);
    if (status == XAI_OK)
        status = builder_output(b, self.output, LAYOUT_BLOCKED, &destination);
    if (status == XAI_OK)
        status = emit(b, &self, node->inputs[0], self.output, 1, source, destination);
    return status == XAI_OK ? builder_unit(b, &self) : status;
}
