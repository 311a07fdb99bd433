/* Elementary functions in float32 for vectorised loops: branch-free, no tables, NaN stays NaN.
 *
 * Relative error against double is below 1e-6 wherever the result is a normal number (measured by the unit tests). The
 * polynomials are Taylor series or least-squares fits; each says its interval and its own error. */
#ifndef ENGINE_KERNELS_MATH_H
#define ENGINE_KERNELS_MATH_H

#include "engine/kernels_private.h"

KERNEL_INLINE uint32_t math_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

KERNEL_INLINE float math_from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* e^x. x = n ln 2 + r with |r| <= ln 2 / 2; the Taylor series of e^r to r^7 (5e-9); 2^n as two factors, so that
 * gradual underflow and infinity come out right. */
KERNEL_INLINE float math_exp(float x)
{
    const float magic =
        12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    const float shifted = x * 1.44269504f + magic;
    const float n = shifted - magic;
    const float r = (x - n * 0.693359375f) -
                    n * -2.12194440e-4f; /* ln 2 in two parts, the first exact times n */
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * (r * r) + r + 1.0f;
    const uint32_t power =
        math_bits(shifted) - 0x4B400000u + 256u; /* n + 256, so that halving needs no sign */
    const uint32_t low = power >> 1, high = power - low; /* 2^low-128 * 2^high-128 */
    return p * math_from_bits((low - 1u) << 23) * math_from_bits((high - 1u) << 23);
}

/* e^x - 1 without cancellation: within 1/2 of zero the series x + x^2/2 + ... + x^8/8!. */
KERNEL_INLINE float math_expm1(float x)
{
    float p = 1.0f / 40320;
    p = p * x + 1.0f / 5040;
    p = p * x + 1.0f / 720;
    p = p * x + 1.0f / 120;
    p = p * x + 1.0f / 24;
    p = p * x + 1.0f / 6;
    p = p * x + 0.5f;
    p = p * (x * x) + x;
    const float far = math_exp(x) - 1.0f;
    return x < -0.5f || x > 0.5f ? far : p;
}

/* 1 / (1 + e^-x), from e^-|x| so that neither tail loses digits. */
KERNEL_INLINE float math_sigmoid(float x)
{
    const float e = math_exp(x < 0 ? x : -x), r = 1.0f / (1.0f + e);
    return x < 0 ? e * r : r;
}

KERNEL_INLINE float math_silu(float x)
{
    const float y = x * math_sigmoid(x);
    return x < -104.0f ? -0.0f : y;
}

/* Below 0.625 the odd series x + x^3 P(x^2), P fitted to 8e-9; above 1 - 2 / (e^2|x| + 1). */
KERNEL_INLINE float math_tanh(float x)
{
    const float z = x * x, magnitude = x < 0 ? -x : x;
    float p = 0.00221499681f;
    p = p * z - 0.00827255653f;
    p = p * z + 0.0217462242f;
    p = p * z - 0.053956355f;
    p = p * z + 0.133332908f;
    p = p * z - 0.333333331f;
    p = p * z * x + x;
    float far = 1.0f - 2.0f / (math_exp(2.0f * magnitude) + 1.0f);
    far = x < 0 ? -far : far;
    return magnitude < 0.625f ? p : far;
}

/* log(1 + t) for t in [0, 1]: 2 artanh(s), s = t / (2 + t) <= 1/3, series to s^15. */
KERNEL_INLINE float math_log1p_unit(float t)
{
    const float s = t / (2.0f + t), z = s * s;
    float p = 2.0f / 15;
    p = p * z + 2.0f / 13;
    p = p * z + 2.0f / 11;
    p = p * z + 2.0f / 9;
    p = p * z + 2.0f / 7;
    p = p * z + 2.0f / 5;
    p = p * z + 2.0f / 3;
    return p * z * s + 2.0f * s;
}

/* log(1 + e^x) = max(x, 0) + log(1 + e^-|x|) */
KERNEL_INLINE float math_softplus(float x)
{
    const float magnitude = x < 0 ? -x : x;
    return (x < 0 ? 0.0f : x) + math_log1p_unit(math_exp(-magnitude));
}

/* e^(-a) for a given to twice float's precision: a rounding of a = 80 alone would cost 4e-6. */
KERNEL_INLINE float math_exp_minus(double a)
{
    const float high = (float)a, low = (float)(a - (double)high);
    return math_exp(-high) * (1.0f - low);
}

/* Standard normal distribution Phi(x). With t = 1 / (1 + 0.3 |x|) the tail is Q = e^(-x^2/2) M(t), M fitted to 4e-8 on
 * |x| <= 14.5 (beyond, Q underflows); Phi = x < 0 ? Q : 1 - Q. *density_exp receives e^(-x^2/2). */
