/* Local edits: the values of many copies of one row that differ from it only in a box each.
 *
 * Only the box of each layer that a box of the input can reach is computed; around it stand the
 * values of the row itself. That is exact up to rounding: no value is approximated. Edits whose
 * boxes have like sizes are computed together, a few at a time; layers that cannot be computed in boxes
 * end it: the values before them are the frontier, from which a plan that starts there
 * (plan_request.starts) goes on densely.
 *
 * For networks whose edited input is an image (1, C, H, W) that begins with convolutions, pools,
 * scale-shifts, activations, additions and concatenations of channels. XAI_ERROR_UNSUPPORTED
 * otherwise: then evaluate densely. */
#ifndef ENGINE_LOCAL_H
#define ENGINE_LOCAL_H

#include "engine/engine.h"

/* A box of the image: rows [y, y + height), columns [x, x + width). */
typedef struct local_box {
    int64_t y, x, height, width;
} local_box;

typedef struct local local;

/* What the edits are is fixed: `edits` boxes, in the order of their numbers. `input` is the position
 * of the image among the inputs; the other inputs are the same for all edits. `repeats` 0: edits of one
 * row, by local_run(); else they are the steps of walks, each taken about so often. */
xai_status local_create(network *net, const shape *input_shapes, size_t input,
                        const local_box *edits, size_t count, size_t repeats, int threads,
                        local **out, xai_error **error);
void local_free(local *self);

/* The values where the dense computation goes on, and the shape of each for one row. */
size_t local_frontier(const local *self, const int **values, const shape **shapes);
/* Part of the whole network's multiplications that an edit costs, the layers behind the frontier
 * included: 0 to 1. */
double local_work(const local *self);
/* Bytes that local_set_row() keeps, and that local_run() takes besides; of walks, of one state. */
size_t local_bytes(const local *self);

/* Edits that are computed together, one such group a thread. */
size_t local_group_size(const local *self);
/* Edits are computed in an order of the plan's choice: the edit at a position. */
size_t local_edit_at(const local *self, size_t position);

/* Write the pixels of edit `index` for a box that holds its own: (C, height, width). May be called
 * for several edits at once. */
typedef void (*local_content)(void *user, size_t index, const local_box *box, float *out);

/* Asked on the calling thread while local_run() works, at least once in the work of a dense evaluation and as
 * often whatever the threads do; anything but XAI_OK ends the call. */
typedef struct local_watch {
    xai_status (*go_on)(void *user, xai_error **error);
    void *user;
} local_watch;

/* The row itself: `image` is (C, H, W). Before local_run(), again for every row. */
xai_status local_set_row(local *self, const float *image, xai_error **error);
/* The edits at positions [begin, begin + count), begin a multiple of the group size: out[f] receives
 * (count, elements of frontier value f), plain. The same bits for any number of threads. `watch` may be
 * NULL. */
xai_status local_run(local *self, size_t begin, size_t count, local_content content, void *user,
                     const local_watch *watch, float *const *out, xai_error **error);

/* Walks: a state holds all layers of one image. A step replaces pixels within one of the edits' boxes
 * and computes what they can reach, in place: nothing is added up, so that the rounding of a state
 * does not grow along a walk. Several states may be at work at once, each on one thread. */
typedef struct local_state local_state;

xai_status local_state_create(const local *of, local_state **out, xai_error **error);
void local_state_free(local_state *self);
/* All layers of an image (C, H, W). */
xai_status local_state_set(local_state *self, const float *image, xai_error **error);
/* The image changes within the box of edit `index`, and nowhere else: `content` writes it. */
xai_status local_state_step(local_state *self, size_t index, local_content content, void *user,
                            xai_error **error);
/* out[f] receives frontier value f, plain. */
void local_state_frontier(const local_state *self, float *const *out);

#endif
