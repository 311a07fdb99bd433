#include "ops/rescale.h"

#include <math.h>
#include <string.h>

#include "ops/evaluation.h"
#include "ops/support.h"

/* Points of the line that RESCALE_PATH looks at. */
#define PATH_POINTS 32

static const struct {
    const char *name;
    rescale_kind kind;
} kinds[] = {
    {"Conv", RESCALE_MIDDLE},
    {"ConvTranspose", RESCALE_MIDDLE},
    {"AveragePool", RESCALE_MIDDLE},
    {"GlobalAveragePool", RESCALE_MIDDLE},
    {"MatMul", RESCALE_MIDDLE},
    {"Gemm", RESCALE_MIDDLE},
    {"Resize", RESCALE_MIDDLE},
    {"Upsample", RESCALE_MIDDLE},
    {"Reshape", RESCALE_MIDDLE},
    {"Flatten", RESCALE_MIDDLE},
    {"Squeeze", RESCALE_MIDDLE},
    {"Unsqueeze", RESCALE_MIDDLE},
    {"Identity", RESCALE_MIDDLE},
    {"Dropout", RESCALE_MIDDLE},
    {"Transpose", RESCALE_MIDDLE},
    {"DepthToSpace", RESCALE_MIDDLE},
    {"SpaceToDepth", RESCALE_MIDDLE},
    {"Col2Im", RESCALE_MIDDLE},
    {"Slice", RESCALE_MIDDLE},
    {"Expand", RESCALE_MIDDLE},
    {"Tile", RESCALE_MIDDLE},
    {"Compress", RESCALE_MIDDLE},
    {"Trilu", RESCALE_MIDDLE},
    {"Concat", RESCALE_MIDDLE},
    {"Split", RESCALE_MIDDLE},
    {"Pad", RESCALE_MIDDLE},
    {"Gather", RESCALE_MIDDLE},
    {"GatherElements", RESCALE_MIDDLE},
    {"GatherND", RESCALE_MIDDLE},
    {"Scatter", RESCALE_MIDDLE},
    {"ScatterElements", RESCALE_MIDDLE},
    {"ScatterND", RESCALE_MIDDLE},
    {"Cast", RESCALE_MIDDLE},
    {"CastLike", RESCALE_MIDDLE},
    {"Add", RESCALE_MIDDLE},
    {"Sub", RESCALE_MIDDLE},
    {"Mul", RESCALE_MIDDLE},
    {"Neg", RESCALE_MIDDLE},
    {"Sum", RESCALE_MIDDLE},
    {"Mean", RESCALE_MIDDLE},
    {"ReduceSum", RESCALE_MIDDLE},
    {"ReduceMean", RESCALE_MIDDLE},
    {"ReduceSumSquare", RESCALE_MIDDLE},
    {"CumSum", RESCALE_MIDDLE},
    {"Einsum", RESCALE_MIDDLE}, /* of one or two operands; see below */
    {"RotaryEmbedding", RESCALE_MIDDLE},
    {"BatchNormalization", RESCALE_MIDDLE},
    {"ScaleShift", RESCALE_MIDDLE},
    {"Div", RESCALE_PAIR},
    {"Pow", RESCALE_PAIR},
    {"PRelu", RESCALE_PAIR},
    {"Clip", RESCALE_QUOTIENT},
    {"MaxPool", RESCALE_EXTREME},
    {"GlobalMaxPool", RESCALE_EXTREME},
    {"Max", RESCALE_EXTREME},
    {"Min", RESCALE_EXTREME},
    {"ReduceMax", RESCALE_EXTREME},
    {"ReduceMin", RESCALE_EXTREME},
    {"Where", RESCALE_SELECT},
    {"Softmax", RESCALE_SOFTMAX},
    {"LogSoftmax", RESCALE_LOG_SOFTMAX},
    {"ReduceL1", RESCALE_NORM},
    {"ReduceL2", RESCALE_NORM},
    {"ReduceLogSum", RESCALE_NORM},
    {"ReduceLogSumExp", RESCALE_NORM},
    {"InstanceNormalization", RESCALE_STANDARDISE},
    {"GroupNormalization", RESCALE_STANDARDISE},
    {"LayerNormalization", RESCALE_STANDARDISE},
    {"RMSNormalization", RESCALE_STANDARDISE},
};

