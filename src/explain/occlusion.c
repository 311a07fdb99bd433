/* Occlusion (Zeiler and Fergus 2014): a window slides over the input, and what the score loses
 * under it is shared by the elements that it covers.
 *   values[e] = mean over the windows that cover e of f(x) - f(x with the window replaced)
 * Windows at the far border are cut off there. In tables each element is a window, of tokens (one axis,
 * integers) each unless a window is given. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "explain/local_kept.h"
#include "explain/masking.h"

/* Windows of one part: a grid over its spatial axes, all channels together. */
typedef struct window_grid {
    size_t dims[MAP_MAX_RANK], window[MAP_MAX_RANK], stride[MAP_MAX_RANK], number[MAP_MAX_RANK];
    int rank;
    size_t count;
} window_grid;

typedef struct occlusion_job {
    explainer *self;
    attribution_inputs inputs;
    window_grid *grids;  /* [part] */
    fixed_score *scores; /* (N, T) */
    masking hidden;
    spatial *spaces; /* [part]: its axes; tokens (N, L) are a sequence */
    double **sums;   /* [part] */
    double *drops;   /* (windows, T) */
    size_t windows, target_count, row;
    size_t passes;      /* over a row itself: for its score, and before local edits */
    local_scores *near; /* for one image alone; the explainer's */
} occlusion_job;

/* "16", "16,8": one number for all axes or one each; 0 = `otherwise`. */
static xai_status read_sizes(const explainer *self, const char *name, int rank,
                             const size_t *otherwise, size_t *out, xai_error **error)
{
    const char *given = option_text(&self->options, name);
    const size_t number = explainer_count(self, name);
    for (int axis = 0; axis < rank; axis++)
        out[axis] = number > 0 && given == NULL ? number : otherwise[axis];
    for (int axis = 0; given != NULL; axis++) {
        char *end = NULL;
        const unsigned long size = strtoul(given, &end, 10);
        if (end == given || (*end != ',' && *end != '\0') || size > INT32_MAX || axis >= rank ||
            given[0] == '-')
            return error_set(error, XAI_ERROR_ARGUMENT, name,
                             "a size for each of %d spatial axes is needed, such as 16 or 16,16",
                             rank);
        for (int a = axis; a < rank; a++)
            out[a] = size > 0 ? size : otherwise[a]; /* one serves the axes that follow */
        if (*end == '\0' && axis != 0 && axis != rank - 1)
            return error_set(error, XAI_ERROR_ARGUMENT, name, "%d sizes for %d spatial axes",
                             axis + 1, rank);
        given = *end == ',' ? end + 1 : NULL;
    }
    return XAI_OK;
}

/* Tokens, (N, L) integers, are a sequence; a table is not. */
static spatial window_space(const attribution_inputs *inputs, size_t part)
{
    const tensor *input = inputs->rows->inputs[inputs->inputs[part]];
    const size_t length = inputs->sizes[part];
    if (inputs->spaces[part].rank > 0 || dtype_is_float(input->dtype) || length == 0)
        return inputs->spaces[part];
    return spatial_sequence(length);
}

/* Windows of tokens default to one, others to 1/14 of the longest axis, strides to the window. */
static xai_status plan_windows(occlusion_job *job, size_t part, xai_error **error)
{
    const spatial *space = &job->spaces[part];
    window_grid *grid = &job->grids[part];
    size_t usual[MAP_MAX_RANK], longest = 1;
    xai_status status = XAI_OK;
    *grid = (window_grid){.rank = space->rank, .count = 1};
    if (space->rank == 0) {
        grid->count = job->inputs.sizes[part];
        return XAI_OK;
    }
    for (int axis = 0; axis < space->rank; axis++) {
        grid->dims[axis] = (size_t)space->dims[axis];
        longest = grid->dims[axis] > longest ? grid->dims[axis] : longest;
    }
    for (int axis = 0; axis < space->rank; axis++)
        usual[axis] = job->inputs.spaces[part].rank == 0 ? 1 : (longest + 13) / 14;
    status = read_sizes(job->self, "window", space->rank, usual, grid->window, error);
    for (int axis = 0; axis < space->rank; axis++)
        if (grid->window[axis] > grid->dims[axis])
            grid->window[axis] = grid->dims[axis];
    if (status == XAI_OK)
        status = read_sizes(job->self, "stride", space->rank, grid->window, grid->stride, error);
    for (int axis = 0; status == XAI_OK && axis < space->rank; axis++) {
        if (grid->stride[axis] > grid->window[axis])
            return error_set(error, XAI_ERROR_ARGUMENT, "stride",
                             "a stride of %zu leaves elements between windows of %zu",
                             grid->stride[axis], grid->window[axis]);
        const size_t rest = grid->dims[axis] - grid->window[axis];
        grid->number[axis] = (rest + grid->stride[axis] - 1) / grid->stride[axis] + 1;
        grid->count *= grid->number[axis];
    }
    return status;
}

