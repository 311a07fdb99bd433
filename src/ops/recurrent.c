/* RNN, GRU and LSTM: calls, sequences, gradients through time. The step is in recurrent_cell.c. */
#include "ops/recurrent.h"

#include <math.h>
#include <string.h>

#include "ops/families.h"
#include "ops/matrix.h"

enum { X, W, R, B, LENGTHS, H0, C0, P };

/* --- activations --- */

#define GATE(name, VALUE, SLOPE)                                              \
    static double name##_value(double x, double alpha, double beta)           \
    {                                                                         \
        (void)alpha, (void)beta;                                              \
        return VALUE;                                                         \
    }                                                                         \
    static double name##_slope(double x, double y, double alpha, double beta) \
    {                                                                         \
        (void)x, (void)y, (void)alpha, (void)beta;                            \
        return SLOPE;                                                         \
    }
GATE(sigmoid, (1 / (1 + exp(-x))), (y * (1 - y)))
GATE(tanh, tanh(x), (1 - y * y))
GATE(relu, (x > 0 ? x : 0), (x > 0 ? 1 : 0))
GATE(affine, (alpha * x + beta), alpha)
GATE(leaky_relu, (x >= 0 ? x : alpha * x), (x >= 0 ? 1 : alpha))
GATE(thresholded_relu, (x > alpha ? x : 0), (x > alpha ? 1 : 0))
GATE(scaled_tanh, (alpha * tanh(beta * x)), (beta * (alpha - y * y / alpha)))
GATE(hard_sigmoid, fmax(0, fmin(1, alpha *x + beta)), (y > 0 && y < 1 ? alpha : 0))
GATE(elu, (x >= 0 ? x : alpha * expm1(x)), (x >= 0 ? 1 : y + alpha))
GATE(softsign, (x / (1 + fabs(x))), (1 / ((1 + fabs(x)) * (1 + fabs(x)))))
GATE(softplus, (x > 0 ? x + log1p(exp(-x)) : log1p(exp(x))), (1 / (1 + exp(-x))))

typedef struct gate_name {
    const char *name;
    bool takes_alpha, takes_beta;
    gate_function function; /* with the defaults */
} gate_name;

static const gate_name gate_names[] = {
    {"Sigmoid", false, false, {sigmoid_value, sigmoid_slope, 0, 0}},
    {"Tanh", false, false, {tanh_value, tanh_slope, 0, 0}},
    {"Relu", false, false, {relu_value, relu_slope, 0, 0}},
    {"Affine", true, true, {affine_value, affine_slope, 1, 0}},
    {"LeakyRelu", true, false, {leaky_relu_value, leaky_relu_slope, 0.01, 0}},
    {"ThresholdedRelu", true, false, {thresholded_relu_value, thresholded_relu_slope, 1, 0}},
    {"ScaledTanh", true, true, {scaled_tanh_value, scaled_tanh_slope, 1, 1}},
    {"HardSigmoid", true, true, {hard_sigmoid_value, hard_sigmoid_slope, 0.2, 0.5}},
    {"Elu", true, false, {elu_value, elu_slope, 1, 0}},
    {"Softsign", false, false, {softsign_value, softsign_slope, 0, 0}},
    {"Softplus", false, false, {softplus_value, softplus_slope, 0, 0}},
};

static bool same_word(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        const char x = *a >= 'A' && *a <= 'Z' ? (char)(*a + 32) : *a,
                   y = *b >= 'A' && *b <= 'Z' ? (char)(*b + 32) : *b;
        if (x != y)
            return false;
    }
    return *a == *b;
}

/* A list attribute of the type, or NULL when absent. */
static xai_status list_attribute(const operator_call *call, const char *name, int32_t type,
                                 const onnx_attribute **out)
{
    *out = operator_attribute(call, name);
    if (*out && (*out)->type != type)
        return operator_error(call, XAI_ERROR_FORMAT, "attribute '%s' has the wrong type", name);
    return XAI_OK;
}

/* The functions of every direction: named, or Sigmoid and Tanh as the standard has them. Alphas
 * and betas go in order to those that take one. */
