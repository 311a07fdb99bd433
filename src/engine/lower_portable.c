/* Any operator through its portable kernel on plain tensors, and operators that only rename
 * bytes. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/lower.h"
#include "ops/rescale.h"

/* Tensors of one call without data; step_portable binds `places` to a run. `tensors` holds the
 * inputs, the outputs, then (backward) the output gradients and the input gradients; dtype
 * DTYPE_UNDEFINED = absent. */
struct portable {
    const graph *graph;
    const graph_node *node;
    bool backward, rescale;
    const relevance_rule *relevance; /* LRP, else NULL */
    double shares[2];
    size_t count;
    tensor *tensors;
    operand *places;
    const void *prepared;
};

static xai_status step_portable(const step *self, run *state, xai_error **error)
{
    const portable *p = self->call;
    const size_t inputs = (size_t)p->node->input_count, outputs = (size_t)p->node->output_count;
    tensor *bound = memory_allocate(p->count + 1, sizeof *bound);
    const tensor **pointers = memory_allocate_zeroed(p->count + inputs + 1, sizeof *pointers);
    tensor *against = memory_allocate(inputs + 1, sizeof *against); /* of a baseline */
    xai_status status;
    if (!bound || !pointers || !against) {
        status = error_memory(error, "operator call", p->count * sizeof *bound);
        goto done;
    }
    for (size_t i = 0; i < p->count; i++) {
        bound[i] = p->tensors[i];
        if (bound[i].dtype == DTYPE_UNDEFINED)
            continue;
        pointers[i] = &bound[i];
        bound[i].data = run_address(state, p->places[i]);
        if (!p->rescale || i >= inputs)
            continue;
        against[i] = bound[i];
        against[i].data = (void *)(uintptr_t)run_baseline_address(state, p->places[i]);
        pointers[p->count + i] = &against[i];
    }
    operator_call call = {
        .definition = p->node->definition,
        .attributes = p->node->attributes,
        .attribute_count = p->node->attribute_count,
        .opset = p->node->opset,
        .input_count = (int)inputs,
        .output_count = (int)outputs,
        .inputs = pointers,
        .outputs = (tensor *const *)(pointers + inputs),
        .output_gradients = p->backward ? pointers + inputs + outputs : NULL,
        .input_gradients = p->backward ? (tensor *const *)(pointers + inputs + 2 * outputs) : NULL,
        .prepared = p->prepared,
        .place = p->node->place,
        .error = error,
    };
    if (p->rescale)
        status = operator_rescale(&call, pointers + p->count);
    else if (p->relevance)
        status = operator_relevance(&call, p->relevance, p->shares);
    else
        status = p->backward ? p->node->definition->backward(&call)
                             : p->node->definition->forward(&call);
done:
    memory_free(against);
    memory_free(bound);
    memory_free(pointers);
    return status;
}

static xai_status portable_create(builder *b, int index, bool backward, portable **out)
{
    const graph_node *node = &b->graph->nodes[index];
    const size_t count =
        ((size_t)node->input_count + (size_t)node->output_count) * (backward ? 2 : 1);
    portable *self = memory_pool_allocate(b->program->pool, 1, sizeof *self);
    if (self) {
        self->tensors = memory_pool_allocate(b->program->pool, count + 1, sizeof *self->tensors);
        self->places = memory_pool_allocate(b->program->pool, count + 1, sizeof *self->places);
    }
    if (!self || !self->tensors || !self->places)
        return error_memory(b->error, "operator call", count * sizeof(tensor));
    self->graph = b->graph;
    self->node = node;
    self->backward = backward;
    self->count = count;
    for (size_t i = 0; i < count; i++)
        self->places[i] = OPERAND_NONE;
    *out = self;
    return XAI_OK;
}

static void set_tensor(const builder *b, portable *self, size_t at, int value, operand place)
{
    const graph_value *v = &b->graph->values[value];
    self->tensors[at] = (tensor){.dtype = v->dtype, .shape = v->shape};
    self->places[at] = place;
}

/* Lifetimes: every place is touched through operand 0 (reads) or 1 (writes) of the step. */
static void touch_places(builder *b, step *s, const portable *self, size_t begin, size_t end,
                         bool write)
{
    for (size_t i = begin; i < end; i++) {
        if (self->tensors[i].dtype == DTYPE_UNDEFINED)
            continue;
        if (write)
            builder_write(b, s, 1, self->places[i], tensor_bytes(&self->tensors[i]));
        else
            builder_read(b, s, 0, self->places[i]);
    }
    s->operands[0] = s->operands[1] = OPERAND_NONE;
}

