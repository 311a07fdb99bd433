/* Cases of the gradient test: an operator with attributes and inputs whose backward pass is
 * compared with finite differences of its forward pass. Everything is static data; a case is one
 * entry in cases_a.c or cases_b.c. */
#ifndef GRADIENTS_CASES_H
#define GRADIENTS_CASES_H

#include "ops/operator.h"

#define CASE_MAX_INPUTS 18
#define CASE_MAX_ATTRIBUTES 10
#define CASE_MAX_OUTPUTS 4

/* One input. Floats are random in [low, high], at least `margin` away from the values in `avoid`
 * (kinks), unless `values` gives them; they are differentiated. With another dtype the input is a
 * constant with these values and not differentiated. */
typedef struct gradient_input {
    shape dims;
    bool omitted;
    int32_t dtype; /* 0 = float */
    double low, high;
    const double *values;
    size_t avoid_count;
    double avoid[3], margin;
    bool constant; /* a float that infer needs the value of; not differentiated */
} gradient_input;

typedef struct gradient_case {
    const char *domain, *op, *note; /* note: which variant; unique within the operator */
    int opset;
    size_t input_count;
    int output_count;
    gradient_input inputs[CASE_MAX_INPUTS];
    onnx_attribute attributes[CASE_MAX_ATTRIBUTES]; /* up to the first without a name */
} gradient_case;

/* Up to the first without an operator. */
extern const gradient_case gradient_cases_a[];
extern const gradient_case gradient_cases_b[];
extern const gradient_case gradient_cases_sequence[];

#define COUNT_OF(type, ...) (sizeof((const type[]){__VA_ARGS__}) / sizeof(type))
/* A scalar has no dimensions: RANDOM_SCALAR. */
#define SHAPE(...)                                                           \
    {                                                                        \
        .rank = (int)COUNT_OF(int64_t, __VA_ARGS__), .dims = { __VA_ARGS__ } \
    }

/* Entries of `inputs`. */
#define RANDOM(from, to, ...)                               \
    {                                                       \
        .dims = SHAPE(__VA_ARGS__), .low = from, .high = to \
    }
#define RANDOM_SCALAR(from, to) \
    {                           \
        .low = from, .high = to \
    }
/* Random, but not within 0.05 of the kink. */
#define RANDOM_AWAY(from, to, kink, ...)                                                        \
    {                                                                                           \
        .dims = SHAPE(__VA_ARGS__), .low = from, .high = to, .avoid_count = 1, .avoid = {kink}, \
        .margin = 0.05                                                                          \
    }
/* The same for two kinks. */
#define RANDOM_BETWEEN(from, to, kink1, kink2, ...)                            \
    {                                                                          \
        .dims = SHAPE(__VA_ARGS__), .low = from, .high = to, .avoid_count = 2, \
        .avoid = {kink1, kink2}, .margin = 0.05                                \
    }
/* A float vector with these values. */
#define VALUES(...)                                                            \
    {                                                                          \
        .dims = {.rank = 1, .dims = {(int64_t)COUNT_OF(double, __VA_ARGS__)}}, \
        .values = (const double[])                                             \
        {                                                                      \
            __VA_ARGS__                                                        \
        }                                                                      \
    }
/* A constant vector of int64. */
#define INTEGERS(...)                                                          \
    {                                                                          \
        .dims = {.rank = 1, .dims = {(int64_t)COUNT_OF(double, __VA_ARGS__)}}, \
        .dtype = DTYPE_INT64, .values = (const double[])                       \
        {                                                                      \
            __VA_ARGS__                                                        \
        }                                                                      \
    }
#define BOOLS(...)                                                             \
    {                                                                          \
        .dims = {.rank = 1, .dims = {(int64_t)COUNT_OF(double, __VA_ARGS__)}}, \
        .dtype = DTYPE_BOOL, .values = (const double[])                        \
        {                                                                      \
            __VA_ARGS__                                                        \
        }                                                                      \
    }
#define INTEGER(value)                                   \
    {                                                    \
        .dtype = DTYPE_INT64, .values = (const double[]) \
        {                                                \
            value                                        \
        }                                                \
    }
#define OMITTED         \
    {                   \
        .omitted = true \
    }

/* An entry of a list. */
#define CASE(name, text, version, count, ...)                                         \
    {                                                                                 \
        .op = name, .note = text, .opset = version, .input_count = count, __VA_ARGS__ \
    }
#define INPUTS(...) .inputs = {__VA_ARGS__}
#define ATTRIBUTES(...) .attributes = {__VA_ARGS__}

/* Entries of `attributes`. */
#define ATTRIBUTE_INT(key, value)                           \
    {                                                       \
        .name = key, .type = ONNX_ATTRIBUTE_INT, .i = value \
    }
#define ATTRIBUTE_FLOAT(key, value)                           \
    {                                                         \
        .name = key, .type = ONNX_ATTRIBUTE_FLOAT, .f = value \
    }
#define ATTRIBUTE_TEXT(key, value)                             \
    {                                                          \
        .name = key, .type = ONNX_ATTRIBUTE_STRING, .s = value \
    }
#define ATTRIBUTE_INTS(key, ...)                                                           \
    {                                                                                      \
        .name = key, .type = ONNX_ATTRIBUTE_INTS, .count = COUNT_OF(int64_t, __VA_ARGS__), \
        .ints = (const int64_t[])                                                          \
        {                                                                                  \
            __VA_ARGS__                                                                    \
        }                                                                                  \
    }
#define ATTRIBUTE_TEXTS(key, ...)                                                            \
    {                                                                                        \
        .name = key, .type = ONNX_ATTRIBUTE_STRINGS, .count = COUNT_OF(char *, __VA_ARGS__), \
        .strings = (const char *const[])                                                     \
        {                                                                                    \
            __VA_ARGS__                                                                      \
        }                                                                                    \
    }
#define ATTRIBUTE_FLOATS(key, ...)                                                         \
    {                                                                                      \
        .name = key, .type = ONNX_ATTRIBUTE_FLOATS, .count = COUNT_OF(float, __VA_ARGS__), \
        .floats = (const float[])                                                          \
        {                                                                                  \
            __VA_ARGS__                                                                    \
        }                                                                                  \
    }

#endif
