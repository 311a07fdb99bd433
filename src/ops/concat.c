/* Concat and Split: tensors joined or parted along one axis.
 *
 * Seen along the axis a tensor is rows of bytes; a part is a run of bytes within each row of the
 * whole. */
#include <string.h>

#include "ops/families.h"
#include "ops/mapping.h"

static size_t row_count(const shape *dims, int axis)
{
    size_t rows = 1;
    for (int i = 0; i < axis; i++)
        rows *= (size_t)dims->dims[i];
    return rows;
}

/* Copy `part` to or from its place in `whole`; *done bytes of each row precede it. */
static void copy_part(const tensor *part, const tensor *whole, int axis, size_t *done,
                      bool to_whole)
{
    const size_t rows = row_count(&whole->shape, axis), bytes = tensor_bytes(part);
    if (rows == 0 || bytes == 0)
        return;
    const size_t row = bytes / rows, step = tensor_bytes(whole) / rows;
    unsigned char *p = part->data, *w = (unsigned char *)whole->data + *done;
    for (size_t i = 0; i < rows; i++)
        if (to_whole)
            memcpy(w + i * step, p + i * row, row);
        else
            memcpy(p + i * row, w + i * step, row);
    *done += row;
}

/* Count a part that is not copied, `size` wide along the axis. */
static void skip_part(const tensor *whole, int axis, int64_t size, size_t *done)
{
    size_t bytes = dtype_size(whole->dtype) * (size_t)size;
    for (int i = axis + 1; i < whole->shape.rank; i++)
        bytes *= (size_t)whole->shape.dims[i];
    *done += bytes;
}

static xai_status concat_axis(const operator_call *call, int *out)
{
    int64_t axis;
    *out = 0;
    if (!operator_attribute(call, "axis"))
        return operator_error(call, XAI_ERROR_FORMAT, "attribute 'axis' is missing");
    const xai_status status = operator_attribute_int(call, "axis", 1, &axis);
    return status == XAI_OK ? operator_axis(call, axis, call->inputs[0]->shape.rank, out) : status;
}

static xai_status concat_infer(operator_call *call)
{
    char a_text[SHAPE_TEXT_SIZE], b_text[SHAPE_TEXT_SIZE];
    int axis;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = movement_check(call, 0);
    if (status == XAI_OK)
        status = concat_axis(call, &axis);
    if (status != XAI_OK)
        return status;
    shape y = call->inputs[0]->shape;
    for (int i = 1; i < call->input_count && status == XAI_OK; i++) {
        const shape *x = &call->inputs[i]->shape;
        bool fits = x->rank == y.rank;
        status = operator_check_same_type(call, 0, i);
        for (int k = 0; k < y.rank && fits; k++)
            fits = k == axis ? !__builtin_add_overflow(y.dims[k], x->dims[k], &y.dims[k])
                             : x->dims[k] == y.dims[k];
        if (status == XAI_OK && !fits)
            status = operator_error(
                call, XAI_ERROR_SHAPE, "shapes %s and %s cannot be joined along axis %d",
                shape_text(&call->inputs[0]->shape, a_text), shape_text(x, b_text), axis);
    }
    return status == XAI_OK ? movement_infer(call, &y) : status;
}

static xai_status concat_forward(operator_call *call)
{
    int axis;
    size_t done = 0;
    const xai_status status = concat_axis(call, &axis);
    for (int i = 0; i < call->input_count && status == XAI_OK; i++)
        copy_part(call->inputs[i], call->outputs[0], axis, &done, true);
    return status;
}

static xai_status concat_backward(operator_call *call)
{
    int axis;
    size_t done = 0;
    const tensor *given = operator_output_gradient(call, 0);
    const xai_status status = concat_axis(call, &axis);
    for (int i = 0; i < call->input_count && status == XAI_OK; i++) {
        tensor *wanted = operator_wanted_gradient(call, i);
        if (wanted && !given)
            operator_zero(wanted);
        else if (wanted)
            copy_part(wanted, given, axis, &done, false);
        else if (given)
            skip_part(given, axis, call->inputs[i]->shape.dims[axis], &done);
    }
    return status;
}

/* Sizes given by the attribute `split` (before opset 13) or by input 1: as many as outputs, and
 * their sum is `dim`. */
