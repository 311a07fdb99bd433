#include <inttypes.h>
#include <string.h>

#include "api/handles.h"
#include "base/error.h"
#include "base/text.h"

xai_status xai_session_create(xai_model *model, const xai_session_options *options,
                              xai_session **out, xai_error **error)
{
    if (model == NULL)
        return argument_missing(error, __func__, "model");
    if (out == NULL)
        return argument_missing(error, __func__, "out");
    xai_session *made = memory_allocate_zeroed(1, sizeof *made);
    if (made == NULL)
        return error_memory(error, "a session", sizeof *made);
    const evaluator_options settings = session_evaluator_options(options, &made->progress);
    made->model = xai_model_retain(model);
    evaluator_init(&made->engine, &model->subject, &settings);
    *out = made;
    return XAI_OK;
}

void xai_session_free(xai_session *self)
{
    if (self == NULL)
        return;
    evaluator_free(&self->engine);
    xai_model_free(self->model);
    memory_free(self);
}

/* Inputs of a call, checked. */
static xai_status open_batch(const xai_session *self, const char *call,
                             const xai_tensor *const *inputs, size_t count, const tensor ***views,
                             batch *rows, xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, call, "session");
    if (inputs == NULL && count > 0)
        return argument_missing(error, call, "inputs");
    xai_status status = tensor_views(inputs, count, views, error);
    if (status == XAI_OK)
        status = batch_check(&self->engine, *views, count, rows, error);
    return status;
}

/* New handles for `count` tensors, all or none. */
static xai_status adopt_all(tensor *values, size_t count, xai_tensor **out, xai_error **error)
{
    for (size_t i = 0; i < count; i++) {
        const xai_status status = tensor_adopt(&values[i], &out[i], error);
        if (status == XAI_OK)
            continue;
        while (i-- > 0) {
            xai_tensor_free(out[i]);
            out[i] = NULL;
        }
        return status;
    }
    return XAI_OK;
}

static void free_all(tensor *values, size_t count)
{
    for (size_t i = 0; values != NULL && i < count; i++)
        tensor_free(&values[i]);
    memory_free(values);
}

/* Values by id into new handles. */
static xai_status take_values(xai_session *self, const batch *rows, const int *ids, size_t count,
                              xai_tensor **out, xai_error **error)
{
    tensor *values = memory_allocate_zeroed(count, sizeof *values);
    if (values == NULL)
        return error_memory(error, "outputs", count * sizeof *values);
    xai_status status = evaluator_values(&self->engine, rows, ids, count, values, error);
    if (status == XAI_OK)
        status = adopt_all(values, count, out, error);
    free_all(values, count);
    return status;
}

xai_status xai_session_scores(xai_session *self, const xai_tensor *const *inputs,
                              size_t input_count, xai_tensor **outputs, size_t output_count,
                              xai_error **error)
{
    const tensor **views = NULL;
    batch rows = {0};
    if (self != NULL && outputs == NULL)
        return argument_missing(error, __func__, "outputs");
    xai_status status = open_batch(self, __func__, inputs, input_count, &views, &rows, error);
    if (status == XAI_OK) {
        const graph *source = network_graph(self->model->net);
        if (output_count != source->output_count)
            status = error_set(error, XAI_ERROR_ARGUMENT, __func__,
                               "room for %zu outputs, but the model has %zu", output_count,
                               source->output_count);
        else
            status = take_values(self, &rows, source->outputs, output_count, outputs, error);
    }
    batch_free(&rows);
    memory_free(views);
    return status;
}

/* Value ids of names; `names` NULL = the inputs of the model. The caller frees *out. */
static xai_status find_values(const xai_session *self, const char *call, const char *const *names,
                              size_t count, int **out, xai_error **error)
{
    int *ids = memory_allocate(count, sizeof *ids);
    if (ids == NULL)
        return error_memory(error, "names", count * sizeof *ids);
    xai_status status = XAI_OK;
    for (size_t i = 0; status == XAI_OK && i < count; i++) {
        if (names[i] == NULL)
            status = argument_missing(error, call, "a name");
        else
            status = evaluator_find_value(&self->engine, names[i], &ids[i], error);
    }
    if (status != XAI_OK) {
        memory_free(ids);
        return status;
    }
    *out = ids;
    return XAI_OK;
}

xai_status xai_session_values(xai_session *self, const xai_tensor *const *inputs,
                              size_t input_count, const char *const *names, size_t count,
                              xai_tensor **values, xai_error **error)
{
    const tensor **views = NULL;
    int *ids = NULL;
    batch rows = {0};
    if (self != NULL && count > 0 && (names == NULL || values == NULL))
        return argument_missing(error, __func__, names == NULL ? "names" : "values");
    xai_status status = open_batch(self, __func__, inputs, input_count, &views, &rows, error);
    if (status == XAI_OK)
        status = find_values(self, __func__, names, count, &ids, error);
    if (status == XAI_OK)
        status = take_values(self, &rows, ids, count, values, error);
    memory_free(ids);
    batch_free(&rows);
    memory_free(views);
    return status;
}

