/* Where the channels of a value lie. ONNX does not say; the operators around a value do:
 * convolutions have them on axis 1, layer normalisation, products with a constant matrix and
 * recurrent layers on the last axis, everything else hands them on. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "graph/layers.h"

/* ABSENT: known to have no channel axis, such as the grey image (N, H, W) that becomes (N, 1, H, W). */
enum { UNKNOWN = -1, ABSENT = -2, MAX_PREFIX_TOKENS = 16 };

static bool is(const graph_node *node, const char *op)
{
    return !*node->definition->domain && strcmp(node->definition->name, op) == 0;
}

static bool is_any(const graph_node *node, const char *const *ops)
{
    for (; *ops; ops++)
        if (is(node, *ops))
            return true;
    return false;
}

/* Operators whose channels are axis 1 by definition. */
static bool has_channels_first(const graph_node *node)
{
    static const char *const ops[] = {"Conv",
                                      "ConvTranspose",
                                      "BatchNormalization",
                                      "InstanceNormalization",
                                      "GroupNormalization",
                                      "MaxPool",
                                      "AveragePool",
                                      "LpPool",
                                      "GlobalAveragePool",
                                      "GlobalMaxPool",
                                      "GlobalLpPool",
                                      "LRN",
                                      "PRelu",
                                      "DepthToSpace",
                                      "SpaceToDepth",
                                      NULL};
    return is_any(node, ops) || strcmp(node->definition->name, "ScaleShift") == 0;
}

/* Operators that may change the shape but leave every axis where it is. */
static bool keeps_axes(const graph_node *node)
{
    static const char *const ops[] = {"Concat", "Split", "Slice",  "Pad",   "Resize", "Upsample",
                                      "Expand", "Tile",  "Gather", "Where", NULL};
    return is_any(node, ops);
}

static bool is_recurrent(const graph_node *node)
{
    static const char *const ops[] = {"LSTM", "GRU", "RNN", NULL};
    return is_any(node, ops);
}

/* The axis that a Gather of one index takes away; -1 for other nodes. */
static int taken_axis(const graph *self, const graph_node *node)
{
    if (!is(node, "Gather") || node->input_count < 2 || node->inputs[1] == GRAPH_NONE ||
        self->values[node->inputs[1]].shape.rank != 0)
        return -1;
    int64_t axis = 0;
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, "axis") == 0)
            axis = node->attributes[i].i;
    const int rank = self->values[node->inputs[0]].shape.rank;
    axis = axis < 0 ? axis + rank : axis;
    return axis >= 0 && axis < rank ? (int)axis : -1;
}

static bool is_dense(const graph *self, const graph_node *node)
{
    return is(node, "MatMul") && node->inputs[1] != GRAPH_NONE &&
           self->values[node->inputs[1]].is_constant &&
           self->values[node->inputs[1]].shape.rank == 2;
}

/* The axis of `to` that holds what axis `axis` of `from` did, the elements staying in row-major
 * order; never the rows. A single channel may stand anywhere: that is how exporters move it. */
static int reshaped_axis(const shape *from, int axis, const shape *to)
{
    int64_t before = 1, now = 1;
    int single = UNKNOWN, singles = 0;
    for (int i = 0; i < axis; i++)
        before *= from->dims[i];
    for (int i = 0; i < to->rank; i++) {
        if (i > 0 && now == before && to->dims[i] == from->dims[axis])
            return i;
        if (i > 0 && to->dims[i] == 1 && ++singles == 1)
            single = i;
        now *= to->dims[i];
    }
    if (from->dims[axis] == 1)
        return singles == 1                                 ? single
               : singles == 0 && to->rank == from->rank - 1 ? ABSENT
                                                            : UNKNOWN;
    /* Heads or directions that become channels: (N, T, heads, C) -> (N, T, heads C), and for one row
     * (L, directions, 1, H) -> (1, L, directions H). */
    bool merged = axis == from->rank - 1 && axis >= 3 && to->rank == 3;
    int64_t product = merged ? from->dims[axis] : 0;
    for (int i = axis - 1; merged && i > 0 && product < to->dims[2]; i--)
        product *= from->dims[i];
    merged = merged && product == to->dims[2] && to->dims[0] * to->dims[1] > 1;
    return merged ? 2 : UNKNOWN;
}

static bool permutation(const graph_node *node, int rank, int axes[SHAPE_MAX_RANK])
{
    const onnx_attribute *perm = NULL;
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, "perm") == 0)
            perm = &node->attributes[i];
    if (perm && (perm->type != ONNX_ATTRIBUTE_INTS || perm->count != (size_t)rank))
        return false;
    for (int i = 0; i < rank; i++) {
        axes[i] = perm ? (int)perm->ints[i] : rank - 1 - i;
        if (axes[i] < 0 || axes[i] >= rank)
            return false;
    }
    return true;
}

