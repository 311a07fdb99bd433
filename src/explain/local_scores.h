/* Scores of many box-edited copies of one row: only what each box can reach is computed. */
#ifndef EXPLAIN_LOCAL_SCORES_H
#define EXPLAIN_LOCAL_SCORES_H

#include "engine/local.h"
#include "explain/variants.h"

typedef struct local_scores {
    local *plan;  /* NULL = not made yet, or not for this network */
    bool refused; /* then evaluate densely */
    /* [frontier value]: of the edits at hand, `chunks` times `chunk_edits` of them. */
    float **chunk;
    size_t chunk_edits, chunks;
    local_state **states; /* (chunks) of walks, made when first used */
    size_t repeated;      /* the row whose inputs stand in `inputs`, + 1 */
    /* The network behind the frontier for all edits of a chunk at once, where it has no more layers
     * with space: matrices are then read once for all. NULL = an edit at a time. */
    plan *together;
    run *state;
    tensor *inputs; /* of that plan: the row's, then the frontier */
    size_t input_count;
} local_scores;

void local_scores_free(local_scores *self);

/* How edits are computed: one after the other from the same row (repeats = 0), or as steps of walks, each
 * taken about `repeats` times, with `walk` evaluations a chunk and a chunk a thread. */
typedef struct local_manner {
    size_t repeats, walk;
} local_manner;

/* Whether the edits of input `input` can be computed locally, and pay. Makes the plan; later calls
 * must be for the same edits, sources of scores and shapes. */
xai_status local_scores_open(local_scores *self, evaluator *engine, const batch *rows, size_t input,
                             const local_box *edits, size_t count, const local_manner *manner,
                             const fixed_score *scores, size_t score_count, bool *pays,
                             xai_error **error);

/* out[edit * score_count + score] for all edits of `row`. Scores as evaluator_scores_of() gives them,
 * up to rounding. `content` as local_run() takes it. */
xai_status local_scores_run(local_scores *self, evaluator *engine, const batch *rows, size_t row,
                            size_t input, size_t count, local_content content, void *user,
                            const fixed_score *scores, size_t score_count, double *out,
                            xai_error **error);

/* Scores of what lies in the chunks, filled[chunk] evaluations each: out[evaluation * score_count + score],
 * chunk after chunk. */
xai_status local_scores_tail(local_scores *self, evaluator *engine, const batch *rows, size_t row,
                             const size_t *filled, const fixed_score *scores, size_t score_count,
                             double *out, xai_error **error);
/* Tell how far the call is, and hear whether it shall go on; `more` evaluations are done. On the calling
 * thread alone. */
xai_status local_scores_advance(evaluator *engine, size_t more, xai_error **error);

#endif
