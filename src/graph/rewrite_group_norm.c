/* GroupNormalization as exporters write it:
 *   Reshape(x, (N, groups, ...)) -> InstanceNormalization -> Reshape to x's shape  -> GroupNormalization(x)
 * with parameters a channel (as of opset 21; those of opset 18, one a group, are repeated). Then a Mul and an
 * Add of constants a channel behind it, or behind an InstanceNormalization, become its scale and bias. */
#include <math.h>

#include "base/error.h"
#include "graph/rewrite.h"

/* Which constants hold scale and bias, how often each value is repeated, and what a constant behind changes. */
typedef struct parameters {
    int scale, bias;
    size_t channels, repeats;
    const tensor *factor, *summand; /* one value, or one a channel; may be NULL */
} parameters;

static double behind(const tensor *constant, size_t channel, double otherwise)
{
    if (!constant)
        return otherwise;
    return tensor_get(constant, tensor_count(constant) == 1 ? 0 : channel);
}

/* One new constant; without data when a value leaves the range of its type. */
static xai_status make_constant(const rewriter *self, const parameters *of, bool bias, tensor *out)
{
    const tensor *old = rewrite_constant(self, bias ? of->bias : of->scale);
    const int64_t channels = (int64_t)of->channels;
    const shape dims = shape_make(1, &channels);
    const xai_status status = tensor_create(out, old->dtype, &dims, self->error);
    for (size_t c = 0; status == XAI_OK && c < of->channels; c++) {
        const double value = tensor_get(old, c / of->repeats) * behind(of->factor, c, 1) +
                             (bias ? behind(of->summand, c, 0) : 0);
        tensor_set(out, c, value);
        if (!isfinite(tensor_get(out, c))) {
            tensor_free(out);
            return XAI_OK;
        }
    }
    return status;
}

/* The new scale and bias, one value a channel. Nothing is added unless both can be made. */
static xai_status make_parameters(rewriter *self, const parameters *of, const char *name,
                                  int ids[2], bool *made)
{
    tensor data[2] = {{0}, {0}};
    xai_status status = make_constant(self, of, false, &data[0]);
    if (status == XAI_OK)
        status = make_constant(self, of, true, &data[1]);
    *made = status == XAI_OK && data[0].data && data[1].data;
    for (int part = 0; *made && part < 2; part++) {
        ids[part] = rewrite_add_constant(self, name, &data[part]);
        if (ids[part] == GRAPH_NONE) {
            status = error_memory(self->error, "a scale and bias", 0);
            *made = false;
        }
    }
    tensor_free(&data[0]);
    tensor_free(&data[1]);
    return status;
}

/* A constant of `count` floats. */
static bool is_list(const rewriter *self, int value, size_t count)
{
    const tensor *constant = rewrite_constant(self, value);
    return constant && dtype_is_float(constant->dtype) && tensor_count(constant) == count;
}

static xai_status make_norm(rewriter *self, int index, int x, const parameters *of, int64_t groups,
                            float epsilon, const char *name)
{
    int inputs[3] = {x, GRAPH_NONE, GRAPH_NONE};
    bool made;
    const xai_status status = make_parameters(self, of, name, inputs + 1, &made);
    if (status != XAI_OK || !made)
        return status;
    const bool instance = groups == 0;
    const onnx_attribute attributes[] = {
        {.name = "epsilon", .type = ONNX_ATTRIBUTE_FLOAT, .f = epsilon},
        {.name = "num_groups", .type = ONNX_ATTRIBUTE_INT, .i = groups},
    };
    const replacement with = {.domain = "",
                              .op = instance ? "InstanceNormalization" : "GroupNormalization",
                              .name = name,
                              .inputs = inputs,
                              .input_count = 3,
                              .attributes = attributes,
                              .attribute_count = instance ? 1 : 2,
                              .opset = 21};
    return rewrite_replace(self, index, &with, NULL);
}

