#include "engine/strided.h"

strided strided_whole(const shape *dims)
{
    strided self = {.dims = *dims};
    int64_t stride = 1;
    for (int i = dims->rank - 1; i >= 0; i--) {
        self.strides[i] = stride;
        stride *= dims->dims[i];
    }
    return self;
}

bool strided_reshape(strided *self, const shape *to)
{
    strided out = {.dims = *to, .start = self->start};
    shape from = {0};
    int64_t strides[SHAPE_MAX_RANK];
    for (int i = 0; i < self->dims.rank; i++)
        if (self->dims.dims[i] != 1) {
            from.dims[from.rank] = self->dims.dims[i];
            strides[from.rank++] = self->strides[i];
        }
    int a = 0, c = 0;
    while (a < from.rank) {
        int a_end = a + 1, c_end = c;
        int64_t have = from.dims[a], want = 1;
        while (want != have) {
            if (want < have) {
                if (c_end >= to->rank)
                    return false;
                want *= to->dims[c_end++];
            } else {
                if (a_end >= from.rank)
                    return false;
                have *= from.dims[a_end++];
            }
        }
        for (int i = a; i + 1 < a_end; i++) /* joined axes must follow each other evenly */
            if (strides[i] != strides[i + 1] * from.dims[i + 1])
                return false;
        int64_t stride = strides[a_end - 1];
        for (int i = c_end - 1; i >= c; i--) {
            out.strides[i] = stride;
            stride *= to->dims[i];
        }
        a = a_end;
        c = c_end;
    }
    for (; c < to->rank; c++)
        if (to->dims[c] != 1)
            return false;
    *self = out;
    return true;
}

/* `at` elements from the start of a contiguous tensor, in the strided one's own steps. */
static int64_t in_steps(const strided *self, int64_t at)
{
    int64_t contiguous = 1, steps = 0;
    for (int i = 0; i < self->dims.rank; i++)
        contiguous *= self->dims.dims[i];
    for (int i = 0; i < self->dims.rank; i++) {
        contiguous /= self->dims.dims[i];
        steps += at / contiguous * self->strides[i];
        at %= contiguous;
    }
    return steps;
}

bool strided_move(strided *self, const movement *how, const shape *to)
{
    strided out = {.dims = *to, .start = self->start + in_steps(self, how->source)};
    for (int i = 0; i < to->rank; i++) {
        if (how->from[i] < 0)
            return false;
        out.strides[i] = to->dims[i] == 1 ? 0 : in_steps(self, how->from[i]);
    }
    *self = out;
    return true;
}
