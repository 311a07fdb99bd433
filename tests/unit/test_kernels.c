/* The engine's own loops against straightforward double loops, on one and several threads, for blocks of 8 and 16. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/kernels.h"

static uint32_t random_state = 1;

static float random_float(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)((int32_t)(random_state >> 8) - (1 << 23)) / (float)(1 << 23);
}

static float *floats(size_t count, bool random)
{
    float *values = memory_allocate_aligned((count + 1) * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < count; i++)
        values[i] = random ? random_float() : 0.0f;
    return values;
}

static size_t padded(size_t channels, int block)
{
    return (channels + (size_t)block - 1) / (size_t)block * (size_t)block;
}

/* Position of (c, s) in a blocked buffer. */
static size_t at(size_t c, size_t s, size_t spatial, int block)
{
    return (c / (size_t)block * spatial + s) * (size_t)block + c % (size_t)block;
}

static float *blocked_random(size_t channels, size_t spatial, int block)
{
    float *values = floats(padded(channels, block) * spatial, false);
    for (size_t c = 0; c < channels; c++)
        for (size_t s = 0; s < spatial; s++)
            values[at(c, s, spatial, block)] = random_float();
    return values;
}

static void assert_close(double got, double want, double tolerance, const char *what, size_t where)
{
    /* An assertion that passes costs a system call, and there are millions. */
    if (!(fabs(got - want) <= tolerance || got == want))
        ck_abort_msg("%s at %zu: %.9g, expected %.9g", what, where, got, want);
}

static void assert_padding_zero(const float *values, size_t channels, size_t spatial, int block)
{
    for (size_t c = channels; c < padded(channels, block); c++)
        for (size_t s = 0; s < spatial; s++)
            if (values[at(c, s, spatial, block)] != 0)
                ck_abort_msg("padded lane %zu holds %g", c,
                             (double)values[at(c, s, spatial, block)]);
}

/* ---- activations ---- */

static double reference_activation(const activation *f, double x)
{
    const double a = (double)f->alpha, b = (double)f->beta;
    switch (f->kind) {
    case ACTIVATION_RELU:
        return x > 0 ? x : 0;
    case ACTIVATION_LEAKY_RELU:
        return x > 0 ? x : a * x;
    case ACTIVATION_ELU:
        return x > 0 ? x : a * expm1(x);
    case ACTIVATION_SELU:
        return b * (x > 0 ? x : a * expm1(x));
    case ACTIVATION_CELU:
        return fmax(0, x) + fmin(0, a * expm1(x / a));
    case ACTIVATION_SIGMOID:
        return 1 / (1 + exp(-x));
    case ACTIVATION_HARD_SIGMOID:
        return fmax(0, fmin(1, a * x + b));
    case ACTIVATION_HARD_SWISH:
        return x * fmax(0, fmin(1, x / 6 + 0.5));
    case ACTIVATION_TANH:
        return tanh(x);
    case ACTIVATION_SOFTPLUS:
        return fmax(x, 0) + log1p(exp(-fabs(x)));
    case ACTIVATION_SILU:
        return x / (1 + exp(-x));
    case ACTIVATION_GELU:
        return 0.5 * x * erfc(-x * M_SQRT1_2);
    case ACTIVATION_GELU_TANH:
        return x / (1 + exp(-2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case ACTIVATION_CLIP:
        return fmin(fmax(x, a), b);
    case ACTIVATION_EXP:
        return exp(x);
    case ACTIVATION_ABS:
        return fabs(x);
    case ACTIVATION_SQRT:
        return sqrt(x);
    default:
        return x;
    }
}

static const activation activations[] = {
    {ACTIVATION_NONE, 0, 0},
    {ACTIVATION_RELU, 0, 0},
    {ACTIVATION_LEAKY_RELU, 0.01f, 0},
    {ACTIVATION_LEAKY_RELU, -0.5f, 0},
    {ACTIVATION_ELU, 1.5f, 0},
    {ACTIVATION_ELU, -1, 0},
    {ACTIVATION_SELU, 1.67326319f, 1.05070102f},
    {ACTIVATION_CELU, 2, 0},
    {ACTIVATION_CELU, -2, 0},
    {ACTIVATION_SIGMOID, 0, 0},
    {ACTIVATION_HARD_SIGMOID, 0.2f, 0.5f},
    {ACTIVATION_HARD_SWISH, 0, 0},
    {ACTIVATION_TANH, 0, 0},
    {ACTIVATION_SOFTPLUS, 0, 0},
    {ACTIVATION_SILU, 0, 0},
    {ACTIVATION_GELU, 0, 0},
    {ACTIVATION_GELU_TANH, 0, 0},
    {ACTIVATION_CLIP, 0, 6},
    {ACTIVATION_CLIP, -1, 0.5f},
    {ACTIVATION_EXP, 0, 0},
    {ACTIVATION_ABS, 0, 0},
    {ACTIVATION_SQRT, 0, 0},
};
#define ACTIVATION_COUNT ((int)(sizeof activations / sizeof *activations))

/* Every 16411th float of the whole finite range: a quarter of a million values. */
static size_t float_sweep(float *out)
{
    size_t n = 0;
    for (uint64_t bits = 0; bits < (1ull << 32); bits += 16411) {
        const uint32_t word = (uint32_t)bits;
        float value;
        memcpy(&value, &word, sizeof value);
        if (isfinite(value))
            out[n++] = value;
    }
    return n;
}

START_TEST(activations_are_accurate_over_all_floats)
{
    const activation *f = &activations[_i];
    float *x = floats(1u << 18, false), *y = floats(1u << 18, false);
    const size_t n = float_sweep(x);
    kernel_activate(f, x, y, n, 2);
    for (size_t i = 0; i < n; i++) {
        const double want = reference_activation(f, (double)x[i]), got = (double)y[i];
        if (isnan(want)) {
            if (!isnan(got))
                ck_abort_msg("kind %d hides NaN", f->kind);
        } else if (fabs(want) > 3.4028236e38) { /* rounds to infinity */
            if (!(got == (double)INFINITY || fabs(got / want - 1) < 1e-6 || (got < 0 && want < 0)))
                ck_abort_msg("kind %d: f(%g) = %g", f->kind, (double)x[i], got);
        } else { /* results below the normal range may lose digits: their spacing is 1.4e-45 */
            double tolerance = 1e-6 * fabs(want) + 1e-42;
            if (f->kind == ACTIVATION_HARD_SIGMOID ||
                f->kind == ACTIVATION_HARD_SWISH) /* cancels near the border by design */
                tolerance += 1e-6 * fmin(1, fabs((double)x[i]));
            assert_close(got, want, tolerance, "activation", (size_t)f->kind * 100000000 + i);
        }
    }
    memory_free(x);
    memory_free(y);
}
END_TEST

/* Value and slope at once: the value as above, the slope as the backward kernel has it. */
START_TEST(values_and_slopes_at_once_agree)
{
    static const activation kinds[] = {
        {ACTIVATION_GELU, 0, 0}, {ACTIVATION_GELU_TANH, 0, 0}, {ACTIVATION_SILU, 0, 0}};
    const activation *f = &kinds[_i];
    float *x = floats(1u << 18, false), *y = floats(1u << 18, false),
          *slopes = floats(1u << 18, false), *want = floats(1u << 18, false),
          *ones = floats(1u << 18, false);
    ck_assert(activation_gives_slopes(f));
    size_t n = float_sweep(x);
    x[n++] = INFINITY;
    x[n++] = -INFINITY;
    x[n++] = NAN;
    for (size_t i = 0; i < n; i++)
        ones[i] = 1;
    kernel_activate_both(f, x, y, slopes, n, 2);
    kernel_activate_backward(f, x, ones, want, n, false, 2);
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i])) {
            ck_assert(isnan(y[i]) && isnan(slopes[i]));
            continue;
        }
        const double value =
            isinf(x[i]) ? (x[i] > 0 ? (double)x[i] : 0) : reference_activation(f, (double)x[i]);
        if (!isinf(value) && !isnan(value)) /* the formula's own infinity over infinity */
            assert_close((double)y[i], value, 1e-6 * fabs(value) + 1e-42, "value", i);
        /* Where neither is a normal number the two are cut off at different places. */
        assert_close((double)slopes[i], (double)want[i], 1e-6 * fabs((double)want[i]) + 5e-42,
                     "slope", i);
    }
    memory_free(x);
    memory_free(y);
    memory_free(slopes);
    memory_free(want);
    memory_free(ones);
}
END_TEST

