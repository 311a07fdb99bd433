/* Images made into inputs, as the model card says. */
#include <math.h>
#include <string.h>

#include "api/handles.h"
#include "base/error.h"
#include "image/image.h"

enum { SIZE_LIMIT = 65535 };

/* The caller's pixels, and the values that become 0 and 1. */
typedef struct source_image {
    const unsigned char *pixels; /* (height, width, channels) */
    int32_t dtype;
    size_t width, height, channels;
    double black, white;
} source_image;

static double pixel(const source_image *from, size_t at)
{
    const unsigned char *bytes = from->pixels + at * xai_dtype_size(from->dtype);
    uint16_t word;
    int16_t number;
    float real;
    switch (from->dtype) {
    case XAI_DTYPE_UINT8:
        return *bytes;
    case XAI_DTYPE_UINT16:
        memcpy(&word, bytes, sizeof word);
        return word;
    case XAI_DTYPE_INT16:
        memcpy(&number, bytes, sizeof number);
        return number;
    default:
        memcpy(&real, bytes, sizeof real);
        return real;
    }
}

/* Planes (channels, height, width) in [0, 1]. */
static xai_status make_planes(const source_image *from, size_t channels, float *planes,
                              const char *place, xai_error **error)
{
    const size_t pixels = from->height * from->width;
    const double scale = 1 / (from->white - from->black);
    for (size_t i = 0; i < pixels; i++) {
        double colours[3] = {0};
        for (size_t c = 0; c < from->channels; c++) {
            colours[c] = pixel(from, i * from->channels + c);
            if (!isfinite(colours[c]))
                return error_set(error, XAI_ERROR_NUMERIC, place,
                                 "the pixel at row %zu, column %zu is not a number",
                                 i / from->width, i % from->width);
        }
        for (size_t c = 0; c < channels; c++) {
            double value = colours[from->channels == 3 ? c : 0];
            if (from->channels == 3 && channels == 1) /* exact for equal channels */
                value = colours[0] == colours[1] && colours[1] == colours[2]
                            ? colours[0]
                            : 0.299 * colours[0] + 0.587 * colours[1] + 0.114 * colours[2];
            value = (value - from->black) * scale;
            planes[c * pixels + i] = (float)(value > 0 ? (value < 1 ? value : 1) : 0);
        }
    }
    return XAI_OK;
}

/* How many channels the model takes, from its shape (N, C, H, W) or (N, H, W, C), else its card,
 * else the image; *last: they are the last axis. */
static xai_status find_channels(const xai_model *model, size_t index, size_t from_image,
                                size_t *out, bool *last, xai_error **error)
{
    const char *name = xai_model_input_name(model, index);
    const int32_t rank = xai_model_input_rank(model, index),
                  dtype = xai_model_input_dtype(model, index);
    const int64_t *dims = xai_model_input_dims(model, index);
    if (dtype != 0 && dtype != XAI_DTYPE_FLOAT32)
        return error_set(
            error, XAI_ERROR_UNSUPPORTED, name,
            "takes %s; an image becomes float32: give a ready tensor (the program takes NPY)",
            xai_dtype_name(dtype));
    *last = rank == 4 && dims_are_channels_last(dims);
    const int64_t fixed = rank == 4 ? dims[*last ? 3 : 1] : -1;
    if (rank != -1 && (rank != 4 || (fixed != -1 && fixed != 1 && fixed != 3)))
        return error_set(error, XAI_ERROR_UNSUPPORTED, name,
                         "is not (N, C, H, W) or (N, H, W, C) with 1 or 3 channels: give a ready "
                         "tensor (the program takes NPY)");
    const int64_t said = index == 0 ? xai_model_input_channels(model) : 0;
    *out = fixed != -1 ? (size_t)fixed : said == 1 || said == 3 ? (size_t)said : from_image;
    return XAI_OK;
}

static xai_status check_image(source_image *from, const char *place, xai_error **error)
{
    const bool bytes = from->dtype == XAI_DTYPE_UINT8, words = from->dtype == XAI_DTYPE_UINT16;
    if (!bytes && !words && from->dtype != XAI_DTYPE_INT16 && from->dtype != XAI_DTYPE_FLOAT32)
        return error_set(error, XAI_ERROR_ARGUMENT, place,
                         "pixels must be uint8, uint16, int16 or float32, not type %d",
                         (int)from->dtype);
    if (from->channels != 1 && from->channels != 3)
        return error_set(error, XAI_ERROR_ARGUMENT, place,
                         "an image has 1 channel (gray) or 3 (RGB)");
    if (from->width - 1 >= SIZE_LIMIT || from->height - 1 >= SIZE_LIMIT)
        return error_set(error, XAI_ERROR_ARGUMENT, place,
                         "width and height must lie in 1 to %d, not %zu and %zu", SIZE_LIMIT,
                         from->width, from->height);
    if (from->black == 0 && from->white == 0 && (bytes || words))
        from->white = bytes ? 255 : 65535;
    if (!isfinite(from->black) || !isfinite(from->white) || from->black == from->white)
        return error_set(error, XAI_ERROR_ARGUMENT, place,
                         "black and white must be two different numbers");
    return XAI_OK;
}

