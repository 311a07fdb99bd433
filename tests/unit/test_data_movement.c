/* Shapes, slices, gathers, scatters, pads and constants by hand-computed numbers. */
#include "operator_bench.h"

/* Shape of output 0 for one input of shape `x` and a list of integers as input 1. */
static void expect_reshaped(const char *op, int opset, int x_rank, const int64_t *x, size_t count,
                            const int64_t *list, int rank, const int64_t *dims)
{
    char given[SHAPE_TEXT_SIZE], wanted[SHAPE_TEXT_SIZE];
    const shape expected = shape_make(rank, dims);
    operator_bench *b = bench_make(op, opset);
    bench_shape(b, DTYPE_FLOAT, x_rank, x);
    bench_integers(b, count, list);
    const xai_status status = b->call.definition->infer(&b->call);
    ck_assert_msg(status == XAI_OK, "%s", b->error ? xai_error_message(b->error) : "");
    ck_assert_str_eq(shape_text(&b->outputs[0].shape, given), shape_text(&expected, wanted));
    bench_free(b);
}

START_TEST(reshape_copies_zeros_and_infers_one_dimension)
{
    expect_reshaped("Reshape", 13, DIMS(2, 3, 4), INTS(0, -1), DIMS(2, 12));
    expect_reshaped("Reshape", 13, DIMS(2, 3, 4), INTS(4, 0, 2), DIMS(4, 3, 2));
    expect_reshaped("Reshape", 13, DIMS(0, 3, 4), INTS(5, -1), DIMS(5, 0));
    expect_reshaped("Squeeze", 13, DIMS(1, 3, 1), INTS(-1), DIMS(1, 3));
    expect_reshaped("Unsqueeze", 13, DIMS(3, 4), INTS(-1, 0), DIMS(1, 3, 4, 1));
    expect_reshaped("Expand", 13, DIMS(3, 1), INTS(2, 1, 4), DIMS(2, 3, 4));
}
END_TEST

START_TEST(allowed_zeros_are_honoured)
{
    operator_bench *b = bench_make("Reshape", 14);
    bench_input(b, DTYPE_FLOAT, DIMS(0, 3), NULL);
    bench_integers(b, INTS(3, 0));
    bench_int(b, "allowzero", 1);
    bench_run(b);
    bench_expect(b, 0, DIMS(3, 0), NULL);
    bench_free(b);
}
END_TEST

START_TEST(impossible_reshapes_name_both_shapes)
{
    operator_bench *b = bench_make("Reshape", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(2, 3));
    bench_integers(b, INTS(4, -1));
    bench_refuses(b, XAI_ERROR_SHAPE, BENCH_PLACE ": cannot reshape (2, 3) to (4, ?)");
    b = bench_make("Reshape", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(2, 3));
    bench_integers(b, INTS(INT64_MAX, INT64_MAX));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE
                  ": cannot reshape (2, 3) to (9223372036854775807, 9223372036854775807)");
    b = bench_make("Reshape", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(2, 3));
    bench_shape(b, DTYPE_INT64, DIMS(2));
    bench_refuses(b, XAI_ERROR_UNSUPPORTED,
                  BENCH_PLACE ": input 1 is computed at run time where a constant is needed");
    b = bench_make("Squeeze", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(2, 3));
    bench_integers(b, INTS(1));
    bench_refuses(b, XAI_ERROR_SHAPE, BENCH_PLACE ": axis 1 of shape (2, 3) is not 1");
}
END_TEST

START_TEST(dropout_does_nothing_and_its_mask_is_all_true)
{
    operator_bench *b = bench_make("Dropout", 13);
    b->call.output_count = 2;
    bench_input(b, DTYPE_FLOAT, DIMS(3), NULL);
    bench_run(b);
    bench_expect(b, 0, DIMS(3), NUMBERS(1, 2, 3));
    bench_expect(b, 1, DIMS(3), NUMBERS(1, 1, 1));
    ck_assert_int_eq(b->outputs[1].dtype, DTYPE_BOOL);
    bench_free(b);
}
END_TEST

START_TEST(transpositions_move_elements)
{
    operator_bench *b = bench_make("Transpose", 13);
    bench_input(b, DTYPE_INT16, DIMS(2, 3), NULL);
    bench_run(b);
    bench_expect(b, 0, DIMS(3, 2), NUMBERS(1, 4, 2, 5, 3, 6));
    bench_free(b);
    b = bench_make("DepthToSpace", 13);
    bench_input(b, DTYPE_FLOAT, DIMS(1, 4, 1, 2), NULL);
    bench_int(b, "blocksize", 2);
    bench_run(b);
    bench_expect(b, 0, DIMS(1, 1, 2, 4), NUMBERS(1, 3, 2, 4, 5, 7, 6, 8));
    bench_free(b);
    b = bench_make("Transpose", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(2, 3));
    bench_ints(b, "perm", INTS(1, 1));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": perm is not a permutation of the axes of shape (2, 3)");
}
END_TEST

