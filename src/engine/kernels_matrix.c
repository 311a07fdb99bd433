/* Matrix-vector products, softmax and layer normalisation of plain rows. */
#include "engine/kernels_math.h"

#include <math.h>

/* Rows of a matrix-vector piece; columns of a vector-matrix piece. */
#define ROWS ((size_t)8)
#define COLUMNS ((size_t)512)
/* Terms of one float partial sum before it goes into a double. */
#define SPAN ((size_t)512)

/* <a, b>: four lanes-wide chains over a span, spans in double. */
KERNEL_INLINE double dot(const float *a, const float *b, size_t n)
{
    double total = 0;
    size_t begin = 0;
    while (n - begin >= 4 * LANES) {
        const size_t left = n - begin,
                     span = (left < SPAN ? left : SPAN) / (4 * LANES) * (4 * LANES);
        lanes partial[4] = {{0}, {0}, {0}, {0}};
        for (size_t i = begin; i < begin + span; i += 4 * LANES)
            for (size_t j = 0; j < 4; j++)
                partial[j] += LANES_OF(a + i + j * LANES) * LANES_OF(b + i + j * LANES);
        const lanes sum = (partial[0] + partial[1]) + (partial[2] + partial[3]);
        total += (((double)sum[0] + (double)sum[1]) + ((double)sum[2] + (double)sum[3])) +
                 (((double)sum[4] + (double)sum[5]) + ((double)sum[6] + (double)sum[7]));
        begin += span;
    }
    if (n - begin >= LANES) {
        lanes sum = {0};
        for (; n - begin >= LANES; begin += LANES)
            sum += LANES_OF(a + begin) * LANES_OF(b + begin);
        total += (((double)sum[0] + (double)sum[1]) + ((double)sum[2] + (double)sum[3])) +
                 (((double)sum[4] + (double)sum[5]) + ((double)sum[6] + (double)sum[7]));
    }
    for (; begin < n; begin++)
        total += (double)a[begin] * (double)b[begin];
    return total;
}

KERNEL_LEAF void matrix_vector_piece(const float *weights, const float *x, const float *bias,
                                     float *y, size_t n, size_t k)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(dot(weights + i * k, x, k) + (bias == NULL ? 0.0 : (double)bias[i]));
}

void kernel_matrix_vector(const float *weights, const float *x, const float *bias, float *y,
                          size_t n, size_t k, int threads)
{
    const size_t pieces = kernel_pieces(n, ROWS);
    const int team = kernel_threads(threads, n * k);
    KERNEL_PARALLEL(team)
    for (size_t p = 0; p < pieces; p++) {
        const size_t begin = p * ROWS;
        matrix_vector_piece(weights + begin * k, x, bias == NULL ? NULL : bias + begin, y + begin,
                            kernel_minimum(n - begin, ROWS), k);
    }
}

/* `width` <= COLUMNS columns: float partials over 64 rows, double over all. Rows whose gradient is zero are not read: the
 * gradient of one class score then touches one row. */
KERNEL_LEAF void vector_matrix_piece(const float *weights, const float *gy, float *gx, size_t n,
                                     size_t k, size_t width, bool accumulate)
{
    double total[COLUMNS];
    float partial[COLUMNS];
    for (size_t j = 0; j < width; j++)
        total[j] = 0;
    for (size_t begin = 0; begin < n; begin += 64) {
        const size_t end = n - begin < 64 ? n : begin + 64;
        bool any = false;
        for (size_t i = begin; i < end; i++) {
            const float g = gy[i];
            const float *row = weights + i * k;
            if (g == 0)
                continue;
            if (any) {
                KERNEL_SIMD
                for (size_t j = 0; j < width; j++)
                    partial[j] += row[j] * g;
            } else {
                KERNEL_SIMD
                for (size_t j = 0; j < width; j++)
                    partial[j] = row[j] * g;
            }
            any = true;
        }
        if (!any)
            continue;
        KERNEL_SIMD
        for (size_t j = 0; j < width; j++)
            total[j] += (double)partial[j];
    }
    for (size_t j = 0; j < width; j++)
        gx[j] = accumulate ? (float)((double)gx[j] + total[j]) : (float)total[j];
}

