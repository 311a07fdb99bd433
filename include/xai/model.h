/**
 * @file
 * Models: an ONNX file, its inputs, outputs and layers, and its model card.
 *
 * A model is immutable and may be used by any number of threads, sessions and explainers at once.
 * They keep the model alive: it may be freed before them. Text returned here is UTF-8, belongs to
 * the model and lives as long as the caller's reference to it.
 *
 * The accessors cannot fail. An index that is out of range, like a NULL model, gives "", 0 or NULL.
 */
#ifndef XAI_MODEL_H
#define XAI_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"
#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A loaded model. @since 0.1 */
typedef struct xai_model xai_model;

/**
 * Open an ONNX model (opset 7 or newer). The file is mapped, not copied: it must not be changed
 * while the model lives. External data is looked up beneath the folder of the file. A file of the
 * same name with `.xai.json` in the place of `.onnx` is read as the model card; its entries win
 * over those in the model.
 *
 * @param path   UTF-8
 * @param out    set on success only; free with xai_model_free()
 * @param error  optional; set on failure, free with xai_error_free()
 * @return XAI_OK; XAI_ERROR_FILE; XAI_ERROR_FORMAT when the file or the card is damaged;
 *         XAI_ERROR_UNSUPPORTED for an operator, type or opset that libxai lacks (the message names
 *         the node); XAI_ERROR_SHAPE; XAI_ERROR_MEMORY
 * @since 0.1
 */
XAI_API xai_status xai_model_open(const char *path, xai_model **out, xai_error **error);

/**
 * Read a model from memory. The bytes are copied; external data is refused; the card is that of the
 * metadata inside the model.
 *
 * @param bytes  `size` bytes of an ONNX file; may be freed after the call
 * @return as xai_model_open(), without XAI_ERROR_FILE
 * @since 0.1
 */
XAI_API xai_status xai_model_parse(const void *bytes, size_t size, xai_model **out,
                                   xai_error **error);

/** Take one more reference, to be given back with xai_model_free(). @return `model`. @since 0.1 */
XAI_API xai_model *xai_model_retain(xai_model *model);

/**
 * Give back a reference; the last one (sessions and explainers hold theirs) frees the model. NULL
 * is fine.
 * @since 0.1
 */
XAI_API void xai_model_free(xai_model *model);

/** @return the number of run-time inputs. @since 0.1 */
XAI_API size_t xai_model_input_count(const xai_model *model);
/** @return the name of input `index`. @since 0.1 */
XAI_API const char *xai_model_input_name(const xai_model *model, size_t index);
/** @return the XAI_DTYPE_* constant of input `index`; 0 when the model does not say. @since 0.1 */
XAI_API int32_t xai_model_input_dtype(const xai_model *model, size_t index);
/** @return the rank of input `index`; -1 when the model does not say. @since 0.1 */
XAI_API int32_t xai_model_input_rank(const xai_model *model, size_t index);
/**
 * @return the sizes of input `index`, one an axis; -1 = free, known only at run time. NULL for rank
 *         -1.
 * @since 0.1
 */
XAI_API const int64_t *xai_model_input_dims(const xai_model *model, size_t index);
/**
 * @return the name of a free axis of input `index`, such as "batch"; "" when it has none.
 * @since 0.1
 */
XAI_API const char *xai_model_input_dim_name(const xai_model *model, size_t index, int32_t axis);
/** @return the index of the input with that name; -1 when there is none. @since 0.1 */
XAI_API int64_t xai_model_find_input(const xai_model *model, const char *name);

/** @return the number of outputs. @since 0.1 */
XAI_API size_t xai_model_output_count(const xai_model *model);
/** @return the name of output `index`. @since 0.1 */
XAI_API const char *xai_model_output_name(const xai_model *model, size_t index);
/** @return the XAI_DTYPE_* constant of output `index`; 0 when the model does not say. @since 0.1 */
XAI_API int32_t xai_model_output_dtype(const xai_model *model, size_t index);
/** @return the rank of output `index`; -1 when the model does not say. @since 0.1 */
XAI_API int32_t xai_model_output_rank(const xai_model *model, size_t index);
/** @return the sizes of output `index`; -1 = free. NULL for rank -1. @since 0.1 */
XAI_API const int64_t *xai_model_output_dims(const xai_model *model, size_t index);
/** @return the name of a free axis of output `index`; "" when it has none. @since 0.1 */
XAI_API const char *xai_model_output_dim_name(const xai_model *model, size_t index, int32_t axis);
/** @return the index of the output with that name; -1 when there is none. @since 0.1 */
XAI_API int64_t xai_model_find_output(const xai_model *model, const char *name);