KERNEL_INLINE float math_normal_cdf(float x, float *density_exp)
{
    const float magnitude = x < 0 ? -x : x;
    /* min before squaring: no infinity minus infinity in the split */
    const float bounded = magnitude > 15.0f ? 15.0f : magnitude;
    /* x^2 / 2 to twice float's precision: the square of the first 12 bits is exact, and the rest of the sum is kept. */
    const float head = math_from_bits(math_bits(bounded) & 0xFFFFF000u), rest = bounded - head;
    const float half = 0.5f * head * head, low = rest * (head + 0.5f * rest), sum = half + low;
    const float e = math_exp(-sum) * (1.0f - (low - (sum - half)));
    const float t = 1.0f / (1.0f + 0.3f * bounded);
    float m = -0.00383641675f;
    m = m * t + 0.0582751686f;
    m = m * t - 0.213631871f;
    m = m * t + 0.284718807f;
    m = m * t - 0.120330429f;
    m = m * t + 0.164510594f;
    m = m * t + 0.0876316791f;
    m = m * t + 0.123314215f;
    m = m * t + 0.119333887f;
    m = m * t + 1.43840547e-05f;
    const float tail = e * m;
    *density_exp = e;
    return x < 0 ? tail : 1.0f - tail;
}

KERNEL_INLINE float math_gelu(float x)
{
    float e;
    const float y = x * math_normal_cdf(x, &e);
    return x < -15.0f ? -0.0f : y;
}

/* d/dx x Phi(x) = Phi(x) + x phi(x) */
KERNEL_INLINE float math_gelu_slope(float x)
{
    float e;
    const float p = math_normal_cdf(x, &e);
    const float bounded = x < -15.0f ? -15.0f : (x > 15.0f ? 15.0f : x);
    return p + bounded * e * 0.398942280f;
}

/* math_gelu() and math_gelu_slope() at once. */
KERNEL_INLINE float math_gelu_both(float x, float *slope)
{
    float e;
    const float p = math_normal_cdf(x, &e), y = x * p;
    const float bounded = x < -15.0f ? -15.0f : (x > 15.0f ? 15.0f : x);
    *slope = p + bounded * e * 0.398942280f;
    return x < -15.0f ? -0.0f : y;
}

/* 2 u of GELU's tanh form, u = sqrt(2/pi) (x + 0.044715 x^3), bounded so that nothing overflows */
KERNEL_INLINE double math_gelu_tanh_argument(float x)
{
    const float bounded = x < -30.0f ? -30.0f : (x > 30.0f ? 30.0f : x);
    const double v = (double)bounded;
    return v * (1.5957691216057308 + 0.07135481627260025 * (v * v));
}

/* 1 / (1 + e^(-2u)) = (1 + tanh u) / 2, from e^(-2|u|) so that neither tail loses digits */
KERNEL_INLINE float math_gelu_tanh_share(float x)
{
    const double argument = math_gelu_tanh_argument(x);
    const float e = math_exp_minus(argument < 0 ? -argument : argument), r = 1.0f / (1.0f + e);
    return x < 0 ? e * r : r;
}

/* x/2 (1 + tanh u) */
KERNEL_INLINE float math_gelu_tanh(float x)
{
    const float y = x * math_gelu_tanh_share(x);
    return x < -30.0f ? -0.0f : y;
}

KERNEL_INLINE float math_gelu_tanh_slope(float x)
{
    const float bounded = x < -30.0f ? -30.0f : (x > 30.0f ? 30.0f : x);
    const float s = math_gelu_tanh_share(x);
    return s + bounded * s * (1.0f - s) * (1.59576912f + 0.214064449f * bounded * bounded);
}

KERNEL_INLINE float math_gelu_tanh_both(float x, float *slope)
{
    const float bounded = x < -30.0f ? -30.0f : (x > 30.0f ? 30.0f : x);
    const float s = math_gelu_tanh_share(x), y = x * s;
    *slope = s + bounded * s * (1.0f - s) * (1.59576912f + 0.214064449f * bounded * bounded);
    return x < -30.0f ? -0.0f : y;
}

/* x sigmoid(x) and its slope, which share the exponential. */
KERNEL_INLINE float math_silu_both(float x, float *slope)
{
    const float bounded = x < -104.0f ? -104.0f : (x > 104.0f ? 104.0f : x);
    const float s = math_sigmoid(bounded), y = x * s;
    *slope = s * (1.0f + bounded * (1.0f - s));
    return x < -104.0f ? -0.0f : y;
}

/* d/dx x sigmoid(x) = s (1 + x (1 - s)) */
KERNEL_INLINE float math_silu_slope(float x)
{
    const float bounded = x < -100.0f ? -100.0f : (x > 100.0f ? 100.0f : x);
    const float s = math_sigmoid(bounded);
    return s * (1.0f + bounded * (1.0f - s));
}

#endif
