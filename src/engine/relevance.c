/* Layer-wise relevance propagation: which unit follows which rule, and the fast steps of the epsilon
 * rule. relevance_split.c has those of other rules for convolutions and matrix products; other layers with weights run on the
 * portable kernels. */
#include "engine/lower.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

static bool is_layer(const builder *b, const graph_node *node)
{
    if (operator_relevance_role(node->definition) != RELEVANCE_WEIGHTED || node->input_count < 2)
        return false;
    return b->graph->values[node->inputs[0]].is_constant ||
           b->graph->values[node->inputs[1]].is_constant;
}

static bool reads_input(const builder *b, const graph_node *node)
{
    for (size_t i = 0; i < b->graph->input_count; i++)
        if (b->graph->inputs[i] == node->inputs[0] || b->graph->inputs[i] == node->inputs[1])
            return true;
    return false;
}

const relevance_rule *relevance_of(const builder *b, const graph_node *node)
{
    const plan *p = b->program;
    return p->has_first_relevance && is_layer(b, node) && reads_input(b, node) ? &p->first_relevance
                                                                               : &p->relevance;
}

static bool gives_relevance(const relevance_rule *rule)
{
    return rule->kind == RELEVANCE_FLAT || rule->kind == RELEVANCE_BOX;
}

xai_status relevance_check(builder *b)
{
    const plan *p = b->program;
    if (b->rule != ENGINE_RULE_LRP || !p->has_first_relevance)
        return XAI_OK;
    for (size_t i = 0; i < p->gradient_count; i++) {
        int readers[64];
        const int id = p->gradients[i];
        if (b->graph->values[id].producer != GRAPH_NONE)
            continue;
        const size_t count = graph_consumers(b->graph, id, readers, 64);
        for (size_t k = 0; k < count && k < 64; k++)
            if (!is_layer(b, &b->graph->nodes[readers[k]]))
                return error_set(b->error, XAI_ERROR_UNSUPPORTED, b->graph->nodes[readers[k]].place,
                                 "a rule for the first layer needs a model whose input is read by "
                                 "layers with weights only; use the rule of the other layers");
    }
    return XAI_OK;
}

/* A factor that says how much of the other one passes: what comes out of a sigmoid or softmax. */
static bool is_gate(const graph *g, int value)
{
    static const char *const gates[] = {"Sigmoid", "HardSigmoid", "Softmax"};
    static const char *const moves[] = {"Reshape", "Unsqueeze", "Squeeze",
                                        "Expand",  "Transpose", "Identity"};
    for (int steps = 0; steps < 8 && g->values[value].producer != GRAPH_NONE; steps++) {
        const graph_node *node = &g->nodes[g->values[value].producer];
        bool moved = false;
        for (size_t i = 0; i < sizeof gates / sizeof *gates; i++)
            if (node_is(node, "", gates[i]))
                return true;
        for (size_t i = 0; i < sizeof moves / sizeof *moves; i++)
            moved = moved || node_is(node, "", moves[i]);
        if (!moved)
            return false;
        value = node->inputs[0];
    }
    return false;
}

/* Arras et al. 2017: the signal takes all, its gate nothing. Otherwise Achtibat et al. 2024: each factor
 * half; also for the products of attention. */
void relevance_shares(const builder *b, const graph_node *node, double shares[2])
{
    shares[0] = shares[1] = 0.5;
    if (!node_is(node, "", "Mul"))
        return;
    const bool first = is_gate(b->graph, node->inputs[0]),
               second = is_gate(b->graph, node->inputs[1]);
    if (first != second) {
        shares[0] = first ? 0 : 1;
        shares[1] = first ? 1 : 0;
    }
}

/* 2 = 1 * 0 / (0 +- epsilon) */
static xai_status step_stabilise(const step *self, run *state, xai_error **error)
{
    (void)error;
    const float *z = run_address(state, self->operands[0]),
                *m = run_address(state, self->operands[1]);
    float *out = run_address(state, self->operands[2]);
    for (size_t i = 0; i < self->count; i++) {
        const float away = z[i] < 0 ? -self->epsilon : self->epsilon;
        out[i] = z[i] == 0 ? m[i] : m[i] * (z[i] / (z[i] + away));
    }
    return XAI_OK;
}

xai_status relevance_scale(builder *b, const unit *self, operand *gradient, bool *may_keep)
{
    const value_state *state = &b->values[self->output];
    operand z, target = *gradient;
    step *s = NULL;
    if (b->rule != ENGINE_RULE_LRP || !is_layer(b, &b->graph->nodes[self->node]))
        return XAI_OK;
    const size_t bytes = layout_bytes(b, self->output, state->primary);
    if (state->wants_gradient) {
        target = builder_buffer(b, bytes);
        *may_keep = true;
        if (target.buffer == BUFFER_NONE)
            return XAI_ERROR_MEMORY;
    }
    xai_status status = builder_input(b, self->output, state->primary, &z);
    if (status == XAI_OK)
        status = builder_step(b, step_stabilise, self->node, "stabilise", &s);
    if (status != XAI_OK)
        return status;
    s->count = bytes / sizeof(float);
    s->epsilon = (float)relevance_of(b, &b->graph->nodes[self->node])->epsilon;
    builder_read(b, s, 0, z);
    builder_read(b, s, 1, *gradient);
    builder_write(b, s, 2, target, bytes);
    *gradient = target;
    return XAI_OK;
}

