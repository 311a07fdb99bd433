/* Direct convolutions of windows on blocks of eight channels. */
#include "engine/kernels_window.h"

#include <math.h>

#include "base/memory.h"

#define WIDE ((size_t)8)
/* Weights that stay in the first-level cache beside what they meet, and what a chunk of positions reads and writes. */
#define PART_BYTES ((size_t)24 << 10)
#define CHUNK_BYTES ((size_t)160 << 10)
/* Positions up to which threads share the channels rather than the positions. */
#define FEW_POSITIONS ((size_t)400)
/* One tap: where the weights are many and used little, fetching them ahead pays. */
#define ONE_TAP_POSITIONS ((size_t)64)
#define ONE_TAP_WEIGHTS ((size_t)1 << 19)

static size_t input_blocks(const windowed *w)
{
    return kernel_pieces(w->input_channels, WIDE);
}

static size_t output_blocks(const windowed *w)
{
    return kernel_pieces(w->output_channels, WIDE);
}

static size_t taps_of(const windowed *w)
{
    return w->kernel[0] * w->kernel[1];
}

/* Group -> its first block; *blocks = how many it has. */
static size_t group_start(const windowed *w, size_t group, size_t *blocks)
{
    *blocks = group < w->threes ? 3 : 2;
    return group < w->threes ? 3 * group : 2 * group + w->threes;
}

/* Floats of the weights of one output block. */
static size_t block_weights(const windowed *w)
{
    return input_blocks(w) * taps_of(w) * WIDE * WIDE;
}

size_t windowed_weights_bytes(const windowed *self)
{
    return output_blocks(self) * block_weights(self) * sizeof(float);
}

static size_t padded_plane(const windowed *w)
{
    return w->padded[0] * w->padded[1] * WIDE;
}

/* The padded copy of x, then where each position's window starts. */
size_t windowed_scratch_bytes(const windowed *self)
{
    return (self->copied ? input_blocks(self) * padded_plane(self) * sizeof(float) : 0) +
           self->output[0] * self->output[1] * sizeof(uint32_t);
}

/* One group (input blocks, taps, 8 input channels, 8 times its blocks output channels), input block by input block, so
 * that what is written stays in the cache. */
static void prepare_group(const windowed *self, size_t group, const char *weights, bool gradient,
                          float *prepared)
{
    size_t blocks;
    const size_t taps = taps_of(self), first = group_start(self, group, &blocks) * WIDE,
                 width = blocks * WIDE, end = kernel_minimum(first + width, self->output_channels);
    float *to = prepared + first / WIDE * block_weights(self);
    for (size_t c0 = 0; c0 < self->input_channels; c0 += WIDE, to += taps * WIDE * width) {
        const size_t channels = kernel_minimum(WIDE, self->input_channels - c0);
        if (channels < WIDE || end < first + width)
            memset(to, 0, taps * WIDE * width * sizeof *to);
        for (size_t m = first; m < end; m++)
            for (size_t c = 0; c < channels; c++) {
                const size_t row = gradient ? (c0 + c) * self->output_channels + m
                                            : m * self->input_channels + c0 + c;
                const char *from = weights + row * taps * sizeof(float);
                float *lane = to + c * width + m - first;
                for (size_t t = 0; t < taps; t++)
                    memcpy(lane + (gradient ? taps - 1 - t : t) * WIDE * width,
                           from + t * sizeof(float), sizeof(float));
            }
    }
}

void windowed_prepare(const windowed *self, const char *weights, bool gradient, float *prepared)
{
    const int team = kernel_threads(self->threads, windowed_weights_bytes(self) / sizeof(float));
    KERNEL_PARALLEL(team)
    for (size_t g = 0; g < self->groups; g++)
        prepare_group(self, g, weights, gradient, prepared);
}

/* The inner loop is written in assembler, because GCC moves the sums between registers and memory. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__)
#define XAI_WINDOW 1
#endif

#ifdef XAI_WINDOW
#include <immintrin.h>

/* Whole, so that the sums stay in registers. */
#define KERNEL_UNROLL KERNEL_PRAGMA(GCC unroll 16)

#pragma GCC push_options
#pragma GCC target("avx2,fma")

/* Output positions of a tile, by the blocks of its group. */
#define MOST_OF(blocks) ((size_t)((blocks) == 3 ? 4 : 6))
#define LEAST_OF(blocks) ((size_t)((blocks) == 3 ? 3 : 4))
#define MOST ((size_t)6)

