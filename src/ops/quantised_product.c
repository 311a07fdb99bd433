/* Products of quantised numbers: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv. The
 * products are those of MatMul and Conv on doubles, in which these integers and their sums are
 * exact. Forward only: what goes in and out are integers. */
#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/support.h"

#define TYPES_BYTE (1u << DTYPE_INT8 | 1u << DTYPE_UINT8)

/* MatMul or Conv with the attributes of `call` on doubles of the shapes of two of its inputs. */
typedef struct product {
    operator_call call;
    tensor operands[2], result;
    const tensor *inputs[2];
    tensor *outputs[1];
} product;

static void product_init(product *self, const operator_call *call, bool convolution, int a, int b)
{
    *self = (product){.call = *call};
    self->operands[0] = (tensor){.dtype = DTYPE_DOUBLE, .shape = call->inputs[a]->shape};
    self->operands[1] = (tensor){.dtype = DTYPE_DOUBLE, .shape = call->inputs[b]->shape};
    self->inputs[0] = &self->operands[0];
    self->inputs[1] = &self->operands[1];
    self->outputs[0] = &self->result;
    self->call.definition = convolution ? &operator_conv : &operator_matmul;
    self->call.inputs = self->inputs;
    self->call.outputs = self->outputs;
    self->call.input_count = 2;
    self->call.output_count = 1;
    if (!convolution)
        self->call.opset = 13;
}

static void product_free(product *self)
{
    for (int i = 0; i < 2; i++)
        memory_free(self->operands[i].data);
    tensor_free(&self->result);
}

/* How one number, or one an index of an axis, spreads over a tensor: element i uses entry
 * i / inner % length. A tensor that broadcasts is repeated instead. */
static xai_status spread_read(const operator_call *call, const tensor *from, const shape *to,
                              int axis, double **out)
{
    char from_text[SHAPE_TEXT_SIZE], to_text[SHAPE_TEXT_SIZE];
    shape broadcast = from->shape, joined;
    size_t count;
    if (from->shape.rank == 1 && from->shape.dims[0] != 1) {
        broadcast = (shape){.rank = to->rank};
        for (int i = 0; i < to->rank; i++)
            broadcast.dims[i] = i == axis ? from->shape.dims[0] : 1;
    }
    const tensor view = {.dtype = from->dtype, .shape = broadcast, .data = from->data};
    if (operator_broadcast(call, &broadcast, to, &joined) != XAI_OK || !shape_equal(&joined, to) ||
        !shape_count(to, &count))
        return operator_error(call, XAI_ERROR_SHAPE,
                              "a scale or zero point of shape %s does not fit %s",
                              shape_text(&from->shape, from_text), shape_text(to, to_text));
    if (!from->data) {
        *out = NULL;
        return XAI_OK;
    }
    return operator_read_repeated(call, &view, true, to, (void **)out);
}

/* Checks during infer that what belongs to an operand fits it. */
static xai_status spread_check(const operator_call *call, int input, const shape *to, int axis)
{
    double *unused = NULL;
    if (!operator_has_input(call, input))
        return XAI_OK;
    const tensor known = {.dtype = call->inputs[input]->dtype, .shape = call->inputs[input]->shape};
    return spread_read(call, &known, to, axis, &unused);
}

/* x - zero_point, times the scale when there is one. `axis` is that of the per-axis entries. */
static xai_status centred(const operator_call *call, int x, int zero, int scale, int axis,
                          tensor *out)
{
    double *values = NULL, *zeros = NULL, *scales = NULL;
    const size_t count = tensor_count(call->inputs[x]);
    xai_status status = operator_read_doubles(call, call->inputs[x], &values);
    if (status == XAI_OK && zero >= 0 && operator_has_input(call, zero))
        status = spread_read(call, call->inputs[zero], &call->inputs[x]->shape, axis, &zeros);
    if (status == XAI_OK && scale >= 0)
        status = spread_read(call, call->inputs[scale], &call->inputs[x]->shape, axis, &scales);
    for (size_t i = 0; i < count && status == XAI_OK; i++)
        values[i] = (values[i] - (zeros ? zeros[i] : 0)) * (scales ? scales[i] : 1);
    memory_free(zeros);
    memory_free(scales);
    out->data = values;
    return status;
}

