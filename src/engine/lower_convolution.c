/* Conv and ConvTranspose on oneDNN, with a following residual Add and activation fused. */
#include <string.h>

#include "base/error.h"
#include "engine/lower.h"
#include "engine/steps.h"

/* The residual Add behind a convolution, when its other operand is already made in the same
 * shape. */
static int fusable_add(builder *b, int value, int *other)
{
    const int next = builder_only_consumer(b, value);
    if (next == GRAPH_NONE || b->node_done[next])
        return GRAPH_NONE;
    const graph_node *node = &b->graph->nodes[next];
    if (!node_is(node, "", "Add"))
        return GRAPH_NONE;
    if (b->rule == ENGINE_RULE_LRP) /* reads the convolution's own output */
        return GRAPH_NONE;
    *other = node->inputs[0] == value ? node->inputs[1] : node->inputs[0];
    const value_state *state = &b->values[*other];
    const bool ready = state->slots[LAYOUT_BLOCKED].exists &&
                       !b->graph->values[*other].is_constant && state->primary == LAYOUT_BLOCKED;
    if (*other == value || !ready ||
        !shape_equal(&b->graph->values[*other].shape, &b->graph->values[node->outputs[0]].shape) ||
        b->values[node->outputs[0]].primary != LAYOUT_BLOCKED)
        return GRAPH_NONE;
    return next;
}

static bool is_transposed(const graph_node *node)
{
    return node_is(node, "", "ConvTranspose");
}

/* Where winograd's coefficients times the weights stay far from float32's end. */
#define FAST_WEIGHTS_LIMIT 1e30

/* Another algorithm than the direct sum may be taken: it mixes neighbours, so that non-finite numbers must be errors, and
 * other rules than the gradient stay with the direct sum. */
static bool may_be_fast(const builder *b, const primitive_spec *spec, const tensor *weights)
{
    const int64_t taps =
        spec->geometry.rank == 2 ? spec->geometry.kernel[0] * spec->geometry.kernel[1] : 0;
    return b->fast && b->program->guarded && b->rule == ENGINE_RULE_GRADIENT && taps == 9 &&
           spec->kind == PRIMITIVE_CONVOLUTION && weights->dtype == DTYPE_FLOAT &&
           guard_norm(spec, weights) < FAST_WEIGHTS_LIMIT;
}

static xai_status describe(builder *b, const graph_node *node, unit *self)
{
    const graph *g = b->graph;
    const shape *x = &g->values[node->inputs[0]].shape;
    xai_status status = lower_window(b, node, &self->geometry);
    if (status != XAI_OK)
        return status;
    self->spec = (primitive_spec){
        .kind = is_transposed(node) ? PRIMITIVE_DECONVOLUTION : PRIMITIVE_CONVOLUTION,
        .threads = b->program->threads,
        .geometry = self->geometry,
        .input_channels = x->dims[1],
        .output_channels = g->values[node->outputs[0]].shape.dims[1],
        .has_bias = node->input_count > 2 && node->inputs[2] != GRAPH_NONE,
        /* An image's one or three channels stay plain: padding them to a block would waste most
         * of the work. */
        .plain_input = !is_transposed(node) && b->values[node->inputs[0]].primary == LAYOUT_PLAIN &&
                       x->dims[1] <= 4 && self->geometry.groups == 1,
    };
    self->spec.fast = may_be_fast(b, &self->spec, &g->values[node->inputs[1]].constant);
    return XAI_OK;
}

/* The same convolution from the gradient of its output to that of its input. */
static primitive_spec backward_spec(const primitive_spec *forward)
{
    primitive_spec spec = *forward;
    spec.kind = spec.kind == PRIMITIVE_CONVOLUTION ? PRIMITIVE_CONVOLUTION_BACKWARD
                                                   : PRIMITIVE_DECONVOLUTION_BACKWARD;
    spec.has_bias = spec.add_other = false;
    spec.post.kind = ACTIVATION_NONE;
    return spec;
}

