/* onnx_model -> graph. The reader has checked bytes; this file checks names, order, operators and versions. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "graph/body.h"
#include "graph/graph.h"
#include "graph/private.h"

enum {
    OLDEST_IR = 3,
    NEWEST_IR = 14,
    OLDEST_OPSET = 7,
    NEWEST_OPSET = 28,
    MAX_OUTPUTS = 4096, /* a graph */
};

/* Every definition of a name in the file: sorted by name, then by order of definition. */
typedef struct definition_entry {
    const char *name;
    const char *place; /* who defines it, for messages */
    size_t order;
    int value; /* id, set once values exist */
} definition_entry;

typedef struct importer {
    const onnx_model *model;
    body_scope scope;
    graph *graph;
    definition_entry *names;
    size_t name_count;
    int default_opset; /* of domain "", 0 when not imported */
    xai_error **error;
} importer;

static const char *domain_text(const char *domain)
{
    return *domain ? domain : "ai.onnx";
}

static xai_status out_of_memory(importer *self)
{
    return error_memory(self->error, "the graph", 0);
}

static int compare_names(const void *left, const void *right)
{
    const definition_entry *a = left, *b = right;
    const int order = strcmp(a->name, b->name);
    return order ? order : (a->order > b->order) - (a->order < b->order);
}

