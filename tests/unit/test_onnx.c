/* lib/onnx: what the reader makes of a model, and what it refuses, with its one message. */
#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "onnx/onnx.h"
#include "onnx/wire.h"
#include "test_folder.h"

/* A protobuf writer of our own, so that it can also write what no library would. --------------- */

typedef struct buffer {
    size_t size;
    unsigned char bytes[8192];
} buffer;

static void put(buffer *out, const void *bytes, size_t size)
{
    ck_assert_uint_le(out->size + size, sizeof out->bytes);
    memcpy(out->bytes + out->size, bytes, size);
    out->size += size;
}

static void put_varint(buffer *out, uint64_t value)
{
    do {
        const unsigned char byte = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        put(out, &byte, 1);
        value >>= 7;
    } while (value);
}

static void put_int(buffer *out, int field, int64_t value)
{
    put_varint(out, (uint64_t)field << 3 | WIRE_VARINT);
    put_varint(out, (uint64_t)value);
}

static void put_bytes(buffer *out, int field, const void *bytes, size_t size)
{
    put_varint(out, (uint64_t)field << 3 | WIRE_BYTES);
    put_varint(out, size);
    put(out, bytes, size);
}

static void put_text(buffer *out, int field, const char *string)
{
    put_bytes(out, field, string, strlen(string));
}

static void put_message(buffer *out, int field, const buffer *inner)
{
    put_bytes(out, field, inner->bytes, inner->size);
}

static void put_float(buffer *out, int field, float value)
{
    put_varint(out, (uint64_t)field << 3 | WIRE_FIXED32);
    put(out, &value, 4);
}

/* TensorProto with name, type and dims; the caller adds the values. */
static buffer tensor_proto(const char *name, int dtype, int rank, const int64_t *dims)
{
    buffer out = {0};
    for (int i = 0; i < rank; i++)
        put_int(&out, 1, dims[i]);
    put_int(&out, 2, dtype);
    put_text(&out, 8, name);
    return out;
}

static buffer node_proto(const char *op, const char *name)
{
    buffer out = {0};
    put_text(&out, 1, "x");
    put_text(&out, 2, "y");
    put_text(&out, 3, name);
    put_text(&out, 4, op);
    return out;
}

/* ModelProto around a GraphProto. */
static buffer model_proto(const buffer *graph)
{
    buffer out = {0}, opset = {0};
    put_int(&opset, 2, 17);
    put_int(&out, 1, 8);
    put_message(&out, 8, &opset);
    put_message(&out, 7, graph);
    return out;
}

static buffer model_with_initializer(const buffer *values)
{
    buffer graph = {0};
    put_message(&graph, 5, values);
    return model_proto(&graph);
}

static buffer model_with_attribute(const buffer *attribute)
{
    buffer graph = {0}, node = node_proto("Op", "n");
    put_message(&node, 5, attribute);
    put_message(&graph, 1, &node);
    return model_proto(&graph);
}

static onnx_model *parse(const buffer *bytes)
{
    onnx_model *model = NULL;
    xai_error *error = NULL;
    onnx_model_parse(bytes->bytes, bytes->size, &model, &error);
    ck_assert_msg(model && !error, "%s", xai_error_message(error));
    return model;
}

/* The model is refused with this status and exactly this message. */
static void refuse(const buffer *bytes, xai_status status, const char *message)
{
    onnx_model *model = NULL;
    xai_error *error = NULL;
    ck_assert_int_eq(onnx_model_parse(bytes->bytes, bytes->size, &model, &error), status);
    ck_assert_ptr_null(model);
    ck_assert_str_eq(xai_error_message(error), message);
    xai_error_free(error);
    ck_assert_int_eq(onnx_model_parse(bytes->bytes, bytes->size, &model, NULL), status);
}

/* What is read --------------------------------------------------------------------------------- */

