/* One step of RNN, GRU and LSTM, and its transpose. Names as in the ONNX standard; h', c' are the
 * states before the step. */
#include <string.h>

#include "ops/recurrent.h"

double recurrent_clip(const recurrent *self, double x)
{
    if (self->clip <= 0)
        return x;
    return x < -self->clip ? -self->clip : x > self->clip ? self->clip : x;
}

double recurrent_value(const recurrent *self, const gate_function *f, double x)
{
    return f->value(recurrent_clip(self, x), f->alpha, f->beta);
}

double recurrent_slope(const recurrent *self, const gate_function *f, double x, double y)
{
    if (self->clip > 0 && (x < -self->clip || x > self->clip))
        return 0;
    return f->slope(x, y, f->alpha, f->beta);
}

/* out (rows) += M (rows, width) v (width) */
static void add_product(const double *m, size_t rows, size_t width, const double *v, double *out)
{
    for (size_t i = 0; i < rows; i++) {
        double sum = 0;
        for (size_t k = 0; k < width; k++)
            sum += m[i * width + k] * v[k];
        out[i] += sum;
    }
}

/* out (width) += M^T (width, rows) g (rows) */
static void add_transposed(const double *m, size_t rows, size_t width, const double *g, double *out)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < width; k++)
            out[k] += m[i * width + k] * g[i];
}

/* out (rows, width) += g v^T */
static void add_outer(const double *g, size_t rows, const double *v, size_t width, double *out)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < width; k++)
            out[i * width + k] += g[i] * v[k];
}

/* h = f(W x + R h' + b) */
static void rnn_cell(const recurrent *self, size_t d, const double *h, double *sums, double *gates,
                     double *h_next)
{
    const size_t width = self->width;
    add_product(self->r + d * width * width, width, width, h, sums);
    for (size_t k = 0; k < width; k++)
        h_next[k] = gates[k] = recurrent_value(self, &self->functions[d][0], sums[k]);
}

/* Gates i, o, f, c:
 *   i = f(sum_i + Pi c')   f = f(sum_f + Pf c'), or 1 - i   g = g(sum_c)
 *   c = f c' + i g         o = f(sum_o + Po c)              h = o h(c) */
static void lstm_cell(const recurrent *self, size_t d, const double *h, const double *c,
                      double *sums, double *gates, double *h_next, double *c_next)
{
    const size_t width = self->width;
    const gate_function *f = self->functions[d];
    const double *p = self->p ? self->p + d * 3 * width : NULL;
    add_product(self->r + d * 4 * width * width, 4 * width, width, h, sums);
    for (size_t k = 0; k < width; k++) {
        double *i = sums + k, *o = sums + width + k, *forget = sums + 2 * width + k,
               *g = sums + 3 * width + k;
        if (p) {
            *i += p[k] * c[k];
            *forget += p[2 * width + k] * c[k];
        }
        gates[k] = recurrent_value(self, &f[0], *i);
        gates[2 * width + k] =
            self->input_forget ? 1 - gates[k] : recurrent_value(self, &f[0], *forget);
        gates[3 * width + k] = recurrent_value(self, &f[1], *g);
        c_next[k] = gates[2 * width + k] * c[k] + gates[k] * gates[3 * width + k];
        if (p)
            *o += p[width + k] * c_next[k];
        gates[width + k] = recurrent_value(self, &f[0], *o);
        h_next[k] = gates[width + k] * recurrent_value(self, &f[2], c_next[k]);
    }
}

/* Gates z, r, n:
 *   z = f(sum_z)   r = f(sum_r)
 *   n = g(sum_n + Rn (r h')), or with reset_last g(sum_n + r (Rn h' + bias))
 *   h = (1 - z) n + z h' */
static void gru_cell(const recurrent *self, size_t d, const double *h, double *sums, double *gates,
                     double *extra, double *h_next)
{
    const size_t width = self->width;
    const gate_function *f = self->functions[d];
    const double *r = self->r + d * 3 * width * width, *rn = r + 2 * width * width;
    add_product(r, 2 * width, width, h, sums);
    for (size_t k = 0; k < 2 * width; k++)
        gates[k] = recurrent_value(self, &f[0], sums[k]);
    for (size_t k = 0; k < width; k++)
        extra[k] = self->reset_last ? (self->b ? self->b[(d * 6 + 5) * width + k] : 0)
                                    : gates[width + k] * h[k];
    if (self->reset_last) {
        add_product(rn, width, width, h, extra);
        for (size_t k = 0; k < width; k++)
            sums[2 * width + k] += gates[width + k] * extra[k];
    } else {
        add_product(rn, width, width, extra, sums + 2 * width);
    }
    for (size_t k = 0; k < width; k++) {
        const double n = gates[2 * width + k] = recurrent_value(self, &f[1], sums[2 * width + k]);
        h_next[k] = (1 - gates[k]) * n + gates[k] * h[k];
    }
}

void recurrent_cell(const recurrent *self, size_t d, const double *h, const double *c, double *sums,
                    double *gates, double *extra, double *h_next, double *c_next)
{
    if (self->kind == RECURRENT_RNN)
        rnn_cell(self, d, h, sums, gates, h_next);
    else if (self->kind == RECURRENT_LSTM)
        lstm_cell(self, d, h, c, sums, gates, h_next, c_next);
    else
        gru_cell(self, d, h, sums, gates, extra, h_next);
}

/* dh of the state before comes from R alone. */
static void rnn_back(const recurrent *self, size_t d, const recurrent_trace *trace, size_t s,
                     double *dh, double *input_sums, double *recurrent_sums)
{
    const size_t width = self->width;
    for (size_t k = 0; k < width; k++)
        input_sums[k] = recurrent_sums[k] =
            dh[k] * recurrent_slope(self, &self->functions[d][0], trace->sums[s * width + k],
                                    trace->gates[s * width + k]);
    memset(dh, 0, width * sizeof *dh);
    add_transposed(self->r + d * width * width, width, width, recurrent_sums, dh);
}

