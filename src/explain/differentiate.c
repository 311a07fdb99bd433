/* Rows x targets x values: one forward pass a row, one backward pass a target. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "explain/differentiate.h"

static void job_free(job *self)
{
    memory_free(self->sources);
    memory_free(self->source_of);
    memory_free(self->source_layouts);
    memory_free(self->layouts);
    memory_free(self->wanted);
    memory_free(self->seeds);
    memory_free(self->wrt);
}

static const char *name_of(const job *self, int value)
{
    return network_graph(self->self->of->net)->values[value].name;
}

static void add_once(int *ids, size_t *count, int id)
{
    for (size_t i = 0; i < *count; i++)
        if (ids[i] == id)
            return;
    ids[(*count)++] = id;
}

static xai_status find_sources(job *self, xai_error **error)
{
    const differentiation *what = self->what;
    for (size_t t = 0; t < what->target_count; t++) {
        score_source found;
        int output = 0;
        xai_status status =
            target_output(what->targets[t], network_graph(self->self->of->net), &output, error);
        if (status == XAI_OK)
            status = target_check_rows(what->targets[t], self->rows->rows, error);
        if (status == XAI_OK)
            status = score_source_find(self->self->of, output, what->score, &found, error);
        if (status != XAI_OK)
            return status;
        size_t s = 0;
        while (s < self->source_count && self->sources[s].output != output)
            s++;
        if (s == self->source_count)
            self->sources[self->source_count++] = found;
        self->source_of[t] = s;
    }
    return XAI_OK;
}

static xai_status job_init(job *self, evaluator *of, const batch *rows, const differentiation *what,
                           xai_error **error)
{
    const size_t targets = what->target_count, values = what->wrt_count;
    *self = (job){.self = of, .rows = rows, .what = what};
    self->sources = memory_allocate_zeroed(targets, sizeof *self->sources);
    self->source_of = memory_allocate_zeroed(targets, sizeof *self->source_of);
    self->source_layouts = memory_allocate_zeroed(targets, sizeof *self->source_layouts);
    self->layouts = memory_allocate_zeroed(values, sizeof *self->layouts);
    self->wanted = memory_allocate_zeroed(targets + values, sizeof *self->wanted);
    self->seeds = memory_allocate_zeroed(targets, sizeof *self->seeds);
    self->wrt = memory_allocate_zeroed(values, sizeof *self->wrt);
    if (self->sources == NULL || self->source_of == NULL || self->source_layouts == NULL ||
        self->layouts == NULL || self->wanted == NULL || self->seeds == NULL || self->wrt == NULL)
        return error_memory(error, "targets", targets * sizeof *self->sources);
    const xai_status status = find_sources(self, error);
    if (status != XAI_OK)
        return status;
    for (size_t s = 0; s < self->source_count; s++) {
        add_once(self->seeds, &self->seed_count, self->sources[s].seed_value);
        if (self->sources[s].seed_value != self->sources[s].output_value)
            add_once(self->wanted, &self->wanted_count, self->sources[s].seed_value);
    }
    for (size_t v = 0; v < values; v++) {
        add_once(self->wrt, &self->wrt_count, what->wrt[v]);
        if (v < what->activations)
            add_once(self->wanted, &self->wanted_count, what->wrt[v]);
    }
    return XAI_OK;
}

/* A float value of the plan, with its row axis told from the rest. */
static xai_status find_layout(const job *self, const plan *program, int value, row_layout *out,
                              xai_error **error)
{
    const graph_value *found = &plan_graph(program)->values[value];
    char dims[SHAPE_TEXT_SIZE];
    const xai_status status = graph_check_static(plan_graph(program), value, error);
    if (status != XAI_OK)
        return status;
    if (found->removed || found->is_constant || !dtype_is_float(found->dtype))
        return error_set(error, XAI_ERROR_UNSUPPORTED, name_of(self, value),
                         "no gradient: the value is %s",
                         found->is_constant || found->removed ? "constant for these inputs"
                                                              : dtype_name(found->dtype));
    *out = (row_layout){.row = found->shape};
    out->has_axis = found->shape.rank > 0 && found->shape.dims[0] == (int64_t)self->rows->per_plan;
    if (out->has_axis) {
        out->row.rank--;
        memmove(out->row.dims, out->row.dims + 1, (size_t)out->row.rank * sizeof out->row.dims[0]);
    } else if (self->rows->per_plan > 1) {
        return error_set(error, XAI_ERROR_UNSUPPORTED, found->name,
                         "shape %s has no axis for the %zu rows of the batch",
                         shape_text(&found->shape, dims), self->rows->per_plan);
    }
    return XAI_OK;
}

