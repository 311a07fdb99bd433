/* TensorProto: dimensions, type and one of raw bytes, typed numbers, strings or external data. */
#include <string.h>

#include "onnx/reader.h"

enum {
    DIMS = 1,
    DATA_TYPE = 2,
    SEGMENT = 3,
    FLOAT_DATA = 4,
    INT32_DATA = 5,
    STRING_DATA = 6,
    INT64_DATA = 7,
    NAME = 8,
    RAW_DATA = 9,
    DOUBLE_DATA = 10,
    UINT64_DATA = 11,
    EXTERNAL_DATA = 13,
    DATA_LOCATION = 14,
};
enum { LOCATION_DEFAULT = 0, LOCATION_EXTERNAL = 1 };

/* What a first pass over the message finds. */
typedef struct tensor_facts {
    int32_t dtype, location;
    bool segment;
    size_t dims;
    wire raw, packed;      /* `packed`: the last packed range of typed numbers */
    int typed_field;       /* the *_DATA field in use, or 0 */
    size_t typed_fields;   /* how many times it occurs */
    size_t typed_count;    /* numbers or strings in it */
    size_t external_count; /* entries */
} tensor_facts;

static int typed_wire_type(uint32_t field)
{
    return field == FLOAT_DATA ? WIRE_FIXED32 : field == DOUBLE_DATA ? WIRE_FIXED64 : WIRE_VARINT;
}

/* The typed field that the standard names for an element type. */
static int typed_field_of(int32_t dtype)
{
    switch (dtype) {
    case DTYPE_FLOAT:
        return FLOAT_DATA;
    case DTYPE_DOUBLE:
        return DOUBLE_DATA;
    case DTYPE_INT64:
        return INT64_DATA;
    case DTYPE_UINT32:
    case DTYPE_UINT64:
        return UINT64_DATA;
    case DTYPE_STRING:
        return STRING_DATA;
    default:
        return INT32_DATA;
    }
}

static message tensor_message(wire bytes)
{
    return message_begin(bytes,
                         FIELD(DATA_TYPE) | FIELD(SEGMENT) | FIELD(NAME) | FIELD(RAW_DATA) |
                             FIELD(DATA_LOCATION),
                         "TensorProto");
}

static tensor_facts scan(reader *self, wire bytes)
{
    tensor_facts facts = {0};
    message body = tensor_message(bytes);
    wire_field field;
    while (message_next(self, &body, &field)) {
        switch (field.number) {
        case DIMS:
            facts.dims += take_count(self, &body, &field, WIRE_VARINT);
            break;
        case DATA_TYPE:
            facts.dtype = take_int32(self, &body, &field);
            break;
        case SEGMENT:
            facts.segment = true;
            break;
        case FLOAT_DATA:
        case DOUBLE_DATA:
        case INT32_DATA:
        case INT64_DATA:
        case UINT64_DATA: {
            const size_t count = take_count(self, &body, &field, typed_wire_type(field.number));
            if (count == 0)
                break;
            if (facts.typed_field != 0 && facts.typed_field != (int)field.number)
                reader_fail(self, XAI_ERROR_FORMAT,
                            "holds its values in two fields (%d and %u of TensorProto)",
                            facts.typed_field, (unsigned)field.number);
            facts.typed_field = (int)field.number;
            facts.typed_count += count;
            facts.typed_fields++;
            facts.packed = field.bytes;
            break;
        }
        case STRING_DATA:
            take_bytes(self, &body, &field);
            if (facts.typed_field != 0 && facts.typed_field != STRING_DATA)
                reader_fail(self, XAI_ERROR_FORMAT, "holds strings and numbers");
            facts.typed_field = STRING_DATA;
            facts.typed_count++;
            break;
        case RAW_DATA:
            facts.raw = take_bytes(self, &body, &field);
            break;
        case EXTERNAL_DATA:
            facts.external_count++;
            break;
        case DATA_LOCATION:
            facts.location = take_int32(self, &body, &field);
            break;
        default:
            break;
        }
    }
    return facts;
}