START_TEST(model_is_read_whole)
{
    buffer graph = {0}, node = {0}, attribute = {0}, value = {0}, type = {0}, dense = {0},
           dims = {0}, dim = {0}, entry = {0};
    put_text(&graph, 2, "net");
    put_text(&node, 1, "x");
    put_text(&node, 1, "");
    put_text(&node, 2, "y");
    put_text(&node, 3, "conv1");
    put_text(&node, 4, "Conv");
    put_text(&node, 7, "ai.onnx");
    put_text(&attribute, 1, "pads");
    put_int(&attribute, 20, ONNX_ATTRIBUTE_INTS);
    put_int(&attribute, 8, 1);
    put_int(&attribute, 8, -2);
    put_message(&node, 5, &attribute);
    put_message(&graph, 1, &node);
    put_text(&dim, 2, "batch");
    put_message(&dims, 1, &dim);
    dim.size = 0;
    put_int(&dim, 1, 3);
    put_message(&dims, 1, &dim);
    dim.size = 0;
    put_message(&dims, 1, &dim);
    put_int(&dense, 1, DTYPE_FLOAT);
    put_message(&dense, 2, &dims);
    put_message(&type, 1, &dense);
    put_text(&value, 1, "x");
    put_message(&value, 2, &type);
    put_message(&graph, 11, &value);
    value.size = 0;
    put_text(&value, 1, "y");
    put_message(&graph, 12, &value);
    buffer bytes = model_proto(&graph);
    put_text(&entry, 1, "xai.labels");
    put_text(&entry, 2, "a,b");
    put_message(&bytes, 14, &entry);
    put_text(&bytes, 2, "writer");
    buffer function = {0}, call = {0}, reference = {0};
    put_text(&reference, 1, "alpha");
    put_text(&reference, 21, "slope");
    put_int(&reference, 20, ONNX_ATTRIBUTE_FLOAT);
    put_text(&call, 1, "a");
    put_text(&call, 2, "b");
    put_text(&call, 4, "LeakyRelu");
    put_message(&call, 5, &reference);
    put_text(&function, 1, "Leaky");
    put_text(&function, 4, "a");
    put_text(&function, 5, "b");
    put_message(&function, 7, &call);
    put_text(&function, 10, "local");
    put_message(&bytes, 25, &function);

    onnx_model *model = parse(&bytes);
    const onnx_graph *g = &model->graph;
    memset(bytes.bytes, 0xee, bytes.size); /* the caller's bytes may go */
    ck_assert_int_eq(model->ir_version, 8);
    ck_assert_str_eq(model->producer_name, "writer");
    ck_assert_str_eq(model->producer_version, "");
    ck_assert_uint_eq(model->function_count, 1);
    ck_assert_str_eq(model->functions[0].name, "Leaky");
    ck_assert_str_eq(model->functions[0].domain, "local");
    ck_assert_uint_eq(model->functions[0].input_count, 1);
    ck_assert_str_eq(model->functions[0].outputs[0], "b");
    ck_assert_uint_eq(model->functions[0].node_count, 1);
    ck_assert_str_eq(model->functions[0].nodes[0].attributes[0].reference, "slope");
    ck_assert_uint_eq(model->opset_count, 1);
    ck_assert_str_eq(model->opsets[0].domain, "");
    ck_assert_int_eq(model->opsets[0].version, 17);
    ck_assert_str_eq(model->properties[0].key, "xai.labels");
    ck_assert_str_eq(model->properties[0].value, "a,b");
    ck_assert_str_eq(g->name, "net");
    ck_assert_uint_eq(g->node_count, 1);
    ck_assert_str_eq(g->nodes[0].domain, "");
    ck_assert_str_eq(g->nodes[0].op_type, "Conv");
    ck_assert_uint_eq(g->nodes[0].input_count, 2);
    ck_assert_str_eq(g->nodes[0].inputs[1], "");
    ck_assert_str_eq(g->nodes[0].outputs[0], "y");
    ck_assert_str_eq(g->nodes[0].attributes[0].name, "pads");
    ck_assert_uint_eq(g->nodes[0].attributes[0].count, 2);
    ck_assert_int_eq(g->nodes[0].attributes[0].ints[1], -2);
    ck_assert_int_eq(g->inputs[0].dtype, DTYPE_FLOAT);
    ck_assert(g->inputs[0].has_shape);
    ck_assert_int_eq(g->inputs[0].shape.rank, 3);
    ck_assert_int_eq(g->inputs[0].shape.dims[0], -1);
    ck_assert_int_eq(g->inputs[0].shape.dims[1], 3);
    ck_assert_int_eq(g->inputs[0].shape.dims[2], -1);
    ck_assert_str_eq(g->inputs[0].dim_names[0], "batch");
    ck_assert_str_eq(g->inputs[0].dim_names[1], "");
    ck_assert_int_eq(g->outputs[0].dtype, DTYPE_UNDEFINED);
    ck_assert(!g->outputs[0].has_shape);
    onnx_model_release_pages(model);
    onnx_model_free(model);
    onnx_model_free(NULL);
}
END_TEST

