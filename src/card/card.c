#include "card/card.h"
#include "card/class_labels.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "json/json.h"

#ifdef _WIN32
#include "base/windows_text.h"
#define open_file windows_open
#else
#define open_file fopen
#endif

enum { MAX_LABELS = 1 << 20, MAX_CHANNELS = 4096, MAX_SIDE = 1 << 16 };

/* Where an entry came from, for messages: "card.json: key 'input.range'". */
typedef struct reader {
    model_card *card;
    const char *place;  /* the file, or the model's metadata */
    const char *prefix; /* of the keys there: "xai." or "" */
    const char *key;    /* without the prefix */
    xai_error **error;
} reader;

static xai_status bad_entry(const reader *self, const char *expected)
{
    return error_set(self->error, XAI_ERROR_FORMAT, self->place,
                     "model card: key '%s%.100s' must be %s", self->prefix, self->key, expected);
}

static xai_status out_of_memory(const reader *self)
{
    return error_memory(self->error, "the model card", 0);
}

static void free_labels(model_card *card)
{
    for (size_t i = 0; i < card->label_count; i++)
        memory_free(card->labels[i]);
    memory_free(card->labels);
    card->labels = NULL;
    card->label_count = 0;
}

void card_free(model_card *self)
{
    if (!self)
        return;
    free_labels(self);
    memory_free(self->mean);
    memory_free(self->deviation);
    memory_free(self);
}

static xai_status set_labels(const reader *self, const json_value *value)
{
    static const char expected[] = "a list of non-empty texts, one for each score";
    const size_t count = json_count(value);
    if (json_type(value) != JSON_ARRAY || count == 0 || count > MAX_LABELS)
        return bad_entry(self, expected);
    free_labels(self->card);
    self->card->labels = memory_allocate_zeroed(count, sizeof *self->card->labels);
    if (!self->card->labels)
        return out_of_memory(self);
    for (size_t i = 0; i < count; i++) {
        const char *label = json_text(json_item(value, i));
        if (!label || !*label)
            return bad_entry(self, expected);
        self->card->labels[i] = text_duplicate(label);
        if (!self->card->labels[i])
            return out_of_memory(self);
        self->card->label_count++;
    }
    return XAI_OK;
}

/* A number, or a list of up to `capacity` numbers; all finite. */
static bool read_numbers(const json_value *value, double *out, size_t capacity, size_t *count)
{
    if (json_number(value, out)) {
        *count = 1;
        return isfinite(*out);
    }
    *count = json_count(value);
    if (json_type(value) != JSON_ARRAY || *count == 0 || *count > capacity)
        return false;
    for (size_t i = 0; i < *count; i++)
        if (!json_number(json_item(value, i), &out[i]) || !isfinite(out[i]))
            return false;
    return true;
}

static xai_status set_range(const reader *self, const json_value *value)
{
    double range[2];
    size_t count;
    if (!read_numbers(value, range, 2, &count) || count != 2 || range[0] >= range[1])
        return bad_entry(self, "two numbers, the lower (black) first, such as 0 1");
    self->card->has_range = true;
    self->card->low = range[0];
    self->card->high = range[1];
    return XAI_OK;
}

static xai_status set_channel_numbers(const reader *self, const json_value *value, bool positive,
                                      double **out, size_t *out_count)
{
    size_t count = json_type(value) == JSON_ARRAY ? json_count(value) : 1;
    const char *expected =
        positive ? "one positive number, or one a channel" : "one number, or one a channel";
    if (count == 0 || count > MAX_CHANNELS)
        return bad_entry(self, expected);
    double *numbers = memory_allocate(count, sizeof *numbers);
    if (!numbers)
        return out_of_memory(self);
    bool good = read_numbers(value, numbers, count, &count);
    for (size_t i = 0; good && i < count; i++)
        good = !positive || numbers[i] > 0;
    if (!good) {
        memory_free(numbers);
        return bad_entry(self, expected);
    }
    memory_free(*out);
    *out = numbers;
    *out_count = count;
    return XAI_OK;
}

static bool is_whole(double number, double highest)
{
    return number >= 1 && number <= highest && number == floor(number);
}

