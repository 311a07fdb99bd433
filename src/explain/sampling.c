#include "explain/sampling.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

/* Sums of one target and part. */
typedef struct sums {
    double *first;     /* y of the first sample, from which differences are taken */
    double *powers[4]; /* sum d, sum d^2, ... */
    double *last;      /* y of the sample before, when stratified */
    double *before;    /* and of the one before that */
    double *squares;   /* squared differences, scaled to the variance of the total */
    double *group;     /* squared differences of the stratum at work */
} sums;

typedef struct sampling_job {
    const sampling *what;
    sums *sums; /* [target * parts + part] */
    double **storage;
    double *values; /* of one part at a time */
    fixed_score *active;
    size_t *active_targets, active_count;
    size_t round, round_size, done; /* samples before this round */
    size_t group, group_size;       /* of the sample before */
} sampling_job;

enum { STORES = 9 };

static sample_place place_of(const sampling_job *job, size_t index)
{
    return (sample_place){
        .round = job->round, .index = index, .size = job->round_size, .sample = job->done + index};
}

static xai_status fill_sample(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const sampling_job *job = user;
    const sampling *what = job->what;
    const sample_place at = place_of(job, index);
    float **point = attribution_rows_create(what->inputs);
    if (point == NULL)
        return error_memory(error, "a sample", 0);
    const xai_status status = what->fill(what->user, &at, point, error);
    if (status == XAI_OK)
        attribution_write(what->inputs, what->row, (const float *const *)point, inputs);
    memory_free((void *)point);
    return status;
}

/* The variance of a sum of m samples, one a stratum, from second differences of neighbours:
 * m / (6 (m - 2)) sum (y_k - 2 y_k+1 + y_k+2)^2. They leave out how y rises from stratum to stratum,
 * which is no error of the sum; first differences, all that two samples have, take it for one. */
static void close_group(sampling_job *job)
{
    const sampling *what = job->what;
    const size_t parts = what->inputs->part_count, m = job->group_size;
    const double factor = m > 2 ? (double)m / (6 * ((double)m - 2)) : m == 2 ? 1 : NAN;
    for (size_t s = 0; m > 0 && s < job->active_count; s++) {
        for (size_t p = 0; p < parts; p++) {
            sums *to = &job->sums[job->active_targets[s] * parts + p];
            for (size_t i = 0; i < what->inputs->sizes[p]; i++) {
                to->squares[i] += factor * to->group[i];
                to->group[i] = 0;
            }
        }
    }
    job->group_size = 0;
}

static void add_values(const sampling_job *job, sums *to, size_t count, bool first)
{
    const int moments = job->what->moments;
    for (size_t i = 0; i < count; i++) {
        const double y = job->values[i];
        if (first)
            to->first[i] = y;
        const double d = y - to->first[i];
        double power = d;
        for (int k = 0; k < moments; k++) {
            to->powers[k][i] += power;
            power *= d;
        }
        if (job->what->stratified) {
            const double step = y - to->last[i], bend = step - (to->last[i] - to->before[i]);
            if (job->group_size == 1)
                to->group[i] = step * step;
            else if (job->group_size == 2)
                to->group[i] = bend * bend;
            else if (job->group_size > 2)
                to->group[i] += bend * bend;
            to->before[i] = to->last[i];
            to->last[i] = y;
        }
    }
}

static xai_status add_sample(void *user, const variant *of, xai_error **error)
{
    sampling_job *job = user;
    const sampling *what = job->what;
    const size_t parts = what->inputs->part_count;
    const sample_place at = place_of(job, of->index);
    const size_t group = what->group != NULL ? what->group(what->user, &at) : 0;
    (void)error;
    if (what->stratified && job->group_size > 0 && group != job->group)
        close_group(job);
    job->group = group;
    for (size_t s = 0; s < job->active_count; s++) {
        for (size_t p = 0; p < parts; p++) {
            what->value(what->user, &at, p, of->gradients[s * parts + p], of->values[p],
                        job->values);
            add_values(job, &job->sums[job->active_targets[s] * parts + p], of->counts[p],
                       at.sample == 0);
        }
    }
    job->group_size++;
    return XAI_OK;
}

static void finish_mean(size_t count, double first, const double *powers, double *mean,
                        double *error)
{
    const double n = (double)count;
    *mean = first + powers[0] / n;
    const double variance = (powers[1] - powers[0] * powers[0] / n) / (n - 1);
    *error = count > 1 ? sqrt(fmax(variance, 0) / n) : NAN;
}

/* Means into sums.group (no longer needed), errors into sums.last; returns whether the relative
 * error is within the tolerance. */
static bool finish_target(const sampling_job *job, size_t target, size_t count, double *mean_norm,
                          double *error_norm, double *const *means, double *const *errors)
{
    const sampling *what = job->what;
    const size_t parts = what->inputs->part_count;
    *mean_norm = *error_norm = 0;
    for (size_t p = 0; p < parts; p++) {
        const sums *from = &job->sums[target * parts + p];
        for (size_t i = 0; i < what->inputs->sizes[p]; i++) {
            double powers[4] = {0}, mean, error;
            for (int k = 0; k < what->moments; k++)
                powers[k] = from->powers[k][i];
            if (what->finish != NULL)
                what->finish(count, from->first[i], powers, &mean, &error);
            else
                finish_mean(count, from->first[i], powers, &mean, &error);
            if (what->stratified)
                error = sqrt(from->squares[i]) / (double)count;
            means[p][i] = mean;
            errors[p][i] = error;
            *mean_norm += mean * mean;
            *error_norm += error * error;
        }
    }
    return sqrt(*error_norm) <= what->tolerance * sqrt(*mean_norm);
}

