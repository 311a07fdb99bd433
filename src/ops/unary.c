/* Elementary functions of one number: y[i] = f(x[i]). */
#include "ops/unary.h"

#include "ops/families.h"

#define CHUNK 1024 /* elements at a time: the pieces stay in the first-level cache */

static xai_status read_attributes(const operator_call *call, const unary_attributes *names,
                                  double *alpha, double *beta)
{
    float first = names->alpha, second = names->beta;
    xai_status status = XAI_OK;
    if (names->alpha_name)
        status = operator_attribute_float(call, names->alpha_name, names->alpha, &first);
    if (status == XAI_OK && names->beta_name)
        status = operator_attribute_float(call, names->beta_name, names->beta, &second);
    *alpha = (double)first;
    *beta = (double)second;
    return status;
}

xai_status unary_infer(operator_call *call, const unary_kernel *kernel, uint32_t types)
{
    double alpha, beta;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = read_attributes(call, &kernel->attributes, &alpha, &beta);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, types);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape);
    return status;
}

xai_status unary_forward(operator_call *call, const unary_kernel *kernel)
{
    double x[CHUNK], y[CHUNK], alpha, beta;
    const size_t count = tensor_count(call->inputs[0]);
    const xai_status status = read_attributes(call, &kernel->attributes, &alpha, &beta);
    if (status != XAI_OK)
        return status;
    for (size_t begin = 0; begin < count; begin += CHUNK) {
        const size_t size = count - begin < CHUNK ? count - begin : CHUNK;
        tensor_read_doubles(call->inputs[0], begin, size, x);
        kernel->values(alpha, beta, size, x, y);
        tensor_write_doubles(call->outputs[0], begin, size, y);
    }
    return XAI_OK;
}

xai_status unary_backward(operator_call *call, const unary_kernel *kernel)
{
    double x[CHUNK] = {0}, y[CHUNK] = {0}, g[CHUNK], alpha, beta;
    tensor *wanted = operator_wanted_gradient(call, 0);
    const tensor *given = operator_output_gradient(call, 0);
    if (!wanted)
        return XAI_OK;
    if (!given) {
        operator_zero(wanted);
        return XAI_OK;
    }
    const xai_status status = read_attributes(call, &kernel->attributes, &alpha, &beta);
    if (status != XAI_OK)
        return status;
    const size_t count = tensor_count(wanted);
    for (size_t begin = 0; begin < count; begin += CHUNK) {
        const size_t size = count - begin < CHUNK ? count - begin : CHUNK;
        if (kernel->reads_input)
            tensor_read_doubles(call->inputs[0], begin, size, x);
        if (kernel->reads_output)
            tensor_read_doubles(call->outputs[0], begin, size, y);
        tensor_read_doubles(given, begin, size, g);
        kernel->slopes(alpha, beta, size, x, y, g);
        tensor_write_doubles(wanted, begin, size, g);
    }
    return XAI_OK;
}

