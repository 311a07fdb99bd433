/* Matrix products: MatMul with NumPy's rules for vectors and batches, and Gemm. */
#include <string.h>

#include "ops/families.h"
#include "ops/matrix.h"
#include "ops/support.h"

/* y (batch..., m, n) = a (batch_a..., m, k) . b (batch_b..., k, n), batches broadcast. */
typedef struct product {
    size_t m, n, k;
    shape a_batch, b_batch, y_batch;
    size_t batches;
    shape y; /* of the output: without m or n where the operand is a vector */
} product;

static shape leading(const shape *self, int dropped)
{
    shape out = {.rank = self->rank - dropped};
    for (int i = 0; i < out.rank; i++)
        out.dims[i] = self->dims[i];
    return out;
}

static xai_status product_make(const operator_call *call, product *self)
{
    char a_text[SHAPE_TEXT_SIZE], b_text[SHAPE_TEXT_SIZE];
    const shape *a = &call->inputs[0]->shape, *b = &call->inputs[1]->shape;
    *self = (product){0};
    if (a->rank < 1 || b->rank < 1)
        return operator_error(call, XAI_ERROR_SHAPE, "a scalar operand: shapes are %s and %s",
                              shape_text(a, a_text), shape_text(b, b_text));
    const bool row = a->rank == 1, column = b->rank == 1;
    const int64_t k = a->dims[a->rank - 1];
    self->m = row ? 1 : (size_t)a->dims[a->rank - 2];
    self->n = column ? 1 : (size_t)b->dims[b->rank - 1];
    self->k = (size_t)k;
    if (b->dims[column ? 0 : b->rank - 2] != k)
        return operator_error(call, XAI_ERROR_SHAPE, "shapes %s and %s do not fit a matrix product",
                              shape_text(a, a_text), shape_text(b, b_text));
    self->a_batch = leading(a, row ? 1 : 2);
    self->b_batch = leading(b, column ? 1 : 2);
    const xai_status status =
        operator_broadcast(call, &self->a_batch, &self->b_batch, &self->y_batch);
    if (status != XAI_OK)
        return status;
    self->y = self->y_batch;
    if (!row)
        self->y.dims[self->y.rank++] = (int64_t)self->m;
    if (!column)
        self->y.dims[self->y.rank++] = (int64_t)self->n;
    if (!shape_count(&self->y_batch, &self->batches))
        return operator_error(call, XAI_ERROR_SHAPE, "the result would be too large");
    return XAI_OK;
}

/* Which matrix of an operand with batch shape `inner` belongs to matrix `index` of the result. */
static size_t batch_index(const shape *inner, const shape *outer, size_t index)
{
    size_t at = 0, step = 1;
    for (int i = 1; i <= outer->rank; i++) { /* from the last dimension */
        const size_t size = (size_t)outer->dims[outer->rank - i], position = index % size;
        index /= size;
        if (i <= inner->rank) {
            const size_t own = (size_t)inner->dims[inner->rank - i];
            at += own == 1 ? 0 : position * step;
            step *= own;
        }
    }
    return at;
}

static xai_status matmul_infer(operator_call *call)
{
    product self;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, TYPES_FLOAT | TYPES_INTEGER);
    if (status == XAI_OK)
        status = operator_check_same_type(call, 0, 1);
    if (status == XAI_OK)
        status = product_make(call, &self);
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &self.y);
    return status;
}

/* Integers are exact modulo 2^64; the result keeps the low bits of its type. */
static xai_status matmul_integers(operator_call *call, const product *self)
{
    int64_t *a = NULL, *b = NULL;
    tensor *y = call->outputs[0];
    xai_status status = operator_read_ints(call, call->inputs[0], &a);
    if (status == XAI_OK)
        status = operator_read_ints(call, call->inputs[1], &b);
    for (size_t s = 0; s < self->batches && status == XAI_OK; s++) {
        const int64_t *left =
            a + batch_index(&self->a_batch, &self->y_batch, s) * self->m * self->k;
        const int64_t *right =
            b + batch_index(&self->b_batch, &self->y_batch, s) * self->k * self->n;
        for (size_t i = 0; i < self->m; i++)
            for (size_t j = 0; j < self->n; j++) {
                uint64_t sum = 0;
                for (size_t p = 0; p < self->k; p++)
                    sum += (uint64_t)left[i * self->k + p] * (uint64_t)right[p * self->n + j];
                tensor_set_int(y, (s * self->m + i) * self->n + j, (int64_t)sum);
            }
    }
    memory_free(a);
    memory_free(b);
    return status;
}

