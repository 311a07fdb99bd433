/* Layer-wise relevance propagation (Bach et al. 2015): the score is handed back from layer to layer, to each
 * input in proportion to what it contributed.
 *
 *     sum_i R_i = S, but for what biases and epsilon absorb
 * src/ops/relevance.h says what every layer does; BatchNorm is folded into its convolution first. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "explain/attribution.h"

typedef struct lrp_job {
    explainer *self;
    explanation **out;
    size_t parts;
} lrp_job;

static xai_status attribute(void *user, const sample *of, xai_error **error)
{
    const lrp_job *to = user;
    explanation *out = to->out[of->target];
    float *values = (float *)out->parts[of->wrt].values.data + of->row * of->count;
    double total = 0;
    memcpy(values, of->gradient, of->count * sizeof *values);
    for (size_t i = 0; i < of->count; i++)
        total += (double)values[i];
    if (of->wrt == 0) {
        const xai_status status = explanation_set_row(out, to->self->engine.of, of, 1, error);
        if (status != XAI_OK)
            return status;
        out->base_values[of->row] = 0;
        out->completeness_errors[of->row] = of->score;
    }
    out->completeness_errors[of->row] -= total;
    if (of->wrt + 1 == to->parts)
        out->completeness_errors[of->row] = fabs(out->completeness_errors[of->row]);
    return XAI_OK;
}

static bool is(const char *given, const char *name)
{
    return given != NULL && strcmp(given, name) == 0;
}

static void read_rule(const explainer *self, backward_rule *out)
{
    const char *rule = option_text(&self->options, "rule"),
               *first = option_text(&self->options, "first");
    *out = (backward_rule){.rule = ENGINE_RULE_LRP};
    out->relevance.kind = is(rule, "gamma")                              ? RELEVANCE_GAMMA
                          : is(rule, "alpha_beta") || is(rule, "z_plus") ? RELEVANCE_ALPHA_BETA
                                                                         : RELEVANCE_EPSILON;
    out->relevance.epsilon = explainer_number(self, "epsilon");
    if (out->relevance.kind == RELEVANCE_GAMMA)
        out->relevance.gamma = explainer_number(self, "gamma");
    if (out->relevance.kind == RELEVANCE_ALPHA_BETA)
        out->relevance.alpha = is(rule, "z_plus") ? 1 : explainer_number(self, "alpha");
    out->has_first = is(first, "flat") || is(first, "box");
    if (!out->has_first)
        return;
    out->first.kind = is(first, "flat") ? RELEVANCE_FLAT : RELEVANCE_BOX;
    out->first.epsilon = out->relevance.epsilon;
    if (is(first, "box")) {
        out->first.low = explainer_number(self, "low");
        out->first.high = explainer_number(self, "high");
    }
}

/* The box rule holds for inputs inside the box only. */
static xai_status check_box(const attribution_inputs *inputs, const backward_rule *rule,
                            xai_error **error)
{
    if (!rule->has_first || rule->first.kind != RELEVANCE_BOX)
        return XAI_OK;
    for (size_t p = 0; p < inputs->part_count; p++) {
        const tensor *input = inputs->rows->inputs[inputs->inputs[p]];
        for (size_t i = 0; i < tensor_count(input); i++) {
            const double value = tensor_get(input, i);
            if (value < rule->first.low || value > rule->first.high)
                return error_set(
                    error, XAI_ERROR_ARGUMENT, "first",
                    "the box rule is for inputs from low = %g to high = %g, but one is "
                    "%g; set low and high to the range that the model takes",
                    rule->first.low, rule->first.high, value);
        }
    }
    return XAI_OK;
}

/* Relevance starts at the logit: a sigmoid or softmax would hand back next to nothing of a confident
 * score. */
