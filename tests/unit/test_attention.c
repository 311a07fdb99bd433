/* Attention as one step: the kernels against sums in double, and plans of the ways in which exporters write attention against the
 * portable kernels, forward and backward; where it may not be one step, none is made. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine/engine.h"
#include "engine/kernels_attention.h"
#include "engine/primitive.h"
#include "model_builder.h"

/* ---- kernels ---- */

typedef struct sizes {
    size_t items, queries, keys, depth, width;
    int masks;
    bool transposed; /* k and its gradient stored (depth, keys), y (items, width, queries) */
} sizes;

static float *random_floats(size_t n, unsigned seed)
{
    float *out = malloc((n + 1) * sizeof *out);
    for (size_t i = 0; i < n; i++)
        out[i] = model_uniform(&seed);
    return out;
}

static matrices plain(size_t items, size_t rows, size_t columns, bool transposed)
{
    return (matrices){.rank = 1,
                      .dims = {(int64_t)items},
                      .steps = {(int64_t)(rows * columns)},
                      .row = transposed ? 1 : (int64_t)columns,
                      .column = transposed ? (int64_t)rows : 1};
}

static double at(const matrices *m, const float *x, size_t item, size_t r, size_t c)
{
    return (double)x[matrices_start(m, item) + (int64_t)r * m->row + (int64_t)c * m->column];
}

static void close_to(const matrices *m, const float *x, size_t item, size_t r, size_t c,
                     double want, const char *what)
{
    const double got = at(m, x, item, r, c);
    /* Sums of some hundred terms of size 1. */
    ck_assert_msg(fabs(got - want) <= 2e-6 * (1 + fabs(want)), "%s: %zu %zu %zu: %.9g, want %.9g",
                  what, item, r, c, got, want);
}

/* Everything of one item in double. */
static void check_item(const attention *a, size_t item, const float *q, const float *k,
                       const float *v, const float *const *masks, const float *gy,
                       const float *weights, const float *y, const float *gq, const float *gk,
                       const float *gv)
{
    const size_t m = a->queries, n = a->keys;
    double *p = calloc(m * n, sizeof *p), *slopes = calloc(m * n, sizeof *slopes);
    for (size_t i = 0; i < m; i++) {
        double top = -INFINITY, sum = 0, inner = 0;
        for (size_t j = 0; j < n; j++) {
            double s = 0;
            for (size_t d = 0; d < a->depth; d++)
                s += at(&a->q, q, item, i, d) * at(&a->k, k, item, j, d);
            s *= (double)a->scale;
            for (int x = 0; x < a->mask_count; x++)
                s += at(&a->masks[x], masks[x], item, i, j);
            p[i * n + j] = s;
            top = s > top ? s : top;
        }
        for (size_t j = 0; j < n; j++)
            sum += p[i * n + j] = exp(p[i * n + j] - top);
        for (size_t j = 0; j < n; j++) {
            double g = 0;
            p[i * n + j] /= sum;
            ck_assert_double_eq_tol((double)weights[(item * m + i) * n + j], p[i * n + j], 1e-6);
            for (size_t w = 0; w < a->width; w++)
                g += at(&a->y, gy, item, i, w) * at(&a->v, v, item, j, w);
            slopes[i * n + j] = g;
            inner += g * p[i * n + j];
        }
        for (size_t j = 0; j < n; j++)
            slopes[i * n + j] = p[i * n + j] * (slopes[i * n + j] - inner) * (double)a->scale;
        for (size_t w = 0; w < a->width; w++) {
            double want = 0;
            for (size_t j = 0; j < n; j++)
                want += p[i * n + j] * at(&a->v, v, item, j, w);
            close_to(&a->y, y, item, i, w, want, "y");
        }
        for (size_t d = 0; d < a->depth; d++) {
            double want = 0;
            for (size_t j = 0; j < n; j++)
                want += slopes[i * n + j] * at(&a->k, k, item, j, d);
            close_to(&a->q, gq, item, i, d, want, "gradient of q");
        }
    }
    for (size_t j = 0; j < n; j++) {
        for (size_t d = 0; d < a->depth; d++) {
            double want = 1; /* it was 1 before */
            for (size_t i = 0; i < m; i++)
                want += slopes[i * n + j] * at(&a->q, q, item, i, d);
            close_to(&a->k, gk, item, j, d, want, "gradient of k");
        }
        for (size_t w = 0; w < a->width; w++) {
            double want = 0;
            for (size_t i = 0; i < m; i++)
                want += p[i * n + j] * at(&a->y, gy, item, i, w);
            close_to(&a->v, gv, item, j, w, want, "gradient of v");
        }
    }
    free(p);
    free(slopes);
}

