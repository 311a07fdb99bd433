#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli.h"
#include "files.h"
#include "input.h"
#include "values.h"

enum { INPUT_LIMIT = 32 };

static const double SEEN_LITTLE = 0.01; /* share of a map's pixels */

/* What the command line asks for. */
typedef struct request {
    const char *method, *target, *output, *layer, *score, *scaling, *colours, *window_text,
        *precision_text;
    const char *overlay, *json, *npy, *values; /* where to write; NULL = not wanted */
    int64_t threads, row;
    double alpha, percentile, smoothing, contour;
    double strongest; /* the value of the map with the strongest colour, once it is drawn */
    window range;
    setting_list settings;
    int32_t score_kind, scaling_kind, precision;
} request;

static bool choose(const char *text, const char *const *names, int32_t *out)
{
    for (int32_t i = 0; names[i]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

static int check_request(request *self)
{
    static const char *const scores[] = {"raw", "logit", "probability", NULL}, *const scalings[] = {
                                                                                   "max", "min-max",
                                                                                   NULL};
    static const char *const colours[] = {"turbo", "viridis", "inferno", NULL};
    const char *outputs[] = {self->overlay, self->json, self->npy, self->values};
    int32_t unused;
    if (!precision_parse(self->precision_text, &self->precision))
        return report_usage("explain", PRECISION_UNKNOWN, self->precision_text);
    if (!choose(self->score, scores, &self->score_kind))
        return report_usage("explain", "option --score: '%s' is not raw, logit or probability",
                            self->score);
    if (!choose(self->scaling, scalings, &self->scaling_kind))
        return report_usage("explain", "option --scaling: '%s' is not max or min-max",
                            self->scaling);
    if (!choose(self->colours, colours, &unused))
        return report_usage("explain", "option --colours: '%s' is not turbo, viridis or inferno",
                            self->colours);
    if (!(self->alpha >= 0 && self->alpha <= 1))
        return report_usage("explain", "option --alpha: %g is not between 0 and 1", self->alpha);
    if (!(self->percentile > 0 && self->percentile <= 100))
        return report_usage("explain", "option --percentile: %g is not above 0 and at most 100",
                            self->percentile);
    if (!(self->smoothing >= 0 && self->smoothing <= 1000))
        return report_usage("explain", "option --smoothing: %g is not between 0 and 1000",
                            self->smoothing);
    if (!(self->contour >= 0 && self->contour <= 1))
        return report_usage("explain", "option --contour: %g is not between 0 and 1",
                            self->contour);
    if (self->window_text && !window_parse(self->window_text, &self->range))
        return report_usage("explain", "option --window: '%s' is not LOW,HIGH", self->window_text);
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < i; j++)
            if (outputs[i] && outputs[j] && strcmp(outputs[i], outputs[j]) == 0)
                return report_usage("explain", "two outputs go to '%s'", outputs[i]);
    return EXIT_OK;
}

/* A label of the card, else an index. */
static xai_status add_choice(xai_target *target, const xai_model *model, const char *text,
                             xai_error **error)
{
    for (size_t i = 0; i < xai_model_label_count(model); i++)
        if (strcmp(xai_model_label(model, i), text) == 0)
            return xai_target_add_label(target, text, error);
    char *end;
    errno = 0;
    const long long index = strtoll(text, &end, 10);
    const bool number =
        (isdigit((unsigned char)*text) || (*text == '-' && text[1])) && *end == '\0' && errno == 0;
    return number ? xai_target_add_index(target, index, error)
                  : xai_target_add_label(target, text, error);
}

static xai_status make_target(const request *wanted, const xai_model *model, xai_target **out,
                              xai_error **error)
{
    xai_status status = xai_target_create(out, error);
    if (status == XAI_OK && wanted->output)
        status = xai_target_set_output(*out, wanted->output, error);
    if (status == XAI_OK && wanted->target)
        status = add_choice(*out, model, wanted->target, error);
    return status;
}

/* NULL after a report. */
static xai_explainer *make_explainer(const request *wanted, xai_model *model,
                                     const xai_session_options *session)
{
    xai_error *failure = NULL, **error = &failure;
    xai_explainer *made = NULL;
    xai_explainer_options *options = NULL;
    xai_status status = xai_explainer_options_create(&options, error);
    if (status == XAI_OK && wanted->layer)
        status = xai_explainer_options_set_layer(options, wanted->layer, error);
    if (status == XAI_OK)
        status = xai_explainer_options_set_score(options, wanted->score_kind, error);
    if (status == XAI_OK)
        status = xai_explainer_options_set_scaling(options, wanted->scaling_kind, error);
    if (status == XAI_OK)
        status = xai_explainer_options_set_session(options, session, error);
    if (status == XAI_OK && !settings_apply(&wanted->settings, options, model, wanted->method))
        goto done;
    if (status == XAI_OK)
        status = xai_explainer_create(model, wanted->method, options, &made, error);
    if (status != XAI_OK)
        report_error(NULL, failure);
done:
    xai_explainer_options_free(options);
    return made;
}

/* Whether the map is drawn otherwise than as it is. */
static bool display_changes(const request *wanted)
{
    return wanted->percentile < 100 || wanted->smoothing > 0;
}

static xai_status make_display(const request *wanted, xai_display **out, xai_error **error)
{
    xai_status status = xai_display_create(out, error);
    if (status == XAI_OK)
        status = xai_display_set_alpha(*out, wanted->alpha, error);
    if (status == XAI_OK)
        status = xai_display_set_colours(*out, wanted->colours, error);
    if (status == XAI_OK)
        status = xai_display_set_percentile(*out, wanted->percentile, error);
    if (status == XAI_OK)
        status = xai_display_set_smoothing(*out, wanted->smoothing, error);
    if (status == XAI_OK)
        status = xai_display_set_contour(*out, wanted->contour, error);
    return status;
}

static bool write_overlay(request *wanted, const xai_explanation *result, const input_set *inputs,
                          output *out)
{
    xai_error *error = NULL;
    xai_display *display = NULL;
    if (!out->path)
        return true;
    if (!inputs->pixels) {
        report("no overlay: the first input is not a picture, nor a float32 tensor (N, C, H, W)");
        return false;
    }
    uint8_t *drawn = memory_allocate(inputs->height * inputs->width, 3);
    bool done = false;
    if (!drawn)
        report("out of memory");
    else if (make_display(wanted, &display, &error) != XAI_OK ||
             xai_explanation_draw(result, (size_t)wanted->row, inputs->pixels, inputs->width,
                                  inputs->height, inputs->channels, display, drawn,
                                  &wanted->strongest, &error) != XAI_OK)
        report_error("no overlay", error);
    else
        done = png_write(out->path, out->file, drawn, inputs->height, inputs->width);
    xai_display_free(display);
    memory_free(drawn);
    return done;
}

/* The facts; with how the overlay was drawn, as the last of them, where that differs from the map. */
static bool write_json(const request *wanted, const xai_explanation *result, output *out)
{
    if (!out->path)
        return true;
    const char *facts = xai_explanation_json(result), *last = strrchr(facts, '}');
    errno = 0;
    if (!wanted->overlay || !last || !(display_changes(wanted) || wanted->contour > 0)) {
        if (fputs(facts, out->file) >= 0)
            return true;
    } else {
        while (last > facts && last[-1] == '\n')
            last--;
        if (fprintf(out->file,
                    "%.*s,\n\"display\": {\"row\": %lld, \"percentile\": %.9g, \"smoothing\": "
                    "%.9g, \"contour\": %.9g, \"strongest\": %.9g}\n}\n",
                    (int)(last - facts), facts, (long long)wanted->row, wanted->percentile,
                    wanted->smoothing, wanted->contour, wanted->strongest) >= 0)
            return true;
    }
    report("cannot write %s: %s", out->path, strerror(errno ? errno : EIO));
    return false;
}

static bool write_map(const xai_explanation *result, output *out)
{
    const xai_tensor *map = xai_explanation_map(result);
    if (!out->path)
        return true;
    if (!map) {
        report("no map: the input of the model has no spatial axes");
        return false;
    }
    return npy_write(out->path, out->file, map);
}

/* Of a row, or (tables, tokens) of its attributions. */
typedef struct map_facts {
    double peak, seen; /* seen: the share of pixels above a fifth, whose colour one sees */
} map_facts;

static map_facts map_look(const xai_explanation *result, size_t row)
{
    const xai_tensor *map = xai_explanation_map(result);
    if (!map)
        map = xai_explanation_values(result);
    const size_t rows = xai_explanation_row_count(result),
                 count = map && rows ? xai_tensor_count(map) / rows : 0;
    const float *values = map ? (const float *)xai_tensor_data(map) + row * count : NULL;
    map_facts facts = {0};
    for (size_t i = 0; i < count; i++) {
        facts.peak = fmax(facts.peak, (double)values[i]);
        facts.seen += values[i] > 0.2F ? 1 / (double)count : 0;
    }
    return facts;
}

/* How the overlay differs from the map; or how it could be seen better. */
static void print_display(const request *wanted, const xai_explanation *result)
{
    const map_facts facts = map_look(result, (size_t)wanted->row);
    if (!wanted->overlay || !(facts.peak > 0))
        return;
    if (display_changes(wanted)) {
        printf("overlay: ");
        if (wanted->smoothing > 0)
            printf("smoothed by %g pixels of the map; ", wanted->smoothing);
        printf("strongest colour from %.4g of the map's peak on", wanted->strongest);
        if (wanted->percentile < 100)
            printf(" (percentile %g)", wanted->percentile);
        puts("");
    } else if (facts.seen < SEEN_LITTLE && wanted->contour == 0) {
        printf("note: only %.2g %% of the map is above a fifth of its peak, little to see in an "
               "overlay; for display, --percentile 99 --smoothing 2\n",
               100 * facts.seen);
    }
}

static void print_facts(const request *wanted, const xai_explanation *result)
{
    const size_t rows = xai_explanation_row_count(result);
    for (size_t row = 0; row < rows; row++) {
        if (rows > 1)
            printf("row %zu: ", row);
        printf("%s %.6g (%s score), by %s", xai_explanation_label(result, row),
               xai_explanation_score(result, row), wanted->score, xai_explanation_method(result));
        if (*xai_explanation_layer(result))
            printf(" at layer '%s'", xai_explanation_layer(result));
        puts(map_look(result, row).peak > 0 ? "" : ": no positive evidence");
    }
    print_display(wanted, result);
    for (size_t i = 0; i < xai_explanation_warning_count(result); i++) {
        if (xai_explanation_warning_row(result, i) >= 0 && rows > 1)
            printf("warning for row %lld: ", (long long)xai_explanation_warning_row(result, i));
        else
            printf("warning: ");
        puts(xai_explanation_warning(result, i));
    }
}

static int explain(request *wanted, const char *const *paths, size_t given)
{
    xai_model *model = NULL;
    xai_session_options *session = NULL;
    xai_explainer *explainer = NULL;
    xai_target *target = NULL;
    xai_explanation *result = NULL;
    xai_error *error = NULL;
    input_set inputs = {0};
    values_files others = {0};
    output outputs[4] = {{0}};
    output *overlay = &outputs[0], *json = &outputs[1], *npy = &outputs[2], *values = &outputs[3];
    int code = EXIT_FAILED;

    if (xai_model_open(paths[0], &model, &error) != XAI_OK)
        goto failed;
    session = session_options(wanted->threads, wanted->precision);
    if (!session)
        goto done;
    explainer = make_explainer(wanted, model, session);
    if (!explainer)
        goto done;
    if (make_target(wanted, model, &target, &error) != XAI_OK)
        goto failed;
    /* Outputs are opened before the work, so that an unwritable one is told at once. */
    if (!output_open(overlay, wanted->overlay, paths) || !output_open(json, wanted->json, paths) ||
        !output_open(npy, wanted->npy, paths) || !output_open(values, wanted->values, paths) ||
        !input_set_read(&inputs, model, paths + 1, given - 1, wanted->range, (size_t)wanted->row))
        goto done;

    if (xai_explainer_explain_targets(explainer, (const xai_tensor *const *)inputs.tensors,
                                      inputs.count, (const xai_target *const *)&target, 1, &result,
                                      &error) != XAI_OK)
        goto failed;
    progress_end();
    if (!write_overlay(wanted, result, &inputs, overlay) || !write_json(wanted, result, json) ||
        !write_map(result, npy) || !values_write(&others, values, result, paths))
        goto done;
    for (size_t i = 0; i < 4; i++)
        if (!output_finish(&outputs[i]))
            goto done;
    if (!values_finish(&others))
        goto done;
    for (size_t i = 0; i < 4; i++)
        if (!output_commit(&outputs[i]))
            goto done;
    if (!values_commit(&others))
        goto done;
    if (overlay->file != stdout && json->file != stdout && npy->file != stdout &&
        values->file != stdout) {
        print_facts(wanted, result);
        for (size_t i = 0; i < 4; i++)
            if (outputs[i].path)
                printf("wrote %s\n", outputs[i].path);
        for (size_t i = 0; i < others.count; i++)
            printf("wrote %s\n", others.paths[i]);
    }
    code = EXIT_OK;
    goto done;
failed:
    report_error(NULL, error);
done:
    for (size_t i = 0; i < 4; i++)
        output_discard(&outputs[i]);
    values_free(&others);
    input_set_free(&inputs);
    xai_explanation_free(result);
    xai_target_free(target);
    xai_explainer_free(explainer);
    xai_session_options_free(session);
    xai_model_free(model);
    return code;
}

int command_explain(int count, char **arguments)
{
    request wanted = {
        .method = "gradcam",
        .score = "raw",
        .scaling = "max",
        .colours = "turbo",
        .alpha = 0.5,
        .percentile = 100,
    };
    const option options[] = {
        {OPTION_TEXT, "--method", 0, &wanted.method},
        {OPTION_TEXT, "--target", 0, &wanted.target},
        {OPTION_TEXT, "--output", 0, &wanted.output},
        {OPTION_TEXT, "--layer", 0, &wanted.layer},
        {OPTION_TEXT, "--score", 0, &wanted.score},
        {OPTION_TEXT, "--scaling", 0, &wanted.scaling},
        {OPTION_TEXT, "--colours", 0, &wanted.colours},
        {OPTION_TEXT, "--overlay", 'o', &wanted.overlay},
        {OPTION_TEXT, "--json", 0, &wanted.json},
        {OPTION_TEXT, "--npy", 0, &wanted.npy},
        {OPTION_TEXT, "--values", 0, &wanted.values},
        {OPTION_TEXT, "--window", 0, &wanted.window_text},
        {OPTION_COUNT, "--threads", 0, &wanted.threads},
        {OPTION_TEXT, "--precision", 0, &wanted.precision_text},
        {OPTION_COUNT, "--row", 0, &wanted.row},
        {OPTION_NUMBER, "--alpha", 0, &wanted.alpha},
        {OPTION_NUMBER, "--percentile", 0, &wanted.percentile},
        {OPTION_NUMBER, "--smoothing", 0, &wanted.smoothing},
        {OPTION_NUMBER, "--contour", 0, &wanted.contour},
        {OPTION_LIST, "--option", 0, &wanted.settings},
        /* In the order of setting_names. */
        {OPTION_TEXT, "--samples", 0, &wanted.settings.named[0]},
        {OPTION_TEXT, "--steps", 0, &wanted.settings.named[1]},
        {OPTION_TEXT, "--seed", 0, &wanted.settings.named[2]},
        {OPTION_TEXT, "--noise", 0, &wanted.settings.named[3]},
        {OPTION_TEXT, "--tolerance", 0, &wanted.settings.named[4]},
        {OPTION_TEXT, "--baseline", 0, &wanted.settings.named[5]},
        {OPTION_TEXT, "--background", 0, &wanted.settings.named[6]},
        {OPTION_TEXT, "--segments", 0, &wanted.settings.named[7]},
    };
    const char *paths[INPUT_LIMIT + 2] = {NULL};
    size_t given;
    int code = arguments_parse("explain", count, arguments, options,
                               sizeof options / sizeof *options, paths, INPUT_LIMIT + 1, &given);
    if (code == EXIT_OK && given < 2)
        code = report_usage("explain", given == 0 ? "no model given" : "no image given");
    if (code == EXIT_OK)
        code = check_request(&wanted);
    return code == EXIT_OK ? explain(&wanted, paths, given) : code;
}
