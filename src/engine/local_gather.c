/* Reading boxes of a group: what an edit computed, around it the row's own values, and a fill outside
 * of the map. */
#include <string.h>

#include "engine/local_private.h"

/* What is done with one block of channels on the way. */
typedef struct handling {
    float fill;                 /* outside of the map */
    const float *scale, *shift; /* of the block; scale == NULL: as it is */
    const activation *f;
    size_t channels; /* of the block */
} handling;

/* A map, or a box of it: one block of channels, in rows of `width` positions that begin at (y, x). */
typedef struct sheet {
    const float *data;
    int64_t y, x;
    size_t width;
} sheet;

/* Positions [low, high) along both axes. */
typedef struct region {
    int64_t low[2], high[2];
} region;

static bool is_empty(const region *of)
{
    return of->low[0] >= of->high[0] || of->low[1] >= of->high[1];
}

static region clip(region of, const region *within)
{
    for (int axis = 0; axis < 2; axis++) {
        of.low[axis] = of.low[axis] > within->low[axis] ? of.low[axis] : within->low[axis];
        of.high[axis] = of.high[axis] < within->high[axis] ? of.high[axis] : within->high[axis];
    }
    return of;
}

/* A part of a stretch, out of a sheet. */
static void put(const handling *how, const sheet *from, const region *part, const stretch *of,
                size_t unit, float *out)
{
    if (is_empty(part))
        return;
    const rectangle moved = {
        .x = from->data +
             ((size_t)(part->low[0] - from->y) * from->width + (size_t)(part->low[1] - from->x)) *
                 unit,
        .x_stride = from->width * unit,
        .y = out +
             ((size_t)(part->low[0] - of->y) * of->width + (size_t)(part->low[1] - of->x)) * unit,
        .y_stride = of->width * unit,
        .rows = (size_t)(part->high[0] - part->low[0]),
        .count = (size_t)(part->high[1] - part->low[1]) * unit,
    };
    if (how->scale == NULL)
        kernel_copy_rows(&moved);
    else
        kernel_scale_shift_rows(&moved, how->scale, how->shift, how->f, how->channels, (int)unit);
}

static void fill_with(float value, float *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = value;
}

/* What of a stretch lies outside of `inside`, which is a part of it. */
static void fill_around(float value, const region *inside, const stretch *of, size_t unit,
                        float *out)
{
    const size_t line = of->width * unit;
    if (is_empty(inside)) {
        fill_with(value, out, of->height * line);
        return;
    }
    const size_t top = (size_t)(inside->low[0] - of->y), end = (size_t)(inside->high[0] - of->y);
    const size_t left = (size_t)(inside->low[1] - of->x) * unit,
                 right = (size_t)(inside->high[1] - of->x) * unit;
    fill_with(value, out, top * line);
    for (size_t r = top; r < end && line > right - left; r++) {
        fill_with(value, out + r * line, left);
        fill_with(value, out + r * line + right, line - right);
    }
    fill_with(value, out + end * line, (of->height - end) * line);
}

/* One block of channels: the computed box where it lies, the row's own values around it. */
static void gather_plane(const box_group *at, size_t v, size_t member, size_t plane,
                         const stretch *of, const handling *how, float *out)
{
    const local_value *value = &at->self->values[v];
    const size_t *length = value->boxes[at->at].length, unit = value->unit;
    int64_t place[2];
    local_place(value, at->at, at->edits[member], place);
    const sheet box = {.data = at->boxes[v] + member * local_box_count(value, at->at) +
                               plane * length[0] * length[1] * unit,
                       .y = place[0],
                       .x = place[1],
                       .width = length[1]};
    const sheet map = {.data =
                           at->self->row->maps[v] + plane * value->size[0] * value->size[1] * unit,
                       .width = value->size[1]};
    const region all = {{of->y, of->x}, {of->y + (int64_t)of->height, of->x + (int64_t)of->width}};
    const region of_map = {{0, 0}, {(int64_t)value->size[0], (int64_t)value->size[1]}};
    const region of_box = {{place[0], place[1]},
                           {place[0] + (int64_t)length[0], place[1] + (int64_t)length[1]}};
    const region inside = clip(all, &of_map), boxed = clip(inside, &of_box);
    fill_around(how->fill, &inside, of, unit, out);
    if (is_empty(&boxed)) {
        put(how, &map, &inside, of, unit, out);
        return;
    }
    const region around[] = {
        {{inside.low[0], inside.low[1]}, {boxed.low[0], inside.high[1]}},   /* above */
        {{boxed.high[0], inside.low[1]}, {inside.high[0], inside.high[1]}}, /* below */
        {{boxed.low[0], inside.low[1]}, {boxed.high[0], boxed.low[1]}},     /* left */
        {{boxed.low[0], boxed.high[1]}, {boxed.high[0], inside.high[1]}},   /* right */
    };
    for (size_t i = 0; i < sizeof around / sizeof around[0]; i++)
        put(how, &map, &around[i], of, unit, out);
    put(how, &box, &boxed, of, unit, out);
}

