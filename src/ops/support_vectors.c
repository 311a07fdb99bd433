/* Linear classifiers (their label: the scores are a Gemm) and support vector machines.
 *
 *     K(x, v) = x.v, (gamma x.v + c)^d, tanh(gamma x.v + c), exp(-gamma |x - v|^2)
 *     regressor:   y = sum_i a_i K(x, v_i) + rho
 *     classifier:  a decision value for each pair of classes; votes, or probabilities by Platt's
 *                  sigmoids coupled as in Wu, Lin and Weng (2004) */
#include <math.h>
#include <string.h>

#include "ops/classifier.h"
#include "ops/families.h"

enum { KERNEL_LINEAR, KERNEL_POLY, KERNEL_RBF, KERNEL_SIGMOID };

typedef struct machine {
    int kernel;
    double gamma, shift, degree;
    size_t classes; /* 0 for a regressor */
    size_t vectors, features;
    const float *support, *coefficients, *rho, *slopes, *offsets; /* the last two: Platt's */
    size_t coefficient_count, rho_count, platt_count;
    const int64_t *per_class;
    class_labels labels;
    bool one_class;
} machine;

static xai_status read_floats(const operator_call *call, const char *name, const float **out,
                              size_t *count)
{
    const onnx_attribute *found = operator_attribute(call, name);
    *out = NULL;
    *count = 0;
    if (!found)
        return XAI_OK;
    if (found->type != ONNX_ATTRIBUTE_FLOATS)
        return operator_error(call, XAI_ERROR_FORMAT, "attribute '%s' is not a list of numbers",
                              name);
    *out = found->floats;
    *count = found->count;
    return XAI_OK;
}

static xai_status read_kernel(const operator_call *call, machine *out)
{
    static const char *const names[] = {"LINEAR", "POLY", "RBF", "SIGMOID"};
    const float *parameters;
    const char *name;
    size_t count;
    xai_status status = operator_attribute_text(call, "kernel_type", "LINEAR", &name);
    if (status == XAI_OK)
        status = read_floats(call, "kernel_params", &parameters, &count);
    if (status != XAI_OK)
        return status;
    out->kernel = -1;
    for (int i = 0; i < 4; i++)
        if (strcmp(name, names[i]) == 0)
            out->kernel = i;
    if (out->kernel < 0 || (count != 0 && count != 3))
        return operator_error(call, XAI_ERROR_FORMAT, "kernel '%.40s' with %zu parameters", name,
                              count);
    out->gamma = count ? (double)parameters[0] : 0;
    out->shift = count ? (double)parameters[1] : 0;
    out->degree = count ? (double)parameters[2] : 0;
    return XAI_OK;
}

static xai_status read_lists(const operator_call *call, machine *out)
{
    size_t support, offsets;
    int64_t one_class;
    xai_status status = read_kernel(call, out);
    if (status == XAI_OK)
        status = read_floats(call, "support_vectors", &out->support, &support);
    if (status == XAI_OK)
        status = read_floats(call, "coefficients", &out->coefficients, &out->coefficient_count);
    if (status == XAI_OK)
        status = read_floats(call, "rho", &out->rho, &out->rho_count);
    if (status == XAI_OK)
        status = read_floats(call, "prob_a", &out->slopes, &out->platt_count);
    if (status == XAI_OK)
        status = read_floats(call, "prob_b", &out->offsets, &offsets);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "one_class", 0, &one_class);
    if (status != XAI_OK)
        return status;
    out->one_class = one_class != 0;
    if (out->platt_count != offsets)
        return operator_error(call, XAI_ERROR_FORMAT, "'prob_a' and 'prob_b' differ in length");
    if (out->vectors == 0) { /* a hyperplane a target */
        const size_t rows = out->classes ? out->classes : 1;
        out->kernel = out->classes ? KERNEL_LINEAR : out->kernel;
        out->features = out->coefficient_count / rows;
    } else {
        if (support % out->vectors != 0)
            return operator_error(call, XAI_ERROR_FORMAT, "%zu numbers are no %zu vectors", support,
                                  out->vectors);
        out->features = support / out->vectors;
    }
    return XAI_OK;
}

