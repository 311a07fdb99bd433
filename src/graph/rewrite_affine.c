/* y = scale[c] x + shift[c] over the channel axis 1: BatchNormalization at inference and arithmetic with per-channel constants.
 *
 * Behind a Conv, ConvTranspose or Gemm that nobody else reads it goes into the weights:
 *   scale (W x + b) + shift = (scale W) x + (scale b + shift)
 * What remains of BatchNormalization, and chains of two or more such nodes, become one xai.ScaleShift.
 * New constants are computed in double and rounded once. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "graph/rewrite.h"

typedef struct affine {
    int source; /* x */
    size_t channels;
    double *scale, *shift; /* one block: shift = scale + channels */
    bool scales;           /* some scale is not 1 */
    bool per_channel;      /* not just scalars */
} affine;

static bool is_batch_norm(const graph_node *node)
{
    return rewrite_is(node, "BatchNormalization");
}

static bool is_scale_shift(const graph_node *node)
{
    return strcmp(node->definition->domain, "xai") == 0 &&
           strcmp(node->definition->name, "ScaleShift") == 0;
}

/* Whether a constant has one element, or one for each channel of `x` with all other axes 1 after broadcasting. */
static bool is_per_channel(const tensor *constant, const shape *x, bool *scalar)
{
    const int behind = x->rank - 2; /* axes after the channel axis */
    const shape *dims = &constant->shape;
    *scalar = tensor_count(constant) == 1;
    if (dims->rank > x->rank)
        return false;
    if (*scalar)
        return true;
    for (int i = 1; i <= dims->rank; i++) { /* from the last axis */
        const int64_t size = dims->dims[dims->rank - i];
        if (i == behind + 1 ? size != x->dims[1] : size != 1)
            return false;
    }
    return dims->rank > behind;
}

/* Reads a constant into channels doubles. */
static void read_channels(const tensor *constant, size_t channels, double *out)
{
    if (tensor_count(constant) == channels) {
        tensor_read_doubles(constant, 0, channels, out);
        return;
    }
    const double value = tensor_get(constant, 0);
    for (size_t c = 0; c < channels; c++)
        out[c] = value;
}

static bool has_channels(const tensor *constant, size_t channels)
{
    return constant && dtype_is_float(constant->dtype) && constant->shape.rank == 1 &&
           tensor_count(constant) == channels;
}

static bool read_batch_norm(const rewriter *self, const graph_node *node, affine *out,
                            xai_status *status)
{
    const tensor *constants[4]; /* gamma, beta, mean, variance */
    const double epsilon = rewrite_attribute_float(node, "epsilon", 1e-5f);
    if (node->input_count < 5 || rewrite_attribute_int(node, "training_mode", 0) != 0)
        return false;
    for (int k = 0; k < 4; k++) {
        constants[k] = rewrite_constant(self, node->inputs[1 + k]);
        if (!has_channels(constants[k], out->channels))
            return false;
    }
    double *buffer = memory_allocate(2 * out->channels, sizeof *buffer);
    if (!buffer) {
        *status = error_memory(self->error, "normalisation", 2 * out->channels * sizeof *buffer);
        return false;
    }
    double *mean = buffer, *variance = buffer + out->channels;
    read_channels(constants[0], out->channels, out->scale);
    read_channels(constants[1], out->channels, out->shift);
    read_channels(constants[2], out->channels, mean);
    read_channels(constants[3], out->channels, variance);
    for (size_t c = 0; c < out->channels; c++) {
        out->scale[c] /= sqrt(variance[c] + epsilon);
        out->shift[c] -= out->scale[c] * mean[c];
    }
    memory_free(buffer);
    out->source = node->inputs[0];
    out->per_channel = true;
    return true;
}

static bool read_scale_shift(const rewriter *self, const graph_node *node, affine *out)
{
    const tensor *scale = rewrite_constant(self, node->inputs[1]);
    const tensor *shift = rewrite_constant(self, node->inputs[2]);
    if (!has_channels(scale, out->channels) || !has_channels(shift, out->channels))
        return false;
    read_channels(scale, out->channels, out->scale);
    read_channels(shift, out->channels, out->shift);
    out->source = node->inputs[0];
    out->per_channel = true;
    return true;
}

