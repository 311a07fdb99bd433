/* Rules of the backward pass other than the gradient: DeepLIFT's Rescale, guided backpropagation,
 * deconvnet, layer-wise relevance propagation. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/engine.h"
#include "engine/kernels.h"
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

static plan *compile(const loaded *self, int rule, int precision, int threads)
{
    const graph *g = network_graph(self->net);
    shape inputs[4];
    plan *p = NULL;
    xai_error *error = NULL;
    for (size_t i = 0; i < g->input_count; i++)
        inputs[i] = g->values[g->inputs[i]].shape;
    const plan_request request = {.input_shapes = inputs,
                                  .seeds = g->outputs,
                                  .seed_count = 1,
                                  .gradients = g->inputs,
                                  .gradient_count = g->input_count,
                                  .precision = precision,
                                  .rule = rule,
                                  .threads = threads};
    const xai_status status = plan_create(self->net, &request, &p, &error);
    ck_assert_msg(status == XAI_OK, "%s", error ? xai_error_message(error) : "no message");
    return p;
}

static tensor random_input(const shape *dims, int32_t type, unsigned seed, double scale)
{
    tensor x;
    ck_assert_int_eq(tensor_create(&x, type, dims, NULL), XAI_OK);
    for (size_t i = 0; i < tensor_count(&x); i++)
        tensor_set(&x, i, scale * (double)model_uniform(&seed));
    return x;
}

/* What a backward pass gave: multipliers of the first input, and how they add up. */
typedef struct outcome {
    double *multipliers;
    size_t count;
    double change;  /* seed . (y - y_r) */
    double total;   /* sum of multiplier (x - r) over all inputs */
    double largest; /* the same with absolute values */
} outcome;

static void ok(xai_status status, xai_error *error)
{
    ck_assert_msg(status == XAI_OK, "%s", error ? xai_error_message(error) : "no message");
}

/* x and r random and apart; r = zero where `apart` is 0. */
static outcome deeplift_at(const loaded *self, int precision, int threads, double scale,
                           double apart)
{
    const graph *g = network_graph(self->net);
    plan *p = compile(self, ENGINE_RULE_DEEPLIFT, precision, threads);
    run *of_x = NULL, *of_r = NULL;
    struct baseline *against = NULL;
    tensor x[4], r[4];
    const tensor *xs[4], *rs[4], *view, *view_r;
    xai_error *error = NULL;
    outcome out = {0};
    ok(run_create(p, &of_x, &error), error);
    ok(run_create(p, &of_r, &error), error);
    for (size_t i = 0; i < g->input_count; i++) {
        const graph_value *v = &g->values[g->inputs[i]];
        x[i] = random_input(&v->shape, v->dtype, 7 + (unsigned)i, scale);
        r[i] = random_input(&v->shape, v->dtype, 1007 + (unsigned)i, apart);
        xs[i] = &x[i];
        rs[i] = &r[i];
    }
    ok(run_forward(of_r, rs, &error), error);
    ok(baseline_create(of_r, &against, &error), error);
    ok(run_value(of_r, g->outputs[0], &view_r, &error), error);
    ok(run_forward(of_x, xs, &error), error);
    ok(run_value(of_x, g->outputs[0], &view, &error), error);
    float *seed = malloc((tensor_count(view) + 1) * sizeof *seed);
    unsigned random = 11;
    for (size_t i = 0; i < tensor_count(view); i++) {
        seed[i] = model_uniform(&random);
        out.change += (double)seed[i] * (tensor_get(view, i) - tensor_get(view_r, i));
    }
    run_free(of_r); /* a baseline stands alone */
    run_set_baseline(of_x, against);
    for (int repeat = 0; repeat < 2; repeat++) /* the second pass finds everything as it was */
        ok(run_backward(of_x, g->outputs[0], seed, &error), error);
    for (size_t i = 0; i < g->input_count; i++) {
        ok(run_gradient(of_x, g->inputs[i], &view, &error), error);
        for (size_t k = 0; k < tensor_count(view); k++) {
            const double part = tensor_get(view, k) * (tensor_get(&x[i], k) - tensor_get(&r[i], k));
            out.total += part;
            out.largest += fabs(part);
        }
        if (i > 0)
            continue;
        out.count = tensor_count(view);
        out.multipliers = malloc((out.count + 1) * sizeof *out.multipliers);
        for (size_t k = 0; k < out.count; k++)
            out.multipliers[k] = tensor_get(view, k);
    }
    free(seed);
    for (size_t i = 0; i < g->input_count; i++) {
        tensor_free(&x[i]);
        tensor_free(&r[i]);
    }
    baseline_free(against);
    run_free(of_x);
    plan_free(p);
    return out;
}

static double distance(const outcome *a, const outcome *b)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a->count; i++) {
        difference += pow(a->multipliers[i] - b->multipliers[i], 2);
        norm += pow(b->multipliers[i], 2);
    }
    return sqrt(difference / norm);
}

/* Attributions add up to the change of the score, with both kinds of kernels, which agree; on
 * threads the bits are the same. */
