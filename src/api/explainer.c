#include "api/handles.h"
#include "base/error.h"

size_t xai_method_count(void)
{
    return method_count();
}

const char *xai_method_name(size_t index)
{
    const method_definition *found = method_at(index);
    return found != NULL ? found->name : "";
}

const char *xai_method_description(size_t index)
{
    const method_definition *found = method_at(index);
    return found != NULL ? found->description : "";
}

/* An option of a method; NULL when there is none. */
static const option_definition *option_of(const char *method, size_t index)
{
    const method_definition *found = method != NULL ? method_find(method) : NULL;
    return found != NULL && index < option_count(found->options) ? &found->options[index] : NULL;
}

size_t xai_method_option_count(const char *method)
{
    const method_definition *found = method != NULL ? method_find(method) : NULL;
    return found != NULL ? option_count(found->options) : 0;
}

const char *xai_method_option_name(const char *method, size_t index)
{
    const option_definition *found = option_of(method, index);
    return found != NULL ? found->name : "";
}

const char *xai_method_option_default(const char *method, size_t index)
{
    const option_definition *found = option_of(method, index);
    return found != NULL && found->text != NULL ? found->text : "";
}

const char *xai_method_option_description(const char *method, size_t index)
{
    const option_definition *found = option_of(method, index);
    return found != NULL ? found->description : "";
}

int32_t xai_method_option_kinds(const char *method, size_t index)
{
    const option_definition *found = option_of(method, index);
    return found != NULL ? found->kinds : 0;
}

xai_status xai_explainer_create(xai_model *model, const char *method,
                                const xai_explainer_options *options, xai_explainer **out,
                                xai_error **error)
{
    static const xai_explainer_options defaults = {0};
    if (model == NULL)
        return argument_missing(error, __func__, "model");
    if (method == NULL)
        return argument_missing(error, __func__, "method");
    if (out == NULL)
        return argument_missing(error, __func__, "out");
    if (options == NULL)
        options = &defaults;
    xai_explainer *made = memory_allocate_zeroed(1, sizeof *made);
    if (made == NULL)
        return error_memory(error, "an explainer", sizeof *made);
    const explainer_settings settings = {
        .options = &options->values,
        .score = options->score,
        .scaling = options->scaling,
        .evaluator = session_evaluator_options(&options->session, &made->progress),
    };
    const xai_status status =
        explainer_init(&made->body, &model->subject, method, &settings, error);
    if (status != XAI_OK) {
        explainer_free(&made->body);
        memory_free(made);
        return status;
    }
    made->model = xai_model_retain(model);
    *out = made;
    return XAI_OK;
}

void xai_explainer_free(xai_explainer *self)
{
    if (self == NULL)
        return;
    explainer_free(&self->body);
    xai_model_free(self->model);
    memory_free(self);
}

static xai_tensor view_of(const tensor *self)
{
    xai_tensor view = {.value = *self};
    view.value.owned = false;
    return view;
}

/* A handle around one explanation; takes it over. */
static xai_explanation *wrap(explanation *body)
{
    xai_explanation *made = memory_allocate_zeroed(1, sizeof *made);
    if (made == NULL)
        return NULL;
    made->values = memory_allocate_zeroed(body->part_count, sizeof *made->values);
    made->standard_errors = memory_allocate_zeroed(body->part_count, sizeof *made->standard_errors);
    if (made->values == NULL || made->standard_errors == NULL) {
        memory_free(made->values);
        memory_free(made->standard_errors);
        memory_free(made);
        return NULL;
    }
    made->body = body;
    for (size_t i = 0; i < body->part_count; i++) {
        made->values[i] = view_of(&body->parts[i].values);
        made->standard_errors[i] = view_of(&body->parts[i].standard_error);
    }
    made->map = view_of(&body->map);
    made->signed_map = view_of(&body->signed_map);
    made->segments = view_of(&body->segments);
    made->segment_values = view_of(&body->segment_values);
    made->interactions = view_of(&body->interactions);
    made->segment_errors = view_of(&body->segment_errors);
    return made;
}

static xai_status wrap_all(explanation **bodies, size_t count, xai_explanation **out,
                           xai_error **error)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = wrap(bodies[i]);
        if (out[i] == NULL) {
            for (size_t j = 0; j < count; j++) {
                if (j < i)
                    xai_explanation_free(out[j]);
                else
                    explanation_free(bodies[j]);
                out[j] = NULL;
            }
            return error_memory(error, "an explanation", sizeof **out);
        }
    }
    return XAI_OK;
}

xai_status xai_explainer_explain_targets(xai_explainer *self, const xai_tensor *const *inputs,
                                         size_t input_count, const xai_target *const *targets,
                                         size_t target_count, xai_explanation **out,
                                         xai_error **error)
{
    const tensor **views = NULL;
    explanation **bodies = NULL;
    if (self == NULL)
        return argument_missing(error, __func__, "explainer");
    if (inputs == NULL && input_count > 0)
        return argument_missing(error, __func__, "inputs");
    if (targets == NULL)
        return argument_missing(error, __func__, "targets");
    if (out == NULL)
        return argument_missing(error, __func__, "out");
    if (target_count == 0)
        return error_set(error, XAI_ERROR_ARGUMENT, __func__, "no targets");
    xai_status status = tensor_views(inputs, input_count, &views, error);
    if (status == XAI_OK && (bodies = memory_allocate_zeroed(target_count, sizeof *bodies)) == NULL)
        status = error_memory(error, "explanations", target_count * sizeof *bodies);
    if (status == XAI_OK)
        status = explainer_explain(&self->body, views, input_count, targets, target_count, bodies,
                                   error);
    if (status == XAI_OK)
        status = wrap_all(bodies, target_count, out, error);
    memory_free(bodies);
    memory_free(views);
    return status;
}

xai_status xai_explainer_explain(xai_explainer *self, const xai_tensor *input,
                                 const xai_target *target, xai_explanation **out, xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, __func__, "explainer");
    if (input == NULL)
        return argument_missing(error, __func__, "input");
    if (out == NULL)
        return argument_missing(error, __func__, "out");
    return xai_explainer_explain_targets(self, &input, 1, &target, 1, out, error);
}
