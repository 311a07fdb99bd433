#include <sys/resource.h>
#include <unistd.h>

#include "system.h"

FILE *system_open(const char *path, const char *mode)
{
    return fopen(path, mode);
}

bool system_arguments(int *count, char ***arguments)
{
    (void)count;
    (void)arguments;
    return true;
}

bool system_terminal(void)
{
    return isatty(STDERR_FILENO);
}

double system_peak_bytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (double)usage.ru_maxrss * 1024 : 0;
}
