#include "explain/features.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "image/segments.h"

#define DEFAULT_GRID 8
#define DEFAULT_SLIC 50
#define MAX_FEATURES ((size_t)1 << 24)

void features_free(features *self)
{
    for (size_t p = 0; self->labels != NULL && p < self->inputs->part_count; p++)
        memory_free(self->labels[p]);
    memory_free((void *)self->labels);
    memory_free(self->spaces);
    memory_free(self->first);
    memory_free(self->sizes);
    memory_free(self->pixels);
    *self = (features){0};
}

/* "grid:8" -> 8; the default when there is no number; 0 when it is not one. */
static size_t number_of(const char *wish, size_t missing)
{
    const char *colon = strchr(wish, ':');
    if (colon == NULL)
        return missing;
    char *end = NULL;
    const unsigned long number = strtoul(colon + 1, &end, 10);
    return end == colon + 1 || *end != '\0' || number > MAX_FEATURES ? 0 : (size_t)number;
}

static bool starts_with(const char *wish, const char *prefix)
{
    return strncmp(wish, prefix, strlen(prefix)) == 0;
}

/* kernel, distance and ratio of "quickshift:4,200,0.2". */
static bool read_quickshift(const char *wish, quickshift_options *out)
{
    const char *at = strchr(wish, ':');
    double *const numbers[] = {&out->kernel, &out->distance, &out->ratio};
    for (int i = 0; at != NULL && i < 3; i++) {
        char *end = NULL;
        *numbers[i] = strtod(at + 1, &end);
        if (end == at + 1 || (*end != ',' && *end != '\0') || !(*numbers[i] >= 0))
            return false;
        at = *end == ',' ? end : NULL;
    }
    return at == NULL && out->kernel >= 1 && out->kernel <= 100;
}

/* The elements of a row that has one axis, (L); rank 0 when it has others. */
static spatial sequence_of(const attribution_inputs *inputs, size_t part)
{
    const tensor *input = inputs->rows->inputs[inputs->inputs[part]];
    if (input->shape.rank != 2 || !inputs->rows->has_rows)
        return (spatial){0};
    return spatial_sequence(inputs->sizes[part]);
}

/* (spatial dims) for all rows, or (N, spatial dims). */
static bool labels_fit(const tensor *given, const spatial *space, size_t rows)
{
    const shape dims = spatial_rows(space, rows);
    bool fits = given->shape.rank == space->rank || shape_equal(&given->shape, &dims);
    for (int axis = 0; fits && given->shape.rank == space->rank && axis < space->rank; axis++)
        fits = given->shape.dims[axis] == space->dims[axis];
    return fits && space->rank > 0;
}

/* Of the parts without spatial axes those that are sequences: integers (tokens) before tables, and of
 * these the first that `given` fits (NULL = any). */
static size_t find_sequence(const features *self, const tensor *given)
{
    const attribution_inputs *inputs = self->inputs;
    for (int floats = 0; floats < 2; floats++)
        for (size_t p = 0; p < inputs->part_count; p++) {
            const spatial found = sequence_of(inputs, p);
            const tensor *input = inputs->rows->inputs[inputs->inputs[p]];
            if (inputs->spaces[p].rank == 0 && found.rank > 0 &&
                dtype_is_float(input->dtype) == (floats == 1) &&
                (given == NULL || labels_fit(given, &found, inputs->rows->rows)))
                return p;
        }
    return FEATURES_NO_PART;
}

/* The labels that were given: of the input for which they were, else of the first that they fit,
 * spatial ones before sequences. */
static const tensor *given_labels(const features *self)
{
    const option_value *given = option_given(&self->of->options, "segments");
    for (size_t i = 0; i < given->tensor_count; i++)
        if (option_tensor(&self->of->options, "segments", i) != NULL)
            return option_tensor(&self->of->options, "segments", i);
    return NULL;
}

