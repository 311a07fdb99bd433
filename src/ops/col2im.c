/* Col2Im: blocks of columns added up to an image, the transpose of taking blocks out of it.
 *
 *   x (N, C B, L), B = product of the block's sizes, L = product of the numbers of blocks
 *   y (N, C, image...)   y[n, c, l stride + k dilation - pad] += x[n, c B + k, l] for all l and k
 */
#include "ops/families.h"
#include "ops/support.h"

enum { MAX_AXES = SHAPE_MAX_RANK - 2 };

typedef struct blocks {
    size_t rank;
    int64_t image[MAX_AXES], size[MAX_AXES], count[MAX_AXES];
    int64_t stride[MAX_AXES], dilation[MAX_AXES], begin[MAX_AXES];
    size_t rows, channels, positions, columns, pixels; /* N, C, B, L, image elements */
} blocks;

/* An attribute of `count` values that must be at least `least`; 1 or 0 each when absent. */
static xai_status read_values(const operator_call *call, const char *name, size_t count,
                              int64_t least, int64_t *out)
{
    const int64_t *given = NULL;
    size_t found = 0;
    const xai_status status = operator_attribute_ints(call, name, &given, &found);
    if (status != XAI_OK)
        return status;
    if (given && found != count)
        return operator_error(call, XAI_ERROR_FORMAT, "'%s' has %zu values, not %zu", name, found,
                              count);
    for (size_t i = 0; i < count; i++) {
        out[i] = given ? given[i] : least;
        if (out[i] < least || out[i] > INT32_MAX)
            return operator_error(call, XAI_ERROR_FORMAT, "'%s' is %lld", name, (long long)out[i]);
    }
    return XAI_OK;
}

static xai_status read_sizes(const operator_call *call, blocks *out)
{
    size_t rank = 0;
    xai_status status = operator_constant_ints(call, 1, out->image, MAX_AXES, &out->rank);
    if (status == XAI_OK)
        status = operator_constant_ints(call, 2, out->size, MAX_AXES, &rank);
    if (status == XAI_OK && (out->rank < 1 || rank != out->rank))
        status = operator_error(call, XAI_ERROR_SHAPE,
                                "image_shape has %zu values and block_shape %zu", out->rank, rank);
    for (size_t i = 0; status == XAI_OK && i < rank; i++)
        if (out->image[i] < 1 || out->image[i] > INT32_MAX || out->size[i] < 1 ||
            out->size[i] > INT32_MAX)
            status =
                operator_error(call, XAI_ERROR_SHAPE, "sizes of image and blocks must be positive");
    return status;
}

static xai_status read_blocks(const operator_call *call, blocks *out)
{
    int64_t pads[2 * MAX_AXES];
    *out = (blocks){.positions = 1, .columns = 1, .pixels = 1};
    xai_status status = read_sizes(call, out);
    if (status == XAI_OK)
        status = read_values(call, "strides", out->rank, 1, out->stride);
    if (status == XAI_OK)
        status = read_values(call, "dilations", out->rank, 1, out->dilation);
    if (status == XAI_OK)
        status = read_values(call, "pads", 2 * out->rank, 0, pads);
    for (size_t i = 0; status == XAI_OK && i < out->rank; i++) {
        const int64_t room = out->image[i] + pads[i] + pads[out->rank + i];
        const int64_t reach = (out->size[i] - 1) * out->dilation[i] + 1;
        out->begin[i] = pads[i];
        if (room < reach)
            return operator_error(call, XAI_ERROR_SHAPE, "a block is larger than the image");
        out->count[i] = (room - reach) / out->stride[i] + 1;
        if (!size_multiply(out->positions, (size_t)out->size[i], &out->positions) ||
            !size_multiply(out->columns, (size_t)out->count[i], &out->columns) ||
            !size_multiply(out->pixels, (size_t)out->image[i], &out->pixels))
            return operator_error(call, XAI_ERROR_SHAPE, "the image has too many elements");
    }
    if (status != XAI_OK)
        return status;
    const shape *x = &call->inputs[0]->shape;
    char text[SHAPE_TEXT_SIZE];
    if (x->rank != 3 || (size_t)x->dims[1] % out->positions != 0 ||
        (size_t)x->dims[2] != out->columns)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "x has shape %s where (N, a multiple of %zu, %zu) is needed",
                              shape_text(x, text), out->positions, out->columns);
    out->rows = (size_t)x->dims[0];
    out->channels = (size_t)x->dims[1] / out->positions;
    return XAI_OK;
}

