#include "values.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "cli.h"
#include "input.h"

/* "v.npy" and "patient" -> "v.patient.npy". NULL without memory. */
static char *path_of_part(const char *path, const char *name)
{
    const char *end = path + strlen(path);
    for (const char *c = path; *c != '\0'; c++)
        end = *c == '.' ? c : *c == '/' || *c == '\\' ? path + strlen(path) : end;
    const size_t before = (size_t)(end - path), length = strlen(name), behind = strlen(end);
    if (before > SIZE_MAX / 4 || length > SIZE_MAX / 4 || behind > SIZE_MAX / 4)
        return NULL;
    char *made = memory_allocate(before + 1 + length + behind + 1, 1);
    if (made == NULL)
        return NULL;
    memcpy(made, path, before);
    made[before] = '.';
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)name[i];
        made[before + 1 + i] = (char)((c < 128 && isalnum(c)) || c == '-' ? c : '_');
    }
    memcpy(made + before + 1 + length, end, behind + 1);
    return made;
}

/* The paths, no two alike. */
static bool find_paths(values_files *self, const char *first, const xai_explanation *result)
{
    for (size_t i = 0; i < self->count; i++) {
        self->paths[i] = path_of_part(first, xai_explanation_part_name(result, i + 1));
        if (self->paths[i] == NULL) {
            report("cannot write the values: out of memory");
            return false;
        }
        for (size_t j = 0; j < i; j++)
            if (strcmp(self->paths[i], self->paths[j]) == 0) {
                report("the values of two inputs would go to '%s'", self->paths[i]);
                return false;
            }
    }
    return true;
}

bool values_write(values_files *self, output *first, const xai_explanation *result,
                  const char *const *inputs)
{
    const size_t parts = xai_explanation_part_count(result);
    if (first->path == NULL)
        return true;
    if (!npy_write(first->path, first->file, xai_explanation_values(result)))
        return false;
    if (first->file == stdout) {
        bool written = true;
        for (size_t p = 1; written && p < parts; p++)
            written = npy_write("-", stdout, xai_explanation_part_values(result, p));
        return written;
    }
    const size_t count = parts > 1 ? parts - 1 : 0;
    self->files = memory_allocate_zeroed(count, sizeof *self->files);
    self->paths = memory_allocate_zeroed(count, sizeof *self->paths);
    if (self->files == NULL || self->paths == NULL) {
        report("cannot write the values: out of memory");
        return false;
    }
    self->count = count;
    if (!find_paths(self, first->path, result))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!output_open(&self->files[i], self->paths[i], inputs) ||
            !npy_write(self->paths[i], self->files[i].file,
                       xai_explanation_part_values(result, i + 1)))
            return false;
    return true;
}

bool values_finish(values_files *self)
{
    for (size_t i = 0; i < self->count; i++)
        if (!output_finish(&self->files[i]))
            return false;
    return true;
}

bool values_commit(values_files *self)
{
    for (size_t i = 0; i < self->count; i++)
        if (!output_commit(&self->files[i]))
            return false;
    return true;
}

void values_free(values_files *self)
{
    for (size_t i = 0; i < self->count; i++) {
        output_discard(&self->files[i]);
        memory_free(self->paths[i]);
    }
    memory_free(self->files);
    memory_free((void *)self->paths);
    *self = (values_files){0};
}
