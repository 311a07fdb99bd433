/* Indexed reads: Gather, GatherElements, GatherND, OneHot, NonZero.
 *
 * Indices may be computed at run time; each is checked against its dimension before it is used. */
#include <string.h>

#include "ops/families.h"
#include "ops/indexing.h"
#include "ops/mapping.h"

/* --- Gather: out[a..., i..., b...] = data[a..., indices[i...], b...] --- */

static xai_status gather_axis(const operator_call *call, int *out)
{
    int64_t axis;
    *out = 0;
    const xai_status status = operator_attribute_int(call, "axis", 0, &axis);
    return status == XAI_OK ? operator_axis(call, axis, call->inputs[0]->shape.rank, out) : status;
}

static xai_status gather_infer(operator_call *call)
{
    int axis;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = movement_check(call, 0);
    if (status == XAI_OK)
        status = operator_check_type(call, 1, TYPES_INDEX);
    if (status == XAI_OK)
        status = gather_axis(call, &axis);
    if (status != XAI_OK)
        return status;
    const shape *data = &call->inputs[0]->shape, *indices = &call->inputs[1]->shape;
    shape y = {0};
    if (data->rank + indices->rank - 1 > SHAPE_MAX_RANK)
        return operator_error(call, XAI_ERROR_UNSUPPORTED,
                              "the result would have more than %d dimensions", SHAPE_MAX_RANK);
    for (int i = 0; i < axis; i++)
        y.dims[y.rank++] = data->dims[i];
    for (int i = 0; i < indices->rank; i++)
        y.dims[y.rank++] = indices->dims[i];
    for (int i = axis + 1; i < data->rank; i++)
        y.dims[y.rank++] = data->dims[i];
    return movement_infer(call, &y);
}

/* The product of two dimensions; only of an empty tensor may it wrap, and then nobody reads it. */
static int64_t fold(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a * (uint64_t)b);
}

/* The data seen as (before, dim, after), the indices as one list. */
static xai_status gather_mapping(const operator_call *call, mapping *map)
{
    const shape *data = &call->inputs[0]->shape;
    shape folded = {.rank = 3, .dims = {1, 0, 1}};
    int axis;
    int64_t *indices = NULL;
    *map = (mapping){0};
    xai_status status = gather_axis(call, &axis);
    if (status != XAI_OK)
        return status;
    for (int i = 0; i < data->rank; i++)
        if (i == axis)
            folded.dims[1] = data->dims[i];
        else
            folded.dims[i < axis ? 0 : 2] = fold(folded.dims[i < axis ? 0 : 2], data->dims[i]);
    *map = mapping_identity(&folded);
    status = indexing_read(call, call->inputs[1], folded.dims[1], &indices);
    if (status != XAI_OK)
        return status;
    map->maps[1] = indices;
    map->out.dims[1] = (int64_t)tensor_count(call->inputs[1]);
    return XAI_OK;
}

static xai_status gather_forward(operator_call *call)
{
    return movement_run(call, gather_mapping, false);
}

static xai_status gather_backward(operator_call *call)
{
    return movement_run(call, gather_mapping, true);
}

/* --- GatherElements and GatherND: out block i is data block positions[i] --- */

static void copy_blocks(const indexing *blocks, const tensor *data, tensor *y)
{
    const size_t bytes = blocks->block * dtype_size(y->dtype);
    const unsigned char *from = data->data;
    unsigned char *to = y->data;
    for (size_t i = 0; i < blocks->count && bytes > 0; i++)
        memcpy(to + i * bytes, from + blocks->positions[i] * bytes, bytes);
}

static xai_status add_blocks(const operator_call *call, const indexing *blocks, const tensor *given,
                             tensor *wanted)
{
    const size_t count = tensor_count(wanted);
    double *sums = NULL, *slopes = NULL;
    xai_status status = operator_allocate(call, count, &sums);
    if (status == XAI_OK)
        status = operator_allocate(call, blocks->block, &slopes);
    for (size_t i = 0; i < blocks->count && blocks->block > 0 && status == XAI_OK; i++) {
        tensor_read_doubles(given, i * blocks->block, blocks->block, slopes);
        for (size_t k = 0; k < blocks->block; k++)
            sums[blocks->positions[i] * blocks->block + k] += slopes[k];
    }
    if (status == XAI_OK && count > 0)
        tensor_write_doubles(wanted, 0, count, sums);
    memory_free(sums);
    memory_free(slopes);
    return status;
}

