/* DeepLIFT's Rescale rule: the slope of an activation is replaced by (f(x) - f(r)) / (x - r), r the
 * value of the baseline.
 *
 * The quotient loses its digits where x - r is small against what f was rounded to. Smooth functions
 * take the mean of the slope at the two Gauss-Legendre points between r and x there: for |x - r| <
 * 0.1 its error is below 3e-8. Functions made of straight pieces have exact quotients; the rest
 * is computed in double. Where x = r all are the slope at x. */
#include <math.h>

#include "engine/kernels_math.h"

/* |x - r| below which smooth functions take the mean slope. */
#define NEAR 0.1f
/* The two points lie this share of x - r beside the middle: 1 / (2 sqrt 3) */
#define POINT 0.288675135f

/* gx (+)= m gy, m an expression of x (v), r (w) and d = v - w */
#define EACH(expression)                                    \
    do {                                                    \
        KERNEL_SIMD                                         \
        for (size_t i = 0; i < n; i++) {                    \
            const float v = x[i], w = r[i], d = v - w;      \
            const float product = (expression)*gy[i];       \
            gx[i] = accumulate ? gx[i] + product : product; \
        }                                                   \
    } while (0)

#define EACH_SMOOTH(value, slope)                                                        \
    do {                                                                                 \
        KERNEL_SIMD                                                                      \
        for (size_t i = 0; i < n; i++) {                                                 \
            const float v = x[i], w = r[i], d = v - w;                                   \
            const float middle = w + 0.5f * d, beside = POINT * d;                       \
            const float near = 0.5f * (slope(middle - beside) + slope(middle + beside)); \
            const float far = (value(v) - value(w)) / d;                                 \
            const float product = (d > -NEAR && d < NEAR ? near : far) * gy[i];          \
            gx[i] = accumulate ? gx[i] + product : product;                              \
        }                                                                                \
    } while (0)

KERNEL_INLINE float sigmoid_slope(float x)
{
    const float s = math_sigmoid(x);
    return s * (1.0f - s);
}

KERNEL_INLINE float tanh_slope(float x)
{
    const float t = math_tanh(x);
    return 1.0f - t * t;
}

/* What is left, in double: few networks have it. */
static double value_of(const activation *f, double x)
{
    const double alpha = (double)f->alpha, beta = (double)f->beta;
    switch (f->kind) {
    case ACTIVATION_ELU:
        return x > 0 ? x : alpha * expm1(x);
    case ACTIVATION_SELU:
        return x > 0 ? beta * x : alpha * beta * expm1(x);
    case ACTIVATION_CELU:
        return x > 0 ? x : alpha * expm1(x / alpha);
    case ACTIVATION_HARD_SIGMOID:
        return fmin(fmax(alpha * x + beta, 0), 1);
    case ACTIVATION_HARD_SWISH:
        return x * fmin(fmax(x / 6 + 0.5, 0), 1);
    default:
        return x;
    }
}

static double slope_of(const activation *f, double x)
{
    const double alpha = (double)f->alpha, beta = (double)f->beta;
    switch (f->kind) {
    case ACTIVATION_ELU:
        return x > 0 ? 1 : alpha * exp(x);
    case ACTIVATION_SELU:
        return x > 0 ? beta : alpha * beta * exp(x);
    case ACTIVATION_CELU:
        return x > 0 ? 1 : exp(x / alpha);
    case ACTIVATION_HARD_SIGMOID:
        return alpha * x + beta > 0 && alpha * x + beta < 1 ? alpha : 0;
    case ACTIVATION_HARD_SWISH:
        return x < -3 ? 0 : x > 3 ? 1 : x / 3 + 0.5;
    default:
        return 1;
    }
}

static void rescale_in_double(const activation *f, const float *x, const float *r, const float *gy,
                              float *gx, size_t n, bool accumulate)
{
    for (size_t i = 0; i < n; i++) {
        const double v = (double)x[i], w = (double)r[i];
        const double m = v == w ? slope_of(f, v) : (value_of(f, v) - value_of(f, w)) / (v - w);
        const float product = (float)(m * (double)gy[i]);
        gx[i] = accumulate ? gx[i] + product : product;
    }
}

