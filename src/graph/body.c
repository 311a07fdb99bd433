#include "graph/body.h"

#include <limits.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "graph/import_ml.h"

enum {
    MAX_ATTRIBUTES = 256,         /* a node */
    MAX_DEPTH = 32,               /* functions and subgraphs within each other */
    MAX_EXPANDED_NODES = 1 << 18, /* of a graph: small files can call themselves large */
};

static xai_status out_of_memory(xai_error **error)
{
    return error_memory(error, "the graph", 0);
}

static const char *domain_text(const char *domain)
{
    return *domain ? domain : "ai.onnx";
}

body_scope body_scope_of(const onnx_model *model)
{
    return (body_scope){.model = model, .opsets = model->opsets, .opset_count = model->opset_count};
}

int64_t body_opset(const body_scope *self, const char *domain)
{
    for (size_t i = 0; i < self->opset_count; i++)
        if (strcmp(self->opsets[i].domain, domain) == 0)
            return self->opsets[i].version;
    return 0;
}

const onnx_function *body_function(const body_scope *self, const onnx_node *node)
{
    for (size_t i = 0; i < self->model->function_count; i++) {
        const onnx_function *function = &self->model->functions[i];
        if (strcmp(function->name, node->op_type) == 0 &&
            strcmp(function->domain, node->domain) == 0 &&
            strcmp(function->overload, node->overload) == 0)
            return function;
    }
    return NULL;
}

/* --- one node --- */

static bool is_control(const operator_definition *definition)
{
    static const char *const names[] = {"If", "Loop", "Scan", NULL};
    for (const char *const *name = names; definition && !*definition->domain && *name; name++)
        if (strcmp(definition->name, *name) == 0)
            return true;
    return false;
}

static xai_status check_attributes(const onnx_node *node, const char *place, bool control,
                                   xai_error **error)
{
    if (node->attribute_count > MAX_ATTRIBUTES)
        return error_set(error, XAI_ERROR_FORMAT, place,
                         "%zu attributes, more than any operator has", node->attribute_count);
    for (size_t i = 0; i < node->attribute_count; i++) {
        const onnx_attribute *attribute = &node->attributes[i];
        if (attribute->type == ONNX_ATTRIBUTE_GRAPH && !control)
            return error_set(error, XAI_ERROR_UNSUPPORTED, place,
                             "a subgraph (attribute '%s') of this operator is not supported",
                             attribute->name);
        for (size_t k = 0; k < i; k++)
            if (strcmp(node->attributes[k].name, attribute->name) == 0)
                return error_set(error, XAI_ERROR_FORMAT, place, "attribute '%s' is given twice",
                                 attribute->name);
    }
    return XAI_OK;
}

static xai_status check_count(const char *what, size_t count, int least, int most,
                              const onnx_node *node, const char *place, xai_error **error)
{
    if (count >= (size_t)least && (most == OPERATOR_VARIADIC || count <= (size_t)most) &&
        count <= INT_MAX / 4)
        return XAI_OK;
    return error_set(error, XAI_ERROR_FORMAT, place, "%zu %s, but %s has %d to %d", count, what,
                     node->op_type, least, most);
}

xai_status body_check_node(const body_scope *self, const onnx_node *node, const char *place,
                           const operator_definition **out, int *opset, xai_error **error)
{
    const int64_t version = body_opset(self, node->domain);
    const operator_definition *definition =
        strcmp(node->domain, "xai") == 0 ? NULL : operator_find(node->domain, node->op_type);
    if (!definition)
        definition = import_ml_find(node->domain, node->op_type);
    if (!definition)
        return error_set(error, XAI_ERROR_UNSUPPORTED, place,
                         "operator '%s' of domain '%s' (opset %lld) is not supported",
                         node->op_type, domain_text(node->domain), (long long)version);
    xai_status status = check_attributes(node, place, is_control(definition), error);
    if (status != XAI_OK)
        return status;
    if (version <= 0 || version > INT_MAX)
        return error_set(error, XAI_ERROR_FORMAT, place,
                         "the model does not say which opset of domain '%s' it uses",
                         domain_text(node->domain));
    if (version < definition->since)
        return error_set(error, XAI_ERROR_UNSUPPORTED, place,
                         "operator '%s' is supported from opset %d on, the model uses opset %lld",
                         node->op_type, definition->since, (long long)version);
    status = check_count("inputs", node->input_count, definition->min_inputs,
                         definition->max_inputs, node, place, error);
    if (status == XAI_OK)
        status = check_count("outputs", node->output_count, definition->min_outputs,
                             definition->max_outputs, node, place, error);
    *out = definition;
    *opset = (int)version;
    return status;
}

