/* Unknown names: an error that lists the near ones. */
#ifndef EXPLAIN_NAMES_H
#define EXPLAIN_NAMES_H

#include <stddef.h>

#include "xai/status.h"

/* The i-th name that could have been meant; NULL entries are skipped. */
typedef const char *(*name_at)(const void *context, size_t index);

/* XAI_ERROR_NOT_FOUND "no <what> named '<name>'; did you mean 'a', 'b' or 'c'?", or the first
 * few of all names when none is near, or "there are none". */
xai_status name_not_found(xai_error **error, const char *what, const char *name, name_at at,
                          const void *context, size_t count);

#endif
