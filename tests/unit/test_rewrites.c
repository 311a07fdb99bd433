/* src/graph/rewrite_*.c: every rewrite keeps the numbers (in the portable kernels, which compute in double), shrinks the
 * graph, and is stopped by a kept value inside its pattern. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_builder.h"

/* One model; the caller adds its nodes from "x" to "y". */
typedef struct pattern {
    model_builder *builder;
    shape input;
} pattern;

static pattern start(int64_t opset, int rank, const int64_t *dims)
{
    pattern self = {.builder = model_create(opset), .input = shape_make(rank, dims)};
    model_input(self.builder, "x", DTYPE_FLOAT, rank, dims);
    return self;
}

static tensor random_input(const shape *dims)
{
    tensor x = {0};
    unsigned state = 7;
    ck_assert_int_eq(tensor_create(&x, DTYPE_FLOAT, dims, NULL), XAI_OK);
    for (size_t i = 0; i < tensor_count(&x); i++)
        tensor_set(&x, i, 4 * model_uniform(&state));
    return x;
}

/* The operators that are left, in order: "Conv Relu". */
static void operators_text(const graph *g, char *out, size_t size)
{
    *out = '\0';
    for (size_t i = 0; i < g->node_count; i++)
        if (!g->nodes[i].removed) {
            if (*out)
                strncat(out, " ", size - strlen(out) - 1);
            strncat(out, g->nodes[i].definition->name, size - strlen(out) - 1);
        }
}

/* The largest difference relative to the largest number. */
static double difference(const tensor *a, const tensor *b)
{
    double largest = 0, apart = 0;
    ck_assert(shape_equal(&a->shape, &b->shape));
    ck_assert_int_eq(a->dtype, b->dtype);
    for (size_t i = 0; i < tensor_count(a); i++) {
        const double p = tensor_get(a, i), q = tensor_get(b, i);
        ck_assert(isfinite(p) && isfinite(q));
        largest = fmax(largest, fabs(p));
        apart = fmax(apart, fabs(p - q));
    }
    return largest > 0 ? apart / largest : apart;
}

/* Specialise with and without rewrites, compare y (and the kept value), and the operators that are left. Ends the builder.
 * The tolerance: every value is rounded to float32 once a node, and a rewrite has other nodes. */
static void check(pattern *self, const char *keep, const char *expected)
{
    onnx_model *file;
    graph *source, *plain = NULL, *made = NULL;
    xai_error *error = NULL;
    char left[512];
    model_output(self->builder, "y");
    source = model_graph(self->builder, &file);
    int values[2] = {source->outputs[0], GRAPH_NONE};
    const size_t count = keep ? 2 : 1;
    if (keep) {
        values[1] = graph_find(source, keep);
        ck_assert_int_ne(values[1], GRAPH_NONE);
    }
    xai_status status = graph_specialise(source, &self->input, &values[1], count - 1,
                                         GRAPH_REWRITES_NEEDED, &plain, &error);
    ck_assert_msg(status == XAI_OK, "%s", error ? xai_error_message(error) : "");
    status = graph_specialise(source, &self->input, &values[1], count - 1, GRAPH_REWRITES_ALL,
                              &made, &error);
    ck_assert_msg(status == XAI_OK, "%s", error ? xai_error_message(error) : "");
    operators_text(made, left, sizeof left);
    ck_assert_msg(strcmp(left, expected) == 0, "left: %s; expected: %s", left, expected);
    tensor x = random_input(&self->input), before[2] = {{0}, {0}}, after[2] = {{0}, {0}};
    model_evaluate(plain, &x, values, count, before);
    model_evaluate(made, &x, values, count, after);
    for (size_t i = 0; i < count; i++) {
        const double apart = difference(&before[i], &after[i]);
        ck_assert_msg(apart <= 2e-6, "%s: %g apart", i ? keep : "y", apart);
        tensor_free(&before[i]);
        tensor_free(&after[i]);
    }
    tensor_free(&x);
    graph_free(plain);
    graph_free(made);
    graph_free(source);
    onnx_model_free(file);
    model_free(self->builder);
}

static const int64_t image[] = {2, 4, 6, 6}; /* x of most patterns */
static const int64_t channels[] = {4};

static void batch_norm(model_builder *m, const char *from, const char *to, int64_t count)
{
    const int64_t dims[] = {count};
    model_positive(m, "gamma", 1, dims, 31);
    model_random(m, "beta", 1, dims, 32);
    model_random(m, "mean", 1, dims, 33);
    model_positive(m, "variance", 1, dims, 34);
    char inputs[128];
    snprintf(inputs, sizeof inputs, "%s gamma beta mean variance", from);
    model_node(m, "BatchNormalization", inputs, to);
    model_float_attribute(m, "epsilon", 1e-3f);
}

START_TEST(nodes_that_change_nothing_vanish)
{
    pattern p = start(17, 4, image);
    model_builder *m = p.builder;
    model_ints(m, "same", 4, image);
    model_ints(m, "no_pads", 8, (int64_t[]){0, 0, 0, 0, 0, 0, 0, 0});
    model_ints(m, "starts", 1, (int64_t[]){0});
    model_ints(m, "ends", 1, (int64_t[]){INT64_MAX});
    model_scalar(m, "one", 1);
    model_scalar(m, "zero", 0);
    model_node(m, "Identity", "x", "a");
    model_node(m, "Dropout", "a", "b");
    model_node(m, "Reshape", "b same", "c");
    model_node(m, "Cast", "c", "d");
    model_int_attribute(m, "to", DTYPE_FLOAT);
    model_node(m, "Pad", "d no_pads", "e");
    model_node(m, "Transpose", "e", "f");
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 1, 2, 3});
    model_node(m, "Slice", "f starts ends", "g");
    model_node(m, "Mul", "one g", "h");
    model_node(m, "Add", "h zero", "i");
    model_node(m, "Concat", "i", "j");
    model_int_attribute(m, "axis", 1);
    model_node(m, "Relu", "j", "k");
    model_node(m, "Identity", "k", "y"); /* the output's name moves to Relu */
    check(&p, NULL, "Relu");
}
END_TEST

START_TEST(kept_identity_stays)
{
    pattern p = start(17, 4, image);
    model_node(p.builder, "Identity", "x", "a");
    model_node(p.builder, "Relu", "a", "y");
    check(&p, "a", "Identity Relu");
}
END_TEST

START_TEST(changing_nodes_are_not_taken_for_identities)
{
    pattern p = start(17, 4, image);
    model_builder *m = p.builder;
    model_ints(m, "shift", 8, (int64_t[]){0, 0, 0, 1, 0, 0, 0, -1});
    model_ints(m, "starts", 1, (int64_t[]){-1});
    model_ints(m, "ends", 1, (int64_t[]){INT64_MIN});
    model_ints(m, "axes", 1, (int64_t[]){3});
    model_ints(m, "steps", 1, (int64_t[]){-1});
    model_node(m, "Pad", "x shift", "a");                    /* the same shape */
    model_node(m, "Slice", "a starts ends axes steps", "b"); /* reversed */
    model_node(m, "Transpose", "b", "y");                    /* square */
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 1, 3, 2});
    check(&p, NULL, "Pad Slice Transpose");
}
END_TEST

