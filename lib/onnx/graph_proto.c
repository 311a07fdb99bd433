/* GraphProto and what it lists: NodeProto, ValueInfoProto. */
#include <string.h>

#include "onnx/reader.h"

/* ValueInfoProto ------------------------------------------------------------------------------- */

/* TensorShapeProto.Dimension */
static int64_t read_dimension(reader *self, wire bytes, const char **name)
{
    enum { VALUE = 1, PARAMETER = 2 };
    int64_t dim = -1;
    *name = "";
    message body = message_begin(bytes, FIELD(VALUE) | FIELD(PARAMETER), "Dimension");
    wire_field field;
    while (message_next(self, &body, &field)) {
        if (field.number == VALUE)
            dim = (int64_t)take_varint(self, &body, &field);
        else if (field.number == PARAMETER)
            *name = take_string(self, &body, &field);
    }
    if ((body.seen & FIELD(VALUE)) && (body.seen & FIELD(PARAMETER)))
        reader_fail(self, XAI_ERROR_FORMAT, "a dimension has a number and a name");
    else if (dim < -1) /* -1: some exporters write it for "unknown" */
        reader_fail(self, XAI_ERROR_FORMAT, "a dimension is negative");
    return dim;
}

static void read_shape(reader *self, wire bytes, onnx_value *out)
{
    enum { DIM = 1 };
    message body = message_begin(bytes, 0, "TensorShapeProto");
    wire_field field;
    out->has_shape = true;
    while (message_next(self, &body, &field)) {
        if (field.number != DIM)
            continue;
        if (out->shape.rank == SHAPE_MAX_RANK) {
            reader_fail(self, XAI_ERROR_UNSUPPORTED, "has more than %d dimensions", SHAPE_MAX_RANK);
            return;
        }
        const int axis = out->shape.rank++;
        out->shape.dims[axis] =
            read_dimension(self, take_bytes(self, &body, &field), &out->dim_names[axis]);
    }
}

/* TypeProto; anything but a dense tensor leaves the element type undefined. */
static void read_type(reader *self, wire bytes, onnx_value *out)
{
    enum { TENSOR_TYPE = 1, ELEMENT = 1, SHAPE = 2 };
    message body = message_begin(bytes, FIELD(TENSOR_TYPE), "TypeProto");
    wire_field field;
    while (message_next(self, &body, &field)) {
        if (field.number != TENSOR_TYPE)
            continue;
        message type = message_begin(take_bytes(self, &body, &field), FIELD(ELEMENT) | FIELD(SHAPE),
                                     "TypeProto.Tensor");
        while (message_next(self, &type, &field)) {
            if (field.number == ELEMENT)
                out->dtype = take_int32(self, &type, &field);
            else if (field.number == SHAPE)
                read_shape(self, take_bytes(self, &type, &field), out);
        }
    }
}

static void read_value_info(reader *self, wire bytes, const char *kind, size_t index,
                            onnx_value *out)
{
    enum { NAME = 1, TYPE = 2 };
    place here = {.outer = self->place, .kind = kind, .name = "", .index = index};
    *out = (onnx_value){.name = ""};
    for (int axis = 0; axis < SHAPE_MAX_RANK; axis++)
        out->dim_names[axis] = "";
    self->place = &here;
    here.name = out->name = find_name(self, bytes, NAME, "ValueInfoProto");
    message body = message_begin(bytes, FIELD(NAME) | FIELD(TYPE), "ValueInfoProto");
    wire_field field;
    while (message_next(self, &body, &field))
        if (field.number == TYPE)
            read_type(self, take_bytes(self, &body, &field), out);
    if (self->status == XAI_OK && out->name[0] == '\0')
        reader_fail(self, XAI_ERROR_FORMAT, "has no name");
    self->place = here.outer;
}

/* NodeProto ------------------------------------------------------------------------------------ */

