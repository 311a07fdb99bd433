/* Where the rows of a batch lie in what a node computes. Every value of a batch either holds the rows along one axis (from the
 * outside in: a window partition makes B m windows of B rows, row after row) or none. A node of this table computes each row from
 * the same row of its inputs and from values that hold none; anything that is not listed may mix rows. */
#include <string.h>

#include "graph/row.h"

/* --- what the rules ask --- */

static int axis_of(const row_axes *self, int value)
{
    return value == GRAPH_NONE ? ROW_NONE : self->axis[value];
}

static int input(const graph_node *node, int i)
{
    return i < node->input_count ? node->inputs[i] : GRAPH_NONE;
}

static int axis_in(const row_axes *self, const graph_node *node, int i)
{
    return axis_of(self, input(node, i));
}

static const shape *shape_of(const row_axes *self, int value)
{
    return &self->on->values[value].shape;
}

static const onnx_attribute *attribute(const graph_node *node, const char *name)
{
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, name) == 0)
            return &node->attributes[i];
    return NULL;
}

static int64_t integer(const graph_node *node, const char *name, int64_t fallback)
{
    const onnx_attribute *found = attribute(node, name);
    return found ? found->i : fallback;
}

static int wrap(int64_t axis, int rank)
{
    return (int)(axis < 0 ? axis + rank : axis);
}

/* Constant integers of an attribute, or of an input where the operator has come to take them there. */
static bool integers(const row_axes *self, const graph_node *node, const char *name, int from,
                     int64_t *out, size_t *count)
{
    const onnx_attribute *listed = attribute(node, name);
    const int id = from > 0 ? input(node, from) : GRAPH_NONE;
    *count = 0;
    if (listed && listed->count <= SHAPE_MAX_RANK) {
        *count = listed->count;
        for (size_t i = 0; i < *count; i++)
            out[i] = listed->ints[i];
        return true;
    }
    if (id == GRAPH_NONE)
        return !listed;
    const tensor *data = &self->on->values[id].constant;
    if (!self->on->values[id].is_constant || !dtype_is_integer(data->dtype) ||
        tensor_count(data) > SHAPE_MAX_RANK)
        return false;
    *count = tensor_count(data);
    for (size_t i = 0; i < *count; i++)
        out[i] = (int64_t)tensor_get(data, i);
    return true;
}

static bool holds_rows_at(const row_axes *self, int value, int axis)
{
    const shape *dims = shape_of(self, value);
    return axis >= 0 && axis < dims->rank && dims->dims[axis] > 0 &&
           dims->dims[axis] % self->rows == 0;
}

static bool set_output(row_axes *self, const graph_node *node, int k, int axis)
{
    if (k >= node->output_count || node->outputs[k] == GRAPH_NONE)
        return true;
    if (!holds_rows_at(self, node->outputs[k], axis))
        return false;
    self->axis[node->outputs[k]] = (int8_t)axis;
    return true;
}

static bool set_outputs(row_axes *self, const graph_node *node, int axis)
{
    for (int k = 0; k < node->output_count; k++)
        if (!set_output(self, node, k, axis))
            return false;
    return true;
}

/* No input behind the first holds rows. */
static bool first_alone(const row_axes *self, const graph_node *node)
{
    for (int i = 1; i < node->input_count; i++)
        if (axis_in(self, node, i) != ROW_NONE)
            return false;
    return axis_in(self, node, 0) != ROW_NONE;
}

/* --- rules: whether the node keeps rows apart; they set the axes of its outputs --- */

