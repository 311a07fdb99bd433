/* SmoothGrad and VarGrad: mean and variance of gradients over noisy copies of the input. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/random.h"
#include "explain/sampling.h"

enum { STREAM_NOISE = 0x5306 };

typedef enum measure { OF_GRADIENT, OF_ABSOLUTE, OF_SQUARE } measure;

typedef struct noise_job {
    const attribution_inputs *inputs;
    uint64_t seed;
    float **row;
    double *deviations; /* one a part */
    measure of;
} noise_job;

/* x + e, e ~ N(0, sigma^2); the same noise for every row, so that rows are independent. */
static xai_status fill_noisy(void *user, const sample_place *at, float *const *point,
                             xai_error **error)
{
    const noise_job *job = user;
    (void)error;
    for (size_t p = 0; p < job->inputs->part_count; p++) {
        memcpy(point[p], job->row[p], job->inputs->sizes[p] * sizeof(float));
        const uint64_t stream =
            random_stream(STREAM_NOISE + ((uint32_t)p << 16), (uint32_t)at->sample);
        random_add_normal(job->seed, stream, job->deviations[p], job->inputs->sizes[p], point[p]);
    }
    return XAI_OK;
}

static void take_gradient(void *user, const sample_place *at, size_t part, const float *gradient,
                          const float *point, double *out)
{
    const noise_job *job = user;
    (void)at;
    (void)point;
    for (size_t i = 0; i < job->inputs->sizes[part]; i++) {
        const double g = gradient[i];
        out[i] = job->of == OF_SQUARE ? g * g : job->of == OF_ABSOLUTE ? fabs(g) : g;
    }
}

/* VarGrad (Adebayo et al. 2018): the variance m2 = E[g^2] - E[g]^2 over the samples. Its standard
 * error is sqrt((m4 - m2^2) / n) with the fourth central moment m4. */
static void finish_variance(size_t count, double first, const double *sums, double *variance,
                            double *error)
{
    const double n = (double)count;
    const double m = sums[0] / n, s2 = sums[1] / n, s3 = sums[2] / n, s4 = sums[3] / n;
    (void)first;
    *variance = fmax(s2 - m * m, 0);
    const double m4 = s4 - 4 * m * s3 + 6 * m * m * s2 - 3 * m * m * m * m;
    *error = count > 1 ? sqrt(fmax(m4 - *variance * *variance, 0) / n) : NAN;
}

/* Without the option: 15 % of the row's range, part by part (Smilkov et al. use 10 to 20 %). */
static void find_deviations(const explainer *self, noise_job *job)
{
    const double given = explainer_number(self, "noise");
    for (size_t p = 0; p < job->inputs->part_count; p++) {
        double low = INFINITY, high = -INFINITY;
        for (size_t i = 0; i < job->inputs->sizes[p]; i++) {
            const double value = job->row[p][i];
            if (value < low)
                low = value;
            if (value > high)
                high = value;
        }
        job->deviations[p] = isnan(given) ? (high > low ? 0.15 * (high - low) : 0) : given;
    }
}

