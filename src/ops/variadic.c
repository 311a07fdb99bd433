/* Max, Min, Sum and Mean of any number of tensors that are broadcast together. */
#include "ops/binary.h"
#include "ops/families.h"

/* Joins `b` to the result so far. */
typedef void (*variadic_loop)(size_t count, void *result, const void *b);

#define VARIADIC_LOOP(symbol, type, VALUE)                           \
    static void symbol(size_t count, void *result, const void *more) \
    {                                                                \
        type *as = result;                                           \
        const type *bs = more;                                       \
        for (size_t i = 0; i < count; i++) {                         \
            const type a = as[i], b = bs[i];                         \
            as[i] = VALUE;                                           \
        }                                                            \
    }

/* NaN wins over numbers, as in NumPy. */
VARIADIC_LOOP(max_doubles, double, a != a || a > b ? a : b)
VARIADIC_LOOP(max_signed, int64_t, a > b ? a : b)
VARIADIC_LOOP(max_unsigned, uint64_t, a > b ? a : b)
VARIADIC_LOOP(min_doubles, double, a != a || a < b ? a : b)
VARIADIC_LOOP(min_signed, int64_t, a < b ? a : b)
VARIADIC_LOOP(min_unsigned, uint64_t, a < b ? a : b)
VARIADIC_LOOP(sum_doubles, double, a + b)

static const variadic_loop max_loops[NUMBER_CLASSES] = {max_doubles, max_signed, max_unsigned};
static const variadic_loop min_loops[NUMBER_CLASSES] = {min_doubles, min_signed, min_unsigned};
static const variadic_loop sum_loops[NUMBER_CLASSES] = {sum_doubles, NULL, NULL};

static xai_status variadic_infer(operator_call *call, uint32_t types)
{
    shape common;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        common = call->inputs[0]->shape;
    for (int i = 0; status == XAI_OK && i < call->input_count; i++) {
        status = operator_check_type(call, i, types);
        if (status == XAI_OK)
            status = operator_check_same_type(call, 0, i);
        if (status == XAI_OK)
            status = operator_broadcast(call, &common, &call->inputs[i]->shape, &common);
    }
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &common);
    return status;
}

/* All inputs joined, in a new array of the output's count of words. */
static xai_status join(const operator_call *call, const shape *common, const variadic_loop *loops,
                       void **out)
{
    const number_class class = number_class_of(call->inputs[0]->dtype);
    void *more = NULL;
    size_t count = 0;
    shape_count(common, &count);
    xai_status status =
        operator_read_repeated(call, call->inputs[0], class == NUMBER_FLOAT, common, out);
    for (int i = 1; status == XAI_OK && i < call->input_count; i++) {
        status =
            operator_read_repeated(call, call->inputs[i], class == NUMBER_FLOAT, common, &more);
        if (status == XAI_OK)
            loops[class](count, *out, more);
        memory_free(more);
        more = NULL;
    }
    return status;
}

/* `divisor` is 1, or the number of inputs of Mean. */
static xai_status variadic_forward(operator_call *call, const variadic_loop *loops, int divisor)
{
    void *words = NULL;
    tensor *y = call->outputs[0];
    const size_t count = tensor_count(y);
    const xai_status status = join(call, &y->shape, loops, &words);
    if (status == XAI_OK && dtype_is_float(y->dtype)) {
        double *values = words;
        if (divisor != 1)
            for (size_t i = 0; i < count; i++)
                values[i] /= divisor;
        tensor_write_doubles(y, 0, count, values);
    } else if (status == XAI_OK) {
        operator_write_ints(y, words);
    }
    memory_free(words);
    return status;
}

