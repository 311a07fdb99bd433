/* Sessions: scores, gradients, score kinds, and every way in which inputs and targets can be
 * wrong. */
#include "explain_models.h"

#include <math.h>

#define EXACT 1e-5

static xai_session *make_session(xai_model *model)
{
    xai_session *session = NULL;
    ck_ok(xai_session_create(model, NULL, &session, error));
    return session;
}

static xai_tensor *scores_of(xai_model *model, const xai_tensor *x)
{
    xai_session *session = make_session(model);
    xai_tensor *y = NULL;
    ck_ok(xai_session_scores(session, &x, 1, &y, 1, error));
    xai_session_free(session);
    return y;
}

/* One target by one value. */
static xai_tensor *gradient_of(xai_model *model, const xai_tensor *x, const xai_target *target,
                               int32_t kind, const char *wrt, double *score)
{
    xai_session *session = make_session(model);
    xai_tensor *gradient = NULL, *score_tensor = NULL;
    ck_ok(xai_session_gradients(session, &x, 1, &target, 1, kind, wrt != NULL ? &wrt : NULL,
                                wrt != NULL ? 1 : 0, &gradient, &score_tensor, error));
    ck_assert_int_eq(xai_tensor_dtype(score_tensor), XAI_DTYPE_FLOAT64);
    if (score != NULL)
        memcpy(score, xai_tensor_data(score_tensor), sizeof *score);
    xai_tensor_free(score_tensor);
    xai_session_free(session);
    return gradient;
}

/* x (N, 3) -> z = W x -> `final` -> y, W = ((1 2 -1) (0 1 1)); logits of x = (1, 0.5, 0.25) are
 * 1.75 and 0.75. */
static model_builder *linear_builder(const char *final)
{
    static const int64_t input[] = {-1, 3}, matrix[] = {3, 2};
    static const float weights[] = {1, 0, 2, 1, -1, 1};
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 2, input);
    model_floats(m, "w", 2, matrix, weights);
    model_node(m, "MatMul", "x w", final != NULL ? "z" : "y");
    if (final != NULL)
        model_node(m, final, "z", "y");
    model_output(m, "y");
    return m;
}

static xai_tensor *linear_input(void)
{
    static const int64_t dims[] = {1, 3};
    static const float values[] = {1, 0.5F, 0.25F};
    xai_tensor *x = NULL;
    ck_ok(xai_tensor_create(XAI_DTYPE_FLOAT32, 2, dims, values, &x, error));
    return x;
}

