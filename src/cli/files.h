/* Whole files in, and files out that are either complete or not there. */
#ifndef CLI_FILES_H
#define CLI_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Read a file of at most `limit` bytes. Freed with memory_free(); NULL after a report. */
void *file_read(const char *path, size_t limit, size_t *size);

/* An output. It is written under another name in its folder and gets its own in output_commit(); a
 * signal that ends the program before then removes it. "-" is standard output; devices and pipes
 * are written directly. */
typedef struct output {
    const char *path; /* as given; NULL = not wanted */
    FILE *file;
    char *target; /* where it goes, symbolic links resolved; NULL when written directly */
    char *temporary;
} output;

/* Open `path` (NULL = not wanted, which succeeds). Reports and returns false when it cannot be
 * written, or when it is one of the files in `inputs` (NULL-terminated), which would be lost. */
bool output_open(output *self, const char *path, const char *const *inputs);
/* Finish writing: everything is on its way to the disk, under the temporary name. Reports failure.
 */
bool output_finish(output *self);
/* Give it its name. Reports failure. */
bool output_commit(output *self);
/* Close and remove what was not committed. */
void output_discard(output *self);

#endif
