#include "explain/game.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "explain/local_walks.h"
#include "explain/masking.h"

#define POOR_FIT 0.5 /* R^2 below which a fit is called poor */

/* Scores of all targets that a coalition had: several targets ask for the same coalitions, draws among
 * few features come again, and coalitions look the same where a feature changes nothing. */
typedef struct memo {
    uint64_t (*keys)[2]; /* 128-bit hashes; {0, 0} = free */
    double *scores;      /* (size, targets) */
    size_t *asked;       /* (size): 1 + the target that asked last */
    size_t size, count;
} memo;

enum { MEMO_PLAYERS = 64 }; /* above, draws do not come again */

typedef struct masked_row {
    explainer *of;
    const attribution_inputs *inputs;
    const features *parts;
    const fixed_score *scores; /* (targets), of this row */
    size_t row, target_count, target;
    masking hidden;
    uint8_t *seen; /* (K): whether the feature's absence changes anything */
    bool all_seen;
    memo known;
    local_walks walks;
    /* Of the model, for the current target alone: B a coalition that lacks something and that it
     * had not asked for before; and passes over the row itself that local edits began with. */
    size_t evaluations, passes;
    /* Of the current call: coalitions (count, K), and which of them are evaluated. */
    const uint8_t *coalitions;
    const size_t *asked;
} masked_row;

/* One variant: coalition index / B, absent features from background index % B. */
static xai_status fill(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const masked_row *self = user;
    const size_t backgrounds = self->hidden.backgrounds, background = index % backgrounds;
    const uint8_t *coalition =
        self->coalitions + self->asked[index / backgrounds] * self->parts->count;
    (void)error;
    for (size_t i = 0; i < self->inputs->count; i++)
        variants_copy_row(self->inputs->rows, self->row, i, &inputs[i]);
    for (size_t p = 0; p < self->inputs->part_count; p++)
        masking_write_coalition(&self->hidden, p, background, self->parts->labels[p], coalition,
                                &inputs[self->inputs->inputs[p]]);
    return XAI_OK;
}

/* Coalitions that give the same rows have the same key: a feature that is not seen counts as there. */
static void hash_coalition(const uint8_t *coalition, const uint8_t *seen, size_t count,
                           uint64_t key[2])
{
    uint64_t a = 0x9E3779B97F4A7C15U, b = 0xC2B2AE3D27D4EB4FU, bits = 1;
    for (size_t i = 0; i <= count; i++) {
        bits = bits << 1 | (i < count ? coalition[i] || !seen[i] : 0);
        if (i % 63 != 62 && i != count)
            continue;
        a = (a ^ bits) * 0xFF51AFD7ED558CCDU;
        a ^= a >> 32;
        b = (b ^ bits ^ a) * 0xC4CEB9FE1A85EC53U;
        b ^= b >> 29;
        bits = 1;
    }
    key[0] = a;
    key[1] = b | 1; /* never the free key */
}

static void memo_free(memo *self)
{
    memory_free(self->keys);
    memory_free(self->scores);
    memory_free(self->asked);
    *self = (memo){0};
}

/* Where a key is, or the free place where it belongs. */
static size_t memo_place(const memo *self, const uint64_t key[2])
{
    size_t at = (size_t)key[0] & (self->size - 1);
    while (self->keys[at][1] != 0 && (self->keys[at][0] != key[0] || self->keys[at][1] != key[1]))
        at = (at + 1) & (self->size - 1);
    return at;
}

