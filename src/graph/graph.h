/* The typed SSA graph: import from a parsed ONNX file, specialisation to concrete shapes,
 * rewrites.
 *
 * A graph is immutable once made. Value ids of an imported graph stay valid in every
 * specialisation of it: rewrites append values and mark removed ones, they never renumber. */
#ifndef GRAPH_GRAPH_H
#define GRAPH_GRAPH_H

#include "base/memory.h"
#include "onnx/onnx.h"
#include "ops/operator.h"

#define GRAPH_NONE (-1) /* an omitted input, or a value without producer */

typedef struct graph_value {
    const char *name; /* unique, "" never; owned by the graph */
    int32_t dtype;    /* DTYPE_UNDEFINED in an imported graph where not declared */
    shape shape;      /* rank -1 where unknown; static after specialisation */
    bool is_constant;
    tensor constant; /* a view into the model file, or owned; valid when is_constant */
    int producer;    /* node index, or GRAPH_NONE for inputs and constants */
    bool removed;    /* rewritten away by this specialisation */
    bool varies;     /* depends on a run-time input */
    /* Of a specialised graph: the place of the node whose shape depends on data and that this value comes from; such a
     * value is marked as removed, graph_finish() computes it. NULL = its shape is static. */
    const char *late;
} graph_value;

/* The nodes of a specialised graph whose shapes depend on data (finish.c). */
typedef struct graph_end graph_end;

/* What If, Loop and Scan need to be written out (body.h). */
typedef struct graph_control graph_control;

typedef struct graph_node {
    const operator_definition *definition;
    const char *name;  /* the file's name, or "OpType_k" when it has none; owned by the graph */
    const char *place; /* "node 'conv2' (Conv)" */
    const onnx_attribute *attributes;
    size_t attribute_count;
    int opset;
    int input_count, output_count;
    int *inputs, *outputs;        /* value ids or GRAPH_NONE */
    const graph_control *control; /* NULL but for If, Loop and Scan; lives as long as the import */
    bool removed;
} graph_node;

typedef struct graph {
    graph_value *values;
    size_t value_count, value_capacity;
    graph_node *nodes; /* topologically sorted, removed ones included */
    size_t node_count, node_capacity;
    int *inputs; /* run-time inputs (initializers excluded), model order */
    size_t input_count;
    int *outputs;
    size_t output_count;
    graph_end *end; /* NULL when all shapes are static */
    /* Made by graph_take_row(): by value id, the axis that holds the rows of a batch, or -1; else NULL. */
    int8_t *row_axes;
    size_t row_axis_count;
    memory_pool *pool;        /* names, attributes, id arrays */
    const onnx_model *source; /* not owned */
} graph;

/* Check and convert: SSA names, topological order (iterative, cycles are an error), known
 * operators (an unknown one is one error naming operator, domain, opset and node), opset range 7
 * to the newest. `model` must outlive the graph. */
xai_status graph_import(const onnx_model *model, graph **out, xai_error **error);

/* Which of the exact rewrites of rewrite.h are made. */
typedef enum graph_rewrites {
    GRAPH_REWRITES_NEEDED, /* those without which gradients do not pass */
    GRAPH_REWRITES_LAYERS, /* and those that leave the order of the layers, for rules by layer */
    GRAPH_REWRITES_ALL
} graph_rewrites;

/* Copy `source` for concrete input shapes (one per graph input): shape inference, constant
 * folding, dead code removal, and rewrites. Values listed in `keep` (and the outputs) survive with
 * their meaning. Nodes whose shapes depend on data, and what reads them, are taken out: the values in
 * front of them (the frontier) become outputs in the place of those behind. */
xai_status graph_specialise(const graph *source, const shape *input_shapes, const int *keep,
                            size_t keep_count, graph_rewrites rewrites, graph **out,
                            xai_error **error);
/* The same for a network that begins at inner values: each of `starts` becomes one more input, in
 * this order behind the model's, with the static shape start_shapes[i] and the type it has in the
 * model. What only they depend on goes; nodes that bypass them still read the model's inputs. A
 * constant, an input or an output cannot be a start. */
xai_status graph_specialise_from(const graph *source, const shape *input_shapes, const int *starts,
                                 const shape *start_shapes, size_t start_count, const int *keep,
                                 size_t keep_count, graph_rewrites rewrites, graph **out,
                                 xai_error **error);
void graph_free(graph *self);

/* Of a model whose inputs have fixed shapes with the same number of rows above one: the graph of one row, with the same value
 * ids, for graph_specialise(). *out = NULL where there is none: the batch is not fixed, or rows are not seen to stay apart.
 * Constants are views of the source's. */
xai_status graph_take_row(const graph *source, graph **out, xai_error **error);

/* XAI_ERROR_UNSUPPORTED, naming the node, when a value's shape depends on data: no plan has it. */
xai_status graph_check_static(const graph *self, int value, xai_error **error);
/* The values of a plan that graph_finish() reads. */
const int *graph_frontier(const graph *self, size_t *count);
/* Whether a computation of many nodes goes on; false makes it XAI_ERROR_CANCELLED. */
typedef struct graph_watch {
    bool (*goes_on)(void *user);
    void *user;
} graph_watch;

/* Compute values whose shapes depend on data, by the portable kernels. given: the frontier's values, in its order.
 * memory_limit: bytes of all values at a time, 0 = 1 GiB. watch: asked before each node; may be NULL. out: new tensors. Any number of threads may do so at once. */
xai_status graph_finish(const graph *self, const tensor *given, const int *wanted, size_t count,
                        size_t memory_limit, const graph_watch *watch, tensor *out,
                        xai_error **error);

/* Value id by name (or a node's name: its first output); GRAPH_NONE when unknown. */
int graph_find(const graph *self, const char *name);
/* Nodes (not removed) that read a value: count, and up to `capacity` node indices into out. A
 * node that reads it twice is listed twice. */
size_t graph_consumers(const graph *self, int value, int *out, size_t capacity);

/* For rewrites. New values are owned by the graph; `constant` is moved in. GRAPH_NONE / -1 when
 * out of memory. */
int graph_add_value(graph *self, const char *name, int32_t dtype, const shape *dims);
int graph_add_constant(graph *self, const char *name, tensor *constant);
/* Insert before node `before`'s position is not possible in an array: new nodes are appended and
 * graph_sort() restores the order. */
int graph_add_node(graph *self, const char *domain, const char *op, const char *name,
                   const int *inputs, int input_count, const int *outputs, int output_count,
                   const onnx_attribute *attributes, size_t attribute_count, int opset);
xai_status graph_sort(graph *self, xai_error **error);
/* Fill an operator_call for a node (inputs: constants have data). The pointer arrays are the
 * caller's, sized input_count/output_count. */
void graph_call(const graph *self, const graph_node *node, operator_call *call,
                const tensor **inputs, tensor **outputs, tensor *storage, xai_error **error);

#endif
