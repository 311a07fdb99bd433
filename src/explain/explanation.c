#include "explain/explanation.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/text.h"
#include "xai/version.h"

xai_status explanation_create(size_t rows, const char *method, const char *layer, const char *model,
                              explanation **out, xai_error **error)
{
    explanation *self = memory_allocate_zeroed(1, sizeof *self);
    if (self == NULL)
        return error_memory(error, "an explanation", sizeof *self);
    self->rows = rows;
    self->method = method;
    self->layer = text_duplicate(layer);
    self->model = text_duplicate(model);
    self->targets = memory_allocate_zeroed(rows, sizeof *self->targets);
    self->labels = memory_allocate_zeroed(rows, sizeof *self->labels);
    self->scores = memory_allocate(rows, sizeof *self->scores);
    self->base_values = memory_allocate(rows, sizeof *self->base_values);
    self->completeness_errors = memory_allocate(rows, sizeof *self->completeness_errors);
    self->evaluations = memory_allocate_zeroed(rows, sizeof *self->evaluations);
    if (self->layer == NULL || self->model == NULL || self->targets == NULL ||
        self->labels == NULL || self->scores == NULL || self->base_values == NULL ||
        self->completeness_errors == NULL || self->evaluations == NULL) {
        explanation_free(self);
        return error_memory(error, "an explanation", rows * sizeof *self->scores);
    }
    for (size_t row = 0; row < rows; row++)
        self->scores[row] = self->base_values[row] = self->completeness_errors[row] = NAN;
    *out = self;
    return XAI_OK;
}

void explanation_free(explanation *self)
{
    if (self == NULL)
        return;
    for (size_t row = 0; self->labels != NULL && row < self->rows; row++)
        memory_free(self->labels[row]);
    for (size_t i = 0; i < self->warning_count; i++)
        memory_free(self->warnings[i].text);
    tensor_free(&self->values);
    tensor_free(&self->map);
    memory_free(self->layer);
    memory_free(self->model);
    memory_free(self->targets);
    memory_free(self->labels);
    memory_free(self->scores);
    memory_free(self->base_values);
    memory_free(self->completeness_errors);
    memory_free(self->evaluations);
    memory_free(self->warnings);
    memory_free(self->json);
    memory_free(self);
}

xai_status explanation_set_row(explanation *self, const subject *of, const sample *from,
                               int64_t evaluations, xai_error **error)
{
    char *label = selection_label(from->chosen, of, from->output);
    if (label == NULL)
        return error_memory(error, "a label", 0);
    memory_free(self->labels[from->row]);
    self->labels[from->row] = label;
    self->targets[from->row] = from->chosen->index;
    self->scores[from->row] = from->score;
    self->evaluations[from->row] = evaluations;
    return XAI_OK;
}

xai_status explanation_warn(explanation *self, int64_t row, xai_error **error, const char *format,
                            ...)
{
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    char *copy = text_duplicate(message);
    if (copy == NULL || !array_reserve((void **)&self->warnings, &self->warning_capacity,
                                       self->warning_count + 1, sizeof *self->warnings)) {
        memory_free(copy);
        return error_memory(error, "a warning", sizeof message);
    }
    self->warnings[self->warning_count++] = (explanation_warning){.text = copy, .row = row};
    return XAI_OK;
}

/* A JSON number in any locale: the shortest of a few precisions that reads back as the same
 * double; null for NaN and infinity. */
