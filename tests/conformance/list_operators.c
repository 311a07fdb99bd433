/* What the library's tables say about operators, for operators.py: reads "DOMAIN NAME" lines ("-" = the default domain) and
 * answers each with "absent", or "first-opset gradient", gradient being yes, no or import (an operator that the import
 * turns into others). */
#include <stdio.h>
#include <string.h>

#include "graph/import_ml.h"
#include "ops/operator.h"

int main(void)
{
    char domain[64], name[64];
    while (scanf("%63s %63s", domain, name) == 2) {
        const char *known = strcmp(domain, "-") == 0 ? "" : domain;
        const operator_definition *found = operator_find(known, name);
        const bool imported = !found;
        if (imported)
            found = import_ml_find(known, name);
        if (!found)
            puts("absent");
        else
            printf("%d %s\n", found->since, imported ? "import" : found->backward ? "yes" : "no");
    }
    return 0;
}
