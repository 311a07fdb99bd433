/* Which nodes are activation functions with constant parameters, and which. */
#include "engine/lower.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

typedef struct activation_entry {
    const char *domain, *name;
    activation_kind kind;
    const char *alpha, *beta; /* attribute names */
    float alpha_default, beta_default;
} activation_entry;

static const activation_entry table[] = {
    {"", "Relu", ACTIVATION_RELU, NULL, NULL, 0, 0},
    {"", "LeakyRelu", ACTIVATION_LEAKY_RELU, "alpha", NULL, 0.01f, 0},
    {"", "Elu", ACTIVATION_ELU, "alpha", NULL, 1, 0},
    {"", "Selu", ACTIVATION_SELU, "alpha", "gamma", 1.67326319217681884765625f,
     1.05070102214813232421875f},
    {"", "Celu", ACTIVATION_CELU, "alpha", NULL, 1, 0},
    {"", "Sigmoid", ACTIVATION_SIGMOID, NULL, NULL, 0, 0},
    {"", "HardSigmoid", ACTIVATION_HARD_SIGMOID, "alpha", "beta", 0.2f, 0.5f},
    {"", "HardSwish", ACTIVATION_HARD_SWISH, NULL, NULL, 0, 0},
    {"", "Tanh", ACTIVATION_TANH, NULL, NULL, 0, 0},
    {"", "Softplus", ACTIVATION_SOFTPLUS, NULL, NULL, 0, 0},
    {"xai", "Silu", ACTIVATION_SILU, NULL, NULL, 0, 0},
    {"", "Exp", ACTIVATION_EXP, NULL, NULL, 0, 0},
    {"", "Abs", ACTIVATION_ABS, NULL, NULL, 0, 0},
    {"", "Sqrt", ACTIVATION_SQRT, NULL, NULL, 0, 0},
};

static const onnx_attribute *attribute_of(const graph_node *node, const char *name)
{
    for (size_t i = 0; name && i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, name) == 0)
            return &node->attributes[i];
    return NULL;
}

static float float_of(const graph_node *node, const char *name, float fallback)
{
    const onnx_attribute *found = attribute_of(node, name);
    return found && found->type == ONNX_ATTRIBUTE_FLOAT ? found->f : fallback;
}

/* Clip's bounds: attributes before opset 11, optional inputs after; a bound that is not constant
 * is not for us. */
static bool clip_bounds(const graph *self, const graph_node *node, activation *out)
{
    float bounds[2] = {float_of(node, "min", -INFINITY), float_of(node, "max", INFINITY)};
    for (int i = 1; i < node->input_count && i < 3; i++) {
        const int id = node->inputs[i];
        if (id == GRAPH_NONE)
            continue;
        if (!self->values[id].is_constant || tensor_count(&self->values[id].constant) != 1)
            return false;
        bounds[i - 1] = (float)tensor_get(&self->values[id].constant, 0);
    }
    *out = (activation){ACTIVATION_CLIP, bounds[0], bounds[1]};
    return bounds[0] <= bounds[1]; /* also false for NaN */
}

bool activation_of_node(const graph *self, const graph_node *node, activation *out)
{
    if (node->input_count < 1 || node->inputs[0] == GRAPH_NONE ||
        self->values[node->inputs[0]].dtype != DTYPE_FLOAT)
        return false;
    if (node_is(node, "", "Clip"))
        return clip_bounds(self, node, out);
    if (node_is(node, "", "Gelu")) {
        const onnx_attribute *form = attribute_of(node, "approximate");
        const bool tanh_form =
            form && form->type == ONNX_ATTRIBUTE_STRING && strcmp(form->s, "tanh") == 0;
        *out = (activation){tanh_form ? ACTIVATION_GELU_TANH : ACTIVATION_GELU, 0, 0};
        return true;
    }
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (node_is(node, table[i].domain, table[i].name)) {
            *out =
                (activation){table[i].kind, float_of(node, table[i].alpha, table[i].alpha_default),
                             float_of(node, table[i].beta, table[i].beta_default)};
            return true;
        }
    return false;
}
