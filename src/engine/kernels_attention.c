/* Attention in blocks of rows. */
#include "engine/kernels_attention.h"

#include <math.h>

#include "engine/kernels_math.h"

/* Rows of a block: 6 x 2 vectors of sums leave registers for the factors. */
#define BLOCK ((size_t)6)
/* Columns of a packed panel. */
#define PANEL (2 * LANES)
/* Terms of one float partial sum before it goes into a double. */
#define SPAN ((size_t)512)

bool attention_worthwhile(void)
{
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__gnu_linux__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false; /* no clones for the instruction sets */
#endif
}

static size_t padded(size_t n)
{
    return kernel_pieces(n, PANEL) * PANEL;
}

/* Two packed operands, of queries or of keys, and the scores of a block. */
static size_t thread_floats(const attention *a)
{
    const size_t keys = padded(a->keys), longest = a->queries > keys ? a->queries : keys;
    return longest * (padded(a->depth) + padded(a->width)) + BLOCK * keys;
}

size_t attention_scratch_bytes(const attention *self, int threads)
{
    return (size_t)threads * thread_floats(self) * sizeof(float);
}

int64_t matrices_start(const matrices *self, size_t item)
{
    int64_t at = self->start;
    for (int i = self->rank - 1; i >= 0; i--) {
        at += (int64_t)(item % (size_t)self->dims[i]) * self->steps[i];
        item /= (size_t)self->dims[i];
    }
    return at;
}

/* ---- packing: (depth, columns) -> panels (ceil(columns / PANEL), depth, PANEL), zeros behind the last column ---- */

#if defined(__GNUC__) && !defined(__clang__)
#define KERNEL_UNROLL KERNEL_PRAGMA(GCC unroll 16)
#define PICK(a, b, ...) __builtin_shuffle(a, b, (lane_ints){__VA_ARGS__})

