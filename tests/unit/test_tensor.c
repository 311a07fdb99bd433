/* lib/tensor: shapes, element access, half precision. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "tensor/tensor.h"

static const int32_t numeric[] = {DTYPE_FLOAT,   DTYPE_UINT8,  DTYPE_INT8,   DTYPE_UINT16,
                                  DTYPE_INT16,   DTYPE_INT32,  DTYPE_INT64,  DTYPE_BOOL,
                                  DTYPE_FLOAT16, DTYPE_DOUBLE, DTYPE_UINT32, DTYPE_UINT64,
                                  DTYPE_BFLOAT16};
#define NUMERIC_COUNT (sizeof numeric / sizeof *numeric)

START_TEST(dtype_sizes_and_names)
{
    static const size_t sizes[] = {4, 1, 1, 2, 2, 4, 8, 1, 2, 8, 4, 8, 2};
    for (size_t i = 0; i < NUMERIC_COUNT; i++)
        ck_assert_uint_eq(dtype_size(numeric[i]), sizes[i]);
    ck_assert_uint_eq(dtype_size(DTYPE_STRING), 0);
    ck_assert_uint_eq(dtype_size(14), 0); /* complex */
    ck_assert_uint_eq(dtype_size(-1), 0);
    ck_assert_uint_eq(dtype_size(1000), 0);
    ck_assert_str_eq(dtype_name(DTYPE_FLOAT), "float32");
    ck_assert_str_eq(dtype_name(DTYPE_BFLOAT16), "bfloat16");
    ck_assert_str_eq(dtype_name(15), "unknown");
    ck_assert(dtype_is_float(DTYPE_FLOAT16) && !dtype_is_float(DTYPE_INT8));
    ck_assert(dtype_is_integer(DTYPE_UINT64) && !dtype_is_integer(DTYPE_BOOL) &&
              !dtype_is_integer(DTYPE_STRING));
}
END_TEST

START_TEST(shape_count_refuses_overflow_and_negative_dims)
{
    size_t count = 5;
    shape s = shape_make(2, (int64_t[]){(int64_t)1 << 32, (int64_t)1 << 32});
    ck_assert(!shape_count(&s, &count));
    s = shape_make(3, (int64_t[]){(int64_t)1 << 40, (int64_t)1 << 40, 0});
    ck_assert(!shape_count(&s, &count));
    s = shape_make(2, (int64_t[]){2, -1});
    ck_assert(!shape_count(&s, &count));
    s = shape_make(9, (int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1});
    ck_assert(!shape_count(&s, &count));
    ck_assert_uint_eq(count, 5);
    s = shape_make(0, NULL);
    ck_assert(shape_count(&s, &count) && count == 1);
    s = shape_make(3, (int64_t[]){3, 0, 5});
    ck_assert(shape_count(&s, &count) && count == 0);
}
END_TEST

START_TEST(shape_prints_as_a_tuple)
{
    char out[SHAPE_TEXT_SIZE];
    shape s = shape_make(4, (int64_t[]){1, 3, 224, -1});
    ck_assert_str_eq(shape_text(&s, out), "(1, 3, 224, ?)");
    s = shape_make(0, NULL);
    ck_assert_str_eq(shape_text(&s, out), "()");
    s = shape_make(8, (int64_t[]){INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX,
                                  INT64_MAX, INT64_MAX});
    ck_assert_uint_eq(strlen(shape_text(&s, out)), 8 * 19 + 7 * 2 + 2);
    const shape t = shape_make(8, s.dims);
    ck_assert(shape_equal(&s, &t));
    s.dims[7] = 1;
    ck_assert(!shape_equal(&s, &t));
}
END_TEST

START_TEST(create_refuses_what_cannot_be)
{
    tensor t;
    xai_error *error = NULL;
    shape s = shape_make(1, (int64_t[]){INT64_MAX});
    ck_assert_int_eq(tensor_create(&t, DTYPE_DOUBLE, &s, &error), XAI_ERROR_SHAPE);
    ck_assert_ptr_null(t.data);
    error_clear(&error);
    ck_assert_int_eq(tensor_create(&t, DTYPE_INT8, &s, &error), XAI_ERROR_MEMORY);
    error_clear(&error);
    s = shape_make(1, (int64_t[]){2});
    ck_assert_int_eq(tensor_create(&t, DTYPE_STRING, &s, &error), XAI_ERROR_UNSUPPORTED);
    error_clear(&error);
    ck_assert_int_eq(tensor_create(&t, 15, &s, NULL), XAI_ERROR_UNSUPPORTED);
    tensor_free(&t);
}
END_TEST