static xai_status read_functions(const operator_call *call, recurrent *self)
{
    static const size_t counts[] = {1, 2, 3}; /* RNN, GRU, LSTM */
    static const char *const defaults[] = {"Sigmoid", "Tanh", "Tanh"};
    const onnx_attribute *names, *alphas, *betas;
    const size_t count = counts[self->kind];
    size_t next_alpha = 0, next_beta = 0;
    xai_status status = list_attribute(call, "activations", ONNX_ATTRIBUTE_STRINGS, &names);
    if (status == XAI_OK)
        status = list_attribute(call, "activation_alpha", ONNX_ATTRIBUTE_FLOATS, &alphas);
    if (status == XAI_OK)
        status = list_attribute(call, "activation_beta", ONNX_ATTRIBUTE_FLOATS, &betas);
    if (status != XAI_OK)
        return status;
    if (names && names->count != count * self->directions)
        return operator_error(call, XAI_ERROR_FORMAT, "%zu activations where %zu are needed",
                              names->count, count * self->directions);
    for (size_t i = 0; i < count * self->directions; i++) {
        const char *name = names                         ? names->strings[i]
                           : self->kind == RECURRENT_RNN ? "Tanh"
                                                         : defaults[i % count];
        const gate_name *found = NULL;
        for (size_t k = 0; k < sizeof gate_names / sizeof *gate_names; k++)
            if (same_word(gate_names[k].name, name))
                found = &gate_names[k];
        if (!found)
            return operator_error(call, XAI_ERROR_UNSUPPORTED, "activation '%.40s' is not known",
                                  name);
        gate_function *f = &self->functions[i / count][i % count];
        *f = found->function;
        if (found->takes_alpha && alphas && next_alpha < alphas->count)
            f->alpha = (double)alphas->floats[next_alpha++];
        if (found->takes_beta && betas && next_beta < betas->count)
            f->beta = (double)betas->floats[next_beta++];
    }
    return XAI_OK;
}

/* --- attributes and shapes --- */

static recurrent_kind kind_of(const operator_call *call)
{
    const char *name = call->definition->name;
    return name[0] == 'R' ? RECURRENT_RNN : name[0] == 'G' ? RECURRENT_GRU : RECURRENT_LSTM;
}

static xai_status read_attributes(const operator_call *call, recurrent *self)
{
    const char *direction;
    int64_t rows_first = 0, input_forget = 0, reset_last = 0;
    float clip = 0;
    *self = (recurrent){.kind = kind_of(call)};
    self->gates = self->kind == RECURRENT_RNN ? 1 : self->kind == RECURRENT_GRU ? 3 : 4;
    xai_status status = operator_attribute_text(call, "direction", "forward", &direction);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "layout", 0, &rows_first);
    if (status == XAI_OK)
        status = operator_attribute_float(call, "clip", 0, &clip);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "input_forget", 0, &input_forget);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "linear_before_reset", 0, &reset_last);
    if (status != XAI_OK)
        return status;
    const bool both = strcmp(direction, "bidirectional") == 0;
    self->backward_first = strcmp(direction, "reverse") == 0;
    if (!both && !self->backward_first && strcmp(direction, "forward") != 0)
        return operator_error(call, XAI_ERROR_FORMAT, "direction '%.40s' is not known", direction);
    self->directions = both ? 2 : 1;
    self->rows_first = rows_first != 0;
    self->clip = (double)clip;
    self->input_forget = self->kind == RECURRENT_LSTM && input_forget != 0;
    self->reset_last = self->kind == RECURRENT_GRU && reset_last != 0;
    return read_functions(call, self);
}

static xai_status check_shape(const operator_call *call, int input, const char *what,
                              const shape *wanted)
{
    char given_text[SHAPE_TEXT_SIZE], wanted_text[SHAPE_TEXT_SIZE];
    if (!operator_has_input(call, input) || shape_equal(&call->inputs[input]->shape, wanted))
        return XAI_OK;
    return operator_error(call, XAI_ERROR_SHAPE, "%s has shape %s instead of %s", what,
                          shape_text(&call->inputs[input]->shape, given_text),
                          shape_text(wanted, wanted_text));
}

