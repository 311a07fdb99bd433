/* Walks of local edits: a state whose image changes within one box at a time. What the box can reach is
 * computed anew, layer by layer, and written into the state; all else stands there already. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "engine/local_private.h"

/* One step of a walk. */
typedef struct stride {
    const local *self;
    local_state *state;
    size_t at, edit; /* its class */
    float *box, *patches;
    void *scratch;
} stride;

static void fill_with(float value, float *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = value;
}

/* A stretch of a map, `fill` outside of it: (planes, height, width, unit). */
static void cut(const local_value *value, const float *map, const stretch *of, float fill,
                float *out)
{
    const size_t unit = value->unit;
    const int64_t rows = (int64_t)value->size[0], columns = (int64_t)value->size[1];
    const int64_t end = of->x + (int64_t)of->width;
    const int64_t left = of->x < 0 ? 0 : of->x, right = end > columns ? columns : end;
    const int64_t top = of->y < 0 ? 0 : of->y, last = of->y + (int64_t)of->height,
                  bottom = last > rows ? rows : last;
    const size_t line = of->width * unit;
    const bool is_inside = top == of->y && bottom == last && left == of->x && right == end;
    for (size_t p = 0; p < value->planes; p++, out += of->height * line) {
        if (!is_inside)
            fill_with(fill, out, of->height * line);
        if (right <= left || bottom <= top)
            continue;
        const rectangle moved = {
            .x = map + (((int64_t)p * rows + top) * columns + left) * (int64_t)unit,
            .x_stride = value->size[1] * unit,
            .y = out + (size_t)(top - of->y) * line + (size_t)(left - of->x) * unit,
            .y_stride = line,
            .rows = (size_t)(bottom - top),
            .count = (size_t)(right - left) * unit,
        };
        kernel_copy_rows(&moved);
    }
}

/* The opposite: a box within the map. */
static void paste(const local_value *value, const float *from, const stretch *of, float *map)
{
    const size_t line = of->width * value->unit, width = value->size[1] * value->unit;
    const size_t place = (size_t)of->y * width + (size_t)of->x * value->unit;
    for (size_t p = 0; p < value->planes; p++) {
        const rectangle moved = {.x = from + p * of->height * line,
                                 .x_stride = line,
                                 .y = map + p * value->size[0] * width + place,
                                 .y_stride = width,
                                 .rows = of->height,
                                 .count = line};
        kernel_copy_rows(&moved);
    }
}

/* The box of a value that a step computes. */
static stretch box_of(const stride *of, size_t v)
{
    const local_value *value = &of->self->values[v];
    int64_t at[2];
    local_place(value, of->at, of->edit, at);
    return (stretch){at[0], at[1], value->boxes[of->at].length[0], value->boxes[of->at].length[1]};
}

/* What the windows of a box read, and its size. */
static stretch windows_of(const local_step *step, const stretch *box)
{
    const window *w = &step->geometry;
    const size_t length[2] = {box->height, box->width};
    size_t size[2];
    for (int axis = 0; axis < 2; axis++)
        size[axis] = (length[axis] - 1) * (size_t)w->stride[axis] +
                     (size_t)((w->kernel[axis] - 1) * w->dilation[axis] + 1);
    return (stretch){box->y * w->stride[0] - w->pad_begin[0],
                     box->x * w->stride[1] - w->pad_begin[1], size[0], size[1]};
}

static xai_status convolve(const stride *of, const local_step *step, const stretch *box,
                           xai_error **error)
{
    const local_value *in = &of->self->values[step->inputs[0]],
                      *out = &of->self->values[step->output];
    float *const *maps = of->state->maps;
    const stretch windows = windows_of(step, box);
    cut(in, maps[step->inputs[0]], &windows, 0, of->patches);
    if (step->other != LOCAL_NONE)
        cut(out, maps[step->other], box, 0, of->box);
    const xai_status status =
        local_run_primitive(step, step->patches[of->at], step->weights[of->at], of->patches,
                            of->box, of->scratch, error);
    if (status == XAI_OK)
        paste(out, of->box, box, maps[step->output]);
    return status;
}

