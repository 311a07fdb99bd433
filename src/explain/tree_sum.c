#include "explain/tree_sum.h"

#include <string.h>

#include "base/error.h"

enum { MOST_STEPS = 100000, MOST_DEPTH = 1000 }; /* nodes looked at for one score; of one chain */

xai_status tree_sum_init(tree_sum *self, const graph *source, xai_error **error)
{
    *self = (tree_sum){.graph = source, .pool = memory_pool_create()};
    return self->pool ? XAI_OK : error_memory(error, "tree ensembles", 0);
}

void tree_sum_free(tree_sum *self)
{
    memory_pool_free(self->pool);
    memory_free(self->sources);
    *self = (tree_sum){0};
}

void tree_column_free(tree_column *self)
{
    memory_free(self->terms);
    *self = (tree_column){0};
}

static bool is(const graph_node *node, const char *name)
{
    return *node->definition->domain == '\0' && strcmp(node->definition->name, name) == 0;
}

static bool is_any(const graph_node *node, const char *const *names)
{
    for (; *names; names++)
        if (is(node, *names))
            return true;
    return false;
}

/* An operator that hands its first input on: the same numbers in the same order. */
static bool passes_on(const graph_node *node)
{
    static const char *const names[] = {"Identity", "Dropout", "Cast",      "Reshape",
                                        "Flatten",  "Squeeze", "Unsqueeze", NULL};
    return is_any(node, names);
}

/* The element of a constant that meets column `column`: of one element, or one a column. */
static bool constant_at(const graph *source, int value, size_t column, double *out)
{
    const graph_value *v = value == GRAPH_NONE ? NULL : &source->values[value];
    if (!v || !v->is_constant || dtype_size(v->constant.dtype) == 0)
        return false;
    const size_t count = tensor_count(&v->constant);
    if (count != 1 && (count <= column || v->constant.shape.rank < 1 ||
                       v->constant.shape.dims[v->constant.shape.rank - 1] != (int64_t)count))
        return false;
    *out = tensor_get(&v->constant, count == 1 ? 0 : column);
    return true;
}

typedef struct search {
    tree_sum *sum;
    tree_column *out;
    size_t column;
    int steps;
    xai_error **error;
} search;

static xai_status refuse(const search *self, const graph_node *node)
{
    return error_set(self->error, XAI_ERROR_UNSUPPORTED, "tree_shap",
                     "the score is no sum of tree ensembles: %s stands in between; use kernel_shap "
                     "or exact_shap",
                     node ? node->place : "an input or a constant");
}

/* The compiled ensemble of a node, once each. */
static xai_status find_source(const search *self, int index, size_t *out)
{
    tree_sum *sum = self->sum;
    const graph_node *node = &sum->graph->nodes[index];
    for (size_t i = 0; i < sum->source_count; i++) {
        *out = i;
        if (sum->sources[i].node == index)
            return XAI_OK;
    }
    void *sources = sum->sources;
    const bool grown =
        array_reserve(&sources, &sum->source_capacity, sum->source_count + 1, sizeof *sum->sources);
    sum->sources = sources;
    if (!grown)
        return error_memory(self->error, "tree ensembles", 0);
    const operator_call call = {.definition = node->definition,
                                .attributes = node->attributes,
                                .attribute_count = node->attribute_count,
                                .opset = node->opset,
                                .place = node->place,
                                .error = self->error};
    tree_node_source made = {.node = index, .input = node->inputs[0]};
    const xai_status status = trees_compile(&call, sum->pool, &made.of);
    if (status == XAI_OK) {
        *out = sum->source_count;
        sum->sources[sum->source_count++] = made;
    }
    return status;
}

static xai_status add_ensemble(search *self, int index, int value, double factor)
{
    tree_column *out = self->out;
    const graph_node *node = &self->sum->graph->nodes[index];
    size_t source = 0, column = self->column;
    const xai_status status = find_source(self, index, &source);
    if (status != XAI_OK)
        return status;
    const trees *of = self->sum->sources[source].of;
    const bool scores = node->outputs[node->output_count - 1] == value &&
                        (node->definition->max_outputs == 1 || node->output_count == 2);
    const bool transformed = of->pair != TREES_COMPLEMENT && strcmp(of->transform, "NONE") != 0;
    if (!scores || transformed || column >= trees_columns(of))
        return refuse(self, node);
    if (of->pair != TREES_SCORES) {
        if (column == 0 && of->pair == TREES_COMPLEMENT)
            out->shift += factor;
        factor = column == 0 ? -factor : factor;
        column = 0;
    }
    void *terms = out->terms;
    const bool grown = array_reserve(&terms, &out->capacity, out->count + 1, sizeof *out->terms);
    out->terms = terms;
    if (!grown)
        return error_memory(self->error, "tree ensembles", 0);
    out->terms[out->count++] = (tree_term){source, column, factor};
    return XAI_OK;
}

static xai_status collect(search *self, int value, double factor, int depth);

