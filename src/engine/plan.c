/* From a request to a plan: specialise, lay out, lower every node, build the backward programs,
 * place the buffers. */
#include "engine/plan.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "engine/steps.h"

static xai_status copy_ids(int **out, size_t *count, const int *ids, size_t n, size_t limit,
                           const char *what, xai_error **error)
{
    *out = memory_allocate(n ? n : 1, sizeof **out);
    if (!*out)
        return error_memory(error, "plan", n * sizeof **out);
    *count = n;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= limit)
            return error_set(error, XAI_ERROR_ARGUMENT, NULL, "%s: no value with id %d", what,
                             ids[i]);
        (*out)[i] = ids[i];
    }
    return XAI_OK;
}

/* LRP works on folded layers, one after the other as the model has them. */
static graph_rewrites rewrites(const plan *self)
{
    if (self->rule == ENGINE_RULE_LRP)
        return GRAPH_REWRITES_LAYERS;
    return self->precision == ENGINE_PRECISION_REFERENCE ? GRAPH_REWRITES_NEEDED
                                                         : GRAPH_REWRITES_ALL;
}

/* The values that must keep their meaning through the rewrites. */
static xai_status specialise(plan *self, const plan_request *request, xai_error **error)
{
    const size_t count = request->wanted_count + request->seed_count + request->gradient_count;
    int *keep = memory_allocate(count + 1, sizeof *keep);
    size_t n = 0;
    if (!keep)
        return error_memory(error, "plan", count * sizeof *keep);
    for (size_t i = 0; i < request->wanted_count; i++)
        keep[n++] = request->wanted[i];
    for (size_t i = 0; i < request->seed_count; i++)
        keep[n++] = request->seeds[i];
    for (size_t i = 0; i < request->gradient_count; i++)
        keep[n++] = request->gradients[i];
    const graph *source = NULL;
    xai_status status = network_graph_for(self->net, request->input_shapes, &source, error);
    if (status == XAI_OK)
        status = graph_specialise_from(source, request->input_shapes, request->starts,
                                       request->start_shapes, request->start_count, keep, count,
                                       rewrites(self), &self->graph, error);
    for (size_t i = request->wanted_count; i < count && status == XAI_OK; i++)
        status = graph_check_static(self->graph, keep[i], error); /* it would need a gradient */
    memory_free(keep);
    return status;
}

static void mark(builder *b, const plan_request *request)
{
    graph *g = b->graph;
    const plan *p = b->program;
    for (size_t i = 0; i < g->output_count; i++)
        b->values[g->outputs[i]].wanted = b->values[g->outputs[i]].kept = true;
    for (size_t i = 0; i < p->wanted_count; i++)
        if (!g->values[p->wanted[i]].late) /* graph_finish() makes it of the frontier */
            b->values[p->wanted[i]].wanted = b->values[p->wanted[i]].kept = true;
    for (size_t i = 0; i < request->seed_count; i++) {
        value_state *seed = &b->values[request->seeds[i]];
        seed->wanted = seed->kept = seed->own_gradient = true;
    }
    for (size_t i = 0; i < p->gradient_count; i++) {
        value_state *state = &b->values[p->gradients[i]];
        state->wanted = state->wants_gradient = state->needs_gradient = true;
        /* A concatenation's shared gradient also carries what flows to its pieces by other ways. */
        const int producer = g->values[p->gradients[i]].producer;
        state->own_gradient = producer != GRAPH_NONE && node_is(&g->nodes[producer], "", "Concat");
        /* An input that a gradient is multiplied with costs little: what suffices for a gradient suffices for that. */
        state->kept = state->kept || producer == GRAPH_NONE;
    }
    b->any_gradient = request->seed_count > 0 && p->gradient_count > 0;
    for (size_t n = 0; b->any_gradient && n < g->node_count; n++) {
        const graph_node *node = &g->nodes[n];
        bool needs = false;
        for (int i = 0; !node->removed && i < node->input_count; i++)
            needs = needs ||
                    (node->inputs[i] != GRAPH_NONE && b->values[node->inputs[i]].needs_gradient);
        for (int i = 0; needs && i < node->output_count; i++)
            if (node->outputs[i] != GRAPH_NONE && dtype_is_float(g->values[node->outputs[i]].dtype))
                b->values[node->outputs[i]].needs_gradient = true;
    }
}

