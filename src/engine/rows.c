/* Many rows through one plan: one after the other with all threads each, or one row a thread. */
#include <stdatomic.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "engine/plan.h"

typedef struct row_loop {
    plan *program;
    const tensor *const *inputs; /* NULL: `fill` makes them */
    row_fill fill;
    size_t rows;
    const rows_options *options;
    row_body body;
    void *user;
    atomic_size_t next;
    atomic_bool stop;
    pthread_t caller;     /* the thread that reports */
    size_t reported;      /* rows told of, by the caller alone */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t turn;
    size_t finished;
    size_t next_in_order; /* the row whose in_order() is due */
    xai_status status;
    xai_error *error;
} row_loop;

static xai_status check_inputs(const row_loop *self, xai_error **error)
{
    const graph *g = plan_graph(self->program);
    for (size_t i = 0; i < g->input_count; i++) {
        const graph_value *v = &g->values[g->inputs[i]];
        shape whole = v->shape;
        char expected[SHAPE_TEXT_SIZE], got[SHAPE_TEXT_SIZE];
        if (whole.rank > 0)
            whole.dims[0] *= (int64_t)self->rows;
        if (self->inputs[i]->dtype != v->dtype || !shape_equal(&whole, &self->inputs[i]->shape))
            return error_set(error, XAI_ERROR_SHAPE, v->name,
                             "%zu rows need %s of shape %s but got %s of shape %s", self->rows,
                             dtype_name(v->dtype), shape_text(&whole, expected),
                             dtype_name(self->inputs[i]->dtype),
                             shape_text(&self->inputs[i]->shape, got));
    }
    return XAI_OK;
}

/* The views of the row's slices of the inputs, or inputs made for it. */
static xai_status find_inputs(const row_loop *self, tensor *views, size_t row, xai_error **error)
{
    const graph *g = plan_graph(self->program);
    if (self->fill)
        return self->fill(self->user, row, views, error);
    for (size_t i = 0; i < g->input_count; i++) {
        views[i] =
            (tensor){.dtype = self->inputs[i]->dtype, .shape = g->values[g->inputs[i]].shape};
        views[i].data =
            (char *)self->inputs[i]->data +
            (g->values[g->inputs[i]].shape.rank > 0 ? row : 0) * tensor_bytes(&views[i]);
    }
    return XAI_OK;
}

/* Wait until the rows before this one have had their turn; rows are taken in order, so the lowest
 * one at work never waits. */
static xai_status run_in_order(row_loop *self, run *state, size_t row, xai_error **error)
{
    pthread_mutex_lock(&self->lock);
    while (self->next_in_order != row && self->status == XAI_OK)
        pthread_cond_wait(&self->turn, &self->lock);
    const bool go_on = self->status == XAI_OK;
    pthread_mutex_unlock(&self->lock);
    const xai_status status =
        go_on ? self->options->in_order(self->user, state, row, error) : XAI_OK;
    if (status != XAI_OK)
        return status; /* the others are woken by fail() */
    pthread_mutex_lock(&self->lock);
    self->next_in_order++;
    pthread_cond_broadcast(&self->turn);
    pthread_mutex_unlock(&self->lock);
    return XAI_OK;
}

static xai_status run_row(row_loop *self, run *state, tensor *views, const tensor **pointers,
                          size_t row, xai_error **error)
{
    const size_t inputs = plan_graph(self->program)->input_count;
    xai_status status = find_inputs(self, views, row, error);
    for (size_t i = 0; i < inputs; i++)
        pointers[i] = &views[i];
    if (status == XAI_OK)
        status = run_forward(state, pointers, error);
    if (status == XAI_OK)
        status = self->body(self->user, state, row, error);
    if (status == XAI_OK && self->options->in_order)
        status = run_in_order(self, state, row, error);
    return status;
}

static void fail(row_loop *self, xai_status status, xai_error *error)
{
    pthread_mutex_lock(&self->lock);
    if (self->status == XAI_OK) {
        self->status = status;
        self->error = error;
        error = NULL;
    }
    pthread_cond_broadcast(&self->turn);
    pthread_mutex_unlock(&self->lock);
    xai_error_free(error);
    atomic_store(&self->stop, true);
}

/* Tell of the rows that are finished, one call each and in order. Only the calling thread does: a runtime such as Mono takes any
 * thread that enters it for one of its own and would wait for its end. */