#define DIMS(rank, ...) shape_make(rank, (const int64_t[]){__VA_ARGS__})

static shape state_shape(const recurrent *self)
{
    const int64_t d = (int64_t)self->directions, n = (int64_t)self->rows, h = (int64_t)self->width;
    return self->rows_first ? DIMS(3, n, d, h) : DIMS(3, d, n, h);
}

static xai_status read_shapes(const operator_call *call, recurrent *self)
{
    char text[SHAPE_TEXT_SIZE];
    int64_t hidden = 0;
    xai_status status = operator_attribute_int(call, "hidden_size", 0, &hidden);
    if (status != XAI_OK)
        return status;
    const shape *x = &call->inputs[X]->shape, *r = &call->inputs[R]->shape;
    if (x->rank != 3 || r->rank != 3)
        return operator_error(call, XAI_ERROR_SHAPE, "X or R is not three-dimensional: X is %s",
                              shape_text(x, text));
    self->steps = (size_t)x->dims[self->rows_first ? 1 : 0];
    self->rows = (size_t)x->dims[self->rows_first ? 0 : 1];
    self->inputs = (size_t)x->dims[2];
    self->width = (size_t)r->dims[2];
    if (hidden != 0 && hidden != r->dims[2])
        return operator_error(call, XAI_ERROR_SHAPE, "hidden_size is %lld, but R is for %lld",
                              (long long)hidden, (long long)r->dims[2]);
    const int64_t d = (int64_t)self->directions, h = (int64_t)self->width,
                  rows = (int64_t)self->gates * h;
    const shape w_dims = DIMS(3, d, rows, (int64_t)self->inputs), r_dims = DIMS(3, d, rows, h),
                b_dims = DIMS(2, d, 2 * rows), p_dims = DIMS(2, d, 3 * h),
                length_dims = DIMS(1, (int64_t)self->rows), state = state_shape(self);
    status = check_shape(call, W, "W", &w_dims);
    if (status == XAI_OK)
        status = check_shape(call, R, "R", &r_dims);
    if (status == XAI_OK)
        status = check_shape(call, B, "B", &b_dims);
    if (status == XAI_OK)
        status = check_shape(call, LENGTHS, "sequence_lens", &length_dims);
    if (status == XAI_OK)
        status = check_shape(call, H0, "initial_h", &state);
    if (status == XAI_OK)
        status = check_shape(call, C0, "initial_c", &state);
    return status == XAI_OK ? check_shape(call, P, "P", &p_dims) : status;
}

static xai_status recurrent_infer(operator_call *call)
{
    recurrent self;
    xai_status status = operator_check(call);
    for (int i = 0; i < call->input_count && status == XAI_OK; i++)
        if (operator_has_input(call, i)) {
            status = operator_check_type(call, i, i == LENGTHS ? 1u << DTYPE_INT32 : TYPES_FLOAT);
            if (status == XAI_OK && i != LENGTHS)
                status = operator_check_same_type(call, X, i);
        }
    if (status == XAI_OK)
        status = read_attributes(call, &self);
    if (status == XAI_OK)
        status = read_shapes(call, &self);
    if (status != XAI_OK)
        return status;
    const int64_t d = (int64_t)self.directions, t = (int64_t)self.steps, n = (int64_t)self.rows,
                  h = (int64_t)self.width;
    const shape y = self.rows_first ? DIMS(4, n, t, d, h) : DIMS(4, t, d, n, h),
                state = state_shape(&self);
    status = operator_set_output(call, 0, call->inputs[X]->dtype, &y);
    for (int i = 1; i < 3 && status == XAI_OK; i++)
        status = operator_set_output(call, i, call->inputs[X]->dtype, &state);
    return status;
}

/* --- data --- */

static void recurrent_free(recurrent *self)
{
    memory_free(self->x);
    memory_free(self->w);
    memory_free(self->r);
    memory_free(self->b);
    memory_free(self->h0);
    memory_free(self->c0);
    memory_free(self->p);
    memory_free(self->lengths);
}

static xai_status read_optional(const operator_call *call, int input, double **out)
{
    return operator_has_input(call, input) ? operator_read_doubles(call, call->inputs[input], out)
                                           : XAI_OK;
}

