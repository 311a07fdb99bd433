/* RNN, GRU and LSTM on own kernels against the portable ones in double, forward and backward: widths that fill no block, both
 * directions, states from outside, every output. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/primitive.h"
#include "model_builder.h"

typedef struct layer {
    const char *op, *direction, *outputs; /* "y", "y_h" or "y_c": the one that is scored */
    int64_t steps, inputs, width;
    bool biases, states;
} layer;

static const layer layers[] = {
    {"LSTM", "forward", "y", 7, 5, 16, true, false},
    {"LSTM", "bidirectional", "y", 9, 3, 21, true, true},
    {"LSTM", "reverse", "y_h", 6, 4, 33, false, true},
    {"LSTM", "bidirectional", "y_c", 5, 4, 3, true, false},
    {"LSTM", "forward", "y", 1, 8, 40, true, true},
    {"GRU", "forward", "y", 7, 5, 16, true, false},
    {"GRU", "bidirectional", "y", 9, 3, 21, true, true},
    {"GRU", "reverse", "y_h", 6, 4, 33, false, true},
    {"GRU", "bidirectional", "y_h", 5, 4, 1, true, false},
    {"RNN", "forward", "y", 7, 5, 16, true, false},
    {"RNN", "bidirectional", "y", 9, 3, 21, true, true},
    {"RNN", "reverse", "y_h", 6, 4, 7, false, true},
    {"LSTM", "bidirectional", "y", 4, 8, 400, true, false}, /* wide: units of a step on threads */
    {"GRU", "forward", "y", 4, 8, 480, true, false},
};
#define LAYER_COUNT ((int)(sizeof layers / sizeof *layers))

#define DIMS(...)                                                          \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) \
    {                                                                      \
        __VA_ARGS__                                                        \
    }

static model_builder *build(const layer *of)
{
    const int64_t d = strcmp(of->direction, "bidirectional") == 0 ? 2 : 1, h = of->width;
    const int64_t gates = of->op[0] == 'L' ? 4 : of->op[0] == 'G' ? 3 : 1;
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, DIMS(of->steps, 1, of->inputs));
    model_random(m, "w", DIMS(d, gates * h, of->inputs), 1);
    model_random(m, "r_raw", DIMS(d, gates * h, h), 2);
    model_scalar(m, "small", (float)(1 / sqrt((double)h)));
    model_random(m, "b", DIMS(d, 2 * gates * h), 3);
    model_random(m, "h0", DIMS(d, 1, h), 4);
    model_random(m, "c0", DIMS(d, 1, h), 5);
    model_node(m, "Mul", "r_raw small", "r");
    char inputs[64];
    const bool lstm = gates == 4;
    snprintf(inputs, sizeof inputs, "x w r %s%s%s", of->biases ? "b" : "-",
             of->states ? " - h0" : "", of->states && lstm ? " c0" : "");
    model_node(m, of->op, inputs, lstm ? "y y_h y_c" : "y y_h");
    model_int_attribute(m, "hidden_size", h);
    model_text_attribute(m, "direction", of->direction);
    if (gates == 3)
        model_int_attribute(m, "linear_before_reset", 1);
    model_output(m, of->outputs);
    return m;
}

typedef struct numbers {
    float *score, *gradient;
    size_t scores, gradients;
} numbers;

static float *copy_of(const tensor *t)
{
    float *out = malloc(tensor_count(t) * sizeof *out);
    tensor_read_floats(t, 0, tensor_count(t), out);
    return out;
}

static numbers run_layer(const layer *of, int precision, int threads, bool *fast)
{
    onnx_model *file = NULL;
    network *net = NULL;
    plan *p = NULL;
    run *state = NULL;
    xai_error *error = NULL;
    numbers out = {0};
    model_builder *m = build(of);
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
                                  .threads = threads};
    ck_assert_int_eq(plan_create(net, &request, &p, &error), XAI_OK);
    int portable = 0;
    for (size_t i = 0; i < plan_step_count(p); i++) {
        plan_step_facts facts;
        plan_step(p, i, &facts);
        portable += strcmp(facts.implementation, "portable") == 0;
    }
    *fast = portable == 0;
    tensor x = {0};
    unsigned random = 7;
    ck_assert_int_eq(tensor_create(&x, DTYPE_FLOAT, &dims, NULL), XAI_OK);
    for (size_t k = 0; k < tensor_count(&x); k++)
        tensor_set(&x, k, (double)model_uniform(&random));
    const tensor *inputs[] = {&x}, *view;
    ck_assert_int_eq(run_create(p, &state, &error), XAI_OK);
    ck_assert_int_eq(run_forward(state, inputs, &error), XAI_OK);
    ck_assert_int_eq(run_value(state, g->outputs[0], &view, &error), XAI_OK);
    out.score = copy_of(view);
    out.scores = tensor_count(view);
    float *seed = malloc(out.scores * sizeof *seed);
    for (size_t k = 0; k < out.scores; k++)
        seed[k] = model_uniform(&random);
    for (int again = 0; again < 2; again++) /* the trace outlives a backward pass */
        ck_assert_int_eq(run_backward(state, g->outputs[0], seed, &error), XAI_OK);
    ck_assert_int_eq(run_gradient(state, g->inputs[0], &view, &error), XAI_OK);
    out.gradient = copy_of(view);
    out.gradients = tensor_count(view);
    free(seed);
    tensor_free(&x);
    run_free(state);
    plan_free(p);
    network_free(net);
    onnx_model_free(file);
    return out;
}

static void release(numbers *self)
{
    free(self->score);
    free(self->gradient);
}

/* Root of the mean square of the difference over that of the wanted. */
static double distance(const float *got, const float *wanted, size_t count)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        difference += pow((double)got[i] - (double)wanted[i], 2);
        size += pow((double)wanted[i], 2);
    }
    return sqrt(difference / size);
}

START_TEST(fast_steps_agree_with_plain_ones)
{
    bool fast, slow;
    numbers got = run_layer(&layers[_i], ENGINE_PRECISION_STANDARD, 1, &fast),
            wanted = run_layer(&layers[_i], ENGINE_PRECISION_REFERENCE, 1, &slow);
    ck_assert(fast == primitive_available() && !slow);
    ck_assert_double_lt(distance(got.score, wanted.score, wanted.scores), 1e-6);
    ck_assert_double_lt(distance(got.gradient, wanted.gradient, wanted.gradients), 2e-6);
    release(&got);
    release(&wanted);
}
END_TEST

START_TEST(any_number_of_threads_gives_the_same_bits)
{
    bool fast;
    numbers one = run_layer(&layers[_i], ENGINE_PRECISION_STANDARD, 1, &fast),
            three = run_layer(&layers[_i], ENGINE_PRECISION_STANDARD, 3, &fast);
    ck_assert_mem_eq(one.score, three.score, one.scores * sizeof *one.score);
    ck_assert_mem_eq(one.gradient, three.gradient, one.gradients * sizeof *one.gradient);
    release(&one);
    release(&three);
}
END_TEST

int main(void)
{
    TCase *all = tcase_create("recurrent");
    tcase_add_loop_test(all, fast_steps_agree_with_plain_ones, 0, LAYER_COUNT);
    tcase_add_loop_test(all, any_number_of_threads_gives_the_same_bits, 0, LAYER_COUNT);
    Suite *suite = suite_create("recurrent");
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
