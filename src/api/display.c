#include <math.h>

#include "api/handles.h"
#include "base/error.h"
#include "image/image.h"

#define SIDE_MAX 65535
#define SMOOTHING_MAX 1000.0
#define CONTOUR_SIDE 1024 /* pixels of a side for each pixel that the line grows to either hand */

struct xai_display {
    double alpha, percentile, smoothing, contour;
    int colours;
};

static const xai_display defaults = {
    .alpha = 0.5, .percentile = 100, .colours = IMAGE_COLOURS_TURBO};
static const uint8_t contour_colour[3] = {255, 176, 0};

xai_status xai_display_create(xai_display **out, xai_error **error)
{
    if (out == NULL)
        return argument_missing(error, __func__, "out");
    xai_display *made = memory_allocate(1, sizeof *made);
    if (made == NULL)
        return error_memory(error, "a display", sizeof *made);
    *made = defaults;
    *out = made;
    return XAI_OK;
}

void xai_display_free(xai_display *self)
{
    memory_free(self);
}

/* Set a number that lies in [low, high], or is above low where that is not `allowed` itself. */
static xai_status set_number(xai_display *self, double *field, const char *call, const char *name,
                             double value, double low, bool allowed, double high, xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, call, "display");
    if (!(value >= low && value <= high) || (value == low && !allowed))
        return error_set(error, XAI_ERROR_ARGUMENT, call, "%s %g is not in %s%g, %g]", name, value,
                         allowed ? "[" : "(", low, high);
    *field = value;
    return XAI_OK;
}

xai_status xai_display_set_alpha(xai_display *self, double alpha, xai_error **error)
{
    return set_number(self, self != NULL ? &self->alpha : NULL, __func__, "alpha", alpha, 0, true,
                      1, error);
}

xai_status xai_display_set_percentile(xai_display *self, double percentile, xai_error **error)
{
    return set_number(self, self != NULL ? &self->percentile : NULL, __func__, "percentile",
                      percentile, 0, false, 100, error);
}

xai_status xai_display_set_smoothing(xai_display *self, double sigma, xai_error **error)
{
    return set_number(self, self != NULL ? &self->smoothing : NULL, __func__, "smoothing", sigma, 0,
                      true, SMOOTHING_MAX, error);
}

xai_status xai_display_set_contour(xai_display *self, double threshold, xai_error **error)
{
    return set_number(self, self != NULL ? &self->contour : NULL, __func__, "contour", threshold, 0,
                      true, 1, error);
}

static xai_status find_colours(const char *name, const char *call, int *out, xai_error **error)
{
    const int found = image_colours_find(name != NULL ? name : "turbo");
    if (found < 0)
        return error_set(error, XAI_ERROR_NOT_FOUND, call,
                         "no colour map named '%.80s'; there are viridis, inferno and turbo", name);
    *out = found;
    return XAI_OK;
}

xai_status xai_display_set_colours(xai_display *self, const char *colours, xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, __func__, "display");
    return find_colours(colours, __func__, &self->colours, error);
}

/* A picture to draw on. */
typedef struct canvas {
    const uint8_t *image;
    size_t width, height;
    int32_t channels;
    uint8_t *out; /* (height, width, 3) */
} canvas;

static xai_status check_call(const char *call, const xai_explanation *self, size_t row,
                             const canvas *on, xai_error **error)
{
    if (self == NULL || on->image == NULL || on->out == NULL)
        return argument_missing(error, call,
                                self == NULL        ? "explanation"
                                : on->image == NULL ? "image"
                                                    : "out");
    if (row >= self->body->rows)
        return error_set(error, XAI_ERROR_ARGUMENT, call, "row %zu of %zu", row, self->body->rows);
    if (on->width < 1 || on->width > SIDE_MAX || on->height < 1 || on->height > SIDE_MAX)
        return error_set(error, XAI_ERROR_ARGUMENT, call,
                         "an image of %zu x %zu pixels; 1 to %d each are possible", on->width,
                         on->height, SIDE_MAX);
    if (on->channels != 1 && on->channels != 3)
        return error_set(error, XAI_ERROR_ARGUMENT, call,
                         "%d channels are neither 1 (gray) nor 3 (RGB)", (int)on->channels);
    const tensor *map = &self->body->map;
    if (map->data == NULL || map->shape.rank != 3)
        return error_set(error, XAI_ERROR_UNSUPPORTED, call,
                         "the explanation has no map (N, H, W)");
    return XAI_OK;
}