static xai_status recurrent_read(const operator_call *call, recurrent *self)
{
    double **const places[] = {&self->x, &self->w,  &self->r,  &self->b,
                               NULL,     &self->h0, &self->c0, &self->p};
    xai_status status = read_attributes(call, self);
    if (status == XAI_OK)
        status = read_shapes(call, self);
    for (int i = X; i <= P && status == XAI_OK; i++)
        if (places[i])
            status = read_optional(call, i, places[i]);
    if (status == XAI_OK && operator_has_input(call, LENGTHS))
        status = operator_read_ints(call, call->inputs[LENGTHS], &self->lengths);
    for (size_t n = 0; n < self->rows && self->lengths && status == XAI_OK; n++)
        if (self->lengths[n] < 0 || (size_t)self->lengths[n] > self->steps)
            status =
                operator_error(call, XAI_ERROR_SHAPE, "sequence_lens[%zu] is %lld of %zu steps", n,
                               (long long)self->lengths[n], self->steps);
    return status;
}

/* Where step t of row n lies in X, row n of direction d in a state, and both in Y. */
static size_t x_at(const recurrent *self, size_t t, size_t n)
{
    return (self->rows_first ? n * self->steps + t : t * self->rows + n) * self->inputs;
}

static size_t state_at(const recurrent *self, size_t d, size_t n)
{
    return (self->rows_first ? n * self->directions + d : d * self->rows + n) * self->width;
}

static size_t y_at(const recurrent *self, size_t t, size_t d, size_t n)
{
    return (self->rows_first ? (n * self->steps + t) * self->directions + d
                             : (t * self->directions + d) * self->rows + n) *
           self->width;
}

/* The input that step s of a sequence reads. */
static size_t time_of(const recurrent *self, size_t d, size_t length, size_t s)
{
    return d == 1 || self->backward_first ? length - 1 - s : s;
}

static void trace_free(recurrent_trace *self)
{
    memory_free(self->x);
    memory_free(self->sums);
    memory_free(self->gates);
    memory_free(self->h);
    memory_free(self->c);
    memory_free(self->extra);
}

static xai_status trace_create(const operator_call *call, const recurrent *of, recurrent_trace *out)
{
    const size_t steps = of->steps, width = of->width;
    *out = (recurrent_trace){0};
    xai_status status = operator_allocate(call, steps * of->inputs, &out->x);
    if (status == XAI_OK)
        status = operator_allocate(call, steps * of->gates * width, &out->sums);
    if (status == XAI_OK)
        status = operator_allocate(call, steps * of->gates * width, &out->gates);
    if (status == XAI_OK)
        status = operator_allocate(call, (steps + 1) * width, &out->h);
    if (status == XAI_OK)
        status = operator_allocate(call, (steps + 1) * width, &out->c);
    return status == XAI_OK ? operator_allocate(call, steps * width, &out->extra) : status;
}

/* Run row n in direction d; w_turned (I, G H) is W of the direction, transposed. */
static void run_sequence(const recurrent *self, size_t d, size_t n, const double *w_turned,
                         recurrent_trace *trace)
{
    const size_t width = self->width, all = self->gates * width;
    const size_t length = trace->length = self->lengths ? (size_t)self->lengths[n] : self->steps;
    for (size_t s = 0; s < length; s++) {
        memcpy(trace->x + s * self->inputs, self->x + x_at(self, time_of(self, d, length, s), n),
               self->inputs * sizeof *self->x);
        for (size_t k = 0; k < all; k++) {
            /* the recurrent bias of GRU's hidden gate is inside its product when it is reset */
            const bool apart = self->reset_last && k >= 2 * width;
            trace->sums[s * all + k] =
                self->b ? self->b[d * 2 * all + k] + (apart ? 0 : self->b[(d * 2 + 1) * all + k])
                        : 0;
        }
    }
    matrix_multiply_add(length, all, self->inputs, (matrix){trace->x, self->inputs, 1}, w_turned,
                        all, trace->sums, all);
    memset(trace->h, 0, width * sizeof *trace->h);
    memset(trace->c, 0, width * sizeof *trace->c);
    if (self->h0)
        memcpy(trace->h, self->h0 + state_at(self, d, n), width * sizeof *trace->h);
    if (self->c0)
        memcpy(trace->c, self->c0 + state_at(self, d, n), width * sizeof *trace->c);
    for (size_t s = 0; s < length; s++)
        recurrent_cell(self, d, trace->h + s * width, trace->c + s * width, trace->sums + s * all,
                       trace->gates + s * all, trace->extra + s * width, trace->h + (s + 1) * width,
                       trace->c + (s + 1) * width);
}

