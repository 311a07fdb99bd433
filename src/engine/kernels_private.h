/* What the kernel files share: instruction-set clones, eight-lane vectors, and how work is cut into pieces.
 *
 * A kernel is a driver that cuts the work into pieces of fixed size (never a function of the thread count, so that the
 * bits are not either) and a leaf function that computes one piece. Leaves are KERNEL_LEAF: GCC makes one clone an
 * instruction set and picks at load time. Drivers hold the OpenMP pragma, because clones do not reach into its bodies. */
#ifndef ENGINE_KERNELS_PRIVATE_H
#define ENGINE_KERNELS_PRIVATE_H

#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "engine/kernels.h"

/* Clones need GCC, x86-64 and glibc's indirect functions; sanitizers run too late for the resolvers. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(XAI_NO_CLONES)
#define KERNEL_LEAF \
    __attribute__((noinline, target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"))) static
#else
#define KERNEL_LEAF static
#endif
#define KERNEL_INLINE static inline __attribute__((always_inline))

/* Before a loop: run its iterations on `team` threads; promise that they are independent, or sums. */
#define KERNEL_PRAGMA(text) _Pragma(#text)
#ifdef _OPENMP
#define KERNEL_PARALLEL(team) KERNEL_PRAGMA(omp parallel for if (team > 1) num_threads(team) schedule(static))
#define KERNEL_SIMD KERNEL_PRAGMA(omp simd)
#define KERNEL_SIMD_SUM(...) KERNEL_PRAGMA(omp simd reduction(+ : __VA_ARGS__))
#define KERNEL_ATOMIC_WRITE KERNEL_PRAGMA(omp atomic write)
#else
#define KERNEL_ATOMIC_WRITE
#define KERNEL_PARALLEL(team) (void)(team);
#define KERNEL_SIMD
#define KERNEL_SIMD_SUM(...)
#endif

/* Eight channels of a blocked buffer. Macros, not functions: passing such vectors by value has no stable ABI without AVX. */
#define LANES 8
typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t lane_ints __attribute__((vector_size(32), aligned(4), may_alias));
#define LANES_AT(pointer) (*(lanes *)(pointer))
#define LANES_OF(pointer) (*(const lanes *)(pointer))
#define LANE_INTS_AT(pointer) (*(lane_ints *)(pointer))
/* mask ? a : b, lane by lane; a comparison of lanes gives such a mask. */
#define LANES_SELECT(mask, a, b) \
    ((lanes)(((lane_ints)(mask) & (lane_ints)(a)) | (~(lane_ints)(mask) & (lane_ints)(b))))
#define LANE_INTS_SELECT(mask, a, b) (((mask) & (a)) | (~(mask) & (b)))

/* Elements of one piece of a flat loop: 16 KiB a buffer stay in the first-level cache. */
#define KERNEL_PIECE ((size_t)4096)
/* Below this many elements of work a thread costs more than it brings. */
#define KERNEL_PARALLEL_MINIMUM ((size_t)16384)

/* Threads for `work` elements: one when there is little to do or inside an enclosing parallel region. */
static inline int kernel_threads(int threads, size_t work)
{
    if (threads <= 1 || work < KERNEL_PARALLEL_MINIMUM)
        return 1;
#ifdef _OPENMP
    if (omp_in_parallel())
        return 1;
#endif
    return threads;
}

static inline size_t kernel_minimum(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t kernel_pieces(size_t n, size_t piece)
{
    return n / piece + (n % piece != 0);
}

/* y = f(x) for one piece, in the calling thread; y may be x. */
void kernel_activate_piece(const activation *f, const float *x, float *y, size_t n);
/* gx = f'(.) gy likewise, `xy` as for kernel_activate_backward(); gx may be xy or gy. */
void kernel_activate_backward_piece(const activation *f, const float *xy, const float *gy,
                                    float *gx, size_t n);
/* y += bias[c]; block 1 = plain (C, spatial). `bias` covers the padded channels, with zeros. */
void kernel_add_bias(float *y, const float *bias, size_t channels, size_t spatial, int block,
                     int threads);
/* Zeros around `planes` maps of `in` positions (depth, height, width), `unit` floats each: dst[o] = src[o - begin]. A
 * negative begin, or an out smaller than in, crops. */
void kernel_pad(const float *src, float *dst, size_t planes, const int64_t in[3],
                const int64_t out[3], const int64_t begin[3], size_t unit, int threads);
/* Maps cut into phases: position i belongs to phase (i + pad) mod stride, at (i + pad) div stride - first of `count`. */
typedef struct interleave {
    int64_t size[3], stride[3], pad[3];
    int64_t first[3], count[3]; /* of every phase; unused when split */
    int64_t
        phase_channels; /* channels from one phase to the next in the blocked buffer of all phases */
    bool split;         /* each phase has a buffer of its own, of just the positions it reaches */
    size_t offset[8];   /* floats to it */
    double waste;       /* products computed per useful product */
} interleave;
/* First u = (i + pad) div stride of phase r in dimension d, and how many positions it reaches. */
static inline int64_t interleave_first(const interleave *g, int d, int64_t r)
{
    return g->split ? (g->pad[d] - r + g->stride[d] - 1) / g->stride[d] : g->first[d];
}
static inline int64_t interleave_count(const interleave *g, int d, int64_t r)
{
    const int64_t last = g->size[d] - 1 + g->pad[d] - r;
    if (!g->split)
        return g->count[d];
    return last < 0 ? 0 : last / g->stride[d] - interleave_first(g, d, r) + 1;
}
/* Put the phases together; out is plain (C, size) or blocked, then phase_channels is a multiple of the block. */
void kernel_interleave(const interleave *g, const float *phases, float *out, size_t channels,
                       bool plain, int block, int threads);
/* Zero the lanes of the last block beyond `channels`, positions [begin, end) of one block's rows. */
void kernel_zero_padding(float *block_rows, size_t valid, size_t begin, size_t end, int block);

#endif
