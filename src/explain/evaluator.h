/* Evaluator: checks inputs, compiles and caches plans, runs rows, and takes scores, inner values
 * and gradients.
 *
 * A row is one entry of the batch axis (axis 0) of every input. Where the model leaves that axis
 * free, a plan handles one row; where it fixes the axis at B, a plan handles B rows. When the
 * inputs have exactly the shapes that the model declares but no common batch axis (a scalar
 * among them, say), the whole call is one row and values have no row axis. */
#ifndef EXPLAIN_EVALUATOR_H
#define EXPLAIN_EVALUATOR_H

#include "explain/score.h"

typedef struct evaluator_options {
    int threads;           /* in all; 0 = all processors */
    bool throughput;       /* a row a thread */
    int precision;         /* ENGINE_PRECISION_* */
    size_t memory_limit;   /* bytes of arena a row; 0 = none */
    bool allow_nonfinite;  /* let NaN and infinities through in inputs and values */
    row_progress progress; /* may be NULL */
    void *progress_user;
} evaluator_options;

/* Inputs that were checked against the model. */
typedef struct batch {
    const tensor *const *inputs; /* the caller's */
    size_t rows;                 /* N */
    size_t per_plan;             /* B rows a run of the plan */
    size_t runs;                 /* N / B */
    bool has_rows;               /* axis 0 of every input is the batch axis */
    shape *shapes;               /* of one run, one an input; owned */
} batch;

#define PLAN_LISTS 4
#define EVALUATOR_PLANS 6 /* cached, least recently used goes first */

/* What the backward passes send through the network: ENGINE_RULE_*, and for LRP its rules. */
typedef struct backward_rule {
    int rule;
    relevance_rule relevance, first; /* of layers with weights; of those that read an input */
    bool has_first;
} backward_rule;

/* A forward pass on a baseline: what backward passes read of it, and the values that scores are
 * functions of, one after the other. */
typedef struct kept_baseline {
    baseline *activations;
    double *values;
} kept_baseline;

typedef struct plan_entry {
    plan *program; /* NULL = free */
    shape *shapes;
    int *ids; /* wanted, seeds, gradients, starts, one after the other */
    size_t counts[PLAN_LISTS];
    int threads;
    backward_rule rule;
    bool passes_gradients;
    kept_baseline *kept; /* of baselines that serve every row; NULL = none yet */
    size_t kept_count;
    uint64_t used;
} plan_entry;

typedef struct evaluator {
    const subject *of;
    evaluator_options options;
    plan_entry plans[EVALUATOR_PLANS];
    uint64_t clock;
    size_t arena_bytes; /* of the plan used last */
    /* Progress of a call made of several loops, in runs of the model; total 0 = of one loop. */
    size_t done, total;
    bool cancelled;
} evaluator;

/* `of` must outlive the evaluator. */
void evaluator_init(evaluator *self, const subject *of, const evaluator_options *options);
void evaluator_free(evaluator *self);

/* The runs of the model that a call of several loops will make, for its progress; 0 ends it. */
void evaluator_expect(evaluator *self, size_t runs);
/* Behind a call that took fewer runs than expected: the last report says that all is done. */
void evaluator_complete(evaluator *self);

/* The inputs must outlive the batch. */
xai_status batch_check(const evaluator *self, const tensor *const *inputs, size_t count, batch *out,
                       xai_error **error);
void batch_free(batch *self);

/* A value id by ONNX value name, node name, or index of a layer as text. */
xai_status evaluator_find_value(const evaluator *self, const char *name, int *out,
                                xai_error **error);

/* Forward: `count` values of all rows into new tensors (N, ...), or exactly as the model
 * computes them when there is one run. */
xai_status evaluator_values(evaluator *self, const batch *rows, const int *values, size_t count,
                            tensor *out, xai_error **error);

/* The shape of one row of a value: its plan shape without the row axis, where it has one. */
typedef struct row_layout {
    shape row;
    bool has_axis;
} row_layout;

/* One row, one target and one value that was differentiated; pointers are valid during the call
 * of the body only. */
typedef struct sample {
    size_t row, target, wrt;
    const selection *chosen;
    int output; /* position of the output that holds the score */
    double score;
    const score_source *source;
    const shape *output_shape; /* of a row of the output */
    const row_layout *layout;  /* of the value */
    size_t count;              /* elements of the value's row */
    const float *activation;   /* the value; NULL unless asked for */
    const float *gradient;     /* d score / d value, or what the rule gives instead */
    size_t against;            /* the baseline's index, and its score */
    double base_score;
} sample;

/* May be called for several rows at once, in any order: write to the sample's row only. */
typedef xai_status (*sample_body)(void *user, const sample *of, xai_error **error);

/* Baselines for ENGINE_RULE_DEEPLIFT: the body is called for each, in their order. */
typedef struct contrast {
    size_t count; /* a row */
    bool
        fixed; /* the same for all rows and all calls of this evaluator: kept, as far as they fit */
    size_t cache_bytes;
    /* Baseline `index` of a row: one row of input `input`, flat. `user` is the differentiation's.
     * May be called for several rows at once. */
    xai_status (*fill)(void *user, size_t row, size_t index, size_t input, tensor *out,
                       xai_error **error);
} contrast;

/* Without values of `wrt` the forward pass alone is made, and the body is called once a row and
 * target, with wrt 0 and neither activation nor gradient. */
typedef struct differentiation {
    const xai_target *const *targets; /* NULL entry = the highest score of each row */
    size_t target_count;
    int32_t score;  /* XAI_SCORE_* */
    const int *wrt; /* value ids */
    size_t wrt_count;
    size_t activations; /* the first so many of `wrt` come with their activation */
    /* Gradients come as the backward pass makes them, those of the last layer first, and only one is
     * held at a time. */
    bool one_by_one;
    const backward_rule *rule; /* NULL = the gradient */
    const contrast *against;   /* with ENGINE_RULE_DEEPLIFT, else NULL */
    /* Called once, after the plan is made and before any row runs, with the layout of every
     * value of `wrt`; may be NULL. */
    xai_status (*prepare)(void *user, const plan *program, const row_layout *layouts,
                          xai_error **error);
    sample_body body;
    void *user;
} differentiation;

/* All targets of a row share its forward pass. Scores, activations and gradients are checked to
 * be finite. */
xai_status evaluator_differentiate(evaluator *self, const batch *rows, const differentiation *what,
                                   xai_error **error);

/* Operators without an own rule on the way of the last differentiation of this rule: "TopK, Mod", into
 * `out`; empty when all have one. */
void evaluator_unruled(const evaluator *self, int rule, char *out, size_t size);

/* The plan of a call, owned by the cache: forward only, or (wrt_count > 0) with the backward
 * passes from every float output. */
xai_status evaluator_plan(evaluator *self, const batch *rows, const int *wrt, size_t wrt_count,
                          plan **out, xai_error **error);

/* The graph of a plan for these inputs, for questions about shapes and axes: of any plan in the
 * cache, else of a new one that computes the outputs. Valid until the next call. */
xai_status evaluator_graph(evaluator *self, const batch *rows, const graph **out,
                           xai_error **error);

/* Index of the first element that is NaN or infinite; SIZE_MAX when there is none. */
size_t tensor_find_nonfinite(const tensor *self);

#endif
