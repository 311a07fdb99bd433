/* src/graph: specialisation to concrete shapes: inference, folding, refusals, dead code; and the
 * default layer. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "graph/layers.h"
#include "model_builder.h"

/* A graph, its file and one specialisation. */
typedef struct fixture {
    model_builder *builder;
    onnx_model *file;
    graph *source, *made;
} fixture;

static fixture specialise(model_builder *m, const shape *inputs, const char *keep, bool rewrite)
{
    fixture self = {.builder = m};
    xai_error *error = NULL;
    self.source = model_graph(m, &self.file);
    const int kept = keep ? graph_find(self.source, keep) : GRAPH_NONE;
    const xai_status status =
        graph_specialise(self.source, inputs, &kept, keep ? 1 : 0,
                         rewrite ? GRAPH_REWRITES_ALL : GRAPH_REWRITES_NEEDED, &self.made, &error);
    ck_assert_msg(status == XAI_OK, "%s", error ? xai_error_message(error) : "");
    return self;
}

static void release(fixture *self)
{
    graph_free(self->made);
    graph_free(self->source);
    onnx_model_free(self->file);
    model_free(self->builder);
}

static void refuse(model_builder *m, const shape *inputs, xai_status expected,
                   const char *const *words)
{
    onnx_model *file;
    graph *source = model_graph(m, &file), *made = NULL;
    xai_error *error = NULL;
    const xai_status status =
        graph_specialise(source, inputs, NULL, 0, GRAPH_REWRITES_ALL, &made, &error);
    ck_assert_msg(status == expected, "status %d: %s", status,
                  error ? xai_error_message(error) : "");
    ck_assert_ptr_null(made);
    for (; *words; words++)
        ck_assert_msg(strstr(xai_error_message(error), *words), "'%s' is not in: %s", *words,
                      xai_error_message(error));
    xai_error_free(error);
    graph_free(source);
    onnx_model_free(file);
    model_free(m);
}
#define REFUSE(builder, inputs, status, ...) \
    refuse(builder, inputs, status, (const char *const[]){__VA_ARGS__, NULL})

static size_t live_nodes(const graph *g)
{
    size_t count = 0;
    for (size_t i = 0; i < g->node_count; i++)
        count += !g->nodes[i].removed;
    return count;
}