static xai_status blocks_run(operator_call *call,
                             xai_status (*make)(const operator_call *call, indexing *out),
                             bool back)
{
    tensor *wanted = back ? operator_wanted_gradient(call, 0) : NULL;
    const tensor *given = operator_output_gradient(call, 0);
    indexing blocks;
    if (back && !wanted)
        return XAI_OK;
    if (back && !given) {
        operator_zero(wanted);
        return XAI_OK;
    }
    xai_status status = make(call, &blocks);
    if (status == XAI_OK && back)
        status = add_blocks(call, &blocks, given, wanted);
    else if (status == XAI_OK)
        copy_blocks(&blocks, call->inputs[0], call->outputs[0]);
    indexing_drop(&blocks);
    return status;
}

static xai_status gather_elements_infer(operator_call *call)
{
    int axis;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = movement_check(call, 0);
    if (status == XAI_OK)
        status = operator_check_type(call, 1, TYPES_INDEX);
    if (status == XAI_OK)
        status = indexing_elements_check(call, &axis);
    return status == XAI_OK ? movement_infer(call, &call->inputs[1]->shape) : status;
}

static xai_status gather_elements_forward(operator_call *call)
{
    return blocks_run(call, indexing_elements, false);
}

static xai_status gather_elements_backward(operator_call *call)
{
    return blocks_run(call, indexing_elements, true);
}

static xai_status gather_nd_infer(operator_call *call)
{
    int64_t batch;
    shape y;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = movement_check(call, 0);
    if (status == XAI_OK)
        status = operator_check_type(call, 1, TYPES_INDEX);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "batch_dims", 0, &batch);
    if (status == XAI_OK)
        status = indexing_tuples_check(call, batch, &y);
    return status == XAI_OK ? movement_infer(call, &y) : status;
}

static xai_status gather_nd_blocks(const operator_call *call, indexing *out)
{
    int64_t batch;
    *out = (indexing){0};
    const xai_status status = operator_attribute_int(call, "batch_dims", 0, &batch);
    return status == XAI_OK ? indexing_tuples(call, batch, out) : status;
}

static xai_status gather_nd_forward(operator_call *call)
{
    return blocks_run(call, gather_nd_blocks, false);
}

static xai_status gather_nd_backward(operator_call *call)
{
    return blocks_run(call, gather_nd_blocks, true);
}

/* --- OneHot: on_value at [..., index, ...] of a new axis, off_value elsewhere --- */

static xai_status one_hot_infer(operator_call *call)
{
    int64_t axis;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_NUMBER);
    if (status == XAI_OK)
        status = operator_check_type(call, 1, TYPES_NUMBER);
    if (status == XAI_OK)
        status = movement_check(call, 2);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "axis", -1, &axis);
    if (status != XAI_OK)
        return status;
    const shape *indices = &call->inputs[0]->shape;
    const tensor *depth = call->inputs[1];
    shape y = {.rank = indices->rank + 1};
    int at;
    if (tensor_count(depth) != 1 || tensor_count(call->inputs[2]) != 2)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "depth is not one number or values are not two");
    if (!depth->data)
        return operator_needs_data(call,
                                   "depth is computed at run time where a constant is needed");
    if (y.rank > SHAPE_MAX_RANK)
        return operator_error(call, XAI_ERROR_UNSUPPORTED,
                              "the result would have more than %d dimensions", SHAPE_MAX_RANK);
    status = operator_axis(call, axis, y.rank, &at);
    if (status != XAI_OK)
        return status;
    for (int i = 0; i < y.rank; i++)
        y.dims[i] = i < at    ? indices->dims[i]
                    : i == at ? tensor_get_int(depth, 0)
                              : indices->dims[i - 1];
    if (y.dims[at] < 0)
        return operator_error(call, XAI_ERROR_SHAPE, "depth is %lld", (long long)y.dims[at]);
    return operator_set_output(call, 0, call->inputs[2]->dtype, &y);
}