typedef struct tile {
    const float *at[MOST]; /* where the window of each position starts, in the first input block */
    const float *weights;
    const float *next; /* `step` floats of it are fetched a tap */
    size_t step;
    const float *bias;     /* NULL: none */
    const float *other[3]; /* NULL: none; one an output block, as y */
    float *y[3];
    bool first, last; /* of the parts that the input channels are cut into */
} tile;

/* One tap of one input block: eight input channels, k = 0 to 7. The positions' addresses are in r8 to r13, the sums of
 * position i in a_i, b_i (and c_i), the weights of an input channel in ymm12 to ymm14. */
#define PLACE(i, name) "movq 8*" #i "(%[at]), %%" name "\n\t"
#define PLACES3 PLACE(0, "r8") PLACE(1, "r9") PLACE(2, "r10")
#define PLACES4 PLACES3 PLACE(3, "r11")
#define PLACES5 PLACES4 PLACE(4, "r12")
#define PLACES6 PLACES5 PLACE(5, "r13")
#define TWO(k) "vmovups 64*" #k "(%[u]), %%ymm13\n\tvmovups 64*" #k "+32(%[u]), %%ymm14\n\t"
#define THREE(k)                                                                \
    "vmovups 96*" #k "(%[u]), %%ymm12\n\tvmovups 96*" #k "+32(%[u]), %%ymm13\n" \
    "\tvmovups 96*" #k "+64(%[u]), %%ymm14\n\t"
#define TIMES2(i, k, name)                                                                         \
    "vbroadcastss 4*" #k "(%%" name ",%[from],4), %%ymm15\n\tvfmadd231ps %%ymm13, %%ymm15, %[a" #i \
    "]\n\tvfmadd231ps %%ymm14, %%ymm15, %[b" #i "]\n\t"
#define TIMES3(i, k, name)                                                                         \
    "vbroadcastss 4*" #k "(%%" name ",%[from],4), %%ymm15\n\tvfmadd231ps %%ymm12, %%ymm15, %[a" #i \
    "]\n\tvfmadd231ps %%ymm13, %%ymm15, %[b" #i "]\n\tvfmadd231ps %%ymm14, %%ymm15, %[c" #i        \
    "]\n\t"
#define WIDE2_4(k) \
    TWO(k) TIMES2(0, k, "r8") TIMES2(1, k, "r9") TIMES2(2, k, "r10") TIMES2(3, k, "r11")
#define WIDE2_5(k) WIDE2_4(k) TIMES2(4, k, "r12")
#define WIDE2_6(k) WIDE2_5(k) TIMES2(5, k, "r13")
#define WIDE3_3(k) THREE(k) TIMES3(0, k, "r8") TIMES3(1, k, "r9") TIMES3(2, k, "r10")
#define WIDE3_4(k) WIDE3_3(k) TIMES3(3, k, "r11")
#define EIGHT(channel) \
    channel(0) channel(1) channel(2) channel(3) channel(4) channel(5) channel(6) channel(7)
#define SUMS2(i) [a##i] "+x"(sums[i][0]), [b##i] "+x"(sums[i][1])
#define SUMS3(i) SUMS2(i), [c##i] "+x"(sums[i][2])
#define MULTIPLY(places, channel, ...)                                                             \
    __asm__ volatile(places EIGHT(channel)                                                         \
                     : __VA_ARGS__                                                                 \
                     : [u] "r"(weights), [from] "r"(from), [at] "r"(self->at)                      \
                     : "r8", "r9", "r10", "r11", "r12", "r13", "xmm12", "xmm13", "xmm14", "xmm15", \
                       "memory")

static bool is_bounded(const activation *f)
{
    return f->kind == ACTIVATION_RELU || f->kind == ACTIVATION_CLIP;
}

