/* Shapes in topological order, and what can be computed along the way: everything that follows from constants and static
 * shapes when a graph is specialised, and simply everything when its inputs are known too. */
#include <string.h>

#include "base/error.h"
#include "graph/body.h"
#include "graph/graph.h"
#include "graph/private.h"

/* Constants made by folding: a node's outputs, and all together. Larger ones stay nodes. */
#define FOLD_NODE_BYTES ((size_t)256 << 20)
#define FOLD_TOTAL_BYTES ((size_t)1 << 30)

/* Scratch arrays that fit the widest node. */
typedef struct call_buffers {
    const tensor **inputs;
    tensor **outputs;
    tensor *storage;
} call_buffers;

static void call_buffers_free(call_buffers *self)
{
    memory_free((void *)self->inputs);
    memory_free((void *)self->outputs);
    memory_free(self->storage);
    *self = (call_buffers){0};
}

static xai_status call_buffers_create(call_buffers *self, const graph *of, xai_error **error)
{
    size_t inputs = 0, outputs = 0;
    for (size_t i = 0; i < of->node_count; i++) {
        if ((size_t)of->nodes[i].input_count > inputs)
            inputs = (size_t)of->nodes[i].input_count;
        if ((size_t)of->nodes[i].output_count > outputs)
            outputs = (size_t)of->nodes[i].output_count;
    }
    self->inputs = memory_allocate(inputs, sizeof *self->inputs);
    self->outputs = memory_allocate(outputs, sizeof *self->outputs);
    self->storage = memory_allocate(inputs + outputs, sizeof *self->storage);
    if (!self->inputs || !self->outputs || !self->storage) {
        call_buffers_free(self);
        return error_memory(error, "the inputs of a node", (inputs + outputs) * sizeof(tensor));
    }
    return XAI_OK;
}

/* Write a control node out: what it does comes behind its place, and the widest node may be another. */
static xai_status expand(graph *self, int index, call_buffers *buffers, xai_error **error)
{
    xai_status status = control_expand(self, index, error);
    if (status == XAI_OK)
        status = graph_sort(self, error);
    call_buffers_free(buffers);
    return status == XAI_OK ? call_buffers_create(buffers, self, error) : status;
}

/* Types and shapes of a node's outputs, those of its inputs being known. needs_data: told (without an error) when they hang on
 * an input that is not a constant; NULL when all are. */
static xai_status infer_node(graph *self, const graph_node *node, call_buffers *buffers,
                             operator_call *call, bool *needs_data, xai_error **error)
{
    graph_call(self, node, call, buffers->inputs, buffers->outputs, buffers->storage, error);
    call->needs_data = needs_data;
    for (int k = 0; k < call->output_count; k++)
        if (call->outputs[k])
            *call->outputs[k] = (tensor){.shape = {.rank = -1}};
    xai_status status = node->definition->infer(call);
    call->needs_data = NULL;
    if (status != XAI_OK && !(needs_data && *needs_data))
        error_add_place(error, node->place);
    for (int k = 0; k < call->output_count && status == XAI_OK; k++) {
        const tensor *output = call->outputs[k];
        size_t count, bytes;
        if (!output)
            continue;
        graph_value *value = &self->values[node->outputs[k]];
        if (output->dtype == DTYPE_UNDEFINED || output->shape.rank < 0 ||
            output->shape.rank > SHAPE_MAX_RANK)
            status = error_set(error, XAI_ERROR_INTERNAL, node->place,
                               "the shape of '%s' was not inferred", value->name);
        else if (!shape_count(&output->shape, &count) ||
                 !size_multiply(count, sizeof(double), &bytes))
            status = error_set(error, XAI_ERROR_SHAPE, node->place, "the output '%s' is too large",
                               value->name);
        value->dtype = output->dtype;
        value->shape = output->shape;
    }
    return status;
}

