/* Elementwise functions that a plan keeps in channel blocks: rounding to a quantised type and back, and PRelu with a slope a
 * channel. */
#include "engine/kernels_private.h"

/* 1.5 * 2^23: adding it rounds numbers of up to 2^22 to integers, halves to the even one. */
#define ROUNDING 12582912.0f

/* y = scale round(clamp(x / scale)), not a number where x is none. Returns whether all are numbers. */
KERNEL_LEAF bool quantise_piece(const float *x, float *y, size_t n, float scale, float low,
                                float high)
{
    uint32_t strange = 0;
    KERNEL_SIMD_SUM(strange)
    for (size_t i = 0; i < n; i++) {
        float q = x[i] / scale;
        strange += (uint32_t)(q != q);
        q = q < low ? low : q;
        q = q > high ? high : q;
        y[i] = (q + ROUNDING - ROUNDING) * scale;
    }
    return strange == 0;
}

KERNEL_LEAF void quantise_backward_piece(const float *x, const float *gy, float *gx, size_t n,
                                         float scale, float low, float high, bool accumulate)
{
    KERNEL_SIMD
    for (size_t i = 0; i < n; i++) {
        float q = x[i] / scale;
        q = q < low - 1 ? low - 1 : q;
        q = q > high + 1 ? high + 1 : q;
        const float r = q + ROUNDING - ROUNDING;
        const float g = r >= low && r <= high ? gy[i] : 0;
        gx[i] = accumulate ? gx[i] + g : g;
    }
}

bool kernel_quantise(const float *x, float *y, size_t n, float scale, float low, float high,
                     int threads)
{
    const size_t pieces = kernel_pieces(n, KERNEL_PIECE);
    const int team = kernel_threads(threads, n);
    int strange = 0;
    KERNEL_PARALLEL(team)
    for (size_t p = 0; p < pieces; p++) {
        const size_t begin = p * KERNEL_PIECE;
        if (!quantise_piece(x + begin, y + begin, kernel_minimum(n - begin, KERNEL_PIECE), scale,
                            low, high)) {
            KERNEL_ATOMIC_WRITE
            strange = 1;
        }
    }
    return strange == 0;
}

void kernel_quantise_backward(const float *x, const float *gy, float *gx, size_t n, float scale,
                              float low, float high, bool accumulate, int threads)
{
    const size_t pieces = kernel_pieces(n, KERNEL_PIECE);
    const int team = kernel_threads(threads, n);
    KERNEL_PARALLEL(team)
    for (size_t p = 0; p < pieces; p++) {
        const size_t begin = p * KERNEL_PIECE;
        quantise_backward_piece(x + begin, gy + begin, gx + begin,
                                kernel_minimum(n - begin, KERNEL_PIECE), scale, low, high,
                                accumulate);
    }
}

/* Rows of `block` channels with their slopes, or one channel of a plain plane (block 1). */
KERNEL_LEAF void prelu_rows(const float *x, const float *slope, float *y, size_t rows, size_t block)
{
    if (block == 1) {
        const float s = slope[0];
        KERNEL_SIMD
        for (size_t i = 0; i < rows; i++)
            y[i] = x[i] < 0 ? s * x[i] : x[i];
        return;
    }
    for (size_t i = 0; i < rows; i++) {
        KERNEL_SIMD
        for (size_t j = 0; j < block; j++)
            y[i * block + j] =
                x[i * block + j] < 0 ? slope[j] * x[i * block + j] : x[i * block + j];
    }
}

KERNEL_LEAF void prelu_backward_rows(const float *x, const float *slope, const float *gy, float *gx,
                                     size_t rows, size_t block, bool accumulate)
{
    for (size_t i = 0; i < rows; i++) {
        KERNEL_SIMD
        for (size_t j = 0; j < block; j++) {
            const size_t at = i * block + j;
            const float g = x[at] > 0 ? gy[at] : slope[j] * gy[at];
            gx[at] = accumulate ? gx[at] + g : g;
        }
    }
}

/* Positions of one piece. */
#define POSITIONS ((size_t)512)

void kernel_prelu(const float *x, const float *slope, float *y, size_t channels, size_t spatial,
                  int block, int threads)
{
    const size_t lanes_of = (size_t)block, blocks = kernel_pieces(channels, lanes_of),
                 each = kernel_pieces(spatial, POSITIONS);
    const int team = kernel_threads(threads, channels * spatial);
    KERNEL_PARALLEL(team)
    for (size_t p = 0; p < blocks * each; p++) {
        const size_t c = p / each, begin = p % each * POSITIONS,
                     at = (c * spatial + begin) * lanes_of;
        prelu_rows(x + at, slope + c * lanes_of, y + at, kernel_minimum(spatial - begin, POSITIONS),
                   lanes_of);
    }
}

void kernel_prelu_backward(const float *x, const float *slope, const float *gy, float *gx,
                           size_t channels, size_t spatial, int block, bool accumulate, int threads)
{
    const size_t lanes_of = (size_t)block, blocks = kernel_pieces(channels, lanes_of),
                 each = kernel_pieces(spatial, POSITIONS);
    const int team = kernel_threads(threads, channels * spatial);
    KERNEL_PARALLEL(team)
    for (size_t p = 0; p < blocks * each; p++) {
        const size_t c = p / each, begin = p % each * POSITIONS,
                     at = (c * spatial + begin) * lanes_of;
        prelu_backward_rows(x + at, slope + c * lanes_of, gy + at, gx + at,
                            kernel_minimum(spatial - begin, POSITIONS), lanes_of, accumulate);
    }
}
