/* NPY and NPZ: what NumPy writes is read, what libxai writes NumPy would read, and damaged bytes
 * are refused. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "npy/npy.h"

/* A version 1 file with this dictionary and data; returns its length. */
static size_t make_file(unsigned char *file, const char *dictionary, const void *data, size_t size)
{
    const size_t length = strlen(dictionary);
    memcpy(file, "\x93NUMPY\x01\x00", 8);
    file[8] = (unsigned char)(length & 0xff);
    file[9] = (unsigned char)(length >> 8);
    memcpy(file + 10, dictionary, length);
    memcpy(file + 10 + length, data, size);
    return 10 + length + size;
}

static const char *parse(const char *dictionary, const void *data, size_t size, npy_array *array,
                         unsigned char *file)
{
    return npy_parse(file, make_file(file, dictionary, data, size), array);
}

START_TEST(what_is_written_is_read_back)
{
    const int64_t dims[] = {2, 3};
    const float values[] = {1, 2, 3, 4, 5, 6};
    char file[NPY_HEADER_SIZE + sizeof values];
    const size_t header = npy_header(1, 2, dims, file);
    ck_assert_uint_eq(header % 64, 0);
    memcpy(file + header, values, sizeof values);
    npy_array array;
    ck_assert_ptr_null(npy_parse(file, header + sizeof values, &array));
    ck_assert_int_eq(array.dtype, 1);
    ck_assert_int_eq(array.rank, 2);
    ck_assert_int_eq(array.dims[0], 2);
    ck_assert_int_eq(array.dims[1], 3);
    float copy[6];
    npy_copy(&array, copy);
    ck_assert_mem_eq(copy, values, sizeof values);
}
END_TEST

START_TEST(header_is_what_numpy_writes)
{
    char header[NPY_HEADER_SIZE];
    const int64_t dims[] = {5, 7, 9};
    static const struct {
        int32_t dtype;
        int rank;
        const char *text;
    } cases[] = {
        {1, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }"},
        {11, 3, "{'descr': '<f8', 'fortran_order': False, 'shape': (5, 7, 9), }"},
        {9, 0, "{'descr': '|b1', 'fortran_order': False, 'shape': (), }"},
        {2, 2, "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 7), }"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t length = npy_header(cases[i].dtype, cases[i].rank, dims, header);
        ck_assert_uint_eq(length, 128);
        ck_assert_mem_eq(header + 10, cases[i].text, strlen(cases[i].text));
        ck_assert_int_eq(header[length - 1], '\n');
        ck_assert_uint_eq((unsigned char)header[8], 118);
    }
}
END_TEST

START_TEST(longest_header_fits_and_is_read_back)
{
    int64_t dims[NPY_MAX_RANK];
    char file[NPY_HEADER_SIZE];
    npy_array array;
    for (int i = 0; i < NPY_MAX_RANK; i++)
        dims[i] = i == 0 ? 0 : INT64_MAX;
    const size_t length = npy_header(13, NPY_MAX_RANK, dims, file);
    ck_assert_uint_gt(length, 0);
    ck_assert_uint_le(length, NPY_HEADER_SIZE);
    ck_assert_ptr_null(npy_parse(file, length, &array));
    ck_assert_uint_eq(array.count, 0);
}
END_TEST

START_TEST(types_without_a_letter_have_no_header)
{
    char header[NPY_HEADER_SIZE];
    const int64_t dims[NPY_MAX_RANK + 1] = {0};
    ck_assert_uint_eq(npy_header(16, 1, dims, header), 0);
    ck_assert_uint_eq(npy_header(8, 1, dims, header), 0);
    ck_assert_uint_eq(npy_header(1, NPY_MAX_RANK + 1, dims, header), 0);
    ck_assert_uint_eq(npy_header(1, -1, dims, header), 0);
}
END_TEST

START_TEST(fortran_order_becomes_row_major)
{
    unsigned char file[256];
    npy_array array;
    const int16_t columns[] = {1, 4, 2, 5, 3, 6}, rows[] = {1, 2, 3, 4, 5, 6};
    ck_assert_ptr_null(parse("{'descr': '<i2', 'fortran_order': True, 'shape': (2, 3), }\n",
                             columns, 12, &array, file));
    ck_assert_int_eq(array.dtype, 5);
    int16_t copy[6];
    npy_copy(&array, copy);
    ck_assert_mem_eq(copy, rows, sizeof rows);
}
END_TEST

START_TEST(big_endian_becomes_the_byte_order_of_the_machine)
{
    unsigned char file[256];
    npy_array array;
    const unsigned char data[] = {0x01, 0x02, 0xff, 0xfe};
    ck_assert_ptr_null(parse("{'descr': '>u2', 'fortran_order': False, 'shape': (2,), }\n", data, 4,
                             &array, file));
    uint16_t copy[2];
    npy_copy(&array, copy);
    ck_assert_uint_eq(copy[0], 0x0102);
    ck_assert_uint_eq(copy[1], 0xfffe);
}
END_TEST

START_TEST(versions_two_and_three_have_a_longer_length)
{
    const char *dictionary = "{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}";
    for (unsigned char version = 1; version <= 4; version++) {
        unsigned char file[256] = "\x93NUMPY";
        file[6] = version;
        file[8] = (unsigned char)strlen(dictionary);
        const size_t begin = version == 1 ? 10 : 12;
        memcpy(file + begin, dictionary, strlen(dictionary));
        file[begin + strlen(dictionary)] = 200;
        npy_array array;
        const char *problem = npy_parse(file, begin + strlen(dictionary) + 1, &array);
        if (version == 4)
            ck_assert_str_eq(problem, "its format version is unknown");
        else
            ck_assert_ptr_null(problem);
    }
}
END_TEST

START_TEST(damaged_and_unusable_headers_are_refused)
{
    static const char *const dictionaries[] = {
        "",
        "{",
        "{}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}",
        "{'descr': '<c8', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<U4', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f3', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 2}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", /* only two elements are there */
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}",
    };
    unsigned char file[512];
    const float data[2] = {0};
    npy_array array;
    for (size_t i = 0; i < sizeof dictionaries / sizeof *dictionaries; i++)
        ck_assert_msg(parse(dictionaries[i], data, sizeof data, &array, file) != NULL, "%s",
                      dictionaries[i]);
}
END_TEST