static xai_status matmul_forward(operator_call *call)
{
    double *a = NULL, *b = NULL, *y = NULL;
    product self;
    xai_status status = product_make(call, &self);
    if (status != XAI_OK)
        return status;
    if (!dtype_is_float(call->inputs[0]->dtype))
        return matmul_integers(call, &self);
    status = operator_read_doubles(call, call->inputs[0], &a);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[1], &b);
    if (status == XAI_OK)
        status = operator_allocate(call, self.m * self.n, &y);
    for (size_t s = 0; s < self.batches && status == XAI_OK; s++) {
        const matrix left = {a + batch_index(&self.a_batch, &self.y_batch, s) * self.m * self.k,
                             self.k, 1};
        memset(y, 0, self.m * self.n * sizeof *y);
        matrix_multiply_add(self.m, self.n, self.k, left,
                            b + batch_index(&self.b_batch, &self.y_batch, s) * self.k * self.n,
                            self.n, y, self.n);
        if (self.m * self.n > 0)
            tensor_write_doubles(call->outputs[0], s * self.m * self.n, self.m * self.n, y);
    }
    memory_free(a);
    memory_free(b);
    memory_free(y);
    return status;
}

/* out (columns, rows) = in (rows, columns) transposed */
static void transpose(const double *in, size_t rows, size_t columns, double *out)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            out[j * rows + i] = in[i * columns + j];
}

/* gA = gY . B^T and gB = A^T . gY, summed over the batches that share a matrix. */
static xai_status matmul_backward(operator_call *call)
{
    const tensor *gy = operator_output_gradient(call, 0);
    tensor *ga = operator_wanted_gradient(call, 0), *gb = operator_wanted_gradient(call, 1);
    double *a = NULL, *b = NULL, *turned = NULL, *slopes = NULL, *a_slopes = NULL, *b_slopes = NULL;
    product self;
    xai_status status = product_make(call, &self);
    if (status != XAI_OK)
        return status;
    if (!gy) {
        if (ga)
            operator_zero(ga);
        if (gb)
            operator_zero(gb);
        return XAI_OK;
    }
    status = operator_read_doubles(call, gy, &slopes);
    if (status == XAI_OK && ga)
        status = operator_read_doubles(call, call->inputs[1], &b);
    if (status == XAI_OK && ga)
        status = operator_allocate(call, self.k * self.n, &turned);
    if (status == XAI_OK && ga)
        status = operator_allocate(call, tensor_count(ga), &a_slopes);
    if (status == XAI_OK && gb)
        status = operator_read_doubles(call, call->inputs[0], &a);
    if (status == XAI_OK && gb)
        status = operator_allocate(call, tensor_count(gb), &b_slopes);
    for (size_t s = 0; s < self.batches && status == XAI_OK; s++) {
        const size_t left = batch_index(&self.a_batch, &self.y_batch, s) * self.m * self.k,
                     right = batch_index(&self.b_batch, &self.y_batch, s) * self.k * self.n;
        const double *g = slopes + s * self.m * self.n;
        if (ga) {
            transpose(b + right, self.k, self.n, turned);
            matrix_multiply_add(self.m, self.k, self.n, (matrix){g, self.n, 1}, turned, self.k,
                                a_slopes + left, self.k);
        }
        if (gb)
            matrix_multiply_add(self.k, self.n, self.m, (matrix){a + left, 1, self.k}, g, self.n,
                                b_slopes + right, self.n);
    }
    if (status == XAI_OK && ga)
        tensor_write_doubles(ga, 0, tensor_count(ga), a_slopes);
    if (status == XAI_OK && gb)
        tensor_write_doubles(gb, 0, tensor_count(gb), b_slopes);
    memory_free(a);
    memory_free(b);
    memory_free(turned);
    memory_free(slopes);
    memory_free(a_slopes);
    memory_free(b_slopes);
    return status;
}

/* Gemm: Y (m, n) = alpha op(A) . op(B) + beta C, op = transpose where asked, C broadcast to (m,
 * n). */
typedef struct gemm {
    size_t m, n, k;
    bool a_turned, b_turned;
    double alpha, beta;
    shape y;
} gemm;

