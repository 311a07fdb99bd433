#include "explain/explanation.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    self->samples = memory_allocate_zeroed(rows, sizeof *self->samples);
    self->relative_errors = memory_allocate(rows, sizeof *self->relative_errors);
    self->converged = memory_allocate(rows, sizeof *self->converged);
    self->baseline = text_duplicate("");
    if (self->layer == NULL || self->model == NULL || self->targets == NULL ||
        self->labels == NULL || self->scores == NULL || self->base_values == NULL ||
        self->completeness_errors == NULL || self->evaluations == NULL || self->samples == NULL ||
        self->relative_errors == NULL || self->converged == NULL || self->baseline == NULL) {
        explanation_free(self);
        return error_memory(error, "an explanation", rows * sizeof *self->scores);
    }
    for (size_t row = 0; row < rows; row++)
        self->converged[row] = -1;
    for (size_t row = 0; row < rows; row++)
        self->scores[row] = self->base_values[row] = self->completeness_errors[row] =
            self->relative_errors[row] = NAN;
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
    for (size_t i = 0; i < self->part_count; i++) {
        memory_free(self->parts[i].name);
        tensor_free(&self->parts[i].values);
        tensor_free(&self->parts[i].standard_error);
    }
    memory_free(self->parts);
    tensor_free(&self->map);
    tensor_free(&self->signed_map);
    tensor_free(&self->segments);
    tensor_free(&self->segment_values);
    tensor_free(&self->interactions);
    tensor_free(&self->segment_errors);
    memory_free(self->baseline);
    memory_free(self->features);
    memory_free(self->samples);
    memory_free(self->relative_errors);
    memory_free(self->converged);
    memory_free(self->settings);
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

xai_status explanation_add_part(explanation *self, const char *name, const shape *dims,
                                bool with_error, xai_error **error)
{
    explanation_part *grown = memory_resize(self->parts, self->part_count + 1, sizeof *self->parts);
    if (grown == NULL)
        return error_memory(error, "attributions", sizeof *grown);
    self->parts = grown;
    explanation_part *made = &self->parts[self->part_count++];
    *made = (explanation_part){.name = text_duplicate(name)};
    if (made->name == NULL)
        return error_memory(error, "attributions", sizeof *grown);
    xai_status status = tensor_create(&made->values, DTYPE_FLOAT, dims, error);
    if (status == XAI_OK)
        memset(made->values.data, 0, tensor_bytes(&made->values));
    if (status == XAI_OK && with_error)
        status = tensor_create(&made->standard_error, DTYPE_FLOAT, dims, error);
    if (status == XAI_OK && with_error)
        memset(made->standard_error.data, 0, tensor_bytes(&made->standard_error));
    return status;
}

xai_status explanation_set_features(explanation *self, const char *made, xai_error **error)
{
    char *copy = text_duplicate(made);
    if (copy == NULL)
        return error_memory(error, "the name of the features", 0);
    memory_free(self->features);
    self->features = copy;
    return XAI_OK;
}

xai_status explanation_set_baseline(explanation *self, const char *name, xai_error **error)
{
    char *copy = text_duplicate(name);
    if (copy == NULL)
        return error_memory(error, "the name of a baseline", 0);
    memory_free(self->baseline);
    self->baseline = copy;
    return XAI_OK;
}

xai_status explanation_set_facts(explanation *self, const subject *of, size_t row,
                                 const selection *chosen, int output, double score,
                                 int64_t evaluations, xai_error **error)
{
    char *label = selection_label(chosen, of, output);
    if (label == NULL)
        return error_memory(error, "a label", 0);
    memory_free(self->labels[row]);
    self->labels[row] = label;
    self->targets[row] = chosen->index;
    self->scores[row] = score;
    self->evaluations[row] = evaluations;
    return XAI_OK;
}

xai_status explanation_set_row(explanation *self, const subject *of, const sample *from,
                               int64_t evaluations, xai_error **error)
{
    return explanation_set_facts(self, of, from->row, from->chosen, from->output, from->score,
                                 evaluations, error);
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

void explanation_append_number(text *out, double value)
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
    explanation_append_number(out, values[best]);
    text_append(out, ", \"position\": ");
    append_ints(out, position, map->shape.rank - 1);
    text_append(out, "}");
}

/* Norm of the standard errors over the norm of the values; NaN without any. */
static double relative_error_of(const explanation *self, size_t row)
{
    double errors = 0, values = 0;
    bool any = false;
    if (!isnan(self->relative_errors[row]))
        return self->relative_errors[row];
    for (size_t p = 0; p < self->part_count; p++) {
        const explanation_part *part = &self->parts[p];
        const size_t count = tensor_count(&part->values) / (self->rows > 0 ? self->rows : 1);
        const float *error = part->standard_error.data, *value = part->values.data;
        if (error == NULL)
            continue;
        any = true;
        for (size_t i = row * count; i < (row + 1) * count; i++) {
            errors += (double)error[i] * error[i];
            values += (double)value[i] * value[i];
        }
    }
    return !any ? NAN : errors > 0 ? sqrt(errors / values) : errors;
}

static void append_row(text *out, const explanation *self, size_t row)
{
    const double relative = relative_error_of(self, row);
    text_format(out, "%s\n    {\"row\": %zu, \"target\": ", row == 0 ? "" : ",", row);
    if (self->targets[row] >= 0)
        text_format(out, "%" PRId64, self->targets[row]);
    else
        text_append(out, "null");
    text_append(out, ", \"label\": ");
    text_append_json(out, self->labels[row] != NULL ? self->labels[row] : "");
    text_append(out, ", \"score\": ");
    explanation_append_number(out, self->scores[row]);
    text_append(out, ", \"base_value\": ");
    explanation_append_number(out, self->base_values[row]);
    text_append(out, ", \"completeness_error\": ");
    explanation_append_number(out, self->completeness_errors[row]);
    text_format(out, ", \"evaluations\": %" PRId64, self->evaluations[row]);
    if (self->samples[row] > 0)
        text_format(out, ", \"samples\": %" PRId64, self->samples[row]);
    if (!isnan(relative)) {
        text_append(out, ", \"relative_standard_error\": ");
        explanation_append_number(out, relative);
    }
    if (self->converged[row] >= 0)
        text_format(out, ", \"converged\": %s", self->converged[row] ? "true" : "false");
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
    if (self->settings != NULL) {
        text_append(&out, ",\n  \"options\": ");
        text_append(&out, self->settings);
    }
    if (self->features != NULL) {
        text_append(&out, ",\n  \"features\": ");
        text_append_json(&out, self->features);
    }
    if (self->baseline[0] != '\0') {
        text_append(&out, ",\n  \"baseline\": ");
        text_append_json(&out, self->baseline);
    }
    text_append(&out, ",\n  \"input_shape\": ");
    append_ints(&out, self->input_shape.dims, self->input_shape.rank);
    text_append(&out, ",\n  \"values_shape\": ");
    if (self->part_count > 0)
        append_ints(&out, self->parts[0].values.shape.dims, self->parts[0].values.shape.rank);
    else
        text_append(&out, "null");
    if (self->segment_values.data != NULL)
        text_format(&out, ",\n  \"segment_count\": %" PRId64, self->segment_values.shape.dims[1]);
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
