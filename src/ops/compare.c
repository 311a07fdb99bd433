/* Comparisons, logic of bools, and Where. No gradients but Where's. */
#include "ops/binary.h"
#include "ops/families.h"

typedef void (*compare_loop)(size_t count, const void *a, const void *b, unsigned char *y);

static xai_status compare_forward(operator_call *call, const compare_loop *loops)
{
    binary_operands operands;
    const xai_status status = binary_operands_read(call, &call->outputs[0]->shape, &operands);
    if (status != XAI_OK)
        return status;
    loops[operands.class](operands.count, operands.a, operands.b, call->outputs[0]->data);
    binary_operands_free(&operands);
    return XAI_OK;
}

#define COMPARE_LOOP(symbol, type, VALUE)                                                     \
    static void symbol(size_t count, const void *first, const void *second, unsigned char *y) \
    {                                                                                         \
        const type *as = first, *bs = second;                                                 \
        for (size_t i = 0; i < count; i++) {                                                  \
            const type a = as[i], b = bs[i];                                                  \
            y[i] = (VALUE) ? 1 : 0;                                                           \
        }                                                                                     \
    }

/* A comparison of `types`; VALUE is an expression of a and b. */
#define COMPARE(symbol, name, first_opset, types, VALUE)                                           \
    COMPARE_LOOP(symbol##_doubles, double, VALUE)                                                  \
    COMPARE_LOOP(symbol##_signed, int64_t, VALUE)                                                  \
    COMPARE_LOOP(symbol##_unsigned, uint64_t, VALUE)                                               \
    static const compare_loop symbol##_loops[NUMBER_CLASSES] = {symbol##_doubles, symbol##_signed, \
                                                                symbol##_unsigned};                \
    static xai_status symbol##_infer(operator_call *call)                                          \
    {                                                                                              \
        return binary_infer(call, types, DTYPE_BOOL);                                              \
    }                                                                                              \
    static xai_status symbol##_forward(operator_call *call)                                        \
    {                                                                                              \
        return compare_forward(call, symbol##_loops);                                              \
    }                                                                                              \
    const operator_definition operator_##symbol = {                                                \
        name, "", 2, 2, 1, 1, first_opset, 0, 0, symbol##_infer, symbol##_forward, NULL}

COMPARE(equal, "Equal", 7, TYPES_NUMBER | TYPES_BOOL, a == b);
COMPARE(less, "Less", 7, TYPES_NUMBER, a < b);
COMPARE(greater, "Greater", 7, TYPES_NUMBER, a > b);
COMPARE(less_or_equal, "LessOrEqual", 12, TYPES_NUMBER, a <= b);
COMPARE(greater_or_equal, "GreaterOrEqual", 12, TYPES_NUMBER, a >= b);
COMPARE(and, "And", 7, TYPES_BOOL, a != 0 && b != 0);
COMPARE(or, "Or", 7, TYPES_BOOL, a != 0 || b != 0);
COMPARE(xor, "Xor", 7, TYPES_BOOL, (a != 0) != (b != 0));

/* Where: y = condition ? a : b, all three broadcast together. */
static xai_status where_infer(operator_call *call)
{
    shape common;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_BOOL);
    if (status == XAI_OK)
        status = operator_check_type(call, 1, TYPES_NUMBER | TYPES_BOOL);
    if (status == XAI_OK)
        status = operator_check_same_type(call, 1, 2);
    if (status == XAI_OK)
        status =
            operator_broadcast(call, &call->inputs[0]->shape, &call->inputs[1]->shape, &common);
    if (status == XAI_OK)
        status = operator_broadcast(call, &common, &call->inputs[2]->shape, &common);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[1]->dtype, &common);
    return status;
}

static xai_status where_forward(operator_call *call)
{
    void *condition_words = NULL, *a_words = NULL, *b_words = NULL;
    tensor *y = call->outputs[0];
    const bool as_doubles = dtype_is_float(y->dtype);
    const size_t count = tensor_count(y);
    xai_status status =
        operator_read_repeated(call, call->inputs[0], false, &y->shape, &condition_words);
    if (status == XAI_OK)
        status = operator_read_repeated(call, call->inputs[1], as_doubles, &y->shape, &a_words);
    if (status == XAI_OK)
        status = operator_read_repeated(call, call->inputs[2], as_doubles, &y->shape, &b_words);
    if (status != XAI_OK)
        goto done;
    const int64_t *condition = condition_words;
    if (as_doubles) {
        double *a = a_words;
        const double *b = b_words;
        for (size_t i = 0; i < count; i++)
            a[i] = condition[i] ? a[i] : b[i];
        tensor_write_doubles(y, 0, count, a);
    } else {
        int64_t *a = a_words;
        const int64_t *b = b_words;
        for (size_t i = 0; i < count; i++)
            a[i] = condition[i] ? a[i] : b[i];
        operator_write_ints(y, a);
    }
done:
    memory_free(condition_words);
    memory_free(a_words);
    memory_free(b_words);
    return status;
}

static xai_status where_backward(operator_call *call)
{
    void *condition_words = NULL;
    double *g = NULL;
    const tensor *given = operator_output_gradient(call, 0);
    if (!given) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    if (operator_wanted_gradient(call, 0))
        operator_zero(call->input_gradients[0]);
    const size_t count = tensor_count(given);
    xai_status status =
        operator_read_repeated(call, call->inputs[0], false, &given->shape, &condition_words);
    for (int k = 1; status == XAI_OK && k < 3; k++) {
        if (!operator_wanted_gradient(call, k))
            continue;
        status = operator_read_doubles(call, given, &g);
        if (status == XAI_OK) {
            const int64_t *condition = condition_words;
            for (size_t i = 0; i < count; i++)
                g[i] = (condition[i] != 0) == (k == 1) ? g[i] : 0;
            status = operator_write_reduced(call, &given->shape, g, call->input_gradients[k]);
        }
        memory_free(g);
        g = NULL;
    }
    memory_free(condition_words);
    return status;
}

const operator_definition operator_where = {
    "Where",       "", 3, 3, 1, 1, 9, 0, OPERATOR_READS_INPUT(0), where_infer, where_forward,
    where_backward};
