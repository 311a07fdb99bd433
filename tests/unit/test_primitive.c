/* Primitives against straightforward loops in double: every shape forward and backward, on one, two and four threads. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "base/memory.h"
#include "base/parallel.h"
#include "engine/kernels_depthwise.h"
#include "engine/kernels_winograd.h"
#include "engine/primitive.h"

/* Rounding: a float sum of k products in any order, k <= 4608 here, relative to the largest element. */
#define TOLERANCE 1e-5

typedef struct shape_case {
    const char *name;
    int rank;
    int64_t input_channels, output_channels, groups;
    int64_t input[3], kernel[3], stride[3], dilation[3], pad_begin[3], pad_end[3];
    bool plain_input, plain_output;
} shape_case;

/* Square 2-D case. */
#define CASE2(name, cin, cout, groups, h, w, k, s, d, p)                                         \
    {                                                                                            \
        name, 2, cin, cout, groups, {h, w}, {k, k}, {s, s}, {d, d}, {p, p}, {p, p}, false, false \
    }

static const shape_case cases[] = {
    CASE2("3x3", 16, 24, 1, 14, 14, 3, 1, 1, 1),
    CASE2("3x3 stride 2", 32, 64, 1, 15, 15, 3, 2, 1, 1),
    CASE2("3x3 stride 2, even size", 32, 64, 1, 28, 28, 3, 2, 1, 1),
    CASE2("3x3 wide", 64, 64, 1, 56, 56, 3, 1, 1, 1),
    CASE2("3x3 deep", 512, 512, 1, 7, 7, 3, 1, 1, 1),
    CASE2("1x1", 64, 256, 1, 14, 14, 1, 1, 1, 0),
    CASE2("1x1 to fewer", 256, 32, 1, 28, 28, 1, 1, 1, 0),
    CASE2("1x1 stride 2", 64, 128, 1, 28, 28, 1, 2, 1, 0),
    CASE2("1x1 deep", 1024, 256, 1, 7, 7, 1, 1, 1, 0),
    CASE2("1x1 on one position", 40, 10, 1, 1, 1, 1, 1, 1, 0),
    /* Tiles of the own kernel: two and three blocks of output channels, few positions, two chunks, one tap. */
    CASE2("3x3 to 48 channels", 24, 48, 1, 10, 11, 3, 1, 1, 1),
    CASE2("3x3 to 56 channels, wide", 16, 56, 1, 60, 61, 3, 1, 1, 1),
    CASE2("3x3 on two positions", 32, 80, 1, 1, 2, 3, 1, 1, 1),
    CASE2("3x3 that crops", 16, 32, 1, 9, 9, 3, 3, 1, 0),
    CASE2("1x1 with many weights", 512, 320, 1, 7, 7, 1, 1, 1, 0),
    CASE2("1x1 with many weights, stride 2", 320, 512, 1, 13, 13, 1, 2, 1, 0),
    {"1x7", 2, 40, 24, 1, {17, 17}, {1, 7}, {1, 1}, {1, 1}, {0, 3}, {0, 3}, false, false},
    {"7x1, padded above",
     2,
     24,
     40,
     1,
     {9, 8},
     {7, 1},
     {1, 1},
     {1, 1},
     {5, 0},
     {1, 0},
     false,
     false},
    {"3x2, stride 1 by 2",
     2,
     24,
     24,
     1,
     {9, 8},
     {3, 2},
     {1, 2},
     {2, 1},
     {2, 0},
     {1, 1},
     false,
     false},
    CASE2("dilation 2", 32, 32, 1, 28, 28, 3, 1, 2, 2),
    CASE2("dilation 12", 32, 32, 1, 28, 28, 3, 1, 12, 12),
    CASE2("5x5", 24, 40, 1, 14, 14, 5, 1, 1, 2),
    CASE2("7x7 on blocks", 16, 16, 1, 20, 20, 7, 1, 1, 3),
    CASE2("odd channels 3 -> 58", 3, 58, 1, 14, 14, 3, 1, 1, 1),
    CASE2("odd channels 58 -> 58, 1x1", 58, 58, 1, 14, 14, 1, 1, 1, 0),
    CASE2("odd channels 116 -> 24", 116, 24, 1, 7, 7, 3, 1, 1, 1),
    CASE2("odd channels 13 -> 5", 13, 5, 1, 9, 9, 3, 1, 1, 0),
    CASE2("one channel each", 1, 1, 1, 9, 9, 3, 1, 1, 1),
    CASE2("groups of 4 (ResNeXt)", 128, 128, 32, 14, 14, 3, 1, 1, 1),
    CASE2("groups of 4, stride 2", 128, 128, 32, 14, 14, 3, 2, 1, 1),
    CASE2("groups of 8 (RegNet)", 64, 64, 8, 14, 14, 3, 2, 1, 1),
    CASE2("groups of 8, 13 of them", 104, 104, 13, 14, 14, 3, 1, 1, 1),
    CASE2("groups of 8, 13 of them, stride 2", 104, 104, 13, 14, 14, 3, 2, 1, 1),
    CASE2("groups of 4, 33 of them", 132, 132, 33, 7, 7, 3, 1, 1, 1),
    CASE2("groups of 16", 64, 64, 4, 14, 14, 3, 1, 1, 1),
    CASE2("groups of 24 (RegNet)", 96, 96, 4, 14, 14, 3, 1, 1, 1),
    CASE2("groups of 24, three of them", 72, 72, 3, 14, 14, 3, 1, 1, 1),
    CASE2("groups of 5 -> 7", 15, 21, 3, 9, 9, 3, 1, 1, 1),
    CASE2("1x1 in 3 groups (ShuffleNet)", 240, 60, 3, 14, 14, 1, 1, 1, 0),
    CASE2("depthwise", 32, 32, 32, 28, 28, 3, 1, 1, 1),
    CASE2("depthwise stride 2, 24 channels", 24, 24, 24, 28, 28, 3, 2, 1, 1),
    CASE2("depthwise 58 channels", 58, 58, 58, 14, 14, 3, 1, 1, 1),
    CASE2("depthwise 116 channels, stride 2", 116, 116, 116, 14, 14, 3, 2, 1, 1),
    CASE2("depthwise 5x5", 40, 40, 40, 14, 14, 5, 1, 1, 2),
    CASE2("depthwise 5x5 stride 2", 40, 40, 40, 29, 15, 5, 2, 1, 2),
    CASE2("depthwise wide", 8, 8, 8, 57, 113, 3, 1, 1, 1),
    CASE2("depthwise on one column", 12, 12, 12, 30, 1, 3, 1, 1, 1),
    {"depthwise, zeros on one side",
     2,
     24,
     24,
     24,
     {14, 29},
     {3, 3},
     {2, 2},
     {1, 1},
     {0, 0},
     {1, 1},
     false,
     false},
    {"depthwise, cropped below",
     2,
     24,
     24,
     24,
     {20, 20},
     {5, 3},
     {1, 1},
     {1, 1},
     {3, 0},
     {-1, -2},
     false,
     false},
    {"depthwise, strides differ",
     2,
     9,
     9,
     9,
     {15, 22},
     {5, 3},
     {1, 2},
     {1, 1},
     {2, 1},
     {1, 0},
     false,
     false},
    CASE2("depthwise 7x7 (ConvNeXt)", 96, 96, 96, 14, 14, 7, 1, 1, 3),
    CASE2("depthwise dilation 2", 32, 32, 32, 14, 14, 3, 1, 2, 2),
    CASE2("depthwise, two outputs a channel", 16, 32, 16, 14, 14, 3, 1, 1, 1),
    CASE2("depthwise, two outputs a channel, 12 channels", 12, 24, 12, 14, 14, 3, 1, 1, 1),
    CASE2("patches 4x4 stride 4", 3, 96, 1, 56, 56, 4, 4, 1, 0),
    CASE2("patches 2x2 stride 2", 96, 192, 1, 14, 14, 2, 2, 1, 0),
    {"first layer 7x7 stride 2",
     2,
     3,
     64,
     1,
     {64, 64},
     {7, 7},
     {2, 2},
     {1, 1},
     {3, 3},
     {3, 3},
     true,
     false},
    {"first layer 3x3 stride 2",
     2,
     3,
     32,
     1,
     {65, 65},
     {3, 3},
     {2, 2},
     {1, 1},
     {1, 1},
     {1, 1},
     true,
     false},
    {"first layer 3x3", 2, 3, 64, 1, {32, 32}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, true, false},
    {"first layer, one channel",
     2,
     1,
     32,
     1,
     {33, 31},
     {3, 3},
     {1, 1},
     {1, 1},
     {1, 1},
     {1, 1},
     true,
     false},
    {"first layer, patches 16x16",
     2,
     3,
     192,
     1,
     {64, 64},
     {16, 16},
     {16, 16},
     {1, 1},
     {0, 0},
     {0, 0},
     true,
     false},
    {"first layer, 4 channels",
     2,
     4,
     16,
     1,
     {32, 32},
     {3, 3},
     {1, 1},
     {1, 1},
     {1, 1},
     {1, 1},
     true,
     false},
    {"plain input of 40 channels",
     2,
     40,
     16,
     1,
     {12, 12},
     {3, 3},
     {1, 1},
     {1, 1},
     {1, 1},
     {1, 1},
     true,
     false},
    {"plain output", 2, 16, 2, 1, {12, 12}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, false, true},
    {"plain input and output",
     2,
     6,
     10,
     1,
     {12, 12},
     {3, 3},
     {1, 1},
     {1, 1},
     {1, 1},
     {1, 1},
     true,
     true},
    {"asymmetric pads",
     2,
     16,
     24,
     1,
     {14, 13},
     {3, 5},
     {2, 1},
     {1, 1},
     {0, 2},
     {1, 1},
     false,
     false},
    {"1x7 (Inception)",
     2,
     32,
     40,
     1,
     {17, 17},
     {1, 7},
     {1, 1},
     {1, 1},
     {0, 3},
     {0, 3},
     false,
     false},
    {"7x1 (Inception)",
     2,
     32,
     40,
     1,
     {17, 17},
     {7, 1},
     {1, 1},
     {1, 1},
     {3, 0},
     {3, 0},
     false,
     false},
    {"last columns unread",
     2,
     16,
     16,
     1,
     {14, 14},
     {2, 2},
     {3, 3},
     {1, 1},
     {0, 0},
     {0, 0},
     false,
     false},
    {"1-D", 1, 24, 32, 1, {100}, {5}, {1}, {1}, {2}, {2}, false, false},
    {"1-D stride 2, odd channels", 1, 12, 58, 1, {101}, {7}, {2}, {1}, {3}, {3}, false, false},
    {"1-D first layer (ECG)", 1, 12, 64, 1, {200}, {15}, {2}, {1}, {7}, {7}, true, false},
    {"1-D depthwise", 1, 32, 32, 32, {100}, {5}, {1}, {1}, {2}, {2}, false, false},
    {"1-D groups of 4", 1, 32, 32, 8, {100}, {3}, {1}, {1}, {1}, {1}, false, false},
    {"3-D",
     3,
     16,
     24,
     1,
     {6, 8, 9},
     {3, 3, 3},
     {1, 1, 1},
     {1, 1, 1},
     {1, 1, 1},
     {1, 1, 1},
     false,
     false},
    {"3-D stride 2",
     3,
     8,
     16,
     1,
     {7, 8, 8},
     {3, 3, 3},
     {2, 2, 2},
     {1, 1, 1},
     {1, 1, 1},
     {1, 1, 1},
     false,
     false},
    {"3-D 1x1x1",
     3,
     32,
     16,
     1,
     {4, 6, 6},
     {1, 1, 1},
     {1, 1, 1},
     {1, 1, 1},
     {0, 0, 0},
     {0, 0, 0},
     false,
     false},
    {"3-D first layer",
     3,
     1,
     16,
     1,
     {10, 12, 12},
     {3, 3, 3},
     {2, 2, 2},
     {1, 1, 1},
     {1, 1, 1},
     {1, 1, 1},
     true,
     false},
    {"3-D depthwise",
     3,
     16,
     16,
     16,
     {5, 6, 6},
     {3, 3, 3},
     {1, 1, 1},
     {1, 1, 1},
     {1, 1, 1},
     {1, 1, 1},
     false,
     false},
    {"3-D groups of 4",
     3,
     16,
     16,
     4,
     {5, 6, 6},
     {3, 3, 3},
     {1, 1, 1},
     {1, 1, 1},
     {1, 1, 1},
     {1, 1, 1},
     false,
     false},
};
#define CASE_COUNT ((int)(sizeof cases / sizeof *cases))

