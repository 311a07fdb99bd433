/* AveragePool(Conv1x1(x)) -> Conv1x1(AveragePool(x)): both are linear, one mixes channels and the other places, so that the
 * convolution needs only as many places as the pool leaves (DenseNet's transitions: a quarter). */
#include "base/error.h"
#include "graph/rewrite.h"

/* An attribute of integers is absent or all `expected`. */
static bool all_are(const rewriter *self, const graph_node *node, const char *name,
                    int64_t expected)
{
    int64_t values[2 * SHAPE_MAX_RANK];
    size_t count;
    bool present;
    if (!rewrite_ints(self, node, name, -1, values, 2 * SHAPE_MAX_RANK, &count, &present))
        return false;
    for (size_t i = 0; i < count; i++)
        if (values[i] != expected)
            return false;
    return true;
}

/* Every window lies inside the plane, so that a bias behind it is the bias before it. */
static bool is_unpadded(const rewriter *self, const graph_node *node)
{
    return !rewrite_attribute(node, "auto_pad") && all_are(self, node, "pads", 0);
}

static bool is_pointwise(const rewriter *self, const graph_node *conv)
{
    const shape *w = &rewrite_value(self, conv->inputs[1])->shape;
    for (int i = 2; i < w->rank; i++)
        if (w->dims[i] != 1)
            return false;
    return is_unpadded(self, conv) && all_are(self, conv, "strides", 1);
}

xai_status rewrite_pool_first(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    if (!rewrite_is(node, "AveragePool") || node->output_count != 1 ||
        rewrite_attribute_int(node, "ceil_mode", 0) != 0 || !is_unpadded(self, node))
        return XAI_OK;
    const graph_node *producer = rewrite_producer(self, node->inputs[0], "Conv");
    if (!producer || !rewrite_is_inner(self, node->inputs[0]) || !is_pointwise(self, producer))
        return XAI_OK;
    const graph_node conv = *producer, pool = *node;
    const graph_value x = *rewrite_value(self, conv.inputs[0]);
    const shape *made = &rewrite_value(self, pool.outputs[0])->shape;
    const shape *taken = &rewrite_value(self, pool.inputs[0])->shape;
    shape pooled = *made; /* (N, C, h, w) */
    pooled.dims[1] = x.shape.dims[1];
    bool fewer = false;
    for (int i = 2; i < pooled.rank; i++)
        fewer = fewer || 2 * made->dims[i] <= taken->dims[i];
    if (!fewer)
        return XAI_OK;
    const int inner = rewrite_add_value(self, pool.name, x.dtype, &pooled);
    if (inner == GRAPH_NONE)
        return error_memory(self->error, "a pool's output", 0);
    const replacement first = {.domain = "",
                               .op = "AveragePool",
                               .name = pool.name,
                               .inputs = conv.inputs,
                               .input_count = 1,
                               .attributes = pool.attributes,
                               .attribute_count = pool.attribute_count,
                               .opset = pool.opset};
    const xai_status status = rewrite_append(self, &first, inner);
    if (status != XAI_OK)
        return status;
    const int inputs[] = {inner, conv.inputs[1],
                          conv.input_count > 2 ? conv.inputs[2] : GRAPH_NONE};
    const replacement behind = {.domain = "",
                                .op = "Conv",
                                .name = conv.name,
                                .inputs = inputs,
                                .input_count = conv.input_count,
                                .attributes = conv.attributes,
                                .attribute_count = conv.attribute_count,
                                .opset = conv.opset};
    return rewrite_replace(self, index, &behind, NULL);
}
