#include "ops/evaluation.h"

#include "ops/support.h"

void evaluation_drop(evaluation *self)
{
    for (size_t i = 0; self->tensors && i < 2 * (self->inputs + self->outputs); i++)
        tensor_free(&self->tensors[i]);
    memory_free(self->tensors);
    memory_free(self->pointers);
}

static xai_status as_double(const operator_call *call, const tensor *from, tensor *out)
{
    xai_status status = tensor_create(out, DTYPE_DOUBLE, &from->shape, call->error);
    if (status == XAI_OK)
        tensor_read_doubles(from, 0, tensor_count(from), out->data);
    return status;
}

/* Inputs from `inputs`: float types as copies in double, others as they are. Output shapes and
 * gradients are those of `like`. */
xai_status evaluation_open(evaluation *self, const operator_call *like,
                           const operator_definition *definition, const tensor *const *inputs)
{
    *self = (evaluation){
        .like = like, .inputs = (size_t)like->input_count, .outputs = (size_t)like->output_count};
    const size_t n = self->inputs, m = self->outputs, all = 2 * (n + m);
    self->tensors = memory_allocate_zeroed(all + 1, sizeof *self->tensors);
    self->pointers = memory_allocate_zeroed(all + 1, sizeof *self->pointers);
    if (!self->tensors || !self->pointers)
        return operator_error(like, XAI_ERROR_MEMORY, "out of memory for a rule of DeepLIFT");
    xai_status status = XAI_OK;
    for (size_t i = 0; status == XAI_OK && i < n; i++) {
        if (!inputs[i])
            continue;
        self->pointers[i] = &self->tensors[i];
        if (dtype_is_float(inputs[i]->dtype)) {
            status = as_double(like, inputs[i], &self->tensors[i]);
        } else {
            self->tensors[i] = *inputs[i];
            self->tensors[i].owned = false;
        }
        const tensor *wanted = like->input_gradients[i];
        if (status == XAI_OK && wanted) {
            status = tensor_create(&self->tensors[n + 2 * m + i], DTYPE_DOUBLE, &wanted->shape,
                                   like->error);
            self->pointers[n + 2 * m + i] = &self->tensors[n + 2 * m + i];
        }
    }
    for (size_t i = 0; status == XAI_OK && i < m; i++) {
        const tensor *output = like->outputs[i], *given = like->output_gradients[i];
        if (output) {
            const int32_t type = dtype_is_float(output->dtype) ? DTYPE_DOUBLE : output->dtype;
            status = tensor_create(&self->tensors[n + i], type, &output->shape, like->error);
            self->pointers[n + i] = &self->tensors[n + i];
        }
        if (status == XAI_OK && given) {
            status = as_double(like, given, &self->tensors[n + m + i]);
            self->pointers[n + m + i] = &self->tensors[n + m + i];
        }
    }
    self->call = *like;
    self->call.definition = definition;
    self->call.inputs = self->pointers;
    self->call.outputs = (tensor *const *)(self->pointers + n);
    self->call.output_gradients = self->pointers + n + m;
    self->call.input_gradients = (tensor *const *)(self->pointers + n + 2 * m);
    return status;
}

double *evaluation_input(const evaluation *self, size_t i)
{
    return self->tensors[i].data;
}

double *evaluation_output(const evaluation *self)
{
    return self->tensors[self->inputs].data;
}

double *evaluation_given(const evaluation *self)
{
    return self->tensors[self->inputs + self->outputs].data;
}

/* NULL when it is not wanted. */
double *evaluation_wanted(const evaluation *self, size_t i)
{
    return self->tensors[self->inputs + 2 * self->outputs + i].data;
}

xai_status evaluation_forward(evaluation *self)
{
    return self->call.definition->forward(&self->call);
}

xai_status evaluation_backward(evaluation *self)
{
    return self->call.definition->backward(&self->call);
}
