#include "explain/map.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "xai/explainer.h"

spatial spatial_sequence(size_t length)
{
    return (spatial){.rank = 1,
                     .dims = {(int64_t)length},
                     .channels = 1,
                     .pixels = length,
                     .channel_stride = length,
                     .pixel_stride = 1};
}

shape spatial_rows(const spatial *self, size_t rows)
{
    shape dims = {.rank = self->rank + 1, .dims = {(int64_t)rows}};
    for (int axis = 0; axis < self->rank; axis++)
        dims.dims[axis + 1] = self->dims[axis];
    return dims;
}

const float *spatial_planes(const spatial *self, const float *values, float *scratch)
{
    if (self->offset == 0 && self->pixel_stride == 1 && self->channel_stride == self->pixels)
        return values;
    for (size_t p = 0; p < self->pixels; p++) {
        const float *pixel = values + self->offset + p * self->pixel_stride;
        for (size_t c = 0; c < self->channels; c++)
            scratch[c * self->pixels + p] = pixel[c * self->channel_stride];
    }
    return scratch;
}

bool map_scale(const float *values, size_t count, int32_t scaling, float *scaled)
{
    double highest = 0, lowest = INFINITY;
    for (size_t i = 0; i < count; i++) {
        const double cut = values[i] > 0 ? values[i] : 0;
        highest = cut > highest ? cut : highest;
        lowest = cut < lowest ? cut : lowest;
    }
    if (!(highest > 0)) {
        memset(scaled, 0, count * sizeof *scaled);
        return false;
    }
    if (scaling != XAI_SCALING_MIN_MAX)
        lowest = 0;
    const double divisor = scaling == XAI_SCALING_MIN_MAX ? 1e-7 + (highest - lowest) : highest;
    for (size_t i = 0; i < count; i++)
        scaled[i] = (float)(((values[i] > 0 ? (double)values[i] : 0) - lowest) / divisor);
    return true;
}

/* One axis of a linear resize: out[i] = (1 - weight[i]) in[low[i]] + weight[i] in[high[i]]. */
typedef struct axis_taps {
    int64_t *low, *high;
    double *weight;
} axis_taps;

static void taps_free(axis_taps *self)
{
    memory_free(self->low);
    memory_free(self->high);
    memory_free(self->weight);
}

static bool taps_init(axis_taps *self, int64_t from, int64_t to)
{
    const size_t count = (size_t)to;
    self->low = memory_allocate(count, sizeof *self->low);
    self->high = memory_allocate(count, sizeof *self->high);
    self->weight = memory_allocate(count, sizeof *self->weight);
    if (self->low == NULL || self->high == NULL || self->weight == NULL)
        return false;
    for (int64_t i = 0; i < to; i++) {
        double at = ((double)i + 0.5) * (double)from / (double)to - 0.5;
        at = at < 0 ? 0 : at > (double)(from - 1) ? (double)(from - 1) : at;
        self->low[i] = (int64_t)at;
        self->high[i] = self->low[i] + 1 < from ? self->low[i] + 1 : from - 1;
        self->weight[i] = at - (double)self->low[i];
    }
    return true;
}

/* The source line (width) that output line (z, y) is made of: up to four lines meet there. */
static void blend_lines(const float *in, const int64_t *source, const axis_taps *taps, int64_t z,
                        int64_t y, double *line)
{
    for (int64_t x = 0; x < source[2]; x++)
        line[x] = 0;
    for (int corner = 0; corner < 4; corner++) {
        const double down = corner & 2 ? taps[0].weight[z] : 1 - taps[0].weight[z];
        const double along = corner & 1 ? taps[1].weight[y] : 1 - taps[1].weight[y];
        if (down * along == 0)
            continue;
        const int64_t cz = corner & 2 ? taps[0].high[z] : taps[0].low[z];
        const int64_t cy = corner & 1 ? taps[1].high[y] : taps[1].low[y];
        const float *from = in + (cz * source[1] + cy) * source[2];
        for (int64_t x = 0; x < source[2]; x++)
            line[x] += down * along * (double)from[x];
    }
}

xai_status map_resize(const float *in, const int64_t *from, const int64_t *to, int rank, float *out,
                      xai_error **error)
{
    /* As (d, h, w), with 1 for the axes that are not there. */
    int64_t source[3] = {1, 1, 1}, target[3] = {1, 1, 1};
    for (int axis = 0; axis < rank; axis++) {
        source[3 - rank + axis] = from[axis];
        target[3 - rank + axis] = to[axis];
    }
    axis_taps taps[3] = {{0}};
    double *line = NULL; /* (source width) */
    xai_status status = XAI_OK;
    for (int axis = 0; axis < 3; axis++) {
        if (source[axis] <= 0 || target[axis] <= 0) {
            status = error_set(error, XAI_ERROR_SHAPE, NULL, "a map without elements");
            goto done;
        }
        if (!taps_init(&taps[axis], source[axis], target[axis])) {
            status = error_memory(error, "a resized map", (size_t)target[axis] * sizeof(double));
            goto done;
        }
    }
    line = memory_allocate((size_t)source[2], sizeof *line);
    if (line == NULL) {
        status = error_memory(error, "a resized map", (size_t)source[2] * sizeof *line);
        goto done;
    }
    for (int64_t z = 0; z < target[0]; z++)
        for (int64_t y = 0; y < target[1]; y++, out += target[2]) {
            blend_lines(in, source, taps, z, y, line);
            const axis_taps *across = &taps[2];
            for (int64_t x = 0; x < target[2]; x++)
                out[x] = (float)((1 - across->weight[x]) * line[across->low[x]] +
                                 across->weight[x] * line[across->high[x]]);
        }
done:
    for (int axis = 0; axis < 3; axis++)
        taps_free(&taps[axis]);
    memory_free(line);
    return status;
}
