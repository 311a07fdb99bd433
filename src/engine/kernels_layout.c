/* Plain (C, spatial) <-> blocked (C/block, spatial, block), and channel ranges between blocked buffers. */
#include "engine/kernels_private.h"

/* Positions a piece: the block's rows and the plain runs both stay in the first-level cache. */
#define TILE ((size_t)256)

/* blocked[s, lane] = plain[lane, s]; `plain` is the first channel's first position of the tile. */
KERNEL_INLINE void block_tile(const float *plain, size_t stride, size_t valid, float *blocked,
                              size_t n, const int block)
{
    for (int lane = 0; lane < block; lane++) {
        float *out = blocked + lane;
        if ((size_t)lane < valid) {
            const float *in = plain + (size_t)lane * stride;
            for (size_t s = 0; s < n; s++)
                out[s * block] = in[s];
        } else {
            for (size_t s = 0; s < n; s++)
                out[s * block] = 0;
        }
    }
}

KERNEL_INLINE void unblock_tile(const float *blocked, float *plain, size_t stride, size_t valid,
                                size_t n, const int block)
{
    for (size_t lane = 0; lane < valid; lane++) {
        const float *in = blocked + lane;
        float *out = plain + lane * stride;
        for (size_t s = 0; s < n; s++)
            out[s] = in[s * block];
    }
}

KERNEL_LEAF void block_piece(const float *plain, size_t stride, size_t valid, float *blocked,
                             size_t n, int block)
{
    if (block == 8)
        block_tile(plain, stride, valid, blocked, n, 8);
    else
        block_tile(plain, stride, valid, blocked, n, 16);
}

KERNEL_LEAF void unblock_piece(const float *blocked, float *plain, size_t stride, size_t valid,
                               size_t n, int block)
{
    if (block == 8)
        unblock_tile(blocked, plain, stride, valid, n, 8);
    else
        unblock_tile(blocked, plain, stride, valid, n, 16);
}

void kernel_block(const float *plain, float *blocked, size_t channels, size_t spatial, int block,
                  int threads)
{
    const size_t blocks = kernel_pieces(channels, (size_t)block),
                 tiles = kernel_pieces(spatial, TILE);
    const int team = kernel_threads(threads, channels * spatial);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * tiles; item++) {
        const size_t b = item / tiles, begin = item % tiles * TILE, first = b * (size_t)block;
        block_piece(plain + first * spatial + begin, spatial,
                    kernel_minimum(channels - first, (size_t)block),
                    blocked + (b * spatial + begin) * (size_t)block,
                    kernel_minimum(spatial - begin, TILE), block);
    }
}

void kernel_unblock(const float *blocked, float *plain, size_t channels, size_t spatial, int block,
                    int threads)
{
    const size_t blocks = kernel_pieces(channels, (size_t)block),
                 tiles = kernel_pieces(spatial, TILE);
    const int team = kernel_threads(threads, channels * spatial);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * tiles; item++) {
        const size_t b = item / tiles, begin = item % tiles * TILE, first = b * (size_t)block;
        unblock_piece(blocked + (b * spatial + begin) * (size_t)block,
                      plain + first * spatial + begin, spatial,
                      kernel_minimum(channels - first, (size_t)block),
                      kernel_minimum(spatial - begin, TILE), block);
    }
}

/* n groups of `block` floats, `from` and `to` floats apart. */
KERNEL_INLINE void copy_groups_fixed(const float *x, float *y, size_t n, size_t from, size_t to,
                                     const size_t block, bool accumulate)
{
    for (size_t i = 0; i < n; i++)
        for (size_t lane = 0; lane < block; lane++)
            y[i * to + lane] =
                accumulate ? y[i * to + lane] + x[i * from + lane] : x[i * from + lane];
}

KERNEL_LEAF void copy_groups(const float *x, float *y, size_t n, size_t from, size_t to,
                             size_t block, bool accumulate)
{
    if (block == 8)
        copy_groups_fixed(x, y, n, from, to, 8, accumulate);
    else
        copy_groups_fixed(x, y, n, from, to, 16, accumulate);
}

/* Positions a piece: few enough that lines of channels stay in the cache until the last block. */
#define LAST_TILE ((size_t)32)

