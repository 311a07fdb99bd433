/* RNN, GRU and LSTM of one row: the part of the steps that cannot be one matrix product over all of them.
 *
 * Forward, hidden units go in blocks of 16 with all their gates: R h is summed in registers over the state before, whose weights
 * lie in the order in which they are read, then the gates follow without leaving the block. Backward, the gates' gradients of a
 * step are found first, then R' times them in blocks of 32 units. Sums run over the state in order: the same bits for any number
 * of threads. */
#include "engine/kernels_recurrent.h"
#include "engine/kernels_math.h"

#define UNITS ((size_t)16)
#define BACK_UNITS ((size_t)32)
/* Products of a step below which threads cost more than they bring. */
#define STEP_PARALLEL ((size_t)1 << 19)

/* --- weights --- */

size_t kernel_recurrent_packed(size_t gates, size_t width)
{
    return kernel_pieces(width, UNITS) * UNITS * gates * width;
}

void kernel_recurrent_pack(const float *r, float *packed, size_t gates, size_t width)
{
    for (size_t begin = 0; begin < width; begin += UNITS)
        for (size_t k = 0; k < width; k++)
            for (size_t g = 0; g < gates; g++)
                for (size_t j = 0; j < UNITS; j++)
                    *packed++ = begin + j < width ? r[(g * width + begin + j) * width + k] : 0;
}

size_t kernel_recurrent_packed_back(size_t gates, size_t width)
{
    return kernel_pieces(width, BACK_UNITS) * BACK_UNITS * gates * width;
}

void kernel_recurrent_pack_back(const float *r, float *packed, size_t gates, size_t width)
{
    for (size_t begin = 0; begin < width; begin += BACK_UNITS)
        for (size_t i = 0; i < gates * width; i++)
            for (size_t j = 0; j < BACK_UNITS; j++)
                *packed++ = begin + j < width ? r[i * width + begin + j] : 0;
}

/* --- forward --- */

/* sums (gates, UNITS) += R h for the units of a block. */
KERNEL_INLINE void add_state(const float *packed, const float *h, size_t width, size_t gates,
                             float *sums)
{
    lanes sum[8];
    for (size_t i = 0; i < 2 * gates; i++)
        sum[i] = LANES_OF(sums + i * LANES);
    for (size_t k = 0; k < width; k++, packed += gates * UNITS)
        for (size_t i = 0; i < 2 * gates; i++)
            sum[i] += LANES_OF(packed + i * LANES) * h[k];
    for (size_t i = 0; i < 2 * gates; i++)
        LANES_AT(sums + i * LANES) = sum[i];
}

KERNEL_INLINE void load_units(const float *from, size_t count, float *to)
{
    for (size_t j = 0; j < UNITS; j++)
        to[j] = from != NULL && j < count ? from[j] : 0;
}

KERNEL_INLINE void store_units(const float *from, size_t count, float *to)
{
    for (size_t j = 0; j < count; j++)
        to[j] = from[j];
}

/* `in` (gates, width): what the inputs give; h, c: the states before, or NULL for zeros; out (fields, width): the trace. */
KERNEL_LEAF void rnn_block(const float *packed, const float *h, const float *in, float *out,
                           size_t width, size_t begin)
{
    const size_t count = kernel_minimum(UNITS, width - begin);
    float sums[UNITS];
    load_units(in + begin, count, sums);
    if (h != NULL)
        add_state(packed, h, width, 1, sums);
    KERNEL_SIMD
    for (size_t j = 0; j < UNITS; j++)
        sums[j] = math_tanh(sums[j]);
    store_units(sums, count, out + begin);
}

