/* Operators of the ai.onnx.ml domain on rows of features: Normalizer, Binarizer, OneHotEncoder,
 * ArrayFeatureExtractor, LabelEncoder. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ops/classifier.h"
#include "ops/families.h"
#include "ops/unary.h"

UNARY(binarizer, "Binarizer", "ai.onnx.ml", 1, 0, UNARY_READS_X, (x > alpha ? 1 : 0), (0),
      "threshold", NULL, 0.0f, 0);

/* --- Normalizer: rows divided by their largest value, the sum of magnitudes or the length --- */

enum { NORM_MAX, NORM_L1, NORM_L2 };

static xai_status norm_kind(const operator_call *call, int *out)
{
    static const char *const names[] = {"MAX", "L1", "L2"};
    const char *name;
    const xai_status status = operator_attribute_text(call, "norm", "MAX", &name);
    for (int i = 0; i < 3 && status == XAI_OK; i++) {
        *out = i;
        if (strcmp(name, names[i]) == 0)
            return XAI_OK;
    }
    return status != XAI_OK ? status
                            : operator_error(call, XAI_ERROR_UNSUPPORTED, "norm '%.40s'", name);
}

/* A row's norm; 0 gives 1, so that such a row stays as it is. */
static double norm_of(int kind, const double *x, size_t count, size_t *highest)
{
    double norm = kind == NORM_MAX ? x[0] : 0;
    *highest = 0;
    for (size_t i = 0; i < count; i++) {
        if (kind == NORM_MAX && x[i] > norm) {
            norm = x[i];
            *highest = i;
        }
        if (kind != NORM_MAX)
            norm += kind == NORM_L1 ? fabs(x[i]) : x[i] * x[i];
    }
    if (kind == NORM_L2)
        norm = sqrt(norm);
    return norm == 0 ? 1 : norm;
}

static xai_status normalizer_infer(operator_call *call)
{
    int kind;
    size_t rows, features;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = norm_kind(call, &kind);
    if (status == XAI_OK)
        status = feature_rows(call, &rows, &features);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_FLOAT); /* the import makes it float32 */
    return status == XAI_OK
               ? operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape)
               : status;
}

static xai_status normalizer_forward(operator_call *call)
{
    int kind = NORM_MAX;
    size_t rows = 0, features = 0, highest;
    double *x = NULL;
    xai_status status = norm_kind(call, &kind);
    if (status == XAI_OK)
        status = feature_rows(call, &rows, &features);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    for (size_t r = 0; r < rows && features > 0 && status == XAI_OK; r++) {
        double *row = x + r * features;
        const double norm = norm_of(kind, row, features, &highest);
        for (size_t i = 0; i < features; i++)
            row[i] /= norm;
    }
    if (status == XAI_OK)
        tensor_write_doubles(call->outputs[0], 0, rows * features, x);
    memory_free(x);
    return status;
}

/* y = x / n: gx = (g - dn/dx sum(g y)) / n, where dn/dx is sign x (L1), y (L2) or 1 at the largest
 * (MAX). */
static void normalizer_row(int kind, const double *x, size_t count, double *g)
{
    size_t highest;
    double inner = 0, sum = 0;
    const double norm = norm_of(kind, x, count, &highest);
    for (size_t i = 0; i < count; i++) {
        inner += g[i] * x[i] / norm;
        sum += fabs(x[i]);
    }
    for (size_t i = 0; i < count; i++) {
        double slope = 0;
        if (sum == 0)
            slope = 0; /* the row stays as it is */
        else if (kind == NORM_L1)
            slope = (x[i] > 0) - (x[i] < 0);
        else if (kind == NORM_L2)
            slope = x[i] / norm;
        else
            slope = i == highest;
        g[i] = (g[i] - slope * inner) / norm;
    }
}

static xai_status normalizer_backward(operator_call *call)
{
    int kind = NORM_MAX;
    size_t rows = 0, features = 0;
    double *x = NULL, *g = NULL;
    tensor *wanted = operator_wanted_gradient(call, 0);
    const tensor *given = operator_output_gradient(call, 0);
    if (!wanted || !given) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    xai_status status = norm_kind(call, &kind);
    if (status == XAI_OK)
        status = feature_rows(call, &rows, &features);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    if (status == XAI_OK)
        status = operator_read_doubles(call, given, &g);
    for (size_t r = 0; r < rows && features > 0 && status == XAI_OK; r++)
        normalizer_row(kind, x + r * features, features, g + r * features);
    if (status == XAI_OK)
        tensor_write_doubles(wanted, 0, rows * features, g);
    memory_free(x);
    memory_free(g);
    return status;
}

const operator_definition operator_normalizer = {
    .name = "Normalizer",
    .domain = "ai.onnx.ml",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 1,
    .backward_reads = OPERATOR_READS_INPUT(0),
    .infer = normalizer_infer,
    .forward = normalizer_forward,
    .backward = normalizer_backward,
};

