/* Rules of LRP whose sums are products with other weights than the layer's own. Shared by relevance_split.c and
 * relevance_first.c. */
#ifndef ENGINE_RELEVANCE_SPLIT_H
#define ENGINE_RELEVANCE_SPLIT_H

#include "engine/lower.h"

/* Which weights: of one sign (the others 0), as they are, or ones in their places. */
typedef enum part { POSITIVE, NEGATIVE, WHOLE, ONES } part;
enum { SIGNS = 2 };

/* A convolution or matrix product z = W x + b at work. */
typedef struct split {
    builder *b;
    const unit *of;
    const graph_node *node;
    const relevance_rule *rule;
    bool is_matrix;
    primitive_spec forward, backward; /* of a convolution */
    layout form, z_form;              /* of x and z */
    bool is_signed, needs_minus;
    operand x[SIGNS];
    size_t x_bytes, z_bytes;
} split;

xai_status split_buffer(split *self, size_t bytes, operand *out);
/* W source, with the bias where asked for; or, backwards, W' source: into *out, a new buffer. */
xai_status split_apply(split *self, bool backwards, operand source, part of_weights, bool bias,
                       operand *out);
/* relevance_first.c: relevance itself from m, for RELEVANCE_FLAT and RELEVANCE_BOX. */
xai_status split_flat(split *self, operand m, operand *out);
xai_status split_box(split *self, operand x, operand m, operand *out);

#endif
