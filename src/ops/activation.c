/* Activations: y[i] = f(x[i]) with attributes, and Clip with its two forms of bounds. */
#include <float.h>
#include <string.h>

#include "ops/families.h"
#include "ops/unary.h"

#define SQRT_HALF 0.70710678118654752440   /* 1 / sqrt 2 */
#define SQRT_TWO_PI 2.50662827463100050242 /* sqrt(2 pi) */
#define SQRT_TWO_OVER_PI 0.79788456080286535588

/* 1 / (1 + exp(-x)) without overflow and exact to the last bits on both sides. */
static double logistic(double x)
{
    if (x >= 0)
        return 1 / (1 + exp(-x));
    const double e = exp(x);
    return e / (1 + e);
}

static double softplus(double x)
{
    return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
}

static double clamp_unit(double x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

UNARY(leaky_relu, "LeakyRelu", "", 1, OPERATOR_KEEPS_ZERO, UNARY_READS_X, (x < 0 ? alpha * x : x),
      (x > 0 ? 1 : alpha), "alpha", NULL, 0.01f, 0);
UNARY(thresholded_relu, "ThresholdedRelu", "", 10, OPERATOR_KEEPS_ZERO, UNARY_READS_X,
      (x > alpha ? x
       : x != x  ? x
                 : 0),
      (x > alpha), "alpha", NULL, 1.0f, 0);
UNARY(elu, "Elu", "", 1, OPERATOR_KEEPS_ZERO, UNARY_READS_X, (x < 0 ? alpha * expm1(x) : x),
      (x > 0 ? 1 : alpha * exp(x)), "alpha", NULL, 1.0f, 0);
UNARY(selu, "Selu", "", 1, OPERATOR_KEEPS_ZERO, UNARY_READS_X,
      (beta * (x < 0 ? alpha * expm1(x) : x)), (beta * (x > 0 ? 1 : alpha * exp(x))), "alpha",
      "gamma", 1.67326319217681884765625f, 1.05070102214813232421875f);
UNARY(celu, "Celu", "", 12, OPERATOR_KEEPS_ZERO, UNARY_READS_X,
      (x < 0 ? alpha * expm1(x / alpha) : x), (x > 0 ? 1 : exp(x / alpha)), "alpha", NULL, 1.0f, 0);
UNARY(sigmoid, "Sigmoid", "", 1, 0, UNARY_READS_Y, logistic(x), (y * (1 - y)), 0);
UNARY(hard_sigmoid, "HardSigmoid", "", 1, 0, UNARY_READS_Y, (clamp_unit(alpha * x + beta)),
      (y > 0 && y < 1 ? alpha : 0), "alpha", "beta", 0.2f, 0.5f);
UNARY(hard_swish, "HardSwish", "", 14, OPERATOR_KEEPS_ZERO, UNARY_READS_X,
      (x * clamp_unit(x / 6 + 0.5)),
      (x <= -3  ? 0
       : x >= 3 ? 1
                : x / 3 + 0.5),
      0);
UNARY(tanh, "Tanh", "", 1, OPERATOR_KEEPS_ZERO, UNARY_READS_Y, tanh(x), (1 - y * y), 0);
UNARY(softplus, "Softplus", "", 1, 0, UNARY_READS_X, softplus(x), logistic(x), 0);
UNARY(softsign, "Softsign", "", 1, OPERATOR_KEEPS_ZERO, UNARY_READS_X, (x / (1 + fabs(x))),
      (1 / ((1 + fabs(x)) * (1 + fabs(x)))), 0);
UNARY(silu, "Silu", "xai", 1, OPERATOR_KEEPS_ZERO, UNARY_READS_X, (x * logistic(x)),
      (logistic(x) * (1 + x * logistic(-x))), 0);
UNARY(swish, "Swish", "", 24, OPERATOR_KEEPS_ZERO, UNARY_READS_X, (x * logistic(alpha * x)),
      (logistic(alpha * x) * (1 + alpha * x * logistic(-alpha * x))), "alpha", NULL, 1.0f, 0);
/* x < -lambd: x + bias; x > lambd: x - bias; 0 between. alpha = bias, beta = lambd. */
UNARY(shrink, "Shrink", "", 9, 0, UNARY_READS_X,
      (x < -beta  ? x + alpha
       : x > beta ? x - alpha
       : x != x   ? x
                  : 0),
      (x < -beta || x > beta), "bias", "lambd", 0.0f, 0.5f);

/* Mish: x tanh(softplus(x)). */
static double mish_slope(double x)
{
    const double t = tanh(softplus(x));
    return t + x * (1 - t * t) * logistic(x);
}
UNARY(mish, "Mish", "", 18, OPERATOR_KEEPS_ZERO, UNARY_READS_X, (x * tanh(softplus(x))),
      mish_slope(x), 0);

/* Relu of integers needs no loop over doubles; NaN stays NaN. The slope at 0 is 0. */
UNARY_LOOPS(relu, UNARY_READS_Y, (x < 0 ? 0 : x), (y > 0), 0);

static xai_status relu_infer(operator_call *call)
{
    return unary_infer(call, &relu_kernel, TYPES_FLOAT | TYPES_SIGNED);
}

static xai_status relu_forward(operator_call *call)
{
    const tensor *x = call->inputs[0];
    if (dtype_is_float(x->dtype))
        return unary_forward(call, &relu_kernel);
    const size_t count = tensor_count(x);
    for (size_t i = 0; i < count; i++) {
        const int64_t value = tensor_get_int(x, i);
        tensor_set_int(call->outputs[0], i, value < 0 ? 0 : value);
    }
    return XAI_OK;
}

static xai_status relu_backward(operator_call *call)
{
    return unary_backward(call, &relu_kernel);
}

const operator_definition operator_relu = {"Relu",
                                           "",
                                           1,
                                           1,
                                           1,
                                           1,
                                           1,
                                           OPERATOR_ELEMENTWISE | OPERATOR_KEEPS_ZERO,
                                           UNARY_READS_Y,
                                           relu_infer,
                                           relu_forward,
                                           relu_backward};

/* Gelu: x Phi(x), Phi the normal distribution, or its approximation by tanh. */
static double gelu_tanh_argument(double x)
{
    return SQRT_TWO_OVER_PI * (x + 0.044715 * x * x * x);
}

static double gelu_tanh_slope(double x)
{
    const double t = tanh(gelu_tanh_argument(x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * SQRT_TWO_OVER_PI * (1 + 3 * 0.044715 * x * x);
}

UNARY_LOOPS(gelu, UNARY_READS_X, (0.5 * x * erfc(-x * SQRT_HALF)),
            (0.5 * erfc(-x * SQRT_HALF) + x * exp(-0.5 * x * x) / SQRT_TWO_PI), 0);
UNARY_LOOPS(gelu_tanh, UNARY_READS_X, (0.5 * x * (1 + tanh(gelu_tanh_argument(x)))),
            gelu_tanh_slope(x), 0);

static xai_status gelu_choose(const operator_call *call, const unary_kernel **kernel)
{
    const char *approximate;
    const xai_status status = operator_attribute_text(call, "approximate", "none", &approximate);
    if (status != XAI_OK)
        return status;
    if (strcmp(approximate, "none") != 0 && strcmp(approximate, "tanh") != 0)
        return operator_error(call, XAI_ERROR_FORMAT,
                              "attribute 'approximate' is '%s', not 'none' or 'tanh'", approximate);
    *kernel = approximate[0] == 't' ? &gelu_tanh_kernel : &gelu_kernel;
    return XAI_OK;
}

static xai_status gelu_infer(operator_call *call)
{
    const unary_kernel *kernel = NULL;
    const xai_status status = gelu_choose(call, &kernel);
    return status == XAI_OK ? unary_infer(call, kernel, TYPES_FLOAT) : status;
}

static xai_status gelu_forward(operator_call *call)
{
    const unary_kernel *kernel = NULL;
    const xai_status status = gelu_choose(call, &kernel);
    return status == XAI_OK ? unary_forward(call, kernel) : status;
}

static xai_status gelu_backward(operator_call *call)
{
    const unary_kernel *kernel = NULL;
    const xai_status status = gelu_choose(call, &kernel);
    return status == XAI_OK ? unary_backward(call, kernel) : status;
}

const operator_definition operator_gelu = {"Gelu",
                                           "",
                                           1,
                                           1,
                                           1,
                                           1,
                                           20,
                                           OPERATOR_ELEMENTWISE | OPERATOR_KEEPS_ZERO,
                                           UNARY_READS_X,
                                           gelu_infer,
                                           gelu_forward,
                                           gelu_backward};

/* Clip: min(max(x, low), high); the bounds are attributes before opset 11 and scalar inputs 1 and
 * 2 since. */
/* The bound as a value of the element type: backward compares it with what forward stored. */
static double round_to_type(int32_t dtype, float value)
{
    double storage = 0;
    tensor scalar = {.dtype = dtype, .data = &storage};
    tensor_set(&scalar, 0, (double)value);
    return tensor_get(&scalar, 0);
}

static xai_status clip_bounds(const operator_call *call, double *low, double *high)
{
    *low = -INFINITY;
    *high = INFINITY;
    if (call->opset >= 11) {
        if (operator_has_input(call, 1))
            *low = tensor_get(call->inputs[1], 0);
        if (operator_has_input(call, 2))
            *high = tensor_get(call->inputs[2], 0);
        return XAI_OK;
    }
    float from, to;
    xai_status status = operator_attribute_float(call, "min", -FLT_MAX, &from);
    if (status == XAI_OK)
        status = operator_attribute_float(call, "max", FLT_MAX, &to);
    if (status != XAI_OK)
        return status;
    const tensor *x = call->inputs[0];
    /* The defaults stand for no bound: they must not turn a double beyond float's range into
     * FLT_MAX. */
    *low = from == -FLT_MAX ? -INFINITY : round_to_type(x->dtype, from);
    *high = to == FLT_MAX ? INFINITY : round_to_type(x->dtype, to);
    return XAI_OK;
}

static xai_status clip_infer(operator_call *call)
{
    char text[SHAPE_TEXT_SIZE];
    double low, high;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_NUMBER);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape);
    if (status == XAI_OK && call->opset < 11 && call->input_count > 1)
        return operator_error(call, XAI_ERROR_FORMAT,
                              "bounds are attributes in opset %d, not inputs", call->opset);
    for (int i = 1; status == XAI_OK && i < call->input_count; i++) {
        if (!call->inputs[i])
            continue;
        status = operator_check_same_type(call, 0, i);
        size_t count;
        if (status == XAI_OK && (!shape_count(&call->inputs[i]->shape, &count) || count != 1))
            status = operator_error(call, XAI_ERROR_SHAPE,
                                    "bound %d has shape %s where one number is needed", i,
                                    shape_text(&call->inputs[i]->shape, text));
    }
    if (status == XAI_OK && call->opset < 11)
        status = clip_bounds(call, &low, &high);
    return status;
}

static xai_status clip_integers(operator_call *call)
{
    const tensor *x = call->inputs[0];
    const bool is_unsigned =
        x->dtype == DTYPE_UINT64; /* the one type that int64 does not hold in order */
    const uint64_t order =
        is_unsigned ? (uint64_t)1 << 63 : 0; /* flipping the top bit gives int64's order */
    const bool has_low = operator_has_input(call, 1), has_high = operator_has_input(call, 2);
    const int64_t low =
        has_low ? (int64_t)((uint64_t)tensor_get_int(call->inputs[1], 0) ^ order) : INT64_MIN;
    const int64_t high =
        has_high ? (int64_t)((uint64_t)tensor_get_int(call->inputs[2], 0) ^ order) : INT64_MAX;
    const size_t count = tensor_count(x);
    for (size_t i = 0; i < count; i++) {
        int64_t value = (int64_t)((uint64_t)tensor_get_int(x, i) ^ order);
        value = value < low ? low : value;
        value = value > high ? high : value;
        tensor_set_int(call->outputs[0], i, (int64_t)((uint64_t)value ^ order));
    }
    return XAI_OK;
}

static xai_status clip_forward(operator_call *call)
{
    double *x = NULL, low, high;
    const tensor *input = call->inputs[0];
    if (!dtype_is_float(input->dtype))
        return clip_integers(call);
    const size_t count = tensor_count(input);
    xai_status status = clip_bounds(call, &low, &high);
    if (status == XAI_OK)
        status = operator_read_doubles(call, input, &x);
    if (status != XAI_OK)
        return status;
    for (size_t i = 0; i < count; i++) { /* NaN fails both comparisons and stays */
        const double raised = x[i] < low ? low : x[i];
        x[i] = raised > high ? high : raised;
    }
    tensor_write_doubles(call->outputs[0], 0, count, x);
    memory_free(x);
    return XAI_OK;
}

/* Inside the bounds the slope is 1; on a bound the gradient belongs to the bound. From y alone: y
 * == high or y == low. */
static xai_status clip_backward(operator_call *call)
{
    double *y = NULL, *g = NULL, low, high, low_sum = 0, high_sum = 0;
    tensor *gx = operator_wanted_gradient(call, 0), *glow = operator_wanted_gradient(call, 1);
    tensor *ghigh = operator_wanted_gradient(call, 2);
    const tensor *given = operator_output_gradient(call, 0);
    if (!given) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    const size_t count = tensor_count(given);
    xai_status status = clip_bounds(call, &low, &high);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->outputs[0], &y);
    if (status == XAI_OK)
        status = operator_read_doubles(call, given, &g);
    if (status != XAI_OK)
        goto done;
    for (size_t i = 0; i < count; i++) {
        if (y[i] >= high) {
            high_sum += g[i];
            g[i] = 0;
        } else if (y[i] <= low) {
            low_sum += g[i];
            g[i] = 0;
        }
    }
    if (gx)
        tensor_write_doubles(gx, 0, count, g);
    if (glow)
        tensor_set(glow, 0, low_sum);
    if (ghigh)
        tensor_set(ghigh, 0, high_sum);
done:
    memory_free(y);
    memory_free(g);
    return status;
}

const operator_definition operator_clip = {"Clip",
                                           "",
                                           1,
                                           3,
                                           1,
                                           1,
                                           1,
                                           OPERATOR_ELEMENTWISE,
                                           OPERATOR_READS_OUTPUT(0) | OPERATOR_READS_INPUT(1) |
                                               OPERATOR_READS_INPUT(2),
                                           clip_infer,
                                           clip_forward,
                                           clip_backward};