static bool read_arithmetic(const rewriter *self, const graph_node *node, affine *out)
{
    const bool add = rewrite_is(node, "Add"), sub = rewrite_is(node, "Sub");
    const bool mul = rewrite_is(node, "Mul"), div = rewrite_is(node, "Div");
    if (!add && !sub && !mul && !div)
        return false;
    const int at = rewrite_constant(self, node->inputs[1]) ? 1 : 0;
    const tensor *constant = rewrite_constant(self, node->inputs[at]);
    const shape *dims = &rewrite_value(self, node->outputs[0])->shape;
    bool scalar;
    if (!constant || (div && at == 0) || !dtype_is_float(constant->dtype) ||
        !shape_equal(&rewrite_value(self, node->inputs[1 - at])->shape, dims) ||
        !is_per_channel(constant, dims, &scalar))
        return false;
    read_channels(constant, out->channels, add || sub ? out->shift : out->scale);
    for (size_t c = 0; c < out->channels; c++) {
        if (add || sub)
            out->scale[c] = sub && at == 0 ? -1 : 1;
        else
            out->shift[c] = 0;
        if (sub && at == 1)
            out->shift[c] = -out->shift[c];
        if (div)
            out->scale[c] = 1 / out->scale[c];
    }
    out->source = node->inputs[1 - at];
    out->per_channel = !scalar;
    return true;
}

/* Without a scale when the node is not of this kind. */
static xai_status read_affine(const rewriter *self, const graph_node *node, affine *out)
{
    xai_status status = XAI_OK;
    *out = (affine){.source = GRAPH_NONE};
    if (node->input_count < 2 || node->inputs[0] == GRAPH_NONE || node->inputs[1] == GRAPH_NONE)
        return XAI_OK;
    const graph_value *result = rewrite_value(self, node->outputs[0]);
    const bool norm = is_batch_norm(node), scale_shift = is_scale_shift(node);
    const bool arithmetic = rewrite_is(node, "Add") || rewrite_is(node, "Sub") ||
                            rewrite_is(node, "Mul") || rewrite_is(node, "Div");
    if ((!norm && !scale_shift && !arithmetic) || result->shape.rank < 2 ||
        result->shape.dims[1] < 1 ||
        (result->dtype != DTYPE_FLOAT && result->dtype != DTYPE_DOUBLE))
        return XAI_OK;
    if (arithmetic && !rewrite_constant(self, node->inputs[0]) &&
        !rewrite_constant(self, node->inputs[1]))
        return XAI_OK;
    out->channels = (size_t)result->shape.dims[1];
    out->scale = memory_allocate(2 * out->channels, sizeof *out->scale);
    if (!out->scale)
        return error_memory(self->error, "channels", 2 * out->channels * sizeof *out->scale);
    out->shift = out->scale + out->channels;
    bool read = norm          ? read_batch_norm(self, node, out, &status)
                : scale_shift ? read_scale_shift(self, node, out)
                              : read_arithmetic(self, node, out);
    for (size_t c = 0; c < out->channels && read; c++) {
        read = isfinite(out->scale[c]) && isfinite(out->shift[c]);
        out->scales = out->scales || out->scale[c] != 1;
    }
    if (!read) {
        memory_free(out->scale);
        out->scale = NULL;
    }
    return status;
}

/* One rounding to the element type must not turn a finite number into infinity. */
static bool write_rounded(tensor *out, size_t begin, size_t count, const double *values)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]) || (out->dtype == DTYPE_FLOAT && !isfinite((float)values[i])))
            return false;
    tensor_write_doubles(out, begin, count, values);
    return true;
}

/* The linear operator in front, with what is needed to scale its weights. */
typedef struct linear {
    const graph_node *node;
    const tensor *weights, *bias; /* bias NULL when there is none */
    size_t outer, channels,
        inner; /* weights as (outer, channels, inner), scaled along the middle */
    size_t
        groups; /* ConvTranspose: channel of block o is o / (outer / groups) * channels + middle index */
    double bias_factor; /* Gemm's beta */
} linear;