static xai_status choose_score(const explainer *self, const xai_target *target, int32_t *kind,
                               xai_error **error)
{
    score_source found;
    int output = 0;
    *kind = self->score;
    if (self->score == XAI_SCORE_PROBABILITY)
        return error_set(error, XAI_ERROR_UNSUPPORTED, "score",
                         "'lrp' hands back logits; use score=\"logit\" or \"raw\"");
    const xai_status status =
        target_output(target, network_graph(self->engine.of->net), &output, error);
    if (status != XAI_OK)
        return status;
    if (score_source_find(self->engine.of, output, XAI_SCORE_LOGIT, &found, NULL) == XAI_OK &&
        found.seed_value != found.output_value)
        *kind = XAI_SCORE_LOGIT;
    return XAI_OK;
}

static xai_status finish(const attribution_inputs *inputs, const explainer *self, int32_t kind,
                         explanation *out, xai_error **error)
{
    char names[256];
    xai_status status = attribution_finish(inputs, self, true, out, error);
    out->score_kind = kind;
    if (status == XAI_OK && kind != self->score)
        status = explanation_warn(out, -1, error,
                                  "the score explained is the logit before the model's last "
                                  "activation: relevance starts there");
    evaluator_unruled(&self->engine, ENGINE_RULE_LRP, names, sizeof names);
    if (status == XAI_OK && names[0] != '\0')
        status = explanation_warn(out, -1, error,
                                  "no rule of LRP for %s: they hand back their gradient", names);
    return status;
}

static xai_status lrp_explain(explainer *self, const batch *rows, const xai_target *const *targets,
                              size_t target_count, explanation **out, xai_error **error)
{
    backward_rule rule;
    attribution_inputs inputs;
    int32_t kind = self->score;
    read_rule(self, &rule);
    xai_status status = attribution_inputs_init(&inputs, self, rows, error);
    if (status == XAI_OK)
        status = check_box(&inputs, &rule, error);
    if (status == XAI_OK && target_count > 0)
        status = choose_score(self, targets[0], &kind, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++)
        status = attribution_create(&inputs, self, false, &out[t], error);
    lrp_job to = {.self = self, .out = out, .parts = inputs.part_count};
    const differentiation what = {.targets = targets,
                                  .target_count = target_count,
                                  .score = kind,
                                  .wrt = inputs.ids,
                                  .wrt_count = inputs.part_count,
                                  .rule = &rule,
                                  .body = attribute,
                                  .user = &to};
    if (status == XAI_OK)
        status = evaluator_differentiate(&self->engine, rows, &what, error);
    for (size_t t = 0; status == XAI_OK && t < target_count; t++)
        status = finish(&inputs, self, kind, out[t], error);
    attribution_inputs_free(&inputs);
    return status;
}

#define LRP_NUMBER(title, value, least, most, what)                                  \
    {                                                                                \
        .name = title, .kinds = OPTION_NUMBER, .number = (value), .lowest = (least), \
        .highest = (most), .text = #value, .description = what                       \
    }

static const option_definition options[] = {
    {.name = "rule",
     .kinds = OPTION_TEXT,
     .text = "epsilon",
     .choices = "epsilon|gamma|alpha_beta|z_plus",
     .description = "of layers with weights: epsilon, gamma, alpha_beta or z_plus (alpha 1)"},
    {.name = "first",
     .kinds = OPTION_TEXT,
     .text = "same",
     .choices = "same|flat|box",
     .description = "of layers that read the input: same, flat or box (pixels from low to high)"},
    LRP_NUMBER("epsilon", 1e-6, 0, 1e9, "moves denominators away from zero"),
    LRP_NUMBER("gamma", 0.25, 0, 1e9, "weight of positive contributions in the gamma rule"),
    LRP_NUMBER("alpha", 2, 1, 1e9, "share of positive contributions; beta = alpha - 1"),
    LRP_NUMBER("low", 0, -1e30, 1e30, "least value of an input, for first = box"),
    LRP_NUMBER("high", 1, -1e30, 1e30, "greatest value of an input, for first = box"),
    {0}};

const method_definition method_lrp = {
    .name = "lrp",
    .description =
        "Layer-wise relevance propagation (Bach et al. 2015): the logit, handed back layer "
        "by layer in proportion to contributions",
    .explain = lrp_explain,
    .options = options,
};
