/* Max and average pools over blocked buffers, 1 to 3 spatial dimensions.
 *
 * Every dimension is treated as (depth, height, width); missing leading ones have size 1. Forward work is cut by output
 * row, backward work by channel block, because windows may overlap. */
#include "engine/kernels_private.h"

#include <math.h>

/* Outputs of a row that are computed together. */
#define GROUP ((size_t)4)

/* A window brought to three dimensions. */
typedef struct pool {
    size_t input[3], output[3], kernel[3];
    int64_t stride[3], dilation[3], pad[3],
        padded_end[3]; /* padded_end: first position after the end padding */
    size_t input_count, output_count;
} pool;

/* The taps [first, last) of one output position that fall inside the input, and the input position of tap `first`. */
typedef struct taps {
    size_t first, last, start, step;
    size_t counted; /* taps inside the padded input */
} taps;

static pool pool_make(const window *w)
{
    pool p = {.input_count = 1, .output_count = 1};
    for (int i = 0; i < 3; i++) {
        const int d = i - (3 - w->rank);
        p.input[i] = d < 0 ? 1 : (size_t)w->input[d];
        p.output[i] = d < 0 ? 1 : (size_t)w->output[d];
        p.kernel[i] = d < 0 ? 1 : (size_t)w->kernel[d];
        p.stride[i] = d < 0 ? 1 : w->stride[d];
        p.dilation[i] = d < 0 ? 1 : w->dilation[d];
        p.pad[i] = d < 0 ? 0 : w->pad_begin[d];
        p.padded_end[i] = d < 0 ? 1 : w->input[d] + w->pad_end[d];
        p.input_count *= p.input[i];
        p.output_count *= p.output[i];
    }
    return p;
}

/* Taps t in [0, kernel) with low <= origin + t dilation < high, as [*first, *last). */
KERNEL_INLINE void tap_range(int64_t origin, int64_t dilation, int64_t kernel, int64_t low,
                             int64_t high, int64_t *first, int64_t *last)
{
    int64_t begin = 0, end = kernel;
    if (origin < low)
        begin = dilation == 1 ? low - origin : (low - origin + dilation - 1) / dilation;
    if (origin + (kernel - 1) * dilation >= high)
        end = high <= origin
                  ? 0
                  : (dilation == 1 ? high - origin : (high - origin + dilation - 1) / dilation);
    *first = begin < kernel ? begin : kernel;
    *last = end > *first ? end : *first;
}

KERNEL_INLINE taps pool_taps(const pool *p, int d, size_t out)
{
    const int64_t origin = (int64_t)out * p->stride[d] - p->pad[d], kernel = (int64_t)p->kernel[d];
    int64_t first, last, all_first, all_last;
    tap_range(origin, p->dilation[d], kernel, 0, (int64_t)p->input[d], &first, &last);
    tap_range(origin, p->dilation[d], kernel, -p->pad[d], p->padded_end[d], &all_first, &all_last);
    return (taps){(size_t)first, (size_t)last, (size_t)(origin + first * p->dilation[d]),
                  (size_t)p->dilation[d], (size_t)(all_last - all_first)};
}

/* Output columns [*low, *high) whose windows lie inside the input: their taps differ by their start alone. */
KERNEL_INLINE void pool_interior(const pool *p, size_t *low, size_t *high)
{
    const int64_t extent = (int64_t)(p->kernel[2] - 1) * p->dilation[2] + 1, s = p->stride[2];
    const int64_t room =
        (int64_t)p->input[2] + p->pad[2] - extent; /* last origin + pad that fits */
    const int64_t first = (p->pad[2] + s - 1) / s, last = room < 0 ? 0 : room / s + 1;
    const int64_t outputs = (int64_t)p->output[2];
    *low = (size_t)(first < outputs ? first : outputs);
    *high = last < (int64_t)*low ? *low : (size_t)(last < outputs ? last : outputs);
}

