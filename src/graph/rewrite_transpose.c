/* Transposes of channels-last exports (TensorFlow). Those that put the channels last go down through what works on elements or axes,
 *
 *   f(T(x), T(z), c)  -> T(f(x, z, c'))      c' a constant whose axes are turned back
 *
 * until the one that puts them first again undoes them; one of those goes up to the image over its rescaling. Nothing is gained where
 * a product or a normalisation over the last axis reads the channels there: then the Transpose stays. */
#include <string.h>

#include "base/error.h"
#include "graph/rewrite_transpose.h"

enum { MAX_READERS = 32, MAX_RESCALING = 8 };

static kind kind_of(const graph_node *node)
{
    static const char *const several[] = {"Add", "Sub", "Mul",  "Div",   "Pow",   "Max",
                                          "Min", "Sum", "Mean", "PRelu", "Where", NULL};
    if ((node->definition->flags & OPERATOR_ELEMENTWISE) && node->output_count == 1)
        return ELEMENTWISE;
    if (*node->definition->domain || node->output_count != 1 || node->input_count > MAX_OPERANDS)
        return OTHER;
    for (const char *const *op = several; *op; op++)
        if (rewrite_is(node, *op))
            return ELEMENTWISE;
    if (strncmp(node->definition->name, "Reduce", 6) == 0)
        return REDUCE;
    return rewrite_is(node, "Concat")  ? CONCAT
           : rewrite_is(node, "Pad")   ? PAD
           : rewrite_is(node, "Slice") ? SLICE
                                       : OTHER;
}

/* How many inputs have the axes of the output: a Clip's bounds have none, nor have a Slice's ends. */
static int operand_count(const graph_node *node)
{
    const kind of = kind_of(node);
    const bool one =
        of != CONCAT && (of != ELEMENTWISE || (node->definition->flags & OPERATOR_ELEMENTWISE));
    return one ? 1 : node->input_count;
}

/* (N, C, spatial...) -> (N, spatial..., C). */
static turn channels_last(int rank)
{
    turn made = {.rank = rank};
    for (int i = 1; i < rank; i++)
        made.axes[i] = i == rank - 1 ? 1 : i + 1;
    return made;
}

static turn channels_first(int rank)
{
    turn made = {.rank = rank};
    for (int i = 1; i < rank; i++)
        made.axes[i] = i == 1 ? rank - 1 : i - 1;
    return made;
}

static bool is_turn(const graph_node *node, const turn *expected)
{
    const onnx_attribute *perm = node ? rewrite_attribute(node, "perm") : NULL;
    return perm && perm->type == ONNX_ATTRIBUTE_INTS && perm->count == (size_t)expected->rank &&
           memcmp(perm->ints, expected->axes, perm->count * sizeof *perm->ints) == 0;
}

static shape turn_shape(const turn *by, const shape *from)
{
    shape made = {.rank = by->rank};
    for (int i = 0; i < by->rank; i++)
        made.dims[i] = from->dims[by->axes[i]];
    return made;
}

/* Axes longer than 1 keep their order: no element moves. */
static bool moves_nothing(const turn *by, const shape *from)
{
    int64_t last = -1;
    for (int i = 0; i < by->rank; i++) {
        if (from->dims[by->axes[i]] == 1)
            continue;
        if (by->axes[i] < last)
            return false;
        last = by->axes[i];
    }
    return true;
}

/* What the Transpose `expected` is applied to to make `value`; GRAPH_NONE when it is not made so, or asked for. */
static int before_turn(const rewriter *self, int value, const turn *expected)
{
    const graph_node *node =
        value == GRAPH_NONE ? NULL : rewrite_producer(self, value, "Transpose");
    return is_turn(node, expected) && !rewrite_is_protected(self, value) ? node->inputs[0]
                                                                         : GRAPH_NONE;
}