static void lstm_back(const recurrent *self, size_t d, const recurrent_trace *trace, size_t s,
                      double *dh, double *dc, double *input_sums, double *recurrent_sums,
                      const recurrent_gradients *to)
{
    const size_t width = self->width;
    const gate_function *f = self->functions[d];
    const double *p = self->p ? self->p + d * 3 * width : NULL;
    const double *sums = trace->sums + s * 4 * width, *gates = trace->gates + s * 4 * width;
    const double *before = trace->c + s * width, *after = before + width;
    double *dp = to->p ? to->p + d * 3 * width : NULL;
    for (size_t k = 0; k < width; k++) {
        const double i = gates[k], o = gates[width + k], forget = gates[2 * width + k],
                     g = gates[3 * width + k], bent = recurrent_value(self, &f[2], after[k]);
        const double d_o = dh[k] * bent * recurrent_slope(self, &f[0], sums[width + k], o);
        double d_c = dc[k] + dh[k] * o * recurrent_slope(self, &f[2], after[k], bent);
        if (p)
            d_c += p[width + k] * d_o;
        double d_forget = d_c * before[k], d_i = d_c * g;
        if (self->input_forget) {
            d_i -= d_forget;
            d_forget = 0;
        }
        d_i *= recurrent_slope(self, &f[0], sums[k], i);
        d_forget *= recurrent_slope(self, &f[0], sums[2 * width + k], forget);
        input_sums[k] = d_i;
        input_sums[width + k] = d_o;
        input_sums[2 * width + k] = d_forget;
        input_sums[3 * width + k] = d_c * i * recurrent_slope(self, &f[1], sums[3 * width + k], g);
        dc[k] = d_c * forget;
        if (p)
            dc[k] += p[k] * d_i + p[2 * width + k] * d_forget;
        if (dp) {
            dp[k] += d_i * before[k];
            dp[width + k] += d_o * after[k];
            dp[2 * width + k] += d_forget * before[k];
        }
    }
    memcpy(recurrent_sums, input_sums, 4 * width * sizeof *input_sums);
    memset(dh, 0, width * sizeof *dh);
    add_transposed(self->r + d * 4 * width * width, 4 * width, width, recurrent_sums, dh);
}

/* Not reset_last: the hidden gate's R multiplies r h', so recurrent_sums of that gate belong to
 * that product, which is in trace->extra. */
static void gru_back(const recurrent *self, size_t d, const recurrent_trace *trace, size_t s,
                     double *dh, double *input_sums, double *recurrent_sums)
{
    const size_t width = self->width;
    const gate_function *f = self->functions[d];
    const double *r = self->r + d * 3 * width * width, *rn = r + 2 * width * width;
    const double *sums = trace->sums + s * 3 * width, *gates = trace->gates + s * 3 * width;
    const double *h = trace->h + s * width, *extra = trace->extra + s * width;
    double *d_n = input_sums + 2 * width, *reset = input_sums + width;
    for (size_t k = 0; k < width; k++) {
        const double z = gates[k], n = gates[2 * width + k];
        d_n[k] = dh[k] * (1 - z) * recurrent_slope(self, &f[1], sums[2 * width + k], n);
        input_sums[k] = dh[k] * (h[k] - n) * recurrent_slope(self, &f[0], sums[k], z);
        dh[k] *= z;
        recurrent_sums[2 * width + k] = self->reset_last ? d_n[k] * gates[width + k] : d_n[k];
        reset[k] = 0;
    }
    if (self->reset_last) {
        for (size_t k = 0; k < width; k++)
            reset[k] = d_n[k] * extra[k];
        add_transposed(rn, width, width, recurrent_sums + 2 * width, dh);
    } else {
        add_transposed(rn, width, width, d_n, reset); /* of r h' */
        for (size_t k = 0; k < width; k++) {
            dh[k] += reset[k] * gates[width + k];
            reset[k] *= h[k];
        }
    }
    for (size_t k = 0; k < width; k++)
        reset[k] *= recurrent_slope(self, &f[0], sums[width + k], gates[width + k]);
    memcpy(recurrent_sums, input_sums, 2 * width * sizeof *input_sums);
    add_transposed(r, 2 * width, width, recurrent_sums, dh);
}

void recurrent_cell_back(const recurrent *self, size_t d, const recurrent_trace *trace, size_t s,
                         double *dh, double *dc, double *input_sums, double *recurrent_sums,
                         recurrent_gradients *to)
{
    const size_t width = self->width, gates = self->gates;
    if (self->kind == RECURRENT_RNN)
        rnn_back(self, d, trace, s, dh, input_sums, recurrent_sums);
    else if (self->kind == RECURRENT_LSTM)
        lstm_back(self, d, trace, s, dh, dc, input_sums, recurrent_sums, to);
    else
        gru_back(self, d, trace, s, dh, input_sums, recurrent_sums);
    const size_t per_state = self->kind == RECURRENT_GRU && !self->reset_last ? gates - 1 : gates;
    if (to->r) {
        double *dr = to->r + d * gates * width * width;
        add_outer(recurrent_sums, per_state * width, trace->h + s * width, width, dr);
        if (per_state < gates)
            add_outer(recurrent_sums + per_state * width, width, trace->extra + s * width, width,
                      dr + per_state * width * width);
    }
    for (size_t k = 0; to->b && k < gates * width; k++) {
        to->b[d * 2 * gates * width + k] += input_sums[k];
        to->b[(d * 2 + 1) * gates * width + k] += recurrent_sums[k];
    }
}
