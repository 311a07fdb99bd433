#include "onnx/wire.h"

/* Groups are a dead part of protobuf that ONNX never used; nested deeper than this they are an
 * attack. */
#define GROUP_DEPTH_LIMIT 32

bool wire_varint(wire *self, uint64_t *value)
{
    uint64_t sum = 0;
    const uint8_t *at = self->at;
    for (unsigned shift = 0; shift < 70 && at < self->end; shift += 7) {
        const uint8_t byte = *at++;
        if (shift == 63 && byte > 1)
            return false;
        sum |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value = sum;
            self->at = at;
            return true;
        }
    }
    return false;
}

static bool fixed(wire *self, size_t size, uint64_t *value)
{
    if (wire_left(self) < size)
        return false;
    uint64_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum |= (uint64_t)self->at[i] << (8 * i);
    self->at += size;
    *value = sum;
    return true;
}

static bool tag(wire *self, uint32_t *number, int *type)
{
    uint64_t value;
    if (!wire_varint(self, &value) || value > UINT32_MAX || value >> 3 == 0)
        return false;
    *number = (uint32_t)(value >> 3);
    *type = (int)(value & 7);
    return true;
}

/* The payload of a field that is not a group. */
static bool payload(wire *self, wire_field *field)
{
    uint64_t length;
    switch (field->type) {
    case WIRE_VARINT:
        return wire_varint(self, &field->value);
    case WIRE_FIXED64:
        return fixed(self, 8, &field->value);
    case WIRE_FIXED32:
        return fixed(self, 4, &field->value);
    case WIRE_BYTES:
        if (!wire_varint(self, &length) || length > wire_left(self))
            return false;
        field->bytes = (wire){self->at, self->at + length};
        self->at += length;
        return true;
    default:
        return false;
    }
}

/* Skip to the end of a group whose start tag has been read, without recursion. */
static bool skip_group(wire *self, uint32_t number)
{
    uint32_t open[GROUP_DEPTH_LIMIT];
    int depth = 0;
    open[depth++] = number;
    while (depth > 0) {
        wire_field inner = {0};
        if (!tag(self, &inner.number, &inner.type))
            return false;
        if (inner.type == WIRE_GROUP) {
            if (depth == GROUP_DEPTH_LIMIT)
                return false;
            open[depth++] = inner.number;
        } else if (inner.type == WIRE_GROUP_END) {
            if (open[--depth] != inner.number)
                return false;
        } else if (!payload(self, &inner))
            return false;
    }
    return true;
}

wire_result wire_next(wire *self, wire_field *field)
{
    if (self->at == self->end)
        return WIRE_END;
    wire next = *self;
    *field = (wire_field){0};
    if (!tag(&next, &field->number, &field->type))
        return WIRE_MALFORMED;
    if (!(field->type == WIRE_GROUP ? skip_group(&next, field->number) : payload(&next, field)))
        return WIRE_MALFORMED;
    *self = next;
    return WIRE_FIELD;
}

bool wire_packed_count(wire self, int type, size_t *count)
{
    const size_t size = wire_left(&self);
    if (type != WIRE_VARINT) {
        const size_t width = type == WIRE_FIXED64 ? 8 : 4;
        *count = size / width;
        return size % width == 0;
    }
    size_t ends = 0;
    for (size_t i = 0; i < size; i++)
        ends += self.at[i] < 0x80;
    *count = ends;
    return size == 0 || self.end[-1] < 0x80;
}

bool wire_packed_next(wire *self, int type, uint64_t *value)
{
    if (type == WIRE_VARINT)
        return wire_varint(self, value);
    return fixed(self, type == WIRE_FIXED64 ? 8 : 4, value);
}
