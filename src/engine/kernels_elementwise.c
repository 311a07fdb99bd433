/* Sums and products of whole buffers. */
#include "engine/kernels_private.h"

KERNEL_LEAF void add_piece(const float *a, const float *b, float *y, size_t n, bool relu)
{
    if (relu) {
        KERNEL_SIMD
        for (size_t i = 0; i < n; i++) {
            const float v = a[i] + b[i];
            y[i] = v < 0 ? 0.0f : v;
        }
    } else {
        KERNEL_SIMD
        for (size_t i = 0; i < n; i++)
            y[i] = a[i] + b[i];
    }
}

KERNEL_LEAF void multiply_piece(const float *a, const float *b, float *y, size_t n, bool accumulate)
{
    if (accumulate) {
        KERNEL_SIMD
        for (size_t i = 0; i < n; i++)
            y[i] += a[i] * b[i];
    } else {
        KERNEL_SIMD
        for (size_t i = 0; i < n; i++)
            y[i] = a[i] * b[i];
    }
}

void kernel_add(const float *a, const float *b, float *y, size_t n, const activation *f,
                int threads)
{
    const int team = kernel_threads(threads, n);
    const size_t pieces = kernel_pieces(n, KERNEL_PIECE);
    const activation_kind kind = f == NULL ? ACTIVATION_NONE : f->kind;
    KERNEL_PARALLEL(team)
    for (size_t p = 0; p < pieces; p++) {
        const size_t begin = p * KERNEL_PIECE, count = kernel_minimum(n - begin, KERNEL_PIECE);
        add_piece(a + begin, b + begin, y + begin, count, kind == ACTIVATION_RELU);
        if (kind != ACTIVATION_NONE && kind != ACTIVATION_RELU)
            kernel_activate_piece(f, y + begin, y + begin, count);
    }
}

void kernel_multiply(const float *a, const float *b, float *y, size_t n, bool accumulate,
                     int threads)
{
    const int team = kernel_threads(threads, n);
    const size_t pieces = kernel_pieces(n, KERNEL_PIECE);
    KERNEL_PARALLEL(team)
    for (size_t p = 0; p < pieces; p++) {
        const size_t begin = p * KERNEL_PIECE;
        multiply_piece(a + begin, b + begin, y + begin, kernel_minimum(n - begin, KERNEL_PIECE),
                       accumulate);
    }
}

void kernel_accumulate(const float *x, float *y, size_t n, int threads)
{
    kernel_add(x, y, y, n, NULL, threads);
}

/* As integers, magnitudes order as the numbers do, with infinity and then NaN at the end. */
KERNEL_LEAF int32_t max_abs_piece(const float *x, size_t n)
{
    int32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7FFFFFFF;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

float kernel_max_abs(const float *x, size_t n, int threads)
{
    const int team = kernel_threads(threads, n);
    const size_t pieces = kernel_pieces(n, KERNEL_PIECE), groups = team > 1 ? (size_t)team : 1;
    int32_t largest[64] = {0};
    const size_t count = groups < 64 ? groups : 64;
    KERNEL_PARALLEL(team)
    for (size_t g = 0; g < count; g++)
        for (size_t p = g; p < pieces; p += count) {
            const size_t begin = p * KERNEL_PIECE;
            const int32_t found = max_abs_piece(x + begin, kernel_minimum(n - begin, KERNEL_PIECE));
            largest[g] = found > largest[g] ? found : largest[g];
        }
    for (size_t g = 1; g < count; g++)
        largest[0] = largest[g] > largest[0] ? largest[g] : largest[0];
    float result;
    memcpy(&result, &largest[0], sizeof result);
    return result;
}

KERNEL_LEAF float sum_abs_piece(const char *x, size_t n)
{
    float sum = 0;
    KERNEL_SIMD_SUM(sum)
    for (size_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, x + i * sizeof v, sizeof v);
        sum += v < 0 ? -v : v;
    }
    return sum;
}

double kernel_sum_abs(const char *x, size_t n)
{
    double sum = 0;
    for (size_t begin = 0; begin < n; begin += 256)
        sum += (double)sum_abs_piece(x + begin * sizeof(float), kernel_minimum(n - begin, 256));
    return sum;
}
