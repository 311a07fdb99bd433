/* LayerNormalization from its parts. First the normalisation alone, with a scale of ones:
 *   d = x - ReduceMean(x);  d / Sqrt(ReduceMean(d^2) + epsilon)   -> LayerNormalization(x, 1)
 * then a Mul and an Add of constants behind it become its scale and bias. */
#include <string.h>

#include "base/error.h"
#include "graph/rewrite.h"

/* Means over the last axes [*axis, rank), the axes kept. */
static bool match_mean(const rewriter *self, const graph_node *node, int rank, int *axis)
{
    int64_t axes[SHAPE_MAX_RANK];
    size_t count;
    bool present, reduced[SHAPE_MAX_RANK] = {false};
    if (!node || rewrite_attribute_int(node, "keepdims", 1) != 1 ||
        !rewrite_ints(self, node, "axes", 1, axes, SHAPE_MAX_RANK, &count, &present) || count == 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        const int64_t at = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (at < 0 || at >= rank || reduced[at])
            return false;
        reduced[at] = true;
    }
    *axis = rank - (int)count;
    for (int i = *axis; i < rank; i++)
        if (!reduced[i])
            return false;
    return true;
}

/* value = d^2, read once. */
static bool is_square(const rewriter *self, int value, int d)
{
    if (!rewrite_is_inner(self, value))
        return false;
    const graph_node *power = rewrite_producer(self, value, "Pow");
    if (power)
        return power->inputs[0] == d && rewrite_is_scalar(self, power->inputs[1], 2);
    const graph_node *product = rewrite_producer(self, value, "Mul");
    return product && product->inputs[0] == d && product->inputs[1] == d;
}

/* value = Sqrt(ReduceMean(d^2) + epsilon) over the axes from *axis on. */
static bool match_deviation(const rewriter *self, int value, int d, int *axis, double *epsilon)
{
    int variance;
    const int rank = rewrite_value(self, d)->shape.rank;
    const graph_node *root = rewrite_producer(self, value, "Sqrt");
    if (!root || !rewrite_is_inner(self, value))
        return false;
    const graph_node *add = rewrite_producer(self, root->inputs[0], "Add");
    if (!add || !rewrite_is_inner(self, root->inputs[0]) ||
        !rewrite_scalar_operand(self, add, &variance, epsilon) || *epsilon < 0)
        return false;
    const graph_node *mean = rewrite_producer(self, variance, "ReduceMean");
    return rewrite_is_inner(self, variance) && match_mean(self, mean, rank, axis) &&
           is_square(self, mean->inputs[0], d);
}

/* d = x - mean(x), read `uses` times and not protected. */
static bool match_centred(const rewriter *self, int d, int uses, int axis, int *x)
{
    int mean_axis;
    const graph_node *sub = rewrite_producer(self, d, "Sub");
    if (!sub || rewrite_is_protected(self, d) || self->uses[d] != uses)
        return false;
    *x = sub->inputs[0];
    const graph_node *mean = rewrite_producer(self, sub->inputs[1], "ReduceMean");
    return rewrite_is_inner(self, sub->inputs[1]) && mean && mean->inputs[0] == *x &&
           match_mean(self, mean, rewrite_value(self, *x)->shape.rank, &mean_axis) &&
           mean_axis == axis;
}

static xai_status make_layer_norm(rewriter *self, int index, int x, int scale, int bias, int axis,
                                  float epsilon, const char *name)
{
    const int inputs[] = {x, scale, bias};
    const onnx_attribute attributes[] = {
        {.name = "axis", .type = ONNX_ATTRIBUTE_INT, .i = axis},
        {.name = "epsilon", .type = ONNX_ATTRIBUTE_FLOAT, .f = epsilon},
    };
    const replacement with = {.domain = "",
                              .op = "LayerNormalization",
                              .name = name,
                              .inputs = inputs,
                              .input_count = bias == GRAPH_NONE ? 2 : 3,
                              .attributes = attributes,
                              .attribute_count = 2,
                              .opset = 17};
    return rewrite_replace(self, index, &with, NULL);
}