#define SHAPE(...) \
    shape_make(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

static model_builder *image_model(void)
{
    model_builder *m = model_create(17);
    model_input(m, "image", DTYPE_FLOAT, 4, (int64_t[]){-1, 3, 8, 8});
    model_random(m, "w", 4, (int64_t[]){4, 3, 3, 3}, 1);
    return m;
}

START_TEST(shapes_are_static_after_specialisation)
{
    model_builder *m = image_model();
    model_node(m, "Conv", "image w", "a");
    model_ints_attribute(m, "strides", 2, (int64_t[]){2, 2});
    model_node(m, "Relu", "a", "y");
    model_output(m, "y");
    const shape two = SHAPE(2, 3, 8, 8), expected = SHAPE(2, 4, 3, 3);
    fixture f = specialise(m, &two, NULL, false);
    const graph_value *y = &f.made->values[f.made->outputs[0]];
    ck_assert(shape_equal(&y->shape, &expected));
    ck_assert_int_eq(y->dtype, DTYPE_FLOAT);
    ck_assert_int_eq(f.made->outputs[0], f.source->outputs[0]);
    for (size_t i = 0; i < f.source->value_count; i++)
        ck_assert_str_eq(f.made->values[i].name, f.source->values[i].name);
    release(&f);
}
END_TEST

START_TEST(input_shapes_must_fit_the_declared_ones)
{
    const shape grey = SHAPE(1, 1, 224, 224), flat = SHAPE(3, 8, 8);
    model_builder *m = image_model();
    model_node(m, "Conv", "image w", "y");
    model_output(m, "y");
    REFUSE(m, &grey, XAI_ERROR_SHAPE, "input 'image' is (N, 3, 8, 8) but got (1, 1, 224, 224)");
    m = image_model();
    model_node(m, "Conv", "image w", "y");
    model_output(m, "y");
    REFUSE(m, &flat, XAI_ERROR_SHAPE, "input 'image' is (N, 3, 8, 8) but got (3, 8, 8)");
    m = image_model();
    model_node(m, "Conv", "image w", "y");
    model_output(m, "y");
    const shape negative = SHAPE(-1, 3, 8, 8);
    REFUSE(m, &negative, XAI_ERROR_SHAPE, "'image'");
}
END_TEST

START_TEST(contradicting_shapes_name_the_node)
{
    model_builder *m = image_model();
    model_random(m, "b", 4, (int64_t[]){1, 5, 1, 1}, 2);
    model_node(m, "Conv", "image w", "a");
    model_node(m, "Add", "a b", "y");
    model_node_name(m, "wrong");
    model_output(m, "y");
    const shape one = SHAPE(1, 3, 8, 8);
    REFUSE(m, &one, XAI_ERROR_SHAPE, "node 'wrong' (Add)");
}
END_TEST

START_TEST(shape_arithmetic_folds_to_constants)
{
    /* x.view(x.size(0), -1) as exporters write it */
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 4, (int64_t[]){-1, 3, 4, 5});
    model_ints(m, "zero", 1, (int64_t[]){0});
    model_ints(m, "minus", 1, (int64_t[]){-1});
    model_node(m, "Shape", "x", "dims");
    model_node(m, "Gather", "dims zero", "batch");
    model_node(m, "Concat", "batch minus", "target");
    model_int_attribute(m, "axis", 0);
    model_node(m, "Relu", "x", "r");
    model_node(m, "Reshape", "r target", "y");
    model_output(m, "y");
    const shape two = SHAPE(2, 3, 4, 5), expected = SHAPE(2, 60);
    fixture f = specialise(m, &two, NULL, false);
    ck_assert_uint_eq(live_nodes(f.made), 2);
    ck_assert(shape_equal(&f.made->values[f.made->outputs[0]].shape, &expected));
    ck_assert(f.made->values[graph_find(f.source, "dims")].removed);
    const int target = graph_find(f.made, "target");
    ck_assert(f.made->values[target].is_constant);
    ck_assert_int_eq(tensor_get_int(&f.made->values[target].constant, 0), 2);
    release(&f);
}
END_TEST

START_TEST(constants_fold_with_their_numbers)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 1, (int64_t[]){2});
    model_floats(m, "a", 1, (int64_t[]){2}, (float[]){1, 2});
    model_floats(m, "b", 1, (int64_t[]){2}, (float[]){10, 20});
    model_node(m, "Add", "a b", "sum");
    model_node(m, "Mul", "sum sum", "square");
    model_node(m, "Mul", "x square", "y");
    model_output(m, "y");
    model_output(m, "sum");
    const shape two = SHAPE(2);
    fixture f = specialise(m, &two, "square", true);
    ck_assert_uint_eq(live_nodes(f.made), 1);
    const graph_value *square = &f.made->values[graph_find(f.made, "square")];
    ck_assert(square->is_constant);
    ck_assert_double_eq(tensor_get(&square->constant, 0), 121);
    ck_assert_double_eq(tensor_get(&square->constant, 1), 484);
    ck_assert(f.made->values[f.made->outputs[1]].is_constant);
    ck_assert(f.made->values[graph_find(f.source, "a")].removed);
    release(&f);
}
END_TEST

