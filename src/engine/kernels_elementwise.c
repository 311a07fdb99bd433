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