KERNEL_LEAF void gru_block(const float *packed, const float *h, const float *in, const float *bias,
                           float *out, size_t width, size_t begin)
{
    const size_t count = kernel_minimum(UNITS, width - begin);
    float sums[3 * UNITS], before[UNITS], n[UNITS];
    float *z = sums, *r = sums + UNITS, *extra = sums + 2 * UNITS;
    load_units(in + begin, count, z);
    load_units(in + width + begin, count, r);
    load_units(bias != NULL ? bias + begin : NULL, count, extra);
    load_units(h != NULL ? h + begin : NULL, count, before);
    load_units(in + 2 * width + begin, count, n);
    if (h != NULL)
        add_state(packed, h, width, 3, sums);
    KERNEL_SIMD
    for (size_t j = 0; j < UNITS; j++) {
        z[j] = math_sigmoid(z[j]);
        r[j] = math_sigmoid(r[j]);
        n[j] = math_tanh(n[j] + r[j] * extra[j]);
        before[j] = (1 - z[j]) * n[j] + z[j] * before[j];
    }
    const float *const fields[] = {z, r, n, extra, before};
    for (size_t i = 0; i < 5; i++)
        store_units(fields[i], count, out + i * width + begin);
}

KERNEL_LEAF void lstm_block(const float *packed, const float *h, const float *c, const float *in,
                            float *out, size_t width, size_t begin)
{
    const size_t count = kernel_minimum(UNITS, width - begin);
    float sums[4 * UNITS], state[UNITS], bent[UNITS], next[UNITS];
    float *i = sums, *o = sums + UNITS, *forget = sums + 2 * UNITS, *g = sums + 3 * UNITS;
    for (size_t k = 0; k < 4; k++)
        load_units(in + k * width + begin, count, sums + k * UNITS);
    load_units(c != NULL ? c + begin : NULL, count, state);
    if (h != NULL)
        add_state(packed, h, width, 4, sums);
    KERNEL_SIMD
    for (size_t j = 0; j < UNITS; j++) {
        i[j] = math_sigmoid(i[j]);
        o[j] = math_sigmoid(o[j]);
        forget[j] = math_sigmoid(forget[j]);
        g[j] = math_tanh(g[j]);
        state[j] = forget[j] * state[j] + i[j] * g[j];
        bent[j] = math_tanh(state[j]);
        next[j] = o[j] * bent[j];
    }
    const float *const fields[] = {i, o, forget, g, state, bent, next};
    for (size_t k = 0; k < 7; k++)
        store_units(fields[k], count, out + k * width + begin);
}

size_t kernel_recurrent_fields(size_t gates)
{
    return gates == 4 ? 7 : gates == 3 ? 5 : 1;
}

static bool runs_back(const recurrence *self, size_t d)
{
    return d == 1 || self->backward_first;
}

/* Where the trace holds the step at time t. */
static float *trace_at(const recurrence *self, float *trace, size_t t, size_t d)
{
    return trace + (t * self->directions + d) * kernel_recurrent_fields(self->gates) * self->width;
}

static void one_block(const recurrence *self, const float *packed, const float *h, const float *c,
                      const float *in, const float *bias, float *out, size_t block)
{
    const size_t width = self->width, begin = block * UNITS;
    packed += block * UNITS * self->gates * width;
    if (self->gates == 4)
        lstm_block(packed, h, c, in, out, width, begin);
    else if (self->gates == 3)
        gru_block(packed, h, in, bias, out, width, begin);
    else
        rnn_block(packed, h, in, out, width, begin);
}

static void run_direction(const recurrence *self, const recurrent_state *from, const float *in,
                          float *trace, size_t d, int threads)
{
    const size_t width = self->width, all = self->gates * width,
                 blocks = kernel_pieces(width, UNITS);
    const size_t last = kernel_recurrent_fields(self->gates) - 1;
    const float *packed = from->packed + d * kernel_recurrent_packed(self->gates, width);
    const float *bias = from->bias != NULL ? from->bias + (d * 2 * self->gates + 5) * width : NULL;
    const float *h = from->h0 != NULL ? from->h0 + d * width : NULL,
                *c = from->c0 != NULL ? from->c0 + d * width : NULL;
    const int team = all * width < STEP_PARALLEL ? 1 : kernel_threads(threads, all * width);
    for (size_t s = 0; s < self->steps; s++) {
        const size_t t = runs_back(self, d) ? self->steps - 1 - s : s;
        const float *now = in + (t * self->directions + d) * all;
        float *out = trace_at(self, trace, t, d);
        KERNEL_PARALLEL(team)
        for (size_t block = 0; block < blocks; block++)
            one_block(self, packed, h, c, now, bias, out, block);
        h = out + last * width;
        c = out + 4 * width;
    }
}

