/* What gradients are taken against: rows of a background or a baseline, in the space of what is
 * attributed to. */
#ifndef EXPLAIN_REFERENCES_H
#define EXPLAIN_REFERENCES_H

#include "explain/masking.h"

/* The reference rows of an explanation in the space of its parts (the inputs, or a layer): the rows
 * of the background where one was given, else the baseline. */
typedef struct references {
    attribution_inputs inputs; /* the model's; for a layer those that masking.h masks */
    masking hidden;            /* for a layer: the references as inputs */
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