static void adds_up(model_builder *m, double scale, double apart)
{
    loaded self = load(m);
    outcome fast = deeplift_at(&self, ENGINE_PRECISION_STANDARD, 1, scale, apart);
    outcome threads = deeplift_at(&self, ENGINE_PRECISION_STANDARD, 3, scale, apart);
    outcome reference = deeplift_at(&self, ENGINE_PRECISION_REFERENCE, 1, scale, apart);
    ck_assert_msg(fabs(fast.change) > 1e-4, "the score does not change: the test shows nothing");
    const outcome *const both[] = {&fast, &reference};
    for (int i = 0; i < 2; i++)
        ck_assert_msg(
            fabs(both[i]->total - both[i]->change) <=
                1e-5 * fmax(fabs(both[i]->change), 0.1 * both[i]->largest),
            "%s: attributions add up to %.9g (absolute values %g), the score changes by %.9g",
            i ? "portable" : "fast", both[i]->total, both[i]->largest, both[i]->change);
    const double error = distance(&fast, &reference);
    ck_assert_msg(error <= 2e-5, "multipliers differ from the portable kernels' by %g", error);
    ck_assert_mem_eq(fast.multipliers, threads.multipliers, fast.count * sizeof *fast.multipliers);
    free(fast.multipliers);
    free(threads.multipliers);
    free(reference.multipliers);
    unload(&self);
}

static void image(model_builder *m, int64_t channels, int64_t size)
{
    model_input(m, "x", DTYPE_FLOAT, 4, (int64_t[]){1, channels, size, size});
}

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

static void max_pool(model_builder *m, const char *from, const char *to)
{
    model_node(m, "MaxPool", from, to);
    model_ints_attribute(m, "kernel_shape", 2, (int64_t[]){3, 3});
    model_ints_attribute(m, "strides", 2, (int64_t[]){2, 2});
    model_ints_attribute(m, "pads", 4, (int64_t[]){1, 1, 1, 1});
}

/* Overlapping windows: peers overwrite what several windows give to one winner. */
START_TEST(relu_and_overlapping_max_pool_add_up)
{
    for (int constant = 0; constant < 2; constant++) {
        model_builder *m = model_create(17);
        image(m, 3, 13);
        convolution(m, "x", "a", 3, 11, 3);
        model_node(m, "Relu", "a", "r");
        max_pool(m, "r", "p");
        convolution(m, "p", "b", 11, 8, 3);
        max_pool(m, "b", "q"); /* negative values too */
        model_node(m, "Relu", "q", "s");
        head(m, "s", 8);
        adds_up(m, 1, constant ? 0 : 1);
    }
}
END_TEST

/* One ReLU's output read by two branches, the sum rectified again, an inner value added to itself. */
START_TEST(shared_relus_and_residuals_add_up)
{
    model_builder *m = model_create(17);
    image(m, 3, 10);
    convolution(m, "x", "stem", 3, 8, 3);
    model_node(m, "Relu", "stem", "h");
    convolution(m, "h", "a", 8, 8, 3);
    model_node(m, "Relu", "a", "ar");
    convolution(m, "ar", "b", 8, 8, 3);
    model_node(m, "Add", "b h", "sum");
    model_node(m, "Relu", "sum", "k");
    convolution(m, "k", "c", 8, 16, 3);
    convolution(m, "k", "d", 8, 16, 1);
    model_node(m, "Add", "c d", "sum2");
    model_node(m, "Relu", "sum2", "y");
    model_node(m, "Add", "y y", "twice");
    head(m, "twice", 16);
    adds_up(m, 1, 1);
}
END_TEST

START_TEST(dense_blocks_add_up)
{
    model_builder *m = model_create(17);
    image(m, 3, 12);
    convolution(m, "x", "a", 3, 16, 3);
    model_positive(m, "s", 1, (int64_t[]){16}, 3);
    model_random(m, "t", 1, (int64_t[]){16}, 4);
    model_random(m, "mu", 1, (int64_t[]){16}, 5);
    model_positive(m, "var", 1, (int64_t[]){16}, 6);
    model_node(m, "BatchNormalization", "a s t mu var", "n");
    model_node(m, "Relu", "n", "r");
    convolution(m, "r", "b", 16, 8, 3);
    model_node(m, "Concat", "a b", "ab");
    model_int_attribute(m, "axis", 1);
    model_node(m, "Relu", "ab", "abr");
    head(m, "abr", 24);
    adds_up(m, 1, 1);
}
END_TEST

START_TEST(smooth_activations_add_up)
{
    static const char *const names[] = {"Sigmoid", "Tanh", "Softplus",  "HardSwish", "HardSigmoid",
                                        "Elu",     "Selu", "LeakyRelu", "Exp",       "Gelu",
                                        "Celu",    "Abs",  "Mish",      "Softsign",  "Erf"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        model_builder *m = model_create(20);
        image(m, 3, 8);
        convolution(m, "x", "a", 3, 5, 3);
        model_node(m, names[i], "a", "f");
        convolution(m, "f", "b", 5, 3, 3);
        head(m, "b", 3);
        adds_up(m, i % 2 ? 1 : 0.05, i % 3 ? 0.04 : 1); /* near and far apart */
    }
}
END_TEST