/* --- OneHotEncoder: a last axis with one place a category --- */

static xai_status one_hot_encoder_infer(operator_call *call)
{
    const int64_t *categories;
    size_t count;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_NUMBER);
    if (status == XAI_OK)
        status = operator_attribute_ints(call, "cats_int64s", &categories, &count);
    if (status != XAI_OK)
        return status;
    if (count == 0)
        return operator_error(call, XAI_ERROR_UNSUPPORTED,
                              "no numeric categories ('cats_int64s'); categories that are texts "
                              "are not supported");
    shape y = call->inputs[0]->shape;
    if (y.rank >= SHAPE_MAX_RANK)
        return operator_error(call, XAI_ERROR_SHAPE, "the input has too many axes");
    y.dims[y.rank++] = (int64_t)count;
    return operator_set_output(call, 0, DTYPE_FLOAT, &y);
}

static xai_status one_hot_encoder_forward(operator_call *call)
{
    const int64_t *categories;
    size_t count;
    int64_t zeros;
    double *x = NULL;
    tensor *y = call->outputs[0];
    xai_status status = operator_attribute_ints(call, "cats_int64s", &categories, &count);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "zeros", 1, &zeros);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    if (status == XAI_OK)
        operator_zero(y);
    for (size_t i = 0; status == XAI_OK && i < tensor_count(call->inputs[0]); i++) {
        bool known = false;
        for (size_t c = 0; c < count && !known; c++) {
            known = trunc(x[i]) == (double)categories[c];
            if (known)
                tensor_set(y, i * count + c, 1);
        }
        if (!known && !zeros)
            status = operator_error(call, XAI_ERROR_ARGUMENT, "%g is none of the categories", x[i]);
    }
    memory_free(x);
    return status;
}

/* --- ArrayFeatureExtractor: columns of the last axis --- */

static xai_status array_feature_extractor_infer(operator_call *call)
{
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 1, TYPES_INDEX);
    if (status != XAI_OK)
        return status;
    shape y = call->inputs[0]->shape;
    if (y.rank < 1)
        return operator_error(call, XAI_ERROR_SHAPE, "the input has no axis to take columns from");
    const int64_t count = (int64_t)tensor_count(call->inputs[1]);
    if (y.rank == 1)
        y = shape_make(2, (const int64_t[]){1, count});
    y.dims[y.rank - 1] = count;
    return operator_set_output(call, 0, call->inputs[0]->dtype, &y);
}

/* Indices of the columns, checked. */
static xai_status extractor_columns(const operator_call *call, int64_t **out, size_t *count,
                                    size_t *width)
{
    const shape *x = &call->inputs[0]->shape;
    *count = tensor_count(call->inputs[1]);
    *width = (size_t)x->dims[x->rank - 1];
    const xai_status status = operator_read_ints(call, call->inputs[1], out);
    for (size_t i = 0; status == XAI_OK && i < *count; i++)
        if ((*out)[i] < 0 || (*out)[i] >= (int64_t)*width)
            return operator_error(call, XAI_ERROR_ARGUMENT, "column %lld of %zu",
                                  (long long)(*out)[i], *width);
    return status;
}

static xai_status array_feature_extractor_forward(operator_call *call)
{
    int64_t *columns = NULL;
    size_t count, width;
    const tensor *x = call->inputs[0];
    tensor *y = call->outputs[0];
    const size_t size = dtype_size(x->dtype);
    xai_status status = extractor_columns(call, &columns, &count, &width);
    if (status == XAI_OK && size == 0)
        status =
            operator_error(call, XAI_ERROR_UNSUPPORTED, "columns of type %s", dtype_name(x->dtype));
    const size_t rows = width > 0 ? tensor_count(x) / width : 0;
    for (size_t r = 0; r < rows && status == XAI_OK; r++)
        for (size_t i = 0; i < count; i++)
            memcpy((char *)y->data + (r * count + i) * size,
                   (const char *)x->data + (r * width + (size_t)columns[i]) * size, size);
    memory_free(columns);
    return status;
}

static xai_status array_feature_extractor_backward(operator_call *call)
{
    int64_t *columns = NULL;
    size_t count = 0, width = 0;
    double *g = NULL, *sum = NULL;
    tensor *wanted = operator_wanted_gradient(call, 0);
    const tensor *given = operator_output_gradient(call, 0);
    if (!wanted || !given) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    const size_t total = tensor_count(wanted);
    xai_status status = extractor_columns(call, &columns, &count, &width);
    if (status == XAI_OK)
        status = operator_read_doubles(call, given, &g);
    if (status == XAI_OK)
        status = operator_allocate(call, total, &sum);
    const size_t rows = width > 0 ? total / width : 0;
    for (size_t r = 0; r < rows && status == XAI_OK; r++)
        for (size_t i = 0; i < count; i++)
            sum[r * width + (size_t)columns[i]] += g[r * count + i];
    if (status == XAI_OK)
        tensor_write_doubles(wanted, 0, total, sum);
    memory_free(columns);
    memory_free(g);
    memory_free(sum);
    return status;
}

