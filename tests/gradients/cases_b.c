/* Convolutions, pools, matrix products, Resize and the operators that move data. */
#include "cases.h"

#define CASE(name, text, version, count, ...) {.op = name, .note = text, .opset = version, .input_count = count, __VA_ARGS__}
#define INPUTS(...) .inputs = {__VA_ARGS__}
#define ATTRIBUTES(...) .attributes = {__VA_ARGS__}
#define X4 RANDOM(-1, 1, 2, 3, 4, 5)
/* Constant floats: scales, regions. */
#define CONSTANT_FLOATS(...)                                                                                           \
    {                                                                                                                  \
        .dims = {.rank = 1, .dims = {(int64_t)COUNT_OF(double, __VA_ARGS__)}}, .constant = true,                       \
        .values = (const double[]) {                                                                                   \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }
/* Constant integers of another shape than a list. */
#define INDICES(numbers, ...)                                                                                          \
    {                                                                                                                  \
        .dims = SHAPE(__VA_ARGS__), .dtype = DTYPE_INT64, .values = numbers                                            \
    }

static const double gather_indices[] = {0, 2, -1, 1, 2, 2};
static const double element_indices[] = {0, 1, -1, 2, 0, 1, 1, 1, 2, -3, 0, 0};
static const double tuple_indices[] = {0, 1, 1, -1, 0, 1};
static const double distinct_tuples[] = {0, 1, 1, -1};
static const double batch_indices[] = {1, 0, -1, 2};
static const double one[] = {1};

const gradient_case gradient_cases_b[] = {
    CASE("Conv", "2-D, bias", 11, 3, INPUTS(X4, RANDOM(-1, 1, 4, 3, 3, 3), RANDOM(-1, 1, 4)),
         ATTRIBUTES(ATTRIBUTE_INTS("pads", 1, 1, 1, 1))),
    CASE("Conv", "1-D, stride", 11, 2, INPUTS(RANDOM(-1, 1, 2, 3, 9), RANDOM(-1, 1, 4, 3, 3)),
         ATTRIBUTES(ATTRIBUTE_INTS("strides", 2), ATTRIBUTE_INTS("pads", 0, 2))),
    CASE("Conv", "3-D, groups, dilation", 11, 3,
         INPUTS(RANDOM(-1, 1, 1, 4, 3, 5, 4), RANDOM(-1, 1, 6, 2, 2, 2, 2), RANDOM(-1, 1, 6)),
         ATTRIBUTES(ATTRIBUTE_INT("group", 2), ATTRIBUTE_INTS("dilations", 1, 2, 1), ATTRIBUTE_INTS("pads", 1, 0, 1, 0, 1, 1))),
    CASE("Conv", "depthwise, asymmetric", 11, 2, INPUTS(RANDOM(-1, 1, 1, 3, 7, 6), RANDOM(-1, 1, 3, 1, 3, 2)),
         ATTRIBUTES(ATTRIBUTE_INT("group", 3), ATTRIBUTE_INTS("strides", 2, 3), ATTRIBUTE_INTS("pads", 0, 1, 2, 0))),
    CASE("Conv", "same lower", 11, 2, INPUTS(X4, RANDOM(-1, 1, 2, 3, 2, 3)),
         ATTRIBUTES(ATTRIBUTE_TEXT("auto_pad", "SAME_LOWER"), ATTRIBUTE_INTS("strides", 2, 2))),
    CASE("Conv", "many positions and taps", 11, 2, INPUTS(RANDOM(-1, 1, 1, 17, 1, 270), RANDOM(-1, 1, 1, 17, 1, 9))),
    CASE("ConvTranspose", "2-D, bias, stride", 11, 3, INPUTS(X4, RANDOM(-1, 1, 3, 2, 3, 3), RANDOM(-1, 1, 2)),
         ATTRIBUTES(ATTRIBUTE_INTS("strides", 2, 2), ATTRIBUTE_INTS("pads", 1, 1, 1, 0),
                    ATTRIBUTE_INTS("output_padding", 1, 0))),
    CASE("ConvTranspose", "groups, dilation", 11, 2, INPUTS(RANDOM(-1, 1, 1, 4, 3, 4), RANDOM(-1, 1, 4, 2, 2, 3)),
         ATTRIBUTES(ATTRIBUTE_INT("group", 2), ATTRIBUTE_INTS("dilations", 2, 1), ATTRIBUTE_INTS("strides", 1, 3))),
    CASE("ConvTranspose", "output shape", 11, 2, INPUTS(RANDOM(-1, 1, 1, 2, 5), RANDOM(-1, 1, 2, 1, 3)),
         ATTRIBUTES(ATTRIBUTE_INTS("strides", 2), ATTRIBUTE_INTS("output_shape", 8))),
    CASE("ConvTranspose", "3-D", 11, 2, INPUTS(RANDOM(-1, 1, 1, 2, 2, 3, 2), RANDOM(-1, 1, 2, 2, 2, 2, 2))),

    CASE("MaxPool", "overlapping", 12, 1, INPUTS(RANDOM(-1, 1, 2, 2, 6, 7)),
         ATTRIBUTES(ATTRIBUTE_INTS("kernel_shape", 3, 3), ATTRIBUTE_INTS("strides", 2, 2),
                    ATTRIBUTE_INTS("pads", 1, 1, 1, 1))),
    CASE("MaxPool", "indices, ceil, dilation", 12, 1, .output_count = 2, INPUTS(RANDOM(-1, 1, 1, 2, 7, 8)),
         ATTRIBUTES(ATTRIBUTE_INTS("kernel_shape", 2, 3), ATTRIBUTE_INTS("strides", 2, 2),
                    ATTRIBUTE_INTS("dilations", 2, 1), ATTRIBUTE_INT("ceil_mode", 1))),
    CASE("MaxPool", "3-D", 12, 1, INPUTS(RANDOM(-1, 1, 1, 1, 4, 4, 4)), ATTRIBUTES(ATTRIBUTE_INTS("kernel_shape", 2, 2, 2))),
    CASE("AveragePool", "padding excluded, ceil", 11, 1, INPUTS(RANDOM(-1, 1, 2, 2, 6, 7)),
         ATTRIBUTES(ATTRIBUTE_INTS("kernel_shape", 3, 3), ATTRIBUTE_INTS("strides", 2, 2),
                    ATTRIBUTE_INTS("pads", 1, 0, 1, 0), ATTRIBUTE_INT("ceil_mode", 1))),
    CASE("AveragePool", "padding included, dilation", 19, 1, INPUTS(RANDOM(-1, 1, 1, 2, 9)),
         ATTRIBUTES(ATTRIBUTE_INTS("kernel_shape", 3), ATTRIBUTE_INTS("dilations", 2), ATTRIBUTE_INTS("pads", 1, 1),
                    ATTRIBUTE_INT("count_include_pad", 1), ATTRIBUTE_INTS("strides", 2))),
    CASE("LpPool", "p 2", 18, 1, INPUTS(RANDOM_AWAY(-1, 1, 0, 1, 2, 5, 6)),
         ATTRIBUTES(ATTRIBUTE_INTS("kernel_shape", 3, 2), ATTRIBUTE_INTS("pads", 1, 1, 1, 1))),
    CASE("LpPool", "p 1", 18, 1, INPUTS(RANDOM_AWAY(-1, 1, 0, 1, 2, 7)),
         ATTRIBUTES(ATTRIBUTE_INTS("kernel_shape", 3), ATTRIBUTE_INT("p", 1))),
    CASE("LpPool", "p 3", 18, 1, INPUTS(RANDOM_AWAY(-1, 1, 0, 1, 2, 7)),
         ATTRIBUTES(ATTRIBUTE_INTS("kernel_shape", 3), ATTRIBUTE_INT("p", 3))),
    CASE("GlobalMaxPool", "", 13, 1, INPUTS(X4)),
    CASE("GlobalAveragePool", "", 13, 1, INPUTS(X4)),
    CASE("GlobalAveragePool", "3-D", 13, 1, INPUTS(RANDOM(-1, 1, 1, 2, 2, 3, 2))),
    CASE("GlobalLpPool", "", 13, 1, INPUTS(RANDOM_AWAY(-1, 1, 0, 1, 2, 3, 3))),

    CASE("MatMul", "matrices", 13, 2, INPUTS(RANDOM(-1, 1, 3, 5), RANDOM(-1, 1, 5, 4))),
    CASE("MatMul", "batches broadcast", 13, 2, INPUTS(RANDOM(-1, 1, 2, 1, 3, 5), RANDOM(-1, 1, 4, 5, 2))),
    CASE("MatMul", "one matrix for all", 13, 2, INPUTS(RANDOM(-1, 1, 2, 3, 4, 5), RANDOM(-1, 1, 5, 2))),
    CASE("MatMul", "vector first", 13, 2, INPUTS(RANDOM(-1, 1, 5), RANDOM(-1, 1, 3, 5, 2))),
    CASE("MatMul", "vector last", 13, 2, INPUTS(RANDOM(-1, 1, 2, 3, 5), RANDOM(-1, 1, 5))),
    CASE("MatMul", "two vectors", 13, 2, INPUTS(RANDOM(-1, 1, 5), RANDOM(-1, 1, 5))),
    CASE("Gemm", "plain", 13, 3, INPUTS(RANDOM(-1, 1, 3, 5), RANDOM(-1, 1, 5, 4), RANDOM(-1, 1, 4))),
    CASE("Gemm", "transposed, scaled", 13, 3, INPUTS(RANDOM(-1, 1, 5, 3), RANDOM(-1, 1, 4, 5), RANDOM(-1, 1, 3, 1)),
         ATTRIBUTES(ATTRIBUTE_INT("transA", 1), ATTRIBUTE_INT("transB", 1), ATTRIBUTE_FLOAT("alpha", 0.5f),
                    ATTRIBUTE_FLOAT("beta", -2))),
    CASE("Gemm", "transB, scalar", 13, 3, INPUTS(RANDOM(-1, 1, 3, 5), RANDOM(-1, 1, 4, 5), RANDOM_SCALAR(-1, 1)),
         ATTRIBUTES(ATTRIBUTE_INT("transB", 1))),
    CASE("Gemm", "transA, no C", 11, 2, INPUTS(RANDOM(-1, 1, 5, 3), RANDOM(-1, 1, 5, 4)), ATTRIBUTES(ATTRIBUTE_INT("transA", 1))),

    CASE("Resize", "nearest", 13, 3, INPUTS(X4, OMITTED, CONSTANT_FLOATS(1, 1, 1.7, 0.6)),
         ATTRIBUTES(ATTRIBUTE_TEXT("mode", "nearest"), ATTRIBUTE_TEXT("coordinate_transformation_mode", "asymmetric"),
                    ATTRIBUTE_TEXT("nearest_mode", "floor"))),
    CASE("Resize", "linear, sizes", 13, 4, INPUTS(X4, OMITTED, OMITTED, INTEGERS(2, 3, 7, 3)),
         ATTRIBUTES(ATTRIBUTE_TEXT("mode", "linear"))),
    CASE("Resize", "linear, corners", 11, 3, INPUTS(X4, OMITTED, CONSTANT_FLOATS(1, 1, 2, 2)),
         ATTRIBUTES(ATTRIBUTE_TEXT("mode", "linear"), ATTRIBUTE_TEXT("coordinate_transformation_mode", "align_corners"))),
    CASE("Resize", "cubic", 18, 3, INPUTS(X4, OMITTED, CONSTANT_FLOATS(1.8, 0.7)),
         ATTRIBUTES(ATTRIBUTE_TEXT("mode", "cubic"), ATTRIBUTE_INTS("axes", 2, 3))),
    CASE("Resize", "cubic, outside excluded", 13, 3, INPUTS(X4, OMITTED, CONSTANT_FLOATS(1, 1, 1.8, 2)),
         ATTRIBUTES(ATTRIBUTE_TEXT("mode", "cubic"), ATTRIBUTE_INT("exclude_outside", 1))),
    CASE("Resize", "antialias", 18, 4, INPUTS(RANDOM(-1, 1, 1, 1, 7, 9), OMITTED, OMITTED, INTEGERS(1, 1, 3, 4)),
         ATTRIBUTES(ATTRIBUTE_TEXT("mode", "linear"), ATTRIBUTE_INT("antialias", 1))),
    CASE("Resize", "crop", 13, 4, INPUTS(RANDOM(-1, 1, 1, 1, 4, 4), CONSTANT_FLOATS(0, 0, 0.4, 0.6, 1, 1, 1.2, 1.7), OMITTED,
                                         INTEGERS(1, 1, 3, 3)),
         ATTRIBUTES(ATTRIBUTE_TEXT("mode", "linear"), ATTRIBUTE_FLOAT("extrapolation_value", 10),
                    ATTRIBUTE_TEXT("coordinate_transformation_mode", "tf_crop_and_resize"))),
    CASE("Resize", "opset 10", 10, 2, INPUTS(X4, CONSTANT_FLOATS(1, 1, 2, 0.5)), ATTRIBUTES(ATTRIBUTE_TEXT("mode", "linear"))),
    CASE("Upsample", "scales input", 9, 2, INPUTS(X4, CONSTANT_FLOATS(1, 1, 2, 3)), ATTRIBUTES(ATTRIBUTE_TEXT("mode", "nearest"))),
    CASE("Upsample", "scales attribute", 7, 1, INPUTS(X4),
         ATTRIBUTES(ATTRIBUTE_TEXT("mode", "linear"), ATTRIBUTE_FLOATS("scales", 1, 1, 2, 1.5f))),

    CASE("Reshape", "", 13, 2, INPUTS(X4, INTEGERS(0, -1, 2))),
    CASE("Flatten", "", 13, 1, INPUTS(X4), ATTRIBUTES(ATTRIBUTE_INT("axis", -2))),
    CASE("Squeeze", "", 13, 2, INPUTS(RANDOM(-1, 1, 1, 3, 1, 2), INTEGERS(2))),
    CASE("Unsqueeze", "", 11, 1, INPUTS(RANDOM(-1, 1, 3, 2)), ATTRIBUTES(ATTRIBUTE_INTS("axes", 0, -1))),
    CASE("Identity", "", 13, 1, INPUTS(X4)),
    CASE("Dropout", "", 12, 1, .output_count = 2, INPUTS(X4)),
    CASE("Transpose", "", 13, 1, INPUTS(X4), ATTRIBUTES(ATTRIBUTE_INTS("perm", 2, 0, 3, 1))),
    CASE("Transpose", "reversed", 13, 1, INPUTS(RANDOM(-1, 1, 2, 3, 4))),
    CASE("Transpose", "last kept", 13, 1, INPUTS(X4), ATTRIBUTES(ATTRIBUTE_INTS("perm", 1, 2, 0, 3))),
    CASE("DepthToSpace", "", 13, 1, INPUTS(RANDOM(-1, 1, 1, 8, 2, 3)), ATTRIBUTES(ATTRIBUTE_INT("blocksize", 2))),
    CASE("DepthToSpace", "CRD", 13, 1, INPUTS(RANDOM(-1, 1, 1, 8, 2, 3)),
         ATTRIBUTES(ATTRIBUTE_INT("blocksize", 2), ATTRIBUTE_TEXT("mode", "CRD"))),
    CASE("SpaceToDepth", "", 13, 1, INPUTS(RANDOM(-1, 1, 1, 2, 4, 6)), ATTRIBUTES(ATTRIBUTE_INT("blocksize", 2))),

    CASE("Slice", "negative steps", 13, 5, INPUTS(X4, INTEGERS(-1, 1), INTEGERS(-100, 4), INTEGERS(2, 3), INTEGERS(-2, 1))),
    CASE("Slice", "attributes", 9, 1, INPUTS(X4),
         ATTRIBUTES(ATTRIBUTE_INTS("starts", 1, 0), ATTRIBUTE_INTS("ends", 3, 1000), ATTRIBUTE_INTS("axes", 1, 2))),
    CASE("Expand", "", 13, 2, INPUTS(RANDOM(-1, 1, 3, 1, 2), INTEGERS(2, 1, 4, 1))),
    CASE("Tile", "", 13, 2, INPUTS(RANDOM(-1, 1, 3, 2), INTEGERS(2, 3))),
    CASE("Trilu", "upper", 14, 2, INPUTS(RANDOM(-1, 1, 2, 3, 4), INTEGER(1))),
    CASE("Trilu", "lower", 14, 2, INPUTS(RANDOM(-1, 1, 2, 4, 3), INTEGER(-1)), ATTRIBUTES(ATTRIBUTE_INT("upper", 0))),
    CASE("Concat", "", 13, 3, INPUTS(RANDOM(-1, 1, 2, 3, 4), RANDOM(-1, 1, 2, 1, 4), RANDOM(-1, 1, 2, 2, 4)),
         ATTRIBUTES(ATTRIBUTE_INT("axis", -2))),
    CASE("Split", "attribute", 11, 1, .output_count = 3, INPUTS(X4),
         ATTRIBUTES(ATTRIBUTE_INT("axis", 3), ATTRIBUTE_INTS("split", 1, 3, 1))),
    CASE("Split", "input", 13, 2, .output_count = 2, INPUTS(X4, INTEGERS(1, 2)), ATTRIBUTES(ATTRIBUTE_INT("axis", 1))),
    CASE("Split", "smaller last part", 18, 1, .output_count = 3, INPUTS(X4),
         ATTRIBUTES(ATTRIBUTE_INT("axis", -1), ATTRIBUTE_INT("num_outputs", 3))),
    CASE("Pad", "constant, removing", 13, 2, INPUTS(RANDOM(-1, 1, 3, 4), INTEGERS(-1, 2, 1, -1))),
    CASE("Pad", "reflect", 13, 2, INPUTS(RANDOM(-1, 1, 3, 4), INTEGERS(2, 5, 1, 0)), ATTRIBUTES(ATTRIBUTE_TEXT("mode", "reflect"))),
    CASE("Pad", "edge, axes", 18, 4, INPUTS(RANDOM(-1, 1, 3, 4), INTEGERS(2, 3), OMITTED, INTEGERS(-1)),
         ATTRIBUTES(ATTRIBUTE_TEXT("mode", "edge"))),
    CASE("Pad", "wrap", 19, 2, INPUTS(RANDOM(-1, 1, 3, 4), INTEGERS(4, 1, -1, 6)), ATTRIBUTES(ATTRIBUTE_TEXT("mode", "wrap"))),
    CASE("Pad", "attributes", 10, 1, INPUTS(RANDOM(-1, 1, 3, 4)), ATTRIBUTES(ATTRIBUTE_INTS("pads", 1, 0, 0, 2))),
    CASE("Gather", "repeated", 13, 2, INPUTS(RANDOM(-1, 1, 2, 3, 4), INDICES(gather_indices, 2, 3)),
         ATTRIBUTES(ATTRIBUTE_INT("axis", 1))),
    CASE("Gather", "scalar index", 13, 2, INPUTS(RANDOM(-1, 1, 2, 3), INTEGER(1)), ATTRIBUTES(ATTRIBUTE_INT("axis", -1))),
    CASE("GatherElements", "", 13, 2, INPUTS(RANDOM(-1, 1, 3, 4), INDICES(element_indices, 3, 4))),
    CASE("GatherND", "", 13, 2, INPUTS(RANDOM(-1, 1, 2, 3, 4), INDICES(tuple_indices, 3, 2))),
    CASE("GatherND", "batch", 13, 2, INPUTS(RANDOM(-1, 1, 2, 3, 2), INDICES(batch_indices, 2, 2, 1)),
         ATTRIBUTES(ATTRIBUTE_INT("batch_dims", 1))),
    CASE("Scatter", "", 10, 3, INPUTS(RANDOM(-1, 1, 5), INTEGERS(0, 3), RANDOM(-1, 1, 2))),
    CASE("ScatterElements", "none", 18, 3, INPUTS(RANDOM(-1, 1, 5), INTEGERS(0, -2), RANDOM(-1, 1, 2))),
    CASE("ScatterElements", "the last write counts", 18, 3, INPUTS(RANDOM(-1, 1, 5), INTEGERS(1, 3, 1), RANDOM(-1, 1, 3))),
    CASE("ScatterElements", "add", 18, 3, INPUTS(RANDOM(-1, 1, 3, 4), INDICES(element_indices, 3, 4), RANDOM(-1, 1, 3, 4)),
         ATTRIBUTES(ATTRIBUTE_TEXT("reduction", "add"))),
    CASE("ScatterND", "none", 18, 3, INPUTS(RANDOM(-1, 1, 2, 3, 4), INDICES(distinct_tuples, 2, 2), RANDOM(-1, 1, 2, 4))),
    CASE("ScatterND", "add", 18, 3, INPUTS(RANDOM(-1, 1, 2, 3, 4), INDICES(tuple_indices, 3, 2), RANDOM(-1, 1, 3, 4)),
         ATTRIBUTES(ATTRIBUTE_TEXT("reduction", "add"))),
    CASE("Cast", "to float64", 13, 1, INPUTS(RANDOM(-1, 1, 7)), ATTRIBUTES(ATTRIBUTE_INT("to", DTYPE_DOUBLE))),
    CASE("CastLike", "", 15, 2, INPUTS(RANDOM(-1, 1, 7), {.constant = true, .values = one})),
    {.op = NULL},
};
