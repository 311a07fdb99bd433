/* Group and instance normalisation on channel blocks against double loops over the definition: blocks of 8 and 16, groups that
 * straddle blocks, one position, more positions than a chunk, every activation. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/kernels.h"

typedef struct sizes {
    size_t channels, groups, spatial;
} sizes;

static const sizes cases[] = {
    {1, 1, 5},    {3, 3, 1100}, {5, 1, 1},     {5, 5, 1},    {8, 8, 9},      {12, 4, 37},
    {30, 5, 130}, {40, 2, 49},  {36, 6, 1025}, {64, 32, 20}, {20, 20, 2300}, {48, 1, 257},
};
#define CASE_COUNT ((int)(sizeof cases / sizeof *cases))

static const activation activations[] = {
    {ACTIVATION_NONE, 0, 0},           {ACTIVATION_RELU, 0, 0},        {ACTIVATION_SILU, 0, 0},
    {ACTIVATION_LEAKY_RELU, 0.01f, 0}, {ACTIVATION_SIGMOID, 0, 0},     {ACTIVATION_ELU, 0.7f, 0},
    {ACTIVATION_GELU, 0, 0},           {ACTIVATION_CLIP, -0.5f, 0.8f}, {ACTIVATION_EXP, 0, 0},
};
#define ACTIVATION_COUNT (sizeof activations / sizeof *activations)

static double value_of(const activation *f, double x)
{
    const double a = (double)f->alpha, b = (double)f->beta;
    switch (f->kind) {
    case ACTIVATION_RELU:
        return x > 0 ? x : 0;
    case ACTIVATION_SILU:
        return x / (1 + exp(-x));
    case ACTIVATION_LEAKY_RELU:
        return x > 0 ? x : a * x;
    case ACTIVATION_SIGMOID:
        return 1 / (1 + exp(-x));
    case ACTIVATION_ELU:
        return x > 0 ? x : a * expm1(x);
    case ACTIVATION_GELU:
        return 0.5 * x * erfc(-x * M_SQRT1_2);
    case ACTIVATION_CLIP:
        return fmin(fmax(x, a), b);
    case ACTIVATION_EXP:
        return exp(x);
    default:
        return x;
    }
}

static double slope_of(const activation *f, double x)
{
    const double step = 1e-6;
    return (value_of(f, x + step) - value_of(f, x - step)) / (2 * step);
}

/* Within rounding of a jump of the slope. */
static bool is_at_kink(const activation *f, double x)
{
    const double near = 1e-4;
    if (f->kind == ACTIVATION_CLIP)
        return fabs(x - (double)f->alpha) < near || fabs(x - (double)f->beta) < near;
    return fabs(x) < near && (f->kind == ACTIVATION_RELU || f->kind == ACTIVATION_LEAKY_RELU ||
                              f->kind == ACTIVATION_ELU);
}

static uint32_t random_state = 1;

static float random_float(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)((int32_t)(random_state >> 8) - (1 << 23)) / (float)(1 << 23);
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

static void *room(size_t bytes)
{
    void *made = memory_allocate_aligned(bytes + 64);
    ck_assert_ptr_nonnull(made);
    memset(made, 0x55, bytes + 64); /* what is not written shows */
    return made;
}

/* Blocked maps with zeros in the padded lanes: `mean` and `spread` of each channel differ a little. */
static float *map(const sizes *of, int block, double mean, double spread)
{
    float *made = room(padded(of->channels, block) * of->spatial * sizeof *made);
    for (size_t c = 0; c < padded(of->channels, block); c++)
        for (size_t s = 0; s < of->spatial; s++)
            made[at(c, s, of->spatial, block)] =
                c < of->channels
                    ? (float)(mean + spread * ((double)(c % 3) + (double)random_float()))
                    : 0;
    return made;
}

/* By the definition, plain (channels, spatial), in double. */
static void define(const sizes *of, int block, const float *x, const float *scale,
                   const float *shift, double epsilon, const activation *f, const float *gy,
                   double *y, double *gx)
{
    const size_t width = of->channels / of->groups;
    const double count = (double)(width * of->spatial);
    for (size_t g = 0; g < of->groups; g++) {
        double mean = 0, variance = 0, level = 0, slope = 0;
        for (int pass = 0; pass < 4; pass++)
            for (size_t c = g * width; c < (g + 1) * width; c++)
                for (size_t s = 0; s < of->spatial; s++) {
                    const size_t i = at(c, s, of->spatial, block), o = c * of->spatial + s;
                    const double inverse = 1 / sqrt(variance + epsilon);
                    const double normal = ((double)x[i] - mean) * inverse;
                    const double z = normal * (double)scale[c] + (double)shift[c];
                    const double h = (double)gy[i] * slope_of(f, z) * (double)scale[c];
                    if (pass == 0)
                        mean += (double)x[i] / count;
                    if (pass == 1)
                        variance += pow((double)x[i] - mean, 2) / count;
                    if (pass == 2) {
                        level += h / count;
                        slope += h * normal / count;
                    }
                    if (pass == 3) {
                        y[o] = value_of(f, z);
                        gx[o] = inverse * (h - level - normal * slope);
                    }
                }
    }
}

