/* Prepared weights: shared by contents and key, apart from one another, and gone when they fail. */
#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/network.h"
#include "model_builder.h"

#define SOURCES 40

typedef struct fixture {
    model_builder *builder;
    onnx_model *file;
    network *net;
} fixture;

static fixture make(void)
{
    static const int64_t dims[] = {1, 3};
    fixture self = {.builder = model_create(17)};
    xai_error *error = NULL;
    model_input(self.builder, "x", DTYPE_FLOAT, 2, dims);
    model_node(self.builder, "Relu", "x", "y");
    model_output(self.builder, "y");
    ck_assert_int_eq(network_create(model_graph(self.builder, &self.file), &self.net, &error),
                     XAI_OK);
    return self;
}

static void drop(fixture *self)
{
    network_free(self->net);
    onnx_model_free(self->file);
    model_free(self->builder);
}

/* From a few bytes to more than the largest slab, in no order, few of them multiples of 64. */
static size_t bytes_of(size_t i)
{
    static const size_t sizes[] = {4,       100,     65536,   1 << 20,  12,
                                   5000004, 3000000, 1048580, 17 << 20, 8};
    return sizes[i * 7 % 10] + 4 * (i / 10);
}

static xai_status fill(const void *user, const tensor *source, void *prepared, xai_error **error)
{
    (void)error;
    memset(prepared, (int)*(const float *)source->data, *(const size_t *)user);
    return XAI_OK;
}

static xai_status refuse(const void *user, const tensor *source, void *prepared, xai_error **error)
{
    (void)fill(user, source, prepared, error);
    return error_set(error, XAI_ERROR_UNSUPPORTED, NULL, "not these");
}

START_TEST(prepared_weights_lie_apart)
{
    fixture self = make();
    const unsigned char *made[SOURCES];
    float values[SOURCES];
    size_t total = 0;
    xai_error *error = NULL;
    for (size_t i = 0; i < SOURCES; i++) {
        const size_t bytes = bytes_of(i);
        values[i] = (float)(i + 1);
        const tensor source = {
            .dtype = DTYPE_FLOAT, .shape = shape_make(1, (int64_t[]){1}), .data = &values[i]};
        const void *out = NULL;
        /* One that fails on the way must not take the room of the next. */
        ck_assert_int_eq(
            network_weights(self.net, &source, "other", bytes, refuse, &bytes, &out, &error),
            XAI_ERROR_UNSUPPORTED);
        xai_error_free(error);
        error = NULL;
        ck_assert_int_eq(
            network_weights(self.net, &source, "key", bytes, fill, &bytes, &out, &error), XAI_OK);
        made[i] = out;
        total += bytes;
        ck_assert_uint_eq((uintptr_t)out % 64, 0);
    }
    for (size_t i = 0; i < SOURCES; i++)
        for (size_t k = 0; k < bytes_of(i); k++)
            if (made[i][k] != i + 1)
                ck_abort_msg("byte %zu of %zu was overwritten", k, i);
    ck_assert_uint_eq(network_weights_bytes(self.net), total);
    drop(&self);
}
END_TEST

START_TEST(equal_contents_and_keys_share)
{
    fixture self = make();
    const float value = 3, same = 3;
    const size_t bytes = 100;
    const tensor a = {.dtype = DTYPE_FLOAT,
                      .shape = shape_make(1, (int64_t[]){1}),
                      .data = (void *)&value},
                 b = {.dtype = DTYPE_FLOAT,
                      .shape = shape_make(1, (int64_t[]){1}),
                      .data = (void *)&same};
    const void *first = NULL, *second = NULL, *third = NULL;
    xai_error *error = NULL;
    ck_assert_int_eq(network_weights(self.net, &a, "key", bytes, fill, &bytes, &first, &error),
                     XAI_OK);
    ck_assert_int_eq(network_weights(self.net, &b, "key", bytes, fill, &bytes, &second, &error),
                     XAI_OK);
    ck_assert_int_eq(network_weights(self.net, &b, "other", bytes, fill, &bytes, &third, &error),
                     XAI_OK);
    ck_assert_ptr_eq(first, second);
    ck_assert_ptr_ne(first, third);
    ck_assert_uint_eq(network_weights_bytes(self.net), 2 * bytes);
    drop(&self);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("network");
    TCase *prepared = tcase_create("prepared weights");
    tcase_add_test(prepared, prepared_weights_lie_apart);
    tcase_add_test(prepared, equal_contents_and_keys_share);
    suite_add_tcase(suite, prepared);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
