#include "explain/local_scores.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/parallel.h"

/* Above this part of the multiplications boxes are not worth their copying. */
#define WORTH 0.8
#define CHUNK_GROUPS 4
#define CHUNK_BYTES ((size_t)64 << 20)

void local_scores_free(local_scores *self)
{
    const int *values = NULL;
    const shape *shapes = NULL;
    const size_t count = self->plan != NULL ? local_frontier(self->plan, &values, &shapes) : 0;
    for (size_t f = 0; self->chunk != NULL && f < count; f++)
        memory_free(self->chunk[f]);
    memory_free((void *)self->chunk);
    for (size_t i = 0; self->inputs != NULL && i < self->input_count; i++)
        tensor_free(&self->inputs[i]);
    memory_free(self->inputs);
    for (size_t c = 0; self->states != NULL && c < self->chunks; c++)
        local_state_free(self->states[c]);
    memory_free((void *)self->states);
    run_free(self->state);
    plan_free(self->together);
    local_free(self->plan);
    *self = (local_scores){0};
}

static size_t frontier_count(const shape *of)
{
    size_t count = 0;
    return shape_count(of, &count) ? count : 0;
}

static int thread_count(const evaluator *engine)
{
    return engine->options.threads > 0 ? engine->options.threads : parallel_processors();
}

/* A group's size and more, as many as fit. */
static xai_status size_chunk(local_scores *self, size_t edits, size_t bytes, size_t memory_limit)
{
    const size_t group = local_group_size(self->plan);
    size_t room = CHUNK_BYTES;
    if (memory_limit > 0) {
        const size_t own = local_bytes(self->plan);
        if (own >= memory_limit || memory_limit - own < group * bytes)
            return XAI_ERROR_UNSUPPORTED; /* densely a row takes less */
        room = memory_limit - own < room ? memory_limit - own : room;
    }
    self->chunks = 1;
    self->chunk_edits = room / bytes / group * group;
    self->chunk_edits = self->chunk_edits < group ? group : self->chunk_edits;
    self->chunk_edits =
        self->chunk_edits > CHUNK_GROUPS * group ? CHUNK_GROUPS * group : self->chunk_edits;
    self->chunk_edits = self->chunk_edits > edits ? edits : self->chunk_edits;
    return XAI_OK;
}

/* A chunk and a state a thread, as many as fit: fewer change no number. */
static xai_status size_walks(local_scores *self, size_t walk, int threads, size_t bytes,
                             size_t memory_limit)
{
    enum { DEFAULT_GIB = 2 };
    const size_t room = memory_limit > 0 ? memory_limit : (size_t)DEFAULT_GIB << 30;
    const size_t most = room / (local_bytes(self->plan) + walk * bytes);
    self->chunk_edits = walk;
    self->chunks = most < (size_t)threads ? most : (size_t)threads;
    return most > 0 ? XAI_OK : XAI_ERROR_UNSUPPORTED;
}

static xai_status allocate(local_scores *self, const evaluator *engine, size_t edits,
                           const local_manner *manner, xai_error **error)
{
    const int *values = NULL;
    const shape *shapes = NULL;
    const size_t count = local_frontier(self->plan, &values, &shapes);
    const size_t limit = engine->options.memory_limit;
    size_t bytes = 1;
    for (size_t f = 0; f < count; f++)
        bytes += frontier_count(&shapes[f]) * sizeof(float);
    const xai_status status =
        manner->repeats > 0 ? size_walks(self, manner->walk, thread_count(engine), bytes, limit)
                            : size_chunk(self, edits, bytes, limit);
    if (status != XAI_OK)
        return status;
    const size_t slots = self->chunks * self->chunk_edits;
    self->chunk = memory_allocate_zeroed(count, sizeof *self->chunk);
    self->states = memory_allocate_zeroed(self->chunks, sizeof *self->states);
    for (size_t f = 0; self->chunk != NULL && f < count; f++) {
        self->chunk[f] = memory_allocate(slots * frontier_count(&shapes[f]), sizeof(float));
        if (self->chunk[f] == NULL)
            return error_memory(error, "layers of edits", slots * bytes);
    }
    return self->chunk != NULL && self->states != NULL
               ? XAI_OK
               : error_memory(error, "layers of edits", bytes);
}

