/* The integral of gradients on a path that is bisected where the score bends.
 *
 * A part [l, r] of the path takes Simpson's rule on l, m, r. Each point gives the score S, the gradient
 * g and so the slope d = g (x - b) of the score on the path. The parabola through the three slopes
 * integrates to
 *     h / 24 (5 d_l + 8 d_m - d_r)   from l to m,      h / 24 (-d_l + 8 d_m + 5 d_r)   from m to r,
 * where S(m) - S(l) and S(r) - S(m) are the truth: the error of a part is the sum of both
 * differences, without signs, so that halves cannot hide each other's. Parts with the largest errors
 * are bisected (two new points each; the old three are used again) until all errors add up to the
 * tolerance, which bounds the completeness error too. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "explain/path.h"

enum {
    BISECTED = 8,                 /* parts a round, whatever the number of threads */
    FEWEST_NODES = 25,            /* kept though they take more than their share of memory */
    NODE_BYTES = 96 * 1024 * 1024 /* gradients kept for a target */
};

static const double shortest = 1.0 / (1 << 20); /* points closer than this are one in float32 */

typedef struct path_node {
    double at, score, slope;
    float *gradient; /* of all parts of the explanation, one after the other; NULL = not kept */
    size_t uses;     /* by parts of the path */
} path_node;

typedef struct path_part {
    size_t left, middle, right; /* nodes */
    double error;
} path_part;

/* The path of one target. */
typedef struct division {
    path_node *nodes;
    path_part *parts;
    size_t node_count, part_count;
    size_t fresh;   /* nodes from here on are to be evaluated */
    double settled; /* the errors of parts that are summed and forgotten */
    bool done;
} division;

typedef struct adaptive {
    const path *of;
    double tolerance;
    size_t most;
    size_t floats; /* of a node's gradient */
    division *divisions;
    double *points; /* of the path in this round, in ascending order, for any target */
    size_t point_count;
} adaptive;

static void division_free(division *self)
{
    for (size_t i = 0; self->nodes != NULL && i < self->node_count; i++)
        memory_free(self->nodes[i].gradient);
    memory_free(self->nodes);
    memory_free(self->parts);
}

static size_t add_node(division *self, double at)
{
    self->nodes[self->node_count] = (path_node){.at = at};
    return self->node_count++;
}

static void add_part(division *self, size_t place, size_t left, size_t middle, size_t right)
{
    self->parts[place] = (path_part){.left = left, .middle = middle, .right = right};
    self->nodes[left].uses++;
    self->nodes[middle].uses++;
    self->nodes[right].uses++;
}

/* Two parts of three points, or one when there may be no more than that. */
static xai_status division_init(division *self, size_t most, xai_error **error)
{
    const size_t first = most >= 5 ? 5 : 3, nodes = most > first ? most : first;
    self->nodes = memory_allocate_zeroed(nodes, sizeof *self->nodes);
    self->parts = memory_allocate_zeroed(nodes, sizeof *self->parts);
    if (self->nodes == NULL || self->parts == NULL)
        return error_memory(error, "the points of the path", nodes * sizeof *self->nodes);
    for (size_t i = 0; i < first; i++)
        (void)add_node(self, (double)i / (double)(first - 1));
    for (; self->part_count < first / 2; self->part_count++)
        add_part(self, self->part_count, 2 * self->part_count, 2 * self->part_count + 1,
                 2 * self->part_count + 2);
    return XAI_OK;
}

static double error_of(const division *self, const path_part *part)
{
    const path_node *l = &self->nodes[part->left], *m = &self->nodes[part->middle],
                    *r = &self->nodes[part->right];
    const double step = (r->at - l->at) / 24;
    return fabs(step * (5 * l->slope + 8 * m->slope - r->slope) - (m->score - l->score)) +
           fabs(step * (5 * r->slope + 8 * m->slope - l->slope) - (r->score - m->score));
}

static void leave_node(division *self, size_t node)
{
    if (--self->nodes[node].uses > 0)
        return;
    memory_free(self->nodes[node].gradient);
    self->nodes[node].gradient = NULL;
}

static void add_weighted(const adaptive *job, size_t t, double weight, const float *gradient)
{
    const attribution_inputs *inputs = job->of->inputs;
    for (size_t p = 0; p < inputs->part_count; p++) {
        double *sum = job->of->sums[t * inputs->part_count + p];
        for (size_t i = 0; i < inputs->sizes[p]; i++)
            sum[i] += weight * gradient[i];
        gradient += inputs->sizes[p];
    }
}