static xai_status check_source(const job *self, const plan *program, size_t s, xai_error **error)
{
    const score_source *source = &self->sources[s];
    row_layout seed;
    const xai_status status = find_layout(self, program, source->seed_value, &seed, error);
    if (status != XAI_OK)
        return status;
    const row_layout *output = &self->source_layouts[s];
    if (seed.has_axis != output->has_axis || !shape_equal(&seed.row, &output->row))
        return error_set(error, XAI_ERROR_INTERNAL, name_of(self, source->seed_value),
                         "the shape before the final activation is another");
    if (source->transform == SCORE_SOFTMAX && (output->row.rank == 0 || output->row.dims[0] < 2))
        return error_set(error, XAI_ERROR_UNSUPPORTED, "score",
                         "the model card declares a softmax, but output '%s' has one class",
                         name_of(self, source->output_value));
    return XAI_OK;
}

/* Everything about the targets that needs no scores, before any time is spent. */
static xai_status check_targets(const job *self, xai_error **error)
{
    for (size_t t = 0; t < self->what->target_count; t++) {
        const xai_target *target = self->what->targets[t];
        const size_t choices = target != NULL && target->count > 1 ? target->count : 1;
        const size_t s = self->source_of[t];
        for (size_t row = 0; row < choices; row++) {
            selection ignored;
            const xai_status status =
                target_resolve(target, self->self->of, self->sources[s].output, row,
                               &self->source_layouts[s].row, NULL, &ignored, error);
            if (status != XAI_OK)
                return status;
        }
    }
    return XAI_OK;
}

static xai_status check_plan(job *self, const plan *program, xai_error **error)
{
    xai_status status = XAI_OK;
    for (size_t s = 0; status == XAI_OK && s < self->source_count; s++) {
        status = find_layout(self, program, self->sources[s].output_value, &self->source_layouts[s],
                             error);
        if (status == XAI_OK)
            status = check_source(self, program, s, error);
    }
    for (size_t v = 0; status == XAI_OK && v < self->what->wrt_count; v++)
        status = find_layout(self, program, self->what->wrt[v], &self->layouts[v], error);
    if (status == XAI_OK)
        status = check_targets(self, error);
    return status;
}

static void scratch_free(scratch *self, const job *of)
{
    for (size_t s = 0; self->outputs != NULL && self->values != NULL && s < of->source_count; s++) {
        if (self->values[s] != self->outputs[s])
            memory_free(self->values[s]);
        memory_free(self->outputs[s]);
    }
    for (size_t v = 0; self->activations != NULL && v < of->what->wrt_count; v++)
        memory_free(self->activations[v]);
    memory_free(self->outputs);
    memory_free(self->values);
    memory_free(self->activations);
    memory_free(self->seed);
    memory_free(self->gradient);
    memory_free(self->chosen);
    memory_free(self->scores);
    memory_free(self->base_scores);
}

/* Largest element count of a run over some layouts. */
static size_t largest(const row_layout *layouts, size_t count, size_t per_plan)
{
    size_t most = 1;
    for (size_t i = 0; i < count; i++) {
        size_t elements = 0;
        if (shape_count(&layouts[i].row, &elements) && elements > most)
            most = elements;
    }
    size_t total = SIZE_MAX; /* the allocation then fails cleanly */
    (void)size_multiply(most, per_plan, &total);
    return total;
}