static xai_status explain_noisy(explainer *self, const batch *rows,
                                const xai_target *const *targets, size_t target_count,
                                bool variance, explanation **out, xai_error **error)
{
    attribution_inputs inputs = {0};
    const char *of = variance ? NULL : option_text(&self->options, "of");
    noise_job job = {.inputs = &inputs,
                     .seed = (uint64_t)explainer_number(self, "seed"),
                     .of = of == NULL || strcmp(of, "gradient") == 0 ? OF_GRADIENT
                           : strcmp(of, "absolute") == 0             ? OF_ABSOLUTE
                                                                     : OF_SQUARE};
    fixed_score *scores = memory_allocate(rows->rows * target_count, sizeof *scores);
    size_t loaded = 0;
    xai_status status = scores != NULL ? attribution_inputs_init(&inputs, self, rows, error)
                                       : error_memory(error, "targets", 0);
    if (status == XAI_OK)
        status = attribution_create_all(&inputs, self, true, target_count, out, error);
    if (status != XAI_OK)
        goto done;
    job.row = attribution_rows_create(&inputs);
    job.deviations = memory_allocate(inputs.part_count, sizeof *job.deviations);
    if (job.row == NULL || job.deviations == NULL) {
        status = error_memory(error, "noise", 0);
        goto done;
    }
    sampling what = {.self = self,
                     .inputs = &inputs,
                     .samples = explainer_count(self, "samples"),
                     .tolerance = explainer_number(self, "tolerance"),
                     .moments = variance ? 4 : 2,
                     .fill = fill_noisy,
                     .value = take_gradient,
                     .finish = variance ? finish_variance : NULL,
                     .user = &job};
    evaluator_expect(&self->engine, rows->runs * (1 + inputs.of_layer) + rows->rows * what.samples);
    status = evaluator_fix_scores(&self->engine, rows, targets, target_count, self->score, scores,
                                  error);
    if (status == XAI_OK)
        status = attribution_inputs_load(&inputs, self, &loaded, error);
    for (size_t row = 0; status == XAI_OK && row < rows->rows; row++) {
        size_t used = 0;
        attribution_read_rows(&inputs, row, job.row);
        find_deviations(self, &job);
        what.row = row;
        status = sampling_run(&what, scores + row * target_count, target_count, out, &used, error);
        for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
            const fixed_score *fixed = &scores[row * target_count + t];
            status = explanation_set_facts(out[t], self->engine.of, row, &fixed->chosen,
                                           fixed->source.output, fixed->score,
                                           (int64_t)(1 + loaded) + out[t]->samples[row], error);
        }
    }
    for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
        status =
            attribution_finish(&inputs, self, !variance && job.of == OF_GRADIENT, out[t], error);
        if (status == XAI_OK)
            status = sampling_warn(self, out[t], error);
    }
done:
    memory_free((void *)job.row);
    memory_free(job.deviations);
    memory_free(scores);
    attribution_inputs_free(&inputs);
    return status;
}

static xai_status smoothgrad_explain(explainer *self, const batch *rows,
                                     const xai_target *const *targets, size_t target_count,
                                     explanation **out, xai_error **error)
{
    return explain_noisy(self, rows, targets, target_count, false, out, error);
}

static xai_status vargrad_explain(explainer *self, const batch *rows,
                                  const xai_target *const *targets, size_t target_count,
                                  explanation **out, xai_error **error)
{
    return explain_noisy(self, rows, targets, target_count, true, out, error);
}

#define OPTION_INPUT_NOISE                                                                   \
    {                                                                                        \
        .name = "noise", .kinds = OPTION_NUMBER, .number = NAN, .lowest = 0, .highest = 1e9, \
        .text = "15 % of the row's range",                                                   \
        .description = "standard deviation of the noise, in units of the input"              \
    }

static const option_definition smoothgrad_options[] = {
    OPTION_SAMPLES(32),
    OPTION_INPUT_NOISE,
    {.name = "of",
     .kinds = OPTION_TEXT,
     .text = "gradient",
     .choices = "gradient|absolute|squared",
     .description = "what is averaged: the gradient, its absolute value, or its square "
                    "(SmoothGrad-squared)"},
    OPTION_SEED,
    OPTION_TOLERANCE("stop when the relative standard error is at most this; 0 = use all samples"),
    OPTION_OF_LAYER,
    {0}};

static const option_definition vargrad_options[] = {
    OPTION_SAMPLES_FROM(2, 32),
    OPTION_INPUT_NOISE,
    OPTION_SEED,
    OPTION_TOLERANCE("stop when the relative standard error is at most this; 0 = use all samples"),
    OPTION_OF_LAYER,
    {0}};

const method_definition method_smoothgrad = {
    .name = "smoothgrad",
    .description = "SmoothGrad (Smilkov et al. 2017): the gradient averaged over noisy copies of "
                   "the input",
    .explain = smoothgrad_explain,
    .options = smoothgrad_options,
};

const method_definition method_vargrad = {
    .name = "vargrad",
    .description = "VarGrad (Adebayo et al. 2018): the variance of the gradient over noisy copies "
                   "of the input",
    .explain = vargrad_explain,
    .options = vargrad_options,
};