/* Small integers are exact in every type and by every way in and out. */
START_TEST(every_type_holds_small_numbers)
{
    const int32_t dtype = numeric[_i];
    const shape s = shape_make(2, (int64_t[]){2, 3});
    const double expected[] = {0, 1, 1, 0, 1, 0};
    tensor t, copy;
    ck_assert_int_eq(tensor_create(&t, dtype, &s, NULL), XAI_OK);
    ck_assert_uint_eq(tensor_count(&t), 6);
    ck_assert_uint_eq(tensor_bytes(&t), 6 * dtype_size(dtype));
    ck_assert_uint_eq((uintptr_t)t.data % 64, 0);
    tensor_write_doubles(&t, 0, 6, expected);
    ck_assert_int_eq(tensor_copy(&copy, &t, NULL), XAI_OK);
    for (size_t i = 0; i < 6; i++) {
        float f;
        int64_t n;
        double d;
        tensor_read_floats(&copy, i, 1, &f);
        tensor_read_ints(&copy, i, 1, &n);
        tensor_read_doubles(&copy, i, 1, &d);
        ck_assert(f == (float)expected[i] && n == (int64_t)expected[i] && d == expected[i]);
        ck_assert(tensor_get(&copy, i) == expected[i] &&
                  tensor_get_int(&copy, i) == (int64_t)expected[i]);
        tensor_set_int(&copy, i, 1);
        ck_assert(tensor_get(&copy, i) == 1);
        tensor_set(&copy, i, 0);
        ck_assert(tensor_get_int(&copy, i) == 0);
    }
    /* The copy is one's own, and a view need not be aligned. */
    ck_assert(tensor_get(&t, 1) == 1);
    char buffer[64];
    memcpy(buffer + 1, t.data, tensor_bytes(&t));
    const tensor view = {.dtype = dtype, .shape = s, .data = buffer + 1};
    for (size_t i = 0; i < 6; i++)
        ck_assert(tensor_get(&view, i) == expected[i]);
    tensor_free(&copy);
    tensor_free(&t);
    ck_assert_ptr_null(t.data);
}
END_TEST

START_TEST(conversions_saturate_or_truncate_but_never_overflow)
{
    const shape s = shape_make(0, NULL);
    static const struct {
        int32_t dtype;
        double value, expected;
    } cases[] = {
        {DTYPE_UINT8, 300, 255},
        {DTYPE_UINT8, -3, 0},
        {DTYPE_INT8, -1000, -128},
        {DTYPE_INT32, 1e300, INT32_MAX},
        {DTYPE_INT32, -2.9, -2},
        {DTYPE_INT32, NAN, 0},
        {DTYPE_UINT64, -1, 0},
        {DTYPE_UINT64, 1e30, 0x1p64},
        {DTYPE_INT64, -1e30, -0x1p63},
        {DTYPE_BOOL, 0.5, 1},
        {DTYPE_FLOAT16, 65519, 65504},
        {DTYPE_FLOAT16, 65520, INFINITY},
        {DTYPE_BFLOAT16, 1.00390625, 1.0},
        {DTYPE_UINT16, 1e5, 65535},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tensor t;
        ck_assert_int_eq(tensor_create(&t, cases[i].dtype, &s, NULL), XAI_OK);
        tensor_set(&t, 0, cases[i].value);
        ck_assert_msg(tensor_get(&t, 0) == cases[i].expected, "case %zu: %g", i, tensor_get(&t, 0));
        tensor_free(&t);
    }
    tensor t;
    ck_assert_int_eq(tensor_create(&t, DTYPE_DOUBLE, &s, NULL), XAI_OK);
    tensor_set(&t, 0, 1e300);
    ck_assert(tensor_get_int(&t, 0) == INT64_MAX);
    tensor_set(&t, 0, -INFINITY);
    ck_assert(tensor_get_int(&t, 0) == INT64_MIN);
    tensor_set(&t, 0, NAN);
    ck_assert(tensor_get_int(&t, 0) == 0);
    tensor_free(&t);
    ck_assert_int_eq(tensor_create(&t, DTYPE_INT8, &s, NULL), XAI_OK);
    tensor_set_int(&t, 0, 384 + 5); /* as a cast: the low bits */
    ck_assert(tensor_get_int(&t, 0) == -123);
    tensor_free(&t);
    ck_assert_int_eq(tensor_create(&t, DTYPE_INT64, &s, NULL), XAI_OK);
    tensor_set_int(&t, 0, INT64_MAX - 1);
    ck_assert(tensor_get_int(&t, 0) == INT64_MAX - 1);
    tensor_free(&t);
}
END_TEST

