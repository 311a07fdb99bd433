#include "engine/lower.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"

bool node_is(const graph_node *node, const char *domain, const char *name)
{
    return strcmp(node->definition->name, name) == 0 &&
           strcmp(node->definition->domain, domain) == 0;
}

xai_status node_call_open(const graph *g, const graph_node *node, node_call *self,
                          xai_error **error)
{
    const size_t inputs = (size_t)node->input_count, outputs = (size_t)node->output_count;
    memset(self, 0, sizeof *self);
    self->inputs = memory_allocate_zeroed(inputs + 1, sizeof *self->inputs);
    self->outputs = memory_allocate_zeroed(outputs + 1, sizeof *self->outputs);
    self->storage = memory_allocate_zeroed(inputs + outputs + 1, sizeof *self->storage);
    if (!self->inputs || !self->outputs || !self->storage) {
        node_call_close(self);
        return error_memory(error, "operator call", (inputs + outputs) * sizeof(tensor));
    }
    graph_call(g, node, &self->call, self->inputs, self->outputs, self->storage, error);
    return XAI_OK;
}

void node_call_close(node_call *self)
{
    memory_free(self->inputs);
    memory_free(self->outputs);
    memory_free(self->storage);
    memset(self, 0, sizeof *self);
}

xai_status lower_window(builder *b, const graph_node *node, window *out)
{
    node_call call;
    xai_status status = node_call_open(b->graph, node, &call, b->error);
    if (status != XAI_OK)
        return status;
    status = operator_window(&call.call, out);
    node_call_close(&call);
    return status;
}
