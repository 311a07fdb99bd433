/* Convolutions, pools, matrix products and Resize by hand-computed numbers. */
#include "operator_bench.h"

START_TEST(convolution_of_a_line)
{
    operator_bench *b = bench_make("Conv", 13);
    bench_input(b, DTYPE_FLOAT, DIMS(1, 1, 4), NUMBERS(1, 2, 3, 4));
    bench_input(b, DTYPE_FLOAT, DIMS(1, 1, 3), NUMBERS(1, 10, 100));
    bench_input(b, DTYPE_FLOAT, DIMS(1), NUMBERS(0.5));
    bench_ints(b, "pads", INTS(1, 1));
    bench_run(b);
    bench_expect(b, 0, DIMS(1, 1, 4), NUMBERS(210.5, 321.5, 432.5, 43.5));
    bench_gradient(b, 0, NUMBERS(1, 0, 0, 0), NUMBERS(10, 100, 0, 0));
    bench_gradient(b, 1, NUMBERS(1, 0, 0, 1), NUMBERS(3, 5, 2));
    bench_gradient(b, 2, NUMBERS(1, 2, 3, 4), NUMBERS(10));
    bench_free(b);
}
END_TEST

START_TEST(groups_see_their_own_channels_alone)
{
    operator_bench *b = bench_make("Conv", 13);
    bench_input(b, DTYPE_FLOAT, DIMS(1, 4, 1), NUMBERS(1, 10, 100, 1000));
    bench_input(b, DTYPE_FLOAT, DIMS(2, 2, 1), NUMBERS(1, 2, 3, 4));
    bench_int(b, "group", 2);
    bench_run(b);
    bench_expect(b, 0, DIMS(1, 2, 1), NUMBERS(21, 4300));
    bench_free(b);
}
END_TEST

START_TEST(dilation_and_stride_pick_every_other_element)
{
    operator_bench *b = bench_make("Conv", 13);
    bench_input(b, DTYPE_DOUBLE, DIMS(1, 1, 7), NULL);
    bench_input(b, DTYPE_DOUBLE, DIMS(1, 1, 2), NUMBERS(1, 10));
    bench_ints(b, "dilations", INTS(2));
    bench_ints(b, "strides", INTS(3));
    bench_run(b);
    bench_expect(b, 0, DIMS(1, 1, 2), NUMBERS(31, 64));
    bench_free(b);
}
END_TEST

START_TEST(transposed_convolution_adds_overlapping_windows)
{
    operator_bench *b = bench_make("ConvTranspose", 13);
    bench_input(b, DTYPE_FLOAT, DIMS(1, 1, 3), NUMBERS(1, 2, 3));
    bench_input(b, DTYPE_FLOAT, DIMS(1, 1, 3), NUMBERS(1, 10, 100));
    bench_ints(b, "strides", INTS(2));
    bench_run(b);
    bench_expect(b, 0, DIMS(1, 1, 7), NUMBERS(1, 10, 102, 20, 203, 30, 300));
    bench_gradient(b, 0, NUMBERS(1, 1, 0, 0, 0, 0, 2), NUMBERS(11, 0, 200));
    bench_free(b);
}
END_TEST

START_TEST(half_precision_is_rounded_once)
{
    operator_bench *b = bench_make("Conv", 13);
    bench_input(b, DTYPE_FLOAT16, DIMS(1, 3, 1), NUMBERS(2048, 1, 1));
    bench_input(b, DTYPE_FLOAT16, DIMS(1, 3, 1), NUMBERS(1, 1, 1));
    bench_run(b);
    bench_expect(b, 0, DIMS(1, 1, 1), NUMBERS(2050)); /* 2048 + 1 alone would round to 2048 */
    bench_free(b);
}
END_TEST

START_TEST(misfitting_bias_and_types_are_refused)
{
    operator_bench *b = bench_make("Conv", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 1, 4));
    bench_shape(b, DTYPE_FLOAT, DIMS(2, 1, 3));
    bench_shape(b, DTYPE_FLOAT, DIMS(3));
    bench_refuses(b, XAI_ERROR_SHAPE, BENCH_PLACE ": bias has shape (3) where (2) is needed");
    b = bench_make("Conv", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 1, 4));
    bench_shape(b, DTYPE_DOUBLE, DIMS(2, 1, 3));
    bench_refuses(b, XAI_ERROR_FORMAT,
                  BENCH_PLACE ": inputs 0 and 1 have different types float32 and float64");
}
END_TEST