/* The box of a window. */
static void window_box(const window_grid *grid, size_t index, size_t *begin, size_t *end)
{
    for (int axis = grid->rank; axis-- > 0;) {
        begin[axis] = index % grid->number[axis] * grid->stride[axis];
        end[axis] = begin[axis] + grid->window[axis];
        end[axis] = end[axis] < grid->dims[axis] ? end[axis] : grid->dims[axis];
        index /= grid->number[axis];
    }
}

/* Call for every element of a window. */
static void visit(const occlusion_job *job, size_t part, size_t index,
                  void (*element)(void *user, size_t at), void *user)
{
    const spatial *space = &job->spaces[part];
    const window_grid *grid = &job->grids[part];
    size_t begin[3] = {0, 0, 0}, end[3] = {1, 1, 1}, own_begin[3], own_end[3];
    if (space->rank == 0) {
        element(user, index);
        return;
    }
    window_box(grid, index, own_begin, own_end);
    for (int axis = 0; axis < grid->rank; axis++) {
        begin[3 - grid->rank + axis] = own_begin[axis];
        end[3 - grid->rank + axis] = own_end[axis];
    }
    const size_t width = grid->dims[grid->rank - 1],
                 height = grid->rank > 1 ? grid->dims[grid->rank - 2] : 1;
    for (size_t c = 0; c < space->channels; c++)
        for (size_t z = begin[0]; z < end[0]; z++)
            for (size_t y = begin[1]; y < end[1]; y++)
                for (size_t x = begin[2]; x < end[2]; x++)
                    element(user, space->offset + c * space->channel_stride +
                                      ((z * height + y) * width + x) * space->pixel_stride);
}

typedef struct element_job {
    const masking *hidden;
    size_t part;
    tensor *out;
    bool any; /* is changed */
} element_job;

static void hide(void *user, size_t at)
{
    const element_job *self = user;
    masking_hide(self->hidden, self->part, at, self->out);
}

/* The part that a window belongs to, and its number there. */
static size_t part_of(const occlusion_job *job, size_t *index)
{
    size_t part = 0;
    while (*index >= job->grids[part].count)
        *index -= job->grids[part++].count;
    return part;
}

static xai_status fill(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const occlusion_job *job = user;
    const batch *rows = job->inputs.rows;
    (void)error;
    for (size_t i = 0; i < job->inputs.count; i++)
        variants_copy_row(rows, job->row, i, &inputs[i]);
    size_t number = index;
    const size_t part = part_of(job, &number);
    element_job at = {
        .hidden = &job->hidden, .part = part, .out = &inputs[job->inputs.inputs[part]]};
    visit(job, part, number, hide, &at);
    return XAI_OK;
}

typedef struct share_job {
    double *sums;
    uint32_t *hits;
    double drop;
} share_job;

static void share(void *user, size_t at)
{
    const share_job *self = user;
    self->sums[at] += self->drop;
    self->hits[at]++;
}

static void compare(void *user, size_t at)
{
    element_job *self = user;
    self->any = self->any || masking_changes(self->hidden, self->part, 0, at);
}

/* What the score loses under a window. Nothing where the window changes nothing (the black border
 * of a radiograph): local edits differ from the row's own run by rounding, which is no evidence. */
static double drop_of(const occlusion_job *job, size_t part, size_t at, size_t number, size_t t)
{
    const double whole = job->scores[job->row * job->target_count + t].score;
    element_job change = {.hidden = &job->hidden, .part = part};
    visit(job, part, at, compare, &change);
    return change.any ? whole - job->drops[number * job->target_count + t] : 0;
}

