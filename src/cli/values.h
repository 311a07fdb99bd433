/* The attributions of every input as NPY files. */
#ifndef CLI_VALUES_H
#define CLI_VALUES_H

#include <xai/xai.h>

#include "files.h"

/* The files of the inputs behind the first. */
typedef struct values_files {
    output *files;
    char **paths;
    size_t count;
} values_files;

/* Write the parts: the first into `first`, that of an input NAME into FILE.NAME.npy for FILE.npy,
 * with _ for what is neither letter, digit, - nor _; all into standard output, one behind the other,
 * when that is `first`. Reports failure. `inputs` as in output_open(). */
bool values_write(values_files *self, output *first, const xai_explanation *result,
                  const char *const *inputs);
/* As output_finish() and output_commit(), of all. */
bool values_finish(values_files *self);
bool values_commit(values_files *self);
void values_free(values_files *self);

#endif