/* 1 = 1 * 0 */
static xai_status step_times_value(const step *self, run *state, xai_error **error)
{
    (void)error;
    float *out = run_address(state, self->operands[1]);
    kernel_multiply(run_address(state, self->operands[0]), out, out, self->count, false,
                    state->program->threads);
    return XAI_OK;
}

xai_status relevance_finish(builder *b, int value, operand *gradient)
{
    const graph_value *v = &b->graph->values[value];
    operand place, target;
    size_t count = 0;
    step *s = NULL;
    shape_count(&v->shape, &count);
    xai_status status = builder_input(b, value, LAYOUT_PLAIN, &place);
    if (status == XAI_OK && v->dtype != DTYPE_FLOAT) {
        const operand from = place;
        place = builder_buffer(b, count * sizeof(float));
        if (place.buffer == BUFFER_NONE)
            return XAI_ERROR_MEMORY;
        status = builder_cast(b, from, v->dtype, place, DTYPE_FLOAT, count);
    }
    target = builder_buffer(b, count * sizeof(float));
    if (target.buffer == BUFFER_NONE)
        return XAI_ERROR_MEMORY;
    if (status == XAI_OK)
        status = builder_cast(b, *gradient, DTYPE_FLOAT, target, DTYPE_FLOAT, count);
    if (status == XAI_OK)
        status = builder_step(b, step_times_value, GRAPH_NONE, "times value", &s);
    if (status != XAI_OK)
        return status;
    s->count = count;
    builder_read(b, s, 0, place);
    builder_write(b, s, 1, target, count * sizeof(float));
    *gradient = target;
    return XAI_OK;
}

/* 2 (+)= 1 y / x, y = f(x), x = 0 */
static xai_status step_curve(const step *self, run *state, xai_error **error)
{
    (void)error;
    const float *x = run_address(state, self->operands[0]),
                *m = run_address(state, self->operands[1]),
                *y = run_address(state, self->operands[3]);
    float *out = run_address(state, self->operands[2]);
    const float beside[2] = {1e-3f, -1e-3f};
    float ends[2];
    kernel_activate(&self->post, beside, ends, 2, 1);
    const float slope = (ends[0] - ends[1]) / 2e-3f;
    for (size_t i = 0; i < self->count; i++) {
        const float away = x[i] < 0 ? x[i] - self->epsilon : x[i] + self->epsilon;
        float share = y[i] / x[i];
        if (fabsf(x[i]) <= 1e-7f)
            share = fabsf(y[i]) > 1e-5f ? y[i] / away : slope;
        out[i] = self->accumulate ? out[i] + share * m[i] : share * m[i];
    }
    return XAI_OK;
}

static xai_status curve(builder *b, const unit *self)
{
    const int x = b->graph->nodes[self->node].inputs[0];
    const layout form = b->values[self->output].primary;
    operand known, result, gradient, target;
    step *s = NULL;
    xai_status status = builder_input(b, x, form, &known);
    if (status == XAI_OK)
        status = builder_input(b, self->output, form, &result);
    if (status == XAI_OK)
        status = gradient_read(b, self->output, &gradient);
    target = builder_buffer(b, layout_bytes(b, x, form));
    if (target.buffer == BUFFER_NONE)
        return XAI_ERROR_MEMORY;
    if (status == XAI_OK)
        status = builder_step(b, step_curve, self->node, "curve", &s);
    if (status != XAI_OK)
        return status;
    s->post = self->post;
    s->count = layout_bytes(b, x, form) / sizeof(float);
    s->epsilon = fmaxf((float)b->program->relevance.epsilon, 1e-7f);
    builder_read(b, s, 0, known);
    builder_read(b, s, 1, gradient);
    builder_write(b, s, 2, target, s->count * sizeof(float));
    builder_read(b, s, 3, result);
    return gradient_add(b, x, target, form, true);
}

xai_status relevance_backward(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const relevance_role role = operator_relevance_role(node->definition);
    const bool product =
        node->input_count > 1 && node->inputs[0] != GRAPH_NONE && node->inputs[1] != GRAPH_NONE &&
        b->values[node->inputs[0]].needs_gradient && b->values[node->inputs[1]].needs_gradient;
    if (role == RELEVANCE_WEIGHTED && is_layer(b, node)) {
        const relevance_rule *rule = relevance_of(b, node);
        const int x = node->inputs[b->graph->values[node->inputs[0]].is_constant ? 1 : 0];
        if (gives_relevance(rule) && b->values[x].needs_gradient)
            b->values[x].holds_relevance = true;
        return rule->kind == RELEVANCE_EPSILON || relevance_splits(b, self)
                   ? self->emit_backward(b, self)
                   : lower_portable_backward(b, self);
    }
    if (role == RELEVANCE_WEIGHTED)
        return lower_portable_backward(b, self);
    if (role == RELEVANCE_PRODUCT && product && self->emit_backward != lower_gate_backward)
        return lower_portable_backward(b, self);
    if (role == RELEVANCE_CURVE && self->emit_backward == lower_activation_backward)
        return curve(b, self);
    if (role == RELEVANCE_STANDARDISE || (role == RELEVANCE_DIVIDE && product))
        return lower_portable_backward(b, self);
    return self->emit_backward(b, self);
}