static void check_kernels(const sizes *s)
{
    attention a = {.items = s->items,
                   .queries = s->queries,
                   .keys = s->keys,
                   .depth = s->depth,
                   .width = s->width,
                   .mask_count = s->masks,
                   .scale = -0.75f};
    a.q = plain(s->items, s->queries, s->depth, false);
    a.k = plain(s->items, s->keys, s->depth, s->transposed);
    a.v = plain(s->items, s->keys, s->width, false);
    a.y = plain(s->items, s->queries, s->width, s->transposed);
    a.masks[0] = plain(s->items, s->queries, s->keys, false);
    a.masks[1] = plain(s->items, 0, s->keys, false); /* one row for all */
    a.masks[1].row = 0;
    a.masks[1].steps[0] = (int64_t)s->keys;
    const size_t nq = s->items * s->queries * s->depth, nk = s->items * s->keys * s->depth,
                 nv = s->items * s->keys * s->width, ny = s->items * s->queries * s->width,
                 nw = s->items * s->queries * s->keys;
    float *q = random_floats(nq, 1), *k = random_floats(nk, 2), *v = random_floats(nv, 3),
          *gy = random_floats(ny, 4),
          *masks[2] = {random_floats(nw, 5), random_floats(s->items * s->keys, 6)};
    float *out[2][6]; /* weights, y, slopes, gq, gk, gv, by one thread and by three */
    const size_t counts[6] = {nw, ny, nw, nq, nk, nv};
    for (int t = 0; t < 2; t++) {
        const int threads = t == 0 ? 1 : 3;
        float **o = out[t];
        void *scratch = malloc(attention_scratch_bytes(&a, threads));
        /* What is left over from other steps must not matter. */
        memset(scratch, 0xFF, attention_scratch_bytes(&a, threads));
        for (int i = 0; i < 6; i++)
            o[i] = random_floats(counts[i], 9);
        for (size_t i = 0; i < nk; i++)
            o[4][i] = 1;
        kernel_attention(&a, q, k, v, (const float *const *)masks, o[0], o[1], scratch, threads);
        kernel_attention_backward_queries(&a, k, v, o[0], gy, o[2],
                                          (attention_gradient){o[3], false}, scratch, threads);
        kernel_attention_backward_keys(&a, q, o[0], o[2], gy, (attention_gradient){o[4], true},
                                       (attention_gradient){o[5], false}, scratch, threads);
        free(scratch);
    }
    for (size_t item = 0; item < s->items; item++)
        check_item(&a, item, q, k, v, (const float *const *)masks, gy, out[0][0], out[0][1],
                   out[0][3], out[0][4], out[0][5]);
    for (int i = 0; i < 6; i++)
        ck_assert_mem_eq(out[0][i], out[1][i], counts[i] * sizeof(float));
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < 6; i++)
            free(out[t][i]);
    free(q), free(k), free(v), free(gy), free(masks[0]), free(masks[1]);
}