START_TEST(huge_constants_stay_nodes)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 1, (int64_t[]){1});
    model_ints(m, "dims", 2, (int64_t[]){1 << 14, 1 << 14}); /* 1 GiB */
    model_node(m, "ConstantOfShape", "dims", "zeros");
    model_node(m, "Add", "x zeros", "y");
    model_output(m, "y");
    const shape one = SHAPE(1);
    fixture f = specialise(m, &one, NULL, true);
    ck_assert_uint_eq(live_nodes(f.made), 2);
    ck_assert(!f.made->values[graph_find(f.made, "zeros")].is_constant);
    release(&f);
}
END_TEST

/* Reshape to a shape that is an input, behind a product; the product is an output too. */
static model_builder *shaped_by_data(void)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 2, (int64_t[]){2, 3});
    model_input(m, "target", DTYPE_INT64, 1, (int64_t[]){2});
    model_scalar(m, "two", 2);
    model_node(m, "Mul", "x two", "double");
    model_node(m, "Reshape", "double target", "y");
    model_node_name(m, "dynamic");
    model_node(m, "Neg", "y", "z");
    model_output(m, "z");
    model_output(m, "double");
    return m;
}

START_TEST(shapes_that_hang_on_data_are_refused_by_node)
{
    const shape shapes[] = {SHAPE(2, 3), SHAPE(2)};
    fixture f = specialise(shaped_by_data(), shapes, NULL, true);
    static const char *const behind[] = {"y", "z"};
    for (int i = 0; i < 2; i++) {
        xai_error *error = NULL;
        const int value = graph_find(f.source, behind[i]);
        ck_assert(f.made->values[value].removed);
        ck_assert_int_eq(graph_check_static(f.made, value, &error), XAI_ERROR_UNSUPPORTED);
        ck_assert_ptr_nonnull(strstr(xai_error_message(error), "node 'dynamic' (Reshape)"));
        ck_assert_ptr_nonnull(strstr(xai_error_message(error), behind[i]));
        xai_error_free(error);
    }
    ck_assert_int_eq(graph_check_static(f.made, graph_find(f.source, "double"), NULL), XAI_OK);
    release(&f);
}
END_TEST

START_TEST(what_hangs_on_data_is_computed_behind_the_frontier)
{
    const shape shapes[] = {SHAPE(2, 3), SHAPE(2)};
    fixture f = specialise(shaped_by_data(), shapes, NULL, true);
    size_t count;
    const int *frontier = graph_frontier(f.made, &count);
    ck_assert_uint_eq(live_nodes(f.made), 1);
    ck_assert_uint_eq(count, 2);
    ck_assert_int_eq(frontier[0], graph_find(f.source, "double"));
    ck_assert_int_eq(frontier[1], graph_find(f.source, "target"));
    ck_assert_uint_eq(f.made->output_count, 2);
    float numbers[] = {1, 2, 3, 4, 5, 6};
    for (int64_t rows = 1; rows <= 6; rows++) {
        int64_t target[] = {rows, -1};
        const tensor given[] = {
            {.dtype = DTYPE_FLOAT, .shape = shapes[0], .data = numbers},
            {.dtype = DTYPE_INT64, .shape = shapes[1], .data = target},
        };
        const int z = graph_find(f.source, "z"), twice[] = {z, z};
        tensor out[2];
        xai_error *error = NULL;
        if (6 % rows != 0) {
            ck_assert_int_eq(graph_finish(f.made, given, &z, 1, 0, NULL, out, &error),
                             XAI_ERROR_SHAPE);
            ck_assert_ptr_nonnull(strstr(xai_error_message(error), "node 'dynamic' (Reshape)"));
            xai_error_free(error);
            continue;
        }
        ck_assert_int_eq(graph_finish(f.made, given, twice, 2, 0, NULL, out, NULL), XAI_OK);
        const shape expected = SHAPE(rows, 6 / rows);
        for (int i = 0; i < 2; i++) {
            ck_assert(shape_equal(&out[i].shape, &expected));
            for (size_t k = 0; k < 6; k++)
                ck_assert_double_eq(tensor_get(&out[i], k), -numbers[k]);
            tensor_free(&out[i]);
        }
        /* y and z need 24 bytes each, at one time */
        ck_assert_int_eq(graph_finish(f.made, given, &z, 1, 48, NULL, out, NULL), XAI_OK);
        tensor_free(&out[0]);
        ck_assert_int_eq(graph_finish(f.made, given, &z, 1, 47, NULL, out, &error),
                         XAI_ERROR_MEMORY);
        ck_assert_ptr_nonnull(strstr(xai_error_message(error), "(Neg)"));
        xai_error_free(error);
    }
    release(&f);
}
END_TEST

