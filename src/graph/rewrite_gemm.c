/* A 2-D MatMul by a constant -> Gemm, which rewrite_affine then gives the bias that an Add behind it holds. */
#include "graph/rewrite.h"

xai_status rewrite_gemm(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    if (!rewrite_is(node, "MatMul") || node->input_count != 2)
        return XAI_OK;
    const tensor *weights = rewrite_constant(self, node->inputs[1]);
    if (!weights || weights->shape.rank != 2 || !dtype_is_float(weights->dtype) ||
        rewrite_value(self, node->inputs[0])->shape.rank != 2)
        return XAI_OK;
    const replacement with = {
        .domain = "", .op = "Gemm", .inputs = node->inputs, .input_count = 2, .opset = 13};
    return rewrite_replace(self, index, &with, NULL);
}