static xai_status check_text(features *self, const char *wish, xai_error **error)
{
    quickshift_options shift = {.kernel = 4};
    if (!starts_with(wish, "quickshift") && number_of(wish, 1) == 0)
        return error_set(error, XAI_ERROR_ARGUMENT, "segments",
                         "'%.80s' does not end in a number from 1 to %zu", wish, MAX_FEATURES);
    if (starts_with(wish, "quickshift") && !read_quickshift(wish, &shift))
        return error_set(error, XAI_ERROR_ARGUMENT, "segments",
                         "'%.80s': up to three numbers are needed, such as quickshift:4,200,0.2 "
                         "(kernel, distance, ratio; a kernel of 1 to 100)",
                         wish);
    const size_t sequence =
        self->shown == FEATURES_NO_PART ? find_sequence(self, NULL) : FEATURES_NO_PART;
    if (starts_with(wish, "grid") && sequence != FEATURES_NO_PART) {
        self->spaces[sequence] = sequence_of(self->inputs, sequence);
        self->shown = sequence;
    }
    if (self->shown == FEATURES_NO_PART)
        return error_set(error, XAI_ERROR_UNSUPPORTED, "segments",
                         "no input of the model has spatial axes%s",
                         sequence != FEATURES_NO_PART ? ": give labels, or grid:K for K parts of "
                                                        "the sequence"
                                                      : "");
    if (starts_with(wish, "quickshift") && self->inputs->spaces[self->shown].rank > 2)
        return error_set(error, XAI_ERROR_UNSUPPORTED, "segments",
                         "quickshift is for pictures; give grid:K or slic:N for volumes");
    return XAI_OK;
}

static xai_status check_tensor(features *self, xai_error **error)
{
    char got[SHAPE_TEXT_SIZE], wanted[SHAPE_TEXT_SIZE];
    const tensor *given = given_labels(self);
    const attribution_inputs *inputs = self->inputs;
    const size_t rows = inputs->rows->rows;
    size_t part = 0;
    if (!dtype_is_integer(given->dtype))
        return error_set(error, XAI_ERROR_ARGUMENT, "segments", "integer labels are needed, not %s",
                         dtype_name(given->dtype));
    while (part < inputs->part_count && !labels_fit(given, &inputs->spaces[part], rows))
        part++;
    if (part == inputs->part_count) {
        part = find_sequence(self, given);
        if (part != FEATURES_NO_PART)
            self->spaces[part] = sequence_of(inputs, part);
    }
    const size_t like = self->shown != FEATURES_NO_PART ? self->shown : find_sequence(self, NULL);
    self->shown = part;
    if (part != FEATURES_NO_PART)
        return XAI_OK;
    if (like == FEATURES_NO_PART)
        return error_set(error, XAI_ERROR_UNSUPPORTED, "segments",
                         "no input of the model has axes to cut into segments");
    const spatial own =
        inputs->spaces[like].rank > 0 ? inputs->spaces[like] : sequence_of(inputs, like);
    const shape dims = spatial_rows(&own, rows);
    return error_set(error, XAI_ERROR_SHAPE, "segments",
                     "shape %s is neither %s nor that without the first axis",
                     shape_text(&given->shape, got), shape_text(&dims, wanted));
}

xai_status features_init(features *self, const attribution_inputs *inputs, const explainer *of,
                         bool whole, xai_error **error)
{
    const size_t parts = inputs->part_count;
    *self = (features){.inputs = inputs, .of = of, .shown = FEATURES_NO_PART};
    const option_value *given = option_given(&of->options, "segments");
    self->whole = whole && given == NULL;
    self->labels = memory_allocate_zeroed(parts, sizeof *self->labels);
    self->first = memory_allocate_zeroed(parts + 1, sizeof *self->first);
    self->spaces = memory_allocate_zeroed(parts, sizeof *self->spaces);
    if (self->labels == NULL || self->first == NULL || self->spaces == NULL)
        return error_memory(error, "features", parts * sizeof *self->first);
    for (size_t p = 0; p < parts; p++) {
        self->spaces[p] = inputs->spaces[p];
        self->labels[p] = memory_allocate(inputs->sizes[p], sizeof **self->labels);
        if (self->labels[p] == NULL)
            return error_memory(error, "features", inputs->sizes[p] * sizeof **self->labels);
        if (inputs->spaces[p].rank > 0 && self->shown == FEATURES_NO_PART && !self->whole)
            self->shown = p;
    }
    xai_status status = XAI_OK;
    if (given != NULL)
        status = given->kind == OPTION_TEXT ? check_text(self, given->text, error)
                                            : check_tensor(self, error);
    if (status != XAI_OK || self->shown == FEATURES_NO_PART)
        return status;
    const size_t pixels = self->spaces[self->shown].pixels;
    self->pixels = memory_allocate(pixels, sizeof *self->pixels);
    return self->pixels != NULL ? XAI_OK
                                : error_memory(error, "features", pixels * sizeof *self->pixels);
}

/* (depth, height, width), 1 for axes that are not there. */
static void volume_of(const spatial *space, size_t dims[3])
{
    for (int axis = 0; axis < 3; axis++)
        dims[axis] = axis < 3 - space->rank ? 1 : (size_t)space->dims[axis - 3 + space->rank];
}

