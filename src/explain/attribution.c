#include "explain/attribution.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "explain/tokens.h"

void attribution_inputs_free(attribution_inputs *self)
{
    memory_free(self->ids);
    memory_free(self->inputs);
    memory_free(self->sizes);
    memory_free(self->spaces);
    tensor_free(&self->activations);
    *self = (attribution_inputs){0};
}

static xai_status find_layer(attribution_inputs *self, explainer *of, xai_error **error)
{
    const batch *rows = self->rows;
    const graph *specialised = NULL;
    xai_error *ignored = NULL;
    size_t count = 0;
    xai_status status =
        evaluator_value_shape(&of->engine, rows, of->layer, &self->layer_shape, error);
    if (status == XAI_OK)
        status = evaluator_graph(&of->engine, rows, &specialised, error);
    if (status != XAI_OK)
        return status;
    (void)shape_count(&self->layer_shape, &count);
    self->of_layer = true;
    self->part_count = 1;
    self->ids[0] = of->layer;
    self->sizes[0] = count / rows->per_plan;
    row_layout layout = {.row = self->layer_shape, .has_axis = self->layer_shape.rank > 0};
    status = layer_find_spatial(specialised, of->layer, &layout, &self->spaces[0],
                                &self->input_space, &self->map_input, &ignored);
    xai_error_free(ignored);
    if (status == XAI_ERROR_UNSUPPORTED) { /* no axes: no map */
        self->spaces[0] = self->input_space = (spatial){0};
        return XAI_OK;
    }
    return status == XAI_OK ? XAI_OK : error_memory(error, "the axes of a layer", 0);
}

/* Nothing to differentiate, or to mask. */
static xai_status no_parts(const explainer *of, xai_error **error)
{
    return error_set(error, XAI_ERROR_UNSUPPORTED, NULL,
                     "no input of the model is floating point: there is nothing that '%s' could "
                     "attribute to. Integers (token ids) have no gradient: mask them with "
                     "kernel_shap, partition_shap, permutation_shap, exact_shap, lime, "
                     "feature_ablation or occlusion, or attribute to the output of their "
                     "embedding with the option layer of saliency, input_x_gradient, "
                     "integrated_gradients, gradient_shap or smoothgrad",
                     of->method->name);
}

/* Parts: the floating-point inputs, and those of `integers` (NULL = none), or the layer. */
static xai_status init(attribution_inputs *self, explainer *of, const batch *rows, int layer,
                       const bool *integers, xai_error **error)
{
    const graph *source = network_graph(of->engine.of->net), *specialised = NULL;
    const size_t count = source->input_count;
    *self = (attribution_inputs){.rows = rows, .count = count};
    self->ids = memory_allocate(count + 1, sizeof *self->ids);
    self->inputs = memory_allocate_zeroed(count + 1, sizeof *self->inputs);
    self->sizes = memory_allocate(count + 1, sizeof *self->sizes);
    self->spaces = memory_allocate_zeroed(count + 1, sizeof *self->spaces);
    if (self->ids == NULL || self->inputs == NULL || self->sizes == NULL || self->spaces == NULL)
        return error_memory(error, "the inputs of an explanation", count * sizeof *self->spaces);
    if (layer != GRAPH_NONE)
        return find_layer(self, of, error);
    xai_status status = evaluator_graph(&of->engine, rows, &specialised, error);
    for (size_t i = 0; status == XAI_OK && i < count; i++) {
        if (!dtype_is_float(rows->inputs[i]->dtype) && (integers == NULL || !integers[i]))
            continue;
        const char *table = NULL;
        const size_t at = self->part_count++;
        self->ids[at] = source->inputs[i];
        self->inputs[at] = i;
        self->sizes[at] = variants_row_count(rows, i);
        if (rows->has_rows && tokens_table(source, i, &table) == 0) /* tokens are no picture */
            status = layer_find_input_spatial(specialised, i, &self->spaces[at], error);
    }
    return status == XAI_OK && self->part_count == 0 ? no_parts(of, error) : status;
}

xai_status attribution_inputs_init(attribution_inputs *self, explainer *of, const batch *rows,
                                   xai_error **error)
{
    return init(self, of, rows, of->layer, NULL, error);
}

xai_status attribution_inputs_init_plain(attribution_inputs *self, explainer *of, const batch *rows,
                                         xai_error **error)
{
    return init(self, of, rows, GRAPH_NONE, NULL, error);
}

