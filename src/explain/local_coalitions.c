#include "explain/local_coalitions.h"

#include "base/error.h"
#include "explain/local_kept.h"

/* A plan for boxes takes the time of a few evaluations to be made; for less it does not pay. */
#define LEAST_COALITIONS 32
#define LARGEST_PART 0.3 /* of the image, in the mean */

/* Rows [low[0], high[0]), columns [low[1], high[1]). */
typedef struct bounds {
    int64_t low[2], high[2];
} bounds;

static void include(bounds *into, const bounds *other)
{
    for (int axis = 0; axis < 2; axis++) {
        into->low[axis] = other->low[axis] < into->low[axis] ? other->low[axis] : into->low[axis];
        into->high[axis] =
            other->high[axis] > into->high[axis] ? other->high[axis] : into->high[axis];
    }
}

static const bounds nothing = {{INT64_MAX, INT64_MAX}, {0, 0}};

/* Whether the absence of a pixel's feature is seen there; all channels belong to the same one. */
static bool changes(const local_coalitions *self, size_t pixel)
{
    const spatial *space = &self->inputs->spaces[0];
    for (size_t at = pixel; at < space->channels * space->pixels; at += space->pixels)
        if (self->original[at] != self->absent[at])
            return true;
    return false;
}

/* Around the pixels of each feature that its absence changes. */
static void bound_features(const local_coalitions *self, bounds *out)
{
    const spatial *space = &self->inputs->spaces[0];
    const int32_t *labels = self->parts->labels[0];
    for (size_t k = 0; k < self->parts->count; k++)
        out[k] = nothing;
    for (size_t p = 0; p < space->pixels; p++) {
        const int64_t y = (int64_t)p / space->dims[1], x = (int64_t)p % space->dims[1];
        const bounds here = {{y, x}, {y + 1, x + 1}};
        if (labels[p] != FEATURE_NONE && changes(self, p))
            include(&out[labels[p]], &here);
    }
}

/* Around what the coalition lacks and that is seen. */
static bounds bound_coalition(const local_coalitions *self, const bounds *of_features, size_t i)
{
    const uint8_t *coalition = self->coalitions + self->asked[i] * self->parts->count;
    bounds all = nothing;
    for (size_t k = 0; k < self->parts->count; k++)
        if (!coalition[k])
            include(&all, &of_features[k]);
    return all;
}

/* A coalition that lacks nothing that is seen has the row's own score, to the bit: boxes differ from it by rounding, which
 * is no evidence. */
static void take_own_scores(const local_coalitions *self, const bounds *of_features, double *out)
{
    for (size_t i = 0; i < self->count; i++)
        if (bound_coalition(self, of_features, i).high[0] == 0)
            for (size_t t = 0; t < self->score_count; t++)
                out[i * self->score_count + t] = self->scores[t].score;
}

/* The boxes of what each coalition lacks; their mean part of the image. */
static double bound_coalitions(const local_coalitions *self, const bounds *of_features,
                               local_box *out)
{
    const spatial *space = &self->inputs->spaces[0];
    double area = 0;
    for (size_t i = 0; i < self->count; i++) {
        bounds all = bound_coalition(self, of_features, i);
        if (all.high[0] == 0) /* it lacks nothing that is seen */
            all = (bounds){{0, 0}, {1, 1}};
        out[i] =
            (local_box){all.low[0], all.low[1], all.high[0] - all.low[0], all.high[1] - all.low[1]};
        area += (double)(out[i].height * out[i].width);
    }
    return area / (double)self->count / (double)space->pixels;
}

void local_coalitions_pixels(const local_coalitions *self, size_t i, const local_box *box,
                             float *out)
{
    const spatial *space = &self->inputs->spaces[0];
    const int32_t *labels = self->parts->labels[0];
    const uint8_t *coalition = self->coalitions + self->asked[i] * self->parts->count;
    for (size_t c = 0; c < space->channels; c++)
        for (int64_t y = box->y; y < box->y + box->height; y++)
            for (int64_t x = box->x; x < box->x + box->width; x++) {
                const size_t at = c * space->pixels + (size_t)(y * space->dims[1] + x);
                const bool there = labels[at] == FEATURE_NONE || coalition[labels[at]];
                *out++ = there ? self->original[at] : self->absent[at];
            }
}

static void fill_box(void *user, size_t index, const local_box *box, float *out)
{
    local_coalitions_pixels(user, index, box, out);
}

bool local_coalitions_fit(const local_coalitions *self)
{
    const spatial *space = &self->inputs->spaces[0];
    return self->inputs->part_count == 1 && space->rank == 2 && space->pixel_stride == 1 &&
           space->channel_stride == space->pixels && space->offset == 0 && !self->parts->whole;
}

xai_status local_coalitions_boxes(const local_coalitions *self, local_box *out, xai_error **error)
{
    const size_t count = self->parts->count;
    bounds *found = memory_allocate(count, sizeof *found);
    if (found == NULL)
        return error_memory(error, "boxes of features", count * sizeof *found);
    bound_features(self, found);
    for (size_t k = 0; k < count; k++) {
        const bounds *of = &found[k];
        out[k] = of->high[0] == 0 ? (local_box){0}
                                  : (local_box){of->low[0], of->low[1], of->high[0] - of->low[0],
                                                of->high[1] - of->low[1]};
    }
    memory_free(found);
    return XAI_OK;
}

xai_status local_coalitions_run(const local_coalitions *self, bool *done, double *out,
                                xai_error **error)
{
    local_scores *near = NULL;
    xai_status status = XAI_OK;
    *done = false;
    if (self->count < LEAST_COALITIONS || !local_coalitions_fit(self))
        return XAI_OK;
    bounds *of_features = memory_allocate(self->parts->count, sizeof *of_features);
    local_box *boxes = memory_allocate(self->count, sizeof *boxes);
    if (of_features == NULL || boxes == NULL) {
        status = error_memory(error, "boxes of coalitions", self->count * sizeof *boxes);
        goto done;
    }
    bound_features(self, of_features);
    if (bound_coalitions(self, of_features, boxes) > LARGEST_PART)
        goto done;
    const edits_wish wanted = {.rows = self->inputs->rows,
                               .input = self->inputs->inputs[0],
                               .edits = boxes,
                               .count = self->count,
                               .scores = self->scores,
                               .score_count = self->score_count};
    status = local_kept_open(self->of, &wanted, &near, done, error);
    if (status == XAI_OK && *done)
        status = local_scores_run(near, &self->of->engine, self->inputs->rows, self->row,
                                  self->inputs->inputs[0], self->count, fill_box, (void *)self,
                                  self->scores, self->score_count, out, error);
    if (status == XAI_OK && *done)
        take_own_scores(self, of_features, out);
done:
    memory_free(of_features);
    memory_free(boxes);
    return status;
}
