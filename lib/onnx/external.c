/* External data: payloads in files beneath the model's folder, each mapped once. */
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "onnx/reader.h"

static const char *entry_value(reader *self, const onnx_property *entries, size_t count,
                               const char *key)
{
    const char *value = NULL;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(entries[i].key, key) != 0)
            continue;
        if (value) {
            reader_fail(self, XAI_ERROR_FORMAT, "external data has '%s' twice", key);
            return NULL;
        }
        value = entries[i].value;
    }
    return value;
}

/* Decimal digits only; `fallback` when the key is absent. */
static uint64_t entry_number(reader *self, const onnx_property *entries, size_t count,
                             const char *key, uint64_t fallback)
{
    const char *value = entry_value(self, entries, count, key);
    if (!value)
        return fallback;
    uint64_t number = 0;
    bool valid = *value != '\0';
    for (const char *at = value; valid && *at; at++) {
        const unsigned digit = (unsigned)(unsigned char)*at - '0';
        valid = digit <= 9 && number <= (UINT64_MAX - digit) / 10;
        number = number * 10 + digit;
    }
    if (!valid)
        reader_fail(self, XAI_ERROR_FORMAT, "external data %s '%.40s' is not a number", key, value);
    return valid ? number : 0;
}

/* A reference into the list is only good until the next call. */
static const file_view *external_view(reader *self, const char *location)
{
    onnx_storage *storage = self->storage;
    for (size_t i = storage->external_count; i > 0;
         i--) /* the last one first: tensors of a file come in a row */
        if (strcmp(storage->externals[i - 1].location, location) == 0)
            return &storage->externals[i - 1].view;

    size_t total = storage->external_count;
    if (!reader_count(self, &total, 1, ONNX_EXTERNAL_FILE_LIMIT, "external data files"))
        return NULL;
    void *list = storage->externals;
    const bool reserved =
        array_reserve(&list, &storage->external_capacity, total, sizeof *storage->externals);
    storage->externals = list;
    external_file fresh = {reserved ? text_duplicate(location) : NULL, {0}};
    if (!fresh.location) {
        reader_fail(self, XAI_ERROR_MEMORY, "out of memory for external data");
        return NULL;
    }
    xai_error *why = NULL;
    const xai_status status = file_map_beneath(storage->folder, location, &fresh.view, &why);
    if (status != XAI_OK) {
        reader_fail(self, status, "%s", xai_error_message(why));
        xai_error_free(why);
        memory_free(fresh.location);
        return NULL;
    }
    storage->externals[storage->external_count++] = fresh;
    return &storage->externals[storage->external_count - 1].view;
}

const uint8_t *external_payload(reader *self, const onnx_property *entries, size_t count,
                                size_t bytes)
{
    if (self->status != XAI_OK)
        return NULL;
    if (!self->storage->folder) {
        reader_fail(self, XAI_ERROR_UNSUPPORTED,
                    "external data needs a model opened from a file, not from memory");
        return NULL;
    }
    const char *location = entry_value(self, entries, count, "location");
    const uint64_t offset = entry_number(self, entries, count, "offset", 0);
    const uint64_t length = entry_number(self, entries, count, "length", bytes);
    if (!location)
        reader_fail(self, XAI_ERROR_FORMAT, "external data has no location");
    if (length != bytes)
        reader_fail(self, XAI_ERROR_FORMAT, "external data has %llu bytes, type and shape need %zu",
                    (unsigned long long)length, bytes);
    if (self->status != XAI_OK)
        return NULL;
    const file_view *view = external_view(self, location);
    if (!view)
        return NULL;
    if (offset > view->size || length > view->size - offset) {
        reader_fail(self, XAI_ERROR_FORMAT,
                    "external data '%s' has %zu bytes, the tensor needs %llu from byte %llu",
                    location, view->size, (unsigned long long)length, (unsigned long long)offset);
        return NULL;
    }
    return view->bytes ? view->bytes + offset : (const uint8_t *)"";
}
