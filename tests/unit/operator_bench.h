/* One operator call from literals, for tests of operators by hand-computed numbers. */
#ifndef UNIT_OPERATOR_BENCH_H
#define UNIT_OPERATOR_BENCH_H

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/operator.h"

#define BENCH_PORTS 6
#define BENCH_ATTRIBUTES 10
#define BENCH_PLACE "node 'n' (Op)"

typedef struct operator_bench {
    operator_call call;
    tensor inputs[BENCH_PORTS], outputs[BENCH_PORTS];
    const tensor *input_pointers[BENCH_PORTS];
    tensor *output_pointers[BENCH_PORTS];
    onnx_attribute attributes[BENCH_ATTRIBUTES];
    int64_t integers[BENCH_ATTRIBUTES][2 * SHAPE_MAX_RANK];
    xai_error *error;
} operator_bench;

#define COUNT(type, ...) (sizeof((const type[]){__VA_ARGS__}) / sizeof(type))
/* Arguments: a shape, and values. */
#define DIMS(...)                                       \
    (int)COUNT(int64_t, __VA_ARGS__), (const int64_t[]) \
    {                                                   \
        __VA_ARGS__                                     \
    }
#define SCALAR           \
    0, (const int64_t[]) \
    {                    \
        0                \
    }
#define NUMBERS(...) \
    (const double[]) \
    {                \
        __VA_ARGS__  \
    }
#define INTS(...)                                  \
    COUNT(int64_t, __VA_ARGS__), (const int64_t[]) \
    {                                              \
        __VA_ARGS__                                \
    }

static inline operator_bench *bench_make(const char *op, int opset)
{
    operator_bench *b = calloc(1, sizeof *b);
    ck_assert_ptr_nonnull(b);
    b->call = (operator_call){.definition = operator_find("", op),
                              .attributes = b->attributes,
                              .opset = opset,
                              .output_count = 1,
                              .inputs = b->input_pointers,
                              .outputs = b->output_pointers,
                              .place = BENCH_PLACE,
                              .error = &b->error};
    ck_assert_msg(b->call.definition != NULL, "no operator %s", op);
    for (int i = 0; i < BENCH_PORTS; i++)
        b->output_pointers[i] = &b->outputs[i];
    return b;
}

static inline void bench_free(operator_bench *b)
{
    for (int i = 0; i < BENCH_PORTS; i++) {
        tensor_free(&b->inputs[i]);
        tensor_free(&b->outputs[i]);
    }
    xai_error_free(b->error);
    free(b);
}

/* The next input; values NULL = 1, 2, 3, ... */
static inline void bench_input(operator_bench *b, int32_t dtype, int rank, const int64_t *dims,
                               const double *values)
{
    const shape made = shape_make(rank, dims);
    tensor *input = &b->inputs[b->call.input_count];
    ck_assert_int_lt(b->call.input_count, BENCH_PORTS);
    ck_assert_int_eq(tensor_create(input, dtype, &made, NULL), XAI_OK);
    for (size_t i = 0; i < tensor_count(input); i++)
        tensor_set(input, i, values ? values[i] : (double)(i + 1));
    b->input_pointers[b->call.input_count++] = input;
}

/* The next input: a list of int64. */
static inline void bench_integers(operator_bench *b, size_t count, const int64_t *values)
{
    const shape made = shape_make(1, (const int64_t[]){(int64_t)count});
    tensor *input = &b->inputs[b->call.input_count];
    ck_assert_int_eq(tensor_create(input, DTYPE_INT64, &made, NULL), XAI_OK);
    for (size_t i = 0; i < count; i++)
        tensor_set_int(input, i, values[i]);
    b->input_pointers[b->call.input_count++] = input;
}

/* An input of a shape that no memory has to hold: for infer alone. */
static inline void bench_shape(operator_bench *b, int32_t dtype, int rank, const int64_t *dims)
{
    tensor *input = &b->inputs[b->call.input_count];
    *input = (tensor){.dtype = dtype, .shape = shape_make(rank, dims)};
    b->input_pointers[b->call.input_count++] = input;
}