/* Elements of 1 ... 5 that a slice gives. */
static void expect_slice(int64_t start, int64_t end, int64_t step, size_t count,
                         const double *values)
{
    operator_bench *b = bench_make("Slice", 13);
    bench_input(b, DTYPE_FLOAT, DIMS(5), NULL);
    bench_integers(b, INTS(start));
    bench_integers(b, INTS(end));
    bench_integers(b, INTS(-1));
    bench_integers(b, INTS(step));
    bench_run(b);
    bench_expect(b, 0, DIMS((int64_t)count), values);
    bench_free(b);
}

START_TEST(slices_clamp_their_bounds)
{
    expect_slice(1, 3, 1, 2, NUMBERS(2, 3));
    expect_slice(-2, INT64_MAX, 1, 2, NUMBERS(4, 5));
    expect_slice(-100, 100, 2, 3, NUMBERS(1, 3, 5));
    expect_slice(100, INT64_MIN, -2, 3, NUMBERS(5, 3, 1));
    expect_slice(-100, INT64_MIN, -1, 1, NUMBERS(1));
    expect_slice(0, 5, INT64_MAX, 1, NUMBERS(1));
    expect_slice(4, INT64_MIN, INT64_MIN, 1, NUMBERS(5));
    expect_slice(3, 1, 1, 0, NUMBERS(0));
}
END_TEST

START_TEST(slices_of_length_and_step_zero_are_refused)
{
    operator_bench *b = bench_make("Slice", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(5));
    bench_integers(b, INTS(0));
    bench_integers(b, INTS(5));
    bench_integers(b, INTS(0));
    bench_integers(b, INTS(0));
    bench_refuses(b, XAI_ERROR_SHAPE, BENCH_PLACE ": the step of axis 0 is 0");
    b = bench_make("Slice", 9);
    bench_shape(b, DTYPE_FLOAT, DIMS(5));
    bench_ints(b, "starts", INTS(0));
    bench_ints(b, "ends", INTS(5, 6));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": starts, ends, axes and steps differ in length");
}
END_TEST

START_TEST(tile_and_trilu_repeat_and_mask)
{
    operator_bench *b = bench_make("Tile", 13);
    bench_input(b, DTYPE_UINT8, DIMS(1, 2), NULL);
    bench_integers(b, INTS(2, 2));
    bench_run(b);
    bench_expect(b, 0, DIMS(2, 4), NUMBERS(1, 2, 1, 2, 1, 2, 1, 2));
    bench_free(b);
    b = bench_make("Trilu", 14);
    bench_input(b, DTYPE_INT64, DIMS(2, 3), NULL);
    bench_int(b, "upper", 0);
    bench_run(b);
    bench_expect(b, 0, DIMS(2, 3), NUMBERS(1, 0, 0, 4, 5, 0));
    bench_free(b);
    b = bench_make("Tile", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(1, 2));
    bench_integers(b, INTS(1, INT64_MAX));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": cannot repeat dimension 1 9223372036854775807 times");
}
END_TEST

START_TEST(concat_and_split_are_inverse)
{
    operator_bench *b = bench_make("Concat", 13);
    bench_input(b, DTYPE_FLOAT, DIMS(2, 1), NUMBERS(1, 4));
    bench_input(b, DTYPE_FLOAT, DIMS(2, 2), NUMBERS(2, 3, 5, 6));
    bench_int(b, "axis", 1);
    bench_run(b);
    bench_expect(b, 0, DIMS(2, 3), NUMBERS(1, 2, 3, 4, 5, 6));
    bench_free(b);
    b = bench_make("Split", 18);
    b->call.output_count = 2;
    bench_input(b, DTYPE_FLOAT, DIMS(2, 3), NULL);
    bench_int(b, "axis", 1);
    bench_int(b, "num_outputs", 2);
    bench_run(b);
    bench_expect(b, 0, DIMS(2, 2), NUMBERS(1, 2, 4, 5));
    bench_expect(b, 1, DIMS(2, 1), NUMBERS(3, 6));
    bench_free(b);
}
END_TEST

