/* Which edits are computed together. Edits are sorted by how much they reach along each axis and cut
 * into groups; groups whose boxes are alike become one class, which has a box size for each layer and
 * primitives made for it: a further class pays when it saves more multiplications than its
 * primitives take to be made. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine/local_private.h"

#define MOST_CLASSES 40      /* before the merging */
#define PRIMITIVE_COST 1.2e7 /* multiplications in the time that making a primitive takes */

size_t local_box_count(const local_value *self, size_t class_index)
{
    const size_t *length = self->boxes[class_index].length;
    return self->planes * self->unit * length[0] * length[1];
}

bool local_is_whole(const local_value *self, size_t class_index)
{
    return self->boxes[class_index].length[0] == self->size[0] &&
           self->boxes[class_index].length[1] == self->size[1];
}

void local_place(const local_value *self, size_t class_index, size_t edit, int64_t at[2])
{
    for (int axis = 0; axis < 2; axis++) {
        const int64_t most =
            (int64_t)self->size[axis] - (int64_t)self->boxes[class_index].length[axis];
        at[axis] = self->reaches[edit].low[axis];
        at[axis] = at[axis] > most ? most : at[axis];
    }
}

double local_step_cost(const local *self, const local_step *of)
{
    const local_value *out = &self->values[of->output];
    const double channels = (double)out->channels;
    if (of->kind != LOCAL_CONVOLUTION)
        return 8 * channels; /* a pass over memory */
    const window *w = &of->geometry;
    const double inputs = (double)self->values[of->inputs[0]].channels / (double)w->groups;
    return channels * (inputs * (double)(w->kernel[0] * w->kernel[1]) + 8);
}

typedef struct edit_extent {
    double along[2]; /* mean length of its boxes along an axis, weighted by cost */
    size_t edit;
} edit_extent;

static int compare(const edit_extent *a, const edit_extent *b, int axis)
{
    if (a->along[axis] != b->along[axis])
        return a->along[axis] < b->along[axis] ? -1 : 1;
    return a->edit < b->edit ? -1 : a->edit > b->edit;
}

static int by_rows(const void *a, const void *b)
{
    return compare(a, b, 0);
}

static int by_columns(const void *a, const void *b)
{
    return compare(a, b, 1);
}

/* Strips of edits that reach alike along the rows, each sorted along the columns. */
static xai_status sort_edits(local *self, size_t group, xai_error **error)
{
    edit_extent *all = memory_allocate_zeroed(self->edits, sizeof *all);
    if (all == NULL)
        return error_memory(error, "edits", self->edits * sizeof *all);
    for (size_t e = 0; e < self->edits; e++) {
        all[e].edit = e;
        for (size_t s = 0; s < self->step_count; s++) {
            const local_value *out = &self->values[self->steps[s].output];
            const double cost = local_step_cost(self, &self->steps[s]);
            for (int axis = 0; axis < 2; axis++)
                all[e].along[axis] +=
                    cost * (double)out->size[1 - axis] *
                    (double)(out->reaches[e].high[axis] - out->reaches[e].low[axis]);
        }
    }
    qsort(all, self->edits, sizeof *all, by_rows);
    const size_t groups = (self->edits + group - 1) / group;
    size_t strips = 1;
    while ((strips + 1) * (strips + 1) <= groups)
        strips++;
    const size_t strip = (groups + strips - 1) / strips * group;
    for (size_t at = 0; at < self->edits; at += strip)
        qsort(all + at, self->edits - at < strip ? self->edits - at : strip, sizeof *all,
              by_columns);
    for (size_t e = 0; e < self->edits; e++)
        self->order[e] = all[e].edit;
    memory_free(all);
    return XAI_OK;
}

/* A class in the making: a box a value; its bundles of groups. */
typedef struct bundle {
    box_size *boxes; /* [step]: of its output */
    size_t groups, into;
    double cost; /* of one group */
} bundle;

static double cost_of(const local *self, const box_size *a, const box_size *b)
{
    double cost = 0;
    for (size_t s = 0; s < self->step_count; s++) {
        double area = 1;
        for (int axis = 0; axis < 2; axis++) {
            const size_t x = a[s].length[axis], y = b[s].length[axis];
            area *= (double)(x > y ? x : y);
        }
        cost += self->group * area * local_step_cost(self, &self->steps[s]);
    }
    return cost;
}

static void hold(box_size *into, const box_size *other)
{
    for (int axis = 0; axis < 2; axis++)
        if (other->length[axis] > into->length[axis])
            into->length[axis] = other->length[axis];
}

static box_size reach_size(const reach *of)
{
    box_size size;
    for (int axis = 0; axis < 2; axis++) {
        const int32_t length = of->high[axis] - of->low[axis];
        size.length[axis] = length > 1 ? (size_t)length : 1;
    }
    return size;
}

