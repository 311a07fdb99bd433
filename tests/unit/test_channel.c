/* Rounding to a quantised type and PRelu between convolutions: in channel blocks, with the numbers of the plain kernels; the
 * kernels against their definitions. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/kernels.h"
#include "engine/primitive.h"
#include "model_builder.h"

#define DIMS(...)                                                          \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) \
    {                                                                      \
        __VA_ARGS__                                                        \
    }

static void quantise(model_builder *m, const char *from, const char *to)
{
    char names[64], middle[32];
    snprintf(middle, sizeof middle, "%s_q", to);
    snprintf(names, sizeof names, "%s scale zero", from);
    model_node(m, "QuantizeLinear", names, middle);
    snprintf(names, sizeof names, "%s scale zero", middle);
    model_node(m, "DequantizeLinear", names, to);
}

/* 11 channels fill no block. */
static model_builder *build(void)
{
    const uint8_t zero = 100;
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, DIMS(1, 3, 9, 9));
    model_random(m, "w1", DIMS(11, 3, 3, 3), 1);
    model_random(m, "w2", DIMS(19, 11, 3, 3), 2);
    model_random(m, "w3", DIMS(8, 19, 1, 1), 3);
    model_random(m, "slopes", DIMS(11, 1, 1), 4);
    model_scalar(m, "scale", 0.03125f);
    model_tensor(m, "zero", DTYPE_UINT8, 0, NULL, &zero, 1);
    model_node(m, "Conv", "x w1", "a");
    model_node(m, "PRelu", "a slopes", "b");
    model_node(m, "Conv", "b w2", "c");
    quantise(m, "c", "d");
    model_node(m, "MaxPool", "d", "e");
    model_ints_attribute(m, "kernel_shape", 2, (int64_t[]){2, 2});
    quantise(m, "e", "f");
    model_node(m, "Conv", "f w3", "g");
    model_node(m, "GlobalAveragePool", "g", "h");
    model_node(m, "Flatten", "h", "y");
    model_output(m, "y");
    return m;
}

typedef struct numbers {
    float score[8], gradient[243];
    int portable, reorders;
} numbers;

static void evaluate(int precision, numbers *out)
{
    onnx_model *file = NULL;
    network *net = NULL;
    plan *p = NULL;
    run *state = NULL;
    xai_error *error = NULL;
    model_builder *m = build();
    *out = (numbers){0};
    ck_assert_int_eq(network_create(model_graph(m, &file), &net, &error), XAI_OK);
    model_free(m);
    const graph *g = network_graph(net);
    const shape dims = g->values[g->inputs[0]].shape;
    const plan_request request = {.input_shapes = &dims,
                                  .seeds = g->outputs,
                                  .seed_count = 1,
                                  .gradients = g->inputs,
                                  .gradient_count = 1,
                                  .precision = precision,
                                  .threads = 1};
    ck_assert_int_eq(plan_create(net, &request, &p, &error), XAI_OK);
    for (size_t i = 0; i < plan_step_count(p); i++) {
        plan_step_facts facts;
        plan_step(p, i, &facts);
        out->portable += strcmp(facts.implementation, "portable") == 0;
        out->reorders += strcmp(facts.implementation, "reorder") == 0;
    }
    tensor x = {0};
    unsigned random = 7;
    ck_assert_int_eq(tensor_create(&x, DTYPE_FLOAT, &dims, NULL), XAI_OK);
    for (size_t k = 0; k < tensor_count(&x); k++)
        tensor_set(&x, k, (double)model_uniform(&random));
    const tensor *inputs[] = {&x}, *view;
    ck_assert_int_eq(run_create(p, &state, &error), XAI_OK);
    ck_assert_int_eq(run_forward(state, inputs, &error), XAI_OK);
    ck_assert_int_eq(run_value(state, g->outputs[0], &view, &error), XAI_OK);
    tensor_read_floats(view, 0, 8, out->score);
    const float seed[8] = {1, -2, 0.5f, 3, 0, 0, -1, 2};
    ck_assert_int_eq(run_backward(state, g->outputs[0], seed, &error), XAI_OK);
    ck_assert_int_eq(run_gradient(state, g->inputs[0], &view, &error), XAI_OK);
    tensor_read_floats(view, 0, 243, out->gradient);
    tensor_free(&x);
    run_free(state);
    plan_free(p);
    network_free(net);
    onnx_model_free(file);
}

