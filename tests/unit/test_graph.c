/* src/graph: import of a parsed file into the SSA graph, and its refusals. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/layers.h"
#include "model_builder.h"

static const int64_t four[] = {1, 4};

/* A model of one node that reads x and gives y; more may be added. */
static model_builder *chain(void)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 2, four);
    model_node(m, "Relu", "x", "y");
    model_output(m, "y");
    return m;
}

/* Import must fail with this status and a message that holds each of the words. */
static void refuse(model_builder *m, xai_status expected, const char *const *words)
{
    onnx_model *file = model_parse(m);
    graph *imported = NULL;
    xai_error *error = NULL;
    const xai_status status = graph_import(file, &imported, &error);
    ck_assert_msg(status == expected, "status %d: %s", status,
                  error ? xai_error_message(error) : "");
    ck_assert_ptr_null(imported);
    for (; *words; words++)
        ck_assert_msg(strstr(xai_error_message(error), *words), "'%s' is not in: %s", *words,
                      xai_error_message(error));
    xai_error_free(error);
    onnx_model_free(file);
    model_free(m);
}
#define REFUSE(builder, status, ...) \
    refuse(builder, status, (const char *const[]){__VA_ARGS__, NULL})

START_TEST(values_and_nodes_are_found_by_name)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 2, four);
    model_fill(m, "w", 2, four, 2);
    model_node(m, "Mul", "x w", "product");
    model_node_name(m, "scale");
    model_node(m, "Add", "product product", "y");
    model_output(m, "y");
    onnx_model *file;
    graph *g = model_graph(m, &file);
    ck_assert_uint_eq(g->node_count, 2);
    ck_assert_uint_eq(g->input_count, 1);
    ck_assert_uint_eq(g->output_count, 1);
    const int product = graph_find(g, "product"), w = graph_find(g, "w");
    ck_assert_int_eq(graph_find(g, "scale"), product);
    ck_assert_int_eq(graph_find(g, "Add_1"), graph_find(g, "y")); /* a node without a name */
    ck_assert_int_eq(graph_find(g, "nothing"), GRAPH_NONE);
    ck_assert(g->values[w].is_constant);
    ck_assert_double_eq(tensor_get(&g->values[w].constant, 3), 2);
    ck_assert_int_eq(g->values[w].producer, GRAPH_NONE);
    ck_assert_int_eq(g->inputs[0], graph_find(g, "x"));
    ck_assert_int_eq(g->outputs[0], graph_find(g, "y"));
    ck_assert_str_eq(g->nodes[0].place, "node 'scale' (Mul)");
    int readers[1];
    ck_assert_uint_eq(graph_consumers(g, product, readers, 1), 2); /* Add reads it twice */
    ck_assert_int_eq(readers[0], g->values[g->outputs[0]].producer);
    ck_assert_uint_eq(graph_consumers(g, g->outputs[0], NULL, 0), 0);
    graph_free(g);
    graph_free(NULL);
    onnx_model_free(file);
    model_free(m);
}
END_TEST

START_TEST(nodes_in_any_order_are_sorted)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 2, four);
    model_node(m, "Add", "b c", "y");
    model_node(m, "Sigmoid", "a", "c");
    model_node(m, "Tanh", "a", "b");
    model_node(m, "Relu", "x", "a");
    model_output(m, "y");
    onnx_model *file;
    graph *g = model_graph(m, &file);
    for (size_t i = 0; i < g->node_count; i++)
        for (int k = 0; k < g->nodes[i].input_count; k++)
            ck_assert_int_lt(g->values[g->nodes[i].inputs[k]].producer, (int)i);
    for (size_t i = 0; i < g->node_count; i++)
        ck_assert_int_eq(g->values[g->nodes[i].outputs[0]].producer, (int)i);
    graph_free(g);
    onnx_model_free(file);
    model_free(m);
}
END_TEST

