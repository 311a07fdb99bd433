/* EigenCAM and EigenGradCAM: the first principal component of a layer. */
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "explain/method.h"

/* EigenCAM (Muhammad & Yeasin 2020): X = (pixels, channels), the activations less the mean of each
 * channel; map = X v, with the first right singular vector v. EigenGradCAM: the same of g A.
 *
 * map = s u with the first left singular vector, which is the top eigenvector of X X^t; the smaller
 * of X X^t and X^t X is iterated. The sign of a singular vector is arbitrary: here the map
 * correlates positively with the sum over channels of what was decomposed. */

enum { BLOCK = 4, ROUNDS = 300 };

/* Orthonormal columns (Gram-Schmidt, twice); q is (BLOCK, n), a row a column. */
static void orthonormalise(double *q, size_t n)
{
    for (int i = 0; i < BLOCK; i++) {
        double *row = q + (size_t)i * n;
        for (int again = 0; again < 2; again++) {
            for (int j = 0; j < i; j++) {
                const double *other = q + (size_t)j * n;
                double dot = 0;
                for (size_t k = 0; k < n; k++)
                    dot += row[k] * other[k];
                for (size_t k = 0; k < n; k++)
                    row[k] -= dot * other[k];
            }
        }
        double norm = 0;
        for (size_t k = 0; k < n; k++)
            norm += row[k] * row[k];
        norm = sqrt(norm);
        for (size_t k = 0; k < n; k++)
            row[k] = norm > 0 ? row[k] / norm : 0;
    }
}

/* out = G q for the Gram matrix G (n, n). */
static void multiply(const double *gram, const double *q, size_t n, double *out)
{
    for (int b = 0; b < BLOCK; b++) {
        for (size_t i = 0; i < n; i++) {
            double sum = 0;
            for (size_t k = 0; k < n; k++)
                sum += gram[i * n + k] * q[(size_t)b * n + k];
            out[(size_t)b * n + i] = sum;
        }
    }
}

/* Rotate q so that its first row is the best eigenvector within its span (Rayleigh-Ritz, by Jacobi
 * rotations of the BLOCK x BLOCK matrix), with z = G q rotated along. */
static double rotate_to_ritz(double *q, double *z, size_t n)
{
    double h[BLOCK][BLOCK];
    for (int i = 0; i < BLOCK; i++)
        for (int j = 0; j < BLOCK; j++) {
            h[i][j] = 0;
            for (size_t k = 0; k < n; k++)
                h[i][j] += q[(size_t)i * n + k] * z[(size_t)j * n + k];
        }
    for (int sweep = 0; sweep < 30; sweep++) {
        for (int i = 0; i < BLOCK; i++) {
            for (int j = i + 1; j < BLOCK; j++) {
                const double angle = 0.5 * atan2(2 * h[i][j], h[i][i] - h[j][j]);
                const double c = cos(angle), s = sin(angle);
                for (int k = 0; k < BLOCK; k++) {
                    const double a = h[k][i], b = h[k][j];
                    h[k][i] = c * a + s * b;
                    h[k][j] = c * b - s * a;
                }
                for (int k = 0; k < BLOCK; k++) {
                    const double a = h[i][k], b = h[j][k];
                    h[i][k] = c * a + s * b;
                    h[j][k] = c * b - s * a;
                }
                for (size_t k = 0; k < n; k++) {
                    double *rows[2] = {q, z};
                    for (int r = 0; r < 2; r++) {
                        double *x = rows[r] + (size_t)i * n + k, *y = rows[r] + (size_t)j * n + k;
                        const double a = *x, b = *y;
                        *x = c * a + s * b;
                        *y = c * b - s * a;
                    }
                }
            }
        }
        double rest = 0, size = 0;
        for (int i = 0; i < BLOCK; i++)
            for (int j = 0; j < BLOCK; j++)
                *(i == j ? &size : &rest) += h[i][j] * h[i][j];
        if (rest <= 1e-28 * size)
            break;
    }
    int best = 0;
    for (int i = 1; i < BLOCK; i++)
        if (h[i][i] > h[best][best])
            best = i;
    for (size_t k = 0; best > 0 && k < n; k++) {
        double *rows[2] = {q, z};
        for (int r = 0; r < 2; r++) {
            const double kept = rows[r][k];
            rows[r][k] = rows[r][(size_t)best * n + k];
            rows[r][(size_t)best * n + k] = kept;
        }
    }
    return h[best][best];
}