/* String tensors cannot live in the arena; their few uses (labels) are folded or unsupported. */
static xai_status check_type(builder *b, const graph_node *node, int value)
{
    const graph_value *v = &b->graph->values[value];
    if (dtype_size(v->dtype) == 0)
        return error_set(b->error, XAI_ERROR_UNSUPPORTED, node->place,
                         "value '%s' has an element type (%s) that cannot be computed", v->name,
                         dtype_name(v->dtype));
    return XAI_OK;
}

/* The gradient of a value in plain layout. */
static xai_status plain_gradient(builder *b, int value, operand *out)
{
    operand primary;
    xai_status status = gradient_read(b, value, &primary);
    if (status != XAI_OK || b->values[value].primary == LAYOUT_PLAIN) {
        *out = primary;
        return status;
    }
    *out = builder_buffer(b, layout_bytes(b, value, LAYOUT_PLAIN));
    if (out->buffer == BUFFER_NONE)
        return XAI_ERROR_MEMORY;
    return builder_convert(b, value, primary, LAYOUT_BLOCKED, *out, LAYOUT_PLAIN);
}

/* Which values a rule reads: besides what the gradient does, all inputs where it has formulas of
 * its own. operator_rescale() reads no outputs. */
static bool reads(const builder *b, const graph_node *node, bool output, int i)
{
    if (b->rule == ENGINE_RULE_DEEPLIFT &&
        operator_rescale_kind(node->definition) != RESCALE_MIDDLE)
        return !output;
    const relevance_role role = operator_relevance_role(node->definition);
    if (b->rule == ENGINE_RULE_LRP && role != RELEVANCE_LINEAR && role != RELEVANCE_UNRULED &&
        !output)
        return true;
    const uint32_t bit =
        output ? OPERATOR_READS_OUTPUT(i < 15 ? i : 15) : OPERATOR_READS_INPUT(i < 15 ? i : 15);
    return (node->definition->backward_reads & bit) != 0;
}

/* A ReLU under a guided rule: *out is its gradient with what is not positive taken away, or the
 * work is *finished with that. */
static xai_status guide(builder *b, const unit *self, operand *out, bool *finished)
{
    const graph_node *node = &b->graph->nodes[self->node];
    activation post;
    if (!rule_is_guided(b))
        return XAI_OK;
    if (node_is(node, "", "Relu") && b->graph->values[self->output].dtype != DTYPE_FLOAT)
        return error_set(b->error, XAI_ERROR_UNSUPPORTED, node->place,
                         "guided backpropagation and deconvnet need a model in float32");
    if (!activation_of_node(b->graph, node, &post))
        return XAI_OK;
    operand gradient;
    xai_status status = plain_gradient(b, self->output, &gradient);
    const operand before = gradient;
    const activation_kind kind = post.kind;
    if (status == XAI_OK)
        status = rule_guide(b, self, &gradient, &post);
    if (status != XAI_OK)
        return status;
    if (post.kind != kind) { /* passed over */
        *finished = true;
        return gradient_add(b, node->inputs[0], gradient, LAYOUT_PLAIN,
                            gradient.buffer != before.buffer);
    }
    *out = gradient;
    return XAI_OK;
}

