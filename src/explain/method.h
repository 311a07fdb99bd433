/* Methods and explainers. Adding a method is one file with its definition and its table of
 * options, and one line in the table of method.c.
 *
 * What a method builds on:
 *   evaluator_differentiate (evaluator.h)   every row once: scores, values, gradients
 *   evaluator_fix_scores, evaluator_run_variants, evaluator_scores_of (variants.h)
 *       many variants of one row, made one at a time, reported in order; with `starts` the variants
 *       are of inner values, and only the tail of the network behind them is computed
 *   evaluator_expect (evaluator.h)          the total for the progress of several such loops
 *   attribution.h, baseline.h, map.h        results shaped like the inputs; baselines; maps
 *   base/random.h                           random numbers by counter */
#ifndef EXPLAIN_METHOD_H
#define EXPLAIN_METHOD_H

#include "explain/explanation.h"
#include "explain/layer.h"
#include "explain/options.h"
#include "explain/variants.h"

typedef struct explainer explainer;

/* CAM methods: the map of one row from its layer and the gradient of the score. All planes are
 * row-major. False without memory. */
typedef bool (*cam_formula)(const float *activation, /* (C, pixels) */
                            const float *gradient,   /* (C, pixels), d score / d activation */
                            size_t channels, size_t pixels,
                            double *map /* (pixels), zero at first */);

typedef struct method_definition {
    const char *name, *description;
    /* Explanations of every target, target_count of them, in out. */
    xai_status (*explain)(explainer *self, const batch *rows, const xai_target *const *targets,
                          size_t target_count, explanation **out, xai_error **error);
    cam_formula cam;                  /* for explain = cam_explain */
    bool ignores_target;              /* the result does not depend on the target */
    const option_definition *options; /* ends with a name of NULL; NULL = none */
} method_definition;

/* NULL past the end. */
const method_definition *method_at(size_t index);
size_t method_count(void);
/* NULL when there is none of that name. */
const method_definition *method_find(const char *name);

typedef struct explainer_settings {
    int32_t score, scaling;
    const option_list *options; /* NULL = none set */
    evaluator_options evaluator;
} explainer_settings;

struct explainer {
    const method_definition *method;
    evaluator engine;
    option_list options; /* checked: only what the method's table has, within its ranges */
    int layer;           /* value id; GRAPH_NONE = the default for the inputs and the score */
    int32_t score, scaling;
    layer_memo memo;
    /* What the method keeps from call to call; `release` frees it. NULL at first. */
    void *kept;
    void (*release)(void *kept);
};

/* `of` must outlive the explainer. */
xai_status explainer_init(explainer *self, const subject *of, const char *method,
                          const explainer_settings *settings, xai_error **error);
void explainer_free(explainer *self);
xai_status explainer_explain(explainer *self, const tensor *const *inputs, size_t input_count,
                             const xai_target *const *targets, size_t target_count,
                             explanation **out, xai_error **error);

/* For methods: an option that was set, or the method's default. */
double explainer_number(const explainer *self, const char *name);
size_t explainer_count(const explainer *self, const char *name); /* a whole number >= 0 */

/* Definitions, one file each. */
extern const method_definition method_gradcam, method_gradcam_plus_plus;
extern const method_definition method_hirescam, method_xgradcam, method_layercam,
    method_elementwise_gradcam, method_eigencam, method_eigengradcam, method_scorecam,
    method_ablationcam, method_fullgrad, method_guided_gradcam;
extern const method_definition method_saliency, method_input_x_gradient,
    method_integrated_gradients, method_smoothgrad, method_vargrad, method_gradient_shap;
extern const method_definition method_kernel_shap, method_partition_shap, method_permutation_shap,
    method_sampling_shap, method_exact_shap;
extern const method_definition method_lime, method_feature_ablation, method_occlusion, method_rise;
extern const method_definition method_reciprocam, method_aise;
extern const method_definition method_tree_shap;

extern const method_definition method_deeplift, method_deepshap, method_guided_backprop,
    method_deconvnet, method_lrp;

/* The options of a CAM method without further ones: layer. */
extern const option_definition cam_options[];

/* Shared by the CAM methods. */
xai_status cam_explain(explainer *self, const batch *rows, const xai_target *const *targets,
                       size_t target_count, explanation **out, xai_error **error);

#endif
