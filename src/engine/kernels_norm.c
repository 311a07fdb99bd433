/* Group and instance normalisation over channel blocks.
 *
 *     y = f(scale[c] (x - mean) inverse + shift[c]),  inverse = 1 / sqrt(variance + epsilon)
 *
 * with mean and variance over a group's channels and all positions. A group may begin and end within a
 * block: sums are taken channel by channel, over chunks of positions, and put together in the order of
 * chunks and channels. Sums are of differences to the channel's first value, in double, so that
 * one pass over the map loses no digits to a large mean. */
#include <math.h>

#include "engine/kernels_private.h"

/* Positions that go through the first-level cache together. */
#define TILE ((size_t)128)
/* Positions of one partial sum, the unit of threads; a multiple of TILE. */
#define CHUNK ((size_t)1024)
#define MAX_BLOCK 16

/* What forward leaves for backward, `block` floats each, for every block of channels. */
enum { MEAN, MEAN_REST, FACTOR, SHIFT, INVERSE, FACTOR_KINDS };
/* gx = TERM_GRADIENT h + TERM_MAP (x - mean) + TERM_LEVEL, h the gradient before f. */
enum { TERM_GRADIENT, TERM_MAP, TERM_LEVEL, TERM_KINDS };

typedef float half_lanes __attribute__((vector_size(16), aligned(4), may_alias));
typedef double half_doubles __attribute__((vector_size(32), aligned(8), may_alias));
#define HALF 4
#define DOUBLES_OF(pointer) __builtin_convertvector(*(const half_lanes *)(pointer), half_doubles)
#define DOUBLES_AT(pointer) (*(half_doubles *)(pointer))

size_t kernel_norm_factors(size_t channels, int block)
{
    return kernel_pieces(channels, (size_t)block) * (size_t)block * FACTOR_KINDS;
}

size_t kernel_norm_scratch(size_t channels, size_t spatial, int block)
{
    const size_t padded = kernel_pieces(channels, (size_t)block) * (size_t)block;
    return padded *
           (kernel_pieces(spatial, CHUNK) * 2 * sizeof(double) + TERM_KINDS * sizeof(float));
}

/* sums[lane] += x - pivot, sums[block + lane] += (x - pivot)^2 */
KERNEL_LEAF void add_moments(const float *x, const float *pivot, size_t n, size_t block,
                             double *sums)
{
    for (size_t lane = 0; lane < block; lane += HALF) {
        const half_doubles zero = {0}, origin = DOUBLES_OF(pivot + lane);
        half_doubles sum[4] = {zero, zero, zero, zero}, square[4] = {zero, zero, zero, zero};
        const float *from = x + lane;
        size_t s = 0;
        for (; s + 4 <= n; s += 4)
            for (size_t j = 0; j < 4; j++) {
                const half_doubles d = DOUBLES_OF(from + (s + j) * block) - origin;
                sum[j] += d;
                square[j] += d * d;
            }
        for (; s < n; s++) {
            const half_doubles d = DOUBLES_OF(from + s * block) - origin;
            sum[0] += d;
            square[0] += d * d;
        }
        DOUBLES_AT(sums + lane) += (sum[0] + sum[1]) + (sum[2] + sum[3]);
        DOUBLES_AT(sums + block + lane) += (square[0] + square[1]) + (square[2] + square[3]);
    }
}

