/* Plans: the fast lowerings against the portable kernels on graphs that strain the planner,
 * forward and backward. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/engine.h"
#include "engine/primitive.h"
#include "model_builder.h"

typedef struct loaded {
    onnx_model *file;
    network *net;
} loaded;

static loaded load(model_builder *m)
{
    loaded self = {0};
    xai_error *error = NULL;
    graph *g = model_graph(m, &self.file);
    ck_assert_int_eq(network_create(g, &self.net, &error), XAI_OK);
    model_free(m);
    return self;
}

static void unload(loaded *self)
{
    network_free(self->net);
    onnx_model_free(self->file);
}

#define MAX_WANTED 8

typedef struct result {
    float *score;
    size_t score_count;
    float *gradients[MAX_WANTED], *values[MAX_WANTED];
    size_t counts[MAX_WANTED];
} result;

static float *copy_of(const tensor *t)
{
    float *out = malloc((tensor_count(t) + 1) * sizeof *out);
    tensor_read_floats(t, 0, tensor_count(t), out);
    return out;
}

static plan *compile_as(const loaded *self, const int *wanted, size_t count, int precision,
                        int threads, bool passes)
{
    const graph *g = network_graph(self->net);
    shape inputs[4];
    plan *p = NULL;
    xai_error *error = NULL;
    for (size_t i = 0; i < g->input_count; i++)
        inputs[i] = g->values[g->inputs[i]].shape;
    const plan_request request = {.input_shapes = inputs,
                                  .wanted = wanted,
                                  .wanted_count = count,
                                  .seeds = g->outputs,
                                  .seed_count = 1,
                                  .gradients = wanted,
                                  .gradient_count = count,
                                  .passes_gradients = passes,
                                  .precision = precision,
                                  .threads = threads};
    const xai_status status = plan_create(self->net, &request, &p, &error);
    ck_assert_msg(status == XAI_OK, "%s", error ? xai_error_message(error) : "no message");
    return p;
}

static plan *compile(const loaded *self, const int *wanted, size_t count, int precision,
                     int threads)
{
    return compile_as(self, wanted, count, precision, threads, false);
}

/* Inputs of a fixed random choice. */
static void fill_inputs(const graph *g, tensor *inputs, const tensor **pointers)
{
    unsigned random = 7;
    for (size_t i = 0; i < g->input_count; i++) {
        ck_assert_int_eq(
            tensor_create(&inputs[i], DTYPE_FLOAT, &g->values[g->inputs[i]].shape, NULL), XAI_OK);
        for (size_t k = 0; k < tensor_count(&inputs[i]); k++)
            tensor_set(&inputs[i], k, model_uniform(&random));
        pointers[i] = &inputs[i];
    }
}

static void fill_seed(float *seed, size_t count)
{
    unsigned random = 11;
    for (size_t k = 0; k < count; k++)
        seed[k] = model_uniform(&random);
}

/* Forward with a fixed random input, backward from a fixed random seed over all of output 0. */
static result evaluate(const loaded *self, const int *wanted, size_t count, int precision,
                       int threads, int repeats)
{
    const graph *g = network_graph(self->net);
    plan *p = compile(self, wanted, count, precision, threads);
    run *state = NULL;
    xai_error *error = NULL;
    tensor inputs[4];
    const tensor *pointers[4], *view;
    result out = {0};
    ck_assert_int_eq(run_create(p, &state, &error), XAI_OK);
    fill_inputs(g, inputs, pointers);
    ck_assert_int_eq(run_forward(state, pointers, &error), XAI_OK);
    ck_assert_int_eq(run_value(state, g->outputs[0], &view, &error), XAI_OK);
    out.score = copy_of(view);
    out.score_count = tensor_count(view);
    float *seed = malloc(out.score_count * sizeof *seed);
    for (int r = 0; count > 0 && r < repeats; r++) {
        fill_seed(seed, out.score_count);
        for (size_t k = 0; r + 1 < repeats && k < out.score_count; k++)
            seed[k] = -3.0f;
        ck_assert_int_eq(run_backward(state, g->outputs[0], seed, &error), XAI_OK);
    }
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(run_gradient(state, wanted[i], &view, &error), XAI_OK);
        out.gradients[i] = copy_of(view);
        out.counts[i] = tensor_count(view);
        ck_assert_int_eq(run_value(state, wanted[i], &view, &error), XAI_OK);
        out.values[i] = copy_of(view);
    }
    free(seed);
    for (size_t i = 0; i < g->input_count; i++)
        tensor_free(&inputs[i]);
    run_free(state);
    plan_free(p);
    return out;
}

static void result_free(result *self)
{
    free(self->score);
    for (int i = 0; i < MAX_WANTED; i++) {
        free(self->gradients[i]);
        free(self->values[i]);
    }
}

/* Relative L2 distance; both all zero counts as equal. */
static double distance(const float *a, const float *b, size_t n)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return norm > 0 ? sqrt(difference / norm) : sqrt(difference);
}

typedef struct passed {
    const int *wanted;
    const result *expected;
    size_t count, calls[MAX_WANTED];
} passed;

static xai_status compare_passed(void *user, int value, const tensor *gradient, xai_error **error)
{
    passed *self = user;
    (void)error;
    size_t i = 0;
    while (i < self->count && self->wanted[i] != value)
        i++;
    ck_assert_uint_lt(i, self->count);
    ck_assert_uint_eq(tensor_count(gradient), self->expected->counts[i]);
    ck_assert_mem_eq(gradient->data, self->expected->gradients[i],
                     self->expected->counts[i] * sizeof(float));
    self->calls[i]++;
    return XAI_OK;
}

/* A plan that passes gradients on gives each once, with the bits of one that keeps them. */
static void passes(const loaded *self, const int *wanted, size_t count, const result *expected)
{
    const graph *g = network_graph(self->net);
    plan *p = compile_as(self, wanted, count, ENGINE_PRECISION_STANDARD, 1, true);
    run *state = NULL;
    tensor inputs[4];
    const tensor *pointers[4], *view;
    float *seed = malloc(expected->score_count * sizeof *seed);
    ck_assert_int_eq(run_create(p, &state, NULL), XAI_OK);
    fill_inputs(g, inputs, pointers);
    fill_seed(seed, expected->score_count);
    ck_assert_int_eq(run_forward(state, pointers, NULL), XAI_OK);
    for (size_t repeat = 1; repeat <= 2; repeat++) {
        passed at = {.wanted = wanted, .expected = expected, .count = count};
        ck_assert_int_eq(run_backward_each(state, g->outputs[0], seed, compare_passed, &at, NULL),
                         XAI_OK);
        for (size_t i = 0; i < count; i++)
            ck_assert_uint_eq(at.calls[i], 1);
    }
    ck_assert_int_ne(run_gradient(state, wanted[0], &view, NULL), XAI_OK);
    free(seed);
    for (size_t i = 0; i < g->input_count; i++)
        tensor_free(&inputs[i]);
    run_free(state);
    plan_free(p);
}

