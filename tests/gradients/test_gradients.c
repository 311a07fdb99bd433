/* The backward pass of every differentiable operator against central finite differences of its
 * forward pass, in double.
 *
 * For each case, with random weights w on the outputs, objective = sum w y:
 *   - d objective / d x[i] from backward equals (objective(x + h) - objective(x - h)) / 2h for
 *   every element of every float input;
 *   - backward reads nothing that `backward_reads` does not declare: the other values have no data;
 *   - a gradient wanted alone has the same bits as together with the others; without incoming
 *   gradients all are zero;
 *   - the same call in float32 agrees to float32's precision, forward and backward.
 * An operator with a backward pass but without a case is a failure.
 *
 * A case of Check has the operator's name: CK_RUN_CASE=Conv test_gradients runs those of Conv
 * alone. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "xai/status.h"

/* Truncation is of order h^2 = 1e-10 and rounding 1e-16 / h = 1e-11, relative to the values. */
#define STEP 1e-5
#define TOLERANCE 1e-6
#define TOLERANCE_FLOAT 2e-5

typedef struct problem {
    const gradient_case *source;
    operator_call call;
    tensor inputs[CASE_MAX_INPUTS], outputs[CASE_MAX_OUTPUTS];
    tensor weights[CASE_MAX_OUTPUTS]; /* incoming gradients */
    tensor gradients[CASE_MAX_INPUTS];
    onnx_attribute attributes[CASE_MAX_ATTRIBUTES];
    const tensor *input_pointers[CASE_MAX_INPUTS], *weight_pointers[CASE_MAX_OUTPUTS];
    tensor *output_pointers[CASE_MAX_OUTPUTS], *gradient_pointers[CASE_MAX_INPUTS];
    xai_error *error;
    char place[160], message[400]; /* what failed */
} problem;

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double uniform(uint64_t *state, double low, double high)
{
    return low + (high - low) * ((double)(next_random(state) >> 11) * 0x1p-53);
}

/* Seeded by the names, so that a case keeps its numbers when others come and go. */
static uint64_t seed_of(const gradient_case *source)
{
    uint64_t seed = 14695981039346656037u;
    for (const char *texts[] = {source->op, source->note, NULL}, **text = texts; *text; text++)
        for (const char *c = *text; *c; c++)
            seed = (seed ^ (unsigned char)*c) * 1099511628211u;
    return seed;
}

static bool is_differentiated(const gradient_input *input)
{
    return !input->omitted && input->dtype == DTYPE_UNDEFINED && !input->constant;
}

/* Values are floats, so that the float32 run starts from the same numbers. */
static double draw(const gradient_input *input, size_t index, uint64_t *state)
{
    if (input->values)
        return input->values[index];
    double value = uniform(state, input->low, input->high);
    for (size_t k = 0; k < input->avoid_count; k++)
        if (fabs(value - input->avoid[k]) < input->margin)
            value = input->avoid[k] + (value < input->avoid[k] ? -1 : 1) *
                                          (input->margin + fabs(value - input->avoid[k]));
    return (double)(float)value;
}

static bool report(problem *p, const char *what)
{
    snprintf(p->message, sizeof p->message, "%s: %s%s%s", p->place, what, p->error ? ": " : "",
             p->error ? xai_error_message(p->error) : "");
    return false;
}

static void problem_free(problem *p)
{
    for (int i = 0; i < CASE_MAX_INPUTS; i++) {
        tensor_free(&p->inputs[i]);
        tensor_free(&p->gradients[i]);
    }
    for (int i = 0; i < CASE_MAX_OUTPUTS; i++) {
        tensor_free(&p->outputs[i]);
        tensor_free(&p->weights[i]);
    }
    xai_error_free(p->error);
}

