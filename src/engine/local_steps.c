/* The nodes that can be computed in boxes, as steps: what each is, how far edits reach through it, and
 * which of them are fused. */
#include <string.h>

#include "base/error.h"
#include "engine/local_private.h"
#include "engine/lower.h"

/* Reach through a window: out = [ceil((low + p - k + 1) / s), floor((high - 1 + p) / s) + 1), cut. */
static void reach_through(const window *w, const reach *in, reach *out)
{
    for (int axis = 0; axis < 2; axis++) {
        const int64_t extent = (w->kernel[axis] - 1) * w->dilation[axis] + 1;
        const int64_t first = in->low[axis] + w->pad_begin[axis] - extent + 1;
        int64_t low = first > 0 ? (first + w->stride[axis] - 1) / w->stride[axis] : 0;
        int64_t high = (in->high[axis] - 1 + w->pad_begin[axis]) / w->stride[axis] + 1;
        high = high > w->output[axis] ? w->output[axis] : high;
        low = low > high ? high : low;
        out->low[axis] = (int32_t)low;
        out->high[axis] = (int32_t)high;
    }
}

static void reach_join(reach *into, const reach *other)
{
    for (int axis = 0; axis < 2; axis++) {
        into->low[axis] = other->low[axis] < into->low[axis] ? other->low[axis] : into->low[axis];
        into->high[axis] =
            other->high[axis] > into->high[axis] ? other->high[axis] : into->high[axis];
    }
}

/* An image: (1, C, H, W) float32. */
bool local_is_image(const graph_value *value)
{
    return value->dtype == DTYPE_FLOAT && value->shape.rank == 4 && value->shape.dims[0] == 1 &&
           value->shape.dims[1] > 0 && value->shape.dims[2] > 0 && value->shape.dims[3] > 0;
}

static bool window_of(local *self, const graph_node *node, window *out, xai_error **error)
{
    node_call call;
    if (node_call_open(self->graph, node, &call, error) != XAI_OK)
        return false;
    const bool done = operator_window(&call.call, out) == XAI_OK;
    node_call_close(&call);
    return done && out->rank == 2;
}

/* Without padding every window lies within the map. */
static bool needs_no_padding(const window *w)
{
    for (int axis = 0; axis < 2; axis++) {
        const int64_t extent = (w->kernel[axis] - 1) * w->dilation[axis] + 1;
        if (w->pad_begin[axis] != 0 ||
            (w->output[axis] - 1) * w->stride[axis] + extent > w->input[axis])
            return false;
    }
    return true;
}

static bool is_constant_input(const local *self, const graph_node *node, int index)
{
    return index < node->input_count && node->inputs[index] != GRAPH_NONE &&
           self->graph->values[node->inputs[index]].is_constant;
}

/* Whether concatenated channels fall on whole blocks. */
static bool joins_blocks(const local *self, const graph_node *node)
{
    const onnx_attribute *axis = NULL;
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, "axis") == 0)
            axis = &node->attributes[i];
    if (axis == NULL || (axis->i != 1 && axis->i != -3))
        return false;
    for (int i = 0; i < node->input_count; i++) {
        const local_value *in = &self->values[node->inputs[i]];
        if (in->unit == 1 || (in->channels % in->unit != 0 && i + 1 < node->input_count))
            return false;
    }
    return true;
}

/* What kind of step a node is; false when it cannot be computed in boxes. */
static bool classify(local *self, const graph_node *node, local_step *out, xai_error **error)
{
    const graph_value *result = &self->graph->values[node->outputs[0]];
    if (node->output_count > 1 && node->outputs[1] != GRAPH_NONE)
        return false;
    if (!local_is_image(result))
        return false;
    const local_value *first =
        node->inputs[0] != GRAPH_NONE ? &self->values[node->inputs[0]] : NULL;
    if (node_is(node, "", "Conv")) {
        out->kind = LOCAL_CONVOLUTION;
        return first->used && is_constant_input(self, node, 1) &&
               (node->input_count < 3 || node->inputs[2] == GRAPH_NONE ||
                is_constant_input(self, node, 2)) &&
               window_of(self, node, &out->geometry, error);
    }
    if (first != NULL && first->used && first->unit == 1)
        return false; /* an image of few channels is read by convolutions only */
    if (node_is(node, "xai", "ScaleShift")) {
        out->kind = LOCAL_SCALE_SHIFT;
        return is_constant_input(self, node, 1) && is_constant_input(self, node, 2);
    }
    if (node_is(node, "", "Add") || node_is(node, "", "Concat")) {
        out->kind = node_is(node, "", "Add") ? LOCAL_ADD : LOCAL_CONCAT;
        for (int i = 0; i < node->input_count; i++) {
            const graph_value *in = &self->graph->values[node->inputs[i]];
            if (!self->values[node->inputs[i]].used ||
                (out->kind == LOCAL_ADD && !shape_equal(&in->shape, &result->shape)))
                return false;
        }
        return out->kind == LOCAL_ADD || joins_blocks(self, node);
    }
    if (node_is(node, "", "MaxPool")) {
        out->kind = LOCAL_MAX_POOL;
        return window_of(self, node, &out->geometry, error);
    }
    if (node_is(node, "", "AveragePool")) {
        out->kind = LOCAL_AVERAGE_POOL;
        return window_of(self, node, &out->geometry, error) && needs_no_padding(&out->geometry);
    }
    out->kind = LOCAL_ACTIVATION;
    return activation_of_node(self->graph, node, &out->f);
}