const operator_definition operator_array_feature_extractor = {
    .name = "ArrayFeatureExtractor",
    .domain = "ai.onnx.ml",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 1,
    .backward_reads = OPERATOR_READS_INPUT(1),
    .infer = array_feature_extractor_infer,
    .forward = array_feature_extractor_forward,
    .backward = array_feature_extractor_backward,
};

/* --- LabelEncoder: numbers for numbers --- */

/* keys_*, values_* of one of the numeric forms; NULL when there is none. */
static const onnx_attribute *encoder_list(const operator_call *call, const char *what)
{
    static const char *const forms[] = {"int64s", "floats", "tensor"};
    char name[32];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        snprintf(name, sizeof name, "%s_%s", what, forms[i]);
        const onnx_attribute *found = operator_attribute(call, name);
        if (found)
            return found;
    }
    return NULL;
}

static int32_t list_type(const onnx_attribute *list)
{
    if (list->type == ONNX_ATTRIBUTE_TENSOR)
        return list->tensor.dtype;
    return list->type == ONNX_ATTRIBUTE_INTS     ? DTYPE_INT64
           : list->type == ONNX_ATTRIBUTE_FLOATS ? DTYPE_FLOAT
                                                 : DTYPE_UNDEFINED;
}

static size_t list_count(const onnx_attribute *list)
{
    return list->type == ONNX_ATTRIBUTE_TENSOR ? tensor_count(&list->tensor) : list->count;
}

static double list_get(const onnx_attribute *list, size_t i)
{
    if (list->type == ONNX_ATTRIBUTE_TENSOR)
        return tensor_get(&list->tensor, i);
    return list->type == ONNX_ATTRIBUTE_INTS ? (double)list->ints[i] : (double)list->floats[i];
}

static xai_status encoder_lists(const operator_call *call, const onnx_attribute **keys,
                                const onnx_attribute **values)
{
    *keys = encoder_list(call, "keys");
    *values = encoder_list(call, "values");
    if (!*keys || !*values || dtype_size(list_type(*keys)) == 0 ||
        dtype_size(list_type(*values)) == 0)
        return operator_error(call, XAI_ERROR_UNSUPPORTED,
                              "only numbers can be encoded as numbers, no texts");
    if (list_count(*keys) != list_count(*values))
        return operator_error(call, XAI_ERROR_FORMAT, "%zu keys for %zu values", list_count(*keys),
                              list_count(*values));
    return XAI_OK;
}

static xai_status label_encoder_infer(operator_call *call)
{
    const onnx_attribute *keys, *values;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_NUMBER);
    if (status == XAI_OK)
        status = encoder_lists(call, &keys, &values);
    return status == XAI_OK
               ? operator_set_output(call, 0, list_type(values), &call->inputs[0]->shape)
               : status;
}

static xai_status label_encoder_forward(operator_call *call)
{
    const onnx_attribute *keys, *values, *fallback = operator_attribute(call, "default_tensor");
    double *x = NULL, otherwise = 0;
    float number = 0;
    int64_t integer = 0;
    tensor *y = call->outputs[0];
    xai_status status = encoder_lists(call, &keys, &values);
    if (status == XAI_OK && dtype_is_float(y->dtype))
        status = operator_attribute_float(call, "default_float", -0.0f, &number);
    else if (status == XAI_OK)
        status = operator_attribute_int(call, "default_int64", -1, &integer);
    otherwise = dtype_is_float(y->dtype) ? (double)number : (double)integer;
    if (fallback && fallback->type == ONNX_ATTRIBUTE_TENSOR && tensor_count(&fallback->tensor) == 1)
        otherwise = tensor_get(&fallback->tensor, 0);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    for (size_t i = 0; status == XAI_OK && i < tensor_count(y); i++) {
        double found = otherwise;
        for (size_t k = 0; k < list_count(keys); k++) {
            const double key = list_get(keys, k);
            if (key == x[i] || (isnan(key) && isnan(x[i])))
                found = list_get(values, k);
        }
        tensor_set(y, i, found);
    }
    memory_free(x);
    return status;
}

#define ENCODER(symbol, title, first_opset)         \
    const operator_definition operator_##symbol = { \
        .name = title,                              \
        .domain = "ai.onnx.ml",                     \
        .min_inputs = 1,                            \
        .max_inputs = 1,                            \
        .min_outputs = 1,                           \
        .max_outputs = 1,                           \
        .since = first_opset,                       \
        .infer = symbol##_infer,                    \
        .forward = symbol##_forward,                \
    }

ENCODER(one_hot_encoder, "OneHotEncoder", 1);
ENCODER(label_encoder, "LabelEncoder", 1);
