/* Along a sequence: ReverseSequence, which turns the first steps of every row around. */
#include <string.h>

#include "ops/families.h"
#include "ops/mapping.h"

/* x (..., batch and time on axes 0 and 1, ...): y[n, t] = x[n, length(n) - 1 - t] for t < length(n),
 * else x[n, t]. The transpose is the same. */
typedef struct reversal {
    int batch_axis, time_axis;
    size_t batch, steps, inner; /* inner: elements behind both axes */
} reversal;

static xai_status reversal_make(const operator_call *call, reversal *self)
{
    char text[SHAPE_TEXT_SIZE];
    int64_t batch, time;
    const shape *x = &call->inputs[0]->shape, *lengths = &call->inputs[1]->shape;
    xai_status status = operator_attribute_int(call, "batch_axis", 1, &batch);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "time_axis", 0, &time);
    if (status != XAI_OK)
        return status;
    if (x->rank < 2 || batch < 0 || batch > 1 || time < 0 || time > 1 || batch == time)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "batch_axis %lld and time_axis %lld of x of shape %s are not 0 and 1",
                              (long long)batch, (long long)time, shape_text(x, text));
    *self = (reversal){.batch_axis = (int)batch,
                       .time_axis = (int)time,
                       .batch = (size_t)x->dims[batch],
                       .steps = (size_t)x->dims[time],
                       .inner = 1};
    for (int i = 2; i < x->rank; i++)
        self->inner *= (size_t)x->dims[i];
    if (lengths->rank != 1 || lengths->dims[0] != x->dims[batch])
        return operator_error(call, XAI_ERROR_SHAPE, "sequence_lens has shape %s for %lld rows",
                              shape_text(lengths, text), (long long)x->dims[batch]);
    return XAI_OK;
}

static xai_status reverse_sequence_infer(operator_call *call)
{
    reversal self;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = movement_check(call, 0);
    if (status == XAI_OK)
        status = operator_check_type(call, 1, TYPES_INDEX);
    if (status == XAI_OK)
        status = reversal_make(call, &self);
    return status == XAI_OK ? movement_infer(call, &call->inputs[0]->shape) : status;
}

static xai_status reverse(const operator_call *call, const tensor *from, tensor *to)
{
    reversal self;
    int64_t *lengths = NULL;
    xai_status status = reversal_make(call, &self);
    if (status == XAI_OK)
        status = operator_read_ints(call, call->inputs[1], &lengths);
    const size_t bytes = status == XAI_OK ? self.inner * dtype_size(to->dtype) : 0;
    for (size_t n = 0; status == XAI_OK && n < self.batch; n++) {
        if (lengths[n] < 0 || (uint64_t)lengths[n] > self.steps) {
            status = operator_error(call, XAI_ERROR_SHAPE, "sequence_lens[%zu] is %lld of %zu", n,
                                    (long long)lengths[n], self.steps);
            break;
        }
        for (size_t t = 0; t < self.steps && bytes > 0; t++) {
            const size_t length = (size_t)lengths[n], source = t < length ? length - 1 - t : t;
            const size_t out = self.time_axis == 0 ? t * self.batch + n : n * self.steps + t,
                         in = self.time_axis == 0 ? source * self.batch + n
                                                  : n * self.steps + source;
            memcpy((char *)to->data + out * bytes, (const char *)from->data + in * bytes, bytes);
        }
    }
    memory_free(lengths);
    return status;
}

static xai_status reverse_sequence_forward(operator_call *call)
{
    return reverse(call, call->inputs[0], call->outputs[0]);
}

static xai_status reverse_sequence_backward(operator_call *call)
{
    tensor *wanted = operator_wanted_gradient(call, 0);
    const tensor *given = operator_output_gradient(call, 0);
    if (!wanted)
        return XAI_OK;
    if (!given) {
        operator_zero(wanted);
        return XAI_OK;
    }
    return reverse(call, given, wanted);
}

MOVEMENT(reverse_sequence, "ReverseSequence", 10, 2, 2, 1, 0, OPERATOR_READS_INPUT(1));
