/* Means over the whole plane: ReduceMean over all spatial axes and an AveragePool of one window -> GlobalAveragePool. */
#include "base/error.h"
#include "graph/rewrite.h"

/* ReduceMean over exactly the axes 2.. of (N, C, H, W) or (N, C, D, H, W). */
static bool is_spatial_mean(const rewriter *self, const graph_node *node, int rank)
{
    int64_t axes[SHAPE_MAX_RANK];
    size_t count;
    bool present, reduced[SHAPE_MAX_RANK] = {false};
    if (!rewrite_is(node, "ReduceMean") || rank < 4 || rank > 5 ||
        !rewrite_ints(self, node, "axes", 1, axes, SHAPE_MAX_RANK, &count, &present) ||
        count != (size_t)(rank - 2))
        return false;
    for (size_t i = 0; i < count; i++) {
        const int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (axis < 2 || axis >= rank || reduced[axis])
            return false;
        reduced[axis] = true;
    }
    return true;
}

/* One window that is the whole plane, without padding or dilation. */
static bool is_whole_average(const rewriter *self, const graph_node *node, const shape *x)
{
    int64_t kernel[SHAPE_MAX_RANK], pads[2 * SHAPE_MAX_RANK], dilations[SHAPE_MAX_RANK];
    size_t kernel_count, pad_count, dilation_count;
    bool present;
    if (!rewrite_is(node, "AveragePool") || x->rank < 3 ||
        !rewrite_ints(self, node, "kernel_shape", -1, kernel, SHAPE_MAX_RANK, &kernel_count,
                      &present) ||
        !rewrite_ints(self, node, "pads", -1, pads, 2 * SHAPE_MAX_RANK, &pad_count, &present) ||
        !rewrite_ints(self, node, "dilations", -1, dilations, SHAPE_MAX_RANK, &dilation_count,
                      &present) ||
        kernel_count != (size_t)(x->rank - 2))
        return false;
    const shape *y = &rewrite_value(self, node->outputs[0])->shape;
    for (size_t i = 0; i < kernel_count; i++)
        if (kernel[i] != x->dims[2 + i] || y->dims[2 + i] != 1)
            return false;
    for (size_t i = 0; i < pad_count; i++)
        if (pads[i] != 0)
            return false;
    for (size_t i = 0; i < dilation_count; i++)
        if (dilations[i] != 1)
            return false;
    return true;
}

xai_status rewrite_pool(rewriter *self, int index)
{
    graph *g = self->graph;
    const graph_node *node = &g->nodes[index];
    if (node->output_count != 1 || node->outputs[0] == GRAPH_NONE || node->input_count < 1 ||
        node->inputs[0] == GRAPH_NONE || !operator_find("", "GlobalAveragePool"))
        return XAI_OK;
    const int source = node->inputs[0];
    const graph_value x = *rewrite_value(self, source);
    const bool mean = is_spatial_mean(self, node, x.shape.rank);
    if (!dtype_is_float(x.dtype) || (!mean && !is_whole_average(self, node, &x.shape)))
        return XAI_OK;
    const char *name = node->name;
    const replacement pool = {.domain = "",
                              .op = "GlobalAveragePool",
                              .name = name,
                              .inputs = &source,
                              .input_count = 1,
                              .opset = 14};
    if (!mean || rewrite_attribute_int(node, "keepdims", 1) != 0)
        return rewrite_replace(self, index, &pool, NULL);
    shape kept = x.shape;
    for (int i = 2; i < kept.rank; i++)
        kept.dims[i] = 1;
    for (int i = 0; i < 2; i++)
        if (kept.dims[i] == 0)
            return XAI_OK;
    const int pooled = rewrite_add_value(self, name, x.dtype, &kept);
    const int target = rewrite_add_ints(self, name, kept.dims, 2);
    if (pooled == GRAPH_NONE || target == GRAPH_NONE)
        return error_memory(self->error, "a pool's output", 0);
    const xai_status status = rewrite_append(self, &pool, pooled);
    if (status != XAI_OK)
        return status;
    const int inputs[] = {pooled, target};
    const replacement flat = {
        .domain = "", .op = "Reshape", .inputs = inputs, .input_count = 2, .opset = 14};
    return rewrite_replace(self, index, &flat, NULL);
}
