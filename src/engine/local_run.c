/* Computing local edits: the row itself once, then groups of boxes. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/parallel.h"
#include "engine/local_private.h"

/* The row itself */

static xai_status run_primitive(const local_step *step, bool patches, const float *source,
                                float *destination, void *scratch, xai_error **error)
{
    const primitive_arguments arguments = {.source = source,
                                           .weights = step->weights[patches],
                                           .bias = step->shift,
                                           .destination = destination,
                                           .scratchpad = scratch};
    return primitive_run(patches ? step->patches : step->whole, &arguments, error);
}

static void join_bases(const local *self, const local_step *step, float *out)
{
    for (size_t i = 0; i < step->input_count; i++) {
        const local_value *in = &self->values[step->inputs[i]];
        const size_t count = in->planes * in->unit * in->size[0] * in->size[1];
        memcpy(out, in->base, count * sizeof *out);
        out += count;
    }
}

static xai_status run_base(const local *self, const local_step *step, void *scratch,
                           xai_error **error)
{
    const local_value *in = &self->values[step->inputs[0]], *out = &self->values[step->output];
    const size_t count = out->planes * out->unit * out->size[0] * out->size[1];
    const int block = (int)out->unit, threads = self->threads;
    const activation none = {ACTIVATION_NONE, 0, 0};
    switch (step->kind) {
    case LOCAL_CONVOLUTION:
        return run_primitive(step, false, in->base, out->base, scratch, error);
    case LOCAL_SCALE_SHIFT:
        kernel_scale_shift(in->base, step->scale, step->shift, &none, out->base, out->channels,
                           out->size[0] * out->size[1], block, threads);
        break;
    case LOCAL_ACTIVATION:
        kernel_activate(&step->f, in->base, out->base, count, threads);
        break;
    case LOCAL_ADD:
        kernel_add(in->base, self->values[step->inputs[1]].base, out->base, count, &none, threads);
        break;
    case LOCAL_CONCAT:
        join_bases(self, step, out->base);
        break;
    case LOCAL_MAX_POOL:
        kernel_max_pool(&step->geometry, in->base, out->base, NULL, out->channels, block, threads);
        break;
    case LOCAL_AVERAGE_POOL:
        kernel_average_pool(&step->geometry, false, in->base, out->base, out->channels, block,
                            threads);
        break;
    }
    return XAI_OK;
}

static xai_status allocate_base(local_value *value, xai_error **error)
{
    const size_t bytes =
        value->planes * value->unit * value->size[0] * value->size[1] * sizeof(float);
    if (value->base == NULL)
        value->base = memory_allocate_aligned(bytes);
    return value->base != NULL ? XAI_OK : error_memory(error, "values of the row", bytes);
}

xai_status local_set_row(local *self, const float *image, xai_error **error)
{
    local_value *input = &self->values[self->graph->inputs[self->input]];
    void *scratch = memory_allocate_aligned(self->scratch_bytes + 64);
    xai_status status = scratch != NULL ? allocate_base(input, error)
                                        : error_memory(error, "scratch", self->scratch_bytes);
    if (status == XAI_OK && input->unit == 1)
        memcpy(input->base, image, input->planes * input->size[0] * input->size[1] * sizeof *image);
    else if (status == XAI_OK)
        kernel_block(image, input->base, input->channels, input->size[0] * input->size[1],
                     (int)input->unit, self->threads);
    for (size_t s = 0; status == XAI_OK && s < self->step_count; s++) {
        status = allocate_base(&self->values[self->steps[s].output], error);
        if (status == XAI_OK)
            status = run_base(self, &self->steps[s], scratch, error);
    }
    memory_free(scratch);
    return status;
}

/* Groups of boxes */

typedef struct group {
    const local *self;
    size_t edits[LOCAL_GROUP]; /* the last one again where there are fewer */
    float **boxes;             /* [value]: (LOCAL_GROUP, planes, box, unit), or NULL */
    float *patches;            /* what a step reads */
    void *scratch;
} group;

/* Rows [y, y + h), columns [x, x + w) of one edit of a value, `fill` outside of the map:
 * (planes, h, w, unit). */
