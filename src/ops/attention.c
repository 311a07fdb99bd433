/* Attention: scaled dot products of queries and keys, softmax, weighted sums of values.
 *
 *   s = scale q k^T    c = softcap tanh(s / softcap)    p = softmax(c + bias)    y = p v
 *
 * q (B, H, Sq, E), k (B, Hk, T, E), v (B, Hk, T, F), each query head with key head h Hk / H; three-
 * dimensional inputs hold the heads side by side, (B, S, H E). Keys and values of the past come
 * before the new ones. The bias joins mask, causal order, windows and lengths; a query that may
 * look nowhere gives zeros. */
#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/matrix.h"
#include "ops/support.h"

enum { Q, K, V, MASK, PAST_KEY, PAST_VALUE, VALID };

typedef struct attention {
    size_t batch, heads, kv_heads, queries, past, keys; /* keys: past and new */
    size_t width, value_width;                          /* E, F */
    bool packed, causal;
    double scale, softcap;
    int64_t left, right; /* windows; -1 = open */
    int64_t mode;        /* of output 3 */
    /* data */
    double *q, *k, *v, *mask;
    int64_t *valid; /* [B] keys that count, or NULL */
} attention;

static void attention_free(attention *self)
{
    memory_free(self->q);
    memory_free(self->k);
    memory_free(self->v);
    memory_free(self->mask);
    memory_free(self->valid);
}

/* --- shapes --- */

/* (B, H, S, E) of an input that may be packed. */
static xai_status head_shape(const operator_call *call, int input, int64_t heads, bool packed,
                             shape *out)
{
    char text[SHAPE_TEXT_SIZE];
    const shape *given = &call->inputs[input]->shape;
    *out = *given;
    if (given->rank != (packed ? 3 : 4))
        return operator_error(call, XAI_ERROR_SHAPE, "input %d has shape %s; Q has %d dimensions",
                              input, shape_text(given, text), packed ? 3 : 4);
    if (!packed)
        return XAI_OK;
    if (heads <= 0 || given->dims[2] % heads != 0)
        return operator_error(call, XAI_ERROR_SHAPE, "input %d of shape %s has no %lld heads",
                              input, shape_text(given, text), (long long)heads);
    *out = shape_make(
        4, (const int64_t[]){given->dims[0], heads, given->dims[1], given->dims[2] / heads});
    return XAI_OK;
}

static xai_status attention_attributes(const operator_call *call, attention *self, int64_t *heads,
                                       int64_t *kv_heads)
{
    float scale = 0, softcap = 0;
    int64_t causal = 0, precision = 1;
    *self = (attention){.packed = call->inputs[Q]->shape.rank == 3};
    xai_status status = operator_attribute_float(call, "scale", NAN, &scale);
    if (status == XAI_OK)
        status = operator_attribute_float(call, "softcap", 0, &softcap);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "is_causal", 0, &causal);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "q_num_heads", 0, heads);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "kv_num_heads", 0, kv_heads);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "qk_matmul_output_mode", 0, &self->mode);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "left_window_size", -1, &self->left);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "right_window_size", -1, &self->right);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "softmax_precision", 1, &precision);
    if (status == XAI_OK &&
        (self->left < -1 || self->right < -1 || self->mode < 0 || self->mode > 3 || softcap < 0))
        status = operator_error(call, XAI_ERROR_FORMAT,
                                "a window, softcap or qk_matmul_output_mode is out of range");
    self->scale = (double)scale;
    self->softcap = (double)softcap;
    self->causal = causal != 0;
    return status;
}

static xai_status fit(const operator_call *call, bool fits, int input, const char *what)
{
    char text[SHAPE_TEXT_SIZE];
    return fits ? XAI_OK
                : operator_error(call, XAI_ERROR_SHAPE, "%s has shape %s, which does not fit Q",
                                 what, shape_text(&call->inputs[input]->shape, text));
}

