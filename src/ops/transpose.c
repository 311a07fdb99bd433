/* Permutations of elements: Transpose, DepthToSpace, SpaceToDepth. Each is a transposition of some
 * view of the input. */
#include <string.h>

#include "ops/families.h"
#include "ops/mapping.h"

/* Output axis i is axis order[i] of a view of the input with these dimensions. */
typedef struct permutation {
    shape view;
    int order[SHAPE_MAX_RANK];
} permutation;

/* Elements of `size` bytes: to = from permuted, or from permuted back when `back`. The same types
 * and counts. */
static void permute(const permutation *self, const tensor *from, tensor *to, bool back)
{
    const int rank = self->view.rank, last = rank - 1;
    const size_t size = dtype_size(to->dtype);
    const unsigned char *in = from->data;
    unsigned char *out = to->data;
    size_t view_steps[SHAPE_MAX_RANK], steps[SHAPE_MAX_RANK], step = size, offset = 0;
    int64_t index[SHAPE_MAX_RANK] = {0};
    if (tensor_bytes(to) == 0)
        return;
    if (rank == 0) {
        memcpy(out, in, size);
        return;
    }
    for (int i = last; i >= 0; i--) {
        view_steps[i] = step;
        step *= (size_t)self->view.dims[i];
    }
    for (int i = 0; i < rank; i++)
        steps[i] = view_steps[self->order[i]];
    const size_t width = (size_t)self->view.dims[self->order[last]], stride = steps[last];
    size_t line = 0; /* byte offset on the permuted side */
    for (;;) {
        if (stride == size) {
            memcpy(out + (back ? offset : line), in + (back ? line : offset), width * size);
        } else {
            for (size_t i = 0; i < width; i++) {
                const size_t plain = line + i * size, strided = offset + i * stride;
                memcpy(out + (back ? strided : plain), in + (back ? plain : strided), size);
            }
        }
        line += width * size;
        int axis = last - 1;
        for (; axis >= 0; axis--) {
            offset += steps[axis];
            if (++index[axis] < self->view.dims[self->order[axis]])
                break;
            offset -= steps[axis] * (size_t)index[axis];
            index[axis] = 0;
        }
        if (axis < 0)
            return;
    }
}

static xai_status
permute_run(operator_call *call,
            xai_status (*make)(const operator_call *call, permutation *out, shape *y), bool back)
{
    permutation self;
    shape y;
    tensor *wanted = back ? operator_wanted_gradient(call, 0) : NULL;
    const tensor *given = operator_output_gradient(call, 0);
    if (back && !wanted)
        return XAI_OK;
    if (back && !given) {
        operator_zero(wanted);
        return XAI_OK;
    }
    const xai_status status = make(call, &self, &y);
    if (status == XAI_OK)
        permute(&self, back ? given : call->inputs[0], back ? wanted : call->outputs[0], back);
    return status;
}

static xai_status permute_infer(operator_call *call, xai_status (*make)(const operator_call *call,
                                                                        permutation *out, shape *y))
{
    permutation self;
    shape y;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = movement_check(call, 0);
    if (status == XAI_OK)
        status = make(call, &self, &y);
    return status == XAI_OK ? movement_infer(call, &y) : status;
}

static xai_status transpose_make(const operator_call *call, permutation *self, shape *y)
{
    char text[SHAPE_TEXT_SIZE];
    const shape *x = &call->inputs[0]->shape;
    const int64_t *order;
    size_t count;
    uint32_t used = 0;
    const xai_status status = operator_attribute_ints(call, "perm", &order, &count);
    if (status != XAI_OK)
        return status;
    *self = (permutation){.view = *x};
    *y = *x;
    if (operator_attribute(call, "perm") && count != (size_t)x->rank)
        return operator_error(call, XAI_ERROR_SHAPE, "perm has %zu axes for an input of shape %s",
                              count, shape_text(x, text));
    for (int i = 0; i < x->rank; i++) {
        const int64_t axis = count > 0 ? order[i] : x->rank - 1 - i;
        if (axis < 0 || axis >= x->rank || (used >> axis & 1))
            return operator_error(call, XAI_ERROR_SHAPE,
                                  "perm is not a permutation of the axes of shape %s",
                                  shape_text(x, text));
        used |= 1u << axis;
        self->order[i] = (int)axis;
        y->dims[i] = x->dims[axis];
    }
    return XAI_OK;
}

