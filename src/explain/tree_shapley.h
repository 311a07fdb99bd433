/* Exact Shapley values of tree ensembles: the algorithm alone, over arrays. tree_shap.c finds the
 * ensemble in a model and hands rows in and values out. */
#ifndef EXPLAIN_TREE_SHAPLEY_H
#define EXPLAIN_TREE_SHAPLEY_H

#include "ops/trees.h"

typedef struct tree_shapley tree_shapley;

/* What a feature outside of the coalition is:
 *   background rows   a row of the background, averaged over them (interventional)
 *   covers            both ways of a test, by the share of rows that took each (path-dependent) */
typedef struct tree_shapley_setup {
    const trees *of;          /* must outlive the result */
    const double *background; /* (rows, features), read during the call; may be NULL with covers of
                                 the trees' own */
    size_t rows, features;
    bool
        path_dependent; /* covers: the trees' own where they tell, else counted on the background */
} tree_shapley_setup;

/* XAI_ERROR_UNSUPPORTED: minima and maxima over trees, more than 63 features on one path, more
 * than TREE_SHAPLEY_DEPTH tests on one path. XAI_ERROR_ARGUMENT: neither background nor covers. */
#define TREE_SHAPLEY_DEPTH 1024
xai_status tree_shapley_create(const tree_shapley_setup *setup, tree_shapley **out,
                               xai_error **error);
void tree_shapley_free(tree_shapley *self);

/* The value of no feature at all: (outputs) of the ensemble, base values included. */
const double *tree_shapley_base(const tree_shapley *self);

typedef struct tree_shapley_task {
    const double *x; /* (rows, features) */
    size_t rows;
    const size_t *outputs; /* of the ensemble, those wanted */
    size_t output_count;
    /* Interventional only: values of sigmoid(sign score) instead of the score. Each background row
     * r scales its values by [p(x) - p(r)] / [s(x) - s(r)], as DeepLIFT does; 0 = the score. */
    int sigmoid_sign;
    bool interactions;
    int threads;
    double *values; /* (rows, output_count, features), or (..., features, features) */
    /* NULL, or called after each piece of rows, by one thread at a time; false cancels. */
    bool (*progress)(void *user, size_t done, size_t total);
    void *progress_user;
} tree_shapley_task;

/* Values of every row. Rows are independent: the same bits alone or together, for any number of
 * threads. */
xai_status tree_shapley_explain(const tree_shapley *self, const tree_shapley_task *task,
                                xai_error **error);

/* mean over the background of sigmoid(sign score of output `output`); NaN without a background. */
double tree_shapley_sigmoid_base(const tree_shapley *self, size_t output, int sign);

#endif
