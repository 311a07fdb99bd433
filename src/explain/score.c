#include "explain/score.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

static bool is_operator(const graph_node *node, const char *name)
{
    return node->definition->domain[0] == '\0' && strcmp(node->definition->name, name) == 0;
}

/* A product with a constant one, or a cast between float types: exporters put them behind scores. */
static bool is_neutral(const graph *source, const graph_node *node)
{
    if (is_operator(node, "Identity") || is_operator(node, "Dropout"))
        return true;
    if (is_operator(node, "Cast"))
        for (size_t i = 0; i < node->attribute_count; i++)
            if (strcmp(node->attributes[i].name, "to") == 0)
                return dtype_is_float((int32_t)node->attributes[i].i);
    if (!is_operator(node, "Mul") || node->input_count != 2 || node->inputs[1] == GRAPH_NONE)
        return false;
    const graph_value *factor = &source->values[node->inputs[1]];
    return factor->is_constant && tensor_count(&factor->constant) == 1 &&
           dtype_size(factor->constant.dtype) > 0 && tensor_get(&factor->constant, 0) == 1;
}

/* The node that computes a value, seen through operators that pass values on as they are.
 * `*value` moves along. */
static const graph_node *final_node(const graph *source, int *value)
{
    for (;;) {
        const int producer = source->values[*value].producer;
        if (producer == GRAPH_NONE)
            return NULL;
        const graph_node *node = &source->nodes[producer];
        if (!is_neutral(source, node))
            return node;
        if (node->input_count < 1 || node->inputs[0] == GRAPH_NONE)
            return NULL;
        *value = node->inputs[0];
    }
}

xai_status score_source_find(const subject *of, int output, int32_t kind, score_source *out,
                             xai_error **error)
{
    const graph *source = network_graph(of->net);
    int value = source->outputs[output];
    const bool described = output == target_default_output(source); /* by the card */
    *out = (score_source){.output = output, .output_value = value, .seed_value = value};
    const graph_node *node = final_node(source, &value);
    const bool sigmoid = node != NULL && is_operator(node, "Sigmoid");
    const bool softmax = node != NULL && is_operator(node, "Softmax");
    const bool log_softmax = node != NULL && is_operator(node, "LogSoftmax");
    const bool strippable = (sigmoid || softmax || log_softmax) && node->input_count > 0 &&
                            node->inputs[0] != GRAPH_NONE;
    const char *name = source->values[source->outputs[output]].name;
    out->saturates = sigmoid || softmax || (described && of->scores == SCORES_PROBABILITY);
    if (kind == XAI_SCORE_RAW)
        return XAI_OK;
    if (kind == XAI_SCORE_LOGIT) {
        if (strippable) {
            out->seed_value = node->inputs[0];
            out->saturates = false;
        } else if (described && of->scores == SCORES_PROBABILITY) {
            return error_set(error, XAI_ERROR_UNSUPPORTED, "score",
                             "no logit of output '%s': the model card says that its scores are "
                             "probabilities, but the model "
                             "does not end in Sigmoid, Softmax or LogSoftmax; use the raw score",
                             name);
        }
        return XAI_OK;
    }
    if (kind != XAI_SCORE_PROBABILITY)
        return error_set(error, XAI_ERROR_ARGUMENT, "score", "unknown score kind %d", (int)kind);
    if (sigmoid || softmax)
        return XAI_OK;
    if (log_softmax) {
        out->transform = SCORE_EXP;
        out->saturates = true;
        return XAI_OK;
    }
    if (described && of->scores == SCORES_PROBABILITY)
        return XAI_OK;
    if (described && (of->scores == SCORES_SIGMOID || of->scores == SCORES_SOFTMAX)) {
        out->transform = of->scores == SCORES_SIGMOID ? SCORE_SIGMOID : SCORE_SOFTMAX;
        out->saturates = true;
        return XAI_OK;
    }
    return error_set(error, XAI_ERROR_UNSUPPORTED, "score",
                     "no probability of output '%s': the model does not end in Sigmoid, Softmax or "
                     "LogSoftmax, and its card "
                     "does not name the activation; declare it on the model card "
                     "(output.activation: sigmoid or softmax), or use "
                     "the raw score",
                     name);
}

static double sigmoid_of(double z)
{
    return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}

/* p = softmax of one column (K values, `stride` apart); S = sum of p over [begin, end); dS/dz_j
 * = p_j ([j in box] - S). */
static double softmax_column(const double *z, size_t classes, size_t stride, size_t begin,
                             size_t end, float *seed)
{
    double highest = z[0], total = 0, inside = 0;
    for (size_t j = 1; j < classes; j++)
        if (z[j * stride] > highest)
            highest = z[j * stride];
    for (size_t j = 0; j < classes; j++) {
        const double e = exp(z[j * stride] - highest);
        total += e;
        inside += j >= begin && j < end ? e : 0;
    }
    const double score = inside / total;
    for (size_t j = 0; seed != NULL && j < classes; j++) {
        const double p = exp(z[j * stride] - highest) / total;
        /* 1 - S as the sum of the others would be exact; p <= 1 keeps the cancellation below
         * 1e-16. */
        seed[j * stride] = (float)(p * ((j >= begin && j < end ? 1 : 0) - score));
    }
    return score;
}

static double element_score(score_transform transform, double value, double *slope)
{
    switch (transform) {
    case SCORE_EXP:
        *slope = exp(value);
        return *slope;
    case SCORE_SIGMOID: {
        const double p = sigmoid_of(value);
        *slope = p * sigmoid_of(-value);
        return p;
    }
    case SCORE_IDENTITY:
    case SCORE_SOFTMAX:
        break;
    }
    *slope = 1;
    return value;
}

double score_evaluate(const score_source *self, const selection *chosen, const shape *row_shape,
                      const double *values, float *seed)
{
    size_t count = 0;
    if (!shape_count(row_shape, &count))
        return 0;
    if (seed != NULL)
        memset(seed, 0, count * sizeof *seed);
    /* Walk the box by counting an index vector; the softmax takes its whole class axis (axis 0)
     * at once. */
    const bool softmax = self->transform == SCORE_SOFTMAX;
    const size_t classes = row_shape->rank > 0 ? (size_t)row_shape->dims[0] : 1;
    const size_t columns = classes > 0 ? count / classes : 0;
    const int first_axis = softmax ? 1 : 0;
    int64_t at[SHAPE_MAX_RANK];
    for (int axis = 0; axis < chosen->rank; axis++)
        at[axis] = chosen->begin[axis];
    double score = 0;
    for (;;) {
        size_t offset = 0;
        for (int axis = first_axis; axis < chosen->rank; axis++)
            offset = offset * (size_t)row_shape->dims[axis] + (size_t)at[axis];
        if (softmax) {
            const size_t begin = chosen->rank > 0 ? (size_t)chosen->begin[0] : 0;
            const size_t end = chosen->rank > 0 ? (size_t)chosen->end[0] : 1;
            score += softmax_column(values + offset, classes, columns, begin, end,
                                    seed != NULL ? seed + offset : NULL);
        } else {
            double slope;
            score += element_score(self->transform, values[offset], &slope);
            if (seed != NULL)
                seed[offset] = (float)slope;
        }
        int axis = chosen->rank - 1;
        while (axis >= first_axis && ++at[axis] == chosen->end[axis]) {
            at[axis] = chosen->begin[axis];
            axis--;
        }
        if (axis < first_axis)
            return score;
    }
}
