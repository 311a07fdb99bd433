/* Reductions: every row of the reduced axes becomes one number. */
#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/support.h"

/* The set of reduced axes. They are an attribute before `axes_input_since` and an optional
 * constant input 1 from it on. */
static xai_status reduced_axes(const operator_call *call, int axes_input_since, uint32_t *axes)
{
    int64_t values[SHAPE_MAX_RANK * 4], keep_all = 0;
    const int64_t *given = values;
    size_t count = 0;
    int axis;
    const int rank = call->inputs[0]->shape.rank;
    xai_status status = XAI_OK;
    *axes = 0;
    if (call->opset < axes_input_since) {
        status = operator_attribute_ints(call, "axes", &given, &count);
    } else {
        if (operator_has_input(call, 1))
            status =
                operator_constant_ints(call, 1, values, sizeof values / sizeof *values, &count);
        if (status == XAI_OK)
            status = operator_attribute_int(call, "noop_with_empty_axes", 0, &keep_all);
    }
    if (status == XAI_OK && count == 0 && !keep_all)
        *axes = (1u << rank) - 1;
    for (size_t i = 0; status == XAI_OK && i < count; i++) {
        status = operator_axis(call, given[i], rank, &axis);
        if (status == XAI_OK)
            *axes |= 1u << axis;
    }
    return status;
}

/* Shape without the axes of the set, or with ones in their place. */
static shape reduced_shape(const shape *dims, uint32_t axes, bool keep)
{
    shape reduced = {0};
    for (int i = 0; i < dims->rank; i++) {
        if (!(axes >> i & 1))
            reduced.dims[reduced.rank++] = dims->dims[i];
        else if (keep)
            reduced.dims[reduced.rank++] = 1;
    }
    return reduced;
}

typedef struct reduce_kernel {
    int axes_input_since; /* opset */
    double (*value)(const double *x, size_t width);
    /* Exact value of the elements as int64 (uint64: the same bits); NULL = computed in double and
     * truncated. */
    int64_t (*integer)(const int64_t *x, size_t width, int32_t dtype);
    /* slopes[i] = d value / d x[i]; x is NULL when the slope does not read it. */
    void (*slope)(const double *x, double *slopes, size_t width);
    bool slope_reads;
} reduce_kernel;

static xai_status reduce_infer(operator_call *call, const reduce_kernel *kernel, uint32_t types)
{
    int64_t keep;
    uint32_t axes;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, types);
    if (status == XAI_OK && call->opset < kernel->axes_input_since && call->input_count > 1)
        status = operator_error(call, XAI_ERROR_FORMAT,
                                "axes are an attribute in opset %d, not an input", call->opset);
    if (status == XAI_OK)
        status = reduced_axes(call, kernel->axes_input_since, &axes);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "keepdims", 1, &keep);
    if (status != XAI_OK)
        return status;
    const shape reduced = reduced_shape(&call->inputs[0]->shape, axes, keep != 0);
    return operator_set_output(call, 0, call->inputs[0]->dtype, &reduced);
}

static xai_status reduce_integers(operator_call *call, const reduce_kernel *kernel, uint32_t axes)
{
    int64_t *values = NULL;
    void *rows = NULL;
    const tensor *x = call->inputs[0];
    const size_t width = rows_width(&x->shape, axes), count = rows_count(&x->shape, axes);
    xai_status status = operator_read_ints(call, x, &values);
    if (status != XAI_OK)
        return status;
    double *words = NULL;
    status = operator_allocate(call, tensor_count(x), &words);
    if (status == XAI_OK) {
        rows = words;
        rows_gather(&x->shape, axes, values, rows);
        const int64_t *row = rows;
        for (size_t r = 0; r < count; r++)
            tensor_set_int(call->outputs[0], r, kernel->integer(row + r * width, width, x->dtype));
    }
    memory_free(values);
    memory_free(rows);
    return status;
}

