/* Nodes that only move float32 elements of plain tensors, Transpose, Slice and Split; and Add, Sub, Mul, Div of a constant
 * row or number. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/lower.h"

static xai_status step_move(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_move(self->moves, run_address(state, self->operands[0]),
                run_address(state, self->operands[1]), self->accumulate, state->program->threads);
    return XAI_OK;
}

static xai_status step_affine_rows(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_affine_rows(run_address(state, self->operands[0]), run_address(state, self->operands[2]),
                       run_address(state, self->operands[3]), run_address(state, self->operands[1]),
                       self->count, self->channels, self->accumulate, state->program->threads);
    return XAI_OK;
}

static void strides_of(const shape *dims, int64_t out[SHAPE_MAX_RANK])
{
    int64_t stride = 1;
    for (int i = dims->rank - 1; i >= 0; i--) {
        out[i] = stride;
        stride *= dims->dims[i];
    }
}

/* From x to output `index` of a Transpose: y's axis i is x's axis perm[i]. */
static bool transpose_movement(const graph *g, const graph_node *node, movement *out)
{
    const shape *x = &g->values[node->inputs[0]].shape, *y = &g->values[node->outputs[0]].shape;
    int64_t strides[SHAPE_MAX_RANK];
    const onnx_attribute *perm = NULL;
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, "perm") == 0)
            perm = &node->attributes[i];
    if (perm && perm->count != (size_t)x->rank)
        return false;
    strides_of(x, strides);
    strides_of(y, out->to);
    out->rank = y->rank;
    for (int i = 0; i < y->rank; i++) {
        const int64_t axis = perm ? perm->ints[i] : y->rank - 1 - i;
        if (axis < 0 || axis >= x->rank)
            return false;
        out->dims[i] = y->dims[i];
        out->from[i] = strides[axis];
    }
    return true;
}

static xai_status slice_movement(builder *b, const graph_node *node, movement *out)
{
    const shape *x = &b->graph->values[node->inputs[0]].shape,
                *y = &b->graph->values[node->outputs[0]].shape;
    int64_t starts[SHAPE_MAX_RANK], steps[SHAPE_MAX_RANK], strides[SHAPE_MAX_RANK];
    node_call call;
    xai_status status = node_call_open(b->graph, node, &call, b->error);
    if (status != XAI_OK)
        return status;
    status = operator_slice_steps(&call.call, starts, steps);
    node_call_close(&call);
    strides_of(x, strides);
    strides_of(y, out->to);
    out->rank = y->rank;
    for (int i = 0; status == XAI_OK && i < y->rank; i++) {
        out->dims[i] = y->dims[i];
        out->from[i] = strides[i] * steps[i];
        out->source += strides[i] * starts[i];
    }
    return status;
}

/* Output `index` of a Split along `axis`. */
static movement split_movement(const graph *g, const graph_node *node, int axis, int index)
{
    const shape *x = &g->values[node->inputs[0]].shape, *y = &g->values[node->outputs[index]].shape;
    movement m = {.rank = y->rank};
    strides_of(x, m.from);
    strides_of(y, m.to);
    memcpy(m.dims, y->dims, sizeof m.dims);
    for (int i = 0; i < index; i++)
        m.source += g->values[node->outputs[i]].shape.dims[axis] * m.from[axis];
    return m;
}

static xai_status split_axis(builder *b, const graph_node *node, int *out)
{
    node_call call;
    int64_t axis = 0;
    xai_status status = node_call_open(b->graph, node, &call, b->error);
    if (status != XAI_OK)
        return status;
    status = operator_attribute_int(&call.call, "axis", 0, &axis);
    if (status == XAI_OK)
        status = operator_axis(&call.call, axis, b->graph->values[node->inputs[0]].shape.rank, out);
    node_call_close(&call);
    return status;
}

static xai_status movement_of(builder *b, const graph_node *node, int index, movement *out)
{
    int axis = 0;
    *out = (movement){0};
    if (node_is(node, "", "Slice"))
        return slice_movement(b, node, out);
    if (node_is(node, "", "Transpose"))
        return transpose_movement(b->graph, node, out)
                   ? XAI_OK
                   : error_set(b->error, XAI_ERROR_FORMAT, node->place,
                               "attribute perm is no permutation of the input's axes");
    const xai_status status = split_axis(b, node, &axis);
    if (status == XAI_OK)
        *out = split_movement(b->graph, node, axis, index);
    return status;
}

