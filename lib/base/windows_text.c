#include "base/windows_text.h"

#include <errno.h>
#include <windows.h>

#include "base/memory.h"

wchar_t *windows_wide(const char *text)
{
    const int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, NULL, 0);
    wchar_t *wide = length > 0 ? memory_allocate((size_t)length, sizeof *wide) : NULL;
    if (wide)
        MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, wide, length);
    return wide;
}

char *windows_narrow(const wchar_t *text)
{
    const int length = WideCharToMultiByte(CP_UTF8, 0, text, -1, NULL, 0, NULL, NULL);
    char *narrow = length > 0 ? memory_allocate((size_t)length, 1) : NULL;
    if (narrow)
        WideCharToMultiByte(CP_UTF8, 0, text, -1, narrow, length, NULL, NULL);
    return narrow;
}

FILE *windows_open(const char *path, const char *mode)
{
    wchar_t *wide = windows_wide(path), *wide_mode = windows_wide(mode);
    FILE *file = wide && wide_mode ? _wfopen(wide, wide_mode) : NULL;
    if (!wide || !wide_mode)
        errno = ENOMEM;
    memory_free(wide);
    memory_free(wide_mode);
    return file;
}