static void gather(const group *at, size_t v, size_t member, int64_t y, int64_t x, size_t h,
                   size_t w, float fill, float *out)
{
    const local_value *value = &at->self->values[v];
    const int64_t height = (int64_t)value->size[0], width = (int64_t)value->size[1];
    const size_t unit = value->unit;
    int64_t place[2];
    local_place(value, at->edits[member], place);
    const float *box = at->boxes[v] + member * local_box_count(value);
    /* Columns: outside, of the map; and those of the box within them. */
    const int64_t left = x < 0 ? 0 : x, right = x + (int64_t)w > width ? width : x + (int64_t)w;
    const int64_t box_left = place[1] > left ? place[1] : left;
    const int64_t box_end = place[1] + (int64_t)value->box[1];
    const int64_t box_right = box_end < right ? box_end : right;
    for (size_t p = 0; p < value->planes; p++)
        for (size_t r = 0; r < h; r++, out += w * unit) {
            const int64_t row = y + (int64_t)r;
            if (row < 0 || row >= height || right <= left) {
                for (size_t i = 0; i < w * unit; i++)
                    out[i] = fill;
                continue;
            }
            for (size_t i = 0; i < (size_t)(left - x) * unit; i++)
                out[i] = fill;
            for (size_t i = (size_t)(right - x) * unit; i < w * unit; i++)
                out[i] = fill;
            const float *base =
                value->base + ((p * value->size[0] + (size_t)row) * value->size[1]) * unit;
            const bool in_box =
                row >= place[0] && row < place[0] + (int64_t)value->box[0] && box_right > box_left;
            const int64_t before = in_box ? box_left : right;
            memcpy(out + (size_t)(left - x) * unit, base + (size_t)left * unit,
                   (size_t)(before - left) * unit * sizeof *out);
            if (!in_box)
                continue;
            const float *line =
                box + ((p * value->box[0] + (size_t)(row - place[0])) * value->box[1] +
                       (size_t)(box_left - place[1])) *
                          unit;
            memcpy(out + (size_t)(box_left - x) * unit, line,
                   (size_t)(box_right - box_left) * unit * sizeof *out);
            memcpy(out + (size_t)(box_right - x) * unit, base + (size_t)box_right * unit,
                   (size_t)(right - box_right) * unit * sizeof *out);
        }
}

/* Whether the boxes of two values lie at the same places. */
static bool same_places(const group *at, const local_value *a, const local_value *b)
{
    if (a->box[0] != b->box[0] || a->box[1] != b->box[1])
        return false;
    for (size_t e = 0; e < LOCAL_GROUP; e++) {
        int64_t pa[2], pb[2];
        local_place(a, at->edits[e], pa);
        local_place(b, at->edits[e], pb);
        if (pa[0] != pb[0] || pa[1] != pb[1])
            return false;
    }
    return true;
}

/* What input i of a step is within the boxes of its output; as it stands where they agree. */
static const float *aligned(const group *at, const local_step *step, size_t i, float *room)
{
    const local_value *in = &at->self->values[step->inputs[i]],
                      *out = &at->self->values[step->output];
    if (same_places(at, in, out))
        return at->boxes[step->inputs[i]];
    const size_t count = in->planes * in->unit * out->box[0] * out->box[1];
    for (size_t e = 0; e < LOCAL_GROUP; e++) {
        int64_t place[2];
        local_place(out, at->edits[e], place);
        gather(at, step->inputs[i], e, place[0], place[1], out->box[0], out->box[1], 0,
               room + e * count);
    }
    return room;
}

/* The windows that the boxes of the output read: (LOCAL_GROUP, planes, size, unit). */
static const float *windows_of(const group *at, const local_step *step, float fill, size_t size[2])
{
    const local_value *in = &at->self->values[step->inputs[0]],
                      *out = &at->self->values[step->output];
    const window *w = &step->geometry;
    bool bare = true;
    for (int axis = 0; axis < 2; axis++) {
        size[axis] = (out->box[axis] - 1) * (size_t)w->stride[axis] +
                     (size_t)((w->kernel[axis] - 1) * w->dilation[axis] + 1);
        bare = bare && w->kernel[axis] == 1 && w->stride[axis] == 1 && w->pad_begin[axis] == 0;
    }
    if (bare)
        return aligned(at, step, 0, at->patches);
    const size_t count = in->planes * in->unit * size[0] * size[1];
    for (size_t e = 0; e < LOCAL_GROUP; e++) {
        int64_t place[2];
        local_place(out, at->edits[e], place);
        gather(at, step->inputs[0], e, place[0] * w->stride[0] - w->pad_begin[0],
               place[1] * w->stride[1] - w->pad_begin[1], size[0], size[1], fill,
               at->patches + e * count);
    }
    return at->patches;
}

static void pool(const group *at, const local_step *step, float *to)
{
    const local_value *in = &at->self->values[step->inputs[0]],
                      *out = &at->self->values[step->output];
    const bool is_max = step->kind == LOCAL_MAX_POOL;
    size_t size[2];
    window w = step->geometry;
    const float *from = windows_of(at, step, is_max ? -INFINITY : 0, size);
    for (int axis = 0; axis < 2; axis++) {
        w.input[axis] = (int64_t)size[axis];
        w.output[axis] = (int64_t)out->box[axis];
        w.pad_begin[axis] = w.pad_end[axis] = 0;
    }
    const size_t count = in->planes * in->unit * size[0] * size[1];
    for (size_t e = 0; e < LOCAL_GROUP; e++) {
        if (is_max)
            kernel_max_pool(&w, from + e * count, to + e * local_box_count(out), NULL,
                            out->channels, (int)out->unit, 1);
        else
            kernel_average_pool(&w, false, from + e * count, to + e * local_box_count(out),
                                out->channels, (int)out->unit, 1);
    }
}

