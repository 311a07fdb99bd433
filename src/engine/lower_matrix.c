/* Gemm and MatMul: own matrix-vector kernels for one row, oneDNN for the rest. All plain
 * row-major. */
#include <string.h>

#include "base/error.h"
#include "engine/lower.h"
#include "engine/steps.h"

/* y (M, N) = a (M, K) . b (K, N) + bias, batch times; how the node's operands are stored. */
typedef struct product {
    int64_t batch, rows, columns, depth;
    bool transpose_a, transpose_b, shared_b;
    int bias; /* value id of a constant (N) vector, or GRAPH_NONE */
} product;

static xai_status step_matrix_vector(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_matrix_vector(
        run_address(state, self->operands[1]), run_address(state, self->operands[0]),
        run_address(state, self->operands[3]), run_address(state, self->operands[2]),
        self->channels_to, self->channels, state->program->threads);
    return XAI_OK;
}

/* destination = source . weights, weights (channels, channels_to) row-major; starts from the
 * bias when there is one. */
static xai_status step_vector_matrix(const step *self, run *state, xai_error **error)
{
    (void)error;
    float *y = run_address(state, self->operands[2]);
    const float *bias = run_address(state, self->operands[3]);
    if (bias)
        memcpy(y, bias, self->channels_to * sizeof *y);
    kernel_vector_matrix(run_address(state, self->operands[1]),
                         run_address(state, self->operands[0]), y, self->channels,
                         self->channels_to, bias != NULL, state->program->threads);
    return XAI_OK;
}

static bool attribute_is(const graph_node *node, const char *name, double fallback, double expected)
{
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, name) == 0)
            return (node->attributes[i].type == ONNX_ATTRIBUTE_FLOAT
                        ? node->attributes[i].f
                        : (double)node->attributes[i].i) == expected;
    return fallback == expected;
}

static bool describe_gemm(const graph *g, const graph_node *node, product *out)
{
    const graph_value *y = &g->values[node->outputs[0]];
    out->transpose_a = !attribute_is(node, "transA", 0, 0);
    out->transpose_b = !attribute_is(node, "transB", 0, 0);
    out->bias = node->input_count > 2 ? node->inputs[2] : GRAPH_NONE;
    out->batch = 1;
    out->rows = y->shape.dims[0];
    out->columns = y->shape.dims[1];
    out->depth = g->values[node->inputs[0]].shape.dims[out->transpose_a ? 0 : 1];
    if (!attribute_is(node, "alpha", 1, 1) || !attribute_is(node, "beta", 1, 1) || out->transpose_a)
        return false;
    if (out->bias == GRAPH_NONE)
        return true;
    const graph_value *c = &g->values[out->bias];
    return c->is_constant && (int64_t)tensor_count(&c->constant) == out->columns &&
           c->shape.dims[c->shape.rank - 1] == out->columns;
}

/* Leading dimensions equal, or b a single matrix that all rows of a share. */
static bool describe_matmul(const graph *g, const graph_node *node, product *out)
{
    const shape *a = &g->values[node->inputs[0]].shape, *c = &g->values[node->inputs[1]].shape;
    *out = (product){.batch = 1, .bias = GRAPH_NONE};
    if (a->rank < 2 || c->rank < 2)
        return false;
    out->columns = c->dims[c->rank - 1];
    out->depth = a->dims[a->rank - 1];
    out->rows = a->dims[a->rank - 2];
    if (c->rank == 2) {
        for (int i = 0; i < a->rank - 2; i++)
            out->rows *= a->dims[i];
        return true;
    }
    if (a->rank != c->rank)
        return false;
    for (int i = 0; i < a->rank - 2; i++) {
        if (a->dims[i] != c->dims[i])
            return false;
        out->batch *= a->dims[i];
    }
    return true;
}

/* An Add of a constant row behind the product: its node, or GRAPH_NONE. */
static int following_bias(const builder *b, const graph_node *node, const product *p, int *bias)
{
    const graph *g = b->graph;
    const int y = node->outputs[0], next = builder_only_consumer(b, y);
    if (b->rule == ENGINE_RULE_LRP || p->bias != GRAPH_NONE || next == GRAPH_NONE ||
        b->node_done[next] || !node_is(&g->nodes[next], "", "Add"))
        return GRAPH_NONE;
    const graph_node *add = &g->nodes[next];
    *bias = add->inputs[0] == y ? add->inputs[1] : add->inputs[0];
    const graph_value *c = &g->values[*bias];
    const bool row = c->is_constant && c->shape.rank > 0 && c->dtype == DTYPE_FLOAT &&
                     c->shape.dims[c->shape.rank - 1] == p->columns &&
                     (int64_t)tensor_count(&c->constant) == p->columns;
    return row && shape_equal(&g->values[add->outputs[0]].shape, &g->values[y].shape) ? next
                                                                                      : GRAPH_NONE;
}