static xai_status listed_sizes(const operator_call *call, int64_t dim, int64_t *sizes, bool *given)
{
    const size_t parts = (size_t)call->output_count;
    size_t count;
    int64_t sum = 0;
    const xai_status status =
        movement_ints(call, call->opset < 13, "split", 1, sizes, parts, &count, given);
    if (status != XAI_OK || !*given)
        return status;
    bool fits = count == parts;
    for (size_t i = 0; i < count && fits; i++)
        fits = sizes[i] >= 0 && !__builtin_add_overflow(sum, sizes[i], &sum);
    if (!fits || sum != dim)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "%zu sizes with sum %lld for %zu outputs and dimension %lld", count,
                              (long long)sum, parts, (long long)dim);
    return XAI_OK;
}

/* Parts of one size; from opset 18 on the last one may be smaller. */
static xai_status equal_sizes(const operator_call *call, int64_t dim, int64_t *sizes)
{
    const int64_t parts = call->output_count, chunk = dim / parts + (dim % parts != 0);
    int64_t asked, full;
    const xai_status status = operator_attribute_int(call, "num_outputs", parts, &asked);
    if (status != XAI_OK)
        return status;
    if (asked != parts || __builtin_mul_overflow(chunk, parts - 1, &full) || full > dim ||
        (call->opset < 18 && dim - full != chunk))
        return operator_error(call, XAI_ERROR_SHAPE,
                              "dimension %lld cannot be split into %lld parts for %lld outputs",
                              (long long)dim, (long long)asked, (long long)parts);
    for (int64_t i = 0; i < parts; i++)
        sizes[i] = i < parts - 1 ? chunk : dim - full;
    return XAI_OK;
}

/* The axis and the size of each output along it, in a new array. */
static xai_status split_read(const operator_call *call, int *axis, int64_t **out)
{
    const shape *x = &call->inputs[0]->shape;
    int64_t named;
    bool given;
    *out = NULL;
    xai_status status = operator_attribute_int(call, "axis", 0, &named);
    if (status == XAI_OK)
        status = operator_axis(call, named, x->rank, axis);
    if (status != XAI_OK)
        return status;
    int64_t *sizes = memory_allocate((size_t)call->output_count, sizeof *sizes);
    if (!sizes)
        return operator_error(call, XAI_ERROR_MEMORY, "out of memory for the sizes of %d parts",
                              call->output_count);
    status = listed_sizes(call, x->dims[*axis], sizes, &given);
    if (status == XAI_OK && !given)
        status = equal_sizes(call, x->dims[*axis], sizes);
    if (status == XAI_OK)
        *out = sizes;
    else
        memory_free(sizes);
    return status;
}

static xai_status split_infer(operator_call *call)
{
    int axis;
    int64_t *sizes = NULL;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = movement_check(call, 0);
    if (status == XAI_OK)
        status = split_read(call, &axis, &sizes);
    for (int i = 0; i < call->output_count && status == XAI_OK; i++) {
        shape y = call->inputs[0]->shape;
        y.dims[axis] = sizes[i];
        status = operator_set_output(call, i, call->inputs[0]->dtype, &y);
    }
    memory_free(sizes);
    return status;
}

static xai_status split_forward(operator_call *call)
{
    int axis;
    size_t done = 0;
    int64_t *sizes;
    const xai_status status = split_read(call, &axis, &sizes);
    for (int i = 0; i < call->output_count && status == XAI_OK; i++)
        if (call->outputs[i])
            copy_part(call->outputs[i], call->inputs[0], axis, &done, false);
        else
            skip_part(call->inputs[0], axis, sizes[i], &done);
    memory_free(sizes);
    return status;
}

static xai_status split_backward(operator_call *call)
{
    int axis;
    size_t done = 0;
    int64_t *sizes;
    tensor *wanted = operator_wanted_gradient(call, 0);
    if (!wanted)
        return XAI_OK;
    const xai_status status = split_read(call, &axis, &sizes);
    operator_zero(wanted);
    for (int i = 0; i < call->output_count && status == XAI_OK; i++) {
        const tensor *given = operator_output_gradient(call, i);
        if (given)
            copy_part(given, wanted, axis, &done, true);
        else
            skip_part(wanted, axis, sizes[i], &done);
    }
    memory_free(sizes);
    return status;
}

MOVEMENT(concat, "Concat", 4, 1, OPERATOR_VARIADIC, 1, 0, 0);
MOVEMENT(split, "Split", 2, 1, 2, OPERATOR_VARIADIC, 0, OPERATOR_READS_INPUT(1));
