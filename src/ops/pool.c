/* Pools over windows: maximum, average, Lp norm; the Global pools are one window over everything.
 *
 * A window's input positions are the same in every channel, so they are listed once for each
 * output position. Padding is never in the list: the maximum ignores it, to an average or a norm
 * it adds nothing. */
#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/support.h"

/* Taps [low, high) of a window that lie inside the input along one dimension; tap t reads start +
 * t dilation. */
typedef struct reach {
    int64_t start, low, high;
    int64_t padded; /* taps inside the padded input: what count_include_pad counts */
} reach;

typedef struct pool {
    int64_t in[3], out[3], dilation[3]; /* padded to three dimensions */
    size_t in_size, out_size;
    reach *reaches[3]; /* [out[i]] each; one allocation */
    size_t *positions; /* of the window last listed, ascending */
    size_t count;      /* of positions */
    double divisor;    /* AveragePool */
    bool include_pad;
    int64_t p; /* Lp pools */
} pool;

static void pool_drop(pool *self)
{
    memory_free(self->reaches[0]);
    memory_free(self->positions);
}

static xai_status pool_make(const operator_call *call, pool *self)
{
    window w;
    size_t lines = 0, largest = 1;
    *self = (pool){.p = 2};
    xai_status status = operator_window(call, &w);
    if (status == XAI_OK && strstr(call->definition->name, "Lp"))
        status = operator_attribute_int(call, "p", 2, &self->p);
    if (status != XAI_OK)
        return status;
    self->include_pad = w.count_include_pad;
    self->in_size = self->out_size = 1;
    for (int i = 0; i < 3; i++) {
        const int from = i - (3 - w.rank);
        self->in[i] = from < 0 ? 1 : w.input[from];
        self->out[i] = from < 0 ? 1 : w.output[from];
        self->dilation[i] = from < 0 ? 1 : w.dilation[from];
        self->in_size *= (size_t)self->in[i];
        self->out_size *= (size_t)self->out[i];
        lines += (size_t)self->out[i];
    }
    reach *reaches = memory_allocate(lines, sizeof *reaches);
    if (!reaches)
        return operator_error(call, XAI_ERROR_MEMORY, "out of memory for the windows of a pool");
    for (int i = 0; i < 3; i++) {
        const int from = i - (3 - w.rank);
        const int64_t kernel = from < 0 ? 1 : w.kernel[from],
                      stride = from < 0 ? 1 : w.stride[from],
                      begin = from < 0 ? 0 : w.pad_begin[from],
                      end = from < 0 ? 0 : w.pad_end[from], step = self->dilation[i];
        int64_t widest = 1;
        self->reaches[i] = reaches;
        for (int64_t o = 0; o < self->out[i]; o++) {
            const int64_t start = o * stride - begin, inside = self->in[i] - start,
                          padded = inside + end;
            reach r = {.start = start, .low = start < 0 ? (-start + step - 1) / step : 0};
            r.high = inside <= 0 ? 0 : (inside - 1) / step + 1;
            r.padded = padded <= 0 ? 0 : (padded - 1) / step + 1;
            r.high = r.high < kernel ? r.high : kernel;
            r.padded = r.padded < kernel ? r.padded : kernel;
            widest = r.high - r.low > widest ? r.high - r.low : widest;
            *reaches++ = r;
        }
        largest *= (size_t)widest; /* no more than in_size */
    }
    self->positions = memory_allocate(largest, sizeof *self->positions);
    if (self->positions)
        return XAI_OK;
    pool_drop(self);
    self->reaches[0] = NULL;
    return operator_error(call, XAI_ERROR_MEMORY, "out of memory for the windows of a pool");
}

/* List the positions of the window of output position o. */
static void pool_list(pool *self, size_t o)
{
    const size_t last = (size_t)self->out[2], middle = (size_t)self->out[1];
    const reach *r0 = &self->reaches[0][o / last / middle],
                *r1 = &self->reaches[1][o / last % middle], *r2 = &self->reaches[2][o % last];
    self->count = 0;
    for (int64_t a = r0->low; a < r0->high; a++)
        for (int64_t b = r1->low; b < r1->high; b++) {
            const int64_t i = r0->start + a * self->dilation[0],
                          j = r1->start + b * self->dilation[1];
            const int64_t line = (i * self->in[1] + j) * self->in[2] + r2->start;
            for (int64_t c = r2->low; c < r2->high; c++)
                self->positions[self->count++] = (size_t)(line + c * self->dilation[2]);
        }
    self->divisor = self->include_pad ? (double)r0->padded * (double)r1->padded * (double)r2->padded
                                      : (double)self->count;
}