/* One row of the shown part as planes (C, pixels). */
static xai_status read_planes(const features *self, size_t part, size_t row, float **out,
                              xai_error **error)
{
    const size_t count = self->inputs->sizes[part];
    float *values = memory_allocate(count, sizeof *values);
    float *planes = memory_allocate(count, sizeof *planes);
    if (values == NULL || planes == NULL) {
        memory_free(values);
        memory_free(planes);
        return error_memory(error, "a picture", count * sizeof *values);
    }
    attribution_read_row(self->inputs, row, part, values);
    const float *found = spatial_planes(&self->spaces[part], values, planes);
    if (found == values) {
        memory_free(planes);
        planes = values;
    } else {
        memory_free(values);
    }
    *out = planes;
    return XAI_OK;
}

static xai_status segment_picture(features *self, size_t part, size_t row, const char *how,
                                  int32_t *pixels, size_t *count, xai_error **error)
{
    const spatial *space = &self->spaces[part];
    float *planes = NULL;
    size_t dims[3];
    bool done = false;
    volume_of(space, dims);
    const xai_status status = read_planes(self, part, row, &planes, error);
    if (status != XAI_OK)
        return status;
    if (starts_with(how, "slic")) {
        const slic_options options = {.wanted = number_of(how, DEFAULT_SLIC),
                                      .compactness = 10,
                                      .iterations = 10,
                                      .connect = true};
        done = segments_slic(planes, space->channels, dims, &options, pixels, count);
        snprintf(self->made, sizeof self->made, "%zu segments (SLIC, %zu wished)", *count,
                 options.wanted);
    } else {
        quickshift_options options = {.kernel = 4, .distance = 200, .ratio = 0.2};
        (void)read_quickshift(how, &options);
        options.threads = self->of->engine.options.threads;
        done =
            segments_quickshift(planes, space->channels, dims[1], dims[2], &options, pixels, count);
        snprintf(self->made, sizeof self->made, "%zu segments (quickshift %g, %g, %g)", *count,
                 options.kernel, options.distance, options.ratio);
    }
    memory_free(planes);
    return done ? XAI_OK : error_memory(error, "segments", space->pixels * sizeof *pixels);
}

static xai_status read_labels(features *self, const tensor *given, size_t row, int32_t *pixels,
                              size_t *count, xai_error **error)
{
    const spatial *space = &self->spaces[self->shown];
    int64_t *values = memory_allocate(space->pixels, sizeof *values);
    if (values == NULL)
        return error_memory(error, "segments", space->pixels * sizeof *values);
    tensor_read_ints(given, given->shape.rank == space->rank ? 0 : row * space->pixels,
                     space->pixels, values);
    *count = segments_compact(values, space->pixels, pixels);
    memory_free(values);
    snprintf(self->made, sizeof self->made, "%zu segments (given)", *count);
    return *count > 0 ? XAI_OK : error_memory(error, "segments", space->pixels * sizeof *values);
}

static void cut_grid(features *self, const spatial *space, size_t cells, int32_t *pixels,
                     size_t *count)
{
    size_t dims[3], parts[3];
    volume_of(space, dims);
    *count = segments_grid(dims, cells, pixels);
    for (int axis = 0; axis < 3; axis++)
        parts[axis] = cells < dims[axis] ? cells : dims[axis];
    if (space->rank == 1)
        snprintf(self->made, sizeof self->made, "%zu segments (grid of %zu)", *count, parts[2]);
    else if (space->rank == 2)
        snprintf(self->made, sizeof self->made, "%zu segments (grid of %zu x %zu)", *count,
                 parts[1], parts[2]);
    else
        snprintf(self->made, sizeof self->made, "%zu segments (grid of %zu x %zu x %zu)", *count,
                 parts[0], parts[1], parts[2]);
}

/* Labels of the pixels to labels of the elements. */
static void label_elements(const spatial *space, const int32_t *pixels, int32_t first,
                           int32_t *labels)
{
    for (size_t c = 0; c < space->channels; c++)
        for (size_t p = 0; p < space->pixels; p++)
            labels[space->offset + c * space->channel_stride + p * space->pixel_stride] =
                first + pixels[p];
}

