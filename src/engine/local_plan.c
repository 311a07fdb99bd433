/* Planning local edits: which nodes become steps, where the dense computation goes on, and what that
 * saves. */
#include <string.h>

#include "base/error.h"
#include "base/parallel.h"
#include "engine/local_private.h"
#include "engine/lower.h"

void local_free(local *self)
{
    if (self == NULL)
        return;
    for (size_t v = 0; self->values != NULL && v < self->graph->value_count; v++) {
        memory_free(self->values[v].reaches);
        memory_free(self->values[v].boxes);
        memory_free(self->values[v].starts);
        memory_free(self->values[v].pieces);
    }
    for (size_t s = 0; s < self->step_count; s++)
        local_free_step(&self->steps[s]);
    memory_free(self->values);
    memory_free(self->steps);
    memory_free(self->frontier);
    memory_free(self->frontier_shapes);
    for (int w = 0; self->workspaces != NULL && w < self->threads; w++)
        memory_free(self->workspaces[w]);
    memory_free((void *)self->workspaces);
    local_state_free(self->row);
    memory_free(self->order);
    memory_free(self->position);
    memory_free(self->class_of_group);
    graph_free(self->graph);
    network_free(self->net);
    memory_free(self);
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
    local_free_step(&self->steps[s]);
    memory_free(out->pieces);
    out->pieces = NULL;
    out->piece_count = 0;
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
    for (size_t s = 0; s < self->step_count; s++) {
        const int id = (int)self->steps[s].output;
        if (!is_read_densely(self, id))
            continue;
        self->frontier[self->frontier_count] = id;
        self->frontier_shapes[self->frontier_count++] = self->graph->values[id].shape;
    }
    return XAI_OK;
}

static void set_last(local *self, size_t value, size_t last)
{
    size_t count;
    const size_t *pieces = local_pieces(&self->values[value], &value, &count);
    for (size_t p = 0; p < count; p++)
        self->values[pieces[p]].last = last;
}

/* Until when the boxes of each value are needed, and which concatenations of the row are read in one
 * piece. */
static void find_lives(local *self)
{
    for (size_t s = 0; s < self->step_count; s++) {
        const local_step *at = &self->steps[s];
        for (size_t i = 0; i <= at->input_count; i++) {
            const size_t v = i < at->input_count ? at->inputs[i] : at->other;
            if (v == LOCAL_NONE || at->kind == LOCAL_CONCAT)
                continue;
            set_last(self, v, s);
            if (at->kind != LOCAL_SCALE_SHIFT && self->values[v].piece_count > 0)
                self->values[v].needs_map = true;
        }
    }
    for (size_t f = 0; f < self->frontier_count; f++)
        set_last(self, (size_t)self->frontier[f], LOCAL_NONE);
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

size_t local_edit_at(const local *self, size_t position)
{
    return self->order[position];
}

size_t local_group_size(const local *self)
{
    return self->group;
}

size_t local_bytes(const local *self)
{
    return local_maps_bytes(self) + local_workspace_floats(self) * sizeof(float) *
                                        (self->repeats > 0 ? 1 : (size_t)self->threads);
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

/* The mean over groups of edits. */
static void measure_work(local *self)
{
    const size_t groups = (self->edits + self->group - 1) / self->group;
    double whole = 0, left = 0;
    for (size_t n = 0; n < self->graph->node_count; n++)
        if (!self->graph->nodes[n].removed)
            whole += multiplications(self->graph, &self->graph->nodes[n]);
    left = whole;
    for (size_t s = 0; s < self->step_count; s++) {
        const local_step *at = &self->steps[s];
        const local_value *out = &self->values[at->output];
        const double cost = multiplications(self->graph, &self->graph->nodes[at->node]);
        double part = 0;
        for (size_t g = 0; g < groups; g++) {
            const size_t *length = out->boxes[self->class_of_group[g]].length;
            part += (double)(length[0] * length[1]) / (double)(out->size[0] * out->size[1]);
        }
        left += cost * (part / (double)groups - 1);
    }
    self->work = whole > 0 ? left / whole : 1;
    self->whole = whole;
}

static xai_status open_image(local *self, const local_box *edits, xai_error **error)
{
    const int id = self->graph->inputs[self->input];
    if (!local_is_image(&self->graph->values[id]))
        return error_set(error, XAI_ERROR_UNSUPPORTED, self->graph->values[id].name,
                         "local edits need an image (1, C, H, W) of float32");
    xai_status status = local_open_value(self, id, error);
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
    image->used = true;
    return XAI_OK;
}

xai_status local_create(network *net, const shape *input_shapes, size_t input,
                        const local_box *edits, size_t count, size_t repeats, int threads,
                        local **out, xai_error **error)
{
    local *self = memory_allocate_zeroed(1, sizeof *self);
    if (self == NULL)
        return error_memory(error, "local edits", sizeof *self);
    network_retain(net);
    self->net = net;
    self->input = input;
    self->edits = count;
    self->repeats = repeats;
    self->threads = threads > 0 ? threads : parallel_processors();
    const graph *source = NULL;
    xai_status status = network_graph_for(net, input_shapes, &source, error);
    if (status == XAI_OK)
        status = graph_specialise(source, input_shapes, NULL, 0, GRAPH_REWRITES_ALL, &self->graph,
                                  error);
    if (status == XAI_OK) {
        self->values = memory_allocate_zeroed(self->graph->value_count, sizeof *self->values);
        self->steps = memory_allocate_zeroed(self->graph->node_count + 1, sizeof *self->steps);
        self->workspaces = memory_allocate_zeroed((size_t)self->threads, sizeof *self->workspaces);
        if (self->values == NULL || self->steps == NULL || self->workspaces == NULL)
            status =
                error_memory(error, "local edits", self->graph->value_count * sizeof *self->values);
    }
    if (status == XAI_OK)
        status = open_image(self, edits, error);
    for (size_t n = 0; status == XAI_OK && n < self->graph->node_count; n++)
        status = local_add_node(self, (int)n, error);
    if (status == XAI_OK)
        status = find_frontier(self, error);
    if (status == XAI_OK) {
        local_fuse(self);
        find_lives(self);
        status = local_make_classes(self, error);
    }
    if (status == XAI_OK) {
        measure_work(self);
        status = local_prepare(self, error);
    }
    if (status == XAI_OK && repeats == 0)
        status = local_state_make(self, false, &self->row, error);
    if (status != XAI_OK) {
        local_free(self);
        return status;
    }
    *out = self;
    return XAI_OK;
}
