/* RotaryEmbedding: pairs of elements of a head are turned by an angle that depends on the position.
 *
 *   y1 = cos x1 - sin x2    y2 = sin x1 + cos x2
 *
 * x (B, H, S, E), or (B, S, H E) with num_heads; the first `rotary_embedding_dim` elements of a head
 * are turned, in halves or interleaved. cos and sin are (positions, R / 2), read by position_ids, or
 * (B, S, R / 2). The transpose turns the other way. */
#include "ops/families.h"
#include "ops/support.h"

typedef struct rotary {
    size_t batch, heads, steps, width, half;
    bool packed, interleaved;
    double *cosines, *sines;
    int64_t *positions; /* (B, S), or NULL */
    size_t known;       /* rows of the caches */
} rotary;

static xai_status rotary_make(const operator_call *call, rotary *self)
{
    char x_text[SHAPE_TEXT_SIZE], c_text[SHAPE_TEXT_SIZE];
    const shape *x = &call->inputs[0]->shape, *cache = &call->inputs[1]->shape;
    const bool by_position = operator_has_input(call, 3);
    int64_t interleaved = 0, heads = 0, turned = 0;
    *self = (rotary){.packed = x->rank == 3};
    xai_status status = operator_attribute_int(call, "interleaved", 0, &interleaved);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "num_heads", 0, &heads);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "rotary_embedding_dim", 0, &turned);
    if (status != XAI_OK)
        return status;
    if (x->rank != 3 && x->rank != 4)
        return operator_error(call, XAI_ERROR_SHAPE, "x has shape %s", shape_text(x, x_text));
    if (self->packed && (heads <= 0 || x->dims[2] % heads != 0))
        return operator_error(call, XAI_ERROR_SHAPE, "x of shape %s has no %lld heads",
                              shape_text(x, x_text), (long long)heads);
    self->batch = (size_t)x->dims[0];
    self->heads = (size_t)(self->packed ? heads : x->dims[1]);
    self->steps = (size_t)x->dims[self->packed ? 1 : 2];
    self->width = (size_t)(self->packed ? x->dims[2] / heads : x->dims[3]);
    self->interleaved = interleaved != 0;
    if (turned < 0 || turned > (int64_t)self->width)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "rotary_embedding_dim is %lld of %zu elements a head",
                              (long long)turned, self->width);
    self->half = (turned ? (size_t)turned : self->width) / 2;
    const bool fits =
        cache->rank == (by_position ? 2 : 3) &&
        cache->dims[cache->rank - 1] == (int64_t)self->half &&
        shape_equal(cache, &call->inputs[2]->shape) &&
        (by_position || (cache->dims[0] == x->dims[0] && cache->dims[1] == (int64_t)self->steps));
    if (!fits)
        return operator_error(call, XAI_ERROR_SHAPE, "the cosines of shape %s do not fit x of %s",
                              shape_text(cache, c_text), shape_text(x, x_text));
    if (by_position &&
        (call->inputs[3]->shape.rank != 2 || call->inputs[3]->shape.dims[0] != x->dims[0] ||
         call->inputs[3]->shape.dims[1] != (int64_t)self->steps))
        return operator_error(call, XAI_ERROR_SHAPE, "position_ids have shape %s",
                              shape_text(&call->inputs[3]->shape, c_text));
    self->known = by_position ? (size_t)cache->dims[0] : self->batch * self->steps;
    return XAI_OK;
}

static xai_status rotary_infer(operator_call *call)
{
    rotary self;
    xai_status status = operator_check(call);
    for (int i = 0; i < 3 && status == XAI_OK; i++) {
        status = operator_check_type(call, i, TYPES_FLOAT);
        if (status == XAI_OK)
            status = operator_check_same_type(call, 0, i);
    }
    if (status == XAI_OK && operator_has_input(call, 3))
        status = operator_check_type(call, 3, TYPES_INDEX);
    if (status == XAI_OK)
        status = rotary_make(call, &self);
    return status == XAI_OK
               ? operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape)
               : status;
}

/* Which row of the caches a step reads. */
static xai_status cache_row(const operator_call *call, const rotary *self, size_t b, size_t s,
                            size_t *out)
{
    *out = b * self->steps + s;
    if (!self->positions)
        return XAI_OK;
    const int64_t position = self->positions[*out];
    if (position < 0 || (size_t)position >= self->known)
        return operator_error(call, XAI_ERROR_SHAPE, "position %lld is outside the cache of %zu",
                              (long long)position, self->known);
    *out = (size_t)position;
    return XAI_OK;
}

/* Turn x in place, forward (sign 1) or back (sign -1). */
static xai_status rotate(const operator_call *call, const rotary *self, double sign, double *x)
{
    size_t row;
    for (size_t b = 0; b < self->batch; b++)
        for (size_t s = 0; s < self->steps; s++) {
            const xai_status status = cache_row(call, self, b, s, &row);
            if (status != XAI_OK)
                return status;
            for (size_t h = 0; h < self->heads; h++) {
                double *head = x + (self->packed ? (b * self->steps + s) * self->heads + h
                                                 : (b * self->heads + h) * self->steps + s) *
                                       self->width;
                for (size_t k = 0; k < self->half; k++) {
                    double *x1 = head + (self->interleaved ? 2 * k : k),
                           *x2 = head + (self->interleaved ? 2 * k + 1 : k + self->half);
                    const double c = self->cosines[row * self->half + k],
                                 n = sign * self->sines[row * self->half + k], first = *x1;
                    *x1 = c * first - n * *x2;
                    *x2 = n * first + c * *x2;
                }
            }
        }
    return XAI_OK;
}

static xai_status rotary_run(operator_call *call, const tensor *from, double sign, tensor *to)
{
    rotary self = {0};
    double *x = NULL;
    xai_status status = rotary_make(call, &self);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[1], &self.cosines);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[2], &self.sines);
    if (status == XAI_OK && operator_has_input(call, 3))
        status = operator_read_ints(call, call->inputs[3], &self.positions);
    if (status == XAI_OK)
        status = operator_read_doubles(call, from, &x);
    if (status == XAI_OK)
        status = rotate(call, &self, sign, x);
    if (status == XAI_OK && tensor_count(to) > 0)
        tensor_write_doubles(to, 0, tensor_count(to), x);
    memory_free(x);
    memory_free(self.cosines);
    memory_free(self.sines);
    memory_free(self.positions);
    return status;
}

static xai_status rotary_forward(operator_call *call)
{
    return rotary_run(call, call->inputs[0], 1, call->outputs[0]);
}

static xai_status rotary_backward(operator_call *call)
{
    tensor *wanted = operator_wanted_gradient(call, 0);
    const tensor *given = operator_output_gradient(call, 0);
    if (operator_wanted_gradient(call, 1) || operator_wanted_gradient(call, 2))
        return operator_error(call, XAI_ERROR_UNSUPPORTED, "the caches have no gradient");
    if (!wanted)
        return XAI_OK;
    if (!given) {
        operator_zero(wanted);
        return XAI_OK;
    }
    return rotary_run(call, given, -1, wanted);
}

const operator_definition operator_rotary_embedding = {
    .name = "RotaryEmbedding",
    .domain = "",
    .min_inputs = 3,
    .max_inputs = 4,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 23,
    .backward_reads = OPERATOR_READS_INPUT(1) | OPERATOR_READS_INPUT(2) | OPERATOR_READS_INPUT(3),
    .infer = rotary_infer,
    .forward = rotary_forward,
    .backward = rotary_backward,
};