/* sums[lane] += h, sums[block + lane] += h (x - mean) */
KERNEL_LEAF void add_products(const float *x, const float *h, const float *factors, size_t n,
                              size_t block, double *sums)
{
    for (size_t lane = 0; lane < block; lane += HALF) {
        const half_doubles zero = {0};
        const half_lanes mean = *(const half_lanes *)(factors + MEAN * block + lane),
                         rest = *(const half_lanes *)(factors + MEAN_REST * block + lane);
        half_doubles sum[2] = {zero, zero}, product[2] = {zero, zero};
        const float *map = x + lane, *gradient = h + lane;
        size_t s = 0;
        for (; s + 2 <= n; s += 2)
            for (size_t j = 0; j < 2; j++) {
                const half_lanes d = (*(const half_lanes *)(map + (s + j) * block) - mean) - rest;
                const half_doubles g = DOUBLES_OF(gradient + (s + j) * block);
                sum[j] += g;
                product[j] += g * __builtin_convertvector(d, half_doubles);
            }
        for (; s < n; s++) {
            const half_lanes d = (*(const half_lanes *)(map + s * block) - mean) - rest;
            const half_doubles g = DOUBLES_OF(gradient + s * block);
            sum[0] += g;
            product[0] += g * __builtin_convertvector(d, half_doubles);
        }
        DOUBLES_AT(sums + lane) += sum[0] + sum[1];
        DOUBLES_AT(sums + block + lane) += product[0] + product[1];
    }
}

/* n positions of one block. x - mean is exact where x lies near the mean; the mean's rest follows. */
KERNEL_LEAF void normalise_piece(const float *x, const float *factors, float *y, size_t n,
                                 size_t block, bool relu)
{
    const lanes zero = {0};
    for (size_t lane = 0; lane < block; lane += LANES) {
        const lanes mean = LANES_OF(factors + MEAN * block + lane),
                    rest = LANES_OF(factors + MEAN_REST * block + lane),
                    factor = LANES_OF(factors + FACTOR * block + lane),
                    shift = LANES_OF(factors + SHIFT * block + lane);
        for (size_t s = 0; s < n; s++) {
            const size_t i = s * block + lane;
            const lanes v = ((LANES_OF(x + i) - mean) - rest) * factor + shift;
            LANES_AT(y + i) = relu ? LANES_SELECT(v < zero, zero, v) : v;
        }
    }
}

/* out = [scale normal + shift > 0] gy; NaN stays NaN */
KERNEL_LEAF void rectify_piece(const float *x, const float *factors, const float *gy, float *out,
                               size_t n, size_t block)
{
    const lanes zero = {0};
    for (size_t lane = 0; lane < block; lane += LANES) {
        const lanes mean = LANES_OF(factors + MEAN * block + lane),
                    rest = LANES_OF(factors + MEAN_REST * block + lane),
                    factor = LANES_OF(factors + FACTOR * block + lane),
                    shift = LANES_OF(factors + SHIFT * block + lane);
        for (size_t s = 0; s < n; s++) {
            const size_t i = s * block + lane;
            const lanes v = ((LANES_OF(x + i) - mean) - rest) * factor + shift;
            LANES_AT(out + i) =
                LANES_SELECT(v > zero, LANES_OF(gy + i), LANES_SELECT(v <= zero, zero, v));
        }
    }
}

KERNEL_LEAF void gradient_piece(const float *x, const float *h, const float *factors,
                                const float *terms, float *gx, size_t n, size_t block,
                                bool accumulate)
{
    for (size_t lane = 0; lane < block; lane += LANES) {
        const lanes mean = LANES_OF(factors + MEAN * block + lane),
                    rest = LANES_OF(factors + MEAN_REST * block + lane),
                    of_h = LANES_OF(terms + TERM_GRADIENT * block + lane),
                    of_map = LANES_OF(terms + TERM_MAP * block + lane),
                    level = LANES_OF(terms + TERM_LEVEL * block + lane);
        for (size_t s = 0; s < n; s++) {
            const size_t i = s * block + lane;
            const lanes d = (LANES_OF(x + i) - mean) - rest;
            lanes g = (LANES_OF(h + i) * of_h + level) + d * of_map;
            if (accumulate)
                g += LANES_OF(gx + i);
            LANES_AT(gx + i) = g;
        }
    }
}

