/* tree_shap: exact Shapley values of models that are sums of decision trees (Lundberg et al. 2020),
 * as scikit-learn, LightGBM and XGBoost export them. tree_sum.c finds the trees behind a score,
 * tree_shapley.c has the algorithm.
 *
 *     interventional     an absent feature takes its values from the background rows
 *     path-dependent     an absent feature goes both ways, by the shares of training rows
 *
 * A score behind a sigmoid is explained as SHAP does with model_output="probability": the values of
 * every background row are scaled by the ratio of the differences of probability and of margin. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/parallel.h"
#include "explain/attribution.h"
#include "explain/tree_shapley.h"
#include "explain/tree_sum.h"

/* One call: rows and background as the ensembles read them, and the scores. */
typedef struct job {
    explainer *self;
    const batch *rows;
    attribution_inputs inputs;
    size_t target_count, features, background_count;
    bool path_dependent, interactions;
    tree_sum *sum;       /* kept by the explainer, with a tree_shapley a source */
    fixed_score *scores; /* [row * target_count + target] */
    /* Of the ensemble at hand */
    double *x, *background; /* (rows, features), (background_count, features) */
    double *values;         /* (rows, outputs, features [, features]) */
} job;

static void job_free(job *self)
{
    attribution_inputs_free(&self->inputs);
    memory_free(self->scores);
    memory_free(self->x);
    memory_free(self->background);
    memory_free(self->values);
}

/* --- features --- */

/* A value of all rows as doubles: an input as it is, else computed. */
static xai_status read_features(job *self, const batch *rows, int value, double **out,
                                xai_error **error)
{
    const graph *source = network_graph(self->self->engine.of->net);
    tensor computed = {0};
    const tensor *read = &computed;
    xai_status status = XAI_OK;
    for (size_t i = 0; i < source->input_count; i++)
        if (source->inputs[i] == value)
            read = rows->inputs[i];
    if (read == &computed)
        status = evaluator_values(&self->self->engine, rows, &value, 1, &computed, error);
    if (status != XAI_OK)
        return status;
    const size_t count = tensor_count(read);
    if (count != rows->rows * self->features)
        status = error_set(error, XAI_ERROR_UNSUPPORTED, "tree_shap",
                           "the trees read %zu numbers of %zu rows with %zu features", count,
                           rows->rows, self->features);
    memory_free(*out);
    *out = status == XAI_OK ? memory_allocate(count, sizeof **out) : NULL;
    if (*out)
        tensor_read_doubles(read, 0, count, *out);
    else if (status == XAI_OK)
        status = error_memory(error, "features", count * sizeof **out);
    tensor_free(&computed);
    return status;
}

static xai_status read_background(job *self, int value, xai_error **error)
{
    const tensor *given = option_tensor(&self->self->options, "background", 0);
    batch rows = {0};
    if (self->background_count == 0)
        return XAI_OK;
    xai_status status = batch_check(&self->self->engine, &given, 1, &rows, error);
    if (status == XAI_OK)
        status = read_features(self, &rows, value, &self->background, error);
    batch_free(&rows);
    return status;
}

/* --- values --- */

/* Which outputs of a source the columns of a target need. */
static size_t list_outputs(const tree_column *columns, size_t count, size_t source, size_t *out)
{
    size_t found = 0;
    for (size_t c = 0; c < count; c++) {
        for (size_t i = 0; i < columns[c].count; i++) {
            size_t k = 0;
            if (columns[c].terms[i].source != source)
                continue;
            while (k < found && out[k] != columns[c].terms[i].output)
                k++;
            if (k == found)
                out[found++] = columns[c].terms[i].output;
        }
    }
    return found;
}

/* What one target needs: the columns of its output that some row chose. */
typedef struct target_columns {
    size_t *columns; /* positions in a row of the output, ascending */
    tree_column *sums;
    size_t count;
    double *totals; /* (rows, plane) attributions, summed over columns and ensembles */
    double *bases;  /* (rows) */
} target_columns;

static void target_columns_free(target_columns *self)
{
    for (size_t c = 0; self->sums && c < self->count; c++)
        tree_column_free(&self->sums[c]);
    memory_free(self->columns);
    memory_free(self->sums);
    memory_free(self->totals);
    memory_free(self->bases);
}