static xai_status store_target(occlusion_job *job, size_t t, explanation *out, xai_error **error)
{
    size_t number = 0;
    xai_status status = XAI_OK;
    for (size_t p = 0; status == XAI_OK && p < job->inputs.part_count; p++) {
        const size_t count = job->inputs.sizes[p];
        share_job at = {.sums = job->sums[p],
                        .hits = memory_allocate_zeroed(count, sizeof *at.hits)};
        if (at.hits == NULL)
            return error_memory(error, "an occlusion map", count * sizeof *at.hits);
        memset(at.sums, 0, count * sizeof *at.sums);
        for (size_t w = 0; w < job->grids[p].count; w++, number++) {
            at.drop = drop_of(job, p, w, number, t);
            visit(job, p, w, share, &at);
        }
        for (size_t i = 0; i < count; i++)
            at.sums[i] /= at.hits[i] > 0 ? at.hits[i] : 1;
        memory_free(at.hits);
        status = attribution_store(out, p, job->row, count, at.sums, error);
    }
    return status;
}

/* Pixels of a box around window `index`: the baseline under the window, the row around it. */
static void fill_box(void *user, size_t index, const local_box *box, float *out)
{
    const occlusion_job *job = user;
    const spatial *space = &job->spaces[0];
    const float *there = masking_floats(&job->hidden, 0),
                *absent = masking_absent_floats(&job->hidden, 0);
    size_t begin[MAP_MAX_RANK], end[MAP_MAX_RANK];
    window_box(&job->grids[0], index, begin, end);
    for (size_t c = 0; c < space->channels; c++)
        for (int64_t y = box->y; y < box->y + box->height; y++)
            for (int64_t x = box->x; x < box->x + box->width; x++) {
                const size_t at = c * space->pixels + (size_t)(y * space->dims[1] + x);
                const bool inside = (size_t)y >= begin[0] && (size_t)y < end[0] &&
                                    (size_t)x >= begin[1] && (size_t)x < end[1];
                *out++ = inside ? absent[at] : there[at];
            }
}

/* One image, channels first, and nothing else: then windows can be computed locally. */
static xai_status open_local(occlusion_job *job, const fixed_score *fixed, bool *pays,
                             xai_error **error)
{
    const spatial *space = &job->spaces[0];
    *pays = false;
    if (job->inputs.part_count != 1 || space->rank != 2 || space->pixel_stride != 1 ||
        space->channel_stride != space->pixels || space->offset != 0 ||
        masking_floats(&job->hidden, 0) == NULL)
        return XAI_OK;
    local_box *boxes = memory_allocate(job->windows, sizeof *boxes);
    if (boxes == NULL)
        return error_memory(error, "windows", job->windows * sizeof *boxes);
    for (size_t w = 0; w < job->windows; w++) {
        size_t begin[MAP_MAX_RANK], end[MAP_MAX_RANK];
        window_box(&job->grids[0], w, begin, end);
        boxes[w] = (local_box){(int64_t)begin[0], (int64_t)begin[1], (int64_t)(end[0] - begin[0]),
                               (int64_t)(end[1] - begin[1])};
    }
    const edits_wish wanted = {.rows = job->inputs.rows,
                               .input = job->inputs.inputs[0],
                               .edits = boxes,
                               .count = job->windows,
                               .scores = fixed,
                               .score_count = job->target_count};
    const xai_status status = local_kept_open(job->self, &wanted, &job->near, pays, error);
    memory_free(boxes);
    return status;
}

/* Scores of all windows. */
static xai_status score_windows(occlusion_job *job, size_t row, const fixed_score *fixed,
                                xai_error **error)
{
    const size_t targets = job->target_count;
    bool pays = false;
    xai_status status = open_local(job, fixed, &pays, error);
    const variants what = {.rows = job->inputs.rows,
                           .row = row,
                           .count = job->windows,
                           .scores = fixed,
                           .score_count = targets,
                           .fill = fill,
                           .user = job};
    job->passes = 1 + pays;
    if (status == XAI_OK && !pays)
        status = evaluator_scores_of(&job->self->engine, &what, job->drops, error);
    else if (status == XAI_OK)
        status = local_scores_run(job->near, &job->self->engine, job->inputs.rows, row,
                                  job->inputs.inputs[0], job->windows, fill_box, job, fixed,
                                  targets, job->drops, error);
    return status;
}

static xai_status explain_row(occlusion_job *job, size_t row, explanation **out, xai_error **error)
{
    const fixed_score *fixed = job->scores + row * job->target_count;
    job->row = row;
    xai_status status = masking_begin(&job->hidden, row, error);
    if (status == XAI_OK)
        status = score_windows(job, row, fixed, error);
    for (size_t t = 0; status == XAI_OK && t < job->target_count; t++) {
        status = store_target(job, t, out[t], error);
        if (status == XAI_OK)
            status = explanation_set_facts(out[t], job->self->engine.of, row, &fixed[t].chosen,
                                           fixed[t].source.output, fixed[t].score,
                                           (int64_t)(job->windows + job->passes), error);
    }
    return status;
}