/* The channel axis of a node's outputs, from those of its inputs. */
static int forward_axis(const graph *self, const graph_node *node, int output,
                        const signed char *axes)
{
    const shape *to = &self->values[output].shape;
    if (to->rank < 2)
        return UNKNOWN;
    if (has_channels_first(node))
        return 1;
    if (is(node, "Gemm"))
        return 1;
    if (is_dense(self, node) || is_recurrent(node) || is(node, "LayerNormalization") ||
        is(node, "RMSNormalization"))
        return to->rank - 1;
    const int taken = taken_axis(self, node);
    if (taken >= 0 && axes[node->inputs[0]] >= 0 && axes[node->inputs[0]] != taken)
        return axes[node->inputs[0]] - (axes[node->inputs[0]] > taken);
    for (int k = 0; k < node->input_count; k++) {
        const int input = node->inputs[k];
        if (input == GRAPH_NONE || self->values[input].is_constant || axes[input] < 0)
            continue;
        const shape *from = &self->values[input].shape;
        int order[SHAPE_MAX_RANK];
        if (is(node, "Transpose")) {
            for (int i = 0; permutation(node, to->rank, order) && i < to->rank; i++)
                if (order[i] == axes[input])
                    return i;
        } else if (node->definition->flags & OPERATOR_VIEW) {
            const int axis = reshaped_axis(from, axes[input], to);
            return axis == ABSENT ? UNKNOWN : axis; /* a picture of one channel, flattened, say */
        } else if (from->rank == to->rank && (shape_equal(from, to) || keeps_axes(node))) {
            return axes[input];
        } else if (from->rank == to->rank && strncmp(node->definition->name, "Reduce", 6) == 0) {
            return axes[input];
        }
    }
    return UNKNOWN;
}

/* The channel axis of a node's input that nothing before it told, from the node and its output. */
static int backward_axis(const graph *self, const graph_node *node, int input,
                         const signed char *axes)
{
    const shape *from = &self->values[input].shape;
    if (input != node->inputs[0])
        return UNKNOWN;
    if (has_channels_first(node) && from->rank >= 3)
        return 1;
    if (is_dense(self, node) || is_recurrent(node) || is(node, "LayerNormalization") ||
        is(node, "Gemm"))
        return from->rank - 1;
    const int output = node->outputs[0];
    if (output == GRAPH_NONE || axes[output] == UNKNOWN)
        return UNKNOWN;
    const shape *to = &self->values[output].shape;
    int order[SHAPE_MAX_RANK];
    const int taken = taken_axis(self, node);
    if (axes[output] == ABSENT)
        return from->rank == to->rank ? ABSENT : UNKNOWN;
    if (taken >= 0)
        return axes[output] + (axes[output] >= taken);
    if (is(node, "Transpose"))
        return permutation(node, to->rank, order) ? order[axes[output]] : UNKNOWN;
    if ((is(node, "Flatten") || is(node, "Reshape")) && to->rank == 2)
        return UNKNOWN; /* features of a row: (N, 1, 3) need not have three channels */
    if (node->definition->flags & OPERATOR_VIEW)
        return reshaped_axis(to, axes[output], from);
    if (from->rank == to->rank && (shape_equal(from, to) || keeps_axes(node)))
        return axes[output];
    return UNKNOWN;
}

signed char *graph_channel_axes(const graph *self)
{
    signed char *axes = memory_allocate(self->value_count, sizeof *axes);
    if (!axes)
        return NULL;
    memset(axes, UNKNOWN, self->value_count);
    for (size_t i = 0; i < self->node_count; i++) {
        const graph_node *node = &self->nodes[i];
        for (int k = 0; !node->removed && k < node->output_count; k++)
            if (node->outputs[k] != GRAPH_NONE)
                axes[node->outputs[k]] =
                    (signed char)forward_axis(self, node, node->outputs[k], axes);
    }
    for (size_t i = self->node_count; i-- > 0;) {
        const graph_node *node = &self->nodes[i];
        for (int k = 0; !node->removed && k < node->input_count; k++) {
            const int input = node->inputs[k];
            if (input != GRAPH_NONE && !self->values[input].is_constant && axes[input] == UNKNOWN &&
                node->output_count > 0)
                axes[input] = (signed char)backward_axis(self, node, input, axes);
        }
    }
    /* What nobody told: images of a few channels at the end, else the convention (N, C, ...). */
    for (size_t i = 0; i < self->value_count; i++) {
        const graph_value *value = &self->values[i];
        if (axes[i] == ABSENT) {
            axes[i] = UNKNOWN;
            continue;
        }
        if (axes[i] != UNKNOWN || value->removed || value->is_constant || value->shape.rank < 3)
            continue;
        const int last = value->shape.rank - 1;
        const bool at_end = value->producer == GRAPH_NONE && last > 2 &&
                            value->shape.dims[last] <= 4 && value->shape.dims[1] > 4;
        axes[i] = (signed char)(at_end ? last : 1);
    }
    return axes;
}