static definition_entry *find_name(const importer *self, const char *name)
{
    size_t low = 0, high = self->name_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(self->names[middle].name, name);
        if (order == 0)
            return &self->names[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static xai_status check_versions(importer *self)
{
    const onnx_model *model = self->model;
    if (model->ir_version < OLDEST_IR || model->ir_version > NEWEST_IR)
        return error_set(self->error, XAI_ERROR_UNSUPPORTED, NULL,
                         "ONNX IR version %lld is not supported (supported: %d to %d)",
                         (long long)model->ir_version, OLDEST_IR, NEWEST_IR);
    for (size_t i = 0; i < model->opset_count; i++)
        if (model->opsets[i].version != body_opset(&self->scope, model->opsets[i].domain))
            return error_set(self->error, XAI_ERROR_FORMAT, NULL,
                             "the model imports domain '%s' with two opsets, %lld and %lld",
                             domain_text(model->opsets[i].domain),
                             (long long)body_opset(&self->scope, model->opsets[i].domain),
                             (long long)model->opsets[i].version);
    const int64_t opset = body_opset(&self->scope, "");
    if (opset != 0 && (opset < OLDEST_OPSET || opset > NEWEST_OPSET))
        return error_set(self->error, XAI_ERROR_UNSUPPORTED, NULL,
                         "opset %lld of domain 'ai.onnx' is not supported (supported: %d to %d)",
                         (long long)opset, OLDEST_OPSET, NEWEST_OPSET);
    self->default_opset = (int)opset;
    return XAI_OK;
}

/* One entry a definition. An initializer that is also listed as an input (IR 3) is one definition: the initializer. */
static xai_status collect_names(importer *self)
{
    const onnx_graph *file = &self->model->graph;
    size_t count = 0, total = 0;
    if (!size_add(file->input_count, file->initializer_count, &total))
        return out_of_memory(self);
    for (size_t i = 0; i < file->node_count; i++)
        if (!size_add(total, file->nodes[i].output_count, &total))
            return out_of_memory(self);
    self->names = memory_allocate(total, sizeof *self->names);
    if (!self->names)
        return error_memory(self->error, "the names of the graph", total * sizeof *self->names);
    for (size_t i = 0; i < file->initializer_count; i++) {
        const char *name = file->initializers[i].name;
        self->names[count] = (definition_entry){name, "an initializer", count, GRAPH_NONE};
        count++;
    }
    for (size_t i = 0; i < file->node_count; i++)
        for (size_t k = 0; k < file->nodes[i].output_count; k++) {
            const char *name = file->nodes[i].outputs[k];
            if (!*name)
                continue;
            self->names[count] = (definition_entry){name, "a node", count, GRAPH_NONE};
            count++;
        }
    for (size_t i = 0; i < file->input_count; i++) {
        const char *name = file->inputs[i].name;
        self->names[count] = (definition_entry){name, "an input", count, GRAPH_NONE};
        count++;
    }
    qsort(self->names, count, sizeof *self->names, compare_names);
    size_t unique = 0;
    for (size_t i = 0; i < count; i++) {
        const definition_entry *entry = &self->names[i];
        if (!*entry->name)
            return error_set(self->error, XAI_ERROR_FORMAT, NULL, "%s of the graph has no name",
                             entry->place);
        const definition_entry *first = unique > 0 ? &self->names[unique - 1] : NULL;
        if (!first || strcmp(first->name, entry->name) != 0) {
            self->names[unique++] = *entry;
        } else if (strcmp(first->place, "an initializer") != 0 ||
                   strcmp(entry->place, "an input") != 0) {
            return error_set(self->error, XAI_ERROR_FORMAT, NULL,
                             "the name '%s' is defined twice, by %s and by %s", entry->name,
                             first->place, entry->place);
        }
    }
    self->name_count = unique;
    return XAI_OK;
}

static xai_status add_inputs(importer *self)
{
    graph *to = self->graph;
    const onnx_graph *file = &self->model->graph;
    to->inputs = memory_allocate(file->input_count, sizeof *to->inputs);
    if (!to->inputs)
        return out_of_memory(self);
    for (size_t i = 0; i < file->input_count; i++) {
        const onnx_value *input = &file->inputs[i];
        definition_entry *entry = find_name(self, input->name);
        if (strcmp(entry->place, "an initializer") == 0)
            continue;
        if (entry->value != GRAPH_NONE)
            return error_set(self->error, XAI_ERROR_FORMAT, NULL, "the input '%s' is listed twice",
                             input->name);
        if (input->dtype == DTYPE_UNDEFINED)
            return error_set(self->error, XAI_ERROR_UNSUPPORTED, NULL, "input '%s' is not a tensor",
                             input->name);
        entry->value =
            graph_add_value(to, input->name, input->dtype, input->has_shape ? &input->shape : NULL);
        if (entry->value == GRAPH_NONE)
            return out_of_memory(self);
        to->values[entry->value].varies = true;
        to->inputs[to->input_count++] = entry->value;
    }
    for (size_t i = 0; i < file->initializer_count; i++) {
        const onnx_named_tensor *initializer = &file->initializers[i];
        tensor view = initializer->tensor;
        view.owned = false;
        definition_entry *entry = find_name(self, initializer->name);
        entry->value = graph_add_constant(to, initializer->name, &view);
        if (entry->value == GRAPH_NONE)
            return out_of_memory(self);
    }
    return XAI_OK;
}

static const char *node_name(importer *self, const onnx_node *node, size_t index)
{
    if (*node->name)
        return node->name;
    text name = {0};
    text_format(&name, "%s_%zu", node->op_type, index);
    const char *copy =
        name.bytes ? memory_pool_text(self->graph->pool, name.bytes, name.length) : NULL;
    text_free(&name);
    return copy;
}

/* The tensor of a Constant node; payloads stay in the file or in the pool. */
static xai_status constant_tensor(importer *self, const onnx_node *node, const char *place,
                                  tensor *out)
{
    memory_pool *pool = self->graph->pool;
    const onnx_attribute *found = NULL;
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strncmp(node->attributes[i].name, "value", 5) == 0 ||
            strcmp(node->attributes[i].name, "sparse_value") == 0)
            found = &node->attributes[i];
    if (!found)
        return error_set(self->error, XAI_ERROR_FORMAT, place, "no attribute 'value'");
    const int64_t count = (int64_t)found->count;
    const shape vector = shape_make(1, &count), scalar = shape_make(0, NULL);
    *out = (tensor){.shape = scalar};
    if (strcmp(found->name, "value") == 0 && found->type == ONNX_ATTRIBUTE_TENSOR) {
        *out = found->tensor;
        out->owned = false;
    } else if (strcmp(found->name, "value_float") == 0 && found->type == ONNX_ATTRIBUTE_FLOAT) {
        float *value = memory_pool_allocate(pool, 1, sizeof *value);
        if (!value)
            return out_of_memory(self);
        *value = found->f;
        out->dtype = DTYPE_FLOAT;
        out->data = value;
    } else if (strcmp(found->name, "value_int") == 0 && found->type == ONNX_ATTRIBUTE_INT) {
        int64_t *value = memory_pool_allocate(pool, 1, sizeof *value);
        if (!value)
            return out_of_memory(self);
        *value = found->i;
        out->dtype = DTYPE_INT64;
        out->data = value;
    } else if ((strcmp(found->name, "value_floats") == 0 && found->type == ONNX_ATTRIBUTE_FLOATS) ||
               (strcmp(found->name, "value_ints") == 0 && found->type == ONNX_ATTRIBUTE_INTS)) {
        const bool floats = found->type == ONNX_ATTRIBUTE_FLOATS;
        const size_t size = floats ? sizeof(float) : sizeof(int64_t);
        out->dtype = floats ? DTYPE_FLOAT : DTYPE_INT64;
        out->shape = vector;
        out->data = memory_pool_allocate(pool, found->count ? found->count : 1, size);
        if (!out->data)
            return out_of_memory(self);
        if (found->count)
            memcpy(out->data, floats ? (const void *)found->floats : (const void *)found->ints,
                   found->count * size);
    } else {
        return error_set(self->error, XAI_ERROR_UNSUPPORTED, place,
                         "a constant given by attribute '%s' is not supported", found->name);
    }
    return XAI_OK;
}

/* Values of a node's outputs. An output without a name gets one when the operator must give it. */
static xai_status add_outputs(importer *self, const onnx_node *node, const char *name,
                              const operator_definition *definition, int *out)
{
    for (size_t k = 0; k < node->output_count; k++) {
        out[k] = GRAPH_NONE;
        if (*node->outputs[k]) {
            definition_entry *entry = find_name(self, node->outputs[k]);
            out[k] = entry->value = graph_add_value(self->graph, node->outputs[k], 0, NULL);
        } else if (definition &&
                   (k < definition->min_outputs || definition->max_outputs == OPERATOR_VARIADIC)) {
            text unnamed = {0};
            text_format(&unnamed, "xai:%s:%zu", name, k);
            if (unnamed.bytes && !unnamed.failed)
                out[k] = graph_add_value(self->graph, unnamed.bytes, 0, NULL);
            text_free(&unnamed);
        } else {
            continue;
        }
        if (out[k] == GRAPH_NONE)
            return out_of_memory(self);
    }
    return XAI_OK;
}

static xai_status resolve_inputs(importer *self, const onnx_node *node, const char *place, int *out)
{
    for (size_t k = 0; k < node->input_count; k++) {
        out[k] = GRAPH_NONE;
        if (!*node->inputs[k])
            continue;
        const definition_entry *entry = find_name(self, node->inputs[k]);
        if (!entry)
            return error_set(self->error, XAI_ERROR_FORMAT, place,
                             "input '%s' is defined nowhere in the graph", node->inputs[k]);
        out[k] = entry->value;
    }
    return XAI_OK;
}

/* A node between the two passes of add_nodes. */
typedef struct prepared_node {
    const char *name, *place;
    const onnx_function *function; /* NULL but for calls */
    int *outputs;                  /* NULL for Constant */
} prepared_node;

static xai_status add_constant_node(importer *self, const onnx_node *node, const char *place)
{
    tensor value;
    const xai_status status = constant_tensor(self, node, place, &value);
    if (status != XAI_OK)
        return status;
    if (node->output_count != 1 || !*node->outputs[0])
        return error_set(self->error, XAI_ERROR_FORMAT, place, "a constant has one output, not %zu",
                         node->output_count);
    definition_entry *entry = find_name(self, node->outputs[0]);
    entry->value = graph_add_constant(self->graph, node->outputs[0], &value);
    return entry->value == GRAPH_NONE ? out_of_memory(self) : XAI_OK;
}

/* Check a node and make the values that it defines. */
static xai_status prepare_node(importer *self, size_t index, prepared_node *out)
{
    graph *to = self->graph;
    const onnx_node *node = &self->model->graph.nodes[index];
    out->name = node_name(self, node, index);
    if (out->name)
        out->place = graph_place_text(to, node->domain, node->op_type, out->name);
    if (!out->place)
        return out_of_memory(self);
    if (!*node->domain && strcmp(node->op_type, "Constant") == 0)
        return add_constant_node(self, node, out->place);
    const operator_definition *definition = NULL;
    int opset;
    xai_status status = XAI_OK;
    out->function = body_function(&self->scope, node);
    if (!out->function)
        status = body_check_node(&self->scope, node, out->place, &definition, &opset, self->error);
    if (status != XAI_OK)
        return status;
    out->outputs = memory_pool_allocate(to->pool, node->output_count ? node->output_count : 1,
                                        sizeof *out->outputs);
    if (!out->outputs)
        return out_of_memory(self);
    return add_outputs(self, node, out->name, definition, out->outputs);
}

static int resolve_name(const void *user, const char *name)
{
    const definition_entry *found = find_name(user, name);
    return found ? found->value : GRAPH_NONE;
}

/* Two passes, since nodes may come in any order: the values that nodes define, then the nodes that
 * read them. */
static xai_status add_nodes(importer *self)
{
    graph *to = self->graph;
    const onnx_graph *file = &self->model->graph;
    xai_status status = XAI_OK;
    size_t widest = 1;
    for (size_t i = 0; i < file->node_count; i++)
        if (file->nodes[i].input_count > widest)
            widest = file->nodes[i].input_count;
    prepared_node *prepared = memory_allocate_zeroed(file->node_count, sizeof *prepared);
    int *inputs = memory_allocate(widest, sizeof *inputs);
    if (!prepared || !inputs)
        status = out_of_memory(self);
    for (size_t i = 0; i < file->node_count && status == XAI_OK; i++)
        status = prepare_node(self, i, &prepared[i]);
    for (size_t i = 0; i < file->node_count && status == XAI_OK; i++) {
        const onnx_node *node = &file->nodes[i];
        const prepared_node *entry = &prepared[i];
        if (!entry->outputs)
            continue;
        status = resolve_inputs(self, node, entry->place, inputs);
        if (status == XAI_OK && entry->function)
            status = body_call_function(to, &self->scope, entry->function, node, entry->name,
                                        entry->place, inputs, entry->outputs, self->error);
        else if (status == XAI_OK)
            status = body_append_node(to, &self->scope, node, entry->name, entry->place, inputs,
                                      entry->outputs, resolve_name, self, self->error);
    }
    memory_free(prepared);
    memory_free(inputs);
    return status;
}

static bool all_texts(const onnx_graph *file)
{
    for (size_t i = 0; i < file->output_count; i++)
        if (file->outputs[i].dtype != DTYPE_STRING)
            return false;
    return true;
}

/* Texts are no numbers: an output of labels is left out where there are others (the class labels
 * are known by the model's labels). */
static xai_status set_outputs(importer *self)
{
    graph *to = self->graph;
    const onnx_graph *file = &self->model->graph;
    if (file->output_count > MAX_OUTPUTS)
        return error_set(self->error, XAI_ERROR_UNSUPPORTED, NULL,
                         "the graph has %zu outputs (at most %d are supported)", file->output_count,
                         MAX_OUTPUTS);
    if (file->output_count == 0)
        return error_set(self->error, XAI_ERROR_FORMAT, NULL, "the graph has no outputs");
    to->outputs = memory_allocate(file->output_count, sizeof *to->outputs);
    if (!to->outputs)
        return out_of_memory(self);
    const bool with_texts = all_texts(file);
    for (size_t i = 0; i < file->output_count; i++) {
        const onnx_value *output = &file->outputs[i];
        if (output->dtype == DTYPE_STRING && !with_texts)
            continue;
        const definition_entry *entry = find_name(self, output->name);
        if (!entry)
            return error_set(self->error, XAI_ERROR_FORMAT, NULL,
                             "the output '%s' is defined nowhere in the graph", output->name);
        for (size_t k = 0; k < i; k++)
            if (to->outputs[k] == entry->value)
                return error_set(self->error, XAI_ERROR_FORMAT, NULL,
                                 "the output '%s' is listed twice", output->name);
        graph_value *value = &to->values[entry->value];
        if (value->producer != GRAPH_NONE) {
            value->dtype = output->dtype;
            if (output->has_shape)
                value->shape = output->shape;
            if (output->dtype == DTYPE_UNDEFINED) /* a sequence of maps: ZipMap's tensor */
                value->dtype = DTYPE_FLOAT;
        }
        to->outputs[to->output_count++] = entry->value;
    }
    return XAI_OK;
}

/* What only outputs of texts needed. */
static xai_status remove_unread(importer *self)
{
    graph *to = self->graph;
    if (to->output_count == self->model->graph.output_count)
        return XAI_OK;
    bool *protect = memory_allocate_zeroed(to->value_count, sizeof *protect);
    if (!protect)
        return out_of_memory(self);
    for (size_t i = 0; i < to->output_count; i++)
        protect[to->outputs[i]] = true;
    const xai_status status = graph_remove_dead(to, protect, self->error);
    memory_free(protect);
    return status;
}

xai_status graph_import(const onnx_model *model, graph **out, xai_error **error)
{
    importer self = {.model = model,
                     .scope = body_scope_of(model),
                     .graph = graph_create(model),
                     .error = error};
    xai_status status = self.graph ? XAI_OK : out_of_memory(&self);
    if (status == XAI_OK)
        status = check_versions(&self);
    if (status == XAI_OK)
        status = collect_names(&self);
    if (status == XAI_OK)
        status = add_inputs(&self);
    if (status == XAI_OK)
        status = add_nodes(&self);
    if (status == XAI_OK)
        status = set_outputs(&self);
    if (status == XAI_OK)
        status = graph_widen_halves(self.graph, error);
    if (status == XAI_OK)
        status = graph_sort(self.graph, error);
    if (status == XAI_OK)
        status = remove_unread(&self);
    memory_free(self.names);
    if (status == XAI_OK)
        *out = self.graph;
    else
        graph_free(self.graph);
    return status;
}