/* The first largest value; a NaN counts as the largest, so that it is seen. */
static size_t window_argmax(const pool *self, const double *plane)
{
    size_t best = self->positions[0];
    for (size_t i = 1; i < self->count; i++) {
        const double value = plane[self->positions[i]];
        if (value > plane[best] || (isnan(value) && !isnan(plane[best])))
            best = self->positions[i];
    }
    return best;
}

static double window_sum(const pool *self, const double *plane)
{
    double sum = 0;
    for (size_t i = 0; i < self->count; i++)
        sum += plane[self->positions[i]];
    return sum;
}

/* (sum |x|^p)^(1/p) */
static double window_norm(const pool *self, const double *plane)
{
    double sum = 0;
    for (size_t i = 0; i < self->count; i++) {
        const double x = plane[self->positions[i]];
        sum += self->p == 2 ? x * x : self->p == 1 ? fabs(x) : pow(fabs(x), (double)self->p);
    }
    return self->p == 2 ? sqrt(sum) : self->p == 1 ? sum : pow(sum, 1 / (double)self->p);
}

typedef enum pool_kind { POOL_MAX, POOL_AVERAGE, POOL_LP } pool_kind;

static xai_status pool_infer(operator_call *call, uint32_t types)
{
    window w;
    int64_t p = 1;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = operator_check_type(call, 0, types);
    if (status == XAI_OK)
        status = operator_window(call, &w);
    if (status == XAI_OK && strstr(call->definition->name, "Lp"))
        status = operator_attribute_int(call, "p", 2, &p);
    if (status == XAI_OK && p < 1)
        status = operator_error(call, XAI_ERROR_UNSUPPORTED, "p is %lld and not at least 1",
                                (long long)p);
    if (status != XAI_OK)
        return status;
    shape y = call->inputs[0]->shape;
    for (int i = 0; i < w.rank; i++)
        y.dims[i + 2] = w.output[i];
    status = operator_set_output(call, 0, call->inputs[0]->dtype, &y);
    if (status == XAI_OK)
        status = operator_set_output(call, 1, DTYPE_INT64, &y); /* MaxPool alone may have it */
    return status;
}

/* Index of a position within its channel: row-major, or column-major when `columns`. */
static int64_t storage_index(const pool *self, size_t position, bool columns)
{
    if (!columns)
        return (int64_t)position;
    const int64_t at = (int64_t)position, c = at % self->in[2], b = at / self->in[2] % self->in[1],
                  a = at / self->in[2] / self->in[1];
    return a + self->in[0] * (b + self->in[1] * c);
}

static xai_status pool_forward(operator_call *call, pool_kind kind)
{
    const tensor *x = call->inputs[0];
    tensor *y = operator_output(call, 0), *indices = operator_output(call, 1);
    const size_t batch = (size_t)x->shape.dims[0], channels = (size_t)x->shape.dims[1];
    double *from = NULL, *to = NULL;
    int64_t order = 0;
    pool self;
    xai_status status = pool_make(call, &self);
    if (status != XAI_OK)
        return status;
    const size_t x_row = channels * self.in_size, y_row = channels * self.out_size;
    if (kind == POOL_MAX)
        status = operator_attribute_int(call, "storage_order", 0, &order);
    if (status == XAI_OK)
        status = operator_allocate(call, x_row, &from);
    if (status == XAI_OK)
        status = operator_allocate(call, y_row, &to);
    for (size_t n = 0; n < batch && status == XAI_OK; n++) {
        tensor_read_doubles(x, n * x_row, x_row, from);
        for (size_t o = 0; o < self.out_size; o++) {
            pool_list(&self, o);
            for (size_t c = 0; c < channels; c++) {
                const double *plane = from + c * self.in_size;
                double *value = &to[c * self.out_size + o];
                if (kind == POOL_MAX) {
                    const size_t best = window_argmax(&self, plane);
                    *value = plane[best];
                    if (indices)
                        tensor_set_int(indices, n * y_row + c * self.out_size + o,
                                       (int64_t)(n * x_row + c * self.in_size) +
                                           storage_index(&self, best, order != 0));
                } else {
                    *value = kind == POOL_AVERAGE ? window_sum(&self, plane) / self.divisor
                                                  : window_norm(&self, plane);
                }
            }
        }
        if (y)
            tensor_write_doubles(y, n * y_row, y_row, to);
    }
    memory_free(from);
    memory_free(to);
    pool_drop(&self);
    return status;
}