/* `count` positions by `blocks` output blocks (constants where it is inlined) over `inputs` input blocks. */
KERNEL_INLINE void product(const windowed *w, const size_t blocks, const size_t count,
                           const tile *self, size_t inputs, const size_t *tap_at)
{
    __m256 sums[MOST][3];
    const float *weights = self->weights, *next = self->next;
    const size_t taps = taps_of(w), plane = padded_plane(w);
    KERNEL_UNROLL
    for (size_t i = 0; i < count; i++)
        KERNEL_UNROLL
    for (size_t b = 0; b < blocks; b++)
        sums[i][b] = self->first ? _mm256_setzero_ps() : _mm256_loadu_ps(self->y[b] + i * WIDE);
    for (size_t c = 0; c < inputs; c++)
        for (size_t t = 0; t < taps; t++) {
            const size_t from = c * plane + tap_at[t];
            for (size_t line = 0; line < self->step; line += 16)
                _mm_prefetch((const char *)(next + line), _MM_HINT_T0);
            next += self->step;
            if (blocks == 3 && count == 4)
                MULTIPLY(PLACES4, WIDE3_4, SUMS3(0), SUMS3(1), SUMS3(2), SUMS3(3));
            else if (blocks == 3)
                MULTIPLY(PLACES3, WIDE3_3, SUMS3(0), SUMS3(1), SUMS3(2));
            else if (count == 6)
                MULTIPLY(PLACES6, WIDE2_6, SUMS2(0), SUMS2(1), SUMS2(2), SUMS2(3), SUMS2(4),
                         SUMS2(5));
            else if (count == 5)
                MULTIPLY(PLACES5, WIDE2_5, SUMS2(0), SUMS2(1), SUMS2(2), SUMS2(3), SUMS2(4));
            else
                MULTIPLY(PLACES4, WIDE2_4, SUMS2(0), SUMS2(1), SUMS2(2), SUMS2(3));
            weights += WIDE * WIDE * blocks;
        }
    if (self->last) {
        const bool bounded = is_bounded(&w->post), clip = w->post.kind == ACTIVATION_CLIP;
        const __m256 low = _mm256_set1_ps(clip ? w->post.alpha : 0),
                     high = _mm256_set1_ps(clip ? w->post.beta : INFINITY);
        KERNEL_UNROLL
        for (size_t b = 0; b < blocks; b++)
            KERNEL_UNROLL
        for (size_t i = 0; i < count; i++) {
            if (self->bias != NULL)
                sums[i][b] = _mm256_add_ps(sums[i][b], _mm256_loadu_ps(self->bias + b * WIDE));
            if (self->other[0] != NULL)
                sums[i][b] = _mm256_add_ps(sums[i][b], _mm256_loadu_ps(self->other[b] + i * WIDE));
            if (bounded) /* in this order NaN becomes `low`, as in oneDNN */
                sums[i][b] = _mm256_min_ps(_mm256_max_ps(sums[i][b], low), high);
        }
    }
    KERNEL_UNROLL
    for (size_t i = 0; i < count; i++)
        KERNEL_UNROLL
    for (size_t b = 0; b < blocks; b++)
        _mm256_storeu_ps(self->y[b] + i * WIDE, sums[i][b]);
}

static void product_of(const windowed *w, size_t blocks, size_t count, const tile *self,
                       size_t inputs, const size_t *tap_at)
{
    if (blocks == 3 && count == 4)
        product(w, 3, 4, self, inputs, tap_at);
    else if (blocks == 3)
        product(w, 3, 3, self, inputs, tap_at);
    else if (count == 6)
        product(w, 2, 6, self, inputs, tap_at);
    else if (count == 5)
        product(w, 2, 5, self, inputs, tap_at);
    else
        product(w, 2, 4, self, inputs, tap_at);
}
#pragma GCC pop_options

/* Fewer positions than a tile has at least: the missing ones repeat the first and go to waste. */
static void short_product(const windowed *w, size_t blocks, size_t count, const tile *self,
                          size_t inputs, const size_t *tap_at)
{
    float y[3][4 * WIDE] = {{0}}, other[3][4 * WIDE] = {{0}};
    tile own = *self;
    for (size_t i = count; i < 4; i++)
        own.at[i] = own.at[0];
    for (size_t b = 0; b < blocks; b++) {
        memcpy(y[b], self->y[b], count * WIDE * sizeof(float));
        own.y[b] = y[b];
        if (self->other[0] != NULL) {
            memcpy(other[b], self->other[b], count * WIDE * sizeof(float));
            own.other[b] = other[b];
        }
    }
    product_of(w, blocks, 4, &own, inputs, tap_at);
    for (size_t b = 0; b < blocks; b++)
        memcpy(self->y[b], y[b], count * WIDE * sizeof(float));
}

