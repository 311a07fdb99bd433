/* Runs the operator tests that the ONNX project publishes (backend/test/data/node of its Python
 * package) on the portable kernels.
 *
 * Usage: node_tests DIRECTORY [PREFIX]
 *
 * Every folder test_NAME holds model.onnx and test_data_set_0 with input_K.pb and output_K.pb.
 * Nodes run one after another by operator calls, without a graph or an engine. One line a test:
 *   ok NAME | wrong NAME: what differs | refused NAME: our message | absent NAME: operators that
 *   libxai does not have
 * Only `wrong` makes the exit status 1. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/memory.h"
#include "onnx/onnx.h"
#include "ops/operator.h"

#define MAX_VALUES 4096
#define MAX_PORTS 64
#define PATH_SIZE 1024

/* The tolerance of the ONNX project's own runner; half types get two units in the last place,
 * because tests of whole functions round every intermediate value to them. */
#define ABSOLUTE 1e-7

static double relative_tolerance(int32_t dtype)
{
    return dtype == DTYPE_BFLOAT16 ? 0x1p-6 : dtype == DTYPE_FLOAT16 ? 0x1p-9 : 1e-3;
}

typedef enum outcome {
    OUTCOME_OK,
    OUTCOME_WRONG,
    OUTCOME_REFUSED,
    OUTCOME_ABSENT,
    OUTCOMES
} outcome;

typedef struct test {
    onnx_model *model;
    onnx_model *files[2 * MAX_PORTS]; /* owners of the tensors read from .pb files */
    size_t file_count;
    const char *names[MAX_VALUES];
    tensor values[MAX_VALUES]; /* views, or owned results */
    size_t value_count;
    xai_error *error;
    char message[512];
} test;

static unsigned char *read_file(const char *path, size_t *size)
{
    unsigned char *bytes = NULL;
    struct stat facts;
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    if (fstat(fileno(file), &facts) == 0) {
        *size = (size_t)facts.st_size;
        bytes = malloc(*size + 64);
        if (bytes && fread(bytes, 1, *size, file) != *size) {
            free(bytes);
            bytes = NULL;
        }
    }
    fclose(file);
    return bytes;
}

static size_t put_varint(unsigned char *out, uint64_t value)
{
    size_t count = 0;
    for (; value >= 0x80; value >>= 7)
        out[count++] = (unsigned char)(value | 0x80);
    out[count++] = (unsigned char)value;
    return count;
}

/* A TensorProto file, read as the only initializer of a model made around it. */
static bool read_tensor(test *t, const char *path, const tensor **out)
{
    size_t size = 0;
    unsigned char *bytes = read_file(path, &size);
    if (!bytes)
        return false;
    unsigned char *model = malloc(size + 64), graph_head[16];
    bool ok = false;
    if (model && t->file_count < 2 * MAX_PORTS) {
        graph_head[0] = 5 << 3 | 2; /* GraphProto.initializer */
        const size_t head = 1 + put_varint(graph_head + 1, size);
        size_t at = 0;
        static const unsigned char start[] = {1 << 3, 8,      8 << 3 | 2,
                                              2,      2 << 3, 21}; /* ir_version 8, opset 21 */
        memcpy(model, start, sizeof start);
        at += sizeof start;
        model[at++] = 7 << 3 | 2; /* ModelProto.graph */
        at += put_varint(model + at, head + size);
        memcpy(model + at, graph_head, head);
        memcpy(model + at + head, bytes, size);
        ok = onnx_model_parse(model, at + head + size, &t->files[t->file_count], &t->error) ==
             XAI_OK;
        if (ok) {
            const onnx_graph *graph = &t->files[t->file_count++]->graph;
            ok = graph->initializer_count == 1;
            if (ok)
                *out = &graph->initializers[0].tensor;
        }
    }
    free(model);
    free(bytes);
    return ok;
}

static tensor *find_value(test *t, const char *name)
{
    for (size_t i = t->value_count; i-- > 0;)
        if (strcmp(t->names[i], name) == 0)
            return &t->values[i];
    return NULL;
}

static tensor *add_value(test *t, const char *name, tensor value)
{
    if (t->value_count == MAX_VALUES)
        return NULL;
    t->names[t->value_count] = name;
    t->values[t->value_count] = value;
    return &t->values[t->value_count++];
}

