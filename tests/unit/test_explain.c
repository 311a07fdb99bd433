/* Grad-CAM and Grad-CAM++ against numbers computed by hand. */
#include "explain_models.h"

#include <math.h>

/* float32 arithmetic on values of at most 100: exact but for the last bits. */
#define EXACT 1e-5

static xai_explanation *explain(xai_model *model, const char *method, const char *layer,
                                const xai_tensor *x, const xai_target *target)
{
    xai_explanation *out = NULL;
    xai_explainer *explainer = make_explainer(model, method, layer, XAI_SCORE_RAW);
    ck_ok(xai_explainer_explain(explainer, x, target, &out, error));
    xai_explainer_free(explainer);
    return out;
}

/* Captum's tests: conv1 -> [[11.25, 13.5], [20.25, 22.5]], relu1 -> [[0, 4], [28, 32.5]]. */
START_TEST(gradcam_of_a_convolution_matches_captum)
{
    static const double expected[] = {11.25, 13.5, 20.25, 22.5};
    static const int64_t values_dims[] = {1, 2, 2}, map_dims[] = {1, 4, 4};
    xai_model *model = convnet("Relu");
    xai_tensor *x = ramp(1, 0);
    xai_target *target = target_index(0);
    xai_explanation *e = explain(model, "gradcam", "conv1", x, target);
    assert_dims(xai_explanation_values(e), 3, values_dims);
    assert_values(xai_explanation_values(e), 4, expected, EXACT);
    assert_dims(xai_explanation_map(e), 3, map_dims);
    ck_assert_str_eq(xai_explanation_layer(e), "conv1");
    ck_assert_int_eq(xai_explanation_target(e, 0), 0);
    ck_assert_double_eq_tol(xai_explanation_score(e, 0), 54, EXACT);
    ck_assert_double_nan(xai_explanation_base_value(e, 0));
    ck_assert_int_eq(xai_explanation_evaluations(e, 0), 1);
    ck_assert_uint_eq(xai_explanation_warning_count(e), 0);
    xai_explanation_free(e);
    xai_target_free(target);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(gradcam_of_an_activation_matches_captum)
{
    static const double expected[] = {0, 4, 28, 32.5};
    xai_model *model = convnet("Relu");
    xai_tensor *x = ramp(1, 0);
    xai_target *target = target_index(0);
    xai_explanation *e = explain(model, "gradcam", "relu1", x, target);
    assert_values(xai_explanation_values(e), 4, expected, EXACT);
    xai_explanation_free(e);
    xai_target_free(target);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

/* relu1 is (0 4 31 40), (0 0 6 15), sums 75 and 21; gradients (1 1 1 1), (1 -1 -1 -1):
 * w = 4 / (2 + 75 + 1e-6) and 1 / (2 + 21 + 1e-6). */
START_TEST(gradcam_plus_plus_follows_the_formula)
{
    const double w0 = 4 / (77 + 1e-6), w1 = 1 / (23 + 1e-6);
    const double expected[] = {0, 4 * w0, 31 * w0 + 6 * w1, 40 * w0 + 15 * w1};
    xai_model *model = convnet("Relu");
    xai_tensor *x = ramp(1, 0);
    xai_target *target = target_index(0);
    xai_explanation *e = explain(model, "gradcam++", "relu1", x, target);
    assert_values(xai_explanation_values(e), 4, expected, 1e-6);
    ck_assert_str_eq(xai_explanation_method(e), "gradcam++");
    xai_explanation_free(e);
    xai_target_free(target);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

/* Divided by the maximum, then resized linearly with half-pixel centres: 2 -> 4 has weights (1,
 * 0.75, 0.25, 0). */
START_TEST(map_is_scaled_then_resized_with_half_pixel_centres)
{
    static const double along[4][2] = {{1, 0}, {0.75, 0.25}, {0.25, 0.75}, {0, 1}};
    static const double raw[] = {0, 4, 28, 32.5};
    double expected[16];
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 4; x++)
            expected[4 * y + x] = (along[y][0] * (along[x][0] * raw[0] + along[x][1] * raw[1]) +
                                   along[y][1] * (along[x][0] * raw[2] + along[x][1] * raw[3])) /
                                  32.5;
    xai_model *model = convnet("Relu");
    xai_tensor *x = ramp(1, 0);
    xai_target *target = target_index(0);
    xai_explanation *e =
        explain(model, "gradcam", NULL, x, target); /* the default layer is the input of Flatten */
    ck_assert_str_eq(xai_explanation_layer(e), "relu1");
    assert_values(xai_explanation_map(e), 16, expected, 1e-6);
    xai_explanation_free(e);
    xai_target_free(target);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(min_max_scaling_reaches_zero_and_one)
{
    xai_model *model = convnet("Relu");
    xai_tensor *x = ramp(1, 0);
    xai_target *target = target_index(0);
    xai_explainer_options *options = NULL;
    xai_explainer *explainer = NULL;
    xai_explanation *e = NULL;
    ck_ok(xai_explainer_options_create(&options, error));
    ck_ok(xai_explainer_options_set_layer(options, "conv1", error));
    ck_ok(xai_explainer_options_set_scaling(options, XAI_SCALING_MIN_MAX, error));
    ck_ok(xai_explainer_create(model, "gradcam", options, &explainer, error));
    ck_ok(xai_explainer_explain(explainer, x, target, &e, error));
    const float *map = floats_of(xai_explanation_map(e));
    ck_assert_double_eq_tol(map[0], 0, 1e-6);
    ck_assert_double_eq_tol(map[15], 1, 1e-6);
    xai_explanation_free(e);
    xai_explainer_free(explainer);
    xai_explainer_options_free(options);
    xai_target_free(target);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(map_without_positive_evidence_stays_zero_and_says_so)
{
    xai_model *model = convnet(NULL);
    xai_tensor *x = ramp(1, 0);
    xai_target *target = target_index(1); /* every weight is -1 */
    xai_explanation *e = explain(model, "gradcam", "relu1", x, target);
    ck_assert(floats_of(xai_explanation_values(e))[3] < 0);
    for (int i = 0; i < 16; i++)
        ck_assert(floats_of(xai_explanation_map(e))[i] == 0);
    ck_assert_uint_eq(xai_explanation_warning_count(e), 1);
    ck_assert_ptr_nonnull(strstr(xai_explanation_warning(e, 0), "no positive evidence"));
    ck_assert_int_eq(xai_explanation_warning_row(e, 0), 0);
    xai_explanation_free(e);
    xai_target_free(target);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(score_that_ignores_the_layer_is_reported)
{
    xai_model *model = convnet(NULL);
    xai_tensor *x = ramp(1, 0);
    xai_target *target = target_index(2); /* every weight is 0 */
    xai_explanation *e = explain(model, "gradcam", "relu1", x, target);
    ck_assert_uint_eq(xai_explanation_warning_count(e), 1);
    ck_assert_ptr_nonnull(strstr(xai_explanation_warning(e, 0), "does not depend"));
    xai_explanation_free(e);
    xai_target_free(target);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(several_targets_in_one_call_equal_one_at_a_time)
{
    xai_model *model = convnet(NULL);
    xai_tensor *x = ramp(2, 3);
    xai_target *targets[] = {target_index(0), NULL, target_index(3)};
    xai_explanation *many[3] = {NULL};
    xai_explainer *explainer = make_explainer(model, "gradcam", "conv1", XAI_SCORE_RAW);
    const xai_tensor *inputs[] = {x};
    ck_ok(xai_explainer_explain_targets(explainer, inputs, 1, (const xai_target *const *)targets, 3,
                                        many, error));
    for (int t = 0; t < 3; t++) {
        xai_explanation *one = explain(model, "gradcam", "conv1", x, targets[t]);
        assert_same_bits(xai_explanation_values(many[t]), 0, xai_explanation_values(one), 0, 8);
        assert_same_bits(xai_explanation_map(many[t]), 0, xai_explanation_map(one), 0, 32);
        for (size_t row = 0; row < 2; row++) {
            ck_assert_int_eq(xai_explanation_target(many[t], row),
                             xai_explanation_target(one, row));
            ck_assert(xai_explanation_score(many[t], row) == xai_explanation_score(one, row));
        }
        xai_explanation_free(one);
    }
    ck_assert_int_eq(xai_explanation_target(many[1], 0), 3); /* the highest of 54, -96, 0, 96 */
    for (int t = 0; t < 3; t++) {
        xai_explanation_free(many[t]);
        xai_target_free(targets[t]);
    }
    xai_explainer_free(explainer);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(rows_are_independent_and_take_one_target_each)
{
    static const int32_t modes[] = {XAI_MODE_LATENCY, XAI_MODE_THROUGHPUT};
    xai_model *model = convnet(NULL);
    xai_tensor *x = ramp(3, 2);
    xai_target *each = target_index(0);
    ck_ok(xai_target_add_index(each, -1, error));
    ck_ok(xai_target_add_highest(each, error));
    for (int m = 0; m < 2; m++) {
        xai_session_options *session = NULL;
        xai_explainer_options *options = NULL;
        xai_explainer *explainer = NULL;
        xai_explanation *e = NULL;
        ck_ok(xai_session_options_create(&session, error));
        ck_ok(xai_session_options_set_mode(session, modes[m], error));
        ck_ok(xai_session_options_set_threads(session, 2, error));
        ck_ok(xai_explainer_options_create(&options, error));
        ck_ok(xai_explainer_options_set_session(options, session, error));
        ck_ok(xai_explainer_options_set_layer(options, "conv1", error));
        ck_ok(xai_explainer_create(model, "gradcam++", options, &explainer, error));
        ck_ok(xai_explainer_explain(explainer, x, each, &e, error));
        ck_assert_uint_eq(xai_explanation_row_count(e), 3);
        for (size_t row = 0; row < 3; row++) {
            static const int64_t dims[] = {1, 1, 4, 4}, expected[] = {0, 3, 3};
            xai_tensor *one = NULL;
            ck_ok(
                xai_tensor_wrap(XAI_DTYPE_FLOAT32, 4, dims, floats_of(x) + 16 * row, &one, error));
            xai_target *target = target_index(expected[row]);
            xai_explanation *alone = explain(model, "gradcam++", "conv1", one, target);
            ck_assert_int_eq(xai_explanation_target(e, row), expected[row]);
            assert_same_bits(xai_explanation_values(e), 4 * row, xai_explanation_values(alone), 0,
                             4);
            assert_same_bits(xai_explanation_map(e), 16 * row, xai_explanation_map(alone), 0, 16);
            xai_explanation_free(alone);
            xai_target_free(target);
            xai_tensor_free(one);
        }
        xai_explanation_free(e);
        xai_explainer_free(explainer);
        xai_explainer_options_free(options);
        xai_session_options_free(session);
    }
    xai_target_free(each);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

/* A layer is named by its value, its node, or its index in the list of layers. */
START_TEST(layers_are_found_by_value_node_and_index)
{
    xai_model *model = convnet(NULL);
    xai_tensor *x = ramp(1, 0);
    static const char *const names[] = {"conv1", "node_conv1", "0"};
    ck_assert_str_eq(xai_model_layer_name(model, 0), "conv1");
    ck_assert_str_eq(xai_model_layer_node(model, 0), "node_conv1");
    ck_assert_str_eq(xai_model_layer_operator(model, 0), "Conv");
    ck_assert_str_eq(xai_model_layer_name(model, (size_t)xai_model_default_layer(model)), "relu1");
    for (int i = 0; i < 3; i++) {
        xai_explanation *e = explain(model, "gradcam", names[i], x, NULL);
        ck_assert_str_eq(xai_explanation_layer(e), "conv1");
        xai_explanation_free(e);
    }
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(unknown_names_list_near_ones)
{
    xai_model *model = convnet(NULL);
    xai_explainer_options *options = NULL;
    xai_explainer *explainer = NULL;
    ck_fails(xai_explainer_create(model, "grad-cam", NULL, &explainer, error), XAI_ERROR_NOT_FOUND,
             "'gradcam'");
    ck_ok(xai_explainer_options_create(&options, error));
    ck_ok(xai_explainer_options_set_layer(options, "relu2", error));
    ck_fails(xai_explainer_create(model, "gradcam", options, &explainer, error),
             XAI_ERROR_NOT_FOUND, "'relu1'");
    ck_ok(xai_explainer_options_set_layer(options, "99", error));
    ck_fails(xai_explainer_create(model, "gradcam", options, &explainer, error),
             XAI_ERROR_NOT_FOUND, "out of range");
    ck_assert_ptr_null(explainer);
    xai_explainer_options_free(options);
    xai_model_free(model);
}
END_TEST

START_TEST(layer_without_spatial_axes_is_refused)
{
    xai_model *model = convnet("Relu");
    xai_tensor *x = ramp(1, 0);
    xai_explanation *e = NULL;
    xai_explainer *explainer = make_explainer(model, "gradcam", "fc1", XAI_SCORE_RAW);
    ck_fails(xai_explainer_explain(explainer, x, NULL, &e, error), XAI_ERROR_UNSUPPORTED, "fc1");
    ck_assert_ptr_null(e);
    xai_explainer_free(explainer);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(facts_are_json_with_rows_and_warnings)
{
    model_builder *m = convnet_builder(NULL);
    model_metadata(m, "xai.labels", "[\"One\", \"Two \\\"quoted\\\"\", \"Three\", \"Four\"]");
    xai_model *model = open_built(m);
    xai_tensor *x = ramp(1, 0);
    xai_target *target = NULL;
    ck_ok(xai_target_create(&target, error));
    ck_ok(xai_target_add_label(target, "Two \"quoted\"", error));
    xai_explanation *e = explain(model, "gradcam", "relu1", x, target);
    const char *json = xai_explanation_json(e);
    static const char *const parts[] = {
        "\"method\": \"gradcam\"", "\"layer\": \"relu1\"",
        "\"target\": 1",           "\"label\": \"Two \\\"quoted\\\"\"",
        "\"score\": -96",          "\"input_shape\": [1, 1, 4, 4]",
        "\"peak\": null",          "no positive evidence",
        "\"score_kind\": \"raw\"", "\"version\": \"0.1.0\""};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        ck_assert_msg(strstr(json, parts[i]) != NULL, "%s lacks %s", json, parts[i]);
    ck_assert_str_eq(xai_explanation_label(e, 0), "Two \"quoted\"");
    xai_explanation_free(e);
    ck_ok(xai_target_add_label(target, "Tree", error)); /* a second choice, for a second row */
    xai_tensor *two = ramp(2, 0);
    xai_explainer *explainer = make_explainer(model, "gradcam", "relu1", XAI_SCORE_RAW);
    ck_fails(xai_explainer_explain(explainer, two, target, &e, error), XAI_ERROR_NOT_FOUND,
             "'Three'");
    xai_explainer_free(explainer);
    xai_tensor_free(two);
    xai_target_free(target);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

/* By its definition, on a gray picture: colours at full strength where the map reaches the percentile. */
START_TEST(a_display_changes_the_picture_and_no_number)
{
    xai_model *model = convnet("Relu");
    xai_tensor *x = ramp(1, 0);
    xai_target *target = target_index(0);
    xai_explanation *e = explain(model, "gradcam", "relu1", x, target);
    const float *map = xai_tensor_data(xai_explanation_map(e));
    float before[16], above[16];
    memcpy(before, map, sizeof before);
    size_t kept = 0;
    for (int i = 0; i < 16; i++)
        if (map[i] > 0)
            above[kept++] = map[i];
    ck_assert_uint_gt(kept, 2);
    for (size_t i = 1; i < kept; i++) /* insertion sort */
        for (size_t k = i; k > 0 && above[k] < above[k - 1]; k--) {
            const float swapped = above[k];
            above[k] = above[k - 1];
            above[k - 1] = swapped;
        }
    const double at = 0.5 * (double)(kept - 1);
    const double median = ((double)above[(size_t)floor(at)] + (double)above[(size_t)ceil(at)]) / 2;

    uint8_t gray[16], plain[48], drawn[48];
    double strongest = 0;
    memset(gray, 77, sizeof gray);
    xai_display *display = NULL;
    ck_ok(xai_display_create(&display, error));
    ck_ok(xai_explanation_overlay(e, 0, gray, 4, 4, 1, 0.5, NULL, plain, error));
    ck_ok(xai_explanation_draw(e, 0, gray, 4, 4, 1, display, drawn, &strongest, error));
    ck_assert_mem_eq(plain, drawn, sizeof plain);
    ck_assert_double_eq(strongest, 1);
    ck_ok(xai_explanation_draw(e, 0, gray, 4, 4, 1, NULL, drawn, NULL, error));
    ck_assert_mem_eq(plain, drawn, sizeof plain);

    ck_ok(xai_display_set_alpha(display, 1, error));
    ck_ok(xai_display_set_colours(display, "viridis", error));
    ck_ok(xai_display_set_percentile(display, 50, error));
    ck_ok(xai_explanation_draw(e, 0, gray, 4, 4, 1, display, drawn, &strongest, error));
    ck_assert_double_eq_tol(strongest, median, 1e-7);
    for (int i = 0; i < 16; i++) {
        if ((double)map[i] >= strongest) { /* the last colour of viridis: (253, 231, 37) */
            ck_assert_int_eq(drawn[3 * i], 253);
            ck_assert_int_eq(drawn[3 * i + 1], 231);
            ck_assert_int_eq(drawn[3 * i + 2], 37);
        } else if (!(map[i] > 0)) {
            ck_assert_int_eq(drawn[3 * i], 77);
        }
    }
    /* A wide Gaussian makes all pixels nearly the mean, which then is the strongest. */
    double mean = 0;
    for (int i = 0; i < 16; i++)
        mean += (double)map[i] / 16;
    ck_ok(xai_display_set_percentile(display, 100, error));
    ck_ok(xai_display_set_smoothing(display, 40, error));
    ck_ok(xai_explanation_draw(e, 0, gray, 4, 4, 1, display, drawn, &strongest, error));
    ck_assert_double_eq_tol(strongest, mean, 1e-3);
    ck_assert(drawn[0] > 240 && drawn[1] > 220);
    /* An outline alone: its colour on the edge of the region, the picture elsewhere. */
    ck_ok(xai_display_set_smoothing(display, 0, error));
    ck_ok(xai_display_set_alpha(display, 0, error));
    ck_ok(xai_display_set_contour(display, 0.5, error));
    ck_ok(xai_explanation_draw(e, 0, gray, 4, 4, 1, display, drawn, NULL, error));
    int orange = 0;
    for (int i = 0; i < 16; i++) {
        const bool inside = map[i] >= 0.5F;
        ck_assert(drawn[3 * i] == 77 || (inside && drawn[3 * i] == 255 && drawn[3 * i + 1] == 176));
        orange += drawn[3 * i] == 255;
    }
    ck_assert_int_gt(orange, 0);
    ck_assert_mem_eq(before, map, sizeof before);

    ck_fails(xai_display_set_alpha(display, 1.5, error), XAI_ERROR_ARGUMENT, "alpha 1.5");
    ck_fails(xai_display_set_percentile(display, 0, error), XAI_ERROR_ARGUMENT, "(0, 100]");
    ck_fails(xai_display_set_percentile(display, NAN, error), XAI_ERROR_ARGUMENT, "percentile");
    ck_fails(xai_display_set_smoothing(display, -1, error), XAI_ERROR_ARGUMENT, "smoothing -1");
    ck_fails(xai_display_set_contour(display, 1.1, error), XAI_ERROR_ARGUMENT, "contour");
    ck_fails(xai_display_set_colours(display, "jet", error), XAI_ERROR_NOT_FOUND, "turbo");
    ck_fails(xai_display_set_alpha(NULL, 1, error), XAI_ERROR_ARGUMENT, "display");
    ck_fails(xai_display_create(NULL, error), XAI_ERROR_ARGUMENT, "out");
    ck_fails(xai_explanation_draw(e, 0, NULL, 4, 4, 1, display, drawn, NULL, error),
             XAI_ERROR_ARGUMENT, "image");
    xai_display_free(display);
    xai_display_free(NULL);
    xai_explanation_free(e);
    xai_target_free(target);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

START_TEST(overlay_leaves_pixels_without_evidence_alone)
{
    xai_model *model = convnet("Relu");
    xai_tensor *x = ramp(1, 0);
    xai_target *target = target_index(0);
    xai_explanation *e = explain(model, "gradcam", "relu1", x, target);
    uint8_t gray[16], rgb[48], large[5 * 7], drawn[5 * 7 * 3];
    memset(gray, 77, sizeof gray);
    memset(large, 77, sizeof large);
    ck_ok(xai_explanation_overlay(e, 0, gray, 4, 4, 1, 0.5, NULL, rgb, error));
    ck_assert_int_eq(rgb[0], 77); /* the map is 0 in the corner */
    ck_assert_int_eq(rgb[1], 77);
    ck_assert(rgb[45] != 77 || rgb[46] != 77 || rgb[47] != 77);
    ck_ok(xai_explanation_overlay(e, 0, large, 5, 7, 1, 1, "viridis", drawn, error));
    ck_fails(xai_explanation_overlay(e, 0, gray, 4, 4, 1, 0.5, "jet", rgb, error),
             XAI_ERROR_NOT_FOUND, "turbo");
    ck_fails(xai_explanation_overlay(e, 0, gray, 4, 4, 2, 0.5, NULL, rgb, error),
             XAI_ERROR_ARGUMENT, "2 channels");
    ck_fails(xai_explanation_overlay(e, 0, gray, 4, 4, 1, NAN, NULL, rgb, error),
             XAI_ERROR_ARGUMENT, "alpha");
    ck_fails(xai_explanation_overlay(e, 1, gray, 4, 4, 1, 0.5, NULL, rgb, error),
             XAI_ERROR_ARGUMENT, "row 1");
    xai_explanation_free(e);
    xai_target_free(target);
    xai_tensor_free(x);
    xai_model_free(model);
}
END_TEST

/* Volumes: the layer (2, 2, 2) of an input (4, 4, 4) is resized in three axes, signals in one. */
START_TEST(maps_of_volumes_and_signals_have_their_axes)
{
    for (int rank = 1; rank <= 3; rank += 2) {
        const int64_t image[] = {1, 1, 4, 4, 4}, kernel[] = {2, 1, 3, 3, 3}, dims[] = {1, 4, 4, 4},
                      small[] = {1, 2, 2, 2};
        model_builder *m = model_create(17);
        model_input(m, "x", DTYPE_FLOAT, rank + 2, image);
        model_fill(m, "w", rank + 2, kernel, 1);
        model_node(m, "Conv", "x w", "conv");
        model_node(m, "Relu", "conv", "relu");
        model_node(m, "GlobalAveragePool", "relu", "pool");
        model_node(m, "Flatten", "pool", "y");
        model_output(m, "y");
        xai_model *model = open_built(m);
        xai_tensor *x = NULL;
        ck_ok(xai_tensor_create(XAI_DTYPE_FLOAT32, rank + 2, image, NULL, &x, error));
        float *values = xai_tensor_mutable_data(x);
        for (size_t i = 0; i < xai_tensor_count(x); i++)
            values[i] = (float)i;
        xai_explanation *e = explain(model, "gradcam", NULL, x, NULL);
        ck_assert_str_eq(xai_explanation_layer(e), "relu");
        assert_dims(xai_explanation_values(e), rank + 1, small);
        assert_dims(xai_explanation_map(e), rank + 1, dims);
        const size_t last = xai_tensor_count(xai_explanation_map(e)) - 1;
        ck_assert_double_eq_tol(floats_of(xai_explanation_map(e))[last], 1,
                                1e-6); /* the corner pixel is its own */
        xai_explanation_free(e);
        xai_tensor_free(x);
        xai_model_free(model);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("explain");
    TCase *tests = tcase_create("gradcam");
    tcase_add_test(tests, gradcam_of_a_convolution_matches_captum);
    tcase_add_test(tests, gradcam_of_an_activation_matches_captum);
    tcase_add_test(tests, gradcam_plus_plus_follows_the_formula);
    tcase_add_test(tests, map_is_scaled_then_resized_with_half_pixel_centres);
    tcase_add_test(tests, min_max_scaling_reaches_zero_and_one);
    tcase_add_test(tests, map_without_positive_evidence_stays_zero_and_says_so);
    tcase_add_test(tests, score_that_ignores_the_layer_is_reported);
    tcase_add_test(tests, several_targets_in_one_call_equal_one_at_a_time);
    tcase_add_test(tests, rows_are_independent_and_take_one_target_each);
    tcase_add_test(tests, layers_are_found_by_value_node_and_index);
    tcase_add_test(tests, unknown_names_list_near_ones);
    tcase_add_test(tests, layer_without_spatial_axes_is_refused);
    tcase_add_test(tests, facts_are_json_with_rows_and_warnings);
    tcase_add_test(tests, overlay_leaves_pixels_without_evidence_alone);
    tcase_add_test(tests, a_display_changes_the_picture_and_no_number);
    tcase_add_test(tests, maps_of_volumes_and_signals_have_their_axes);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