static void open_bundle(const local *self, bundle *made, size_t begin, size_t end)
{
    made->groups = (end - begin + self->group - 1) / self->group;
    for (size_t s = 0; s < self->step_count; s++) {
        const local_value *out = &self->values[self->steps[s].output];
        for (size_t e = begin; e < end; e++) {
            const box_size size = reach_size(&out->reaches[self->order[e]]);
            hold(&made->boxes[s], &size);
        }
    }
    made->cost = cost_of(self, made->boxes, made->boxes);
}

/* Merge the two whose merging costs least, until every merging costs more than it saves. */
static void merge(const local *self, bundle *all, size_t count)
{
    double price = 0;
    for (size_t s = 0; s < self->step_count; s++)
        price += self->steps[s].kind == LOCAL_CONVOLUTION ? PRIMITIVE_COST : 0;
    price /= self->repeats > 1 ? (double)self->repeats : 1;
    for (;;) {
        size_t a = count, b = count;
        double least = price;
        for (size_t i = 0; i < count; i++)
            for (size_t j = i + 1; all[i].into == i && j < count; j++) {
                if (all[j].into != j)
                    continue;
                const double joint = cost_of(self, all[i].boxes, all[j].boxes);
                const double more = (double)all[i].groups * (joint - all[i].cost) +
                                    (double)all[j].groups * (joint - all[j].cost);
                if (more < least) {
                    least = more;
                    a = i;
                    b = j;
                }
            }
        if (a == count)
            return;
        for (size_t s = 0; s < self->step_count; s++)
            hold(&all[a].boxes[s], &all[b].boxes[s]);
        all[a].groups += all[b].groups;
        all[a].cost = cost_of(self, all[a].boxes, all[a].boxes);
        all[b].into = a;
    }
}

/* Positions bundle by bundle, so that a class's groups follow each other; the group that is not full
 * stays the last one. */
static xai_status arrange(local *self, bundle *all, size_t count, size_t per_bundle,
                          xai_error **error)
{
    size_t *order = memory_allocate(self->edits, sizeof *order), at = 0, group = 0;
    if (order == NULL)
        return error_memory(error, "edits", self->edits * sizeof *order);
    size_t last = count - 1;
    while (all[last].into != last)
        last = all[last].into;
    self->class_count = 0;
    for (size_t c = 0; c <= count; c++) {
        const size_t root = c < count ? c : last;
        if (all[root].into != root || (c < count && root == last))
            continue;
        for (size_t b = 0; b < count; b++) {
            size_t home = b;
            while (all[home].into != home)
                home = all[home].into;
            if (home != root)
                continue;
            const size_t begin = b * per_bundle;
            const size_t end = begin + per_bundle < self->edits ? begin + per_bundle : self->edits;
            memcpy(order + at, self->order + begin, (end - begin) * sizeof *order);
            at += end - begin;
            for (size_t e = begin; e < end; e += self->group)
                self->class_of_group[group++] = self->class_count;
        }
        for (size_t s = 0; s < self->step_count; s++)
            self->values[self->steps[s].output].boxes[self->class_count] = all[root].boxes[s];
        self->class_count++;
    }
    memory_free(self->order);
    self->order = order;
    return XAI_OK;
}

/* In a walk whole maps are computed where they lie, boxes are copied to and fro. */
#define NEARLY_WHOLE 0.8
static void round_up(local *self)
{
    for (size_t s = 0; s < self->step_count; s++) {
        local_value *out = &self->values[self->steps[s].output];
        for (size_t c = 0; c < self->class_count; c++)
            if ((double)(out->boxes[c].length[0] * out->boxes[c].length[1]) >=
                NEARLY_WHOLE * (double)(out->size[0] * out->size[1]))
                out->boxes[c] = (box_size){{out->size[0], out->size[1]}};
    }
}

static xai_status number_positions(local *self, xai_error **error)
{
    self->position = memory_allocate(self->edits, sizeof *self->position);
    if (self->position == NULL)
        return error_memory(error, "edits", self->edits * sizeof *self->position);
    for (size_t at = 0; at < self->edits; at++)
        self->position[self->order[at]] = at;
    return XAI_OK;
}

/* The pixels of the edits themselves. */
static void size_image(local *self)
{
    local_value *image = &self->values[self->graph->inputs[self->input]];
    for (size_t c = 0; c < self->class_count; c++)
        image->boxes[c] = (box_size){{1, 1}};
    for (size_t e = 0; e < self->edits; e++) {
        const box_size size = reach_size(&image->reaches[self->order[e]]);
        hold(&image->boxes[self->class_of_group[e / self->group]], &size);
    }
}

/* Memory */

/* Floats that the patches of the largest step of a class take. */
static size_t most_patches(const local *self, size_t class_index)
{
    size_t most = 1;
    for (size_t s = 0; s < self->step_count; s++) {
        const local_step *step = &self->steps[s];
        const local_value *out = &self->values[step->output];
        const local_value *in = &self->values[step->inputs[0]];
        size_t count = 2 * local_box_count(out, class_index);
        if (step->geometry.rank == 2) {
            const window *w = &step->geometry;
            count = in->planes * in->unit;
            for (int axis = 0; axis < 2; axis++)
                count *= (out->boxes[class_index].length[axis] - 1) * (size_t)w->stride[axis] +
                         (size_t)((w->kernel[axis] - 1) * w->dilation[axis] + 1);
        }
        if (step->kind != LOCAL_CONCAT && step->kind != LOCAL_SCALE_SHIFT)
            most = count > most ? count : most;
    }
    most *= self->group;
    for (size_t f = 0; f < self->frontier_count; f++) { /* a map on its way out */
        const size_t count = local_whole_count(&self->values[self->frontier[f]]);
        most = count > most ? count : most;
    }
    return most;
}