START_TEST(between_convolutions_nothing_leaves_the_blocks)
{
    static numbers fast, plain;
    double largest = 0;
    evaluate(ENGINE_PRECISION_STANDARD, &fast);
    evaluate(ENGINE_PRECISION_REFERENCE, &plain);
    if (primitive_available()) {
        ck_assert_int_eq(fast.portable, 0);
        ck_assert_int_le(fast.reorders, 1); /* the seed's, of one position, at most */
    }
    for (int i = 0; i < 8; i++)
        ck_assert_double_eq_tol((double)fast.score[i], (double)plain.score[i], 1e-5);
    for (int i = 0; i < 243; i++) { /* step by step: GCC 12.2 for arm64 crashes on fmax() here */
        const double size = fabs((double)plain.gradient[i]);
        ck_assert(isfinite(size));
        largest = size > largest ? size : largest;
    }
    for (int i = 0; i < 243; i++)
        ck_assert_double_eq_tol((double)fast.gradient[i], (double)plain.gradient[i],
                                1e-5 * largest);
}
END_TEST

START_TEST(rounding_is_to_the_even_neighbour_and_saturates)
{
    enum { COUNT = 9000 };
    static float x[COUNT], y[COUNT], g[COUNT], gx[COUNT];
    const float scale = 0.25f, low = -100, high = 155;
    for (int i = 0; i < COUNT; i++) {
        x[i] = (float)(i - COUNT / 2) * 0.0625f; /* halves among them */
        g[i] = (float)(i % 7) - 3;
        gx[i] = 1;
    }
    for (int threads = 1; threads <= 2; threads++) {
        ck_assert(kernel_quantise(x, y, COUNT, scale, low, high, threads));
        kernel_quantise_backward(x, g, gx, COUNT, scale, low, high, threads == 2, threads);
        for (int i = 0; i < COUNT; i++) {
            const float whole = nearbyintf(x[i] / scale), inside = fminf(fmaxf(whole, low), high);
            ck_assert(y[i] == inside * scale);
            ck_assert(gx[i] == (whole == inside ? g[i] : 0) * (float)threads);
        }
    }
    x[COUNT - 3] = NAN;
    ck_assert(!kernel_quantise(x, y, COUNT, scale, low, high, 2));
    x[COUNT - 3] = INFINITY;
    ck_assert(kernel_quantise(x, y, COUNT, scale, low, high, 2));
    ck_assert(y[COUNT - 3] == high * scale);
}
END_TEST

START_TEST(prelu_has_a_slope_a_channel)
{
    enum { CHANNELS = 11, SPATIAL = 600 };
    static float x[16 * SPATIAL], y[16 * SPATIAL], g[16 * SPATIAL], gx[16 * SPATIAL];
    static const int blocks[] = {1, 8, 16};
    unsigned random = 3;
    float slopes[16] = {0};
    for (int c = 0; c < CHANNELS; c++)
        slopes[c] = model_uniform(&random);
    for (int k = 0; k < 3; k++) {
        const int block = blocks[k], padded = (CHANNELS + block - 1) / block * block;
        for (int i = 0; i < padded * SPATIAL; i++) {
            x[i] = i % 13 == 0 ? 0 : model_uniform(&random);
            g[i] = model_uniform(&random);
            gx[i] = 1;
        }
        kernel_prelu(x, slopes, y, CHANNELS, SPATIAL, block, 2);
        kernel_prelu_backward(x, slopes, g, gx, CHANNELS, SPATIAL, block, true, 2);
        for (int i = 0; i < padded * SPATIAL; i++) {
            const int c = i / (block * SPATIAL) * block + i % block;
            ck_assert(y[i] == (x[i] < 0 ? slopes[c] * x[i] : x[i]));
            ck_assert_double_eq_tol((double)gx[i], 1 + (double)(x[i] > 0 ? g[i] : slopes[c] * g[i]),
                                    1e-6);
        }
    }
}
END_TEST

int main(void)
{
    TCase *all = tcase_create("channel");
    tcase_add_test(all, between_convolutions_nothing_leaves_the_blocks);
    tcase_add_test(all, rounding_is_to_the_even_neighbour_and_saturates);
    tcase_add_test(all, prelu_has_a_slope_a_channel);
    Suite *suite = suite_create("channel");
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
