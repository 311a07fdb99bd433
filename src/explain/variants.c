#include "explain/variants.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/parallel.h"
#include "explain/rows.h"

/* Original rows */

size_t variants_row_count(const batch *rows, size_t input)
{
    const size_t count = tensor_count(rows->inputs[input]);
    return rows->has_rows ? count / rows->rows : count;
}

const void *variants_row(const batch *rows, size_t row, size_t input)
{
    const tensor *whole = rows->inputs[input];
    const size_t bytes = variants_row_count(rows, input) * dtype_size(whole->dtype);
    return (const char *)whole->data + (rows->has_rows ? row * bytes : 0);
}

void variants_copy_row(const batch *rows, size_t row, size_t input, tensor *out)
{
    memcpy(out->data, variants_row(rows, row, input), tensor_bytes(out));
}

/* Fixing scores */

typedef struct fix_job {
    fixed_score *scores;
    size_t target_count;
} fix_job;

static xai_status keep_score(void *user, const sample *of, xai_error **error)
{
    const fix_job *job = user;
    (void)error;
    job->scores[of->row * job->target_count + of->target] =
        (fixed_score){.source = *of->source,
                      .chosen = *of->chosen,
                      .row_shape = *of->output_shape,
                      .score = of->score};
    return XAI_OK;
}

xai_status evaluator_fix_scores(evaluator *self, const batch *rows,
                                const xai_target *const *targets, size_t target_count,
                                int32_t score, fixed_score *scores, xai_error **error)
{
    fix_job job = {.scores = scores, .target_count = target_count};
    const differentiation what = {.targets = targets,
                                  .target_count = target_count,
                                  .score = score,
                                  .body = keep_score,
                                  .user = &job};
    return evaluator_differentiate(self, rows, &what, error);
}

xai_status evaluator_value_shape(evaluator *self, const batch *rows, int value, shape *out,
                                 xai_error **error)
{
    plan *program = NULL;
    const plan_wish wanted = {.ids = {&value}, .counts = {1}};
    const xai_status status = evaluator_find_plan(self, rows, &wanted, &program, error);
    if (status != XAI_OK)
        return status;
    const graph_value *found = &plan_graph(program)->values[value];
    char dims[SHAPE_TEXT_SIZE];
    if (found->late)
        return graph_check_static(plan_graph(program), value, error);
    if (found->removed || found->is_constant || found->dtype != DTYPE_FLOAT)
        return error_set(error, XAI_ERROR_UNSUPPORTED, found->name,
                         "a layer of float32 that depends on the input is needed");
    if (rows->per_plan > 1 &&
        (found->shape.rank == 0 || found->shape.dims[0] != (int64_t)rows->per_plan))
        return error_set(error, XAI_ERROR_UNSUPPORTED, found->name,
                         "shape %s has no axis for the %zu rows of the batch",
                         shape_text(&found->shape, dims), rows->per_plan);
    *out = found->shape;
    return XAI_OK;
}

/* Runs */

/* What a run's body hands to its turn: gradients, values, scores and outputs of B variants. */
typedef struct slot_data {
    double *scores;   /* (B, score_count) */
    float *gradients; /* [score][v]: (B, count_v) */
    float *values;    /* [v]: (B, count_v) */
    double *outputs;  /* [score]: (B, elements of a row of its value) */
} slot_data;

typedef struct variant_job {
    evaluator *self;
    const variants *what;
    slot_data **slots; /* one a run */
    size_t *counts;    /* of one row of each value */
    size_t *offsets;   /* of each value in a score's gradients, times B rows */
    size_t stride;     /* floats of one score's gradients, B rows of all values */
    size_t *outputs;   /* of each score in the outputs, one row */
    size_t output_count;
    size_t per_plan, runs;
    size_t input_start; /* the input that variants start at; SIZE_MAX = none */
} variant_job;

static void slot_free(slot_data *self)
{
    if (self == NULL)
        return;
    memory_free(self->scores);
    memory_free(self->gradients);
    memory_free(self->values);
    memory_free(self->outputs);
    memory_free(self);
}

static slot_data *slot_create(const variant_job *job)
{
    const variants *what = job->what;
    size_t floats = 0, doubles = 0;
    slot_data *made = memory_allocate_zeroed(1, sizeof *made);
    if (made == NULL || !size_multiply(job->stride, what->score_count, &floats) ||
        !size_multiply(job->output_count, job->per_plan, &doubles)) {
        memory_free(made);
        return NULL;
    }
    made->scores = memory_allocate(job->per_plan * what->score_count, sizeof *made->scores);
    made->gradients = memory_allocate(floats, sizeof *made->gradients);
    made->values = memory_allocate(what->with_values ? job->stride : 0, sizeof *made->values);
    made->outputs = memory_allocate(doubles, sizeof *made->outputs);
    if (made->scores == NULL || made->gradients == NULL || made->values == NULL ||
        made->outputs == NULL) {
        slot_free(made);
        return NULL;
    }
    return made;
}

