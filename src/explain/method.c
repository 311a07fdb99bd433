#include "explain/method.h"

#include <string.h>

#include "base/error.h"
#include "explain/names.h"

static const method_definition *const methods[] = {
    &method_gradcam,
    &method_gradcam_plus_plus,
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

xai_status explainer_init(explainer *self, const subject *of, const char *method,
                          const explainer_settings *settings, xai_error **error)
{
    *self =
        (explainer){.layer = GRAPH_NONE, .score = settings->score, .scaling = settings->scaling};
    evaluator_init(&self->engine, of, &settings->evaluator);
    for (size_t i = 0; i < method_count(); i++)
        if (strcmp(methods[i]->name, method) == 0)
            self->method = methods[i];
    if (self->method == NULL)
        return name_not_found(error, "method", method, method_name, NULL, method_count());
    if (settings->layer != NULL)
        return evaluator_find_value(&self->engine, settings->layer, &self->layer, error);
    return XAI_OK;
}

void explainer_free(explainer *self)
{
    layer_memo_free(&self->memo);
    evaluator_free(&self->engine);
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
    status = self->method->explain(self, &rows, targets, target_count, out, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++)
        status = explanation_finish(out[t], error);
    for (size_t t = 0; status != XAI_OK && t < target_count; t++) {
        explanation_free(out[t]);
        out[t] = NULL;
    }
    batch_free(&rows);
    return status;
}
