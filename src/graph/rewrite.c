#include "graph/rewrite.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "graph/private.h"

/* How many of the rules belong to each level of graph_rewrites. */
enum { NEEDED_RULES = 1, LAYER_RULES = 11, ALL_RULES = 13 };
static const rewrite_rule rules[ALL_RULES] = {
    rewrite_quantise,    rewrite_identity,   rewrite_gemm,       rewrite_affine, rewrite_activation,
    rewrite_gelu,        rewrite_layer_norm, rewrite_group_norm, rewrite_pad,    rewrite_pool,
    rewrite_layer_scale, rewrite_transpose,  rewrite_pool_first,
};

/* Each pass makes the graph smaller or more specific; more than this would be two rules that undo each other. */
enum { MAX_PASSES = 32 };

static xai_status out_of_memory(rewriter *self)
{
    return error_memory(self->error, "the graph", 0);
}

/* Room for the values that were added since; new ones are unread and stand for themselves. */
static bool follow_values(rewriter *self)
{
    const size_t count = self->graph->value_count;
    if (count <= self->capacity)
        return true;
    int *uses = memory_resize(self->uses, 2 * count, sizeof *uses);
    if (!uses)
        return false;
    self->uses = uses;
    int *alias = memory_resize(self->alias, 2 * count, sizeof *alias);
    if (!alias)
        return false;
    self->alias = alias;
    for (size_t i = self->capacity; i < 2 * count; i++) {
        self->uses[i] = 0;
        self->alias[i] = (int)i;
    }
    self->capacity = 2 * count;
    return true;
}

static int resolve(const rewriter *self, int value)
{
    while (value != GRAPH_NONE && self->alias[value] != value)
        value = self->alias[value];
    return value;
}

static void count_uses(rewriter *self)
{
    for (size_t i = 0; i < self->capacity; i++) {
        self->uses[i] = 0;
        self->alias[i] = (int)i;
    }
    for (size_t i = 0; i < self->graph->node_count; i++) {
        const graph_node *node = &self->graph->nodes[i];
        for (int k = 0; !node->removed && k < node->input_count; k++)
            if (node->inputs[k] != GRAPH_NONE)
                self->uses[node->inputs[k]]++;
    }
}

static xai_status pass(rewriter *self, graph_rewrites which)
{
    static const size_t counts[] = {[GRAPH_REWRITES_NEEDED] = NEEDED_RULES,
                                    [GRAPH_REWRITES_LAYERS] = LAYER_RULES,
                                    [GRAPH_REWRITES_ALL] = ALL_RULES};
    const size_t rule_count = counts[which];
    graph *g = self->graph;
    count_uses(self);
    self->changed = self->appended = false;
    const size_t count = g->node_count;
    for (size_t i = 0; i < count; i++) {
        for (int k = 0; k < g->nodes[i].input_count; k++)
            g->nodes[i].inputs[k] = resolve(self, g->nodes[i].inputs[k]);
        for (size_t r = 0; r < rule_count; r++) {
            if (g->nodes[i].removed)
                break;
            const xai_status status = rules[r](self, (int)i);
            if (status != XAI_OK)
                return status;
        }
    }
    return self->appended ? graph_sort(g, self->error) : XAI_OK;
}

xai_status graph_rewrite(graph *self, const bool *protect, graph_rewrites which, xai_error **error)
{
    rewriter state = {
        .graph = self, .protect = protect, .protect_count = self->value_count, .error = error};
    xai_status status = XAI_OK;
    for (int i = 0; i < MAX_PASSES; i++) {
        status = follow_values(&state) ? pass(&state, which) : out_of_memory(&state);
        if (status != XAI_OK || (!state.changed && !state.appended))
            break;
        bool *all = memory_allocate_zeroed(self->value_count, sizeof *all);
        if (!all) {
            status = out_of_memory(&state);
            break;
        }
        memcpy(all, protect, state.protect_count * sizeof *all);
        status = graph_remove_dead(self, all, error);
        memory_free(all);
        if (status != XAI_OK || !state.changed)
            break;
    }
    memory_free(state.uses);
    memory_free(state.alias);
    return status;
}

bool rewrite_is(const graph_node *node, const char *op)
{
    return node && !*node->definition->domain && strcmp(node->definition->name, op) == 0;
}

const graph_value *rewrite_value(const rewriter *self, int value)
{
    return &self->graph->values[value];
}

const graph_node *rewrite_producer(const rewriter *self, int value, const char *op)
{
    if (value == GRAPH_NONE || self->graph->values[value].producer == GRAPH_NONE)
        return NULL;
    const graph_node *node = &self->graph->nodes[self->graph->values[value].producer];
    return !node->removed && node->outputs[0] == value && rewrite_is(node, op) ? node : NULL;
}