/* Taps of output column `out`: computed at the borders, shifted inside. */
KERNEL_INLINE taps pool_column(const pool *p, size_t out, size_t low, size_t high)
{
    if (out < low || out >= high)
        return pool_taps(p, 2, out);
    return (taps){0, p->kernel[2], out * (size_t)p->stride[2] - (size_t)p->pad[2],
                  (size_t)p->dilation[2], p->kernel[2]};
}

static size_t taps_count(const taps *t)
{
    return t->last - t->first;
}

/* First element of the input row under tap (kd, kh), at input column `start`. */
KERNEL_INLINE const float *pool_row(const pool *p, const float *x, const taps *d, const taps *h,
                                    size_t kd, size_t kh, size_t start, size_t block)
{
    return x +
           ((d->start + kd * d->step) * p->input[1] + h->start + kh * h->step) * p->input[2] *
               block +
           start * block;
}

/* `count` (1 or GROUP, known to the compiler) neighbouring outputs with equal taps, whose chains of
 * comparisons then overlap. NaN wins and stays: a value replaces the best unless it is <= it or the
 * best is NaN. */
KERNEL_INLINE void max_outputs(const pool *p, const float *x, const taps *d, const taps *h,
                               const taps *w, size_t block, const size_t count, float *y,
                               int32_t *argmax)
{
    const size_t stride = (size_t)p->stride[2];
    const float *origin = pool_row(p, x, d, h, 0, 0, w->start, block);
    lanes best[GROUP];
    lane_ints where[GROUP];
    for (size_t j = 0; j < count; j++) {
        best[j] = LANES_OF(origin + j * stride * block);
        for (size_t i = 0; argmax != NULL && i < LANES; i++)
            where[j][i] = (int32_t)((size_t)(origin - x) / block + j * stride);
    }
    for (size_t kd = 0; kd < taps_count(d); kd++)
        for (size_t kh = 0; kh < taps_count(h); kh++) {
            const float *row = pool_row(p, x, d, h, kd, kh, w->start, block);
            const int32_t position = (int32_t)((size_t)(row - x) / block);
            for (size_t kw = 0; kw < taps_count(w); kw++)
                for (size_t j = 0; j < count; j++) {
                    const size_t step = kw * w->step + j * stride;
                    const lanes v = LANES_OF(row + step * block);
                    const lane_ints keep =
                        (lane_ints)(v <= best[j]) | (lane_ints)(best[j] != best[j]);
                    best[j] = LANES_SELECT(keep, best[j], v);
                    if (argmax != NULL) {
                        lane_ints here = {0};
                        here += position + (int32_t)step;
                        where[j] = LANE_INTS_SELECT(keep, where[j], here);
                    }
                }
        }
    for (size_t j = 0; j < count; j++) {
        LANES_AT(y + j * block) = best[j];
        if (argmax != NULL)
            LANE_INTS_AT(argmax + j * block) = where[j];
    }
}

/* Eight channels of one output row; x, y and argmax point at the first of them, of which `valid` hold
 * values. */
KERNEL_INLINE void max_row_lanes(const pool *p, const float *x, const taps *d, const taps *h,
                                 size_t block, size_t valid, float *y, int32_t *argmax)
{
    size_t low, high;
    pool_interior(p, &low, &high);
    for (size_t ow = 0; ow < p->output[2];) {
        const taps w = pool_column(p, ow, low, high);
        float *out = y + ow * block;
        int32_t *out_argmax = argmax == NULL ? NULL : argmax + ow * block;
        if (taps_count(d) == 0 || taps_count(h) == 0 || taps_count(&w) == 0) {
            for (size_t i = 0; i < LANES; i++) { /* nothing but padding under the window */
                out[i] = i < valid ? -INFINITY : 0.0f;
                if (argmax != NULL)
                    out_argmax[i] = -1;
            }
            ow++;
        } else if (ow >= low && ow + GROUP <= high) {
            max_outputs(p, x, d, h, &w, block, GROUP, out, out_argmax);
            ow += GROUP;
        } else {
            max_outputs(p, x, d, h, &w, block, 1, out, out_argmax);
            ow++;
        }
    }
}