START_TEST(kernels_agree_with_sums_in_double)
{
    static const sizes cases[] = {
        {2, 6, 16, 8, 16, 0, false},  {3, 49, 49, 32, 32, 2, false}, {1, 1, 1, 1, 1, 0, false},
        {2, 13, 25, 5, 3, 1, true},   {3, 7, 40, 17, 24, 2, true},   {1, 5, 700, 4, 9, 1, false},
        {5, 30, 8, 64, 33, 0, false}, {1, 64, 9, 12, 7, 1, false},   {2, 4, 23, 16, 16, 0, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_kernels(&cases[i]);
}
END_TEST

/* Rows far from zero, and keys that a mask excludes. */
START_TEST(large_scores_and_excluded_keys)
{
    const size_t n = 19;
    attention a = {.items = 1, .queries = 2, .keys = n, .depth = 1, .width = 1, .scale = 1};
    a.q = plain(1, 2, 1, false), a.k = plain(1, n, 1, false);
    a.v = plain(1, n, 1, false), a.y = plain(1, 2, 1, false);
    a.mask_count = 1;
    a.masks[0] = plain(1, 2, n, false);
    float q[2] = {1e18f, NAN}, k[19], v[19], mask[38] = {0}, y[2], weights[38];
    for (size_t i = 0; i < n; i++) {
        k[i] = 1e18f * (float)i;
        v[i] = (float)i;
        mask[i] = i >= 18 ? -INFINITY : 0;
    }
    const float *const masks[2] = {mask, NULL};
    void *scratch = malloc(attention_scratch_bytes(&a, 1));
    kernel_attention(&a, q, k, v, masks, weights, y, scratch, 1);
    ck_assert_float_eq(y[0], 17);
    ck_assert_float_eq(weights[18], 0);
    ck_assert_msg(isnan(y[1]), "a NaN has vanished");
    free(scratch);
}
END_TEST

/* ---- plans ---- */

typedef struct result {
    float *score, *gradient;
    size_t count, inputs;
    size_t fused; /* steps that are a whole attention, forward */
} result;

/* Forward on random inputs, then `seeds` backward passes from random seeds; the last one's gradient of `of`. */
static result evaluate(const network *net, const char *of, const char *wanted, int precision,
                       int threads, int seeds)
{
    const graph *g = network_graph(net);
    xai_error *error = NULL;
    shape shapes[3];
    tensor inputs[3];
    const tensor *pointers[3], *view;
    plan *p = NULL;
    run *state = NULL;
    result out = {0};
    unsigned random = 7;
    const int value = of ? graph_find(g, of) : GRAPH_NONE,
              other = wanted ? graph_find(g, wanted) : GRAPH_NONE;
    for (size_t i = 0; i < g->input_count; i++)
        shapes[i] = g->values[g->inputs[i]].shape;
    const plan_request request = {.input_shapes = shapes,
                                  .wanted = &other,
                                  .wanted_count = wanted ? 1 : 0,
                                  .seeds = g->outputs,
                                  .seed_count = of ? 1 : 0,
                                  .gradients = &value,
                                  .gradient_count = of ? 1 : 0,
                                  .precision = precision,
                                  .threads = threads};
    ck_assert_msg(plan_create((network *)(uintptr_t)net, &request, &p, &error) == XAI_OK, "%s",
                  error ? xai_error_message(error) : "no message");
    for (size_t i = 0; i < plan_step_count(p); i++) {
        plan_step_facts facts;
        plan_step(p, i, &facts);
        out.fused += !facts.backward && strcmp(facts.implementation, "attention") == 0;
    }
    ck_assert_int_eq(run_create(p, &state, &error), XAI_OK);
    for (size_t i = 0; i < g->input_count; i++) {
        ck_assert_int_eq(tensor_create(&inputs[i], DTYPE_FLOAT, &shapes[i], &error), XAI_OK);
        for (size_t k = 0; k < tensor_count(&inputs[i]); k++)
            tensor_set(&inputs[i], k, (double)model_uniform(&random));
        pointers[i] = &inputs[i];
    }
    ck_assert_int_eq(run_forward(state, pointers, &error), XAI_OK);
    ck_assert_int_eq(run_value(state, g->outputs[0], &view, &error), XAI_OK);
    out.count = tensor_count(view);
    out.score = malloc(out.count * sizeof *out.score);
    tensor_read_floats(view, 0, out.count, out.score);
    float *seed = malloc(out.count * sizeof *seed);
    for (int s = 0; of && s < seeds; s++) {
        unsigned state_of = (unsigned)(20 + seeds - s);
        for (size_t k = 0; k < out.count; k++)
            seed[k] = model_uniform(&state_of);
        ck_assert_int_eq(run_backward(state, g->outputs[0], seed, &error), XAI_OK);
    }
    if (of) {
        ck_assert_int_eq(run_gradient(state, value, &view, &error), XAI_OK);
        out.inputs = tensor_count(view);
        out.gradient = malloc(out.inputs * sizeof *out.gradient);
        tensor_read_floats(view, 0, out.inputs, out.gradient);
    }
    free(seed);
    for (size_t i = 0; i < g->input_count; i++)
        tensor_free(&inputs[i]);
    run_free(state);
    plan_free(p);
    return out;
}

static double distance(const float *a, const float *b, size_t n)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    ck_assert_msg(norm > 0, "nothing but zeros: the test shows nothing");
    return sqrt(difference / norm);
}

static void result_free(result *self)
{
    free(self->score);
    free(self->gradient);
}

/* The plan agrees with the portable kernels, gradient of `of` included (NULL: forward alone), has the same bits on three threads and
 * after other seeds, and makes `fused` attentions into one step each. */
static void agrees(model_builder *m, const char *of, const char *wanted, size_t fused)
{
    onnx_model *file = NULL;
    network *net = NULL;
    xai_error *error = NULL;
    graph *g = model_graph(m, &file);
    ck_assert_int_eq(network_create(g, &net, &error), XAI_OK);
    model_free(m);
    result want = evaluate(net, of, wanted, ENGINE_PRECISION_REFERENCE, 1, 1),
           got = evaluate(net, of, wanted, ENGINE_PRECISION_STANDARD, 1, 1),
           threads = evaluate(net, of, wanted, ENGINE_PRECISION_STANDARD, 3, 3);
    ck_assert_uint_eq(want.fused, 0);
    ck_assert_uint_eq(got.fused, attention_worthwhile() ? fused : 0);
    /* float32 sums of a hundred terms, two layers of them */
    ck_assert_double_le(distance(got.score, want.score, got.count), 5e-6);
    ck_assert_mem_eq(threads.score, got.score, got.count * sizeof(float));
    if (of) {
        const double error_of = distance(got.gradient, want.gradient, got.inputs);
        ck_assert_msg(error_of <= 5e-6, "gradient: %g", error_of);
        ck_assert_mem_eq(threads.gradient, got.gradient, got.inputs * sizeof(float));
    }
    result_free(&want);
    result_free(&got);
    result_free(&threads);
    network_free(net);
    onnx_model_free(file);
}

#define TOKENS 21
#define HEADS 3
#define DEPTH 8
#define WIDTH (HEADS * DEPTH)

static void reshape(model_builder *m, const char *from, const char *to, size_t rank,
                    const int64_t *dims)
{
    char sizes_name[48], inputs[96];
    snprintf(sizes_name, sizeof sizes_name, "%.32s_sizes", to);
    snprintf(inputs, sizeof inputs, "%s %s", from, sizes_name);
    model_ints(m, sizes_name, rank, dims);
    model_node(m, "Reshape", inputs, to);
}

static void transpose(model_builder *m, const char *from, const char *to, size_t rank,
                      const int64_t *perm)
{
    model_node(m, "Transpose", from, to);
    model_ints_attribute(m, "perm", rank, perm);
}

static void product(model_builder *m, const char *from, const char *to, int64_t in, int64_t out)
{
    char weights[32], inputs[64];
    snprintf(weights, sizeof weights, "w_%s", to);
    snprintf(inputs, sizeof inputs, "%s %s", from, weights);
    model_random(m, weights, 2, (int64_t[]){in, out}, (unsigned)(out + to[0]));
    model_node(m, "MatMul", inputs, to);
}

/* (windows, TOKENS, parts, HEADS, DEPTH) -> "moved" (parts, windows, HEADS, TOKENS, DEPTH) */
static model_builder *packed(int64_t windows, int64_t parts)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 3, (int64_t[]){windows, TOKENS, WIDTH});
    product(m, "x", "qkv", WIDTH, parts * WIDTH);
    reshape(m, "qkv", "five", 5, (int64_t[]){windows, TOKENS, parts, HEADS, DEPTH});
    transpose(m, "five", "moved", 5, (int64_t[]){2, 0, 3, 1, 4});
    return m;
}

