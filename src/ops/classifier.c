#include "ops/classifier.h"

#include <math.h>
#include <string.h>

xai_status class_labels_read(const operator_call *call, const char *numbers, class_labels *out)
{
    const onnx_attribute *ints = operator_attribute(call, numbers);
    const onnx_attribute *texts = operator_attribute(call, "classlabels_strings");
    *out = (class_labels){0};
    if ((ints && ints->type != ONNX_ATTRIBUTE_INTS) ||
        (texts && texts->type != ONNX_ATTRIBUTE_STRINGS))
        return operator_error(call, XAI_ERROR_FORMAT, "the class labels are no list");
    if (ints && ints->count > 0)
        *out = (class_labels){.count = ints->count, .numbers = ints->ints};
    if (texts && texts->count > 0) {
        if (out->count > 0)
            return operator_error(call, XAI_ERROR_FORMAT,
                                  "class labels are given twice, as numbers and as texts");
        *out = (class_labels){.count = texts->count, .texts = texts->strings};
    }
    if (out->count == 0)
        return operator_error(call, XAI_ERROR_FORMAT, "no class labels ('%s')", numbers);
    return XAI_OK;
}

xai_status feature_rows(const operator_call *call, size_t *rows, size_t *features)
{
    char text[SHAPE_TEXT_SIZE];
    const shape *x = &call->inputs[0]->shape;
    const xai_status status = operator_check_type(call, 0, TYPES_NUMBER | TYPES_BOOL);
    *rows = *features = 0;
    if (status == XAI_OK && x->rank != 1 && x->rank != 2)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "input of shape %s where rows of features (N, F) are needed",
                              shape_text(x, text));
    if (status == XAI_OK) {
        *rows = x->rank == 2 ? (size_t)x->dims[0] : 1;
        *features = (size_t)x->dims[x->rank - 1];
    }
    return status;
}

xai_status scores_infer(const operator_call *call, int i, size_t columns)
{
    size_t rows = 0, features;
    const xai_status status = feature_rows(call, &rows, &features);
    const shape y = shape_make(2, (const int64_t[]){(int64_t)rows, (int64_t)columns});
    return status == XAI_OK ? operator_set_output(call, i, DTYPE_FLOAT, &y) : status;
}

xai_status class_labels_infer(const operator_call *call, const class_labels *labels,
                              const shape *input)
{
    const shape y = shape_make(1, (const int64_t[]){input->rank == 2 ? input->dims[0] : 1});
    return operator_set_output(call, 0, labels->numbers ? DTYPE_INT64 : DTYPE_STRING, &y);
}

xai_status class_transform_read(const operator_call *call, const char **out)
{
    static const char *const names[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"};
    const onnx_attribute *found = operator_attribute(call, "post_transform");
    const char *name = "NONE";
    *out = names[0];
    if (!found)
        return XAI_OK;
    if (found->type == ONNX_ATTRIBUTE_INT) /* TreeEnsemble numbers them in this order */
        name = found->i >= 0 && found->i < 4 ? names[found->i] : "PROBIT";
    else if (found->type == ONNX_ATTRIBUTE_STRING && found->s)
        name = found->s;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *out = names[i];
        if (strcmp(name, names[i]) == 0)
            return XAI_OK;
    }
    return operator_error(call, XAI_ERROR_UNSUPPORTED,
                          "post_transform '%.40s' is not supported (NONE, LOGISTIC, SOFTMAX and "
                          "SOFTMAX_ZERO are)",
                          name);
}

void class_transform(const char *name, double *scores, size_t count)
{
    const double nothing = 1e-7; /* SOFTMAX_ZERO leaves scores as small as this at 0 */
    double highest = -INFINITY, total = 0;
    if (strcmp(name, "LOGISTIC") == 0)
        for (size_t i = 0; i < count; i++)
            scores[i] = 1 / (1 + exp(-scores[i]));
    if (strncmp(name, "SOFTMAX", 7) != 0)
        return;
    const bool zeros = name[7] != '\0';
    for (size_t i = 0; i < count; i++)
        highest = scores[i] > highest ? scores[i] : highest;
    for (size_t i = 0; i < count; i++) {
        scores[i] = zeros && fabs(scores[i]) <= nothing ? 0 : exp(scores[i] - highest);
        total += scores[i];
    }
    for (size_t i = 0; i < count && total > 0; i++)
        scores[i] /= total;
}