/* Boxes that are alive, by their places. */
typedef struct live_boxes {
    size_t start, end, value;
} live_boxes;

/* Each value's boxes into the lowest gap that is free while they are needed. */
static xai_status lay_out(local *self, size_t class_index, xai_error **error)
{
    size_t live = 0;
    live_boxes *all = memory_allocate(self->step_count + 1, sizeof *all);
    if (all == NULL)
        return error_memory(error, "boxes", self->step_count * sizeof *all);
    for (size_t s = 0; s <= self->step_count; s++) { /* the image, then step s - 1 */
        const size_t v =
            s > 0 ? self->steps[s - 1].output : (size_t)self->graph->inputs[self->input];
        local_value *value = &self->values[v];
        if (s > 0 && self->steps[s - 1].kind == LOCAL_CONCAT)
            continue;
        const size_t count = (self->group * local_box_count(value, class_index) + 15) / 16 * 16;
        size_t kept = 0, at = 0, start = 0;
        for (size_t i = 0; i < live; i++) {
            const size_t last = self->values[all[i].value].last;
            if (s == 0 || last == LOCAL_NONE || last + 1 >= s)
                all[kept++] = all[i];
        }
        live = kept;
        for (; at < live && all[at].start - start < count; at++)
            start = all[at].end;
        memmove(all + at + 1, all + at, (live - at) * sizeof *all);
        all[at] = (live_boxes){start, start + count, v};
        live++;
        value->starts[class_index] = start;
        if (start + count > self->box_floats)
            self->box_floats = start + count;
    }
    const size_t patches = (most_patches(self, class_index) + 15) / 16 * 16;
    self->patch_floats = patches > self->patch_floats ? patches : self->patch_floats;
    memory_free(all);
    return XAI_OK;
}

/* As many edits together as leave the fewest places of four teams empty. */
static size_t group_size(size_t edits)
{
    size_t best = LOCAL_MOST, least = SIZE_MAX;
    for (size_t size = LOCAL_MOST; size >= 5; size--) {
        const size_t groups = (edits + size - 1) / size, places = (groups + 3) / 4 * 4 * size;
        if (places < least) {
            least = places;
            best = size;
        }
    }
    return edits < best ? edits : best;
}

xai_status local_make_classes(local *self, xai_error **error)
{
    self->group = self->repeats > 0 ? 1 : group_size(self->edits);
    const size_t groups = (self->edits + self->group - 1) / self->group;
    const size_t per_bundle = (groups + MOST_CLASSES - 1) / MOST_CLASSES * self->group;
    const size_t count = (self->edits + per_bundle - 1) / per_bundle;
    bundle *all = memory_allocate_zeroed(count, sizeof *all);
    box_size *boxes = memory_allocate_zeroed(count * self->step_count, sizeof *boxes);
    bool done = all != NULL && boxes != NULL;
    self->order = memory_allocate(self->edits, sizeof *self->order);
    self->class_of_group = memory_allocate(groups, sizeof *self->class_of_group);
    done = done && self->order != NULL && self->class_of_group != NULL;
    for (size_t s = 0; done && s <= self->step_count; s++) {
        const size_t v =
            s < self->step_count ? self->steps[s].output : (size_t)self->graph->inputs[self->input];
        local_value *value = &self->values[v];
        value->boxes = memory_allocate_zeroed(count, sizeof *value->boxes);
        value->starts = memory_allocate_zeroed(count, sizeof *value->starts);
        done = value->boxes != NULL && value->starts != NULL;
    }
    xai_status status = done ? sort_edits(self, per_bundle, error)
                             : error_memory(error, "groups of edits", count * sizeof *all);
    for (size_t b = 0; status == XAI_OK && b < count; b++) {
        const size_t begin = b * per_bundle;
        all[b].boxes = boxes + b * self->step_count;
        all[b].into = b;
        open_bundle(self, &all[b], begin,
                    begin + per_bundle < self->edits ? begin + per_bundle : self->edits);
    }
    if (status == XAI_OK) {
        merge(self, all, count);
        status = arrange(self, all, count, per_bundle, error);
    }
    if (status == XAI_OK && self->repeats > 0)
        round_up(self);
    if (status == XAI_OK)
        status = number_positions(self, error);
    if (status == XAI_OK)
        size_image(self);
    for (size_t k = 0; status == XAI_OK && k < self->class_count; k++)
        status = lay_out(self, k, error);
    memory_free(all);
    memory_free(boxes);
    return status;
}
