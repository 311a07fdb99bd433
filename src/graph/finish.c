/* The end of a graph whose shapes are known only when the values are: what NonZero, NonMaxSuppression or an If computed from
 * data make of them. A plan needs static shapes, so these nodes are taken out of the graph that is planned, into a small graph
 * of their own. Behind every run it is computed node by node from the values on the border (the frontier): for its copy they
 * are constants, so that shapes, branches and loops are worked out by the code that folds constants. */
#include <string.h>

#include "base/error.h"
#include "graph/graph.h"
#include "graph/private.h"

struct graph_end {
    graph *nodes;  /* what was taken out, with value ids of its own; inputs: the frontier */
    int *inside;   /* by value id of the planned graph: the id in `nodes`, or GRAPH_NONE */
    size_t count;  /* of `inside` */
    int *frontier; /* value ids of the planned graph, one an input of `nodes` */
};

void graph_end_free(graph_end *self)
{
    if (!self)
        return;
    graph_free(self->nodes);
    memory_free(self->inside);
    memory_free(self->frontier);
    memory_free(self);
}

static xai_status out_of_memory(xai_error **error)
{
    return error_memory(error, "the nodes whose shapes depend on data", 0);
}

/* The end's own value for a value of the graph, made when it is asked for first. Constants change hands. */
static int end_value(graph_end *self, graph *from, int id)
{
    if (id == GRAPH_NONE || self->inside[id] != GRAPH_NONE)
        return id == GRAPH_NONE ? GRAPH_NONE : self->inside[id];
    graph_value *value = &from->values[id];
    const int made = graph_add_value(self->nodes, value->name, value->dtype, &value->shape);
    if (made == GRAPH_NONE)
        return GRAPH_NONE;
    if (value->is_constant) {
        graph_value *to = &self->nodes->values[made];
        to->is_constant = true;
        to->constant = value->constant;
        value->constant.owned = false;
    } else if (!value->late) {
        self->frontier[self->nodes->input_count] = id;
        self->nodes->inputs[self->nodes->input_count++] = made;
    }
    self->inside[id] = made;
    return made;
}

static xai_status take_node(graph_end *self, graph *from, graph_node *node, int *ids,
                            xai_error **error)
{
    int *inputs = ids, *outputs = ids + node->input_count;
    bool made = true;
    for (int k = 0; k < node->input_count + node->output_count; k++) {
        const int id =
            k < node->input_count ? node->inputs[k] : node->outputs[k - node->input_count];
        ids[k] = end_value(self, from, id);
        made = made && (ids[k] != GRAPH_NONE || id == GRAPH_NONE);
    }
    const int index =
        made ? graph_append_node(self->nodes, node->definition, node->name, node->place, inputs,
                                 node->input_count, outputs, node->output_count, node->attributes,
                                 node->attribute_count, node->opset)
             : -1;
    if (index < 0)
        return out_of_memory(error);
    self->nodes->nodes[index].control = node->control;
    node->removed = true;
    for (int k = 0; k < node->output_count; k++)
        if (node->outputs[k] != GRAPH_NONE) {
            from->values[node->outputs[k]].removed = true;
            from->values[node->outputs[k]].producer = GRAPH_NONE;
        }
    return XAI_OK;
}

static bool is_late(const graph *self, const graph_node *node)
{
    for (int k = 0; k < node->output_count; k++)
        if (node->outputs[k] != GRAPH_NONE && self->values[node->outputs[k]].late)
            return true;
    return false;
}

/* The graph's outputs: those that its plan computes, then the frontier. */
static xai_status replace_outputs(graph *self, const graph_end *end, bool *protect,
                                  xai_error **error)
{
    const size_t frontier = end->nodes->input_count;
    int *outputs = memory_allocate(self->output_count + frontier + 1, sizeof *outputs);
    size_t count = 0;
    if (!outputs)
        return out_of_memory(error);
    for (size_t i = 0; i < self->output_count; i++)
        if (!self->values[self->outputs[i]].late)
            outputs[count++] = self->outputs[i];
    for (size_t i = 0; i < frontier; i++) {
        bool known = false;
        for (size_t k = 0; k < count; k++)
            known = known || outputs[k] == end->frontier[i];
        if (!known)
            outputs[count++] = end->frontier[i];
        protect[end->frontier[i]] = true;
    }
    for (size_t i = 0; i < self->value_count; i++)
        protect[i] = protect[i] && !self->values[i].late;
    memory_free(self->outputs);
    self->outputs = outputs;
    self->output_count = count;
    return XAI_OK;
}

