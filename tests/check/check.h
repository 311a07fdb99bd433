/* The part of Check (libcheck) that the tests here use, for cross-compiled tests: Debian has no Check for Windows, and a foreign
 * architecture's is not at hand. Same names, same last line of output; but no fork: a crash ends the program, a failed check
 * leaves its test by longjmp() and what it had allocated. */
#ifndef CHECK_STAND_IN_H
#define CHECK_STAND_IN_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*check_function)(int index);
typedef struct TTest {
    const char *name;
    check_function run;
} TTest;
typedef struct Suite Suite;
typedef struct TCase TCase;
typedef struct SRunner SRunner;

enum { CK_ENV = 0, CK_NORMAL = 0, CK_VERBOSE = 0, CK_NOFORK = 0 };

Suite *suite_create(const char *name);
TCase *tcase_create(const char *name);
void suite_add_tcase(Suite *suite, TCase *tests);
void tcase_set_timeout(TCase *tests, double seconds);
void tcase_add_checked_fixture(TCase *tests, void (*setup)(void), void (*teardown)(void));
void check_add(TCase *tests, const TTest *test, int begin, int end);
SRunner *srunner_create(Suite *suite);
void srunner_run_all(SRunner *runner, int mode);
int srunner_ntests_failed(SRunner *runner);
void srunner_free(SRunner *runner);
_Noreturn void check_fail(const char *file, int line, const char *format, ...)
#if defined(__MINGW32__) && !defined(__clang__)
    __attribute__((__format__(__gnu_printf__, 3, 4)));
#else
    __attribute__((__format__(__printf__, 3, 4)));
#endif

#define tcase_add_test(tests, test) check_add(tests, test, 0, 1)
#define tcase_add_loop_test(tests, test, begin, end) check_add(tests, test, begin, end)

#define START_TEST(name)                                  \
    static void name##_run(int _i);                       \
    static const TTest name##_test = {#name, name##_run}; \
    static const TTest *const name = &name##_test;        \
    static void name##_run(int _i __attribute__((unused)))
#define END_TEST

#define ck_abort_msg(...) check_fail(__FILE__, __LINE__, __VA_ARGS__)
#define ck_assert_msg(holds, ...) ((holds) ? (void)0 : ck_abort_msg(__VA_ARGS__))
#define ck_assert(holds) ck_assert_msg(holds, "%s", #holds)

#define CHECK_COMPARE(type, format, a, op, b)                                                    \
    do {                                                                                         \
        const type check_a = (a), check_b = (b);                                                 \
        ck_assert_msg(check_a op check_b, "%s %s %s: " format ", " format, #a, #op, #b, check_a, \
                      check_b);                                                                  \
    } while (0)
#define ck_assert_int_eq(a, b) CHECK_COMPARE(intmax_t, "%jd", a, ==, b)
#define ck_assert_int_ne(a, b) CHECK_COMPARE(intmax_t, "%jd", a, !=, b)
#define ck_assert_int_lt(a, b) CHECK_COMPARE(intmax_t, "%jd", a, <, b)
#define ck_assert_int_le(a, b) CHECK_COMPARE(intmax_t, "%jd", a, <=, b)
#define ck_assert_int_gt(a, b) CHECK_COMPARE(intmax_t, "%jd", a, >, b)
#define ck_assert_int_ge(a, b) CHECK_COMPARE(intmax_t, "%jd", a, >=, b)
#define ck_assert_uint_eq(a, b) CHECK_COMPARE(uintmax_t, "%ju", a, ==, b)
#define ck_assert_uint_ne(a, b) CHECK_COMPARE(uintmax_t, "%ju", a, !=, b)
#define ck_assert_uint_lt(a, b) CHECK_COMPARE(uintmax_t, "%ju", a, <, b)
#define ck_assert_uint_le(a, b) CHECK_COMPARE(uintmax_t, "%ju", a, <=, b)
#define ck_assert_uint_gt(a, b) CHECK_COMPARE(uintmax_t, "%ju", a, >, b)
#define ck_assert_uint_ge(a, b) CHECK_COMPARE(uintmax_t, "%ju", a, >=, b)
#define ck_assert_double_eq(a, b) CHECK_COMPARE(double, "%.17g", a, ==, b)
#define ck_assert_double_ne(a, b) CHECK_COMPARE(double, "%.17g", a, !=, b)
#define ck_assert_double_lt(a, b) CHECK_COMPARE(double, "%.17g", a, <, b)
#define ck_assert_double_le(a, b) CHECK_COMPARE(double, "%.17g", a, <=, b)
#define ck_assert_double_gt(a, b) CHECK_COMPARE(double, "%.17g", a, >, b)
#define ck_assert_double_ge(a, b) CHECK_COMPARE(double, "%.17g", a, >=, b)
#define ck_assert_float_eq(a, b) CHECK_COMPARE(float, "%.9g", a, ==, b)
#define ck_assert_float_ne(a, b) CHECK_COMPARE(float, "%.9g", a, !=, b)
#define ck_assert_float_lt(a, b) CHECK_COMPARE(float, "%.9g", a, <, b)
#define ck_assert_float_le(a, b) CHECK_COMPARE(float, "%.9g", a, <=, b)
#define ck_assert_float_gt(a, b) CHECK_COMPARE(float, "%.9g", a, >, b)
#define ck_assert_float_ge(a, b) CHECK_COMPARE(float, "%.9g", a, >=, b)
#define ck_assert_double_eq_tol(a, b, tolerance)                                               \
    do {                                                                                       \
        const double check_c = (a), check_d = (b);                                             \
        ck_assert_msg(fabs(check_c - check_d) < (tolerance), "%s == %s: %.17g, %.17g", #a, #b, \
                      check_c, check_d);                                                       \
    } while (0)
#define ck_assert_float_eq_tol(a, b, tolerance) ck_assert_double_eq_tol(a, b, tolerance)
#define ck_assert_double_nan(a) ck_assert_msg(isnan(a), "%s is a number", #a)
#define ck_assert_double_finite(a) ck_assert_msg(isfinite(a), "%s is not finite", #a)
#define ck_assert_float_nan(a) ck_assert_double_nan(a)
#define ck_assert_float_finite(a) ck_assert_double_finite(a)
#define ck_assert_ptr_null(a) ck_assert_msg((a) == NULL, "%s is not NULL", #a)
#define ck_assert_ptr_nonnull(a) ck_assert_msg((a) != NULL, "%s is NULL", #a)
#define ck_assert_ptr_eq(a, b) \
    ck_assert_msg((const void *)(a) == (const void *)(b), "%s != %s", #a, #b)
#define ck_assert_ptr_ne(a, b) \
    ck_assert_msg((const void *)(a) != (const void *)(b), "%s == %s", #a, #b)
#define ck_assert_str_eq(a, b)                                                          \
    do {                                                                                \
        const char *check_s = (a), *check_t = (b);                                      \
        ck_assert_msg(check_s &&check_t &&strcmp(check_s, check_t) == 0,                \
                      "%s == %s: \"%s\", \"%s\"", #a, #b, check_s ? check_s : "(null)", \
                      check_t ? check_t : "(null)");                                    \
    } while (0)
#define ck_assert_str_ne(a, b) ck_assert_msg(strcmp(a, b) != 0, "%s == %s: \"%s\"", #a, #b, a)
#define ck_assert_mem_eq(a, b, size) ck_assert_msg(memcmp(a, b, size) == 0, "%s != %s", #a, #b)
#define ck_assert_mem_ne(a, b, size) ck_assert_msg(memcmp(a, b, size) != 0, "%s == %s", #a, #b)

#endif
