/* Kernels for AVX2 with AVX-VNNI: the dot product of AVX-512 VNNI in 256-bit registers. */

#include "ymm.inc"

/* 12 accumulators hide the dot product's latency; two vectors of weights and a broadcast leave one of
 * the 16 registers free. An asm of one instruction: around the intrinsic gcc 12 copies accumulators to
 * the stack and back at every step. */
INLINE __m256i dot_product(__m256i sum, __m256i elements, __m256i weights)
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(elements), "x"(weights));
    return sum;
}

INLINE void multiply_pixels(const int pixels, int turns, const uint8_t *const *x_of,
                            const float *const *x_scale, struct slice *at)
{
    for (; turns > 0; turns--, x_of += pixels, x_scale += pixels) {
        __m256i dot[6][2];
        const uint8_t *x[6];
        const int8_t *weights = at->weights;
        fetch_ahead(at);
        UNROLL for (int p = 0; p < pixels; p++) {
            x[p] = x_of[p] + at->offset;
            UNROLL for (int v = 0; v < 2; v++)
                dot[p][v] = _mm256_loadu_si256((const __m256i *)(at->start + 8 * v));
        }
        for (long c = 0; c < at->channels; c += 4, weights += at->step) {
            __m256i low = _mm256_load_si256((const __m256i *)weights);
            __m256i high = _mm256_load_si256((const __m256i *)(weights + 32));
            UNROLL for (int p = 0; p < pixels; p++) {
                __m256i elements = broadcast_4(x[p] + c);
                dot[p][0] = dot_product(dot[p][0], elements, low);
                dot[p][1] = dot_product(dot[p][1], elements, high);
            }
        }
        keep_sums(pixels, dot, x_scale, at);
    }
}

#define DEFINE(PIXELS)                                                                             \
    static void multiply_##PIXELS(int turns, const uint8_t *const *x, const float *const *x_scale, \
                                  struct slice *at)                                                \
    {                                                                                              \
        multiply_pixels(PIXELS, turns, x, x_scale, at);                                            \
    }

DEFINE(1)
DEFINE(2)
DEFINE(3)
DEFINE(4)
DEFINE(5)
DEFINE(6)

static void multiply(int pixels, const uint8_t *const *x, size_t offset, const float *const *x_scale,
                     size_t block, const struct bfp_tile *tile, float *sums, size_t sums_stride,
                     int first)
{
    static multiply_slice *const by_pixels[] = {multiply_1, multiply_2, multiply_3,
                                                multiply_4, multiply_5, multiply_6};
    multiply_by(by_pixels, 6, 0, pixels, x, offset, x_scale, block, tile, sums, sums_stride, first);
}

const struct bfp_kernels bfp_avxvnni = {
    .name = "avxvnni",
    .multiply = multiply,
    .finish = finish,
    .quantise = quantise,
    .quantise_as = quantise_as,
    .larger = larger,
    .slide = slide,
    .scale = scale_row,
    .scale_block = scale_block,
    .add = add_row,
    .activate = activate_row,
    .maximum = maximum,
    .mean = mean_row,
    .norm = norm_row,
    .to_half = to_half_row,
    .to_float = to_float_row,
};
