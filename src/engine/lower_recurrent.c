/* RNN, GRU and LSTM: W x of all steps and directions as one matrix product, then the recurrence on own kernels; backward the
 * recurrence, then one product. One row, constant weights, the standard's activations; anything else is portable. */
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "engine/kernels_recurrent.h"
#include "engine/lower.h"
#include "engine/steps.h"

enum { X, W, R, B, LENGTHS, H0, C0, P };

static int input(const graph_node *node, int i)
{
    return i < node->input_count ? node->inputs[i] : GRAPH_NONE;
}

static int output(const graph_node *node, int i)
{
    return i < node->output_count ? node->outputs[i] : GRAPH_NONE;
}

/* Sigmoid for the gates and Tanh for the rest, in every direction. */
static bool has_standard_activations(const operator_call *call, size_t gates)
{
    const onnx_attribute *names = operator_attribute(call, "activations");
    const size_t each = gates == 1 ? 1 : gates == 3 ? 2 : 3;
    for (size_t i = 0; names && i < names->count; i++)
        if (names->type != ONNX_ATTRIBUTE_STRINGS ||
            strcmp(names->strings[i], gates > 1 && i % each == 0 ? "Sigmoid" : "Tanh") != 0)
            return false;
    return true;
}

static xai_status describe(const builder *b, const graph_node *node, recurrence *out, bool *known)
{
    const shape *x = &b->graph->values[node->inputs[X]].shape,
                *r = &b->graph->values[node->inputs[R]].shape;
    node_call call;
    const char *direction = NULL;
    int64_t rows_first = 0, input_forget = 0, reset_last = 0;
    float clip = 0;
    xai_status status = node_call_open(b->graph, node, &call, b->error);
    if (status != XAI_OK)
        return status;
    status = operator_attribute_text(&call.call, "direction", "forward", &direction);
    if (status == XAI_OK)
        status = operator_attribute_int(&call.call, "layout", 0, &rows_first);
    if (status == XAI_OK)
        status = operator_attribute_float(&call.call, "clip", 0, &clip);
    if (status == XAI_OK)
        status = operator_attribute_int(&call.call, "input_forget", 0, &input_forget);
    if (status == XAI_OK)
        status = operator_attribute_int(&call.call, "linear_before_reset", 0, &reset_last);
    *out = (recurrence){.directions = (size_t)r->dims[0],
                        .width = (size_t)r->dims[2],
                        .steps = (size_t)x->dims[rows_first ? 1 : 0]};
    out->gates = node_is(node, "", "LSTM") ? 4 : node_is(node, "", "GRU") ? 3 : 1;
    out->backward_first = status == XAI_OK && strcmp(direction, "reverse") == 0;
    *known = status == XAI_OK && clip == 0 && input_forget == 0 &&
             (out->gates != 3 || reset_last != 0) && x->dims[rows_first ? 0 : 1] == 1 &&
             has_standard_activations(&call.call, out->gates);
    node_call_close(&call);
    return status;
}

/* --- weights --- */

typedef struct packing {
    const recurrence *of;
    bool back;
} packing;

static xai_status pack(const void *user, const tensor *source, void *prepared, xai_error **error)
{
    const packing *self = user;
    const recurrence *of = self->of;
    const size_t each = of->gates * of->width * of->width;
    float *r = memory_allocate(each, sizeof *r), *out = prepared;
    if (!r)
        return error_memory(error, "recurrent weights", each * sizeof *r);
    for (size_t d = 0; d < of->directions; d++) {
        tensor_read_floats(source, d * each, each, r);
        if (self->back) {
            kernel_recurrent_pack_back(r, out, of->gates, of->width);
            out += kernel_recurrent_packed_back(of->gates, of->width);
        } else {
            kernel_recurrent_pack(r, out, of->gates, of->width);
            out += kernel_recurrent_packed(of->gates, of->width);
        }
    }
    memory_free(r);
    return XAI_OK;
}

