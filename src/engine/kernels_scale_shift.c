/* One factor (and one summand) a channel: folded batch normalisation, squeeze-and-excitation gates, global averages. */
#include "engine/kernels_private.h"

/* Positions a piece; also the span of one float partial sum, which bounds its rounding. */
#define TILE ((size_t)128)

/* n positions of one block; `lane` steps through the block eight channels at a time. */
KERNEL_INLINE void scale_shift_positions(const float *x, const float *scale, const float *shift,
                                         float *y, size_t n, size_t block, bool relu)
{
    const lanes zero = {0};
    for (size_t lane = 0; lane < block; lane += LANES) {
        const lanes a = LANES_OF(scale + lane), b = LANES_OF(shift + lane);
        if (relu) {
            for (size_t s = 0; s < n; s++) {
                const lanes v = LANES_OF(x + s * block + lane) * a + b;
                LANES_AT(y + s * block + lane) = LANES_SELECT(v < zero, zero, v);
            }
        } else {
            for (size_t s = 0; s < n; s++)
                LANES_AT(y + s * block + lane) = LANES_OF(x + s * block + lane) * a + b;
        }
    }
}

KERNEL_LEAF void scale_shift_piece(const float *x, const float *scale, const float *shift, float *y,
                                   size_t n, size_t block, bool relu)
{
    scale_shift_positions(x, scale, shift, y, n, block, relu);
}

KERNEL_LEAF void scale_shift_rows(const float *x, size_t x_stride, const float *scale,
                                  const float *shift, float *y, size_t y_stride, size_t rows,
                                  size_t n, size_t block, bool relu)
{
    for (size_t r = 0; r < rows; r++)
        scale_shift_positions(x + r * x_stride, scale, shift, y + r * y_stride, n, block, relu);
}

KERNEL_LEAF void copy_rows(const float *x, size_t x_stride, float *y, size_t y_stride, size_t rows,
                           size_t count)
{
    for (size_t r = 0; r < rows; r++) {
        const float *from = x + r * x_stride;
        float *to = y + r * y_stride;
        size_t i = 0;
        for (; i + LANES <= count; i += LANES)
            LANES_AT(to + i) = LANES_OF(from + i);
        for (; i < count; i++)
            to[i] = from[i];
    }
}

/* gx (+)= scale (relu ? [scale x + shift > 0] : 1) gy; shift is not read without relu */
KERNEL_INLINE void scale_shift_backward_rows(const float *x, const float *scale, const float *shift,
                                             const float *gy, float *gx, size_t n, size_t block,
                                             const bool relu, const bool accumulate)
{
    const lanes zero = {0};
    for (size_t lane = 0; lane < block; lane += LANES) {
        const lanes a = LANES_OF(scale + lane), b = relu ? LANES_OF(shift + lane) : zero;
        for (size_t s = 0; s < n; s++) {
            const size_t i = s * block + lane;
            lanes g = LANES_OF(gy + i) * a;
            if (relu) {
                const lanes v = LANES_OF(x + i) * a + b;
                g = LANES_SELECT(v > zero, g, LANES_SELECT(v <= zero, zero, v)); /* NaN stays NaN */
            }
            if (accumulate)
                g += LANES_OF(gx + i);
            LANES_AT(gx + i) = g;
        }
    }
}

KERNEL_LEAF void scale_shift_backward_piece(const float *x, const float *scale, const float *shift,
                                            const float *gy, float *gx, size_t n, size_t block,
                                            bool relu, bool accumulate)
{
    if (relu && accumulate)
        scale_shift_backward_rows(x, scale, shift, gy, gx, n, block, true, true);
    else if (relu)
        scale_shift_backward_rows(x, scale, shift, gy, gx, n, block, true, false);
    else if (accumulate)
        scale_shift_backward_rows(x, scale, shift, gy, gx, n, block, false, true);
    else
        scale_shift_backward_rows(x, scale, shift, gy, gx, n, block, false, false);
}

void kernel_scale_shift(const float *x, const float *scale, const float *shift, const activation *f,
                        float *y, size_t channels, size_t spatial, int block, int threads)
{
    const size_t b = (size_t)block, blocks = kernel_pieces(channels, b),
                 tiles = kernel_pieces(spatial, TILE);
    const activation_kind kind = f == NULL ? ACTIVATION_NONE : f->kind;
    const int team = kernel_threads(threads, channels * spatial);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * tiles; item++) {
        const size_t c = item / tiles * b, begin = item % tiles * TILE,
                     n = kernel_minimum(spatial - begin, TILE);
        const size_t offset = c * spatial + begin * b;
        scale_shift_piece(x + offset, scale + c, shift + c, y + offset, n, b,
                          kind == ACTIVATION_RELU);
        if (kind != ACTIVATION_NONE && kind != ACTIVATION_RELU) {
            kernel_activate_piece(f, y + offset, y + offset, n * b);
            if (channels - c < b && !activation_keeps_zero(f))
                kernel_zero_padding(y + offset, channels - c, 0, n, block);
        }
    }
}

