#include "explain/reference_scores.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

/* Outputs larger than this together are evaluated again when they are needed. */
#define MOST_BYTES ((size_t)64 << 20)

/* One value that scores are functions of, in all references. */
typedef struct kept_output {
    int value;        /* its id */
    size_t count;     /* elements of a row of it */
    double *elements; /* (references, count) */
    bool *known;      /* (references) */
} kept_output;

typedef struct kept_outputs {
    shape *shapes; /* of the inputs of one run, that all outputs belong to */
    size_t references;
    kept_output *items;
    size_t count, bytes;
} kept_outputs;

static void clear(kept_outputs *self)
{
    for (size_t i = 0; i < self->count; i++) {
        memory_free(self->items[i].elements);
        memory_free(self->items[i].known);
    }
    memory_free(self->items);
    memory_free(self->shapes);
    *self = (kept_outputs){0};
}

static void release(void *kept)
{
    if (kept != NULL)
        clear(kept);
    memory_free(kept);
}

static bool can_keep(const explainer *self, const references *of, const attribution_inputs *inputs)
{
    return !inputs->of_layer && inputs->part_count == inputs->count &&
           references_are_shared(of, self);
}

static bool is_for(const kept_outputs *self, const references *of, const batch *rows, size_t inputs)
{
    if (self->shapes == NULL || self->references != of->count)
        return false;
    for (size_t i = 0; i < inputs; i++)
        if (!shape_equal(&self->shapes[i], &rows->shapes[i]))
            return false;
    return true;
}

/* What the explainer keeps for these references, empty when it was for inputs of other shapes. */
static kept_outputs *open_kept(explainer *self, const reference_request *what)
{
    const size_t inputs = what->inputs->count;
    const batch *rows = what->inputs->rows;
    if (self->kept == NULL) {
        self->kept = memory_allocate_zeroed(1, sizeof(kept_outputs));
        self->release = release;
    }
    kept_outputs *kept = self->kept;
    if (kept == NULL || is_for(kept, what->of, rows, inputs))
        return kept;
    clear(kept);
    kept->shapes = memory_allocate(inputs, sizeof *kept->shapes);
    for (size_t i = 0; kept->shapes != NULL && i < inputs; i++)
        kept->shapes[i] = rows->shapes[i];
    kept->references = what->of->count;
    return kept->shapes != NULL ? kept : NULL;
}

static kept_output *find_output(const kept_outputs *self, int value)
{
    for (size_t i = 0; i < self->count; i++)
        if (self->items[i].value == value)
            return &self->items[i];
    return NULL;
}

/* XAI_OK with *out NULL when it would take too much memory. */
static xai_status find_or_add(kept_outputs *self, const fixed_score *score, kept_output **out,
                              xai_error **error)
{
    const size_t rows = self->references;
    size_t count = 0, elements = 0, bytes = 0;
    *out = find_output(self, score->source.seed_value);
    if (*out != NULL || !shape_count(&score->row_shape, &count) ||
        !size_multiply(count, rows, &elements) ||
        !size_multiply(elements, sizeof(double), &bytes) || bytes > MOST_BYTES - self->bytes)
        return XAI_OK;
    kept_output *grown = memory_resize(self->items, self->count + 1, sizeof *grown);
    if (grown == NULL)
        return error_memory(error, "the scores of references", bytes);
    self->items = grown;
    kept_output made = {.value = score->source.seed_value,
                        .count = count,
                        .elements = memory_allocate(elements, sizeof(double)),
                        .known = memory_allocate_zeroed(rows, sizeof(bool))};
    if (made.elements == NULL || made.known == NULL) {
        memory_free(made.elements);
        memory_free(made.known);
        return error_memory(error, "the scores of references", bytes);
    }
    self->items[self->count] = made;
    self->bytes += bytes;
    *out = &self->items[self->count++];
    return XAI_OK;
}

/* Variants of the row that are references */
typedef struct reference_job {
    const explainer *self;
    const reference_request *what;
    const size_t *wanted;
    const fixed_score *scores;
    size_t score_count;
    const kept_outputs *kept;
} reference_job;

static xai_status fill(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const reference_job *job = user;
    float **values = attribution_rows_create(job->what->inputs);
    if (values == NULL)
        return error_memory(error, "a reference", 0);
    references_read(job->what->of, job->self, job->wanted[index], values);
    attribution_write(job->what->inputs, job->what->row, (const float *const *)values, inputs);
    memory_free((void *)values);
    return XAI_OK;
}