/* The fast plan gives what the portable kernels give: scores, wanted values and their gradients,
 * for `names` (spaces between); "": forward alone, where more is fused. */
static void agrees(model_builder *m, const char *names)
{
    loaded self = load(m);
    char text[256];
    int wanted[MAX_WANTED];
    size_t count = 0;
    snprintf(text, sizeof text, "%s", names);
    for (char *name = strtok(text, " "); name != NULL; name = strtok(NULL, " "), count++) {
        wanted[count] = graph_find(network_graph(self.net), name);
        ck_assert_msg(wanted[count] != GRAPH_NONE, "no value %s", name);
    }
    result reference = evaluate(&self, wanted, count, ENGINE_PRECISION_REFERENCE, 1, 1);
    result fast = evaluate(&self, wanted, count, ENGINE_PRECISION_STANDARD, 1, 1);
    result threads = evaluate(&self, wanted, count, ENGINE_PRECISION_STANDARD, 3, 2);
    /* 1e-5: float32 sums of a few hundred terms. */
    ck_assert_double_le(distance(fast.score, reference.score, fast.score_count), 1e-5);
    for (size_t i = 0; i < count; i++) {
        ck_assert_msg(distance(fast.values[i], reference.values[i], fast.counts[i]) <= 1e-5,
                      "value %zu of %s", i, names);
        const double error = distance(fast.gradients[i], reference.gradients[i], fast.counts[i]);
        ck_assert_msg(error <= 1e-5, "gradient %zu of %s: %g", i, names, error);
        double norm = 0;
        for (size_t k = 0; k < reference.counts[i]; k++)
            norm += fabs(reference.gradients[i][k]);
        ck_assert_msg(norm > 0, "gradient %zu of %s is zero: the test shows nothing", i, names);
        /* The same bits on three threads, and after another seed on the same forward pass. */
        ck_assert_mem_eq(threads.gradients[i], fast.gradients[i], fast.counts[i] * sizeof(float));
    }
    ck_assert_mem_eq(threads.score, fast.score, fast.score_count * sizeof(float));
    if (count > 0)
        passes(&self, wanted, count, &fast);
    result_free(&reference);
    result_free(&fast);
    result_free(&threads);
    unload(&self);
}

static void image(model_builder *m, int64_t channels, int64_t size)
{
    model_input(m, "x", DTYPE_FLOAT, 4, (int64_t[]){1, channels, size, size});
}

/* y = Conv k x k of `from`, `in` to `out` channels, same size. */
static void convolution(model_builder *m, const char *from, const char *to, int64_t in, int64_t out,
                        int64_t k)
{
    char inputs[64], weights[32];
    snprintf(weights, sizeof weights, "w_%s", to);
    snprintf(inputs, sizeof inputs, "%s %s", from, weights);
    model_random(m, weights, 4, (int64_t[]){out, in, k, k}, (unsigned)(in * 31 + out + to[0]));
    model_node(m, "Conv", inputs, to);
    model_ints_attribute(m, "pads", 4, (int64_t[]){k / 2, k / 2, k / 2, k / 2});
}

/* (1, C, h, w) -> (1, 5) */
static void head(model_builder *m, const char *from, int64_t channels)
{
    model_node(m, "GlobalAveragePool", from, "pooled");
    model_node(m, "Flatten", "pooled", "flat");
    model_random(m, "w_head", 2, (int64_t[]){5, channels}, 99);
    model_random(m, "b_head", 1, (int64_t[]){5}, 98);
    model_node(m, "Gemm", "flat w_head b_head", "scores");
    model_int_attribute(m, "transB", 1);
    model_output(m, "scores");
}

/* Two dense layers: concatenations that grow in one buffer, pre-activation scale, shift and
 * ReLU. */
static model_builder *dense_block(int64_t growth)
{
    model_builder *m = model_create(17);
    image(m, 3, 12);
    convolution(m, "x", "a", 3, 2 * growth, 3);
    for (int i = 0; i < 2; i++) {
        const int64_t channels = (i == 0 ? 2 : 3) * growth;
        const char *from = i == 0 ? "a" : "ab", *normal = i == 0 ? "n1" : "n2",
                   *relu = i == 0 ? "r1" : "r2";
        char inputs[64], name[4][8];
        for (int k = 0; k < 4; k++)
            snprintf(name[k], sizeof name[k], "%s%d", (const char *[]){"s", "t", "m", "v"}[k], i);
        model_positive(m, name[0], 1, (int64_t[]){channels}, 3);
        model_random(m, name[1], 1, (int64_t[]){channels}, 4);
        model_random(m, name[2], 1, (int64_t[]){channels}, 5);
        model_positive(m, name[3], 1, (int64_t[]){channels}, 6);
        snprintf(inputs, sizeof inputs, "%s %s %s %s %s", from, name[0], name[1], name[2], name[3]);
        model_node(m, "BatchNormalization", inputs, normal);
        model_node(m, "Relu", normal, relu);
        if (i == 0) {
            convolution(m, relu, "b", 2 * growth, growth, 3);
            model_node(m, "Concat", "a b", "ab");
        } else {
            convolution(m, relu, "c", 3 * growth, growth, 3);
            model_node(m, "Concat", "a b c", "abc");
        }
        model_int_attribute(m, "axis", 1);
    }
    head(m, "abc", 4 * growth);
    return m;
}

START_TEST(dense_block_agrees_with_the_portable_kernels)
{
    /* One of the two does not fill the channel blocks of this processor. */
    agrees(dense_block(8), "x a b");
    agrees(dense_block(16), "x a b");
}
END_TEST

/* The gradient of a growing concatenation itself excludes what its pieces pass on by other ways. */
START_TEST(gradient_of_an_inner_concatenation_is_its_own)
{
    agrees(dense_block(8), "ab x");
    agrees(dense_block(16), "ab x");
    agrees(dense_block(8), "abc x a");
    agrees(dense_block(16), "abc x a");
    agrees(dense_block(8), "r2 abc ab c");
    agrees(dense_block(16), "r2 abc ab c");
}
END_TEST

START_TEST(concatenation_of_odd_channel_counts_agrees)
{
    model_builder *m = model_create(17);
    image(m, 3, 9);
    convolution(m, "x", "a", 3, 5, 3);
    model_node(m, "Relu", "a", "p");
    convolution(m, "x", "b", 3, 8, 1);
    convolution(m, "p", "c", 5, 3, 3);
    model_node(m, "Concat", "b p c b", "y"); /* b twice: one in place, one copied */
    model_int_attribute(m, "axis", 1);
    convolution(m, "y", "z", 24, 6, 3);
    head(m, "z", 6);
    agrees(m, "x p b y");
}
END_TEST

