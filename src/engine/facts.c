/* What a plan says about itself: its steps, its memory, and how long the steps take. */
#include <time.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/plan.h"

size_t plan_arena_bytes(const plan *self)
{
    return self->arena_bytes + self->scratchpad_bytes;
}

size_t plan_scratchpad_bytes(const plan *self)
{
    return self->scratchpad_bytes;
}

size_t plan_weights_bytes(const plan *self)
{
    return network_weights_bytes(self->net);
}

size_t plan_step_count(const plan *self)
{
    return self->step_count;
}

static const char *node_name(const plan *self, int node)
{
    const char *name = node == GRAPH_NONE ? NULL : self->graph->nodes[node].name;
    return name ? name : "";
}

void plan_step(const plan *self, size_t index, plan_step_facts *out)
{
    const step *s = &self->steps[index];
    *out = (plan_step_facts){
        .node = node_name(self, s->node),
        .operator_name = s->node == GRAPH_NONE ? "" : self->graph->nodes[s->node].definition->name,
        .implementation = s->implementation,
        .backward = index >= self->forward_count,
        .bytes = s->bytes,
        .operations = s->program ? primitive_operations(s->program) : s->operations,
    };
}

size_t plan_buffer_count(const plan *self)
{
    return self->buffer_count;
}

bool plan_buffer(const plan *self, size_t index, plan_buffer_facts *out)
{
    const buffer *each = &self->buffers[index];
    if (!each->used)
        return false;
    const bool lasts = each->last >= self->step_count;
    *out = (plan_buffer_facts){
        .value = each->value != GRAPH_NONE        ? self->graph->values[each->value].name
                 : each->first < self->step_count ? node_name(self, self->steps[each->first].node)
                                                  : "",
        .gradient = each->first >= self->forward_count && self->step_count > 0,
        .bytes = each->bytes,
        .start = each->start,
        .first = each->first,
        .last = !lasts                 ? each->last
                : self->step_count > 0 ? self->step_count - 1
                                       : 0,
    };
    return true;
}

double facts_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* One forward pass and one backward pass from every seed, each filled with ones. */
static xai_status pass(run *self, const tensor *const *inputs, float *ones, xai_error **error)
{
    const plan *p = self->program;
    xai_status status = run_forward(self, inputs, error);
    for (size_t i = 0; status == XAI_OK && i < p->program_count; i++)
        status = run_backward(self, p->programs[i].seed, ones, error);
    return status;
}

static size_t largest_seed(const plan *p)
{
    size_t largest = 1;
    for (size_t i = 0; i < p->program_count; i++) {
        size_t count = 0;
        shape_count(&p->graph->values[p->programs[i].seed].shape, &count);
        largest = count > largest ? count : largest;
    }
    return largest;
}

xai_status plan_profile(plan *self, const tensor *const *inputs, int runs, double *milliseconds,
                        xai_error **error)
{
    const size_t seeds = largest_seed(self);
    run *state = NULL;
    double *times = memory_allocate_zeroed(self->step_count + 1, sizeof *times);
    float *ones = memory_allocate(seeds, sizeof *ones);
    xai_status status = times && ones ? run_create(self, &state, error)
                                      : error_memory(error, "a profile", seeds * sizeof *ones);
    for (size_t i = 0; status == XAI_OK && i < seeds; i++)
        ones[i] = 1;
    if (status == XAI_OK) /* once to warm up */
        status = pass(state, inputs, ones, error);
    for (int r = 0; status == XAI_OK && r < runs; r++) {
        state->times = times;
        status = pass(state, inputs, ones, error);
        for (size_t i = 0; i < self->step_count; i++)
            milliseconds[i] = r == 0 || times[i] < milliseconds[i] ? times[i] : milliseconds[i];
    }
    run_free(state);
    memory_free(times);
    memory_free(ones);
    return status;
}