/* Pieces one behind the other: whole blocks each. */
static void concatenate(const group *at, const local_step *step, float *to)
{
    const local_value *out = &at->self->values[step->output];
    size_t plane = 0;
    for (size_t i = 0; i < step->input_count; i++) {
        const local_value *in = &at->self->values[step->inputs[i]];
        const size_t area = out->box[0] * out->box[1] * out->unit;
        for (size_t e = 0; e < LOCAL_GROUP; e++) {
            int64_t place[2];
            local_place(out, at->edits[e], place);
            gather(at, step->inputs[i], e, place[0], place[1], out->box[0], out->box[1], 0,
                   to + e * local_box_count(out) + plane * area);
        }
        plane += in->planes;
    }
}

static xai_status run_step(const group *at, const local_step *step, float *to, xai_error **error)
{
    const local_value *out = &at->self->values[step->output];
    const size_t count = local_box_count(out);
    const activation none = {ACTIVATION_NONE, 0, 0};
    const float *from;
    size_t size[2];
    switch (step->kind) {
    case LOCAL_CONVOLUTION:
        from = windows_of(at, step, 0, size);
        return run_primitive(step, true, from, to, at->scratch, error);
    case LOCAL_SCALE_SHIFT:
        from = aligned(at, step, 0, at->patches);
        for (size_t e = 0; e < LOCAL_GROUP; e++)
            kernel_scale_shift(from + e * count, step->scale, step->shift, &none, to + e * count,
                               out->channels, out->box[0] * out->box[1], (int)out->unit, 1);
        break;
    case LOCAL_ACTIVATION:
        from = aligned(at, step, 0, at->patches);
        kernel_activate(&step->f, from, to, LOCAL_GROUP * count, 1);
        break;
    case LOCAL_ADD:
        from = aligned(at, step, 0, at->patches);
        kernel_add(from, aligned(at, step, 1, at->patches + LOCAL_GROUP * count), to,
                   LOCAL_GROUP * count, &none, 1);
        break;
    case LOCAL_CONCAT:
        concatenate(at, step, to);
        break;
    case LOCAL_MAX_POOL:
    case LOCAL_AVERAGE_POOL:
        pool(at, step, to);
        break;
    }
    return XAI_OK;
}

/* Floats that the patches of the largest step take. */
static size_t most_patches(const local *self)
{
    size_t most = 1;
    for (size_t s = 0; s < self->step_count; s++) {
        const local_step *step = &self->steps[s];
        const local_value *out = &self->values[step->output];
        const local_value *in = &self->values[step->inputs[0]];
        size_t count = 2 * local_box_count(out);
        if (step->geometry.rank == 2) {
            const window *w = &step->geometry;
            count = in->planes * in->unit;
            for (int axis = 0; axis < 2; axis++)
                count *= (out->box[axis] - 1) * (size_t)w->stride[axis] +
                         (size_t)((w->kernel[axis] - 1) * w->dilation[axis] + 1);
        }
        most = count > most ? count : most;
    }
    return most * LOCAL_GROUP;
}

typedef struct local_job {
    const local *self;
    size_t begin, count;
    local_content content;
    void *user;
    float *const *out;
    xai_status *statuses; /* one a group */
    xai_error **errors;
} local_job;

static xai_status fill_boxes(group *at, const local_job *job, xai_error **error)
{
    const local *self = at->self;
    const size_t id = (size_t)self->graph->inputs[self->input];
    const local_value *image = &self->values[id];
    const size_t count = local_box_count(image), area = image->box[0] * image->box[1];
    float *plain = memory_allocate_aligned(image->channels * area * sizeof *plain);
    at->boxes[id] = memory_allocate_aligned(LOCAL_GROUP * count * sizeof(float));
    if (plain == NULL || at->boxes[id] == NULL) {
        memory_free(plain);
        return error_memory(error, "boxes", LOCAL_GROUP * count * sizeof(float));
    }
    for (size_t e = 0; e < LOCAL_GROUP; e++) {
        int64_t place[2];
        local_place(image, at->edits[e], place);
        const local_box box = {place[0], place[1], (int64_t)image->box[0], (int64_t)image->box[1]};
        float *to = at->boxes[id] + e * count;
        job->content(job->user, at->edits[e], &box, image->unit == 1 ? to : plain);
        if (image->unit != 1)
            kernel_block(plain, to, image->channels, area, (int)image->unit, 1);
    }
    memory_free(plain);
    return XAI_OK;
}

