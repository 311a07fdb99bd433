#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"

/* Names in a message come from files that may be hostile: a message is cut to this many bytes. */
#define MESSAGE_LIMIT ((size_t)4096)

struct xai_error {
    xai_status status;
    const char *place;   /* into storage, or "" */
    const char *message; /* into storage */
    char *storage;       /* NULL for out_of_memory */
};

/* What error_set stores when there is no memory left for a real error. Never written, never
 * freed. */
static const struct xai_error out_of_memory = {XAI_ERROR_MEMORY, "", "out of memory", NULL};

/* One line of valid UTF-8: control characters (terminal escapes, line breaks) and bad bytes
 * become '?'. */
static void sanitise(char *bytes)
{
    size_t i = 0;
    while (bytes[i] != '\0') {
        const unsigned char c = (unsigned char)bytes[i];
        size_t step = 1;
        if (c < 0x20 || c == 0x7f)
            bytes[i] = c == '\n' || c == '\t' ? ' ' : '?';
        else if (c >= 0x80) {
            step = text_utf8_step(bytes + i, strnlen(bytes + i, 4));
            if (step == 0 || (c == 0xc2 && (unsigned char)bytes[i + 1] < 0xa0)) {
                step = step == 0 ? 1 : 2;
                memset(bytes + i, '?', step);
            }
        }
        i += step;
    }
}

/* Cut to at most `limit` bytes without splitting a character. */
static void cut(char *bytes, size_t limit)
{
    const size_t length = strlen(bytes);
    if (length <= limit)
        return;
    size_t end = limit - 3;
    while (end > 0 && ((unsigned char)bytes[end] & 0xc0) == 0x80)
        end--;
    memcpy(bytes + end, "...", 4);
}

/* `place` and `message` (without the place) are copied; NULL when out of memory. */
static xai_error *error_create(xai_status status, const char *place, const char *message)
{
    const size_t place_size = strlen(place) + 1, message_size = strlen(message) + 1;
    size_t total;
    if (!size_add(2 * place_size + 2, message_size, &total))
        return NULL;
    xai_error *self = memory_allocate(1, sizeof *self);
    char *storage = memory_allocate(total, 1);
    if (!self || !storage) {
        memory_free(self);
        memory_free(storage);
        return NULL;
    }
    memcpy(storage, place, place_size);
    char *whole = storage + place_size;
    snprintf(whole, total - place_size, "%s%s%s", place, place_size > 1 ? ": " : "", message);
    *self = (xai_error){status, storage, whole, storage};
    return self;
}

static char *place_copy(const char *place)
{
    char *copy = memory_copy(place ? place : "", place ? strlen(place) + 1 : 1);
    if (copy) {
        cut(copy, MESSAGE_LIMIT / 2);
        sanitise(copy);
    }
    return copy;
}

xai_status error_set(xai_error **error, xai_status status, const char *place, const char *format,
                     ...)
{
    if (!error || *error)
        return status;
    char *message = memory_allocate(MESSAGE_LIMIT, 1);
    char *where = place_copy(place);
    xai_error *made = NULL;
    if (message && where) {
        va_list arguments;
        va_start(arguments, format);
        const int length = vsnprintf(message, MESSAGE_LIMIT, format, arguments);
        va_end(arguments);
        if (length < 0)
            message[0] = '\0';
        if (length >= (int)MESSAGE_LIMIT)
            cut(message, MESSAGE_LIMIT - 2);
        sanitise(message);
        made = error_create(status, where, message);
    }
    memory_free(message);
    memory_free(where);
    *error = made ? made : (xai_error *)&out_of_memory;
    return status;
}

xai_status error_memory(xai_error **error, const char *what, size_t bytes)
{
    if (bytes == 0)
        return error_set(error, XAI_ERROR_MEMORY, NULL, "out of memory for %s", what);
    return error_set(error, XAI_ERROR_MEMORY, NULL,
                     "out of memory: cannot allocate %zu bytes for %s", bytes, what);
}

void error_add_place(xai_error **error, const char *place)
{
    if (!error || !*error || *error == &out_of_memory || (*error)->place[0] != '\0' || !place ||
        !*place)
        return;
    char *where = place_copy(place);
    xai_error *made = where ? error_create((*error)->status, where, (*error)->message) : NULL;
    memory_free(where);
    if (made) {
        xai_error_free(*error);
        *error = made;
    }
}

void error_clear(xai_error **error)
{
    if (error) {
        xai_error_free(*error);
        *error = NULL;
    }
}

xai_status xai_error_status(const xai_error *error)
{
    return error ? error->status : XAI_OK;
}

const char *xai_error_message(const xai_error *error)
{
    return error ? error->message : "";
}

const char *xai_error_place(const xai_error *error)
{
    return error ? error->place : "";
}

void xai_error_free(xai_error *error)
{
    if (!error || error == &out_of_memory)
        return;
    memory_free(error->storage);
    memory_free(error);
}

const char *xai_status_name(xai_status status)
{
    static const char *const names[] = {
        "ok",
        "invalid argument",
        "out of memory",
        "file error",
        "invalid format",
        "unsupported",
        "shape mismatch",
        "not found",
        "cancelled",
        "numeric error",
        "internal error",
    };
    if (status < 0 || (size_t)status >= sizeof names / sizeof *names)
        return "unknown status";
    return names[status];
}
