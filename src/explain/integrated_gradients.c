/* Integrated gradients: the gradient averaged along the straight path from the baseline. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "explain/attribution.h"
#include "explain/reference_scores.h"

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

/* One row: its end points, and for each target the weighted sum of gradients. */
typedef struct path {
    explainer *self;
    const attribution_inputs *inputs;
    const references *reference;
    size_t row;
    float **from, **to; /* baseline and row */
    const double *nodes;
    const double *weights; /* NULL = all 1 */
    double **sums;         /* [target * parts + p] */
    const size_t *targets; /* of the scores that are evaluated: which target each is */
    size_t score_count;
} path;

static xai_status fill_point(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const path *self = user;
    const double a = self->nodes[index];
    float **values = attribution_rows_create(self->inputs);
    if (values == NULL)
        return error_memory(error, "a point of the path", 0);
    for (size_t p = 0; p < self->inputs->float_count; p++)
        for (size_t i = 0; i < self->inputs->sizes[p]; i++)
            values[p][i] = (float)((1 - a) * self->from[p][i] + a * self->to[p][i]);
    attribution_write(self->inputs, self->row, (const float *const *)values, inputs);
    memory_free((void *)values);
    return XAI_OK;
}

static xai_status add_gradients(void *user, const variant *of, xai_error **error)
{
    path *self = user;
    const size_t parts = self->inputs->float_count;
    const double weight = self->weights != NULL ? self->weights[of->index] : 1;
    (void)error;
    for (size_t s = 0; s < self->score_count; s++) {
        for (size_t p = 0; p < parts; p++) {
            double *sum = self->sums[self->targets[s] * parts + p];
            const float *gradient = of->gradients[s * parts + p];
            for (size_t i = 0; i < of->counts[p]; i++)
                sum[i] += weight * gradient[i];
        }
    }
    return XAI_OK;
}

/* Everything of one row. */
typedef struct row_state {
    const fixed_score *scores; /* (targets) */
    double *base;              /* S(b) (targets) */
    fixed_score *active;       /* scores still wanted */
    size_t *active_targets, active_count, target_count;
    double **previous; /* the sums of the rule before, halved as it goes */
    int64_t evaluations;
} row_state;

static xai_status evaluate_nodes(path *at, const row_state *state, const double *nodes,
                                 const double *weights, size_t count, xai_error **error)
{
    at->nodes = nodes;
    at->weights = weights;
    at->targets = state->active_targets;
    at->score_count = state->active_count;
    variants what = {.row = at->row,
                     .count = count,
                     .scores = state->active,
                     .score_count = state->active_count,
                     .fill = fill_point,
                     .body = add_gradients,
                     .user = at};
    attribution_prepare(at->inputs, &what);
    return evaluator_run_variants(&at->self->engine, &what, error);
}

/* phi = (to - from) * mean gradient; returns its sum. */
static double finish_target(const path *at, double *const *means)
{
    double total = 0;
    for (size_t p = 0; p < at->inputs->float_count; p++) {
        for (size_t i = 0; i < at->inputs->sizes[p]; i++) {
            means[p][i] *= (double)at->to[p][i] - (double)at->from[p][i];
            total += means[p][i];
        }
    }
    return total;
}

static xai_status store_target(const path *at, const row_state *state, size_t t, double *const *phi,
                               double total, int8_t converged, explanation *out, xai_error **error)
{
    const fixed_score *fixed = &state->scores[t];
    xai_status status =
        explanation_set_facts(out, at->self->engine.of, at->row, &fixed->chosen,
                              fixed->source.output, fixed->score, state->evaluations, error);
    out->base_values[at->row] = state->base[t];
    out->completeness_errors[at->row] = fabs(total - (fixed->score - state->base[t]));
    out->converged[at->row] = converged;
    for (size_t p = 0; status == XAI_OK && p < at->inputs->float_count; p++)
        status = attribution_store(out, p, at->row, at->inputs->sizes[p], phi[p], error);
    return status;
}

/* A fixed number of Gauss-Legendre points. */
static xai_status integrate(path *at, row_state *state, size_t steps, explanation **out,
                            xai_error **error)
{
    const size_t parts = at->inputs->float_count;
    double *nodes = memory_allocate(2 * steps, sizeof *nodes);
    if (nodes == NULL)
        return error_memory(error, "the points of the path", steps * sizeof *nodes);
    gauss_legendre(steps, nodes, nodes + steps);
    xai_status status = evaluate_nodes(at, state, nodes, nodes + steps, steps, error);
    state->evaluations += (int64_t)steps;
    for (size_t t = 0; status == XAI_OK && t < state->target_count; t++) {
        double *const *phi = at->sums + t * parts;
        status = store_target(at, state, t, phi, finish_target(at, phi), -1, out[t], error);
    }
    memory_free(nodes);
    return status;
}

/* Simpson's rule (4 T_2n - T_n) / 3 from two trapezoid rules, of which the finer one uses all
 * points of the coarser. */
static void simpson(const path *at, const row_state *state, size_t t, size_t intervals,
                    double **out)
{
    const size_t parts = at->inputs->float_count;
    for (size_t p = 0; p < parts; p++) {
        const double *fine = at->sums[t * parts + p], *coarse = state->previous[t * parts + p];
        for (size_t i = 0; i < at->inputs->sizes[p]; i++)
            out[p][i] = (4 * fine[i] / (double)intervals - coarse[i] / (double)(intervals / 2)) / 3;
    }
}

/* Twice as many intervals until the sum of attributions is within `tolerance` of S(x) - S(b), or
 * the steps are used up. Each target stops by itself, so that several of them in one call give what
 * they give alone. sums[t] holds the trapezoid sum: half the end points, the inner points whole. */