START_TEST(squeeze_and_excitation_adds_up)
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
    adds_up(m, 1, 1);
}
END_TEST

/* Normalisations in the convolutions' layout with what may be fused behind them. */
static model_builder *normalised(void)
{
    const int64_t channels = 30;
    model_builder *m = model_create(21);
    image(m, 3, 7);
    model_positive(m, "s", 1, &channels, 3);
    model_random(m, "t", 1, &channels, 4);
    convolution(m, "x", "a", 3, channels, 3);
    model_node(m, "GroupNormalization", "a s t", "n");
    model_int_attribute(m, "num_groups", 5);
    model_node(m, "Relu", "n", "r");
    convolution(m, "r", "b", channels, channels, 3);
    model_node(m, "InstanceNormalization", "b s t", "i");
    model_node(m, "Add", "i a", "sum");
    model_node(m, "GroupNormalization", "sum s t", "k");
    model_int_attribute(m, "num_groups", 1);
    model_node(m, "LeakyRelu", "k", "l");
    head(m, "l", channels);
    return m;
}

START_TEST(group_and_instance_norms_add_up)
{
    adds_up(normalised(), 1, 1);
    adds_up(normalised(), 0.3, 0);
}
END_TEST

START_TEST(attention_adds_up)
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
    model_node(m, "MatMul", "mean w", "logit");
    model_node(m, "Softmax", "logit", "scores");
    model_output(m, "scores");
    adds_up(m, 1, 1);
}
END_TEST

