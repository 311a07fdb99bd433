/* Private to the import: models of the ai.onnx.ml domain become ordinary operators. */
#ifndef GRAPH_IMPORT_ML_H
#define GRAPH_IMPORT_ML_H

#include "graph/private.h"

/* A node of the file with its values known. */
typedef struct ml_node {
    const operator_definition *definition;
    const char *name, *place;
    const onnx_attribute *attributes;
    size_t attribute_count, input_count, output_count;
    const int *inputs, *outputs; /* value ids or GRAPH_NONE */
    int opset;
} ml_node;

/* Definitions (names and counts only) of operators that exist on the way in alone; NULL for
 * others. */
const operator_definition *import_ml_find(const char *domain, const char *name);

/* Append what stands for the node; *done is false when it is to be appended as it is. */
xai_status import_ml(graph *to, const ml_node *node, bool *done, xai_error **error);

#endif