static xai_status set_size(const reader *self, const json_value *value)
{
    double size[2];
    size_t count;
    if (!read_numbers(value, size, 2, &count) || !is_whole(size[0], MAX_SIDE) ||
        !is_whole(size[count - 1], MAX_SIDE))
        return bad_entry(self, "height and width in pixels, or one number for both");
    self->card->height = (int64_t)size[0];
    self->card->width = (int64_t)size[count - 1];
    return XAI_OK;
}

static xai_status set_channels(const reader *self, const json_value *value)
{
    double channels;
    size_t count;
    if (!read_numbers(value, &channels, 1, &count) || !is_whole(channels, MAX_CHANNELS))
        return bad_entry(self, "a positive whole number");
    self->card->channels = (int64_t)channels;
    return XAI_OK;
}

static xai_status set_score(const reader *self, const json_value *value)
{
    static const struct {
        const char *word;
        int score, activation;
    } words[] = {
        {"logit", CARD_SCORE_LOGIT, CARD_ACTIVATION_UNKNOWN},
        {"logit-sigmoid", CARD_SCORE_LOGIT, CARD_ACTIVATION_SIGMOID},
        {"logit-softmax", CARD_SCORE_LOGIT, CARD_ACTIVATION_SOFTMAX},
        {"probability", CARD_SCORE_PROBABILITY, CARD_ACTIVATION_UNKNOWN},
        {"value", CARD_SCORE_VALUE, CARD_ACTIVATION_UNKNOWN},
    };
    const char *word = json_text(value);
    for (size_t i = 0; word && i < sizeof words / sizeof *words; i++)
        if (strcmp(word, words[i].word) == 0) {
            self->card->score = words[i].score;
            if (words[i].activation != CARD_ACTIVATION_UNKNOWN)
                self->card->activation = words[i].activation;
            return XAI_OK;
        }
    return bad_entry(
        self, "\"logit\", \"logit-sigmoid\", \"logit-softmax\", \"probability\" or \"value\"");
}

static xai_status set_activation(const reader *self, const json_value *value)
{
    const char *word = json_text(value);
    if (word && strcmp(word, "sigmoid") == 0)
        self->card->activation = CARD_ACTIVATION_SIGMOID;
    else if (word && strcmp(word, "softmax") == 0)
        self->card->activation = CARD_ACTIVATION_SOFTMAX;
    else
        return bad_entry(self, "\"sigmoid\" or \"softmax\"");
    return XAI_OK;
}

enum entry_kind { ENTRY_UNKNOWN, ENTRY_LABELS, ENTRY_NUMBERS, ENTRY_WORD };

/* How the text of a metadata entry is to be read. */
static enum entry_kind kind_of(const char *key)
{
    static const char *const numbers[] = {"input.range", "input.mean", "input.std", "input.size",
                                          "input.channels"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(key, numbers[i]) == 0)
            return ENTRY_NUMBERS;
    if (strcmp(key, "labels") == 0)
        return ENTRY_LABELS;
    if (strcmp(key, "output.score") == 0 || strcmp(key, "output.activation") == 0)
        return ENTRY_WORD;
    return ENTRY_UNKNOWN;
}

/* One entry. A key of `input.` or `output.` that nobody knows is an error: an ignored misspelling of `input.mean` would change
 * every score. Other unknown keys are the author's own. */