static void turn_weights(const recurrent *self, size_t d, double *out)
{
    const size_t all = self->gates * self->width;
    const double *w = self->w + d * all * self->inputs;
    for (size_t i = 0; i < all; i++)
        for (size_t k = 0; k < self->inputs; k++)
            out[k * all + i] = w[i * self->inputs + k];
}

static void write_sequence(const recurrent *self, size_t d, size_t n, const recurrent_trace *trace,
                           operator_call *call)
{
    const size_t width = self->width, length = trace->length;
    tensor *y = operator_output(call, 0);
    for (size_t s = 0; y && width > 0 && s < length; s++)
        tensor_write_doubles(y, y_at(self, time_of(self, d, length, s), d, n), width,
                             trace->h + (s + 1) * width);
    for (int i = 1; i < 3; i++)
        if (operator_output(call, i) && width > 0)
            tensor_write_doubles(call->outputs[i], state_at(self, d, n), width,
                                 (i == 1 ? trace->h : trace->c) + length * width);
}

static xai_status recurrent_forward(operator_call *call)
{
    recurrent self = {0};
    recurrent_trace trace = {0};
    double *turned = NULL;
    xai_status status = recurrent_read(call, &self);
    if (status == XAI_OK)
        status = trace_create(call, &self, &trace);
    if (status == XAI_OK)
        status = operator_allocate(call, self.inputs * self.gates * self.width, &turned);
    if (status == XAI_OK && operator_output(call, 0))
        operator_zero(call->outputs[0]); /* steps behind the lengths */
    for (size_t d = 0; d < self.directions && status == XAI_OK; d++) {
        turn_weights(&self, d, turned);
        for (size_t n = 0; n < self.rows; n++) {
            run_sequence(&self, d, n, turned, &trace);
            write_sequence(&self, d, n, &trace, call);
        }
    }
    memory_free(turned);
    trace_free(&trace);
    recurrent_free(&self);
    return status;
}

/* --- gradients --- */

/* What arrives, in doubles; NULL where zero. */
typedef struct arriving {
    double *y, *h, *c;
} arriving;

/* scratch: 2 G H for one step, then 2 H for the states' gradients. */
static void back_sequence(const recurrent *self, size_t d, size_t n, const recurrent_trace *trace,
                          const arriving *from, recurrent_gradients *to, double *step_sums,
                          double *scratch)
{
    const size_t width = self->width, all = self->gates * width, length = trace->length;
    const double *w = self->w + d * all * self->inputs;
    double *dh = scratch + all, *dc = dh + width;
    memset(dh, 0, 2 * width * sizeof *dh);
    for (size_t k = 0; k < width; k++) {
        dh[k] = from->h ? from->h[state_at(self, d, n) + k] : 0;
        dc[k] = from->c ? from->c[state_at(self, d, n) + k] : 0;
    }
    for (size_t s = length; s-- > 0;) {
        const size_t t = time_of(self, d, length, s);
        for (size_t k = 0; from->y && k < width; k++)
            dh[k] += from->y[y_at(self, t, d, n) + k];
        recurrent_cell_back(self, d, trace, s, dh, dc, step_sums + s * all, scratch, to);
    }
    for (size_t k = 0; k < width; k++) {
        if (to->h0)
            to->h0[state_at(self, d, n) + k] += dh[k];
        if (to->c0)
            to->c0[state_at(self, d, n) + k] += dc[k];
    }
    if (to->w) /* dW = sums^T x */
        matrix_multiply_add(all, self->inputs, length, (matrix){step_sums, 1, all}, trace->x,
                            self->inputs, to->w + d * all * self->inputs, self->inputs);
    for (size_t s = 0; to->x && s < length; s++) /* dx = sums W */
        matrix_multiply_add(1, self->inputs, all, (matrix){step_sums + s * all, all, 1}, w,
                            self->inputs, to->x + x_at(self, time_of(self, d, length, s), n),
                            self->inputs);
}

