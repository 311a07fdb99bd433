/* Operators by hand-computed numbers, and the one clear error for every kind of misuse. Gradients
 * have their own test. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/operator.h"

#define MAX_PORTS 6

/* One call with up to MAX_PORTS inputs and outputs. */
typedef struct bench {
    operator_call call;
    tensor inputs[MAX_PORTS], outputs[MAX_PORTS];
    const tensor *input_pointers[MAX_PORTS];
    tensor *output_pointers[MAX_PORTS];
    onnx_attribute attributes[MAX_PORTS];
    xai_error *error;
} bench;

static bench *bench_make_in(const char *domain, const char *op, int opset)
{
    bench *b = calloc(1, sizeof *b);
    ck_assert_ptr_nonnull(b);
    b->call = (operator_call){.definition = operator_find(domain, op),
                              .attributes = b->attributes,
                              .opset = opset,
                              .output_count = 1,
                              .inputs = b->input_pointers,
                              .outputs = b->output_pointers,
                              .place = "node 'n' (Op)",
                              .error = &b->error};
    ck_assert_msg(b->call.definition != NULL, "no operator %s", op);
    for (int i = 0; i < MAX_PORTS; i++)
        b->output_pointers[i] = &b->outputs[i];
    return b;
}

static bench *bench_make(const char *op, int opset)
{
    return bench_make_in("", op, opset);
}

static void bench_free(bench *b)
{
    for (int i = 0; i < MAX_PORTS; i++) {
        tensor_free(&b->inputs[i]);
        tensor_free(&b->outputs[i]);
    }
    xai_error_free(b->error);
    free(b);
}

#define DIMS(...)     \
    (const int64_t[]) \
    {                 \
        __VA_ARGS__   \
    }
#define NUMBERS(...) \
    (const double[]) \
    {                \
        __VA_ARGS__  \
    }
#define INTEGERS(...) \
    (const int64_t[]) \
    {                 \
        __VA_ARGS__   \
    }

static tensor *add_input(bench *b, int32_t dtype, int rank, const int64_t *dims,
                         const double *values)
{
    const int i = b->call.input_count++;
    const shape s = shape_make(rank, dims);
    ck_assert_int_eq(tensor_create(&b->inputs[i], dtype, &s, NULL), XAI_OK);
    tensor_write_doubles(&b->inputs[i], 0, tensor_count(&b->inputs[i]), values);
    b->input_pointers[i] = &b->inputs[i];
    return &b->inputs[i];
}

static void add_integers(bench *b, int32_t dtype, int64_t count, const int64_t *values)
{
    const int i = b->call.input_count++;
    const shape s = shape_make(1, &count);
    ck_assert_int_eq(tensor_create(&b->inputs[i], dtype, &s, NULL), XAI_OK);
    for (size_t k = 0; k < (size_t)count; k++)
        tensor_set_int(&b->inputs[i], k, values[k]);
    b->input_pointers[i] = &b->inputs[i];
}

static void omit_input(bench *b)
{
    b->call.input_count++;
}

static void add_attribute(bench *b, onnx_attribute attribute)
{
    b->attributes[b->call.attribute_count++] = attribute;
}

static void add_int(bench *b, const char *name, int64_t value)
{
    add_attribute(b, (onnx_attribute){.name = name, .type = ONNX_ATTRIBUTE_INT, .i = value});
}

static void add_float(bench *b, const char *name, float value)
{
    add_attribute(b, (onnx_attribute){.name = name, .type = ONNX_ATTRIBUTE_FLOAT, .f = value});
}

static xai_status run(bench *b)
{
    xai_status status = b->call.definition->infer(&b->call);
    for (int i = 0; status == XAI_OK && i < b->call.output_count; i++) {
        const int32_t dtype = b->outputs[i].dtype;
        const shape dims = b->outputs[i].shape;
        status = tensor_create(&b->outputs[i], dtype, &dims, &b->error);
    }
    return status == XAI_OK ? b->call.definition->forward(&b->call) : status;
}

static void expect_shape(const bench *b, int output, int rank, const int64_t *dims)
{
    char given[SHAPE_TEXT_SIZE], wanted[SHAPE_TEXT_SIZE];
    const shape s = shape_make(rank, dims);
    ck_assert_str_eq(shape_text(&b->outputs[output].shape, given), shape_text(&s, wanted));
}

