/* What is switched on and off: segments of pictures, volumes and signals; single elements of tables
 * and of anything smaller. */
#ifndef EXPLAIN_FEATURES_H
#define EXPLAIN_FEATURES_H

#include "explain/attribution.h"

#define FEATURE_NONE (-1) /* an element that is never switched off */
#define FEATURES_NO_PART SIZE_MAX

typedef struct features {
    const attribution_inputs *inputs;
    const explainer *of;
    bool whole; /* without the option segments, spatial inputs too are taken element by element */
    /* [part]: its axes; with segments a table or tokens (N, L) are a sequence of one axis */
    spatial *spaces;
    size_t count;     /* K, of the current row */
    int32_t **labels; /* [part]: (size of a row) feature of each element */
    size_t *first;    /* [part]: its first feature; first[part_count] = K */
    size_t *sizes;    /* (K) elements */
    size_t sizes_capacity;
    /* The part whose segments the explanation shows: the first spatial one that has segments. */
    size_t shown;
    int32_t *pixels; /* (pixels of the shown part): labels from 0 */
    char made[112];  /* "64 segments (grid of 8 x 8)", "13 elements" */
} features;

/* Checks the option segments. `whole`: see above. */
xai_status features_init(features *self, const attribution_inputs *inputs, const explainer *of,
                         bool whole, xai_error **error);
/* The features of one row. */
xai_status features_of_row(features *self, size_t row, xai_error **error);
void features_free(features *self);

/* values[part][element] = that of its feature divided by the feature's size, or undivided. */
void features_spread(const features *self, const double *of_features, bool divided,
                     double *const *values);

/* Centres of the features, (K, 4): part, then place along the last three axes. */
void features_centres(const features *self, double *out);

#endif
