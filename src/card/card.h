/* The model card: what a model's file says about its labels, its input range and the meaning of its scores.
 *
 * It is read from the ONNX file's metadata_props (`xai.labels`, `xai.input.range`, ...) and from a JSON file beside the
 * model (`model.xai.json` for `model.onnx`), whose entries win. docs/model-card.md lists the keys. */
#ifndef CARD_CARD_H
#define CARD_CARD_H

#include "onnx/onnx.h"

enum {
    CARD_SCORE_UNKNOWN = 0, /* the card does not say */
    CARD_SCORE_LOGIT,       /* the activation that makes probabilities is card.activation */
    CARD_SCORE_PROBABILITY,
    CARD_SCORE_VALUE, /* neither, such as an age */
};

enum {
    CARD_ACTIVATION_UNKNOWN = 0,
    CARD_ACTIVATION_SIGMOID,
    CARD_ACTIVATION_SOFTMAX,
};

/* Immutable. Pixels become inputs as (value - mean[c]) / deviation[c], where value runs from low (black) to high (white). */
typedef struct model_card {
    char **labels;      /* one for each entry of the scores, in their order */
    size_t label_count; /* 0 = not said */
    bool has_range;
    double low, high;
    double *mean, *deviation;           /* one a channel, or one for all */
    size_t mean_count, deviation_count; /* 0 = not said */
    int64_t height, width;              /* 0 = not said */
    int64_t channels;                   /* 0 = not said */
    int score;                          /* CARD_SCORE_* */
    int activation;                     /* CARD_ACTIVATION_* */
} model_card;

/* `path` is that of the model file, or NULL for a model from memory, which has metadata only. A model without a card gives an empty
 * card. XAI_ERROR_FORMAT names the file and the key of a bad entry. */
xai_status card_load(const onnx_model *model, const char *path, model_card **out,
                     xai_error **error);
void card_free(model_card *self);

/* The path of the card beside a model: `.xai.json` in the place of `.onnx`, else behind the name. NULL when out of memory;
 * free with memory_free(). */
char *card_path(const char *model_path);

#endif
