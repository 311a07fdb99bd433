/* Local edits of one row, whose plan an explainer keeps for its next call. */
#ifndef EXPLAIN_LOCAL_KEPT_H
#define EXPLAIN_LOCAL_KEPT_H

#include "explain/local_scores.h"
#include "explain/method.h"

typedef struct edits_wish {
    const batch *rows;
    size_t input; /* position of the image among the inputs */
    const local_box *edits;
    size_t count;
    const fixed_score *scores; /* their sources only */
    size_t score_count;
} edits_wish;

/* local_scores_open() for edits that are not walks: of the last call of this explainer where that was for the same
 * boxes, shapes and sources, else anew. It is the explainer's (`kept` and `release`): for methods that keep nothing
 * else. *out is valid until the next call. */
xai_status local_kept_open(explainer *of, const edits_wish *wanted, local_scores **out, bool *pays,
                           xai_error **error);

#endif