/* y[i] of all x[i], broadcast. */
static bool aligned(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const int y = node->outputs[0];
    const int rank = shape_of(self, y)->rank;
    int at = ROW_NONE;
    for (int i = 0; i < node->input_count; i++) {
        const int axis = axis_in(self, node, i);
        if (axis == ROW_NONE)
            continue;
        const int place = axis + rank - shape_of(self, node->inputs[i])->rank;
        if (at != ROW_NONE && place != at)
            return false;
        at = place;
    }
    for (int i = 0; i < node->input_count; i++) {
        if (node->inputs[i] == GRAPH_NONE || axis_in(self, node, i) != ROW_NONE)
            continue;
        const shape *other = shape_of(self, node->inputs[i]);
        const int place = at - (rank - other->rank);
        if (place >= 0 && other->dims[place] != 1 && !row_axes_repeat(self, index, i, place))
            return false;
    }
    return set_outputs(self, &self->on->nodes[index], at);
}

/* Windows, norms of channels: axis 0 is the batch by definition. */
static bool batch_first(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    if (axis_in(self, node, 0) != 0 || !first_alone(self, node) ||
        integer(node, "training_mode", 0) != 0)
        return false;
    for (int k = 1; k < node->output_count; k++) /* indices into the whole batch */
        if (node->outputs[k] != GRAPH_NONE)
            return false;
    return set_output(self, node, 0, 0);
}

/* Within lines along an axis; before opset 13 a softmax took all axes from there on. */
static bool along_axis(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const char *name = node->definition->name;
    const bool softmax = strstr(name, "oftmax") || strcmp(name, "Hardmax") == 0;
    const int at = axis_in(self, node, 0);
    if (!first_alone(self, node))
        return false;
    const int rank = shape_of(self, node->inputs[0])->rank;
    const bool flat = softmax && node->opset < 13;
    const int axis = wrap(integer(node, "axis", flat ? 1 : -1), rank);
    return (flat ? at < axis && at == 0 : at != axis) && set_outputs(self, node, at);
}

/* Over the axis and all behind it. */
static bool trailing(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const int at = axis_in(self, node, 0);
    return first_alone(self, node) &&
           at < wrap(integer(node, "axis", -1), shape_of(self, node->inputs[0])->rank) &&
           set_outputs(self, node, at);
}

static bool cumulative(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const int at = axis_in(self, node, 0);
    int64_t axis[SHAPE_MAX_RANK];
    size_t count;
    return first_alone(self, node) && integers(self, node, "", 1, axis, &count) && count == 1 &&
           wrap(axis[0], shape_of(self, node->inputs[0])->rank) != at &&
           set_outputs(self, node, at);
}

static bool top(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const int at = axis_in(self, node, 0);
    return first_alone(self, node) &&
           wrap(integer(node, "axis", -1), shape_of(self, node->inputs[0])->rank) != at &&
           set_outputs(self, node, at);
}

static bool reduction(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const bool chooses = strncmp(node->definition->name, "Arg", 3) == 0;
    int64_t axes[SHAPE_MAX_RANK];
    size_t count = 1, before = 0;
    const int at = axis_in(self, node, 0);
    axes[0] = integer(node, "axis", 0);
    if (!first_alone(self, node) ||
        (!chooses && (!integers(self, node, "axes", 1, axes, &count) || count == 0)))
        return false;
    for (size_t i = 0; i < count; i++) {
        const int axis = wrap(axes[i], shape_of(self, node->inputs[0])->rank);
        if (axis == at)
            return false;
        before += axis < at;
    }
    return set_outputs(self, node, at - (integer(node, "keepdims", 1) ? 0 : (int)before));
}

static bool concatenation(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    int at = ROW_NONE;
    for (int i = 0; i < node->input_count; i++) {
        const int axis = axis_in(self, node, i);
        if (axis != ROW_NONE && at != ROW_NONE && axis != at)
            return false;
        at = axis != ROW_NONE ? axis : at;
    }
    if (wrap(integer(node, "axis", 0), shape_of(self, node->outputs[0])->rank) == at)
        return false;
    for (int i = 0; i < node->input_count; i++)
        if (axis_in(self, node, i) == ROW_NONE && !row_axes_repeat(self, index, i, at))
            return false;
    return set_outputs(self, &self->on->nodes[index], at);
}

