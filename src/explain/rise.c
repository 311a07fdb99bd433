/* RISE (Petsiuk et al. 2018): N random masks m, made of cells that are open with chance p, upsampled
 * linearly and shifted by less than a cell:
 *   values[pixel] = 1 / (N p) sum_n f(m_n x + (1 - m_n) baseline) m_n[pixel]
 * the mean score over masks, weighted by how far they show the pixel. A channel's value is an equal
 * part of its pixel's. Between two tokens there is nothing: each is shown with chance p by itself. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/random.h"
#include "explain/masking.h"

enum { DRAW_CELLS = 0x180, DRAW_SHIFT };

typedef struct rise_job {
    explainer *self;
    attribution_inputs inputs;
    size_t part; /* the input that is masked */
    spatial space;
    bool tokens;    /* it holds integers */
    masking hidden; /* for tokens */
    size_t samples, cells, row, target_count;
    double chance;
    uint64_t seed;
    fixed_score *scores;
    float **original, **absent; /* [part] */
    float *mask;                /* of the variant whose turn it is (pixels) */
    double *sums;               /* (T, pixels): of (score - the row's own) x mask */
    double *squares;            /* (T, pixels): of (score x mask / p)^2 */
    double *totals;             /* (T): of scores - the row's own */
    double *masks;              /* (pixels): of masks */
    size_t used;
    double tolerance;
} rise_job;

/* The score of the row itself. Sums are of differences from it: scores that are all alike leave
 * exact zeros, which rounding would otherwise stretch to a map. */
static double own_score(const rise_job *job, size_t t)
{
    return job->scores[job->row * job->target_count + t].score;
}

/* 1 / (N p) sum_n f(m_n x) m_n[pixel] over the n masks so far. */
static double mean_shown(const rise_job *job, size_t t, size_t p)
{
    const size_t pixels = job->space.pixels;
    return (job->sums[t * pixels + p] + own_score(job, t) * job->masks[p]) /
           ((double)job->used * job->chance);
}

/* Value of the open or closed cells at a place, linear between their centres. `at` is in cells. */
static double cell(const rise_job *job, uint64_t stream, size_t index)
{
    return random_uniform(job->seed, stream, index) < job->chance ? 1 : 0;
}

/* Mask n at the resolution of the picture. The grid has one cell more than `cells` along each axis
 * and is shifted by a random part of a cell, so no place is special. */
