/* Inside of local edits: what a network of boxes is made of. Shared by local_*.c. */
#ifndef ENGINE_LOCAL_PRIVATE_H
#define ENGINE_LOCAL_PRIVATE_H

#include "engine/kernels.h"
#include "engine/local.h"
#include "engine/network.h"
#include "engine/primitive.h"

#define LOCAL_GROUP 8 /* edits that are computed together */

typedef enum local_kind {
    LOCAL_CONVOLUTION,
    LOCAL_SCALE_SHIFT,
    LOCAL_ACTIVATION,
    LOCAL_ADD,
    LOCAL_CONCAT,
    LOCAL_MAX_POOL,
    LOCAL_AVERAGE_POOL
} local_kind;

/* Rows and columns [low, high) that an edit can reach, within the map. */
typedef struct reach {
    int32_t low[2], high[2];
} reach;

typedef struct local_value {
    int id;                        /* of the graph */
    bool used;                     /* changes with the edits, and is computed here */
    size_t channels, unit, planes; /* unit: channels a block, or 1 where plain; planes of them */
    size_t size[2];                /* H, W */
    size_t box[2];                 /* rows and columns computed for every edit */
    reach *reaches;                /* (edits) */
    float *base;                   /* (planes, H, W, unit): of the row itself */
    size_t last;                   /* step that reads it last; SIZE_MAX = the frontier */
} local_value;

typedef struct local_step {
    local_kind kind;
    int node;
    size_t *inputs; /* values */
    size_t input_count, output;
    window geometry;
    activation f;
    primitive *whole, *patches; /* convolutions of the row, and of a group's boxes */
    const void *weights[2];     /* prepared for each, owned by the network */
    float *scale, *shift;       /* (planes * unit); a convolution's bias is `shift` */
} local_step;

struct local {
    network *net;
    graph *graph;
    size_t input, edits;
    int threads;
    local_value *values; /* one a graph value */
    local_step *steps;
    size_t step_count;
    int *frontier;
    shape *frontier_shapes;
    size_t frontier_count;
    size_t scratch_bytes; /* of the largest primitive */
    double work;
};

/* Elements of one edit's box of a value. */
size_t local_box_count(const local_value *self);
/* Where the computed box of an edit lies: it holds the reach and stays within the map. */
void local_place(const local_value *self, size_t edit, int64_t at[2]);

#endif