void read_node(reader *self, wire bytes, size_t index, onnx_node *out)
{
    enum { INPUT = 1, OUTPUT = 2, NAME = 3, OP_TYPE = 4, ATTRIBUTE = 5, DOMAIN = 7, OVERLOAD = 8 };
    const uint32_t singular = FIELD(NAME) | FIELD(OP_TYPE) | FIELD(DOMAIN) | FIELD(OVERLOAD);
    place here = {.outer = self->place, .kind = "node", .name = "", .index = index};
    self->place = &here;
    *out = (onnx_node){.name = "", .op_type = "", .domain = "", .overload = ""};
    here.name = out->name = find_name(self, bytes, NAME, "NodeProto");
    message body = message_begin(bytes, singular, "NodeProto");
    wire_field field;
    while (message_next(self, &body, &field)) {
        switch (field.number) {
        case INPUT:
            out->input_count++;
            break;
        case OUTPUT:
            out->output_count++;
            break;
        case ATTRIBUTE:
            out->attribute_count++;
            break;
        case OP_TYPE:
            here.op_type = out->op_type = take_string(self, &body, &field);
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
    if (self->status == XAI_OK && out->op_type[0] == '\0') {
        here.op_type = NULL;
        reader_fail(self, XAI_ERROR_FORMAT, "has no operator type");
    }
    reader_count(self, &self->attributes, out->attribute_count, ONNX_ATTRIBUTE_LIMIT, "attributes");
    reader_count(self, &self->strings, out->input_count, ONNX_STRING_LIMIT, "names");
    reader_count(self, &self->strings, out->output_count, ONNX_STRING_LIMIT, "names");
    const char **inputs = reader_allocate(self, out->input_count, sizeof *inputs, "input names");
    const char **outputs =
        reader_allocate(self, out->output_count, sizeof *outputs, "output names");
    onnx_attribute *attributes =
        reader_allocate(self, out->attribute_count, sizeof *attributes, "attributes");
    out->inputs = inputs;
    out->outputs = outputs;
    out->attributes = attributes;
    body = message_begin(bytes, singular, "NodeProto");
    for (size_t i = 0, o = 0, a = 0; message_next(self, &body, &field);) {
        if (field.number == INPUT)
            inputs[i++] = take_string(self, &body, &field);
        else if (field.number == OUTPUT)
            outputs[o++] = take_string(self, &body, &field);
        else if (field.number == ATTRIBUTE) {
            const wire attribute = take_bytes(self, &body, &field);
            read_attribute(self, attribute, a, &attributes[a]);
            a++;
        }
    }
    self->place = here.outer;
}

/* GraphProto ----------------------------------------------------------------------------------- */

void read_graph(reader *self, wire bytes, onnx_graph *graph)
{
    enum { NODE = 1, NAME = 2, INITIALIZER = 5, INPUT = 11, OUTPUT = 12, SPARSE_INITIALIZER = 15 };
    *graph = (onnx_graph){.name = ""};
    message body = message_begin(bytes, FIELD(NAME), "GraphProto");
    wire_field field;
    while (message_next(self, &body, &field)) {
        switch (field.number) {
        case NODE:
            graph->node_count++;
            break;
        case NAME:
            graph->name = take_string(self, &body, &field);
            break;
        case INITIALIZER:
            graph->initializer_count++;
            break;
        case INPUT:
            graph->input_count++;
            break;
        case OUTPUT:
            graph->output_count++;
            break;
        case SPARSE_INITIALIZER:
            reader_fail(self, XAI_ERROR_UNSUPPORTED,
                        "sparse initializers are not supported; store them dense");
            break;
        default: /* documentation, value_info (inferred anew), quantization annotations, metadata */
            break;
        }
    }
    size_t tensors = self->tensors; /* read_tensor counts them one by one */
    reader_count(self, &self->nodes, graph->node_count, ONNX_NODE_LIMIT, "nodes");
    reader_count(self, &tensors, graph->initializer_count, ONNX_TENSOR_LIMIT, "tensors");
    reader_count(self, &self->values, graph->input_count, ONNX_VALUE_LIMIT, "inputs and outputs");
    reader_count(self, &self->values, graph->output_count, ONNX_VALUE_LIMIT, "inputs and outputs");
    onnx_node *nodes = reader_allocate(self, graph->node_count, sizeof *nodes, "nodes");
    onnx_named_tensor *initializers =
        reader_allocate(self, graph->initializer_count, sizeof *initializers, "initializers");
    onnx_value *inputs = reader_allocate(self, graph->input_count, sizeof *inputs, "inputs");
    onnx_value *outputs = reader_allocate(self, graph->output_count, sizeof *outputs, "outputs");
    graph->nodes = nodes;
    graph->initializers = initializers;
    graph->inputs = inputs;
    graph->outputs = outputs;

    self->graph_depth++;
    body = message_begin(bytes, FIELD(NAME), "GraphProto");
    for (size_t n = 0, t = 0, i = 0, o = 0; message_next(self, &body, &field);) {
        if (field.number != NODE && field.number != INITIALIZER && field.number != INPUT &&
            field.number != OUTPUT)
            continue;
        const wire item = take_bytes(self, &body, &field);
        if (self->status != XAI_OK)
            break;
        if (field.number == NODE) {
            read_node(self, item, n, &nodes[n]);
            n++;
        } else if (field.number == INITIALIZER) {
            initializers[t] = read_tensor(self, item, "initializer", t);
            if (self->status == XAI_OK && initializers[t].name[0] == '\0')
                reader_fail(self, XAI_ERROR_FORMAT, "initializer %zu has no name", t);
            t++;
        } else if (field.number == INPUT) {
            read_value_info(self, item, "input", i, &inputs[i]);
            i++;
        } else {
            read_value_info(self, item, "output", o, &outputs[o]);
            o++;
        }
    }
    self->graph_depth--;
}
