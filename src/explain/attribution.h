/* What the methods share whose results are shaped like the inputs: the explanation with one part an
 * input, float rows in and out, maps. */
#ifndef EXPLAIN_ATTRIBUTION_H
#define EXPLAIN_ATTRIBUTION_H

#include "explain/method.h"

/* The inputs of a call as the methods see them. Only floating-point inputs are attributed to; the
 * others keep their values in every variant. */
typedef struct attribution_inputs {
    const batch *rows;
    size_t count;    /* of all inputs of the model */
    int *ids;        /* value ids of the floating-point ones */
    size_t *inputs;  /* their positions among all inputs */
    size_t *sizes;   /* elements of one row of each */
    spatial *spaces; /* their axes; rank 0 = no spatial axes */
    size_t float_count;
} attribution_inputs;

/* XAI_ERROR_UNSUPPORTED when no input is floating point. */
xai_status attribution_inputs_init(attribution_inputs *self, explainer *of, const batch *rows,
                                   xai_error **error);
void attribution_inputs_free(attribution_inputs *self);

/* An explanation with a part for every floating-point input, all zero. */
xai_status attribution_create(const attribution_inputs *self, const explainer *of, bool with_error,
                              explanation **out, xai_error **error);

/* Row `row` of part p: sums in double to float32. XAI_ERROR_NUMERIC for NaN and infinities. */
xai_status attribution_store(explanation *out, size_t part, size_t row, size_t count,
                             const double *values, xai_error **error);

/* Map and signed map from the parts, and what a reader must know of rows without evidence; when all
 * rows are done. `is_signed`: the method has negative evidence. */
xai_status attribution_finish(const attribution_inputs *self, const explainer *of, bool is_signed,
                              explanation *out, xai_error **error);

/* The same with maps of the caller's: (N, pixels) of the part, whose positive values are evidence. */
xai_status attribution_finish_maps(const attribution_inputs *self, const float *maps, size_t part,
                                   explanation *out, xai_error **error);

/* Floats into one row of an input of any floating-point type, and back. */
void tensor_write_floats(tensor *out, const float *values);
void attribution_read_row(const attribution_inputs *self, size_t row, size_t part, float *out);

#endif
