/* The program `xai`: one file a command, written against include/xai alone. It also compiles in a
 * few blocks of lib (NPY headers, resizing, allocation) that the library does not export.
 *
 * Every failure prints exactly one line on standard error, where it is found, and is passed up as
 * `false` or an exit code. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "xai/xai.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* Print "xai: message" as one line on standard error; returns EXIT_FAILED. */
int report(const char *format, ...) PRINTF_LIKE(1, 2);
/* Report an error of the library and free it. `what` (may be NULL) goes before it. */
int report_error(const char *what, xai_error *error);
/* Report wrong usage; returns EXIT_USAGE. */
int report_usage(const char *command, const char *format, ...) PRINTF_LIKE(2, 3);

/* One option of a command. The value is written to the field that fits `kind`. */
typedef struct option {
    enum { OPTION_TEXT, OPTION_COUNT, OPTION_NUMBER, OPTION_FLAG, OPTION_LIST } kind;
    const char *name; /* "--threads" */
    char letter;      /* 'o' for "-o"; 0 = none */
    void *value;      /* const char **, int64_t * (0 or more), double *, bool *, setting_list * */
} option;

/* Options of a method: --option NAME=VALUE, and those that have a flag of their own. */
enum { SETTINGS_MAX = 64, SETTING_NAMES = 8 };
typedef struct setting_list {
    const char *texts[SETTINGS_MAX]; /* "NAME=VALUE" */
    size_t count;
    const char *named[SETTING_NAMES]; /* values for setting_names; NULL = not given */
} setting_list;
extern const char *const setting_names[SETTING_NAMES]; /* "samples", ... */

/* Hand them to the options of `method`. Reports failure. */
bool settings_apply(const setting_list *list, xai_explainer_options *options,
                    const xai_model *model, const char *method);

/* Split the arguments after the command's name. At most `limit` positional ones. Reports what is
 * wrong. Returns EXIT_OK or EXIT_USAGE. */
int arguments_parse(const char *command, int count, char **arguments, const option *options,
                    size_t option_count, const char **positional, size_t limit,
                    size_t *positional_count);

int command_info(int count, char **arguments);
int command_run(int count, char **arguments);
int command_explain(int count, char **arguments);
int command_methods(int count, char **arguments);
int command_bench(int count, char **arguments);

/* Session options for --threads, with a progress bar when standard error is a terminal; NULL after
 * a report. */
xai_session_options *session_options(int64_t threads, int32_t precision);
/* "standard", "reference", "fast" or NULL (standard) as XAI_PRECISION_*; false when it is none of them. */
bool precision_parse(const char *text, int32_t *out);
#define PRECISION_UNKNOWN "option --precision: '%s' is not standard, reference or fast"
/* Erase the progress bar. */
void progress_end(void);

/* "(N, 3, 224, 224)" into `out`; a negative size is shown by the name of its axis, else as "?". */
#define DIMS_TEXT_SIZE 256
const char *dims_text(int32_t rank, const int64_t *dims, const char *first_name,
                      char out[DIMS_TEXT_SIZE]);

#endif
