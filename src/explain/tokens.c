#include "explain/tokens.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"

/* The axis of a Gather, from the front. */
static int gather_axis(const graph_node *node, int rank)
{
    int64_t axis = 0;
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, "axis") == 0)
            axis = node->attributes[i].i;
    axis += axis < 0 ? rank : 0;
    return axis >= 0 && axis < rank ? (int)axis : GRAPH_NONE;
}

/* Rows of the table that a node looks `value` up in; 0 when it is not such a node. */
static int64_t looked_up(const graph *source, const graph_node *node, int value, const char **table)
{
    if (strcmp(node->definition->name, "Gather") != 0 || node->input_count != 2 ||
        node->inputs[1] != value || node->inputs[0] == GRAPH_NONE)
        return 0;
    const graph_value *data = &source->values[node->inputs[0]];
    const int axis = gather_axis(node, data->shape.rank);
    if (!data->is_constant || axis == GRAPH_NONE)
        return 0;
    *table = data->name;
    return data->shape.dims[axis];
}

/* Nodes are sorted: what is cast on the way is seen in one pass. */
int64_t tokens_table(const graph *source, size_t input, const char **table)
{
    enum { MOST = 8 };
    int same[MOST] = {source->inputs[input]}; /* values that hold the ids */
    size_t count = 1;
    int64_t rows = 0;
    for (size_t i = 0; i < source->node_count; i++) {
        const graph_node *node = &source->nodes[i];
        const bool copies = strcmp(node->definition->name, "Cast") == 0 ||
                            strcmp(node->definition->name, "Identity") == 0;
        for (size_t k = 0, known = count; !node->removed && k < known; k++) {
            const char *name = "";
            const int64_t found = looked_up(source, node, same[k], &name);
            if (found > 0 && (rows == 0 || found < rows)) {
                rows = found;
                *table = name;
            }
            if (copies && node->inputs[0] == same[k] && count < MOST)
                same[count++] = node->outputs[0];
        }
    }
    return rows;
}

xai_status tokens_check(const graph *source, size_t input, const tensor *ids, const char *place,
                        xai_error **error)
{
    enum { CHUNK = 256 };
    const size_t count = tensor_count(ids);
    const char *table = "";
    char where[SHAPE_TEXT_SIZE];
    int64_t values[CHUNK];
    const int64_t rows = tokens_table(source, input, &table);
    for (size_t begin = 0; rows > 0 && begin < count; begin += CHUNK) {
        const size_t length = count - begin < CHUNK ? count - begin : CHUNK;
        tensor_read_ints(ids, begin, length, values);
        for (size_t i = 0; i < length; i++)
            if (values[i] < -rows || values[i] >= rows)
                return error_set(error, XAI_ERROR_ARGUMENT, place,
                                 "the id %" PRId64 "%s%s is not in the table '%.80s' of %" PRId64
                                 " rows that it chooses from",
                                 values[i], ids->shape.rank > 0 ? " at " : "",
                                 ids->shape.rank > 0 ? shape_position(&ids->shape, begin + i, where)
                                                     : "",
                                 table, rows);
    }
    return XAI_OK;
}