/* Every prefix of a good file, in a block of exactly its size, so that a sanitizer sees any read
 * beyond it. */
START_TEST(every_cut_file_is_refused)
{
    unsigned char file[256];
    const float data[2] = {1, 2};
    npy_array array;
    const size_t size = make_file(
        file, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", data, sizeof data);
    ck_assert_ptr_null(npy_parse(file, size, &array));
    for (size_t length = 0; length < size; length++) {
        unsigned char *cut = malloc(length ? length : 1);
        memcpy(cut, file, length);
        ck_assert_ptr_nonnull(npy_parse(cut, length, &array));
        free(cut);
    }
}
END_TEST

/* numpy.savez_compressed(first=arange(6, int16).reshape(2, 3), second=float64(2.5)) */
static const unsigned char archive[] = {
    80,  75,  3,   4,   45,  0,   0,   0,   8,   0,   0,   0,   33,  0,   26,  78,  152, 126, 255,
    255, 255, 255, 255, 255, 255, 255, 9,   0,   20,  0,   102, 105, 114, 115, 116, 46,  110, 112,
    121, 1,   0,   16,  0,   140, 0,   0,   0,   0,   0,   0,   0,   82,  0,   0,   0,   0,   0,
    0,   0,   155, 236, 23,  234, 27,  16,  201, 200, 80,  198, 80,  173, 158, 146, 90,  156, 92,
    164, 110, 165, 160, 110, 147, 105, 164, 174, 163, 160, 158, 150, 95,  84,  82,  148, 152, 23,
    159, 95,  148, 146, 10,  18,  119, 75,  204, 41,  78,  5,   138, 23,  103, 36,  22,  164, 2,
    249, 26,  70,  58,  10,  198, 154, 58,  10,  181, 10,  100, 3,   46,  6,   6,   70,  6,   38,
    6,   102, 6,   22,  6,   86,  6,   0,   80,  75,  3,   4,   45,  0,   0,   0,   8,   0,   0,
    0,   33,  0,   53,  180, 58,  147, 255, 255, 255, 255, 255, 255, 255, 255, 10,  0,   20,  0,
    115, 101, 99,  111, 110, 100, 46,  110, 112, 121, 1,   0,   16,  0,   136, 0,   0,   0,   0,
    0,   0,   0,   71,  0,   0,   0,   0,   0,   0,   0,   155, 236, 23,  234, 27,  16,  201, 200,
    80,  198, 80,  173, 158, 146, 90,  156, 92,  164, 110, 165, 160, 110, 147, 102, 161, 174, 163,
    160, 158, 150, 95,  84,  82,  148, 152, 23,  159, 95,  148, 146, 10,  18,  119, 75,  204, 41,
    78,  5,   138, 23,  103, 36,  22,  164, 2,   249, 26,  154, 58,  10,  181, 10,  20,  1,   46,
    6,   48,  96,  113, 0,   0,   80,  75,  1,   2,   45,  3,   45,  0,   0,   0,   8,   0,   0,
    0,   33,  0,   26,  78,  152, 126, 82,  0,   0,   0,   140, 0,   0,   0,   9,   0,   0,   0,
    0,   0,   0,   0,   0,   0,   0,   0,   128, 1,   0,   0,   0,   0,   102, 105, 114, 115, 116,
    46,  110, 112, 121, 80,  75,  1,   2,   45,  3,   45,  0,   0,   0,   8,   0,   0,   0,   33,
    0,   53,  180, 58,  147, 71,  0,   0,   0,   136, 0,   0,   0,   10,  0,   0,   0,   0,   0,
    0,   0,   0,   0,   0,   0,   128, 1,   141, 0,   0,   0,   115, 101, 99,  111, 110, 100, 46,
    110, 112, 121, 80,  75,  5,   6,   0,   0,   0,   0,   2,   0,   2,   0,   111, 0,   0,   0,
    16,  1,   0,   0,   0,   0,
};

START_TEST(npz_entries_of_numpy_are_unpacked)
{
    size_t count;
    npz_entry entry;
    npy_array array;
    unsigned char file[256];
    ck_assert_ptr_null(npz_count(archive, sizeof archive, &count));
    ck_assert_uint_eq(count, 2);

    ck_assert_ptr_null(npz_find(archive, sizeof archive, 0, &entry));
    ck_assert_str_eq(entry.name, "first");
    ck_assert_uint_le(entry.size, sizeof file);
    ck_assert_ptr_null(npz_unpack(&entry, file));
    ck_assert_ptr_null(npy_parse(file, entry.size, &array));
    int16_t numbers[6];
    ck_assert_uint_eq(array.count, 6);
    npy_copy(&array, numbers);
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(numbers[i], i);

    ck_assert_ptr_null(npz_find(archive, sizeof archive, 1, &entry));
    ck_assert_str_eq(entry.name, "second");
    ck_assert_ptr_null(npz_unpack(&entry, file));
    ck_assert_ptr_null(npy_parse(file, entry.size, &array));
    double number;
    ck_assert_int_eq(array.rank, 0);
    npy_copy(&array, &number);
    ck_assert_double_eq(number, 2.5);

    ck_assert_ptr_nonnull(npz_find(archive, sizeof archive, 2, &entry));
}
END_TEST

START_TEST(npz_with_a_wrong_checksum_is_refused)
{
    unsigned char damaged[sizeof archive], file[256];
    npz_entry entry;
    memcpy(damaged, archive, sizeof archive);
    ck_assert_ptr_null(npz_find(damaged, sizeof damaged, 0, &entry));
    entry.crc ^= 1;
    ck_assert_str_eq(npz_unpack(&entry, file), "its checksum is wrong");
}
END_TEST

/* Any byte of the archive set to any of a few values: refused, or unpacked within the bounds it
 * names. */
START_TEST(damaged_npz_never_reads_or_writes_out_of_bounds)
{
    static const unsigned char values[] = {0, 1, 0x7f, 0x80, 0xff};
    for (size_t at = 0; at < sizeof archive; at++) {
        for (size_t v = 0; v < sizeof values; v++) {
            unsigned char *damaged = malloc(sizeof archive);
            memcpy(damaged, archive, sizeof archive);
            damaged[at] = values[v];
            for (size_t index = 0; index < 3; index++) {
                npz_entry entry;
                if (npz_find(damaged, sizeof archive, index, &entry) != NULL)
                    continue;
                ck_assert_uint_lt(entry.size, 1 << 20);
                unsigned char *file = malloc(entry.size ? entry.size : 1);
                npy_array array;
                if (npz_unpack(&entry, file) == NULL)
                    npy_parse(file, entry.size, &array);
                free(file);
            }
            free(damaged);
        }
    }
    for (size_t length = 0; length < sizeof archive; length++) {
        unsigned char *cut = malloc(length ? length : 1);
        size_t count;
        memcpy(cut, archive, length);
        ck_assert_ptr_nonnull(npz_count(cut, length, &count));
        free(cut);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("npy");
    TCase *tests = tcase_create("npy");
    tcase_add_test(tests, what_is_written_is_read_back);
    tcase_add_test(tests, header_is_what_numpy_writes);
    tcase_add_test(tests, longest_header_fits_and_is_read_back);
    tcase_add_test(tests, types_without_a_letter_have_no_header);
    tcase_add_test(tests, fortran_order_becomes_row_major);
    tcase_add_test(tests, big_endian_becomes_the_byte_order_of_the_machine);
    tcase_add_test(tests, versions_two_and_three_have_a_longer_length);
    tcase_add_test(tests, damaged_and_unusable_headers_are_refused);
    tcase_add_test(tests, every_cut_file_is_refused);
    tcase_add_test(tests, npz_entries_of_numpy_are_unpacked);
    tcase_add_test(tests, npz_with_a_wrong_checksum_is_refused);
    tcase_add_test(tests, damaged_npz_never_reads_or_writes_out_of_bounds);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
