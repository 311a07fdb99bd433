/* Layers: which values can be explained, which one by default, and where their channels and
 * positions lie. */
#ifndef GRAPH_LAYERS_H
#define GRAPH_LAYERS_H

#include "graph/graph.h"

/* Values that nodes compute from the inputs in a float type, in topological order: their number,
 * and up to `capacity` ids into out. In an imported graph, where types are not known yet, values
 * that may be float are listed. */
size_t graph_layers(const graph *self, int *out, size_t capacity);

/* The layer that the CAM methods explain unless told otherwise, for a score of the output
 * `output_value`; *out = GRAPH_NONE when there is none. Fails only without memory. Needs a
 * specialised graph with its rewrites.
 *   classifier            the input of the global pool (or Flatten, or average pool) that the head begins with
 *   class token (ViT)     the input of the last attention, that is its LayerNormalization: behind it patch tokens have no gradient
 *   last step (recurrent) the sequence that the last recurrent layer reads: behind it earlier steps have no gradient
 *   map (segmentation)    the input of the last convolution (or linear layer)
 * Never what only moves an input's elements. */
xai_status graph_default_layer(const graph *specialised, int output_value, int *out,
                               xai_error **error);

/* How a value of rank 3 to 5 is laid out: (N, C, spatial...), (N, spatial..., C), tokens (N, T, C)
 * or, around recurrent layers and for N = 1, time first: (L, N, C), (L, directions, N, C). */
typedef struct layer_layout {
    int channel_axis;
    int spatial_rank; /* 1 to 3 */
    int64_t dims[3];  /* positions: the spatial axes, or the patch grid of tokens */
    /* (N, T, C) with T = prefix_tokens + dims[0] * dims[1], the grid in row-major order behind
     * the prefix */
    bool tokens;
    bool time_major;       /* all axes behind the first are channels */
    int64_t prefix_tokens; /* class token and registers */
} layer_layout;

/* spatial_rank 0: the value has no spatial axes. Axis 0 is the batch, or time. Fails only without memory.
 * Needs a specialised graph. */
xai_status graph_layer_layout(const graph *specialised, int value, layer_layout *out,
                              xai_error **error);

/* The channel axis of every value (value_count entries), -1 where there is none; free with
 * memory_free(). NULL without memory. */
signed char *graph_channel_axes(const graph *specialised);

/* Whether axis 0 is time and the batch of one row lies behind it; `axes` of all values. */
bool graph_is_time_major(const graph *specialised, int value, const signed char *axes);

#endif
