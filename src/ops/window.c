/* Geometry of convolutions and pools: what the attributes mean for given input sizes.
 *
 * Every size and attribute is at most INT32_MAX, so that no product or sum leaves int64_t. */
#include <string.h>

#include "ops/support.h"

#define LARGEST INT32_MAX

typedef enum auto_pad { PAD_EXPLICIT, PAD_VALID, PAD_SAME_UPPER, PAD_SAME_LOWER } auto_pad;

static xai_status read_auto_pad(const operator_call *call, auto_pad *out)
{
    static const char *const names[] = {"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"};
    const char *text;
    const xai_status status = operator_attribute_text(call, "auto_pad", "NOTSET", &text);
    *out = PAD_EXPLICIT;
    if (status != XAI_OK)
        return status;
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (auto_pad)i;
            return XAI_OK;
        }
    return operator_error(call, XAI_ERROR_FORMAT,
                          "auto_pad is '%s' and not NOTSET, VALID, SAME_UPPER or SAME_LOWER", text);
}

/* An attribute with `length` values in [low, LARGEST]; when it is absent every value is
 * `fallback`. */
static xai_status read_values(const operator_call *call, const char *name, int length, int64_t low,
                              int64_t fallback, int64_t *out, bool *present)
{
    char text[SHAPE_TEXT_SIZE];
    const int64_t *values;
    size_t count;
    const xai_status status = operator_attribute_ints(call, name, &values, &count);
    if (status != XAI_OK)
        return status;
    *present = count > 0;
    if (count > 0 && count != (size_t)length)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "%s has %zu value%s for a %d-D input of shape %s", name, count,
                              count == 1 ? "" : "s", call->inputs[0]->shape.rank - 2,
                              shape_text(&call->inputs[0]->shape, text));
    for (int i = 0; i < length; i++) {
        out[i] = count > 0 ? values[i] : fallback;
        if (out[i] < low || out[i] > LARGEST)
            return operator_error(call, XAI_ERROR_SHAPE,
                                  "%s has the value %lld, outside [%lld, %d]", name,
                                  (long long)out[i], (long long)low, LARGEST);
    }
    return XAI_OK;
}

/* Distance from the first to one past the last input position that a window touches. */
static int64_t extent(const window *w, int i)
{
    return (w->kernel[i] - 1) * w->dilation[i] + 1;
}

/* Split padding in two; an odd element goes to the end for SAME_UPPER, else to the beginning. */
static void split_padding(window *w, int i, int64_t total, bool upper)
{
    if (total < 0)
        total = 0;
    w->pad_begin[i] = upper ? total / 2 : total - total / 2;
    w->pad_end[i] = total - w->pad_begin[i];
}

/* A convolution or pool: the number of windows along dimension i. */
static xai_status slide(const operator_call *call, window *w, int i, auto_pad mode, bool round_up)
{
    const int64_t in = w->input[i], step = w->stride[i], reach = extent(w, i);
    if (mode == PAD_SAME_UPPER || mode == PAD_SAME_LOWER) {
        w->output[i] = (in + step - 1) / step;
        split_padding(w, i, (w->output[i] - 1) * step + reach - in, mode == PAD_SAME_UPPER);
        return XAI_OK;
    }
    const bool up = round_up && mode == PAD_EXPLICIT;
    const int64_t room = in + w->pad_begin[i] + w->pad_end[i] - reach + (up ? step - 1 : 0);
    if (room < 0)
        return operator_error(
            call, XAI_ERROR_SHAPE,
            "the window covers %lld elements of spatial dimension %d, which has %lld with padding",
            (long long)reach, i, (long long)(in + w->pad_begin[i] + w->pad_end[i]));
    w->output[i] = room / step + 1;
    /* The last window must start inside the input or the padding before it. */
    if (up && (w->output[i] - 1) * step >= in + w->pad_begin[i])
        w->output[i]--;
    return XAI_OK;
}

