/* Activations, per-channel scale and shift, sums, products and gates, concatenation over
 * channels. */
#include <string.h>

#include "base/error.h"
#include "engine/lower.h"
#include "engine/steps.h"

static xai_status step_activate_both(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_activate_both(
        &self->post, run_address(state, self->operands[0]), run_address(state, self->operands[1]),
        run_address(state, self->operands[2]), self->count, state->program->threads);
    return XAI_OK;
}

/* gx (+)= slopes gy */
static xai_status step_slopes(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_multiply(run_address(state, self->operands[0]), run_address(state, self->operands[1]),
                    run_address(state, self->operands[2]), self->count, self->accumulate,
                    state->program->threads);
    return XAI_OK;
}

/* The forward pass keeps the slopes of the curves that backward passes would compute anew, in place of their inputs. */
static bool keeps_slopes(const builder *b, const unit *self, int x)
{
    return b->any_gradient && b->values[x].needs_gradient && b->rule != ENGINE_RULE_DEEPLIFT &&
           b->rule != ENGINE_RULE_LRP && activation_gives_slopes(&self->post);
}

xai_status lower_activation(builder *b, int index, bool *done)
{
    const graph_node *node = &b->graph->nodes[index];
    operand source, destination;
    step *s = NULL;
    unit self = {.node = index,
                 .output = node->output_count ? node->outputs[0] : GRAPH_NONE,
                 .other = GRAPH_NONE};
    *done = false;
    if (b->reference || !activation_of_node(b->graph, node, &self.post) ||
        b->graph->values[self.output].dtype != DTYPE_FLOAT ||
        b->graph->values[node->inputs[0]].is_constant)
        return XAI_OK;
    *done = true;
    const layout form = b->values[self.output].primary;
    self.emit_backward = lower_activation_backward;
    xai_status status = builder_input(b, node->inputs[0], form, &source);
    if (status == XAI_OK)
        status = builder_output(b, self.output, form, &destination);
    self.keeps_slopes = keeps_slopes(b, &self, node->inputs[0]);
    if (status == XAI_OK && self.keeps_slopes) {
        self.slopes = builder_buffer(b, layout_bytes(b, self.output, form));
        status = self.slopes.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
    }
    if (status == XAI_OK)
        status = builder_step(b, self.keeps_slopes ? step_activate_both : step_activate, index,
                              "activation", &s);
    if (status != XAI_OK)
        return status;
    s->post = self.post;
    s->count = layout_bytes(b, self.output, form) / sizeof(float);
    if (form == LAYOUT_BLOCKED) {
        s->channels = layout_channels(&b->graph->values[self.output]);
        s->spatial = layout_spatial(&b->graph->values[self.output]);
    }
    builder_read(b, s, 0, source);
    builder_write(b, s, 1, destination, s->count * sizeof(float));
    if (self.keeps_slopes)
        builder_write(b, s, 2, self.slopes, s->count * sizeof(float));
    return builder_unit(b, &self);
}

xai_status lower_activation_backward(builder *b, const unit *self)
{
    const int x = b->graph->nodes[self->node].inputs[0];
    const layout form = b->values[self->output].primary;
    operand known, gradient, target;
    bool accumulate = false;
    step *s = NULL;
    activation post = self->post;
    if (b->rule == ENGINE_RULE_DEEPLIFT)
        return rescale_activation(b, self);
    const bool direct = b->values[x].primary == form;
    xai_status status = gradient_read(b, self->output, &gradient);
    if (status == XAI_OK)
        status = rule_guide(b, self, &gradient, &post);
    known = self->slopes;
    if (status == XAI_OK && !self->keeps_slopes)
        status = builder_input(b, activation_backward_uses_output(&post) ? self->output : x, form,
                               &known);
    if (status == XAI_OK && direct)
        status = gradient_write(b, x, &target, &accumulate);
    else if (status == XAI_OK) {
        target = builder_buffer(b, layout_bytes(b, x, form));
        status = target.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
    }
    if (status == XAI_OK)
        status = builder_step(b, self->keeps_slopes ? step_slopes : step_activate_backward,
                              self->node, "activation", &s);
    if (status != XAI_OK)
        return status;
    s->post = post;
    s->accumulate = accumulate;
    s->count = layout_bytes(b, x, form) / sizeof(float);
    builder_read(b, s, 0, known);
    builder_read(b, s, 1, gradient);
    builder_write(b, s, 2, target, s->count * sizeof(float));
    return direct ? XAI_OK : gradient_add(b, x, target, form, true);
}

/* ---- scale and shift ---- */