/* Inputs, inferred outputs and weights; floats have the type `float_type`. */
static bool problem_make(problem *p, const gradient_case *source, int32_t float_type)
{
    uint64_t state = seed_of(source);
    *p = (problem){.source = source};
    snprintf(p->place, sizeof p->place, "%s (%s, opset %d, %s)", source->op,
             source->note ? source->note : "", source->opset, dtype_name(float_type));
    const operator_definition *definition =
        operator_find(source->domain ? source->domain : "", source->op);
    if (!definition)
        return report(p, "no such operator");
    size_t attributes = 0;
    for (; attributes < CASE_MAX_ATTRIBUTES && source->attributes[attributes].name; attributes++)
        p->attributes[attributes] = source->attributes[attributes];
    p->call = (operator_call){.definition = definition,
                              .attributes = p->attributes,
                              .attribute_count = attributes,
                              .opset = source->opset,
                              .input_count = (int)source->input_count,
                              .output_count = source->output_count > 0 ? source->output_count : 1,
                              .inputs = p->input_pointers,
                              .outputs = p->output_pointers,
                              .output_gradients = p->weight_pointers,
                              .input_gradients = p->gradient_pointers,
                              .place = p->place,
                              .error = &p->error};
    for (size_t i = 0; i < source->input_count; i++) {
        const gradient_input *input = &source->inputs[i];
        if (input->omitted)
            continue;
        const int32_t dtype = input->dtype != DTYPE_UNDEFINED ? input->dtype : float_type;
        if (tensor_create(&p->inputs[i], dtype, &input->dims, &p->error) != XAI_OK)
            return report(p, "input");
        for (size_t k = 0; k < tensor_count(&p->inputs[i]); k++)
            tensor_set(&p->inputs[i], k, draw(input, k, &state));
        p->input_pointers[i] = &p->inputs[i];
        if (!is_differentiated(input))
            continue;
        if (tensor_create(&p->gradients[i], float_type, &input->dims, &p->error) != XAI_OK)
            return report(p, "gradient");
        p->gradient_pointers[i] = &p->gradients[i];
    }
    tensor unknown[CASE_MAX_INPUTS]; /* infer sees the values of constants only */
    const tensor *unknown_pointers[CASE_MAX_INPUTS] = {0};
    for (size_t i = 0; i < source->input_count; i++) {
        unknown[i] = p->inputs[i];
        if (is_differentiated(&source->inputs[i]))
            unknown[i].data = NULL;
        unknown_pointers[i] = source->inputs[i].omitted ? NULL : &unknown[i];
    }
    for (int i = 0; i < p->call.output_count; i++)
        p->output_pointers[i] = &p->outputs[i];
    p->call.inputs = unknown_pointers;
    const xai_status inferred = definition->infer(&p->call);
    p->call.inputs = p->input_pointers;
    if (inferred != XAI_OK)
        return report(p, "infer");
    for (int i = 0; i < p->call.output_count; i++) {
        const int32_t dtype = p->outputs[i].dtype;
        const shape dims = p->outputs[i].shape;
        if (tensor_create(&p->outputs[i], dtype, &dims, &p->error) != XAI_OK)
            return report(p, "output");
        if (!dtype_is_float(dtype))
            continue;
        if (tensor_create(&p->weights[i], dtype, &dims, &p->error) != XAI_OK)
            return report(p, "weights");
        for (size_t k = 0; k < tensor_count(&p->weights[i]); k++)
            tensor_set(&p->weights[i], k, (double)(float)uniform(&state, -1, 1));
        p->weight_pointers[i] = &p->weights[i];
    }
    return true;
}

static bool forward(problem *p)
{
    return p->call.definition->forward(&p->call) == XAI_OK || report(p, "forward");
}

/* Backward with exactly the values that the definition declares. */
static bool backward(problem *p)
{
    tensor inputs[CASE_MAX_INPUTS], outputs[CASE_MAX_OUTPUTS];
    const tensor *input_pointers[CASE_MAX_INPUTS];
    tensor *output_pointers[CASE_MAX_OUTPUTS];
    const uint32_t reads = p->call.definition->backward_reads;
    operator_call call = p->call;
    for (int i = 0; i < call.input_count; i++) {
        inputs[i] = p->inputs[i];
        if (is_differentiated(&p->source->inputs[i]) && !(reads >> (i < 15 ? i : 15) & 1))
            inputs[i].data = NULL;
        input_pointers[i] = p->input_pointers[i] ? &inputs[i] : NULL;
    }
    for (int i = 0; i < call.output_count; i++) {
        outputs[i] = p->outputs[i];
        if (!(reads & OPERATOR_READS_OUTPUT(i)))
            outputs[i].data = NULL;
        output_pointers[i] = &outputs[i];
    }
    call.inputs = input_pointers;
    call.outputs = output_pointers;
    for (int i = 0; i < call.input_count; i++) /* a gradient that is not written shows as a NaN */
        if (call.input_gradients[i])
            memset(call.input_gradients[i]->data, 0xff, tensor_bytes(call.input_gradients[i]));
    return call.definition->backward(&call) == XAI_OK || report(p, "backward");
}

static double objective(const problem *p)
{
    double sum = 0;
    for (int i = 0; i < p->call.output_count; i++) {
        if (!p->weight_pointers[i])
            continue;
        const size_t count = tensor_count(&p->outputs[i]);
        for (size_t k = 0; k < count; k++)
            sum += tensor_get(&p->outputs[i], k) * tensor_get(&p->weights[i], k);
    }
    return sum;
}

static double largest(const tensor *self)
{
    double best = 0;
    const size_t count = tensor_count(self);
    for (size_t k = 0; k < count; k++)
        best = fmax(best, fabs(tensor_get(self, k)));
    return best;
}

