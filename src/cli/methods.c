#include <stdio.h>
#include <string.h>

#include "cli.h"

int command_methods(int count, char **arguments)
{
    size_t positional;
    const char *method = NULL;
    const int code = arguments_parse("methods", count, arguments, NULL, 0, &method, 1, &positional);
    if (code != EXIT_OK)
        return code;
    bool known = !method;
    for (size_t i = 0; i < xai_method_count(); i++)
        known = known || strcmp(method, xai_method_name(i)) == 0;
    if (!known)
        return report_usage("methods", "no method named '%s'", method);
    for (size_t i = 0; i < xai_method_count(); i++)
        if (!method || strcmp(method, xai_method_name(i)) == 0)
            printf("%-20s %s\n", xai_method_name(i), xai_method_description(i));
    for (size_t i = 0; method && i < xai_method_option_count(method); i++)
        printf("  %-18s %s (default: %s)\n", xai_method_option_name(method, i),
               xai_method_option_description(method, i), xai_method_option_default(method, i));
    return EXIT_OK;
}