static primitive_spec spec_of(const builder *b, const product *self, bool constant_weights)
{
    return (primitive_spec){
        .kind = PRIMITIVE_MATMUL,
        .threads = b->program->threads,
        .batch = self->batch,
        .rows = self->rows,
        .columns = self->columns,
        .depth = self->depth,
        .transpose_a = self->transpose_a,
        .transpose_b = self->transpose_b,
        .shared_b = self->shared_b,
        .constant_weights = constant_weights,
        .has_bias = self->bias != GRAPH_NONE,
    };
}

/* An activation behind the product through which no gradient passes: its node, or GRAPH_NONE. Only such as keep a NaN. */
static int following_activation(const builder *b, int value, activation *out)
{
    const int next = b->program->guarded ? fusable_activation(b, value, out) : GRAPH_NONE;
    const bool keeps_nan =
        next != GRAPH_NONE && (out->kind == ACTIVATION_GELU || out->kind == ACTIVATION_GELU_TANH ||
                               out->kind == ACTIVATION_SILU || out->kind == ACTIVATION_TANH);
    if (!keeps_nan || (b->any_gradient && b->values[value].needs_gradient)) {
        out->kind = ACTIVATION_NONE;
        return GRAPH_NONE;
    }
    return next;
}

/* With the activation where oneDNN fuses it, else without: *fused says which. */
static xai_status create(builder *b, const product *p, bool constant, const activation *post,
                         const primitive **program, bool *fused)
{
    primitive_spec spec = spec_of(b, p, constant);
    xai_status status = XAI_ERROR_UNSUPPORTED;
    *fused = post->kind != ACTIVATION_NONE;
    spec.post = *post;
    if (*fused)
        status = builder_primitive(b, &spec, program);
    if (status != XAI_ERROR_UNSUPPORTED)
        return status;
    error_clear(b->error);
    *fused = false;
    spec.post.kind = ACTIVATION_NONE;
    return builder_primitive(b, &spec, program);
}

static bool describe(const graph *g, const graph_node *node, product *out)
{
    *out = (product){0};
    const bool known =
        node_is(node, "", "Gemm") ? describe_gemm(g, node, out) : describe_matmul(g, node, out);
    out->shared_b = out->batch == 1;
    return known;
}

/* One row against a constant matrix: memory-bound, so the own kernels serve. */
static bool is_vector(const graph *g, const graph_node *node, const product *p)
{
    return p->batch == 1 && p->rows == 1 && g->values[node->inputs[1]].is_constant;
}

static xai_status emit_vector(builder *b, int index, operand source, operand weights, bool by_rows,
                              operand bias, operand destination, size_t count_in, size_t count_out)
{
    step *s = NULL;
    xai_status status = builder_step(b, by_rows ? step_matrix_vector : step_vector_matrix, index,
                                     by_rows ? "matrix vector" : "vector matrix", &s);
    if (status != XAI_OK)
        return status;
    s->channels = count_in;
    s->channels_to = count_out;
    builder_read(b, s, 0, source);
    builder_read(b, s, 1, weights);
    builder_read(b, s, 3, bias);
    builder_write(b, s, 2, destination, count_out * sizeof(float));
    return XAI_OK;
}

xai_status lower_product(builder *b, int index, const primitive *program, operand source,
                         operand weights, operand bias, operand destination, size_t bytes)
{
    step *s = NULL;
    xai_status status =
        builder_step(b, step_primitive, index, primitive_implementation(program), &s);
    if (status != XAI_OK)
        return status;
    s->program = program;
    builder_read(b, s, 0, source);
    builder_read(b, s, 1, weights);
    builder_read(b, s, 3, bias);
    builder_write(b, s, 2, destination, bytes);
    return XAI_OK;
}

