/* The plan of local edits that an explainer keeps from call to call: its primitives and its memory take the time of
 * several evaluations to be made, and calls of one explainer mostly ask for the same boxes. */
#include <string.h>

#include "base/error.h"
#include "explain/local_kept.h"

typedef struct kept_edits {
    local_scores near;
    shape *shapes; /* of the inputs of a run */
    size_t input_count, input;
    local_box *edits;
    size_t edit_count;
    int *sources; /* the values that scores are functions of */
    size_t source_count;
} kept_edits;

static void clear(kept_edits *self)
{
    local_scores_free(&self->near);
    memory_free(self->shapes);
    memory_free(self->edits);
    memory_free(self->sources);
    *self = (kept_edits){0};
}

static void release(void *kept)
{
    if (kept != NULL)
        clear(kept);
    memory_free(kept);
}

static bool same_box(const local_box *a, const local_box *b)
{
    return a->y == b->y && a->x == b->x && a->height == b->height && a->width == b->width;
}

static bool is_for(const kept_edits *self, const edits_wish *wanted)
{
    if (self->edit_count != wanted->count || self->source_count != wanted->score_count ||
        self->input != wanted->input)
        return false;
    for (size_t i = 0; i < self->input_count; i++)
        if (!shape_equal(&self->shapes[i], &wanted->rows->shapes[i]))
            return false;
    for (size_t e = 0; e < wanted->count; e++)
        if (!same_box(&self->edits[e], &wanted->edits[e]))
            return false;
    for (size_t t = 0; t < wanted->score_count; t++)
        if (self->sources[t] != wanted->scores[t].source.seed_value)
            return false;
    return true;
}

static xai_status note(kept_edits *self, size_t inputs, const edits_wish *wanted, xai_error **error)
{
    self->shapes = memory_allocate(inputs, sizeof *self->shapes);
    self->edits = memory_allocate(wanted->count, sizeof *self->edits);
    self->sources = memory_allocate(wanted->score_count, sizeof *self->sources);
    if (self->shapes == NULL || self->edits == NULL || self->sources == NULL) {
        clear(self);
        return error_memory(error, "edits", wanted->count * sizeof *self->edits);
    }
    memcpy(self->shapes, wanted->rows->shapes, inputs * sizeof *self->shapes);
    memcpy(self->edits, wanted->edits, wanted->count * sizeof *self->edits);
    for (size_t t = 0; t < wanted->score_count; t++)
        self->sources[t] = wanted->scores[t].source.seed_value;
    self->input_count = inputs;
    self->input = wanted->input;
    self->edit_count = wanted->count;
    self->source_count = wanted->score_count;
    return XAI_OK;
}

xai_status local_kept_open(explainer *of, const edits_wish *wanted, local_scores **out, bool *pays,
                           xai_error **error)
{
    kept_edits *kept = of->kept;
    const size_t inputs = network_graph(of->engine.of->net)->input_count;
    xai_status status = XAI_OK;
    *pays = false;
    if (kept == NULL) {
        kept = of->kept = memory_allocate_zeroed(1, sizeof *kept);
        if (kept == NULL)
            return error_memory(error, "edits", sizeof *kept);
        of->release = release;
    }
    if (kept->shapes == NULL || !is_for(kept, wanted)) {
        clear(kept);
        status = note(kept, inputs, wanted, error);
    }
    kept->near.repeated = 0; /* its number says no more which row it is */
    if (status == XAI_OK)
        status = local_scores_open(&kept->near, &of->engine, wanted->rows, wanted->input,
                                   wanted->edits, wanted->count, &(local_manner){0}, wanted->scores,
                                   wanted->score_count, pays, error);
    if (status != XAI_OK)
        clear(kept);
    *out = &kept->near;
    return status;
}
