/* Nodes that change nothing: y = x. And chains: a view of a view is one view, a transpose of a transpose is one transpose. */
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
    const int target = rewrite_add_ints(self, node->name, dims.dims, (size_t)dims.rank);
    if (target == GRAPH_NONE)
        return error_memory(self->error, "a shape", sizeof dims);
    const int inputs[] = {source, target};
    const replacement with = {
        .domain = "", .op = "Reshape", .inputs = inputs, .input_count = 2, .opset = 14};
    return rewrite_replace(self, index, &with, NULL);
}

/* Transpose(Transpose(x)) -> Transpose(x) */
static xai_status merge_transposes(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    const graph_node *first = rewrite_producer(self, node->inputs[0], "Transpose");
    const int rank = rewrite_value(self, node->outputs[0])->shape.rank;
    int64_t outer[SHAPE_MAX_RANK], inner[SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK];
    if (!first || !rewrite_is_inner(self, node->inputs[0]) || !transpose_axes(node, rank, outer) ||
        !transpose_axes(first, rank, inner))
        return XAI_OK;
    for (int i = 0; i < rank; i++) {
        if (outer[i] < 0 || outer[i] >= rank)
            return XAI_OK;
        axes[i] = inner[outer[i]];
    }
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
        return merge_transposes(self, index);
    return XAI_OK;
}
