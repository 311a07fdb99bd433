/* Nodes that only move float32 elements of plain tensors: Transpose, Slice, Split, Gather at one index, Concat; and Add, Sub,
 * Mul, Div of a constant that is a number, a row, or repeated along any axes. */
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

static xai_status step_affine_broadcast(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_affine_broadcast(
        self->moves, run_address(state, self->operands[0]), run_address(state, self->operands[2]),
        run_address(state, self->operands[3]), run_address(state, self->operands[1]),
        self->accumulate, state->program->threads);
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

/* The axis and the one constant index that a Gather takes; false when it takes more. */
static xai_status gather_index(builder *b, const graph_node *node, int *axis, int64_t *at,
                               bool *single)
{
    node_call call;
    int64_t wished = 0;
    *single = false;
    const graph_value *index = &b->graph->values[node->inputs[1]],
                      *x = &b->graph->values[node->inputs[0]];
    if (!index->is_constant || tensor_count(&index->constant) != 1)
        return XAI_OK;
    xai_status status = node_call_open(b->graph, node, &call, b->error);
    if (status != XAI_OK)
        return status;
    status = operator_attribute_int(&call.call, "axis", 0, &wished);
    if (status == XAI_OK)
        status = operator_axis(&call.call, wished, x->shape.rank, axis);
    node_call_close(&call);
    if (status != XAI_OK)
        return status;
    tensor_read_ints(&index->constant, 0, 1, at);
    *at += *at < 0 ? x->shape.dims[*axis] : 0;
    *single = *at >= 0 && *at < x->shape.dims[*axis];
    return XAI_OK;
}

/* The index's axes stand where `axis` stood; all have one element. */
static xai_status gather_movement(builder *b, const graph_node *node, movement *out)
{
    const graph *g = b->graph;
    const shape *y = &g->values[node->outputs[0]].shape;
    const int extra = g->values[node->inputs[1]].shape.rank;
    int64_t strides[SHAPE_MAX_RANK], at = 0;
    int axis = 0;
    bool single;
    const xai_status status = gather_index(b, node, &axis, &at, &single);
    strides_of(&g->values[node->inputs[0]].shape, strides);
    strides_of(y, out->to);
    out->rank = y->rank;
    out->source = at * strides[axis];
    for (int i = 0; i < y->rank; i++) {
        out->dims[i] = y->dims[i];
        out->from[i] = i < axis ? strides[i] : i < axis + extra ? 0 : strides[i - extra + 1];
    }
    return status;
}

xai_status movement_of(builder *b, const graph_node *node, int index, movement *out, bool *known)
{
    int axis = 0;
    *out = (movement){0};
    *known = true;
    if (node_is(node, "", "Gather")) {
        int64_t at;
        const xai_status status = gather_index(b, node, &axis, &at, known);
        return status == XAI_OK && *known ? gather_movement(b, node, out) : status;
    }
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

xai_status read_plain_gradient(builder *b, int value, operand *out)
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
    /* What a Slice or Gather leaves out gets no gradient from here. */
    xai_status status = XAI_OK;
    if (direct)
        status = gradient_write(b, x, &target, &accumulate);
    else {
        target = builder_buffer(b, bytes);
        status = target.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
    }
    if (status == XAI_OK && !node_is(node, "", "Transpose") && !node_is(node, "", "Split") &&
        !accumulate)
        status = builder_zero(b, target, bytes);
    for (int i = 0; status == XAI_OK && i < node->output_count; i++) {
        movement how;
        operand gradient;
        bool known;
        status = movement_of(b, node, i, &how, &known);
        if (status == XAI_OK)
            status = read_plain_gradient(b, node->outputs[i], &gradient);
        if (status == XAI_OK)
            status = emit_move(b, self->node, &how, true, gradient, target, accumulate, bytes);
    }
    return status == XAI_OK && !direct ? gradient_add(b, x, target, LAYOUT_PLAIN, true) : status;
}

/* ---- Concat of plain tensors ---- */

/* From input `index` to the whole. */
static movement join_movement(const graph *g, const graph_node *node, int axis, int index)
{
    const shape *x = &g->values[node->inputs[index]].shape;
    movement m = {.rank = x->rank};
    strides_of(x, m.from);
    strides_of(&g->values[node->outputs[0]].shape, m.to);
    memcpy(m.dims, x->dims, sizeof m.dims);
    for (int i = 0; i < index; i++)
        m.destination += g->values[node->inputs[i]].shape.dims[axis] * m.to[axis];
    return m;
}

static xai_status join_backward(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    operand gradient;
    xai_status status = read_plain_gradient(b, self->output, &gradient);
    for (int i = 0; status == XAI_OK && i < node->input_count; i++) {
        const int x = node->inputs[i];
        const size_t bytes = layout_bytes(b, x, LAYOUT_PLAIN);
        const bool direct = b->values[x].primary == LAYOUT_PLAIN;
        const movement how = join_movement(b->graph, node, (int)self->spec.rows, i);
        operand target;
        bool accumulate = false;
        if (!b->values[x].needs_gradient)
            continue;
        if (direct) {
            status = gradient_write(b, x, &target, &accumulate);
        } else {
            target = builder_buffer(b, bytes);
            status = target.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
        }
        if (status == XAI_OK)
            status = emit_move(b, self->node, &how, true, gradient, target, accumulate, bytes);
        if (status == XAI_OK && !direct)
            status = gradient_add(b, x, target, LAYOUT_PLAIN, true);
    }
    return status;
}

static xai_status lower_join(builder *b, int index, bool *done)
{
    const graph *g = b->graph;
    const graph_node *node = &g->nodes[index];
    operand source, destination;
    int axis;
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] == GRAPH_NONE || g->values[node->inputs[i]].dtype != DTYPE_FLOAT ||
            layout_bytes(b, node->inputs[i], LAYOUT_PLAIN) == 0)
            return XAI_OK;
    xai_status status = split_axis(b, node, &axis);
    if (status != XAI_OK)
        return status;
    *done = true;
    unit self = {.emit_backward = join_backward,
                 .node = index,
                 .output = node->outputs[0],
                 .other = GRAPH_NONE};
    self.spec.rows = axis;
    status = builder_output(b, self.output, LAYOUT_PLAIN, &destination);
    for (int i = 0; status == XAI_OK && i < node->input_count; i++) {
        const movement how = join_movement(g, node, axis, i);
        status = builder_input(b, node->inputs[i], LAYOUT_PLAIN, &source);
        if (status == XAI_OK)
            status = emit_move(b, index, &how, false, source, destination, false,
                               layout_bytes(b, node->inputs[i], LAYOUT_PLAIN));
    }
    if (status == XAI_OK)
        status = builder_finish(b, self.output, LAYOUT_PLAIN);
    return status == XAI_OK ? builder_unit(b, &self) : status;
}

