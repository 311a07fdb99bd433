/* Load every *.onnx of a folder as far as it goes: parse, import, specialise, and finish what hangs on data. Each file has a
 * process of its own, so that a crash, a leak or a hang is the verdict on one file and not the
 * end of the run.
 *
 * load FOLDER: a line a file ("loads", "error: ..." or "FAILS: ..."), at the end the counts.
 * Exit 1 when a file FAILS. A refused model is not a failure; a refusal without a message of one
 * line is. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/text.h"
#include "graph/graph.h"
#include "onnx/onnx.h"

#define SECONDS_LIMIT 10
#define INPUT_LIMIT ((size_t)1 << 20) /* elements: larger declared inputs are not specialised */
enum { LOADS = 0, REFUSED = 3, FAILED = 4 };

/* The declared shape, with 2 for what is not known. */
static bool input_shape(const graph *self, int value, shape *out)
{
    size_t count;
    *out = self->values[value].shape;
    if (out->rank < 0)
        *out = shape_make(4, (int64_t[]){1, 3, 8, 8});
    for (int i = 0; i < out->rank; i++)
        if (out->dims[i] < 0)
            out->dims[i] = 2;
    return shape_count(out, &count) && count <= INPUT_LIMIT;
}

/* Outputs whose shapes depend on data, of a plan that computed small whole numbers. Every outcome but a crash is one. */
static void finish(const graph *source, const graph *special)
{
    size_t count, wanted_count = 0, elements;
    const int *frontier = graph_frontier(special, &count);
    tensor *given = calloc(count + 1, sizeof *given), *out = NULL;
    int *wanted = calloc(source->output_count + 1, sizeof *wanted);
    bool made = given && wanted;
    for (size_t i = 0; made && i < source->output_count; i++)
        if (special->values[source->outputs[i]].late)
            wanted[wanted_count++] = source->outputs[i];
    for (size_t i = 0; made && i < count; i++) {
        const graph_value *value = &special->values[frontier[i]];
        made = shape_count(&value->shape, &elements) && elements <= INPUT_LIMIT &&
               tensor_create(&given[i], value->dtype, &value->shape, NULL) == XAI_OK;
        for (size_t k = 0; made && k < elements; k++)
            tensor_set(&given[i], k, (double)(k % 3));
    }
    out = calloc(wanted_count + 1, sizeof *out);
    if (made && out && wanted_count > 0)
        (void)graph_finish(special, given, wanted, wanted_count, (size_t)64 << 20, NULL, out, NULL);
    for (size_t i = 0; out && i < wanted_count; i++)
        tensor_free(&out[i]);
    for (size_t i = 0; given && i < count; i++)
        tensor_free(&given[i]);
    free(out);
    free(given);
    free(wanted);
}

static xai_status specialise(const graph *self, xai_error **error)
{
    shape *shapes = calloc(self->input_count + 1, sizeof *shapes);
    graph *special = NULL;
    xai_status status = shapes ? XAI_OK : XAI_ERROR_MEMORY;
    bool small = true;
    for (size_t i = 0; shapes && i < self->input_count; i++)
        small = input_shape(self, self->inputs[i], &shapes[i]) && small;
    for (int level = 0; status == XAI_OK && small && level <= GRAPH_REWRITES_ALL; level++) {
        status = graph_specialise(self, shapes, NULL, 0, (graph_rewrites)level, &special, error);
        if (status == XAI_OK && level == GRAPH_REWRITES_ALL)
            finish(self, special);
        graph_free(special);
        special = NULL;
    }
    free(shapes);
    return status;
}

/* The same bytes must be judged the same way from memory, unless they refer to files. */
static xai_status parse_copy(const char *path)
{
    FILE *file = fopen(path, "rb");
    onnx_model *model = NULL;
    xai_status status = XAI_ERROR_FILE;
    if (file && fseek(file, 0, SEEK_END) == 0) {
        const long size = ftell(file);
        char *bytes = malloc((size_t)size + 1);
        rewind(file);
        if (bytes && fread(bytes, 1, (size_t)size, file) == (size_t)size)
            status = onnx_model_parse(bytes, (size_t)size, &model, NULL);
        free(bytes);
    }
    if (file)
        fclose(file);
    onnx_model_free(model);
    return status;
}

static int load(const char *path, const char *name)
{
    onnx_model *model = NULL;
    graph *made = NULL;
    xai_error *error = NULL;
    const char *stage = "open";
    xai_status status = onnx_model_open(path, &model, &error);
    if (!strstr(name, "external") && parse_copy(path) != status) {
        printf("FAILS: %s: another verdict from memory\n", name);
        return FAILED;
    }
    if (status == XAI_OK) {
        stage = "import";
        status = graph_import(model, &made, &error);
    }
    if (status == XAI_OK) {
        stage = "specialise";
        status = specialise(made, &error);
    }
    int verdict = status == XAI_OK ? LOADS : REFUSED;
    if (status == XAI_OK && !error)
        printf("loads: %s\n", name);
    else if (status != XAI_OK && error && xai_error_status(error) == status) {
        const char *message = xai_error_message(error);
        printf("error: %s: %s: %s: %s\n", name, stage, xai_status_name(status), message);
        if (*message == '\0' || strchr(message, '\n') || !text_is_utf8(message, strlen(message)) ||
            status == XAI_ERROR_INTERNAL)
            verdict = FAILED;
    } else
        verdict = FAILED;
    if (verdict == FAILED)
        printf("FAILS: %s: %s gave status %d with %s\n", name, stage, (int)status,
               error ? "that message" : "no message");
    xai_error_free(error);
    graph_free(made);
    onnx_model_free(model);
    return verdict;
}

static int onnx_files(const struct dirent *entry)
{
    const size_t length = strlen(entry->d_name);
    return length > 5 && strcmp(entry->d_name + length - 5, ".onnx") == 0;
}

int main(int count, char **arguments)
{
    struct dirent **files;
    int loads = 0, refused = 0, failed = 0;
    const int total = count == 2 ? scandir(arguments[1], &files, onnx_files, alphasort) : -1;
    if (total < 0) {
        fprintf(stderr, "usage: load FOLDER\n");
        return 2;
    }
    for (int i = 0; i < total; i++) {
        char path[4096];
        int state = 0;
        snprintf(path, sizeof path, "%s/%s", arguments[1], files[i]->d_name);
        fflush(stdout);
        const pid_t child = fork();
        if (child == 0) {
            alarm(SECONDS_LIMIT);
            const int verdict = load(path, files[i]->d_name);
            for (int k = i; k < total; k++) /* else they count as leaks of this process */
                free(files[k]);
            free(files);
            exit(verdict);
        }
        if (child < 0 || waitpid(child, &state, 0) != child) {
            perror("load");
            return 2;
        }
        if (WIFEXITED(state) && WEXITSTATUS(state) == LOADS)
            loads++;
        else if (WIFEXITED(state) && WEXITSTATUS(state) == REFUSED)
            refused++;
        else {
            failed++;
            if (WIFSIGNALED(state) && WTERMSIG(state) == SIGALRM)
                printf("FAILS: %s: more than %d seconds\n", files[i]->d_name, SECONDS_LIMIT);
            else if (!WIFEXITED(state) || WEXITSTATUS(state) != FAILED)
                printf("FAILS: %s: crash or leak, see stderr\n", files[i]->d_name);
        }
        free(files[i]);
    }
    free(files);
    printf("%d load, %d refused, %d fail\n", loads, refused, failed);
    return failed > 0;
}
