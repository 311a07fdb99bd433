/* Plans of an evaluator: which one a call needs, made when it is not in the cache, and how many threads work on
 * a run of it. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/parallel.h"
#include "explain/rows.h"

static void entry_free(plan_entry *self)
{
    for (size_t i = 0; i < self->kept_count; i++)
        kept_baseline_free(&self->kept[i]);
    memory_free(self->kept);
    plan_free(self->program);
    memory_free(self->shapes);
    memory_free(self->ids);
    *self = (plan_entry){0};
}

void evaluator_free(evaluator *self)
{
    for (size_t i = 0; i < EVALUATOR_PLANS; i++)
        entry_free(&self->plans[i]);
}

/* Plans */

static bool same_relevance(const relevance_rule *a, const relevance_rule *b)
{
    return a->kind == b->kind && a->epsilon == b->epsilon && a->gamma == b->gamma &&
           a->alpha == b->alpha && a->low == b->low && a->high == b->high;
}

static bool same_rule(const backward_rule *self, const backward_rule *wanted)
{
    static const backward_rule gradient = {.rule = ENGINE_RULE_GRADIENT};
    wanted = wanted != NULL ? wanted : &gradient;
    return self->rule == wanted->rule && self->has_first == wanted->has_first &&
           same_relevance(&self->relevance, &wanted->relevance) &&
           same_relevance(&self->first, &wanted->first);
}

static bool entry_fits(const plan_entry *self, const batch *rows, size_t inputs,
                       const plan_wish *wanted, int threads)
{
    if (self->program == NULL || self->threads != threads ||
        self->passes_gradients != wanted->passes_gradients || !same_rule(&self->rule, wanted->rule))
        return false;
    for (size_t i = 0; i < inputs; i++)
        if (!shape_equal(&self->shapes[i], &rows->shapes[i]))
            return false;
    const int *ids = self->ids;
    for (int kind = 0; kind < PLAN_LISTS; kind++) {
        if (self->counts[kind] != wanted->counts[kind])
            return false;
        if (wanted->counts[kind] > 0 &&
            memcmp(ids, wanted->ids[kind], wanted->counts[kind] * sizeof *ids) != 0)
            return false;
        ids += wanted->counts[kind];
    }
    return true;
}

static xai_status entry_make(const evaluator *self, const batch *rows, size_t inputs,
                             const plan_wish *wanted, int threads, plan_entry *out,
                             xai_error **error)
{
    size_t id_count = 0;
    for (int kind = 0; kind < PLAN_LISTS; kind++)
        id_count += wanted->counts[kind];
    plan_entry made = {.threads = threads, .passes_gradients = wanted->passes_gradients};
    if (wanted->rule != NULL)
        made.rule = *wanted->rule;
    xai_status status = XAI_OK;
    made.shapes = memory_allocate(inputs, sizeof *made.shapes);
    made.ids = memory_allocate(id_count, sizeof *made.ids);
    if (made.shapes == NULL || made.ids == NULL) {
        status = error_memory(error, "a plan",
                              inputs * sizeof *made.shapes + id_count * sizeof *made.ids);
        goto done;
    }
    for (size_t i = 0; i < inputs; i++)
        made.shapes[i] = rows->shapes[i];
    int *ids = made.ids;
    for (int kind = 0; kind < PLAN_LISTS; kind++) {
        for (size_t i = 0; i < wanted->counts[kind]; i++)
            *ids++ = wanted->ids[kind][i];
        made.counts[kind] = wanted->counts[kind];
    }
    const plan_request request = {
        .input_shapes = made.shapes,
        .wanted = made.ids,
        .wanted_count = made.counts[0],
        .seeds = made.ids + made.counts[0],
        .seed_count = made.counts[1],
        .gradients = made.ids + made.counts[0] + made.counts[1],
        .gradient_count = made.counts[2],
        .passes_gradients = made.passes_gradients,
        .starts = made.ids + made.counts[0] + made.counts[1] + made.counts[2],
        .start_shapes = wanted->start_shapes,
        .start_count = made.counts[3],
        .precision = self->options.precision,
        .rule = made.rule.rule,
        .relevance = &made.rule.relevance,
        .first_relevance = made.rule.has_first ? &made.rule.first : NULL,
        .allow_nonfinite = self->options.allow_nonfinite,
        .threads = threads,
        .memory_limit = self->options.memory_limit,
    };
    status = plan_create(self->of->net, &request, &made.program, error);
    if (status != XAI_OK)
        goto done;
    *out = made;
    made = (plan_entry){0};
done:
    entry_free(&made);
    return status;
}

