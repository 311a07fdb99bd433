/* AttributeProto: a name and one value or list of values. */
#include <string.h>

#include "onnx/reader.h"

enum {
    NAME = 1,
    FLOAT_VALUE = 2,
    INT_VALUE = 3,
    STRING_VALUE = 4,
    TENSOR_VALUE = 5,
    GRAPH_VALUE = 6,
    FLOATS = 7,
    INTS = 8,
    STRINGS = 9,
    TENSORS = 10,
    GRAPHS = 11,
    TYPE_VALUE = 14,
    TYPES = 15,
    TYPE = 20,
    REFERENCE = 21,
    SPARSE_VALUE = 22,
    SPARSES = 23,
};

/* AttributeType -> the field that holds its value; 0 where the standard has none. */
static const uint8_t value_fields[] = {
    0,       FLOAT_VALUE, INT_VALUE, STRING_VALUE, TENSOR_VALUE, GRAPH_VALUE, FLOATS, INTS,
    STRINGS, TENSORS,     GRAPHS,    SPARSE_VALUE, SPARSES,      TYPE_VALUE,  TYPES};
#define TYPE_COUNT ((int32_t)(sizeof value_fields))

#define VALUE_MASK                                                                        \
    (FIELD(FLOAT_VALUE) | FIELD(INT_VALUE) | FIELD(STRING_VALUE) | FIELD(TENSOR_VALUE) |  \
     FIELD(GRAPH_VALUE) | FIELD(FLOATS) | FIELD(INTS) | FIELD(STRINGS) | FIELD(TENSORS) | \
     FIELD(GRAPHS) | FIELD(SPARSE_VALUE) | FIELD(SPARSES) | FIELD(TYPE_VALUE) | FIELD(TYPES))

/* What a first pass over the message finds. */
typedef struct attribute_facts {
    int32_t type;
    uint32_t fields; /* VALUE_MASK bits of the fields that hold something */
    size_t count;    /* elements of the list */
    bool reference;  /* ref_attr_name: only has a meaning inside a function */
    wire tensor, graph;
} attribute_facts;

static message attribute_message(wire bytes)
{
    return message_begin(bytes,
                         FIELD(NAME) | FIELD(FLOAT_VALUE) | FIELD(INT_VALUE) | FIELD(STRING_VALUE) |
                             FIELD(TENSOR_VALUE) | FIELD(GRAPH_VALUE) | FIELD(TYPE_VALUE) |
                             FIELD(TYPE) | FIELD(REFERENCE) | FIELD(SPARSE_VALUE),
                         "AttributeProto");
}

static attribute_facts scan(reader *self, wire bytes, onnx_attribute *out)
{
    attribute_facts facts = {0};
    message body = attribute_message(bytes);
    wire_field field;
    while (message_next(self, &body, &field)) {
        size_t count = 1;
        switch (field.number) {
        case TYPE:
            facts.type = take_int32(self, &body, &field);
            break;
        case REFERENCE:
            out->reference = take_string(self, &body, &field);
            facts.reference = out->reference[0] != '\0';
            break;
        case FLOAT_VALUE:
            out->f = take_float(self, &body, &field);
            break;
        case INT_VALUE:
            out->i = (int64_t)take_varint(self, &body, &field);
            break;
        case STRING_VALUE:
            out->s = take_string(self, &body, &field);
            break;
        case TENSOR_VALUE:
            facts.tensor = take_bytes(self, &body, &field);
            break;
        case GRAPH_VALUE:
            facts.graph = take_bytes(self, &body, &field);
            break;
        case FLOATS:
            facts.count += count = take_count(self, &body, &field, WIRE_FIXED32);
            break;
        case INTS:
            facts.count += count = take_count(self, &body, &field, WIRE_VARINT);
            break;
        case STRINGS:
        case TENSORS:
        case GRAPHS:
        case TYPE_VALUE:
        case TYPES:
        case SPARSE_VALUE:
        case SPARSES:
            take_bytes(self, &body, &field);
            facts.count++;
            break;
        default:
            break;
        }
        if (field.number < 32 && count > 0)
            facts.fields |= FIELD(field.number) & VALUE_MASK;
    }
    return facts;
}

