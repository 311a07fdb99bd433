/* The handles behind the public names, for the files of this folder.
 *
 * This folder checks arguments, counts references and converts; it computes nothing. A model is
 * shared by what was made from it: sessions and explainers each hold a reference, so that
 * handles may be freed in any order. */
#ifndef API_HANDLES_H
#define API_HANDLES_H

#include <stdatomic.h>

#include "card/card.h"
#include "explain/explanation.h"
#include "explain/gradients.h"
#include "explain/method.h"
#include "explain/subject.h"
#include "xai/xai.h"

struct xai_tensor {
    tensor value;
    bool writable;
};

struct xai_model {
    atomic_size_t references;
    onnx_model *file;
    network *net; /* owns the graph, which borrows from the file */
    model_card *card;
    char *name; /* the file's name without its folder; "" for a model from memory */
    int *layers;
    subject subject; /* borrows everything above */
};

struct xai_session_options {
    int32_t threads, mode, precision;
    size_t memory_limit;
    bool allow_nonfinite;
    xai_progress progress;
    void *progress_user;
};

/* Adapts the public callback to the engine's. */
typedef struct progress_adapter {
    xai_progress call;
    void *user;
} progress_adapter;

struct xai_session {
    xai_model *model;
    progress_adapter progress;
    evaluator engine;
};

struct xai_explainer_options {
    int32_t score, scaling;
    option_list values;
    struct xai_session_options session;
};

struct xai_explainer {
    xai_model *model;
    progress_adapter progress;
    explainer body;
};

struct xai_explanation {
    explanation *body;
    /* Views of the body's. */
    xai_tensor map, signed_map, segments, segment_values, segment_errors, interactions;
    xai_tensor *values, *standard_errors; /* one a part */
};

/* Whether a shape of four axes, -1 for free ones, is that of images (N, H, W, C): one or three
 * channels at the end, and not on axis 1. */
bool dims_are_channels_last(const int64_t *dims);

xai_status argument_missing(xai_error **error, const char *call, const char *argument);

/* Evaluator options, with `adapter` (which must stay where it is) as the user of the progress
 * callback. */
evaluator_options session_evaluator_options(const xai_session_options *options,
                                            progress_adapter *adapter);

/* Pointers to the tensors inside; free with memory_free(). NULL entries stay NULL. */
xai_status tensor_views(const xai_tensor *const *tensors, size_t count, const tensor ***out,
                        xai_error **error);

/* A handle that takes over `value` (zeroed then). */
xai_status tensor_adopt(tensor *value, xai_tensor **out, xai_error **error);

#endif
