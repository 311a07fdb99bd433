/* Nodes that change nothing: y = x. And chains: a view of a view is one view, a transpose of a transpose is one transpose. A
 * Transpose that only moves axes of one element is a view; what a Gather takes out of a Transpose it takes out before. */
#include <string.h>

#include "base/error.h"
#include "graph/rewrite.h"

/* y = x op c with the op's neutral element c, where the result has the shape of x. */
static bool is_neutral_arithmetic(const rewriter *self, const graph_node *node, int *source)
{
    const bool sum = rewrite_is(node, "Add") || rewrite_is(node, "Sub");
    const bool product = rewrite_is(node, "Mul") || rewrite_is(node, "Div");
    const bool power = rewrite_is(node, "Pow");
    double scalar;
    if (node->input_count != 2 || (!sum && !product && !power))
        return false;
    *source = node->inputs[0];
    if (rewrite_scalar(self, node->inputs[1], &scalar) && scalar == (sum ? 0 : 1))
        return true;
    *source = node->inputs[1];
    return (rewrite_is(node, "Add") || rewrite_is(node, "Mul")) &&
           rewrite_scalar(self, node->inputs[0], &scalar) && scalar == (sum ? 0 : 1);
}

static bool all_equal(const rewriter *self, const graph_node *node, const char *attribute,
                      int input, int64_t expected)
{
    int64_t values[2 * SHAPE_MAX_RANK];
    size_t count;
    bool present;
    if (!rewrite_ints(self, node, attribute, input, values, 2 * SHAPE_MAX_RANK, &count, &present))
        return false;
    for (size_t i = 0; i < count; i++)
        if (values[i] != expected)
            return false;
    return true;
}

/* Moving axes of size 1 about does not count: the bytes change place only when axes longer than 1 change their order. */
static bool transpose_axes(const graph_node *node, int rank, int64_t axes[SHAPE_MAX_RANK])
{
    const onnx_attribute *perm = rewrite_attribute(node, "perm");
    if (perm && (perm->type != ONNX_ATTRIBUTE_INTS || perm->count != (size_t)rank))
        return false;
    for (int i = 0; i < rank; i++)
        axes[i] = perm ? perm->ints[i] : rank - 1 - i;
    return true;
}

/* The input that the node's output equals, or GRAPH_NONE. */
static int identical_input(const rewriter *self, const graph_node *node)
{
    if (*node->definition->domain || node->input_count < 1)
        return GRAPH_NONE;
    int source = node->inputs[0];
    bool same = false;
    if (rewrite_is(node, "Dropout")) {
        double training = 0;
        same = node->input_count < 3 || node->inputs[2] == GRAPH_NONE ||
               (rewrite_scalar(self, node->inputs[2], &training) && training == 0);
        const tensor *mode = node->input_count < 3 ? NULL : rewrite_constant(self, node->inputs[2]);
        if (mode && mode->dtype == DTYPE_BOOL && tensor_count(mode) == 1)
            same = tensor_get_int(mode, 0) == 0;
    } else if (node->definition->flags & OPERATOR_VIEW) {
        same = true;
    } else if (rewrite_is(node, "Cast") || rewrite_is(node, "Expand")) {
        same = true; /* with the type and shape compared below */
    } else if (rewrite_is(node, "Concat") || rewrite_is(node, "Sum") || rewrite_is(node, "Max") ||
               rewrite_is(node, "Min") || rewrite_is(node, "Mean")) {
        same = node->input_count == 1;
    } else if (rewrite_is(node, "Pad")) {
        same = all_equal(self, node, "pads", 1, 0);
    } else if (rewrite_is(node, "Slice")) {
        same = all_equal(self, node, "steps", 4, 1); /* the whole axis at step 1 */
    } else if (rewrite_is(node, "Transpose")) {
        int64_t axes[SHAPE_MAX_RANK];
        const int rank = rewrite_value(self, source)->shape.rank;
        same = transpose_axes(node, rank, axes);
        for (int i = 0; i < rank && same; i++)
            same = axes[i] == i;
    } else if (rewrite_is(node, "AveragePool") || rewrite_is(node, "MaxPool")) {
        same = all_equal(self, node, "kernel_shape", -1, 1) &&
               all_equal(self, node, "pads", -1, 0) && all_equal(self, node, "strides", -1, 1);
    } else {
        same = is_neutral_arithmetic(self, node, &source);
    }
    if (!same || source == GRAPH_NONE)
        return GRAPH_NONE;
    const graph_value *from = rewrite_value(self, source);
    const graph_value *to = rewrite_value(self, node->outputs[0]);
    return from->dtype == to->dtype && shape_equal(&from->shape, &to->shape) ? source : GRAPH_NONE;
}