static xai_status one_hot_forward(operator_call *call)
{
    tensor *y = call->outputs[0];
    const size_t size = dtype_size(y->dtype), count = tensor_count(y);
    const unsigned char *values = call->inputs[2]->data;
    unsigned char *to = y->data;
    int64_t axis, *indices;
    int at;
    xai_status status = operator_attribute_int(call, "axis", -1, &axis);
    if (status == XAI_OK)
        status = operator_axis(call, axis, y->shape.rank, &at);
    if (status != XAI_OK || count == 0)
        return status;
    status = operator_read_ints(call, call->inputs[0], &indices);
    if (status != XAI_OK)
        return status;
    size_t inner = 1;
    for (int i = at + 1; i < y->shape.rank; i++)
        inner *= (size_t)y->shape.dims[i];
    const int64_t depth = y->shape.dims[at];
    for (size_t i = 0; i < count; i++)
        memcpy(to + i * size, values, size);
    for (size_t i = 0; i < tensor_count(call->inputs[0]); i++) {
        const int64_t index = indices[i] < 0 ? indices[i] + depth : indices[i];
        if (index >= 0 && index < depth)
            memcpy(to + ((i / inner * (size_t)depth + (size_t)index) * inner + i % inner) * size,
                   values + size, size);
    }
    memory_free(indices);
    return XAI_OK;
}

/* --- NonZero: (rank, count) indices of the elements that are not zero, row-major. --- */

static xai_status non_zero_infer(operator_call *call)
{
    size_t found = 0;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_NUMBER | TYPES_BOOL);
    if (status != XAI_OK)
        return status;
    const tensor *x = call->inputs[0];
    if (!x->data)
        return operator_needs_data(
            call, "the shape of the result depends on values computed at run time");
    const size_t count = tensor_count(x);
    for (size_t i = 0; i < count; i++)
        found += tensor_get(x, i) != 0;
    /* a scalar counts as a list of one */
    const shape y =
        shape_make(2, (const int64_t[]){x->shape.rank > 0 ? x->shape.rank : 1, (int64_t)found});
    return operator_set_output(call, 0, DTYPE_INT64, &y);
}

static xai_status non_zero_forward(operator_call *call)
{
    const tensor *x = call->inputs[0];
    tensor *y = call->outputs[0];
    const size_t count = tensor_count(x), width = (size_t)y->shape.dims[1];
    size_t column = 0;
    for (size_t i = 0; i < count && column < width; i++) {
        if (tensor_get(x, i) == 0)
            continue;
        size_t rest = i;
        for (int axis = (int)y->shape.dims[0] - 1; axis >= 0; axis--) {
            const size_t dim = x->shape.rank > 0 ? (size_t)x->shape.dims[axis] : 1;
            tensor_set_int(y, (size_t)axis * width + column, (int64_t)(rest % dim));
            rest /= dim;
        }
        column++;
    }
    return XAI_OK;
}

MOVEMENT(gather, "Gather", 1, 2, 2, 1, 0, OPERATOR_READS_INPUT(1));
MOVEMENT(gather_elements, "GatherElements", 11, 2, 2, 1, 0, OPERATOR_READS_INPUT(1));
MOVEMENT(gather_nd, "GatherND", 11, 2, 2, 1, 0, OPERATOR_READS_INPUT(1));

const operator_definition operator_one_hot = {
    .name = "OneHot",
    .domain = "",
    .min_inputs = 3,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 9,
    .infer = one_hot_infer,
    .forward = one_hot_forward,
};

const operator_definition operator_non_zero = {
    .name = "NonZero",
    .domain = "",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 9,
    .infer = non_zero_infer,
    .forward = non_zero_forward,
};