UNARY(exp, "Exp", "", 1, 0, UNARY_READS_Y, exp(x), y, 0);
UNARY(log, "Log", "", 1, 0, UNARY_READS_X, log(x), (1 / x), 0);
UNARY(sqrt, "Sqrt", "", 1, OPERATOR_KEEPS_ZERO, UNARY_READS_Y, sqrt(x), (0.5 / y), 0);
UNARY(reciprocal, "Reciprocal", "", 1, 0, UNARY_READS_Y, (1 / x), (-y * y), 0);
UNARY(erf, "Erf", "", 9, OPERATOR_KEEPS_ZERO, UNARY_READS_X, erf(x), (M_2_SQRTPI * exp(-x * x)), 0);
/* No operator of ONNX, but what tf2onnx writes for TensorFlow's exact GELU, x/2 erfc(-x / sqrt 2). */
UNARY(erfc, "Erfc", "", 1, 0, UNARY_READS_X, erfc(x), (-M_2_SQRTPI * exp(-x * x)), 0);
UNARY(sin, "Sin", "", 7, OPERATOR_KEEPS_ZERO, UNARY_READS_X, sin(x), cos(x), 0);
UNARY(cos, "Cos", "", 7, 0, UNARY_READS_X, cos(x), -sin(x), 0);
UNARY(tan, "Tan", "", 7, OPERATOR_KEEPS_ZERO, UNARY_READS_Y, tan(x), (1 + y * y), 0);
UNARY(asin, "Asin", "", 7, OPERATOR_KEEPS_ZERO, UNARY_READS_X, asin(x), (1 / sqrt(1 - x * x)), 0);
UNARY(acos, "Acos", "", 7, 0, UNARY_READS_X, acos(x), (-1 / sqrt(1 - x * x)), 0);
UNARY(atan, "Atan", "", 7, OPERATOR_KEEPS_ZERO, UNARY_READS_X, atan(x), (1 / (1 + x * x)), 0);
UNARY(sinh, "Sinh", "", 9, OPERATOR_KEEPS_ZERO, UNARY_READS_X, sinh(x), cosh(x), 0);
UNARY(cosh, "Cosh", "", 9, 0, UNARY_READS_X, cosh(x), sinh(x), 0);
UNARY(asinh, "Asinh", "", 9, OPERATOR_KEEPS_ZERO, UNARY_READS_X, asinh(x), (1 / sqrt(x * x + 1)),
      0);
UNARY(acosh, "Acosh", "", 9, 0, UNARY_READS_X, acosh(x), (1 / sqrt((x - 1) * (x + 1))), 0);
UNARY(atanh, "Atanh", "", 9, OPERATOR_KEEPS_ZERO, UNARY_READS_X, atanh(x),
      (1 / ((1 - x) * (1 + x))), 0);

/* Integer types stay exact: int64 in, low bits out. `is_unsigned` tells uint64 values above
 * INT64_MAX from negative ones. */
static xai_status integer_forward(operator_call *call, int64_t (*f)(int64_t x, bool is_unsigned))
{
    int64_t x[CHUNK];
    const int32_t dtype = call->inputs[0]->dtype;
    const bool is_unsigned = dtype > 0 && (TYPES_UNSIGNED >> dtype & 1);
    const size_t count = tensor_count(call->inputs[0]);
    for (size_t begin = 0; begin < count; begin += CHUNK) {
        const size_t size = count - begin < CHUNK ? count - begin : CHUNK;
        tensor_read_ints(call->inputs[0], begin, size, x);
        for (size_t i = 0; i < size; i++)
            tensor_set_int(call->outputs[0], begin + i, f(x[i], is_unsigned));
    }
    return XAI_OK;
}

static int64_t integer_abs(int64_t x, bool is_unsigned)
{
    return is_unsigned || x >= 0 ? x : (int64_t)(0 - (uint64_t)x);
}

static int64_t integer_neg(int64_t x, bool is_unsigned)
{
    (void)is_unsigned;
    return (int64_t)(0 - (uint64_t)x);
}

static int64_t integer_sign(int64_t x, bool is_unsigned)
{
    return x == 0 ? 0 : is_unsigned || x > 0 ? 1 : -1;
}

