/* What every lowering is made of: buffers, steps with their lifetimes, conversions between
 * layouts, constants. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/plan.h"
#include "engine/steps.h"

operand builder_buffer(builder *b, size_t bytes)
{
    plan *p = b->program;
    if (!array_reserve((void **)&p->buffers, &p->buffer_capacity, p->buffer_count + 1,
                       sizeof *p->buffers)) {
        error_memory(b->error, "memory plan", sizeof *p->buffers);
        return OPERAND_NONE;
    }
    p->buffers[p->buffer_count] =
        (buffer){.bytes = bytes ? bytes : 1, .first = SIZE_MAX, .value = GRAPH_NONE};
    return (operand){(int)p->buffer_count++, 0, NULL};
}

xai_status builder_step(builder *b, step_function execute, int node, const char *implementation,
                        step **out)
{
    plan *p = b->program;
    if (!array_reserve((void **)&p->steps, &p->step_capacity, p->step_count + 1, sizeof *p->steps))
        return error_memory(b->error, "plan", sizeof *p->steps);
    step *self = &p->steps[p->step_count++];
    memset(self, 0, sizeof *self);
    self->execute = execute;
    self->node = node;
    self->implementation = implementation;
    for (int i = 0; i < STEP_OPERANDS; i++)
        self->operands[i] = OPERAND_NONE;
    *out = self;
    return XAI_OK;
}

static void touch(builder *b, const step *self, operand place)
{
    if (place.buffer == BUFFER_NONE)
        return;
    buffer *each = &b->program->buffers[place.buffer];
    const size_t now = (size_t)(self - b->program->steps);
    if (now < each->first)
        each->first = now;
    if (!each->used || now > each->last)
        each->last = now;
    each->used = true;
}

void builder_read(builder *b, step *self, int index, operand place)
{
    self->operands[index] = place;
    touch(b, self, place);
}

void builder_write(builder *b, step *self, int index, operand place, size_t bytes)
{
    builder_read(b, self, index, place);
    self->bytes += bytes;
}

static operand own_buffer(builder *b, int value, layout form)
{
    const operand place = builder_buffer(b, layout_bytes(b, value, form));
    if (place.buffer != BUFFER_NONE)
        b->program->buffers[place.buffer].value = value;
    return place;
}

static bool is_nowhere(operand place)
{
    return place.buffer == BUFFER_NONE && !place.constant;
}

xai_status builder_convert(builder *b, int value, operand from, layout from_form, operand to,
                           layout to_form)
{
    const graph_value *v = &b->graph->values[value];
    step *s = NULL;
    if (from_form == to_form) {
        xai_status status = builder_step(b, step_copy, GRAPH_NONE, "copy", &s);
        if (status != XAI_OK)
            return status;
        s->count = layout_bytes(b, value, from_form);
    } else {
        xai_status status = builder_step(b, to_form == LAYOUT_BLOCKED ? step_block : step_unblock,
                                         GRAPH_NONE, "reorder", &s);
        if (status != XAI_OK)
            return status;
        s->channels = layout_channels(v);
        s->spatial = layout_spatial(v);
    }
    builder_read(b, s, 0, from);
    builder_write(b, s, 1, to, layout_bytes(b, value, to_form));
    return XAI_OK;
}

xai_status builder_zero(builder *b, operand place, size_t bytes)
{
    step *s = NULL;
    const xai_status status = builder_step(b, step_zero, GRAPH_NONE, "zero", &s);
    if (status != XAI_OK)
        return status;
    s->count = bytes;
    builder_write(b, s, 0, place, bytes);
    return XAI_OK;
}

xai_status builder_cast(builder *b, operand from, int32_t from_type, operand to, int32_t to_type,
                        size_t count)
{
    step *s = NULL;
    xai_status status = builder_step(b, step_cast, GRAPH_NONE, "cast", &s);
    if (status != XAI_OK)
        return status;
    s->count = count;
    s->channels = (size_t)from_type;
    s->channels_to = (size_t)to_type;
    builder_read(b, s, 0, from);
    builder_write(b, s, 1, to, count * dtype_size(to_type));
    return XAI_OK;
}

xai_status builder_accumulate(builder *b, int value, operand from, operand to)
{
    const graph_value *v = &b->graph->values[value];
    step *s = NULL;
    const bool f32 = v->dtype == DTYPE_FLOAT;
    xai_status status =
        builder_step(b, f32 ? step_accumulate : step_accumulate_any, GRAPH_NONE, "accumulate", &s);
    if (status != XAI_OK)
        return status;
    const size_t bytes = layout_bytes(b, value, b->values[value].primary);
    s->count = bytes / dtype_size(v->dtype);
    s->channels = (size_t)v->dtype; /* step_accumulate_any: element type */
    builder_read(b, s, 0, from);
    builder_write(b, s, 1, to, bytes);
    return XAI_OK;
}