static void pool(const stride *of, const local_step *step, const stretch *box)
{
    const local_value *in = &of->self->values[step->inputs[0]],
                      *out = &of->self->values[step->output];
    const bool is_max = step->kind == LOCAL_MAX_POOL;
    const stretch windows = windows_of(step, box);
    window w = step->geometry;
    cut(in, of->state->maps[step->inputs[0]], &windows, is_max ? -INFINITY : 0, of->patches);
    w.input[0] = (int64_t)windows.height;
    w.input[1] = (int64_t)windows.width;
    w.output[0] = (int64_t)box->height;
    w.output[1] = (int64_t)box->width;
    for (int axis = 0; axis < 2; axis++)
        w.pad_begin[axis] = w.pad_end[axis] = 0;
    if (is_max)
        kernel_max_pool(&w, of->patches, of->box, NULL, out->channels, (int)out->unit, 1);
    else
        kernel_average_pool(&w, false, of->patches, of->box, out->channels, (int)out->unit, 1);
    paste(out, of->box, box, of->state->maps[step->output]);
}

/* Piece by piece, each where it has changed: scaled, or (step of a concatenation) as it is. */
static void pass_pieces(const stride *of, const local_step *step)
{
    const local *self = of->self;
    const local_value *out = &self->values[step->output];
    const size_t source = step->kind == LOCAL_CONCAT ? step->output : step->inputs[0];
    size_t count, channel = 0;
    const size_t *pieces = local_pieces(&self->values[source], &step->inputs[0], &count);
    for (size_t i = 0; i < count; i++) {
        const local_value *piece = &self->values[pieces[i]];
        const size_t unit = piece->unit, width = piece->size[1],
                     area = piece->size[0] * piece->size[1];
        const stretch box = box_of(of, pieces[i]);
        for (size_t p = 0; p < piece->planes; p++, channel += unit) {
            const size_t left = out->channels - channel;
            const size_t place = (size_t)box.y * width + (size_t)box.x;
            const rectangle moved = {
                .x = of->state->maps[pieces[i]] + (p * area + place) * unit,
                .x_stride = width * unit,
                .y = of->state->maps[step->output] + channel * area + place * unit,
                .y_stride = width * unit,
                .rows = box.height,
                .count = box.width * unit,
            };
            if (step->kind == LOCAL_CONCAT)
                kernel_copy_rows(&moved);
            else
                kernel_scale_shift_rows(&moved, step->scale + channel, step->shift + channel,
                                        &step->f, left < unit ? left : unit, (int)unit);
        }
    }
}

static void pass_lines(const stride *of, const local_step *step, const stretch *box)
{
    const local_value *out = &of->self->values[step->output];
    float *const *maps = of->state->maps;
    for (size_t p = 0; p < out->planes; p++)
        for (size_t r = 0; r < box->height; r++) {
            const size_t at =
                ((p * out->size[0] + (size_t)box->y + r) * out->size[1] + (size_t)box->x) *
                out->unit;
            const float *in = maps[step->inputs[0]] + at;
            float *to = maps[step->output] + at;
            if (step->kind == LOCAL_ADD)
                kernel_add(in, maps[step->inputs[1]] + at, to, box->width * out->unit, &step->f, 1);
            else
                kernel_activate(&step->f, in, to, box->width * out->unit, 1);
        }
}

static xai_status run_box(const stride *of, const local_step *step, const stretch *box,
                          xai_error **error)
{
    switch (step->kind) {
    case LOCAL_CONVOLUTION:
        return convolve(of, step, box, error);
    case LOCAL_MAX_POOL:
    case LOCAL_AVERAGE_POOL:
        pool(of, step, box);
        break;
    case LOCAL_CONCAT:
    case LOCAL_SCALE_SHIFT:
        if (of->state->maps[step->output] != NULL)
            pass_pieces(of, step);
        break;
    case LOCAL_ACTIVATION:
    case LOCAL_ADD:
        pass_lines(of, step, box);
        break;
    }
    return XAI_OK;
}

static double piece_bound(const local_state *state, size_t v)
{
    double bound = 0;
    size_t count;
    if (v == LOCAL_NONE)
        return 0;
    const size_t *pieces = local_pieces(&state->of->values[v], &v, &count);
    for (size_t i = 0; i < count; i++)
        bound = fmax(bound, state->bounds[pieces[i]]);
    return bound;
}