xai_status lower_matrix_apply(builder *b, int index, bool backwards, operand source,
                              const tensor *weights, const tensor *bias, operand out)
{
    const graph_node *node = &b->graph->nodes[index];
    operand prepared, added = OPERAND_NONE;
    const primitive *program = NULL;
    product p;
    describe(b->graph, node, &p);
    product q = p;
    q.bias = bias != NULL ? p.bias : GRAPH_NONE;
    if (backwards) {
        q.columns = p.depth, q.depth = p.columns;
        q.transpose_b = !p.transpose_b;
    }
    const bool vector = is_vector(b->graph, node, &p);
    const primitive_spec spec = spec_of(b, &q, true);
    xai_status status = vector ? builder_constant(b, weights, tensor_count(weights), &prepared)
                               : builder_primitive(b, &spec, &program);
    if (status == XAI_OK && !vector)
        status = builder_weights(b, program, weights, &prepared, NULL);
    if (status == XAI_OK && bias != NULL)
        status = builder_constant(
            b, bias, vector ? (size_t)q.columns : primitive_bias_count(program), &added);
    if (status != XAI_OK)
        return status;
    return vector ? emit_vector(b, index, source, prepared, q.transpose_b, added, out,
                                (size_t)q.depth, (size_t)q.columns)
                  : lower_product(b, index, program, source, prepared, added, out,
                                  (size_t)(q.rows * q.columns) * sizeof(float));
}

/* A gradient's destination: the value's own place, or a temporary that is added afterwards. */
static xai_status open_target(builder *b, int value, operand *target, bool *direct)
{
    bool accumulate;
    *direct = b->values[value].primary == LAYOUT_PLAIN && !gradient_exists(b, value);
    if (*direct)
        return gradient_write(b, value, target, &accumulate);
    *target = builder_buffer(b, layout_bytes(b, value, LAYOUT_PLAIN));
    return target->buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
}

/* gA = gY . B' and gB = A' . gY */
static xai_status gradient_of_operand(builder *b, const unit *self, const product *p, int which,
                                      operand gradient)
{
    const graph_node *node = &b->graph->nodes[self->node];
    const graph_value *values = b->graph->values;
    const int x = node->inputs[which], other = node->inputs[1 - which];
    const primitive *program = NULL;
    operand target, left, right;
    bool direct;
    product q = {.batch = p->batch, .shared_b = p->shared_b, .bias = GRAPH_NONE};
    if (which == 0) {
        q.rows = p->rows, q.columns = p->depth, q.depth = p->columns;
        q.transpose_b = !p->transpose_b;
    } else {
        q.rows = p->depth, q.columns = p->columns, q.depth = p->rows;
        q.transpose_a = true;
    }
    const bool constant = which == 0 && values[other].is_constant;
    const primitive_spec spec = spec_of(b, &q, constant);
    xai_status status = builder_primitive(b, &spec, &program);
    if (status == XAI_OK && constant)
        status = builder_weights(b, program, &values[other].constant, &right, NULL);
    else if (status == XAI_OK)
        status = builder_input(b, other, LAYOUT_PLAIN, which == 0 ? &right : &left);
    if (status == XAI_OK && which == 1 && values[other].is_constant)
        status = builder_constant(b, &values[other].constant, tensor_count(&values[other].constant),
                                  &left);
    if (status == XAI_OK)
        status = rescale_mean(b, other, LAYOUT_PLAIN, which == 0 ? &right : &left);
    if (which == 0)
        left = gradient;
    else
        right = gradient;
    if (status == XAI_OK)
        status = open_target(b, x, &target, &direct);
    if (status == XAI_OK)
        status = lower_product(b, self->node, program, left, right, OPERAND_NONE, target,
                               layout_bytes(b, x, LAYOUT_PLAIN));
    if (status == XAI_OK && !direct)
        status = gradient_add(b, x, target, LAYOUT_PLAIN, true);
    return status;
}

