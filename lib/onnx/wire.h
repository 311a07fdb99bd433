/* Bounded reader of the protobuf wire format: a message is a range of bytes, and nothing outside
 * it is touched. */
#ifndef ONNX_WIRE_H
#define ONNX_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_VARINT = 0,
    WIRE_FIXED64 = 1,
    WIRE_BYTES = 2,
    WIRE_GROUP = 3,
    WIRE_GROUP_END = 4,
    WIRE_FIXED32 = 5
};

/* What is left of a message. */
typedef struct wire {
    const uint8_t *at, *end;
} wire;

typedef struct wire_field {
    uint32_t number; /* 1 .. 2^29 - 1 */
    int type;        /* WIRE_VARINT, _FIXED64, _BYTES, _FIXED32, or _GROUP: skipped as a whole */
    uint64_t value;  /* of a varint or a fixed number */
    wire bytes;      /* of WIRE_BYTES */
} wire_field;

typedef enum wire_result { WIRE_FIELD, WIRE_END, WIRE_MALFORMED } wire_result;

/* The next field of the message; at stays where the field began when it is malformed. */
wire_result wire_next(wire *self, wire_field *field);
/* At most ten bytes, the last of which carries one bit. */
bool wire_varint(wire *self, uint64_t *value);
/* Numbers of `type` (WIRE_VARINT, _FIXED64 or _FIXED32) packed into a range; false when it does
 * not end with one. */
bool wire_packed_count(wire self, int type, size_t *count);
/* The next packed number. */
bool wire_packed_next(wire *self, int type, uint64_t *value);

static inline size_t wire_left(const wire *self)
{
    return (size_t)(self->end - self->at);
}

#endif