static xai_status scratch_init(scratch *self, const job *of, xai_error **error)
{
    const size_t per_plan = of->rows->per_plan;
    *self = (scratch){0};
    self->outputs = memory_allocate_zeroed(of->source_count, sizeof *self->outputs);
    self->values = memory_allocate_zeroed(of->source_count, sizeof *self->values);
    self->activations = memory_allocate_zeroed(of->what->wrt_count, sizeof *self->activations);
    self->seed = memory_allocate(largest(of->source_layouts, of->source_count, per_plan),
                                 sizeof *self->seed);
    self->gradient = memory_allocate(largest(of->layouts, of->what->wrt_count, per_plan),
                                     sizeof *self->gradient);
    self->chosen = memory_allocate_zeroed(per_plan, sizeof *self->chosen);
    self->scores = memory_allocate_zeroed(per_plan, sizeof *self->scores);
    self->base_scores = memory_allocate_zeroed(per_plan, sizeof *self->base_scores);
    if (self->outputs == NULL || self->values == NULL || self->activations == NULL ||
        self->seed == NULL || self->gradient == NULL || self->chosen == NULL ||
        self->scores == NULL || self->base_scores == NULL)
        return error_memory(error, "gradients", 0);
    return XAI_OK;
}

static xai_status not_finite(const job *self, const char *what, int value, size_t row,
                             xai_error **error)
{
    return error_set(error, XAI_ERROR_NUMERIC, name_of(self, value),
                     "%s of row %zu holds a NaN or an infinity", what, row);
}

static xai_status copy_doubles(const job *self, run *state, int value, size_t first_row,
                               double **out, xai_error **error)
{
    const tensor *found = NULL;
    const xai_status status = run_value(state, value, &found, error);
    if (status != XAI_OK)
        return status;
    const size_t count = tensor_count(found);
    *out = memory_allocate(count, sizeof **out);
    if (*out == NULL)
        return error_memory(error, "scores", count * sizeof **out);
    tensor_read_doubles(found, 0, count, *out);
    for (size_t i = 0; i < count; i++)
        if (!isfinite((*out)[i]))
            return not_finite(self, "the scores", value,
                              first_row + i / (count / self->rows->per_plan), error);
    return XAI_OK;
}

static bool all_finite(const float *values, size_t count)
{
    /* x - x is 0 for finite x and NaN otherwise; the sum of them is a loop without branches. */
    float sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += values[i] - values[i];
    return sum == 0;
}

static xai_status copy_activation(const job *self, run *state, int value, size_t first_row,
                                  float **out, xai_error **error)
{
    const tensor *found = NULL;
    const xai_status status = run_value(state, value, &found, error);
    if (status != XAI_OK)
        return status;
    const size_t count = tensor_count(found);
    *out = memory_allocate(count, sizeof **out);
    if (*out == NULL)
        return error_memory(error, "activations", count * sizeof **out);
    tensor_read_floats(found, 0, count, *out);
    return all_finite(*out, count) ? XAI_OK
                                   : not_finite(self, "the activation", value, first_row, error);
}

/* After the forward pass: a view of a value dies with the next call on the run, so everything is
 * copied. */
static xai_status collect(const job *self, run *state, size_t first_row, scratch *into,
                          xai_error **error)
{
    xai_status status = XAI_OK;
    for (size_t s = 0; status == XAI_OK && s < self->source_count; s++) {
        const score_source *source = &self->sources[s];
        status =
            copy_doubles(self, state, source->output_value, first_row, &into->outputs[s], error);
        if (status == XAI_OK && source->seed_value == source->output_value)
            into->values[s] = into->outputs[s];
        else if (status == XAI_OK)
            status =
                copy_doubles(self, state, source->seed_value, first_row, &into->values[s], error);
    }
    for (size_t v = 0; status == XAI_OK && v < self->what->activations; v++)
        status = copy_activation(self, state, self->what->wrt[v], first_row, &into->activations[v],
                                 error);
    return status;
}