static xai_status label_part(features *self, size_t part, size_t row, xai_error **error)
{
    const spatial *space = &self->spaces[part];
    const size_t size = self->inputs->sizes[part], first = self->first[part];
    const option_value *given = option_given(&self->of->options, "segments");
    int32_t *labels = self->labels[part];
    size_t count = 0;
    xai_status status = XAI_OK;
    if (space->rank == 0 || self->whole) {
        for (size_t i = 0; i < size; i++)
            labels[i] = (int32_t)(first + i);
        self->first[part + 1] = first + size;
        return XAI_OK;
    }
    int32_t *pixels =
        part == self->shown ? self->pixels : memory_allocate(space->pixels, sizeof *pixels);
    if (pixels == NULL)
        return error_memory(error, "segments", space->pixels * sizeof *pixels);
    const char *how = given != NULL && given->kind == OPTION_TEXT ? given->text : "grid";
    if (given != NULL && given->kind == OPTION_TENSOR && part == self->shown)
        status = read_labels(self, given_labels(self), row, pixels, &count, error);
    else if (starts_with(how, "grid") || part != self->shown)
        cut_grid(self, space,
                 starts_with(how, "grid") ? number_of(how, DEFAULT_GRID) : DEFAULT_GRID, pixels,
                 &count);
    else
        status = segment_picture(self, part, row, how, pixels, &count, error);
    for (size_t i = 0; status == XAI_OK && i < size; i++)
        labels[i] = FEATURE_NONE;
    if (status == XAI_OK)
        label_elements(space, pixels, (int32_t)first, labels);
    self->first[part + 1] = first + count;
    if (part != self->shown)
        memory_free(pixels);
    return status;
}

xai_status features_of_row(features *self, size_t row, xai_error **error)
{
    const size_t parts = self->inputs->part_count;
    size_t elements = 0;
    char shown[sizeof self->made] = "";
    for (size_t p = 0; p < parts; p++)
        elements += self->inputs->sizes[p];
    if (elements > INT32_MAX)
        return error_set(error, XAI_ERROR_UNSUPPORTED, "segments", "inputs of %zu elements",
                         elements);
    for (size_t p = 0; p < parts; p++) {
        const xai_status status = label_part(self, p, row, error);
        if (status != XAI_OK)
            return status;
        if (p == self->shown)
            memcpy(shown, self->made, sizeof shown);
    }
    self->count = self->first[parts];
    const size_t others =
        self->shown == FEATURES_NO_PART
            ? self->count
            : self->count - (self->first[self->shown + 1] - self->first[self->shown]);
    if (self->shown == FEATURES_NO_PART)
        snprintf(self->made, sizeof self->made, "%zu elements", others);
    else if (others > 0)
        snprintf(self->made, sizeof self->made, "%.50s and %zu others", shown, others);
    else
        memcpy(self->made, shown, sizeof shown);
    if (!array_reserve((void **)&self->sizes, &self->sizes_capacity, self->count,
                       sizeof *self->sizes))
        return error_memory(error, "features", self->count * sizeof *self->sizes);
    memset(self->sizes, 0, self->count * sizeof *self->sizes);
    for (size_t p = 0; p < parts; p++)
        for (size_t i = 0; i < self->inputs->sizes[p]; i++)
            if (self->labels[p][i] != FEATURE_NONE)
                self->sizes[self->labels[p][i]]++;
    return XAI_OK;
}

void features_spread(const features *self, const double *of_features, bool divided,
                     double *const *values)
{
    for (size_t p = 0; p < self->inputs->part_count; p++)
        for (size_t i = 0; i < self->inputs->sizes[p]; i++) {
            const int32_t label = self->labels[p][i];
            values[p][i] = label == FEATURE_NONE ? 0
                           : divided             ? of_features[label] / (double)self->sizes[label]
                                                 : of_features[label];
        }
}

void features_centres(const features *self, double *out)
{
    memset(out, 0, self->count * 4 * sizeof *out);
    for (size_t p = 0; p < self->inputs->part_count; p++) {
        const spatial *space = &self->spaces[p];
        size_t dims[3] = {1, 1, self->inputs->sizes[p]};
        size_t pixel_stride = 1, offset = 0, pixels = dims[2];
        if (space->rank > 0) {
            volume_of(space, dims);
            pixel_stride = space->pixel_stride;
            offset = space->offset;
            pixels = space->pixels;
        }
        double *counts = out; /* the first column counts pixels, then becomes the part */
        for (size_t i = 0; i < pixels; i++) {
            const int32_t label = self->labels[p][offset + i * pixel_stride];
            if (label == FEATURE_NONE)
                continue;
            double *at = out + 4 * (size_t)label;
            counts[4 * (size_t)label] += 1;
            at[1] += (double)(i / dims[2] / dims[1]);
            at[2] += (double)(i / dims[2] % dims[1]);
            at[3] += (double)(i % dims[2]);
        }
        for (size_t k = self->first[p]; k < self->first[p + 1]; k++) {
            double *at = out + 4 * k;
            for (int axis = 1; axis < 4; axis++)
                at[axis] /= at[0] > 0 ? at[0] : 1;
            at[0] = 1e6 * (double)p; /* parts are the first to be told apart */
        }
    }
}
