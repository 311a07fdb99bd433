#include "explain/references.h"

#include <string.h>

#include "base/error.h"

void references_free(references *self)
{
    masking_free(&self->hidden);
    attribution_inputs_free(&self->inputs);
    memory_free((void *)self->row);
    memory_free(self->layer);
    *self = (references){0};
}

/* Of the inputs themselves. */
static xai_status init_plain(references *self, explainer *of, bool takes_background,
                             explanation *const *out, size_t out_count, xai_error **error)
{
    size_t rows = 0;
    xai_status status = attribution_inputs_init_plain(&self->inputs, of, self->parts->rows, error);
    if (status == XAI_OK && takes_background)
        status = background_rows(&self->inputs, of, &rows, error);
    self->background = rows > 0;
    self->count = rows > 0 ? rows : 1;
    for (size_t t = 0; status == XAI_OK && t < out_count; t++)
        status = self->background ? baseline_name(&self->inputs, of, rows, out[t], error)
                                  : baseline_check(&self->inputs, of, out[t], error);
    if (status == XAI_OK && (self->row = attribution_rows_create(&self->inputs)) == NULL)
        status = error_memory(error, "a baseline", 0);
    return status;
}

/* Of a layer: what it is when the inputs are masked, token ids too. */
static xai_status init_layer(references *self, explainer *of, explanation *const *out,
                             size_t out_count, xai_error **error)
{
    size_t floats = 0;
    xai_status status = masking_inputs_init(&self->inputs, of, self->parts->rows, error);
    if (status == XAI_OK)
        status = masking_init(&self->hidden, &self->inputs, of, out, out_count, error);
    self->background = self->hidden.background;
    self->count = self->hidden.backgrounds;
    if (status == XAI_OK && (!size_multiply(self->count, self->parts->sizes[0], &floats) ||
                             (self->layer = memory_allocate(floats, sizeof(float))) == NULL))
        status = error_memory(error, "the values of a layer", floats * sizeof(float));
    return status;
}

xai_status references_init(references *self, explainer *of, const attribution_inputs *parts,
                           bool takes_background, explanation *const *out, size_t out_count,
                           xai_error **error)
{
    *self = (references){.parts = parts, .count = 1};
    return parts->of_layer ? init_layer(self, of, out, out_count, error)
                           : init_plain(self, of, takes_background, out, out_count, error);
}

/* The layer's values for reference rows of the inputs. */
typedef struct layer_job {
    references *self;
    size_t row;
} layer_job;

static xai_status fill_reference(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const layer_job *job = user;
    (void)error;
    masking_write_absent(&job->self->hidden, job->row, index, inputs);
    return XAI_OK;
}

static xai_status keep_layer(void *user, const variant *of, xai_error **error)
{
    const layer_job *job = user;
    (void)error;
    memcpy(job->self->layer + of->index * of->counts[0], of->values[0],
           of->counts[0] * sizeof(float));
    return XAI_OK;
}

xai_status references_begin(references *self, explainer *of, size_t row, xai_error **error)
{
    self->evaluations = 0;
    if (self->layer == NULL)
        return self->background ? XAI_OK : baseline_row(&self->inputs, of, row, self->row, error);
    if (self->background && row > 0 && self->inputs.part_count == self->inputs.count)
        return XAI_OK; /* nothing of the row is left in them */
    const xai_status status = masking_begin(&self->hidden, row, error);
    if (status != XAI_OK)
        return status;
    layer_job job = {.self = self, .row = row};
    const variants what = {.rows = self->parts->rows,
                           .row = row,
                           .count = self->count,
                           .wrt = self->parts->ids,
                           .wrt_count = 1,
                           .with_values = true,
                           .fill = fill_reference,
                           .body = keep_layer,
                           .user = &job};
    self->evaluations = self->count;
    return evaluator_run_variants(&of->engine, &what, error);
}

bool references_are_shared(const references *self, const explainer *of)
{
    return self->background || baseline_is_shared(&self->inputs, of);
}

void references_read(const references *self, const explainer *of, size_t index, float *const *out)
{
    const attribution_inputs *parts = self->parts;
    for (size_t p = 0; p < parts->part_count; p++) {
        if (self->layer != NULL)
            memcpy(out[p], self->layer + index * parts->sizes[p], parts->sizes[p] * sizeof(float));
        else if (self->background)
            background_read(parts, of, p, index, out[p]);
        else
            memcpy(out[p], self->row[p], parts->sizes[p] * sizeof(float));
    }
}
