/* What stands for the absence of a feature: a baseline, or the rows of a background. */
#ifndef EXPLAIN_BASELINE_H
#define EXPLAIN_BASELINE_H

#include "explain/attribution.h"

/* The option baseline for one row: values[part] has one row of that input, float32.
 *   a number   everywhere
 *   an array   (1, ...) for all rows, or (N, ...), one an input; without the row axis too
 *   "mean"     of each channel over the row's own pixels
 *   "blur"     the row itself, blurred by a Gaussian of 1/16 of its longer side
 * All values are in the range that the model takes. */
xai_status baseline_row(const attribution_inputs *inputs, const explainer *of, size_t row,
                        float *const *values, xai_error **error);

/* Check the option against the inputs, and name it for the reader. */
xai_status baseline_check(const attribution_inputs *inputs, const explainer *of, explanation *out,
                          xai_error **error);

/* Rows of the option background: 0 without. XAI_ERROR_ARGUMENT or _SHAPE when it does not fit. */
xai_status background_rows(const attribution_inputs *inputs, const explainer *of, size_t *count,
                           xai_error **error);
/* "a background of 20 rows", for the reader. */
void background_name(size_t rows, char *out, size_t size);
/* One row of the background for a part. */
void background_read(const attribution_inputs *inputs, const explainer *of, size_t part,
                     size_t index, float *out);

/* The reference rows of an explanation in the space of its parts (the inputs, or a layer): the rows
 * of the background where one was given, else the baseline. */
typedef struct references {
    attribution_inputs inputs; /* the model's */
    const attribution_inputs *parts;
    size_t count; /* B, or 1 for a baseline */
    bool background;
    float **row;        /* the baseline of the row begun, as inputs */
    float *layer;       /* (count, size) when the parts are a layer; NULL otherwise */
    size_t evaluations; /* of the model, made for the layer's values at the last begin */
} references;

/* `takes_background`: the method has the option. Names the reference in every explanation. */
xai_status references_init(references *self, explainer *of, const attribution_inputs *parts,
                           bool takes_background, explanation *const *out, size_t out_count,
                           xai_error **error);
void references_free(references *self);
/* Before references_read() for a row: a baseline may depend on it. */
xai_status references_begin(references *self, explainer *of, size_t row, xai_error **error);
/* Whether every row that this explainer explains has the same references. */
bool references_are_shared(const references *self, const explainer *of);
void references_read(const references *self, const explainer *of, size_t index, float *const *out);

#endif
