#include "image/image.h"

#include <string.h>

/* Each channel is a Chebyshev series in x = 2 value - 1, in levels of 0 to 255: least-squares fits
 * to the published tables, made by tools/colour-maps. */
#define TERMS 15
static const double series[IMAGE_COLOURS_COUNT][3][TERMS] = {
    {
        /* viridis, within 0.3 levels of 255 */
        {104.215, 76.071, 65.018, 20.456, -8.456, -5.019, -0.455, 1.669, 0.531, -0.940, -0.369,
         0.443, 0.227, -0.194, -0.190},
        {132.274, 115.940, -14.630, -1.237, -2.160, 0.192, 0.546, 0.215, -0.083, 0.029, 0.046,
         -0.075, 0.064, -0.050, 0.042},
        {95.852, -37.414, -43.518, 5.391, 3.781, 7.349, 3.743, 1.243, 1.053, 0.306, -0.182, -0.238,
         -0.275, -0.193, -0.134},
    },
    {
        /* inferno, within 2.0 levels of 255 */
        {150.640, 135.671, -33.737, -12.839, 5.179, 2.215, 3.541, 0.314, 0.888, 0.695, -0.040,
         0.046, -0.068, -0.160, -0.011},
        {96.138, 127.409, 37.200, 1.578, -4.890, -1.723, -1.565, 0.936, -0.268, -1.148, 0.898,
         -0.346, -0.072, 0.338, -0.340},
        {71.614, 27.424, 1.617, 58.779, 12.800, -0.714, -2.714, -6.022, 0.331, 1.055, 0.609, 0.602,
         -1.338, -1.218, -0.365},
    },
    {
        /* turbo, within 2.2 levels of 255 */
        {128.821, 78.856, -30.716, -59.363, -11.951, 24.576, -4.154, -9.168, 6.120, 0.535, -3.761,
         2.044, 1.245, -2.401, 0.152},
        {111.430, -24.716, -117.699, 17.282, 20.608, 0.987, -3.036, -0.834, -0.840, 0.035, 0.502,
         0.274, 0.258, -0.127, -0.810},
        {90.342, -91.607, -30.752, 57.546, -37.201, 10.552, 11.855, -5.905, -4.555, 0.287, 2.833,
         1.688, -1.969, -1.163, 1.805},
    },
};

static const char *const names[IMAGE_COLOURS_COUNT] = {"viridis", "inferno", "turbo"};

const char *image_colours_name(int colours)
{
    return colours >= 0 && colours < IMAGE_COLOURS_COUNT ? names[colours] : NULL;
}

int image_colours_find(const char *name)
{
    for (int i = 0; i < IMAGE_COLOURS_COUNT; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

size_t image_colours_index(float value)
{
    return value > 0 ? (size_t)((value < 1 ? value : 1) * 255 + 0.5F) : 0;
}

/* Clenshaw's recurrence: sum_k c_k T_k(x). */
static double evaluate(const double coefficients[TERMS], double x)
{
    double next = 0, after = 0;
    for (size_t k = TERMS - 1; k > 0; k--) {
        const double current = coefficients[k] + 2 * x * next - after;
        after = next;
        next = current;
    }
    return coefficients[0] + x * next - after;
}

void image_colours_table(int colours, uint8_t table[256][3])
{
    for (int i = 0; i < 256; i++) {
        for (int channel = 0; channel < 3; channel++) {
            double level = i;
            if (image_colours_name(colours))
                level = evaluate(series[colours][channel], 2 * i / 255.0 - 1);
            table[i][channel] = (uint8_t)((level < 0 ? 0 : level > 255 ? 255 : level) + 0.5);
        }
    }
}
