/* A score of a model as a sum over tree ensembles: score = shift + sum factor * ensemble output. */
#ifndef EXPLAIN_TREE_SUM_H
#define EXPLAIN_TREE_SUM_H

#include "explain/score.h"
#include "ops/trees.h"

/* One ensemble node of the model. */
typedef struct tree_node_source {
    int node;  /* of the imported graph */
    int input; /* the value of features that it reads */
    const trees *of;
    void *kept; /* the caller's */
} tree_node_source;

typedef struct tree_term {
    size_t source; /* position in tree_sum.sources */
    size_t output; /* of the ensemble */
    double factor;
} tree_term;

/* Columns of one output that were looked at so far, all over the same ensembles. */
typedef struct tree_sum {
    const graph *graph;
    memory_pool *pool; /* compiled ensembles */
    tree_node_source *sources;
    size_t source_count, source_capacity;
} tree_sum;

typedef struct tree_column {
    tree_term *terms;
    size_t count, capacity;
    double shift;
    bool sigmoid; /* the score is the sigmoid of the sum */
} tree_column;

xai_status tree_sum_init(tree_sum *self, const graph *source, xai_error **error);
void tree_sum_free(tree_sum *self);

/* Column `column` (position in a row) of the score. XAI_ERROR_UNSUPPORTED when the score is
 * something else than trees, constants and at last a sigmoid. */
xai_status tree_sum_column(tree_sum *self, const score_source *score, size_t column,
                           tree_column *out, xai_error **error);
void tree_column_free(tree_column *self);

/* Whether every feature of a value is made of the same feature of the model's one input alone
 * (scaled, imputed, cast); *input is that input's value id. */
bool tree_sum_is_featurewise(const tree_sum *self, int value, int *input);

#endif