START_TEST(views_of_views_and_transposes_of_transposes_merge)
{
    pattern p = start(17, 4, image);
    model_builder *m = p.builder;
    model_ints(m, "wide", 2, (int64_t[]){4, -1});
    model_node(m, "Flatten", "x", "a");
    model_node(m, "Reshape", "a wide", "b");
    model_node(m, "Exp", "b", "c");
    model_node(m, "Transpose", "c", "d");
    model_node(m, "Sigmoid", "d", "e");
    model_node(m, "Transpose", "e", "f");
    model_node(m, "Transpose", "f", "g");
    model_node(m, "Transpose", "g", "y");
    check(&p, NULL, "Reshape Exp Transpose Sigmoid Transpose");
}
END_TEST

START_TEST(transpose_of_unit_axes_is_a_view)
{
    static const int64_t perms[][4] = {{2, 1, 0, 3}, {1, 0, 2, 3}, {0, 3, 1, 2}};
    static const char *const left[] = {"Exp Sigmoid", "Exp Reshape Sigmoid",
                                       "Transpose Exp Sigmoid"};
    for (int i = 0; i < 3; i++) {
        pattern p = start(17, 4, (int64_t[]){1, 4, 1, 6});
        model_node(p.builder, "Exp", "x", "a");
        model_node(p.builder, "Transpose", "a", "b");
        model_ints_attribute(p.builder, "perm", 4, perms[i]);
        model_node(p.builder, "Sigmoid", "b", "y");
        check(&p, NULL, left[i]);
    }
}
END_TEST

/* Queries, keys and values as one product that is turned and taken apart: (1, 7, 3, 2, 4) -> 3 (2, 7, 4) or 3 (1, 7, 2, 4) */
static pattern taken_apart(const int64_t perm[5], int64_t axis)
{
    pattern p = start(17, 5, (int64_t[]){1, 7, 3, 2, 4});
    model_builder *m = p.builder;
    model_ints(m, "list", 3, (int64_t[]){0, 1, -1});
    model_ints(m, "parts", 3, (int64_t[]){1, 1, 1});
    model_node(m, "Split", "list parts", "i0 i1 i2");
    model_node(m, "Exp", "x", "e");
    model_node(m, "Transpose", "e", "t");
    model_ints_attribute(m, "perm", 5, perm);
    for (int i = 0; i < 3; i++) {
        char from[8], scalar[8], inputs[16], to[8];
        snprintf(from, sizeof from, "i%d", i);
        snprintf(scalar, sizeof scalar, "s%d", i);
        snprintf(inputs, sizeof inputs, "t s%d", i);
        snprintf(to, sizeof to, "g%d", i);
        model_node(m, "Squeeze", from, scalar);
        model_node(m, "Gather", inputs, to);
        model_int_attribute(m, "axis", axis);
    }
    model_node(m, "Mul", "g0 g1", "product");
    model_node(m, "Add", "product g2", "y");
    return p;
}

START_TEST(gather_goes_before_transpose)
{
    static const int64_t first[] = {2, 0, 1, 3, 4}, heads[] = {0, 3, 1, 4, 2};
    pattern p = taken_apart(first, 0);
    check(&p, NULL, "Exp Gather Gather Gather Mul Add");
    p = taken_apart(heads, -1);
    check(&p, NULL, "Exp Gather Transpose Gather Transpose Gather Transpose Mul Add");
    p = taken_apart(heads, 4);
    check(&p, "t", "Exp Transpose Gather Gather Gather Mul Add");
}
END_TEST

static void conv(model_builder *m, const char *inputs, int64_t group, int64_t out)
{
    model_random(m, "w", 4, (int64_t[]){out, 4 / group, 3, 3}, 1);
    model_random(m, "bias", 1, (int64_t[]){out}, 2);
    model_node(m, "Conv", inputs, "a");
    model_int_attribute(m, "group", group);
    model_ints_attribute(m, "pads", 4, (int64_t[]){1, 1, 1, 1});
}

START_TEST(batch_norm_folds_into_convolution)
{
    for (int64_t group = 1; group <= 4; group *= 2)
        for (int bias = 0; bias < 2; bias++) {
            pattern p = start(17, 4, image);
            conv(p.builder, bias ? "x w bias" : "x w", group, 8);
            batch_norm(p.builder, "a", "y", 8);
            check(&p, NULL, "Conv");
        }
}
END_TEST

START_TEST(batch_norm_folds_into_transposed_convolution)
{
    for (int64_t group = 1; group <= 2; group++) {
        pattern p = start(17, 4, image);
        model_random(p.builder, "w", 4, (int64_t[]){4, 6 / group, 2, 2}, 1);
        model_node(p.builder, "ConvTranspose", "x w", "a");
        model_int_attribute(p.builder, "group", group);
        model_ints_attribute(p.builder, "strides", 2, (int64_t[]){2, 2});
        batch_norm(p.builder, "a", "y", 6);
        check(&p, NULL, "ConvTranspose");
    }
}
END_TEST

START_TEST(batch_norm_folds_into_gemm)
{
    for (int transposed = 0; transposed < 2; transposed++)
        for (int bias = 0; bias < 3; bias++) {
            pattern p = start(17, 2, (int64_t[]){3, 4});
            model_builder *m = p.builder;
            model_random(m, "w", 2, transposed ? (int64_t[]){5, 4} : (int64_t[]){4, 5}, 1);
            model_random(m, "bias", bias == 2 ? 2 : 1,
                         bias == 2 ? (int64_t[]){1, 5} : (int64_t[]){5}, 2);
            model_node(m, "Gemm", bias ? "x w bias" : "x w", "a");
            model_int_attribute(m, "transB", transposed);
            model_float_attribute(m, "alpha", 0.5f);
            model_float_attribute(m, "beta", 3);
            batch_norm(m, "a", "y", 5);
            check(&p, NULL, "Gemm");
        }
}
END_TEST

START_TEST(per_channel_arithmetic_folds_into_convolution)
{
    pattern p = start(17, 4, image);
    model_builder *m = p.builder;
    conv(m, "x w", 1, 4);
    model_positive(m, "c1", 4, (int64_t[]){1, 4, 1, 1}, 3);
    model_random(m, "c2", 3, (int64_t[]){4, 1, 1}, 4);
    model_scalar(m, "c3", 1.7f);
    model_node(m, "Mul", "c1 a", "b");
    model_node(m, "Sub", "c2 b", "c");
    model_node(m, "Div", "c c1", "d");
    model_node(m, "Sub", "d c2", "e");
    model_node(m, "Add", "e c3", "f");
    model_node(m, "Div", "f c3", "y");
    check(&p, NULL, "Conv");
}
END_TEST

START_TEST(arithmetic_along_other_axes_does_not_fold)
{
    pattern p = start(17, 4, (int64_t[]){1, 4, 4, 4});
    conv(p.builder, "x w", 1, 4);
    model_positive(p.builder, "row", 1, channels,
                   3); /* along the last axis, as long as the channels */
    model_positive(p.builder, "plane", 4, (int64_t[]){1, 4, 4, 1}, 3);
    model_node(p.builder, "Mul", "a row", "b");
    model_node(p.builder, "Mul", "b plane", "y");
    check(&p, NULL, "Conv Mul Mul");
}
END_TEST