static xai_status gemm_make(const operator_call *call, gemm *self)
{
    char a_text[SHAPE_TEXT_SIZE], b_text[SHAPE_TEXT_SIZE];
    const shape *a = &call->inputs[0]->shape, *b = &call->inputs[1]->shape;
    float alpha = 1, beta = 1;
    int64_t a_turned = 0, b_turned = 0;
    xai_status status = operator_attribute_float(call, "alpha", 1, &alpha);
    if (status == XAI_OK)
        status = operator_attribute_float(call, "beta", 1, &beta);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "transA", 0, &a_turned);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "transB", 0, &b_turned);
    if (status != XAI_OK)
        return status;
    if (a->rank != 2 || b->rank != 2 || a->dims[a_turned ? 0 : 1] != b->dims[b_turned ? 1 : 0])
        return operator_error(call, XAI_ERROR_SHAPE,
                              "shapes %s%s and %s%s do not fit a matrix product",
                              shape_text(a, a_text), a_turned ? " transposed" : "",
                              shape_text(b, b_text), b_turned ? " transposed" : "");
    *self = (gemm){.m = (size_t)a->dims[a_turned ? 1 : 0],
                   .n = (size_t)b->dims[b_turned ? 0 : 1],
                   .k = (size_t)a->dims[a_turned ? 0 : 1],
                   .a_turned = a_turned != 0,
                   .b_turned = b_turned != 0,
                   .alpha = (double)alpha,
                   .beta = (double)beta};
    self->y = shape_make(2, (const int64_t[]){(int64_t)self->m, (int64_t)self->n});
    return XAI_OK;
}

static xai_status gemm_infer(operator_call *call)
{
    char c_text[SHAPE_TEXT_SIZE], y_text[SHAPE_TEXT_SIZE];
    shape joined;
    gemm self;
    xai_status status = operator_check(call);
    for (int i = 0; i < call->input_count && status == XAI_OK; i++)
        if (operator_has_input(call, i)) {
            status = operator_check_type(call, i, TYPES_FLOAT);
            if (status == XAI_OK)
                status = operator_check_same_type(call, 0, i);
        }
    if (status == XAI_OK)
        status = gemm_make(call, &self);
    if (status == XAI_OK && operator_has_input(call, 2)) {
        const shape *c = &call->inputs[2]->shape;
        status = operator_broadcast(call, c, &self.y, &joined);
        if (status == XAI_OK && !shape_equal(&joined, &self.y))
            status = operator_error(call, XAI_ERROR_SHAPE,
                                    "input 2 of shape %s does not broadcast to %s",
                                    shape_text(c, c_text), shape_text(&self.y, y_text));
    }
    if (status == XAI_OK)
        status = operator_set_output(call, 0, call->inputs[0]->dtype, &self.y);
    return status;
}

/* A matrix as the inner loops need it: row-major (rows, columns) of op(X), turned when the tensor
 * is stored the other way. */
static xai_status read_matrix(const operator_call *call, const tensor *from, bool turned,
                              double **out)
{
    double *values = NULL, *copy = NULL;
    xai_status status = operator_read_doubles(call, from, &values);
    if (status == XAI_OK && turned) {
        status = operator_allocate(call, tensor_count(from), &copy);
        if (status == XAI_OK)
            transpose(values, (size_t)from->shape.dims[0], (size_t)from->shape.dims[1], copy);
        memory_free(values);
        values = copy;
    }
    *out = values;
    return status;
}

static xai_status gemm_forward(operator_call *call)
{
    double *a = NULL, *b = NULL, *c = NULL, *y = NULL;
    gemm self;
    xai_status status = gemm_make(call, &self);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &a);
    if (status == XAI_OK)
        status = read_matrix(call, call->inputs[1], self.b_turned, &b);
    if (status == XAI_OK)
        status = operator_allocate(call, self.m * self.n, &y);
    if (status == XAI_OK && operator_has_input(call, 2))
        status = operator_read_doubles(call, call->inputs[2], &c);
    if (status == XAI_OK) {
        const size_t count = self.m * self.n;
        /* the product is summed first and C added last */
        matrix_multiply_add(self.m, self.n, self.k,
                            (matrix){a, self.a_turned ? 1 : self.k, self.a_turned ? self.m : 1}, b,
                            self.n, y, self.n);
        for (size_t i = 0; i < count; i++)
            y[i] *= self.alpha;
        if (c) {
            const shape *dims = &call->inputs[2]->shape;
            const size_t c_rows = dims->rank == 2 ? (size_t)dims->dims[0] : 1,
                         c_columns = dims->rank > 0 ? (size_t)dims->dims[dims->rank - 1] : 1;
            for (size_t i = 0; i < self.m; i++)
                for (size_t j = 0; j < self.n; j++)
                    y[i * self.n + j] +=
                        self.beta * c[(c_rows == 1 ? 0 : i) * c_columns + (c_columns == 1 ? 0 : j)];
        }
        if (count > 0)
            tensor_write_doubles(call->outputs[0], 0, count, y);
    }
    memory_free(a);
    memory_free(b);
    memory_free(c);
    memory_free(y);
    return status;
}