START_TEST(long_chain_is_sorted_without_recursion)
{
    enum { LENGTH = 50000 };
    model_builder *m = model_create(17);
    char from[16], to[16];
    model_input(m, "x", DTYPE_FLOAT, 2, four);
    for (int i = LENGTH; i > 0; i--) { /* backwards: the worst order */
        snprintf(from, sizeof from, i > 1 ? "v%d" : "x", i - 1);
        snprintf(to, sizeof to, "v%d", i);
        model_node(m, "Relu", from, to);
    }
    model_output(m, to);
    snprintf(to, sizeof to, "v%d", LENGTH);
    model_output(m, to);
    onnx_model *file;
    graph *g = model_graph(m, &file);
    ck_assert_uint_eq(g->node_count, LENGTH);
    ck_assert_int_eq(g->values[g->outputs[1]].producer, LENGTH - 1);
    graph_free(g);
    onnx_model_free(file);
    model_free(m);
}
END_TEST

START_TEST(cycle_is_refused)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 2, four);
    model_node(m, "Add", "x b", "a");
    model_node(m, "Relu", "a", "b");
    model_output(m, "b");
    REFUSE(m, XAI_ERROR_FORMAT, "cycle");
    m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 2, four);
    model_node(m, "Add", "x y", "y");
    model_output(m, "y");
    REFUSE(m, XAI_ERROR_FORMAT, "cycle", "'y'");
}
END_TEST

START_TEST(names_defined_twice_are_refused)
{
    model_builder *m = chain();
    model_node(m, "Tanh", "x", "y");
    REFUSE(m, XAI_ERROR_FORMAT, "'y'", "twice");
    m = chain();
    model_node(m, "Tanh", "y", "x");
    REFUSE(m, XAI_ERROR_FORMAT, "'x'", "twice");
    m = chain();
    model_fill(m, "y", 2, four, 1);
    REFUSE(m, XAI_ERROR_FORMAT, "'y'", "twice");
    m = chain();
    model_fill(m, "w", 2, four, 1);
    model_fill(m, "w", 2, four, 2);
    REFUSE(m, XAI_ERROR_FORMAT, "'w'", "twice");
    m = chain();
    model_input(m, "x", DTYPE_FLOAT, 2, four);
    REFUSE(m, XAI_ERROR_FORMAT, "'x'", "twice");
    m = chain();
    model_output(m, "y");
    REFUSE(m, XAI_ERROR_FORMAT, "'y'", "twice");
}
END_TEST

START_TEST(undefined_names_are_refused)
{
    model_builder *m = chain();
    model_node(m, "Add", "y ghost", "z");
    REFUSE(m, XAI_ERROR_FORMAT, "'ghost'", "node 'Add_1' (Add)");
    m = chain();
    model_output(m, "ghost");
    REFUSE(m, XAI_ERROR_FORMAT, "'ghost'");
    m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 2, four);
    model_node(m, "Relu", "x", "y");
    REFUSE(m, XAI_ERROR_FORMAT, "no outputs");
}
END_TEST

START_TEST(unknown_operator_is_one_error_with_operator_domain_opset_and_node)
{
    model_builder *m = chain();
    model_opset(m, "com.acme", 3);
    model_node(m, "Foo", "y", "z");
    model_node_name(m, "x7");
    model_node_domain(m, "com.acme");
    REFUSE(
        m, XAI_ERROR_UNSUPPORTED,
        "node 'x7' (com.acme.Foo): operator 'Foo' of domain 'com.acme' (opset 3) is not supported");
    m = chain();
    model_node(m, "Foo", "y", "z");
    REFUSE(m, XAI_ERROR_UNSUPPORTED, "node 'Foo_1' (Foo)", "'ai.onnx'", "opset 17");
    m = chain(); /* the library's own operators are not for files */
    model_opset(m, "xai", 1);
    model_node(m, "Silu", "y", "z");
    model_node_domain(m, "xai");
    REFUSE(m, XAI_ERROR_UNSUPPORTED, "Silu", "'xai'");
}
END_TEST

START_TEST(subgraphs_of_other_operators_than_control_flow_are_refused)
{
    model_builder *m = chain();
    model_node(m, "Relu", "y", "z");
    model_graph_attribute(m, "body");
    REFUSE(m, XAI_ERROR_UNSUPPORTED, "(Relu)", "subgraph", "body");
}
END_TEST

