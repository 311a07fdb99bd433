/* Activations and their slopes. Each kind is one vectorised loop over a piece; NaN in, NaN out. */
#include "engine/kernels_math.h"

#include <math.h>

bool activation_keeps_zero(const activation *f)
{
    switch (f->kind) {
    case ACTIVATION_SIGMOID:
    case ACTIVATION_SOFTPLUS:
    case ACTIVATION_EXP:
        return false;
    case ACTIVATION_HARD_SIGMOID:
        return f->beta <= 0;
    case ACTIVATION_CLIP:
        return f->alpha <= 0 && f->beta >= 0;
    default:
        return true;
    }
}

bool activation_backward_uses_output(const activation *f)
{
    switch (f->kind) {
    case ACTIVATION_RELU:
    case ACTIVATION_SIGMOID:
    case ACTIVATION_HARD_SIGMOID:
    case ACTIVATION_TANH:
    case ACTIVATION_CLIP:
    case ACTIVATION_EXP:
    case ACTIVATION_SQRT:
        return true;
    /* The sign of y tells the side of zero only when the slope there is not negative. */
    case ACTIVATION_LEAKY_RELU:
    case ACTIVATION_ELU:
        return f->alpha >= 0;
    case ACTIVATION_SELU:
        return f->alpha >= 0 && f->beta > 0;
    case ACTIVATION_CELU:
        return f->alpha > 0;
    default:
        return false;
    }
}

#define EACH(expression)                 \
    do {                                 \
        KERNEL_SIMD                      \
        for (size_t i = 0; i < n; i++) { \
            const float v = x[i];        \
            y[i] = (expression);         \
        }                                \
    } while (0)

KERNEL_LEAF void activate_piece(activation_kind kind, float alpha, float beta, const float *x,
                                float *y, size_t n)
{
    switch (kind) {
    case ACTIVATION_NONE:
        if (x != y)
            memcpy(y, x, n * sizeof *y);
        break;
    case ACTIVATION_RELU:
        EACH(v < 0 ? 0.0f : v);
        break;
    case ACTIVATION_LEAKY_RELU:
        EACH(v < 0 ? alpha * v : v);
        break;
    case ACTIVATION_ELU:
        EACH(v > 0 ? v : alpha * math_expm1(v));
        break;
    case ACTIVATION_SELU: {
        const float both = alpha * beta;
        EACH(v > 0 ? beta * v : both * math_expm1(v));
        break;
    }
    case ACTIVATION_CELU: /* max(0, x) + min(0, alpha (e^(x / alpha) - 1)), for either sign of alpha */
        EACH(v > 0 ? v : alpha * math_expm1(v / alpha));
        break;
    case ACTIVATION_SIGMOID:
        EACH(math_sigmoid(v));
        break;
    case ACTIVATION_HARD_SIGMOID: {
        for (size_t i = 0; i < n; i++) {
            float t = alpha * x[i] + beta;
            t = t < 0 ? 0.0f : t;
            y[i] = t > 1 ? 1.0f : t;
        }
        break;
    }
    case ACTIVATION_HARD_SWISH: {
        for (size_t i = 0; i < n; i++) {
            const float v = x[i];
            float t = v * (1.0f / 6) + 0.5f;
            t = t < 0 ? 0.0f : t;
            t = t > 1 ? 1.0f : t;
            y[i] = v < -3.0f ? -0.0f : v * t;
        }
        break;
    }
    case ACTIVATION_TANH:
        EACH(math_tanh(v));
        break;
    case ACTIVATION_SOFTPLUS:
        EACH(math_softplus(v));
        break;
    case ACTIVATION_SILU:
        EACH(math_silu(v));
        break;
    case ACTIVATION_GELU:
        EACH(math_gelu(v));
        break;
    case ACTIVATION_GELU_TANH:
        EACH(math_gelu_tanh(v));
        break;
    case ACTIVATION_CLIP: {
        /* ONNX: min(max(x, low), high), so high wins when low > high */
        for (size_t i = 0; i < n; i++) {
            const float v = x[i], t = v < alpha ? alpha : v;
            y[i] = t > beta ? beta : t;
        }
        break;
    }
    case ACTIVATION_EXP:
        EACH(math_exp(v));
        break;
    case ACTIVATION_ABS:
        EACH(math_from_bits(math_bits(v) & 0x7FFFFFFFu));
        break;
    case ACTIVATION_SQRT:
        for (size_t i = 0; i < n; i++)
            y[i] = sqrtf(x[i]);
        break;
    }
}

