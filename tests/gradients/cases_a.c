/* Elementwise operators, reductions, softmax and normalisations. */
#include "cases.h"

/* One input of shape (3, 7), in a range away from kinks. */
#define UNARY_CASE(name, version, from, to, ...)                    \
    {                                                               \
        .op = name, .note = "", .opset = version, .input_count = 1, \
        .inputs = {RANDOM(from, to, 3, 7)}, .attributes = {         \
            __VA_ARGS__                                             \
        }                                                           \
    }
#define KINKED_CASE(name, text, version, from, to, kink1, kink2, ...)             \
    {                                                                             \
        .op = name, .note = text, .opset = version, .input_count = 1,             \
        .inputs = {RANDOM_BETWEEN(from, to, kink1, kink2, 3, 7)}, .attributes = { \
            __VA_ARGS__                                                           \
        }                                                                         \
    }
#define STEP_VALUES VALUES(-2.7, -1.2, -0.4, 0.3, 0.8, 1.6, 2.2)

/* Two inputs of the same shape, and two that are broadcast against each other. */
#define BINARY_CASES(name, version, a1, a2, b1, b2)                                          \
    {.op = name,                                                                             \
     .note = "same shape",                                                                   \
     .opset = version,                                                                       \
     .input_count = 2,                                                                       \
     .inputs = {RANDOM(a1, a2, 2, 3, 4), RANDOM(b1, b2, 2, 3, 4)}},                          \
        {.op = name,                                                                         \
         .note = "channel",                                                                  \
         .opset = version,                                                                   \
         .input_count = 2,                                                                   \
         .inputs = {RANDOM(a1, a2, 2, 3, 4), RANDOM(b1, b2, 3, 1)}},                         \
        {.op = name,                                                                         \
         .note = "scalar first",                                                             \
         .opset = version,                                                                   \
         .input_count = 2,                                                                   \
         .inputs = {RANDOM_SCALAR(a1, a2), RANDOM(b1, b2, 2, 2)}},                           \
    {                                                                                        \
        .op = name, .note = "both repeated", .opset = version, .input_count = 2, .inputs = { \
            RANDOM(a1, a2, 3, 1, 2),                                                         \
            RANDOM(b1, b2, 1, 4, 1)                                                          \
        }                                                                                    \
    }

#define VARIADIC_CASES(name)                                                                     \
    {.op = name,                                                                                 \
     .note = "three",                                                                            \
     .opset = 13,                                                                                \
     .input_count = 3,                                                                           \
     .inputs = {RANDOM(-1, 1, 2, 3), RANDOM(-1, 1, 3), RANDOM(-1, 1, 2, 1)}},                    \
        {.op = name, .note = "one", .opset = 8, .input_count = 1, .inputs = {RANDOM(-1, 1, 5)}}, \
    {                                                                                            \
        .op = name, .note = "seventeen", .opset = 8, .input_count = 17, .inputs = {              \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 3),                                                                    \
            RANDOM(-1, 1, 2, 3)                                                                  \
        }                                                                                        \
    }

/* Axes as an attribute and as an input, kept and dropped, inner, outer and all. */
#define REDUCE_CASES(name, input_since, from, to)                              \
    {.op = name,                                                               \
     .note = "axes attribute",                                                 \
     .opset = 11,                                                              \
     .input_count = 1,                                                         \
     .inputs = {RANDOM_AWAY(from, to, 0, 2, 3, 4)},                            \
     .attributes = {ATTRIBUTE_INTS("axes", 1)}},                               \
        {.op = name,                                                           \
         .note = "axes input",                                                 \
         .opset = input_since,                                                 \
         .input_count = 2,                                                     \
         .inputs = {RANDOM_AWAY(from, to, 0, 2, 3, 4), INTEGERS(0, -1)},       \
         .attributes = {ATTRIBUTE_INT("keepdims", 0)}},                        \
        {.op = name,                                                           \
         .note = "all",                                                        \
         .opset = input_since,                                                 \
         .input_count = 1,                                                     \
         .inputs = {RANDOM_AWAY(from, to, 0, 2, 3)}},                          \
    {                                                                          \
        .op = name, .note = "no axes", .opset = input_since, .input_count = 2, \
        .inputs = {RANDOM_AWAY(from, to, 0, 2, 3), OMITTED}, .attributes = {   \
            ATTRIBUTE_INT("noop_with_empty_axes", 1)                           \
        }                                                                      \
    }

