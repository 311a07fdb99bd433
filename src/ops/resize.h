/* What one Resize or Upsample asks for, whatever its opset. Private to this folder. */
#ifndef OPS_RESIZE_H
#define OPS_RESIZE_H

#include "ops/support.h"

typedef enum resize_mode { MODE_NEAREST, MODE_LINEAR, MODE_CUBIC } resize_mode;

typedef enum transformation {
    TRANSFORM_HALF_PIXEL,
    TRANSFORM_HALF_PIXEL_SYMMETRIC,
    TRANSFORM_PYTORCH_HALF_PIXEL,
    TRANSFORM_ALIGN_CORNERS,
    TRANSFORM_ASYMMETRIC,
    TRANSFORM_CROP_AND_RESIZE,
    TRANSFORM_HALF_PIXEL_FOR_NEAREST, /* opset 11 alone */
} transformation;

typedef enum rounding {
    ROUND_PREFER_FLOOR,
    ROUND_PREFER_CEIL,
    ROUND_FLOOR,
    ROUND_CEIL,
    ROUND_BY_DIRECTION, /* before opset 11: floor when enlarging, ceil when shrinking */
} rounding;

typedef struct resize_axis {
    bool resized;
    bool from_sizes; /* scale is out / in */
    int64_t in, out;
    double scale;
    double begin, end; /* region of interest, normalised */
} resize_axis;

typedef struct resize {
    resize_mode mode;
    transformation coordinates;
    rounding nearest;
    bool antialias, exclude_outside;
    double cubic_a, extrapolation;
    resize_axis axes[SHAPE_MAX_RANK];
    shape x, y;
} resize;

/* Read and check attributes, scales, sizes and regions; y is the shape of the output. */
xai_status resize_read(const operator_call *call, resize *out);

#endif
