/* Expected gradients (GradientSHAP): integrated gradients averaged over a background. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/random.h"
#include "explain/reference_scores.h"
#include "explain/sampling.h"

/* Expected gradients (Erion et al. 2021, eq. 2; GradientExplainer of shap):
 *   phi_i = E over background rows b and t ~ U(0, 1) of (x_i - b_i) dS/dx_i(b + t (x - b))
 * so that sum_i phi_i = S(x) - E_b S(b) but for the error of sampling.
 *
 * The pairs (b, t) are not drawn independently. Where a round has at least two samples a background
 * row, each row gets its share of samples, with t in equal strata: t = (j + u) / m. Otherwise t is
 * stratified over the round, and background rows come in random order, each once before any comes
 * again. The variance is that of second differences of neighbours, which sees this gain: within a
 * row, which takes three samples of each, or over a small part of the background, whose choice is
 * then most of the error. In between there is none: whether neighbours differ by their rows, of
 * which a pass over all is free, or by what a row does along t, one or two samples a row cannot
 * tell (the variance would come out up to ten times too large). */
enum { STREAM_T = 0x6501, STREAM_ORDER = 0x6502, STREAM_NOISE = 0x6503 };

typedef struct expectation {
    const explainer *of;
    const attribution_inputs *inputs;
    const references *background;
    uint64_t seed;
    double noise;
    size_t round;  /* samples of a round; 0 = all in one */
    size_t *order; /* background rows in passes of random order */
    float **row;
    float **reference; /* of the sample whose gradient is being read */
    size_t reference_index;
} expectation;

/* Background row b of a sample, the stratum j of m that its t is in, and its weight: background
 * rows count alike though their shares of a round may differ by one sample. */
typedef struct draw {
    size_t row, stratum, strata;
    double weight;
} draw;

static draw draw_of(const expectation *self, const sample_place *at)
{
    const size_t rows = self->background->count, size = at->size;
    if (size < 2 * rows)
        return (draw){self->order[at->sample], at->index, size, 1};
    const size_t row = (at->index * rows) / size;
    const size_t begin = (row * size + rows - 1) / rows, end = ((row + 1) * size + rows - 1) / rows;
    return (draw){row, at->index - begin, end - begin,
                  (double)size / ((double)rows * (double)(end - begin))};
}

static size_t group_of(void *user, const sample_place *at)
{
    const expectation *self = user;
    return at->size < 2 * self->background->count ? 0 : draw_of(self, at).row;
}

/* x + noise, the same for fill and value. */
static void read_row(const expectation *self, const sample_place *at, size_t part, float *out)
{
    memcpy(out, self->row[part], self->inputs->sizes[part] * sizeof *out);
    const uint64_t stream =
        random_stream(STREAM_NOISE + ((uint32_t)part << 16), (uint32_t)at->sample);
    if (self->noise > 0)
        random_add_normal(self->seed, stream, self->noise, self->inputs->sizes[part], out);
}

static double position_of(const expectation *self, const sample_place *at, const draw *drawn)
{
    const double u = random_uniform(self->seed, random_stream(STREAM_T, 0), at->sample);
    return ((double)drawn->stratum + u) / (double)drawn->strata;
}

static xai_status fill_between(void *user, const sample_place *at, float *const *point,
                               xai_error **error)
{
    const expectation *self = user;
    const draw drawn = draw_of(self, at);
    const double t = position_of(self, at, &drawn);
    float **row = attribution_rows_create(self->inputs);
    if (row == NULL)
        return error_memory(error, "a sample", 0);
    references_read(self->background, self->of, drawn.row, point);
    for (size_t p = 0; p < self->inputs->part_count; p++) {
        read_row(self, at, p, row[p]);
        for (size_t i = 0; i < self->inputs->sizes[p]; i++)
            point[p][i] = (float)((1 - t) * point[p][i] + t * row[p][i]);
    }
    memory_free((void *)row);
    return XAI_OK;
}

/* (x - b) g. x - b = (point - b) / t would lose digits for small t. */
static void take_product(void *user, const sample_place *at, size_t part, const float *gradient,
                         const float *point, double *out)
{
    expectation *self = user;
    const draw drawn = draw_of(self, at);
    (void)point;
    if (self->reference_index != drawn.row)
        references_read(self->background, self->of, drawn.row, self->reference);
    self->reference_index = drawn.row;
    const float *row = self->row[part], *b = self->reference[part];
    float *noisy = NULL;
    if (self->noise > 0 &&
        (noisy = memory_allocate(self->inputs->sizes[part], sizeof *noisy)) != NULL) {
        read_row(self, at, part, noisy);
        row = noisy;
    }
    for (size_t i = 0; i < self->inputs->sizes[part]; i++)
        out[i] = drawn.weight * ((double)row[i] - (double)b[i]) * (double)gradient[i];
    if (self->noise > 0 && noisy == NULL)
        out[0] = NAN; /* out of memory: the result is refused */
    memory_free(noisy);
}

