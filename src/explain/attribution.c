#include "explain/attribution.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

void attribution_inputs_free(attribution_inputs *self)
{
    memory_free(self->ids);
    memory_free(self->inputs);
    memory_free(self->sizes);
    memory_free(self->spaces);
    *self = (attribution_inputs){0};
}

xai_status attribution_inputs_init(attribution_inputs *self, explainer *of, const batch *rows,
                                   xai_error **error)
{
    const graph *source = network_graph(of->engine.of->net), *specialised = NULL;
    const size_t count = source->input_count;
    *self = (attribution_inputs){.rows = rows, .count = count};
    self->ids = memory_allocate(count, sizeof *self->ids);
    self->inputs = memory_allocate(count, sizeof *self->inputs);
    self->sizes = memory_allocate(count, sizeof *self->sizes);
    self->spaces = memory_allocate_zeroed(count, sizeof *self->spaces);
    if (self->ids == NULL || self->inputs == NULL || self->sizes == NULL || self->spaces == NULL)
        return error_memory(error, "the inputs of an explanation", count * sizeof *self->spaces);
    xai_status status = evaluator_graph(&of->engine, rows, &specialised, error);
    for (size_t i = 0; status == XAI_OK && i < count; i++) {
        if (!dtype_is_float(rows->inputs[i]->dtype))
            continue;
        const size_t at = self->float_count++;
        self->ids[at] = source->inputs[i];
        self->inputs[at] = i;
        self->sizes[at] = variants_row_count(rows, i);
        if (rows->has_rows)
            status = layer_find_input_spatial(specialised, i, &self->spaces[at], error);
    }
    if (status == XAI_OK && self->float_count == 0)
        status = error_set(error, XAI_ERROR_UNSUPPORTED, NULL,
                           "no input of the model is floating point: there is nothing that '%s' "
                           "could attribute to",
                           of->method->name);
    return status;
}

xai_status attribution_create(const attribution_inputs *self, const explainer *of, bool with_error,
                              explanation **out, xai_error **error)
{
    const subject *about = of->engine.of;
    const graph *source = network_graph(about->net);
    explanation *made = NULL;
    xai_status status =
        explanation_create(self->rows->rows, of->method->name, "", about->name, &made, error);
    if (status != XAI_OK)
        return status;
    made->score_kind = of->score;
    made->input_shape = self->rows->inputs[self->inputs[0]]->shape;
    for (size_t p = 0; status == XAI_OK && p < self->float_count; p++)
        status =
            explanation_add_part(made, source->values[self->ids[p]].name,
                                 &self->rows->inputs[self->inputs[p]]->shape, with_error, error);
    if (status != XAI_OK) {
        explanation_free(made);
        return status;
    }
    *out = made;
    return XAI_OK;
}

xai_status attribution_store(explanation *out, size_t part, size_t row, size_t count,
                             const double *values, xai_error **error)
{
    float *to = (float *)out->parts[part].values.data + row * count;
    for (size_t i = 0; i < count; i++) {
        to[i] = (float)values[i];
        if (!isfinite(to[i]))
            return error_set(error, XAI_ERROR_NUMERIC, out->parts[part].name,
                             "the attribution of element %zu of row %zu came out as NaN or "
                             "infinite",
                             i, row);
    }
    return XAI_OK;
}

/* Sums over channels, in the order of pixels. */
static void sum_channels(const spatial *space, const float *values, double *out)
{
    memset(out, 0, space->pixels * sizeof *out);
    for (size_t c = 0; c < space->channels; c++)
        for (size_t p = 0; p < space->pixels; p++)
            out[p] += values[space->offset + c * space->channel_stride + p * space->pixel_stride];
}

/* Both maps of one row; false when nothing speaks for the target. */
static bool draw_row(const spatial *space, const float *values, double *sums, float *map,
                     float *signed_map)
{
    double highest = 0, largest = 0;
    sum_channels(space, values, sums);
    for (size_t p = 0; p < space->pixels; p++) {
        highest = fmax(highest, sums[p]);
        largest = fmax(largest, fabs(sums[p]));
    }
    for (size_t p = 0; p < space->pixels; p++) {
        map[p] = highest > 0 && sums[p] > 0 ? (float)(sums[p] / highest) : 0;
        if (signed_map != NULL)
            signed_map[p] = largest > 0 ? (float)(sums[p] / largest) : 0;
    }
    return highest > 0;
}

