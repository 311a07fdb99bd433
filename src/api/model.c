#include <string.h>

#include "api/handles.h"
#include "base/error.h"
#include "base/text.h"
#include "graph/layers.h"

static void model_destroy(xai_model *self)
{
    memory_free(self->layers);
    memory_free(self->name);
    card_free(self->card);
    network_free(self->net);
    onnx_model_free(self->file);
    memory_free(self);
}

xai_model *xai_model_retain(xai_model *self)
{
    if (self != NULL)
        atomic_fetch_add_explicit(&self->references, 1, memory_order_relaxed);
    return self;
}

void xai_model_free(xai_model *self)
{
    if (self != NULL && atomic_fetch_sub_explicit(&self->references, 1, memory_order_acq_rel) == 1)
        model_destroy(self);
}

/* What the card says about scores, in the terms of src/explain. */
static int score_meaning(const model_card *card)
{
    if (card->score == CARD_SCORE_PROBABILITY)
        return SCORES_PROBABILITY;
    if (card->score == CARD_SCORE_VALUE)
        return SCORES_UNKNOWN;
    if (card->activation == CARD_ACTIVATION_SIGMOID)
        return SCORES_SIGMOID;
    if (card->activation == CARD_ACTIVATION_SOFTMAX)
        return SCORES_SOFTMAX;
    return card->score == CARD_SCORE_LOGIT ? SCORES_LOGITS : SCORES_UNKNOWN;
}

/* Everything behind a parsed file; takes the file over, also on failure. */
static xai_status model_make(onnx_model *file, const char *path, xai_model **out, xai_error **error)
{
    graph *imported = NULL;
    xai_status status = XAI_OK;
    xai_model *made = memory_allocate_zeroed(1, sizeof *made);
    if (made == NULL) {
        onnx_model_free(file);
        return error_memory(error, "a model", sizeof *made);
    }
    made->file = file;
    atomic_init(&made->references, 1);
    made->name = text_duplicate(path == NULL ? "" : path_file_name(path));
    if (made->name == NULL) {
        status = error_memory(error, "the name of a model", 0);
        goto done;
    }
    status = card_load(file, path, &made->card, error);
    if (status == XAI_OK)
        status = graph_import(file, &imported, error);
    if (status == XAI_OK)
        status = network_create(imported, &made->net, error);
    if (status != XAI_OK)
        goto done;
    const size_t count = graph_layers(imported, NULL, 0);
    made->layers = memory_allocate(count, sizeof *made->layers);
    if (made->layers == NULL) {
        status = error_memory(error, "the layers of a model", count * sizeof *made->layers);
        goto done;
    }
    (void)graph_layers(imported, made->layers, count);
    made->subject = (subject){.net = made->net,
                              .name = made->name,
                              .labels = (const char *const *)made->card->labels,
                              .label_count = made->card->label_count,
                              .scores = score_meaning(made->card),
                              .layers = made->layers,
                              .layer_count = count};
    *out = made;
    made = NULL;
done:
    if (made != NULL)
        model_destroy(made);
    return status;
}

xai_status xai_model_open(const char *path, xai_model **out, xai_error **error)
{
    onnx_model *file = NULL;
    if (path == NULL)
        return argument_missing(error, __func__, "path");
    if (out == NULL)
        return argument_missing(error, __func__, "out");
    const xai_status status = onnx_model_open(path, &file, error);
    return status == XAI_OK ? model_make(file, path, out, error) : status;
}

xai_status xai_model_parse(const void *bytes, size_t size, xai_model **out, xai_error **error)
{
    onnx_model *file = NULL;
    if (bytes == NULL)
        return argument_missing(error, __func__, "bytes");
    if (out == NULL)
        return argument_missing(error, __func__, "out");
    const xai_status status = onnx_model_parse(bytes, size, &file, error);
    return status == XAI_OK ? model_make(file, NULL, out, error) : status;
}

/* Inputs and outputs */

typedef struct port {
    const graph_value *value;   /* NULL = out of range */
    const onnx_value *declared; /* NULL = the file has no entry of that name */
} port;

static const onnx_value *find_declared(const onnx_value *values, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(values[i].name, name) == 0)
            return &values[i];
    return NULL;
}

static port input_at(const xai_model *self, size_t index)
{
    const graph *source = self != NULL ? network_graph(self->net) : NULL;
    if (source == NULL || index >= source->input_count)
        return (port){0};
    const graph_value *value = &source->values[source->inputs[index]];
    return (port){.value = value,
                  .declared = find_declared(self->file->graph.inputs, self->file->graph.input_count,
                                            value->name)};
}

static port output_at(const xai_model *self, size_t index)
{
    const graph *source = self != NULL ? network_graph(self->net) : NULL;
    if (source == NULL || index >= source->output_count)
        return (port){0};
    const graph_value *value = &source->values[source->outputs[index]];
    return (port){.value = value,
                  .declared = find_declared(self->file->graph.outputs,
                                            self->file->graph.output_count, value->name)};
}

static const char *port_name(port at)
{
    return at.value != NULL ? at.value->name : "";
}