/* The biases of W x and R h together; that of GRU's hidden gate is inside its product. */
static xai_status add_biases(const void *user, const tensor *source, void *prepared,
                             xai_error **error)
{
    const recurrence *of = user;
    const size_t all = of->gates * of->width;
    float *out = prepared;
    (void)error;
    for (size_t d = 0; d < of->directions; d++)
        for (size_t k = 0; k < all; k++) {
            const double own = tensor_get(source, d * 2 * all + k),
                         other = tensor_get(source, (d * 2 + 1) * all + k);
            out[d * all + k] = (float)(of->gates == 3 && k >= 2 * of->width ? own : own + other);
        }
    return XAI_OK;
}

static xai_status prepared(builder *b, int value, const char *what, const recurrence *of,
                           size_t bytes, weights_prepare how, const void *user, operand *out)
{
    text key = {0};
    *out = OPERAND_NONE;
    text_format(&key, "%s %zu %zu %zu %c", what, of->gates, of->directions, of->width,
                'A' + (char)b->graph->values[value].dtype);
    char *name = text_take(&key);
    if (!name)
        return error_memory(b->error, "plan", 64);
    const xai_status status = network_weights(b->program->net, &b->graph->values[value].constant,
                                              name, bytes, how, user, &out->constant, b->error);
    memory_free(name);
    return status;
}

/* --- steps --- */

static recurrence recurrence_of(const step *self)
{
    return (recurrence){.gates = self->channels,
                        .steps = self->count,
                        .directions = self->spatial,
                        .width = self->channels_to,
                        .backward_first = self->include_pad};
}

static void set_recurrence(step *self, const recurrence *how)
{
    self->channels = how->gates;
    self->count = how->steps;
    self->spatial = how->directions;
    self->channels_to = how->width;
    self->include_pad = how->backward_first;
    self->operations =
        2.0 * (double)(how->steps * how->directions * how->gates * how->width * how->width);
}

/* 0 = W x and biases, 1 = trace, 2 = R packed, 3 = B, 4 = h0, 5 = c0, 6 = Y, 7 = Y_h, 8 = Y_c */
static xai_status step_recurrent(const step *self, run *state, xai_error **error)
{
    const recurrence how = recurrence_of(self);
    const recurrent_state from = {.packed = run_address(state, self->operands[2]),
                                  .bias = run_address(state, self->operands[3]),
                                  .h0 = run_address(state, self->operands[4]),
                                  .c0 = run_address(state, self->operands[5])};
    (void)error;
    kernel_recurrent(&how, &from, run_address(state, self->operands[0]),
                     run_address(state, self->operands[1]), run_address(state, self->operands[6]),
                     run_address(state, self->operands[7]), run_address(state, self->operands[8]),
                     state->program->threads);
    return XAI_OK;
}

/* 0 = gradient of W x, 1 = trace, 2 = R packed, 3 = scratch, 4 = h0, 5 = c0, 6 to 8 = gradients of Y, Y_h, Y_c */
static xai_status step_recurrent_backward(const step *self, run *state, xai_error **error)
{
    const recurrence how = recurrence_of(self);
    const recurrent_state from = {.packed_back = run_address(state, self->operands[2]),
                                  .h0 = run_address(state, self->operands[4]),
                                  .c0 = run_address(state, self->operands[5])};
    const recurrent_arriving arriving = {.y = run_address(state, self->operands[6]),
                                         .h = run_address(state, self->operands[7]),
                                         .c = run_address(state, self->operands[8])};
    (void)error;
    kernel_recurrent_backward(&how, &from, run_address(state, self->operands[1]), &arriving,
                              run_address(state, self->operands[0]),
                              run_address(state, self->operands[3]), state->program->threads);
    return XAI_OK;
}

/* W x (T, D G H), or its gradient times W (T, I). */
static xai_status product(builder *b, const graph_node *node, const recurrence *how, bool back,
                          const primitive **out)
{
    const shape *w = &b->graph->values[node->inputs[W]].shape;
    const int64_t all = w->dims[0] * w->dims[1], width = w->dims[2];
    const primitive_spec spec = {.kind = PRIMITIVE_MATMUL,
                                 .threads = b->program->threads,
                                 .batch = 1,
                                 .rows = (int64_t)how->steps,
                                 .columns = back ? width : all,
                                 .depth = back ? all : width,
                                 .transpose_b = !back,
                                 .shared_b = true,
                                 .constant_weights = true,
                                 .has_bias = !back && input(node, B) != GRAPH_NONE};
    return builder_primitive(b, &spec, out);
}