/* Gradients of all targets by all values into `gradients` (targets x stride handles), value v in
 * column columns[v]. */
static xai_status take_gradients(xai_session *self, const batch *rows,
                                 const xai_target *const *targets, size_t target_count,
                                 int32_t score, const int *ids, const size_t *columns, size_t count,
                                 size_t stride, xai_tensor **gradients, xai_tensor **scores,
                                 xai_error **error)
{
    size_t total = 0;
    tensor *found = NULL, *found_scores = NULL;
    xai_tensor **made = NULL;
    xai_status status = XAI_OK;
    if (size_multiply(target_count, count, &total)) {
        found = memory_allocate_zeroed(total, sizeof *found);
        found_scores = memory_allocate_zeroed(target_count, sizeof *found_scores);
        made = memory_allocate_zeroed(total, sizeof *made);
    }
    if (found == NULL || found_scores == NULL || made == NULL) {
        status = error_memory(error, "gradients", total * sizeof *found);
        goto done;
    }
    status = evaluator_gradients(&self->engine, rows, targets, target_count, score, ids, count,
                                 found, scores != NULL ? found_scores : NULL, error);
    if (status == XAI_OK)
        status = adopt_all(found, total, made, error);
    if (status == XAI_OK && scores != NULL)
        status = adopt_all(found_scores, target_count, scores, error);
    if (status != XAI_OK) {
        for (size_t i = 0; i < total; i++)
            xai_tensor_free(made[i]);
        goto done;
    }
    for (size_t t = 0; t < target_count; t++) {
        for (size_t column = 0; column < stride; column++)
            gradients[t * stride + column] = NULL;
        for (size_t v = 0; v < count; v++)
            gradients[t * stride + columns[v]] = made[t * count + v];
    }
done:
    free_all(found, total);
    free_all(found_scores, target_count);
    memory_free(made);
    return status;
}

/* The inputs that have a gradient, and their positions. */
static size_t float_inputs(const graph *source, const batch *rows, int *ids, size_t *columns)
{
    size_t count = 0;
    for (size_t i = 0; i < source->input_count; i++) {
        if (!dtype_is_float(rows->inputs[i]->dtype))
            continue;
        ids[count] = source->inputs[i];
        columns[count++] = i;
    }
    return count;
}

xai_status xai_session_gradients(xai_session *self, const xai_tensor *const *inputs,
                                 size_t input_count, const xai_target *const *targets,
                                 size_t target_count, int32_t score, const char *const *wrt,
                                 size_t wrt_count, xai_tensor **gradients, xai_tensor **scores,
                                 xai_error **error)
{
    static const xai_target *const highest[1] = {NULL};
    const tensor **views = NULL;
    int *ids = NULL;
    size_t *columns = NULL;
    batch rows = {0};
    if (targets == NULL && target_count == 1)
        targets = highest;
    if (self != NULL && (targets == NULL || target_count == 0))
        return error_set(error, XAI_ERROR_ARGUMENT, __func__, "no targets");
    if (self != NULL && gradients == NULL)
        return argument_missing(error, __func__, "gradients");
    if (self != NULL && wrt == NULL && wrt_count > 0)
        return argument_missing(error, __func__, "wrt");
    xai_status status = open_batch(self, __func__, inputs, input_count, &views, &rows, error);
    if (status != XAI_OK)
        goto done;
    const graph *source = network_graph(self->model->net);
    size_t count = wrt_count, stride = wrt_count > 0 ? wrt_count : source->input_count;
    columns = memory_allocate(stride, sizeof *columns);
    if (columns == NULL) {
        status = error_memory(error, "gradients", stride * sizeof *columns);
        goto done;
    }
    if (wrt_count > 0) {
        status = find_values(self, __func__, wrt, wrt_count, &ids, error);
        for (size_t v = 0; v < wrt_count; v++)
            columns[v] = v;
    } else if ((ids = memory_allocate(stride, sizeof *ids)) == NULL) {
        status = error_memory(error, "gradients", stride * sizeof *ids);
    } else {
        count = float_inputs(source, &rows, ids, columns);
        if (count == 0)
            status = error_set(error, XAI_ERROR_UNSUPPORTED, __func__,
                               "no input of the model is floating point");
    }
    if (status == XAI_OK)
        status = take_gradients(self, &rows, targets, target_count, score, ids, columns, count,
                                stride, gradients, scores, error);
done:
    memory_free(columns);
    memory_free(ids);
    batch_free(&rows);
    memory_free(views);
    return status;
}

size_t xai_session_arena_bytes(const xai_session *self)
{
    return self != NULL ? self->engine.arena_bytes : 0;
}
