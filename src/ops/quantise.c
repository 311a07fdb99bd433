/* Quantised numbers: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, and the internal
 * FakeQuantize, which is the first two in one.
 *
 *   q = saturate(round(x / scale) + zero_point)        halves go to the even neighbour
 *   y = (q - zero_point) scale
 *
 * The quotient is rounded to float32 before it is rounded to an integer, as everywhere: a double
 * quotient would decide near halves differently. Scale and zero point are one number, one an
 * index of `axis`, or one a block of `block_size` along it. */
#include <math.h>

#include "ops/families.h"
#include "ops/support.h"

#define TYPES_QUANTISED \
    (1u << DTYPE_INT8 | 1u << DTYPE_UINT8 | 1u << DTYPE_INT16 | 1u << DTYPE_UINT16)

/* Where the scale of an element lies. */
typedef struct quantisation {
    double *scales, *zeros;            /* zeros NULL = all zero */
    size_t inner, length, block, rows; /* element i: axis index i / inner % length */
    bool single;
    double low, high; /* of the quantised type */
} quantisation;

static void quantisation_free(quantisation *self)
{
    memory_free(self->scales);
    memory_free(self->zeros);
}

static size_t scale_index(const quantisation *self, size_t i)
{
    if (self->single)
        return 0;
    const size_t at = i / self->inner % self->length;
    if (self->block == 0)
        return at;
    return (i / self->inner / self->length * self->rows + at / self->block) * self->inner +
           i % self->inner;
}

static void type_range(int32_t dtype, double *low, double *high)
{
    const bool is_signed = dtype == DTYPE_INT8 || dtype == DTYPE_INT16;
    const double half = dtype == DTYPE_INT8 || dtype == DTYPE_UINT8 ? 128 : 32768;
    *low = is_signed ? -half : 0;
    *high = is_signed ? half - 1 : 2 * half - 1;
}

/* The axis of the scales; not used when there is one scale. */
static xai_status quantisation_axis(const operator_call *call, int *axis)
{
    int64_t given = 1;
    const xai_status status = operator_attribute_int(call, "axis", 1, &given);
    *axis = 0;
    return status == XAI_OK ? operator_axis(call, given, call->inputs[0]->shape.rank, axis)
                            : status;
}

/* Shapes of scale (input 1) and zero point (input 2) against x. */
static xai_status quantisation_check(const operator_call *call)
{
    char x_text[SHAPE_TEXT_SIZE], s_text[SHAPE_TEXT_SIZE];
    const shape *x = &call->inputs[0]->shape, *scale = &call->inputs[1]->shape;
    int64_t block = 0;
    int axis = 0;
    bool fits;
    xai_status status = operator_attribute_int(call, "block_size", 0, &block);
    if (status != XAI_OK)
        return status;
    if (operator_has_input(call, 2) && !shape_equal(&call->inputs[2]->shape, scale) &&
        tensor_count(call->inputs[2]) != tensor_count(call->inputs[1]))
        return operator_error(call, XAI_ERROR_SHAPE, "scale %s and zero point %s differ in shape",
                              shape_text(scale, s_text),
                              shape_text(&call->inputs[2]->shape, x_text));
    if (scale->rank == 0 || (scale->rank == 1 && scale->dims[0] == 1 && block == 0))
        return XAI_OK;
    status = quantisation_axis(call, &axis);
    if (status != XAI_OK)
        return status;
    if (block < 0)
        return operator_error(call, XAI_ERROR_SHAPE, "block_size is %lld", (long long)block);
    if (block == 0) {
        fits = scale->rank == 1 && scale->dims[0] == x->dims[axis];
    } else {
        fits = scale->rank == x->rank;
        for (int i = 0; fits && i < x->rank; i++) {
            const int64_t wanted = i == axis ? (x->dims[i] + block - 1) / block : x->dims[i];
            fits = scale->dims[i] == wanted;
        }
    }
    return fits ? XAI_OK
                : operator_error(call, XAI_ERROR_SHAPE,
                                 "scale %s does not fit x %s along axis %d with block_size %lld",
                                 shape_text(scale, s_text), shape_text(x, x_text), axis,
                                 (long long)block);
}

