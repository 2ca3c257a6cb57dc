/* Kernels for AVX2 with FMA, F16C and POPCNT.
 *
 * The dot product is vpmaddubsw (bytes x times bytes w, unsigned by signed, neighbours added to 16 bits
 * with saturation), some of them added in 16 bits, then vpmaddwd by ones (neighbours added to 32 bits).
 *
 * Why nothing saturates or wraps. Elements in memory are 0 to top = zero + 2^m - 1: q is 0 to 2^m - 1
 * where zero is 0, and -(2^m - 1) to 2^m - 1 where zero is 128. A 16-bit lane sums x * w over two channels
 * of each of `steps` steps. As no x is negative, that sum and all sums on the way to it lie between
 * top * (sum of the negative w) and top * (sum of the positive w). `prepare` looks at every such group of
 * weights of a tile once and chooses the largest `steps` for which neither is beyond 32767, so the choice
 * is made from the weights alone and holds for any elements:
 *
 *   m = 7, zero 0    top 127: 2 * 127 * 127 = 32258, so one step fits whatever the weights are
 *   m = 5, zero 128  top 159: 2 * 159 * 31 = 9858, three steps fit; zero 0: 2 * 31 * 31 = 1922, seventeen
 *   m = 3 and 2      top 135 and 131: seventeen steps and more
 *   m = 7, zero 128  top 255: 2 * 255 * 127 = 64770, and large weights side by side do not fit
 *
 * In the last case `steps` is 0 and signs are moved: q * w = |q| * (w with the sign of q), where both are
 * at most 127 and the first bound holds. q and w are never -128, which has no opposite.
 */

#include "ymm.inc"

enum { PIXELS = 4, MOST_STEPS = 2 };

/* Adds the positive weights of each pair of neighbours in a vector to one sum, minus the negative ones to
 * the other; 16 bits hold those of 128 channels. */
INLINE void add_pairs(const int8_t *weights, __m256i *positive, __m256i *negative)
{
    const __m256i ones = _mm256_set1_epi8(1), none = _mm256_setzero_si256();
    __m256i w = _mm256_load_si256((const __m256i *)weights), minus = _mm256_sub_epi8(none, w);
    *positive = _mm256_add_epi16(*positive, _mm256_maddubs_epi16(ones, _mm256_max_epi8(w, none)));
    *negative =
        _mm256_add_epi16(*negative, _mm256_maddubs_epi16(ones, _mm256_max_epi8(minus, none)));
}

/* The largest sum of weights of one sign in any group of so many steps of BFP_LANES rows. */
static int largest_sum(const int8_t *weights, long step, int channels, int steps)
{
    __m256i most = _mm256_setzero_si256();
    for (int c = 0; c < channels; c += 4 * steps)
        for (int v = 0; v < 2; v++) {
            const int8_t *at = weights + c / 4 * step + 32 * v;
            __m256i positive = _mm256_setzero_si256(), negative = positive;
            for (int i = 0; i < steps; i++)
                add_pairs(at + i * step, &positive, &negative);
            most = _mm256_max_epu16(most, _mm256_max_epu16(positive, negative));
        }
    return (int)largest_of(most);
}

static void prepare(struct bfp_tile *tile, int mantissa, uint8_t zero)
{
    int top = zero + (1 << mantissa) - 1;
    for (int row = 0; row < tile->rows; row += BFP_LANES) {
        const int8_t *weights = tile->weights + 4 * row;
        int steps = MOST_STEPS;
        while (steps > 0 &&
               largest_sum(weights, 4L * tile->rows, tile->channels, steps) * top > INT16_MAX)
            steps--;
        tile->plan[row / BFP_LANES] = (uint8_t)steps;
    }
}