START_TEST(residual_with_projection_and_fused_relu_agrees)
{
    model_builder *m = model_create(17);
    image(m, 3, 10);
    convolution(m, "x", "stem", 3, 8, 3);
    model_node(m, "Relu", "stem", "h");
    convolution(m, "h", "a", 8, 8, 3);
    model_node(m, "Relu", "a", "ar");
    convolution(m, "ar", "b", 8, 8, 3);
    model_node(m, "Add", "b h", "sum"); /* identity */
    model_node(m, "Relu", "sum", "k");
    convolution(m, "k", "c", 8, 16, 3);
    convolution(m, "k", "d", 8, 16, 1); /* projection */
    model_node(m, "Add", "c d", "sum2");
    model_node(m, "Relu", "sum2", "y");
    head(m, "y", 16);
    agrees(m, "x h k y");
}
END_TEST

START_TEST(value_added_to_itself_agrees)
{
    model_builder *m = model_create(17);
    image(m, 3, 8);
    convolution(m, "x", "a", 3, 8, 3);
    model_node(m, "Add", "a a", "twice");
    model_node(m, "Mul", "twice twice", "square");
    head(m, "square", 8);
    agrees(m, "x a twice");
}
END_TEST

START_TEST(squeeze_and_excitation_agrees)
{
    model_builder *m = model_create(17);
    image(m, 3, 8);
    convolution(m, "x", "a", 3, 12, 3);
    model_node(m, "HardSwish", "a", "h");
    model_node(m, "GlobalAveragePool", "h", "s");
    convolution(m, "s", "e", 12, 4, 1);
    model_node(m, "Relu", "e", "er");
    convolution(m, "er", "g", 4, 12, 1);
    model_node(m, "Sigmoid", "g", "gate");
    model_node(m, "Mul", "gate h", "y");
    convolution(m, "y", "z", 12, 12, 3);
    model_node(m, "Sigmoid", "z", "sz");
    model_node(m, "Mul", "z sz", "silu");
    head(m, "silu", 12);
    agrees(m, "x h gate y");
}
END_TEST

START_TEST(pools_and_branches_agree)
{
    model_builder *m = model_create(17);
    image(m, 3, 13);
    convolution(m, "x", "a", 3, 8, 3);
    model_node(m, "Relu", "a", "r");
    model_node(m, "MaxPool", "r", "p");
    model_ints_attribute(m, "kernel_shape", 2, (int64_t[]){3, 3});
    model_ints_attribute(m, "strides", 2, (int64_t[]){2, 2});
    model_ints_attribute(m, "pads", 4, (int64_t[]){1, 1, 1, 1});
    model_node(m, "AveragePool", "p", "q");
    model_ints_attribute(m, "kernel_shape", 2, (int64_t[]){3, 3});
    model_ints_attribute(m, "pads", 4, (int64_t[]){1, 1, 1, 1});
    model_node(m, "MaxPool", "p", "t");
    model_ints_attribute(m, "kernel_shape", 2, (int64_t[]){3, 3});
    model_ints_attribute(m, "pads", 4, (int64_t[]){1, 1, 1, 1});
    model_node(m, "Concat", "q t p", "y");
    model_int_attribute(m, "axis", 1);
    head(m, "y", 24);
    agrees(m, "x r p");
}
END_TEST

/* Zeros around maps and crops between pools, 16 and 5 channels (the last block not full), as Keras exports have them. */
START_TEST(pads_and_crops_between_pools_agree)
{
    for (int64_t channels = 5; channels <= 16; channels += 11) {
        model_builder *m = model_create(17);
        image(m, 3, 13);
        convolution(m, "x", "a", 3, channels, 3);
        model_ints(m, "around", 8, (int64_t[]){0, 0, 1, 0, 0, 0, 2, 1});
        model_node(m, "Pad", "a around", "p");
        model_node(m, "MaxPool", "p", "q");
        model_ints_attribute(m, "kernel_shape", 2, (int64_t[]){3, 3});
        model_ints_attribute(m, "strides", 2, (int64_t[]){2, 2});
        model_ints(m, "from", 2, (int64_t[]){1, 2});
        model_ints(m, "to", 2, (int64_t[]){99, -1});
        model_ints(m, "axes", 2, (int64_t[]){2, 3});
        model_node(m, "Slice", "q from to axes", "s");
        model_node(m, "Sigmoid", "s", "r");
        model_ints(m, "one", 8, (int64_t[]){0, 0, 1, 2, 0, 0, 0, 1});
        model_node(m, "Pad", "r one", "t");
        model_node(m, "Mul", "q t", "u"); /* a second reader of what is cropped */
        head(m, "u", channels);
        agrees(m, "x a p q s");
    }
}
END_TEST

START_TEST(other_pads_stay_right)
{
    model_builder *m = model_create(17);
    image(m, 3, 9);
    convolution(m, "x", "a", 3, 8, 3);
    model_ints(m, "around", 8, (int64_t[]){0, 0, 1, 1, 0, 0, 1, 1});
    model_scalar(m, "two", 2);
    model_node(m, "Pad", "a around two", "p"); /* not zeros */
    model_node(m, "Pad", "p around", "q");
    model_text_attribute(m, "mode", "reflect");
    model_ints(m, "channels", 8, (int64_t[]){0, 2, 0, 0, 0, 1, 0, 0});
    model_node(m, "Pad", "q channels", "y");
    head(m, "y", 11);
    agrees(m, "x a p q");
}
END_TEST

/* Portable operators between blocked ones: conversions, and gradients that meet in two layouts. */
START_TEST(shuffle_and_slices_between_convolutions_agree)
{
    model_builder *m = model_create(17);
    image(m, 3, 8);
    convolution(m, "x", "a", 3, 16, 3);
    model_ints(m, "to5", 5, (int64_t[]){1, 2, 8, 8, 8});
    model_node(m, "Reshape", "a to5", "five");
    model_node(m, "Transpose", "five", "swapped");
    model_ints_attribute(m, "perm", 5, (int64_t[]){0, 2, 1, 3, 4});
    model_ints(m, "to4", 4, (int64_t[]){1, 16, 8, 8});
    model_node(m, "Reshape", "swapped to4", "shuffled");
    model_node(m, "Add", "shuffled a", "sum");
    model_ints(m, "split", 2, (int64_t[]){6, 10});
    model_node(m, "Split", "sum split", "left right");
    model_int_attribute(m, "axis", 1);
    convolution(m, "right", "c", 10, 10, 3);
    model_node(m, "Concat", "left c", "y");
    model_int_attribute(m, "axis", 1);
    head(m, "y", 16);
    agrees(m, "x a left right");
}
END_TEST