static xai_status copy_aligned(const void *user, const tensor *source, void *prepared,
                               xai_error **error)
{
    const size_t padded = *(const size_t *)user, count = tensor_count(source);
    (void)error;
    tensor_read_floats(source, 0, count, prepared);
    memset((float *)prepared + count, 0, (padded - count) * sizeof(float));
    return XAI_OK;
}

xai_status builder_constant(builder *b, const tensor *constant, size_t padded, operand *out)
{
    *out = OPERAND_NONE;
    if (constant->owned && constant->dtype == DTYPE_FLOAT && padded == tensor_count(constant)) {
        out->constant = constant->data;
        return XAI_OK;
    }
    char key[48] = "aligned ";
    size_t n = strlen(key);
    for (size_t rest = padded; rest; rest /= 10)
        key[n++] = (char)('0' + rest % 10);
    key[n++] = (char)('A' + constant->dtype);
    return network_weights(b->program->net, constant, key, (padded ? padded : 1) * sizeof(float),
                           copy_aligned, &padded, &out->constant, b->error);
}

static bool all_finite(const float *values, size_t count)
{
    uint32_t found = 0; /* no early end: the loop vectorises */
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        found |= (bits & 0x7F800000u) == 0x7F800000u;
    }
    return found == 0;
}

/* Fused ReLUs give 0 for NaN: a damaged model would have harmless looking scores. */
static xai_status check_finite(const graph *source, const tensor *constant, xai_error **error)
{
    float values[256];
    const size_t count = tensor_count(constant);
    bool finite = true;
    if (constant->dtype == DTYPE_FLOAT)
        finite = all_finite(constant->data, count);
    for (size_t i = 0; constant->dtype != DTYPE_FLOAT && finite && i < count; i += 256) {
        const size_t n = count - i < 256 ? count - i : 256;
        tensor_read_floats(constant, i, n, values);
        finite = all_finite(values, n);
    }
    if (finite)
        return XAI_OK;
    for (size_t v = 0; v < source->value_count; v++)
        if (&source->values[v].constant == constant)
            return error_set(error, XAI_ERROR_NUMERIC, source->values[v].name,
                             "the weights hold a NaN or an infinity (or become one when "
                             "normalisations are folded into them)");
    return error_set(error, XAI_ERROR_NUMERIC, NULL, "weights hold a NaN or an infinity");
}

xai_status builder_check_finite(builder *b, const tensor *constant)
{
    return check_finite(b->graph, constant, b->error);
}

xai_status builder_parameter(builder *b, const tensor *constant, size_t padded, operand *out)
{
    const xai_status status = builder_check_finite(b, constant);
    return status == XAI_OK ? builder_constant(b, constant, padded, out) : status;
}

typedef struct weights_source {
    const primitive *program;
    const graph *graph;
} weights_source;

static bool is_forward_convolution(const primitive_spec *spec)
{
    return spec->kind == PRIMITIVE_CONVOLUTION || spec->kind == PRIMITIVE_DECONVOLUTION;
}

/* Behind the prepared weights, with the rest of its cache line. */
static double *norm_of(const primitive *program, void *prepared)
{
    const size_t bytes = (primitive_weights_bytes(program) + 63) / 64 * 64;
    return (double *)(void *)((char *)prepared + bytes);
}

