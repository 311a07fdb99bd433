/* Products by a constant per channel behind a linear layer over the last axis:
 *
 *   Mul(Transpose(y), s)          -> Transpose(Mul(y, s'))        s' along the axis that y has it on
 *   Mul(Add(MatMul(x, W), b), s)  -> Add(MatMul(x, W s), b s)     s a row of the last axis
 *
 * ConvNeXt's layer scale is the first, then the second. Constants are multiplied in double and rounded once. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "graph/rewrite.h"

/* The constant operand of a Mul whose other operand has the result's type and shape. */
static const tensor *factor(const rewriter *self, const graph_node *node, int *other, int *constant)
{
    for (int k = 0; k < 2 && node->input_count == 2; k++) {
        const tensor *found = rewrite_constant(self, node->inputs[k]);
        const graph_value *x = rewrite_value(self, node->inputs[1 - k]),
                          *y = rewrite_value(self, node->outputs[0]);
        if (!found || !dtype_is_float(found->dtype) || x->is_constant ||
            !shape_equal(&x->shape, &y->shape))
            continue;
        *other = node->inputs[1 - k];
        *constant = node->inputs[k];
        return found;
    }
    return NULL;
}

/* The one axis of `rank` along which the constant varies; -1 when it is none or several. */
static int only_axis(const tensor *constant, int rank)
{
    int axis = -1;
    for (int i = 0; i < constant->shape.rank; i++) {
        if (constant->shape.dims[i] == 1)
            continue;
        if (axis >= 0)
            return -1;
        axis = rank - constant->shape.rank + i;
    }
    return axis;
}

static xai_status before_transpose(rewriter *self, int index, const graph_node *transpose,
                                   const tensor *by, int constant)
{
    graph *g = self->graph;
    const onnx_attribute *perm = rewrite_attribute(transpose, "perm");
    const int y = transpose->outputs[0], x = transpose->inputs[0];
    const int rank = rewrite_value(self, y)->shape.rank, axis = only_axis(by, rank);
    if (!perm || axis < 0 || perm->count != (size_t)rank || perm->ints[axis] != rank - 1)
        return XAI_OK;
    const int64_t width = (int64_t)tensor_count(by);
    const shape row = shape_make(1, &width);
    const int32_t dtype = rewrite_value(self, x)->dtype;
    const shape dims = rewrite_value(self, x)->shape;
    const graph_node old = *transpose;
    tensor copy = {0};
    xai_status status = tensor_create(&copy, by->dtype, &row, self->error);
    if (status != XAI_OK)
        return status;
    memcpy(copy.data, by->data, tensor_bytes(by));
    const int moved = rewrite_add_constant(self, g->values[constant].name, &copy);
    const int inner =
        moved == GRAPH_NONE ? GRAPH_NONE : rewrite_add_value(self, old.name, dtype, &dims);
    if (inner == GRAPH_NONE)
        return error_memory(self->error, "a layer scale", 0);
    const int factors[2] = {x, moved};
    const int opset = g->nodes[index].opset;
    const replacement product = {.domain = "",
                                 .op = "Mul",
                                 .name = g->nodes[index].name,
                                 .inputs = factors,
                                 .input_count = 2,
                                 .opset = opset};
    const replacement turned = {.domain = "",
                                .op = "Transpose",
                                .name = old.name,
                                .inputs = &inner,
                                .input_count = 1,
                                .attributes = old.attributes,
                                .attribute_count = old.attribute_count,
                                .opset = old.opset};
    bool applied;
    status = rewrite_append(self, &product, inner);
    return status == XAI_OK ? rewrite_replace(self, index, &turned, &applied) : status;
}

