/* No number out of an overflow.
 *
 * oneDNN's fused ReLU and clip make 0 of a NaN, and a sum that overflowed to -infinity behind any ReLU is a 0, too: a
 * score would look harmless. With finite inputs and weights this needs a partial sum beyond float32, so every
 * convolution must show before it runs that
 *
 *     B(x) K + b (+ B(other)) <= half the largest float32,   K = max over output channels of sum |w|,  b = max |bias|
 *
 * where B(v) >= max |v|. B follows from rules (B of a ReLU is that of its input, of a sum the sum, ...), a few
 * multiplications a node. Only when a bound has grown too large is the input itself measured: one pass over it, about
 * every tenth layer. If even that is too large, it is an error. */
#include <float.h>
#include <math.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/kernels_private.h"
#include "engine/plan.h"

/* Half: rounding of long sums, of the norms and of the bounds themselves. */
#define LIMIT ((double)FLT_MAX / 2)

static float constant_max(const tensor *constant)
{
    return constant->dtype == DTYPE_FLOAT && tensor_count(constant) <= 65536
               ? kernel_max_abs(constant->data, tensor_count(constant), 1)
               : INFINITY;
}

static xai_status add_rule(builder *b, bound_rule rule)
{
    plan *p = b->program;
    if (!array_reserve((void **)&p->rules, &p->rule_capacity, p->rule_count + 1, sizeof *p->rules))
        return error_memory(b->error, "plan", sizeof *p->rules);
    p->rules[p->rule_count++] = rule;
    return XAI_OK;
}

/* B[out] = factor B[in] + summand, combined with what it was; a constant input is its own bound. */
static xai_status rule_from(builder *b, bound_combine how, int out, int in, double factor,
                            double summand)
{
    const graph_value *v = &b->graph->values[in];
    if (v->is_constant)
        return add_rule(b, (bound_rule){how, out, GRAPH_NONE, 0,
                                        factor * (double)constant_max(&v->constant) + summand});
    return add_rule(b, (bound_rule){how, out, in, factor, summand});
}

