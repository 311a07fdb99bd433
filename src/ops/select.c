/* Along one axis: ArgMax, ArgMin, TopK and CumSum. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/binary.h"
#include "ops/families.h"

/* Numbers that compare like the elements: doubles for floats, int64 for integers (uint64 with its
 * top bit flipped). */
typedef struct keys {
    bool as_doubles;
    double *doubles;
    int64_t *integers;
} keys;

static xai_status keys_read(const operator_call *call, const tensor *x, uint32_t axes, keys *out)
{
    *out = (keys){.as_doubles = dtype_is_float(x->dtype)};
    if (out->as_doubles)
        return operator_read_rows(call, x, axes, &out->doubles);
    int64_t *values = NULL;
    const size_t count = tensor_count(x);
    xai_status status = operator_read_ints(call, x, &values);
    if (status != XAI_OK)
        return status;
    if (x->dtype == DTYPE_UINT64)
        for (size_t i = 0; i < count; i++)
            values[i] = (int64_t)((uint64_t)values[i] ^ (uint64_t)1 << 63);
    out->integers = memory_allocate(count, sizeof *out->integers);
    if (out->integers)
        rows_gather(&x->shape, axes, values, out->integers);
    else
        status =
            error_memory(call->error, "the keys of a selection", count * sizeof *out->integers);
    memory_free(values);
    return status;
}

static void keys_free(keys *self)
{
    memory_free(self->doubles);
    memory_free(self->integers);
}

/* Key i is before key j in the order: greater (or less) first. NaN is the greatest number. */
static bool key_before(const keys *self, bool largest, size_t i, size_t j)
{
    if (!self->as_doubles)
        return largest ? self->integers[i] > self->integers[j]
                       : self->integers[i] < self->integers[j];
    const double a = largest ? self->doubles[i] : self->doubles[j],
                 b = largest ? self->doubles[j] : self->doubles[i];
    return a > b || (a != a && b == b);
}

static xai_status axis_attribute(const operator_call *call, int64_t fallback, int *axis)
{
    int64_t given;
    const xai_status status = operator_attribute_int(call, "axis", fallback, &given);
    return status == XAI_OK ? operator_axis(call, given, call->inputs[0]->shape.rank, axis)
                            : status;
}

static xai_status extreme_index_infer(operator_call *call)
{
    int64_t keep, last;
    int axis;
    shape dims;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_NUMBER);
    if (status == XAI_OK)
        status = axis_attribute(call, 0, &axis);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "keepdims", 1, &keep);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "select_last_index", 0, &last);
    if (status != XAI_OK)
        return status;
    dims = call->inputs[0]->shape;
    if (dims.dims[axis] == 0)
        return operator_error(call, XAI_ERROR_SHAPE, "axis %d has no elements to choose from",
                              axis);
    if (keep) {
        dims.dims[axis] = 1;
    } else {
        memmove(dims.dims + axis, dims.dims + axis + 1,
                (size_t)(dims.rank - axis - 1) * sizeof *dims.dims);
        dims.rank--;
    }
    return operator_set_output(call, 0, DTYPE_INT64, &dims);
}

static xai_status extreme_index_forward(operator_call *call, bool largest)
{
    int64_t last;
    int axis;
    keys k = {0};
    const tensor *x = call->inputs[0];
    xai_status status = axis_attribute(call, 0, &axis);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "select_last_index", 0, &last);
    if (status == XAI_OK)
        status = keys_read(call, x, 1u << axis, &k);
    if (status == XAI_OK) {
        const size_t width = (size_t)x->shape.dims[axis], count = tensor_count(call->outputs[0]);
        for (size_t r = 0; r < count; r++) {
            size_t best = r * width;
            for (size_t i = r * width + 1; i < (r + 1) * width; i++)
                if (last ? !key_before(&k, largest, best, i) : key_before(&k, largest, i, best))
                    best = i;
            tensor_set_int(call->outputs[0], r, (int64_t)(best - r * width));
        }
    }
    keys_free(&k);
    return status;
}

static xai_status argmax_forward(operator_call *call)
{
    return extreme_index_forward(call, true);
}

static xai_status argmin_forward(operator_call *call)
{
    return extreme_index_forward(call, false);
}

const operator_definition operator_argmax = {
    "ArgMax", "", 1, 1, 1, 1, 1, 0, 0, extreme_index_infer, argmax_forward, NULL};
const operator_definition operator_argmin = {
    "ArgMin", "", 1, 1, 1, 1, 1, 0, 0, extreme_index_infer, argmin_forward, NULL};

/* TopK: k is an attribute before opset 10 and the constant input 1 from it on. */
static xai_status topk_count(const operator_call *call, int64_t *k)
{
    size_t count;
    if (call->opset >= 10) {
        const xai_status status = operator_constant_ints(call, 1, k, 1, &count);
        if (status == XAI_OK && count != 1)
            return operator_error(call, XAI_ERROR_SHAPE, "k is empty");
        return status;
    }
    if (!operator_attribute(call, "k"))
        return operator_error(call, XAI_ERROR_FORMAT, "attribute 'k' is missing");
    return operator_attribute_int(call, "k", 0, k);
}