/* Runs and compares output 0, to 1e-6 of the value: float32's precision. */
static void expect(bench *b, size_t count, const double *values)
{
    const xai_status status = run(b);
    ck_assert_msg(status == XAI_OK, "%s", b->error ? xai_error_message(b->error) : "no message");
    ck_assert_uint_eq(tensor_count(&b->outputs[0]), count);
    for (size_t i = 0; i < count; i++) {
        const double given = tensor_get(&b->outputs[0], i);
        if (isnan(values[i]))
            ck_assert_msg(isnan(given), "element %zu is %g instead of NaN", i, given);
        else
            ck_assert_msg(given == values[i] ||
                              fabs(given - values[i]) <= 1e-6 * fmax(1, fabs(values[i])),
                          "element %zu is %.9g instead of %.9g", i, given, values[i]);
    }
    bench_free(b);
}

static void expect_integers(bench *b, size_t count, const int64_t *values)
{
    ck_assert_int_eq(run(b), XAI_OK);
    ck_assert_uint_eq(tensor_count(&b->outputs[0]), count);
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(tensor_get_int(&b->outputs[0], i), values[i]);
    bench_free(b);
}

/* One error with the place and these words. */
static void expect_error(bench *b, xai_status status, const char *words)
{
    ck_assert_int_eq(run(b), status);
    ck_assert_ptr_nonnull(b->error);
    ck_assert_int_eq(xai_error_status(b->error), status);
    ck_assert_msg(strstr(xai_error_message(b->error), words), "'%s' is not in: %s", words,
                  xai_error_message(b->error));
    ck_assert_msg(strstr(xai_error_message(b->error), "node 'n'"), "no place in: %s",
                  xai_error_message(b->error));
    bench_free(b);
}

START_TEST(table_has_every_name_once_and_whole_definitions)
{
    size_t count;
    const operator_definition *const *table = operator_table(&count);
    ck_assert_uint_gt(count, 80);
    for (size_t i = 0; i < count; i++) {
        ck_assert(table[i]->infer != NULL);
        ck_assert(table[i]->forward != NULL);
        ck_assert_ptr_eq(operator_find(table[i]->domain, table[i]->name), table[i]);
        ck_assert_int_le(table[i]->min_inputs, table[i]->max_inputs);
        ck_assert_int_le(table[i]->min_outputs, table[i]->max_outputs);
        ck_assert_msg(table[i]->backward || table[i]->backward_reads == 0, "%s", table[i]->name);
    }
    ck_assert_ptr_null(operator_find("", "Silu"));
    ck_assert_ptr_null(operator_find("com.example", "Relu"));
}
END_TEST

/* What the flags promise to the engine. */
START_TEST(flags_tell_the_truth)
{
    size_t count;
    const operator_definition *const *table = operator_table(&count);
    for (size_t i = 0; i < count; i++) {
        if (!(table[i]->flags & OPERATOR_ELEMENTWISE))
            continue;
        bench *b = bench_make_in(table[i]->domain, table[i]->name, 24);
        add_input(b, DTYPE_FLOAT, 2, DIMS(2, 2), NUMBERS(0, -0.25, 0.25, 0));
        ck_assert_msg(run(b) == XAI_OK, "%s", table[i]->name);
        expect_shape(b, 0, 2, DIMS(2, 2));
        ck_assert_msg(tensor_get(&b->outputs[0], 0) == tensor_get(&b->outputs[0], 3) ||
                          strcmp(table[i]->name, "Acosh") == 0,
                      "%s", table[i]->name);
        if (table[i]->flags & OPERATOR_KEEPS_ZERO)
            ck_assert_msg(tensor_get(&b->outputs[0], 0) == 0, "%s", table[i]->name);
        bench_free(b);
    }
}
END_TEST

