#include "graph/layers.h"
#include "base/error.h"
#include "base/memory.h"

#include <string.h>

static bool is(const graph_node *node, const char *op)
{
    return node && !*node->definition->domain && strcmp(node->definition->name, op) == 0;
}

static const graph_node *producer_of(const graph *self, int value)
{
    const int producer = value == GRAPH_NONE ? GRAPH_NONE : self->values[value].producer;
    return producer == GRAPH_NONE ? NULL : &self->nodes[producer];
}

/* Operators whose results are integers or masks, for graphs without types. */
static bool gives_no_float(const graph_node *node)
{
    static const char *const ops[] = {
        "Shape",          "Size",  "ArgMax",      "ArgMin", "NonZero", "Equal", "Greater",
        "GreaterOrEqual", "Less",  "LessOrEqual", "Not",    "And",     "Or",    "Xor",
        "IsNaN",          "IsInf", NULL};
    for (const char *const *op = ops; *op; op++)
        if (is(node, *op))
            return true;
    return false;
}

size_t graph_layers(const graph *self, int *out, size_t capacity)
{
    size_t count = 0;
    for (size_t i = 0; i < self->node_count; i++) {
        const graph_node *node = &self->nodes[i];
        if (node->removed || gives_no_float(node))
            continue;
        for (int k = 0; k < node->output_count; k++) {
            const graph_value *value =
                node->outputs[k] == GRAPH_NONE ? NULL : &self->values[node->outputs[k]];
            if (!value || !value->varies ||
                (value->dtype != DTYPE_UNDEFINED && !dtype_is_float(value->dtype)))
                continue;
            if (count < capacity)
                out[count] = node->outputs[k];
            count++;
        }
    }
    return count;
}

/* More than one position besides batch and channels. */
static bool is_spatial(const graph *self, int value, const signed char *axes)
{
    const graph_value *of = &self->values[value];
    int64_t positions = 1;
    if (of->is_constant || of->shape.rank < 3 || of->shape.rank > 5 || !dtype_is_float(of->dtype))
        return false;
    for (int i = 1; i < of->shape.rank; i++)
        if (i != axes[value] && of->shape.dims[i] > 1)
            positions = 2;
    return graph_is_time_major(self, value, axes) || positions > 1;
}

static bool is_recurrent(const graph_node *node)
{
    return is(node, "LSTM") || is(node, "GRU") || is(node, "RNN");
}

/* Nodes that only move bytes: their input shows the same activations, closer to the layer that
 * made them. */
static bool is_view(const graph_node *node)
{
    return is(node, "Reshape") || is(node, "Flatten") || is(node, "Squeeze") ||
           is(node, "Unsqueeze") || is(node, "Transpose") || is(node, "Identity") ||
           is(node, "Dropout") || is(node, "Cast");
}

/* The value behind them; rows stay on axis 0, where they are on it. */
static int behind_views(const graph *self, int value, const signed char *axes)
{
    const graph_node *node = producer_of(self, value);
    while (node && is_view(node) && node->inputs[0] != GRAPH_NONE &&
           is_spatial(self, node->inputs[0], axes) && producer_of(self, node->inputs[0]) &&
           (graph_is_time_major(self, value, axes) ||
            !graph_is_time_major(self, node->inputs[0], axes))) {
        value = node->inputs[0];
        node = producer_of(self, value);
    }
    return value;
}

/* Whether a value is made from an input by nodes that compute nothing. */
static bool only_moves(const graph *self, int value)
{
    const graph_node *node = producer_of(self, value);
    while (node &&
           (is_view(node) || is(node, "ReverseSequence") || is(node, "Slice") ||
            is(node, "Gather") || is(node, "Pad")) &&
           node->inputs[0] != GRAPH_NONE) {
        value = node->inputs[0];
        node = producer_of(self, value);
    }
    return node == NULL;
}

static bool selects(const graph_node *node)
{
    return is(node, "Gather") || is(node, "Slice") || is(node, "Split") || is(node, "GatherND");
}

/* Single tokens taken out of rows of tokens, and what is made of such alone: several class tokens
 * side by side look like positions, but are none. */
