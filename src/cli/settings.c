/* Options of a method from the command line: numbers, text and NPY files. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli.h"
#include "input.h"

/* The kinds of value that an option takes; 0 when the method has none of that name. */
static int32_t kinds_of(const char *method, const char *name)
{
    for (size_t i = 0; i < xai_method_option_count(method); i++)
        if (strcmp(xai_method_option_name(method, i), name) == 0)
            return xai_method_option_kinds(method, i);
    return 0;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text), tail = strlen(end);
    return length > tail && strcmp(text + length - tail, end) == 0;
}

static bool set_tensor(xai_explainer_options *options, const char *name, size_t input,
                       const xai_tensor *values)
{
    xai_error *error = NULL;
    if (xai_explainer_options_set_tensor(options, name, input, values, &error) == XAI_OK)
        return true;
    report_error(name, error);
    return false;
}

static bool set_array(xai_explainer_options *options, const xai_model *model, const char *name,
                      size_t input, const char *path)
{
    const bool labels = strcmp(name, "segments") == 0; /* of (H, W) or (N, H, W): no input's axes */
    xai_tensor *values = npy_read(labels ? NULL : model, input, path);
    const bool done = values && set_tensor(options, name, input, values);
    xai_tensor_free(values);
    return done;
}

static bool is_float(int32_t dtype)
{
    return dtype == XAI_DTYPE_FLOAT32 || dtype == XAI_DTYPE_FLOAT64 || dtype == XAI_DTYPE_FLOAT16 ||
           dtype == XAI_DTYPE_BFLOAT16;
}

/* One number for all of an input, in a type of its kind. */
static bool set_scalar(xai_explainer_options *options, const xai_model *model, const char *name,
                       size_t input, const char *value)
{
    const bool real = is_float(xai_model_input_dtype(model, input));
    xai_error *error = NULL;
    xai_tensor *made = NULL;
    char *end = NULL;
    errno = 0;
    const float number = strtof(value, &end);
    const int64_t whole = real ? 0 : strtoll(value, &end, 10);
    if (!*value || *end != '\0' || errno != 0) {
        report("option --%s: '%s' for input '%s' is neither %s nor a file .npy", name, value,
               xai_model_input_name(model, input), real ? "a number" : "an integer");
        return false;
    }
    const void *data = real ? (const void *)&number : (const void *)&whole;
    if (xai_tensor_create(real ? XAI_DTYPE_FLOAT32 : XAI_DTYPE_INT64, 0, NULL, data, &made,
                          &error) != XAI_OK) {
        report_error(name, error);
        return false;
    }
    const bool done = set_tensor(options, name, input, made);
    xai_tensor_free(made);
    return done;
}

/* The input whose name and '=' a text begins with; the number of inputs when there is none. */
static size_t named_input(const xai_model *model, const char *text)
{
    const size_t count = xai_model_input_count(model);
    for (size_t i = 0; i < count; i++) {
        const char *name = xai_model_input_name(model, i);
        const size_t length = strlen(name);
        if (length > 0 && strncmp(text, name, length) == 0 && text[length] == '=')
            return i;
    }
    return count;
}

/* "ids=103,table=means.npy": a value for each input that is named. */
static bool set_named(xai_explainer_options *options, const xai_model *model, const char *name,
                      const char *values)
{
    const size_t count = xai_model_input_count(model);
    char *copy = memory_copy(values, strlen(values) + 1);
    bool done = copy != NULL;
    if (!done)
        report("out of memory");
    for (char *at = copy, *next; done && at; at = next) {
        const size_t input = named_input(model, at);
        char *value = at + strlen(xai_model_input_name(model, input)) + 1;
        for (next = strchr(value, ','); next && named_input(model, next + 1) == count;)
            next = strchr(next + 1, ',');
        if (next)
            *next++ = '\0';
        done = ends_with(value, ".npy") ? set_array(options, model, name, input, value)
                                        : set_scalar(options, model, name, input, value);
    }
    memory_free(copy);
    return done;
}

/* What the method knows decides between a number, a file and text; xai_explainer_create() refuses
 * what does not fit. */
static bool set_one(xai_explainer_options *options, const xai_model *model, const char *method,
                    const char *name, const char *value)
{
    const int32_t kinds = kinds_of(method, name);
    xai_error *error = NULL;
    char *end = NULL;
    if ((kinds & XAI_OPTION_TENSOR) && named_input(model, value) < xai_model_input_count(model))
        return set_named(options, model, name, value);
    if ((kinds & XAI_OPTION_TENSOR) && ends_with(value, ".npy"))
        return set_array(options, model, name, 0, value);
    errno = 0;
    const double number = strtod(value, &end);
    const bool is_number = *value && *end == '\0' && isfinite(number);
    const xai_status status = (kinds & XAI_OPTION_NUMBER) && is_number
                                  ? xai_explainer_options_set_number(options, name, number, &error)
                                  : xai_explainer_options_set_text(options, name, value, &error);
    if (status != XAI_OK)
        report_error(name, error);
    return status == XAI_OK;
}

bool settings_apply(const setting_list *list, xai_explainer_options *options,
                    const xai_model *model, const char *method)
{
    for (size_t i = 0; i < list->count; i++) {
        const char *equals = strchr(list->texts[i], '=');
        char name[64];
        const size_t length = equals ? (size_t)(equals - list->texts[i]) : 0;
        if (length == 0 || length >= sizeof name) {
            report("option --option: '%s' is not NAME=VALUE", list->texts[i]);
            return false;
        }
        memcpy(name, list->texts[i], length);
        name[length] = '\0';
        if (!set_one(options, model, method, name, equals + 1))
            return false;
    }
    for (size_t i = 0; i < SETTING_NAMES; i++)
        if (list->named[i] && !set_one(options, model, method, setting_names[i], list->named[i]))
            return false;
    return true;
}

const char *const setting_names[SETTING_NAMES] = {
    "samples", "steps", "seed", "noise", "tolerance", "baseline", "background", "segments"};
