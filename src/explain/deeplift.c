/* DeepLIFT (Shrikumar et al. 2017) with the Rescale rule, and DeepSHAP (Lundberg and Lee 2017), its mean
 * over a background.
 *
 *     values_i = m_i (x_i - b_i)        sum_i values_i = S(x) - S(b)
 * m: the product of multipliers along the network; src/ops/rescale.h says what every operator does. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "explain/baseline.h"

typedef struct deep_job {
    explainer *self;
    attribution_inputs inputs;
    explanation **out;
    size_t count; /* baselines a row */
    bool background;
    float **absent; /* deeplift: [part], (N, ...) */
    /* [(row * targets + target) * parts + part]: sums over baselines of attributions and, from
     * DeepSHAP, of squared deviations; allocated for the rows that are under way. */
    double **sums;
    double *bases; /* (N, T): sums of the baselines' scores */
    size_t target_count;
} deep_job;

static double **sums_of(const deep_job *job, const sample *of)
{
    return &job->sums[(of->row * job->target_count + of->target) * job->inputs.part_count +
                      of->wrt];
}

static void read_baseline(const deep_job *job, size_t row, size_t index, size_t part, float *out)
{
    if (job->background)
        background_read(&job->inputs, job->self, part, index, out);
    else
        memcpy(out, job->absent[part] + row * job->inputs.sizes[part],
               job->inputs.sizes[part] * sizeof *out);
}

/* Inputs that are not floating point keep the row's own values. */
static xai_status fill(void *user, size_t row, size_t index, size_t input, tensor *out,
                       xai_error **error)
{
    const deep_job *job = user;
    size_t part = 0;
    while (part < job->inputs.part_count && job->inputs.inputs[part] != input)
        part++;
    if (part == job->inputs.part_count) {
        variants_copy_row(job->inputs.rows, row, input, out);
        return XAI_OK;
    }
    float *values = memory_allocate(job->inputs.sizes[part], sizeof *values);
    if (values == NULL)
        return error_memory(error, "a baseline", job->inputs.sizes[part] * sizeof *values);
    read_baseline(job, row, index, part, values);
    tensor_write_floats(out, values);
    memory_free(values);
    return XAI_OK;
}

/* Mean and squared deviations as Welford sums them: sums[0..n) means, sums[n..2n) squares. */
static void add(double *sums, size_t count, size_t index, const float *multipliers, const float *x,
                const float *absent)
{
    for (size_t i = 0; i < count; i++) {
        const double value = (double)multipliers[i] * ((double)x[i] - (double)absent[i]);
        const double before = value - sums[i];
        sums[i] += before / (double)(index + 1);
        sums[count + i] += before * (value - sums[i]);
    }
}

/* Means, standard errors, and how they add up. */
static xai_status store(deep_job *job, const sample *of, const double *sums, xai_error **error)
{
    explanation *out = job->out[of->target];
    explanation_part *part = &out->parts[of->wrt];
    const size_t n = of->count;
    xai_status status = attribution_store(out, of->wrt, of->row, n, sums, error);
    const double pairs = (double)job->count * (double)(job->count - 1);
    if (part->standard_error.data != NULL)
        for (size_t i = 0; i < n; i++)
            ((float *)part->standard_error.data)[of->row * n + i] =
                (float)sqrt(sums[n + i] / pairs);
    if (status != XAI_OK)
        return status;
    if (of->wrt == 0) {
        status = explanation_set_row(out, job->self->engine.of, of, (int64_t)job->count + 1, error);
        out->base_values[of->row] =
            job->bases[of->row * job->target_count + of->target] / (double)job->count;
        out->completeness_errors[of->row] = of->score - out->base_values[of->row];
        out->samples[of->row] = job->background ? (int64_t)job->count : 0;
    }
    double total = 0;
    for (size_t i = 0; i < n; i++)
        total += sums[i];
    out->completeness_errors[of->row] -= total;
    if (of->wrt + 1 == job->inputs.part_count)
        out->completeness_errors[of->row] = fabs(out->completeness_errors[of->row]);
    return status;
}

