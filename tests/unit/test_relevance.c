/* Layer-wise relevance propagation of matrix products and first layers on the fast kernels, and what happens where oneDNN
 * refuses a convolution. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine/engine.h"
#include "engine/primitive.h"
#include "model_builder.h"

/* Linked with --wrap: primitives as builder_primitive() asks for them, but those that are to be refused. */
xai_status __real_primitive_create(const primitive_spec *spec, primitive **out, xai_error **error);
xai_status __wrap_primitive_create(const primitive_spec *spec, primitive **out, xai_error **error);

static bool refuse_bare;
static int refused;

xai_status __wrap_primitive_create(const primitive_spec *spec, primitive **out, xai_error **error)
{
    if (!refuse_bare || spec->kind != PRIMITIVE_CONVOLUTION || spec->has_bias)
        return __real_primitive_create(spec, out, error);
    refused++;
    return error_set(error, XAI_ERROR_UNSUPPORTED, NULL, "refused by the test");
}

typedef struct found {
    double *relevance;
    size_t count, portable; /* portable: backward steps of layers with weights */
} found;

static bool is_layer(const char *name)
{
    return strcmp(name, "Conv") == 0 || strcmp(name, "Gemm") == 0 || strcmp(name, "MatMul") == 0;
}

/* Relevances of the input, from a score that is the sum of seed[i] y[i]. */
static found relevance_of(const network *net, int precision, int threads,
                          const relevance_rule *rule, const relevance_rule *first)
{
    const graph *g = network_graph(net);
    const shape dims = g->values[g->inputs[0]].shape;
    const plan_request request = {.input_shapes = &dims,
                                  .seeds = g->outputs,
                                  .seed_count = 1,
                                  .gradients = g->inputs,
                                  .gradient_count = 1,
                                  .precision = precision,
                                  .rule = ENGINE_RULE_LRP,
                                  .relevance = rule,
                                  .first_relevance = first,
                                  .threads = threads};
    plan *p = NULL;
    run *state = NULL;
    tensor x;
    const tensor *view, *inputs[] = {&x};
    xai_error *error = NULL;
    unsigned random = 5;
    found out = {0};
    const xai_status status = plan_create((network *)(uintptr_t)net, &request, &p, &error);
    ck_assert_msg(status == XAI_OK, "%s", error ? xai_error_message(error) : "no message");
    for (size_t i = 0; i < plan_step_count(p); i++) {
        plan_step_facts facts;
        plan_step(p, i, &facts);
        out.portable += facts.backward && is_layer(facts.operator_name) &&
                        strcmp(facts.implementation, "portable") == 0;
    }
    ck_assert_int_eq(run_create(p, &state, NULL), XAI_OK);
    ck_assert_int_eq(tensor_create(&x, DTYPE_FLOAT, &dims, NULL), XAI_OK);
    for (size_t i = 0; i < tensor_count(&x); i++)
        tensor_set(&x, i, model_uniform(&random));
    ck_assert_int_eq(run_forward(state, inputs, NULL), XAI_OK);
    ck_assert_int_eq(run_value(state, g->outputs[0], &view, NULL), XAI_OK);
    float *seed = malloc((tensor_count(view) + 1) * sizeof *seed);
    for (size_t i = 0; i < tensor_count(view); i++)
        seed[i] = model_uniform(&random);
    ck_assert_int_eq(run_backward(state, g->outputs[0], seed, NULL), XAI_OK);
    ck_assert_int_eq(run_gradient(state, g->inputs[0], &view, NULL), XAI_OK);
    out.count = tensor_count(view);
    out.relevance = malloc((out.count + 1) * sizeof *out.relevance);
    tensor_read_doubles(view, 0, out.count, out.relevance);
    free(seed);
    tensor_free(&x);
    run_free(state);
    plan_free(p);
    return out;
}

static double distance(const found *a, const found *b)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a->count; i++) {
        difference += (a->relevance[i] - b->relevance[i]) * (a->relevance[i] - b->relevance[i]);
        norm += b->relevance[i] * b->relevance[i];
    }
    ck_assert_double_gt(norm, 0);
    return sqrt(difference / norm);
}

static const relevance_rule rules[] = {
    {.kind = RELEVANCE_GAMMA, .epsilon = 1e-6, .gamma = 0.25},
    {.kind = RELEVANCE_ALPHA_BETA, .epsilon = 1e-6, .alpha = 1},
    {.kind = RELEVANCE_ALPHA_BETA, .epsilon = 1e-6, .alpha = 2},
};
static const relevance_rule firsts[] = {
    {.kind = RELEVANCE_FLAT},
    {.kind = RELEVANCE_BOX, .epsilon = 1e-6, .low = -1, .high = 1},
};