/* Operators that no lowering takes: one node behind a product, each by the rule of its kind. */
START_TEST(other_operators_add_up)
{
    /* operator, inputs (x = varying, p = varying and positive, q = another varying, c = constant),
     * axis of an attribute `axes` or `axis`, or -9 */
    static const struct {
        const char *op, *inputs, *attribute;
        int64_t axis;
    } cases[] = {
        {"Div", "x p", NULL, 0},
        {"Div", "c p", NULL, 0},
        {"Pow", "p x", NULL, 0},
        {"Pow", "p two", NULL, 0},
        {"Pow", "x two", NULL, 0},
        {"Max", "x q c", NULL, 0},
        {"Min", "x q c", NULL, 0},
        {"PRelu", "x c", NULL, 0},
        {"Sub", "x q", NULL, 0},
        {"Mean", "x q c", NULL, 0},
        {"Where", "positive x q", NULL, 0},
        {"Softmax", "x", "axis", 1},
        {"LogSoftmax", "x", "axis", 1},
        {"ReduceMax", "x", "axes", 1},
        {"ReduceMin", "x", "axes", 1},
        {"ReduceL1", "x", "axes", 1},
        {"ReduceL2", "x", "axes", 1},
        {"ReduceSumSquare", "x", "axes", 1},
        {"ReduceLogSum", "p", "axes", 1},
        {"ReduceLogSumExp", "x", "axes", 1},
        {"ReduceProd", "p", "axes", 1},
        {"LpNormalization", "p", "axis", 1},
        {"Log", "p", NULL, 0},
        {"Sqrt", "p", NULL, 0},
        {"Reciprocal", "p", NULL, 0},
        {"Sin", "x", NULL, 0},
        {"InstanceNormalization", "x four four", NULL, 0},
        {"GlobalMaxPool", "x", NULL, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_builder *m = model_create(17);
        model_input(m, "x", DTYPE_FLOAT, 3, (int64_t[]){1, 4, 6});
        model_random(m, "w", 3, (int64_t[]){1, 4, 6}, 70);
        model_positive(m, "c", 3, (int64_t[]){1, 4, 6}, 71);
        model_positive(m, "four", 1, (int64_t[]){4}, 72);
        model_scalar(m, "two", 2);
        model_scalar(m, "zero", 0);
        model_node(m, "Mul", "x w", "q");
        model_node(m, "Exp", "q", "p");
        model_node(m, "Greater", "x zero", "positive");
        model_node(m, cases[i].op, cases[i].inputs, "y");
        if (cases[i].attribute && strcmp(cases[i].attribute, "axes") == 0)
            model_ints_attribute(m, "axes", 1, &cases[i].axis);
        else if (cases[i].attribute)
            model_int_attribute(m, "axis", cases[i].axis);
        model_node(m, "Mul", "y y", "scores");
        model_output(m, "scores");
        loaded self = load(m);
        outcome found = deeplift_at(&self, ENGINE_PRECISION_STANDARD, 1, 1, 1);
        ck_assert_msg(fabs(found.total - found.change) <= 1e-5 * fmax(fabs(found.change), 1),
                      "%s: attributions add up to %.9g, the score changes by %.9g", cases[i].op,
                      found.total, found.change);
        free(found.multipliers);
        unload(&self);
    }
}
END_TEST

/* Scores that barely change: multipliers are the gradient, not noise. */
START_TEST(close_to_the_baseline_multipliers_are_gradients)
{
    static const char *const names[] = {"Relu", "Sigmoid", "Gelu", "HardSwish", "Tanh", "Exp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        model_builder *m = model_create(20);
        model_input(m, "x", DTYPE_FLOAT, 3, (int64_t[]){1, 8, 16});
        model_node(m, names[i], "x", "scores");
        model_output(m, "scores");
        loaded self = load(m);
        const graph *g = network_graph(self.net);
        tensor x = random_input(&g->values[g->inputs[0]].shape, DTYPE_FLOAT, 5, 2), r;
        ck_assert_int_eq(tensor_copy(&r, &x, NULL), XAI_OK);
        for (size_t k = 0; k < tensor_count(&x); k++)
            tensor_set(&r, k, (double)nextafterf((float)tensor_get(&x, k), 3.0f));
        double *slopes[2];
        for (int rule = 0; rule < 2; rule++) {
            plan *p = compile(&self, rule ? ENGINE_RULE_DEEPLIFT : ENGINE_RULE_GRADIENT,
                              ENGINE_PRECISION_STANDARD, 1);
            run *state = NULL;
            struct baseline *against = NULL;
            const tensor *view, *xs[] = {&x}, *rs[] = {&r};
            float seed[128];
            for (int k = 0; k < 128; k++)
                seed[k] = 1;
            ok(run_create(p, &state, NULL), NULL);
            ok(run_forward(state, rs, NULL), NULL);
            ok(baseline_create(state, &against, NULL), NULL);
            ok(run_forward(state, xs, NULL), NULL);
            run_set_baseline(state, against);
            ok(run_backward(state, g->outputs[0], seed, NULL), NULL);
            ok(run_gradient(state, g->inputs[0], &view, NULL), NULL);
            slopes[rule] = malloc(128 * sizeof(double));
            tensor_read_doubles(view, 0, 128, slopes[rule]);
            baseline_free(against);
            run_free(state);
            plan_free(p);
        }
        for (int k = 0; k < 128; k++)
            ck_assert_msg(fabs(slopes[0][k] - slopes[1][k]) <= 3e-6 * fmax(1, fabs(slopes[0][k])),
                          "%s at %g: %g, but the slope is %g", names[i], tensor_get(&x, (size_t)k),
                          slopes[1][k], slopes[0][k]);
        free(slopes[0]);
        free(slopes[1]);
        tensor_free(&x);
        tensor_free(&r);
        unload(&self);
    }
}
END_TEST

/* ---- guided backpropagation and deconvnet ---- */

/* y = relu(W2 relu(W1 x)) by hand, W1 (4, 3), W2 (2, 4). */
static void guided_by_hand(const double w1[4][3], const double w2[2][4], const double x[3],
                           bool masked, double out[3])
{
    double h[4], z[2], gh[4] = {0};
    for (int i = 0; i < 4; i++)
        h[i] = w1[i][0] * x[0] + w1[i][1] * x[1] + w1[i][2] * x[2];
    for (int i = 0; i < 2; i++) {
        z[i] = 0;
        for (int k = 0; k < 4; k++)
            z[i] += w2[i][k] * fmax(h[k], 0);
    }
    const double seed[2] = {1, -2};
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 4; k++)
            if (seed[i] > 0 && (z[i] > 0 || !masked))
                gh[k] += seed[i] * w2[i][k];
    for (int j = 0; j < 3; j++) {
        out[j] = 0;
        for (int k = 0; k < 4; k++)
            if (gh[k] > 0 && (h[k] > 0 || !masked))
                out[j] += gh[k] * w1[k][j];
    }
}