static xai_status reduce_forward(operator_call *call, const reduce_kernel *kernel)
{
    uint32_t axes;
    double *rows = NULL;
    const tensor *x = call->inputs[0];
    xai_status status = reduced_axes(call, kernel->axes_input_since, &axes);
    if (status != XAI_OK)
        return status;
    if (!dtype_is_float(x->dtype) && kernel->integer)
        return reduce_integers(call, kernel, axes);
    status = operator_read_rows(call, x, axes, &rows);
    if (status != XAI_OK)
        return status;
    const size_t width = rows_width(&x->shape, axes), count = rows_count(&x->shape, axes);
    double *values = NULL;
    status = operator_allocate(call, count, &values);
    if (status == XAI_OK) {
        for (size_t r = 0; r < count; r++)
            values[r] = kernel->value(rows + r * width, width);
        tensor_write_doubles(call->outputs[0], 0, count, values);
    }
    memory_free(values);
    memory_free(rows);
    return status;
}

static xai_status reduce_backward(operator_call *call, const reduce_kernel *kernel)
{
    uint32_t axes;
    double *x = NULL, *g = NULL, *slopes = NULL;
    tensor *wanted = operator_wanted_gradient(call, 0);
    const tensor *given = operator_output_gradient(call, 0);
    if (operator_wanted_gradient(call, 1))
        operator_zero(call->input_gradients[1]);
    if (!wanted)
        return XAI_OK;
    if (!given) {
        operator_zero(wanted);
        return XAI_OK;
    }
    const shape *dims = &wanted->shape;
    xai_status status = reduced_axes(call, kernel->axes_input_since, &axes);
    if (status == XAI_OK && kernel->slope_reads)
        status = operator_read_rows(call, call->inputs[0], axes, &x);
    if (status == XAI_OK)
        status = operator_read_doubles(call, given, &g);
    if (status == XAI_OK)
        status = operator_allocate(call, tensor_count(wanted), &slopes);
    if (status == XAI_OK) {
        const size_t width = rows_width(dims, axes), count = width > 0 ? rows_count(dims, axes) : 0;
        for (size_t r = 0; r < count; r++) {
            double *row = slopes + r * width;
            kernel->slope(x ? x + r * width : NULL, row, width);
            for (size_t i = 0; i < width; i++)
                row[i] *= g[r];
        }
        status = operator_write_rows(call, wanted, axes, slopes);
    }
    memory_free(x);
    memory_free(g);
    memory_free(slopes);
    return status;
}

