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
/* From input 0 to output `index` of a Transpose, Slice, Split or Gather; *known = false for a Gather of more than one place. */
xai_status movement_of(builder *b, const graph_node *node, int index, movement *out, bool *known);
/* The step of a matrix product: what it reads, bias perhaps OPERAND_NONE, and the `bytes` it writes. */
xai_status lower_product(builder *b, int index, const primitive *program, operand source,
                         operand weights, operand bias, operand destination, size_t bytes);
/* A matrix product with other weights than its own, constants of the same shape, whose memory ends with the call: all
 * plain. Backwards: from its output to its input. */
xai_status lower_matrix_apply(builder *b, int index, bool backwards, operand source,
                              const tensor *weights, const tensor *bias, operand out);
/* The gradient of a value in plain layout. */
xai_status read_plain_gradient(builder *b, int value, operand *out);
/* A Softmax or LayerNormalization over its input's last axis. */
xai_status rows_over_last_axis(builder *b, const graph_node *node, bool *yes, float *epsilon);
xai_status lower_window(builder *b, const graph_node *node, window *out);

#endif
