/* Overflow inside a network is an error, never a harmless zero behind a fused ReLU; and nothing else is one. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine/plan.h"
#include "model_builder.h"

#define CHANNELS 8
#define SIZE 6

/* Between "a" and "b": what an entry of a network may do to a value; all keep (1, 8, 6, 6). */
typedef struct middle {
    const char *op, *inputs;
    float low; /* of the second operand, where there is one */
} middle;

static const middle middles[] = {
    {"Relu", "a", 0},
    {"LeakyRelu", "a", 0},
    {"Abs", "a", 0},
    {"Neg", "a", 0},
    {"Identity", "a", 0},
    {"MaxPool", "a", 0},
    {"Add", "a a", 0},
    {"Add", "a c", -3},
    {"Sub", "a c", 2},
    {"Mul", "a c", 1.5f},
    {"Mul", "a a", 0},
    {"Clip", "a low high", 0},
    {"Clip", "a low", 0},
    {"Concat", "a a", 0},
    {"Sigmoid", "a", 0},
    {"Tanh", "a", 0},
    {"HardSwish", "a", 0},
    {"Elu", "a", 0},
    {"Sum", "a a a", 0},
    {"Transpose", "a", 0},
    {"BatchNormalization", "a s t m v", 0},
    {"InstanceNormalization", "a s t", 0},
};
enum { MIDDLES = sizeof middles / sizeof middles[0] };

/* Functions of single elements that keep channel blocks; the slope is far above what a norm is above its sums. */
static const middle by_channel[] = {
    {"PRelu", "a slopes", 0},
    {"QuantizeLinear", "a quantum zero", 0},
};
enum { BY_CHANNEL = sizeof by_channel / sizeof by_channel[0] };

static void weights(model_builder *m, const char *name, int64_t out, int64_t in, float scale)
{
    float *values = malloc((size_t)(out * in * 9) * sizeof *values);
    unsigned random = 5;
    for (int64_t i = 0; i < out * in * 9; i++)
        values[i] = scale * model_uniform(&random);
    model_floats(m, name, 4, (int64_t[]){out, in, 3, 3}, values);
    free(values);
}

static void convolution(model_builder *m, const char *from, const char *to, int64_t in, float scale)
{
    char name[16], inputs[32];
    snprintf(name, sizeof name, "w_%s", to);
    snprintf(inputs, sizeof inputs, "%s %s", from, name);
    weights(m, name, CHANNELS, in, scale);
    model_node(m, "Conv", inputs, to);
    model_ints_attribute(m, "pads", 4, (int64_t[]){1, 1, 1, 1});
}

/* x -> Conv -> a -> middle -> b -> Conv -> d -> Relu -> e -> Conv -> y, weights about `scale`. */
static model_builder *between(const middle *what, float scale)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 4, (int64_t[]){1, 3, SIZE, SIZE});
    convolution(m, "x", "a", 3, scale);
    model_fill(m, "c", 4, (int64_t[]){1, CHANNELS, 1, 1}, what->low);
    model_scalar(m, "low", -3e20f);
    model_scalar(m, "high", 2e20f);
    model_positive(m, "s", 1, (int64_t[]){CHANNELS}, 1);
    model_random(m, "t", 1, (int64_t[]){CHANNELS}, 2);
    model_random(m, "m", 1, (int64_t[]){CHANNELS}, 3);
    model_positive(m, "v", 1, (int64_t[]){CHANNELS}, 4);
    model_fill(m, "slopes", 3, (int64_t[]){CHANNELS, 1, 1}, 300);
    model_scalar(m, "quantum", 0.03F);
    model_tensor(m, "zero", DTYPE_INT8, 0, NULL, "\xEC", 1); /* -20 */
    const bool rounds = strcmp(what->op, "QuantizeLinear") == 0;
    model_node(m, what->op, what->inputs, rounds ? "q" : "b");
    if (rounds)
        model_node(m, "DequantizeLinear", "q quantum zero", "b");
    const bool doubled = strcmp(what->op, "Concat") == 0;
    if (doubled)
        model_int_attribute(m, "axis", 1);
    if (strcmp(what->op, "MaxPool") == 0) {
        model_ints_attribute(m, "kernel_shape", 2, (int64_t[]){3, 3});
        model_ints_attribute(m, "pads", 4, (int64_t[]){1, 1, 1, 1});
    }
    if (strcmp(what->op, "Transpose") == 0)
        model_ints_attribute(m, "perm", 4, (int64_t[]){0, 1, 3, 2});
    convolution(m, "b", "d", doubled ? 2 * CHANNELS : CHANNELS, scale);
    model_node(m, "Relu", "d", "e");
    convolution(m, "e", "y", CHANNELS, 1);
    model_output(m, "y");
    return m;
}

