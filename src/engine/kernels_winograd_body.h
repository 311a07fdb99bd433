/* The pieces of kernels_winograd.c for one vector length: WIDE floats, functions named by NAMED(), vectors of type VECTOR with
 * FUSED(a, b, c) = a b + c and SPREAD(pointer) = the float there in all lanes. Included once an instruction set. */

/* B^T d of six vectors `step` apart, written `step` apart. */
KERNEL_INLINE void NAMED(enter)(const VECTOR *d, VECTOR *v, size_t step)
{
    const VECTOR a = NAMED(all)(POINT_A), b = NAMED(all)(POINT_B), a2 = NAMED(all)(-A2),
                 b2 = NAMED(all)(-B2), product = NAMED(all)(A2 * B2), sum = NAMED(all)(-(A2 + B2));
    const VECTOR d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step],
                 d5 = d[5 * step];
    const VECTOR even_a = FUSED(b2, d2, d4), odd_a = a * FUSED(b2, d1, d3);
    const VECTOR even_b = FUSED(a2, d2, d4), odd_b = b * FUSED(a2, d1, d3);
    v[0] = FUSED(product, d0, FUSED(sum, d2, d4));
    v[step] = even_a + odd_a;
    v[2 * step] = even_a - odd_a;
    v[3 * step] = even_b + odd_b;
    v[4 * step] = even_b - odd_b;
    v[5 * step] = FUSED(product, d1, FUSED(sum, d3, d5));
}

/* A^T m: six vectors `step` apart give four, `step_out` apart. */
KERNEL_INLINE void NAMED(leave)(const VECTOR *m, size_t step, VECTOR *y, size_t step_out)
{
    const VECTOR sum_a = m[step] + m[2 * step], difference_a = m[step] - m[2 * step];
    const VECTOR sum_b = m[3 * step] + m[4 * step], difference_b = m[3 * step] - m[4 * step];
    y[0] = m[0] + sum_a + sum_b;
    y[step_out] = FUSED(NAMED(all)(POINT_A), difference_a, NAMED(all)(POINT_B) * difference_b);
    y[2 * step_out] = FUSED(NAMED(all)(A2), sum_a, NAMED(all)(B2) * sum_b);
    y[3 * step_out] = FUSED(NAMED(all)(A2 * POINT_A), difference_a,
                            FUSED(NAMED(all)(B2 * POINT_B), difference_b, m[5 * step]));
}

/* Tiles [begin, begin + count) of one block of input channels: v (36, .., count, WIDE), `stride` floats from one of the 36 to
 * the next. */
static void NAMED(transform)(const winograd *w, const float *x, size_t begin, size_t count,
                             float *v, size_t stride)
{
    const size_t across = kernel_pieces(w->output[1], TILE);
    for (size_t t = 0; t < count; t++) {
        VECTOR d[36], half[36];
        const size_t top = (begin + t) / across * TILE, left = (begin + t) % across * TILE;
        for (size_t i = 0; i < 6; i++) {
            const size_t row = top + i - w->pad[0]; /* wraps above the first row */
            for (size_t j = 0; j < 6; j++) {
                const size_t column = left + j - w->pad[1];
                const bool inside = row < w->input[0] && column < w->input[1];
                d[i * 6 + j] =
                    inside ? NAMED(load)(x + (row * w->input[1] + column) * WIDE) : NAMED(all)(0);
            }
        }
        for (size_t j = 0; j < 6; j++)
            NAMED(enter)(d + j, half + j, 6);
        for (size_t i = 0; i < 6; i++)
            NAMED(enter)(half + i * 6, d + i * 6, 1);
        for (size_t p = 0; p < 36; p++)
            NAMED(store)(v + p * stride + t * WIDE, d[p]);
    }
}

/* `tiles` (a constant where it is inlined) tiles times two blocks of output channels over all input channels:
 * v (channel blocks, count, WIDE) from the first tile on, u (channels, 2, WIDE), m (tiles, 2, WIDE). */
KERNEL_INLINE void NAMED(product)(size_t tiles, const float *v, size_t count, const float *u,
                                  size_t blocks, float *m)
{
    VECTOR sums[TILES_AT_ONCE][2];
    for (size_t t = 0; t < tiles; t++)
        sums[t][0] = sums[t][1] = NAMED(all)(0);
    for (size_t c = 0; c < blocks; c++, v += count * WIDE)
        for (size_t k = 0; k < WIDE; k++, u += 2 * WIDE) {
            const VECTOR u0 = NAMED(load)(u), u1 = NAMED(load)(u + WIDE);
            KERNEL_UNROLL
            for (size_t t = 0; t < tiles; t++) {
                const VECTOR one = SPREAD(v + t * WIDE + k);
                sums[t][0] = FUSED(one, u0, sums[t][0]);
                sums[t][1] = FUSED(one, u1, sums[t][1]);
            }
        }
    for (size_t t = 0; t < tiles; t++) {
        NAMED(store)(m + t * 2 * WIDE, sums[t][0]);
        NAMED(store)(m + t * 2 * WIDE + WIDE, sums[t][1]);
    }
}

