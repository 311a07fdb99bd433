/* A tensor as a part of another one's memory: what nodes that only move elements do, said in strides. */
#ifndef ENGINE_STRIDED_H
#define ENGINE_STRIDED_H

#include "engine/kernels.h"

/* Everything in elements of the other tensor. */
typedef struct strided {
    shape dims;
    int64_t strides[SHAPE_MAX_RANK], start;
} strided;

/* The tensor itself, row-major. */
strided strided_whole(const shape *dims);
/* The same elements in other dims: numpy's reshape without a copy. False when strides cannot say it. */
bool strided_reshape(strided *self, const shape *to);
/* A movement out of it; no dimension is 0. False for one that steps backwards. */
bool strided_move(strided *self, const movement *how, const shape *to);

#endif