xai_status lower_portable_backward(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const size_t inputs = (size_t)node->input_count, outputs = (size_t)node->output_count;
    const bool rescale = b->rule == ENGINE_RULE_DEEPLIFT;
    portable *call = NULL;
    step *s = NULL;
    operand place, guided = OPERAND_NONE;
    bool finished = false;
    if (!node->definition->backward)
        return error_set(b->error, XAI_ERROR_UNSUPPORTED, node->place,
                         "this operator has no gradient");
    xai_status status = guide(b, self, &guided, &finished);
    if (status != XAI_OK || finished)
        return status;
    status = portable_create(b, self->node, true, &call);
    if (status == XAI_OK) {
        call->rescale = rescale;
        if (rescale && operator_rescale_kind(node->definition) == RESCALE_PATH)
            status = rule_note_unruled(b, node);
        if (b->rule == ENGINE_RULE_LRP) {
            call->relevance = relevance_of(b, node);
            relevance_shares(b, node, call->shares);
            if (operator_relevance_role(node->definition) == RELEVANCE_UNRULED)
                status = rule_note_unruled(b, node);
        }
    }
    for (int i = 0; status == XAI_OK && i < node->input_count; i++) {
        if (node->inputs[i] == GRAPH_NONE)
            continue;
        place = OPERAND_NONE;
        if (reads(b, node, false, i) || b->graph->values[node->inputs[i]].is_constant)
            status = builder_input(b, node->inputs[i], LAYOUT_PLAIN, &place);
        set_tensor(b, call, (size_t)i, node->inputs[i], place);
    }
    for (int i = 0; status == XAI_OK && i < node->output_count; i++) {
        const int y = node->outputs[i];
        if (y == GRAPH_NONE)
            continue;
        place = OPERAND_NONE;
        if (reads(b, node, true, i))
            status = builder_input(b, y, LAYOUT_PLAIN, &place);
        set_tensor(b, call, inputs + (size_t)i, y, place);
        if (status == XAI_OK && gradient_exists(b, y)) {
            place = guided;
            if (guided.buffer == BUFFER_NONE)
                status = plain_gradient(b, y, &place);
            set_tensor(b, call, inputs + outputs + (size_t)i, y, place);
        }
    }
    for (int i = 0; status == XAI_OK && i < node->input_count; i++) {
        const int x = node->inputs[i];
        if (x == GRAPH_NONE || !b->values[x].needs_gradient)
            continue;
        place = builder_buffer(b, layout_bytes(b, x, LAYOUT_PLAIN));
        if (place.buffer == BUFFER_NONE)
            return XAI_ERROR_MEMORY;
        set_tensor(b, call, inputs + 2 * outputs + (size_t)i, x, place);
    }
    if (status == XAI_OK)
        status = builder_step(b, step_portable, self->node, "portable", &s);
    if (status != XAI_OK)
        return status;
    s->call = call;
    touch_places(b, s, call, 0, inputs + 2 * outputs, false);
    touch_places(b, s, call, inputs + 2 * outputs, call->count, true);
    for (size_t i = 0; status == XAI_OK && i < inputs; i++) {
        const size_t at = inputs + 2 * outputs + i;
        if (call->tensors[at].dtype != DTYPE_UNDEFINED)
            status = gradient_add(b, node->inputs[i], call->places[at], LAYOUT_PLAIN, true);
    }
    return status;
}

/* Trained parameters must be finite, variances not negative: a later fused ReLU would hide the
 * NaN they make. Other constants may be infinite, such as an attention mask. */
static xai_status check_parameters(builder *b, const graph_node *node)
{
    static const char *const trained[] = {"Conv",
                                          "ConvTranspose",
                                          "Gemm",
                                          "MatMul",
                                          "BatchNormalization",
                                          "InstanceNormalization",
                                          "LayerNormalization",
                                          "GroupNormalization",
                                          "PRelu"};
    bool is_trained = false;
    for (size_t i = 0; i < sizeof trained / sizeof *trained; i++)
        is_trained = is_trained || node_is(node, "", trained[i]);
    for (int i = 1; is_trained && i < node->input_count; i++) {
        const graph_value *v =
            node->inputs[i] == GRAPH_NONE ? NULL : &b->graph->values[node->inputs[i]];
        if (v == NULL || !v->is_constant || !dtype_is_float(v->dtype))
            continue;
        const xai_status status = builder_check_finite(b, &v->constant);
        if (status != XAI_OK)
            return status;
        float variance = 0;
        for (size_t c = 0; i == 4 && node_is(node, "", "BatchNormalization") && variance >= 0 &&
                           c < tensor_count(&v->constant);
             c++)
            tensor_read_floats(&v->constant, c, 1, &variance);
        if (variance < 0)
            return error_set(b->error, XAI_ERROR_NUMERIC, node->place,
                             "the variance '%s' is negative", v->name);
    }
    return XAI_OK;
}

/* What the operator makes of its attributes once for all runs. */
static xai_status prepare(builder *b, portable *self)
{
    const graph_node *node = self->node;
    if (!(node->definition->flags & OPERATOR_PREPARES))
        return XAI_OK;
    const operator_call call = {.definition = node->definition,
                                .attributes = node->attributes,
                                .attribute_count = node->attribute_count,
                                .opset = node->opset,
                                .place = node->place,
                                .error = b->error};
    return operator_prepare(&call, b->program->pool, &self->prepared);
}