const gradient_case gradient_cases_a[] = {
    UNARY_CASE("Exp", 13, -2, 2, {0}),
    UNARY_CASE("Log", 13, 0.2, 3, {0}),
    UNARY_CASE("Sqrt", 13, 0.2, 3, {0}),
    UNARY_CASE("Reciprocal", 13, 0.3, 3, {0}),
    UNARY_CASE("Erf", 13, -2, 2, {0}),
    UNARY_CASE("Erfc", 13, -2, 2, {0}),
    UNARY_CASE("Sin", 7, -3, 3, {0}),
    UNARY_CASE("Cos", 7, -3, 3, {0}),
    UNARY_CASE("Tan", 7, -1.2, 1.2, {0}),
    UNARY_CASE("Asin", 7, -0.9, 0.9, {0}),
    UNARY_CASE("Acos", 7, -0.9, 0.9, {0}),
    UNARY_CASE("Atan", 7, -3, 3, {0}),
    UNARY_CASE("Sinh", 9, -2, 2, {0}),
    UNARY_CASE("Cosh", 9, -2, 2, {0}),
    UNARY_CASE("Asinh", 9, -2, 2, {0}),
    UNARY_CASE("Acosh", 9, 1.2, 3, {0}),
    UNARY_CASE("Atanh", 9, -0.9, 0.9, {0}),
    UNARY_CASE("Neg", 13, -2, 2, {0}),
    KINKED_CASE("Abs", "", 13, -2, 2, 0, 0, {0}),
    {.op = "Sign", .note = "", .opset = 13, .input_count = 1, .inputs = {STEP_VALUES}},
    {.op = "Floor", .note = "", .opset = 13, .input_count = 1, .inputs = {STEP_VALUES}},
    {.op = "Ceil", .note = "", .opset = 13, .input_count = 1, .inputs = {STEP_VALUES}},
    {.op = "Round", .note = "", .opset = 11, .input_count = 1, .inputs = {STEP_VALUES}},

    KINKED_CASE("Relu", "", 14, -2, 2, 0, 0, {0}),
    KINKED_CASE("LeakyRelu", "", 16, -2, 2, 0, 0, {0}),
    KINKED_CASE("LeakyRelu", "negative slope", 16, -2, 2, 0, 0, ATTRIBUTE_FLOAT("alpha", -0.5f)),
    KINKED_CASE("ThresholdedRelu", "", 10, -1, 3, 1, 1, {0}),
    KINKED_CASE("ThresholdedRelu", "negative threshold", 10, -2, 2, -0.5, -0.5,
                ATTRIBUTE_FLOAT("alpha", -0.5f)),
    KINKED_CASE("Elu", "", 6, -2, 2, 0, 0, {0}),
    KINKED_CASE("Elu", "negative alpha", 6, -2, 2, 0, 0, ATTRIBUTE_FLOAT("alpha", -0.7f)),
    KINKED_CASE("Selu", "", 6, -2, 2, 0, 0, {0}),
    KINKED_CASE("Celu", "", 12, -2, 2, 0, 0, ATTRIBUTE_FLOAT("alpha", 0.6f)),
    UNARY_CASE("Sigmoid", 13, -4, 4, {0}),
    KINKED_CASE("HardSigmoid", "", 6, -4, 4, -2.5, 2.5, {0}),
    KINKED_CASE("HardSwish", "", 14, -5, 5, -3, 3, {0}),
    UNARY_CASE("Tanh", 13, -2, 2, {0}),
    UNARY_CASE("Softplus", 1, -4, 4, {0}),
    KINKED_CASE("Softsign", "", 1, -3, 3, 0, 0, {0}),
    UNARY_CASE("Swish", 24, -4, 4, ATTRIBUTE_FLOAT("alpha", 1.5f)),
    UNARY_CASE("Mish", 18, -4, 4, {0}),
    KINKED_CASE("Shrink", "", 9, -2, 2, -0.5, 0.5, ATTRIBUTE_FLOAT("bias", 0.25f)),
    {.op = "Gelu", .note = "exact", .opset = 20, .input_count = 1, .inputs = {RANDOM(-4, 4, 3, 7)}},
    {.op = "Gelu",
     .note = "tanh",
     .opset = 20,
     .input_count = 1,
     .inputs = {RANDOM(-4, 4, 3, 7)},
     .attributes = {ATTRIBUTE_TEXT("approximate", "tanh")}},
    {.domain = "xai",
     .op = "Silu",
     .note = "",
     .opset = 1,
     .input_count = 1,
     .inputs = {RANDOM(-4, 4, 3, 7)}},
    /* More elements than one piece of the loop. */
    {.op = "Relu",
     .note = "many",
     .opset = 14,
     .input_count = 1,
     .inputs = {RANDOM_AWAY(-1, 1, 0, 1, 1030)}},

    KINKED_CASE("Clip", "attributes", 6, -2, 2, -0.5, 1, ATTRIBUTE_FLOAT("min", -0.5f),
                ATTRIBUTE_FLOAT("max", 1.0f)),
    KINKED_CASE("Clip", "no bounds", 6, -2, 2, 0, 0, {0}),
    {.op = "Clip",
     .note = "inputs",
     .opset = 13,
     .input_count = 3,
     .inputs = {RANDOM_BETWEEN(-2, 2, -0.5, 1, 3, 7),
                {.values = (const double[]){-0.5}},
                {.values = (const double[]){1}}}},
    {.op = "Clip",
     .note = "high only",
     .opset = 11,
     .input_count = 3,
     .inputs = {RANDOM_AWAY(-2, 2, 1, 3, 7), OMITTED, {.values = (const double[]){1}}}},
    {.op = "Clip",
     .note = "low above high",
     .opset = 13,
     .input_count = 3,
     .inputs = {RANDOM(-2, 2, 3),
                {.values = (const double[]){1}},
                {.values = (const double[]){-0.5}}}},

    BINARY_CASES("Add", 14, -2, 2, -2, 2),
    BINARY_CASES("Sub", 14, -2, 2, -2, 2),
    BINARY_CASES("Mul", 14, -2, 2, -2, 2),
    BINARY_CASES("Div", 14, -2, 2, 0.4, 2),
    BINARY_CASES("Pow", 15, 0.3, 2, -2, 2),
    {.op = "Pow",
     .note = "square of negatives",
     .opset = 15,
     .input_count = 2,
     .inputs = {RANDOM(-2, 2, 2, 3), {.constant = true, .values = (const double[]){2}}}},
    {.op = "Pow",
     .note = "integer exponent",
     .opset = 15,
     .input_count = 2,
     .inputs = {RANDOM(-2, 2, 2, 3), INTEGERS(0, 1, 3)}},
    {.op = "Mod",
     .note = "sign of the dividend",
     .opset = 13,
     .input_count = 2,
     .inputs = {VALUES(-5.3, -2.2, 1.1, 4.6), VALUES(2, -1.5, 0.7, 1.9)},
     .attributes = {ATTRIBUTE_INT("fmod", 1)}},
    {.op = "Mod",
     .note = "sign of the divisor",
     .opset = 28,
     .input_count = 2,
     .inputs = {VALUES(-5.3, -2.2, 1.1, 4.6), VALUES(2, -1.5, 0.7, 1.9)}},
    {.op = "PRelu",
     .note = "channel",
     .opset = 16,
     .input_count = 2,
     .inputs = {RANDOM_AWAY(-2, 2, 0, 2, 3, 4), RANDOM(-1, 1, 3, 1)}},
    {.op = "PRelu",
     .note = "same shape",
     .opset = 9,
     .input_count = 2,
     .inputs = {RANDOM_AWAY(-2, 2, 0, 2, 3), RANDOM(-1, 1, 2, 3)}},
    VARIADIC_CASES("Max"),
    VARIADIC_CASES("Min"),
    VARIADIC_CASES("Sum"),
    VARIADIC_CASES("Mean"),
    {.op = "Where",
     .note = "broadcast",
     .opset = 16,
     .input_count = 3,
     .inputs = {{.dims = SHAPE(3, 1), .dtype = DTYPE_BOOL, .values = (const double[]){1, 0, 1}},
                RANDOM(-1, 1, 2, 1, 4),
                RANDOM(-1, 1, 4)}},

    REDUCE_CASES("ReduceSum", 13, -2, 2),
    REDUCE_CASES("ReduceMean", 18, -2, 2),
    REDUCE_CASES("ReduceMax", 18, -2, 2),
    REDUCE_CASES("ReduceMin", 18, -2, 2),
    REDUCE_CASES("ReduceProd", 18, -2, 2),
    REDUCE_CASES("ReduceL1", 18, -2, 2),
    REDUCE_CASES("ReduceL2", 18, -2, 2),
    REDUCE_CASES("ReduceLogSum", 18, 0.2, 2),
    REDUCE_CASES("ReduceLogSumExp", 18, -2, 2),
    REDUCE_CASES("ReduceSumSquare", 18, -2, 2),
    {.op = "ReduceProd",
     .note = "zeros",
     .opset = 18,
     .input_count = 1,
     .inputs = {{.dims = SHAPE(2, 3), .values = (const double[]){0, 2, 3, 0, 0, 5}}},
     .attributes = {ATTRIBUTE_INT("keepdims", 0)}},
    {.op = "CumSum",
     .note = "plain",
     .opset = 14,
     .input_count = 2,
     .inputs = {RANDOM(-1, 1, 2, 3, 2), INTEGER(1)}},
    {.op = "CumSum",
     .note = "exclusive, reverse",
     .opset = 14,
     .input_count = 2,
     .inputs = {RANDOM(-1, 1, 2, 3), INTEGER(-1)},
     .attributes = {ATTRIBUTE_INT("exclusive", 1), ATTRIBUTE_INT("reverse", 1)}},

    {.op = "Softmax",
     .note = "flattened",
     .opset = 11,
     .input_count = 1,
     .inputs = {RANDOM(-2, 2, 2, 3, 2)}},
    {.op = "Softmax",
     .note = "last axis",
     .opset = 13,
     .input_count = 1,
     .inputs = {RANDOM(-2, 2, 2, 3, 2)}},
    {.op = "Softmax",
     .note = "inner axis",
     .opset = 13,
     .input_count = 1,
     .inputs = {RANDOM(-2, 2, 2, 3, 2)},
     .attributes = {ATTRIBUTE_INT("axis", 1)}},
    {.op = "LogSoftmax",
     .note = "flattened",
     .opset = 11,
     .input_count = 1,
     .inputs = {RANDOM(-2, 2, 2, 3, 2)},
     .attributes = {ATTRIBUTE_INT("axis", 0)}},
    {.op = "LogSoftmax",
     .note = "inner axis",
     .opset = 13,
     .input_count = 1,
     .inputs = {RANDOM(-2, 2, 2, 3, 2)},
     .attributes = {ATTRIBUTE_INT("axis", -2)}},

    {.op = "BatchNormalization",
     .note = "image",
     .opset = 15,
     .input_count = 5,
     .inputs = {RANDOM(-2, 2, 2, 3, 2, 2), RANDOM(-2, 2, 3), RANDOM(-1, 1, 3), RANDOM(-1, 1, 3),
                RANDOM(0.3, 2, 3)}},
    {.op = "BatchNormalization",
     .note = "one dimension",
     .opset = 9,
     .input_count = 5,
     .inputs = {RANDOM(-2, 2, 4), RANDOM(-2, 2, 1), RANDOM(-1, 1, 1), RANDOM(-1, 1, 1),
                RANDOM(0.3, 2, 1)}},
    {.op = "BatchNormalization",
     .note = "statistics an element",
     .opset = 7,
     .input_count = 5,
     .inputs = {RANDOM(-2, 2, 2, 3, 2), RANDOM(-2, 2, 3, 2), RANDOM(-1, 1, 3, 2),
                RANDOM(-1, 1, 3, 2), RANDOM(0.3, 2, 3, 2)},
     .attributes = {ATTRIBUTE_INT("spatial", 0), ATTRIBUTE_FLOAT("epsilon", 0.01f)}},
    {.domain = "xai",
     .op = "ScaleShift",
     .note = "",
     .opset = 1,
     .input_count = 3,
     .inputs = {RANDOM(-2, 2, 2, 3, 2, 2), RANDOM(-2, 2, 3), RANDOM(-1, 1, 3)}},
    {.op = "InstanceNormalization",
     .note = "",
     .opset = 6,
     .input_count = 3,
     .inputs = {RANDOM(-2, 2, 2, 3, 2, 3), RANDOM(-2, 2, 3), RANDOM(-1, 1, 3)}},
    {.op = "GroupNormalization",
     .note = "parameters a group",
     .opset = 18,
     .input_count = 3,
     .inputs = {RANDOM(-2, 2, 2, 4, 3), RANDOM(-2, 2, 2), RANDOM(-1, 1, 2)},
     .attributes = {ATTRIBUTE_INT("num_groups", 2)}},
    {.op = "GroupNormalization",
     .note = "parameters a channel",
     .opset = 21,
     .input_count = 3,
     .inputs = {RANDOM(-2, 2, 2, 4, 3), RANDOM(-2, 2, 4), RANDOM(-1, 1, 4)},
     .attributes = {ATTRIBUTE_INT("num_groups", 2)}},
    {.op = "LayerNormalization",
     .note = "last axis",
     .opset = 17,
     .input_count = 3,
     .inputs = {RANDOM(-2, 2, 2, 3, 4), RANDOM(-2, 2, 4), RANDOM(-1, 1, 4)}},
    {.op = "LayerNormalization",
     .note = "two axes, statistics",
     .opset = 17,
     .input_count = 3,
     .output_count = 3,
     .inputs = {RANDOM(-2, 2, 2, 3, 4), RANDOM(-2, 2, 3, 1), RANDOM(-1, 1, 3, 4)},
     .attributes = {ATTRIBUTE_INT("axis", 1), ATTRIBUTE_INT("stash_type", DTYPE_DOUBLE)}},
    {.op = "LayerNormalization",
     .note = "no shift",
     .opset = 17,
     .input_count = 2,
     .inputs = {RANDOM(-2, 2, 3, 4), RANDOM(-2, 2, 4)}},
    {.op = "RMSNormalization",
     .note = "",
     .opset = 23,
     .input_count = 2,
     .inputs = {RANDOM(-2, 2, 2, 3, 4), RANDOM(-2, 2, 4)}},
    {.op = "LRN",
     .note = "even window",
     .opset = 13,
     .input_count = 1,
     .inputs = {RANDOM(-2, 2, 2, 5, 2, 2)},
     .attributes = {ATTRIBUTE_INT("size", 4), ATTRIBUTE_FLOAT("alpha", 0.9f),
                    ATTRIBUTE_FLOAT("bias", 1.5f)}},
    {.op = "LpNormalization",
     .note = "2",
     .opset = 22,
     .input_count = 1,
     .inputs = {RANDOM_AWAY(-2, 2, 0, 2, 3, 2)},
     .attributes = {ATTRIBUTE_INT("axis", 1)}},
    {.op = "LpNormalization",
     .note = "1",
     .opset = 22,
     .input_count = 1,
     .inputs = {RANDOM_AWAY(-2, 2, 0, 2, 3)},
     .attributes = {ATTRIBUTE_INT("p", 1)}},
    {.op = "MeanVarianceNormalization",
     .note = "",
     .opset = 13,
     .input_count = 1,
     .inputs = {RANDOM(-2, 2, 2, 3, 2, 2)}},
    {.op = "MeanVarianceNormalization",
     .note = "axes",
     .opset = 9,
     .input_count = 1,
     .inputs = {RANDOM(-2, 2, 2, 3, 4)},
     .attributes = {ATTRIBUTE_INTS("axes", -1, 1)}},
    {.domain = "ai.onnx.ml",
     .op = "Normalizer",
     .note = "sum of magnitudes",
     .opset = 1,
     .input_count = 1,
     .inputs = {RANDOM_AWAY(-1, 1, 0, 3, 4)},
     .attributes = {ATTRIBUTE_TEXT("norm", "L1")}},
    {.domain = "ai.onnx.ml",
     .op = "Normalizer",
     .note = "length",
     .opset = 1,
     .input_count = 1,
     .inputs = {RANDOM(-1, 1, 3, 4)},
     .attributes = {ATTRIBUTE_TEXT("norm", "L2")}},
    {.domain = "ai.onnx.ml",
     .op = "Normalizer",
     .note = "largest",
     .opset = 1,
     .input_count = 1,
     .inputs = {VALUES(0.3, 0.9, -0.4)}},
    {.domain = "ai.onnx.ml",
     .op = "Binarizer",
     .note = "",
     .opset = 1,
     .input_count = 1,
     .inputs = {RANDOM_AWAY(-1, 1, 0.25, 3, 4)},
     .attributes = {ATTRIBUTE_FLOAT("threshold", 0.25f)}},
    {.domain = "ai.onnx.ml",
     .op = "ArrayFeatureExtractor",
     .note = "",
     .opset = 1,
     .input_count = 2,
     .inputs = {RANDOM(-1, 1, 3, 4), INTEGERS(2, 0, 2)}},
    {.op = NULL},
};
