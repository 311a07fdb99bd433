/* lib/base: errors, memory, text, parallel loops. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sched.h>
#endif

#include "base/error.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/text.h"

START_TEST(error_carries_status_place_and_message)
{
    xai_error *error = NULL;
    ck_assert_int_eq(error_set(&error, XAI_ERROR_SHAPE, "node 'c' (Conv)", "%d values", 3),
                     XAI_ERROR_SHAPE);
    ck_assert_int_eq(xai_error_status(error), XAI_ERROR_SHAPE);
    ck_assert_str_eq(xai_error_place(error), "node 'c' (Conv)");
    ck_assert_str_eq(xai_error_message(error), "node 'c' (Conv): 3 values");
    xai_error_free(error);
    xai_error_free(NULL);
    ck_assert_int_eq(error_set(NULL, XAI_ERROR_FILE, NULL, "nobody listens"), XAI_ERROR_FILE);
}
END_TEST

START_TEST(first_error_is_kept)
{
    xai_error *error = NULL;
    error_set(&error, XAI_ERROR_FILE, NULL, "first");
    ck_assert_int_eq(error_set(&error, XAI_ERROR_SHAPE, NULL, "second"), XAI_ERROR_SHAPE);
    ck_assert_str_eq(xai_error_message(error), "first");
    ck_assert_str_eq(xai_error_place(error), "");
    error_clear(&error);
    ck_assert_ptr_null(error);
}
END_TEST

START_TEST(place_is_added_once)
{
    xai_error *error = NULL;
    error_set(&error, XAI_ERROR_FILE, NULL, "gone");
    error_add_place(&error, "m.onnx");
    error_add_place(&error, "outer");
    ck_assert_str_eq(xai_error_message(error), "m.onnx: gone");
    ck_assert_str_eq(xai_error_place(error), "m.onnx");
    error_clear(&error);
    error_add_place(&error, "nothing to add it to");
    ck_assert_ptr_null(error);
}
END_TEST

/* Names in messages come from files: terminal escapes, line breaks and broken UTF-8 must not
 * reach the user. */
START_TEST(message_is_one_line_of_valid_utf8)
{
    xai_error *error = NULL;
    error_set(&error, XAI_ERROR_FORMAT, "a\nb", "\x1b[31m Größe \xff \xc2\x9b");
    ck_assert_str_eq(xai_error_message(error), "a b: ?[31m Größe ? ??");
    error_clear(&error);
    char *huge = malloc(100001);
    memset(huge, 'x', 100000);
    huge[100000] = '\0';
    error_set(&error, XAI_ERROR_FORMAT, huge, "%s", huge);
    ck_assert_uint_le(strlen(xai_error_message(error)), 8192);
    ck_assert(text_is_utf8(xai_error_message(error), strlen(xai_error_message(error))));
    free(huge);
    error_clear(&error);
}
END_TEST

START_TEST(every_status_has_a_name)
{
    for (xai_status status = XAI_OK; status <= XAI_ERROR_INTERNAL; status++)
        ck_assert_str_ne(xai_status_name(status), "unknown status");
    ck_assert_str_eq(xai_status_name(-1), "unknown status");
    ck_assert_str_eq(xai_status_name(XAI_ERROR_INTERNAL + 1), "unknown status");
    ck_assert_str_eq(xai_status_name(XAI_ERROR_NOT_FOUND), "not found");
}
END_TEST

START_TEST(size_arithmetic_reports_overflow)
{
    size_t result = 7;
    ck_assert(!size_add(SIZE_MAX, 1, &result));
    ck_assert(!size_multiply((size_t)1 << 32, (size_t)1 << 32, &result));
    ck_assert_uint_eq(result, 7);
    ck_assert(size_multiply(SIZE_MAX, 0, &result));
    ck_assert_uint_eq(result, 0);
    ck_assert(size_add(SIZE_MAX - 1, 1, &result));
    ck_assert(result == SIZE_MAX);
}
END_TEST

START_TEST(impossible_allocations_give_null)
{
    ck_assert_ptr_null(memory_allocate(SIZE_MAX, 2));
    ck_assert_ptr_null(memory_allocate_zeroed(SIZE_MAX / 2, 1));
    ck_assert_ptr_null(memory_allocate_aligned(SIZE_MAX - 3));
    void *nothing = memory_allocate(0, 8);
    ck_assert_ptr_nonnull(nothing);
    memory_free(nothing);
    memory_free(NULL);
}
END_TEST

