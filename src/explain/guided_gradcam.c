/* Guided Grad-CAM: where (Grad-CAM) times which pixels (guided backpropagation). */
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "explain/attribution.h"

/* Another method on the same explainer, with its plans. */
static xai_status run_method(explainer *self, const method_definition *method, int layer,
                             const batch *rows, const xai_target *const *targets,
                             size_t target_count, explanation **out, xai_error **error)
{
    const method_definition *own = self->method;
    const int own_layer = self->layer;
    self->method = method;
    self->layer = layer;
    const xai_status status = method->explain(self, rows, targets, target_count, out, error);
    self->method = own;
    self->layer = own_layer;
    return status;
}

/* The part that the map belongs to; part_count when there is none. */
static size_t find_part(const attribution_inputs *inputs, const tensor *map)
{
    for (size_t p = 0; map->data != NULL && p < inputs->part_count; p++) {
        const spatial *space = &inputs->spaces[p];
        bool same = space->rank == map->shape.rank - 1;
        for (int axis = 0; same && axis < space->rank; axis++)
            same = space->dims[axis] == map->shape.dims[axis + 1];
        if (same)
            return p;
    }
    return inputs->part_count;
}

/* values *= the map at their pixel; other inputs have no place in the map and become zero. */
static void multiply(const attribution_inputs *inputs, size_t part, const tensor *map,
                     explanation *out)
{
    for (size_t p = 0; p < inputs->part_count; p++) {
        float *values = out->parts[p].values.data;
        const size_t count = inputs->sizes[p];
        const spatial *space = &inputs->spaces[p];
        for (size_t i = 0; i < out->rows * count; i++) {
            const size_t row = i / count, at = i % count;
            const size_t pixel =
                space->pixel_stride == 1 ? at % space->pixels : at / space->channels;
            values[i] *= p == part ? ((float *)map->data)[row * space->pixels + pixel] : 0;
        }
    }
}

/* Warnings about rows are made anew for the product. */
static void drop_row_warnings(explanation *self)
{
    size_t kept = 0;
    for (size_t i = 0; i < self->warning_count; i++) {
        if (self->warnings[i].row < 0)
            self->warnings[kept++] = self->warnings[i];
        else
            memory_free(self->warnings[i].text);
    }
    self->warning_count = kept;
}

static xai_status combine(explainer *self, const attribution_inputs *inputs, const explanation *cam,
                          explanation *out, xai_error **error)
{
    const size_t part = find_part(inputs, &cam->map);
    if (part == inputs->part_count)
        return error_set(error, XAI_ERROR_UNSUPPORTED, cam->layer,
                         "no input has the spatial axes of this layer");
    char *layer = text_duplicate(cam->layer);
    if (layer == NULL)
        return error_memory(error, "the name of a layer", 0);
    memory_free(out->layer);
    out->layer = layer;
    out->method = self->method->name;
    multiply(inputs, part, &cam->map, out);
    tensor_free(&out->map);
    tensor_free(&out->signed_map);
    drop_row_warnings(out);
    for (size_t row = 0; row < out->rows; row++)
        out->evaluations[row] += cam->evaluations[row];
    xai_status status = attribution_finish(inputs, self, true, out, error);
    for (size_t i = 0; status == XAI_OK && i < cam->warning_count; i++)
        status = explanation_warn(out, cam->warnings[i].row, error, "Grad-CAM: %s",
                                  cam->warnings[i].text);
    return status;
}

/* Guided Grad-CAM (Selvaraju et al. 2017, section 3.2): the signal of guided backpropagation times
 * ReLU(Grad-CAM), scaled to [0, 1] and resized linearly to the input. */
static xai_status guided_gradcam_explain(explainer *self, const batch *rows,
                                         const xai_target *const *targets, size_t target_count,
                                         explanation **out, xai_error **error)
{
    attribution_inputs inputs = {0};
    explanation **cams = memory_allocate_zeroed(target_count, sizeof *cams);
    xai_status status = cams != NULL ? XAI_OK : error_memory(error, "explanations", 0);
    evaluator_expect(&self->engine, 2 * rows->runs);
    if (status == XAI_OK)
        status = run_method(self, &method_gradcam, self->layer, rows, targets, target_count, cams,
                            error);
    if (status == XAI_OK)
        status = run_method(self, &method_guided_backprop, GRAPH_NONE, rows, targets, target_count,
                            out, error);
    if (status == XAI_OK)
        status = attribution_inputs_init_plain(&inputs, self, rows, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++)
        status = combine(self, &inputs, cams[t], out[t], error);
    for (size_t t = 0; cams != NULL && t < target_count; t++)
        explanation_free(cams[t]);
    memory_free(cams);
    attribution_inputs_free(&inputs);
    return status;
}

const method_definition method_guided_gradcam = {
    .name = "guided_gradcam",
    .description = "Guided Grad-CAM (Selvaraju et al. 2017): guided backpropagation where Grad-CAM "
                   "sees evidence",
    .explain = guided_gradcam_explain,
    .options = cam_options,
};