START_TEST(kept_convolution_output_stops_folding)
{
    pattern p = start(17, 4, image);
    conv(p.builder, "x w", 1, 4);
    batch_norm(p.builder, "a", "y", 4);
    check(&p, "a", "Conv ScaleShift");
}
END_TEST

START_TEST(second_reader_of_a_convolution_stops_folding)
{
    pattern p = start(17, 4, image);
    conv(p.builder, "x w", 1, 4);
    batch_norm(p.builder, "a", "b", 4);
    model_node(p.builder, "Add", "a b", "y");
    check(&p, NULL, "Conv ScaleShift Add");
}
END_TEST

START_TEST(convolution_of_a_weight_at_run_time_is_not_folded)
{
    pattern p = start(17, 4, (int64_t[]){4, 4, 3, 3});
    model_node(p.builder, "Conv", "x x", "a");
    batch_norm(p.builder, "a", "y", 4);
    check(&p, NULL, "Conv ScaleShift");
}
END_TEST

START_TEST(lone_batch_norm_becomes_scale_shift)
{
    pattern p = start(17, 4, image);
    batch_norm(p.builder, "x", "a", 4);
    model_node(p.builder, "Relu", "a", "y");
    check(&p, NULL, "ScaleShift Relu");
}
END_TEST

START_TEST(per_channel_chain_becomes_scale_shift)
{
    pattern p = start(17, 4, image);
    model_builder *m = p.builder;
    model_positive(m, "scale", 4, (int64_t[]){1, 4, 1, 1}, 3);
    model_random(m, "shift", 3, (int64_t[]){4, 1, 1}, 4);
    model_scalar(m, "two", 2);
    model_node(m, "Sub", "x shift", "a");
    model_node(m, "Div", "a scale", "b");
    model_node(m, "Mul", "b two", "c");
    batch_norm(m, "c", "y", 4);
    check(&p, NULL, "ScaleShift");
}
END_TEST

START_TEST(broken_batch_norm_is_left_alone)
{
    /* variance -1: the numbers are not finite; the rewrite must not hide that by folding */
    pattern p = start(17, 4, image);
    model_fill(p.builder, "gamma", 1, channels, 0);
    model_fill(p.builder, "variance", 1, channels, 0);
    model_node(p.builder, "BatchNormalization", "x gamma gamma gamma variance", "y");
    model_float_attribute(p.builder, "epsilon", 0);
    model_output(p.builder, "y");
    onnx_model *file;
    graph *source = model_graph(p.builder, &file), *made = NULL;
    char left[64];
    ck_assert_int_eq(graph_specialise(source, &p.input, NULL, 0, GRAPH_REWRITES_ALL, &made, NULL),
                     XAI_OK);
    operators_text(made, left, sizeof left);
    ck_assert_str_eq(left, "BatchNormalization");
    graph_free(made);
    graph_free(source);
    onnx_model_free(file);
    model_free(p.builder);
}
END_TEST

START_TEST(silu_is_found_in_both_orders)
{
    for (int order = 0; order < 2; order++) {
        pattern p = start(17, 4, image);
        model_node(p.builder, "Sigmoid", "x", "s");
        model_node(p.builder, "Mul", order ? "x s" : "s x", "y");
        check(&p, NULL, "Silu");
    }
    pattern p = start(17, 4, image);
    model_node(p.builder, "Sigmoid", "x", "s");
    model_node(p.builder, "Mul", "x s", "y");
    check(&p, "s", "Sigmoid Mul");
    p = start(17, 4, image); /* the gate of another value */
    model_node(p.builder, "Tanh", "x", "t");
    model_node(p.builder, "Sigmoid", "t", "s");
    model_node(p.builder, "Mul", "x s", "y");
    check(&p, NULL, "Tanh Sigmoid Mul");
}
END_TEST

static void clip6(model_builder *m, const char *from, const char *to)
{
    char inputs[64];
    model_scalar(m, "low", 0);
    model_scalar(m, "high", 6);
    model_scalar(m, "three", 3);
    model_scalar(m, "six", 6);
    model_scalar(m, "sixth", 1.0f / 6);
    snprintf(inputs, sizeof inputs, "%s three", from);
    model_node(m, "Add", inputs, "shifted");
    model_node(m, "Clip", "shifted low high", to);
}

START_TEST(hard_swish_is_found_in_its_exports)
{
    pattern p = start(13, 4, image);
    model_node(p.builder, "HardSigmoid", "x", "s");
    model_float_attribute(p.builder, "alpha", 1.0f / 6);
    model_node(p.builder, "Mul", "x s", "y");
    check(&p, NULL, "HardSwish");
    p = start(13, 4, image);
    clip6(p.builder, "x", "c");
    model_node(p.builder, "Mul", "x c", "m");
    model_node(p.builder, "Div", "m six", "y");
    check(&p, NULL, "HardSwish");
    p = start(13, 4, image);
    clip6(p.builder, "x", "c");
    model_node(p.builder, "Div", "c six", "d");
    model_node(p.builder, "Mul", "d x", "y");
    check(&p, NULL, "HardSwish");
    p = start(13, 4, image);
    clip6(p.builder, "x", "c");
    model_node(p.builder, "Mul", "c sixth", "d");
    model_node(p.builder, "Mul", "d x", "y");
    check(&p, NULL, "HardSwish");
    p = start(13, 4, image);
    clip6(p.builder, "x", "c");
    model_node(p.builder, "Div", "c six", "y");
    check(&p, NULL, "HardSigmoid");
    p = start(13, 4, image); /* another slope is another function */
    model_node(p.builder, "HardSigmoid", "x", "s");
    model_node(p.builder, "Mul", "x s", "y");
    check(&p, NULL, "HardSigmoid Mul");
    p = start(13, 4, image);
    clip6(p.builder, "x", "c");
    model_node(p.builder, "Mul", "x c", "m");
    model_node(p.builder, "Div", "m six", "y");
    check(&p, "c", "Add Clip Mul Div");
}
END_TEST

START_TEST(clip_at_zero_is_relu)
{
    pattern p = start(13, 4, image);
    model_scalar(p.builder, "low", 0);
    model_node(p.builder, "Clip", "x low", "y");
    check(&p, NULL, "Relu");
    p = start(7, 4, image);
    model_node(p.builder, "Clip", "x", "y");
    model_float_attribute(p.builder, "min", 0);
    check(&p, NULL, "Relu");
    p = start(13, 4, image);
    model_scalar(p.builder, "low", 0);
    model_node(p.builder, "Max", "low x", "y");
    check(&p, NULL, "Relu");
    p = start(13, 4, image);
    model_scalar(p.builder, "low", 0);
    model_scalar(p.builder, "high", 6);
    model_node(p.builder, "Clip", "x low high", "y");
    check(&p, NULL, "Clip");
}
END_TEST

static void erf_gate(model_builder *m, bool divide)
{
    model_scalar(m, "root", divide ? 1.41421356f : 0.70710678f);
    model_scalar(m, "one", 1);
    model_scalar(m, "half", 0.5f);
    model_node(m, divide ? "Div" : "Mul", "x root", "a");
    model_node(m, "Erf", "a", "b");
    model_node(m, "Add", divide ? "b one" : "one b", "g");
}

