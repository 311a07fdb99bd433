/* Layer-wise relevance propagation: the rules that tell positive from negative contributions (gamma, alpha-beta, z-plus),
 * for convolutions and matrix products. src/ops/relevance.c has the formulas; here each sum over contributions of one sign
 * is the layer with the weights of one sign:
 *     plus = W+ x+ + W- x- + b+        minus = W- x+ + W+ x- + b-
 *     m = W+' c_plus + W-' c_minus where x >= 0, W-' c_plus + W+' c_minus elsewhere
 * What cannot be negative, such as behind a ReLU, has no x-; alpha = 1 (z-plus) has no c_minus. relevance_first.c has the
 * rules of first layers. */
#include "engine/relevance_split.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/steps.h"

enum { DEPTH = 6 };

static bool is_nonnegative(const graph *g, int value, int depth)
{
    static const char *const always[] = {"Relu", "Sigmoid", "Softmax", "Abs"},
                             *const keep[] = {"MaxPool",       "AveragePool", "GlobalAveragePool",
                                              "GlobalMaxPool", "Flatten",     "Reshape",
                                              "Identity",      "Dropout"},
                             *const join[] = {"Add", "Concat"};
    if (g->values[value].producer == GRAPH_NONE || depth == 0)
        return false;
    const graph_node *node = &g->nodes[g->values[value].producer];
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        if (node_is(node, "", always[i]))
            return true;
    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++)
        if (node_is(node, "", keep[i]))
            return is_nonnegative(g, node->inputs[0], depth - 1);
    bool joins = false;
    for (size_t i = 0; i < sizeof join / sizeof *join; i++)
        joins = joins || node_is(node, "", join[i]);
    for (int i = 0; joins && i < node->input_count; i++)
        joins = is_nonnegative(g, node->inputs[i], depth - 1);
    return joins;
}

/* 1 = max(0, 0), 2 = min(0, 0) */
static xai_status step_parts(const step *self, run *state, xai_error **error)
{
    (void)error;
    const float *x = run_address(state, self->operands[0]);
    float *positive = run_address(state, self->operands[1]),
          *negative = run_address(state, self->operands[2]);
    for (size_t i = 0; i < self->count; i++) {
        positive[i] = x[i] > 0 ? x[i] : 0;
        negative[i] = x[i] < 0 ? x[i] : 0;
    }
    return XAI_OK;
}

static double away(double z, double epsilon)
{
    return z < 0 ? z - epsilon : z + epsilon;
}

/* 0 = z, 1 = m; 2: plus becomes c_plus; 3: c_minus */
static xai_status step_gamma(const step *self, run *state, xai_error **error)
{
    (void)error;
    const float *z = run_address(state, self->operands[0]),
                *m = run_address(state, self->operands[1]);
    float *p = run_address(state, self->operands[2]), *n = run_address(state, self->operands[3]);
    const double gamma = (double)self->post.alpha, epsilon = (double)self->epsilon;
    for (size_t i = 0; i < self->count; i++) {
        const double value = (double)z[i], plus = (double)p[i], minus = fmin(value - plus, 0);
        const double whole =
            (double)m[i] * value / away(value + gamma * (value < 0 ? minus : plus), epsilon);
        const bool nothing = plus == 0 && minus == 0;
        p[i] = nothing ? 0 : (float)(whole * (value < 0 ? 1 : 1 + gamma));
        n[i] = nothing ? 0 : (float)(whole * (value < 0 ? 1 + gamma : 1));
    }
    return XAI_OK;
}

/* The same; 3: minus becomes c_minus, but with alpha = 1 */
static xai_status step_alpha_beta(const step *self, run *state, xai_error **error)
{
    (void)error;
    const float *z = run_address(state, self->operands[0]),
                *m = run_address(state, self->operands[1]);
    float *p = run_address(state, self->operands[2]);
    const double alpha = (double)self->post.alpha, epsilon = (double)self->epsilon;
    float *n = alpha != 1 ? run_address(state, self->operands[3]) : NULL;
    for (size_t i = 0; i < self->count; i++) {
        const double relevance = (double)m[i] * (double)z[i], plus = (double)p[i];
        p[i] = plus == 0 ? 0 : (float)(alpha * relevance / (plus + epsilon));
        if (n != NULL)
            n[i] = n[i] == 0 ? 0 : (float)((1 - alpha) * relevance / ((double)n[i] - epsilon));
    }
    return XAI_OK;
}

/* 1 = 1 where 0 >= 0, else 2 */
static xai_status step_choose(const step *self, run *state, xai_error **error)
{
    (void)error;
    const float *x = run_address(state, self->operands[0]),
                *other = run_address(state, self->operands[2]);
    float *out = run_address(state, self->operands[1]);
    for (size_t i = 0; i < self->count; i++)
        out[i] = x[i] >= 0 ? out[i] : other[i];
    return XAI_OK;
}

xai_status split_buffer(split *self, size_t bytes, operand *out)
{
    *out = builder_buffer(self->b, bytes);
    return out->buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
}

