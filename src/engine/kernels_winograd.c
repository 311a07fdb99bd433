/* Winograd's F(4x4, 3x3) on channel blocks. */
#include "engine/kernels_winograd.h"

#include <math.h>

/* The points +-A, +-B: near 1 from both sides, so that powers neither grow nor vanish. */
#define POINT_A 0.625f
#define POINT_B 1.5f
#define A2 (POINT_A * POINT_A)
#define B2 (POINT_B * POINT_B)
/* Output positions of a tile, by side. */
#define TILE ((size_t)4)

/* Rows of G: [1, p, p^2] / N(p) for the points 0, A, -A, B, -B, and infinity. */
static void weights_matrix(double g[6][3])
{
    const double a = (double)POINT_A, b = (double)POINT_B, points[5] = {0, a, -a, b, -b};
    const double norms[3] = {a * a * b * b, 2 * a * a * (a * a - b * b),
                             2 * b * b * (b * b - a * a)};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 3; j++)
            g[i][j] = (j == 0   ? 1
                       : j == 1 ? points[i]
                                : points[i] * points[i]) /
                      norms[(i + 1) / 2];
    g[5][0] = g[5][1] = 0;
    g[5][2] = 1;
}

double winograd_growth(void)
{
    /* Largest row sums of magnitudes: of B^T and A^T by their definition, of G its largest entry; squared for two dimensions. */
    const double a = (double)POINT_A, b = (double)POINT_B;
    const double enter =
        fmax(1 + a * a + b * b + a * a * b * b, (1 + fmax(a, b)) * (1 + fmax(a * a, b * b)));
    const double leave = 1 + 2 * fmax(1, a * a * a) + 2 * fmax(1, b * b * b);
    double g[6][3], largest = 0;
    weights_matrix(g);
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 3; j++)
            largest = fmax(largest, fabs(g[i][j]));
    const double one = enter * leave * largest;
    return one * one;
}

static size_t pairs_of(const winograd *w)
{
    return kernel_pieces(w->output_channels, 2 * (size_t)w->block);
}

static size_t padded_inputs(const winograd *w)
{
    return kernel_pieces(w->input_channels, (size_t)w->block) * (size_t)w->block;
}

size_t winograd_weights_bytes(const winograd *self)
{
    return pairs_of(self) * 36 * padded_inputs(self) * 2 * (size_t)self->block * sizeof(float);
}

/* Floats of the transformed input and of the products of one group. */
static size_t entered_count(const winograd *w)
{
    return 36 * w->group * padded_inputs(w);
}

static size_t product_count(const winograd *w)
{
    return 36 * w->group * 2 * (size_t)w->block;
}

size_t winograd_scratch_bytes(const winograd *self)
{
    const size_t threads = (size_t)self->threads;
    return ((self->whole ? 1 : threads) * entered_count(self) + threads * product_count(self)) *
           sizeof(float);
}

void winograd_prepare(const winograd *self, const char *weights, bool gradient, float *prepared)
{
    const size_t wide = (size_t)self->block, inputs = padded_inputs(self);
    double g[6][3];
    weights_matrix(g);
    memset(prepared, 0, winograd_weights_bytes(self));
    for (size_t m = 0; m < self->output_channels; m++)
        for (size_t c = 0; c < self->input_channels; c++) {
            float taps[9];
            double w[3][3], half[6][3];
            const size_t at =
                gradient ? c * self->output_channels + m : m * self->input_channels + c;
            memcpy(taps, weights + at * sizeof taps, sizeof taps);
            for (size_t i = 0; i < 9; i++)
                w[i / 3][i % 3] = (double)taps[gradient ? 8 - i : i];
            for (size_t i = 0; i < 6; i++)
                for (size_t j = 0; j < 3; j++)
                    half[i][j] = g[i][0] * w[0][j] + g[i][1] * w[1][j] + g[i][2] * w[2][j];
            float *to =
                prepared + m / (2 * wide) * 36 * inputs * 2 * wide + c * 2 * wide + m % (2 * wide);
            for (size_t p = 0; p < 36; p++) {
                const double *h = half[p / 6];
                to[p * inputs * 2 * wide] =
                    (float)(h[0] * g[p % 6][0] + h[1] * g[p % 6][1] + h[2] * g[p % 6][2]);
            }
        }
}

