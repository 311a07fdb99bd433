#include "explain/local_walks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/parallel.h"

/* Evaluations between two beginnings: fixed, so that no number of threads changes a bit, and short enough
 * that many threads have work. */
#define PIECE 24
/* A step takes longer than its multiplications say: copies, small maps. Measured: 1.0 to 1.25. */
#define STEP_COST 1.15
#define WORTH 0.85
#define LEAST_COALITIONS 32 /* of the row; a plan for boxes takes the time of a few evaluations */

void local_walks_forget(local_walks *self)
{
    memory_free(self->boxes);
    self->boxes = NULL;
}

void local_walks_free(local_walks *self)
{
    local_scores_free(&self->near);
    local_walks_forget(self);
}

typedef enum place {
    ALONE, /* evaluated densely */
    BEGIN, /* of a piece: all layers from the image */
    STEP   /* from the coalition before */
} place;

typedef struct piece {
    size_t begin, count; /* of `walked` */
} piece;

typedef struct walk_job {
    local_walks *self;
    const local_coalitions *of;
    evaluator *engine;
    place *places;   /* (count) */
    size_t *feature; /* (count): that a step switches */
    size_t *walked;  /* the coalitions of the pieces, in order */
    size_t *alone;
    size_t walked_count, alone_count, piece_count;
    piece *pieces;
    double *out;
    /* Of a wave: a piece a thread. */
    size_t first, now;
    float **images; /* (chunks) */
    xai_status *statuses;
    xai_error **errors;
    pthread_t caller; /* the thread that reports */
    size_t reported;  /* of the wave */
    atomic_bool stop;
} walk_job;

/* Which coalitions follow from which */

/* The features that are seen and differ: their number, and the last of them. */
static size_t differences(const local_walks *self, const uint8_t *a, const uint8_t *b,
                          size_t *which)
{
    size_t count = 0;
    for (size_t k = 0; k < self->features; k++)
        if (self->boxes[k].height > 0 && !a[k] != !b[k]) {
            *which = k;
            count++;
        }
    return count;
}

static const uint8_t *coalition_of(const local_coalitions *of, size_t i)
{
    return of->coalitions + of->asked[i] * of->parts->count;
}

static void place_coalitions(walk_job *job)
{
    job->places[0] = BEGIN;
    for (size_t i = 1; i < job->of->count; i++) {
        const size_t apart = differences(job->self, coalition_of(job->of, i - 1),
                                         coalition_of(job->of, i), &job->feature[i]);
        job->places[i] = apart == 1 ? STEP : BEGIN;
    }
}

/* Chains into pieces of like length; chains of one stand alone. */
static void add_chain(walk_job *job, const size_t *members, size_t count)
{
    const size_t parts = (count + PIECE - 1) / PIECE;
    for (size_t p = 0; p < parts; p++) {
        const size_t begin = count * p / parts, end = count * (p + 1) / parts;
        if (end - begin < 2) {
            job->places[members[begin]] = ALONE;
            continue;
        }
        job->places[members[begin]] = BEGIN;
        job->pieces[job->piece_count++] = (piece){job->walked_count, end - begin};
        memcpy(job->walked + job->walked_count, members + begin, (end - begin) * sizeof *members);
        job->walked_count += end - begin;
    }
}

static xai_status cut_pieces(walk_job *job, xai_error **error)
{
    const size_t count = job->of->count;
    size_t *chain = memory_allocate(count, sizeof *chain), length = 0;
    if (chain == NULL)
        return error_memory(error, "coalitions", count * sizeof *chain);
    for (size_t i = 0; i < count; i++) {
        if (job->places[i] == BEGIN) {
            add_chain(job, chain, length);
            length = 0;
        }
        chain[length++] = i;
    }
    add_chain(job, chain, length);
    for (size_t i = 0; i < count; i++)
        if (job->places[i] == ALONE)
            job->alone[job->alone_count++] = i;
    memory_free(chain);
    return XAI_OK;
}

/* In dense evaluations, where a step is `part` of one. */
static double cost_of(const walk_job *job, double part)
{
    const double begins = (double)(job->piece_count + job->alone_count);
    return begins + STEP_COST * part * (double)(job->walked_count - job->piece_count);
}

/* Walking */

typedef struct content_of {
    const local_coalitions *of;
    size_t i;
} content_of;

static void write_box(void *user, size_t index, const local_box *box, float *out)
{
    const content_of *self = user;
    (void)index;
    local_coalitions_pixels(self->of, self->i, box, out);
}

static xai_status begin_piece(const walk_job *job, local_state *state, size_t i, float **image,
                              xai_error **error)
{
    const spatial *space = &job->of->inputs->spaces[0];
    const local_box all = {0, 0, space->dims[0], space->dims[1]};
    if (*image == NULL)
        *image = memory_allocate(space->channels * space->pixels, sizeof **image);
    if (*image == NULL)
        return error_memory(error, "an image", space->channels * space->pixels * sizeof **image);
    local_coalitions_pixels(job->of, i, &all, *image);
    return local_state_set(state, *image, error);
}

