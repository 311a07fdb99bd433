/* Pow: base and exponent may have different types; the result has the base's. */
#include "ops/binary.h"
#include "ops/families.h"

static xai_status pow_infer(operator_call *call)
{
    shape common;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_NUMBER);
    if (status == XAI_OK)
        status = operator_check_type(call, 1, TYPES_NUMBER);
    if (status == XAI_OK && call->opset < 12)
        status = operator_check_same_type(call, 0, 1);
    if (status == XAI_OK)
        status =
            operator_broadcast(call, &call->inputs[0]->shape, &call->inputs[1]->shape, &common);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &common);
    return status;
}

/* base^exponent by squaring, wrapping; exponent >= 0. */
static uint64_t integer_power(uint64_t base, uint64_t exponent)
{
    uint64_t result = 1;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1)
            result *= base;
        base *= base;
    }
    return result;
}

/* base^exponent for a negative exponent, rounded toward zero: only 1 and -1 leave something. */
static int64_t integer_root(int64_t base, int64_t exponent)
{
    if (base == 1)
        return 1;
    return base == -1 ? (exponent & 1 ? -1 : 1) : 0;
}

static xai_status pow_integers(operator_call *call)
{
    void *a_words = NULL, *b_words = NULL;
    tensor *y = call->outputs[0];
    const size_t count = tensor_count(y);
    const bool exponent_unsigned = number_class_of(call->inputs[1]->dtype) == NUMBER_UNSIGNED;
    xai_status status = operator_read_repeated(call, call->inputs[0], false, &y->shape, &a_words);
    if (status == XAI_OK)
        status = operator_read_repeated(call, call->inputs[1], false, &y->shape, &b_words);
    if (status == XAI_OK) {
        const int64_t *a = a_words, *b = b_words;
        for (size_t i = 0; status == XAI_OK && i < count; i++) {
            if (b[i] >= 0 || exponent_unsigned)
                tensor_set_int(y, i, (int64_t)integer_power((uint64_t)a[i], (uint64_t)b[i]));
            else if (a[i] == 0)
                status = operator_error(call, XAI_ERROR_NUMERIC, "integer 0 to a negative power");
            else
                tensor_set_int(y, i, integer_root(a[i], b[i]));
        }
    }
    memory_free(a_words);
    memory_free(b_words);
    return status;
}

static xai_status pow_forward(operator_call *call)
{
    void *a_words = NULL, *b_words = NULL;
    tensor *y = call->outputs[0];
    const size_t count = tensor_count(y);
    if (!dtype_is_float(call->inputs[0]->dtype) && !dtype_is_float(call->inputs[1]->dtype))
        return pow_integers(call);
    xai_status status = operator_read_repeated(call, call->inputs[0], true, &y->shape, &a_words);
    if (status == XAI_OK)
        status = operator_read_repeated(call, call->inputs[1], true, &y->shape, &b_words);
    if (status == XAI_OK) {
        double *a = a_words;
        const double *b = b_words;
        for (size_t i = 0; i < count; i++)
            a[i] = pow(a[i], b[i]);
        tensor_write_doubles(y, 0, count, a);
    }
    memory_free(a_words);
    memory_free(b_words);
    return status;
}

/* d/da = b a^(b-1) (0 for b = 0, also at a = 0); d/db = a^b log a (0 at a = 0 and b >= 0, its
 * limit). */
static xai_status pow_backward(operator_call *call)
{
    void *a_words = NULL, *b_words = NULL;
    double *g = NULL;
    const tensor *given = operator_output_gradient(call, 0);
    xai_status status = XAI_OK;
    for (int k = 0; status == XAI_OK && k < 2; k++) {
        tensor *wanted = operator_wanted_gradient(call, k);
        if (!wanted)
            continue;
        if (!given) {
            operator_zero(wanted);
            continue;
        }
        const size_t count = tensor_count(given);
        if (!a_words)
            status = operator_read_repeated(call, call->inputs[0], true, &given->shape, &a_words);
        if (status == XAI_OK && !b_words)
            status = operator_read_repeated(call, call->inputs[1], true, &given->shape, &b_words);
        if (status == XAI_OK)
            status = operator_read_doubles(call, given, &g);
        if (status == XAI_OK) {
            const double *a = a_words, *b = b_words;
            for (size_t i = 0; i < count; i++) {
                if (k == 0)
                    g[i] *= b[i] == 0 ? 0 : b[i] * pow(a[i], b[i] - 1);
                else
                    g[i] *= a[i] == 0 && b[i] >= 0 ? 0 : pow(a[i], b[i]) * log(a[i]);
            }
            status = operator_write_reduced(call, &given->shape, g, wanted);
        }
        memory_free(g);
        g = NULL;
    }
    memory_free(a_words);
    memory_free(b_words);
    return status;
}

const operator_definition operator_pow = {
    "Pow",     "",          2,
    2,         1,           1,
    7,         0,           OPERATOR_READS_INPUT(0) | OPERATOR_READS_INPUT(1),
    pow_infer, pow_forward, pow_backward};