/* Typed values, one a field, in the wire form without packing; packed in the loop's second turn. */
START_TEST(typed_values_are_read_packed_and_unpacked)
{
    static const struct {
        int dtype, field;
        int64_t values[3], expected[3];
    } cases[] = {
        {DTYPE_INT32, 5, {-1, INT32_MAX, 7}, {-1, INT32_MAX, 7}},
        {DTYPE_INT8, 5, {-128, 127, 255}, {-128, 127, -1}}, /* 255: the same bits as -1 */
        {DTYPE_UINT8, 5, {0, 255, 3}, {0, 255, 3}},
        {DTYPE_UINT16, 5, {65535, 1, 2}, {65535, 1, 2}},
        {DTYPE_BOOL, 5, {0, 1, 2}, {0, 1, 1}},
        {DTYPE_FLOAT16, 5, {0x3c00, 0xc000, 0}, {1, -2, 0}},
        {DTYPE_BFLOAT16, 5, {0x3f80, 0xc000, 0}, {1, -2, 0}},
        {DTYPE_INT64, 7, {INT64_MIN, -1, 5}, {INT64_MIN, -1, 5}},
        {DTYPE_UINT64, 11, {-1, 1, 2}, {-1, 1, 2}}, /* 2^64 - 1 has the bits of -1 */
        {DTYPE_UINT32, 11, {UINT32_MAX, 1, 2}, {UINT32_MAX, 1, 2}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int packed = 0; packed < 2; packed++) {
            buffer t = tensor_proto("w", cases[c].dtype, 1, (int64_t[]){3}), numbers = {0};
            for (int i = 0; i < 3; i++)
                packed ? put_varint(&numbers, (uint64_t)cases[c].values[i])
                       : put_int(&t, cases[c].field, cases[c].values[i]);
            if (packed)
                put_message(&t, cases[c].field, &numbers);
            const buffer bytes = model_with_initializer(&t);
            onnx_model *model = parse(&bytes);
            const tensor *read = &model->graph.initializers[0].tensor;
            ck_assert_int_eq(read->dtype, cases[c].dtype);
            for (size_t i = 0; i < 3; i++)
                ck_assert_int_eq(tensor_get_int(read, i), cases[c].expected[i]);
            onnx_model_free(model);
        }
}
END_TEST

START_TEST(floats_are_read_in_any_mixture)
{
    static const float values[] = {1.5f, -2.25f, 3e-40f};
    static const double doubles[] = {1e300, -0.1};
    for (int form = 0; form < 3; form++) { /* packed; unpacked; in two pieces */
        buffer t = tensor_proto("w", DTYPE_FLOAT, 1, (int64_t[]){3});
        if (form == 0)
            put_bytes(&t, 4, values, sizeof values);
        else if (form == 2)
            put_bytes(&t, 4, values, 4);
        for (int i = form == 0 ? 3 : form == 1 ? 0 : 1; i < 3; i++)
            put_float(&t, 4, values[i]);
        const buffer bytes = model_with_initializer(&t);
        onnx_model *model = parse(&bytes);
        ck_assert_int_eq(memcmp(model->graph.initializers[0].tensor.data, values, sizeof values),
                         0);
        onnx_model_free(model);
    }
    buffer t = tensor_proto("w", DTYPE_DOUBLE, 1, (int64_t[]){2});
    put_bytes(&t, 10, doubles, sizeof doubles);
    const buffer bytes = model_with_initializer(&t);
    onnx_model *model = parse(&bytes);
    ck_assert_int_eq(memcmp(model->graph.initializers[0].tensor.data, doubles, sizeof doubles), 0);
    onnx_model_free(model);
}
END_TEST

START_TEST(raw_strings_scalars_and_empty_tensors_are_read)
{
    buffer t = tensor_proto("raw", DTYPE_INT16, 2, (int64_t[]){2, 2}), graph = {0};
    put_bytes(&t, 9, (int16_t[]){1, -2, 3, -4}, 8);
    put_message(&graph, 5, &t);
    t = tensor_proto("words", DTYPE_STRING, 1, (int64_t[]){2});
    put_text(&t, 6, "lung");
    put_text(&t, 6, "");
    put_message(&graph, 5, &t);
    t = tensor_proto("scalar", DTYPE_FLOAT, 0, NULL);
    put_float(&t, 4, 2.5f);
    put_message(&graph, 5, &t);
    t = tensor_proto("empty", DTYPE_INT64, 1, (int64_t[]){0});
    put_message(&graph, 5, &t);
    const buffer bytes = model_proto(&graph);
    onnx_model *model = parse(&bytes);
    const onnx_named_tensor *read = model->graph.initializers;
    ck_assert_int_eq(tensor_get_int(&read[0].tensor, 3), -4);
    ck_assert_str_eq(((const char *const *)read[1].tensor.data)[0], "lung");
    ck_assert_str_eq(((const char *const *)read[1].tensor.data)[1], "");
    ck_assert(tensor_get(&read[2].tensor, 0) == 2.5);
    ck_assert_ptr_nonnull(read[3].tensor.data);
    ck_assert_uint_eq(tensor_count(&read[3].tensor), 0);
    onnx_model_free(model);
}
END_TEST

START_TEST(attribute_type_is_inferred_and_defaults_may_be_left_out)
{
    buffer attribute = {0};
    put_text(&attribute, 1, "alpha");
    put_float(&attribute, 2, 0.25f);
    buffer bytes = model_with_attribute(&attribute);
    onnx_model *model = parse(&bytes);
    ck_assert_int_eq(model->graph.nodes[0].attributes[0].type, ONNX_ATTRIBUTE_FLOAT);
    ck_assert(model->graph.nodes[0].attributes[0].f == 0.25f);
    onnx_model_free(model);
    for (int type = ONNX_ATTRIBUTE_FLOAT; type <= ONNX_ATTRIBUTE_STRINGS; type++) {
        if (type == ONNX_ATTRIBUTE_TENSOR || type == ONNX_ATTRIBUTE_GRAPH)
            continue;
        attribute.size = 0;
        put_text(&attribute, 1, "zero");
        put_int(&attribute, 20, type);
        bytes = model_with_attribute(&attribute);
        model = parse(&bytes);
        const onnx_attribute *read = &model->graph.nodes[0].attributes[0];
        ck_assert_int_eq(read->type, type);
        ck_assert(read->f == 0 && read->i == 0 && read->count == 0);
        ck_assert_str_eq(read->s, "");
        onnx_model_free(model);
    }
}
END_TEST

START_TEST(unknown_fields_and_groups_are_skipped)
{
    buffer graph = {0};
    buffer bytes = model_proto(&graph);
    put_int(&bytes, 999, 5);
    put_text(&bytes, 1000, "later");
    put_varint(&bytes, 500 << 3 | WIRE_GROUP);
    put_varint(&bytes, 501 << 3 | WIRE_GROUP);
    put_text(&bytes, 3, "inside");
    put_varint(&bytes, 501 << 3 | WIRE_GROUP_END);
    put_varint(&bytes, 500 << 3 | WIRE_GROUP_END);
    onnx_model_free(parse(&bytes));
}
END_TEST

/* What is refused ------------------------------------------------------------------------------ */

START_TEST(not_a_model_is_one_clear_error)
{
    buffer bytes = {0}, graph = {0}, opset = {0};
    refuse(&bytes, XAI_ERROR_FORMAT, "model in memory: is empty");
    put(&bytes, "\x89PNG\r\n\x1a\n", 8);
    refuse(&bytes, XAI_ERROR_FORMAT,
           "model in memory: malformed ModelProto at byte 0 (the file is damaged or not an ONNX "
           "model)");
    bytes.size = 0;
    put(&bytes, "version https://git-lfs.github.com/spec/v1\n", 43);
    refuse(&bytes, XAI_ERROR_FORMAT,
           "model in memory: is a Git LFS pointer, not the model: run 'git lfs pull'");
    bytes.size = 0;
    put_message(&bytes, 7, &graph);
    refuse(&bytes, XAI_ERROR_FORMAT, "model in memory: not an ONNX model: it has no IR version");
    bytes.size = 0;
    put_int(&bytes, 1, 8);
    refuse(&bytes, XAI_ERROR_FORMAT, "model in memory: not an ONNX model: it has no graph");
    put_message(&bytes, 7, &graph);
    refuse(&bytes, XAI_ERROR_FORMAT, "model in memory: imports no operator set");
    put_message(&bytes, 7, &graph);
    refuse(&bytes, XAI_ERROR_FORMAT, "model in memory: field 7 of ModelProto occurs twice");
    bytes.size = 0;
    put_int(&bytes, 1, 99);
    refuse(&bytes, XAI_ERROR_UNSUPPORTED,
           "model in memory: ONNX IR version 99 is newer than this library knows (14)");
    bytes.size = 0;
    put_int(&bytes, 1, 2);
    refuse(&bytes, XAI_ERROR_UNSUPPORTED,
           "model in memory: ONNX IR version 2 is not supported; the oldest supported is 3");
    bytes = model_proto(&graph);
    put_int(&opset, 2, 18);
    put_message(&bytes, 8, &opset);
    refuse(&bytes, XAI_ERROR_FORMAT,
           "model in memory: operator set '' is imported in two versions");
}
END_TEST

static void refuse_tensor(const buffer *t, xai_status status, const char *message)
{
    char whole[300];
    const buffer bytes = model_with_initializer(t);
    snprintf(whole, sizeof whole, "model in memory: initializer 'w': %s", message);
    refuse(&bytes, status, whole);
}

START_TEST(tensor_payload_must_fit_type_and_shape_exactly)
{
    buffer t = tensor_proto("w", DTYPE_FLOAT, 2, (int64_t[]){2, 3});
    const buffer header = t;
    put_bytes(&t, 9, "12345678", 8);
    refuse_tensor(&t, XAI_ERROR_FORMAT, "raw_data has 8 bytes, shape (2, 3) of float32 needs 24");
    put_float(&t, 4, 1);
    refuse_tensor(&t, XAI_ERROR_FORMAT, "holds its values twice (raw, typed or external)");
    t = header;
    refuse_tensor(&t, XAI_ERROR_FORMAT, "has 0 values, shape (2, 3) needs 6");
    put_int(&t, 5, 1);
    refuse_tensor(&t, XAI_ERROR_FORMAT, "values of type float32 in field 5 of TensorProto");
    put_float(&t, 4, 1);
    refuse_tensor(&t, XAI_ERROR_FORMAT, "holds its values in two fields (5 and 4 of TensorProto)");
    t = header;
    put_bytes(&t, 4, "12345", 5);
    refuse_tensor(&t, XAI_ERROR_FORMAT, "field 4 of TensorProto ends inside a number");
    t = tensor_proto("w", DTYPE_FLOAT, 2, (int64_t[]){(int64_t)1 << 32, (int64_t)1 << 32});
    refuse_tensor(&t, XAI_ERROR_FORMAT,
                  "shape (4294967296, 4294967296) has more elements than memory");
    t = tensor_proto("w", DTYPE_DOUBLE, 1, (int64_t[]){INT64_MAX});
    refuse_tensor(&t, XAI_ERROR_FORMAT,
                  "shape (9223372036854775807) has more elements than memory");
    /* Nothing is allocated for it. */
    t = tensor_proto("w", DTYPE_INT64, 1, (int64_t[]){(int64_t)1 << 40});
    put_int(&t, 7, 1);
    refuse_tensor(&t, XAI_ERROR_FORMAT, "has 1 values, shape (1099511627776) needs 1099511627776");
    t = tensor_proto("w", DTYPE_FLOAT, 2, (int64_t[]){2, -3});
    refuse_tensor(&t, XAI_ERROR_FORMAT, "dimension 1 is negative");
    t = tensor_proto("w", DTYPE_FLOAT, 9, (int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1});
    refuse_tensor(&t, XAI_ERROR_UNSUPPORTED, "has 9 dimensions; at most 8 are supported");
    t = tensor_proto("w", DTYPE_UNDEFINED, 0, NULL);
    refuse_tensor(&t, XAI_ERROR_FORMAT, "has no element type");
    t = tensor_proto("w", 17, 0, NULL);
    refuse_tensor(&t, XAI_ERROR_UNSUPPORTED, "element type 17 of ONNX is not supported");
    t = tensor_proto("w", DTYPE_UINT8, 1, (int64_t[]){1});
    put_int(&t, 5, 256);
    refuse_tensor(&t, XAI_ERROR_FORMAT, "value 256 does not fit uint8");
    t = tensor_proto("w", DTYPE_UINT32, 1, (int64_t[]){1});
    put_int(&t, 11, (int64_t)1 << 32);
    refuse_tensor(&t, XAI_ERROR_FORMAT, "value 4294967296 does not fit uint32");
    t = header;
    put_bytes(&t, 3, "", 0);
    refuse_tensor(&t, XAI_ERROR_UNSUPPORTED, "is stored in segments");
    t = tensor_proto("w", DTYPE_STRING, 1, (int64_t[]){1});
    put_bytes(&t, 6, "a\0b", 3);
    refuse_tensor(&t, XAI_ERROR_FORMAT, "a string in field 6 of TensorProto contains a NUL byte");
    t = header;
    put_int(&t, 14, 1);
    refuse_tensor(&t, XAI_ERROR_UNSUPPORTED,
                  "external data needs a model opened from a file, not from memory");
}
END_TEST

START_TEST(place_leads_to_the_node_and_attribute)
{
    buffer attribute = {0}, graph = {0}, node = {0};
    put_text(&attribute, 1, "pads");
    put_int(&attribute, 20, ONNX_ATTRIBUTE_INTS);
    put_int(&attribute, 3, 1);
    buffer bytes = model_with_attribute(&attribute);
    refuse(&bytes, XAI_ERROR_FORMAT,
           "model in memory: node 'n' (Op), attribute 'pads': holds a value of attribute type 2 "
           "but is declared as 7");
    attribute.size = 0;
    put_text(&attribute, 1, "pads");
    bytes = model_with_attribute(&attribute);
    refuse(&bytes, XAI_ERROR_FORMAT,
           "model in memory: node 'n' (Op), attribute 'pads': has no value");
    put_int(&attribute, 3, 1);
    put_float(&attribute, 2, 1);
    bytes = model_with_attribute(&attribute);
    refuse(&bytes, XAI_ERROR_FORMAT,
           "model in memory: node 'n' (Op), attribute 'pads': holds 2 kinds of values");
    attribute.size = 0;
    put_int(&attribute, 3, 1);
    bytes = model_with_attribute(&attribute);
    refuse(&bytes, XAI_ERROR_FORMAT, "model in memory: node 'n' (Op), attribute 0: has no name");
    put_message(&graph, 1, &node);
    bytes = model_proto(&graph);
    refuse(&bytes, XAI_ERROR_FORMAT, "model in memory: node 0: has no operator type");
    graph.size = node.size = 0;
    put_bytes(&node, 4, "Co\0nv", 5);
    put_message(&graph, 1, &node);
    bytes = model_proto(&graph);
    refuse(&bytes, XAI_ERROR_FORMAT,
           "model in memory: node 0: a string in field 4 of NodeProto contains a NUL byte");
    graph.size = node.size = 0;
    put_bytes(&node, 3, "\xff", 1);
    put_message(&graph, 1, &node);
    bytes = model_proto(&graph);
    refuse(&bytes, XAI_ERROR_FORMAT,
           "model in memory: node 0: a string in field 3 of NodeProto is not UTF-8");
    graph.size = 0;
    put_message(&graph, 15, &node);
    bytes = model_proto(&graph);
    refuse(&bytes, XAI_ERROR_UNSUPPORTED,
           "model in memory: sparse initializers are not supported; store them dense");
}
END_TEST

/* `levels` graphs inside each other, the outermost counted. */
static buffer nested_model(int levels)
{
    buffer graph = {0};
    for (int i = 1; i < levels; i++) {
        buffer attribute = {0}, node = node_proto("If", "if"), outer = {0};
        put_text(&attribute, 1, "then_branch");
        put_int(&attribute, 20, ONNX_ATTRIBUTE_GRAPH);
        put_message(&attribute, 6, &graph);
        put_message(&node, 5, &attribute);
        put_message(&outer, 1, &node);
        graph = outer;
    }
    return model_proto(&graph);
}

START_TEST(graphs_nest_up_to_a_limit)
{
    buffer bytes = nested_model(8);
    onnx_model *model = parse(&bytes);
    const onnx_graph *graph = &model->graph;
    int levels = 1;
    for (; graph->node_count > 0; levels++)
        graph = graph->nodes[0].attributes[0].graph;
    ck_assert_int_eq(levels, 8);
    onnx_model_free(model);
    bytes = nested_model(9);
    onnx_model *none = NULL;
    xai_error *error = NULL;
    ck_assert_int_eq(onnx_model_parse(bytes.bytes, bytes.size, &none, &error),
                     XAI_ERROR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(xai_error_message(error), "graphs nested more than 8 deep"));
    xai_error_free(error);
}
END_TEST

START_TEST(wire_refuses_what_leaves_the_message)
{
    static const struct {
        const char *bytes;
        size_t size;
    } cases[] = {
        {"\x0a\x05xxxx", 6},                                      /* length beyond the end */
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},     /* length 2^64 - 1 */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11},     /* varint above 64 bits */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}, /* varint of 11 bytes */
        {"\x08", 1},
        {"\x0d\x01\x02\x03", 4}, /* fixed32 of 3 bytes */
        {"\x09\x01\x02\x03", 4}, /* fixed64 of 3 bytes */
        {"\x00\x01", 2},         /* field number 0 */
        {"\x0f\x01", 2},         /* wire type 7 */
        {"\x0c", 1},             /* end of a group that never began */
        {"\x0b\x14", 2},         /* group 1 ended as group 2 */
        {"\x0b", 1},
        {"\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b"
         "\x0b\x0b\x0b\x0b\x0b"
         "\x0b\x0b\x0b"
         "\x0b\x0b\x0b\x0b",
         34},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char *copy = malloc(cases[i].size); /* of the exact size, for sanitisers */
        memcpy(copy, cases[i].bytes, cases[i].size);
        wire message = {copy, copy + cases[i].size};
        wire_field field;
        ck_assert_msg(wire_next(&message, &field) == WIRE_MALFORMED, "case %zu", i);
        ck_assert_ptr_eq(message.at, copy);
        free(copy);
    }
}
END_TEST