static int32_t port_dtype(port at)
{
    const int32_t known = at.value != NULL ? at.value->dtype : DTYPE_UNDEFINED;
    return known != DTYPE_UNDEFINED || at.declared == NULL ? known : at.declared->dtype;
}

static int32_t port_rank(port at)
{
    return at.declared != NULL && at.declared->has_shape ? at.declared->shape.rank : -1;
}

static const int64_t *port_dims(port at)
{
    return port_rank(at) >= 0 ? at.declared->shape.dims : NULL;
}

static const char *port_dim_name(port at, int32_t axis)
{
    const char *name = axis >= 0 && axis < port_rank(at) ? at.declared->dim_names[axis] : NULL;
    return name != NULL ? name : "";
}

size_t xai_model_input_count(const xai_model *self)
{
    return self != NULL ? network_graph(self->net)->input_count : 0;
}

const char *xai_model_input_name(const xai_model *self, size_t index)
{
    return port_name(input_at(self, index));
}

int32_t xai_model_input_dtype(const xai_model *self, size_t index)
{
    return port_dtype(input_at(self, index));
}

int32_t xai_model_input_rank(const xai_model *self, size_t index)
{
    return port_rank(input_at(self, index));
}

const int64_t *xai_model_input_dims(const xai_model *self, size_t index)
{
    return port_dims(input_at(self, index));
}

const char *xai_model_input_dim_name(const xai_model *self, size_t index, int32_t axis)
{
    return port_dim_name(input_at(self, index), axis);
}

int64_t xai_model_find_input(const xai_model *self, const char *name)
{
    for (size_t i = 0; name != NULL && i < xai_model_input_count(self); i++)
        if (strcmp(xai_model_input_name(self, i), name) == 0)
            return (int64_t)i;
    return -1;
}

size_t xai_model_output_count(const xai_model *self)
{
    return self != NULL ? network_graph(self->net)->output_count : 0;
}

const char *xai_model_output_name(const xai_model *self, size_t index)
{
    return port_name(output_at(self, index));
}

int32_t xai_model_output_dtype(const xai_model *self, size_t index)
{
    return port_dtype(output_at(self, index));
}

int32_t xai_model_output_rank(const xai_model *self, size_t index)
{
    return port_rank(output_at(self, index));
}

const int64_t *xai_model_output_dims(const xai_model *self, size_t index)
{
    return port_dims(output_at(self, index));
}

const char *xai_model_output_dim_name(const xai_model *self, size_t index, int32_t axis)
{
    return port_dim_name(output_at(self, index), axis);
}

int64_t xai_model_find_output(const xai_model *self, const char *name)
{
    for (size_t i = 0; name != NULL && i < xai_model_output_count(self); i++)
        if (strcmp(xai_model_output_name(self, i), name) == 0)
            return (int64_t)i;
    return -1;
}

/* Layers */

size_t xai_model_layer_count(const xai_model *self)
{
    return self != NULL ? self->subject.layer_count : 0;
}

static const graph_value *layer_at(const xai_model *self, size_t index)
{
    return index < xai_model_layer_count(self)
               ? &network_graph(self->net)->values[self->layers[index]]
               : NULL;
}

static const graph_node *layer_node(const xai_model *self, size_t index)
{
    const graph_value *layer = layer_at(self, index);
    return layer != NULL && layer->producer != GRAPH_NONE
               ? &network_graph(self->net)->nodes[layer->producer]
               : NULL;
}

const char *xai_model_layer_name(const xai_model *self, size_t index)
{
    const graph_value *layer = layer_at(self, index);
    return layer != NULL ? layer->name : "";
}

const char *xai_model_layer_node(const xai_model *self, size_t index)
{
    const graph_node *node = layer_node(self, index);
    return node != NULL ? node->name : "";
}

const char *xai_model_layer_operator(const xai_model *self, size_t index)
{
    const graph_node *node = layer_node(self, index);
    return node != NULL ? node->definition->name : "";
}

/* The declared shape of an input with its free sizes filled in: one row, the card's channels and
 * size, or (3, 224, 224). */
static shape plausible_shape(const model_card *card, const shape *declared)
{
    enum { CHANNELS = 3, SIDE = 224 };
    shape out = *declared;
    for (int axis = 0; axis < out.rank; axis++) {
        if (out.dims[axis] >= 0)
            continue;
        if (axis == 0)
            out.dims[axis] = 1;
        else if (axis == 1)
            out.dims[axis] = card->channels > 0 ? card->channels : CHANNELS;
        else if (axis == out.rank - 1)
            out.dims[axis] = card->width > 0 ? card->width : SIDE;
        else
            out.dims[axis] = card->height > 0 ? card->height : SIDE;
    }
    return out;
}