START_TEST(overlapping_max_windows_accumulate_their_gradients)
{
    operator_bench *b = bench_make("MaxPool", 12);
    b->call.output_count = 2;
    bench_input(b, DTYPE_FLOAT, DIMS(1, 1, 5), NUMBERS(1, 9, 2, 3, 3));
    bench_ints(b, "kernel_shape", INTS(3));
    bench_run(b);
    bench_expect(b, 0, DIMS(1, 1, 3), NUMBERS(9, 9, 3));
    bench_expect(b, 1, DIMS(1, 1, 3), NUMBERS(1, 1, 3)); /* the first of equal values */
    bench_gradient(b, 0, NUMBERS(1, 10, 100), NUMBERS(0, 11, 0, 100, 0));
    bench_free(b);
}
END_TEST

START_TEST(max_indices_count_over_the_whole_tensor_in_either_order)
{
    for (int order = 0; order < 2; order++) {
        operator_bench *b = bench_make("MaxPool", 12);
        b->call.output_count = 2;
        bench_input(b, DTYPE_FLOAT, DIMS(1, 2, 2, 3), NUMBERS(0, 0, 5, 0, 0, 0, 0, 0, 0, 7, 0, 0));
        bench_ints(b, "kernel_shape", INTS(2, 3));
        bench_int(b, "storage_order", order);
        bench_run(b);
        bench_expect(b, 0, DIMS(1, 2, 1, 1), NUMBERS(5, 7));
        bench_expect(b, 1, DIMS(1, 2, 1, 1), order ? NUMBERS(4, 7) : NUMBERS(2, 9));
        bench_free(b);
    }
}
END_TEST

START_TEST(max_lets_a_nan_through)
{
    operator_bench *b = bench_make("MaxPool", 12);
    bench_input(b, DTYPE_FLOAT, DIMS(1, 1, 3), NUMBERS(1, (double)NAN, 3));
    bench_ints(b, "kernel_shape", INTS(3));
    bench_run(b);
    ck_assert(isnan(tensor_get(&b->outputs[0], 0)));
    bench_free(b);
}
END_TEST

/* Windows over padding | 1 2 3 4 5 | padding, and one that hangs over the end. */
START_TEST(averages_count_padding_when_asked_but_never_the_overhang)
{
    for (int include = 0; include < 2; include++) {
        operator_bench *b = bench_make("AveragePool", 19);
        bench_input(b, DTYPE_FLOAT, DIMS(1, 1, 5), NULL);
        bench_ints(b, "kernel_shape", INTS(3));
        bench_ints(b, "strides", INTS(2));
        bench_ints(b, "pads", INTS(1, 0));
        bench_int(b, "ceil_mode", 1);
        bench_int(b, "count_include_pad", include);
        bench_run(b);
        bench_expect(b, 0, DIMS(1, 1, 3), include ? NUMBERS(1, 3, 4.5) : NUMBERS(1.5, 3, 4.5));
        bench_gradient(b, 0, NUMBERS(6, 0, 0),
                       include ? NUMBERS(2, 2, 0, 0, 0) : NUMBERS(3, 3, 0, 0, 0));
        bench_free(b);
    }
}
END_TEST

START_TEST(lp_pool_is_a_norm_without_a_gradient_at_zero)
{
    operator_bench *b = bench_make("LpPool", 18);
    bench_input(b, DTYPE_FLOAT, DIMS(1, 1, 4), NUMBERS(-3, 4, 0, 0));
    bench_ints(b, "kernel_shape", INTS(2));
    bench_ints(b, "strides", INTS(2));
    bench_run(b);
    bench_expect(b, 0, DIMS(1, 1, 2), NUMBERS(5, 0));
    bench_gradient(b, 0, NUMBERS(1, 1), NUMBERS(-0.6, 0.8, 0, 0));
    bench_free(b);
}
END_TEST