bool rewrite_is_protected(const rewriter *self, int value)
{
    return (size_t)value < self->protect_count && self->protect[value];
}

bool rewrite_is_inner(const rewriter *self, int value)
{
    return value != GRAPH_NONE && self->uses[value] == 1 && !rewrite_is_protected(self, value);
}

const tensor *rewrite_constant(const rewriter *self, int value)
{
    if (value == GRAPH_NONE || !self->graph->values[value].is_constant)
        return NULL;
    return &self->graph->values[value].constant;
}

bool rewrite_scalar(const rewriter *self, int value, double *out)
{
    const tensor *constant = rewrite_constant(self, value);
    if (!constant || constant->dtype == DTYPE_STRING || constant->dtype == DTYPE_BOOL ||
        tensor_count(constant) != 1)
        return false;
    *out = tensor_get(constant, 0);
    return true;
}

bool rewrite_is_scalar(const rewriter *self, int value, double expected)
{
    double found;
    return rewrite_scalar(self, value, &found) &&
           fabs(found - expected) <= 1.2e-7 * fabs(expected); /* one rounding to float32 */
}

bool rewrite_scalar_operand(const rewriter *self, const graph_node *node, int *value,
                            double *scalar)
{
    for (int k = 0; k < 2; k++)
        if (node->input_count == 2 && node->inputs[1 - k] != GRAPH_NONE &&
            rewrite_scalar(self, node->inputs[k], scalar)) {
            *value = node->inputs[1 - k];
            return true;
        }
    return false;
}

const onnx_attribute *rewrite_attribute(const graph_node *node, const char *name)
{
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, name) == 0)
            return &node->attributes[i];
    return NULL;
}

int64_t rewrite_attribute_int(const graph_node *node, const char *name, int64_t fallback)
{
    const onnx_attribute *found = rewrite_attribute(node, name);
    return found && found->type == ONNX_ATTRIBUTE_INT ? found->i : fallback;
}

float rewrite_attribute_float(const graph_node *node, const char *name, float fallback)
{
    const onnx_attribute *found = rewrite_attribute(node, name);
    return found && found->type == ONNX_ATTRIBUTE_FLOAT ? found->f : fallback;
}

bool rewrite_ints(const rewriter *self, const graph_node *node, const char *attribute, int input,
                  int64_t *out, size_t capacity, size_t *count, bool *present)
{
    const onnx_attribute *found = rewrite_attribute(node, attribute);
    *count = 0;
    *present = true;
    if (found) {
        if (found->type != ONNX_ATTRIBUTE_INTS || found->count > capacity)
            return false;
        *count = found->count;
        if (found->count)
            memcpy(out, found->ints, found->count * sizeof *out);
        return true;
    }
    if (input < 0 || input >= node->input_count || node->inputs[input] == GRAPH_NONE) {
        *present = false;
        return true;
    }
    const tensor *constant = rewrite_constant(self, node->inputs[input]);
    if (!constant || !dtype_is_integer(constant->dtype) || tensor_count(constant) > capacity)
        return false;
    *count = tensor_count(constant);
    if (*count)
        tensor_read_ints(constant, 0, *count, out);
    return true;
}

/* "conv1.weight~412": a name that says where the value comes from; the number makes it unique. */
static char *derived_name(const rewriter *self, const char *base)
{
    text name = {0};
    text_format(&name, "%s~%zu", base, self->graph->value_count);
    return text_take(&name);
}

int rewrite_add_constant(rewriter *self, const char *base, tensor *data)
{
    char *name = derived_name(self, base);
    int id = name ? graph_add_constant(self->graph, name, data) : GRAPH_NONE;
    memory_free(name);
    tensor_free(data); /* zeroed when it was moved */
    if (id != GRAPH_NONE && !follow_values(self))
        id = GRAPH_NONE;
    return id;
}

int rewrite_add_ints(rewriter *self, const char *base, const int64_t *values, size_t count)
{
    tensor list = {0};
    const int64_t length = (int64_t)count;
    const shape dims = shape_make(1, &length);
    if (tensor_create(&list, DTYPE_INT64, &dims, NULL) != XAI_OK)
        return GRAPH_NONE;
    if (count)
        memcpy(list.data, values, count * sizeof *values);
    return rewrite_add_constant(self, base, &list);
}

int rewrite_add_value(rewriter *self, const char *base, int32_t dtype, const shape *dims)
{
    char *name = derived_name(self, base);
    int id = name ? graph_add_value(self->graph, name, dtype, dims) : GRAPH_NONE;
    memory_free(name);
    if (id != GRAPH_NONE && !follow_values(self))
        id = GRAPH_NONE;
    return id;
}

