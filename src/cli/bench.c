#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "cli.h"
#include "files.h"
#include "input.h"
#include "profile.h"
#include "system.h"

typedef struct bench {
    xai_model *model;
    xai_session *session;
    xai_explainer *explainer;
    input_set inputs;
    double *times; /* milliseconds, one a run */
    size_t runs;
} bench;

static double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static xai_status run_scores(bench *self, xai_error **error)
{
    const size_t count = xai_model_output_count(self->model);
    xai_tensor **outputs = memory_allocate_zeroed(count, sizeof *outputs);
    if (!outputs)
        return XAI_ERROR_MEMORY;
    const xai_status status =
        xai_session_scores(self->session, (const xai_tensor *const *)self->inputs.tensors,
                           self->inputs.count, outputs, count, error);
    for (size_t i = 0; i < count; i++)
        xai_tensor_free(outputs[i]);
    memory_free(outputs);
    return status;
}

static xai_status run_gradient(bench *self, xai_error **error)
{
    const size_t count = xai_model_input_count(self->model);
    xai_tensor **gradients = memory_allocate_zeroed(count, sizeof *gradients);
    if (!gradients)
        return XAI_ERROR_MEMORY;
    const xai_status status = xai_session_gradients(
        self->session, (const xai_tensor *const *)self->inputs.tensors, self->inputs.count, NULL, 1,
        XAI_SCORE_RAW, NULL, 0, gradients, NULL, error);
    for (size_t i = 0; i < count; i++)
        xai_tensor_free(gradients[i]);
    memory_free(gradients);
    return status;
}