/* A constant that only the end reads outlives the dead code of the plan's graph. */
START_TEST(folded_constants_reach_the_end)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 1, (int64_t[]){4});
    model_scalar(m, "a", 3);
    model_node(m, "Neg", "a", "b");
    model_node(m, "NonZero", "x", "places");
    model_node(m, "Cast", "places", "numbers");
    model_int_attribute(m, "to", DTYPE_FLOAT);
    model_node(m, "Mul", "numbers b", "y");
    model_output(m, "y");
    const shape four = SHAPE(4);
    fixture f = specialise(m, &four, NULL, true);
    ck_assert_uint_eq(live_nodes(f.made), 0);
    float numbers[] = {0, 1, 0, 1};
    const tensor given = {.dtype = DTYPE_FLOAT, .shape = four, .data = numbers};
    const int y = graph_find(f.source, "y");
    tensor out;
    ck_assert_int_eq(graph_finish(f.made, &given, &y, 1, 0, NULL, &out, NULL), XAI_OK);
    ck_assert_uint_eq(tensor_count(&out), 2);
    ck_assert_double_eq(tensor_get(&out, 0), -3);
    ck_assert_double_eq(tensor_get(&out, 1), -9);
    tensor_free(&out);
    release(&f);
}
END_TEST

START_TEST(dead_code_goes_and_kept_values_stay)
{
    for (int kept = 0; kept < 2; kept++) {
        model_builder *m = model_create(17);
        model_input(m, "x", DTYPE_FLOAT, 1, (int64_t[]){2});
        model_node(m, "Relu", "x", "y");
        model_node(m, "Tanh", "x", "a");
        model_node(m, "Sigmoid", "a", "b");
        model_output(m, "y");
        const shape two = SHAPE(2);
        fixture f = specialise(m, &two, kept ? "a" : NULL, true);
        ck_assert_uint_eq(live_nodes(f.made), kept ? 2 : 1);
        ck_assert_int_eq(f.made->values[graph_find(f.source, "a")].removed, !kept);
        ck_assert(f.made->values[graph_find(f.source, "b")].removed);
        release(&f);
    }
}
END_TEST

START_TEST(unused_inputs_stay)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 1, (int64_t[]){2});
    model_input(m, "unused", DTYPE_FLOAT, 1, (int64_t[]){3});
    model_node(m, "Relu", "x", "y");
    model_output(m, "y");
    const shape shapes[] = {SHAPE(2), SHAPE(3)};
    fixture f = specialise(m, shapes, NULL, true);
    ck_assert_uint_eq(f.made->input_count, 2);
    ck_assert(!f.made->values[f.made->inputs[1]].removed);
    release(&f);
}
END_TEST

START_TEST(values_out_of_range_are_refused)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 1, (int64_t[]){2});
    model_node(m, "Relu", "x", "y");
    model_output(m, "y");
    onnx_model *file;
    graph *source = model_graph(m, &file), *made = NULL;
    const shape two = SHAPE(2);
    const int bad[] = {-1, 100};
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(
            graph_specialise(source, &two, &bad[i], 1, GRAPH_REWRITES_ALL, &made, NULL),
            XAI_ERROR_ARGUMENT);
    graph_free(source);
    onnx_model_free(file);
    model_free(m);
}
END_TEST