static xai_status step_scale_shift(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_scale_shift(run_address(state, self->operands[0]), run_address(state, self->operands[1]),
                       run_address(state, self->operands[2]), &self->post,
                       run_address(state, self->operands[3]), self->channels, self->spatial,
                       state->program->block, state->program->threads);
    return XAI_OK;
}

static xai_status step_scale_shift_backward(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_scale_shift_backward(
        run_address(state, self->operands[0]), run_address(state, self->operands[1]),
        run_address(state, self->operands[2]), &self->post, run_address(state, self->operands[3]),
        run_address(state, self->operands[4]), self->channels, self->spatial, state->program->block,
        self->accumulate, state->program->threads);
    return XAI_OK;
}

static xai_status scale_shift_backward(builder *b, const unit *self)
{
    const int x = b->graph->nodes[self->node].inputs[0];
    operand source, gradient, target;
    activation post = self->post;
    bool accumulate;
    step *s = NULL;
    if (b->rule == ENGINE_RULE_DEEPLIFT && post.kind == ACTIVATION_RELU)
        return rescale_scale_shift(b, self);
    xai_status status = builder_input(b, x, LAYOUT_BLOCKED, &source);
    if (status == XAI_OK)
        status = gradient_read(b, self->output, &gradient);
    if (status == XAI_OK)
        status = rule_guide(b, self, &gradient, &post);
    if (status == XAI_OK)
        status = gradient_write(b, x, &target, &accumulate);
    if (status == XAI_OK)
        status = builder_step(b, step_scale_shift_backward, self->node, "scale shift", &s);
    if (status != XAI_OK)
        return status;
    s->post = post;
    s->accumulate = accumulate;
    s->channels = layout_channels(&b->graph->values[x]);
    s->spatial = layout_spatial(&b->graph->values[x]);
    builder_read(b, s, 0, source);
    builder_read(b, s, 1, self->scale);
    builder_read(b, s, 2, self->shift);
    builder_read(b, s, 3, gradient);
    builder_write(b, s, 4, target, layout_bytes(b, x, LAYOUT_BLOCKED));
    return XAI_OK;
}

xai_status lower_scale_shift(builder *b, int index, bool *done)
{
    const graph *g = b->graph;
    const graph_node *node = &g->nodes[index];
    operand source, destination;
    step *s = NULL;
    *done = false;
    if (!node_is(node, "xai", "ScaleShift") ||
        b->values[node->outputs[0]].primary != LAYOUT_BLOCKED ||
        !g->values[node->inputs[1]].is_constant || !g->values[node->inputs[2]].is_constant)
        return XAI_OK;
    *done = true;
    unit self = {.emit_backward = scale_shift_backward,
                 .node = index,
                 .output = node->outputs[0],
                 .other = GRAPH_NONE};
    const int x = node->inputs[0];
    const size_t padded =
        layout_bytes(b, x, LAYOUT_BLOCKED) / sizeof(float) / layout_spatial(&g->values[x]);
    const int next = fusable_activation(b, self.output, &self.post);
    if (next != GRAPH_NONE &&
        (self.post.kind == ACTIVATION_RELU || !b->values[self.output].needs_gradient)) {
        self.output = g->nodes[next].outputs[0];
        b->node_done[next] = true;
    } else {
        self.post.kind = ACTIVATION_NONE;
    }
    xai_status status =
        builder_parameter(b, &g->values[node->inputs[1]].constant, padded, &self.scale);
    if (status == XAI_OK)
        status = builder_parameter(b, &g->values[node->inputs[2]].constant, padded, &self.shift);
    if (status == XAI_OK)
        status = builder_input(b, x, LAYOUT_BLOCKED, &source);
    if (status == XAI_OK)
        status = builder_output(b, self.output, LAYOUT_BLOCKED, &destination);
    if (status == XAI_OK)
        status = builder_step(b, step_scale_shift, index, "scale shift", &s);
    if (status != XAI_OK)
        return status;
    s->post = self.post;
    s->channels = layout_channels(&g->values[x]);
    s->spatial = layout_spatial(&g->values[x]);
    builder_read(b, s, 0, source);
    builder_read(b, s, 1, self.scale);
    builder_read(b, s, 2, self.shift);
    builder_write(b, s, 3, destination, layout_bytes(b, self.output, LAYOUT_BLOCKED));
    return builder_unit(b, &self);
}

/* ---- Add, Mul ---- */

static xai_status step_add(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_add(run_address(state, self->operands[0]), run_address(state, self->operands[1]),
               run_address(state, self->operands[2]), self->count, &self->post,
               state->program->threads);
    return XAI_OK;
}

