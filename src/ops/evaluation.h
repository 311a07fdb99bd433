/* An operator call in double, on tensors of its own: what rules of the backward pass evaluate at other
 * inputs than the call's. */
#ifndef OPS_EVALUATION_H
#define OPS_EVALUATION_H

#include "ops/operator.h"

typedef struct evaluation {
    const operator_call *like;
    size_t inputs, outputs;
    tensor *tensors; /* inputs, outputs, output gradients, input gradients */
    const tensor **pointers;
    operator_call call;
} evaluation;

/* Inputs from `inputs`: float types as copies in double, others as they are. Output shapes and
 * output gradients are those of `like`. `definition` may be another operator with the same
 * attributes. Drop it after a failure too. */
xai_status evaluation_open(evaluation *self, const operator_call *like,
                           const operator_definition *definition, const tensor *const *inputs);
void evaluation_drop(evaluation *self);
xai_status evaluation_forward(evaluation *self);
xai_status evaluation_backward(evaluation *self);
/* Elements of float input i, of output 0, of the gradient given for it, and of the gradient wanted for
 * input i (NULL when it is not). */
double *evaluation_input(const evaluation *self, size_t i);
double *evaluation_output(const evaluation *self);
double *evaluation_given(const evaluation *self);
double *evaluation_wanted(const evaluation *self, size_t i);

#endif