/* d y / d x_i = 1 / divisor. */
static xai_status sum_slopes(operator_call *call, int divisor)
{
    double *g = NULL;
    const tensor *given = operator_output_gradient(call, 0);
    xai_status status = XAI_OK;
    if (!given) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    const size_t count = tensor_count(given);
    status = operator_read_doubles(call, given, &g);
    if (status == XAI_OK && divisor != 1)
        for (size_t i = 0; i < count; i++)
            g[i] /= divisor;
    for (int k = 0; status == XAI_OK && k < call->input_count; k++)
        if (operator_wanted_gradient(call, k))
            status = operator_write_reduced(call, &given->shape, g, call->input_gradients[k]);
    memory_free(g);
    return status;
}

/* The inputs that reach the extreme share the gradient evenly. */
static xai_status extreme_slopes(operator_call *call, const variadic_loop *loops)
{
    void *extreme_words = NULL, *words = NULL;
    double *g = NULL, *ties = NULL;
    const tensor *given = operator_output_gradient(call, 0);
    if (!given) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    const shape *common = &given->shape;
    const size_t count = tensor_count(given);
    xai_status status = join(call, common, loops, &extreme_words);
    if (status == XAI_OK)
        status = operator_allocate(call, count, &ties);
    for (int pass = 0; status == XAI_OK && pass < 2; pass++) { /* count the ties, then share */
        for (int k = 0; status == XAI_OK && k < call->input_count; k++) {
            tensor *wanted = operator_wanted_gradient(call, k);
            if (pass == 1 && !wanted)
                continue;
            status = operator_read_repeated(call, call->inputs[k], true, common, &words);
            if (status == XAI_OK && pass == 1)
                status = operator_read_doubles(call, given, &g);
            if (status == XAI_OK) {
                const double *extreme = extreme_words, *x = words;
                if (pass == 0) {
                    for (size_t i = 0; i < count; i++)
                        ties[i] += x[i] == extreme[i];
                } else {
                    for (size_t i = 0; i < count; i++)
                        g[i] = x[i] == extreme[i] ? g[i] / ties[i] : 0;
                    status = operator_write_reduced(call, common, g, wanted);
                }
            }
            memory_free(words);
            memory_free(g);
            words = NULL;
            g = NULL;
        }
    }
    memory_free(extreme_words);
    memory_free(ties);
    return status;
}

static xai_status extreme_infer(operator_call *call)
{
    return variadic_infer(call, TYPES_NUMBER);
}

static xai_status sum_infer(operator_call *call)
{
    return variadic_infer(call, TYPES_FLOAT);
}

static xai_status max_forward(operator_call *call)
{
    return variadic_forward(call, max_loops, 1);
}

static xai_status max_backward(operator_call *call)
{
    return extreme_slopes(call, max_loops);
}

static xai_status min_forward(operator_call *call)
{
    return variadic_forward(call, min_loops, 1);
}

static xai_status min_backward(operator_call *call)
{
    return extreme_slopes(call, min_loops);
}

static xai_status sum_forward(operator_call *call)
{
    return variadic_forward(call, sum_loops, 1);
}

static xai_status sum_backward(operator_call *call)
{
    return sum_slopes(call, 1);
}

static xai_status mean_forward(operator_call *call)
{
    return variadic_forward(call, sum_loops, call->input_count);
}

static xai_status mean_backward(operator_call *call)
{
    return sum_slopes(call, call->input_count);
}

#define READS_ALL 0xffffu

const operator_definition operator_max = {
    "Max", "", 1,         OPERATOR_VARIADIC, 1,           1,
    6,     0,  READS_ALL, extreme_infer,     max_forward, max_backward};
const operator_definition operator_min = {
    "Min", "", 1,         OPERATOR_VARIADIC, 1,           1,
    6,     0,  READS_ALL, extreme_infer,     min_forward, min_backward};
const operator_definition operator_sum = {
    "Sum", "", 1, OPERATOR_VARIADIC, 1, 1, 6, 0, 0, sum_infer, sum_forward, sum_backward};
const operator_definition operator_mean = {
    "Mean", "", 1, OPERATOR_VARIADIC, 1, 1, 6, 0, 0, sum_infer, mean_forward, mean_backward};