int64_t xai_model_default_layer(const xai_model *self)
{
    if (self == NULL || xai_model_output_count(self) == 0)
        return -1;
    const graph *source = network_graph(self->net);
    shape *shapes = memory_allocate(source->input_count, sizeof *shapes);
    int layer = GRAPH_NONE;
    bool known = shapes != NULL;
    for (size_t i = 0; known && i < source->input_count; i++) {
        shapes[i] = plausible_shape(self->card, &source->values[source->inputs[i]].shape);
        known = shapes[i].rank >= 0;
    }
    const bool found =
        known && layer_find_default(&self->subject, shapes, 0, &layer, NULL) == XAI_OK;
    memory_free(shapes);
    for (size_t i = 0; found && i < self->subject.layer_count; i++)
        if (self->layers[i] == layer)
            return (int64_t)i;
    return -1;
}

/* Labels, metadata, facts of the file */

size_t xai_model_label_count(const xai_model *self)
{
    return self != NULL ? self->card->label_count : 0;
}

const char *xai_model_label(const xai_model *self, size_t index)
{
    return index < xai_model_label_count(self) ? self->card->labels[index] : "";
}

size_t xai_model_metadata_count(const xai_model *self)
{
    return self != NULL ? self->file->property_count : 0;
}

const char *xai_model_metadata_key(const xai_model *self, size_t index)
{
    return index < xai_model_metadata_count(self) ? self->file->properties[index].key : "";
}

const char *xai_model_metadata_value(const xai_model *self, size_t index)
{
    return index < xai_model_metadata_count(self) ? self->file->properties[index].value : "";
}

const char *xai_model_producer_name(const xai_model *self)
{
    return self != NULL && self->file->producer_name != NULL ? self->file->producer_name : "";
}

const char *xai_model_producer_version(const xai_model *self)
{
    return self != NULL && self->file->producer_version != NULL ? self->file->producer_version : "";
}

int64_t xai_model_ir_version(const xai_model *self)
{
    return self != NULL ? self->file->ir_version : 0;
}

int64_t xai_model_opset(const xai_model *self, const char *domain)
{
    if (self == NULL || domain == NULL)
        return 0;
    if (strcmp(domain, "ai.onnx") == 0)
        domain = "";
    for (size_t i = 0; i < self->file->opset_count; i++)
        if (strcmp(self->file->opsets[i].domain, domain) == 0)
            return self->file->opsets[i].version;
    return 0;
}

/* Model card */

int32_t xai_model_input_range(const xai_model *self, double *low, double *high)
{
    if (self == NULL || !self->card->has_range)
        return 0;
    if (low != NULL)
        *low = self->card->low;
    if (high != NULL)
        *high = self->card->high;
    return 1;
}

size_t xai_model_input_mean(const xai_model *self, const double **values)
{
    if (self == NULL || self->card->mean_count == 0)
        return 0;
    if (values != NULL)
        *values = self->card->mean;
    return self->card->mean_count;
}

size_t xai_model_input_std(const xai_model *self, const double **values)
{
    if (self == NULL || self->card->deviation_count == 0)
        return 0;
    if (values != NULL)
        *values = self->card->deviation;
    return self->card->deviation_count;
}

bool dims_are_channels_last(const int64_t *dims)
{
    return (dims[3] == 1 || dims[3] == 3) && dims[1] != 1 && dims[1] != 3;
}

/* Sizes of the first input when it is an image (N, C, H, W) or (N, H, W, C), each 0 when free or
 * not an image. */
static void image_dims(const xai_model *self, int64_t out[3])
{
    const int64_t *dims = xai_model_input_rank(self, 0) == 4 ? xai_model_input_dims(self, 0) : NULL;
    out[0] = out[1] = out[2] = 0;
    if (dims == NULL)
        return;
    const bool channels_last = dims_are_channels_last(dims);
    const int axes[3] = {channels_last ? 3 : 1, channels_last ? 1 : 2, channels_last ? 2 : 3};
    for (int i = 0; i < 3; i++)
        out[i] = dims[axes[i]] > 0 ? dims[axes[i]] : 0;
}

int32_t xai_model_input_size(const xai_model *self, int64_t *height, int64_t *width)
{
    if (self == NULL)
        return 0;
    int64_t dims[3];
    image_dims(self, dims);
    const int64_t rows = self->card->height > 0 ? self->card->height : dims[1];
    const int64_t columns = self->card->width > 0 ? self->card->width : dims[2];
    if (rows == 0 || columns == 0)
        return 0;
    if (height != NULL)
        *height = rows;
    if (width != NULL)
        *width = columns;
    return 1;
}

int64_t xai_model_input_channels(const xai_model *self)
{
    if (self == NULL)
        return 0;
    int64_t dims[3];
    image_dims(self, dims);
    return self->card->channels > 0 ? self->card->channels : dims[0];
}

const char *xai_model_score_meaning(const xai_model *self)
{
    if (self == NULL)
        return "";
    if (self->card->score == CARD_SCORE_VALUE)
        return "value";
    switch (self->subject.scores) {
    case SCORES_LOGITS:
        return "logit";
    case SCORES_SIGMOID:
        return "logit-sigmoid";
    case SCORES_SOFTMAX:
        return "logit-softmax";
    case SCORES_PROBABILITY:
        return "probability";
    default:
        return "";
    }
}