START_TEST(attention_agrees)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 3, (int64_t[]){1, 7, 12});
    model_positive(m, "ls", 1, (int64_t[]){12}, 1);
    model_random(m, "lb", 1, (int64_t[]){12}, 2);
    model_node(m, "LayerNormalization", "x ls lb", "n");
    for (int i = 0; i < 3; i++) {
        const char *w[] = {"wq", "wk", "wv"}, *in[] = {"n wq", "n wk", "n wv"},
                   *out[] = {"q", "k", "v"};
        model_random(m, w[i], 2, (int64_t[]){12, 12}, (unsigned)(40 + i));
        model_node(m, "MatMul", in[i], out[i]);
    }
    model_node(m, "Transpose", "k", "kt");
    model_ints_attribute(m, "perm", 3, (int64_t[]){0, 2, 1});
    model_node(m, "MatMul", "q kt", "logits");
    model_node(m, "Softmax", "logits", "weights");
    model_int_attribute(m, "axis", -1);
    model_node(m, "MatMul", "weights v", "mixed");
    model_node(m, "Add", "mixed x", "y");
    model_node(m, "ReduceMean", "y", "mean");
    model_ints_attribute(m, "axes", 1, (int64_t[]){1});
    model_int_attribute(m, "keepdims", 0);
    model_random(m, "w", 2, (int64_t[]){12, 4}, 50);
    model_node(m, "MatMul", "mean w", "scores");
    model_output(m, "scores");
    agrees(m, "x n q k v weights");
}
END_TEST

/* Functions with f(0) != 0 must not leak into the padded lanes that the next convolution reads. */
/* Rows of tokens: products with a bias behind them, constant rows and numbers, moved axes, parts; several readers of one
 * value, so that gradients add up. */
START_TEST(tokens_agree)
{
    model_builder *m = model_create(17);
    const int64_t width = 24, rows = 70; /* more rows than one tile of a product */
    model_input(m, "x", DTYPE_FLOAT, 3, (int64_t[]){1, rows, width});
    model_random(m, "w1", 2, (int64_t[]){width, 3 * width}, 1);
    model_random(m, "b1", 1, (int64_t[]){3 * width}, 2);
    model_random(m, "gamma", 1, (int64_t[]){3 * width}, 3);
    model_random(m, "beta", 3, (int64_t[]){1, 1, 3 * width}, 4);
    model_positive(m, "divisor", 1, (int64_t[]){3 * width}, 5);
    model_scalar(m, "number", 0.37f);
    model_node(m, "MatMul", "x w1", "p");
    model_node(m, "Add", "b1 p", "q");
    model_node(m, "Mul", "q gamma", "r");
    model_node(m, "Add", "r beta", "s");
    model_node(m, "Div", "s divisor", "t");
    model_node(m, "Sub", "t number", "u");
    model_node(m, "Mul", "number u", "v");
    model_ints(m, "sizes", 3, (int64_t[]){width, width / 2, 2 * width - width / 2});
    model_node(m, "Split", "v sizes", "v1 v2 v3");
    model_int_attribute(m, "axis", -1);
    model_ints(m, "starts", 2, (int64_t[]){-1, 3});
    model_ints(m, "ends", 2, (int64_t[]){-70, 24});
    model_ints(m, "axes", 2, (int64_t[]){1, 2});
    model_ints(m, "steps", 2, (int64_t[]){-2, 3});
    model_node(m, "Slice", "v starts ends axes steps", "part");
    model_node(m, "Transpose", "v1", "turned"); /* (24, 70, 1) */
    model_ints(m, "heads", 4, (int64_t[]){1, rows, 4, width / 4});
    model_node(m, "Reshape", "v1 heads", "split_heads");
    model_node(m, "Transpose", "split_heads", "h");
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 2, 1, 3});
    model_node(m, "Transpose", "split_heads", "k");
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 2, 3, 1});
    model_node(m, "MatMul", "h k", "scores4");
    model_node(m, "Softmax", "scores4", "attention");
    model_node(m, "MatMul", "attention h", "mixed");
    model_node(m, "Transpose", "mixed", "back");
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 2, 1, 3});
    model_ints(m, "flat_shape", 2, (int64_t[]){1, -1});
    static const char *const ends[] = {"part", "turned", "back", "v2", "v3"};
    static const char *const flats[] = {"f0", "f1", "f2", "f3", "f4"};
    for (int i = 0; i < 5; i++) {
        char inputs[32];
        snprintf(inputs, sizeof inputs, "%s flat_shape", ends[i]);
        model_node(m, "Reshape", inputs, flats[i]);
    }
    model_node(m, "Concat", "f0 f1 f2 f3 f4", "flat");
    model_int_attribute(m, "axis", 1);
    const int64_t count = 35 * 7 + rows * width * 2 + rows * 12 + rows * 36;
    model_random(m, "w_head", 2, (int64_t[]){count, 5}, 9);
    model_node(m, "MatMul", "flat w_head", "scores");
    model_output(m, "scores");
    agrees(m, "x q v");
}
END_TEST

/* What shifted windows do: one entry taken out of a stack, parts put together the other way round, and constants that numpy's
 * rules repeat along outer, middle and last axes. */
static model_builder *shifted_windows(void)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 4, (int64_t[]){3, 6, 4, 5});
    model_ints(m, "first", 1, (int64_t[]){-3});
    model_ints(m, "one", 1, (int64_t[]){1});
    model_node(m, "Squeeze", "one", "second"); /* rank 0 */
    model_ints(m, "third", 1, (int64_t[]){2});
    model_node(m, "Gather", "x first", "a");   /* (1, 6, 4, 5) */
    model_node(m, "Gather", "x second", "b3"); /* (6, 4, 5) */
    model_ints(m, "front", 1, (int64_t[]){0});
    model_node(m, "Unsqueeze", "b3 front", "b");
    model_node(m, "Gather", "x third", "c");
    model_random(m, "mask", 4, (int64_t[]){1, 6, 1, 5}, 2);
    model_random(m, "column", 3, (int64_t[]){6, 4, 1}, 3);
    model_positive(m, "plane", 3, (int64_t[]){6, 1, 1}, 4);
    model_node(m, "Add", "a mask", "a1");
    model_node(m, "Mul", "column b", "b1");
    model_node(m, "Div", "c plane", "c1");
    model_node(m, "Sub", "c1 column", "c2");
    model_node(m, "Softmax", "a1", "a2");
    model_int_attribute(m, "axis", -1);
    model_ints(m, "zero", 1, (int64_t[]){0});
    model_ints(m, "two", 1, (int64_t[]){2});
    model_ints(m, "six", 1, (int64_t[]){6});
    model_ints(m, "axis", 1, (int64_t[]){2});
    model_node(m, "Slice", "b1 two six axis", "tail");
    model_node(m, "Slice", "b1 zero two axis", "start");
    model_node(m, "Concat", "tail start a2 c2 b1", "joined"); /* (1, 6, 16, 5) */
    model_int_attribute(m, "axis", -2);
    model_node(m, "Transpose", "joined", "turned");
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 2, 3, 1});
    model_node(m, "Concat", "turned turned", "twice"); /* (2, 16, 5, 6) */
    model_int_attribute(m, "axis", 0);
    model_ints(m, "flat_shape", 2, (int64_t[]){1, -1});
    model_node(m, "Reshape", "twice flat_shape", "flat");
    model_random(m, "w_head", 2, (int64_t[]){960, 5}, 9);
    model_node(m, "MatMul", "flat w_head", "scores");
    model_output(m, "scores");
    return m;
}