static xai_status make_inputs(builder *b)
{
    for (size_t i = 0; i < b->graph->input_count; i++) {
        const int id = b->graph->inputs[i];
        const graph_value *v = &b->graph->values[id];
        if (dtype_size(v->dtype) == 0)
            return error_set(b->error, XAI_ERROR_UNSUPPORTED, v->name,
                             "inputs of element type %s are not supported", dtype_name(v->dtype));
        const operand place = builder_buffer(b, layout_bytes(b, id, LAYOUT_PLAIN));
        if (place.buffer == BUFFER_NONE)
            return XAI_ERROR_MEMORY;
        buffer *each = &b->program->buffers[place.buffer];
        each->first = each->last = 0; /* filled before the first step */
        each->value = id;
        each->used = true;
        b->values[id].slots[LAYOUT_PLAIN] = b->program->plain[id] = (slot){true, place};
    }
    return XAI_OK;
}

static const lowering fast_lowerings[] = {
    lower_attention, lower_convolution,   lower_scale_shift, lower_pool,        lower_activation,
    lower_binary,    lower_concat,        lower_norm,        lower_pad,         lower_matrix,
    lower_rows,      lower_channels_last, lower_move,        lower_affine_rows, lower_recurrent,
    lower_channel,   lower_view,          lower_portable,
};
static const lowering reference_lowerings[] = {lower_view, lower_portable};

static xai_status lower_nodes(builder *b)
{
    const lowering *list = b->reference ? reference_lowerings : fast_lowerings;
    for (size_t n = 0; n < b->graph->node_count; n++) {
        if (b->graph->nodes[n].removed)
            continue;
        const xai_status bounded = guard_rules(b, (int)n);
        if (bounded != XAI_OK)
            return bounded;
        if (b->node_done[n])
            continue;
        b->node_done[n] = true;
        bool done = false;
        for (const lowering *each = list; !done; each++) {
            const xai_status status = (*each)(b, (int)n, &done);
            if (status != XAI_OK) {
                error_add_place(b->error, b->graph->nodes[n].place);
                return status;
            }
        }
    }
    return XAI_OK;
}

/* Plain copies of what run_value() gives. */
static xai_status keep_wanted(builder *b)
{
    plan *p = b->program;
    for (size_t v = 0; v < b->graph->value_count; v++) {
        operand place;
        if (!b->values[v].kept || b->graph->values[v].is_constant)
            continue;
        const xai_status status = builder_input(b, (int)v, LAYOUT_PLAIN, &place);
        if (status != XAI_OK)
            return status;
        p->plain[v] = (slot){true, place};
        p->buffers[place.buffer].last = BUFFER_LAST_FOREVER;
        p->buffers[place.buffer].used = true;
    }
    return XAI_OK;
}

static bool any_output_has_gradient(const builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    if (b->values[self->output].needs_gradient && gradient_exists(b, self->output))
        return true;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] != GRAPH_NONE && b->values[node->outputs[i]].needs_gradient &&
            gradient_exists(b, node->outputs[i]))
            return true;
    return false;
}

