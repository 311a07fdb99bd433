#include "cases.h"

const gradient_case gradient_cases_b[] = {
    {.op = NULL},
};
