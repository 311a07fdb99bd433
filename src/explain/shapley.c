/* Shapley values by masking: exact, kernel, permutation, sampling, partition. The arithmetic is in
 * lib/games; here are the options, the defaults, and what the features of each are. */
#include <string.h>

#include "base/error.h"
#include "explain/game.h"

/* 0 = the default that depends on the number of features. */
#define SHAPLEY_SAMPLES(words)                                                                  \
    {                                                                                           \
        .name = "samples", .kinds = OPTION_NUMBER, .number = 0, .lowest = 0, .highest = 1e9,    \
        .whole = true, .text = words,                                                           \
        .description = "coalitions a row; each costs as many evaluations as there are rows of " \
                       "background"                                                             \
    }
#define SHAPLEY_TOLERANCE                                                                         \
    OPTION_TOLERANCE("stop when the norm of the standard errors is this part of the norm of the " \
                     "values; 0 = use all samples")

static size_t samples_or(const explainer *self, size_t otherwise)
{
    const size_t given = explainer_count(self, "samples");
    return 2 + (given > 0 ? given : otherwise);
}

/* Exact */

static xai_status solve_exact(const set_function *of, const features *parts, const explainer *self,
                              const game_options *options, game_values *out, xai_error **error)
{
    (void)parts;
    (void)self;
    return shapley_exact(of, options, out, error);
}

static size_t cost_exact(const explainer *self, size_t count)
{
    (void)self;
    return (size_t)1 << (count < GAME_EXACT_PLAYERS ? count : GAME_EXACT_PLAYERS);
}

static xai_status explain_exact(explainer *self, const batch *rows,
                                const xai_target *const *targets, size_t target_count,
                                explanation **out, xai_error **error)
{
    static const game_method how = {
        .solve = solve_exact, .complete = true, .walks = true, .cost = cost_exact};
    return game_explain(self, &how, rows, targets, target_count, out, error);
}

static const option_definition exact_options[] = {
    OPTION_SEGMENTS,
    OPTION_BASELINE,
    OPTION_BACKGROUND,
    {.name = "interactions",
     .kinds = OPTION_NUMBER,
     .number = 0,
     .lowest = 0,
     .highest = 1,
     .whole = true,
     .text = "0",
     .description = "1 = give the interactions of all pairs of features, too"},
    {0}};

const method_definition method_exact_shap = {
    .name = "exact_shap",
    .description = "Shapley values from all 2^K coalitions of at most 20 features",
    .explain = explain_exact,
    .options = exact_options,
};

/* Kernel */

static xai_status solve_kernel(const set_function *of, const features *parts, const explainer *self,
                               const game_options *options, game_values *out, xai_error **error)
{
    game_options wished = *options;
    (void)parts;
    const char *sampling = option_text(&self->options, "sampling");
    wished.leverage = sampling != NULL && strcmp(sampling, "leverage") == 0;
    return shapley_kernel(of, &wished, out, error);
}

static size_t cost_kernel(const explainer *self, size_t count)
{
    const size_t samples = samples_or(self, 2 * count + 2048);
    return count < 32 && samples > (size_t)1 << count ? (size_t)1 << count : samples;
}

static xai_status explain_kernel(explainer *self, const batch *rows,
                                 const xai_target *const *targets, size_t target_count,
                                 explanation **out, xai_error **error)
{
    static const game_method how = {
        .solve = solve_kernel, .complete = true, .with_error = true, .cost = cost_kernel};
    return game_explain(self, &how, rows, targets, target_count, out, error);
}

static const option_definition kernel_options[] = {
    SHAPLEY_SAMPLES("2 K + 2048"),
    OPTION_SEED,
    SHAPLEY_TOLERANCE,
    OPTION_SEGMENTS,
    OPTION_BASELINE,
    OPTION_BACKGROUND,
    {.name = "sampling",
     .kinds = OPTION_TEXT,
     .text = "kernel",
     .choices = "kernel|leverage",
     .description = "how sizes of coalitions are drawn: by the kernel's weight, or by leverage "
                    "(every size as likely)"},
    {0}};

const method_definition method_kernel_shap = {
    .name = "kernel_shap",
    .description = "Kernel SHAP (Lundberg and Lee 2017): Shapley values by weighted least squares "
                   "over paired coalitions",
    .explain = explain_kernel,
    .options = kernel_options,
};

/* Permutation */

static xai_status solve_permutation(const set_function *of, const features *parts,
                                    const explainer *self, const game_options *options,
                                    game_values *out, xai_error **error)
{
    (void)parts;
    (void)self;
    return shapley_permutation(of, options, out, error);
}

static size_t cost_permutation(const explainer *self, size_t count)
{
    const size_t order = count > 1 ? 2 * (count - 1) : 1; /* and its way back */
    const size_t orders = (samples_or(self, 10 * order) - 2) / order;
    return count > 1 ? 2 + (orders > 0 ? orders : 1) * order : 2;
}

