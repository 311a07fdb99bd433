#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "cli.h"
#include "files.h"
#include "input.h"

enum { INPUT_LIMIT = 32 };

/* The index of the highest score below (score, index) in descending order; count when there is
 * none. */
static size_t next_highest(const float *scores, size_t count, size_t before)
{
    size_t best = count;
    for (size_t i = 0; i < count; i++) {
        if (i == before)
            continue;
        const bool after = before == count || scores[i] < scores[before] ||
                           (scores[i] == scores[before] && i > before);
        if (after && (best == count || scores[i] > scores[best]))
            best = i;
    }
    return best;
}

static void print_score(const xai_model *model, size_t index, float score, size_t count)
{
    if (xai_model_label_count(model) == count)
        printf("  %-24s %.6g\n", xai_model_label(model, index), (double)score);
    else
        printf("  %-6zu %.6g\n", index, (double)score);
}

static void print_output(const xai_model *model, size_t index, const xai_tensor *values,
                         int64_t top)
{
    char text[DIMS_TEXT_SIZE];
    const int64_t *dims = xai_tensor_dims(values);
    const int32_t rank = xai_tensor_rank(values);
    const char *meaning = index == 0 ? xai_model_score_meaning(model) : "";
    printf("%s %s%s%s\n", xai_model_output_name(model, index), dims_text(rank, dims, NULL, text),
           *meaning ? ", " : "", meaning);
    if (xai_tensor_dtype(values) != XAI_DTYPE_FLOAT32 || rank < 1 || rank > 2 ||
        xai_tensor_count(values) == 0)
        return;
    const size_t rows = (size_t)dims[0], scores = rank == 2 ? (size_t)dims[1] : 1;
    const size_t shown = top > 0 && (size_t)top < scores ? (size_t)top
                         : top == 0 && scores > 32       ? 10
                                                         : scores;
    for (size_t row = 0; row < rows; row++) {
        const float *first = (const float *)xai_tensor_data(values) + row * scores;
        if (rows > 1)
            printf(" row %zu\n", row);
        size_t at = scores;
        for (size_t i = 0; i < shown; i++) {
            at = shown < scores || top > 0 ? next_highest(first, scores, at) : i;
            if (at == scores)
                break;
            print_score(model, at, first[at], index == 0 ? scores : SIZE_MAX);
        }
    }
}

int command_run(int count, char **arguments)
{
    int64_t threads = 0, top = 0;
    int32_t precision;
    const char *npy_path = NULL, *window_text = NULL, *precision_text = NULL;
    const char *paths[INPUT_LIMIT + 2] = {NULL};
    const option options[] = {
        {OPTION_COUNT, "--threads", 0, &threads},
        {OPTION_COUNT, "--top", 0, &top},
        {OPTION_TEXT, "--npy", 0, &npy_path},
        {OPTION_TEXT, "--window", 0, &window_text},
        {OPTION_TEXT, "--precision", 0, &precision_text},
    };
    size_t given;
    window range = {0};
    int code = arguments_parse("run", count, arguments, options, sizeof options / sizeof *options,
                               paths, INPUT_LIMIT + 1, &given);
    if (code != EXIT_OK)
        return code;
    if (given < 2)
        return report_usage("run", given == 0 ? "no model given" : "no image given");
    if (!precision_parse(precision_text, &precision))
        return report_usage("run", PRECISION_UNKNOWN, precision_text);
    if (window_text && !window_parse(window_text, &range))
        return report_usage("run", "option --window: '%s' is not LOW,HIGH", window_text);

    xai_model *model = NULL;
    xai_session *session = NULL;
    xai_session_options *settings = NULL;
    xai_error *error = NULL;
    xai_tensor **outputs = NULL;
    input_set inputs = {0};
    output npy = {0};
    size_t output_count = 0;
    code = EXIT_FAILED;
    if (xai_model_open(paths[0], &model, &error) != XAI_OK) {
        report_error(NULL, error);
        goto done;
    }
    output_count = xai_model_output_count(model);
    outputs = memory_allocate_zeroed(output_count, sizeof *outputs);
    settings = session_options(threads, precision);
    if (!outputs || !settings || !output_open(&npy, npy_path, paths) ||
        !input_set_read(&inputs, model, paths + 1, given - 1, range, 0))
        goto done;
    if (xai_session_create(model, settings, &session, &error) != XAI_OK ||
        xai_session_scores(session, (const xai_tensor *const *)inputs.tensors, inputs.count,
                           outputs, output_count, &error) != XAI_OK) {
        report_error(NULL, error);
        goto done;
    }
    progress_end();
    if (npy_path && (!npy_write(npy_path, npy.file, outputs[0]) || !output_finish(&npy) ||
                     !output_commit(&npy)))
        goto done;
    for (size_t i = 0; i < output_count && npy.file != stdout; i++)
        print_output(model, i, outputs[i], top);
    code = EXIT_OK;
done:
    output_discard(&npy);
    for (size_t i = 0; outputs && i < output_count; i++)
        xai_tensor_free(outputs[i]);
    memory_free(outputs);
    input_set_free(&inputs);
    xai_session_options_free(settings);
    xai_session_free(session);
    xai_model_free(model);
    return code;
}
