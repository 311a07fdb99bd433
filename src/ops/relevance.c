#include "ops/relevance.h"

#include <math.h>
#include <string.h>

#include "ops/evaluation.h"
#include "ops/rescale.h"
#include "ops/support.h"

static const char *const linear[] = {
    "AveragePool",
    "GlobalAveragePool",
    "MaxPool",
    "GlobalMaxPool",
    "Resize",
    "Upsample",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Identity",
    "Dropout",
    "Transpose",
    "DepthToSpace",
    "SpaceToDepth",
    "Col2Im",
    "Slice",
    "Expand",
    "Tile",
    "Compress",
    "Trilu",
    "Concat",
    "Split",
    "Pad",
    "Gather",
    "GatherElements",
    "GatherND",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Cast",
    "CastLike",
    "Add",
    "Sub",
    "Neg",
    "Sum",
    "Mean",
    "Max",
    "Min",
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceL1",
    "ReduceL2",
    "CumSum",
    "BatchNormalization",
    "ScaleShift",
    "Where",
    "TopK",
    "PRelu",
    "Softmax",
    "Relu",
    "LeakyRelu",
};

relevance_role operator_relevance_role(const operator_definition *definition)
{
    const char *name = definition->name;
    for (size_t i = 0; i < sizeof linear / sizeof *linear; i++)
        if (strcmp(linear[i], name) == 0)
            return RELEVANCE_LINEAR;
    if (strcmp(name, "Conv") == 0 || strcmp(name, "ConvTranspose") == 0 ||
        strcmp(name, "Gemm") == 0 || strcmp(name, "MatMul") == 0)
        return RELEVANCE_WEIGHTED;
    if (strcmp(name, "Mul") == 0)
        return RELEVANCE_PRODUCT;
    if (strcmp(name, "Div") == 0)
        return RELEVANCE_DIVIDE;
    switch (operator_rescale_kind(definition)) {
    case RESCALE_STANDARDISE:
        return RELEVANCE_STANDARDISE;
    case RESCALE_QUOTIENT:
        return RELEVANCE_CURVE;
    default:
        return strcmp(name, "Pow") == 0 ? RELEVANCE_CURVE : RELEVANCE_UNRULED;
    }
}

static double stabilised(double z, double epsilon)
{
    return z < 0 ? z - epsilon : z + epsilon;
}

/* m (y / x): R passes unchanged. Beside zero the slope, to which the quotient tends when f(0) = 0. */
static xai_status curve(operator_call *call, const relevance_rule *rule)
{
    evaluation e;
    if (!call->input_gradients[0])
        return XAI_OK;
    xai_status status = evaluation_open(&e, call, call->definition, call->inputs);
    if (status == XAI_OK)
        status = evaluation_forward(&e);
    if (status == XAI_OK)
        status = evaluation_backward(&e);
    for (size_t i = 0; status == XAI_OK && i < tensor_count(call->inputs[0]); i++) {
        const double x = evaluation_input(&e, 0)[i], y = evaluation_output(&e)[i];
        if (fabs(x) > 1e-7)
            evaluation_wanted(&e, 0)[i] = evaluation_given(&e)[i] * y / x;
        else if (fabs(y) > 1e-5)
            evaluation_wanted(&e, 0)[i] =
                evaluation_given(&e)[i] * y / stabilised(x, fmax(rule->epsilon, 1e-7));
    }
    if (status == XAI_OK)
        tensor_write_doubles(call->input_gradients[0], 0, tensor_count(call->inputs[0]),
                             evaluation_wanted(&e, 0));
    evaluation_drop(&e);
    return status;
}

/* The gradient with respect to each factor, times its share of the relevance. */
static xai_status product(operator_call *call, const double shares[2])
{
    const xai_status status = call->definition->backward(call);
    for (int i = 0; status == XAI_OK && i < 2; i++) {
        tensor *wanted = call->input_gradients[i];
        for (size_t k = 0; wanted && k < tensor_count(wanted); k++)
            tensor_set(wanted, k, shares[i] * tensor_get(wanted, k));
    }
    return status;
}

/* DeepLIFT's rule against -x: deviations cancel, so what is left is the standard deviation held constant. */
static xai_status standardised(operator_call *call)
{
    tensor mirrored = {0};
    const tensor **inputs = memory_allocate_zeroed((size_t)call->input_count + 1, sizeof *inputs);
    xai_status status = inputs ? tensor_create(&mirrored, call->inputs[0]->dtype,
                                               &call->inputs[0]->shape, call->error)
                               : operator_error(call, XAI_ERROR_MEMORY, "out of memory for a rule");
    if (status == XAI_OK) {
        for (int i = 0; i < call->input_count; i++)
            inputs[i] = call->inputs[i];
        for (size_t k = 0; k < tensor_count(&mirrored); k++)
            tensor_set(&mirrored, k, -tensor_get(call->inputs[0], k));
        inputs[0] = &mirrored;
        status = standardise_rescale(call, inputs);
    }
    tensor_free(&mirrored);
    memory_free(inputs);
    return status;
}

