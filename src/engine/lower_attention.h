/* Attention found in the graph (match_attention.c), for lower_attention.c. */
#ifndef ENGINE_LOWER_ATTENTION_H
#define ENGINE_LOWER_ATTENTION_H

#include "engine/kernels_attention.h"
#include "engine/lower.h"

/* Products, softmax and the moves around them that one unit does in place of their nodes. */
typedef struct fused_attention {
    attention shape;
    int sources[3]; /* the values in which q, k and v lie */
    int masks[ATTENTION_MASKS];
    int output;
    /* The parts that lie in a value cover it: its gradient needs no zeros first. */
    bool covered[3];
    operand weights; /* the softmax, kept for the gradient */
} fused_attention;

#endif