START_TEST(tensor_memory_is_64_byte_aligned)
{
    for (size_t bytes = 0; bytes < 200; bytes += 13) {
        void *block = memory_allocate_aligned(bytes);
        ck_assert_uint_eq((uintptr_t)block % 64, 0);
        memset(block, 1, bytes);
        memory_free(block);
    }
}
END_TEST

/* Large pages where the system has them: all bytes are there, and neighbours are untouched. */
START_TEST(large_blocks_hold_all_their_bytes)
{
    const size_t sizes[] = {((size_t)4 << 20) - 64, (size_t)4 << 20, ((size_t)4 << 20) + 1,
                            ((size_t)6 << 20) + 100};
    unsigned char *blocks[4];
    for (size_t i = 0; i < 4; i++) {
        blocks[i] = memory_allocate_aligned(sizes[i]);
        ck_assert_ptr_nonnull(blocks[i]);
        ck_assert_uint_eq((uintptr_t)blocks[i] % 64, 0);
        memset(blocks[i], (int)i + 1, sizes[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        for (size_t k = 0; k < sizes[i]; k++)
            if (blocks[i][k] != i + 1)
                ck_abort_msg("byte %zu of %zu", k, i);
        memory_free(blocks[i]);
    }
}
END_TEST

START_TEST(pool_blocks_are_zeroed_aligned_and_disjoint)
{
    memory_pool *pool = memory_pool_create();
    unsigned char *blocks[500];
    for (size_t i = 0; i < 500; i++) {
        const size_t size = i * i % 3001;
        blocks[i] = memory_pool_allocate(pool, size, 1);
        ck_assert_uint_eq((uintptr_t)blocks[i] % 16, 0);
        for (size_t k = 0; k < size; k++)
            ck_assert_uint_eq(blocks[i][k], 0);
        memset(blocks[i], (int)(i % 251 + 1), size);
    }
    for (size_t i = 0; i < 500; i++)
        for (size_t k = 0; k < i * i % 3001; k++)
            ck_assert_uint_eq(blocks[i][k], i % 251 + 1);
    ck_assert_ptr_nonnull(memory_pool_allocate(pool, 3, 1 << 20));
    ck_assert_ptr_null(memory_pool_allocate(pool, SIZE_MAX / 2, 4));
    ck_assert_str_eq(memory_pool_text(pool, "abcdef", 3), "abc");
    memory_pool_free(pool);
    memory_pool_free(NULL);
}
END_TEST

START_TEST(array_grows_and_keeps_its_items)
{
    int *items = NULL;
    size_t capacity = 0;
    for (int i = 0; i < 1000; i++) {
        ck_assert(array_reserve((void **)&items, &capacity, (size_t)i + 1, sizeof *items));
        items[i] = i;
    }
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(items[i], i);
    const size_t before = capacity;
    ck_assert(!array_reserve((void **)&items, &capacity, SIZE_MAX / 2, sizeof *items));
    ck_assert_uint_eq(capacity, before);
    memory_free(items);
}
END_TEST

START_TEST(text_grows_by_format_and_append)
{
    text out = {0};
    char long_word[600];
    memset(long_word, 'y', sizeof long_word - 1);
    long_word[sizeof long_word - 1] = '\0';
    text_append(&out, "a");
    text_format(&out, "%d-%s", 12, "b");
    text_format(&out, "%s", long_word);
    ck_assert_uint_eq(out.length, 5 + 599);
    char *bytes = text_take(&out);
    ck_assert_int_eq(strncmp(bytes, "a12-byyy", 8), 0);
    memory_free(bytes);
    bytes = text_take(&out);
    ck_assert_str_eq(bytes, "");
    memory_free(bytes);
}
END_TEST

START_TEST(json_text_is_escaped)
{
    text out = {0};
    text_append_json(&out, "q\" b\\ n\n \x01 \xff é");
    ck_assert_str_eq(out.bytes, "\"q\\\" b\\\\ n\\n \\u0001 \\ufffd é\"");
    text_free(&out);
}
END_TEST

START_TEST(utf8_check_refuses_overlong_surrogates_and_cut_off)
{
    static const char *const good[] = {"", "a", "é", "€", "\xf0\x9f\xa9\xbb", "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\xaf",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf0\x80\x80\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf8\x88\x80\x80\x80",
                                      "\xe2\x82",
                                      "a\xff"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(text_is_utf8(good[i], strlen(good[i])), "good %zu", i);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!text_is_utf8(bad[i], strlen(bad[i])), "bad %zu", i);
}
END_TEST

static void add_one(void *user, size_t begin, size_t end)
{
    int *items = user;
    for (size_t i = begin; i < end; i++)
        items[i]++;
}

START_TEST(parallel_ranges_cover_every_item_once)
{
    for (size_t count = 0; count < 40; count++)
        for (int threads = 0; threads <= 5; threads++) {
            int items[40] = {0};
            parallel_for(threads, count, add_one, items);
            for (size_t i = 0; i < 40; i++)
                ck_assert_int_eq(items[i], i < count);
        }
}
END_TEST

static void nested(void *user, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        parallel_for(4, 10, add_one, (int *)user + i * 10);
}

START_TEST(parallel_loops_nest)
{
    int items[80] = {0};
    parallel_for(3, 8, nested, items);
    for (size_t i = 0; i < 80; i++)
        ck_assert_int_eq(items[i], 1);
}
END_TEST

#ifdef __linux__
static void pin(void *processors, size_t begin, size_t end)
{
    (void)begin, (void)end;
    ck_assert_int_eq(sched_setaffinity(0, sizeof(cpu_set_t), processors), 0);
}

typedef struct affinities {
    cpu_set_t of[2];
    int processor[2];
} affinities;

static void look(void *user, size_t begin, size_t end)
{
    affinities *found = user;
    for (size_t i = begin; i < end; i++) {
        found->processor[i] = sched_getcpu();
        ck_assert_int_eq(sched_getaffinity(0, sizeof found->of[i], &found->of[i]), 0);
    }
}

/* Two threads begin on one processor; waking them leaves what each is allowed. */
START_TEST(waking_keeps_affinities)
{
    cpu_set_t all, one;
    affinities found = {0};
    ck_assert_int_eq(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (int i = CPU_SETSIZE; i-- > 0;)
        if (CPU_ISSET(i, &all)) {
            CPU_SET(i, &one);
            break;
        }
    for (int round = 0; round < 5; round++) {
        parallel_for(2, 2, pin, &one);
        parallel_wake(2); /* no other processor is allowed */
        parallel_for(2, 2, look, &found);
        for (int i = 0; i < 2; i++)
            ck_assert(CPU_EQUAL(&found.of[i], &one));
        parallel_for(2, 2, pin, &all);
        parallel_wake(2);
        parallel_for(2, 2, look, &found);
        for (int i = 0; i < 2; i++) {
            ck_assert(CPU_EQUAL(&found.of[i], &all));
            ck_assert(CPU_ISSET(found.processor[i], &all));
        }
    }
}
END_TEST
#endif

START_TEST(there_is_a_processor)
{
    ck_assert_int_ge(parallel_processors(), 1);
    ck_assert_int_le(parallel_processors(), 1 << 16);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base");
    TCase *tests = tcase_create("base");
    tcase_add_test(tests, error_carries_status_place_and_message);
    tcase_add_test(tests, first_error_is_kept);
    tcase_add_test(tests, place_is_added_once);
    tcase_add_test(tests, message_is_one_line_of_valid_utf8);
    tcase_add_test(tests, every_status_has_a_name);
    tcase_add_test(tests, size_arithmetic_reports_overflow);
    tcase_add_test(tests, impossible_allocations_give_null);
    tcase_add_test(tests, tensor_memory_is_64_byte_aligned);
    tcase_add_test(tests, large_blocks_hold_all_their_bytes);
    tcase_add_test(tests, pool_blocks_are_zeroed_aligned_and_disjoint);
    tcase_add_test(tests, array_grows_and_keeps_its_items);
    tcase_add_test(tests, text_grows_by_format_and_append);
    tcase_add_test(tests, json_text_is_escaped);
    tcase_add_test(tests, utf8_check_refuses_overlong_surrogates_and_cut_off);
    tcase_add_test(tests, parallel_ranges_cover_every_item_once);
    tcase_add_test(tests, parallel_loops_nest);
#ifdef __linux__
    tcase_add_test(tests, waking_keeps_affinities);
#endif
    tcase_add_test(tests, there_is_a_processor);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
