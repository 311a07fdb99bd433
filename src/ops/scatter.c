/* Indexed writes: ScatterElements (and its old name Scatter) and ScatterND.
 *
 * out = data, then its block positions[i] is replaced by or joined with block i of the updates. */
#include <string.h>

#include "ops/families.h"
#include "ops/indexing.h"
#include "ops/mapping.h"

typedef enum reduction {
    REDUCTION_NONE,
    REDUCTION_ADD,
    REDUCTION_MUL,
    REDUCTION_MAX,
    REDUCTION_MIN
} reduction;

static xai_status read_reduction(const operator_call *call, reduction *out)
{
    static const char *const names[] = {"none", "add", "mul", "max", "min"};
    const char *text;
    const xai_status status = operator_attribute_text(call, "reduction", "none", &text);
    *out = REDUCTION_NONE;
    if (status != XAI_OK)
        return status;
    for (int i = 0; i < 5; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (reduction)i;
            return XAI_OK;
        }
    return operator_error(call, XAI_ERROR_UNSUPPORTED,
                          "reduction '%s' is not none, add, mul, max or min", text);
}

static xai_status scatter_check(operator_call *call)
{
    reduction joined;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = movement_check(call, 0);
    if (status == XAI_OK)
        status = operator_check_type(call, 1, TYPES_INDEX);
    if (status == XAI_OK)
        status = operator_check_same_type(call, 0, 2);
    if (status == XAI_OK)
        status = read_reduction(call, &joined);
    if (status == XAI_OK && joined != REDUCTION_NONE)
        status = operator_check_type(call, 0, TYPES_NUMBER);
    return status;
}

/* The updates have the shape that the indices ask for. */
static xai_status check_updates(const operator_call *call, const shape *needed)
{
    char a_text[SHAPE_TEXT_SIZE], b_text[SHAPE_TEXT_SIZE];
    if (shape_equal(&call->inputs[2]->shape, needed))
        return movement_infer(call, &call->inputs[0]->shape);
    return operator_error(call, XAI_ERROR_SHAPE, "updates have shape %s where %s is needed",
                          shape_text(&call->inputs[2]->shape, a_text), shape_text(needed, b_text));
}

static double join(reduction how, double a, double b)
{
    switch (how) {
    case REDUCTION_ADD:
        return a + b;
    case REDUCTION_MUL:
        return a * b;
    case REDUCTION_MAX:
        return a > b || a != a ? a : b;
    case REDUCTION_MIN:
        return a < b || a != a ? a : b;
    default:
        return b;
    }
}

static int64_t join_integers(reduction how, int64_t a, int64_t b, bool is_unsigned)
{
    const bool less = is_unsigned ? (uint64_t)a < (uint64_t)b : a < b;
    switch (how) {
    case REDUCTION_ADD:
        return (int64_t)((uint64_t)a + (uint64_t)b);
    case REDUCTION_MUL:
        return (int64_t)((uint64_t)a * (uint64_t)b);
    case REDUCTION_MAX:
        return less ? b : a;
    case REDUCTION_MIN:
        return less ? a : b;
    default:
        return b;
    }
}

static void scatter_blocks(const indexing *blocks, reduction how, const tensor *updates, tensor *y)
{
    const size_t bytes = blocks->block * dtype_size(y->dtype);
    const bool is_float = dtype_is_float(y->dtype);
    const unsigned char *from = updates->data;
    unsigned char *to = y->data;
    for (size_t i = 0; i < blocks->count && bytes > 0; i++) {
        const size_t source = i * blocks->block, target = blocks->positions[i] * blocks->block;
        if (how == REDUCTION_NONE)
            memcpy(to + blocks->positions[i] * bytes, from + i * bytes, bytes);
        for (size_t k = 0; k < blocks->block && how != REDUCTION_NONE; k++)
            if (is_float)
                tensor_set(y, target + k,
                           join(how, tensor_get(y, target + k), tensor_get(updates, source + k)));
            else
                tensor_set_int(y, target + k,
                               join_integers(how, tensor_get_int(y, target + k),
                                             tensor_get_int(updates, source + k),
                                             y->dtype == DTYPE_UINT64));
    }
}

static xai_status scatter_run(operator_call *call,
                              xai_status (*make)(const operator_call *call, indexing *out))
{
    const size_t bytes = tensor_bytes(call->outputs[0]);
    reduction how;
    indexing blocks = {0};
    xai_status status = read_reduction(call, &how);
    if (status == XAI_OK)
        status = make(call, &blocks);
    if (status == XAI_OK && bytes > 0) {
        memcpy(call->outputs[0]->data, call->inputs[0]->data, bytes);
        scatter_blocks(&blocks, how, call->inputs[2], call->outputs[0]);
    }
    indexing_drop(&blocks);
    return status;
}