static xai_status attention_make(const operator_call *call, attention *self)
{
    int64_t heads, kv_heads;
    shape q, k, v;
    xai_status status = attention_attributes(call, self, &heads, &kv_heads);
    if (status == XAI_OK)
        status = head_shape(call, Q, heads, self->packed, &q);
    if (status == XAI_OK)
        status = head_shape(call, K, kv_heads, self->packed, &k);
    if (status == XAI_OK)
        status = head_shape(call, V, kv_heads, self->packed, &v);
    if (status != XAI_OK)
        return status;
    status = fit(call,
                 k.dims[0] == q.dims[0] && k.dims[3] == q.dims[3] && k.dims[1] > 0 &&
                     q.dims[1] % k.dims[1] == 0,
                 K, "K");
    if (status == XAI_OK)
        status =
            fit(call, v.dims[0] == q.dims[0] && v.dims[1] == k.dims[1] && v.dims[2] == k.dims[2], V,
                "V");
    if (status == XAI_OK &&
        operator_has_input(call, PAST_KEY) != operator_has_input(call, PAST_VALUE))
        status = operator_error(call, XAI_ERROR_FORMAT, "past_key and past_value come together");
    if (status != XAI_OK)
        return status;
    if (operator_has_input(call, PAST_KEY)) {
        const shape *past = &call->inputs[PAST_KEY]->shape,
                    *values = &call->inputs[PAST_VALUE]->shape;
        status = fit(call,
                     past->rank == 4 && past->dims[0] == k.dims[0] && past->dims[1] == k.dims[1] &&
                         past->dims[3] == k.dims[3],
                     PAST_KEY, "past_key");
        if (status == XAI_OK)
            status = fit(call,
                         values->rank == 4 && values->dims[0] == v.dims[0] &&
                             values->dims[1] == v.dims[1] && values->dims[2] == past->dims[2] &&
                             values->dims[3] == v.dims[3],
                         PAST_VALUE, "past_value");
        if (status != XAI_OK)
            return status;
        self->past = (size_t)past->dims[2];
    }
    self->batch = (size_t)q.dims[0];
    self->heads = (size_t)q.dims[1];
    self->kv_heads = (size_t)k.dims[1];
    self->queries = (size_t)q.dims[2];
    self->keys = self->past + (size_t)k.dims[2];
    self->width = (size_t)q.dims[3];
    self->value_width = (size_t)v.dims[3];
    if (isnan(self->scale))
        self->scale = 1 / sqrt((double)self->width);
    return XAI_OK;
}

/* The mask is broadcast to (B, H, Sq, T); its last axis may be shorter than T. */
static xai_status check_mask(const operator_call *call, const attention *self)
{
    if (!operator_has_input(call, MASK))
        return XAI_OK;
    const shape *mask = &call->inputs[MASK]->shape;
    const int64_t wanted[] = {(int64_t)self->batch, (int64_t)self->heads, (int64_t)self->queries};
    xai_status status = operator_check_type(call, MASK, TYPES_FLOAT | TYPES_BOOL);
    if (status != XAI_OK)
        return status;
    bool fits =
        mask->rank >= 1 && mask->rank <= 4 && mask->dims[mask->rank - 1] <= (int64_t)self->keys;
    for (int i = 0; fits && i < mask->rank - 1; i++) {
        const int64_t dim = mask->dims[mask->rank - 2 - i];
        fits = dim == 1 || dim == wanted[2 - i];
    }
    return fit(call, fits, MASK, "the mask");
}

