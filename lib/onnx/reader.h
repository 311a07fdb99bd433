/* What the readers of the single messages share: where they are, what failed, where blocks come
 * from.
 *
 * The first failure sticks in `status`; after it message_next() ends every loop and the take_
 * calls return zeros, so that the code reads straight on and only checks where it must not go
 * on. */
#ifndef ONNX_READER_H
#define ONNX_READER_H

#include "base/compiler.h"
#include "base/memory.h"
#include "onnx/file.h"
#include "onnx/onnx.h"
#include "onnx/wire.h"

/* Caps on what one model may hold, subgraphs included: far above any real model, far below
 * exhaustion. */
#define ONNX_NODE_LIMIT ((size_t)1 << 18)
#define ONNX_TENSOR_LIMIT ((size_t)1 << 18)
#define ONNX_ATTRIBUTE_LIMIT ((size_t)1 << 20)
#define ONNX_VALUE_LIMIT ((size_t)1 << 17)  /* declared inputs and outputs */
#define ONNX_STRING_LIMIT ((size_t)1 << 24) /* names and strings in lists */
#define ONNX_OPSET_LIMIT ((size_t)256)
#define ONNX_PROPERTY_LIMIT ((size_t)4096)
#define ONNX_EXTERNAL_FILE_LIMIT ((size_t)4096)
#define ONNX_GRAPH_DEPTH_LIMIT 8
#define ONNX_FUNCTION_LIMIT ((size_t)1 << 14)

typedef struct external_file {
    char *location; /* as written in the model */
    file_view view;
} external_file;

/* Everything that a model's views point into. */
typedef struct onnx_storage {
    memory_pool *pool;
    file_view file; /* onnx_model_open */
    uint8_t *copy;  /* onnx_model_parse */
    char *folder;   /* where external data lies; NULL = none allowed */
    external_file *externals;
    size_t external_count, external_capacity;
} onnx_storage;

/* One step of the way from the model to what is being read, on the stack of the function that
 * reads it. */
typedef struct place {
    const struct place *outer;
    const char *kind, *name, *op_type; /* op_type may be NULL */
    size_t index;                      /* shown when the name is empty */
} place;

typedef struct reader {
    onnx_storage *storage;
    const uint8_t *begin; /* of the whole model, for byte positions in messages */
    const char *path;     /* NULL for a model in memory */
    const place *place;
    xai_error **error;
    xai_status status;
    int graph_depth;
    bool in_function; /* attributes may refer to those of the call */
    size_t nodes, tensors, attributes, values, strings; /* so far, against the caps */
} reader;

/* A message being read. Fields in the mask `singular` may occur once: no writer repeats them,
 * and readers disagree about what a repetition means (merge or last one wins), so a file that
 * has one is refused. */
typedef struct message {
    wire rest;
    uint32_t singular, seen;
    const char *name; /* of the message type, for errors */
} message;

#define FIELD(number) ((uint32_t)1 << (number))

message message_begin(wire bytes, uint32_t singular, const char *name);
/* False at the end and on failure (see reader.status). */
bool message_next(reader *self, message *from, wire_field *field);

xai_status reader_fail(reader *self, xai_status status, const char *format, ...) PRINTF_LIKE(3, 4);
/* From the pool, zeroed; NULL sets the status. */
void *reader_allocate(reader *self, size_t count, size_t size, const char *what);
/* Count `more` of something against a cap. */
bool reader_count(reader *self, size_t *total, size_t more, size_t limit, const char *what);

/* The value of a field that must have that wire type. */
uint64_t take_varint(reader *self, const message *from, const wire_field *field);
/* As an enumeration: >= 0. */
int32_t take_int32(reader *self, const message *from, const wire_field *field);
float take_float(reader *self, const message *from, const wire_field *field);
wire take_bytes(reader *self, const message *from, const wire_field *field);
/* UTF-8 without NUL, copied into the pool; "" when empty or on failure. */
const char *take_string(reader *self, const message *from, const wire_field *field);
/* How many numbers of `type` a field adds to a repeated one, packed or not. */
size_t take_count(reader *self, const message *from, const wire_field *field, int type);

/* The name of a message, wherever in it the field lies: looked up first, so that every error can
 * say it. */
const char *find_name(reader *self, wire bytes, uint32_t number, const char *type);

/* key and value of a StringStringEntryProto */
onnx_property take_property(reader *self, const message *from, const wire_field *field);

/* tensor_proto.c: TensorProto */
onnx_named_tensor read_tensor(reader *self, wire bytes, const char *kind, size_t index);
/* external.c: `bytes` bytes of external data that a TensorProto's entries describe; NULL on
 * failure. */
const uint8_t *external_payload(reader *self, const onnx_property *entries, size_t count,
                                size_t bytes);
/* attribute_proto.c: AttributeProto */
void read_attribute(reader *self, wire bytes, size_t index, onnx_attribute *out);
/* graph_proto.c: GraphProto, NodeProto */
void read_graph(reader *self, wire bytes, onnx_graph *graph);
void read_node(reader *self, wire bytes, size_t index, onnx_node *out);
/* function_proto.c: FunctionProto */
void read_function(reader *self, wire bytes, size_t index, onnx_function *out);
/* model.c: OperatorSetIdProto, appended to `opsets` of *count */
void read_opset(reader *self, wire bytes, onnx_opset *opsets, size_t *count);
/* model.c: "" for "ai.onnx", any other domain as it is */
const char *normal_domain(const char *domain);

#endif