static xai_status store(const sampling_job *job, explanation *out, size_t count, int8_t converged,
                        double *const *means, double *const *errors, xai_error **error)
{
    const sampling *what = job->what;
    xai_status status = XAI_OK;
    for (size_t p = 0; status == XAI_OK && p < what->inputs->part_count; p++) {
        status = attribution_store(out, p, what->row, what->inputs->sizes[p], means[p], error);
        if (status == XAI_OK && out->parts[p].standard_error.data != NULL)
            attribution_store_error(out, p, what->row, what->inputs->sizes[p], errors[p]);
    }
    out->samples[what->row] = (int64_t)count;
    out->converged[what->row] = converged;
    return status;
}

static xai_status run_round(sampling_job *job, xai_error **error)
{
    const sampling *what = job->what;
    variants wanted = {.row = what->row,
                       .count = job->round_size,
                       .scores = job->active,
                       .score_count = job->active_count,
                       .with_values = true,
                       .fill = fill_sample,
                       .body = add_sample,
                       .user = job};
    attribution_prepare(what->inputs, &wanted);
    const xai_status status = evaluator_run_variants(&what->self->engine, &wanted, error);
    if (status == XAI_OK && what->stratified)
        close_group(job);
    return status;
}

static void job_free(sampling_job *job)
{
    memory_free(job->sums);
    memory_free((void *)job->storage);
    memory_free(job->values);
    memory_free(job->active);
    memory_free(job->active_targets);
}

static xai_status job_init(sampling_job *job, const sampling *what, const fixed_score *scores,
                           size_t target_count, xai_error **error)
{
    const size_t parts = what->inputs->part_count;
    size_t largest = 1;
    *job = (sampling_job){.what = what};
    for (size_t p = 0; p < parts; p++)
        largest = what->inputs->sizes[p] > largest ? what->inputs->sizes[p] : largest;
    job->sums = memory_allocate_zeroed(target_count * parts, sizeof *job->sums);
    job->storage = attribution_sums_create(what->inputs, target_count * STORES);
    job->values = memory_allocate(largest, sizeof *job->values);
    job->active = memory_allocate(target_count, sizeof *job->active);
    job->active_targets = memory_allocate(target_count, sizeof *job->active_targets);
    if (job->sums == NULL || job->storage == NULL || job->values == NULL || job->active == NULL ||
        job->active_targets == NULL)
        return error_memory(error, "sums of samples", 0);
    for (size_t t = 0; t < target_count; t++) {
        for (size_t p = 0; p < parts; p++) {
            double **from = job->storage + t * STORES * parts + p;
            job->sums[t * parts + p] =
                (sums){.first = from[0],
                       .powers = {from[parts], from[2 * parts], from[3 * parts], from[4 * parts]},
                       .last = from[5 * parts],
                       .before = from[6 * parts],
                       .squares = from[7 * parts],
                       .group = from[8 * parts]};
        }
        job->active[t] = scores[t];
        job->active_targets[t] = t;
    }
    job->active_count = target_count;
    return XAI_OK;
}

xai_status sampling_run(const sampling *self, const fixed_score *scores, size_t target_count,
                        explanation **out, size_t *used, xai_error **error)
{
    sampling_job job;
    double **results = attribution_sums_create(self->inputs, 2);
    xai_status status = job_init(&job, self, scores, target_count, error);
    *used = 0;
    if (status == XAI_OK && results == NULL)
        status = error_memory(error, "means of samples", 0);
    const bool in_rounds = self->tolerance > 0;
    while (status == XAI_OK && job.active_count > 0) {
        const size_t left = self->samples - job.done;
        job.round_size = !in_rounds || left < SAMPLING_ROUND ? left : SAMPLING_ROUND;
        if (in_rounds && self->round > 0)
            job.round_size = sampling_whole_round(self->round, self->samples, job.done);
        status = run_round(&job, error);
        job.done += job.round_size;
        job.round++;
        size_t kept = 0;
        for (size_t s = 0; status == XAI_OK && s < job.active_count; s++) {
            const size_t t = job.active_targets[s];
            double mean, deviation;
            const bool reached = finish_target(&job, t, job.done, &mean, &deviation, results,
                                               results + self->inputs->part_count) &&
                                 in_rounds;
            if (reached || job.done == self->samples) {
                status = store(&job, out[t], job.done, in_rounds ? reached : -1, results,
                               results + self->inputs->part_count, error);
            } else {
                job.active[kept] = job.active[s];
                job.active_targets[kept++] = t;
            }
        }
        job.active_count = kept;
    }
    *used = job.done;
    memory_free((void *)results);
    job_free(&job);
    return status;
}

xai_status sampling_warn(const explainer *self, explanation *out, xai_error **error)
{
    xai_status status = XAI_OK;
    for (size_t row = 0; status == XAI_OK && row < out->rows; row++)
        if (out->converged[row] == 0)
            status = explanation_warn(
                out, (int64_t)row, error,
                "row %zu: the tolerance %g of the relative standard error was not reached with "
                "%lld samples; give more",
                row, explainer_number(self, "tolerance"), (long long)out->samples[row]);
    return status;
}