/* Whether a plan has layers with space left: those are faster a row at a time. */
static bool has_space(const plan *program)
{
    const graph *g = plan_graph(program);
    for (size_t n = 0; n < g->node_count; n++) {
        const graph_node *node = &g->nodes[n];
        const char *name = node->definition->name;
        if (!node->removed &&
            (strstr(name, "Conv") != NULL || strstr(name, "Pool") != NULL ||
             strcmp(name, "Concat") == 0 || strcmp(name, "ScaleShift") == 0) &&
            g->values[node->outputs[0]].shape.rank > 2 && strstr(name, "Global") == NULL)
            return true;
    }
    return false;
}

/* The plan of the tail for a chunk of edits, where the model's batch axis is free and the tail has
 * no space; a network for which that cannot be made is no error. */
static xai_status plan_together(local_scores *self, evaluator *engine, const batch *rows,
                                const fixed_score *scores, size_t score_count, xai_error **error)
{
    const graph *source = network_graph(engine->of->net);
    const int *starts = NULL;
    const shape *shapes = NULL;
    const size_t count = local_frontier(self->plan, &starts, &shapes);
    const size_t inputs = source->input_count;
    const int64_t edits = (int64_t)self->chunk_edits;
    shape *all = memory_allocate(inputs + count, sizeof *all);
    int *wanted = memory_allocate(score_count, sizeof *wanted);
    size_t wanted_count = 0;
    xai_status status = XAI_OK;
    if (all == NULL || wanted == NULL) {
        status = error_memory(error, "a plan", (inputs + count) * sizeof *all);
        goto done;
    }
    for (size_t i = 0; i < inputs + count; i++) {
        all[i] = i < inputs ? rows->shapes[i] : shapes[i - inputs];
        if (all[i].rank == 0 || all[i].dims[0] != 1)
            goto done;
        all[i].dims[0] = edits;
    }
    for (size_t t = 0; t < score_count; t++) {
        bool known = scores[t].source.seed_value == scores[t].source.output_value;
        for (size_t w = 0; w < wanted_count; w++)
            known = known || wanted[w] == scores[t].source.seed_value;
        if (!known)
            wanted[wanted_count++] = scores[t].source.seed_value;
    }
    const plan_request request = {.input_shapes = all,
                                  .starts = starts,
                                  .start_shapes = all + inputs,
                                  .start_count = count,
                                  .wanted = wanted,
                                  .wanted_count = wanted_count,
                                  .threads = engine->options.threads,
                                  .memory_limit = engine->options.memory_limit};
    /* Beyond the limit an edit at a time takes less; without one memory has run out. */
    const bool must = engine->options.memory_limit == 0;
    status = plan_create(engine->of->net, &request, &self->together, must ? error : NULL);
    if (status != XAI_OK) {
        const bool failed = must && status == XAI_ERROR_MEMORY;
        if (!failed && must)
            error_clear(error);
        status = failed ? status : XAI_OK;
        goto done;
    }
    if (has_space(self->together)) {
        plan_free(self->together);
        self->together = NULL;
        goto done;
    }
    status = run_create(self->together, &self->state, error);
    self->inputs = memory_allocate_zeroed(inputs + count, sizeof *self->inputs);
    if (status == XAI_OK && self->inputs == NULL)
        status = error_memory(error, "inputs", (inputs + count) * sizeof *self->inputs);
    self->input_count = self->inputs != NULL ? inputs + count : 0;
    for (size_t i = 0; status == XAI_OK && i < inputs + count; i++)
        if (i < inputs)
            status = tensor_create(&self->inputs[i], rows->inputs[i]->dtype, &all[i], error);
        else
            self->inputs[i] =
                (tensor){.dtype = DTYPE_FLOAT, .shape = all[i], .data = self->chunk[i - inputs]};
done:
    memory_free(all);
    memory_free(wanted);
    return status;
}