/* The plain float32 gradient of a wanted value, zero where the seed does not depend on it. */
static xai_status keep_gradient(builder *b, int value, operand *out)
{
    const graph_value *v = &b->graph->values[value];
    xai_status status;
    step *s = NULL;
    if (!gradient_exists(b, value)) {
        size_t count = 0;
        shape_count(&v->shape, &count);
        *out = builder_buffer(b, count * sizeof(float));
        if (out->buffer == BUFFER_NONE)
            return XAI_ERROR_MEMORY;
        status = builder_step(b, step_zero, GRAPH_NONE, "zero", &s);
        if (status == XAI_OK) {
            s->count = count * sizeof(float);
            builder_write(b, s, 0, *out, s->count);
        }
        return status;
    }
    operand primary;
    status = gradient_read(b, value, &primary);
    *out = primary;
    if (status == XAI_OK && b->values[value].primary == LAYOUT_BLOCKED) {
        *out = builder_buffer(b, layout_bytes(b, value, LAYOUT_PLAIN));
        if (out->buffer == BUFFER_NONE)
            return XAI_ERROR_MEMORY;
        status = builder_convert(b, value, primary, LAYOUT_BLOCKED, *out, LAYOUT_PLAIN);
    } else if (status == XAI_OK && v->dtype != DTYPE_FLOAT) {
        const size_t count = layout_bytes(b, value, LAYOUT_PLAIN) / dtype_size(v->dtype);
        *out = builder_buffer(b, count * sizeof(float));
        if (out->buffer == BUFFER_NONE)
            return XAI_ERROR_MEMORY;
        status = builder_cast(b, primary, v->dtype, *out, DTYPE_FLOAT, count);
    }
    if (status == XAI_OK && b->rule == ENGINE_RULE_LRP && !b->values[value].holds_relevance)
        status = relevance_finish(b, value, out);
    return status;
}

static xai_status step_pass_gradient(const step *self, run *state, xai_error **error)
{
    const int value = state->program->gradients[self->count];
    if (!state->pass) /* a profile */
        return XAI_OK;
    const tensor view = {.dtype = DTYPE_FLOAT,
                         .shape = state->program->graph->values[value].shape,
                         .data = run_address(state, self->operands[0])};
    return state->pass(state->pass_user, value, &view, error);
}

/* Pass a wanted gradient on; from here its memory may be used again. */
static xai_status pass_gradient(builder *b, size_t index)
{
    const int value = b->program->gradients[index];
    operand place;
    step *s = NULL;
    if (!b->values[value].wants_gradient) /* it was, or is in the list twice */
        return XAI_OK;
    xai_status status = keep_gradient(b, value, &place);
    if (status == XAI_OK)
        status = builder_step(b, step_pass_gradient, GRAPH_NONE, "pass on", &s);
    if (status != XAI_OK)
        return status;
    s->count = index;
    builder_read(b, s, 0, place);
    b->values[value].wants_gradient = false;
    return XAI_OK;
}

/* Everyone who reads what the unit makes has been walked: those gradients are complete. */
static xai_status pass_outputs(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const plan *p = b->program;
    xai_status status = XAI_OK;
    for (size_t g = 0; p->passes_gradients && status == XAI_OK && g < p->gradient_count; g++) {
        bool made = p->gradients[g] == self->output;
        for (int i = 0; i < node->output_count; i++)
            made = made || p->gradients[g] == node->outputs[i];
        if (made)
            status = pass_gradient(b, g);
    }
    return status;
}

/* What is left behind the last unit: inputs, and values that the seed does not depend on. */
static xai_status finish_gradients(builder *b, backward_program *out)
{
    plan *p = b->program;
    xai_status status = XAI_OK;
    for (size_t i = 0; status == XAI_OK && i < p->gradient_count; i++)
        status = p->passes_gradients ? pass_gradient(b, i)
                                     : keep_gradient(b, p->gradients[i], &out->gradients[i]);
    for (size_t i = 0; !p->passes_gradients && status == XAI_OK && i < p->gradient_count; i++)
        p->buffers[out->gradients[i].buffer].last = p->step_count - 1;
    return status;
}