/* Aligned locals of AVX need Linux' ABI; other compilers lack the pragmas. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__)
#define XAI_WINOGRAD 1
#endif

#ifdef XAI_WINOGRAD
#include <immintrin.h>

#define KERNEL_UNROLL KERNEL_PRAGMA(GCC unroll 16)

#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")
#define WIDE ((size_t)16)
#define TILES_AT_ONCE 14
#define VECTOR __m512
#define NAMED(name) name##_16
#define FUSED(a, b, c) _mm512_fmadd_ps(a, b, c)
#define SPREAD(pointer) _mm512_set1_ps(*(pointer))
KERNEL_INLINE __m512 all_16(float x)
{
    return _mm512_set1_ps(x);
}
KERNEL_INLINE __m512 load_16(const float *from)
{
    return _mm512_loadu_ps(from);
}
KERNEL_INLINE void store_16(float *to, __m512 x)
{
    _mm512_storeu_ps(to, x);
}
KERNEL_INLINE __m512 between_16(__m512 x, __m512 low, __m512 high)
{
    return _mm512_min_ps(_mm512_max_ps(x, low), high);
}
#include "engine/kernels_winograd_body.h"
#undef WIDE
#undef TILES_AT_ONCE
#undef VECTOR
#undef NAMED
#undef FUSED
#undef SPREAD
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define WIDE ((size_t)8)
#define TILES_AT_ONCE 6
#define VECTOR __m256
#define NAMED(name) name##_8
#define FUSED(a, b, c) _mm256_fmadd_ps(a, b, c)
#define SPREAD(pointer) _mm256_broadcast_ss(pointer)
KERNEL_INLINE __m256 all_8(float x)
{
    return _mm256_set1_ps(x);
}
KERNEL_INLINE __m256 load_8(const float *from)
{
    return _mm256_loadu_ps(from);
}
KERNEL_INLINE void store_8(float *to, __m256 x)
{
    _mm256_storeu_ps(to, x);
}
KERNEL_INLINE __m256 between_8(__m256 x, __m256 low, __m256 high)
{
    return _mm256_min_ps(_mm256_max_ps(x, low), high);
}
#include "engine/kernels_winograd_body.h"
#pragma GCC pop_options

static bool supported(int block)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return false;
    return block == 8 || (block == 16 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"));
}

static void transform_group(const winograd *w, const float *x, size_t block, size_t begin,
                            size_t count, float *v)
{
    const size_t wide = (size_t)w->block, plane = w->input[0] * w->input[1] * wide;
    const size_t stride = padded_inputs(w) * count;
    if (w->block == 16)
        transform_16(w, x + block * plane, begin, count, v + block * count * wide, stride);
    else
        transform_8(w, x + block * plane, begin, count, v + block * count * wide, stride);
}

static void finish_group(const winograd *w, size_t pair, size_t begin, size_t count, const float *v,
                         const float *prepared, const float *bias, const float *other, float *y,
                         float *m)
{
    if (w->block == 16)
        finish_16(w, pair, begin, count, v, prepared, bias, other, y, m);
    else
        finish_8(w, pair, begin, count, v, prepared, bias, other, y, m);
}
#else
static bool supported(int block)
{
    (void)block;
    return false;
}

/* Nothing is planned, so the rest is never reached. */
static void transform_group(const winograd *w, const float *x, size_t block, size_t begin,
                            size_t count, float *v)
{
    (void)w, (void)x, (void)block, (void)begin, (void)count, (void)v;
}