/* The block size, and whether channels come before the positions in a block (mode CRD) in the deep
 * tensor. */
static xai_status read_block(const operator_call *call, int64_t *block, bool *channels_first)
{
    char text[SHAPE_TEXT_SIZE];
    const char *mode;
    xai_status status = operator_attribute_int(call, "blocksize", 0, block);
    if (status == XAI_OK)
        status = operator_attribute_text(call, "mode", "DCR", &mode);
    if (status != XAI_OK)
        return status;
    *channels_first = strcmp(mode, "CRD") == 0;
    if (!*channels_first && strcmp(mode, "DCR") != 0)
        return operator_error(call, XAI_ERROR_UNSUPPORTED, "mode '%s' is not DCR or CRD", mode);
    if (call->inputs[0]->shape.rank != 4 || *block < 1 || *block > INT16_MAX)
        return operator_error(call, XAI_ERROR_SHAPE, "an input of shape %s and blocksize %lld",
                              shape_text(&call->inputs[0]->shape, text), (long long)*block);
    return XAI_OK;
}

static xai_status depth_to_space_make(const operator_call *call, permutation *self, shape *y)
{
    char text[SHAPE_TEXT_SIZE];
    const shape *x = &call->inputs[0]->shape;
    int64_t b;
    bool channels_first;
    const xai_status status = read_block(call, &b, &channels_first);
    if (status != XAI_OK)
        return status;
    const int64_t n = x->dims[0], c = x->dims[1] / (b * b), h = x->dims[2], w = x->dims[3];
    int64_t height, width;
    if (x->dims[1] % (b * b) != 0 || __builtin_mul_overflow(h, b, &height) ||
        __builtin_mul_overflow(w, b, &width))
        return operator_error(call, XAI_ERROR_SHAPE,
                              "channels of %s are not a multiple of blocksize %lld squared",
                              shape_text(x, text), (long long)b);
    *self = channels_first ? (permutation){{6, {n, c, b, b, h, w}}, {0, 1, 4, 2, 5, 3}}
                           : (permutation){{6, {n, b, b, c, h, w}}, {0, 3, 4, 1, 5, 2}};
    *y = shape_make(4, (const int64_t[]){n, c, height, width});
    return XAI_OK;
}

static xai_status space_to_depth_make(const operator_call *call, permutation *self, shape *y)
{
    char text[SHAPE_TEXT_SIZE];
    const shape *x = &call->inputs[0]->shape;
    int64_t b, channels;
    bool channels_first;
    const xai_status status = read_block(call, &b, &channels_first);
    if (status != XAI_OK)
        return status;
    const int64_t n = x->dims[0], c = x->dims[1], h = x->dims[2] / b, w = x->dims[3] / b;
    if (x->dims[2] % b != 0 || x->dims[3] % b != 0 || __builtin_mul_overflow(c, b * b, &channels))
        return operator_error(call, XAI_ERROR_SHAPE,
                              "height and width of %s are not multiples of blocksize %lld",
                              shape_text(x, text), (long long)b);
    *self = channels_first ? (permutation){{6, {n, c, h, b, w, b}}, {0, 1, 3, 5, 2, 4}}
                           : (permutation){{6, {n, c, h, b, w, b}}, {0, 3, 5, 1, 2, 4}};
    *y = shape_make(4, (const int64_t[]){n, channels, h, w});
    return XAI_OK;
}

#define PERMUTATION(symbol, title)                           \
    static xai_status symbol##_infer(operator_call *call)    \
    {                                                        \
        return permute_infer(call, symbol##_make);           \
    }                                                        \
    static xai_status symbol##_forward(operator_call *call)  \
    {                                                        \
        return permute_run(call, symbol##_make, false);      \
    }                                                        \
    static xai_status symbol##_backward(operator_call *call) \
    {                                                        \
        return permute_run(call, symbol##_make, true);       \
    }                                                        \
    MOVEMENT(symbol, title, 1, 1, 1, 1, 0, 0)

PERMUTATION(transpose, "Transpose");
PERMUTATION(depth_to_space, "DepthToSpace");
PERMUTATION(space_to_depth, "SpaceToDepth");