static xai_status end_create(const graph *of, graph_end **out, xai_error **error)
{
    graph_end *self = memory_allocate_zeroed(1, sizeof *self);
    if (!self)
        return out_of_memory(error);
    self->nodes = graph_create(of->source);
    self->count = of->value_count;
    self->inside = memory_allocate(of->value_count, sizeof *self->inside);
    self->frontier = memory_allocate(of->value_count, sizeof *self->frontier);
    if (self->nodes) {
        self->nodes->inputs = memory_allocate(of->value_count, sizeof *self->nodes->inputs);
        self->nodes->outputs = memory_allocate(1, sizeof *self->nodes->outputs);
    }
    if (!self->nodes || !self->inside || !self->frontier || !self->nodes->inputs ||
        !self->nodes->outputs) {
        graph_end_free(self);
        return out_of_memory(error);
    }
    for (size_t i = 0; i < self->count; i++)
        self->inside[i] = GRAPH_NONE;
    *out = self;
    return XAI_OK;
}

xai_status graph_split(graph *self, bool *protect, xai_error **error)
{
    size_t widest = 0, late = 0;
    for (size_t i = 0; i < self->node_count; i++) {
        const graph_node *node = &self->nodes[i];
        const size_t width = (size_t)node->input_count + (size_t)node->output_count;
        if (node->removed || !is_late(self, node))
            continue;
        late++;
        widest = width > widest ? width : widest;
    }
    if (late == 0)
        return XAI_OK;
    int *ids = memory_allocate(widest, sizeof *ids);
    xai_status status = ids ? end_create(self, &self->end, error) : out_of_memory(error);
    for (size_t i = 0; i < self->node_count && status == XAI_OK; i++)
        if (!self->nodes[i].removed && is_late(self, &self->nodes[i]))
            status = take_node(self->end, self, &self->nodes[i], ids, error);
    if (status == XAI_OK)
        status = replace_outputs(self, self->end, protect, error);
    memory_free(ids);
    return status;
}

xai_status graph_check_static(const graph *self, int value, xai_error **error)
{
    const graph_value *found = &self->values[value];
    if (!found->late)
        return XAI_OK;
    return error_set(
        error, XAI_ERROR_UNSUPPORTED, found->late,
        "its result has a shape that depends on data, so '%s' can be computed, but not "
        "explained or differentiated; choose a value in front of this node, such as "
        "the raw scores",
        found->name);
}

const int *graph_frontier(const graph *self, size_t *count)
{
    *count = self->end ? self->end->nodes->input_count : 0;
    return self->end ? self->end->frontier : NULL;
}

/* A value of the finished copy, taken from it. */
static xai_status take_value(graph *work, const int *ids, size_t i, tensor *out, xai_error **error)
{
    graph_value *value = &work->values[ids[i]];
    for (size_t k = 0; k < i; k++)
        if (ids[k] == ids[i])
            return tensor_copy(out, out - (i - k), error);
    if (!value->constant.owned)
        return tensor_copy(out, &value->constant, error);
    *out = value->constant;
    value->constant = (tensor){0};
    return XAI_OK;
}

xai_status graph_finish(const graph *self, const tensor *given, const int *wanted, size_t count,
                        size_t memory_limit, const graph_watch *watch, tensor *out,
                        xai_error **error)
{
    const graph_end *end = self->end;
    graph *work = NULL;
    for (size_t i = 0; i < count; i++)
        out[i] = (tensor){0};
    int *ids = memory_allocate(count, sizeof *ids);
    xai_status status = ids ? graph_copy(end->nodes, &work, error) : out_of_memory(error);
    for (size_t i = 0; status == XAI_OK && i < work->input_count; i++) {
        graph_value *value = &work->values[work->inputs[i]];
        value->dtype = given[i].dtype;
        value->shape = given[i].shape;
        value->is_constant = true;
        value->constant = given[i];
        value->constant.owned = false;
    }
    for (size_t i = 0; status == XAI_OK && i < count; i++) {
        ids[i] = (size_t)wanted[i] < end->count ? end->inside[wanted[i]] : GRAPH_NONE;
        if (ids[i] == GRAPH_NONE)
            status = error_set(error, XAI_ERROR_INTERNAL, NULL,
                               "a value was asked for that is not computed behind the plan");
    }
    if (status == XAI_OK)
        status = graph_compute(work, ids, count, memory_limit, watch, error);
    for (size_t i = 0; status == XAI_OK && i < count; i++)
        status = take_value(work, ids, i, &out[i], error);
    for (size_t i = 0; status != XAI_OK && i < count; i++)
        tensor_free(&out[i]);
    graph_free(work);
    memory_free(ids);
    return status;
}
