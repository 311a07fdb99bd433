/* Depthwise convolutions on channel blocks, eight lanes at a time. */
#include "engine/kernels_depthwise.h"

#include <math.h>

/* Bytes of a channel's taps, in whole blocks: (blocks, rows of taps, columns of taps, block). */
size_t depthwise_weights_bytes(const depthwise *self)
{
    return kernel_pieces(self->channels, (size_t)self->block) * (size_t)self->block *
           self->taps[0] * self->taps[1] * sizeof(float);
}

void depthwise_prepare(const depthwise *self, const char *weights, bool turned, float *prepared)
{
    const size_t taps = self->taps[0] * self->taps[1], block = (size_t)self->block;
    memset(prepared, 0, depthwise_weights_bytes(self));
    for (size_t c = 0; c < self->channels; c++)
        for (size_t t = 0; t < taps; t++)
            memcpy(prepared + (c / block * taps + t) * block + c % block,
                   weights + (c * taps + (turned ? taps - 1 - t : t)) * sizeof(float),
                   sizeof(float));
}

/* What one row of outputs is made of. */
typedef struct row_work {
    const float *x, *taps; /* from the first row of taps that lies on the map, and its input row */
    size_t rows;           /* of taps on the map */
    size_t width, left;    /* of the input; zeros before it */
    size_t step;           /* floats from a column to the next */
    const float *bias;
    float *y;
    float low, high;
} row_work;

/* Aligned locals of AVX need Linux' ABI; other compilers lack the pragmas. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__)
#include <immintrin.h>

#define UNROLL KERNEL_PRAGMA(GCC unroll 24)
/* Output columns at once: with their sums, a row of taps and an input the 16 registers are full. */
#define COLUMNS ((size_t)8)

#pragma GCC push_options
#pragma GCC target("avx2,fma")

/* `count` outputs from column `begin` on. Where `inside`, no tap lies on padding. All but the first two arguments are
 * constants where it is inlined. */
KERNEL_INLINE void columns(const row_work *w, size_t begin, size_t across, size_t stride,
                           size_t count, bool inside)
{
    __m256 sums[COLUMNS];
    const __m256 shift = w->bias ? _mm256_loadu_ps(w->bias) : _mm256_setzero_ps();
    const size_t first = begin * stride - w->left; /* wraps before the first column */
    UNROLL
    for (size_t u = 0; u < count; u++)
        sums[u] = shift;
    for (size_t r = 0; r < w->rows; r++) {
        const float *x = w->x + r * w->width * w->step, *taps = w->taps + r * across * w->step;
        __m256 tap[7];
        UNROLL
        for (size_t k = 0; k < across; k++)
            tap[k] = _mm256_loadu_ps(taps + k * w->step);
        UNROLL
        for (size_t j = 0; j < (count - 1) * stride + across; j++) {
            if (!inside && first + j >= w->width)
                continue;
            const __m256 v = _mm256_loadu_ps(x + (first + j) * w->step);
            UNROLL
            for (size_t k = 0; k < across; k++)
                if (j >= k && (j - k) % stride == 0 && (j - k) / stride < count)
                    sums[(j - k) / stride] = _mm256_fmadd_ps(v, tap[k], sums[(j - k) / stride]);
        }
    }
    const __m256 low = _mm256_set1_ps(w->low), high = _mm256_set1_ps(w->high);
    UNROLL
    for (size_t u = 0; u < count; u++) /* a NaN, second, stays one */
        _mm256_storeu_ps(w->y + (begin + u) * w->step,
                         _mm256_min_ps(high, _mm256_max_ps(low, sums[u])));
}

#define COUNT_CASE(n)                                    \
    case n:                                              \
        if (inside)                                      \
            columns(w, begin, across, stride, n, true);  \
        else                                             \
            columns(w, begin, across, stride, n, false); \
        break;

KERNEL_INLINE void row_of(const row_work *w, size_t outputs, size_t across, size_t stride)
{
    const size_t parts = kernel_pieces(outputs, COLUMNS);
    for (size_t part = 0; part < parts; part++) { /* of nearly equal size */
        const size_t begin = outputs * part / parts, end = outputs * (part + 1) / parts;
        const bool inside =
            begin * stride >= w->left && (end - 1) * stride + across <= w->width + w->left;
        switch (end - begin) {
            COUNT_CASE(1)
            COUNT_CASE(2)
            COUNT_CASE(3)
            COUNT_CASE(4)
            COUNT_CASE(5)
            COUNT_CASE(6)
            COUNT_CASE(7)
            COUNT_CASE(8)
        default:
            break;
        }
    }
}