static void gathers(model_builder *m)
{
    static const char *const names[] = {"q", "k", "v"},
                             *const inputs[] = {"moved i0", "moved i1", "moved i2"},
                             *const index[] = {"i0", "i1", "i2"};
    for (int i = 0; i < 3; i++) {
        const int64_t at_index = i;
        model_tensor(m, index[i], DTYPE_INT64, 0, NULL, &at_index, sizeof at_index);
        model_node(m, "Gather", inputs[i], names[i]);
        model_int_attribute(m, "axis", 0);
    }
}

/* "mixed" (windows, HEADS, TOKENS, DEPTH) -> the output, with a product that is no identity */
static void leave(model_builder *m, int64_t windows)
{
    transpose(m, "mixed", "back", 4, (int64_t[]){0, 2, 1, 3});
    reshape(m, "back", "rows", 3, (int64_t[]){windows, TOKENS, WIDTH});
    product(m, "rows", "y", WIDTH, 5);
    model_output(m, "y");
}

static void scores(model_builder *m, const char *q, const char *k)
{
    char inputs[64];
    snprintf(inputs, sizeof inputs, "%s %s", q, k);
    model_node(m, "MatMul", inputs, "scores");
}

static void weigh(model_builder *m, const char *from, const char *v)
{
    char inputs[64];
    model_node(m, "Softmax", from, "weights");
    model_int_attribute(m, "axis", -1);
    snprintf(inputs, sizeof inputs, "weights %s", v);
    model_node(m, "MatMul", inputs, "mixed");
}