xai_status local_scores_open(local_scores *self, evaluator *engine, const batch *rows, size_t input,
                             const local_box *edits, size_t count, const local_manner *manner,
                             const fixed_score *scores, size_t score_count, bool *pays,
                             xai_error **error)
{
    xai_error *refusal = NULL;
    xai_status status = XAI_OK;
    *pays = false;
    /* Edits know the direct kernels alone: no drop may be the difference of two precisions. */
    if (self->refused || rows->per_plan != 1 || rows->inputs[input]->dtype != DTYPE_FLOAT ||
        engine->options.precision != ENGINE_PRECISION_STANDARD)
        return XAI_OK;
    if (self->plan == NULL) {
        status = local_create(engine->of->net, rows->shapes, input, edits, count, manner->repeats,
                              engine->options.threads, &self->plan, &refusal);
        if (status == XAI_OK && local_work(self->plan) > WORTH) {
            local_free(self->plan);
            self->plan = NULL;
            status = XAI_ERROR_UNSUPPORTED;
        }
        if (status == XAI_OK)
            status = allocate(self, engine, count, manner, &refusal);
        if (status == XAI_OK)
            status = plan_together(self, engine, rows, scores, score_count, &refusal);
    }
    if (status == XAI_ERROR_UNSUPPORTED) {
        xai_error_free(refusal);
        self->refused = true;
        return XAI_OK;
    }
    if (status != XAI_OK && error != NULL && *error == NULL)
        *error = refusal;
    else
        xai_error_free(refusal);
    *pays = status == XAI_OK;
    return status;
}

typedef struct tail_job {
    const local_scores *self;
    const batch *rows;
    const shape *shapes;
    const size_t *filled;      /* (chunks) */
    size_t row, inputs, count; /* frontier values */
} tail_job;

static xai_status fill(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const tail_job *job = user;
    size_t chunk = 0, at = index;
    (void)error;
    for (; at >= job->filled[chunk]; chunk++)
        at -= job->filled[chunk];
    at += chunk * job->self->chunk_edits;
    for (size_t i = 0; i < job->inputs; i++)
        variants_copy_row(job->rows, job->row, i, &inputs[i]);
    for (size_t f = 0; f < job->count; f++) {
        const size_t count = frontier_count(&job->shapes[f]);
        memcpy(inputs[job->inputs + f].data, job->self->chunk[f] + at * count,
               count * sizeof(float));
    }
    return XAI_OK;
}

xai_status local_scores_advance(evaluator *engine, size_t more, xai_error **error)
{
    engine->done += more;
    if (engine->options.progress == NULL ||
        engine->options.progress(engine->options.progress_user, engine->done,
                                 engine->total > engine->done ? engine->total : engine->done))
        return XAI_OK;
    if (engine->done >= engine->total && more > 0)
        return XAI_OK;
    return error_set(error, XAI_ERROR_CANCELLED, NULL, "cancelled after %zu of %zu", engine->done,
                     engine->total);
}

static xai_status go_on(void *user, xai_error **error)
{
    return local_scores_advance(user, 0, error);
}

/* The boxes of a chunk, a few at a time, so that progress is told between them. */
static xai_status run_chunk(local_scores *self, evaluator *engine, size_t begin, size_t edits,
                            local_content content, void *user, xai_error **error)
{
    const int *values = NULL;
    const shape *shapes = NULL;
    const size_t count = local_frontier(self->plan, &values, &shapes);
    const size_t slice = local_group_size(self->plan) * (size_t)thread_count(engine);
    const local_watch watch = {go_on, engine};
    xai_status status = XAI_OK;
    float **out = memory_allocate(count, sizeof *out);
    if (out == NULL)
        return error_memory(error, "layers of edits", count * sizeof *out);
    for (size_t at = 0; status == XAI_OK && at < edits; at += slice) {
        const size_t now = edits - at < slice ? edits - at : slice;
        for (size_t f = 0; f < count; f++)
            out[f] = self->chunk[f] + at * frontier_count(&shapes[f]);
        status = local_run(self->plan, begin + at, now, content, user, &watch, out, error);
        if (status == XAI_OK)
            status = local_scores_advance(engine, self->together != NULL ? now : 0, error);
    }
    memory_free((void *)out);
    return status;
}

/* The row's own inputs, again and again. */
static void repeat_inputs(local_scores *self, const batch *rows, size_t row, size_t inputs)
{
    for (size_t i = 0; self->repeated != row + 1 && i < inputs; i++) {
        const size_t bytes = tensor_bytes(&self->inputs[i]) / self->chunk_edits;
        for (size_t e = 0; e < self->chunk_edits; e++)
            memcpy((char *)self->inputs[i].data + e * bytes, variants_row(rows, row, i), bytes);
    }
    self->repeated = row + 1;
}