/* ---- layers with weights ---- */

typedef enum part { WHOLE, POSITIVE, NEGATIVE, ONES } part;

typedef struct layer {
    evaluation e;
    size_t x, w, x_count, w_count, b_count, z_count;
    const double *values, *weights, *bias; /* of the call; bias may be NULL */
    double *memory;
} layer;

static double take(double value, part which)
{
    return which == WHOLE      ? value
           : which == ONES     ? 1
           : which == POSITIVE ? fmax(value, 0)
                               : fmin(value, 0);
}

static void set_weights(layer *self, part which)
{
    for (size_t i = 0; i < self->w_count; i++)
        evaluation_input(&self->e, self->w)[i] = take(self->weights[i], which);
}

/* out += sign * (the layer with these parts of x, weights and bias); `constant` takes the place of x when
 * not NULL. */
static xai_status add_forward(layer *self, part of_x, const double *constant, part of_w, bool bias,
                              double sign, double *out)
{
    double *x = evaluation_input(&self->e, self->x);
    for (size_t i = 0; i < self->x_count; i++)
        x[i] = constant ? *constant : take(self->values[i], of_x);
    set_weights(self, of_w);
    for (size_t i = 0; self->bias && i < self->b_count; i++)
        evaluation_input(&self->e, 2)[i] = bias ? take(self->bias[i], of_w) : 0;
    const xai_status status = evaluation_forward(&self->e);
    for (size_t i = 0; status == XAI_OK && i < self->z_count; i++)
        out[i] += sign * evaluation_output(&self->e)[i];
    return status;
}

/* out += factor(x) * (transposed weights) c, for x of one sign only when `side` is not 0 */
static xai_status add_backward(layer *self, const double *c, part of_w, int side, double *out)
{
    set_weights(self, of_w);
    memcpy(evaluation_given(&self->e), c, self->z_count * sizeof *c);
    const xai_status status = evaluation_backward(&self->e);
    for (size_t i = 0; status == XAI_OK && i < self->x_count; i++)
        if (side == 0 || (side > 0) == (self->values[i] >= 0))
            out[i] += evaluation_wanted(&self->e, self->x)[i];
    return status;
}

/* Positive parts of z: x+ w+ and x- w-. */
static xai_status positive_parts(layer *self, double *out)
{
    const xai_status status = add_forward(self, POSITIVE, NULL, POSITIVE, true, 1, out);
    return status == XAI_OK ? add_forward(self, NEGATIVE, NULL, NEGATIVE, false, 1, out) : status;
}

/* What comes from positive parts (c_plus) and negative parts (c_minus) of z. */
static xai_status split_backward(layer *self, const double *c_plus, const double *c_minus,
                                 double *out)
{
    xai_status status = add_backward(self, c_plus, POSITIVE, 1, out);
    if (status == XAI_OK)
        status = add_backward(self, c_plus, NEGATIVE, -1, out);
    if (status == XAI_OK)
        status = add_backward(self, c_minus, NEGATIVE, 1, out);
    return status == XAI_OK ? add_backward(self, c_minus, POSITIVE, -1, out) : status;
}

