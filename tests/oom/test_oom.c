/* The n-th allocation fails, for every n: opening a model, scores, gradients, an explanation and
 * its picture. Each failure must be one clear out-of-memory error; nothing crashes, leaks (the
 * sanitizers watch) or is half-made, and the next try works.
 *
 * The system allocator is replaced at link time (--wrap), so only allocations of libxai and of
 * this file are counted, not those inside oneDNN. */
#include <stdatomic.h>
#include <stdlib.h>

#include "../unit/explain_models.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);

/* Test state; some scenarios allocate on two threads. */
static atomic_size_t allocations, failing; /* failing = 0: none */

static int denied(void)
{
    return atomic_fetch_add(&allocations, 1) + 1 == failing;
}

void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    return denied() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size)
{
    return denied() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size)
{
    return denied() ? NULL : __real_realloc(block, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return denied() ? NULL : __real_aligned_alloc(alignment, size);
}

typedef struct file_bytes {
    const void *bytes;
    size_t size;
} file_bytes;

typedef xai_status (*scenario)(const file_bytes *file, xai_error **error);

static xai_status options_of(xai_session_options **out, xai_error **error)
{
    xai_status status = xai_session_options_create(out, error);
    return status == XAI_OK ? xai_session_options_set_threads(*out, 1, error) : status;
}

static const int64_t image_dims[] = {2, 1, 4, 4};
static float image_values[32];

static xai_status open_and_score(const file_bytes *file, xai_error **error)
{
    xai_model *model = NULL;
    xai_session_options *options = NULL;
    xai_session *session = NULL;
    xai_tensor *input = NULL, *scores = NULL, *gradient = NULL;
    const char *layer = "relu1";
    xai_status status = xai_model_parse(file->bytes, file->size, &model, error);
    if (status == XAI_OK)
        status = options_of(&options, error);
    if (status == XAI_OK)
        status = xai_session_create(model, options, &session, error);
    if (status == XAI_OK)
        status = xai_tensor_create(XAI_DTYPE_FLOAT32, 4, image_dims, image_values, &input, error);
    const xai_tensor *inputs[] = {input};
    if (status == XAI_OK)
        status = xai_session_scores(session, inputs, 1, &scores, 1, error);
    if (status == XAI_OK)
        status = xai_session_gradients(session, inputs, 1, NULL, 1, XAI_SCORE_RAW, &layer, 1,
                                       &gradient, NULL, error);
    xai_tensor_free(gradient);
    xai_tensor_free(scores);
    xai_tensor_free(input);
    xai_session_free(session);
    xai_session_options_free(options);
    xai_model_free(model);
    return status;
}

static xai_status explain_and_draw(const file_bytes *file, xai_error **error)
{
    xai_model *model = NULL;
    xai_session_options *session = NULL;
    xai_explainer_options *options = NULL;
    xai_explainer *explainer = NULL;
    xai_display *display = NULL;
    xai_explanation *explanation = NULL;
    xai_tensor *input = NULL;
    xai_target *target = NULL;
    uint8_t gray[64] = {0}, picture[192];
    xai_status status = xai_model_parse(file->bytes, file->size, &model, error);
    if (status == XAI_OK)
        status = options_of(&session, error);
    if (status == XAI_OK)
        status = xai_explainer_options_create(&options, error);
    if (status == XAI_OK)
        status = xai_explainer_options_set_session(options, session, error);
    if (status == XAI_OK)
        status = xai_explainer_options_set_score(options, XAI_SCORE_LOGIT, error);
    if (status == XAI_OK)
        status = xai_explainer_create(model, "gradcam++", options, &explainer, error);
    if (status == XAI_OK)
        status = xai_target_create(&target, error);
    if (status == XAI_OK)
        status = xai_target_add_index(target, 3, error);
    if (status == XAI_OK)
        status = xai_tensor_create(XAI_DTYPE_FLOAT32, 4, image_dims, image_values, &input, error);
    if (status == XAI_OK)
        status = xai_explainer_explain(explainer, input, target, &explanation, error);
    if (status == XAI_OK)
        status = xai_explanation_overlay(explanation, 1, gray, 8, 8, 1, 0.5, NULL, picture, error);
    if (status == XAI_OK)
        status = xai_display_create(&display, error);
    if (status == XAI_OK)
        status = xai_display_set_percentile(display, 90, error);
    if (status == XAI_OK)
        status = xai_display_set_smoothing(display, 1, error);
    if (status == XAI_OK)
        status = xai_display_set_contour(display, 0.5, error);
    if (status == XAI_OK)
        status = xai_explanation_draw(explanation, 1, gray, 8, 8, 1, display, picture, NULL, error);
    xai_display_free(display);
    xai_explanation_free(explanation);
    xai_target_free(target);
    xai_tensor_free(input);
    xai_explainer_free(explainer);
    xai_explainer_options_free(options);
    xai_session_options_free(session);
    xai_model_free(model);
    return status;
}

/* Each method with few evaluations; targets by index and the highest. */
static const struct {
    const char *method, *option;
    double value;
} methods[] = {
    {"hirescam", NULL, 0},
    {"eigencam", NULL, 0},
    {"scorecam", NULL, 0},
    {"ablationcam", NULL, 0},
    {"fullgrad", NULL, 0},
    {"guided_gradcam", NULL, 0},
    {"saliency", NULL, 0},
    {"integrated_gradients", "steps", 3},
    {"integrated_gradients", "tolerance", 1e-9},
    {"smoothgrad", "samples", 3},
    {"vargrad", "samples", 3},
    {"gradient_shap", "samples", 3},
    {"rise", "samples", 3},
    {"occlusion", "window", 2},
};
static size_t at_method;

static xai_status explain_by_method(const file_bytes *file, xai_error **error)
{
    xai_model *model = NULL;
    xai_session_options *session = NULL;
    xai_explainer_options *options = NULL;
    xai_explainer *explainer = NULL;
    xai_explanation *explanations[2] = {NULL};
    xai_tensor *input = NULL;
    xai_target *targets[2] = {NULL}; /* the second: the highest score */
    xai_status status = xai_model_parse(file->bytes, file->size, &model, error);
    if (status == XAI_OK)
        status = options_of(&session, error);
    if (status == XAI_OK)
        status = xai_explainer_options_create(&options, error);
    if (status == XAI_OK)
        status = xai_explainer_options_set_session(options, session, error);
    if (status == XAI_OK)
        status = xai_explainer_options_set_score(options, XAI_SCORE_LOGIT, error);
    if (status == XAI_OK && methods[at_method].option != NULL)
        status = xai_explainer_options_set_number(options, methods[at_method].option,
                                                  methods[at_method].value, error);
    if (status == XAI_OK)
        status = xai_explainer_create(model, methods[at_method].method, options, &explainer, error);
    if (status == XAI_OK)
        status = xai_target_create(&targets[0], error);
    if (status == XAI_OK)
        status = xai_target_add_index(targets[0], 3, error);
    if (status == XAI_OK)
        status = xai_tensor_create(XAI_DTYPE_FLOAT32, 4, image_dims, image_values, &input, error);
    const xai_tensor *inputs[] = {input};
    if (status == XAI_OK)
        status = xai_explainer_explain_targets(
            explainer, inputs, 1, (const xai_target *const *)targets, 2, explanations, error);
    xai_explanation_free(explanations[0]);
    xai_explanation_free(explanations[1]);
    xai_target_free(targets[0]);
    xai_tensor_free(input);
    xai_explainer_free(explainer);
    xai_explainer_options_free(options);
    xai_session_options_free(session);
    xai_model_free(model);
    return status;
}

/* DeepSHAP with activations kept and computed again, LRP with the weights of one sign. */
static xai_status explain_by_rules(const file_bytes *file, xai_error **error)
{
    xai_model *model = NULL;
    xai_tensor *input = NULL;
    xai_status status = xai_model_parse(file->bytes, file->size, &model, error);
    if (status == XAI_OK)
        status = xai_tensor_create(XAI_DTYPE_FLOAT32, 4, image_dims, image_values, &input, error);
    for (int which = 0; status == XAI_OK && which < 3; which++) {
        xai_explainer_options *options = NULL;
        xai_explainer *explainer = NULL;
        xai_explanation *explanation = NULL;
        status = xai_explainer_options_create(&options, error);
        if (status == XAI_OK && which < 2)
            status = xai_explainer_options_set_tensor(options, "background", 0, input, error);
        if (status == XAI_OK && which == 1)
            status = xai_explainer_options_set_number(options, "cache", 0, error);
        if (status == XAI_OK && which == 2)
            status = xai_explainer_options_set_text(options, "rule", "alpha_beta", error);
        if (status == XAI_OK)
            status = xai_explainer_create(model, which < 2 ? "deepshap" : "lrp", options,
                                          &explainer, error);
        if (status == XAI_OK)
            status = xai_explainer_explain(explainer, input, NULL, &explanation, error);
        xai_explanation_free(explanation);
        xai_explainer_free(explainer);
        xai_explainer_options_free(options);
    }
    xai_tensor_free(input);
    xai_model_free(model);
    return status;
}

/* x (N, 3) -> two trees: x1 <= 0.5, then x0 <= -1 on its way; x2 <= 2. */
static model_builder *trees_builder(void)
{
    model_builder *built = model_create(17);
    static const float splits[] = {0.5f, -1, 2}, weights[] = {1, -2, 3, 0.5f, 4};
    static const unsigned char modes[] = {0, 0, 0};
    model_opset(built, "ai.onnx.ml", 5);
    model_input(built, "x", DTYPE_FLOAT, 2, (const int64_t[]){-1, 3});
    model_node(built, "TreeEnsemble", "x", "y");
    model_node_domain(built, "ai.onnx.ml");
    model_ints_attribute(built, "tree_roots", 2, (const int64_t[]){0, 2});
    model_ints_attribute(built, "nodes_featureids", 3, (const int64_t[]){1, 0, 2});
    model_ints_attribute(built, "nodes_truenodeids", 3, (const int64_t[]){1, 0, 3});
    model_ints_attribute(built, "nodes_falsenodeids", 3, (const int64_t[]){2, 1, 4});
    model_ints_attribute(built, "nodes_trueleafs", 3, (const int64_t[]){0, 1, 1});
    model_ints_attribute(built, "nodes_falseleafs", 3, (const int64_t[]){1, 1, 1});
    model_ints_attribute(built, "leaf_targetids", 5, (const int64_t[]){0, 0, 0, 0, 0});
    model_tensor_attribute(built, "nodes_splits", DTYPE_FLOAT, 1, (const int64_t[]){3}, splits,
                           sizeof splits);
    model_tensor_attribute(built, "nodes_modes", DTYPE_UINT8, 1, (const int64_t[]){3}, modes,
                           sizeof modes);
    model_tensor_attribute(built, "leaf_weights", DTYPE_FLOAT, 1, (const int64_t[]){5}, weights,
                           sizeof weights);
    model_output(built, "y");
    return built;
}

static xai_status explain_trees(const file_bytes *file, xai_error **error)
{
    static const float rows[5][3] = {{0, 1, 3}, {-2, 0, 1}, {1, 0.5f, 2}, {-1, 2, 2.5f}, {0, 0, 0}};
    xai_model *model = NULL;
    xai_tensor *input = NULL;
    xai_status status = xai_model_parse(file->bytes, file->size, &model, error);
    if (status == XAI_OK)
        status =
            xai_tensor_create(XAI_DTYPE_FLOAT32, 2, (const int64_t[]){5, 3}, rows, &input, error);
    for (int which = 0; status == XAI_OK && which < 3; which++) {
        xai_explainer_options *options = NULL;
        xai_explainer *explainer = NULL;
        xai_explanation *explanation = NULL;
        xai_session_options *session = NULL;
        status = options_of(&session, error);
        if (status == XAI_OK)
            status = xai_explainer_options_create(&options, error);
        if (status == XAI_OK)
            status = xai_explainer_options_set_session(options, session, error);
        if (status == XAI_OK)
            status = xai_explainer_options_set_tensor(options, "background", 0, input, error);
        if (status == XAI_OK && which == 1)
            status = xai_explainer_options_set_number(options, "interactions", 1, error);
        if (status == XAI_OK && which == 2)
            status = xai_explainer_options_set_text(options, "feature_perturbation",
                                                    "tree_path_dependent", error);
        if (status == XAI_OK)
            status = xai_explainer_create(model, "tree_shap", options, &explainer, error);
        for (int call = 0; status == XAI_OK && call < 2;
             call++) { /* the second with what is kept */
            status = xai_explainer_explain(explainer, input, NULL, &explanation, error);
            xai_explanation_free(explanation);
            explanation = NULL;
        }
        xai_explainer_free(explainer);
        xai_explainer_options_free(options);
        xai_session_options_free(session);
    }
    xai_tensor_free(input);
    xai_model_free(model);
    return status;
}

static void every_allocation_of(model_builder *built, scenario run)
{
    file_bytes file;
    size_t count = 0;
    for (int i = 0; i < 32; i++)
        image_values[i] = (float)(i % 16);
    file.bytes = model_bytes(built, &file.size);
    failing = 0;
    ck_ok(run(&file, error)); /* fills oneDNN's caches, too */
    for (size_t n = 1;; n++) {
        xai_error *error = NULL;
        allocations = 0;
        failing = n;
        const xai_status status = run(&file, &error);
        failing = 0;           /* Check allocates, too */
        if (allocations < n) { /* none was left to fail */
            ck_assert_int_eq(status, XAI_OK);
            break;
        }
        ck_assert_msg(status == XAI_ERROR_MEMORY, "allocation %zu: %s (%s)", n,
                      xai_status_name(status), error ? xai_error_message(error) : "no error");
        ck_assert_ptr_nonnull(error);
        ck_assert_int_eq(xai_error_status(error), XAI_ERROR_MEMORY);
        xai_error_free(error);
        count++;
    }
    ck_assert_uint_gt(count, 100); /* else the replaced allocator was not linked */
    ck_ok(run(&file, error));
    model_free(built);
}

static void every_allocation(scenario run)
{
    every_allocation_of(convnet_builder("Softmax"), run);
}

START_TEST(opening_scoring_and_differentiating_survive)
{
    every_allocation(open_and_score);
}
END_TEST

/* The network of the other tests with PyTorch's export of GroupNorm behind the convolution. */
static model_builder *normalised_builder(void)
{
    static const int64_t image[] = {-1, 1, 4, 4}, kernel[] = {6, 1, 3, 3}, parameter[] = {6, 1, 1},
                         matrix[] = {4, 24}, two[] = {2}, groups[] = {0, 2, -1},
                         whole[] = {-1, 6, 2, 2};
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 4, image);
    model_random(m, "conv1.weight", 4, kernel, 1);
    model_fill(m, "ones", 1, two, 1);
    model_fill(m, "zeros", 1, two, 0);
    model_ints(m, "groups", 3, groups);
    model_ints(m, "whole", 4, whole);
    model_positive(m, "gamma", 3, parameter, 2);
    model_random(m, "beta", 3, parameter, 3);
    model_random(m, "fc1.weight", 2, matrix, 4);
    model_node(m, "Conv", "x conv1.weight", "conv1");
    model_node(m, "Reshape", "conv1 groups", "grouped");
    model_node(m, "InstanceNormalization", "grouped ones zeros", "normal");
    model_node(m, "Reshape", "normal whole", "norm1");
    model_node(m, "Mul", "norm1 gamma", "scaled");
    model_node(m, "Add", "scaled beta", "shifted");
    model_node(m, "Relu", "shifted", "relu1");
    model_node(m, "Flatten", "relu1", "flat");
    model_node(m, "Gemm", "flat fc1.weight", "y");
    model_int_attribute(m, "transB", 1);
    model_output(m, "y");
    return m;
}

