/* Maps: the spatial layout of a layer, scaling to [0, 1], resizing. */
#ifndef EXPLAIN_MAP_H
#define EXPLAIN_MAP_H

#include "engine/engine.h"

#define MAP_MAX_RANK 3

/* Where channel c of pixel p lies in one row of a layer: offset + c * channel_stride + p *
 * pixel_stride. */
typedef struct spatial {
    int rank;                   /* 1 to 3 */
    int64_t dims[MAP_MAX_RANK]; /* (l), (h, w) or (d, h, w) */
    size_t channels, pixels;    /* pixels = product of dims */
    size_t offset, channel_stride, pixel_stride;
} spatial;

/* One axis without channels: tokens, or the columns of a table. */
spatial spatial_sequence(size_t length);

/* (N, dims...) */
shape spatial_rows(const spatial *self, size_t rows);

/* The row as planes (channels, pixels): `values` itself when it is one already, else copied to
 * `scratch`. */
const float *spatial_planes(const spatial *self, const float *values, float *scratch);

/* Map to [0, 1]: negative values are cut; then XAI_SCALING_MAX divides by the maximum,
 * XAI_SCALING_MIN_MAX subtracts the minimum and divides by 1e-7 + the maximum. False (and all
 * zero) when no value is positive. `scaled` may be `values`. */
bool map_scale(const float *values, size_t count, int32_t scaling, float *scaled);

/* Linear in every axis, half-pixel centres, edges repeated, no antialias: `in` (from[0..rank))
 * to `out` (to[0..rank)). */
xai_status map_resize(const float *in, const int64_t *from, const int64_t *to, int rank, float *out,
                      xai_error **error);

#endif
