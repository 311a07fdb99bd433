/* Bounds of values of local edits, and small things that their runs share. */
#include <float.h>
#include <math.h>

#include "base/error.h"
#include "engine/local_private.h"

/* Bounds. oneDNN's fused ReLU turns a NaN into 0 and would hide an overflow, so that convolutions are
 * run only where no partial sum can leave float32. Bounds follow from the inputs'; where they have
 * grown large the values themselves are looked at. */
bool local_bound_fits(double bound)
{
    return bound < FLT_MAX; /* false for a NaN */
}

/* What is concatenated sooner: many layers read it, and one large bound among its pieces would have all of their
 * values looked at, which are more. */
bool local_bound_is_large(const local_value *of, double bound)
{
    return !(bound < (of->is_piece ? 1e9 : 1e30)); /* true for a NaN */
}

/* A bound on |f(x)| for |x| <= bound; infinity when none is known. */
static double bound_behind(const activation *f, double bound)
{
    switch (f->kind) {
    case ACTIVATION_NONE:
    case ACTIVATION_RELU:
    case ACTIVATION_SILU:
    case ACTIVATION_HARD_SWISH:
    case ACTIVATION_GELU:
    case ACTIVATION_GELU_TANH:
    case ACTIVATION_ABS:
        return bound;
    case ACTIVATION_LEAKY_RELU:
        return bound * fmax(1, fabs(f->alpha));
    case ACTIVATION_SIGMOID:
    case ACTIVATION_HARD_SIGMOID:
    case ACTIVATION_TANH:
        return 1;
    case ACTIVATION_CLIP:
        return fmin(bound, DBL_MAX) > 0 ? fmax(fabs(f->alpha), fabs(f->beta)) : bound;
    default:
        return INFINITY;
    }
}

double local_bound(const local_step *step, double input, double other)
{
    switch (step->kind) {
    case LOCAL_CONVOLUTION:
        return bound_behind(&step->f, input * step->gain + step->offset + other);
    case LOCAL_SCALE_SHIFT:
        return bound_behind(&step->f, input * step->gain + step->offset);
    case LOCAL_ACTIVATION:
        return bound_behind(&step->f, input);
    case LOCAL_ADD:
        return bound_behind(&step->f, input + other);
    default:
        return input;
    }
}

double local_partial_bound(const local_step *of, double input, double other)
{
    return of->kind == LOCAL_CONVOLUTION ? input * of->gain + of->offset + other : 0;
}

/* The second summand of an addition, fused or not. */
size_t local_summand(const local_step *step)
{
    return step->kind == LOCAL_ADD ? step->inputs[1] : step->other;
}

xai_status local_overflow(const local *self, const local_step *step, xai_error **error)
{
    return error_set(error, XAI_ERROR_NUMERIC, self->graph->values[step->output].name,
                     "the values of a row with an edit may overflow here");
}

xai_status local_run_primitive(const local_step *step, const primitive *program,
                               const void *weights, const float *source, float *destination,
                               void *scratch, xai_error **error)
{
    const primitive_arguments arguments = {.source = source,
                                           .weights = weights,
                                           .bias = step->shift,
                                           .destination = destination,
                                           .scratchpad = scratch};
    return primitive_run(program, &arguments, error);
}

size_t local_whole_count(const local_value *of)
{
    return of->planes * of->unit * of->size[0] * of->size[1];
}
