#include "graph/graph.h"

#include <limits.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "graph/private.h"

/* More than any real model has; keeps value ids within int and hostile files within reason. */
enum { GRAPH_MAX_VALUES = 1 << 24, GRAPH_MAX_NODES = 1 << 22 };

void graph_free(graph *self)
{
    if (!self)
        return;
    for (size_t i = 0; i < self->value_count; i++)
        tensor_free(&self->values[i].constant);
    graph_end_free(self->end);
    memory_pool_free(self->pool);
    memory_free(self->values);
    memory_free(self->nodes);
    memory_free(self->inputs);
    memory_free(self->outputs);
    memory_free(self->row_axes);
    memory_free(self);
}

graph *graph_create(const onnx_model *source)
{
    graph *self = memory_allocate_zeroed(1, sizeof *self);
    if (!self)
        return NULL;
    self->pool = memory_pool_create();
    if (!self->pool) {
        memory_free(self);
        return NULL;
    }
    self->source = source;
    return self;
}

int graph_find(const graph *self, const char *name)
{
    for (size_t i = 0; i < self->value_count; i++)
        if (!self->values[i].removed && strcmp(self->values[i].name, name) == 0)
            return (int)i;
    for (size_t i = 0; i < self->node_count; i++) {
        const graph_node *node = &self->nodes[i];
        if (!node->removed && node->output_count > 0 && node->outputs[0] != GRAPH_NONE &&
            strcmp(node->name, name) == 0)
            return node->outputs[0];
    }
    return GRAPH_NONE;
}

size_t graph_consumers(const graph *self, int value, int *out, size_t capacity)
{
    size_t count = 0;
    for (size_t i = 0; i < self->node_count; i++) {
        const graph_node *node = &self->nodes[i];
        if (node->removed)
            continue;
        for (int k = 0; k < node->input_count; k++) {
            if (node->inputs[k] != value)
                continue;
            if (count < capacity)
                out[count] = (int)i;
            count++;
        }
    }
    return count;
}

int graph_add_value(graph *self, const char *name, int32_t dtype, const shape *dims)
{
    if (self->value_count >= GRAPH_MAX_VALUES)
        return GRAPH_NONE;
    void *values = self->values;
    const bool grown =
        array_reserve(&values, &self->value_capacity, self->value_count + 1, sizeof *self->values);
    self->values = values;
    char *copy = grown ? memory_pool_text(self->pool, name, strlen(name)) : NULL;
    if (!copy)
        return GRAPH_NONE;
    graph_value *value = &self->values[self->value_count];
    memset(value, 0, sizeof *value);
    value->name = copy;
    value->dtype = dtype;
    if (dims)
        value->shape = *dims;
    else
        value->shape.rank = -1;
    value->producer = GRAPH_NONE;
    return (int)self->value_count++;
}

int graph_add_constant(graph *self, const char *name, tensor *constant)
{
    const int id = graph_add_value(self, name, constant->dtype, &constant->shape);
    if (id == GRAPH_NONE)
        return GRAPH_NONE;
    /* An empty tensor may have no bytes at all; NULL would say that the value is not known. */
    void *data = constant->data ? constant->data : memory_pool_allocate(self->pool, 1, 1);
    if (!data)
        return GRAPH_NONE;
    self->values[id].is_constant = true;
    self->values[id].constant = *constant;
    self->values[id].constant.data = data;
    memset(constant, 0, sizeof *constant);
    return id;
}

const char *graph_place_text(graph *self, const char *domain, const char *op, const char *name)
{
    text place = {0};
    text_format(&place, "node '%s' (%s%s%s)", name, domain, *domain ? "." : "", op);
    const char *copy = place.failed || !place.bytes
                           ? NULL
                           : memory_pool_text(self->pool, place.bytes, place.length);
    text_free(&place);
    return copy;
}

/* A node's outputs vary when one of its inputs does. */
static void follow_inputs(graph *self, const graph_node *node)
{
    bool varies = false;
    for (int k = 0; k < node->input_count; k++)
        varies = varies || (node->inputs[k] != GRAPH_NONE && self->values[node->inputs[k]].varies);
    for (int k = 0; k < node->output_count; k++)
        if (node->outputs[k] != GRAPH_NONE)
            self->values[node->outputs[k]].varies = varies;
}

static int *copy_ids(graph *self, const int *ids, int count)
{
    int *copy = memory_pool_allocate(self->pool, count > 0 ? (size_t)count : 1, sizeof *copy);
    if (copy && count > 0)
        memcpy(copy, ids, (size_t)count * sizeof *copy);
    return copy;
}

