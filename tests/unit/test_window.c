/* Geometry of convolutions and pools: sizes, padding, and one clear error for each way to get them
 * wrong. */
#include "operator_bench.h"

/* Conv of x (1, 2, 7, 8) with weights (4, 2, 3, 3). */
static operator_bench *make_conv(void)
{
    operator_bench *b = bench_make("Conv", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 2, 7, 8));
    bench_shape(b, DTYPE_FLOAT, DIMS(4, 2, 3, 3));
    return b;
}

static operator_bench *make_pool(const char *op, int64_t length, int64_t kernel)
{
    operator_bench *b = bench_make(op, 19);
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 1, length));
    bench_ints(b, "kernel_shape", INTS(kernel));
    return b;
}

static window read_window(operator_bench *b)
{
    window w;
    ck_assert_int_eq(operator_window(&b->call, &w), XAI_OK);
    bench_free(b);
    return w;
}

#define ASSERT_PAIR(array, first, second)       \
    do {                                        \
        ck_assert_int_eq((array)[0], (first));  \
        ck_assert_int_eq((array)[1], (second)); \
    } while (0)

START_TEST(kernel_shape_comes_from_the_weights)
{
    const window w = read_window(make_conv());
    ck_assert_int_eq(w.rank, 2);
    ck_assert_int_eq(w.groups, 1);
    ASSERT_PAIR(w.kernel, 3, 3);
    ASSERT_PAIR(w.stride, 1, 1);
    ASSERT_PAIR(w.output, 5, 6);
}
END_TEST

START_TEST(pads_strides_and_dilations_give_the_size)
{
    operator_bench *b = make_conv();
    bench_ints(b, "pads", INTS(1, 0, 2, 1));
    bench_ints(b, "strides", INTS(2, 3));
    bench_ints(b, "dilations", INTS(2, 1));
    const window w = read_window(b);
    ASSERT_PAIR(w.pad_begin, 1, 0);
    ASSERT_PAIR(w.pad_end, 2, 1);
    ASSERT_PAIR(w.output, 3, 3); /* (7 + 3 - 5) / 2 + 1, (8 + 1 - 3) / 3 + 1 */
}
END_TEST

START_TEST(same_padding_puts_the_odd_element_at_the_named_end)
{
    operator_bench *b = make_conv();
    bench_text(b, "auto_pad", "SAME_UPPER");
    bench_ints(b, "strides", INTS(2, 3));
    window w = read_window(b);
    ASSERT_PAIR(w.output, 4, 3);
    ASSERT_PAIR(w.pad_begin, 1, 0);
    ASSERT_PAIR(w.pad_end, 1, 1);
    b = make_conv();
    bench_text(b, "auto_pad", "SAME_LOWER");
    bench_ints(b, "strides", INTS(2, 3));
    w = read_window(b);
    ASSERT_PAIR(w.pad_begin, 1, 1);
    ASSERT_PAIR(w.pad_end, 1, 0);
}
END_TEST

START_TEST(ceil_mode_adds_a_window_that_starts_inside)
{
    operator_bench *b = make_pool("MaxPool", 6, 3);
    bench_ints(b, "strides", INTS(2));
    bench_int(b, "ceil_mode", 1);
    ck_assert_int_eq(read_window(b).output[0], 3); /* starts 0, 2, 4 */
}
END_TEST

START_TEST(ceil_mode_adds_no_window_that_starts_in_the_padding_after)
{
    operator_bench *b = make_pool("MaxPool", 2, 3);
    bench_ints(b, "strides", INTS(3));
    bench_ints(b, "pads", INTS(1, 1));
    bench_int(b, "ceil_mode", 1);
    ck_assert_int_eq(read_window(b).output[0], 1); /* a start at 3 = 2 + padding 1 is outside */
}
END_TEST

START_TEST(transposed_sizes_follow_the_definition)
{
    operator_bench *b = bench_make("ConvTranspose", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 4, 5, 6));
    bench_shape(b, DTYPE_FLOAT, DIMS(4, 2, 3, 3));
    bench_ints(b, "strides", INTS(2, 3));
    bench_ints(b, "pads", INTS(1, 0, 1, 2));
    bench_ints(b, "output_padding", INTS(1, 2));
    const window w = read_window(b);
    ASSERT_PAIR(w.output, 10, 18); /* 2 4 + 1 + 3 - 2, 3 5 + 2 + 3 - 2 */
}
END_TEST

START_TEST(output_shape_sets_the_padding_and_may_exceed_the_windows)
{
    operator_bench *b = bench_make("ConvTranspose", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 1, 3, 3));
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 2, 3, 3));
    bench_ints(b, "strides", INTS(3, 2));
    bench_ints(b, "output_shape", INTS(10, 6)); /* natural sizes: 9 and 7 */
    const window w = read_window(b);
    ASSERT_PAIR(w.output, 10, 6);
    ASSERT_PAIR(w.pad_begin, 0, 1);
    ASSERT_PAIR(w.pad_end, 0, 0);
}
END_TEST

START_TEST(global_pools_are_one_window_over_all)
{
    operator_bench *b = bench_make("GlobalAveragePool", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 3, 4, 5, 6));
    const window w = read_window(b);
    ck_assert_int_eq(w.rank, 3);
    ck_assert_int_eq(w.kernel[2], 6);
    ck_assert_int_eq(w.output[2], 1);
}
END_TEST

