/* Rewrites: rules that replace a few nodes by fewer, exactly in real arithmetic.
 *
 * A rule looks at one node, the last of its pattern, and walks up to the producers of its inputs. It must leave the value of
 * every protected id (outputs, kept values) and its influence on the outputs as they were: an inner value of a pattern has
 * to be rewrite_is_inner(). Rules run over the nodes in topological order, again and again until none applies. */
#ifndef GRAPH_REWRITE_H
#define GRAPH_REWRITE_H

#include "graph/graph.h"

typedef struct rewriter {
    graph *graph;
    const bool *protect; /* by value id, for the first protect_count ids */
    size_t protect_count;
    int *uses;       /* by value id: how many node inputs read it */
    int *alias;      /* by value id: the value that replaces it, or itself */
    size_t capacity; /* of uses and alias */
    bool changed;
    bool appended; /* nodes were added behind: sort */
    xai_error **error;
} rewriter;

/* XAI_OK whether or not the rule applied; anything else (out of memory) ends the rewriting. */
typedef xai_status (*rewrite_rule)(rewriter *self, int node);

xai_status
rewrite_identity(rewriter *self,
                 int node); /* nodes that change nothing; chains of views and transposes */
xai_status
rewrite_affine(rewriter *self,
               int node); /* batch norm and per-channel arithmetic: folded, or ScaleShift */
xai_status rewrite_activation(rewriter *self,
                              int node); /* Relu, HardSigmoid, HardSwish, Silu from their parts */
xai_status rewrite_gelu(rewriter *self, int node);
xai_status rewrite_layer_norm(rewriter *self, int node);
/* InstanceNormalization between Reshapes -> GroupNormalization; its constants */
xai_status rewrite_group_norm(rewriter *self, int node);
xai_status rewrite_pad(rewriter *self, int node); /* Pad into the convolution or pool behind it */
xai_status rewrite_pool(rewriter *self,
                        int node); /* means over the whole plane -> GlobalAveragePool */
xai_status rewrite_quantise(rewriter *self,
                            int node); /* QuantizeLinear, DequantizeLinear -> FakeQuantize */
/* Constants per channel behind a product over the last axis, also through a Transpose */
xai_status rewrite_layer_scale(rewriter *self, int node);
/* AveragePool behind a linear 1x1 convolution goes before it */
xai_status rewrite_pool_first(rewriter *self, int node);
/* Transposes of channels-last exports down to those that undo them */
xai_status rewrite_transpose(rewriter *self, int node);
xai_status rewrite_gemm(rewriter *self, int node); /* 2-D MatMul by a constant -> Gemm */

/* These rules until nothing changes, and dead code removal. `protect` has the graph's value_count entries. */
xai_status graph_rewrite(graph *self, const bool *protect, graph_rewrites which, xai_error **error);

/* For rules. Pointers to nodes and values are valid until the next call that adds one. */

/* A node of the operator `op` of the default domain. */
bool rewrite_is(const graph_node *node, const char *op);
/* The node that makes a value, when it is of operator `op` of the default domain and the value is its first output. */
const graph_node *rewrite_producer(const rewriter *self, int value, const char *op);
/* Read once and not protected: it may vanish. */
bool rewrite_is_inner(const rewriter *self, int value);
bool rewrite_is_protected(const rewriter *self, int value);
const graph_value *rewrite_value(const rewriter *self, int value);
/* The data of a constant; NULL when it is none (or omitted). */
const tensor *rewrite_constant(const rewriter *self, int value);
/* A constant of one element. */
bool rewrite_scalar(const rewriter *self, int value, double *out);
bool rewrite_is_scalar(const rewriter *self, int value, double expected); /* to float32 rounding */
/* For a node of two inputs: which of them is a constant scalar; the other id goes to *value. */
bool rewrite_scalar_operand(const rewriter *self, const graph_node *node, int *value,
                            double *scalar);
const onnx_attribute *rewrite_attribute(const graph_node *node, const char *name);
int64_t rewrite_attribute_int(const graph_node *node, const char *name, int64_t fallback);
float rewrite_attribute_float(const graph_node *node, const char *name, float fallback);
/* Constant integers from an attribute or, where the operator takes them as an input, from that. false when not constant or more
 * than `capacity`; absent gives *count = 0 and *present = false. */
bool rewrite_ints(const rewriter *self, const graph_node *node, const char *attribute, int input,
                  int64_t *out, size_t capacity, size_t *count, bool *present);

/* A new constant; `data` is moved in. GRAPH_NONE = out of memory (the tensor is freed). */
int rewrite_add_constant(rewriter *self, const char *base, tensor *data);
int rewrite_add_ints(rewriter *self, const char *base, const int64_t *values, size_t count);
int rewrite_add_value(rewriter *self, const char *base, int32_t dtype, const shape *dims);
/* An int-list attribute in the graph's pool; ints NULL when out of memory. */
onnx_attribute rewrite_ints_attribute(rewriter *self, const char *name, const int64_t *values,
                                      size_t count);

typedef struct replacement {
    const char *domain, *op, *name; /* name NULL = the old node's */
    const int *inputs;
    int input_count;
    const onnx_attribute *attributes; /* copied; texts and lists must outlive the graph */
    size_t attribute_count;
    int opset;
} replacement;

/* Put another operator in the place of `node`; it makes the node's first output, the others vanish. Nothing happens unless the
 * new node infers the same type and shape. *applied may be NULL. */
xai_status rewrite_replace(rewriter *self, int node, const replacement *with, bool *applied);
/* Let every reader of `node`'s first output read `value` instead, when the output may vanish. */
xai_status rewrite_forward_value(rewriter *self, int node, int value);
/* Add another node, which makes `output`; the graph is sorted behind the pass. */
xai_status rewrite_append(rewriter *self, const replacement *node, int output);

#endif