int graph_append_node(graph *self, const operator_definition *definition, const char *name,
                      const char *place, const int *inputs, int input_count, const int *outputs,
                      int output_count, const onnx_attribute *attributes, size_t attribute_count,
                      int opset)
{
    if (self->node_count >= GRAPH_MAX_NODES)
        return -1;
    void *nodes = self->nodes;
    const bool grown =
        array_reserve(&nodes, &self->node_capacity, self->node_count + 1, sizeof *self->nodes);
    self->nodes = nodes;
    if (!grown)
        return -1;
    graph_node *node = &self->nodes[self->node_count];
    *node = (graph_node){
        .definition = definition,
        .name = memory_pool_text(self->pool, name, strlen(name)),
        .place = place ? memory_pool_text(self->pool, place, strlen(place))
                       : graph_place_text(self, "", definition->name, name),
        .attributes = attributes,
        .attribute_count = attribute_count,
        .opset = opset,
        .input_count = input_count,
        .output_count = output_count,
        .inputs = copy_ids(self, inputs, input_count),
        .outputs = copy_ids(self, outputs, output_count),
    };
    if (!node->name || !node->place || !node->inputs || !node->outputs)
        return -1;
    const int index = (int)self->node_count++;
    for (int k = 0; k < output_count; k++)
        if (outputs[k] != GRAPH_NONE)
            self->values[outputs[k]].producer = index;
    follow_inputs(self, node);
    return index;
}

int graph_add_node(graph *self, const char *domain, const char *op, const char *name,
                   const int *inputs, int input_count, const int *outputs, int output_count,
                   const onnx_attribute *attributes, size_t attribute_count, int opset)
{
    const operator_definition *definition = operator_find(domain, op);
    if (!definition)
        return -1;
    onnx_attribute *copy = NULL;
    if (attribute_count > 0) {
        copy = memory_pool_allocate(self->pool, attribute_count, sizeof *copy);
        if (!copy)
            return -1;
        memcpy(copy, attributes, attribute_count * sizeof *copy);
    }
    return graph_append_node(self, definition, name, NULL, inputs, input_count, outputs,
                             output_count, copy, attribute_count, opset);
}

/* Depth-first from each node in index order, producers before readers, with a stack of our own: a sorted graph keeps its
 * order, and a reader met again below itself is a cycle. */
xai_status graph_sort(graph *self, xai_error **error)
{
    enum { UNSEEN, OPEN, DONE };
    xai_status status = XAI_OK;
    const size_t count = self->node_count;
    unsigned char *state = memory_allocate_zeroed(count, sizeof *state);
    int *stack = memory_allocate(count, sizeof *stack);
    int *next_input = memory_allocate(count, sizeof *next_input);
    graph_node *sorted = memory_allocate(count, sizeof *sorted);
    if (!state || !stack || !next_input || !sorted) {
        status = error_memory(error, "the order of the graph's nodes", count * sizeof *sorted);
        goto done;
    }
    size_t emitted = 0;
    for (size_t root = 0; root < count; root++) {
        if (state[root] != UNSEEN)
            continue;
        size_t depth = 0;
        stack[depth] = (int)root;
        next_input[depth++] = 0;
        state[root] = OPEN;
        while (depth > 0) {
            const graph_node *node = &self->nodes[stack[depth - 1]];
            int below = -1;
            while (!node->removed && next_input[depth - 1] < node->input_count) {
                const int value = node->inputs[next_input[depth - 1]++];
                const int producer =
                    value == GRAPH_NONE ? GRAPH_NONE : self->values[value].producer;
                if (producer == GRAPH_NONE || state[producer] == DONE)
                    continue;
                if (state[producer] == OPEN) {
                    status = error_set(error, XAI_ERROR_FORMAT, node->place,
                                       "the graph has a cycle: input '%s' depends on this node",
                                       self->values[value].name);
                    goto done;
                }
                below = producer;
                break;
            }
            if (below >= 0) {
                state[below] = OPEN;
                stack[depth] = below;
                next_input[depth++] = 0;
            } else {
                state[stack[depth - 1]] = DONE;
                sorted[emitted++] = *node;
                depth--;
            }
        }
    }
    if (count > 0)
        memcpy(self->nodes, sorted, count * sizeof *sorted);
    for (size_t i = 0; i < count; i++) {
        if (self->nodes[i].removed)
            continue;
        for (int k = 0; k < self->nodes[i].output_count; k++)
            if (self->nodes[i].outputs[k] != GRAPH_NONE)
                self->values[self->nodes[i].outputs[k]].producer = (int)i;
        follow_inputs(self, &self->nodes[i]);
    }
done:
    memory_free(state);
    memory_free(stack);
    memory_free(next_input);
    memory_free(sorted);
    return status;
}

void graph_call(const graph *self, const graph_node *node, operator_call *call,
                const tensor **inputs, tensor **outputs, tensor *storage, xai_error **error)
{
    for (int k = 0; k < node->input_count + node->output_count; k++) {
        const bool is_input = k < node->input_count;
        const int id = is_input ? node->inputs[k] : node->outputs[k - node->input_count];
        const graph_value *value = id == GRAPH_NONE ? NULL : &self->values[id];
        if (value)
            storage[k] = (tensor){.dtype = value->dtype, .shape = value->shape};
        if (!is_input)
            outputs[k - node->input_count] = value ? &storage[k] : NULL;
        else if (!value)
            inputs[k] = NULL;
        else
            inputs[k] = value->is_constant ? &value->constant : &storage[k];
    }
    *call = (operator_call){
        .definition = node->definition,
        .attributes = node->attributes,
        .attribute_count = node->attribute_count,
        .opset = node->opset,
        .input_count = node->input_count,
        .output_count = node->output_count,
        .inputs = inputs,
        .outputs = outputs,
        .place = node->place,
        .error = error,
    };
}
