/* A run: one arena, one row at a time. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "engine/plan.h"

void *run_address(const run *state, operand place)
{
    if (place.buffer == BUFFER_NONE)
        return (void *)(uintptr_t)place.constant;
    return state->arena + state->program->buffers[place.buffer].start + place.offset;
}

struct baseline {
    const plan *program;
    char *bytes;
};

const void *run_baseline_address(const run *state, operand place)
{
    if (place.buffer == BUFFER_NONE || !state->program->buffers[place.buffer].kept)
        return run_address(state, place);
    return state->against->bytes + state->program->buffers[place.buffer].copy + place.offset;
}

xai_status baseline_create(const run *from, baseline **out, xai_error **error)
{
    const plan *p = from->program;
    if (!from->has_forward)
        return error_set(error, XAI_ERROR_INTERNAL, NULL, "a baseline before a forward pass");
    baseline *self = *out;
    if (!self) {
        self = memory_allocate_zeroed(1, sizeof *self);
        if (self)
            self->bytes = memory_allocate_aligned(p->baseline_bytes ? p->baseline_bytes : 1);
        if (!self || !self->bytes) {
            memory_free(self);
            return error_memory(error, "the activations of a baseline", p->baseline_bytes);
        }
        self->program = p;
    }
    for (size_t i = 0; i < p->buffer_count; i++)
        if (p->buffers[i].kept)
            memcpy(self->bytes + p->buffers[i].copy, from->arena + p->buffers[i].start,
                   p->buffers[i].bytes);
    *out = self;
    return XAI_OK;
}

void baseline_free(baseline *self)
{
    if (!self)
        return;
    memory_free(self->bytes);
    memory_free(self);
}

static void swap_bytes(char *a, char *b, size_t count)
{
    char piece[4096];
    for (size_t done = 0; done < count; done += sizeof piece) {
        const size_t n = count - done < sizeof piece ? count - done : sizeof piece;
        memcpy(piece, a + done, n);
        memcpy(a + done, b + done, n);
        memcpy(b + done, piece, n);
    }
}

void run_swap_baseline(run *self, baseline *with)
{
    const plan *p = self->program;
    for (size_t i = 0; i < p->buffer_count; i++)
        if (p->buffers[i].kept)
            swap_bytes(self->arena + p->buffers[i].start, with->bytes + p->buffers[i].copy,
                       p->buffers[i].bytes);
}

size_t plan_baseline_bytes(const plan *self)
{
    return self->baseline_bytes;
}

void run_set_baseline(run *self, const baseline *against)
{
    self->against = against;
}

xai_status run_create(const plan *program, run **out, xai_error **error)
{
    run *self = memory_allocate_zeroed(1, sizeof *self);
    if (!self)
        return error_memory(error, "run", sizeof *self);
    self->program = program;
    self->arena = memory_allocate_aligned(program->arena_bytes ? program->arena_bytes : 1);
    self->scratchpad =
        memory_allocate_aligned(program->scratchpad_bytes ? program->scratchpad_bytes : 1);
    self->binding_count = program->step_count;
    self->bindings = memory_allocate_zeroed(program->step_count + 1, sizeof(primitive_binding *));
    if (program->guarded)
        self->bounds = memory_allocate(program->graph->value_count + 1, sizeof *self->bounds);
    if (!self->arena || !self->scratchpad || !self->bindings ||
        (program->guarded && !self->bounds)) {
        run_free(self);
        return error_memory(error, "activations and gradients",
                            program->arena_bytes + program->scratchpad_bytes);
    }
    *out = self;
    return XAI_OK;
}

void run_free(run *self)
{
    if (!self)
        return;
    memory_free(self->arena);
    memory_free(self->scratchpad);
    memory_free(self->bounds);
    for (size_t i = 0; self->bindings && i < self->binding_count; i++)
        primitive_binding_free(self->bindings[i]);
    memory_free(self->bindings);
    memory_free(self);
}

static xai_status execute(run *self, size_t first, size_t count, xai_error **error)
{
    const plan *p = self->program;
    for (size_t i = first; i < first + count; i++) {
        const step *each = &p->steps[i];
        const double begin = self->times ? facts_now() : 0;
        xai_status status = each->check ? guard_check(self, each, error) : XAI_OK;
        if (status == XAI_OK)
            status = each->execute(each, self, error);
        if (self->times)
            self->times[i] = facts_now() - begin;
        if (status != XAI_OK) {
            if (each->node != GRAPH_NONE)
                error_add_place(error, p->graph->nodes[each->node].place);
            return status;
        }
    }
    return XAI_OK;
}

xai_status run_forward(run *self, const tensor *const *inputs, xai_error **error)
{
    const plan *p = self->program;
    const graph *g = p->graph;
    self->has_forward = false;
    self->last_backward = NULL;
    for (size_t i = 0; i < g->input_count; i++) {
        const graph_value *v = &g->values[g->inputs[i]];
        char expected[SHAPE_TEXT_SIZE], got[SHAPE_TEXT_SIZE];
        if (inputs[i]->dtype != v->dtype || !shape_equal(&inputs[i]->shape, &v->shape))
            return error_set(error, XAI_ERROR_SHAPE, v->name,
                             "expected %s of shape %s but got %s of shape %s", dtype_name(v->dtype),
                             shape_text(&v->shape, expected), dtype_name(inputs[i]->dtype),
                             shape_text(&inputs[i]->shape, got));
    }
    for (size_t i = 0; i < g->input_count; i++)
        memcpy(run_address(self, p->plain[g->inputs[i]].place), inputs[i]->data,
               tensor_bytes(inputs[i]));
    guard_begin(self);
    parallel_wake(p->threads);
    const xai_status status = execute(self, 0, p->forward_count, error);
    self->has_forward = status == XAI_OK;
    return status;
}

xai_status run_value(run *self, int value, const tensor **out, xai_error **error)
{
    const plan *p = self->program;
    if (value >= 0 && (size_t)value < p->graph->value_count && p->graph->values[value].late)
        return graph_check_static(p->graph, value, error);
    if (value < 0 || (size_t)value >= p->graph->value_count || !self->has_forward ||
        !(p->plain[value].exists || p->graph->values[value].is_constant))
        return error_set(error, XAI_ERROR_INTERNAL, NULL,
                         "a value was read that the plan does not keep, or before a forward pass");
    const graph_value *v = &p->graph->values[value];
    if (v->is_constant) {
        *out = &v->constant;
        return XAI_OK;
    }
    self->view = (tensor){
        .dtype = v->dtype, .shape = v->shape, .data = run_address(self, p->plain[value].place)};
    *out = &self->view;
    return XAI_OK;
}

xai_status run_backward(run *self, int seed_value, const float *seed, xai_error **error)
{
    const plan *p = self->program;
    const backward_program *program = NULL;
    size_t count = 0;
    for (size_t i = 0; i < p->program_count; i++)
        if (p->programs[i].seed == seed_value)
            program = &p->programs[i];
    if (!program || !self->has_forward)
        return error_set(error, XAI_ERROR_INTERNAL, NULL,
                         "a backward pass without its forward pass or outside its plan");
    if (p->rule == ENGINE_RULE_DEEPLIFT && (!self->against || self->against->program != p))
        return error_set(error, XAI_ERROR_INTERNAL, NULL,
                         "a backward pass of DeepLIFT without a baseline of its plan");
    shape_count(&p->graph->values[seed_value].shape, &count);
    memcpy(run_address(self, program->seed_place), seed, count * sizeof *seed);
    self->last_backward = NULL;
    const xai_status status = execute(self, program->first_step, program->step_count, error);
    if (status == XAI_OK && !p->passes_gradients)
        self->last_backward = program;
    return status;
}

xai_status run_backward_each(run *self, int seed_value, const float *seed, gradient_body body,
                             void *user, xai_error **error)
{
    self->pass = body;
    self->pass_user = user;
    const xai_status status = run_backward(self, seed_value, seed, error);
    self->pass = NULL;
    return status;
}

xai_status run_gradient(run *self, int value, const tensor **out, xai_error **error)
{
    const plan *p = self->program;
    for (size_t i = 0; self->last_backward && i < p->gradient_count; i++) {
        if (p->gradients[i] != value)
            continue;
        self->view = (tensor){.dtype = DTYPE_FLOAT,
                              .shape = p->graph->values[value].shape,
                              .data = run_address(self, self->last_backward->gradients[i])};
        *out = &self->view;
        return XAI_OK;
    }
    return error_set(error, XAI_ERROR_INTERNAL, NULL,
                     "a gradient was read that the plan does not keep, or before a backward pass");
}

xai_status run_acquire(plan *self, run **out, xai_error **error)
{
    pthread_mutex_lock(&self->idle_lock);
    run *found = self->idle;
    if (found)
        self->idle = found->next;
    pthread_mutex_unlock(&self->idle_lock);
    if (!found)
        return run_create(self, out, error);
    found->next = NULL;
    *out = found;
    return XAI_OK;
}

void run_release(plan *self, run *state)
{
    if (!state)
        return;
    state->against = NULL;
    pthread_mutex_lock(&self->idle_lock);
    state->next = self->idle;
    self->idle = state;
    pthread_mutex_unlock(&self->idle_lock);
}
