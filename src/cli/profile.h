/* What a plan says about itself, as tables and as JSON: where the time and the memory go. */
#ifndef CLI_PROFILE_H
#define CLI_PROFILE_H

#include <stdio.h>

#include "xai/xai.h"

/* One line a step that takes time, then the sums by implementation. */
void profile_print_steps(FILE *to, const xai_plan *plan);
/* One line a buffer of the working memory, by first use. */
void profile_print_memory(FILE *to, const xai_plan *plan);
/* Both, for programs; the caller looks at ferror(). */
void profile_write_json(FILE *to, const xai_plan *plan, const char *model);

#endif
