/* Integer inputs whose values choose rows of a table of weights: token ids before an embedding. */
#ifndef EXPLAIN_TOKENS_H
#define EXPLAIN_TOKENS_H

#include "graph/graph.h"

/* Rows of the table that input `input` (its position) chooses from, and the table's name; 0 when
 * none is seen. Of several tables the smallest: every id must be in all of them. */
int64_t tokens_table(const graph *source, size_t input, const char **table);

/* Whether every id chooses a row of the table of input `input`; negative ones count from its end, as
 * ONNX has it. XAI_ERROR_ARGUMENT names the first that does not; `place` is what is being checked. */
xai_status tokens_check(const graph *source, size_t input, const tensor *ids, const char *place,
                        xai_error **error);

#endif
