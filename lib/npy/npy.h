/* NumPy's files: .npy (one array) and .npz (a zip of them). Bytes from a file are not trusted:
 * every size is checked against the bytes that are there. Nothing here opens a file or allocates,
 * but for zlib while an entry is unpacked. Calls that return text give NULL on success, or else why
 * the bytes were refused (static storage). */
#ifndef NPY_NPY_H
#define NPY_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NPY_MAX_RANK 8

/* An array inside the bytes of a .npy file. */
typedef struct npy_array {
    int32_t dtype;    /* numbered as in ONNX: 1 float32, 2 uint8, ... (tensor/tensor.h) */
    size_t item_size; /* bytes an element */
    int rank;
    int64_t dims[NPY_MAX_RANK];
    size_t count;       /* elements */
    bool fortran_order; /* first axis adjacent */
    bool big_endian;
    const unsigned char *data; /* count * item_size bytes inside the file, of any alignment */
} npy_array;

/* Read the header. Format versions 1 to 3; bool, signed and unsigned integers of 1 to 8 bytes,
 * float16, 32 and 64, of either byte order. Objects, strings, complex numbers and records are
 * refused. */
const char *npy_parse(const void *bytes, size_t size, npy_array *out);

/* The elements in row-major order and the machine's byte order: count * item_size bytes. */
void npy_copy(const npy_array *self, void *out);

/* A header (version 1, little endian, row-major) that the elements follow; a multiple of 64 bytes.
 */
#define NPY_HEADER_SIZE 384
/* Returns its length; 0 for a type that the format lacks (bfloat16) or a rank above NPY_MAX_RANK.
 */
size_t npy_header(int32_t dtype, int rank, const int64_t *dims, char out[NPY_HEADER_SIZE]);

/* An entry of a .npz file. */
typedef struct npz_entry {
    char name[128];           /* without ".npy" */
    size_t packed_size, size; /* bytes in the file; bytes of the .npy file */
    uint32_t crc;
    bool deflated;
    const unsigned char *packed;
} npz_entry;

/* Number of entries. */
const char *npz_count(const void *bytes, size_t size, size_t *count);
/* Entry `index`, from the zip's directory. Encrypted, split and 4 GiB entries are refused. */
const char *npz_find(const void *bytes, size_t size, size_t index, npz_entry *out);
/* Unpack into `out` (entry->size bytes); checks the length and the CRC. */
const char *npz_unpack(const npz_entry *entry, void *out);

#endif
