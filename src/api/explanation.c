#include <math.h>

#include "api/handles.h"
#include "base/error.h"
#include "image/image.h"

#define SIDE_MAX 65535

void xai_explanation_free(xai_explanation *self)
{
    if (self == NULL)
        return;
    explanation_free(self->body);
    memory_free(self->values);
    memory_free(self->standard_errors);
    memory_free(self);
}

static bool has_row(const xai_explanation *self, size_t row)
{
    return self != NULL && row < self->body->rows;
}

size_t xai_explanation_row_count(const xai_explanation *self)
{
    return self != NULL ? self->body->rows : 0;
}

size_t xai_explanation_part_count(const xai_explanation *self)
{
    return self != NULL ? self->body->part_count : 0;
}

static bool has_part(const xai_explanation *self, size_t part)
{
    return self != NULL && part < self->body->part_count;
}

const char *xai_explanation_part_name(const xai_explanation *self, size_t part)
{
    return has_part(self, part) ? self->body->parts[part].name : "";
}

const xai_tensor *xai_explanation_part_values(const xai_explanation *self, size_t part)
{
    return has_part(self, part) ? &self->values[part] : NULL;
}

/* NULL for a tensor that the explanation does not have. */
static const xai_tensor *existing(const xai_tensor *view)
{
    return view->value.data != NULL ? view : NULL;
}

const xai_tensor *xai_explanation_part_standard_error(const xai_explanation *self, size_t part)
{
    return has_part(self, part) ? existing(&self->standard_errors[part]) : NULL;
}

const xai_tensor *xai_explanation_values(const xai_explanation *self)
{
    return xai_explanation_part_values(self, 0);
}

const xai_tensor *xai_explanation_standard_error(const xai_explanation *self)
{
    return xai_explanation_part_standard_error(self, 0);
}

const xai_tensor *xai_explanation_map(const xai_explanation *self)
{
    return self != NULL ? existing(&self->map) : NULL;
}

const xai_tensor *xai_explanation_signed_map(const xai_explanation *self)
{
    return self != NULL ? existing(&self->signed_map) : NULL;
}

const xai_tensor *xai_explanation_segments(const xai_explanation *self)
{
    return self != NULL ? existing(&self->segments) : NULL;
}

const xai_tensor *xai_explanation_segment_values(const xai_explanation *self)
{
    return self != NULL ? existing(&self->segment_values) : NULL;
}

const xai_tensor *xai_explanation_interactions(const xai_explanation *self)
{
    return self != NULL ? existing(&self->interactions) : NULL;
}

const xai_tensor *xai_explanation_segment_standard_error(const xai_explanation *self)
{
    return self != NULL ? existing(&self->segment_errors) : NULL;
}

const char *xai_explanation_baseline(const xai_explanation *self)
{
    return self != NULL ? self->body->baseline : "";
}

int64_t xai_explanation_samples(const xai_explanation *self, size_t row)
{
    return has_row(self, row) ? self->body->samples[row] : 0;
}

int32_t xai_explanation_converged(const xai_explanation *self, size_t row)
{
    return has_row(self, row) ? self->body->converged[row] : -1;
}

const char *xai_explanation_method(const xai_explanation *self)
{
    return self != NULL ? self->body->method : "";
}

const char *xai_explanation_layer(const xai_explanation *self)
{
    return self != NULL ? self->body->layer : "";
}

int32_t xai_explanation_score_kind(const xai_explanation *self)
{
    return self != NULL ? self->body->score_kind : 0;
}

int64_t xai_explanation_target(const xai_explanation *self, size_t row)
{
    return has_row(self, row) ? self->body->targets[row] : 0;
}

const char *xai_explanation_label(const xai_explanation *self, size_t row)
{
    return has_row(self, row) && self->body->labels[row] != NULL ? self->body->labels[row] : "";
}

double xai_explanation_score(const xai_explanation *self, size_t row)
{
    return has_row(self, row) ? self->body->scores[row] : NAN;
}

