/* Shared by differentiate.c and contrast.c: rows x targets x values. Private to them. */
#ifndef EXPLAIN_DIFFERENTIATE_H
#define EXPLAIN_DIFFERENTIATE_H

#include "explain/rows.h"

/* Baselines of a call; see contrast.c. */
typedef struct contrast_state contrast_state;

typedef struct job {
    const evaluator *self;
    const batch *rows;
    const differentiation *what;
    /* Distinct sources of scores, and which one each target uses. */
    score_source *sources;
    size_t source_count;
    size_t *source_of;
    row_layout *source_layouts; /* of the outputs */
    row_layout *layouts;        /* of the values of wrt */
    int *wanted, *seeds, *wrt;  /* ids without repetition */
    size_t wanted_count, seed_count, wrt_count;
    contrast_state *contrasts; /* NULL without baselines */
} job;

/* What one run holds between its forward pass and its last backward pass. */
typedef struct scratch {
    double **outputs; /* one a source: (B, ...) the output */
    double **
        /* one a source: (B, ...) the seed value; the output itself when they are the same */
        values;
    float **activations; /* one a value of wrt: (B, ...), or NULL */
    float *seed;         /* large enough for every source */
    float *gradient;     /* large enough for every value of wrt */
    selection *chosen;   /* one a row of the run */
    double *scores;
    double *base_scores; /* against a baseline */
    size_t against;      /* which one */
} scratch;

/* The runs of the model on the baselines of all rows, and those that serve every row. */
xai_status contrast_open(job *self, evaluator *engine, plan *program, xai_error **error);
void contrast_close(job *self);
/* Set baseline `index` of the run for the backward passes that follow; *values: its seed values, one
 * (B, ...) block a seed of the job. `own` holds it where it is not kept, until the next call. */
xai_status contrast_set(const job *self, run *state, size_t run_index, size_t index,
                        kept_baseline *own, const double **values, xai_error **error);
/* The seed of a target against a baseline: slopes of the score averaged along the line between them,
 * so that seed . (value - its baseline) is the change of the score. */
xai_status contrast_seed(const job *self, size_t target, const double *base_values, scratch *at,
                         xai_error **error);
/* One more backward pass is done; XAI_ERROR_CANCELLED when the caller wants no more. */
xai_status contrast_report(const job *self, xai_error **error);

#endif
