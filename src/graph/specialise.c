/* Specialisation: one graph for concrete input shapes. After it every shape is static, everything computable from constants
 * is a constant, and nothing is left that no output needs. */
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "graph/body.h"
#include "graph/graph.h"
#include "graph/private.h"
#include "graph/rewrite.h"

/* Constants made by folding: a node's outputs, and all together. Larger ones stay nodes. */
#define FOLD_NODE_BYTES ((size_t)256 << 20)
#define FOLD_TOTAL_BYTES ((size_t)1 << 30)

xai_status graph_copy(const graph *source, graph **out, xai_error **error)
{
    graph *self = graph_create(source->source);
    if (!self)
        goto failed;
    for (size_t i = 0; i < source->value_count; i++) {
        const graph_value *from = &source->values[i];
        if (graph_add_value(self, from->name, from->dtype, &from->shape) == GRAPH_NONE)
            goto failed;
        graph_value *to = &self->values[i];
        to->is_constant = from->is_constant;
        to->constant = from->constant;
        to->constant.owned = false;
        to->removed = from->removed;
        to->varies = from->varies;
    }
    for (size_t i = 0; i < source->node_count; i++) {
        const graph_node *node = &source->nodes[i];
        if (graph_append_node(self, node->definition, node->name, node->place, node->inputs,
                              node->input_count, node->outputs, node->output_count,
                              node->attributes, node->attribute_count, node->opset) < 0)
            goto failed;
        self->nodes[i].removed = node->removed;
        self->nodes[i].control = node->control;
    }
    self->inputs = memory_copy(source->inputs, source->input_count * sizeof *self->inputs);
    self->outputs = memory_copy(source->outputs, source->output_count * sizeof *self->outputs);
    if (!self->inputs || !self->outputs)
        goto failed;
    self->input_count = source->input_count;
    self->output_count = source->output_count;
    *out = self;
    return XAI_OK;
failed:
    graph_free(self);
    return error_memory(error, "a specialised graph", 0);
}

xai_status graph_remove_dead(graph *self, const bool *protect, xai_error **error)
{
    bool *needed = memory_allocate(self->value_count, sizeof *needed);
    bool *held = memory_allocate_zeroed(self->value_count, sizeof *held);
    if (!needed || !held) {
        memory_free(needed);
        memory_free(held);
        return error_memory(error, "a list of the graph's values", self->value_count);
    }
    memcpy(needed, protect, self->value_count * sizeof *needed);
    for (size_t i = self->node_count; i-- > 0;) {
        graph_node *node = &self->nodes[i];
        bool live = false;
        for (int k = 0; !node->removed && k < node->output_count; k++)
            live = live || (node->outputs[k] != GRAPH_NONE && needed[node->outputs[k]]);
        node->removed = !live;
        for (int k = 0; live && k < node->input_count; k++)
            if (node->inputs[k] != GRAPH_NONE)
                needed[node->inputs[k]] = true;
        /* An operator that was asked for an output without need may skip it, except in a list such as Split's. */
        for (int k = 0; live && k < node->output_count; k++) {
            const int value = node->outputs[k];
            if (value == GRAPH_NONE)
                continue;
            if (!needed[value] && k >= node->definition->min_outputs &&
                node->definition->max_outputs != OPERATOR_VARIADIC)
                node->outputs[k] = GRAPH_NONE;
            else
                held[value] = true;
        }
    }
    for (size_t i = 0; i < self->input_count; i++)
        held[self->inputs[i]] = true;
    for (size_t i = 0; i < self->value_count; i++) {
        graph_value *value = &self->values[i];
        if (needed[i] || held[i])
            continue;
        value->removed = true;
        value->is_constant = false;
        value->producer = GRAPH_NONE;
        tensor_free(&value->constant);
    }
    memory_free(needed);
    memory_free(held);
    return XAI_OK;
}

/* The declared shape of an input with its symbolic names: "(N, 3, 224, 224)". */
static void declared_text(const graph *self, const graph_value *input, text *out)
{
    const onnx_value *declared = NULL;
    for (size_t i = 0; self->source && i < self->source->graph.input_count; i++)
        if (strcmp(self->source->graph.inputs[i].name, input->name) == 0)
            declared = &self->source->graph.inputs[i];
    text_append(out, "(");
    for (int i = 0; i < input->shape.rank; i++) {
        const char *name = declared && declared->has_shape && i < declared->shape.rank &&
                                   declared->dim_names[i] && *declared->dim_names[i]
                               ? declared->dim_names[i]
                               : "?";
        if (input->shape.dims[i] >= 0)
            text_format(out, "%s%lld", i ? ", " : "", (long long)input->shape.dims[i]);
        else
            text_format(out, "%s%s", i ? ", " : "", name);
    }
    text_append(out, ")");
}

