/* Pad of spatial axes merged into what reads it:
 *   Conv(Pad(x, 0))         -> Conv(x) with larger pads
 *   AveragePool(Pad(x, 0))  -> AveragePool(x, count_include_pad = 1): the padded zeros were counted
 *   MaxPool(Pad(x, -inf))   -> MaxPool(x); padding by zero is another function and stays */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "graph/rewrite.h"

/* Pads of the spatial axes, begins then ends; false unless the padding is constant, known and spatial only. */
static bool read_pad(const rewriter *self, const graph_node *pad, int rank,
                     int64_t spatial[2 * SHAPE_MAX_RANK], double *value)
{
    int64_t pads[2 * SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK];
    size_t pad_count, axis_count;
    bool present;
    const onnx_attribute *mode = rewrite_attribute(pad, "mode");
    if (mode && (mode->type != ONNX_ATTRIBUTE_STRING || strcmp(mode->s, "constant") != 0))
        return false;
    *value = 0;
    if (pad->opset < 11)
        *value = rewrite_attribute_float(pad, "value", 0);
    else if (pad->input_count > 2 && pad->inputs[2] != GRAPH_NONE &&
             !rewrite_scalar(self, pad->inputs[2], value))
        return false;
    if (!rewrite_ints(self, pad, "pads", 1, pads, 2 * SHAPE_MAX_RANK, &pad_count, &present) ||
        !rewrite_ints(self, pad, "", 3, axes, SHAPE_MAX_RANK, &axis_count, &present))
        return false;
    for (int i = 0; !present && i < rank; i++)
        axes[i] = i;
    if (!present)
        axis_count = (size_t)rank;
    if (pad_count != 2 * axis_count)
        return false;
    memset(spatial, 0, 2 * SHAPE_MAX_RANK * sizeof *spatial);
    for (size_t i = 0; i < axis_count; i++) {
        const int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
        const int64_t begin = pads[i], end = pads[axis_count + i];
        if (axis < 0 || axis >= rank || begin < 0 || end < 0 || begin > INT32_MAX ||
            end > INT32_MAX || (axis < 2 && (begin || end)))
            return false;
        if (axis >= 2) {
            spatial[axis - 2] = begin;
            spatial[axis - 2 + rank - 2] = end;
        }
    }
    return true;
}

xai_status rewrite_pad(rewriter *self, int index)
{
    graph *g = self->graph;
    const graph_node *node = &g->nodes[index];
    const bool average = rewrite_is(node, "AveragePool"), maximum = rewrite_is(node, "MaxPool");
    if (!average && !maximum && !rewrite_is(node, "Conv"))
        return XAI_OK;
    for (int k = 1; k < node->output_count; k++)
        if (node->outputs[k] != GRAPH_NONE) /* MaxPool's indices count the padded plane */
            return XAI_OK;
    const graph_node *pad = rewrite_producer(self, node->inputs[0], "Pad");
    const int rank = rewrite_value(self, node->inputs[0])->shape.rank;
    int64_t added[2 * SHAPE_MAX_RANK], pads[2 * SHAPE_MAX_RANK] = {0};
    size_t count;
    bool present;
    double value;
    if (!pad || rank < 3 || rewrite_is_protected(self, node->inputs[0]) ||
        !read_pad(self, pad, rank, added, &value) ||
        !rewrite_ints(self, node, "pads", -1, pads, 2 * SHAPE_MAX_RANK, &count, &present) ||
        (present && count != (size_t)(2 * (rank - 2))))
        return XAI_OK;
    const onnx_attribute *automatic = rewrite_attribute(node, "auto_pad");
    if (automatic && (automatic->type != ONNX_ATTRIBUTE_STRING ||
                      (strcmp(automatic->s, "NOTSET") != 0 && strcmp(automatic->s, "VALID") != 0)))
        return XAI_OK;
    if (automatic && strcmp(automatic->s, "VALID") == 0)
        memset(pads, 0, sizeof pads);
    if (maximum ? value > -FLT_MAX : value != 0)
        return XAI_OK;
    count = (size_t)(2 * (rank - 2));
    if (average) { /* padding of the pool's own that is not counted is another divisor; ceil_mode may add windows */
        bool own = false;
        for (size_t i = 0; i < count; i++)
            own = own || pads[i] != 0;
        if ((own && rewrite_attribute_int(node, "count_include_pad", 0) == 0) ||
            rewrite_attribute_int(node, "ceil_mode", 0) != 0)
            return XAI_OK;
    }
    for (size_t i = 0; i < count; i++)
        pads[i] += added[i];
    onnx_attribute *attributes =
        memory_pool_allocate(g->pool, node->attribute_count + 2, sizeof *attributes);
    if (!attributes)
        return error_memory(self->error, "attributes", 0);
    size_t attribute_count = 0;
    for (size_t i = 0; i < node->attribute_count; i++) {
        const char *name = node->attributes[i].name;
        if (strcmp(name, "pads") != 0 && strcmp(name, "auto_pad") != 0 &&
            strcmp(name, "count_include_pad") != 0)
            attributes[attribute_count++] = node->attributes[i];
    }
    attributes[attribute_count] = rewrite_ints_attribute(self, "pads", pads, count);
    if (!attributes[attribute_count++].ints)
        return error_memory(self->error, "attributes", 0);
    if (average)
        attributes[attribute_count++] =
            (onnx_attribute){.name = "count_include_pad", .type = ONNX_ATTRIBUTE_INT, .i = 1};
    enum { MAX_INPUTS = 3 };
    int inputs[MAX_INPUTS] = {pad->inputs[0]};
    for (int k = 1; k < node->input_count && k < MAX_INPUTS; k++)
        inputs[k] = node->inputs[k];
    const replacement with = {.domain = "",
                              .op = node->definition->name,
                              .inputs = inputs,
                              .input_count = node->input_count,
                              .attributes = attributes,
                              .attribute_count = attribute_count,
                              .opset = node->opset};
    return rewrite_replace(self, index, &with, NULL);
}
