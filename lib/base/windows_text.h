/* Text between UTF-8, which libxai speaks, and UTF-16, which Windows does. Only for files that are built on Windows. */
#ifndef BASE_WINDOWS_TEXT_H
#define BASE_WINDOWS_TEXT_H

#include <stdio.h>
#include <wchar.h>

/* Free with memory_free(); NULL when out of memory or not UTF-8. */
wchar_t *windows_wide(const char *text);
char *windows_narrow(const wchar_t *text);
/* As fopen(); `path` is UTF-8. */
FILE *windows_open(const char *path, const char *mode);

#endif
