#include "engine/steps.h"

#include <string.h>

#include "base/error.h"

xai_status step_copy(const step *self, run *state, xai_error **error)
{
    (void)error;
    memmove(run_address(state, self->operands[1]), run_address(state, self->operands[0]),
            self->count);
    return XAI_OK;
}

xai_status step_zero(const step *self, run *state, xai_error **error)
{
    (void)error;
    memset(run_address(state, self->operands[0]), 0, self->count);
    return XAI_OK;
}

xai_status step_block(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_block(run_address(state, self->operands[0]), run_address(state, self->operands[1]),
                 self->channels, self->spatial, state->program->block, state->program->threads);
    return XAI_OK;
}

xai_status step_unblock(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_unblock(run_address(state, self->operands[0]), run_address(state, self->operands[1]),
                   self->channels, self->spatial, state->program->block, state->program->threads);
    return XAI_OK;
}

xai_status step_accumulate(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_accumulate(run_address(state, self->operands[0]), run_address(state, self->operands[1]),
                      self->count, state->program->threads);
    return XAI_OK;
}

xai_status step_accumulate_any(const step *self, run *state, xai_error **error)
{
    (void)error;
    const shape flat = {1, {(int64_t)self->count}};
    const tensor x = {(int32_t)self->channels, flat, run_address(state, self->operands[0]), false};
    tensor y = {(int32_t)self->channels, flat, run_address(state, self->operands[1]), false};
    for (size_t i = 0; i < self->count; i++)
        tensor_set(&y, i, tensor_get(&y, i) + tensor_get(&x, i));
    return XAI_OK;
}

xai_status step_cast(const step *self, run *state, xai_error **error)
{
    (void)error;
    const shape flat = {1, {(int64_t)self->count}};
    const tensor x = {(int32_t)self->channels, flat, run_address(state, self->operands[0]), false};
    tensor y = {(int32_t)self->channels_to, flat, run_address(state, self->operands[1]), false};
    for (size_t i = 0; i < self->count; i++)
        tensor_set(&y, i, tensor_get(&x, i));
    return XAI_OK;
}

/* Lanes beyond `channels` in the last block back to zero, after a function with f(0) != 0. */
static void zero_padded_lanes(float *blocked, size_t channels, size_t spatial, int block)
{
    const size_t lanes = channels % (size_t)block;
    if (lanes == 0)
        return;
    float *last = blocked + channels / (size_t)block * spatial * (size_t)block;
    for (size_t i = 0; i < spatial; i++)
        memset(last + i * (size_t)block + lanes, 0, ((size_t)block - lanes) * sizeof(float));
}

xai_status step_activate(const step *self, run *state, xai_error **error)
{
    (void)error;
    float *y = run_address(state, self->operands[1]);
    kernel_activate(&self->post, run_address(state, self->operands[0]), y, self->count,
                    state->program->threads);
    if (self->channels && !activation_keeps_zero(&self->post))
        zero_padded_lanes(y, self->channels, self->spatial, state->program->block);
    return XAI_OK;
}

xai_status step_activate_backward(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_activate_backward(&self->post, run_address(state, self->operands[0]),
                             run_address(state, self->operands[1]),
                             run_address(state, self->operands[2]), self->count, self->accumulate,
                             state->program->threads);
    return XAI_OK;
}

xai_status step_primitive(const step *self, run *state, xai_error **error)
{
    const primitive_arguments arguments = {
        .source = run_address(state, self->operands[0]),
        .weights = run_address(state, self->operands[1]),
        .destination = run_address(state, self->operands[2]),
        .bias = run_address(state, self->operands[3]),
        .other = run_address(state, self->operands[4]),
        .scratchpad = state->scratchpad,
    };
    const size_t index = (size_t)(self - state->program->steps);
    return primitive_run_bound(self->program, &arguments, &state->bindings[index], error);
}