/* f'(scale normal + shift) gy of a tile; in `room` unless it is gy itself. room may not be gy. */
static const float *before_activation(const activation *f, const float *x, const float *factors,
                                      const float *gy, float *room, size_t n, size_t block)
{
    if (f->kind == ACTIVATION_NONE)
        return gy;
    if (f->kind == ACTIVATION_RELU) {
        rectify_piece(x, factors, gy, room, n, block);
        return room;
    }
    normalise_piece(x, factors, room, n, block, false);
    if (activation_backward_uses_output(f))
        kernel_activate_piece(f, room, room, n * block);
    kernel_activate_backward_piece(f, room, gy, room, n * block);
    return room;
}

/* The two sums of a channel over all chunks. */
static void channel_sums(const double *partial, size_t channel, size_t chunks, size_t block,
                         double sums[2])
{
    const double *from = partial + channel / block * chunks * 2 * block + channel % block;
    sums[0] = sums[1] = 0;
    for (size_t k = 0; k < chunks; k++) {
        sums[0] += from[k * 2 * block];
        sums[1] += from[k * 2 * block + block];
    }
}

/* factors of the channels [begin, end) of one group */
static void finish_group(const float *x, const double *partial, const float *scale,
                         const float *shift, float epsilon, float *factors, size_t begin,
                         size_t end, size_t spatial, size_t block)
{
    const size_t chunks = kernel_pieces(spatial, CHUNK);
    double count = 0, mean = 0, squares = 0; /* of the channels so far: sum of (x - mean)^2 */
    for (size_t c = begin; c < end; c++) {
        double sums[2];
        const double n = (double)spatial;
        channel_sums(partial, c, chunks, block, sums);
        const double own = sums[1] - sums[0] * (sums[0] / n);
        const double apart =
            (double)x[c / block * spatial * block + c % block] + sums[0] / n - mean;
        squares += (own < 0 ? 0 : own) + apart * apart * (count * n / (count + n));
        mean += apart * (n / (count + n));
        count += n;
    }
    const double inverse = 1 / sqrt(squares / count + (double)epsilon);
    for (size_t c = begin; c < end; c++) {
        float *to = factors + c / block * block * FACTOR_KINDS + c % block;
        to[MEAN * block] = (float)mean;
        to[MEAN_REST * block] = (float)(mean - (double)(float)mean);
        to[FACTOR * block] = (float)((double)scale[c] * inverse);
        to[SHIFT * block] = shift[c];
        to[INVERSE * block] = (float)inverse;
    }
}

void kernel_norm(const float *x, const float *scale, const float *shift, float epsilon,
                 const activation *f, float *y, float *factors, void *scratch, size_t channels,
                 size_t groups, size_t spatial, int block, int threads)
{
    const size_t b = (size_t)block, blocks = kernel_pieces(channels, b),
                 chunks = kernel_pieces(spatial, CHUNK), tiles = kernel_pieces(spatial, TILE);
    const size_t width = channels / groups;
    const int team = kernel_threads(threads, channels * spatial);
    double *partial = scratch;
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * chunks; item++) {
        const float *of = x + item / chunks * spatial * b;
        const size_t begin = item % chunks * CHUNK, end = kernel_minimum(spatial, begin + CHUNK);
        double sums[2 * MAX_BLOCK] = {0};
        for (size_t s = begin; s < end; s += TILE)
            add_moments(of + s * b, of, kernel_minimum(end - s, TILE), b, sums);
        memcpy(partial + item * 2 * b, sums, 2 * b * sizeof *sums);
    }
    memset(factors, 0, kernel_norm_factors(channels, block) * sizeof *factors);
    for (size_t g = 0; g < groups; g++)
        finish_group(x, partial, scale, shift, epsilon, factors, g * width, (g + 1) * width,
                     spatial, b);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * tiles; item++) {
        const size_t c = item / tiles * b, begin = item % tiles * TILE,
                     n = kernel_minimum(spatial - begin, TILE), offset = c * spatial + begin * b;
        normalise_piece(x + offset, factors + c * FACTOR_KINDS, y + offset, n, b,
                        f->kind == ACTIVATION_RELU);
        if (f->kind != ACTIVATION_NONE && f->kind != ACTIVATION_RELU) {
            kernel_activate_piece(f, y + offset, y + offset, n * b);
            if (channels - c < b && !activation_keeps_zero(f))
                kernel_zero_padding(y + offset, channels - c, 0, n, block);
        }
    }
}