static xai_status machine_read(const operator_call *call, machine *out)
{
    const bool classifier = call->definition->max_outputs == 2;
    int64_t vectors = 0;
    size_t classes = 0, pairs = 1, needed;
    *out = (machine){0};
    xai_status status = XAI_OK;
    if (classifier) {
        status = class_labels_read(call, "classlabels_ints", &out->labels);
        if (status == XAI_OK)
            status = operator_attribute_ints(call, "vectors_per_class", &out->per_class, &classes);
        out->classes = out->labels.count;
        for (size_t i = 0; i < classes && status == XAI_OK; i++) {
            if (out->per_class[i] < 0 || out->per_class[i] > INT32_MAX)
                return operator_error(call, XAI_ERROR_FORMAT, "%lld vectors of a class",
                                      (long long)out->per_class[i]);
            vectors += out->per_class[i];
        }
        pairs = out->classes * (out->classes - 1) / 2;
    } else {
        status = operator_attribute_int(call, "n_supports", 0, &vectors);
    }
    if (status != XAI_OK)
        return status;
    if (vectors < 0 || vectors > INT32_MAX || out->classes > 4096 ||
        (vectors > 0 && classifier && (classes != out->classes || classes < 2)))
        return operator_error(call, XAI_ERROR_FORMAT, "%lld support vectors of %zu classes",
                              (long long)vectors, classes);
    out->vectors = (size_t)vectors;
    status = read_lists(call, out);
    if (status != XAI_OK)
        return status;
    needed = out->vectors > 0 ? out->vectors * (classifier ? out->classes - 1 : 1)
                              : out->features * (classifier ? out->classes : 1);
    if (out->coefficient_count < needed || out->coefficient_count == 0 ||
        out->rho_count < (out->vectors > 0 ? pairs : 1) ||
        (out->platt_count > 0 && out->platt_count < pairs))
        return operator_error(call, XAI_ERROR_FORMAT,
                              "too few coefficients, rho or prob_a for %zu vectors of %zu classes",
                              out->vectors, out->classes);
    return XAI_OK;
}

static double kernel_value(const machine *self, const double *x, const float *vector)
{
    double sum = 0;
    for (size_t i = 0; i < self->features; i++) {
        const double v = (double)vector[i];
        sum += self->kernel == KERNEL_RBF ? (x[i] - v) * (x[i] - v) : x[i] * v;
    }
    switch (self->kernel) {
    case KERNEL_POLY:
        return pow(self->gamma * sum + self->shift, self->degree);
    case KERNEL_RBF:
        return exp(-self->gamma * sum);
    case KERNEL_SIGMOID:
        return tanh(self->gamma * sum + self->shift);
    default:
        return sum;
    }
}

static xai_status check_features(const operator_call *call, const machine *self, size_t *rows)
{
    size_t features;
    const xai_status status = feature_rows(call, rows, &features);
    if (status == XAI_OK && features != self->features)
        return operator_error(call, XAI_ERROR_SHAPE, "rows of %zu features where %zu are needed",
                              features, self->features);
    return status;
}

/* --- SVMRegressor --- */

static xai_status svm_regressor_infer(operator_call *call)
{
    machine self;
    size_t rows;
    const char *transform;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = machine_read(call, &self);
    if (status == XAI_OK)
        status = check_features(call, &self, &rows);
    if (status == XAI_OK)
        status = class_transform_read(call, &transform);
    return status == XAI_OK ? scores_infer(call, 0, 1) : status;
}

static xai_status svm_regressor_forward(operator_call *call)
{
    machine self;
    size_t rows = 0;
    double *x = NULL;
    const char *transform = "NONE";
    xai_status status = machine_read(call, &self);
    if (status == XAI_OK)
        status = check_features(call, &self, &rows);
    if (status == XAI_OK)
        status = class_transform_read(call, &transform);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    for (size_t r = 0; r < rows && status == XAI_OK; r++) {
        const double *row = x + r * self.features;
        double y = (double)self.rho[0];
        for (size_t i = 0; i < self.vectors; i++)
            y += (double)self.coefficients[i] *
                 kernel_value(&self, row, self.support + i * self.features);
        if (self.vectors == 0)
            y += kernel_value(&self, row, self.coefficients);
        if (self.one_class)
            y = y > 0 ? 1 : -1;
        else
            class_transform(transform, &y, 1);
        tensor_set(call->outputs[0], r, y);
    }
    memory_free(x);
    return status;
}

/* --- SVMClassifier --- */

static size_t score_columns(const machine *self)
{
    if (self->vectors == 0 || self->platt_count > 0)
        return self->classes;
    return self->classes > 2 ? self->classes * (self->classes - 1) / 2 : 2;
}

/* Decision values of the pairs (i, j), i < j; positive speaks for i. coefficients:
 * (classes - 1, vectors). */
