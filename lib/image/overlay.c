#include "image/image.h"

void image_overlay(const float *map, const uint8_t *picture, size_t height, size_t width,
                   int channels, double alpha, int colours, uint8_t *out)
{
    uint8_t table[256][3];
    image_colours_table(colours, table);
    const double strength = alpha > 0 ? (alpha < 1 ? alpha : 1) : 0;
    for (size_t i = 0; i < height * width; i++) {
        const double m = map[i] > 0 ? (map[i] < 1 ? (double)map[i] : 1) : 0; /* NaN counts as 0 */
        const uint8_t *colour = table[image_colours_index((float)m)];
        const double a = strength * m;
        for (size_t channel = 0; channel < 3; channel++) {
            const uint8_t before = channels == 3 ? picture[3 * i + channel] : picture[i];
            out[3 * i + channel] = (uint8_t)((1 - a) * before + a * colour[channel] + 0.5);
        }
    }
}

void image_contour(const float *map, size_t height, size_t width, float threshold, uint8_t *mask)
{
    for (size_t y = 0; y < height; y++) {
        for (size_t x = 0; x < width; x++) {
            const float *at = map + y * width + x;
            const bool inside = *at >= threshold;
            const bool edge = y == 0 || x == 0 || y == height - 1 || x == width - 1 ||
                              !(at[-1] >= threshold) || !(at[1] >= threshold) ||
                              !(at[-(ptrdiff_t)width] >= threshold) || !(at[width] >= threshold);
            mask[y * width + x] = inside && edge;
        }
    }
}

void image_paint(uint8_t *picture, const uint8_t *mask, size_t height, size_t width, size_t reach,
                 const uint8_t colour[3])
{
    for (size_t y = 0; y < height; y++) {
        for (size_t x = 0; x < width; x++) {
            if (!mask[y * width + x])
                continue;
            const size_t bottom = y + reach < height ? y + reach : height - 1,
                         right = x + reach < width ? x + reach : width - 1;
            for (size_t v = y > reach ? y - reach : 0; v <= bottom; v++)
                for (size_t u = x > reach ? x - reach : 0; u <= right; u++)
                    for (size_t channel = 0; channel < 3; channel++)
                        picture[3 * (v * width + u) + channel] = colour[channel];
        }
    }
}