/* Top eigenvector of a Gram matrix by block power iteration: into q[0 .. n). q, z: (BLOCK, n). */
static void top_eigenvector(const double *gram, size_t n, double *q, double *z)
{
    for (size_t k = 0; k < BLOCK * n; k++)
        q[k] = random_uniform(0, 0xE16E, k) - 0.5;
    orthonormalise(q, n);
    for (int round = 0; round < ROUNDS; round++) {
        multiply(gram, q, n, z);
        const double value = rotate_to_ritz(q, z, n);
        double residual = 0;
        for (size_t k = 0; k < n; k++) {
            const double r = z[k] - value * q[k];
            residual += r * r;
        }
        if (sqrt(residual) <= 1e-12 * value)
            return;
        memcpy(q, z, BLOCK * n * sizeof *q);
        orthonormalise(q, n);
    }
}

/* x: (channels, pixels), centred in place. */
static void centre(double *x, size_t channels, size_t pixels)
{
    for (size_t c = 0; c < channels; c++) {
        double mean = 0;
        for (size_t p = 0; p < pixels; p++)
            mean += x[c * pixels + p];
        mean /= (double)pixels;
        for (size_t p = 0; p < pixels; p++)
            x[c * pixels + p] -= mean;
    }
}

static void fill_gram(const double *x, size_t channels, size_t pixels, bool by_pixels, double *gram)
{
    const size_t n = by_pixels ? pixels : channels;
    memset(gram, 0, n * n * sizeof *gram);
    if (by_pixels) {
        for (size_t c = 0; c < channels; c++)
            for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < n; k++)
                    gram[i * n + k] += x[c * pixels + i] * x[c * pixels + k];
        return;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            for (size_t p = 0; p < pixels; p++)
                gram[i * n + k] += x[i * pixels + p] * x[k * pixels + p];
}

/* map = X v = X X^t u / |X^t u|, and its sign. */
static bool project(double *x, size_t channels, size_t pixels, double *map)
{
    const bool by_pixels = pixels <= channels;
    const size_t n = by_pixels ? pixels : channels, longer = by_pixels ? channels : pixels;
    double *sums = memory_allocate_zeroed(pixels, sizeof *sums);
    double *gram = memory_allocate(n * n, sizeof *gram);
    double *q = memory_allocate(2 * BLOCK * n, sizeof *q);
    double *right = memory_allocate_zeroed(channels + longer, sizeof *right);
    const bool done = sums != NULL && gram != NULL && q != NULL && right != NULL;
    for (size_t i = 0; done && i < channels * pixels; i++)
        sums[i % pixels] += x[i];
    if (done) {
        centre(x, channels, pixels);
        fill_gram(x, channels, pixels, by_pixels, gram);
        top_eigenvector(gram, n, q, q + BLOCK * n);
        double norm = 0;
        for (size_t c = 0; c < channels; c++) { /* v: the eigenvector, or X^t u normalised */
            right[c] = by_pixels ? 0 : q[c];
            for (size_t p = 0; by_pixels && p < pixels; p++)
                right[c] += x[c * pixels + p] * q[p];
            norm += right[c] * right[c];
        }
        double along = 0;
        for (size_t c = 0; c < channels; c++)
            for (size_t p = 0; norm > 0 && p < pixels; p++)
                map[p] += x[c * pixels + p] * right[c] / sqrt(norm);
        for (size_t p = 0; p < pixels; p++)
            along += map[p] * sums[p];
        for (size_t p = 0; along < 0 && p < pixels; p++)
            map[p] = -map[p];
    }
    memory_free(sums);
    memory_free(gram);
    memory_free(q);
    memory_free(right);
    return done;
}

static bool eigencam_map(const float *activation, const float *gradient, size_t channels,
                         size_t pixels, double *map)
{
    double *x = memory_allocate(channels * pixels, sizeof *x);
    (void)gradient;
    for (size_t i = 0; x != NULL && i < channels * pixels; i++)
        x[i] = activation[i];
    const bool done = x != NULL && project(x, channels, pixels, map);
    memory_free(x);
    return done;
}

static bool eigengradcam_map(const float *activation, const float *gradient, size_t channels,
                             size_t pixels, double *map)
{
    double *x = memory_allocate(channels * pixels, sizeof *x);
    for (size_t i = 0; x != NULL && i < channels * pixels; i++)
        x[i] = (double)activation[i] * gradient[i];
    const bool done = x != NULL && project(x, channels, pixels, map);
    memory_free(x);
    return done;
}

const method_definition method_eigencam = {
    .name = "eigencam",
    .description =
        "EigenCAM (Muhammad & Yeasin 2020): the first principal component of a layer; the "
        "same for every target",
    .explain = cam_explain,
    .cam = eigencam_map,
    .ignores_target = true,
    .options = cam_options,
};

const method_definition method_eigengradcam = {
    .name = "eigengradcam",
    .description = "EigenGradCAM: the first principal component of activations times gradients",
    .explain = cam_explain,
    .cam = eigengradcam_map,
    .options = cam_options,
};