START_TEST(misfitting_parts_are_refused)
{
    operator_bench *b = bench_make("Concat", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(2, 1));
    bench_shape(b, DTYPE_FLOAT, DIMS(3, 1));
    bench_int(b, "axis", 1);
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": shapes (2, 1) and (3, 1) cannot be joined along axis 1");
    b = bench_make("Split", 13);
    b->call.output_count = 2;
    bench_shape(b, DTYPE_FLOAT, DIMS(5));
    bench_integers(b, INTS(2, 2));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": 2 sizes with sum 4 for 2 outputs and dimension 5");
    b = bench_make("Split", 13);
    b->call.output_count = 2;
    bench_shape(b, DTYPE_FLOAT, DIMS(5));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": dimension 5 cannot be split into 2 parts for 2 outputs");
}
END_TEST

static void expect_padded(const char *mode, int64_t begin, int64_t end, size_t count,
                          const double *values)
{
    operator_bench *b = bench_make("Pad", 19);
    bench_input(b, DTYPE_FLOAT, DIMS(3), NULL);
    bench_integers(b, INTS(begin, end));
    bench_input(b, DTYPE_FLOAT, SCALAR, NUMBERS(9));
    bench_text(b, "mode", mode);
    bench_run(b);
    bench_expect(b, 0, DIMS((int64_t)count), values);
    bench_free(b);
}

START_TEST(pad_modes)
{
    expect_padded("constant", 1, 2, 6, NUMBERS(9, 1, 2, 3, 9, 9));
    expect_padded("constant", -1, 1, 3, NUMBERS(2, 3, 9));
    expect_padded("constant", -4, 5, 4, NUMBERS(9, 9, 9, 9));
    expect_padded("reflect", 2, 1, 6, NUMBERS(3, 2, 1, 2, 3, 2));
    expect_padded("reflect", 5, 0, 8, NUMBERS(2, 1, 2, 3, 2, 1, 2, 3));
    expect_padded("edge", 2, -1, 4, NUMBERS(1, 1, 1, 2));
    expect_padded("wrap", 4, 1, 8, NUMBERS(3, 1, 2, 3, 1, 2, 3, 1));
}
END_TEST

START_TEST(pads_that_leave_nothing_to_take_from_are_refused)
{
    operator_bench *b = bench_make("Pad", 19);
    bench_shape(b, DTYPE_FLOAT, DIMS(3));
    bench_integers(b, INTS(-4, 0));
    bench_refuses(b, XAI_ERROR_SHAPE, BENCH_PLACE ": cannot pad dimension 0 of (3) by -4 and 0");
    b = bench_make("Pad", 19);
    bench_shape(b, DTYPE_FLOAT, DIMS(0));
    bench_integers(b, INTS(1, 0));
    bench_text(b, "mode", "edge");
    bench_refuses(b, XAI_ERROR_SHAPE, BENCH_PLACE ": cannot pad dimension 0 of (0) by 1 and 0");
    b = bench_make("Pad", 19);
    bench_shape(b, DTYPE_FLOAT, DIMS(3));
    bench_integers(b, INTS(INT64_MAX, 0));
    bench_refuses(b, XAI_ERROR_SHAPE,
                  BENCH_PLACE ": cannot pad dimension 0 of (3) by 9223372036854775807 and 0");
}
END_TEST

START_TEST(gathers_read_by_index)
{
    operator_bench *b = bench_make("Gather", 13);
    bench_input(b, DTYPE_FLOAT, DIMS(2, 3), NULL);
    bench_input(b, DTYPE_INT64, DIMS(2, 1), NUMBERS(2, -3));
    bench_int(b, "axis", 1);
    bench_run(b);
    bench_expect(b, 0, DIMS(2, 2, 1), NUMBERS(3, 1, 6, 4));
    bench_free(b);
    b = bench_make("GatherElements", 13);
    bench_input(b, DTYPE_FLOAT, DIMS(2, 3), NULL);
    bench_input(b, DTYPE_INT32, DIMS(1, 3), NUMBERS(1, 0, -1));
    bench_run(b);
    bench_expect(b, 0, DIMS(1, 3), NUMBERS(4, 2, 6));
    bench_free(b);
    b = bench_make("GatherND", 13);
    bench_input(b, DTYPE_FLOAT, DIMS(2, 2, 2), NULL);
    bench_input(b, DTYPE_INT64, DIMS(2, 1), NUMBERS(1, 0));
    bench_int(b, "batch_dims", 1);
    bench_run(b);
    bench_expect(b, 0, DIMS(2, 2), NUMBERS(3, 4, 5, 6));
    bench_free(b);
}
END_TEST

