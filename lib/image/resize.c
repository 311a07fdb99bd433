#include "image/image.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

/* One axis of a separable filter: output i is the sum of weights[i * width + k] * source[first[i] +
 * k]. */
typedef struct taps {
    size_t *first;  /* (out) */
    size_t *count;  /* (out), 1 to width */
    float *weights; /* (out, width), each row sums to 1 */
    size_t width;
} taps;

static void taps_free(taps *self)
{
    memory_free(self->first);
    memory_free(self->count);
    memory_free(self->weights);
    *self = (taps){0};
}

static bool taps_allocate(taps *self, size_t out, size_t width)
{
    size_t entries;
    *self = (taps){.width = width};
    if (!size_multiply(out, width, &entries))
        return false;
    self->first = memory_allocate(out, sizeof *self->first);
    self->count = memory_allocate(out, sizeof *self->count);
    self->weights = memory_allocate_zeroed(entries, sizeof *self->weights);
    if (self->first && self->count && self->weights)
        return true;
    taps_free(self);
    return false;
}

/* Output pixel i has its centre at (i + 1/2) in/out - 1/2 in source pixels, where pixel j has its
 * centre at j. */
static bool taps_linear(taps *self, size_t in, size_t out)
{
    if (!taps_allocate(self, out, 2))
        return false;
    const double scale = (double)in / (double)out;
    for (size_t i = 0; i < out; i++) {
        const double centre = fmax(((double)i + 0.5) * scale - 0.5, 0);
        size_t first = (size_t)centre;
        if (first > in - 1)
            first = in - 1;
        const double right = centre - (double)first;
        self->first[i] = first;
        self->count[i] = first + 1 < in ? 2 : 1;
        self->weights[2 * i] = self->count[i] == 2 ? (float)(1 - right) : 1;
        self->weights[2 * i + 1] = self->count[i] == 2 ? (float)right : 0;
    }
    return true;
}

/* A triangle of half width in/out (at least 1) around the centre, cut at the borders and normalised
 * to sum 1. */
static bool taps_triangle(taps *self, size_t in, size_t out)
{
    const double scale = (double)in / (double)out, support = fmax(scale, 1);
    const double widest = fmin(2 * ceil(support) + 2, (double)in);
    if (!taps_allocate(self, out, (size_t)widest))
        return false;
    for (size_t i = 0; i < out; i++) {
        const double centre = ((double)i + 0.5) * scale;
        const double begin = floor(fmax(centre - support + 0.5, 0));
        const double end = fmin(floor(centre + support + 0.5), (double)in);
        const size_t first = (size_t)begin, count = (size_t)fmin(end - begin, (double)self->width);
        float *weights = self->weights + i * self->width;
        double sum = 0;
        for (size_t k = 0; k < count; k++)
            sum += fmax(1 - fabs((double)(first + k) + 0.5 - centre) / support, 0);
        for (size_t k = 0; k < count; k++)
            weights[k] =
                (float)(fmax(1 - fabs((double)(first + k) + 0.5 - centre) / support, 0) / sum);
        self->first[i] = first;
        self->count[i] = count;
    }
    return true;
}

/* source (height, width) -> wide (height, out_width) -> out (out_height, out_width) */
static bool resize(const float *source, size_t height, size_t width, float *out, size_t out_height,
                   size_t out_width, bool (*make)(taps *, size_t, size_t))
{
    taps across = {0}, down = {0};
    float *wide = NULL;
    size_t entries;
    bool done = false;
    if (!size_multiply(height, out_width, &entries) || !make(&across, width, out_width) ||
        !make(&down, height, out_height))
        goto done;
    wide = memory_allocate(entries, sizeof *wide);
    if (!wide)
        goto done;
    for (size_t y = 0; y < height; y++) {
        for (size_t x = 0; x < out_width; x++) {
            const float *pixels = source + y * width + across.first[x],
                        *weights = across.weights + x * across.width;
            float sum = 0;
            for (size_t k = 0; k < across.count[x]; k++)
                sum += weights[k] * pixels[k];
            wide[y * out_width + x] = sum;
        }
    }
    for (size_t y = 0; y < out_height; y++) {
        float *row = out + y * out_width;
        memset(row, 0, out_width * sizeof *row);
        for (size_t k = 0; k < down.count[y]; k++) {
            const float *pixels = wide + (down.first[y] + k) * out_width,
                        weight = down.weights[y * down.width + k];
            for (size_t x = 0; x < out_width; x++)
                row[x] += weight * pixels[x];
        }
    }
    done = true;
done:
    memory_free(wide);
    taps_free(&across);
    taps_free(&down);
    return done;
}

bool image_resize(const float *source, size_t height, size_t width, float *out, size_t out_height,
                  size_t out_width)
{
    return resize(source, height, width, out, out_height, out_width, taps_linear);
}

bool image_resize_smooth(const float *source, size_t height, size_t width, float *out,
                         size_t out_height, size_t out_width)
{
    return resize(source, height, width, out, out_height, out_width, taps_triangle);
}