static int opset_of(const onnx_model *model, const char *domain)
{
    for (size_t i = 0; i < model->opset_count; i++)
        if (strcmp(model->opsets[i].domain, domain) == 0)
            return (int)model->opsets[i].version;
    return 1;
}

static outcome refused(test *t, const char *what)
{
    snprintf(t->message, sizeof t->message, "%s%s%s", what, t->error ? ": " : "",
             t->error ? xai_error_message(t->error) : "");
    return OUTCOME_REFUSED;
}

static outcome run_node(test *t, const onnx_node *node)
{
    const operator_definition *definition = operator_find(node->domain, node->op_type);
    const tensor *inputs[MAX_PORTS] = {0};
    tensor *outputs[MAX_PORTS] = {0}, results[MAX_PORTS] = {0};
    char place[128];
    if (!definition) {
        snprintf(t->message, sizeof t->message, "%s", node->op_type);
        return OUTCOME_ABSENT;
    }
    if (node->input_count > MAX_PORTS || node->output_count > MAX_PORTS)
        return refused(t, "too many inputs or outputs");
    for (size_t i = 0; i < node->input_count; i++) {
        if (node->inputs[i][0] == '\0')
            continue;
        inputs[i] = find_value(t, node->inputs[i]);
        if (!inputs[i])
            return refused(t, "an input that is not a tensor");
    }
    for (size_t i = 0; i < node->output_count; i++)
        if (node->outputs[i][0] != '\0')
            outputs[i] = &results[i];
    snprintf(place, sizeof place, "node '%s' (%s)", node->name, node->op_type);
    operator_call call = {.definition = definition,
                          .attributes = node->attributes,
                          .attribute_count = node->attribute_count,
                          .opset = opset_of(t->model, node->domain),
                          .input_count = (int)node->input_count,
                          .output_count = (int)node->output_count,
                          .inputs = inputs,
                          .outputs = outputs,
                          .place = place,
                          .error = &t->error};
    if (definition->infer(&call) != XAI_OK)
        return refused(t, "infer");
    outcome result = OUTCOME_OK;
    size_t made = 0;
    for (; made < node->output_count && result == OUTCOME_OK; made++) {
        const int32_t dtype = results[made].dtype;
        const shape dims = results[made].shape;
        if (outputs[made] && tensor_create(&results[made], dtype, &dims, &t->error) != XAI_OK)
            result = refused(t, "output");
    }
    if (result == OUTCOME_OK && definition->forward(&call) != XAI_OK)
        result = refused(t, "forward");
    for (size_t i = 0; i < made; i++) {
        if (outputs[i] && (result != OUTCOME_OK || !add_value(t, node->outputs[i], results[i]))) {
            tensor_free(&results[i]);
            if (result == OUTCOME_OK)
                result = refused(t, "too many values");
        }
    }
    return result;
}

static bool numbers_agree(const tensor *given, const tensor *expected, size_t k)
{
    if (!dtype_is_float(expected->dtype))
        return tensor_get_int(given, k) == tensor_get_int(expected, k);
    const double a = tensor_get(given, k), b = tensor_get(expected, k);
    if (isnan(a) || isnan(b))
        return isnan(a) && isnan(b);
    return a == b || fabs(a - b) <= ABSOLUTE + relative_tolerance(expected->dtype) * fabs(b);
}

static outcome compare(test *t, const char *name, const tensor *expected)
{
    char given_text[SHAPE_TEXT_SIZE], expected_text[SHAPE_TEXT_SIZE];
    const tensor *given = find_value(t, name);
    if (!given) {
        snprintf(t->message, sizeof t->message, "output '%s' was not computed", name);
        return OUTCOME_WRONG;
    }
    if (given->dtype != expected->dtype || !shape_equal(&given->shape, &expected->shape)) {
        snprintf(t->message, sizeof t->message, "output '%s' is %s %s instead of %s %s", name,
                 dtype_name(given->dtype), shape_text(&given->shape, given_text),
                 dtype_name(expected->dtype), shape_text(&expected->shape, expected_text));
        return OUTCOME_WRONG;
    }
    const size_t count = tensor_count(expected);
    for (size_t k = 0; k < count; k++) {
        if (!numbers_agree(given, expected, k)) {
            snprintf(t->message, sizeof t->message,
                     "output '%s' at element %zu is %.9g instead of %.9g", name, k,
                     tensor_get(given, k), tensor_get(expected, k));
            return OUTCOME_WRONG;
        }
    }
    return OUTCOME_OK;
}