/* The node's attributes with references replaced by what the call gave; one that it did not give is left out. */
static xai_status resolve_attributes(graph *to, const body_scope *scope, const onnx_node *node,
                                     const onnx_attribute **out, size_t *count, xai_error **error)
{
    bool refers = false;
    *out = node->attributes;
    *count = node->attribute_count;
    for (size_t i = 0; i < node->attribute_count; i++)
        refers = refers || node->attributes[i].reference;
    if (!refers)
        return XAI_OK;
    onnx_attribute *made = memory_pool_allocate(to->pool, node->attribute_count, sizeof *made);
    if (!made)
        return out_of_memory(error);
    *count = 0;
    for (size_t i = 0; i < node->attribute_count; i++) {
        const onnx_attribute *from = &node->attributes[i];
        for (size_t k = 0; from && from->reference && k < scope->bound_count; k++)
            if (strcmp(scope->bound[k].name, from->reference) == 0)
                from = &scope->bound[k];
        if (from->reference)
            continue;
        made[*count] = *from;
        made[(*count)++].name = node->attributes[i].name;
    }
    *out = made;
    return XAI_OK;
}

/* --- names that subgraphs take from around them --- */

typedef struct name_list {
    const char **names;
    size_t count, capacity;
} name_list;

static bool list_has(const name_list *self, const char *name)
{
    for (size_t i = 0; i < self->count; i++)
        if (strcmp(self->names[i], name) == 0)
            return true;
    return false;
}

static xai_status list_add(name_list *self, const char *name, xai_error **error)
{
    void *names = self->names;
    const bool grown = array_reserve(&names, &self->capacity, self->count + 1, sizeof name);
    self->names = names;
    if (!grown)
        return out_of_memory(error);
    self->names[self->count++] = name;
    return XAI_OK;
}

/* A name that is read: one from around when nothing inside has it. */
static xai_status note_use(const name_list *inside, name_list *taken, const char *name,
                           xai_error **error)
{
    if (!*name || list_has(inside, name) || list_has(taken, name))
        return XAI_OK;
    return list_add(taken, name, error);
}

/* Names read by a subgraph and those within it, but defined by neither. `inside` holds what is defined on the way in and is
 * left as it was. */
static xai_status find_taken(const onnx_graph *body, name_list *inside, name_list *taken,
                             xai_error **error)
{
    const size_t before = inside->count;
    xai_status status = XAI_OK;
    for (size_t i = 0; i < body->input_count && status == XAI_OK; i++)
        status = list_add(inside, body->inputs[i].name, error);
    for (size_t i = 0; i < body->initializer_count && status == XAI_OK; i++)
        status = list_add(inside, body->initializers[i].name, error);
    for (size_t i = 0; i < body->node_count && status == XAI_OK; i++) {
        const onnx_node *node = &body->nodes[i];
        for (size_t k = 0; k < node->input_count && status == XAI_OK; k++)
            status = note_use(inside, taken, node->inputs[k], error);
        for (size_t k = 0; k < node->attribute_count && status == XAI_OK; k++)
            if (node->attributes[k].type == ONNX_ATTRIBUTE_GRAPH && node->attributes[k].graph)
                status = find_taken(node->attributes[k].graph, inside, taken, error);
        for (size_t k = 0; k < node->output_count && status == XAI_OK; k++)
            status = list_add(inside, node->outputs[k], error);
    }
    for (size_t i = 0; i < body->output_count && status == XAI_OK; i++)
        status = note_use(inside, taken, body->outputs[i].name, error);
    inside->count = before;
    return status;
}