START_TEST(one_slope_is_a_leaky_relu)
{
    pattern p = start(16, 4, image);
    model_fill(p.builder, "slope", 3, (int64_t[]){1, 1, 1}, -0.3f);
    model_node(p.builder, "PRelu", "x slope", "y");
    check(&p, NULL, "LeakyRelu");
    p = start(16, 4, image);
    model_random(p.builder, "slope", 3, (int64_t[]){4, 1, 1}, 1);
    model_node(p.builder, "PRelu", "x slope", "y");
    check(&p, NULL, "PRelu");
}
END_TEST

START_TEST(gelu_is_found_in_every_order)
{
    static const char *const products[][4] = {
        {"x g", "p", "p half", "y"}, {"x half", "p", "p g", "y"}, {"half g", "p", "x p", "y"}};
    for (int divide = 0; divide < 2; divide++)
        for (size_t i = 0; i < 3; i++) {
            pattern p = start(17, 4, image);
            erf_gate(p.builder, divide);
            model_node(p.builder, "Mul", products[i][0], products[i][1]);
            model_node(p.builder, "Mul", products[i][2], products[i][3]);
            check(&p, NULL, "Gelu");
        }
    pattern p = start(17, 4, image);
    erf_gate(p.builder, true);
    model_node(p.builder, "Mul", "x g", "p");
    model_node(p.builder, "Mul", "p half", "y");
    check(&p, "b", "Div Erf Add Mul Mul");
}
END_TEST

/* The exact GELU of Keras as tf2onnx writes it; the sign may stand at the constant as well. */
START_TEST(gelu_with_erfc_is_found)
{
    for (int form = 0; form < 3; form++) {
        pattern p = start(17, 4, image);
        model_builder *m = p.builder;
        model_scalar(m, "half", 0.5f);
        model_scalar(m, "root", form == 1 ? -0.70710678f : 0.70710678f);
        model_node(m, "Mul", "half x", "h");
        if (form != 1)
            model_node(m, "Neg", "x", "n");
        model_node(m, "Mul", form == 1 ? "x root" : "n root", "a");
        model_node(m, "Erfc", "a", "g");
        model_node(m, "Mul", "h g", "y");
        if (form == 2)
            check(&p, "n", "Mul Neg Mul Erfc Mul");
        else
            check(&p, NULL, "Gelu");
    }
    /* Without the sign, or with one that is too many, it is another function. */
    for (int form = 0; form < 2; form++) {
        pattern p = start(17, 4, image);
        model_builder *m = p.builder;
        model_scalar(m, "half", form == 0 ? 0.5f : -0.5f);
        model_scalar(m, "root", form == 0 ? 0.70710678f : -0.70710678f);
        model_node(m, "Mul", "half x", "h");
        model_node(m, "Mul", "x root", "a");
        model_node(m, "Erfc", "a", "g");
        model_node(m, "Mul", "h g", "y");
        check(&p, NULL, "Mul Mul Erfc Mul");
    }
}
END_TEST

START_TEST(gelu_with_tanh_is_found)
{
    for (int power = 0; power < 2; power++) {
        pattern p = start(17, 4, image);
        model_builder *m = p.builder;
        model_scalar(m, "half", 0.5f);
        model_scalar(m, "one", 1);
        model_scalar(m, "three", 3);
        model_scalar(m, "cubic", 0.044715f);
        model_scalar(m, "slope", 0.79788456f);
        if (power) {
            model_node(m, "Pow", "x three", "cube");
        } else {
            model_node(m, "Mul", "x x", "square");
            model_node(m, "Mul", "square x", "cube");
        }
        model_node(m, "Mul", "cube cubic", "a");
        model_node(m, "Add", "x a", "b");
        model_node(m, "Mul", "slope b", "c");
        model_node(m, "Tanh", "c", "d");
        model_node(m, "Add", "d one", "e");
        model_node(m, "Mul", "x half", "f");
        model_node(m, "Mul", "f e", "y");
        check(&p, NULL, "Gelu");
    }
}
END_TEST

static void layer_norm_parts(model_builder *m, int64_t opset, bool power, bool affine)
{
    const int64_t last[] = {-1};
    model_ints(m, "last", 1, last);
    model_scalar(m, "two", 2);
    model_scalar(m, "epsilon", 1e-4f);
    model_positive(m, "gamma", 1, (int64_t[]){6}, 5);
    model_random(m, "beta", 1, (int64_t[]){6}, 6);
    model_node(m, "ReduceMean", opset >= 18 ? "x last" : "x", "mean");
    if (opset < 18)
        model_ints_attribute(m, "axes", 1, last);
    model_node(m, "Sub", "x mean", "d");
    model_node(m, power ? "Pow" : "Mul", power ? "d two" : "d d", "square");
    model_node(m, "ReduceMean", opset >= 18 ? "square last" : "square", "variance");
    if (opset < 18)
        model_ints_attribute(m, "axes", 1, last);
    model_node(m, "Add", "variance epsilon", "safe");
    model_node(m, "Sqrt", "safe", "deviation");
    model_node(m, "Div", "d deviation", affine ? "n" : "y");
    if (affine) {
        model_node(m, "Mul", "n gamma", "scaled");
        model_node(m, "Add", "beta scaled", "y");
    }
}

START_TEST(layer_norm_is_found_with_and_without_scale_and_bias)
{
    for (int variant = 0; variant < 8; variant++) {
        const int64_t opset = variant & 1 ? 18 : 13;
        pattern p = start(opset, 3, (int64_t[]){2, 5, 6});
        layer_norm_parts(p.builder, opset, variant & 2, variant & 4);
        check(&p, NULL, "LayerNormalization");
    }
    pattern p = start(13, 3, (int64_t[]){2, 5, 6});
    layer_norm_parts(p.builder, 13, true, true);
    check(&p, "d", "ReduceMean Sub Pow ReduceMean Add Sqrt Div Mul Add");
    p = start(13, 3, (int64_t[]){2, 5, 6});
    layer_norm_parts(p.builder, 13, true, true);
    check(&p, "n", "LayerNormalization Mul Add");
}
END_TEST

/* GroupNorm of PyTorch's exporters: 4 channels of x, `groups` of them. */
static void group_norm_parts(model_builder *m, int64_t groups, int affine)
{
    model_ints(m, "to_groups", 3, (int64_t[]){0, groups, -1});
    model_ints(m, "to_image", 4, image);
    model_positive(m, "ones", 1, &groups, 4); /* usually ones and zeros */
    model_random(m, "zeros", 1, &groups, 3);
    model_positive(m, "gamma", 3, (int64_t[]){4, 1, 1}, 5);
    model_random(m, "beta", 4, (int64_t[]){1, 4, 1, 1}, 6);
    model_node(m, "Reshape", "x to_groups", "grouped");
    model_node(m, "InstanceNormalization", "grouped ones zeros", "normal");
    model_float_attribute(m, "epsilon", 1e-3f);
    model_node(m, "Reshape", "normal to_image", affine ? "n" : "y");
    if (affine) {
        model_node(m, "Mul", affine > 1 ? "gamma n" : "n gamma", "scaled");
        model_node(m, "Add", affine > 1 ? "beta scaled" : "scaled beta", "y");
    }
}

