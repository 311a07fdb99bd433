/* Loads the xai.dll of an unpacked wheel as Python does: from its folder, every function by its name; then examples/gradcam.c runs through
 * the pointers. functions.h (FUNCTION(name) for each that cffi declares) and redirect.h (name -> api.name) are written by wheel.py.
 *
 *     load_wheel.exe FOLDER MODEL INPUT [LABEL] */
#include <stdio.h>
#include <windows.h>
#include <xai/xai.h>

static struct {
#define FUNCTION(name) __typeof__(&name) name;
#include "functions.h"
#undef FUNCTION
} api;

static const struct {
    const char *name;
    FARPROC *place;
} functions[] = {
#define FUNCTION(name) {#name, (FARPROC *)(void *)&api.name},
#include "functions.h"
#undef FUNCTION
};

static HMODULE load(const char *folder, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s\\%s", folder, name);
    HMODULE library = LoadLibraryExA(
        path, NULL, LOAD_LIBRARY_SEARCH_DEFAULT_DIRS | LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR);
    if (library == NULL)
        fprintf(stderr, "%s: error %lu\n", path, GetLastError());
    return library;
}

#include "redirect.h"
#define main explain
#include "gradcam.c"
#undef main

int main(int argc, char **argv)
{
    if (argc < 4 || load(argv[1], "dnnl.dll") == NULL)
        return 1;
    HMODULE library = load(argv[1], "xai.dll");
    size_t missing = 0, count = sizeof functions / sizeof *functions;
    for (size_t i = 0; library != NULL && i < count; i++) {
        *functions[i].place = GetProcAddress(library, functions[i].name);
        if (*functions[i].place == NULL && ++missing)
            fprintf(stderr, "xai.dll lacks %s\n", functions[i].name);
    }
    if (library == NULL || missing > 0)
        return 1;
    char math[128];
    xai_math_library(math, sizeof math);
    fprintf(stderr, "%u functions, libxai %s, interface %d, %s\n", (unsigned)count, xai_version(),
            (int)xai_abi_version(), math);
    return explain(argc - 1, argv + 1);
}
