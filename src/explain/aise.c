/* AISE (adaptive input sampling for explanations, Tang et al. 2024): Gaussian windows are proposed by
 * a global optimiser (DIRECT, Jones et al. 1993) that looks for the place where the score kept is
 * highest, for several widths; the map is the density of the windows weighted by their scores.
 *   f(w) = S(baseline + w (x - baseline)) - S(baseline)            w = Gaussian window, peak 1
 *   map = mean over windows of max(f(w), 0) w
 * The optimiser is deterministic: no random numbers. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "explain/baseline.h"

enum { WIDTHS = 3 };
static const double widths[WIDTHS] = {0.1, 0.175, 0.25}; /* sigma, parts of the shorter side */

/* A box of the search space [0, 1]^rank: its centre, the number of trisections of each axis, and the
 * score at the centre. */
typedef struct search_box {
    double centre[MAP_MAX_RANK];
    int depth[MAP_MAX_RANK];
    double score;
} search_box;

typedef struct proposal {
    double centre[MAP_MAX_RANK], sigma;
} proposal;

typedef struct aise_job {
    explainer *self;
    attribution_inputs inputs;
    size_t part, samples, row, target_count;
    fixed_score *scores;        /* (N, T) */
    float **original, **absent; /* [part] */
    const proposal *asked;      /* of the variants that run now */
    search_box *boxes;
    size_t box_count;
    double *sums; /* (pixels) */
    size_t evaluations;
    double empty;
} aise_job;

static double window_at(const aise_job *job, const proposal *of, size_t p)
{
    const spatial *space = &job->inputs.spaces[job->part];
    double away = 0, shorter = INFINITY;
    for (int axis = 0; axis < space->rank; axis++)
        shorter = fmin(shorter, (double)space->dims[axis]);
    for (int axis = space->rank; axis-- > 0;) {
        const size_t length = (size_t)space->dims[axis];
        const double d = (double)(p % length) + 0.5 - of->centre[axis] * (double)length;
        away += d * d;
        p /= length;
    }
    const double sigma = of->sigma * shorter;
    return exp(-away / (2 * sigma * sigma));
}

/* A proposal of sigma 0 shows nothing. */
static xai_status fill(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const aise_job *job = user;
    const spatial *space = &job->inputs.spaces[job->part];
    const size_t count = job->inputs.sizes[job->part];
    const proposal *of = &job->asked[index];
    for (size_t i = 0; i < job->inputs.count; i++)
        variants_copy_row(job->inputs.rows, job->row, i, &inputs[i]);
    float *values = memory_copy(job->absent[job->part], count * sizeof *values);
    if (values == NULL)
        return error_memory(error, "a masked row", count * sizeof *values);
    for (size_t p = 0; of->sigma > 0 && p < space->pixels; p++) {
        const float shown = (float)window_at(job, of, p);
        for (size_t c = 0; c < space->channels; c++) {
            const size_t at = space->offset + c * space->channel_stride + p * space->pixel_stride;
            values[at] += shown * (job->original[job->part][at] - values[at]);
        }
    }
    tensor_write_floats(&inputs[job->inputs.inputs[job->part]], values);
    memory_free(values);
    return XAI_OK;
}

static xai_status evaluate(aise_job *job, const fixed_score *score, const proposal *asked,
                           size_t count, double *out, xai_error **error)
{
    const variants what = {.rows = job->inputs.rows,
                           .row = job->row,
                           .count = count,
                           .scores = score,
                           .score_count = 1,
                           .fill = fill,
                           .user = job};
    job->asked = asked;
    job->evaluations += count;
    return evaluator_scores_of(&job->self->engine, &what, out, error);
}

static void add_window(aise_job *job, const proposal *of, double score)
{
    const size_t pixels = job->inputs.spaces[job->part].pixels;
    const double kept = fmax(score - job->empty, 0);
    for (size_t p = 0; p < pixels && kept > 0; p++)
        job->sums[p] += kept * window_at(job, of, p);
}

static double half_diagonal(const search_box *of, int rank)
{
    double sum = 0;
    for (int axis = 0; axis < rank; axis++)
        sum += pow(9, -of->depth[axis]);
    return sqrt(sum) / 2;
}

/* Boxes that could hold the best score for some rate of change: for each size the best box, and of
 * these the upper convex hull over size (DIRECT). Marks them. */
