#include "api/handles.h"
#include "base/error.h"

#define THREADS_MAX 1024
#define OPTION_INPUTS_MAX 1024

xai_status xai_session_options_create(xai_session_options **out, xai_error **error)
{
    if (out == NULL)
        return argument_missing(error, __func__, "out");
    xai_session_options *made = memory_allocate_zeroed(1, sizeof *made); /* zero is every default */
    if (made == NULL)
        return error_memory(error, "session options", sizeof *made);
    *out = made;
    return XAI_OK;
}

xai_status xai_session_options_set_threads(xai_session_options *self, int32_t threads,
                                           xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, __func__, "options");
    if (threads < 0 || threads > THREADS_MAX)
        return error_set(error, XAI_ERROR_ARGUMENT, __func__, "%d threads are not 0 (all) to %d",
                         (int)threads, THREADS_MAX);
    self->threads = threads;
    return XAI_OK;
}

xai_status xai_session_options_set_mode(xai_session_options *self, int32_t mode, xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, __func__, "options");
    if (mode != XAI_MODE_LATENCY && mode != XAI_MODE_THROUGHPUT)
        return error_set(error, XAI_ERROR_ARGUMENT, __func__, "unknown mode %d", (int)mode);
    self->mode = mode;
    return XAI_OK;
}

xai_status xai_session_options_set_precision(xai_session_options *self, int32_t precision,
                                             xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, __func__, "options");
    if (precision != XAI_PRECISION_STANDARD && precision != XAI_PRECISION_REFERENCE &&
        precision != XAI_PRECISION_FAST)
        return error_set(error, XAI_ERROR_ARGUMENT, __func__, "unknown precision %d",
                         (int)precision);
    self->precision = precision;
    return XAI_OK;
}

xai_status xai_session_options_set_memory_limit(xai_session_options *self, size_t bytes,
                                                xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, __func__, "options");
    self->memory_limit = bytes;
    return XAI_OK;
}

xai_status xai_session_options_set_progress(xai_session_options *self, xai_progress progress,
                                            void *user, xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, __func__, "options");
    self->progress = progress;
    self->progress_user = user;
    return XAI_OK;
}

xai_status xai_session_options_set_allow_nonfinite(xai_session_options *self, int32_t allow,
                                                   xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, __func__, "options");
    self->allow_nonfinite = allow != 0;
    return XAI_OK;
}

void xai_session_options_free(xai_session_options *self)
{
    memory_free(self);
}

static bool forward_progress(void *user, size_t done, size_t total)
{
    const progress_adapter *adapter = user;
    return adapter->call(adapter->user, done, total) == 0;
}

evaluator_options session_evaluator_options(const xai_session_options *options,
                                            progress_adapter *adapter)
{
    static const xai_session_options defaults = {0};
    const xai_session_options *from = options != NULL ? options : &defaults;
    *adapter = (progress_adapter){.call = from->progress, .user = from->progress_user};
    return (evaluator_options){
        .threads = from->threads,
        .throughput = from->mode == XAI_MODE_THROUGHPUT,
        .precision = from->precision == XAI_PRECISION_REFERENCE ? ENGINE_PRECISION_REFERENCE
                     : from->precision == XAI_PRECISION_FAST    ? ENGINE_PRECISION_FAST
                                                                : ENGINE_PRECISION_STANDARD,
        .memory_limit = from->memory_limit,
        .allow_nonfinite = from->allow_nonfinite,
        .progress = from->progress != NULL ? forward_progress : NULL,
        .progress_user = adapter,
    };
}

xai_status xai_explainer_options_create(xai_explainer_options **out, xai_error **error)
{
    if (out == NULL)
        return argument_missing(error, __func__, "out");
    xai_explainer_options *made =
        memory_allocate_zeroed(1, sizeof *made); /* zero is every default */
    if (made == NULL)
        return error_memory(error, "explainer options", sizeof *made);
    *out = made;
    return XAI_OK;
}

xai_status xai_explainer_options_set_number(xai_explainer_options *self, const char *name,
                                            double value, xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, __func__, "options");
    if (name == NULL)
        return argument_missing(error, __func__, "name");
    return option_list_set_number(&self->values, name, value, error);
}

xai_status xai_explainer_options_set_text(xai_explainer_options *self, const char *name,
                                          const char *value, xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, __func__, "options");
    if (name == NULL)
        return argument_missing(error, __func__, "name");
    if (value == NULL) {
        option_list_remove(&self->values, name);
        return XAI_OK;
    }
    return option_list_set_text(&self->values, name, value, error);
}

xai_status xai_explainer_options_set_tensor(xai_explainer_options *self, const char *name,
                                            size_t input, const xai_tensor *value,
                                            xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, __func__, "options");
    if (name == NULL)
        return argument_missing(error, __func__, "name");
    if (value == NULL)
        return argument_missing(error, __func__, "value");
    if (input >= OPTION_INPUTS_MAX)
        return error_set(error, XAI_ERROR_ARGUMENT, __func__, "input %zu of at most %d", input,
                         OPTION_INPUTS_MAX);
    return option_list_set_tensor(&self->values, name, input, &value->value, error);
}

xai_status xai_explainer_options_set_layer(xai_explainer_options *self, const char *layer,
                                           xai_error **error)
{
    return xai_explainer_options_set_text(self, "layer", layer, error);
}

xai_status xai_explainer_options_set_score(xai_explainer_options *self, int32_t score,
                                           xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, __func__, "options");
    if (score < XAI_SCORE_RAW || score > XAI_SCORE_PROBABILITY)
        return error_set(error, XAI_ERROR_ARGUMENT, __func__, "unknown score kind %d", (int)score);
    self->score = score;
    return XAI_OK;
}

xai_status xai_explainer_options_set_scaling(xai_explainer_options *self, int32_t scaling,
                                             xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, __func__, "options");
    if (scaling != XAI_SCALING_MAX && scaling != XAI_SCALING_MIN_MAX)
        return error_set(error, XAI_ERROR_ARGUMENT, __func__, "unknown scaling %d", (int)scaling);
    self->scaling = scaling;
    return XAI_OK;
}

xai_status xai_explainer_options_set_session(xai_explainer_options *self,
                                             const xai_session_options *session, xai_error **error)
{
    static const xai_session_options defaults = {0};
    if (self == NULL)
        return argument_missing(error, __func__, "options");
    self->session = session != NULL ? *session : defaults;
    return XAI_OK;
}

void xai_explainer_options_free(xai_explainer_options *self)
{
    if (self == NULL)
        return;
    option_list_free(&self->values);
    memory_free(self);
}