xai_status attribution_inputs_init_with(attribution_inputs *self, explainer *of, const batch *rows,
                                        const bool *integers, xai_error **error)
{
    return init(self, of, rows, GRAPH_NONE, integers, error);
}

xai_status attribution_inputs_load(attribution_inputs *self, explainer *of, size_t *evaluations,
                                   xai_error **error)
{
    *evaluations = 0;
    if (!self->of_layer)
        return XAI_OK;
    *evaluations = 1;
    return evaluator_values(&of->engine, self->rows, self->ids, 1, &self->activations, error);
}

xai_status attribution_create(const attribution_inputs *self, const explainer *of, bool with_error,
                              explanation **out, xai_error **error)
{
    const subject *about = of->engine.of;
    const graph *source = network_graph(about->net);
    explanation *made = NULL;
    xai_status status = explanation_create(self->rows->rows, of->method->name,
                                           self->of_layer ? source->values[of->layer].name : "",
                                           about->name, &made, error);
    if (status != XAI_OK)
        return status;
    made->score_kind = of->score;
    made->input_shape = self->rows->inputs[self->inputs[0]]->shape;
    for (size_t p = 0; status == XAI_OK && p < self->part_count; p++) {
        shape dims = self->layer_shape;
        if (!self->of_layer)
            dims = self->rows->inputs[self->inputs[p]]->shape;
        else if (self->rows->has_rows && dims.rank > 0)
            dims.dims[0] = (int64_t)self->rows->rows;
        status =
            explanation_add_part(made, source->values[self->ids[p]].name, &dims, with_error, error);
    }
    if (status != XAI_OK) {
        explanation_free(made);
        return status;
    }
    *out = made;
    return XAI_OK;
}

xai_status attribution_create_all(const attribution_inputs *self, const explainer *of,
                                  bool with_error, size_t count, explanation **out,
                                  xai_error **error)
{
    xai_status status = XAI_OK;
    for (size_t t = 0; status == XAI_OK && t < count; t++)
        status = attribution_create(self, of, with_error, &out[t], error);
    return status;
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

void attribution_store_error(explanation *out, size_t part, size_t row, size_t count,
                             const double *values)
{
    float *to = (float *)out->parts[part].standard_error.data + row * count;
    for (size_t i = 0; i < count; i++)
        to[i] = (float)values[i];
}

/* Sums over channels, in the order of pixels. */
static void sum_channels(const spatial *space, const float *values, double *out)
{
    memset(out, 0, space->pixels * sizeof *out);
    for (size_t c = 0; c < space->channels; c++)
        for (size_t p = 0; p < space->pixels; p++)
            out[p] += values[space->offset + c * space->channel_stride + p * space->pixel_stride];
}

/* Both maps of one row of `count` pixels; false when nothing speaks for the target. */
static bool scale_row(const double *sums, size_t count, float *map, float *signed_map)
{
    double highest = 0, largest = 0;
    for (size_t p = 0; p < count; p++) {
        highest = fmax(highest, sums[p]);
        largest = fmax(largest, fabs(sums[p]));
    }
    for (size_t p = 0; p < count; p++) {
        map[p] = highest > 0 && sums[p] > 0 ? (float)(sums[p] / highest) : 0;
        signed_map[p] = largest > 0 ? (float)(sums[p] / largest) : 0;
    }
    return highest > 0;
}

/* The maps of one row: in the resolution of the part, then in that of the input. */
static xai_status draw_row(const attribution_inputs *self, size_t part, const float *values,
                           double *sums, float *scaled, float *map, float *signed_map, bool *any,
                           xai_error **error)
{
    const spatial *space = &self->spaces[part], *to = &self->input_space;
    const size_t count = space->pixels;
    sum_channels(space, values, sums);
    *any = scale_row(sums, count, scaled, scaled + count);
    if (!self->of_layer) {
        memcpy(map, scaled, count * sizeof *map);
        if (signed_map != NULL)
            memcpy(signed_map, scaled + count, count * sizeof *map);
        return XAI_OK;
    }
    xai_status status = map_resize(scaled, space->dims, to->dims, space->rank, map, error);
    if (status == XAI_OK && signed_map != NULL)
        status = map_resize(scaled + count, space->dims, to->dims, space->rank, signed_map, error);
    return status;
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
    (void)of;
    size_t part = 0;
    xai_status status = XAI_OK;
    double *sums = NULL;
    float *scaled = NULL;
    while (part < self->part_count && self->spaces[part].rank == 0)
        part++;
    const bool has_map = part < self->part_count && (!self->of_layer || self->input_space.rank > 0);
    const spatial *space = &self->spaces[part], *to = self->of_layer ? &self->input_space : space;
    if (has_map) {
        const shape dims = spatial_rows(to, out->rows);
        out->input_shape =
            self->rows->inputs[self->of_layer ? self->map_input : self->inputs[part]]->shape;
        sums = memory_allocate(space->pixels, sizeof *sums);
        scaled = memory_allocate(2 * space->pixels, sizeof *scaled);
        status = sums != NULL && scaled != NULL
                     ? tensor_create(&out->map, DTYPE_FLOAT, &dims, error)
                     : error_memory(error, "a map", space->pixels * sizeof *sums);
        if (status == XAI_OK && is_signed)
            status = tensor_create(&out->signed_map, DTYPE_FLOAT, &dims, error);
    }
    for (size_t row = 0; status == XAI_OK && row < out->rows; row++) {
        bool any = true;
        if (has_map) {
            float *signed_map = out->signed_map.data;
            status = draw_row(
                self, part, (const float *)out->parts[part].values.data + row * self->sizes[part],
                sums, scaled, (float *)out->map.data + row * to->pixels,
                signed_map != NULL ? signed_map + row * to->pixels : NULL, &any, error);
        }
        if (status == XAI_OK)
            status = warn_row(out, row, any, error);
    }
    memory_free(sums);
    memory_free(scaled);
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
        sum_channels(&plane, maps + at, sums);
        const bool any = scale_row(sums, space->pixels, (float *)out->map.data + at,
                                   (float *)out->signed_map.data + at);
        status = warn_row(out, row, any, error);
    }
    memory_free(sums);
    return status;
}