/* One group over positions [begin, end); `places` = where their windows start in the first input block at x. */
static void group_run(const windowed *w, size_t group, size_t begin, size_t end, const float *x,
                      const float *prepared, const float *bias, const float *other, float *y,
                      const uint32_t *places, const size_t *tap_at)
{
    size_t blocks;
    const size_t first = group_start(w, group, &blocks), inputs = input_blocks(w),
                 plane = w->output[0] * w->output[1] * WIDE, input = padded_plane(w),
                 taps = taps_of(w), whole = block_weights(w) * blocks;
    const float *weights = prepared + first * block_weights(w);
    const size_t tiles = kernel_pieces(end - begin, MOST_OF(blocks)), even = (end - begin) / tiles,
                 longer = (end - begin) % tiles;
    const size_t part = tiles < 3 ? inputs : w->part;
    for (size_t from = 0; from < inputs; from += part) {
        const size_t count = kernel_minimum(part, inputs - from),
                     floats = count * taps * WIDE * WIDE * blocks;
        /* What is fetched: the weights that follow, which end with those of the last group. */
        const size_t done = (size_t)(weights - prepared) + (from + count) * (whole / inputs),
                     left = output_blocks(w) * block_weights(w) - done,
                     fetched = kernel_minimum(floats, left), rounds = count * taps,
                     step = kernel_pieces(kernel_pieces(floats, 16), rounds * tiles) * 16;
        tile each = {.weights = weights + from * (whole / inputs),
                     .bias = bias == NULL ? NULL : bias + first * WIDE,
                     .first = from == 0,
                     .last = from + count == inputs};
        size_t at = begin;
        for (size_t t = 0; t < tiles; t++) {
            const size_t positions = even + (t < longer), behind = t * step * rounds;
            for (size_t i = 0; i < positions; i++)
                each.at[i] = x + from * input + places[at + i];
            each.step = behind + step * rounds <= fetched ? step : 0;
            each.next = prepared + done + (each.step != 0 ? behind : 0);
            for (size_t b = 0; b < blocks; b++) {
                each.y[b] = y + (first + b) * plane + at * WIDE;
                each.other[b] = other == NULL ? NULL : other + (first + b) * plane + at * WIDE;
            }
            if (positions >= LEAST_OF(blocks))
                product_of(w, blocks, positions, &each, count, tap_at);
            else
                short_product(w, blocks, positions, &each, count, tap_at);
            at += positions;
        }
    }
    if (w->post.kind != ACTIVATION_NONE && !is_bounded(&w->post))
        for (size_t b = 0; b < blocks; b++) {
            float *made = y + (first + b) * plane + begin * WIDE;
            kernel_activate_piece(&w->post, made, made, (end - begin) * WIDE);
        }
}

