/* QuantizeLinear and DequantizeLinear of the same scale and zero point -> FakeQuantize, which stays in floats: gradients
 * pass through it, and it needs no integer buffer. Weights are folded before. */
#include <string.h>

#include "base/error.h"
#include "graph/rewrite.h"

/* The same value, or constants with the same bytes; both may be omitted. */
static bool same_constant(const rewriter *self, int a, int b)
{
    if (a == b)
        return true;
    const tensor *left = rewrite_constant(self, a), *right = rewrite_constant(self, b);
    return left && right && left->dtype == right->dtype &&
           shape_equal(&left->shape, &right->shape) && left->dtype != DTYPE_STRING &&
           memcmp(left->data, right->data, tensor_bytes(left)) == 0;
}

static int input_of(const graph_node *node, int i)
{
    return i < node->input_count ? node->inputs[i] : GRAPH_NONE;
}

static bool is_output(const rewriter *self, int value)
{
    for (size_t i = 0; i < self->graph->output_count; i++)
        if (self->graph->outputs[i] == value)
            return true;
    return false;
}

xai_status rewrite_quantise(rewriter *self, int index)
{
    const graph_node *back = &self->graph->nodes[index];
    if (!rewrite_is(back, "DequantizeLinear"))
        return XAI_OK;
    const graph_node *node = rewrite_producer(self, back->inputs[0], "QuantizeLinear");
    if (!node || rewrite_is_protected(self, back->inputs[0]))
        return XAI_OK;
    const graph_value *x = rewrite_value(self, node->inputs[0]),
                      *y = rewrite_value(self, back->outputs[0]),
                      *q = rewrite_value(self, back->inputs[0]);
    if (x->dtype != y->dtype || !dtype_is_float(x->dtype) ||
        rewrite_attribute_int(node, "axis", 1) != rewrite_attribute_int(back, "axis", 1) ||
        rewrite_attribute_int(node, "block_size", 0) !=
            rewrite_attribute_int(back, "block_size", 0) ||
        !rewrite_constant(self, input_of(node, 1)) ||
        !same_constant(self, input_of(node, 1), input_of(back, 1)) ||
        !same_constant(self, input_of(node, 2), input_of(back, 2)))
        return XAI_OK;
    const int inputs[] = {node->inputs[0], input_of(node, 1), input_of(node, 2)};
    const onnx_attribute attributes[] = {
        {.name = "axis", .type = ONNX_ATTRIBUTE_INT, .i = rewrite_attribute_int(node, "axis", 1)},
        {.name = "block_size",
         .type = ONNX_ATTRIBUTE_INT,
         .i = rewrite_attribute_int(node, "block_size", 0)},
        {.name = "quantised_type", .type = ONNX_ATTRIBUTE_INT, .i = q->dtype},
        {.name = "is_score", .type = ONNX_ATTRIBUTE_INT, .i = is_output(self, back->outputs[0])}};
    const replacement fake = {.domain = "xai",
                              .op = "FakeQuantize",
                              .inputs = inputs,
                              .input_count = inputs[2] == GRAPH_NONE ? 2 : 3,
                              .attributes = attributes,
                              .attribute_count = 4,
                              .opset = 1};
    return rewrite_replace(self, index, &fake, NULL);
}
