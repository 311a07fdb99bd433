/* Lists of positions that index tensors name: what Gather* read and Scatter* write. Private to
 * this folder. */
#ifndef OPS_INDEXING_H
#define OPS_INDEXING_H

#include "ops/support.h"

/* Blocks of `block` consecutive elements of input 0: number positions[i] for the i-th index. */
typedef struct indexing {
    size_t count, block;
    size_t *positions;
} indexing;

void indexing_drop(indexing *self);

/* All indices of a tensor into a dimension of size `dim`, negative ones counted from its end;
 * error when out of range. */
xai_status indexing_read(const operator_call *call, const tensor *indices, int64_t dim,
                         int64_t **out);

/* GatherElements, ScatterElements: indices (input 1) have the rank of the data and replace the
 * index along `axis`. */
xai_status indexing_elements_check(const operator_call *call, int *axis);
xai_status indexing_elements(const operator_call *call, indexing *out);

/* GatherND, ScatterND: the last axis of the indices (input 1) holds tuples into the data after
 * `batch` shared axes. *blocks = shape of the indices without the last axis, then of what a tuple
 * selects. */
xai_status indexing_tuples_check(const operator_call *call, int64_t batch, shape *blocks);
xai_status indexing_tuples(const operator_call *call, int64_t batch, indexing *out);

#endif