double xai_explanation_base_value(const xai_explanation *self, size_t row)
{
    return has_row(self, row) ? self->body->base_values[row] : NAN;
}

double xai_explanation_completeness_error(const xai_explanation *self, size_t row)
{
    return has_row(self, row) ? self->body->completeness_errors[row] : NAN;
}

int64_t xai_explanation_evaluations(const xai_explanation *self, size_t row)
{
    return has_row(self, row) ? self->body->evaluations[row] : 0;
}

size_t xai_explanation_warning_count(const xai_explanation *self)
{
    return self != NULL ? self->body->warning_count : 0;
}

const char *xai_explanation_warning(const xai_explanation *self, size_t index)
{
    return self != NULL && index < self->body->warning_count ? self->body->warnings[index].text
                                                             : "";
}

int64_t xai_explanation_warning_row(const xai_explanation *self, size_t index)
{
    return self != NULL && index < self->body->warning_count ? self->body->warnings[index].row : -1;
}

const char *xai_explanation_json(const xai_explanation *self)
{
    return self != NULL ? self->body->json : "";
}

static xai_status check_picture(const char *call, size_t width, size_t height, int32_t channels,
                                double alpha, const char *colours, xai_error **error)
{
    if (width < 1 || width > SIDE_MAX || height < 1 || height > SIDE_MAX)
        return error_set(error, XAI_ERROR_ARGUMENT, call,
                         "an image of %zu x %zu pixels; 1 to %d each are possible", width, height,
                         SIDE_MAX);
    if (channels != 1 && channels != 3)
        return error_set(error, XAI_ERROR_ARGUMENT, call,
                         "%d channels are neither 1 (gray) nor 3 (RGB)", (int)channels);
    if (!(alpha >= 0 && alpha <= 1))
        return error_set(error, XAI_ERROR_ARGUMENT, call, "alpha %g is not in [0, 1]", alpha);
    if (image_colours_find(colours) < 0)
        return error_set(error, XAI_ERROR_NOT_FOUND, call,
                         "no colour map named '%.80s'; there are viridis, inferno and turbo",
                         colours);
    return XAI_OK;
}

xai_status xai_explanation_overlay(const xai_explanation *self, size_t row, const uint8_t *image,
                                   size_t width, size_t height, int32_t channels, double alpha,
                                   const char *colours, uint8_t *out, xai_error **error)
{
    if (self == NULL || image == NULL || out == NULL)
        return argument_missing(error, __func__,
                                self == NULL    ? "explanation"
                                : image == NULL ? "image"
                                                : "out");
    if (!has_row(self, row))
        return error_set(error, XAI_ERROR_ARGUMENT, __func__, "row %zu of %zu", row,
                         self->body->rows);
    colours = colours != NULL ? colours : "turbo";
    const xai_status status =
        check_picture(__func__, width, height, channels, alpha, colours, error);
    if (status != XAI_OK)
        return status;
    const tensor *map = &self->body->map;
    if (map->data == NULL || map->shape.rank != 3)
        return error_set(error, XAI_ERROR_UNSUPPORTED, __func__,
                         "the explanation has no map (N, H, W)");
    const size_t map_height = (size_t)map->shape.dims[1], map_width = (size_t)map->shape.dims[2];
    const float *values = (const float *)map->data + row * map_height * map_width;
    float *resized = NULL;
    if (map_height != height || map_width != width) {
        size_t pixels = 0;
        if (size_multiply(width, height, &pixels))
            resized = memory_allocate(pixels, sizeof *resized);
        if (resized == NULL ||
            !image_resize_smooth(values, map_height, map_width, resized, height, width)) {
            memory_free(resized);
            return error_memory(error, "a resized map", pixels * sizeof *resized);
        }
        values = resized;
    }
    image_overlay(values, image, height, width, (int)channels, alpha, image_colours_find(colours),
                  out);
    memory_free(resized);
    return XAI_OK;
}
