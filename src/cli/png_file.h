/* PNG in and out, through libpng; and pictures: what a PNG holds, before a model sees it. */
#ifndef CLI_PNG_FILE_H
#define CLI_PNG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Pixels are (height, width, channels), gray or RGB, 0 to `white`. */
typedef struct picture {
    size_t height, width;
    int channels;   /* 1 or 3 */
    uint16_t white; /* 255 or 65535 */
    uint16_t *pixels;
} picture;

void picture_free(picture *self);

bool png_is(const void *bytes, size_t size);
/* Gray, RGB and palette, 1 to 16 bits, interlaced or not. Transparency is ignored. Reports failure;
 * `path` is for messages. */
bool png_read(const char *path, const void *bytes, size_t size, picture *out);
/* 8-bit RGB. Reports failure; `path` is for messages. */
bool png_write(const char *path, FILE *file, const uint8_t *pixels, size_t height, size_t width);

#endif