void kernel_vector_matrix(const float *weights, const float *gy, float *gx, size_t n, size_t k,
                          bool accumulate, int threads)
{
    const size_t pieces = kernel_pieces(k, COLUMNS);
    const int team = kernel_threads(threads, n * k);
    KERNEL_PARALLEL(team)
    for (size_t p = 0; p < pieces; p++) {
        const size_t begin = p * COLUMNS;
        vector_matrix_piece(weights + begin, gy, gx + begin, n, k,
                            kernel_minimum(k - begin, COLUMNS), accumulate);
    }
}

/* Elements that softmax takes at once; the rest of a row is filled up, because single exponentials are slow. */
#define SOFTMAX_WIDTH ((size_t)16)

/* The largest number of a row; a NaN is passed over (it makes the sum NaN). */
KERNEL_INLINE float row_maximum(const float *x, size_t width)
{
    float tops[SOFTMAX_WIDTH], top = -INFINITY;
    size_t begin = 0;
    for (size_t j = 0; j < SOFTMAX_WIDTH; j++)
        tops[j] = -INFINITY;
    while (width - begin >= SOFTMAX_WIDTH || (begin > 0 && begin < width)) {
        const size_t at = kernel_minimum(begin, width - SOFTMAX_WIDTH); /* the last ones overlap */
        KERNEL_SIMD
        for (size_t j = 0; j < SOFTMAX_WIDTH; j++)
            tops[j] = x[at + j] > tops[j] ? x[at + j] : tops[j];
        begin = at + SOFTMAX_WIDTH;
    }
    for (; begin < width; begin++)
        top = x[begin] > top ? x[begin] : top;
    for (size_t j = 0; j < SOFTMAX_WIDTH; j++)
        top = tops[j] > top ? tops[j] : top;
    return top;
}

KERNEL_LEAF void softmax_row(const float *x, float *y, size_t width)
{
    const float top = row_maximum(x, width);
    const size_t whole = width / SOFTMAX_WIDTH * SOFTMAX_WIDTH, rest = width - whole;
    float last[SOFTMAX_WIDTH];
    double sum = 0;
    KERNEL_SIMD_SUM(sum)
    for (size_t i = 0; i < whole; i++) {
        const float e = math_exp(x[i] - top);
        y[i] = e;
        sum += (double)e;
    }
    for (size_t j = 0; j < SOFTMAX_WIDTH; j++)
        last[j] = j < rest ? x[whole + j] - top : 0;
    KERNEL_SIMD
    for (size_t j = 0; j < SOFTMAX_WIDTH; j++)
        last[j] = math_exp(last[j]);
    for (size_t j = 0; j < rest; j++)
        sum += (double)last[j];
    const float factor = (float)(1.0 / sum);
    for (size_t i = 0; i < whole; i++)
        y[i] *= factor;
    for (size_t j = 0; j < rest; j++)
        y[whole + j] = last[j] * factor;
}

void kernel_softmax(const float *x, float *y, size_t rows, size_t width, int threads)
{
    if (width == 0)
        return;
    const int team = kernel_threads(threads, rows * width);
    KERNEL_PARALLEL(team)
    for (size_t r = 0; r < rows; r++)
        softmax_row(x + r * width, y + r * width, width);
}

KERNEL_LEAF void softmax_backward_row(const float *y, const float *gy, float *gx, size_t width,
                                      bool accumulate)
{
    const float inner = (float)dot(gy, y, width);
    if (accumulate) {
        KERNEL_SIMD
        for (size_t i = 0; i < width; i++)
            gx[i] += y[i] * (gy[i] - inner);
    } else {
        KERNEL_SIMD
        for (size_t i = 0; i < width; i++)
            gx[i] = y[i] * (gy[i] - inner);
    }
}