START_TEST(activations_have_the_values_of_their_formulas)
{
    const struct {
        const char *op;
        double x, y;
    } rows[] = {
        {"Relu", -1.5, 0},           {"LeakyRelu", -2, -0.02},
        {"Elu", -1, -0.6321205588},  {"Selu", -1, -1.1113307378},
        {"Celu", -1, -0.6321205588}, {"Sigmoid", 2, 0.8807970780},
        {"HardSigmoid", 1, 0.7},     {"HardSwish", 1, 2.0 / 3},
        {"Tanh", 0.5, 0.4621171573}, {"Softplus", 1, 1.3132616875},
        {"Softsign", -3, -0.75},     {"ThresholdedRelu", 1, 0},
        {"Mish", 1, 0.8650983883},   {"Gelu", 1, 0.8413447461},
        {"Erf", 0.5, 0.5204998778},  {"Swish", 1, 0.7310585786},
        {"Erfc", 0.5, 0.4795001222}, {"Erfc", 5, 1.5374597944e-12},
        {"Sigmoid", -800, 0},        {"Softplus", 800, 800},
        {"Elu", -800, -1},           {"Relu", NAN, NAN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bench *b = bench_make(rows[i].op, 24);
        add_input(b, DTYPE_FLOAT, 1, DIMS(1), &rows[i].x);
        expect(b, 1, &rows[i].y);
    }
    bench *b = bench_make("Gelu", 20);
    add_attribute(
        b, (onnx_attribute){.name = "approximate", .type = ONNX_ATTRIBUTE_STRING, .s = "tanh"});
    add_input(b, DTYPE_FLOAT, 1, DIMS(1), NUMBERS(1));
    expect(b, 1, NUMBERS(0.8411919906));
    b = bench_make_in("xai", "Silu", 1);
    add_input(b, DTYPE_FLOAT, 1, DIMS(1), NUMBERS(1));
    expect(b, 1, NUMBERS(0.7310585786));
}
END_TEST

START_TEST(round_goes_to_even)
{
    bench *b = bench_make("Round", 11);
    add_input(b, DTYPE_FLOAT, 1, DIMS(5), NUMBERS(0.5, 1.5, 2.5, -2.5, -1.2));
    expect(b, 5, NUMBERS(0, 2, 2, -2, -1));
}
END_TEST

START_TEST(clip_takes_bounds_as_attributes_or_inputs)
{
    bench *b = bench_make("Clip", 6);
    add_float(b, "max", 1);
    add_input(b, DTYPE_FLOAT, 1, DIMS(3), NUMBERS(-5e30, 3, NAN));
    expect(b, 3, NUMBERS(-5e30, 1, NAN));
    b = bench_make("Clip", 13);
    add_input(b, DTYPE_FLOAT, 1, DIMS(3), NUMBERS(-5, 0.5, 3));
    omit_input(b);
    add_input(b, DTYPE_FLOAT, 0, NULL, NUMBERS(2));
    expect(b, 3, NUMBERS(-5, 0.5, 2));
    b = bench_make("Clip", 13); /* low above high: high */
    add_input(b, DTYPE_FLOAT, 1, DIMS(3), NUMBERS(-5, 2, 7));
    add_input(b, DTYPE_FLOAT, 0, NULL, NUMBERS(4));
    add_input(b, DTYPE_FLOAT, 0, NULL, NUMBERS(1));
    expect(b, 3, NUMBERS(1, 1, 1));
    b = bench_make("Clip", 12); /* uint64 beyond int64 */
    add_integers(b, DTYPE_UINT64, 2, INTEGERS(-1, 5));
    add_integers(b, DTYPE_UINT64, 1, INTEGERS(7));
    expect_integers(b, 2, INTEGERS(-1, 7));
}
END_TEST

START_TEST(addition_broadcasts_like_numpy)
{
    bench *b = bench_make("Add", 14);
    add_input(b, DTYPE_FLOAT, 3, DIMS(2, 1, 2), NUMBERS(1, 2, 3, 4));
    add_input(b, DTYPE_FLOAT, 2, DIMS(3, 1), NUMBERS(10, 20, 30));
    expect(b, 12, NUMBERS(11, 12, 21, 22, 31, 32, 13, 14, 23, 24, 33, 34));
}
END_TEST

START_TEST(integers_are_exact_and_wrap)
{
    bench *b = bench_make("Add", 14);
    add_integers(b, DTYPE_INT64, 2, INTEGERS((1LL << 53) + 1, INT64_MAX));
    add_integers(b, DTYPE_INT64, 1, INTEGERS(2));
    expect_integers(b, 2, INTEGERS((1LL << 53) + 3, INT64_MIN + 1));
    b = bench_make("Mul", 14);
    add_integers(b, DTYPE_INT8, 1, INTEGERS(100));
    add_integers(b, DTYPE_INT8, 1, INTEGERS(3));
    expect_integers(b, 1, INTEGERS(44));
    b = bench_make("Div", 14); /* toward zero */
    add_integers(b, DTYPE_INT32, 3, INTEGERS(-7, 7, INT32_MIN));
    add_integers(b, DTYPE_INT32, 3, INTEGERS(2, -2, -1));
    expect_integers(b, 3, INTEGERS(-3, -3, INT32_MIN));
    b = bench_make("Mod", 13); /* sign of the divisor */
    add_integers(b, DTYPE_INT64, 3, INTEGERS(-7, 7, INT64_MIN));
    add_integers(b, DTYPE_INT64, 3, INTEGERS(3, -3, -1));
    expect_integers(b, 3, INTEGERS(2, -2, 0));
    b = bench_make("Pow", 15);
    add_integers(b, DTYPE_INT64, 3, INTEGERS(3, -2, 2));
    add_integers(b, DTYPE_INT64, 3, INTEGERS(39, 3, -1));
    expect_integers(b, 3, INTEGERS(4052555153018976267LL, -8, 0));
    b = bench_make("Abs", 13);
    add_integers(b, DTYPE_INT64, 2, INTEGERS(-5, INT64_MIN));
    expect_integers(b, 2, INTEGERS(5, INT64_MIN));
    b = bench_make("Max", 13); /* uint64 */
    add_integers(b, DTYPE_UINT64, 1, INTEGERS(-1));
    add_integers(b, DTYPE_UINT64, 1, INTEGERS(1));
    expect_integers(b, 1, INTEGERS(-1));
}
END_TEST

START_TEST(division_of_integers_by_zero_is_an_error)
{
    static const char *const operators[] = {"Div", "Mod"};
    for (size_t i = 0; i < 2; i++) {
        bench *b = bench_make(operators[i], 14);
        add_integers(b, DTYPE_INT32, 1, INTEGERS(1));
        add_integers(b, DTYPE_INT32, 1, INTEGERS(0));
        expect_error(b, XAI_ERROR_NUMERIC, "divided by zero");
    }
    bench *b = bench_make("Div", 14);
    add_input(b, DTYPE_FLOAT, 1, DIMS(1), NUMBERS(1));
    add_input(b, DTYPE_FLOAT, 1, DIMS(1), NUMBERS(0));
    expect(b, 1, NUMBERS(INFINITY));
}
END_TEST

START_TEST(comparisons_give_bools)
{
    bench *b = bench_make("LessOrEqual", 16);
    add_input(b, DTYPE_FLOAT, 1, DIMS(4), NUMBERS(1, 2, 3, NAN));
    add_input(b, DTYPE_FLOAT, 0, NULL, NUMBERS(2));
    ck_assert_int_eq(run(b), XAI_OK);
    ck_assert_int_eq(b->outputs[0].dtype, DTYPE_BOOL);
    const int64_t wanted[] = {1, 1, 0, 0};
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(tensor_get_int(&b->outputs[0], i), wanted[i]);
    bench_free(b);
    b = bench_make("Where", 16);
    add_input(b, DTYPE_BOOL, 2, DIMS(2, 1), NUMBERS(1, 0));
    add_integers(b, DTYPE_INT64, 2, INTEGERS(INT64_MAX, 1));
    add_integers(b, DTYPE_INT64, 1, INTEGERS(-9));
    expect_integers(b, 4, INTEGERS(INT64_MAX, 1, -9, -9));
}
END_TEST

/* e = (1, 2, 3, 4) / 10 has logarithms that make round probabilities. */
START_TEST(softmax_of_old_opsets_flattens)
{
    const double x[] = {log(1), log(2), log(3), log(4)};
    bench *b = bench_make("Softmax", 11);
    add_input(b, DTYPE_FLOAT, 3, DIMS(1, 2, 2), x);
    expect(b, 4, NUMBERS(0.1, 0.2, 0.3, 0.4));
    b = bench_make("Softmax", 13);
    add_input(b, DTYPE_FLOAT, 3, DIMS(1, 2, 2), x);
    expect(b, 4, NUMBERS(1.0 / 3, 2.0 / 3, 3.0 / 7, 4.0 / 7));
    b = bench_make("Softmax", 13);
    add_int(b, "axis", 1);
    add_input(b, DTYPE_FLOAT, 3, DIMS(1, 2, 2), x);
    expect(b, 4, NUMBERS(0.25, 1.0 / 3, 0.75, 2.0 / 3));
    b = bench_make("LogSoftmax", 13); /* no overflow, no log of zero */
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(1000, 0));
    expect(b, 2, NUMBERS(0, -1000));
}
END_TEST