static xai_status memo_reserve(memo *self, size_t more, size_t targets, xai_error **error)
{
    if (self->size > 0 && self->size >= 2 * (self->count + more))
        return XAI_OK;
    memo grown = {.size = 1024, .count = self->count};
    while (grown.size < 2 * (self->count + more))
        grown.size *= 2;
    grown.keys = memory_allocate_zeroed(grown.size, sizeof *grown.keys);
    grown.scores = memory_allocate(grown.size * targets, sizeof *grown.scores);
    grown.asked = memory_allocate_zeroed(grown.size, sizeof *grown.asked);
    if (grown.keys == NULL || grown.scores == NULL || grown.asked == NULL) {
        memo_free(&grown);
        return error_memory(error, "scores of coalitions", grown.size * targets * sizeof(double));
    }
    for (size_t i = 0; i < self->size; i++) {
        if (self->keys[i][1] == 0)
            continue;
        const size_t at = memo_place(&grown, self->keys[i]);
        memcpy(grown.keys[at], self->keys[i], sizeof grown.keys[at]);
        grown.asked[at] = self->asked[i];
        memcpy(grown.scores + at * targets, self->scores + i * targets, targets * sizeof(double));
    }
    memo_free(self);
    *self = grown;
    return XAI_OK;
}

/* The i-th of `which` among those asked for, each background of it, as whole rows. */
static xai_status evaluate_rows(void *user, const size_t *which, size_t count, double *out,
                                xai_error **error)
{
    masked_row *self = user;
    masked_row some = *self;
    size_t *asked = memory_allocate(count, sizeof *asked);
    if (asked == NULL)
        return error_memory(error, "coalitions", count * sizeof *asked);
    for (size_t i = 0; i < count; i++)
        asked[i] = self->asked[which != NULL ? which[i] : i];
    some.asked = asked;
    const variants what = {.rows = self->inputs->rows,
                           .row = self->row,
                           .count = count * self->hidden.backgrounds,
                           .scores = self->scores,
                           .score_count = self->target_count,
                           .fill = fill,
                           .user = &some};
    const xai_status status = evaluator_scores_of(&self->of->engine, &what, out, error);
    memory_free(asked);
    return status;
}

/* By what coalitions have in common, where that is less work. */
static xai_status evaluate_near(masked_row *self, size_t count, bool *done, double *out,
                                xai_error **error)
{
    const local_coalitions near = {.of = self->of,
                                   .inputs = self->inputs,
                                   .parts = self->parts,
                                   .row = self->row,
                                   .original = masking_floats(&self->hidden, 0),
                                   .absent = masking_absent_floats(&self->hidden, 0),
                                   .coalitions = self->coalitions,
                                   .asked = self->asked,
                                   .count = count,
                                   .scores = self->scores,
                                   .score_count = self->target_count};
    *done = false;
    if (self->hidden.backgrounds != 1 || near.original == NULL)
        return XAI_OK;
    const xai_status status = local_coalitions_run(&near, done, out, error);
    self->passes += *done;
    return status != XAI_OK || *done
               ? status
               : local_walks_run(&self->walks, &near, evaluate_rows, self, done, out, error);
}

/* Means over the background: out[i * targets + t] for the i-th coalition of `asked`. */
static xai_status evaluate(masked_row *self, size_t count, double *out, xai_error **error)
{
    const size_t backgrounds = self->hidden.backgrounds, targets = self->target_count;
    double *scores = out;
    if (count == 0)
        return XAI_OK;
    if (backgrounds > 1) {
        scores = memory_allocate(count * backgrounds * targets, sizeof *scores);
        if (scores == NULL)
            return error_memory(error, "scores", count * backgrounds * targets * sizeof *scores);
    }
    bool done = false;
    xai_status status = evaluate_near(self, count, &done, scores, error);
    if (status == XAI_OK && !done)
        status = evaluate_rows(self, NULL, count, scores, error);
    for (size_t i = 0; status == XAI_OK && backgrounds > 1 && i < count; i++)
        for (size_t t = 0; t < targets; t++) {
            double sum = 0;
            for (size_t b = 0; b < backgrounds; b++)
                sum += scores[(i * backgrounds + b) * targets + t];
            out[i * targets + t] = sum / (double)backgrounds;
        }
    if (scores != out)
        memory_free(scores);
    return status;
}

/* A coalition of all features that are seen is the row itself, whose score is known. */
static bool is_whole(const masked_row *self, const uint8_t *coalition)
{
    for (size_t k = 0; k < self->parts->count; k++)
        if (!coalition[k] && self->seen[k])
            return false;
    return true;
}