typedef struct outcome {
    xai_status status;
    size_t not_finite, count;
    float *values;
} outcome;

/* Forward with the picture `amplitude` times uniform numbers; looks into the run's bounds. */
static outcome forward(model_builder *m, float amplitude, bool allow, int precision)
{
    onnx_model *file = NULL;
    network *net = NULL;
    plan *p = NULL;
    run *state = NULL;
    xai_error *error = NULL;
    tensor x;
    const tensor *pointer = &x, *view = NULL;
    unsigned random = 7;
    graph *source = model_graph(m, &file);
    const int wanted[] = {graph_find(source, "a"), graph_find(source, "b"),
                          graph_find(source, "e")};
    ck_assert_int_eq(network_create(source, &net, &error), XAI_OK);
    const graph *g = network_graph(net);
    const plan_request request = {.input_shapes = &g->values[g->inputs[0]].shape,
                                  .wanted = wanted,
                                  .wanted_count = wanted[0] == GRAPH_NONE ? 0 : 3,
                                  .precision = precision,
                                  .allow_nonfinite = allow,
                                  .threads = 2};
    ck_assert_int_eq(plan_create(net, &request, &p, &error), XAI_OK);
    ck_assert_int_eq(run_create(p, &state, &error), XAI_OK);
    ck_assert_int_eq(tensor_create(&x, DTYPE_FLOAT, request.input_shapes, &error), XAI_OK);
    for (size_t i = 0; i < tensor_count(&x); i++)
        ((float *)x.data)[i] = amplitude * model_uniform(&random);
    outcome out = {.status = run_forward(state, &pointer, &error)};
    ck_assert_int_eq(out.status != XAI_OK, error != NULL);
    for (size_t i = 0; out.status == XAI_OK && state->bounds && i < request.wanted_count; i++) {
        ck_assert_int_eq(run_value(state, wanted[i], &view, &error), XAI_OK);
        const float largest = kernel_max_abs(view->data, tensor_count(view), 1);
        ck_assert_msg((double)largest <= state->bounds[wanted[i]] * (1 + 1e-6),
                      "value %zu reaches %g, beyond its bound %g", i, (double)largest,
                      state->bounds[wanted[i]]);
    }
    if (out.status == XAI_OK) {
        ck_assert_int_eq(run_value(state, g->outputs[0], &view, &error), XAI_OK);
        out.count = tensor_count(view);
        out.values = malloc(out.count * sizeof *out.values);
        tensor_read_floats(view, 0, out.count, out.values);
        for (size_t i = 0; i < out.count; i++)
            out.not_finite += !isfinite(out.values[i]);
    }
    xai_error_free(error);
    tensor_free(&x);
    run_free(state);
    plan_free(p);
    network_free(net);
    onnx_model_free(file);
    model_free(m);
    return out;
}

START_TEST(bounds_hold_and_nothing_ordinary_is_refused)
{
    outcome fast = forward(between(&middles[_i], 0.3f), 1, false, ENGINE_PRECISION_STANDARD);
    outcome exact = forward(between(&middles[_i], 0.3f), 1, false, ENGINE_PRECISION_REFERENCE);
    ck_assert_int_eq(fast.status, XAI_OK);
    ck_assert_int_eq(exact.status, XAI_OK);
    for (size_t i = 0; i < fast.count; i++)
        ck_assert_double_le(fabs((double)fast.values[i] - (double)exact.values[i]), 1e-4);
    free(fast.values);
    free(exact.values);
}
END_TEST

/* forward() compares the bounds; 1e15 saturates the rounding. */
START_TEST(bounds_of_slopes_and_rounding_hold)
{
    for (float amplitude = 1; amplitude < 2e15f; amplitude *= 1e15f) {
        outcome fast =
            forward(between(&by_channel[_i], 0.3f), amplitude, false, ENGINE_PRECISION_STANDARD);
        outcome exact =
            forward(between(&by_channel[_i], 0.3f), amplitude, false, ENGINE_PRECISION_REFERENCE);
        double largest = 0;
        ck_assert_int_eq(fast.status, XAI_OK);
        ck_assert_int_eq(exact.status, XAI_OK);
        for (size_t i = 0; i < exact.count; i++) {
            const double size = fabs((double)exact.values[i]);
            largest = size > largest ? size : largest;
        }
        ck_assert(largest > 0);
        for (size_t i = 0; i < fast.count; i++)
            ck_assert_double_le(fabs((double)fast.values[i] - (double)exact.values[i]),
                                1e-5 * largest);
        free(fast.values);
        free(exact.values);
    }
}
END_TEST