xai_status lower_move(builder *b, int index, bool *done)
{
    const graph *g = b->graph;
    const graph_node *node = &g->nodes[index];
    operand source, destination;
    *done = false;
    if (node_is(node, "", "Concat"))
        return lower_join(b, index, done);
    const bool gather = node_is(node, "", "Gather");
    if (!(node_is(node, "", "Transpose") || node_is(node, "", "Slice") ||
          node_is(node, "", "Split") || gather) ||
        g->values[node->inputs[0]].dtype != DTYPE_FLOAT || g->values[node->inputs[0]].is_constant ||
        layout_bytes(b, node->inputs[0], LAYOUT_PLAIN) == 0)
        return XAI_OK;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] == GRAPH_NONE || layout_bytes(b, node->outputs[i], LAYOUT_PLAIN) == 0)
            return XAI_OK;
    xai_status status = XAI_OK;
    if (gather) {
        int axis;
        int64_t at;
        bool single = false;
        status = gather_index(b, node, &axis, &at, &single);
        if (status != XAI_OK || !single)
            return status;
    }
    *done = true;
    status = builder_input(b, node->inputs[0], LAYOUT_PLAIN, &source);
    for (int i = 0; status == XAI_OK && i < node->output_count; i++) {
        const int y = node->outputs[i];
        movement how;
        bool known;
        status = movement_of(b, node, i, &how, &known);
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

/* A constant for every element of the last axes, or repeated as `repeat` says (NULL: rows). 0 -> 1, scale 2 or shift 3. */
static xai_status emit_affine(builder *b, const unit *self, operand from, operand to, operand scale,
                              operand shift, bool accumulate, size_t bytes)
{
    step *s = NULL;
    const bool rows = self->repeat == NULL;
    const xai_status status =
        builder_step(b, rows ? step_affine_rows : step_affine_broadcast, self->node,
                     rows ? "affine rows" : "affine broadcast", &s);
    if (status != XAI_OK)
        return status;
    s->accumulate = accumulate;
    s->moves = self->repeat;
    s->channels = (size_t)self->spec.columns;
    s->count = (size_t)self->spec.rows;
    builder_read(b, s, 0, from);
    builder_write(b, s, 1, to, bytes);
    builder_read(b, s, 2, scale);
    builder_read(b, s, 3, shift);
    return XAI_OK;
}

static xai_status affine_backward(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const int x = b->graph->values[node->inputs[0]].is_constant ? node->inputs[1] : node->inputs[0];
    const layout primary = b->values[x].primary;
    operand gradient, target = OPERAND_NONE;
    bool accumulate = false;
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
        status = emit_affine(b, self, gradient, target, self->scale, OPERAND_NONE, accumulate,
                             layout_bytes(b, x, LAYOUT_PLAIN));
    return status != XAI_OK || primary == LAYOUT_PLAIN
               ? status
               : gradient_add(b, x, target, LAYOUT_PLAIN, true);
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

/* Which operand of the node is a constant that numpy's rules repeat to y, beside one of y's shape: its position, or -1. *how
 * goes from it to y. */
static int constant_repeated(const graph *g, const graph_node *node, movement *how)
{
    const shape *y = &g->values[node->outputs[0]].shape;
    for (int i = 0; i < 2; i++) {
        const graph_value *c = &g->values[node->inputs[i]], *x = &g->values[node->inputs[1 - i]];
        if (!c->is_constant || x->is_constant || !shape_equal(&x->shape, y) ||
            c->shape.rank > y->rank || tensor_count(&c->constant) > ROW_LIMIT)
            continue;
        const int missing = y->rank - c->shape.rank;
        int64_t strides[SHAPE_MAX_RANK];
        *how = (movement){.rank = y->rank};
        strides_of(&c->shape, strides);
        strides_of(y, how->to);
        memcpy(how->dims, y->dims, sizeof how->dims);
        for (int k = missing; k < y->rank; k++)
            how->from[k] = c->shape.dims[k - missing] == 1 ? 0 : strides[k - missing];
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
    movement how, *repeat = NULL;
    *done = false;
    if (!(add || subtract || multiply || divide))
        return XAI_OK;
    const graph_value *y = &g->values[node->outputs[0]];
    const size_t total = layout_bytes(b, node->outputs[0], LAYOUT_PLAIN) / sizeof(float);
    if (y->dtype != DTYPE_FLOAT || y->shape.rank < 1 || total == 0 ||
        b->values[node->outputs[0]].primary != LAYOUT_PLAIN)
        return XAI_OK;
    size_t width = 1;
    int at = constant_row(g, node, &width);
    if (at < 0) {
        at = constant_repeated(g, node, &how);
        repeat = at < 0 ? NULL : memory_pool_allocate(b->program->pool, 1, sizeof *repeat);
        if (at >= 0 && !repeat)
            return error_memory(b->error, "plan", sizeof *repeat);
        if (repeat) {
            *repeat = how;
            width = tensor_count(&g->values[node->inputs[at]].constant);
        }
    }
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
                 .shift = OPERAND_NONE,
                 .repeat = repeat};
    self.spec.columns = (int64_t)width;
    self.spec.rows = (int64_t)(total / width);
    xai_status status = builder_input(b, node->inputs[1 - at], LAYOUT_PLAIN, &source);
    if (status == XAI_OK)
        status = builder_output(b, self.output, LAYOUT_PLAIN, &destination);
    if (status == XAI_OK)
        status = emit_affine(b, &self, source, destination, self.scale,
                             multiply || divide ? OPERAND_NONE : row, false, total * sizeof(float));
    return status == XAI_OK ? builder_unit(b, &self) : status;
}
