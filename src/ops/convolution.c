/* Convolution and transposed convolution in 1 to 3 dimensions.
 *
 *   Conv           y[m, o] = b[m] + sum_{c, k} w[m, c, k] x[c, o stride + k dilation - pad]
 *   ConvTranspose  its adjoint in x: y[m, i] = b[m] + sum_{c, o, k} w[c, m, k] x[c, o] over the
 *                  (o, k) with i = o stride + k dilation - pad
 *
 * So three kernels serve both, forward and backward: correlate (x, w -> y), its adjoint in x, its
 * adjoint in w. Each is matrix products with a panel of windows: rows = (channel, tap), columns =
 * a run of output positions. */
#include <string.h>

#include "ops/families.h"
#include "ops/matrix.h"
#include "ops/support.h"

#define RUN 256        /* output positions in a panel */
#define PANEL_ROWS 144 /* (channel, tap) pairs in a panel: 288 KiB */

/* One row of the batch of a Conv; the roles of x and y are swapped for ConvTranspose. Dimensions
 * padded to three. */
typedef struct correlation {
    size_t groups, in_channels, out_channels; /* channels of one group */
    int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad[3];
    size_t in_size, out_size, taps; /* products over the spatial dimensions */
    double *panel;                  /* (PANEL_ROWS, RUN) or transposed */
} correlation;

/* Numbers of a call's weights: Conv (M, C / groups, k...), ConvTranspose (C, M / groups, k...). */
static xai_status correlation_make(const operator_call *call, bool transposed, correlation *self)
{
    window w;
    *self = (correlation){0};
    const xai_status status = operator_window(call, &w);
    if (status != XAI_OK)
        return status;
    self->groups = (size_t)w.groups;
    self->in_channels = (size_t)call->inputs[1]->shape.dims[1];
    self->out_channels = (size_t)call->inputs[1]->shape.dims[0] / self->groups;
    self->in_size = self->out_size = self->taps = 1;
    for (int i = 0; i < 3; i++) {
        const int from = i - (3 - w.rank);
        const bool given = from >= 0;
        self->in[i] = !given ? 1 : transposed ? w.output[from] : w.input[from];
        self->out[i] = !given ? 1 : transposed ? w.input[from] : w.output[from];
        self->kernel[i] = given ? w.kernel[from] : 1;
        self->stride[i] = given ? w.stride[from] : 1;
        self->dilation[i] = given ? w.dilation[from] : 1;
        self->pad[i] = given ? w.pad_begin[from] : 0;
        self->in_size *= (size_t)self->in[i];
        self->out_size *= (size_t)self->out[i];
        self->taps *= (size_t)self->kernel[i];
    }
    return operator_allocate(call, (size_t)PANEL_ROWS * RUN, &self->panel);
}

/* A run of output positions within one line (fixed first two indices). */
typedef struct segment {
    int64_t first, second, begin, end; /* output index (first, second, begin..end) */
    size_t offset;                     /* of its first position in the panel's columns */
} segment;

static segment segment_at(const correlation *self, size_t position, size_t run_begin,
                          size_t run_end)
{
    const size_t width = (size_t)self->out[2], line = position / width, column = position % width;
    const size_t left = run_end - position, end = width - column < left ? width : column + left;
    return (segment){.first = (int64_t)(line / (size_t)self->out[1]),
                     .second = (int64_t)(line % (size_t)self->out[1]),
                     .begin = (int64_t)column,
                     .end = (int64_t)end,
                     .offset = position - run_begin};
}

/* Where a tap reads for a segment: input offset of column 0 (may be outside) and the columns
 * [*low, *high) inside the input; an empty range when the whole line is padding. */
static int64_t tap_range(const correlation *self, const segment *line, size_t tap, int64_t *low,
                         int64_t *high)
{
    const int64_t k2 = (int64_t)tap % self->kernel[2],
                  k1 = (int64_t)tap / self->kernel[2] % self->kernel[1],
                  k0 = (int64_t)tap / self->kernel[2] / self->kernel[1];
    const int64_t i0 = line->first * self->stride[0] + k0 * self->dilation[0] - self->pad[0],
                  i1 = line->second * self->stride[1] + k1 * self->dilation[1] - self->pad[1],
                  start = k2 * self->dilation[2] - self->pad[2], step = self->stride[2];
    *low = *high = line->begin;
    if (i0 < 0 || i0 >= self->in[0] || i1 < 0 || i1 >= self->in[1])
        return 0;
    /* 0 <= start + column step < in */
    int64_t first = start < 0 ? (-start + step - 1) / step : 0;
    int64_t last = start < self->in[2] ? (self->in[2] - 1 - start) / step + 1 : 0;
    first = first > line->begin ? first : line->begin;
    last = last < line->end ? last : line->end;
    if (first < last) {
        *low = first;
        *high = last;
    }
    return (i0 * self->in[1] + i1) * self->in[2] + start;
}