/* Choose and score the target in every row of the run, and fill the seed of all of them. */
static xai_status seed_target(const job *self, size_t target, size_t first_row, scratch *at,
                              xai_error **error)
{
    const size_t s = self->source_of[target];
    const shape *row_shape = &self->source_layouts[s].row;
    size_t count = 0;
    (void)shape_count(row_shape, &count);
    for (size_t b = 0; b < self->rows->per_plan; b++) {
        const xai_status status = target_resolve(self->what->targets[target], self->self->of,
                                                 self->sources[s].output, first_row + b, row_shape,
                                                 at->outputs[s] + b * count, &at->chosen[b], error);
        if (status != XAI_OK)
            return status;
        at->scores[b] = score_evaluate(&self->sources[s], &at->chosen[b], row_shape,
                                       at->values[s] + b * count, at->seed + b * count);
        if (!isfinite(at->scores[b]) || !all_finite(at->seed + b * count, count))
            return not_finite(self, "the score", self->sources[s].output_value, first_row + b,
                              error);
    }
    return XAI_OK;
}

/* A score without gradients. */
static xai_status report_scores(const job *self, size_t target, size_t first_row, const scratch *at,
                                xai_error **error)
{
    const score_source *source = &self->sources[self->source_of[target]];
    xai_status status = XAI_OK;
    for (size_t b = 0; status == XAI_OK && b < self->rows->per_plan; b++) {
        const sample found = {
            .row = first_row + b,
            .target = target,
            .chosen = &at->chosen[b],
            .output = source->output,
            .output_shape = &self->source_layouts[self->source_of[target]].row,
            .score = at->scores[b],
            .source = source,
        };
        status = self->what->body(self->what->user, &found, error);
    }
    return status;
}

static xai_status report(const job *self, const tensor *gradient, size_t target, size_t v,
                         size_t first_row, const scratch *at, xai_error **error)
{
    const int value = self->what->wrt[v];
    xai_status status = XAI_OK;
    size_t count = 0;
    (void)shape_count(&self->layouts[v].row, &count);
    if (tensor_count(gradient) != count * self->rows->per_plan)
        return error_set(error, XAI_ERROR_INTERNAL, name_of(self, value),
                         "its gradient has another size");
    tensor_read_floats(gradient, 0, count * self->rows->per_plan, at->gradient);
    for (size_t b = 0; status == XAI_OK && b < self->rows->per_plan; b++) {
        if (!all_finite(at->gradient + b * count, count))
            return not_finite(self, "the gradient", value, first_row + b, error);
        const score_source *source = &self->sources[self->source_of[target]];
        const float *activation = at->activations[v];
        const sample found = {
            .row = first_row + b,
            .target = target,
            .wrt = v,
            .chosen = &at->chosen[b],
            .output = source->output,
            .output_shape = &self->source_layouts[self->source_of[target]].row,
            .score = at->scores[b],
            .source = source,
            .layout = &self->layouts[v],
            .count = count,
            .activation = activation != NULL ? activation + b * count : NULL,
            .gradient = at->gradient + b * count,
            .against = at->against,
            .base_score = at->base_scores[b],
        };
        status = self->what->body(self->what->user, &found, error);
    }
    return status;
}

/* Gradients that come during the backward pass. */
typedef struct each_job {
    const job *of;
    const scratch *at;
    size_t target, first_row;
} each_job;

static xai_status report_each(void *user, int value, const tensor *gradient, xai_error **error)
{
    const each_job *each = user;
    xai_status status = XAI_OK;
    for (size_t v = 0; status == XAI_OK && v < each->of->what->wrt_count; v++)
        if (each->of->what->wrt[v] == value)
            status = report(each->of, gradient, each->target, v, each->first_row, each->at, error);
    return status;
}

