/* Coalitions that follow each other with one feature more or less, as along a permutation: each is
 * computed from the one before, only where that feature can reach. */
#ifndef EXPLAIN_LOCAL_WALKS_H
#define EXPLAIN_LOCAL_WALKS_H

#include "explain/local_coalitions.h"

typedef struct local_walks {
    local_scores near;
    local_box *boxes; /* (features) of the row: what a feature changes; height 0 = nothing */
    size_t features;
    size_t evaluations; /* the most that one row takes; 0 = not to be walked */
} local_walks;

void local_walks_free(local_walks *self);
/* Another row follows. */
void local_walks_forget(local_walks *self);

/* Scores of some of the coalitions, densely: out[i * score_count + score] of which[i]. */
typedef xai_status (*dense_scores)(void *user, const size_t *which, size_t count, double *out,
                                   xai_error **error);

/* As local_coalitions_run(). What walks do not hold is asked of `dense`. No two coalitions of a row may look
 * the same: they would differ by rounding. For the same reason only methods walk
 * whose coalitions do not follow from scores: another target of the call would find other steps. */
xai_status local_walks_run(local_walks *self, const local_coalitions *of, dense_scores dense,
                           void *user, bool *done, double *out, xai_error **error);

#endif