/* Reshape behind an InstanceNormalization behind a Reshape. */
static xai_status rewrite_instances(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    const int normal = node->inputs[0];
    const graph_node *norm = rewrite_producer(self, normal, "InstanceNormalization");
    if (!norm || norm->input_count != 3 || !rewrite_is_inner(self, normal))
        return XAI_OK;
    const int grouped = norm->inputs[0];
    const graph_node *parting = rewrite_producer(self, grouped, "Reshape");
    if (!parting || !rewrite_is_inner(self, grouped))
        return XAI_OK;
    const int x = parting->inputs[0];
    const shape *dims = &rewrite_value(self, x)->shape,
                *parted = &rewrite_value(self, grouped)->shape;
    if (dims->rank < 2 || parted->rank < 2 || dims->dims[0] != parted->dims[0] ||
        !shape_equal(dims, &rewrite_value(self, node->outputs[0])->shape))
        return XAI_OK;
    const int64_t groups = parted->dims[1], channels = dims->dims[1];
    if (groups < 1 || channels < groups || channels % groups != 0 ||
        !is_list(self, norm->inputs[1], (size_t)groups) ||
        !is_list(self, norm->inputs[2], (size_t)groups))
        return XAI_OK;
    const parameters of = {.scale = norm->inputs[1],
                           .bias = norm->inputs[2],
                           .channels = (size_t)channels,
                           .repeats = (size_t)(channels / groups)};
    return make_norm(self, index, x, &of, groups, rewrite_attribute_float(norm, "epsilon", 1e-5f),
                     norm->name);
}

/* Parameters one a group. */
static xai_status repeat_parameters(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    const shape *dims = &rewrite_value(self, node->inputs[0])->shape;
    const int64_t groups = rewrite_attribute_int(node, "num_groups", 0);
    if (node->opset >= 21 || node->input_count != 3 || dims->rank < 2 || groups < 1 ||
        dims->dims[1] < groups || dims->dims[1] % groups != 0 ||
        !is_list(self, node->inputs[1], (size_t)groups) ||
        !is_list(self, node->inputs[2], (size_t)groups))
        return XAI_OK;
    const parameters of = {.scale = node->inputs[1],
                           .bias = node->inputs[2],
                           .channels = (size_t)dims->dims[1],
                           .repeats = (size_t)(dims->dims[1] / groups)};
    return make_norm(self, index, node->inputs[0], &of, groups,
                     rewrite_attribute_float(node, "epsilon", 1e-5f), node->name);
}

/* One element, or one for each channel of `dims` and all other axes 1 after broadcasting. */
static bool is_per_channel(const tensor *constant, const shape *dims)
{
    const shape *own = &constant->shape;
    const int channel_axis = dims->rank - 2; /* from the last axis */
    if (!dtype_is_float(constant->dtype) || own->rank > dims->rank)
        return false;
    if (tensor_count(constant) == 1)
        return true;
    for (int i = 0; i < own->rank; i++)
        if (own->dims[own->rank - 1 - i] != (i == channel_axis ? dims->dims[1] : 1))
            return false;
    return own->rank > channel_axis;
}

static xai_status absorb(rewriter *self, int index, bool scaling)
{
    const graph_node *node = &self->graph->nodes[index];
    const shape *dims = &rewrite_value(self, node->outputs[0])->shape;
    for (int k = 0; k < 2; k++) {
        const graph_node *norm = rewrite_producer(self, node->inputs[k], "InstanceNormalization");
        const bool instance = norm != NULL;
        if (!norm)
            norm = rewrite_producer(self, node->inputs[k], "GroupNormalization");
        const tensor *constant = rewrite_constant(self, node->inputs[1 - k]);
        if (!norm || !constant || !rewrite_is_inner(self, node->inputs[k]) || dims->rank < 2 ||
            dims->dims[1] < 1 || norm->input_count != 3 || (!instance && norm->opset < 21) ||
            !shape_equal(dims, &rewrite_value(self, node->inputs[k])->shape) ||
            !is_per_channel(constant, dims) ||
            !is_list(self, norm->inputs[1], (size_t)dims->dims[1]) ||
            !is_list(self, norm->inputs[2], (size_t)dims->dims[1]))
            continue;
        const parameters of = {.scale = norm->inputs[1],
                               .bias = norm->inputs[2],
                               .channels = (size_t)dims->dims[1],
                               .repeats = 1,
                               .factor = scaling ? constant : NULL,
                               .summand = scaling ? NULL : constant};
        const int64_t groups = instance ? 0 : rewrite_attribute_int(norm, "num_groups", 1);
        return make_norm(self, index, norm->inputs[0], &of, groups,
                         rewrite_attribute_float(norm, "epsilon", 1e-5f), norm->name);
    }
    return XAI_OK;
}

xai_status rewrite_group_norm(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    if (node->output_count < 1 || node->outputs[0] == GRAPH_NONE || node->input_count < 2 ||
        node->inputs[0] == GRAPH_NONE || node->inputs[1] == GRAPH_NONE)
        return XAI_OK;
    if (rewrite_is(node, "Reshape"))
        return rewrite_instances(self, index);
    if (rewrite_is(node, "GroupNormalization"))
        return repeat_parameters(self, index);
    if (rewrite_is(node, "Mul") || rewrite_is(node, "Add"))
        return absorb(self, index, rewrite_is(node, "Mul"));
    return XAI_OK;
}
