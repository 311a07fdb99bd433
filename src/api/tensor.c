#include <inttypes.h>
#include <string.h>

#include "api/handles.h"
#include "base/error.h"

size_t xai_dtype_size(int32_t dtype)
{
    return dtype_size(dtype);
}

const char *xai_dtype_name(int32_t dtype)
{
    return dtype_name(dtype);
}

xai_status argument_missing(xai_error **error, const char *call, const char *argument)
{
    return error_set(error, XAI_ERROR_ARGUMENT, call, "%s is NULL", argument);
}

static xai_status check_shape(const char *call, int32_t dtype, int32_t rank, const int64_t *dims,
                              shape *out, xai_error **error)
{
    if (dtype_size(dtype) == 0)
        return error_set(error, XAI_ERROR_ARGUMENT, call, "unknown element type %" PRId32, dtype);
    if (rank < 0 || rank > SHAPE_MAX_RANK)
        return error_set(error, XAI_ERROR_ARGUMENT, call, "rank %" PRId32 " is not 0 to %d", rank,
                         SHAPE_MAX_RANK);
    if (rank > 0 && dims == NULL)
        return argument_missing(error, call, "dims");
    for (int32_t axis = 0; axis < rank; axis++)
        if (dims[axis] < 0)
            return error_set(error, XAI_ERROR_ARGUMENT, call,
                             "size %" PRId64 " of axis %" PRId32 " is negative", dims[axis], axis);
    *out = shape_make(rank, dims);
    size_t count = 0, bytes = 0;
    if (!shape_count(out, &count) || !size_multiply(count, dtype_size(dtype), &bytes))
        return error_set(error, XAI_ERROR_SHAPE, call, "the number of bytes overflows");
    return XAI_OK;
}

xai_status tensor_adopt(tensor *value, xai_tensor **out, xai_error **error)
{
    xai_tensor *made = memory_allocate_zeroed(1, sizeof *made);
    if (made == NULL)
        return error_memory(error, "a tensor", sizeof *made);
    made->value = *value;
    made->writable = value->owned;
    *value = (tensor){0};
    *out = made;
    return XAI_OK;
}

xai_status xai_tensor_create(int32_t dtype, int32_t rank, const int64_t *dims, const void *data,
                             xai_tensor **out, xai_error **error)
{
    shape wanted;
    tensor value = {0};
    if (out == NULL)
        return argument_missing(error, __func__, "out");
    xai_status status = check_shape(__func__, dtype, rank, dims, &wanted, error);
    if (status == XAI_OK)
        status = tensor_create(&value, dtype, &wanted, error);
    if (status != XAI_OK)
        return status;
    const size_t bytes = tensor_bytes(&value);
    if (data != NULL && bytes > 0)
        memcpy(value.data, data, bytes);
    else if (bytes > 0)
        memset(value.data, 0, bytes);
    status = tensor_adopt(&value, out, error);
    tensor_free(&value);
    return status;
}

xai_status xai_tensor_wrap(int32_t dtype, int32_t rank, const int64_t *dims, const void *data,
                           xai_tensor **out, xai_error **error)
{
    tensor value = {.dtype = dtype};
    if (out == NULL)
        return argument_missing(error, __func__, "out");
    const xai_status status = check_shape(__func__, dtype, rank, dims, &value.shape, error);
    if (status != XAI_OK)
        return status;
    if (data == NULL && tensor_count(&value) > 0)
        return argument_missing(error, __func__, "data");
    /* Never written: xai_tensor_mutable_data() refuses a tensor that is not owned. */
    memcpy(&value.data, &data, sizeof value.data);
    return tensor_adopt(&value, out, error);
}

int32_t xai_tensor_dtype(const xai_tensor *self)
{
    return self != NULL ? self->value.dtype : 0;
}

int32_t xai_tensor_rank(const xai_tensor *self)
{
    return self != NULL ? self->value.shape.rank : 0;
}

const int64_t *xai_tensor_dims(const xai_tensor *self)
{
    return self != NULL ? self->value.shape.dims : NULL;
}

size_t xai_tensor_count(const xai_tensor *self)
{
    return self != NULL ? tensor_count(&self->value) : 0;
}

size_t xai_tensor_bytes(const xai_tensor *self)
{
    return self != NULL ? tensor_bytes(&self->value) : 0;
}

const void *xai_tensor_data(const xai_tensor *self)
{
    return self != NULL ? self->value.data : NULL;
}

void *xai_tensor_mutable_data(xai_tensor *self)
{
    return self != NULL && self->writable ? self->value.data : NULL;
}

void xai_tensor_free(xai_tensor *self)
{
    if (self == NULL)
        return;
    tensor_free(&self->value);
    memory_free(self);
}

xai_status tensor_views(const xai_tensor *const *tensors, size_t count, const tensor ***out,
                        xai_error **error)
{
    const tensor **views = memory_allocate(count, sizeof *views);
    if (views == NULL)
        return error_memory(error, "inputs", count * sizeof *views);
    for (size_t i = 0; i < count; i++)
        views[i] = tensors[i] != NULL ? &tensors[i]->value : NULL;
    *out = views;
    return XAI_OK;
}