static xai_status product_run(product *self, const operator_call *call)
{
    xai_status status = self->call.definition->infer(&self->call);
    if (status == XAI_OK) {
        const shape dims = self->result.shape;
        status = tensor_create(&self->result, DTYPE_DOUBLE, &dims, call->error);
    }
    return status == XAI_OK ? self->call.definition->forward(&self->call) : status;
}

/* The axis of an operand's per-axis entries: rows of A, columns of B, output channels of W. */
static int operand_axis(const operator_call *call, bool convolution, int x, bool second)
{
    const int rank = call->inputs[x]->shape.rank;
    if (convolution)
        return second ? 0 : -1;
    return second ? rank - 1 : rank - 2;
}

/* --- MatMulInteger and ConvInteger: (A, B, zero of A, zero of B) -> int32 --- */

static xai_status integer_infer(operator_call *call, bool convolution)
{
    product self;
    xai_status status = operator_check(call);
    for (int i = 0; i < call->input_count && status == XAI_OK; i++)
        if (operator_has_input(call, i)) {
            status = operator_check_type(call, i, TYPES_BYTE);
            if (status == XAI_OK && i >= 2)
                status = operator_check_same_type(call, i, i - 2);
        }
    if (status != XAI_OK)
        return status;
    product_init(&self, call, convolution, 0, 1);
    status = self.call.definition->infer(&self.call);
    for (int i = 0; i < 2 && status == XAI_OK; i++)
        status = spread_check(call, 2 + i, &call->inputs[i]->shape,
                              operand_axis(call, convolution, i, i == 1));
    return status == XAI_OK ? operator_set_output(call, 0, DTYPE_INT32, &self.result.shape)
                            : status;
}

static xai_status integer_forward(operator_call *call, bool convolution)
{
    product self;
    product_init(&self, call, convolution, 0, 1);
    xai_status status = XAI_OK;
    for (int i = 0; i < 2 && status == XAI_OK; i++)
        status = centred(call, i, 2 + i, -1, operand_axis(call, convolution, i, i == 1),
                         &self.operands[i]);
    if (status == XAI_OK)
        status = product_run(&self, call);
    const size_t count = tensor_count(call->outputs[0]);
    for (size_t i = 0; i < count && status == XAI_OK; i++)
        tensor_set_int(call->outputs[0], i, (int64_t)tensor_get(&self.result, i));
    product_free(&self);
    return status;
}

static xai_status matmul_integer_infer(operator_call *call)
{
    return integer_infer(call, false);
}

static xai_status matmul_integer_forward(operator_call *call)
{
    return integer_forward(call, false);
}

static xai_status conv_integer_infer(operator_call *call)
{
    return integer_infer(call, true);
}

static xai_status conv_integer_forward(operator_call *call)
{
    return integer_forward(call, true);
}

/* --- QLinearMatMul and QLinearConv: (a, scale, zero, b, scale, zero, scale of y, zero of y, bias
 * of QLinearConv): y = saturate(round(product / scale of y) + zero of y) --- */

enum { A, A_SCALE, A_ZERO, B, B_SCALE, B_ZERO, Y_SCALE, Y_ZERO, BIAS };

static xai_status linear_infer(operator_call *call, bool convolution)
{
    product self;
    xai_status status = operator_check(call);
    for (int i = A; i <= Y_ZERO && status == XAI_OK; i++) {
        const bool is_scale = i == A_SCALE || i == B_SCALE || i == Y_SCALE;
        status = operator_check_type(call, i, is_scale ? TYPES_FLOAT : TYPES_BYTE);
    }
    if (status == XAI_OK)
        status = operator_check_same_type(call, A, A_ZERO);
    if (status == XAI_OK)
        status = operator_check_same_type(call, B, B_ZERO);
    if (status == XAI_OK && operator_has_input(call, BIAS))
        status = operator_check_type(call, BIAS, 1u << DTYPE_INT32);
    if (status != XAI_OK)
        return status;
    product_init(&self, call, convolution, A, B);
    status = self.call.definition->infer(&self.call);
    for (int i = A_SCALE; i <= A_ZERO && status == XAI_OK; i++)
        status = spread_check(call, i, &call->inputs[A]->shape,
                              operand_axis(call, convolution, A, false));
    for (int i = B_SCALE; i <= B_ZERO && status == XAI_OK; i++)
        status = spread_check(call, i, &call->inputs[B]->shape,
                              operand_axis(call, convolution, B, true));
    for (int i = Y_SCALE; i <= Y_ZERO && status == XAI_OK; i++)
        status =
            spread_check(call, i, &self.result.shape, convolution ? 1 : self.result.shape.rank - 2);
    if (status == XAI_OK && operator_has_input(call, BIAS) &&
        tensor_count(call->inputs[BIAS]) != (size_t)call->inputs[B]->shape.dims[0])
        status = operator_error(call, XAI_ERROR_SHAPE, "%zu biases for %lld output channels",
                                tensor_count(call->inputs[BIAS]),
                                (long long)call->inputs[B]->shape.dims[0]);
    return status == XAI_OK
               ? operator_set_output(call, 0, call->inputs[Y_ZERO]->dtype, &self.result.shape)
               : status;
}