rescale_kind operator_rescale_kind(const operator_definition *definition)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, definition->name) == 0)
            return kinds[i].kind;
    return definition->flags & OPERATOR_ELEMENTWISE ? RESCALE_QUOTIENT : RESCALE_PATH;
}

static xai_status open_both(evaluation *x, evaluation *r, operator_call *call,
                            const tensor *const *baseline)
{
    *r = (evaluation){0};
    xai_status status = evaluation_open(x, call, call->definition, call->inputs);
    if (status == XAI_OK)
        status = evaluation_open(r, call, call->definition, baseline);
    return status;
}

static void write_wanted(operator_call *call, size_t i, const double *values)
{
    tensor *wanted = call->input_gradients[i];
    tensor_write_doubles(wanted, 0, tensor_count(wanted), values);
}

/* Two numbers whose quotient of differences would be noise. */
static bool are_equal(double x, double r)
{
    return fabs(x - r) <= 1e-7 * fmax(fabs(x), fabs(r));
}

static double *floats_of_input(const evaluation *self, size_t i)
{
    return self->pointers[i] && self->tensors[i].dtype == DTYPE_DOUBLE ? self->tensors[i].data
                                                                       : NULL;
}

/* to = from + t (x - from) for every float input */
static void interpolate(evaluation *to, const evaluation *r, const evaluation *x, double t)
{
    for (size_t i = 0; i < to->inputs; i++) {
        double *out = floats_of_input(to, i);
        const double *a = floats_of_input(r, i), *b = floats_of_input(x, i);
        const size_t count = out ? tensor_count(&to->tensors[i]) : 0;
        for (size_t k = 0; k < count; k++)
            out[k] = a[k] == b[k] ? a[k] : a[k] + t * (b[k] - a[k]); /* also for infinities */
    }
}

/* ---- the rules ---- */

static xai_status rescale_middle(operator_call *call, const tensor *const *baseline)
{
    const size_t count = (size_t)call->input_count;
    tensor *means = memory_allocate_zeroed(count + 1, sizeof *means);
    const tensor **inputs = memory_allocate_zeroed(count + 1, sizeof *inputs);
    xai_status status = XAI_OK;
    if (!means || !inputs)
        status = operator_error(call, XAI_ERROR_MEMORY, "out of memory for a rule of DeepLIFT");
    for (size_t i = 0; status == XAI_OK && i < count; i++) {
        const tensor *x = inputs[i] = call->inputs[i];
        if (!x || !x->data || x->data == baseline[i]->data || !dtype_is_float(x->dtype))
            continue;
        status = tensor_create(&means[i], x->dtype, &x->shape, call->error);
        for (size_t k = 0; status == XAI_OK && k < tensor_count(x); k++)
            tensor_set(&means[i], k, 0.5 * tensor_get(x, k) + 0.5 * tensor_get(baseline[i], k));
        inputs[i] = &means[i];
    }
    operator_call at = *call;
    at.inputs = inputs;
    if (status == XAI_OK)
        status = call->definition->backward(&at);
    for (size_t i = 0; means && i < count; i++)
        tensor_free(&means[i]);
    memory_free(means);
    memory_free(inputs);
    return status;
}

