/* The own depthwise kernel against double loops, over windows that leave the map on any side, and its gradient. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/kernels_depthwise.h"

typedef struct geometry {
    size_t channels, input[2], taps[2], stride[2], begin[2], end[2];
} geometry;

/* Widths around the eight columns that are computed at once, windows wider than the map, strides that differ. */
static const geometry cases[] = {
    {8, {14, 14}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},  {20, {17, 23}, {3, 3}, {2, 2}, {1, 1}, {1, 1}},
    {24, {29, 15}, {5, 5}, {2, 2}, {2, 2}, {2, 2}}, {40, {7, 7}, {5, 5}, {1, 1}, {2, 2}, {2, 2}},
    {13, {13, 30}, {3, 3}, {2, 2}, {0, 0}, {1, 1}}, {16, {15, 16}, {5, 5}, {2, 2}, {1, 2}, {2, 1}},
    {5, {1, 40}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},   {5, {40, 1}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {9, {2, 3}, {5, 5}, {1, 1}, {4, 3}, {2, 4}},    {8, {11, 9}, {7, 3}, {1, 2}, {3, 0}, {3, 2}},
    {8, {9, 12}, {1, 5}, {2, 1}, {0, 4}, {0, 0}},   {32, {33, 65}, {3, 3}, {1, 1}, {0, 2}, {2, 0}},
    {1, {8, 8}, {3, 3}, {2, 1}, {1, 0}, {0, 0}},    {8, {6, 17}, {5, 3}, {3, 1}, {2, 1}, {2, 1}},
    {8, {4, 4}, {3, 3}, {1, 1}, {5, 5}, {5, 5}},    {17, {112, 56}, {3, 3}, {2, 2}, {1, 1}, {1, 1}},
};
#define CASE_COUNT ((int)(sizeof cases / sizeof *cases))

static const activation posts[] = {
    {ACTIVATION_NONE, 0, 0}, {ACTIVATION_RELU, 0, 0},       {ACTIVATION_CLIP, 0, 6},
    {ACTIVATION_SILU, 0, 0}, {ACTIVATION_HARD_SWISH, 0, 0},
};
#define POST_COUNT ((int)(sizeof posts / sizeof *posts))

static const int blocks[] = {8, 16};

static depthwise planned(const geometry *c, int block, int threads)
{
    depthwise d = {.block = block, .channels = c->channels, .threads = threads};
    for (int i = 0; i < 2; i++) {
        d.input[i] = c->input[i];
        d.taps[i] = c->taps[i];
        d.stride[i] = c->stride[i];
        d.pad[i] = c->begin[i];
        d.output[i] = (c->input[i] + c->begin[i] + c->end[i] - c->taps[i]) / c->stride[i] + 1;
    }
    return d;
}

static float next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)((int32_t)(*state >> 8) - (1 << 23)) / (float)(1 << 23);
}

/* Blocked (channels, places), with zeros behind the last channel. */
static float *random_blocked(size_t channels, size_t places, int block, uint32_t *state)
{
    const size_t b = (size_t)block, count = kernel_pieces(channels, b) * b * places;
    float *out = memory_allocate_aligned((count + 1) * sizeof *out);
    memset(out, 0, count * sizeof *out);
    for (size_t c = 0; c < channels; c++)
        for (size_t s = 0; s < places; s++)
            out[(c / b * places + s) * b + c % b] = next(state);
    return out;
}

static size_t places_of(const size_t sizes[2])
{
    return sizes[0] * sizes[1];
}

/* The sum over taps of one output, by the definition. */
static double sum_at(const depthwise *d, const float *x, const float *weights, size_t c, size_t row,
                     size_t column)
{
    const size_t b = (size_t)d->block;
    double sum = 0;
    for (size_t i = 0; i < d->taps[0]; i++)
        for (size_t j = 0; j < d->taps[1]; j++) {
            const size_t y = row * d->stride[0] + i - d->pad[0],
                         z = column * d->stride[1] + j - d->pad[1]; /* wrap on padding */
            if (y < d->input[0] && z < d->input[1])
                sum += (double)weights[(c * d->taps[0] + i) * d->taps[1] + j] *
                       (double)x[((c / b * d->input[0] + y) * d->input[1] + z) * b + c % b];
        }
    return sum;
}

static double activated(const activation *f, double v)
{
    switch (f->kind) {
    case ACTIVATION_RELU:
        return fmax(v, 0);
    case ACTIVATION_CLIP:
        return fmin(fmax(v, (double)f->alpha), (double)f->beta);
    case ACTIVATION_SILU:
        return v / (1 + exp(-v));
    case ACTIVATION_HARD_SWISH:
        return v * fmin(fmax(v / 6 + 0.5, 0), 1);
    default:
        return v;
    }
}

