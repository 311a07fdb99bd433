/* Masking of integer inputs through the C interface: a sum of weights of the tokens that are exactly a key. */
#include "explain_models.h"

#define TOKENS 3

static const int64_t keys[TOKENS] = {(INT64_C(1) << 24) + 1, (INT64_C(1) << 53) + 1,
                                     (INT64_C(1) << 62) + 1};
static const float weights[TOKENS] = {1, 2, 4};

/* y (N, 1) = sum over i of weights[i] (ids[i] == keys[i]); with a table, plus x (N, 2) times 3 and 5. */
static xai_model *keyed(bool table)
{
    static const int64_t ids[] = {-1, TOKENS}, list[] = {1, TOKENS}, matrix[] = {TOKENS, 1},
                         two[] = {-1, 2}, slopes[] = {2, 1};
    model_builder *m = model_create(17);
    model_input(m, "ids", DTYPE_INT64, 2, ids);
    if (table)
        model_input(m, "x", DTYPE_FLOAT, 2, two);
    model_tensor(m, "keys", DTYPE_INT64, 2, list, keys, sizeof keys);
    model_floats(m, "w", 2, matrix, weights);
    model_floats(m, "v", 2, slopes, (const float[]){3, 5});
    model_node(m, "Equal", "ids keys", "same");
    model_node(m, "Cast", "same", "found");
    model_int_attribute(m, "to", DTYPE_FLOAT);
    model_node(m, "MatMul", "found w", table ? "sum" : "y");
    if (table) {
        model_node(m, "MatMul", "x v", "line");
        model_node(m, "Add", "sum line", "y");
    }
    model_output(m, "y");
    return open_built(m);
}

static xai_tensor *integers(int rank, const int64_t *dims, const int64_t *values)
{
    xai_tensor *out = NULL;
    ck_ok(xai_tensor_create(XAI_DTYPE_INT64, rank, dims, values, &out, error));
    return out;
}

static void ck_values(const xai_tensor *found, size_t count, const float *wanted)
{
    ck_assert_uint_eq(xai_tensor_count(found), count);
    for (size_t i = 0; i < count; i++)
        ck_assert_float_eq_tol(floats_of(found)[i], wanted[i], 1e-5F);
}

START_TEST(ids_beyond_floats_are_masked_exactly)
{
    static const int64_t dims[] = {1, TOKENS};
    static const char *const methods[] = {"exact_shap",       "kernel_shap",   "partition_shap",
                                          "permutation_shap", "sampling_shap", "feature_ablation",
                                          "occlusion"};
    int64_t near[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        near[i] = keys[i] - 1;
    xai_model *model = keyed(false);
    xai_tensor *input = integers(2, dims, keys), *absent = integers(2, dims, near);
    xai_explainer_options *options = NULL;
    ck_ok(xai_explainer_options_create(&options, error));
    ck_ok(xai_explainer_options_set_tensor(options, "baseline", 0, absent, error));
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        xai_explainer *explainer = NULL;
        xai_explanation *found = NULL;
        ck_ok(xai_explainer_create(model, methods[i], options, &explainer, error));
        ck_ok(xai_explainer_explain(explainer, input, NULL, &found, error));
        ck_values(xai_explanation_values(found), TOKENS, weights);
        ck_assert_str_eq(xai_explanation_baseline(found), "'ids': the given array");
        xai_explanation_free(found);
        xai_explainer_free(explainer);
    }
    xai_explainer_options_free(options);
    xai_tensor_free(input);
    xai_tensor_free(absent);
    xai_model_free(model);
}
END_TEST

START_TEST(a_number_is_an_id)
{
    static const int64_t dims[] = {1, TOKENS};
    xai_model *model = keyed(false);
    xai_tensor *input = integers(2, dims, keys);
    xai_explainer_options *options = NULL;
    xai_explainer *explainer = NULL;
    xai_explanation *found = NULL;
    ck_ok(xai_explainer_create(model, "exact_shap", NULL, &explainer, error));
    ck_fails(xai_explainer_explain(explainer, input, NULL, &found, error), XAI_ERROR_ARGUMENT,
             "input 'ids'");
    xai_explainer_free(explainer);
    ck_ok(xai_explainer_options_create(&options, error));
    ck_ok(xai_explainer_options_set_number(options, "baseline", 7.5, error));
    ck_ok(xai_explainer_create(model, "exact_shap", options, &explainer, error));
    ck_fails(xai_explainer_explain(explainer, input, NULL, &found, error), XAI_ERROR_ARGUMENT,
             "7.5 is not an integer");
    xai_explainer_free(explainer);
    ck_ok(
        xai_explainer_options_set_number(options, "baseline", 16777216, error)); /* key 0 less 1 */
    ck_ok(xai_explainer_create(model, "exact_shap", options, &explainer, error));
    ck_ok(xai_explainer_explain(explainer, input, NULL, &found, error));
    ck_values(xai_explanation_values(found), TOKENS, weights);
    ck_assert_str_eq(xai_explanation_baseline(found), "'ids': 16777216");
    xai_explanation_free(found);
    xai_explainer_free(explainer);
    xai_explainer_options_free(options);
    xai_tensor_free(input);
    xai_model_free(model);
}
END_TEST

START_TEST(a_table_and_tokens_are_named_one_by_one)
{
    static const int64_t dims[] = {1, TOKENS}, two[] = {1, 2};
    static const float row[] = {1, -2}, wanted[] = {3 * 1 - 3 * 0.5F, 5 * -2 - 5 * 0.5F};
    const float half = 0.5F;
    const int64_t zero = 0;
    xai_model *model = keyed(true);
    xai_tensor *inputs[2] = {integers(2, dims, keys), NULL}, *scalar = NULL,
               *id = integers(0, NULL, &zero);
    xai_explainer_options *options = NULL;
    xai_explainer *explainer = NULL;
    xai_explanation *found = NULL;
    const xai_target *target = NULL;
    ck_ok(xai_tensor_create(XAI_DTYPE_FLOAT32, 2, two, row, &inputs[1], error));
    ck_ok(xai_tensor_create(XAI_DTYPE_FLOAT32, 0, NULL, &half, &scalar, error));
    ck_ok(xai_explainer_options_create(&options, error));
    ck_ok(xai_explainer_options_set_tensor(options, "baseline", 0, id, error));
    ck_ok(xai_explainer_options_set_tensor(options, "baseline", 1, scalar, error));
    ck_ok(xai_explainer_create(model, "kernel_shap", options, &explainer, error));
    ck_ok(xai_explainer_explain_targets(explainer, (const xai_tensor *const *)inputs, 2, &target, 1,
                                        &found, error));
    ck_assert_uint_eq(xai_explanation_part_count(found), 2);
    ck_values(xai_explanation_part_values(found, 0), TOKENS, weights);
    ck_values(xai_explanation_part_values(found, 1), 2, wanted);
    ck_assert_str_eq(xai_explanation_baseline(found), "'ids': 0, 'x': 0.5");
    xai_explanation_free(found);
    xai_explainer_free(explainer);
    xai_explainer_options_free(options);
    xai_tensor_free(inputs[0]);
    xai_tensor_free(inputs[1]);
    xai_tensor_free(scalar);
    xai_tensor_free(id);
    xai_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("masking");
    TCase *tests = tcase_create("tokens");
    tcase_add_test(tests, ids_beyond_floats_are_masked_exactly);
    tcase_add_test(tests, a_number_is_an_id);
    tcase_add_test(tests, a_table_and_tokens_are_named_one_by_one);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