static bool differences_agree(problem *p, size_t input)
{
    char text[200];
    tensor *x = &p->inputs[input];
    const tensor *gradient = &p->gradients[input];
    const double scale = fmax(largest(gradient), 1e-3);
    const size_t count = tensor_count(x);
    for (size_t k = 0; k < count; k++) {
        const double at = tensor_get(x, k), step = STEP * fmax(1, fabs(at));
        tensor_set(x, k, at + step);
        if (!forward(p))
            return false;
        const double above = objective(p);
        tensor_set(x, k, at - step);
        if (!forward(p))
            return false;
        const double below = objective(p), expected = (above - below) / (2 * step),
                     given = tensor_get(gradient, k);
        tensor_set(x, k, at);
        const double difference = fabs(given - expected) / fmax(scale, fabs(expected));
        if (!(difference <= TOLERANCE)) {
            snprintf(text, sizeof text,
                     "gradient of input %zu at element %zu (x = %g) is %.12g, finite differences "
                     "say %.12g",
                     input, k, at, given, expected);
            return report(p, text);
        }
    }
    return true;
}

/* Wanted one at a time, and without incoming gradients. */
static bool wanting_less_is_the_same(problem *p)
{
    tensor together;
    for (int i = 0; i < p->call.input_count; i++) {
        tensor *wanted = p->gradient_pointers[i], *saved[CASE_MAX_INPUTS];
        if (!wanted)
            continue;
        if (tensor_copy(&together, wanted, &p->error) != XAI_OK)
            return report(p, "copy");
        memcpy(saved, p->gradient_pointers, sizeof saved);
        memset(p->gradient_pointers, 0, sizeof p->gradient_pointers);
        p->gradient_pointers[i] = wanted;
        const bool done = backward(p);
        memcpy(p->gradient_pointers, saved, sizeof saved);
        const bool same = done && memcmp(together.data, wanted->data, tensor_bytes(wanted)) == 0;
        tensor_free(&together);
        if (!done)
            return false;
        if (!same)
            return report(p, "a gradient wanted alone differs from the one wanted with others");
    }
    const tensor *saved[CASE_MAX_OUTPUTS];
    memcpy(saved, p->weight_pointers, sizeof saved);
    memset(p->weight_pointers, 0, sizeof p->weight_pointers);
    const bool done = backward(p);
    memcpy(p->weight_pointers, saved, sizeof saved);
    if (!done)
        return false;
    for (int i = 0; i < p->call.input_count; i++)
        for (size_t k = 0; p->gradient_pointers[i] && k < tensor_count(&p->gradients[i]); k++)
            if (tensor_get(&p->gradients[i], k) != 0)
                return report(p, "no incoming gradient, but the outgoing one is not zero");
    return true;
}

static bool tensors_agree(problem *p, const tensor *exact, const tensor *rounded, const char *what)
{
    char text[160];
    const double scale = fmax(largest(exact), 1e-3);
    const size_t count = tensor_count(exact);
    for (size_t k = 0; k < count; k++) {
        const double expected = tensor_get(exact, k), given = tensor_get(rounded, k);
        if (!(fabs(expected - given) <= TOLERANCE_FLOAT * scale)) {
            snprintf(text, sizeof text, "%s at element %zu is %.9g, in double %.9g", what, k, given,
                     expected);
            return report(p, text);
        }
    }
    return true;
}

/* `exact` has its outputs and gradients from double. */
static bool floats_agree(problem *exact)
{
    problem p;
    bool ok = problem_make(&p, exact->source, DTYPE_FLOAT) && forward(&p) && backward(&p);
    for (int i = 0; ok && i < p.call.output_count; i++)
        ok = tensors_agree(&p, &exact->outputs[i], &p.outputs[i], "output");
    for (int i = 0; ok && i < p.call.input_count; i++)
        if (p.gradient_pointers[i])
            ok = tensors_agree(&p, &exact->gradients[i], &p.gradients[i], "gradient");
    if (!ok)
        memcpy(exact->message, p.message, sizeof exact->message);
    problem_free(&p);
    return ok;
}

static void run_case(const gradient_case *source)
{
    problem p;
    char message[sizeof p.message];
    bool ok = problem_make(&p, source, DTYPE_DOUBLE);
    if (ok && !p.call.definition->backward)
        ok = report(&p, "the operator has no backward pass");
    ok = ok && forward(&p) && backward(&p) && floats_agree(&p);
    ok = ok && wanting_less_is_the_same(&p);
    ok = ok && backward(&p); /* the gradients again */
    for (size_t i = 0; ok && i < source->input_count; i++)
        if (is_differentiated(&source->inputs[i]))
            ok = differences_agree(&p, i);
    memcpy(message, p.message, sizeof message);
    problem_free(&p);
    ck_assert_msg(ok, "%s", message);
}