static void assert_zero_padding(const float *values, const sizes *of, int block)
{
    for (size_t c = of->channels; c < padded(of->channels, block); c++)
        for (size_t s = 0; s < of->spatial; s++)
            if (values[at(c, s, of->spatial, block)] != 0)
                ck_abort_msg("padded lane %zu holds %g", c,
                             (double)values[at(c, s, of->spatial, block)]);
}

/* The largest difference beside the largest number (or 1). */
static double apart(const float *got, const double *want, const sizes *of, int block,
                    const float *before)
{
    double largest = 1, most = 0;
    for (size_t c = 0; c < of->channels; c++)
        for (size_t s = 0; s < of->spatial; s++) {
            const size_t i = at(c, s, of->spatial, block);
            const double wanted = want[c * of->spatial + s] + (before ? (double)before[i] : 0);
            /* At once: GCC 12.2 crashes on the choice within a maximum. */
            if (isnan((double)got[i]))
                return INFINITY;
            largest = fmax(largest, fabs(wanted));
            most = fmax(most, fabs((double)got[i] - wanted));
        }
    return most / largest;
}

static void compare(const sizes *of, int block, const activation *f, double mean, double spread,
                    double tolerance)
{
    const size_t lanes = padded(of->channels, block), count = lanes * of->spatial,
                 scratch_bytes = kernel_norm_scratch(of->channels, of->spatial, block);
    const float epsilon = 1e-4f;
    float *x = map(of, block, mean, spread), *gy = map(of, block, -1, 1),
          *before = map(of, block, 0, 1), *y[2], *gx[3];
    float *scale = room(lanes * sizeof *scale), *shift = room(lanes * sizeof *shift);
    float *factors = room(kernel_norm_factors(of->channels, block) * sizeof *factors);
    void *scratch = room(scratch_bytes);
    double *want_y = room(count * sizeof *want_y), *want_gx = room(count * sizeof *want_gx);
    for (size_t c = 0; c < of->channels; c++) {
        scale[c] = 1 + 0.5f * random_float();
        shift[c] = random_float();
    }
    /* No gradient comes to where rounding chooses between two slopes. */
    define(of, block, x, scale, shift, (double)epsilon, &activations[0], gy, want_y, want_gx);
    for (size_t c = 0; c < of->channels; c++)
        for (size_t s = 0; s < of->spatial; s++)
            if (is_at_kink(f, want_y[c * of->spatial + s]))
                gy[at(c, s, of->spatial, block)] = 0;
    define(of, block, x, scale, shift, (double)epsilon, f, gy, want_y, want_gx);
    for (int t = 0; t < 2; t++) {
        y[t] = room(count * sizeof **y);
        gx[t] = room(count * sizeof **gx);
        kernel_norm(x, scale, shift, epsilon, f, y[t], factors, scratch, of->channels, of->groups,
                    of->spatial, block, 1 + 2 * t);
        memset(scratch, 0x55, scratch_bytes);
        kernel_norm_backward(x, factors, f, gy, gx[t], scratch, of->channels, of->groups,
                             of->spatial, block, false, 1 + 2 * t);
    }
    gx[2] = room(count * sizeof **gx);
    memcpy(gx[2], before, count * sizeof **gx);
    kernel_norm_backward(x, factors, f, gy, gx[2], scratch, of->channels, of->groups, of->spatial,
                         block, true, 1);
    const double errors[] = {apart(y[0], want_y, of, block, NULL),
                             apart(gx[0], want_gx, of, block, NULL),
                             apart(gx[2], want_gx, of, block, before)};
    for (int k = 0; k < 3; k++)
        ck_assert_msg(errors[k] <= tolerance,
                      "%zu channels, %zu groups, %zu positions, f %d: %s %g", of->channels,
                      of->groups, of->spatial, (int)f->kind,
                      (const char *[]){"y", "gx", "gx added"}[k], errors[k]);
    assert_zero_padding(y[0], of, block);
    assert_zero_padding(gx[0], of, block);
    assert_zero_padding(gx[2], of, block);
    ck_assert_int_eq(memcmp(y[0], y[1], count * sizeof **y), 0); /* three threads */
    ck_assert_int_eq(memcmp(gx[0], gx[1], count * sizeof **gx), 0);
    void *all[] = {x, gy, before, scale, shift, factors, scratch, want_y, want_gx};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        memory_free(all[i]);
    for (int t = 0; t < 3; t++) {
        memory_free(gx[t]);
        if (t < 2)
            memory_free(y[t]);
    }
}

