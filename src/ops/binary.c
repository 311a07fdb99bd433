/* Arithmetic of two tensors with NumPy's broadcasting, and PRelu. Integers are exact (int64,
 * wrapping to their type). */
#include "ops/binary.h"

#include <string.h>

#include "ops/families.h"

number_class number_class_of(int32_t dtype)
{
    if (dtype_is_float(dtype))
        return NUMBER_FLOAT;
    return TYPES_UNSIGNED >> dtype & 1 ? NUMBER_UNSIGNED : NUMBER_SIGNED;
}

xai_status binary_operands_read(const operator_call *call, const shape *common,
                                binary_operands *out)
{
    const tensor *a = call->inputs[0], *b = call->inputs[1];
    *out = (binary_operands){.class = number_class_of(a->dtype)};
    if (!shape_count(common, &out->count))
        return operator_error(call, XAI_ERROR_SHAPE, "the broadcast shape is too large");
    const bool as_doubles = out->class == NUMBER_FLOAT;
    xai_status status = operator_read_repeated(call, a, as_doubles, common, &out->a);
    if (status == XAI_OK)
        status = operator_read_repeated(call, b, as_doubles, common, &out->b);
    if (status != XAI_OK)
        binary_operands_free(out);
    return status;
}

void binary_operands_free(binary_operands *self)
{
    memory_free(self->a);
    memory_free(self->b);
    *self = (binary_operands){0};
}

xai_status binary_infer(operator_call *call, uint32_t types, int32_t output_dtype)
{
    shape common;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, types);
    if (status == XAI_OK)
        status = operator_check_same_type(call, 0, 1);
    if (status == XAI_OK)
        status =
            operator_broadcast(call, &call->inputs[0]->shape, &call->inputs[1]->shape, &common);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, output_dtype ? output_dtype : call->inputs[0]->dtype,
                                     &common);
    return status;
}

/* y over the first operand. False: an integer was divided by zero. */
typedef bool (*binary_loop)(size_t count, void *a, const void *b);
/* g holds the gradient of y on entry and that of one operand on return; y is not kept. */
typedef void (*binary_slope)(size_t count, const double *a, const double *b, double *g);

typedef struct binary_kernel {
    binary_loop loops[NUMBER_CLASSES];
    binary_slope slopes[2]; /* by operand */
    bool slopes_read;       /* the operands' values */
} binary_kernel;

static xai_status binary_forward(operator_call *call, const binary_kernel *kernel)
{
    binary_operands operands;
    tensor *y = call->outputs[0];
    xai_status status = binary_operands_read(call, &y->shape, &operands);
    if (status != XAI_OK)
        return status;
    if (!kernel->loops[operands.class](operands.count, operands.a, operands.b))
        status = operator_error(call, XAI_ERROR_NUMERIC, "an integer is divided by zero");
    else if (operands.class == NUMBER_FLOAT)
        tensor_write_doubles(y, 0, operands.count, operands.a);
    else
        operator_write_ints(y, operands.a);
    binary_operands_free(&operands);
    return status;
}

static xai_status binary_backward(operator_call *call, const binary_kernel *kernel)
{
    binary_operands operands = {0};
    double *g = NULL;
    const tensor *given = operator_output_gradient(call, 0);
    xai_status status = XAI_OK;
    if (!given) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    const shape *common = &given->shape;
    const size_t count = tensor_count(given);
    if (kernel->slopes_read) {
        status = binary_operands_read(call, common, &operands);
        if (status != XAI_OK)
            return status;
    }
    for (int i = 0; status == XAI_OK && i < 2; i++) {
        tensor *wanted = operator_wanted_gradient(call, i);
        if (!wanted)
            continue;
        status = operator_read_doubles(call, given, &g);
        if (status == XAI_OK) {
            kernel->slopes[i](count, operands.a, operands.b, g);
            status = operator_write_reduced(call, common, g, wanted);
        }
        memory_free(g);
        g = NULL;
    }
    binary_operands_free(&operands);
    return status;
}

/* Loops over one class: VALUE and SLOPE are expressions of a and b; the result replaces a, the
 * slope multiplies g. */
#define BINARY_LOOP(symbol, type, VALUE)                              \
    static bool symbol(size_t count, void *first, const void *second) \
    {                                                                 \
        type *as = first;                                             \
        const type *bs = second;                                      \
        for (size_t i = 0; i < count; i++) {                          \
            const type a = as[i], b = bs[i];                          \
            as[i] = VALUE;                                            \
        }                                                             \
        return true;                                                  \
    }
