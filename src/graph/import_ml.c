/* Models of the ai.onnx.ml domain, taken apart into ordinary operators where there are such: then
 * scores before and after their activation, gradients and every rule of the backward pass work as
 * in any other network.
 *
 *     Scaler            (x - offset) * scale
 *     Imputer           Where(x is the replaced value, imputed, x)
 *     LinearRegressor   Gemm, and the transform behind it
 *     LinearClassifier  Gemm, [1 - s, s] for one score of two classes, and the transform
 *     TreeEnsemble...   the transform LOGISTIC or SOFTMAX behind the sums becomes Sigmoid or Softmax
 *     Normalizer        of the output of a Softmax: nothing
 *     FeatureVectorizer Concat
 *     ZipMap            the tensor that it would put into maps */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "graph/import_ml.h"

/* Of the ordinary operators that are put in. */
enum { PUT_OPSET = 13 };

#define ML_LOWERED(title, most)                                                     \
    {                                                                               \
        .name = title, .domain = "ai.onnx.ml", .min_inputs = 1, .max_inputs = most, \
        .min_outputs = 1, .max_outputs = 1, .since = 1                              \
    }

/* Operators that exist only here. */
static const operator_definition lowered[] = {
    ML_LOWERED("Scaler", 1),
    ML_LOWERED("Imputer", 1),
    ML_LOWERED("LinearRegressor", 1),
    ML_LOWERED("ZipMap", 1),
    ML_LOWERED("FeatureVectorizer", OPERATOR_VARIADIC),
};

const operator_definition *import_ml_find(const char *domain, const char *name)
{
    for (size_t i = 0; strcmp(domain, "ai.onnx.ml") == 0 && i < sizeof lowered / sizeof *lowered;
         i++)
        if (strcmp(lowered[i].name, name) == 0)
            return &lowered[i];
    return NULL;
}

/* One node of the file on its way into the graph. */
typedef struct lowering {
    graph *graph;
    const ml_node *node;
    xai_error **error;
    int made; /* new values so far, for their names */
} lowering;

static xai_status out_of_memory(const lowering *self)
{
    return error_memory(self->error, "the graph", 0);
}

static xai_status refuse(const lowering *self, const char *what)
{
    return error_set(self->error, XAI_ERROR_FORMAT, self->node->place, "%s", what);
}

static const onnx_attribute *find_attribute(const lowering *self, const char *name)
{
    for (size_t i = 0; i < self->node->attribute_count; i++)
        if (strcmp(self->node->attributes[i].name, name) == 0)
            return &self->node->attributes[i];
    return NULL;
}

static const char *text_of(const lowering *self, const char *name, const char *fallback)
{
    const onnx_attribute *found = find_attribute(self, name);
    return found && found->type == ONNX_ATTRIBUTE_STRING && found->s ? found->s : fallback;
}

static int64_t int_of(const lowering *self, const char *name, int64_t fallback)
{
    const onnx_attribute *found = find_attribute(self, name);
    return found && found->type == ONNX_ATTRIBUTE_INT ? found->i : fallback;
}

/* NULL when absent or of another type. */
static const onnx_attribute *floats_of(const lowering *self, const char *name)
{
    const onnx_attribute *found = find_attribute(self, name);
    return found && found->type == ONNX_ATTRIBUTE_FLOATS && found->count > 0 ? found : NULL;
}

static const char *new_name(lowering *self)
{
    text name = {0};
    text_format(&name, "xai:%s:ml%d", self->node->name, self->made++);
    const char *copy = name.bytes && !name.failed
                           ? memory_pool_text(self->graph->pool, name.bytes, name.length)
                           : NULL;
    text_free(&name);
    return copy;
}

static int new_value(lowering *self)
{
    const char *name = new_name(self);
    return name ? graph_add_value(self->graph, name, DTYPE_UNDEFINED, NULL) : GRAPH_NONE;
}