static xai_status emit_move(builder *b, int node, const movement *how, bool back, operand from,
                            operand to, bool accumulate, size_t bytes)
{
    step *s = NULL;
    movement *kept = memory_pool_allocate(b->program->pool, 1, sizeof *kept);
    if (!kept)
        return error_memory(b->error, "plan", sizeof *kept);
    *kept = *how;
    if (back) {
        memcpy(kept->from, how->to, sizeof kept->from);
        memcpy(kept->to, how->from, sizeof kept->to);
        kept->source = how->destination;
        kept->destination = how->source;
    }
    const xai_status status = builder_step(b, step_move, node, "move", &s);
    if (status != XAI_OK)
        return status;
    s->moves = kept;
    s->accumulate = accumulate;
    builder_read(b, s, 0, from);
    builder_write(b, s, 1, to, bytes);
    return XAI_OK;
}

/* The gradient of a plain value, in plain layout. */
static xai_status read_plain_gradient(builder *b, int value, operand *out)
{
    operand primary;
    xai_status status = gradient_read(b, value, &primary);
    *out = primary;
    if (status != XAI_OK || b->values[value].primary == LAYOUT_PLAIN)
        return status;
    *out = builder_buffer(b, layout_bytes(b, value, LAYOUT_PLAIN));
    return out->buffer == BUFFER_NONE
               ? XAI_ERROR_MEMORY
               : builder_convert(b, value, primary, LAYOUT_BLOCKED, *out, LAYOUT_PLAIN);
}

static xai_status move_backward(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const int x = node->inputs[0];
    const size_t bytes = layout_bytes(b, x, LAYOUT_PLAIN);
    const bool direct = b->values[x].primary == LAYOUT_PLAIN;
    operand target;
    bool accumulate = false;
    if (!b->values[x].needs_gradient)
        return XAI_OK;
    /* What a Slice leaves out gets no gradient from here. */
    xai_status status = XAI_OK;
    if (direct)
        status = gradient_write(b, x, &target, &accumulate);
    else {
        target = builder_buffer(b, bytes);
        status = target.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
    }
    if (status == XAI_OK && node_is(node, "", "Slice") && !accumulate)
        status = builder_zero(b, target, bytes);
    for (int i = 0; status == XAI_OK && i < node->output_count; i++) {
        movement how;
        operand gradient;
        status = movement_of(b, node, i, &how);
        if (status == XAI_OK)
            status = read_plain_gradient(b, node->outputs[i], &gradient);
        if (status == XAI_OK)
            status = emit_move(b, self->node, &how, true, gradient, target, accumulate, bytes);
    }
    return status == XAI_OK && !direct ? gradient_add(b, x, target, LAYOUT_PLAIN, true) : status;
}

xai_status lower_move(builder *b, int index, bool *done)
{
    const graph *g = b->graph;
    const graph_node *node = &g->nodes[index];
    operand source, destination;
    *done = false;
    if (!(node_is(node, "", "Transpose") || node_is(node, "", "Slice") ||
          node_is(node, "", "Split")) ||
        g->values[node->inputs[0]].dtype != DTYPE_FLOAT || g->values[node->inputs[0]].is_constant ||
        layout_bytes(b, node->inputs[0], LAYOUT_PLAIN) == 0)
        return XAI_OK;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] == GRAPH_NONE || layout_bytes(b, node->outputs[i], LAYOUT_PLAIN) == 0)
            return XAI_OK;
    *done = true;
    xai_status status = builder_input(b, node->inputs[0], LAYOUT_PLAIN, &source);
    for (int i = 0; status == XAI_OK && i < node->output_count; i++) {
        const int y = node->outputs[i];
        movement how;
        status = movement_of(b, node, i, &how);
        if (status == XAI_OK)
            status = builder_output(b, y, LAYOUT_PLAIN, &destination);
        if (status == XAI_OK)
            status = emit_move(b, index, &how, false, source, destination, false,
                               layout_bytes(b, y, LAYOUT_PLAIN));
        if (status == XAI_OK)
            status = builder_finish(b, y, LAYOUT_PLAIN);
    }
    const unit self = {.emit_backward = move_backward,
                       .node = index,
                       .output = node->outputs[0],
                       .other = GRAPH_NONE};
    return status == XAI_OK ? builder_unit(b, &self) : status;
}

/* ---- A constant row or number ---- */

/* Elements of a row: the constant is copied into the plan. */
#define ROW_LIMIT ((size_t)1 << 20)