/* The set function of the current target. */
static xai_status score_coalitions(void *user, const uint8_t *coalitions, size_t count,
                                   double *scores, xai_error **error)
{
    masked_row *self = user;
    const size_t targets = self->target_count, players = self->parts->count;
    const bool keeps = targets > 1 || players <= MEMO_PLAYERS || !self->all_seen;
    size_t *asked = memory_allocate(count, sizeof *asked), fresh = 0;
    uint64_t(*keys)[2] = memory_allocate(count, sizeof *keys);
    double *found = memory_allocate(count * targets, sizeof *found);
    xai_status status = XAI_OK;
    if (asked == NULL || keys == NULL || found == NULL)
        status = error_memory(error, "scores", count * targets * sizeof *found);
    if (status == XAI_OK && keeps)
        status = memo_reserve(&self->known, count, targets, error);
    for (size_t i = 0; status == XAI_OK && i < count; i++) {
        bool is_new = true;
        if (is_whole(self, coalitions + i * players)) {
            scores[i] = self->scores[self->target].score;
            continue;
        }
        bool is_counted = false;
        if (keeps) {
            hash_coalition(coalitions + i * players, self->seen, players, keys[i]);
            const size_t at = memo_place(&self->known, keys[i]);
            is_new = self->known.keys[at][1] == 0;
            if (is_new) { /* taken at once: a coalition may come twice in one call */
                memcpy(self->known.keys[at], keys[i], sizeof keys[i]);
                self->known.count++;
            }
            is_counted = self->known.asked[at] == self->target + 1;
            self->known.asked[at] = self->target + 1;
        }
        self->evaluations += is_counted ? 0 : self->hidden.backgrounds;
        if (is_new)
            asked[fresh++] = i;
    }
    self->coalitions = coalitions;
    self->asked = asked;
    if (status == XAI_OK)
        status = evaluate(self, fresh, found, error);
    for (size_t i = 0; status == XAI_OK && i < fresh; i++) {
        if (!keeps)
            scores[asked[i]] = found[i];
        else
            memcpy(self->known.scores + memo_place(&self->known, keys[asked[i]]) * targets,
                   found + i * targets, targets * sizeof *found);
    }
    for (size_t i = 0; status == XAI_OK && keeps && i < count; i++)
        if (!is_whole(self, coalitions + i * players))
            scores[i] =
                self->known.scores[memo_place(&self->known, keys[i]) * targets + self->target];
    memory_free(asked);
    memory_free(keys);
    memory_free(found);
    return status;
}

/* The whole call */

typedef struct game_job {
    explainer *self;
    const game_method *how;
    attribution_inputs inputs;
    features parts;
    masked_row row;
    fixed_score *scores; /* (N, T) */
    double **values;     /* [part]: of a row, spread */
    game_values *found;  /* (T, N) */
    size_t *counts;      /* (N): segments of the shown part */
    size_t target_count;
    game_options options;
} game_job;

static void free_all(void **blocks, size_t count)
{
    for (size_t i = 0; blocks != NULL && i < count; i++)
        memory_free(blocks[i]);
    memory_free((void *)blocks);
}

static void game_free(game_job *job)
{
    const size_t parts = job->inputs.part_count, rows = job->inputs.rows->rows;
    for (size_t i = 0; job->found != NULL && i < job->target_count * rows; i++)
        game_values_free(&job->found[i]);
    memory_free(job->found);
    memory_free(job->counts);
    memory_free(job->scores);
    free_all((void **)job->values, parts);
    memo_free(&job->row.known);
    memory_free(job->row.seen);
    local_walks_free(&job->row.walks);
    masking_free(&job->row.hidden);
    features_free(&job->parts);
    attribution_inputs_free(&job->inputs);
}