START_TEST(wrong_attributes_are_named_with_the_input)
{
    operator_bench *b = bench_make("Conv", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 3, 224, 224));
    bench_shape(b, DTYPE_FLOAT, DIMS(4, 3, 3, 3));
    bench_ints(b, "kernel_shape", INTS(3, 3, 3));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE
                  ": kernel_shape has 3 values for a 2-D input of shape (1, 3, 224, 224)");
    b = make_conv();
    bench_ints(b, "kernel_shape", INTS(3, 5));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": kernel_shape says 5 where the weights have shape (4, 2, 3, 3)");
    b = make_conv();
    bench_ints(b, "strides", INTS(1, 0));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": strides has the value 0, outside [1, 2147483647]");
    b = make_conv();
    bench_ints(b, "dilations", INTS(INT64_MIN, 1));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE
                  ": dilations has the value -9223372036854775808, outside [1, 2147483647]");
    b = make_conv();
    bench_ints(b, "pads", INTS(0, 0, -1, 0));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": pads has the value -1, outside [0, 2147483647]");
    b = make_conv();
    bench_text(b, "auto_pad", "SAME");
    bench_refuses(b, XAI_ERROR_FORMAT,
                  BENCH_PLACE
                  ": auto_pad is 'SAME' and not NOTSET, VALID, SAME_UPPER or SAME_LOWER");
    b = make_conv();
    bench_int(b, "group", 3);
    bench_refuses(
        b, XAI_ERROR_SHAPE,
        BENCH_PLACE
        ": group 3 does not divide the channels of input (1, 2, 7, 8) or weights (4, 2, 3, 3)");
    b = make_conv();
    bench_int(b, "group", 2);
    bench_refuses(
        b, XAI_ERROR_SHAPE,
        BENCH_PLACE
        ": weights of shape (4, 2, 3, 3) do not fit an input of shape (1, 2, 7, 8) in 2 groups");
}
END_TEST

START_TEST(sizes_at_the_limit_do_not_overflow)
{
    operator_bench *b = make_conv();
    bench_ints(b, "dilations", INTS(INT32_MAX, INT32_MAX));
    bench_refuses(
        b, XAI_ERROR_SHAPE,
        BENCH_PLACE
        ": the window covers 4294967295 elements of spatial dimension 0, which has 7 with padding");
    b = bench_make("ConvTranspose", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 1, INT32_MAX));
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 1, INT32_MAX));
    bench_ints(b, "strides", INTS(INT32_MAX));
    bench_ints(b, "dilations", INTS(INT32_MAX));
    bench_ints(b, "output_padding", INTS(INT32_MAX - 1));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE
                  ": spatial dimension 0 of the output would have size 9223372026117357571");
}
END_TEST

START_TEST(inputs_without_elements_or_dimensions_are_refused)
{
    operator_bench *b = bench_make("Conv", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 3));
    bench_shape(b, DTYPE_FLOAT, DIMS(4, 3));
    bench_refuses(
        b, XAI_ERROR_SHAPE,
        BENCH_PLACE
        ": input of shape (1, 3) does not have 1 to 3 spatial dimensions after batch and channels");
    b = bench_make("GlobalMaxPool", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 3, 0, 4));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": input of shape (1, 3, 0, 4) is empty or too large");
    b = bench_make("MaxPool", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 3, 4));
    bench_refuses(b, XAI_ERROR_FORMAT, BENCH_PLACE ": attribute 'kernel_shape' is missing");
}
END_TEST

START_TEST(windows_wholly_in_the_padding_are_refused)
{
    operator_bench *b = make_pool("AveragePool", 4, 2);
    bench_ints(b, "pads", INTS(2, 0));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": a window lies wholly in the padding of spatial dimension 0");
    b = make_pool("MaxPool", 1, 2); /* taps at -1 and 2 of one element */
    bench_ints(b, "pads", INTS(1, 2));
    bench_ints(b, "dilations", INTS(3));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": a window lies wholly in the padding of spatial dimension 0");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("window");
    TCase *tests = tcase_create("window");
    tcase_add_test(tests, kernel_shape_comes_from_the_weights);
    tcase_add_test(tests, pads_strides_and_dilations_give_the_size);
    tcase_add_test(tests, same_padding_puts_the_odd_element_at_the_named_end);
    tcase_add_test(tests, ceil_mode_adds_a_window_that_starts_inside);
    tcase_add_test(tests, ceil_mode_adds_no_window_that_starts_in_the_padding_after);
    tcase_add_test(tests, transposed_sizes_follow_the_definition);
    tcase_add_test(tests, output_shape_sets_the_padding_and_may_exceed_the_windows);
    tcase_add_test(tests, global_pools_are_one_window_over_all);
    tcase_add_test(tests, wrong_attributes_are_named_with_the_input);
    tcase_add_test(tests, sizes_at_the_limit_do_not_overflow);
    tcase_add_test(tests, inputs_without_elements_or_dimensions_are_refused);
    tcase_add_test(tests, windows_wholly_in_the_padding_are_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
