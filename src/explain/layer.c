#include "explain/layer.h"

#include <string.h>

#include "base/error.h"
#include "graph/layers.h"

xai_status layer_find_default(const subject *of, const shape *input_shapes, int output, int *out,
                              xai_error **error)
{
    const graph *source = NULL;
    graph *specialised = NULL;
    int found = GRAPH_NONE;
    xai_status status = network_graph_for(of->net, input_shapes, &source, error);
    if (status == XAI_OK)
        status = graph_specialise(source, input_shapes, NULL, 0, GRAPH_REWRITES_LAYERS,
                                  &specialised, error);
    if (status == XAI_OK)
        status = graph_check_static(specialised, source->outputs[output], error);
    if (status == XAI_OK)
        status = graph_default_layer(specialised, source->outputs[output], &found, error);
    graph_free(specialised);
    if (status != XAI_OK)
        return status;
    if (found == GRAPH_NONE || (size_t)found >= network_graph(of->net)->value_count)
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
    if (layout->time_major) {
        for (int axis = 1; axis < dims->rank - 1; axis++)
            out->channels *= (size_t)dims->dims[axis];
        out->channel_stride = 1;
        out->pixel_stride = out->channels;
        return true;
    }
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

/* (N, C, spatial...), (N, spatial..., C) or, without a channel axis, (N, spatial...). */
static spatial space_of_input(const shape *dims, int channel_axis)
{
    spatial found = {.channels = 1, .pixel_stride = 1};
    if (channel_axis < 0) {
        set_dims(&found, dims->rank - 1, dims->dims + 1);
        found.channel_stride = found.pixels;
        return found;
    }
    const bool last = channel_axis == dims->rank - 1;
    set_dims(&found, dims->rank - 2, dims->dims + (last ? 1 : 2));
    found.channels = (size_t)dims->dims[last ? dims->rank - 1 : 1];
    found.channel_stride = last ? 1 : found.pixels;
    found.pixel_stride = last ? found.channels : 1;
    return found;
}

/* Without the axes of one position: the layer (C, 1, L) of a signal. */
static spatial squeezed(const spatial *space)
{
    spatial found = *space;
    found.rank = 0;
    for (int axis = 0; axis < space->rank; axis++)
        if (space->dims[axis] != 1)
            found.dims[found.rank++] = space->dims[axis];
    if (found.rank == 0)
        found.dims[found.rank++] = 1;
    return found;
}

/* The first input with `rank` spatial axes. `liberal`: nothing tells that an axis of it is that of
 * channels, so that it may have none. */
static bool find_input(const graph *specialised, const signed char *channel_axes, int rank,
                       bool liberal, size_t *input, spatial *out)
{
    for (size_t i = 0; i < specialised->input_count; i++) {
        const int value = specialised->inputs[i], axis = channel_axes[value];
        const shape *dims = &specialised->values[value].shape;
        const bool fits = liberal ? dims->rank == rank + 1 && (rank == 1 || axis != dims->rank - 1)
                                  : dims->rank >= 3 && dims->rank == rank + (axis < 0 ? 1 : 2);
        if (!fits)
            continue;
        *input = i;
        *out = space_of_input(dims, liberal ? -1 : axis);
        return true;
    }
    return false;
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
    if ((!layout->has_axis && !axes.time_major) || !shape_count(&layout->row, &count) ||
        count == 0 || !spatial_of(&value->shape, &axes, layer_space))
        return error_set(error, XAI_ERROR_UNSUPPORTED, value->name,
                         "shape %s has no spatial axes to draw a map of",
                         shape_text(&value->shape, dims));
    signed char *channel_axes = graph_channel_axes(specialised);
    if (channel_axes == NULL)
        return error_memory(error, "the channel axes of a graph", specialised->value_count);
    const spatial narrow = squeezed(layer_space);
    *input = 0;
    *input_space = (spatial){0};
    for (int way = 0; way < 4; way++) {
        const spatial *space = way % 2 == 0 ? layer_space : &narrow;
        if (!find_input(specialised, channel_axes, space->rank, way >= 2, input, input_space))
            continue;
        *layer_space = *space;
        break;
    }
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
    if (axis >= 0 || dims->rank <= MAP_MAX_RANK + 1)
        *out = space_of_input(dims, axis);
    return XAI_OK;
}