/* Whether column `position` of the output lies in the box that a row chose. */
static bool chosen(const fixed_score *score, size_t position)
{
    for (int axis = score->chosen.rank; axis-- > 0;) {
        const size_t length = (size_t)score->row_shape.dims[axis];
        const int64_t at = (int64_t)(position % length);
        if (at < score->chosen.begin[axis] || at >= score->chosen.end[axis])
            return false;
        position /= length;
    }
    return true;
}

static size_t plane_of(const job *self)
{
    return self->features * (self->interactions ? self->features : 1);
}

static xai_status find_columns(job *self, size_t target, target_columns *out, xai_error **error)
{
    const fixed_score *first = &self->scores[target];
    size_t columns, bytes;
    xai_status status = XAI_OK;
    if (!shape_count(&first->row_shape, &columns) ||
        !size_multiply(self->rows->rows, plane_of(self), &bytes))
        return error_memory(error, "attributions", 0);
    out->columns = memory_allocate(columns, sizeof *out->columns);
    out->sums = memory_allocate_zeroed(columns, sizeof *out->sums);
    out->totals = memory_allocate_zeroed(bytes, sizeof *out->totals);
    out->bases = memory_allocate_zeroed(self->rows->rows, sizeof *out->bases);
    if (!out->columns || !out->sums || !out->totals || !out->bases)
        return error_memory(error, "attributions", bytes * sizeof *out->totals);
    for (size_t c = 0; c < columns && status == XAI_OK; c++) {
        bool wanted = false;
        for (size_t r = 0; r < self->rows->rows && !wanted; r++)
            wanted = chosen(&self->scores[r * self->target_count + target], c);
        if (!wanted)
            continue;
        out->columns[out->count] = c;
        status = tree_sum_column(self->sum, &first->source, c, &out->sums[out->count++], error);
    }
    return status;
}

/* Add factor times the ensemble's values and base to the rows that chose column c. */
static void add_column(const job *self, size_t target, target_columns *to, size_t c, size_t at,
                       size_t outputs, double factor, double base)
{
    const size_t plane = plane_of(self);
    for (size_t r = 0; r < self->rows->rows; r++) {
        if (!chosen(&self->scores[r * self->target_count + target], to->columns[c]))
            continue;
        const double *from = self->values + (r * outputs + at) * plane;
        double *total = to->totals + r * plane;
        for (size_t i = 0; i < plane; i++)
            total[i] += factor * from[i];
        to->bases[r] += factor * base;
    }
}

static bool report(void *user, size_t done, size_t total)
{
    const explainer *self = user;
    const evaluator *engine = &self->engine;
    const row_progress progress = engine->options.progress;
    const size_t now = engine->done + done, end = engine->done + total;
    return progress == NULL ||
           progress(engine->options.progress_user, now, end > engine->total ? end : engine->total);
}

static xai_status run_ensemble(job *self, const tree_shapley *of, const size_t *outputs,
                               size_t count, int sigmoid_sign, xai_error **error)
{
    size_t elements;
    if (!size_multiply(self->rows->rows * count, plane_of(self), &elements))
        return error_memory(error, "attributions", 0);
    memory_free(self->values);
    self->values = memory_allocate(elements, sizeof *self->values);
    if (!self->values)
        return error_memory(error, "attributions", elements * sizeof *self->values);
    const int threads = self->self->engine.options.threads;
    const tree_shapley_task task = {.x = self->x,
                                    .rows = self->rows->rows,
                                    .outputs = outputs,
                                    .output_count = count,
                                    .sigmoid_sign = sigmoid_sign,
                                    .interactions = self->interactions,
                                    .threads = threads > 0 ? threads : parallel_processors(),
                                    .values = self->values,
                                    .progress = report,
                                    .progress_user = self->self};
    const xai_status status = tree_shapley_explain(of, &task, error);
    self->self->engine.done += self->rows->rows;
    return status;
}