static bool read_linear(const rewriter *self, const graph_node *node, size_t channels, linear *out)
{
    *out = (linear){.node = node, .outer = 1, .inner = 1, .groups = 1, .bias_factor = 1};
    const bool conv = rewrite_is(node, "Conv"), transposed = rewrite_is(node, "ConvTranspose");
    if (!conv && !transposed && !rewrite_is(node, "Gemm"))
        return false;
    out->weights = rewrite_constant(self, node->inputs[1]);
    if (!out->weights || out->weights->shape.rank < 2)
        return false;
    const bool has_bias = node->input_count > 2 && node->inputs[2] != GRAPH_NONE;
    out->bias = has_bias ? rewrite_constant(self, node->inputs[2]) : NULL;
    if (has_bias && !out->bias)
        return false;
    const int64_t *dims = out->weights->shape.dims;
    for (int i = 2; i < out->weights->shape.rank; i++)
        out->inner *= (size_t)dims[i];
    if (conv) { /* (M, C / groups, k...) */
        out->channels = (size_t)dims[0];
        out->inner *= (size_t)dims[1];
    } else if (transposed) { /* (C, M / groups, k...) */
        const int64_t groups = rewrite_attribute_int(node, "group", 1);
        if (groups < 1 || dims[0] % groups != 0)
            return false;
        out->groups = (size_t)groups;
        out->outer = (size_t)dims[0];
        out->channels = (size_t)dims[1];
    } else { /* (K, N), or (N, K) with transB */
        if (out->weights->shape.rank != 2)
            return false;
        const bool rows = rewrite_attribute_int(node, "transB", 0) != 0;
        out->outer = rows ? 1 : (size_t)dims[0];
        out->channels = (size_t)dims[rows ? 0 : 1];
        out->inner = rows ? (size_t)dims[1] : 1;
        out->bias_factor = rewrite_attribute_float(node, "beta", 1);
    }
    if (out->channels * out->groups != channels)
        return false;
    if (out->bias) { /* (M), for Gemm also (1, M) or one number */
        const size_t count = tensor_count(out->bias);
        const int rank = out->bias->shape.rank;
        if (count != channels && count != 1)
            return false;
        if (count > 1 && (rank < 1 || out->bias->shape.dims[rank - 1] != (int64_t)channels))
            return false;
    }
    return true;
}

static xai_status scale_weights(rewriter *self, const linear *of, const affine *by, tensor *out)
{
    double *row = memory_allocate(of->inner, sizeof *row);
    if (!row)
        return error_memory(self->error, "a row of weights", of->inner * sizeof *row);
    xai_status status = tensor_create(out, of->weights->dtype, &of->weights->shape, self->error);
    for (size_t o = 0; o < of->outer && status == XAI_OK; o++) {
        const size_t group = o / (of->outer / of->groups);
        for (size_t c = 0; c < of->channels; c++) {
            const size_t begin = (o * of->channels + c) * of->inner;
            tensor_read_doubles(of->weights, begin, of->inner, row);
            for (size_t i = 0; i < of->inner; i++)
                row[i] *= by->scale[group * of->channels + c];
            if (!write_rounded(out, begin, of->inner, row)) {
                tensor_free(out); /* too large for the type: do not fold */
                goto done;
            }
        }
    }
done:
    memory_free(row);
    return status;
}

static xai_status scale_bias(rewriter *self, const linear *of, const affine *by, tensor *out)
{
    const int64_t channels = (int64_t)by->channels;
    const shape dims = shape_make(1, &channels);
    double *bias = memory_allocate_zeroed(by->channels, sizeof *bias);
    if (!bias)
        return error_memory(self->error, "a bias", by->channels * sizeof *bias);
    if (of->bias)
        read_channels(of->bias, by->channels, bias);
    for (size_t c = 0; c < by->channels; c++)
        bias[c] = by->scale[c] * of->bias_factor * bias[c] + by->shift[c];
    const xai_status status = tensor_create(out, of->weights->dtype, &dims, self->error);
    if (status == XAI_OK && !write_rounded(out, 0, by->channels, bias))
        tensor_free(out);
    memory_free(bias);
    return status;
}