static xai_status step_multiply(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_multiply(run_address(state, self->operands[0]), run_address(state, self->operands[1]),
                    run_address(state, self->operands[2]), self->count, self->accumulate,
                    state->program->threads);
    return XAI_OK;
}

static xai_status step_gate(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_gate(run_address(state, self->operands[0]), run_address(state, self->operands[1]),
                run_address(state, self->operands[2]), self->channels, self->spatial,
                state->program->block, state->program->threads);
    return XAI_OK;
}

static xai_status step_gate_backward(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_gate_backward(
        run_address(state, self->operands[0]), run_address(state, self->operands[1]),
        run_address(state, self->operands[2]), run_address(state, self->operands[3]),
        run_address(state, self->operands[4]), self->channels, self->spatial, state->program->block,
        self->accumulate, self->accumulate_other, state->program->threads);
    return XAI_OK;
}

static xai_status add_backward(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const layout form = b->values[self->output].primary;
    operand gradient;
    bool may_keep;
    xai_status status = gradient_through(b, self, &gradient, &may_keep);
    for (int i = 0; status == XAI_OK && i < 2; i++) {
        /* The last operand that needs it may take the buffer itself. */
        const bool last = i == 1 || !b->values[node->inputs[1]].needs_gradient;
        if (b->values[node->inputs[i]].needs_gradient)
            status = gradient_add(b, node->inputs[i], gradient, form, may_keep && last);
    }
    return status;
}

static xai_status multiply_backward(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const layout form = b->values[self->output].primary;
    operand gradient, other, target;
    xai_status status = gradient_read(b, self->output, &gradient);
    for (int i = 0; status == XAI_OK && i < 2; i++) {
        const int x = node->inputs[i];
        bool accumulate = false;
        step *s = NULL;
        if (!b->values[x].needs_gradient)
            continue;
        const bool direct = b->values[x].primary == form;
        status = builder_input(b, node->inputs[1 - i], form, &other);
        if (status == XAI_OK)
            status = rescale_mean(b, node->inputs[1 - i], form, &other);
        if (status == XAI_OK && direct)
            status = gradient_write(b, x, &target, &accumulate);
        else if (status == XAI_OK) {
            target = builder_buffer(b, layout_bytes(b, x, form));
            status = target.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
        }
        if (status == XAI_OK)
            status = builder_step(b, step_multiply, self->node, "multiply", &s);
        if (status != XAI_OK)
            return status;
        s->accumulate = accumulate;
        s->count = layout_bytes(b, x, form) / sizeof(float);
        builder_read(b, s, 0, gradient);
        builder_read(b, s, 1, other);
        builder_write(b, s, 2, target, s->count * sizeof(float));
        if (!direct)
            status = gradient_add(b, x, target, form, true);
    }
    return status;
}

/* spec.rows holds which input is the gated map; the other one is the gate. */
xai_status lower_gate_backward(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const int x = node->inputs[self->spec.rows], gate = node->inputs[1 - self->spec.rows];
    operand map, factor, gradient, map_target = OPERAND_NONE, gate_target = OPERAND_NONE;
    bool accumulate_map = false, accumulate_gate = false;
    step *s = NULL;
    xai_status status = builder_input(b, x, LAYOUT_BLOCKED, &map);
    if (status == XAI_OK)
        status = builder_input(b, gate, LAYOUT_BLOCKED, &factor);
    if (status == XAI_OK && b->values[gate].needs_gradient)
        status = rescale_mean(b, x, LAYOUT_BLOCKED, &map);
    if (status == XAI_OK)
        status = rescale_mean(b, gate, LAYOUT_BLOCKED, &factor);
    if (status == XAI_OK)
        status = gradient_read(b, self->output, &gradient);
    if (status == XAI_OK && b->values[x].needs_gradient)
        status = gradient_write(b, x, &map_target, &accumulate_map);
    const bool direct = b->values[gate].primary == LAYOUT_BLOCKED;
    /* LRP takes a gate as constant. */
    const bool wanted = b->values[gate].needs_gradient && b->rule != ENGINE_RULE_LRP;
    if (status == XAI_OK && wanted && direct)
        status = gradient_write(b, gate, &gate_target, &accumulate_gate);
    else if (status == XAI_OK && wanted) {
        gate_target = builder_buffer(b, layout_bytes(b, gate, LAYOUT_BLOCKED));
        status = gate_target.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
    }
    if (status == XAI_OK)
        status = builder_step(b, step_gate_backward, self->node, "gate", &s);
    if (status != XAI_OK)
        return status;
    s->channels = layout_channels(&b->graph->values[x]);
    s->spatial = layout_spatial(&b->graph->values[x]);
    s->accumulate = accumulate_map;
    s->accumulate_other = accumulate_gate;
    builder_read(b, s, 0, map);
    builder_read(b, s, 1, factor);
    builder_read(b, s, 2, gradient);
    builder_write(b, s, 3, map_target, layout_bytes(b, x, LAYOUT_BLOCKED));
    builder_write(b, s, 4, gate_target, 0);
    if (wanted && !direct)
        status = gradient_add(b, gate, gate_target, LAYOUT_BLOCKED, true);
    return status;
}

