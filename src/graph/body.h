/* Bodies: local functions and the subgraphs of If, Loop and Scan. Their nodes are put into a graph in place of the node
 * that calls them: functions at import, subgraphs when a specialisation knows which and how often. Private to this folder. */
#ifndef GRAPH_BODY_H
#define GRAPH_BODY_H

#include "graph/private.h"

/* What the nodes of a body mean besides values. */
typedef struct body_scope {
    const onnx_model *model; /* its local functions */
    const onnx_opset *opsets;
    size_t opset_count;
    const onnx_attribute *bound; /* attributes of the function's call, for references */
    size_t bound_count;
    int depth; /* calls around this body */
} body_scope;

/* What a node of If, Loop or Scan carries until it is expanded. Its inputs are those declared, then (Loop) the values that
 * earlier iterations gave for scan outputs, then the values that its subgraphs take from around them. */
struct graph_control {
    body_scope scope;
    int declared, collected;
    const char *const *captures; /* names of the last inputs */
    int capture_count;
    int64_t iteration; /* of a Loop */
};

/* The value of a name around a node, or GRAPH_NONE. */
typedef int (*body_resolver)(const void *user, const char *name);

/* The scope of a model's own graph. */
body_scope body_scope_of(const onnx_model *model);
/* Opset version of a domain; 0 when it is not imported. */
int64_t body_opset(const body_scope *self, const char *domain);
/* The local function that a node calls, or NULL. */
const onnx_function *body_function(const body_scope *self, const onnx_node *node);

/* Check operator, version, attributes and counts of a node; its definition and opset. */
xai_status body_check_node(const body_scope *self, const onnx_node *node, const char *place,
                           const operator_definition **out, int *opset, xai_error **error);

/* Append a node whose values are known; `outputs` has node->output_count ids (GRAPH_NONE = not wanted). Attributes get their
 * values from the call, subgraphs the values they take from around them. */
xai_status body_append_node(graph *to, const body_scope *scope, const onnx_node *node,
                            const char *name, const char *place, const int *inputs,
                            const int *outputs, body_resolver resolve, const void *user,
                            xai_error **error);

/* Put the nodes of a function in the place of a call. */
xai_status body_call_function(graph *to, const body_scope *scope, const onnx_function *function,
                              const onnx_node *node, const char *name, const char *place,
                              const int *inputs, const int *outputs, xai_error **error);

/* Names that a body knows from its caller. */
typedef struct body_name {
    const char *name;
    int value;
} body_name;

/* Put a subgraph into `to`; `prefix` begins the names of its values. results[i] = the value of its output i, of
 * graph->output_count. */
xai_status body_append_graph(graph *to, const body_scope *scope, const onnx_graph *body,
                             const char *prefix, const char *place, const body_name *known,
                             size_t known_count, int *results, xai_error **error);

/* control.c: replace a node of If, Loop or Scan by what it does, as far as that is known; the graph must be sorted behind
 * it. */
xai_status control_expand(graph *self, int node, xai_error **error);
/* Whether that must wait for values that no constant gives: the condition of an If, condition or number of a Loop. */
bool control_needs_data(const graph *self, const graph_node *node);

#endif
