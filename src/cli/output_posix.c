/* Files out on POSIX: written under another name, then renamed; a signal removes what is not finished. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli.h"
#include "files.h"

/* The temporary files that a signal must remove. */
enum { OPEN_LIMIT = 8 };
static char *volatile open_files[OPEN_LIMIT];

static void remove_and_end(int number)
{
    for (int i = 0; i < OPEN_LIMIT; i++)
        if (open_files[i])
            unlink(open_files[i]);
    signal(number, SIG_DFL);
    raise(number);
}

static void remember(char *path)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGXFSZ, SIGXCPU};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (signal(signals[i], remove_and_end) == SIG_IGN)
            signal(signals[i], SIG_IGN);
    for (int i = 0; i < OPEN_LIMIT; i++) {
        if (!open_files[i]) {
            open_files[i] = path;
            return;
        }
    }
}

static void forget(const char *path)
{
    for (int i = 0; i < OPEN_LIMIT; i++)
        if (open_files[i] == path)
            open_files[i] = NULL;
}

static bool same_file(const struct stat *a, const char *path)
{
    struct stat b;
    return stat(path, &b) == 0 && a->st_dev == b.st_dev && a->st_ino == b.st_ino;
}

/* A file beside `target`, with the permissions that a new file gets. */
static FILE *open_temporary(const char *target, char **temporary)
{
    const size_t size = strlen(target) + 16;
    char *name = memory_allocate(size, 1);
    if (!name) {
        errno = ENOMEM;
        return NULL;
    }
    snprintf(name, size, "%s.XXXXXX", target);
    const int descriptor = mkstemp(name);
    if (descriptor < 0) {
        memory_free(name);
        return NULL;
    }
    remember(name);
    const mode_t mask = umask(0);
    umask(mask);
    FILE *file = fchmod(descriptor, 0666 & ~mask) == 0 ? fdopen(descriptor, "wb") : NULL;
    if (!file) {
        const int reason = errno;
        close(descriptor);
        unlink(name);
        forget(name);
        memory_free(name);
        errno = reason;
        return NULL;
    }
    *temporary = name;
    return file;
}

bool output_open(output *self, const char *path, const char *const *inputs)
{
    struct stat status;
    *self = (output){.path = path};
    if (!path)
        return true;
    if (strcmp(path, "-") == 0) {
        self->file = stdout;
        return true;
    }
    const bool exists = stat(path, &status) == 0;
    for (; exists && *inputs; inputs++) {
        if (same_file(&status, *inputs)) {
            report("%s is also an input: it would be overwritten", path);
            return false;
        }
    }
    if (exists && S_ISDIR(status.st_mode)) {
        report("cannot write %s: it is a folder", path);
        return false;
    }
    if (exists && !S_ISREG(status.st_mode)) {
        self->file = fopen(path, "wb");
    } else {
        self->target = exists ? realpath(path, NULL) : strdup(path);
        if (self->target)
            self->file = open_temporary(self->target, &self->temporary);
    }
    if (self->file)
        return true;
    report("cannot write %s: %s", path, strerror(errno));
    output_discard(self);
    return false;
}

bool output_commit(output *self)
{
    if (!self->temporary)
        return true;
    if (rename(self->temporary, self->target) != 0) {
        report("cannot write %s: %s", self->path, strerror(errno));
        return false;
    }
    forget(self->temporary);
    memory_free(self->temporary);
    self->temporary = NULL;
    return true;
}

void output_discard(output *self)
{
    if (self->file && self->file != stdout)
        fclose(self->file);
    if (self->temporary) {
        unlink(self->temporary);
        forget(self->temporary);
        memory_free(self->temporary);
    }
    free(self->target); /* from realpath() or strdup() */
    *self = (output){0};
}
