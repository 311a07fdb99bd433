#include "explain/layer.h"

#include <string.h>

#include "base/error.h"
#include "graph/layers.h"

xai_status layer_find_default(const subject *of, const shape *input_shapes, int output, int *out,
                              xai_error **error)
{
    const graph *source = network_graph(of->net);
    graph *specialised = NULL;
    int found = GRAPH_NONE;
    xai_status status =
        graph_specialise(source, input_shapes, NULL, 0, GRAPH_REWRITES_LAYERS, &specialised, error);
    if (status == XAI_OK)
        status = graph_default_layer(specialised, source->outputs[output], &found, error);
    graph_free(specialised);
    if (status != XAI_OK)
        return status;
    if (found == GRAPH_NONE || (size_t)found >= source->value_count)
        return error_set(error, XAI_ERROR_UNSUPPORTED, NULL,
                         "no spatial layer was found before the head of the model; name one with "
                         "the option layer");
    *out = found;
    return XAI_OK;
}

xai_status layer_find_default_again(layer_memo *memo, const subject *of, const shape *input_shapes,
                                    int output, int *out, xai_error **error)
{
    const size_t count = network_graph(of->net)->input_count;
    bool known = memo->shapes != NULL && memo->output == output;
    for (size_t i = 0; known && i < count; i++)
        known = shape_equal(&memo->shapes[i], &input_shapes[i]);
    if (!known) {
        shape *shapes = memory_allocate(count, sizeof *shapes);
        if (shapes == NULL)
            return error_memory(error, "the shapes of the inputs", count * sizeof *shapes);
        int layer = GRAPH_NONE;
        const xai_status status = layer_find_default(of, input_shapes, output, &layer, error);
        if (status != XAI_OK) {
            memory_free(shapes);
            return status;
        }
        for (size_t i = 0; i < count; i++)
            shapes[i] = input_shapes[i];
        layer_memo_free(memo);
        *memo = (layer_memo){.shapes = shapes, .output = output, .layer = layer};
    }
    *out = memo->layer;
    return XAI_OK;
}

void layer_memo_free(layer_memo *self)
{
    memory_free(self->shapes);
    *self = (layer_memo){0};
}

static void set_dims(spatial *self, int rank, const int64_t *dims)
{
    self->rank = rank;
    self->pixels = 1;
    for (int axis = 0; axis < rank; axis++) {
        self->dims[axis] = dims[axis];
        self->pixels *= (size_t)dims[axis];
    }
}

/* Strides in a row from the layout of a value, whose axis 0 is the batch. */
static bool spatial_of(const shape *dims, const layer_layout *layout, spatial *out)
{
    if (layout->spatial_rank < 1 || layout->spatial_rank > MAP_MAX_RANK ||
        layout->channel_axis < 1 || layout->channel_axis >= dims->rank)
        return false;
    *out = (spatial){.channels = (size_t)dims->dims[layout->channel_axis]};
    set_dims(out, layout->spatial_rank, layout->dims);
    size_t expected =
        out->channels * (out->pixels + (layout->tokens ? (size_t)layout->prefix_tokens : 0));
    for (int axis = 1; axis < dims->rank; axis++)
        if (dims->dims[axis] > 0 && expected % (size_t)dims->dims[axis] == 0)
            expected /= (size_t)dims->dims[axis];
        else
            return false;
    if (expected != 1)
        return false;
    if (layout->channel_axis == 1 && !layout->tokens) { /* (C, spatial...) */
        out->channel_stride = out->pixels;
        out->pixel_stride = 1;
        return true;
    }
    if (layout->channel_axis != dims->rank - 1)
        return false;
    out->channel_stride = 1; /* (spatial..., C), or (prefix + grid, C) */
    out->pixel_stride = out->channels;
    out->offset = layout->tokens ? (size_t)layout->prefix_tokens * out->channels : 0;
    return true;
}

/* The axes of one row of input `i`, when it has `rank` spatial ones. `channel_axes` of all
 * values. */
static bool input_spatial(const graph *specialised, const signed char *channel_axes, size_t i,
                          int rank, spatial *out)
{
    const int value = specialised->inputs[i];
    const shape *dims = &specialised->values[value].shape;
    *out = (spatial){.channels = 1, .channel_stride = 1, .pixel_stride = 1};
    if (dims->rank == rank + 1) { /* (N, spatial...) */
        set_dims(out, rank, dims->dims + 1);
        return true;
    }
    if (dims->rank != rank + 2)
        return false;
    /* (N, spatial..., C), or channels first, also where the graph does not tell */
    set_dims(out, rank, dims->dims + (channel_axes[value] == rank + 1 ? 1 : 2));
    return true;
}

xai_status layer_find_spatial(const graph *specialised, int layer, const row_layout *layout,
                              spatial *layer_space, spatial *input_space, size_t *input,
                              xai_error **error)
{
    const graph_value *value = &specialised->values[layer];
    char dims[SHAPE_TEXT_SIZE];
    size_t count = 0;
    layer_layout axes;
    const xai_status status = graph_layer_layout(specialised, layer, &axes, error);
    if (status != XAI_OK)
        return status;
    if (!layout->has_axis || !shape_count(&layout->row, &count) || count == 0 ||
        !spatial_of(&value->shape, &axes, layer_space))
        return error_set(error, XAI_ERROR_UNSUPPORTED, value->name,
                         "shape %s has no spatial axes to draw a map of",
                         shape_text(&value->shape, dims));
    signed char *channel_axes = graph_channel_axes(specialised);
    if (channel_axes == NULL)
        return error_memory(error, "the channel axes of a graph", specialised->value_count);
    *input = 0;
    size_t i = 0;
    while (i < specialised->input_count &&
           !input_spatial(specialised, channel_axes, i, layer_space->rank, input_space))
        i++;
    if (i < specialised->input_count)
        *input = i;
    else
        *input_space = (spatial){0};
    memory_free(channel_axes);
    return XAI_OK;
}

xai_status layer_find_input_spatial(const graph *specialised, size_t input, spatial *out,
                                    xai_error **error)
{
    *out = (spatial){0};
    const int value = specialised->inputs[input];
    const shape *dims = &specialised->values[value].shape;
    if (dims->rank < 3 || dims->rank > MAP_MAX_RANK + 2)
        return XAI_OK;
    signed char *channel_axes = graph_channel_axes(specialised);
    if (channel_axes == NULL)
        return error_memory(error, "the channel axes of a graph", specialised->value_count);
    const int axis = channel_axes[value];
    memory_free(channel_axes);
    *out = (spatial){.channels = 1, .pixel_stride = 1};
    if (dims->rank == 3 && axis < 0) {
        set_dims(out, 2, dims->dims + 1);
        out->channel_stride = out->pixels;
        return XAI_OK;
    }
    const bool last = axis == dims->rank - 1;
    set_dims(out, dims->rank - 2, dims->dims + (last ? 1 : 2));
    out->channels = (size_t)dims->dims[last ? dims->rank - 1 : 1];
    out->channel_stride = last ? 1 : out->pixels;
    out->pixel_stride = last ? out->channels : 1;
    return XAI_OK;
}