/* An operator on float types by its kernel and on integer types by its function. */
#define UNARY_WITH_INTEGERS(symbol, name, first_opset, types, READS, VALUE, SLOPE)             \
    UNARY_LOOPS(symbol, READS, VALUE, SLOPE, 0);                                               \
    static xai_status symbol##_infer(operator_call *call)                                      \
    {                                                                                          \
        return unary_infer(call, &symbol##_kernel, types);                                     \
    }                                                                                          \
    static xai_status symbol##_forward(operator_call *call)                                    \
    {                                                                                          \
        if (!dtype_is_float(call->inputs[0]->dtype))                                           \
            return integer_forward(call, integer_##symbol);                                    \
        return unary_forward(call, &symbol##_kernel);                                          \
    }                                                                                          \
    static xai_status symbol##_backward(operator_call *call)                                   \
    {                                                                                          \
        return unary_backward(call, &symbol##_kernel);                                         \
    }                                                                                          \
    const operator_definition operator_##symbol = {name,                                       \
                                                   "",                                         \
                                                   1,                                          \
                                                   1,                                          \
                                                   1,                                          \
                                                   1,                                          \
                                                   first_opset,                                \
                                                   OPERATOR_ELEMENTWISE | OPERATOR_KEEPS_ZERO, \
                                                   (READS),                                    \
                                                   symbol##_infer,                             \
                                                   symbol##_forward,                           \
                                                   symbol##_backward}

UNARY_WITH_INTEGERS(abs, "Abs", 1, TYPES_NUMBER, UNARY_READS_X, fabs(x),
                    ((double)((x > 0) - (x < 0))));
UNARY_WITH_INTEGERS(neg, "Neg", 1, TYPES_FLOAT | TYPES_SIGNED, 0, -x, -1);
/* NaN stays NaN, and the slope is zero almost everywhere. */
UNARY_WITH_INTEGERS(sign, "Sign", 9, TYPES_NUMBER, 0, (x > 0 ? 1 : x < 0 ? -1 : x), 0);
UNARY(floor, "Floor", "", 1, OPERATOR_KEEPS_ZERO, 0, floor(x), 0, 0);
UNARY(ceil, "Ceil", "", 1, OPERATOR_KEEPS_ZERO, 0, ceil(x), 0, 0);
/* Halves go to the even neighbour, as in IEEE 754's default rounding. */
UNARY(round, "Round", "", 11, OPERATOR_KEEPS_ZERO, 0, nearbyint(x), 0, 0);

/* Predicates: one input, a bool output, no gradient. */
static xai_status predicate_infer(operator_call *call, uint32_t types)
{
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, types);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, DTYPE_BOOL, &call->inputs[0]->shape);
    return status;
}

static xai_status not_infer(operator_call *call)
{
    return predicate_infer(call, TYPES_BOOL);
}

static xai_status not_forward(operator_call *call)
{
    const unsigned char *x = call->inputs[0]->data;
    unsigned char *y = call->outputs[0]->data;
    const size_t count = tensor_count(call->inputs[0]);
    for (size_t i = 0; i < count; i++)
        y[i] = x[i] == 0;
    return XAI_OK;
}

static xai_status is_nan_infer(operator_call *call)
{
    return predicate_infer(call, TYPES_FLOAT);
}

static xai_status is_nan_forward(operator_call *call)
{
    unsigned char *y = call->outputs[0]->data;
    const size_t count = tensor_count(call->inputs[0]);
    for (size_t i = 0; i < count; i++)
        y[i] = (unsigned char)(isnan(tensor_get(call->inputs[0], i)) != 0);
    return XAI_OK;
}

static xai_status is_inf_forward(operator_call *call)
{
    int64_t negative, positive;
    unsigned char *y = call->outputs[0]->data;
    const size_t count = tensor_count(call->inputs[0]);
    xai_status status = operator_attribute_int(call, "detect_negative", 1, &negative);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "detect_positive", 1, &positive);
    if (status != XAI_OK)
        return status;
    for (size_t i = 0; i < count; i++) {
        const double x = tensor_get(call->inputs[0], i);
        y[i] = isinf(x) && (x > 0 ? positive != 0 : negative != 0);
    }
    return XAI_OK;
}

const operator_definition operator_not = {"Not", "", 1, 1,         1,           1,
                                          1,     0,  0, not_infer, not_forward, NULL};
const operator_definition operator_is_nan = {"IsNaN",        "",  1, 1, 1, 1, 9, 0, 0, is_nan_infer,
                                             is_nan_forward, NULL};
const operator_definition operator_is_inf = {
    "IsInf", "", 1, 1, 1, 1, 10, 0, 0, is_nan_infer, is_inf_forward, NULL};