/* The definition of one reduction from symbol_value, symbol_integer or NULL, symbol_slope. */
#define REDUCE(symbol, name, since, types, integer_function, reads)                          \
    static const reduce_kernel symbol##_kernel = {since, symbol##_value, integer_function,   \
                                                  symbol##_slope, reads};                    \
    static xai_status symbol##_infer(operator_call *call)                                    \
    {                                                                                        \
        return reduce_infer(call, &symbol##_kernel, types);                                  \
    }                                                                                        \
    static xai_status symbol##_forward(operator_call *call)                                  \
    {                                                                                        \
        return reduce_forward(call, &symbol##_kernel);                                       \
    }                                                                                        \
    static xai_status symbol##_backward(operator_call *call)                                 \
    {                                                                                        \
        return reduce_backward(call, &symbol##_kernel);                                      \
    }                                                                                        \
    const operator_definition operator_##symbol = {name,                                     \
                                                   "",                                       \
                                                   1,                                        \
                                                   2,                                        \
                                                   1,                                        \
                                                   1,                                        \
                                                   1,                                        \
                                                   0,                                        \
                                                   ((reads) ? OPERATOR_READS_INPUT(0) : 0) | \
                                                       OPERATOR_READS_INPUT(1),              \
                                                   symbol##_infer,                           \
                                                   symbol##_forward,                         \
                                                   symbol##_backward}

static bool is_unsigned(int32_t dtype)
{
    return TYPES_UNSIGNED >> dtype & 1;
}

static void fill(double *values, size_t count, double value)
{
    for (size_t i = 0; i < count; i++)
        values[i] = value;
}

static double reduce_sum_value(const double *x, size_t width)
{
    double sum = 0;
    for (size_t i = 0; i < width; i++)
        sum += x[i];
    return sum;
}

static int64_t integer_sum(const int64_t *x, size_t width, int32_t dtype)
{
    uint64_t sum = 0; /* wraps */
    (void)dtype;
    for (size_t i = 0; i < width; i++)
        sum += (uint64_t)x[i];
    return (int64_t)sum;
}

static void reduce_sum_slope(const double *x, double *slopes, size_t width)
{
    (void)x;
    fill(slopes, width, 1);
}
REDUCE(reduce_sum, "ReduceSum", 13, TYPES_NUMBER, integer_sum, false);

static double reduce_mean_value(const double *x, size_t width)
{
    return reduce_sum_value(x, width) / (double)width;
}

static int64_t integer_mean(const int64_t *x, size_t width, int32_t dtype)
{
    const int64_t sum = integer_sum(x, width, dtype);
    if (width == 0)
        return 0;
    return is_unsigned(dtype) ? (int64_t)((uint64_t)sum / width)
                              : sum / (int64_t)width; /* toward zero */
}

static void reduce_mean_slope(const double *x, double *slopes, size_t width)
{
    (void)x;
    fill(slopes, width, 1 / (double)width);
}
REDUCE(reduce_mean, "ReduceMean", 18, TYPES_NUMBER, integer_mean, false);

/* NaN wins, as in NumPy; of nothing it is -infinity. */
static double reduce_max_value(const double *x, size_t width)
{
    double best = -INFINITY;
    for (size_t i = 0; i < width; i++)
        best = x[i] > best || x[i] != x[i] ? x[i] : best;
    return best;
}

static double reduce_min_value(const double *x, size_t width)
{
    double best = INFINITY;
    for (size_t i = 0; i < width; i++)
        best = x[i] < best || x[i] != x[i] ? x[i] : best;
    return best;
}

/* The least and the greatest value of an integer type: the extremes of nothing. */
static int64_t integer_limit(int32_t dtype, bool greatest)
{
    const int bits = (int)dtype_size(dtype) * 8;
    if (dtype == DTYPE_BOOL)
        return greatest;
    if (is_unsigned(dtype))
        return greatest ? (int64_t)(UINT64_MAX >> (64 - bits)) : 0;
    return greatest ? INT64_MAX >> (64 - bits) : -1 - (INT64_MAX >> (64 - bits));
}

static int64_t integer_max(const int64_t *x, size_t width, int32_t dtype)
{
    int64_t best = integer_limit(dtype, false);
    for (size_t i = 0; i < width; i++)
        if (is_unsigned(dtype) ? (uint64_t)x[i] > (uint64_t)best : x[i] > best)
            best = x[i];
    return best;
}

static int64_t integer_min(const int64_t *x, size_t width, int32_t dtype)
{
    int64_t best = integer_limit(dtype, true);
    for (size_t i = 0; i < width; i++)
        if (is_unsigned(dtype) ? (uint64_t)x[i] < (uint64_t)best : x[i] < best)
            best = x[i];
    return best;
}

/* Elements that reach the extreme share the slope evenly. */
static void share_among_ties(const double *x, double extreme, double *slopes, size_t width)
{
    size_t ties = 0;
    for (size_t i = 0; i < width; i++)
        ties += x[i] == extreme;
    for (size_t i = 0; i < width; i++)
        slopes[i] = x[i] == extreme ? 1 / (double)ties : 0;
}

static void reduce_max_slope(const double *x, double *slopes, size_t width)
{
    share_among_ties(x, reduce_max_value(x, width), slopes, width);
}

static void reduce_min_slope(const double *x, double *slopes, size_t width)
{
    share_among_ties(x, reduce_min_value(x, width), slopes, width);
}
REDUCE(reduce_max, "ReduceMax", 18, TYPES_NUMBER | TYPES_BOOL, integer_max, true);
REDUCE(reduce_min, "ReduceMin", 18, TYPES_NUMBER | TYPES_BOOL, integer_min, true);

static double reduce_prod_value(const double *x, size_t width)
{
    double product = 1;
    for (size_t i = 0; i < width; i++)
        product *= x[i];
    return product;
}

static int64_t integer_prod(const int64_t *x, size_t width, int32_t dtype)
{
    uint64_t product = 1;
    (void)dtype;
    for (size_t i = 0; i < width; i++)
        product *= (uint64_t)x[i];
    return (int64_t)product;
}

/* Product of the others: of those before times of those after, so that zeros need no division. */
static void reduce_prod_slope(const double *x, double *slopes, size_t width)
{
    double before = 1, after = 1;
    for (size_t i = 0; i < width; i++) {
        slopes[i] = before;
        before *= x[i];
    }
    for (size_t i = width; i-- > 0;) {
        slopes[i] *= after;
        after *= x[i];
    }
}
REDUCE(reduce_prod, "ReduceProd", 18, TYPES_NUMBER, integer_prod, true);

static double reduce_l1_value(const double *x, size_t width)
{
    double sum = 0;
    for (size_t i = 0; i < width; i++)
        sum += fabs(x[i]);
    return sum;
}

static int64_t integer_l1(const int64_t *x, size_t width, int32_t dtype)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < width; i++)
        sum += is_unsigned(dtype) || x[i] >= 0 ? (uint64_t)x[i] : 0 - (uint64_t)x[i];
    return (int64_t)sum;
}

static void reduce_l1_slope(const double *x, double *slopes, size_t width)
{
    for (size_t i = 0; i < width; i++)
        slopes[i] = (x[i] > 0) - (x[i] < 0);
}
REDUCE(reduce_l1, "ReduceL1", 18, TYPES_NUMBER, integer_l1, true);

static double reduce_sum_square_value(const double *x, size_t width)
{
    double sum = 0;
    for (size_t i = 0; i < width; i++)
        sum += x[i] * x[i];
    return sum;
}

static int64_t integer_sum_square(const int64_t *x, size_t width, int32_t dtype)
{
    uint64_t sum = 0;
    (void)dtype;
    for (size_t i = 0; i < width; i++)
        sum += (uint64_t)x[i] * (uint64_t)x[i];
    return (int64_t)sum;
}

static void reduce_sum_square_slope(const double *x, double *slopes, size_t width)
{
    for (size_t i = 0; i < width; i++)
        slopes[i] = 2 * x[i];
}
REDUCE(reduce_sum_square, "ReduceSumSquare", 18, TYPES_NUMBER, integer_sum_square, true);

static double reduce_l2_value(const double *x, size_t width)
{
    return sqrt(reduce_sum_square_value(x, width));
}

/* x / |x|, and 0 where the norm is 0. */
static void reduce_l2_slope(const double *x, double *slopes, size_t width)
{
    const double norm = reduce_l2_value(x, width);
    for (size_t i = 0; i < width; i++)
        slopes[i] = norm > 0 ? x[i] / norm : 0;
}
REDUCE(reduce_l2, "ReduceL2", 18, TYPES_NUMBER, NULL, true);

static double reduce_log_sum_value(const double *x, size_t width)
{
    return log(reduce_sum_value(x, width));
}

static void reduce_log_sum_slope(const double *x, double *slopes, size_t width)
{
    fill(slopes, width, 1 / reduce_sum_value(x, width));
}
REDUCE(reduce_log_sum, "ReduceLogSum", 18, TYPES_NUMBER, NULL, true);

/* Shifted by the maximum, so that nothing overflows. */
static double reduce_log_sum_exp_value(const double *x, size_t width)
{
    const double shift = reduce_max_value(x, width);
    double sum = 0;
    if (isinf(shift) || isnan(shift))
        return shift;
    for (size_t i = 0; i < width; i++)
        sum += exp(x[i] - shift);
    return shift + log(sum);
}

static void reduce_log_sum_exp_slope(const double *x, double *slopes, size_t width)
{
    const double value = reduce_log_sum_exp_value(x, width);
    for (size_t i = 0; i < width; i++)
        slopes[i] = exp(x[i] - value);
}
REDUCE(reduce_log_sum_exp, "ReduceLogSumExp", 18, TYPES_NUMBER, NULL, true);
