/* If, Loop and Scan written out: the branch that a constant condition takes, the iterations of a constant number. A Loop
 * becomes one iteration and a Loop of the rest, so that its condition can be computed before it is asked for again. A condition
 * that is computed from data becomes a constant behind the run (finish.c). */
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "graph/body.h"

#define MAX_ITERATIONS 2048

static xai_status out_of_memory(xai_error **error)
{
    return error_memory(error, "the graph", 0);
}

static const onnx_attribute *find(const graph_node *node, const char *name)
{
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, name) == 0)
            return &node->attributes[i];
    return NULL;
}

static xai_status find_graph(const graph_node *node, const char *name, const onnx_graph **out,
                             xai_error **error)
{
    const onnx_attribute *found = find(node, name);
    *out = found && found->type == ONNX_ATTRIBUTE_GRAPH ? found->graph : NULL;
    return *out ? XAI_OK
                : error_set(error, XAI_ERROR_FORMAT, node->place, "no subgraph '%s'", name);
}

/* "node[3]" in the graph's pool; without brackets when iteration < 0. */
static const char *prefix_of(graph *self, const char *name, int64_t iteration)
{
    text made = {0};
    text_append(&made, name);
    if (iteration >= 0)
        text_format(&made, "[%lld]", (long long)iteration);
    const char *copy =
        made.bytes && !made.failed ? memory_pool_text(self->pool, made.bytes, made.length) : NULL;
    text_free(&made);
    return copy;
}

static int add_constant(graph *self, const char *prefix, const char *what, int32_t dtype,
                        const shape *dims, int64_t number)
{
    text name = {0};
    tensor value = {0};
    int id = GRAPH_NONE;
    text_format(&name, "%s/%s", prefix, what);
    if (name.bytes && !name.failed && tensor_create(&value, dtype, dims, NULL) == XAI_OK) {
        tensor_set_int(&value, 0, number);
        id = graph_add_constant(self, name.bytes, &value);
    }
    tensor_free(&value);
    text_free(&name);
    return id;
}

static int add_scalar(graph *self, const char *prefix, const char *what, int32_t dtype,
                      int64_t number)
{
    const shape scalar = {0};
    return add_constant(self, prefix, what, dtype, &scalar, number);
}

/* A node of the default domain that makes `output`, or a new value when that is GRAPH_NONE. */
static int add_node(graph *self, const char *prefix, const char *op, const int *inputs,
                    int input_count, int output, const onnx_attribute *attribute)
{
    text name = {0};
    text_format(&name, "%s/%s", prefix, op);
    if (name.bytes && !name.failed && output == GRAPH_NONE)
        output = graph_add_value(self, name.bytes, 0, NULL);
    if (!name.bytes || name.failed || output == GRAPH_NONE ||
        graph_add_node(self, "", op, name.bytes, inputs, input_count, &output, 1, attribute,
                       attribute ? 1 : 0, 13) < 0)
        output = GRAPH_NONE;
    text_free(&name);
    return output;
}

static xai_status forward(graph *self, const char *prefix, int value, int output, xai_error **error)
{
    if (output == GRAPH_NONE)
        return XAI_OK;
    return add_node(self, prefix, "Identity", &value, 1, output, NULL) == GRAPH_NONE
               ? out_of_memory(error)
               : XAI_OK;
}

/* Names that every body of the node knows, in a new array with room for `more`. */
static body_name *captured(const graph_node *node, size_t more, size_t *count)
{
    const graph_control *control = node->control;
    body_name *names = memory_allocate((size_t)control->capture_count + more, sizeof *names);
    *count = 0;
    for (int i = 0; names && i < control->capture_count; i++)
        names[(*count)++] = (body_name){control->captures[i],
                                        node->inputs[control->declared + control->collected + i]};
    return names;
}