static void append_number(text *out, double value)
{
    char digits[40];
    if (!isfinite(value)) {
        text_append(out, "null");
        return;
    }
    for (int precision = 7; precision <= 17; precision += 2) {
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    for (char *c = digits; *c != '\0'; c++)
        if ((*c < '0' || *c > '9') && *c != '-' && *c != '+' && *c != 'e')
            *c = '.';
    text_append(out, digits);
}

static void append_ints(text *out, const int64_t *values, int count)
{
    text_append(out, "[");
    for (int i = 0; i < count; i++)
        text_format(out, "%s%" PRId64, i == 0 ? "" : ", ", values[i]);
    text_append(out, "]");
}

/* Highest value of a row's map and where it is; null when the map is empty or all zero. */
static void append_peak(text *out, const tensor *map, size_t row)
{
    text_append(out, ", \"peak\": ");
    const size_t pixels = map->data != NULL ? tensor_count(map) / (size_t)map->shape.dims[0] : 0;
    const float *values = (const float *)map->data + (pixels > 0 ? row * pixels : 0);
    size_t best = 0;
    for (size_t i = 1; i < pixels; i++)
        if (values[i] > values[best])
            best = i;
    if (pixels == 0 || values[best] <= 0) {
        text_append(out, "null");
        return;
    }
    int64_t position[SHAPE_MAX_RANK] = {0};
    size_t rest = best;
    for (int axis = map->shape.rank; --axis > 0;) {
        position[axis - 1] = (int64_t)(rest % (size_t)map->shape.dims[axis]);
        rest /= (size_t)map->shape.dims[axis];
    }
    text_append(out, "{\"value\": ");
    append_number(out, values[best]);
    text_append(out, ", \"position\": ");
    append_ints(out, position, map->shape.rank - 1);
    text_append(out, "}");
}

static void append_row(text *out, const explanation *self, size_t row)
{
    text_format(out, "%s\n    {\"row\": %zu, \"target\": ", row == 0 ? "" : ",", row);
    if (self->targets[row] >= 0)
        text_format(out, "%" PRId64, self->targets[row]);
    else
        text_append(out, "null");
    text_append(out, ", \"label\": ");
    text_append_json(out, self->labels[row] != NULL ? self->labels[row] : "");
    text_append(out, ", \"score\": ");
    append_number(out, self->scores[row]);
    text_append(out, ", \"base_value\": ");
    append_number(out, self->base_values[row]);
    text_append(out, ", \"completeness_error\": ");
    append_number(out, self->completeness_errors[row]);
    text_format(out, ", \"evaluations\": %" PRId64, self->evaluations[row]);
    append_peak(out, &self->map, row);
    text_append(out, "}");
}

xai_status explanation_finish(explanation *self, xai_error **error)
{
    static const char *const kinds[] = {"raw", "logit", "probability"};
    text out = {0};
    text_append(&out, "{\n  \"library\": \"libxai\",\n  \"version\": ");
    text_format(&out, "\"%d.%d.%d\"", XAI_VERSION_MAJOR, XAI_VERSION_MINOR, XAI_VERSION_PATCH);
    text_append(&out, ",\n  \"model\": ");
    text_append_json(&out, self->model);
    text_append(&out, ",\n  \"method\": ");
    text_append_json(&out, self->method);
    text_append(&out, ",\n  \"layer\": ");
    if (self->layer[0] != '\0')
        text_append_json(&out, self->layer);
    else
        text_append(&out, "null");
    text_append(&out, ",\n  \"score_kind\": ");
    text_append_json(&out,
                     self->score_kind >= 0 && self->score_kind < 3 ? kinds[self->score_kind] : "");
    text_append(&out, ",\n  \"input_shape\": ");
    append_ints(&out, self->input_shape.dims, self->input_shape.rank);
    text_append(&out, ",\n  \"values_shape\": ");
    append_ints(&out, self->values.shape.dims, self->values.shape.rank);
    text_append(&out, ",\n  \"rows\": [");
    for (size_t row = 0; row < self->rows; row++)
        append_row(&out, self, row);
    text_append(&out, "\n  ],\n  \"warnings\": [");
    for (size_t i = 0; i < self->warning_count; i++) {
        text_append(&out, i == 0 ? "\n    {\"row\": " : ",\n    {\"row\": ");
        if (self->warnings[i].row >= 0)
            text_format(&out, "%" PRId64, self->warnings[i].row);
        else
            text_append(&out, "null");
        text_append(&out, ", \"text\": ");
        text_append_json(&out, self->warnings[i].text);
        text_append(&out, "}");
    }
    text_append(&out, self->warning_count > 0 ? "\n  ]\n}\n" : "]\n}\n");
    memory_free(self->json);
    self->json = text_take(&out);
    return self->json != NULL ? XAI_OK : error_memory(error, "the facts as JSON", 0);
}