START_TEST(activations_propagate_nan_and_accept_infinities)
{
    const activation *f = &activations[_i];
    float x[19], y[19], g[19], gx[19];
    for (int i = 0; i < 19; i++) {
        x[i] = i % 3 == 0 ? NAN : (i % 3 == 1 ? INFINITY : -INFINITY);
        g[i] = 1;
    }
    kernel_activate(f, x, y, 19, 1);
    kernel_activate_backward(f, activation_backward_uses_output(f) ? y : x, g, gx, 19, false, 1);
    for (int i = 0; i < 19; i++) {
        if (i % 3 == 0) {
            ck_assert_msg(isnan(y[i]), "kind %d hides NaN", f->kind);
            if (f->kind != ACTIVATION_NONE)
                ck_assert_msg(isnan(gx[i]), "kind %d hides NaN in its gradient", f->kind);
        } else if (f->kind != ACTIVATION_SQRT) {
            ck_assert_msg(!isnan(y[i]), "kind %d makes NaN of %g", f->kind, (double)x[i]);
        }
    }
}
END_TEST

/* Against central differences of the double function; tolerance from float rounding of y and the difference itself. */
START_TEST(activation_slopes_match_differences)
{
    const activation *f = &activations[_i];
    enum { N = 40013 };
    float *x = floats(N, true), *y = floats(N, false), *g = floats(N, true), *gx = floats(N, true),
          *sum = floats(N, true);
    for (int i = 0; i < N; i++) {
        x[i] = f->kind == ACTIVATION_SQRT ? 0.01f + fabsf(x[i]) * 9 : x[i] * 9;
        sum[i] = 0.5f;
    }
    kernel_activate(f, x, y, N, 1);
    const float *read = activation_backward_uses_output(f) ? y : x;
    kernel_activate_backward(f, read, g, gx, N, false, 2);
    kernel_activate_backward(f, read, g, sum, N, true, 1);
    for (int i = 0; i < N; i++) {
        const double v = (double)x[i], h = 1e-5;
        const double right = (reference_activation(f, v + h) - reference_activation(f, v)) / h;
        const double left = (reference_activation(f, v) - reference_activation(f, v - h)) / h;
        if (fabs(right - left) > 1e-2)
            continue; /* a kink */
        const double slope = (right + left) / 2;
        const double scale = 2 + fabs(slope);
        assert_close((double)gx[i], slope * (double)g[i], 4e-6 * scale, "slope", (size_t)i);
        assert_close((double)sum[i], 0.5 + (double)gx[i], 1e-7 + 1e-7 * fabs((double)gx[i]),
                     "accumulated slope", (size_t)i);
    }
    kernel_activate_backward(f, read, g, g, N, false, 1); /* in place */
    ck_assert_int_eq(memcmp(g, gx, N * sizeof *g), 0);
    kernel_activate(f, x, x, N, 2);
    ck_assert_int_eq(memcmp(x, y, N * sizeof *x), 0);
    memory_free(x);
    memory_free(y);
    memory_free(g);
    memory_free(gx);
    memory_free(sum);
}
END_TEST