/* (1, C, 1, ...) against (1, C, spatial...) */
static bool is_gate(const graph_value *gate, const graph_value *map)
{
    return layout_can_block(gate) && layout_can_block(map) && gate->shape.rank == map->shape.rank &&
           layout_spatial(gate) == 1 && layout_channels(gate) == layout_channels(map);
}

xai_status lower_binary(builder *b, int index, bool *done)
{
    const graph *g = b->graph;
    const graph_node *node = &g->nodes[index];
    const bool add = node_is(node, "", "Add"), multiply = node_is(node, "", "Mul");
    operand first, second, destination;
    step *s = NULL;
    *done = false;
    if (b->reference || !(add || multiply) || g->values[node->outputs[0]].dtype != DTYPE_FLOAT)
        return XAI_OK;
    unit self = {.node = index, .output = node->outputs[0], .other = GRAPH_NONE};
    const layout form = b->values[self.output].primary;
    const graph_value *a = &g->values[node->inputs[0]], *c = &g->values[node->inputs[1]],
                      *y = &g->values[self.output];
    int map = -1; /* the input that a per-channel gate multiplies */
    if (!shape_equal(&a->shape, &c->shape)) {
        if (!multiply || form != LAYOUT_BLOCKED)
            return XAI_OK;
        map = is_gate(c, a) ? 0 : is_gate(a, c) ? 1 : -1;
        if (map < 0 || b->values[node->inputs[map]].primary != LAYOUT_BLOCKED)
            return XAI_OK;
    }
    *done = true;
    xai_status status = XAI_OK;
    if (add && form == LAYOUT_BLOCKED && !rule_reads_input(b, self.output)) {
        const int next = fusable_activation(b, self.output, &self.post);
        if (next != GRAPH_NONE && activation_keeps_zero(&self.post)) {
            self.output = g->nodes[next].outputs[0];
            b->node_done[next] = true;
        } else {
            self.post.kind = ACTIVATION_NONE;
        }
    }
    status = builder_input(b, node->inputs[map == 1 ? 1 : 0], form, &first);
    if (status == XAI_OK)
        status = builder_input(b, node->inputs[map == 1 ? 0 : 1], form, &second);
    if (status == XAI_OK)
        status = builder_output(b, self.output, form, &destination);
    /* Constants in plain layout may be unaligned views. */
    if (status == XAI_OK && first.constant)
        status = builder_constant(b, &a->constant, tensor_count(&a->constant), &first);
    if (status == XAI_OK && second.constant)
        status = builder_constant(b, &c->constant, tensor_count(&c->constant), &second);
    if (status == XAI_OK)
        status = builder_step(b,
                              map >= 0 ? step_gate
                              : add    ? step_add
                                       : step_multiply,
                              index,
                              map >= 0 ? "gate"
                              : add    ? "add"
                                       : "multiply",
                              &s);
    if (status != XAI_OK)
        return status;
    s->post = self.post;
    s->count = layout_bytes(b, self.output, form) / sizeof(float);
    if (map >= 0) {
        s->channels = layout_channels(y);
        s->spatial = layout_spatial(y);
    }
    builder_read(b, s, 0, first);
    builder_read(b, s, 1, second);
    builder_write(b, s, 2, destination, s->count * sizeof(float));
    self.spec.rows = map < 0 ? 0 : map;
    self.emit_backward = map >= 0 ? lower_gate_backward : add ? add_backward : multiply_backward;
    return builder_unit(b, &self);
}

/* ---- Concat over channels ---- */

static xai_status step_copy_channels(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_copy_channels(run_address(state, self->operands[0]), self->channels,
                         run_address(state, self->operands[1]), self->channels_to, self->count,
                         self->spatial, state->program->block, self->accumulate,
                         state->program->threads);
    return XAI_OK;
}

