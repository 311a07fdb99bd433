#include "explain/options.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

struct shared_tensor {
    atomic_size_t references;
    tensor value;
};

size_t option_count(const option_definition *table)
{
    size_t count = 0;
    while (table != NULL && table[count].name != NULL)
        count++;
    return count;
}

const option_definition *option_find(const option_definition *table, const char *name)
{
    for (size_t i = 0; i < option_count(table); i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

/* Values */

static void shared_release(shared_tensor *self)
{
    if (self == NULL || atomic_fetch_sub(&self->references, 1) > 1)
        return;
    tensor_free(&self->value);
    memory_free(self);
}

static void value_clear(option_value *self)
{
    for (size_t i = 0; i < self->tensor_count; i++)
        shared_release(self->tensors[i]);
    memory_free((void *)self->tensors);
    memory_free(self->text);
    self->tensors = NULL;
    self->tensor_count = 0;
    self->text = NULL;
}

void option_list_free(option_list *self)
{
    for (size_t i = 0; i < self->count; i++) {
        value_clear(&self->items[i]);
        memory_free(self->items[i].name);
    }
    memory_free(self->items);
    *self = (option_list){0};
}

/* The entry of a name, added when there is none. */
static option_value *find_or_add(option_list *self, const char *name)
{
    for (size_t i = 0; i < self->count; i++)
        if (strcmp(self->items[i].name, name) == 0)
            return &self->items[i];
    char *copy = text_duplicate(name);
    void *items = self->items;
    const bool grown = copy != NULL &&
                       array_reserve(&items, &self->capacity, self->count + 1, sizeof *self->items);
    self->items = items;
    if (!grown) {
        memory_free(copy);
        return NULL;
    }
    self->items[self->count] = (option_value){.name = copy};
    return &self->items[self->count++];
}

xai_status option_list_set_number(option_list *self, const char *name, double number,
                                  xai_error **error)
{
    option_value *value = find_or_add(self, name);
    if (value == NULL)
        return error_memory(error, "an option", sizeof *value);
    value_clear(value);
    value->kind = OPTION_NUMBER;
    value->number = number;
    return XAI_OK;
}

xai_status option_list_set_text(option_list *self, const char *name, const char *given,
                                xai_error **error)
{
    char *copy = text_duplicate(given);
    option_value *value = copy != NULL ? find_or_add(self, name) : NULL;
    if (value == NULL) {
        memory_free(copy);
        return error_memory(error, "an option", strlen(given));
    }
    value_clear(value);
    value->kind = OPTION_TEXT;
    value->text = copy;
    return XAI_OK;
}

xai_status option_list_set_tensor(option_list *self, const char *name, size_t input,
                                  const tensor *source, xai_error **error)
{
    shared_tensor *made = memory_allocate_zeroed(1, sizeof *made);
    if (made == NULL)
        return error_memory(error, "an option", sizeof *made);
    atomic_init(&made->references, 1);
    xai_status status = tensor_copy(&made->value, source, error);
    option_value *value = status == XAI_OK ? find_or_add(self, name) : NULL;
    if (status == XAI_OK && value == NULL)
        status = error_memory(error, "an option", sizeof *value);
    if (status == XAI_OK && value->kind != OPTION_TENSOR)
        value_clear(value);
    if (status == XAI_OK && input >= value->tensor_count) {
        shared_tensor **grown =
            memory_resize((void *)value->tensors, input + 1, sizeof *value->tensors);
        if (grown == NULL) {
            status = error_memory(error, "an option", (input + 1) * sizeof *grown);
        } else {
            value->tensors = grown;
            while (value->tensor_count <= input)
                value->tensors[value->tensor_count++] = NULL;
        }
    }
    if (status != XAI_OK) {
        shared_release(made);
        return status;
    }
    shared_release(value->tensors[input]);
    value->tensors[input] = made;
    value->kind = OPTION_TENSOR;
    return XAI_OK;
}

void option_list_remove(option_list *self, const char *name)
{
    for (size_t i = 0; i < self->count; i++) {
        if (strcmp(self->items[i].name, name) != 0)
            continue;
        value_clear(&self->items[i]);
        memory_free(self->items[i].name);
        self->items[i] = self->items[--self->count];
        return;
    }
}

static xai_status copy_value(option_value *to, const option_value *from, xai_error **error)
{
    to->kind = from->kind;
    to->number = from->number;
    if (from->text != NULL && (to->text = text_duplicate(from->text)) == NULL)
        return error_memory(error, "an option", strlen(from->text));
    if (from->tensor_count == 0)
        return XAI_OK;
    to->tensors = memory_allocate_zeroed(from->tensor_count, sizeof *to->tensors);
    if (to->tensors == NULL)
        return error_memory(error, "an option", from->tensor_count * sizeof *to->tensors);
    to->tensor_count = from->tensor_count;
    for (size_t i = 0; i < from->tensor_count; i++) {
        to->tensors[i] = from->tensors[i];
        if (to->tensors[i] != NULL)
            atomic_fetch_add(&to->tensors[i]->references, 1);
    }
    return XAI_OK;
}

xai_status option_list_copy(option_list *self, const option_list *from, xai_error **error)
{
    *self = (option_list){0};
    for (size_t i = 0; i < from->count; i++) {
        option_value *to = find_or_add(self, from->items[i].name);
        const xai_status status = to != NULL ? copy_value(to, &from->items[i], error)
                                             : error_memory(error, "an option", sizeof *to);
        if (status != XAI_OK) {
            option_list_free(self);
            return status;
        }
    }
    return XAI_OK;
}

/* Checks */

/* "samples, seed and noise". */
static void append_names(text *out, const option_definition *table)
{
    const size_t count = option_count(table);
    for (size_t i = 0; i < count; i++) {
        text_append(out, i == 0 ? "" : i + 1 == count ? " and " : ", ");
        text_append(out, table[i].name);
    }
}

static xai_status unknown_option(const char *name, const option_definition *table,
                                 const char *method, xai_error **error)
{
    text names = {0};
    append_names(&names, table);
    error_set(error, XAI_ERROR_ARGUMENT, "option", "the method '%s' has no option '%.80s'%s%s",
              method, name, names.bytes != NULL ? "; it has " : "; it has none",
              names.bytes != NULL ? names.bytes : "");
    text_free(&names);
    return XAI_ERROR_ARGUMENT;
}

/* Whether a text is one of "mean|blur|grid:". */
static bool is_choice(const char *choices, const char *given)
{
    for (const char *at = choices; *at != '\0';) {
        const char *end = strchr(at, '|');
        const size_t length = end != NULL ? (size_t)(end - at) : strlen(at);
        if (strncmp(given, at, length) == 0 &&
            (given[length] == '\0' || (length > 0 && at[length - 1] == ':')))
            return true;
        at += length + (end != NULL);
    }
    return false;
}

static xai_status wrong_kind(const option_definition *wanted, xai_error **error)
{
    static const char *const names[] = {"",
                                        "a number",
                                        "a text",
                                        "a number or a text",
                                        "an array",
                                        "a number or an array",
                                        "a text or an array",
                                        "a number, a text or an array"};
    return error_set(error, XAI_ERROR_ARGUMENT, "option", "%s: %s is needed: %s", wanted->name,
                     names[wanted->kinds & 7], wanted->description);
}

/* A count of 0 is none: it asks for the default. */
static bool is_default(const option_value *self, const option_definition *wanted)
{
    return self->kind == OPTION_NUMBER && (wanted->kinds & OPTION_NUMBER) != 0 && wanted->whole &&
           wanted->lowest > 0 && self->number == 0;
}

void option_list_drop_zeros(option_list *self, const option_definition *table)
{
    for (size_t i = self->count; i-- > 0;) {
        const option_definition *wanted = option_find(table, self->items[i].name);
        if (wanted != NULL && is_default(&self->items[i], wanted))
            option_list_remove(self, wanted->name);
    }
}

static xai_status check_value(const option_value *self, const option_definition *wanted,
                              xai_error **error)
{
    if ((wanted->kinds & self->kind) == 0)
        return wrong_kind(wanted, error);
    if (is_default(self, wanted))
        return XAI_OK;
    if (self->kind == OPTION_NUMBER) {
        const double number = self->number;
        if (!(number >= wanted->lowest && number <= wanted->highest))
            return error_set(error, XAI_ERROR_ARGUMENT, "option", "%s: %g is not in [%g, %g]",
                             wanted->name, number, wanted->lowest, wanted->highest);
        if (wanted->whole && number != floor(number))
            return error_set(error, XAI_ERROR_ARGUMENT, "option", "%s: %g is not a whole number",
                             wanted->name, number);
    }
    if (self->kind == OPTION_TEXT && wanted->choices != NULL &&
        !is_choice(wanted->choices, self->text))
        return error_set(error, XAI_ERROR_ARGUMENT, "option", "%s: '%.80s' is not one of %s",
                         wanted->name, self->text, wanted->choices);
    return XAI_OK;
}

xai_status option_list_check(const option_list *self, const option_definition *table,
                             const char *method, xai_error **error)
{
    for (size_t i = 0; i < self->count; i++) {
        const option_definition *wanted = option_find(table, self->items[i].name);
        const xai_status status = wanted != NULL
                                      ? check_value(&self->items[i], wanted, error)
                                      : unknown_option(self->items[i].name, table, method, error);
        if (status != XAI_OK)
            return status;
    }
    return XAI_OK;
}

/* Reading */

const option_value *option_given(const option_list *self, const char *name)
{
    for (size_t i = 0; i < self->count; i++)
        if (strcmp(self->items[i].name, name) == 0)
            return &self->items[i];
    return NULL;
}

double option_number(const option_list *self, const option_definition *table, const char *name)
{
    const option_value *given = option_given(self, name);
    if (given != NULL && given->kind == OPTION_NUMBER)
        return given->number;
    const option_definition *known = option_find(table, name);
    return known != NULL ? known->number : NAN;
}

const char *option_text(const option_list *self, const char *name)
{
    const option_value *given = option_given(self, name);
    return given != NULL && given->kind == OPTION_TEXT ? given->text : NULL;
}

const tensor *option_tensor(const option_list *self, const char *name, size_t input)
{
    const option_value *given = option_given(self, name);
    if (given == NULL || input >= given->tensor_count || given->tensors[input] == NULL)
        return NULL;
    return &given->tensors[input]->value;
}