/* As PyTorch exports scaled_dot_product_attention of a packed projection, numbers on both sides. */
static model_builder *split_heads(void)
{
    model_builder *m = packed(1, 3);
    model_scalar(m, "root", 0.61f);
    model_ints(m, "first", 1, (int64_t[]){0});
    model_ints(m, "ones", 3, (int64_t[]){1, 1, 1});
    model_node(m, "Split", "moved ones", "q5 k5 v5");
    model_int_attribute(m, "axis", 0);
    model_node(m, "Squeeze", "q5 first", "q");
    model_node(m, "Squeeze", "k5 first", "k");
    model_node(m, "Squeeze", "v5 first", "v");
    transpose(m, "k", "kt", 4, (int64_t[]){0, 1, 3, 2});
    model_node(m, "Mul", "q root", "qs");
    model_node(m, "Mul", "root kt", "ks");
    scores(m, "qs", "ks");
    weigh(m, "scores", "v");
    leave(m, 1);
    return m;
}

START_TEST(packed_heads_are_one_step)
{
    agrees(split_heads(), "x", NULL, 1);
    agrees(split_heads(), NULL, NULL, 1);
    agrees(split_heads(), "qkv", NULL, 1);
}
END_TEST

START_TEST(wanted_values_inside_are_made)
{
    agrees(split_heads(), "x", "weights", 0);
    agrees(split_heads(), "x", "scores", 0);
    agrees(split_heads(), "scores", NULL, 0);
    agrees(split_heads(), "x", "moved", 1); /* the heads are moved, but read from there */
    agrees(split_heads(), "k5", NULL, 1);
    agrees(split_heads(), "x", "mixed", 1);
    agrees(split_heads(), "mixed", NULL, 1);
    agrees(split_heads(), "x", "back", 1);
}
END_TEST

/* Windows with a bias of relative positions, and a mask of shifted windows reached through a Reshape, as Swin. */
static model_builder *windows_with_masks(bool number_behind)
{
    model_builder *m = packed(4, 3);
    gathers(m);
    model_scalar(m, "scale", 0.35f);
    model_node(m, "Mul", "q scale", "qs");
    transpose(m, "k", "kt", 4, (int64_t[]){0, 1, 3, 2});
    scores(m, "qs", "kt");
    model_random(m, "bias", 4, (int64_t[]){1, HEADS, TOKENS, TOKENS}, 71);
    model_random(m, "shifted", 5, (int64_t[]){1, 4, 1, TOKENS, TOKENS}, 72);
    model_node(m, "Add", "scores bias", "biased");
    reshape(m, "biased", "biased5", 5, (int64_t[]){1, 4, HEADS, TOKENS, TOKENS});
    model_node(m, "Add", "biased5 shifted", "masked5");
    reshape(m, "masked5", "masked", 4, (int64_t[]){4, HEADS, TOKENS, TOKENS});
    if (number_behind)
        model_node(m, "Mul", "masked scale", "logits");
    weigh(m, number_behind ? "logits" : "masked", "v");
    leave(m, 4);
    return m;
}

START_TEST(masks_are_added_on_the_way)
{
    agrees(windows_with_masks(false), "x", NULL, 1);
    agrees(windows_with_masks(false), NULL, NULL, 1);
    agrees(windows_with_masks(true), "x", NULL, 0); /* the number multiplies the masks, too */
}
END_TEST