/* The whole map of a frontier value, plain. */
static void hand_over(const group *at, const local_value *value, size_t member, float *blocked,
                      float *out)
{
    gather(at, (size_t)value->id, member, 0, 0, value->size[0], value->size[1], 0, blocked);
    kernel_unblock(blocked, out, value->channels, value->size[0] * value->size[1], (int)value->unit,
                   1);
}

static xai_status hand_over_all(const group *at, const local_job *job, size_t first, size_t members,
                                xai_error **error)
{
    const local *self = at->self;
    for (size_t f = 0; f < self->frontier_count; f++) {
        const local_value *value = &self->values[self->frontier[f]];
        const size_t area = value->size[0] * value->size[1];
        float *blocked =
            memory_allocate_aligned(value->planes * value->unit * area * sizeof *blocked);
        if (blocked == NULL)
            return error_memory(error, "a layer", value->planes * value->unit * area);
        for (size_t e = 0; e < members; e++)
            hand_over(at, value, e, blocked, job->out[f] + (first + e) * value->channels * area);
        memory_free(blocked);
    }
    return XAI_OK;
}

static xai_status run_group(const local_job *job, size_t index, xai_error **error)
{
    const local *self = job->self;
    const size_t values = self->graph->value_count, first = index * LOCAL_GROUP;
    const size_t members = job->count - first < LOCAL_GROUP ? job->count - first : LOCAL_GROUP;
    group at = {.self = self};
    for (size_t e = 0; e < LOCAL_GROUP; e++)
        at.edits[e] = job->begin + first + (e < members ? e : members - 1);
    at.boxes = memory_allocate_zeroed(values, sizeof *at.boxes);
    at.patches = memory_allocate_aligned(most_patches(self) * sizeof *at.patches);
    at.scratch = memory_allocate_aligned(self->scratch_bytes + 64);
    xai_status status = at.boxes == NULL || at.patches == NULL || at.scratch == NULL
                            ? error_memory(error, "boxes", values * sizeof *at.boxes)
                            : fill_boxes(&at, job, error);
    for (size_t s = 0; status == XAI_OK && s < self->step_count; s++) {
        const local_step *step = &self->steps[s];
        const size_t count = LOCAL_GROUP * local_box_count(&self->values[step->output]);
        float *to = memory_allocate_aligned(count * sizeof *to);
        at.boxes[step->output] = to;
        status = to != NULL ? run_step(&at, step, to, error)
                            : error_memory(error, "boxes", count * sizeof *to);
        /* A ReLU would hide a NaN that an overflow made. */
        if (status == XAI_OK && !isfinite(kernel_max_abs(to, count, 1)))
            status = error_set(error, XAI_ERROR_NUMERIC, self->graph->values[step->output].name,
                               "an edited row overflows here");
        for (size_t i = 0; i < step->input_count; i++)
            if (self->values[step->inputs[i]].last == s) {
                memory_free(at.boxes[step->inputs[i]]);
                at.boxes[step->inputs[i]] = NULL;
            }
    }
    if (status == XAI_OK)
        status = hand_over_all(&at, job, first, members, error);
    for (size_t v = 0; at.boxes != NULL && v < values; v++)
        memory_free(at.boxes[v]);
    memory_free((void *)at.boxes);
    memory_free(at.patches);
    memory_free(at.scratch);
    return status;
}

static void run_groups(void *user, size_t begin, size_t end)
{
    const local_job *job = user;
    for (size_t g = begin; g < end; g++)
        job->statuses[g] = run_group(job, g, &job->errors[g]);
}

xai_status local_run(local *self, size_t begin, size_t count, local_content content, void *user,
                     float *const *out, xai_error **error)
{
    const size_t groups = (count + LOCAL_GROUP - 1) / LOCAL_GROUP;
    local_job job = {
        .self = self, .begin = begin, .count = count, .content = content, .user = user, .out = out};
    job.statuses = memory_allocate_zeroed(groups, sizeof *job.statuses);
    job.errors = memory_allocate_zeroed(groups, sizeof *job.errors);
    xai_status status = job.statuses == NULL || job.errors == NULL
                            ? error_memory(error, "groups of edits", groups * sizeof *job.errors)
                            : XAI_OK;
    const int threads = self->threads > 0 ? self->threads : parallel_processors();
    if (status == XAI_OK)
        parallel_for(threads, groups, run_groups, &job);
    for (size_t g = 0; job.statuses != NULL && job.errors != NULL && g < groups; g++) {
        if (status == XAI_OK && job.statuses[g] != XAI_OK) {
            status = job.statuses[g];
            if (error != NULL && *error == NULL) {
                *error = job.errors[g];
                job.errors[g] = NULL;
            }
        }
        xai_error_free(job.errors[g]);
    }
    memory_free(job.statuses);
    memory_free((void *)job.errors);
    return status;
}