/* Add bias scale(a) scale(b) to the sums, where the bias is in units of both scales. */
static xai_status add_bias(const operator_call *call, tensor *y)
{
    double *bias = NULL, *scales = NULL;
    const size_t channels = (size_t)y->shape.dims[1], count = tensor_count(y);
    size_t inner = 1;
    for (int i = 2; i < y->shape.rank; i++)
        inner *= (size_t)y->shape.dims[i];
    double *sums = y->data;
    xai_status status = operator_read_doubles(call, call->inputs[BIAS], &bias);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[B_SCALE], &scales);
    const bool single = tensor_count(call->inputs[B_SCALE]) == 1;
    for (size_t i = 0; i < count && status == XAI_OK; i++) {
        const size_t channel = i / inner % channels;
        sums[i] +=
            bias[channel] * tensor_get(call->inputs[A_SCALE], 0) * scales[single ? 0 : channel];
    }
    memory_free(bias);
    memory_free(scales);
    return status;
}

static xai_status linear_forward(operator_call *call, bool convolution)
{
    product self;
    double *scales = NULL, *zeros = NULL;
    tensor *y = call->outputs[0];
    const double low = y->dtype == DTYPE_INT8 ? -128 : 0, high = low + 255;
    const int axis = convolution ? 1 : y->shape.rank - 2;
    product_init(&self, call, convolution, A, B);
    xai_status status = centred(call, A, A_ZERO, A_SCALE, operand_axis(call, convolution, A, false),
                                &self.operands[0]);
    if (status == XAI_OK)
        status = centred(call, B, B_ZERO, B_SCALE, operand_axis(call, convolution, B, true),
                         &self.operands[1]);
    if (status == XAI_OK)
        status = product_run(&self, call);
    if (status == XAI_OK && operator_has_input(call, BIAS))
        status = add_bias(call, &self.result);
    if (status == XAI_OK)
        status = spread_read(call, call->inputs[Y_SCALE], &y->shape, axis, &scales);
    if (status == XAI_OK)
        status = spread_read(call, call->inputs[Y_ZERO], &y->shape, axis, &zeros);
    const size_t count = tensor_count(y);
    for (size_t i = 0; i < count && status == XAI_OK; i++) {
        const double q = nearbyint(tensor_get(&self.result, i) / scales[i]) + zeros[i];
        if (q != q)
            status = operator_error(call, XAI_ERROR_NUMERIC, "element %zu is not a number", i);
        else
            tensor_set_int(y, i, (int64_t)(q < low ? low : q > high ? high : q));
    }
    memory_free(scales);
    memory_free(zeros);
    product_free(&self);
    return status;
}

static xai_status qlinear_matmul_infer(operator_call *call)
{
    return linear_infer(call, false);
}

static xai_status qlinear_matmul_forward(operator_call *call)
{
    return linear_forward(call, false);
}

static xai_status qlinear_conv_infer(operator_call *call)
{
    return linear_infer(call, true);
}

static xai_status qlinear_conv_forward(operator_call *call)
{
    return linear_forward(call, true);
}

#define QUANTISED(symbol, title, least, most)       \
    const operator_definition operator_##symbol = { \
        .name = title,                              \
        .domain = "",                               \
        .min_inputs = least,                        \
        .max_inputs = most,                         \
        .min_outputs = 1,                           \
        .max_outputs = 1,                           \
        .since = 10,                                \
        .infer = symbol##_infer,                    \
        .forward = symbol##_forward,                \
    }
QUANTISED(matmul_integer, "MatMulInteger", 2, 4);
QUANTISED(conv_integer, "ConvInteger", 2, 4);
QUANTISED(qlinear_matmul, "QLinearMatMul", 8, 8);
QUANTISED(qlinear_conv, "QLinearConv", 8, 9);