/* Which input of the model the start is, when there is one and it is an input: then nothing of the
 * network lies before it, and its variants are written to the input itself. */
static size_t find_input_start(const graph *source, const variants *what)
{
    for (size_t i = 0; what->start_count == 1 && i < source->input_count; i++)
        if (source->inputs[i] == what->starts[0])
            return i;
    return SIZE_MAX;
}

/* One row of each input of the run at a time; the last run may hold its last variant again. */
static xai_status fill_run(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const variant_job *job = user;
    const variants *what = job->what;
    const batch *rows = what->rows;
    const bool at_input = job->input_start != SIZE_MAX;
    const size_t own = network_graph(job->self->of->net)->input_count;
    const size_t count = own + (at_input ? 0 : what->start_count);
    if (job->per_plan == 1 && !at_input)
        return what->fill(what->user, index, inputs, error);
    tensor *views = memory_allocate(count + 1, sizeof *views);
    if (views == NULL)
        return error_memory(error, "variants", count * sizeof *views);
    xai_status status = XAI_OK;
    for (size_t b = 0; status == XAI_OK && b < job->per_plan; b++) {
        for (size_t i = 0; i < count; i++) {
            views[i] = inputs[i];
            views[i].owned = false;
            if (job->per_plan == 1)
                continue;
            views[i].shape.dims[0] = 1;
            views[i].data = (char *)inputs[i].data + b * tensor_bytes(&views[i]);
        }
        if (at_input)
            views[count] = views[job->input_start];
        const size_t at = index * rows->per_plan + b;
        status = what->fill(what->user, at < what->count ? at : what->count - 1, views, error);
    }
    memory_free(views);
    return status;
}

static bool all_finite(const float *values, size_t count)
{
    float sum = 0; /* x - x is 0 for finite x and NaN otherwise */
    for (size_t i = 0; i < count; i++)
        sum += values[i] - values[i];
    return sum == 0;
}

static xai_status copy_floats(const variant_job *job, const tensor *from, size_t v, float *to,
                              const char *what, xai_error **error)
{
    const size_t count = job->per_plan * job->counts[v];
    const char *name = network_graph(job->self->of->net)->values[job->what->wrt[v]].name;
    if (tensor_count(from) != count)
        return error_set(error, XAI_ERROR_INTERNAL, name, "%s has another size", what);
    tensor_read_floats(from, 0, count, to);
    if (!all_finite(to, count))
        return error_set(error, XAI_ERROR_NUMERIC, name,
                         "%s of a variant of row %zu holds a NaN or an infinity", what,
                         job->what->row);
    return XAI_OK;
}

/* Score t of the B rows, and the seed of its backward pass. */
static xai_status take_score(const variant_job *job, run *state, size_t t, double **values,
                             float **seed, slot_data *into, xai_error **error)
{
    const fixed_score *fixed = &job->what->scores[t];
    const tensor *found = NULL;
    size_t row_count = 0;
    (void)shape_count(&fixed->row_shape, &row_count);
    const xai_status status = run_value(state, fixed->source.seed_value, &found, error);
    if (status != XAI_OK)
        return status;
    const size_t count = tensor_count(found);
    if (count != row_count * job->per_plan)
        return error_set(error, XAI_ERROR_INTERNAL, NULL, "a score has another shape");
    double *grown = memory_resize(*values, count, sizeof **values);
    *values = grown != NULL ? grown : *values;
    float *grown_seed = memory_resize(*seed, count, sizeof **seed);
    *seed = grown_seed != NULL ? grown_seed : *seed;
    if (grown == NULL || grown_seed == NULL)
        return error_memory(error, "scores", count * sizeof **values);
    tensor_read_doubles(found, 0, count, *values);
    if (job->what->with_outputs)
        memcpy(into->outputs + job->outputs[t] * job->per_plan, *values, count * sizeof **values);
    for (size_t b = 0; b < job->per_plan; b++) {
        const double score = score_evaluate(&fixed->source, &fixed->chosen, &fixed->row_shape,
                                            *values + b * row_count, *seed + b * row_count);
        if (!isfinite(score) || !all_finite(*seed + b * row_count, row_count))
            return error_set(error, XAI_ERROR_NUMERIC, NULL,
                             "the score of a variant of row %zu is a NaN or an infinity",
                             job->what->row);
        into->scores[b * job->what->score_count + t] = score;
    }
    return XAI_OK;
}