#define PRODUCT_CASE(n)                            \
    case n:                                        \
        NAMED(product)(n, v, count, u, blocks, m); \
        break;
static void NAMED(product_of)(size_t tiles, const float *v, size_t count, const float *u,
                              size_t blocks, float *m)
{
    switch (tiles) {
        PRODUCT_CASE(1)
        PRODUCT_CASE(2)
        PRODUCT_CASE(3)
        PRODUCT_CASE(4)
        PRODUCT_CASE(5)
#if TILES_AT_ONCE > 6
        PRODUCT_CASE(6)
        PRODUCT_CASE(7)
        PRODUCT_CASE(8)
        PRODUCT_CASE(9)
        PRODUCT_CASE(10)
        PRODUCT_CASE(11)
        PRODUCT_CASE(12)
        PRODUCT_CASE(13)
#endif
        PRODUCT_CASE(TILES_AT_ONCE)
    default:
        break;
    }
}
#undef PRODUCT_CASE

/* Output of `count` tiles of one block of output channels; m (36, count, 2, WIDE) from that block on. */
static void NAMED(restore)(const winograd *w, const float *m, size_t begin, size_t count,
                           const float *bias, const float *other, float *y)
{
    const size_t across = kernel_pieces(w->output[1], TILE);
    const VECTOR shift = bias == NULL ? NAMED(all)(0) : NAMED(load)(bias);
    const bool bounded = w->post.kind != ACTIVATION_NONE;
    const VECTOR low = NAMED(all)(w->post.kind == ACTIVATION_CLIP ? w->post.alpha : 0),
                 high = NAMED(all)(w->post.kind == ACTIVATION_CLIP ? w->post.beta : INFINITY);
    for (size_t t = 0; t < count; t++) {
        VECTOR all[36], half[24], out[16];
        const size_t top = (begin + t) / across * TILE, left = (begin + t) % across * TILE;
        const size_t rows = kernel_minimum(w->output[0] - top, TILE),
                     columns = kernel_minimum(w->output[1] - left, TILE);
        for (size_t p = 0; p < 36; p++)
            all[p] = NAMED(load)(m + (p * count + t) * 2 * WIDE);
        for (size_t j = 0; j < 6; j++)
            NAMED(leave)(all + j, 6, half + j, 6);
        for (size_t i = 0; i < 4; i++)
            NAMED(leave)(half + i * 6, 1, out + i * 4, 1);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < columns; j++) {
                const size_t at = ((top + i) * w->output[1] + left + j) * WIDE;
                VECTOR value = out[i * 4 + j] + shift;
                if (other != NULL)
                    value += NAMED(load)(other + at);
                if (bounded)
                    value = NAMED(between)(value, low, high);
                NAMED(store)(y + at, value);
            }
    }
}

/* Two blocks of output channels, from block `pair` * 2 on, of tiles [begin, begin + count). */
static void NAMED(finish)(const winograd *w, size_t pair, size_t begin, size_t count,
                          const float *v, const float *prepared, const float *bias,
                          const float *other, float *y, float *m)
{
    const size_t blocks = kernel_pieces(w->input_channels, WIDE),
                 outputs = kernel_pieces(w->output_channels, WIDE);
    const float *u = prepared + pair * 36 * blocks * WIDE * 2 * WIDE;
    const size_t parts = kernel_pieces(count, TILES_AT_ONCE);
    for (size_t p = 0; p < 36; p++)
        for (size_t part = 0; part < parts; part++) { /* of nearly equal size */
            const size_t from = count * part / parts, to = count * (part + 1) / parts;
            NAMED(product_of)
            (to - from, v + (p * blocks * count + from) * WIDE, count,
             u + p * blocks * WIDE * 2 * WIDE, blocks, m + (p * count + from) * 2 * WIDE);
        }
    const size_t plane = w->output[0] * w->output[1] * WIDE;
    for (size_t b = 0; b < 2 && pair * 2 + b < outputs; b++) {
        const size_t block = pair * 2 + b;
        NAMED(restore)
        (w, m + b * WIDE, begin, count, bias == NULL ? NULL : bias + block * WIDE,
         other == NULL ? NULL : other + block * plane, y + block * plane);
    }
}