START_TEST(every_half_survives_the_way_through_float)
{
    for (uint32_t bits = 0; bits <= 0xffff; bits++) {
        const float value = half_to_float((uint16_t)bits);
        const uint16_t back = float_to_half(value);
        if (isnan(value))
            ck_assert(isnan(half_to_float(back)));
        else
            ck_assert_uint_eq(back, bits);
    }
    ck_assert(half_to_float(0x0001) == 0x1p-24f);
    ck_assert(half_to_float(0x3555) == 0.333251953125f);
    ck_assert(half_to_float(0xfbff) == -65504.0f);
}
END_TEST

/* The half of every midpoint between neighbours is the even one, and a hair beside it the nearer
 * one. */
START_TEST(half_rounds_to_nearest_even)
{
    const shape s = shape_make(0, NULL);
    tensor t;
    ck_assert_int_eq(tensor_create(&t, DTYPE_FLOAT16, &s, NULL), XAI_OK);
    for (uint16_t low = 0; low < 0x7bff; low++) {
        const uint16_t even = low & 1 ? (uint16_t)(low + 1) : low, high = (uint16_t)(low + 1);
        const double middle = ((double)half_to_float(low) + (double)half_to_float(high)) / 2;
        ck_assert_uint_eq(float_to_half((float)middle), even);
        ck_assert_uint_eq(float_to_half(nextafterf((float)middle, 0)), low);
        ck_assert_uint_eq(float_to_half(nextafterf((float)middle, INFINITY)), high);
        ck_assert_uint_eq(float_to_half(-(float)middle), even | 0x8000);
        uint16_t stored;
        /* Double: rounding by way of float would round twice. */
        tensor_set(&t, 0, nextafter(middle, 0));
        memcpy(&stored, t.data, 2);
        ck_assert_uint_eq(stored, low);
        tensor_set(&t, 0, -nextafter(middle, INFINITY));
        memcpy(&stored, t.data, 2);
        ck_assert_uint_eq(stored, high | 0x8000);
    }
    tensor_free(&t);
    ck_assert_uint_eq(float_to_half(INFINITY), 0x7c00);
    ck_assert_uint_eq(float_to_half(1e10f), 0x7c00);
    ck_assert_uint_eq(float_to_half(0x1p-26f), 0);
    ck_assert_uint_eq(float_to_half(-0.0f), 0x8000);
}
END_TEST

START_TEST(bfloat16_rounds_to_nearest_even)
{
    ck_assert_uint_eq(float_to_bfloat16(1.0f), 0x3f80);
    ck_assert_uint_eq(float_to_bfloat16(1.00390625f), 0x3f80); /* tie, even below */
    ck_assert_uint_eq(float_to_bfloat16(1.01171875f), 0x3f82); /* tie, even above */
    ck_assert_uint_eq(float_to_bfloat16(nextafterf(1.00390625f, 2)), 0x3f81);
    ck_assert_uint_eq(float_to_bfloat16(-3.4028235e38f), 0xff80);
    ck_assert_uint_eq(float_to_bfloat16(NAN) & 0x7fc0, 0x7fc0);
}
END_TEST

START_TEST(string_tensor_is_copied_whole)
{
    const char *words[] = {"lung", "", "Größe"};
    const tensor view = {
        .dtype = DTYPE_STRING, .shape = shape_make(1, (int64_t[]){3}), .data = words};
    tensor copy;
    ck_assert_int_eq(tensor_copy(&copy, &view, NULL), XAI_OK);
    const char *const *strings = copy.data;
    for (size_t i = 0; i < 3; i++) {
        ck_assert_str_eq(strings[i], words[i]);
        ck_assert(strings[i] != words[i]);
    }
    tensor_free(&copy);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tensor");
    TCase *tests = tcase_create("tensor");
    tcase_add_test(tests, dtype_sizes_and_names);
    tcase_add_test(tests, shape_count_refuses_overflow_and_negative_dims);
    tcase_add_test(tests, shape_prints_as_a_tuple);
    tcase_add_test(tests, create_refuses_what_cannot_be);
    tcase_add_loop_test(tests, every_type_holds_small_numbers, 0, (int)NUMERIC_COUNT);
    tcase_add_test(tests, conversions_saturate_or_truncate_but_never_overflow);
    tcase_add_test(tests, every_half_survives_the_way_through_float);
    tcase_add_test(tests, half_rounds_to_nearest_even);
    tcase_add_test(tests, bfloat16_rounds_to_nearest_even);
    tcase_add_test(tests, string_tensor_is_copied_whole);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