/* Runs */

static int thread_count(const evaluator *self)
{
    return self->options.threads > 0 ? self->options.threads : parallel_processors();
}

/* A run a thread: where it is wished, with at least two runs; else where every thread has one and few are idle at
 * the end. Threads that share a run wait for each other at every layer, which costs about what this leaves idle. */
bool evaluator_deals_runs(const evaluator *self, size_t runs)
{
    const double busy = 0.85;
    const size_t threads = (size_t)thread_count(self);
    if (runs < 2 || threads < 2 || self->options.throughput)
        return runs > 1 && self->options.throughput;
    const size_t places = (runs + threads - 1) / threads * threads;
    return runs >= threads && (double)runs >= busy * (double)places;
}

int evaluator_workers(const evaluator *self, size_t runs, const plan *program)
{
    enum { DEFAULT_GIB = 2 };
    const size_t bytes = plan_arena_bytes(program) + 1;
    const size_t limit =
        self->options.memory_limit > 0 ? self->options.memory_limit : (size_t)DEFAULT_GIB << 30;
    size_t workers = (size_t)thread_count(self);
    workers = workers > runs ? runs : workers;
    workers = workers > limit / bytes ? limit / bytes : workers;
    return workers < 1 ? 1 : (int)workers;
}

static xai_status find_plan(evaluator *self, const batch *rows, const plan_wish *wanted,
                            int threads, plan **out, xai_error **error)
{
    const size_t inputs = network_graph(self->of->net)->input_count;
    size_t oldest = 0;
    self->clock++;
    for (size_t i = 0; i < EVALUATOR_PLANS; i++) {
        plan_entry *entry = &self->plans[i];
        if (entry_fits(entry, rows, inputs, wanted, threads)) {
            entry->used = self->clock;
            self->arena_bytes = plan_arena_bytes(entry->program);
            *out = entry->program;
            return XAI_OK;
        }
        if (entry->used < self->plans[oldest].used)
            oldest = i;
    }
    plan_entry made = {0};
    const xai_status status = entry_make(self, rows, inputs, wanted, threads, &made, error);
    if (status != XAI_OK)
        return status;
    entry_free(&self->plans[oldest]);
    made.used = self->clock;
    self->plans[oldest] = made;
    self->arena_bytes = plan_arena_bytes(made.program);
    *out = made.program;
    return XAI_OK;
}

xai_status evaluator_find_plan(evaluator *self, const batch *rows, const plan_wish *wanted,
                               plan **out, xai_error **error)
{
    /* DeepLIFT keeps its baselines with the plan: one plan for calls of any number of rows. */
    const bool keeps = wanted->rule != NULL && wanted->rule->rule == ENGINE_RULE_DEEPLIFT &&
                       !self->options.throughput;
    const bool asked =
        wanted->runs == RUNS_AS_BATCH && !keeps && evaluator_deals_runs(self, rows->runs);
    const bool alone = wanted->runs == RUNS_ALONE || asked;
    xai_status status =
        find_plan(self, rows, wanted, alone ? 1 : self->options.threads, out, error);
    /* Where memory holds one run only, it gets all threads. */
    if (status == XAI_OK && asked && !self->options.throughput &&
        evaluator_workers(self, rows->runs, *out) == 1)
        status = find_plan(self, rows, wanted, self->options.threads, out, error);
    return status;
}

plan_entry *evaluator_entry(evaluator *self, const plan *program)
{
    for (size_t i = 0; i < EVALUATOR_PLANS; i++)
        if (self->plans[i].program == program)
            return &self->plans[i];
    return NULL;
}

void evaluator_unruled(const evaluator *self, int rule, char *out, size_t size)
{
    const plan_entry *last = NULL;
    for (size_t i = 0; i < EVALUATOR_PLANS; i++) {
        const plan_entry *entry = &self->plans[i];
        if (entry->program != NULL && entry->rule.rule == rule &&
            (last == NULL || entry->used > last->used))
            last = entry;
    }
    const char *const *names = NULL;
    const size_t count = last != NULL ? plan_unruled(last->program, &names) : 0;
    size_t length = 0;
    if (size > 0)
        out[0] = '\0';
    for (size_t i = 0; i < count && length < size; i++)
        length +=
            (size_t)snprintf(out + length, size - length, "%s%s", i > 0 ? ", " : "", names[i]);
}
