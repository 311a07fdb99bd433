#include "explain/target.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "explain/names.h"

static const char *output_name(const void *context, size_t index)
{
    const graph *source = context;
    return source->values[source->outputs[index]].name;
}

int target_default_output(const graph *source)
{
    for (size_t i = 0; i < source->output_count; i++) {
        const int32_t dtype = source->values[source->outputs[i]].dtype;
        if (dtype == DTYPE_UNDEFINED || dtype_is_float(dtype))
            return (int)i;
    }
    return 0;
}

xai_status target_output(const xai_target *self, const graph *source, int *out, xai_error **error)
{
    if (source->output_count == 0)
        return error_set(error, XAI_ERROR_UNSUPPORTED, NULL, "the model has no output to explain");
    *out = target_default_output(source);
    if (self == NULL || self->output == NULL)
        return XAI_OK;
    for (size_t i = 0; i < source->output_count; i++) {
        if (strcmp(output_name(source, i), self->output) == 0) {
            *out = (int)i;
            return XAI_OK;
        }
    }
    return name_not_found(error, "output", self->output, output_name, source, source->output_count);
}

xai_status target_check_rows(const xai_target *self, size_t rows, xai_error **error)
{
    if (self == NULL || self->count <= 1 || self->count == rows)
        return XAI_OK;
    return error_set(error, XAI_ERROR_SHAPE, "target",
                     "%zu choices for %zu rows; give one for all rows or one for each", self->count,
                     rows);
}

/* Axes of one element do not count: a row (K, 1, 1) is a list of K scores. */
static bool is_list(const shape *row_shape)
{
    int longer = 0;
    for (int axis = 0; axis < row_shape->rank; axis++)
        longer += row_shape->dims[axis] != 1;
    return longer <= 1;
}

static void select_element(selection *out, const shape *row_shape, int64_t index)
{
    out->rank = row_shape->rank;
    out->index = index;
    out->list = is_list(row_shape);
    for (int axis = row_shape->rank; axis-- > 0;) {
        out->begin[axis] = index % row_shape->dims[axis];
        out->end[axis] = out->begin[axis] + 1;
        index /= row_shape->dims[axis];
    }
}

static xai_status select_highest(const shape *row_shape, size_t count, const double *scores,
                                 selection *out, xai_error **error)
{
    if (scores == NULL) {
        *out = (selection){.rank = row_shape->rank, .index = -1};
        return XAI_OK;
    }
    size_t best = 0;
    for (size_t i = 0; i < count; i++) {
        if (scores[i] != scores[i])
            return error_set(error, XAI_ERROR_NUMERIC, "target",
                             "score %zu is NaN: there is no highest score", i);
        if (scores[i] > scores[best])
            best = i;
    }
    select_element(out, row_shape, (int64_t)best);
    return XAI_OK;
}

static xai_status select_index(int64_t index, const shape *row_shape, size_t count, selection *out,
                               xai_error **error)
{
    char dims[SHAPE_TEXT_SIZE];
    if (!is_list(row_shape))
        return error_set(error, XAI_ERROR_ARGUMENT, "target",
                         "index %" PRId64
                         " for an output whose rows are maps %s; give an element or a region",
                         index, shape_text(row_shape, dims));
    const int64_t found = index < 0 ? index + (int64_t)count : index;
    if (found < 0 || found >= (int64_t)count)
        return error_set(error, XAI_ERROR_NOT_FOUND, "target",
                         "index %" PRId64 " is out of range: the output has %zu scores a row",
                         index, count);
    select_element(out, row_shape, found);
    return XAI_OK;
}

static const char *label_name(const void *context, size_t index)
{
    const subject *of = context;
    return of->labels[index];
}