/* Some of the values of a constant, for the time of a call. */
static xai_status take_part(builder *b, const tensor *from, part which, tensor *out)
{
    const size_t count = tensor_count(from);
    const xai_status status = tensor_create(out, DTYPE_FLOAT, &from->shape, b->error);
    if (status != XAI_OK)
        return status;
    float *values = out->data;
    tensor_read_floats(from, 0, count, values);
    for (size_t i = 0; i < count && which != WHOLE; i++)
        values[i] = which == ONES ? 1 : (which == POSITIVE) == (values[i] > 0) ? values[i] : 0;
    return XAI_OK;
}

static xai_status convolve(split *self, bool backwards, operand source, const tensor *weights,
                           const tensor *bias, operand out, size_t bytes)
{
    builder *b = self->b;
    primitive_spec spec = backwards ? self->backward : self->forward;
    operand prepared, added = OPERAND_NONE;
    const primitive *program = NULL;
    step *s = NULL;
    spec.has_bias = bias != NULL;
    xai_status status = builder_primitive(b, &spec, &program);
    if (status == XAI_OK)
        status = builder_weights(b, program, weights, &prepared, NULL);
    if (status == XAI_OK && bias != NULL)
        status = builder_constant(b, bias, primitive_bias_count(program), &added);
    if (status == XAI_OK)
        status =
            builder_step(b, step_primitive, self->of->node, primitive_implementation(program), &s);
    if (status != XAI_OK)
        return status;
    s->program = program;
    builder_read(b, s, 0, source);
    builder_read(b, s, 1, prepared);
    builder_read(b, s, 3, added);
    builder_write(b, s, 2, out, bytes);
    return XAI_OK;
}

xai_status split_apply(split *self, bool backwards, operand source, part of_weights, bool bias,
                       operand *out)
{
    const graph_value *values = self->b->graph->values;
    const size_t bytes = backwards ? self->x_bytes : self->z_bytes;
    tensor weights = {0}, biases = {0};
    xai_status status =
        take_part(self->b, &values[self->node->inputs[1]].constant, of_weights, &weights);
    if (status == XAI_OK && bias)
        status = take_part(self->b, &values[self->node->inputs[2]].constant, of_weights, &biases);
    if (status == XAI_OK)
        status = split_buffer(self, bytes, out);
    if (status == XAI_OK) {
        /* What is owned would be pointed to, and these are freed. */
        tensor w = weights, added = biases;
        w.owned = added.owned = false;
        status = self->is_matrix
                     ? lower_matrix_apply(self->b, self->of->node, backwards, source, &w,
                                          bias ? &added : NULL, *out)
                     : convolve(self, backwards, source, &w, bias ? &added : NULL, *out, bytes);
    }
    tensor_free(&weights);
    tensor_free(&biases);
    return status;
}

/* a += c, which is not needed any more */
static xai_status add_to(split *self, operand c, operand a, size_t bytes)
{
    step *s = NULL;
    const xai_status status = builder_step(self->b, step_accumulate, GRAPH_NONE, "accumulate", &s);
    if (status != XAI_OK)
        return status;
    s->count = bytes / sizeof(float);
    builder_read(self->b, s, 0, c);
    builder_write(self->b, s, 1, a, bytes);
    return XAI_OK;
}

/* The contributions of one sign to z, with the bias of that sign. */
static xai_status sum_parts(split *self, part which, operand *out)
{
    const bool bias = self->node->input_count > 2 && self->node->inputs[2] != GRAPH_NONE;
    operand other;
    xai_status status = split_apply(self, false, self->x[POSITIVE], which, bias, out);
    if (status == XAI_OK && self->is_signed) {
        status = split_apply(self, false, self->x[NEGATIVE],
                             which == POSITIVE ? NEGATIVE : POSITIVE, false, &other);
        if (status == XAI_OK)
            status = add_to(self, other, *out, self->z_bytes);
    }
    return status;
}

/* What comes back to inputs of one sign. */
static xai_status hand_back(split *self, const operand c[SIGNS], part of_x, operand *out)
{
    operand other;
    xai_status status = split_apply(self, true, c[POSITIVE], of_x, false, out);
    if (status == XAI_OK && self->needs_minus) {
        status = split_apply(self, true, c[NEGATIVE], of_x == POSITIVE ? NEGATIVE : POSITIVE, false,
                             &other);
        if (status == XAI_OK)
            status = add_to(self, other, *out, self->x_bytes);
    }
    return status;
}

static xai_status take_parts(split *self, operand x)
{
    step *s = NULL;
    self->x[POSITIVE] = x;
    if (!self->is_signed)
        return XAI_OK;
    xai_status status = split_buffer(self, self->x_bytes, &self->x[POSITIVE]);
    if (status == XAI_OK)
        status = split_buffer(self, self->x_bytes, &self->x[NEGATIVE]);
    if (status == XAI_OK)
        status = builder_step(self->b, step_parts, self->of->node, "signs", &s);
    if (status != XAI_OK)
        return status;
    s->count = self->x_bytes / sizeof(float);
    builder_read(self->b, s, 0, x);
    builder_write(self->b, s, 1, self->x[POSITIVE], self->x_bytes);
    builder_write(self->b, s, 2, self->x[NEGATIVE], self->x_bytes);
    return XAI_OK;
}

