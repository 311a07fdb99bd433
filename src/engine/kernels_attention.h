/* Attention as one pass: y = softmax(scale q k' + masks) v, one matrix each an item (a head of a row, of a window).
 *
 * Queries go through in blocks of a few rows, whose scores stay in the first-level cache from the first product to the second, so
 * nothing of (queries, keys) is written but the weights, where a gradient will read them. Every operand is read and written where it
 * lies: heads need not be moved apart. Own products, because a block is too small for a library's call; bits depend on sizes alone. */
#ifndef ENGINE_KERNELS_ATTENTION_H
#define ENGINE_KERNELS_ATTENTION_H

#include "engine/kernels.h"

/* One matrix an item within a tensor, everything in elements. Items are counted row-major along `dims`. */
typedef struct matrices {
    int rank;
    int64_t dims[SHAPE_MAX_RANK], steps[SHAPE_MAX_RANK];
    int64_t start, row, column;
} matrices;
/* Where an item's begins. */
int64_t matrices_start(const matrices *self, size_t item);

#define ATTENTION_MASKS 2

typedef struct attention {
    size_t items, queries, keys, depth, width; /* depth of q and k, columns of v and y */
    matrices q, k, v, y;                       /* k (keys, depth) */
    int mask_count;
    matrices masks[ATTENTION_MASKS]; /* (queries, keys), column 1; added to the scaled scores */
    float scale;
} attention;

/* Whether the kernels are faster here than a library's products with passes between them. */
bool attention_worthwhile(void);
/* Of each kernel below, for so many threads. */
size_t attention_scratch_bytes(const attention *self, int threads);
/* `weights` (items, queries, keys), the softmax, or NULL when nobody wants it. */
void kernel_attention(const attention *self, const float *q, const float *k, const float *v,
                      const float *const masks[ATTENTION_MASKS], float *weights, float *y,
                      void *scratch, int threads);

/* Where a gradient goes: along the operand's own matrices; NULL = not wanted. */
typedef struct attention_gradient {
    float *to;
    bool accumulate;
} attention_gradient;
/* gradient of the scaled scores times scale -> `slopes` (items, queries, keys), and gq */
void kernel_attention_backward_queries(const attention *self, const float *k, const float *v,
                                       const float *weights, const float *gy, float *slopes,
                                       attention_gradient gq, void *scratch, int threads);
void kernel_attention_backward_keys(const attention *self, const float *q, const float *weights,
                                    const float *slopes, const float *gy, attention_gradient gk,
                                    attention_gradient gv, void *scratch, int threads);

#endif