static xai_status attention_infer(operator_call *call)
{
    attention self;
    xai_status status = operator_check(call);
    for (int i = Q; i < call->input_count && status == XAI_OK; i++)
        if (operator_has_input(call, i) && i != MASK) {
            status = operator_check_type(call, i, i == VALID ? TYPES_INDEX : TYPES_FLOAT);
            if (status == XAI_OK && i != VALID && i != V && i != PAST_VALUE)
                status = operator_check_same_type(call, Q, i);
        }
    if (status == XAI_OK)
        status = attention_make(call, &self);
    if (status == XAI_OK)
        status = check_mask(call, &self);
    if (status == XAI_OK && operator_has_input(call, VALID))
        status =
            fit(call, tensor_count(call->inputs[VALID]) == self.batch, VALID, "nonpad_kv_seqlen");
    if (status != XAI_OK)
        return status;
    const int64_t b = (int64_t)self.batch, h = (int64_t)self.heads, s = (int64_t)self.queries,
                  t = (int64_t)self.keys, e = (int64_t)self.width, f = (int64_t)self.value_width;
    const shape y = self.packed ? shape_make(3, (const int64_t[]){b, s, h * f})
                                : shape_make(4, (const int64_t[]){b, h, s, f}),
                key = shape_make(4, (const int64_t[]){b, (int64_t)self.kv_heads, t, e}),
                value = shape_make(4, (const int64_t[]){b, (int64_t)self.kv_heads, t, f}),
                product = shape_make(4, (const int64_t[]){b, h, s, t});
    const int32_t dtype = call->inputs[Q]->dtype;
    status = operator_set_output(call, 0, dtype, &y);
    if (status == XAI_OK)
        status = operator_set_output(call, 1, dtype, &key);
    if (status == XAI_OK)
        status = operator_set_output(call, 2, call->inputs[V]->dtype, &value);
    return status == XAI_OK ? operator_set_output(call, 3, dtype, &product) : status;
}

/* --- data --- */

/* Between a tensor (B, H, S, E), or packed (B, S, H E), and steps [offset, offset + S) of an array
 * (B, H, total, E). */
static void copy_heads(double *outside, bool packed, size_t batch, size_t heads, size_t steps,
                       size_t width, double *inside, size_t total, size_t offset, bool inwards)
{
    for (size_t b = 0; b < batch; b++)
        for (size_t h = 0; h < heads; h++)
            for (size_t s = 0; s < steps; s++) {
                double *out =
                    outside +
                    (packed ? (b * steps + s) * heads + h : (b * heads + h) * steps + s) * width;
                double *in = inside + ((b * heads + h) * total + offset + s) * width;
                memcpy(inwards ? in : out, inwards ? out : in, width * sizeof *in);
            }
}

static xai_status read_heads(const operator_call *call, const attention *self, int input,
                             size_t heads, size_t steps, size_t width, double *inside, size_t total,
                             size_t offset)
{
    double *outside = NULL;
    const bool packed = self->packed && input <= V;
    const xai_status status = operator_read_doubles(call, call->inputs[input], &outside);
    if (status == XAI_OK)
        copy_heads(outside, packed, self->batch, heads, steps, width, inside, total, offset, true);
    memory_free(outside);
    return status;
}

static xai_status write_heads(const operator_call *call, const attention *self, tensor *to,
                              bool packed, size_t heads, size_t steps, size_t width, double *inside,
                              size_t total, size_t offset)
{
    double *outside = NULL;
    const size_t count = tensor_count(to);
    const xai_status status = operator_allocate(call, count, &outside);
    if (status == XAI_OK && count > 0) {
        copy_heads(outside, packed, self->batch, heads, steps, width, inside, total, offset, false);
        tensor_write_doubles(to, 0, count, outside);
    }
    memory_free(outside);
    return status;
}

/* Keys or values: the past, then the new ones. */
static xai_status read_cache(const operator_call *call, const attention *self, int input, int past,
                             size_t width, double **out)
{
    xai_status status =
        operator_allocate(call, self->batch * self->kv_heads * self->keys * width, out);
    if (status == XAI_OK && self->past > 0)
        status =
            read_heads(call, self, past, self->kv_heads, self->past, width, *out, self->keys, 0);
    return status == XAI_OK ? read_heads(call, self, input, self->kv_heads, self->keys - self->past,
                                         width, *out, self->keys, self->past)
                            : status;
}