static xai_status rescale_quotient(operator_call *call, const tensor *const *baseline)
{
    evaluation x, r, middle = {0};
    if (!call->input_gradients[0])
        return XAI_OK;
    xai_status status = open_both(&x, &r, call, baseline);
    if (status == XAI_OK)
        status = evaluation_open(&middle, call, call->definition, call->inputs);
    if (status == XAI_OK)
        status = evaluation_forward(&x);
    if (status == XAI_OK)
        status = evaluation_forward(&r);
    if (status == XAI_OK) {
        interpolate(&middle, &r, &x, 0.5);
        status = evaluation_forward(&middle);
    }
    if (status == XAI_OK && call->definition->backward)
        status = evaluation_backward(&middle);
    if (status == XAI_OK) {
        const double *a = evaluation_input(&x, 0), *b = evaluation_input(&r, 0),
                     *g = evaluation_given(&x);
        double *m = evaluation_wanted(&middle, 0);
        for (size_t i = 0; i < tensor_count(&x.tensors[0]); i++)
            if (!are_equal(a[i], b[i]))
                m[i] = g[i] * (evaluation_output(&x)[i] - evaluation_output(&r)[i]) / (a[i] - b[i]);
        write_wanted(call, 0, m);
    }
    evaluation_drop(&x);
    evaluation_drop(&r);
    evaluation_drop(&middle);
    return status;
}

/* One input of a pair, its own values `own`[2] = (x, r) and the other's `other`[2], all repeated to
 * the shape of y: out = g (f(x, b) - f(r, b) + f(x, b_r) - f(r, b_r)) / 2 / (x - r) */
static xai_status pair_multipliers(operator_call *call, size_t which, double *const own[2],
                                   double *const other[2], double *out)
{
    const shape *common = &call->outputs[0]->shape;
    const size_t count = tensor_count(call->outputs[0]);
    const tensor repeated = {.dtype = DTYPE_DOUBLE, .shape = *common, .data = own[0]};
    const tensor *inputs[2] = {&repeated, &repeated};
    tensor whole = repeated;
    tensor *wanted[2] = {NULL, NULL};
    evaluation e;
    wanted[which] = &whole;
    operator_call like = *call;
    like.input_gradients = wanted;
    xai_status status = evaluation_open(&e, &like, call->definition, inputs);
    for (size_t i = 0; i < count; i++)
        out[i] = 0;
    for (int side = 0; status == XAI_OK && side < 2; side++) {
        double *mine = evaluation_input(&e, which), *others = evaluation_input(&e, 1 - which);
        memcpy(others, other[side], count * sizeof *others);
        for (size_t i = 0; i < count; i++)
            mine[i] = 0.5 * (own[0][i] + own[1][i]);
        status = evaluation_forward(&e);
        if (status == XAI_OK)
            status = evaluation_backward(&e);
        for (size_t i = 0; status == XAI_OK && i < count; i++)
            if (are_equal(own[0][i], own[1][i]))
                out[i] += 0.5 * evaluation_wanted(&e, which)[i];
        for (int end = 0; status == XAI_OK && end < 2; end++) {
            memcpy(mine, own[end], count * sizeof *mine);
            status = evaluation_forward(&e);
            for (size_t i = 0; status == XAI_OK && i < count; i++)
                if (!are_equal(own[0][i], own[1][i]))
                    out[i] += (end ? -0.5 : 0.5) * evaluation_given(&e)[i] *
                              evaluation_output(&e)[i] / (own[0][i] - own[1][i]);
        }
    }
    evaluation_drop(&e);
    return status;
}