void kernel_scale_shift_rows(const rectangle *of, const float *scale, const float *shift,
                             const activation *f, size_t channels, int block)
{
    const size_t b = (size_t)block;
    scale_shift_rows(of->x, of->x_stride, scale, shift, of->y, of->y_stride, of->rows,
                     of->count / b, b, f->kind == ACTIVATION_RELU);
    if (f->kind == ACTIVATION_NONE || f->kind == ACTIVATION_RELU)
        return;
    for (size_t r = 0; r < of->rows; r++) {
        float *y = of->y + r * of->y_stride;
        kernel_activate_piece(f, y, y, of->count);
        if (channels < b && !activation_keeps_zero(f))
            kernel_zero_padding(y, channels, 0, of->count / b, block);
    }
}

void kernel_copy_rows(const rectangle *of)
{
    copy_rows(of->x, of->x_stride, of->y, of->y_stride, of->rows, of->count);
}

void kernel_scale_shift_backward(const float *x, const float *scale, const float *shift,
                                 const activation *f, const float *gy, float *gx, size_t channels,
                                 size_t spatial, int block, bool accumulate, int threads)
{
    const size_t b = (size_t)block, blocks = kernel_pieces(channels, b),
                 tiles = kernel_pieces(spatial, TILE);
    const bool relu = f != NULL && f->kind == ACTIVATION_RELU;
    const int team = kernel_threads(threads, channels * spatial);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * tiles; item++) {
        const size_t c = item / tiles * b, begin = item % tiles * TILE,
                     n = kernel_minimum(spatial - begin, TILE);
        const size_t offset = c * spatial + begin * b;
        scale_shift_backward_piece(relu ? x + offset : NULL, scale + c, relu ? shift + c : NULL,
                                   gy + offset, gx + offset, n, b, relu, accumulate);
    }
}

KERNEL_LEAF void add_bias_piece(float *y, const float *bias, size_t n, size_t block)
{
    if (block == 1) {
        for (size_t s = 0; s < n; s++)
            y[s] += *bias;
        return;
    }
    for (size_t lane = 0; lane < block; lane += LANES) {
        const lanes b = LANES_OF(bias + lane);
        for (size_t s = 0; s < n; s++)
            LANES_AT(y + s * block + lane) += b;
    }
}

void kernel_add_bias(float *y, const float *bias, size_t channels, size_t spatial, int block,
                     int threads)
{
    const size_t b = (size_t)block, blocks = kernel_pieces(channels, b);
    const int team = kernel_threads(threads, channels * spatial);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks; item++)
        add_bias_piece(y + item * spatial * b, bias + item * b, spatial, b);
}

/* y (+)= x gate */
KERNEL_LEAF void gate_piece(const float *x, const float *gate, float *y, size_t n, size_t block,
                            bool accumulate)
{
    for (size_t lane = 0; lane < block; lane += LANES) {
        const lanes a = LANES_OF(gate + lane);
        if (accumulate) {
            for (size_t s = 0; s < n; s++)
                LANES_AT(y + s * block + lane) += LANES_OF(x + s * block + lane) * a;
        } else {
            for (size_t s = 0; s < n; s++)
                LANES_AT(y + s * block + lane) = LANES_OF(x + s * block + lane) * a;
        }
    }
}

static void gate_all(const float *x, const float *gate, float *y, size_t channels, size_t spatial,
                     int block, bool accumulate, int threads)
{
    const size_t b = (size_t)block, blocks = kernel_pieces(channels, b),
                 tiles = kernel_pieces(spatial, TILE);
    const int team = kernel_threads(threads, channels * spatial);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * tiles; item++) {
        const size_t c = item / tiles * b, begin = item % tiles * TILE,
                     offset = c * spatial + begin * b;
        gate_piece(x + offset, gate + c, y + offset, kernel_minimum(spatial - begin, TILE), b,
                   accumulate);
    }
}