void local_gather(const box_group *at, size_t v, size_t member, const stretch *of, float fill,
                  float *out)
{
    const handling how = {.fill = fill};
    size_t count;
    const size_t *pieces = local_pieces(&at->self->values[v], &v, &count);
    for (size_t i = 0; i < count; i++) {
        const local_value *piece = &at->self->values[pieces[i]];
        for (size_t p = 0; p < piece->planes; p++) {
            gather_plane(at, pieces[i], member, p, of, &how, out);
            out += of->height * of->width * piece->unit;
        }
    }
}

void local_gather_scaled(const box_group *at, const local_step *step, size_t member,
                         const stretch *of, float *out)
{
    const local_value *value = &at->self->values[step->output];
    const size_t unit = value->unit;
    size_t count, channel = 0;
    const size_t *pieces =
        local_pieces(&at->self->values[step->inputs[0]], &step->inputs[0], &count);
    for (size_t i = 0; i < count; i++)
        for (size_t p = 0; p < at->self->values[pieces[i]].planes; p++, channel += unit) {
            const size_t left = value->channels - channel;
            const handling how = {.scale = step->scale + channel,
                                  .shift = step->shift + channel,
                                  .f = &step->f,
                                  .channels = left < unit ? left : unit};
            gather_plane(at, pieces[i], member, p, of, &how, out);
            out += of->height * of->width * unit;
        }
}

/* Whether the boxes of two values lie at the same places. */
static bool same_places(const box_group *at, const local_value *a, const local_value *b)
{
    if (a->piece_count > 0 || memcmp(&a->boxes[at->at], &b->boxes[at->at], sizeof *a->boxes) != 0)
        return false;
    for (size_t e = 0; e < at->self->group; e++) {
        int64_t pa[2], pb[2];
        local_place(a, at->at, at->edits[e], pa);
        local_place(b, at->at, at->edits[e], pb);
        if (pa[0] != pb[0] || pa[1] != pb[1])
            return false;
    }
    return true;
}

void local_align(const box_group *at, size_t v, size_t output, float *to)
{
    const local_value *in = &at->self->values[v], *out = &at->self->values[output];
    const size_t *length = out->boxes[at->at].length;
    const size_t count = in->planes * in->unit * length[0] * length[1];
    for (size_t e = 0; e < at->self->group; e++) {
        int64_t place[2];
        local_place(out, at->at, at->edits[e], place);
        const stretch of = {place[0], place[1], length[0], length[1]};
        local_gather(at, v, e, &of, 0, to + e * count);
    }
}

const float *local_aligned(const box_group *at, size_t v, size_t output, float *room)
{
    if (same_places(at, &at->self->values[v], &at->self->values[output]))
        return at->boxes[v];
    local_align(at, v, output, room);
    return room;
}

const float *local_windows(const box_group *at, const local_step *step, float fill, size_t size[2])
{
    const local_value *in = &at->self->values[step->inputs[0]],
                      *out = &at->self->values[step->output];
    const window *w = &step->geometry;
    bool bare = true;
    for (int axis = 0; axis < 2; axis++) {
        size[axis] = (out->boxes[at->at].length[axis] - 1) * (size_t)w->stride[axis] +
                     (size_t)((w->kernel[axis] - 1) * w->dilation[axis] + 1);
        bare = bare && w->kernel[axis] == 1 && w->stride[axis] == 1 && w->pad_begin[axis] == 0;
    }
    if (bare)
        return local_aligned(at, step->inputs[0], step->output, at->patches);
    const size_t count = in->planes * in->unit * size[0] * size[1];
    for (size_t e = 0; e < at->self->group; e++) {
        int64_t place[2];
        local_place(out, at->at, at->edits[e], place);
        const stretch of = {place[0] * w->stride[0] - w->pad_begin[0],
                            place[1] * w->stride[1] - w->pad_begin[1], size[0], size[1]};
        local_gather(at, step->inputs[0], e, &of, fill, at->patches + e * count);
    }
    return at->patches;
}