static int new_constant(lowering *self, int32_t dtype, int rank, const int64_t *dims,
                        const void *values)
{
    tensor constant = {.dtype = dtype, .shape = shape_make(rank, dims)};
    size_t count;
    const char *name = new_name(self);
    if (!name || !shape_count(&constant.shape, &count))
        return GRAPH_NONE;
    constant.data = memory_pool_allocate(self->graph->pool, count ? count : 1, dtype_size(dtype));
    if (!constant.data)
        return GRAPH_NONE;
    if (count > 0)
        memcpy(constant.data, values, count * dtype_size(dtype));
    return graph_add_constant(self->graph, name, &constant);
}

/* An ordinary operator from `inputs` to `output`; GRAPH_NONE as output makes a new value. */
static xai_status put(lowering *self, const char *op, const int *inputs, int count,
                      const onnx_attribute *attributes, size_t attribute_count, int *output)
{
    if (*output == GRAPH_NONE)
        *output = new_value(self);
    for (int i = 0; i < count; i++)
        if (inputs[i] == GRAPH_NONE)
            return out_of_memory(self);
    const char *place = graph_place_text(self->graph, "", op, self->node->name);
    if (*output == GRAPH_NONE || !place ||
        graph_append_node(self->graph, operator_find("", op), self->node->name, place, inputs,
                          count, output, 1, attributes, attribute_count, PUT_OPSET) < 0)
        return out_of_memory(self);
    return XAI_OK;
}

/* An input of the node as float32. */
static xai_status float_input(lowering *self, size_t i, int *out)
{
    static const onnx_attribute to_float = {
        .name = "to", .type = ONNX_ATTRIBUTE_INT, .i = DTYPE_FLOAT};
    *out = self->node->inputs[i];
    if (self->graph->values[*out].dtype == DTYPE_FLOAT)
        return XAI_OK;
    const int from = *out;
    *out = GRAPH_NONE;
    return put(self, "Cast", &from, 1, &to_float, 1, out);
}

/* --- Scaler, Imputer --- */

static xai_status lower_scaler(lowering *self)
{
    const onnx_attribute *offset = floats_of(self, "offset"), *scale = floats_of(self, "scale");
    static const float none = 0, one = 1;
    int x, shifted = GRAPH_NONE, output = self->node->outputs[0];
    xai_status status = float_input(self, 0, &x);
    if (status != XAI_OK)
        return status;
    const int64_t offsets = offset ? (int64_t)offset->count : 1;
    const int64_t scales = scale ? (int64_t)scale->count : 1;
    const int minus = new_constant(self, DTYPE_FLOAT, 1, &offsets, offset ? offset->floats : &none);
    status = put(self, "Sub", (const int[]){x, minus}, 2, NULL, 0, &shifted);
    const int times = new_constant(self, DTYPE_FLOAT, 1, &scales, scale ? scale->floats : &one);
    if (status == XAI_OK)
        status = put(self, "Mul", (const int[]){shifted, times}, 2, NULL, 0, &output);
    return status;
}

static xai_status lower_imputer(lowering *self)
{
    const onnx_attribute *floats = floats_of(self, "imputed_value_floats");
    const onnx_attribute *ints = find_attribute(self, "imputed_value_int64s");
    const onnx_attribute *replaced = find_attribute(self, "replaced_value_float");
    const int x = self->node->inputs[0];
    int missing = GRAPH_NONE, values = GRAPH_NONE, output = self->node->outputs[0];
    xai_status status;
    if (floats) {
        const int64_t count = (int64_t)floats->count;
        const float value = replaced && replaced->type == ONNX_ATTRIBUTE_FLOAT ? replaced->f : 0.0f;
        values = new_constant(self, DTYPE_FLOAT, 1, &count, floats->floats);
        if (isnan(value)) {
            status = put(self, "IsNaN", &x, 1, NULL, 0, &missing);
        } else {
            const int wanted = new_constant(self, DTYPE_FLOAT, 0, NULL, &value);
            status = put(self, "Equal", (const int[]){x, wanted}, 2, NULL, 0, &missing);
        }
    } else if (ints && ints->type == ONNX_ATTRIBUTE_INTS && ints->count > 0) {
        const int64_t count = (int64_t)ints->count, value = int_of(self, "replaced_value_int64", 0);
        values = new_constant(self, DTYPE_INT64, 1, &count, ints->ints);
        const int wanted = new_constant(self, DTYPE_INT64, 0, NULL, &value);
        status = put(self, "Equal", (const int[]){x, wanted}, 2, NULL, 0, &missing);
    } else {
        return refuse(self, "no imputed values ('imputed_value_floats' or 'imputed_value_int64s')");
    }
    if (status == XAI_OK)
        status = put(self, "Where", (const int[]){missing, values, x}, 3, NULL, 0, &output);
    return status;
}

