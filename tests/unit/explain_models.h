/* Models and calls shared by the tests of explainers, sessions and handles. */
#ifndef TESTS_EXPLAIN_MODELS_H
#define TESTS_EXPLAIN_MODELS_H

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "model_builder.h"
#include "xai/xai.h"

#define ck_ok(call)                                                   \
    do {                                                              \
        xai_error *ck_error = NULL;                                   \
        xai_error **error = &ck_error;                                \
        const xai_status ck_status = (call);                          \
        ck_assert_msg(ck_status == XAI_OK, "%s: %s", #call,           \
                      ck_error != NULL ? xai_error_message(ck_error)  \
                                       : xai_status_name(ck_status)); \
    } while (0)

/* The call fails with this status, and its message holds `part`. */
#define ck_fails(call, wanted, part)                                                      \
    do {                                                                                  \
        xai_error *ck_error = NULL;                                                       \
        xai_error **error = &ck_error;                                                    \
        const xai_status ck_status = (call);                                              \
        ck_assert_int_eq(ck_status, wanted);                                              \
        ck_assert_ptr_nonnull(ck_error);                                                  \
        ck_assert_msg(strstr(xai_error_message(ck_error), part) != NULL, "%s lacks '%s'", \
                      xai_error_message(ck_error), part);                                 \
        xai_error_free(ck_error);                                                         \
    } while (0)

static inline xai_model *open_built(model_builder *built)
{
    size_t size = 0;
    const void *bytes = model_bytes(built, &size);
    xai_model *model = NULL;
    ck_ok(xai_model_parse(bytes, size, &model, error));
    model_free(built);
    return model;
}

/* BasicModel_ConvNet_One_Conv of Captum's tests, whose weights are set by hand:
 *   x (N, 1, 4, 4) -> conv1 (N, 2, 2, 2) -> relu1 -> fc1 (N, 4) -> `final` -> y
 * conv1 sums 3x3 windows, minus 50 and 75; row 0 of fc1 is (1 1 1 1  1 -1 -1 -1). Unlike there,
 * the other rows differ: row 1 = -1 everywhere, row 2 = 0 everywhere, row 3 = 1 everywhere.
 * `final` is an operator or NULL. */
static inline model_builder *convnet_builder(const char *final)
{
    static const int64_t image[] = {-1, 1, 4, 4}, kernel[] = {2, 1, 3, 3}, two[] = {2},
                         matrix[] = {4, 8}, four[] = {4};
    static const float conv_bias[] = {-50, -75}, zeros[4] = {0};
    float weights[4][8] = {{1, 1, 1, 1, 1, -1, -1, -1}};
    for (int i = 0; i < 8; i++) {
        weights[1][i] = -1;
        weights[3][i] = 1;
    }
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 4, image);
    model_fill(m, "conv1.weight", 4, kernel, 1);
    model_floats(m, "conv1.bias", 1, two, conv_bias);
    model_floats(m, "fc1.weight", 2, matrix, weights[0]);
    model_floats(m, "fc1.bias", 1, four, zeros);
    model_node(m, "Conv", "x conv1.weight conv1.bias", "conv1");
    model_node_name(m, "node_conv1");
    model_node(m, "Relu", "conv1", "relu1");
    model_node(m, "Flatten", "relu1", "flat");
    model_node(m, "Gemm", "flat fc1.weight fc1.bias", final != NULL ? "fc1" : "y");
    model_int_attribute(m, "transB", 1);
    if (final != NULL)
        model_node(m, final, "fc1", "y");
    model_output(m, "y");
    return m;
}

static inline xai_model *convnet(const char *final)
{
    return open_built(convnet_builder(final));
}

/* (rows, 1, 4, 4): 0, 1, ..., 15, and `step` more in every further row. */
static inline xai_tensor *ramp(size_t rows, float step)
{
    const int64_t dims[] = {(int64_t)rows, 1, 4, 4};
    xai_tensor *out = NULL;
    ck_ok(xai_tensor_create(XAI_DTYPE_FLOAT32, 4, dims, NULL, &out, error));
    float *values = xai_tensor_mutable_data(out);
    for (size_t i = 0; i < rows * 16; i++)
        values[i] = (float)(i % 16) + step * (float)(i / 16);
    return out;
}

static inline const float *floats_of(const xai_tensor *self)
{
    ck_assert_ptr_nonnull(self);
    ck_assert_int_eq(xai_tensor_dtype(self), XAI_DTYPE_FLOAT32);
    return xai_tensor_data(self);
}

static inline void assert_dims(const xai_tensor *self, int rank, const int64_t *dims)
{
    ck_assert_ptr_nonnull(self);
    ck_assert_int_eq(xai_tensor_rank(self), rank);
    for (int axis = 0; axis < rank; axis++)
        ck_assert_int_eq(xai_tensor_dims(self)[axis], dims[axis]);
}

static inline void assert_values(const xai_tensor *self, size_t count, const double *expected,
                                 double tolerance)
{
    ck_assert_uint_eq(xai_tensor_count(self), count);
    const float *values = floats_of(self);
    for (size_t i = 0; i < count; i++)
        ck_assert_double_eq_tol(values[i], expected[i], tolerance);
}

static inline void assert_same_bits(const xai_tensor *a, size_t a_begin, const xai_tensor *b,
                                    size_t b_begin, size_t count)
{
    ck_assert_mem_eq(floats_of(a) + a_begin, floats_of(b) + b_begin, count * sizeof(float));
}

static inline xai_target *target_index(int64_t index)
{
    xai_target *target = NULL;
    ck_ok(xai_target_create(&target, error));
    ck_ok(xai_target_add_index(target, index, error));
    return target;
}

/* An explainer with a layer (NULL = the default) and a score kind. */
static inline xai_explainer *make_explainer(xai_model *model, const char *method, const char *layer,
                                            int32_t score)
{
    xai_explainer_options *options = NULL;
    xai_explainer *out = NULL;
    ck_ok(xai_explainer_options_create(&options, error));
    ck_ok(xai_explainer_options_set_layer(options, layer, error));
    ck_ok(xai_explainer_options_set_score(options, score, error));
    ck_ok(xai_explainer_create(model, method, options, &out, error));
    xai_explainer_options_free(options);
    return out;
}

static inline int run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}

#endif
