/* Gelu from its parts, in whatever order an exporter multiplies them:
 *   x 1/2 (1 + erf(x / sqrt 2)), or x 1/2 erfc(-x / sqrt 2)  -> Gelu(x)
 *   x 1/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))        -> Gelu(x; approximate = "tanh") */
#include <math.h>
#include <string.h>

#include "graph/rewrite.h"

enum { MAX_FACTORS = 4 };

/* A product of values and constants. */
typedef struct product {
    int values[MAX_FACTORS];
    int count;
    double scale; /* the constants */
} product;

/* What is negated, when `value` is read once and made by Neg: its sign goes into the scale. */
static int without_sign(const rewriter *self, int value, double *scale)
{
    const graph_node *negation = rewrite_producer(self, value, "Neg");
    if (!negation || !rewrite_is_inner(self, value))
        return value;
    *scale = -*scale;
    return negation->inputs[0];
}

/* The factors of a tree of Mul (and Div by constants) whose inner values are read once; `value` itself is not checked. */
static bool match_product(const rewriter *self, const graph_node *node, int depth, product *out)
{
    const bool quotient = rewrite_is(node, "Div");
    if (!quotient && !rewrite_is(node, "Mul"))
        return false;
    for (int k = 0; k < 2; k++) {
        const int value = without_sign(self, node->inputs[k], &out->scale);
        double scalar;
        if (rewrite_scalar(self, value, &scalar)) {
            if (quotient && k == 0)
                return false;
            out->scale *= quotient ? 1 / scalar : scalar;
            continue;
        }
        if (quotient && k == 1)
            return false;
        const graph_node *inner = rewrite_producer(self, value, "Mul");
        if (!inner)
            inner = rewrite_producer(self, value, "Div");
        const product before = *out;
        if (inner && depth > 0 && rewrite_is_inner(self, value) &&
            match_product(self, inner, depth - 1, out))
            continue;
        *out = before;
        if (out->count == MAX_FACTORS)
            return false;
        out->values[out->count++] = value;
    }
    return true;
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-6 * fabs(b); /* constants that went through float32 arithmetic */
}

/* value = scale x, with inner values read once. */
static bool is_multiple(const rewriter *self, int value, double scale, int *x)
{
    product found = {.scale = 1};
    const graph_node *node = rewrite_producer(self, value, "Mul");
    if (!node)
        node = rewrite_producer(self, value, "Div");
    if (!node || !rewrite_is_inner(self, value) || !match_product(self, node, 2, &found) ||
        found.count != 1 || !near(found.scale, scale))
        return false;
    *x = found.values[0];
    return true;
}

/* value = 0.044715 x^3, with inner values read once. */
static bool is_cubic_term(const rewriter *self, int value, int x)
{
    product found = {.scale = 1};
    const graph_node *node = rewrite_producer(self, value, "Mul");
    if (!node || !rewrite_is_inner(self, value) || !match_product(self, node, 3, &found) ||
        !near(found.scale, 0.044715))
        return false;
    if (found.count == 3)
        return found.values[0] == x && found.values[1] == x && found.values[2] == x;
    const graph_node *power = rewrite_producer(self, found.values[0], "Pow");
    return found.count == 1 && power && rewrite_is_inner(self, found.values[0]) &&
           power->inputs[0] == x && rewrite_is_scalar(self, power->inputs[1], 3);
}

/* value = sqrt(2 / pi) (x + 0.044715 x^3) */
static bool is_tanh_argument(const rewriter *self, int value, int x)
{
    int sum;
    if (!is_multiple(self, value, sqrt(2 / 3.14159265358979323846), &sum))
        return false;
    const graph_node *add = rewrite_producer(self, sum, "Add");
    if (!add || !rewrite_is_inner(self, sum))
        return false;
    return (add->inputs[0] == x && is_cubic_term(self, add->inputs[1], x)) ||
           (add->inputs[1] == x && is_cubic_term(self, add->inputs[0], x));
}

/* value = 1 + erf(x / sqrt 2), or with tanh, or erfc(-x / sqrt 2). */
static bool is_gate(const rewriter *self, int value, int x, bool *tanh_form)
{
    int inner, source;
    double one;
    const graph_node *complement = rewrite_producer(self, value, "Erfc");
    *tanh_form = false;
    if (complement && rewrite_is_inner(self, value))
        return is_multiple(self, complement->inputs[0], -sqrt(0.5), &source) && source == x;
    const graph_node *add = rewrite_producer(self, value, "Add");
    if (!add || !rewrite_is_inner(self, value) ||
        !rewrite_scalar_operand(self, add, &inner, &one) || one != 1 ||
        !rewrite_is_inner(self, inner))
        return false;
    const graph_node *erf_node = rewrite_producer(self, inner, "Erf");
    const graph_node *tanh_node = rewrite_producer(self, inner, "Tanh");
    *tanh_form = tanh_node != NULL;
    if (erf_node)
        return is_multiple(self, erf_node->inputs[0], sqrt(0.5), &source) && source == x;
    return tanh_node && is_tanh_argument(self, tanh_node->inputs[0], x);
}

xai_status rewrite_gelu(rewriter *self, int index)
{
    const graph_node *node = &self->graph->nodes[index];
    product found = {.scale = 1};
    if (node->output_count != 1 || node->outputs[0] == GRAPH_NONE || node->input_count != 2 ||
        !match_product(self, node, 2, &found) || found.count != 2 || found.scale != 0.5)
        return XAI_OK;
    for (int k = 0; k < 2; k++) {
        const int x = found.values[1 - k];
        bool tanh_form;
        if (!is_gate(self, found.values[k], x, &tanh_form))
            continue;
        const onnx_attribute approximate = {
            .name = "approximate", .type = ONNX_ATTRIBUTE_STRING, .s = "tanh"};
        const replacement with = {.domain = "",
                                  .op = "Gelu",
                                  .inputs = &x,
                                  .input_count = 1,
                                  .attributes = &approximate,
                                  .attribute_count = tanh_form ? 1 : 0,
                                  .opset = 20};
        return rewrite_replace(self, index, &with, NULL);
    }
    return XAI_OK;
}