static xai_status rescale_pair(operator_call *call, const tensor *const *baseline)
{
    const shape *common = &call->outputs[0]->shape;
    void *values[2][2] = {{NULL}}; /* by input; x, r */
    double *out = NULL;
    xai_status status = operator_allocate(call, tensor_count(call->outputs[0]), &out);
    for (int i = 0; status == XAI_OK && i < 2; i++) {
        status = operator_read_repeated(call, call->inputs[i], true, common, &values[i][0]);
        if (status == XAI_OK)
            status = operator_read_repeated(call, baseline[i], true, common, &values[i][1]);
    }
    for (size_t i = 0; status == XAI_OK && i < 2; i++) {
        if (!call->input_gradients[i])
            continue;
        double *const own[2] = {values[i][0], values[i][1]}, *const other[2] = {values[1 - i][0],
                                                                                values[1 - i][1]};
        status = pair_multipliers(call, i, own, other, out);
        if (status == XAI_OK)
            status = operator_write_reduced(call, common, out, call->input_gradients[i]);
    }
    for (int i = 0; i < 2; i++) {
        memory_free(values[i][0]);
        memory_free(values[i][1]);
    }
    memory_free(out);
    return status;
}

/* Where y rose, its winner p in x moved further: x_p - r_p >= y - y_r, since r_p <= y_r; where it
 * fell, its winner in r did. Minima the other way round. Ties share. */
static xai_status rescale_extreme(operator_call *call, const tensor *const *baseline)
{
    evaluation x, r, plain = {0};
    const bool minimum = strstr(call->definition->name, "Min") != NULL;
    xai_status status = open_both(&x, &r, call, baseline);
    if (status == XAI_OK)
        status = evaluation_open(&plain, call, call->definition, call->inputs);
    if (status == XAI_OK)
        status = evaluation_forward(&x);
    if (status == XAI_OK)
        status = evaluation_forward(&r);
    if (status == XAI_OK)
        status = evaluation_forward(&plain);
    if (status == XAI_OK)
        status = evaluation_backward(&plain);
    if (status == XAI_OK) {
        for (size_t i = 0; i < tensor_count(call->outputs[0]); i++) {
            const double change = evaluation_output(&x)[i] - evaluation_output(&r)[i];
            const bool to_x = minimum ? change < 0 : change > 0;
            evaluation_given(&r)[i] *= to_x ? 0 : change;
            evaluation_given(&x)[i] *= to_x ? change : 0;
        }
        status = evaluation_backward(&x);
    }
    if (status == XAI_OK)
        status = evaluation_backward(&r);
    for (size_t i = 0; status == XAI_OK && i < x.inputs; i++) {
        double *m = evaluation_wanted(&plain, i);
        if (!m)
            continue;
        for (size_t k = 0; k < tensor_count(call->inputs[i]); k++) {
            const double d = evaluation_input(&x, i)[k] - evaluation_input(&r, i)[k];
            if (d != 0)
                m[k] = (evaluation_wanted(&x, i)[k] + evaluation_wanted(&r, i)[k]) / d;
        }
        write_wanted(call, i, m);
    }
    evaluation_drop(&x);
    evaluation_drop(&r);
    evaluation_drop(&plain);
    return status;
}

/* Where the condition holds in both or in neither, y is a copy. Where it changed, y - y_r is shared in
 * proportion to |a - a_r| and |b - b_r|. */
static xai_status rescale_select(operator_call *call, const tensor *const *baseline)
{
    const shape *common = &call->outputs[0]->shape;
    const size_t count = tensor_count(call->outputs[0]);
    void *values[3][2] = {{NULL}};
    double *out = NULL, *g = NULL;
    xai_status status = operator_allocate(call, count, &out);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->output_gradients[0], &g);
    for (int i = 0; status == XAI_OK && i < 3; i++) {
        status = operator_read_repeated(call, call->inputs[i], true, common, &values[i][0]);
        if (status == XAI_OK)
            status = operator_read_repeated(call, baseline[i], true, common, &values[i][1]);
    }
    for (int i = 1; status == XAI_OK && i < 3; i++) {
        const double *c = values[0][0], *c_r = values[0][1], *a = values[1][0], *a_r = values[1][1],
                     *b = values[2][0], *b_r = values[2][1];
        if (!call->input_gradients[i])
            continue;
        for (size_t k = 0; k < count; k++) {
            const bool chosen = c[k] != 0, chosen_r = c_r[k] != 0;
            const double da = a[k] - a_r[k], db = b[k] - b_r[k], moved = fabs(da) + fabs(db);
            const double change = (chosen ? a[k] : b[k]) - (chosen_r ? a_r[k] : b_r[k]);
            if (chosen == chosen_r)
                out[k] = chosen == (i == 1) ? g[k] : 0;
            else
                out[k] =
                    moved == 0 ? 0 : g[k] * copysign(change / moved, (i == 1 ? da : db) * change);
        }
        status = operator_write_reduced(call, common, out, call->input_gradients[i]);
    }
    for (int i = 0; i < 3; i++) {
        memory_free(values[i][0]);
        memory_free(values[i][1]);
    }
    memory_free(out);
    memory_free(g);
    return status;
}

