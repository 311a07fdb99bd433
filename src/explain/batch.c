/* Inputs of a call, checked against what the model declares. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "explain/rows.h"
#include "explain/tokens.h"

static void input_place(const graph *source, size_t input, char *out, size_t size)
{
    snprintf(out, size, "input '%.120s'", source->values[source->inputs[input]].name);
}

/* Whether `count` floats are finite: their exponents are not all ones. No early end, so that the loop vectorises. */
static bool floats_are_finite(const char *data, size_t count)
{
    uint32_t found = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, data + i * sizeof bits, sizeof bits);
        found |= ((bits & UINT32_C(0x7F800000)) + UINT32_C(0x00800000)) & UINT32_C(0x80000000);
    }
    return found == 0;
}

size_t tensor_find_nonfinite(const tensor *self)
{
    enum { CHUNK = 256 };
    const size_t count = tensor_count(self);
    double values[CHUNK];
    if (self->dtype == DTYPE_FLOAT && floats_are_finite(self->data, count))
        return SIZE_MAX;
    for (size_t begin = 0; begin < count; begin += CHUNK) {
        const size_t length = count - begin < CHUNK ? count - begin : CHUNK;
        tensor_read_doubles(self, begin, length, values);
        for (size_t i = 0; i < length; i++)
            if (!isfinite(values[i]))
                return begin + i;
    }
    return SIZE_MAX;
}

/* Whether the model fixes every size of an input, and the given shape is exactly that. */
static bool is_declared_shape(const shape *declared, const shape *given)
{
    if (declared->rank != given->rank)
        return false;
    for (int axis = 0; axis < given->rank; axis++)
        if (declared->dims[axis] != given->dims[axis])
            return false;
    return true;
}

static xai_status check_input(const graph_value *declared, const tensor *given,
                              bool allow_nonfinite, const char *place, xai_error **error)
{
    char wanted[SHAPE_TEXT_SIZE], got[SHAPE_TEXT_SIZE];
    if (dtype_size(given->dtype) == 0)
        return error_set(error, XAI_ERROR_UNSUPPORTED, place,
                         "tensors of type %s cannot be given to a model", dtype_name(given->dtype));
    if (declared->dtype != DTYPE_UNDEFINED && declared->dtype != given->dtype)
        return error_set(error, XAI_ERROR_SHAPE, place, "the model takes %s, not %s",
                         dtype_name(declared->dtype), dtype_name(given->dtype));
    const shape *model = &declared->shape;
    bool fits = model->rank < 0 || model->rank == given->shape.rank;
    for (int axis = 1; fits && model->rank > 0 && axis < model->rank; axis++)
        fits = model->dims[axis] < 0 || model->dims[axis] == given->shape.dims[axis];
    if (!fits)
        return error_set(
            error, XAI_ERROR_SHAPE, place, "shape %s does not fit the model, which takes %s%s",
            shape_text(&given->shape, got), shape_text(model, wanted),
            model->rank == given->shape.rank + 1 ? " (the first axis counts the rows)" : "");
    if (allow_nonfinite || !dtype_is_float(given->dtype))
        return XAI_OK;
    const size_t bad = tensor_find_nonfinite(given);
    if (bad == SIZE_MAX)
        return XAI_OK;
    return error_set(error, XAI_ERROR_NUMERIC, place, "%s at %s",
                     isnan(tensor_get(given, bad)) ? "NaN" : "an infinity",
                     shape_position(&given->shape, bad, got));
}