static bool is_reshaping(const graph_node *node)
{
    return rewrite_is(node, "Reshape") || rewrite_is(node, "Flatten") ||
           rewrite_is(node, "Squeeze") || rewrite_is(node, "Unsqueeze");
}

/* The node becomes a Reshape of `source` to the shape of its output. */
static xai_status make_view(rewriter *self, int index, int source)
{
    const graph_node *node = &self->graph->nodes[index];
    const shape dims = rewrite_value(self, node->outputs[0])->shape;
    const int target = rewrite_add_ints(self, node->name, dims.dims, (size_t)dims.rank);
    if (target == GRAPH_NONE)
        return error_memory(self->error, "a shape", sizeof dims);
    const int inputs[] = {source, target};
    const replacement with = {
        .domain = "", .op = "Reshape", .inputs = inputs, .input_count = 2, .opset = 14};
    return rewrite_replace(self, index, &with, NULL);
}

/* Reshape(view(x)) -> Reshape(x) */
static xai_status merge_views(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    const int middle = node->inputs[0];
    const int producer = middle == GRAPH_NONE ? GRAPH_NONE : rewrite_value(self, middle)->producer;
    if (producer == GRAPH_NONE || !rewrite_is_inner(self, middle) ||
        !is_reshaping(&self->graph->nodes[producer]))
        return XAI_OK;
    const shape dims = rewrite_value(self, node->outputs[0])->shape;
    for (int i = 0; i < dims.rank; i++)
        if (dims.dims[i] == 0)
            return XAI_OK;
    const int source = self->graph->nodes[producer].inputs[0];
    return make_view(self, index, source);
}

/* Transpose(Transpose(x)) -> Transpose(x) */
static xai_status merge_transposes(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    const graph_node *first = rewrite_producer(self, node->inputs[0], "Transpose");
    const int rank = rewrite_value(self, node->outputs[0])->shape.rank;
    int64_t outer[SHAPE_MAX_RANK], inner[SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK];
    if (!first || rewrite_is_protected(self, node->inputs[0]) ||
        !transpose_axes(node, rank, outer) || !transpose_axes(first, rank, inner))
        return XAI_OK;
    bool undone = true;
    for (int i = 0; i < rank; i++) {
        if (outer[i] < 0 || outer[i] >= rank)
            return XAI_OK;
        axes[i] = inner[outer[i]];
        undone = undone && axes[i] == i;
    }
    if (!undone && !rewrite_is_inner(self, node->inputs[0]))
        return XAI_OK;
    const onnx_attribute perm = rewrite_ints_attribute(self, "perm", axes, (size_t)rank);
    if (!perm.ints)
        return error_memory(self->error, "a transposition", sizeof axes);
    const replacement with = {.domain = "",
                              .op = "Transpose",
                              .inputs = first->inputs,
                              .input_count = 1,
                              .attributes = &perm,
                              .attribute_count = 1,
                              .opset = node->opset};
    return rewrite_replace(self, index, &with, NULL);
}

/* A Transpose that moves only axes of one element is a Reshape. */
static bool keeps_order(const rewriter *self, const graph_node *node)
{
    const shape *x = &rewrite_value(self, node->inputs[0])->shape;
    int64_t axes[SHAPE_MAX_RANK], last = -1;
    if (!transpose_axes(node, x->rank, axes))
        return false;
    for (int i = 0; i < x->rank; i++) {
        if (axes[i] < 0 || axes[i] >= x->rank || x->dims[i] == 0)
            return false;
        if (x->dims[axes[i]] == 1)
            continue;
        if (axes[i] < last)
            return false;
        last = axes[i];
    }
    return true;
}