static xai_status allocate(game_job *job, xai_error **error)
{
    const size_t parts = job->inputs.part_count, rows = job->inputs.rows->rows;
    bool done = true;
    job->values = memory_allocate_zeroed(parts, sizeof *job->values);
    job->scores = memory_allocate(rows * job->target_count, sizeof *job->scores);
    job->found = memory_allocate_zeroed(rows * job->target_count, sizeof *job->found);
    job->counts = memory_allocate_zeroed(rows, sizeof *job->counts);
    done = job->values != NULL && job->scores != NULL && job->found != NULL && job->counts != NULL;
    for (size_t p = 0; done && p < parts; p++) {
        job->values[p] = memory_allocate(job->inputs.sizes[p], sizeof **job->values);
        done = job->values[p] != NULL;
    }
    return done ? XAI_OK : error_memory(error, "a masked row", 0);
}

static xai_status find_seen(masked_row *self, xai_error **error)
{
    const size_t count = self->parts->count;
    memory_free(self->seen);
    self->seen = memory_allocate_zeroed(count, sizeof *self->seen);
    if (self->seen == NULL)
        return error_memory(error, "features", count);
    for (size_t p = 0; p < self->inputs->part_count; p++)
        for (size_t b = 0; b < self->hidden.backgrounds; b++) {
            const size_t size = self->inputs->sizes[p];
            const int32_t *labels = self->parts->labels[p];
            for (size_t i = 0; i < size; i++)
                if (labels[i] != FEATURE_NONE && masking_changes(&self->hidden, p, b, i))
                    self->seen[labels[i]] = 1;
        }
    self->all_seen = memchr(self->seen, 0, count) == NULL;
    return XAI_OK;
}

static xai_status prepare_row(game_job *job, size_t row, xai_error **error)
{
    masked_row *at = &job->row;
    at->row = row;
    at->scores = job->scores + row * job->target_count;
    memo_free(&at->known);
    at->passes = 0;
    local_walks_forget(&at->walks);
    xai_status status = features_of_row(&job->parts, row, error);
    at->walks.evaluations = job->how->walks ? job->how->cost(job->self, job->parts.count) : 0;
    if (status == XAI_OK)
        status = masking_begin(&at->hidden, row, error);
    return status == XAI_OK ? find_seen(at, error) : status;
}

static xai_status store(game_job *job, explanation *out, size_t row, const game_values *found,
                        xai_error **error)
{
    const double *errors = found->errors;
    xai_status status = XAI_OK;
    features_spread(&job->parts, found->values, true, job->values);
    for (size_t p = 0; status == XAI_OK && p < job->inputs.part_count; p++)
        status = attribution_store(out, p, row, job->inputs.sizes[p], job->values[p], error);
    if (status != XAI_OK || !job->how->with_error)
        return status;
    features_spread(&job->parts, errors, true, job->values);
    for (size_t p = 0; p < job->inputs.part_count; p++) {
        const size_t size = job->inputs.sizes[p];
        float *to = (float *)out->parts[p].standard_error.data + row * size;
        for (size_t i = 0; i < size; i++)
            to[i] = (float)job->values[p][i];
    }
    return XAI_OK;
}

static xai_status warn_row(const game_job *job, explanation *out, size_t row,
                           const game_values *found, xai_error **error)
{
    const double relative = game_values_relative_error(found);
    if (found->unresolved > 0)
        return explanation_warn(out, (int64_t)row, error,
                                "row %zu: the samples did not split every group: up to %zu "
                                "features share one value evenly; give more samples to tell them "
                                "apart",
                                row, found->unresolved);
    if (job->options.tolerance > 0 && !(relative <= job->options.tolerance))
        return explanation_warn(out, (int64_t)row, error,
                                "row %zu: the tolerance %g was not reached: the relative standard "
                                "error is %.3g after %zu evaluations; give more samples",
                                row, job->options.tolerance, relative,
                                (size_t)out->evaluations[row]);
    if (job->how->is_fit && found->r2 < POOR_FIT)
        return explanation_warn(out, (int64_t)row, error,
                                "row %zu: the linear model explains %.0f %% of the variance of the "
                                "scores around this row (R^2 = %.3g): its coefficients describe "
                                "the network poorly",
                                row, 100 * fmax(found->r2, 0), found->r2);
    return XAI_OK;
}

