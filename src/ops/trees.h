/* Ensembles of decision trees as the ai.onnx.ml domain describes them, compiled from a node's
 * attributes into arrays. The operators of tree_ensemble.c evaluate them; src/explain reads them
 * for exact Shapley values. */
#ifndef OPS_TREES_H
#define OPS_TREES_H

#include "base/memory.h"
#include "ops/operator.h"

/* The test of a node: x `mode` threshold. Numbered as in TreeEnsemble's nodes_modes. */
enum {
    TREES_LEQ = 0,
    TREES_LT = 1,
    TREES_GTE = 2,
    TREES_GT = 3,
    TREES_EQ = 4,
    TREES_NEQ = 5,
    TREES_MEMBER = 6, /* x is one of the node's members */
};

enum { TREES_AVERAGE = 0, TREES_SUM = 1, TREES_MIN = 2, TREES_MAX = 3 };

/* What becomes of the one score s that a classifier of two classes computes. */
enum {
    TREES_SCORES = 0,     /* every class has its own */
    TREES_COMPLEMENT = 1, /* [1 - s, s]: the weights are probabilities */
    TREES_OPPOSITE = 2,   /* [-s, s] */
};

typedef struct trees_node {
    double threshold;
    int32_t feature;
    int32_t yes, no; /* >= 0: a node; < 0: the leaf ~child */
    uint32_t member_begin, member_count;
    uint8_t mode;     /* TREES_LEQ ... */
    bool missing_yes; /* NaN goes to `yes` whatever the test says */
} trees_node;

typedef struct trees_weight {
    int32_t output;
    double value;
} trees_weight;

typedef struct trees {
    size_t tree_count, node_count, leaf_count, outputs;
    int features;  /* 1 + the highest feature that a node reads */
    int max_depth; /* tests on the longest path */
    const trees_node *nodes;
    const int32_t *roots;         /* one a tree, coded as a child */
    const uint32_t *leaf_weights; /* leaf l has weights [leaf_weights[l], leaf_weights[l + 1]) */
    const trees_weight *weights;
    const double *members;              /* of TREES_MEMBER nodes */
    const double *covers, *leaf_covers; /* training rows through each; NULL when not told */
    const double *base;                 /* (outputs) */
    int aggregate;                      /* TREES_SUM ... */
    int pair;                           /* TREES_SCORES ... */
    const char *transform;              /* "NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO" */
} trees;

/* Compile and validate the node of a call (TreeEnsembleRegressor, TreeEnsembleClassifier,
 * TreeEnsemble): ids in range, lists of equal length, every node reached exactly once from its
 * root. Lives in the pool. */
xai_status trees_compile(const operator_call *call, memory_pool *pool, const trees **out);

/* Which way a value goes at a node. */
static inline bool trees_decide(const trees *self, const trees_node *node, double x)
{
    bool yes = false;
    switch (node->mode) {
    case TREES_LEQ:
        yes = x <= node->threshold;
        break;
    case TREES_LT:
        yes = x < node->threshold;
        break;
    case TREES_GTE:
        yes = x >= node->threshold;
        break;
    case TREES_GT:
        yes = x > node->threshold;
        break;
    case TREES_EQ:
        yes = x == node->threshold;
        break;
    case TREES_NEQ:
        yes = x != node->threshold;
        break;
    default:
        for (uint32_t i = 0; i < node->member_count && !yes; i++)
            yes = x == self->members[node->member_begin + i];
        break;
    }
    return yes || (node->missing_yes && x != x);
}

/* The scores of one row of at least `features` values, base values included, before pair and
 * transform: (outputs). */
void trees_scores(const trees *self, const double *x, double *scores);

/* Columns after the pair: outputs, or 2. */
size_t trees_columns(const trees *self);

#endif
