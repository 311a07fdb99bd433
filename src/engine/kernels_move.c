/* Elements moved between two plain buffers by strides: transpositions, parts of tensors; and rows times a vector. */
#include "engine/kernels_private.h"

/* Positions of a tile of a transposition: both sides of it stay in the first-level cache. */
#define TILE ((size_t)32)

/* Without axes of one element, and with neighbouring axes joined where both sides step through them evenly. */
static void movement_simplify(const movement *from, movement *out)
{
    movement m = {.source = from->source, .destination = from->destination};
    for (int i = 0; i < from->rank; i++) {
        if (from->dims[i] == 1)
            continue;
        const int last = m.rank - 1;
        if (m.rank > 0 && m.from[last] == from->from[i] * from->dims[i] &&
            m.to[last] == from->to[i] * from->dims[i]) {
            m.dims[last] *= from->dims[i];
            m.from[last] = from->from[i];
            m.to[last] = from->to[i];
            continue;
        }
        m.dims[m.rank] = from->dims[i];
        m.from[m.rank] = from->from[i];
        m.to[m.rank++] = from->to[i];
    }
    if (m.rank == 0) {
        m.rank = 1;
        m.dims[0] = m.from[0] = m.to[0] = 1;
    }
    *out = m;
}

/* One line: n elements. */
KERNEL_LEAF void move_line(const float *x, float *y, size_t n, int64_t from, int64_t to,
                           bool accumulate)
{
    if (accumulate && from == 1 && to == 1)
        for (size_t i = 0; i < n; i++)
            y[i] += x[i];
    else if (accumulate)
        for (size_t i = 0; i < n; i++)
            y[(int64_t)i * to] += x[(int64_t)i * from];
    else if (from == 1 && to == 1)
        memcpy(y, x, n * sizeof *y);
    else
        for (size_t i = 0; i < n; i++)
            y[(int64_t)i * to] = x[(int64_t)i * from];
}

/* rows x columns with y contiguous along columns and x along rows: y[r to + c] (+)= x[r + c from] */
KERNEL_LEAF void transpose_tile(const float *x, float *y, size_t rows, size_t columns, int64_t from,
                                int64_t to, bool accumulate)
{
    for (size_t r = 0; r < rows; r++) {
        float *out = y + (int64_t)r * to;
        const float *in = x + r;
        if (accumulate)
            for (size_t c = 0; c < columns; c++)
                out[c] += in[(int64_t)c * from];
        else
            for (size_t c = 0; c < columns; c++)
                out[c] = in[(int64_t)c * from];
    }
}

/* Offsets of outer position `item`, axes `a` and `b` left out. */
static void outer_offsets(const movement *m, size_t item, int a, int b, int64_t *from, int64_t *to)
{
    *from = m->source;
    *to = m->destination;
    for (int i = m->rank - 1; i >= 0; i--) {
        if (i == a || i == b)
            continue;
        const int64_t at = (int64_t)(item % (size_t)m->dims[i]);
        item /= (size_t)m->dims[i];
        *from += at * m->from[i];
        *to += at * m->to[i];
    }
}

/* `count` lines from line `first`, the axes before the last counted like an odometer. */
static void move_lines(const movement *m, const float *x, float *y, size_t first, size_t count,
                       bool accumulate)
{
    const int inner = m->rank - 1;
    int64_t index[SHAPE_MAX_RANK] = {0}, from, to;
    size_t rest = first;
    outer_offsets(m, first, inner, inner, &from, &to);
    for (int i = inner - 1; i >= 0; i--) {
        index[i] = (int64_t)(rest % (size_t)m->dims[i]);
        rest /= (size_t)m->dims[i];
    }
    for (size_t line = 0; line < count; line++) {
        move_line(x + from, y + to, (size_t)m->dims[inner], m->from[inner], m->to[inner],
                  accumulate);
        for (int i = inner - 1; i >= 0; i--) {
            from += m->from[i];
            to += m->to[i];
            if (++index[i] < m->dims[i])
                break;
            from -= index[i] * m->from[i];
            to -= index[i] * m->to[i];
            index[i] = 0;
        }
    }
}