static xai_status build_program(builder *b, backward_program *out, int seed)
{
    plan *p = b->program;
    const graph_value *v = &b->graph->values[seed];
    size_t count = 0;
    xai_status status = XAI_OK;
    *out = (backward_program){.seed = seed, .first_step = p->step_count};
    out->gradients = memory_pool_allocate(p->pool, p->gradient_count + 1, sizeof *out->gradients);
    if (!out->gradients)
        return error_memory(b->error, "plan", p->gradient_count * sizeof *out->gradients);
    if (!dtype_is_float(v->dtype))
        return error_set(b->error, XAI_ERROR_UNSUPPORTED, v->name,
                         "a score of element type %s has no gradient", dtype_name(v->dtype));
    shape_count(&v->shape, &count);
    out->seed_place = builder_buffer(b, count * sizeof(float));
    if (out->seed_place.buffer == BUFFER_NONE)
        return XAI_ERROR_MEMORY;
    if (b->values[seed].needs_gradient) {
        operand place = out->seed_place;
        if (v->dtype != DTYPE_FLOAT) {
            place = builder_buffer(b, count * dtype_size(v->dtype));
            status = place.buffer == BUFFER_NONE
                         ? XAI_ERROR_MEMORY
                         : builder_cast(b, out->seed_place, DTYPE_FLOAT, place, v->dtype, count);
        }
        if (status == XAI_OK)
            status = gradient_add(b, seed, place, LAYOUT_PLAIN, false);
    }
    for (size_t i = b->unit_count; status == XAI_OK && i-- > 0;) {
        const unit *each = &b->units[i];
        if (!any_output_has_gradient(b, each))
            continue;
        status = pass_outputs(b, each);
        if (status == XAI_OK)
            status = b->rule == ENGINE_RULE_LRP ? relevance_backward(b, each)
                                                : each->emit_backward(b, each);
        if (status != XAI_OK)
            error_add_place(b->error, b->graph->nodes[each->node].place);
    }
    if (status == XAI_OK)
        status = finish_gradients(b, out);
    if (status != XAI_OK)
        return status;
    out->step_count = p->step_count - out->first_step;
    /* The seed is written before the program's first step. */
    buffer *seed_buffer = &p->buffers[out->seed_place.buffer];
    if (!seed_buffer->used)
        seed_buffer->last = out->first_step;
    seed_buffer->first = out->first_step;
    seed_buffer->used = true;
    return XAI_OK;
}

static xai_status build_backward(builder *b, backward_program *out, int seed)
{
    xai_status status;
    /* Conversions that one program makes are not there when another one runs. */
    slot(*slots)[2] = memory_allocate(b->graph->value_count + 1, sizeof *slots);
    if (!slots)
        return error_memory(b->error, "plan", b->graph->value_count * sizeof *slots);
    for (size_t i = 0; i < b->graph->value_count; i++) {
        memcpy(slots[i], b->values[i].slots, sizeof *slots);
        b->values[i].root = -1, b->values[i].root_granule = 0;
        b->values[i].holds_relevance = false;
    }
    for (size_t i = 0; i < b->program->gradient_count; i++)
        b->values[b->program->gradients[i]].wants_gradient = true;
    status = build_program(b, out, seed);
    for (size_t i = 0; i < b->graph->value_count; i++)
        memcpy(b->values[i].slots, slots[i], sizeof *slots);
    memory_free(slots);
    return status;
}

static xai_status build_programs(builder *b, const plan_request *request)
{
    plan *p = b->program;
    p->forward_count = p->step_count;
    if (!b->any_gradient)
        return XAI_OK;
    p->programs = memory_allocate_zeroed(request->seed_count, sizeof *p->programs);
    if (!p->programs)
        return error_memory(b->error, "plan", request->seed_count * sizeof *p->programs);
    for (size_t i = 0; i < request->seed_count; i++) {
        const xai_status status =
            build_backward(b, &p->programs[p->program_count++], request->seeds[i]);
        if (status != XAI_OK)
            return status;
    }
    /* What the forward pass made and a backward program reads outlives every program: there may
     * be many seeds. */
    for (size_t i = 0; i < p->buffer_count; i++) {
        buffer *each = &p->buffers[i];
        if (!each->used || each->first >= p->forward_count || each->last < p->forward_count)
            continue;
        each->last = BUFFER_LAST_FOREVER;
        each->kept = true;
        each->copy = p->baseline_bytes;
        p->baseline_bytes += (each->bytes + 63) / 64 * 64;
    }
    return XAI_OK;
}