/* A constant scalar input; *known is false when it is omitted. */
static xai_status constant_input(const graph *self, const graph_node *node, int i, const char *what,
                                 int64_t *out, bool *known, xai_error **error)
{
    *known = i < node->control->declared && node->inputs[i] != GRAPH_NONE;
    if (!*known)
        return XAI_OK;
    const graph_value *value = &self->values[node->inputs[i]];
    if (!value->is_constant)
        return error_set(error, XAI_ERROR_INTERNAL, node->place, "%s is not known", what);
    if (tensor_count(&value->constant) != 1 || dtype_size(value->dtype) == 0)
        return error_set(error, XAI_ERROR_SHAPE, node->place, "%s is not one number", what);
    *out = tensor_get_int(&value->constant, 0);
    return XAI_OK;
}

/* --- If --- */

static xai_status expand_if(graph *self, graph_node node, xai_error **error)
{
    const onnx_graph *body;
    int64_t condition = 0;
    bool known;
    size_t count = 0;
    int *results = NULL;
    body_name *names = NULL;
    xai_status status = constant_input(self, &node, 0, "the condition", &condition, &known, error);
    if (status == XAI_OK && !known)
        status = error_set(error, XAI_ERROR_FORMAT, node.place, "the condition is missing");
    if (status == XAI_OK)
        status = find_graph(&node, condition ? "then_branch" : "else_branch", &body, error);
    if (status != XAI_OK)
        return status;
    if (body->output_count < (size_t)node.output_count)
        return error_set(error, XAI_ERROR_FORMAT, node.place, "%d outputs, but its branch has %zu",
                         node.output_count, body->output_count);
    names = captured(&node, 0, &count);
    results = memory_allocate(body->output_count, sizeof *results);
    status = names && results ? body_append_graph(self, &node.control->scope, body, node.name,
                                                  node.place, names, count, results, error)
                              : out_of_memory(error);
    for (int i = 0; i < node.output_count && status == XAI_OK; i++)
        status = forward(self, node.name, results[i], node.outputs[i], error);
    memory_free(names);
    memory_free(results);
    return status;
}

/* --- Loop: (M, condition, states...) -> (states..., scan outputs...); body (iteration, condition, states...) ->
 * (condition, states..., scan outputs...) --- */

/* Outputs of a Loop whose last iteration is done. */
static xai_status finish_loop(graph *self, const graph_node *node, const onnx_graph *body,
                              xai_error **error)
{
    const graph_control *control = node->control;
    const int states = control->declared - 2, scans = (int)body->output_count - 1 - states;
    const onnx_attribute axis = {.name = "axis", .type = ONNX_ATTRIBUTE_INT, .i = 0};
    xai_status status = XAI_OK;
    for (int i = 0; i < states && i < node->output_count && status == XAI_OK; i++)
        status = forward(self, node->name, node->inputs[2 + i], node->outputs[i], error);
    const int rounds = scans > 0 ? control->collected / scans : 0;
    for (int k = 0; k < scans && status == XAI_OK; k++) {
        const int output = states + k < node->output_count ? node->outputs[states + k] : GRAPH_NONE;
        if (output == GRAPH_NONE)
            continue;
        if (rounds == 0)
            return error_set(error, XAI_ERROR_UNSUPPORTED, node->place,
                             "a loop without iterations has outputs that collect them");
        int *pieces = memory_allocate((size_t)rounds, sizeof *pieces);
        for (int r = 0; pieces && r < rounds; r++)
            pieces[r] = node->inputs[control->declared + r * scans + k];
        if (!pieces || add_node(self, node->name, "Concat", pieces, rounds, output, &axis) < 0)
            status = out_of_memory(error);
        memory_free(pieces);
    }
    return status;
}