/* Bytes of a node's outputs; false for strings and what does not fit size_t. */
static bool output_bytes(const operator_call *call, size_t *out)
{
    *out = 0;
    for (int k = 0; k < call->output_count; k++)
        if (call->outputs[k] && (dtype_size(call->outputs[k]->dtype) == 0 ||
                                 !size_add(*out, tensor_bytes(call->outputs[k]), out)))
            return false;
    return true;
}

/* Compute a node now and make its outputs constants. */
static xai_status fold(graph *self, graph_node *node, operator_call *call, size_t *folded,
                       xai_error **error)
{
    xai_status status = XAI_OK;
    for (int k = 0; k < call->output_count && status == XAI_OK; k++) {
        tensor *output = call->outputs[k];
        if (!output)
            continue;
        const tensor description = *output;
        status = tensor_create(output, description.dtype, &description.shape, error);
    }
    if (status == XAI_OK)
        status = node->definition->forward(call);
    for (int k = 0; k < call->output_count; k++) {
        tensor *output = call->outputs[k];
        if (!output)
            continue;
        if (status != XAI_OK) {
            tensor_free(output);
            continue;
        }
        graph_value *value = &self->values[node->outputs[k]];
        *folded += tensor_bytes(output);
        value->is_constant = true;
        value->constant = *output;
        value->producer = GRAPH_NONE;
        value->varies = false;
    }
    if (status != XAI_OK)
        error_add_place(error, node->place);
    else
        node->removed = true;
    return status;
}

/* --- with inputs whose shapes alone are known --- */

/* Whether the node's outputs follow from constants and static shapes alone. */
static bool is_foldable(const graph *self, const graph_node *node, const operator_call *call,
                        size_t folded)
{
    if (!node->definition->forward)
        return false;
    const bool of_shape =
        *node->definition->domain == '\0' && (strcmp(node->definition->name, "Shape") == 0 ||
                                              strcmp(node->definition->name, "Size") == 0);
    for (int k = 0; k < node->input_count && !of_shape; k++)
        if (node->inputs[k] != GRAPH_NONE && !self->values[node->inputs[k]].is_constant)
            return false;
    size_t bytes;
    return output_bytes(call, &bytes) && bytes <= FOLD_NODE_BYTES &&
           bytes <= FOLD_TOTAL_BYTES - folded;
}

/* The place that an input of the node waits for, or NULL. */
static const char *input_late(const graph *self, const graph_node *node)
{
    for (int k = 0; k < node->input_count; k++)
        if (node->inputs[k] != GRAPH_NONE && self->values[node->inputs[k]].late)
            return self->values[node->inputs[k]].late;
    return NULL;
}

static void set_late(graph *self, const graph_node *node, const char *place)
{
    for (int k = 0; k < node->output_count; k++)
        if (node->outputs[k] != GRAPH_NONE)
            self->values[node->outputs[k]].late = place;
}

xai_status graph_infer(graph *self, xai_error **error)
{
    call_buffers buffers = {0};
    xai_status status = call_buffers_create(&buffers, self, error);
    size_t folded = 0;
    for (size_t i = 0; i < self->node_count && status == XAI_OK; i++) {
        graph_node *node = &self->nodes[i];
        if (node->removed)
            continue;
        const char *place = input_late(self, node);
        if (!place && node->control && control_needs_data(self, node))
            place = node->place;
        if (place) {
            set_late(self, node, place);
            continue;
        }
        if (node->control) {
            status = expand(self, (int)i, &buffers, error);
            continue;
        }
        operator_call call;
        bool needs_data = false;
        status = infer_node(self, node, &buffers, &call, &needs_data, error);
        if (status == XAI_ERROR_UNSUPPORTED && needs_data) {
            status = XAI_OK;
            set_late(self, node, node->place);
        } else if (status == XAI_OK && is_foldable(self, node, &call, folded)) {
            status = fold(self, node, &call, &folded, error);
        }
    }
    call_buffers_free(&buffers);
    return status;
}

/* --- with inputs whose values are known --- */

typedef struct computation {
    graph *on;
    int *readers; /* by value: nodes that have still to read it, one more for those to keep */
    size_t capacity;
    size_t living, limit; /* bytes */
} computation;

