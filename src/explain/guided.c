/* Guided backpropagation and deconvnet: gradients whose negative parts the ReLUs hold back. */
#include <string.h>

#include "base/error.h"
#include "explain/attribution.h"

typedef struct guided_job {
    explanation **out;
    const subject *about;
} guided_job;

static xai_status attribute(void *user, const sample *of, xai_error **error)
{
    const guided_job *to = user;
    explanation *out = to->out[of->target];
    memcpy((float *)out->parts[of->wrt].values.data + of->row * of->count, of->gradient,
           of->count * sizeof *of->gradient);
    return of->wrt == 0 ? explanation_set_row(out, to->about, of, 1, error) : XAI_OK;
}

static bool has_relu(const graph *source)
{
    for (size_t i = 0; i < source->node_count; i++) {
        const char *name = source->nodes[i].definition->name;
        if (strcmp(name, "Relu") == 0 || strcmp(name, "Clip") == 0)
            return true;
    }
    return false;
}

static xai_status explain_by(explainer *self, const batch *rows, const xai_target *const *targets,
                             size_t target_count, int rule_of_relu, explanation **out,
                             xai_error **error)
{
    const backward_rule rule = {.rule = rule_of_relu};
    attribution_inputs inputs;
    guided_job to = {.out = out, .about = self->engine.of};
    xai_status status = attribution_inputs_init(&inputs, self, rows, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++)
        status = attribution_create(&inputs, self, false, &out[t], error);
    const differentiation what = {.targets = targets,
                                  .target_count = target_count,
                                  .score = self->score,
                                  .wrt = inputs.ids,
                                  .wrt_count = inputs.part_count,
                                  .rule = &rule,
                                  .body = attribute,
                                  .user = &to};
    if (status == XAI_OK)
        status = evaluator_differentiate(&self->engine, rows, &what, error);
    const bool guided = has_relu(network_graph(self->engine.of->net));
    for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
        status = attribution_finish(&inputs, self, true, out[t], error);
        if (status == XAI_OK && !guided)
            status = explanation_warn(out[t], -1, error,
                                      "this network has no ReLU: '%s' gives the plain gradient",
                                      self->method->name);
    }
    attribution_inputs_free(&inputs);
    return status;
}

/* Guided backpropagation (Springenberg et al. 2015): at y = ReLU(x), with R the signal that arrives,
 *     R_x = [x > 0] [R_y > 0] R_y */
static xai_status guided_explain(explainer *self, const batch *rows,
                                 const xai_target *const *targets, size_t target_count,
                                 explanation **out, xai_error **error)
{
    return explain_by(self, rows, targets, target_count, ENGINE_RULE_GUIDED, out, error);
}

/* Deconvnet (Zeiler and Fergus 2014): R_x = [R_y > 0] R_y */
static xai_status deconvnet_explain(explainer *self, const batch *rows,
                                    const xai_target *const *targets, size_t target_count,
                                    explanation **out, xai_error **error)
{
    return explain_by(self, rows, targets, target_count, ENGINE_RULE_DECONVNET, out, error);
}

const method_definition method_guided_backprop = {
    .name = "guided_backprop",
    .description =
        "Guided backpropagation (Springenberg et al. 2015): the gradient, of which ReLUs "
        "pass only what is positive",
    .explain = guided_explain,
};

const method_definition method_deconvnet = {
    .name = "deconvnet",
    .description = "Deconvnet (Zeiler and Fergus 2014): the gradient with ReLUs applied backwards",
    .explain = deconvnet_explain,
};
