/* Pictures: resizing, blurring, colours, overlays, contours. Planes are float, row-major (height,
 * width) without gaps; pictures are bytes, (height, width, 3) RGB or (height, width) gray. Knows
 * neither models nor files. Calls that return bool give false when memory runs out, and then leave
 * their output undefined. */
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Linear interpolation with half-pixel centres, borders repeated: what "bilinear, align_corners =
 * False" means. `source` is (height, width), `out` (out_height, out_width); all sizes at least 1;
 * they may not overlap. */
bool image_resize(const float *source, size_t height, size_t width, float *out, size_t out_height,
                  size_t out_width);

/* The same when growing. When shrinking, each output pixel is a triangle-weighted mean of all the
 * pixels it covers, so that fine structure fades instead of aliasing (what PIL's BILINEAR and
 * PyTorch's antialias = True compute). */
bool image_resize_smooth(const float *source, size_t height, size_t width, float *out,
                         size_t out_height, size_t out_width);

/* Gaussian of `sigma` pixels, cut at 4 sigma, borders mirrored (d c b a | a b c d). `out` may be
 * `source`. */
bool image_blur_gaussian(const float *source, size_t height, size_t width, double sigma,
                         float *out);
/* Mean over (2 radius + 1)^2 pixels, borders mirrored. `out` may be `source`. */
bool image_blur_box(const float *source, size_t height, size_t width, size_t radius, float *out);

/* Colour maps. Viridis and inferno rise evenly in lightness, so they also read in gray; turbo
 * separates more levels. */
enum {
    IMAGE_COLOURS_VIRIDIS = 0,
    IMAGE_COLOURS_INFERNO = 1,
    IMAGE_COLOURS_TURBO = 2,
    IMAGE_COLOURS_COUNT = 3
};
/* "viridis", ...; NULL when out of range. */
const char *image_colours_name(int colours);
/* -1 when there is none of that name. */
int image_colours_find(const char *name);
/* 256 RGB colours for 0 to 1. An unknown map gives gray. */
void image_colours_table(int colours, uint8_t table[256][3]);
/* Entry for a value, which is cut to [0, 1]; NaN counts as 0. */
size_t image_colours_index(float value);

/* out = (1 - a) picture + a colour(m) with a = alpha m, m the map's value cut to [0, 1]: pixels
 * with m = 0 keep their bytes. `map` is (height, width); `picture` has 1 or 3 channels; `out` is
 * RGB and may be `picture` when that is RGB. */
void image_overlay(const float *map, const uint8_t *picture, size_t height, size_t width,
                   int channels, double alpha, int colours, uint8_t *out);

/* The percentile (0 to 100, linear between neighbours in order) of the values above 0; 0 when there
 * is none. NaN does not count. */
bool image_percentile_above_zero(const float *map, size_t count, double percentile, double *out);

/* mask = 1 on the pixels of map >= threshold that touch, by an edge, a pixel below it or the
 * border; else 0. */
void image_contour(const float *map, size_t height, size_t width, float threshold, uint8_t *mask);
/* Paint the pixels of `mask`, and those up to `reach` rows and columns away, in one colour. */
void image_paint(uint8_t *picture, const uint8_t *mask, size_t height, size_t width, size_t reach,
                 const uint8_t colour[3]);

#endif