/* --- FeatureVectorizer --- */

static xai_status lower_vectorizer(lowering *self)
{
    static const onnx_attribute columns = {.name = "axis", .type = ONNX_ATTRIBUTE_INT, .i = 1};
    const size_t count = self->node->input_count;
    int *inputs = memory_pool_allocate(self->graph->pool, count, sizeof *inputs);
    int output = self->node->outputs[0];
    xai_status status = inputs ? XAI_OK : out_of_memory(self);
    for (size_t i = 0; i < count && status == XAI_OK; i++)
        status = float_input(self, i, &inputs[i]);
    return status == XAI_OK ? put(self, "Concat", inputs, (int)count, &columns, 1, &output)
                            : status;
}

/* --- transforms --- */

/* The ordinary operator of a transform; NULL when there is none for it. */
static const char *activation_of(const char *transform)
{
    if (strcmp(transform, "LOGISTIC") == 0)
        return "Sigmoid";
    return strcmp(transform, "SOFTMAX") == 0 ? "Softmax" : NULL;
}

static xai_status refuse_transform(const lowering *self, const char *transform)
{
    return error_set(self->error, XAI_ERROR_UNSUPPORTED, self->node->place,
                     "post_transform '%.40s' is not supported (NONE, LOGISTIC and SOFTMAX are)",
                     transform);
}

/* --- linear models --- */

/* scores = x coefficients^T + intercepts, (N, targets), into `output`. */
static xai_status put_linear(lowering *self, int64_t targets, int *output)
{
    static const onnx_attribute transposed = {.name = "transB", .type = ONNX_ATTRIBUTE_INT, .i = 1};
    const onnx_attribute *weights = floats_of(self, "coefficients");
    const onnx_attribute *shifts = floats_of(self, "intercepts");
    int inputs[3] = {GRAPH_NONE, GRAPH_NONE, GRAPH_NONE};
    if (!weights || targets < 1 || weights->count % (size_t)targets != 0)
        return refuse(self, "the coefficients do not fit the number of targets");
    if (shifts && shifts->count != (size_t)targets)
        return refuse(self, "the intercepts do not fit the number of targets");
    const xai_status status = float_input(self, 0, &inputs[0]);
    if (status != XAI_OK)
        return status;
    const int64_t dims[2] = {targets, (int64_t)weights->count / targets};
    inputs[1] = new_constant(self, DTYPE_FLOAT, 2, dims, weights->floats);
    if (shifts)
        inputs[2] = new_constant(self, DTYPE_FLOAT, 1, &targets, shifts->floats);
    return put(self, "Gemm", inputs, shifts ? 3 : 2, &transposed, 1, output);
}

static xai_status lower_linear_regressor(lowering *self)
{
    const char *transform = text_of(self, "post_transform", "NONE");
    const char *activation = activation_of(transform);
    int output = self->node->outputs[0], scores = activation ? GRAPH_NONE : output;
    if (!activation && strcmp(transform, "NONE") != 0)
        return refuse_transform(self, transform);
    const xai_status status = put_linear(self, int_of(self, "targets", 1), &scores);
    if (status != XAI_OK || !activation)
        return status;
    return put(self, activation, &scores, 1, NULL, 0, &output);
}

static size_t label_count(const lowering *self, const char *ints)
{
    const onnx_attribute *numbers = find_attribute(self, ints);
    const onnx_attribute *texts = find_attribute(self, "classlabels_strings");
    const size_t count = numbers && numbers->type == ONNX_ATTRIBUTE_INTS ? numbers->count : 0;
    return count == 0 && texts && texts->type == ONNX_ATTRIBUTE_STRINGS ? texts->count : count;
}

