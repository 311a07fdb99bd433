#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "onnx/file.h"

static xai_status bad(const char *location, const char *why, xai_error **error)
{
    return error_set(error, XAI_ERROR_FORMAT, NULL, "external data location '%s' %s", location,
                     why);
}

xai_status file_location_check(const char *location, xai_error **error)
{
    if (*location == '\0')
        return bad(location, "is empty", error);
    if (*location == '/')
        return bad(location, "is an absolute path; it must lie beside the model", error);
    if (strchr(location, '\\'))
        return bad(location, "contains a backslash; folders are separated by '/'", error);
    for (const char *part = location; *part;) {
        const size_t length = strcspn(part, "/");
        const bool last = part[length] == '\0';
        if (length == 2 && memcmp(part, "..", 2) == 0)
            return bad(location, "leaves the folder of the model ('..')", error);
        if ((last || part[length + 1] == '\0') && (!last || (length == 1 && *part == '.')))
            return bad(location, "names a folder, not a file", error);
        part += length + (last ? 0 : 1);
    }
    return XAI_OK;
}
