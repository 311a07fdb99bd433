#include "onnx/reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

static void place_append(text *out, const place *self)
{
    if (!self)
        return;
    /* At most 3 steps a graph, and graphs nest at most ONNX_GRAPH_DEPTH_LIMIT deep. */
    place_append(out, self->outer);
    if (out->length > 0)
        text_append(out, self->outer ? ", " : ": ");
    if (self->name[0])
        text_format(out, "%s '%.120s'", self->kind, self->name);
    else
        text_format(out, "%s %zu", self->kind, self->index);
    if (self->op_type)
        text_format(out, " (%.80s)", self->op_type);
}

xai_status reader_fail(reader *self, xai_status status, const char *format, ...)
{
    if (self->status != XAI_OK)
        return self->status;
    char what[1024];
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(what, sizeof what, format, arguments) < 0)
        what[0] = '\0';
    va_end(arguments);
    text where = {0};
    text_append(&where, self->path ? self->path : "model in memory");
    place_append(&where, self->place);
    self->status = error_set(self->error, status, where.bytes, "%s", what);
    text_free(&where);
    return self->status;
}

void *reader_allocate(reader *self, size_t count, size_t size, const char *what)
{
    if (self->status != XAI_OK)
        return NULL;
    void *block = memory_pool_allocate(self->storage->pool, count, size);
    if (!block)
        reader_fail(self, XAI_ERROR_MEMORY, "out of memory for %zu %s", count, what);
    return block;
}

bool reader_count(reader *self, size_t *total, size_t more, size_t limit, const char *what)
{
    if (self->status != XAI_OK)
        return false;
    if (more > limit - *total) {
        reader_fail(self, XAI_ERROR_UNSUPPORTED, "more than %zu %s", limit, what);
        return false;
    }
    *total += more;
    return true;
}

message message_begin(wire bytes, uint32_t singular, const char *name)
{
    return (message){bytes, singular, 0, name};
}

bool message_next(reader *self, message *from, wire_field *field)
{
    if (self->status != XAI_OK)
        return false;
    const wire_result result = wire_next(&from->rest, field);
    if (result == WIRE_END)
        return false;
    if (result == WIRE_MALFORMED) {
        reader_fail(self, XAI_ERROR_FORMAT,
                    "malformed %s at byte %zu (the file is damaged or not an ONNX model)",
                    from->name, (size_t)(from->rest.at - self->begin));
        return false;
    }
    if (field->number < 32 && (from->singular & FIELD(field->number))) {
        if (from->seen & FIELD(field->number)) {
            reader_fail(self, XAI_ERROR_FORMAT, "field %u of %s occurs twice",
                        (unsigned)field->number, from->name);
            return false;
        }
        from->seen |= FIELD(field->number);
    }
    return true;
}

static bool expect_type(reader *self, const message *from, const wire_field *field, int type)
{
    if (self->status != XAI_OK)
        return false;
    if (field->type == type)
        return true;
    reader_fail(self, XAI_ERROR_FORMAT, "field %u of %s has wire type %d instead of %d",
                (unsigned)field->number, from->name, field->type, type);
    return false;
}

uint64_t take_varint(reader *self, const message *from, const wire_field *field)
{
    return expect_type(self, from, field, WIRE_VARINT) ? field->value : 0;
}

int32_t take_int32(reader *self, const message *from, const wire_field *field)
{
    const uint64_t value = take_varint(self, from, field);
    if (value > INT32_MAX) {
        reader_fail(self, XAI_ERROR_FORMAT, "field %u of %s is out of range",
                    (unsigned)field->number, from->name);
        return 0;
    }
    return (int32_t)value;
}

float take_float(reader *self, const message *from, const wire_field *field)
{
    float value = 0;
    if (expect_type(self, from, field, WIRE_FIXED32)) {
        const uint32_t bits = (uint32_t)field->value;
        memcpy(&value, &bits, sizeof value);
    }
    return value;
}

wire take_bytes(reader *self, const message *from, const wire_field *field)
{
    return expect_type(self, from, field, WIRE_BYTES) ? field->bytes
                                                      : (wire){self->begin, self->begin};
}

const char *take_string(reader *self, const message *from, const wire_field *field)
{
    const wire bytes = take_bytes(self, from, field);
    const size_t length = wire_left(&bytes);
    if (length == 0)
        return "";
    if (memchr(bytes.at, '\0', length)) {
        reader_fail(self, XAI_ERROR_FORMAT, "a string in field %u of %s contains a NUL byte",
                    (unsigned)field->number, from->name);
        return "";
    }
    if (!text_is_utf8((const char *)bytes.at, length)) {
        reader_fail(self, XAI_ERROR_FORMAT, "a string in field %u of %s is not UTF-8",
                    (unsigned)field->number, from->name);
        return "";
    }
    const char *copy = memory_pool_text(self->storage->pool, (const char *)bytes.at, length);
    if (!copy)
        reader_fail(self, XAI_ERROR_MEMORY, "out of memory for a string of %zu bytes", length);
    return copy ? copy : "";
}

size_t take_count(reader *self, const message *from, const wire_field *field, int type)
{
    size_t count = 1;
    if (self->status != XAI_OK || field->type == type)
        return count;
    if (expect_type(self, from, field, WIRE_BYTES) &&
        !wire_packed_count(field->bytes, type, &count))
        reader_fail(self, XAI_ERROR_FORMAT, "field %u of %s ends inside a number",
                    (unsigned)field->number, from->name);
    return count;
}

const char *find_name(reader *self, wire bytes, uint32_t number, const char *type)
{
    message body = message_begin(bytes, 0, type);
    wire_field field;
    while (wire_next(&body.rest, &field) ==
           WIRE_FIELD) /* malformed bytes are reported by the pass that follows */
        if (field.number == number)
            return take_string(self, &body, &field);
    return "";
}

onnx_property take_property(reader *self, const message *from, const wire_field *field)
{
    onnx_property entry = {"", ""};
    message body =
        message_begin(take_bytes(self, from, field), FIELD(1) | FIELD(2), "StringStringEntryProto");
    wire_field each;
    while (message_next(self, &body, &each)) {
        if (each.number == 1)
            entry.key = take_string(self, &body, &each);
        else if (each.number == 2)
            entry.value = take_string(self, &body, &each);
    }
    return entry;
}
