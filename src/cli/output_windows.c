/* Files out on Windows: written under another name, then moved. A program that is ended before leaves its temporary file. */
#include <errno.h>
#include <string.h>
#include <windows.h>

#include "base/memory.h"
#include "base/windows_text.h"
#include "cli.h"
#include "files.h"
#include "system.h"

static bool facts_of(const char *path, BY_HANDLE_FILE_INFORMATION *out)
{
    wchar_t *wide = windows_wide(path);
    HANDLE file = wide
                      ? CreateFileW(wide, 0, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                                    NULL, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, NULL)
                      : INVALID_HANDLE_VALUE;
    memory_free(wide);
    const bool found = file != INVALID_HANDLE_VALUE && GetFileInformationByHandle(file, out);
    if (file != INVALID_HANDLE_VALUE)
        CloseHandle(file);
    return found;
}

static bool same_file(const BY_HANDLE_FILE_INFORMATION *a, const char *path)
{
    BY_HANDLE_FILE_INFORMATION b;
    return facts_of(path, &b) && a->dwVolumeSerialNumber == b.dwVolumeSerialNumber &&
           a->nFileIndexHigh == b.nFileIndexHigh && a->nFileIndexLow == b.nFileIndexLow;
}

/* `path` and a part that no other process takes. */
static char *temporary_name(const char *path)
{
    const size_t size = strlen(path) + 24;
    char *name = memory_allocate(size, 1);
    if (name)
        snprintf(name, size, "%s.%lu.part", path, (unsigned long)GetCurrentProcessId());
    return name;
}

bool output_open(output *self, const char *path, const char *const *inputs)
{
    BY_HANDLE_FILE_INFORMATION facts;
    *self = (output){.path = path};
    if (!path)
        return true;
    if (strcmp(path, "-") == 0) {
        self->file = stdout;
        return true;
    }
    const bool exists = facts_of(path, &facts);
    for (; exists && *inputs; inputs++) {
        if (same_file(&facts, *inputs)) {
            report("%s is also an input: it would be overwritten", path);
            return false;
        }
    }
    if (exists && (facts.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY)) {
        report("cannot write %s: it is a folder", path);
        return false;
    }
    errno = ENOMEM;
    self->temporary = temporary_name(path);
    self->file = self->temporary ? system_open(self->temporary, "wb") : NULL;
    if (self->file)
        return true;
    report("cannot write %s: %s", path, strerror(errno));
    memory_free(self->temporary);
    *self = (output){0};
    return false;
}

bool output_commit(output *self)
{
    if (!self->temporary)
        return true;
    wchar_t *from = windows_wide(self->temporary), *to = windows_wide(self->path);
    const bool moved = from && to && MoveFileExW(from, to, MOVEFILE_REPLACE_EXISTING);
    memory_free(from);
    memory_free(to);
    if (!moved) {
        report("cannot write %s: system error %lu", self->path, (unsigned long)GetLastError());
        return false;
    }
    memory_free(self->temporary);
    self->temporary = NULL;
    return true;
}

void output_discard(output *self)
{
    if (self->file && self->file != stdout)
        fclose(self->file);
    if (self->temporary) {
        wchar_t *wide = windows_wide(self->temporary);
        if (wide)
            DeleteFileW(wide);
        memory_free(wide);
        memory_free(self->temporary);
    }
    *self = (output){0};
}