void kernel_to_channels_last(const float *blocked, float *last, size_t channels, size_t spatial,
                             int block, bool accumulate, int threads)
{
    const size_t b = (size_t)block, tiles = kernel_pieces(spatial, LAST_TILE);
    const int team = kernel_threads(threads, channels * spatial);
    KERNEL_PARALLEL(team)
    for (size_t tile = 0; tile < tiles; tile++) {
        const size_t begin = tile * LAST_TILE, n = kernel_minimum(spatial - begin, LAST_TILE);
        for (size_t c = 0; c < channels; c += b)
            copy_groups(blocked + (c * spatial + begin * b), last + begin * channels + c, n, b,
                        channels, b, accumulate);
    }
}

void kernel_from_channels_last(const float *last, float *blocked, size_t channels, size_t spatial,
                               int block, bool accumulate, int threads)
{
    const size_t b = (size_t)block, tiles = kernel_pieces(spatial, LAST_TILE);
    const int team = kernel_threads(threads, channels * spatial);
    KERNEL_PARALLEL(team)
    for (size_t tile = 0; tile < tiles; tile++) {
        const size_t begin = tile * LAST_TILE, n = kernel_minimum(spatial - begin, LAST_TILE);
        for (size_t c = 0; c < channels; c += b)
            copy_groups(last + begin * channels + c, blocked + (c * spatial + begin * b), n,
                        channels, b, b, accumulate);
    }
}

void kernel_zero_padding(float *block_rows, size_t valid, size_t begin, size_t end, int block)
{
    for (size_t s = begin; s < end; s++)
        memset(block_rows + s * (size_t)block + valid, 0, ((size_t)block - valid) * sizeof(float));
}

/* n rows of `width` lanes, each `block` apart */
KERNEL_INLINE void copy_lanes_fixed(const float *src, float *dst, size_t n, size_t width,
                                    size_t block, bool accumulate)
{
    for (size_t s = 0; s < n; s++)
        for (size_t lane = 0; lane < width; lane++)
            dst[s * block + lane] =
                accumulate ? dst[s * block + lane] + src[s * block + lane] : src[s * block + lane];
}

KERNEL_LEAF void copy_lanes(const float *src, float *dst, size_t n, size_t width, size_t block,
                            bool accumulate)
{
    if (width == block) { /* whole blocks are one run */
        if (!accumulate) {
            memcpy(dst, src, n * block * sizeof *dst);
        } else {
            for (size_t i = 0; i < n * block; i++)
                dst[i] += src[i];
        }
        return;
    }
    switch (width) { /* known trip counts unroll */
    case 1:
        copy_lanes_fixed(src, dst, n, 1, block, accumulate);
        break;
    case 2:
        copy_lanes_fixed(src, dst, n, 2, block, accumulate);
        break;
    case 3:
        copy_lanes_fixed(src, dst, n, 3, block, accumulate);
        break;
    case 4:
        copy_lanes_fixed(src, dst, n, 4, block, accumulate);
        break;
    case 5:
        copy_lanes_fixed(src, dst, n, 5, block, accumulate);
        break;
    case 6:
        copy_lanes_fixed(src, dst, n, 6, block, accumulate);
        break;
    case 7:
        copy_lanes_fixed(src, dst, n, 7, block, accumulate);
        break;
    case 8:
        copy_lanes_fixed(src, dst, n, 8, block, accumulate);
        break;
    default:
        copy_lanes_fixed(src, dst, n, width, block, accumulate);
        break;
    }
}

void kernel_copy_channels(const float *src, size_t from, float *dst, size_t to, size_t count,
                          size_t spatial, int block, bool accumulate, int threads)
{
    if (count == 0)
        return;
    const size_t b = (size_t)block, tiles = kernel_pieces(spatial, TILE);
    const size_t first = to / b, blocks = (to + count - 1) / b - first + 1; /* of dst */
    const int team = kernel_threads(threads, count * spatial);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * tiles; item++) {
        const size_t out_block = first + item / tiles, begin = item % tiles * TILE,
                     n = kernel_minimum(spatial - begin, TILE);
        size_t channel = out_block * b > to ? out_block * b : to;
        const size_t end = kernel_minimum((out_block + 1) * b, to + count);
        while (channel < end) { /* at most two source blocks meet one destination block */
            const size_t source = channel - to + from, lane = channel % b, source_lane = source % b;
            const size_t width = kernel_minimum(end - channel, b - source_lane);
            copy_lanes(src + (source / b * spatial + begin) * b + source_lane,
                       dst + (out_block * spatial + begin) * b + lane, n, width, b, accumulate);
            channel += width;
        }
    }
}