static void finish_group(const winograd *w, size_t pair, size_t begin, size_t count, const float *v,
                         const float *prepared, const float *bias, const float *other, float *y,
                         float *m)
{
    (void)w, (void)pair, (void)begin, (void)count, (void)v, (void)prepared, (void)bias;
    (void)other, (void)y, (void)m;
}
#endif

/* Bytes of a group that stay in the second-level cache, and of weights that every thread may read again and again. */
#define GROUP_BYTES ((size_t)640 << 10)
#define SMALL_WEIGHTS ((size_t)6 << 20)
/* Tiles of a group when threads share it, because reading the weights takes the time. */
#define SHARED_GROUP ((size_t)56)

bool winograd_plan(winograd *self)
{
    if (!supported(self->block) || self->output[0] < 1 || self->output[1] < 1 || self->threads < 1)
        return false;
    const size_t tiles =
        kernel_pieces(self->output[0], TILE) * kernel_pieces(self->output[1], TILE);
    const double positions = (double)self->output[0] * (double)self->output[1];
    /* The 16 positions of a tile take 36 products instead of 144, and weights are four times as many. */
    if (self->input_channels < 16 || self->output_channels < 16 || tiles < 12 ||
        positions / ((double)tiles * 16) < 0.5)
        return false;
    const size_t a_tile = 36 * sizeof(float) * (padded_inputs(self) + 2 * (size_t)self->block);
    self->whole = winograd_weights_bytes(self) > SMALL_WEIGHTS;
    const size_t most =
        self->whole ? SHARED_GROUP : (GROUP_BYTES / a_tile < 14 ? 14 : GROUP_BYTES / a_tile);
    self->groups = kernel_pieces(tiles, most);
    if (!self->whole && self->groups % 2 == 1) /* even, for an even number of threads */
        self->groups++;
    self->group = kernel_pieces(tiles, self->groups);
    self->groups = kernel_pieces(tiles, self->group);
    return true;
}

typedef struct group_place {
    size_t begin, count;
} group_place;

static group_place place_of(const winograd *w, size_t group)
{
    const size_t tiles = kernel_pieces(w->output[0], TILE) * kernel_pieces(w->output[1], TILE);
    const size_t begin = group * w->group;
    return (group_place){begin, kernel_minimum(w->group, tiles - begin)};
}

static int own_number(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

void winograd_run(const winograd *self, const float *x, const float *prepared, const float *bias,
                  const float *other, float *y, float *scratch)
{
    const size_t blocks = padded_inputs(self) / (size_t)self->block, pairs = pairs_of(self);
    const int team = kernel_threads(self->threads, KERNEL_PARALLEL_MINIMUM);
    float *products = scratch + (self->whole ? 1 : (size_t)self->threads) * entered_count(self);
    if (!self->whole) {
        KERNEL_PARALLEL(team)
        for (size_t i = 0; i < self->groups; i++) {
            const size_t own = team > 1 ? (size_t)own_number() : 0;
            const group_place at = place_of(self, i);
            float *v = scratch + own * entered_count(self);
            for (size_t b = 0; b < blocks; b++)
                transform_group(self, x, b, at.begin, at.count, v);
            for (size_t p = 0; p < pairs; p++)
                finish_group(self, p, at.begin, at.count, v, prepared, bias, other, y,
                             products + own * product_count(self));
        }
        return;
    }
    for (size_t i = 0; i < self->groups; i++) {
        const group_place at = place_of(self, i);
        KERNEL_PARALLEL(team)
        for (size_t b = 0; b < blocks; b++)
            transform_group(self, x, b, at.begin, at.count, scratch);
        KERNEL_PARALLEL(team)
        for (size_t p = 0; p < pairs; p++)
            finish_group(self, p, at.begin, at.count, scratch, prepared, bias, other, y,
                         products + (team > 1 ? (size_t)own_number() : 0) * product_count(self));
    }
}
