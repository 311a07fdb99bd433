/**
 * @file
 * Explanations: the result of an explainer, its numbers, its facts and its picture.
 *
 * An explanation is immutable, needs neither its explainer nor its model any more, and may be read
 * by several threads. What the accessors return belongs to the explanation. They cannot fail: a row
 * that is out of range, like a NULL explanation, gives NULL, "", 0 or NaN.
 */
#ifndef XAI_EXPLANATION_H
#define XAI_EXPLANATION_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"
#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/** An explanation of N rows for one target. @since 0.1 */
typedef struct xai_explanation xai_explanation;

/** @return the number of rows N. @since 0.1 */
XAI_API size_t xai_explanation_row_count(const xai_explanation *explanation);

/**
 * The attributions as the method defines them, float32. Methods that attribute to the input give
 * the shape of the input, signed: positive speaks for the target. The CAM methods give the map of
 * the layer, (N, h, w) in its resolution, before negative values are cut and before scaling ((N, l)
 * or (N, d, h, w) for 1-D and 3-D layers). With segments, a segment's attribution is spread evenly
 * over its elements. For a model of several inputs these are the values of the first part.
 * @since 0.1
 */
XAI_API const xai_tensor *xai_explanation_values(const xai_explanation *explanation);

/**
 * The standard error of each of xai_explanation_values(), the same shape.
 * @return NULL for methods that do not sample
 * @since 0.1
 */
XAI_API const xai_tensor *xai_explanation_standard_error(const xai_explanation *explanation);

/**
 * What was attributed to: each floating-point input of the model, or the layer.
 * @return the number of parts; 1 but for models with several inputs
 * @since 0.1
 */
XAI_API size_t xai_explanation_part_count(const xai_explanation *explanation);
/** @return the name of the input or layer of a part; "" when out of range. @since 0.1 */
XAI_API const char *xai_explanation_part_name(const xai_explanation *explanation, size_t part);
/** @return as xai_explanation_values(), of a part; NULL when out of range. @since 0.1 */
XAI_API const xai_tensor *xai_explanation_part_values(const xai_explanation *explanation,
                                                      size_t part);
/** @return as xai_explanation_standard_error(), of a part; NULL when out of range. @since 0.1 */
XAI_API const xai_tensor *xai_explanation_part_standard_error(const xai_explanation *explanation,
                                                              size_t part);

/**
 * The map to look at: (N, H, W) float32 at the resolution of the input, in [0, 1] ((N, L) or (N, D,
 * H, W) for 1-D and 3-D inputs). 0 means no positive evidence; a row without any is all zero, and a
 * warning says so. Attributions to the input are summed over channels, negative sums are cut, and
 * each row is divided by its maximum. The map of a CAM method is cut, divided by its maximum, then
 * resized linearly with half-pixel centres.
 * @return NULL when the input has no spatial axes (a table)
 * @since 0.1
 */
XAI_API const xai_tensor *xai_explanation_map(const xai_explanation *explanation);

/**
 * The map with its negative evidence: attributions summed over channels, each row divided by its
 * largest absolute value, so in [-1, 1].
 * @return NULL where xai_explanation_map() is NULL, and for methods without negative evidence
 * @since 0.1
 */
XAI_API const xai_tensor *xai_explanation_signed_map(const xai_explanation *explanation);

/**
 * The segments that were explained: (N, H, W) int32, labels 0 to K - 1.
 * @return NULL for an explanation without segments
 * @since 0.1
 */
XAI_API const xai_tensor *xai_explanation_segments(const xai_explanation *explanation);
/** @return the attribution of each segment as a whole: (N, K) float32, or NULL. @since 0.1 */
XAI_API const xai_tensor *xai_explanation_segment_values(const xai_explanation *explanation);
/**
 * Interactions of all pairs of features, where the method was asked for them: (N, F, F) float32,
 * symmetric; half of a pair's interaction stands at (i, j) and half at (j, i), the diagonal has
 * what is left of each attribution, so every row sums to it.
 * @return NULL for an explanation without interactions
 * @since 0.1
 */
XAI_API const xai_tensor *xai_explanation_interactions(const xai_explanation *explanation);
/** @return the standard error of each segment's: (N, K) float32, or NULL. @since 0.1 */
XAI_API const xai_tensor *
xai_explanation_segment_standard_error(const xai_explanation *explanation);

/**
 * What stood for the absence of a feature: "0", "the mean of each channel", "a background of 20
 * rows".
 * @return "" for methods that need nothing of that kind
 * @since 0.1
 */
XAI_API const char *xai_explanation_baseline(const xai_explanation *explanation);