START_TEST(group_norm_is_found_with_and_without_scale_and_bias)
{
    for (int64_t groups = 1; groups <= 4; groups *= 2)
        for (int affine = 0; affine < 3; affine++) {
            pattern p = start(17, 4, image);
            group_norm_parts(p.builder, groups, affine);
            check(&p, NULL, "GroupNormalization");
        }
    pattern p = start(17, 4, image);
    group_norm_parts(p.builder, 2, 1);
    check(&p, "normal", "Reshape InstanceNormalization Reshape ScaleShift");
    p = start(17, 4, image);
    group_norm_parts(p.builder, 2, 1);
    check(&p, "n", "GroupNormalization ScaleShift");
    p = start(17, 4, image);
    group_norm_parts(p.builder, 2, 1);
    check(&p, "scaled", "GroupNormalization Add");
}
END_TEST

START_TEST(constants_behind_a_norm_fold_into_it)
{
    for (int opset = 17; opset <= 21; opset++) {
        pattern p = start(opset, 4, image);
        const bool instance = opset == 17;
        const int64_t count = instance ? 4 : opset < 21 ? 2 : 4;
        model_positive(p.builder, "s", 1, &count, 4);
        model_random(p.builder, "t", 1, &count, 3);
        model_positive(p.builder, "gamma", 3, (int64_t[]){4, 1, 1}, 5);
        model_scalar(p.builder, "beta", 0.25f);
        model_node(p.builder, instance ? "InstanceNormalization" : "GroupNormalization", "x s t",
                   "n");
        if (!instance)
            model_int_attribute(p.builder, "num_groups", 2);
        model_node(p.builder, "Add", "n beta", "a");
        model_node(p.builder, "Mul", "gamma a", "y");
        check(&p, NULL, instance ? "InstanceNormalization" : "GroupNormalization");
    }
    /* One value a row of the plane is none a channel. */
    pattern p = start(17, 4, image);
    model_positive(p.builder, "s", 1, channels, 4);
    model_random(p.builder, "t", 1, channels, 3);
    model_positive(p.builder, "gamma", 2, (int64_t[]){6, 1}, 5);
    model_node(p.builder, "InstanceNormalization", "x s t", "n");
    model_node(p.builder, "Mul", "n gamma", "y");
    check(&p, NULL, "InstanceNormalization Mul");
}
END_TEST

/* Another order of the elements, or other groups than the channels': no GroupNormalization. */
START_TEST(instances_that_are_no_groups_stay)
{
    static const int64_t parts[][3] = {{1, 4, 72}, {2, 8, 18}, {4, 2, 36}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        pattern p = start(17, 4, image);
        model_ints(p.builder, "to_groups", 3, parts[i]);
        model_ints(p.builder, "to_image", 4, image);
        model_positive(p.builder, "s", 1, &parts[i][1], 4);
        model_random(p.builder, "t", 1, &parts[i][1], 3);
        model_node(p.builder, "Reshape", "x to_groups", "grouped");
        model_node(p.builder, "InstanceNormalization", "grouped s t", "n");
        model_node(p.builder, "Reshape", "n to_image", "y");
        check(&p, NULL, "Reshape InstanceNormalization Reshape");
    }
}
END_TEST

static pattern padded(int64_t opset, float value)
{
    pattern p = start(opset, 4, image);
    model_ints(p.builder, "pads", 8, (int64_t[]){0, 0, 1, 0, 0, 0, 2, 1});
    model_scalar(p.builder, "value", value);
    model_node(p.builder, "Pad", "x pads value", "a");
    return p;
}

START_TEST(zero_pad_merges_into_convolution)
{
    pattern p = padded(13, 0);
    model_random(p.builder, "w", 4, (int64_t[]){3, 4, 3, 3}, 1);
    model_node(p.builder, "Conv", "a w", "y");
    model_ints_attribute(p.builder, "pads", 4, (int64_t[]){0, 1, 0, 1});
    model_ints_attribute(p.builder, "strides", 2, (int64_t[]){2, 2});
    check(&p, NULL, "Conv");
    p = start(10, 4, image); /* pads as an attribute */
    model_random(p.builder, "w", 4, (int64_t[]){3, 4, 3, 3}, 1);
    model_node(p.builder, "Pad", "x", "a");
    model_ints_attribute(p.builder, "pads", 8, (int64_t[]){0, 0, 1, 1, 0, 0, 1, 1});
    model_node(p.builder, "Conv", "a w", "y");
    check(&p, NULL, "Conv");
    p = start(18, 4, image); /* with axes */
    model_random(p.builder, "w", 4, (int64_t[]){3, 4, 3, 3}, 1);
    model_ints(p.builder, "pads", 4, (int64_t[]){1, 2, 3, 4});
    model_ints(p.builder, "axes", 2, (int64_t[]){-1, 2});
    model_node(p.builder, "Pad", "x pads - axes", "a");
    model_node(p.builder, "Conv", "a w", "y");
    check(&p, NULL, "Conv");
}
END_TEST

START_TEST(other_pads_stay)
{
    pattern p = padded(13, 1); /* not zero */
    model_random(p.builder, "w", 4, (int64_t[]){3, 4, 3, 3}, 1);
    model_node(p.builder, "Conv", "a w", "y");
    check(&p, NULL, "Pad Conv");
    p = padded(13, 0);
    model_random(p.builder, "w", 4, (int64_t[]){3, 4, 3, 3}, 1);
    model_node(p.builder, "Conv", "a w", "y");
    check(&p, "a", "Pad Conv");
    p = padded(13, 0);
    model_random(p.builder, "w", 4, (int64_t[]){3, 4, 3, 3}, 1);
    model_node(p.builder, "Conv", "a w", "y");
    model_text_attribute(p.builder, "auto_pad", "SAME_UPPER");
    check(&p, NULL, "Pad Conv");
    p = start(13, 4, image); /* reflection */
    model_random(p.builder, "w", 4, (int64_t[]){3, 4, 3, 3}, 1);
    model_ints(p.builder, "pads", 8, (int64_t[]){0, 0, 1, 1, 0, 0, 1, 1});
    model_node(p.builder, "Pad", "x pads", "a");
    model_text_attribute(p.builder, "mode", "reflect");
    model_node(p.builder, "Conv", "a w", "y");
    check(&p, NULL, "Pad Conv");
    p = start(13, 4, image); /* of the channels */
    model_random(p.builder, "w", 4, (int64_t[]){3, 5, 3, 3}, 1);
    model_ints(p.builder, "pads", 8, (int64_t[]){0, 1, 0, 0, 0, 0, 0, 0});
    model_node(p.builder, "Pad", "x pads", "a");
    model_node(p.builder, "Conv", "a w", "y");
    check(&p, NULL, "Pad Conv");
}
END_TEST

