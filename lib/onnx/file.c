#include "onnx/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

/* Own words rather than strerror(): thread-safe and the same in every locale. */
static xai_status file_error(xai_error **error, const char *place, const char *name, int code)
{
    const char *why = code == ENOENT                    ? "no such file"
                      : code == EACCES || code == EPERM ? "permission denied"
                      : code == ELOOP        ? "is a symbolic link, which is not followed here"
                      : code == ENOTDIR      ? "a part of the path is not a folder"
                      : code == EISDIR       ? "is a folder, not a file"
                      : code == ENAMETOOLONG ? "the name is too long"
                      : code == EMFILE || code == ENFILE ? "too many open files"
                                                         : NULL;
    const xai_status status = code == ENOMEM ? XAI_ERROR_MEMORY : XAI_ERROR_FILE;
    if (code == ENOMEM)
        why = "not enough address space to map it";
    if (why)
        return error_set(error, status, place, "%s%s%s", name ? name : "", name ? ": " : "", why);
    return error_set(error, status, place, "%s%scannot be read (system error %d)", name ? name : "",
                     name ? ": " : "", code);
}

/* Map an open file; closes it in any case. */
static xai_status map_descriptor(int descriptor, const char *place, const char *name,
                                 file_view *out, xai_error **error)
{
    struct stat facts;
    xai_status status = XAI_OK;
    if (fstat(descriptor, &facts) != 0)
        status = file_error(error, place, name, errno);
    else if (S_ISDIR(facts.st_mode))
        status = file_error(error, place, name, EISDIR);
    else if (!S_ISREG(facts.st_mode))
        status = error_set(error, XAI_ERROR_FILE, place, "%s%snot a regular file", name ? name : "",
                           name ? ": " : "");
    else if (facts.st_size < 0 || (uintmax_t)facts.st_size > (uintmax_t)PTRDIFF_MAX)
        status = error_set(error, XAI_ERROR_FILE, place, "%s%stoo large to map", name ? name : "",
                           name ? ": " : "");
    else if (facts.st_size > 0) {
        void *bytes = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (bytes == MAP_FAILED)
            status = file_error(error, place, name, errno);
        else
            *out = (file_view){bytes, (size_t)facts.st_size};
    }
    close(descriptor);
    return status;
}

/* O_NONBLOCK: opening a FIFO must not wait for a writer. */
#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

xai_status file_map(const char *path, file_view *out, xai_error **error)
{
    *out = (file_view){0};
    const int descriptor = open(path, OPEN_FLAGS);
    if (descriptor < 0)
        return file_error(error, path, NULL, errno);
    return map_descriptor(descriptor, path, NULL, out, error);
}

xai_status file_map_beneath(const char *folder, const char *location, file_view *out,
                            xai_error **error)
{
    char name[NAME_MAX + 1];
    *out = (file_view){0};
    const xai_status allowed = file_location_check(location, error);
    if (allowed != XAI_OK)
        return allowed;
    int descriptor = open(*folder ? folder : ".", O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    if (descriptor < 0)
        return file_error(error, NULL, "folder of the model", errno);
    for (const char *part = location; *part;) {
        const size_t length = strcspn(part, "/");
        const bool last = part[length] == '\0';
        const char *current = part;
        part += length + (last ? 0 : 1);
        if (length > NAME_MAX) {
            close(descriptor);
            return file_error(error, NULL, location, ENAMETOOLONG);
        }
        if (length == 0 || (length == 1 && *current == '.'))
            continue;
        memcpy(name, current, length);
        name[length] = '\0';
        const int next =
            openat(descriptor, name, OPEN_FLAGS | O_NOFOLLOW | (last ? 0 : O_DIRECTORY));
        int code = errno;
        if (next < 0 && code == ENOTDIR) { /* what Linux says of a link opened as a folder */
            struct stat facts;
            if (fstatat(descriptor, name, &facts, AT_SYMLINK_NOFOLLOW) == 0 &&
                S_ISLNK(facts.st_mode))
                code = ELOOP;
        }
        close(descriptor);
        if (next < 0)
            return file_error(error, NULL, location, code);
        descriptor = next;
        if (last)
            return map_descriptor(descriptor, NULL, location, out, error);
    }
    close(descriptor); /* not reached: the check has found a last part */
    return file_error(error, NULL, location, EISDIR);
}

void file_unmap(file_view *self)
{
    if (self->bytes)
        munmap((void *)self->bytes, self->size);
    *self = (file_view){0};
}

void file_release_pages(const file_view *self)
{
    if (self->bytes)
        /* Advice: failing changes nothing. */
        (void)madvise((void *)self->bytes, self->size, MADV_DONTNEED);
}