/**
 * Layers: the values inside the model that the CAM methods can explain, in the order of
 * computation.
 * @return how many there are
 * @since 0.1
 */
XAI_API size_t xai_model_layer_count(const xai_model *model);
/** @return the name of the ONNX value that layer `index` computes. @since 0.1 */
XAI_API const char *xai_model_layer_name(const xai_model *model, size_t index);
/**
 * @return the name of the node that computes layer `index`; "OpType_k" when the file gives it none.
 * @since 0.1
 */
XAI_API const char *xai_model_layer_node(const xai_model *model, size_t index);
/** @return the ONNX operator that computes layer `index`, such as "Relu". @since 0.1 */
XAI_API const char *xai_model_layer_operator(const xai_model *model, size_t index);
/**
 * The layer that the CAM methods explain unless told otherwise: the last spatial activation before
 * the head of the network, or for a transformer the input of its last attention. Found anew by each
 * call, in some milliseconds, for the first output and for inputs of the declared shape (of the
 * card's size, or 224, where the model leaves sizes free).
 * @return its index; -1 when the model has no such layer
 * @since 0.1
 */
XAI_API int64_t xai_model_default_layer(const xai_model *model);

/**
 * @return the number of labels on the model card, one for each entry of the scores; 0 without
 *         labels.
 * @since 0.1
 */
XAI_API size_t xai_model_label_count(const xai_model *model);
/** @return the label of score `index`. @since 0.1 */
XAI_API const char *xai_model_label(const xai_model *model, size_t index);

/** @return the number of entries of the model's metadata_props. @since 0.1 */
XAI_API size_t xai_model_metadata_count(const xai_model *model);
/** @return the key of entry `index`. @since 0.1 */
XAI_API const char *xai_model_metadata_key(const xai_model *model, size_t index);
/** @return the value of entry `index`. @since 0.1 */
XAI_API const char *xai_model_metadata_value(const xai_model *model, size_t index);

/** @return the name of the program that wrote the file, such as "pytorch". @since 0.1 */
XAI_API const char *xai_model_producer_name(const xai_model *model);
/** @return the version of that program. @since 0.1 */
XAI_API const char *xai_model_producer_version(const xai_model *model);
/** @return the IR version of the file. @since 0.1 */
XAI_API int64_t xai_model_ir_version(const xai_model *model);
/**
 * @return the version of the operator set `domain` ("" = ai.onnx); 0 when the model does not use
 *         it.
 * @since 0.1
 */
XAI_API int64_t xai_model_opset(const xai_model *model, const char *domain);

/**
 * Model card: the range of the values of the input before mean and deviation are applied
 * (`xai.input.range`): an image's black is `*low` and its white `*high`.
 *
 * @param low, high  set when the card says; may be NULL
 * @return 1 when the card says, else 0
 * @since 0.1
 */
XAI_API int32_t xai_model_input_range(const xai_model *model, double *low, double *high);

/**
 * Model card: what is subtracted from each channel (`xai.input.mean`), after scaling to the range.
 *
 * @param values  set to one entry a channel, or one for all channels; owned by the model; may be
 *                NULL
 * @return the number of entries; 0 when the card does not say
 * @since 0.1
 */
XAI_API size_t xai_model_input_mean(const xai_model *model, const double **values);

/**
 * Model card: what each channel is divided by after the mean (`xai.input.std`); as
 * xai_model_input_mean().
 * @since 0.1
 */
XAI_API size_t xai_model_input_std(const xai_model *model, const double **values);

/**
 * Model card: height and width in pixels that images are resized to (`xai.input.size`).
 *
 * @param height, width  set when known; may be NULL
 * @return 1 when the card says, or else when the shape of the first input does; else 0
 * @since 0.1
 */
XAI_API int32_t xai_model_input_size(const xai_model *model, int64_t *height, int64_t *width);

/**
 * @return model card: the number of channels of an image, 1 (gray) or 3 (RGB); else that of the
 *         first input; 0 = not known.
 * @since 0.1
 */
XAI_API int64_t xai_model_input_channels(const xai_model *model);

/**
 * Model card: what a score means (`xai.output.score`).
 *
 * @return "logit-sigmoid" (apply a sigmoid to get a probability), "logit-softmax" (apply a
 *         softmax), "logit" (no activation is named), "probability", "value" (neither, such as an
 *         age), or "" when the card does not say
 * @since 0.1
 */
XAI_API const char *xai_model_score_meaning(const xai_model *model);

#ifdef __cplusplus
}
#endif

#endif