START_TEST(global_pools_reduce_every_channel)
{
    const char *const names[] = {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"};
    const double expected[][2] = {{3.5, 0}, {4, 0}, {5, 0}};
    for (int i = 0; i < 3; i++) {
        operator_bench *b = bench_make(names[i], 13);
        bench_input(b, DTYPE_FLOAT, DIMS(1, 2, 1, 2), NUMBERS(3, 4, 0, 0));
        bench_run(b);
        bench_expect(b, 0, DIMS(1, 2, 1, 1), expected[i]);
        bench_free(b);
    }
}
END_TEST

START_TEST(matrix_product_broadcasts_batches_and_takes_vectors)
{
    operator_bench *b = bench_make("MatMul", 13);
    bench_input(b, DTYPE_FLOAT, DIMS(2, 1, 2), NUMBERS(1, 2, 3, 4));
    bench_input(b, DTYPE_FLOAT, DIMS(2, 2), NUMBERS(1, 10, 100, 1000));
    bench_run(b);
    bench_expect(b, 0, DIMS(2, 1, 2), NUMBERS(201, 2010, 403, 4030));
    bench_gradient(b, 1, NUMBERS(1, 0, 0, 1), NUMBERS(1, 3, 2, 4));
    bench_free(b);
    b = bench_make("MatMul", 13);
    bench_input(b, DTYPE_INT32, DIMS(3), NUMBERS(1, 2, 3));
    bench_input(b, DTYPE_INT32, DIMS(3), NUMBERS(4, 5, 6));
    bench_run(b);
    bench_expect(b, 0, SCALAR, NUMBERS(32));
    bench_free(b);
    b = bench_make("MatMul", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(2, 3));
    bench_shape(b, DTYPE_FLOAT, DIMS(2, 3));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": shapes (2, 3) and (2, 3) do not fit a matrix product");
}
END_TEST

START_TEST(gemm_scales_transposes_and_broadcasts)
{
    operator_bench *b = bench_make("Gemm", 13);
    bench_input(b, DTYPE_FLOAT, DIMS(2, 1), NUMBERS(1, 2));
    bench_input(b, DTYPE_FLOAT, DIMS(3, 2), NUMBERS(1, 10, 2, 20, 3, 30));
    bench_input(b, DTYPE_FLOAT, DIMS(1), NUMBERS(7));
    bench_int(b, "transA", 1);
    bench_int(b, "transB", 1);
    bench_attribute(b, "alpha", ONNX_ATTRIBUTE_FLOAT)->f = 2;
    bench_attribute(b, "beta", ONNX_ATTRIBUTE_FLOAT)->f = 3;
    bench_run(b);
    bench_expect(b, 0, DIMS(1, 3), NUMBERS(63, 105, 147));
    bench_gradient(b, 2, NUMBERS(1, 1, 1), NUMBERS(9));
    bench_free(b);
    b = bench_make("Gemm", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(2, 3));
    bench_shape(b, DTYPE_FLOAT, DIMS(3, 4));
    bench_shape(b, DTYPE_FLOAT, DIMS(5, 2, 4));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": input 2 of shape (5, 2, 4) does not broadcast to (2, 4)");
}
END_TEST

static operator_bench *make_resize(const char *mode, const char *coordinates, double scale)
{
    operator_bench *b = bench_make("Resize", 13);
    bench_input(b, DTYPE_FLOAT, DIMS(1, 1, 4), NUMBERS(1, 2, 3, 4));
    b->input_pointers[b->call.input_count++] = NULL;
    bench_input(b, DTYPE_FLOAT, DIMS(3), NUMBERS(1, 1, scale));
    bench_text(b, "mode", mode);
    bench_text(b, "coordinate_transformation_mode", coordinates);
    return b;
}

START_TEST(resize_interpolates_between_pixel_centres)
{
    operator_bench *b = make_resize("linear", "half_pixel", 2);
    bench_run(b);
    bench_expect(b, 0, DIMS(1, 1, 8), NUMBERS(1, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4));
    bench_gradient(b, 0, NUMBERS(1, 1, 0, 0, 0, 0, 0, 0), NUMBERS(1.75, 0.25, 0, 0));
    bench_free(b);
}
END_TEST

