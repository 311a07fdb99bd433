/* Handles: arguments, ownership, order of freeing, threads. */
#include "explain_models.h"

#include <math.h>
#include <pthread.h>

START_TEST(versions_agree_with_the_headers)
{
    char text[32], small[4];
    snprintf(text, sizeof text, "%d.%d.%d", XAI_VERSION_MAJOR, XAI_VERSION_MINOR,
             XAI_VERSION_PATCH);
    ck_assert_str_eq(xai_version(), text);
    ck_assert_int_eq(xai_abi_version(), 1);
    const size_t length = xai_math_library(text, sizeof text);
    ck_assert_uint_eq(strlen(text), length);
    ck_assert_uint_eq(xai_math_library(small, sizeof small), length);
    ck_assert_uint_eq(strlen(small), 3);
    ck_assert_uint_eq(xai_math_library(NULL, 0), length);
}
END_TEST

START_TEST(tensors_own_or_borrow)
{
    static const int64_t dims[] = {2, 3};
    static const float values[] = {1, 2, 3, 4, 5, 6};
    xai_tensor *owned = NULL, *borrowed = NULL, *scalar = NULL;
    ck_ok(xai_tensor_create(XAI_DTYPE_FLOAT32, 2, dims, values, &owned, error));
    ck_ok(xai_tensor_wrap(XAI_DTYPE_FLOAT32, 2, dims, values, &borrowed, error));
    ck_ok(xai_tensor_create(XAI_DTYPE_INT64, 0, NULL, NULL, &scalar, error));
    ck_assert_ptr_ne(xai_tensor_data(owned), values);
    ck_assert_ptr_eq(xai_tensor_data(borrowed), values);
    ck_assert_ptr_nonnull(xai_tensor_mutable_data(owned));
    ck_assert_ptr_null(xai_tensor_mutable_data(borrowed));
    ck_assert_uint_eq(xai_tensor_count(owned), 6);
    ck_assert_uint_eq(xai_tensor_bytes(owned), 24);
    ck_assert_mem_eq(xai_tensor_data(owned), values, 24);
    ck_assert_uint_eq(xai_tensor_count(scalar), 1);
    ck_assert_int_eq(*(const int64_t *)xai_tensor_data(scalar), 0);
    xai_tensor_free(owned);
    xai_tensor_free(borrowed);
    xai_tensor_free(scalar);
}
END_TEST

START_TEST(impossible_tensors_are_refused)
{
    static const int64_t negative[] = {2, -1}, huge[] = {INT64_MAX, 3},
                         large[] = {INT64_C(1) << 61, 1}, two[] = {2};
    xai_tensor *out = NULL;
    ck_fails(xai_tensor_create(99, 1, two, NULL, &out, error), XAI_ERROR_ARGUMENT, "99");
    ck_fails(xai_tensor_create(XAI_DTYPE_FLOAT32, 9, two, NULL, &out, error), XAI_ERROR_ARGUMENT,
             "rank 9");
    ck_fails(xai_tensor_create(XAI_DTYPE_FLOAT32, 2, negative, NULL, &out, error),
             XAI_ERROR_ARGUMENT, "negative");
    ck_fails(xai_tensor_create(XAI_DTYPE_FLOAT32, 2, huge, NULL, &out, error), XAI_ERROR_SHAPE,
             "overflow");
    ck_fails(xai_tensor_create(XAI_DTYPE_FLOAT64, 2, large, NULL, &out, error), XAI_ERROR_SHAPE,
             "overflow");
    ck_fails(xai_tensor_create(XAI_DTYPE_FLOAT32, 1, NULL, NULL, &out, error), XAI_ERROR_ARGUMENT,
             "dims");
    ck_fails(xai_tensor_wrap(XAI_DTYPE_FLOAT32, 1, two, NULL, &out, error), XAI_ERROR_ARGUMENT,
             "data");
    ck_fails(xai_tensor_create(XAI_DTYPE_FLOAT32, 1, two, NULL, NULL, error), XAI_ERROR_ARGUMENT,
             "out");
    ck_assert_ptr_null(out);
}
END_TEST