bool graph_is_time_major(const graph *self, int value, const signed char *axes)
{
    const shape *dims = &self->values[value].shape;
    const shape *input = self->input_count > 0 ? &self->values[self->inputs[0]].shape : NULL;
    if (input == NULL || input->rank < 1 || input->dims[0] != 1 || dims->dims[0] < 2 ||
        axes[value] != dims->rank - 1)
        return false;
    return (dims->rank == 3 && dims->dims[1] == 1) ||
           (dims->rank == 4 && dims->dims[2] == 1 && dims->dims[1] <= 2);
}

/* Values that `value` is computed from; NULL without memory. */
static bool *find_ancestors(const graph *self, int value)
{
    bool *found = memory_allocate_zeroed(self->value_count, sizeof *found);
    if (!found)
        return NULL;
    found[value] = true;
    for (size_t i = self->node_count; i-- > 0;) {
        const graph_node *node = &self->nodes[i];
        bool reached = false;
        for (int k = 0; !node->removed && k < node->output_count; k++)
            reached = reached || (node->outputs[k] != GRAPH_NONE && found[node->outputs[k]]);
        for (int k = 0; reached && k < node->input_count; k++)
            if (node->inputs[k] != GRAPH_NONE)
                found[node->inputs[k]] = true;
    }
    return found;
}

/* Height and width of a rank 4 value. */
static void plane_of(const shape *dims, int channel_axis, int64_t out[2])
{
    int count = 0;
    for (int i = 1; i < 4; i++)
        if (i != channel_axis && count < 2)
            out[count++] = dims->dims[i];
}

/* The patch grid of T tokens: the plane of the nearest convolution that they are computed from
 * with as many positions, or a few less (class token, registers), or of another value with as
 * many; for images without any, a square. */
static bool find_token_grid(const graph *self, const bool *ancestors, const signed char *axes,
                            int64_t tokens, int64_t grid[2], int64_t *prefix)
{
    enum { SAME, FEWER, OTHER, WAYS };
    bool found = false, has_image = false;
    for (int way = 0; way < WAYS && !found; way++)
        for (size_t i = self->node_count; i-- > 0 && !found;) {
            const graph_node *node = &self->nodes[i];
            const int output = node->output_count > 0 ? node->outputs[0] : GRAPH_NONE;
            if (node->removed || output == GRAPH_NONE || !ancestors[output] ||
                !self->values[output].varies || self->values[output].shape.rank != 4 ||
                is(node, "Conv") != (way != OTHER))
                continue;
            plane_of(&self->values[output].shape, axes[output], grid);
            *prefix = tokens - grid[0] * grid[1];
            if (way == FEWER)
                found = *prefix > 0 && *prefix <= MAX_PREFIX_TOKENS && grid[0] * grid[1] > 1;
            else
                found = *prefix == 0 && (way == SAME || (grid[0] > 1 && grid[1] > 1));
        }
    for (size_t i = 0; i < self->input_count; i++)
        has_image = has_image ||
                    (ancestors[self->inputs[i]] && self->values[self->inputs[i]].shape.rank == 4);
    for (int64_t before = 0; has_image && !found && before < 2; before++) {
        int64_t side = 1;
        while (side * side < tokens - before)
            side++;
        found = side > 1 && side * side == tokens - before;
        grid[0] = grid[1] = side;
        *prefix = before;
    }
    *prefix = found ? *prefix : 0;
    return found;
}

xai_status graph_layer_layout(const graph *self, int value, layer_layout *out, xai_error **error)
{
    const shape *dims = &self->values[value].shape;
    memset(out, 0, sizeof *out);
    if (self->values[value].removed || dims->rank < 3 || dims->rank > 5)
        return XAI_OK;
    signed char *axes = graph_channel_axes(self);
    bool *ancestors = find_ancestors(self, value);
    if (!axes || !ancestors) {
        memory_free(axes);
        memory_free(ancestors);
        return error_memory(error, "the layout of a layer", self->value_count * 2);
    }
    out->channel_axis = axes[value] > 0 ? axes[value] : 1;
    out->time_major = graph_is_time_major(self, value, axes);
    if (out->time_major)
        out->dims[out->spatial_rank++] = dims->dims[0];
    for (int i = 1; !out->time_major && i < dims->rank; i++)
        if (i != out->channel_axis)
            out->dims[out->spatial_rank++] = dims->dims[i];
    int64_t grid[2];
    if (dims->rank == 3 && out->channel_axis == 2 && !out->time_major &&
        find_token_grid(self, ancestors, axes, dims->dims[1], grid, &out->prefix_tokens)) {
        out->tokens = true;
        out->spatial_rank = 2;
        out->dims[0] = grid[0];
        out->dims[1] = grid[1];
    }
    memory_free(axes);
    memory_free(ancestors);
    return XAI_OK;
}