/* [1 - s, s] = s * [-1, 1] + [1, 0] of the one score (N, 1) of two classes. */
static xai_status put_complement(lowering *self, int score, int *output)
{
    static const float signs[2] = {-1, 1}, shifts[2] = {1, 0};
    const int64_t two = 2;
    int product = GRAPH_NONE;
    const int times = new_constant(self, DTYPE_FLOAT, 1, &two, signs);
    const xai_status status = put(self, "Mul", (const int[]){score, times}, 2, NULL, 0, &product);
    const int plus = new_constant(self, DTYPE_FLOAT, 1, &two, shifts);
    return status == XAI_OK ? put(self, "Add", (const int[]){product, plus}, 2, NULL, 0, output)
                            : status;
}

/* The operator as it is, for the label alone. */
static xai_status put_label(lowering *self)
{
    const ml_node *node = self->node;
    if (node->output_count < 1 || node->outputs[0] == GRAPH_NONE)
        return XAI_OK;
    if (graph_append_node(self->graph, node->definition, node->name, node->place, node->inputs, 1,
                          node->outputs, 1, node->attributes, node->attribute_count,
                          node->opset) < 0)
        return out_of_memory(self);
    return XAI_OK;
}

static xai_status lower_linear_classifier(lowering *self)
{
    const ml_node *node = self->node;
    const char *transform = text_of(self, "post_transform", "NONE");
    const char *activation = activation_of(transform);
    const onnx_attribute *shifts = floats_of(self, "intercepts");
    const size_t labels = label_count(self, "classlabels_ints");
    const int64_t targets = shifts ? (int64_t)shifts->count : labels > 2 ? (int64_t)labels : 1;
    int output = node->output_count > 1 ? node->outputs[1] : GRAPH_NONE, scores = GRAPH_NONE;
    if (!activation && strcmp(transform, "NONE") != 0)
        return refuse_transform(self, transform);
    const xai_status status = put_label(self);
    if (status != XAI_OK || output == GRAPH_NONE)
        return status;
    if (targets == 1 && labels == 2) { /* probabilities by definition, whatever the transform */
        const xai_status made = put_linear(self, targets, &scores);
        return made == XAI_OK ? put_complement(self, scores, &output) : made;
    }
    if (!activation)
        return put_linear(self, targets, &output);
    const xai_status made = put_linear(self, targets, &scores);
    return made == XAI_OK ? put(self, activation, &scores, 1, NULL, 0, &output) : made;
}

/* --- trees --- */

/* Two classes whose leaves name one class with weights of one sign: the operator makes [1 - s, s]
 * and no transform. */
static bool gives_complement(const lowering *self)
{
    const onnx_attribute *ids = find_attribute(self, "class_ids");
    const onnx_attribute *weights = find_attribute(self, "class_weights");
    const onnx_attribute *numbers = find_attribute(self, "class_weights_as_tensor");
    if (label_count(self, "classlabels_int64s") != 2 || !ids || ids->type != ONNX_ATTRIBUTE_INTS)
        return false;
    for (size_t i = 0; i < ids->count; i++)
        if (ids->ints[i] != ids->ints[0])
            return false;
    for (size_t i = 0; weights && weights->type == ONNX_ATTRIBUTE_FLOATS && i < weights->count; i++)
        if (!(weights->floats[i] >= 0))
            return false;
    if (numbers && numbers->type == ONNX_ATTRIBUTE_TENSOR && dtype_size(numbers->tensor.dtype) > 0)
        for (size_t i = 0; i < tensor_count(&numbers->tensor); i++)
            if (!(tensor_get(&numbers->tensor, i) >= 0))
                return false;
    return true;
}

/* The attributes with post_transform NONE, in the graph's pool. */
static onnx_attribute *without_transform(lowering *self)
{
    const ml_node *node = self->node;
    onnx_attribute *copy =
        memory_pool_allocate(self->graph->pool, node->attribute_count, sizeof *copy);
    for (size_t i = 0; copy && i < node->attribute_count; i++) {
        copy[i] = node->attributes[i];
        if (strcmp(copy[i].name, "post_transform") == 0)
            copy[i] = (onnx_attribute){
                .name = "post_transform", .type = ONNX_ATTRIBUTE_STRING, .s = "NONE"};
    }
    return copy;
}

