/* Methods and explainers. Adding a method is one file with its definition, and one line in the
 * table of method.c. */
#ifndef EXPLAIN_METHOD_H
#define EXPLAIN_METHOD_H

#include "explain/explanation.h"
#include "explain/layer.h"

typedef struct explainer explainer;

/* CAM methods: the map of one row from its layer and the gradient of the score. All planes are
 * row-major. */
typedef void (*cam_formula)(const float *activation, /* (C, pixels) */
                            const float *gradient,   /* (C, pixels), d score / d activation */
                            size_t channels, size_t pixels,
                            double *map /* (pixels), zero at first */);

typedef struct method_definition {
    const char *name, *description;
    /* Explanations of every target, target_count of them, in out. */
    xai_status (*explain)(explainer *self, const batch *rows, const xai_target *const *targets,
                          size_t target_count, explanation **out, xai_error **error);
    cam_formula cam; /* for explain = cam_explain */
} method_definition;

/* NULL past the end. */
const method_definition *method_at(size_t index);
size_t method_count(void);

typedef struct explainer_settings {
    const char *layer; /* NULL = the default */
    int32_t score, scaling;
    evaluator_options evaluator;
} explainer_settings;

struct explainer {
    const method_definition *method;
    evaluator engine;
    int layer; /* value id; GRAPH_NONE = the default for the inputs and the score */
    int32_t score, scaling;
    layer_memo memo;
};

/* `of` must outlive the explainer. */
xai_status explainer_init(explainer *self, const subject *of, const char *method,
                          const explainer_settings *settings, xai_error **error);
void explainer_free(explainer *self);
xai_status explainer_explain(explainer *self, const tensor *const *inputs, size_t input_count,
                             const xai_target *const *targets, size_t target_count,
                             explanation **out, xai_error **error);

/* Definitions, one file each. */
extern const method_definition method_gradcam, method_gradcam_plus_plus;

/* Shared by the CAM methods. */
xai_status cam_explain(explainer *self, const batch *rows, const xai_target *const *targets,
                       size_t target_count, explanation **out, xai_error **error);

#endif