START_TEST(guided_rules_agree_with_hand_computation)
{
    const double w1[4][3] = {{1, -2, 0.5}, {-1, 0.5, 1}, {0.5, 1, -1}, {-2, 1, 1}};
    const double w2[2][4] = {{1, -1, 0.5, 2}, {-0.5, 1, 1, 0.25}};
    const double x[3] = {1, 0.5, 0.25};
    for (int layout = 0; layout < 2; layout++) /* Gemm, then 1x1 convolutions with fused ReLUs */
        for (int rule = ENGINE_RULE_GUIDED; rule <= ENGINE_RULE_DECONVNET; rule++)
            for (int precision = 0; precision < 2; precision++) {
                model_builder *m = model_create(17);
                float first[12], second[8], seed[2] = {1, -2};
                for (int i = 0; i < 12; i++)
                    first[i] = (float)w1[i / 3][i % 3];
                for (int i = 0; i < 8; i++)
                    second[i] = (float)w2[i / 4][i % 4];
                const int rank = layout ? 4 : 2;
                model_input(m, "x", DTYPE_FLOAT, rank, (int64_t[]){1, 3, 1, 1});
                model_floats(m, "w1", rank, (int64_t[]){4, 3, 1, 1}, first);
                model_floats(m, "w2", rank, (int64_t[]){2, 4, 1, 1}, second);
                model_node(m, layout ? "Conv" : "Gemm", "x w1", "a");
                if (!layout)
                    model_int_attribute(m, "transB", 1);
                model_node(m, "Relu", "a", "h");
                model_node(m, layout ? "Conv" : "Gemm", "h w2", "b");
                if (!layout)
                    model_int_attribute(m, "transB", 1);
                model_node(m, "Relu", "b", "y");
                model_output(m, "y");
                loaded self = load(m);
                const graph *g = network_graph(self.net);
                plan *p = compile(&self, rule, precision, 1);
                run *state = NULL;
                tensor input = random_input(&g->values[g->inputs[0]].shape, DTYPE_FLOAT, 1, 1);
                const tensor *inputs[] = {&input}, *view;
                double expected[3];
                tensor_write_doubles(&input, 0, 3, x);
                guided_by_hand(w1, w2, x, rule == ENGINE_RULE_GUIDED, expected);
                ok(run_create(p, &state, NULL), NULL);
                ok(run_forward(state, inputs, NULL), NULL);
                for (int repeat = 0; repeat < 2; repeat++)
                    ok(run_backward(state, g->outputs[0], seed, NULL), NULL);
                ok(run_gradient(state, g->inputs[0], &view, NULL), NULL);
                ck_assert_double_gt(fabs(expected[0]) + fabs(expected[1]), 0.1);
                for (size_t i = 0; i < 3; i++)
                    ck_assert_double_eq_tol(tensor_get(view, i), expected[i], 1e-6);
                tensor_free(&input);
                run_free(state);
                plan_free(p);
                unload(&self);
            }
}
END_TEST

/* A ReLU that a normalisation took along, against the portable kernels. */
START_TEST(guided_rules_agree_behind_norms)
{
    loaded self = load(normalised());
    for (int rule = ENGINE_RULE_GUIDED; rule <= ENGINE_RULE_DECONVNET; rule++) {
        outcome found[2];
        for (int precision = 0; precision < 2; precision++) {
            const graph *g = network_graph(self.net);
            plan *p = compile(&self, rule, precision, 1);
            run *state = NULL;
            tensor input = random_input(&g->values[g->inputs[0]].shape, DTYPE_FLOAT, 1, 1);
            const tensor *inputs[] = {&input}, *view;
            const float seed[5] = {1, -2, 3, 0.5f, 1};
            ok(run_create(p, &state, NULL), NULL);
            ok(run_forward(state, inputs, NULL), NULL);
            for (int repeat = 0; repeat < 2; repeat++)
                ok(run_backward(state, g->outputs[0], seed, NULL), NULL);
            ok(run_gradient(state, g->inputs[0], &view, NULL), NULL);
            found[precision].count = tensor_count(view);
            found[precision].multipliers = malloc(found[precision].count * sizeof(double));
            tensor_read_doubles(view, 0, found[precision].count, found[precision].multipliers);
            tensor_free(&input);
            run_free(state);
            plan_free(p);
        }
        ck_assert_double_le(distance(&found[0], &found[1]), 1e-5);
        free(found[0].multipliers);
        free(found[1].multipliers);
    }
    unload(&self);
}
END_TEST

START_TEST(a_backward_pass_without_baseline_is_an_error)
{
    model_builder *m = model_create(17);
    image(m, 3, 4);
    convolution(m, "x", "a", 3, 4, 3);
    head(m, "a", 4);
    loaded self = load(m);
    const graph *g = network_graph(self.net);
    plan *p = compile(&self, ENGINE_RULE_DEEPLIFT, ENGINE_PRECISION_STANDARD, 1);
    run *state = NULL;
    const float seed[5] = {1};
    tensor x = random_input(&g->values[g->inputs[0]].shape, DTYPE_FLOAT, 1, 1);
    const tensor *inputs[] = {&x};
    ok(run_create(p, &state, NULL), NULL);
    ok(run_forward(state, inputs, NULL), NULL);
    ck_assert_int_eq(run_backward(state, g->outputs[0], seed, NULL), XAI_ERROR_INTERNAL);
    tensor_free(&x);
    run_free(state);
    plan_free(p);
    unload(&self);
}
END_TEST

START_TEST(operators_without_a_rule_are_named)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 2, (int64_t[]){2, 3});
    model_node(m, "ReduceProd", "x", "y");
    model_output(m, "y");
    loaded self = load(m);
    plan *p = compile(&self, ENGINE_RULE_DEEPLIFT, ENGINE_PRECISION_STANDARD, 1);
    const char *const *names;
    ck_assert_uint_eq(plan_unruled(p, &names), 1);
    ck_assert_str_eq(names[0], "ReduceProd");
    plan_free(p);
    unload(&self);
}
END_TEST

/* ---- layer-wise relevance propagation ---- */

