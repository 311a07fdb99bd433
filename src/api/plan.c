/* What a session would run: a copy of the plan's facts. */
#include <string.h>

#include "api/handles.h"
#include "base/error.h"

typedef struct step {
    const char *node, *operator_name, *implementation; /* in the pool */
    bool backward;
    size_t bytes;
    double operations, milliseconds;
} step;

typedef struct memory_use {
    const char *value; /* in the pool */
    bool gradient;
    size_t bytes, offset, first, last;
} memory_use;

struct xai_plan {
    memory_pool *pool;
    step *steps;
    memory_use *buffers;
    size_t count, buffer_count, arena_bytes, scratchpad_bytes, weights_bytes;
};

void xai_plan_free(xai_plan *self)
{
    if (self == NULL)
        return;
    memory_pool_free(self->pool);
    memory_free(self->steps);
    memory_free(self->buffers);
    memory_free(self);
}

static const char *copy_text(memory_pool *pool, const char *from)
{
    return memory_pool_text(pool, from != NULL ? from : "", from != NULL ? strlen(from) : 0);
}

/* False without memory. */
static bool copy_buffers(const plan *from, xai_plan *made)
{
    const size_t count = plan_buffer_count(from);
    made->buffers = memory_allocate_zeroed(count + 1, sizeof *made->buffers);
    if (made->buffers == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        plan_buffer_facts facts;
        if (!plan_buffer(from, i, &facts))
            continue;
        memory_use *each = &made->buffers[made->buffer_count++];
        *each = (memory_use){.value = copy_text(made->pool, facts.value),
                             .gradient = facts.gradient,
                             .bytes = facts.bytes,
                             .offset = facts.start,
                             .first = facts.first,
                             .last = facts.last};
        if (each->value == NULL)
            return false;
    }
    return true;
}

/* `milliseconds`: one a step, or NULL. */
static xai_status copy_plan(const plan *from, const double *milliseconds, xai_plan **out,
                            xai_error **error)
{
    xai_plan *made = memory_allocate_zeroed(1, sizeof *made);
    if (made == NULL)
        return error_memory(error, "a plan", sizeof *made);
    const size_t count = plan_step_count(from);
    made->arena_bytes = plan_arena_bytes(from);
    made->scratchpad_bytes = plan_scratchpad_bytes(from);
    made->weights_bytes = plan_weights_bytes(from);
    made->pool = memory_pool_create();
    made->steps = memory_allocate_zeroed(count + 1, sizeof *made->steps);
    bool enough = made->pool != NULL && made->steps != NULL && copy_buffers(from, made);
    for (size_t i = 0; enough && i < count; i++) {
        plan_step_facts facts;
        plan_step(from, i, &facts);
        made->steps[i] = (step){.node = copy_text(made->pool, facts.node),
                                .operator_name = copy_text(made->pool, facts.operator_name),
                                .implementation = copy_text(made->pool, facts.implementation),
                                .backward = facts.backward,
                                .bytes = facts.bytes,
                                .operations = facts.operations,
                                .milliseconds = milliseconds != NULL ? milliseconds[i] : 0};
        enough = made->steps[i].node != NULL && made->steps[i].operator_name != NULL &&
                 made->steps[i].implementation != NULL;
    }
    made->count = count;
    if (!enough) {
        xai_plan_free(made);
        return error_memory(error, "the steps of a plan", count * sizeof *made->steps);
    }
    *out = made;
    return XAI_OK;
}

/* Times of the steps for the first row of the batch. */
static xai_status time_steps(plan *program, const batch *rows, int32_t runs, double **out,
                             xai_error **error)
{
    const graph *g = plan_graph(program);
    const size_t count = plan_step_count(program), inputs = g->input_count;
    double *milliseconds = memory_allocate_zeroed(count + 1, sizeof *milliseconds);
    tensor *views = memory_allocate_zeroed(inputs + 1, sizeof *views);
    const tensor **pointers = memory_allocate_zeroed(inputs + 1, sizeof *pointers);
    xai_status status = milliseconds != NULL && views != NULL && pointers != NULL
                            ? XAI_OK
                            : error_memory(error, "a profile", count * sizeof *milliseconds);
    for (size_t i = 0; status == XAI_OK && i < inputs; i++) {
        views[i] = *rows->inputs[i];
        views[i].shape = g->values[g->inputs[i]].shape;
        views[i].owned = false;
        pointers[i] = &views[i];
    }
    if (status == XAI_OK)
        status = plan_profile(program, pointers, runs, milliseconds, error);
    memory_free(views);
    memory_free(pointers);
    if (status == XAI_OK)
        *out = milliseconds;
    else
        memory_free(milliseconds);
    return status;
}

