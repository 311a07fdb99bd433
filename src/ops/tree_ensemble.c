/* TreeEnsembleRegressor, TreeEnsembleClassifier and TreeEnsemble: sums (or means, minima, maxima)
 * of what the leaves say that a row reaches.
 *
 *     score_k = base_k + aggregate over trees of weight_k(leaf of the tree)
 *
 * Steps have no gradient; Shapley values of trees are exact (tree_shap). */
#include <math.h>
#include <string.h>

#include "ops/classifier.h"
#include "ops/families.h"
#include "ops/trees.h"

void trees_scores(const trees *self, const double *x, double *scores)
{
    const bool extreme = self->aggregate == TREES_MIN || self->aggregate == TREES_MAX;
    for (size_t k = 0; k < self->outputs; k++)
        scores[k] = extreme ? NAN : 0;
    for (size_t t = 0; t < self->tree_count; t++) {
        int32_t at = self->roots[t];
        while (at >= 0) {
            const trees_node *node = &self->nodes[at];
            at = trees_decide(self, node, x[node->feature]) ? node->yes : node->no;
        }
        for (uint32_t i = self->leaf_weights[~at]; i < self->leaf_weights[~at + 1]; i++) {
            double *score = &scores[self->weights[i].output];
            const double value = self->weights[i].value;
            if (!extreme)
                *score += value;
            else if (isnan(*score) || (self->aggregate == TREES_MIN) == (value < *score))
                *score = value;
        }
    }
    for (size_t k = 0; k < self->outputs; k++) {
        if (extreme && isnan(scores[k]))
            scores[k] = 0;
        if (self->aggregate == TREES_AVERAGE)
            scores[k] /= (double)self->tree_count;
        scores[k] += self->base[k];
    }
}

size_t trees_columns(const trees *self)
{
    return self->pair == TREES_SCORES ? self->outputs : 2;
}

xai_status operator_prepare(const operator_call *call, memory_pool *pool, const void **out)
{
    const trees *compiled = NULL;
    const xai_status status = trees_compile(call, pool, &compiled);
    *out = compiled;
    return status;
}

static xai_status check_features(const operator_call *call, const trees *compiled)
{
    size_t rows, features;
    const xai_status status = feature_rows(call, &rows, &features);
    if (status == XAI_OK && (size_t)compiled->features > features)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "a node reads feature %d of rows with %zu features",
                              compiled->features - 1, features);
    return status;
}

static xai_status trees_infer(operator_call *call)
{
    const bool classifier = call->definition->max_outputs == 2;
    const trees *compiled = NULL;
    class_labels labels;
    memory_pool *pool = NULL;
    xai_status status = operator_check(call);
    if (status == XAI_OK && !(pool = memory_pool_create()))
        status = error_memory(call->error, "a tree ensemble", 0);
    if (status == XAI_OK)
        status = trees_compile(call, pool, &compiled);
    if (status == XAI_OK)
        status = check_features(call, compiled);
    if (status == XAI_OK && classifier)
        status = class_labels_read(call, "classlabels_int64s", &labels);
    if (status == XAI_OK && classifier)
        status = class_labels_infer(call, &labels, &call->inputs[0]->shape);
    if (status == XAI_OK)
        status = scores_infer(call, classifier ? 1 : 0, trees_columns(compiled));
    memory_pool_free(pool);
    if (status != XAI_OK || strcmp(call->definition->name, "TreeEnsemble") != 0)
        return status;
    status = operator_check_type(call, 0, TYPES_FLOAT);
    call->outputs[0]->dtype = call->inputs[0]->dtype;
    return status;
}

/* The pair of a binary classifier from its one score s, in place. */
static void complete_pair(const trees *self, double *scores)
{
    if (self->pair == TREES_SCORES)
        return;
    scores[1] = scores[0];
    scores[0] = self->pair == TREES_COMPLEMENT ? 1 - scores[1] : -scores[1];
}

/* The class with the highest score, the first among equals. */
static size_t top_class(const double *scores, size_t count)
{
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
        if (scores[i] > scores[best])
            best = i;
    return best;
}

static xai_status run_rows(operator_call *call, const trees *compiled)
{
    const bool classifier = call->definition->max_outputs == 2;
    tensor *label = classifier ? operator_output(call, 0) : NULL;
    tensor *out = operator_output(call, classifier ? 1 : 0);
    class_labels labels = {0};
    size_t rows, features;
    double *x = NULL, *scores = NULL;
    const size_t columns = trees_columns(compiled);
    /* [1 - s, s] are probabilities already */
    const char *transform = compiled->pair == TREES_COMPLEMENT ? "NONE" : compiled->transform;
    xai_status status = feature_rows(call, &rows, &features);
    if (status == XAI_OK && label)
        status = class_labels_read(call, "classlabels_int64s", &labels);
    if (status == XAI_OK && label && !labels.numbers)
        status = operator_error(call, XAI_ERROR_UNSUPPORTED,
                                "class labels that are texts cannot be computed");
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    if (status == XAI_OK)
        status = operator_allocate(call, columns + 1, &scores);
    for (size_t r = 0; r < rows && status == XAI_OK; r++) {
        trees_scores(compiled, x + r * features, scores);
        complete_pair(compiled, scores);
        if (label)
            tensor_set_int(label, r, labels.numbers[top_class(scores, columns)]);
        class_transform(transform, scores, columns);
        if (out)
            tensor_write_doubles(out, r * columns, columns, scores);
    }
    memory_free(x);
    memory_free(scores);
    return status;
}

static xai_status trees_forward(operator_call *call)
{
    if (call->prepared)
        return run_rows(call, call->prepared);
    const trees *compiled = NULL;
    memory_pool *pool = memory_pool_create();
    if (!pool)
        return error_memory(call->error, "a tree ensemble", 0);
    xai_status status = trees_compile(call, pool, &compiled);
    if (status == XAI_OK)
        status = run_rows(call, compiled);
    memory_pool_free(pool);
    return status;
}

#define TREES(symbol, title, first_opset, least, most) \
    const operator_definition operator_##symbol = {    \
        .name = title,                                 \
        .domain = "ai.onnx.ml",                        \
        .min_inputs = 1,                               \
        .max_inputs = 1,                               \
        .min_outputs = least,                          \
        .max_outputs = most,                           \
        .since = first_opset,                          \
        .infer = trees_infer,                          \
        .forward = trees_forward,                      \
        .flags = OPERATOR_PREPARES,                    \
    }

TREES(tree_ensemble_regressor, "TreeEnsembleRegressor", 1, 1, 1);
TREES(tree_ensemble_classifier, "TreeEnsembleClassifier", 1, 0, 2);
TREES(tree_ensemble, "TreeEnsemble", 5, 1, 1);
