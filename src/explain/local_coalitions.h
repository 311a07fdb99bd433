/* Coalitions that lack little of one image: what they lack lies in a box, and only what that box can
 * reach is computed. */
#ifndef EXPLAIN_LOCAL_COALITIONS_H
#define EXPLAIN_LOCAL_COALITIONS_H

#include "explain/features.h"
#include "explain/local_scores.h"

typedef struct local_coalitions {
    explainer *of;
    const attribution_inputs *inputs;
    const features *parts;
    size_t row;
    const float *original, *absent; /* the image and what stands for its absent features */
    const uint8_t *coalitions;      /* (any, K) */
    const size_t *asked;            /* (count): which of them */
    size_t count;
    const fixed_score *scores;
    size_t score_count;
} local_coalitions;

/* One image, channels first, all of it, on the kernels that edits know. */
bool local_coalitions_fit(const local_coalitions *self);
/* Around the pixels of each feature that its absence changes; height 0 = none. */
xai_status local_coalitions_boxes(const local_coalitions *self, local_box *out, xai_error **error);
/* The pixels of the i-th coalition that is asked for within a box: (C, height, width). */
void local_coalitions_pixels(const local_coalitions *self, size_t i, const local_box *box,
                             float *out);

/* out[i * score_count + score] of the i-th coalition that is asked for; *done = false, and nothing
 * happened, where boxes do not pay. */
xai_status local_coalitions_run(const local_coalitions *self, bool *done, double *out,
                                xai_error **error);

#endif