#undef EACH

void kernel_activate_piece(const activation *f, const float *x, float *y, size_t n)
{
    activate_piece(f->kind, f->alpha, f->beta, x, y, n);
}

void kernel_activate(const activation *f, const float *x, float *y, size_t n, int threads)
{
    const int team = kernel_threads(threads, n);
    const size_t pieces = kernel_pieces(n, KERNEL_PIECE);
    KERNEL_PARALLEL(team)
    for (size_t p = 0; p < pieces; p++) {
        const size_t begin = p * KERNEL_PIECE;
        activate_piece(f->kind, f->alpha, f->beta, x + begin, y + begin,
                       kernel_minimum(n - begin, KERNEL_PIECE));
    }
}

/* out = slope(v) gy; a NaN of v must not become a number, hence the comparisons that are false for NaN choose v itself. */
#define EACH_SLOPE(expression)                              \
    do {                                                    \
        KERNEL_SIMD                                         \
        for (size_t i = 0; i < n; i++) {                    \
            const float v = xy[i];                          \
            const float slope = (expression);               \
            const float product = slope * gy[i];            \
            gx[i] = accumulate ? gx[i] + product : product; \
        }                                                   \
    } while (0)

KERNEL_INLINE void slope_piece(activation_kind kind, float alpha, float beta, const float *xy,
                               const float *gy, float *gx, size_t n, const bool accumulate)
{
    switch (kind) {
    case ACTIVATION_NONE:
        for (size_t i = 0; i < n; i++)
            gx[i] = accumulate ? gx[i] + gy[i] : gy[i];
        break;
    case ACTIVATION_RELU:
        EACH_SLOPE(v > 0 ? 1.0f : (v <= 0 ? 0.0f : v));
        break;
    case ACTIVATION_LEAKY_RELU:
        EACH_SLOPE(v > 0 ? 1.0f : (v <= 0 ? alpha : v));
        break;
    case ACTIVATION_ELU: /* from y: alpha e^x = y + alpha */
        if (alpha >= 0)
            EACH_SLOPE(v > 0 ? 1.0f : v + alpha);
        else
            EACH_SLOPE(v > 0 ? 1.0f : alpha * math_exp(v));
        break;
    case ACTIVATION_SELU: {
        const float both = alpha * beta;
        if (alpha >= 0 && beta > 0)
            EACH_SLOPE(v > 0 ? beta : v + both);
        else
            EACH_SLOPE(v > 0 ? beta : both * math_exp(v));
        break;
    }
    case ACTIVATION_CELU:
        if (alpha > 0) /* from y: e^(x / alpha) = y / alpha + 1 */
            EACH_SLOPE(v > 0 ? 1.0f : v / alpha + 1.0f);
        else
            EACH_SLOPE(v > 0 ? 1.0f : math_exp(v / alpha));
        break;
    case ACTIVATION_SIGMOID:
        EACH_SLOPE(v * (1.0f - v));
        break;
    case ACTIVATION_HARD_SIGMOID:
        EACH_SLOPE(v <= 0 || v >= 1 ? 0.0f : (v == v ? alpha : v));
        break;
    case ACTIVATION_HARD_SWISH:
        EACH_SLOPE(v < -3.0f ? 0.0f : (v > 3.0f ? 1.0f : v * (1.0f / 3) + 0.5f));
        break;
    case ACTIVATION_TANH:
        EACH_SLOPE(1.0f - v * v);
        break;
    case ACTIVATION_SOFTPLUS:
        EACH_SLOPE(math_sigmoid(v));
        break;
    case ACTIVATION_SILU:
        EACH_SLOPE(math_silu_slope(v));
        break;
    case ACTIVATION_GELU:
        EACH_SLOPE(math_gelu_slope(v));
        break;
    case ACTIVATION_GELU_TANH:
        EACH_SLOPE(math_gelu_tanh_slope(v));
        break;
    case ACTIVATION_CLIP:
        EACH_SLOPE(v > alpha && v < beta ? 1.0f : (v == v ? 0.0f : v));
        break;
    case ACTIVATION_EXP:
        EACH_SLOPE(v);
        break;
    case ACTIVATION_ABS:
        EACH_SLOPE(v > 0 ? 1.0f : (v < 0 ? -1.0f : v));
        break;
    case ACTIVATION_SQRT:
        EACH_SLOPE(gy[i] == 0 ? 0.0f : 0.5f / v); /* padded lanes hold 0: no infinity times zero */
        break;
    }
}

