/* PNG without libpng, by zlib alone: for builds on systems that have none to link, such as Windows by mingw-w64. Gray and RGB,
 * with or without alpha (which is ignored), 8 or 16 bits, not interlaced; anything else is refused with its reason. */
#include <errno.h>
#include <string.h>

#include <zlib.h>

#include "base/memory.h"
#include "cli.h"
#include "png_file.h"

static const unsigned char signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
static const size_t pixel_limit = (size_t)1 << 28;

void picture_free(picture *self)
{
    memory_free(self->pixels);
    *self = (picture){0};
}

bool png_is(const void *bytes, size_t size)
{
    return size >= sizeof signature && memcmp(bytes, signature, sizeof signature) == 0;
}

/* What the header says, and the packed rows gathered from the IDAT chunks. */
typedef struct job {
    size_t height, width, samples, depth; /* samples of a pixel, alpha included; bytes of one */
    unsigned char *packed;
    size_t packed_size;
} job;

static size_t number(const unsigned char *at)
{
    return (size_t)at[0] << 24 | (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3];
}

static const char *read_header(job *self, const unsigned char *at, size_t length)
{
    static const unsigned char samples[7] = {1, 0, 3, 0, 2, 0, 4};
    if (length != 13)
        return "its header is damaged";
    self->width = number(at);
    self->height = number(at + 4);
    self->depth = at[8] / 8u;
    self->samples = at[9] < 7 ? samples[at[9]] : 0;
    if (self->width - 1 >= 65535 || self->height - 1 >= 65535)
        return "its width or height is not 1 to 65535";
    if (self->width * self->height > pixel_limit)
        return "it has more than 268 million pixels";
    if ((at[8] != 8 && at[8] != 16) || self->samples == 0 || at[10] != 0 || at[11] != 0 ||
        at[12] != 0)
        return "this program reads gray and RGB of 8 or 16 bits, not interlaced";
    return NULL;
}

/* Walk the chunks; NULL when all is well. */
static const char *read_chunks(job *self, const unsigned char *bytes, size_t size)
{
    bool ended = false;
    for (size_t at = sizeof signature; !ended;) {
        if (size - at < 12 || number(bytes + at) > size - at - 12)
            return "it is cut short";
        const size_t length = number(bytes + at);
        const unsigned char *kind = bytes + at + 4, *data = bytes + at + 8;
        if (crc32(crc32(0, NULL, 0), kind, (uInt)length + 4) != number(data + length))
            return "a checksum is wrong: it is damaged";
        const bool first = self->width == 0;
        if (first != (memcmp(kind, "IHDR", 4) == 0))
            return "its header is damaged";
        if (first) {
            const char *problem = read_header(self, data, length);
            if (problem)
                return problem;
            self->packed = memory_allocate(size, 1);
            if (!self->packed)
                return "out of memory";
        } else if (memcmp(kind, "IDAT", 4) == 0) {
            memcpy(self->packed + self->packed_size, data, length);
            self->packed_size += length;
        }
        ended = memcmp(kind, "IEND", 4) == 0;
        at += length + 12;
    }
    return NULL;
}

static int paeth(int left, int above, int corner)
{
    const int guess = left + above - corner;
    const int a = guess > left ? guess - left : left - guess;
    const int b = guess > above ? guess - above : above - guess;
    const int c = guess > corner ? guess - corner : corner - guess;
    return a <= b && a <= c ? left : b <= c ? above : corner;
}

/* Undo the filter of a row of `stride` bytes behind its filter byte; `above` is NULL in the first. */
static bool unfilter(unsigned char *row, const unsigned char *above, size_t stride, size_t step)
{
    unsigned char *at = row + 1;
    for (size_t i = 0; i < stride; i++) {
        const int left = i >= step ? at[i - step] : 0, up = above ? above[i + 1] : 0;
        const int corner = i >= step && above ? above[i + 1 - step] : 0;
        const int guess = *row == 0   ? 0
                          : *row == 1 ? left
                          : *row == 2 ? up
                          : *row == 3 ? (left + up) / 2
                                      : paeth(left, up, corner);
        at[i] = (unsigned char)(at[i] + guess);
    }
    return *row <= 4;
}