INLINE void multiply_pixels(const int steps, const int pixels, const uint8_t *const *x_of,
                            const float *const *x_scale, const struct slice *at)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i dot[PIXELS][2];
    const uint8_t *x[PIXELS];
    const int8_t *weights = at->weights;
    UNROLL for (int p = 0; p < pixels; p++) {
        x[p] = x_of[p] + at->offset;
        UNROLL for (int v = 0; v < 2; v++)
            dot[p][v] = _mm256_loadu_si256((const __m256i *)(at->start + 8 * v));
    }
    for (long c = 0; c < at->channels; c += 4 * steps, weights += steps * at->step)
        UNROLL for (int v = 0; v < 2; v++) {
            __m256i w[MOST_STEPS];
            UNROLL for (int i = 0; i < steps; i++)
                w[i] = _mm256_load_si256((const __m256i *)(weights + i * at->step + 32 * v));
            UNROLL for (int p = 0; p < pixels; p++) {
                __m256i sums = _mm256_maddubs_epi16(broadcast_4(x[p] + c), w[0]);
                UNROLL for (int i = 1; i < steps; i++)
                    sums = _mm256_add_epi16(
                        sums, _mm256_maddubs_epi16(broadcast_4(x[p] + c + 4 * i), w[i]));
                dot[p][v] = _mm256_add_epi32(dot[p][v], _mm256_madd_epi16(sums, ones));
            }
        }
    keep_sums(pixels, dot, x_scale, at);
}

/* For steps = 0, where elements are q + 128. `start` makes up for that 128 and has no part here. */
INLINE void multiply_signed(const int pixels, const uint8_t *const *x_of,
                            const float *const *x_scale, const struct slice *at)
{
    const __m256i ones = _mm256_set1_epi16(1), zero = _mm256_set1_epi8((char)128);
    __m256i dot[PIXELS][2];
    const uint8_t *x[PIXELS];
    const int8_t *weights = at->weights;
    UNROLL for (int p = 0; p < pixels; p++) {
        x[p] = x_of[p] + at->offset;
        dot[p][0] = dot[p][1] = _mm256_setzero_si256();
    }
    for (long c = 0; c < at->channels; c += 4, weights += at->step) {
        __m256i w[2];
        UNROLL for (int v = 0; v < 2; v++)
            w[v] = _mm256_load_si256((const __m256i *)(weights + 32 * v));
        UNROLL for (int p = 0; p < pixels; p++) {
            __m256i q = _mm256_xor_si256(broadcast_4(x[p] + c), zero), size = _mm256_abs_epi8(q);
            UNROLL for (int v = 0; v < 2; v++) {
                __m256i sums = _mm256_maddubs_epi16(size, _mm256_sign_epi8(w[v], q));
                dot[p][v] = _mm256_add_epi32(dot[p][v], _mm256_madd_epi16(sums, ones));
            }
        }
    }
    keep_sums(pixels, dot, x_scale, at);
}

#define DEFINE(PIXELS)                                                                             \
    static void multiply_0_##PIXELS(const uint8_t *const *x, const float *const *x_scale,          \
                                    const struct slice *at)                                        \
    {                                                                                              \
        multiply_signed(PIXELS, x, x_scale, at);                                                   \
    }                                                                                              \
    DEFINE_STEPS(1, PIXELS)                                                                        \
    DEFINE_STEPS(2, PIXELS)

#define DEFINE_STEPS(STEPS, PIXELS)                                                                \
    static void multiply_##STEPS##_##PIXELS(                                                       \
        const uint8_t *const *x, const float *const *x_scale, const struct slice *at)              \
    {                                                                                              \
        multiply_pixels(STEPS, PIXELS, x, x_scale, at);                                            \
    }

DEFINE(1)
DEFINE(2)
DEFINE(3)
DEFINE(4)

#define BY_PIXELS(STEPS)                                                                           \
    multiply_##STEPS##_1, multiply_##STEPS##_2, multiply_##STEPS##_3, multiply_##STEPS##_4

static void multiply(int pixels, const uint8_t *const *x, size_t offset, const float *const *x_scale,
                     size_t block, const struct bfp_tile *tile, float *sums, size_t sums_stride,
                     int first)
{
    static multiply_slice *const by_steps[] = {BY_PIXELS(0), BY_PIXELS(1), BY_PIXELS(2)};
    struct slice whole = whole_tile(tile, offset, block, sums, sums_stride, first);
    multiply_by(by_steps, PIXELS, pixels, x, x_scale, tile, &whole);
}

const struct bfp_kernels bfp_avx2 = {
    .name = "avx2",
    .prepare = prepare,
    .multiply = multiply,
    .finish = finish,
    .quantise = quantise,
    .scale = scale_row,
    .add = add_row,
    .activate = activate_row,
    .maximum = maximum,
    .mean = mean_row,
    .norm = norm_row,
    .to_half = to_half_row,
    .to_float = to_float_row,
};
