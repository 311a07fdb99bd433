/* Models in float16 or bfloat16 are computed in float32: weights become float32 (exactly), inputs and outputs of a half
 * type are cast at the border. Gradients of such a model would often be too small for float16, and vanish. */
#include <string.h>

#include "base/error.h"
#include "graph/private.h"

static bool is_half(int32_t dtype)
{
    return dtype == DTYPE_FLOAT16 || dtype == DTYPE_BFLOAT16;
}

static bool is(const graph_node *node, const char *op)
{
    return !*node->definition->domain && strcmp(node->definition->name, op) == 0;
}

/* An attribute that names a half type, such as `to`, or holds a tensor of one. */
static bool names_half(const onnx_attribute *attribute)
{
    static const char *const types[] = {"to", "dtype", "output_dtype"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (attribute->type == ONNX_ATTRIBUTE_INT && strcmp(attribute->name, types[i]) == 0)
            return is_half((int32_t)attribute->i);
    return attribute->type == ONNX_ATTRIBUTE_TENSOR && strcmp(attribute->name, "value") == 0;
}

/* Whether there are halves, and nothing whose result type could not be followed. */
static bool can_widen(const graph *self)
{
    bool any = false;
    for (size_t i = 0; i < self->value_count; i++)
        any = any || is_half(self->values[i].dtype) ||
              (self->values[i].is_constant && is_half(self->values[i].constant.dtype));
    for (size_t i = 0; i < self->node_count; i++) {
        const graph_node *node = &self->nodes[i];
        if (node->control)
            return false;
        for (size_t k = 0; k < node->attribute_count; k++)
            if (names_half(&node->attributes[k])) {
                any = any || is(node, "Cast");
                if (!is(node, "Cast"))
                    return false;
            }
    }
    for (size_t i = 0; i < self->output_count; i++)
        if (self->values[self->outputs[i]].producer == GRAPH_NONE)
            return false;
    return any;
}

static xai_status widen_constant(graph_value *value, xai_error **error)
{
    tensor wide = {0};
    const size_t count = tensor_count(&value->constant);
    if (count == 0) { /* no bytes to convert */
        value->constant.dtype = DTYPE_FLOAT;
        return XAI_OK;
    }
    const xai_status status = tensor_create(&wide, DTYPE_FLOAT, &value->constant.shape, error);
    if (status != XAI_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        tensor_set(&wide, i, tensor_get(&value->constant, i));
    tensor_free(&value->constant);
    value->constant = wide;
    return XAI_OK;
}

static xai_status widen_cast(graph *self, graph_node *node, xai_error **error)
{
    onnx_attribute *copy =
        memory_pool_allocate(self->pool, node->attribute_count + 1, sizeof *copy);
    if (!copy)
        return error_memory(error, "a graph", node->attribute_count * sizeof *copy);
    for (size_t i = 0; i < node->attribute_count; i++) {
        copy[i] = node->attributes[i];
        if (names_half(&copy[i]))
            copy[i].i = DTYPE_FLOAT;
    }
    node->attributes = copy;
    return XAI_OK;
}

/* A float32 twin of a half value: all nodes read and write the twin. GRAPH_NONE without memory. */
static int add_twin(graph *self, int value)
{
    char name[512];
    const graph_value *of = &self->values[value];
    const size_t length = strlen(of->name);
    memcpy(name, of->name, length < 400 ? length : 400);
    memcpy(name + (length < 400 ? length : 400), ".float32", sizeof ".float32");
    const shape dims = of->shape;
    const bool varies = of->varies;
    const int twin = graph_add_value(self, name, DTYPE_FLOAT, &dims);
    if (twin != GRAPH_NONE)
        self->values[twin].varies = varies;
    for (size_t i = 0; twin != GRAPH_NONE && i < self->node_count; i++) {
        const graph_node *node = &self->nodes[i];
        for (int k = 0; k < node->input_count; k++)
            node->inputs[k] = node->inputs[k] == value ? twin : node->inputs[k];
        for (int k = 0; k < node->output_count; k++)
            if (node->outputs[k] == value) {
                node->outputs[k] = twin;
                self->values[twin].producer = (int)i;
            }
    }
    return twin;
}

/* The border: half inputs are cast to float32, and what half outputs show is cast back. */
static xai_status cast_border(graph *self, int value, bool is_output, xai_error **error)
{
    const int32_t half = self->values[value].dtype;
    const int twin = add_twin(self, value);
    const int from = is_output ? twin : value, to = is_output ? value : twin;
    const onnx_attribute type = {
        .name = "to", .type = ONNX_ATTRIBUTE_INT, .i = is_output ? half : DTYPE_FLOAT};
    char name[32] = "widen_";
    memcpy(name + 6, is_output ? "output" : "input", is_output ? 7 : 6);
    if (twin == GRAPH_NONE ||
        graph_add_node(self, "", "Cast", name, &from, 1, &to, 1, &type, 1, 13) < 0)
        return error_memory(error, "a graph", sizeof(graph_node));
    return XAI_OK;
}

static bool is_output(const graph *self, int value)
{
    for (size_t i = 0; i < self->output_count; i++)
        if (self->outputs[i] == value)
            return true;
    return false;
}

xai_status graph_widen_halves(graph *self, xai_error **error)
{
    xai_status status = XAI_OK;
    if (!can_widen(self))
        return XAI_OK;
    const size_t values = self->value_count, nodes = self->node_count;
    for (size_t i = 0; status == XAI_OK && i < nodes; i++)
        if (is(&self->nodes[i], "Cast"))
            status = widen_cast(self, &self->nodes[i], error);
    for (size_t i = 0; status == XAI_OK && i < values; i++) {
        graph_value *value = &self->values[i];
        if (value->is_constant) {
            if (is_half(value->constant.dtype))
                status = widen_constant(value, error);
            value->dtype = is_half(value->dtype) ? DTYPE_FLOAT : value->dtype;
        } else if (is_half(value->dtype) && is_output(self, (int)i)) {
            status = cast_border(self, (int)i, true, error);
        } else if (is_half(value->dtype) && value->producer == GRAPH_NONE) {
            status = cast_border(self, (int)i, false, error);
        } else if (is_half(value->dtype)) {
            value->dtype = DTYPE_FLOAT;
        }
    }
    return status;
}