/* Relevances of the first input, from a score that is the sum of seed[i] y[i]. */
static outcome relevance_at(const loaded *self, int precision, int threads,
                            const relevance_rule *rule, const relevance_rule *first,
                            bool gradient_times_input)
{
    const graph *g = network_graph(self->net);
    shape dims = g->values[g->inputs[0]].shape;
    plan *p = NULL;
    run *state = NULL;
    xai_error *error = NULL;
    const tensor *view;
    outcome out = {0};
    const plan_request request = {.input_shapes = &dims,
                                  .seeds = g->outputs,
                                  .seed_count = 1,
                                  .gradients = g->inputs,
                                  .gradient_count = 1,
                                  .precision = precision,
                                  .rule =
                                      gradient_times_input ? ENGINE_RULE_GRADIENT : ENGINE_RULE_LRP,
                                  .relevance = rule,
                                  .first_relevance = first,
                                  .threads = threads};
    ok(plan_create(self->net, &request, &p, &error), error);
    ok(run_create(p, &state, &error), error);
    tensor x = random_input(&dims, DTYPE_FLOAT, 7, 1);
    const tensor *inputs[] = {&x};
    ok(run_forward(state, inputs, &error), error);
    ok(run_value(state, g->outputs[0], &view, &error), error);
    float *seed = malloc((tensor_count(view) + 1) * sizeof *seed);
    unsigned random = 11;
    for (size_t i = 0; i < tensor_count(view); i++) {
        seed[i] = model_uniform(&random);
        out.change += (double)seed[i] * tensor_get(view, i);
    }
    for (int repeat = 0; repeat < 2; repeat++)
        ok(run_backward(state, g->outputs[0], seed, &error), error);
    ok(run_gradient(state, g->inputs[0], &view, &error), error);
    out.count = tensor_count(view);
    out.multipliers = malloc((out.count + 1) * sizeof *out.multipliers);
    for (size_t i = 0; i < out.count; i++) {
        out.multipliers[i] = tensor_get(view, i) * (gradient_times_input ? tensor_get(&x, i) : 1);
        out.total += out.multipliers[i];
        out.largest += fabs(out.multipliers[i]);
    }
    free(seed);
    tensor_free(&x);
    run_free(state);
    plan_free(p);
    return out;
}

static model_builder *relu_network(bool biased)
{
    model_builder *m = model_create(17);
    image(m, 3, 12);
    convolution(m, "x", "a", 3, 16, 3);
    if (biased) {
        model_positive(m, "s", 1, (int64_t[]){16}, 3);
        model_random(m, "t", 1, (int64_t[]){16}, 4);
        model_random(m, "mu", 1, (int64_t[]){16}, 5);
        model_positive(m, "var", 1, (int64_t[]){16}, 6);
        model_node(m, "BatchNormalization", "a s t mu var", "n");
    }
    model_node(m, "Relu", biased ? "n" : "a", "r");
    max_pool(m, "r", "p");
    convolution(m, "p", "b", 16, 16, 3);
    model_node(m, "Add", "b p", "sum");
    model_node(m, "Relu", "sum", "y");
    model_node(m, "Concat", "y p", "both");
    model_int_attribute(m, "axis", 1);
    model_node(m, "GlobalAveragePool", "both", "pooled");
    model_node(m, "Flatten", "pooled", "flat");
    model_random(m, "w_head", 2, (int64_t[]){32, 5}, 99);
    model_node(m, "MatMul", "flat w_head", "scores");
    model_output(m, "scores");
    return m;
}

START_TEST(epsilon_rule_without_epsilon_is_input_times_gradient)
{
    loaded self = load(relu_network(true));
    const relevance_rule zero = {.kind = RELEVANCE_EPSILON};
    for (int precision = 0; precision < 2; precision++) {
        outcome lrp = relevance_at(&self, precision, 1, &zero, NULL, false);
        outcome gradient = relevance_at(&self, precision, 1, NULL, NULL, true);
        ck_assert_double_gt(gradient.largest, 0.1);
        ck_assert_double_le(distance(&lrp, &gradient), 1e-6);
        free(lrp.multipliers);
        free(gradient.multipliers);
    }
    unload(&self);
}
END_TEST

static const relevance_rule all_rules[] = {
    {.kind = RELEVANCE_EPSILON, .epsilon = 1e-3},
    {.kind = RELEVANCE_GAMMA, .epsilon = 1e-9, .gamma = 0.25},
    {.kind = RELEVANCE_ALPHA_BETA, .epsilon = 1e-9, .alpha = 1},
    {.kind = RELEVANCE_ALPHA_BETA, .epsilon = 1e-9, .alpha = 2},
};