START_TEST(normalising_survives)
{
    every_allocation_of(normalised_builder(), open_and_score);
}
END_TEST

/* A batch fixed at two, in the shapes and constants inside too: its rows run one by one. */
static model_builder *fixed_builder(void)
{
    static const int64_t image[] = {2, 1, 4, 4}, kernel[] = {3, 1, 3, 3}, token[] = {2, 3, 1},
                         matrix[] = {4, 15}, lines[] = {2, 3, 4};
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 4, image);
    model_random(m, "conv1.weight", 4, kernel, 1);
    model_fill(m, "token", 3, token, 0.5f);
    model_random(m, "fc1.weight", 2, matrix, 2);
    model_ints(m, "lines", 3, lines);
    model_node(m, "Conv", "x conv1.weight", "conv1");
    model_node(m, "Relu", "conv1", "relu1");
    model_node(m, "Reshape", "relu1 lines", "rows");
    model_node(m, "Concat", "token rows", "all");
    model_int_attribute(m, "axis", 2);
    model_node(m, "Flatten", "all", "flat");
    model_node(m, "Gemm", "flat fc1.weight", "y");
    model_int_attribute(m, "transB", 1);
    model_output(m, "y");
    return m;
}

START_TEST(a_fixed_batch_survives)
{
    every_allocation_of(fixed_builder(), open_and_score);
}
END_TEST