START_TEST(relu_has_slope_zero_at_zero)
{
    const activation relu = {ACTIVATION_RELU, 0, 0};
    const float y[3] = {0, -0.0f, 1}, g[3] = {5, 5, 5};
    float gx[3];
    kernel_activate_backward(&relu, y, g, gx, 3, false, 1);
    ck_assert(gx[0] == 0 && gx[1] == 0 && gx[2] == 5);
}
END_TEST

START_TEST(keeps_zero_says_what_activations_do_to_zero)
{
    for (int i = 0; i < ACTIVATION_COUNT; i++) {
        const float zero = 0;
        float y;
        kernel_activate(&activations[i], &zero, &y, 1, 1);
        ck_assert_int_eq(activation_keeps_zero(&activations[i]), y == 0);
    }
}
END_TEST

/* ---- elementwise ---- */

START_TEST(sums_and_products_of_buffers)
{
    enum { N = 50021 };
    const activation relu = {ACTIVATION_RELU, 0, 0}, tanh_ = {ACTIVATION_TANH, 0, 0};
    float *a = floats(N, true), *b = floats(N, true), *y = floats(N, true), *z = floats(N, true);
    kernel_add(a, b, y, N, &relu, 2);
    kernel_add(a, b, z, N, &tanh_, 2);
    for (int i = 0; i < N; i++) {
        const float sum = a[i] + b[i];
        ck_assert(y[i] == (sum < 0 ? 0 : sum));
        assert_close((double)z[i], tanh((double)sum), 2e-7, "tanh of a sum", (size_t)i);
    }
    kernel_multiply(a, b, y, N, false, 2);
    for (int i = 0; i < N; i++)
        ck_assert(y[i] == a[i] * b[i]);
    memcpy(z, y, N * sizeof *z);
    kernel_multiply(a, b, z, N, true, 1);
    for (int i = 0; i < N; i++)
        assert_close((double)z[i], 2 * (double)y[i], 2e-7, "accumulated product", (size_t)i);
    memcpy(z, b, N * sizeof *z);
    kernel_accumulate(a, z, N, 2);
    for (int i = 0; i < N; i++)
        ck_assert(z[i] == a[i] + b[i]);
    kernel_add(a, b, b, N, NULL, 2); /* in place */
    ck_assert_int_eq(memcmp(b, z, N * sizeof *b), 0);
    memory_free(a);
    memory_free(b);
    memory_free(y);
    memory_free(z);
}
END_TEST

/* ---- layouts ---- */

static const int blocks[] = {8, 16};

START_TEST(blocking_round_trips_and_zeroes_padding)
{
    static const size_t sizes[][2] = {{3, 50},    {8, 1}, {58, 49},  {24, 300},
                                      {16, 5000}, {1, 1}, {33, 1025}};
    const int block = blocks[_i];
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const size_t channels = sizes[k][0], spatial = sizes[k][1];
        float *plain = floats(channels * spatial, true),
              *blocked = floats(padded(channels, block) * spatial, true);
        float *back = floats(channels * spatial, true);
        kernel_block(plain, blocked, channels, spatial, block, 2);
        for (size_t c = 0; c < channels; c++)
            for (size_t s = 0; s < spatial; s++)
                ck_assert(blocked[at(c, s, spatial, block)] == plain[c * spatial + s]);
        assert_padding_zero(blocked, channels, spatial, block);
        kernel_unblock(blocked, back, channels, spatial, block, 2);
        ck_assert_int_eq(memcmp(plain, back, channels * spatial * sizeof *plain), 0);
        memory_free(plain);
        memory_free(blocked);
        memory_free(back);
    }
}
END_TEST

START_TEST(channels_last_and_back)
{
    const int block = blocks[_i];
    const size_t channels = 48, spatial = 77; /* not whole tiles */
    float *blocked = blocked_random(channels, spatial, block),
          *last = floats(channels * spatial, true), *sum = floats(channels * spatial, true),
          *back = floats(channels * spatial, true);
    for (size_t i = 0; i < channels * spatial; i++)
        sum[i] = back[i] = 1;
    kernel_to_channels_last(blocked, last, channels, spatial, block, false, 2);
    kernel_to_channels_last(blocked, sum, channels, spatial, block, true, 1);
    for (size_t s = 0; s < spatial; s++)
        for (size_t c = 0; c < channels; c++) {
            const float expected = blocked[at(c, s, spatial, block)];
            ck_assert(last[s * channels + c] == expected);
            ck_assert(sum[s * channels + c] == 1 + expected);
        }
    kernel_from_channels_last(last, back, channels, spatial, block, true, 2);
    for (size_t i = 0; i < channels * spatial; i++)
        ck_assert(back[i] == 1 + blocked[i]);
    kernel_from_channels_last(last, back, channels, spatial, block, false, 2);
    ck_assert_int_eq(memcmp(back, blocked, channels * spatial * sizeof *back), 0);
    memory_free(blocked);
    memory_free(last);
    memory_free(sum);
    memory_free(back);
}
END_TEST

