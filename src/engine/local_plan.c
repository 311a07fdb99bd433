/* Planning local edits: how far each box reaches, which nodes are computed in boxes, and where the
 * dense computation goes on. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/parallel.h"
#include "base/text.h"
#include "engine/local_private.h"
#include "engine/lower.h"

/* Concatenations copy all their channels again and again: from this part of a map on the dense
 * computation, where they are free, is faster. Other layers are as fast in boxes, several edits at a
 * time, as they are densely. */
#define LOCAL_CONCAT_MOST 0.6

void local_free(local *self)
{
    if (self == NULL)
        return;
    for (size_t v = 0; self->values != NULL && v < self->graph->value_count; v++) {
        memory_free(self->values[v].reaches);
        memory_free(self->values[v].base);
    }
    for (size_t s = 0; s < self->step_count; s++) {
        memory_free(self->steps[s].inputs);
        memory_free(self->steps[s].scale);
        memory_free(self->steps[s].shift);
        primitive_free(self->steps[s].whole);
        primitive_free(self->steps[s].patches);
    }
    memory_free(self->values);
    memory_free(self->steps);
    memory_free(self->frontier);
    memory_free(self->frontier_shapes);
    graph_free(self->graph);
    network_free(self->net);
    memory_free(self);
}

size_t local_box_count(const local_value *self)
{
    return self->planes * self->unit * self->box[0] * self->box[1];
}

void local_place(const local_value *self, size_t edit, int64_t at[2])
{
    for (int axis = 0; axis < 2; axis++) {
        const int64_t most = (int64_t)self->size[axis] - (int64_t)self->box[axis];
        at[axis] = self->reaches[edit].low[axis];
        at[axis] = at[axis] > most ? most : at[axis];
    }
}

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
static bool is_image(const graph_value *value)
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
    if (!is_image(result))
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

static xai_status open_value(local *self, int id, xai_error **error)
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

/* The largest reach is computed for every edit. False when it is too large a part of the map. */
static bool size_box(local_value *value, size_t edits, double most)
{
    value->box[0] = value->box[1] = 1;
    for (size_t e = 0; e < edits; e++)
        for (int axis = 0; axis < 2; axis++) {
            const size_t length =
                (size_t)(value->reaches[e].high[axis] - value->reaches[e].low[axis]);
            value->box[axis] = length > value->box[axis] ? length : value->box[axis];
        }
    return (double)(value->box[0] * value->box[1]) <=
           most * (double)(value->size[0] * value->size[1]);
}

static bool reads_used(const local *self, const graph_node *node)
{
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] != GRAPH_NONE && self->values[node->inputs[i]].used)
            return true;
    return false;
}

/* One node: a step when it can be one. */
static xai_status add_node(local *self, int index, xai_error **error)
{
    const graph_node *node = &self->graph->nodes[index];
    local_step *made = &self->steps[self->step_count];
    *made = (local_step){.node = index};
    if (node->removed || !reads_used(self, node))
        return XAI_OK;
    if (!classify(self, node, made, error)) {
        error_clear(error);
        return XAI_OK;
    }
    const bool several = made->kind == LOCAL_ADD || made->kind == LOCAL_CONCAT;
    made->input_count = several ? (size_t)node->input_count : 1;
    made->inputs = memory_allocate(made->input_count, sizeof *made->inputs);
    if (made->inputs == NULL)
        return error_memory(error, "a step", made->input_count * sizeof *made->inputs);
    self->step_count++;
    made->output = (size_t)node->outputs[0];
    xai_status status = open_value(self, node->outputs[0], error);
    local_value *out = &self->values[made->output];
    for (size_t i = 0; i < made->input_count; i++)
        made->inputs[i] = (size_t)node->inputs[i];
    for (size_t e = 0; status == XAI_OK && e < self->edits; e++) {
        out->reaches[e] = self->values[made->inputs[0]].reaches[e];
        for (size_t i = 1; i < made->input_count; i++)
            reach_join(&out->reaches[e], &self->values[made->inputs[i]].reaches[e]);
        if (made->geometry.rank == 2) {
            const reach in = out->reaches[e];
            reach_through(&made->geometry, &in, &out->reaches[e]);
        }
    }
    out->used = status == XAI_OK &&
                size_box(out, self->edits, made->kind == LOCAL_CONCAT ? LOCAL_CONCAT_MOST : 1);
    if (status == XAI_OK && !out->used) { /* from here on densely */
        self->step_count--;
        memory_free(made->inputs);
        made->inputs = NULL;
        memory_free(out->reaches);
        out->reaches = NULL;
    }
    return status;
}