START_TEST(gradients_agree_with_finite_differences_a)
{
    run_case(&gradient_cases_a[_i]);
}
END_TEST

START_TEST(gradients_agree_with_finite_differences_b)
{
    run_case(&gradient_cases_b[_i]);
}
END_TEST

START_TEST(gradients_agree_with_finite_differences_sequence)
{
    run_case(&gradient_cases_sequence[_i]);
}
END_TEST

/* Rounding has no slope: FakeQuantize hands on the gradient where x is within the range of int8,
 * and stops it where x saturates. */
START_TEST(fake_quantize_is_straight_through)
{
    double x[] = {-1, 0.26, 12.6, 12.8, -12.8, -13, 100}, g[] = {1, 2, 3, 4, 5, 6, 7}, wanted[7];
    static const double expected_y[] = {-1, 0.3, 12.6, 12.7, -12.8, -12.8, 12.7},
                        expected_g[] = {1, 2, 3, 0, 5, 0, 0};
    double scale = 0.1, y[7];
    const shape list = shape_make(1, (const int64_t[]){7}), scalar = {0};
    const tensor inputs[] = {{.dtype = DTYPE_DOUBLE, .shape = list, .data = x},
                             {.dtype = DTYPE_DOUBLE, .shape = scalar, .data = &scale}},
                 slopes = {.dtype = DTYPE_DOUBLE, .shape = list, .data = g};
    tensor output = {0}, gradient = {.dtype = DTYPE_DOUBLE, .shape = list, .data = wanted};
    const onnx_attribute type = ATTRIBUTE_INT("quantised_type", DTYPE_INT8);
    operator_call call = {.definition = operator_find("xai", "FakeQuantize"),
                          .attributes = &type,
                          .attribute_count = 1,
                          .opset = 1,
                          .input_count = 2,
                          .output_count = 1,
                          .inputs = (const tensor *[]){&inputs[0], &inputs[1]},
                          .outputs = (tensor *[]){&output},
                          .output_gradients = (const tensor *[]){&slopes},
                          .input_gradients = (tensor *[]){&gradient, NULL},
                          .place = "FakeQuantize"};
    ck_assert_int_eq(call.definition->infer(&call), XAI_OK);
    output.data = y;
    ck_assert_int_eq(call.definition->forward(&call), XAI_OK);
    ck_assert_int_eq(call.definition->backward(&call), XAI_OK);
    for (int i = 0; i < 7; i++) {
        ck_assert_double_eq_tol(y[i], expected_y[i], 1e-12);
        ck_assert_double_eq(wanted[i], expected_g[i]);
    }
}
END_TEST

static bool lists_operator(const gradient_case *cases, const operator_definition *definition)
{
    for (const gradient_case *c = cases; c->op; c++)
        if (strcmp(c->op, definition->name) == 0 &&
            strcmp(c->domain ? c->domain : "", definition->domain) == 0)
            return true;
    return false;
}

START_TEST(every_differentiable_operator_has_a_case)
{
    size_t count;
    const operator_definition *const *table = operator_table(&count);
    for (size_t i = 0; i < count; i++)
        if (table[i]->backward && strcmp(table[i]->name, "FakeQuantize") != 0)
            ck_assert_msg(lists_operator(gradient_cases_a, table[i]) ||
                              lists_operator(gradient_cases_b, table[i]) ||
                              lists_operator(gradient_cases_sequence, table[i]),
                          "%s is differentiable, but there is no case", table[i]->name);
}
END_TEST

/* Cases of one operator that follow each other make one case of Check. */
static void add_cases(Suite *suite, const gradient_case *cases, const TTest *test)
{
    for (int begin = 0, end = 0; cases[begin].op; begin = end) {
        while (cases[end].op && strcmp(cases[end].op, cases[begin].op) == 0)
            end++;
        TCase *operator_cases = tcase_create(cases[begin].op);
        tcase_set_timeout(operator_cases, 60);
        tcase_add_loop_test(operator_cases, test, begin, end);
        suite_add_tcase(suite, operator_cases);
    }
}

int main(void)
{
    Suite *suite = suite_create("gradients");
    TCase *table = tcase_create("table");
    tcase_add_test(table, every_differentiable_operator_has_a_case);
    tcase_add_test(table, fake_quantize_is_straight_through);
    suite_add_tcase(suite, table);
    add_cases(suite, gradient_cases_a, gradients_agree_with_finite_differences_a);
    add_cases(suite, gradient_cases_b, gradients_agree_with_finite_differences_b);
    add_cases(suite, gradient_cases_sequence, gradients_agree_with_finite_differences_sequence);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
