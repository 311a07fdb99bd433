#include "explain/method.h"

#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "explain/names.h"

static const method_definition *const methods[] = {
    &method_gradcam,
    &method_gradcam_plus_plus,
    &method_hirescam,
    &method_xgradcam,
    &method_layercam,
    &method_elementwise_gradcam,
    &method_eigencam,
    &method_eigengradcam,
    &method_scorecam,
    &method_ablationcam,
    &method_fullgrad,
    &method_guided_gradcam,
    &method_saliency,
    &method_input_x_gradient,
    &method_integrated_gradients,
    &method_smoothgrad,
    &method_vargrad,
    &method_gradient_shap,
    &method_deeplift,
    &method_deepshap,
    &method_guided_backprop,
    &method_deconvnet,
    &method_lrp,
    &method_kernel_shap,
    &method_partition_shap,
    &method_permutation_shap,
    &method_sampling_shap,
    &method_exact_shap,
    &method_lime,
    &method_feature_ablation,
    &method_occlusion,
    &method_rise,
    &method_aise,
    &method_reciprocam,
    &method_tree_shap,
};

size_t method_count(void)
{
    return sizeof methods / sizeof methods[0];
}

const method_definition *method_at(size_t index)
{
    return index < method_count() ? methods[index] : NULL;
}

static const char *method_name(const void *context, size_t index)
{
    (void)context;
    return methods[index]->name;
}

const method_definition *method_find(const char *name)
{
    for (size_t i = 0; i < method_count(); i++)
        if (strcmp(methods[i]->name, name) == 0)
            return methods[i];
    return NULL;
}

/* An input of the model may be the layer, when it holds float32 as layers do. */
static xai_status check_layer(const explainer *self, xai_error **error)
{
    const graph *source = network_graph(self->engine.of->net);
    for (size_t i = 0; self->layer != GRAPH_NONE && i < source->input_count; i++) {
        const graph_value *input = &source->values[source->inputs[i]];
        if (source->inputs[i] != self->layer || input->dtype == DTYPE_FLOAT)
            continue;
        if (dtype_is_float(input->dtype))
            return error_set(
                error, XAI_ERROR_UNSUPPORTED, "layer",
                "the input '%.80s' holds %s, layers hold float32: leave the option out "
                "to attribute to inputs",
                input->name, dtype_name(input->dtype));
        return error_set(error, XAI_ERROR_UNSUPPORTED, "layer",
                         "the input '%.80s' holds %s, which have no gradient: give the layer "
                         "that embeds them, or mask them (docs/start/tokens.md)",
                         input->name, dtype_name(input->dtype));
    }
    return XAI_OK;
}

xai_status explainer_init(explainer *self, const subject *of, const char *method,
                          const explainer_settings *settings, xai_error **error)
{
    *self =
        (explainer){.layer = GRAPH_NONE, .score = settings->score, .scaling = settings->scaling};
    evaluator_init(&self->engine, of, &settings->evaluator);
    self->method = method_find(method);
    if (self->method == NULL)
        return name_not_found(error, "method", method, method_name, NULL, method_count());
    xai_status status = XAI_OK;
    if (settings->options != NULL)
        status = option_list_check(settings->options, self->method->options, method, error);
    if (status == XAI_OK && settings->options != NULL)
        status = option_list_copy(&self->options, settings->options, error);
    if (status == XAI_OK)
        option_list_drop_zeros(&self->options, self->method->options);
    if (status == XAI_OK && option_given(&self->options, "baseline") != NULL &&
        option_given(&self->options, "background") != NULL)
        status = error_set(error, XAI_ERROR_ARGUMENT, "baseline",
                           "both a baseline and a background were given; a background stands "
                           "instead of a baseline: leave one out");
    const char *layer = option_text(&self->options, "layer");
    if (status == XAI_OK && layer != NULL)
        status = evaluator_find_value(&self->engine, layer, &self->layer, error);
    return status == XAI_OK ? check_layer(self, error) : status;
}

void explainer_free(explainer *self)
{
    if (self->release != NULL)
        self->release(self->kept);
    layer_memo_free(&self->memo);
    option_list_free(&self->options);
    evaluator_free(&self->engine);
}

double explainer_number(const explainer *self, const char *name)
{
    return option_number(&self->options, self->method->options, name);
}

size_t explainer_count(const explainer *self, const char *name)
{
    const double number = explainer_number(self, name);
    return number > 0 ? (size_t)number : 0;
}

/* {"samples": 50, "baseline": "mean", "background": "array"}: the options as they were used. */
static char *settings_text(const explainer *self)
{
    const option_definition *table = self->method->options;
    text out = {0};
    text_append(&out, "{");
    for (size_t i = 0; i < option_count(table); i++) {
        const option_value *given = option_given(&self->options, table[i].name);
        text_append(&out, i == 0 ? "" : ", ");
        text_append_json(&out, table[i].name);
        text_append(&out, ": ");
        if (given == NULL && (table[i].kinds & OPTION_NUMBER) != 0)
            explanation_append_number(&out, table[i].number);
        else if (given == NULL)
            text_append(&out, "null");
        else if (given->kind == OPTION_NUMBER)
            explanation_append_number(&out, given->number);
        else
            text_append_json(&out, given->kind == OPTION_TEXT ? given->text : "array");
    }
    text_append(&out, "}");
    return text_take(&out);
}

xai_status explainer_explain(explainer *self, const tensor *const *inputs, size_t input_count,
                             const xai_target *const *targets, size_t target_count,
                             explanation **out, xai_error **error)
{
    batch rows;
    for (size_t t = 0; t < target_count; t++)
        out[t] = NULL;
    xai_status status = batch_check(&self->engine, inputs, input_count, &rows, error);
    if (status != XAI_OK)
        return status;
    evaluator_expect(&self->engine, 0);
    status = self->method->explain(self, &rows, targets, target_count, out, error);
    if (status == XAI_OK)
        evaluator_complete(&self->engine);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
        out[t]->settings = settings_text(self);
        status = out[t]->settings != NULL ? explanation_finish(out[t], error)
                                          : error_memory(error, "the facts as JSON", 0);
    }
    for (size_t t = 0; status != XAI_OK && t < target_count; t++) {
        explanation_free(out[t]);
        out[t] = NULL;
    }
    batch_free(&rows);
    return status;
}
