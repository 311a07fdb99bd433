#include "model_builder.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* Protobuf wire format: a field is a varint key (number << 3 | type), then a varint (type 0), 4 bytes (5) or a length and bytes (2). */
typedef struct buffer {
    unsigned char *bytes;
    size_t size, capacity;
} buffer;

struct model_builder {
    int64_t ir_version;
    buffer opsets, metadata;                     /* fields of ModelProto */
    buffer nodes, initializers, inputs, outputs; /* fields of GraphProto */
    buffer node;                                 /* the open NodeProto */
    bool node_open;
    buffer file;
};

static void put_bytes(buffer *to, const void *bytes, size_t size)
{
    if (to->size + size > to->capacity) {
        to->capacity = 2 * (to->size + size) + 64;
        to->bytes = realloc(to->bytes, to->capacity);
        ck_assert_ptr_nonnull(to->bytes);
    }
    if (size)
        memcpy(to->bytes + to->size, bytes, size);
    to->size += size;
}

static void put_varint(buffer *to, uint64_t value)
{
    while (value >= 0x80) {
        const unsigned char byte = (unsigned char)(value | 0x80);
        put_bytes(to, &byte, 1);
        value >>= 7;
    }
    const unsigned char byte = (unsigned char)value;
    put_bytes(to, &byte, 1);
}

static void put_int(buffer *to, unsigned field, int64_t value)
{
    put_varint(to, field << 3);
    put_varint(to, (uint64_t)value);
}

static void put_float(buffer *to, unsigned field, float value)
{
    put_varint(to, field << 3 | 5);
    put_bytes(to, &value, sizeof value); /* little-endian host */
}

static void put_field(buffer *to, unsigned field, const void *bytes, size_t size)
{
    put_varint(to, field << 3 | 2);
    put_varint(to, size);
    put_bytes(to, bytes, size);
}

static void put_text(buffer *to, unsigned field, const char *value)
{
    put_field(to, field, value, strlen(value));
}

/* Append `message` as a field and drop it. */
static void put_message(buffer *to, unsigned field, buffer *message)
{
    put_field(to, field, message->bytes, message->size);
    free(message->bytes);
    *message = (buffer){0};
}

static void close_node(model_builder *self)
{
    if (self->node_open)
        put_message(&self->nodes, 1, &self->node);
    self->node_open = false;
}

model_builder *model_create(int64_t opset)
{
    model_builder *self = calloc(1, sizeof *self);
    ck_assert_ptr_nonnull(self);
    self->ir_version = 8;
    if (opset)
        model_opset(self, "", opset);
    return self;
}

void model_free(model_builder *self)
{
    if (!self)
        return;
    buffer *all[] = {&self->opsets, &self->metadata, &self->nodes, &self->initializers,
                     &self->inputs, &self->outputs,  &self->node,  &self->file};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]->bytes);
    free(self);
}

void model_ir_version(model_builder *self, int64_t version)
{
    self->ir_version = version;
}

void model_opset(model_builder *self, const char *domain, int64_t version)
{
    buffer opset = {0};
    put_text(&opset, 1, domain);
    put_int(&opset, 2, version);
    put_message(&self->opsets, 8, &opset);
}

void model_metadata(model_builder *self, const char *key, const char *value)
{
    buffer entry = {0};
    put_text(&entry, 1, key);
    put_text(&entry, 2, value);
    put_message(&self->metadata, 14, &entry);
}

/* ValueInfoProto */
static void put_value(buffer *to, unsigned field, const char *name, int32_t dtype, int rank,
                      const int64_t *dims)
{
    buffer value = {0}, type = {0}, tensor_type = {0}, dims_message = {0};
    put_int(&tensor_type, 1, dtype);
    for (int i = 0; i < rank; i++) {
        buffer dim = {0};
        if (dims[i] >= 0)
            put_int(&dim, 1, dims[i]);
        else
            put_text(&dim, 2, "N");
        put_message(&dims_message, 1, &dim);
    }
    if (rank >= 0)
        put_message(&tensor_type, 2, &dims_message);
    put_message(&type, 1, &tensor_type);
    put_text(&value, 1, name);
    put_message(&value, 2, &type);
    put_message(to, field, &value);
}

void model_input(model_builder *self, const char *name, int32_t dtype, int rank,
                 const int64_t *dims)
{
    put_value(&self->inputs, 11, name, dtype, rank, dims);
}

void model_output(model_builder *self, const char *name)
{
    put_value(&self->outputs, 12, name, DTYPE_FLOAT, -1, NULL);
}

/* TensorProto */
static void put_tensor(buffer *to, unsigned field, const char *name, int32_t dtype, int rank,
                       const int64_t *dims, const void *payload, size_t size)
{
    buffer message = {0};
    for (int i = 0; i < rank; i++)
        put_int(&message, 1, dims[i]);
    put_int(&message, 2, dtype);
    put_text(&message, 8, name);
    put_field(&message, 9, payload, size);
    put_message(to, field, &message);
}