/* Far from one, but nothing overflows: 1e25 everywhere. */
START_TEST(large_numbers_that_fit_are_computed)
{
    outcome fast = forward(between(&middles[_i], 0.3f), 1e15f, false, ENGINE_PRECISION_STANDARD);
    ck_assert_int_eq(fast.status, XAI_OK);
    ck_assert_uint_eq(fast.not_finite, 0);
    free(fast.values);
}
END_TEST

/* The second convolution's sums reach 1e40 of both signs; Sigmoid, Tanh and
 * InstanceNormalization end at about one before it. */
START_TEST(overflow_inside_is_an_error)
{
    const bool squashes = strcmp(middles[_i].op, "Sigmoid") == 0 ||
                          strcmp(middles[_i].op, "Tanh") == 0 ||
                          strcmp(middles[_i].op, "InstanceNormalization") == 0;
    const float amplitude = squashes ? 3e38f : 1;
    if (!primitive_available())
        return; /* only oneDNN hides a NaN; the portable kernels sum in double */
    outcome strict =
        forward(between(&middles[_i], 1e20f), amplitude, false, ENGINE_PRECISION_STANDARD);
    ck_assert_int_eq(strict.status, XAI_ERROR_NUMERIC);
    if (squashes)
        return;
    outcome allowed =
        forward(between(&middles[_i], 1e20f), amplitude, true, ENGINE_PRECISION_STANDARD);
    ck_assert_int_eq(allowed.status, XAI_OK);
    ck_assert_uint_gt(allowed.not_finite, 0);
    free(allowed.values);
}
END_TEST

/* Thirty convolutions: the bound outgrows float32 although the numbers do not, and is measured. */
START_TEST(deep_networks_are_measured_on_the_way)
{
    for (int precision = 0; precision < 2; precision++) {
        model_builder *m = model_create(17);
        char from[8] = "x", to[8], relu[8];
        model_input(m, "x", DTYPE_FLOAT, 4, (int64_t[]){1, 3, SIZE, SIZE});
        for (int i = 0; i < 30; i++) {
            snprintf(to, sizeof to, "c%d", i);
            snprintf(relu, sizeof relu, "r%d", i);
            convolution(m, from, to, i == 0 ? 3 : CHANNELS, 0.4f);
            model_node(m, "Relu", to, relu);
            snprintf(from, sizeof from, "%s", relu);
        }
        model_output(m, from);
        outcome out = forward(m, 1, false,
                              precision ? ENGINE_PRECISION_REFERENCE : ENGINE_PRECISION_STANDARD);
        ck_assert_int_eq(out.status, XAI_OK);
        ck_assert_uint_eq(out.not_finite, 0);
        free(out.values);
    }
}
END_TEST

/* max over output channels of the sum of magnitudes, by hand. */
START_TEST(norm_is_that_of_the_largest_output_channel)
{
    float w[2 * 2 * 4] = {1, -2, 3, -4, 0, 0, 0, 0.5f, 5, 5, -5, 5, 1, 1, 1, 1};
    const tensor t = {DTYPE_FLOAT, {4, {2, 2, 2, 2}}, w, false};
    primitive_spec spec = {.kind = PRIMITIVE_CONVOLUTION, .geometry = {.groups = 1}};
    ck_assert_double_eq(guard_norm(&spec, &t), 24);
    spec.kind = PRIMITIVE_DECONVOLUTION; /* (C, M, k): output 0 sums w[0, 0] and w[1, 0] */
    ck_assert_double_eq(guard_norm(&spec, &t), 30);
    spec.geometry.groups = 2; /* each input makes two outputs of its own */
    ck_assert_double_eq(guard_norm(&spec, &t), 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("guard");
    TCase *tests = tcase_create("overflow");
    suite_add_tcase(suite, tests);
    tcase_add_loop_test(tests, bounds_hold_and_nothing_ordinary_is_refused, 0, MIDDLES);
    tcase_add_loop_test(tests, bounds_of_slopes_and_rounding_hold, 0, BY_CHANNEL);
    tcase_add_loop_test(tests, large_numbers_that_fit_are_computed, 0, MIDDLES);
    tcase_add_loop_test(tests, overflow_inside_is_an_error, 0, MIDDLES);
    tcase_add_test(tests, deep_networks_are_measured_on_the_way);
    tcase_add_test(tests, norm_is_that_of_the_largest_output_channel);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