/* runs 0: compile only */
static xai_status make_plan(xai_session *self, const char *call, const xai_tensor *const *inputs,
                            size_t input_count, const char *const *wrt, size_t wrt_count,
                            int32_t runs, xai_plan **out, xai_error **error)
{
    const tensor **views = NULL;
    int *ids = NULL;
    double *milliseconds = NULL;
    batch rows = {0};
    if (self == NULL)
        return argument_missing(error, call, "session");
    if (out == NULL || (inputs == NULL && input_count > 0) || (wrt == NULL && wrt_count > 0))
        return argument_missing(error, call,
                                out == NULL      ? "out"
                                : inputs == NULL ? "inputs"
                                                 : "wrt");
    xai_status status = tensor_views(inputs, input_count, &views, error);
    if (status == XAI_OK)
        status = batch_check(&self->engine, views, input_count, &rows, error);
    if (status == XAI_OK && (ids = memory_allocate(wrt_count, sizeof *ids)) == NULL)
        status = error_memory(error, "names", wrt_count * sizeof *ids);
    for (size_t i = 0; status == XAI_OK && i < wrt_count; i++)
        status = wrt[i] != NULL ? evaluator_find_value(&self->engine, wrt[i], &ids[i], error)
                                : argument_missing(error, call, "a name");
    plan *found = NULL;
    if (status == XAI_OK)
        status = evaluator_plan(&self->engine, &rows, ids, wrt_count, &found, error);
    if (status == XAI_OK && runs > 0)
        status = time_steps(found, &rows, runs, &milliseconds, error);
    if (status == XAI_OK)
        status = copy_plan(found, milliseconds, out, error);
    memory_free(milliseconds);
    memory_free(ids);
    batch_free(&rows);
    memory_free(views);
    return status;
}

xai_status xai_session_plan(xai_session *self, const xai_tensor *const *inputs, size_t input_count,
                            const char *const *wrt, size_t wrt_count, xai_plan **out,
                            xai_error **error)
{
    return make_plan(self, __func__, inputs, input_count, wrt, wrt_count, 0, out, error);
}

xai_status xai_session_profile(xai_session *self, const xai_tensor *const *inputs,
                               size_t input_count, const char *const *wrt, size_t wrt_count,
                               int32_t runs, xai_plan **out, xai_error **error)
{
    if (runs < 1)
        return error_set(error, XAI_ERROR_ARGUMENT, NULL, "%s: runs is %d: give 1 or more",
                         __func__, (int)runs);
    return make_plan(self, __func__, inputs, input_count, wrt, wrt_count, runs, out, error);
}

size_t xai_plan_arena_bytes(const xai_plan *self)
{
    return self != NULL ? self->arena_bytes : 0;
}

size_t xai_plan_step_count(const xai_plan *self)
{
    return self != NULL ? self->count : 0;
}

static const step *step_at(const xai_plan *self, size_t index)
{
    static const step none = {.node = "", .operator_name = "", .implementation = ""};
    return self != NULL && index < self->count ? &self->steps[index] : &none;
}

const char *xai_plan_step_node(const xai_plan *self, size_t index)
{
    return step_at(self, index)->node;
}

const char *xai_plan_step_operator(const xai_plan *self, size_t index)
{
    return step_at(self, index)->operator_name;
}

const char *xai_plan_step_implementation(const xai_plan *self, size_t index)
{
    return step_at(self, index)->implementation;
}

int32_t xai_plan_step_backward(const xai_plan *self, size_t index)
{
    return step_at(self, index)->backward ? 1 : 0;
}

size_t xai_plan_step_bytes(const xai_plan *self, size_t index)
{
    return step_at(self, index)->bytes;
}

double xai_plan_step_operations(const xai_plan *self, size_t index)
{
    return step_at(self, index)->operations;
}

double xai_plan_step_milliseconds(const xai_plan *self, size_t index)
{
    return step_at(self, index)->milliseconds;
}

size_t xai_plan_scratchpad_bytes(const xai_plan *self)
{
    return self != NULL ? self->scratchpad_bytes : 0;
}

size_t xai_plan_weights_bytes(const xai_plan *self)
{
    return self != NULL ? self->weights_bytes : 0;
}

size_t xai_plan_buffer_count(const xai_plan *self)
{
    return self != NULL ? self->buffer_count : 0;
}

static const memory_use *buffer_at(const xai_plan *self, size_t index)
{
    static const memory_use none = {.value = ""};
    return self != NULL && index < self->buffer_count ? &self->buffers[index] : &none;
}

const char *xai_plan_buffer_value(const xai_plan *self, size_t index)
{
    return buffer_at(self, index)->value;
}

int32_t xai_plan_buffer_gradient(const xai_plan *self, size_t index)
{
    return buffer_at(self, index)->gradient ? 1 : 0;
}

size_t xai_plan_buffer_bytes(const xai_plan *self, size_t index)
{
    return buffer_at(self, index)->bytes;
}

size_t xai_plan_buffer_offset(const xai_plan *self, size_t index)
{
    return buffer_at(self, index)->offset;
}

size_t xai_plan_buffer_first_step(const xai_plan *self, size_t index)
{
    return buffer_at(self, index)->first;
}

size_t xai_plan_buffer_last_step(const xai_plan *self, size_t index)
{
    return buffer_at(self, index)->last;
}