static xai_status quantisation_read(const operator_call *call, int32_t dtype, quantisation *out)
{
    int64_t block = 0;
    int axis = 0;
    const shape *x = &call->inputs[0]->shape;
    *out = (quantisation){.single = tensor_count(call->inputs[1]) == 1};
    xai_status status = operator_attribute_int(call, "block_size", 0, &block);
    if (status == XAI_OK && !out->single)
        status = quantisation_axis(call, &axis);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[1], &out->scales);
    if (status == XAI_OK && operator_has_input(call, 2))
        status = operator_read_doubles(call, call->inputs[2], &out->zeros);
    if (status != XAI_OK)
        return status;
    type_range(dtype, &out->low, &out->high);
    out->inner = out->length = out->rows = 1;
    if (out->single)
        return XAI_OK;
    out->length = (size_t)x->dims[axis];
    for (int i = axis + 1; i < x->rank; i++)
        out->inner *= (size_t)x->dims[i];
    out->block = (size_t)block;
    out->rows = (size_t)call->inputs[1]->shape.dims[block > 0 ? axis : 0];
    return XAI_OK;
}

/* round(x / scale) + zero_point, not yet saturated. */
static double quantised(const quantisation *self, double x, size_t at)
{
    const float quotient = (float)x / (float)self->scales[at];
    return nearbyint((double)quotient) + (self->zeros ? self->zeros[at] : 0);
}

static double saturated(const quantisation *self, double q)
{
    return q < self->low ? self->low : q > self->high ? self->high : q;
}

/* --- QuantizeLinear --- */

static xai_status quantised_type(const operator_call *call, int32_t *dtype)
{
    int64_t wanted = 0;
    const xai_status status = operator_attribute_int(call, "output_dtype", 0, &wanted);
    if (status != XAI_OK)
        return status;
    const int32_t zero = operator_has_input(call, 2) ? call->inputs[2]->dtype : 0;
    *dtype = zero ? zero : wanted ? (int32_t)wanted : DTYPE_UINT8;
    if (wanted != 0 && zero != 0 && wanted != zero)
        return operator_error(call, XAI_ERROR_FORMAT,
                              "output_dtype %lld is not the type of the zero point, %s",
                              (long long)wanted, dtype_name(zero));
    if (*dtype <= 0 || *dtype >= 32 || !(TYPES_QUANTISED >> *dtype & 1))
        return operator_error(call, XAI_ERROR_UNSUPPORTED,
                              "quantising to type number %d is not supported (int8, uint8, "
                              "int16, uint16 are)",
                              (int)*dtype);
    return XAI_OK;
}

static xai_status quantize_infer(operator_call *call)
{
    int32_t dtype = 0;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_FLOAT | 1u << DTYPE_INT32);
    if (status == XAI_OK)
        status = operator_check_type(call, 1, TYPES_FLOAT | 1u << DTYPE_INT32);
    if (status == XAI_OK)
        status = quantised_type(call, &dtype);
    if (status == XAI_OK)
        status = quantisation_check(call);
    return status == XAI_OK ? operator_set_output(call, 0, dtype, &call->inputs[0]->shape) : status;
}

/* A NaN has no integer: it would become any number. */
static xai_status check_number(const operator_call *call, double q, size_t i)
{
    return q == q ? XAI_OK
                  : operator_error(call, XAI_ERROR_NUMERIC, "element %zu is not a number", i);
}

static xai_status quantize_forward(operator_call *call)
{
    quantisation self = {0};
    double *x = NULL;
    tensor *y = call->outputs[0];
    const size_t count = tensor_count(y);
    xai_status status = quantisation_read(call, y->dtype, &self);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    for (size_t i = 0; i < count && status == XAI_OK; i++) {
        const double q = quantised(&self, x[i], scale_index(&self, i));
        status = check_number(call, q, i);
        if (status == XAI_OK)
            tensor_set_int(y, i, (int64_t)saturated(&self, q));
    }
    memory_free(x);
    quantisation_free(&self);
    return status;
}