static xai_status attribute(void *user, const sample *of, xai_error **error)
{
    deep_job *job = user;
    double **sums = sums_of(job, of);
    float *row = memory_allocate(2 * of->count, sizeof *row);
    if (of->against == 0)
        *sums = memory_allocate_zeroed(2 * of->count, sizeof **sums);
    if (*sums == NULL || row == NULL) {
        memory_free(row);
        return error_memory(error, "attributions", 2 * of->count * sizeof **sums);
    }
    attribution_read_row(&job->inputs, of->row, of->wrt, row);
    read_baseline(job, of->row, of->against, of->wrt, row + of->count);
    add(*sums, of->count, of->against, of->gradient, row, row + of->count);
    memory_free(row);
    if (of->wrt == 0)
        job->bases[of->row * job->target_count + of->target] += of->base_score;
    if (of->against + 1 < job->count)
        return XAI_OK;
    const xai_status status = store(job, of, *sums, error);
    memory_free(*sums);
    *sums = NULL;
    return status;
}

static xai_status open_baselines(deep_job *job, xai_error **error)
{
    const size_t parts = job->inputs.part_count, rows = job->inputs.rows->rows;
    float **one = memory_allocate_zeroed(parts, sizeof *one);
    job->absent = memory_allocate_zeroed(parts, sizeof *job->absent);
    if (one == NULL || job->absent == NULL) {
        memory_free(one);
        return error_memory(error, "baselines", parts * sizeof *one);
    }
    xai_status status = XAI_OK;
    for (size_t p = 0; p < parts; p++) {
        job->absent[p] = memory_allocate(rows * job->inputs.sizes[p], sizeof **one);
        if (job->absent[p] == NULL)
            status = error_memory(error, "baselines", rows * job->inputs.sizes[p] * sizeof **one);
    }
    for (size_t row = 0; status == XAI_OK && row < rows; row++) {
        for (size_t p = 0; p < parts; p++)
            one[p] = job->absent[p] + row * job->inputs.sizes[p];
        status = baseline_row(&job->inputs, job->self, row, one, error);
    }
    memory_free(one);
    return status;
}

static void deep_free(deep_job *job)
{
    const size_t parts = job->inputs.part_count;
    for (size_t p = 0; job->absent != NULL && p < parts; p++)
        memory_free(job->absent[p]);
    const size_t total = job->sums == NULL ? 0 : job->inputs.rows->rows * job->target_count * parts;
    for (size_t i = 0; i < total; i++)
        memory_free(job->sums[i]);
    memory_free(job->absent);
    memory_free(job->sums);
    memory_free(job->bases);
    attribution_inputs_free(&job->inputs);
}

/* What a reader must know when attributions do not add up. */
static xai_status warn(const deep_job *job, explanation *out, xai_error **error)
{
    char names[256];
    double worst = 0;
    evaluator_unruled(&job->self->engine, ENGINE_RULE_DEEPLIFT, names, sizeof names);
    for (size_t row = 0; row < out->rows; row++) {
        const double change = fabs(out->scores[row] - out->base_values[row]);
        worst = fmax(worst, out->completeness_errors[row] / fmax(change, 1e-3));
    }
    if (names[0] != '\0')
        return explanation_warn(
            out, -1, error,
            "no rule of DeepLIFT for %s: their gradients were averaged along the "
            "line from the baseline (completeness error %.2g of the change)",
            names, worst);
    if (worst > 1e-3)
        return explanation_warn(
            out, -1, error, "the attributions miss the change of the score by %.2g of it", worst);
    return XAI_OK;
}