KERNEL_LEAF void rescale_piece(activation_kind kind, float alpha, float beta, const float *x,
                               const float *r, const float *gy, float *gx, size_t n,
                               bool accumulate)
{
    switch (kind) {
    case ACTIVATION_RELU:
        EACH(d == 0 ? (v > 0 ? 1.0f : 0.0f) : ((v < 0 ? 0.0f : v) - (w < 0 ? 0.0f : w)) / d);
        break;
    case ACTIVATION_LEAKY_RELU:
        EACH(v <= 0 && w <= 0 ? alpha
             : v > 0 && w > 0 ? 1.0f
                              : ((v < 0 ? alpha * v : v) - (w < 0 ? alpha * w : w)) / d);
        break;
    case ACTIVATION_CLIP:
        for (size_t i = 0; i < n; i++) {
            const float v = x[i], w = r[i], d = v - w;
            const float low = v < alpha ? alpha : v, low_r = w < alpha ? alpha : w;
            const float difference = (low > beta ? beta : low) - (low_r > beta ? beta : low_r);
            const float m = d == 0 ? (v > alpha && v < beta ? 1.0f : 0.0f) : difference / d;
            gx[i] = accumulate ? gx[i] + m * gy[i] : m * gy[i];
        }
        break;
    case ACTIVATION_ABS:
        EACH(d == 0 ? (v > 0 ? 1.0f : (v < 0 ? -1.0f : 0.0f))
                    : ((v < 0 ? -v : v) - (w < 0 ? -w : w)) / d);
        break;
    case ACTIVATION_SQRT: /* (sqrt x - sqrt r) / (x - r) */
        for (size_t i = 0; i < n; i++) {
            const float both = sqrtf(x[i]) + sqrtf(r[i]);
            const float product = gy[i] == 0 ? 0.0f : gy[i] / both; /* padded lanes: 0 / 0 */
            gx[i] = accumulate ? gx[i] + product : product;
        }
        break;
    case ACTIVATION_SIGMOID:
        EACH_SMOOTH(math_sigmoid, sigmoid_slope);
        break;
    case ACTIVATION_TANH:
        EACH_SMOOTH(math_tanh, tanh_slope);
        break;
    case ACTIVATION_SOFTPLUS:
        EACH_SMOOTH(math_softplus, math_sigmoid);
        break;
    case ACTIVATION_SILU:
        EACH_SMOOTH(math_silu, math_silu_slope);
        break;
    case ACTIVATION_GELU:
        EACH_SMOOTH(math_gelu, math_gelu_slope);
        break;
    case ACTIVATION_GELU_TANH:
        EACH_SMOOTH(math_gelu_tanh, math_gelu_tanh_slope);
        break;
    case ACTIVATION_EXP:
        EACH_SMOOTH(math_exp, math_exp);
        break;
    default:
        EACH(1.0f + 0.0f * d); /* none */
        break;
    }
}

#undef EACH
#undef EACH_SMOOTH

void kernel_rescale(const activation *f, const float *x, const float *r, const float *gy, float *gx,
                    size_t n, bool accumulate, int threads)
{
    const int team = kernel_threads(threads, n);
    const size_t pieces = kernel_pieces(n, KERNEL_PIECE);
    const bool in_double = f->kind == ACTIVATION_ELU || f->kind == ACTIVATION_SELU ||
                           f->kind == ACTIVATION_CELU || f->kind == ACTIVATION_HARD_SIGMOID ||
                           f->kind == ACTIVATION_HARD_SWISH;
    KERNEL_PARALLEL(team)
    for (size_t p = 0; p < pieces; p++) {
        const size_t begin = p * KERNEL_PIECE, size = kernel_minimum(n - begin, KERNEL_PIECE);
        if (in_double)
            rescale_in_double(f, x + begin, r + begin, gy + begin, gx + begin, size, accumulate);
        else
            rescale_piece(f->kind, f->alpha, f->beta, x + begin, r + begin, gy + begin, gx + begin,
                          size, accumulate);
    }
}

KERNEL_LEAF void rescale_scaled_relu(const float *x, const float *r, const float *scale,
                                     const float *shift, const float *gy, float *gx, size_t n,
                                     size_t block, bool accumulate)
{
    const lanes zero = {0};
    for (size_t lane = 0; lane < block; lane += LANES) {
        const lanes a = LANES_OF(scale + lane), b = LANES_OF(shift + lane);
        const lanes one = zero + 1.0f;
        for (size_t s = 0; s < n; s++) {
            const size_t i = s * block + lane;
            const lanes v = LANES_OF(x + i) * a + b, w = LANES_OF(r + i) * a + b, d = v - w;
            const lanes quotient =
                (LANES_SELECT(v < zero, zero, v) - LANES_SELECT(w < zero, zero, w)) / d;
            const lanes m = LANES_SELECT(d == zero, LANES_SELECT(v > zero, one, zero), quotient);
            lanes g = LANES_OF(gy + i) * a * m;
            if (accumulate)
                g += LANES_OF(gx + i);
            LANES_AT(gx + i) = g;
        }
    }
}