/* gx over one window of one channel, accumulated: windows overlap. `plane` is NULL for averages. */
static void window_backward(const pool *self, pool_kind kind, const double *plane, double slope,
                            double *gx)
{
    if (kind == POOL_MAX) {
        gx[window_argmax(self, plane)] += slope;
        return;
    }
    /* Lp: d y / d x = sign(x) (|x| / y)^(p - 1), taken as 0 where y = 0 */
    const double norm = kind == POOL_LP ? window_norm(self, plane) : 0;
    if (kind == POOL_LP && norm == 0)
        return;
    for (size_t i = 0; i < self->count; i++) {
        const size_t at = self->positions[i];
        if (kind == POOL_AVERAGE)
            gx[at] += slope / self->divisor;
        else if (plane[at] != 0)
            gx[at] +=
                slope * copysign(pow(fabs(plane[at]) / norm, (double)(self->p - 1)), plane[at]);
    }
}

static xai_status pool_backward(operator_call *call, pool_kind kind)
{
    const tensor *x = call->inputs[0], *gy = operator_output_gradient(call, 0);
    tensor *gx = operator_wanted_gradient(call, 0);
    double *values = NULL, *slopes = NULL, *to = NULL;
    pool self;
    if (!gx)
        return XAI_OK;
    if (!gy) {
        operator_zero(gx);
        return XAI_OK;
    }
    xai_status status = pool_make(call, &self);
    if (status != XAI_OK)
        return status;
    const size_t batch = (size_t)x->shape.dims[0], channels = (size_t)x->shape.dims[1];
    const size_t x_row = channels * self.in_size, y_row = channels * self.out_size;
    if (kind != POOL_AVERAGE)
        status = operator_allocate(call, x_row, &values);
    if (status == XAI_OK)
        status = operator_allocate(call, y_row, &slopes);
    if (status == XAI_OK)
        status = operator_allocate(call, x_row, &to);
    for (size_t n = 0; n < batch && status == XAI_OK; n++) {
        if (values)
            tensor_read_doubles(x, n * x_row, x_row, values);
        tensor_read_doubles(gy, n * y_row, y_row, slopes);
        memset(to, 0, x_row * sizeof *to);
        for (size_t o = 0; o < self.out_size; o++) {
            pool_list(&self, o);
            for (size_t c = 0; c < channels; c++)
                window_backward(&self, kind, values ? values + c * self.in_size : NULL,
                                slopes[c * self.out_size + o], to + c * self.in_size);
        }
        tensor_write_doubles(gx, n * x_row, x_row, to);
    }
    memory_free(values);
    memory_free(slopes);
    memory_free(to);
    pool_drop(&self);
    return status;
}

static xai_status max_infer(operator_call *call)
{
    return pool_infer(call, TYPES_FLOAT | 1u << DTYPE_INT8 | 1u << DTYPE_UINT8);
}

static xai_status max_forward(operator_call *call)
{
    return pool_forward(call, POOL_MAX);
}

static xai_status max_backward(operator_call *call)
{
    return pool_backward(call, POOL_MAX);
}

static xai_status float_infer(operator_call *call)
{
    return pool_infer(call, TYPES_FLOAT);
}

static xai_status average_forward(operator_call *call)
{
    return pool_forward(call, POOL_AVERAGE);
}

static xai_status average_backward(operator_call *call)
{
    return pool_backward(call, POOL_AVERAGE);
}

static xai_status lp_forward(operator_call *call)
{
    return pool_forward(call, POOL_LP);
}

static xai_status lp_backward(operator_call *call)
{
    return pool_backward(call, POOL_LP);
}

#define POOL(symbol, title, outputs, reads, kind, infer_function) \
    const operator_definition operator_##symbol = {               \
        .name = title,                                            \
        .domain = "",                                             \
        .min_inputs = 1,                                          \
        .max_inputs = 1,                                          \
        .min_outputs = 1,                                         \
        .max_outputs = outputs,                                   \
        .since = 2,                                               \
        .backward_reads = reads,                                  \
        .infer = infer_function,                                  \
        .forward = kind##_forward,                                \
        .backward = kind##_backward,                              \
    }

POOL(max_pool, "MaxPool", 2, OPERATOR_READS_INPUT(0), max, max_infer);
POOL(average_pool, "AveragePool", 1, 0, average, float_infer);
POOL(lp_pool, "LpPool", 1, OPERATOR_READS_INPUT(0), lp, float_infer);
POOL(global_max_pool, "GlobalMaxPool", 1, OPERATOR_READS_INPUT(0), max, float_infer);
POOL(global_average_pool, "GlobalAveragePool", 1, 0, average, float_infer);
POOL(global_lp_pool, "GlobalLpPool", 1, OPERATOR_READS_INPUT(0), lp, float_infer);
