#include "ops/indexing.h"

void indexing_drop(indexing *self)
{
    memory_free(self->positions);
    *self = (indexing){0};
}

/* One index, or -1 after an error. */
static int64_t resolve(const operator_call *call, int64_t index, int64_t dim, xai_status *status)
{
    if (index >= -dim && index < dim)
        return index < 0 ? index + dim : index;
    *status =
        operator_error(call, XAI_ERROR_SHAPE, "index %lld is outside a dimension of size %lld",
                       (long long)index, (long long)dim);
    return -1;
}

xai_status indexing_read(const operator_call *call, const tensor *indices, int64_t dim,
                         int64_t **out)
{
    const size_t count = tensor_count(indices);
    xai_status status = operator_read_ints(call, indices, out);
    for (size_t i = 0; i < count && status == XAI_OK; i++)
        (*out)[i] = resolve(call, (*out)[i], dim, &status);
    if (status != XAI_OK) {
        memory_free(*out);
        *out = NULL;
    }
    return status;
}

static xai_status allocate(const operator_call *call, indexing *self)
{
    self->positions = memory_allocate(self->count, sizeof *self->positions);
    if (self->positions)
        return XAI_OK;
    return operator_error(call, XAI_ERROR_MEMORY, "out of memory for %zu indices", self->count);
}

xai_status indexing_elements_check(const operator_call *call, int *axis)
{
    char a_text[SHAPE_TEXT_SIZE], b_text[SHAPE_TEXT_SIZE];
    const shape *data = &call->inputs[0]->shape, *indices = &call->inputs[1]->shape;
    int64_t named;
    *axis = 0;
    xai_status status = operator_attribute_int(call, "axis", 0, &named);
    if (status == XAI_OK)
        status = operator_axis(call, named, data->rank, axis);
    if (status != XAI_OK)
        return status;
    bool fits = data->rank == indices->rank;
    for (int i = 0; i < data->rank && fits; i++)
        fits = i == *axis || indices->dims[i] <= data->dims[i];
    if (fits)
        return XAI_OK;
    return operator_error(call, XAI_ERROR_SHAPE,
                          "indices of shape %s do not fit data of shape %s along axis %d",
                          shape_text(indices, a_text), shape_text(data, b_text), *axis);
}

xai_status indexing_elements(const operator_call *call, indexing *out)
{
    const shape *data = &call->inputs[0]->shape, *indices = &call->inputs[1]->shape;
    int64_t *values = NULL, at[SHAPE_MAX_RANK] = {0};
    int axis;
    *out = (indexing){.count = tensor_count(call->inputs[1]), .block = 1};
    xai_status status = indexing_elements_check(call, &axis);
    if (status == XAI_OK)
        status = indexing_read(call, call->inputs[1], data->dims[axis], &values);
    if (status == XAI_OK)
        status = allocate(call, out);
    for (size_t i = 0; i < out->count && status == XAI_OK; i++) {
        size_t position = 0;
        for (int k = 0; k < data->rank; k++)
            position = position * (size_t)data->dims[k] + (size_t)(k == axis ? values[i] : at[k]);
        out->positions[i] = position;
        for (int k = data->rank - 1; k >= 0 && ++at[k] == indices->dims[k]; k--)
            at[k] = 0;
    }
    memory_free(values);
    return status;
}

xai_status indexing_tuples_check(const operator_call *call, int64_t batch, shape *blocks)
{
    char a_text[SHAPE_TEXT_SIZE], b_text[SHAPE_TEXT_SIZE];
    const shape *data = &call->inputs[0]->shape, *indices = &call->inputs[1]->shape;
    const int64_t length = indices->rank > 0 ? indices->dims[indices->rank - 1] : 0;
    bool fits = data->rank > 0 && indices->rank > 0 && batch >= 0 && batch < data->rank &&
                batch < indices->rank && length >= 1 && length <= data->rank - batch;
    *blocks = (shape){0};
    for (int64_t i = 0; i < batch && fits; i++)
        fits = data->dims[i] == indices->dims[i];
    if (!fits)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "indices of shape %s do not fit data of shape %s",
                              shape_text(indices, a_text), shape_text(data, b_text));
    const int rest = data->rank - (int)batch - (int)length;
    if (indices->rank - 1 + rest > SHAPE_MAX_RANK)
        return operator_error(call, XAI_ERROR_UNSUPPORTED,
                              "the result would have more than %d dimensions", SHAPE_MAX_RANK);
    for (int i = 0; i < indices->rank - 1; i++)
        blocks->dims[blocks->rank++] = indices->dims[i];
    for (int i = 0; i < rest; i++)
        blocks->dims[blocks->rank++] = data->dims[batch + length + i];
    return XAI_OK;
}

xai_status indexing_tuples(const operator_call *call, int64_t batch, indexing *out)
{
    const shape *data = &call->inputs[0]->shape, *indices = &call->inputs[1]->shape;
    int64_t *values = NULL;
    shape blocks;
    *out = (indexing){.block = 1};
    xai_status status = indexing_tuples_check(call, batch, &blocks);
    if (status != XAI_OK)
        return status;
    const size_t length = (size_t)indices->dims[indices->rank - 1];
    size_t batches = 1, batch_blocks = 1;
    for (int i = 0; i < (int)batch; i++)
        batches *= (size_t)data->dims[i];
    for (int i = (int)batch; i < data->rank; i++)
        *(i < (int)(batch + (int64_t)length) ? &batch_blocks : &out->block) *=
            (size_t)data->dims[i];
    out->count = tensor_count(call->inputs[1]) / length;
    const size_t batch_count = batches > 0 ? out->count / batches : 0;
    status = operator_read_ints(call, call->inputs[1], &values);
    if (status == XAI_OK)
        status = allocate(call, out);
    for (size_t i = 0; i < out->count && status == XAI_OK; i++) {
        size_t position = 0;
        for (size_t k = 0; k < length && status == XAI_OK; k++) {
            const int64_t dim = data->dims[batch + (int64_t)k],
                          index = resolve(call, values[i * length + k], dim, &status);
            position = position * (size_t)dim + (size_t)index;
        }
        out->positions[i] = i / batch_count * batch_blocks + position;
    }
    memory_free(values);
    return status;
}