static bool is_initializer(const onnx_graph *graph, const char *name)
{
    for (size_t i = 0; i < graph->initializer_count; i++)
        if (strcmp(graph->initializers[i].name, name) == 0)
            return true;
    return false;
}

static outcome run_test(test *t, const char *folder)
{
    char path[PATH_SIZE];
    const tensor *read;
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    if (onnx_model_open(path, &t->model, &t->error) != XAI_OK)
        return refused(t, "model");
    const onnx_graph *graph = &t->model->graph;
    if (graph->output_count > MAX_PORTS || graph->input_count > MAX_PORTS)
        return refused(t, "too many inputs or outputs");
    for (size_t i = 0; i < graph->node_count;
         i++) /* say that an operator is absent before anything else */
        if (!operator_find(graph->nodes[i].domain, graph->nodes[i].op_type))
            return run_node(t, &graph->nodes[i]);
    for (size_t i = 0; i < graph->initializer_count; i++)
        if (!add_value(t, graph->initializers[i].name, graph->initializers[i].tensor))
            return refused(t, "too many values");
    size_t file = 0;
    for (size_t i = 0; i < graph->input_count; i++) {
        if (is_initializer(graph, graph->inputs[i].name))
            continue;
        snprintf(path, sizeof path, "%s/test_data_set_0/input_%zu.pb", folder, file++);
        if (!read_tensor(t, path, &read) || !add_value(t, graph->inputs[i].name, *read))
            return refused(t, "input");
    }
    outcome result = OUTCOME_OK;
    for (size_t i = 0; i < graph->node_count && result == OUTCOME_OK; i++)
        result = run_node(t, &graph->nodes[i]);
    for (size_t i = 0; i < graph->output_count && result == OUTCOME_OK; i++) {
        snprintf(path, sizeof path, "%s/test_data_set_0/output_%zu.pb", folder, i);
        if (!read_tensor(t, path, &read))
            return refused(t, "expected output");
        result = compare(t, graph->outputs[i].name, read);
    }
    return result;
}

static void test_free(test *t)
{
    for (size_t i = 0; i < t->value_count; i++)
        tensor_free(&t->values[i]);
    for (size_t i = 0; i < t->file_count; i++)
        onnx_model_free(t->files[i]);
    onnx_model_free(t->model);
    xai_error_free(t->error);
    free(t);
}

static int is_test(const struct dirent *entry)
{
    return strncmp(entry->d_name, "test_", 5) == 0;
}

int main(int argc, char **argv)
{
    static const char *const names[OUTCOMES] = {"ok", "wrong", "refused", "absent"};
    struct dirent **entries;
    size_t totals[OUTCOMES] = {0};
    char folder[PATH_SIZE / 2];
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: node_tests DIRECTORY [PREFIX]\n");
        return 2;
    }
    const int count = scandir(argv[1], &entries, is_test, alphasort);
    if (count < 0) {
        fprintf(stderr, "node_tests: %s cannot be listed\n", argv[1]);
        return 2;
    }
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        if (argc == 2 || strncmp(name, argv[2], strlen(argv[2])) == 0) {
            test *t = calloc(1, sizeof *t);
            if (!t)
                return 2;
            snprintf(folder, sizeof folder, "%s/%s", argv[1], name);
            const outcome result = run_test(t, folder);
            totals[result]++;
            printf("%s %s%s%s\n", names[result], name, t->message[0] ? ": " : "", t->message);
            test_free(t);
        }
        free(entries[i]);
    }
    free(entries);
    printf("%zu ok, %zu wrong, %zu refused, %zu absent\n", totals[OUTCOME_OK],
           totals[OUTCOME_WRONG], totals[OUTCOME_REFUSED], totals[OUTCOME_ABSENT]);
    return totals[OUTCOME_WRONG] > 0;
}