/* c[POSITIVE], and where it is needed c[NEGATIVE] */
static xai_status weigh(split *self, operand m, operand c[SIGNS])
{
    builder *b = self->b;
    const bool gamma = self->rule->kind == RELEVANCE_GAMMA;
    operand z;
    step *s = NULL;
    xai_status status = sum_parts(self, POSITIVE, &c[POSITIVE]);
    if (status == XAI_OK && self->needs_minus)
        status = gamma ? split_buffer(self, self->z_bytes, &c[NEGATIVE])
                       : sum_parts(self, NEGATIVE, &c[NEGATIVE]);
    if (status == XAI_OK)
        status = builder_input(b, self->of->output, self->z_form, &z);
    if (status == XAI_OK)
        status = builder_step(b, gamma ? step_gamma : step_alpha_beta, self->of->node,
                              gamma ? "gamma rule" : "alpha-beta rule", &s);
    if (status != XAI_OK)
        return status;
    s->count = self->z_bytes / sizeof(float);
    s->epsilon = (float)self->rule->epsilon;
    s->post.alpha = (float)(gamma ? self->rule->gamma : self->rule->alpha);
    builder_read(b, s, 0, z);
    builder_read(b, s, 1, m);
    builder_write(b, s, 2, c[POSITIVE], self->z_bytes);
    if (self->needs_minus)
        builder_write(b, s, 3, c[NEGATIVE], self->z_bytes);
    return XAI_OK;
}

bool relevance_splits(const builder *b, const unit *self)
{
    const graph_node *node = &b->graph->nodes[self->node];
    return b->rule == ENGINE_RULE_LRP && relevance_of(b, node)->kind != RELEVANCE_EPSILON &&
           (node_is(node, "", "Conv") || node_is(node, "", "Gemm") || node_is(node, "", "MatMul"));
}

/* The rules of every layer: m of x. */
static xai_status split_signs(split *self, operand x, operand m, operand *out)
{
    operand c[SIGNS] = {OPERAND_NONE, OPERAND_NONE}, other;
    step *s = NULL;
    xai_status status = take_parts(self, x);
    if (status == XAI_OK)
        status = weigh(self, m, c);
    if (status == XAI_OK)
        status = hand_back(self, c, POSITIVE, out);
    if (status != XAI_OK || !self->is_signed)
        return status;
    status = hand_back(self, c, NEGATIVE, &other);
    if (status == XAI_OK)
        status = builder_step(self->b, step_choose, self->of->node, "signs", &s);
    if (status != XAI_OK)
        return status;
    s->count = self->x_bytes / sizeof(float);
    builder_read(self->b, s, 0, x);
    builder_write(self->b, s, 1, *out, self->x_bytes);
    builder_read(self->b, s, 2, other);
    return XAI_OK;
}

xai_status relevance_split(builder *b, const unit *of, const primitive_spec *backward, operand m)
{
    const graph_node *node = &b->graph->nodes[of->node];
    const int input = node->inputs[0];
    const bool is_matrix = backward == NULL;
    const layout form = is_matrix || of->spec.plain_input ? LAYOUT_PLAIN : LAYOUT_BLOCKED,
                 z_form = is_matrix ? LAYOUT_PLAIN : LAYOUT_BLOCKED;
    const relevance_rule *rule = relevance_of(b, node);
    split self = {.b = b,
                  .of = of,
                  .node = node,
                  .rule = rule,
                  .is_matrix = is_matrix,
                  .form = form,
                  .z_form = z_form,
                  .is_signed = !is_nonnegative(b->graph, input, DEPTH),
                  .needs_minus = rule->kind == RELEVANCE_GAMMA || rule->alpha != 1,
                  .x_bytes = layout_bytes(b, input, form),
                  .z_bytes = layout_bytes(b, of->output, z_form)};
    operand x, out;
    if (!b->values[input].needs_gradient)
        return XAI_OK;
    if (!is_matrix) {
        self.forward = of->spec;
        self.backward = *backward;
    }
    xai_status status = builder_input(b, input, form, &x);
    if (status == XAI_OK)
        status = rule->kind == RELEVANCE_FLAT  ? split_flat(&self, m, &out)
                 : rule->kind == RELEVANCE_BOX ? split_box(&self, x, m, &out)
                                               : split_signs(&self, x, m, &out);
    if (status == XAI_ERROR_UNSUPPORTED) { /* by oneDNN; what was emitted is computed for nothing */
        error_clear(b->error);
        return lower_portable_backward(b, of);
    }
    return status == XAI_OK ? gradient_add(b, input, out, form, true) : status;
}