static xai_status prepare_primitive(const void *user, const tensor *source, void *prepared,
                                    xai_error **error)
{
    const weights_source *from = user;
    const primitive_spec *spec = primitive_specification(from->program);
    xai_status status = check_finite(from->graph, source, error);
    if (status == XAI_OK)
        status = primitive_prepare_weights(from->program, source->data, prepared, error);
    if (status == XAI_OK && is_forward_convolution(spec))
        *norm_of(from->program, prepared) = guard_norm(spec, source);
    return status;
}

xai_status network_prepared(network *self, const graph *of, const primitive *program,
                            const tensor *weights, const void **out, double *norm,
                            xai_error **error)
{
    const weights_source from = {program, of};
    const primitive_spec *spec = primitive_specification(program);
    const size_t bytes = (primitive_weights_bytes(program) + 63) / 64 * 64 + 64;
    text key = {0};
    /* The same bytes may serve a convolution's gradient, but with another norm or none. */
    text_append(&key, spec->kind == PRIMITIVE_CONVOLUTION     ? "forward;"
                      : spec->kind == PRIMITIVE_DECONVOLUTION ? "transposed;"
                                                              : "");
    text_append(&key, primitive_weights_key(program));
    char *name = text_take(&key);
    if (!name)
        return error_memory(error, "plan", 256);
    const xai_status status =
        network_weights(self, weights, name, bytes, prepare_primitive, &from, out, error);
    memory_free(name);
    if (norm)
        *norm = status == XAI_OK && is_forward_convolution(spec)
                    ? *norm_of(program, (void *)(uintptr_t)*out)
                    : 0;
    return status;
}

xai_status builder_weights(builder *b, const primitive *program, const tensor *weights,
                           operand *out, double *norm)
{
    *out = OPERAND_NONE;
    return network_prepared(b->program->net, b->graph, program, weights, &out->constant, norm,
                            b->error);
}

xai_status builder_primitive(builder *b, const primitive_spec *spec, const primitive **out)
{
    plan *p = b->program;
    primitive *made = NULL;
    if (!array_reserve((void **)&p->primitives, &p->primitive_capacity, p->primitive_count + 1,
                       sizeof *p->primitives))
        return error_memory(b->error, "plan", sizeof *p->primitives);
    xai_status status = primitive_create(spec, &made, b->error);
    if (status != XAI_OK)
        return status;
    p->primitives[p->primitive_count++] = made;
    if (primitive_scratchpad_bytes(made) > p->scratchpad_bytes)
        p->scratchpad_bytes = primitive_scratchpad_bytes(made);
    *out = made;
    return XAI_OK;
}

/* One position: the blocked buffer starts with the plain one. */
static bool blocked_is_plain(const builder *b, int value)
{
    const graph_value *v = &b->graph->values[value];
    return layout_can_block(v) && layout_spatial(v) == 1;
}

xai_status builder_input(builder *b, int value, layout form, operand *out)
{
    value_state *state = &b->values[value];
    const graph_value *v = &b->graph->values[value];
    if (v->is_constant && !state->slots[form].exists) {
        operand plain = OPERAND_NONE;
        if (form == LAYOUT_BLOCKED) {
            xai_status status =
                builder_constant(b, &v->constant, tensor_count(&v->constant), &plain);
            if (status != XAI_OK)
                return status;
            operand place = own_buffer(b, value, form);
            if (is_nowhere(place))
                return XAI_ERROR_MEMORY;
            /* No slot is kept: the buffer may be reused between this use and the next. */
            status = builder_convert(b, value, plain, LAYOUT_PLAIN, place, LAYOUT_BLOCKED);
            *out = place;
            return status;
        }
        /* A view into the file may lie at any byte. */
        if (v->constant.dtype == DTYPE_FLOAT && (uintptr_t)v->constant.data % sizeof(float) != 0)
            return builder_constant(b, &v->constant, tensor_count(&v->constant), out);
        *out = (operand){BUFFER_NONE, 0, v->constant.data};
        return XAI_OK;
    }
    if (!state->slots[form].exists) {
        const layout other = form == LAYOUT_PLAIN ? LAYOUT_BLOCKED : LAYOUT_PLAIN;
        if (!state->slots[other].exists)
            return error_set(b->error, XAI_ERROR_INTERNAL, v->name,
                             "the plan reads a value before it is made");
        if (form == LAYOUT_PLAIN && blocked_is_plain(b, value)) {
            state->slots[form] = state->slots[other];
        } else {
            operand place = own_buffer(b, value, form);
            if (is_nowhere(place))
                return XAI_ERROR_MEMORY;
            xai_status status =
                builder_convert(b, value, state->slots[other].place, other, place, form);
            if (status != XAI_OK)
                return status;
            state->slots[form] = (slot){true, place};
        }
    }
    *out = state->slots[form].place;
    return XAI_OK;
}

