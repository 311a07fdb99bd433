#include "image/image.h"

#include <math.h>

#include "base/memory.h"

/* Where position `at` of a line of `length` pixels comes from when the line is mirrored at both
 * ends:
 * ... c b a | a b c d | d c b ... */
static size_t mirror(ptrdiff_t at, size_t length)
{
    const ptrdiff_t period = 2 * (ptrdiff_t)length;
    at %= period;
    if (at < 0)
        at += period;
    return (size_t)(at < (ptrdiff_t)length ? at : period - 1 - at);
}

/* Filter every line of one axis with a symmetric kernel of 2 radius + 1 weights.
 * Lines start `next` apart and their pixels lie `step` apart; `line` holds length + 2 radius
 * pixels. */
static void filter_lines(float *plane, size_t lines, size_t next, size_t length, size_t step,
                         const double *kernel, size_t radius, float *line)
{
    for (size_t l = 0; l < lines; l++) {
        float *pixels = plane + l * next;
        for (size_t i = 0; i < length + 2 * radius; i++)
            line[i] = pixels[mirror((ptrdiff_t)i - (ptrdiff_t)radius, length) * step];
        for (size_t i = 0; i < length; i++) {
            double sum = 0;
            for (size_t k = 0; k <= 2 * radius; k++)
                sum += kernel[k] * line[i + k];
            pixels[i * step] = (float)sum;
        }
    }
}

static bool filter_both_axes(const float *source, size_t height, size_t width, const double *kernel,
                             size_t radius, float *out)
{
    const size_t longest = height > width ? height : width;
    float *line = memory_allocate(longest + 2 * radius, sizeof *line);
    if (!line)
        return false;
    for (size_t i = 0; out != source && i < height * width; i++)
        out[i] = source[i];
    filter_lines(out, height, width, width, 1, kernel, radius, line);
    filter_lines(out, width, 1, height, width, kernel, radius, line);
    memory_free(line);
    return true;
}

bool image_blur_gaussian(const float *source, size_t height, size_t width, double sigma, float *out)
{
    const double reach = floor(4 * sigma + 0.5);
    const size_t radius = reach >= 1 ? (size_t)fmin(reach, 1e6) : 0; /* false for NaN, so no blur */
    double *kernel = memory_allocate(2 * radius + 1, sizeof *kernel);
    if (!kernel)
        return false;
    double sum = 0;
    for (size_t k = 0; k <= 2 * radius; k++) {
        const double distance = (double)k - (double)radius;
        kernel[k] = radius ? exp(-distance * distance / (2 * sigma * sigma)) : 1;
        sum += kernel[k];
    }
    for (size_t k = 0; k <= 2 * radius; k++)
        kernel[k] /= sum;
    const bool done = filter_both_axes(source, height, width, kernel, radius, out);
    memory_free(kernel);
    return done;
}

bool image_blur_box(const float *source, size_t height, size_t width, size_t radius, float *out)
{
    if (radius > 1000000)
        radius = 1000000;
    double *kernel = memory_allocate(2 * radius + 1, sizeof *kernel);
    if (!kernel)
        return false;
    for (size_t k = 0; k <= 2 * radius; k++)
        kernel[k] = 1.0 / (double)(2 * radius + 1);
    const bool done = filter_both_axes(source, height, width, kernel, radius, out);
    memory_free(kernel);
    return done;
}