static void read_dims(reader *self, wire bytes, const tensor_facts *facts, shape *dims)
{
    if (facts->dims > SHAPE_MAX_RANK) {
        reader_fail(self, XAI_ERROR_UNSUPPORTED, "has %zu dimensions; at most %d are supported",
                    facts->dims, SHAPE_MAX_RANK);
        return;
    }
    message body = tensor_message(bytes);
    wire_field field;
    while (message_next(self, &body, &field)) {
        if (field.number != DIMS)
            continue;
        wire packed = field.bytes;
        for (uint64_t value = field.value; field.type == WIRE_VARINT || packed.at < packed.end;) {
            if (field.type != WIRE_VARINT && !wire_varint(&packed, &value)) {
                reader_fail(self, XAI_ERROR_FORMAT, "malformed dimension");
                return;
            }
            if (value > INT64_MAX) {
                reader_fail(self, XAI_ERROR_FORMAT, "dimension %d is negative", dims->rank);
                return;
            }
            dims->dims[dims->rank++] = (int64_t)value;
            if (field.type == WIRE_VARINT)
                break;
        }
    }
}

/* Values of 8 and 16 bits travel as int32: any number with the same bits is accepted, a wider
 * one is not. */
static bool fits(int32_t value, size_t size)
{
    const int bits = (int)size * 8;
    return size >= 4 || (value >= -(1 << (bits - 1)) && value < 1 << bits);
}

static void store_typed(reader *self, const tensor_facts *facts, uint64_t value, uint8_t *to)
{
    const size_t size = dtype_size(facts->dtype);
    if (facts->typed_field == INT32_DATA) {
        const int32_t narrow = (int32_t)(uint32_t)value; /* protobuf's int32: the low 32 bits */
        if (facts->dtype == DTYPE_BOOL)
            value = narrow != 0;
        else if (!fits(narrow, size))
            reader_fail(self, XAI_ERROR_FORMAT, "value %d does not fit %s", (int)narrow,
                        dtype_name(facts->dtype));
    } else if (facts->dtype == DTYPE_UINT32 && value > UINT32_MAX)
        reader_fail(self, XAI_ERROR_FORMAT, "value %llu does not fit uint32",
                    (unsigned long long)value);
    switch (size) { /* in the byte order of this machine */
    case 1:
        *to = (uint8_t)value;
        break;
    case 2:
        memcpy(to, &(uint16_t){(uint16_t)value}, 2);
        break;
    case 4:
        memcpy(to, &(uint32_t){(uint32_t)value}, 4);
        break;
    default:
        memcpy(to, &value, 8);
        break;
    }
}

static void read_typed(reader *self, wire bytes, const tensor_facts *facts, size_t count,
                       tensor *out)
{
    const int type = typed_wire_type((uint32_t)facts->typed_field);
    const size_t size = dtype_size(facts->dtype);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (type != WIRE_VARINT && facts->typed_fields == 1 &&
        facts->packed.at) { /* already what a tensor looks like */
        out->data = (void *)facts->packed.at;
        return;
    }
#endif
    uint8_t *data = reader_allocate(self, count, size, "tensor elements");
    if (!data)
        return;
    out->data = data;
    uint8_t *end = data + count * size;
    message body = tensor_message(bytes);
    wire_field field;
    while (message_next(self, &body, &field)) {
        if ((int)field.number != facts->typed_field)
            continue;
        if (field.type == type) {
            store_typed(self, facts, field.value, data);
            data += size;
            continue;
        }
        wire packed = field.bytes;
        while (packed.at < packed.end && data < end && self->status == XAI_OK) {
            uint64_t value;
            if (!wire_packed_next(&packed, type, &value))
                reader_fail(self, XAI_ERROR_FORMAT, "malformed number in field %d of TensorProto",
                            facts->typed_field);
            else
                store_typed(self, facts, value, data);
            data += size;
        }
    }
}

static void read_strings(reader *self, wire bytes, size_t count, tensor *out)
{
    if (!reader_count(self, &self->strings, count, ONNX_STRING_LIMIT, "strings"))
        return;
    const char **strings = reader_allocate(self, count, sizeof *strings, "strings");
    message body = tensor_message(bytes);
    wire_field field;
    size_t i = 0;
    while (message_next(self, &body, &field))
        if (field.number == STRING_DATA)
            strings[i++] = take_string(self, &body, &field);
    out->data = strings;
}

static const uint8_t *read_external(reader *self, wire bytes, const tensor_facts *facts,
                                    size_t size)
{
    if (facts->external_count > 64) {
        reader_fail(self, XAI_ERROR_FORMAT, "external data has %zu entries", facts->external_count);
        return NULL;
    }
    onnx_property *entries =
        reader_allocate(self, facts->external_count, sizeof *entries, "external data entries");
    message body = tensor_message(bytes);
    wire_field field;
    size_t i = 0;
    while (message_next(self, &body, &field))
        if (field.number == EXTERNAL_DATA)
            entries[i++] = take_property(self, &body, &field);
    return external_payload(self, entries, i, size);
}