static xai_status keep(void *user, const variant *of, xai_error **error)
{
    const reference_job *job = user;
    (void)error;
    for (size_t t = 0; t < job->score_count; t++) {
        kept_output *to = find_output(job->kept, job->scores[t].source.seed_value);
        const size_t index = job->wanted[of->index];
        memcpy(to->elements + index * to->count, of->outputs[t], to->count * sizeof(double));
        to->known[index] = true;
    }
    return XAI_OK;
}

static variants variants_of(reference_job *job, size_t count)
{
    variants made = {.row = job->what->row,
                     .count = count,
                     .scores = job->scores,
                     .score_count = job->score_count,
                     .fill = fill,
                     .user = job};
    attribution_prepare(job->what->inputs, &made);
    return made;
}

/* Evaluate what is not known yet. `missing` has room for all that is wanted. */
static xai_status complete(explainer *self, reference_job *job, size_t *missing,
                           size_t *evaluations, xai_error **error)
{
    const reference_request *what = job->what;
    size_t count = 0;
    for (size_t k = 0; k < what->count; k++) {
        bool known = true;
        for (size_t t = 0; t < job->score_count; t++)
            known =
                known &&
                find_output(job->kept, job->scores[t].source.seed_value)->known[what->wanted[k]];
        if (!known)
            missing[count++] = what->wanted[k];
    }
    job->wanted = missing;
    *evaluations = count;
    variants fresh = variants_of(job, count);
    fresh.wrt = NULL;
    fresh.wrt_count = 0;
    fresh.with_outputs = true;
    fresh.body = keep;
    return evaluator_run_variants(&self->engine, &fresh, error);
}

static xai_status score_known(const reference_job *job, double *out, xai_error **error)
{
    for (size_t k = 0; k < job->what->count; k++) {
        for (size_t t = 0; t < job->score_count; t++) {
            const fixed_score *fixed = &job->scores[t];
            const kept_output *from = find_output(job->kept, fixed->source.seed_value);
            const double score =
                score_evaluate(&fixed->source, &fixed->chosen, &fixed->row_shape,
                               from->elements + job->what->wanted[k] * from->count, NULL);
            if (!isfinite(score))
                return error_set(error, XAI_ERROR_NUMERIC, NULL,
                                 "the score of reference row %zu is a NaN or an infinity",
                                 job->what->wanted[k]);
            out[k * job->score_count + t] = score;
        }
    }
    return XAI_OK;
}

xai_status reference_scores_take(explainer *self, const reference_request *what,
                                 const fixed_score *scores, size_t score_count, double *out,
                                 size_t *evaluations, xai_error **error)
{
    reference_job job = {.self = self,
                         .what = what,
                         .wanted = what->wanted,
                         .scores = scores,
                         .score_count = score_count};
    xai_status status = XAI_OK;
    bool fits = can_keep(self, what->of, what->inputs);
    if (fits && (job.kept = open_kept(self, what)) == NULL)
        return error_memory(error, "the scores of references", 0);
    for (size_t t = 0; status == XAI_OK && fits && t < score_count; t++) {
        kept_output *found = NULL;
        status = find_or_add(self->kept, &scores[t], &found, error);
        fits = found != NULL;
    }
    if (status != XAI_OK)
        return status;
    if (!fits) {
        const variants all = variants_of(&job, what->count);
        *evaluations = what->count;
        return evaluator_scores_of(&self->engine, &all, out, error);
    }
    size_t *missing = memory_allocate(what->count, sizeof *missing);
    if (missing == NULL)
        return error_memory(error, "the scores of references", what->count * sizeof *missing);
    status = complete(self, &job, missing, evaluations, error);
    memory_free(missing);
    return status == XAI_OK ? score_known(&job, out, error) : status;
}

size_t reference_scores_expect(const explainer *self, const references *of,
                               const attribution_inputs *inputs, size_t used)
{
    const kept_outputs *kept = self->kept;
    if (!can_keep(self, of, inputs))
        return inputs->rows->rows * used;
    if (kept == NULL || !is_for(kept, of, inputs->rows, inputs->count) || kept->count == 0)
        return used;
    size_t missing = 0;
    for (size_t b = 0; b < used; b++)
        missing += !kept->items[0].known[b];
    return missing;
}
