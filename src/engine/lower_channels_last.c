/* Transpositions between channels first, which lies in blocks, and channels last, which products and normalisations over
 * channels want: one pass instead of a reorder and a move. */
#include <string.h>

#include "engine/lower.h"

/* (N, C, spatial...) -> (N, spatial..., C) when `forward`, else back. */
static bool moves_channels(const graph *g, const graph_node *node, bool forward)
{
    const int rank = g->values[node->inputs[0]].shape.rank;
    const onnx_attribute *perm = NULL;
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, "perm") == 0)
            perm = &node->attributes[i];
    if (!perm || rank < 3 || perm->count != (size_t)rank || perm->ints[0] != 0)
        return false;
    for (int i = 1; i < rank; i++) {
        const int64_t expected = forward ? (i == rank - 1 ? 1 : i + 1) : i == 1 ? rank - 1 : i - 1;
        if (perm->ints[i] != expected)
            return false;
    }
    return true;
}

static bool whole_blocks(const builder *b, const graph_value *value)
{
    return layout_can_block(value) && layout_channels(value) % (size_t)b->program->block == 0;
}

/* What works on blocks whatever its other inputs are. */
static bool reads_blocks(const graph *g, const graph_node *node)
{
    static const char *const names[] = {"Conv", "ConvTranspose", "MaxPool", "AveragePool",
                                        "GlobalAveragePool"};
    activation f;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (node_is(node, "", names[i]))
            return true;
    return node_is(node, "xai", "ScaleShift") || activation_of_node(g, node, &f);
}

bool channels_last_to_blocks(const builder *b, const graph_node *node)
{
    const graph *g = b->graph;
    if (!node_is(node, "", "Transpose") || !primitive_available() ||
        !moves_channels(g, node, false) || !whole_blocks(b, &g->values[node->outputs[0]]))
        return false;
    int found[4];
    const int count = graph_consumers(g, node->outputs[0], found, 4);
    bool wanted = count > 0 && count <= 4;
    for (int i = 0; wanted && i < count; i++) {
        const graph_node *reader = &g->nodes[found[i]];
        wanted = reads_blocks(g, reader);
        /* A residual Add whose other operand is in blocks already. */
        if (!wanted && node_is(reader, "", "Add"))
            for (int k = 0; k < 2; k++)
                wanted = wanted || b->values[reader->inputs[k]].primary == LAYOUT_BLOCKED;
    }
    return wanted;
}

static xai_status step_to_last(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_to_channels_last(run_address(state, self->operands[0]),
                            run_address(state, self->operands[1]), self->channels, self->spatial,
                            state->program->block, self->accumulate, state->program->threads);
    return XAI_OK;
}

static xai_status step_from_last(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_from_channels_last(run_address(state, self->operands[0]),
                              run_address(state, self->operands[1]), self->channels, self->spatial,
                              state->program->block, self->accumulate, state->program->threads);
    return XAI_OK;
}

/* `blocked`: the value whose axis 1 holds the channels. */
static xai_status emit(builder *b, int node, int blocked, bool to_last, operand from, operand to,
                       bool accumulate)
{
    step *s = NULL;
    const xai_status status =
        builder_step(b, to_last ? step_to_last : step_from_last, node, "channels last", &s);
    if (status != XAI_OK)
        return status;
    s->channels = layout_channels(&b->graph->values[blocked]);
    s->spatial = layout_spatial(&b->graph->values[blocked]);
    s->accumulate = accumulate;
    builder_read(b, s, 0, from);
    builder_write(b, s, 1, to, layout_bytes(b, blocked, LAYOUT_BLOCKED));
    return XAI_OK;
}

static xai_status backward(builder *b, const unit *self)
{
    const int x = b->graph->nodes[self->node].inputs[0];
    const bool to_last = self->spec.rows != 0;
    operand gradient, target;
    bool accumulate;
    if (!b->values[x].needs_gradient)
        return XAI_OK;
    xai_status status = gradient_read(b, self->output, &gradient);
    if (status == XAI_OK)
        status = gradient_write(b, x, &target, &accumulate);
    return status == XAI_OK ? emit(b, self->node, to_last ? x : self->output, !to_last, gradient,
                                   target, accumulate)
                            : status;
}

xai_status lower_channels_last(builder *b, int index, bool *done)
{
    const graph *g = b->graph;
    const graph_node *node = &g->nodes[index];
    operand source, destination;
    *done = false;
    if (!node_is(node, "", "Transpose") || g->values[node->inputs[0]].is_constant)
        return XAI_OK;
    const int x = node->inputs[0], y = node->outputs[0];
    const layout from = b->values[x].primary, to = b->values[y].primary;
    const bool to_last = from == LAYOUT_BLOCKED && to == LAYOUT_PLAIN &&
                         moves_channels(g, node, true) && whole_blocks(b, &g->values[x]);
    if (!to_last && !(from == LAYOUT_PLAIN && to == LAYOUT_BLOCKED))
        return XAI_OK;
    *done = true;
    unit self = {.emit_backward = backward, .node = index, .output = y, .other = GRAPH_NONE};
    self.spec.rows = to_last;
    xai_status status = builder_input(b, x, from, &source);
    if (status == XAI_OK)
        status = builder_output(b, y, to, &destination);
    if (status == XAI_OK)
        status = emit(b, index, to_last ? x : y, to_last, source, destination, false);
    return status == XAI_OK ? builder_unit(b, &self) : status;
}