/* The default layer of a specialisation, by name. */
static void expect_layer(model_builder *m, const shape *input, const char *expected,
                         layer_layout *layout)
{
    fixture f = specialise(m, input, NULL, true);
    int layer = GRAPH_NONE;
    ck_assert_int_eq(graph_default_layer(f.made, f.made->outputs[0], &layer, NULL), XAI_OK);
    if (!expected) {
        ck_assert_int_eq(layer, GRAPH_NONE);
    } else {
        ck_assert_int_ne(layer, GRAPH_NONE);
        ck_assert_str_eq(f.made->values[layer].name, expected);
        if (layout)
            ck_assert_int_eq(graph_layer_layout(f.made, layer, layout, NULL), XAI_OK);
    }
    release(&f);
}

static void classifier_head(model_builder *m, const char *features, int64_t width)
{
    model_random(m, "fc", 2, (int64_t[]){5, width}, 9);
    model_node(m, "Flatten", features, "flat");
    model_node(m, "Gemm", "flat fc", "y");
    model_int_attribute(m, "transB", 1);
    model_output(m, "y");
}

START_TEST(default_layer_is_the_input_of_the_global_pool)
{
    const shape one = SHAPE(1, 3, 8, 8);
    layer_layout layout;
    model_builder *m = image_model();
    model_node(m, "Conv", "image w", "a");
    model_node(m, "Relu", "a", "relu");
    model_node(m, "GlobalAveragePool", "relu", "pool");
    classifier_head(m, "pool", 4);
    expect_layer(m, &one, "relu", &layout);
    ck_assert_int_eq(layout.channel_axis, 1);
    ck_assert_int_eq(layout.spatial_rank, 2);
    ck_assert_int_eq(layout.dims[0], 6);
    ck_assert(!layout.tokens);
}
END_TEST

START_TEST(default_layer_is_not_inside_a_gate)
{
    /* squeeze and excitation: the gate has no positions, the map behind it does */
    const shape one = SHAPE(1, 3, 8, 8);
    model_builder *m = image_model();
    model_random(m, "squeeze", 4, (int64_t[]){4, 4, 1, 1}, 3);
    model_node(m, "Conv", "image w", "a");
    model_node(m, "GlobalAveragePool", "a", "p");
    model_node(m, "Conv", "p squeeze", "s");
    model_node(m, "Sigmoid", "s", "gate");
    model_node(m, "Mul", "a gate", "gated");
    model_node(m, "ReduceMean", "gated", "pool");
    model_ints_attribute(m, "axes", 2, (int64_t[]){2, 3});
    model_int_attribute(m, "keepdims", 0);
    model_random(m, "fc", 2, (int64_t[]){4, 5}, 9);
    model_node(m, "MatMul", "pool fc", "y");
    model_output(m, "y");
    expect_layer(m, &one, "gated", NULL);
}
END_TEST

START_TEST(default_layer_of_a_flattening_head_is_before_flatten_and_average_pool)
{
    const shape one = SHAPE(1, 3, 8, 8);
    model_builder *m = image_model();
    model_node(m, "Conv", "image w", "a");
    model_node(m, "Relu", "a", "relu");
    model_node(m, "MaxPool", "relu", "max");
    model_ints_attribute(m, "kernel_shape", 2, (int64_t[]){2, 2});
    model_ints_attribute(m, "strides", 2, (int64_t[]){2, 2});
    classifier_head(m, "max", 36);
    expect_layer(m, &one, "max", NULL);
    m = image_model();
    model_node(m, "Conv", "image w", "a");
    model_node(m, "Relu", "a", "relu");
    model_node(m, "AveragePool", "relu", "average");
    model_ints_attribute(m, "kernel_shape", 2, (int64_t[]){2, 2});
    model_ints_attribute(m, "strides", 2, (int64_t[]){2, 2});
    classifier_head(m, "average", 36);
    expect_layer(m, &one, "relu", NULL);
}
END_TEST