static xai_status backward(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const int x = node->inputs[0];
    operand gradient, weights, target = OPERAND_NONE;
    bool may_keep = false, accumulate = false;
    xai_status status = gradient_through(b, self, &gradient, &may_keep);
    if (status == XAI_OK && relevance_splits(b, self)) {
        const primitive_spec spec = backward_spec(&self->spec);
        return relevance_split(b, self, &spec, gradient);
    }
    if (status == XAI_OK)
        status = relevance_scale(b, self, &gradient, &may_keep);
    if (status == XAI_OK && b->values[x].needs_gradient) {
        const primitive_spec spec = backward_spec(&self->spec);
        const primitive *program = NULL;
        step *s = NULL;
        const layout form = spec.plain_input ? LAYOUT_PLAIN : LAYOUT_BLOCKED;
        const bool direct = form == b->values[x].primary && !gradient_exists(b, x);
        status = builder_primitive(b, &spec, &program);
        if (status == XAI_OK)
            status = builder_weights(b, program, &b->graph->values[node->inputs[1]].constant,
                                     &weights, NULL);
        if (status == XAI_OK && direct)
            status = gradient_write(b, x, &target, &accumulate);
        else if (status == XAI_OK) {
            target = builder_buffer(b, layout_bytes(b, x, form));
            status = target.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
        }
        if (status == XAI_OK)
            status =
                builder_step(b, step_primitive, self->node, primitive_implementation(program), &s);
        if (status != XAI_OK)
            return status;
        s->program = program;
        builder_read(b, s, 0, gradient);
        builder_read(b, s, 1, weights);
        builder_write(b, s, 2, target, layout_bytes(b, x, form));
        if (!direct)
            status = gradient_add(b, x, target, form, true);
    }
    if (status == XAI_OK && self->other != GRAPH_NONE && b->values[self->other].needs_gradient)
        status = gradient_give(b, self->other, gradient, may_keep);
    return status;
}

/* The largest fusion that oneDNN implements: with Add and activation, then without the
 * activation, then bare. */
static xai_status create(builder *b, unit *self, int add, int other, const primitive **program)
{
    const graph *g = b->graph;
    const int own = self->output;
    xai_status status = XAI_ERROR_UNSUPPORTED;
    for (int attempt = 0; attempt < 3 && status == XAI_ERROR_UNSUPPORTED; attempt++) {
        activation f = {ACTIVATION_NONE, 0, 0};
        const int sum = attempt < 2 ? add : GRAPH_NONE;
        int end = sum == GRAPH_NONE ? own : g->nodes[sum].outputs[0];
        /* Fused activations would hide a NaN that may pass. */
        const int act = attempt == 2 || !b->program->guarded || rule_reads_input(b, end)
                            ? GRAPH_NONE
                            : fusable_activation(b, end, &f);
        if (attempt > 0 && act == GRAPH_NONE && sum == add && attempt < 2)
            continue;
        if (attempt == 1) { /* the Add alone */
            f.kind = ACTIVATION_NONE;
        } else if (act != GRAPH_NONE) {
            end = g->nodes[act].outputs[0];
        }
        self->spec.add_other = sum != GRAPH_NONE;
        self->spec.post = self->post = f;
        if (attempt < 2 && !self->spec.add_other && f.kind == ACTIVATION_NONE)
            continue;
        self->other = sum == GRAPH_NONE ? GRAPH_NONE : other;
        self->output = end;
        error_clear(b->error);
        status = builder_primitive(b, &self->spec, program);
        if (status == XAI_OK && sum != GRAPH_NONE)
            b->node_done[sum] = true;
        if (status == XAI_OK && f.kind != ACTIVATION_NONE)
            b->node_done[act] = true;
    }
    return status;
}

/* One position in and out, as in squeeze-and-excitation: a matrix times a vector, which the own kernel does sooner than
 * oneDNN sets up its call. */
static bool is_vector(const graph *g, const graph_node *node, const unit *self)
{
    const graph_value *x = &g->values[node->inputs[0]], *y = &g->values[node->outputs[0]];
    return self->spec.kind == PRIMITIVE_CONVOLUTION && self->other == GRAPH_NONE &&
           self->geometry.groups == 1 && layout_spatial(x) == 1 && layout_spatial(y) == 1 &&
           tensor_count(&g->values[node->inputs[1]].constant) ==
               layout_channels(x) * layout_channels(y);
}

