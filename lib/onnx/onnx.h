/* Reader of ONNX files: bytes in, structure out, no semantics. Everything it reads is hostile.
 *
 * A parsed model is one memory pool plus views: tensor payloads stay in the mapped file (or in
 * the caller's bytes, copied once). Freeing the model unmaps the file and invalidates every
 * view. */
#ifndef ONNX_ONNX_H
#define ONNX_ONNX_H

#include "tensor/tensor.h"

/* AttributeProto.AttributeType */
enum {
    ONNX_ATTRIBUTE_UNDEFINED = 0,
    ONNX_ATTRIBUTE_FLOAT = 1,
    ONNX_ATTRIBUTE_INT = 2,
    ONNX_ATTRIBUTE_STRING = 3,
    ONNX_ATTRIBUTE_TENSOR = 4,
    ONNX_ATTRIBUTE_GRAPH = 5,
    ONNX_ATTRIBUTE_FLOATS = 6,
    ONNX_ATTRIBUTE_INTS = 7,
    ONNX_ATTRIBUTE_STRINGS = 8,
};

typedef struct onnx_graph onnx_graph;

/* All strings below are NUL-terminated UTF-8; embedded NULs are rejected by the reader. */
typedef struct onnx_attribute {
    const char *name;
    int32_t
        type; /* ONNX_ATTRIBUTE_* ; inferred from the fields present when the file leaves it out */
    float f;
    int64_t i;
    const char *s;
    size_t count; /* elements of floats, ints or strings */
    const float *floats;
    const int64_t *ints;
    const char *const *strings;
    tensor tensor; /* a view */
    const onnx_graph *graph;
    const char *
        reference; /* inside a function: the attribute of the call whose value this is; else NULL */
} onnx_attribute;

typedef struct onnx_node {
    const char *name, *op_type, *domain; /* "" when absent; "ai.onnx" is normalised to "" */
    const char *overload;                /* of a local function; "" = the only one */
    size_t input_count, output_count, attribute_count;
    const char *const *inputs; /* "" = omitted optional */
    const char *const *outputs;
    const onnx_attribute *attributes;
} onnx_node;

typedef struct onnx_named_tensor {
    const char *name;
    tensor tensor; /* a view; string tensors are DTYPE_STRING with data = const char *const * */
} onnx_named_tensor;

typedef struct onnx_value {
    const char *name;
    int32_t dtype; /* DTYPE_UNDEFINED when not a tensor */
    bool has_shape;
    shape shape;                           /* -1 for a symbolic or absent dimension */
    const char *dim_names[SHAPE_MAX_RANK]; /* dim_param, or "" */
} onnx_value;

struct onnx_graph {
    const char *name;
    size_t node_count, initializer_count, input_count, output_count;
    const onnx_node *nodes; /* in file order, not necessarily sorted */
    const onnx_named_tensor *initializers;
    const onnx_value *inputs; /* initializers that are also listed as inputs (IR < 4) are left in */
    const onnx_value *outputs;
};

typedef struct onnx_opset {
    const char *domain; /* normalised as above */
    int64_t version;
} onnx_opset;

/* A local function: nodes between named inputs and outputs, sorted. */
typedef struct onnx_function {
    const char *name, *domain, *overload;
    size_t input_count, output_count, node_count, default_count, opset_count;
    const char *const *inputs;
    const char *const *outputs;
    const onnx_node *nodes;
    const onnx_attribute *defaults; /* attributes with the value they have when a call gives none */
    const onnx_opset *opsets;
} onnx_function;

typedef struct onnx_property {
    const char *key, *value;
} onnx_property;

typedef struct onnx_model {
    int64_t ir_version;
    const char *producer_name, *producer_version;
    size_t opset_count, property_count, function_count;
    const onnx_opset *opsets;
    const onnx_property *properties; /* metadata_props */
    const onnx_function *functions;
    onnx_graph graph;
    void *storage; /* private: pool, mapping, external files */
} onnx_model;

/* Map and parse a file; external data is resolved beneath its folder. */
xai_status onnx_model_open(const char *path, onnx_model **out, xai_error **error);
/* Parse bytes (copied, so the caller's may go); external data is refused. */
xai_status onnx_model_parse(const void *bytes, size_t size, onnx_model **out, xai_error **error);
void onnx_model_free(onnx_model *model);
/* Give back the physical pages of mapped payloads; they come back from the file when read again. */
void onnx_model_release_pages(const onnx_model *model);

#endif
