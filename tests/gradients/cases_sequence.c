/* Recurrent layers, attention and what reads sequences. */
#include "cases.h"

#define X_RNN RANDOM(-1, 1, 4, 2, 3) /* (T, N, I) */
#define LENGTHS(...)                                                           \
    {                                                                          \
        .dims = {.rank = 1, .dims = {(int64_t)COUNT_OF(double, __VA_ARGS__)}}, \
        .dtype = DTYPE_INT32, .values = (const double[])                       \
        {                                                                      \
            __VA_ARGS__                                                        \
        }                                                                      \
    }

const gradient_case gradient_cases_sequence[] = {
    CASE("RNN", "plain", 14, 3, .output_count = 2,
         INPUTS(X_RNN, RANDOM(-1, 1, 1, 5, 3), RANDOM(-1, 1, 1, 5, 5)),
         ATTRIBUTES(ATTRIBUTE_INT("hidden_size", 5))),
    CASE("RNN", "both ways, lengths, state", 14, 6, .output_count = 2,
         INPUTS(X_RNN, RANDOM(-1, 1, 2, 5, 3), RANDOM(-1, 1, 2, 5, 5), RANDOM(-1, 1, 2, 10),
                LENGTHS(4, 2), RANDOM(-1, 1, 2, 2, 5)),
         ATTRIBUTES(ATTRIBUTE_TEXT("direction", "bidirectional"),
                    ATTRIBUTE_TEXTS("activations", "Tanh", "Affine"),
                    ATTRIBUTE_FLOATS("activation_alpha", 0.7f),
                    ATTRIBUTE_FLOATS("activation_beta", 0.1f))),
    CASE("RNN", "reverse, rows first, softsign", 14, 4, .output_count = 2,
         INPUTS(RANDOM(-1, 1, 2, 4, 3), RANDOM(-1, 1, 1, 5, 3), RANDOM(-1, 1, 1, 5, 5),
                RANDOM(-1, 1, 1, 10)),
         ATTRIBUTES(ATTRIBUTE_TEXT("direction", "reverse"), ATTRIBUTE_INT("layout", 1),
                    ATTRIBUTE_TEXTS("activations", "softsign"))),
    CASE("GRU", "plain", 14, 3, .output_count = 2,
         INPUTS(X_RNN, RANDOM(-1, 1, 1, 15, 3), RANDOM(-1, 1, 1, 15, 5))),
    CASE("GRU", "all inputs, both ways", 14, 6, .output_count = 2,
         INPUTS(X_RNN, RANDOM(-1, 1, 2, 15, 3), RANDOM(-1, 1, 2, 15, 5), RANDOM(-1, 1, 2, 30),
                LENGTHS(3, 4), RANDOM(-1, 1, 2, 2, 5)),
         ATTRIBUTES(ATTRIBUTE_TEXT("direction", "bidirectional"))),
    CASE("GRU", "reset last, both ways", 14, 6, .output_count = 2,
         INPUTS(X_RNN, RANDOM(-1, 1, 2, 15, 3), RANDOM(-1, 1, 2, 15, 5), RANDOM(-1, 1, 2, 30),
                OMITTED, RANDOM(-1, 1, 2, 2, 5)),
         ATTRIBUTES(ATTRIBUTE_TEXT("direction", "bidirectional"),
                    ATTRIBUTE_INT("linear_before_reset", 1))),
    CASE("GRU", "reset last, no bias, softplus", 14, 3, .output_count = 2,
         INPUTS(X_RNN, RANDOM(-1, 1, 1, 15, 3), RANDOM(-1, 1, 1, 15, 5)),
         ATTRIBUTES(ATTRIBUTE_TEXTS("activations", "Sigmoid", "Softplus"),
                    ATTRIBUTE_INT("linear_before_reset", 1))),
    CASE("LSTM", "plain", 14, 3, .output_count = 3,
         INPUTS(X_RNN, RANDOM(-1, 1, 1, 20, 3), RANDOM(-1, 1, 1, 20, 5))),
    CASE("LSTM", "all inputs, both ways", 14, 8, .output_count = 3,
         INPUTS(X_RNN, RANDOM(-1, 1, 2, 20, 3), RANDOM(-1, 1, 2, 20, 5), RANDOM(-1, 1, 2, 40),
                LENGTHS(4, 3), RANDOM(-1, 1, 2, 2, 5), RANDOM(-1, 1, 2, 2, 5),
                RANDOM(-1, 1, 2, 15)),
         ATTRIBUTES(ATTRIBUTE_TEXT("direction", "bidirectional"))),
    CASE("LSTM", "input_forget, rows first, reverse", 14, 8, .output_count = 3,
         INPUTS(RANDOM(-1, 1, 2, 4, 3), RANDOM(-1, 1, 1, 20, 3), RANDOM(-1, 1, 1, 20, 5),
                RANDOM(-1, 1, 1, 40), OMITTED, RANDOM(-1, 1, 2, 1, 5), RANDOM(-1, 1, 2, 1, 5),
                RANDOM(-1, 1, 1, 15)),
         ATTRIBUTES(ATTRIBUTE_TEXT("direction", "reverse"), ATTRIBUTE_INT("layout", 1),
                    ATTRIBUTE_INT("input_forget", 1))),
    CASE("LSTM", "clip, scaled tanh, elu", 14, 4, .output_count = 3,
         INPUTS(X_RNN, RANDOM(-1, 1, 1, 20, 3), RANDOM(-1, 1, 1, 20, 5), RANDOM(-1, 1, 1, 40)),
         ATTRIBUTES(ATTRIBUTE_FLOAT("clip", 0.8f),
                    ATTRIBUTE_TEXTS("activations", "Sigmoid", "ScaledTanh", "Elu"),
                    ATTRIBUTE_FLOATS("activation_alpha", 1.3f, 0.7f),
                    ATTRIBUTE_FLOATS("activation_beta", 0.8f))),
    {0},
};
