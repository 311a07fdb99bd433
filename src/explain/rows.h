/* Shared by the files of the evaluator: plans out of its cache, and rows. Private to them. */
#ifndef EXPLAIN_ROWS_H
#define EXPLAIN_ROWS_H

#include "explain/evaluator.h"

/* What a plan must give besides the outputs. No id twice in a list. */
typedef struct plan_wish {
    const int *ids[3]; /* wanted, seeds, gradients: value ids */
    size_t counts[3];
} plan_wish;

/* From the cache, or compiled; owned by the cache until the next call. */
xai_status evaluator_find_plan(evaluator *self, const batch *rows, const plan_wish *wanted,
                               plan **out, xai_error **error);

/* rows_run with the evaluator's options; reports progress 0 first, so that a call can be
 * cancelled before it starts. */
xai_status evaluator_run_rows(const evaluator *self, plan *program, const batch *rows,
                              row_body body, void *user, xai_error **error);

/* Index of the first element that is NaN or infinite; SIZE_MAX when there is none. */
size_t tensor_find_nonfinite(const tensor *self);

#endif
