/* What this processor can do at best: fused multiply-adds in registers, and reading memory. `bench/run roofline`.
 *
 * The compiler is told to use the machine's own instructions (-march=native): a bound, not a library. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef __AVX512F__
#define WIDTH 16
#else
#define WIDTH 8
#endif
typedef float vector __attribute__((vector_size(4 * WIDTH)));

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Twelve independent chains hide the latency. */
static float multiply_add(long rounds, float seed)
{
    vector sums[12], factor, summand;
    for (int i = 0; i < WIDTH; i++) {
        factor[i] = 0.999f;
        summand[i] = seed;
    }
    for (int k = 0; k < 12; k++)
        sums[k] = summand * (float)k;
    for (long r = 0; r < rounds; r++)
        for (int k = 0; k < 12; k++)
            sums[k] = sums[k] * factor + summand;
    float total = 0;
    for (int k = 0; k < 12; k++)
        for (int i = 0; i < WIDTH; i++)
            total += sums[k][i];
    return total;
}

static double peak(int threads)
{
    const long rounds = 20000000;
    double best = 0;
    for (int turn = 0; turn < 3; turn++) {
        float sink = 0;
        const double begin = seconds();
#pragma omp parallel num_threads(threads) reduction(+ : sink)
        sink += multiply_add(rounds, 1e-3f * (float)(omp_get_thread_num() + 1));
        const double rate = 2.0 * 12 * WIDTH * (double)rounds * threads / (seconds() - begin) / 1e9;
        if (sink != 0 && rate > best)
            best = rate;
    }
    return best;
}

static double bandwidth(int threads)
{
    const size_t count = (size_t)1 << 26; /* 256 MiB: beyond every cache */
    float *data = malloc(count * sizeof *data);
    double best = 0;
    if (!data)
        return 0;
#pragma omp parallel for num_threads(threads)
    for (size_t i = 0; i < count; i++)
        data[i] = 1;
    for (int turn = 0; turn < 5; turn++) {
        float sum = 0;
        const double begin = seconds();
#pragma omp parallel for simd num_threads(threads) reduction(+ : sum)
        for (size_t i = 0; i < count; i++)
            sum += data[i];
        const double rate = (double)(count * sizeof *data) / (seconds() - begin) / 1e9;
        if (sum != 0 && rate > best)
            best = rate;
    }
    free(data);
    return best;
}

int main(void)
{
    const int all = omp_get_num_procs();
    printf("| threads | multiply-add, GFLOP/s | memory read, GB/s |\n| --- | --- | --- |\n");
    for (int threads = 1; threads <= all; threads *= 2)
        printf("| %d | %.0f | %.1f |\n", threads, peak(threads), bandwidth(threads));
    return 0;
}