/* m: of z; out: of x, zero at first. scratch: three times z. */
static xai_status layer_rule(layer *self, const relevance_rule *rule, const double *m, double *out,
                             double *scratch)
{
    const size_t n = self->z_count;
    double *z = scratch, *c = scratch + n, *p = scratch + 2 * n;
    xai_status status = add_forward(self, WHOLE, NULL, WHOLE, true, 1, z);
    if (status != XAI_OK)
        return status;
    switch (rule->kind) {
    case RELEVANCE_EPSILON:
        for (size_t j = 0; j < n; j++)
            c[j] = z[j] == 0 ? m[j] : m[j] * z[j] / stabilised(z[j], rule->epsilon);
        return add_backward(self, c, WHOLE, 0, out);
    case RELEVANCE_GAMMA:
    case RELEVANCE_ALPHA_BETA: {
        const bool gamma = rule->kind == RELEVANCE_GAMMA;
        status = positive_parts(self, p);
        if (status != XAI_OK)
            return status;
        for (size_t j = 0; j < n; j++) { /* p becomes the factor of the negative parts */
            const double relevance = m[j] * z[j], plus = p[j], minus = fmin(z[j] - plus, 0);
            if (gamma) {
                const double whole =
                    relevance /
                    stabilised(z[j] + rule->gamma * (z[j] < 0 ? minus : plus), rule->epsilon);
                c[j] = whole * (z[j] < 0 ? 1 : 1 + rule->gamma);
                p[j] = whole * (z[j] < 0 ? 1 + rule->gamma : 1);
            } else {
                c[j] = rule->alpha * relevance / (plus + rule->epsilon);
                p[j] = (1 - rule->alpha) * relevance / (minus - rule->epsilon);
            }
            if (plus == 0 && minus == 0)
                c[j] = p[j] = 0;
        }
        return split_backward(self, c, p, out);
    }
    case RELEVANCE_FLAT: {
        const double one = 1;
        status = add_forward(self, WHOLE, &one, ONES, false, 1, p);
        for (size_t j = 0; j < n; j++)
            c[j] = p[j] == 0 ? 0 : m[j] * z[j] / p[j];
        return status == XAI_OK ? add_backward(self, c, ONES, 0, out) : status;
    }
    case RELEVANCE_BOX:
        break;
    }
    status = add_forward(self, WHOLE, NULL, WHOLE, false, 1, p);
    if (status == XAI_OK)
        status = add_forward(self, WHOLE, &rule->low, POSITIVE, false, -1, p);
    if (status == XAI_OK)
        status = add_forward(self, WHOLE, &rule->high, NEGATIVE, false, -1, p);
    for (size_t j = 0; j < n; j++)
        c[j] = m[j] * z[j] / stabilised(p[j], rule->epsilon);
    if (status == XAI_OK)
        status = add_backward(self, c, WHOLE, 0, out);
    for (size_t i = 0; i < self->x_count; i++)
        out[i] *= self->values[i];
    const double bounds[2] = {rule->low, rule->high};
    for (int side = 0; status == XAI_OK && side < 2; side++) {
        double *transposed = NULL;
        status = operator_allocate(self->e.like, self->x_count, &transposed);
        if (status == XAI_OK)
            status = add_backward(self, c, side ? NEGATIVE : POSITIVE, 0, transposed);
        for (size_t i = 0; status == XAI_OK && i < self->x_count; i++)
            out[i] -= bounds[side] * transposed[i];
        memory_free(transposed);
    }
    return status;
}

static xai_status weighted(operator_call *call, const relevance_rule *rule)
{
    layer self = {.x = call->input_gradients[0] ? 0 : 1};
    double *copies[4] = {NULL}; /* x, weights, bias, m */
    double *out = NULL, *scratch = NULL;
    self.w = 1 - self.x;
    self.x_count = tensor_count(call->inputs[self.x]);
    self.w_count = tensor_count(call->inputs[self.w]);
    self.z_count = tensor_count(call->outputs[0]);
    xai_status status = evaluation_open(&self.e, call, call->definition, call->inputs);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[self.x], &copies[0]);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[self.w], &copies[1]);
    if (status == XAI_OK && operator_has_input(call, 2)) {
        self.b_count = tensor_count(call->inputs[2]);
        status = operator_read_doubles(call, call->inputs[2], &copies[2]);
    }
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->output_gradients[0], &copies[3]);
    if (status == XAI_OK)
        status = operator_allocate(call, self.x_count, &out);
    if (status == XAI_OK)
        status = operator_allocate(call, 3 * self.z_count, &scratch);
    if (status == XAI_OK) {
        self.values = copies[0];
        self.weights = copies[1];
        self.bias = copies[2];
        status = layer_rule(&self, rule, copies[3], out, scratch);
    }
    if (status == XAI_OK)
        tensor_write_doubles(call->input_gradients[self.x], 0, self.x_count, out);
    evaluation_drop(&self.e);
    for (int i = 0; i < 4; i++)
        memory_free(copies[i]);
    memory_free(out);
    memory_free(scratch);
    return status;
}

xai_status operator_relevance(operator_call *call, const relevance_rule *rule,
                              const double shares[2])
{
    const relevance_role role = operator_relevance_role(call->definition);
    if (!operator_output_gradient(call, 0) && role != RELEVANCE_LINEAR &&
        role != RELEVANCE_UNRULED) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    switch (role) {
    case RELEVANCE_WEIGHTED:
        if (call->input_gradients[0] && call->input_gradients[1])
            return product(call, shares);
        return weighted(call, rule);
    case RELEVANCE_PRODUCT:
        if (call->input_gradients[0] && call->input_gradients[1])
            return product(call, shares);
        break;
    case RELEVANCE_CURVE:
        return curve(call, rule);
    case RELEVANCE_DIVIDE:
        if (call->input_gradients[0] && call->input_gradients[1])
            return product(call, (const double[2]){1, 0});
        break;
    case RELEVANCE_STANDARDISE:
        if (operator_wanted_gradient(call, 1) || operator_wanted_gradient(call, 2))
            break;
        return standardised(call);
    default:
        break;
    }
    return call->definition->backward(call);
}