static bool is_output(const graph *g, int id)
{
    for (size_t o = 0; o < g->output_count; o++)
        if (g->outputs[o] == id)
            return true;
    return false;
}

static bool is_step_of(const local *self, int node)
{
    for (size_t s = 0; s < self->step_count; s++)
        if (self->steps[s].node == node)
            return true;
    return false;
}

/* Whether something behind the frontier reads a value. */
static bool is_read_densely(const local *self, int id)
{
    for (size_t n = 0; n < self->graph->node_count; n++) {
        const graph_node *node = &self->graph->nodes[n];
        for (int i = 0; !node->removed && i < node->input_count; i++)
            if (node->inputs[i] == id && !is_step_of(self, (int)n))
                return true;
    }
    return false;
}

static void drop_step(local *self, size_t s)
{
    local_value *out = &self->values[self->steps[s].output];
    memory_free(self->steps[s].inputs);
    memory_free(out->reaches);
    out->reaches = NULL;
    out->used = false;
    self->step_count--;
    memmove(self->steps + s, self->steps + s + 1, (self->step_count - s) * sizeof *self->steps);
}

/* A frontier value must be one of the model's own, no output, and no input. Values that the
 * rewrites made are given back to the dense side, with all that hangs on them. */
static xai_status find_frontier(local *self, xai_error **error)
{
    const size_t own = network_graph(self->net)->value_count;
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t s = self->step_count; s-- > 0 && !changed;) {
            const int id = (int)self->steps[s].output;
            if (((size_t)id >= own && is_read_densely(self, id)) || is_output(self->graph, id)) {
                /* steps that read it go first: they are read from it */
                for (size_t t = self->step_count; t-- > s + 1;)
                    for (size_t i = 0; i < self->steps[t].input_count; i++)
                        if (self->steps[t].inputs[i] == (size_t)id) {
                            drop_step(self, t);
                            break;
                        }
                drop_step(self, s);
                changed = true;
            }
        }
        for (size_t s = self->step_count; s-- > 0;) { /* inputs that are gone */
            bool whole = true;
            for (size_t i = 0; i < self->steps[s].input_count; i++)
                whole = whole && self->values[self->steps[s].inputs[i]].used;
            if (!whole) {
                drop_step(self, s);
                changed = true;
            }
        }
    }
    const int image = self->graph->inputs[self->input];
    if (self->step_count == 0 || is_read_densely(self, image))
        return error_set(error, XAI_ERROR_UNSUPPORTED, NULL,
                         "the network does not begin with layers that see a part of the image");
    self->frontier = memory_allocate(self->step_count, sizeof *self->frontier);
    self->frontier_shapes = memory_allocate(self->step_count, sizeof *self->frontier_shapes);
    if (self->frontier == NULL || self->frontier_shapes == NULL)
        return error_memory(error, "a frontier", self->step_count * sizeof *self->frontier_shapes);
    for (size_t v = 0; v < self->graph->value_count; v++)
        self->values[v].last = 0;
    for (size_t s = 0; s < self->step_count; s++) {
        for (size_t i = 0; i < self->steps[s].input_count; i++)
            self->values[self->steps[s].inputs[i]].last = s;
        const int id = (int)self->steps[s].output;
        if (!is_read_densely(self, id))
            continue;
        self->frontier[self->frontier_count] = id;
        self->frontier_shapes[self->frontier_count++] = self->graph->values[id].shape;
    }
    for (size_t f = 0; f < self->frontier_count; f++)
        self->values[self->frontier[f]].last = SIZE_MAX;
    return XAI_OK;
}

