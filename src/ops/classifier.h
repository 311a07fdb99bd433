/* What the models of the ai.onnx.ml domain share: rows of features, class labels, and the
 * transform behind the scores. Private to this folder. */
#ifndef OPS_CLASSIFIER_H
#define OPS_CLASSIFIER_H

#include "ops/support.h"

/* The classes of a classifier: numbers, or texts (then `numbers` is NULL). */
typedef struct class_labels {
    size_t count;
    const int64_t *numbers;
    const char *const *texts;
} class_labels;

/* From the attribute of numbers by that name, or 'classlabels_strings'; exactly one of them. */
xai_status class_labels_read(const operator_call *call, const char *numbers, class_labels *out);

/* Type and shape of the label output 0: (N) int64 or string. */
xai_status class_labels_infer(const operator_call *call, const class_labels *labels,
                              const shape *input);

/* Input 0 as rows: (N, F), or (F) for one row; numbers of any type. */
xai_status feature_rows(const operator_call *call, size_t *rows, size_t *features);
/* The same, and scores of `columns` values a row as output i: float32. */
xai_status scores_infer(const operator_call *call, int i, size_t columns);

/* The attribute 'post_transform', checked: "NONE", "LOGISTIC", "SOFTMAX" or "SOFTMAX_ZERO". */
xai_status class_transform_read(const operator_call *call, const char **out);
/* Apply it to one row. */
void class_transform(const char *name, double *scores, size_t count);

#endif