/* Scores behind a sigmoid: one ensemble output each, with its sign. */
static xai_status explain_sigmoid(job *self, size_t target, const tree_shapley *of, size_t source,
                                  target_columns *to, xai_error **error)
{
    xai_status status = XAI_OK;
    if (self->path_dependent)
        return error_set(error, XAI_ERROR_UNSUPPORTED, "tree_shap",
                         "a probability needs a background (feature_perturbation "
                         "'interventional'), or ask for the score 'logit'");
    for (size_t c = 0; c < to->count && status == XAI_OK; c++) {
        const tree_column *sum = &to->sums[c];
        if (!sum->sigmoid || sum->terms[0].source != source)
            continue;
        if (sum->count != 1 || sum->shift != 0 || fabs(sum->terms[0].factor) != 1)
            return error_set(error, XAI_ERROR_UNSUPPORTED, "tree_shap",
                             "the probability is of several ensembles; ask for the score 'logit'");
        const size_t output = sum->terms[0].output;
        const int sign = sum->terms[0].factor > 0 ? 1 : -1;
        status = run_ensemble(self, of, &output, 1, sign, error);
        if (status == XAI_OK)
            add_column(self, target, to, c, 0, 1, 1, tree_shapley_sigmoid_base(of, output, sign));
    }
    return status;
}

/* What a source needs of the background, made by the first call. */
static xai_status find_shapley(job *self, size_t source, tree_shapley **out, xai_error **error)
{
    tree_node_source *from = &self->sum->sources[source];
    tree_shapley *made = NULL;
    int input;
    *out = from->kept;
    if (*out)
        return XAI_OK;
    if (!tree_sum_is_featurewise(self->sum, from->input, &input))
        return error_set(error, XAI_ERROR_UNSUPPORTED, "tree_shap",
                         "the trees of %s read features that are mixtures of the model's inputs; "
                         "use kernel_shap",
                         self->sum->graph->nodes[from->node].place);
    xai_status status = read_background(self, from->input, error);
    if (status != XAI_OK)
        return status;
    const tree_shapley_setup setup = {.of = from->of,
                                      .background = self->background,
                                      .rows = self->background_count,
                                      .features = self->features,
                                      .path_dependent = self->path_dependent};
    status = tree_shapley_create(&setup, &made, error);
    if (status == XAI_OK)
        *out = from->kept = made;
    return status;
}

static xai_status explain_source(job *self, size_t target, size_t source, target_columns *to,
                                 xai_error **error)
{
    const tree_node_source *from = &self->sum->sources[source];
    tree_shapley *of = NULL;
    size_t *outputs = memory_allocate(from->of->outputs, sizeof *outputs);
    xai_status status = outputs ? XAI_OK : error_memory(error, "outputs", 0);
    const size_t count = outputs ? list_outputs(to->sums, to->count, source, outputs) : 0;
    if (status == XAI_OK && count > 0)
        status = find_shapley(self, source, &of, error);
    if (status == XAI_OK && count > 0)
        status = read_features(self, self->rows, from->input, &self->x, error);
    if (status == XAI_OK && count > 0) {
        const bool sigmoid = to->sums[0].sigmoid;
        status = sigmoid ? explain_sigmoid(self, target, of, source, to, error)
                         : run_ensemble(self, of, outputs, count, 0, error);
        for (size_t c = 0; c < to->count && status == XAI_OK && !sigmoid; c++) {
            for (size_t i = 0; i < to->sums[c].count; i++) {
                const tree_term *term = &to->sums[c].terms[i];
                size_t at = 0;
                if (term->source != source)
                    continue;
                while (outputs[at] != term->output)
                    at++;
                add_column(self, target, to, c, at, count, term->factor,
                           tree_shapley_base(of)[term->output]);
            }
        }
    }
    memory_free(outputs);
    return status;
}

/* Attributions of a row from its plane: phi_i, or the sums of the rows of the interactions. */
static void row_attributions(const job *self, const double *plane, double *out)
{
    const size_t features = self->features;
    for (size_t i = 0; i < features; i++) {
        out[i] = self->interactions ? 0 : plane[i];
        for (size_t j = 0; self->interactions && j < features; j++)
            out[i] += plane[i * features + j];
    }
}