static void keep_frontier(const local_scores *near, const local_state *state, size_t slot,
                          float **out)
{
    const int *values = NULL;
    const shape *shapes = NULL;
    const size_t count = local_frontier(near->plan, &values, &shapes);
    for (size_t f = 0; f < count; f++) {
        size_t elements = 0;
        (void)shape_count(&shapes[f], &elements);
        out[f] = near->chunk[f] + slot * elements;
    }
    local_state_frontier(state, out);
}

/* One call an evaluation; where the network behind the frontier runs row by row, that counts them. */
static xai_status report(walk_job *job, size_t evaluations, xai_error **error)
{
    const bool counts = job->self->near.together != NULL;
    xai_status status = counts ? XAI_OK : local_scores_advance(job->engine, 0, error);
    for (size_t i = 0; counts && status == XAI_OK && i < evaluations; i++, job->reported++)
        status = local_scores_advance(job->engine, 1, error);
    return status;
}

static xai_status walk_piece(walk_job *job, size_t w, xai_error **error)
{
    local_scores *near = &job->self->near;
    const piece *own = &job->pieces[job->first + w];
    const int *values = NULL;
    const shape *shapes = NULL;
    float **out = memory_allocate(local_frontier(near->plan, &values, &shapes), sizeof *out);
    xai_status status = out != NULL ? XAI_OK : error_memory(error, "layers", sizeof *out);
    if (status == XAI_OK && near->states[w] == NULL)
        status = local_state_create(near->plan, &near->states[w], error);
    for (size_t j = 0; status == XAI_OK && j < own->count && !atomic_load(&job->stop); j++) {
        content_of content = {job->of, job->walked[own->begin + j]};
        status = j == 0 ? begin_piece(job, near->states[w], content.i, &job->images[w], error)
                        : local_state_step(near->states[w], job->feature[content.i], write_box,
                                           &content, error);
        if (status == XAI_OK)
            keep_frontier(near, near->states[w], w * PIECE + j, out);
        if (status == XAI_OK && pthread_equal(pthread_self(), job->caller))
            status = report(job, 1, error);
    }
    memory_free((void *)out);
    return status;
}

static void walk_pieces(void *user, size_t begin, size_t end)
{
    walk_job *job = user;
    for (size_t w = begin; w < end; w++) {
        job->statuses[w] = walk_piece(job, w, &job->errors[w]);
        if (job->statuses[w] != XAI_OK)
            atomic_store(&job->stop, true);
    }
}

/* A piece a thread, then the network behind the frontier for all of them. */
static xai_status run_wave(walk_job *job, size_t *filled, double *found, xai_error **error)
{
    local_scores *near = &job->self->near;
    const size_t scores = job->of->score_count, left = job->piece_count - job->first;
    xai_status status = XAI_OK;
    job->reported = 0;
    job->now = left < near->chunks ? left : near->chunks;
    memset(job->statuses, 0, near->chunks * sizeof *job->statuses);
    parallel_for((int)job->now, job->now, walk_pieces, job);
    for (size_t w = 0; w < job->now; w++) {
        if (status == XAI_OK && job->statuses[w] != XAI_OK) {
            status = job->statuses[w];
            if (error != NULL && *error == NULL) {
                *error = job->errors[w];
                job->errors[w] = NULL;
            }
        }
        xai_error_free(job->errors[w]);
        job->errors[w] = NULL;
    }
    size_t all = 0;
    for (size_t w = 0; w < near->chunks; w++) {
        filled[w] = w < job->now ? job->pieces[job->first + w].count : 0;
        all += filled[w];
    }
    if (status == XAI_OK && near->together != NULL)
        status = report(job, all - job->reported, error); /* what the others have done */
    if (status == XAI_OK)
        status = local_scores_tail(near, job->engine, job->of->inputs->rows, job->of->row, filled,
                                   job->of->scores, scores, found, error);
    const size_t begin = job->pieces[job->first].begin;
    for (size_t e = 0; status == XAI_OK && e < all; e++)
        memcpy(job->out + job->walked[begin + e] * scores, found + e * scores,
               scores * sizeof *found);
    return status;
}

static xai_status run_waves(walk_job *job, xai_error **error)
{
    const size_t chunks = job->self->near.chunks, scores = job->of->score_count;
    size_t *filled = memory_allocate(chunks, sizeof *filled);
    double *found = memory_allocate(chunks * PIECE * scores, sizeof *found);
    xai_status status = XAI_OK;
    job->images = memory_allocate_zeroed(chunks, sizeof *job->images);
    job->statuses = memory_allocate_zeroed(chunks, sizeof *job->statuses);
    job->errors = memory_allocate_zeroed(chunks, sizeof *job->errors);
    if (filled == NULL || found == NULL || job->images == NULL || job->statuses == NULL ||
        job->errors == NULL)
        status = error_memory(error, "walks", chunks * PIECE * scores * sizeof *found);
    job->caller = pthread_self();
    for (job->first = 0; status == XAI_OK && job->first < job->piece_count; job->first += job->now)
        status = run_wave(job, filled, found, error);
    for (size_t w = 0; job->images != NULL && w < chunks; w++)
        memory_free(job->images[w]);
    memory_free((void *)job->images);
    memory_free(job->statuses);
    memory_free((void *)job->errors);
    memory_free(filled);
    memory_free(found);
    return status;
}

