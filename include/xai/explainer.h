/**
 * @file
 * Explainers: a method with its options, bound to a model.
 *
 * An explainer is used by one thread at a time and keeps its model alive. Make one and use it for
 * many inputs: what it compiles for the shape of an input it keeps.
 *
 * xai_method_name() lists the methods; docs/methods has a page for each.
 */
#ifndef XAI_EXPLAINER_H
#define XAI_EXPLAINER_H

#include <stddef.h>
#include <stdint.h>

#include "explanation.h"
#include "model.h"
#include "session.h"
#include "status.h"
#include "target.h"
#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/** @return the number of methods. @since 0.1 */
XAI_API size_t xai_method_count(void);
/**
 * @return the name of a method, such as "gradcam"; "" when out of range; static storage.
 * @since 0.1
 */
XAI_API const char *xai_method_name(size_t index);
/** @return one line on what it computes and where it comes from; static storage. @since 0.1 */
XAI_API const char *xai_method_description(size_t index);

/** An option takes a number: xai_explainer_options_set_number(). @since 0.1 */
#define XAI_OPTION_NUMBER ((int32_t)1)
/** An option takes text: xai_explainer_options_set_text(). @since 0.1 */
#define XAI_OPTION_TEXT ((int32_t)2)
/** An option takes a tensor an input: xai_explainer_options_set_tensor(). @since 0.1 */
#define XAI_OPTION_TENSOR ((int32_t)4)

/** @return the number of options of a method; 0 for an unknown method. @since 0.1 */
XAI_API size_t xai_method_option_count(const char *method);
/** @return the name of an option, such as "samples"; "" when out of range; static. @since 0.1 */
XAI_API const char *xai_method_option_name(const char *method, size_t index);
/** @return its default as text, such as "50"; "" when out of range; static. @since 0.1 */
XAI_API const char *xai_method_option_default(const char *method, size_t index);
/** @return one line on what it does; "" when out of range; static. @since 0.1 */
XAI_API const char *xai_method_option_description(const char *method, size_t index);
/** @return the XAI_OPTION_* kinds that it takes, added; 0 when out of range. @since 0.1 */
XAI_API int32_t xai_method_option_kinds(const char *method, size_t index);

/** Divide a map by its maximum, so that 0 keeps its meaning: no positive evidence. @since 0.1 */
#define XAI_SCALING_MAX ((int32_t)0)
/**
 * Subtract the minimum of the cut map and divide by 1e-7 + the maximum, as pytorch-grad-cam does.
 * @since 0.1
 */
#define XAI_SCALING_MIN_MAX ((int32_t)1)

/** What a method shall do. Not shared between threads while it is being set. @since 0.1 */
typedef struct xai_explainer_options xai_explainer_options;

/**
 * Make options with the defaults: the default layer, raw scores, XAI_SCALING_MAX, the default
 * session options.
 * @param out  set on success only; free with xai_explainer_options_free()
 * @return XAI_OK or XAI_ERROR_MEMORY
 * @since 0.1
 */
XAI_API xai_status xai_explainer_options_create(xai_explainer_options **out, xai_error **error);

/**
 * An option of the method, by name: which there are, with defaults, xai_method_option_name() lists
 * and docs/methods describes. Names and values are checked by xai_explainer_create(), which knows
 * the method. Setting an option again replaces its value. A count of 0 ("samples", "steps", "window",
 * "cells", ...) is the default, whatever the method.
 *
 * @param name   such as "samples", "steps", "seed", "noise", "tolerance" or "baseline"; copied
 * @return XAI_OK; XAI_ERROR_ARGUMENT; XAI_ERROR_MEMORY
 * @since 0.1
 */
XAI_API xai_status xai_explainer_options_set_number(xai_explainer_options *options,
                                                    const char *name, double value,
                                                    xai_error **error);
/**
 * The same for an option that takes text: "baseline" ("mean", "blur"), "segments" ("slic:50").
 * @param value  copied; NULL = back to the default
 * @return as xai_explainer_options_set_number()
 * @since 0.1
 */
XAI_API xai_status xai_explainer_options_set_text(xai_explainer_options *options, const char *name,
                                                  const char *value, xai_error **error);
/**
 * The same for an option that takes tensors: "background" (B, ...), "baseline" (1, ...), (N, ...) or
 * a scalar, "segments" (H, W) or (N, H, W) of integers, for tokens (L) or (N, L). An integer input
 * (token ids) takes integers, and is masked where it has a baseline or a background of its own.
 * @param input  the position of the input of the model that it belongs to; 0 for "segments"
 * @param value  copied
 * @return as xai_explainer_options_set_number()
 * @since 0.1
 */
XAI_API xai_status xai_explainer_options_set_tensor(xai_explainer_options *options,
                                                    const char *name, size_t input,
                                                    const xai_tensor *value, xai_error **error);