KERNEL_LEAF void max_row(const pool *p, const float *x, size_t od, size_t oh, size_t block,
                         size_t valid, float *y, int32_t *argmax)
{
    const taps d = pool_taps(p, 0, od), h = pool_taps(p, 1, oh);
    for (size_t lane = 0; lane < block; lane += LANES) {
        const size_t left = valid > lane ? valid - lane : 0;
        if (argmax == NULL) /* two copies, so that the one without is free of it */
            max_row_lanes(p, x + lane, &d, &h, block, left, y + lane, NULL);
        else
            max_row_lanes(p, x + lane, &d, &h, block, left, y + lane, argmax + lane);
    }
}

void kernel_max_pool(const window *w, const float *x, float *y, int32_t *argmax, size_t channels,
                     int block, int threads)
{
    const pool p = pool_make(w);
    const size_t b = (size_t)block, blocks = kernel_pieces(channels, b),
                 rows = p.output[0] * p.output[1];
    const int team = kernel_threads(threads, channels * p.output_count * p.kernel[1] * p.kernel[2]);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * rows; item++) {
        const size_t c = item / rows, row = item % rows,
                     out = (c * p.output_count + row * p.output[2]) * b;
        max_row(&p, x + c * p.input_count * b, row / p.output[1], row % p.output[1], b,
                kernel_minimum(channels - c * b, b), y + out, argmax == NULL ? NULL : argmax + out);
    }
}

void kernel_max_pool_backward(const window *w, const int32_t *argmax, const float *gy, float *gx,
                              size_t channels, int block, bool accumulate, int threads)
{
    const pool p = pool_make(w);
    const size_t b = (size_t)block, blocks = kernel_pieces(channels, b);
    const int team = kernel_threads(threads, channels * (p.output_count + p.input_count));
    KERNEL_PARALLEL(team)
    for (size_t c = 0; c < blocks; c++) {
        float *plane = gx + c * p.input_count * b;
        const float *g = gy + c * p.output_count * b;
        const int32_t *winner = argmax + c * p.output_count * b;
        const size_t valid = kernel_minimum(channels - c * b, b);
        if (!accumulate)
            memset(plane, 0, p.input_count * b * sizeof *plane);
        for (size_t o = 0; o < p.output_count; o++)
            for (size_t lane = 0; lane < valid; lane++)
                if (winner[o * b + lane] >= 0)
                    plane[(size_t)winner[o * b + lane] * b + lane] += g[o * b + lane];
    }
}

/* 1 / (elements that the window divides by); 0 when there are none */
static float average_weight(const taps *d, const taps *h, const taps *w, bool include_pad)
{
    const size_t count = include_pad ? d->counted * h->counted * w->counted
                                     : taps_count(d) * taps_count(h) * taps_count(w);
    return count == 0 ? 0.0f : 1.0f / (float)count;
}

KERNEL_INLINE void average_outputs(const pool *p, const float *x, const taps *d, const taps *h,
                                   const taps *w, size_t block, const size_t count, float weight,
                                   float *y)
{
    const size_t stride = (size_t)p->stride[2];
    for (size_t lane = 0; lane < block; lane += LANES) {
        lanes sum[GROUP];
        for (size_t j = 0; j < count; j++)
            sum[j] = (lanes){0};
        for (size_t kd = 0; kd < taps_count(d); kd++)
            for (size_t kh = 0; kh < taps_count(h); kh++) {
                const float *row = pool_row(p, x, d, h, kd, kh, w->start, block) + lane;
                for (size_t kw = 0; kw < taps_count(w); kw++)
                    for (size_t j = 0; j < count; j++)
                        sum[j] += LANES_OF(row + (kw * w->step + j * stride) * block);
            }
        for (size_t j = 0; j < count; j++)
            LANES_AT(y + j * block + lane) = sum[j] * weight;
    }
}

