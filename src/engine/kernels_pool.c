/* Max and average pools over blocked buffers, 1 to 3 spatial dimensions.
 *
 * Every dimension is treated as (depth, height, width); missing leading ones have size 1. Forward work is cut by output
 * row, backward work by channel block, because windows may overlap. */
#include "engine/kernels_private.h"

#include <math.h>

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

static size_t taps_count(const taps *t)
{
    return t->last - t->first;
}

/* One output row of max pool: x is the block's plane, y and argmax the row. `valid` lanes hold channels. */
KERNEL_INLINE void max_row_lanes(const pool *p, const float *x, size_t od, size_t oh, size_t block,
                                 size_t lane, size_t valid, float *y, int32_t *argmax)
{
    const taps d = pool_taps(p, 0, od), h = pool_taps(p, 1, oh);
    for (size_t ow = 0; ow < p->output[2]; ow++) {
        const taps w = pool_taps(p, 2, ow);
        const size_t out = ow * block + lane;
        if (taps_count(&d) == 0 || taps_count(&h) == 0 ||
            taps_count(&w) == 0) { /* nothing but padding under the window */
            for (size_t i = 0; i < LANES; i++) {
                y[out + i] = lane + i < valid ? -INFINITY : 0.0f;
                if (argmax != NULL)
                    argmax[out + i] = -1;
            }
            continue;
        }
        const size_t first = (d.start * p->input[1] + h.start) * p->input[2] + w.start;
        lanes best = LANES_OF(x + first * block + lane);
        if (argmax == NULL) {
            for (size_t kd = 0; kd < taps_count(&d); kd++)
                for (size_t kh = 0; kh < taps_count(&h); kh++) {
                    const size_t row =
                        ((d.start + kd * d.step) * p->input[1] + h.start + kh * h.step) *
                            p->input[2] +
                        w.start;
                    const float *in = x + row * block + lane;
                    for (size_t kw = 0; kw < taps_count(&w); kw++) {
                        const lanes v = LANES_OF(in + kw * w.step * block);
                        best = LANES_SELECT(
                            v <= best, best,
                            LANES_SELECT(best == best, v, best)); /* NaN wins and stays */
                    }
                }
        } else {
            lane_ints where = {0};
            where += (int32_t)first;
            for (size_t kd = 0; kd < taps_count(&d); kd++)
                for (size_t kh = 0; kh < taps_count(&h); kh++) {
                    const size_t row =
                        ((d.start + kd * d.step) * p->input[1] + h.start + kh * h.step) *
                            p->input[2] +
                        w.start;
                    const float *in = x + row * block + lane;
                    for (size_t kw = 0; kw < taps_count(&w); kw++) {
                        const lanes v = LANES_OF(in + kw * w.step * block);
                        const lane_ints keep = (lane_ints)(v <= best) | (lane_ints)(best != best);
                        lane_ints here = {0};
                        here += (int32_t)(row + kw * w.step);
                        best = LANES_SELECT(keep, best, v);
                        where = LANE_INTS_SELECT(keep, where, here);
                    }
                }
            LANE_INTS_AT(argmax + out) = where;
        }
        LANES_AT(y + out) = best;
    }
}

KERNEL_LEAF void max_row(const pool *p, const float *x, size_t od, size_t oh, size_t block,
                         size_t valid, float *y, int32_t *argmax)
{
    for (size_t lane = 0; lane < block; lane += LANES)
        max_row_lanes(p, x, od, oh, block, lane, valid, y, argmax);
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

KERNEL_LEAF void average_row(const pool *p, bool include_pad, const float *x, size_t od, size_t oh,
                             size_t block, float *y)
{
    const taps d = pool_taps(p, 0, od), h = pool_taps(p, 1, oh);
    for (size_t ow = 0; ow < p->output[2]; ow++) {
        const taps w = pool_taps(p, 2, ow);
        const float weight = average_weight(&d, &h, &w, include_pad);
        for (size_t lane = 0; lane < block; lane += LANES) {
            lanes sum = {0};
            for (size_t kd = 0; kd < taps_count(&d); kd++)
                for (size_t kh = 0; kh < taps_count(&h); kh++) {
                    const size_t row =
                        ((d.start + kd * d.step) * p->input[1] + h.start + kh * h.step) *
                            p->input[2] +
                        w.start;
                    const float *in = x + row * block + lane;
                    for (size_t kw = 0; kw < taps_count(&w); kw++)
                        sum += LANES_OF(in + kw * w.step * block);
                }
            LANES_AT(y + ow * block + lane) = sum * weight;
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
    for (size_t od = 0; od < p->output[0]; od++)
        for (size_t oh = 0; oh < p->output[1]; oh++) {
            const taps d = pool_taps(p, 0, od), h = pool_taps(p, 1, oh);
            for (size_t ow = 0; ow < p->output[2]; ow++) {
                const taps w = pool_taps(p, 2, ow);
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