/* Where element k of block l lies in the image; false in the padding. */
static bool place_of(const blocks *self, size_t k, size_t l, size_t *out)
{
    size_t at = 0, step = 1;
    for (size_t i = self->rank; i-- > 0;) {
        const int64_t block = (int64_t)(l % (size_t)self->count[i]),
                      inside = (int64_t)(k % (size_t)self->size[i]);
        const int64_t place = block * self->stride[i] + inside * self->dilation[i] - self->begin[i];
        if (place < 0 || place >= self->image[i])
            return false;
        at += (size_t)place * step;
        step *= (size_t)self->image[i];
        l /= (size_t)self->count[i];
        k /= (size_t)self->size[i];
    }
    *out = at;
    return true;
}

/* Columns to image, or, `back`, image to columns. */
static void move(const blocks *self, bool back, double *columns, double *image)
{
    for (size_t k = 0; k < self->positions; k++) {
        for (size_t l = 0; l < self->columns; l++) {
            size_t at;
            if (!place_of(self, k, l, &at))
                continue;
            for (size_t plane = 0; plane < self->rows * self->channels; plane++) {
                double *x = columns + (plane * self->positions + k) * self->columns + l,
                       *y = image + plane * self->pixels + at;
                if (back)
                    *x = *y;
                else
                    *y += *x;
            }
        }
    }
}

static xai_status col2im_infer(operator_call *call)
{
    blocks of;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_FLOAT);
    if (status == XAI_OK)
        status = read_blocks(call, &of);
    if (status != XAI_OK)
        return status;
    shape dims = {.rank = (int)of.rank + 2, .dims = {(int64_t)of.rows, (int64_t)of.channels}};
    for (size_t i = 0; i < of.rank; i++)
        dims.dims[i + 2] = of.image[i];
    return operator_set_output(call, 0, call->inputs[0]->dtype, &dims);
}

static xai_status col2im_forward(operator_call *call)
{
    blocks of;
    double *columns = NULL, *image = NULL;
    const size_t count = tensor_count(call->outputs[0]);
    xai_status status = read_blocks(call, &of);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &columns);
    if (status == XAI_OK)
        status = operator_allocate(call, count, &image);
    if (status == XAI_OK) {
        move(&of, false, columns, image);
        tensor_write_doubles(call->outputs[0], 0, count, image);
    }
    memory_free(columns);
    memory_free(image);
    return status;
}

static xai_status col2im_backward(operator_call *call)
{
    blocks of;
    double *columns = NULL, *image = NULL;
    const tensor *given = operator_output_gradient(call, 0);
    tensor *wanted = operator_wanted_gradient(call, 0);
    if (!wanted)
        return XAI_OK;
    if (!given) {
        operator_zero(wanted);
        return XAI_OK;
    }
    const size_t count = tensor_count(wanted);
    xai_status status = read_blocks(call, &of);
    if (status == XAI_OK)
        status = operator_read_doubles(call, given, &image);
    if (status == XAI_OK)
        status = operator_allocate(call, count, &columns);
    if (status == XAI_OK) {
        move(&of, true, columns, image);
        tensor_write_doubles(wanted, 0, count, columns);
    }
    memory_free(columns);
    memory_free(image);
    return status;
}

const operator_definition operator_col2im = {
    .name = "Col2Im",
    .domain = "",
    .min_inputs = 3,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 18,
    .infer = col2im_infer,
    .forward = col2im_forward,
    .backward = col2im_backward,
};
