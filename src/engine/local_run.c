/* Computing local edits, a group of boxes at a time. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/parallel.h"
#include "engine/local_private.h"

static void pool(const box_group *at, const local_step *step, float *to)
{
    const local_value *in = &at->self->values[step->inputs[0]],
                      *out = &at->self->values[step->output];
    const bool is_max = step->kind == LOCAL_MAX_POOL;
    size_t size[2];
    window w = step->geometry;
    const float *from = local_windows(at, step, is_max ? -INFINITY : 0, size);
    for (int axis = 0; axis < 2; axis++) {
        w.input[axis] = (int64_t)size[axis];
        w.output[axis] = (int64_t)out->boxes[at->at].length[axis];
        w.pad_begin[axis] = w.pad_end[axis] = 0;
    }
    const size_t count = in->planes * in->unit * size[0] * size[1],
                 made = local_box_count(out, at->at);
    for (size_t e = 0; e < at->self->group; e++) {
        if (is_max)
            kernel_max_pool(&w, from + e * count, to + e * made, NULL, out->channels,
                            (int)out->unit, 1);
        else
            kernel_average_pool(&w, false, from + e * count, to + e * made, out->channels,
                                (int)out->unit, 1);
    }
}

static xai_status convolve(const box_group *at, const local_step *step, float *to,
                           xai_error **error)
{
    const local_value *in = &at->self->values[step->inputs[0]],
                      *out = &at->self->values[step->output];
    const primitive *program = step->patches[at->at];
    const void *weights = step->weights[at->at];
    size_t size[2];
    const float *from = local_windows(at, step, 0, size);
    if (step->other != LOCAL_NONE)
        local_align(at, step->other, step->output, to);
    if (!step->single[at->at])
        return local_run_primitive(step, program, weights, from, to, at->scratch, error);
    const size_t count = in->planes * in->unit * size[0] * size[1],
                 made = local_box_count(out, at->at);
    xai_status status = XAI_OK;
    for (size_t e = 0; status == XAI_OK && e < at->self->group; e++)
        status = local_run_primitive(step, program, weights, from + e * count, to + e * made,
                                     at->scratch, error);
    return status;
}

static xai_status run_step(const box_group *at, const local_step *step, float *to,
                           xai_error **error)
{
    const local_value *out = &at->self->values[step->output];
    const size_t count = local_box_count(out, at->at), *length = out->boxes[at->at].length;
    const float *from;
    switch (step->kind) {
    case LOCAL_CONVOLUTION:
        return convolve(at, step, to, error);
    case LOCAL_SCALE_SHIFT:
        for (size_t e = 0; e < at->self->group; e++) {
            int64_t place[2];
            local_place(out, at->at, at->edits[e], place);
            const stretch of = {place[0], place[1], length[0], length[1]};
            local_gather_scaled(at, step, e, &of, to + e * count);
        }
        break;
    case LOCAL_ACTIVATION:
        from = local_aligned(at, step->inputs[0], step->output, at->patches);
        kernel_activate(&step->f, from, to, at->self->group * count, 1);
        break;
    case LOCAL_ADD:
        from = local_aligned(at, step->inputs[0], step->output, at->patches);
        kernel_add(
            from,
            local_aligned(at, step->inputs[1], step->output, at->patches + at->self->group * count),
            to, at->self->group * count, &step->f, 1);
        break;
    case LOCAL_MAX_POOL:
    case LOCAL_AVERAGE_POOL:
        pool(at, step, to);
        break;
    case LOCAL_CONCAT:
        break; /* read piece by piece */
    }
    return XAI_OK;
}

static double box_bound(const box_group *at, size_t v)
{
    double bound = 0;
    size_t count;
    if (v == LOCAL_NONE)
        return 0;
    const size_t *pieces = local_pieces(&at->self->values[v], &v, &count);
    for (size_t i = 0; i < count; i++)
        bound = fmax(bound, at->bounds[pieces[i]]);
    return bound;
}

/* One step of a group, and the bound of its boxes. */
static xai_status compute_boxes(box_group *at, const local_step *step, xai_error **error)
{
    const local *self = at->self;
    const local_value *value = &self->values[step->output];
    const size_t count = at->self->group * local_box_count(value, at->at);
    const double input = box_bound(at, step->inputs[0]), other = box_bound(at, local_summand(step));
    double bound = local_bound(step, input, other);
    if (!local_bound_fits(local_partial_bound(step, input, other)))
        return local_overflow(self, step, error);
    float *to = at->workspace + value->starts[at->at];
    at->boxes[step->output] = to;
    const xai_status status = run_step(at, step, to, error);
    if (status == XAI_OK && local_bound_is_large(value, bound))
        bound = kernel_max_abs(to, count, 1);
    at->bounds[step->output] = fmax(bound, self->row->bounds[step->output]);
    return status != XAI_OK || local_bound_fits(bound) ? status : local_overflow(self, step, error);
}

typedef struct local_job {
    const local *self;
    size_t begin, count;
    local_content content;
    void *user;
    const local_watch *watch;
    pthread_t caller;
    double since; /* multiplications of the calling thread since it was asked */
    atomic_bool stop;
    float *const *out;
    xai_status *statuses; /* one a group */
    xai_error **errors;
} local_job;