static xai_status set_inputs(graph *self, const shape *shapes, xai_error **error)
{
    for (size_t i = 0; i < self->input_count; i++) {
        graph_value *input = &self->values[self->inputs[i]];
        const shape *given = &shapes[i];
        size_t count;
        char given_text[SHAPE_TEXT_SIZE];
        bool fits = given->rank >= 0 && given->rank <= SHAPE_MAX_RANK;
        if (!fits || !shape_count(given, &count))
            return error_set(error, XAI_ERROR_SHAPE, NULL,
                             "input '%s': a shape must have at most %d dimensions, none of them "
                             "negative",
                             input->name, SHAPE_MAX_RANK);
        if (input->shape.rank >= 0) {
            fits = input->shape.rank == given->rank;
            for (int k = 0; fits && k < given->rank; k++)
                fits = input->shape.dims[k] < 0 || input->shape.dims[k] == given->dims[k];
        }
        if (!fits) {
            text declared = {0};
            declared_text(self, input, &declared);
            error_set(error, XAI_ERROR_SHAPE, NULL, "input '%s' is %s but got %s", input->name,
                      declared.bytes ? declared.bytes : "of another shape",
                      shape_text(given, given_text));
            text_free(&declared);
            return XAI_ERROR_SHAPE;
        }
        input->shape = *given;
    }
    return XAI_OK;
}

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
        *self = (call_buffers){0};
        return error_memory(error, "the inputs of a node", (inputs + outputs) * sizeof(tensor));
    }
    return XAI_OK;
}

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
    size_t bytes = 0;
    for (int k = 0; k < call->output_count; k++) {
        if (!call->outputs[k])
            continue;
        if (call->outputs[k]->dtype == DTYPE_STRING ||
            !size_add(bytes, tensor_bytes(call->outputs[k]), &bytes))
            return false;
    }
    return bytes <= FOLD_NODE_BYTES && bytes <= FOLD_TOTAL_BYTES - folded;
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

/* Shapes in topological order. An operator whose output shape hangs on data that is not constant refuses here. */
static xai_status infer_shapes(graph *self, xai_error **error)
{
    call_buffers buffers = {0};
    xai_status status = call_buffers_create(&buffers, self, error);
    size_t folded = 0;
    for (size_t i = 0; i < self->node_count && status == XAI_OK; i++) {
        graph_node *node = &self->nodes[i];
        if (node->removed)
            continue;
        if (node->control) { /* what it does comes behind this place */
            status = control_expand(self, (int)i, error);
            if (status == XAI_OK)
                status = graph_sort(self, error);
            call_buffers_free(&buffers);
            buffers = (call_buffers){0};
            if (status == XAI_OK)
                status = call_buffers_create(&buffers, self, error);
            continue;
        }
        operator_call call;
        graph_call(self, node, &call, buffers.inputs, buffers.outputs, buffers.storage, error);
        for (int k = 0; k < call.output_count; k++)
            if (call.outputs[k])
                *call.outputs[k] = (tensor){.shape = {.rank = -1}};
        status = node->definition->infer(&call);
        if (status != XAI_OK) {
            error_add_place(error, node->place);
            break;
        }
        for (int k = 0; k < call.output_count && status == XAI_OK; k++) {
            const tensor *output = call.outputs[k];
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
                status = error_set(error, XAI_ERROR_SHAPE, node->place,
                                   "the output '%s' is too large", value->name);
            value->dtype = output->dtype;
            value->shape = output->shape;
        }
        if (status == XAI_OK && is_foldable(self, node, &call, folded))
            status = fold(self, node, &call, &folded, error);
    }
    call_buffers_free(&buffers);
    return status;
}