START_TEST(reductions_take_axes_as_attribute_or_input)
{
    const double x[] = {1, 2, 3, 4, 5, 6};
    bench *b = bench_make("ReduceMean", 13);
    add_attribute(b,
                  (onnx_attribute){
                      .name = "axes", .type = ONNX_ATTRIBUTE_INTS, .count = 1, .ints = DIMS(-1)});
    add_int(b, "keepdims", 0);
    add_input(b, DTYPE_FLOAT, 2, DIMS(2, 3), x);
    expect(b, 2, NUMBERS(2, 5));
    b = bench_make("ReduceSum", 13);
    add_input(b, DTYPE_FLOAT, 2, DIMS(2, 3), x);
    add_integers(b, DTYPE_INT64, 1, INTEGERS(0));
    expect(b, 3, NUMBERS(5, 7, 9));
    b = bench_make("ReduceL2", 18);
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(3, 4));
    expect(b, 1, NUMBERS(5));
    b = bench_make("ReduceSumSquare", 18); /* nothing reduced, still squared */
    add_int(b, "noop_with_empty_axes", 1);
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(3, 4));
    expect(b, 2, NUMBERS(9, 16));
    b = bench_make("ReduceLogSumExp", 18);
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(1000, 1000));
    expect(b, 1, NUMBERS(1000 + log(2)));
    b = bench_make("ReduceMax", 18); /* of nothing */
    add_input(b, DTYPE_FLOAT, 1, DIMS(0), NULL);
    expect(b, 1, NUMBERS(-INFINITY));
    b = bench_make("ReduceSum", 13); /* beyond 2^53 */
    add_integers(b, DTYPE_INT64, 2, INTEGERS(1LL << 53, 1));
    expect_integers(b, 1, INTEGERS((1LL << 53) + 1));
}
END_TEST

