/* Where gradients live while a backward program is built.
 *
 * A value's gradient is complete when every unit that reads the value has been walked. Pieces of
 * an in-place concatenation share one gradient buffer with it (a root of channel blocks), so the
 * concatenation's backward step costs nothing; the first contribution to a block overwrites,
 * later ones add. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/plan.h"
#include "engine/steps.h"

static size_t granules_of(const builder *b, int value)
{
    const gradient_root *root = &b->roots[b->values[value].root];
    if (root->granule_count == 1)
        return 1;
    return layout_bytes(b, value, LAYOUT_BLOCKED) / root->granule_bytes;
}

static bool shares_gradient(const builder *b, int value)
{
    const value_state *state = &b->values[value];
    return state->home != GRAPH_NONE && !state->own_gradient;
}

static xai_status new_root(builder *b, int value, size_t granule_bytes, size_t granule_count,
                           int *out)
{
    if (!array_reserve((void **)&b->roots, &b->root_capacity, b->root_count + 1, sizeof *b->roots))
        return error_memory(b->error, "gradient plan", sizeof *b->roots);
    uint8_t *written = memory_pool_allocate(b->program->pool, granule_count, 1);
    if (!written)
        return error_memory(b->error, "gradient plan", granule_count);
    const operand place = builder_buffer(b, granule_bytes * granule_count);
    if (place.buffer == BUFFER_NONE)
        return XAI_ERROR_MEMORY;
    b->roots[b->root_count] = (gradient_root){place.buffer, granule_bytes, granule_count, written};
    b->program->buffers[place.buffer].value = value;
    *out = (int)b->root_count++;
    return XAI_OK;
}

/* Give a value its root in this program. The root of a shared buffer hangs on the home value's
 * `root`, unless the home itself keeps its own gradient: then on the first piece's, found
 * through b->roots by buffer size: see home_root. */
static xai_status ensure_root(builder *b, int value)
{
    value_state *state = &b->values[value];
    if (state->root >= 0)
        return XAI_OK;
    if (!shares_gradient(b, value))
        return new_root(b, value, layout_bytes(b, value, state->primary), 1, &state->root);
    /* All sharers of a home take the same root at once. */
    const graph_value *home = &b->graph->values[state->home];
    const size_t granule = layout_spatial(home) * (size_t)b->program->block * sizeof(float);
    int root = -1;
    xai_status status = new_root(b, state->home, granule,
                                 layout_bytes(b, state->home, LAYOUT_BLOCKED) / granule, &root);
    if (status != XAI_OK)
        return status;
    for (size_t v = 0; v < b->graph->value_count; v++)
        if (b->values[v].home == state->home && shares_gradient(b, (int)v)) {
            b->values[v].root = root;
            b->values[v].root_granule = b->values[v].home_block;
        }
    return XAI_OK;
}

bool gradient_exists(const builder *b, int value)
{
    const value_state *state = &b->values[value];
    if (state->root < 0)
        return false;
    const gradient_root *root = &b->roots[state->root];
    for (size_t i = 0; i < granules_of(b, value); i++)
        if (root->written[state->root_granule + i])
            return true;
    return false;
}

static operand place_of(const builder *b, int value)
{
    const value_state *state = &b->values[value];
    const gradient_root *root = &b->roots[state->root];
    return (operand){root->buffer, state->root_granule * root->granule_bytes, NULL};
}

/* Zero the granules of a value that no contribution has reached, so that the rest may be added
 * to or read. */
static xai_status fill_unwritten(builder *b, int value)
{
    const value_state *state = &b->values[value];
    gradient_root *root = &b->roots[state->root];
    for (size_t i = 0; i < granules_of(b, value); i++) {
        if (root->written[state->root_granule + i])
            continue;
        step *s = NULL;
        xai_status status = builder_step(b, step_zero, GRAPH_NONE, "zero", &s);
        if (status != XAI_OK)
            return status;
        s->count = root->granule_bytes;
        builder_write(
            b, s, 0, (operand){root->buffer, (state->root_granule + i) * root->granule_bytes, NULL},
            root->granule_bytes);
        root->written[state->root_granule + i] = 1;
    }
    return XAI_OK;
}