START_TEST(rows_follow_the_definition_for_any_number_of_threads)
{
    const geometry *c = &cases[_i % CASE_COUNT];
    const int block = blocks[_i / CASE_COUNT];
    depthwise d = planned(c, block, 1);
    if (!depthwise_supported(&d))
        return;
    uint32_t state = (uint32_t)_i + 1;
    const size_t b = (size_t)block, out = places_of(d.output), taps = places_of(d.taps),
                 count = kernel_pieces(c->channels, b) * b * out;
    float *x = random_blocked(c->channels, places_of(d.input), block, &state),
          *weights = memory_allocate(c->channels * taps, sizeof *weights),
          *bias = random_blocked(c->channels, 1, block, &state),
          *prepared = memory_allocate_aligned(depthwise_weights_bytes(&d)),
          *y = memory_allocate_aligned(count * sizeof *y),
          *again = memory_allocate_aligned(count * sizeof *y);
    for (size_t i = 0; i < c->channels * taps; i++)
        weights[i] = next(&state);
    depthwise_prepare(&d, (const char *)weights, false, prepared);
    for (int p = 0; p < POST_COUNT; p++) {
        d.post = posts[p];
        memset(y, 0xFF, count * sizeof *y);
        depthwise_run(&d, x, prepared, p == 0 ? NULL : bias, y);
        for (size_t i = 0; i < count; i++) {
            const size_t at = i / (b * out) * b + i % b, place = i / b % out;
            double want = 0; /* behind the last channel */
            if (at < c->channels)
                want = activated(
                    &d.post, sum_at(&d, x, weights, at, place / d.output[1], place % d.output[1]) +
                                 (p == 0 ? 0 : (double)bias[at / b * b + at % b]));
            if (!(fabs((double)y[i] - want) <= 4e-6)) /* sums of at most 25 products below 1 */
                ck_abort_msg("channel %zu place %zu: %g, not %g", at, place, (double)y[i], want);
        }
        for (int threads = 2; threads <= 4; threads++) {
            depthwise other = d;
            other.threads = threads;
            memset(again, 0xFF, count * sizeof *y);
            depthwise_run(&other, x, prepared, p == 0 ? NULL : bias, again);
            ck_assert(memcmp(y, again, count * sizeof *y) == 0);
        }
    }
    memory_free(x);
    memory_free(weights);
    memory_free(bias);
    memory_free(prepared);
    memory_free(y);
    memory_free(again);
}
END_TEST

/* <h, conv(x)> = <gradient(h), x>: taps turned round are the adjoint, for stride 1. */
START_TEST(turned_taps_give_the_gradient)
{
    const geometry *c = &cases[_i % CASE_COUNT];
    const int block = blocks[_i / CASE_COUNT];
    depthwise d = planned(c, block, 1), g = d;
    if (!depthwise_supported(&d) || c->stride[0] != 1 || c->stride[1] != 1)
        return;
    for (int i = 0; i < 2; i++) {
        if (c->begin[i] >= c->taps[i])
            return;
        g.input[i] = d.output[i];
        g.output[i] = d.input[i];
        g.pad[i] = d.taps[i] - 1 - d.pad[i];
    }
    uint32_t state = (uint32_t)_i + 5;
    const size_t b = (size_t)block, padded = kernel_pieces(c->channels, b) * b,
                 in = padded * places_of(d.input), out = padded * places_of(d.output),
                 count = c->channels * places_of(d.taps);
    float *x = random_blocked(c->channels, places_of(d.input), block, &state),
          *h = random_blocked(c->channels, places_of(d.output), block, &state),
          *weights = memory_allocate(count, sizeof *weights),
          *prepared = memory_allocate_aligned(depthwise_weights_bytes(&d)),
          *y = memory_allocate_aligned(out * sizeof *y),
          *gradient = memory_allocate_aligned(in * sizeof *y);
    for (size_t i = 0; i < count; i++)
        weights[i] = next(&state);
    depthwise_prepare(&d, (const char *)weights, false, prepared);
    depthwise_run(&d, x, prepared, NULL, y);
    depthwise_prepare(&g, (const char *)weights, true, prepared);
    depthwise_run(&g, h, prepared, NULL, gradient);
    double forward = 0, backward = 0, size = 0;
    for (size_t i = 0; i < out; i++)
        forward += (double)h[i] * (double)y[i], size += fabs((double)h[i] * (double)y[i]);
    for (size_t i = 0; i < in; i++)
        backward += (double)gradient[i] * (double)x[i];
    ck_assert_msg(fabs(forward - backward) <= 1e-6 * size, "%g and %g", forward, backward);
    memory_free(x);
    memory_free(h);
    memory_free(weights);
    memory_free(prepared);
    memory_free(y);
    memory_free(gradient);
}
END_TEST

START_TEST(nan_passes_and_stays_where_it_can_reach)
{
    const geometry c = {8, {6, 20}, {3, 3}, {1, 1}, {1, 1}, {1, 1}};
    depthwise d = planned(&c, 8, 1);
    if (!depthwise_supported(&d))
        return;
    uint32_t state = 3;
    float *x = random_blocked(8, 120, 8, &state), weights[72], prepared[72];
    float *y = memory_allocate_aligned(960 * sizeof *y);
    for (size_t i = 0; i < 72; i++)
        weights[i] = next(&state);
    depthwise_prepare(&d, (const char *)weights, false, prepared);
    x[(2 * 20 + 7) * 8 + 3] = NAN;
    for (int p = 0; p < 3; p++) {
        d.post = posts[p];
        depthwise_run(&d, x, prepared, NULL, y);
        for (size_t i = 0; i < 960; i++) {
            const size_t row = i / 160, column = i / 8 % 20;
            const bool reached = i % 8 == 3 && row >= 1 && row <= 3 && column >= 6 && column <= 8;
            ck_assert_int_eq(isnan(y[i]) != 0, reached);
        }
    }
    memory_free(x);
    memory_free(y);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("depthwise");
    TCase *all = tcase_create("all");
    tcase_set_timeout(all, 120);
    tcase_add_loop_test(all, rows_follow_the_definition_for_any_number_of_threads, 0,
                        2 * CASE_COUNT);
    tcase_add_loop_test(all, turned_taps_give_the_gradient, 0, 2 * CASE_COUNT);
    tcase_add_test(all, nan_passes_and_stays_where_it_can_reach);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
