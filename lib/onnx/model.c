/* ModelProto, and the model as an object: opened from a file or parsed from bytes. */
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "onnx/reader.h"

/* Versions of the format that this reader knows. What changed within them is visible in the
 * messages. */
#define IR_OLDEST 3
#define IR_NEWEST 14

const char *normal_domain(const char *domain)
{
    return strcmp(domain, "ai.onnx") == 0 ? "" : domain;
}

void read_opset(reader *self, wire bytes, onnx_opset *opsets, size_t *count)
{
    enum { DOMAIN = 1, VERSION = 2 };
    onnx_opset opset = {.domain = ""};
    message body = message_begin(bytes, FIELD(DOMAIN) | FIELD(VERSION), "OperatorSetIdProto");
    wire_field field;
    while (message_next(self, &body, &field)) {
        if (field.number == DOMAIN)
            opset.domain = normal_domain(take_string(self, &body, &field));
        else if (field.number == VERSION)
            opset.version = (int64_t)take_varint(self, &body, &field);
    }
    if (self->status == XAI_OK && opset.version < 1)
        reader_fail(self, XAI_ERROR_FORMAT, "operator set '%s' has no valid version", opset.domain);
    for (size_t i = 0; i < *count; i++)
        if (strcmp(opsets[i].domain, opset.domain) == 0 && opsets[i].version != opset.version)
            reader_fail(self, XAI_ERROR_FORMAT, "operator set '%s' is imported in two versions",
                        opset.domain);
    opsets[(*count)++] = opset;
}

static void read_property(reader *self, const message *from, const wire_field *field,
                          onnx_model *model, onnx_property *properties)
{
    const onnx_property entry = take_property(self, from, field);
    for (size_t i = 0; i < model->property_count; i++)
        if (strcmp(properties[i].key, entry.key) == 0)
            reader_fail(self, XAI_ERROR_FORMAT, "metadata has the key '%.80s' twice", entry.key);
    properties[model->property_count++] = entry;
}

static void check_version(reader *self, const message *body, int64_t version)
{
    enum { IR_VERSION = 1 };
    if (self->status != XAI_OK)
        return;
    if (!(body->seen & FIELD(IR_VERSION)))
        reader_fail(self, XAI_ERROR_FORMAT, "not an ONNX model: it has no IR version");
    else if (version < IR_OLDEST)
        reader_fail(self, XAI_ERROR_UNSUPPORTED,
                    "ONNX IR version %lld is not supported; the oldest supported is %d",
                    (long long)version, IR_OLDEST);
    else if (version > IR_NEWEST)
        reader_fail(self, XAI_ERROR_UNSUPPORTED,
                    "ONNX IR version %lld is newer than this library knows (%d)",
                    (long long)version, IR_NEWEST);
}

static void read_model(reader *self, wire bytes, onnx_model *model)
{
    enum {
        IR_VERSION = 1,
        PRODUCER_NAME = 2,
        PRODUCER_VERSION = 3,
        GRAPH = 7,
        OPSET_IMPORT = 8,
        METADATA_PROPS = 14,
        FUNCTIONS = 25
    };
    const uint32_t singular =
        FIELD(IR_VERSION) | FIELD(PRODUCER_NAME) | FIELD(PRODUCER_VERSION) | FIELD(GRAPH);
    size_t opset_count = 0, property_count = 0;
    wire graph = {0};
    message body = message_begin(bytes, singular, "ModelProto");
    wire_field field;
    while (message_next(self, &body, &field)) {
        switch (field.number) {
        case IR_VERSION:
            model->ir_version = (int64_t)take_varint(self, &body, &field);
            break;
        case PRODUCER_NAME:
            model->producer_name = take_string(self, &body, &field);
            break;
        case PRODUCER_VERSION:
            model->producer_version = take_string(self, &body, &field);
            break;
        case GRAPH:
            graph = take_bytes(self, &body, &field);
            break;
        case OPSET_IMPORT:
            reader_count(self, &opset_count, 1, ONNX_OPSET_LIMIT, "operator sets");
            break;
        case METADATA_PROPS:
            reader_count(self, &property_count, 1, ONNX_PROPERTY_LIMIT, "metadata entries");
            break;
        case FUNCTIONS:
            reader_count(self, &model->function_count, 1, ONNX_FUNCTION_LIMIT, "local functions");
            break;
        default:
            break;
        }
    }
    check_version(self, &body, model->ir_version);
    if (self->status == XAI_OK && !(body.seen & FIELD(GRAPH)))
        reader_fail(self, XAI_ERROR_FORMAT, "not an ONNX model: it has no graph");
    if (self->status == XAI_OK && opset_count == 0)
        reader_fail(self, XAI_ERROR_FORMAT, "imports no operator set");

    onnx_opset *opsets = reader_allocate(self, opset_count, sizeof *opsets, "operator sets");
    onnx_property *properties =
        reader_allocate(self, property_count, sizeof *properties, "metadata entries");
    model->opsets = opsets;
    model->properties = properties;
    onnx_function *functions =
        reader_allocate(self, model->function_count, sizeof *functions, "local functions");
    model->functions = functions;
    size_t function = 0;
    body = message_begin(bytes, singular, "ModelProto");
    while (message_next(self, &body, &field)) {
        if (field.number == OPSET_IMPORT) {
            read_opset(self, take_bytes(self, &body, &field), opsets, &model->opset_count);
        } else if (field.number == FUNCTIONS) {
            read_function(self, take_bytes(self, &body, &field), function, &functions[function]);
            function++;
        } else if (field.number == METADATA_PROPS)
            read_property(self, &body, &field, model, properties);
    }
    if (self->status == XAI_OK)
        read_graph(self, graph, &model->graph);
}