/* For the own kernel; pads of 0 to 2 on any side, sizes that are no multiples of a tile, many and few threads' groups. */
static const shape_case winograd_cases[] = {
    CASE2("64 channels", 64, 64, 1, 56, 56, 3, 1, 1, 1),
    CASE2("128 channels", 128, 128, 1, 28, 28, 3, 1, 1, 1),
    CASE2("256 channels", 256, 256, 1, 14, 14, 3, 1, 1, 1),
    {"no padding", 2, 16, 24, 1, {17, 19}, {3, 3}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, false, false},
    {"wide padding", 2, 24, 16, 1, {18, 15}, {3, 3}, {1, 1}, {1, 1}, {2, 2}, {2, 2}, false, false},
    {"asymmetric padding",
     2,
     33,
     47,
     1,
     {21, 16},
     {3, 3},
     {1, 1},
     {1, 1},
     {0, 2},
     {1, 0},
     false,
     false},
    {"asymmetric the other way",
     2,
     20,
     50,
     1,
     {13, 30},
     {3, 3},
     {1, 1},
     {1, 1},
     {2, 0},
     {0, 1},
     false,
     false},
    {"flat", 2, 40, 16, 1, {3, 61}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, false, false},
    {"upright", 2, 16, 18, 1, {75, 3}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, false, false},
    {"cropped below",
     2,
     17,
     31,
     1,
     {20, 20},
     {3, 3},
     {1, 1},
     {1, 1},
     {1, 1},
     {-1, -2},
     false,
     false},
    CASE2("320 channels to 72", 320, 72, 1, 15, 15, 3, 1, 1, 1),
};
#define WINOGRAD_COUNT ((int)(sizeof winograd_cases / sizeof *winograd_cases))