static xai_status initial_states(builder *b, const graph_node *node, step *s)
{
    operand place;
    for (int i = 0; i < 2; i++) {
        if (input(node, H0 + i) == GRAPH_NONE)
            continue;
        const xai_status status = builder_input(b, node->inputs[H0 + i], LAYOUT_PLAIN, &place);
        if (status != XAI_OK)
            return status;
        builder_read(b, s, 4 + i, place);
    }
    return XAI_OK;
}

/* --- backward --- */

static xai_status backward(builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const int x = node->inputs[X];
    const primitive *program = NULL;
    recurrence how;
    bool known = false;
    step *s = NULL;
    operand packed, weights, place[3] = {OPERAND_NONE, OPERAND_NONE, OPERAND_NONE};
    for (int i = 0; i < 2; i++)
        if (input(node, H0 + i) != GRAPH_NONE && b->values[node->inputs[H0 + i]].needs_gradient)
            return lower_portable_backward(b, self);
    if (b->rule == ENGINE_RULE_DEEPLIFT || b->rule == ENGINE_RULE_LRP)
        return lower_portable_backward(b, self);
    if (!b->values[x].needs_gradient)
        return XAI_OK;
    xai_status status = describe(b, node, &how, &known);
    if (status == XAI_OK)
        status = product(b, node, &how, true, &program);
    if (status == XAI_ERROR_UNSUPPORTED) {
        error_clear(b->error);
        return lower_portable_backward(b, self);
    }
    const size_t all = how.gates * how.directions * how.width;
    const packing packs = {&how, true};
    if (status == XAI_OK)
        status = builder_weights(b, program, &b->graph->values[node->inputs[W]].constant, &weights,
                                 NULL);
    if (status == XAI_OK)
        status = prepared(b, node->inputs[R], "recurrent back", &how,
                          how.directions * kernel_recurrent_packed_back(how.gates, how.width) *
                              sizeof(float),
                          pack, &packs, &packed);
    for (int i = 0; i < 3 && status == XAI_OK; i++)
        if (output(node, i) != GRAPH_NONE && gradient_exists(b, node->outputs[i]))
            status = read_plain_gradient(b, node->outputs[i], &place[i]);
    const operand sums = builder_buffer(b, how.steps * all * sizeof(float)),
                  scratch = builder_buffer(b, kernel_recurrent_scratch(&how) * sizeof(float)),
                  target = builder_buffer(b, layout_bytes(b, x, LAYOUT_PLAIN));
    if (sums.buffer == BUFFER_NONE || scratch.buffer == BUFFER_NONE || target.buffer == BUFFER_NONE)
        return XAI_ERROR_MEMORY;
    if (status == XAI_OK)
        status = builder_step(b, step_recurrent_backward, self->node, "recurrent", &s);
    if (status == XAI_OK)
        status = initial_states(b, node, s);
    if (status != XAI_OK)
        return status;
    set_recurrence(s, &how);
    builder_read(b, s, 1, self->factors);
    builder_read(b, s, 2, packed);
    builder_read(b, s, 3, scratch);
    for (int i = 0; i < 3; i++)
        builder_read(b, s, 6 + i, place[i]);
    builder_write(b, s, 0, sums, how.steps * all * sizeof(float));
    status = lower_product(b, self->node, program, sums, weights, OPERAND_NONE, target,
                           layout_bytes(b, x, LAYOUT_PLAIN));
    return status == XAI_OK ? gradient_add(b, x, target, LAYOUT_PLAIN, true) : status;
}

/* --- forward --- */

/* Constant finite weights, one row, float32. */
static xai_status is_known(builder *b, const graph_node *node, recurrence *how, bool *known)
{
    const graph *g = b->graph;
    *known = false;
    if (!node_is(node, "", "LSTM") && !node_is(node, "", "GRU") && !node_is(node, "", "RNN"))
        return XAI_OK;
    const graph_value *x = &g->values[node->inputs[X]];
    if (x->dtype != DTYPE_FLOAT || x->is_constant || input(node, LENGTHS) != GRAPH_NONE ||
        input(node, P) != GRAPH_NONE || layout_bytes(b, node->inputs[X], LAYOUT_PLAIN) == 0)
        return XAI_OK;
    for (int i = W; i <= B; i++)
        if (input(node, i) != GRAPH_NONE && !g->values[node->inputs[i]].is_constant)
            return XAI_OK;
    const xai_status status = describe(b, node, how, known);
    *known = *known && how->width > 0;
    return status;
}