START_TEST(shifted_windows_agree)
{
    agrees(shifted_windows(), "x b1 c1 joined");
    loaded self = load(shifted_windows());
    const int x = network_graph(self.net)->inputs[0];
    plan *p = compile(&self, &x, 1, ENGINE_PRECISION_FAST, 1);
    for (size_t i = 0; i < plan_step_count(p); i++) {
        plan_step_facts facts;
        plan_step(p, i, &facts);
        ck_assert_msg(strcmp(facts.implementation, "portable") != 0, "%s is slow",
                      facts.operator_name);
    }
    plan_free(p);
    unload(&self);
}
END_TEST

/* ConvNeXt's block: channels last between a depthwise convolution and the residual Add. 24 channels do not fill blocks of 16. */
static model_builder *channels_last_block(int64_t channels)
{
    model_builder *m = model_create(20);
    image(m, 3, 9);
    convolution(m, "x", "a", 3, channels, 3);
    model_random(m, "w_dw", 4, (int64_t[]){channels, 1, 7, 7}, 1);
    model_node(m, "Conv", "a w_dw", "dw");
    model_ints_attribute(m, "pads", 4, (int64_t[]){3, 3, 3, 3});
    model_int_attribute(m, "group", channels);
    model_node(m, "Transpose", "dw", "last");
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 2, 3, 1});
    model_positive(m, "ls", 1, (int64_t[]){channels}, 2);
    model_random(m, "lb", 1, (int64_t[]){channels}, 3);
    model_node(m, "LayerNormalization", "last ls lb", "n");
    model_random(m, "w1", 2, (int64_t[]){channels, 4 * channels}, 4);
    model_random(m, "b1", 1, (int64_t[]){4 * channels}, 5);
    model_node(m, "MatMul", "n w1", "p1");
    model_node(m, "Add", "p1 b1", "p2");
    model_node(m, "Gelu", "p2", "g");
    model_random(m, "w2", 2, (int64_t[]){4 * channels, channels}, 6);
    model_random(m, "b2", 1, (int64_t[]){channels}, 7);
    model_random(m, "layer_scale", 3, (int64_t[]){channels, 1, 1}, 8);
    model_node(m, "MatMul", "g w2", "p3");
    model_node(m, "Add", "p3 b2", "p4");
    model_node(m, "Transpose", "p4", "first");
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 3, 1, 2});
    model_node(m, "Mul", "layer_scale first", "scaled");
    model_node(m, "Add", "scaled a", "sum");
    head(m, "sum", channels);
    return m;
}

START_TEST(channels_last_agree)
{
    agrees(channels_last_block(32), "x last n");
    agrees(channels_last_block(24), "x a");
    agrees(channels_last_block(32), "p4 first");
    agrees(channels_last_block(32), "");
    agrees(channels_last_block(24), "");
}
END_TEST

/* Without a gradient GELU is part of the product, and nothing but the blocks' order is moved. */
START_TEST(channels_last_block_has_no_step_too_many)
{
    loaded self = load(channels_last_block(32));
    const int x = network_graph(self.net)->inputs[0];
    for (size_t count = 0; primitive_available() && count < 2; count++) {
        plan *p = compile(&self, &x, count, ENGINE_PRECISION_FAST, 1);
        for (size_t i = 0; i < plan_step_count(p); i++) {
            static const char *const slow[] = {"move", "reorder", "portable", "Mul"};
            plan_step_facts facts;
            plan_step(p, i, &facts);
            if (facts.bytes < 1000) /* the pooled channels */
                continue;
            for (size_t k = 0; k < sizeof slow / sizeof *slow; k++)
                ck_assert_msg(strcmp(facts.implementation, slow[k]) != 0 &&
                                  strcmp(facts.operator_name, slow[k]) != 0,
                              "%s by %s", facts.operator_name, facts.implementation);
            ck_assert(count > 0 || strcmp(facts.operator_name, "Gelu") != 0);
        }
        plan_free(p);
    }
    unload(&self);
}
END_TEST

/* What a vision transformer is made of has a fast kernel. */
START_TEST(linear_layers_take_their_bias_along)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 3, (int64_t[]){1, 50, 32});
    model_random(m, "w", 2, (int64_t[]){32, 64}, 1);
    model_random(m, "b", 1, (int64_t[]){64}, 2);
    model_node(m, "MatMul", "x w", "p");
    model_node(m, "Add", "p b", "y");
    model_output(m, "y");
    loaded self = load(m);
    const int x = network_graph(self.net)->inputs[0];
    plan *p = compile(&self, &x, 1, ENGINE_PRECISION_STANDARD, 1);
    for (size_t i = 0; i < plan_step_count(p); i++) {
        plan_step_facts facts;
        plan_step(p, i, &facts);
        ck_assert(strcmp(facts.operator_name, "Add") != 0 || !primitive_available());
        ck_assert(strcmp(facts.implementation, "portable") != 0 || !primitive_available());
    }
    plan_free(p);
    unload(&self);
}
END_TEST

START_TEST(padded_lanes_stay_zero_behind_sigmoid)
{
    model_builder *m = model_create(17);
    image(m, 3, 8);
    convolution(m, "x", "a", 3, 5, 3);
    model_node(m, "Sigmoid", "a", "s");
    model_node(m, "Exp", "s", "e");
    convolution(m, "e", "b", 5, 3, 3);
    head(m, "b", 3);
    agrees(m, "x a s");
}
END_TEST

/* The slope of a root is infinite at the zeros that fill a block: times no gradient that is none. */
START_TEST(padded_lanes_stay_zero_behind_a_square_root)
{
    model_builder *m = model_create(17);
    image(m, 3, 8);
    convolution(m, "x", "a", 3, 5, 3);
    model_node(m, "Sigmoid", "a", "s");
    model_node(m, "Sqrt", "s", "r");
    convolution(m, "r", "b", 5, 3, 3);
    head(m, "b", 3);
    agrees(m, "x a s");
}
END_TEST