/* Four steps of four numbers through an LSTM in both directions and a GRU. */
static model_builder *recurrent_builder(void)
{
    static const int64_t image[] = {-1, 1, 4, 4}, w[] = {2, 12, 4}, r[] = {2, 12, 3},
                         biases[] = {2, 24}, w2[] = {1, 6, 6}, r2[] = {1, 6, 2},
                         steps[] = {4, -1, 6};
    static const int64_t perm[] = {2, 0, 1, 3}, lines[] = {4, -1, 4};
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 4, image);
    model_random(m, "w", 3, w, 1);
    model_random(m, "r", 3, r, 2);
    model_random(m, "b", 2, biases, 3);
    model_random(m, "w2", 3, w2, 4);
    model_random(m, "r2", 3, r2, 5);
    model_ints(m, "steps", 3, steps);
    model_ints(m, "lines", 3, lines);
    model_node(m, "Relu", "x", "relu1");
    model_node(m, "Transpose", "relu1", "turned");
    model_ints_attribute(m, "perm", 4, perm);
    model_node(m, "Reshape", "turned lines", "time");
    model_node(m, "LSTM", "time w r b", "all");
    model_int_attribute(m, "hidden_size", 3);
    model_text_attribute(m, "direction", "bidirectional");
    model_node(m, "Transpose", "all", "joined");
    model_ints_attribute(m, "perm", 4, (const int64_t[]){0, 2, 1, 3});
    model_node(m, "Reshape", "joined steps", "second");
    model_node(m, "GRU", "second w2 r2", "- last");
    model_int_attribute(m, "hidden_size", 2);
    model_int_attribute(m, "linear_before_reset", 1);
    model_ints(m, "axis", 1, (const int64_t[]){0});
    model_node(m, "Squeeze", "last axis", "y");
    model_output(m, "y");
    return m;
}