static xai_status read_arriving(const operator_call *call, arriving *out)
{
    double **const places[] = {&out->y, &out->h, &out->c};
    xai_status status = XAI_OK;
    for (int i = 0; i < 3 && status == XAI_OK; i++)
        if (operator_output_gradient(call, i))
            status = operator_read_doubles(call, operator_output_gradient(call, i), places[i]);
    return status;
}

/* Arrays for the wanted gradients, zeroed; `write` puts them into the tensors and frees them. */
static xai_status gradients_arrays(operator_call *call, recurrent_gradients *to, bool create)
{
    double **const places[] = {&to->x, &to->w, &to->r, &to->b, NULL, &to->h0, &to->c0, &to->p};
    xai_status status = XAI_OK;
    for (int i = X; i <= P; i++) {
        tensor *wanted = places[i] ? operator_wanted_gradient(call, i) : NULL;
        const size_t count = wanted ? tensor_count(wanted) : 0;
        if (create && wanted && status == XAI_OK)
            status = operator_allocate(call, count, places[i]);
        if (create || !places[i])
            continue;
        if (*places[i] && count > 0)
            tensor_write_doubles(wanted, 0, count, *places[i]);
        memory_free(*places[i]);
    }
    return status;
}

static xai_status recurrent_backward(operator_call *call)
{
    recurrent self = {0};
    recurrent_trace trace = {0};
    recurrent_gradients to = {0};
    arriving from = {0};
    double *turned = NULL, *step_sums = NULL, *scratch = NULL;
    xai_status status = recurrent_read(call, &self);
    const size_t all = self.gates * self.width;
    if (status == XAI_OK)
        status = trace_create(call, &self, &trace);
    if (status == XAI_OK)
        status = operator_allocate(call, self.inputs * all, &turned);
    if (status == XAI_OK)
        status = operator_allocate(call, self.steps * all, &step_sums);
    if (status == XAI_OK)
        status = operator_allocate(call, all + 2 * self.width, &scratch);
    if (status == XAI_OK)
        status = read_arriving(call, &from);
    if (status == XAI_OK)
        status = gradients_arrays(call, &to, true);
    for (size_t d = 0; d < self.directions && status == XAI_OK; d++) {
        turn_weights(&self, d, turned);
        for (size_t n = 0; n < self.rows; n++) {
            run_sequence(&self, d, n, turned, &trace);
            back_sequence(&self, d, n, &trace, &from, &to, step_sums, scratch);
        }
    }
    gradients_arrays(call, &to, false);
    memory_free(from.y);
    memory_free(from.h);
    memory_free(from.c);
    memory_free(turned);
    memory_free(step_sums);
    memory_free(scratch);
    trace_free(&trace);
    recurrent_free(&self);
    return status;
}

#define READS(i) OPERATOR_READS_INPUT(i)
#define RECURRENT(symbol, title, most_inputs, most_outputs)                                        \
    const operator_definition operator_##symbol = {                                                \
        .name = title,                                                                             \
        .domain = "",                                                                              \
        .min_inputs = 3,                                                                           \
        .max_inputs = most_inputs,                                                                 \
        .min_outputs = 0,                                                                          \
        .max_outputs = most_outputs,                                                               \
        .since = 7,                                                                                \
        .backward_reads =                                                                          \
            READS(0) | READS(1) | READS(2) | READS(3) | READS(4) | READS(5) | READS(6) | READS(7), \
        .infer = recurrent_infer,                                                                  \
        .forward = recurrent_forward,                                                              \
        .backward = recurrent_backward,                                                            \
    }
RECURRENT(rnn, "RNN", 6, 2);
RECURRENT(gru, "GRU", 6, 2);
RECURRENT(lstm, "LSTM", 8, 3);