static bool make_mask(const rise_job *job, size_t n, float *mask)
{
    const spatial *space = &job->space;
    const size_t side = job->cells + 2;
    size_t dims[3] = {1, 1, 1}, count = 1;
    double shift[3] = {0, 0, 0};
    const uint64_t stream = random_stream(DRAW_CELLS, (uint32_t)n);
    for (size_t p = 0; job->tokens && p < space->pixels; p++)
        mask[p] = (float)cell(job, stream, p);
    if (job->tokens)
        return true;
    for (int axis = 0; axis < space->rank; axis++) {
        dims[3 - space->rank + axis] = (size_t)space->dims[axis];
        shift[3 - space->rank + axis] =
            random_uniform(job->seed, random_stream(DRAW_SHIFT, (uint32_t)n), (uint64_t)axis);
        count *= side;
    }
    uint8_t *open = memory_allocate(count, 1);
    if (open == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        open[i] = cell(job, stream, i) > 0;
    size_t p = 0;
    for (size_t z = 0; z < dims[0]; z++)
        for (size_t y = 0; y < dims[1]; y++)
            for (size_t x = 0; x < dims[2]; x++, p++) {
                const size_t place[3] = {z, y, x};
                size_t low[3] = {0, 0, 0};
                double part[3] = {0, 0, 0}, value = 0;
                for (int axis = 3 - space->rank; axis < 3; axis++) {
                    const double at =
                        ((double)place[axis] + 0.5) / (double)dims[axis] * (double)job->cells +
                        shift[axis];
                    low[axis] = (size_t)at;
                    part[axis] = at - (double)low[axis];
                }
                for (int corner = 0; corner < 8; corner++) {
                    double weight = 1;
                    size_t index = 0;
                    for (int axis = 3 - space->rank; axis < 3; axis++) {
                        const bool high = (corner >> axis & 1) != 0;
                        weight *= high ? part[axis] : 1 - part[axis];
                        index = index * side + low[axis] + high;
                    }
                    bool extra = false; /* corners along axes that are not there */
                    for (int axis = 0; axis < 3 - space->rank; axis++)
                        extra = extra || (corner >> axis & 1) != 0;
                    if (!extra && open[index])
                        value += weight;
                }
                mask[p] = (float)value;
            }
    memory_free(open);
    return true;
}

static xai_status fill(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const rise_job *job = user;
    const batch *rows = job->inputs.rows;
    const spatial *space = &job->space;
    const size_t count = job->inputs.sizes[job->part];
    for (size_t i = 0; i < job->inputs.count; i++)
        variants_copy_row(rows, job->row, i, &inputs[i]);
    float *mask = memory_allocate(space->pixels + count, sizeof *mask);
    if (mask == NULL || !make_mask(job, job->used + index, mask)) {
        memory_free(mask);
        return error_memory(error, "a mask", space->pixels * sizeof *mask);
    }
    for (size_t p = 0; job->tokens && p < space->pixels; p++)
        if (mask[p] == 0)
            masking_hide(&job->hidden, job->part, p, &inputs[job->inputs.inputs[job->part]]);
    if (job->tokens) {
        memory_free(mask);
        return XAI_OK;
    }
    float *values = mask + space->pixels;
    memcpy(values, job->original[job->part], count * sizeof *values);
    for (size_t c = 0; c < space->channels; c++)
        for (size_t p = 0; p < space->pixels; p++) {
            const size_t at = space->offset + c * space->channel_stride + p * space->pixel_stride;
            const float absent = job->absent[job->part][at];
            values[at] = absent + mask[p] * (values[at] - absent);
        }
    tensor_write_floats(&inputs[job->inputs.inputs[job->part]], values);
    memory_free(mask);
    return XAI_OK;
}

static xai_status add_score(void *user, const variant *of, xai_error **error)
{
    rise_job *job = user;
    const size_t pixels = job->space.pixels;
    if (!make_mask(job, job->used + of->index, job->mask))
        return error_memory(error, "a mask", pixels * sizeof *job->mask);
    for (size_t t = 0; t < job->target_count; t++) {
        double *sums = job->sums + t * pixels, *squares = job->squares + t * pixels;
        const double score = of->scores[t] / job->chance;
        const double change = of->scores[t] - own_score(job, t);
        for (size_t p = 0; p < pixels; p++) {
            const double shown = score * job->mask[p];
            sums[p] += change * job->mask[p];
            squares[p] += shown * shown;
        }
        job->totals[t] += change;
    }
    for (size_t p = 0; p < pixels; p++)
        job->masks[p] += job->mask[p];
    return XAI_OK;
}

/* Norm of the standard errors over the norm of how far the map is from its mean; a map is read by
 * its differences. */
static double relative_error(const rise_job *job, size_t t)
{
    const size_t pixels = job->space.pixels, n = job->used;
    double errors = 0, values = 0, mean = 0;
    for (size_t p = 0; p < pixels; p++)
        mean += mean_shown(job, t, p) / (double)pixels;
    for (size_t p = 0; p < pixels; p++) {
        const double value = mean_shown(job, t, p);
        errors += (job->squares[t * pixels + p] / (double)n - value * value) / ((double)n - 1);
        values += (value - mean) * (value - mean);
    }
    return n > 1 && values > 0 ? sqrt(fmax(errors, 0) / values) : INFINITY;
}

static bool all_reached(const rise_job *job)
{
    for (size_t t = 0; t < job->target_count; t++)
        if (!(relative_error(job, t) <= job->tolerance))
            return false;
    return true;
}

static xai_status run_masks(rise_job *job, xai_error **error)
{
    enum { ROUND = 256 };
    xai_status status = XAI_OK;
    while (status == XAI_OK && job->used < job->samples) {
        size_t round = job->samples - job->used;
        if (job->tolerance > 0 && round > ROUND)
            round = ROUND;
        const variants what = {.rows = job->inputs.rows,
                               .row = job->row,
                               .count = round,
                               .scores = job->scores + job->row * job->target_count,
                               .score_count = job->target_count,
                               .fill = fill,
                               .body = add_score,
                               .user = job};
        status = evaluator_run_variants(&job->self->engine, &what, error);
        job->used += round;
        if (status == XAI_OK && job->tolerance > 0 && all_reached(job))
            break;
    }
    return status;
}

/* The picture to look at: mean score with the pixel shown, less the mean score of all masks; 0 for
 * a pixel that no mask has shown. */
static void centre_map(const rise_job *job, size_t t, float *map)
{
    const size_t pixels = job->space.pixels;
    const double n = (double)job->used, mean = job->totals[t] / n;
    for (size_t p = 0; p < pixels; p++)
        map[p] = job->masks[p] > 0 ? (float)(job->sums[t * pixels + p] / job->masks[p] - mean) : 0;
}

static xai_status store_target(rise_job *job, size_t t, explanation *out, float *centred,
                               xai_error **error)
{
    const spatial *space = &job->space;
    const size_t count = job->inputs.sizes[job->part], row = job->row;
    const double n = (double)job->used, parts = (double)space->channels;
    double *values = memory_allocate_zeroed(count, sizeof *values);
    if (values == NULL)
        return error_memory(error, "a map", count * sizeof *values);
    float *errors = (float *)out->parts[job->part].standard_error.data + row * count;
    for (size_t c = 0; c < space->channels; c++)
        for (size_t p = 0; p < space->pixels; p++) {
            const size_t at = space->offset + c * space->channel_stride + p * space->pixel_stride;
            const double mean = mean_shown(job, t, p);
            const double spread = job->squares[t * space->pixels + p] / n - mean * mean;
            values[at] = mean / parts;
            errors[at] = (float)(job->used > 1 ? sqrt(fmax(spread, 0) / (n - 1)) / parts : NAN);
        }
    xai_status status = attribution_store(out, job->part, row, count, values, error);
    memory_free(values);
    centre_map(job, t, centred + row * space->pixels);
    const fixed_score *fixed = &job->scores[row * job->target_count + t];
    if (status == XAI_OK)
        status = explanation_set_facts(out, job->self->engine.of, row, &fixed->chosen,
                                       fixed->source.output, fixed->score, (int64_t)job->used + 1,
                                       error);
    const double relative = relative_error(job, t);
    out->samples[row] = (int64_t)job->used;
    out->relative_errors[row] = relative;
    if (status != XAI_OK || !(job->tolerance > 0))
        return status;
    out->converged[row] = relative <= job->tolerance;
    if (!out->converged[row])
        status = explanation_warn(out, (int64_t)row, error,
                                  "row %zu: the tolerance %g was not reached: the relative "
                                  "standard error is %.3g after %zu masks; give more samples",
                                  row, job->tolerance, relative, job->used);
    return status;
}

static xai_status explain_row(rise_job *job, size_t row, explanation **out, float **centred,
                              xai_error **error)
{
    const size_t pixels = job->space.pixels;
    job->row = row;
    job->used = 0;
    for (size_t p = 0; p < job->inputs.part_count; p++)
        attribution_read_row(&job->inputs, row, p, job->original[p]);
    xai_status status = masking_begin(&job->hidden, row, error);
    memset(job->sums, 0, job->target_count * pixels * sizeof *job->sums);
    memset(job->squares, 0, job->target_count * pixels * sizeof *job->squares);
    memset(job->totals, 0, job->target_count * sizeof *job->totals);
    memset(job->masks, 0, pixels * sizeof *job->masks);
    if (status == XAI_OK)
        status = baseline_row(&job->inputs, job->self, row, job->absent, error);
    if (status == XAI_OK)
        status = run_masks(job, error);
    for (size_t t = 0; status == XAI_OK && t < job->target_count; t++)
        status = store_target(job, t, out[t], centred[t], error);
    return status;
}

static bool holds_integers(const rise_job *job, size_t part)
{
    return !dtype_is_float(job->inputs.rows->inputs[job->inputs.inputs[part]]->dtype);
}

/* The first input with spatial axes, else the first of tokens. */
static xai_status choose_part(rise_job *job, xai_error **error)
{
    const size_t parts = job->inputs.part_count;
    size_t part = 0;
    while (part < parts && job->inputs.spaces[part].rank == 0)
        part++;
    if (part < parts && holds_integers(job, part))
        return error_set(error, XAI_ERROR_UNSUPPORTED, "rise",
                         "it blends the input with the baseline, and there is nothing between "
                         "integers: use kernel_shap, partition_shap, lime or occlusion");
    job->space = part < parts ? job->inputs.spaces[part] : (spatial){0};
    for (size_t p = 0; part == parts && p < parts; p++)
        if (holds_integers(job, p)) {
            job->space = spatial_sequence(job->inputs.sizes[p]);
            job->tokens = true;
            part = p;
        }
    job->part = part;
    if (part == parts)
        return error_set(error, XAI_ERROR_UNSUPPORTED, "rise",
                         "no input of the model has spatial axes to mask, nor tokens");
    return XAI_OK;
}

static xai_status allocate(rise_job *job, xai_error **error)
{
    const size_t parts = job->inputs.part_count;
    const xai_status status = choose_part(job, error);
    if (status != XAI_OK)
        return status;
    const size_t pixels = job->space.pixels;
    size_t maps = 0;
    job->original = memory_allocate_zeroed(parts, sizeof *job->original);
    job->absent = memory_allocate_zeroed(parts, sizeof *job->absent);
    job->scores = memory_allocate(job->inputs.rows->rows * job->target_count, sizeof *job->scores);
    if (size_multiply(job->target_count, pixels, &maps)) {
        job->sums = memory_allocate(maps, sizeof *job->sums);
        job->squares = memory_allocate(maps, sizeof *job->squares);
    }
    job->mask = memory_allocate(pixels, sizeof *job->mask);
    job->masks = memory_allocate(pixels, sizeof *job->masks);
    job->totals = memory_allocate(job->target_count, sizeof *job->totals);
    bool done = job->original != NULL && job->absent != NULL && job->scores != NULL &&
                job->sums != NULL && job->squares != NULL && job->mask != NULL &&
                job->masks != NULL && job->totals != NULL;
    for (size_t p = 0; done && p < parts; p++) {
        job->original[p] = memory_allocate(job->inputs.sizes[p], sizeof(float));
        job->absent[p] = memory_allocate(job->inputs.sizes[p], sizeof(float));
        done = job->original[p] != NULL && job->absent[p] != NULL;
    }
    return done ? XAI_OK : error_memory(error, "masks", maps * sizeof *job->sums);
}

static void free_job(rise_job *job)
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
    memory_free(job->sums);
    memory_free(job->squares);
    memory_free(job->mask);
    memory_free(job->masks);
    memory_free(job->totals);
    masking_free(&job->hidden);
    attribution_inputs_free(&job->inputs);
}

