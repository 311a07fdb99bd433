/* Copies that move whole positions: zeros around a map, and the phases of a strided gradient back into one map. */
#include "engine/kernels_private.h"

KERNEL_LEAF void pad_row(const float *src, float *dst, int64_t in, int64_t out, int64_t begin,
                         size_t unit)
{
    /* dst[o] = src[o - begin] inside [0, in), else 0 */
    const int64_t first = begin < 0 ? 0 : (begin < out ? begin : out);
    const int64_t last = in + begin < first ? first : (in + begin < out ? in + begin : out);
    memset(dst, 0, (size_t)first * unit * sizeof *dst);
    if (last > first)
        memcpy(dst + (size_t)first * unit, src + (size_t)(first - begin) * unit,
               (size_t)(last - first) * unit * sizeof *dst);
    memset(dst + (size_t)last * unit, 0, (size_t)(out - last) * unit * sizeof *dst);
}

void kernel_pad(const float *src, float *dst, size_t planes, const int64_t in[3],
                const int64_t out[3], const int64_t begin[3], size_t unit, int threads)
{
    const size_t rows = (size_t)(out[0] * out[1]),
                 in_plane = (size_t)(in[0] * in[1] * in[2]) * unit;
    const int team = kernel_threads(threads, planes * rows * (size_t)out[2] * unit);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < planes * rows; item++) {
        const int64_t row = (int64_t)(item % rows), d = row / out[1] - begin[0],
                      h = row % out[1] - begin[1];
        float *to = dst + item * (size_t)out[2] * unit;
        if (d < 0 || d >= in[0] || h < 0 || h >= in[1])
            memset(to, 0, (size_t)out[2] * unit * sizeof *to);
        else
            pad_row(src + item / rows * in_plane + (size_t)((d * in[1] + h) * in[2]) * unit, to,
                    in[2], out[2], begin[2], unit);
    }
}

/* out[i s - p + r] = in[i] over the row; both steps in floats, `unit` floats a position. */
KERNEL_LEAF void spread_row(const float *in, float *out, size_t n, size_t in_step, size_t out_step,
                            size_t unit)
{
    if (unit == 1) {
        for (size_t i = 0; i < n; i++)
            out[i * out_step] = in[i * in_step];
    } else {
        for (size_t i = 0; i < n; i++)
            for (size_t lane = 0; lane < unit; lane += LANES)
                LANES_AT(out + i * out_step + lane) = LANES_OF(in + i * in_step + lane);
    }
}

void kernel_interleave(const interleave *g, const float *phases, float *out, size_t channels,
                       bool plain, int block, int threads)
{
    const size_t b = (size_t)block, planes = plain ? channels : kernel_pieces(channels, b),
                 unit = plain ? 1 : b;
    const size_t rows = (size_t)(g->size[0] * g->size[1]), width = (size_t)g->size[2];
    const int team = kernel_threads(threads, planes * rows * width * unit);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < planes * rows; item++) {
        const int64_t row = (int64_t)(item % rows), d = row / g->size[1] + g->pad[0],
                      h = row % g->size[1] + g->pad[1];
        const int64_t rd = d % g->stride[0], rh = h % g->stride[1];
        const int64_t ud = d / g->stride[0] - interleave_first(g, 0, rd),
                      uh = h / g->stride[1] - interleave_first(g, 1, rh);
        const int64_t height = interleave_count(g, 1, rh),
                      area = interleave_count(g, 0, rd) * height;
        float *to = out + item * width * unit;
        for (int64_t r = 0; r < g->stride[2]; r++) {
            /* first column with (column + pad) mod stride = r */
            const int64_t column = ((r - g->pad[2]) % g->stride[2] + g->stride[2]) % g->stride[2];
            if (column >= g->size[2])
                continue;
            const int64_t phase = (rd * g->stride[1] + rh) * g->stride[2] + r;
            const int64_t line = interleave_count(g, 2, r);
            const int64_t u = (column + g->pad[2]) / g->stride[2] - interleave_first(g, 2, r);
            const size_t n = (size_t)((g->size[2] - 1 - column) / g->stride[2] + 1);
            const size_t position = (size_t)((ud * height + uh) * line + u);
            const size_t channel =
                item / rows * unit + (g->split ? 0 : (size_t)(phase * g->phase_channels));
            const float *from = phases + (g->split ? g->offset[phase] : 0) +
                                (channel / b * (size_t)(area * line) + position) * b + channel % b;
            spread_row(from, to + (size_t)column * unit, n, b, (size_t)g->stride[2] * unit, unit);
        }
    }
}