static xai_status rewrite_normalisation(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    const int d = node->inputs[0];
    int axis, x;
    double epsilon;
    if (rewrite_value(self, d)->shape.rank < 1 ||
        !match_deviation(self, node->inputs[1], d, &axis, &epsilon))
        return XAI_OK;
    const graph_node *root = rewrite_producer(self, node->inputs[1], "Sqrt");
    const graph_node *add = rewrite_producer(self, root->inputs[0], "Add");
    int variance;
    rewrite_scalar_operand(self, add, &variance, &epsilon);
    const graph_node *mean = rewrite_producer(self, variance, "ReduceMean");
    const bool power = rewrite_producer(self, mean->inputs[0], "Pow") != NULL;
    if (!match_centred(self, d, power ? 2 : 3, axis, &x))
        return XAI_OK;
    const graph_value *source = rewrite_value(self, x);
    if (!dtype_is_float(source->dtype))
        return XAI_OK;
    const shape normalised = shape_make(source->shape.rank - axis, source->shape.dims + axis);
    tensor ones = {0};
    const xai_status status = tensor_create(&ones, source->dtype, &normalised, self->error);
    if (status != XAI_OK)
        return status;
    for (size_t i = 0, count = tensor_count(&ones); i < count; i++)
        tensor_set(&ones, i, 1);
    const int scale = rewrite_add_constant(self, self->graph->nodes[index].name, &ones);
    if (scale == GRAPH_NONE)
        return error_memory(self->error, "a scale of ones", 0);
    return make_layer_norm(self, index, x, scale, GRAPH_NONE, axis, (float)epsilon, NULL);
}

/* Mul or Add of a constant behind a LayerNormalization that nobody else reads. */
static xai_status absorb(rewriter *self, int index, bool scaling)
{
    const graph_node *node = &self->graph->nodes[index];
    for (int k = 0; k < 2; k++) {
        const graph_node *norm = rewrite_producer(self, node->inputs[k], "LayerNormalization");
        const tensor *constant = rewrite_constant(self, node->inputs[1 - k]);
        if (!norm || !constant || !rewrite_is_inner(self, node->inputs[k]) ||
            norm->output_count > 1 || constant->dtype == DTYPE_STRING)
            continue;
        const bool has_bias = norm->input_count > 2 && norm->inputs[2] != GRAPH_NONE;
        const tensor *scale = rewrite_constant(self, norm->inputs[1]);
        const tensor *bias = has_bias ? rewrite_constant(self, norm->inputs[2]) : NULL;
        if (!scale || (has_bias && !bias))
            continue;
        const int rank = rewrite_value(self, node->inputs[k])->shape.rank;
        int64_t axis = rewrite_attribute_int(norm, "axis", -1);
        axis = axis < 0 ? axis + rank : axis;
        /* The constant must have exactly the normalised shape, perhaps behind axes of size 1, or one element. */
        shape normalised = scale->shape, given = constant->shape;
        while (given.rank > normalised.rank && given.dims[0] == 1)
            given = shape_make(given.rank - 1, given.dims + 1);
        const bool single = tensor_count(constant) == 1;
        if ((!single && !shape_equal(&given, &normalised)) || normalised.rank != rank - (int)axis)
            continue;
        tensor made[2] = {{0}, {0}}; /* scale, bias */
        int inputs[2] = {norm->inputs[1], has_bias ? norm->inputs[2] : GRAPH_NONE};
        const size_t count = tensor_count(scale);
        xai_status status = XAI_OK;
        for (int part = 0; part < 2 && status == XAI_OK; part++) {
            const tensor *old = part == 0 ? scale : bias;
            if (scaling ? !old : part == 0)
                continue;
            status = tensor_create(&made[part], scale->dtype, &normalised, self->error);
            for (size_t i = 0; i < count && status == XAI_OK; i++) {
                const double by = tensor_get(constant, single ? 0 : i);
                const double before = old ? tensor_get(old, i) : 0;
                tensor_set(&made[part], i, scaling ? before * by : before + by);
            }
        }
        const char *name = norm->name;
        const int source = norm->inputs[0];
        const float epsilon = rewrite_attribute_float(norm, "epsilon", 1e-5f);
        for (int part = 0; part < 2 && status == XAI_OK; part++) {
            if (!made[part].data)
                continue;
            inputs[part] = rewrite_add_constant(self, name, &made[part]);
            if (inputs[part] == GRAPH_NONE)
                status = error_memory(self->error, "a scale and bias", 0);
        }
        tensor_free(&made[0]);
        tensor_free(&made[1]);
        if (status != XAI_OK)
            return status;
        return make_layer_norm(self, index, source, inputs[0], inputs[1], (int)axis, epsilon, name);
    }
    return XAI_OK;
}

xai_status rewrite_layer_norm(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    if (node->input_count != 2 || node->output_count != 1 || node->inputs[0] == GRAPH_NONE ||
        node->inputs[1] == GRAPH_NONE)
        return XAI_OK;
    if (rewrite_is(node, "Div"))
        return rewrite_normalisation(self, index);
    if (rewrite_is(node, "Mul") || rewrite_is(node, "Add"))
        return absorb(self, index, rewrite_is(node, "Mul"));
    return XAI_OK;
}
