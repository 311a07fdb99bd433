/* Differentiation against baselines (DeepLIFT): their forward passes, made once where they serve every
 * row, and seeds for scores that are curves of what the model computes. */
#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "explain/differentiate.h"

struct contrast_state {
    const evaluator *self;
    plan *program;
    kept_baseline *kept; /* the plan entry's */
    size_t kept_count;
    pthread_mutex_t lock; /* guards what follows */
    size_t done, total;
};

void kept_baseline_free(kept_baseline *self)
{
    baseline_free(self->activations);
    memory_free(self->values);
    *self = (kept_baseline){0};
}

/* Elements of a seed value in one run. */
static size_t seed_size(const job *self, const plan *program, size_t seed)
{
    size_t count = 0;
    (void)shape_count(&plan_graph(program)->values[self->seeds[seed]].shape, &count);
    return count;
}

typedef struct keep_job {
    const job *self;
    kept_baseline *into;
} keep_job;

/* Seed values of the last forward pass. */
static xai_status keep_values(const job *self, run *state, double *out, xai_error **error)
{
    for (size_t s = 0; s < self->seed_count; s++) {
        const tensor *found = NULL;
        const xai_status status = run_value(state, self->seeds[s], &found, error);
        if (status != XAI_OK)
            return status;
        tensor_read_doubles(found, 0, seed_size(self, self->contrasts->program, s), out);
        out += seed_size(self, self->contrasts->program, s);
    }
    return XAI_OK;
}

static xai_status keep(void *user, run *state, size_t row, xai_error **error)
{
    const keep_job *to = user;
    (void)row;
    const xai_status status = keep_values(to->self, state, to->into->values, error);
    return status == XAI_OK ? baseline_create(state, &to->into->activations, error) : status;
}

/* The inputs of one run: all rows of the plan from the contrast. */
static xai_status fill_inputs(const job *self, size_t run_index, size_t index, tensor *inputs,
                              xai_error **error)
{
    const batch *rows = self->rows;
    const graph *source = network_graph(self->self->of->net);
    xai_status status = XAI_OK;
    for (size_t i = 0; status == XAI_OK && i < source->input_count; i++) {
        status = tensor_create(&inputs[i], rows->inputs[i]->dtype, &rows->shapes[i], error);
        const size_t per_plan = rows->has_rows ? rows->per_plan : 1;
        const size_t bytes = tensor_bytes(&inputs[i]) / per_plan;
        for (size_t b = 0; status == XAI_OK && b < per_plan; b++) {
            const int64_t count = (int64_t)(tensor_count(&inputs[i]) / per_plan);
            tensor row = {.dtype = inputs[i].dtype,
                          .shape = shape_make(1, &count),
                          .data = (char *)inputs[i].data + b * bytes};
            status = self->what->against->fill(self->what->user, run_index * rows->per_plan + b,
                                               index, i, &row, error);
        }
    }
    return status;
}

/* In the run that holds the row: a second run would double the memory. */
static xai_status keep_beside(const job *self, run *state, const tensor *const *inputs,
                              kept_baseline *into, xai_error **error)
{
    xai_status status = XAI_OK;
    if (into->activations == NULL)
        status = baseline_create(state, &into->activations, error); /* of the row, for now */
    else
        run_swap_baseline(state, into->activations);
    if (status == XAI_OK)
        status = run_forward(state, inputs, error);
    if (status == XAI_OK)
        status = keep_values(self, state, into->values, error);
    if (status == XAI_OK)
        run_swap_baseline(state, into->activations);
    return status;
}

/* beside: the run that holds the row, or NULL. */
static xai_status make(const job *self, run *beside, size_t run_index, size_t index,
                       kept_baseline *into, xai_error **error)
{
    contrast_state *state = self->contrasts;
    const size_t inputs = network_graph(self->self->of->net)->input_count;
    tensor *made = memory_allocate_zeroed(inputs, sizeof *made);
    const tensor **pointers = memory_allocate(inputs, sizeof *pointers);
    size_t count = 0;
    for (size_t s = 0; s < self->seed_count; s++)
        count += seed_size(self, state->program, s);
    if (into->values == NULL)
        into->values = memory_allocate(count, sizeof *into->values);
    xai_status status = made && pointers && into->values
                            ? fill_inputs(self, run_index, index, made, error)
                            : error_memory(error, "a baseline", count * sizeof *into->values);
    for (size_t i = 0; pointers && i < inputs; i++)
        pointers[i] = &made[i];
    keep_job to = {.self = self, .into = into};
    const rows_options options = {.threads = self->self->options.threads};
    if (status == XAI_OK)
        status = beside != NULL ? keep_beside(self, beside, pointers, into, error)
                                : rows_run(state->program, pointers, 1, &options, keep, &to, error);
    for (size_t i = 0; made && i < inputs; i++)
        tensor_free(&made[i]);
    memory_free(made);
    memory_free(pointers);
    return status;
}