/* With n = (x - mean) inverse and means over the group:
 *     gx = inverse (scale h - mean(scale h) - n mean(scale h n)) */
static void finish_group_gradient(const double *partial, const float *factors, float *terms,
                                  size_t begin, size_t end, size_t spatial, size_t block)
{
    const size_t chunks = kernel_pieces(spatial, CHUNK);
    const double count = (double)(end - begin) * (double)spatial;
    double level = 0, slope = 0, inverse = 0;
    for (size_t c = begin; c < end; c++) {
        const float *of = factors + c / block * block * FACTOR_KINDS + c % block;
        double sums[2];
        channel_sums(partial, c, chunks, block, sums);
        level += (double)of[FACTOR * block] * sums[0];
        slope += (double)of[FACTOR * block] * sums[1];
        inverse = (double)of[INVERSE * block];
    }
    for (size_t c = begin; c < end; c++) {
        const float *of = factors + c / block * block * FACTOR_KINDS + c % block;
        float *to = terms + c / block * block * TERM_KINDS + c % block;
        to[TERM_GRADIENT * block] = of[FACTOR * block];
        to[TERM_MAP * block] = (float)(-slope * inverse * inverse / count);
        to[TERM_LEVEL * block] = (float)(-level / count);
        if (count == 1) /* x - mean is 0 whatever x: no rounding may remain */
            to[TERM_GRADIENT * block] = to[TERM_LEVEL * block] = 0;
    }
}

void kernel_norm_backward(const float *x, const float *factors, const activation *f,
                          const float *gy, float *gx, void *scratch, size_t channels, size_t groups,
                          size_t spatial, int block, bool accumulate, int threads)
{
    const size_t b = (size_t)block, blocks = kernel_pieces(channels, b),
                 chunks = kernel_pieces(spatial, CHUNK), tiles = kernel_pieces(spatial, TILE);
    const size_t width = channels / groups;
    const int team = kernel_threads(threads, channels * spatial);
    double *partial = scratch;
    float *terms = (float *)(void *)(partial + blocks * chunks * 2 * b);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * chunks; item++) {
        const size_t c = item / chunks * b, begin = item % chunks * CHUNK,
                     end = kernel_minimum(spatial, begin + CHUNK);
        const float *of = factors + c * FACTOR_KINDS;
        double sums[2 * MAX_BLOCK] = {0};
        float room[TILE * MAX_BLOCK];
        for (size_t s = begin; s < end; s += TILE) {
            const size_t n = kernel_minimum(end - s, TILE), offset = c * spatial + s * b;
            /* Nothing to add to: gx holds h until the second pass. */
            const float *h = before_activation(f, x + offset, of, gy + offset,
                                               accumulate ? room : gx + offset, n, b);
            add_products(x + offset, h, of, n, b, sums);
        }
        memcpy(partial + item * 2 * b, sums, 2 * b * sizeof *sums);
    }
    memset(terms, 0, blocks * b * TERM_KINDS * sizeof *terms);
    for (size_t g = 0; g < groups; g++)
        finish_group_gradient(partial, factors, terms, g * width, (g + 1) * width, spatial, b);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * tiles; item++) {
        const size_t c = item / tiles * b, begin = item % tiles * TILE,
                     n = kernel_minimum(spatial - begin, TILE), offset = c * spatial + begin * b;
        const float *of = factors + c * FACTOR_KINDS;
        float room[TILE * MAX_BLOCK];
        const float *h = f->kind == ACTIVATION_NONE || accumulate
                             ? before_activation(f, x + offset, of, gy + offset, room, n, b)
                             : gx + offset;
        gradient_piece(x + offset, h, of, terms + c * TERM_KINDS, gx + offset, n, b, accumulate);
    }
}
