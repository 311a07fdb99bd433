/* What is explained: a network with what its card says about the scores.
 *
 * The folder src/explain holds one file a method over three calls of the engine (plan, run,
 * rows_run). It knows graphs, plans and tensors; neither files, cards, layouts nor handles. From
 * outside it, src/api uses
 *   evaluator.h    scores, inner values and gradients of rows, with cached plans
 *   target.h       which score
 *   method.h       the table of methods, and explain
 *   explanation.h  the result. */
#ifndef EXPLAIN_SUBJECT_H
#define EXPLAIN_SUBJECT_H

#include "engine/engine.h"

/* What turns the model's outputs into probabilities, as declared on the model card. */
enum {
    SCORES_UNKNOWN = 0, /* the card does not say */
    SCORES_LOGITS,      /* logits of an activation that is not named */
    SCORES_SIGMOID,     /* logits; a sigmoid makes each a probability */
    SCORES_SOFTMAX,     /* logits; a softmax over the classes makes them probabilities */
    SCORES_PROBABILITY, /* probabilities already */
};

/* Borrowed from the model, immutable. */
typedef struct subject {
    network *net;
    const char *name;          /* for facts: the file's name, or "" */
    const char *const *labels; /* one for each entry of the first output's rows; count 0 = none */
    size_t label_count;
    int scores;        /* SCORES_* */
    const int *layers; /* value ids that can be explained, in order of computation */
    size_t layer_count;
} subject;

#endif