static void report(row_loop *self)
{
    pthread_mutex_lock(&self->lock);
    const size_t finished = self->finished;
    bool go_on = self->options->progress && self->status == XAI_OK;
    pthread_mutex_unlock(&self->lock);
    while (go_on && self->reported < finished) {
        self->reported++;
        go_on = self->options->progress(self->options->progress_user, self->reported, self->rows);
        if (!go_on && self->reported < self->rows) {
            xai_error *error = NULL;
            error_set(&error, XAI_ERROR_CANCELLED, NULL, "cancelled after %zu of %zu",
                      self->reported, self->rows);
            fail(self, XAI_ERROR_CANCELLED, error);
        }
    }
}

static void finish_row(row_loop *self)
{
    pthread_mutex_lock(&self->lock);
    self->finished++;
    pthread_mutex_unlock(&self->lock);
    if (pthread_equal(pthread_self(), self->caller))
        report(self);
}

/* One thread's share: the next row that nobody has taken, until none is left. */
static void work(void *user, size_t begin, size_t end)
{
    row_loop *self = user;
    const size_t inputs = plan_graph(self->program)->input_count;
    run *state = NULL;
    xai_error *error = NULL;
    (void)begin, (void)end;
    tensor *views = memory_allocate_zeroed(inputs + 1, sizeof *views);
    const tensor **pointers = memory_allocate_zeroed(inputs + 1, sizeof *pointers);
    xai_status status = views && pointers ? run_acquire(self->program, &state, &error)
                                          : error_memory(&error, "rows", inputs * sizeof *views);
    for (size_t i = 0; self->fill && status == XAI_OK && i < inputs; i++) {
        const graph_value *value =
            &plan_graph(self->program)->values[plan_graph(self->program)->inputs[i]];
        status = tensor_create(&views[i], value->dtype, &value->shape, &error);
    }
    while (status == XAI_OK && !atomic_load(&self->stop)) {
        const size_t row = atomic_fetch_add(&self->next, 1);
        if (row >= self->rows)
            break;
        status = run_row(self, state, views, pointers, row, &error);
        if (status == XAI_OK)
            finish_row(self);
    }
    if (status != XAI_OK)
        fail(self, status, error);
    run_release(self->program, state);
    for (size_t i = 0; self->fill && views && i < inputs; i++)
        tensor_free(&views[i]);
    memory_free(views);
    memory_free(pointers);
}

static xai_status run_loop(row_loop *loop, xai_error **error)
{
    static const rows_options defaults = {0};
    if (!loop->options)
        loop->options = &defaults;
    if (loop->rows == 0)
        return XAI_OK;
    atomic_init(&loop->next, 0);
    atomic_init(&loop->stop, false);
    loop->caller = pthread_self();
    pthread_mutex_init(&loop->lock, NULL);
    pthread_cond_init(&loop->turn, NULL);
    int workers = 1;
    if (loop->options->throughput) {
        workers = loop->options->threads > 0 ? loop->options->threads : parallel_processors();
        if ((size_t)workers > loop->rows)
            workers = (int)loop->rows;
    }
    parallel_wake(workers);
    if (workers > 1)
        parallel_for(workers, (size_t)workers, work, loop);
    else
        work(loop, 0, 1);
    report(loop); /* what the others finished last */
    pthread_cond_destroy(&loop->turn);
    pthread_mutex_destroy(&loop->lock);
    if (loop->status != XAI_OK && error && !*error) {
        *error = loop->error;
        loop->error = NULL;
    }
    xai_error_free(loop->error);
    return loop->status;
}

xai_status rows_run(plan *program, const tensor *const *inputs, size_t rows,
                    const rows_options *options, row_body body, void *user, xai_error **error)
{
    row_loop loop = {.program = program,
                     .inputs = inputs,
                     .rows = rows,
                     .options = options,
                     .body = body,
                     .user = user};
    const xai_status status = check_inputs(&loop, error);
    return status == XAI_OK ? run_loop(&loop, error) : status;
}

xai_status rows_run_made(plan *program, size_t rows, row_fill fill, const rows_options *options,
                         row_body body, void *user, xai_error **error)
{
    row_loop loop = {.program = program,
                     .fill = fill,
                     .rows = rows,
                     .options = options,
                     .body = body,
                     .user = user};
    return run_loop(&loop, error);
}