static xai_status affine_backward(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const int x = b->graph->values[node->inputs[0]].is_constant ? node->inputs[1] : node->inputs[0];
    const layout primary = b->values[x].primary;
    operand gradient, target = OPERAND_NONE;
    bool accumulate = false;
    step *s = NULL;
    if (!b->values[x].needs_gradient)
        return XAI_OK;
    xai_status status = read_plain_gradient(b, self->output, &gradient);
    if (status != XAI_OK)
        return status;
    if (!self->scale.constant) /* Add: the gradient itself */
        return gradient_add(b, x, gradient, LAYOUT_PLAIN, !b->values[self->output].wants_gradient);
    if (primary == LAYOUT_PLAIN)
        status = gradient_write(b, x, &target, &accumulate);
    else {
        target = builder_buffer(b, layout_bytes(b, x, LAYOUT_PLAIN));
        status = target.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
    }
    if (status == XAI_OK)
        status = builder_step(b, step_affine_rows, self->node, "affine rows", &s);
    if (status != XAI_OK)
        return status;
    s->accumulate = accumulate;
    s->channels = (size_t)self->spec.columns;
    s->count = (size_t)self->spec.rows;
    builder_read(b, s, 0, gradient);
    builder_write(b, s, 1, target, layout_bytes(b, x, LAYOUT_PLAIN));
    builder_read(b, s, 2, self->scale);
    return primary == LAYOUT_PLAIN ? XAI_OK : gradient_add(b, x, target, LAYOUT_PLAIN, true);
}

/* `width` floats made of the constant c for the operator: c, -c, 1 / c; false when one is not finite. */
static bool make_row(const tensor *c, size_t width, bool negate, bool invert, float *out)
{
    const size_t count = tensor_count(c);
    bool finite = true;
    for (size_t i = 0; i < width; i++) {
        float value = (float)tensor_get(c, count == 1 ? 0 : i);
        value = negate ? -value : invert ? 1 / value : value;
        finite = finite && isfinite(value);
        out[i] = value;
    }
    return finite;
}

/* Which operand of the node is a number or a constant row (of the last axes of y, *width elements), beside one of the
 * shape of y: its position, or -1. */
static int constant_row(const graph *g, const graph_node *node, size_t *width)
{
    const shape *y = &g->values[node->outputs[0]].shape;
    for (int i = 0; i < 2; i++) {
        const graph_value *c = &g->values[node->inputs[i]], *x = &g->values[node->inputs[1 - i]];
        if (!c->is_constant || x->is_constant || !shape_equal(&x->shape, y))
            continue;
        const size_t count = tensor_count(&c->constant);
        *width = (size_t)y->dims[y->rank - 1];
        if (count == 1)
            return i;
        size_t matched = 1;
        for (int k = 1; k <= c->shape.rank && k <= y->rank && matched < count &&
                        c->shape.dims[c->shape.rank - k] == y->dims[y->rank - k];
             k++)
            matched *= (size_t)y->dims[y->rank - k];
        *width = count;
        if (matched == count && count <= ROW_LIMIT)
            return i;
    }
    return -1;
}

xai_status lower_affine_rows(builder *b, int index, bool *done)
{
    const graph *g = b->graph;
    const graph_node *node = &g->nodes[index];
    const bool add = node_is(node, "", "Add"), subtract = node_is(node, "", "Sub"),
               multiply = node_is(node, "", "Mul"), divide = node_is(node, "", "Div");
    operand source, destination, row = OPERAND_NONE;
    step *s = NULL;
    *done = false;
    if (!(add || subtract || multiply || divide))
        return XAI_OK;
    const graph_value *y = &g->values[node->outputs[0]];
    const size_t total = layout_bytes(b, node->outputs[0], LAYOUT_PLAIN) / sizeof(float);
    if (y->dtype != DTYPE_FLOAT || y->shape.rank < 1 || total == 0 ||
        b->values[node->outputs[0]].primary != LAYOUT_PLAIN)
        return XAI_OK;
    size_t width = 1;
    const int at = constant_row(g, node, &width);
    if (at < 0 || ((subtract || divide) && at == 0))
        return XAI_OK;
    float *values = memory_pool_allocate(b->program->pool, width, sizeof *values);
    if (!values)
        return error_memory(b->error, "plan", width * sizeof *values);
    if (!make_row(&g->values[node->inputs[at]].constant, width, subtract, divide, values))
        return XAI_OK;
    *done = true;
    row.constant = values;
    unit self = {.emit_backward = affine_backward,
                 .node = index,
                 .output = node->outputs[0],
                 .other = GRAPH_NONE,
                 .scale = multiply || divide ? row : OPERAND_NONE,
                 .shift = OPERAND_NONE};
    self.spec.columns = (int64_t)width;
    self.spec.rows = (int64_t)(total / width);
    xai_status status = builder_input(b, node->inputs[1 - at], LAYOUT_PLAIN, &source);
    if (status == XAI_OK)
        status = builder_output(b, self.output, LAYOUT_PLAIN, &destination);
    if (status == XAI_OK)
        status = builder_step(b, step_affine_rows, index, "affine rows", &s);
    if (status != XAI_OK)
        return status;
    s->channels = width;
    s->count = total / width;
    builder_read(b, s, 0, source);
    builder_write(b, s, 1, destination, total * sizeof(float));
    builder_read(b, s, multiply || divide ? 2 : 3, row);
    return builder_unit(b, &self);
}