/* The map (height, width) as it is shown: smoothed, divided by where colours are strongest.
 * A display that changes nothing keeps every bit. */
static bool shown_map(const xai_display *how, const float *map, size_t height, size_t width,
                      float *shown, double *strongest)
{
    const size_t count = height * width;
    if (!image_blur_gaussian(map, height, width, how->smoothing, shown))
        return false;
    if (!(how->smoothing > 0) && how->percentile == 100) {
        *strongest = 0;
        for (size_t i = 0; i < count && *strongest == 0; i++)
            *strongest = map[i] > 0 ? 1 : 0;
        return true;
    }
    if (!image_percentile_above_zero(shown, count, how->percentile, strongest))
        return false;
    for (size_t i = 0; *strongest > 0 && i < count; i++)
        shown[i] = (float)fmin((double)shown[i] / *strongest, 1);
    return true;
}

static bool draw_contour(const float *map, double threshold, const canvas *on)
{
    const size_t longer = on->width > on->height ? on->width : on->height;
    uint8_t *mask = memory_allocate(on->width * on->height, sizeof *mask);
    if (mask == NULL)
        return false;
    image_contour(map, on->height, on->width, (float)threshold, mask);
    image_paint(on->out, mask, on->height, on->width, longer / CONTOUR_SIDE, contour_colour);
    memory_free(mask);
    return true;
}

static xai_status draw(const xai_explanation *self, size_t row, const xai_display *how,
                       const canvas *on, double *strongest, xai_error **error)
{
    const tensor *map = &self->body->map;
    const size_t height = (size_t)map->shape.dims[1], width = (size_t)map->shape.dims[2];
    const float *values = (const float *)map->data + row * height * width;
    size_t pixels = 0;
    double found = 0;
    float *shown = memory_allocate(height * width, sizeof *shown), *fitted = NULL;
    bool done = shown != NULL && shown_map(how, values, height, width, shown, &found);
    values = shown;
    if (done && (height != on->height || width != on->width)) {
        if (size_multiply(on->width, on->height, &pixels))
            fitted = memory_allocate(pixels, sizeof *fitted);
        done = fitted != NULL &&
               image_resize_smooth(shown, height, width, fitted, on->height, on->width);
        values = fitted;
    }
    if (done) {
        image_overlay(values, on->image, on->height, on->width, (int)on->channels, how->alpha,
                      how->colours, on->out);
        done = how->contour == 0 || draw_contour(values, how->contour, on);
    }
    if (done && strongest != NULL)
        *strongest = found;
    memory_free(fitted);
    memory_free(shown);
    return done ? XAI_OK : error_memory(error, "a picture", pixels * sizeof *fitted);
}

xai_status xai_explanation_draw(const xai_explanation *self, size_t row, const uint8_t *image,
                                size_t width, size_t height, int32_t channels,
                                const xai_display *display, uint8_t *out, double *strongest,
                                xai_error **error)
{
    const canvas on = {image, width, height, channels, out};
    const xai_status status = check_call(__func__, self, row, &on, error);
    if (status != XAI_OK)
        return status;
    return draw(self, row, display != NULL ? display : &defaults, &on, strongest, error);
}

xai_status xai_explanation_overlay(const xai_explanation *self, size_t row, const uint8_t *image,
                                   size_t width, size_t height, int32_t channels, double alpha,
                                   const char *colours, uint8_t *out, xai_error **error)
{
    const canvas on = {image, width, height, channels, out};
    xai_display display = defaults;
    xai_status status = check_call(__func__, self, row, &on, error);
    if (status == XAI_OK)
        status = set_number(&display, &display.alpha, __func__, "alpha", alpha, 0, true, 1, error);
    if (status == XAI_OK)
        status = find_colours(colours, __func__, &display.colours, error);
    return status == XAI_OK ? draw(self, row, &display, &on, NULL, error) : status;
}
