/* Which values live in channel blocks, and which are written straight into the buffer of a
 * concatenation. */
#include "engine/plan.h"

#include <string.h>

bool layout_can_block(const graph_value *value)
{
    return value->dtype == DTYPE_FLOAT && value->shape.rank >= 3 && value->shape.rank <= 5 &&
           value->shape.dims[0] == 1 && value->shape.dims[1] > 0 && layout_spatial(value) > 0;
}

size_t layout_channels(const graph_value *value)
{
    return (size_t)value->shape.dims[1];
}

size_t layout_spatial(const graph_value *value)
{
    size_t spatial = 1;
    for (int i = 2; i < value->shape.rank; i++)
        spatial *= (size_t)value->shape.dims[i];
    return spatial;
}

static size_t channel_blocks(const builder *b, const graph_value *value)
{
    const size_t block = (size_t)b->program->block;
    return (layout_channels(value) + block - 1) / block;
}

size_t layout_bytes(const builder *b, int value, layout form)
{
    const graph_value *v = &b->graph->values[value];
    if (form == LAYOUT_BLOCKED)
        return channel_blocks(b, v) * layout_spatial(v) * (size_t)b->program->block * sizeof(float);
    size_t count = 0;
    shape_count(&v->shape, &count);
    return count * dtype_size(v->dtype);
}

static layout layout_of_input(const builder *b, const graph_node *node, int i)
{
    return node->inputs[i] == GRAPH_NONE ? LAYOUT_PLAIN : b->values[node->inputs[i]].primary;
}

static bool concat_over_channels(const graph *g, const graph_node *node)
{
    if (!node_is(node, "", "Concat") || !layout_can_block(&g->values[node->outputs[0]]))
        return false;
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, "axis") == 0)
            return node->attributes[i].i == 1 ||
                   node->attributes[i].i == 1 - g->values[node->outputs[0]].shape.rank;
    return false;
}

static layout decide(const builder *b, const graph_node *node)
{
    const graph *g = b->graph;
    activation f;
    if (node->output_count < 1 || node->outputs[0] == GRAPH_NONE ||
        !layout_can_block(&g->values[node->outputs[0]]))
        return LAYOUT_PLAIN;
    if (node_is(node, "", "Conv") || node_is(node, "", "ConvTranspose"))
        return primitive_available() && g->values[node->inputs[1]].is_constant &&
                       layout_can_block(&g->values[node->inputs[0]])
                   ? LAYOUT_BLOCKED
                   : LAYOUT_PLAIN;
    if (node_is(node, "", "MaxPool") || node_is(node, "", "AveragePool") ||
        node_is(node, "", "GlobalAveragePool") || node_is(node, "xai", "ScaleShift") ||
        activation_of_node(g, node, &f) || keeps_channel_layout(b, node))
        return layout_of_input(b, node, 0);
    if (node_is(node, "", "Add") || node_is(node, "", "Mul")) {
        const shape *y = &g->values[node->outputs[0]].shape;
        for (int i = 0; i < 2; i++)
            if (layout_of_input(b, node, i) == LAYOUT_BLOCKED &&
                shape_equal(&g->values[node->inputs[i]].shape, y))
                return LAYOUT_BLOCKED;
        return LAYOUT_PLAIN;
    }
    if (normalises_blocks(b, node))
        return LAYOUT_BLOCKED;
    if (channels_last_to_blocks(b, node) || pads_blocks(b, node))
        return LAYOUT_BLOCKED;
    if (concat_over_channels(g, node))
        for (int i = 0; i < node->input_count; i++)
            if (layout_of_input(b, node, i) == LAYOUT_BLOCKED)
                return LAYOUT_BLOCKED;
    return LAYOUT_PLAIN;
}

/* Walks concatenations from the last to the first, so that DenseNet's growing lists become
 * prefixes of one buffer: a piece with a home keeps it, and a concatenation whose pieces already
 * lie side by side in one buffer is a slice of that buffer. */
static void find_homes(builder *b)
{
    const graph *g = b->graph;
    const size_t block = (size_t)b->program->block;
    for (size_t n = g->node_count; n-- > 0;) {
        const graph_node *node = &g->nodes[n];
        if (node->removed || !concat_over_channels(g, node) ||
            b->values[node->outputs[0]].primary != LAYOUT_BLOCKED)
            continue;
        const int y = node->outputs[0];
        if (b->values[y].home == GRAPH_NONE) {
            const value_state *first = &b->values[node->inputs[0]];
            size_t next = first->home_block;
            bool side_by_side = first->home != GRAPH_NONE;
            for (int i = 0; side_by_side && i < node->input_count; i++) {
                const value_state *piece = &b->values[node->inputs[i]];
                const size_t channels = layout_channels(&g->values[node->inputs[i]]);
                side_by_side = piece->home == first->home && piece->home_block == next &&
                               (channels % block == 0 || i == node->input_count - 1);
                next += (channels + block - 1) / block;
            }
            b->values[y].home = side_by_side ? first->home : y;
            b->values[y].home_block = side_by_side ? first->home_block : 0;
        }
        size_t channel = 0;
        for (int i = 0; i < node->input_count; i++) {
            const int piece = node->inputs[i];
            value_state *state = &b->values[piece];
            const size_t channels = layout_channels(&g->values[piece]);
            /* A partly filled block only at the end: its padded lanes would be another piece's
             * channels. */
            const bool whole_blocks =
                channel % block == 0 && (channels % block == 0 || i == node->input_count - 1);
            if (state->home == GRAPH_NONE && state->primary == LAYOUT_BLOCKED && whole_blocks) {
                state->home = b->values[y].home;
                state->home_block = b->values[y].home_block + channel / block;
            }
            channel += channels;
        }
    }
}

xai_status layout_decide(builder *b)
{
    const graph *g = b->graph;
    for (size_t v = 0; v < g->value_count; v++)
        b->values[v].home = GRAPH_NONE;
    if (b->reference)
        return XAI_OK;
    for (size_t n = 0; n < g->node_count; n++) {
        const graph_node *node = &g->nodes[n];
        if (!node->removed && node->output_count > 0 && node->outputs[0] != GRAPH_NONE)
            b->values[node->outputs[0]].primary = decide(b, node);
    }
    find_homes(b);
    return XAI_OK;
}