static xai_status backward(builder *b, const unit *self)
{
    const graph *g = b->graph;
    const graph_node *node = &g->nodes[self->node];
    const int x = node->inputs[0];
    product p;
    operand gradient, target, weights;
    bool direct, may_keep;
    describe(g, node, &p);
    xai_status status = gradient_read(b, self->output, &gradient);
    if (status == XAI_OK && relevance_splits(b, self))
        return p.shared_b && b->values[self->output].primary == LAYOUT_PLAIN
                   ? relevance_split(b, self, NULL, gradient)
                   : lower_portable_backward(b, self);
    if (status == XAI_OK)
        status = relevance_scale(b, self, &gradient, &may_keep);
    if (status != XAI_OK)
        return status;
    if (is_vector(g, node, &p)) {
        if (!b->values[x].needs_gradient)
            return XAI_OK;
        status = builder_constant(b, &g->values[node->inputs[1]].constant,
                                  (size_t)(p.columns * p.depth), &weights);
        if (status == XAI_OK)
            status = open_target(b, x, &target, &direct);
        if (status == XAI_OK)
            status = emit_vector(b, self->node, gradient, weights, !p.transpose_b, OPERAND_NONE,
                                 target, (size_t)p.columns, (size_t)p.depth);
        return status == XAI_OK && !direct ? gradient_add(b, x, target, LAYOUT_PLAIN, true)
                                           : status;
    }
    for (int i = 0; status == XAI_OK && i < 2; i++)
        if (b->values[node->inputs[i]].needs_gradient)
            status = gradient_of_operand(b, self, &p, i, gradient);
    return status;
}

xai_status lower_matrix(builder *b, int index, bool *done)
{
    const graph *g = b->graph;
    const graph_node *node = &g->nodes[index];
    operand source, weights, destination, bias = OPERAND_NONE;
    const primitive *program = NULL;
    product p;
    *done = false;
    if (b->reference || (!node_is(node, "", "Gemm") && !node_is(node, "", "MatMul")) ||
        g->values[node->outputs[0]].dtype != DTYPE_FLOAT ||
        g->values[node->inputs[0]].is_constant || !describe(g, node, &p) ||
        p.batch * p.rows * p.columns * p.depth == 0)
        return XAI_OK;
    unit self = {
        .emit_backward = backward, .node = index, .output = node->outputs[0], .other = GRAPH_NONE};
    const graph_value *w = &g->values[node->inputs[1]];
    const bool vector = is_vector(g, node, &p);
    int bias_value = GRAPH_NONE;
    const int add = following_bias(b, node, &p, &bias_value);
    if (add != GRAPH_NONE) {
        p.bias = bias_value;
        self.output = g->nodes[add].outputs[0];
    }
    xai_status status = XAI_OK;
    /* b of rank 2 that is not constant needs its gradient summed over a's rows: rows of a folded
     * into M do just that. */
    if (!vector) {
        activation post = {ACTIVATION_NONE, 0, 0};
        bool fused;
        if (!primitive_available())
            return XAI_OK;
        const int next = following_activation(b, self.output, &post);
        status = create(b, &p, w->is_constant, &post, &program, &fused);
        if (status == XAI_OK && fused) {
            b->node_done[next] = true;
            self.output = g->nodes[next].outputs[0];
        }
        if (status == XAI_ERROR_UNSUPPORTED) {
            error_clear(b->error);
            return XAI_OK;
        }
    }
    *done = true;
    if (add != GRAPH_NONE)
        b->node_done[add] = true;
    if (status == XAI_OK)
        status = builder_input(b, node->inputs[0], LAYOUT_PLAIN, &source);
    if (status == XAI_OK && vector)
        status = builder_parameter(b, &w->constant, (size_t)(p.columns * p.depth), &weights);
    else if (status == XAI_OK && w->is_constant)
        status = builder_weights(b, program, &w->constant, &weights, NULL);
    else if (status == XAI_OK)
        status = builder_input(b, node->inputs[1], LAYOUT_PLAIN, &weights);
    if (status == XAI_OK && p.bias != GRAPH_NONE)
        status =
            builder_parameter(b, &g->values[p.bias].constant,
                              vector ? (size_t)p.columns : primitive_bias_count(program), &bias);
    if (status == XAI_OK)
        status = builder_output(b, self.output, LAYOUT_PLAIN, &destination);
    if (status == XAI_OK)
        status = vector ? emit_vector(b, index, source, weights, p.transpose_b, bias, destination,
                                      (size_t)p.depth, (size_t)p.columns)
                        : lower_product(b, index, program, source, weights, bias, destination,
                                        layout_bytes(b, self.output, LAYOUT_PLAIN));
    if (status == XAI_OK)
        status = builder_finish(b, self.output, LAYOUT_PLAIN);
    return status == XAI_OK ? builder_unit(b, &self) : status;
}
