/* FunctionProto: a function that the model brings along, called like an operator. */
#include <string.h>

#include "onnx/reader.h"

enum {
    NAME = 1,
    INPUT = 4,
    OUTPUT = 5,
    ATTRIBUTE = 6, /* names without a default: a call that leaves one out leaves it out inside */
    NODE = 7,
    OPSET_IMPORT = 9,
    DOMAIN = 10,
    DEFAULT = 11,
    OVERLOAD = 13,
};

static message function_message(wire bytes)
{
    return message_begin(bytes, FIELD(NAME) | FIELD(DOMAIN) | FIELD(OVERLOAD), "FunctionProto");
}

static void count_fields(reader *self, wire bytes, onnx_function *out)
{
    message body = function_message(bytes);
    wire_field field;
    while (message_next(self, &body, &field)) {
        switch (field.number) {
        case INPUT:
            out->input_count++;
            break;
        case OUTPUT:
            out->output_count++;
            break;
        case NODE:
            out->node_count++;
            break;
        case DEFAULT:
            out->default_count++;
            break;
        case OPSET_IMPORT:
            reader_count(self, &out->opset_count, 1, ONNX_OPSET_LIMIT, "operator sets");
            break;
        case DOMAIN:
            out->domain = normal_domain(take_string(self, &body, &field));
            break;
        case OVERLOAD:
            out->overload = take_string(self, &body, &field);
            break;
        default:
            break;
        }
    }
    reader_count(self, &self->nodes, out->node_count, ONNX_NODE_LIMIT, "nodes");
    reader_count(self, &self->attributes, out->default_count, ONNX_ATTRIBUTE_LIMIT, "attributes");
    reader_count(self, &self->strings, out->input_count, ONNX_STRING_LIMIT, "names");
    reader_count(self, &self->strings, out->output_count, ONNX_STRING_LIMIT, "names");
}

void read_function(reader *self, wire bytes, size_t index, onnx_function *out)
{
    place here = {.outer = self->place, .kind = "function", .name = "", .index = index};
    self->place = &here;
    *out = (onnx_function){.name = "", .domain = "", .overload = ""};
    here.name = out->name = find_name(self, bytes, NAME, "FunctionProto");
    count_fields(self, bytes, out);
    const char **inputs = reader_allocate(self, out->input_count, sizeof *inputs, "input names");
    const char **outputs =
        reader_allocate(self, out->output_count, sizeof *outputs, "output names");
    onnx_node *nodes = reader_allocate(self, out->node_count, sizeof *nodes, "nodes");
    onnx_attribute *defaults =
        reader_allocate(self, out->default_count, sizeof *defaults, "attributes");
    onnx_opset *opsets = reader_allocate(self, out->opset_count, sizeof *opsets, "operator sets");
    out->inputs = inputs;
    out->outputs = outputs;
    out->nodes = nodes;
    out->defaults = defaults;
    out->opsets = opsets;
    size_t opset_count = 0;
    message body = function_message(bytes);
    wire_field field;
    for (size_t i = 0, o = 0, n = 0, d = 0; message_next(self, &body, &field);) {
        if (field.number == INPUT) {
            inputs[i++] = take_string(self, &body, &field);
        } else if (field.number == OUTPUT) {
            outputs[o++] = take_string(self, &body, &field);
        } else if (field.number == OPSET_IMPORT) {
            read_opset(self, take_bytes(self, &body, &field), opsets, &opset_count);
        } else if (field.number == NODE || field.number == DEFAULT) {
            const wire item = take_bytes(self, &body, &field);
            self->in_function = field.number == NODE;
            if (self->status == XAI_OK && field.number == NODE) {
                read_node(self, item, n, &nodes[n]);
                n++;
            } else if (self->status == XAI_OK) {
                read_attribute(self, item, d, &defaults[d]);
                d++;
            }
            self->in_function = false;
        }
    }
    if (self->status == XAI_OK && out->name[0] == '\0')
        reader_fail(self, XAI_ERROR_FORMAT, "has no name");
    self->place = here.outer;
}