START_TEST(default_layer_of_a_map_is_the_last_convolutions_input)
{
    const shape one = SHAPE(1, 3, 8, 8);
    model_builder *m = image_model();
    model_random(m, "last", 4, (int64_t[]){2, 4, 1, 1}, 3);
    model_node(m, "Conv", "image w", "a");
    model_node(m, "Relu", "a", "relu");
    model_node(m, "Conv", "relu last", "logits");
    model_node(m, "Sigmoid", "logits", "y");
    model_output(m, "y");
    expect_layer(m, &one, "relu", NULL);
}
END_TEST

START_TEST(no_default_layer_without_positions)
{
    const shape row = SHAPE(1, 4);
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 2, (int64_t[]){1, 4});
    model_random(m, "fc", 2, (int64_t[]){4, 3}, 9);
    model_node(m, "Gemm", "x fc", "h");
    model_node(m, "Relu", "h", "y");
    model_output(m, "y");
    expect_layer(m, &row, NULL, NULL);
}
END_TEST

/* A vision transformer of one block, one head: patches of 4 x 4 of an 8 x 12 image, 6 tokens of
 * width 5, perhaps a class token. */
static model_builder *transformer(bool class_token)
{
    const int64_t width[] = {5}, square[] = {5, 5};
    model_builder *m = model_create(17);
    model_input(m, "image", DTYPE_FLOAT, 4, (int64_t[]){1, 3, 8, 12});
    model_random(m, "patch", 4, (int64_t[]){5, 3, 4, 4}, 1);
    model_ints(m, "flat", 3, (int64_t[]){1, 5, 6});
    model_fill(m, "ones", 1, width, 1);
    model_node(m, "Conv", "image patch", "grid");
    model_ints_attribute(m, "strides", 2, (int64_t[]){4, 4});
    model_node(m, "Reshape", "grid flat", "rows");
    model_node(m, "Transpose", "rows", "patches");
    model_ints_attribute(m, "perm", 3, (int64_t[]){0, 2, 1});
    model_random(m, "class", 3, (int64_t[]){1, 1, 5}, 2);
    if (class_token) {
        model_node(m, "Concat", "class patches", "tokens");
        model_int_attribute(m, "axis", 1);
    } else {
        model_node(m, "Abs", "patches", "tokens");
    }
    for (int i = 0; i < 3; i++)
        model_random(m, (const char *[]){"q", "k", "v"}[i], 2, square, 10 + (unsigned)i);
    model_node(m, "LayerNormalization", "tokens ones", "norm1");
    model_node(m, "MatMul", "norm1 q", "queries");
    model_node(m, "MatMul", "norm1 k", "keys");
    model_node(m, "MatMul", "norm1 v", "values");
    model_node(m, "Transpose", "keys", "turned");
    model_ints_attribute(m, "perm", 3, (int64_t[]){0, 2, 1});
    model_node(m, "MatMul", "queries turned", "affinity");
    model_node(m, "Softmax", "affinity", "weights");
    model_int_attribute(m, "axis", -1);
    model_node(m, "MatMul", "weights values", "attended");
    model_node(m, "Add", "tokens attended", "block");
    model_node(m, "LayerNormalization", "block ones", "norm2");
    model_random(m, "fc", 2, (int64_t[]){5, 3}, 20);
    if (class_token) {
        model_tensor(m, "first", DTYPE_INT64, 0, NULL, &(int64_t){0}, sizeof(int64_t));
        model_node(m, "Gather", "norm2 first", "head");
        model_int_attribute(m, "axis", 1);
    } else {
        model_node(m, "ReduceMean", "norm2", "head");
        model_ints_attribute(m, "axes", 1, (int64_t[]){1});
        model_int_attribute(m, "keepdims", 0);
    }
    model_node(m, "MatMul", "head fc", "y");
    model_output(m, "y");
    return m;
}