static xai_status set_entry(const reader *self, const json_value *value)
{
    const char *key = self->key;
    if (strcmp(key, "labels") == 0)
        return set_labels(self, value);
    if (strcmp(key, "input.range") == 0)
        return set_range(self, value);
    if (strcmp(key, "input.mean") == 0)
        return set_channel_numbers(self, value, false, &self->card->mean, &self->card->mean_count);
    if (strcmp(key, "input.std") == 0)
        return set_channel_numbers(self, value, true, &self->card->deviation,
                                   &self->card->deviation_count);
    if (strcmp(key, "input.size") == 0)
        return set_size(self, value);
    if (strcmp(key, "input.channels") == 0)
        return set_channels(self, value);
    if (strcmp(key, "output.score") == 0)
        return set_score(self, value);
    if (strcmp(key, "output.activation") == 0)
        return set_activation(self, value);
    if (strncmp(key, "input.", 6) == 0 || strncmp(key, "output.", 7) == 0)
        return error_set(
            self->error, XAI_ERROR_FORMAT, self->place,
            "model card: key '%s%.100s' is not known (input.range, input.mean, input.std, "
            "input.size, input.channels, output.score, output.activation)",
            self->prefix, key);
    return XAI_OK;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The parts of a text between separators, as a JSON list: numbers as they stand, words quoted. A last empty part is dropped. */
static void append_list(text *out, const char *from, const char *separators, bool quoted)
{
    bool first = true;
    text_append(out, "[");
    while (*from) {
        size_t length = strcspn(from, separators);
        const char *part = from;
        from += length + (from[length] != '\0');
        while (length > 0 && is_space(*part)) {
            part++;
            length--;
        }
        while (length > 0 && is_space(part[length - 1]))
            length--;
        if (length == 0 && (!quoted || !*from))
            continue;
        text_append(out, first ? "" : ",");
        first = false;
        text word = {0};
        text_append_bytes(&word, part, length);
        if (quoted)
            text_append_json(out, word.bytes ? word.bytes : "");
        else
            text_append_bytes(out, part, length);
        out->failed = out->failed || word.failed;
        text_free(&word);
    }
    text_append(out, "]");
}

/* A metadata text becomes the JSON that a file would hold. */
static xai_status set_text_entry(const reader *self, const char *value)
{
    const enum entry_kind kind = kind_of(self->key);
    json_value *parsed = NULL;
    xai_error *cause = NULL;
    text json = {0};
    while (is_space(*value))
        value++;
    if (kind == ENTRY_UNKNOWN)
        return set_entry(self, NULL);
    if (kind == ENTRY_WORD) {
        size_t length = strlen(value);
        while (length > 0 && is_space(value[length - 1]))
            length--;
        text word = {0};
        text_append_bytes(&word, value, length);
        text_append_json(&json, word.bytes ? word.bytes : "");
        text_free(&word);
    } else if (*value == '[') {
        text_append(&json, value);
    } else if (kind == ENTRY_LABELS) {
        append_list(&json, value, strchr(value, '\n') ? "\n" : ",", true);
    } else {
        append_list(&json, value, " \t\r\n,;", false);
    }
    if (json.failed || !json.bytes) {
        text_free(&json);
        return out_of_memory(self);
    }
    xai_status status = json_parse(json.bytes, json.length, &parsed, &cause);
    if (status == XAI_OK)
        status = set_entry(self, parsed);
    else if (status == XAI_ERROR_MEMORY)
        status = out_of_memory(self);
    else
        status = error_set(self->error, XAI_ERROR_FORMAT, self->place,
                           "model card: key '%s%.100s' is neither a JSON list nor plain text: %s",
                           self->prefix, self->key, xai_error_message(cause));
    xai_error_free(cause);
    json_free(parsed);
    text_free(&json);
    return status;
}

static xai_status read_metadata(reader *self, const onnx_model *model)
{
    self->place = "metadata";
    self->prefix = "xai.";
    for (size_t i = 0; i < model->property_count; i++) {
        const onnx_property *property = &model->properties[i];
        if (strncmp(property->key, "xai.", 4) != 0)
            continue;
        self->key = property->key + 4;
        const xai_status status = set_text_entry(self, property->value);
        if (status != XAI_OK)
            return status;
    }
    return XAI_OK;
}

/* Members of the file's object; those of "input" and "output" objects as "input.range", ... */
static xai_status read_members(reader *self, const json_value *object, const char *section)
{
    for (size_t i = 0; i < json_count(object); i++) {
        const char *name = json_name(object, i);
        const json_value *value = json_item(object, i);
        xai_status status = XAI_OK;
        if (!*section && strncmp(name, "xai.", 4) == 0)
            name += 4; /* as in the metadata */
        if (!*section && (strcmp(name, "input") == 0 || strcmp(name, "output") == 0)) {
            self->key = name;
            if (json_type(value) != JSON_OBJECT)
                return bad_entry(self, "an object");
            status = read_members(self, value, name);
        } else {
            text key = {0};
            text_format(&key, "%s%s%s", section, *section ? "." : "", name);
            if (key.failed || !key.bytes) {
                status = out_of_memory(self);
            } else {
                self->key = key.bytes;
                status = set_entry(self, value);
            }
            text_free(&key);
        }
        if (status != XAI_OK)
            return status;
    }
    return XAI_OK;
}

char *card_path(const char *model_path)
{
    const size_t length = strlen(model_path);
    const bool onnx = length > 5 && strcmp(model_path + length - 5, ".onnx") == 0;
    text path = {0};
    text_append_bytes(&path, model_path, onnx ? length - 5 : length);
    text_append(&path, ".xai.json");
    return text_take(&path);
}

/* The whole file; *bytes NULL when there is none. */
static xai_status read_whole(const char *path, char **bytes, size_t *size, xai_error **error)
{
    *bytes = NULL;
    *size = 0;
    FILE *file = open_file(path, "rb");
    if (!file) {
        if (errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG)
            return XAI_OK;
        return error_set(error, XAI_ERROR_FILE, path, "the model card cannot be opened: %s",
                         strerror(errno));
    }
    xai_status status = XAI_OK;
    size_t capacity = 4096, used = 0;
    char *buffer = memory_allocate(capacity, 1);
    while (buffer) {
        used += fread(buffer + used, 1, capacity - used, file);
        if (used < capacity)
            break;
        if (capacity > JSON_SIZE_LIMIT) {
            status = error_set(error, XAI_ERROR_FORMAT, path,
                               "the model card is larger than %zu MiB", JSON_SIZE_LIMIT >> 20);
            break;
        }
        char *larger = memory_resize(buffer, 2 * capacity, 1);
        if (!larger) {
            memory_free(buffer);
            buffer = NULL;
            break;
        }
        buffer = larger;
        capacity *= 2;
    }
    if (!buffer)
        status = error_memory(error, "the model card", capacity);
    else if (status == XAI_OK && ferror(file))
        status = error_set(error, XAI_ERROR_FILE, path, "the model card cannot be read");
    fclose(file);
    if (status == XAI_OK) {
        *bytes = buffer;
        *size = used;
    } else {
        memory_free(buffer);
    }
    return status;
}

static xai_status read_file(reader *self, const char *model_path)
{
    char *path = card_path(model_path), *bytes = NULL;
    size_t size = 0;
    json_value *root = NULL;
    xai_status status = path ? read_whole(path, &bytes, &size, self->error) : out_of_memory(self);
    if (status != XAI_OK || !bytes)
        goto done;
    self->place = path;
    self->prefix = "";
    status = json_parse(bytes, size, &root, self->error);
    if (status != XAI_OK) {
        error_add_place(self->error, path);
        goto done;
    }
    if (json_type(root) != JSON_OBJECT) {
        status = error_set(self->error, XAI_ERROR_FORMAT, path,
                           "a model card is a JSON object, not %s", json_type_name(root));
        goto done;
    }
    status = read_members(self, root, "");
done:
    json_free(root);
    memory_free(bytes);
    memory_free(path);
    return status;
}

/* Entries that are good alone may contradict each other. */
static xai_status check_card(const model_card *card, const char *place, xai_error **error)
{
    const size_t counts[2] = {card->mean_count, card->deviation_count};
    size_t channels = (size_t)card->channels;
    for (int i = 0; i < 2; i++) {
        if (counts[i] <= 1)
            continue;
        if (channels != 0 && counts[i] != channels)
            return error_set(error, XAI_ERROR_FORMAT, place,
                             "model card: key '%s' has %zu numbers for %zu channels",
                             i ? "input.std" : "input.mean", counts[i], channels);
        channels = counts[i];
    }
    if (card->activation != CARD_ACTIVATION_UNKNOWN && card->score == CARD_SCORE_UNKNOWN)
        return error_set(
            error, XAI_ERROR_FORMAT, place,
            "model card: key 'output.activation' needs 'output.score', which says "
            "whether the activation is part of the model (probability) or not (logit)");
    return XAI_OK;
}

xai_status card_load(const onnx_model *model, const char *path, model_card **out, xai_error **error)
{
    reader self = {.card = memory_allocate_zeroed(1, sizeof *self.card), .error = error};
    xai_status status = self.card ? read_metadata(&self, model) : out_of_memory(&self);
    if (status == XAI_OK && path)
        status = read_file(&self, path);
    if (status == XAI_OK)
        status = check_card(self.card, path, error);
    if (status == XAI_OK && self.card->label_count == 0 &&
        !card_add_class_labels(self.card, model, MAX_LABELS))
        status = out_of_memory(&self);
    if (status == XAI_OK)
        *out = self.card;
    else
        card_free(self.card);
    return status;
}
