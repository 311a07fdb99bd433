#include <stdio.h>

#include "cli.h"

int command_methods(int count, char **arguments)
{
    size_t positional;
    const int code = arguments_parse("methods", count, arguments, NULL, 0, NULL, 0, &positional);
    if (code != EXIT_OK)
        return code;
    for (size_t i = 0; i < xai_method_count(); i++)
        printf("%-12s %s\n", xai_method_name(i), xai_method_description(i));
    return EXIT_OK;
}