static uint32_t random_state = 1;

static float random_float(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)((int32_t)(random_state >> 8) - (1 << 23)) / (float)(1 << 23);
}

static float *floats(size_t count, bool random)
{
    float *values = memory_allocate_aligned((count + 16) * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < count + 16; i++)
        values[i] = random ? random_float() : 0.0f;
    return values;
}

static size_t product(const int64_t *sizes, int rank)
{
    size_t count = 1;
    for (int i = 0; i < rank; i++)
        count *= (size_t)sizes[i];
    return count;
}

static size_t padded(int64_t channels)
{
    const int block = primitive_block();
    return (size_t)((channels + block - 1) / block * block);
}

static window window_of(const shape_case *c)
{
    window w = {.rank = c->rank, .groups = c->groups};
    for (int i = 0; i < c->rank; i++) {
        w.kernel[i] = c->kernel[i];
        w.stride[i] = c->stride[i];
        w.dilation[i] = c->dilation[i];
        w.pad_begin[i] = c->pad_begin[i];
        w.pad_end[i] = c->pad_end[i];
        w.input[i] = c->input[i];
        w.output[i] = (c->input[i] + c->pad_begin[i] + c->pad_end[i] -
                       (c->kernel[i] - 1) * c->dilation[i] - 1) /
                          c->stride[i] +
                      1;
    }
    return w;
}

/* Calls visit for each (input element, weight element, output element) of the plain convolution; all three dimensions. */
static void convolve(const window *w, int64_t cin, int64_t cout, const float *x,
                     const float *weights, const float *gy, double *y, double *gx)
{
    int64_t in[3], out[3], k[3], s[3], d[3], p[3];
    for (int i = 0; i < 3; i++) {
        const int j = i - (3 - w->rank);
        in[i] = j < 0 ? 1 : w->input[j];
        out[i] = j < 0 ? 1 : w->output[j];
        k[i] = j < 0 ? 1 : w->kernel[j];
        s[i] = j < 0 ? 1 : w->stride[j];
        d[i] = j < 0 ? 1 : w->dilation[j];
        p[i] = j < 0 ? 0 : w->pad_begin[j];
    }
    const int64_t in_group = cin / w->groups, out_group = cout / w->groups;
    for (int64_t m = 0; m < cout; m++)
        for (int64_t c = 0; c < in_group; c++) {
            const int64_t channel = m / out_group * in_group + c;
            for (int64_t a = 0; a < k[0]; a++)
                for (int64_t b = 0; b < k[1]; b++)
                    for (int64_t e = 0; e < k[2]; e++) {
                        const double weight = (double)
                            weights[(((m * in_group + c) * k[0] + a) * k[1] + b) * k[2] + e];
                        for (int64_t z = 0; z < out[0]; z++) {
                            const int64_t iz = z * s[0] + a * d[0] - p[0];
                            if (iz < 0 || iz >= in[0])
                                continue;
                            for (int64_t v = 0; v < out[1]; v++) {
                                const int64_t iv = v * s[1] + b * d[1] - p[1];
                                if (iv < 0 || iv >= in[1])
                                    continue;
                                for (int64_t u = 0; u < out[2]; u++) {
                                    const int64_t iu = u * s[2] + e * d[2] - p[2];
                                    if (iu < 0 || iu >= in[2])
                                        continue;
                                    const int64_t i =
                                        ((channel * in[0] + iz) * in[1] + iv) * in[2] + iu;
                                    const int64_t o = ((m * out[0] + z) * out[1] + v) * out[2] + u;
                                    if (y != NULL)
                                        y[o] += weight * (double)x[i];
                                    if (gx != NULL)
                                        gx[i] += weight * (double)gy[o];
                                }
                            }
                        }
                    }
        }
}

/* Create, prepare and run once; returns the destination in its own layout. */
typedef struct outcome {
    float *destination;
    char implementation[64];
} outcome;

static outcome run_once(const primitive_spec *spec, const char *name, const float *weights,
                        const float *bias, const float *source, const float *other,
                        const float *before, size_t destination_count)
{
    primitive *p = NULL;
    xai_error *error = NULL;
    const xai_status status = primitive_create(spec, &p, &error);
    ck_assert_msg(status == XAI_OK, "%s: %s", name, error == NULL ? "?" : xai_error_message(error));
    outcome result = {.destination = floats(destination_count, true)};
    if (before != NULL)
        memcpy(result.destination, before, destination_count * sizeof *before);
    float *prepared = memory_allocate_aligned(primitive_weights_bytes(p) + 64);
    void *scratch = memory_allocate_aligned(primitive_scratchpad_bytes(p) + 64);
    float *padded_bias = NULL;
    ck_assert(prepared != NULL && scratch != NULL);
    memset(scratch, 0xFF,
           primitive_scratchpad_bytes(p)); /* NaN: nothing may be read before it is written */
    ck_assert_int_eq(primitive_prepare_weights(p, weights, prepared, &error), XAI_OK);
    if (spec->has_bias) {
        padded_bias = floats(primitive_bias_count(p), false);
        memcpy(padded_bias, bias,
               (size_t)(spec->kind == PRIMITIVE_MATMUL ? spec->columns : spec->output_channels) *
                   sizeof *bias);
    }
    const primitive_arguments arguments = {.source = source,
                                           .weights = prepared,
                                           .bias = padded_bias,
                                           .other = other,
                                           .destination = result.destination,
                                           .scratchpad = scratch};
    ck_assert_int_eq(primitive_run(p, &arguments, &error), XAI_OK);
    strcpy(result.implementation, primitive_implementation(p));
    ck_assert_msg(strncmp(result.implementation, "ref", 3) != 0, "%s runs %s", name,
                  result.implementation);
#ifdef PRINT_IMPLEMENTATIONS
    if (spec->threads == 1)
        printf("%-48s kind %d %s scratch %zu\n", name, spec->kind, result.implementation,
               primitive_scratchpad_bytes(p));
#endif
    memory_free(padded_bias);
    memory_free(scratch);
    memory_free(prepared);
    primitive_free(p);
    return result;
}

