/* Activations from their parts:
 *   Clip(x, 0, inf), Max(x, 0)              -> Relu(x)
 *   Clip(x + b, 0, m) / m                   -> HardSigmoid(x; alpha = 1/m, beta = b/m)
 *   x HardSigmoid(x; 1/6, 1/2)              -> HardSwish(x)
 *   x Clip(x + 3, 0, 6) / 6                 -> HardSwish(x)
 *   x Sigmoid(x), Swish(x; alpha = 1)       -> xai.Silu(x)
 *   PRelu(x, one slope)                     -> LeakyRelu(x; alpha) */
#include <float.h>
#include <math.h>
#include <string.h>

#include "graph/rewrite.h"

static xai_status replace_unary(rewriter *self, int index, const char *domain, const char *op,
                                int source, int opset)
{
    const replacement with = {
        .domain = domain, .op = op, .inputs = &source, .input_count = 1, .opset = opset};
    return rewrite_replace(self, index, &with, NULL);
}

/* Constant bounds of a Clip; absent ones are infinite. */
static bool clip_bounds(const rewriter *self, const graph_node *node, double *low, double *high)
{
    *low = -INFINITY;
    *high = INFINITY;
    if (node->opset < 11) {
        *low = rewrite_attribute_float(node, "min", -INFINITY);
        *high = rewrite_attribute_float(node, "max", INFINITY);
    } else {
        if (node->input_count > 1 && node->inputs[1] != GRAPH_NONE &&
            !rewrite_scalar(self, node->inputs[1], low))
            return false;
        if (node->input_count > 2 && node->inputs[2] != GRAPH_NONE &&
            !rewrite_scalar(self, node->inputs[2], high))
            return false;
    }
    if (*high >= FLT_MAX)
        *high = INFINITY;
    return true;
}

/* value = Clip(source + offset, 0, high), every inner value read once; offset 0 without an Add. */
static bool match_shifted_clip(const rewriter *self, int value, int *source, double *offset,
                               double *high)
{
    double low;
    const graph_node *clip = rewrite_producer(self, value, "Clip");
    if (!clip || !rewrite_is_inner(self, value) || !clip_bounds(self, clip, &low, high) ||
        low != 0 || !isfinite(*high) || *high <= 0)
        return false;
    *source = clip->inputs[0];
    *offset = 0;
    const graph_node *add = rewrite_producer(self, clip->inputs[0], "Add");
    if (add && rewrite_is_inner(self, clip->inputs[0]))
        rewrite_scalar_operand(self, add, source, offset);
    return true;
}

/* node = numerator / divisor, as Div or as Mul by a constant. */
static bool match_quotient(const rewriter *self, const graph_node *node, int *numerator,
                           double *divisor)
{
    if (rewrite_is(node, "Div") && rewrite_scalar(self, node->inputs[1], divisor)) {
        *numerator = node->inputs[0];
        return *divisor > 0;
    }
    if (rewrite_is(node, "Mul") && rewrite_scalar_operand(self, node, numerator, divisor) &&
        *divisor > 0) {
        *divisor = 1 / *divisor;
        return true;
    }
    return false;
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1.2e-7 * fabs(b); /* the same number, rounded to float32 once */
}

/* node = x Clip(x + 3, 0, 6), the value it makes being `product`. */
static bool match_unscaled_hard_swish(const rewriter *self, const graph_node *node, int *source)
{
    for (int k = 0; node && node->input_count == 2 && k < 2; k++) {
        double offset, high;
        if (match_shifted_clip(self, node->inputs[k], source, &offset, &high) &&
            *source == node->inputs[1 - k] && offset == 3 && high == 6)
            return true;
    }
    return false;
}