/* Rows of a call and of a plan, when axis 0 of every input is the batch axis. */
static xai_status count_rows(const graph *source, const tensor *const *inputs, batch *out,
                             xai_error **error)
{
    char place[160], got[SHAPE_TEXT_SIZE];
    for (size_t i = 0; i < source->input_count; i++) {
        input_place(source, i, place, sizeof place);
        const shape *declared = &source->values[source->inputs[i]].shape,
                    *given = &inputs[i]->shape;
        if (given->rank == 0)
            return error_set(error, XAI_ERROR_SHAPE, place,
                             "a scalar has no rows, and the other inputs do not have exactly "
                             "the shapes that the model declares");
        if (given->dims[0] <= 0)
            return error_set(error, XAI_ERROR_SHAPE, place, "shape %s has no rows",
                             shape_text(given, got));
        const size_t rows = (size_t)given->dims[0];
        const size_t fixed =
            declared->rank > 0 && declared->dims[0] > 0 ? (size_t)declared->dims[0] : 1;
        if (i == 0) {
            out->rows = rows;
            out->per_plan = fixed;
        } else if (rows != out->rows || fixed != out->per_plan) {
            return error_set(
                error, XAI_ERROR_SHAPE, place,
                "%zu rows (the model takes %zu at a time), but input '%s' has %zu (%zu at a time)",
                rows, fixed, source->values[source->inputs[0]].name, out->rows, out->per_plan);
        }
        if (rows % fixed != 0)
            return error_set(error, XAI_ERROR_SHAPE, place,
                             "%zu rows, but the model takes %zu at a time; give a multiple", rows,
                             fixed);
    }
    out->runs = out->rows / out->per_plan;
    return XAI_OK;
}

/* A fixed batch whose rows stay apart runs row by row. */
static xai_status take_rows_apart(network *net, batch *out, xai_error **error)
{
    const graph *row = NULL;
    const xai_status status = network_row(net, &row, error);
    if (status == XAI_OK && row) {
        out->per_plan = 1;
        out->runs = out->rows;
    }
    return status;
}

/* Whether axis 0 can be the batch axis: every input has it, with one length given and one length
 * declared. */
static bool share_batch_axis(const graph *source, const tensor *const *inputs)
{
    for (size_t i = 0; i < source->input_count; i++) {
        if (inputs[i]->shape.rank == 0 || inputs[i]->shape.dims[0] != inputs[0]->shape.dims[0])
            return false;
        if (inputs[i]->shape.dims[0] <= 0)
            return false;
    }
    return true;
}

xai_status batch_check(const evaluator *self, const tensor *const *inputs, size_t count, batch *out,
                       xai_error **error)
{
    const graph *source = network_graph(self->of->net);
    char place[160];
    *out = (batch){0};
    if (count != source->input_count)
        return error_set(error, XAI_ERROR_ARGUMENT, NULL, "%zu inputs given, but the model has %zu",
                         count, source->input_count);
    bool as_declared = true;
    for (size_t i = 0; i < count; i++) {
        const graph_value *declared = &source->values[source->inputs[i]];
        input_place(source, i, place, sizeof place);
        if (inputs[i] == NULL)
            return error_set(error, XAI_ERROR_ARGUMENT, place, "missing");
        xai_status status =
            check_input(declared, inputs[i], self->options.allow_nonfinite, place, error);
        if (status == XAI_OK && dtype_is_integer(inputs[i]->dtype))
            status = tokens_check(source, i, inputs[i], place, error);
        if (status != XAI_OK)
            return status;
        as_declared = as_declared && is_declared_shape(&declared->shape, &inputs[i]->shape);
    }
    batch found = {.inputs = inputs, .rows = 1, .per_plan = 1, .runs = 1};
    if (!as_declared || (count > 0 && share_batch_axis(source, inputs))) {
        xai_status status = count_rows(source, inputs, &found, error);
        if (status == XAI_OK && found.per_plan > 1)
            status = take_rows_apart(self->of->net, &found, error);
        if (status != XAI_OK)
            return status;
        found.has_rows = true;
    }
    found.shapes = memory_allocate(count, sizeof *found.shapes);
    if (found.shapes == NULL)
        return error_memory(error, "the shapes of the inputs", count * sizeof *found.shapes);
    for (size_t i = 0; i < count; i++) {
        found.shapes[i] = inputs[i]->shape;
        if (found.has_rows)
            found.shapes[i].dims[0] = (int64_t)found.per_plan;
    }
    *out = found;
    return XAI_OK;
}

void batch_free(batch *self)
{
    memory_free(self->shapes);
    *self = (batch){0};
}