static xai_status attention_read(const operator_call *call, attention *self)
{
    xai_status status = attention_make(call, self);
    if (status == XAI_OK)
        status = operator_allocate(call, self->batch * self->heads * self->queries * self->width,
                                   &self->q);
    if (status == XAI_OK)
        status = read_heads(call, self, Q, self->heads, self->queries, self->width, self->q,
                            self->queries, 0);
    if (status == XAI_OK)
        status = read_cache(call, self, K, PAST_KEY, self->width, &self->k);
    if (status == XAI_OK)
        status = read_cache(call, self, V, PAST_VALUE, self->value_width, &self->v);
    if (status == XAI_OK && operator_has_input(call, VALID))
        status = operator_read_ints(call, call->inputs[VALID], &self->valid);
    if (status != XAI_OK || !operator_has_input(call, MASK))
        return status;
    status = operator_read_doubles(call, call->inputs[MASK], &self->mask);
    const size_t count = tensor_count(call->inputs[MASK]);
    for (size_t i = 0; i < count && status == XAI_OK && call->inputs[MASK]->dtype == DTYPE_BOOL;
         i++)
        self->mask[i] = self->mask[i] != 0 ? 0 : -INFINITY;
    return status;
}

/* Index into the mask for a row (b, h, i); its columns follow each other or, with one column for
 * all, stay. */
static size_t mask_row(const operator_call *call, size_t b, size_t h, size_t i)
{
    const shape *mask = &call->inputs[MASK]->shape;
    const size_t position[] = {b, h, i};
    size_t at = 0;
    for (int axis = 0; axis < mask->rank - 1; axis++) {
        const size_t own = position[3 - (mask->rank - 1) + axis];
        at = at * (size_t)mask->dims[axis] + (mask->dims[axis] == 1 ? 0 : own);
    }
    return at * (size_t)mask->dims[mask->rank - 1];
}

/* The bias of a row; true when some key may be looked at. */
static bool bias_row(const operator_call *call, const attention *self, size_t b, size_t h, size_t i,
                     double *bias)
{
    const bool external = self->past == 0 && self->valid;
    const int64_t offset = external ? self->valid[b] - (int64_t)self->queries : (int64_t)self->past;
    const int64_t position = (int64_t)i + offset;
    size_t columns = 0, row = 0;
    bool open = false;
    if (self->mask) {
        const shape *mask = &call->inputs[MASK]->shape;
        columns = (size_t)mask->dims[mask->rank - 1];
        row = mask_row(call, b, h, i);
    }
    for (size_t j = 0; j < self->keys; j++) {
        const int64_t key = (int64_t)j;
        const bool shut = (self->causal && key > position) ||
                          (self->left >= 0 && key < position - self->left) ||
                          (self->right >= 0 && key > position + self->right) ||
                          (self->valid && key >= self->valid[b]);
        bias[j] = shut ? -INFINITY : 0;
        if (self->mask)
            bias[j] += j < columns ? self->mask[row + j] : -INFINITY;
        open = open || bias[j] != -INFINITY;
    }
    return open;
}

/* p = softmax(s + bias) in place; zeros when nothing is open. */
static void softmax_row(double *s, const double *bias, size_t count, bool open)
{
    double largest = -INFINITY, sum = 0;
    for (size_t j = 0; j < count; j++) {
        s[j] += bias[j];
        largest = s[j] > largest || s[j] != s[j] ? s[j] : largest;
    }
    for (size_t j = 0; j < count; j++) {
        s[j] = !open || bias[j] == -INFINITY ? 0 : exp(s[j] - largest);
        sum += s[j];
    }
    for (size_t j = 0; j < count && sum != 0; j++)
        s[j] /= sum;
}

/* What one head needs: (Sq, T) products, a bias row, k or v turned. */
typedef struct head_scratch {
    double *capped, *weights, *turned, *bias;
} head_scratch;