static xai_status select_label(const char *label, const subject *of, int output,
                               const shape *row_shape, size_t count, selection *out,
                               xai_error **error)
{
    if (of->label_count == 0)
        return error_set(error, XAI_ERROR_NOT_FOUND, "target",
                         "label '%.200s': the model card has no labels; give an index, or add "
                         "labels to the card",
                         label);
    if (output != target_default_output(network_graph(of->net)))
        return error_set(error, XAI_ERROR_NOT_FOUND, "target",
                         "label '%.200s': the labels belong to the first output of scores", label);
    for (size_t i = 0; i < of->label_count; i++)
        if (strcmp(of->labels[i], label) == 0)
            return select_index((int64_t)i, row_shape, count, out, error);
    return name_not_found(error, "label", label, label_name, of, of->label_count);
}

static xai_status select_box(const choice *chosen, const shape *row_shape, selection *out,
                             xai_error **error)
{
    char dims[SHAPE_TEXT_SIZE];
    if (chosen->rank != (size_t)row_shape->rank)
        return error_set(error, XAI_ERROR_SHAPE, "target",
                         "%zu indices for an output whose rows are %s", chosen->rank,
                         shape_text(row_shape, dims));
    selection found = {.rank = row_shape->rank, .list = is_list(row_shape)};
    int64_t size = 1;
    for (int axis = 0; axis < found.rank; axis++) {
        const int64_t length = row_shape->dims[axis];
        int64_t begin = chosen->begin[axis], end = chosen->end[axis];
        if (chosen->kind == CHOICE_ELEMENT) {
            begin = begin < 0 ? begin + length : begin;
            end = begin + 1;
        } else if (end == -1) {
            end = length;
        }
        if (begin < 0 || begin >= end || end > length)
            return error_set(error, XAI_ERROR_NOT_FOUND, "target",
                             "axis %d: [%" PRId64 ", %" PRId64
                             ") is empty or outside the output's rows %s",
                             axis, begin, end, shape_text(row_shape, dims));
        found.begin[axis] = begin;
        found.end[axis] = end;
        found.index = found.index * length + begin;
        size *= end - begin;
    }
    if (size != 1)
        found.index = -1;
    *out = found;
    return XAI_OK;
}

xai_status target_resolve(const xai_target *self, const subject *of, int output, size_t row,
                          const shape *row_shape, const double *scores, selection *out,
                          xai_error **error)
{
    size_t count = 0;
    if (!shape_count(row_shape, &count) || count == 0)
        return error_set(error, XAI_ERROR_SHAPE, "target", "the output has no scores");
    if (self == NULL || self->count == 0)
        return select_highest(row_shape, count, scores, out, error);
    const choice *chosen = &self->choices[self->count == 1 ? 0 : row];
    switch (chosen->kind) {
    case CHOICE_HIGHEST:
        return select_highest(row_shape, count, scores, out, error);
    case CHOICE_INDEX:
        return select_index(chosen->index, row_shape, count, out, error);
    case CHOICE_LABEL:
        return select_label(chosen->label, of, output, row_shape, count, out, error);
    case CHOICE_ELEMENT:
    case CHOICE_REGION:
        return select_box(chosen, row_shape, out, error);
    }
    return error_set(error, XAI_ERROR_INTERNAL, "target", "unknown kind of choice %d",
                     (int)chosen->kind);
}

char *selection_label(const selection *self, const subject *of, int output)
{
    text out = {0};
    if (self->index >= 0 && self->list) {
        if (output == target_default_output(network_graph(of->net)) &&
            (size_t)self->index < of->label_count)
            text_append(&out, of->labels[self->index]);
        else
            text_format(&out, "%" PRId64, self->index);
    } else {
        text_append(&out, self->index >= 0 ? "(" : "[");
        for (int axis = 0; axis < self->rank; axis++) {
            text_format(&out, "%s%" PRId64, axis == 0 ? "" : ", ", self->begin[axis]);
            if (self->index < 0)
                text_format(&out, ":%" PRId64, self->end[axis]);
        }
        text_append(&out, self->index >= 0 ? ")" : "]");
    }
    return text_take(&out);
}
