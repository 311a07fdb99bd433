#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

size_t text_utf8_step(const char *bytes, size_t length)
{
    const unsigned char *s = (const unsigned char *)bytes;
    if (length == 0)
        return 0;
    if (s[0] < 0x80)
        return 1;
    /* Bounds of the second byte exclude overlong forms, surrogates and values above U+10FFFF. */
    size_t step;
    unsigned char low = 0x80, high = 0xbf;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        step = 2;
    else if (s[0] >= 0xe0 && s[0] <= 0xef) {
        step = 3;
        low = s[0] == 0xe0 ? 0xa0 : 0x80;
        high = s[0] == 0xed ? 0x9f : 0xbf;
    } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        step = 4;
        low = s[0] == 0xf0 ? 0x90 : 0x80;
        high = s[0] == 0xf4 ? 0x8f : 0xbf;
    } else
        return 0;
    if (length < step || s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < step; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return step;
}

bool text_is_utf8(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length;) {
        const size_t step = text_utf8_step(bytes + i, length - i);
        if (step == 0)
            return false;
        i += step;
    }
    return true;
}

void text_append_bytes(text *self, const char *bytes, size_t length)
{
    size_t needed;
    if (self->failed)
        return;
    if (!size_add(self->length, length, &needed) || !size_add(needed, 1, &needed) ||
        !array_reserve((void **)&self->bytes, &self->capacity, needed, 1)) {
        text_free(self);
        self->failed = true;
        return;
    }
    if (length > 0)
        memcpy(self->bytes + self->length, bytes, length);
    self->length += length;
    self->bytes[self->length] = '\0';
}

void text_append(text *self, const char *string)
{
    text_append_bytes(self, string, strlen(string));
}

void text_format(text *self, const char *format, ...)
{
    va_list arguments;
    char small[256];
    va_start(arguments, format);
    const int length = vsnprintf(small, sizeof small, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;
    if ((size_t)length < sizeof small) {
        text_append_bytes(self, small, (size_t)length);
        return;
    }
    char *large = memory_allocate((size_t)length + 1, 1);
    if (!large) {
        text_free(self);
        self->failed = true;
        return;
    }
    va_start(arguments, format);
    vsnprintf(large, (size_t)length + 1, format, arguments);
    va_end(arguments);
    text_append_bytes(self, large, (size_t)length);
    memory_free(large);
}

void text_append_json(text *self, const char *string)
{
    const size_t length = strlen(string);
    text_append_bytes(self, "\"", 1);
    for (size_t i = 0; i < length;) {
        const unsigned char c = (unsigned char)string[i];
        const size_t step = text_utf8_step(string + i, length - i);
        if (c == '"' || c == '\\') {
            text_append_bytes(self, "\\", 1);
            text_append_bytes(self, string + i, 1);
        } else if (c == '\n')
            text_append_bytes(self, "\\n", 2);
        else if (c < 0x20 || c == 0x7f)
            text_format(self, "\\u%04x", c);
        else if (step == 0) /* not UTF-8: JSON has no way to say that byte */
            text_append_bytes(self, "\\ufffd", 6);
        else
            text_append_bytes(self, string + i, step);
        i += step == 0 ? 1 : step;
    }
    text_append_bytes(self, "\"", 1);
}

char *text_take(text *self)
{
    char *bytes = NULL;
    if (!self->failed)
        bytes = self->bytes ? self->bytes : text_duplicate("");
    *self = (text){0};
    return bytes;
}

void text_free(text *self)
{
    memory_free(self->bytes);
    *self = (text){0};
}

char *text_duplicate(const char *string)
{
    return memory_copy(string, strlen(string) + 1);
}

const char *path_file_name(const char *path)
{
    const char *name = path;
    for (; *path; path++) {
#ifdef _WIN32
        if (*path == '\\')
            name = path + 1;
#endif
        if (*path == '/')
            name = path + 1;
    }
    return name;
}