/* A Transpose all of whose readers it can pass, or that they undo: nowhere are there two in the end. */
static bool may_pass_readers(const rewriter *self, int value)
{
    int found[MAX_READERS];
    const size_t count = graph_consumers(self->graph, value, found, MAX_READERS);
    for (size_t i = 0; i < count && i < MAX_READERS; i++) {
        const graph_node *reader = &self->graph->nodes[found[i]];
        const kind of = kind_of(reader);
        int64_t axes[SHAPE_MAX_RANK];
        size_t axis_count;
        if (of == REDUCE
                ? !transpose_reduces_plane(self, reader, rewrite_value(self, value)->shape.rank,
                                           axes, &axis_count)
                : of == OTHER && !rewrite_is(reader, "Transpose") &&
                      !(reader->definition->flags & OPERATOR_VIEW))
            return false;
    }
    return count <= MAX_READERS;
}

/* A constant operand of a broadcast: turned, its missing axes being 1. */
static int turn_constant(rewriter *self, int value, const turn *by)
{
    const tensor *from = rewrite_constant(self, value);
    const int missing = by->rank - from->shape.rank;
    if (tensor_count(from) == 1 && missing >= 0 && from->shape.rank < 2)
        return value;
    const size_t size = dtype_size(from->dtype);
    size_t strides[SHAPE_MAX_RANK], stride = 1;
    shape whole = {.rank = by->rank};
    for (int i = by->rank - 1; i >= 0; i--) {
        whole.dims[i] = i < missing ? 1 : from->shape.dims[i - missing];
        strides[i] = stride;
        stride *= (size_t)whole.dims[i];
    }
    const shape dims = turn_shape(by, &whole);
    tensor made = {0};
    if (tensor_create(&made, from->dtype, &dims, self->error) != XAI_OK)
        return GRAPH_NONE;
    for (size_t i = 0, count = tensor_count(&made); i < count; i++) {
        size_t rest = i, at = 0;
        for (int axis = by->rank - 1; axis >= 0; axis--) {
            at += rest % (size_t)dims.dims[axis] * strides[by->axes[axis]];
            rest /= (size_t)dims.dims[axis];
        }
        memcpy((char *)made.data + i * size, (const char *)from->data + at * size, size);
    }
    return rewrite_add_constant(self, self->graph->values[value].name, &made);
}

/* Transpose of `value`, a new value; GRAPH_NONE without memory. */
static int append_turn(rewriter *self, int value, const turn *by)
{
    const graph_value from = *rewrite_value(self, value);
    const shape dims = turn_shape(by, &from.shape);
    const onnx_attribute perm = rewrite_ints_attribute(self, "perm", by->axes, (size_t)by->rank);
    const int made = perm.ints ? rewrite_add_value(self, from.name, from.dtype, &dims) : GRAPH_NONE;
    const replacement with = {.domain = "",
                              .op = "Transpose",
                              .name = from.name,
                              .inputs = &value,
                              .input_count = 1,
                              .attributes = &perm,
                              .attribute_count = 1,
                              .opset = 13};
    return made != GRAPH_NONE && rewrite_append(self, &with, made) == XAI_OK ? made : GRAPH_NONE;
}

/* Whether an operand can be had with its channels first: made by such a Transpose (one that is asked for is turned back), constant,
 * or a gate whose turning moves no element. */
static bool can_turn_back(const rewriter *self, int value, const turn *last, const turn *first)
{
    if (value == GRAPH_NONE)
        return false;
    const graph_value *of = rewrite_value(self, value);
    if (of->is_constant)
        return of->shape.rank <= last->rank && of->dtype != DTYPE_STRING;
    return is_turn(rewrite_producer(self, value, "Transpose"), last) ||
           (of->shape.rank == last->rank && moves_nothing(first, &of->shape));
}

static int turn_back(rewriter *self, int value, const turn *last, const turn *first)
{
    if (rewrite_value(self, value)->is_constant)
        return turn_constant(self, value, first);
    const int before = before_turn(self, value, last);
    return before != GRAPH_NONE ? before : append_turn(self, value, first);
}