/* Scores of the first `edits` of a chunk. */
static xai_status score_together(local_scores *self, size_t chunk, size_t edits,
                                 const fixed_score *scores, size_t score_count, double *out,
                                 xai_error **error)
{
    const int *ids = NULL;
    const shape *shapes = NULL;
    const size_t frontier = local_frontier(self->plan, &ids, &shapes);
    const tensor **inputs = memory_allocate(self->input_count, sizeof *inputs);
    double *values = NULL;
    if (inputs == NULL)
        return error_memory(error, "inputs", self->input_count * sizeof *inputs);
    for (size_t i = 0; i < self->input_count; i++)
        inputs[i] = &self->inputs[i];
    for (size_t f = 0; f < frontier; f++)
        self->inputs[self->input_count - frontier + f].data =
            self->chunk[f] + chunk * self->chunk_edits * frontier_count(&shapes[f]);
    xai_status status = run_forward(self->state, inputs, error);
    for (size_t t = 0; status == XAI_OK && t < score_count; t++) {
        const fixed_score *fixed = &scores[t];
        const tensor *found = NULL;
        size_t count = 0;
        (void)shape_count(&fixed->row_shape, &count);
        status = run_value(self->state, fixed->source.seed_value, &found, error);
        if (status == XAI_OK && tensor_count(found) != count * self->chunk_edits)
            status = error_set(error, XAI_ERROR_INTERNAL, NULL, "a score has another shape");
        double *grown = status == XAI_OK ? memory_resize(values, count, sizeof *values) : NULL;
        if (status == XAI_OK && grown == NULL)
            status = error_memory(error, "scores", count * sizeof *values);
        values = grown != NULL ? grown : values;
        for (size_t e = 0; status == XAI_OK && e < edits; e++) {
            tensor_read_doubles(found, e * count, count, values);
            const double score =
                score_evaluate(&fixed->source, &fixed->chosen, &fixed->row_shape, values, NULL);
            out[e * score_count + t] = score;
            if (!isfinite(score))
                status = error_set(error, XAI_ERROR_NUMERIC, NULL,
                                   "the score of an edited row is a NaN or an infinity");
        }
    }
    memory_free((void *)inputs);
    memory_free(values);
    return status;
}

xai_status local_scores_tail(local_scores *self, evaluator *engine, const batch *rows, size_t row,
                             const size_t *filled, const fixed_score *scores, size_t score_count,
                             double *out, xai_error **error)
{
    tail_job job = {.self = self,
                    .rows = rows,
                    .row = row,
                    .filled = filled,
                    .inputs = network_graph(engine->of->net)->input_count};
    const int *values = NULL;
    size_t all = 0;
    job.count = local_frontier(self->plan, &values, &job.shapes);
    xai_status status = XAI_OK;
    if (self->together != NULL)
        repeat_inputs(self, rows, row, job.inputs);
    for (size_t c = 0; status == XAI_OK && c < self->chunks; c++) {
        if (self->together != NULL && filled[c] > 0)
            status = score_together(self, c, filled[c], scores, score_count,
                                    out + all * score_count, error);
        all += filled[c];
    }
    const variants tail = {.rows = rows,
                           .row = row,
                           .count = all,
                           .scores = scores,
                           .score_count = score_count,
                           .starts = values,
                           .start_shapes = job.shapes,
                           .start_count = job.count,
                           .fill = fill,
                           .user = &job};
    if (status == XAI_OK && self->together == NULL)
        status = evaluator_scores_of(engine, &tail, out, error);
    return status;
}

xai_status local_scores_run(local_scores *self, evaluator *engine, const batch *rows, size_t row,
                            size_t input, size_t count, local_content content, void *user,
                            const fixed_score *scores, size_t score_count, double *out,
                            xai_error **error)
{
    double *found = memory_allocate(self->chunk_edits * score_count, sizeof *found);
    if (found == NULL)
        return error_memory(error, "scores", self->chunk_edits * score_count * sizeof *found);
    xai_status status = local_set_row(self->plan, variants_row(rows, row, input), error);
    for (size_t begin = 0; status == XAI_OK && begin < count; begin += self->chunk_edits) {
        const size_t edits = count - begin < self->chunk_edits ? count - begin : self->chunk_edits;
        status = run_chunk(self, engine, begin, edits, content, user, error);
        if (status == XAI_OK)
            status = local_scores_tail(self, engine, rows, row, &edits, scores, score_count, found,
                                       error);
        for (size_t e = 0; status == XAI_OK && e < edits; e++)
            memcpy(out + local_edit_at(self->plan, begin + e) * score_count,
                   found + e * score_count, score_count * sizeof *found);
    }
    memory_free(found);
    return status;
}
