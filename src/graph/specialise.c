/* Specialisation: one graph for concrete input shapes. After it every shape is static, everything computable from constants
 * is a constant, and nothing is left that no output needs. What hangs on shapes that follow from data stands apart
 * (finish.c). */
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "graph/body.h"
#include "graph/graph.h"
#include "graph/private.h"
#include "graph/rewrite.h"

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
    status = graph_infer(self, error);
    if (status == XAI_OK)
        status = protect_nothing_new(self, source->value_count, &protect, error);
    if (status == XAI_OK)
        status = graph_remove_dead(self, protect, error);
    if (status == XAI_OK)
        status = graph_split(self, protect, error);
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
