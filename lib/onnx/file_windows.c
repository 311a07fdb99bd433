/* Files mapped read-only, on Windows. The words of errors are those of file.c. */
#include <stdbool.h>
#include <string.h>
#include <windows.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/windows_text.h"
#include "onnx/file.h"

static xai_status file_error(xai_error **error, const char *place, const char *name, DWORD code)
{
    const char *why =
        code == ERROR_FILE_NOT_FOUND || code == ERROR_PATH_NOT_FOUND || code == ERROR_INVALID_NAME
            ? "no such file"
        : code == ERROR_ACCESS_DENIED || code == ERROR_SHARING_VIOLATION ? "permission denied"
        : code == ERROR_FILENAME_EXCED_RANGE                             ? "the name is too long"
        : code == ERROR_NOT_ENOUGH_MEMORY || code == ERROR_COMMITMENT_LIMIT
            ? "not enough address space to map it"
            : NULL;
    const xai_status status = code == ERROR_NOT_ENOUGH_MEMORY || code == ERROR_COMMITMENT_LIMIT
                                  ? XAI_ERROR_MEMORY
                                  : XAI_ERROR_FILE;
    const char *colon = name ? ": " : "";
    if (why)
        return error_set(error, status, place, "%s%s%s", name ? name : "", colon, why);
    return error_set(error, status, place, "%s%scannot be read (system error %lu)",
                     name ? name : "", colon, (unsigned long)code);
}

static xai_status refuse(xai_error **error, const char *place, const char *name, const char *why)
{
    return error_set(error, XAI_ERROR_FILE, place, "%s%s%s", name ? name : "", name ? ": " : "",
                     why);
}

/* Map an open file; closes it in any case. */
static xai_status map_handle(HANDLE file, const char *place, const char *name, file_view *out,
                             xai_error **error)
{
    BY_HANDLE_FILE_INFORMATION facts;
    LARGE_INTEGER size = {0};
    xai_status status = XAI_OK;
    HANDLE mapping = NULL;
    if (GetFileType(file) != FILE_TYPE_DISK)
        status = refuse(error, place, name, "not a regular file");
    else if (!GetFileInformationByHandle(file, &facts))
        status = file_error(error, place, name, GetLastError());
    else if (facts.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY)
        status = refuse(error, place, name, "is a folder, not a file");
    else if (!GetFileSizeEx(file, &size))
        status = file_error(error, place, name, GetLastError());
    else if ((unsigned long long)size.QuadPart > (unsigned long long)PTRDIFF_MAX)
        status = refuse(error, place, name, "too large to map");
    else if (size.QuadPart > 0) {
        mapping = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
        const void *bytes = mapping ? MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0) : NULL;
        if (!bytes)
            status = file_error(error, place, name, GetLastError());
        else
            *out = (file_view){bytes, (size_t)size.QuadPart};
    }
    if (mapping)
        CloseHandle(mapping); /* the view keeps it */
    CloseHandle(file);
    return status;
}

/* FILE_FLAG_BACKUP_SEMANTICS: folders open too, so that they can be told from missing files. */
static HANDLE open_shared(const wchar_t *path, DWORD flags)
{
    return CreateFileW(path, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING,
                       FILE_FLAG_BACKUP_SEMANTICS | flags, NULL);
}

xai_status file_map(const char *path, file_view *out, xai_error **error)
{
    *out = (file_view){0};
    wchar_t *wide = windows_wide(path);
    if (!wide)
        return refuse(error, path, NULL, "the name is not UTF-8, or memory ran out");
    HANDLE file = open_shared(wide, 0);
    const DWORD code = GetLastError();
    memory_free(wide);
    if (file == INVALID_HANDLE_VALUE)
        return file_error(error, path, NULL, code);
    return map_handle(file, path, NULL, out, error);
}

/* folder + '\' + location, with backslashes. */
static wchar_t *join(const char *folder, const char *location)
{
    const size_t head = strlen(folder), tail = strlen(location);
    char *path = memory_allocate(head + tail + 3, 1);
    if (!path)
        return NULL;
    memcpy(path, head ? folder : ".", head ? head : 1);
    const size_t at = head ? head : 1;
    path[at] = '\\';
    memcpy(path + at + 1, location, tail + 1);
    wchar_t *wide = windows_wide(path);
    memory_free(path);
    for (wchar_t *each = wide; each && *each; each++)
        if (*each == L'/')
            *each = L'\\';
    return wide;
}

/* Whether a path is a link (a reparse point), not what it points to. */
static bool is_link(const wchar_t *path)
{
    const DWORD attributes = GetFileAttributesW(path);
    return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_REPARSE_POINT);
}

xai_status file_map_beneath(const char *folder, const char *location, file_view *out,
                            xai_error **error)
{
    *out = (file_view){0};
    xai_status status = file_location_check(location, error);
    if (status != XAI_OK)
        return status;
    if (strpbrk(location, ":*?\"<>|")) /* drives, streams, devices */
        return error_set(error, XAI_ERROR_FORMAT, NULL,
                         "external data location '%s' has a letter that names of files have not",
                         location);
    wchar_t *path = join(folder, location);
    if (!path)
        return refuse(error, NULL, location, "the name is not UTF-8, or memory ran out");
    /* Every folder below the model's, then the file itself. The folder may be any of the caller's, links included: its letters and
     * the separator are skipped, in UTF-16. */
    wchar_t *head = windows_wide(folder);
    size_t skipped = head ? wcslen(head) + 1 : 0;
    memory_free(head);
    for (wchar_t *at = path + (skipped < wcslen(path) ? skipped : 0); status == XAI_OK && *at;
         at++) {
        if (*at != L'\\')
            continue;
        *at = L'\0';
        if (is_link(path))
            status =
                refuse(error, NULL, location, "is a symbolic link, which is not followed here");
        *at = L'\\';
    }
    if (status == XAI_OK) {
        HANDLE file = open_shared(path, FILE_FLAG_OPEN_REPARSE_POINT);
        if (file == INVALID_HANDLE_VALUE)
            status = file_error(error, NULL, location, GetLastError());
        else if (is_link(path)) {
            CloseHandle(file);
            status =
                refuse(error, NULL, location, "is a symbolic link, which is not followed here");
        } else
            status = map_handle(file, NULL, location, out, error);
    }
    memory_free(path);
    return status;
}

void file_unmap(file_view *self)
{
    if (self->bytes)
        UnmapViewOfFile(self->bytes);
    *self = (file_view){0};
}

void file_release_pages(const file_view *self)
{
    (void)self; /* Windows takes clean pages back by itself */
}