static inline onnx_attribute *bench_attribute(operator_bench *b, const char *name, int32_t type)
{
    onnx_attribute *made = &b->attributes[b->call.attribute_count++];
    ck_assert_uint_le(b->call.attribute_count, BENCH_ATTRIBUTES);
    *made = (onnx_attribute){.name = name, .type = type};
    return made;
}

static inline void bench_int(operator_bench *b, const char *name, int64_t value)
{
    bench_attribute(b, name, ONNX_ATTRIBUTE_INT)->i = value;
}

static inline void bench_text(operator_bench *b, const char *name, const char *value)
{
    bench_attribute(b, name, ONNX_ATTRIBUTE_STRING)->s = value;
}

static inline void bench_ints(operator_bench *b, const char *name, size_t count,
                              const int64_t *values)
{
    int64_t *kept = b->integers[b->call.attribute_count];
    onnx_attribute *made = bench_attribute(b, name, ONNX_ATTRIBUTE_INTS);
    memcpy(kept, values, count * sizeof *kept);
    made->count = count;
    made->ints = kept;
}

static inline void bench_run(operator_bench *b)
{
    const xai_status inferred = b->call.definition->infer(&b->call);
    ck_assert_msg(inferred == XAI_OK, "infer: %s",
                  b->error ? xai_error_message(b->error) : "no message");
    for (int i = 0; i < b->call.output_count; i++) {
        const shape dims = b->outputs[i].shape;
        ck_assert_int_eq(tensor_create(&b->outputs[i], b->outputs[i].dtype, &dims, NULL), XAI_OK);
    }
    const xai_status ran = b->call.definition->forward(&b->call);
    ck_assert_msg(ran == XAI_OK, "forward: %s",
                  b->error ? xai_error_message(b->error) : "no message");
}

/* Output i has this shape and these values. */
static inline void bench_expect(const operator_bench *b, int i, int rank, const int64_t *dims,
                                const double *values)
{
    char given[SHAPE_TEXT_SIZE], wanted[SHAPE_TEXT_SIZE];
    const shape expected = shape_make(rank, dims);
    ck_assert_str_eq(shape_text(&b->outputs[i].shape, given), shape_text(&expected, wanted));
    for (size_t k = 0; k < tensor_count(&b->outputs[i]); k++) {
        const double value = tensor_get(&b->outputs[i], k);
        /* float32 rounding of numbers of order 10 */
        ck_assert_msg(value == values[k] || fabs(value - values[k]) <= 1e-5,
                      "element %zu is %.9g instead of %.9g", k, value, values[k]);
    }
}

/* infer fails with this status and exactly this message, and the bench is freed. */
static inline void bench_refuses(operator_bench *b, xai_status status, const char *message)
{
    ck_assert_int_eq(b->call.definition->infer(&b->call), status);
    ck_assert_ptr_nonnull(b->error);
    ck_assert_str_eq(xai_error_message(b->error), message);
    bench_free(b);
}

/* The gradient of input `wanted` for the gradient `given` (one number an element) of output 0. */
static inline void bench_gradient(operator_bench *b, int wanted, const double *given,
                                  const double *expected)
{
    tensor slopes, result;
    tensor *wanted_pointers[BENCH_PORTS] = {0};
    const tensor *given_pointers[BENCH_PORTS] = {&slopes};
    ck_assert_int_eq(tensor_create(&slopes, b->outputs[0].dtype, &b->outputs[0].shape, NULL),
                     XAI_OK);
    ck_assert_int_eq(
        tensor_create(&result, b->inputs[wanted].dtype, &b->inputs[wanted].shape, NULL), XAI_OK);
    for (size_t i = 0; i < tensor_count(&slopes); i++)
        tensor_set(&slopes, i, given[i]);
    wanted_pointers[wanted] = &result;
    b->call.output_gradients = given_pointers;
    b->call.input_gradients = wanted_pointers;
    ck_assert_int_eq(b->call.definition->backward(&b->call), XAI_OK);
    for (size_t i = 0; i < tensor_count(&result); i++)
        ck_assert_msg(fabs(tensor_get(&result, i) - expected[i]) <= 1e-5,
                      "gradient %zu is %.9g instead of %.9g", i, tensor_get(&result, i),
                      expected[i]);
    tensor_free(&slopes);
    tensor_free(&result);
}

#endif