void model_tensor(model_builder *self, const char *name, int32_t dtype, int rank,
                  const int64_t *dims, const void *payload, size_t size)
{
    put_tensor(&self->initializers, 5, name, dtype, rank, dims, payload, size);
}

static size_t count_of(int rank, const int64_t *dims)
{
    size_t count = 1;
    for (int i = 0; i < rank; i++)
        count *= (size_t)dims[i];
    return count;
}

void model_floats(model_builder *self, const char *name, int rank, const int64_t *dims,
                  const float *values)
{
    model_tensor(self, name, DTYPE_FLOAT, rank, dims, values,
                 count_of(rank, dims) * sizeof *values);
}

void model_ints(model_builder *self, const char *name, size_t count, const int64_t *values)
{
    model_tensor(self, name, DTYPE_INT64, 1, (int64_t[]){(int64_t)count}, values,
                 count * sizeof *values);
}

void model_scalar(model_builder *self, const char *name, float value)
{
    model_floats(self, name, 0, NULL, &value);
}

static float *make_floats(int rank, const int64_t *dims)
{
    float *values = malloc((count_of(rank, dims) + 1) * sizeof *values);
    ck_assert_ptr_nonnull(values);
    return values;
}

void model_fill(model_builder *self, const char *name, int rank, const int64_t *dims, float value)
{
    float *values = make_floats(rank, dims);
    for (size_t i = 0; i < count_of(rank, dims); i++)
        values[i] = value;
    model_floats(self, name, rank, dims, values);
    free(values);
}

float model_uniform(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / (float)(1 << 23) - 1;
}

static void put_random(model_builder *self, const char *name, int rank, const int64_t *dims,
                       unsigned seed, float scale, float shift)
{
    float *values = make_floats(rank, dims);
    unsigned state = seed * 2654435761u + 1;
    for (size_t i = 0; i < count_of(rank, dims); i++)
        values[i] = shift + scale * model_uniform(&state);
    model_floats(self, name, rank, dims, values);
    free(values);
}

void model_random(model_builder *self, const char *name, int rank, const int64_t *dims,
                  unsigned seed)
{
    put_random(self, name, rank, dims, seed, 1, 0);
}

void model_positive(model_builder *self, const char *name, int rank, const int64_t *dims,
                    unsigned seed)
{
    put_random(self, name, rank, dims, seed, 0.5f, 1);
}

static void put_names(buffer *to, unsigned field, const char *names)
{
    while (*names) {
        const size_t length = strcspn(names, " ");
        if (length == 1 && *names == '-')
            put_field(to, field, "", 0);
        else if (length)
            put_field(to, field, names, length);
        names += length + (names[length] == ' ');
    }
}

void model_node(model_builder *self, const char *op, const char *inputs, const char *outputs)
{
    close_node(self);
    put_names(&self->node, 1, inputs);
    put_names(&self->node, 2, outputs);
    put_text(&self->node, 4, op);
    self->node_open = true;
}

void model_node_name(model_builder *self, const char *name)
{
    ck_assert(self->node_open);
    put_text(&self->node, 3, name);
}

void model_node_domain(model_builder *self, const char *domain)
{
    ck_assert(self->node_open);
    put_text(&self->node, 7, domain);
}

/* Finish an AttributeProto whose value is in place. */
static void put_attribute(model_builder *self, const char *name, int32_t type, buffer *attribute)
{
    ck_assert(self->node_open);
    put_text(attribute, 1, name);
    put_int(attribute, 20, type);
    put_message(&self->node, 5, attribute);
}

void model_int_attribute(model_builder *self, const char *name, int64_t value)
{
    buffer attribute = {0};
    put_int(&attribute, 3, value);
    put_attribute(self, name, ONNX_ATTRIBUTE_INT, &attribute);
}

void model_float_attribute(model_builder *self, const char *name, float value)
{
    buffer attribute = {0};
    put_float(&attribute, 2, value);
    put_attribute(self, name, ONNX_ATTRIBUTE_FLOAT, &attribute);
}

void model_text_attribute(model_builder *self, const char *name, const char *value)
{
    buffer attribute = {0};
    put_text(&attribute, 4, value);
    put_attribute(self, name, ONNX_ATTRIBUTE_STRING, &attribute);
}

void model_ints_attribute(model_builder *self, const char *name, size_t count,
                          const int64_t *values)
{
    buffer attribute = {0};
    for (size_t i = 0; i < count; i++)
        put_int(&attribute, 8, values[i]);
    put_attribute(self, name, ONNX_ATTRIBUTE_INTS, &attribute);
}

