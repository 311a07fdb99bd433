/* Small ONNX models for tests, written byte by byte in C.
 *
 *     model_builder *m = model_create(17);
 *     model_input(m, "x", DTYPE_FLOAT, 4, (int64_t[]){1, 3, 8, 8});
 *     model_random(m, "w", 4, (int64_t[]){4, 3, 3, 3}, 1);
 *     model_node(m, "Conv", "x w", "y");
 *     model_ints_attribute(m, "pads", 4, (int64_t[]){1, 1, 1, 1});
 *     model_output(m, "y");
 *     onnx_model *file = model_parse(m); // the caller frees both
 *
 * Attributes, names and domains belong to the node added last. Lack of memory and misuse end the test. */
#ifndef TESTS_MODEL_BUILDER_H
#define TESTS_MODEL_BUILDER_H

#include "graph/graph.h"
#include "onnx/onnx.h"

typedef struct model_builder model_builder;

model_builder *model_create(int64_t opset); /* of ai.onnx; 0 = do not import it. IR version 8 */
void model_free(model_builder *self);
void model_ir_version(model_builder *self, int64_t version);
void model_opset(model_builder *self, const char *domain, int64_t version);
void model_metadata(model_builder *self, const char *key, const char *value);

/* A dimension of -1 is written as the symbol "N". */
void model_input(model_builder *self, const char *name, int32_t dtype, int rank,
                 const int64_t *dims);
void model_output(model_builder *self, const char *name); /* float32 without a shape */

/* Initializers. */
void model_floats(model_builder *self, const char *name, int rank, const int64_t *dims,
                  const float *values);
void model_ints(model_builder *self, const char *name, size_t count,
                const int64_t *values);                                /* a list */
void model_scalar(model_builder *self, const char *name, float value); /* rank 0 */
void model_fill(model_builder *self, const char *name, int rank, const int64_t *dims, float value);
/* Uniform in [-1, 1], from `seed`; model_positive: in [0.5, 1.5]. */
void model_random(model_builder *self, const char *name, int rank, const int64_t *dims,
                  unsigned seed);
void model_positive(model_builder *self, const char *name, int rank, const int64_t *dims,
                    unsigned seed);
/* Any type: `payload` is raw_data. */
void model_tensor(model_builder *self, const char *name, int32_t dtype, int rank,
                  const int64_t *dims, const void *payload, size_t size);

/* Value names separated by spaces; "-" = omitted. */
void model_node(model_builder *self, const char *op, const char *inputs, const char *outputs);
void model_node_name(model_builder *self, const char *name);
void model_node_domain(model_builder *self, const char *domain);
void model_int_attribute(model_builder *self, const char *name, int64_t value);
void model_float_attribute(model_builder *self, const char *name, float value);
void model_text_attribute(model_builder *self, const char *name, const char *value);
void model_ints_attribute(model_builder *self, const char *name, size_t count,
                          const int64_t *values);
void model_floats_attribute(model_builder *self, const char *name, size_t count,
                            const float *values);
void model_tensor_attribute(model_builder *self, const char *name, int32_t dtype, int rank,
                            const int64_t *dims, const void *payload, size_t size);
void model_graph_attribute(model_builder *self, const char *name); /* an empty subgraph */

/* The file; owned by the builder, valid until the next call. */
const void *model_bytes(model_builder *self, size_t *size);
onnx_model *model_parse(model_builder *self);               /* must be well-formed */
graph *model_graph(model_builder *self, onnx_model **file); /* parsed and imported; must be valid */

/* Uniform in [-1, 1]; the generator that model_random uses. */
float model_uniform(unsigned *state);

/* The outputs of a graph on its inputs by the portable kernels: a loop over the nodes. `inputs` in model order. outputs[i] is created
 * for each of `count` value ids (tensor_free); all must be computed. */
void model_evaluate(const graph *specialised, const tensor *inputs, const int *values, size_t count,
                    tensor *outputs);

#endif