/* panel[r][t] = x at tap (row + r) of output position begin + t, zero in the padding. x: the
 * channels of one group. */
static void gather_panel(const correlation *self, const double *x, size_t row, size_t rows,
                         size_t begin, size_t end)
{
    for (size_t r = 0; r < rows; r++) {
        const double *plane = x + (row + r) / self->taps * self->in_size;
        double *to = self->panel + r * RUN;
        for (size_t position = begin; position < end;) {
            const segment line = segment_at(self, position, begin, end);
            int64_t low, high;
            const int64_t from = tap_range(self, &line, (row + r) % self->taps, &low, &high),
                          step = self->stride[2];
            double *out = to + line.offset;
            for (int64_t c = line.begin; c < low; c++)
                *out++ = 0;
            if (step == 1 && low < high)
                memcpy(out, plane + from + low, (size_t)(high - low) * sizeof *out);
            else
                for (int64_t c = low; c < high; c++)
                    out[c - low] = plane[from + c * step];
            out += high - low;
            for (int64_t c = high; c < line.end; c++)
                *out++ = 0;
            position += (size_t)(line.end - line.begin);
        }
    }
}

/* The transpose: x[...] += panel[r][t]. */
static void scatter_panel(const correlation *self, double *x, size_t row, size_t rows, size_t begin,
                          size_t end)
{
    for (size_t r = 0; r < rows; r++) {
        double *plane = x + (row + r) / self->taps * self->in_size;
        for (size_t position = begin; position < end;) {
            const segment line = segment_at(self, position, begin, end);
            int64_t low, high;
            const int64_t from = tap_range(self, &line, (row + r) % self->taps, &low, &high),
                          step = self->stride[2];
            const double *in = self->panel + r * RUN + line.offset - line.begin;
            for (int64_t c = low; c < high; c++)
                plane[from + c * step] += in[c];
            position += (size_t)(line.end - line.begin);
        }
    }
}

/* panel transposed in place of gather_panel's layout: columns of `source` become rows of `out`
 * (RUN, PANEL_ROWS). */
static void transpose_panel(const double *source, size_t rows, size_t columns, double *out)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t t = 0; t < columns; t++)
            out[t * PANEL_ROWS + r] = source[r * RUN + t];
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* y (groups, out_channels, out) += w . windows of x (groups, in_channels, in) */
static void correlate(const correlation *self, const double *x, const double *w, double *y)
{
    const size_t depth = self->in_channels * self->taps;
    for (size_t g = 0; g < self->groups; g++)
        for (size_t begin = 0; begin < self->out_size; begin += RUN) {
            const size_t end = smaller(begin + RUN, self->out_size);
            for (size_t row = 0; row < depth; row += PANEL_ROWS) {
                const size_t rows = smaller(PANEL_ROWS, depth - row);
                gather_panel(self, x + g * self->in_channels * self->in_size, row, rows, begin,
                             end);
                const matrix weights = {w + g * self->out_channels * depth + row, depth, 1};
                matrix_multiply_add(self->out_channels, end - begin, rows, weights, self->panel,
                                    RUN, y + g * self->out_channels * self->out_size + begin,
                                    self->out_size);
            }
        }
}

/* x += the transpose of correlate, applied to y */
static void correlate_adjoint(const correlation *self, const double *y, const double *w, double *x)
{
    const size_t depth = self->in_channels * self->taps;
    for (size_t g = 0; g < self->groups; g++)
        for (size_t begin = 0; begin < self->out_size; begin += RUN) {
            const size_t end = smaller(begin + RUN, self->out_size);
            for (size_t row = 0; row < depth; row += PANEL_ROWS) {
                const size_t rows = smaller(PANEL_ROWS, depth - row);
                const matrix weights = {w + g * self->out_channels * depth + row, 1,
                                        depth}; /* (rows, out_channels) */
                memset(self->panel, 0, rows * RUN * sizeof *self->panel);
                matrix_multiply_add(rows, end - begin, self->out_channels, weights,
                                    y + g * self->out_channels * self->out_size + begin,
                                    self->out_size, self->panel, RUN);
                scatter_panel(self, x + g * self->in_channels * self->in_size, row, rows, begin,
                              end);
            }
        }
}