/* Each created for and run on 1, 2 and 4 threads: the same bits. */
static outcome run_on_threads(const primitive_spec *spec, const char *name, const float *weights,
                              const float *bias, const float *source, const float *other,
                              const float *before, size_t destination_count)
{
    static const int threads[] = {1, 2, 4};
    outcome first = {0};
    for (int i = 0; i < 3; i++) {
        primitive_spec threaded = *spec;
        threaded.threads = threads[i];
        outcome one =
            run_once(&threaded, name, weights, bias, source, other, before, destination_count);
        if (i == 0) {
            first = one;
            continue;
        }
        ck_assert_msg(
            memcmp(first.destination, one.destination, destination_count * sizeof(float)) == 0,
            "%s (%s): the bits depend on the thread count", name, one.implementation);
        memory_free(one.destination);
    }
    return first;
}

/* Plain (C, spatial) values as the layout asks. */
static float *in_layout(const float *plain, int64_t channels, size_t spatial, bool stays_plain)
{
    const size_t count = stays_plain ? (size_t)channels * spatial : padded(channels) * spatial;
    float *out = floats(count, false);
    if (stays_plain)
        memcpy(out, plain, count * sizeof *out);
    else
        kernel_block(plain, out, (size_t)channels, spatial, primitive_block(), 1);
    return out;
}

static void check_result(const char *name, const outcome *got, const double *expected,
                         int64_t channels, size_t spatial, bool plain)
{
    const size_t block = plain ? 1 : (size_t)primitive_block(),
                 count = plain ? (size_t)channels : padded(channels);
    double largest = 0, error = 0;
    for (size_t c = 0; c < count; c++)
        for (size_t s = 0; s < spatial; s++) {
            const double value =
                (double)got->destination[(c / block * spatial + s) * block + c % block];
            if (c >= (size_t)channels) {
                if (value != 0)
                    ck_abort_msg("%s (%s): padded lane holds %g", name, got->implementation, value);
                continue;
            }
            const double want = expected[c * spatial + s];
            if (isnan(value))
                ck_abort_msg("%s (%s): NaN", name, got->implementation);
            largest = fmax(largest, fabs(want));
            error = fmax(error, fabs(value - want));
        }
    ck_assert_msg(error <= TOLERANCE * largest, "%s (%s): error %g of %g", name,
                  got->implementation, error, largest);
}

static bool without_onednn(void)
{
    return !primitive_available();
}

/* Whether this processor and compiler have the own kernel. */
static bool has_winograd(void)
{
    winograd probe = {.block = primitive_block(),
                      .input_channels = 64,
                      .output_channels = 64,
                      .input = {56, 56},
                      .output = {56, 56},
                      .pad = {1, 1},
                      .threads = 1};
    return winograd_plan(&probe);
}

static bool is_winograd(const outcome *made)
{
    return strncmp(made->implementation, "winograd", 8) == 0;
}

/* Whether the own kernel for one channel a group exists for this processor and takes the case. */
static bool has_depthwise(const shape_case *c)
{
    const depthwise probe = {.block = primitive_block(),
                             .channels = 8,
                             .input = {9, 9},
                             .output = {9, 9},
                             .taps = {3, 3},
                             .stride = {1, 1},
                             .pad = {1, 1},
                             .threads = 1};
    return primitive_block() == 8 && depthwise_supported(&probe) && c->rank == 2 &&
           c->groups == c->input_channels && c->groups == c->output_channels && !c->plain_input &&
           c->dilation[0] == 1 && c->dilation[1] == 1 && c->stride[1] <= 2 &&
           (c->kernel[1] == 3 || c->kernel[1] == 5);
}

static bool is_depthwise(const outcome *made)
{
    return strcmp(made->implementation, "depthwise") == 0;
}

/* All cases, those of the own kernel, and all again where it is allowed. */
/* oneDNN has no window of single channels that stops before the end of its input: where there is no own kernel it is refused,
 * and the plan takes the portable one. */
static bool is_refused(const shape_case *c, const primitive_spec *forward)
{
    primitive_spec spec = *forward;
    bool refused = false;
    for (int backward = 0; c->groups > 1 && c->pad_end[0] < 0 && backward < 2; backward++) {
        primitive *p = NULL;
        const xai_status status = primitive_create(&spec, &p, NULL);
        ck_assert(status == XAI_OK || status == XAI_ERROR_UNSUPPORTED);
        primitive_free(p);
        refused = refused || status != XAI_OK;
        spec.kind = PRIMITIVE_CONVOLUTION_BACKWARD;
        spec.has_bias = false;
    }
    return refused;
}