static xai_status explain_permutation(explainer *self, const batch *rows,
                                      const xai_target *const *targets, size_t target_count,
                                      explanation **out, xai_error **error)
{
    static const game_method how = {.solve = solve_permutation,
                                    .complete = true,
                                    .with_error = true,
                                    .walks = true,
                                    .cost = cost_permutation};
    return game_explain(self, &how, rows, targets, target_count, out, error);
}

static const option_definition permutation_options[] = {SHAPLEY_SAMPLES("20 (K - 1)"),
                                                        OPTION_SEED,
                                                        SHAPLEY_TOLERANCE,
                                                        OPTION_SEGMENTS,
                                                        OPTION_BASELINE,
                                                        OPTION_BACKGROUND,
                                                        {0}};

const method_definition method_permutation_shap = {
    .name = "permutation_shap",
    .description = "Shapley values from random orders of the features, each run forwards and "
                   "backwards (Mitchell et al. 2022)",
    .explain = explain_permutation,
    .options = permutation_options,
};

/* Sampling */

static xai_status solve_sampling(const set_function *of, const features *parts,
                                 const explainer *self, const game_options *options,
                                 game_values *out, xai_error **error)
{
    (void)parts;
    (void)self;
    return shapley_sampling(of, options, out, error);
}

static size_t cost_sampling(const explainer *self, size_t count)
{
    return samples_or(self, 64 * count);
}

static xai_status explain_sampling(explainer *self, const batch *rows,
                                   const xai_target *const *targets, size_t target_count,
                                   explanation **out, xai_error **error)
{
    static const game_method how = {
        .solve = solve_sampling, .complete = true, .with_error = true, .cost = cost_sampling};
    return game_explain(self, &how, rows, targets, target_count, out, error);
}

static const option_definition sampling_options[] = {
    SHAPLEY_SAMPLES("64 K"), OPTION_SEED, SHAPLEY_TOLERANCE, OPTION_SEGMENTS, OPTION_BASELINE,
    OPTION_BACKGROUND,       {0}};

const method_definition method_sampling_shap = {
    .name = "sampling_shap",
    .description = "Shapley values feature by feature, more samples where the variance is higher "
                   "(Strumbelj and Kononenko 2014)",
    .explain = explain_sampling,
    .options = sampling_options,
};

/* Partition */

/* Elements of one array are halved as boxes; anything else by the centres of the features. */
static xai_status make_tree(const features *parts, player_tree *out, xai_error **error)
{
    const attribution_inputs *inputs = parts->inputs;
    const spatial *space = &inputs->spaces[0];
    if (inputs->part_count == 1 && parts->whole && space->rank > 0) {
        /* The axes as they lie in memory: channels first or last. */
        const bool first = space->pixel_stride == 1;
        size_t dims[MAP_MAX_RANK + 1];
        for (int axis = 0; axis < space->rank; axis++)
            dims[axis + first] = (size_t)space->dims[axis];
        dims[first ? 0 : space->rank] = space->channels;
        return player_tree_grid(out, dims, space->rank + 1, first ? 0 : space->rank, error);
    }
    double *centres = memory_allocate(parts->count * 4, sizeof *centres);
    if (centres == NULL)
        return error_memory(error, "centres of features", parts->count * 4 * sizeof *centres);
    features_centres(parts, centres);
    const xai_status status = player_tree_points(out, centres, parts->count, 4, error);
    memory_free(centres);
    return status;
}

static xai_status solve_partition(const set_function *of, const features *parts,
                                  const explainer *self, const game_options *options,
                                  game_values *out, xai_error **error)
{
    player_tree tree = {0};
    (void)self;
    xai_status status = make_tree(parts, &tree, error);
    if (status == XAI_OK)
        status = shapley_partition(of, &tree, options, out, error);
    player_tree_free(&tree);
    return status;
}

static size_t cost_partition(const explainer *self, size_t count)
{
    (void)count;
    return samples_or(self, 0);
}

static xai_status explain_partition(explainer *self, const batch *rows,
                                    const xai_target *const *targets, size_t target_count,
                                    explanation **out, xai_error **error)
{
    static const game_method how = {
        .solve = solve_partition, .whole = true, .complete = true, .cost = cost_partition};
    return game_explain(self, &how, rows, targets, target_count, out, error);
}

static const option_definition partition_options[] = {
    OPTION_SAMPLES(500), OPTION_SEGMENTS, OPTION_BASELINE, OPTION_BACKGROUND, {0}};

const method_definition method_partition_shap = {
    .name = "partition_shap",
    .description = "Owen values over halves of halves of the picture, finer where the score "
                   "changes most (SHAP's partition explainer)",
    .explain = explain_partition,
    .options = partition_options,
};
