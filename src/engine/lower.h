/* Helpers that the lowerings share. */
#ifndef ENGINE_LOWER_H
#define ENGINE_LOWER_H

#include "engine/plan.h"

/* An operator_call for a node, shapes and constants filled in; the arrays live in `storage`. */
typedef struct node_call {
    operator_call call;
    const tensor **inputs;
    tensor **outputs;
    tensor *storage;
} node_call;
xai_status node_call_open(const graph *g, const graph_node *node, node_call *self,
                          xai_error **error);
void node_call_close(node_call *self);

xai_status lower_activation_backward(builder *b, const unit *self);
xai_status lower_gate_backward(builder *b, const unit *self);
xai_status lower_window(builder *b, const graph_node *node, window *out);

#endif