static xai_status build(plan *self, const plan_request *request, xai_error **error)
{
    xai_status status;
    builder b = {.program = self,
                 .graph = self->graph,
                 .reference = self->precision == ENGINE_PRECISION_REFERENCE,
                 .fast = self->precision == ENGINE_PRECISION_FAST,
                 .rule = self->rule,
                 .error = error};
    xai_error *own = NULL;
    if (!error)
        b.error = &own; /* lowerings that fall back look at and clear it */
    b.values = memory_allocate_zeroed(self->graph->value_count + 1, sizeof *b.values);
    b.node_done = memory_allocate_zeroed(self->graph->node_count + 1, sizeof *b.node_done);
    b.attentions = memory_allocate_zeroed(self->graph->node_count + 1, sizeof *b.attentions);
    self->plain = memory_allocate_zeroed(self->graph->value_count + 1, sizeof *self->plain);
    if (!b.values || !b.node_done || !b.attentions || !self->plain) {
        status = error_memory(error, "plan", self->graph->value_count * sizeof *b.values);
        goto done;
    }
    mark(&b, request);
    status = relevance_check(&b);
    if (status == XAI_OK)
        status = layout_decide(&b);
    if (status == XAI_OK)
        status = match_attentions(&b);
    if (status == XAI_OK)
        status = make_inputs(&b);
    if (status == XAI_OK)
        status = lower_nodes(&b);
    if (status == XAI_OK)
        status = keep_wanted(&b);
    if (status == XAI_OK)
        status = build_programs(&b, request);
    if (status == XAI_OK)
        status = arena_place(self, request->memory_limit, error);
    if (status == XAI_ERROR_MEMORY && b.error && !*b.error)
        error_memory(b.error, "plan", 0);
done:
    xai_error_free(own);
    memory_free(b.values);
    memory_free(b.node_done);
    memory_free(b.attentions);
    memory_free(b.units);
    memory_free(b.roots);
    return status;
}

xai_status plan_create(network *net, const plan_request *request, plan **out, xai_error **error)
{
    xai_status status;
    const graph *source = network_graph(net);
    plan *self = memory_allocate_zeroed(1, sizeof *self);
    if (!self)
        return error_memory(error, "plan", sizeof *self);
    pthread_mutex_init(&self->idle_lock, NULL);
    network_retain(net);
    self->net = net;
    self->precision = request->precision;
    self->rule = request->rule;
    self->passes_gradients = request->passes_gradients;
    self->guarded = !request->allow_nonfinite && request->precision != ENGINE_PRECISION_REFERENCE;
    if (request->relevance)
        self->relevance = *request->relevance;
    self->has_first_relevance = request->first_relevance != NULL;
    if (request->first_relevance)
        self->first_relevance = *request->first_relevance;
    self->threads = request->threads > 0 ? request->threads : parallel_processors();
    parallel_wake(self->threads);
    self->block = primitive_block();
    self->pool = memory_pool_create();
    if (!self->pool) {
        status = error_memory(error, "plan", 0);
        goto done;
    }
    status = copy_ids(&self->wanted, &self->wanted_count, request->wanted, request->wanted_count,
                      source->value_count, "wanted", error);
    if (status == XAI_OK)
        status = copy_ids(&self->gradients, &self->gradient_count, request->gradients,
                          request->gradient_count, source->value_count, "gradient", error);
    for (size_t i = 0; status == XAI_OK && i < request->seed_count; i++)
        if (request->seeds[i] < 0 || (size_t)request->seeds[i] >= source->value_count)
            status = error_set(error, XAI_ERROR_ARGUMENT, NULL, "seed: no value with id %d",
                               request->seeds[i]);
    if (status == XAI_OK)
        status = specialise(self, request, error);
    if (status == XAI_OK)
        status = build(self, request, error);
    if (status == XAI_OK) {
        *out = self;
        self = NULL;
    }
done:
    plan_free(self);
    return status;
}

void plan_free(plan *self)
{
    if (!self)
        return;
    for (run *each = self->idle, *next; each; each = next) {
        next = each->next;
        run_free(each);
    }
    for (size_t i = 0; i < self->primitive_count; i++)
        primitive_free(self->primitives[i]);
    memory_free(self->primitives);
    memory_free(self->programs);
    memory_free(self->unruled);
    memory_free(self->plain);
    memory_free(self->buffers);
    memory_free(self->steps);
    memory_free(self->rules);
    memory_free(self->wanted);
    memory_free(self->gradients);
    memory_pool_free(self->pool);
    graph_free(self->graph);
    network_free(self->net);
    pthread_mutex_destroy(&self->idle_lock);
    memory_free(self);
}

const graph *plan_graph(const plan *self)
{
    return self->graph;
}