START_TEST(null_is_freed_and_read_without_harm)
{
    xai_tensor_free(NULL);
    xai_model_free(NULL);
    xai_target_free(NULL);
    xai_session_free(NULL);
    xai_session_options_free(NULL);
    xai_explainer_free(NULL);
    xai_explainer_options_free(NULL);
    xai_explanation_free(NULL);
    xai_plan_free(NULL);
    xai_error_free(NULL);
    ck_assert_ptr_null(xai_model_retain(NULL));
    ck_assert_uint_eq(xai_model_input_count(NULL), 0);
    ck_assert_str_eq(xai_model_input_name(NULL, 0), "");
    ck_assert_str_eq(xai_model_layer_name(NULL, 0), "");
    ck_assert_str_eq(xai_model_label(NULL, 0), "");
    ck_assert_int_eq(xai_model_default_layer(NULL), -1);
    ck_assert_str_eq(xai_model_score_meaning(NULL), "");
    ck_assert_ptr_null(xai_tensor_data(NULL));
    ck_assert_ptr_null(xai_explanation_values(NULL));
    ck_assert_ptr_null(xai_explanation_map(NULL));
    ck_assert_str_eq(xai_explanation_json(NULL), "");
    ck_assert_double_nan(xai_explanation_score(NULL, 0));
    ck_assert_uint_eq(xai_plan_step_count(NULL), 0);
    ck_assert_str_eq(xai_method_name(1000), "");
}
END_TEST