START_TEST(zero_pad_merges_into_average_pool_by_counting)
{
    static const struct {
        int64_t own, include;
        const char *left;
    } cases[] = {{0, 0, "AveragePool"},
                 {0, 1, "AveragePool"},
                 {1, 1, "AveragePool"},
                 {1, 0, "Pad AveragePool"}};
    for (size_t i = 0; i < 4; i++) {
        pattern p = padded(13, 0);
        model_node(p.builder, "AveragePool", "a", "y");
        model_ints_attribute(p.builder, "kernel_shape", 2, (int64_t[]){4, 3});
        model_ints_attribute(p.builder, "pads", 4, (int64_t[]){cases[i].own, 0, cases[i].own, 0});
        model_int_attribute(p.builder, "count_include_pad", cases[i].include);
        check(&p, NULL, cases[i].left);
    }
}
END_TEST

START_TEST(only_infinite_pad_merges_into_max_pool)
{
    static const struct {
        float value;
        const char *left;
    } cases[] = {{-INFINITY, "MaxPool"}, {0, "Pad MaxPool"}, {-100, "Pad MaxPool"}};
    for (size_t i = 0; i < 3; i++) {
        pattern p = padded(13, cases[i].value);
        model_node(p.builder, "MaxPool", "a", "y");
        model_ints_attribute(p.builder, "kernel_shape", 2, (int64_t[]){3, 3});
        check(&p, NULL, cases[i].left);
    }
}
END_TEST

START_TEST(means_over_the_plane_become_a_global_pool)
{
    pattern p = start(13, 4, image);
    model_node(p.builder, "ReduceMean", "x", "y");
    model_ints_attribute(p.builder, "axes", 2, (int64_t[]){-1, 2});
    check(&p, NULL, "GlobalAveragePool");
    p = start(18, 4, image);
    model_ints(p.builder, "axes", 2, (int64_t[]){2, 3});
    model_node(p.builder, "ReduceMean", "x axes", "a");
    model_int_attribute(p.builder, "keepdims", 0);
    model_node(p.builder, "Relu", "a", "y");
    check(&p, NULL, "GlobalAveragePool Reshape Relu");
    p = start(13, 4, image);
    model_node(p.builder, "AveragePool", "x", "y");
    model_ints_attribute(p.builder, "kernel_shape", 2, (int64_t[]){6, 6});
    check(&p, NULL, "GlobalAveragePool");
    p = start(13, 4, image);
    model_node(p.builder, "ReduceMean", "x", "y");
    model_ints_attribute(p.builder, "axes", 2, (int64_t[]){1, 2});
    check(&p, NULL, "ReduceMean");
    p = start(13, 4, image); /* padding in the divisor */
    model_node(p.builder, "AveragePool", "x", "y");
    model_ints_attribute(p.builder, "kernel_shape", 2, (int64_t[]){6, 6});
    model_ints_attribute(p.builder, "pads", 4, (int64_t[]){1, 1, 1, 1});
    model_ints_attribute(p.builder, "strides", 2, (int64_t[]){6, 6});
    model_int_attribute(p.builder, "count_include_pad", 1);
    check(&p, NULL, "AveragePool");
}
END_TEST

/* A 1x1 convolution of 6 channels to 3, pooled: x (2, 6, 8, 6) */
static pattern pooled_convolution(const char *attribute, size_t count, const int64_t *values)
{
    pattern p = start(17, 4, (int64_t[]){2, 6, 8, 6});
    model_builder *m = p.builder;
    model_random(m, "w", 4, (int64_t[]){3, 6, 1, 1}, 1);
    model_random(m, "bias", 1, (int64_t[]){3}, 2);
    model_node(m, "Conv", "x w bias", "c");
    model_node(m, "AveragePool", "c", "y");
    model_ints_attribute(m, "kernel_shape", 2, (int64_t[]){2, 2});
    model_ints_attribute(m, attribute, count, values);
    return p;
}

START_TEST(average_pool_goes_before_a_pointwise_convolution)
{
    static const int64_t two[] = {2, 2}, one[] = {1, 1};
    pattern p = pooled_convolution("strides", 2, two);
    check(&p, NULL, "AveragePool Conv");
    p = pooled_convolution("strides", 2, two); /* a value that is asked for must be there */
    check(&p, "c", "Conv AveragePool");
    p = pooled_convolution("strides", 2, one); /* nothing to gain */
    check(&p, NULL, "Conv AveragePool");
    p = pooled_convolution("strides", 2, two); /* counted zeros have no bias */
    model_builder *m = p.builder;
    model_ints_attribute(m, "pads", 4, (int64_t[]){1, 1, 0, 0});
    model_int_attribute(m, "count_include_pad", 1);
    check(&p, NULL, "Conv AveragePool");
    p = pooled_convolution("strides", 2, two);
    model_int_attribute(p.builder, "ceil_mode", 1);
    check(&p, NULL, "Conv AveragePool");

    p = start(17, 4, (int64_t[]){2, 6, 8, 6}); /* the convolution leaves out places itself */
    m = p.builder;
    model_random(m, "w", 4, (int64_t[]){3, 6, 1, 1}, 1);
    model_node(m, "Conv", "x w", "c");
    model_ints_attribute(m, "strides", 2, two);
    model_node(m, "AveragePool", "c", "y");
    model_ints_attribute(m, "kernel_shape", 2, two);
    model_ints_attribute(m, "strides", 2, two);
    check(&p, NULL, "Conv AveragePool");

    p = start(17, 4, (int64_t[]){2, 6, 8, 6}); /* DenseNet's transition */
    m = p.builder;
    model_random(m, "w", 4, (int64_t[]){3, 6, 1, 1}, 1);
    batch_norm(m, "x", "n", 6);
    model_node(m, "Relu", "n", "r");
    model_node(m, "Conv", "r w", "c");
    model_node(m, "AveragePool", "c", "y");
    model_ints_attribute(m, "kernel_shape", 2, two);
    model_ints_attribute(m, "strides", 2, two);
    check(&p, NULL, "ScaleShift Relu AveragePool Conv");

    p = start(17, 4, (int64_t[]){2, 6, 8, 6}); /* no linear layer */
    m = p.builder;
    model_random(m, "w", 4, (int64_t[]){3, 6, 1, 1}, 1);
    model_node(m, "Conv", "x w", "c");
    model_node(m, "Relu", "c", "r");
    model_node(m, "AveragePool", "r", "y");
    model_ints_attribute(m, "kernel_shape", 2, two);
    model_ints_attribute(m, "strides", 2, two);
    check(&p, NULL, "Conv Relu AveragePool");

    p = start(17, 4, (int64_t[]){2, 6, 8, 6}); /* a window of 3x3 is no point */
    m = p.builder;
    model_random(m, "w", 4, (int64_t[]){3, 6, 3, 3}, 1);
    model_node(m, "Conv", "x w", "c");
    model_node(m, "AveragePool", "c", "y");
    model_ints_attribute(m, "kernel_shape", 2, two);
    model_ints_attribute(m, "strides", 2, two);
    check(&p, NULL, "Conv AveragePool");
}
END_TEST

/* Relevance by layer depends on which layer comes first. */
START_TEST(layers_stay_in_order_for_rules_by_layer)
{
    pattern p = pooled_convolution("strides", 2, (int64_t[]){2, 2});
    model_output(p.builder, "y");
    onnx_model *file;
    graph *source = model_graph(p.builder, &file), *made = NULL;
    char left[64];
    ck_assert_int_eq(
        graph_specialise(source, &p.input, NULL, 0, GRAPH_REWRITES_LAYERS, &made, NULL), XAI_OK);
    operators_text(made, left, sizeof left);
    ck_assert_str_eq(left, "Conv AveragePool");
    graph_free(made);
    graph_free(source);
    onnx_model_free(file);
    model_free(p.builder);
}
END_TEST

