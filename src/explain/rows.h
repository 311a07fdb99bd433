/* Shared by the files of the evaluator: plans out of its cache, and rows. Private to them. */
#ifndef EXPLAIN_ROWS_H
#define EXPLAIN_ROWS_H

#include "explain/evaluator.h"

/* Who works on a run of a plan: what suits the batch, all threads, or one (of many that take a run each). */
enum { RUNS_AS_BATCH = 0, RUNS_SHARED, RUNS_ALONE };

/* What a plan must give besides the outputs. No id twice in a list. */
typedef struct plan_wish {
    const int *ids[PLAN_LISTS]; /* wanted, seeds, gradients, starts: value ids */
    size_t counts[PLAN_LISTS];
    const shape *start_shapes; /* of one run; a function of the inputs' shapes */
    const backward_rule *rule; /* NULL = the gradient */
    bool passes_gradients;     /* see plan_request */
    int runs;                  /* RUNS_* */
} plan_wish;

/* From the cache, or compiled; owned by the cache until the next call. */
xai_status evaluator_find_plan(evaluator *self, const batch *rows, const plan_wish *wanted,
                               plan **out, xai_error **error);

/* Whether the runs of a batch are dealt out to the threads, one each, instead of shared by all. */
bool evaluator_deals_runs(const evaluator *self, size_t runs);
/* Threads that each take a run of a plan: as many as there are, and as the memory allows. */
int evaluator_workers(const evaluator *self, size_t runs, const plan *program);

/* Values whose shapes depend on data (late_values.c): whether there are such; the batch as one run, to be freed like the
 * original; and they themselves, from the forward pass of that run, into out[i] (others stay as they are). */
bool late_any(const plan *program, const int *values, size_t count);
xai_status late_batch(const evaluator *self, const batch *rows, batch *out, xai_error **error);
xai_status late_finish(const evaluator *self, const plan *program, run *state, const int *values,
                       size_t count, tensor *out, xai_error **error);
/* XAI_ERROR_NUMERIC for a NaN or an infinity, unless they are let through. */
xai_status value_check_finite(const evaluator *self, int value, const tensor *of, size_t row,
                              xai_error **error);

/* The cache's entry of a plan. */
plan_entry *evaluator_entry(evaluator *self, const plan *program);
void kept_baseline_free(kept_baseline *self);

/* rows_run with the evaluator's options; reports progress 0 first, so that a call can be
 * cancelled before it starts. */
xai_status evaluator_run_rows(evaluator *self, plan *program, const batch *rows, row_body body,
                              void *user, xai_error **error);
/* The same without progress: the body reports its own. */
xai_status evaluator_run_quietly(evaluator *self, plan *program, const batch *rows, row_body body,
                                 void *user, xai_error **error);
/* rows_run_made with the evaluator's progress, on `workers` threads that take a run each. */
xai_status evaluator_run_made(evaluator *self, plan *program, size_t runs, int workers,
                              row_fill fill, row_body body, row_body in_order, void *user,
                              xai_error **error);

#endif