void kernel_recurrent(const recurrence *self, const recurrent_state *from, const float *in,
                      float *trace, float *y, float *y_h, float *y_c, int threads)
{
    const size_t width = self->width, last = kernel_recurrent_fields(self->gates) - 1;
    const int team = self->directions < 2
                         ? 1
                         : kernel_threads(threads, self->steps * self->gates * width * width / 4);
    KERNEL_PARALLEL(team)
    for (size_t d = 0; d < self->directions; d++)
        run_direction(self, from, in, trace, d, team > 1 ? 1 : threads);
    for (size_t t = 0; y != NULL && t < self->steps; t++)
        for (size_t d = 0; d < self->directions; d++)
            memcpy(y + (t * self->directions + d) * width,
                   trace_at(self, trace, t, d) + last * width, width * sizeof *y);
    for (size_t d = 0; d < self->directions; d++) {
        const float *end = trace_at(self, trace, runs_back(self, d) ? 0 : self->steps - 1, d);
        if (y_h != NULL)
            memcpy(y_h + d * width, end + last * width, width * sizeof *y_h);
        if (y_c != NULL)
            memcpy(y_c + d * width, end + 4 * width, width * sizeof *y_c);
    }
}

/* --- backward --- */

/* Gradients of a step's sums, for the inputs (ds) and for the products with the state (rs; LSTM, RNN: the same). dh, dc: of its
 * results on entry; dc and what goes straight to the state before (dh) on return. */
KERNEL_LEAF void rnn_slopes(const float *out, const float *dh, float *ds, size_t width)
{
    KERNEL_SIMD
    for (size_t k = 0; k < width; k++)
        ds[k] = dh[k] * (1 - out[k] * out[k]);
}

KERNEL_LEAF void gru_slopes(const float *out, const float *h, float *dh, float *ds, float *rs,
                            size_t width)
{
    const float *z = out, *r = out + width, *n = out + 2 * width, *extra = out + 3 * width;
    for (size_t k = 0; k < width; k++) {
        const float before = h != NULL ? h[k] : 0;
        const float dn = dh[k] * (1 - z[k]) * (1 - n[k] * n[k]);
        ds[k] = rs[k] = dh[k] * (before - n[k]) * z[k] * (1 - z[k]);
        ds[width + k] = rs[width + k] = dn * extra[k] * r[k] * (1 - r[k]);
        ds[2 * width + k] = dn;
        rs[2 * width + k] = dn * r[k];
        dh[k] *= z[k];
    }
}

KERNEL_LEAF void lstm_slopes(const float *out, const float *c, const float *dh, float *dc,
                             float *ds, size_t width)
{
    const float *i = out, *o = out + width, *forget = out + 2 * width, *g = out + 3 * width,
                *bent = out + 5 * width;
    for (size_t k = 0; k < width; k++) {
        const float before = c != NULL ? c[k] : 0;
        const float d = dc[k] + dh[k] * o[k] * (1 - bent[k] * bent[k]);
        ds[k] = d * g[k] * i[k] * (1 - i[k]);
        ds[width + k] = dh[k] * bent[k] * o[k] * (1 - o[k]);
        ds[2 * width + k] = d * before * forget[k] * (1 - forget[k]);
        ds[3 * width + k] = d * i[k] * (1 - g[k] * g[k]);
        dc[k] = d * forget[k];
    }
}