static size_t choose_boxes(const aise_job *job, int rank, size_t *chosen)
{
    size_t count = 0;
    double last = INFINITY;
    for (;;) { /* from the largest size down: the best box of each */
        double size = -1;
        size_t best = SIZE_MAX;
        for (size_t b = 0; b < job->box_count; b++) {
            const double own = half_diagonal(&job->boxes[b], rank);
            if (own < last * (1 - 1e-9) && own > size * (1 + 1e-9)) {
                size = own;
                best = b;
            } else if (best != SIZE_MAX && fabs(own - size) <= 1e-9 * size &&
                       job->boxes[b].score > job->boxes[best].score) {
                best = b;
            }
        }
        if (best == SIZE_MAX)
            break;
        last = size;
        chosen[count++] = best;
    }
    /* Hull: walking to smaller boxes, the score must rise, and by ever steeper steps. */
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        const search_box *box = &job->boxes[chosen[i]];
        if (kept > 0 && box->score <= job->boxes[chosen[kept - 1]].score)
            continue;
        while (kept > 1) {
            const search_box *a = &job->boxes[chosen[kept - 2]], *b = &job->boxes[chosen[kept - 1]];
            const double da = half_diagonal(a, rank), db = half_diagonal(b, rank),
                         dc = half_diagonal(box, rank);
            if ((b->score - a->score) * (db - dc) > (box->score - b->score) * (da - db))
                break;
            kept--;
        }
        chosen[kept++] = chosen[i];
    }
    return kept;
}

/* Third a box along its longest axis: two new boxes, whose scores are not known yet. */
static void third(aise_job *job, size_t index, int rank)
{
    search_box *box = &job->boxes[index];
    int axis = 0;
    for (int a = 1; a < rank; a++)
        axis = box->depth[a] < box->depth[axis] ? a : axis;
    box->depth[axis]++;
    const double step = pow(3, -box->depth[axis]);
    for (int side = -1; side <= 1; side += 2) {
        search_box *made = &job->boxes[job->box_count++];
        *made = *box;
        made->centre[axis] += side * step;
    }
}

/* `samples` windows of one width. */
static xai_status search(aise_job *job, const fixed_score *score, double sigma, size_t samples,
                         xai_error **error)
{
    const int rank = job->inputs.spaces[job->part].rank;
    size_t *chosen = memory_allocate(samples + 2, sizeof *chosen);
    proposal *asked = memory_allocate(samples + 2, sizeof *asked);
    double *found = memory_allocate(samples + 2, sizeof *found);
    xai_status status = chosen == NULL || asked == NULL || found == NULL
                            ? error_memory(error, "windows", samples * sizeof *asked)
                            : XAI_OK;
    job->box_count = 1;
    job->boxes[0] = (search_box){.centre = {0.5, 0.5, 0.5}};
    size_t known = 0;
    while (status == XAI_OK) {
        const size_t fresh = job->box_count - known;
        for (size_t i = 0; i < fresh; i++) {
            asked[i].sigma = sigma;
            memcpy(asked[i].centre, job->boxes[known + i].centre, sizeof asked[i].centre);
        }
        status = evaluate(job, score, asked, fresh, found, error);
        for (size_t i = 0; status == XAI_OK && i < fresh; i++) {
            job->boxes[known + i].score = found[i];
            add_window(job, &asked[i], found[i]);
        }
        known = job->box_count;
        const size_t count = choose_boxes(job, rank, chosen);
        for (size_t i = 0; i < count && job->box_count + 2 <= samples; i++)
            third(job, chosen[i], rank);
        if (job->box_count == known)
            break;
    }
    memory_free(chosen);
    memory_free(asked);
    memory_free(found);
    return status;
}

static xai_status explain_target(aise_job *job, size_t t, explanation *out, float *maps,
                                 xai_error **error)
{
    const spatial *space = &job->inputs.spaces[job->part];
    const size_t count = job->inputs.sizes[job->part];
    const fixed_score *fixed = &job->scores[job->row * job->target_count + t];
    const proposal nothing = {.sigma = 0};
    float *map = maps + job->row * space->pixels;
    memset(job->sums, 0, space->pixels * sizeof *job->sums);
    job->evaluations = 0;
    xai_status status = evaluate(job, fixed, &nothing, 1, &job->empty, error);
    for (int w = 0; status == XAI_OK && w < WIDTHS; w++)
        status = search(job, fixed, widths[w], job->samples / WIDTHS, error);
    double *values = memory_allocate_zeroed(count, sizeof *values);
    if (status == XAI_OK && values == NULL)
        status = error_memory(error, "a map", count * sizeof *values);
    for (size_t p = 0; status == XAI_OK && p < space->pixels; p++) {
        const double density = job->sums[p] / (double)job->evaluations;
        map[p] = (float)density;
        for (size_t c = 0; c < space->channels; c++)
            values[space->offset + c * space->channel_stride + p * space->pixel_stride] =
                density / (double)space->channels;
    }
    if (status == XAI_OK)
        status = attribution_store(out, job->part, job->row, count, values, error);
    memory_free(values);
    if (status == XAI_OK)
        status = explanation_set_facts(out, job->self->engine.of, job->row, &fixed->chosen,
                                       fixed->source.output, fixed->score,
                                       (int64_t)job->evaluations + 1, error);
    out->base_values[job->row] = job->empty;
    out->samples[job->row] = (int64_t)job->evaluations;
    return status;
}