static void mark_picked(const graph *self, const signed char *axes, bool *picked)
{
    for (size_t i = 0; i < self->node_count; i++) {
        const graph_node *node = &self->nodes[i];
        if (node->removed || node->output_count < 1 || node->outputs[0] == GRAPH_NONE)
            continue;
        const int source = node->input_count > 0 ? node->inputs[0] : GRAPH_NONE;
        bool any = false, all = true;
        for (int k = 0; k < node->input_count; k++) {
            if (node->inputs[k] == GRAPH_NONE || !self->values[node->inputs[k]].varies)
                continue;
            any = any || picked[node->inputs[k]];
            all = all && picked[node->inputs[k]];
        }
        const bool takes = selects(node) && source != GRAPH_NONE &&
                           self->values[source].shape.rank == 3 && is_spatial(self, source, axes);
        /* Behind its first output a recurrent layer has the last state of each direction. */
        for (int k = 0; k < node->output_count; k++)
            if (node->outputs[k] != GRAPH_NONE)
                picked[node->outputs[k]] =
                    is_recurrent(node)
                        ? k > 0
                        : (any && all) || (takes && !is_spatial(self, node->outputs[k], axes));
    }
}

/* The flags of a search, FLAGS a value. */
enum { FLAGS = 3 };

/* All false. */
static void clear(const graph *self, bool *scratch)
{
    memset(scratch, 0, self->value_count * FLAGS * sizeof *scratch);
}

/* What the head reads: the latest spatial value that the output is computed from through values
 * without positions. *selecting: only nodes that pick single positions (the class token) read
 * it. */
static int find_head_input(const graph *self, int output, const signed char *axes, bool *scratch,
                           bool *selecting)
{
    int latest = GRAPH_NONE;
    bool *reached = scratch, *pooled = scratch + self->value_count,
         *picked = scratch + 2 * self->value_count;
    clear(self, scratch);
    mark_picked(self, axes, picked);
    reached[output] = true;
    for (size_t i = self->node_count; i-- > 0;) {
        const graph_node *node = &self->nodes[i];
        bool on_path = false;
        for (int k = 0; !node->removed && k < node->output_count; k++) {
            const int value = node->outputs[k];
            if (value == GRAPH_NONE || !reached[value])
                continue;
            if (!is_spatial(self, value, axes) || picked[value])
                on_path = true;
            else if (latest == GRAPH_NONE)
                latest = value;
        }
        for (int k = 0; on_path && k < node->input_count; k++) {
            const int input = node->inputs[k];
            if (input == GRAPH_NONE || self->values[input].is_constant)
                continue;
            reached[input] = true;
            pooled[input] = pooled[input] || !selects(node);
        }
    }
    if (latest != GRAPH_NONE)
        *selecting = !pooled[latest];
    return latest;
}

/* A Softmax over T tokens: of queries (Tq, T), or, in factorised attention, of the keys (T, C). */
static bool weighs_tokens(const graph_node *node, const shape *made, int64_t tokens)
{
    if (!is(node, "Softmax") || made->rank < 3)
        return false;
    int64_t axis = node->opset < 13 ? 1 : -1;
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, "axis") == 0)
            axis = node->attributes[i].i;
    axis = axis < 0 ? axis + made->rank : axis;
    return axis >= 0 && axis < made->rank && made->dims[axis] == tokens;
}

/* For a class token taken from `tokens` (N, T, C): the last attention's input, which is the
 * latest LayerNormalization of that shape in front of the last product of attention weights (a
 * Softmax over T, or an Attention node). */
static int find_attention_input(const graph *self, int tokens, bool *scratch)
{
    const shape *dims = &self->values[tokens].shape;
    int found = GRAPH_NONE;
    bool *reached = scratch, *attended = scratch + self->value_count;
    clear(self, scratch);
    reached[tokens] = true;
    bool seen = false; /* the last attention: those before it do not count */
    for (size_t i = self->node_count; i-- > 0;) {
        const graph_node *node = &self->nodes[i];
        const int output = node->output_count > 0 ? node->outputs[0] : GRAPH_NONE;
        bool on_path = false,
             behind = false; /* any output: queries, keys and values may be split */
        for (int k = 0; !node->removed && k < node->output_count; k++) {
            on_path = on_path || (node->outputs[k] != GRAPH_NONE && reached[node->outputs[k]]);
            behind = behind || (node->outputs[k] != GRAPH_NONE && attended[node->outputs[k]]);
        }
        if (!on_path || output == GRAPH_NONE)
            continue;
        const shape *made = &self->values[output].shape;
        if (behind && is(node, "LayerNormalization") && shape_equal(made, dims)) {
            found = output;
            break;
        }
        const bool attention =
            !seen && (weighs_tokens(node, made, dims->dims[1]) || is(node, "Attention"));
        seen = seen || attention;
        for (int k = 0; k < node->input_count; k++) {
            if (node->inputs[k] == GRAPH_NONE)
                continue;
            reached[node->inputs[k]] = true;
            if (attention || behind)
                attended[node->inputs[k]] = true;
        }
    }
    return found;
}