static xai_status step_channels(const step *self, run *state, xai_error **error)
{
    (void)error;
    float *y = run_address(state, self->operands[2]);
    kernel_matrix_vector(run_address(state, self->operands[1]),
                         run_address(state, self->operands[0]),
                         run_address(state, self->operands[3]), y, self->channels_to,
                         self->channels, state->program->threads);
    kernel_activate(&self->post, y, y, self->channels_to, 1);
    memset(y + self->channels_to, 0, (self->count - self->channels_to) * sizeof *y);
    return XAI_OK;
}

xai_status lower_convolution(builder *b, int index, bool *done)
{
    const graph *g = b->graph;
    const graph_node *node = &g->nodes[index];
    operand source, weights, destination, bias = OPERAND_NONE, other_place = OPERAND_NONE;
    const primitive *program = NULL;
    double norm = 0;
    step *s = NULL;
    *done = false;
    if ((!node_is(node, "", "Conv") && !is_transposed(node)) ||
        b->values[node->outputs[0]].primary != LAYOUT_BLOCKED)
        return XAI_OK;
    const bool constant_bias = node->input_count < 3 || node->inputs[2] == GRAPH_NONE ||
                               g->values[node->inputs[2]].is_constant;
    if (!constant_bias)
        return XAI_OK;
    unit self = {
        .emit_backward = backward, .node = index, .output = node->outputs[0], .other = GRAPH_NONE};
    xai_status status = describe(b, node, &self);
    if (status != XAI_OK)
        return status;
    int other = GRAPH_NONE;
    const int add = fusable_add(b, self.output, &other);
    if (b->values[node->inputs[0]].needs_gradient) { /* both directions, or neither */
        const primitive_spec opposite = backward_spec(&self.spec);
        status = builder_primitive(b, &opposite, &program);
    }
    if (status == XAI_OK)
        status = create(b, &self, add, other, &program);
    if (status == XAI_ERROR_UNSUPPORTED) { /* the portable kernel takes it */
        error_clear(b->error);
        return XAI_OK;
    }
    if (status != XAI_OK)
        return status;
    *done = true;
    status = builder_input(b, node->inputs[0],
                           self.spec.plain_input ? LAYOUT_PLAIN : LAYOUT_BLOCKED, &source);
    if (status == XAI_OK)
        status = builder_weights(b, program, &g->values[node->inputs[1]].constant, &weights, &norm);
    if (status == XAI_OK && self.spec.has_bias)
        status = builder_parameter(b, &g->values[node->inputs[2]].constant,
                                   primitive_bias_count(program), &bias);
    if (status == XAI_OK && self.other != GRAPH_NONE)
        status = builder_input(b, self.other, LAYOUT_BLOCKED, &other_place);
    if (status == XAI_OK)
        status = builder_output(b, self.output, LAYOUT_BLOCKED, &destination);
    const bool vector = is_vector(g, node, &self);
    if (status == XAI_OK && vector) {
        const tensor *w = &g->values[node->inputs[1]].constant;
        status = builder_constant(b, w, tensor_count(w), &weights);
    }
    if (status == XAI_OK)
        status = builder_step(b, vector ? step_channels : step_primitive, index,
                              vector ? "matrix vector" : primitive_implementation(program), &s);
    if (status != XAI_OK)
        return status;
    s->program = program;
    s->post = self.post;
    s->channels = layout_channels(&g->values[node->inputs[0]]);
    s->channels_to = layout_channels(&g->values[node->outputs[0]]);
    s->count = layout_bytes(b, self.output, LAYOUT_BLOCKED) / sizeof(float);
    builder_read(b, s, 0, source);
    builder_read(b, s, 1, weights);
    builder_read(b, s, 3, bias);
    builder_read(b, s, 4, other_place);
    builder_write(b, s, 2, destination, layout_bytes(b, self.output, LAYOUT_BLOCKED));
    status = guard_step(b, s, &self, bias.constant,
                        self.spec.has_bias ? primitive_bias_count(program) : 0,
                        self.spec.plain_input ? LAYOUT_PLAIN : LAYOUT_BLOCKED, norm);
    return status == XAI_OK ? builder_unit(b, &self) : status;
}
