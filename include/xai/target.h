/**
 * @file
 * Targets: which score is explained or differentiated.
 *
 * A new target means "the highest score of each row of the first output". Every xai_target_add_*()
 * call appends a choice: one choice holds for all rows; several choices are one a row, in order,
 * and must be as many as the rows. A target does not belong to a model; names and bounds are
 * checked when it is used. It may be read by several threads.
 */
#ifndef XAI_TARGET_H
#define XAI_TARGET_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The score as the model outputs it. @since 0.1 */
#define XAI_SCORE_RAW ((int32_t)0)
/**
 * The score before a final Sigmoid, Softmax or LogSoftmax of the model; the raw score when it has
 * none.
 * @since 0.1
 */
#define XAI_SCORE_LOGIT ((int32_t)1)
/**
 * The score as a probability: the output of a final Sigmoid or Softmax, the exponential of a final
 * LogSoftmax. For a model that ends in logits the model card must name the activation
 * (`xai.output.score`). @since 0.1
 */
#define XAI_SCORE_PROBABILITY ((int32_t)2)

/** A choice of scores. @since 0.1 */
typedef struct xai_target xai_target;

/**
 * Make a target: the highest score of each row.
 *
 * @param out    set on success only; free with xai_target_free()
 * @param error  optional; set on failure, free with xai_error_free()
 * @return XAI_OK or XAI_ERROR_MEMORY
 * @since 0.1
 */
XAI_API xai_status xai_target_create(xai_target **out, xai_error **error);

/**
 * Choose scores of another output than the first.
 *
 * @param name  the name of an output; copied. NULL = the first
 * @return XAI_OK; XAI_ERROR_ARGUMENT; XAI_ERROR_MEMORY. A name that the model lacks is found when
 *         the target is used
 * @since 0.1
 */
XAI_API xai_status xai_target_set_output(xai_target *target, const char *name, xai_error **error);

/** Add a choice: the highest score, the first one when several are equal. @since 0.1 */
XAI_API xai_status xai_target_add_highest(xai_target *target, xai_error **error);

/**
 * Add a choice: entry `index` of an output (N, K). Negative counts from the end: -1 is the last.
 * An output (N) has only index 0; an output that is a map needs xai_target_add_element() or
 * xai_target_add_region().
 * @return XAI_OK; XAI_ERROR_ARGUMENT; XAI_ERROR_MEMORY. Bounds are checked when the target is used
 * @since 0.1
 */
XAI_API xai_status xai_target_add_index(xai_target *target, int64_t index, xai_error **error);

/**
 * Add a choice: the entry with this label on the model card, letter case counts. Errors as above.
 * @since 0.1
 */
XAI_API xai_status xai_target_add_label(xai_target *target, const char *label, xai_error **error);

/**
 * Add a choice: one element of an output of any shape.
 * @param indices  `rank` indices, without the row axis: (channel, y, x) for an output (N, C, H, W);
 *                 copied
 * @since 0.1
 */
XAI_API xai_status xai_target_add_element(xai_target *target, const int64_t *indices, size_t rank,
                                          xai_error **error);

/**
 * Add a choice: the sum of an output over a box, such as all pixels of one class of a segmentation.
 * @param begin, end  `rank` bounds, without the row axis; begin <= i < end, and end -1 means to the
 *                    end; copied
 * @since 0.1
 */
XAI_API xai_status xai_target_add_region(xai_target *target, const int64_t *begin,
                                         const int64_t *end, size_t rank, xai_error **error);

/** @return the number of choices added. @since 0.1 */
XAI_API size_t xai_target_count(const xai_target *target);

/** Free a target; NULL is fine. @since 0.1 */
XAI_API void xai_target_free(xai_target *target);

#ifdef __cplusplus
}
#endif

#endif