START_TEST(versions_outside_the_range_are_refused)
{
    static const int64_t bad[] = {1, 6, 29, 1000};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        model_builder *m = model_create(bad[i]);
        model_input(m, "x", DTYPE_FLOAT, 2, four);
        model_node(m, "Relu", "x", "y");
        model_output(m, "y");
        REFUSE(m, XAI_ERROR_UNSUPPORTED, "opset");
    }
    model_builder *m = model_create(0);
    model_opset(m, "com.acme", 1);
    model_input(m, "x", DTYPE_FLOAT, 2, four);
    model_node(m, "Relu", "x", "y");
    model_output(m, "y");
    REFUSE(m, XAI_ERROR_FORMAT, "opset");
    for (int64_t opset = 7; opset <= 28; opset++) {
        m = model_create(opset);
        model_input(m, "x", DTYPE_FLOAT, 2, four);
        model_node(m, "Relu", "x", "y");
        model_output(m, "y");
        onnx_model *file;
        graph_free(model_graph(m, &file));
        onnx_model_free(file);
        model_free(m);
    }
}
END_TEST

START_TEST(wrong_numbers_of_inputs_are_refused)
{
    model_builder *m = chain();
    model_node(m, "Add", "y", "z");
    REFUSE(m, XAI_ERROR_FORMAT, "(Add)", "1 inputs");
    m = chain();
    model_node(m, "Relu", "y x", "z");
    REFUSE(m, XAI_ERROR_FORMAT, "(Relu)", "2 inputs");
    m = chain();
    model_node(m, "Add", "y -", "z");
    REFUSE(m, XAI_ERROR_FORMAT, "(Add)", "omitted");
    m = chain();
    model_node(m, "Relu", "y", "z z2");
    REFUSE(m, XAI_ERROR_FORMAT, "(Relu)", "2 outputs");
    m = chain();
    model_node(m, "LeakyRelu", "y", "z");
    model_float_attribute(m, "alpha", 1);
    model_float_attribute(m, "alpha", 2);
    REFUSE(m, XAI_ERROR_FORMAT, "'alpha'", "twice");
}
END_TEST

START_TEST(initializer_listed_as_input_is_a_constant)
{
    model_builder *m = model_create(7);
    model_ir_version(m, 3);
    model_input(m, "w", DTYPE_FLOAT, 2, four);
    model_input(m, "x", DTYPE_FLOAT, 2, four);
    model_fill(m, "w", 2, four, 3);
    model_node(m, "Mul", "x w", "y");
    model_output(m, "y");
    onnx_model *file;
    graph *g = model_graph(m, &file);
    ck_assert_uint_eq(g->input_count, 1);
    ck_assert_str_eq(g->values[g->inputs[0]].name, "x");
    ck_assert(g->values[graph_find(g, "w")].is_constant);
    graph_free(g);
    onnx_model_free(file);
    model_free(m);
}
END_TEST

START_TEST(constant_nodes_and_constant_outputs_become_constants)
{
    model_builder *m = model_create(13);
    const float pair[] = {1.5f, -2};
    const int64_t list[] = {7, 8, 9};
    model_input(m, "x", DTYPE_FLOAT, 2, four);
    model_node(m, "Constant", "", "a");
    model_tensor_attribute(m, "value", DTYPE_FLOAT, 1, (int64_t[]){2}, pair, sizeof pair);
    model_node(m, "Constant", "", "b");
    model_float_attribute(m, "value_float", 0.25f);
    model_node(m, "Constant", "", "c");
    model_ints_attribute(m, "value_ints", 3, list);
    model_node(m, "Constant", "", "d");
    model_int_attribute(m, "value_int", -4);
    model_node(m, "Constant", "", "e");
    model_floats_attribute(m, "value_floats", 2, pair);
    model_fill(m, "w", 2, four, 3);
    model_output(m, "w");
    model_output(m, "a");
    onnx_model *file;
    graph *g = model_graph(m, &file);
    ck_assert_uint_eq(g->node_count, 0);
    const struct {
        const char *name;
        int32_t dtype;
        size_t count;
        double last;
    } expected[] = {{"a", DTYPE_FLOAT, 2, -2}, {"b", DTYPE_FLOAT, 1, 0.25},
                    {"c", DTYPE_INT64, 3, 9},  {"d", DTYPE_INT64, 1, -4},
                    {"e", DTYPE_FLOAT, 2, -2}, {"w", DTYPE_FLOAT, 4, 3}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const graph_value *value = &g->values[graph_find(g, expected[i].name)];
        ck_assert(value->is_constant);
        ck_assert_int_eq(value->constant.dtype, expected[i].dtype);
        ck_assert_uint_eq(tensor_count(&value->constant), expected[i].count);
        ck_assert_double_eq(tensor_get(&value->constant, expected[i].count - 1), expected[i].last);
    }
    graph_free(g);
    onnx_model_free(file);
    model_free(m);
    m = chain();
    model_node(m, "Constant", "", "s");
    model_text_attribute(m, "value_string", "no");
    REFUSE(m, XAI_ERROR_UNSUPPORTED, "value_string");
    m = chain();
    model_node(m, "Constant", "", "s");
    REFUSE(m, XAI_ERROR_FORMAT, "'value'");
}
END_TEST

