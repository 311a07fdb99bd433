#include "png_file.h"

#include <errno.h>
#include <string.h>

#include <png.h>

#include "base/memory.h"
#include "cli.h"

/* More pixels than any radiograph has (a mammogram has some 15 million), so that a hostile file
 * cannot take all memory. */
static const size_t pixel_limit = (size_t)1 << 28;

void picture_free(picture *self)
{
    memory_free(self->pixels);
    *self = (picture){0};
}

bool png_is(const void *bytes, size_t size)
{
    return size >= 8 && png_sig_cmp(bytes, 0, 8) == 0;
}

/* What the callbacks of libpng need, and all that must survive its longjmp. */
typedef struct job {
    const unsigned char *at, *end; /* what is still to be read */
    unsigned char *raw;            /* (height, row_bytes) as libpng gives it */
    png_bytep *rows;
    char message[160];
} job;

static void on_error(png_structp png, png_const_charp message)
{
    job *self = png_get_error_ptr(png);
    if (!self->message[0])
        snprintf(self->message, sizeof self->message, "%s", message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void on_read(png_structp png, png_bytep out, size_t size)
{
    job *self = png_get_io_ptr(png);
    if (size > (size_t)(self->end - self->at))
        png_error(png, "it is cut short");
    memcpy(out, self->at, size);
    self->at += size;
}

/* Everything that may longjmp. */
static bool decode(png_structp png, png_infop info, job *self, picture *out)
{
    if (setjmp(png_jmpbuf(png)))
        return false;
    png_set_read_fn(png, self, on_read);
    png_set_user_limits(png, 65535, 65535);
    png_set_chunk_malloc_max(png, 1 << 24);
    png_read_info(png, info);
    if ((size_t)png_get_image_width(png, info) * png_get_image_height(png, info) > pixel_limit)
        png_error(png, "it has more than 268 million pixels");
    png_set_expand(png); /* palette to RGB, 1, 2 and 4 bits to 8 */
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);

    out->height = png_get_image_height(png, info);
    out->width = png_get_image_width(png, info);
    out->channels = png_get_channels(png, info);
    out->white = png_get_bit_depth(png, info) == 16 ? 65535 : 255;
    if (out->channels != 1 && out->channels != 3)
        png_error(png, "its pixels are neither gray nor RGB");
    const size_t row_bytes = png_get_rowbytes(png, info);
    self->raw = memory_allocate(out->height, row_bytes);
    self->rows = memory_allocate(out->height, sizeof *self->rows);
    out->pixels =
        memory_allocate(out->height * out->width, (size_t)out->channels * sizeof *out->pixels);
    if (!self->raw || !self->rows || !out->pixels)
        png_error(png, "out of memory");
    for (size_t y = 0; y < out->height; y++)
        self->rows[y] = self->raw + y * row_bytes;
    png_read_image(png, self->rows);
    png_read_end(png, NULL);
    return true;
}

bool png_read(const char *path, const void *bytes, size_t size, picture *out)
{
    job self = {.at = bytes, .end = (const unsigned char *)bytes + size};
    *out = (picture){0};
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &self, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    const bool done = info && decode(png, info, &self, out);
    if (done) {
        const size_t row = out->width * (size_t)out->channels;
        for (size_t i = 0; i < out->height * row; i++) {
            const unsigned char *at =
                self.rows[i / row] + (out->white == 255 ? i % row : 2 * (i % row));
            out->pixels[i] = out->white == 255 ? *at : (uint16_t)(at[0] << 8 | at[1]);
        }
    } else {
        report("cannot read %s: %s", path, self.message[0] ? self.message : "out of memory");
        picture_free(out);
    }
    png_destroy_read_struct(&png, &info, NULL);
    memory_free(self.raw);
    memory_free(self.rows);
    return done;
}

static bool encode(png_structp png, png_infop info, FILE *file, const uint8_t *pixels,
                   size_t height, size_t width)
{
    if (setjmp(png_jmpbuf(png)))
        return false;
    png_init_io(png, file);
    png_set_user_limits(png, 65535, 65535);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(png, 4);
    png_write_info(png, info);
    for (size_t y = 0; y < height; y++)
        png_write_row(png, pixels + y * width * 3);
    png_write_end(png, NULL);
    return true;
}

bool png_write(const char *path, FILE *file, const uint8_t *pixels, size_t height, size_t width)
{
    job self = {0};
    errno = 0;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &self, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    const bool done = info && encode(png, info, file, pixels, height, width);
    if (!done)
        report("cannot write %s: %s", path,
               errno             ? strerror(errno)
               : self.message[0] ? self.message
                                 : "out of memory");
    png_destroy_write_struct(&png, &info);
    return done;
}