/* With "none" the last update of an element is the one that counts: owners[p] = its number, or
 * SIZE_MAX. */
static xai_status find_owners(const operator_call *call, const indexing *blocks, size_t total,
                              size_t **out)
{
    size_t *owners = memory_allocate(total, sizeof *owners);
    *out = owners;
    if (!owners)
        return operator_error(call, XAI_ERROR_MEMORY, "out of memory for %zu indices", total);
    for (size_t i = 0; i < total; i++)
        owners[i] = SIZE_MAX;
    for (size_t i = 0; i < blocks->count; i++)
        owners[blocks->positions[i]] = i;
    return XAI_OK;
}

/* none: data gets the gradient where nothing was written, updates what they wrote; add: both get
 * all of it. */
static xai_status scatter_gradients(operator_call *call, const indexing *blocks, reduction how,
                                    const tensor *given)
{
    tensor *data = operator_wanted_gradient(call, 0), *updates = operator_wanted_gradient(call, 2);
    const size_t block = blocks->block, count = tensor_count(given);
    double *slopes = NULL;
    size_t *owners = NULL;
    xai_status status = operator_read_doubles(call, given, &slopes);
    if (status == XAI_OK && how == REDUCTION_NONE && block > 0)
        status = find_owners(call, blocks, count / block, &owners);
    for (size_t i = 0; status == XAI_OK && updates && block > 0 && i < blocks->count; i++) {
        const size_t position = blocks->positions[i];
        const bool counts = !owners || owners[position] == i;
        for (size_t k = 0; k < block; k++)
            tensor_set(updates, i * block + k, counts ? slopes[position * block + k] : 0);
    }
    if (status == XAI_OK && data && count > 0) {
        for (size_t i = 0; owners && i < count; i++)
            if (owners[i / block] != SIZE_MAX)
                slopes[i] = 0;
        tensor_write_doubles(data, 0, count, slopes);
    }
    memory_free(slopes);
    memory_free(owners);
    return status;
}

static xai_status scatter_back(operator_call *call,
                               xai_status (*make)(const operator_call *call, indexing *out))
{
    tensor *const wanted[] = {operator_wanted_gradient(call, 0), operator_wanted_gradient(call, 2)};
    const tensor *given = operator_output_gradient(call, 0);
    reduction how;
    indexing blocks = {0};
    if (!wanted[0] && !wanted[1])
        return XAI_OK;
    xai_status status = read_reduction(call, &how);
    if (status == XAI_OK && how != REDUCTION_NONE && how != REDUCTION_ADD)
        status = operator_error(call, XAI_ERROR_UNSUPPORTED,
                                "there is no gradient for reductions other than none and add");
    if (status == XAI_OK && given) {
        status = make(call, &blocks);
        if (status == XAI_OK)
            status = scatter_gradients(call, &blocks, how, given);
    } else if (status == XAI_OK) {
        for (int i = 0; i < 2; i++)
            if (wanted[i])
                operator_zero(wanted[i]);
    }
    indexing_drop(&blocks);
    return status;
}

static xai_status scatter_elements_infer(operator_call *call)
{
    int axis;
    xai_status status = scatter_check(call);
    if (status == XAI_OK)
        status = indexing_elements_check(call, &axis);
    return status == XAI_OK ? check_updates(call, &call->inputs[1]->shape) : status;
}

static xai_status scatter_elements_forward(operator_call *call)
{
    return scatter_run(call, indexing_elements);
}

static xai_status scatter_elements_backward(operator_call *call)
{
    return scatter_back(call, indexing_elements);
}

static xai_status tuples(const operator_call *call, indexing *out)
{
    return indexing_tuples(call, 0, out);
}

static xai_status scatter_nd_infer(operator_call *call)
{
    shape blocks;
    xai_status status = scatter_check(call);
    if (status == XAI_OK)
        status = indexing_tuples_check(call, 0, &blocks);
    return status == XAI_OK ? check_updates(call, &blocks) : status;
}

static xai_status scatter_nd_forward(operator_call *call)
{
    return scatter_run(call, tuples);
}

static xai_status scatter_nd_backward(operator_call *call)
{
    return scatter_back(call, tuples);
}

MOVEMENT(scatter_elements, "ScatterElements", 11, 3, 3, 1, 0, OPERATOR_READS_INPUT(1));
MOVEMENT(scatter_nd, "ScatterND", 11, 3, 3, 1, 0, OPERATOR_READS_INPUT(1));

/* The name of ScatterElements in opsets 9 and 10. */
const operator_definition operator_scatter = {
    .name = "Scatter",
    .domain = "",
    .min_inputs = 3,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 9,
    .backward_reads = OPERATOR_READS_INPUT(1),
    .infer = scatter_elements_infer,
    .forward = scatter_elements_forward,
    .backward = scatter_elements_backward,
};
