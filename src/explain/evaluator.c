#include "explain/rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/parallel.h"
#include "explain/names.h"

void evaluator_init(evaluator *self, const subject *of, const evaluator_options *options)
{
    *self = (evaluator){.of = of};
    if (options != NULL)
        self->options = *options;
}

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

/* A row a thread pays when there are at least two rows. */
static bool runs_throughput(const evaluator *self, const batch *rows)
{
    return self->options.throughput && rows->runs > 1;
}

xai_status evaluator_find_plan(evaluator *self, const batch *rows, const plan_wish *wanted,
                               plan **out, xai_error **error)
{
    const size_t inputs = network_graph(self->of->net)->input_count;
    const int threads =
        wanted->one_thread || runs_throughput(self, rows) ? 1 : self->options.threads;
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

/* Names */

static const char *any_name(const void *context, size_t index)
{
    const graph *source = context;
    if (index < source->value_count)
        return source->values[index].is_constant ? NULL : source->values[index].name;
    return source->nodes[index - source->value_count].name;
}

xai_status evaluator_find_value(const evaluator *self, const char *name, int *out,
                                xai_error **error)
{
    const graph *source = network_graph(self->of->net);
    int value = graph_find(source, name);
    if (value == GRAPH_NONE && name[0] >= '0' && name[0] <= '9') {
        char *end = NULL;
        const unsigned long long index = strtoull(name, &end, 10);
        if (*end == '\0' && index < self->of->layer_count)
            value = self->of->layers[index];
        else if (*end == '\0')
            return error_set(error, XAI_ERROR_NOT_FOUND, NULL,
                             "layer %llu is out of range: the model has %zu layers", index,
                             self->of->layer_count);
    }
    if (value == GRAPH_NONE)
        return name_not_found(error, "layer, node or value", name, any_name, source,
                              source->value_count + source->node_count);
    *out = value;
    return XAI_OK;
}

/* Rows */

static bool report_progress(void *user, size_t done, size_t total)
{
    evaluator *self = user;
    const evaluator_options *options = &self->options;
    const size_t all = self->total > self->done + total ? self->total : self->done + total;
    const bool go_on = options->progress(options->progress_user, self->done + done, all);
    self->cancelled = self->cancelled || !go_on;
    return go_on;
}

void evaluator_expect(evaluator *self, size_t runs)
{
    self->done = 0;
    self->total = runs;
    self->cancelled = false;
}

void evaluator_complete(evaluator *self)
{
    const evaluator_options *options = &self->options;
    if (options->progress != NULL && self->done < self->total)
        (void)options->progress(options->progress_user, self->total, self->total);
}

static rows_options options_of(evaluator *self, bool throughput, int threads)
{
    return (rows_options){.threads = threads,
                          .throughput = throughput,
                          .progress = self->options.progress != NULL ? report_progress : NULL,
                          .progress_user = self};
}

/* Before a loop: report where we are, so that a call can be cancelled before it starts. */
static xai_status begin_loop(evaluator *self, size_t runs, xai_error **error)
{
    self->cancelled = false;
    if (self->options.progress != NULL && !report_progress(self, 0, runs))
        return error_set(error, XAI_ERROR_CANCELLED, NULL, "cancelled");
    return XAI_OK;
}

/* Behind a loop: a cancellation at its last run stops the call when more was to follow. */
static xai_status end_loop(evaluator *self, size_t runs, xai_status status, xai_error **error)
{
    if (status != XAI_OK || self->total == 0)
        return status;
    self->done += runs;
    if (self->cancelled && self->done < self->total)
        return error_set(error, XAI_ERROR_CANCELLED, NULL, "cancelled after %zu of %zu", self->done,
                         self->total);
    return XAI_OK;
}

xai_status evaluator_run_rows(evaluator *self, plan *program, const batch *rows, row_body body,
                              void *user, xai_error **error)
{
    const rows_options options =
        options_of(self, runs_throughput(self, rows), self->options.threads);
    xai_status status = begin_loop(self, rows->runs, error);
    if (status == XAI_OK)
        status = rows_run(program, rows->inputs, rows->runs, &options, body, user, error);
    return end_loop(self, rows->runs, status, error);
}

xai_status evaluator_run_quietly(evaluator *self, plan *program, const batch *rows, row_body body,
                                 void *user, xai_error **error)
{
    rows_options options = options_of(self, runs_throughput(self, rows), self->options.threads);
    options.progress = NULL;
    return rows_run(program, rows->inputs, rows->runs, &options, body, user, error);
}

xai_status evaluator_run_made(evaluator *self, plan *program, size_t runs, int workers,
                              row_fill fill, row_body body, row_body in_order, void *user,
                              xai_error **error)
{
    rows_options options = options_of(self, workers > 1, workers);
    options.in_order = in_order;
    xai_status status = begin_loop(self, runs, error);
    if (status == XAI_OK)
        status = rows_run_made(program, runs, fill, &options, body, user, error);
    return end_loop(self, runs, status, error);
}

/* Forward */

typedef struct value_rows {
    const evaluator *self;
    const plan *program;
    const int *values;
    size_t count;
    tensor *out;
} value_rows;

xai_status value_check_finite(const evaluator *self, int value, const tensor *of, size_t row,
                              xai_error **error)
{
    if (self->options.allow_nonfinite || !dtype_is_float(of->dtype))
        return XAI_OK;
    const size_t bad = tensor_find_nonfinite(of);
    if (bad == SIZE_MAX)
        return XAI_OK;
    return error_set(error, XAI_ERROR_NUMERIC, network_graph(self->of->net)->values[value].name,
                     "element %zu of row %zu came out as NaN or infinite", bad, row);
}

static xai_status copy_values(void *user, run *state, size_t row, xai_error **error)
{
    const value_rows *job = user;
    const graph *planned = plan_graph(job->program);
    for (size_t i = 0; i < job->count; i++) {
        const tensor *value = NULL;
        if (planned->values[job->values[i]].late != NULL)
            continue;
        xai_status status = run_value(state, job->values[i], &value, error);
        if (status != XAI_OK)
            return status;
        const size_t bytes = tensor_bytes(value), begin = row * bytes;
        if (begin + bytes > tensor_bytes(&job->out[i]))
            return error_set(error, XAI_ERROR_INTERNAL, planned->values[job->values[i]].name,
                             "row %zu does not fit", row);
        if (bytes > 0)
            memcpy((char *)job->out[i].data + begin, value->data, bytes);
        status = value_check_finite(job->self, job->values[i], value, row, error);
        if (status != XAI_OK)
            return status;
    }
    return late_any(job->program, job->values, job->count)
               ? late_finish(job->self, job->program, state, job->values, job->count, job->out,
                             error)
               : XAI_OK;
}

/* (N, ...) from the shape of one run. */
static xai_status create_rows(const graph_value *value, const batch *rows, tensor *out,
                              xai_error **error)
{
    shape dims = value->shape;
    if (rows->runs > 1) {
        char text[SHAPE_TEXT_SIZE];
        if (dims.rank == 0 || dims.dims[0] != (int64_t)rows->per_plan)
            return error_set(error, XAI_ERROR_UNSUPPORTED, value->name,
                             "its shape %s has no row axis; give one row at a time",
                             shape_text(&dims, text));
        dims.dims[0] = (int64_t)rows->rows;
    }
    return tensor_create(out, value->dtype, &dims, error);
}

/* Values that a plan can give: known, computed, not a string. */
static xai_status check_value(const plan *program, int value, xai_error **error)
{
    const graph_value *found = &plan_graph(program)->values[value];
    if (found->removed || dtype_size(found->dtype) == 0)
        return error_set(error, XAI_ERROR_UNSUPPORTED, found->name,
                         "this value cannot be taken out of the model");
    return XAI_OK;
}

/* Of a fixed batch that runs row by row: the batch as the model takes it, where one of the values does not begin with the rows (a
 * recurrent layer's, time first). Else *out is left as it is. */
static xai_status whole_batch(const evaluator *self, const batch *rows, const int *values,
                              size_t count, batch *out, xai_error **error)
{
    const graph *source = network_graph(self->of->net), *row = NULL;
    if (!rows->has_rows || rows->per_plan != 1)
        return XAI_OK;
    const xai_status status = network_graph_for(self->of->net, rows->shapes, &row, error);
    if (status != XAI_OK || row->row_axes == NULL)
        return status;
    bool first = true;
    for (size_t i = 0; i < count; i++)
        first = first && (size_t)values[i] < row->row_axis_count && row->row_axes[values[i]] == 0;
    if (first)
        return XAI_OK;
    batch made = *rows;
    made.shapes = memory_allocate(source->input_count, sizeof *made.shapes);
    if (made.shapes == NULL)
        return error_memory(error, "the shapes of the inputs", sizeof *made.shapes);
    for (size_t i = 0; i < source->input_count; i++)
        made.shapes[i] = source->values[source->inputs[i]].shape;
    made.per_plan = (size_t)made.shapes[0].dims[0];
    made.runs = rows->rows / made.per_plan;
    *out = made;
    return XAI_OK;
}

xai_status evaluator_values(evaluator *self, const batch *rows, const int *values, size_t count,
                            tensor *out, xai_error **error)
{
    const graph *source = network_graph(self->of->net);
    plan *program = NULL;
    for (size_t i = 0; i < count; i++)
        out[i] = (tensor){0};
    /* Outputs are wanted anyway: a plan without further wishes serves them. */
    bool only_outputs = true;
    for (size_t i = 0; i < count; i++) {
        bool is_output = false;
        for (size_t o = 0; o < source->output_count; o++)
            is_output = is_output || source->outputs[o] == values[i];
        only_outputs = only_outputs && is_output;
    }
    const plan_wish wanted = {.ids = {values}, .counts = {only_outputs ? 0 : count}};
    batch whole = {0};
    xai_status status = whole_batch(self, rows, values, count, &whole, error);
    if (status == XAI_OK && whole.shapes != NULL)
        rows = &whole;
    if (status == XAI_OK)
        status = evaluator_find_plan(self, rows, &wanted, &program, error);
    if (status == XAI_OK && rows->runs > 1 && late_any(program, values, count)) {
        status = late_batch(self, rows, &whole, error);
        rows = &whole;
        if (status == XAI_OK)
            status = evaluator_find_plan(self, rows, &wanted, &program, error);
    }
    for (size_t i = 0; status == XAI_OK && i < count; i++) {
        const graph_value *value = &plan_graph(program)->values[values[i]];
        if (value->late != NULL)
            continue;
        status = check_value(program, values[i], error);
        if (status == XAI_OK)
            status = create_rows(value, rows, &out[i], error);
    }
    if (status == XAI_OK) {
        value_rows job = {
            .self = self, .program = program, .values = values, .count = count, .out = out};
        status = evaluator_run_rows(self, program, rows, copy_values, &job, error);
    }
    for (size_t i = 0; status != XAI_OK && i < count; i++)
        tensor_free(&out[i]);
    batch_free(&whole);
    return status;
}

xai_status evaluator_plan(evaluator *self, const batch *rows, const int *wrt, size_t wrt_count,
                          plan **out, xai_error **error)
{
    const graph *source = network_graph(self->of->net), *planned = NULL;
    plan *program = NULL;
    plan_wish wanted = {.ids = {NULL, NULL, wrt}, .counts = {0, 0, wrt_count}};
    int *seeds = memory_allocate(source->output_count, sizeof *seeds);
    if (seeds == NULL)
        return error_memory(error, "a plan", source->output_count * sizeof *seeds);
    xai_status status = wrt_count > 0 ? evaluator_graph(self, rows, &planned, error) : XAI_OK;
    for (size_t i = 0; planned != NULL && i < source->output_count; i++) {
        const graph_value *value = &planned->values[source->outputs[i]];
        if (value->late == NULL && dtype_is_float(value->dtype))
            seeds[wanted.counts[1]++] = source->outputs[i];
    }
    wanted.ids[1] = seeds;
    if (status == XAI_OK)
        status = evaluator_find_plan(self, rows, &wanted, &program, error);
    memory_free(seeds);
    *out = program;
    return status;
}

xai_status evaluator_graph(evaluator *self, const batch *rows, const graph **out, xai_error **error)
{
    const size_t inputs = network_graph(self->of->net)->input_count;
    for (size_t i = 0; i < EVALUATOR_PLANS; i++) {
        const plan_entry *entry = &self->plans[i];
        bool fits = entry->program != NULL && entry->counts[PLAN_LISTS - 1] == 0;
        for (size_t k = 0; fits && k < inputs; k++)
            fits = shape_equal(&entry->shapes[k], &rows->shapes[k]);
        if (fits) {
            *out = plan_graph(entry->program);
            return XAI_OK;
        }
    }
    plan *program = NULL;
    const xai_status status = evaluator_plan(self, rows, NULL, 0, &program, error);
    if (status == XAI_OK)
        *out = plan_graph(program);
    return status;
}