/* Nodes whose outputs are no larger than their input. */
static bool keeps_bound(const graph_node *node)
{
    static const char *const names[] = {"Relu",
                                        "Abs",
                                        "Neg",
                                        "Identity",
                                        "Dropout",
                                        "Reshape",
                                        "Flatten",
                                        "Transpose",
                                        "Squeeze",
                                        "Unsqueeze",
                                        "Slice",
                                        "Gather",
                                        "Split",
                                        "Expand",
                                        "MaxPool",
                                        "AveragePool",
                                        "GlobalAveragePool",
                                        "GlobalMaxPool",
                                        "ReduceMean",
                                        "ReduceMax",
                                        "ReduceMin",
                                        "Gelu",
                                        "HardSwish",
                                        "DepthToSpace",
                                        "SpaceToDepth"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (node_is(node, "", names[i]))
            return true;
    return node_is(node, "xai", "Silu");
}

static bool is_at_most_one(const graph_node *node)
{
    return node_is(node, "", "Sigmoid") || node_is(node, "", "HardSigmoid") ||
           node_is(node, "", "Tanh") || node_is(node, "", "Softmax") || node_is(node, "", "Erf");
}

/* Add and the like over all inputs. */
static xai_status rule_of_all(builder *b, const graph_node *node, bound_combine how)
{
    xai_status status = XAI_OK;
    for (int i = 0; status == XAI_OK && i < node->input_count; i++)
        if (node->inputs[i] != GRAPH_NONE)
            status =
                rule_from(b, i == 0 ? BOUND_SET : how, node->outputs[0], node->inputs[i], 1, 0);
    return status;
}

/* Both bounds finite, else the input's. */
static xai_status rule_of_clip(builder *b, const graph_node *node, const activation *f)
{
    const double low = fabs((double)f->alpha), high = fabs((double)f->beta);
    if (isfinite(low) && isfinite(high))
        return add_rule(
            b, (bound_rule){BOUND_SET, node->outputs[0], GRAPH_NONE, 0, low > high ? low : high});
    const xai_status status = rule_from(b, BOUND_SET, node->outputs[0], node->inputs[0], 1, 0);
    const double finite = isfinite(low) ? low : isfinite(high) ? high : 0;
    return status == XAI_OK
               ? add_rule(b, (bound_rule){BOUND_MAX, node->outputs[0], GRAPH_NONE, 0, finite})
               : status;
}

static xai_status rule_of_scale_shift(builder *b, const graph_node *node)
{
    const graph_value *scale = &b->graph->values[node->inputs[1]],
                      *shift = &b->graph->values[node->inputs[2]];
    if (!scale->is_constant || !shift->is_constant)
        return XAI_OK;
    return rule_from(b, BOUND_SET, node->outputs[0], node->inputs[0],
                     (double)constant_max(&scale->constant),
                     (double)constant_max(&shift->constant));
}

/* A number is at most the root of the group's size away from the mean, in standard deviations. */
static xai_status rule_of_norm(builder *b, const graph_node *node)
{
    float epsilon;
    size_t groups;
    const graph_value *x = &b->graph->values[node->inputs[0]],
                      *scale = &b->graph->values[node->inputs[1]],
                      *shift = &b->graph->values[node->inputs[2]];
    if (!scale->is_constant || !shift->is_constant || x->is_constant || x->shape.rank < 2)
        return XAI_OK;
    const xai_status status = norm_settings(b, node, &groups, &epsilon);
    if (status != XAI_OK)
        return status;
    const double factor = (double)constant_max(&scale->constant);
    if (!(epsilon > 0) || groups == 0 || !(factor / sqrt((double)epsilon) <= LIMIT))
        return XAI_OK;
    double width = (double)layout_channels(x) / (double)groups * (double)layout_spatial(x);
    return add_rule(b, (bound_rule){BOUND_UNLESS_LARGE, node->outputs[0], node->inputs[0], 1,
                                    factor * sqrt(width) + (double)constant_max(&shift->constant)});
}

xai_status guard_rules(builder *b, int index)
{
    const graph_node *node = &b->graph->nodes[index];
    activation f;
    double result, slope;
    xai_status status = XAI_OK;
    if (!b->program->guarded || node->input_count < 1 || node->inputs[0] == GRAPH_NONE ||
        node->output_count < 1 || node->outputs[0] == GRAPH_NONE ||
        b->graph->values[node->outputs[0]].dtype != DTYPE_FLOAT)
        return XAI_OK;
    if (keeps_bound(node))
        for (int i = 0; status == XAI_OK && i < node->output_count; i++)
            status = node->outputs[i] == GRAPH_NONE
                         ? XAI_OK
                         : rule_from(b, BOUND_SET, node->outputs[i], node->inputs[0], 1, 0);
    else if (is_at_most_one(node))
        status = add_rule(b, (bound_rule){BOUND_SET, node->outputs[0], GRAPH_NONE, 0, 1});
    else if (node_is(node, "", "Clip") && activation_of_node(b->graph, node, &f))
        status = rule_of_clip(b, node, &f);
    else if (node_is(node, "", "Add") || node_is(node, "", "Sub") || node_is(node, "", "Sum"))
        status = rule_of_all(b, node, BOUND_ADD);
    else if (node_is(node, "", "Mul"))
        status = rule_of_all(b, node, BOUND_MULTIPLY);
    else if (node_is(node, "", "Concat"))
        status = rule_of_all(b, node, BOUND_MAX);
    else if (node_is(node, "xai", "ScaleShift") && node->input_count == 3)
        status = rule_of_scale_shift(b, node);
    else if (is_group_norm(node) && node->input_count == 3)
        status = rule_of_norm(b, node);
    else if (channel_bound(b, node, &result, &slope))
        status =
            slope > 0
                ? rule_from(b, BOUND_SET, node->outputs[0], node->inputs[0], slope, 0)
                : add_rule(b, (bound_rule){BOUND_SET, node->outputs[0], GRAPH_NONE, 0, result});
    return status; /* any other node: unknown, so that it is measured where it matters */
}

double guard_norm(const primitive_spec *spec, const tensor *weights)
{
    /* Conv (M, C/g, k...), ConvTranspose (C, M/g, k...) */
    const size_t groups = (size_t)spec->geometry.groups, first = (size_t)weights->shape.dims[0],
                 second = (size_t)weights->shape.dims[1];
    const size_t taps = first * second > 0 ? tensor_count(weights) / first / second : 0;
    const char *data = weights->data;
    double largest = 0;
    if (spec->kind == PRIMITIVE_CONVOLUTION) {
        for (size_t m = 0; m < first; m++) {
            const double sum =
                kernel_sum_abs(data + m * second * taps * sizeof(float), second * taps);
            largest = sum > largest ? sum : largest;
        }
        return largest;
    }
    const size_t inputs = groups > 0 ? first / groups : 0;
    for (size_t group = 0; group < groups; group++)
        for (size_t m = 0; m < second; m++) {
            double sum = 0;
            for (size_t c = group * inputs; c < (group + 1) * inputs; c++)
                sum += kernel_sum_abs(data + (c * second + m) * taps * sizeof(float), taps);
            largest = sum > largest ? sum : largest;
        }
    return largest;
}

xai_status guard_step(builder *b, step *self, const unit *of, const void *bias, size_t bias_count,
                      layout input_layout, double norm)
{
    const graph_node *node = &b->graph->nodes[of->node];
    if (!b->program->guarded)
        return XAI_OK;
    guard *made = memory_pool_allocate(b->program->pool, 1, sizeof *made);
    if (!made)
        return error_memory(b->error, "plan", sizeof *made);
    *made = (guard){.input = node->inputs[0],
                    .other = of->other,
                    .input_count = layout_bytes(b, node->inputs[0], input_layout) / sizeof(float),
                    .norm = norm,
                    .bias = bias ? (double)kernel_max_abs(bias, bias_count, 1) : 0,
                    .rules = b->program->rule_count};
    if (made->other != GRAPH_NONE)
        made->other_count = layout_bytes(b, made->other, LAYOUT_BLOCKED) / sizeof(float);
    self->check = made;
    made->norm *= primitive_growth(self->program); /* of what is summed, not of what comes out */
    return add_rule(b,
                    (bound_rule){BOUND_SET, node->outputs[0], node->inputs[0], norm, made->bias});
}

void guard_begin(run *self)
{
    const plan *p = self->program;
    if (!p->guarded)
        return;
    self->rules_done = 0;
    for (size_t v = 0; v < p->graph->value_count; v++)
        self->bounds[v] = INFINITY;
}

/* Follow the rules up to, not including, rule `end`. */
static void follow(run *self, size_t end)
{
    for (; self->rules_done < end; self->rules_done++) {
        const bound_rule *rule = &self->program->rules[self->rules_done];
        const double in = rule->in == GRAPH_NONE ? 0 : rule->factor * self->bounds[rule->in];
        double *out = &self->bounds[rule->out], value = in + rule->summand;
        if (!(value >= 0)) /* infinity times zero */
            value = INFINITY;
        switch (rule->how) {
        case BOUND_SET:
            *out = value;
            break;
        case BOUND_MAX:
            *out = value > *out ? value : *out;
            break;
        case BOUND_ADD:
            *out += value;
            break;
        case BOUND_UNLESS_LARGE:
            *out = in <= LIMIT ? rule->summand : INFINITY;
            break;
        case BOUND_MULTIPLY:
            *out = value == 0 || *out == 0 ? 0 : *out * value;
            break;
        }
    }
}

static void measure(run *self, int value, operand place, size_t count)
{
    const double found =
        (double)kernel_max_abs(run_address(self, place), count, self->program->threads);
    self->bounds[value] = found;
}

static double largest_sum(const run *self, const guard *check)
{
    const double other = check->other == GRAPH_NONE ? 0 : self->bounds[check->other];
    return self->bounds[check->input] * check->norm + check->bias + other;
}

xai_status guard_check(run *self, const step *of, xai_error **error)
{
    const guard *check = of->check;
    follow(self, check->rules);
    if (largest_sum(self, check) <= LIMIT) /* false for NaN, too */
        return XAI_OK;
    measure(self, check->input, of->operands[0], check->input_count);
    if (check->other != GRAPH_NONE && !(largest_sum(self, check) <= LIMIT))
        measure(self, check->other, of->operands[4], check->other_count);
    const double largest = self->bounds[check->input];
    if (largest_sum(self, check) <= LIMIT)
        return XAI_OK;
    if (!(largest <= (double)FLT_MAX))
        return error_set(error, XAI_ERROR_NUMERIC, NULL,
                         "its input holds NaN or infinite values: numbers became too large for "
                         "float32 on the way; check the range of the model's input");
    return error_set(error, XAI_ERROR_NUMERIC, NULL,
                     "values up to %.3g times weights that sum up to %.3g may exceed float32: "
                     "check the range of the model's input",
                     largest, check->norm);
}