/* The sequence that the recurrent layer reads whose last step `value` (its output, moved) is taken
 * from; `value` when there is no such layer. */
static int find_read_sequence(const graph *self, int value, const signed char *axes)
{
    const graph_node *node = producer_of(self, value);
    while (node && is_view(node) && node->inputs[0] != GRAPH_NONE)
        node = producer_of(self, node->inputs[0]);
    if (!is_recurrent(node) || !is_spatial(self, node->inputs[0], axes))
        return value;
    return node->inputs[0];
}

/* For an output that is a map: the input of the last linear layer, behind activations, resizing
 * and views; of several that are added up, the latest. */
static int find_map_input(const graph *self, int output, const signed char *axes, bool *scratch)
{
    int latest = GRAPH_NONE;
    bool *reached = scratch;
    clear(self, scratch);
    reached[output] = true;
    for (size_t i = self->node_count; i-- > 0;) {
        const graph_node *node = &self->nodes[i];
        const int made = node->output_count > 0 ? node->outputs[0] : GRAPH_NONE;
        if (node->removed || made == GRAPH_NONE || !reached[made])
            continue;
        const bool linear = is(node, "Conv") || is(node, "ConvTranspose") || is(node, "Gemm") ||
                            (is(node, "MatMul") && !self->values[node->inputs[1]].varies);
        for (int k = 0; k < node->input_count; k++) {
            const int input = node->inputs[k];
            if (input == GRAPH_NONE || !producer_of(self, input) || !is_spatial(self, input, axes))
                continue;
            if (!linear)
                reached[input] = true;
            else if (latest == GRAPH_NONE ||
                     self->values[input].producer > self->values[latest].producer)
                latest = input;
        }
    }
    return latest == GRAPH_NONE ? GRAPH_NONE : behind_views(self, latest, axes);
}

xai_status graph_default_layer(const graph *self, int output, int *out, xai_error **error)
{
    *out = GRAPH_NONE;
    if (output < 0 || (size_t)output >= self->value_count || self->values[output].removed)
        return XAI_OK;
    signed char *axes = graph_channel_axes(self);
    bool *scratch = memory_allocate(self->value_count, FLAGS * sizeof *scratch);
    if (!axes || !scratch) {
        memory_free(axes);
        memory_free(scratch);
        return error_memory(error, "the search for the default layer",
                            self->value_count * (1 + FLAGS));
    }
    int layer = GRAPH_NONE;
    bool selecting = false;
    if (is_spatial(self, output, axes)) {
        layer = find_map_input(self, output, axes, scratch);
    } else {
        layer = find_head_input(self, output, axes, scratch, &selecting);
        if (layer != GRAPH_NONE && selecting && self->values[layer].shape.rank >= 3 &&
            find_read_sequence(self, layer, axes) != layer) {
            layer = behind_views(self, find_read_sequence(self, layer, axes), axes);
        } else if (layer != GRAPH_NONE && selecting && self->values[layer].shape.rank == 3) {
            const int attended = find_attention_input(self, layer, scratch);
            layer = attended == GRAPH_NONE ? layer : attended;
        } else if (layer != GRAPH_NONE) {
            layer = behind_views(self, layer, axes);
            const graph_node *pool = producer_of(self, layer);
            if (is(pool, "AveragePool") && producer_of(self, pool->inputs[0]))
                layer = pool->inputs[0];
        }
    }
    memory_free(axes);
    memory_free(scratch);
    if (layer != GRAPH_NONE && !only_moves(self, layer))
        *out = layer;
    return XAI_OK;
}