static void storage_free(onnx_storage *storage)
{
    if (!storage)
        return;
    for (size_t i = 0; i < storage->external_count; i++) {
        file_unmap(&storage->externals[i].view);
        memory_free(storage->externals[i].location);
    }
    memory_free(storage->externals);
    memory_free(storage->folder);
    memory_free(storage->copy);
    file_unmap(&storage->file);
    memory_pool_free(storage->pool);
    memory_free(storage);
}

/* Parse bytes that `storage` owns. Takes the storage in any case. */
static xai_status parse(onnx_storage *storage, const char *path, wire bytes, onnx_model **out,
                        xai_error **error)
{
    static const char pointer_file[] = "version https://git-lfs";
    reader self = {
        .storage = storage, .begin = bytes.at, .path = path, .error = error, .status = XAI_OK};
    onnx_model *model = NULL;
    if (wire_left(&bytes) == 0)
        reader_fail(&self, XAI_ERROR_FORMAT, "is empty");
    else if (wire_left(&bytes) >= sizeof pointer_file &&
             memcmp(bytes.at, pointer_file, sizeof pointer_file - 1) == 0)
        reader_fail(&self, XAI_ERROR_FORMAT,
                    "is a Git LFS pointer, not the model: run 'git lfs pull'");
    else
        model = reader_allocate(&self, 1, sizeof *model, "model");
    if (model) {
        *model = (onnx_model){
            .producer_name = "", .producer_version = "", .graph = {.name = ""}, .storage = storage};
        read_model(&self, bytes, model);
    }
    if (self.status != XAI_OK) {
        storage_free(storage);
        return self.status;
    }
    *out = model;
    return XAI_OK;
}

static onnx_storage *storage_create(xai_error **error)
{
    onnx_storage *storage = memory_allocate_zeroed(1, sizeof *storage);
    if (storage)
        storage->pool = memory_pool_create();
    if (!storage || !storage->pool) {
        memory_free(storage);
        error_memory(error, "a model", 0);
        return NULL;
    }
    return storage;
}

/* The part of a path before its last separator: "" for a bare name, "/" for a file in the root. */
static char *folder_of(const char *path)
{
    const size_t name = (size_t)(path_file_name(path) - path); /* where it begins */
    const size_t length = name > 1 ? name - 1 : name;
    char *folder = memory_allocate(length + 1, 1);
    if (folder) {
        memcpy(folder, path, length);
        folder[length] = '\0';
    }
    return folder;
}

xai_status onnx_model_open(const char *path, onnx_model **out, xai_error **error)
{
    onnx_storage *storage = storage_create(error);
    if (!storage)
        return XAI_ERROR_MEMORY;
    xai_status status = file_map(path, &storage->file, error);
    if (status == XAI_OK) {
        storage->folder = folder_of(path);
        if (!storage->folder)
            status = error_memory(error, "a model", 0);
    }
    if (status != XAI_OK) {
        storage_free(storage);
        return status;
    }
    const file_view *file = &storage->file;
    const uint8_t *bytes = file->bytes ? file->bytes : (const uint8_t *)"";
    return parse(storage, path, (wire){bytes, bytes + file->size}, out, error);
}

xai_status onnx_model_parse(const void *bytes, size_t size, onnx_model **out, xai_error **error)
{
    onnx_storage *storage = storage_create(error);
    if (!storage)
        return XAI_ERROR_MEMORY;
    storage->copy = memory_copy(bytes, size);
    if (!storage->copy) {
        storage_free(storage);
        return error_memory(error, "a copy of the model", size);
    }
    return parse(storage, NULL, (wire){storage->copy, storage->copy + size}, out, error);
}

void onnx_model_free(onnx_model *model)
{
    if (model)
        storage_free(model->storage); /* the model itself lies in the pool */
}

void onnx_model_release_pages(const onnx_model *model)
{
    const onnx_storage *storage = model->storage;
    file_release_pages(&storage->file);
    for (size_t i = 0; i < storage->external_count; i++)
        file_release_pages(&storage->externals[i].view);
}
