/* Shared by the two files on Transposes: what a node that one passes looks like with its channels first. */
#ifndef GRAPH_REWRITE_TRANSPOSE_H
#define GRAPH_REWRITE_TRANSPOSE_H

#include "graph/rewrite.h"

enum { MAX_OPERANDS = 16 };

typedef enum kind { OTHER, ELEMENTWISE, CONCAT, PAD, SLICE, REDUCE } kind;

typedef struct turn { /* axis i of a Transpose's output is axis axes[i] of its input */
    int rank;
    int64_t axes[SHAPE_MAX_RANK];
} turn;

/* The node as it works with channels first: operands and attributes are the caller's. */
typedef struct passed {
    int inputs[MAX_OPERANDS];
    int input_count;
    onnx_attribute *attributes;
    size_t attribute_count;
    turn result; /* from its result to the old one */
} passed;

/* Whether a Reduce is over axes of the plane alone: means over channels are the business of normalisations over the last axis. `axes`
 * get positive. */
bool transpose_reduces_plane(const rewriter *self, const graph_node *node, int rank,
                             int64_t axes[SHAPE_MAX_RANK], size_t *count);
/* Attributes and lists of a Concat, Pad, Slice or Reduce behind the Transpose `last`, in `of`, which begins as the node; nothing for other
 * nodes. False: leave the node alone, or without memory. */
bool transpose_pass_axes(rewriter *self, const graph_node *node, kind what, const turn *last,
                         passed *of);

#endif