START_TEST(volumes_and_signals_agree)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 5, (int64_t[]){1, 2, 5, 6, 7});
    model_random(m, "w", 5, (int64_t[]){8, 2, 3, 3, 3}, 1);
    model_node(m, "Conv", "x w", "a");
    model_node(m, "Relu", "a", "r");
    model_node(m, "MaxPool", "r", "p");
    model_ints_attribute(m, "kernel_shape", 3, (int64_t[]){2, 2, 2});
    head(m, "p", 8);
    agrees(m, "x r");
    m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 3, (int64_t[]){1, 2, 40});
    model_random(m, "w", 3, (int64_t[]){8, 2, 5}, 1);
    model_node(m, "Conv", "x w", "a");
    model_ints_attribute(m, "strides", 1, (int64_t[]){2});
    model_node(m, "Relu", "a", "r");
    head(m, "r", 8);
    agrees(m, "x r");
}
END_TEST

/* oneDNN has these forward, but not backward to the image: both directions are portable then. */
START_TEST(convolutions_that_are_fast_one_way_only_agree)
{
    /* kernel, strides, dilations, pads, and channels, height and width of x */
    static const int64_t windows[2][13] = {{3, 2, 2, 3, 3, 2, 0, 1, 1, 0, 2, 7, 4},
                                           {4, 4, 1, 3, 3, 3, 2, 1, 2, 2, 4, 6, 8}};
    for (int i = 0; i < 2; i++) {
        const int64_t *of = windows[i];
        model_builder *m = model_create(17);
        model_input(m, "x", DTYPE_FLOAT, 4, (int64_t[]){1, of[10], of[11], of[12]});
        model_random(m, "w", 4, (int64_t[]){1, of[10], of[0], of[1]}, 1);
        model_node(m, "Conv", "x w", "a");
        model_ints_attribute(m, "strides", 2, of + 2);
        model_ints_attribute(m, "dilations", 2, of + 4);
        model_ints_attribute(m, "pads", 4, of + 6);
        model_node(m, "Tanh", "a", "r");
        head(m, "r", 1);
        agrees(m, "x a");
    }
}
END_TEST

/* y = GroupNormalization of `from`; parameters a channel (opset 21), a group (18), or as PyTorch exports it (17). */
static void group_norm(model_builder *m, const char *from, const char *to, int64_t opset,
                       int64_t channels, int64_t groups, const int64_t *plane, int plane_rank)
{
    char names[6][32], inputs[128];
    static const char *const kinds[] = {"scale", "shift", "part", "normal", "back", "scaled"};
    for (int i = 0; i < 6; i++)
        snprintf(names[i], sizeof names[i], "%s_%s", kinds[i], to);
    if (opset >= 18) {
        const int64_t count = opset >= 21 ? channels : groups;
        model_positive(m, names[0], 1, &count, (unsigned)channels);
        model_random(m, names[1], 1, &count, (unsigned)channels + 1);
        snprintf(inputs, sizeof inputs, "%s %s %s", from, names[0], names[1]);
        model_node(m, "GroupNormalization", inputs, to);
        model_int_attribute(m, "num_groups", groups);
        model_float_attribute(m, "epsilon", 1e-3f);
        return;
    }
    const int64_t parameter[] = {channels, 1, 1, 1};
    int64_t whole[5] = {1, channels};
    for (int i = 0; i < plane_rank; i++)
        whole[2 + i] = plane[i];
    char ones[32], zeros[32], to_groups[32], to_whole[32];
    snprintf(ones, sizeof ones, "ones_%s", to);
    snprintf(zeros, sizeof zeros, "zeros_%s", to);
    snprintf(to_groups, sizeof to_groups, "groups_%s", to);
    snprintf(to_whole, sizeof to_whole, "whole_%s", to);
    model_fill(m, ones, 1, &groups, 1);
    model_fill(m, zeros, 1, &groups, 0);
    model_ints(m, to_groups, 3, (int64_t[]){0, groups, -1});
    model_ints(m, to_whole, (size_t)plane_rank + 2, whole);
    model_positive(m, names[0], 1 + plane_rank, parameter, (unsigned)channels);
    model_random(m, names[1], 1 + plane_rank, parameter, (unsigned)channels + 1);
    snprintf(inputs, sizeof inputs, "%s %s", from, to_groups);
    model_node(m, "Reshape", inputs, names[2]);
    snprintf(inputs, sizeof inputs, "%s %s %s", names[2], ones, zeros);
    model_node(m, "InstanceNormalization", inputs, names[3]);
    snprintf(inputs, sizeof inputs, "%s %s", names[3], to_whole);
    model_node(m, "Reshape", inputs, names[4]);
    snprintf(inputs, sizeof inputs, "%s %s", names[4], names[0]);
    model_node(m, "Mul", inputs, names[5]);
    snprintf(inputs, sizeof inputs, "%s %s", names[5], names[1]);
    model_node(m, "Add", inputs, to);
}

/* Convolutions, normalisations with activations behind them, a residual, and a value with two readers. */
static model_builder *normalised(int64_t opset, int64_t channels, int64_t groups, int plane_rank)
{
    static const int64_t plane[] = {7, 5, 4};
    static const char *const activations[] = {"Relu", "Sigmoid", "HardSwish"};
    model_builder *m = model_create(opset);
    int64_t dims[5] = {1, 3}, first[5] = {channels, 3, 3, 3, 3},
            second[5] = {channels, channels, 3, 3, 3};
    for (int i = 0; i < plane_rank; i++)
        dims[2 + i] = plane[i];
    const int64_t ones[] = {1, 1, 1, 1, 1, 1};
    model_input(m, "x", DTYPE_FLOAT, 2 + plane_rank, dims);
    model_random(m, "wa", 2 + plane_rank, first, 1);
    model_node(m, "Conv", "x wa", "a");
    model_ints_attribute(m, "pads", (size_t)plane_rank * 2, ones);
    group_norm(m, "a", "n", opset, channels, groups, plane, plane_rank);
    model_node(m, activations[plane_rank - 1], "n", "r");
    model_random(m, "wb", 2 + plane_rank, second, 2);
    model_node(m, "Conv", "r wb", "b");
    model_ints_attribute(m, "pads", (size_t)plane_rank * 2, ones);
    model_positive(m, "si", 1, &channels, 3);
    model_random(m, "ti", 1, &channels, 4);
    model_node(m, "InstanceNormalization", "b si ti", "i");
    model_node(m, "Add", "i a", "sum"); /* a second gradient of a */
    group_norm(m, "sum", "k", opset, channels, groups, plane, plane_rank);
    model_node(m, "Sigmoid", "k", "gate");
    model_node(m, "Mul", "k gate", "silu");
    head(m, "silu", channels);
    return m;
}