/* Into the weights of the node in front. Nothing happens when there is none that may change. */
static xai_status fold_into_linear(rewriter *self, int index, const affine *by, bool *applied)
{
    linear of;
    graph *g = self->graph;
    const int producer = rewrite_value(self, by->source)->producer;
    if (producer == GRAPH_NONE || !rewrite_is_inner(self, by->source) ||
        !read_linear(self, &g->nodes[producer], by->channels, &of) ||
        (of.weights->dtype != DTYPE_FLOAT && of.weights->dtype != DTYPE_DOUBLE))
        return XAI_OK;
    const graph_node front = *of.node;
    tensor weights = {0}, bias = {0};
    int inputs[3] = {front.inputs[0], front.inputs[1], GRAPH_NONE};
    xai_status status = scale_bias(self, &of, by, &bias);
    if (status == XAI_OK && bias.data && by->scales) {
        status = scale_weights(self, &of, by, &weights);
        if (status == XAI_OK && !weights.data)
            tensor_free(&bias);
    }
    if (status != XAI_OK || !bias.data)
        goto done;
    if (weights.data) {
        inputs[1] = rewrite_add_constant(self, g->values[inputs[1]].name, &weights);
        if (inputs[1] == GRAPH_NONE) {
            status = error_memory(self->error, "folded weights", 0);
            goto done;
        }
    }
    inputs[2] = rewrite_add_constant(self, front.name, &bias);
    if (inputs[2] == GRAPH_NONE) {
        status = error_memory(self->error, "a folded bias", 0);
        goto done;
    }
    onnx_attribute *attributes = memory_pool_allocate(
        g->pool, front.attribute_count ? front.attribute_count : 1, sizeof *attributes);
    if (!attributes) {
        status = error_memory(self->error, "attributes", 0);
        goto done;
    }
    size_t attribute_count = 0;
    for (size_t i = 0; i < front.attribute_count; i++)
        if (strcmp(front.attributes[i].name, "beta") != 0)
            attributes[attribute_count++] = front.attributes[i];
    const replacement with = {.domain = "",
                              .op = front.definition->name,
                              .name = front.name,
                              .inputs = inputs,
                              .input_count = 3,
                              .attributes = attributes,
                              .attribute_count = attribute_count,
                              .opset = front.opset};
    status = rewrite_replace(self, index, &with, applied);
done:
    tensor_free(&weights);
    tensor_free(&bias);
    return status;
}

/* After another per-channel node: scale2 (scale1 x + shift1) + shift2. */
static xai_status join_affine(const rewriter *self, affine *by, bool *joined)
{
    affine first;
    const int producer = rewrite_value(self, by->source)->producer;
    *joined = false;
    if (producer == GRAPH_NONE || !rewrite_is_inner(self, by->source))
        return XAI_OK;
    const xai_status status = read_affine(self, &self->graph->nodes[producer], &first);
    if (status != XAI_OK || !first.scale)
        return status;
    for (size_t c = 0; c < by->channels; c++) {
        by->shift[c] += by->scale[c] * first.shift[c];
        by->scale[c] *= first.scale[c];
    }
    by->source = first.source;
    by->per_channel = by->per_channel || first.per_channel;
    memory_free(first.scale);
    *joined = true;
    return XAI_OK;
}

static xai_status make_scale_shift(rewriter *self, int index, const affine *by)
{
    graph *g = self->graph;
    const graph_node *node = &g->nodes[index];
    const int32_t dtype = rewrite_value(self, node->outputs[0])->dtype;
    const char *name = node->name;
    const int64_t channels = (int64_t)by->channels;
    const shape dims = shape_make(1, &channels);
    int inputs[3] = {by->source};
    for (int k = 0; k < 2; k++) {
        tensor data = {0};
        const xai_status status = tensor_create(&data, dtype, &dims, self->error);
        if (status != XAI_OK)
            return status;
        if (!write_rounded(&data, 0, by->channels, k ? by->shift : by->scale)) {
            tensor_free(&data);
            return XAI_OK;
        }
        inputs[1 + k] = rewrite_add_constant(self, name, &data);
        if (inputs[1 + k] == GRAPH_NONE)
            return error_memory(self->error, "a scale and shift", 0);
    }
    const replacement with = {
        .domain = "xai", .op = "ScaleShift", .inputs = inputs, .input_count = 3, .opset = 1};
    return rewrite_replace(self, index, &with, NULL);
}

xai_status rewrite_affine(rewriter *self, int index)
{
    affine by;
    const graph_node *node = &self->graph->nodes[index];
    for (int k = 1; k < node->output_count; k++)
        if (node->outputs[k] != GRAPH_NONE)
            return XAI_OK;
    if (node->outputs[0] == GRAPH_NONE)
        return XAI_OK;
    xai_status status = read_affine(self, node, &by);
    if (status != XAI_OK || !by.scale)
        return status;
    const bool norm = is_batch_norm(node), scale_shift = is_scale_shift(node);
    bool applied = false, joined = false;
    status = fold_into_linear(self, index, &by, &applied);
    if (status == XAI_OK && !applied)
        status = join_affine(self, &by, &joined);
    if (status == XAI_OK && !applied) {
        /* A single Mul or Add stays, and chains of scalars do. */
        if (joined ? by.per_channel : norm && !scale_shift)
            status = make_scale_shift(self, index, &by);
    }
    memory_free(by.scale);
    return status;
}