xai_status contrast_open(job *self, evaluator *engine, plan *program, xai_error **error)
{
    const contrast *against = self->what->against;
    contrast_state *state = memory_allocate_zeroed(1, sizeof *state);
    if (state == NULL)
        return error_memory(error, "baselines", sizeof *state);
    state->self = engine;
    state->program = program;
    state->total = self->rows->runs * against->count;
    pthread_mutex_init(&state->lock, NULL);
    self->contrasts = state;
    if (engine->options.progress != NULL &&
        !engine->options.progress(engine->options.progress_user, 0, state->total))
        return error_set(error, XAI_ERROR_CANCELLED, NULL, "cancelled");
    plan_entry *entry = evaluator_entry(engine, program);
    if (!against->fixed || entry == NULL)
        return XAI_OK;
    size_t wanted = against->count, room = against->cache_bytes;
    const size_t bytes = plan_baseline_bytes(program);
    const size_t limit = engine->options.memory_limit, runs = bytes + plan_arena_bytes(program);
    if (limit > 0 &&
        room > (limit > runs ? limit - runs : 0)) /* the row's arena and a baseline not kept */
        room = limit > runs ? limit - runs : 0;
    if (bytes > 0 && room / bytes < wanted)
        wanted = room / bytes;
    if (entry->kept == NULL) {
        entry->kept = memory_allocate_zeroed(against->count, sizeof *entry->kept);
        if (entry->kept == NULL)
            return error_memory(error, "baselines", against->count * sizeof *entry->kept);
    }
    state->kept = entry->kept;
    state->kept_count = wanted;
    xai_status status = XAI_OK;
    for (; status == XAI_OK && entry->kept_count < wanted; entry->kept_count++) {
        status = make(self, NULL, 0, entry->kept_count, &entry->kept[entry->kept_count], error);
        if (status == XAI_OK && engine->options.progress != NULL &&
            !engine->options.progress(engine->options.progress_user, 0, state->total))
            status = error_set(error, XAI_ERROR_CANCELLED, NULL, "cancelled");
        if (status != XAI_OK) {
            kept_baseline_free(&entry->kept[entry->kept_count]);
            break;
        }
    }
    return status;
}

void contrast_close(job *self)
{
    if (self->contrasts == NULL)
        return;
    pthread_mutex_destroy(&self->contrasts->lock);
    memory_free(self->contrasts);
    self->contrasts = NULL;
}

xai_status contrast_set(const job *self, run *state, size_t run_index, size_t index,
                        kept_baseline *own, const double **values, xai_error **error)
{
    const contrast_state *known = self->contrasts;
    const kept_baseline *found = own;
    if (index < known->kept_count) {
        found = &known->kept[index];
    } else {
        const xai_status status = make(self, state, run_index, index, own, error);
        if (status != XAI_OK)
            return status;
    }
    run_set_baseline(state, found->activations);
    *values = found->values;
    return XAI_OK;
}

/* 16 pieces of 4 Gauss-Legendre points: a sigmoid over 30 units of its argument is integrated to
 * 1e-9. */
enum { PIECES = 16, POINTS = 4 };
static const double points[POINTS] = {0.06943184420297371, 0.33000947820757187, 0.66999052179242813,
                                      0.93056815579702629};
static const double weights[POINTS] = {0.17392742256872693, 0.32607257743127307,
                                       0.32607257743127307, 0.17392742256872693};

static xai_status average_slopes(const score_source *source, const selection *chosen,
                                 const shape *row_shape, const double *x, const double *r,
                                 float *seed, size_t count, xai_error **error)
{
    double *sums = memory_allocate_zeroed(2 * count, sizeof *sums);
    if (sums == NULL)
        return error_memory(error, "a score's slopes", 2 * count * sizeof *sums);
    double *at = sums + count;
    for (int piece = 0; piece < PIECES; piece++)
        for (int p = 0; p < POINTS; p++) {
            const double t = (piece + points[p]) / PIECES;
            for (size_t i = 0; i < count; i++)
                at[i] = r[i] + t * (x[i] - r[i]);
            (void)score_evaluate(source, chosen, row_shape, at, seed);
            for (size_t i = 0; i < count; i++)
                sums[i] += weights[p] / PIECES * (double)seed[i];
        }
    for (size_t i = 0; i < count; i++)
        seed[i] = (float)sums[i];
    memory_free(sums);
    return XAI_OK;
}

xai_status contrast_seed(const job *self, size_t target, const double *base_values, scratch *at,
                         xai_error **error)
{
    const size_t s = self->source_of[target];
    const score_source *source = &self->sources[s];
    const shape *row_shape = &self->source_layouts[s].row;
    size_t count = 0;
    (void)shape_count(row_shape, &count);
    for (size_t k = 0; self->seeds[k] != source->seed_value; k++)
        base_values += seed_size(self, self->contrasts->program, k);
    xai_status status = XAI_OK;
    for (size_t b = 0; status == XAI_OK && b < self->rows->per_plan; b++) {
        const double *r = base_values + b * count;
        at->base_scores[b] = score_evaluate(source, &at->chosen[b], row_shape, r, NULL);
        if (source->transform != SCORE_IDENTITY)
            status = average_slopes(source, &at->chosen[b], row_shape, at->values[s] + b * count, r,
                                    at->seed + b * count, count, error);
    }
    return status;
}

xai_status contrast_report(const job *self, xai_error **error)
{
    contrast_state *state = self->contrasts;
    const evaluator_options *options = &state->self->options;
    bool go_on = true;
    pthread_mutex_lock(&state->lock);
    state->done++;
    if (options->progress != NULL)
        go_on = options->progress(options->progress_user, state->done, state->total) ||
                state->done == state->total;
    const size_t done = state->done, total = state->total;
    pthread_mutex_unlock(&state->lock);
    return go_on ? XAI_OK
                 : error_set(error, XAI_ERROR_CANCELLED, NULL, "cancelled after %zu of %zu", done,
                             total);
}