START_TEST(group_and_instance_norms_agree)
{
    static const int64_t sizes[][2] = {{16, 4}, {30, 5}, {5, 5}, {12, 1}, {36, 6}};
    static const int64_t opsets[] = {17, 18, 21};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int o = 0; o < 3; o++) {
            const int rank = 1 + (int)(k + (size_t)o) % 3;
            agrees(normalised(opsets[o], sizes[k][0], sizes[k][1], rank), "x a sum");
            agrees(normalised(opsets[o], sizes[k][0], sizes[k][1], rank), "x r b n");
            agrees(normalised(opsets[o], sizes[k][0], sizes[k][1], rank), "");
        }
}
END_TEST

/* One kernel a normalisation and direction, its activation within, in the convolutions' layout. */
START_TEST(norms_are_one_step_between_convolutions)
{
    static const int64_t opsets[] = {17, 18, 21};
    for (int o = 0; o < 3; o++) {
        loaded self = load(normalised(opsets[o], 30, 5, 2));
        const int x = network_graph(self.net)->inputs[0];
        plan *p = compile(&self, &x, 1, ENGINE_PRECISION_STANDARD, 1);
        int norms[2] = {0, 0};
        for (size_t i = 0; primitive_available() && i < plan_step_count(p); i++) {
            plan_step_facts facts;
            plan_step(p, i, &facts);
            ck_assert_msg(strcmp(facts.implementation, "portable") != 0 &&
                              strcmp(facts.implementation, "activation") != 0,
                          "%s by %s", facts.operator_name, facts.implementation);
            ck_assert_msg(strcmp(facts.implementation, "reorder") != 0 || facts.bytes < 1000,
                          "a reorder of %zu bytes", facts.bytes);
            norms[facts.backward] += strcmp(facts.implementation, "norm") == 0;
        }
        ck_assert(!primitive_available() || (norms[0] == 3 && norms[1] == 3));
        plan_free(p);
        unload(&self);
    }
}
END_TEST

/* x in plain layout: taken into blocks where it fills them, left to the portable kernel where it does not (an image). */
START_TEST(norms_of_plain_maps_agree)
{
    for (int64_t channels = 3; channels <= 19; channels += 16) {
        model_builder *m = model_create(21);
        image(m, channels, 6);
        model_positive(m, "si", 1, &channels, 3);
        model_random(m, "ti", 1, &channels, 4);
        model_node(m, "Tanh", "x", "t");
        model_node(m, "InstanceNormalization", "t si ti", "i");
        model_node(m, "Elu", "i", "e");
        model_node(m, "Add", "e t", "sum");
        convolution(m, "sum", "y", channels, 6, 3);
        head(m, "y", 6);
        agrees(m, "x t");
    }
}
END_TEST

/* One position: every channel of an InstanceNormalization is its shift, and nothing comes back; a group has a variance. */
START_TEST(norms_of_one_position_agree)
{
    model_builder *m = model_create(21);
    image(m, 3, 6);
    convolution(m, "x", "a", 3, 30, 3);
    model_node(m, "GlobalAveragePool", "a", "p");
    group_norm(m, "p", "n", 21, 30, 5, NULL, 0);
    model_node(m, "Relu", "n", "r");
    convolution(m, "r", "b", 30, 12, 1);
    model_positive(m, "si", 1, (int64_t[]){12}, 3);
    model_random(m, "ti", 1, (int64_t[]){12}, 4);
    model_node(m, "InstanceNormalization", "b si ti", "i");
    model_node(m, "Add", "i b", "y");
    head(m, "y", 12);
    agrees(m, "x p n");
}
END_TEST

/* A gradient that the score does not depend on is zero, not garbage. */
START_TEST(gradient_of_an_unrelated_value_is_zero)
{
    model_builder *m = model_create(17);
    image(m, 3, 6);
    convolution(m, "x", "a", 3, 8, 3);
    convolution(m, "x", "b", 3, 8, 3);
    model_node(m, "Relu", "b", "other");
    head(m, "a", 8);
    model_output(m, "other");
    loaded self = load(m);
    const int wanted[] = {graph_find(network_graph(self.net), "b"),
                          graph_find(network_graph(self.net), "a")};
    result out = evaluate(&self, wanted, 2, ENGINE_PRECISION_STANDARD, 1, 2);
    for (size_t i = 0; i < out.counts[0]; i++)
        ck_assert_float_eq(out.gradients[0][i], 0.0f);
    ck_assert_double_gt(fabs(out.gradients[1][0]), 0);
    result_free(&out);
    unload(&self);
}
END_TEST

START_TEST(no_convolution_falls_to_a_slow_kernel)
{
    loaded self = load(dense_block(8));
    const int x = network_graph(self.net)->inputs[0];
    plan *p = compile(&self, &x, 1, ENGINE_PRECISION_STANDARD, 1);
    size_t convolutions = 0;
    for (size_t i = 0; i < plan_step_count(p); i++) {
        plan_step_facts facts;
        plan_step(p, i, &facts);
        ck_assert_ptr_null(strstr(facts.implementation, "ref"));
        if (strcmp(facts.operator_name, "Conv") == 0) {
            convolutions++;
            /* Without oneDNN the portable kernel is all there is. */
            ck_assert(strcmp(facts.implementation, "portable") != 0 || !primitive_available());
        }
    }
    ck_assert_uint_eq(convolutions, 6);
    plan_free(p);
    unload(&self);
}
END_TEST

/* Growing concatenations cost no copy, forward or backward. */
START_TEST(dense_block_is_concatenated_in_place)
{
    loaded self = load(dense_block(primitive_block()));
    const int x = network_graph(self.net)->inputs[0];
    plan *p = compile(&self, &x, 1, ENGINE_PRECISION_STANDARD, 1);
    for (size_t i = 0; i < plan_step_count(p); i++) {
        plan_step_facts facts;
        plan_step(p, i, &facts);
        ck_assert_str_ne(facts.implementation, "copy channels");
    }
    plan_free(p);
    unload(&self);
}
END_TEST

