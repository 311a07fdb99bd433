/* The result of a method for N rows and one target: numbers, facts, warnings, JSON. */
#ifndef EXPLAIN_EXPLANATION_H
#define EXPLAIN_EXPLANATION_H

#include "base/compiler.h"
#include "base/text.h"
#include "explain/evaluator.h"

typedef struct explanation_warning {
    char *text;
    int64_t row; /* -1 = about all rows */
} explanation_warning;

/* Attributions to one value: an input, or a layer. */
typedef struct explanation_part {
    char *name;            /* of the input or layer */
    tensor values;         /* (N, ...) float32 */
    tensor standard_error; /* the same shape; data NULL for methods that do not sample */
} explanation_part;

typedef struct explanation {
    size_t rows;
    const char *method; /* static */
    char *layer;        /* "" for a method that explains the input */
    char *model;        /* "" when it has no name */
    int32_t score_kind;
    shape input_shape; /* as given, of the input that the map belongs to */
    /* One a value that was attributed to; the map belongs to the first that has spatial axes. */
    explanation_part *parts;
    size_t part_count;
    tensor map;        /* (N, spatial...) float32 in [0, 1]; data NULL when there is none */
    tensor signed_map; /* the same in [-1, 1]; data NULL for methods without negative evidence */
    tensor segments;   /* (N, spatial...) int32 labels 0 to K - 1; data NULL without segments */
    tensor segment_values, segment_errors; /* (N, K) float32; data NULL without segments */
    tensor interactions; /* (N, F, F) float32 of pairs of features; data NULL unless asked for */
    /* What stood for absence, for the reader: "0", "a background of 20 rows"; or "". */
    char *baseline;
    char *features; /* what was switched on and off: "64 segments (grid of 8 x 8)"; or NULL */
    /* One entry a row. A row is written by one thread. */
    int64_t *targets;
    char **labels;
    double *scores, *base_values, *completeness_errors; /* NaN where the method has none */
    int64_t *evaluations;
    int64_t *samples; /* that the attributions are means of; 0 = the method does not sample */
    double *relative_errors; /* norm of the standard errors over that of the values; NaN = none */
    int8_t *converged;       /* 1 = the tolerance was reached, 0 = it was not, -1 = none was set */
    char *settings;          /* the method's options as a JSON object, or NULL */
    explanation_warning *warnings;
    size_t warning_count, warning_capacity;
    char *json; /* made by explanation_finish */
} explanation;

/* Facts allocated and empty; `layer` and `model` are copied. */
xai_status explanation_create(size_t rows, const char *method, const char *layer, const char *model,
                              explanation **out, xai_error **error);
void explanation_free(explanation *self);

/* One more part, its values zero, of these dims; with_error: its standard errors too. */
xai_status explanation_add_part(explanation *self, const char *name, const shape *dims,
                                bool with_error, xai_error **error);
/* What was switched on and off. */
xai_status explanation_set_features(explanation *self, const char *made, xai_error **error);
/* What stood for absence. */
xai_status explanation_set_baseline(explanation *self, const char *name, xai_error **error);

/* Facts of a row whose score was fixed: target, label, score. */
xai_status explanation_set_facts(explanation *self, const subject *of, size_t row,
                                 const selection *chosen, int output, double score,
                                 int64_t evaluations, xai_error **error);

/* Facts of a sample's row. */
xai_status explanation_set_row(explanation *self, const subject *of, const sample *from,
                               int64_t evaluations, xai_error **error);

xai_status explanation_warn(explanation *self, int64_t row, xai_error **error, const char *format,
                            ...) PRINTF_LIKE(4, 5);

/* A JSON number in any locale: the shortest of a few precisions that reads back as the same
 * double; null for NaN and infinity. */
void explanation_append_number(text *out, double value);

/* Write the JSON text; call last. */
xai_status explanation_finish(explanation *self, xai_error **error);

#endif