static bool supported(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#else
static bool supported(void)
{
    return false;
}

/* Nothing is planned, so it is never reached. */
static void group_run(const windowed *w, size_t group, size_t begin, size_t end, const float *x,
                      const float *prepared, const float *bias, const float *other, float *y,
                      const uint32_t *places, const size_t *tap_at)
{
    (void)w, (void)group, (void)begin, (void)end, (void)x, (void)prepared, (void)bias;
    (void)other, (void)y, (void)places, (void)tap_at;
}
#endif

/* Taps of a window: more are left to oneDNN. */
#define TAPS_MOST ((size_t)64)

/* Sizes whose products fit. */
#define EXTENT_MOST ((size_t)1 << 15)
#define CHANNELS_MOST ((size_t)1 << 20)

static bool sizes_are_sane(const windowed *w)
{
    for (int i = 0; i < 2; i++)
        if (w->input[i] < 1 || w->input[i] > EXTENT_MOST || w->output[i] < 1 ||
            w->output[i] > EXTENT_MOST || w->kernel[i] < 1 || w->kernel[i] > TAPS_MOST ||
            w->stride[i] < 1 || w->stride[i] > EXTENT_MOST || w->dilation[i] < 1 ||
            w->dilation[i] > EXTENT_MOST || w->pad[i] < -(int64_t)EXTENT_MOST ||
            w->pad[i] > (int64_t)EXTENT_MOST)
            return false;
    return taps_of(w) <= TAPS_MOST && w->input_channels >= WIDE &&
           w->input_channels <= CHANNELS_MOST && w->output_channels > WIDE &&
           w->output_channels <= CHANNELS_MOST && w->threads >= 1;
}

bool windowed_plan(windowed *self)
{
    if (!supported() || !sizes_are_sane(self))
        return false;
    const size_t blocks = output_blocks(self), taps = taps_of(self),
                 positions = self->output[0] * self->output[1];
    if (taps == 1 &&
        (positions > ONE_TAP_POSITIONS || windowed_weights_bytes(self) < ONE_TAP_WEIGHTS))
        return false;
    self->copied = false;
    for (int i = 0; i < 2; i++) {
        self->padded[i] =
            (self->output[i] - 1) * self->stride[i] + (self->kernel[i] - 1) * self->dilation[i] + 1;
        self->copied = self->copied || self->pad[i] != 0 || self->padded[i] > self->input[i];
    }
    if (!self->copied)
        memcpy(self->padded, self->input, sizeof self->padded);
    size_t bytes = sizeof(float);
    if (self->padded[0] > UINT32_MAX / WIDE / self->padded[1] ||
        !size_multiply(bytes, padded_plane(self), &bytes) ||
        !size_multiply(bytes, input_blocks(self), &bytes) ||
        !size_multiply(bytes, 2 * self->batch, &bytes))
        return false;
    self->threes = blocks % 3 == 1 ? blocks / 3 - 1 : blocks / 3;
    self->groups = self->threes + (blocks - 3 * self->threes) / 2;
    const size_t a_block = taps * WIDE * WIDE * 3 * sizeof(float);
    self->part = PART_BYTES < a_block ? 1 : PART_BYTES / a_block;
    const size_t threads = (size_t)self->threads,
                 read = kernel_minimum(self->part, input_blocks(self)) * padded_plane(self),
                 written = positions * WIDE * 3;
    self->shares = self->chunks = 1;
    if (positions < FEW_POSITIONS && self->groups >= 4 * threads)
        self->shares = threads;
    else
        self->chunks = kernel_minimum(
            kernel_pieces(kernel_pieces((read + written) * sizeof(float), CHUNK_BYTES), threads) *
                threads,
            positions);
    return true;
}

void windowed_run(const windowed *self, const float *x, const float *prepared, const float *bias,
                  const float *other, float *y, void *scratch)
{
    const size_t inputs = input_blocks(self), row = self->padded[1] * WIDE,
                 positions = self->output[0] * self->output[1],
                 x_count = inputs * self->input[0] * self->input[1] * WIDE,
                 y_count = output_blocks(self) * positions * WIDE;
    float *copy = scratch;
    uint32_t *places = (uint32_t *)(copy + (self->copied ? inputs * padded_plane(self) : 0));
    size_t tap_at[TAPS_MOST], p = 0;
    for (size_t t = 0; t < taps_of(self); t++)
        tap_at[t] = t / self->kernel[1] * self->dilation[0] * row +
                    t % self->kernel[1] * self->dilation[1] * WIDE;
    for (size_t i = 0; i < self->output[0]; i++)
        for (size_t k = 0; k < self->output[1]; k++)
            places[p++] = (uint32_t)(i * self->stride[0] * row + k * self->stride[1] * WIDE);
    const int team = kernel_threads(self->threads, KERNEL_PARALLEL_MINIMUM);
    for (size_t b = 0; b < self->batch; b++) {
        const float *read = x + b * x_count;
        if (self->copied) {
            const int64_t in[3] = {1, (int64_t)self->input[0], (int64_t)self->input[1]},
                          out[3] = {1, (int64_t)self->padded[0], (int64_t)self->padded[1]},
                          begin[3] = {0, self->pad[0], self->pad[1]};
            kernel_pad(read, copy, inputs, in, out, begin, WIDE, self->threads);
            read = copy;
        }
        KERNEL_PARALLEL(team)
        for (size_t i = 0; i < self->chunks * self->shares; i++) {
            const size_t chunk = i / self->shares, share = i % self->shares,
                         from = positions * chunk / self->chunks,
                         to = positions * (chunk + 1) / self->chunks;
            for (size_t g = self->groups * share / self->shares;
                 g < self->groups * (share + 1) / self->shares; g++)
                group_run(self, g, from, to, read, prepared, bias,
                          other == NULL ? NULL : other + b * y_count, y + b * y_count, places,
                          tap_at);
        }
    }
}