onnx_attribute rewrite_ints_attribute(rewriter *self, const char *name, const int64_t *values,
                                      size_t count)
{
    int64_t *copy = memory_pool_allocate(self->graph->pool, count ? count : 1, sizeof *copy);
    if (copy && count)
        memcpy(copy, values, count * sizeof *copy);
    return (onnx_attribute){
        .name = name, .type = ONNX_ATTRIBUTE_INTS, .count = count, .ints = copy};
}

/* Whether a node infers exactly this type and shape for its one output. */
static bool infers(const rewriter *self, const graph_node *node, int32_t dtype, const shape *dims)
{
    enum { MAX_INPUTS = 16 };
    const tensor *inputs[MAX_INPUTS];
    tensor *outputs[1];
    tensor storage[MAX_INPUTS + 1];
    operator_call call;
    xai_error *error = NULL;
    if (node->input_count > MAX_INPUTS)
        return false;
    graph_call(self->graph, node, &call, inputs, outputs, storage, &error);
    const xai_status status = node->definition->infer(&call);
    xai_error_free(error);
    return status == XAI_OK && outputs[0]->dtype == dtype && shape_equal(&outputs[0]->shape, dims);
}

xai_status rewrite_replace(rewriter *self, int node, const replacement *with, bool *applied)
{
    graph *g = self->graph;
    const operator_definition *definition = operator_find(with->domain, with->op);
    if (applied)
        *applied = false;
    if (!definition || with->opset < definition->since)
        return XAI_OK;
    int output = g->nodes[node].outputs[0];
    const graph_node *old = &g->nodes[node];
    graph_node made = {
        .definition = definition,
        .name = with->name ? with->name : old->name,
        .attribute_count = with->attribute_count,
        .opset = with->opset,
        .input_count = with->input_count,
        .output_count = 1,
        .outputs = memory_pool_allocate(g->pool, 1, sizeof output),
        .inputs = memory_pool_allocate(g->pool, with->input_count ? (size_t)with->input_count : 1,
                                       sizeof *made.inputs),
    };
    onnx_attribute *attributes = memory_pool_allocate(
        g->pool, with->attribute_count ? with->attribute_count : 1, sizeof *attributes);
    made.place = graph_place_text(g, "", definition->name, made.name);
    if (!made.outputs || !made.inputs || !attributes || !made.place)
        return out_of_memory(self);
    made.outputs[0] = output;
    if (with->input_count)
        memcpy(made.inputs, with->inputs, (size_t)with->input_count * sizeof *made.inputs);
    if (with->attribute_count)
        memcpy(attributes, with->attributes, with->attribute_count * sizeof *attributes);
    made.attributes = attributes;
    if (!infers(self, &made, g->values[output].dtype, &g->values[output].shape))
        return XAI_OK;
    for (int k = 0; k < old->input_count; k++)
        if (old->inputs[k] != GRAPH_NONE)
            self->uses[old->inputs[k]]--;
    for (int k = 0; k < made.input_count; k++)
        if (made.inputs[k] != GRAPH_NONE)
            self->uses[made.inputs[k]]++;
    g->nodes[node] = made;
    self->changed = true;
    if (applied)
        *applied = true;
    return XAI_OK;
}

xai_status rewrite_forward_value(rewriter *self, int node, int value)
{
    graph *g = self->graph;
    graph_node *old = &g->nodes[node];
    const int output = old->outputs[0];
    if (!rewrite_is_protected(self, output)) {
        self->alias[output] = value;
        self->uses[value] += self->uses[output] - 1;
        self->uses[output] = 0;
    } else if (rewrite_is_inner(self, value) && g->values[value].producer != GRAPH_NONE) {
        /* The protected name moves to the node that makes the value. */
        const int producer = g->values[value].producer;
        for (int k = 0; k < g->nodes[producer].output_count; k++)
            if (g->nodes[producer].outputs[k] == value)
                g->nodes[producer].outputs[k] = output;
        g->values[output].producer = producer;
        g->values[value].producer = GRAPH_NONE;
        self->uses[value] = 0;
    } else {
        return XAI_OK;
    }
    for (int k = 0; k < old->input_count; k++)
        if (old->inputs[k] != GRAPH_NONE && old->inputs[k] != value)
            self->uses[old->inputs[k]]--;
    old->removed = true;
    self->changed = true;
    return XAI_OK;
}

xai_status rewrite_append(rewriter *self, const replacement *node, int output)
{
    if (graph_add_node(self->graph, node->domain, node->op, node->name, node->inputs,
                       node->input_count, &output, 1, node->attributes, node->attribute_count,
                       node->opset) < 0)
        return out_of_memory(self);
    for (int k = 0; k < node->input_count; k++)
        if (node->inputs[k] != GRAPH_NONE)
            self->uses[node->inputs[k]]++;
    self->appended = true;
    return XAI_OK;
}
