/* The result of a method for N rows and one target: numbers, facts, warnings, JSON. */
#ifndef EXPLAIN_EXPLANATION_H
#define EXPLAIN_EXPLANATION_H

#include "explain/evaluator.h"

typedef struct explanation_warning {
    char *text;
    int64_t row; /* -1 = about all rows */
} explanation_warning;

typedef struct explanation {
    size_t rows;
    const char *method; /* static */
    char *layer;        /* "" for a method that explains the input */
    char *model;        /* "" when it has no name */
    int32_t score_kind;
    shape input_shape; /* as given, of the input that the map belongs to */
    tensor values;     /* (N, ...) float32 */
    tensor map;        /* (N, spatial...) float32 in [0, 1]; data NULL when there is none */
    /* One entry a row. A row is written by one thread. */
    int64_t *targets;
    char **labels;
    double *scores, *base_values, *completeness_errors; /* NaN where the method has none */
    int64_t *evaluations;
    explanation_warning *warnings;
    size_t warning_count, warning_capacity;
    char *json; /* made by explanation_finish */
} explanation;

/* Facts allocated and empty; `layer` and `model` are copied. */
xai_status explanation_create(size_t rows, const char *method, const char *layer, const char *model,
                              explanation **out, xai_error **error);
void explanation_free(explanation *self);

/* Facts of a sample's row. */
xai_status explanation_set_row(explanation *self, const subject *of, const sample *from,
                               int64_t evaluations, xai_error **error);

xai_status explanation_warn(explanation *self, int64_t row, xai_error **error, const char *format,
                            ...) __attribute__((format(printf, 4, 5)));

/* Write the JSON text; call last. */
xai_status explanation_finish(explanation *self, xai_error **error);

#endif