/* x * c, c * x or x / c with a constant. */
static xai_status collect_product(search *self, const graph_node *node, double factor, int depth)
{
    const graph *source = self->sum->graph;
    double constant;
    if (constant_at(source, node->inputs[1], self->column, &constant))
        return collect(self, node->inputs[0],
                       is(node, "Mul") ? factor * constant : factor / constant, depth + 1);
    if (is(node, "Mul") && constant_at(source, node->inputs[0], self->column, &constant))
        return collect(self, node->inputs[1], factor * constant, depth + 1);
    return refuse(self, node);
}

/* factor * value, added to the sum. */
static xai_status collect(search *self, int value, double factor, int depth)
{
    const graph *source = self->sum->graph;
    static const char *const sums[] = {"Add", "Sub", "Sum", NULL}, *const products[] = {
                                                                       "Mul", "Div", NULL};
    double constant;
    xai_status status = XAI_OK;
    if (constant_at(source, value, self->column, &constant)) {
        self->out->shift += factor * constant;
        return XAI_OK;
    }
    const int producer = source->values[value].producer;
    if (producer == GRAPH_NONE || depth > MOST_DEPTH || self->steps++ > MOST_STEPS)
        return refuse(self, NULL);
    const graph_node *node = &source->nodes[producer];
    if (strncmp(node->definition->name, "TreeEnsemble", 12) == 0)
        return add_ensemble(self, producer, value, factor);
    if (node->input_count < 1 || node->inputs[0] == GRAPH_NONE)
        return refuse(self, node);
    if (passes_on(node))
        return collect(self, node->inputs[0], factor, depth + 1);
    if (is_any(node, products))
        return collect_product(self, node, factor, depth);
    if (!is_any(node, sums))
        return refuse(self, node);
    for (int k = 0; status == XAI_OK && k < node->input_count; k++)
        status =
            collect(self, node->inputs[k], k == 1 && is(node, "Sub") ? -factor : factor, depth + 1);
    return status;
}

xai_status tree_sum_column(tree_sum *self, const score_source *score, size_t column,
                           tree_column *out, xai_error **error)
{
    const graph *source = self->graph;
    search found = {.sum = self, .out = out, .column = column, .error = error};
    int value = score->seed_value;
    *out = (tree_column){.sigmoid = score->transform == SCORE_SIGMOID};
    if (score->transform != SCORE_IDENTITY && score->transform != SCORE_SIGMOID)
        return error_set(error, XAI_ERROR_UNSUPPORTED, "tree_shap",
                         "Shapley values of trees are of their sums, not of a softmax over "
                         "classes; ask for the score 'logit'");
    for (int step = 0; step < MOST_DEPTH; step++) { /* to the final activation */
        const int producer = source->values[value].producer;
        const graph_node *node = producer == GRAPH_NONE ? NULL : &source->nodes[producer];
        if (node && (is(node, "Softmax") || is(node, "LogSoftmax")))
            return error_set(error, XAI_ERROR_UNSUPPORTED, "tree_shap",
                             "the model's scores are probabilities of a softmax, which mixes the "
                             "classes; ask for the score 'logit'");
        if (node && is(node, "Sigmoid") && !out->sigmoid) {
            out->sigmoid = true;
            value = node->inputs[0];
            break;
        }
        if (!node || (!passes_on(node) && !is(node, "Mul")))
            break;
        double one;
        if (is(node, "Mul") && !(node->input_count == 2 &&
                                 constant_at(source, node->inputs[1], column, &one) && one == 1))
            break;
        value = node->inputs[0];
    }
    return collect(&found, value, 1, 0);
}

/* --- features --- */

static bool featurewise(const graph *source, int value, int *input, int *steps)
{
    static const char *const names[] = {"Identity",    "Cast", "Add",     "Sub",
                                        "Mul",         "Div",  "Where",   "IsNaN",
                                        "Equal",       "Less", "Greater", "GreaterOrEqual",
                                        "LessOrEqual", "Min",  "Max",     "Clip",
                                        "And",         "Or",   "Not",     NULL};
    const graph_value *v = &source->values[value];
    if (v->is_constant)
        return true;
    if (v->producer == GRAPH_NONE) {
        const bool same = *input == GRAPH_NONE || *input == value;
        *input = value;
        return same;
    }
    const graph_node *node = &source->nodes[v->producer];
    if ((*steps)++ > MOST_DEPTH ||
        (!is_any(node, names) && !(node->definition->flags & OPERATOR_ELEMENTWISE)))
        return false;
    for (int k = 0; k < node->input_count; k++)
        if (node->inputs[k] != GRAPH_NONE && !featurewise(source, node->inputs[k], input, steps))
            return false;
    return true;
}

bool tree_sum_is_featurewise(const tree_sum *self, int value, int *input)
{
    int steps = 0;
    *input = GRAPH_NONE;
    return featurewise(self->graph, value, input, &steps) && *input != GRAPH_NONE;
}
