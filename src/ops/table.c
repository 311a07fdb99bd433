/* The one table of operators. */
#include <string.h>

#include "ops/families.h"

#define OPERATOR_ADDRESS(name) &operator_##name,
static const operator_definition *const operators[] = {OPERATORS(OPERATOR_ADDRESS)};
#undef OPERATOR_ADDRESS

const operator_definition *const *operator_table(size_t *count)
{
    *count = sizeof operators / sizeof *operators;
    return operators;
}

const operator_definition *operator_find(const char *domain, const char *name)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (strcmp(operators[i]->name, name) == 0 && strcmp(operators[i]->domain, domain) == 0)
            return operators[i];
    return NULL;
}