/* w += sum over positions of y[m, o] x[window]. `turned` holds another panel. */
static void correlate_weights(const correlation *self, const double *x, const double *y,
                              double *turned, double *w)
{
    const size_t depth = self->in_channels * self->taps;
    for (size_t g = 0; g < self->groups; g++)
        for (size_t begin = 0; begin < self->out_size; begin += RUN) {
            const size_t end = smaller(begin + RUN, self->out_size);
            for (size_t row = 0; row < depth; row += PANEL_ROWS) {
                const size_t rows = smaller(PANEL_ROWS, depth - row);
                gather_panel(self, x + g * self->in_channels * self->in_size, row, rows, begin,
                             end);
                transpose_panel(self->panel, rows, end - begin, turned);
                const matrix slopes = {y + g * self->out_channels * self->out_size + begin,
                                       self->out_size, 1};
                matrix_multiply_add(self->out_channels, rows, end - begin, slopes, turned,
                                    PANEL_ROWS, w + g * self->out_channels * depth + row, depth);
            }
        }
}

static xai_status convolution_infer(operator_call *call)
{
    char text[SHAPE_TEXT_SIZE];
    window w;
    xai_status status = operator_check(call);
    for (int i = 0; i < call->input_count && status == XAI_OK; i++)
        if (operator_has_input(call, i)) {
            status = operator_check_type(call, i, TYPES_FLOAT);
            if (status == XAI_OK)
                status = operator_check_same_type(call, 0, i);
        }
    if (status == XAI_OK)
        status = operator_window(call, &w);
    if (status != XAI_OK)
        return status;
    const shape *x = &call->inputs[0]->shape, *weights = &call->inputs[1]->shape;
    const bool transposed = strcmp(call->definition->name, "ConvTranspose") == 0;
    shape y = {.rank = x->rank};
    y.dims[0] = x->dims[0];
    y.dims[1] = transposed ? weights->dims[1] * w.groups : weights->dims[0];
    for (int i = 0; i < w.rank; i++)
        y.dims[i + 2] = w.output[i];
    if (operator_has_input(call, 2)) {
        const shape *bias = &call->inputs[2]->shape;
        if (bias->rank != 1 || bias->dims[0] != y.dims[1])
            return operator_error(call, XAI_ERROR_SHAPE, "bias has shape %s where (%lld) is needed",
                                  shape_text(bias, text), (long long)y.dims[1]);
    }
    return operator_set_output(call, 0, call->inputs[0]->dtype, &y);
}

static xai_status convolution_run(operator_call *call, bool transposed)
{
    const tensor *x = call->inputs[0];
    tensor *y = call->outputs[0];
    const size_t batch = (size_t)x->shape.dims[0], channels = (size_t)y->shape.dims[1];
    double *from = NULL, *weights = NULL, *bias = NULL, *to = NULL;
    correlation self;
    xai_status status = correlation_make(call, transposed, &self);
    if (status != XAI_OK || batch == 0)
        goto done;
    const size_t x_row = tensor_count(x) / batch, y_row = tensor_count(y) / batch,
                 size = y_row / channels;
    status = operator_read_doubles(call, call->inputs[1], &weights);
    if (status == XAI_OK && operator_has_input(call, 2))
        status = operator_read_doubles(call, call->inputs[2], &bias);
    if (status == XAI_OK)
        status = operator_allocate(call, x_row, &from);
    if (status == XAI_OK)
        status = operator_allocate(call, y_row, &to);
    for (size_t n = 0; n < batch && status == XAI_OK; n++) {
        tensor_read_doubles(x, n * x_row, x_row, from);
        for (size_t c = 0; c < channels; c++)
            for (size_t i = 0; i < size; i++)
                to[c * size + i] = bias ? bias[c] : 0;
        if (transposed)
            correlate_adjoint(&self, from, weights, to);
        else
            correlate(&self, from, weights, to);
        tensor_write_doubles(y, n * y_row, y_row, to);
    }
done:
    memory_free(self.panel);
    memory_free(from);
    memory_free(weights);
    memory_free(bias);
    memory_free(to);
    return status;
}