static xai_status rise_explain(explainer *self, const batch *rows, const xai_target *const *targets,
                               size_t target_count, explanation **out, xai_error **error)
{
    rise_job job = {.self = self,
                    .target_count = target_count,
                    .samples = explainer_count(self, "samples"),
                    .cells = explainer_count(self, "cells"),
                    .chance = explainer_number(self, "chance"),
                    .tolerance = explainer_number(self, "tolerance"),
                    .seed = explainer_count(self, "seed")};
    float **centred = memory_allocate_zeroed(target_count, sizeof *centred);
    xai_status status = masking_inputs_init(&job.inputs, self, rows, error);
    if (status == XAI_OK && centred == NULL)
        status = error_memory(error, "maps", target_count * sizeof *centred);
    if (status == XAI_OK)
        status = allocate(&job, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
        const size_t pixels = job.space.pixels;
        char made[80];
        if (job.tokens)
            snprintf(made, sizeof made, "random masks of %zu tokens, each shown with chance %g",
                     pixels, job.chance);
        else
            snprintf(made, sizeof made, "random masks of %zu cells an axis, open with chance %g",
                     job.cells, job.chance);
        centred[t] = memory_allocate(rows->rows * pixels, sizeof **centred);
        if (centred[t] == NULL)
            status = error_memory(error, "maps", rows->rows * pixels * sizeof **centred);
        if (status == XAI_OK)
            status = attribution_create(&job.inputs, self, true, &out[t], error);
        if (status == XAI_OK)
            status = explanation_set_features(out[t], made, error);
    }
    if (status == XAI_OK)
        status = masking_init(&job.hidden, &job.inputs, self, out, target_count, error);
    evaluator_expect(&self->engine, rows->runs + rows->rows * job.samples);
    if (status == XAI_OK)
        status = evaluator_fix_scores(&self->engine, rows, targets, target_count, self->score,
                                      job.scores, error);
    for (size_t row = 0; status == XAI_OK && row < rows->rows; row++)
        status = explain_row(&job, row, out, centred, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++)
        status = job.tokens
                     ? attribution_finish(&job.inputs, self, true, out[t], error)
                     : attribution_finish_maps(&job.inputs, centred[t], job.part, out[t], error);
    for (size_t t = 0; centred != NULL && t < target_count; t++)
        memory_free(centred[t]);
    memory_free((void *)centred);
    free_job(&job);
    return status;
}

static const option_definition rise_options[] = {
    OPTION_SAMPLES(4000),
    OPTION_SEED,
    OPTION_TOLERANCE("stop when the norm of the standard errors is this part of the norm of the "
                     "map's differences; 0 = use all samples"),
    OPTION_BASELINE,
    {.name = "cells",
     .kinds = OPTION_NUMBER,
     .number = 7,
     .lowest = 1,
     .highest = 1000,
     .whole = true,
     .text = "7",
     .description = "cells of a mask along each axis"},
    {.name = "chance",
     .kinds = OPTION_NUMBER,
     .number = 0.5,
     .lowest = 0.001,
     .highest = 0.999,
     .text = "0.5",
     .description = "that a cell is open"},
    {0}};

const method_definition method_rise = {
    .name = "rise",
    .description = "RISE (Petsiuk et al. 2018): mean score over random masks that show the pixel",
    .explain = rise_explain,
    .options = rise_options,
};