START_TEST(channel_ranges_copy_between_any_offsets)
{
    static const size_t ranges[][3] = {{0, 0, 16}, {8, 16, 24}, {3, 0, 5},   {0, 5, 40},
                                       {7, 9, 1},  {29, 0, 29}, {5, 13, 30}, {0, 24, 32}};
    const int block = blocks[_i];
    const size_t channels = 70, spatial = 613;
    float *src = blocked_random(channels, spatial, block),
          *dst = floats(padded(channels, block) * spatial, false);
    for (size_t k = 0; k < 2 * sizeof ranges / sizeof *ranges; k++) {
        const size_t *r = ranges[k / 2];
        const bool accumulate = k % 2;
        for (size_t i = 0; i < padded(channels, block) * spatial; i++)
            dst[i] = 2;
        kernel_copy_channels(src, r[0], dst, r[1], r[2], spatial, block, accumulate, 2);
        for (size_t c = 0; c < padded(channels, block); c++)
            for (size_t s = 0; s < spatial; s++) {
                float want = 2;
                if (c >= r[1] && c < r[1] + r[2])
                    want = src[at(c - r[1] + r[0], s, spatial, block)] + (accumulate ? 2 : 0);
                ck_assert(dst[at(c, s, spatial, block)] == want);
            }
    }
    memory_free(src);
    memory_free(dst);
}
END_TEST

/* ---- rectangles of one block ---- */

/* As it is and scaled: the rectangle has the bits of the whole map's, and nothing around it is written. */
START_TEST(rectangles_are_copied_and_scaled_within_their_borders)
{
    static const activation kinds[] = {
        {ACTIVATION_NONE, 0, 0}, {ACTIVATION_RELU, 0, 0}, {ACTIVATION_SIGMOID, 0, 0}};
    enum { ROWS = 3, WIDTH = 5, IN = 9, OUT = 7, TOP = 2, LEFT = 3 };
    const size_t block = (size_t)blocks[_i], channels = block - 3, most = 16 * IN * IN;
    float *x = blocked_random(channels, IN * IN, (int)block), *whole = floats(most, true),
          *y = floats(most, true), *scale = blocked_random(channels, 1, (int)block),
          *shift = blocked_random(channels, 1, (int)block);
    for (size_t k = 0; k <= 3; k++) { /* the last one: copied */
        const rectangle of = {.x = x + (TOP * IN + LEFT) * block,
                              .x_stride = IN * block,
                              .y = y + OUT * block,
                              .y_stride = OUT * block,
                              .rows = ROWS,
                              .count = WIDTH * block};
        for (size_t i = 0; i < most; i++)
            y[i] = 77;
        memcpy(whole, x, IN * IN * block * sizeof *x);
        if (k < 3) {
            kernel_scale_shift(x, scale, shift, &kinds[k], whole, channels, IN * IN, (int)block, 1);
            kernel_scale_shift_rows(&of, scale, shift, &kinds[k], channels, (int)block);
        } else {
            kernel_copy_rows(&of);
        }
        for (size_t r = 0; r < (size_t)OUT; r++)
            for (size_t i = 0; i < OUT * block; i++) {
                const bool inside = r > 0 && r <= ROWS && i < WIDTH * block;
                const float want = inside ? whole[((TOP + r - 1) * IN + LEFT) * block + i] : 77;
                ck_assert_msg(y[r * OUT * block + i] == want, "row %zu, element %zu", r, i);
            }
    }
    const rectangle odd = {x, 11, y, 13, 2, 10}; /* rows that are not whole vectors */
    y[10] = 77;
    kernel_copy_rows(&odd);
    ck_assert_mem_eq(y, x, 10 * sizeof *x);
    ck_assert_mem_eq(y + 13, x + 11, 10 * sizeof *x);
    ck_assert(y[10] == 77);
    memory_free(x);
    memory_free(whole);
    memory_free(y);
    memory_free(scale);
    memory_free(shift);
}
END_TEST

/* ---- per-channel factors ---- */

START_TEST(scale_shift_with_activation_and_its_gradient)
{
    static const activation kinds[] = {{ACTIVATION_NONE, 0, 0},
                                       {ACTIVATION_RELU, 0, 0},
                                       {ACTIVATION_SIGMOID, 0, 0},
                                       {ACTIVATION_CLIP, 0.5f, 2}};
    const int block = blocks[_i];
    const size_t channels = 21, spatial = 1500, count = padded(channels, block) * spatial;
    float *x = blocked_random(channels, spatial, block),
          *scale = blocked_random(channels, 1, block), *y = floats(count, true);
    float *shift = blocked_random(channels, 1, block),
          *gy = blocked_random(channels, spatial, block), *gx = floats(count, true);
    for (size_t k = 0; k < 4; k++) {
        const activation *f = &kinds[k];
        kernel_scale_shift(x, scale, shift, f, y, channels, spatial, block, 2);
        assert_padding_zero(y, channels, spatial, block);
        for (size_t c = 0; c < channels; c++)
            for (size_t s = 0; s < spatial; s++) {
                const size_t i = at(c, s, spatial, block);
                const double want =
                    reference_activation(f, (double)x[i] * (double)scale[c] + (double)shift[c]);
                assert_close((double)y[i], want, 3e-7, "scale and shift", i);
            }
        if (f->kind != ACTIVATION_NONE && f->kind != ACTIVATION_RELU)
            continue;
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            for (size_t i = 0; i < count; i++)
                gx[i] = 3;
            kernel_scale_shift_backward(x, scale, shift, f, gy, gx, channels, spatial, block,
                                        accumulate, 2);
            for (size_t c = 0; c < channels; c++)
                for (size_t s = 0; s < spatial; s++) {
                    const size_t i = at(c, s, spatial, block);
                    const double inner = (double)x[i] * (double)scale[c] + (double)shift[c];
                    if (fabs(inner) < 1e-6)
                        continue;
                    const double slope =
                        f->kind == ACTIVATION_RELU && inner < 0 ? 0 : (double)scale[c];
                    assert_close((double)gx[i], slope * (double)gy[i] + 3 * accumulate, 4e-7,
                                 "gradient of scale and shift", i);
                }
        }
    }
    memory_free(x);
    memory_free(y);
    memory_free(scale);
    memory_free(shift);
    memory_free(gy);
    memory_free(gx);
}
END_TEST