void kernel_scale_shift_rescale(const float *x, const float *r, const float *scale,
                                const float *shift, const float *gy, float *gx, size_t channels,
                                size_t spatial, int block, bool accumulate, int threads)
{
    enum { TILE = 128 };
    const size_t b = (size_t)block, blocks = kernel_pieces(channels, b),
                 tiles = kernel_pieces(spatial, TILE);
    const int team = kernel_threads(threads, channels * spatial);
    KERNEL_PARALLEL(team)
    for (size_t item = 0; item < blocks * tiles; item++) {
        const size_t c = item / tiles * b, begin = item % tiles * TILE,
                     n = kernel_minimum(spatial - begin, TILE), at = c * spatial + begin * b;
        rescale_scaled_relu(x + at, r + at, scale + c, shift + c, gy + at, gx + at, n, b,
                            accumulate);
    }
}

void kernel_max_pool_rescale(const window *w, const float *x, const float *r, const int32_t *argmax,
                             const int32_t *argmax_r, const float *gy, float *gx, size_t channels,
                             int block, bool accumulate, int threads)
{
    size_t inputs = 1, outputs = 1;
    for (int i = 0; i < w->rank; i++) {
        inputs *= (size_t)w->input[i];
        outputs *= (size_t)w->output[i];
    }
    const size_t b = (size_t)block, blocks = kernel_pieces(channels, b);
    const int team = kernel_threads(threads, channels * (inputs + outputs));
    KERNEL_PARALLEL(team)
    for (size_t c = 0; c < blocks; c++) {
        const float *v = x + c * inputs * b, *u = r + c * inputs * b, *g = gy + c * outputs * b;
        const int32_t *p = argmax + c * outputs * b, *q = argmax_r + c * outputs * b;
        float *plane = gx + c * inputs * b;
        const size_t valid = kernel_minimum(channels - c * b, b);
        if (!accumulate)
            memset(plane, 0, inputs * b * sizeof *plane);
        for (size_t o = 0; o < outputs; o++)
            for (size_t lane = 0; lane < valid; lane++) {
                const size_t i = o * b + lane;
                if (p[i] < 0)
                    continue;
                const size_t at = (size_t)p[i] * b + lane, at_r = (size_t)q[i] * b + lane;
                const float change = v[at] - u[at_r];
                const size_t winner = change >= 0 ? at : at_r;
                const float d = v[winner] - u[winner];
                plane[winner] += d == 0 ? g[i] : g[i] * (change / d);
            }
    }
}

void kernel_mean(const float *x, const float *r, float *y, size_t n, int threads)
{
    const int team = kernel_threads(threads, n);
    const size_t pieces = kernel_pieces(n, KERNEL_PIECE);
    KERNEL_PARALLEL(team)
    for (size_t p = 0; p < pieces; p++) {
        const size_t end = kernel_minimum(n, (p + 1) * KERNEL_PIECE);
        KERNEL_SIMD
        for (size_t i = p * KERNEL_PIECE; i < end; i++)
            y[i] = 0.5f * x[i] + 0.5f * r[i];
    }
}

void kernel_positive(const float *x, float *y, size_t n, int threads)
{
    const activation relu = {ACTIVATION_RELU, 0, 0};
    kernel_activate(&relu, x, y, n, threads);
}

/* The difference quotient of exp over exp((x + r) / 2): sinh(d / 2) / (d / 2) */
static double exp_quotient(double d)
{
    const double h = 0.5 * d;
    if (fabs(h) < 0.05)
        return 1 + h * h / 6 * (1 + h * h / 20 * (1 + h * h / 42));
    return sinh(h) / h;
}

/* Softmax as e = exp(x), s = sum e, y = e / s, each by its own rule: quotient, linear, product.
 * With rho = s_r / s, e scaled by 1 / sqrt(s s_r): w = y / sqrt rho, w_r = y_r sqrt rho,
 *     m = (w - w_r) / (x - r) / 2 (g (sqrt rho + 1 / sqrt rho) - <g, y> / sqrt rho - <g, y_r> sqrt rho) */
