/* Superpixels: labels 0 .. K - 1 for the elements of a picture, a volume or a signal, every label
 * used. Sizes are (depth, height, width), 1 for axes that are not there; planes are (channels,
 * depth, height, width) float. Calls that return bool give false when memory runs out. */
#ifndef IMAGE_SEGMENTS_H
#define IMAGE_SEGMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Boxes: every axis longer than 1 is cut into min(cells, its length) parts whose lengths differ by
 * at most 1. Returns K. */
size_t segments_grid(const size_t dims[3], size_t cells, int32_t *labels);

typedef struct slic_options {
    size_t wanted;      /* about how many segments */
    double compactness; /* weight of closeness against likeness; 10 is usual */
    int iterations;     /* at most; 10 is usual */
    bool connect;       /* cut segments into connected parts and merge the small ones */
} slic_options;

/* SLIC (Achanta et al. 2012): k-means in colour and place from a regular grid of seeds. Colours are
 * scaled to [0, 1] from the picture's lowest to its highest value; one or three channels are then
 * taken as sRGB and turned into CIELAB, others are multiplied by 100. */
bool segments_slic(const float *planes, size_t channels, const size_t dims[3],
                   const slic_options *options, int32_t *labels, size_t *count);

typedef struct quickshift_options {
    double kernel;   /* width of the Gaussian in pixels, at least 1 */
    double distance; /* links longer than this are cut */
    double ratio;    /* weight of colour against place */
    int threads;
} quickshift_options;

/* Quickshift (Vedaldi and Soatto 2008): every pixel is linked to the nearest one of higher density
 * within 3 kernel widths. Colours as in SLIC. Of equal densities the pixel that comes first counts
 * as the higher. Segments need not be connected. Pictures only: (height, width). */
bool segments_quickshift(const float *planes, size_t channels, size_t height, size_t width,
                         const quickshift_options *options, int32_t *labels, size_t *count);

/* Any labels made 0 .. K - 1 in their order; returns K. 0 = out of memory. */
size_t segments_compact(const int64_t *values, size_t count, int32_t *labels);

#endif