#define BINARY_SLOPE(symbol, SLOPE)                                                 \
    static void symbol(size_t count, const double *as, const double *bs, double *g) \
    {                                                                               \
        for (size_t i = 0; i < count; i++) {                                        \
            const double a = as[i], b = bs[i];                                      \
            (void)a, (void)b;                                                       \
            g[i] *= SLOPE;                                                          \
        }                                                                           \
    }
#define BINARY_DEFINITION(symbol, name, first_opset, types, reads)   \
    static xai_status symbol##_infer(operator_call *call)            \
    {                                                                \
        return binary_infer(call, types, DTYPE_UNDEFINED);           \
    }                                                                \
    static xai_status symbol##_forward(operator_call *call)          \
    {                                                                \
        return binary_forward(call, &symbol##_kernel);               \
    }                                                                \
    static xai_status symbol##_backward(operator_call *call)         \
    {                                                                \
        return binary_backward(call, &symbol##_kernel);              \
    }                                                                \
    const operator_definition operator_##symbol = {name,             \
                                                   "",               \
                                                   2,                \
                                                   2,                \
                                                   1,                \
                                                   1,                \
                                                   first_opset,      \
                                                   0,                \
                                                   reads,            \
                                                   symbol##_infer,   \
                                                   symbol##_forward, \
                                                   symbol##_backward}

#define READS_BOTH (OPERATOR_READS_INPUT(0) | OPERATOR_READS_INPUT(1))

/* Signed arithmetic goes through uint64, where overflow wraps instead of being undefined. */
BINARY_LOOP(add_doubles, double, a + b)
BINARY_LOOP(add_integers, uint64_t, a + b)
BINARY_LOOP(subtract_doubles, double, a - b)
BINARY_LOOP(subtract_integers, uint64_t, a - b)
BINARY_LOOP(multiply_doubles, double, (a * b))
BINARY_LOOP(multiply_integers, uint64_t, (a * b))
BINARY_LOOP(divide_doubles, double, a / b)

static void slope_one(size_t count, const double *a, const double *b, double *g)
{
    (void)count, (void)a, (void)b, (void)g;
}

static void slope_minus_one(size_t count, const double *a, const double *b, double *g)
{
    (void)a, (void)b;
    for (size_t i = 0; i < count; i++)
        g[i] = -g[i];
}

BINARY_SLOPE(slope_a, a)
BINARY_SLOPE(slope_b, b)
BINARY_SLOPE(divide_slope_a, 1 / b)
BINARY_SLOPE(divide_slope_b, -a / (b * b))

static const binary_kernel add_kernel = {
    {add_doubles, add_integers, add_integers}, {slope_one, slope_one}, false};
static const binary_kernel sub_kernel = {
    {subtract_doubles, subtract_integers, subtract_integers}, {slope_one, slope_minus_one}, false};
static const binary_kernel mul_kernel = {
    {multiply_doubles, multiply_integers, multiply_integers}, {slope_b, slope_a}, true};
BINARY_DEFINITION(add, "Add", 7, TYPES_NUMBER, 0);
BINARY_DEFINITION(sub, "Sub", 7, TYPES_NUMBER, 0);
BINARY_DEFINITION(mul, "Mul", 7, TYPES_NUMBER, READS_BOTH);

/* Integer quotients are rounded toward zero. */
static bool divide_signed(size_t count, void *first, const void *second)
{
    int64_t *a = first;
    const int64_t *b = second;
    for (size_t i = 0; i < count; i++) {
        if (b[i] == 0)
            return false;
        a[i] = b[i] == -1 ? (int64_t)(0 - (uint64_t)a[i]) : a[i] / b[i]; /* INT64_MIN / -1 wraps */
    }
    return true;
}

static bool divide_unsigned(size_t count, void *first, const void *second)
{
    uint64_t *a = first;
    const uint64_t *b = second;
    for (size_t i = 0; i < count; i++) {
        if (b[i] == 0)
            return false;
        a[i] /= b[i];
    }
    return true;
}

static const binary_kernel div_kernel = {
    {divide_doubles, divide_signed, divide_unsigned}, {divide_slope_a, divide_slope_b}, true};
BINARY_DEFINITION(div, "Div", 7, TYPES_NUMBER, READS_BOTH);

/* Mod: the remainder has the sign of the divisor (fmod = 0) or of the dividend (fmod = 1).
 * Floats with fmod = 0 have a meaning since opset 28 only, and get the same before, as NumPy
 * does. */
static double floor_mod(double a, double b)
{
    const double r = fmod(a, b);
    if (r == 0)
        return copysign(r, b);
    return (r < 0) != (b < 0) ? r + b : r;
}

static bool mod_signed(size_t count, void *first, const void *second)
{
    int64_t *a = first;
    const int64_t *b = second;
    for (size_t i = 0; i < count; i++) {
        if (b[i] == 0)
            return false;
        const int64_t r = b[i] == -1 ? 0 : a[i] % b[i];
        a[i] = r != 0 && (r < 0) != (b[i] < 0) ? r + b[i] : r;
    }
    return true;
}

static bool fmod_signed(size_t count, void *first, const void *second)
{
    int64_t *a = first;
    const int64_t *b = second;
    for (size_t i = 0; i < count; i++) {
        if (b[i] == 0)
            return false;
        a[i] = b[i] == -1 ? 0 : a[i] % b[i];
    }
    return true;
}

static bool mod_unsigned(size_t count, void *first, const void *second)
{
    uint64_t *a = first;
    const uint64_t *b = second;
    for (size_t i = 0; i < count; i++) {
        if (b[i] == 0)
            return false;
        a[i] %= b[i];
    }
    return true;
}

BINARY_LOOP(mod_doubles, double, floor_mod(a, b))
BINARY_LOOP(fmod_doubles, double, fmod(a, b))
BINARY_SLOPE(mod_slope_b, -floor(a / b))
BINARY_SLOPE(fmod_slope_b, -trunc(a / b))

static const binary_kernel mod_kernel = {
    {mod_doubles, mod_signed, mod_unsigned}, {slope_one, mod_slope_b}, true};
static const binary_kernel fmod_kernel = {
    {fmod_doubles, fmod_signed, mod_unsigned}, {slope_one, fmod_slope_b}, true};

static xai_status mod_choose(const operator_call *call, const binary_kernel **kernel)
{
    int64_t keeps_dividend_sign;
    const xai_status status = operator_attribute_int(call, "fmod", 0, &keeps_dividend_sign);
    *kernel = keeps_dividend_sign ? &fmod_kernel : &mod_kernel;
    return status;
}

static xai_status mod_infer(operator_call *call)
{
    const binary_kernel *kernel;
    xai_status status = mod_choose(call, &kernel);
    if (status == XAI_OK)
        status = binary_infer(call, TYPES_NUMBER, DTYPE_UNDEFINED);
    return status;
}

static xai_status mod_forward(operator_call *call)
{
    const binary_kernel *kernel;
    const xai_status status = mod_choose(call, &kernel);
    return status == XAI_OK ? binary_forward(call, kernel) : status;
}

static xai_status mod_backward(operator_call *call)
{
    const binary_kernel *kernel;
    const xai_status status = mod_choose(call, &kernel);
    return status == XAI_OK ? binary_backward(call, kernel) : status;
}

const operator_definition operator_mod = {
    "Mod", "", 2, 2, 1, 1, 10, 0, READS_BOTH, mod_infer, mod_forward, mod_backward};

/* PRelu: x < 0 ? slope x : x; the slope is repeated to the shape of x, never the other way. */
BINARY_LOOP(prelu_doubles, double, a < 0 ? a * b : a)
BINARY_LOOP(prelu_signed, int64_t, a < 0 ? (int64_t)((uint64_t)a * (uint64_t)b) : a)
BINARY_LOOP(prelu_unsigned, uint64_t, ((void)b, a))
BINARY_SLOPE(prelu_slope_x, a > 0 ? 1 : b)
BINARY_SLOPE(prelu_slope_slope, a < 0 ? a : 0)

static const binary_kernel prelu_kernel = {
    {prelu_doubles, prelu_signed, prelu_unsigned}, {prelu_slope_x, prelu_slope_slope}, true};

static xai_status prelu_infer(operator_call *call)
{
    char text[SHAPE_TEXT_SIZE], slope_text[SHAPE_TEXT_SIZE];
    shape common;
    xai_status status = binary_infer(call, TYPES_NUMBER, DTYPE_UNDEFINED);
    if (status == XAI_OK)
        status =
            operator_broadcast(call, &call->inputs[0]->shape, &call->inputs[1]->shape, &common);
    if (status == XAI_OK && !shape_equal(&common, &call->inputs[0]->shape))
        status =
            operator_error(call, XAI_ERROR_SHAPE, "slope of shape %s does not fit x of shape %s",
                           shape_text(&call->inputs[1]->shape, slope_text),
                           shape_text(&call->inputs[0]->shape, text));
    return status;
}

static xai_status prelu_forward(operator_call *call)
{
    return binary_forward(call, &prelu_kernel);
}

static xai_status prelu_backward(operator_call *call)
{
    return binary_backward(call, &prelu_kernel);
}

const operator_definition operator_prelu = {
    "PRelu", "", 2, 2, 1, 1, 7, 0, READS_BOTH, prelu_infer, prelu_forward, prelu_backward};