static void softmax_row(const float *x, const float *r, const float *y, const float *y_r,
                        const float *gy, float *gx, size_t width, bool accumulate)
{
    size_t most = 0, most_r = 0;
    /* A large rho magnifies what the rounded y lack of a sum of 1. */
    double inner = 0, inner_r = 0, sum = 0, sum_r = 0;
    for (size_t i = 0; i < width; i++) {
        sum += (double)y[i];
        sum_r += (double)y_r[i];
        most = y[i] > y[most] ? i : most;
        most_r = y_r[i] > y_r[most_r] ? i : most_r;
        inner += (double)gy[i] * (double)y[i];
        inner_r += (double)gy[i] * (double)y_r[i];
    }
    double exponent = 0.5 * ((double)r[most_r] - log((double)y_r[most_r]) - (double)x[most] +
                             log((double)y[most]));
    exponent = exponent > 300 ? 300 : exponent < -300 ? -300 : exponent;
    const double root = exp(exponent); /* sqrt rho */
    const double all = inner / sum / root + inner_r / sum_r * root;
    for (size_t i = 0; i < width; i++) {
        const double w = (double)y[i] / sum / root, w_r = (double)y_r[i] / sum_r * root,
                     d = x[i] == r[i] ? 0 : (double)x[i] - (double)r[i]; /* also minus infinity */
        const double quotient = fabs(d) < 0.1 ? sqrt(w * w_r) * exp_quotient(d) : (w - w_r) / d;
        const float m = (float)(0.5 * quotient * ((double)gy[i] * (root + 1 / root) - all));
        gx[i] = accumulate ? gx[i] + m : m;
    }
}

void kernel_softmax_rescale(const float *x, const float *r, const float *y, const float *y_r,
                            const float *gy, float *gx, size_t rows, size_t width, bool accumulate,
                            int threads)
{
    const int team = kernel_threads(threads, rows * width * 8);
    KERNEL_PARALLEL(team)
    for (size_t row = 0; row < rows; row++) {
        const size_t at = row * width;
        softmax_row(x + at, r + at, y + at, y_r + at, gy + at, gx + at, width, accumulate);
    }
}

static void row_statistics(const float *x, size_t width, double *mean, double *variance)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < width; i++)
        sum += (double)x[i];
    *mean = sum / (double)width;
    for (size_t i = 0; i < width; i++)
        squares += ((double)x[i] - *mean) * ((double)x[i] - *mean);
    *variance = squares / (double)width;
}

/* Layer normalisation as c = x - mean x, v = mean c^2, u = 1 / sqrt(v + epsilon), y = scale c u + shift:
 *     h = scale g, m_c = h (u + u_r) / 2 + m_v (c + c_r) / width, m_x = m_c - mean m_c
 *     m_v = sum h (c + c_r) / 2 * (u - u_r) / (v - v_r), the quotient = -(u u_r)^2 / (u + u_r) */
static void layer_norm_row(const float *x, const float *r, const float *scale, double epsilon,
                           const float *gy, float *gx, size_t width, bool accumulate)
{
    double mean, mean_r, v, v_r, inner = 0, sum = 0;
    row_statistics(x, width, &mean, &v);
    row_statistics(r, width, &mean_r, &v_r);
    const double u = 1 / sqrt(v + epsilon), u_r = 1 / sqrt(v_r + epsilon), n = (double)width;
    for (size_t i = 0; i < width; i++)
        inner += (double)gy[i] * (scale ? (double)scale[i] : 1) *
                 ((double)x[i] - mean + (double)r[i] - mean_r);
    const double slope = -0.5 * inner * (u * u_r) * (u * u_r) / (u + u_r) / n;
    for (size_t i = 0; i < width; i++)
        sum += (double)gy[i] * (scale ? (double)scale[i] : 1);
    /* The deviations of a row sum to zero, so their part has no mean. */
    const double level = 0.5 * (u + u_r) * sum / n;
    for (size_t i = 0; i < width; i++) {
        const double h = (double)gy[i] * (scale ? (double)scale[i] : 1);
        const float m = (float)(0.5 * (u + u_r) * h - level +
                                slope * ((double)x[i] - mean + (double)r[i] - mean_r));
        gx[i] = accumulate ? gx[i] + m : m;
    }
}

void kernel_layer_norm_rescale(const float *x, const float *r, const float *scale, float epsilon,
                               const float *gy, float *gx, size_t rows, size_t width,
                               bool accumulate, int threads)
{
    const int team = kernel_threads(threads, rows * width * 4);
    KERNEL_PARALLEL(team)
    for (size_t row = 0; row < rows; row++) {
        const size_t at = row * width;
        layer_norm_row(x + at, r + at, scale, (double)epsilon, gy + at, gx + at, width, accumulate);
    }
}