static xai_status copy_channels(builder *b, int node, operand from, size_t from_channel, operand to,
                                size_t to_channel, size_t count, size_t spatial, bool accumulate)
{
    step *s = NULL;
    xai_status status = builder_step(b, step_copy_channels, node, "copy channels", &s);
    if (status != XAI_OK)
        return status;
    s->channels = from_channel;
    s->channels_to = to_channel;
    s->count = count;
    s->spatial = spatial;
    s->accumulate = accumulate;
    builder_read(b, s, 0, from);
    builder_write(b, s, 1, to, count * spatial * sizeof(float));
    return XAI_OK;
}

/* Whether the piece at `channel` already lies in the concatenation's buffer. */
static bool in_place(const builder *b, int piece, int whole, size_t channel)
{
    const value_state *p = &b->values[piece], *w = &b->values[whole];
    const size_t block = (size_t)b->program->block;
    return p->home != GRAPH_NONE && p->home == w->home && channel % block == 0 &&
           p->home_block == w->home_block + channel / block;
}

static xai_status concat_backward(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const value_state *whole = &b->values[self->output];
    operand gradient, target;
    size_t channel = 0;
    xai_status status = gradient_read(b, self->output, &gradient);
    for (int i = 0; status == XAI_OK && i < node->input_count; i++) {
        const int piece = node->inputs[i];
        const graph_value *v = &b->graph->values[piece];
        const size_t channels = layout_channels(v), spatial = layout_spatial(v);
        const value_state *state = &b->values[piece];
        const bool shared = in_place(b, piece, self->output, channel) && !whole->own_gradient &&
                            !state->own_gradient;
        if (state->needs_gradient && !shared) {
            const size_t bytes = layout_bytes(b, piece, LAYOUT_BLOCKED);
            bool accumulate = false;
            const bool direct = state->primary == LAYOUT_BLOCKED;
            if (direct) {
                status = gradient_write(b, piece, &target, &accumulate);
            } else {
                target = builder_buffer(b, bytes);
                status = target.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
            }
            if (status == XAI_OK && !accumulate && channels % (size_t)b->program->block) {
                step *s = NULL; /* padded lanes */
                status = builder_step(b, step_zero, self->node, "zero", &s);
                if (status == XAI_OK) {
                    s->count = bytes;
                    builder_write(b, s, 0, target, bytes);
                }
            }
            if (status == XAI_OK)
                status = copy_channels(b, self->node, gradient, channel, target, 0, channels,
                                       spatial, accumulate);
            if (status == XAI_OK && !direct)
                status = gradient_add(b, piece, target, LAYOUT_BLOCKED, true);
        }
        channel += channels;
    }
    return status;
}

xai_status lower_concat(builder *b, int index, bool *done)
{
    const graph *g = b->graph;
    const graph_node *node = &g->nodes[index];
    operand destination, source;
    size_t channel = 0;
    *done = false;
    if (!node_is(node, "", "Concat") || b->values[node->outputs[0]].primary != LAYOUT_BLOCKED)
        return XAI_OK;
    *done = true;
    unit self = {.emit_backward = concat_backward,
                 .node = index,
                 .output = node->outputs[0],
                 .other = GRAPH_NONE};
    const size_t spatial = layout_spatial(&g->values[self.output]),
                 channels = layout_channels(&g->values[self.output]);
    const size_t block = (size_t)b->program->block;
    xai_status status = builder_output(b, self.output, LAYOUT_BLOCKED, &destination);
    const int last_piece = node->inputs[node->input_count - 1];
    bool padded =
        channels % block == 0 ||
        in_place(b, last_piece, self.output, channels - layout_channels(&g->values[last_piece]));
    for (int i = 0; status == XAI_OK && i < node->input_count; i++) {
        const int piece = node->inputs[i];
        const size_t count = layout_channels(&g->values[piece]);
        if (!in_place(b, piece, self.output, channel)) {
            status = builder_input(b, piece, LAYOUT_BLOCKED, &source);
            if (status == XAI_OK && !padded) {
                /* The last block's padded lanes, before anything is copied over it. */
                step *s = NULL;
                operand last = destination;
                last.offset += channels / block * spatial * block * sizeof(float);
                status = builder_step(b, step_zero, index, "zero", &s);
                if (status == XAI_OK) {
                    s->count = spatial * block * sizeof(float);
                    builder_write(b, s, 0, last, s->count);
                    padded = true;
                }
            }
            if (status == XAI_OK)
                status =
                    copy_channels(b, index, source, 0, destination, channel, count, spatial, false);
        }
        channel += count;
    }
    return status == XAI_OK ? builder_unit(b, &self) : status;
}
