/* Grad-CAM and Grad-CAM++: class activation maps weighted by gradients. */
#include <stddef.h>

#include "explain/method.h"

static double sum(const float *values, size_t count)
{
    double total = 0;
    for (size_t i = 0; i < count; i++)
        total += values[i];
    return total;
}

static void add_weighted(double weight, const float *plane, size_t pixels, double *map)
{
    for (size_t i = 0; i < pixels; i++)
        map[i] += weight * plane[i];
}

/* Grad-CAM (Selvaraju et al. 2017, eq. 1-2): weight each activation map by its mean gradient.
 *   w_c = 1/(H W) sum_hw dS/dA_chw        map_hw = sum_c w_c A_c,hw
 * ReLU is applied when drawing. */
static bool gradcam_map(const float *activation, const float *gradient, size_t channels,
                        size_t pixels, double *map)
{
    for (size_t c = 0; c < channels; c++) {
        const float *a = activation + c * pixels, *g = gradient + c * pixels;
        add_weighted(sum(g, pixels) / (double)pixels, a, pixels, map);
    }
    return true;
}

const method_definition method_gradcam = {
    .name = "gradcam",
    .description =
        "Grad-CAM (Selvaraju et al. 2017): a layer's activations, weighted by their mean gradients",
    .explain = cam_explain,
    .cam = gradcam_map,
    .options = cam_options,
};

/* Grad-CAM++ (Chattopadhyay et al. 2018, eq. 10 and 19), its weights up to a factor exp(S) > 0
 * that all channels have in common:
 *   g = dS/dA_chw        alpha_chw = g^2 / (2 g^2 + (sum_hw A_c) g^3 + 1e-6), 0 where g = 0
 *   w_c = sum_hw alpha_chw ReLU(g_chw)        map_hw = sum_c w_c A_c,hw */
static bool gradcam_plus_plus_map(const float *activation, const float *gradient, size_t channels,
                                  size_t pixels, double *map)
{
    for (size_t c = 0; c < channels; c++) {
        const float *a = activation + c * pixels;
        const double total = sum(a, pixels);
        double weight = 0;
        for (size_t i = 0; i < pixels; i++) {
            const double g = gradient[c * pixels + i];
            if (g > 0) /* ReLU(g) = 0 elsewhere */
                weight += g * (g * g / (2 * g * g + total * g * g * g + 1e-6));
        }
        add_weighted(weight, a, pixels, map);
    }
    return true;
}

const method_definition method_gradcam_plus_plus = {
    .name = "gradcam++",
    .description = "Grad-CAM++ (Chattopadhyay et al. 2018): Grad-CAM with pixel-wise weighted "
                   "positive gradients, for several findings of one class",
    .explain = cam_explain,
    .cam = gradcam_plus_plus_map,
    .options = cam_options,
};
