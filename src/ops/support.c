#include "ops/support.h"

#include <string.h>

xai_status operator_check(const operator_call *call)
{
    const operator_definition *definition = call->definition;
    if (call->input_count < definition->min_inputs ||
        (definition->max_inputs != OPERATOR_VARIADIC && call->input_count > definition->max_inputs))
        return operator_error(call, XAI_ERROR_FORMAT, "%d inputs where %s takes %d to %d",
                              call->input_count, definition->name, definition->min_inputs,
                              definition->max_inputs);
    if (call->output_count < definition->min_outputs ||
        (definition->max_outputs != OPERATOR_VARIADIC &&
         call->output_count > definition->max_outputs))
        return operator_error(call, XAI_ERROR_FORMAT, "%d outputs where %s gives %d to %d",
                              call->output_count, definition->name, definition->min_outputs,
                              definition->max_outputs);
    const int required =
        definition->max_inputs == OPERATOR_VARIADIC ? call->input_count : definition->min_inputs;
    for (int i = 0; i < required; i++)
        if (!call->inputs[i])
            return operator_error(call, XAI_ERROR_FORMAT, "input %d is missing", i);
    for (int i = 0; i < definition->min_outputs; i++)
        if (!call->outputs[i])
            return operator_error(call, XAI_ERROR_FORMAT, "output %d is missing", i);
    return XAI_OK;
}

bool operator_has_input(const operator_call *call, int i)
{
    return i < call->input_count && call->inputs[i];
}

tensor *operator_output(const operator_call *call, int i)
{
    return i < call->output_count ? call->outputs[i] : NULL;
}

tensor *operator_wanted_gradient(const operator_call *call, int i)
{
    return i < call->input_count && call->input_gradients ? call->input_gradients[i] : NULL;
}

const tensor *operator_output_gradient(const operator_call *call, int i)
{
    return i < call->output_count && call->output_gradients ? call->output_gradients[i] : NULL;
}

xai_status operator_check_type(const operator_call *call, int i, uint32_t types)
{
    const int32_t dtype = call->inputs[i]->dtype;
    if (dtype > 0 && dtype < 32 && (types >> dtype & 1))
        return XAI_OK;
    return operator_error(call, XAI_ERROR_UNSUPPORTED,
                          "input %d has type %s, which %s does not take", i, dtype_name(dtype),
                          call->definition->name);
}

xai_status operator_check_same_type(const operator_call *call, int i, int j)
{
    if (call->inputs[i]->dtype == call->inputs[j]->dtype)
        return XAI_OK;
    return operator_error(call, XAI_ERROR_FORMAT, "inputs %d and %d have different types %s and %s",
                          i, j, dtype_name(call->inputs[i]->dtype),
                          dtype_name(call->inputs[j]->dtype));
}

xai_status operator_set_output(const operator_call *call, int i, int32_t dtype, const shape *dims)
{
    char text[SHAPE_TEXT_SIZE];
    size_t count, bytes;
    tensor *out = operator_output(call, i);
    if (!out)
        return XAI_OK;
    if (!shape_count(dims, &count) || !size_multiply(count, sizeof(double), &bytes))
        return operator_error(call, XAI_ERROR_SHAPE,
                              "output %d would have shape %s, which no memory holds", i,
                              shape_text(dims, text));
    out->dtype = dtype;
    out->shape = *dims;
    return XAI_OK;
}

static xai_status out_of_memory(const operator_call *call, size_t count)
{
    const xai_status status =
        error_memory(call->error, "the values of a tensor", count * sizeof(double));
    error_add_place(call->error, call->place);
    return status;
}

xai_status operator_read_doubles(const operator_call *call, const tensor *self, double **out)
{
    const size_t count = tensor_count(self);
    *out = memory_allocate(count, sizeof **out);
    if (!*out)
        return out_of_memory(call, count);
    if (count > 0)
        tensor_read_doubles(self, 0, count, *out);
    return XAI_OK;
}

xai_status operator_read_ints(const operator_call *call, const tensor *self, int64_t **out)
{
    const size_t count = tensor_count(self);
    *out = memory_allocate(count, sizeof **out);
    if (!*out)
        return out_of_memory(call, count);
    if (count > 0)
        tensor_read_ints(self, 0, count, *out);
    return XAI_OK;
}

xai_status operator_allocate(const operator_call *call, size_t count, double **out)
{
    *out = memory_allocate_zeroed(count, sizeof **out);
    return *out ? XAI_OK : out_of_memory(call, count);
}

void operator_write_ints(tensor *self, const int64_t *values)
{
    const size_t count = tensor_count(self);
    for (size_t i = 0; i < count; i++)
        tensor_set_int(self, i, values[i]);
}

void operator_fill(tensor *self, double value)
{
    const size_t count = tensor_count(self);
    for (size_t i = 0; i < count; i++)
        tensor_set(self, i, value);
}

void operator_zero(tensor *self)
{
    const size_t bytes = tensor_bytes(self);
    if (bytes > 0)
        memset(self->data, 0, bytes);
}

void operator_zero_gradients(operator_call *call)
{
    for (int i = 0; i < call->input_count; i++)
        if (operator_wanted_gradient(call, i))
            operator_zero(call->input_gradients[i]);
}

xai_status operator_read_repeated(const operator_call *call, const tensor *self, bool as_doubles,
                                  const shape *common, void **out)
{
    double *values = NULL;
    int64_t *integers = NULL;
    *out = NULL;
    const xai_status status = as_doubles ? operator_read_doubles(call, self, &values)
                                         : operator_read_ints(call, self, &integers);
    if (status != XAI_OK)
        return status;
    void *read = as_doubles ? (void *)values : (void *)integers;
    size_t count;
    if (shape_equal(&self->shape, common)) {
        *out = read;
        return XAI_OK;
    }
    void *repeated = shape_count(common, &count) ? memory_allocate(count, sizeof(double)) : NULL;
    if (repeated)
        broadcast_expand(&self->shape, read, common, repeated);
    memory_free(read);
    *out = repeated;
    return repeated ? XAI_OK : out_of_memory(call, rows_count(common, 0));
}

xai_status operator_write_reduced(const operator_call *call, const shape *common, const double *g,
                                  tensor *wanted)
{
    double *sum = NULL;
    const size_t count = tensor_count(wanted);
    const xai_status status = operator_allocate(call, count, &sum);
    if (status != XAI_OK)
        return status;
    broadcast_reduce(common, g, &wanted->shape, sum);
    tensor_write_doubles(wanted, 0, count, sum);
    memory_free(sum);
    return XAI_OK;
}

xai_status operator_read_rows(const operator_call *call, const tensor *self, uint32_t axes,
                              double **out)
{
    double *values = NULL;
    *out = NULL;
    xai_status status = operator_read_doubles(call, self, &values);
    if (status == XAI_OK)
        status = operator_allocate(call, tensor_count(self), out);
    if (status == XAI_OK)
        rows_gather(&self->shape, axes, values, *out);
    memory_free(values);
    return status;
}

xai_status operator_write_rows(const operator_call *call, tensor *self, uint32_t axes,
                               const double *rows)
{
    double *values = NULL;
    const size_t count = tensor_count(self);
    const xai_status status = operator_allocate(call, count, &values);
    if (status != XAI_OK)
        return status;
    rows_scatter(&self->shape, axes, rows, values);
    tensor_write_doubles(self, 0, count, values);
    memory_free(values);
    return XAI_OK;
}
