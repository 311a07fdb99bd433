#include <fcntl.h>
#include <io.h>
#include <stdlib.h>
#include <windows.h>

#include <psapi.h>
#include <shellapi.h>

#include "base/memory.h"
#include "base/windows_text.h"
#include "system.h"

FILE *system_open(const char *path, const char *mode)
{
    return windows_open(path, mode);
}

bool system_arguments(int *count, char ***arguments)
{
    wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), count);
    char **narrow = wide ? memory_allocate_zeroed((size_t)*count + 1, sizeof *narrow) : NULL;
    bool done = narrow != NULL;
    for (int i = 0; done && i < *count; i++) {
        narrow[i] = windows_narrow(wide[i]);
        done = narrow[i] != NULL;
    }
    if (done)
        *arguments = narrow;
    LocalFree(wide);
    SetConsoleOutputCP(CP_UTF8);
    _setmode(_fileno(stdout), _O_BINARY); /* NPY and PNG may go there, and lines end as elsewhere */
    return done;
}

bool system_terminal(void)
{
    return _isatty(_fileno(stderr)) != 0;
}

double system_peak_bytes(void)
{
    PROCESS_MEMORY_COUNTERS counters;
    return GetProcessMemoryInfo(GetCurrentProcess(), &counters, sizeof counters)
               ? (double)counters.PeakWorkingSetSize
               : 0;
}