/* Simpson's rule of a part into the sums; the part is no more. */
static void settle(const adaptive *job, size_t t, size_t place)
{
    division *self = &job->divisions[t];
    const path_part part = self->parts[place];
    const double step = (self->nodes[part.right].at - self->nodes[part.left].at) / 6;
    add_weighted(job, t, step, self->nodes[part.left].gradient);
    add_weighted(job, t, 4 * step, self->nodes[part.middle].gradient);
    add_weighted(job, t, step, self->nodes[part.right].gradient);
    self->settled += part.error;
    leave_node(self, part.left);
    leave_node(self, part.middle);
    leave_node(self, part.right);
    self->parts[place] = self->parts[--self->part_count];
}

/* The largest errors first; by place where they are equal, so that the order is one. */
static int compare_parts(const void *a, const void *b)
{
    const path_part *first = a, *second = b;
    if (first->error != second->error)
        return first->error > second->error ? -1 : 1;
    return first->left < second->left ? -1 : 1;
}

static size_t kept_nodes(const division *self)
{
    size_t count = 0;
    for (size_t i = 0; i < self->node_count; i++)
        count += self->nodes[i].gradient != NULL;
    return count;
}

static size_t most_kept(const adaptive *job)
{
    const size_t fitting = (size_t)NODE_BYTES / (job->floats * sizeof(float) + 1);
    return fitting > FEWEST_NODES ? fitting : FEWEST_NODES;
}

/* What is exact enough for its length is kept no longer, nor what leaves no room for others. */
static void settle_small(const adaptive *job, size_t t, double goal)
{
    division *self = &job->divisions[t];
    while (self->part_count > 0) {
        const path_part *last = &self->parts[self->part_count - 1];
        const double length = self->nodes[last->right].at - self->nodes[last->left].at;
        if (last->error > goal * length / 8 && kept_nodes(self) + 2 <= most_kept(job))
            return;
        settle(job, t, self->part_count - 1);
    }
}

/* Bisect the first `count` parts, which are sorted: the left halves take their places. */
static void bisect(division *self, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const path_part part = self->parts[i];
        const double left = self->nodes[part.left].at, middle = self->nodes[part.middle].at,
                     right = self->nodes[part.right].at;
        const size_t first = add_node(self, (left + middle) / 2);
        const size_t second = add_node(self, (middle + right) / 2);
        add_part(self, i, part.left, first, part.middle);
        add_part(self, self->part_count++, part.middle, second, part.right);
        self->nodes[part.left].uses--;
        self->nodes[part.middle].uses--;
        self->nodes[part.right].uses--;
    }
}

static double total_error(const division *self)
{
    double total = self->settled;
    for (size_t i = 0; i < self->part_count; i++)
        total += self->parts[i].error;
    return total;
}

/* The fewest of the largest errors without which the rest is half the goal, as far as points are
 * left; 0 = no more can be done. */
static size_t choose(const adaptive *job, const division *self, double goal)
{
    const size_t kept = kept_nodes(self), most = most_kept(job);
    double left = total_error(self);
    size_t count = 0;
    while (count < BISECTED && count < self->part_count && left > goal / 2 &&
           self->node_count + 2 * (count + 1) <= job->most && kept + 2 * (count + 1) <= most) {
        const path_part *part = &self->parts[count];
        if (self->nodes[part->right].at - self->nodes[part->left].at < shortest)
            break;
        left -= part->error;
        count++;
    }
    return count;
}

/* After the fresh nodes were evaluated: done, or which nodes are wanted next. */
static xai_status advance(const adaptive *job, size_t t, explanation **out, xai_error **error)
{
    division *self = &job->divisions[t];
    /* Nodes 0 and (first round) the last: S(b) is always node 0. */
    const double base = self->nodes[0].score;
    const double goal =
        job->tolerance * fabs(job->of->scores[t].score - base) + 1e-12; /* for equal scores */
    for (size_t i = 0; i < self->part_count; i++)
        self->parts[i].error = error_of(self, &self->parts[i]);
    const bool reached = self->node_count >= 5 && total_error(self) <= goal;
    qsort(self->parts, self->part_count, sizeof *self->parts, compare_parts);
    self->fresh = self->node_count;
    if (!reached) {
        settle_small(job, t, goal);
        const size_t count = choose(job, self, goal);
        bisect(self, count);
        if (count > 0)
            return XAI_OK;
    }
    while (self->part_count > 0)
        settle(job, t, self->part_count - 1);
    self->done = true;
    return path_store(job->of, t, base, self->node_count, reached, out[t], error);
}

