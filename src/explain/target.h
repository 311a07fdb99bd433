/* Targets: which score of a row is explained. */
#ifndef EXPLAIN_TARGET_H
#define EXPLAIN_TARGET_H

#include "explain/subject.h"
#include "xai/target.h"

typedef enum choice_kind {
    CHOICE_HIGHEST,
    CHOICE_INDEX,
    CHOICE_LABEL,
    CHOICE_ELEMENT,
    CHOICE_REGION
} choice_kind;

typedef struct choice {
    choice_kind kind;
    int64_t index;
    char *label; /* owned */
    size_t rank;
    int64_t begin[SHAPE_MAX_RANK], end[SHAPE_MAX_RANK];
} choice;

struct xai_target {
    char *output;    /* owned; NULL = the default */
    choice *choices; /* none = the highest score of each row */
    size_t count, capacity;
};

/* What a choice means for the output of a certain shape: a box of elements. */
typedef struct selection {
    int rank; /* axes of a row of the output */
    int64_t begin[SHAPE_MAX_RANK], end[SHAPE_MAX_RANK];
    int64_t index; /* row-major within the row; -1 when the box has several elements */
    bool list;     /* the row is a list of scores (at most one axis is longer than 1), not a map */
} selection;

/* The output of scores that a target without an output means, and that labels belong to: the first
 * of a float type (classifiers give the class first). */
int target_default_output(const graph *source);
/* Position of the target's output in the graph's outputs; `self` NULL = the default. */
xai_status target_output(const xai_target *self, const graph *source, int *out, xai_error **error);

/* XAI_ERROR_SHAPE unless the target has 0, 1 or `rows` choices. */
xai_status target_check_rows(const xai_target *self, size_t rows, xai_error **error);

/* The choice for `row` within one row of the output. `scores` are that row's elements; NULL
 * checks everything but finds no highest (then out->index is -1 and the box empty). `output` is
 * the position of the output: labels belong to the default one. */
xai_status target_resolve(const xai_target *self, const subject *of, int output, size_t row,
                          const shape *row_shape, const double *scores, selection *out,
                          xai_error **error);

/* Label of a selection, or its index, element or region as text: "Effusion", "3", "(1, 4, 5)",
 * "[0:1, 2:5]". NULL when out of memory; free with memory_free(). */
char *selection_label(const selection *self, const subject *of, int output);

#endif