START_TEST(scores_of_rows_are_those_of_the_model)
{
    static const double expected[] = {54, 0, 0, 96};
    static const int64_t dims[] = {2, 4};
    xai_model *model = convnet("Relu");
    xai_tensor *x = ramp(2, 0), *y = scores_of(model, x);
    assert_dims(y, 2, dims);
    for (size_t i = 0; i < 8; i++)
        ck_assert_double_eq_tol(floats_of(y)[i], expected[i % 4], EXACT);
    xai_tensor_free(y);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(inner_values_are_given_by_name)
{
    static const double conv1[] = {-5, 4, 31, 40, -30, -21, 6, 15};
    static const int64_t dims[] = {1, 2, 2, 2};
    static const char *const names[] = {"node_conv1", "y", "1"};
    xai_model *model = convnet(NULL);
    xai_session *session = make_session(model);
    xai_tensor *x = ramp(1, 0), *values[3] = {NULL};
    const xai_tensor *inputs[] = {x};
    ck_ok(xai_session_values(session, inputs, 1, names, 3, values, error));
    assert_dims(values[0], 4, dims);
    assert_values(values[0], 8, conv1, EXACT);
    ck_assert_double_eq_tol(floats_of(values[1])[3], 96, EXACT);
    ck_assert_double_eq_tol(floats_of(values[2])[0], 0, EXACT);
    ck_assert_uint_gt(xai_session_arena_bytes(session), 0);
    for (int i = 0; i < 3; i++)
        xai_tensor_free(values[i]);
    const char *unknown = "conv7";
    ck_fails(xai_session_values(session, inputs, 1, &unknown, 1, values, error),
             XAI_ERROR_NOT_FOUND, "'conv1'");
    xai_tensor_free(x);
    xai_session_free(session);
    xai_model_free(model);
}
END_TEST

/* d z_0 / d x = the first column of W. */
START_TEST(gradient_of_a_raw_score)
{
    static const double expected[] = {1, 2, -1};
    double score = 0;
    xai_model *model = open_built(linear_builder(NULL));
    xai_tensor *x = linear_input();
    xai_target *target = target_index(0);
    xai_tensor *g = gradient_of(model, x, target, XAI_SCORE_RAW, NULL, &score);
    assert_values(g, 3, expected, EXACT);
    ck_assert_double_eq_tol(score, 1.75, EXACT);
    xai_tensor_free(g);
    xai_target_free(target);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(logit_strips_the_final_activation)
{
    static const char *const finals[] = {"Sigmoid", "Softmax", "LogSoftmax"};
    static const double expected[] = {0, 1, 1};
    for (int i = 0; i < 3; i++) {
        double score = 0;
        xai_model *model = open_built(linear_builder(finals[i]));
        xai_tensor *x = linear_input();
        xai_target *target = target_index(1);
        xai_tensor *g = gradient_of(model, x, target, XAI_SCORE_LOGIT, NULL, &score);
        assert_values(g, 3, expected, EXACT);
        ck_assert_double_eq_tol(score, 0.75, EXACT);
        xai_tensor_free(g);
        xai_target_free(target);
        xai_tensor_free(x);
        xai_model_free(model);
    }
}
END_TEST

/* The same probability and gradient, whether the model computes it or its card names the
 * activation. */
START_TEST(probability_comes_from_the_model_or_its_card)
{
    const double s = 1 / (1 + exp(-1.75)),
                 p = 1 / (1 + exp(-1.0)); /* softmax of two = sigmoid of the difference */
    static const struct {
        const char *final, *score;
        bool softmax;
    } cases[] = {{"Sigmoid", NULL, false},
                 {NULL, "sigmoid", false},
                 {"Softmax", NULL, true},
                 {"LogSoftmax", NULL, true},
                 {NULL, "softmax", true}};
    for (int i = 0; i < 5; i++) {
        model_builder *m = linear_builder(cases[i].final);
        if (cases[i].score != NULL)
            model_metadata(m, "xai.output.activation", cases[i].score);
        if (cases[i].score != NULL)
            model_metadata(m, "xai.output.score", "logit");
        double score = 0;
        xai_model *model = open_built(m);
        xai_tensor *x = linear_input();
        xai_target *target = target_index(0);
        xai_tensor *g = gradient_of(model, x, target, XAI_SCORE_PROBABILITY, NULL, &score);
        const double slope = cases[i].softmax ? p * (1 - p) : s * (1 - s);
        const double w[2][3] = {{1, 2, -1}, {1, 1, -2}}; /* column 0; column 0 - column 1 */
        const double *column = w[cases[i].softmax];
        const double expected[] = {slope * column[0], slope * column[1], slope * column[2]};
        assert_values(g, 3, expected, EXACT);
        ck_assert_double_eq_tol(score, cases[i].softmax ? p : s, 1e-6);
        xai_tensor_free(g);
        xai_target_free(target);
        xai_tensor_free(x);
        xai_model_free(model);
    }
}
END_TEST

START_TEST(probability_of_undeclared_logits_is_refused)
{
    xai_model *model = open_built(linear_builder(NULL));
    xai_session *session = make_session(model);
    xai_tensor *x = linear_input(), *g = NULL;
    const xai_tensor *inputs[] = {x};
    ck_fails(xai_session_gradients(session, inputs, 1, NULL, 1, XAI_SCORE_PROBABILITY, NULL, 0, &g,
                                   NULL, error),
             XAI_ERROR_UNSUPPORTED, "card");
    ck_fails(xai_session_gradients(session, inputs, 1, NULL, 1, 7, NULL, 0, &g, NULL, error),
             XAI_ERROR_ARGUMENT, "7");
    ck_assert_ptr_null(g);
    xai_tensor_free(x);
    xai_session_free(session);
    xai_model_free(model);
}
END_TEST

/* A map output: y = Conv(x), (1, 2, 2, 2); the gradient of one element is the kernel in its
 * window, that of a region the sum. */
START_TEST(elements_and_regions_of_map_outputs)
{
    static const int64_t image[] = {1, 1, 4, 4}, kernel[] = {2, 1, 3, 3}, at[] = {1, 0, 1},
                         begin[] = {1, 0, 0}, end[] = {2, -1, -1};
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 4, image);
    model_fill(m, "w", 4, kernel, 2);
    model_node(m, "Conv", "x w", "y");
    model_output(m, "y");
    xai_model *model = open_built(m);
    xai_tensor *x = ramp(1, 0);
    xai_target *element = NULL, *region = NULL;
    ck_ok(xai_target_create(&element, error));
    ck_ok(xai_target_add_element(element, at, 3, error));
    ck_ok(xai_target_create(&region, error));
    ck_ok(xai_target_add_region(region, begin, end, 3, error));
    double score = 0;
    xai_tensor *g = gradient_of(model, x, element, XAI_SCORE_RAW, NULL, &score);
    double expected[16] = {0};
    for (int row = 0; row < 3; row++)
        for (int column = 1; column < 4; column++)
            expected[4 * row + column] = 2;
    assert_values(g, 16, expected, EXACT);
    ck_assert_double_eq_tol(score, 2 * 54, EXACT);
    xai_tensor_free(g);
    g = gradient_of(model, x, region, XAI_SCORE_RAW, NULL, &score);
    for (int row = 0; row < 4; row++)
        for (int column = 0; column < 4; column++)
            expected[4 * row + column] = 2 * (row % 3 ? 2 : 1) * (column % 3 ? 2 : 1);
    assert_values(g, 16, expected, EXACT);
    ck_assert_double_eq_tol(score, 2 * (45 + 54 + 81 + 90), EXACT);
    xai_tensor_free(g);
    xai_session *session = make_session(model);
    xai_target *index = target_index(1);
    const xai_tensor *inputs[] = {x};
    const xai_target *wrong[] = {index};
    ck_fails(xai_session_gradients(session, inputs, 1, wrong, 1, XAI_SCORE_RAW, NULL, 0, &g, NULL,
                                   error),
             XAI_ERROR_ARGUMENT, "region");
    xai_session_free(session);
    xai_target_free(index);
    xai_target_free(element);
    xai_target_free(region);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(wrong_targets_are_refused)
{
    xai_model *model = convnet(NULL);
    xai_session *session = make_session(model);
    xai_tensor *x = ramp(3, 0), *g = NULL;
    const xai_tensor *inputs[] = {x};
    xai_target *far = target_index(4), *two = target_index(0), *label = NULL,
               *output = target_index(0);
    ck_ok(xai_target_add_index(two, 1, error));
    ck_ok(xai_target_create(&label, error));
    ck_ok(xai_target_add_label(label, "Effusion", error));
    ck_ok(xai_target_set_output(output, "Y", error));
    const struct {
        const xai_target *target;
        xai_status status;
        const char *part;
    } cases[] = {{far, XAI_ERROR_NOT_FOUND, "4 scores"},
                 {two, XAI_ERROR_SHAPE, "2 choices for 3 rows"},
                 {label, XAI_ERROR_NOT_FOUND, "no labels"},
                 {output, XAI_ERROR_NOT_FOUND, "'y'"}};
    for (int i = 0; i < 4; i++)
        ck_fails(xai_session_gradients(session, inputs, 1, &cases[i].target, 1, XAI_SCORE_RAW, NULL,
                                       0, &g, NULL, error),
                 cases[i].status, cases[i].part);
    xai_target_free(far);
    xai_target_free(two);
    xai_target_free(label);
    xai_target_free(output);
    xai_tensor_free(x);
    xai_session_free(session);
    xai_model_free(model);
}
END_TEST

START_TEST(inputs_that_do_not_fit_are_refused)
{
    static const int64_t small[] = {1, 1, 3, 4}, flat[] = {1, 16}, row[] = {1, 4, 4},
                         none[] = {0, 1, 4, 4}, good[] = {1, 1, 4, 4};
    const struct {
        int32_t dtype, rank;
        const int64_t *dims;
        const char *part;
    } cases[] = {{XAI_DTYPE_FLOAT32, 4, small, "(1, 1, 3, 4)"},
                 {XAI_DTYPE_FLOAT32, 2, flat, "(1, 16)"},
                 {XAI_DTYPE_FLOAT32, 3, row, "counts the rows"},
                 {XAI_DTYPE_FLOAT32, 4, none, "no rows"},
                 {XAI_DTYPE_UINT8, 4, good, "float32, not uint8"}};
    xai_model *model = convnet(NULL);
    xai_session *session = make_session(model);
    xai_tensor *y = NULL;
    for (int i = 0; i < 5; i++) {
        xai_tensor *x = NULL;
        ck_ok(xai_tensor_create(cases[i].dtype, cases[i].rank, cases[i].dims, NULL, &x, error));
        const xai_tensor *inputs[] = {x, x};
        ck_fails(xai_session_scores(session, inputs, 1, &y, 1, error), XAI_ERROR_SHAPE,
                 cases[i].part);
        ck_fails(xai_session_scores(session, inputs, 2, &y, 1, error), XAI_ERROR_ARGUMENT,
                 "2 inputs");
        xai_tensor_free(x);
    }
    ck_assert_ptr_null(y);
    xai_session_free(session);
    xai_model_free(model);
}
END_TEST

START_TEST(nan_in_the_input_is_refused_with_its_place)
{
    xai_model *model = convnet(NULL);
    xai_session *session = make_session(model);
    xai_tensor *x = ramp(2, 0), *y = NULL;
    const xai_tensor *inputs[] = {x};
    ((float *)xai_tensor_mutable_data(x))[16 + 6] = NAN;
    ck_fails(xai_session_scores(session, inputs, 1, &y, 1, error), XAI_ERROR_NUMERIC,
             "input 'x': NaN at (1, 0, 1, 2)");
    ((float *)xai_tensor_mutable_data(x))[16 + 6] = INFINITY;
    ck_fails(xai_session_scores(session, inputs, 1, &y, 1, error), XAI_ERROR_NUMERIC,
             "infinity at (1, 0, 1, 2)");
    xai_session_free(session);
    xai_session_options *options = NULL;
    ck_ok(xai_session_options_create(&options, error));
    ck_ok(xai_session_options_set_allow_nonfinite(options, 1, error));
    ck_ok(xai_session_create(model, options, &session, error));
    ck_ok(xai_session_scores(session, inputs, 1, &y, 1, error));
    xai_session_options_free(options);
    xai_tensor_free(y);
    xai_tensor_free(x);
    xai_session_free(session);
    xai_model_free(model);
}
END_TEST

/* exp(200) overflows float32. */
START_TEST(scores_that_overflow_are_an_error)
{
    static const int64_t dims[] = {1, 3};
    static const float values[] = {200, 0, 0};
    xai_model *model = open_built(linear_builder("Exp"));
    xai_session *session = make_session(model);
    xai_tensor *x = NULL, *y = NULL;
    ck_ok(xai_tensor_create(XAI_DTYPE_FLOAT32, 2, dims, values, &x, error));
    const xai_tensor *inputs[] = {x};
    ck_fails(xai_session_scores(session, inputs, 1, &y, 1, error), XAI_ERROR_NUMERIC, "y");
    ck_fails(
        xai_session_gradients(session, inputs, 1, NULL, 1, XAI_SCORE_RAW, NULL, 0, &y, NULL, error),
        XAI_ERROR_NUMERIC, "y");
    xai_tensor_free(x);
    xai_session_free(session);
    xai_model_free(model);
}
END_TEST

/* Fixed batch of 1 takes any number of rows; a fixed batch of 2 takes even numbers. */
START_TEST(fixed_batches_take_many_rows)
{
    for (int64_t batch = 1; batch <= 2; batch++) {
        const int64_t input[] = {batch, 1, 4, 4}, kernel[] = {1, 1, 4, 4}, flat[] = {0, -1};
        model_builder *m = model_create(17);
        model_input(m, "x", DTYPE_FLOAT, 4, input);
        model_random(m, "w", 4, kernel, 3);
        model_ints(m, "flat", 2, flat);
        model_node(m, "Conv", "x w", "conv");
        model_node(m, "Reshape", "conv flat", "y");
        model_output(m, "y");
        xai_model *model = open_built(m);
        xai_session *session = make_session(model);
        xai_tensor *x = ramp(4, 1), *three = ramp(3, 1), *y = NULL, *g = NULL;
        const xai_tensor *inputs[] = {x}, *odd[] = {three};
        ck_ok(xai_session_scores(session, inputs, 1, &y, 1, error));
        ck_assert_int_eq(xai_tensor_dims(y)[0], 4);
        ck_ok(xai_session_gradients(session, inputs, 1, NULL, 1, XAI_SCORE_RAW, NULL, 0, &g, NULL,
                                    error));
        for (size_t row = 1; row < 4; row++) /* a linear model: the kernel in every row */
            assert_same_bits(g, 0, g, 16 * row, 16);
        double sum = 0;
        for (size_t i = 0; i < 16; i++)
            sum += (double)floats_of(g)[i] * (double)floats_of(x)[16 + i];
        ck_assert_double_eq_tol(floats_of(y)[1], sum, 1e-4);
        xai_tensor_free(y);
        y = NULL;
        if (batch == 2) {
            ck_fails(xai_session_scores(session, odd, 1, &y, 1, error), XAI_ERROR_SHAPE,
                     "multiple");
        } else {
            ck_ok(xai_session_scores(session, odd, 1, &y, 1, error));
            xai_tensor_free(y);
        }
        xai_tensor_free(g);
        xai_tensor_free(three);
        xai_tensor_free(x);
        xai_session_free(session);
        xai_model_free(model);
    }
}
END_TEST

START_TEST(free_sizes_may_change_from_call_to_call)
{
    static const int64_t free_size[] = {-1, 1, -1, -1}, kernel[] = {2, 1, 3, 3};
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 4, free_size);
    model_fill(m, "w", 4, kernel, 1);
    model_node(m, "Conv", "x w", "conv");
    model_node(m, "GlobalAveragePool", "conv", "pool");
    model_node(m, "Flatten", "pool", "y");
    model_output(m, "y");
    xai_model *model = open_built(m);
    xai_session *session = make_session(model);
    for (int64_t size = 3; size < 16; size++) { /* more shapes than plans are kept */
        const int64_t dims[] = {1, 1, size, size + 1};
        xai_tensor *x = NULL, *y = NULL;
        ck_ok(xai_tensor_create(XAI_DTYPE_FLOAT32, 4, dims, NULL, &x, error));
        for (size_t i = 0; i < xai_tensor_count(x); i++)
            ((float *)xai_tensor_mutable_data(x))[i] = 0.5F;
        const xai_tensor *inputs[] = {x};
        ck_ok(xai_session_scores(session, inputs, 1, &y, 1, error));
        ck_assert_double_eq_tol(floats_of(y)[0], 4.5, EXACT);
        xai_tensor_free(y);
        xai_tensor_free(x);
    }
    xai_session_free(session);
    xai_model_free(model);
}
END_TEST

/* Two inputs, one of them an integer, and two outputs. */
START_TEST(several_inputs_and_outputs)
{
    static const int64_t three[] = {-1, 3};
    model_builder *m = model_create(17);
    model_input(m, "a", DTYPE_FLOAT, 2, three);
    model_input(m, "k", DTYPE_INT32, 2, three);
    model_node(m, "Cast", "k", "b");
    model_int_attribute(m, "to", DTYPE_FLOAT);
    model_node(m, "Mul", "a b", "product");
    model_node(m, "Add", "product a", "sum");
    model_output(m, "product");
    model_output(m, "sum");
    xai_model *model = open_built(m);
    ck_assert_uint_eq(xai_model_input_count(model), 2);
    ck_assert_uint_eq(xai_model_output_count(model), 2);
    ck_assert_int_eq(xai_model_find_input(model, "k"), 1);
    ck_assert_int_eq(xai_model_find_input(model, "z"), -1);
    ck_assert_int_eq(xai_model_input_dtype(model, 1), XAI_DTYPE_INT32);
    const int64_t dims[] = {2, 3};
    const float a[] = {1, 2, 3, 4, 5, 6};
    const int32_t k[] = {7, 8, 9, 10, 11, 12};
    xai_tensor *inputs[2] = {NULL}, *outputs[2] = {NULL}, *gradients[2] = {NULL};
    ck_ok(xai_tensor_create(XAI_DTYPE_FLOAT32, 2, dims, a, &inputs[0], error));
    ck_ok(xai_tensor_create(XAI_DTYPE_INT32, 2, dims, k, &inputs[1], error));
    xai_session *session = make_session(model);
    const xai_tensor *const *given = (const xai_tensor *const *)inputs;
    ck_ok(xai_session_scores(session, given, 2, outputs, 2, error));
    ck_assert_double_eq_tol(floats_of(outputs[0])[5], 72, EXACT);
    ck_assert_double_eq_tol(floats_of(outputs[1])[5], 78, EXACT);
    xai_target *target = target_index(2);
    ck_ok(xai_target_set_output(target, "sum", error));
    const xai_target *targets[] = {target};
    ck_ok(xai_session_gradients(session, given, 2, targets, 1, XAI_SCORE_RAW, NULL, 0, gradients,
                                NULL, error));
    ck_assert_ptr_null(gradients[1]); /* integers have no gradient */
    const double expected[] = {0, 0, 10, 0, 0, 13};
    assert_values(gradients[0], 6, expected, EXACT);
    const char *wrt = "k";
    xai_tensor *none = NULL;
    ck_fails(xai_session_gradients(session, given, 2, targets, 1, XAI_SCORE_RAW, &wrt, 1, &none,
                                   NULL, error),
             XAI_ERROR_UNSUPPORTED, "k");
    for (int i = 0; i < 2; i++) {
        xai_tensor_free(inputs[i]);
        xai_tensor_free(outputs[i]);
        xai_tensor_free(gradients[i]);
    }
    xai_target_free(target);
    xai_session_free(session);
    xai_model_free(model);
}
END_TEST

START_TEST(plans_tell_their_steps)
{
    xai_model *model = convnet("Relu");
    xai_session *session = make_session(model);
    xai_tensor *x = ramp(1, 0);
    const xai_tensor *inputs[] = {x};
    const char *wrt = "x";
    xai_plan *forward = NULL, *both = NULL;
    ck_ok(xai_session_plan(session, inputs, 1, NULL, 0, &forward, error));
    ck_ok(xai_session_plan(session, inputs, 1, &wrt, 1, &both, error));
    xai_session_free(session);
    ck_assert_uint_gt(xai_plan_step_count(forward), 0);
    ck_assert_uint_gt(xai_plan_step_count(both), xai_plan_step_count(forward));
    size_t backward = 0;
    for (size_t i = 0; i < xai_plan_step_count(both); i++) {
        backward += (size_t)xai_plan_step_backward(both, i);
        ck_assert_str_ne(xai_plan_step_implementation(both, i), "");
    }
    ck_assert_uint_gt(backward, 0);
    ck_assert_str_eq(xai_plan_step_node(both, 1000), "");
    ck_assert_str_eq(xai_plan_buffer_value(both, 1000), "");
    ck_assert_double_eq(xai_plan_step_milliseconds(both, 0), 0); /* nothing ran */
    ck_assert_uint_gt(xai_plan_buffer_count(both), xai_plan_buffer_count(forward));
    xai_plan_free(forward);
    xai_plan_free(both);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(profile_times_every_step)
{
    xai_model *model = convnet("Relu");
    xai_session *session = make_session(model);
    xai_tensor *x = ramp(2, 0);
    const xai_tensor *inputs[] = {x};
    const char *wrt = "x";
    xai_plan *plan = NULL;
    double forward = 0, backward = 0;
    ck_ok(xai_session_profile(session, inputs, 1, &wrt, 1, 3, &plan, error));
    for (size_t i = 0; i < xai_plan_step_count(plan); i++) {
        const double time = xai_plan_step_milliseconds(plan, i);
        ck_assert_double_ge(time, 0);
        *(xai_plan_step_backward(plan, i) ? &backward : &forward) += time;
    }
    ck_assert_double_gt(forward, 0);
    ck_assert_double_gt(backward, 0);
    xai_plan_free(plan);
    ck_assert_int_eq(xai_session_profile(session, inputs, 1, &wrt, 1, 0, &plan, NULL),
                     XAI_ERROR_ARGUMENT);
    xai_session_free(session);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

typedef struct watch {
    size_t calls, stop_at, total;
} watch;

static int32_t on_progress(void *user, size_t done, size_t total)
{
    watch *self = user;
    self->calls++;
    self->total = total;
    return done >= self->stop_at;
}

START_TEST(progress_counts_rows_and_cancels)
{
    xai_model *model = convnet(NULL);
    xai_tensor *x = ramp(5, 1);
    const xai_tensor *inputs[] = {x};
    for (int mode = XAI_MODE_LATENCY; mode <= XAI_MODE_THROUGHPUT; mode++) {
        for (size_t stop_at = 0; stop_at <= 100; stop_at += 50) { /* at once; never */
            watch seen = {.stop_at = stop_at == 50 ? 2 : stop_at};
            xai_session_options *options = NULL;
            xai_session *session = NULL;
            xai_tensor *y = NULL;
            ck_ok(xai_session_options_create(&options, error));
            ck_ok(xai_session_options_set_mode(options, mode, error));
            ck_ok(xai_session_options_set_progress(options, on_progress, &seen, error));
            ck_ok(xai_session_create(model, options, &session, error));
            if (stop_at == 100) {
                ck_ok(xai_session_scores(session, inputs, 1, &y, 1, error));
                ck_assert_uint_ge(seen.calls, 5);
                ck_assert_uint_eq(seen.total, 5);
                xai_tensor_free(y);
            } else {
                ck_fails(xai_session_scores(session, inputs, 1, &y, 1, error), XAI_ERROR_CANCELLED,
                         "cancel");
                ck_assert_ptr_null(y);
            }
            xai_session_free(session);
            xai_session_options_free(options);
        }
    }
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(memory_limit_is_an_error_not_a_crash)
{
    xai_model *model = convnet(NULL);
    xai_tensor *x = ramp(1, 0), *y = NULL;
    const xai_tensor *inputs[] = {x};
    xai_session_options *options = NULL;
    xai_session *session = NULL;
    ck_ok(xai_session_options_create(&options, error));
    ck_ok(xai_session_options_set_memory_limit(options, 16, error));
    ck_ok(xai_session_create(model, options, &session, error));
    ck_fails(xai_session_scores(session, inputs, 1, &y, 1, error), XAI_ERROR_MEMORY, "");
    xai_session_free(session);
    xai_session_options_free(options);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

static int32_t stop_later(void *user, size_t done, size_t total)
{
    watch *self = user;
    ck_assert_uint_eq(
        done + 1, total + (self->calls > 6)); /* of one run; the last call says that it is done */
    return ++self->calls >= self->stop_at;
}

/* What lies behind shapes that depend on data is asked between its nodes. */
START_TEST(an_end_behind_the_plan_can_be_cancelled)
{
    static const int64_t dims[] = {1, 4};
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 2, dims);
    model_node(m, "NonZero", "x", "places");
    model_node(m, "Cast", "places", "a");
    model_int_attribute(m, "to", DTYPE_FLOAT);
    model_node(m, "Neg", "a", "b");
    model_node(m, "Exp", "b", "c");
    model_node(m, "Neg", "c", "d");
    model_node(m, "Exp", "d", "y");
    model_output(m, "y");
    xai_model *model = open_built(m);
    xai_tensor *x = NULL, *y = NULL;
    ck_ok(xai_tensor_create(XAI_DTYPE_FLOAT32, 2, dims, (const float[]){1, 0, 2, 3}, &x, error));
    const xai_tensor *inputs[] = {x};
    for (size_t stop_at = 1; stop_at <= 100; stop_at += stop_at < 7 ? 1 : 93) {
        watch seen = {.stop_at = stop_at};
        xai_session_options *options = NULL;
        xai_session *session = NULL;
        ck_ok(xai_session_options_create(&options, error));
        ck_ok(xai_session_options_set_progress(options, stop_later, &seen, error));
        ck_ok(xai_session_create(model, options, &session, error));
        if (stop_at == 100) {
            ck_ok(xai_session_scores(session, inputs, 1, &y, 1, error));
            ck_assert_uint_eq(seen.calls, 8); /* before the run, before each of six nodes, behind */
            xai_tensor_free(y);
        } else {
            ck_fails(xai_session_scores(session, inputs, 1, &y, 1, error), XAI_ERROR_CANCELLED,
                     stop_at == 1 ? "cancel" : "before node");
            ck_assert_uint_eq(seen.calls, stop_at);
        }
        xai_session_free(session);
        xai_session_options_free(options);
    }
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("session");
    TCase *tests = tcase_create("session");
    tcase_add_test(tests, scores_of_rows_are_those_of_the_model);
    tcase_add_test(tests, inner_values_are_given_by_name);
    tcase_add_test(tests, gradient_of_a_raw_score);
    tcase_add_test(tests, logit_strips_the_final_activation);
    tcase_add_test(tests, probability_comes_from_the_model_or_its_card);
    tcase_add_test(tests, probability_of_undeclared_logits_is_refused);
    tcase_add_test(tests, elements_and_regions_of_map_outputs);
    tcase_add_test(tests, wrong_targets_are_refused);
    tcase_add_test(tests, inputs_that_do_not_fit_are_refused);
    tcase_add_test(tests, nan_in_the_input_is_refused_with_its_place);
    tcase_add_test(tests, scores_that_overflow_are_an_error);
    tcase_add_test(tests, fixed_batches_take_many_rows);
    tcase_add_test(tests, free_sizes_may_change_from_call_to_call);
    tcase_add_test(tests, several_inputs_and_outputs);
    tcase_add_test(tests, plans_tell_their_steps);
    tcase_add_test(tests, profile_times_every_step);
    tcase_add_test(tests, progress_counts_rows_and_cancels);
    tcase_add_test(tests, an_end_behind_the_plan_can_be_cancelled);
    tcase_add_test(tests, memory_limit_is_an_error_not_a_crash);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