START_TEST(null_arguments_are_errors)
{
    xai_model *model = convnet(NULL);
    xai_tensor *x = ramp(1, 0);
    xai_explainer *explainer = NULL;
    xai_session *session = NULL;
    xai_explanation *e = NULL;
    xai_model *none = NULL;
    ck_fails(xai_model_open(NULL, &none, error), XAI_ERROR_ARGUMENT, "path");
    ck_fails(xai_model_parse(NULL, 3, &none, error), XAI_ERROR_ARGUMENT, "bytes");
    ck_fails(xai_explainer_create(NULL, "gradcam", NULL, &explainer, error), XAI_ERROR_ARGUMENT,
             "model");
    ck_fails(xai_explainer_create(model, NULL, NULL, &explainer, error), XAI_ERROR_ARGUMENT,
             "method");
    ck_fails(xai_explainer_create(model, "gradcam", NULL, NULL, error), XAI_ERROR_ARGUMENT, "out");
    ck_fails(xai_explainer_explain(NULL, x, NULL, &e, error), XAI_ERROR_ARGUMENT, "explainer");
    ck_fails(xai_session_create(NULL, NULL, &session, error), XAI_ERROR_ARGUMENT, "model");
    ck_fails(xai_target_add_index(NULL, 0, error), XAI_ERROR_ARGUMENT, "target");
    ck_fails(xai_session_options_set_threads(NULL, 1, error), XAI_ERROR_ARGUMENT, "options");
    ck_ok(xai_explainer_create(model, "gradcam", NULL, &explainer, error));
    ck_fails(xai_explainer_explain(explainer, NULL, NULL, &e, error), XAI_ERROR_ARGUMENT, "input");
    ck_fails(xai_explainer_explain(explainer, x, NULL, NULL, error), XAI_ERROR_ARGUMENT, "out");
    ck_assert_int_eq(xai_explainer_explain(explainer, NULL, NULL, &e, NULL),
                     XAI_ERROR_ARGUMENT); /* error is optional */
    ck_ok(xai_session_create(model, NULL, &session, error));
    const xai_tensor *inputs[] = {NULL};
    xai_tensor *y = NULL;
    ck_fails(xai_session_scores(session, inputs, 1, &y, 1, error), XAI_ERROR_ARGUMENT, "missing");
    ck_fails(xai_session_scores(session, NULL, 1, &y, 1, error), XAI_ERROR_ARGUMENT, "inputs");
    ck_fails(xai_session_scores(NULL, inputs, 1, &y, 1, error), XAI_ERROR_ARGUMENT, "session");
    xai_session_free(session);
    xai_explainer_free(explainer);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(options_out_of_range_are_refused)
{
    xai_session_options *session = NULL;
    xai_explainer_options *options = NULL;
    ck_ok(xai_session_options_create(&session, error));
    ck_ok(xai_explainer_options_create(&options, error));
    ck_fails(xai_session_options_set_threads(session, -1, error), XAI_ERROR_ARGUMENT, "-1");
    ck_fails(xai_session_options_set_threads(session, 1025, error), XAI_ERROR_ARGUMENT, "1025");
    ck_fails(xai_session_options_set_mode(session, 2, error), XAI_ERROR_ARGUMENT, "2");
    ck_fails(xai_session_options_set_precision(session, -1, error), XAI_ERROR_ARGUMENT, "-1");
    ck_fails(xai_session_options_set_precision(session, 3, error), XAI_ERROR_ARGUMENT, "3");
    ck_ok(xai_session_options_set_precision(session, XAI_PRECISION_FAST, error));
    ck_fails(xai_explainer_options_set_score(options, 3, error), XAI_ERROR_ARGUMENT, "3");
    ck_fails(xai_explainer_options_set_scaling(options, 2, error), XAI_ERROR_ARGUMENT, "2");
    xai_session_options_free(session);
    xai_explainer_options_free(options);
}
END_TEST

/* Parents first: every child keeps alive what it needs. */
START_TEST(handles_are_freed_in_any_order)
{
    xai_model *model = convnet("Relu");
    xai_explainer *explainer = NULL;
    xai_session *session = NULL;
    xai_explanation *e = NULL;
    xai_tensor *x = ramp(1, 0), *y = NULL;
    xai_target *target = target_index(0);
    ck_ok(xai_explainer_create(model, "gradcam", NULL, &explainer, error));
    ck_ok(xai_session_create(model, NULL, &session, error));
    xai_model_free(xai_model_retain(model));
    xai_model_free(model);
    ck_ok(xai_explainer_explain(explainer, x, target, &e, error));
    xai_explainer_free(explainer);
    const xai_tensor *inputs[] = {x};
    ck_ok(xai_session_scores(session, inputs, 1, &y, 1, error));
    xai_session_free(session);
    xai_target_free(target);
    xai_tensor_free(x);
    ck_assert_double_eq_tol(xai_explanation_score(e, 0), 54, 1e-5);
    ck_assert_str_eq(xai_explanation_layer(e), "relu1");
    ck_assert_double_eq_tol(floats_of(y)[0], 54, 1e-5);
    xai_explanation_free(e);
    xai_tensor_free(y);
}
END_TEST

START_TEST(methods_are_listed_with_descriptions)
{
    ck_assert_uint_ge(xai_method_count(), 2);
    ck_assert_str_eq(xai_method_name(0), "gradcam");
    ck_assert_str_eq(xai_method_name(1), "gradcam++");
    for (size_t i = 0; i < xai_method_count(); i++)
        ck_assert_uint_gt(strlen(xai_method_description(i)), 20);
}
END_TEST

START_TEST(model_tells_its_facts)
{
    model_builder *m = convnet_builder("Sigmoid");
    model_metadata(m, "xai.labels", "[\"a\", \"b\", \"c\", \"d\"]");
    model_metadata(m, "other", "kept");
    xai_model *model = open_built(m);
    ck_assert_str_eq(xai_model_input_name(model, 0), "x");
    ck_assert_int_eq(xai_model_input_dtype(model, 0), XAI_DTYPE_FLOAT32);
    ck_assert_int_eq(xai_model_input_rank(model, 0), 4);
    ck_assert_int_eq(xai_model_input_dims(model, 0)[0], -1);
    ck_assert_str_eq(xai_model_input_dim_name(model, 0, 0), "N");
    ck_assert_str_eq(xai_model_input_dim_name(model, 0, 1), "");
    ck_assert_str_eq(xai_model_output_name(model, 0), "y");
    ck_assert_int_eq(xai_model_find_output(model, "y"), 0);
    ck_assert_int_eq(xai_model_output_rank(model, 0), -1);
    ck_assert_ptr_null(xai_model_output_dims(model, 0));
    ck_assert_uint_eq(xai_model_label_count(model), 4);
    ck_assert_str_eq(xai_model_label(model, 3), "d");
    ck_assert_str_eq(xai_model_label(model, 4), "");
    ck_assert_uint_eq(xai_model_metadata_count(model), 2);
    ck_assert_str_eq(xai_model_metadata_key(model, 1), "other");
    ck_assert_str_eq(xai_model_metadata_value(model, 1), "kept");
    ck_assert_int_eq(xai_model_opset(model, ""), 17);
    ck_assert_int_eq(xai_model_opset(model, "ai.onnx"), 17);
    ck_assert_int_eq(xai_model_opset(model, "ai.onnx.ml"), 0);
    ck_assert_int_eq(xai_model_ir_version(model), 8);
    int64_t height = 0, width = 0;
    ck_assert_int_eq(xai_model_input_size(model, &height, &width), 1);
    ck_assert_int_eq(height, 4);
    ck_assert_int_eq(width, 4);
    ck_assert_int_eq(xai_model_input_channels(model), 1);
    ck_assert_int_eq(xai_model_input_range(model, NULL, NULL), 0);
    ck_assert_uint_eq(xai_model_input_mean(model, NULL), 0);
    xai_model_free(model);
}
END_TEST

static xai_model *convnet_with_card(void)
{
    model_builder *m = convnet_builder(NULL);
    model_metadata(m, "xai.input.range", "-1000 1000");
    model_metadata(m, "xai.input.mean", "100");
    model_metadata(m, "xai.input.std", "50");
    return open_built(m);
}

/* (low + (high - low) grey - mean) / deviation, grey cut to [0, 1]: docs/model-card.md. */
START_TEST(images_become_inputs_as_the_card_says)
{
    static const int16_t counts[16] = {-200, -100, 0, 100, 200, 300, 400, 500, 600, 700, 800};
    xai_model *model = convnet_with_card();
    xai_tensor *input = NULL, *inverted = NULL;
    double expected[16], mirrored[16];
    for (int i = 0; i < 16; i++) {
        const double grey = counts[i] < -100 ? 0 : counts[i] > 700 ? 1 : (counts[i] + 100) / 800.0;
        expected[i] = (-1000 + 2000 * grey - 100) / 50;
        mirrored[i] = (-1000 + 2000 * (1 - grey) - 100) / 50;
    }
    ck_ok(xai_model_image_input(model, 0, counts, XAI_DTYPE_INT16, 4, 4, 1, -100, 700, &input,
                                error));
    assert_dims(input, 4, (const int64_t[]){1, 1, 4, 4});
    assert_values(input, 16, expected, 1e-5);
    ck_ok(xai_model_image_input(model, 0, counts, XAI_DTYPE_INT16, 4, 4, 1, 700, -100, &inverted,
                                error));
    assert_values(inverted, 16, mirrored, 1e-5);
    xai_tensor_free(input);
    xai_tensor_free(inverted);
    xai_model_free(model);
}
END_TEST

/* An even image stays even when it shrinks. */
START_TEST(images_are_resized_and_colours_become_luma)
{
    uint8_t red[8 * 8 * 3];
    uint16_t grey[8 * 8];
    xai_model *model = convnet_with_card();
    xai_tensor *input = NULL, *wide = NULL;
    double expected[16];
    for (int i = 0; i < 64; i++) {
        grey[i] = 13107; /* a fifth of 65535 */
        red[3 * i] = 255;
        red[3 * i + 1] = red[3 * i + 2] = 0;
    }
    for (int i = 0; i < 16; i++)
        expected[i] = (-1000 + 2000 * 0.299 - 100) / 50;
    ck_ok(xai_model_image_input(model, 0, red, XAI_DTYPE_UINT8, 8, 8, 3, 0, 0, &input, error));
    assert_values(input, 16, expected, 1e-5);
    for (int i = 0; i < 16; i++)
        expected[i] = (-1000 + 2000 * 0.2 - 100) / 50;
    ck_ok(xai_model_image_input(model, 0, grey, XAI_DTYPE_UINT16, 8, 8, 1, 0, 0, &wide, error));
    assert_values(wide, 16, expected, 1e-5);
    xai_tensor_free(input);
    xai_tensor_free(wide);
    xai_model_free(model);
}
END_TEST

START_TEST(images_that_do_not_fit_are_refused)
{
    static const uint8_t bytes[48];
    static const float hole[16] = {[6] = NAN};
    xai_tensor *out = NULL;
    xai_model *bare = convnet(NULL), *model = convnet_with_card();
#define IMAGE(model, index, pixels, dtype, width, channels, black, white)                      \
    xai_model_image_input(model, index, pixels, dtype, width, 4, channels, black, white, &out, \
                          error)
    ck_fails(IMAGE(bare, 0, bytes, XAI_DTYPE_UINT8, 4, 1, 0, 0), XAI_ERROR_UNSUPPORTED,
             "xai.input.range");
    ck_fails(IMAGE(NULL, 0, bytes, XAI_DTYPE_UINT8, 4, 1, 0, 0), XAI_ERROR_ARGUMENT, "model");
    ck_fails(IMAGE(model, 1, bytes, XAI_DTYPE_UINT8, 4, 1, 0, 0), XAI_ERROR_ARGUMENT, "number 1");
    ck_fails(IMAGE(model, 0, NULL, XAI_DTYPE_UINT8, 4, 1, 0, 0), XAI_ERROR_ARGUMENT, "pixels");
    ck_fails(IMAGE(model, 0, bytes, XAI_DTYPE_INT64, 4, 1, 0, 0), XAI_ERROR_ARGUMENT, "uint8");
    ck_fails(IMAGE(model, 0, bytes, XAI_DTYPE_UINT8, 0, 1, 0, 0), XAI_ERROR_ARGUMENT, "width");
    ck_fails(IMAGE(model, 0, bytes, XAI_DTYPE_UINT8, 65536, 1, 0, 0), XAI_ERROR_ARGUMENT, "width");
    ck_fails(IMAGE(model, 0, bytes, XAI_DTYPE_UINT8, 4, 2, 0, 0), XAI_ERROR_ARGUMENT, "channel");
    ck_fails(IMAGE(model, 0, bytes, XAI_DTYPE_UINT8, 4, -1, 0, 0), XAI_ERROR_ARGUMENT, "channel");
    ck_fails(IMAGE(model, 0, bytes, XAI_DTYPE_UINT8, 4, 1, 7, 7), XAI_ERROR_ARGUMENT, "white");
    ck_fails(IMAGE(model, 0, hole, XAI_DTYPE_FLOAT32, 4, 1, 0, 0), XAI_ERROR_ARGUMENT, "white");
    ck_fails(IMAGE(model, 0, hole, XAI_DTYPE_FLOAT32, 4, 1, 0, 1), XAI_ERROR_NUMERIC,
             "row 1, column 2");
#undef IMAGE
    ck_assert_ptr_null(out);
    xai_model_free(bare);
    xai_model_free(model);
}
END_TEST

START_TEST(files_that_are_no_models_are_refused)
{
    xai_model *model = NULL;
    ck_fails(xai_model_open("no/such/model.onnx", &model, error), XAI_ERROR_FILE,
             "no/such/model.onnx");
    ck_fails(xai_model_parse("not a model at all", 18, &model, error), XAI_ERROR_FORMAT, "");
    ck_assert_ptr_null(model);
}
END_TEST

static void *explain_alone(void *shared)
{
    xai_model *model = shared;
    xai_explainer *explainer = make_explainer(model, "gradcam", "conv1", XAI_SCORE_RAW);
    xai_tensor *x = ramp(4, 1);
    xai_explanation *last = NULL;
    for (int i = 0; i < 20; i++) {
        xai_explanation_free(last);
        last = NULL;
        if (xai_explainer_explain(explainer, x, NULL, &last, NULL) != XAI_OK)
            break;
    }
    xai_tensor_free(x);
    xai_explainer_free(explainer);
    xai_model_free(model);
    return last;
}

START_TEST(threads_share_a_model)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    xai_explanation *results[THREADS];
    xai_model *model = convnet("Relu");
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, explain_alone, xai_model_retain(model)),
                         0);
    xai_model_free(model);
    for (int i = 0; i < THREADS; i++) {
        void *result = NULL;
        ck_assert_int_eq(pthread_join(threads[i], &result), 0);
        ck_assert_ptr_nonnull(result);
        results[i] = result;
        assert_same_bits(xai_explanation_values(results[i]), 0, xai_explanation_values(results[0]),
                         0, 16);
    }
    for (int i = 0; i < THREADS; i++)
        xai_explanation_free(results[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api");
    TCase *tests = tcase_create("api");
    tcase_add_test(tests, versions_agree_with_the_headers);
    tcase_add_test(tests, tensors_own_or_borrow);
    tcase_add_test(tests, impossible_tensors_are_refused);
    tcase_add_test(tests, null_is_freed_and_read_without_harm);
    tcase_add_test(tests, null_arguments_are_errors);
    tcase_add_test(tests, options_out_of_range_are_refused);
    tcase_add_test(tests, handles_are_freed_in_any_order);
    tcase_add_test(tests, methods_are_listed_with_descriptions);
    tcase_add_test(tests, model_tells_its_facts);
    tcase_add_test(tests, images_become_inputs_as_the_card_says);
    tcase_add_test(tests, images_are_resized_and_colours_become_luma);
    tcase_add_test(tests, images_that_do_not_fit_are_refused);
    tcase_add_test(tests, files_that_are_no_models_are_refused);
    tcase_add_test(tests, threads_share_a_model);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