static xai_status scratch_create(const operator_call *call, const attention *self,
                                 head_scratch *out)
{
    const size_t widest = self->width > self->value_width ? self->width : self->value_width;
    *out = (head_scratch){0};
    xai_status status = operator_allocate(call, self->queries * self->keys, &out->capped);
    if (status == XAI_OK)
        status = operator_allocate(call, self->queries * self->keys, &out->weights);
    if (status == XAI_OK)
        status = operator_allocate(call, widest * self->keys, &out->turned);
    return status == XAI_OK ? operator_allocate(call, self->keys, &out->bias) : status;
}

static void scratch_free(head_scratch *self)
{
    memory_free(self->capped);
    memory_free(self->weights);
    memory_free(self->turned);
    memory_free(self->bias);
}

static void turn(const double *in, size_t rows, size_t columns, double *out)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            out[j * rows + i] = in[i * columns + j];
}

static const double *kv_head(const attention *self, const double *of, size_t b, size_t h,
                             size_t width)
{
    const size_t head = h / (self->heads / self->kv_heads);
    return of + (b * self->kv_heads + head) * self->keys * width;
}

/* scratch->capped = softcap(scale q k^T), scratch->weights = softmax of it with the bias; `shown`
 * (Sq, T), when wanted, gets what output 3 shows. */
static void weigh_head(const operator_call *call, const attention *self, size_t b, size_t h,
                       head_scratch *scratch, double *shown)
{
    const size_t count = self->queries * self->keys;
    const double *q = self->q + (b * self->heads + h) * self->queries * self->width;
    turn(kv_head(self, self->k, b, h, self->width), self->keys, self->width, scratch->turned);
    memset(scratch->capped, 0, count * sizeof *scratch->capped);
    matrix_multiply_add(self->queries, self->keys, self->width, (matrix){q, self->width, 1},
                        scratch->turned, self->keys, scratch->capped, self->keys);
    for (size_t i = 0; i < count; i++) {
        scratch->capped[i] *= self->scale;
        if (shown && self->mode == 0)
            shown[i] = scratch->capped[i];
        if (self->softcap > 0)
            scratch->capped[i] = self->softcap * tanh(scratch->capped[i] / self->softcap);
        if (shown && self->mode != 0)
            shown[i] = scratch->capped[i];
    }
    memcpy(scratch->weights, scratch->capped, count * sizeof *scratch->weights);
    for (size_t i = 0; i < self->queries; i++) {
        double *row = scratch->weights + i * self->keys;
        const bool open = bias_row(call, self, b, h, i, scratch->bias);
        for (size_t j = 0; shown && self->mode == 2 && j < self->keys; j++)
            shown[i * self->keys + j] += scratch->bias[j];
        softmax_row(row, scratch->bias, self->keys, open);
    }
    if (shown && self->mode == 3)
        memcpy(shown, scratch->weights, count * sizeof *shown);
}

static xai_status write_caches(operator_call *call, attention *self)
{
    xai_status status = XAI_OK;
    for (int i = 1; i < 3 && status == XAI_OK; i++) {
        tensor *out = operator_output(call, i);
        if (out)
            status = write_heads(call, self, out, false, self->kv_heads, self->keys,
                                 i == 1 ? self->width : self->value_width,
                                 i == 1 ? self->k : self->v, self->keys, 0);
    }
    return status;
}

