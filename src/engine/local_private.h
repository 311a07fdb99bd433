/* Inside of local edits: what a network of boxes is made of. Shared by local_*.c. */
#ifndef ENGINE_LOCAL_PRIVATE_H
#define ENGINE_LOCAL_PRIVATE_H

#include "engine/kernels.h"
#include "engine/local.h"
#include "engine/network.h"
#include "engine/primitive.h"

#define LOCAL_NONE SIZE_MAX
#define LOCAL_MOST 8 /* edits of a group */

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

/* Rows and columns computed for every edit of a class. */
typedef struct box_size {
    size_t length[2];
} box_size;

typedef struct local_value {
    int id;                        /* of the graph */
    bool used;                     /* changes with the edits, and is computed here */
    size_t channels, unit, planes; /* unit: channels a block, or 1 where plain; planes of them */
    size_t size[2];                /* H, W */
    box_size *boxes;               /* (classes) */
    reach *reaches;                /* (edits) */
    /* A concatenation is not copied: whoever reads it reads the values it is made of, none of them
     * a concatenation itself. Its map is put together where a step reads it in one piece. */
    size_t *pieces;
    size_t piece_count;
    bool is_piece; /* of a concatenation */
    bool needs_map;
    size_t last;    /* step that reads it last; LOCAL_NONE = the frontier */
    size_t *starts; /* [class]: where its boxes lie in a workspace, in floats */
} local_value;

typedef struct local_step {
    local_kind kind;
    int node;
    size_t *inputs; /* values */
    size_t input_count, output;
    size_t other; /* value added by a fused Add, or LOCAL_NONE */
    window geometry;
    activation f;              /* the activation, or the one fused behind */
    primitive *whole;          /* convolution of whole maps */
    const void *whole_weights; /* prepared, owned by the network */
    /* [class]: of a group's boxes, or of one box where `single`; NULL = the whole map, walks only */
    primitive **patches;
    const void **weights; /* [class] */
    bool *single;         /* [class] */
    size_t class_count;   /* of the three */
    float *scale, *shift; /* (planes * unit); a convolution's bias is `shift` */
    double gain, offset;  /* |output| <= gain |input| + offset, of a convolution or scale-shift */
} local_step;

/* Every value of one image, whole. */
struct local_state {
    const local *of;
    float **maps;     /* [value]: (planes, H, W, unit), or NULL */
    double *bounds;   /* [value]: no magnitude there is larger */
    float *workspace; /* of walks: a box, what a step reads, the primitives' scratch */
};

struct local {
    network *net;
    graph *graph;
    size_t input, edits;
    size_t repeats; /* how often a walk takes each edit; 0 = edits of one row, in groups */
    int threads;
    local_state *row;    /* NULL for walks */
    local_value *values; /* one a graph value */
    local_step *steps;
    size_t step_count;
    int *frontier;
    shape *frontier_shapes;
    size_t frontier_count;
    size_t *order;          /* (edits): the edit at each position */
    size_t *class_of_group; /* (groups) */
    size_t *position;       /* (edits): where in `order` an edit is */
    size_t class_count;
    size_t group;         /* edits that are computed together */
    size_t scratch_bytes; /* of the largest primitive */
    /* A thread's memory: boxes, then what a step reads, then the primitives' scratch. */
    size_t box_floats, patch_floats;
    float **workspaces; /* (threads), made when first used */
    double work, whole; /* multiplications: part of the dense ones an edit; the dense ones */
};

/* local_steps.c: the nodes that can be computed in boxes, as steps. */
bool local_is_image(const graph_value *value);
xai_status local_open_value(local *self, int id, xai_error **error);
xai_status local_add_node(local *self, int index, xai_error **error);
void local_free_step(local_step *self);
/* Adds and activations into the steps before them. After the frontier is known. */
void local_fuse(local *self);

/* local_classes.c: which edits are computed together, and how large the boxes of a class are. */
xai_status local_make_classes(local *self, xai_error **error);
/* Multiplications for one place of a step's output. */
double local_step_cost(const local *self, const local_step *of);
/* Elements of one edit's box of a value. */
size_t local_box_count(const local_value *self, size_t class_index);
/* Whether a class computes all of a value. */
bool local_is_whole(const local_value *self, size_t class_index);
/* Where the computed box of an edit lies: it holds the reach and stays within the map. */
void local_place(const local_value *self, size_t class_index, size_t edit, int64_t at[2]);

/* local_prepare.c: primitives, weights, constants. */
xai_status local_prepare(local *self, xai_error **error);

/* local_bounds.c: what shows that no partial sum leaves float32. */
bool local_bound_fits(double bound);
/* Whether a bound has grown so large that the values themselves are looked at. */
bool local_bound_is_large(const local_value *of, double bound);
/* Of a step's output; infinity when nothing is known. */
double local_bound(const local_step *of, double input, double other);
/* Of a convolution before its activation; 0 for other steps. */
double local_partial_bound(const local_step *of, double input, double other);
xai_status local_overflow(const local *self, const local_step *at, xai_error **error);
/* The second summand of an addition, fused or not. */
size_t local_summand(const local_step *of);
xai_status local_run_primitive(const local_step *at, const primitive *program, const void *weights,
                               const float *source, float *destination, void *scratch,
                               xai_error **error);
/* Elements of a value's map, padding included. */
size_t local_whole_count(const local_value *of);

/* local_row.c: whole maps. */
size_t local_maps_bytes(const local *self);
size_t local_workspace_floats(const local *self);
xai_status local_state_make(const local *of, bool walks, local_state **out, xai_error **error);
xai_status local_read_image(local_state *state, const float *image, int threads, xai_error **error);
/* One step, and the bound of its values. */
xai_status local_compute_map(const local_state *state, const local_step *step, int threads,
                             void *scratch, xai_error **error);

/* local_gather.c: boxes of one group of edits. */
typedef struct box_group {
    const local *self;
    size_t at;                /* its class */
    size_t edits[LOCAL_MOST]; /* the last one again where there are fewer */
    float **boxes;            /* [value]: (edits, planes, box, unit), or NULL */
    double *bounds;           /* [value]: no magnitude in boxes or the row is larger */
    float *workspace;         /* where the boxes lie */
    float *patches;           /* what a step reads */
    void *scratch;
} box_group;

/* A stretch of a map: rows [y, y + height), columns [x, x + width). */
typedef struct stretch {
    int64_t y, x;
    size_t height, width;
} stretch;
/* One edit of a value within `of`, `fill` outside of the map: (planes, height, width, unit). */
void local_gather(const box_group *at, size_t v, size_t member, const stretch *of, float fill,
                  float *out);
/* Likewise of the input of a scale-shift, scaled. */
void local_gather_scaled(const box_group *at, const local_step *step, size_t member,
                         const stretch *of, float *out);
/* A value within the boxes of another; as it stands where they agree and `room` may be left. */
const float *local_aligned(const box_group *at, size_t v, size_t output, float *room);
void local_align(const box_group *at, size_t v, size_t output, float *to);
/* The windows that the boxes of the output read: (edits, planes, size, unit). */
const float *local_windows(const box_group *at, const local_step *step, float fill, size_t size[2]);

/* Elements of a value that is read piece by piece. */
static inline const size_t *local_pieces(const local_value *value, const size_t *self,
                                         size_t *count)
{
    *count = value->piece_count > 0 ? value->piece_count : 1;
    return value->piece_count > 0 ? value->pieces : self;
}

#endif