/* A pool: every window holds at least one element of the input. */
static xai_status check_windows(const operator_call *call, const window *w, int i)
{
    const int64_t in = w->input[i], step = w->stride[i];
    bool empty =
        w->pad_begin[i] >= extent(w, i) || (w->output[i] - 1) * step - w->pad_begin[i] >= in;
    for (int64_t o = 0; o < w->output[i] && o * step < w->pad_begin[i] && !empty; o++) {
        const int64_t outside = w->pad_begin[i] - o * step; /* positions before the input, > 0 */
        const int64_t tap =
            (outside + w->dilation[i] - 1) / w->dilation[i]; /* the first one inside */
        empty = tap >= w->kernel[i] || tap * w->dilation[i] - outside >= in;
    }
    if (!empty)
        return XAI_OK;
    return operator_error(call, XAI_ERROR_SHAPE,
                          "a window lies wholly in the padding of spatial dimension %d", i);
}

/* ConvTranspose: sizes from the padding, or the padding from output_shape. */
static xai_status unslide(const operator_call *call, window *w, auto_pad mode)
{
    int64_t extra[WINDOW_MAX_RANK], wanted[WINDOW_MAX_RANK];
    bool has_extra, has_wanted;
    xai_status status = read_values(call, "output_padding", w->rank, 0, 0, extra, &has_extra);
    if (status == XAI_OK)
        status = read_values(call, "output_shape", w->rank, 1, 1, wanted, &has_wanted);
    for (int i = 0; i < w->rank && status == XAI_OK; i++) {
        const int64_t full = w->stride[i] * (w->input[i] - 1) + extra[i] + extent(w, i);
        if (extra[i] >= w->stride[i] && extra[i] >= w->dilation[i])
            return operator_error(
                call, XAI_ERROR_SHAPE,
                "output_padding %lld is not less than the stride %lld or the dilation %lld",
                (long long)extra[i], (long long)w->stride[i], (long long)w->dilation[i]);
        if (has_wanted || mode == PAD_SAME_UPPER || mode == PAD_SAME_LOWER) {
            w->output[i] = has_wanted ? wanted[i] : w->input[i] * w->stride[i];
            split_padding(w, i, full - w->output[i], mode == PAD_SAME_UPPER);
        } else {
            w->output[i] = full - w->pad_begin[i] - w->pad_end[i];
        }
        if (w->output[i] < 1)
            status = operator_error(call, XAI_ERROR_SHAPE,
                                    "spatial dimension %d of the output would have size %lld", i,
                                    (long long)w->output[i]);
    }
    return status;
}

/* kernel_shape, which for convolutions is that of the weights and may be left out. */
static xai_status read_kernel(const operator_call *call, bool convolution, window *w)
{
    char x_text[SHAPE_TEXT_SIZE], w_text[SHAPE_TEXT_SIZE];
    bool present;
    const xai_status status = read_values(call, "kernel_shape", w->rank, 1, 1, w->kernel, &present);
    if (status != XAI_OK)
        return status;
    if (!convolution)
        return present
                   ? XAI_OK
                   : operator_error(call, XAI_ERROR_FORMAT, "attribute 'kernel_shape' is missing");
    const shape *weights = &call->inputs[1]->shape;
    if (weights->rank != w->rank + 2)
        return operator_error(
            call, XAI_ERROR_SHAPE, "weights of shape %s do not fit an input of shape %s",
            shape_text(weights, w_text), shape_text(&call->inputs[0]->shape, x_text));
    for (int i = 0; i < w->rank; i++) {
        const int64_t size = weights->dims[i + 2];
        if (present && w->kernel[i] != size)
            return operator_error(call, XAI_ERROR_SHAPE,
                                  "kernel_shape says %lld where the weights have shape %s",
                                  (long long)w->kernel[i], shape_text(weights, w_text));
        if (size < 1 || size > LARGEST)
            return operator_error(call, XAI_ERROR_SHAPE, "weights have shape %s",
                                  shape_text(weights, w_text));
        w->kernel[i] = size;
    }
    return XAI_OK;
}

/* Groups divide the channels, and the weights have the channels that the input needs. */
static xai_status check_channels(const operator_call *call, bool transposed, int64_t groups)
{
    char x_text[SHAPE_TEXT_SIZE], w_text[SHAPE_TEXT_SIZE];
    const shape *x = &call->inputs[0]->shape, *weights = &call->inputs[1]->shape;
    /* Conv: (M, C / groups, k...); ConvTranspose: (C, M / groups, k...) */
    const int64_t channels = x->dims[1], first = weights->dims[0], second = weights->dims[1];
    if (groups < 1 || groups > LARGEST || channels % groups != 0 || first % groups != 0)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "group %lld does not divide the channels of input %s or weights %s",
                              (long long)groups, shape_text(x, x_text),
                              shape_text(weights, w_text));
    if (channels < 1 || channels > LARGEST || first < 1 || first > LARGEST || second < 1 ||
        second > LARGEST / groups || (transposed ? first != channels : second != channels / groups))
        return operator_error(call, XAI_ERROR_SHAPE,
                              "weights of shape %s do not fit an input of shape %s in %lld group%s",
                              shape_text(weights, w_text), shape_text(x, x_text), (long long)groups,
                              groups == 1 ? "" : "s");
    return XAI_OK;
}