START_TEST(resize_aligns_corners_of_the_whole_output)
{
    operator_bench *b = make_resize("linear", "align_corners", 0.6f);
    bench_run(b);
    bench_expect(b, 0, DIMS(1, 1, 2), NUMBERS(1, 4));
    bench_free(b);
}
END_TEST

/* 3 * float(7 / 3) is a whole number in single precision alone. */
START_TEST(nearest_does_not_lose_elements_to_rounding)
{
    operator_bench *b = bench_make("Resize", 13);
    bench_input(b, DTYPE_UINT8, DIMS(3), NUMBERS(1, 2, 3));
    b->input_pointers[b->call.input_count++] = NULL;
    bench_input(b, DTYPE_FLOAT, DIMS(1), NUMBERS(7.0 / 3));
    bench_text(b, "coordinate_transformation_mode", "asymmetric");
    bench_text(b, "nearest_mode", "floor");
    bench_run(b);
    bench_expect(b, 0, DIMS(7), NUMBERS(1, 1, 1, 2, 2, 3, 3));
    bench_free(b);
}
END_TEST

START_TEST(nearest_modes_differ_at_the_middle)
{
    const char *const modes[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};
    const double second[] = {1, 2, 1, 2}; /* element 1 of 4 -> 8 at 0.5 */
    for (int i = 0; i < 4; i++) {
        operator_bench *b = make_resize("nearest", "asymmetric", 2);
        bench_text(b, "nearest_mode", modes[i]);
        bench_run(b);
        ck_assert_double_eq(tensor_get(&b->outputs[0], 1), second[i]);
        bench_free(b);
    }
}
END_TEST

START_TEST(resize_takes_constants_alone_and_one_of_scales_and_sizes)
{
    operator_bench *b = make_resize("linear", "half_pixel", 2);
    tensor_free(&b->inputs[2]);
    b->inputs[2] = (tensor){.dtype = DTYPE_FLOAT, .shape = {1, {3}}};
    bench_refuses(b, XAI_ERROR_UNSUPPORTED,
                  BENCH_PLACE ": input 2 is computed at run time where a constant is needed");
    b = make_resize("linear", "half_pixel", 2);
    bench_integers(b, INTS(1, 1, 8));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": 3 scales and 3 sizes for 3 axes of an input of shape (1, 1, 4)");
    b = make_resize("linear", "half_pixel", 0.1);
    bench_refuses(b, XAI_ERROR_SHAPE, BENCH_PLACE ": dimension 2 of the output would be empty");
    b = make_resize("linear", "half_pixel", 1e30);
    bench_refuses(b, XAI_ERROR_SHAPE, BENCH_PLACE ": scale 1e+30 of axis 2 with 4 elements");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("convolution");
    TCase *tests = tcase_create("convolution");
    tcase_add_test(tests, convolution_of_a_line);
    tcase_add_test(tests, groups_see_their_own_channels_alone);
    tcase_add_test(tests, dilation_and_stride_pick_every_other_element);
    tcase_add_test(tests, transposed_convolution_adds_overlapping_windows);
    tcase_add_test(tests, half_precision_is_rounded_once);
    tcase_add_test(tests, misfitting_bias_and_types_are_refused);
    tcase_add_test(tests, overlapping_max_windows_accumulate_their_gradients);
    tcase_add_test(tests, max_indices_count_over_the_whole_tensor_in_either_order);
    tcase_add_test(tests, max_lets_a_nan_through);
    tcase_add_test(tests, averages_count_padding_when_asked_but_never_the_overhang);
    tcase_add_test(tests, lp_pool_is_a_norm_without_a_gradient_at_zero);
    tcase_add_test(tests, global_pools_reduce_every_channel);
    tcase_add_test(tests, matrix_product_broadcasts_batches_and_takes_vectors);
    tcase_add_test(tests, gemm_scales_transposes_and_broadcasts);
    tcase_add_test(tests, resize_interpolates_between_pixel_centres);
    tcase_add_test(tests, resize_aligns_corners_of_the_whole_output);
    tcase_add_test(tests, nearest_does_not_lose_elements_to_rounding);
    tcase_add_test(tests, nearest_modes_differ_at_the_middle);
    tcase_add_test(tests, resize_takes_constants_alone_and_one_of_scales_and_sizes);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
