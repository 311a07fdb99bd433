/* Reading boxes of a group: what an edit computed, around it the row's own values, and a fill outside
 * of the map. */
#include <string.h>

#include "engine/local_private.h"

/* One row of a stretch of one block of channels, and what is done with it on the way. */
typedef struct line {
    const float *base, *box; /* the row of the map; of the box, NULL = it has none here */
    int64_t box_left, box_right, width;
    size_t unit;
    float fill;
    const float *scale, *shift; /* of the block; scale == NULL: as it is */
    const activation *f;
    size_t channels; /* of the block */
} line;

static void fill_with(float value, float *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = value;
}

static void copy(const line *from, const float *x, size_t positions, float *out)
{
    if (positions == 0)
        return;
    if (from->scale == NULL)
        memcpy(out, x, positions * from->unit * sizeof *out);
    else
        kernel_scale_shift_row(x, from->scale, from->shift, from->f, out, from->channels, positions,
                               (int)from->unit);
}

static void copy_line(const line *from, int64_t x, size_t w, float *out)
{
    const size_t unit = from->unit;
    const int64_t left = x < 0 ? 0 : x,
                  right = x + (int64_t)w > from->width ? from->width : x + (int64_t)w;
    if (from->base == NULL || right <= left) {
        fill_with(from->fill, out, w * unit);
        return;
    }
    fill_with(from->fill, out, (size_t)(left - x) * unit);
    fill_with(from->fill, out + (size_t)(right - x) * unit, (w - (size_t)(right - x)) * unit);
    const int64_t begin = from->box_left > left ? from->box_left : left;
    const int64_t end = from->box_right < right ? from->box_right : right;
    const bool in_box = from->box != NULL && end > begin;
    const int64_t before = in_box ? begin : right;
    copy(from, from->base + (size_t)left * unit, (size_t)(before - left),
         out + (size_t)(left - x) * unit);
    if (!in_box)
        return;
    copy(from, from->box + (size_t)(begin - from->box_left) * unit, (size_t)(end - begin),
         out + (size_t)(begin - x) * unit);
    copy(from, from->base + (size_t)end * unit, (size_t)(right - end),
         out + (size_t)(end - x) * unit);
}

/* One block of channels; `how` says what is done with it. */
static void gather_plane(const box_group *at, size_t v, size_t member, size_t plane,
                         const stretch *of, const line *how, float *out)
{
    const local_value *value = &at->self->values[v];
    const size_t *length = value->boxes[at->at].length, unit = value->unit;
    int64_t place[2];
    local_place(value, at->at, at->edits[member], place);
    const float *box = at->boxes[v] + member * local_box_count(value, at->at) +
                       plane * length[0] * length[1] * unit;
    const float *base = at->self->row->maps[v] + plane * value->size[0] * value->size[1] * unit;
    line from = *how;
    from.unit = unit;
    from.box_left = place[1];
    from.box_right = place[1] + (int64_t)length[1];
    from.width = (int64_t)value->size[1];
    for (size_t r = 0; r < of->height; r++, out += of->width * unit) {
        const int64_t row = of->y + (int64_t)r;
        const bool inside = row >= 0 && row < (int64_t)value->size[0];
        const bool in_box = row >= place[0] && row < place[0] + (int64_t)length[0];
        from.base = inside ? base + (size_t)row * value->size[1] * unit : NULL;
        from.box = in_box ? box + (size_t)(row - place[0]) * length[1] * unit : NULL;
        copy_line(&from, of->x, of->width, out);
    }
}

void local_gather(const box_group *at, size_t v, size_t member, const stretch *of, float fill,
                  float *out)
{
    const line how = {.fill = fill};
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
            const line how = {.scale = step->scale + channel,
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