/** @return how many samples a row's attributions are the mean of; 0 = none. @since 0.1 */
XAI_API int64_t xai_explanation_samples(const xai_explanation *explanation, size_t row);

/**
 * Whether the tolerance that was asked for was reached.
 * @return 1 or 0; -1 when none was asked for
 * @since 0.1
 */
XAI_API int32_t xai_explanation_converged(const xai_explanation *explanation, size_t row);

/** @return the name of the method. @since 0.1 */
XAI_API const char *xai_explanation_method(const xai_explanation *explanation);

/**
 * @return the name of the ONNX value that was explained; "" for a method that explains the input.
 * @since 0.1
 */
XAI_API const char *xai_explanation_layer(const xai_explanation *explanation);

/** @return the score kind, an XAI_SCORE_* constant. @since 0.1 */
XAI_API int32_t xai_explanation_score_kind(const xai_explanation *explanation);

/**
 * The target of a row.
 * @return its index within the output (row-major over the axes after the row axis); -1 for a region
 *         of several elements
 * @since 0.1
 */
XAI_API int64_t xai_explanation_target(const xai_explanation *explanation, size_t row);

/**
 * @return the label of the target of a row: as on the model card, else its index, element or region
 *         as text.
 * @since 0.1
 */
XAI_API const char *xai_explanation_label(const xai_explanation *explanation, size_t row);

/** @return the score that was explained, of the score kind asked for. @since 0.1 */
XAI_API double xai_explanation_score(const xai_explanation *explanation, size_t row);

/**
 * @return the score of the baseline or background; NaN for methods without one, such as the CAM
 *         methods.
 * @since 0.1
 */
XAI_API double xai_explanation_base_value(const xai_explanation *explanation, size_t row);

/**
 * @return |sum of attributions - (score - base value)|; NaN for methods without completeness.
 * @since 0.1
 */
XAI_API double xai_explanation_completeness_error(const xai_explanation *explanation, size_t row);

/**
 * @return how many times the model was evaluated for a row (a forward pass, with its backward pass
 *         if any; runs of the network behind a layer and local edits count as one each): as many
 *         as for this target alone, also where several targets shared them.
 * @since 0.1
 */
XAI_API int64_t xai_explanation_evaluations(const xai_explanation *explanation, size_t row);

/** @return the number of warnings: what the reader of the explanation should know. @since 0.1 */
XAI_API size_t xai_explanation_warning_count(const xai_explanation *explanation);

/** @return the text of a warning, English. @since 0.1 */
XAI_API const char *xai_explanation_warning(const xai_explanation *explanation, size_t index);

/** @return the row that a warning is about; -1 when it is about all. @since 0.1 */
XAI_API int64_t xai_explanation_warning_row(const xai_explanation *explanation, size_t index);

/**
 * The facts as JSON text in UTF-8: versions, method, layer, input shape, and for each row target,
 * label, score, evaluations and the peak of the map; options, baseline, base value, completeness
 * error, samples, relative standard error (norm of the standard errors over that of the values) and
 * convergence where they exist; warnings. Numbers that do not exist are null. Made with the explanation.
 * @since 0.1
 */
XAI_API const char *xai_explanation_json(const xai_explanation *explanation);

/**
 * Draw the map of a row over an image: out = (1 - a) image + a colour, where colour runs over the
 * colour map with the map's value m and a = alpha * m, so that what has no evidence stays as it
 * was.
 *
 * @param row       a row of a map (N, H, W)
 * @param image     height x width x channels bytes, gray or RGB, rows adjacent; of any size: the
 *                  map is resized to it
 * @param width, height  in pixels, 1 to 65535
 * @param channels  1 (gray) or 3 (RGB)
 * @param alpha     strength of the colour, 0 to 1; 0.5 is usual
 * @param colours   colour map: "viridis", "inferno" or "turbo"; NULL = "turbo"
 * @param out       height x width x 3 bytes RGB, the caller's; may not overlap `image`
 * @param error     optional; set on failure, free with xai_error_free()
 * @return XAI_OK; XAI_ERROR_ARGUMENT; XAI_ERROR_NOT_FOUND for an unknown colour map;
 *         XAI_ERROR_UNSUPPORTED when there is no map (N, H, W); XAI_ERROR_MEMORY
 * @since 0.1
 */
XAI_API xai_status xai_explanation_overlay(const xai_explanation *explanation, size_t row,
                                           const uint8_t *image, size_t width, size_t height,
                                           int32_t channels, double alpha, const char *colours,
                                           uint8_t *out, xai_error **error);

/** Free an explanation; NULL is fine. @since 0.1 */
XAI_API void xai_explanation_free(xai_explanation *explanation);

#ifdef __cplusplus
}
#endif

#endif