/* --- DequantizeLinear --- */

static xai_status dequantize_infer(operator_call *call)
{
    int64_t wanted = 0;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_QUANTISED | 1u << DTYPE_INT32);
    if (status == XAI_OK)
        status = operator_check_type(call, 1, TYPES_FLOAT);
    if (status == XAI_OK && operator_has_input(call, 2))
        status = operator_check_same_type(call, 0, 2);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "output_dtype", 0, &wanted);
    if (status == XAI_OK && wanted != 0 && !dtype_is_float((int32_t)wanted))
        status = operator_error(call, XAI_ERROR_UNSUPPORTED,
                                "output_dtype %lld is no supported float type", (long long)wanted);
    if (status == XAI_OK)
        status = quantisation_check(call);
    return status == XAI_OK
               ? operator_set_output(call, 0, wanted ? (int32_t)wanted : call->inputs[1]->dtype,
                                     &call->inputs[0]->shape)
               : status;
}

static xai_status dequantize_forward(operator_call *call)
{
    quantisation self = {0};
    double *x = NULL;
    const size_t count = tensor_count(call->inputs[0]);
    xai_status status = quantisation_read(call, call->inputs[0]->dtype, &self);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    if (status == XAI_OK && count > 0) {
        for (size_t i = 0; i < count; i++) {
            const size_t at = scale_index(&self, i);
            x[i] = (x[i] - (self.zeros ? self.zeros[at] : 0)) * self.scales[at];
        }
        tensor_write_doubles(call->outputs[0], 0, count, x);
    }
    memory_free(x);
    quantisation_free(&self);
    return status;
}

/* --- FakeQuantize (internal): y = dequantised(quantised(x)) in floats. `quantised_type` is the
 * type between. Its gradient is the straight-through estimate of training frameworks: that of x
 * where x is within the range of the type, zero where it saturates, as a ReLU or a clip that was
 * merged into the range would have it. A saturated score (`is_score`) still has the gradient of
 * what it was quantised from, unless the range begins or ends at 0. --- */

static xai_status fake_infer(operator_call *call)
{
    int64_t dtype = 0;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_FLOAT);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "quantised_type", 0, &dtype);
    if (status == XAI_OK && (dtype <= 0 || dtype >= 32 || !(TYPES_QUANTISED >> dtype & 1)))
        status = operator_error(call, XAI_ERROR_FORMAT, "quantised_type is %lld", (long long)dtype);
    if (status == XAI_OK)
        status = quantisation_check(call);
    return status == XAI_OK
               ? operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape)
               : status;
}

/* `slopes` NULL: forward. */
static xai_status fake_run(operator_call *call, double *slopes, tensor *out)
{
    quantisation self = {0};
    int64_t dtype = 0, is_score = 0;
    double *x = NULL;
    const size_t count = tensor_count(out);
    xai_status status = operator_attribute_int(call, "quantised_type", 0, &dtype);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "is_score", 0, &is_score);
    if (status == XAI_OK)
        status = quantisation_read(call, (int32_t)dtype, &self);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    for (size_t i = 0; i < count && status == XAI_OK; i++) {
        const size_t at = scale_index(&self, i);
        const double q = quantised(&self, x[i], at), inside = saturated(&self, q);
        const double zero = self.zeros ? self.zeros[at] : 0;
        status = check_number(call, q, i);
        if (slopes)
            x[i] = inside == q || (is_score && zero > self.low && zero < self.high) ? slopes[i] : 0;
        else
            x[i] = (inside - zero) * self.scales[at];
    }
    if (status == XAI_OK && count > 0)
        tensor_write_doubles(out, 0, count, x);
    memory_free(x);
    quantisation_free(&self);
    return status;
}

static xai_status fake_forward(operator_call *call)
{
    return fake_run(call, NULL, call->outputs[0]);
}