/* Declared inputs and captured values of a control node, and what it carries. */
static xai_status make_control(graph *to, const body_scope *scope, const onnx_node *node,
                               const onnx_attribute *attributes, size_t attribute_count,
                               const char *place, const int *declared, body_resolver resolve,
                               const void *user, int **inputs, graph_control **out,
                               xai_error **error)
{
    name_list inside = {0}, taken = {0};
    xai_status status = XAI_OK;
    for (size_t i = 0; i < attribute_count && status == XAI_OK; i++)
        if (attributes[i].type == ONNX_ATTRIBUTE_GRAPH && attributes[i].graph)
            status = find_taken(attributes[i].graph, &inside, &taken, error);
    graph_control *made = memory_pool_allocate(to->pool, 1, sizeof *made);
    const char **names = memory_pool_allocate(to->pool, taken.count + 1, sizeof *names);
    *inputs = memory_allocate(node->input_count + taken.count, sizeof **inputs);
    if (status == XAI_OK && (!made || !names || !*inputs))
        status = out_of_memory(error);
    for (size_t i = 0; i < node->input_count && status == XAI_OK; i++)
        (*inputs)[i] = declared[i];
    for (size_t i = 0; i < taken.count && status == XAI_OK; i++) {
        names[i] = taken.names[i];
        (*inputs)[node->input_count + i] = resolve(user, names[i]);
        if ((*inputs)[node->input_count + i] == GRAPH_NONE)
            status = error_set(error, XAI_ERROR_FORMAT, place,
                               "its subgraph reads '%s', which is defined nowhere", names[i]);
    }
    if (status == XAI_OK)
        *made = (graph_control){.scope = *scope,
                                .declared = (int)node->input_count,
                                .captures = names,
                                .capture_count = (int)taken.count};
    *out = made;
    memory_free(inside.names);
    memory_free(taken.names);
    return status;
}

static xai_status append_plain(graph *to, const ml_node *whole, xai_error **error)
{
    bool done = false;
    const xai_status status = import_ml(to, whole, &done, error);
    if (status != XAI_OK || done)
        return status;
    int count = (int)whole->input_count;
    while (count > whole->definition->min_inputs && whole->inputs[count - 1] == GRAPH_NONE)
        count--;
    return graph_append_node(to, whole->definition, whole->name, whole->place, whole->inputs, count,
                             whole->outputs, (int)whole->output_count, whole->attributes,
                             whole->attribute_count, whole->opset) < 0
               ? out_of_memory(error)
               : XAI_OK;
}

xai_status body_append_node(graph *to, const body_scope *scope, const onnx_node *node,
                            const char *name, const char *place, const int *inputs,
                            const int *outputs, body_resolver resolve, const void *user,
                            xai_error **error)
{
    ml_node whole = {.name = name,
                     .place = place,
                     .input_count = node->input_count,
                     .output_count = node->output_count,
                     .inputs = inputs,
                     .outputs = outputs};
    int *all = NULL;
    graph_control *control = NULL;
    xai_status status = body_check_node(scope, node, place, &whole.definition, &whole.opset, error);
    if (status == XAI_OK)
        status =
            resolve_attributes(to, scope, node, &whole.attributes, &whole.attribute_count, error);
    for (size_t k = 0; k < node->input_count && status == XAI_OK; k++)
        if (inputs[k] == GRAPH_NONE && !is_control(whole.definition) &&
            (k < whole.definition->min_inputs || whole.definition->max_inputs == OPERATOR_VARIADIC))
            status = error_set(error, XAI_ERROR_FORMAT, place,
                               "input %zu is omitted, but %s needs it", k, node->op_type);
    if (status != XAI_OK)
        return status;
    if (!is_control(whole.definition))
        return append_plain(to, &whole, error);
    status = make_control(to, scope, node, whole.attributes, whole.attribute_count, place, inputs,
                          resolve, user, &all, &control, error);
    if (status == XAI_OK) {
        const int index = graph_append_node(
            to, whole.definition, name, place, all, control->declared + control->capture_count,
            outputs, (int)node->output_count, whole.attributes, whole.attribute_count, whole.opset);
        if (index < 0)
            status = out_of_memory(error);
        else
            to->nodes[index].control = control;
    }
    memory_free(all);
    return status;
}

/* --- bodies --- */

/* The names of a body while its nodes are appended. */
typedef struct environment {
    body_name *names;
    size_t count, capacity;
} environment;

static int environment_find(const void *user, const char *name)
{
    const environment *self = user;
    for (size_t i = self->count; i-- > 0;)
        if (strcmp(self->names[i].name, name) == 0)
            return self->names[i].value;
    return GRAPH_NONE;
}

static xai_status environment_add(environment *self, const char *name, int value, xai_error **error)
{
    void *names = self->names;
    const bool grown = array_reserve(&names, &self->capacity, self->count + 1, sizeof *self->names);
    self->names = names;
    if (!grown)
        return out_of_memory(error);
    self->names[self->count++] = (body_name){name, value};
    return XAI_OK;
}

