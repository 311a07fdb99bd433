/* Many rows through one plan: one after the other with all threads each, or one row a thread. */
#include <stdatomic.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "engine/plan.h"

typedef struct row_loop {
    plan *program;
    const tensor *const *inputs;
    size_t rows;
    const rows_options *options;
    row_body body;
    void *user;
    atomic_size_t next;
    atomic_bool stop;
    pthread_mutex_t lock; /* guards what follows */
    size_t finished;
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

static xai_status run_row(row_loop *self, run *state, tensor *views, const tensor **pointers,
                          size_t row, xai_error **error)
{
    const graph *g = plan_graph(self->program);
    for (size_t i = 0; i < g->input_count; i++) {
        views[i] =
            (tensor){.dtype = self->inputs[i]->dtype, .shape = g->values[g->inputs[i]].shape};
        views[i].data =
            (char *)self->inputs[i]->data +
            (g->values[g->inputs[i]].shape.rank > 0 ? row : 0) * tensor_bytes(&views[i]);
        pointers[i] = &views[i];
    }
    const xai_status status = run_forward(state, pointers, error);
    return status == XAI_OK ? self->body(self->user, state, row, error) : status;
}

static void fail(row_loop *self, xai_status status, xai_error *error)
{
    pthread_mutex_lock(&self->lock);
    if (self->status == XAI_OK) {
        self->status = status;
        self->error = error;
        error = NULL;
    }
    pthread_mutex_unlock(&self->lock);
    xai_error_free(error);
    atomic_store(&self->stop, true);
}

static void report(row_loop *self)
{
    bool go_on = true;
    pthread_mutex_lock(&self->lock);
    const size_t finished = ++self->finished;
    if (self->options->progress && self->status == XAI_OK)
        go_on = self->options->progress(self->options->progress_user, finished, self->rows);
    pthread_mutex_unlock(&self->lock);
    if (!go_on && finished < self->rows) {
        xai_error *error = NULL;
        error_set(&error, XAI_ERROR_CANCELLED, NULL, "cancelled after %zu of %zu", finished,
                  self->rows);
        fail(self, XAI_ERROR_CANCELLED, error);
    }
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
    while (status == XAI_OK && !atomic_load(&self->stop)) {
        const size_t row = atomic_fetch_add(&self->next, 1);
        if (row >= self->rows)
            break;
        status = run_row(self, state, views, pointers, row, &error);
        if (status == XAI_OK)
            report(self);
    }
    if (status != XAI_OK)
        fail(self, status, error);
    run_release(self->program, state);
    memory_free(views);
    memory_free(pointers);
}

xai_status rows_run(plan *program, const tensor *const *inputs, size_t rows,
                    const rows_options *options, row_body body, void *user, xai_error **error)
{
    static const rows_options defaults = {0};
    row_loop loop = {.program = program,
                     .inputs = inputs,
                     .rows = rows,
                     .options = options ? options : &defaults,
                     .body = body,
                     .user = user};
    xai_status status = check_inputs(&loop, error);
    if (status != XAI_OK || rows == 0)
        return status;
    atomic_init(&loop.next, 0);
    atomic_init(&loop.stop, false);
    pthread_mutex_init(&loop.lock, NULL);
    int workers = 1;
    if (loop.options->throughput) {
        workers = loop.options->threads > 0 ? loop.options->threads : parallel_processors();
        if ((size_t)workers > rows)
            workers = (int)rows;
    }
    if (workers > 1)
        parallel_for(workers, (size_t)workers, work, &loop);
    else
        work(&loop, 0, 1);
    pthread_mutex_destroy(&loop.lock);
    if (loop.status != XAI_OK && error && !*error) {
        *error = loop.error;
        loop.error = NULL;
    }
    xai_error_free(loop.error);
    return loop.status;
}