static xai_status explain(deep_job *job, const batch *rows, const xai_target *const *targets,
                          xai_error **error)
{
    explainer *self = job->self;
    const size_t pairs = rows->rows * job->target_count;
    xai_status status = XAI_OK;
    job->sums = memory_allocate_zeroed(pairs * job->inputs.part_count, sizeof *job->sums);
    job->bases = memory_allocate_zeroed(pairs, sizeof *job->bases);
    if (job->sums == NULL || job->bases == NULL)
        return error_memory(error, "attributions", pairs * sizeof *job->sums);
    const contrast against = {
        .count = job->count,
        .fixed = job->background && job->inputs.part_count == job->inputs.count,
        .cache_bytes = job->background ? (size_t)explainer_number(self, "cache") << 20 : 0,
        .fill = fill};
    const backward_rule rule = {.rule = ENGINE_RULE_DEEPLIFT};
    const differentiation what = {.targets = targets,
                                  .target_count = job->target_count,
                                  .score = self->score,
                                  .wrt = job->inputs.ids,
                                  .wrt_count = job->inputs.part_count,
                                  .rule = &rule,
                                  .against = &against,
                                  .body = attribute,
                                  .user = job};
    status = evaluator_differentiate(&self->engine, rows, &what, error);
    for (size_t t = 0; status == XAI_OK && t < job->target_count; t++) {
        status = attribution_finish(&job->inputs, self, true, job->out[t], error);
        if (status == XAI_OK)
            status = warn(job, job->out[t], error);
    }
    return status;
}

static xai_status deeplift_explain(explainer *self, const batch *rows,
                                   const xai_target *const *targets, size_t target_count,
                                   explanation **out, xai_error **error)
{
    deep_job job = {.self = self, .out = out, .count = 1, .target_count = target_count};
    xai_status status = attribution_inputs_init(&job.inputs, self, rows, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
        status = attribution_create(&job.inputs, self, false, &out[t], error);
        if (status == XAI_OK)
            status = baseline_check(&job.inputs, self, out[t], error);
    }
    if (status == XAI_OK)
        status = open_baselines(&job, error);
    if (status == XAI_OK)
        status = explain(&job, rows, targets, error);
    deep_free(&job);
    return status;
}

static xai_status deepshap_explain(explainer *self, const batch *rows,
                                   const xai_target *const *targets, size_t target_count,
                                   explanation **out, xai_error **error)
{
    char name[64];
    deep_job job = {.self = self, .out = out, .background = true, .target_count = target_count};
    xai_status status = attribution_inputs_init(&job.inputs, self, rows, error);
    if (status == XAI_OK)
        status = background_rows(&job.inputs, self, &job.count, error);
    if (status == XAI_OK && job.count == 0)
        status =
            error_set(error, XAI_ERROR_ARGUMENT, "background",
                      "'deepshap' needs rows to compare with, such as 10 to 100 typical images; "
                      "for a single baseline use 'deeplift'");
    background_name(job.count, name, sizeof name);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
        status = attribution_create(&job.inputs, self, job.count > 1, &out[t], error);
        if (status == XAI_OK)
            status = explanation_set_baseline(out[t], name, error);
    }
    if (status == XAI_OK)
        status = explain(&job, rows, targets, error);
    deep_free(&job);
    return status;
}

static const option_definition deeplift_options[] = {OPTION_BASELINE, {0}};
static const option_definition deepshap_options[] = {
    OPTION_BACKGROUND,
    {.name = "cache",
     .kinds = OPTION_NUMBER,
     .number = 96,
     .lowest = 0,
     .highest = 1e6,
     .whole = true,
     .text = "96",
     .description =
         "MB for the activations of background rows that are kept between rows and calls"},
    {0}};

const method_definition method_deeplift = {
    .name = "deeplift",
    .description =
        "DeepLIFT, Rescale rule (Shrikumar et al. 2017): how each input's difference from a "
        "baseline makes the score's; adds up",
    .explain = deeplift_explain,
    .options = deeplift_options,
};

const method_definition method_deepshap = {
    .name = "deepshap",
    .description =
        "DeepSHAP (Lundberg and Lee 2017): DeepLIFT averaged over a background; adds up to "
        "the score minus its mean over the background",
    .explain = deepshap_explain,
    .options = deepshap_options,
};