static void decide_pairs(const machine *self, const double *kernels, double *out, double *votes)
{
    size_t pair = 0, begin_i = 0;
    for (size_t i = 0; i + 1 < self->classes; i++) {
        size_t begin_j = begin_i + (size_t)self->per_class[i];
        for (size_t j = i + 1; j < self->classes; j++, pair++) {
            double sum = (double)self->rho[pair];
            for (size_t m = begin_i; m < begin_i + (size_t)self->per_class[i]; m++)
                sum += (double)self->coefficients[(j - 1) * self->vectors + m] * kernels[m];
            for (size_t m = begin_j; m < begin_j + (size_t)self->per_class[j]; m++)
                sum += (double)self->coefficients[i * self->vectors + m] * kernels[m];
            out[pair] = sum;
            votes[sum > 0 ? i : j]++;
            begin_j += (size_t)self->per_class[j];
        }
        begin_i += (size_t)self->per_class[i];
    }
}

/* Class probabilities p that fit the pairwise r (r_ij + r_ji = 1): the iteration of Wu, Lin and
 * Weng, algorithm 2. work: (classes^2 + classes). */
static void couple(size_t classes, const double *r, double *work, double *p)
{
    double *q = work, *qp = work + classes * classes;
    for (size_t i = 0; i < classes; i++) {
        p[i] = 1 / (double)classes;
        q[i * classes + i] = 0;
        for (size_t j = 0; j < classes; j++) {
            if (j == i)
                continue;
            q[i * classes + i] += r[j * classes + i] * r[j * classes + i];
            q[i * classes + j] = -r[j * classes + i] * r[i * classes + j];
        }
    }
    for (int round = 0; round < 100; round++) {
        double pqp = 0, worst = 0;
        for (size_t i = 0; i < classes; i++) {
            qp[i] = 0;
            for (size_t j = 0; j < classes; j++)
                qp[i] += q[i * classes + j] * p[j];
            pqp += p[i] * qp[i];
        }
        for (size_t i = 0; i < classes; i++)
            worst = fmax(worst, fabs(qp[i] - pqp));
        if (worst < 0.005 / (double)classes)
            return;
        for (size_t i = 0; i < classes; i++) {
            const double step = (pqp - qp[i]) / q[i * classes + i];
            p[i] += step;
            pqp = (pqp + step * (step * q[i * classes + i] + 2 * qp[i])) / (1 + step) / (1 + step);
            for (size_t j = 0; j < classes; j++) {
                qp[j] = (qp[j] + step * q[i * classes + j]) / (1 + step);
                p[j] /= 1 + step;
            }
        }
    }
}

/* Platt's sigmoids of the decision values, in [1e-7, 1 - 1e-7]. */
static void pair_probabilities(const machine *self, const double *decisions, double *r)
{
    size_t pair = 0;
    for (size_t i = 0; i < self->classes; i++) {
        for (size_t j = i + 1; j < self->classes; j++, pair++) {
            const double z =
                decisions[pair] * (double)self->slopes[pair] + (double)self->offsets[pair];
            const double p = fmin(fmax(1 / (1 + exp(z)), 1e-7), 1 - 1e-7);
            r[i * self->classes + j] = p;
            r[j * self->classes + i] = 1 - p;
        }
    }
}

static size_t highest(const double *values, size_t count)
{
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
        if (values[i] > values[best])
            best = i;
    return best;
}

/* Scores and the class of one row. work: large enough for kernels, pairs, votes and matrices. */
static size_t classify(const machine *self, const double *x, double *work, double *scores)
{
    const size_t classes = self->classes, pairs = classes * (classes - 1) / 2;
    if (self->vectors == 0) {
        for (size_t k = 0; k < classes; k++)
            scores[k] = (double)self->rho[0] +
                        kernel_value(self, x, self->coefficients + k * self->features);
        return highest(scores, classes);
    }
    double *kernels = work, *decisions = kernels + self->vectors, *votes = decisions + pairs;
    double *r = votes + classes, *matrix = r + classes * classes;
    for (size_t i = 0; i < self->vectors; i++)
        kernels[i] = kernel_value(self, x, self->support + i * self->features);
    memset(votes, 0, classes * sizeof *votes);
    decide_pairs(self, kernels, decisions, votes);
    if (self->platt_count > 0) {
        pair_probabilities(self, decisions, r);
        couple(classes, r, matrix, scores);
    } else if (classes == 2) { /* positive speaks for the second class */
        scores[0] = decisions[0];
        scores[1] = -decisions[0];
    } else {
        memcpy(scores, decisions, pairs * sizeof *scores);
    }
    return highest(votes, classes);
}