static xai_status topk_order(const operator_call *call, bool *largest)
{
    int64_t given = 1;
    const xai_status status =
        call->opset >= 11 ? operator_attribute_int(call, "largest", 1, &given) : XAI_OK;
    *largest = given != 0;
    return status;
}

static xai_status topk_infer(operator_call *call)
{
    int axis;
    int64_t k;
    bool largest;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_NUMBER);
    if (status == XAI_OK)
        status = axis_attribute(call, -1, &axis);
    if (status == XAI_OK)
        status = topk_order(call, &largest);
    if (status == XAI_OK)
        status = topk_count(call, &k);
    if (status != XAI_OK)
        return status;
    shape dims = call->inputs[0]->shape;
    if (k < 0 || k > dims.dims[axis])
        return operator_error(call, XAI_ERROR_SHAPE,
                              "the top %lld of %lld elements cannot be taken", (long long)k,
                              (long long)dims.dims[axis]);
    dims.dims[axis] = k;
    status = operator_set_output(call, 0, call->inputs[0]->dtype, &dims);
    return status == XAI_OK ? operator_set_output(call, 1, DTYPE_INT64, &dims) : status;
}

/* Moves the first element of heap[0, size) down to its place; the heap's root is the last in the
 * order. */
static void sift_down(const keys *k, bool largest, size_t *heap, size_t size, size_t root)
{
    for (;;) {
        size_t last = root;
        for (size_t child = 2 * root + 1; child <= 2 * root + 2 && child < size; child++) {
            const size_t a = heap[child], b = heap[last];
            /* Ties: the lower index comes first. */
            if (key_before(k, largest, b, a) || (!key_before(k, largest, a, b) && a > b))
                last = child;
        }
        if (last == root)
            return;
        const size_t moved = heap[root];
        heap[root] = heap[last];
        heap[last] = moved;
        root = last;
    }
}

/* The first `count` of [begin, begin + width) in the order, sorted, by a heap of `count`
 * elements. */
static void select_first(const keys *k, bool largest, size_t begin, size_t width, size_t count,
                         size_t *heap)
{
    for (size_t i = 0; i < count; i++)
        heap[i] = begin + i;
    for (size_t i = count / 2; i-- > 0;)
        sift_down(k, largest, heap, count, i);
    for (size_t i = begin + count; count > 0 && i < begin + width; i++)
        if (key_before(k, largest, i, heap[0])) {
            heap[0] = i;
            sift_down(k, largest, heap, count, 0);
        }
    for (size_t size = count; size > 1; size--) { /* the last of the order goes to the end */
        const size_t last = heap[0];
        heap[0] = heap[size - 1];
        heap[size - 1] = last;
        sift_down(k, largest, heap, size - 1, 0);
    }
}

static xai_status topk_forward(operator_call *call)
{
    int axis;
    int64_t wanted;
    bool largest;
    keys k = {0};
    size_t *heap = NULL;
    const tensor *x = call->inputs[0];
    tensor *values = operator_output(call, 0), *indices = operator_output(call, 1);
    xai_status status = axis_attribute(call, -1, &axis);
    if (status == XAI_OK)
        status = topk_order(call, &largest);
    if (status == XAI_OK)
        status = topk_count(call, &wanted);
    if (status == XAI_OK)
        status = keys_read(call, x, 1u << axis, &k);
    if (status != XAI_OK)
        goto done;
    if (tensor_count(x) == 0) /* then the outputs are empty too */
        goto done;
    const size_t count = (size_t)wanted;
    heap = memory_allocate(count, sizeof *heap);
    if (!heap) {
        status = error_memory(call->error, "the selection of TopK", count * sizeof *heap);
        goto done;
    }
    const size_t width = (size_t)x->shape.dims[axis];
    size_t inner = 1; /* elements between neighbours on the axis */
    for (int i = axis + 1; i < x->shape.rank; i++)
        inner *= (size_t)x->shape.dims[i];
    const size_t rows = rows_count(&x->shape, 1u << axis);
    for (size_t r = 0; r < rows; r++) {
        select_first(&k, largest, r * width, width, count, heap);
        const size_t outer = r / inner, lane = r % inner;
        for (size_t i = 0; i < count; i++) {
            const size_t at = (outer * count + i) * inner + lane, index = heap[i] - r * width;
            if (values && k.as_doubles)
                tensor_set(values, at, k.doubles[heap[i]]);
            else if (values)
                tensor_set_int(values, at,
                               tensor_get_int(x, (outer * width + index) * inner + lane));
            if (indices)
                tensor_set_int(indices, at, (int64_t)index);
        }
    }
done:
    keys_free(&k);
    memory_free(heap);
    return status;
}

const operator_definition operator_topk = {"TopK",     "",           1,   2, 1, 2, 1, 0, 0,
                                           topk_infer, topk_forward, NULL};

