/* Conversions of half precision that only tensor.c needs besides those in tensor.h. */
#ifndef TENSOR_HALF_H
#define TENSOR_HALF_H

#include <stdint.h>

float bfloat16_to_float(uint16_t bits);
uint16_t double_to_half(double value); /* rounded once, to nearest even */
uint16_t double_to_bfloat16(double value);

#endif