/* (e^x - e^r) / (x - r) over e^((x + r) / 2): sinh(d / 2) / (d / 2) */
static double exp_quotient(double d)
{
    const double h = 0.5 * d;
    return fabs(h) < 1e-3 ? 1 + h * h / 6 : sinh(h) / h;
}

/* out[i] = sum of `values` over the row of i. The gradient of LogSoftmax where it came out as 0 is
 * g - sum g. */
static xai_status row_sums(evaluation *rows, const double *values, double *out)
{
    const size_t count = tensor_count(&rows->tensors[0]);
    memset(evaluation_output(rows), 0, count * sizeof *out);
    memcpy(evaluation_given(rows), values, count * sizeof *out);
    const xai_status status = evaluation_backward(rows);
    for (size_t i = 0; status == XAI_OK && i < count; i++)
        out[i] = values[i] - evaluation_wanted(rows, 0)[i];
    return status;
}

/* As exp, sum and quotient, each by its rule; see kernels_rescale.c. LogSoftmax as x - log sum exp x. */
static xai_status rescale_softmax(operator_call *call, const tensor *const *baseline)
{
    const bool logarithm = strcmp(call->definition->name, "LogSoftmax") == 0;
    const operator_definition *rows = operator_find("", "LogSoftmax");
    evaluation x, r = {0};
    double *logs = NULL, *logs_r = NULL, *sums = NULL, *sums_r = NULL, *g = NULL;
    if (!call->input_gradients[0])
        return XAI_OK;
    xai_status status = evaluation_open(&x, call, rows, call->inputs);
    if (status == XAI_OK)
        status = evaluation_open(&r, call, rows, baseline);
    const size_t count = tensor_count(call->inputs[0]);
    double **const arrays[] = {&logs, &logs_r, &sums, &sums_r, &g};
    for (size_t i = 0; status == XAI_OK && i < 5; i++)
        status = operator_allocate(call, count, arrays[i]);
    if (status == XAI_OK)
        status = evaluation_forward(&x);
    if (status == XAI_OK)
        status = evaluation_forward(&r);
    if (status != XAI_OK)
        goto done;
    memcpy(logs, evaluation_output(&x), count * sizeof *logs);
    memcpy(logs_r, evaluation_output(&r), count * sizeof *logs);
    memcpy(g, evaluation_given(&x), count * sizeof *g);
    for (size_t i = 0; i < count; i++) {
        sums[i] = logarithm ? g[i] : g[i] * exp(logs[i]);
        sums_r[i] = g[i] * exp(logs_r[i]);
    }
    status = row_sums(&x, sums, sums);
    if (status == XAI_OK && !logarithm)
        status = row_sums(&r, sums_r, sums_r);
    for (size_t i = 0; status == XAI_OK && i < count; i++) {
        const double v = evaluation_input(&x, 0)[i], w = evaluation_input(&r, 0)[i], d = v - w;
        if (!isfinite(logs[i]) || !isfinite(logs_r[i])) { /* masked with minus infinity */
            evaluation_wanted(&x, 0)[i] = logarithm ? g[i] : 0;
            continue;
        }
        /* Half the change of the row's L = log sum exp x. */
        const double half = 0.5 * fmin(fmax((v - logs[i]) - (w - logs_r[i]), -600), 600);
        /* (e^x - e^r) / (x - r) over e^((L + L_r) / 2) */
        const double quotient = fabs(d) < 1 ? exp(0.5 * (logs[i] + logs_r[i])) * exp_quotient(d)
                                            : (exp(logs[i] + half) - exp(logs_r[i] - half)) / d;
        if (logarithm) {
            evaluation_wanted(&x, 0)[i] = g[i] - sums[i] * quotient / exp_quotient(2 * half);
        } else {
            const double root = exp(-half);
            evaluation_wanted(&x, 0)[i] =
                0.5 * quotient * (g[i] * (root + 1 / root) - sums[i] / root - sums_r[i] * root);
        }
    }
    if (status == XAI_OK)
        write_wanted(call, 0, evaluation_wanted(&x, 0));
done:
    evaluation_drop(&x);
    evaluation_drop(&r);
    for (size_t i = 0; i < 5; i++)
        memory_free(*arrays[i]);
    return status;
}