/**
 * The layer to explain, for the methods that explain one: xai_explainer_options_set_text() with
 * "layer".
 * @param layer  the name of an ONNX value or node, or the index of a layer (xai_model_layer_name())
 *               as text; copied; NULL = the default layer of the model. An unknown name is found by
 *               xai_explainer_create()
 * @return XAI_OK; XAI_ERROR_ARGUMENT; XAI_ERROR_MEMORY
 * @since 0.1
 */
XAI_API xai_status xai_explainer_options_set_layer(xai_explainer_options *options,
                                                   const char *layer, xai_error **error);

/** @param score  XAI_SCORE_RAW, XAI_SCORE_LOGIT or XAI_SCORE_PROBABILITY. @since 0.1 */
XAI_API xai_status xai_explainer_options_set_score(xai_explainer_options *options, int32_t score,
                                                   xai_error **error);

/** @param scaling  XAI_SCALING_MAX or XAI_SCALING_MIN_MAX. @since 0.1 */
XAI_API xai_status xai_explainer_options_set_scaling(xai_explainer_options *options,
                                                     int32_t scaling, xai_error **error);

/**
 * @param session  threads, mode, precision, memory limit and progress; copied; NULL = the defaults.
 * @since 0.1
 */
XAI_API xai_status xai_explainer_options_set_session(xai_explainer_options *options,
                                                     const xai_session_options *session,
                                                     xai_error **error);

/** Free options; NULL is fine. Explainers made with them keep a copy. @since 0.1 */
XAI_API void xai_explainer_options_free(xai_explainer_options *options);

/** A method bound to a model. @since 0.1 */
typedef struct xai_explainer xai_explainer;

/**
 * Make an explainer.
 *
 * @param method   a name of xai_method_name()
 * @param options  copied; NULL = the defaults
 * @param out      set on success only; free with xai_explainer_free()
 * @param error    optional; set on failure, free with xai_error_free()
 * @return XAI_OK; XAI_ERROR_ARGUMENT; XAI_ERROR_ARGUMENT also for an option that the method does
 *         not have (the message lists those it has) or a value out of range; XAI_ERROR_NOT_FOUND for
 *         an unknown method or layer (the message lists near ones); XAI_ERROR_MEMORY. Whether the layer and the score kind suit the
 *         model is known when the shape of an input is: xai_explainer_explain() tells
 * @since 0.1
 */
XAI_API xai_status xai_explainer_create(xai_model *model, const char *method,
                                        const xai_explainer_options *options, xai_explainer **out,
                                        xai_error **error);

/** Free an explainer; NULL is fine. Its explanations live on. @since 0.1 */
XAI_API void xai_explainer_free(xai_explainer *explainer);

/**
 * Explain the input of a model that has one input.
 *
 * `input` is (N, C, H, W) float32 (or what the model takes) in the range the model was trained on.
 * Rows are explained independently: explaining them one at a time gives the same bits.
 *
 * @param explainer  not shared between threads during the call
 * @param input      read only, may be freed after the call
 * @param target     which score to explain; NULL = the highest score of each row
 * @param out        set on success only; free with xai_explanation_free()
 * @param error      optional; set on failure, free with xai_error_free()
 * @return XAI_OK; XAI_ERROR_ARGUMENT; XAI_ERROR_SHAPE if `input` does not fit the model, or the
 *         target has another number of choices than 1 or N; XAI_ERROR_NOT_FOUND for an unknown
 *         label, index or output; XAI_ERROR_NUMERIC for a NaN or infinity in the input, the scores,
 *         the layer or its gradient (the message says which); XAI_ERROR_UNSUPPORTED when the model
 *         has no default layer, the layer has no gradient or no spatial axes, or the score kind is
 *         not to be had; XAI_ERROR_CANCELLED; XAI_ERROR_MEMORY (also when the memory limit is
 *         reached)
 * @since 0.1
 */
XAI_API xai_status xai_explainer_explain(xai_explainer *explainer, const xai_tensor *input,
                                         const xai_target *target, xai_explanation **out,
                                         xai_error **error);

/**
 * Explain several targets of the same input in one call: the forward pass is made once a row. Also
 * the call for models with several inputs.
 *
 * @param inputs        one tensor (N, ...) an input of the model, in its order; the map has the
 *                      resolution of the first input that has spatial axes
 * @param input_count   must be xai_model_input_count()
 * @param targets       `target_count` targets; a NULL entry = the highest score of each row
 * @param target_count  1 or more
 * @param out           `target_count` explanations, one a target, with the bits that
 *                      xai_explainer_explain() gives; set on success only; free each with
 *                      xai_explanation_free()
 * @return as xai_explainer_explain()
 * @since 0.1
 */
XAI_API xai_status xai_explainer_explain_targets(xai_explainer *explainer,
                                                 const xai_tensor *const *inputs,
                                                 size_t input_count,
                                                 const xai_target *const *targets,
                                                 size_t target_count, xai_explanation **out,
                                                 xai_error **error);

#ifdef __cplusplus
}
#endif

#endif