static xai_status explain_row(game_job *job, size_t row, explanation **out, xai_error **error)
{
    const set_function of = {
        .players = job->parts.count, .score = score_coalitions, .user = &job->row};
    xai_status status = XAI_OK;
    for (size_t t = 0; status == XAI_OK && t < job->target_count; t++) {
        game_values *found = &job->found[t * job->inputs.rows->rows + row];
        const fixed_score *fixed = &job->row.scores[t];
        job->row.target = t;
        job->row.evaluations = 0;
        status = job->how->solve(&of, &job->parts, job->self, &job->options, found, error);
        if (status == XAI_OK)
            status = store(job, out[t], row, found, error);
        if (status == XAI_OK)
            status = explanation_set_facts(
                out[t], job->self->engine.of, row, &fixed->chosen, fixed->source.output,
                fixed->score, (int64_t)(1 + job->row.evaluations + job->row.passes), error);
        if (status != XAI_OK)
            break;
        double sum = 0;
        for (size_t i = 0; i < found->players; i++)
            sum += found->values[i];
        out[t]->base_values[row] = found->empty;
        if (job->how->complete)
            out[t]->completeness_errors[row] = fabs(sum - (found->full - found->empty));
        if (option_find(job->self->method->options, "samples") != NULL)
            out[t]->samples[row] = (int64_t)found->evaluations;
        if (job->how->with_error)
            out[t]->relative_errors[row] = game_values_relative_error(found);
        out[t]->converged[row] =
            job->options.tolerance > 0
                ? (int8_t)(game_values_relative_error(found) <= job->options.tolerance)
                : -1;
        status = warn_row(job, out[t], row, found, error);
    }
    return status;
}

/* segments (N, dims), segment_values and segment_errors (N, K), K the most of any row. */
static xai_status add_segments(const game_job *job, explanation *out, const game_values *found,
                               const int32_t *labels, xai_error **error)
{
    const size_t shown = job->parts.shown, rows = out->rows;
    if (shown == FEATURES_NO_PART)
        return XAI_OK;
    const spatial *space = &job->parts.spaces[shown];
    const shape dims = spatial_rows(space, rows);
    size_t most = 0;
    for (size_t row = 0; row < rows; row++)
        most = job->counts[row] > most ? job->counts[row] : most;
    const shape table = {.rank = 2, .dims = {(int64_t)rows, (int64_t)most}};
    xai_status status = tensor_create(&out->segments, DTYPE_INT32, &dims, error);
    if (status == XAI_OK)
        status = tensor_create(&out->segment_values, DTYPE_FLOAT, &table, error);
    if (status == XAI_OK && job->how->with_error)
        status = tensor_create(&out->segment_errors, DTYPE_FLOAT, &table, error);
    if (status != XAI_OK)
        return status;
    memcpy(out->segments.data, labels, rows * space->pixels * sizeof *labels);
    for (size_t row = 0; row < rows; row++)
        for (size_t k = 0; k < most; k++) {
            const size_t at = job->parts.first[shown] + k;
            const bool exists = k < job->counts[row];
            ((float *)out->segment_values.data)[row * most + k] =
                exists ? (float)found[row].values[at] : 0;
            if (job->how->with_error)
                ((float *)out->segment_errors.data)[row * most + k] =
                    exists ? (float)found[row].errors[at] : 0;
        }
    return XAI_OK;
}

/* (N, K, K) of the features, K the most of any row; where the solver gave them. */
static xai_status add_interactions(explanation *out, const game_values *found, xai_error **error)
{
    size_t most = 0;
    for (size_t row = 0; row < out->rows; row++) {
        if (found[row].interactions == NULL)
            return XAI_OK;
        most = found[row].players > most ? found[row].players : most;
    }
    const shape dims = {.rank = 3, .dims = {(int64_t)out->rows, (int64_t)most, (int64_t)most}};
    const xai_status status = tensor_create(&out->interactions, DTYPE_FLOAT, &dims, error);
    if (status != XAI_OK)
        return status;
    float *to = out->interactions.data;
    memset(to, 0, out->rows * most * most * sizeof *to);
    for (size_t row = 0; row < out->rows; row++)
        for (size_t i = 0; i < found[row].players; i++)
            for (size_t j = 0; j < found[row].players; j++)
                to[(row * most + i) * most + j] =
                    (float)found[row].interactions[i * found[row].players + j];
    return XAI_OK;
}

