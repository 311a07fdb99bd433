#include "explain/target.h"

#include <inttypes.h>
#include <string.h>

#include "api/handles.h"
#include "base/error.h"
#include "base/text.h"

xai_status xai_target_create(xai_target **out, xai_error **error)
{
    if (out == NULL)
        return argument_missing(error, __func__, "out");
    xai_target *made = memory_allocate_zeroed(1, sizeof *made);
    if (made == NULL)
        return error_memory(error, "a target", sizeof *made);
    *out = made;
    return XAI_OK;
}

xai_status xai_target_set_output(xai_target *self, const char *name, xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, __func__, "target");
    char *copy = NULL;
    if (name != NULL && (copy = text_duplicate(name)) == NULL)
        return error_memory(error, "the name of an output", strlen(name));
    memory_free(self->output);
    self->output = copy;
    return XAI_OK;
}

static xai_status add(xai_target *self, const choice *added, const char *call, xai_error **error)
{
    if (self == NULL)
        return argument_missing(error, call, "target");
    if (!array_reserve((void **)&self->choices, &self->capacity, self->count + 1,
                       sizeof *self->choices))
        return error_memory(error, "a target", sizeof *self->choices);
    self->choices[self->count++] = *added;
    return XAI_OK;
}

xai_status xai_target_add_highest(xai_target *self, xai_error **error)
{
    return add(self, &(choice){.kind = CHOICE_HIGHEST}, __func__, error);
}

xai_status xai_target_add_index(xai_target *self, int64_t index, xai_error **error)
{
    return add(self, &(choice){.kind = CHOICE_INDEX, .index = index}, __func__, error);
}

xai_status xai_target_add_label(xai_target *self, const char *label, xai_error **error)
{
    if (label == NULL)
        return argument_missing(error, __func__, "label");
    choice added = {.kind = CHOICE_LABEL, .label = text_duplicate(label)};
    if (added.label == NULL)
        return error_memory(error, "a label", strlen(label));
    const xai_status status = add(self, &added, __func__, error);
    if (status != XAI_OK)
        memory_free(added.label);
    return status;
}

static xai_status add_box(xai_target *self, choice_kind kind, const int64_t *begin,
                          const int64_t *end, size_t rank, const char *call, xai_error **error)
{
    if (begin == NULL || end == NULL)
        return argument_missing(error, call, kind == CHOICE_ELEMENT ? "indices" : "begin or end");
    if (rank < 1 || rank > SHAPE_MAX_RANK - 1)
        return error_set(error, XAI_ERROR_ARGUMENT, call, "rank %zu is not 1 to %d", rank,
                         SHAPE_MAX_RANK - 1);
    choice added = {.kind = kind, .rank = rank};
    memcpy(added.begin, begin, rank * sizeof *begin);
    memcpy(added.end, end, rank * sizeof *end);
    return add(self, &added, call, error);
}

xai_status xai_target_add_element(xai_target *self, const int64_t *indices, size_t rank,
                                  xai_error **error)
{
    return add_box(self, CHOICE_ELEMENT, indices, indices, rank, __func__, error);
}

xai_status xai_target_add_region(xai_target *self, const int64_t *begin, const int64_t *end,
                                 size_t rank, xai_error **error)
{
    return add_box(self, CHOICE_REGION, begin, end, rank, __func__, error);
}

size_t xai_target_count(const xai_target *self)
{
    return self != NULL ? self->count : 0;
}

void xai_target_free(xai_target *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i < self->count; i++)
        memory_free(self->choices[i].label);
    memory_free(self->choices);
    memory_free(self->output);
    memory_free(self);
}