START_TEST(added_nodes_are_sorted_into_place)
{
    model_builder *m = chain();
    onnx_model *file;
    graph *g = model_graph(m, &file);
    const int x = g->inputs[0];
    const shape dims = shape_make(2, four);
    const int middle = graph_add_value(g, "middle", DTYPE_FLOAT, &dims);
    ck_assert_int_ge(graph_add_node(g, "", "Tanh", "added", &x, 1, &middle, 1, NULL, 0, 17), 0);
    g->nodes[0].inputs[0] = middle;
    ck_assert_int_eq(graph_sort(g, NULL), XAI_OK);
    ck_assert_str_eq(g->nodes[0].name, "added");
    ck_assert_int_eq(g->values[middle].producer, 0);
    ck_assert_int_eq(g->values[g->outputs[0]].producer, 1);
    ck_assert_int_eq(graph_add_node(g, "", "NoSuchOperator", "n", &x, 1, &middle, 1, NULL, 0, 17),
                     -1);
    graph_free(g);
    onnx_model_free(file);
    model_free(m);
}
END_TEST

START_TEST(layers_are_what_nodes_compute_in_float)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 2, four);
    model_fill(m, "w", 2, four, 2);
    model_node(m, "Exp", "w", "folded");
    model_node(m, "Mul", "x folded", "a");
    model_node(m, "Greater", "a w", "mask");
    model_node(m, "Relu", "a", "y");
    model_output(m, "y");
    model_output(m, "mask");
    onnx_model *file;
    graph *g = model_graph(m, &file), *s = NULL;
    const shape dims = shape_make(2, four);
    int layers[4];
    ck_assert_uint_eq(graph_layers(g, layers, 4), 2);
    ck_assert_int_eq(layers[0], graph_find(g, "a"));
    ck_assert_int_eq(layers[1], graph_find(g, "y"));
    ck_assert_int_eq(graph_specialise(g, &dims, NULL, 0, GRAPH_REWRITES_ALL, &s, NULL), XAI_OK);
    ck_assert_uint_eq(graph_layers(s, layers, 1), 2);
    ck_assert_int_eq(layers[0], graph_find(g, "a"));
    graph_free(s);
    graph_free(g);
    onnx_model_free(file);
    model_free(m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("graph");
    TCase *import = tcase_create("import");
    tcase_add_test(import, values_and_nodes_are_found_by_name);
    tcase_add_test(import, nodes_in_any_order_are_sorted);
    tcase_add_test(import, long_chain_is_sorted_without_recursion);
    tcase_add_test(import, cycle_is_refused);
    tcase_add_test(import, names_defined_twice_are_refused);
    tcase_add_test(import, undefined_names_are_refused);
    tcase_add_test(import, unknown_operator_is_one_error_with_operator_domain_opset_and_node);
    tcase_add_test(import, subgraphs_of_other_operators_than_control_flow_are_refused);
    tcase_add_test(import, versions_outside_the_range_are_refused);
    tcase_add_test(import, wrong_numbers_of_inputs_are_refused);
    tcase_add_test(import, initializer_listed_as_input_is_a_constant);
    tcase_add_test(import, constant_nodes_and_constant_outputs_become_constants);
    tcase_add_test(import, added_nodes_are_sorted_into_place);
    tcase_add_test(import, layers_are_what_nodes_compute_in_float);
    tcase_set_timeout(import, 60);
    suite_add_tcase(suite, import);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
