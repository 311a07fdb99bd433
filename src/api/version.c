#include <stdio.h>
#include <string.h>

#include "engine/primitive.h"
#include "xai/version.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *xai_version(void)
{
    return TEXT(XAI_VERSION_MAJOR) "." TEXT(XAI_VERSION_MINOR) "." TEXT(XAI_VERSION_PATCH);
}

int32_t xai_abi_version(void)
{
    return 1;
}

size_t xai_math_library(char *out, size_t size)
{
    char version[16], name[32];
    snprintf(name, sizeof name, "%s%s", primitive_available() ? "oneDNN " : "",
             primitive_library_version(version));
    const size_t length = strlen(name);
    if (out != NULL && size > 0) {
        const size_t kept = length < size ? length : size - 1;
        memcpy(out, name, kept);
        out[kept] = '\0';
    }
    return length;
}
