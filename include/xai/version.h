/**
 * @file
 * Versions of libxai. Every call here may be made from any thread at any time and cannot fail.
 */
#ifndef XAI_VERSION_H
#define XAI_VERSION_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Version of these headers; xai_version() tells that of the library which is loaded. @since 0.1 */
#define XAI_VERSION_MAJOR 0
#define XAI_VERSION_MINOR 1
#define XAI_VERSION_PATCH 0

/** @return the version of the library as text, "0.1.0"; static storage. @since 0.1 */
XAI_API const char *xai_version(void);

/**
 * The number of the binary interface (the number in the file name of the shared library). It grows
 * only when a program that was compiled against an older library would no longer run.
 * @return 1
 * @since 0.1
 */
XAI_API int32_t xai_abi_version(void);

/**
 * Name and version of the library that computes convolutions and matrix products, such as "oneDNN
 * 3.2.0"; "none" in a build that has only the portable kernels.
 *
 * @param out   receives NUL-terminated text, cut to `size` bytes; may be NULL when `size` is 0
 * @return the length of the whole text without its NUL
 * @since 0.1
 */
XAI_API size_t xai_math_library(char *out, size_t size);

#ifdef __cplusplus
}
#endif

#endif
