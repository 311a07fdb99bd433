/* The graph of one row of a model whose batch is fixed above one: shared by row.c and row_axis.c. */
#ifndef GRAPH_ROW_H
#define GRAPH_ROW_H

#include "graph/graph.h"
#include "graph/private.h"

#define ROW_NONE (-1)

typedef struct row_axes {
    graph *on;
    int64_t rows;
    int8_t *axis;    /* by value id: the axis that holds the rows, or ROW_NONE */
    size_t capacity; /* of axis */
    bool failed;     /* out of memory */
} row_axes;

/* Whether the node computes each row apart; gives its outputs their axes. */
bool row_axes_follow(row_axes *self, int node);
/* A constant input that is the same for every row along `axis` becomes that of one row; false when it is no constant, or not the
 * same. */
bool row_axes_repeat(row_axes *self, int node, int input, int axis);
/* The node's input that names the output's shape, or its last `rank` axes, becomes that of one row. */
bool row_axes_retarget(row_axes *self, int node, int input, int rank);

#endif