/* Whether any of the run's variants wants score t. */
static bool wants_score(const variant_job *job, size_t index, size_t t)
{
    const variants *what = job->what;
    bool wanted = what->wants == NULL;
    for (size_t b = 0; !wanted && b < job->per_plan; b++) {
        const size_t at = index * job->per_plan + b;
        wanted = at < what->count && what->wants(what->user, at, t);
    }
    return wanted;
}

static xai_status evaluate_run(void *user, run *state, size_t index, xai_error **error)
{
    const variant_job *job = user;
    const variants *what = job->what;
    double *values = NULL;
    float *seed = NULL;
    xai_status status = XAI_OK;
    const tensor *found = NULL;
    slot_data *into = slot_create(job);
    if (into == NULL)
        return error_memory(error, "gradients", job->stride * sizeof(float));
    job->slots[index] = into; /* freed in its turn, or with the job */
    for (size_t v = 0; status == XAI_OK && what->with_values && v < what->wrt_count; v++) {
        status = run_value(state, what->wrt[v], &found, error);
        if (status == XAI_OK)
            status = copy_floats(job, found, v, into->values + job->offsets[v], "the value", error);
    }
    for (size_t t = 0; status == XAI_OK && t < what->score_count; t++) {
        if (!wants_score(job, index, t))
            continue;
        status = take_score(job, state, t, &values, &seed, into, error);
        if (status == XAI_OK && what->wrt_count > 0)
            status = run_backward(state, what->scores[t].source.seed_value, seed, error);
        for (size_t v = 0; status == XAI_OK && v < what->wrt_count; v++) {
            status = run_gradient(state, what->wrt[v], &found, error);
            if (status == XAI_OK)
                status =
                    copy_floats(job, found, v, into->gradients + t * job->stride + job->offsets[v],
                                "the gradient", error);
        }
    }
    memory_free(values);
    memory_free(seed);
    return status;
}

static xai_status hand_over(void *user, run *state, size_t index, xai_error **error)
{
    const variant_job *job = user;
    const variants *what = job->what;
    slot_data *from = job->slots[index];
    const size_t pointers = what->wrt_count * (what->score_count + 1);
    const float **gradients = memory_allocate(pointers, sizeof *gradients);
    const double **outputs = memory_allocate(what->score_count, sizeof *outputs);
    xai_status status = XAI_OK;
    (void)state;
    if (gradients == NULL || outputs == NULL) {
        status = error_memory(error, "gradients", pointers * sizeof *gradients);
        goto done;
    }
    const float **values = gradients + what->wrt_count * what->score_count;
    for (size_t b = 0; status == XAI_OK && b < job->per_plan; b++) {
        const size_t at = index * job->per_plan + b;
        if (at >= what->count)
            break;
        for (size_t v = 0; v < what->wrt_count; v++) {
            for (size_t t = 0; t < what->score_count; t++)
                gradients[t * what->wrt_count + v] =
                    from->gradients + t * job->stride + job->offsets[v] + b * job->counts[v];
            values[v] = from->values + job->offsets[v] + b * job->counts[v];
        }
        for (size_t t = 0; what->with_outputs && t < what->score_count; t++) {
            size_t count = 0;
            (void)shape_count(&what->scores[t].row_shape, &count);
            outputs[t] = from->outputs + job->outputs[t] * job->per_plan + b * count;
        }
        const variant found = {
            .index = at,
            .scores = from->scores + b * what->score_count,
            .gradients = what->wrt_count > 0 ? gradients : NULL,
            .values = what->with_values ? values : NULL,
            .outputs = what->with_outputs ? outputs : NULL,
            .counts = job->counts,
        };
        status = what->body(what->user, &found, error);
    }
done:
    memory_free((void *)gradients);
    memory_free((void *)outputs);
    slot_free(from);
    job->slots[index] = NULL;
    return status;
}

/* Sizes of the values, once the plan is known. */
static xai_status measure(variant_job *job, const plan *program, xai_error **error)
{
    const variants *what = job->what;
    for (size_t v = 0; v < what->wrt_count; v++) {
        const graph_value *found = &plan_graph(program)->values[what->wrt[v]];
        size_t count = 0;
        if (found->removed || found->is_constant || !dtype_is_float(found->dtype) ||
            !shape_count(&found->shape, &count))
            return error_set(error, XAI_ERROR_UNSUPPORTED, found->name, "it has no gradient");
        if (count % job->per_plan != 0)
            return error_set(error, XAI_ERROR_UNSUPPORTED, found->name, "it has no row axis");
        job->counts[v] = count / job->per_plan;
        job->offsets[v] = job->stride;
        job->stride += count;
    }
    for (size_t t = 0; what->with_outputs && t < what->score_count; t++) {
        size_t count = 0;
        (void)shape_count(&what->scores[t].row_shape, &count);
        job->outputs[t] = job->output_count;
        if (!size_add(job->output_count, count, &job->output_count))
            return error_memory(error, "the outputs of variants", SIZE_MAX);
    }
    return XAI_OK;
}