static xai_status svm_classifier_infer(operator_call *call)
{
    machine self;
    size_t rows;
    const char *transform;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = machine_read(call, &self);
    if (status == XAI_OK)
        status = check_features(call, &self, &rows);
    if (status == XAI_OK)
        status = class_transform_read(call, &transform);
    if (status == XAI_OK)
        status = class_labels_infer(call, &self.labels, &call->inputs[0]->shape);
    return status == XAI_OK ? scores_infer(call, 1, score_columns(&self)) : status;
}

static xai_status svm_classifier_forward(operator_call *call)
{
    machine self;
    size_t rows = 0;
    double *x = NULL, *work = NULL, *scores = NULL;
    const char *transform = "NONE";
    tensor *label = operator_output(call, 0), *out = operator_output(call, 1);
    xai_status status = machine_read(call, &self);
    if (status == XAI_OK && label && !self.labels.numbers)
        status = operator_error(call, XAI_ERROR_UNSUPPORTED,
                                "class labels that are texts cannot be computed");
    if (status == XAI_OK)
        status = check_features(call, &self, &rows);
    if (status == XAI_OK)
        status = class_transform_read(call, &transform);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    if (status == XAI_OK)
        status =
            operator_allocate(call, self.vectors + self.classes * (3 * self.classes + 3), &work);
    if (status == XAI_OK)
        status = operator_allocate(call, score_columns(&self) + self.classes, &scores);
    for (size_t r = 0; r < rows && status == XAI_OK; r++) {
        const size_t columns = score_columns(&self);
        const size_t chosen = classify(&self, x + r * self.features, work, scores);
        class_transform(transform, scores, columns);
        if (label)
            tensor_set_int(label, r, self.labels.numbers[chosen]);
        if (out)
            tensor_write_doubles(out, r * columns, columns, scores);
    }
    memory_free(x);
    memory_free(work);
    memory_free(scores);
    return status;
}

/* --- LinearClassifier: the label; the import makes a Gemm of the scores --- */

static xai_status linear_classifier_infer(operator_call *call)
{
    class_labels labels;
    size_t rows, features;
    xai_status status = operator_check(call);
    if (status == XAI_OK)
        status = feature_rows(call, &rows, &features);
    if (status == XAI_OK)
        status = class_labels_read(call, "classlabels_ints", &labels);
    return status == XAI_OK ? class_labels_infer(call, &labels, &call->inputs[0]->shape) : status;
}

static xai_status linear_classifier_forward(operator_call *call)
{
    class_labels labels;
    const float *weights, *shifts;
    size_t rows = 0, features = 0, count, targets = 0;
    double *x = NULL, *scores = NULL;
    xai_status status = feature_rows(call, &rows, &features);
    if (status == XAI_OK)
        status = class_labels_read(call, "classlabels_ints", &labels);
    if (status == XAI_OK)
        status = read_floats(call, "coefficients", &weights, &count);
    if (status == XAI_OK)
        status = read_floats(call, "intercepts", &shifts, &targets);
    if (status == XAI_OK && targets == 0)
        targets = labels.count > 2 ? labels.count : 1;
    if (status == XAI_OK &&
        (!labels.numbers || count != targets * features || (targets > 1 && targets > labels.count)))
        status = operator_error(call, XAI_ERROR_FORMAT,
                                "%zu coefficients for %zu features and %zu scores", count, features,
                                targets);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    if (status == XAI_OK)
        status = operator_allocate(call, targets, &scores);
    for (size_t r = 0; r < rows && status == XAI_OK; r++) {
        for (size_t k = 0; k < targets; k++) {
            scores[k] = shifts ? (double)shifts[k] : 0;
            for (size_t i = 0; i < features; i++)
                scores[k] += (double)weights[k * features + i] * x[r * features + i];
        }
        const size_t chosen = targets > 1 ? highest(scores, targets) : scores[0] > 0;
        tensor_set_int(call->outputs[0], r,
                       chosen < labels.count ? labels.numbers[chosen] : (int64_t)chosen);
    }
    memory_free(x);
    memory_free(scores);
    return status;
}

#define MACHINE(symbol, title, least, most)         \
    const operator_definition operator_##symbol = { \
        .name = title,                              \
        .domain = "ai.onnx.ml",                     \
        .min_inputs = 1,                            \
        .max_inputs = 1,                            \
        .min_outputs = least,                       \
        .max_outputs = most,                        \
        .since = 1,                                 \
        .infer = symbol##_infer,                    \
        .forward = symbol##_forward,                \
    }

MACHINE(svm_regressor, "SVMRegressor", 1, 1);
MACHINE(svm_classifier, "SVMClassifier", 0, 2);
MACHINE(linear_classifier, "LinearClassifier", 0, 2);
