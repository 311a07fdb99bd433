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

#define X_IMAGE RANDOM(-1, 1, 2, 2, 4, 5)
/* Floats that are not differentiated. */
#define CONSTANTS(...)                                                     \
    {                                                                      \
        .dims = SHAPE(__VA_ARGS__), .low = -1, .high = 1, .constant = true \
    }
#define BOXES                                                  \
    {                                                          \
        .dims = SHAPE(2, 4), .values = boxes, .constant = true \
    }

static const double attention_mask[] = {1, 1, 0, 1, 1, 0, 1, 1, 0, 1};
static const double rotary_positions[] = {3, 0, 2};
static const double boxes[] = {0.2, 0.4, 3.7, 3.1, 1.1, 0.3, 6.2, 2.5};

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

    CASE("Attention", "plain", 23, 3,
         INPUTS(RANDOM(-1, 1, 2, 2, 3, 4), RANDOM(-1, 1, 2, 2, 5, 4), RANDOM(-1, 1, 2, 2, 5, 3))),
    CASE("Attention", "packed, grouped heads, causal, softcap, mask", 24, 4,
         INPUTS(RANDOM(-2, 2, 2, 4, 8), RANDOM(-2, 2, 2, 4, 4), RANDOM(-1, 1, 2, 4, 6),
                RANDOM(-1, 1, 4, 3)),
         ATTRIBUTES(ATTRIBUTE_INT("q_num_heads", 4), ATTRIBUTE_INT("kv_num_heads", 2),
                    ATTRIBUTE_INT("is_causal", 1), ATTRIBUTE_FLOAT("softcap", 1.5f),
                    ATTRIBUTE_FLOAT("scale", 0.8f))),
    CASE("Attention", "past, presents, bool mask", 23, 6, .output_count = 3,
         INPUTS(RANDOM(-1, 1, 1, 2, 2, 4), RANDOM(-1, 1, 1, 2, 2, 4), RANDOM(-1, 1, 1, 2, 2, 3),
                {.dims = SHAPE(2, 5), .dtype = DTYPE_BOOL, .values = attention_mask},
                RANDOM(-1, 1, 1, 2, 3, 4), RANDOM(-1, 1, 1, 2, 3, 3))),
    CASE("Attention", "windows, lengths", 25, 7,
         INPUTS(RANDOM(-1, 1, 2, 1, 3, 4), RANDOM(-1, 1, 2, 1, 5, 4), RANDOM(-1, 1, 2, 1, 5, 3),
                OMITTED, OMITTED, OMITTED, INTEGERS(5, 3)),
         ATTRIBUTES(ATTRIBUTE_INT("left_window_size", 1), ATTRIBUTE_INT("right_window_size", 1))),
    CASE("RotaryEmbedding", "halves, positions", 23, 4,
         INPUTS(RANDOM(-1, 1, 1, 2, 3, 6), CONSTANTS(4, 3), CONSTANTS(4, 3),
                {.dims = SHAPE(1, 3), .dtype = DTYPE_INT64, .values = rotary_positions})),
    CASE("RotaryEmbedding", "interleaved, partial, packed", 23, 3,
         INPUTS(RANDOM(-1, 1, 2, 3, 12), CONSTANTS(2, 3, 2), CONSTANTS(2, 3, 2)),
         ATTRIBUTES(ATTRIBUTE_INT("interleaved", 1), ATTRIBUTE_INT("num_heads", 2),
                    ATTRIBUTE_INT("rotary_embedding_dim", 4))),
    CASE("Einsum", "product of matrices", 12, 2,
         INPUTS(RANDOM(-1, 1, 2, 3, 4), RANDOM(-1, 1, 2, 4, 5)),
         ATTRIBUTES(ATTRIBUTE_TEXT("equation", "bij, bjk -> bik"))),
    CASE("Einsum", "ellipsis, three operands", 12, 3,
         INPUTS(RANDOM(-1, 1, 2, 3, 4), RANDOM(-1, 1, 1, 4, 2), RANDOM(-1, 1, 3)),
         ATTRIBUTES(ATTRIBUTE_TEXT("equation", "...ij,...jk,i->...k"))),
    CASE("Einsum", "diagonal, implicit", 12, 2, INPUTS(RANDOM(-1, 1, 3, 3, 2), RANDOM(-1, 1, 2, 4)),
         ATTRIBUTES(ATTRIBUTE_TEXT("equation", "iij,jk"))),
    CASE("GridSample", "linear", 20, 2, INPUTS(X_IMAGE, RANDOM(-1.4, 1.4, 2, 3, 3, 2))),
    CASE("GridSample", "linear, border, corners", 16, 2,
         INPUTS(X_IMAGE, RANDOM(-1.4, 1.4, 2, 3, 3, 2)),
         ATTRIBUTES(ATTRIBUTE_TEXT("padding_mode", "border"), ATTRIBUTE_INT("align_corners", 1))),
    CASE("GridSample", "cubic, reflection", 20, 2, INPUTS(X_IMAGE, RANDOM(-1.4, 1.4, 2, 3, 3, 2)),
         ATTRIBUTES(ATTRIBUTE_TEXT("mode", "cubic"), ATTRIBUTE_TEXT("padding_mode", "reflection"))),
    CASE("GridSample", "cubic, zeros, corners", 16, 2,
         INPUTS(X_IMAGE, RANDOM(-1.4, 1.4, 2, 3, 3, 2)),
         ATTRIBUTES(ATTRIBUTE_TEXT("mode", "bicubic"), ATTRIBUTE_INT("align_corners", 1))),
    CASE("GridSample", "linear, reflection, 3-D", 20, 2,
         INPUTS(RANDOM(-1, 1, 1, 2, 3, 4, 2), RANDOM(-1.6, 1.6, 1, 2, 2, 2, 3)),
         ATTRIBUTES(ATTRIBUTE_TEXT("padding_mode", "reflection"))),
    CASE("GridSample", "nearest", 20, 2, INPUTS(X_IMAGE, RANDOM(-1.4, 1.4, 2, 3, 3, 2)),
         ATTRIBUTES(ATTRIBUTE_TEXT("mode", "nearest"))),
    CASE("AffineGrid", "2-D", 20, 2, INPUTS(RANDOM(-1, 1, 2, 2, 3), INTEGERS(2, 1, 3, 4))),
    CASE("AffineGrid", "3-D, corners", 20, 2,
         INPUTS(RANDOM(-1, 1, 1, 3, 4), INTEGERS(1, 1, 2, 3, 4)),
         ATTRIBUTES(ATTRIBUTE_INT("align_corners", 1))),
    CASE("RoiAlign", "mean", 16, 3, INPUTS(X_IMAGE, BOXES, INTEGERS(0, 1)),
         ATTRIBUTES(ATTRIBUTE_INT("output_height", 2), ATTRIBUTE_INT("output_width", 3))),
    CASE("RoiAlign", "maximum, old corners", 16, 3, INPUTS(X_IMAGE, BOXES, INTEGERS(1, 0)),
         ATTRIBUTES(ATTRIBUTE_TEXT("mode", "max"), ATTRIBUTE_INT("sampling_ratio", 2),
                    ATTRIBUTE_TEXT("coordinate_transformation_mode", "output_half_pixel"),
                    ATTRIBUTE_FLOAT("spatial_scale", 0.5f))),
    CASE("ReverseSequence", "time first", 10, 2, INPUTS(RANDOM(-1, 1, 4, 2, 3), INTEGERS(3, 4))),
    CASE("ReverseSequence", "rows first", 10, 2, INPUTS(RANDOM(-1, 1, 2, 4), INTEGERS(0, 2)),
         ATTRIBUTES(ATTRIBUTE_INT("batch_axis", 0), ATTRIBUTE_INT("time_axis", 1))),
    {0},
};