xai_status gradient_read(builder *b, int value, operand *out)
{
    xai_status status = ensure_root(b, value);
    if (status == XAI_OK)
        status = fill_unwritten(b, value);
    if (status == XAI_OK)
        *out = place_of(b, value);
    return status;
}

xai_status gradient_write(builder *b, int value, operand *out, bool *accumulate)
{
    xai_status status = ensure_root(b, value);
    if (status != XAI_OK)
        return status;
    *accumulate = gradient_exists(b, value);
    if (*accumulate) {
        status = fill_unwritten(b, value);
    } else {
        const value_state *state = &b->values[value];
        memset(b->roots[state->root].written + state->root_granule, 1, granules_of(b, value));
    }
    *out = place_of(b, value);
    return status;
}

xai_status gradient_give(builder *b, int value, operand place, bool may_keep)
{
    value_state *state = &b->values[value];
    operand target;
    bool accumulate;
    if (may_keep && !shares_gradient(b, value) && state->root < 0 && place.offset == 0 &&
        place.buffer != BUFFER_NONE &&
        b->program->buffers[place.buffer].bytes >= layout_bytes(b, value, state->primary)) {
        if (!array_reserve((void **)&b->roots, &b->root_capacity, b->root_count + 1,
                           sizeof *b->roots))
            return error_memory(b->error, "gradient plan", sizeof *b->roots);
        uint8_t *written = memory_pool_allocate(b->program->pool, 1, 1);
        if (!written)
            return error_memory(b->error, "gradient plan", 1);
        *written = 1;
        b->roots[b->root_count] =
            (gradient_root){place.buffer, layout_bytes(b, value, state->primary), 1, written};
        state->root = (int)b->root_count++;
        state->root_granule = 0;
        return XAI_OK;
    }
    xai_status status = gradient_write(b, value, &target, &accumulate);
    if (status != XAI_OK)
        return status;
    return accumulate ? builder_accumulate(b, value, place, target)
                      : builder_convert(b, value, place, state->primary, target, state->primary);
}

xai_status gradient_add(builder *b, int value, operand place, layout form, bool may_keep)
{
    const layout primary = b->values[value].primary;
    if (form == primary)
        return gradient_give(b, value, place, may_keep);
    operand target = OPERAND_NONE;
    bool accumulate;
    xai_status status = XAI_OK;
    if (!gradient_exists(b, value)) {
        status = gradient_write(b, value, &target, &accumulate);
        return status == XAI_OK ? builder_convert(b, value, place, form, target, primary) : status;
    }
    operand converted = builder_buffer(b, layout_bytes(b, value, primary));
    if (converted.buffer == BUFFER_NONE)
        return XAI_ERROR_MEMORY;
    status = builder_convert(b, value, place, form, converted, primary);
    return status == XAI_OK ? gradient_give(b, value, converted, true) : status;
}

xai_status gradient_through(builder *b, const unit *self, operand *out, bool *may_keep)
{
    const value_state *state = &b->values[self->output];
    const graph_value *value = &b->graph->values[self->output];
    operand gradient, result, output;
    xai_status status = gradient_read(b, self->output, &gradient);
    if (status != XAI_OK)
        return status;
    *may_keep = !state->wants_gradient && !shares_gradient(b, self->output);
    *out = gradient;
    activation post = self->post;
    status = rule_guide(b, self, &gradient, &post);
    *out = gradient;
    if (status != XAI_OK || post.kind == ACTIVATION_NONE)
        return status;
    result = state->wants_gradient
                 ? builder_buffer(b, layout_bytes(b, self->output, state->primary))
                 : gradient;
    if (result.buffer == BUFFER_NONE)
        return XAI_ERROR_MEMORY;
    status = builder_input(b, self->output, state->primary, &output);
    step *s = NULL;
    if (status == XAI_OK)
        status = builder_step(b, step_activate_backward, self->node, "activation", &s);
    if (status != XAI_OK)
        return status;
    s->post = post;
    s->count = layout_bytes(b, self->output, state->primary) / sizeof(float);
    builder_read(b, s, 0, output);
    builder_read(b, s, 1, gradient);
    builder_write(b, s, 2, result, s->count * sizeof(float));
    *out = result;
    *may_keep = result.buffer != gradient.buffer || *may_keep;
    (void)value;
    return XAI_OK;
}
