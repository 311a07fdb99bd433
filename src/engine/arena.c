/* Offsets in the arena: greedy by size (Pisarchyk & Lee, arXiv:2001.03288), lifetimes over
 * forward and backward. */
#include "engine/plan.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"

#define ARENA_ALIGNMENT 64u

static int larger_first(const void *a, const void *b)
{
    const buffer *x = *(buffer *const *)a, *y = *(buffer *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->first < y->first ? -1 : x->first > y->first;
}

static bool alive_together(const buffer *a, const buffer *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* placed[0..count) is sorted by start: the lowest gap that holds `self`. */
static size_t lowest_gap(buffer *const *placed, size_t count, const buffer *self)
{
    size_t start = 0;
    for (size_t i = 0; i < count; i++) {
        if (!alive_together(placed[i], self))
            continue;
        if (placed[i]->start >= start && placed[i]->start - start >= self->bytes)
            break;
        if (placed[i]->start + placed[i]->bytes > start)
            start = placed[i]->start + placed[i]->bytes;
    }
    return start;
}

xai_status arena_place(plan *self, size_t memory_limit, xai_error **error)
{
    xai_status status = XAI_OK;
    size_t count = 0, end = 0;
    buffer **order = memory_allocate(self->buffer_count, 2 * sizeof *order);
    if (!order)
        return error_memory(error, "memory plan", self->buffer_count * sizeof *order);
    buffer **placed = order + self->buffer_count;
    for (size_t i = 0; i < self->buffer_count; i++) {
        buffer *each = &self->buffers[i];
        if (!each->used)
            continue;
        if (each->bytes > SIZE_MAX / 4) {
            status = error_set(error, XAI_ERROR_MEMORY, NULL,
                               "a tensor of this model needs more memory than can be addressed");
            goto done;
        }
        each->bytes = (each->bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
        order[count++] = each;
    }
    qsort(order, count, sizeof *order, larger_first);
    for (size_t i = 0; i < count; i++) {
        order[i]->start = lowest_gap(placed, i, order[i]);
        size_t at = i;
        for (; at > 0 && placed[at - 1]->start > order[i]->start; at--)
            placed[at] = placed[at - 1];
        placed[at] = order[i];
        if (!size_add(order[i]->start, order[i]->bytes, &(size_t){0}) ||
            order[i]->start + order[i]->bytes > SIZE_MAX / 2) {
            status = error_set(error, XAI_ERROR_MEMORY, NULL,
                               "this model needs more memory than can be addressed");
            goto done;
        }
        if (order[i]->start + order[i]->bytes > end)
            end = order[i]->start + order[i]->bytes;
    }
    self->arena_bytes = end;
    if (memory_limit && end + self->scratchpad_bytes > memory_limit)
        status = error_set(error, XAI_ERROR_MEMORY, NULL,
                           "the plan needs %zu bytes for activations and gradients but the memory "
                           "limit is %zu: raise the limit, "
                           "use a smaller image or a later layer",
                           end + self->scratchpad_bytes, memory_limit);
done:
    memory_free(order);
    return status;
}