/* from * by over the last axis; data NULL when a product leaves the type. */
static xai_status scale_rows(rewriter *self, const tensor *from, const tensor *by, tensor *out)
{
    const size_t count = tensor_count(from), width = tensor_count(by);
    const xai_status status = tensor_create(out, from->dtype, &from->shape, self->error);
    for (size_t i = 0; status == XAI_OK && i < count; i++) {
        const double value = tensor_get(from, i) * tensor_get(by, i % width);
        if (!isfinite((float)value)) {
            tensor_free(out);
            return XAI_OK;
        }
        tensor_set(out, i, value);
    }
    return status;
}

static xai_status into_product(rewriter *self, int index, int source, const tensor *by)
{
    graph *g = self->graph;
    const graph_node *add = rewrite_producer(self, source, "Add"), *product = NULL;
    const tensor *bias = NULL;
    const int64_t width = (int64_t)tensor_count(by);
    for (int k = 0; add && k < 2 && !product; k++) {
        bias = rewrite_constant(self, add->inputs[1 - k]);
        product = bias ? rewrite_producer(self, add->inputs[k], "MatMul") : NULL;
    }
    if (!product || !rewrite_is_inner(self, source) || !rewrite_is_inner(self, product->outputs[0]))
        return XAI_OK;
    const graph_value *made = rewrite_value(self, product->outputs[0]);
    const tensor *weights = rewrite_constant(self, product->inputs[1]);
    if (!weights || weights->shape.rank != 2 || weights->shape.dims[1] != width ||
        weights->dtype != made->dtype || bias->dtype != made->dtype ||
        (made->dtype != DTYPE_FLOAT && made->dtype != DTYPE_DOUBLE) || bias->shape.rank < 1 ||
        (int64_t)tensor_count(bias) != width || bias->shape.dims[bias->shape.rank - 1] != width ||
        bias->shape.rank > made->shape.rank)
        return XAI_OK;
    const shape dims = made->shape;
    const int32_t dtype = made->dtype;
    const graph_node old = *product;
    tensor scaled[2] = {{0}, {0}};
    xai_status status = scale_rows(self, weights, by, &scaled[0]);
    if (status == XAI_OK && scaled[0].data)
        status = scale_rows(self, bias, by, &scaled[1]);
    if (status != XAI_OK || !scaled[0].data || !scaled[1].data) {
        tensor_free(&scaled[0]);
        tensor_free(&scaled[1]);
        return status;
    }
    const int w = rewrite_add_constant(self, g->values[old.inputs[1]].name, &scaled[0]);
    const int b = rewrite_add_constant(self, old.name, &scaled[1]);
    const int inner = rewrite_add_value(self, old.name, dtype, &dims);
    if (w == GRAPH_NONE || b == GRAPH_NONE || inner == GRAPH_NONE)
        return error_memory(self->error, "scaled weights", 0);
    const int factors[2] = {old.inputs[0], w}, terms[2] = {inner, b};
    const replacement first = {.domain = "",
                               .op = "MatMul",
                               .name = old.name,
                               .inputs = factors,
                               .input_count = 2,
                               .opset = old.opset};
    const replacement sum = {.domain = "",
                             .op = "Add",
                             .inputs = terms,
                             .input_count = 2,
                             .opset = g->nodes[index].opset};
    status = rewrite_append(self, &first, inner);
    return status == XAI_OK ? rewrite_replace(self, index, &sum, NULL) : status;
}

xai_status rewrite_layer_scale(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    int source, constant;
    if (!rewrite_is(node, "Mul"))
        return XAI_OK;
    const tensor *by = factor(self, node, &source, &constant);
    if (!by)
        return XAI_OK;
    const graph_node *transpose = rewrite_producer(self, source, "Transpose");
    if (transpose)
        return rewrite_is_inner(self, source)
                   ? before_transpose(self, index, transpose, by, constant)
                   : XAI_OK;
    const int rank = rewrite_value(self, node->outputs[0])->shape.rank;
    return rank > 2 && only_axis(by, rank) == rank - 1 ? into_product(self, index, source, by)
                                                       : XAI_OK;
}
