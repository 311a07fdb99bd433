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

static bool set_array(xai_explainer_options *options, const xai_model *model, const char *name,
                      const char *path)
{
    xai_error *error = NULL;
    xai_tensor *values = npy_read(model, path);
    if (!values)
        return false;
    const bool done = xai_explainer_options_set_tensor(options, name, 0, values, &error) == XAI_OK;
    if (!done)
        report_error(name, error);
    xai_tensor_free(values);
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
    if ((kinds & XAI_OPTION_TENSOR) && ends_with(value, ".npy"))
        return set_array(options, model, name, value);
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
