/* CAM methods from products of activations and gradients, pixel by pixel. */
#include "explain/method.h"

/* HiResCAM (Draelos & Carin 2020, eq. 5):  map_hw = sum_c g_c,hw A_c,hw
 * The attribution of a linear head to the layer, exactly: behind a global pool and a linear layer the
 * map sums to the score less its bias. */
static bool hirescam_map(const float *activation, const float *gradient, size_t channels,
                         size_t pixels, double *map)
{
    for (size_t c = 0; c < channels; c++)
        for (size_t i = 0; i < pixels; i++)
            map[i] += (double)gradient[c * pixels + i] * activation[c * pixels + i];
    return true;
}

/* LayerCAM (Jiang et al. 2021, eq. 6):  map_hw = sum_c ReLU(g_c,hw) A_c,hw */
static bool layercam_map(const float *activation, const float *gradient, size_t channels,
                         size_t pixels, double *map)
{
    for (size_t c = 0; c < channels; c++)
        for (size_t i = 0; i < pixels; i++)
            if (gradient[c * pixels + i] > 0)
                map[i] += (double)gradient[c * pixels + i] * activation[c * pixels + i];
    return true;
}

/* Element-wise Grad-CAM (as in pytorch-grad-cam):  map_hw = sum_c ReLU(g_c,hw A_c,hw) */
static bool elementwise_map(const float *activation, const float *gradient, size_t channels,
                            size_t pixels, double *map)
{
    for (size_t c = 0; c < channels; c++) {
        for (size_t i = 0; i < pixels; i++) {
            const double product = (double)gradient[c * pixels + i] * activation[c * pixels + i];
            map[i] += product > 0 ? product : 0;
        }
    }
    return true;
}

/* XGrad-CAM (Fu et al. 2020, eq. 8):
 *   w_c = sum_hw g_c,hw A_c,hw / (sum_hw A_c,hw + 1e-7)        map_hw = sum_c w_c A_c,hw
 * so that the map sums to sum g A. */
static bool xgradcam_map(const float *activation, const float *gradient, size_t channels,
                         size_t pixels, double *map)
{
    for (size_t c = 0; c < channels; c++) {
        const float *a = activation + c * pixels, *g = gradient + c * pixels;
        double product = 0, total = 1e-7;
        for (size_t i = 0; i < pixels; i++) {
            product += (double)g[i] * a[i];
            total += a[i];
        }
        for (size_t i = 0; i < pixels; i++)
            map[i] += product / total * a[i];
    }
    return true;
}

const method_definition method_hirescam = {
    .name = "hirescam",
    .description = "HiResCAM (Draelos & Carin 2020): activations times gradients, pixel by pixel",
    .explain = cam_explain,
    .cam = hirescam_map,
    .options = cam_options,
};

const method_definition method_layercam = {
    .name = "layercam",
    .description = "LayerCAM (Jiang et al. 2021): activations times positive gradients",
    .explain = cam_explain,
    .cam = layercam_map,
    .options = cam_options,
};

const method_definition method_elementwise_gradcam = {
    .name = "elementwise_gradcam",
    .description = "Element-wise Grad-CAM: positive products of activations and gradients",
    .explain = cam_explain,
    .cam = elementwise_map,
    .options = cam_options,
};

const method_definition method_xgradcam = {
    .name = "xgradcam",
    .description = "XGrad-CAM (Fu et al. 2020): gradients weighted by the share of each activation",
    .explain = cam_explain,
    .cam = xgradcam_map,
    .options = cam_options,
};