/* Make inner values inputs: their producers write to values of their own, which nobody reads. */
static xai_status add_starts(graph *self, const int *starts, const shape *shapes, size_t count,
                             xai_error **error)
{
    if (count == 0)
        return XAI_OK;
    int *inputs = memory_resize(self->inputs, self->input_count + count, sizeof *inputs);
    if (!inputs)
        return error_memory(error, "the inputs of a graph", count * sizeof *inputs);
    self->inputs = inputs;
    for (size_t i = 0; i < count; i++) {
        const int start = starts[i];
        if (start < 0 || (size_t)start >= self->value_count ||
            self->values[start].producer == GRAPH_NONE)
            return error_set(
                error, XAI_ERROR_ARGUMENT,
                start >= 0 && (size_t)start < self->value_count ? self->values[start].name : NULL,
                "it is not computed by the model, so nothing can start there; give a "
                "layer inside the model");
        for (size_t k = 0; k < self->output_count; k++)
            if (self->outputs[k] == start)
                return error_set(error, XAI_ERROR_UNSUPPORTED, self->values[start].name,
                                 "it is an output of the model: nothing lies behind it");
        text name = {0};
        text_format(&name, "%s/replaced", self->values[start].name);
        const int other = name.bytes
                              ? graph_add_value(self, name.bytes, self->values[start].dtype, NULL)
                              : GRAPH_NONE;
        text_free(&name);
        if (other == GRAPH_NONE)
            return error_memory(error, "a value", sizeof *self->values);
        graph_node *producer = &self->nodes[self->values[start].producer];
        for (int k = 0; k < producer->output_count; k++)
            if (producer->outputs[k] == start)
                producer->outputs[k] = other;
        self->values[other].producer = self->values[start].producer;
        self->values[other].varies = self->values[start].varies;
        self->values[start].producer = GRAPH_NONE;
        self->values[start].varies = true;
        self->values[start].shape = shapes[i];
        self->values[start].dtype = DTYPE_FLOAT;
        self->inputs[self->input_count++] = start;
    }
    return XAI_OK;
}

/* Room in `protect` for the values that control flow added to the first `count`. */
static xai_status protect_nothing_new(const graph *self, size_t count, bool **protect,
                                      xai_error **error)
{
    if (self->value_count == count)
        return XAI_OK;
    bool *grown = memory_resize(*protect, self->value_count, sizeof *grown);
    if (!grown)
        return error_memory(error, "a list of the graph's values", self->value_count);
    memset(grown + count, 0, (self->value_count - count) * sizeof *grown);
    *protect = grown;
    return XAI_OK;
}

xai_status graph_specialise(const graph *source, const shape *input_shapes, const int *keep,
                            size_t keep_count, graph_rewrites rewrites, graph **out,
                            xai_error **error)
{
    return graph_specialise_from(source, input_shapes, NULL, NULL, 0, keep, keep_count, rewrites,
                                 out, error);
}

xai_status graph_specialise_from(const graph *source, const shape *input_shapes, const int *starts,
                                 const shape *start_shapes, size_t start_count, const int *keep,
                                 size_t keep_count, graph_rewrites rewrites, graph **out,
                                 xai_error **error)
{
    graph *self = NULL;
    bool *protect = NULL;
    xai_status status = graph_copy(source, &self, error);
    if (status == XAI_OK)
        status = set_inputs(self, input_shapes, error);
    if (status == XAI_OK)
        status = add_starts(self, starts, start_shapes, start_count, error);
    if (status != XAI_OK)
        goto done;
    protect = memory_allocate_zeroed(self->value_count, sizeof *protect);
    if (!protect) {
        status = error_memory(error, "a list of the graph's values", self->value_count);
        goto done;
    }
    for (size_t i = 0; i < self->output_count; i++)
        protect[self->outputs[i]] = true;
    for (size_t i = 0; i < keep_count; i++) {
        if (keep[i] < 0 || (size_t)keep[i] >= self->value_count) {
            status =
                error_set(error, XAI_ERROR_ARGUMENT, NULL, "the model has no value %d", keep[i]);
            goto done;
        }
        protect[keep[i]] = true;
    }
    status = infer_shapes(self, error);
    if (status == XAI_OK)
        status = protect_nothing_new(self, source->value_count, &protect, error);
    if (status == XAI_OK)
        status = graph_remove_dead(self, protect, error);
    if (status == XAI_OK)
        status = graph_rewrite(self, protect, rewrites, error);
    if (status != XAI_OK)
        goto done;
    *out = self;
    self = NULL;
done:
    memory_free(protect);
    graph_free(self);
    return status;
}
