/* Rows of which some elements are replaced by what stands for their absence, in the element type of
 * each input: token ids are never made floats. */
#ifndef EXPLAIN_MASKING_H
#define EXPLAIN_MASKING_H

#include "explain/baseline.h"

/* The inputs that are masked: every floating-point one, and of the integer ones
 *   those with a baseline or background of their own
 *   in a model of integers alone where none has: the only one, else the one that chooses from the
 *   largest table of weights (the token ids: an attention mask chooses from none, token types from
 *   a small one)
 * The others keep the values of the row. XAI_ERROR_ARGUMENT when it is not clear which. */
xai_status masking_inputs_init(attribution_inputs *self, explainer *of, const batch *rows,
                               xai_error **error);

typedef struct masking {
    const attribution_inputs *inputs;
    const explainer *of;
    size_t backgrounds; /* B; 1 for a baseline */
    bool background;
    void **there;  /* [part]: the row begun */
    void **absent; /* [part]: (B, size) */
} masking;

/* Checks the options baseline and background (where the method has it), and names them in every
 * explanation. */
xai_status masking_init(masking *self, const attribution_inputs *inputs, const explainer *of,
                        explanation *const *out, size_t out_count, xai_error **error);
void masking_free(masking *self);
/* Before the others, for each row. */
xai_status masking_begin(masking *self, size_t row, xai_error **error);

/* What fill() of variants gets: the row, with all parts absent. */
void masking_write_absent(const masking *self, size_t row, size_t background, tensor *inputs);
/* Part p: elements whose label is FEATURE_NONE or a member of the coalition are there, the others
 * come from background row `background`. */
void masking_write_coalition(const masking *self, size_t part, size_t background,
                             const int32_t *labels, const uint8_t *coalition, tensor *out);
/* One element from the background. */
void masking_hide(const masking *self, size_t part, size_t element, tensor *out);
/* Whether an element differs from that of background row `background`. */
bool masking_changes(const masking *self, size_t part, size_t background, size_t element);

/* The row and background 0 of a part of float32 as floats; NULL for other types. */
const float *masking_floats(const masking *self, size_t part);
const float *masking_absent_floats(const masking *self, size_t part);

#endif
