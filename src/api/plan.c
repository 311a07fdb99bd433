/* What a session would run: a copy of the plan's facts. */
#include <string.h>

#include "api/handles.h"
#include "base/error.h"

typedef struct step {
    const char *node, *operator_name, *implementation; /* in the pool */
    bool backward;
    size_t bytes;
} step;

struct xai_plan {
    memory_pool *pool;
    step *steps;
    size_t count, arena_bytes;
};

void xai_plan_free(xai_plan *self)
{
    if (self == NULL)
        return;
    memory_pool_free(self->pool);
    memory_free(self->steps);
    memory_free(self);
}

static const char *copy_text(memory_pool *pool, const char *from)
{
    return memory_pool_text(pool, from != NULL ? from : "", from != NULL ? strlen(from) : 0);
}

static xai_status copy_plan(const plan *from, xai_plan **out, xai_error **error)
{
    xai_plan *made = memory_allocate_zeroed(1, sizeof *made);
    if (made == NULL)
        return error_memory(error, "a plan", sizeof *made);
    const size_t count = plan_step_count(from);
    made->arena_bytes = plan_arena_bytes(from);
    made->pool = memory_pool_create();
    made->steps = memory_allocate_zeroed(count, sizeof *made->steps);
    bool enough = made->pool != NULL && made->steps != NULL;
    for (size_t i = 0; enough && i < count; i++) {
        plan_step_facts facts;
        plan_step(from, i, &facts);
        made->steps[i] = (step){.node = copy_text(made->pool, facts.node),
                                .operator_name = copy_text(made->pool, facts.operator_name),
                                .implementation = copy_text(made->pool, facts.implementation),
                                .backward = facts.backward,
                                .bytes = facts.bytes};
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

xai_status xai_session_plan(xai_session *self, const xai_tensor *const *inputs, size_t input_count,
                            const char *const *wrt, size_t wrt_count, xai_plan **out,
                            xai_error **error)
{
    const tensor **views = NULL;
    int *ids = NULL;
    batch rows = {0};
    if (self == NULL)
        return argument_missing(error, __func__, "session");
    if (out == NULL || (inputs == NULL && input_count > 0) || (wrt == NULL && wrt_count > 0))
        return argument_missing(error, __func__,
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
                                : argument_missing(error, __func__, "a name");
    const plan *found = NULL;
    if (status == XAI_OK)
        status = evaluator_plan(&self->engine, &rows, ids, wrt_count, &found, error);
    if (status == XAI_OK)
        status = copy_plan(found, out, error);
    memory_free(ids);
    batch_free(&rows);
    memory_free(views);
    return status;
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