/* A round: the points that any target wants */

static division *division_at(const adaptive *job, size_t t, double at, size_t *node)
{
    division *self = &job->divisions[t];
    for (size_t i = self->fresh; !self->done && i < self->node_count; i++) {
        if (self->nodes[i].at == at) {
            *node = i;
            return self;
        }
    }
    return NULL;
}

static xai_status fill_point(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const adaptive *job = user;
    return path_fill(job->of, job->points[index], inputs, error);
}

static bool wants_point(void *user, size_t index, size_t score)
{
    const adaptive *job = user;
    size_t node;
    return division_at(job, score, job->points[index], &node) != NULL;
}

static xai_status keep_point(void *user, const variant *of, xai_error **error)
{
    adaptive *job = user;
    const path *at = job->of;
    const size_t inputs = at->inputs->part_count;
    for (size_t t = 0; t < at->target_count; t++) {
        size_t index;
        division *self = division_at(job, t, job->points[of->index], &index);
        if (self == NULL)
            continue;
        path_node *node = &self->nodes[index];
        float *gradient = memory_allocate(job->floats, sizeof *gradient);
        if (gradient == NULL)
            return error_memory(error, "a gradient", job->floats * sizeof *gradient);
        node->gradient = gradient;
        node->score = of->scores[t];
        for (size_t p = 0; p < inputs; p++) {
            const float *found = of->gradients[t * inputs + p];
            for (size_t i = 0; i < of->counts[p]; i++)
                node->slope += found[i] * ((double)at->to[p][i] - (double)at->from[p][i]);
            memcpy(gradient, found, of->counts[p] * sizeof *gradient);
            gradient += of->counts[p];
        }
    }
    return XAI_OK;
}

static int compare_points(const void *a, const void *b)
{
    const double first = *(const double *)a, second = *(const double *)b;
    return (first > second) - (first < second);
}

static void gather_points(adaptive *job)
{
    size_t all = 0, count = 0;
    for (size_t t = 0; t < job->of->target_count; t++)
        for (size_t i = job->divisions[t].fresh;
             !job->divisions[t].done && i < job->divisions[t].node_count; i++)
            job->points[all++] = job->divisions[t].nodes[i].at;
    qsort(job->points, all, sizeof *job->points, compare_points);
    for (size_t i = 0; i < all; i++)
        if (count == 0 || job->points[count - 1] != job->points[i])
            job->points[count++] = job->points[i];
    job->point_count = count;
}

static xai_status run_round(adaptive *job, xai_error **error)
{
    variants what = {.row = job->of->row,
                     .count = job->point_count,
                     .scores = job->of->scores,
                     .score_count = job->of->target_count,
                     .fill = fill_point,
                     .wants = wants_point,
                     .body = keep_point,
                     .user = job};
    attribution_prepare(job->of->inputs, &what);
    return evaluator_run_variants(&job->of->self->engine, &what, error);
}

xai_status path_integrate_adaptively(const path *self, double tolerance, size_t most,
                                     explanation **out, xai_error **error)
{
    adaptive job = {.of = self, .tolerance = tolerance, .most = most};
    size_t points = 0;
    for (size_t p = 0; p < self->inputs->part_count; p++)
        job.floats += self->inputs->sizes[p];
    job.divisions = memory_allocate_zeroed(self->target_count, sizeof *job.divisions);
    if (size_multiply(self->target_count, 2 * BISECTED, &points))
        job.points = memory_allocate(points, sizeof *job.points);
    xai_status status = job.divisions != NULL && job.points != NULL
                            ? XAI_OK
                            : error_memory(error, "the points of the path", points);
    for (size_t t = 0; status == XAI_OK && t < self->target_count; t++)
        status = division_init(&job.divisions[t], most, error);
    for (;;) {
        if (status == XAI_OK)
            gather_points(&job);
        if (status != XAI_OK || job.point_count == 0)
            break;
        status = run_round(&job, error);
        for (size_t t = 0; status == XAI_OK && t < self->target_count; t++)
            if (!job.divisions[t].done)
                status = advance(&job, t, out, error);
    }
    for (size_t t = 0; job.divisions != NULL && t < self->target_count; t++)
        division_free(&job.divisions[t]);
    memory_free(job.divisions);
    memory_free(job.points);
    return status;
}