START_TEST(selections_break_ties_by_index)
{
    bench *b = bench_make("ArgMax", 13);
    add_input(b, DTYPE_FLOAT, 2, DIMS(2, 3), NUMBERS(1, 7, 7, 4, 2, 4));
    add_int(b, "axis", 1);
    expect_integers(b, 2, INTEGERS(1, 0));
    b = bench_make("ArgMax", 13);
    add_input(b, DTYPE_FLOAT, 2, DIMS(2, 3), NUMBERS(1, 7, 7, 4, 2, 4));
    add_int(b, "axis", 1);
    add_int(b, "select_last_index", 1);
    add_int(b, "keepdims", 0);
    expect_integers(b, 2, INTEGERS(2, 2));
    b = bench_make("TopK", 11);
    b->call.output_count = 2;
    add_input(b, DTYPE_FLOAT, 2, DIMS(4, 2), NUMBERS(1, 8, 5, 6, 5, 7, 3, 8));
    add_integers(b, DTYPE_INT64, 1, INTEGERS(3));
    add_int(b, "axis", 0);
    ck_assert_int_eq(run(b), XAI_OK);
    expect_shape(b, 0, 2, DIMS(3, 2));
    const int64_t values[] = {5, 8, 5, 8, 3, 7}, indices[] = {1, 0, 2, 3, 3, 2};
    for (size_t i = 0; i < 6; i++) {
        ck_assert_int_eq(tensor_get_int(&b->outputs[0], i), values[i]);
        ck_assert_int_eq(tensor_get_int(&b->outputs[1], i), indices[i]);
    }
    bench_free(b);
    b = bench_make("CumSum", 14);
    add_int(b, "exclusive", 1);
    add_int(b, "reverse", 1);
    add_input(b, DTYPE_FLOAT, 1, DIMS(3), NUMBERS(1, 2, 3));
    add_input(b, DTYPE_INT32, 0, NULL, NUMBERS(0));
    expect(b, 3, NUMBERS(5, 3, 0));
}
END_TEST

START_TEST(batch_normalization_is_an_affine_map_of_channels)
{
    bench *b = bench_make("BatchNormalization", 15);
    add_float(b, "epsilon", 0);
    add_input(b, DTYPE_FLOAT, 3, DIMS(1, 2, 2), NUMBERS(1, 3, 10, 20));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(2, 3));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(0.5, -1));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(1, 10));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(4, 25));
    expect(b, 4, NUMBERS(0.5, 2.5, -1, 5));
    b = bench_make_in("xai", "ScaleShift", 1);
    add_input(b, DTYPE_FLOAT, 3, DIMS(1, 2, 2), NUMBERS(1, 3, 10, 20));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(2, 3));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(0.5, -1));
    expect(b, 4, NUMBERS(2.5, 6.5, 29, 59));
}
END_TEST