/* "prefix/name" in the graph's pool. */
static const char *inner_name(graph *to, const char *prefix, const char *name)
{
    text joined = {0};
    text_format(&joined, "%s/%s", prefix, name);
    const char *copy = joined.bytes && !joined.failed
                           ? memory_pool_text(to->pool, joined.bytes, joined.length)
                           : NULL;
    text_free(&joined);
    return copy;
}

/* Values for the outputs of a body's node: those that `given` has already, else new ones. */
static xai_status make_outputs(graph *to, const onnx_node *node, const char *prefix,
                               const environment *given, environment *names, int *out,
                               xai_error **error)
{
    xai_status status = XAI_OK;
    for (size_t k = 0; k < node->output_count && status == XAI_OK; k++) {
        const char *name = node->outputs[k];
        out[k] = *name ? environment_find(given, name) : GRAPH_NONE;
        if (*name && environment_find(names, name) != GRAPH_NONE)
            return error_set(error, XAI_ERROR_FORMAT, prefix, "'%s' is defined twice", name);
        if (out[k] == GRAPH_NONE) {
            const char *full = inner_name(to, prefix, *name ? name : "unnamed");
            out[k] = full ? graph_add_value(to, full, 0, NULL) : GRAPH_NONE;
            if (out[k] == GRAPH_NONE)
                return out_of_memory(error);
        }
        if (*name)
            status = environment_add(names, name, out[k], error);
    }
    return status;
}

/* One node of a body. `given`: outputs of the body whose values exist already. */
static xai_status append_inner(graph *to, const body_scope *scope, const onnx_node *node,
                               size_t index, const char *prefix, const environment *given,
                               environment *names, xai_error **error)
{
    text own = {0};
    if (*node->name)
        text_append(&own, node->name);
    else
        text_format(&own, "%s_%zu", node->op_type, index);
    const char *name = own.bytes && !own.failed ? inner_name(to, prefix, own.bytes) : NULL;
    text_free(&own);
    const char *place = name ? graph_place_text(to, node->domain, node->op_type, name) : NULL;
    int *inputs = memory_allocate(node->input_count, sizeof *inputs),
        *outputs = memory_allocate(node->output_count, sizeof *outputs);
    xai_status status = place && inputs && outputs ? XAI_OK : out_of_memory(error);
    if (status == XAI_OK && to->node_count >= MAX_EXPANDED_NODES)
        status = error_set(error, XAI_ERROR_UNSUPPORTED, place,
                           "the model has more than %d nodes with its functions and loops written "
                           "out",
                           MAX_EXPANDED_NODES);
    for (size_t k = 0; k < node->input_count && status == XAI_OK; k++) {
        inputs[k] = *node->inputs[k] ? environment_find(names, node->inputs[k]) : GRAPH_NONE;
        if (*node->inputs[k] && inputs[k] == GRAPH_NONE)
            status = error_set(error, XAI_ERROR_FORMAT, place,
                               "input '%s' is not defined before this node", node->inputs[k]);
    }
    if (status == XAI_OK)
        status = make_outputs(to, node, prefix, given, names, outputs, error);
    const onnx_function *function = body_function(scope, node);
    if (status == XAI_OK && function)
        status = body_call_function(to, scope, function, node, name, place, inputs, outputs, error);
    else if (status == XAI_OK)
        status = body_append_node(to, scope, node, name, place, inputs, outputs, environment_find,
                                  names, error);
    memory_free(inputs);
    memory_free(outputs);
    return status;
}

static xai_status check_depth(const body_scope *scope, const char *place, xai_error **error)
{
    return scope->depth < MAX_DEPTH
               ? XAI_OK
               : error_set(error, XAI_ERROR_UNSUPPORTED, place,
                           "functions call each other more than %d deep, or themselves", MAX_DEPTH);
}

