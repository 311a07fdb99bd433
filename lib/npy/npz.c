#include "npy/npy.h"

#include <limits.h>
#include <string.h>

#include <zlib.h>

#include "base/memory.h"

/* Sizes of the fixed parts of a zip's records, in bytes. */
enum { LOCAL_HEADER = 30, DIRECTORY_ENTRY = 46, DIRECTORY_END = 22, LONGEST_COMMENT = 65535 };

static uint32_t read16(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static uint32_t read32(const unsigned char *at)
{
    return read16(at) | read16(at + 2) << 16;
}

/* The directory's bytes and number of entries, from the record at the end of the file. */
static const char *find_directory(const unsigned char *file, size_t size,
                                  const unsigned char **begin, const unsigned char **end,
                                  size_t *count)
{
    if (size < DIRECTORY_END)
        return "it is not an NPZ file";
    const size_t oldest =
        size > DIRECTORY_END + LONGEST_COMMENT ? size - DIRECTORY_END - LONGEST_COMMENT : 0;
    for (size_t at = size - DIRECTORY_END;; at--) {
        const unsigned char *record = file + at;
        if (read32(record) == 0x06054b50 && read16(record + 20) == size - at - DIRECTORY_END) {
            const size_t length = read32(record + 12), offset = read32(record + 16);
            *count = read16(record + 10);
            if (read16(record + 4) != 0 || read16(record + 8) != *count || *count == 0xffff ||
                offset == 0xffffffff)
                return "it is a split or 64-bit zip, which is not read";
            if (offset > at || length > at - offset)
                return "its directory is damaged";
            *begin = file + offset;
            *end = *begin + length;
            return NULL;
        }
        if (at == oldest)
            return "it is not an NPZ file";
    }
}

const char *npz_count(const void *bytes, size_t size, size_t *count)
{
    const unsigned char *begin, *end;
    return find_directory(bytes, size, &begin, &end, count);
}

static const char *read_entry(const unsigned char *file, size_t size, const unsigned char *entry,
                              npz_entry *out)
{
    const size_t name_length = read16(entry + 28), offset = read32(entry + 42);
    const uint32_t method = read16(entry + 10);
    *out = (npz_entry){
        .crc = read32(entry + 16), .packed_size = read32(entry + 20), .size = read32(entry + 24)};
    if (read16(entry + 8) & 1)
        return "it is encrypted";
    if (method != 0 && method != 8)
        return "it is compressed in a way other than deflate";
    out->deflated = method == 8;
    if (out->packed_size == 0xffffffff || out->size == 0xffffffff || offset == 0xffffffff)
        return "it has an entry of 4 GiB or more";
    size_t kept = name_length;
    if (kept > 4 && memcmp(entry + DIRECTORY_ENTRY + kept - 4, ".npy", 4) == 0)
        kept -= 4;
    if (kept >= sizeof out->name || memchr(entry + DIRECTORY_ENTRY, 0, kept))
        return "an entry has an unusable name";
    memcpy(out->name, entry + DIRECTORY_ENTRY, kept);
    if (offset > size || size - offset < LOCAL_HEADER || read32(file + offset) != 0x04034b50)
        return "its directory is damaged";
    const size_t skip =
        LOCAL_HEADER + (size_t)read16(file + offset + 26) + read16(file + offset + 28);
    if (skip > size - offset || out->packed_size > size - offset - skip)
        return "it is cut short";
    if (!out->deflated && out->packed_size != out->size)
        return "its directory is damaged";
    /* Deflate packs at most 1032 to 1: a larger claim is false, and not worth allocating. */
    if (out->size / 1040 > out->packed_size)
        return "its directory is damaged";
    out->packed = file + offset + skip;
    return NULL;
}

const char *npz_find(const void *bytes, size_t size, size_t index, npz_entry *out)
{
    const unsigned char *at, *end;
    size_t count;
    const char *problem = find_directory(bytes, size, &at, &end, &count);
    if (problem)
        return problem;
    if (index >= count)
        return "it has no such entry";
    for (size_t i = 0;; i++) {
        if (end - at < DIRECTORY_ENTRY || read32(at) != 0x02014b50)
            return "its directory is damaged";
        const size_t length =
            DIRECTORY_ENTRY + (size_t)read16(at + 28) + read16(at + 30) + read16(at + 32);
        if (length > (size_t)(end - at))
            return "its directory is damaged";
        if (i == index)
            return read_entry(bytes, size, at, out);
        at += length;
    }
}

static void *inflate_allocate(void *user, unsigned count, unsigned size)
{
    (void)user;
    return memory_allocate(count, size);
}

static void inflate_free(void *user, void *block)
{
    (void)user;
    memory_free(block);
}

const char *npz_unpack(const npz_entry *entry, void *out)
{
    if (!entry->deflated) {
        memcpy(out, entry->packed, entry->size);
    } else {
        /* Entries are below 4 GiB, so their sizes fit zlib's unsigned counters. */
        z_stream stream = {.zalloc = inflate_allocate,
                           .zfree = inflate_free,
                           .next_in = (z_const Bytef *)entry->packed,
                           .avail_in = (uInt)entry->packed_size,
                           .next_out = out,
                           .avail_out = (uInt)entry->size};
        if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
            return "out of memory";
        const int result = inflate(&stream, Z_FINISH);
        const bool whole = result == Z_STREAM_END && stream.avail_out == 0;
        inflateEnd(&stream);
        if (result == Z_MEM_ERROR)
            return "out of memory";
        if (!whole)
            return "its compressed data is damaged";
    }
    if (crc32(0, out, (uInt)entry->size) != entry->crc)
        return "its checksum is wrong";
    return NULL;
}
