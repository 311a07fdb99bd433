/* Errors: one object filled by the callee, and the only way a message leaves libxai. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stddef.h>

#include "base/compiler.h"
#include "xai/status.h"

/* Store a new error in *error (when error is not NULL and *error is NULL) and return `status`,
 * so that a failing function can `return error_set(...)`. `place` (node, operator, file; may be
 * NULL) is put before the message as "place: message". Never fails: without memory a static
 * out-of-memory error is stored. */
xai_status error_set(xai_error **error, xai_status status, const char *place, const char *format,
                     ...) PRINTF_LIKE(4, 5);

/* error_set with XAI_ERROR_MEMORY and a message naming what could not be allocated. */
xai_status error_memory(xai_error **error, const char *what, size_t bytes);

/* Put `place` before an error made deeper down that has none yet. */
void error_add_place(xai_error **error, const char *place);

/* Drop an error so that *error can be set anew. */
void error_clear(xai_error **error);

#endif
