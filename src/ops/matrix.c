#include "ops/matrix.h"

#define TILE \
    256         /* columns at a time: 4 rows of b and 2 of c fill 12 KiB of the first-level cache */
#define DEPTH 4 /* rows of b at a time */

/* Two rows of c from four rows of b. */
static void update_pair(size_t n, double w[2][DEPTH], const double *const b[DEPTH],
                        double *restrict c0, double *restrict c1)
{
    const double *restrict b0 = b[0], *restrict b1 = b[1], *restrict b2 = b[2], *restrict b3 = b[3];
    for (size_t j = 0; j < n; j++) {
        c0[j] = c0[j] + w[0][0] * b0[j] + w[0][1] * b1[j] + w[0][2] * b2[j] + w[0][3] * b3[j];
        c1[j] = c1[j] + w[1][0] * b0[j] + w[1][1] * b1[j] + w[1][2] * b2[j] + w[1][3] * b3[j];
    }
}

static void update_one(size_t n, double w, const double *restrict b, double *restrict c)
{
    for (size_t j = 0; j < n; j++)
        c[j] += w * b[j];
}

static double element(matrix a, size_t i, size_t j)
{
    return a.values[i * a.row + j * a.column];
}

void matrix_multiply_add(size_t m, size_t n, size_t k, matrix a, const double *b, size_t b_row,
                         double *c, size_t c_row)
{
    for (size_t j = 0; j < n; j += TILE) {
        const size_t width = n - j < TILE ? n - j : TILE;
        size_t p = 0;
        for (; p + DEPTH <= k; p += DEPTH) {
            const double *rows[DEPTH];
            for (size_t d = 0; d < DEPTH; d++)
                rows[d] = b + (p + d) * b_row + j;
            size_t i = 0;
            for (; i + 2 <= m; i += 2) {
                double w[2][DEPTH];
                for (size_t d = 0; d < DEPTH; d++) {
                    w[0][d] = element(a, i, p + d);
                    w[1][d] = element(a, i + 1, p + d);
                }
                update_pair(width, w, rows, c + i * c_row + j, c + (i + 1) * c_row + j);
            }
            for (; i < m; i++)
                for (size_t d = 0; d < DEPTH; d++)
                    update_one(width, element(a, i, p + d), rows[d], c + i * c_row + j);
        }
        for (; p < k; p++)
            for (size_t i = 0; i < m; i++)
                update_one(width, element(a, i, p), b + p * b_row + j, c + i * c_row + j);
    }
}