xai_status local_open_value(local *self, int id, xai_error **error)
{
    local_value *value = &self->values[id];
    const shape *dims = &self->graph->values[id].shape;
    value->id = id;
    value->channels = (size_t)dims->dims[1];
    value->unit = id == self->graph->inputs[self->input] && value->channels <= 4
                      ? 1
                      : (size_t)primitive_block();
    value->planes = (value->channels + value->unit - 1) / value->unit;
    value->size[0] = (size_t)dims->dims[2];
    value->size[1] = (size_t)dims->dims[3];
    value->reaches = memory_allocate(self->edits, sizeof *value->reaches);
    return value->reaches != NULL
               ? XAI_OK
               : error_memory(error, "reaches of edits", self->edits * sizeof *value->reaches);
}

static bool reads_used(const local *self, const graph_node *node)
{
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] != GRAPH_NONE && self->values[node->inputs[i]].used)
            return true;
    return false;
}

/* The values that a concatenation is made of. */
static xai_status list_pieces(local *self, const local_step *of, xai_error **error)
{
    local_value *out = &self->values[of->output];
    size_t count = 0, own;
    for (size_t i = 0; i < of->input_count; i++) {
        (void)local_pieces(&self->values[of->inputs[i]], &of->inputs[i], &own);
        count += own;
    }
    out->pieces = memory_allocate(count, sizeof *out->pieces);
    if (out->pieces == NULL)
        return error_memory(error, "a concatenation", count * sizeof *out->pieces);
    for (size_t i = 0; i < of->input_count; i++) {
        const size_t *from = local_pieces(&self->values[of->inputs[i]], &of->inputs[i], &own);
        memcpy(out->pieces + out->piece_count, from, own * sizeof *from);
        for (size_t p = 0; p < own; p++)
            self->values[from[p]].is_piece = true;
        out->piece_count += own;
    }
    return XAI_OK;
}

static void find_reaches(local *self, const local_step *of)
{
    local_value *out = &self->values[of->output];
    for (size_t e = 0; e < self->edits; e++) {
        out->reaches[e] = self->values[of->inputs[0]].reaches[e];
        for (size_t i = 1; i < of->input_count; i++)
            reach_join(&out->reaches[e], &self->values[of->inputs[i]].reaches[e]);
        if (of->geometry.rank == 2) {
            const reach in = out->reaches[e];
            reach_through(&of->geometry, &in, &out->reaches[e]);
        }
    }
}

xai_status local_add_node(local *self, int index, xai_error **error)
{
    const graph_node *node = &self->graph->nodes[index];
    local_step *made = &self->steps[self->step_count];
    *made = (local_step){.node = index, .other = LOCAL_NONE};
    if (node->removed || !reads_used(self, node))
        return XAI_OK;
    xai_error *why = NULL;
    if (!classify(self, node, made, &why)) {
        const bool failed = why != NULL && xai_error_status(why) == XAI_ERROR_MEMORY;
        xai_error_free(why);
        return failed ? error_memory(error, "a step", sizeof *made) : XAI_OK;
    }
    const bool several = made->kind == LOCAL_ADD || made->kind == LOCAL_CONCAT;
    made->input_count = several ? (size_t)node->input_count : 1;
    made->inputs = memory_allocate(made->input_count, sizeof *made->inputs);
    if (made->inputs == NULL)
        return error_memory(error, "a step", made->input_count * sizeof *made->inputs);
    self->step_count++;
    made->output = (size_t)node->outputs[0];
    for (size_t i = 0; i < made->input_count; i++)
        made->inputs[i] = (size_t)node->inputs[i];
    xai_status status = local_open_value(self, node->outputs[0], error);
    if (status == XAI_OK)
        find_reaches(self, made);
    if (status == XAI_OK && made->kind == LOCAL_CONCAT)
        status = list_pieces(self, made, error);
    self->values[made->output].used = status == XAI_OK;
    return status;
}