static const char *unpack(const job *self, picture *out)
{
    const size_t step = self->samples * self->depth, stride = self->width * step;
    uLongf length = (uLongf)((stride + 1) * self->height);
    const char *problem = NULL;
    unsigned char *raw =
        length == (stride + 1) * self->height ? memory_allocate(stride + 1, self->height) : NULL;
    *out = (picture){.height = self->height,
                     .width = self->width,
                     .channels = self->samples >= 3 ? 3 : 1,
                     .white = self->depth == 2 ? 65535 : 255};
    out->pixels =
        memory_allocate(self->height * self->width, (size_t)out->channels * sizeof *out->pixels);
    if (!raw || !out->pixels)
        problem = "out of memory";
    else if (uncompress(raw, &length, self->packed, (uLong)self->packed_size) != Z_OK ||
             length != (stride + 1) * self->height)
        problem = "its pixels are damaged";
    uint16_t *to = out->pixels;
    for (size_t y = 0; !problem && y < self->height; y++) {
        unsigned char *row = raw + y * (stride + 1);
        if (!unfilter(row, y ? row - stride - 1 : NULL, stride, step))
            problem = "it has an unknown filter";
        for (size_t x = 0; x < self->width; x++)
            for (size_t c = 0; c < (size_t)out->channels; c++) {
                const unsigned char *at = row + 1 + x * step + c * self->depth;
                *to++ = self->depth == 2 ? (uint16_t)(at[0] << 8 | at[1]) : *at;
            }
    }
    memory_free(raw);
    return problem;
}

bool png_read(const char *path, const void *bytes, size_t size, picture *out)
{
    job self = {0};
    *out = (picture){0};
    const char *problem = read_chunks(&self, bytes, size);
    if (!problem)
        problem = unpack(&self, out);
    memory_free(self.packed);
    if (!problem)
        return true;
    report("cannot read %s: %s", path, problem);
    picture_free(out);
    return false;
}

static bool put_number(FILE *file, size_t value)
{
    const unsigned char bytes[4] = {(unsigned char)(value >> 24), (unsigned char)(value >> 16),
                                    (unsigned char)(value >> 8), (unsigned char)value};
    return fwrite(bytes, 1, 4, file) == 4;
}

static bool put_chunk(FILE *file, const char *kind, const unsigned char *data, size_t length)
{
    uLong sum = crc32(crc32(0, NULL, 0), (const unsigned char *)kind, 4);
    if (length > 0) /* crc32() with NULL begins anew */
        sum = crc32(sum, data, (uInt)length);
    return put_number(file, length) && fwrite(kind, 1, 4, file) == 4 &&
           fwrite(data, 1, length, file) == length && put_number(file, sum);
}

bool png_write(const char *path, FILE *file, const uint8_t *pixels, size_t height, size_t width)
{
    const size_t stride = 3 * width + 1;
    uLongf length = compressBound((uLong)(stride * height));
    unsigned char *raw = memory_allocate(stride, height), *packed = memory_allocate(length, 1);
    bool done = raw && packed;
    errno = done ? 0 : ENOMEM;
    for (size_t y = 0; done && y < height; y++) {
        raw[y * stride] = 0; /* no filter */
        memcpy(raw + y * stride + 1, pixels + y * 3 * width, 3 * width);
    }
    done = done && compress2(packed, &length, raw, (uLong)(stride * height), 4) == Z_OK;
    const unsigned char header[13] = {0,
                                      0,
                                      (unsigned char)(width >> 8),
                                      (unsigned char)width,
                                      0,
                                      0,
                                      (unsigned char)(height >> 8),
                                      (unsigned char)height,
                                      8,
                                      2,
                                      0,
                                      0,
                                      0};
    done = done && fwrite(signature, 1, sizeof signature, file) == sizeof signature &&
           put_chunk(file, "IHDR", header, sizeof header) &&
           put_chunk(file, "IDAT", packed, length) && put_chunk(file, "IEND", header, 0);
    if (!done)
        report("cannot write %s: %s", path, errno ? strerror(errno) : "it could not be packed");
    memory_free(raw);
    memory_free(packed);
    return done;
}