static bool row_is_zero(const explanation *of, size_t row)
{
    for (size_t p = 0; p < of->part_count; p++) {
        const tensor *values = &of->parts[p].values;
        const size_t count = tensor_count(values) / (of->rows > 0 ? of->rows : 1);
        for (size_t i = 0; i < count; i++)
            if (((const float *)values->data)[row * count + i] != 0)
                return false;
    }
    return true;
}

static xai_status warn_row(explanation *out, size_t row, bool any, xai_error **error)
{
    const char *label = out->labels[row] != NULL ? out->labels[row] : "";
    if (row_is_zero(out, row))
        return explanation_warn(out, (int64_t)row, error,
                                "row %zu: every attribution to '%.80s' is zero: the score does not "
                                "depend on the input here, or is saturated at %.6g (then explain "
                                "the logit)",
                                row, label, out->scores[row]);
    if (!any)
        return explanation_warn(out, (int64_t)row, error,
                                "row %zu: no positive evidence for '%.80s'; the map is all zero",
                                row, label);
    return XAI_OK;
}

xai_status attribution_finish(const attribution_inputs *self, const explainer *of, bool is_signed,
                              explanation *out, xai_error **error)
{
    size_t part = 0;
    xai_status status = XAI_OK;
    (void)of;
    while (part < self->float_count && self->spaces[part].rank == 0)
        part++;
    double *sums = NULL;
    if (part < self->float_count) {
        const spatial *space = &self->spaces[part];
        const shape dims = spatial_rows(space, out->rows);
        out->input_shape = self->rows->inputs[self->inputs[part]]->shape;
        sums = memory_allocate(space->pixels, sizeof *sums);
        status = sums != NULL ? tensor_create(&out->map, DTYPE_FLOAT, &dims, error)
                              : error_memory(error, "a map", space->pixels * sizeof *sums);
        if (status == XAI_OK && is_signed)
            status = tensor_create(&out->signed_map, DTYPE_FLOAT, &dims, error);
    }
    for (size_t row = 0; status == XAI_OK && row < out->rows; row++) {
        bool any = true;
        if (part < self->float_count) {
            const spatial *space = &self->spaces[part];
            const float *values =
                (const float *)out->parts[part].values.data + row * self->sizes[part];
            float *signed_map = out->signed_map.data;
            any = draw_row(space, values, sums, (float *)out->map.data + row * space->pixels,
                           signed_map != NULL ? signed_map + row * space->pixels : NULL);
        }
        status = warn_row(out, row, any, error);
    }
    memory_free(sums);
    return status;
}

xai_status attribution_finish_maps(const attribution_inputs *self, const float *maps, size_t part,
                                   explanation *out, xai_error **error)
{
    const spatial *space = &self->spaces[part];
    const spatial plane = {.rank = space->rank,
                           .channels = 1,
                           .pixels = space->pixels,
                           .channel_stride = space->pixels,
                           .pixel_stride = 1};
    const shape dims = spatial_rows(space, out->rows);
    double *sums = memory_allocate(space->pixels, sizeof *sums);
    xai_status status = sums != NULL ? tensor_create(&out->map, DTYPE_FLOAT, &dims, error)
                                     : error_memory(error, "a map", space->pixels * sizeof *sums);
    if (status == XAI_OK)
        status = tensor_create(&out->signed_map, DTYPE_FLOAT, &dims, error);
    out->input_shape = self->rows->inputs[self->inputs[part]]->shape;
    for (size_t row = 0; status == XAI_OK && row < out->rows; row++) {
        const size_t at = row * space->pixels;
        const bool any = draw_row(&plane, maps + at, sums, (float *)out->map.data + at,
                                  (float *)out->signed_map.data + at);
        status = warn_row(out, row, any, error);
    }
    memory_free(sums);
    return status;
}

void tensor_write_floats(tensor *out, const float *values)
{
    enum { CHUNK = 256 };
    const size_t count = tensor_count(out);
    double chunk[CHUNK];
    if (out->dtype == DTYPE_FLOAT) {
        memcpy(out->data, values, count * sizeof *values);
        return;
    }
    for (size_t begin = 0; begin < count; begin += CHUNK) {
        const size_t length = count - begin < CHUNK ? count - begin : CHUNK;
        for (size_t i = 0; i < length; i++)
            chunk[i] = values[begin + i];
        tensor_write_doubles(out, begin, length, chunk);
    }
}

void attribution_read_row(const attribution_inputs *self, size_t row, size_t part, float *out)
{
    const size_t count = self->sizes[part];
    tensor_read_floats(self->rows->inputs[self->inputs[part]],
                       self->rows->has_rows ? row * count : 0, count, out);
}