START_TEST(gates_and_their_gradients)
{
    const int block = blocks[_i];
    const size_t channels = 19, spatial = 2000, count = padded(channels, block) * spatial;
    float *x = blocked_random(channels, spatial, block), *gate = blocked_random(channels, 1, block),
          *y = floats(count, true);
    float *gy = blocked_random(channels, spatial, block), *gx = floats(count, false),
          *ggate = floats(padded(channels, block), true);
    kernel_gate(x, gate, y, channels, spatial, block, 2);
    kernel_gate_backward(x, gate, gy, gx, ggate, channels, spatial, block, true, false, 2);
    assert_padding_zero(y, channels, spatial, block);
    assert_padding_zero(ggate, channels, 1, block);
    for (size_t c = 0; c < channels; c++) {
        double sum = 0;
        for (size_t s = 0; s < spatial; s++) {
            const size_t i = at(c, s, spatial, block);
            assert_close((double)y[i], (double)x[i] * (double)gate[c], 1e-7, "gate", i);
            assert_close((double)gx[i], (double)gy[i] * (double)gate[c], 1e-7,
                         "gradient through the gate", i);
            sum += (double)x[i] * (double)gy[i];
        }
        assert_close((double)ggate[c], sum, 1e-5 * (1 + fabs(sum)), "gradient of the gate", c);
    }
    float *again = floats(padded(channels, block), false);
    memcpy(again, ggate, padded(channels, block) * sizeof *again);
    kernel_gate_backward(x, gate, gy, NULL, again, channels, spatial, block, false, true, 1);
    for (size_t c = 0; c < channels; c++)
        ck_assert(again[c] == 2 * ggate[c]);
    memory_free(again);
    memory_free(x);
    memory_free(y);
    memory_free(gate);
    memory_free(gy);
    memory_free(gx);
    memory_free(ggate);
}
END_TEST

START_TEST(global_average_and_its_gradient)
{
    static const size_t sizes[] = {1, 49, 3136, 50176};
    const int block = blocks[_i];
    const size_t channels = 11;
    for (size_t k = 0; k < 4; k++) {
        const size_t spatial = sizes[k];
        float *x = blocked_random(channels, spatial, block),
              *y = floats(padded(channels, block), true);
        for (size_t s = 0; s < spatial; s++)
            x[at(3, s, spatial, block)] +=
                1000; /* a large mean must not cost the small one's digits */
        kernel_global_average(x, y, channels, spatial, block, 2);
        assert_padding_zero(y, channels, 1, block);
        for (size_t c = 0; c < channels; c++) {
            double sum = 0;
            for (size_t s = 0; s < spatial; s++)
                sum += (double)x[at(c, s, spatial, block)];
            assert_close((double)y[c], sum / (double)spatial, c == 3 ? 3e-4 : 3e-7, "mean", c);
        }
        kernel_global_average_backward(y, x, channels, spatial, block, false, 2);
        kernel_global_average_backward(y, x, channels, spatial, block, true, 2);
        assert_padding_zero(x, channels, spatial, block);
        for (size_t c = 0; c < channels; c++)
            assert_close((double)x[at(c, spatial - 1, spatial, block)],
                         2 * (double)y[c] / (double)spatial, 1e-6 * fabs((double)y[c]),
                         "gradient of the mean", c);
        memory_free(x);
        memory_free(y);
    }
}
END_TEST

/* ---- pools ---- */

typedef struct pool_case {
    int rank;
    int64_t input[3], output[3], kernel[3], stride[3], dilation[3], pad_begin[3], pad_end[3];
} pool_case;

static const pool_case pools[] = {
    {2, {28, 28}, {14, 14}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}}, /* ResNet stem */
    {2, {28, 28}, {14, 14}, {2, 2}, {2, 2}, {1, 1}, {0, 0}, {0, 0}}, /* DenseNet transition, VGG */
    {2, {17, 17}, {17, 17}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}}, /* Inception */
    {2, {15, 13}, {7, 6}, {3, 3}, {2, 2}, {1, 1}, {0, 0}, {0, 0}},
    {2,
     {14, 14},
     {7, 7},
     {3, 3},
     {2, 2},
     {1, 1},
     {0, 0},
     {0, 0}}, /* ceil_mode: the last window hangs over */
    {2, {7, 9}, {1, 1}, {7, 9}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},   /* everything */
    {2, {12, 11}, {8, 9}, {3, 2}, {1, 1}, {2, 2}, {0, 0}, {0, 0}}, /* dilation */
    {2, {9, 9}, {6, 7}, {4, 3}, {2, 1}, {1, 2}, {2, 1}, {3, 1}},   /* asymmetric */
    {2, {8, 8}, {3, 3}, {2, 2}, {3, 3}, {1, 1}, {0, 0}, {0, 0}},   /* gaps between windows */
    {1, {50}, {25}, {3}, {2}, {1}, {1}, {1}},
    {3, {6, 7, 8}, {3, 4, 4}, {3, 3, 3}, {2, 2, 2}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}},
    {3, {4, 6, 6}, {2, 3, 3}, {2, 2, 2}, {2, 2, 2}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}},
};
#define POOL_COUNT ((int)(sizeof pools / sizeof *pools))