/* gx is the other kernel of the two, gw the third, gb the sum over positions. */
static xai_status convolution_backward(operator_call *call, bool transposed)
{
    const tensor *gy = operator_output_gradient(call, 0), *x = call->inputs[0];
    tensor *gx = operator_wanted_gradient(call, 0), *gw = operator_wanted_gradient(call, 1),
           *gb = operator_wanted_gradient(call, 2);
    double *weights = NULL, *values = NULL, *slopes = NULL, *x_slopes = NULL, *w_slopes = NULL,
           *b_slopes = NULL, *turned = NULL;
    correlation self = {0};
    xai_status status = XAI_OK;
    if (!gy || x->shape.dims[0] == 0) {
        tensor *const wanted[] = {gx, gw, gb};
        for (int i = 0; i < 3; i++)
            if (wanted[i])
                operator_zero(wanted[i]);
        return XAI_OK;
    }
    const size_t batch = (size_t)x->shape.dims[0], channels = (size_t)gy->shape.dims[1];
    const size_t x_row = tensor_count(x) / batch, y_row = tensor_count(gy) / batch,
                 size = y_row / channels;
    status = correlation_make(call, transposed, &self);
    if (status == XAI_OK)
        status = operator_allocate(call, y_row, &slopes);
    if (status == XAI_OK && gx)
        status = operator_read_doubles(call, call->inputs[1], &weights);
    if (status == XAI_OK && gx)
        status = operator_allocate(call, x_row, &x_slopes);
    if (status == XAI_OK && gw)
        status = operator_allocate(call, x_row, &values);
    if (status == XAI_OK && gw)
        status = operator_allocate(call, tensor_count(gw), &w_slopes);
    if (status == XAI_OK && gw)
        status = operator_allocate(call, (size_t)PANEL_ROWS * RUN, &turned);
    if (status == XAI_OK && gb)
        status = operator_allocate(call, channels, &b_slopes);
    for (size_t n = 0; n < batch && status == XAI_OK; n++) {
        tensor_read_doubles(gy, n * y_row, y_row, slopes);
        if (gx) {
            memset(x_slopes, 0, x_row * sizeof *x_slopes);
            if (transposed)
                correlate(&self, slopes, weights, x_slopes);
            else
                correlate_adjoint(&self, slopes, weights, x_slopes);
            tensor_write_doubles(gx, n * x_row, x_row, x_slopes);
        }
        if (gw) {
            tensor_read_doubles(x, n * x_row, x_row, values);
            correlate_weights(&self, transposed ? slopes : values, transposed ? values : slopes,
                              turned, w_slopes);
        }
        for (size_t c = 0; c < channels && gb; c++)
            for (size_t i = 0; i < size; i++)
                b_slopes[c] += slopes[c * size + i];
    }
    if (status == XAI_OK && gw)
        tensor_write_doubles(gw, 0, tensor_count(gw), w_slopes);
    if (status == XAI_OK && gb)
        tensor_write_doubles(gb, 0, channels, b_slopes);
    memory_free(self.panel);
    memory_free(weights);
    memory_free(values);
    memory_free(slopes);
    memory_free(x_slopes);
    memory_free(w_slopes);
    memory_free(b_slopes);
    memory_free(turned);
    return status;
}

static xai_status conv_forward(operator_call *call)
{
    return convolution_run(call, false);
}

static xai_status conv_backward(operator_call *call)
{
    return convolution_backward(call, false);
}

static xai_status conv_transpose_forward(operator_call *call)
{
    return convolution_run(call, true);
}

static xai_status conv_transpose_backward(operator_call *call)
{
    return convolution_backward(call, true);
}

const operator_definition operator_conv = {
    .name = "Conv",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 1,
    .backward_reads = OPERATOR_READS_INPUT(0) | OPERATOR_READS_INPUT(1),
    .infer = convolution_infer,
    .forward = conv_forward,
    .backward = conv_backward,
};

const operator_definition operator_conv_transpose = {
    .name = "ConvTranspose",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 1,
    .backward_reads = OPERATOR_READS_INPUT(0) | OPERATOR_READS_INPUT(1),
    .infer = convolution_infer,
    .forward = conv_transpose_forward,
    .backward = conv_transpose_backward,
};
