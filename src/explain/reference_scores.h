/* Scores of reference rows: of a baseline, or of the rows of a background.
 *
 * Where a reference is the same for every row that is explained (a background, a number, one array)
 * and all inputs are attributed to, its outputs depend on nothing else. Then they are kept in the
 * explainer: explaining n rows evaluates each reference once, and another target or score of the
 * same output costs nothing. */
#ifndef EXPLAIN_REFERENCE_SCORES_H
#define EXPLAIN_REFERENCE_SCORES_H

#include "explain/references.h"

/* What is asked: `count` of the references, by index, for one row that is explained. */
typedef struct reference_request {
    const references *of;
    const attribution_inputs *inputs; /* the parts */
    size_t row;
    const size_t *wanted;
    size_t count;
} reference_request;

/* out[k * score_count + t]: score t of reference wanted[k]. *evaluations: of the model, made now. */
xai_status reference_scores_take(explainer *self, const reference_request *what,
                                 const fixed_score *scores, size_t score_count, double *out,
                                 size_t *evaluations, xai_error **error);

/* Evaluations that a call on all its rows will make, when each row uses the first `used`
 * references: for the progress. */
size_t reference_scores_expect(const explainer *self, const references *of,
                               const attribution_inputs *inputs, size_t used);

#endif