void model_floats_attribute(model_builder *self, const char *name, size_t count,
                            const float *values)
{
    buffer attribute = {0};
    for (size_t i = 0; i < count; i++)
        put_float(&attribute, 7, values[i]);
    put_attribute(self, name, ONNX_ATTRIBUTE_FLOATS, &attribute);
}

void model_tensor_attribute(model_builder *self, const char *name, int32_t dtype, int rank,
                            const int64_t *dims, const void *payload, size_t size)
{
    buffer attribute = {0};
    put_tensor(&attribute, 5, "", dtype, rank, dims, payload, size);
    put_attribute(self, name, ONNX_ATTRIBUTE_TENSOR, &attribute);
}

void model_graph_attribute(model_builder *self, const char *name)
{
    buffer attribute = {0}, subgraph = {0};
    put_text(&subgraph, 2, name);
    put_message(&attribute, 6, &subgraph);
    put_attribute(self, name, ONNX_ATTRIBUTE_GRAPH, &attribute);
}

const void *model_bytes(model_builder *self, size_t *size)
{
    close_node(self);
    buffer graph_message = {0};
    put_bytes(&graph_message, self->nodes.bytes, self->nodes.size);
    put_text(&graph_message, 2, "test");
    put_bytes(&graph_message, self->initializers.bytes, self->initializers.size);
    put_bytes(&graph_message, self->inputs.bytes, self->inputs.size);
    put_bytes(&graph_message, self->outputs.bytes, self->outputs.size);
    self->file.size = 0;
    put_int(&self->file, 1, self->ir_version);
    put_text(&self->file, 2, "tests");
    put_message(&self->file, 7, &graph_message);
    put_bytes(&self->file, self->opsets.bytes, self->opsets.size);
    put_bytes(&self->file, self->metadata.bytes, self->metadata.size);
    *size = self->file.size;
    return self->file.bytes;
}

static void require(xai_status status, xai_error *const *error)
{
    ck_assert_msg(status == XAI_OK, "%s", *error ? xai_error_message(*error) : "no error given");
}

onnx_model *model_parse(model_builder *self)
{
    size_t size;
    const void *bytes = model_bytes(self, &size);
    onnx_model *file = NULL;
    xai_error *error = NULL;
    require(onnx_model_parse(bytes, size, &file, &error), &error);
    return file;
}

graph *model_graph(model_builder *self, onnx_model **file)
{
    graph *imported = NULL;
    xai_error *error = NULL;
    *file = model_parse(self);
    require(graph_import(*file, &imported, &error), &error);
    return imported;
}

void model_evaluate(const graph *specialised, const tensor *inputs, const int *values, size_t count,
                    tensor *outputs)
{
    enum { MAX_WIDTH = 64 };
    xai_error *error = NULL;
    tensor *data = calloc(specialised->value_count, sizeof *data);
    ck_assert_ptr_nonnull(data);
    for (size_t i = 0; i < specialised->input_count; i++) {
        data[specialised->inputs[i]] = inputs[i];
        data[specialised->inputs[i]].owned = false;
    }
    for (size_t i = 0; i < specialised->node_count; i++) {
        const graph_node *node = &specialised->nodes[i];
        const tensor *node_inputs[MAX_WIDTH];
        tensor *node_outputs[MAX_WIDTH], storage[2 * MAX_WIDTH];
        operator_call call;
        if (node->removed)
            continue;
        ck_assert_int_le(node->input_count, MAX_WIDTH);
        ck_assert_int_le(node->output_count, MAX_WIDTH);
        graph_call(specialised, node, &call, node_inputs, node_outputs, storage, &error);
        for (int k = 0; k < node->input_count; k++)
            if (node->inputs[k] != GRAPH_NONE &&
                !specialised->values[node->inputs[k]].is_constant) {
                node_inputs[k] = &data[node->inputs[k]];
                ck_assert_msg(node_inputs[k]->data, "%s reads '%s' before it is computed",
                              node->place, specialised->values[node->inputs[k]].name);
            }
        for (int k = 0; k < node->output_count; k++)
            if (node->outputs[k] != GRAPH_NONE) {
                const graph_value *value = &specialised->values[node->outputs[k]];
                node_outputs[k] = &data[node->outputs[k]];
                require(tensor_create(node_outputs[k], value->dtype, &value->shape, &error),
                        &error);
            }
        require(node->definition->forward(&call), &error);
    }
    for (size_t i = 0; i < count; i++) {
        const graph_value *value = &specialised->values[values[i]];
        const tensor *from = value->is_constant ? &value->constant : &data[values[i]];
        ck_assert_msg(from->data, "'%s' is not computed", value->name);
        require(tensor_copy(&outputs[i], from, &error), &error);
    }
    for (size_t i = 0; i < specialised->value_count; i++)
        tensor_free(&data[i]);
    free(data);
}