static void add_once(int *ids, size_t *count, int id)
{
    for (size_t i = 0; i < *count; i++)
        if (ids[i] == id)
            return;
    ids[(*count)++] = id;
}

/* A plan that gives what is wanted. */
static xai_status find_plan(const variant_job *job, int runs, plan **out, xai_error **error)
{
    const variants *what = job->what;
    const size_t most = what->score_count + what->wrt_count;
    int *wanted = memory_allocate(most, sizeof *wanted);
    int *seeds = memory_allocate(what->score_count, sizeof *seeds);
    size_t wanted_count = 0, seed_count = 0;
    xai_status status = XAI_OK;
    if (wanted == NULL || seeds == NULL) {
        status = error_memory(error, "a plan", most * sizeof *wanted);
        goto done;
    }
    for (size_t t = 0; t < what->score_count; t++) {
        const score_source *source = &what->scores[t].source;
        if (source->seed_value != source->output_value)
            add_once(wanted, &wanted_count, source->seed_value);
        add_once(seeds, &seed_count, source->seed_value);
    }
    for (size_t v = 0; what->with_values && v < what->wrt_count; v++)
        add_once(wanted, &wanted_count, what->wrt[v]);
    const plan_wish wish = {
        .ids = {wanted, seeds, what->wrt, what->starts},
        .counts = {wanted_count, what->wrt_count > 0 ? seed_count : 0, what->wrt_count,
                   job->input_start == SIZE_MAX ? what->start_count : 0},
        .start_shapes = what->start_shapes,
        .runs = runs,
    };
    status = evaluator_find_plan(job->self, what->rows, &wish, out, error);
done:
    memory_free(wanted);
    memory_free(seeds);
    return status;
}

xai_status evaluator_run_variants(evaluator *self, const variants *what, xai_error **error)
{
    variant_job job = {.self = self, .what = what, .per_plan = what->rows->per_plan};
    job.input_start = find_input_start(network_graph(self->of->net), what);
    plan *program = NULL;
    xai_status status = XAI_OK;
    if (what->count == 0)
        return XAI_OK;
    job.runs = (what->count + job.per_plan - 1) / job.per_plan;
    job.slots = memory_allocate_zeroed(job.runs, sizeof *job.slots);
    job.counts = memory_allocate_zeroed(what->wrt_count, sizeof *job.counts);
    job.offsets = memory_allocate_zeroed(what->wrt_count, sizeof *job.offsets);
    job.outputs = memory_allocate_zeroed(what->score_count, sizeof *job.outputs);
    if (job.slots == NULL || job.counts == NULL || job.offsets == NULL || job.outputs == NULL) {
        status = error_memory(error, "variants", job.runs * sizeof *job.slots);
        goto done;
    }
    /* A variant a thread pays as soon as every thread has one, and memory holds more than one. */
    const int processors =
        self->options.threads > 0 ? self->options.threads : parallel_processors();
    int workers = 1;
    if (processors > 1 && job.runs >= (size_t)processors) {
        status = find_plan(&job, RUNS_ALONE, &program, error);
        workers = status == XAI_OK ? evaluator_workers(self, job.runs, program) : 1;
    }
    if (status == XAI_OK && workers == 1)
        status = find_plan(&job, RUNS_SHARED, &program, error);
    if (status == XAI_OK)
        status = measure(&job, program, error);
    if (status == XAI_OK)
        status = evaluator_run_made(self, program, job.runs, workers, fill_run, evaluate_run,
                                    hand_over, &job, error);
done:
    for (size_t i = 0; job.slots != NULL && i < job.runs; i++)
        slot_free(job.slots[i]);
    memory_free((void *)job.slots);
    memory_free(job.counts);
    memory_free(job.offsets);
    memory_free(job.outputs);
    return status;
}

/* Scores alone */

typedef struct score_job {
    const variants *what;
    double *out;
} score_job;

static xai_status fill_scored(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const score_job *job = user;
    return job->what->fill(job->what->user, index, inputs, error);
}

static xai_status keep_scores(void *user, const variant *of, xai_error **error)
{
    const score_job *job = user;
    const size_t count = job->what->score_count;
    (void)error;
    memcpy(job->out + of->index * count, of->scores, count * sizeof *job->out);
    return XAI_OK;
}

xai_status evaluator_scores_of(evaluator *self, const variants *what, double *out,
                               xai_error **error)
{
    score_job job = {.what = what, .out = out};
    variants scored = *what;
    scored.wrt = NULL;
    scored.wrt_count = 0;
    scored.with_values = false;
    scored.with_outputs = false;
    scored.wants = NULL;
    scored.fill = fill_scored;
    scored.body = keep_scores;
    scored.user = &job;
    return evaluator_run_variants(self, &scored, error);
}