/* (1, 3): mean 2, variance 1; (1, 2, 3, 6): mean 3, variance 3.5. */
START_TEST(normalisations_standardise_their_rows)
{
    const double root = sqrt(3.5);
    bench *b = bench_make("LayerNormalization", 17);
    b->call.output_count = 3;
    add_float(b, "epsilon", 0);
    add_input(b, DTYPE_FLOAT, 2, DIMS(2, 2), NUMBERS(1, 3, 5, 9));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(10, 20));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(0, 1));
    ck_assert_int_eq(run(b), XAI_OK);
    expect_shape(b, 1, 2, DIMS(2, 1));
    const double y[] = {-10, 21, -10, 21}, mean[] = {2, 7}, inverse[] = {1, 0.5};
    for (size_t i = 0; i < 4; i++)
        ck_assert_double_eq_tol(tensor_get(&b->outputs[0], i), y[i], 1e-5);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_double_eq_tol(tensor_get(&b->outputs[1], i), mean[i], 1e-6);
        ck_assert_double_eq_tol(tensor_get(&b->outputs[2], i), inverse[i], 1e-6);
    }
    bench_free(b);
    b = bench_make("InstanceNormalization", 6);
    add_float(b, "epsilon", 0);
    add_input(b, DTYPE_FLOAT, 3, DIMS(1, 2, 2), NUMBERS(1, 3, 5, 9));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(1, 2));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(0, 5));
    expect(b, 4, NUMBERS(-1, 1, 3, 7));
    b = bench_make("GroupNormalization", 21); /* one group of two channels */
    add_float(b, "epsilon", 0);
    add_int(b, "num_groups", 1);
    add_input(b, DTYPE_FLOAT, 3, DIMS(1, 2, 2), NUMBERS(1, 2, 3, 6));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(1, 2));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(0, 1));
    expect(b, 4, NUMBERS(-2 / root, -1 / root, 1, 1 + 6 / root));
    b = bench_make("RMSNormalization", 23);
    add_float(b, "epsilon", 0);
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(1, 7)); /* root mean square 5 */
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(1, 10));
    expect(b, 2, NUMBERS(0.2, 14));
    b = bench_make("LpNormalization", 22); /* a zero row stays zero */
    add_input(b, DTYPE_FLOAT, 2, DIMS(2, 2), NUMBERS(3, -4, 0, 0));
    expect(b, 4, NUMBERS(0.6, -0.8, 0, 0));
}
END_TEST

/* size 2 looks at the channel itself and the next: sums 1 + 4, 4 + 9, 9. */
START_TEST(lrn_window_of_even_size_leans_forward)
{
    bench *b = bench_make("LRN", 13);
    add_int(b, "size", 2);
    add_float(b, "alpha", 2);
    add_float(b, "beta", 1);
    add_float(b, "bias", 1);
    add_input(b, DTYPE_FLOAT, 2, DIMS(1, 3), NUMBERS(1, 2, 3));
    expect(b, 3, NUMBERS(1.0 / 6, 2.0 / 14, 3.0 / 10));
}
END_TEST

START_TEST(half_types_are_computed_in_double_and_rounded_once)
{
    bench *b = bench_make("Add", 14);
    add_input(b, DTYPE_FLOAT16, 1, DIMS(2), NUMBERS(2048, 1));
    add_input(b, DTYPE_FLOAT16, 1, DIMS(2), NUMBERS(1, 0x1p-11));
    expect(b, 2, NUMBERS(2048, 1));  /* ties to even */
    b = bench_make("ReduceSum", 13); /* partial sums beyond float16 */
    add_input(b, DTYPE_FLOAT16, 1, DIMS(3), NUMBERS(60000, 60000, -60000));
    expect(b, 1, NUMBERS(60000));
    b = bench_make("Mul", 14);
    add_input(b, DTYPE_BFLOAT16, 1, DIMS(1), NUMBERS(1.5));
    add_input(b, DTYPE_BFLOAT16, 1, DIMS(1), NUMBERS(-2));
    expect(b, 1, NUMBERS(-3));
}
END_TEST

START_TEST(empty_tensors_stay_empty)
{
    static const char *const operators[] = {"Relu", "Softmax", "Clip", "MeanVarianceNormalization",
                                            "LRN"};
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        bench *b = bench_make(operators[i], 13);
        if (i == 4)
            add_int(b, "size", 3);
        add_input(b, DTYPE_FLOAT, 4, DIMS(2, 3, 0, 2), NULL);
        expect(b, 0, NULL);
    }
    bench *b = bench_make("Add", 14);
    add_input(b, DTYPE_FLOAT, 2, DIMS(0, 3), NULL);
    add_input(b, DTYPE_FLOAT, 1, DIMS(1), NUMBERS(1));
    expect(b, 0, NULL);
}
END_TEST