static xai_status count_readers(computation *self, const int *keep, size_t keep_count,
                                xai_error **error)
{
    const graph *g = self->on;
    if (g->value_count > self->capacity) {
        int *readers = memory_resize(self->readers, g->value_count, sizeof *readers);
        if (!readers)
            return error_memory(error, "a list of the graph's values",
                                g->value_count * sizeof *readers);
        self->readers = readers;
        self->capacity = g->value_count;
    }
    memset(self->readers, 0, g->value_count * sizeof *self->readers);
    for (size_t i = 0; i < g->node_count; i++)
        for (int k = 0; !g->nodes[i].removed && k < g->nodes[i].input_count; k++)
            if (g->nodes[i].inputs[k] != GRAPH_NONE)
                self->readers[g->nodes[i].inputs[k]]++;
    for (size_t i = 0; i < keep_count; i++)
        self->readers[keep[i]]++;
    self->living = 0; /* control flow has constants of its own */
    for (size_t i = 0; i < g->value_count; i++)
        if (g->values[i].is_constant && g->values[i].constant.owned)
            self->living += tensor_bytes(&g->values[i].constant);
    return XAI_OK;
}

/* A value whose last reader is done, if it is that. */
static void release(computation *self, int id)
{
    graph_value *value = id == GRAPH_NONE ? NULL : &self->on->values[id];
    if (!value || self->readers[id] > 0 || !value->is_constant || !value->constant.owned)
        return;
    self->living -= tensor_bytes(&value->constant);
    tensor_free(&value->constant);
}

static xai_status compute_node(computation *self, graph_node *node, call_buffers *buffers,
                               xai_error **error)
{
    operator_call call;
    size_t bytes;
    xai_status status = infer_node(self->on, node, buffers, &call, NULL, error);
    if (status != XAI_OK)
        return status;
    if (!node->definition->forward || !output_bytes(&call, &bytes))
        return error_set(error, XAI_ERROR_UNSUPPORTED, node->place,
                         "its outputs cannot be computed behind shapes that depend on data");
    if (bytes > self->limit || self->living > self->limit - bytes)
        return error_set(error, XAI_ERROR_MEMORY, node->place,
                         "its outputs of %zu bytes exceed the memory limit: %zu of %zu bytes are "
                         "in use behind shapes that depend on data",
                         bytes, self->living, self->limit);
    status = fold(self->on, node, &call, &self->living, error);
    for (int k = 0; status == XAI_OK && k < node->input_count; k++)
        if (node->inputs[k] != GRAPH_NONE) {
            self->readers[node->inputs[k]]--;
            release(self, node->inputs[k]);
        }
    for (int k = 0; status == XAI_OK && k < node->output_count; k++)
        release(self, node->outputs[k]);
    return status;
}

xai_status graph_compute(graph *self, const int *keep, size_t keep_count, size_t limit,
                         const graph_watch *watch, xai_error **error)
{
    computation state = {.on = self, .limit = limit > 0 ? limit : FOLD_TOTAL_BYTES};
    call_buffers buffers = {0};
    xai_status status = count_readers(&state, keep, keep_count, error);
    if (status == XAI_OK)
        status = call_buffers_create(&buffers, self, error);
    for (size_t i = 0; i < self->node_count && status == XAI_OK; i++) {
        graph_node *node = &self->nodes[i];
        if (node->removed)
            continue;
        if (watch && !watch->goes_on(watch->user)) {
            status =
                error_set(error, XAI_ERROR_CANCELLED, NULL, "cancelled before %s", node->place);
            continue;
        }
        if (!node->control) {
            status = compute_node(&state, node, &buffers, error);
            continue;
        }
        status = expand(self, (int)i, &buffers, error);
        if (status == XAI_OK)
            status = count_readers(&state, keep, keep_count, error);
    }
    call_buffers_free(&buffers);
    memory_free(state.readers);
    return status;
}