START_TEST(recurrence_survives)
{
    every_allocation_of(recurrent_builder(), open_and_score);
}
END_TEST

/* Four tokens of four numbers attend to each other, two heads; a mask. */
static model_builder *attention_builder(void)
{
    static const int64_t image[] = {-1, 1, 4, 4}, matrix[] = {4, 12}, five[] = {0, 4, 3, 2, 2},
                         perm[] = {2, 0, 3, 1, 4}, mask[] = {1, 4}, four[] = {1, 1, 1},
                         axis[] = {0}, middle[] = {1}, back[] = {0, 2, 1, 3}, swap[] = {0, 1, 3, 2};
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 4, image);
    model_random(m, "w", 2, matrix, 1);
    model_random(m, "mask", 2, mask, 2);
    model_ints(m, "one", 1, middle);
    model_ints(m, "five", 5, five);
    model_ints(m, "parts", 3, four);
    model_ints(m, "axis", 1, axis);
    model_node(m, "Relu", "x", "relu1");
    model_node(m, "Squeeze", "relu1 one", "tokens");
    model_node(m, "MatMul", "tokens w", "packed");
    model_node(m, "Reshape", "packed five", "heads");
    model_node(m, "Transpose", "heads", "moved");
    model_ints_attribute(m, "perm", 5, perm);
    model_node(m, "Split", "moved parts", "q5 k5 v5");
    model_node(m, "Squeeze", "q5 axis", "q");
    model_node(m, "Squeeze", "k5 axis", "k");
    model_node(m, "Squeeze", "v5 axis", "v");
    model_node(m, "Transpose", "k", "kt");
    model_ints_attribute(m, "perm", 4, swap);
    model_node(m, "MatMul", "q kt", "scores");
    model_node(m, "Add", "scores mask", "masked");
    model_node(m, "Softmax", "masked", "weights");
    model_node(m, "MatMul", "weights v", "mixed");
    model_node(m, "Transpose", "mixed", "back");
    model_ints_attribute(m, "perm", 4, back);
    model_node(m, "Flatten", "back", "y");
    model_output(m, "y");
    return m;
}