static xai_status attention_forward(operator_call *call)
{
    attention self = {0};
    head_scratch scratch = {0};
    double *y = NULL, *shown = NULL;
    tensor *products = operator_output(call, 3);
    xai_status status = attention_read(call, &self);
    const size_t count = self.queries * self.keys;
    if (status == XAI_OK)
        status = scratch_create(call, &self, &scratch);
    if (status == XAI_OK)
        status =
            operator_allocate(call, self.batch * self.heads * self.queries * self.value_width, &y);
    if (status == XAI_OK && products)
        status = operator_allocate(call, count, &shown);
    for (size_t i = 0; i < self.batch * self.heads && status == XAI_OK; i++) {
        const size_t b = i / self.heads, h = i % self.heads;
        weigh_head(call, &self, b, h, &scratch, shown);
        matrix_multiply_add(self.queries, self.value_width, self.keys,
                            (matrix){scratch.weights, self.keys, 1},
                            kv_head(&self, self.v, b, h, self.value_width), self.value_width,
                            y + i * self.queries * self.value_width, self.value_width);
        if (products && count > 0)
            tensor_write_doubles(products, i * count, count, shown);
    }
    if (status == XAI_OK)
        status = write_heads(call, &self, call->outputs[0], self.packed, self.heads, self.queries,
                             self.value_width, y, self.queries, 0);
    if (status == XAI_OK)
        status = write_caches(call, &self);
    memory_free(y);
    memory_free(shown);
    scratch_free(&scratch);
    attention_free(&self);
    return status;
}

/* --- gradients --- */

typedef struct attention_gradients {
    double *y, *q, *k, *v, *mask; /* y arrives; k and v of past and new together */
} attention_gradients;

/* One head: from the gradient of y to those of q, k, v and the mask, which are added to. */
static void back_head(const operator_call *call, const attention *self, size_t b, size_t h,
                      head_scratch *scratch, attention_gradients *to)
{
    const size_t head = b * self->heads + h, queries = self->queries, keys = self->keys,
                 width = self->width, value_width = self->value_width;
    const double *gy = to->y + head * queries * value_width, *q = self->q + head * queries * width;
    const double *k = kv_head(self, self->k, b, h, width);
    const size_t k_at = (size_t)(k - self->k), v_at = k_at / (width ? width : 1) * value_width;
    weigh_head(call, self, b, h, scratch, NULL);
    if (to->v) /* p^T gy */
        matrix_multiply_add(keys, value_width, queries, (matrix){scratch->weights, 1, keys}, gy,
                            value_width, to->v + v_at, value_width);
    turn(kv_head(self, self->v, b, h, value_width), keys, value_width, scratch->turned);
    for (size_t i = 0; i < queries; i++) {
        double *p = scratch->weights + i * keys, *g = scratch->bias, sum = 0;
        const double *capped = scratch->capped + i * keys;
        memset(g, 0, keys * sizeof *g);
        matrix_multiply_add(1, keys, value_width, (matrix){gy + i * value_width, value_width, 1},
                            scratch->turned, keys, g, keys);
        for (size_t j = 0; j < keys; j++)
            sum += g[j] * p[j];
        const size_t row = to->mask ? mask_row(call, b, h, i) : 0;
        for (size_t j = 0; j < keys; j++) {
            p[j] *= g[j] - sum; /* of the softmax's input */
            if (to->mask &&
                j < (size_t)call->inputs[MASK]->shape.dims[call->inputs[MASK]->shape.rank - 1])
                to->mask[row + j] += p[j];
            if (self->softcap > 0)
                p[j] *= 1 - capped[j] / self->softcap * (capped[j] / self->softcap);
            p[j] *= self->scale;
        }
    }
    if (to->q)
        matrix_multiply_add(queries, width, keys, (matrix){scratch->weights, keys, 1}, k, width,
                            to->q + head * queries * width, width);
    if (to->k)
        matrix_multiply_add(keys, width, queries, (matrix){scratch->weights, 1, keys}, q, width,
                            to->k + k_at, width);
}