/* Passes of random order over the background, for `samples` samples. */
static xai_status make_order(expectation *self, size_t samples, xai_error **error)
{
    const size_t rows = self->background->count, passes = (samples + rows - 1) / rows;
    size_t total = 0;
    if (size_multiply(rows, passes, &total))
        self->order = memory_allocate(total, sizeof *self->order);
    if (self->order == NULL)
        return error_memory(error, "the order of the background", total * sizeof *self->order);
    for (size_t pass = 0; pass < passes; pass++)
        random_permutation(self->seed, random_stream(STREAM_ORDER, (uint32_t)pass), rows,
                           self->order + pass * rows);
    return XAI_OK;
}

/* Base values */

/* How often each background row was used in `samples` samples of this design. */
static void count_uses(const expectation *self, size_t samples, double *uses)
{
    sample_place at = {0};
    for (size_t b = 0; b < self->background->count; b++)
        uses[b] = 0;
    for (size_t k = 0; k < samples; k++, at.index++) {
        if (at.index == at.size) {
            at.size = self->round > 0 ? sampling_whole_round(self->round, samples, k) : samples;
            at.index = 0;
        }
        at.sample = k;
        const draw drawn = draw_of(self, &at);
        uses[drawn.row] += drawn.weight;
    }
}

/* base = mean of S over the background rows as they were used; completeness against it. */
static xai_status set_base(explainer *of, const expectation *self, size_t row,
                           const fixed_score *scores, size_t target_count, size_t used,
                           explanation **out, int64_t before, xai_error **error)
{
    const size_t rows = self->background->count;
    double *uses = memory_allocate(rows, sizeof *uses);
    size_t *wanted = memory_allocate(rows, sizeof *wanted), count = 0, evaluations = 0;
    double *base = memory_allocate(rows * target_count, sizeof *base);
    xai_status status = XAI_OK;
    if (uses == NULL || wanted == NULL || base == NULL) {
        status = error_memory(error, "base values", rows * target_count * sizeof *base);
        goto done;
    }
    count_uses(self, used, uses);
    for (size_t b = 0; b < rows; b++)
        if (uses[b] > 0)
            wanted[count++] = b;
    const reference_request what = {.of = self->background,
                                    .inputs = self->inputs,
                                    .row = row,
                                    .wanted = wanted,
                                    .count = count};
    status = reference_scores_take(of, &what, scores, target_count, base, &evaluations, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
        const fixed_score *fixed = &scores[t];
        explanation *to = out[t];
        double sum = 0, total = 0, weight = 0;
        count_uses(self, (size_t)to->samples[row], uses);
        for (size_t k = 0; k < count; k++) {
            sum += uses[wanted[k]] * base[k * target_count + t];
            weight += uses[wanted[k]];
        }
        for (size_t p = 0; p < self->inputs->part_count; p++)
            for (size_t i = 0; i < self->inputs->sizes[p]; i++)
                total += ((float *)to->parts[p].values.data)[row * self->inputs->sizes[p] + i];
        to->base_values[row] = sum / weight;
        to->completeness_errors[row] = fabs(total - (fixed->score - sum / weight));
        status = explanation_set_facts(to, of->engine.of, row, &fixed->chosen, fixed->source.output,
                                       fixed->score,
                                       before + to->samples[row] + (int64_t)evaluations, error);
    }
done:
    memory_free(uses);
    memory_free(wanted);
    memory_free(base);
    return status;
}

/* Standard errors are known with three samples a background row, or one for each of at most a third of them. */
static bool has_errors(const expectation *self, size_t samples)
{
    const size_t rows = self->background->count;
    return samples / 3 >= rows || samples <= rows / 3;
}

static xai_status drop_errors(const expectation *self, size_t samples, explanation *out,
                              xai_error **error)
{
    for (size_t p = 0; p < out->part_count; p++) {
        tensor_free(&out->parts[p].standard_error);
        out->parts[p].standard_error = (tensor){0};
    }
    return explanation_warn(
        out, -1, error,
        "no standard errors: %zu samples for %zu background rows cannot tell them; give at least "
        "%zu samples",
        samples, self->background->count, 3 * self->background->count);
}