/* Split, Slice, Pad, Trilu, Tile: what may be, as long as the row's axis keeps its length. */
static bool keeps_axis(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const int at = axis_in(self, node, 0), rank = shape_of(self, node->inputs[0])->rank;
    const char *name = node->definition->name;
    int64_t list[SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK];
    size_t count, axis_count;
    if (!first_alone(self, node))
        return false;
    for (int k = 0; k < node->output_count; k++)
        if (node->outputs[k] != GRAPH_NONE &&
            shape_of(self, node->outputs[k])->dims[at] != shape_of(self, node->inputs[0])->dims[at])
            return false;
    if (strcmp(name, "Split") == 0 && wrap(integer(node, "axis", 0), rank) == at)
        return false;
    if (strcmp(name, "Trilu") == 0 && at >= rank - 2)
        return false;
    if (strcmp(name, "Slice") == 0 && input(node, 4) != GRAPH_NONE) {
        if (!integers(self, node, "", 4, list, &count))
            return false;
        for (size_t i = 0; i < count; i++)
            if (list[i] < 0) /* backwards, perhaps over the rows */
                return false;
    }
    if (strcmp(name, "Pad") == 0) {
        /* As much in front as is cut behind would move the rows. */
        if (!integers(self, node, "", 3, axes, &axis_count) ||
            !integers(self, node, "pads", 1, list, &count))
            return false;
        for (size_t i = 0; i < count / 2; i++)
            if ((axis_count ? wrap(axes[i], rank) : (int)i) == at && list[i] != 0)
                return false;
    }
    return set_outputs(self, node, at);
}

static bool gather(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const int data = axis_in(self, node, 0), place = axis_in(self, node, 1);
    const int rank = shape_of(self, node->inputs[0])->rank,
              index_rank = shape_of(self, node->inputs[1])->rank;
    const int axis = wrap(integer(node, "axis", 0), rank);
    if (place != ROW_NONE)
        return data == ROW_NONE && set_outputs(self, node, axis + place);
    return data != axis && set_outputs(self, node, data < axis ? data : data + index_rank - 1);
}

static bool transpose(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const onnx_attribute *perm = attribute(node, "perm");
    const int at = axis_in(self, node, 0), rank = shape_of(self, node->inputs[0])->rank;
    for (int i = 0; i < rank; i++)
        if ((perm ? (int)perm->ints[i] : rank - 1 - i) == at)
            return set_outputs(self, node, i);
    return false;
}

/* The same numbers in the same order: the rows are where as much lies outside of them. */
static bool view(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const char *name = node->definition->name;
    const shape *from = shape_of(self, node->inputs[0]), *to = shape_of(self, node->outputs[0]);
    const int at = axis_in(self, node, 0);
    int64_t outside = 1, there = 1;
    if (!first_alone(self, node))
        return false;
    if (strcmp(name, "Squeeze") == 0 && input(node, 1) == GRAPH_NONE && !attribute(node, "axes"))
        return false; /* it would take the axis of a single row */
    for (int i = 0; i < at; i++)
        outside *= from->dims[i];
    for (int i = 0; i < to->rank; there *= to->dims[i++])
        if (there == outside && holds_rows_at(self, node->outputs[0], i))
            return set_output(self, node, 0, i) &&
                   (strcmp(name, "Reshape") != 0 || row_axes_retarget(self, index, 1, to->rank));
    return false;
}

static bool expansion(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const int rank = shape_of(self, node->outputs[0])->rank;
    return first_alone(self, node) &&
           set_output(self, node, 0,
                      axis_in(self, node, 0) + rank - shape_of(self, node->inputs[0])->rank) &&
           row_axes_retarget(self, index, 1, (int)shape_of(self, node->inputs[1])->dims[0]);
}