START_TEST(attention_survives)
{
    every_allocation_of(attention_builder(), open_and_score);
}
END_TEST

START_TEST(explaining_and_drawing_survive)
{
    every_allocation(explain_and_draw);
}
END_TEST

START_TEST(every_method_survives)
{
    at_method = (size_t)_i;
    every_allocation(explain_by_method);
}
END_TEST

START_TEST(explaining_by_rules_survives)
{
    every_allocation(explain_by_rules);
}
END_TEST

/* y (N, 2) of the mean embedding of three tokens. */
static model_builder *tokens_builder(void)
{
    static const int64_t ids[] = {-1, 3}, words[] = {5, 4}, matrix[] = {4, 2}, axis[] = {1};
    model_builder *m = model_create(17);
    model_input(m, "ids", DTYPE_INT64, 2, ids);
    model_random(m, "words", 2, words, 1);
    model_random(m, "w", 2, matrix, 2);
    model_ints(m, "axis", 1, axis);
    model_node(m, "Gather", "words ids", "embedded");
    model_node(m, "Tanh", "embedded", "bent");
    model_node(m, "ReduceSum", "bent axis", "sum");
    model_int_attribute(m, "keepdims", 0);
    model_node(m, "MatMul", "sum w", "y");
    model_output(m, "y");
    return m;
}

