/* lib/base/random: the published vectors of Philox, moments, quantiles, orders. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "base/random.h"

/* Random123 1.14, kat_vectors: "philox4x32 10". */
START_TEST(philox_gives_the_published_vectors)
{
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint32_t out[4];
        random_philox(known[i].counter, known[i].key, out);
        for (int k = 0; k < 4; k++)
            ck_assert_uint_eq(out[k], known[i].expected[k]);
    }
}
END_TEST

/* Mean 0 and variance 1 within five standard errors; streams and seeds differ. */
START_TEST(draws_have_the_moments_of_their_distributions)
{
    enum { COUNT = 100000 };
    double sum = 0, square = 0, fourth = 0, uniform = 0, product = 0;
    for (uint64_t i = 0; i < COUNT; i++) {
        const double z = random_normal(7, random_stream(1, 2), i), u = random_uniform(7, 3, i);
        ck_assert(u > 0 && u < 1);
        sum += z;
        square += z * z;
        fourth += z * z * z * z;
        uniform += u;
        product += (u - 0.5) * (random_uniform(8, 3, i) - 0.5);
    }
    const double root = sqrt((double)COUNT);
    ck_assert_double_lt(fabs(sum / COUNT), 5 / root);
    ck_assert_double_lt(fabs(square / COUNT - 1), 5 * sqrt(2) / root);
    ck_assert_double_lt(fabs(fourth / COUNT - 3), 5 * sqrt(96) / root);
    ck_assert_double_lt(fabs(uniform / COUNT - 0.5), 5 * sqrt(1.0 / 12) / root);
    ck_assert_double_lt(fabs(product / COUNT), 5 * (1.0 / 12) / root);
}
END_TEST

/* 0.5 erfc(-x / sqrt(2)) of the C library is the inverse. */
START_TEST(quantile_inverts_the_distribution_function)
{
    static const double p[] = {1e-16, 1e-9, 1e-4,  0.07,   0.075,   0.2,
                               0.5,   0.6,  0.924, 0.9999, 1 - 1e-9};
    for (size_t i = 0; i < sizeof p / sizeof p[0]; i++) {
        const double x = random_normal_quantile(p[i]);
        ck_assert_double_eq_tol(0.5 * erfc(-x / sqrt(2)) / p[i], 1, 1e-13);
    }
    ck_assert(random_normal_quantile(0.5) == 0);
}
END_TEST

START_TEST(adding_normals_is_the_draws_one_by_one)
{
    float values[9];
    for (size_t i = 0; i < 9; i++)
        values[i] = (float)i;
    random_add_normal(3, 4, 0.5, 9, values);
    for (size_t i = 0; i < 9; i++)
        ck_assert(values[i] == (float)((double)(float)i + 0.5 * random_normal(3, 4, i)));
}
END_TEST

/* All 24 orders of four, each with 1/24 of the draws within five standard errors. */
START_TEST(permutations_are_equally_likely)
{
    enum { ROUNDS = 24000 };
    size_t seen[256] = {0}, kinds = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        size_t order[4];
        unsigned used = 0;
        random_permutation(1, random_stream(9, round), 4, order);
        for (int i = 0; i < 4; i++)
            used |= 1u << order[i];
        ck_assert_uint_eq(used, 15);
        seen[order[0] * 64 + order[1] * 16 + order[2] * 4 + order[3]]++;
    }
    for (int i = 0; i < 256; i++) {
        kinds += seen[i] > 0;
        if (seen[i] > 0)
            ck_assert_double_lt(fabs((double)seen[i] - 1000), 5 * sqrt(1000));
    }
    ck_assert_uint_eq(kinds, 24);
}
END_TEST

START_TEST(bounded_draws_reach_every_number_and_none_beyond)
{
    size_t seen[7] = {0};
    for (uint64_t i = 0; i < 7000; i++) {
        const uint64_t drawn = random_below(5, 6, i, 7);
        ck_assert_uint_lt(drawn, 7);
        seen[drawn]++;
    }
    for (int i = 0; i < 7; i++)
        ck_assert_double_lt(fabs((double)seen[i] - 1000), 5 * sqrt(1000));
    for (uint64_t i = 0; i < 100; i++)
        ck_assert_uint_lt(random_below(5, 6, i, UINT64_MAX), UINT64_MAX);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("random");
    TCase *tests = tcase_create("random");
    tcase_add_test(tests, philox_gives_the_published_vectors);
    tcase_add_test(tests, draws_have_the_moments_of_their_distributions);
    tcase_add_test(tests, quantile_inverts_the_distribution_function);
    tcase_add_test(tests, adding_normals_is_the_draws_one_by_one);
    tcase_add_test(tests, permutations_are_equally_likely);
    tcase_add_test(tests, bounded_draws_reach_every_number_and_none_beyond);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