static bool is_identity(const turn *of)
{
    for (int i = 0; i < of->rank; i++)
        if (of->axes[i] != i)
            return false;
    return true;
}

/* The node gives way to `of`, and a Transpose of its result where one is needed. */
static xai_status place(rewriter *self, int index, const passed *of)
{
    const graph_node old = self->graph->nodes[index];
    const replacement with = {.domain = old.definition->domain,
                              .op = old.definition->name,
                              .name = old.name,
                              .inputs = of->inputs,
                              .input_count = of->input_count,
                              .attributes = of->attributes,
                              .attribute_count = of->attribute_count,
                              .opset = old.opset};
    if (is_identity(&of->result))
        return rewrite_replace(self, index, &with, NULL);
    const graph_value result = *rewrite_value(self, old.outputs[0]);
    shape dims = {.rank = of->result.rank};
    for (int i = 0; i < dims.rank; i++)
        dims.dims[of->result.axes[i]] = result.shape.dims[i];
    const onnx_attribute perm =
        rewrite_ints_attribute(self, "perm", of->result.axes, (size_t)of->result.rank);
    const int made =
        perm.ints ? rewrite_add_value(self, old.name, result.dtype, &dims) : GRAPH_NONE;
    if (made == GRAPH_NONE)
        return error_memory(self->error, "a transposition", 0);
    const replacement turned = {.domain = "",
                                .op = "Transpose",
                                .inputs = &made,
                                .input_count = 1,
                                .attributes = &perm,
                                .attribute_count = 1,
                                .opset = 13};
    const xai_status status = rewrite_append(self, &with, made);
    return status == XAI_OK ? rewrite_replace(self, index, &turned, NULL) : status;
}

/* The node's attributes, with room for one more, and its inputs. */
static bool start(rewriter *self, const graph_node *node, passed *of)
{
    *of = (passed){.input_count = node->input_count};
    of->attributes =
        memory_pool_allocate(self->graph->pool, node->attribute_count + 1, sizeof *of->attributes);
    if (!of->attributes)
        return false;
    if (node->attribute_count)
        memcpy(of->attributes, node->attributes, node->attribute_count * sizeof *of->attributes);
    of->attribute_count = node->attribute_count;
    memcpy(of->inputs, node->inputs, (size_t)node->input_count * sizeof *of->inputs);
    return true;
}

/* f(T(x), ...) -> T(f(x, ...)) */
static xai_status pass_down(rewriter *self, int index)
{
    const graph_node node = self->graph->nodes[index];
    const kind of = kind_of(&node);
    const int operands = operand_count(&node);
    passed made;
    int rank = 0, turned = 0;
    for (int k = 0; k < operands && rank == 0; k++) {
        const graph_node *t = rewrite_producer(self, node.inputs[k], "Transpose");
        rank = t ? rewrite_value(self, t->outputs[0])->shape.rank : 0;
    }
    if (rank < 3 || rank > 5)
        return XAI_OK;
    const turn last = channels_last(rank), first = channels_first(rank);
    if (of == ELEMENTWISE && rewrite_value(self, node.outputs[0])->shape.rank != rank)
        return XAI_OK;
    for (int k = 0; k < operands; k++) {
        if (!can_turn_back(self, node.inputs[k], &last, &first))
            return XAI_OK;
        if (before_turn(self, node.inputs[k], &last) == GRAPH_NONE)
            continue;
        if (!may_pass_readers(self, node.inputs[k]))
            return XAI_OK;
        turned++;
    }
    if (turned == 0)
        return XAI_OK;
    if (!start(self, &node, &made))
        return error_memory(self->error, "attributes", 0);
    made.result = last;
    if (!transpose_pass_axes(self, &node, of, &last, &made))
        return XAI_OK;
    for (int k = 0; k < operands; k++) {
        made.inputs[k] = turn_back(self, node.inputs[k], &last, &first);
        if (made.inputs[k] == GRAPH_NONE)
            return error_memory(self->error, "an operand with its channels first", 0);
    }
    return place(self, index, &made);
}