START_TEST(norms_and_their_gradients_follow_the_definition)
{
    for (size_t f = 0; f < ACTIVATION_COUNT; f++)
        for (int block = 8; block <= 16; block += 8)
            compare(&cases[_i], block, &activations[f], 0.3, 1, 4e-6);
}
END_TEST

/* Values of 3000 +- 1: sums of squares in float32 would leave nothing of the variance, and a mean
 * rounded to float32 would be off by 1e-4. */
START_TEST(large_means_cost_no_digits)
{
    for (int block = 8; block <= 16; block += 8) {
        compare(&cases[_i], block, &activations[0], 3000, 1, 4e-6);
        compare(&cases[_i], block, &activations[2], -3000, 1, 4e-6);
    }
}
END_TEST

/* The first value, from which differences are taken, is far from all others. */
START_TEST(an_outlier_at_the_first_place_costs_no_digits)
{
    const sizes of = {4, 2, 3000};
    float *x = map(&of, 8, 0, 1), scale[4] = {1, 1, 1, 1}, shift[4] = {0};
    float *y = room(8 * of.spatial * sizeof *y), *gy = map(&of, 8, 0, 1);
    float *factors = room(kernel_norm_factors(4, 8) * sizeof *factors);
    void *scratch = room(kernel_norm_scratch(4, of.spatial, 8));
    double *want = room(4 * of.spatial * sizeof *want),
           *unused = room(4 * of.spatial * sizeof *want);
    x[at(0, 0, of.spatial, 8)] = 1e6f;
    define(&of, 8, x, scale, shift, 1e-5, &activations[0], gy, want, unused);
    kernel_norm(x, scale, shift, 1e-5f, &activations[0], y, factors, scratch, 4, 2, of.spatial, 8,
                1);
    ck_assert_double_le(apart(y, want, &of, 8, NULL), 1e-6);
    void *all[] = {x, y, gy, factors, scratch, want, unused};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        memory_free(all[i]);
}
END_TEST

/* A NaN spoils its group and no other, also in the same block; a fused ReLU does not hide it. */
START_TEST(nan_stays_in_its_group)
{
    const sizes of = {6, 3, 70};
    for (size_t f = 0; f < 3; f++) {
        float *x = map(&of, 8, 0, 1), *gy = map(&of, 8, 0, 1), scale[6], shift[6] = {0};
        float *y = room(8 * of.spatial * sizeof *y), *gx = room(8 * of.spatial * sizeof *gx);
        float *factors = room(kernel_norm_factors(6, 8) * sizeof *factors);
        void *scratch = room(kernel_norm_scratch(6, of.spatial, 8));
        for (int c = 0; c < 6; c++)
            scale[c] = 1;
        x[at(2, 69, of.spatial, 8)] = _i ? NAN : INFINITY;
        kernel_norm(x, scale, shift, 1e-5f, &activations[f], y, factors, scratch, 6, 3, of.spatial,
                    8, 1);
        kernel_norm_backward(x, factors, &activations[f], gy, gx, scratch, 6, 3, of.spatial, 8,
                             false, 1);
        for (size_t c = 0; c < 6; c++)
            for (size_t s = 0; s < of.spatial; s++) {
                const size_t i = at(c, s, of.spatial, 8);
                ck_assert_int_eq(isnan((double)y[i]) != 0, c / 2 == 1);
                ck_assert_int_eq(isnan((double)gx[i]) != 0, c / 2 == 1);
            }
        void *all[] = {x, gy, y, gx, factors, scratch};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            memory_free(all[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("norm");
    TCase *all = tcase_create("all");
    tcase_set_timeout(all, 120);
    tcase_add_loop_test(all, norms_and_their_gradients_follow_the_definition, 0, CASE_COUNT);
    tcase_add_loop_test(all, large_means_cost_no_digits, 0, CASE_COUNT);
    tcase_add_test(all, an_outlier_at_the_first_place_costs_no_digits);
    tcase_add_loop_test(all, nan_stays_in_its_group, 0, 2);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
