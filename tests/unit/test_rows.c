/* The graph of one row of a fixed batch: where rows stay apart it computes each of them, where they may mix there is none. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "model_builder.h"

enum { ROWS = 3 };

#define DIMS(...)                                                          \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) \
    {                                                                      \
        __VA_ARGS__                                                        \
    }

/* x (3, 4, 6) of any model here, in which rows differ. */
static model_builder *start(void)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, DIMS(ROWS, 4, 6));
    return m;
}

static tensor ramp(int64_t rows)
{
    tensor x = {0};
    const shape dims = shape_make(DIMS(rows, 4, 6));
    unsigned state = 5;
    ck_assert_int_eq(tensor_create(&x, DTYPE_FLOAT, &dims, NULL), XAI_OK);
    for (size_t i = 0; i < tensor_count(&x); i++)
        tensor_set(&x, i, (double)model_uniform(&state));
    return x;
}

static tensor evaluate(const graph *of, const tensor *x)
{
    graph *made = NULL;
    tensor y = {0};
    xai_error *error = NULL;
    const xai_status status =
        graph_specialise(of, &x->shape, NULL, 0, GRAPH_REWRITES_ALL, &made, &error);
    ck_assert_msg(status == XAI_OK, "%s", error ? xai_error_message(error) : "");
    model_evaluate(made, x, made->outputs, 1, &y);
    graph_free(made);
    return y;
}

static void check(model_builder *m, bool apart)
{
    onnx_model *file = NULL;
    model_output(m, "y");
    graph *source = model_graph(m, &file), *row = NULL;
    xai_error *error = NULL;
    ck_assert_int_eq(graph_take_row(source, &row, &error), XAI_OK);
    ck_assert_msg((row != NULL) == apart, "rows are %s", row ? "apart" : "not apart");
    tensor x = ramp(ROWS), whole = evaluate(source, &x);
    for (size_t r = 0; row && r < ROWS; r++) {
        tensor one = {.dtype = x.dtype, .shape = x.shape};
        one.shape.dims[0] = 1;
        one.data = (char *)x.data + r * tensor_bytes(&one);
        tensor y = evaluate(row, &one);
        const size_t count = tensor_count(&y);
        ck_assert_uint_eq(count * ROWS, tensor_count(&whole));
        for (size_t i = 0; i < count; i++)
            ck_assert_double_eq_tol(tensor_get(&y, i), tensor_get(&whole, r * count + i), 1e-6);
        tensor_free(&y);
    }
    tensor_free(&whole);
    tensor_free(&x);
    graph_free(row);
    graph_free(source);
    onnx_model_free(file);
    model_free(m);
}

/* Class token written out for the batch, heads, products of rows, a shape with the batch in it. */
START_TEST(attention_with_the_batch_in_its_constants)
{
    model_builder *m = start();
    float token[ROWS * 6];
    for (int i = 0; i < ROWS * 6; i++)
        token[i] = (float)(i % 6);
    model_floats(m, "token", DIMS(ROWS, 1, 6), token);
    model_random(m, "w", DIMS(6, 6), 1);
    model_random(m, "position", DIMS(1, 5, 6), 2);
    model_ints(m, "heads", 4, (int64_t[]){ROWS, 5, 2, 3});
    model_ints(m, "together", 3, (int64_t[]){ROWS, 5, -1});
    model_ints(m, "flat", 2, (int64_t[]){ROWS, 30});
    model_node(m, "Concat", "token x", "tokens");
    model_int_attribute(m, "axis", 1);
    model_node(m, "Add", "tokens position", "placed");
    model_node(m, "MatMul", "placed w", "q");
    model_node(m, "Reshape", "q heads", "q4");
    model_node(m, "Transpose", "q4", "qh");
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 2, 1, 3});
    model_node(m, "Transpose", "q4", "kh");
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 2, 3, 1});
    model_node(m, "MatMul", "qh kh", "s");
    model_node(m, "Softmax", "s", "p");
    model_int_attribute(m, "axis", -1);
    model_node(m, "MatMul", "p qh", "mixed");
    model_node(m, "Transpose", "mixed", "back");
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 2, 1, 3});
    model_node(m, "Reshape", "back together", "t");
    model_node(m, "Reshape", "t flat", "y");
    check(m, true);
}
END_TEST

/* Windows: four rows of the new batch for each of the old. */
START_TEST(windows_multiply_the_batch)
{
    model_builder *m = start();
    model_ints(m, "cut", 4, (int64_t[]){ROWS, 2, 2, 6});
    model_ints(m, "windows", 3, (int64_t[]){ROWS * 2, 2, 6});
    model_ints(m, "joined", 3, (int64_t[]){-1, 4, 6});
    model_random(m, "mask", DIMS(1, 2, 6), 3);
    model_node(m, "Reshape", "x cut", "a");
    model_node(m, "Reshape", "a windows", "b");
    model_node(m, "Mul", "b mask", "c");
    model_node(m, "ReduceMean", "c", "mean");
    model_ints_attribute(m, "axes", 1, (int64_t[]){1});
    model_node(m, "Sub", "c mean", "d");
    model_node(m, "Reshape", "d joined", "y");
    check(m, true);
}
END_TEST