static xai_status allocate(occlusion_job *job, xai_error **error)
{
    const size_t parts = job->inputs.part_count;
    bool done = true;
    job->grids = memory_allocate_zeroed(parts, sizeof *job->grids);
    job->spaces = memory_allocate_zeroed(parts, sizeof *job->spaces);
    job->sums = memory_allocate_zeroed(parts, sizeof *job->sums);
    job->scores = memory_allocate(job->inputs.rows->rows * job->target_count, sizeof *job->scores);
    done = job->grids != NULL && job->spaces != NULL && job->sums != NULL && job->scores != NULL;
    for (size_t p = 0; done && p < parts; p++) {
        const size_t count = job->inputs.sizes[p];
        job->spaces[p] = window_space(&job->inputs, p);
        const xai_status status = plan_windows(job, p, error);
        if (status != XAI_OK)
            return status;
        job->windows += job->grids[p].count;
        job->sums[p] = memory_allocate(count, sizeof(double));
        done = job->sums[p] != NULL;
    }
    job->drops = memory_allocate(job->windows * job->target_count, sizeof *job->drops);
    return done && job->drops != NULL ? XAI_OK : error_memory(error, "windows", 0);
}

static void free_job(occlusion_job *job)
{
    for (size_t p = 0; job->sums != NULL && p < job->inputs.part_count; p++)
        memory_free(job->sums[p]);
    masking_free(&job->hidden);
    memory_free(job->spaces);
    memory_free((void *)job->sums);
    memory_free(job->grids);
    memory_free(job->scores);
    memory_free(job->drops);
    attribution_inputs_free(&job->inputs);
}

static xai_status name_windows(const occlusion_job *job, explanation *out, xai_error **error)
{
    char made[80];
    size_t p = 0;
    while (p < job->inputs.part_count && job->grids[p].rank == 0)
        p++;
    if (p == job->inputs.part_count) {
        snprintf(made, sizeof made, "%zu elements", job->windows);
        return explanation_set_features(out, made, error);
    }
    const window_grid *grid = &job->grids[p];
    int length = snprintf(made, sizeof made, "%zu windows of", grid->count);
    for (int axis = 0; axis < grid->rank; axis++)
        length += snprintf(made + length, sizeof made - (size_t)length, "%s%zu",
                           axis == 0 ? " " : " x ", grid->window[axis]);
    snprintf(made + length, sizeof made - (size_t)length, ", stride %zu", grid->stride[0]);
    return explanation_set_features(out, made, error);
}

static xai_status occlusion_explain(explainer *self, const batch *rows,
                                    const xai_target *const *targets, size_t target_count,
                                    explanation **out, xai_error **error)
{
    occlusion_job job = {.self = self, .target_count = target_count};
    xai_status status = masking_inputs_init(&job.inputs, self, rows, error);
    if (status == XAI_OK)
        status = allocate(&job, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++) {
        status = attribution_create(&job.inputs, self, false, &out[t], error);
        if (status == XAI_OK)
            status = name_windows(&job, out[t], error);
    }
    if (status == XAI_OK)
        status = masking_init(&job.hidden, &job.inputs, self, out, target_count, error);
    evaluator_expect(&self->engine, rows->runs + rows->rows * job.windows);
    if (status == XAI_OK)
        status = evaluator_fix_scores(&self->engine, rows, targets, target_count, self->score,
                                      job.scores, error);
    for (size_t row = 0; status == XAI_OK && row < rows->rows; row++)
        status = explain_row(&job, row, out, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++)
        status = attribution_finish(&job.inputs, self, true, out[t], error);
    free_job(&job);
    return status;
}

#define WINDOW_OPTION(option, words, what)                                                \
    {                                                                                     \
        .name = (option), .kinds = OPTION_NUMBER | OPTION_TEXT, .number = 0, .lowest = 0, \
        .highest = 1e6, .whole = true, .text = words, .description = what                 \
    }
static const option_definition occlusion_options[] = {
    WINDOW_OPTION("window", "1/14 of the longest axis",
                  "size in elements, for all spatial axes or one each (\"16,8\")"),
    WINDOW_OPTION("stride", "the window", "step in elements, likewise; at most the window"),
    OPTION_BASELINE,
    {0}};

const method_definition method_occlusion = {
    .name = "occlusion",
    .description =
        "occlusion (Zeiler and Fergus 2014): what the score loses under a sliding window",
    .explain = occlusion_explain,
    .options = occlusion_options,
};