static xai_status run_alone(walk_job *job, dense_scores dense, void *user, xai_error **error)
{
    const size_t scores = job->of->score_count;
    double *found = memory_allocate(job->alone_count * scores, sizeof *found);
    if (found == NULL)
        return error_memory(error, "scores", job->alone_count * scores * sizeof *found);
    const xai_status status =
        job->alone_count > 0 ? dense(user, job->alone, job->alone_count, found, error) : XAI_OK;
    for (size_t i = 0; status == XAI_OK && i < job->alone_count; i++)
        memcpy(job->out + job->alone[i] * scores, found + i * scores, scores * sizeof *found);
    memory_free(found);
    return status;
}

static xai_status know_row(local_walks *self, const local_coalitions *of, xai_error **error)
{
    if (self->boxes != NULL)
        return XAI_OK;
    const bool had_features = self->features > 0;
    self->features = of->parts->count;
    self->boxes = memory_allocate(self->features, sizeof *self->boxes);
    if (self->boxes == NULL)
        return error_memory(error, "boxes of features", self->features * sizeof *self->boxes);
    if (had_features) /* a plan is for the boxes of one row */
        local_scores_free(&self->near);
    return local_coalitions_boxes(of, self->boxes, error);
}

/* Makes the plan; how often each feature is switched follows from the length of the call. */
static xai_status open_plan(walk_job *job, size_t evaluations, bool *pays, xai_error **error)
{
    local_walks *self = job->self;
    const local_coalitions *of = job->of;
    const local_manner manner = {.repeats = 1 + evaluations / self->features, .walk = PIECE};
    local_box *edits = memory_copy(self->boxes, self->features * sizeof *edits);
    if (edits == NULL)
        return error_memory(error, "boxes of features", self->features * sizeof *edits);
    for (size_t k = 0; k < self->features; k++)
        if (edits[k].height == 0) /* never stepped */
            edits[k] = (local_box){0, 0, 1, 1};
    const xai_status status =
        local_scores_open(&self->near, job->engine, of->inputs->rows, of->inputs->inputs[0], edits,
                          self->features, &manner, of->scores, of->score_count, pays, error);
    memory_free(edits);
    return status;
}

static bool allocate(walk_job *job)
{
    const size_t count = job->of->count;
    job->places = memory_allocate_zeroed(count, sizeof *job->places);
    job->feature = memory_allocate_zeroed(count, sizeof *job->feature);
    job->walked = memory_allocate(count, sizeof *job->walked);
    job->alone = memory_allocate(count, sizeof *job->alone);
    job->pieces = memory_allocate(count, sizeof *job->pieces);
    return job->places != NULL && job->feature != NULL && job->walked != NULL &&
           job->alone != NULL && job->pieces != NULL;
}

xai_status local_walks_run(local_walks *self, const local_coalitions *of, dense_scores dense,
                           void *user, bool *done, double *out, xai_error **error)
{
    walk_job job = {.self = self, .of = of, .engine = &of->of->engine, .out = out};
    /* Of one row, so that the number of rows in the call changes no bit. */
    const size_t evaluations = self->evaluations > of->count ? self->evaluations : of->count;
    *done = false;
    if (self->evaluations == 0 || self->near.refused || evaluations < LEAST_COALITIONS ||
        of->count < 2 || !local_coalitions_fit(of))
        return XAI_OK;
    atomic_init(&job.stop, false);
    xai_status status = allocate(&job)
                            ? know_row(self, of, error)
                            : error_memory(error, "coalitions", of->count * sizeof *job.places);
    bool pays = false;
    if (status == XAI_OK) {
        place_coalitions(&job);
        status = cut_pieces(&job, error);
    }
    /* Not even free steps would pay: no plan is made for that. */
    if (status == XAI_OK && cost_of(&job, 0) <= WORTH * (double)of->count)
        status = open_plan(&job, evaluations, &pays, error);
    if (status == XAI_OK && pays &&
        cost_of(&job, local_work(self->near.plan)) <= WORTH * (double)of->count) {
        status = run_waves(&job, error);
        if (status == XAI_OK)
            status = run_alone(&job, dense, user, error);
        *done = status == XAI_OK;
    }
    memory_free(job.places);
    memory_free(job.feature);
    memory_free(job.walked);
    memory_free(job.alone);
    memory_free(job.pieces);
    return status;
}