/* Indices that infer cannot see are checked when they are used. */
START_TEST(indices_out_of_range_are_refused)
{
    const char *const names[] = {"Gather", "GatherElements", "GatherND", "ScatterElements",
                                 "ScatterND"};
    for (int i = 0; i < 5; i++) {
        operator_bench *b = bench_make(names[i], 18);
        bench_input(b, DTYPE_FLOAT, DIMS(4), NULL);
        bench_input(b, DTYPE_INT64, i == 2 || i == 4 ? 2 : 1, (const int64_t[]){1, 1}, NUMBERS(4));
        if (i >= 3)
            bench_input(b, DTYPE_FLOAT, DIMS(1), NULL);
        ck_assert_int_eq(b->call.definition->infer(&b->call), XAI_OK);
        const shape dims = b->outputs[0].shape;
        ck_assert_int_eq(tensor_create(&b->outputs[0], DTYPE_FLOAT, &dims, NULL), XAI_OK);
        ck_assert_int_eq(b->call.definition->forward(&b->call), XAI_ERROR_SHAPE);
        ck_assert_str_eq(xai_error_message(b->error),
                         BENCH_PLACE ": index 4 is outside a dimension of size 4");
        bench_free(b);
    }
}
END_TEST

START_TEST(scatters_write_and_reduce)
{
    const char *const reductions[] = {"none", "add", "mul", "max", "min"};
    const double expected[] = {20, 31, 200, 20, 1}; /* 1 then 10 then 20 */
    for (int i = 0; i < 5; i++) {
        operator_bench *b = bench_make("ScatterElements", 18);
        bench_input(b, DTYPE_FLOAT, DIMS(3), NULL);
        bench_input(b, DTYPE_INT64, DIMS(2), NUMBERS(0, -3));
        bench_input(b, DTYPE_FLOAT, DIMS(2), NUMBERS(10, 20));
        bench_text(b, "reduction", reductions[i]);
        bench_run(b);
        bench_expect(b, 0, DIMS(3), NUMBERS(expected[i], 2, 3));
        bench_free(b);
    }
    operator_bench *b = bench_make("ScatterND", 18);
    bench_input(b, DTYPE_INT32, DIMS(3, 2), NULL);
    bench_input(b, DTYPE_INT64, DIMS(1, 1), NUMBERS(-1));
    bench_input(b, DTYPE_INT32, DIMS(1, 2), NUMBERS(70, 80));
    bench_run(b);
    bench_expect(b, 0, DIMS(3, 2), NUMBERS(1, 2, 3, 4, 70, 80));
    bench_free(b);
}
END_TEST

START_TEST(one_hot_marks_indices_in_range)
{
    operator_bench *b = bench_make("OneHot", 11);
    bench_input(b, DTYPE_INT64, DIMS(3), NUMBERS(1, -1, 5));
    bench_input(b, DTYPE_INT64, SCALAR, NUMBERS(3));
    bench_input(b, DTYPE_FLOAT, DIMS(2), NUMBERS(-1, 1));
    bench_int(b, "axis", 0);
    bench_run(b);
    bench_expect(b, 0, DIMS(3, 3), NUMBERS(-1, -1, -1, 1, -1, -1, -1, 1, -1));
    bench_free(b);
}
END_TEST

START_TEST(non_zero_lists_indices_of_constants)
{
    operator_bench *b = bench_make("NonZero", 13);
    bench_input(b, DTYPE_BOOL, DIMS(2, 2), NUMBERS(0, 1, 1, 0));
    bench_run(b);
    bench_expect(b, 0, DIMS(2, 2), NUMBERS(0, 1, 1, 0));
    bench_free(b);
}
END_TEST

START_TEST(shape_and_size_know_the_dimensions)
{
    operator_bench *b = bench_make("Shape", 15);
    bench_shape(b, DTYPE_FLOAT, DIMS(2, 3, 4, 5));
    bench_int(b, "start", -3);
    bench_int(b, "end", 100);
    bench_run(b);
    bench_expect(b, 0, DIMS(3), NUMBERS(3, 4, 5));
    bench_free(b);
    b = bench_make("Size", 13);
    bench_shape(b, DTYPE_FLOAT, DIMS(2, 3, 4, 5));
    bench_run(b);
    bench_expect(b, 0, SCALAR, NUMBERS(120));
    bench_free(b);
}
END_TEST

