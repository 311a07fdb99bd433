/* The inner product of this folder: what convolutions and matrix products reduce to. Private to
 * this folder. */
#ifndef OPS_MATRIX_H
#define OPS_MATRIX_H

#include <stddef.h>

/* A matrix of doubles inside an array: element (i, j) is at i * row + j * column. */
typedef struct matrix {
    const double *values;
    size_t row, column;
} matrix;

/* c (m, n) += a (m, k) . b (k, n); rows of b and c are contiguous and `b_row`, `c_row` apart. c
 * overlaps neither. Each element is summed in the order of k, whatever the other sizes. */
void matrix_multiply_add(size_t m, size_t n, size_t k, matrix a, const double *b, size_t b_row,
                         double *c, size_t c_row);

#endif
