/* Growing UTF-8 text. A text that ran out of memory stays empty and says so once at the end. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"

typedef struct text {
    char *bytes; /* NUL-terminated; NULL while empty */
    size_t length, capacity;
    bool failed; /* an append ran out of memory */
} text;

void text_append(text *self, const char *string);
void text_append_bytes(text *self, const char *bytes, size_t length);
void text_format(text *self, const char *format, ...) PRINTF_LIKE(2, 3);
/* JSON string with quotes and escapes. */
void text_append_json(text *self, const char *string);
/* The bytes, owned by the caller (memory_free); NULL when an append failed. Resets the text. */
char *text_take(text *self);
void text_free(text *self);
char *text_duplicate(const char *string); /* NULL when out of memory */

/* Bytes of the UTF-8 character that starts here (1 to 4); 0 when there is none or it is not
 * valid. */
size_t text_utf8_step(const char *bytes, size_t length);
bool text_is_utf8(const char *bytes, size_t length);

/* The last part of a path, behind its last separator ('/', on Windows also '\\'). */
const char *path_file_name(const char *path);

#endif
