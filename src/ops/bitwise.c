/* Operators on bits: BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot and BitShift. Integers only. */
#include <string.h>

#include "ops/binary.h"
#include "ops/families.h"

static xai_status bitwise_infer(operator_call *call)
{
    return binary_infer(call, TYPES_INTEGER, 0);
}

typedef uint64_t (*bit_function)(uint64_t a, uint64_t b);

static uint64_t bits_and(uint64_t a, uint64_t b)
{
    return a & b;
}

static uint64_t bits_or(uint64_t a, uint64_t b)
{
    return a | b;
}

static uint64_t bits_xor(uint64_t a, uint64_t b)
{
    return a ^ b;
}

/* Shifts by the width of the word or more give zero. */
static uint64_t bits_left(uint64_t a, uint64_t b)
{
    return b < 64 ? a << b : 0;
}

static uint64_t bits_right(uint64_t a, uint64_t b)
{
    return b < 64 ? a >> b : 0;
}

static xai_status bitwise_run(operator_call *call, bit_function function)
{
    binary_operands operands = {0};
    tensor *y = call->outputs[0];
    const xai_status status = binary_operands_read(call, &y->shape, &operands);
    const uint64_t *a = operands.a, *b = operands.b;
    for (size_t i = 0; status == XAI_OK && i < operands.count; i++)
        tensor_set_int(y, i, (int64_t)function(a[i], b[i]));
    binary_operands_free(&operands);
    return status;
}

static xai_status bitwise_and_forward(operator_call *call)
{
    return bitwise_run(call, bits_and);
}

static xai_status bitwise_or_forward(operator_call *call)
{
    return bitwise_run(call, bits_or);
}

static xai_status bitwise_xor_forward(operator_call *call)
{
    return bitwise_run(call, bits_xor);
}

static xai_status shift_direction(const operator_call *call, bool *left)
{
    const char *direction;
    const xai_status status = operator_attribute_text(call, "direction", "", &direction);
    if (status != XAI_OK)
        return status;
    *left = strcmp(direction, "LEFT") == 0;
    if (!*left && strcmp(direction, "RIGHT") != 0)
        return operator_error(call, XAI_ERROR_FORMAT, "direction '%.20s' is not LEFT or RIGHT",
                              direction);
    return XAI_OK;
}

static xai_status bit_shift_infer(operator_call *call)
{
    bool left;
    const xai_status status = binary_infer(call, TYPES_UNSIGNED, 0);
    return status == XAI_OK ? shift_direction(call, &left) : status;
}

static xai_status bit_shift_forward(operator_call *call)
{
    bool left;
    const xai_status status = shift_direction(call, &left);
    return status == XAI_OK ? bitwise_run(call, left ? bits_left : bits_right) : status;
}

static xai_status bitwise_not_infer(operator_call *call)
{
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_INTEGER);
    return status == XAI_OK
               ? operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape)
               : status;
}

static xai_status bitwise_not_forward(operator_call *call)
{
    const size_t count = tensor_count(call->inputs[0]);
    for (size_t i = 0; i < count; i++)
        tensor_set_int(call->outputs[0], i, ~tensor_get_int(call->inputs[0], i));
    return XAI_OK;
}

#define BITWISE(symbol, title, first_opset, count, check) \
    const operator_definition operator_##symbol = {       \
        .name = title,                                    \
        .domain = "",                                     \
        .min_inputs = count,                              \
        .max_inputs = count,                              \
        .min_outputs = 1,                                 \
        .max_outputs = 1,                                 \
        .since = first_opset,                             \
        .infer = check,                                   \
        .forward = symbol##_forward,                      \
    }
BITWISE(bitwise_and, "BitwiseAnd", 18, 2, bitwise_infer);
BITWISE(bitwise_or, "BitwiseOr", 18, 2, bitwise_infer);
BITWISE(bitwise_xor, "BitwiseXor", 18, 2, bitwise_infer);
BITWISE(bitwise_not, "BitwiseNot", 18, 1, bitwise_not_infer);
BITWISE(bit_shift, "BitShift", 11, 2, bit_shift_infer);