/* Time first, states written out, the last step alone. */
START_TEST(recurrent_layers_have_their_rows_on_axis_1)
{
    model_builder *m = start();
    model_fill(m, "h", DIMS(1, ROWS, 5), 0.25f);
    model_random(m, "w", DIMS(1, 15, 6), 1);
    model_random(m, "r", DIMS(1, 15, 5), 2);
    model_ints(m, "axes", 1, (int64_t[]){0});
    model_node(m, "Transpose", "x", "time");
    model_ints_attribute(m, "perm", 3, (int64_t[]){1, 0, 2});
    model_node(m, "GRU", "time w r - - h", "all last");
    model_int_attribute(m, "hidden_size", 5);
    model_node(m, "Squeeze", "last axes", "y");
    check(m, true);
}
END_TEST

START_TEST(products_by_letters)
{
    model_builder *m = start();
    model_random(m, "w", DIMS(4, 2), 1);
    model_node(m, "Einsum", "x x w", "y");
    model_text_attribute(m, "equation", "bij,bkj,kl->bil");
    check(m, true);
    m = start();
    model_node(m, "Einsum", "x x", "y");
    model_text_attribute(m, "equation", "bij,cij->bc");
    check(m, false);
}
END_TEST

static void one_node(const char *op, const char *inputs, const char *attribute, int64_t value,
                     bool apart)
{
    model_builder *m = start();
    float rows[ROWS * 24];
    for (int i = 0; i < ROWS * 24; i++)
        rows[i] = (float)i;
    model_floats(m, "rows", DIMS(ROWS, 4, 6), rows);
    model_ints(m, "first", 1, (int64_t[]){0});
    model_ints(m, "second", 1, (int64_t[]){1});
    model_ints(m, "others", 3, (int64_t[]){2, 0, 1});
    model_ints(m, "shape", 2, (int64_t[]){ROWS * 2, 12});
    model_ints(m, "turned", 3, (int64_t[]){4, ROWS, 6});
    model_ints(m, "moved", 6, (int64_t[]){1, 0, 0, -1, 0, 0});
    model_ints(m, "from", 1, (int64_t[]){-1});
    model_ints(m, "to", 1, (int64_t[]){-9});
    model_node(m, op, inputs, "y");
    if (attribute)
        model_int_attribute(m, attribute, value);
    check(m, apart);
}

START_TEST(what_mixes_rows_is_seen)
{
    one_node("Softmax", "x", "axis", 0, false);
    one_node("Softmax", "x", "axis", 1, true);
    one_node("CumSum", "x first", NULL, 0, false);
    one_node("CumSum", "x second", NULL, 0, true);
    one_node("Gather", "x others", "axis", 0, false);
    one_node("Gather", "x others", "axis", 1, true);
    one_node("Add", "x rows", NULL, 0, false);
    one_node("Concat", "x rows", "axis", 1, false);
    one_node("Concat", "x x", "axis", 0, false);
    one_node("Concat", "x x", "axis", 2, true);
    one_node("ReduceSum", "x first", "keepdims", 1, false);
    one_node("ReduceSum", "x second", "keepdims", 0, true);
    one_node("ReduceMean", "x", "keepdims", 1, false);
    one_node("Reshape", "x turned", NULL, 0, false);
    one_node("Reshape", "x shape", NULL, 0, false); /* two rows of the output for each */
    one_node("Slice", "x from to first from", NULL, 0, false);
    one_node("Slice", "x from to second from", NULL, 0, false); /* not told from the one before */
    one_node("Slice", "x first second second", NULL, 0, true);
    one_node("Pad", "x moved", NULL, 0, false);
    one_node("Transpose", "x", NULL, 0, false); /* the output does not begin with the rows */
    one_node("ArgMax", "x", "axis", 0, false);
    one_node("Flatten", "x", "axis", 1, true);
    one_node("Flatten", "x", "axis", 2, false); /* four rows of the output for each of the batch */
    one_node("LayerNormalization", "x rows", "axis", 0, false);
}
END_TEST

START_TEST(a_batch_of_one_and_a_free_one_have_no_row_graph)
{
    for (int64_t batch = -1; batch <= 1; batch += 2) {
        onnx_model *file = NULL;
        graph *row = NULL;
        xai_error *error = NULL;
        model_builder *m = model_create(17);
        model_input(m, "x", DTYPE_FLOAT, DIMS(batch, 4));
        model_node(m, "Relu", "x", "y");
        model_output(m, "y");
        graph *source = model_graph(m, &file);
        ck_assert_int_eq(graph_take_row(source, &row, &error), XAI_OK);
        ck_assert_ptr_null(row);
        graph_free(source);
        onnx_model_free(file);
        model_free(m);
    }
}
END_TEST

int main(void)
{
    TCase *all = tcase_create("rows");
    tcase_add_test(all, attention_with_the_batch_in_its_constants);
    tcase_add_test(all, windows_multiply_the_batch);
    tcase_add_test(all, recurrent_layers_have_their_rows_on_axis_1);
    tcase_add_test(all, products_by_letters);
    tcase_add_test(all, what_mixes_rows_is_seen);
    tcase_add_test(all, a_batch_of_one_and_a_free_one_have_no_row_graph);
    Suite *suite = suite_create("rows");
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