static xai_status read_input(const operator_call *call, window *w)
{
    char text[SHAPE_TEXT_SIZE];
    const shape *x = &call->inputs[0]->shape;
    if (x->rank < 3 || x->rank > WINDOW_MAX_RANK + 2)
        return operator_error(
            call, x->rank < 3 ? XAI_ERROR_SHAPE : XAI_ERROR_UNSUPPORTED,
            "input of shape %s does not have 1 to %d spatial dimensions after batch and channels",
            shape_text(x, text), WINDOW_MAX_RANK);
    w->rank = x->rank - 2;
    for (int i = 0; i < w->rank; i++) {
        w->input[i] = x->dims[i + 2];
        if (w->input[i] < 1 || w->input[i] > LARGEST)
            return operator_error(call, XAI_ERROR_SHAPE, "input of shape %s is empty or too large",
                                  shape_text(x, text));
    }
    return XAI_OK;
}

static void cover_all(window *w)
{
    for (int i = 0; i < w->rank; i++) {
        w->kernel[i] = w->input[i];
        w->stride[i] = w->dilation[i] = w->output[i] = 1;
    }
}

xai_status operator_window(const operator_call *call, window *out)
{
    const char *name = call->definition->name;
    const bool transposed = strcmp(name, "ConvTranspose") == 0;
    const bool convolution = transposed || strcmp(name, "Conv") == 0;
    window w = {.groups = 1};
    auto_pad mode = PAD_EXPLICIT;
    int64_t ceil_mode = 0, include_pad = 0, pads[2 * WINDOW_MAX_RANK] = {0};
    bool present;
    *out = w;
    xai_status status = read_input(call, &w);
    if (status != XAI_OK)
        return status;
    if (strncmp(name, "Global", 6) == 0) {
        cover_all(&w);
        *out = w;
        return XAI_OK;
    }
    status = read_kernel(call, convolution, &w);
    if (status == XAI_OK)
        status = read_values(call, "strides", w.rank, 1, 1, w.stride, &present);
    if (status == XAI_OK)
        status = read_values(call, "dilations", w.rank, 1, 1, w.dilation, &present);
    if (status == XAI_OK)
        status = read_values(call, "pads", 2 * w.rank, 0, 0, pads, &present);
    if (status == XAI_OK)
        status = read_auto_pad(call, &mode);
    if (status == XAI_OK && convolution) {
        status = operator_attribute_int(call, "group", 1, &w.groups);
        if (status == XAI_OK)
            status = check_channels(call, transposed, w.groups);
    } else if (status == XAI_OK) {
        status = operator_attribute_int(call, "ceil_mode", 0, &ceil_mode);
        if (status == XAI_OK)
            status = operator_attribute_int(call, "count_include_pad", 0, &include_pad);
    }
    if (status != XAI_OK)
        return status;
    w.count_include_pad = include_pad != 0;
    for (int i = 0; i < w.rank && mode == PAD_EXPLICIT; i++) {
        w.pad_begin[i] = pads[i];
        w.pad_end[i] = pads[i + w.rank];
    }
    if (transposed) {
        status = unslide(call, &w, mode);
    } else {
        for (int i = 0; i < w.rank && status == XAI_OK; i++) {
            status = slide(call, &w, i, mode, ceil_mode != 0);
            if (status == XAI_OK && !convolution)
                status = check_windows(call, &w, i);
        }
    }
    for (int i = 0; i < w.rank && status == XAI_OK; i++)
        if (w.output[i] > LARGEST)
            status = operator_error(call, XAI_ERROR_SHAPE,
                                    "spatial dimension %d of the output would have size %lld", i,
                                    (long long)w.output[i]);
    if (status == XAI_OK)
        *out = w;
    return status;
}