xai_status lower_portable(builder *b, int index, bool *done)
{
    const graph_node *node = &b->graph->nodes[index];
    const size_t inputs = (size_t)node->input_count;
    portable *call = NULL;
    step *s = NULL;
    operand place;
    *done = true;
    unit self = {.emit_backward = lower_portable_backward,
                 .node = index,
                 .output = GRAPH_NONE,
                 .other = GRAPH_NONE};
    if (!node->definition->forward)
        return error_set(b->error, XAI_ERROR_UNSUPPORTED, node->place,
                         "this operator has no kernel");
    xai_status status = check_parameters(b, node);
    if (status == XAI_OK)
        status = portable_create(b, index, false, &call);
    if (status == XAI_OK)
        status = prepare(b, call);
    for (int i = 0; status == XAI_OK && i < node->input_count; i++) {
        if (node->inputs[i] == GRAPH_NONE)
            continue;
        status = check_type(b, node, node->inputs[i]);
        if (status == XAI_OK)
            status = builder_input(b, node->inputs[i], LAYOUT_PLAIN, &place);
        if (status == XAI_OK)
            set_tensor(b, call, (size_t)i, node->inputs[i], place);
    }
    for (int i = 0; status == XAI_OK && i < node->output_count; i++) {
        if (node->outputs[i] == GRAPH_NONE)
            continue;
        status = check_type(b, node, node->outputs[i]);
        if (status == XAI_OK)
            status = builder_output(b, node->outputs[i], LAYOUT_PLAIN, &place);
        if (status == XAI_OK)
            set_tensor(b, call, inputs + (size_t)i, node->outputs[i], place);
        if (self.output == GRAPH_NONE)
            self.output = node->outputs[i];
    }
    if (status == XAI_OK)
        status = builder_step(b, step_portable, index, "portable", &s);
    if (status != XAI_OK)
        return status;
    s->call = call;
    touch_places(b, s, call, 0, inputs, false);
    touch_places(b, s, call, inputs, call->count, true);
    for (int i = 0; status == XAI_OK && i < node->output_count; i++)
        if (node->outputs[i] != GRAPH_NONE)
            status = builder_finish(b, node->outputs[i], LAYOUT_PLAIN);
    return status == XAI_OK ? builder_unit(b, &self) : status;
}

/* ---- operators that keep the bytes ---- */

/* (1, C, 1, ...) in blocks: the same bytes as plain, so that the head of a network costs no
 * copy. */
static xai_status view_backward(builder *b, const unit *self)
{
    const int x = b->graph->nodes[self->node].inputs[0];
    const graph_value *v = &b->graph->values[x];
    operand gradient;
    xai_status status = plain_gradient(b, self->output, &gradient);
    if (status != XAI_OK)
        return status;
    const bool may_keep = !b->values[self->output].wants_gradient;
    if (b->values[x].primary == LAYOUT_PLAIN)
        return gradient_give(b, x, gradient, may_keep);
    (void)v;
    return gradient_add(b, x, gradient, LAYOUT_PLAIN, may_keep);
}

xai_status lower_view(builder *b, int index, bool *done)
{
    const graph *g = b->graph;
    const graph_node *node = &g->nodes[index];
    operand place;
    *done = false;
    if (!(node->definition->flags & OPERATOR_VIEW) || node->output_count < 1 ||
        node->outputs[0] == GRAPH_NONE || g->values[node->inputs[0]].is_constant ||
        b->values[node->outputs[0]].primary != LAYOUT_PLAIN ||
        g->values[node->inputs[0]].dtype != g->values[node->outputs[0]].dtype)
        return XAI_OK;
    for (int i = 1; i < node->output_count; i++)
        if (node->outputs[i] != GRAPH_NONE)
            return XAI_OK;
    *done = true;
    const unit self = {.emit_backward = view_backward,
                       .node = index,
                       .output = node->outputs[0],
                       .other = GRAPH_NONE};
    xai_status status = builder_input(b, node->inputs[0], LAYOUT_PLAIN, &place);
    if (status != XAI_OK)
        return status;
    b->values[self.output].slots[LAYOUT_PLAIN] = (slot){true, place};
    return builder_unit(b, &self);
}