void kernel_move(const movement *how, const float *x, float *y, bool accumulate, int threads)
{
    movement m = {0};
    movement_simplify(how, &m);
    const int inner = m.rank - 1;
    size_t count = (size_t)m.dims[inner], outer = 1;
    int across = -1; /* the axis along which x is contiguous, when it is not y's */
    for (int i = 0; i < inner; i++) {
        count *= (size_t)m.dims[i];
        if (m.from[i] == 1)
            across = i;
    }
    if (count == 0)
        return;
    if (m.to[inner] != 1 || m.from[inner] == 1)
        across = -1;
    for (int i = 0; i < inner; i++)
        outer *= i == across ? 1 : (size_t)m.dims[i];
    const int team = kernel_threads(threads, count);
    if (across < 0) {
        const size_t lines = kernel_pieces(KERNEL_PIECE, (size_t)m.dims[inner]),
                     pieces = kernel_pieces(outer, lines);
        KERNEL_PARALLEL(team)
        for (size_t piece = 0; piece < pieces; piece++) {
            const size_t first = piece * lines;
            move_lines(&m, x, y, first, kernel_minimum(outer - first, lines), accumulate);
        }
        return;
    }
    const size_t rows = (size_t)m.dims[across], columns = (size_t)m.dims[inner];
    const size_t down = kernel_pieces(rows, TILE), along = kernel_pieces(columns, TILE);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < outer * down * along; item++) {
        int64_t from, to;
        outer_offsets(&m, item / (down * along), across, inner, &from, &to);
        const size_t r = item / along % down * TILE, c = item % along * TILE;
        transpose_tile(x + from + (int64_t)r + (int64_t)c * m.from[inner],
                       y + to + (int64_t)r * m.to[across] + (int64_t)c,
                       kernel_minimum(rows - r, TILE), kernel_minimum(columns - c, TILE),
                       m.from[inner], m.to[across], accumulate);
    }
}

KERNEL_LEAF void affine_row(const float *x, const float *scale, const float *shift, float *y,
                            size_t n, bool accumulate)
{
    if (accumulate)
        for (size_t i = 0; i < n; i++)
            y[i] += x[i] * scale[i];
    else if (scale && shift)
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] * scale[i] + shift[i];
    else if (scale)
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] * scale[i];
    else
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] + shift[i];
}

void kernel_affine_rows(const float *x, const float *scale, const float *shift, float *y,
                        size_t rows, size_t width, bool accumulate, int threads)
{
    const int team = kernel_threads(threads, rows * width);
    KERNEL_PARALLEL(team)
    for (size_t r = 0; r < rows; r++)
        affine_row(x + r * width, scale, shift, y + r * width, width, accumulate);
}

/* A line whose constant has one value, or one for each element (step 1). */
KERNEL_LEAF void broadcast_line(const float *x, const float *constant, float *y, size_t n,
                                bool repeated, bool scales, bool accumulate)
{
    const float c = *constant;
    if (!repeated && !scales)
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] + constant[i];
    else if (!scales)
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] + c;
    else if (!repeated)
        for (size_t i = 0; i < n; i++)
            y[i] = accumulate ? y[i] + x[i] * constant[i] : x[i] * constant[i];
    else
        for (size_t i = 0; i < n; i++)
            y[i] = accumulate ? y[i] + x[i] * c : x[i] * c;
}

void kernel_affine_broadcast(const movement *how, const float *x, const float *scale,
                             const float *shift, float *y, bool accumulate, int threads)
{
    movement m = {0};
    movement_simplify(how, &m);
    const int inner = m.rank - 1;
    const size_t width = (size_t)m.dims[inner];
    size_t lines = 1;
    for (int i = 0; i < inner; i++)
        lines *= (size_t)m.dims[i];
    const int team = kernel_threads(threads, lines * width);
    const size_t some = kernel_pieces(KERNEL_PIECE, width), pieces = kernel_pieces(lines, some);
    KERNEL_PARALLEL(team)
    for (size_t piece = 0; piece < pieces; piece++) {
        const size_t end = kernel_minimum(lines, (piece + 1) * some);
        for (size_t line = piece * some; line < end; line++) {
            int64_t from, to;
            outer_offsets(&m, line, inner, inner, &from, &to);
            broadcast_line(x + line * width, (scale ? scale : shift) + from, y + line * width,
                           width, m.from[inner] == 0, scale != NULL, accumulate);
        }
    }
}
