#include "cli.h"
#include "system.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool progress_shown;
static time_t progress_begun;

void progress_end(void)
{
    if (progress_shown)
        fputs("\r\033[K", stderr);
    progress_shown = false;
}

/* One line, whatever the arguments hold: control characters (a path may have them) become '?'. */
static void print_line(const char *prefix, const char *format, va_list arguments)
{
    char line[8192];
    const int length = snprintf(line, sizeof line, "%s", prefix);
    vsnprintf(line + length, sizeof line - (size_t)length, format, arguments);
    for (char *c = line; *c; c++)
        if (iscntrl((unsigned char)*c))
            *c = '?';
    progress_end();
    fprintf(stderr, "%s\n", line);
}

int report(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_line("xai: ", format, arguments);
    va_end(arguments);
    return EXIT_FAILED;
}

int report_error(const char *what, xai_error *error)
{
    report("%s%s%s", what ? what : "", what ? ": " : "",
           error ? xai_error_message(error) : "unknown error");
    xai_error_free(error);
    return EXIT_FAILED;
}

int report_usage(const char *command, const char *format, ...)
{
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    report("%s%s%s; see 'xai help%s%s'", command ? command : "", command ? ": " : "", line,
           command ? " " : "", command ? command : "");
    return EXIT_USAGE;
}

static bool set_value(const option *self, const char *text)
{
    char *end = NULL;
    errno = 0;
    switch (self->kind) {
    case OPTION_TEXT:
        *(const char **)self->value = text;
        return true;
    case OPTION_LIST: {
        setting_list *list = self->value;
        if (list->count == SETTINGS_MAX)
            return false;
        list->texts[list->count++] = text;
        return true;
    }
    case OPTION_COUNT: {
        const long long number = strtoll(text, &end, 10);
        *(int64_t *)self->value = number;
        return isdigit((unsigned char)*text) && *end == '\0' && errno == 0;
    }
    case OPTION_NUMBER: {
        const double number = strtod(text, &end);
        *(double *)self->value = number;
        return end != text && *end == '\0' && isfinite(number);
    }
    case OPTION_FLAG:
        break;
    }
    return false;
}

static const option *find_option(const char *argument, size_t length, const option *options,
                                 size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const bool is_long =
            strlen(options[i].name) == length && memcmp(options[i].name, argument, length) == 0;
        if (is_long || (length == 2 && options[i].letter && argument[1] == options[i].letter))
            return &options[i];
    }
    return NULL;
}

int arguments_parse(const char *command, int count, char **arguments, const option *options,
                    size_t option_count, const char **positional, size_t limit,
                    size_t *positional_count)
{
    bool only_positional = false;
    *positional_count = 0;
    for (int i = 0; i < count; i++) {
        const char *argument = arguments[i];
        if (only_positional || argument[0] != '-' || argument[1] == '\0') {
            if (*positional_count == limit)
                return report_usage(command, "unexpected argument '%s'", argument);
            positional[(*positional_count)++] = argument;
            continue;
        }
        if (strcmp(argument, "--") == 0) {
            only_positional = true;
            continue;
        }
        const char *equals = argument[1] == '-' ? strchr(argument, '=') : NULL;
        const size_t length = equals ? (size_t)(equals - argument) : strlen(argument);
        const option *found = find_option(argument, length, options, option_count);
        if (!found)
            return report_usage(command, "unknown option '%.*s'", (int)length, argument);
        if (found->kind == OPTION_FLAG) {
            if (equals)
                return report_usage(command, "option %s takes no value", found->name);
            *(bool *)found->value = true;
            continue;
        }
        if (!equals && i + 1 == count)
            return report_usage(command, "option %s needs a value", found->name);
        const char *value = equals ? equals + 1 : arguments[++i];
        if (!set_value(found, value))
            return report_usage(command, "option %s: '%s' is not a%s number", found->name, value,
                                found->kind == OPTION_COUNT ? " whole" : "");
    }
    return EXIT_OK;
}

/* A bar, and how long the rest takes at the speed so far. */
static int32_t show_progress(void *user, size_t done, size_t total)
{
    enum { WIDTH = 40 };
    (void)user;
    if (total > 1) {
        const time_t now = time(NULL);
        if (!progress_shown)
            progress_begun = now;
        const double spent = difftime(now, progress_begun);
        const int filled = (int)((double)done / (double)total * WIDTH);
        fprintf(stderr, "\r[%.*s%*s] %zu/%zu", filled, "########################################",
                WIDTH - filled, "", done, total);
        if (spent >= 1 && done > 0)
            fprintf(stderr, ", %.0f s left \b",
                    ceil(spent / (double)done * (double)(total - done)));
        progress_shown = true;
    }
    return 0;
}

bool precision_parse(const char *text, int32_t *out)
{
    static const struct {
        const char *name;
        int32_t value;
    } known[] = {{"standard", XAI_PRECISION_STANDARD},
                 {"reference", XAI_PRECISION_REFERENCE},
                 {"fast", XAI_PRECISION_FAST}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(text ? text : known[0].name, known[i].name) == 0) {
            *out = known[i].value;
            return true;
        }
    }
    return false;
}

xai_session_options *session_options(int64_t threads, int32_t precision)
{
    xai_session_options *options = NULL;
    xai_error *error = NULL;
    const int32_t wanted = threads > INT32_MAX ? INT32_MAX : (int32_t)threads;
    if (xai_session_options_create(&options, &error) != XAI_OK ||
        xai_session_options_set_threads(options, wanted, &error) != XAI_OK ||
        xai_session_options_set_precision(options, precision, &error) != XAI_OK ||
        (system_terminal() &&
         xai_session_options_set_progress(options, show_progress, NULL, &error) != XAI_OK)) {
        report_error(NULL, error);
        xai_session_options_free(options);
        return NULL;
    }
    return options;
}

const char *dims_text(int32_t rank, const int64_t *dims, const char *first_name,
                      char out[DIMS_TEXT_SIZE])
{
    if (rank < 0)
        return "(of unknown rank)";
    size_t length = (size_t)snprintf(out, DIMS_TEXT_SIZE, "(");
    for (int32_t i = 0; i < rank && length < DIMS_TEXT_SIZE - 64; i++) {
        const char *comma = i + 1 < rank ? ", " : rank == 1 ? "," : "";
        if (dims[i] >= 0)
            length += (size_t)snprintf(out + length, DIMS_TEXT_SIZE - length, "%lld%s",
                                       (long long)dims[i], comma);
        else
            length +=
                (size_t)snprintf(out + length, DIMS_TEXT_SIZE - length, "%.32s%s",
                                 i == 0 && first_name && *first_name ? first_name : "?", comma);
    }
    snprintf(out + length, DIMS_TEXT_SIZE - length, ")");
    return out;
}