/* Little-endian bytes as a view, or as a swapped copy on a big-endian machine. */
static void *payload_view(reader *self, const uint8_t *bytes, size_t size, size_t element)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    (void)self;
    (void)size;
    (void)element;
    return (void *)bytes;
#else
    uint8_t *copy = bytes ? reader_allocate(self, size, 1, "bytes") : NULL;
    for (size_t i = 0; copy && i < size; i++)
        copy[i] = bytes[i / element * element + (element - 1 - i % element)];
    return copy;
#endif
}

static void read_payload(reader *self, wire bytes, const tensor_facts *facts, tensor *out)
{
    size_t count, size, element = dtype_size(facts->dtype);
    char dims[SHAPE_TEXT_SIZE];
    if (!shape_count(&out->shape, &count) || !size_multiply(count, element ? element : 1, &size)) {
        reader_fail(self, XAI_ERROR_FORMAT, "shape %s has more elements than memory",
                    shape_text(&out->shape, dims));
        return;
    }
    const size_t raw = wire_left(&facts->raw);
    const bool external = facts->location == LOCATION_EXTERNAL;
    if ((raw > 0) + (facts->typed_count > 0) + external > 1)
        reader_fail(self, XAI_ERROR_FORMAT, "holds its values twice (raw, typed or external)");
    else if (facts->typed_count > 0 && facts->typed_field != typed_field_of(facts->dtype))
        reader_fail(self, XAI_ERROR_FORMAT, "values of type %s in field %d of TensorProto",
                    dtype_name(facts->dtype), facts->typed_field);
    else if (facts->dtype == DTYPE_STRING && (raw > 0 || external))
        reader_fail(self, XAI_ERROR_FORMAT, "strings must be in string_data");
    else if (external)
        out->data = payload_view(self, read_external(self, bytes, facts, size), size, element);
    else if (raw == 0 && facts->typed_count != count)
        reader_fail(self, XAI_ERROR_FORMAT, "has %zu values, shape %s needs %zu",
                    facts->typed_count, shape_text(&out->shape, dims), count);
    else if (raw > 0 && raw != size)
        reader_fail(self, XAI_ERROR_FORMAT, "raw_data has %zu bytes, shape %s of %s needs %zu", raw,
                    shape_text(&out->shape, dims), dtype_name(facts->dtype), size);
    else if (facts->dtype == DTYPE_STRING)
        read_strings(self, bytes, count, out);
    else if (raw > 0)
        out->data = payload_view(self, facts->raw.at, raw, element);
    else if (count > 0)
        read_typed(self, bytes, facts, count, out);
    else
        out->data = (void *)""; /* no elements, but known */
}

onnx_named_tensor read_tensor(reader *self, wire bytes, const char *kind, size_t index)
{
    onnx_named_tensor made = {.name = ""};
    place here = {.outer = self->place, .kind = kind, .name = "", .index = index};
    self->place = &here;
    if (reader_count(self, &self->tensors, 1, ONNX_TENSOR_LIMIT, "tensors")) {
        made.name = here.name = find_name(self, bytes, NAME, "TensorProto");
        const tensor_facts facts = scan(self, bytes);
        made.tensor.dtype = facts.dtype;
        if (self->status != XAI_OK)
            ;
        else if (facts.segment)
            reader_fail(self, XAI_ERROR_UNSUPPORTED, "is stored in segments");
        else if (facts.dtype == DTYPE_UNDEFINED)
            reader_fail(self, XAI_ERROR_FORMAT, "has no element type");
        else if (dtype_size(facts.dtype) == 0 && facts.dtype != DTYPE_STRING)
            reader_fail(self, XAI_ERROR_UNSUPPORTED, "element type %d of ONNX is not supported",
                        (int)facts.dtype);
        else if (facts.location != LOCATION_DEFAULT && facts.location != LOCATION_EXTERNAL)
            reader_fail(self, XAI_ERROR_FORMAT, "unknown data location %d", (int)facts.location);
        else
            read_dims(self, bytes, &facts, &made.tensor.shape);
        if (self->status == XAI_OK)
            read_payload(self, bytes, &facts, &made.tensor);
    }
    self->place = here.outer;
    return made;
}