/* y = f(sum h(x)): the quotient of f times that of h. ReduceMean brings a row's number back to its
 * elements. */
static xai_status rescale_norm(operator_call *call, const tensor *const *baseline)
{
    evaluation x, r, rows = {0};
    const char *name = call->definition->name;
    const bool absolute = strcmp(name, "ReduceL1") == 0, root = strcmp(name, "ReduceL2") == 0,
               exponential = strcmp(name, "ReduceLogSumExp") == 0;
    if (!call->input_gradients[0])
        return XAI_OK;
    xai_status status = open_both(&x, &r, call, baseline);
    if (status == XAI_OK)
        status = evaluation_open(&rows, call, operator_find("", "ReduceMean"), call->inputs);
    if (status == XAI_OK)
        status = evaluation_forward(&x);
    if (status == XAI_OK)
        status = evaluation_forward(&r);
    const size_t count = tensor_count(call->inputs[0]), outputs = tensor_count(call->outputs[0]);
    const double width = outputs ? (double)count / (double)outputs : 1;
    double *middle = NULL;
    if (status == XAI_OK)
        status = operator_allocate(call, count, &middle);
    for (int pass = exponential ? 0 : 1; status == XAI_OK && pass < 2; pass++) {
        for (size_t o = 0; o < outputs; o++) {
            const double y = evaluation_output(&x)[o], y_r = evaluation_output(&r)[o],
                         g = evaluation_given(&x)[o];
            double value;
            if (pass == 0)
                value = 0.5 * (y + y_r);
            else if (absolute)
                value = g;
            else if (root)
                value = y + y_r > 0 ? g / (y + y_r) : 0;
            else if (exponential)
                value = g / exp_quotient(y - y_r);
            else /* d y / d e^y */
                value = g / (exp(0.5 * (y + y_r)) * exp_quotient(y - y_r));
            evaluation_given(&rows)[o] = value * width;
        }
        status = evaluation_backward(&rows);
        if (status == XAI_OK && pass == 0)
            memcpy(middle, evaluation_wanted(&rows, 0), count * sizeof *middle);
    }
    for (size_t i = 0; status == XAI_OK && i < count; i++) {
        const double v = evaluation_input(&x, 0)[i], w = evaluation_input(&r, 0)[i];
        double quotient = 1;
        if (absolute)
            quotient = v == w ? (v > 0) - (v < 0) : (fabs(v) - fabs(w)) / (v - w);
        else if (root)
            quotient = v + w;
        else if (exponential)
            quotient = fabs(v - w) < 1 ? exp(0.5 * (v + w) - middle[i]) * exp_quotient(v - w)
                                       : (exp(v - middle[i]) - exp(w - middle[i])) / (v - w);
        evaluation_wanted(&rows, 0)[i] *= quotient;
    }
    if (status == XAI_OK)
        write_wanted(call, 0, evaluation_wanted(&rows, 0));
    memory_free(middle);
    evaluation_drop(&x);
    evaluation_drop(&r);
    evaluation_drop(&rows);
    return status;
}