/* The Loop of what is left: M, the new condition and states, what was collected and its captures. */
static xai_status append_rest(graph *self, const graph_node *node, const onnx_graph *body,
                              const int *results, const char *prefix, xai_error **error)
{
    const graph_control *control = node->control;
    const int states = control->declared - 2, scans = (int)body->output_count - 1 - states;
    const shape one = shape_make(1, (const int64_t[]){1});
    graph_control *rest = memory_pool_allocate(self->pool, 1, sizeof *rest);
    int *inputs = memory_allocate((size_t)(node->input_count + scans), sizeof *inputs);
    xai_status status = rest && inputs ? XAI_OK : out_of_memory(error);
    int at = 0;
    if (status == XAI_OK) {
        *rest = *control;
        rest->iteration++;
        rest->collected += scans;
        inputs[at++] = node->inputs[0];
        for (int i = 0; i < 1 + states; i++)
            inputs[at++] = results[i];
        for (int i = 0; i < control->collected; i++)
            inputs[at++] = node->inputs[control->declared + i];
    }
    for (int k = 0; k < scans && status == XAI_OK; k++) {
        const int axes = add_constant(self, prefix, "axes", DTYPE_INT64, &one, 0);
        const int pair[] = {results[1 + states + k], axes};
        inputs[at] = axes == GRAPH_NONE
                         ? GRAPH_NONE
                         : add_node(self, prefix, "Unsqueeze", pair, 2, GRAPH_NONE, NULL);
        if (inputs[at++] == GRAPH_NONE)
            status = out_of_memory(error);
    }
    for (int i = 0; i < control->capture_count && status == XAI_OK; i++)
        inputs[at++] = node->inputs[control->declared + control->collected + i];
    if (status == XAI_OK) {
        const int index = graph_append_node(self, node->definition, node->name, node->place, inputs,
                                            at, node->outputs, node->output_count, node->attributes,
                                            node->attribute_count, node->opset);
        if (index < 0)
            status = out_of_memory(error);
        else
            self->nodes[index].control = rest;
    }
    memory_free(inputs);
    return status;
}

static xai_status expand_loop(graph *self, graph_node node, xai_error **error)
{
    const graph_control *control = node.control;
    const int states = control->declared - 2;
    const onnx_graph *body;
    int64_t limit = 0, condition = 1;
    bool limited, asked;
    size_t count = 0;
    body_name *names = NULL;
    int *results = NULL;
    xai_status status = find_graph(&node, "body", &body, error);
    if (status == XAI_OK && (states < 0 || body->input_count != (size_t)control->declared ||
                             body->output_count < (size_t)(1 + states)))
        status = error_set(error, XAI_ERROR_FORMAT, node.place,
                           "%d inputs, but its body has %zu inputs and %zu outputs",
                           control->declared, body->input_count, body->output_count);
    if (status == XAI_OK)
        status =
            constant_input(self, &node, 0, "the number of iterations", &limit, &limited, error);
    if (status == XAI_OK)
        status = constant_input(self, &node, 1, "the condition", &condition, &asked, error);
    if (status != XAI_OK)
        return status;
    if (!condition || (limited && control->iteration >= limit))
        return finish_loop(self, &node, body, error);
    if (control->iteration >= MAX_ITERATIONS)
        return error_set(error, XAI_ERROR_UNSUPPORTED, node.place, "more than %d iterations",
                         MAX_ITERATIONS);
    const char *prefix = prefix_of(self, node.name, control->iteration);
    names = captured(&node, (size_t)control->declared, &count);
    results = memory_allocate(body->output_count, sizeof *results);
    const int iteration =
        prefix ? add_scalar(self, prefix, "iteration", DTYPE_INT64, control->iteration)
               : GRAPH_NONE;
    const int before =
        !prefix || asked ? node.inputs[1] : add_scalar(self, prefix, "condition", DTYPE_BOOL, 1);
    if (!names || !results || !prefix || iteration == GRAPH_NONE || before == GRAPH_NONE) {
        status = out_of_memory(error);
    } else {
        for (int i = 0; i < control->declared; i++)
            names[count++] = (body_name){body->inputs[i].name, i == 0   ? iteration
                                                               : i == 1 ? before
                                                                        : node.inputs[i]};
        status = body_append_graph(self, &control->scope, body, prefix, node.place, names, count,
                                   results, error);
    }
    if (status == XAI_OK)
        status = append_rest(self, &node, body, results, prefix, error);
    memory_free(names);
    memory_free(results);
    return status;
}

/* --- Scan (from opset 9): (states..., sequences...) -> (states..., collected...), one iteration an index of the
 * sequences' axes --- */

typedef struct scan {
    const onnx_graph *body;
    int states, sequences, collected;
    int64_t length;
} scan;