static void expect_cast(int32_t from, double value, int32_t to, double expected)
{
    operator_bench *b = bench_make("Cast", 13);
    bench_input(b, from, SCALAR, NUMBERS(value));
    bench_int(b, "to", to);
    bench_run(b);
    bench_expect(b, 0, SCALAR, NUMBERS(expected));
    bench_free(b);
}

START_TEST(casts_truncate_wrap_and_saturate)
{
    expect_cast(DTYPE_FLOAT, -2.7, DTYPE_INT32, -2);
    expect_cast(DTYPE_FLOAT, 1e20, DTYPE_INT32,
                INT32_MAX); /* undefined in the definition: not a crash */
    expect_cast(DTYPE_FLOAT, (double)NAN, DTYPE_INT64, 0);
    expect_cast(DTYPE_INT16, 200, DTYPE_INT8, -56);
    expect_cast(DTYPE_INT32, -1, DTYPE_UINT8, 255);
    expect_cast(DTYPE_DOUBLE, 1e300, DTYPE_FLOAT, (double)INFINITY);
    expect_cast(DTYPE_FLOAT, 65520, DTYPE_FLOAT16, (double)INFINITY);
    expect_cast(DTYPE_FLOAT, 0.25, DTYPE_BOOL, 1);
    expect_cast(DTYPE_BOOL, 1, DTYPE_FLOAT, 1);
}
END_TEST

START_TEST(ranges_and_filled_tensors)
{
    operator_bench *b = bench_make("Range", 11);
    bench_input(b, DTYPE_INT64, SCALAR, NUMBERS(10));
    bench_input(b, DTYPE_INT64, SCALAR, NUMBERS(4));
    bench_input(b, DTYPE_INT64, SCALAR, NUMBERS(-4));
    bench_run(b);
    bench_expect(b, 0, DIMS(2), NUMBERS(10, 6));
    bench_free(b);
    b = bench_make("Range", 11);
    bench_input(b, DTYPE_FLOAT, SCALAR, NUMBERS(0));
    bench_input(b, DTYPE_FLOAT, SCALAR, NUMBERS(1));
    bench_input(b, DTYPE_FLOAT, SCALAR, NUMBERS(0));
    bench_refuses(b, XAI_ERROR_SHAPE, BENCH_PLACE ": the range from 0 to 1 by 0 is not finite");
    b = bench_make("EyeLike", 9);
    bench_input(b, DTYPE_INT32, DIMS(2, 3), NULL);
    bench_int(b, "k", 1);
    bench_run(b);
    bench_expect(b, 0, DIMS(2, 3), NUMBERS(0, 1, 0, 0, 0, 1));
    bench_free(b);
    b = bench_make("ConstantOfShape", 9);
    bench_integers(b, INTS(2));
    bench_run(b);
    bench_expect(b, 0, DIMS(2), NUMBERS(0, 0));
    bench_free(b);
    b = bench_make("ConstantOfShape", 9);
    bench_integers(b, INTS(-2));
    bench_refuses(b, XAI_ERROR_SHAPE, BENCH_PLACE ": the shape has the negative value -2");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("data movement");
    TCase *tests = tcase_create("data movement");
    tcase_add_test(tests, reshape_copies_zeros_and_infers_one_dimension);
    tcase_add_test(tests, allowed_zeros_are_honoured);
    tcase_add_test(tests, impossible_reshapes_name_both_shapes);
    tcase_add_test(tests, dropout_does_nothing_and_its_mask_is_all_true);
    tcase_add_test(tests, transpositions_move_elements);
    tcase_add_test(tests, slices_clamp_their_bounds);
    tcase_add_test(tests, slices_of_length_and_step_zero_are_refused);
    tcase_add_test(tests, tile_and_trilu_repeat_and_mask);
    tcase_add_test(tests, concat_and_split_are_inverse);
    tcase_add_test(tests, misfitting_parts_are_refused);
    tcase_add_test(tests, pad_modes);
    tcase_add_test(tests, pads_that_leave_nothing_to_take_from_are_refused);
    tcase_add_test(tests, gathers_read_by_index);
    tcase_add_test(tests, indices_out_of_range_are_refused);
    tcase_add_test(tests, scatters_write_and_reduce);
    tcase_add_test(tests, one_hot_marks_indices_in_range);
    tcase_add_test(tests, non_zero_lists_indices_of_constants);
    tcase_add_test(tests, shape_and_size_know_the_dimensions);
    tcase_add_test(tests, casts_truncate_wrap_and_saturate);
    tcase_add_test(tests, ranges_and_filled_tensors);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