static xai_status fake_backward(operator_call *call)
{
    double *slopes = NULL;
    const tensor *given = operator_output_gradient(call, 0);
    tensor *wanted = operator_wanted_gradient(call, 0);
    for (int i = 1; i < call->input_count; i++)
        if (operator_wanted_gradient(call, i))
            return operator_error(call, XAI_ERROR_UNSUPPORTED,
                                  "scale and zero point have no gradient");
    if (!wanted)
        return XAI_OK;
    if (!given) {
        operator_zero(wanted);
        return XAI_OK;
    }
    xai_status status = operator_read_doubles(call, given, &slopes);
    if (status == XAI_OK)
        status = fake_run(call, slopes, wanted);
    memory_free(slopes);
    return status;
}

/* --- DynamicQuantizeLinear: scale and zero point from the range of x, zero included --- */

static xai_status dynamic_infer(operator_call *call)
{
    const shape scalar = {0};
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, 1u << DTYPE_FLOAT);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, DTYPE_UINT8, &call->inputs[0]->shape);
    if (status == XAI_OK)
        status = operator_set_output(call, 1, DTYPE_FLOAT, &scalar);
    return status == XAI_OK ? operator_set_output(call, 2, DTYPE_UINT8, &scalar) : status;
}

static xai_status dynamic_forward(operator_call *call)
{
    double *x = NULL;
    const size_t count = tensor_count(call->inputs[0]);
    float low = 0, high = 0;
    xai_status status = operator_read_doubles(call, call->inputs[0], &x);
    for (size_t i = 0; i < count && status == XAI_OK; i++) {
        status = check_number(call, x[i], i);
        low = x[i] < (double)low ? (float)x[i] : low;
        high = x[i] > (double)high ? (float)x[i] : high;
    }
    if (status == XAI_OK) {
        const float range = (high - low) / 255, scale = range > 0 ? range : 1;
        double zero = nearbyint((double)(0 - low / scale));
        zero = zero < 0 ? 0 : zero > 255 ? 255 : zero;
        const quantisation self = {.scales = &(double){(double)scale},
                                   .zeros = &zero,
                                   .inner = 1,
                                   .length = 1,
                                   .single = true,
                                   .high = 255};
        for (size_t i = 0; i < count; i++)
            tensor_set_int(call->outputs[0], i,
                           (int64_t)saturated(&self, quantised(&self, x[i], 0)));
        tensor_set(call->outputs[1], 0, (double)scale);
        tensor_set_int(call->outputs[2], 0, (int64_t)zero);
    }
    memory_free(x);
    return status;
}

#define QUANTISE(symbol, title, title_domain, first_opset, least, most, outputs, reads, prefix, \
                 vjp)                                                                           \
    const operator_definition operator_##symbol = {                                             \
        .name = title,                                                                          \
        .domain = title_domain,                                                                 \
        .min_inputs = least,                                                                    \
        .max_inputs = most,                                                                     \
        .min_outputs = outputs,                                                                 \
        .max_outputs = outputs,                                                                 \
        .since = first_opset,                                                                   \
        .backward_reads = reads,                                                                \
        .infer = prefix##_infer,                                                                \
        .forward = prefix##_forward,                                                            \
        .backward = vjp,                                                                        \
    }
QUANTISE(quantize_linear, "QuantizeLinear", "", 10, 2, 3, 1, 0, quantize, NULL);
QUANTISE(dequantize_linear, "DequantizeLinear", "", 10, 2, 3, 1, 0, dequantize, NULL);
QUANTISE(dynamic_quantize_linear, "DynamicQuantizeLinear", "", 11, 1, 1, 3, 0, dynamic, NULL);
QUANTISE(fake_quantize, "FakeQuantize", "xai", 1, 2, 3, 1,
         OPERATOR_READS_INPUT(0) | OPERATOR_READS_INPUT(1) | OPERATOR_READS_INPUT(2), fake,
         fake_backward);