/* Projections of their own, a number behind the scores, a computed mask of one row; queries of another input. */
static model_builder *crossed(void)
{
    model_builder *m = model_create(17);
    const int64_t memory = 33;
    model_input(m, "x", DTYPE_FLOAT, 3, (int64_t[]){1, TOKENS, WIDTH});
    model_input(m, "z", DTYPE_FLOAT, 3, (int64_t[]){1, memory, WIDTH});
    model_input(m, "hidden", DTYPE_FLOAT, 4, (int64_t[]){1, 1, 1, memory});
    model_scalar(m, "far", -3.0f);
    model_scalar(m, "root", 2.5f);
    product(m, "x", "p", WIDTH, WIDTH);
    product(m, "z", "r", WIDTH, WIDTH);
    product(m, "z", "s", WIDTH, WIDTH);
    reshape(m, "p", "p4", 4, (int64_t[]){1, TOKENS, HEADS, DEPTH});
    reshape(m, "r", "r4", 4, (int64_t[]){1, memory, HEADS, DEPTH});
    reshape(m, "s", "s4", 4, (int64_t[]){1, memory, HEADS, DEPTH});
    transpose(m, "p4", "q", 4, (int64_t[]){0, 2, 1, 3});
    transpose(m, "r4", "kt", 4, (int64_t[]){0, 2, 3, 1});
    transpose(m, "s4", "v", 4, (int64_t[]){0, 2, 1, 3});
    scores(m, "q", "kt");
    model_node(m, "Div", "scores root", "divided");
    model_node(m, "Mul", "hidden far", "mask");
    model_node(m, "Add", "mask divided", "masked");
    weigh(m, "masked", "v");
    leave(m, 1);
    return m;
}

START_TEST(queries_of_another_input_and_a_computed_mask)
{
    agrees(crossed(), "x", NULL, 1);
    agrees(crossed(), "z", NULL, 1);
    agrees(crossed(), "s", NULL, 1);
    agrees(crossed(), "r4", NULL, 1);
    agrees(crossed(), "hidden", NULL, 0); /* the mask's gradient is no part of it */
}
END_TEST

/* The tokens themselves are queries, keys and values: their gradients overlap. */
static model_builder *of_itself(void)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 3, (int64_t[]){1, TOKENS, WIDTH});
    reshape(m, "x", "four", 4, (int64_t[]){1, TOKENS, HEADS, DEPTH});
    transpose(m, "four", "q", 4, (int64_t[]){0, 2, 1, 3});
    transpose(m, "four", "kt", 4, (int64_t[]){0, 2, 3, 1});
    scores(m, "q", "kt");
    weigh(m, "scores", "q");
    leave(m, 1);
    return m;
}

START_TEST(parts_that_overlap)
{
    agrees(of_itself(), "x", NULL, 0);
    agrees(of_itself(), NULL, NULL, 1);
}
END_TEST

/* A fourth part that nobody, or somebody else, reads; and a second reader of the packed value, before and behind. */
static model_builder *four_parts(bool read_fourth, bool read_packed)
{
    model_builder *m = packed(1, 4);
    gathers(m);
    transpose(m, "k", "kt", 4, (int64_t[]){0, 1, 3, 2});
    scores(m, "q", "kt");
    weigh(m, "scores", "v");
    transpose(m, "mixed", "back", 4, (int64_t[]){0, 2, 1, 3});
    reshape(m, "back", "rows", 3, (int64_t[]){1, TOKENS, WIDTH});
    product(m, "rows", "y1", WIDTH, 5);
    if (read_fourth) {
        const int64_t three = 3;
        model_tensor(m, "i3", DTYPE_INT64, 0, NULL, &three, sizeof three);
        model_node(m, "Gather", "moved i3", "fourth");
        model_int_attribute(m, "axis", 0);
        model_node(m, "Tanh", "fourth", "fourth_tanh");
        reshape(m, "fourth_tanh", "fourth_rows", 3, (int64_t[]){1, TOKENS, WIDTH});
        product(m, "fourth_rows", "y2", WIDTH, 5);
    } else if (read_packed) {
        product(m, "qkv", "y2", 4 * WIDTH, 5);
    } else {
        product(m, "x", "y2", WIDTH, 5);
    }
    model_node(m, "Add", "y1 y2", "y");
    model_output(m, "y");
    return m;
}

START_TEST(parts_of_a_larger_value)
{
    agrees(four_parts(false, false), "x", NULL, 1);
    agrees(four_parts(true, false), "x", NULL, 1);
    agrees(four_parts(false, true), "x", NULL, 1);
}
END_TEST