/* Floats, ints or strings: repeated fields, packed or not. */
static void read_list(reader *self, wire bytes, int field_number, size_t count, onnx_attribute *out)
{
    float *floats = NULL;
    int64_t *ints = NULL;
    const char **strings = NULL;
    size_t i = 0;
    if (field_number == FLOATS)
        out->floats = floats = reader_allocate(self, count, sizeof *floats, "floats");
    else if (field_number == INTS)
        out->ints = ints = reader_allocate(self, count, sizeof *ints, "integers");
    else if (reader_count(self, &self->strings, count, ONNX_STRING_LIMIT, "strings"))
        out->strings = strings = reader_allocate(self, count, sizeof *strings, "strings");
    const int type = field_number == FLOATS ? WIRE_FIXED32 : WIRE_VARINT;
    message body = attribute_message(bytes);
    wire_field field;
    while (message_next(self, &body, &field)) {
        if ((int)field.number != field_number)
            continue;
        if (strings) {
            strings[i++] = take_string(self, &body, &field);
            continue;
        }
        wire packed = field.bytes;
        for (uint64_t value = field.value; field.type == type || packed.at < packed.end;) {
            if (field.type != type && !wire_packed_next(&packed, type, &value)) {
                reader_fail(self, XAI_ERROR_FORMAT, "malformed number");
                return;
            }
            if (ints)
                ints[i++] = (int64_t)value;
            else
                memcpy(&floats[i++], &(uint32_t){(uint32_t)value}, sizeof *floats);
            if (field.type == type)
                break;
        }
    }
}

static void read_subgraph(reader *self, wire bytes, onnx_attribute *out)
{
    if (self->graph_depth >= ONNX_GRAPH_DEPTH_LIMIT) {
        reader_fail(self, XAI_ERROR_UNSUPPORTED, "graphs nested more than %d deep",
                    ONNX_GRAPH_DEPTH_LIMIT);
        return;
    }
    onnx_graph *graph = reader_allocate(self, 1, sizeof *graph, "graph");
    if (graph)
        read_graph(self, bytes, graph);
    out->graph = graph;
}

static void read_value(reader *self, wire bytes, const attribute_facts *facts, onnx_attribute *out)
{
    out->type = facts->type;
    if (facts->type < 0 || facts->type >= TYPE_COUNT) {
        reader_fail(self, XAI_ERROR_UNSUPPORTED, "unknown attribute type %d", (int)facts->type);
        return;
    }
    /* Exactly one field holds a value. When the type is given, zero, "" and an empty list may be
     * left out. */
    int used = 0;
    for (int32_t type = 1; type < TYPE_COUNT; type++) {
        if (!(facts->fields & FIELD(value_fields[type])))
            continue;
        used++;
        if (facts->type == ONNX_ATTRIBUTE_UNDEFINED)
            out->type = type;
        else if (facts->type != type)
            reader_fail(self, XAI_ERROR_FORMAT,
                        "holds a value of attribute type %d but is declared as %d", (int)type,
                        (int)facts->type);
    }
    if (used > 1)
        reader_fail(self, XAI_ERROR_FORMAT, "holds %d kinds of values", used);
    else if (facts->reference && !self->in_function)
        reader_fail(self, XAI_ERROR_FORMAT, "refers to a function's attribute outside a function");
    else if (facts->reference && used > 0)
        reader_fail(self, XAI_ERROR_FORMAT, "refers to a function's attribute and holds a value");
    if (!facts->reference)
        out->reference = NULL;
    if (self->status != XAI_OK || facts->reference)
        return;
    switch (out->type) {
    case ONNX_ATTRIBUTE_UNDEFINED:
        reader_fail(self, XAI_ERROR_FORMAT, "has no value");
        break;
    case ONNX_ATTRIBUTE_TENSOR:
        if (used == 0)
            reader_fail(self, XAI_ERROR_FORMAT, "has no tensor");
        else
            out->tensor = read_tensor(self, facts->tensor, "tensor", 0).tensor;
        break;
    case ONNX_ATTRIBUTE_GRAPH:
        if (used == 0)
            reader_fail(self, XAI_ERROR_FORMAT, "has no graph");
        else
            read_subgraph(self, facts->graph, out);
        break;
    case ONNX_ATTRIBUTE_FLOATS:
    case ONNX_ATTRIBUTE_INTS:
    case ONNX_ATTRIBUTE_STRINGS:
        out->count = facts->count;
        read_list(self, bytes, value_fields[out->type], facts->count, out);
        break;
    default: /* lists of tensors or graphs, sparse tensors, types: no operator reads them */
        out->count = facts->count;
        break;
    }
}

void read_attribute(reader *self, wire bytes, size_t index, onnx_attribute *out)
{
    place here = {.outer = self->place, .kind = "attribute", .name = "", .index = index};
    *out = (onnx_attribute){.name = "", .s = ""};
    self->place = &here;
    here.name = out->name = find_name(self, bytes, NAME, "AttributeProto");
    const attribute_facts facts = scan(self, bytes, out);
    if (self->status == XAI_OK && out->name[0] == '\0')
        reader_fail(self, XAI_ERROR_FORMAT, "has no name");
    if (self->status == XAI_OK)
        read_value(self, bytes, &facts, out);
    self->place = here.outer;
}
