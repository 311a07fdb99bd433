/* Integrated gradients: the gradient averaged along the straight path from the baseline. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "explain/path.h"

/* Integrated gradients (Sundararajan et al. 2017, eq. 1, 3):
 *   phi_i = (x_i - b_i) integral_0^1 dS/dx_i(b + a (x - b)) da  ~  (x_i - b_i) sum_k w_k g_i(a_k)
 * with sum_k w_k = 1, so that sum_i phi_i = S(x) - S(b) but for the error of the quadrature. */

enum { MOST_STEPS = 4096 };

/* Nodes and weights of Gauss-Legendre on [0, 1]: Newton's method on the Legendre polynomial. */
static void gauss_legendre(size_t count, double *nodes, double *weights)
{
    static const double pi = 3.14159265358979323846;
    const double n = (double)count;
    for (size_t i = 0; i < count; i++) {
        double x = cos(pi * ((double)i + 0.75) / (n + 0.5)), slope = 1;
        for (int round = 0; round < 100; round++) {
            double p0 = 1, p1 = x;
            for (size_t k = 2; k <= count; k++) {
                const double p2 = ((2 * (double)k - 1) * x * p1 - ((double)k - 1) * p0) / (double)k;
                p0 = p1;
                p1 = p2;
            }
            slope = n * (x * p1 - p0) / (x * x - 1);
            const double change = p1 / slope;
            x -= change;
            if (fabs(change) < 1e-15)
                break;
        }
        nodes[count - 1 - i] = (1 + x) / 2;
        weights[count - 1 - i] = 1 / ((1 - x * x) * slope * slope);
    }
}

xai_status path_fill(const path *self, double a, tensor *inputs, xai_error **error)
{
    float **values = attribution_rows_create(self->inputs);
    if (values == NULL)
        return error_memory(error, "a point of the path", 0);
    for (size_t p = 0; p < self->inputs->part_count; p++)
        for (size_t i = 0; i < self->inputs->sizes[p]; i++)
            values[p][i] = (float)((1 - a) * self->from[p][i] + a * self->to[p][i]);
    attribution_write(self->inputs, self->row, (const float *const *)values, inputs);
    memory_free((void *)values);
    return XAI_OK;
}

xai_status path_store(const path *self, size_t t, double base, size_t points, int8_t converged,
                      explanation *out, xai_error **error)
{
    const fixed_score *fixed = &self->scores[t];
    const size_t parts = self->inputs->part_count;
    double total = 0;
    xai_status status = explanation_set_facts(out, self->self->engine.of, self->row, &fixed->chosen,
                                              fixed->source.output, fixed->score,
                                              self->evaluations + (int64_t)points, error);
    for (size_t p = 0; status == XAI_OK && p < parts; p++) {
        double *phi = self->sums[t * parts + p];
        for (size_t i = 0; i < self->inputs->sizes[p]; i++) {
            phi[i] *= (double)self->to[p][i] - (double)self->from[p][i];
            total += phi[i];
        }
        status = attribution_store(out, p, self->row, self->inputs->sizes[p], phi, error);
    }
    out->base_values[self->row] = base;
    out->completeness_errors[self->row] = fabs(total - (fixed->score - base));
    out->converged[self->row] = converged;
    return status;
}

/* A fixed number of Gauss-Legendre points */
typedef struct legendre {
    const path *of;
    const double *nodes, *weights;
} legendre;

static xai_status fill_point(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const legendre *self = user;
    return path_fill(self->of, self->nodes[index], inputs, error);
}

static xai_status add_gradients(void *user, const variant *of, xai_error **error)
{
    const legendre *self = user;
    const path *at = self->of;
    const size_t parts = at->inputs->part_count;
    const double weight = self->weights[of->index];
    (void)error;
    for (size_t k = 0; k < at->target_count * parts; k++) {
        double *sum = at->sums[k];
        const float *gradient = of->gradients[k];
        for (size_t i = 0; i < of->counts[k % parts]; i++)
            sum[i] += weight * gradient[i];
    }
    return XAI_OK;
}

static xai_status integrate(const path *at, size_t steps, const double *base, explanation **out,
                            xai_error **error)
{
    double *nodes = memory_allocate(2 * steps, sizeof *nodes);
    if (nodes == NULL)
        return error_memory(error, "the points of the path", steps * sizeof *nodes);
    gauss_legendre(steps, nodes, nodes + steps);
    legendre job = {.of = at, .nodes = nodes, .weights = nodes + steps};
    variants what = {.row = at->row,
                     .count = steps,
                     .scores = at->scores,
                     .score_count = at->target_count,
                     .fill = fill_point,
                     .body = add_gradients,
                     .user = &job};
    attribution_prepare(at->inputs, &what);
    xai_status status = evaluator_run_variants(&at->self->engine, &what, error);
    for (size_t t = 0; status == XAI_OK && t < at->target_count; t++)
        status = path_store(at, t, base[t], steps, -1, out[t], error);
    memory_free(nodes);
    return status;
}