static xai_status lower_trees(lowering *self, bool *done)
{
    const ml_node *node = self->node;
    const bool classifier = strcmp(node->definition->name, "TreeEnsembleClassifier") == 0;
    const onnx_attribute *number = find_attribute(self, "post_transform");
    static const char *const numbered[] = {"NONE", "SOFTMAX", "LOGISTIC"};
    const char *transform = text_of(self, "post_transform", "NONE");
    if (number && number->type == ONNX_ATTRIBUTE_INT && number->i >= 0 && number->i < 3)
        transform = numbered[number->i];
    const char *activation = activation_of(transform);
    const size_t position = classifier ? 1 : 0;
    *done = false;
    if (!activation || node->output_count <= position || node->outputs[position] == GRAPH_NONE ||
        (classifier && gives_complement(self)))
        return XAI_OK;
    *done = true;
    onnx_attribute *attributes = without_transform(self);
    int scores = new_value(self), output = node->outputs[position];
    if (!attributes || scores == GRAPH_NONE)
        return out_of_memory(self);
    const int outputs[2] = {classifier ? node->outputs[0] : scores, scores};
    if (graph_append_node(self->graph, node->definition, node->name, node->place, node->inputs, 1,
                          outputs, classifier ? 2 : 1, attributes, node->attribute_count,
                          node->opset) < 0)
        return out_of_memory(self);
    return put(self, activation, &scores, 1, NULL, 0, &output);
}

/* --- Normalizer --- */

/* The value comes out of the Softmax of a classifier: its entries are positive and sum to 1. */
static bool sums_to_one(const lowering *self, int value)
{
    for (size_t i = 0; i < self->graph->node_count; i++) {
        const graph_node *node = &self->graph->nodes[i];
        if (node->output_count == 1 && node->outputs[0] == value)
            return strcmp(node->definition->name, "Softmax") == 0;
    }
    return false;
}

static xai_status lower_normalizer(lowering *self)
{
    const ml_node *node = self->node;
    int x, output = node->outputs[0];
    if (strcmp(text_of(self, "norm", "MAX"), "L1") == 0 && sums_to_one(self, node->inputs[0]))
        return put(self, "Identity", node->inputs, 1, NULL, 0, &output);
    const xai_status status = float_input(self, 0, &x);
    if (status != XAI_OK)
        return status;
    if (graph_append_node(self->graph, node->definition, node->name, node->place, &x, 1, &output, 1,
                          node->attributes, node->attribute_count, node->opset) < 0)
        return out_of_memory(self);
    return XAI_OK;
}

xai_status import_ml(graph *to, const ml_node *node, bool *done, xai_error **error)
{
    lowering self = {.graph = to, .node = node, .error = error};
    const char *name = node->definition->name;
    int output = node->output_count > 0 ? node->outputs[0] : GRAPH_NONE;
    *done = true;
    if (strcmp(node->definition->domain, "ai.onnx.ml") == 0) {
        if (strcmp(name, "Scaler") == 0)
            return lower_scaler(&self);
        if (strcmp(name, "Imputer") == 0)
            return lower_imputer(&self);
        if (strcmp(name, "FeatureVectorizer") == 0)
            return lower_vectorizer(&self);
        if (strcmp(name, "LinearRegressor") == 0)
            return lower_linear_regressor(&self);
        if (strcmp(name, "LinearClassifier") == 0)
            return lower_linear_classifier(&self);
        if (strncmp(name, "TreeEnsemble", 12) == 0)
            return lower_trees(&self, done);
        if (strcmp(name, "Normalizer") == 0)
            return lower_normalizer(&self);
        if (strcmp(name, "ZipMap") == 0)
            return put(&self, "Identity", node->inputs, 1, NULL, 0, &output);
    }
    *done = false;
    return XAI_OK;
}