/* Whether the value is read by Gathers at one constant index alone. */
static bool only_gathered(const rewriter *self, int value)
{
    enum { MAX_READERS = 8 };
    int found[MAX_READERS];
    const size_t count = graph_consumers(self->graph, value, found, MAX_READERS);
    for (size_t i = 0; i < count && i < MAX_READERS; i++) {
        const graph_node *node = &self->graph->nodes[found[i]];
        const tensor *at =
            rewrite_is(node, "Gather") ? rewrite_constant(self, node->inputs[1]) : NULL;
        if (!at || at->shape.rank != 0)
            return false;
    }
    return count > 0 && count <= MAX_READERS && !rewrite_is_protected(self, value);
}

/* Gather(Transpose(x), i) -> Transpose(Gather(x, i)): queries, keys and values are taken out before they are moved. */
static xai_status gather_before_transpose(rewriter *self, int index)
{
    graph *g = self->graph;
    const graph_node *node = &g->nodes[index];
    const graph_node *transpose = rewrite_producer(self, node->inputs[0], "Transpose");
    if (!transpose || !only_gathered(self, node->inputs[0]))
        return XAI_OK;
    const graph_value *x = rewrite_value(self, transpose->inputs[0]);
    const int rank = x->shape.rank;
    int64_t axis = rewrite_attribute_int(node, "axis", 0), axes[SHAPE_MAX_RANK],
            rest[SHAPE_MAX_RANK];
    axis += axis < 0 ? rank : 0;
    if (rank < 2 || axis < 0 || axis >= rank || !transpose_axes(transpose, rank, axes))
        return XAI_OK;
    shape dims = {.rank = 0};
    int count = 0;
    for (int i = 0; i < rank; i++) {
        if (axes[i] < 0 || axes[i] >= rank)
            return XAI_OK;
        if (i != axes[axis])
            dims.dims[dims.rank++] = x->shape.dims[i];
        if (i != axis)
            rest[count++] = axes[i] - (axes[i] > axes[axis]);
    }
    const onnx_attribute perm = rewrite_ints_attribute(self, "perm", rest, (size_t)count);
    onnx_attribute *at = memory_pool_allocate(g->pool, 1, sizeof *at);
    if (!perm.ints || !at)
        return error_memory(self->error, "a transposition", sizeof axes);
    *at = (onnx_attribute){.name = "axis", .type = ONNX_ATTRIBUTE_INT, .i = axes[axis]};
    const int inputs[] = {transpose->inputs[0], node->inputs[1]}, opset = node->opset;
    const char *name = node->name;
    const int taken = rewrite_add_value(self, name, x->dtype, &dims);
    if (taken == GRAPH_NONE)
        return error_memory(self->error, "a value", 0);
    const replacement gather = {.domain = "",
                                .op = "Gather",
                                .name = name,
                                .inputs = inputs,
                                .input_count = 2,
                                .attributes = at,
                                .attribute_count = 1,
                                .opset = opset};
    const replacement turned = {.domain = "",
                                .op = "Transpose",
                                .inputs = &taken,
                                .input_count = 1,
                                .attributes = &perm,
                                .attribute_count = 1,
                                .opset = 13};
    const xai_status status = rewrite_append(self, &gather, taken);
    return status == XAI_OK ? rewrite_replace(self, index, &turned, NULL) : status;
}

xai_status rewrite_identity(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    if (node->outputs[0] == GRAPH_NONE)
        return XAI_OK;
    for (int k = 1; k < node->output_count; k++)
        if (node->outputs[k] != GRAPH_NONE)
            return XAI_OK;
    const int same = identical_input(self, node);
    if (same != GRAPH_NONE)
        return rewrite_forward_value(self, index, same);
    if (is_reshaping(node))
        return merge_views(self, index);
    if (rewrite_is(node, "Transpose"))
        return keeps_order(self, node) ? make_view(self, index, node->inputs[0])
                                       : merge_transposes(self, index);
    if (rewrite_is(node, "Gather"))
        return gather_before_transpose(self, index);
    return XAI_OK;
}