START_TEST(convolution_and_its_gradient_match_double_loops)
{
    if (without_onednn())
        return;
    const bool fast = _i >= CASE_COUNT, must = fast && _i < CASE_COUNT + WINOGRAD_COUNT;
    const shape_case *c = must   ? &winograd_cases[_i - CASE_COUNT]
                          : fast ? &cases[_i - CASE_COUNT - WINOGRAD_COUNT]
                                 : &cases[_i];
    const window w = window_of(c);
    random_state = (uint32_t)_i + 1;
    const size_t in_spatial = product(w.input, w.rank), out_spatial = product(w.output, w.rank);
    const size_t in_count = (size_t)c->input_channels * in_spatial,
                 out_count = (size_t)c->output_channels * out_spatial;
    const size_t weight_count =
        (size_t)(c->output_channels * c->input_channels / c->groups) * product(w.kernel, w.rank);
    float *x = floats(in_count, true), *weights = floats(weight_count, true),
          *bias = floats((size_t)c->output_channels, true);
    float *gy = floats(out_count, true);
    double *y = memory_allocate_zeroed(out_count, sizeof *y),
           *gx = memory_allocate_zeroed(in_count, sizeof *gx);
    for (size_t i = 0; i < out_count; i++)
        y[i] = (double)bias[i / out_spatial];
    convolve(&w, c->input_channels, c->output_channels, x, weights, gy, y, gx);

    primitive_spec spec = {.kind = PRIMITIVE_CONVOLUTION,
                           .threads = 1,
                           .geometry = w,
                           .input_channels = c->input_channels,
                           .output_channels = c->output_channels,
                           .plain_input = c->plain_input,
                           .plain_output = c->plain_output,
                           .constant_weights = true,
                           .fast = fast,
                           .has_bias = true};
    if (is_refused(c, &spec))
        goto done;
    float *source = in_layout(x, c->input_channels, in_spatial, c->plain_input);
    float *gradient = in_layout(gy, c->output_channels, out_spatial, c->plain_output);
    outcome forward =
        run_on_threads(&spec, c->name, weights, bias, source, NULL, NULL,
                       c->plain_output ? out_count : padded(c->output_channels) * out_spatial);
    check_result(c->name, &forward, y, c->output_channels, out_spatial, c->plain_output);
    spec.kind = PRIMITIVE_CONVOLUTION_BACKWARD;
    spec.has_bias = false;
    outcome backward =
        run_on_threads(&spec, c->name, weights, NULL, gradient, NULL, NULL,
                       c->plain_input ? in_count : padded(c->input_channels) * in_spatial);
    check_result(c->name, &backward, gx, c->input_channels, in_spatial, c->plain_input);
    if (must && has_winograd())
        ck_assert_msg(is_winograd(&forward) && is_winograd(&backward), "%s runs %s and %s", c->name,
                      forward.implementation, backward.implementation);
    ck_assert(fast || !(is_winograd(&forward) || is_winograd(&backward)));
    if (has_depthwise(c))
        ck_assert_msg(is_depthwise(&forward) &&
                          (is_depthwise(&backward) || w.stride[0] > 1 || w.stride[1] > 1),
                      "%s runs %s and %s", c->name, forward.implementation,
                      backward.implementation);

    memory_free(forward.destination);
    memory_free(backward.destination);
    memory_free(source);
    memory_free(gradient);
done:
    memory_free(x);
    memory_free(weights);
    memory_free(bias);
    memory_free(gy);
    memory_free(y);
    memory_free(gx);
}
END_TEST

