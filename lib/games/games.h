/* Attributing what a set function says to its players: Shapley values (exact, kernel, partition,
 * permutation, sampling), Owen values, and LIME's weighted ridge regression.
 *
 * A set function v(S) is known only through scores of coalitions S; here nothing is known about
 * models, pixels or maskers. All arithmetic is double. Random numbers come from a seed and a
 * counter, so that the same seed gives the same coalitions everywhere; scores are asked for in
 * batches whose size changes no result. */
#ifndef GAMES_GAMES_H
#define GAMES_GAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "xai/status.h"

typedef struct set_function {
    size_t players; /* M, at least 1 */
    /* scores[i] = v(coalition i). `coalitions` is (count, M), 1 = the player is there. */
    xai_status (*score)(void *user, const uint8_t *coalitions, size_t count, double *scores,
                        xai_error **error);
    void *user;
} set_function;

typedef struct game_options {
    size_t samples; /* evaluations besides v(nobody) and v(all); 0 = the algorithm's default */
    uint64_t seed;
    double tolerance; /* stop at this relative standard error; 0 = use all samples */
    bool leverage;    /* kernel: draw sizes by leverage instead of by kernel weight */
    bool interactions;
} game_options;

typedef struct game_values {
    size_t players;
    double empty, full;   /* v(nobody), v(all) */
    double *values;       /* (M); Shapley: their sum is full - empty */
    double *errors;       /* (M) standard errors: 0 where exact, NaN where unknown */
    double *interactions; /* (M, M) or NULL: rows sum to values; off the diagonal half of each
                           * pair's Shapley interaction index */
    size_t evaluations;   /* v(nobody) and v(all) included */
    double intercept, r2; /* ridge only */
    size_t unresolved;    /* partition: players that share a group's value */
} game_values;

/* Zeroes it, so that game_values_free() is always allowed. */
xai_status game_values_create(game_values *self, size_t players, xai_error **error);
void game_values_free(game_values *self);
/* Norm of the standard errors over the norm of the values; NaN when an error is unknown, 0 when
 * all errors are 0. */
double game_values_relative_error(const game_values *self);

#define GAME_EXACT_PLAYERS 20
/* All 2^M coalitions: phi_i = sum over S without i of |S|! (M - |S| - 1)! / M! (v(S + i) - v(S)).
 * With `interactions` also Phi_ij. XAI_ERROR_ARGUMENT above GAME_EXACT_PLAYERS players. */
xai_status shapley_exact(const set_function *of, const game_options *options, game_values *out,
                         xai_error **error);

/* v(all) - v(all but i) for every player i: M evaluations. */
xai_status leave_one_out(const set_function *of, game_values *out, xai_error **error);

/* Kernel SHAP (Lundberg and Lee 2017): least squares over coalitions and their complements with
 * weights (M - 1) / (C(M, k) k (M - k)), the sum constrained to v(all) - v(nobody). Sizes that the
 * samples can enumerate are enumerated, the others are drawn. Default samples: 2 M + 2048. */
xai_status shapley_kernel(const set_function *of, const game_options *options, game_values *out,
                          xai_error **error);

/* Mean of marginal contributions along random orders, each order run from nobody to all and back
 * again (Mitchell et al. 2022, antithetic), 2 (M - 1) evaluations a pair. Exact for functions
 * without interactions of three or more players. Default: 10 pairs. */
xai_status shapley_permutation(const set_function *of, const game_options *options,
                               game_values *out, xai_error **error);

/* Marginal contributions of single players to random coalitions and their mirror images
 * (Strumbelj and Kononenko 2014), more of them where their variance is higher; the rest of the sum
 * is shared out by variance. Default: 64 M. */
xai_status shapley_sampling(const set_function *of, const game_options *options, game_values *out,
                            xai_error **error);

/* A binary tree over players: every node is a stretch of `order`. */
typedef struct player_tree_node {
    size_t begin, end;  /* of order */
    size_t left, right; /* nodes; SIZE_MAX for a leaf */
} player_tree_node;

typedef struct player_tree {
    size_t players;
    size_t *order;           /* (M) */
    player_tree_node *nodes; /* 2 M - 1, the root first */
} player_tree;

/* Players are the elements of a row-major array. Boxes are halved along their longest axis (the
 * first of equals), the extra one of an odd length going right; the axis `channels` (-1 = none)
 * only when the others have length 1. */
xai_status player_tree_grid(player_tree *self, const size_t *dims, int rank, int channels,
                            xai_error **error);
/* Players are points (M, rank), such as centres of segments: each group is halved at its median
 * along the axis where it is widest. */
xai_status player_tree_points(player_tree *self, const double *points, size_t players, int rank,
                              xai_error **error);
void player_tree_free(player_tree *self);

/* Owen values over the tree (the recursion of SHAP's partition explainer): the node with the
 * highest |difference| times weight is split next, in both contexts; when the samples are used up
 * the value of an unsplit node is spread evenly over its players. Default: 500. */
xai_status shapley_partition(const set_function *of, const player_tree *tree,
                             const game_options *options, game_values *out, xai_error **error);

/* Weighted ridge regression with intercept (the intercept is not penalised):
 *   min over b, b0 of sum_i w_i (y_i - b0 - x_i b)^2 + alpha |b|^2
 * `x` is (rows, columns) of 0 and 1. errors: robust to unequal variances. */
xai_status ridge_fit(const uint8_t *x, const double *y, const double *weights, size_t rows,
                     size_t columns, double alpha, game_values *out, xai_error **error);

/* LIME (Ribeiro et al. 2016): row 0 all players, then fair coins; distance d = 1 - cosine to row 0,
 * weight sqrt(exp(-d^2 / width^2)), ridge_fit(). Default samples: 1000. */
typedef struct lime_options {
    double width, alpha; /* 0.25 and 1 */
} lime_options;
double lime_weight(size_t present, size_t players, double width);
xai_status lime_fit(const set_function *of, const game_options *options, const lime_options *kernel,
                    game_values *out, xai_error **error);

#endif