/* The attributes of a call with the function's defaults behind them: the first of a name counts. */
static xai_status bind_attributes(graph *to, const body_scope *scope, const onnx_function *function,
                                  const onnx_node *node, body_scope *inner, xai_error **error)
{
    const onnx_attribute *given;
    size_t count;
    xai_status status = resolve_attributes(to, scope, node, &given, &count, error);
    if (status != XAI_OK)
        return status;
    onnx_attribute *bound =
        memory_pool_allocate(to->pool, count + function->default_count + 1, sizeof *bound);
    if (!bound)
        return out_of_memory(error);
    if (count)
        memcpy(bound, given, count * sizeof *bound);
    if (function->default_count)
        memcpy(bound + count, function->defaults, function->default_count * sizeof *bound);
    *inner = (body_scope){.model = scope->model,
                          .opsets = function->opsets,
                          .opset_count = function->opset_count,
                          .bound = bound,
                          .bound_count = count + function->default_count,
                          .depth = scope->depth + 1};
    return XAI_OK;
}

xai_status body_call_function(graph *to, const body_scope *scope, const onnx_function *function,
                              const onnx_node *node, const char *name, const char *place,
                              const int *inputs, const int *outputs, xai_error **error)
{
    environment names = {0}, given = {0};
    body_scope inner;
    xai_status status = check_depth(scope, place, error);
    if (status == XAI_OK &&
        (node->input_count > function->input_count || node->output_count > function->output_count))
        status = error_set(error, XAI_ERROR_FORMAT, place,
                           "%zu inputs and %zu outputs, but the function has %zu and %zu",
                           node->input_count, node->output_count, function->input_count,
                           function->output_count);
    if (status == XAI_OK)
        status = bind_attributes(to, scope, function, node, &inner, error);
    for (size_t i = 0; i < node->input_count && status == XAI_OK; i++)
        if (inputs[i] != GRAPH_NONE)
            status = environment_add(&names, function->inputs[i], inputs[i], error);
    for (size_t i = 0; i < node->output_count && status == XAI_OK; i++)
        if (outputs[i] != GRAPH_NONE)
            status = environment_add(&given, function->outputs[i], outputs[i], error);
    for (size_t i = 0; i < function->node_count && status == XAI_OK; i++) {
        /* A formal input that the call leaves out is left out inside. */
        onnx_node inside = function->nodes[i];
        const char **read = memory_pool_allocate(to->pool, inside.input_count + 1, sizeof *read);
        if (!read) {
            status = out_of_memory(error);
            break;
        }
        for (size_t k = 0; k < inside.input_count; k++) {
            read[k] = inside.inputs[k];
            for (size_t f = 0; f < function->input_count; f++)
                if (strcmp(function->inputs[f], read[k]) == 0 &&
                    environment_find(&names, read[k]) == GRAPH_NONE)
                    read[k] = "";
        }
        inside.inputs = read;
        status = append_inner(to, &inner, &inside, i, name, &given, &names, error);
    }
    for (size_t i = 0; i < given.count && status == XAI_OK; i++)
        if (environment_find(&names, given.names[i].name) == GRAPH_NONE)
            status =
                error_set(error, XAI_ERROR_FORMAT, place,
                          "no node of the function makes its output '%s'", given.names[i].name);
    memory_free(names.names);
    memory_free(given.names);
    return status;
}

xai_status body_append_graph(graph *to, const body_scope *scope, const onnx_graph *body,
                             const char *prefix, const char *place, const body_name *known,
                             size_t known_count, int *results, xai_error **error)
{
    environment names = {0};
    const environment none = {0};
    body_scope inner = *scope;
    xai_status status = check_depth(scope, place, error);
    inner.depth++;
    for (size_t i = 0; i < known_count && status == XAI_OK; i++)
        status = environment_add(&names, known[i].name, known[i].value, error);
    for (size_t i = 0; i < body->initializer_count && status == XAI_OK; i++) {
        tensor view = body->initializers[i].tensor;
        view.owned = false;
        const char *name = inner_name(to, prefix, body->initializers[i].name);
        const int value = name ? graph_add_constant(to, name, &view) : GRAPH_NONE;
        status = value == GRAPH_NONE
                     ? out_of_memory(error)
                     : environment_add(&names, body->initializers[i].name, value, error);
    }
    for (size_t i = 0; i < body->node_count && status == XAI_OK; i++)
        status = append_inner(to, &inner, &body->nodes[i], i, prefix, &none, &names, error);
    for (size_t i = 0; i < body->output_count && status == XAI_OK; i++) {
        results[i] = environment_find(&names, body->outputs[i].name);
        if (results[i] == GRAPH_NONE)
            status = error_set(error, XAI_ERROR_FORMAT, place,
                               "the output '%s' of its subgraph is defined nowhere",
                               body->outputs[i].name);
    }
    memory_free(names.names);
    return status;
}