KERNEL_LEAF void average_row(const pool *p, bool include_pad, const float *x, size_t od, size_t oh,
                             size_t block, float *y)
{
    const taps d = pool_taps(p, 0, od), h = pool_taps(p, 1, oh);
    size_t low, high;
    pool_interior(p, &low, &high);
    for (size_t ow = 0; ow < p->output[2];) {
        const taps w = pool_column(p, ow, low, high);
        const float weight = average_weight(&d, &h, &w, include_pad);
        if (ow >= low && ow + GROUP <= high) {
            average_outputs(p, x, &d, &h, &w, block, GROUP, weight, y + ow * block);
            ow += GROUP;
        } else {
            average_outputs(p, x, &d, &h, &w, block, 1, weight, y + ow * block);
            ow++;
        }
    }
}

void kernel_average_pool(const window *w, bool include_pad, const float *x, float *y,
                         size_t channels, int block, int threads)
{
    const pool p = pool_make(w);
    const size_t b = (size_t)block, blocks = kernel_pieces(channels, b),
                 rows = p.output[0] * p.output[1];
    const int team = kernel_threads(threads, channels * p.output_count * p.kernel[1] * p.kernel[2]);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * rows; item++) {
        const size_t c = item / rows, row = item % rows;
        average_row(&p, include_pad, x + c * p.input_count * b, row / p.output[1],
                    row % p.output[1], b, y + (c * p.output_count + row * p.output[2]) * b);
    }
}

/* All of one block: gx has been prepared, windows add their share in output order. */
KERNEL_LEAF void average_backward_block(const pool *p, bool include_pad, const float *gy, float *gx,
                                        size_t block)
{
    size_t low, high;
    pool_interior(p, &low, &high);
    for (size_t od = 0; od < p->output[0]; od++)
        for (size_t oh = 0; oh < p->output[1]; oh++) {
            const taps d = pool_taps(p, 0, od), h = pool_taps(p, 1, oh);
            for (size_t ow = 0; ow < p->output[2]; ow++) {
                const taps w = pool_column(p, ow, low, high);
                const float weight = average_weight(&d, &h, &w, include_pad);
                const float *g = gy + ((od * p->output[1] + oh) * p->output[2] + ow) * block;
                for (size_t lane = 0; lane < block; lane += LANES) {
                    const lanes share = LANES_OF(g + lane) * weight;
                    for (size_t kd = 0; kd < taps_count(&d); kd++)
                        for (size_t kh = 0; kh < taps_count(&h); kh++) {
                            const size_t row =
                                ((d.start + kd * d.step) * p->input[1] + h.start + kh * h.step) *
                                    p->input[2] +
                                w.start;
                            float *out = gx + row * block + lane;
                            for (size_t kw = 0; kw < taps_count(&w); kw++)
                                LANES_AT(out + kw * w.step * block) += share;
                        }
                }
            }
        }
}

void kernel_average_pool_backward(const window *w, bool include_pad, const float *gy, float *gx,
                                  size_t channels, int block, bool accumulate, int threads)
{
    const pool p = pool_make(w);
    const size_t b = (size_t)block, blocks = kernel_pieces(channels, b);
    const int team = kernel_threads(
        threads, channels * (p.output_count * p.kernel[1] * p.kernel[2] + p.input_count));
    KERNEL_PARALLEL(team)
    for (size_t c = 0; c < blocks; c++) {
        float *plane = gx + c * p.input_count * b;
        if (!accumulate)
            memset(plane, 0, p.input_count * b * sizeof *plane);
        average_backward_block(&p, include_pad, gy + c * p.output_count * b, plane, b);
    }
}