static xai_status begin(game_job *job, const batch *rows, const xai_target *const *targets,
                        explanation **out, xai_error **error)
{
    explainer *self = job->self;
    xai_status status = masking_inputs_init(&job->inputs, self, rows, error);
    if (status == XAI_OK)
        status = features_init(&job->parts, &job->inputs, self, job->how->whole, error);
    if (status == XAI_OK)
        status = allocate(job, error);
    if (status == XAI_OK)
        status = attribution_create_all(&job->inputs, self, job->how->with_error, job->target_count,
                                        out, error);
    if (status == XAI_OK)
        status = masking_init(&job->row.hidden, &job->inputs, self, out, job->target_count, error);
    if (status == XAI_OK)
        status = prepare_row(job, 0, error);
    if (status != XAI_OK)
        return status;
    /* The number of features is that of the first row: other rows may have a few segments more or
     * less. Every row is evaluated once as it is, and no coalition is that. */
    const size_t coalitions = job->how->cost(self, job->parts.count) - 1;
    evaluator_expect(&self->engine,
                     rows->runs + rows->rows * coalitions * job->row.hidden.backgrounds);
    return evaluator_fix_scores(&self->engine, rows, targets, job->target_count, self->score,
                                job->scores, error);
}

xai_status game_explain(explainer *self, const game_method *how, const batch *rows,
                        const xai_target *const *targets, size_t target_count, explanation **out,
                        xai_error **error)
{
    game_job job = {.self = self, .how = how, .target_count = target_count, .inputs.rows = rows};
    int32_t *labels = NULL;
    job.row = (masked_row){
        .of = self, .inputs = &job.inputs, .parts = &job.parts, .target_count = target_count};
    job.options = (game_options){
        .samples = option_find(self->method->options, "samples") != NULL
                       ? explainer_count(self, "samples")
                       : 0,
        .seed =
            option_find(self->method->options, "seed") != NULL ? explainer_count(self, "seed") : 0,
        .tolerance = option_find(self->method->options, "tolerance") != NULL
                         ? explainer_number(self, "tolerance")
                         : 0,
        .interactions = option_find(self->method->options, "interactions") != NULL &&
                        explainer_number(self, "interactions") > 0,
    };
    xai_status status = begin(&job, rows, targets, out, error);
    const size_t shown = job.parts.shown;
    const size_t pixels =
        status == XAI_OK && shown != FEATURES_NO_PART ? job.parts.spaces[shown].pixels : 0;
    labels = memory_allocate(rows->rows * pixels, sizeof *labels);
    if (status == XAI_OK && labels == NULL)
        status = error_memory(error, "segments", rows->rows * pixels * sizeof *labels);
    for (size_t row = 0; status == XAI_OK && row < rows->rows; row++) {
        if (row > 0) /* begin() has made the first */
            status = prepare_row(&job, row, error);
        if (status != XAI_OK)
            break;
        if (pixels > 0) {
            memcpy(labels + row * pixels, job.parts.pixels, pixels * sizeof *labels);
            job.counts[row] = job.parts.first[shown + 1] - job.parts.first[shown];
        }
        status = explain_row(&job, row, out, error);
    }
    for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
        status = explanation_set_features(out[t], job.parts.made, error);
        if (status == XAI_OK)
            status = add_interactions(out[t], job.found + t * rows->rows, error);
        if (status == XAI_OK)
            status = add_segments(&job, out[t], job.found + t * rows->rows, labels, error);
        if (status == XAI_OK)
            status = attribution_finish(&job.inputs, self, true, out[t], error);
    }
    memory_free(labels);
    game_free(&job);
    return status;
}
