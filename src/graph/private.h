/* Calls shared by the files of this folder and by nobody else. */
#ifndef GRAPH_PRIVATE_H
#define GRAPH_PRIVATE_H

#include "graph/graph.h"

graph *graph_create(const onnx_model *source); /* empty; NULL when out of memory */

/* "node 'conv2' (com.acme.Conv)" in the graph's pool; NULL when out of memory. */
const char *graph_place_text(graph *self, const char *domain, const char *op, const char *name);

/* graph_add_node for a known definition; attributes are taken as they are and must live as long as the graph. */
int graph_append_node(graph *self, const operator_definition *definition, const char *name,
                      const char *place, const int *inputs, int input_count, const int *outputs,
                      int output_count, const onnx_attribute *attributes, size_t attribute_count,
                      int opset);

/* Copy with own names and id arrays; constants are views of the source's, which must live as long as the copy. */
xai_status graph_copy(const graph *source, graph **out, xai_error **error);

/* For an imported graph: float16 and bfloat16 become float32 inside (widen.c). */
xai_status graph_widen_halves(graph *self, xai_error **error);

/* Shapes and constants of a graph whose inputs have static shapes (infer.c). A value whose shape depends on data gets the
 * place of its node in `late` and no shape. */
xai_status graph_infer(graph *self, xai_error **error);
/* Compute every node of a graph whose inputs are constants; control flow too. Values that are in `keep` stay, others go with
 * their last reader. limit: bytes of all values at a time, 0 = 1 GiB. watch: asked before each node; may be NULL. */
xai_status graph_compute(graph *self, const int *keep, size_t keep_count, size_t limit,
                         const graph_watch *watch, xai_error **error);

/* Take the late nodes out into self->end (finish.c); `protect` (value_count entries) follows. */
xai_status graph_split(graph *self, bool *protect, xai_error **error);
void graph_end_free(graph_end *self);

/* Mark what neither an output nor a value with `protect[id]` needs as removed, free its data, and omit unread optional
 * outputs. `protect` has value_count entries. */
xai_status graph_remove_dead(graph *self, const bool *protect, xai_error **error);

#endif