START_TEST(relevance_agrees_between_kernels_and_is_conserved_without_bias)
{
    const relevance_rule firsts[] = {
        {.kind = RELEVANCE_FLAT}, {.kind = RELEVANCE_BOX, .epsilon = 1e-9, .low = -1, .high = 1}};
    loaded self = load(relu_network(false));
    for (size_t i = 0; i < 4; i++)
        for (int f = 0; f < 3; f++) {
            const relevance_rule *first = f ? &firsts[f - 1] : NULL;
            outcome fast = relevance_at(&self, 0, 1, &all_rules[i], first, false);
            outcome threads = relevance_at(&self, 0, 3, &all_rules[i], first, false);
            outcome reference = relevance_at(&self, 1, 1, &all_rules[i], first, false);
            /* Sums of small signed parts in the denominators magnify float32. */
            ck_assert_double_le(distance(&fast, &reference), 2e-4);
            ck_assert_mem_eq(fast.multipliers, threads.multipliers,
                             fast.count * sizeof *fast.multipliers);
            if (i > 0) /* epsilon takes its part */
                ck_assert_double_eq_tol(fast.total, fast.change,
                                        1e-4 * fmax(1, 0.1 * fast.largest));
            free(fast.multipliers);
            free(threads.multipliers);
            free(reference.multipliers);
        }
    unload(&self);
}
END_TEST

/* One layer, z = W x + b, by the formulas of the papers written out over all pairs. */
static void layer_by_hand(const relevance_rule *rule, const double w[2][4], const double b[2],
                          const double x[4], const double relevance[2], double out[4])
{
    for (int i = 0; i < 4; i++)
        out[i] = 0;
    for (int j = 0; j < 2; j++) {
        double z = b[j], plus = fmax(b[j], 0), minus = fmin(b[j], 0), box = 0;
        for (int i = 0; i < 4; i++) {
            z += x[i] * w[j][i];
            plus += fmax(x[i] * w[j][i], 0);
            minus += fmin(x[i] * w[j][i], 0);
            box += x[i] * w[j][i] - rule->low * fmax(w[j][i], 0) - rule->high * fmin(w[j][i], 0);
        }
        for (int i = 0; i < 4; i++) {
            const double part = x[i] * w[j][i], up = fmax(part, 0), down = fmin(part, 0);
            double share = 0.25;
            if (rule->kind == RELEVANCE_EPSILON)
                share = part / (z + (z < 0 ? -rule->epsilon : rule->epsilon));
            else if (rule->kind == RELEVANCE_GAMMA)
                share = z > 0 ? (part + rule->gamma * up) / (z + rule->gamma * plus)
                              : (part + rule->gamma * down) / (z + rule->gamma * minus);
            else if (rule->kind == RELEVANCE_ALPHA_BETA)
                share = rule->alpha * up / plus - (rule->alpha - 1) * down / minus;
            else if (rule->kind == RELEVANCE_BOX)
                share = (part - rule->low * fmax(w[j][i], 0) - rule->high * fmin(w[j][i], 0)) / box;
            out[i] += share * relevance[j];
        }
    }
}

START_TEST(layer_rules_agree_with_their_formulas)
{
    const double w[2][4] = {{1, -2, 0.5, 0.25}, {-1, 0.5, 1, -0.75}}, b[2] = {0.3, -0.2},
                 x[4] = {1, 0.5, -0.25, 2};
    const relevance_rule rules[] = {
        {.kind = RELEVANCE_EPSILON, .epsilon = 0.1},
        {.kind = RELEVANCE_GAMMA, .gamma = 0.5},
        {.kind = RELEVANCE_ALPHA_BETA, .alpha = 1},
        {.kind = RELEVANCE_ALPHA_BETA, .alpha = 2},
        {.kind = RELEVANCE_FLAT},
        {.kind = RELEVANCE_BOX, .low = -1, .high = 2},
    };
    for (size_t k = 0; k < sizeof rules / sizeof *rules; k++)
        for (int layout = 0; layout < 2; layout++)
            for (int precision = 0; precision < 2; precision++) {
                model_builder *m = model_create(17);
                float weights[8], bias[2] = {(float)b[0], (float)b[1]};
                for (int i = 0; i < 8; i++)
                    weights[i] = (float)w[i / 4][i % 4];
                model_input(m, "x", DTYPE_FLOAT, layout ? 4 : 2, (int64_t[]){1, 4, 1, 1});
                model_floats(m, "w", layout ? 4 : 2, (int64_t[]){2, 4, 1, 1}, weights);
                model_floats(m, "b", 1, (int64_t[]){2}, bias);
                model_node(m, layout ? "Conv" : "Gemm", "x w b", "y");
                if (!layout)
                    model_int_attribute(m, "transB", 1);
                model_output(m, "y");
                loaded self = load(m);
                const graph *g = network_graph(self.net);
                plan *p = NULL;
                run *state = NULL;
                const tensor *view;
                const plan_request request = {.input_shapes = &g->values[g->inputs[0]].shape,
                                              .seeds = g->outputs,
                                              .seed_count = 1,
                                              .gradients = g->inputs,
                                              .gradient_count = 1,
                                              .precision = precision,
                                              .rule = ENGINE_RULE_LRP,
                                              .relevance = &rules[k],
                                              .threads = 1};
                ok(plan_create(self.net, &request, &p, NULL), NULL);
                ok(run_create(p, &state, NULL), NULL);
                tensor input = random_input(request.input_shapes, DTYPE_FLOAT, 1, 1);
                tensor_write_doubles(&input, 0, 4, x);
                const tensor *inputs[] = {&input};
                ok(run_forward(state, inputs, NULL), NULL);
                ok(run_value(state, g->outputs[0], &view, NULL), NULL);
                const float seed[2] = {1, -2};
                const double relevance[2] = {tensor_get(view, 0), -2 * tensor_get(view, 1)};
                double expected[4];
                layer_by_hand(&rules[k], w, b, x, relevance, expected);
                ok(run_backward(state, g->outputs[0], seed, NULL), NULL);
                ok(run_gradient(state, g->inputs[0], &view, NULL), NULL);
                for (size_t i = 0; i < 4; i++)
                    ck_assert_msg(fabs(tensor_get(view, i) - expected[i]) <= 1e-5,
                                  "rule %zu, input %zu: %g, expected %g", k, i, tensor_get(view, i),
                                  expected[i]);
                tensor_free(&input);
                run_free(state);
                plan_free(p);
                unload(&self);
            }
}
END_TEST

