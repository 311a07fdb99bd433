/* Axes, pads and ends of nodes that a Transpose to channels last passes: for channels first. */
#include <string.h>

#include "graph/rewrite_transpose.h"

/* Constant axes, made positive; all of them when none are given. False when not known or out of range. */
static bool read_axes(const rewriter *self, const graph_node *node, int input, int rank,
                      int64_t axes[SHAPE_MAX_RANK], size_t *count, bool *present)
{
    if (!rewrite_ints(self, node, "axes", input, axes, SHAPE_MAX_RANK, count, present))
        return false;
    for (int i = 0; !*present && i < rank; i++)
        axes[i] = i;
    *count = *present ? *count : (size_t)rank;
    for (size_t i = 0; i < *count; i++) {
        axes[i] += axes[i] < 0 ? rank : 0;
        if (axes[i] < 0 || axes[i] >= rank)
            return false;
    }
    return true;
}

bool transpose_reduces_plane(const rewriter *self, const graph_node *node, int rank,
                             int64_t axes[SHAPE_MAX_RANK], size_t *count)
{
    bool present;
    if (!read_axes(self, node, 1, rank, axes, count, &present) || !present || *count == 0)
        return false;
    for (size_t i = 0; i < *count; i++)
        if (axes[i] == 0 || axes[i] == rank - 1)
            return false;
    return true;
}

static void set_attribute(passed *of, onnx_attribute made)
{
    size_t at = 0;
    while (at < of->attribute_count && strcmp(of->attributes[at].name, made.name) != 0)
        at++;
    of->attributes[at] = made;
    of->attribute_count += at == of->attribute_count;
}

/* A list of integers where the node has it: an input, or an attribute (`input` < 0). */
static bool set_ints(rewriter *self, passed *of, const char *name, int input, const int64_t *values,
                     size_t count)
{
    if (input < 0) {
        const onnx_attribute made = rewrite_ints_attribute(self, name, values, count);
        set_attribute(of, made);
        return made.ints != NULL;
    }
    while (of->input_count <= input)
        of->inputs[of->input_count++] = GRAPH_NONE;
    of->inputs[input] = rewrite_add_ints(self, name, values, count);
    return of->inputs[input] != GRAPH_NONE;
}

/* Each of these fills what differs from the node as it is; false: leave the node alone. */

static bool pass_concat(const graph_node *node, const turn *last, passed *of)
{
    const onnx_attribute *axis = rewrite_attribute(node, "axis");
    if (!axis || axis->type != ONNX_ATTRIBUTE_INT || axis->i < -last->rank || axis->i >= last->rank)
        return false;
    onnx_attribute made = *axis;
    made.i = last->axes[axis->i < 0 ? axis->i + last->rank : axis->i];
    set_attribute(of, made);
    return true;
}

static bool pass_pad(rewriter *self, const graph_node *node, const turn *last, passed *of)
{
    int64_t pads[2 * SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK], made[2 * SHAPE_MAX_RANK] = {0};
    size_t pad_count, axis_count;
    bool present;
    if (!rewrite_ints(self, node, "pads", node->opset < 11 ? -1 : 1, pads, 2 * SHAPE_MAX_RANK,
                      &pad_count, &present) ||
        !present ||
        !read_axes(self, node, node->opset < 18 ? -1 : 3, last->rank, axes, &axis_count,
                   &present) ||
        pad_count != 2 * axis_count)
        return false;
    for (size_t i = 0; i < axis_count; i++) {
        made[last->axes[axes[i]]] = pads[i];
        made[last->axes[axes[i]] + last->rank] = pads[axis_count + i];
    }
    of->input_count = of->input_count > 3 ? 3 : of->input_count; /* all axes */
    return set_ints(self, of, "pads", node->opset < 11 ? -1 : 1, made, 2 * (size_t)last->rank);
}

static bool pass_slice(rewriter *self, const graph_node *node, const turn *last, passed *of)
{
    int64_t axes[SHAPE_MAX_RANK], starts[SHAPE_MAX_RANK];
    size_t count, start_count;
    bool present;
    const int input = node->opset < 10 ? -1 : 3;
    if (!rewrite_ints(self, node, "starts", input < 0 ? -1 : 1, starts, SHAPE_MAX_RANK,
                      &start_count, &present) ||
        !present || !read_axes(self, node, input, last->rank, axes, &count, &present))
        return false;
    if (!present && start_count < count) /* the first few */
        count = start_count;
    for (size_t i = 0; i < count; i++)
        axes[i] = last->axes[axes[i]];
    return count == start_count && set_ints(self, of, "axes", input, axes, count);
}

static bool pass_reduce(rewriter *self, const graph_node *node, const turn *last, passed *of)
{
    int64_t axes[SHAPE_MAX_RANK];
    size_t count;
    bool reduced[SHAPE_MAX_RANK] = {false};
    const bool attribute = rewrite_attribute(node, "axes") != NULL;
    if (!transpose_reduces_plane(self, node, last->rank, axes, &count))
        return false;
    for (size_t i = 0; i < count; i++) {
        axes[i] = last->axes[axes[i]];
        reduced[axes[i]] = true;
    }
    if (rewrite_attribute_int(node, "keepdims", 1) == 0) { /* the axes that are left */
        int64_t place[SHAPE_MAX_RANK], left = 0;
        for (int i = 0; i < last->rank; i++)
            place[i] = reduced[i] ? -1 : left++;
        of->result.rank = 0;
        for (int i = 0; i < last->rank; i++)
            if (place[last->axes[i]] >= 0)
                of->result.axes[of->result.rank++] = place[last->axes[i]];
    }
    return set_ints(self, of, "axes", attribute ? -1 : 1, axes, count);
}

bool transpose_pass_axes(rewriter *self, const graph_node *node, kind what, const turn *last,
                         passed *of)
{
    switch (what) {
    case CONCAT:
        return pass_concat(node, last, of);
    case PAD:
        return pass_pad(self, node, last, of);
    case SLICE:
        return pass_slice(self, node, last, of);
    case REDUCE:
        return pass_reduce(self, node, last, of);
    default:
        return true;
    }
}