static window pool_window(const pool_case *c, size_t *in, size_t *out)
{
    window w = {.rank = c->rank, .groups = 1};
    *in = *out = 1;
    for (int i = 0; i < c->rank; i++) {
        w.kernel[i] = c->kernel[i];
        w.stride[i] = c->stride[i];
        w.dilation[i] = c->dilation[i];
        w.pad_begin[i] = c->pad_begin[i];
        w.pad_end[i] = c->pad_end[i];
        w.input[i] = c->input[i];
        w.output[i] = c->output[i];
        *in *= (size_t)c->input[i];
        *out *= (size_t)c->output[i];
    }
    return w;
}

/* The input positions under output `o` (row-major), how many, and how many lie in the padded input. */
static size_t pool_positions(const window *w, size_t o, size_t *positions, size_t *counted)
{
    int64_t out[3], tap[3] = {0};
    for (int i = w->rank - 1; i >= 0; i--) {
        out[i] = (int64_t)(o % (size_t)w->output[i]);
        o /= (size_t)w->output[i];
    }
    size_t n = 0;
    *counted = 0;
    while (tap[0] < w->kernel[0]) {
        bool inside = true, in_padded = true;
        size_t position = 0;
        for (int i = 0; i < w->rank; i++) {
            const int64_t p = out[i] * w->stride[i] + tap[i] * w->dilation[i] - w->pad_begin[i];
            inside = inside && p >= 0 && p < w->input[i];
            in_padded = in_padded && p < w->input[i] + w->pad_end[i];
            position = position * (size_t)w->input[i] + (size_t)p;
        }
        if (inside)
            positions[n++] = position;
        *counted += in_padded;
        for (int i = w->rank - 1; i >= 0; i--) {
            if (++tap[i] < w->kernel[i] || i == 0)
                break;
            tap[i] = 0;
        }
    }
    return n;
}

START_TEST(max_pool_takes_the_first_maximum_and_gives_it_the_gradient)
{
    const int block = blocks[_i % 2];
    size_t in, out, counted, positions[256];
    const window w = pool_window(&pools[_i / 2], &in, &out);
    const size_t channels = 21, padded_channels = padded(channels, block);
    float *x = blocked_random(channels, in, block), *y = floats(padded_channels * out, true),
          *only = floats(padded_channels * out, true);
    float *gy = blocked_random(channels, out, block), *gx = floats(padded_channels * in, true),
          *more = floats(padded_channels * in, false);
    int32_t *argmax = memory_allocate(padded_channels * out, sizeof *argmax);
    double *want = memory_allocate_zeroed(padded_channels * in, sizeof *want);
    for (size_t i = 0; i < padded_channels * in; i++)
        x[i] = rintf(x[i] * 4); /* many ties */
    kernel_max_pool(&w, x, y, argmax, channels, block, 2);
    kernel_max_pool(&w, x, only, NULL, channels, block, 1);
    ck_assert_int_eq(memcmp(y, only, padded_channels * out * sizeof *y), 0);
    assert_padding_zero(y, channels, out, block);
    for (size_t c = 0; c < channels; c++)
        for (size_t o = 0; o < out; o++) {
            const size_t n = pool_positions(&w, o, positions, &counted), i = at(c, o, out, block);
            size_t best = positions[0];
            for (size_t k = 1; k < n; k++)
                if (x[at(c, positions[k], in, block)] > x[at(c, best, in, block)])
                    best = positions[k];
            ck_assert(y[i] == x[at(c, best, in, block)]);
            ck_assert_int_eq(argmax[i], (int)best);
            want[at(c, best, in, block)] += (double)gy[i];
        }
    kernel_max_pool_backward(&w, argmax, gy, gx, channels, block, false, 2);
    for (size_t i = 0; i < padded_channels * in; i++) {
        more[i] = 1;
        assert_close((double)gx[i], want[i], 1e-6, "gradient of max pool", i);
    }
    kernel_max_pool_backward(&w, argmax, gy, more, channels, block, true, 1);
    for (size_t i = 0; i < padded_channels * in; i++)
        assert_close((double)more[i], 1 + want[i], 1e-6, "accumulated gradient of max pool", i);
    memory_free(x);
    memory_free(y);
    memory_free(only);
    memory_free(gy);
    memory_free(gx);
    memory_free(more);
    memory_free(argmax);
    memory_free(want);
}
END_TEST

START_TEST(average_pool_divides_by_what_onnx_counts)
{
    const int block = blocks[_i % 2];
    size_t in, out, counted, positions[256];
    const window w = pool_window(&pools[_i / 2], &in, &out);
    const size_t channels = 21, padded_channels = padded(channels, block);
    float *x = blocked_random(channels, in, block), *y = floats(padded_channels * out, true),
          *gx = floats(padded_channels * in, true);
    float *gy = blocked_random(channels, out, block), *more = floats(padded_channels * in, false);
    double *want = memory_allocate(padded_channels * in, sizeof *want);
    for (int include = 0; include < 2; include++) {
        memset(want, 0, padded_channels * in * sizeof *want);
        kernel_average_pool(&w, include, x, y, channels, block, 2);
        assert_padding_zero(y, channels, out, block);
        for (size_t c = 0; c < channels; c++)
            for (size_t o = 0; o < out; o++) {
                const size_t n = pool_positions(&w, o, positions, &counted),
                             i = at(c, o, out, block);
                const double divisor = (double)(include ? counted : n);
                double sum = 0;
                for (size_t k = 0; k < n; k++) {
                    sum += (double)x[at(c, positions[k], in, block)];
                    want[at(c, positions[k], in, block)] += (double)gy[i] / divisor;
                }
                assert_close((double)y[i], sum / divisor, 1e-6, "average pool", i);
            }
        kernel_average_pool_backward(&w, include, gy, gx, channels, block, false, 2);
        for (size_t i = 0; i < padded_channels * in; i++) {
            more[i] = 1;
            assert_close((double)gx[i], want[i], 2e-6, "gradient of average pool", i);
        }
        kernel_average_pool_backward(&w, include, gy, more, channels, block, true, 1);
        for (size_t i = 0; i < padded_channels * in; i++)
            assert_close((double)more[i], 1 + want[i], 2e-6, "accumulated gradient of average pool",
                         i);
    }
    memory_free(x);
    memory_free(y);
    memory_free(gy);
    memory_free(gx);
    memory_free(more);
    memory_free(want);
}
END_TEST