static xai_status store(job *self, size_t target, const target_columns *from, explanation *out,
                        xai_error **error)
{
    const size_t plane = plane_of(self), features = self->features;
    double *values = memory_allocate(features, sizeof *values);
    xai_status status = values ? XAI_OK : error_memory(error, "attributions", 0);
    for (size_t r = 0; r < self->rows->rows && status == XAI_OK; r++) {
        const fixed_score *score = &self->scores[r * self->target_count + target];
        double base = from->bases[r], sum = 0;
        for (size_t c = 0; c < from->count; c++)
            if (chosen(score, from->columns[c]) && !from->sums[c].sigmoid)
                base += from->sums[c].shift;
        row_attributions(self, from->totals + r * plane, values);
        if (self->interactions)
            tensor_write_doubles(&out->interactions, r * plane, plane, from->totals + r * plane);
        for (size_t i = 0; i < features; i++)
            sum += values[i];
        status = attribution_store(out, 0, r, features, values, error);
        if (status == XAI_OK)
            status = explanation_set_facts(out, self->self->engine.of, r, &score->chosen,
                                           score->source.output, score->score, 1, error);
        out->base_values[r] = base;
        out->completeness_errors[r] = fabs(base + sum - score->score);
    }
    memory_free(values);
    return status;
}

static xai_status explain_target(job *self, size_t target, explanation *out, xai_error **error)
{
    target_columns columns = {0};
    xai_status status = find_columns(self, target, &columns, error);
    for (size_t s = 0; s < self->sum->source_count && status == XAI_OK; s++)
        status = explain_source(self, target, s, &columns, error);
    if (status == XAI_OK)
        status = store(self, target, &columns, out, error);
    target_columns_free(&columns);
    return status;
}

/* --- the call --- */

static bool trees_tell(const graph *source)
{
    for (size_t i = 0; i < source->node_count; i++) {
        const graph_node *node = &source->nodes[i];
        for (size_t a = 0; a < node->attribute_count; a++)
            if (strcmp(node->attributes[a].name, "nodes_hitrates") == 0 &&
                node->attributes[a].type == ONNX_ATTRIBUTE_FLOATS)
                for (size_t k = 1; k < node->attributes[a].count; k++)
                    if (node->attributes[a].floats[k] != node->attributes[a].floats[0])
                        return true;
    }
    return false;
}

/* Background rows may have missing values where the model's rows may. */
static xai_status count_background(job *self, xai_error **error)
{
    const explainer *of = self->self;
    const tensor *given = option_tensor(&of->options, "background", 0);
    batch rows = {0};
    if (option_given(&of->options, "background") == NULL)
        return XAI_OK;
    xai_error *why = NULL; /* it names the input as the place */
    xai_status status = batch_check(&of->engine, &given, 1, &rows, &why);
    if (status == XAI_OK && rows.has_rows)
        self->background_count = rows.rows;
    batch_free(&rows);
    if (status != XAI_OK)
        status = error_set(error, status, "background", "%s", xai_error_message(why));
    else if (self->background_count == 0)
        status = error_set(error, XAI_ERROR_SHAPE, "background", "rows (B, F) are needed");
    xai_error_free(why);
    return status;
}

static xai_status read_options(job *self, xai_error **error)
{
    const explainer *of = self->self;
    const char *perturbation = option_text(&of->options, "feature_perturbation");
    const xai_status status = count_background(self, error);
    if (status != XAI_OK)
        return status;
    self->interactions = explainer_number(of, "interactions") != 0;
    self->path_dependent = perturbation != NULL && strcmp(perturbation, "tree_path_dependent") == 0;
    if (self->background_count == 0 && perturbation == NULL)
        self->path_dependent = true;
    if (self->background_count == 0 && !(self->path_dependent && trees_tell(self->sum->graph)))
        return error_set(error, XAI_ERROR_ARGUMENT, "background",
                         "tree_shap needs rows that stand for an absent feature: give some, such "
                         "as 100 of the training rows (the model does not say how many training "
                         "rows took each way in its trees)");
    return XAI_OK;
}

