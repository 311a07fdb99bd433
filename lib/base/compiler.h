/* What differs between compilers. */
#ifndef BASE_COMPILER_H
#define BASE_COMPILER_H

/* The function formats like printf: argument `format` is the text, `first` the first value (from 1). With mingw-w64 the formats are those
 * of ISO C, which the build asks for (__USE_MINGW_ANSI_STDIO), not Microsoft's. */
#if defined(__MINGW32__) && !defined(__clang__)
#define PRINTF_LIKE(format, first) __attribute__((__format__(__gnu_printf__, format, first)))
#else
#define PRINTF_LIKE(format, first) __attribute__((__format__(__printf__, format, first)))
#endif

#endif