START_TEST(max_pool_propagates_the_first_nan)
{
    const window w = {.rank = 1,
                      .groups = 1,
                      .kernel = {3},
                      .stride = {3},
                      .dilation = {1},
                      .input = {9},
                      .output = {3}};
    float x[9 * 8], y[3 * 8], without[3 * 8];
    int32_t argmax[3 * 8];
    for (int i = 0; i < 72; i++)
        x[i] = (float)i;
    x[0 * 8] = NAN; /* first of a window, before larger values */
    x[4 * 8] = NAN;
    x[5 * 8] = NAN;
    x[8 * 8] = NAN; /* last */
    kernel_max_pool(&w, x, y, argmax, 8, 8, 1);
    kernel_max_pool(&w, x, without, NULL, 8, 8, 1);
    for (int o = 0; o < 3; o++)
        ck_assert(isnan(y[o * 8]) && isnan(without[o * 8]) && !isnan(y[o * 8 + 1]));
    ck_assert_int_eq(argmax[0], 0);
    ck_assert_int_eq(argmax[8], 4);
    ck_assert_int_eq(argmax[16], 8);
}
END_TEST

/* ---- matrices and rows ---- */

START_TEST(matrix_vector_products)
{
    static const size_t sizes[][2] = {{1000, 2048}, {14, 1024}, {3, 5}, {100, 33},
                                      {2, 25088},   {4096, 64}, {1, 1}};
    for (size_t t = 0; t < sizeof sizes / sizeof *sizes; t++) {
        const size_t n = sizes[t][0], k = sizes[t][1];
        float *weights = floats(n * k, true), *x = floats(k, true), *bias = floats(n, true),
              *y = floats(n, true), *gy = floats(n, true);
        float *gx = floats(k, true), *one = floats(k > n ? k : n, true);
        gy[0] = 0;
        kernel_matrix_vector(weights, x, bias, y, n, k, 2);
        for (size_t i = 0; i < n; i++) {
            double sum = (double)bias[i];
            for (size_t j = 0; j < k; j++)
                sum += (double)weights[i * k + j] * (double)x[j];
            assert_close((double)y[i], sum, 3e-7 * sqrt((double)k) + 1e-7 * fabs(sum),
                         "matrix times vector", i);
        }
        kernel_matrix_vector(weights, x, bias, one, n, k, 1);
        ck_assert_int_eq(memcmp(one, y, n * sizeof *y), 0);
        for (size_t j = 0; j < k; j++)
            gx[j] = 1;
        kernel_vector_matrix(weights, gy, gx, n, k, true, 2);
        kernel_vector_matrix(weights, gy, one, n, k, false, 1);
        for (size_t j = 0; j < k; j++) {
            double sum = 0;
            for (size_t i = 0; i < n; i++)
                sum += (double)weights[i * k + j] * (double)gy[i];
            assert_close((double)one[j], sum, 3e-7 * sqrt((double)n), "vector times matrix", j);
            assert_close((double)gx[j], 1 + sum, 4e-7 * sqrt((double)n),
                         "accumulated vector times matrix", j);
        }
        memory_free(weights);
        memory_free(x);
        memory_free(bias);
        memory_free(y);
        memory_free(gy);
        memory_free(gx);
        memory_free(one);
    }
}
END_TEST

START_TEST(softmax_and_its_gradient)
{
    static const size_t widths[] = {1, 2, 7, 49, 197, 1000};
    for (size_t t = 0; t < sizeof widths / sizeof *widths; t++) {
        const size_t rows = 37, width = widths[t], count = rows * width;
        float *x = floats(count, true), *y = floats(count, true), *gy = floats(count, true),
              *gx = floats(count, true);
        for (size_t i = 0; i < count; i++) {
            x[i] = x[i] * 20 + 300; /* e^300 overflows unless the maximum is taken away */
            gx[i] = 1;
        }
        kernel_softmax(x, y, rows, width, 2);
        kernel_softmax_backward(y, gy, gx, rows, width, true, 2);
        for (size_t r = 0; r < rows; r++) {
            const float *row = x + r * width;
            double top = (double)row[0], sum = 0, inner = 0;
            for (size_t i = 1; i < width; i++)
                top = (double)row[i] > top ? (double)row[i] : top;
            for (size_t i = 0; i < width; i++)
                sum += exp((double)row[i] - top);
            for (size_t i = 0; i < width; i++) {
                const double want = exp((double)row[i] - top) / sum;
                assert_close((double)y[r * width + i], want, 1e-6 * want + 1e-42, "softmax", i);
                inner += want * (double)gy[r * width + i];
            }
            for (size_t i = 0; i < width; i++)
                assert_close((double)gx[r * width + i],
                             1 + (double)y[r * width + i] * ((double)gy[r * width + i] - inner),
                             1e-6, "gradient of softmax", i);
        }
        x[0] = NAN;
        kernel_softmax(x, y, rows, width, 1);
        ck_assert(isnan(y[0]) && isnan(y[width - 1]) && !isnan(y[width]));
        memory_free(x);
        memory_free(y);
        memory_free(gy);
        memory_free(gx);
    }
}
END_TEST

