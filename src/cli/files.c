#include "files.h"

#include <errno.h>
#include <string.h>

#include "base/memory.h"
#include "cli.h"
#include "system.h"

void *file_read(const char *path, size_t limit, size_t *size)
{
    unsigned char *bytes = NULL;
    size_t capacity = 0, length = 0;
    FILE *file = system_open(path, "rb");
    if (!file) {
        report("cannot read %s: %s", path, strerror(errno));
        return NULL;
    }
    for (;;) {
        if (length == capacity) {
            capacity = capacity ? 2 * capacity : 1 << 16;
            unsigned char *grown = memory_resize(bytes, capacity, 1);
            if (!grown) {
                report("cannot read %s: out of memory", path);
                goto failed;
            }
            bytes = grown;
        }
        const size_t got = fread(bytes + length, 1, capacity - length, file);
        length += got;
        if (length > limit) {
            report("cannot read %s: it has more than %zu bytes", path, limit);
            goto failed;
        }
        if (got == 0)
            break;
    }
    if (ferror(file)) {
        report("cannot read %s: %s", path, strerror(errno));
        goto failed;
    }
    fclose(file);
    *size = length;
    return bytes;
failed:
    fclose(file);
    memory_free(bytes);
    return NULL;
}

bool output_finish(output *self)
{
    if (!self->path)
        return true;
    bool written = !ferror(self->file) && fflush(self->file) == 0;
    int reason = errno;
    if (self->file != stdout) {
        const bool closed = fclose(self->file) == 0;
        reason = written ? errno : reason;
        written = written && closed;
        self->file = NULL;
    }
    if (!written)
        report("cannot write %s: %s", self->path, strerror(reason ? reason : EIO));
    return written;
}