void kernel_softmax_backward(const float *y, const float *gy, float *gx, size_t rows, size_t width,
                             bool accumulate, int threads)
{
    const int team = kernel_threads(threads, rows * width);
    KERNEL_PARALLEL(team)
    for (size_t r = 0; r < rows; r++)
        softmax_backward_row(y + r * width, gy + r * width, gx + r * width, width, accumulate);
}

/* Mean of a row, and 1 / sqrt(variance + epsilon); two passes in double. */
KERNEL_INLINE void row_moments(const float *x, size_t width, float epsilon, double *mean,
                               double *inverse)
{
    double sum = 0, squares = 0;
    KERNEL_SIMD_SUM(sum)
    for (size_t i = 0; i < width; i++)
        sum += (double)x[i];
    const double centre = sum / (double)width;
    KERNEL_SIMD_SUM(squares)
    for (size_t i = 0; i < width; i++)
        squares += ((double)x[i] - centre) * ((double)x[i] - centre);
    *mean = centre;
    *inverse = 1.0 / sqrt(squares / (double)width + (double)epsilon);
}

KERNEL_LEAF void layer_norm_row(const float *x, const float *scale, const float *shift,
                                float epsilon, float *y, size_t width)
{
    double mean, inverse;
    row_moments(x, width, epsilon, &mean, &inverse);
    KERNEL_SIMD
    for (size_t i = 0; i < width; i++)
        y[i] = (float)(((double)x[i] - mean) * inverse);
    if (scale != NULL) {
        KERNEL_SIMD
        for (size_t i = 0; i < width; i++)
            y[i] *= scale[i];
    }
    if (shift != NULL) {
        KERNEL_SIMD
        for (size_t i = 0; i < width; i++)
            y[i] += shift[i];
    }
}

void kernel_layer_norm(const float *x, const float *scale, const float *shift, float epsilon,
                       float *y, size_t rows, size_t width, int threads)
{
    const int team = kernel_threads(threads, rows * width);
    KERNEL_PARALLEL(team)
    for (size_t r = 0; r < rows; r++)
        layer_norm_row(x + r * width, scale, shift, epsilon, y + r * width, width);
}

/* With h = scale gy and n = (x - mean) inverse:  gx = inverse (h - mean(h) - n mean(h n)) */
KERNEL_LEAF void layer_norm_backward_row(const float *x, const float *scale, float epsilon,
                                         const float *gy, float *gx, size_t width, bool accumulate)
{
    double mean, inverse, sum = 0, product = 0;
    row_moments(x, width, epsilon, &mean, &inverse);
    if (scale == NULL) {
        KERNEL_SIMD_SUM(sum, product)
        for (size_t i = 0; i < width; i++) {
            sum += (double)gy[i];
            product += (double)gy[i] * ((double)x[i] - mean);
        }
    } else {
        KERNEL_SIMD_SUM(sum, product)
        for (size_t i = 0; i < width; i++) {
            const double h = (double)gy[i] * (double)scale[i];
            sum += h;
            product += h * ((double)x[i] - mean);
        }
    }
    const double shift = sum / (double)width, slope = product * inverse * inverse / (double)width;
    KERNEL_SIMD
    for (size_t i = 0; i < width; i++) {
        const double h = (double)gy[i] * (scale == NULL ? 1.0 : (double)scale[i]);
        const float g = (float)(inverse * (h - shift - ((double)x[i] - mean) * slope));
        gx[i] = accumulate ? gx[i] + g : g;
    }
}

void kernel_layer_norm_backward(const float *x, const float *scale, float epsilon, const float *gy,
                                float *gx, size_t rows, size_t width, bool accumulate, int threads)
{
    const int team = kernel_threads(threads, rows * width);
    KERNEL_PARALLEL(team)
    for (size_t r = 0; r < rows; r++)
        layer_norm_backward_row(x + r * width, scale, epsilon, gy + r * width, gx + r * width,
                                width, accumulate);
}
