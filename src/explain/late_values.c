/* Values whose shapes depend on data, behind a forward pass (graph/finish.c). Such a value has no axis that counts rows: boxes of
 * a batch are one list, and indices in it speak of the batch. So all rows are one run. */
#include <math.h>

#include "base/error.h"
#include "explain/rows.h"

bool late_any(const plan *program, const int *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (plan_graph(program)->values[values[i]].late != NULL)
            return true;
    return false;
}

xai_status late_batch(const evaluator *self, const batch *rows, batch *out, xai_error **error)
{
    const size_t inputs = network_graph(self->of->net)->input_count;
    *out = *rows;
    out->shapes = memory_allocate(inputs, sizeof *out->shapes);
    if (out->shapes == NULL)
        return error_memory(error, "the shapes of the inputs", inputs * sizeof *out->shapes);
    for (size_t i = 0; i < inputs; i++)
        out->shapes[i] = rows->inputs[i]->shape;
    out->per_plan = rows->rows;
    out->runs = 1;
    return XAI_OK;
}

/* Comparisons behind the frontier would hide a NaN; infinities are what masks are made of. */
static xai_status check_number(const evaluator *self, const char *name, const tensor *value,
                               xai_error **error)
{
    char at[SHAPE_TEXT_SIZE];
    if (self->options.allow_nonfinite || !dtype_is_float(value->dtype))
        return XAI_OK;
    const size_t count = tensor_count(value);
    for (size_t i = tensor_find_nonfinite(value); i < count; i++)
        if (isnan(tensor_get(value, i)))
            return error_set(error, XAI_ERROR_NUMERIC, name, "NaN at %s",
                             shape_position(&value->shape, i, at));
    return XAI_OK;
}

/* The values in front, as views of the run's. */
static xai_status read_frontier(const evaluator *self, const graph *planned, run *state,
                                tensor **out, xai_error **error)
{
    size_t count = 0;
    const int *frontier = graph_frontier(planned, &count);
    xai_status status = XAI_OK;
    *out = memory_allocate_zeroed(count, sizeof **out);
    if (*out == NULL)
        return error_memory(error, "values", count * sizeof **out);
    for (size_t i = 0; status == XAI_OK && i < count; i++) {
        const tensor *value = NULL;
        status = run_value(state, frontier[i], &value, error);
        if (status != XAI_OK)
            break;
        (*out)[i] = *value;
        (*out)[i].owned = false;
        status = check_number(self, planned->values[frontier[i]].name, value, error);
    }
    return status;
}

/* Between the nodes: what was told of before the run, once more, so that the caller can stop a long end. All rows are one run, on
 * the calling thread. */
static bool goes_on(void *user)
{
    const evaluator *self = user;
    const size_t total = self->total > self->done + 1 ? self->total : self->done + 1;
    return self->options.progress(self->options.progress_user, self->done, total);
}

xai_status late_finish(const evaluator *self, const plan *program, run *state, const int *values,
                       size_t count, tensor *out, xai_error **error)
{
    const graph *planned = plan_graph(program);
    const size_t arena = plan_arena_bytes(program), memory = self->options.memory_limit;
    const size_t limit = memory == 0 ? 0 : memory > arena ? memory - arena : 1;
    int *late = memory_allocate(count, sizeof *late);
    size_t *places = memory_allocate(count, sizeof *places);
    tensor *made = memory_allocate_zeroed(count, sizeof *made), *given = NULL;
    size_t late_count = 0;
    const graph_watch watch = {goes_on, (void *)(uintptr_t)self};
    xai_status status = late != NULL && places != NULL && made != NULL
                            ? read_frontier(self, planned, state, &given, error)
                            : error_memory(error, "values", count * sizeof *made);
    for (size_t i = 0; status == XAI_OK && i < count; i++)
        if (planned->values[values[i]].late != NULL) {
            late[late_count] = values[i];
            places[late_count++] = i;
        }
    if (status == XAI_OK)
        status = graph_finish(planned, given, late, late_count, limit,
                              self->options.progress != NULL ? &watch : NULL, made, error);
    for (size_t i = 0; status == XAI_OK && i < late_count; i++)
        out[places[i]] = made[i];
    for (size_t i = 0; status == XAI_OK && i < late_count; i++)
        status = value_check_finite(self, late[i], &made[i], 0, error);
    memory_free(given);
    memory_free(made);
    memory_free(places);
    memory_free(late);
    return status;
}