/* Post-operations: kinds that fuse, over shapes of each implementation. */
static double reference_post(const activation *f, double x)
{
    const double a = (double)f->alpha, b = (double)f->beta;
    switch (f->kind) {
    case ACTIVATION_RELU:
        return fmax(0, x);
    case ACTIVATION_LEAKY_RELU:
        return x > 0 ? x : a * x;
    case ACTIVATION_ELU:
        return x > 0 ? x : a * expm1(x);
    case ACTIVATION_SIGMOID:
        return 1 / (1 + exp(-x));
    case ACTIVATION_TANH:
        return tanh(x);
    case ACTIVATION_CLIP:
        return fmin(fmax(x, a), b);
    case ACTIVATION_SILU:
        return x / (1 + exp(-x));
    case ACTIVATION_HARD_SWISH:
        return x * fmax(0, fmin(1, x / 6 + 0.5));
    case ACTIVATION_GELU:
        return 0.5 * x * erfc(-x * M_SQRT1_2);
    case ACTIVATION_GELU_TANH:
        return x / (1 + exp(-2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    default:
        return x;
    }
}

static const activation fused[] = {
    {ACTIVATION_NONE, 0, 0},       {ACTIVATION_RELU, 0, 0},     {ACTIVATION_LEAKY_RELU, 0.1f, 0},
    {ACTIVATION_ELU, 1, 0},        {ACTIVATION_SIGMOID, 0, 0},  {ACTIVATION_TANH, 0, 0},
    {ACTIVATION_CLIP, 0, 6},       {ACTIVATION_CLIP, 0.25f, 2}, {ACTIVATION_SILU, 0, 0},
    {ACTIVATION_HARD_SWISH, 0, 0}, {ACTIVATION_GELU, 0, 0},     {ACTIVATION_GELU_TANH, 0, 0},
};
#define FUSED_COUNT ((int)(sizeof fused / sizeof *fused))

static const shape_case fused_cases[] = {
    CASE2("3x3", 16, 20, 1, 14, 14, 3, 1, 1, 1), /* 20 channels: four padded lanes in blocks of 8 */
    CASE2("3x3 deep", 96, 128, 1, 7, 7, 3, 1, 1, 1),
    CASE2("1x1", 40, 20, 1, 14, 14, 1, 1, 1, 0),
    CASE2("depthwise", 20, 20, 20, 14, 14, 3, 1, 1, 1),
    CASE2("groups of 4", 32, 32, 8, 14, 14, 3, 1, 1, 1),
    {"first layer", 2, 3, 20, 1, {28, 28}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, true, false},
    {"3-D",
     3,
     8,
     12,
     1,
     {5, 6, 7},
     {3, 3, 3},
     {1, 1, 1},
     {1, 1, 1},
     {1, 1, 1},
     {1, 1, 1},
     false,
     false},
};
#define FUSED_CASE_COUNT ((int)(sizeof fused_cases / sizeof *fused_cases))

/* dst = f(conv + bias [+ dst] [+ other]), and padded lanes end as zero although f(0) may not be. A combination that cannot
 * be fused is refused, never slow or wrong. */
START_TEST(fused_operations_match_and_keep_padding_zero)
{
    if (without_onednn())
        return;
    const shape_case *c = &fused_cases[_i % FUSED_CASE_COUNT];
    const activation *f = &fused[_i / FUSED_CASE_COUNT % FUSED_COUNT];
    const bool fast = _i / FUSED_CASE_COUNT / FUSED_COUNT > 0;
    const window w = window_of(c);
    random_state = (uint32_t)_i + 7;
    const size_t in_spatial = product(w.input, w.rank), out_spatial = product(w.output, w.rank);
    const size_t in_count = (size_t)c->input_channels * in_spatial,
                 out_count = (size_t)c->output_channels * out_spatial;
    const size_t weight_count =
        (size_t)(c->output_channels * c->input_channels / c->groups) * product(w.kernel, w.rank);
    float *x = floats(in_count, true), *weights = floats(weight_count, true),
          *bias = floats((size_t)c->output_channels, true);
    float *first = floats(out_count, true), *second = floats(out_count, true);
    /* Sums of many products as large as those of few: what tanh leaves of them is at most 1. */
    const double products = (double)weight_count / (double)c->output_channels;
    for (size_t k = 0; products > 144 && k < weight_count; k++)
        weights[k] *= (float)(12 / sqrt(products));
    double *sum = memory_allocate_zeroed(out_count, sizeof *sum),
           *y = memory_allocate(out_count, sizeof *y);
    for (size_t i = 0; i < out_count; i++)
        sum[i] = (double)bias[i / out_spatial];
    convolve(&w, c->input_channels, c->output_channels, x, weights, NULL, sum, NULL);
    float *source = in_layout(x, c->input_channels, in_spatial, c->plain_input);
    float *before = in_layout(first, c->output_channels, out_spatial, false);
    float *other = in_layout(second, c->output_channels, out_spatial, false);
    for (int flags = 0; flags < 4; flags++) {
        primitive_spec spec = {.kind = PRIMITIVE_CONVOLUTION,
                               .threads = 2,
                               .geometry = w,
                               .input_channels = c->input_channels,
                               .output_channels = c->output_channels,
                               .plain_input = c->plain_input,
                               .constant_weights = true,
                               .fast = fast,
                               .has_bias = true,
                               .add_to_destination = flags & 1,
                               .add_other = (flags & 2) != 0,
                               .post = *f};
        primitive *probe = NULL;
        xai_error *error = NULL;
        const xai_status status = primitive_create(&spec, &probe, &error);
        primitive_free(probe);
        xai_error_free(error);
        if (status != XAI_OK) {
            ck_assert_int_eq(status, XAI_ERROR_UNSUPPORTED);
#ifdef PRINT_IMPLEMENTATIONS
            printf("not fused: %s flags %d kind %d\n", c->name, flags, f->kind);
#endif
            continue;
        }
        for (size_t i = 0; i < out_count; i++)
            y[i] = reference_post(f, sum[i] + (flags & 1 ? (double)first[i] : 0) +
                                         (flags & 2 ? (double)second[i] : 0));
        outcome got = run_once(&spec, c->name, weights, bias, source, other, before,
                               padded(c->output_channels) * out_spatial);
        check_result(c->name, &got, y, c->output_channels, out_spatial, false);
        memory_free(got.destination);
    }
    memory_free(source);
    memory_free(before);
    memory_free(other);
    memory_free(x);
    memory_free(weights);
    memory_free(bias);
    memory_free(first);
    memory_free(second);
    memory_free(sum);
    memory_free(y);
}
END_TEST

/* ConvTranspose: geometry given in its own forward direction. y[o] gets x[i] W where o = i stride + tap dilation - pad. */
static const shape_case transposed[] = {
    /* input_channels = channels of our OUTPUT, input = our OUTPUT size */
    CASE2("up 2x2 (U-Net)", 16, 32, 1, 28, 28, 2, 2, 1, 0),
    CASE2("up 3x3 stride 2, output padding", 24, 16, 1, 28, 28, 3, 2, 1, 1),
    CASE2("up 4x4 stride 2", 5, 13, 1, 28, 28, 4, 2, 1, 1),
    CASE2("up, stride 1", 8, 8, 1, 14, 14, 3, 1, 1, 1),
    CASE2("up in groups", 16, 16, 4, 14, 14, 2, 2, 1, 0),
    CASE2("up depthwise", 16, 16, 16, 14, 14, 4, 2, 1, 1),
    {"up 1-D", 1, 12, 20, 1, {60}, {4}, {2}, {1}, {1}, {1}, false, false},
    {"up 3-D",
     3,
     8,
     16,
     1,
     {8, 8, 8},
     {2, 2, 2},
     {2, 2, 2},
     {1, 1, 1},
     {0, 0, 0},
     {0, 0, 0},
     false,
     false},
    {"up to plain output",
     2,
     2,
     16,
     1,
     {16, 16},
     {2, 2},
     {2, 2},
     {1, 1},
     {0, 0},
     {0, 0},
     true,
     false},
};
#define TRANSPOSED_COUNT ((int)(sizeof transposed / sizeof *transposed))

START_TEST(transposed_convolution_and_its_gradient_match_double_loops)
{
    if (without_onednn())
        return;
    const shape_case *c = &transposed[_i];
    const window w = window_of(c);
    window own = w;
    memcpy(own.input, w.output, sizeof own.input);
    memcpy(own.output, w.input, sizeof own.output);
    random_state = (uint32_t)_i + 99;
    /* "input" below is the convolution's input = our output */
    const size_t out_spatial = product(w.input, w.rank), in_spatial = product(w.output, w.rank);
    const int64_t out_channels = c->input_channels, in_channels = c->output_channels;
    const size_t out_count = (size_t)out_channels * out_spatial,
                 in_count = (size_t)in_channels * in_spatial;
    const size_t weight_count =
        (size_t)(in_channels * out_channels / c->groups) * product(w.kernel, w.rank);
    float *x = floats(in_count, true), *gy = floats(out_count, true),
          *weights = floats(weight_count, true);
    float *bias = floats((size_t)out_channels, true);
    double *y = memory_allocate_zeroed(out_count, sizeof *y),
           *gx = memory_allocate_zeroed(in_count, sizeof *gx);
    convolve(&w, out_channels, in_channels, gy, weights, x, gx, y);
    for (size_t i = 0; i < out_count; i++)
        y[i] += (double)bias[i / out_spatial];
    primitive_spec spec = {.kind = PRIMITIVE_DECONVOLUTION,
                           .threads = 1,
                           .geometry = own,
                           .input_channels = in_channels,
                           .output_channels = out_channels,
                           .plain_input = c->plain_output,
                           .plain_output = c->plain_input,
                           .constant_weights = true,
                           .has_bias = true};
    float *source = in_layout(x, in_channels, in_spatial, c->plain_output);
    float *gradient = in_layout(gy, out_channels, out_spatial, c->plain_input);
    outcome forward =
        run_on_threads(&spec, c->name, weights, bias, source, NULL, NULL,
                       c->plain_input ? out_count : padded(out_channels) * out_spatial);
    check_result(c->name, &forward, y, out_channels, out_spatial, c->plain_input);
    spec.kind = PRIMITIVE_DECONVOLUTION_BACKWARD;
    spec.has_bias = false;
    outcome backward =
        run_on_threads(&spec, c->name, weights, NULL, gradient, NULL, NULL,
                       c->plain_output ? in_count : padded(in_channels) * in_spatial);
    check_result(c->name, &backward, gx, in_channels, in_spatial, c->plain_output);
    memory_free(forward.destination);
    memory_free(backward.destination);
    memory_free(source);
    memory_free(gradient);
    memory_free(x);
    memory_free(gy);
    memory_free(weights);
    memory_free(bias);
    memory_free(y);
    memory_free(gx);
}
END_TEST

typedef struct matmul_case {
    const char *name;
    int64_t batch, rows, columns, depth;
    bool transpose_a, transpose_b, shared_b, constant, bias;
    activation_kind post;
} matmul_case;

static const matmul_case matmuls[] = {
    {"classifier", 1, 1, 14, 1024, false, true, true, true, true, ACTIVATION_NONE},
    {"large classifier", 1, 1, 1000, 4096, false, true, true, true, true, ACTIVATION_NONE},
    {"ViT projection", 1, 197, 192, 192, false, false, true, true, true, ACTIVATION_NONE},
    {"ViT MLP with GELU", 1, 197, 768, 192, false, false, true, true, true, ACTIVATION_GELU},
    {"its gradient", 1, 197, 192, 768, false, true, true, true, false, ACTIVATION_NONE},
    {"rows of a batch share b", 3, 50, 64, 96, false, false, true, true, true, ACTIVATION_NONE},
    {"attention scores", 3, 197, 197, 64, false, true, false, false, false, ACTIVATION_NONE},
    {"attention values", 3, 197, 64, 197, false, false, false, false, false, ACTIVATION_NONE},
    {"gradient of the keys", 3, 197, 64, 197, true, false, false, false, false, ACTIVATION_NONE},
    {"both transposed", 2, 31, 33, 17, true, true, false, false, false, ACTIVATION_NONE},
    {"windows (Swin)", 64, 49, 49, 32, false, true, false, false, false, ACTIVATION_NONE},
    {"shared b, a transposed", 2, 31, 33, 17, true, false, true, false, false, ACTIVATION_NONE},
    {"deep", 1, 4, 8, 20000, false, false, true, true, false, ACTIVATION_NONE},
    {"one by one", 1, 1, 1, 1, false, false, true, true, true, ACTIVATION_NONE},
};
#define MATMUL_COUNT ((int)(sizeof matmuls / sizeof *matmuls))

START_TEST(matrix_products_match_double_loops)
{
    if (without_onednn())
        return;
    const matmul_case *c = &matmuls[_i];
    random_state = (uint32_t)_i + 5;
    const size_t batch = (size_t)c->batch, m = (size_t)c->rows, n = (size_t)c->columns,
                 k = (size_t)c->depth;
    const size_t b_batch = c->shared_b ? 1 : batch;
    float *a = floats(batch * m * k, true), *b = floats(b_batch * k * n, true),
          *bias = floats(n, true);
    const activation post = {c->post, 0, 0};
    double *y = memory_allocate(batch * m * n, sizeof *y);
    for (size_t q = 0; q < batch; q++)
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                const float *bq = b + (c->shared_b ? 0 : q) * k * n, *aq = a + q * m * k;
                double sum = c->bias ? (double)bias[j] : 0;
                for (size_t l = 0; l < k; l++)
                    sum += (double)aq[c->transpose_a ? l * m + i : i * k + l] *
                           (double)bq[c->transpose_b ? j * k + l : l * n + j];
                y[(q * m + i) * n + j] = reference_post(&post, sum);
            }
    const primitive_spec spec = {.kind = PRIMITIVE_MATMUL,
                                 .threads = 1,
                                 .batch = c->batch,
                                 .rows = c->rows,
                                 .columns = c->columns,
                                 .depth = c->depth,
                                 .transpose_a = c->transpose_a,
                                 .transpose_b = c->transpose_b,
                                 .shared_b = c->shared_b,
                                 .constant_weights = c->constant,
                                 .has_bias = c->bias,
                                 .post = post};
    outcome got = run_on_threads(&spec, c->name, b, bias, a, NULL, NULL, batch * m * n);
    check_result(c->name, &got, y, (int64_t)(batch * m * n), 1, true);
    memory_free(got.destination);
    memory_free(a);
    memory_free(b);
    memory_free(bias);
    memory_free(y);
}
END_TEST

/* One primitive, created for two threads, run by four at once and inside a parallel region: the bits of a lone run. */
START_TEST(one_primitive_runs_on_many_threads_at_once)
{
    if (without_onednn())
        return;
    const shape_case *c = &cases[2];
    const window w = window_of(c);
    const size_t in_count = padded(c->input_channels) * product(w.input, 2),
                 out_count = padded(c->output_channels) * product(w.output, 2);
    float *x = floats(in_count, true),
          *weights = floats((size_t)(c->input_channels * c->output_channels) * 9, true);
    const primitive_spec spec = {.kind = PRIMITIVE_CONVOLUTION,
                                 .threads = 2,
                                 .geometry = w,
                                 .input_channels = c->input_channels,
                                 .output_channels = c->output_channels,
                                 .constant_weights = true};
    primitive *p = NULL;
    ck_assert_int_eq(primitive_create(&spec, &p, NULL), XAI_OK);
    float *prepared = memory_allocate_aligned(primitive_weights_bytes(p)), *y[17] = {NULL};
    ck_assert_int_eq(primitive_prepare_weights(p, weights, prepared, NULL), XAI_OK);
    xai_status status[17] = {0};
    for (int i = 0; i < 17; i++)
        y[i] = floats(out_count, true);
#ifdef _OPENMP
#pragma omp parallel for num_threads(4) schedule(dynamic)
#endif
    for (int i = 0; i < 16; i++) {
        void *scratch = memory_allocate_aligned(primitive_scratchpad_bytes(p) + 64);
        const primitive_arguments arguments = {
            .source = x, .weights = prepared, .destination = y[i], .scratchpad = scratch};
        status[i] = scratch == NULL ? XAI_ERROR_MEMORY : primitive_run(p, &arguments, NULL);
        memory_free(scratch);
    }
    void *scratch = memory_allocate_aligned(primitive_scratchpad_bytes(p) + 64);
    const primitive_arguments arguments = {
        .source = x, .weights = prepared, .destination = y[16], .scratchpad = scratch};
    ck_assert_int_eq(primitive_run(p, &arguments, NULL), XAI_OK);
    for (int i = 0; i < 16; i++) {
        ck_assert_int_eq(status[i], XAI_OK);
        ck_assert_int_eq(memcmp(y[i], y[16], out_count * sizeof(float)), 0);
    }
    for (int i = 0; i < 17; i++)
        memory_free(y[i]);
    memory_free(scratch);
    memory_free(prepared);
    memory_free(x);
    memory_free(weights);
    primitive_free(p);
}
END_TEST

START_TEST(thread_setting_of_the_caller_survives)
{
#ifdef _OPENMP
    if (without_onednn())
        return;
    omp_set_num_threads(3);
    const shape_case *c = &cases[0];
    const primitive_spec spec = {.kind = PRIMITIVE_CONVOLUTION,
                                 .threads = 2,
                                 .geometry = window_of(c),
                                 .input_channels = c->input_channels,
                                 .output_channels = c->output_channels,
                                 .constant_weights = true};
    primitive *p = NULL;
    ck_assert_int_eq(primitive_create(&spec, &p, NULL), XAI_OK);
    ck_assert_int_eq(omp_get_max_threads(), 3);
    primitive_free(p);
#endif
}
END_TEST

/* Primitives that differ only in threads or post-operations share weights; other shapes do not. */
START_TEST(equal_weight_keys_mean_equal_bytes)
{
    if (without_onednn())
        return;
    primitive *p[4] = {NULL};
    const shape_case *c = &cases[0];
    for (int i = 0; i < 4; i++) {
        primitive_spec spec = {.kind = PRIMITIVE_CONVOLUTION,
                               .threads = 1 + i % 2,
                               .geometry = window_of(c),
                               .input_channels = c->input_channels,
                               .output_channels = c->output_channels,
                               .constant_weights = true};
        if (i == 1)
            spec.post.kind = ACTIVATION_RELU;
        if (i == 2)
            spec.geometry.kernel[0] = 1, spec.geometry.pad_begin[0] = spec.geometry.pad_end[0] = 0;
        if (i == 3)
            spec.kind = PRIMITIVE_CONVOLUTION_BACKWARD;
        ck_assert_int_eq(primitive_create(&spec, &p[i], NULL), XAI_OK);
    }
    ck_assert_str_eq(primitive_weights_key(p[0]), primitive_weights_key(p[1]));
    ck_assert_str_ne(primitive_weights_key(p[0]), primitive_weights_key(p[2]));
    const size_t weight_count = (size_t)(c->input_channels * c->output_channels) * 9;
    float *weights = floats(weight_count, true), *prepared[4] = {NULL};
    for (int i = 0; i < 4; i++) {
        prepared[i] = memory_allocate_aligned(primitive_weights_bytes(p[i]));
        ck_assert_int_eq(primitive_prepare_weights(p[i], weights, prepared[i], NULL), XAI_OK);
    }
    ck_assert_uint_eq(primitive_weights_bytes(p[0]), primitive_weights_bytes(p[1]));
    ck_assert_int_eq(memcmp(prepared[0], prepared[1], primitive_weights_bytes(p[0])), 0);
    if (strcmp(primitive_weights_key(p[0]), primitive_weights_key(p[3])) != 0)
        ck_assert(primitive_weights_bytes(p[0]) != primitive_weights_bytes(p[3]) ||
                  memcmp(prepared[0], prepared[3], primitive_weights_bytes(p[0])) != 0);
    for (int i = 0; i < 4; i++) {
        primitive_free(p[i]);
        memory_free(prepared[i]);
    }
    memory_free(weights);
}
END_TEST

/* Many channels on small maps: with AVX2 the own kernel, or else oneDNN's for channels last, but where something in
 * blocks is added. Otherwise the case "3x3 deep" above would not test it. */
START_TEST(deep_windows_run_with_channels_last)
{
    const shape_case deep = CASE2("", 96, 128, 1, 7, 7, 3, 1, 1, 1),
                     wide = CASE2("", 96, 128, 1, 29, 29, 3, 1, 1, 1),
                     shallow = CASE2("", 16, 32, 1, 7, 7, 3, 1, 1, 1);
    const shape_case *const each[] = {&deep, &deep, &wide, &shallow};
    for (int i = 0; i < 4; i++) {
        primitive *p = NULL;
        const primitive_spec spec = {.kind = PRIMITIVE_CONVOLUTION,
                                     .threads = 1,
                                     .geometry = window_of(each[i]),
                                     .input_channels = each[i]->input_channels,
                                     .output_channels = each[i]->output_channels,
                                     .add_other = i == 1,
                                     .post = {ACTIVATION_RELU, 0, 0}};
        if (without_onednn() || primitive_block() != 8)
            return;
        ck_assert_int_eq(primitive_create(&spec, &p, NULL), XAI_OK);
        const char *name = primitive_implementation(p);
        if (strcmp(name, "window:avx2") != 0 && strstr(name, "avx2") != NULL)
            ck_assert_int_eq(strcmp(name, "brgconv:avx2") == 0, i == 0);
        primitive_free(p);
    }
}
END_TEST

START_TEST(impossible_geometry_is_refused)
{
    xai_error *error = NULL;
    primitive *p = NULL;
    primitive_spec spec = {.kind = PRIMITIVE_CONVOLUTION,
                           .threads = 1,
                           .geometry = window_of(&cases[0]),
                           .input_channels = 16,
                           .output_channels = 24};
    spec.geometry.groups = 5;
    ck_assert_int_eq(primitive_create(&spec, &p, &error), XAI_ERROR_UNSUPPORTED);
    ck_assert_ptr_null(p);
    ck_assert_ptr_nonnull(error);
    xai_error_free(error);
    spec.geometry.groups = 1;
    spec.input_channels = INT64_MAX / 2;
    ck_assert_int_eq(primitive_create(&spec, &p, NULL), XAI_ERROR_UNSUPPORTED);
    spec.input_channels = 16;
    spec.geometry.pad_begin[0] = -1;
    ck_assert_int_eq(primitive_create(&spec, &p, NULL), XAI_ERROR_UNSUPPORTED);
    primitive_free(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("primitive");
    TCase *shapes = tcase_create("shapes");
    tcase_set_timeout(shapes, 120);
    tcase_add_loop_test(shapes, convolution_and_its_gradient_match_double_loops, 0,
                        2 * CASE_COUNT + WINOGRAD_COUNT);
    tcase_add_loop_test(shapes, transposed_convolution_and_its_gradient_match_double_loops, 0,
                        TRANSPOSED_COUNT);
    tcase_add_loop_test(shapes, fused_operations_match_and_keep_padding_zero, 0,
                        2 * FUSED_COUNT * FUSED_CASE_COUNT);
    tcase_add_loop_test(shapes, matrix_products_match_double_loops, 0, MATMUL_COUNT);
    tcase_add_test(shapes, one_primitive_runs_on_many_threads_at_once);
    tcase_add_test(shapes, thread_setting_of_the_caller_survives);
    tcase_add_test(shapes, equal_weight_keys_mean_equal_bytes);
    tcase_add_test(shapes, deep_windows_run_with_channels_last);
    tcase_add_test(shapes, impossible_geometry_is_refused);
    suite_add_tcase(suite, shapes);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
