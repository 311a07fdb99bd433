/* Layers of the CAM methods: the default one, the spatial axes of one, and the input that its
 * map belongs to. */
#ifndef EXPLAIN_LAYER_H
#define EXPLAIN_LAYER_H

#include "explain/evaluator.h"
#include "explain/map.h"

/* The default layer for a score of output `output` (its position) when the inputs have these
 * shapes. XAI_ERROR_UNSUPPORTED when there is none. */
xai_status layer_find_default(const subject *of, const shape *input_shapes, int output, int *out,
                              xai_error **error);

/* The last answer of layer_find_default, which costs a specialisation of the graph. */
typedef struct layer_memo {
    shape *shapes; /* NULL = none yet; owned */
    int output, layer;
} layer_memo;

xai_status layer_find_default_again(layer_memo *memo, const subject *of, const shape *input_shapes,
                                    int output, int *out, xai_error **error);
void layer_memo_free(layer_memo *self);

/* `layer_space`: axes of one row of the layer. `input_space`: of one row of the first input with
 * as many spatial axes; rank 0 when there is none. Axes of one position do not count where an input
 * has fewer: converters of signals write (C, 1, L). XAI_ERROR_UNSUPPORTED for a layer without
 * spatial axes. */
xai_status layer_find_spatial(const graph *specialised, int layer, const row_layout *layout,
                              spatial *layer_space, spatial *input_space, size_t *input,
                              xai_error **error);

/* The axes of one row of input `input`; rank 0 when it has no spatial axes (a table, tokens). An
 * input of rank 3 to 5 has channels, first or last as the graph tells; where the graph tells that it
 * has none, it is an image (N, H, W) or a volume. */
xai_status layer_find_input_spatial(const graph *specialised, size_t input, spatial *out,
                                    xai_error **error);

#endif