/* One layer; bounds only grow, because they hold for what stays, too. */
static xai_status compute(const stride *of, const local_step *step, xai_error **error)
{
    local_state *state = of->state;
    const local_value *out = &of->self->values[step->output];
    const double input = piece_bound(state, step->inputs[0]),
                 other = piece_bound(state, local_summand(step)),
                 kept = state->bounds[step->output];
    double bound = step->kind == LOCAL_CONCAT ? piece_bound(state, step->output)
                                              : local_bound(step, input, other);
    if (local_is_whole(out, of->at) && step->kind != LOCAL_SCALE_SHIFT)
        return local_compute_map(state, step, 1, of->scratch, error);
    if (!local_bound_fits(local_partial_bound(step, input, other)))
        return local_overflow(of->self, step, error);
    const stretch box = box_of(of, step->output);
    const xai_status status = run_box(of, step, &box, error);
    if (status == XAI_OK && local_bound_is_large(out, bound) && step->kind != LOCAL_CONCAT)
        bound = kernel_max_abs(state->maps[step->output], local_whole_count(out), 1);
    state->bounds[step->output] = fmax(bound, kept);
    return status != XAI_OK || local_bound_fits(state->bounds[step->output])
               ? status
               : local_overflow(of->self, step, error);
}

/* The pixels of the edit itself. */
static xai_status change_image(const stride *of, local_content content, void *user,
                               xai_error **error)
{
    const local *self = of->self;
    const size_t id = (size_t)self->graph->inputs[self->input];
    const local_value *image = &self->values[id];
    const stretch box = box_of(of, id);
    const local_box place = {box.y, box.x, (int64_t)box.height, (int64_t)box.width};
    const size_t area = box.height * box.width;
    content(user, of->edit, &place, image->unit == 1 ? of->box : of->patches);
    if (image->unit != 1)
        kernel_block(of->patches, of->box, image->channels, area, (int)image->unit, 1);
    paste(image, of->box, &box, of->state->maps[id]);
    of->state->bounds[id] =
        fmax(of->state->bounds[id], kernel_max_abs(of->box, local_box_count(image, of->at), 1));
    return local_bound_fits(of->state->bounds[id])
               ? XAI_OK
               : error_set(error, XAI_ERROR_NUMERIC, self->graph->values[id].name,
                           "an edit holds a NaN or an infinity");
}

xai_status local_state_create(const local *of, local_state **out, xai_error **error)
{
    return local_state_make(of, true, out, error);
}

static stride open_stride(local_state *state, size_t edit)
{
    const local *self = state->of;
    float *patches = state->workspace + self->box_floats;
    return (stride){.self = self,
                    .state = state,
                    .at = self->class_of_group[self->position[edit]],
                    .edit = edit,
                    .box = state->workspace,
                    .patches = patches,
                    .scratch = patches + self->patch_floats};
}

xai_status local_state_set(local_state *self, const float *image, xai_error **error)
{
    const stride from = open_stride(self, 0);
    xai_status status = local_read_image(self, image, 1, error);
    for (size_t s = 0; status == XAI_OK && s < from.self->step_count; s++)
        status = local_compute_map(self, &from.self->steps[s], 1, from.scratch, error);
    return status;
}

xai_status local_state_step(local_state *self, size_t index, local_content content, void *user,
                            xai_error **error)
{
    const stride from = open_stride(self, index);
    xai_status status = change_image(&from, content, user, error);
    for (size_t s = 0; status == XAI_OK && s < from.self->step_count; s++)
        status = compute(&from, &from.self->steps[s], error);
    return status;
}

void local_state_frontier(const local_state *self, float *const *out)
{
    const local *of = self->of;
    for (size_t f = 0; f < of->frontier_count; f++) {
        const size_t v = (size_t)of->frontier[f];
        float *to = out[f];
        size_t count;
        const size_t *pieces = local_pieces(&of->values[v], &v, &count);
        for (size_t i = 0; i < count; i++) {
            const local_value *piece = &of->values[pieces[i]];
            const size_t area = piece->size[0] * piece->size[1];
            kernel_unblock(self->maps[pieces[i]], to, piece->channels, area, (int)piece->unit, 1);
            to += piece->channels * area;
        }
    }
}