/* CumSum: running sums along the axis in input 1; exclusive leaves the element itself out;
 * reverse runs from the end. */
static xai_status cum_sum_attributes(const operator_call *call, bool *exclusive, bool *reverse)
{
    int64_t leaves_out, backwards;
    xai_status status = operator_attribute_int(call, "exclusive", 0, &leaves_out);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "reverse", 0, &backwards);
    if (status != XAI_OK)
        return status;
    *exclusive = leaves_out != 0;
    *reverse = backwards != 0;
    return XAI_OK;
}

static xai_status cum_sum_axis(const operator_call *call, int *axis)
{
    int64_t given = 0;
    size_t count;
    const xai_status status = operator_constant_ints(call, 1, &given, 1, &count);
    if (status != XAI_OK)
        return status;
    if (count != 1)
        return operator_error(call, XAI_ERROR_SHAPE, "the axis is empty");
    return operator_axis(call, given, call->inputs[0]->shape.rank, axis);
}

static xai_status cum_sum_infer(operator_call *call)
{
    bool exclusive, reverse;
    int axis;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_NUMBER);
    if (status == XAI_OK)
        status = operator_check_type(call, 1, TYPES_INDEX);
    if (status == XAI_OK)
        status = cum_sum_attributes(call, &exclusive, &reverse);
    if (status == XAI_OK && call->inputs[1]->data)
        status = cum_sum_axis(call, &axis);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &call->inputs[0]->shape);
    return status;
}

#define RUNNING_SUM(symbol, type)                                             \
    static void symbol(type *row, size_t width, bool exclusive, bool reverse) \
    {                                                                         \
        type sum = 0;                                                         \
        for (size_t i = 0; i < width; i++) {                                  \
            type *at = row + (reverse ? width - 1 - i : i);                   \
            const type x = *at;                                               \
            *at = exclusive ? sum : sum + x;                                  \
            sum += x;                                                         \
        }                                                                     \
    }
RUNNING_SUM(running_sum, double)
RUNNING_SUM(running_sum_words, uint64_t) /* wraps */

static xai_status running_sums(operator_call *call, const tensor *x, tensor *y, bool opposite)
{
    bool exclusive = false, reverse = false;
    int axis;
    double *rows = NULL;
    xai_status status = cum_sum_axis(call, &axis);
    if (status == XAI_OK)
        status = cum_sum_attributes(call, &exclusive, &reverse);
    if (status == XAI_OK)
        status = operator_read_rows(call, x, 1u << axis, &rows);
    if (status != XAI_OK)
        return status;
    const size_t width = (size_t)x->shape.dims[axis];
    const size_t count = width > 0 ? rows_count(&x->shape, 1u << axis) : 0;
    for (size_t r = 0; r < count; r++)
        running_sum(rows + r * width, width, exclusive, reverse != opposite);
    status = operator_write_rows(call, y, 1u << axis, rows);
    memory_free(rows);
    return status;
}

static xai_status cum_sum_integers(operator_call *call)
{
    bool exclusive = false, reverse = false;
    int axis;
    int64_t *values = NULL;
    uint64_t *rows = NULL;
    const tensor *x = call->inputs[0];
    xai_status status = cum_sum_axis(call, &axis);
    if (status == XAI_OK)
        status = cum_sum_attributes(call, &exclusive, &reverse);
    if (status == XAI_OK)
        status = operator_read_ints(call, x, &values);
    if (status != XAI_OK)
        return status;
    rows = memory_allocate(tensor_count(x), sizeof *rows);
    if (rows) {
        const size_t width = (size_t)x->shape.dims[axis];
        const size_t count = width > 0 ? rows_count(&x->shape, 1u << axis) : 0;
        rows_gather(&x->shape, 1u << axis, values, rows);
        for (size_t r = 0; r < count; r++)
            running_sum_words(rows + r * width, width, exclusive, reverse);
        rows_scatter(&x->shape, 1u << axis, rows, values);
        operator_write_ints(call->outputs[0], values);
    } else {
        status = error_memory(call->error, "running sums", tensor_count(x) * sizeof *rows);
    }
    memory_free(values);
    memory_free(rows);
    return status;
}

static xai_status cum_sum_forward(operator_call *call)
{
    if (!dtype_is_float(call->inputs[0]->dtype))
        return cum_sum_integers(call);
    return running_sums(call, call->inputs[0], call->outputs[0], false);
}

/* The transpose of a running sum is the running sum from the other end. */
static xai_status cum_sum_backward(operator_call *call)
{
    tensor *wanted = operator_wanted_gradient(call, 0);
    const tensor *given = operator_output_gradient(call, 0);
    if (!given) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    return wanted ? running_sums(call, given, wanted, true) : XAI_OK;
}

const operator_definition operator_cum_sum = {
    "CumSum",        "", 2, 2, 1, 1, 11, 0, OPERATOR_READS_INPUT(1), cum_sum_infer, cum_sum_forward,
    cum_sum_backward};