/* base: room for S(b) of every target. */
static xai_status explain_row(path *at, double *base, explanation **out, xai_error **error)
{
    static const size_t only = 0;
    const double tolerance = explainer_number(at->self, "tolerance");
    const size_t steps = explainer_count(at->self, "steps");
    size_t evaluations = 0;
    for (size_t k = 0; k < at->target_count * at->inputs->part_count; k++)
        memset(at->sums[k], 0, at->inputs->sizes[k % at->inputs->part_count] * sizeof(double));
    if (tolerance > 0)
        return path_integrate_adaptively(
            at, tolerance, option_given(&at->self->options, "steps") != NULL ? steps : 257, out,
            error);
    const reference_request what = {
        .of = at->reference, .inputs = at->inputs, .row = at->row, .wanted = &only, .count = 1};
    const xai_status status = reference_scores_take(at->self, &what, at->scores, at->target_count,
                                                    base, &evaluations, error);
    at->evaluations += (int64_t)evaluations;
    return status == XAI_OK ? integrate(at, steps, base, out, error) : status;
}

static xai_status warn_unreached(const explainer *self, explanation *out, xai_error **error)
{
    xai_status status = XAI_OK;
    for (size_t row = 0; status == XAI_OK && row < out->rows; row++)
        if (out->converged[row] == 0)
            status = explanation_warn(
                out, (int64_t)row, error,
                "row %zu: the tolerance %g was not reached: after %lld evaluations the "
                "attributions miss the difference of scores by %.3g, and parts of the path miss "
                "theirs by more together; give more steps",
                row, explainer_number(self, "tolerance"), (long long)out->evaluations[row],
                out->completeness_errors[row]);
    return status;
}

static xai_status integrated_gradients_explain(explainer *self, const batch *rows,
                                               const xai_target *const *targets,
                                               size_t target_count, explanation **out,
                                               xai_error **error)
{
    attribution_inputs inputs = {0};
    references reference = {0};
    path at = {
        .self = self, .inputs = &inputs, .reference = &reference, .target_count = target_count};
    fixed_score *scores = memory_allocate(rows->rows * target_count, sizeof *scores);
    double *base = memory_allocate(target_count, sizeof *base);
    size_t loaded = 0;
    xai_status status = XAI_OK;
    if (scores == NULL || base == NULL) {
        status = error_memory(error, "targets", target_count * sizeof *scores);
        goto done;
    }
    status = attribution_inputs_init(&inputs, self, rows, error);
    if (status == XAI_OK)
        status = attribution_create_all(&inputs, self, false, target_count, out, error);
    if (status == XAI_OK)
        status = references_init(&reference, self, &inputs, false, out, target_count, error);
    if (status != XAI_OK)
        goto done;
    at.from = attribution_rows_create(&inputs);
    at.to = attribution_rows_create(&inputs);
    at.sums = attribution_sums_create(&inputs, target_count);
    if (at.from == NULL || at.to == NULL || at.sums == NULL) {
        status = error_memory(error, "attributions", 0);
        goto done;
    }
    if (!(explainer_number(self, "tolerance") > 0))
        evaluator_expect(&self->engine,
                         rows->runs * (1 + inputs.of_layer) +
                             rows->rows * (inputs.of_layer + explainer_count(self, "steps")) +
                             reference_scores_expect(self, &reference, &inputs, 1));
    status = evaluator_fix_scores(&self->engine, rows, targets, target_count, self->score, scores,
                                  error);
    if (status == XAI_OK)
        status = attribution_inputs_load(&inputs, self, &loaded, error);
    for (size_t row = 0; status == XAI_OK && row < rows->rows; row++) {
        status = references_begin(&reference, self, row, error);
        if (status != XAI_OK)
            break;
        at.row = row;
        references_read(&reference, self, 0, at.from);
        attribution_read_rows(&inputs, row, at.to);
        at.scores = scores + row * target_count;
        at.evaluations = (int64_t)(1 + loaded + reference.evaluations);
        status = explain_row(&at, base, out, error);
    }
    for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
        status = attribution_finish(&inputs, self, true, out[t], error);
        if (status == XAI_OK)
            status = warn_unreached(self, out[t], error);
    }
done:
    memory_free((void *)at.from);
    memory_free((void *)at.to);
    memory_free((void *)at.sums);
    memory_free(base);
    memory_free(scores);
    references_free(&reference);
    attribution_inputs_free(&inputs);
    return status;
}

static const option_definition options[] = {
    {.name = "steps",
     .kinds = OPTION_NUMBER,
     .number = 50,
     .lowest = 1,
     .highest = MOST_STEPS,
     .whole = true,
     .text = "50",
     .description = "Gauss-Legendre points on the path; with a tolerance, the most points "
                    "(257 unless given)"},
    OPTION_BASELINE,
    OPTION_TOLERANCE("bisect the path where the score bends, until the errors of all parts add up "
                     "to this fraction of the difference of scores; 0 = use all steps"),
    OPTION_OF_LAYER,
    {0}};

const method_definition method_integrated_gradients = {
    .name = "integrated_gradients",
    .description =
        "Integrated gradients (Sundararajan et al. 2017): the difference to the baseline "
        "times the gradient averaged on the path from it",
    .explain = integrated_gradients_explain,
    .options = options,
};
