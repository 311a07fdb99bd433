/* Half precision: IEEE 754 binary16 and bfloat16, converted with round to nearest even. */
#include "tensor/half.h"

#include <string.h>

#include "tensor/tensor.h"

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float bits_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float half_to_float(uint16_t bits)
{
    const uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    const uint32_t exponent = (bits >> 10) & 0x1fu, fraction = bits & 0x3ffu;
    if (exponent == 0x1f)
        return bits_float(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0)
        return bits_float(sign | (exponent + 112) << 23 | fraction << 13);
    const float magnitude = (float)fraction * 0x1p-24f; /* subnormal: exact */
    return sign ? -magnitude : magnitude;
}

uint16_t float_to_half(float value)
{
    const uint32_t bits = float_bits(value), magnitude = bits & 0x7fffffffu;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    if (magnitude > 0x7f800000u) /* NaN stays a (quiet) NaN */
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) {
        /* Below 2^-14 the unit is 2^-24. Adding 0.5, whose unit in the last place is 2^-24 as
         * well, makes the addition itself round to nearest even. */
        const float shifted = bits_float(magnitude) + 0.5f;
        return (uint16_t)(sign | (float_bits(shifted) - 0x3f000000u));
    }
    const uint32_t odd = magnitude >> 13 & 1u;
    return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

uint16_t float_to_bfloat16(float value)
{
    const uint32_t bits = float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

float bfloat16_to_float(uint16_t bits)
{
    return bits_float((uint32_t)bits << 16);
}

/* Rounding twice (to float, then to half) is wrong near ties; rounding to odd first makes the
 * second exact. */
static float double_to_float_odd(double value)
{
    const float nearest = (float)value;
    const double back = (double)nearest;
    if (back == value || nearest != nearest)
        return nearest;
    uint32_t bits = float_bits(nearest);
    if (bits & 1u)
        return nearest;
    const double magnitude = value < 0 ? -value : value, back_magnitude = back < 0 ? -back : back;
    bits = back_magnitude > magnitude ? bits - 1 : bits + 1;
    return bits_float(bits);
}

uint16_t double_to_half(double value)
{
    return float_to_half(double_to_float_odd(value));
}

uint16_t double_to_bfloat16(double value)
{
    return float_to_bfloat16(double_to_float_odd(value));
}