static bool resize(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const int at = axis_in(self, node, 0);
    const onnx_attribute *policy = attribute(node, "keep_aspect_ratio_policy");
    if (!first_alone(self, node) || attribute(node, "axes") ||
        (policy && strcmp(policy->s, "stretch") != 0) ||
        shape_of(self, node->outputs[0])->dims[at] != shape_of(self, node->inputs[0])->dims[at] ||
        !set_output(self, node, 0, at))
        return false;
    return input(node, 3) == GRAPH_NONE ||
           row_axes_retarget(self, index, 3, shape_of(self, node->outputs[0])->rank);
}

static bool product(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const int rank = shape_of(self, node->outputs[0])->rank;
    int at = ROW_NONE;
    for (int i = 0; i < 2; i++) {
        const int axis = axis_in(self, node, i), own = shape_of(self, node->inputs[i])->rank;
        if (axis == ROW_NONE)
            continue;
        /* Lines of the left matrix, or an axis of matrices. */
        const bool line = i == 0 && axis == own - 2;
        if (own < 2 || (!line && axis >= own - 2))
            return false;
        const bool vector = shape_of(self, node->inputs[1 - i])->rank < 2;
        const int place = vector ? axis : axis + rank - own;
        if (at != ROW_NONE && (place != at || line))
            return false;
        at = place;
        if (axis_in(self, node, 1 - i) != ROW_NONE || vector || line)
            continue;
        const shape *other = shape_of(self, node->inputs[1 - i]);
        const int there = at - (rank - other->rank);
        if (there >= 0 && other->dims[there] != 1 && !row_axes_repeat(self, index, 1 - i, there))
            return false;
    }
    /* Lines on one side, matrices on the other. */
    if (axis_in(self, node, 0) != ROW_NONE && axis_in(self, node, 1) != ROW_NONE && at >= rank - 2)
        return false;
    return set_outputs(self, &self->on->nodes[index], at);
}

static bool gemm(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const int c = input(node, 2);
    if (!first_alone(self, node) || axis_in(self, node, 0) != 0 || integer(node, "transA", 0) != 0)
        return false;
    if (c != GRAPH_NONE && shape_of(self, c)->rank == 2 && shape_of(self, c)->dims[0] != 1 &&
        !row_axes_repeat(self, index, 2, 0))
        return false;
    return set_output(self, &self->on->nodes[index], 0, 0);
}

static bool quantisation(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const int at = axis_in(self, node, 0), scale = input(node, 1);
    size_t count;
    if (!first_alone(self, node) || !shape_count(shape_of(self, scale), &count) ||
        integer(node, "block_size", 0) != 0)
        return false;
    return (count == 1 ||
            wrap(integer(node, "axis", 1), shape_of(self, node->inputs[0])->rank) != at) &&
           set_outputs(self, node, at);
}

/* RNN, GRU, LSTM: X, W, R, B, sequence_lens, initial_h, initial_c, P. */
static bool recurrence(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const bool rows_first = integer(node, "layout", 0) != 0;
    const int wanted[] = {rows_first ? 0 : 1, ROW_NONE,           ROW_NONE, ROW_NONE, 0,
                          rows_first ? 0 : 1, rows_first ? 0 : 1, ROW_NONE};
    if (axis_in(self, node, 0) != wanted[0])
        return false;
    for (int i = 1; i < node->input_count && i < 8; i++) {
        const int axis = axis_in(self, node, i);
        if (node->inputs[i] == GRAPH_NONE || axis == wanted[i])
            continue;
        if (axis != ROW_NONE || !row_axes_repeat(self, index, i, wanted[i]))
            return false;
    }
    node = &self->on->nodes[index];
    return set_output(self, node, 0, rows_first ? 0 : 2) &&
           set_output(self, node, 1, rows_first ? 0 : 1) &&
           set_output(self, node, 2, rows_first ? 0 : 1);
}

/* ReverseSequence: x, lengths. */
static bool reversal(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const int at = axis_in(self, node, 0);
    if (!first_alone(self, node) || at == integer(node, "time_axis", 0))
        return false;
    return (at != integer(node, "batch_axis", 1) || row_axes_repeat(self, index, 1, 0)) &&
           set_outputs(self, &self->on->nodes[index], at);
}

