/**
 * @file
 * How the map of an explanation is drawn. Nothing here changes a number of the explanation.
 *
 * Maps of pixels (integrated_gradients, deeplift, ...) are 1 in a few pixels and small in the rest,
 * so that over a large radiograph next to nothing is seen of them. A percentile lets the colours
 * reach their full strength earlier, smoothing joins neighbours; an outline shows a region without
 * covering the picture. Tell the reader what was chosen.
 */
#ifndef XAI_DISPLAY_H
#define XAI_DISPLAY_H

#include <stddef.h>
#include <stdint.h>

#include "explanation.h"
#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** How a map is drawn. Written by one thread at a time, read by any number. @since 0.1 */
typedef struct xai_display xai_display;

/**
 * Make one with the defaults: alpha 0.5, "turbo", the map as it is, no contour.
 * @param out  set on success only; free with xai_display_free()
 * @return XAI_OK, XAI_ERROR_ARGUMENT or XAI_ERROR_MEMORY
 * @since 0.1
 */
XAI_API xai_status xai_display_create(xai_display **out, xai_error **error);

/** Set the strength of the colours, 0 to 1. @return XAI_OK or XAI_ERROR_ARGUMENT @since 0.1 */
XAI_API xai_status xai_display_set_alpha(xai_display *display, double alpha, xai_error **error);

/**
 * Set the colour map: "viridis", "inferno" or "turbo"; NULL = "turbo".
 * @return XAI_OK, XAI_ERROR_ARGUMENT, or XAI_ERROR_NOT_FOUND for another name
 * @since 0.1
 */
XAI_API xai_status xai_display_set_colours(xai_display *display, const char *colours,
                                           xai_error **error);

/**
 * Let the colours reach their full strength at a percentile of the map's values above 0 (linear
 * between neighbours in order), instead of at the map's 1: 99 is usual for maps of pixels. What
 * lies above looks alike. A map without a value above 0 stays empty.
 * @param percentile  above 0, at most 100 (the default; the largest value)
 * @return XAI_OK or XAI_ERROR_ARGUMENT
 * @since 0.1
 */
XAI_API xai_status xai_display_set_percentile(xai_display *display, double percentile,
                                              xai_error **error);

/**
 * Smooth the map by a Gaussian before it is drawn. Colours are then strongest at the largest value
 * of the smoothed map, or at the percentile of its values above 0.
 * @param sigma  standard deviation in pixels of the map (of the model's input, not of the image
 *               drawn upon), 0 (the default; none) to 1000
 * @return XAI_OK or XAI_ERROR_ARGUMENT
 * @since 0.1
 */
XAI_API xai_status xai_display_set_smoothing(xai_display *display, double sigma, xai_error **error);

/**
 * Draw a line around what is at least a threshold, in orange, as wide as 3 pixels of a side of
 * 1024. The threshold is a share of where the colours are strongest. With alpha 0 the line is all
 * that is drawn.
 * @param threshold  above 0, at most 1; 0 (the default) draws none
 * @return XAI_OK or XAI_ERROR_ARGUMENT
 * @since 0.1
 */
XAI_API xai_status xai_display_set_contour(xai_display *display, double threshold,
                                           xai_error **error);

/** Free; NULL is fine. @since 0.1 */
XAI_API void xai_display_free(xai_display *display);

/**
 * Draw the map of a row over an image, as xai_explanation_overlay() does, in a chosen way.
 *
 * @param row       a row of a map (N, H, W)
 * @param image     height x width x channels bytes, gray or RGB, rows adjacent; of any size
 * @param width, height  in pixels, 1 to 65535
 * @param channels  1 (gray) or 3 (RGB)
 * @param display   NULL = the defaults
 * @param out       height x width x 3 bytes RGB, the caller's; may not overlap `image`
 * @param strongest optional: the value of the (smoothed) map from which on the colours are
 *                  strongest; 0 for a map without positive evidence
 * @param error     optional; set on failure, free with xai_error_free()
 * @return XAI_OK; XAI_ERROR_ARGUMENT; XAI_ERROR_UNSUPPORTED when there is no map (N, H, W);
 *         XAI_ERROR_MEMORY
 * @since 0.1
 */
XAI_API xai_status xai_explanation_draw(const xai_explanation *explanation, size_t row,
                                        const uint8_t *image, size_t width, size_t height,
                                        int32_t channels, const xai_display *display, uint8_t *out,
                                        double *strongest, xai_error **error);

#ifdef __cplusplus
}
#endif

#endif