/* Entry i of a list attribute that may be absent. */
static xai_status list_entry(const graph_node *node, const char *name, int i, int count,
                             int64_t *out, xai_error **error)
{
    const onnx_attribute *found = find(node, name);
    *out = 0;
    if (!found)
        return XAI_OK;
    if (found->type != ONNX_ATTRIBUTE_INTS || found->count != (size_t)count)
        return error_set(error, XAI_ERROR_FORMAT, node->place,
                         "attribute '%s' is not a list of %d integers", name, count);
    *out = found->ints[i];
    return XAI_OK;
}

static xai_status scan_make(const graph *self, const graph_node *node, scan *out, xai_error **error)
{
    const onnx_attribute *count = find(node, "num_scan_inputs");
    *out = (scan){.length = -1};
    xai_status status = find_graph(node, "body", &out->body, error);
    if (status != XAI_OK)
        return status;
    const int declared = node->control->declared;
    const int64_t sequences = count && count->type == ONNX_ATTRIBUTE_INT ? count->i : 0;
    if (sequences < 1 || sequences > declared || out->body->input_count != (size_t)declared ||
        (int64_t)out->body->output_count < declared - sequences)
        return error_set(error, XAI_ERROR_FORMAT, node->place,
                         "%d inputs of which %lld are scanned, but its body has %zu inputs and %zu "
                         "outputs",
                         declared, (long long)sequences, out->body->input_count,
                         out->body->output_count);
    out->sequences = (int)sequences;
    out->states = declared - out->sequences;
    out->collected = (int)out->body->output_count - out->states;
    for (int i = 0; i < out->sequences; i++) {
        int64_t axis;
        const int input = node->inputs[out->states + i];
        status = list_entry(node, "scan_input_axes", i, out->sequences, &axis, error);
        if (status != XAI_OK)
            return status;
        const shape *dims = input == GRAPH_NONE ? NULL : &self->values[input].shape;
        if (!dims || axis < -dims->rank || axis >= dims->rank)
            return error_set(error, XAI_ERROR_SHAPE, node->place,
                             "input %d has no axis %lld to scan", out->states + i, (long long)axis);
        const int64_t length = dims->dims[axis < 0 ? axis + dims->rank : axis];
        if (out->length >= 0 && length != out->length)
            return error_set(error, XAI_ERROR_SHAPE, node->place,
                             "its sequences have %lld and %lld steps", (long long)out->length,
                             (long long)length);
        out->length = length;
    }
    if (out->length == 0 || out->length > MAX_ITERATIONS)
        return error_set(error, XAI_ERROR_UNSUPPORTED, node->place, "%lld iterations (1 to %d)",
                         (long long)out->length, MAX_ITERATIONS);
    return XAI_OK;
}

/* Iteration t: slices of the sequences, the body. results: the body's outputs. */
static xai_status scan_step(graph *self, const graph_node *node, const scan *of, int64_t t,
                            const int *states, int *results, xai_error **error)
{
    const char *prefix = prefix_of(self, node->name, t);
    size_t count = 0;
    body_name *names = captured(node, (size_t)node->control->declared, &count);
    xai_status status = names && prefix ? XAI_OK : out_of_memory(error);
    for (int i = 0; i < of->states && status == XAI_OK; i++)
        names[count++] = (body_name){of->body->inputs[i].name, states[i]};
    for (int i = 0; i < of->sequences && status == XAI_OK; i++) {
        int64_t axis, backwards;
        status = list_entry(node, "scan_input_axes", i, of->sequences, &axis, error);
        if (status == XAI_OK)
            status = list_entry(node, "scan_input_directions", i, of->sequences, &backwards, error);
        if (status != XAI_OK)
            break;
        const onnx_attribute along = {.name = "axis", .type = ONNX_ATTRIBUTE_INT, .i = axis};
        const int index =
            add_scalar(self, prefix, "step", DTYPE_INT64, backwards ? of->length - 1 - t : t);
        const int pair[] = {node->inputs[of->states + i], index};
        const int slice = index == GRAPH_NONE
                              ? GRAPH_NONE
                              : add_node(self, prefix, "Gather", pair, 2, GRAPH_NONE, &along);
        if (slice == GRAPH_NONE)
            status = out_of_memory(error);
        names[count++] = (body_name){of->body->inputs[of->states + i].name, slice};
    }
    if (status == XAI_OK)
        status = body_append_graph(self, &node->control->scope, of->body, prefix, node->place,
                                   names, count, results, error);
    memory_free(names);
    return status;
}