void local_free_step(local_step *self)
{
    memory_free(self->inputs);
    memory_free(self->scale);
    memory_free(self->shift);
    primitive_free(self->whole);
    for (size_t c = 0; self->patches != NULL && c < self->class_count; c++)
        primitive_free(self->patches[c]);
    memory_free((void *)self->weights);
    memory_free(self->single);
    memory_free((void *)self->patches);
    *self = (local_step){.other = LOCAL_NONE};
}

/* Fusing */

static size_t producer_of(const local *self, size_t value)
{
    for (size_t s = 0; s < self->step_count; s++)
        if (self->steps[s].output == value)
            return s;
    return LOCAL_NONE;
}

/* A value that one step reads, once, and nothing else. */
static bool has_one_reader(const local *self, size_t value)
{
    size_t readers = 0;
    for (size_t n = 0; n < self->graph->node_count; n++)
        for (int i = 0; !self->graph->nodes[n].removed && i < self->graph->nodes[n].input_count;
             i++)
            readers += self->graph->nodes[n].inputs[i] == (int)value;
    for (size_t o = 0; o < self->graph->output_count; o++)
        readers += self->graph->outputs[o] == (int)value;
    return readers == 1;
}

/* Step `s` writes what step `t` behind it wrote. */
static void take_over(local *self, size_t s, size_t t)
{
    self->values[self->steps[s].output].used = false;
    self->steps[s].output = self->steps[t].output;
    local_free_step(&self->steps[t]);
    self->step_count--;
    memmove(self->steps + t, self->steps + t + 1, (self->step_count - t) * sizeof *self->steps);
}

static bool can_take(const local *self, size_t s)
{
    return s != LOCAL_NONE && self->steps[s].other == LOCAL_NONE &&
           self->steps[s].f.kind == ACTIVATION_NONE && has_one_reader(self, self->steps[s].output);
}

/* The later of the two convolutions that an Add may have as inputs adds the other one itself. */
static bool fuse_add(local *self, size_t t)
{
    const local_step *add = &self->steps[t];
    const size_t a = producer_of(self, add->inputs[0]), b = producer_of(self, add->inputs[1]);
    if (add->inputs[0] == add->inputs[1] || a == LOCAL_NONE || b == LOCAL_NONE)
        return false;
    const size_t s = a > b ? a : b;
    if (self->steps[s].kind != LOCAL_CONVOLUTION || !can_take(self, s))
        return false;
    const size_t other = add->inputs[a > b ? 1 : 0];
    take_over(self, s, t);
    self->steps[s].other = other;
    return true;
}

/* Activations that oneDNN computes within a convolution, and whose zero stays zero in the lanes that
 * pad the last block. */
static bool fuses(const local *self, const local_step *s, const activation *f)
{
    const local_value *out = &self->values[s->output];
    const bool simple = f->kind == ACTIVATION_RELU || f->kind == ACTIVATION_CLIP ||
                        f->kind == ACTIVATION_LEAKY_RELU || f->kind == ACTIVATION_SILU ||
                        f->kind == ACTIVATION_HARD_SWISH;
    if (s->kind == LOCAL_SCALE_SHIFT || s->kind == LOCAL_ADD)
        return s->kind == LOCAL_SCALE_SHIFT || activation_keeps_zero(f);
    return s->kind == LOCAL_CONVOLUTION && simple &&
           (out->channels % out->unit == 0 || activation_keeps_zero(f));
}

static bool fuse_activation(local *self, size_t t)
{
    const size_t s = producer_of(self, self->steps[t].inputs[0]);
    const activation f = self->steps[t].f;
    if (s == LOCAL_NONE || self->steps[s].f.kind != ACTIVATION_NONE ||
        !has_one_reader(self, self->steps[s].output) || !fuses(self, &self->steps[s], &f))
        return false;
    take_over(self, s, t);
    self->steps[s].f = f;
    return true;
}

void local_fuse(local *self)
{
    for (size_t t = 0; t < self->step_count;)
        t += !(self->steps[t].kind == LOCAL_ADD && fuse_add(self, t));
    for (size_t t = 0; t < self->step_count;)
        t += !(self->steps[t].kind == LOCAL_ACTIVATION && fuse_activation(self, t));
}