/* The one operand that varies; GRAPH_NONE when there are several, or the others are not broadcast to it. */
static int only_operand(const rewriter *self, const graph_node *node)
{
    int found = GRAPH_NONE;
    const shape *result = &rewrite_value(self, node->outputs[0])->shape;
    for (int k = 0; k < operand_count(node); k++) {
        if (rewrite_constant(self, node->inputs[k]))
            continue;
        if (found != GRAPH_NONE || node->inputs[k] == GRAPH_NONE)
            return GRAPH_NONE;
        found = node->inputs[k];
    }
    return found != GRAPH_NONE && shape_equal(&rewrite_value(self, found)->shape, result)
               ? found
               : GRAPH_NONE;
}

/* The node that makes a value which nobody else reads, by arithmetic on the elements of one other. */
static const graph_node *rescaling(const rewriter *self, int value)
{
    const int producer = rewrite_value(self, value)->producer;
    const graph_node *node = producer == GRAPH_NONE ? NULL : &self->graph->nodes[producer];
    return node && !node->removed && rewrite_is_inner(self, value) &&
                   kind_of(node) == ELEMENTWISE && only_operand(self, node) != GRAPH_NONE
               ? node
               : NULL;
}

/* T(f(image)) -> f(T(image)), where everything between is such a rescaling. */
static xai_status pass_up(rewriter *self, int index)
{
    const graph_node *transpose = &self->graph->nodes[index];
    const int rank = rewrite_value(self, transpose->outputs[0])->shape.rank;
    if (rank < 3 || rank > 5)
        return XAI_OK;
    const turn first = channels_first(rank);
    const graph_node *above = rescaling(self, transpose->inputs[0]);
    if (!is_turn(transpose, &first) || !above)
        return XAI_OK;
    int image = transpose->inputs[0];
    for (int i = 0; i < MAX_RESCALING && rewrite_value(self, image)->producer != GRAPH_NONE; i++) {
        const graph_node *node = rescaling(self, image);
        if (!node)
            return XAI_OK;
        image = only_operand(self, node);
    }
    if (rewrite_value(self, image)->producer != GRAPH_NONE)
        return XAI_OK;
    const graph_node node = *above;
    const int operands = operand_count(&node), varying = only_operand(self, &node);
    passed made;
    for (int k = 0; k < operands; k++)
        if (node.inputs[k] != varying && rewrite_value(self, node.inputs[k])->dtype == DTYPE_STRING)
            return XAI_OK;
    if (!start(self, &node, &made))
        return error_memory(self->error, "attributes", 0);
    for (int k = 0; k < operands; k++) {
        made.inputs[k] = node.inputs[k] == varying ? append_turn(self, varying, &first)
                                                   : turn_constant(self, node.inputs[k], &first);
        if (made.inputs[k] == GRAPH_NONE)
            return error_memory(self->error, "an operand with its channels first", 0);
    }
    const replacement with = {.domain = node.definition->domain,
                              .op = node.definition->name,
                              .name = node.name,
                              .inputs = made.inputs,
                              .input_count = made.input_count,
                              .attributes = made.attributes,
                              .attribute_count = made.attribute_count,
                              .opset = node.opset};
    return rewrite_replace(self, index, &with, NULL);
}

xai_status rewrite_transpose(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    if (node->output_count < 1 || node->outputs[0] == GRAPH_NONE || node->input_count < 1 ||
        node->inputs[0] == GRAPH_NONE)
        return XAI_OK;
    if (rewrite_is(node, "Transpose"))
        return pass_up(self, index);
    return kind_of(node) == OTHER ? XAI_OK : pass_down(self, index);
}