static const struct {
    const char *method, *layer, *segments;
} token_cases[] = {{"exact_shap", NULL, "grid:2"},
                   {"occlusion", NULL, NULL},
                   {"rise", NULL, NULL},
                   {"integrated_gradients", "embedded", NULL}};
static size_t at_token_case;

static xai_status explain_tokens(const file_bytes *file, xai_error **error)
{
    static const int64_t dims[] = {1, 3}, ids[] = {1, 2, 3};
    const char *layer = token_cases[at_token_case].layer,
               *segments = token_cases[at_token_case].segments;
    xai_model *model = NULL;
    xai_tensor *input = NULL;
    xai_explainer_options *options = NULL;
    xai_explainer *explainer = NULL;
    xai_explanation *explanation = NULL;
    xai_status status = xai_model_parse(file->bytes, file->size, &model, error);
    if (status == XAI_OK)
        status = xai_tensor_create(XAI_DTYPE_INT64, 2, dims, ids, &input, error);
    if (status == XAI_OK)
        status = xai_explainer_options_create(&options, error);
    if (status == XAI_OK)
        status = xai_explainer_options_set_number(options, "baseline", 4, error);
    if (status == XAI_OK && at_token_case == 2)
        status = xai_explainer_options_set_number(options, "samples", 3, error);
    if (status == XAI_OK && layer != NULL)
        status = xai_explainer_options_set_layer(options, layer, error);
    if (status == XAI_OK && segments != NULL)
        status = xai_explainer_options_set_text(options, "segments", segments, error);
    if (status == XAI_OK)
        status = xai_explainer_create(model, token_cases[at_token_case].method, options, &explainer,
                                      error);
    if (status == XAI_OK)
        status = xai_explainer_explain(explainer, input, NULL, &explanation, error);
    xai_explanation_free(explanation);
    xai_explainer_free(explainer);
    xai_explainer_options_free(options);
    xai_tensor_free(input);
    xai_model_free(model);
    return status;
}

