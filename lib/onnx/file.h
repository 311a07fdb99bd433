/* Regular files mapped read-only. */
#ifndef ONNX_FILE_H
#define ONNX_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "xai/status.h"

typedef struct file_view {
    const uint8_t *bytes; /* NULL for an empty file */
    size_t size;
} file_view;

/* Errors carry `path` as their place. */
xai_status file_map(const char *path, file_view *out, xai_error **error);
/* Map folder/location, where `location` comes from a hostile file: relative, without "..",
 * through no symbolic link below `folder` ("" = the current one). Errors carry no place. */
xai_status file_map_beneath(const char *folder, const char *location, file_view *out,
                            xai_error **error);
/* Whether a location may be looked up at all, by its letters alone: relative, no "..", a file. */
xai_status file_location_check(const char *location, xai_error **error);
void file_unmap(file_view *self);
/* Give back the physical pages; reading brings them back. */
void file_release_pages(const file_view *self);

#endif