void kernel_gate(const float *x, const float *gate, float *y, size_t channels, size_t spatial,
                 int block, int threads)
{
    gate_all(x, gate, y, channels, spatial, block, false, threads);
}

/* sums[lane] = sum over n positions of x (times `factor` unless NULL): float over a tile, double over tiles. */
KERNEL_LEAF void sum_block(const float *x, const float *factor, size_t n, size_t block,
                           double *sums)
{
    for (size_t lane = 0; lane < block; lane += LANES) {
        double total[LANES] = {0};
        for (size_t begin = 0; begin < n; begin += TILE) {
            const size_t end = n - begin < TILE ? n : begin + TILE;
            lanes partial[4] = {
                {0}, {0}, {0}, {0}}; /* independent chains hide the latency of the addition */
            size_t s = begin;
            if (factor == NULL) {
                for (; s + 4 <= end; s += 4)
                    for (size_t j = 0; j < 4; j++)
                        partial[j] += LANES_OF(x + (s + j) * block + lane);
                for (; s < end; s++)
                    partial[0] += LANES_OF(x + s * block + lane);
            } else {
                for (; s + 4 <= end; s += 4)
                    for (size_t j = 0; j < 4; j++)
                        partial[j] += LANES_OF(x + (s + j) * block + lane) *
                                      LANES_OF(factor + (s + j) * block + lane);
                for (; s < end; s++)
                    partial[0] +=
                        LANES_OF(x + s * block + lane) * LANES_OF(factor + s * block + lane);
            }
            const lanes sum = (partial[0] + partial[1]) + (partial[2] + partial[3]);
            for (int i = 0; i < LANES; i++)
                total[i] += (double)sum[i];
        }
        for (int i = 0; i < LANES; i++)
            sums[lane + (size_t)i] = total[i];
    }
}

void kernel_gate_backward(const float *x, const float *gate, const float *gy, float *gx,
                          float *ggate, size_t channels, size_t spatial, int block,
                          bool accumulate_x, bool accumulate_gate, int threads)
{
    if (ggate != NULL) { /* before gx, which may be gy */
        const size_t b = (size_t)block, blocks = kernel_pieces(channels, b);
        const int team = kernel_threads(threads, channels * spatial);
        KERNEL_PARALLEL(team)
        for (size_t item = 0; item < blocks; item++) {
            double sums[16] = {0};
            sum_block(x + item * spatial * b, gy + item * spatial * b, spatial, b, sums);
            for (size_t lane = 0; lane < b; lane++) {
                float *out = &ggate[item * b + lane];
                const float sum = item * b + lane < channels ? (float)sums[lane] : 0.0f;
                *out = accumulate_gate ? *out + sum : sum;
            }
        }
    }
    if (gx != NULL)
        gate_all(gy, gate, gx, channels, spatial, block, accumulate_x, threads);
}

void kernel_global_average(const float *x, float *y, size_t channels, size_t spatial, int block,
                           int threads)
{
    const size_t b = (size_t)block, blocks = kernel_pieces(channels, b);
    const int team = kernel_threads(threads, channels * spatial);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks; item++) {
        double sums[16] = {0};
        sum_block(x + item * spatial * b, NULL, spatial, b, sums);
        for (size_t lane = 0; lane < b; lane++)
            y[item * b + lane] =
                item * b + lane < channels ? (float)(sums[lane] / (double)spatial) : 0.0f;
    }
}

KERNEL_LEAF void spread_piece(const float *value, float *y, size_t n, size_t block, bool accumulate)
{
    for (size_t lane = 0; lane < block; lane += LANES) {
        const lanes a = LANES_OF(value + lane);
        for (size_t s = 0; s < n; s++) {
            if (accumulate)
                LANES_AT(y + s * block + lane) += a;
            else
                LANES_AT(y + s * block + lane) = a;
        }
    }
}

void kernel_global_average_backward(const float *gy, float *gx, size_t channels, size_t spatial,
                                    int block, bool accumulate, int threads)
{
    const size_t b = (size_t)block, blocks = kernel_pieces(channels, b),
                 tiles = kernel_pieces(spatial, TILE);
    const int team = kernel_threads(threads, channels * spatial);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * tiles; item++) {
        const size_t c = item / tiles * b, begin = item % tiles * TILE;
        float share[16] = {0};
        for (size_t lane = 0; lane < b; lane++)
            share[lane] = gy[c + lane] / (float)spatial;
        spread_piece(share, gx + c * spatial + begin * b, kernel_minimum(spatial - begin, TILE), b,
                     accumulate);
    }
}