static xai_status allocate(aise_job *job, xai_error **error)
{
    const size_t parts = job->inputs.part_count;
    while (job->part < parts && job->inputs.spaces[job->part].rank == 0)
        job->part++;
    if (job->part == parts)
        return error_set(error, XAI_ERROR_UNSUPPORTED, "aise",
                         "no input of the model has spatial axes to mask");
    const size_t pixels = job->inputs.spaces[job->part].pixels;
    job->original = memory_allocate_zeroed(parts, sizeof *job->original);
    job->absent = memory_allocate_zeroed(parts, sizeof *job->absent);
    job->scores = memory_allocate(job->inputs.rows->rows * job->target_count, sizeof *job->scores);
    job->boxes = memory_allocate(job->samples + 3, sizeof *job->boxes);
    job->sums = memory_allocate(pixels, sizeof *job->sums);
    bool done = job->original != NULL && job->absent != NULL && job->scores != NULL &&
                job->boxes != NULL && job->sums != NULL;
    for (size_t p = 0; done && p < parts; p++) {
        job->original[p] = memory_allocate(job->inputs.sizes[p], sizeof(float));
        job->absent[p] = memory_allocate(job->inputs.sizes[p], sizeof(float));
        done = job->original[p] != NULL && job->absent[p] != NULL;
    }
    return done ? XAI_OK : error_memory(error, "windows", pixels * sizeof *job->sums);
}

static void free_job(aise_job *job)
{
    for (size_t p = 0; p < job->inputs.part_count; p++) {
        if (job->original != NULL)
            memory_free(job->original[p]);
        if (job->absent != NULL)
            memory_free(job->absent[p]);
    }
    memory_free((void *)job->original);
    memory_free((void *)job->absent);
    memory_free(job->scores);
    memory_free(job->boxes);
    memory_free(job->sums);
    attribution_inputs_free(&job->inputs);
}

static xai_status explain_row(aise_job *job, size_t row, explanation **out, float **maps,
                              xai_error **error)
{
    job->row = row;
    for (size_t p = 0; p < job->inputs.part_count; p++)
        attribution_read_row(&job->inputs, row, p, job->original[p]);
    xai_status status = baseline_row(&job->inputs, job->self, row, job->absent, error);
    for (size_t t = 0; status == XAI_OK && t < job->target_count; t++)
        status = explain_target(job, t, out[t], maps[t], error);
    return status;
}

static xai_status aise_explain(explainer *self, const batch *rows, const xai_target *const *targets,
                               size_t target_count, explanation **out, xai_error **error)
{
    aise_job job = {
        .self = self, .target_count = target_count, .samples = explainer_count(self, "samples")};
    float **maps = memory_allocate_zeroed(target_count, sizeof *maps);
    xai_status status = attribution_inputs_init(&job.inputs, self, rows, error);
    if (status == XAI_OK && maps == NULL)
        status = error_memory(error, "maps", target_count * sizeof *maps);
    if (status == XAI_OK)
        status = allocate(&job, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
        const size_t pixels = job.inputs.spaces[job.part].pixels;
        maps[t] = memory_allocate(rows->rows * pixels, sizeof **maps);
        if (maps[t] == NULL)
            status = error_memory(error, "maps", rows->rows * pixels * sizeof **maps);
        if (status == XAI_OK)
            status = attribution_create(&job.inputs, self, false, &out[t], error);
        if (status == XAI_OK)
            status = baseline_check(&job.inputs, self, out[t], error);
        if (status == XAI_OK)
            status = explanation_set_features(
                out[t], "Gaussian windows of 0.1, 0.175 and 0.25 of the shorter side", error);
    }
    evaluator_expect(&self->engine, rows->runs + rows->rows * target_count * (1 + job.samples));
    if (status == XAI_OK)
        status = evaluator_fix_scores(&self->engine, rows, targets, target_count, self->score,
                                      job.scores, error);
    for (size_t row = 0; status == XAI_OK && row < rows->rows; row++)
        status = explain_row(&job, row, out, maps, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++)
        status = attribution_finish_maps(&job.inputs, maps[t], job.part, out[t], error);
    for (size_t t = 0; maps != NULL && t < target_count; t++)
        memory_free(maps[t]);
    memory_free((void *)maps);
    free_job(&job);
    return status;
}

static const option_definition aise_options[] = {
    {.name = "samples",
     .kinds = OPTION_NUMBER,
     .number = 150,
     .lowest = 3,
     .highest = 1e6,
     .whole = true,
     .text = "150",
     .description = "windows a row, a third for each of three widths"},
    OPTION_BASELINE,
    {0}};

const method_definition method_aise = {
    .name = "aise",
    .description = "AISE (Tang et al. 2024): Gaussian windows proposed by a global optimiser, "
                   "weighted by the score they keep",
    .explain = aise_explain,
    .options = aise_options,
};
