#include "explain/rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "explain/names.h"

void evaluator_init(evaluator *self, const subject *of, const evaluator_options *options)
{
    *self = (evaluator){.of = of};
    if (options != NULL)
        self->options = *options;
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

/* A run a thread when the plan was made for one. */
static rows_options rows_options_of(evaluator *self, const plan *program, const batch *rows)
{
    const plan_entry *entry = evaluator_entry(self, program);
    const bool throughput =
        entry != NULL && entry->threads == 1 && evaluator_deals_runs(self, rows->runs);
    return options_of(self, throughput,
                      throughput && !self->options.throughput
                          ? evaluator_workers(self, rows->runs, program)
                          : self->options.threads);
}

xai_status evaluator_run_rows(evaluator *self, plan *program, const batch *rows, row_body body,
                              void *user, xai_error **error)
{
    const rows_options options = rows_options_of(self, program, rows);
    xai_status status = begin_loop(self, rows->runs, error);
    if (status == XAI_OK)
        status = rows_run(program, rows->inputs, rows->runs, &options, body, user, error);
    return end_loop(self, rows->runs, status, error);
}

xai_status evaluator_run_quietly(evaluator *self, plan *program, const batch *rows, row_body body,
                                 void *user, xai_error **error)
{
    rows_options options = rows_options_of(self, program, rows);
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

/* Of a fixed batch that runs row by row: the batch as the model takes it, where one of the values is not a stack of rows (a
 * recurrent layer's, time first; windows of an image, several for each row). Else *out is left as it is. */
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
        first = first && (size_t)values[i] < row->row_axis_count && row->row_axes[values[i]] == 0 &&
                row->values[values[i]].shape.dims[0] == 1;
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