/* One resized plane: from [0, 1] to what the network takes. */
static void normalise(const model_card *card, size_t channel, float *plane, size_t pixels)
{
    const double low = card->low, high = card->high;
    const double mean = card->mean_count ? card->mean[card->mean_count > 1 ? channel : 0] : 0;
    const double deviation =
        card->deviation_count ? card->deviation[card->deviation_count > 1 ? channel : 0] : 1;
    for (size_t i = 0; i < pixels; i++)
        plane[i] = (float)((low + (high - low) * plane[i] - mean) / deviation);
}

/* `to` is (1, C, H, W), or, `last`, (1, H, W, C). */
static xai_status fill(const xai_model *model, const source_image *from, size_t channels, bool last,
                       xai_tensor *to, const char *place, xai_error **error)
{
    const int64_t *dims = xai_tensor_dims(to);
    const size_t height = (size_t)dims[last ? 1 : 2], width = (size_t)dims[last ? 2 : 3];
    const size_t source = from->height * from->width, pixels = height * width;
    float *values = xai_tensor_mutable_data(to), *planes = NULL, *plane = NULL;
    size_t count;
    if (size_multiply(source, channels, &count))
        planes = memory_allocate(count, sizeof *planes);
    plane = memory_allocate(pixels, sizeof *plane);
    if (!planes || !plane) {
        memory_free(planes);
        memory_free(plane);
        return error_memory(error, "an image", source);
    }
    xai_status status = make_planes(from, channels, planes, place, error);
    for (size_t c = 0; status == XAI_OK && c < channels; c++) {
        if (!image_resize_smooth(planes + c * source, from->height, from->width, plane, height,
                                 width)) {
            status = error_memory(error, "a resized image", pixels * sizeof *plane);
            break;
        }
        normalise(model->card, c, plane, pixels);
        for (size_t i = 0; i < pixels; i++)
            values[last ? i * channels + c : c * pixels + i] = plane[i];
    }
    memory_free(planes);
    memory_free(plane);
    return status;
}

xai_status xai_model_image_input(const xai_model *model, size_t index, const void *pixels,
                                 int32_t dtype, size_t width, size_t height, int32_t channels,
                                 double black, double white, xai_tensor **out, xai_error **error)
{
    if (model == NULL)
        return argument_missing(error, "xai_model_image_input", "model");
    if (pixels == NULL)
        return argument_missing(error, "xai_model_image_input", "pixels");
    if (out == NULL)
        return argument_missing(error, "xai_model_image_input", "out");
    if (index >= xai_model_input_count(model))
        return error_set(error, XAI_ERROR_ARGUMENT, NULL, "the model has no input number %zu",
                         index);
    const model_card *card = model->card;
    const char *name = xai_model_input_name(model, index);
    source_image from = {pixels, dtype, width, height, channels > 0 ? (size_t)channels : 0,
                         black,  white};
    xai_status status = check_image(&from, name, error);
    if (status != XAI_OK)
        return status;
    if (!card->has_range)
        return error_set(error, XAI_ERROR_UNSUPPORTED, name,
                         "the model has no card that says how pixels become numbers "
                         "(xai.input.range): write one beside the model (docs/model-card.md), or "
                         "give a ready tensor (the program takes NPY)");
    size_t planes = 0;
    bool last = false;
    status = find_channels(model, index, from.channels, &planes, &last, error);
    if (status != XAI_OK)
        return status;
    if ((card->mean_count > 1 && card->mean_count != planes) ||
        (card->deviation_count > 1 && card->deviation_count != planes))
        return error_set(error, XAI_ERROR_SHAPE, name,
                         "the model card has %zu means and %zu deviations, but the input has %zu "
                         "channel%s",
                         card->mean_count, card->deviation_count, planes, planes == 1 ? "" : "s");
    int64_t rows = (int64_t)height, columns = (int64_t)width;
    xai_model_input_size(model, &rows, &columns);
    const int64_t first_dims[4] = {1, (int64_t)planes, rows, columns},
                  last_dims[4] = {1, rows, columns, (int64_t)planes};
    xai_tensor *made = NULL;
    status =
        xai_tensor_create(XAI_DTYPE_FLOAT32, 4, last ? last_dims : first_dims, NULL, &made, error);
    if (status == XAI_OK)
        status = fill(model, &from, planes, last, made, name, error);
    if (status == XAI_OK) {
        *out = made;
        made = NULL;
    }
    xai_tensor_free(made);
    return status;
}
