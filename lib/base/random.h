/* Random numbers by counter: every number is a function of (seed, stream, index) alone, so draws
 * may be made in any order, on any thread, and one of them without the others. The same numbers on
 * every machine: integer arithmetic, and for normals only + - * / and sqrt, without contraction.
 *
 * A `stream` is one use of randomness (the noise of sample 7, the order of round 3); an `index` a
 * draw within it. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Philox 4x32-10 (Salmon et al. 2011): 128 random bits for a counter and a key. */
void random_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* A stream of its own for every pair: purpose (which use) and number (which sample, row, round). */
uint64_t random_stream(uint32_t purpose, uint32_t number);

/* 64 random bits. */
uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t index);
/* Uniform in (0, 1), never 0 nor 1; 53 bits. */
double random_uniform(uint64_t seed, uint64_t stream, uint64_t index);
/* Uniform in [0, count), count >= 1; biased by less than count / 2^64. */
uint64_t random_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t count);
/* Standard normal: the inverse of the distribution function at random_uniform(). */
double random_normal(uint64_t seed, uint64_t stream, uint64_t index);
/* The normal draws of indices 0 to count - 1, times `scale`, added to `values`. */
void random_add_normal(uint64_t seed, uint64_t stream, double scale, size_t count, float *values);
/* 0 to count - 1 in random order; all orders equally likely. */
void random_permutation(uint64_t seed, uint64_t stream, size_t count, size_t *out);

/* x with P(standard normal < x) = p, 0 < p < 1; relative error below 1e-15 (Wichura 1988). */
double random_normal_quantile(double p);

#endif