/* Rows */

float **attribution_rows_create(const attribution_inputs *self)
{
    const size_t head = self->part_count * sizeof(float *);
    size_t total = head;
    for (size_t p = 0; p < self->part_count; p++)
        if (!size_add(total, self->sizes[p] * sizeof(float), &total))
            return NULL;
    char *block = memory_allocate(total, 1);
    if (block == NULL)
        return NULL;
    float **rows = (float **)(void *)block, *at = (float *)(void *)(block + head);
    for (size_t p = 0; p < self->part_count; p++) {
        rows[p] = at;
        at += self->sizes[p];
    }
    return rows;
}

double **attribution_sums_create(const attribution_inputs *self, size_t copies)
{
    size_t one = 0, total = 0, pointers = 0;
    for (size_t p = 0; p < self->part_count; p++)
        if (!size_add(one, self->sizes[p], &one))
            return NULL;
    if (!size_multiply(one * sizeof(double), copies, &total) ||
        !size_multiply(copies * sizeof(double *), self->part_count, &pointers) ||
        !size_add(total, pointers, &total))
        return NULL;
    char *block = memory_allocate_zeroed(total, 1);
    if (block == NULL)
        return NULL;
    double **sums = (double **)(void *)block, *at = (double *)(void *)(block + pointers);
    for (size_t k = 0; k < copies; k++) {
        for (size_t p = 0; p < self->part_count; p++) {
            sums[k * self->part_count + p] = at;
            at += self->sizes[p];
        }
    }
    return sums;
}

void attribution_read_row(const attribution_inputs *self, size_t row, size_t part, float *out)
{
    const size_t count = self->sizes[part];
    const tensor *from =
        self->of_layer ? &self->activations : self->rows->inputs[self->inputs[part]];
    tensor_read_floats(from, self->rows->has_rows ? row * count : 0, count, out);
}

void attribution_read_rows(const attribution_inputs *self, size_t row, float *const *out)
{
    for (size_t p = 0; p < self->part_count; p++)
        attribution_read_row(self, row, p, out[p]);
}

void attribution_write(const attribution_inputs *self, size_t row, const float *const *values,
                       tensor *inputs)
{
    size_t part = 0, i = 0;
    for (; i < self->count; i++) {
        if (!self->of_layer && part < self->part_count && self->inputs[part] == i) {
            tensor_write_floats(&inputs[i], values[part]);
            part++;
        } else {
            variants_copy_row(self->rows, row, i, &inputs[i]);
        }
    }
    if (self->of_layer)
        tensor_write_floats(&inputs[i], values[0]);
}

void attribution_prepare(const attribution_inputs *self, variants *what)
{
    what->rows = self->rows;
    what->wrt = self->ids;
    what->wrt_count = self->part_count;
    if (self->of_layer) {
        what->starts = self->ids;
        what->start_shapes = &self->layer_shape;
        what->start_count = 1;
    }
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