static xai_status run_gradcam(bench *self, xai_error **error)
{
    const xai_target *target = NULL;
    xai_explanation *result = NULL;
    const xai_status status = xai_explainer_explain_targets(
        self->explainer, (const xai_tensor *const *)self->inputs.tensors, self->inputs.count,
        &target, 1, &result, error);
    xai_explanation_free(result);
    return status;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* First run (it compiles), two to warm up, then the timed ones. */
static bool measure(bench *self, const char *what, xai_status (*run)(bench *, xai_error **))
{
    xai_error *error = NULL;
    double first = 0;
    for (size_t i = 0; i < self->runs + 3; i++) {
        const double begin = milliseconds();
        if (run(self, &error) != XAI_OK) {
            report_error(what, error);
            return false;
        }
        const double time = milliseconds() - begin;
        if (i == 0)
            first = time;
        else if (i >= 3)
            self->times[i - 3] = time;
    }
    qsort(self->times, self->runs, sizeof *self->times, compare);
    printf("%-10s %10.2f %10.2f %10.2f", what, self->times[0], self->times[self->runs / 2], first);
    if (run == run_gradcam) /* it has a session of its own */
        puts("              -");
    else
        printf(" %14.1f\n", (double)xai_session_arena_bytes(self->session) / 1e6);
    return true;
}

/* Instead of the times: where they go. */
typedef struct details {
    bool profile, memory, forward;
    const char *json; /* where to write; NULL = not wanted */
} details;

/* A plan with times, backward to every floating-point input; forward only where there is none, or when asked. */
static xai_status profile_plan(const bench *self, bool forward, xai_plan **out, xai_error **error)
{
    const size_t count = xai_model_input_count(self->model);
    const char **names = memory_allocate_zeroed(count, sizeof *names);
    size_t floats = 0;
    if (!names)
        return XAI_ERROR_MEMORY;
    for (size_t i = 0; !forward && i < count; i++) {
        const int32_t type = xai_model_input_dtype(self->model, i);
        if (type == XAI_DTYPE_FLOAT32 || type == XAI_DTYPE_FLOAT64 || type == XAI_DTYPE_FLOAT16 ||
            type == XAI_DTYPE_BFLOAT16)
            names[floats++] = xai_model_input_name(self->model, i);
    }
    const xai_status status =
        xai_session_profile(self->session, (const xai_tensor *const *)self->inputs.tensors,
                            self->inputs.count, names, floats, (int32_t)self->runs, out, error);
    memory_free(names);
    return status;
}

static int print_details(const bench *self, const details *wanted, const char *path)
{
    xai_plan *plan = NULL;
    xai_error *error = NULL;
    output json = {0};
    const char *const inputs[] = {path, NULL};
    int code = EXIT_FAILED;
    if (!output_open(&json, wanted->json, inputs))
        return EXIT_FAILED;
    if (profile_plan(self, wanted->forward, &plan, &error) != XAI_OK) {
        report_error("profile", error);
        goto done;
    }
    FILE *to = json.file == stdout ? stderr : stdout;
    if (wanted->profile)
        profile_print_steps(to, plan);
    if (wanted->profile && wanted->memory)
        fputc('\n', to);
    if (wanted->memory)
        profile_print_memory(to, plan);
    if (json.file)
        profile_write_json(json.file, plan, path);
    if (output_finish(&json) && output_commit(&json))
        code = EXIT_OK;
done:
    output_discard(&json);
    xai_plan_free(plan);
    return code;
}

int command_bench(int count, char **arguments)
{
    int64_t threads = 0, runs = 20, batch = 1, size = 224;
    const char *precision_text = NULL;
    int32_t precision;
    details wanted = {0};
    const option options[] = {
        {OPTION_FLAG, "--profile", 0, &wanted.profile},
        {OPTION_FLAG, "--memory", 0, &wanted.memory},
        {OPTION_FLAG, "--forward", 0, &wanted.forward},
        {OPTION_TEXT, "--json", 0, &wanted.json},
        {OPTION_COUNT, "--threads", 0, &threads},
        {OPTION_TEXT, "--precision", 0, &precision_text},
        {OPTION_COUNT, "--runs", 0, &runs},
        {OPTION_COUNT, "--batch", 0, &batch},
        {OPTION_COUNT, "--size", 0, &size},
    };
    const char *path = NULL;
    size_t given;
    int code = arguments_parse("bench", count, arguments, options, sizeof options / sizeof *options,
                               &path, 1, &given);
    if (code != EXIT_OK)
        return code;
    if (given != 1)
        return report_usage("bench", "no model given");
    if (!precision_parse(precision_text, &precision))
        return report_usage("bench", PRECISION_UNKNOWN, precision_text);
    if (runs < 1 || runs > 100000 || batch < 1 || batch > 4096 || size < 1 || size > 65535)
        return report_usage("bench",
                            "--runs must be 1 to 100000, --batch 1 to 4096, --size 1 to 65535");

    bench self = {.runs = (size_t)runs};
    xai_session_options *settings = NULL;
    xai_explainer_options *how = NULL;
    xai_error *error = NULL;
    code = EXIT_FAILED;
    const double begin = milliseconds();
    if (xai_model_open(path, &self.model, &error) != XAI_OK)
        goto failed;
    const double loaded = milliseconds() - begin;
    self.times = memory_allocate(self.runs, sizeof *self.times);
    if (!self.times)
        report("out of memory");
    settings = self.times ? session_options(threads, precision) : NULL;
    if (!settings || !input_set_invent(&self.inputs, self.model, batch, size))
        goto done;
    if (xai_session_options_set_progress(settings, NULL, NULL, &error) != XAI_OK ||
        xai_session_create(self.model, settings, &self.session, &error) != XAI_OK)
        goto failed;
    if (wanted.profile || wanted.memory || wanted.json) {
        code = print_details(&self, &wanted, path);
        goto done;
    }

    printf("%s, %lld row%s; loading took %.1f ms\n", path, (long long)batch, batch == 1 ? "" : "s",
           loaded);
    printf("%-10s %10s %10s %10s %14s\n", "", "least ms", "median ms", "first ms",
           "arena MB a row");
    if (!measure(&self, "scores", run_scores) || !measure(&self, "gradient", run_gradient))
        goto done;
    if (xai_model_default_layer(self.model) >= 0) {
        if (xai_explainer_options_create(&how, &error) != XAI_OK ||
            xai_explainer_options_set_session(how, settings, &error) != XAI_OK ||
            xai_explainer_create(self.model, "gradcam", how, &self.explainer, &error) != XAI_OK)
            goto failed;
        if (!measure(&self, "gradcam", run_gradcam))
            goto done;
    }
    printf("peak memory of the process: %.1f MB\n", system_peak_bytes() / (1 << 20));
    code = EXIT_OK;
    goto done;
failed:
    report_error(NULL, error);
done:
    memory_free(self.times);
    input_set_free(&self.inputs);
    xai_explainer_options_free(how);
    xai_session_options_free(settings);
    xai_explainer_free(self.explainer);
    xai_session_free(self.session);
    xai_model_free(self.model);
    return code;
}
