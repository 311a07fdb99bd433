/* What the methods share whose results are shaped like the inputs, or like a layer: what is
 * attributed to, the explanation with one part for each, rows of floats in and out, maps. */
#ifndef EXPLAIN_ATTRIBUTION_H
#define EXPLAIN_ATTRIBUTION_H

#include "explain/method.h"

/* What is attributed to: every floating-point input and, by methods that mask, integer ones
 * (masking.h; others keep their values in every variant), or
 * one layer when the explainer has the option layer. Then variants are of the layer, and the
 * network behind it is evaluated; what bypasses the layer keeps the values of the original row. */
typedef struct attribution_inputs {
    const batch *rows;
    size_t count;        /* of the model's inputs */
    int *ids;            /* value ids of the parts */
    size_t *inputs;      /* their positions among the model's inputs */
    size_t *sizes;       /* elements of one row of each */
    spatial *spaces;     /* their axes; rank 0 = no spatial axes */
    size_t part_count;   /* of parts */
    bool of_layer;       /* one part, the layer */
    shape layer_shape;   /* of one run */
    spatial input_space; /* where the layer's map goes; rank 0 = none */
    size_t map_input;    /* and the input that it belongs to */
    tensor activations;  /* (N, ...) float32 of the layer, once loaded */
} attribution_inputs;

/* XAI_ERROR_UNSUPPORTED when no input is floating point. */
xai_status attribution_inputs_init(attribution_inputs *self, explainer *of, const batch *rows,
                                   xai_error **error);
/* The inputs, also when the explainer is about a layer. */
xai_status attribution_inputs_init_plain(attribution_inputs *self, explainer *of, const batch *rows,
                                         xai_error **error);
/* The floating-point inputs and those of `integers`, one an input; also when it is about a layer. */
xai_status attribution_inputs_init_with(attribution_inputs *self, explainer *of, const batch *rows,
                                        const bool *integers, xai_error **error);
/* Before attribution_read_row(): the values of the layer in all rows, when it is about a layer. One
 * evaluation a row, which *evaluations says. */
xai_status attribution_inputs_load(attribution_inputs *self, explainer *of, size_t *evaluations,
                                   xai_error **error);
void attribution_inputs_free(attribution_inputs *self);

/* An explanation with a part for each, all zero. */
xai_status attribution_create(const attribution_inputs *self, const explainer *of, bool with_error,
                              explanation **out, xai_error **error);
/* The same for every target. */
xai_status attribution_create_all(const attribution_inputs *self, const explainer *of,
                                  bool with_error, size_t count, explanation **out,
                                  xai_error **error);

/* Row `row` of part p: doubles to float32. XAI_ERROR_NUMERIC for NaN and infinities. */
xai_status attribution_store(explanation *out, size_t part, size_t row, size_t count,
                             const double *values, xai_error **error);
void attribution_store_error(explanation *out, size_t part, size_t row, size_t count,
                             const double *values);

/* Map and signed map from the parts, and what a reader must know of rows without evidence; when all
 * rows are done. `is_signed`: the method has negative evidence. */
xai_status attribution_finish(const attribution_inputs *self, const explainer *of, bool is_signed,
                              explanation *out, xai_error **error);

/* The same with maps of the caller's: (N, pixels) of the part, whose positive values are evidence. */
xai_status attribution_finish_maps(const attribution_inputs *self, const float *maps, size_t part,
                                   explanation *out, xai_error **error);

/* Rows as floats: one array a part, in one block that memory_free() frees; NULL without memory. */
float **attribution_rows_create(const attribution_inputs *self);
/* doubles, zeroed: `copies` arrays of all parts; part p of copy k at result[k * part_count + p]. */
double **attribution_sums_create(const attribution_inputs *self, size_t copies);

/* One row of a part. */
void attribution_read_row(const attribution_inputs *self, size_t row, size_t part, float *out);
void attribution_read_rows(const attribution_inputs *self, size_t row, float *const *out);
/* Into what fill() of variants gets: the original row with the parts replaced by `values`. */
void attribution_write(const attribution_inputs *self, size_t row, const float *const *values,
                       tensor *inputs);
/* Let variants differentiate with respect to the parts, and start at the layer. */
void attribution_prepare(const attribution_inputs *self, variants *what);

/* Floats into one row of any floating-point type. */
void tensor_write_floats(tensor *out, const float *values);

#endif