/* A letter of the result that every operand with rows has at their axis, and no other operand has. */
static bool sum_of_products(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const onnx_attribute *found = attribute(node, "equation");
    char letter = 0;
    int operand = 0, position = 0;
    if (!found || strchr(found->s, '.') || !strstr(found->s, "->"))
        return false;
    for (const char *c = found->s; *c != '-'; c++) {
        if (*c == ' ')
            continue;
        if (*c == ',') {
            operand++;
            position = 0;
        } else if (position++ == axis_in(self, node, operand)) {
            if (letter && letter != *c)
                return false;
            letter = *c;
        }
    }
    operand = position = 0;
    for (const char *c = found->s; *c != '-'; c++) {
        if (*c == ',') {
            operand++;
            position = 0;
        } else if (*c != ' ' && (position++ == axis_in(self, node, operand)) != (*c == letter)) {
            return false;
        }
    }
    position = 0;
    for (const char *c = strstr(found->s, "->") + 2; *c; c++) {
        if (*c == letter)
            return set_output(self, node, 0, position);
        position += *c != ' ';
    }
    return false;
}

/* The operator Attention, without a mask and without a past. */
static bool attention(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    for (int i = 0; i < node->input_count; i++)
        if (i < 3 ? axis_in(self, node, i) != 0 : node->inputs[i] != GRAPH_NONE)
            return false;
    return set_outputs(self, node, 0);
}

/* --- the table --- */

typedef bool (*row_rule)(row_axes *self, int index);

static const struct {
    row_rule rule;
    const char *names; /* between spaces */
} rules[] = {
    {aligned, " Add Sub Mul Div Mod PRelu Pow Max Min Sum Mean Equal Less Greater LessOrEqual "
              "GreaterOrEqual And Or Xor Where Clip Cast CastLike Not IsNaN IsInf Identity "
              "Dropout BitwiseAnd BitwiseOr BitwiseXor BitwiseNot BitShift "},
    {batch_first, " Conv ConvTranspose MaxPool AveragePool LpPool GlobalMaxPool GlobalAveragePool "
                  "GlobalLpPool BatchNormalization InstanceNormalization GroupNormalization LRN "
                  "DepthToSpace SpaceToDepth "},
    {along_axis, " Softmax LogSoftmax Hardmax LpNormalization "},
    {trailing, " LayerNormalization RMSNormalization "},
    {cumulative, " CumSum "},
    {top, " TopK "},
    {reduction, " ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 "
                "ReduceLogSum ReduceLogSumExp ReduceSumSquare ArgMax ArgMin "},
    {concatenation, " Concat "},
    {keeps_axis, " Split Slice Pad Trilu Tile "},
    {gather, " Gather "},
    {transpose, " Transpose "},
    {view, " Reshape Flatten Squeeze Unsqueeze "},
    {expansion, " Expand "},
    {resize, " Resize Upsample "},
    {product, " MatMul "},
    {gemm, " Gemm "},
    {quantisation, " QuantizeLinear DequantizeLinear "},
    {recurrence, " RNN GRU LSTM "},
    {reversal, " ReverseSequence "},
    {sum_of_products, " Einsum "},
    {attention, " Attention "},
};

bool row_axes_follow(row_axes *self, int index)
{
    const graph_node *node = &self->on->nodes[index];
    const char *name = node->definition->name;
    bool any = false;
    for (int i = 0; i < node->input_count; i++)
        any = any || axis_in(self, node, i) != ROW_NONE;
    if (!any)
        return true;
    if (*node->definition->domain != '\0')
        return false;
    if (node->definition->flags & OPERATOR_ELEMENTWISE)
        return aligned(self, index);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const char *found = strstr(rules[i].names, name);
        if (found && found[-1] == ' ' && found[strlen(name)] == ' ')
            return rules[i].rule(self, index);
    }
    return false;
}