static xai_status fill_boxes(box_group *at, const local_job *job, xai_error **error)
{
    const local *self = at->self;
    const size_t id = (size_t)self->graph->inputs[self->input], edits = self->group;
    const local_value *image = &self->values[id];
    const size_t *length = image->boxes[at->at].length;
    const size_t count = local_box_count(image, at->at), area = length[0] * length[1];
    at->boxes[id] = at->workspace + image->starts[at->at];
    for (size_t e = 0; e < edits; e++) {
        int64_t place[2];
        local_place(image, at->at, at->edits[e], place);
        const local_box box = {place[0], place[1], (int64_t)length[0], (int64_t)length[1]};
        float *to = at->boxes[id] + e * count;
        job->content(job->user, at->edits[e], &box, image->unit == 1 ? to : at->patches);
        if (image->unit != 1)
            kernel_block(at->patches, to, image->channels, area, (int)image->unit, 1);
    }
    at->bounds[id] = fmax(kernel_max_abs(at->boxes[id], edits * count, 1), self->row->bounds[id]);
    return local_bound_fits(at->bounds[id])
               ? XAI_OK
               : error_set(error, XAI_ERROR_NUMERIC, self->graph->values[id].name,
                           "an edit holds a NaN or an infinity");
}

/* The whole maps of the frontier, plain. */
static void hand_over(const box_group *at, const local_job *job, size_t first, size_t members)
{
    const local *self = at->self;
    for (size_t f = 0; f < self->frontier_count; f++) {
        const local_value *value = &self->values[self->frontier[f]];
        const size_t area = value->size[0] * value->size[1];
        const stretch whole = {0, 0, value->size[0], value->size[1]};
        for (size_t e = 0; e < members; e++) {
            float *out = job->out[f] + (first + e) * value->channels * area;
            local_gather(at, (size_t)value->id, e, &whole, 0, at->patches);
            kernel_unblock(at->patches, out, value->channels, area, (int)value->unit, 1);
        }
    }
}

/* Whether the call goes on; the caller's share of a dense evaluation is one part in as many as there are
 * threads. */
static xai_status ask(local_job *job, const box_group *at, const local_step *step,
                      xai_error **error)
{
    const local *self = job->self;
    const size_t *length = self->values[step->output].boxes[at->at].length;
    if (job->watch == NULL || !pthread_equal(pthread_self(), job->caller))
        return XAI_OK;
    job->since += local_step_cost(self, step) * (double)(self->group * length[0] * length[1]);
    if (job->since * self->threads < self->whole)
        return XAI_OK;
    job->since = 0;
    return job->watch->go_on(job->watch->user, error);
}

static xai_status run_group(local_job *job, size_t index, float *workspace, xai_error **error)
{
    const local *self = job->self;
    const size_t values = self->graph->value_count, first = index * self->group;
    const size_t members = job->count - first < self->group ? job->count - first : self->group;
    box_group at = {.self = self,
                    .at = self->class_of_group[job->begin / self->group + index],
                    .workspace = workspace,
                    .patches = workspace + self->box_floats,
                    .scratch = workspace + self->box_floats + self->patch_floats};
    for (size_t e = 0; e < self->group; e++)
        at.edits[e] = self->order[job->begin + first + (e < members ? e : members - 1)];
    at.boxes = memory_allocate_zeroed(values, sizeof *at.boxes);
    at.bounds = memory_allocate_zeroed(values, sizeof *at.bounds);
    xai_status status = at.boxes == NULL || at.bounds == NULL
                            ? error_memory(error, "boxes", values * sizeof *at.boxes)
                            : fill_boxes(&at, job, error);
    for (size_t s = 0; status == XAI_OK && s < self->step_count && !atomic_load(&job->stop); s++) {
        if (self->steps[s].kind == LOCAL_CONCAT)
            continue;
        status = compute_boxes(&at, &self->steps[s], error);
        if (status == XAI_OK)
            status = ask(job, &at, &self->steps[s], error);
    }
    if (status != XAI_OK)
        atomic_store(&job->stop, true);
    else if (!atomic_load(&job->stop))
        hand_over(&at, job, first, members);
    memory_free((void *)at.boxes);
    memory_free(at.bounds);
    return status;
}

/* Thread t of the team takes every so manyeth group. */
static void run_groups(void *user, size_t begin, size_t end)
{
    local_job *job = user;
    const local *self = job->self;
    const size_t groups = (job->count + self->group - 1) / self->group;
    const size_t floats = local_workspace_floats(self);
    for (size_t t = begin; t < end; t++) {
        if (self->workspaces[t] == NULL)
            self->workspaces[t] = memory_allocate_aligned(floats * sizeof(float));
        for (size_t g = t; g < groups; g += (size_t)self->threads)
            job->statuses[g] = self->workspaces[t] != NULL
                                   ? run_group(job, g, self->workspaces[t], &job->errors[g])
                                   : error_memory(&job->errors[g], "boxes", floats * sizeof(float));
    }
}

xai_status local_run(local *self, size_t begin, size_t count, local_content content, void *user,
                     const local_watch *watch, float *const *out, xai_error **error)
{
    const size_t groups = (count + self->group - 1) / self->group;
    local_job job = {.self = self,
                     .begin = begin,
                     .count = count,
                     .content = content,
                     .user = user,
                     .watch = watch,
                     .caller = pthread_self(),
                     .out = out};
    atomic_init(&job.stop, false);
    job.statuses = memory_allocate_zeroed(groups, sizeof *job.statuses);
    job.errors = memory_allocate_zeroed(groups, sizeof *job.errors);
    xai_status status = job.statuses == NULL || job.errors == NULL
                            ? error_memory(error, "groups of edits", groups * sizeof *job.errors)
                            : XAI_OK;
    parallel_wake(self->threads);
    if (status == XAI_OK)
        parallel_for(self->threads, (size_t)self->threads, run_groups, &job);
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