/* Primitives, weights and constants of the steps */

static xai_status prepare_weights(const void *user, const tensor *source, void *prepared,
                                  xai_error **error)
{
    return primitive_prepare_weights(user, source->data, prepared, error);
}

static xai_status make_primitive(local *self, local_step *at, bool patches, xai_error **error)
{
    const graph_node *node = &self->graph->nodes[at->node];
    const local_value *in = &self->values[at->inputs[0]], *out = &self->values[at->output];
    primitive **made = patches ? &at->patches : &at->whole;
    primitive_spec spec = {.kind = PRIMITIVE_CONVOLUTION,
                           .threads = patches ? 1 : self->threads,
                           .geometry = at->geometry,
                           .input_channels = (int64_t)in->channels,
                           .output_channels = (int64_t)out->channels,
                           .plain_input = in->unit == 1,
                           .batch = patches ? LOCAL_GROUP : 1,
                           .has_bias = true};
    for (int axis = 0; patches && axis < 2; axis++) {
        window *w = &spec.geometry;
        w->output[axis] = (int64_t)out->box[axis];
        w->input[axis] =
            (w->output[axis] - 1) * w->stride[axis] + (w->kernel[axis] - 1) * w->dilation[axis] + 1;
        w->pad_begin[axis] = w->pad_end[axis] = 0;
    }
    xai_status status = primitive_create(&spec, made, error);
    if (status != XAI_OK)
        return status;
    text key = {0};
    text_append(&key, "local;");
    text_append(&key, primitive_weights_key(*made));
    char *name = text_take(&key);
    if (name == NULL)
        return error_memory(error, "prepared weights", 0);
    status = network_weights(self->net, &self->graph->values[node->inputs[1]].constant, name,
                             primitive_weights_bytes(*made) + 64, prepare_weights, *made,
                             &at->weights[patches], error);
    memory_free(name);
    if (primitive_scratchpad_bytes(*made) > self->scratch_bytes)
        self->scratch_bytes = primitive_scratchpad_bytes(*made);
    return status;
}

/* A constant of channels, padded with zeros; zeros without one. */
static xai_status read_channels(const tensor *constant, size_t channels, size_t padded, float **out,
                                xai_error **error)
{
    *out = memory_allocate_aligned(padded * sizeof **out);
    if (*out == NULL)
        return error_memory(error, "constants", padded * sizeof **out);
    memset(*out, 0, padded * sizeof **out);
    if (constant != NULL && tensor_count(constant) == channels)
        tensor_read_floats(constant, 0, channels, *out);
    else if (constant != NULL)
        return error_set(error, XAI_ERROR_UNSUPPORTED, NULL, "constants not one a channel");
    return XAI_OK;
}

static xai_status prepare_step(local *self, local_step *at, xai_error **error)
{
    const graph_node *node = &self->graph->nodes[at->node];
    const graph_value *values = self->graph->values;
    const local_value *out = &self->values[at->output];
    const size_t padded = out->planes * out->unit;
    xai_status status = XAI_OK;
    if (at->kind == LOCAL_SCALE_SHIFT) {
        status = read_channels(&values[node->inputs[1]].constant, out->channels, padded, &at->scale,
                               error);
        if (status == XAI_OK)
            status = read_channels(&values[node->inputs[2]].constant, out->channels, padded,
                                   &at->shift, error);
    }
    if (at->kind == LOCAL_CONVOLUTION) {
        const bool biased = node->input_count > 2 && node->inputs[2] != GRAPH_NONE;
        status = read_channels(biased ? &values[node->inputs[2]].constant : NULL, out->channels,
                               padded, &at->shift, error);
        if (status == XAI_OK)
            status = make_primitive(self, at, false, error);
        if (status == XAI_OK)
            status = make_primitive(self, at, true, error);
    }
    return status;
}