/* Three axes, heads joined with the rows as in nn.MultiheadAttention; two layers whose second reads the first. */
START_TEST(heads_as_rows_in_two_layers)
{
    for (int forward = 0; forward < 2; forward++) {
        model_builder *m = model_create(17);
        model_input(m, "x", DTYPE_FLOAT, 3, (int64_t[]){TOKENS, 1, WIDTH});
        model_scalar(m, "small", 0.1f);
        for (int layer = 0; layer < 2; layer++) {
            static const char *const names[2][8] = {
                {"q0", "k0", "v0", "qh0", "kt0", "vh0", "s0", "w0"},
                {"q1", "k1", "v1", "qh1", "kt1", "vh1", "s1", "w1"}};
            const char *const *n = names[layer];
            char text[64];
            for (int i = 0; i < 3; i++) {
                char three[32];
                product(m, layer ? "z" : "x", n[i], WIDTH, WIDTH);
                snprintf(three, sizeof three, "%s_rows", n[i]);
                reshape(m, n[i], three, 3, (int64_t[]){TOKENS, HEADS, DEPTH});
                transpose(m, three, n[3 + i], 3,
                          i == 1 ? (int64_t[]){1, 2, 0} : (int64_t[]){1, 0, 2});
            }
            snprintf(text, sizeof text, "%s %s", n[3], n[4]);
            model_node(m, "MatMul", text, n[6]);
            snprintf(text, sizeof text, "%s small", n[6]);
            model_node(m, "Mul", text, layer ? "l1" : "l0");
            model_node(m, "Softmax", layer ? "l1" : "l0", n[7]);
            model_int_attribute(m, "axis", 2);
            snprintf(text, sizeof text, "%s %s", n[7], n[5]);
            model_node(m, "MatMul", text, layer ? "m1" : "m0");
            transpose(m, layer ? "m1" : "m0", layer ? "t1" : "t0", 3, (int64_t[]){1, 0, 2});
            reshape(m, layer ? "t1" : "t0", layer ? "y" : "z", 3, (int64_t[]){TOKENS, 1, WIDTH});
        }
        model_output(m, "y");
        agrees(m, forward ? NULL : "x", NULL, 2);
    }
}
END_TEST

/* As einops' users and MONAI write it; other equations are no batch of products. */
static model_builder *by_letters(const char *first, const char *second)
{
    model_builder *m = packed(2, 3);
    gathers(m);
    model_scalar(m, "scale", 0.35f);
    model_random(m, "bias", 4, (int64_t[]){1, HEADS, TOKENS, TOKENS}, 71);
    model_node(m, "Einsum", "q k", "dots");
    model_text_attribute(m, "equation", first);
    model_node(m, "Mul", "dots scale", "small");
    model_node(m, "Add", "small bias", "scores");
    model_node(m, "Softmax", "scores", "weights");
    model_int_attribute(m, "axis", -1);
    model_node(m, "Einsum", "weights v", "mixed");
    model_text_attribute(m, "equation", second);
    leave(m, 2);
    return m;
}

START_TEST(products_by_letters)
{
    agrees(by_letters("bhid,bhjd->bhij", "b h i j , b h j d -> b h i d"), "x", NULL, 1);
    agrees(by_letters("blxd,blyd->blxy", "bhxy,bhyd->bhxd"), NULL, NULL, 1);
    agrees(by_letters("bhid,bhjd->bhji", "bhij,bhjd->bhid"), "x", NULL, 0);
    agrees(by_letters("bhid,bhjd->bhij", "bhji,bhjd->bhid"), "x", NULL, 0);
    agrees(by_letters("bhid,bgjd->bhij", "bhij,bhjd->bhid"), "x", NULL, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attention");
    TCase *all = tcase_create("all");
    tcase_set_timeout(all, 300);
    tcase_add_test(all, kernels_agree_with_sums_in_double);
    tcase_add_test(all, large_scores_and_excluded_keys);
    tcase_add_test(all, packed_heads_are_one_step);
    tcase_add_test(all, wanted_values_inside_are_made);
    tcase_add_test(all, masks_are_added_on_the_way);
    tcase_add_test(all, queries_of_another_input_and_a_computed_mask);
    tcase_add_test(all, parts_that_overlap);
    tcase_add_test(all, parts_of_a_larger_value);
    tcase_add_test(all, heads_as_rows_in_two_layers);
    tcase_add_test(all, products_by_letters);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