/* All rules against the portable kernels in double, the same bits on three threads, and no layer left to them. */
static void agrees(model_builder *m)
{
    onnx_model *file = NULL;
    network *net = NULL;
    ck_assert_int_eq(network_create(model_graph(m, &file), &net, NULL), XAI_OK);
    model_free(m);
    for (size_t i = 0; i < 3; i++)
        for (size_t f = 0; f < 3; f++) {
            const relevance_rule *first = f > 0 ? &firsts[f - 1] : NULL;
            found fast = relevance_of(net, ENGINE_PRECISION_STANDARD, 1, &rules[i], first);
            found threads = relevance_of(net, ENGINE_PRECISION_STANDARD, 3, &rules[i], first);
            found reference = relevance_of(net, ENGINE_PRECISION_REFERENCE, 1, &rules[i], first);
            /* Sums of small signed parts in the denominators magnify float32. */
            const double error = distance(&fast, &reference);
            ck_assert_msg(error <= 1e-4, "rule %zu, first %zu: %g", i, f, error);
            ck_assert_mem_eq(fast.relevance, threads.relevance,
                             fast.count * sizeof *fast.relevance);
            if (primitive_available())
                ck_assert_uint_eq(fast.portable, 0);
            ck_assert_uint_gt(reference.portable, 0);
            free(fast.relevance);
            free(threads.relevance);
            free(reference.relevance);
        }
    network_free(net);
    onnx_model_free(file);
}

static void gemm(model_builder *m, const char *inputs, const char *weights, const char *bias,
                 const char *to, int64_t out, int64_t in)
{
    model_random(m, weights, 2, (int64_t[]){out, in}, (unsigned)(out * 7 + in));
    model_random(m, bias, 1, (int64_t[]){out}, (unsigned)(out * 5 + in));
    model_node(m, "Gemm", inputs, to);
    model_int_attribute(m, "transB", 1);
}

START_TEST(vectors_through_matrices_agree)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 2, (int64_t[]){1, 20});
    gemm(m, "x w1 b1", "w1", "b1", "a", 16, 20);
    model_node(m, "Relu", "a", "r");
    gemm(m, "r w2 b2", "w2", "b2", "c", 12, 16);
    model_node(m, "Tanh", "c", "t"); /* of either sign */
    gemm(m, "t w3 b3", "w3", "b3", "y", 5, 12);
    model_output(m, "y");
    agrees(m);
}
END_TEST

START_TEST(rows_through_matrices_agree)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 3, (int64_t[]){1, 7, 20});
    model_random(m, "w1", 2, (int64_t[]){20, 16}, 1);
    model_random(m, "b1", 1, (int64_t[]){16}, 2);
    model_node(m, "MatMul", "x w1", "a");
    model_node(m, "Add", "a b1", "s");
    model_node(m, "Tanh", "s", "t");
    model_random(m, "w2", 2, (int64_t[]){16, 9}, 3);
    model_node(m, "MatMul", "t w2", "y");
    model_output(m, "y");
    agrees(m);
}
END_TEST

/* x (1, channels, 10, 10), a strided window with padding, then one in groups. */
static model_builder *convolutions(int64_t channels)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 4, (int64_t[]){1, channels, 10, 10});
    model_random(m, "w1", 4, (int64_t[]){20, channels, 3, 3}, 1);
    model_random(m, "b1", 1, (int64_t[]){20}, 2);
    model_node(m, "Conv", "x w1 b1", "a");
    model_ints_attribute(m, "pads", 4, (int64_t[]){1, 1, 1, 1});
    model_ints_attribute(m, "strides", 2, (int64_t[]){2, 2});
    model_node(m, "Tanh", "a", "t");
    model_random(m, "w2", 4, (int64_t[]){16, 20, 3, 3}, 3);
    model_random(m, "b2", 1, (int64_t[]){16}, 4);
    model_node(m, "Conv", "t w2 b2", "c");
    model_node(m, "Relu", "c", "r");
    model_node(m, "GlobalAveragePool", "r", "y");
    model_output(m, "y");
    return m;
}

START_TEST(images_through_convolutions_agree)
{
    agrees(convolutions(1));
    agrees(convolutions(3));
    agrees(convolutions(20)); /* in blocks with padded lanes */
}
END_TEST

/* A layer whose convolution without bias oneDNN does not implement runs on the portable kernel. */
START_TEST(a_refused_convolution_is_left_to_the_portable_kernel)
{
    onnx_model *file = NULL;
    network *net = NULL;
    if (!primitive_available())
        return;
    model_builder *m = convolutions(3);
    ck_assert_int_eq(network_create(model_graph(m, &file), &net, NULL), XAI_OK);
    for (size_t f = 0; f < 3; f++) {
        const relevance_rule *first = f > 0 ? &firsts[f - 1] : NULL;
        found whole = relevance_of(net, ENGINE_PRECISION_STANDARD, 1, &rules[2], first);
        refuse_bare = true;
        refused = 0;
        found left = relevance_of(net, ENGINE_PRECISION_STANDARD, 1, &rules[2], first);
        refuse_bare = false;
        ck_assert_int_gt(refused, 0);
        ck_assert_uint_eq(whole.portable, 0);
        ck_assert_uint_eq(left.portable, 2);
        ck_assert_double_le(distance(&left, &whole), 1e-4);
        free(whole.relevance);
        free(left.relevance);
    }
    network_free(net);
    onnx_model_free(file);
    model_free(m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("relevance");
    TCase *layers = tcase_create("layers");
    tcase_add_test(layers, vectors_through_matrices_agree);
    tcase_add_test(layers, rows_through_matrices_agree);
    tcase_add_test(layers, images_through_convolutions_agree);
    tcase_add_test(layers, a_refused_convolution_is_left_to_the_portable_kernel);
    suite_add_tcase(suite, layers);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