/* Gradients of all layers of a chain: only a few are alive at a time when they are passed on. */
START_TEST(gradients_that_are_passed_on_are_not_kept)
{
    enum { LAYERS = 8 };
    model_builder *m = model_create(17);
    int wanted[LAYERS];
    char from[16] = "x", to[16];
    image(m, 8, 32);
    for (int i = 0; i < LAYERS; i++) {
        snprintf(to, sizeof to, "layer%d", i);
        convolution(m, from, to, 8, 8, 3);
        memcpy(from, to, sizeof from);
    }
    head(m, from, 8);
    loaded self = load(m);
    for (int i = 0; i < LAYERS; i++) {
        snprintf(to, sizeof to, "layer%d", i);
        wanted[i] = graph_find(network_graph(self.net), to);
    }
    /* Nothing but the gradients is there: the backward pass of a linear chain reads no activation. */
    const shape input = network_graph(self.net)->values[network_graph(self.net)->inputs[0]].shape;
    plan_request request = {.input_shapes = &input,
                            .seeds = network_graph(self.net)->outputs,
                            .seed_count = 1,
                            .gradients = wanted,
                            .gradient_count = LAYERS,
                            .threads = 1};
    const size_t layer = (size_t)8 * 32 * 32 * sizeof(float);
    plan *kept = NULL, *passing = NULL;
    ck_assert_int_eq(plan_create(self.net, &request, &kept, NULL), XAI_OK);
    request.passes_gradients = true;
    ck_assert_int_eq(plan_create(self.net, &request, &passing, NULL), XAI_OK);
    const size_t scratch = plan_scratchpad_bytes(passing);
    ck_assert_uint_ge(plan_arena_bytes(kept) - plan_scratchpad_bytes(kept), LAYERS * layer);
    /* Portable steps hold more at a time. */
    ck_assert(plan_arena_bytes(passing) - scratch <= 4 * layer || !primitive_available());
    plan_free(kept);
    plan_free(passing);
    unload(&self);
}
END_TEST

START_TEST(memory_limit_is_an_error_before_any_work)
{
    loaded self = load(dense_block(8));
    const graph *g = network_graph(self.net);
    const plan_request request = {
        .input_shapes = &g->values[g->inputs[0]].shape, .threads = 1, .memory_limit = 1000};
    plan *p = NULL;
    xai_error *error = NULL;
    ck_assert_int_eq(plan_create(self.net, &request, &p, &error), XAI_ERROR_MEMORY);
    ck_assert_ptr_nonnull(strstr(xai_error_message(error), "memory limit is 1000"));
    xai_error_free(error);
    unload(&self);
}
END_TEST

/* ---- rows ---- */

typedef struct row_scores {
    int value; /* id of the scores */
    float scores[16][5];
} row_scores;

static xai_status keep_scores(void *user, run *state, size_t row, xai_error **error)
{
    row_scores *out = user;
    const tensor *view;
    const xai_status status = run_value(state, out->value, &view, error);
    if (status == XAI_OK)
        memcpy(out->scores[row], view->data, sizeof out->scores[row]);
    return status;
}

static bool stop_after_three(void *user, size_t done, size_t total)
{
    (void)user, (void)total;
    return done < 3;
}

START_TEST(rows_have_the_same_bits_in_both_modes)
{
    loaded self = load(_i ? normalised(21, 30, 5, 2) : dense_block(8));
    const graph *g = network_graph(self.net);
    const shape one = g->values[g->inputs[0]].shape;
    shape many = one;
    const plan_request request = {.input_shapes = &one, .threads = 1};
    plan *p = NULL;
    xai_error *error = NULL;
    tensor x;
    unsigned random = 3;
    row_scores latency = {.value = g->outputs[0]}, throughput = latency;
    many.dims[0] = 16;
    ck_assert_int_eq(plan_create(self.net, &request, &p, &error), XAI_OK);
    ck_assert_int_eq(tensor_create(&x, DTYPE_FLOAT, &many, &error), XAI_OK);
    for (size_t i = 0; i < tensor_count(&x); i++)
        tensor_set(&x, i, model_uniform(&random));
    const tensor *inputs[] = {&x};
    ck_assert_int_eq(
        rows_run(p, inputs, 16, &(rows_options){.threads = 1}, keep_scores, &latency, &error),
        XAI_OK);
    ck_assert_int_eq(rows_run(p, inputs, 16, &(rows_options){.threads = 3, .throughput = true},
                              keep_scores, &throughput, &error),
                     XAI_OK);
    ck_assert_mem_eq(&latency, &throughput, sizeof latency);
    ck_assert_mem_ne(latency.scores[0], latency.scores[15], sizeof latency.scores[0]);
    const rows_options stopping = {.threads = 2, .throughput = true, .progress = stop_after_three};
    ck_assert_int_eq(rows_run(p, inputs, 16, &stopping, keep_scores, &throughput, &error),
                     XAI_ERROR_CANCELLED);
    xai_error_free(error);
    tensor_free(&x);
    plan_free(p);
    unload(&self);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine");
    TCase *plans = tcase_create("plans"), *rows = tcase_create("rows");
    tcase_set_timeout(plans, 120);
    tcase_add_test(plans, dense_block_agrees_with_the_portable_kernels);
    tcase_add_test(plans, gradient_of_an_inner_concatenation_is_its_own);
    tcase_add_test(plans, concatenation_of_odd_channel_counts_agrees);
    tcase_add_test(plans, residual_with_projection_and_fused_relu_agrees);
    tcase_add_test(plans, value_added_to_itself_agrees);
    tcase_add_test(plans, squeeze_and_excitation_agrees);
    tcase_add_test(plans, pools_and_branches_agree);
    tcase_add_test(plans, pads_and_crops_between_pools_agree);
    tcase_add_test(plans, other_pads_stay_right);
    tcase_add_test(plans, shuffle_and_slices_between_convolutions_agree);
    tcase_add_test(plans, attention_agrees);
    tcase_add_test(plans, tokens_agree);
    tcase_add_test(plans, shifted_windows_agree);
    tcase_add_test(plans, channels_last_agree);
    tcase_add_test(plans, channels_last_block_has_no_step_too_many);
    tcase_add_test(plans, linear_layers_take_their_bias_along);
    tcase_add_test(plans, padded_lanes_stay_zero_behind_sigmoid);
    tcase_add_test(plans, padded_lanes_stay_zero_behind_a_square_root);
    tcase_add_test(plans, volumes_and_signals_agree);
    tcase_add_test(plans, convolutions_that_are_fast_one_way_only_agree);
    tcase_add_test(plans, group_and_instance_norms_agree);
    tcase_add_test(plans, norms_are_one_step_between_convolutions);
    tcase_add_test(plans, norms_of_plain_maps_agree);
    tcase_add_test(plans, norms_of_one_position_agree);
    tcase_add_test(plans, gradient_of_an_unrelated_value_is_zero);
    tcase_add_test(plans, no_convolution_falls_to_a_slow_kernel);
    tcase_add_test(plans, dense_block_is_concatenated_in_place);
    tcase_add_test(plans, gradients_that_are_passed_on_are_not_kept);
    tcase_add_test(plans, memory_limit_is_an_error_before_any_work);
    tcase_add_loop_test(rows, rows_have_the_same_bits_in_both_modes, 0, 2);
    suite_add_tcase(suite, plans);
    suite_add_tcase(suite, rows);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
