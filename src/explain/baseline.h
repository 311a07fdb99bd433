/* What stands for the absence of a feature: a baseline, or the rows of a background. */
#ifndef EXPLAIN_BASELINE_H
#define EXPLAIN_BASELINE_H

#include "explain/attribution.h"

/* The option baseline for one row: values[part] has one row of that input, float32.
 *   a number   everywhere
 *   an array   (1, ...) for all rows, or (N, ...), one an input; without the row axis too; or a
 *              scalar, everywhere in that input
 *   "mean"     of each channel over the row's own pixels
 *   "blur"     the row itself, blurred by a Gaussian of 1/16 of its longer side
 * All values are in the range that the model takes. */
xai_status baseline_row(const attribution_inputs *inputs, const explainer *of, size_t row,
                        float *const *values, xai_error **error);

/* The same for one part in the type of its input, integers included: into `out`, one row. */
xai_status baseline_write(const attribution_inputs *inputs, const explainer *of, size_t row,
                          size_t part, tensor *out, xai_error **error);

/* Check the option against the inputs, and name it for the reader. */
xai_status baseline_check(const attribution_inputs *inputs, const explainer *of, explanation *out,
                          xai_error **error);
/* Whether it is the same for every row of every call. */
bool baseline_is_shared(const attribution_inputs *inputs, const explainer *of);
/* Name what stands for absence: `background` rows, or (0) the baseline; and what keeps its values. */
xai_status baseline_name(const attribution_inputs *inputs, const explainer *of, size_t background,
                         explanation *out, xai_error **error);

/* Rows of the option background: 0 without. XAI_ERROR_ARGUMENT or _SHAPE when it does not fit. */
xai_status background_rows(const attribution_inputs *inputs, const explainer *of, size_t *count,
                           xai_error **error);
/* "a background of 20 rows", for the reader. */
void background_name(size_t rows, char *out, size_t size);
/* One row of the background for a part. */
void background_read(const attribution_inputs *inputs, const explainer *of, size_t part,
                     size_t index, float *out);
/* The same in the type of its input. */
xai_status background_write(const attribution_inputs *inputs, const explainer *of, size_t part,
                            size_t index, tensor *out, xai_error **error);

#endif
