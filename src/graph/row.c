/* The graph of one row. A model may be exported with its batch fixed at B > 1. When every node keeps the rows apart, what it
 * computes is B times the same network of one row, and the engine plans that one: its fast layouts have one row, and rows run
 * side by side.
 *
 * The graph is made for B rows first, so that everything which follows from shapes is a constant. Then each value is followed
 * from the inputs on (row_axis.c), divided by B along its axis of rows, and the shapes are inferred again: they must come out as
 * divided. Whatever is in doubt keeps the batch as it is. */
#include "graph/row.h"

#include <string.h>

#include "base/error.h"
#include "base/text.h"

/* Elements before, along and behind an axis. */
static void split_shape(const shape *dims, int axis, size_t *outer, size_t *inner)
{
    *outer = *inner = 1;
    for (int i = 0; i < dims->rank; i++)
        *(i < axis ? outer : inner) *= i == axis ? 1 : (size_t)dims->dims[i];
}

static int add_constant(row_axes *self, int like, tensor *made)
{
    text name = {0};
    text_format(&name, "%s/row", self->on->values[like].name);
    const int id = name.bytes ? graph_add_constant(self->on, name.bytes, made) : GRAPH_NONE;
    text_free(&name);
    int8_t *grown = NULL;
    if (id != GRAPH_NONE && (size_t)id >= self->capacity) {
        grown = memory_resize(self->axis, (size_t)id + 64, sizeof *grown);
        if (grown) {
            memset(grown + self->capacity, ROW_NONE, (size_t)id + 64 - self->capacity);
            self->axis = grown;
            self->capacity = (size_t)id + 64;
        }
    }
    self->failed = self->failed || id == GRAPH_NONE || (size_t)id >= self->capacity;
    tensor_free(made); /* moved into the graph unless it failed */
    return self->failed ? GRAPH_NONE : id;
}

bool row_axes_repeat(row_axes *self, int node, int input, int axis)
{
    const int id = self->on->nodes[node].inputs[input];
    const graph_value *value = &self->on->values[id];
    if (!value->is_constant || axis < 0 || axis >= value->shape.rank ||
        value->shape.dims[axis] % self->rows != 0 || value->shape.dims[axis] == 0 ||
        dtype_size(value->dtype) == 0)
        return false;
    size_t outer, inner;
    split_shape(&value->shape, axis, &outer, &inner);
    shape one = value->shape;
    one.dims[axis] /= self->rows;
    const size_t rows = (size_t)self->rows,
                 bytes = (size_t)one.dims[axis] * inner * dtype_size(value->dtype);
    const char *data = value->constant.data;
    for (size_t o = 0; o < outer; o++)
        for (size_t r = 1; r < rows; r++)
            if (memcmp(data + o * rows * bytes, data + (o * rows + r) * bytes, bytes) != 0)
                return false;
    tensor made = {0};
    if (tensor_create(&made, value->dtype, &one, NULL) != XAI_OK) {
        self->failed = true;
        return false;
    }
    for (size_t o = 0; o < outer; o++)
        memcpy((char *)made.data + o * bytes, data + o * rows * bytes, bytes);
    const int id_of_row = add_constant(self, id, &made);
    if (id_of_row == GRAPH_NONE)
        return false;
    self->on->nodes[node].inputs[input] = id_of_row;
    return true;
}

bool row_axes_retarget(row_axes *self, int node, int input, int rank)
{
    const int id = self->on->nodes[node].inputs[input], y = self->on->nodes[node].outputs[0];
    const shape whole = self->on->values[y].shape;
    const int64_t count = rank;
    const shape list = shape_make(1, &count);
    tensor made = {0};
    if (!self->on->values[id].is_constant || rank > whole.rank)
        return false;
    for (int i = 0; i < whole.rank; i++)
        if (whole.dims[i] == 0)
            return false; /* a zero may say "as it was" */
    if (tensor_create(&made, DTYPE_INT64, &list, NULL) != XAI_OK) {
        self->failed = true;
        return false;
    }
    for (int i = 0; i < rank; i++) {
        const int axis = i + whole.rank - rank;
        ((int64_t *)made.data)[i] =
            axis == self->axis[y] ? whole.dims[axis] / self->rows : whole.dims[axis];
    }
    const int target = add_constant(self, id, &made);
    if (target == GRAPH_NONE)
        return false;
    self->on->nodes[node].inputs[input] = target;
    return true;
}