/* The gradient of one operand of Y = alpha L . R: alpha left . right, (rows, columns), stored
 * turned when asked. */
static xai_status gemm_gradient(const operator_call *call, size_t rows, size_t columns,
                                size_t depth, matrix left, const double *right, double alpha,
                                bool turned, tensor *out)
{
    const size_t count = rows * columns;
    double *product_sum = NULL, *copy = NULL;
    xai_status status = operator_allocate(call, count, &product_sum);
    if (status == XAI_OK && turned)
        status = operator_allocate(call, count, &copy);
    if (status == XAI_OK) {
        matrix_multiply_add(rows, columns, depth, left, right, columns, product_sum, columns);
        for (size_t i = 0; i < count; i++)
            product_sum[i] *= alpha;
        if (turned)
            transpose(product_sum, rows, columns, copy);
        if (count > 0)
            tensor_write_doubles(out, 0, count, turned ? copy : product_sum);
    }
    memory_free(product_sum);
    memory_free(copy);
    return status;
}

/* gC = beta gY summed over its repeated positions. */
static xai_status gemm_bias_gradient(const operator_call *call, const gemm *self, double *slopes,
                                     tensor *out)
{
    double *sums = NULL;
    const xai_status status = operator_allocate(call, tensor_count(out), &sums);
    if (status == XAI_OK && tensor_count(out) > 0) {
        broadcast_reduce(&self->y, slopes, &out->shape, sums);
        for (size_t i = 0; i < tensor_count(out); i++)
            sums[i] *= self->beta;
        tensor_write_doubles(out, 0, tensor_count(out), sums);
    }
    memory_free(sums);
    return status;
}

static xai_status gemm_backward(operator_call *call)
{
    const tensor *gy = operator_output_gradient(call, 0);
    tensor *const wanted[] = {operator_wanted_gradient(call, 0), operator_wanted_gradient(call, 1),
                              operator_wanted_gradient(call, 2)};
    double *slopes = NULL, *other = NULL;
    gemm self;
    if (!gy) {
        for (int i = 0; i < 3; i++)
            if (wanted[i])
                operator_zero(wanted[i]);
        return XAI_OK;
    }
    xai_status status = gemm_make(call, &self);
    if (status == XAI_OK)
        status = operator_read_doubles(call, gy, &slopes);
    if (status == XAI_OK && wanted[0]) { /* (m, k) = gY (m, n) . op(B)^T (n, k) */
        status = read_matrix(call, call->inputs[1], !self.b_turned, &other);
        if (status == XAI_OK)
            status = gemm_gradient(call, self.m, self.k, self.n, (matrix){slopes, self.n, 1}, other,
                                   self.alpha, self.a_turned, wanted[0]);
        memory_free(other);
        other = NULL;
    }
    if (status == XAI_OK && wanted[1]) { /* (k, n) = op(A)^T (k, m) . gY (m, n) */
        status = operator_read_doubles(call, call->inputs[0], &other);
        if (status == XAI_OK)
            status = gemm_gradient(
                call, self.k, self.n, self.m,
                (matrix){other, self.a_turned ? self.m : 1, self.a_turned ? 1 : self.k}, slopes,
                self.alpha, self.b_turned, wanted[1]);
        memory_free(other);
    }
    if (status == XAI_OK && wanted[2])
        status = gemm_bias_gradient(call, &self, slopes, wanted[2]);
    memory_free(slopes);
    return status;
}

const operator_definition operator_matmul = {
    .name = "MatMul",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 1,
    .backward_reads = OPERATOR_READS_INPUT(0) | OPERATOR_READS_INPUT(1),
    .infer = matmul_infer,
    .forward = matmul_forward,
    .backward = matmul_backward,
};

const operator_definition operator_gemm = {
    .name = "Gemm",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 7,
    .backward_reads = OPERATOR_READS_INPUT(0) | OPERATOR_READS_INPUT(1),
    .infer = gemm_infer,
    .forward = gemm_forward,
    .backward = gemm_backward,
};