/* Gauss-Legendre points and weights on [0, 1], by Newton's method on the Legendre polynomial. */
static void path_points(double *points, double *weights)
{
    const int n = PATH_POINTS;
    for (int i = 0; i < n; i++) {
        double z = cos(3.141592653589793 * (i + 0.75) / (n + 0.5)), slope = 1;
        for (int round = 0; round < 50; round++) {
            double p = 1, before = 0;
            for (int k = 0; k < n; k++) {
                const double older = before;
                before = p;
                p = ((2 * k + 1) * z * before - k * older) / (k + 1);
            }
            slope = n * (z * p - before) / (z * z - 1);
            const double step = p / slope;
            z -= step;
            if (fabs(step) < 1e-15)
                break;
        }
        points[i] = 0.5 * (1 - z);
        weights[i] = 1 / ((1 - z * z) * slope * slope);
    }
}

static xai_status rescale_path(operator_call *call, const tensor *const *baseline)
{
    double points[PATH_POINTS], weights[PATH_POINTS];
    evaluation x, r, at = {0};
    path_points(points, weights);
    xai_status status = open_both(&x, &r, call, baseline);
    if (status == XAI_OK)
        status = evaluation_open(&at, call, call->definition, call->inputs);
    for (int p = 0; status == XAI_OK && p < PATH_POINTS; p++) {
        interpolate(&at, &r, &x, points[p]);
        status = evaluation_forward(&at);
        if (status == XAI_OK)
            status = evaluation_backward(&at);
        for (size_t i = 0; status == XAI_OK && i < at.inputs; i++) {
            const double *found = evaluation_wanted(&at, i);
            double *sum = evaluation_wanted(&x, i);
            for (size_t k = 0; found && k < tensor_count(call->input_gradients[i]); k++)
                sum[k] = (p == 0 ? 0 : sum[k]) + weights[p] * found[k];
        }
    }
    for (size_t i = 0; status == XAI_OK && i < x.inputs; i++)
        if (evaluation_wanted(&x, i))
            write_wanted(call, i, evaluation_wanted(&x, i));
    evaluation_drop(&x);
    evaluation_drop(&r);
    evaluation_drop(&at);
    return status;
}

xai_status operator_rescale(operator_call *call, const tensor *const *baseline)
{
    const rescale_kind kind = operator_rescale_kind(call->definition);
    if (!operator_output_gradient(call, 0) && kind != RESCALE_MIDDLE && kind != RESCALE_PATH) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    switch (kind) {
    case RESCALE_MIDDLE:
        if (call->input_count > 2 && strcmp(call->definition->name, "Einsum") == 0)
            break; /* a polynomial, which the points of the line integrate exactly */
        return rescale_middle(call, baseline);
    case RESCALE_QUOTIENT:
        return rescale_quotient(call, baseline);
    case RESCALE_PAIR:
        return rescale_pair(call, baseline);
    case RESCALE_EXTREME:
        return rescale_extreme(call, baseline);
    case RESCALE_SELECT:
        return rescale_select(call, baseline);
    case RESCALE_SOFTMAX:
    case RESCALE_LOG_SOFTMAX:
        return rescale_softmax(call, baseline);
    case RESCALE_NORM:
        return rescale_norm(call, baseline);
    case RESCALE_STANDARDISE:
        if (operator_wanted_gradient(call, 1) || operator_wanted_gradient(call, 2))
            break; /* parameters that depend on the input */
        return standardise_rescale(call, baseline);
    case RESCALE_PATH:
        break;
    }
    return rescale_path(call, baseline);
}
