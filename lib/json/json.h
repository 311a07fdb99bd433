/* Small bounded reader of JSON (RFC 8259) into a read-only tree, for the model card. An own
 * reader, because a library that others embed should not bring a dependency for a file of 1 kB. */
#ifndef JSON_JSON_H
#define JSON_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "xai/status.h"

typedef struct json_value json_value;

enum { JSON_NULL, JSON_BOOLEAN, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

#define JSON_SIZE_LIMIT ((size_t)1 << 20)
#define JSON_DEPTH_LIMIT 32
#define JSON_MEMBER_LIMIT ((size_t)4096) /* of one object */

/* Parse UTF-8 text, which may begin with a byte order mark. Refused: text after the value, a
 * name twice in an object, NUL characters, numbers beyond double, and what exceeds the limits
 * above. Errors name line and column and carry no place. */
xai_status json_parse(const char *bytes, size_t size, json_value **out, xai_error **error);
void json_free(json_value *root); /* the whole tree; only for what json_parse made */

/* All getters accept NULL and values of another type: they say "absent", so that look-ups can be
 * chained. */
int json_type(const json_value *value);              /* JSON_NULL for NULL */
const char *json_type_name(const json_value *value); /* "a number", ... for messages */
const char *json_text(const json_value *value);      /* NULL when not a string */
/* False when not a number, *number untouched. */
bool json_number(const json_value *value, double *number);
bool json_boolean(const json_value *value, bool *boolean);
size_t json_count(const json_value *value); /* elements or members */
/* Element or member; NULL beyond. */
const json_value *json_item(const json_value *value, size_t index);
const char *json_name(const json_value *value, size_t index); /* of a member; NULL beyond */
const json_value *json_member(const json_value *value, const char *name); /* NULL when absent */

#endif
