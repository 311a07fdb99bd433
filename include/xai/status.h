/**
 * @file Status codes and errors of libxai.
 *
 * Every call that can fail returns an `xai_status` and takes an optional `xai_error **error` as
 * its last argument. On failure the callee stores a new error there, which the caller frees with
 * xai_error_free(). Pass NULL when the status alone is enough.
 */
#ifndef XAI_STATUS_H
#define XAI_STATUS_H

#include <stdint.h>

#if defined(_WIN32) && defined(XAI_BUILD)
#define XAI_API __declspec(dllexport)
#elif defined(_WIN32)
#define XAI_API __declspec(dllimport)
#else
#define XAI_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** The outcome of a call; one of the XAI_OK / XAI_ERROR_* constants below. @since 0.1 */
typedef int32_t xai_status;

/** Success. @since 0.1 */
#define XAI_OK ((xai_status)0)
/** A NULL or out-of-range argument, or an option the method does not have. @since 0.1 */
#define XAI_ERROR_ARGUMENT ((xai_status)1)
/** An allocation failed, or the memory limit of the session would be exceeded. @since 0.1 */
#define XAI_ERROR_MEMORY ((xai_status)2)
/** A file could not be opened, read or written. @since 0.1 */
#define XAI_ERROR_FILE ((xai_status)3)
/** The bytes are not a valid ONNX model (or NPY, PNG, JSON) file. @since 0.1 */
#define XAI_ERROR_FORMAT ((xai_status)4)
/** A valid model uses an operator, type or construct that libxai does not support. @since 0.1 */
#define XAI_ERROR_UNSUPPORTED ((xai_status)5)
/** A tensor does not fit the model, or shapes inside the model contradict each other. @since 0.1 */
#define XAI_ERROR_SHAPE ((xai_status)6)
/** No input, output, layer, label, option or method of that name. @since 0.1 */
#define XAI_ERROR_NOT_FOUND ((xai_status)7)
/** The progress callback asked to stop. @since 0.1 */
#define XAI_ERROR_CANCELLED ((xai_status)8)
/** A NaN or infinity in the input or in a result. @since 0.1 */
#define XAI_ERROR_NUMERIC ((xai_status)9)
/** A defect of libxai or of a library it uses; please report it. @since 0.1 */
#define XAI_ERROR_INTERNAL ((xai_status)10)

/** What failed, where, and what to do about it. Immutable. @since 0.1 */
typedef struct xai_error xai_error;

/** @return the status that the failing call returned. @since 0.1 */
XAI_API xai_status xai_error_status(const xai_error *error);

/** @return the whole message in UTF-8, place included; owned by the error. @since 0.1 */
XAI_API const char *xai_error_message(const xai_error *error);

/** @return where it failed (node, operator, file or option), or "" when nowhere special; owned by
 * the error. @since 0.1 */
XAI_API const char *xai_error_place(const xai_error *error);

/** Free an error; NULL is fine. @since 0.1 */
XAI_API void xai_error_free(xai_error *error);

/** @return a short English name of a status such as "not found"; static storage. @since 0.1 */
XAI_API const char *xai_status_name(xai_status status);

#ifdef __cplusplus
}
#endif

#endif