static void row_3_1(const row_work *w, size_t outputs)
{
    row_of(w, outputs, 3, 1);
}

static void row_3_2(const row_work *w, size_t outputs)
{
    row_of(w, outputs, 3, 2);
}

static void row_5_1(const row_work *w, size_t outputs)
{
    row_of(w, outputs, 5, 1);
}

static void row_5_2(const row_work *w, size_t outputs)
{
    row_of(w, outputs, 5, 2);
}

#pragma GCC pop_options

static void row(const row_work *w, size_t outputs, size_t across, size_t stride)
{
    if (across == 3 && stride == 1)
        row_3_1(w, outputs);
    else if (across == 3)
        row_3_2(w, outputs);
    else if (stride == 1)
        row_5_1(w, outputs);
    else
        row_5_2(w, outputs);
}

static bool processor_has_it(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#else
/* Never reached: nothing is supported. */
static void row(const row_work *w, size_t outputs, size_t across, size_t stride)
{
    (void)w, (void)outputs, (void)across, (void)stride;
}

static bool processor_has_it(void)
{
    return false;
}
#endif

bool depthwise_supported(const depthwise *self)
{
    bool good = processor_has_it() && self->block % LANES == 0 && self->block > 0 &&
                self->channels > 0 && self->threads > 0 && activation_keeps_zero(&self->post) &&
                (self->taps[1] == 3 || self->taps[1] == 5) && self->taps[0] > 0;
    for (int i = 0; i < 2; i++)
        good = good && self->input[i] > 0 && self->output[i] > 0 && self->stride[i] > 0;
    return good && self->stride[1] <= 2;
}

/* Row `out` of eight channels: x and y from their first position on. */
static void one_row(const depthwise *d, const float *x, const float *taps, const float *bias,
                    float *y, size_t out)
{
    const size_t top = out * d->stride[0]; /* with the padding */
    const size_t skipped = top < d->pad[0] ? kernel_minimum(d->pad[0] - top, d->taps[0]) : 0;
    const size_t from = top + skipped - d->pad[0]; /* the first input row */
    const size_t left = from < d->input[0] ? d->input[0] - from : 0;
    const activation *f = &d->post;
    row_work w = {.rows = kernel_minimum(d->taps[0] - skipped, left),
                  .taps = taps + skipped * d->taps[1] * (size_t)d->block,
                  .width = d->input[1],
                  .left = d->pad[1],
                  .step = (size_t)d->block,
                  .bias = bias,
                  .y = y + out * d->output[1] * (size_t)d->block,
                  .low = -INFINITY,
                  .high = INFINITY};
    w.x = w.rows > 0 ? x + from * d->input[1] * (size_t)d->block : x;
    if (f->kind == ACTIVATION_RELU || f->kind == ACTIVATION_CLIP)
        w.low = f->kind == ACTIVATION_RELU ? 0 : f->alpha;
    if (f->kind == ACTIVATION_CLIP)
        w.high = f->beta;
    row(&w, d->output[1], d->taps[1], d->stride[1]);
}

/* Multiplications of an item of work, and rows of one at most. */
#define ITEM_PRODUCTS ((size_t)1 << 16)

void depthwise_run(const depthwise *self, const float *x, const float *prepared, const float *bias,
                   float *y)
{
    const size_t block = (size_t)self->block, blocks = kernel_pieces(self->channels, block),
                 taps = self->taps[0] * self->taps[1], row_count = self->output[1] * block;
    const size_t rows = kernel_minimum(self->output[0], ITEM_PRODUCTS / (row_count * taps + 1) + 1);
    const size_t pieces = kernel_pieces(self->output[0], rows);
    const size_t from = self->input[0] * self->input[1] * block, to = self->output[0] * row_count;
    const activation *f = &self->post;
    const bool later =
        f->kind != ACTIVATION_NONE && f->kind != ACTIVATION_RELU && f->kind != ACTIVATION_CLIP;
    const int team = kernel_threads(self->threads, blocks * to * taps);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * pieces; item++) {
        const size_t b = item / pieces, begin = item % pieces * rows,
                     end = kernel_minimum(begin + rows, self->output[0]);
        for (size_t out = begin; out < end; out++) {
            for (size_t lane = 0; lane < block; lane += LANES)
                one_row(self, x + b * from + lane, prepared + b * taps * block + lane,
                        bias ? bias + b * block + lane : NULL, y + b * to + lane, out);
            float *made = y + b * to + out * row_count;
            if (later)
                kernel_activate_piece(f, made, made, row_count);
        }
    }
}