static xai_status integrate_adaptively(path *at, row_state *state, double tolerance, size_t most,
                                       explanation **out, xai_error **error)
{
    static const double ends[] = {0, 1}, halves[] = {0.5, 0.5};
    const size_t parts = at->inputs->float_count, first = 2;
    double *nodes = memory_allocate(most + first + 1, sizeof *nodes);
    double **phi = attribution_sums_create(at->inputs, 1);
    xai_status status = XAI_OK;
    size_t used = first;
    if (nodes == NULL || phi == NULL) {
        status = error_memory(error, "the points of the path", most * sizeof *nodes);
        goto done;
    }
    status = evaluate_nodes(at, state, ends, halves, first, error);
    for (size_t intervals = 2; status == XAI_OK && state->active_count > 0; intervals *= 2) {
        const size_t fresh = intervals / 2;
        for (size_t t = 0; t < state->target_count; t++)
            for (size_t p = 0; p < parts; p++)
                memcpy(state->previous[t * parts + p], at->sums[t * parts + p],
                       at->inputs->sizes[p] * sizeof(double));
        for (size_t k = 0; k < fresh; k++)
            nodes[k] = (2 * (double)k + 1) / (double)intervals;
        status = evaluate_nodes(at, state, nodes, NULL, fresh, error);
        used += fresh;
        size_t kept = 0;
        const bool last = used + intervals > most;
        for (size_t s = 0; status == XAI_OK && s < state->active_count; s++) {
            const size_t t = state->active_targets[s];
            simpson(at, state, t, intervals, phi);
            const double total = finish_target(at, phi);
            const double wanted = state->scores[t].score - state->base[t];
            const bool reached =
                intervals >= 4 && fabs(total - wanted) <= tolerance * fabs(wanted) + 1e-12;
            if (reached || last) {
                state->evaluations += (int64_t)used;
                status = store_target(at, state, t, phi, total, reached, out[t], error);
                state->evaluations -= (int64_t)used;
            } else {
                state->active[kept] = state->active[s];
                state->active_targets[kept++] = t;
            }
        }
        state->active_count = kept;
    }
done:
    memory_free(nodes);
    memory_free((void *)phi);
    return status;
}

static xai_status explain_row(path *at, row_state *state, explanation **out, xai_error **error)
{
    const double tolerance = explainer_number(at->self, "tolerance");
    const size_t steps = explainer_count(at->self, "steps");
    static const size_t only = 0;
    size_t evaluations = 0;
    const reference_request what = {
        .of = at->reference, .inputs = at->inputs, .row = at->row, .wanted = &only, .count = 1};
    const xai_status status = reference_scores_take(
        at->self, &what, state->scores, state->target_count, state->base, &evaluations, error);
    if (status != XAI_OK)
        return status;
    state->evaluations += (int64_t)evaluations;
    state->active_count = state->target_count;
    for (size_t t = 0; t < state->target_count; t++) {
        state->active[t] = state->scores[t];
        state->active_targets[t] = t;
    }
    for (size_t k = 0; k < state->target_count * at->inputs->float_count; k++)
        memset(at->sums[k], 0, at->inputs->sizes[k % at->inputs->float_count] * sizeof(double));
    if (tolerance > 0)
        return integrate_adaptively(at, state, tolerance,
                                    option_given(&at->self->options, "steps") != NULL ? steps : 257,
                                    out, error);
    return integrate(at, state, steps, out, error);
}

static xai_status warn_unreached(const explainer *self, explanation *out, xai_error **error)
{
    xai_status status = XAI_OK;
    for (size_t row = 0; status == XAI_OK && row < out->rows; row++)
        if (out->converged[row] == 0)
            status =
                explanation_warn(out, (int64_t)row, error,
                                 "row %zu: the tolerance %g was not reached: after %lld "
                                 "evaluations the attributions "
                                 "miss the difference of scores by %.3g; give more steps",
                                 row, explainer_number(self, "tolerance"),
                                 (long long)out->evaluations[row], out->completeness_errors[row]);
    return status;
}

static xai_status integrated_gradients_explain(explainer *self, const batch *rows,
                                               const xai_target *const *targets,
                                               size_t target_count, explanation **out,
                                               xai_error **error)
{
    attribution_inputs inputs = {0};
    references reference = {0};
    path at = {.self = self, .inputs = &inputs, .reference = &reference};
    row_state state = {.target_count = target_count};
    fixed_score *scores = memory_allocate(rows->rows * target_count, sizeof *scores);
    size_t loaded = 0;
    state.base = memory_allocate(target_count, sizeof *state.base);
    state.active = memory_allocate(target_count, sizeof *state.active);
    state.active_targets = memory_allocate(target_count, sizeof *state.active_targets);
    xai_status status = XAI_OK;
    if (scores == NULL || state.base == NULL || state.active == NULL ||
        state.active_targets == NULL) {
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
    if (explainer_number(self, "tolerance") > 0)
        state.previous = attribution_sums_create(&inputs, target_count);
    if (at.from == NULL || at.to == NULL || at.sums == NULL ||
        (explainer_number(self, "tolerance") > 0 && state.previous == NULL)) {
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
        state.scores = scores + row * target_count;
        state.evaluations = (int64_t)(1 + loaded + reference.evaluations);
        status = explain_row(&at, &state, out, error);
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
    memory_free((void *)state.previous);
    memory_free(state.base);
    memory_free(state.active);
    memory_free(state.active_targets);
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
    OPTION_TOLERANCE("stop when the attributions add up to the difference of scores within this "
                     "fraction; 0 = use all steps"),
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