static double multiplications(const graph *g, const graph_node *node)
{
    if (!node_is(node, "", "Conv"))
        return 0;
    const shape *weights = &g->values[node->inputs[1]].shape,
                *out = &g->values[node->outputs[0]].shape;
    size_t w = 0, o = 0;
    if (!shape_count(weights, &w) || !shape_count(out, &o) || out->dims[1] == 0)
        return 0;
    return (double)w * (double)o / (double)out->dims[1];
}

static void measure_work(local *self)
{
    double whole = 0, left = 0;
    for (size_t n = 0; n < self->graph->node_count; n++) {
        const graph_node *node = &self->graph->nodes[n];
        if (node->removed)
            continue;
        const double cost = multiplications(self->graph, node);
        double part = 1;
        for (size_t s = 0; s < self->step_count; s++)
            if (self->steps[s].node == (int)n) {
                const local_value *out = &self->values[self->steps[s].output];
                part = (double)(out->box[0] * out->box[1]) / (double)(out->size[0] * out->size[1]);
            }
        whole += cost;
        left += part * cost;
    }
    self->work = whole > 0 ? left / whole : 1;
}

double local_work(const local *self)
{
    return self->work;
}

size_t local_frontier(const local *self, const int **values, const shape **shapes)
{
    *values = self->frontier;
    *shapes = self->frontier_shapes;
    return self->frontier_count;
}

static xai_status open_image(local *self, const local_box *edits, xai_error **error)
{
    const int id = self->graph->inputs[self->input];
    if (!is_image(&self->graph->values[id]))
        return error_set(error, XAI_ERROR_UNSUPPORTED, self->graph->values[id].name,
                         "local edits need an image (1, C, H, W) of float32");
    xai_status status = open_value(self, id, error);
    if (status != XAI_OK)
        return status;
    local_value *image = &self->values[id];
    for (size_t e = 0; e < self->edits; e++) {
        const local_box *box = &edits[e];
        image->reaches[e] =
            (reach){.low = {(int32_t)box->y, (int32_t)box->x},
                    .high = {(int32_t)(box->y + box->height), (int32_t)(box->x + box->width)}};
        if (box->y < 0 || box->x < 0 || box->height < 1 || box->width < 1 ||
            box->y + box->height > (int64_t)image->size[0] ||
            box->x + box->width > (int64_t)image->size[1])
            return error_set(error, XAI_ERROR_ARGUMENT, NULL, "edit %zu is not within the image",
                             e);
    }
    image->used = size_box(image, self->edits, LOCAL_CONCAT_MOST);
    return image->used
               ? XAI_OK
               : error_set(error, XAI_ERROR_UNSUPPORTED, NULL, "the edits cover most of the image");
}

xai_status local_create(network *net, const shape *input_shapes, size_t input,
                        const local_box *edits, size_t count, int threads, local **out,
                        xai_error **error)
{
    local *self = memory_allocate_zeroed(1, sizeof *self);
    if (self == NULL)
        return error_memory(error, "local edits", sizeof *self);
    network_retain(net);
    self->net = net;
    self->input = input;
    self->edits = count;
    self->threads = threads > 0 ? threads : parallel_processors();
    xai_status status =
        graph_specialise(network_graph(net), input_shapes, NULL, 0, true, &self->graph, error);
    if (status == XAI_OK) {
        self->values = memory_allocate_zeroed(self->graph->value_count, sizeof *self->values);
        self->steps = memory_allocate_zeroed(self->graph->node_count + 1, sizeof *self->steps);
        if (self->values == NULL || self->steps == NULL)
            status =
                error_memory(error, "local edits", self->graph->value_count * sizeof *self->values);
    }
    if (status == XAI_OK)
        status = open_image(self, edits, error);
    for (size_t n = 0; status == XAI_OK && n < self->graph->node_count; n++)
        status = add_node(self, (int)n, error);
    if (status == XAI_OK)
        status = find_frontier(self, error);
    if (status == XAI_OK)
        measure_work(self);
    for (size_t s = 0; status == XAI_OK && s < self->step_count; s++)
        status = prepare_step(self, &self->steps[s], error);
    if (status != XAI_OK) {
        local_free(self);
        return status;
    }
    *out = self;
    return XAI_OK;
}