START_TEST(wrong_calls_are_one_clear_error)
{
    bench *b = bench_make("Softmax", 13);
    add_int(b, "axis", 2);
    add_input(b, DTYPE_FLOAT, 2, DIMS(1, 2), NUMBERS(1, 2));
    expect_error(b, XAI_ERROR_SHAPE, "axis 2 is outside [-2, 2)");
    b = bench_make("Add", 14);
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(1, 2));
    add_input(b, DTYPE_FLOAT, 1, DIMS(3), NUMBERS(1, 2, 3));
    expect_error(b, XAI_ERROR_SHAPE, "shapes (2) and (3) cannot be broadcast");
    b = bench_make("Add", 14);
    add_input(b, DTYPE_FLOAT, 1, DIMS(1), NUMBERS(1));
    add_input(b, DTYPE_DOUBLE, 1, DIMS(1), NUMBERS(1));
    expect_error(b, XAI_ERROR_FORMAT, "different types float32 and float64");
    b = bench_make("Add", 14);
    add_input(b, DTYPE_FLOAT, 1, DIMS(1), NUMBERS(1));
    expect_error(b, XAI_ERROR_FORMAT, "1 inputs where Add takes 2 to 2");
    b = bench_make("Add", 14);
    add_input(b, DTYPE_FLOAT, 1, DIMS(1), NUMBERS(1));
    omit_input(b);
    expect_error(b, XAI_ERROR_FORMAT, "input 1 is missing");
    b = bench_make("Relu", 14);
    add_input(b, DTYPE_BOOL, 1, DIMS(1), NUMBERS(1));
    expect_error(b, XAI_ERROR_UNSUPPORTED, "input 0 has type bool");
    b = bench_make("LeakyRelu", 16);
    add_int(b, "alpha", 1);
    add_input(b, DTYPE_FLOAT, 1, DIMS(1), NUMBERS(1));
    expect_error(b, XAI_ERROR_FORMAT, "attribute 'alpha' is not a number");
    b = bench_make("Gelu", 20);
    add_attribute(
        b, (onnx_attribute){.name = "approximate", .type = ONNX_ATTRIBUTE_STRING, .s = "sigmoid"});
    add_input(b, DTYPE_FLOAT, 1, DIMS(1), NUMBERS(1));
    expect_error(b, XAI_ERROR_FORMAT, "'sigmoid'");
    b = bench_make("PRelu", 16);
    add_input(b, DTYPE_FLOAT, 1, DIMS(1), NUMBERS(1));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(1, 2));
    expect_error(b, XAI_ERROR_SHAPE, "slope of shape (2) does not fit x of shape (1)");
    b = bench_make("ReduceMean", 13);
    add_input(b, DTYPE_FLOAT, 1, DIMS(1), NUMBERS(1));
    add_integers(b, DTYPE_INT64, 1, INTEGERS(0));
    expect_error(b, XAI_ERROR_FORMAT, "axes are an attribute in opset 13");
    b = bench_make("ReduceMean", 18);
    add_input(b, DTYPE_FLOAT, 1, DIMS(1), NUMBERS(1));
    add_integers(b, DTYPE_INT64, 1, INTEGERS(0));
    tensor at_run_time = {.dtype = DTYPE_INT64, .shape = shape_make(1, DIMS(1))};
    b->input_pointers[1] = &at_run_time;
    expect_error(b, XAI_ERROR_UNSUPPORTED, "input 1 is computed at run time");
    b = bench_make("TopK", 11);
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(1, 2));
    add_integers(b, DTYPE_INT64, 1, INTEGERS(3));
    expect_error(b, XAI_ERROR_SHAPE, "the top 3 of 2");
    b = bench_make("GroupNormalization", 21);
    add_int(b, "num_groups", 2);
    add_input(b, DTYPE_FLOAT, 2, DIMS(1, 3), NUMBERS(1, 2, 3));
    add_input(b, DTYPE_FLOAT, 1, DIMS(3), NUMBERS(1, 2, 3));
    add_input(b, DTYPE_FLOAT, 1, DIMS(3), NUMBERS(1, 2, 3));
    expect_error(b, XAI_ERROR_SHAPE, "3 channels cannot be parted into num_groups = 2");
    b = bench_make("LRN", 13);
    add_input(b, DTYPE_FLOAT, 2, DIMS(1, 1), NUMBERS(1));
    expect_error(b, XAI_ERROR_FORMAT, "'size'");
    b = bench_make("LpNormalization", 1);
    add_int(b, "p", 3);
    add_input(b, DTYPE_FLOAT, 1, DIMS(1), NUMBERS(1));
    expect_error(b, XAI_ERROR_FORMAT, "'p' is 3");
}
END_TEST

