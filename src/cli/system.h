/* What the program asks of the system besides the C library: arguments and paths in UTF-8 on every system. */
#ifndef CLI_SYSTEM_H
#define CLI_SYSTEM_H

#include <stdbool.h>
#include <stdio.h>

/* As fopen(); `path` is UTF-8. */
FILE *system_open(const char *path, const char *mode);
/* The arguments of main() in UTF-8; they live as long as the program. False when out of memory. */
bool system_arguments(int *count, char ***arguments);
/* Whether standard error is a terminal. */
bool system_terminal(void);
/* The most memory that the process has had; 0 when not known. */
double system_peak_bytes(void);

#endif