/* Output k of what was collected: all iterations along its axis. */
static xai_status scan_collect(graph *self, const graph_node *node, const scan *of, int k,
                               const int *results, xai_error **error)
{
    const int output =
        of->states + k < node->output_count ? node->outputs[of->states + k] : GRAPH_NONE;
    const shape one = shape_make(1, (const int64_t[]){1});
    const int stride = (int)of->body->output_count;
    int64_t axis, backwards;
    if (output == GRAPH_NONE)
        return XAI_OK;
    xai_status status = list_entry(node, "scan_output_axes", k, of->collected, &axis, error);
    if (status == XAI_OK)
        status = list_entry(node, "scan_output_directions", k, of->collected, &backwards, error);
    if (status != XAI_OK)
        return status;
    const int length = (int)of->length;
    const int axes = add_constant(self, node->name, "axes", DTYPE_INT64, &one, axis);
    int *pieces = memory_allocate((size_t)length, sizeof *pieces);
    status = pieces && axes != GRAPH_NONE ? XAI_OK : out_of_memory(error);
    for (int t = 0; t < length && status == XAI_OK; t++) {
        const int at = backwards ? length - 1 - t : t;
        const int pair[] = {results[at * stride + of->states + k], axes};
        pieces[t] = add_node(self, node->name, "Unsqueeze", pair, 2, GRAPH_NONE, NULL);
        if (pieces[t] == GRAPH_NONE)
            status = out_of_memory(error);
    }
    const onnx_attribute along = {.name = "axis", .type = ONNX_ATTRIBUTE_INT, .i = axis};
    if (status == XAI_OK &&
        add_node(self, node->name, "Concat", pieces, length, output, &along) == GRAPH_NONE)
        status = out_of_memory(error);
    memory_free(pieces);
    return status;
}

static xai_status expand_scan(graph *self, graph_node node, xai_error **error)
{
    scan of;
    int *results = NULL;
    if (node.opset < 9)
        return error_set(error, XAI_ERROR_UNSUPPORTED, node.place,
                         "Scan is supported from opset 9 on");
    xai_status status = scan_make(self, &node, &of, error);
    if (status != XAI_OK)
        return status;
    const size_t stride = of.body->output_count;
    results = memory_allocate((size_t)of.length * stride, sizeof *results);
    if (!results)
        return out_of_memory(error);
    const int *states = node.inputs;
    for (int64_t t = 0; t < of.length && status == XAI_OK; t++) {
        int *here = results + (size_t)t * stride;
        status = scan_step(self, &node, &of, t, states, here, error);
        states = here;
    }
    for (int i = 0; i < of.states && i < node.output_count && status == XAI_OK; i++)
        status = forward(self, node.name, states[i], node.outputs[i], error);
    for (int k = 0; k < of.collected && status == XAI_OK; k++)
        status = scan_collect(self, &node, &of, k, results, error);
    memory_free(results);
    return status;
}

bool control_needs_data(const graph *self, const graph_node *node)
{
    const int asked = strcmp(node->definition->name, "If") == 0 ? 1
                      : strcmp(node->definition->name, "Loop") == 0
                          ? 2
                          : 0; /* a Scan's number is a shape */
    for (int i = 0; i < asked && i < node->control->declared; i++)
        if (node->inputs[i] != GRAPH_NONE && !self->values[node->inputs[i]].is_constant)
            return true;
    return false;
}

xai_status control_expand(graph *self, int index, xai_error **error)
{
    const graph_node node = self->nodes[index]; /* a copy: nodes move when others are appended */
    for (int i = 0; i < node.output_count; i++)
        if (node.outputs[i] != GRAPH_NONE)
            self->values[node.outputs[i]].producer = GRAPH_NONE;
    self->nodes[index].removed = true;
    if (strcmp(node.definition->name, "If") == 0)
        return expand_if(self, node, error);
    return strcmp(node.definition->name, "Loop") == 0 ? expand_loop(self, node, error)
                                                      : expand_scan(self, node, error);
}
