/* Maps of a layer: what the CAM methods share beyond their formulas. */
#ifndef EXPLAIN_CAM_H
#define EXPLAIN_CAM_H

#include "explain/method.h"

/* What is said about a row afterwards; rows are computed in any order. */
enum { CAM_NO_GRADIENT = 1, CAM_NO_GRADIENT_SATURATED, CAM_NO_EVIDENCE };

typedef struct cam_layer {
    const char *name;
    spatial space;       /* of a row of the layer */
    spatial input_space; /* of a row of the input that the map belongs to; rank 0 = none fits */
    size_t input;
} cam_layer;

typedef struct cam_job {
    explainer *self;
    const batch *rows;
    explanation **out;
    size_t target_count;
    int *values;       /* distinct layers */
    cam_layer *layers; /* the same */
    size_t layer_count;
    size_t *layer_of; /* target -> layer: outputs may differ in their default layer */
    uint8_t *notes;   /* (target, row) */
} cam_job;

/* Layers of the targets, and an explanation without parts for each. */
xai_status cam_begin(cam_job *job, explainer *self, const batch *rows,
                     const xai_target *const *targets, size_t target_count, explanation **out,
                     xai_error **error);
/* Parts and maps, once the axes of the layers (job->layers[].space) are known. */
xai_status cam_create_maps(cam_job *job, xai_error **error);
/* The raw map of a row, (pixels) of the layer, into values and map. */
xai_status cam_store(const cam_job *job, size_t target, size_t row, const double *raw,
                     xai_error **error);
/* Warnings of all targets. */
xai_status cam_end(const cam_job *job, xai_error **error);
void cam_free(cam_job *job);

#endif
