/* Index arithmetic that many families share: broadcasting, and tensors seen as rows over a set of
 * axes.
 *
 * Both walk a row-major tensor by an odometer over all dimensions but the last, with a strided
 * inner loop. */
#include <stdint.h>
#include <string.h>

#include "ops/support.h"

/* Bytes of a double or an int64; words are copied as bytes, so that either type may be in them. */
#define WORD sizeof(uint64_t)

/* Steps of `inner` in elements when one of `outer`'s indices grows by one: 0 where `inner` is
 * repeated. */
static void repeat_strides(const shape *inner, const shape *outer, size_t strides[SHAPE_MAX_RANK])
{
    const int missing = outer->rank - inner->rank;
    size_t step = 1;
    for (int i = outer->rank - 1; i >= 0; i--) {
        const int64_t dim = i >= missing ? inner->dims[i - missing] : 1;
        strides[i] = dim == 1 ? 0 : step;
        step *= (size_t)dim;
    }
}

/* Next index over dimensions [0, rank - 1) and its offset; false after the last. */
static bool advance(const shape *dims, const size_t *strides, int64_t *index, size_t *offset)
{
    for (int i = dims->rank - 2; i >= 0; i--) {
        *offset += strides[i];
        if (++index[i] < dims->dims[i])
            return true;
        *offset -= strides[i] * (size_t)index[i];
        index[i] = 0;
    }
    return false;
}

void broadcast_expand(const shape *from, const void *in, const shape *to, void *out)
{
    size_t count, strides[SHAPE_MAX_RANK], offset = 0;
    int64_t index[SHAPE_MAX_RANK] = {0};
    if (!shape_count(to, &count) || count == 0)
        return;
    const unsigned char *source = in;
    unsigned char *target = out;
    if (shape_equal(from, to)) {
        memcpy(target, source, count * WORD);
        return;
    }
    repeat_strides(from, to, strides);
    const size_t width = (size_t)to->dims[to->rank - 1], step = strides[to->rank - 1];
    do {
        for (size_t i = 0; i < width; i++)
            memcpy(target + i * WORD, source + (offset + i * step) * WORD, WORD);
        target += width * WORD;
    } while (advance(to, strides, index, &offset));
}

void broadcast_reduce(const shape *from, const double *in, const shape *to, double *out)
{
    size_t count, to_count, strides[SHAPE_MAX_RANK], offset = 0;
    int64_t index[SHAPE_MAX_RANK] = {0};
    if (!shape_count(to, &to_count) || !shape_count(from, &count))
        return;
    memset(out, 0, to_count * sizeof *out);
    if (count == 0)
        return;
    if (from->rank == 0) {
        out[0] = in[0];
        return;
    }
    repeat_strides(to, from, strides);
    const size_t width = (size_t)from->dims[from->rank - 1], step = strides[from->rank - 1];
    do {
        for (size_t i = 0; i < width; i++)
            out[offset + i * step] += in[i];
        in += width;
    } while (advance(from, strides, index, &offset));
}

size_t rows_width(const shape *dims, uint32_t axes)
{
    size_t width = 1;
    for (int i = 0; i < dims->rank; i++)
        if (axes >> i & 1)
            width *= (size_t)dims->dims[i];
    return width;
}

size_t rows_count(const shape *dims, uint32_t axes)
{
    return rows_width(dims, ~axes);
}

/* Steps within the row view when an index of the tensor grows by one. */
static void row_strides(const shape *dims, uint32_t axes, size_t strides[SHAPE_MAX_RANK])
{
    size_t inside = 1, outside = rows_width(dims, axes);
    for (int i = dims->rank - 1; i >= 0; i--) {
        size_t *step = axes >> i & 1 ? &inside : &outside;
        strides[i] = *step;
        *step *= (size_t)dims->dims[i];
    }
}

static void rows_copy(const shape *dims, uint32_t axes, const unsigned char *in, unsigned char *out,
                      bool gather)
{
    size_t count, strides[SHAPE_MAX_RANK], offset = 0;
    int64_t index[SHAPE_MAX_RANK] = {0};
    if (!shape_count(dims, &count) || count == 0)
        return;
    if (dims->rank == 0) {
        memcpy(out, in, WORD);
        return;
    }
    row_strides(dims, axes, strides);
    const size_t width = (size_t)dims->dims[dims->rank - 1], step = strides[dims->rank - 1];
    do {
        if (gather) {
            for (size_t i = 0; i < width; i++)
                memcpy(out + (offset + i * step) * WORD, in + i * WORD, WORD);
            in += width * WORD;
        } else {
            for (size_t i = 0; i < width; i++)
                memcpy(out + i * WORD, in + (offset + i * step) * WORD, WORD);
            out += width * WORD;
        }
    } while (advance(dims, strides, index, &offset));
}

void rows_gather(const shape *dims, uint32_t axes, const void *in, void *out)
{
    rows_copy(dims, axes, in, out, true);
}

void rows_scatter(const shape *dims, uint32_t axes, const void *in, void *out)
{
    rows_copy(dims, axes, in, out, false);
}