/* The numbers and places above seven of the rows: their count is known behind the run. */
static model_builder *places_builder(void)
{
    model_builder *m = model_create(17);
    model_input(m, "image", DTYPE_FLOAT, 4, (int64_t[]){-1, 1, 4, 4});
    model_scalar(m, "seven", 7);
    model_node(m, "Relu", "image", "scores");
    model_node(m, "Greater", "scores seven", "mask");
    model_node(m, "NonZero", "mask", "places");
    model_node(m, "Transpose", "places", "pairs");
    model_ints_attribute(m, "perm", 2, (int64_t[]){1, 0});
    model_node(m, "GatherND", "scores pairs", "y");
    model_output(m, "y");
    model_output(m, "places");
    model_output(m, "scores");
    return m;
}

static xai_status find_places(const file_bytes *file, xai_error **error)
{
    xai_model *model = NULL;
    xai_session_options *options = NULL;
    xai_session *session = NULL;
    xai_tensor *input = NULL, *found[3] = {NULL};
    xai_status status = xai_model_parse(file->bytes, file->size, &model, error);
    if (status == XAI_OK)
        status = options_of(&options, error);
    if (status == XAI_OK)
        status = xai_session_create(model, options, &session, error);
    if (status == XAI_OK)
        status = xai_tensor_create(XAI_DTYPE_FLOAT32, 4, image_dims, image_values, &input, error);
    const xai_tensor *inputs[] = {input};
    if (status == XAI_OK)
        status = xai_session_scores(session, inputs, 1, found, 3, error);
    if (status == XAI_OK && xai_tensor_count(found[0]) != 16)
        status = XAI_ERROR_INTERNAL;
    for (int i = 0; i < 3; i++)
        xai_tensor_free(found[i]);
    xai_tensor_free(input);
    xai_session_free(session);
    xai_session_options_free(options);
    xai_model_free(model);
    return status;
}

START_TEST(shapes_from_data_survive)
{
    every_allocation_of(places_builder(), find_places);
}
END_TEST

START_TEST(explaining_tokens_survives)
{
    at_token_case = (size_t)_i;
    every_allocation_of(tokens_builder(), explain_tokens);
}
END_TEST

START_TEST(explaining_trees_survives)
{
    every_allocation_of(trees_builder(), explain_trees);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("oom");
    TCase *every = tcase_create("every allocation");
    tcase_set_timeout(every, 300);
    tcase_add_test(every, opening_scoring_and_differentiating_survive);
    tcase_add_test(every, attention_survives);
    tcase_add_test(every, a_fixed_batch_survives);
    tcase_add_test(every, recurrence_survives);
    tcase_add_test(every, explaining_and_drawing_survive);
    tcase_add_loop_test(every, every_method_survives, 0, (int)(sizeof methods / sizeof methods[0]));
    tcase_add_test(every, explaining_by_rules_survives);
    tcase_add_test(every, explaining_trees_survives);
    tcase_add_test(every, shapes_from_data_survive);
    tcase_add_loop_test(every, explaining_tokens_survives, 0,
                        (int)(sizeof token_cases / sizeof token_cases[0]));
    suite_add_tcase(suite, every);
    TCase *norms = tcase_create("normalisations");
    tcase_set_timeout(norms, 300);
    tcase_add_test(norms, normalising_survives);
    suite_add_tcase(suite, norms);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