xai_status lower_recurrent(builder *b, int index, bool *done)
{
    const graph_node *node = &b->graph->nodes[index];
    const primitive *program = NULL;
    recurrence how = {0};
    bool known = false;
    step *s = NULL;
    operand source, weights, packed, place, bias = OPERAND_NONE, raw = OPERAND_NONE;
    *done = false;
    xai_status status = is_known(b, node, &how, &known);
    if (status != XAI_OK || !known || !primitive_available())
        return status;
    status = product(b, node, &how, false, &program);
    if (status == XAI_ERROR_UNSUPPORTED) {
        error_clear(b->error);
        return XAI_OK;
    }
    *done = true;
    const size_t all = how.gates * how.directions * how.width;
    const packing packs = {&how, false};
    unit self = {
        .emit_backward = backward, .node = index, .output = GRAPH_NONE, .other = GRAPH_NONE};
    for (int i = 0; i < 3; i++)
        if (self.output == GRAPH_NONE)
            self.output = output(node, i);
    for (int i = R; i <= B && status == XAI_OK; i++) /* W is checked where it is prepared */
        if (input(node, i) != GRAPH_NONE)
            status = builder_check_finite(b, &b->graph->values[node->inputs[i]].constant);
    if (status == XAI_OK)
        status = builder_weights(b, program, &b->graph->values[node->inputs[W]].constant, &weights,
                                 NULL);
    if (status == XAI_OK)
        status =
            prepared(b, node->inputs[R], "recurrent", &how,
                     how.directions * kernel_recurrent_packed(how.gates, how.width) * sizeof(float),
                     pack, &packs, &packed);
    if (status == XAI_OK && input(node, B) != GRAPH_NONE) {
        const tensor *biases = &b->graph->values[node->inputs[B]].constant;
        const size_t padded = primitive_bias_count(program);
        status = prepared(b, node->inputs[B], "recurrent biases", &how,
                          (padded > all ? padded : all) * sizeof(float), add_biases, &how, &bias);
        if (status == XAI_OK)
            status = builder_constant(b, biases, tensor_count(biases), &raw);
    }
    if (status == XAI_OK)
        status = builder_input(b, node->inputs[X], LAYOUT_PLAIN, &source);
    const size_t trace_bytes =
        how.steps * how.directions * how.width * kernel_recurrent_fields(how.gates) * sizeof(float);
    const operand sums = builder_buffer(b, how.steps * all * sizeof(float));
    self.factors = builder_buffer(b, trace_bytes);
    if (sums.buffer == BUFFER_NONE || self.factors.buffer == BUFFER_NONE)
        return XAI_ERROR_MEMORY;
    if (status == XAI_OK)
        status = lower_product(b, index, program, source, weights, bias, sums,
                               how.steps * all * sizeof(float));
    if (status == XAI_OK)
        status = builder_step(b, step_recurrent, index, "recurrent", &s);
    if (status != XAI_OK)
        return status;
    set_recurrence(s, &how);
    status = initial_states(b, node, s);
    builder_read(b, s, 0, sums);
    builder_read(b, s, 2, packed);
    builder_read(b, s, 3, raw);
    builder_write(b, s, 1, self.factors, trace_bytes);
    for (int i = 0; i < 3 && status == XAI_OK; i++) {
        if (output(node, i) == GRAPH_NONE)
            continue;
        status = builder_output(b, node->outputs[i], LAYOUT_PLAIN, &place);
        if (status == XAI_OK)
            builder_write(b, s, 6 + i, place, layout_bytes(b, node->outputs[i], LAYOUT_PLAIN));
    }
    for (int i = 0; i < 3 && status == XAI_OK; i++)
        if (output(node, i) != GRAPH_NONE)
            status = builder_finish(b, node->outputs[i], LAYOUT_PLAIN);
    return status == XAI_OK ? builder_unit(b, &self) : status;
}