START_TEST(default_layer_of_a_class_token_is_the_last_attentions_input)
{
    const shape one = SHAPE(1, 3, 8, 12);
    layer_layout layout;
    expect_layer(transformer(true), &one, "norm1", &layout);
    ck_assert(layout.tokens);
    ck_assert_int_eq(layout.channel_axis, 2);
    ck_assert_int_eq(layout.prefix_tokens, 1);
    ck_assert_int_eq(layout.dims[0], 2);
    ck_assert_int_eq(layout.dims[1], 3);
}
END_TEST

/* Two rows of tokens (patches of 4 x 4 and of 2 x 2) whose class tokens are weighted together, as in CoaT; attention is
 * factorised: the Softmax runs over the tokens of the keys. */
static model_builder *two_scales(void)
{
    const int64_t width[] = {5};
    model_builder *m = model_create(17);
    model_input(m, "image", DTYPE_FLOAT, 4, (int64_t[]){1, 3, 8, 12});
    model_fill(m, "ones", 1, width, 1);
    model_ints(m, "zero", 1, (int64_t[]){0});
    model_ints(m, "one", 1, (int64_t[]){1});
    model_random(m, "qkv", 2, (int64_t[]){5, 15}, 10);
    model_random(m, "class", 3, (int64_t[]){1, 1, 5}, 2);
#define SCALE(s, size, count)                                               \
    model_random(m, "patch" s, 4, (int64_t[]){5, 3, size, size}, 1 + size); \
    model_ints(m, "flat" s, 3, (int64_t[]){1, 5, count});                   \
    model_node(m, "Conv", "image patch" s, "grid" s);                       \
    model_ints_attribute(m, "strides", 2, (int64_t[]){size, size});         \
    model_node(m, "Reshape", "grid" s " flat" s, "rows" s);                 \
    model_node(m, "Transpose", "rows" s, "patches" s);                      \
    model_ints_attribute(m, "perm", 3, (int64_t[]){0, 2, 1});               \
    model_node(m, "Concat", "class patches" s, "tokens" s);                 \
    model_int_attribute(m, "axis", 1);                                      \
    model_node(m, "LayerNormalization", "tokens" s " ones", "norm" s);      \
    model_node(m, "MatMul", "norm" s " qkv", "all" s);                      \
    model_node(m, "Split", "all" s, "queries" s " keys" s " values" s);     \
    model_int_attribute(m, "axis", 2);                                      \
    model_node(m, "Softmax", "keys" s, "weights" s);                        \
    model_int_attribute(m, "axis", 1);                                      \
    model_node(m, "Transpose", "weights" s, "turned" s);                    \
    model_ints_attribute(m, "perm", 3, (int64_t[]){0, 2, 1});               \
    model_node(m, "MatMul", "turned" s " values" s, "summary" s);           \
    model_node(m, "MatMul", "queries" s " summary" s, "attended" s);        \
    model_node(m, "Add", "tokens" s " attended" s, "block" s);              \
    model_node(m, "LayerNormalization", "block" s " ones", "last" s);       \
    model_node(m, "Slice", "last" s " zero one one", "class" s)
    SCALE("2", 2, 24);
    SCALE("4", 4, 6);
#undef SCALE
    model_random(m, "both", 3, (int64_t[]){1, 2, 1}, 30);
    model_random(m, "fc", 2, (int64_t[]){5, 3}, 20);
    model_node(m, "Concat", "class2 class4", "classes");
    model_int_attribute(m, "axis", 1);
    model_node(m, "Conv", "classes both", "joined");
    model_node(m, "Squeeze", "joined one", "head");
    model_node(m, "MatMul", "head fc", "y");
    model_output(m, "y");
    return m;
}