/* Arrays for what is wanted, with the gradients of the caches already in them. */
static xai_status gradients_create(operator_call *call, const attention *self,
                                   attention_gradients *out)
{
    const size_t rows = self->batch * self->heads * self->queries,
                 cached = self->batch * self->kv_heads * self->keys;
    const tensor *gy = operator_output_gradient(call, 0);
    xai_status status = operator_allocate(call, rows * self->value_width, &out->y);
    if (status == XAI_OK && gy) {
        double *given = NULL;
        status = operator_read_doubles(call, gy, &given);
        if (status == XAI_OK)
            copy_heads(given, self->packed, self->batch, self->heads, self->queries,
                       self->value_width, out->y, self->queries, 0, true);
        memory_free(given);
    }
    if (status == XAI_OK && operator_wanted_gradient(call, Q))
        status = operator_allocate(call, rows * self->width, &out->q);
    for (int i = 0; i < 2 && status == XAI_OK; i++) {
        double **to = i == 0 ? &out->k : &out->v;
        const tensor *arriving = operator_output_gradient(call, 1 + i);
        if (!operator_wanted_gradient(call, K + i) && !operator_wanted_gradient(call, PAST_KEY + i))
            continue;
        status = operator_allocate(call, cached * (i == 0 ? self->width : self->value_width), to);
        if (status == XAI_OK && arriving)
            tensor_read_doubles(arriving, 0, tensor_count(arriving), *to);
    }
    if (status == XAI_OK && operator_wanted_gradient(call, MASK))
        status = operator_allocate(call, tensor_count(call->inputs[MASK]), &out->mask);
    return status;
}

static xai_status gradients_write(operator_call *call, const attention *self,
                                  attention_gradients *from)
{
    xai_status status = XAI_OK;
    if (from->q)
        status = write_heads(call, self, operator_wanted_gradient(call, Q), self->packed,
                             self->heads, self->queries, self->width, from->q, self->queries, 0);
    for (int i = 0; i < 2; i++) {
        double *of = i == 0 ? from->k : from->v;
        const size_t width = i == 0 ? self->width : self->value_width;
        tensor *fresh = operator_wanted_gradient(call, K + i),
               *past = operator_wanted_gradient(call, PAST_KEY + i);
        if (status == XAI_OK && fresh)
            status = write_heads(call, self, fresh, self->packed, self->kv_heads,
                                 self->keys - self->past, width, of, self->keys, self->past);
        if (status == XAI_OK && past)
            status = write_heads(call, self, past, false, self->kv_heads, self->past, width, of,
                                 self->keys, 0);
    }
    if (status == XAI_OK && from->mask && tensor_count(call->inputs[MASK]) > 0)
        tensor_write_doubles(operator_wanted_gradient(call, MASK), 0,
                             tensor_count(call->inputs[MASK]), from->mask);
    return status;
}

static xai_status attention_backward(operator_call *call)
{
    attention self = {0};
    head_scratch scratch = {0};
    attention_gradients gradients = {0};
    if (operator_output_gradient(call, 3))
        return operator_error(call, XAI_ERROR_UNSUPPORTED,
                              "the output qk_matmul_output has no gradient");
    xai_status status = attention_read(call, &self);
    if (status == XAI_OK)
        status = scratch_create(call, &self, &scratch);
    if (status == XAI_OK)
        status = gradients_create(call, &self, &gradients);
    for (size_t i = 0; i < self.batch * self.heads && status == XAI_OK; i++)
        back_head(call, &self, i / self.heads, i % self.heads, &scratch, &gradients);
    if (status == XAI_OK)
        status = gradients_write(call, &self, &gradients);
    memory_free(gradients.y);
    memory_free(gradients.q);
    memory_free(gradients.k);
    memory_free(gradients.v);
    memory_free(gradients.mask);
    scratch_free(&scratch);
    attention_free(&self);
    return status;
}

#define READS(i) OPERATOR_READS_INPUT(i)
const operator_definition operator_attention = {
    .name = "Attention",
    .domain = "",
    .min_inputs = 3,
    .max_inputs = 7,
    .min_outputs = 1,
    .max_outputs = 4,
    .since = 23,
    .backward_reads = READS(0) | READS(1) | READS(2) | READS(3) | READS(4) | READS(5) | READS(6),
    .infer = attention_infer,
    .forward = attention_forward,
    .backward = attention_backward,
};