START_TEST(matrix_product_with_bias_becomes_gemm)
{
    pattern p = start(13, 2, (int64_t[]){3, 4});
    model_random(p.builder, "w", 2, (int64_t[]){4, 5}, 1);
    model_random(p.builder, "bias", 1, (int64_t[]){5}, 2);
    model_node(p.builder, "MatMul", "x w", "a");
    model_node(p.builder, "Add", "bias a", "y");
    check(&p, NULL, "Gemm");
    p = start(13, 2, (int64_t[]){3, 4});
    model_random(p.builder, "w", 2, (int64_t[]){4, 5}, 1);
    model_random(p.builder, "bias", 1, (int64_t[]){5}, 2);
    model_node(p.builder, "MatMul", "x w", "a");
    model_node(p.builder, "Add", "bias a", "y");
    check(&p, "a", "Gemm Add");
    p = start(13, 3, (int64_t[]){2, 3, 4}); /* rows of tokens stay */
    model_random(p.builder, "w", 2, (int64_t[]){4, 5}, 1);
    model_random(p.builder, "bias", 1, (int64_t[]){5}, 2);
    model_node(p.builder, "MatMul", "x w", "a");
    model_node(p.builder, "Add", "bias a", "y");
    check(&p, NULL, "MatMul Add");
}
END_TEST

/* x (2, 3, 5, 4) -> product, bias, Transpose to channels first, one factor a channel */
static pattern layer_scale(const int64_t perm[4], int64_t width)
{
    pattern p = start(17, 4, (int64_t[]){2, 3, 5, 4});
    model_builder *m = p.builder;
    model_random(m, "w", 2, (int64_t[]){4, 6}, 1);
    model_random(m, "bias", 1, (int64_t[]){6}, 2);
    model_random(m, "scale", 3, (int64_t[]){width, 1, 1}, 3);
    model_node(m, "MatMul", "x w", "a");
    model_node(m, "Add", "a bias", "b");
    model_node(m, "Transpose", "b", "t");
    model_ints_attribute(m, "perm", 4, perm);
    model_node(m, "Mul", "scale t", "y");
    return p;
}

START_TEST(layer_scale_folds_into_the_product)
{
    static const int64_t first[] = {0, 3, 1, 2}, other[] = {0, 2, 3, 1};
    pattern p = layer_scale(first, 6);
    check(&p, NULL, "MatMul Add Transpose");
    p = layer_scale(first, 6);
    check(&p, "t", "MatMul Add Transpose Mul");
    p = layer_scale(first, 6);
    check(&p, "b", "MatMul Add Mul Transpose");
    p = layer_scale(first, 6);
    check(&p, "a", "MatMul Add Mul Transpose");
    p = layer_scale(other, 5); /* the factors lie along an axis that the product does not make */
    check(&p, NULL, "MatMul Add Mul Transpose");
}
END_TEST

/* x (2, 3, 4, 5) -> a = Exp(x) -> t, its channels last */
static pattern channels_last(void)
{
    pattern p = start(17, 4, (int64_t[]){2, 3, 4, 5});
    model_node(p.builder, "Softmax", "x", "a");
    model_node(p.builder, "Transpose", "a", "t");
    model_ints_attribute(p.builder, "perm", 4, (int64_t[]){0, 2, 3, 1});
    return p;
}

static void channels_first(model_builder *m, const char *from, const char *to)
{
    model_node(m, "Transpose", from, to);
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 3, 1, 2});
}

START_TEST(transposes_pass_what_works_on_elements)
{
    static const char *const kept[] = {NULL, "s"},
                             *const left[] = {
                                 "Softmax ScaleShift Tanh Sigmoid Mul Clip",
                                 "Softmax ScaleShift Tanh Sigmoid Transpose Transpose Mul Clip"};
    for (int i = 0; i < 2; i++) {
        pattern p = channels_last();
        model_builder *m = p.builder;
        model_random(m, "row", 1, (int64_t[]){3}, 2);
        model_random(m, "rows", 3, (int64_t[]){1, 1, 3}, 3);
        model_scalar(m, "low", -0.25f);
        model_scalar(m, "high", 0.25f);
        model_node(m, "Mul", "row t", "b");
        model_node(m, "Add", "b rows", "c");
        model_node(m, "Tanh", "c", "r");
        model_node(m, "Sigmoid", "c", "s");
        model_node(m, "Mul", "r s", "d");
        model_node(m, "Clip", "d low high", "e");
        channels_first(m, "e", "y");
        check(&p, kept[i], left[i]);
    }
}
END_TEST

START_TEST(transposes_pass_broadcasts_over_the_plane)
{
    pattern p = channels_last();
    model_builder *m = p.builder;
    model_random(m, "plane", 4, (int64_t[]){1, 4, 5, 1}, 2);
    model_random(m, "all", 4, (int64_t[]){2, 4, 5, 3}, 3);
    model_random(m, "w", 4, (int64_t[]){3, 3, 1, 1}, 4);
    model_node(m, "ReduceMean", "t", "m");
    model_ints_attribute(m, "axes", 2, (int64_t[]){1, 2});
    channels_first(m, "m", "n");
    model_node(m, "Conv", "n w", "o");
    model_node(m, "Transpose", "o", "gate");
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 2, 3, 1});
    model_node(m, "Mul", "gate t", "b");
    model_node(m, "Add", "b plane", "c");
    model_node(m, "Sub", "all c", "d");
    channels_first(m, "d", "y");
    check(&p, NULL, "Softmax GlobalAveragePool Conv Mul Add Sub");
}
END_TEST

START_TEST(transposes_pass_what_works_along_axes)
{
    pattern p = channels_last();
    model_builder *m = p.builder;
    model_ints(m, "pads", 8, (int64_t[]){0, 1, 0, 0, 0, 2, 3, 1});
    model_ints(m, "from", 2, (int64_t[]){-1, 1});
    model_ints(m, "to", 2, (int64_t[]){-99, 9});
    model_ints(m, "axes", 2, (int64_t[]){1, -1});
    model_ints(m, "steps", 2, (int64_t[]){-1, 2});
    model_node(m, "Pad", "t pads", "b");                 /* (2, 7, 8, 4) */
    model_node(m, "Slice", "b from to axes steps", "c"); /* (2, 7, 8, 2) */
    model_node(m, "Concat", "c b", "d");
    model_int_attribute(m, "axis", -1);
    model_node(m, "ReduceMax", "d", "e"); /* (2, 7, 6) */
    model_ints_attribute(m, "axes", 1, (int64_t[]){2});
    model_int_attribute(m, "keepdims", 0);
    model_node(m, "Transpose", "e", "y");
    model_ints_attribute(m, "perm", 3, (int64_t[]){0, 2, 1});
    check(&p, NULL, "Softmax Pad Slice Concat ReduceMax");
}
END_TEST