START_TEST(layer_norm_and_its_gradient)
{
    static const size_t widths[] = {1, 5, 96, 768, 1027};
    for (size_t t = 0; t < sizeof widths / sizeof *widths; t++) {
        const size_t rows = 23, width = widths[t], count = rows * width;
        const double epsilon = 1e-5;
        float *x = floats(count, true), *y = floats(count, true), *gy = floats(count, true),
              *gx = floats(count, false);
        float *scale = floats(width, true), *shift = floats(width, true);
        for (size_t i = 0; i < count; i++)
            x[i] += 10;
        kernel_layer_norm(x, scale, shift, (float)epsilon, y, rows, width, 2);
        kernel_layer_norm_backward(x, scale, (float)epsilon, gy, gx, rows, width, true, 2);
        for (size_t r = 0; r < rows; r++) {
            double mean = 0, variance = 0, h_mean = 0, product_mean = 0;
            for (size_t i = 0; i < width; i++)
                mean += (double)x[r * width + i] / (double)width;
            for (size_t i = 0; i < width; i++)
                variance += pow((double)x[r * width + i] - mean, 2) / (double)width;
            const double inverse = 1 / sqrt(variance + (double)(float)epsilon);
            for (size_t i = 0; i < width; i++) {
                const double n = ((double)x[r * width + i] - mean) * inverse,
                             h = (double)gy[r * width + i] * (double)scale[i];
                assert_close((double)y[r * width + i], n * (double)scale[i] + (double)shift[i],
                             1e-6, "layer norm", i);
                h_mean += h / (double)width;
                product_mean += h * n / (double)width;
            }
            for (size_t i = 0; i < width; i++) {
                const double n = ((double)x[r * width + i] - mean) * inverse,
                             h = (double)gy[r * width + i] * (double)scale[i];
                assert_close((double)gx[r * width + i], inverse * (h - h_mean - n * product_mean),
                             1e-6 * (1 + inverse), "gradient of layer norm", i);
            }
        }
        kernel_layer_norm(x, NULL, NULL, (float)epsilon, y, rows, width,
                          1); /* neither scale nor shift */
        kernel_layer_norm_backward(x, NULL, (float)epsilon, gy, gx, rows, width, false, 1);
        memory_free(x);
        memory_free(y);
        memory_free(gy);
        memory_free(gx);
        memory_free(scale);
        memory_free(shift);
    }
}
END_TEST

/* ---- threads ---- */

START_TEST(bits_do_not_depend_on_threads)
{
    const size_t channels = 40, spatial = 56 * 56, count = 40 * 56 * 56;
    const activation gelu = {ACTIVATION_GELU, 0, 0};
    float *x = blocked_random(channels, spatial, 8), *gate = blocked_random(channels, 1, 8), *y[3],
          *sums[3];
    static const int threads[] = {1, 2, 3};
    for (int t = 0; t < 3; t++) {
        y[t] = floats(count, true);
        sums[t] = floats(channels, true);
        kernel_scale_shift(x, gate, gate, &gelu, y[t], channels, spatial, 8, threads[t]);
        kernel_gate_backward(x, gate, y[t], y[t], sums[t], channels, spatial, 8, false, false,
                             threads[t]);
        ck_assert_int_eq(memcmp(y[0], y[t], count * sizeof(float)), 0);
        ck_assert_int_eq(memcmp(sums[0], sums[t], channels * sizeof(float)), 0);
    }
    for (int t = 0; t < 3; t++) {
        memory_free(y[t]);
        memory_free(sums[t]);
    }
    memory_free(x);
    memory_free(gate);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernels");
    TCase *all = tcase_create("kernels");
    tcase_set_timeout(all, 300);
    tcase_add_loop_test(all, activations_are_accurate_over_all_floats, 0, ACTIVATION_COUNT);
    tcase_add_loop_test(all, values_and_slopes_at_once_agree, 0, 3);
    tcase_add_loop_test(all, activations_propagate_nan_and_accept_infinities, 0, ACTIVATION_COUNT);
    tcase_add_loop_test(all, activation_slopes_match_differences, 0, ACTIVATION_COUNT);
    tcase_add_test(all, relu_has_slope_zero_at_zero);
    tcase_add_test(all, keeps_zero_says_what_activations_do_to_zero);
    tcase_add_test(all, sums_and_products_of_buffers);
    tcase_add_loop_test(all, blocking_round_trips_and_zeroes_padding, 0, 2);
    tcase_add_loop_test(all, channels_last_and_back, 0, 2);
    tcase_add_loop_test(all, channel_ranges_copy_between_any_offsets, 0, 2);
    tcase_add_loop_test(all, rectangles_are_copied_and_scaled_within_their_borders, 0, 2);
    tcase_add_loop_test(all, scale_shift_with_activation_and_its_gradient, 0, 2);
    tcase_add_loop_test(all, gates_and_their_gradients, 0, 2);
    tcase_add_loop_test(all, global_average_and_its_gradient, 0, 2);
    tcase_add_loop_test(all, max_pool_takes_the_first_maximum_and_gives_it_the_gradient, 0,
                        2 * POOL_COUNT);
    tcase_add_loop_test(all, average_pool_divides_by_what_onnx_counts, 0, 2 * POOL_COUNT);
    tcase_add_test(all, max_pool_propagates_the_first_nan);
    tcase_add_test(all, matrix_vector_products);
    tcase_add_test(all, softmax_and_its_gradient);
    tcase_add_test(all, layer_norm_and_its_gradient);
    tcase_add_test(all, bits_do_not_depend_on_threads);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