/* The gradients of one seed. */
static xai_status differentiate_seed(const job *self, run *state, size_t target, size_t first_row,
                                     const scratch *at, xai_error **error)
{
    const int seed_value = self->sources[self->source_of[target]].seed_value;
    each_job each = {.of = self, .at = at, .target = target, .first_row = first_row};
    if (self->what->one_by_one)
        return run_backward_each(state, seed_value, at->seed, report_each, &each, error);
    xai_status status = run_backward(state, seed_value, at->seed, error);
    for (size_t v = 0; status == XAI_OK && v < self->what->wrt_count; v++) {
        const tensor *gradient = NULL;
        status = run_gradient(state, self->what->wrt[v], &gradient, error);
        if (status == XAI_OK)
            status = report(self, gradient, target, v, first_row, at, error);
    }
    return status;
}

/* All targets against one baseline (base_values; NULL = none). */
static xai_status differentiate_targets(const job *self, run *state, size_t first_row,
                                        const double *base_values, scratch *at, xai_error **error)
{
    xai_status status = XAI_OK;
    for (size_t t = 0; status == XAI_OK && t < self->what->target_count; t++) {
        status = seed_target(self, t, first_row, at, error);
        if (status == XAI_OK && base_values != NULL)
            status = contrast_seed(self, t, base_values, at, error);
        if (status == XAI_OK && self->what->wrt_count == 0)
            status = report_scores(self, t, first_row, at, error);
        else if (status == XAI_OK)
            status = differentiate_seed(self, state, t, first_row, at, error);
    }
    return status;
}

static xai_status differentiate_row(void *user, run *state, size_t index, xai_error **error)
{
    const job *self = user;
    const size_t first_row = index * self->rows->per_plan;
    kept_baseline own = {0};
    scratch at;
    xai_status status = scratch_init(&at, self, error);
    if (status == XAI_OK)
        status = collect(self, state, first_row, &at, error);
    if (status == XAI_OK && self->contrasts == NULL)
        status = differentiate_targets(self, state, first_row, NULL, &at, error);
    for (size_t k = 0; self->contrasts && status == XAI_OK && k < self->what->against->count; k++) {
        const double *base_values = NULL;
        at.against = k;
        status = contrast_set(self, state, index, k, &own, &base_values, error);
        if (status == XAI_OK)
            status = differentiate_targets(self, state, first_row, base_values, &at, error);
        if (status == XAI_OK)
            status = contrast_report(self, error);
    }
    run_set_baseline(state, NULL);
    kept_baseline_free(&own);
    scratch_free(&at, self);
    return status;
}

xai_status evaluator_differentiate(evaluator *self, const batch *rows, const differentiation *what,
                                   xai_error **error)
{
    job at;
    plan *program = NULL;
    xai_status status = job_init(&at, self, rows, what, error);
    if (status == XAI_OK) {
        const plan_wish wanted = {
            .ids = {at.wanted, at.seeds, at.wrt},
            .counts = {at.wanted_count, at.wrt_count > 0 ? at.seed_count : 0, at.wrt_count},
            .rule = what->rule,
            .passes_gradients = what->one_by_one};
        status = evaluator_find_plan(self, rows, &wanted, &program, error);
    }
    if (status == XAI_OK)
        status = check_plan(&at, program, error);
    if (status == XAI_OK && what->prepare != NULL)
        status = what->prepare(what->user, program, at.layouts, error);
    if (status == XAI_OK && what->against != NULL)
        status = contrast_open(&at, self, program, error);
    if (status == XAI_OK)
        status = (what->against != NULL ? evaluator_run_quietly : evaluator_run_rows)(
            self, program, rows, differentiate_row, &at, error);
    contrast_close(&at);
    job_free(&at);
    return status;
}