static xai_status gradient_shap_explain(explainer *self, const batch *rows,
                                        const xai_target *const *targets, size_t target_count,
                                        explanation **out, xai_error **error)
{
    attribution_inputs inputs = {0};
    references background = {0};
    expectation job = {.of = self,
                       .inputs = &inputs,
                       .background = &background,
                       .seed = (uint64_t)explainer_number(self, "seed"),
                       .noise = explainer_number(self, "noise")};
    const size_t samples = explainer_count(self, "samples");
    size_t loaded = 0;
    fixed_score *scores = memory_allocate(rows->rows * target_count, sizeof *scores);
    xai_status status = scores != NULL ? attribution_inputs_init(&inputs, self, rows, error)
                                       : error_memory(error, "targets", 0);
    if (status == XAI_OK)
        status = attribution_create_all(&inputs, self, true, target_count, out, error);
    if (status == XAI_OK)
        status = references_init(&background, self, &inputs, true, out, target_count, error);
    if (status == XAI_OK)
        status = make_order(&job, samples, error);
    for (size_t t = 0; status == XAI_OK && t < target_count && !has_errors(&job, samples); t++)
        status = drop_errors(&job, samples, out[t], error);
    if (status != XAI_OK)
        goto done;
    const double tolerance = explainer_number(self, "tolerance");
    if (tolerance > 0 && has_errors(&job, samples))
        job.round = 3 * background.count > SAMPLING_ROUND ? 3 * background.count : SAMPLING_ROUND;
    job.row = attribution_rows_create(&inputs);
    job.reference = attribution_rows_create(&inputs);
    if (job.row == NULL || job.reference == NULL) {
        status = error_memory(error, "samples", 0);
        goto done;
    }
    sampling what = {.self = self,
                     .inputs = &inputs,
                     .samples = samples,
                     .tolerance = has_errors(&job, samples) ? tolerance : 0,
                     .round = job.round,
                     .stratified = true,
                     .moments = 1,
                     .fill = fill_between,
                     .value = take_product,
                     .group = group_of,
                     .user = &job};
    const size_t base = background.count < samples ? background.count : samples;
    evaluator_expect(&self->engine, rows->runs * (1 + inputs.of_layer) + rows->rows * samples +
                                        reference_scores_expect(self, &background, &inputs, base) +
                                        (inputs.of_layer ? background.count : 0));
    status = evaluator_fix_scores(&self->engine, rows, targets, target_count, self->score, scores,
                                  error);
    if (status == XAI_OK)
        status = attribution_inputs_load(&inputs, self, &loaded, error);
    for (size_t row = 0; status == XAI_OK && row < rows->rows; row++) {
        const fixed_score *fixed = scores + row * target_count;
        size_t used = 0;
        status = references_begin(&background, self, row, error);
        if (status != XAI_OK)
            break;
        attribution_read_rows(&inputs, row, job.row);
        job.reference_index = SIZE_MAX;
        what.row = row;
        status = sampling_run(&what, fixed, target_count, out, &used, error);
        if (status == XAI_OK)
            status = set_base(self, &job, row, fixed, target_count, used, out,
                              (int64_t)(1 + loaded + background.evaluations), error);
    }
    for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
        status = attribution_finish(&inputs, self, true, out[t], error);
        for (size_t row = 0; tolerance > 0 && what.tolerance <= 0 && row < rows->rows; row++)
            out[t]->converged[row] = 0;
        if (status == XAI_OK)
            status = sampling_warn(self, out[t], error);
    }
done:
    memory_free((void *)job.row);
    memory_free((void *)job.reference);
    memory_free(job.order);
    memory_free(scores);
    references_free(&background);
    attribution_inputs_free(&inputs);
    return status;
}

static const option_definition options[] = {
    OPTION_SAMPLES(64),
    OPTION_BACKGROUND,
    OPTION_BASELINE,
    OPTION_NOISE(0, "standard deviation of noise added to the row, in units of the input"),
    OPTION_SEED,
    OPTION_TOLERANCE("stop when the relative standard error is at most this; 0 = use all samples"),
    OPTION_OF_LAYER,
    {0}};

const method_definition method_gradient_shap = {
    .name = "gradient_shap",
    .description = "Expected gradients (Erion et al. 2021; GradientSHAP): integrated gradients "
                   "averaged over a background",
    .explain = gradient_shap_explain,
    .options = options,
};
