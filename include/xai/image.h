/**
 * @file
 * Images as inputs: from the pixels that a viewer shows to the tensor that a model takes.
 */
#ifndef XAI_IMAGE_H
#define XAI_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "model.h"
#include "status.h"
#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Make an input of a model from an image, as the model card says: pixel values become 0 (black) to
 * 1 (white) and are cut there, the image is resized to the size of the model (linearly; when it
 * shrinks, every output pixel is a weighted mean of all pixels it covers), scaled to the range of
 * the card, and the mean is subtracted and divided by the deviation. The program `xai` makes its
 * inputs by this call.
 *
 * Gray goes into a model with three channels as three equal ones; RGB goes into a gray model as its
 * luma (ITU-R BT.601).
 *
 * @param index     which input of the model
 * @param pixels    height x width x channels numbers of type `dtype`, rows adjacent, of any
 *                  alignment
 * @param dtype     XAI_DTYPE_UINT8, XAI_DTYPE_UINT16, XAI_DTYPE_INT16 or XAI_DTYPE_FLOAT32
 * @param width, height  in pixels, 1 to 65535
 * @param channels  1 (gray) or 3 (RGB)
 * @param black, white  the pixel values that become 0 and 1, such as 0 and 4095 for 12 bits, or the
 *                  ends of a window; white may be below black (MONOCHROME1 of DICOM). Both 0 = 0
 *                  and the largest value of an unsigned `dtype`
 * @param out       a float32 tensor (1, C, H, W), or (1, H, W, C) where the model has its channels
 *                  last; set on success only; free with xai_tensor_free()
 * @param error     optional; set on failure, free with xai_error_free()
 * @return XAI_OK; XAI_ERROR_ARGUMENT; XAI_ERROR_UNSUPPORTED when the card has no range, or the
 *         input is not (N, C, H, W) or (N, H, W, C) of float32 with 1 or 3 channels; XAI_ERROR_SHAPE when the card's
 *         mean or deviation does not fit the channels; XAI_ERROR_NUMERIC for a pixel that is not a
 *         number; XAI_ERROR_MEMORY
 * @since 0.1
 */
XAI_API xai_status xai_model_image_input(const xai_model *model, size_t index, const void *pixels,
                                         int32_t dtype, size_t width, size_t height,
                                         int32_t channels, double black, double white,
                                         xai_tensor **out, xai_error **error);

#ifdef __cplusplus
}
#endif

#endif