static xai_status rewrite_quotient(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    int numerator, source;
    double divisor, offset, high;
    if (!match_quotient(self, node, &numerator, &divisor))
        return XAI_OK;
    if (near(divisor, 6) && rewrite_is_inner(self, numerator) &&
        match_unscaled_hard_swish(self, rewrite_producer(self, numerator, "Mul"), &source))
        return replace_unary(self, index, "", "HardSwish", source, 14);
    if (!match_shifted_clip(self, numerator, &source, &offset, &high) || !near(divisor, high))
        return XAI_OK;
    const onnx_attribute attributes[] = {
        {.name = "alpha", .type = ONNX_ATTRIBUTE_FLOAT, .f = (float)(1 / high)},
        {.name = "beta", .type = ONNX_ATTRIBUTE_FLOAT, .f = (float)(offset / high)},
    };
    const replacement with = {.domain = "",
                              .op = "HardSigmoid",
                              .inputs = &source,
                              .input_count = 1,
                              .attributes = attributes,
                              .attribute_count = 2,
                              .opset = 14};
    return rewrite_replace(self, index, &with, NULL);
}

/* x gate(x) */
static xai_status rewrite_gated(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    for (int k = 0; k < 2; k++) {
        const int gate = node->inputs[k], x = node->inputs[1 - k];
        if (!rewrite_is_inner(self, gate))
            continue;
        const graph_node *sigmoid = rewrite_producer(self, gate, "Sigmoid");
        if (sigmoid && sigmoid->inputs[0] == x)
            return replace_unary(self, index, "xai", "Silu", x, 1);
        const graph_node *hard = rewrite_producer(self, gate, "HardSigmoid");
        if (hard && hard->inputs[0] == x &&
            near(rewrite_attribute_float(hard, "alpha", 0.2f), 1.0 / 6) &&
            rewrite_attribute_float(hard, "beta", 0.5f) == 0.5f)
            return replace_unary(self, index, "", "HardSwish", x, 14);
    }
    return XAI_OK;
}

/* PRelu of one slope for all channels, as MONAI's networks have it. */
static xai_status rewrite_single_slope(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    double slope;
    if (!rewrite_scalar(self, node->inputs[1], &slope) || !isfinite(slope))
        return XAI_OK;
    const onnx_attribute alpha = {.name = "alpha", .type = ONNX_ATTRIBUTE_FLOAT, .f = (float)slope};
    const replacement with = {.domain = "",
                              .op = "LeakyRelu",
                              .inputs = node->inputs,
                              .input_count = 1,
                              .attributes = &alpha,
                              .attribute_count = 1,
                              .opset = 16};
    return rewrite_replace(self, index, &with, NULL);
}

xai_status rewrite_activation(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    if (node->output_count < 1 || node->outputs[0] == GRAPH_NONE)
        return XAI_OK;
    const int32_t dtype = rewrite_value(self, node->outputs[0])->dtype;
    if (!dtype_is_float(dtype))
        return XAI_OK;
    if (rewrite_is(node, "Clip")) {
        double low, high;
        if (clip_bounds(self, node, &low, &high) && low == 0 && high == INFINITY)
            return replace_unary(self, index, "", "Relu", node->inputs[0], 14);
    } else if (rewrite_is(node, "Max")) {
        int source;
        double low;
        if (rewrite_scalar_operand(self, node, &source, &low) && low == 0)
            return replace_unary(self, index, "", "Relu", source, 14);
    } else if (rewrite_is(node, "PRelu")) {
        return rewrite_single_slope(self, index);
    } else if (rewrite_is(node, "Swish")) {
        if (rewrite_attribute_float(node, "alpha", 1) == 1)
            return replace_unary(self, index, "xai", "Silu", node->inputs[0], 1);
    } else if (rewrite_is(node, "Div")) {
        return rewrite_quotient(self, index);
    } else if (rewrite_is(node, "Mul") && node->input_count == 2) {
        const xai_status status = rewrite_quotient(self, index);
        if (status != XAI_OK || !rewrite_is(&self->graph->nodes[index], "Mul"))
            return status;
        return rewrite_gated(self, index);
    }
    return XAI_OK;
}