/* Cut off anywhere, with every byte changed in some ways: a model or an error, never outside the
 * bytes. */
START_TEST(damaged_models_are_survived)
{
    const buffer whole = nested_model(3);
    for (size_t length = 0; length < whole.size; length++) {
        onnx_model *model = NULL;
        ck_assert_int_ne(onnx_model_parse(whole.bytes, length, &model, NULL), XAI_OK);
    }
    for (size_t at = 0; at < whole.size; at++)
        for (int change = 1; change < 256; change++) {
            buffer copy = whole;
            onnx_model *model = NULL;
            copy.bytes[at] ^= (unsigned char)change;
            if (onnx_model_parse(copy.bytes, copy.size, &model, NULL) == XAI_OK)
                onnx_model_free(model);
        }
}
END_TEST

/* Files ---------------------------------------------------------------------------------------- */

typedef struct folder {
    char path[256];
} folder;

static folder folder_create(void)
{
    folder made;
    ck_assert(make_test_folder("onnx", made.path, sizeof made.path));
    return made;
}

static char *in(const folder *self, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", self->path, name);
    return path;
}

static void write_file(const folder *self, const char *name, const void *bytes, size_t size)
{
    FILE *file = fopen(in(self, name), "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

static buffer external_model(const char *location, const char *offset, const char *length)
{
    buffer t = tensor_proto("w", DTYPE_FLOAT, 1, (int64_t[]){3}), graph = {0};
    const char *const entries[3][2] = {
        {"location", location}, {"offset", offset}, {"length", length}};
    for (int i = 0; i < 3; i++) {
        buffer entry = {0};
        if (!entries[i][1])
            continue;
        put_text(&entry, 1, entries[i][0]);
        put_text(&entry, 2, entries[i][1]);
        put_message(&t, 13, &entry);
    }
    put_int(&t, 14, 1);
    put_message(&graph, 5, &t);
    return model_proto(&graph);
}

static void check_open(const folder *self, const buffer *bytes, xai_status status,
                       const char *message)
{
    onnx_model *model = NULL;
    xai_error *error = NULL;
    write_file(self, "m.onnx", bytes->bytes, bytes->size);
    const xai_status got = onnx_model_open(in(self, "m.onnx"), &model, &error);
    ck_assert_msg(got == status, "%s", xai_error_message(error));
    if (status != XAI_OK) {
        ck_assert_ptr_null(model);
        ck_assert_msg(strstr(xai_error_message(error), message) != NULL, "%s",
                      xai_error_message(error));
        ck_assert_ptr_nonnull(strstr(xai_error_message(error), "m.onnx: initializer 'w': "));
    } else
        for (size_t i = 0; i < 3; i++)
            ck_assert(tensor_get(&model->graph.initializers[0].tensor, i) == (double)(i + 1));
    xai_error_free(error);
    if (model)
        onnx_model_release_pages(model);
    onnx_model_free(model);
}

START_TEST(external_data_stays_beneath_the_folder_of_the_model)
{
    const folder f = folder_create();
    const float values[] = {0, 1, 2, 3};
    static const struct {
        const char *location, *offset, *length;
        xai_status status;
        const char *message;
    } cases[] = {
        {"w.bin", "4", "12", XAI_OK, ""},
        {"./w.bin", "4", NULL, XAI_OK, ""},
        {"sub//w.bin", "4", "12", XAI_OK, ""},
        {"w.bin", "8", "12", XAI_ERROR_FORMAT,
         "external data 'w.bin' has 16 bytes, the tensor needs 12 from byte 8"},
        {"w.bin", "18446744073709551615", "12", XAI_ERROR_FORMAT,
         "the tensor needs 12 from byte 18446744073709551615"},
        {"w.bin", "18446744073709551616", "12", XAI_ERROR_FORMAT,
         "offset '18446744073709551616' is not a number"},
        {"w.bin", "-4", "12", XAI_ERROR_FORMAT, "offset '-4' is not a number"},
        {"w.bin", "", "12", XAI_ERROR_FORMAT, "offset '' is not a number"},
        {"w.bin", "4", "8", XAI_ERROR_FORMAT, "external data has 8 bytes, type and shape need 12"},
        {NULL, "4", "12", XAI_ERROR_FORMAT, "external data has no location"},
        {"", NULL, NULL, XAI_ERROR_FORMAT, "is empty"},
        {"/etc/passwd", NULL, NULL, XAI_ERROR_FORMAT, "is an absolute path"},
        {"../w.bin", NULL, NULL, XAI_ERROR_FORMAT, "leaves the folder of the model"},
        {"sub/../w.bin", NULL, NULL, XAI_ERROR_FORMAT, "leaves the folder of the model"},
        {"sub\\w.bin", NULL, NULL, XAI_ERROR_FORMAT, "contains a backslash"},
        {"sub", NULL, NULL, XAI_ERROR_FILE, "sub: is a folder, not a file"},
        {"sub/", NULL, NULL, XAI_ERROR_FORMAT, "names a folder, not a file"},
        {".", NULL, NULL, XAI_ERROR_FORMAT, "names a folder, not a file"},
        {"gone.bin", NULL, NULL, XAI_ERROR_FILE, "gone.bin: no such file"},
#ifdef _WIN32 /* links need a privilege there, and pipes lie elsewhere */
        {"w.bin/x", NULL, NULL, XAI_ERROR_FILE, "w.bin/x: no such file"},
        {"C:w.bin", NULL, NULL, XAI_ERROR_FORMAT, "has a letter that names of files have not"},
        {"w.bin:stream", NULL, NULL, XAI_ERROR_FORMAT, "has a letter"},
#else
        {"w.bin/x", NULL, NULL, XAI_ERROR_FILE, "w.bin/x: a part of the path is not a folder"},
        {"link.bin", NULL, NULL, XAI_ERROR_FILE, "link.bin: is a symbolic link"},
        {"linked/w.bin", NULL, NULL, XAI_ERROR_FILE, "linked/w.bin: is a symbolic link"},
        {"pipe", NULL, NULL, XAI_ERROR_FILE, "pipe: not a regular file"},
#endif
    };
    write_file(&f, "w.bin", values, sizeof values);
    ck_assert_int_eq(make_directory(in(&f, "sub")), 0);
    write_file(&f, "sub/w.bin", values, sizeof values);
#ifndef _WIN32
    ck_assert_int_eq(symlink("w.bin", in(&f, "link.bin")), 0);
    ck_assert_int_eq(symlink("sub", in(&f, "linked")), 0);
    ck_assert_int_eq(mkfifo(in(&f, "pipe"), 0600), 0);
#endif
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const buffer bytes = external_model(cases[i].location, cases[i].offset, cases[i].length);
        check_open(&f, &bytes, cases[i].status, cases[i].message);
    }
    static const char *const names[] = {"w.bin",  "sub/w.bin", "link.bin",
                                        "linked", "pipe",      "m.onnx"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(in(&f, names[i]));
    rmdir(in(&f, "sub"));
    ck_assert_int_eq(rmdir(f.path), 0);
}
END_TEST

START_TEST(files_that_are_no_models_are_one_clear_error)
{
    const folder f = folder_create();
    static const struct {
        const char *name;
        xai_status status;
        const char *message;
    } cases[] = {
        {"gone.onnx", XAI_ERROR_FILE, "gone.onnx: no such file"},
        {"", XAI_ERROR_FILE, "/: is a folder, not a file"},
        {"empty.onnx", XAI_ERROR_FORMAT, "empty.onnx: is empty"},
        {"text.onnx", XAI_ERROR_FORMAT, "text.onnx: malformed ModelProto at byte "},
#ifdef _WIN32
        {"text.onnx/x", XAI_ERROR_FILE, "text.onnx/x: no such file"},
#else
        {"pipe", XAI_ERROR_FILE, "pipe: not a regular file"},
        {"text.onnx/x", XAI_ERROR_FILE, "text.onnx/x: a part of the path is not a folder"},
#endif
    };
    write_file(&f, "empty.onnx", "", 0);
    write_file(&f, "text.onnx", "Dear reader, this is no model.\n", 31);
#ifndef _WIN32
    ck_assert_int_eq(mkfifo(in(&f, "pipe"), 0600), 0);
#endif
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        onnx_model *model = NULL;
        xai_error *error = NULL;
        ck_assert_int_eq(onnx_model_open(in(&f, cases[i].name), &model, &error), cases[i].status);
        ck_assert_ptr_null(model);
        ck_assert_msg(strstr(xai_error_message(error), cases[i].message) != NULL, "%s",
                      xai_error_message(error));
        xai_error_free(error);
    }
    unlink(in(&f, "empty.onnx"));
    unlink(in(&f, "text.onnx"));
    unlink(in(&f, "pipe"));
    ck_assert_int_eq(rmdir(f.path), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("onnx");
    TCase *tests = tcase_create("onnx");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, model_is_read_whole);
    tcase_add_test(tests, typed_values_are_read_packed_and_unpacked);
    tcase_add_test(tests, floats_are_read_in_any_mixture);
    tcase_add_test(tests, raw_strings_scalars_and_empty_tensors_are_read);
    tcase_add_test(tests, attribute_type_is_inferred_and_defaults_may_be_left_out);
    tcase_add_test(tests, unknown_fields_and_groups_are_skipped);
    tcase_add_test(tests, not_a_model_is_one_clear_error);
    tcase_add_test(tests, tensor_payload_must_fit_type_and_shape_exactly);
    tcase_add_test(tests, place_leads_to_the_node_and_attribute);
    tcase_add_test(tests, graphs_nest_up_to_a_limit);
    tcase_add_test(tests, wire_refuses_what_leaves_the_message);
    tcase_add_test(tests, damaged_models_are_survived);
    tcase_add_test(tests, external_data_stays_beneath_the_folder_of_the_model);
    tcase_add_test(tests, files_that_are_no_models_are_one_clear_error);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