/* Not the few class tokens side by side, and not the last normalisation, behind which the patches have no gradient. */
START_TEST(default_layer_of_several_class_tokens_is_the_last_attentions_input)
{
    const shape one = SHAPE(1, 3, 8, 12);
    layer_layout layout;
    expect_layer(two_scales(), &one, "norm4", &layout);
    ck_assert(layout.tokens);
    ck_assert_int_eq(layout.prefix_tokens, 1);
    ck_assert_int_eq(layout.dims[0], 2);
    ck_assert_int_eq(layout.dims[1], 3);
}
END_TEST

START_TEST(default_layer_of_pooled_tokens_is_before_the_pool)
{
    const shape one = SHAPE(1, 3, 8, 12);
    layer_layout layout;
    expect_layer(transformer(false), &one, "norm2", &layout);
    ck_assert(layout.tokens);
    ck_assert_int_eq(layout.prefix_tokens, 0);
    ck_assert_int_eq(layout.dims[0], 2);
    ck_assert_int_eq(layout.dims[1], 3);
}
END_TEST

START_TEST(channels_are_followed_through_transposes)
{
    model_builder *m = image_model();
    model_fill(m, "ones", 1, (int64_t[]){4}, 1);
    model_node(m, "Conv", "image w", "a");
    model_node(m, "Transpose", "a", "last");
    model_ints_attribute(m, "perm", 4, (int64_t[]){0, 2, 3, 1});
    model_node(m, "LayerNormalization", "last ones", "normal");
    model_node(m, "Sigmoid", "normal", "y");
    model_output(m, "y");
    const shape one = SHAPE(1, 3, 8, 8);
    fixture f = specialise(m, &one, NULL, true);
    signed char *axes = graph_channel_axes(f.made);
    ck_assert_ptr_nonnull(axes);
    ck_assert_int_eq(axes[graph_find(f.made, "image")], 1);
    ck_assert_int_eq(axes[graph_find(f.made, "a")], 1);
    ck_assert_int_eq(axes[graph_find(f.made, "last")], 3);
    ck_assert_int_eq(axes[graph_find(f.made, "normal")], 3);
    ck_assert_int_eq(axes[graph_find(f.made, "y")], 3);
    memory_free(axes);
    release(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("specialise");
    TCase *shapes = tcase_create("shapes"), *layers = tcase_create("layers");
    tcase_add_test(shapes, shapes_are_static_after_specialisation);
    tcase_add_test(shapes, input_shapes_must_fit_the_declared_ones);
    tcase_add_test(shapes, contradicting_shapes_name_the_node);
    tcase_add_test(shapes, shape_arithmetic_folds_to_constants);
    tcase_add_test(shapes, constants_fold_with_their_numbers);
    tcase_add_test(shapes, huge_constants_stay_nodes);
    tcase_add_test(shapes, shapes_that_hang_on_data_are_refused_by_node);
    tcase_add_test(shapes, what_hangs_on_data_is_computed_behind_the_frontier);
    tcase_add_test(shapes, folded_constants_reach_the_end);
    tcase_add_test(shapes, dead_code_goes_and_kept_values_stay);
    tcase_add_test(shapes, unused_inputs_stay);
    tcase_add_test(shapes, values_out_of_range_are_refused);
    tcase_add_test(layers, default_layer_is_the_input_of_the_global_pool);
    tcase_add_test(layers, default_layer_is_not_inside_a_gate);
    tcase_add_test(layers, default_layer_of_a_flattening_head_is_before_flatten_and_average_pool);
    tcase_add_test(layers, default_layer_of_a_map_is_the_last_convolutions_input);
    tcase_add_test(layers, no_default_layer_without_positions);
    tcase_add_test(layers, default_layer_of_a_class_token_is_the_last_attentions_input);
    tcase_add_test(layers, default_layer_of_several_class_tokens_is_the_last_attentions_input);
    tcase_add_test(layers, default_layer_of_pooled_tokens_is_before_the_pool);
    tcase_add_test(layers, channels_are_followed_through_transposes);
    suite_add_tcase(suite, shapes);
    suite_add_tcase(suite, layers);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
