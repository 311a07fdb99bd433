/* The gradient itself, and times the input: one forward and one backward pass a row. */
#include <math.h>

#include "base/error.h"
#include "explain/attribution.h"

typedef struct saliency_job {
    explanation **out;
    const subject *about;
    bool times_value;
} saliency_job;

/* Saliency (Simonyan et al. 2014):  |dS/dx_i|
 * Input x gradient (Shrikumar et al. 2016):  x_i dS/dx_i, which for a linear model without bias sums
 * to its score. */
static xai_status attribute(void *user, const sample *of, xai_error **error)
{
    const saliency_job *job = user;
    explanation *out = job->out[of->target];
    float *values = (float *)out->parts[of->wrt].values.data + of->row * of->count;
    for (size_t i = 0; i < of->count; i++)
        values[i] = job->times_value ? of->activation[i] * of->gradient[i] : fabsf(of->gradient[i]);
    for (size_t i = 0; i < of->count; i++)
        if (!isfinite(values[i]))
            return error_set(
                error, XAI_ERROR_NUMERIC, out->parts[of->wrt].name,
                "the attribution of element %zu of row %zu came out as NaN or infinite", i,
                of->row);
    return of->wrt == 0 ? explanation_set_row(out, job->about, of, 1, error) : XAI_OK;
}

static xai_status explain_once(explainer *self, const batch *rows, const xai_target *const *targets,
                               size_t target_count, bool times_value, explanation **out,
                               xai_error **error)
{
    attribution_inputs inputs;
    saliency_job job = {.out = out, .about = self->engine.of, .times_value = times_value};
    xai_status status = attribution_inputs_init(&inputs, self, rows, error);
    if (status == XAI_OK)
        status = attribution_create_all(&inputs, self, false, target_count, out, error);
    const differentiation what = {.targets = targets,
                                  .target_count = target_count,
                                  .score = self->score,
                                  .wrt = inputs.ids,
                                  .wrt_count = inputs.part_count,
                                  .activations = times_value ? inputs.part_count : 0,
                                  .body = attribute,
                                  .user = &job};
    if (status == XAI_OK)
        status = evaluator_differentiate(&self->engine, rows, &what, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++)
        status = attribution_finish(&inputs, self, times_value, out[t], error);
    attribution_inputs_free(&inputs);
    return status;
}

static xai_status saliency_explain(explainer *self, const batch *rows,
                                   const xai_target *const *targets, size_t target_count,
                                   explanation **out, xai_error **error)
{
    return explain_once(self, rows, targets, target_count, false, out, error);
}

static xai_status input_x_gradient_explain(explainer *self, const batch *rows,
                                           const xai_target *const *targets, size_t target_count,
                                           explanation **out, xai_error **error)
{
    return explain_once(self, rows, targets, target_count, true, out, error);
}

static const option_definition options[] = {OPTION_OF_LAYER, {0}};

const method_definition method_saliency = {
    .name = "saliency",
    .description = "Saliency (Simonyan et al. 2014): the absolute gradient of the score",
    .explain = saliency_explain,
    .options = options,
};

const method_definition method_input_x_gradient = {
    .name = "input_x_gradient",
    .description = "Input x gradient (Shrikumar et al. 2016): each input times its gradient",
    .explain = input_x_gradient_explain,
    .options = options,
};