/* B, when all inputs have that many rows and nothing else is free. */
static int64_t fixed_rows(const graph *self)
{
    int64_t rows = 0;
    for (size_t i = 0; i < self->input_count; i++) {
        const shape *declared = &self->values[self->inputs[i]].shape;
        if (declared->rank < 1 || (i > 0 && declared->dims[0] != rows))
            return 0;
        for (int k = 0; k < declared->rank; k++)
            if (declared->dims[k] <= 0)
                return 0;
        rows = declared->dims[0];
    }
    return rows;
}

/* Follow the rows through the graph; whether they stay apart up to every output. */
static bool follow(row_axes *self)
{
    const graph *g = self->on;
    for (size_t i = 0; i < g->value_count; i++)
        if (g->values[i].late)
            return false;
    for (size_t i = 0; i < g->input_count; i++)
        self->axis[g->inputs[i]] = 0;
    for (size_t i = 0; i < g->node_count; i++)
        if (!g->nodes[i].removed && (g->nodes[i].control || !row_axes_follow(self, (int)i)))
            return false;
    for (size_t i = 0; i < g->output_count; i++) {
        const int y = g->outputs[i];
        if (self->axis[y] != 0 || g->values[y].shape.dims[0] != self->rows)
            return false; /* B m of them: a Flatten along a later axis */
    }
    return true;
}

static shape divided(const row_axes *self, size_t value)
{
    shape one = self->on->values[value].shape;
    if (value < self->capacity && self->axis[value] != ROW_NONE)
        one.dims[self->axis[value]] /= self->rows;
    return one;
}

/* Divide every value's shape and let inference say the same. */
static xai_status divide(row_axes *self, bool *agrees, xai_error **error)
{
    graph *g = self->on;
    xai_error *ignored = NULL;
    shape *wanted = memory_allocate(g->value_count, sizeof *wanted);
    if (!wanted)
        return error_memory(error, "the graph of one row", g->value_count * sizeof *wanted);
    const size_t count = g->value_count;
    for (size_t i = 0; i < count; i++)
        wanted[i] = divided(self, i);
    for (size_t i = 0; i < g->input_count; i++)
        g->values[g->inputs[i]].shape = wanted[g->inputs[i]];
    xai_status status = graph_infer(g, &ignored);
    *agrees = status == XAI_OK && g->value_count == count;
    for (size_t i = 0; *agrees && i < count; i++)
        *agrees = g->values[i].producer == GRAPH_NONE || g->values[i].is_constant ||
                  (!g->values[i].late && shape_equal(&wanted[i], &g->values[i].shape));
    if (status == XAI_ERROR_MEMORY)
        error_set(error, status, NULL, "%s", xai_error_message(ignored));
    xai_error_free(ignored);
    memory_free(wanted);
    return status == XAI_ERROR_MEMORY ? status : XAI_OK;
}

xai_status graph_take_row(const graph *source, graph **out, xai_error **error)
{
    const int64_t rows = fixed_rows(source);
    row_axes self = {.rows = rows};
    xai_error *ignored = NULL;
    bool apart = false;
    *out = NULL;
    if (rows < 2)
        return XAI_OK;
    xai_status status = graph_copy(source, &self.on, error);
    if (status != XAI_OK)
        return status;
    const xai_status inferred = graph_infer(self.on, &ignored);
    if (inferred != XAI_OK) { /* the plan will say why */
        status = inferred == XAI_ERROR_MEMORY
                     ? error_set(error, inferred, NULL, "%s", xai_error_message(ignored))
                     : XAI_OK;
        goto done;
    }
    self.capacity = self.on->value_count;
    self.axis = memory_allocate(self.capacity, sizeof *self.axis);
    if (!self.axis) {
        status = error_memory(error, "the graph of one row", self.capacity);
        goto done;
    }
    memset(self.axis, ROW_NONE, self.capacity);
    apart = follow(&self);
    if (self.failed)
        status = error_memory(error, "the graph of one row", 0);
    else if (apart)
        status = divide(&self, &apart, error);
    if (status == XAI_OK && apart) {
        *out = self.on;
        self.on->row_axes = self.axis;
        self.on->row_axis_count = self.capacity;
        self.axis = NULL;
        self.on = NULL;
    }
done:
    xai_error_free(ignored);
    graph_free(self.on);
    memory_free(self.axis);
    return status;
}
