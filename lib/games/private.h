/* Shared by the algorithms of this folder. */
#ifndef GAMES_PRIVATE_H
#define GAMES_PRIVATE_H

#include "games/games.h"

/* Coalitions on their way to the set function: their scores arrive in the order of adding. */
typedef struct coalition_batch {
    const set_function *of;
    uint8_t *coalitions; /* (capacity, M) */
    size_t count, capacity;
    double *scores; /* where the next flush writes */
    size_t *evaluations;
} coalition_batch;

xai_status coalition_batch_init(coalition_batch *self, const set_function *of, size_t *evaluations,
                                xai_error **error);
void coalition_batch_free(coalition_batch *self);
/* Results of all that follows go to scores[0], scores[1], ... in order. Flush before. */
void coalition_batch_target(coalition_batch *self, double *scores);
/* Room for one coalition, to be filled by the caller before the next call; NULL = failed. */
xai_status coalition_batch_add(coalition_batch *self, uint8_t **coalition, xai_error **error);
xai_status coalition_batch_flush(coalition_batch *self, xai_error **error);

/* game_values_create, then v(nobody) and v(all). */
xai_status game_values_begin(game_values *self, const set_function *of, xai_error **error);
/* One player gets all. */
void game_values_single(game_values *self);

/* Streams of random numbers: one use each. */
enum { DRAW_ORDER = 0x100, DRAW_COALITION, DRAW_CONTRIBUTION, DRAW_COINS };

/* Cholesky of a symmetric matrix (n, n), lower triangle, in place; false when it is not positive
 * definite. */
bool cholesky(double *matrix, size_t n);
/* Solve L L^T x = b in place. */
void cholesky_solve(const double *factor, size_t n, double *b);

/* Mean and variance of a stream of numbers (Welford). */
typedef struct moments {
    double mean, squares;
    size_t count;
} moments;
void moments_add(moments *self, double value);
/* Of the mean; NaN below two numbers. */
double moments_error(const moments *self);

#endif