/* Channel 0: 1, 3: mean 2, variance 1; channel 1: 10, 20: mean 15, variance 25. Running statistics
 * keep momentum of the old ones (0 and 5). */
START_TEST(batch_normalization_of_training_standardises_constants)
{
    bench *b = bench_make("BatchNormalization", 15);
    add_float(b, "epsilon", 0);
    add_float(b, "momentum", 0.75f);
    add_int(b, "training_mode", 1);
    b->call.output_count = 3;
    add_input(b, DTYPE_FLOAT, 3, DIMS(1, 2, 2), NUMBERS(1, 3, 10, 20));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(2, 3));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(0.5, -1));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(0, 0));
    add_input(b, DTYPE_FLOAT, 1, DIMS(2), NUMBERS(5, 5));
    ck_assert_int_eq(run(b), XAI_OK);
    const double y[] = {-1.5, 2.5, -4, 2}, mean[] = {0.5, 3.75}, variance[] = {4, 10};
    for (size_t i = 0; i < 4; i++)
        ck_assert_double_eq_tol(tensor_get(&b->outputs[0], i), y[i], 1e-6);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_double_eq_tol(tensor_get(&b->outputs[1], i), mean[i], 1e-6);
        ck_assert_double_eq_tol(tensor_get(&b->outputs[2], i), variance[i], 1e-6);
    }
    bench_free(b);
}
END_TEST

START_TEST(batch_normalization_of_training_is_refused)
{
    for (int variant = 0; variant < 3; variant++) {
        bench *b = bench_make("BatchNormalization", 15);
        add_input(b, DTYPE_FLOAT, 2, DIMS(1, 2), NUMBERS(1, 2));
        for (int i = 0; i < 4; i++)
            add_input(b, DTYPE_FLOAT, 1, DIMS(variant == 2 ? 3 : 2), NUMBERS(1, 1, 1));
        if (variant == 0) { /* x is computed at run time */
            add_int(b, "training_mode", 1);
            memory_free(b->inputs[0].data);
            b->inputs[0].data = NULL;
        }
        if (variant == 1)
            b->call.output_count = 2;
        if (variant == 2)
            expect_error(b, XAI_ERROR_SHAPE, "input 1 has shape (3)");
        else
            expect_error(b, XAI_ERROR_UNSUPPORTED, "export the model for inference");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("operators");
    TCase *tests = tcase_create("operators");
    tcase_add_test(tests, table_has_every_name_once_and_whole_definitions);
    tcase_add_test(tests, flags_tell_the_truth);
    tcase_add_test(tests, activations_have_the_values_of_their_formulas);
    tcase_add_test(tests, round_goes_to_even);
    tcase_add_test(tests, clip_takes_bounds_as_attributes_or_inputs);
    tcase_add_test(tests, addition_broadcasts_like_numpy);
    tcase_add_test(tests, integers_are_exact_and_wrap);
    tcase_add_test(tests, division_of_integers_by_zero_is_an_error);
    tcase_add_test(tests, comparisons_give_bools);
    tcase_add_test(tests, softmax_of_old_opsets_flattens);
    tcase_add_test(tests, reductions_take_axes_as_attribute_or_input);
    tcase_add_test(tests, selections_break_ties_by_index);
    tcase_add_test(tests, batch_normalization_is_an_affine_map_of_channels);
    tcase_add_test(tests, normalisations_standardise_their_rows);
    tcase_add_test(tests, lrn_window_of_even_size_leans_forward);
    tcase_add_test(tests, half_types_are_computed_in_double_and_rounded_once);
    tcase_add_test(tests, empty_tensors_stay_empty);
    tcase_add_test(tests, wrong_calls_are_one_clear_error);
    tcase_add_test(tests, batch_normalization_of_training_standardises_constants);
    tcase_add_test(tests, batch_normalization_of_training_is_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
