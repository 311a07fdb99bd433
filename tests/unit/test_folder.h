/* Temporary folders of tests, on every system. */
#ifndef TESTS_TEST_FOLDER_H
#define TESTS_TEST_FOLDER_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef _WIN32
#include <direct.h>
#define make_directory(path) _mkdir(path)
#else
#define make_directory(path) mkdir(path, 0700)
#endif

/* Make a folder of a new name and write its path. */
static inline bool make_test_folder(const char *name, char *path, size_t size)
{
#ifdef _WIN32
    const char *base = getenv("TEMP");
    static unsigned count;
    snprintf(path, size, "%.150s\\xai-%s-%d-%u", base && *base ? base : ".", name, (int)getpid(),
             count++);
    return make_directory(path) == 0;
#else
    const char *base = getenv("TMPDIR");
    snprintf(path, size, "%.150s/xai-%s-XXXXXX", base && *base ? base : "/tmp", name);
    return mkdtemp(path) != NULL;
#endif
}

#endif