/* Eight vectors in `r`, each LANES long: element j of vector i goes to out[j * PANEL + i]. */
KERNEL_INLINE void transpose_lanes(const lanes r[LANES], float *out)
{
    lanes t[LANES], u[LANES];
    KERNEL_UNROLL
    for (size_t i = 0; i < LANES; i += 2) {
        t[i] = PICK(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        t[i + 1] = PICK(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    KERNEL_UNROLL
    for (size_t i = 0; i < LANES; i += 4)
        for (size_t j = 0; j < 2; j++) {
            u[i + 2 * j] = PICK(t[i + j], t[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            u[i + 2 * j + 1] = PICK(t[i + j], t[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    KERNEL_UNROLL
    for (size_t i = 0; i < LANES / 2; i++) {
        LANES_AT(out + i * PANEL) = PICK(u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        LANES_AT(out + (i + 4) * PANEL) = PICK(u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}
#else
#define KERNEL_UNROLL
KERNEL_INLINE void transpose_lanes(const lanes r[LANES], float *out)
{
    for (size_t i = 0; i < LANES; i++)
        for (size_t j = 0; j < LANES; j++)
            out[j * PANEL + i] = r[i][j];
}
#endif

/* One panel whose columns are contiguous in memory, `column` apart. */
KERNEL_LEAF void pack_columns(const float *x, int64_t column, size_t depth, size_t count,
                              float *out)
{
    const size_t whole = depth / LANES * LANES;
    for (size_t j = 0; j < PANEL; j += LANES)
        for (size_t k = 0; k < whole; k += LANES) {
            lanes r[LANES];
            KERNEL_UNROLL
            for (size_t i = 0; i < LANES; i++)
                r[i] = j + i < count ? LANES_OF(x + (int64_t)(j + i) * column + (int64_t)k)
                                     : (lanes){0};
            transpose_lanes(r, out + k * PANEL + j);
        }
    for (size_t k = whole; k < depth; k++)
        for (size_t j = 0; j < PANEL; j++)
            out[k * PANEL + j] = j < count ? x[(int64_t)j * column + (int64_t)k] : 0;
}

/* One panel of any strides. */
KERNEL_LEAF void pack_rows(const float *x, int64_t row, int64_t column, size_t depth, size_t count,
                           float *out)
{
    if (column == 1 && count == PANEL) {
        for (size_t k = 0; k < depth; k++) {
            LANES_AT(out + k * PANEL) = LANES_OF(x + (int64_t)k * row);
            LANES_AT(out + k * PANEL + LANES) = LANES_OF(x + (int64_t)k * row + LANES);
        }
        return;
    }
    if (count < PANEL)
        memset(out, 0, depth * PANEL * sizeof *out);
    for (size_t k = 0; k < depth; k++)
        for (size_t j = 0; j < count; j++)
            out[k * PANEL + j] = x[(int64_t)k * row + (int64_t)j * column];
}

static void pack(const float *x, int64_t row, int64_t column, size_t depth, size_t columns,
                 float *out)
{
    for (size_t j = 0; j < columns; j += PANEL) {
        const float *from = x + (int64_t)j * column;
        const size_t count = kernel_minimum(columns - j, PANEL);
        if (row == 1)
            pack_columns(from, column, depth, count, out + j * depth);
        else
            pack_rows(from, row, column, depth, count, out + j * depth);
    }
}

/* ---- products: c (rows, vectors LANES) = a (rows, depth) . one panel ---- */

/* `rows` and `vectors` are constants where it is inlined. */
KERNEL_INLINE void multiply(size_t rows, size_t vectors, const float *a, int64_t row, int64_t step,
                            const float *panel, size_t depth, float *c, size_t stride)
{
    lanes sums[BLOCK][2];
    for (size_t r = 0; r < rows; r++)
        sums[r][0] = sums[r][1] = (lanes){0};
    for (size_t k = 0; k < depth; k++, panel += PANEL, a += step) {
        const lanes b0 = LANES_OF(panel);
        const lanes b1 = vectors > 1 ? LANES_OF(panel + LANES) : (lanes){0};
        KERNEL_UNROLL
        for (size_t r = 0; r < rows; r++) {
            const float one = a[(int64_t)r * row];
            sums[r][0] += b0 * one;
            if (vectors > 1)
                sums[r][1] += b1 * one;
        }
    }
    for (size_t r = 0; r < rows; r++) {
        LANES_AT(c + r * stride) = sums[r][0];
        if (vectors > 1)
            LANES_AT(c + r * stride + LANES) = sums[r][1];
    }
}

#define MULTIPLY(n)                                                \
    case n:                                                        \
        if (whole)                                                 \
            multiply(n, 2, a, row, step, panel, depth, c, stride); \
        else                                                       \
            multiply(n, 1, a, row, step, panel, depth, c, stride); \
        break;
KERNEL_LEAF void multiply_block(size_t rows, bool whole, const float *a, int64_t row, int64_t step,
                                const float *panel, size_t depth, float *c, size_t stride)
{
    switch (rows) {
        MULTIPLY(1)
        MULTIPLY(2)
        MULTIPLY(3)
        MULTIPLY(4)
        MULTIPLY(5)
        MULTIPLY(6)
    default:
        break;
    }
}

/* c (rows, padded columns) = a . packed; of the last panel a half that is all padding stays as it was. */
static void multiply_rows(size_t rows, const float *a, int64_t row, int64_t step,
                          const float *packed, size_t depth, size_t columns, float *c,
                          size_t stride)
{
    for (size_t j = 0; j < columns; j += PANEL)
        multiply_block(rows, columns - j > LANES, a, row, step, packed + j * depth, depth, c + j,
                       stride);
}

/* y (+)= a . packed, along y's own strides. */
static void multiply_into(size_t rows, const float *a, int64_t row, int64_t step,
                          const float *packed, size_t depth, size_t columns, float *y,
                          int64_t y_row, int64_t y_column, bool accumulate)
{
    float tile[BLOCK * PANEL];
    for (size_t j = 0; j < columns; j += PANEL) {
        const size_t count = kernel_minimum(columns - j, PANEL);
        if (!accumulate && y_column == 1 && count == PANEL) {
            multiply_block(rows, true, a, row, step, packed + j * depth, depth, y + j,
                           (size_t)y_row);
            continue;
        }
        multiply_block(rows, count > LANES, a, row, step, packed + j * depth, depth, tile, PANEL);
        for (size_t r = 0; r < rows; r++) {
            float *out = y + (int64_t)r * y_row + (int64_t)j * y_column;
            const float *in = tile + r * PANEL;
            for (size_t i = 0; i < count; i++) {
                float *to = out + (int64_t)i * y_column;
                *to = accumulate ? *to + in[i] : in[i];
            }
        }
    }
}

/* ---- rows of scores ---- */

KERNEL_LEAF void add_mask(float *x, const float *mask, float scale, size_t n)
{
    KERNEL_SIMD
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] * scale + mask[i];
}

/* x, of `whole` (a multiple of PANEL) elements, is the first n of softmax(scale x); the rest is padding and ends as next to nothing.
 * A NaN is no maximum, but makes the sum NaN and so the row. */
KERNEL_LEAF void weigh_row(float *x, float scale, size_t n, size_t whole)
{
    lanes low = (lanes){0} - INFINITY, high = low;
    float top = -INFINITY;
    double total = 0;
    for (size_t i = n; i < whole; i++)
        x[i] = scale < 0 ? INFINITY : -INFINITY;
    for (size_t i = 0; i < whole; i += PANEL) {
        const lanes a = LANES_OF(x + i) * scale, b = LANES_OF(x + i + LANES) * scale;
        LANES_AT(x + i) = a;
        LANES_AT(x + i + LANES) = b;
        low = LANES_SELECT(a > low, a, low);
        high = LANES_SELECT(b > high, b, high);
    }
    low = LANES_SELECT(high > low, high, low);
    for (size_t j = 0; j < LANES; j++)
        top = low[j] > top ? low[j] : top;
    for (size_t begin = 0; begin < whole; begin += SPAN) {
        const size_t end = kernel_minimum(whole, begin + SPAN);
        float sum = 0;
        KERNEL_SIMD_SUM(sum)
        for (size_t i = begin; i < end; i++) {
            const float e = math_exp(x[i] - top);
            x[i] = e;
            sum += e;
        }
        total += (double)sum;
    }
    const float factor = (float)(1.0 / total);
    KERNEL_SIMD
    for (size_t i = 0; i < whole; i++)
        x[i] *= factor;
}

/* g: gradient of the weights w -> that of the scores, w (g - <g, w>) scale. */
KERNEL_LEAF void slope_row(const float *w, float *g, float scale, size_t n)
{
    double total = 0;
    for (size_t begin = 0; begin < n; begin += SPAN) {
        const size_t end = kernel_minimum(n, begin + SPAN);
        float sum = 0;
        KERNEL_SIMD_SUM(sum)
        for (size_t i = begin; i < end; i++)
            sum += w[i] * g[i];
        total += (double)sum;
    }
    const float inner = (float)total;
    KERNEL_SIMD
    for (size_t i = 0; i < n; i++)
        g[i] = w[i] * (g[i] - inner) * scale;
}

/* ---- drivers ---- */

/* What a thread works on: blocks [begin, end) of all items' blocks. */
typedef struct share {
    const attention *of;
    size_t begin, end, blocks; /* blocks of an item */
    float *packed, *scores;
} share;

typedef struct forward_call {
    const float *q, *k, *v, *const *masks;
    float *weights, *y;
} forward_call;

static void forward_block(const share *s, const forward_call *c, size_t item, size_t first,
                          size_t rows)
{
    const attention *a = s->of;
    const size_t whole = padded(a->keys);
    const float *packed_v = s->packed + whole * a->depth;
    multiply_rows(rows, c->q + matrices_start(&a->q, item) + (int64_t)first * a->q.row, a->q.row,
                  a->q.column, s->packed, a->depth, a->keys, s->scores, whole);
    for (size_t r = 0; r < rows; r++) {
        float *row = s->scores + r * whole;
        for (int i = 0; i < a->mask_count; i++)
            add_mask(row,
                     c->masks[i] + matrices_start(&a->masks[i], item) +
                         (int64_t)(first + r) * a->masks[i].row,
                     i == 0 ? a->scale : 1, a->keys);
        weigh_row(row, a->mask_count > 0 ? 1 : a->scale, a->keys, whole);
        if (c->weights != NULL)
            memcpy(c->weights + (item * a->queries + first + r) * a->keys, row,
                   a->keys * sizeof *row);
    }
    multiply_into(rows, s->scores, (int64_t)whole, 1, packed_v, a->keys, a->width,
                  c->y + matrices_start(&a->y, item) + (int64_t)first * a->y.row, a->y.row,
                  a->y.column, false);
}

static void forward_share(const share *s, const forward_call *c)
{
    const attention *a = s->of;
    for (size_t i = s->begin; i < s->end; i++) {
        const size_t item = i / s->blocks, first = i % s->blocks * BLOCK;
        if (i == s->begin || first == 0) {
            pack(c->k + matrices_start(&a->k, item), a->k.column, a->k.row, a->depth, a->keys,
                 s->packed);
            pack(c->v + matrices_start(&a->v, item), a->v.row, a->v.column, a->keys, a->width,
                 s->packed + padded(a->keys) * a->depth);
        }
        forward_block(s, c, item, first, kernel_minimum(a->queries - first, BLOCK));
    }
}

/* The share of thread `part` of `parts`. */
static share share_of(const attention *a, size_t rows, size_t part, size_t parts, void *scratch)
{
    const size_t blocks = kernel_pieces(rows, BLOCK), all = blocks * a->items,
                 floats = thread_floats(a);
    float *own = (float *)scratch + part * floats;
    return (share){a,
                   all * part / parts,
                   all * (part + 1) / parts,
                   blocks,
                   own,
                   own + floats - BLOCK * padded(a->keys)};
}

static int team_of(const attention *a, int threads)
{
    return kernel_threads(threads, a->items * a->queries * a->keys);
}

void kernel_attention(const attention *self, const float *q, const float *k, const float *v,
                      const float *const masks[ATTENTION_MASKS], float *weights, float *y,
                      void *scratch, int threads)
{
    const forward_call call = {q, k, v, masks, weights, y};
    const int team = team_of(self, threads);
    KERNEL_PARALLEL(team)
    for (int part = 0; part < team; part++) {
        const share own = share_of(self, self->queries, (size_t)part, (size_t)team, scratch);
        forward_share(&own, &call);
    }
}

typedef struct queries_call {
    const float *k, *v, *weights, *gy;
    float *slopes;
    attention_gradient gq;
} queries_call;

static void queries_share(const share *s, const queries_call *c)
{
    const attention *a = s->of;
    const size_t whole = padded(a->keys);
    float *packed_k = s->packed + whole * a->width;
    for (size_t i = s->begin; i < s->end; i++) {
        const size_t item = i / s->blocks, first = i % s->blocks * BLOCK,
                     rows = kernel_minimum(a->queries - first, BLOCK);
        if (i == s->begin || first == 0) {
            pack(c->v + matrices_start(&a->v, item), a->v.column, a->v.row, a->width, a->keys,
                 s->packed);
            if (c->gq.to != NULL)
                pack(c->k + matrices_start(&a->k, item), a->k.row, a->k.column, a->keys, a->depth,
                     packed_k);
        }
        multiply_rows(rows, c->gy + matrices_start(&a->y, item) + (int64_t)first * a->y.row,
                      a->y.row, a->y.column, s->packed, a->width, a->keys, s->scores, whole);
        for (size_t r = 0; r < rows; r++) {
            const size_t at = (item * a->queries + first + r) * a->keys;
            slope_row(c->weights + at, s->scores + r * whole, a->scale, a->keys);
            memcpy(c->slopes + at, s->scores + r * whole, a->keys * sizeof *c->slopes);
        }
        if (c->gq.to != NULL)
            multiply_into(rows, s->scores, (int64_t)whole, 1, packed_k, a->keys, a->depth,
                          c->gq.to + matrices_start(&a->q, item) + (int64_t)first * a->q.row,
                          a->q.row, a->q.column, c->gq.accumulate);
    }
}

void kernel_attention_backward_queries(const attention *self, const float *k, const float *v,
                                       const float *weights, const float *gy, float *slopes,
                                       attention_gradient gq, void *scratch, int threads)
{
    const queries_call call = {k, v, weights, gy, slopes, gq};
    const int team = team_of(self, threads);
    KERNEL_PARALLEL(team)
    for (int part = 0; part < team; part++) {
        const share own = share_of(self, self->queries, (size_t)part, (size_t)team, scratch);
        queries_share(&own, &call);
    }
}

typedef struct keys_call {
    const float *q, *weights, *slopes, *gy;
    attention_gradient gk, gv;
} keys_call;

/* Blocks are of keys here, and sums run over the queries. */
static void keys_share(const share *s, const keys_call *c)
{
    const attention *a = s->of;
    float *packed_gy = s->packed + a->queries * padded(a->depth);
    for (size_t i = s->begin; i < s->end; i++) {
        const size_t item = i / s->blocks, first = i % s->blocks * BLOCK,
                     rows = kernel_minimum(a->keys - first, BLOCK),
                     at = item * a->queries * a->keys + first;
        if (i == s->begin || first == 0) {
            if (c->gk.to != NULL)
                pack(c->q + matrices_start(&a->q, item), a->q.row, a->q.column, a->queries,
                     a->depth, s->packed);
            if (c->gv.to != NULL)
                pack(c->gy + matrices_start(&a->y, item), a->y.row, a->y.column, a->queries,
                     a->width, packed_gy);
        }
        if (c->gk.to != NULL)
            multiply_into(rows, c->slopes + at, 1, (int64_t)a->keys, s->packed, a->queries,
                          a->depth,
                          c->gk.to + matrices_start(&a->k, item) + (int64_t)first * a->k.row,
                          a->k.row, a->k.column, c->gk.accumulate);
        if (c->gv.to != NULL)
            multiply_into(rows, c->weights + at, 1, (int64_t)a->keys, packed_gy, a->queries,
                          a->width,
                          c->gv.to + matrices_start(&a->v, item) + (int64_t)first * a->v.row,
                          a->v.row, a->v.column, c->gv.accumulate);
    }
}

void kernel_attention_backward_keys(const attention *self, const float *q, const float *weights,
                                    const float *slopes, const float *gy, attention_gradient gk,
                                    attention_gradient gv, void *scratch, int threads)
{
    const keys_call call = {q, weights, slopes, gy, gk, gv};
    const int team = team_of(self, threads);
    KERNEL_PARALLEL(team)
    for (int part = 0; part < team; part++) {
        const share own = share_of(self, self->keys, (size_t)part, (size_t)team, scratch);
        keys_share(&own, &call);
    }
}
