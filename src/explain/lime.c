/* LIME, and feature ablation: what is left of the score without one feature. */
#include "base/error.h"
#include "explain/game.h"

/* LIME (Ribeiro et al. 2016) on coalitions z of the features, row 0 all ones, the others fair coins:
 *   min over b, b0 of sum_i w_i (f(z_i) - b0 - z_i b)^2 + alpha |b|^2
 *   w_i = sqrt(exp(-d_i^2 / width^2)), d_i = 1 - cosine of z_i and the ones */
static xai_status solve_lime(const set_function *of, const features *parts, const explainer *self,
                             const game_options *options, game_values *out, xai_error **error)
{
    const lime_options kernel = {.width = explainer_number(self, "kernel_width"),
                                 .alpha = explainer_number(self, "alpha")};
    (void)parts;
    return lime_fit(of, options, &kernel, out, error);
}

static size_t cost_lime(const explainer *self, size_t count)
{
    (void)count;
    return 1 + explainer_count(self, "samples");
}

static xai_status explain_lime(explainer *self, const batch *rows, const xai_target *const *targets,
                               size_t target_count, explanation **out, xai_error **error)
{
    static const game_method how = {
        .solve = solve_lime, .is_fit = true, .with_error = true, .cost = cost_lime};
    return game_explain(self, &how, rows, targets, target_count, out, error);
}

static const option_definition lime_table[] = {
    OPTION_SAMPLES_FROM(2, 1000),
    OPTION_SEED,
    OPTION_TOLERANCE("stop when the norm of the standard errors is this part of the norm of the "
                     "coefficients; 0 = use all samples"),
    OPTION_SEGMENTS,
    OPTION_BASELINE,
    OPTION_BACKGROUND,
    {.name = "kernel_width",
     .kinds = OPTION_NUMBER,
     .number = 0.25,
     .lowest = 1e-3,
     .highest = 1e3,
     .text = "0.25",
     .description = "of the weights, in cosine distance from the row"},
    {.name = "alpha",
     .kinds = OPTION_NUMBER,
     .number = 1,
     .lowest = 0,
     .highest = 1e9,
     .text = "1",
     .description = "penalty of the ridge regression"},
    {0}};

const method_definition method_lime = {
    .name = "lime",
    .description = "LIME (Ribeiro et al. 2016): a weighted ridge regression of the score on which "
                   "features are there",
    .explain = explain_lime,
    .options = lime_table,
};

/* v(all) - v(all but i). */
static xai_status solve_ablation(const set_function *of, const features *parts,
                                 const explainer *self, const game_options *options,
                                 game_values *out, xai_error **error)
{
    (void)parts;
    (void)self;
    (void)options;
    return leave_one_out(of, out, error);
}

static size_t cost_ablation(const explainer *self, size_t count)
{
    (void)self;
    return 2 + count;
}

static xai_status explain_ablation(explainer *self, const batch *rows,
                                   const xai_target *const *targets, size_t target_count,
                                   explanation **out, xai_error **error)
{
    static const game_method how = {.solve = solve_ablation, .cost = cost_ablation};
    return game_explain(self, &how, rows, targets, target_count, out, error);
}

static const option_definition ablation_options[] = {
    OPTION_SEGMENTS, OPTION_BASELINE, OPTION_BACKGROUND, {0}};

const method_definition method_feature_ablation = {
    .name = "feature_ablation",
    .description = "how far the score falls when one feature is replaced by the baseline",
    .explain = explain_ablation,
    .options = ablation_options,
};