/* Curves, gates, normalisation and attention: the fast kernels against the portable ones. */
START_TEST(relevance_through_gates_attention_and_norms_agrees_between_kernels)
{
    for (int which = 0; which < 3; which++) {
        model_builder *m = which == 2 ? normalised() : model_create(20);
        if (which == 0) {
            image(m, 3, 8);
            convolution(m, "x", "a", 3, 12, 3);
            model_node(m, "HardSwish", "a", "h");
            model_node(m, "GlobalAveragePool", "h", "s");
            convolution(m, "s", "g", 12, 12, 1);
            model_node(m, "Sigmoid", "g", "gate");
            model_node(m, "Mul", "gate h", "y");
            convolution(m, "y", "z", 12, 12, 3);
            model_node(m, "Gelu", "z", "curved");
            head(m, "curved", 12);
        } else if (which == 1) {
            model_input(m, "x", DTYPE_FLOAT, 3, (int64_t[]){1, 7, 12});
            model_positive(m, "ls", 1, (int64_t[]){12}, 1);
            model_random(m, "lb", 1, (int64_t[]){12}, 2);
            model_node(m, "LayerNormalization", "x ls lb", "n");
            model_random(m, "wq", 2, (int64_t[]){12, 12}, 40);
            model_random(m, "wv", 2, (int64_t[]){12, 12}, 42);
            model_node(m, "MatMul", "n wq", "q");
            model_node(m, "MatMul", "n wv", "v");
            model_node(m, "Transpose", "n", "kt");
            model_ints_attribute(m, "perm", 3, (int64_t[]){0, 2, 1});
            model_node(m, "MatMul", "q kt", "logits");
            model_node(m, "Softmax", "logits", "weights");
            model_node(m, "MatMul", "weights v", "mixed");
            model_node(m, "Mul", "mixed x", "y");
            model_random(m, "w", 2, (int64_t[]){12, 4}, 50);
            model_node(m, "MatMul", "y w", "scores");
            model_output(m, "scores");
        }
        loaded self = load(m);
        const relevance_rule rule = {.kind = RELEVANCE_EPSILON, .epsilon = 1e-6};
        outcome fast = relevance_at(&self, 0, 1, &rule, NULL, false);
        outcome reference = relevance_at(&self, 1, 1, &rule, NULL, false);
        ck_assert_double_le(distance(&fast, &reference), 1e-4);
        free(fast.multipliers);
        free(reference.multipliers);
        unload(&self);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rules");
    TCase *deeplift = tcase_create("deeplift"), *guided = tcase_create("guided"),
          *lrp = tcase_create("lrp");
    tcase_set_timeout(deeplift, 120);
    tcase_add_test(deeplift, relu_and_overlapping_max_pool_add_up);
    tcase_add_test(deeplift, shared_relus_and_residuals_add_up);
    tcase_add_test(deeplift, dense_blocks_add_up);
    tcase_add_test(deeplift, smooth_activations_add_up);
    tcase_add_test(deeplift, squeeze_and_excitation_adds_up);
    tcase_add_test(deeplift, group_and_instance_norms_add_up);
    tcase_add_test(deeplift, attention_adds_up);
    tcase_add_test(deeplift, other_operators_add_up);
    tcase_add_test(deeplift, close_to_the_baseline_multipliers_are_gradients);
    tcase_add_test(deeplift, a_backward_pass_without_baseline_is_an_error);
    tcase_add_test(deeplift, operators_without_a_rule_are_named);
    tcase_add_test(guided, guided_rules_agree_with_hand_computation);
    tcase_add_test(guided, guided_rules_agree_behind_norms);
    suite_add_tcase(suite, deeplift);
    tcase_add_test(lrp, epsilon_rule_without_epsilon_is_input_times_gradient);
    tcase_add_test(lrp, relevance_agrees_between_kernels_and_is_conserved_without_bias);
    tcase_add_test(lrp, layer_rules_agree_with_their_formulas);
    tcase_add_test(lrp, relevance_through_gates_attention_and_norms_agrees_between_kernels);
    suite_add_tcase(suite, guided);
    suite_add_tcase(suite, lrp);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