START_TEST(transposes_pass_pads_of_some_axes)
{
    pattern p = start(18, 4, (int64_t[]){2, 3, 4, 5});
    model_builder *m = p.builder;
    model_node(m, "Softmax", "x", "a");
    model_node(m, "Transpose", "a", "t");
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 2, 3, 1});
    model_ints(m, "pads", 4, (int64_t[]){1, 0, 2, -1});
    model_ints(m, "axes", 2, (int64_t[]){-2, 1});
    model_scalar(m, "fill", 0.5f);
    model_node(m, "Pad", "t pads fill axes", "b");
    model_ints(m, "plane", 2, (int64_t[]){1, 2});
    model_node(m, "ReduceSum", "b plane", "y");
    model_int_attribute(m, "keepdims", 0);
    check(&p, NULL, "Softmax Pad ReduceSum");
}
END_TEST

START_TEST(transposes_stay_before_what_reads_the_last_axis)
{
    static const char *const ops[] = {"ReduceMean", "LogSoftmax"};
    static const char *const left[] = {"Softmax Transpose ReduceMean Sub",
                                       "Softmax Transpose LogSoftmax Sub"};
    for (int i = 0; i < 2; i++) {
        pattern p = channels_last();
        model_node(p.builder, ops[i], "t", "b");
        if (i == 0)
            model_ints_attribute(p.builder, "axes", 1, (int64_t[]){3});
        model_node(p.builder, "Sub", "t b", "y");
        check(&p, NULL, left[i]);
    }
}
END_TEST

START_TEST(kept_transpose_is_not_passed_by)
{
    pattern p = channels_last();
    model_node(p.builder, "Sigmoid", "t", "b");
    channels_first(p.builder, "b", "y");
    check(&p, "t", "Softmax Transpose Sigmoid Transpose");
}
END_TEST

/* Another order of axes is nobody's business here. */
START_TEST(transposes_of_rows_stay)
{
    pattern p = start(17, 4, (int64_t[]){2, 3, 4, 5});
    model_node(p.builder, "Softmax", "x", "a");
    model_node(p.builder, "Transpose", "a", "t");
    model_ints_attribute(p.builder, "perm", 4, (int64_t[]){1, 0, 2, 3});
    model_node(p.builder, "Sigmoid", "t", "y");
    check(&p, NULL, "Softmax Transpose Sigmoid");
}
END_TEST

START_TEST(transpose_of_the_image_comes_before_its_rescaling)
{
    pattern p = start(17, 4, (int64_t[]){2, 4, 5, 3});
    model_builder *m = p.builder;
    model_scalar(m, "s", 0.5f);
    model_random(m, "mean", 1, (int64_t[]){3}, 2);
    model_random(m, "w", 4, (int64_t[]){4, 3, 1, 1}, 4);
    model_node(m, "Mul", "x s", "a");
    model_node(m, "Sub", "a mean", "b");
    channels_first(m, "b", "c");
    model_node(m, "Conv", "c w", "y");
    check(&p, NULL, "Transpose ScaleShift Conv");
}
END_TEST

START_TEST(rewrites_follow_each_other)
{
    /* Pad, convolution, batch norm, hard swish, mean: one node each way */
    pattern p = padded(13, 0);
    model_builder *m = p.builder;
    model_random(m, "w", 4, (int64_t[]){4, 4, 3, 3}, 1);
    model_node(m, "Conv", "a w", "c");
    batch_norm(m, "c", "n", 4);
    clip6(m, "n", "clipped");
    model_node(m, "Mul", "n clipped", "p");
    model_node(m, "Div", "p six", "h");
    model_node(m, "ReduceMean", "h", "y");
    model_ints_attribute(m, "axes", 2, (int64_t[]){2, 3});
    check(&p, NULL, "Conv HardSwish GlobalAveragePool");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rewrites");
    TCase *rules = tcase_create("rules");
    tcase_add_test(rules, nodes_that_change_nothing_vanish);
    tcase_add_test(rules, kept_identity_stays);
    tcase_add_test(rules, changing_nodes_are_not_taken_for_identities);
    tcase_add_test(rules, views_of_views_and_transposes_of_transposes_merge);
    tcase_add_test(rules, transpose_of_unit_axes_is_a_view);
    tcase_add_test(rules, gather_goes_before_transpose);
    tcase_add_test(rules, batch_norm_folds_into_convolution);
    tcase_add_test(rules, batch_norm_folds_into_transposed_convolution);
    tcase_add_test(rules, batch_norm_folds_into_gemm);
    tcase_add_test(rules, per_channel_arithmetic_folds_into_convolution);
    tcase_add_test(rules, arithmetic_along_other_axes_does_not_fold);
    tcase_add_test(rules, kept_convolution_output_stops_folding);
    tcase_add_test(rules, second_reader_of_a_convolution_stops_folding);
    tcase_add_test(rules, convolution_of_a_weight_at_run_time_is_not_folded);
    tcase_add_test(rules, lone_batch_norm_becomes_scale_shift);
    tcase_add_test(rules, per_channel_chain_becomes_scale_shift);
    tcase_add_test(rules, broken_batch_norm_is_left_alone);
    tcase_add_test(rules, silu_is_found_in_both_orders);
    tcase_add_test(rules, hard_swish_is_found_in_its_exports);
    tcase_add_test(rules, clip_at_zero_is_relu);
    tcase_add_test(rules, one_slope_is_a_leaky_relu);
    tcase_add_test(rules, gelu_is_found_in_every_order);
    tcase_add_test(rules, gelu_with_erfc_is_found);
    tcase_add_test(rules, gelu_with_tanh_is_found);
    tcase_add_test(rules, layer_norm_is_found_with_and_without_scale_and_bias);
    tcase_add_test(rules, group_norm_is_found_with_and_without_scale_and_bias);
    tcase_add_test(rules, constants_behind_a_norm_fold_into_it);
    tcase_add_test(rules, instances_that_are_no_groups_stay);
    tcase_add_test(rules, zero_pad_merges_into_convolution);
    tcase_add_test(rules, other_pads_stay);
    tcase_add_test(rules, zero_pad_merges_into_average_pool_by_counting);
    tcase_add_test(rules, only_infinite_pad_merges_into_max_pool);
    tcase_add_test(rules, means_over_the_plane_become_a_global_pool);
    tcase_add_test(rules, average_pool_goes_before_a_pointwise_convolution);
    tcase_add_test(rules, layers_stay_in_order_for_rules_by_layer);
    tcase_add_test(rules, matrix_product_with_bias_becomes_gemm);
    tcase_add_test(rules, layer_scale_folds_into_the_product);
    tcase_add_test(rules, transposes_pass_what_works_on_elements);
    tcase_add_test(rules, transposes_pass_broadcasts_over_the_plane);
    tcase_add_test(rules, transposes_pass_what_works_along_axes);
    tcase_add_test(rules, transposes_pass_pads_of_some_axes);
    tcase_add_test(rules, transposes_stay_before_what_reads_the_last_axis);
    tcase_add_test(rules, kept_transpose_is_not_passed_by);
    tcase_add_test(rules, transposes_of_rows_stay);
    tcase_add_test(rules, transpose_of_the_image_comes_before_its_rescaling);
    tcase_add_test(rules, rewrites_follow_each_other);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