static xai_status primary_place(builder *b, int value, operand *out)
{
    value_state *state = &b->values[value];
    if (state->home == GRAPH_NONE || state->home == value) {
        *out = own_buffer(b, value, state->primary);
    } else {
        /* A slice of the concatenation's buffer, which is made when the first piece is written. */
        value_state *home = &b->values[state->home];
        if (!home->slots[LAYOUT_BLOCKED].exists) {
            const operand place = own_buffer(b, state->home, LAYOUT_BLOCKED);
            if (is_nowhere(place))
                return XAI_ERROR_MEMORY;
            home->slots[LAYOUT_BLOCKED] = (slot){true, place};
        }
        *out = home->slots[LAYOUT_BLOCKED].place;
        out->offset += state->home_block * layout_spatial(&b->graph->values[value]) *
                       (size_t)b->program->block * sizeof(float);
    }
    return is_nowhere(*out) ? XAI_ERROR_MEMORY : XAI_OK;
}

xai_status builder_output(builder *b, int value, layout form, operand *out)
{
    value_state *state = &b->values[value];
    xai_status status = XAI_OK;
    if (state->slots[form].exists) { /* a concatenation's buffer, made for its first piece */
        *out = state->slots[form].place;
        return XAI_OK;
    }
    if (form == state->primary)
        status = primary_place(b, value, out);
    else
        *out = own_buffer(b, value, form);
    if (status == XAI_OK && is_nowhere(*out))
        status = XAI_ERROR_MEMORY;
    if (status == XAI_OK)
        state->slots[form] = (slot){true, *out};
    return status;
}

xai_status builder_finish(builder *b, int value, layout form)
{
    value_state *state = &b->values[value];
    operand place;
    if (form == state->primary)
        return XAI_OK;
    xai_status status = builder_output(b, value, state->primary, &place);
    if (status != XAI_OK)
        return status;
    return builder_convert(b, value, state->slots[form].place, form, place, state->primary);
}

int builder_only_consumer(const builder *b, int value)
{
    int found[2];
    if (b->values[value].wanted || graph_consumers(b->graph, value, found, 2) != 1)
        return GRAPH_NONE;
    return found[0];
}

int fusable_activation(const builder *b, int value, activation *out)
{
    const int next = builder_only_consumer(b, value);
    if (next == GRAPH_NONE || b->node_done[next])
        return GRAPH_NONE;
    const graph_node *node = &b->graph->nodes[next];
    activation found;
    if (node->inputs[0] != value || !activation_of_node(b->graph, node, &found))
        return GRAPH_NONE;
    /* Backward would need the value in between, which fusing does not keep. */
    if (b->any_gradient && b->values[node->outputs[0]].needs_gradient &&
        !activation_backward_uses_output(&found))
        return GRAPH_NONE;
    *out = found;
    return next;
}

xai_status builder_unit(builder *b, const unit *self)
{
    if (!array_reserve((void **)&b->units, &b->unit_capacity, b->unit_count + 1, sizeof *b->units))
        return error_memory(b->error, "plan", sizeof *b->units);
    b->units[b->unit_count++] = *self;
    return XAI_OK;
}
