/* Options of the methods: which there are (one table a method), and which were set.
 *
 * A method lists its options in a table that ends with a name of NULL; explainer_init() checks
 * every option that was set against it, so that a method reads them without checks of its own. */
#ifndef EXPLAIN_OPTIONS_H
#define EXPLAIN_OPTIONS_H

#include "tensor/tensor.h"

/* What a value may be: bits. */
enum { OPTION_NUMBER = 1, OPTION_TEXT = 2, OPTION_TENSOR = 4 };

typedef struct option_definition {
    const char *name;
    int kinds;     /* OPTION_* */
    double number; /* the default of a number */
    double lowest, highest;
    bool whole;       /* the number must be an integer; 0 below `lowest` stands for the default */
    const char *text; /* the default as text, for the user: "50", "0", "none" */
    /* Texts that are taken, separated by '|'; one that ends in ':' takes anything behind it. NULL =
     * any text. */
    const char *choices;
    const char *description; /* one line */
} option_definition;

/* Options that several methods share; the default is the method's. */
#define OPTION_SAMPLES_FROM(least, value)                                                       \
    {                                                                                           \
        .name = "samples", .kinds = OPTION_NUMBER, .number = (value), .lowest = (least),        \
        .highest = 1e9, .whole = true, .text = #value, .description = "number of samples a row" \
    }
#define OPTION_SAMPLES(value) OPTION_SAMPLES_FROM(1, value)
#define OPTION_STEPS(value)                                                                      \
    {                                                                                            \
        .name = "steps", .kinds = OPTION_NUMBER, .number = (value), .lowest = 1, .highest = 1e6, \
        .whole = true, .text = #value, .description = "points on the path from the baseline"     \
    }
#define OPTION_SEED                                                            \
    {                                                                          \
        .name = "seed", .kinds = OPTION_NUMBER, .number = 0, .lowest = 0,      \
        .highest = 9007199254740992.0, .whole = true, .text = "0",             \
        .description = "of the random numbers: the same seed, the same result" \
    }
#define OPTION_TOLERANCE(what)                                                                 \
    {                                                                                          \
        .name = "tolerance", .kinds = OPTION_NUMBER, .number = 0, .lowest = 0, .highest = 1e9, \
        .text = "0", .description = what                                                       \
    }
#define OPTION_NOISE(value, what)                                                                \
    {                                                                                            \
        .name = "noise", .kinds = OPTION_NUMBER, .number = (value), .lowest = 0, .highest = 1e9, \
        .text = #value, .description = what                                                      \
    }
#define OPTION_BASELINE                                                                        \
    {                                                                                          \
        .name = "baseline", .kinds = OPTION_NUMBER | OPTION_TEXT | OPTION_TENSOR, .number = 0, \
        .lowest = -1e30, .highest = 1e30, .text = "0", .choices = "mean|blur",                 \
        .description = "what stands for absence: a number, one row (or one a row) of every "   \
                       "input, \"mean\" (of each channel of the row) or \"blur\""              \
    }
#define OPTION_BACKGROUND                                                              \
    {                                                                                  \
        .name = "background", .kinds = OPTION_TENSOR, .text = "none",                  \
        .description = "reference rows (B, ...) of every input, instead of a baseline" \
    }
#define OPTION_SEGMENTS                                                                    \
    {                                                                                      \
        .name = "segments", .kinds = OPTION_TEXT | OPTION_TENSOR, .text = "none",          \
        .choices = "grid:|slic:|quickshift|quickshift:",                                   \
        .description = "integer labels (H, W) or (N, H, W), or grid:K, slic:N, quickshift" \
    }
#define OPTION_LAYER                                                  \
    {                                                                 \
        .name = "layer", .kinds = OPTION_TEXT, .text = "default",     \
        .description = "value, node or index of the layer to explain" \
    }

#define OPTION_OF_LAYER                                                                      \
    {                                                                                        \
        .name = "layer", .kinds = OPTION_TEXT, .text = "the input",                          \
        .description = "attribute to this layer (value, node or index) instead of the input" \
    }

const option_definition *option_find(const option_definition *table, const char *name);
size_t option_count(const option_definition *table);

/* Options that were set; the last value of a name counts. Tensors are shared by all copies. */
typedef struct shared_tensor shared_tensor;

typedef struct option_value {
    char *name;
    int kind;
    double number;
    char *text;
    shared_tensor **tensors; /* one an input; NULL entries were not given */
    size_t tensor_count;
} option_value;

typedef struct option_list {
    option_value *items;
    size_t count, capacity;
} option_list;

xai_status option_list_set_number(option_list *self, const char *name, double number,
                                  xai_error **error);
xai_status option_list_set_text(option_list *self, const char *name, const char *given,
                                xai_error **error);
/* A copy of `value` for input `input`. */
xai_status option_list_set_tensor(option_list *self, const char *name, size_t input,
                                  const tensor *value, xai_error **error);
/* Back to the default. */
void option_list_remove(option_list *self, const char *name);
xai_status option_list_copy(option_list *self, const option_list *from, xai_error **error);
void option_list_free(option_list *self);

/* Take out the zeros that stand for the default. */
void option_list_drop_zeros(option_list *self, const option_definition *table);

/* XAI_ERROR_ARGUMENT when an option is not in the method's table, or its value is not allowed. */
xai_status option_list_check(const option_list *self, const option_definition *table,
                             const char *method, xai_error **error);

/* Reading. The name must be in the method's table for the default to be found. */
const option_value *option_given(const option_list *self, const char *name); /* NULL = default */
double option_number(const option_list *self, const option_definition *table, const char *name);
/* NULL when no text was set. */
const char *option_text(const option_list *self, const char *name);
/* NULL when no tensor was set for that input. */
const tensor *option_tensor(const option_list *self, const char *name, size_t input);

#endif