#undef EACH_SLOPE

KERNEL_LEAF void activate_backward_piece(activation_kind kind, float alpha, float beta,
                                         const float *xy, const float *gy, float *gx, size_t n,
                                         bool accumulate)
{
    if (accumulate)
        slope_piece(kind, alpha, beta, xy, gy, gx, n, true);
    else
        slope_piece(kind, alpha, beta, xy, gy, gx, n, false);
}

void kernel_activate_backward_piece(const activation *f, const float *xy, const float *gy,
                                    float *gx, size_t n)
{
    activate_backward_piece(f->kind, f->alpha, f->beta, xy, gy, gx, n, false);
}

void kernel_activate_backward(const activation *f, const float *xy, const float *gy, float *gx,
                              size_t n, bool accumulate, int threads)
{
    const int team = kernel_threads(threads, n);
    const size_t pieces = kernel_pieces(n, KERNEL_PIECE);
    KERNEL_PARALLEL(team)
    for (size_t p = 0; p < pieces; p++) {
        const size_t begin = p * KERNEL_PIECE;
        activate_backward_piece(f->kind, f->alpha, f->beta, xy + begin, gy + begin, gx + begin,
                                kernel_minimum(n - begin, KERNEL_PIECE), accumulate);
    }
}

#define EACH_BOTH(function)                \
    do {                                   \
        KERNEL_SIMD                        \
        for (size_t i = 0; i < n; i++) {   \
            float slope;                   \
            y[i] = function(x[i], &slope); \
            slopes[i] = slope;             \
        }                                  \
    } while (0)

KERNEL_LEAF void activate_both_piece(activation_kind kind, const float *x, float *y, float *slopes,
                                     size_t n)
{
    if (kind == ACTIVATION_GELU)
        EACH_BOTH(math_gelu_both);
    else if (kind == ACTIVATION_GELU_TANH)
        EACH_BOTH(math_gelu_tanh_both);
    else
        EACH_BOTH(math_silu_both);
}

#undef EACH_BOTH

bool activation_gives_slopes(const activation *f)
{
    return f->kind == ACTIVATION_GELU || f->kind == ACTIVATION_GELU_TANH ||
           f->kind == ACTIVATION_SILU;
}

void kernel_activate_both(const activation *f, const float *x, float *y, float *slopes, size_t n,
                          int threads)
{
    const int team = kernel_threads(threads, n);
    const size_t pieces = kernel_pieces(n, KERNEL_PIECE);
    KERNEL_PARALLEL(team)
    for (size_t p = 0; p < pieces; p++) {
        const size_t begin = p * KERNEL_PIECE;
        activate_both_piece(f->kind, x + begin, y + begin, slopes + begin,
                            kernel_minimum(n - begin, KERNEL_PIECE));
    }
}