static xai_status name_background(const job *self, explanation *out, xai_error **error)
{
    char name[96];
    if (self->path_dependent)
        snprintf(name, sizeof name, "both ways of a test, by the shares of %s",
                 self->background_count && !trees_tell(self->sum->graph) ? "the background rows"
                                                                         : "the training rows");
    else
        snprintf(name, sizeof name, "a background of %zu row%s", self->background_count,
                 self->background_count == 1 ? "" : "s");
    return explanation_set_baseline(out, name, error);
}

static void release(void *kept)
{
    tree_sum *sum = kept;
    for (size_t i = 0; i < sum->source_count; i++)
        tree_shapley_free(sum->sources[i].kept);
    tree_sum_free(sum);
    memory_free(sum);
}

/* The ensembles that earlier calls of the explainer found. */
static xai_status find_kept(explainer *self, tree_sum **out, xai_error **error)
{
    if (self->kept == NULL) {
        tree_sum *made = memory_allocate_zeroed(1, sizeof *made);
        if (made == NULL)
            return error_memory(error, "tree ensembles", sizeof *made);
        self->kept = made;
        self->release = release;
        const xai_status status = tree_sum_init(made, network_graph(self->engine.of->net), error);
        if (status != XAI_OK)
            return status;
    }
    *out = self->kept;
    return XAI_OK;
}

static xai_status tree_shap_explain(explainer *self, const batch *rows,
                                    const xai_target *const *targets, size_t target_count,
                                    explanation **out, xai_error **error)
{
    job at = {.self = self, .rows = rows, .target_count = target_count};
    const graph *source = network_graph(self->engine.of->net);
    xai_status status = find_kept(self, &at.sum, error);
    if (status == XAI_OK)
        status = attribution_inputs_init(&at.inputs, self, rows, error);
    if (status == XAI_OK && (source->input_count != 1 || !rows->has_rows))
        status = error_set(error, XAI_ERROR_UNSUPPORTED, "tree_shap",
                           "a model of one input with rows of features (N, F) is needed");
    if (status == XAI_OK) {
        at.features = at.inputs.sizes[0];
        status = read_options(&at, error);
    }
    for (size_t t = 0; t < target_count && status == XAI_OK; t++) {
        status = attribution_create(&at.inputs, self, false, &out[t], error);
        if (status == XAI_OK)
            status = name_background(&at, out[t], error);
        if (status == XAI_OK && at.interactions) {
            const shape pairs =
                shape_make(3, (const int64_t[]){(int64_t)rows->rows, (int64_t)at.features,
                                                (int64_t)at.features});
            status = tensor_create(&out[t]->interactions, DTYPE_FLOAT, &pairs, error);
        }
    }
    at.scores = memory_allocate(rows->rows, target_count * sizeof *at.scores);
    if (status == XAI_OK && !at.scores)
        status = error_memory(error, "scores", rows->rows * target_count * sizeof *at.scores);
    if (status == XAI_OK) /* the scores, then every ensemble's part of every row */
        evaluator_expect(&self->engine,
                         rows->runs + rows->rows * target_count * at.sum->source_count);
    if (status == XAI_OK)
        status = evaluator_fix_scores(&self->engine, rows, targets, target_count, self->score,
                                      at.scores, error);
    for (size_t t = 0; t < target_count && status == XAI_OK; t++) {
        status = explain_target(&at, t, out[t], error);
        if (status == XAI_OK)
            status = attribution_finish(&at.inputs, self, true, out[t], error);
    }
    job_free(&at);
    return status;
}

static const option_definition options[] = {
    OPTION_BACKGROUND,
    {.name = "feature_perturbation",
     .kinds = OPTION_TEXT,
     .text = "interventional with a background, else tree_path_dependent",
     .choices = "interventional|tree_path_dependent",
     .description = "what an absent feature is: its values in the background rows, or both ways of "
                    "a test by the shares of training rows"},
    {.name = "interactions",
     .kinds = OPTION_NUMBER,
     .number = 0,
     .lowest = 0,
     .highest = 1,
     .whole = true,
     .text = "0",
     .description = "1 = give the interactions of all pairs of features, too"},
    {0}};

const method_definition method_tree_shap = {
    .name = "tree_shap",
    .description = "Exact Shapley values of tree ensembles (Lundberg et al. 2020), interventional "
                   "or path-dependent",
    .explain = tree_shap_explain,
    .options = options,
};