/* dh (+)= R' rs for the units of a block; two chains of sums, over even and odd rows. */
KERNEL_LEAF void back_block(const float *packed, const float *rs, float *dh, size_t rows,
                            size_t count, bool accumulate)
{
    lanes sum[8] = {{0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}};
    float total[BACK_UNITS];
    size_t row = 0;
    for (; row + 1 < rows; row += 2, packed += 2 * BACK_UNITS)
        for (size_t i = 0; i < 4; i++) {
            sum[i] += LANES_OF(packed + i * LANES) * rs[row];
            sum[4 + i] += LANES_OF(packed + BACK_UNITS + i * LANES) * rs[row + 1];
        }
    for (size_t i = 0; row < rows && i < 4; i++)
        sum[i] += LANES_OF(packed + i * LANES) * rs[row];
    for (size_t i = 0; i < 4; i++)
        LANES_AT(total + i * LANES) = sum[i] + sum[4 + i];
    for (size_t j = 0; j < count; j++)
        dh[j] = accumulate ? dh[j] + total[j] : total[j];
}

static void back_direction(const recurrence *self, const recurrent_state *from, const float *trace,
                           const recurrent_arriving *arriving, float *ds, float *scratch, size_t d,
                           int threads)
{
    const size_t width = self->width, all = self->gates * width,
                 blocks = kernel_pieces(width, BACK_UNITS);
    const size_t last = kernel_recurrent_fields(self->gates) - 1;
    const float *packed = from->packed_back + d * kernel_recurrent_packed_back(self->gates, width);
    float *dh = scratch + d * (2 * width + all), *dc = dh + width, *own = dc + width;
    const int team = all * width < STEP_PARALLEL ? 1 : kernel_threads(threads, all * width);
    for (size_t k = 0; k < width; k++) {
        dh[k] = arriving->h != NULL ? arriving->h[d * width + k] : 0;
        dc[k] = arriving->c != NULL ? arriving->c[d * width + k] : 0;
    }
    for (size_t s = self->steps; s-- > 0;) {
        const size_t t = runs_back(self, d) ? self->steps - 1 - s : s,
                     earlier = runs_back(self, d) ? t + 1 : t - 1;
        const float *out = trace_at(self, (float *)(uintptr_t)trace, t, d);
        const float *before = s > 0 ? trace_at(self, (float *)(uintptr_t)trace, earlier, d) : NULL;
        const float *h = before != NULL     ? before + last * width
                         : from->h0 != NULL ? from->h0 + d * width
                                            : NULL;
        const float *c = before != NULL     ? before + 4 * width
                         : from->c0 != NULL ? from->c0 + d * width
                                            : NULL;
        float *sums = ds + (t * self->directions + d) * all, *rs = sums;
        for (size_t k = 0; arriving->y != NULL && k < width; k++)
            dh[k] += arriving->y[(t * self->directions + d) * width + k];
        if (self->gates == 4)
            lstm_slopes(out, c, dh, dc, sums, width);
        else if (self->gates == 3)
            gru_slopes(out, h, dh, sums, rs = own, width);
        else
            rnn_slopes(out, dh, sums, width);
        KERNEL_PARALLEL(team)
        for (size_t block = 0; block < blocks; block++)
            back_block(packed + block * BACK_UNITS * all, rs, dh + block * BACK_UNITS, all,
                       kernel_minimum(BACK_UNITS, width - block * BACK_UNITS), self->gates == 3);
    }
}

size_t kernel_recurrent_scratch(const recurrence *self)
{
    return self->directions * (2 + self->gates) * self->width;
}

void kernel_recurrent_backward(const recurrence *self, const recurrent_state *from,
                               const float *trace, const recurrent_arriving *arriving, float *ds,
                               float *scratch, int threads)
{
    const int team =
        self->directions < 2
            ? 1
            : kernel_threads(threads, self->steps * self->gates * self->width * self->width / 4);
    KERNEL_PARALLEL(team)
    for (size_t d = 0; d < self->directions; d++)
        back_direction(self, from, trace, arriving, ds, scratch, d, team > 1 ? 1 : threads);
}
