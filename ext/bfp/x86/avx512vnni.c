/* Kernels for AVX-512 F, BW, VL, DQ and VNNI. */

#include <immintrin.h>
#include <string.h>

#include "../kernels.h"

typedef __m512 vf;

static inline __mmask16 first_lanes(int n)
{
    return n >= BFP_LANES ? 0xffff : (__mmask16)((1u << n) - 1);
}

static inline vf vf_set(float x)
{
    return _mm512_set1_ps(x);
}

static inline vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void vf_store(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}

static inline vf vf_half(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

static inline vf vf_half_n(const uint16_t *p, int n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}

static inline __m256i to_half_bits(vf a)
{
    return _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline void vf_put(uint16_t *p, vf a)
{
    _mm256_storeu_si256((__m256i *)p, to_half_bits(a));
}

static inline void vf_put_n(uint16_t *p, vf a, int n)
{
    _mm256_mask_storeu_epi16(p, first_lanes(n), to_half_bits(a));
}

static inline vf vf_round_half(vf a)
{
    return _mm512_cvtph_ps(to_half_bits(a));
}

static inline vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

static inline vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

static inline vf vf_sqrt(vf a)
{
    return _mm512_sqrt_ps(a);
}

static inline vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

static inline vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

static inline int vf_over(vf a, int n)
{
    __mmask16 over =
        _mm512_mask_cmp_ps_mask(first_lanes(n), _mm512_abs_ps(a), vf_set(65520.0f), _CMP_GE_OQ);
    return __builtin_popcount(over);
}

/* Largest of 8 unsigned 16-bit numbers: the instruction finds the smallest, so of their complements. */
static inline unsigned largest_of(__m128i v)
{
    __m128i complement = _mm_minpos_epu16(_mm_xor_si128(v, _mm_set1_epi16(-1)));
    return 0xffffu ^ (unsigned)_mm_extract_epi16(complement, 0);
}

static inline unsigned largest_of_16(__m256i v)
{
    return largest_of(_mm_max_epu16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)));
}

/* The scale of a block (NPU.md 1.3) whose largest magnitude has these float16 bits; returns its
 * inverse. */
static inline float block_scale(unsigned largest, int mantissa, float *scale)
{
    int exponent = (int)(largest >> 10);
    exponent = exponent < 1 ? 1 : exponent; /* a subnormal counts as 1 */
    int shift = exponent - 15 - (mantissa - 1);
    uint32_t up = (uint32_t)(127 - shift) << 23, down = (uint32_t)(127 + shift) << 23;
    float inverse;
    memcpy(&inverse, &up, sizeof inverse);
    memcpy(scale, &down, sizeof down);
    return inverse;
}

/* What every element of a block needs to be quantised. */
struct quantiser {
    __m512 inverse;
    __m512i limit, floor, zero;
};

static inline struct quantiser make_quantiser(int mantissa, uint8_t zero)
{
    __m512i limit = _mm512_set1_epi32((1 << mantissa) - 1);
    struct quantiser q = {_mm512_setzero_ps(), limit,
                          _mm512_sub_epi32(_mm512_setzero_si512(), limit),
                          _mm512_set1_epi32(zero)};
    return q;
}

/* 16 float16 values as floats -> elements. |x / scale| is below 2^7 + 1 and the conversion to integers
 * rounds to nearest even, so it is exact. */
static inline void put_elements(uint8_t *block, vf x, const struct quantiser *by)
{
    __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(x, by->inverse));
    q = _mm512_max_epi32(_mm512_min_epi32(q, by->limit), by->floor);
    _mm_storeu_si128((__m128i *)block, _mm512_cvtepi32_epi8(_mm512_add_epi32(q, by->zero)));
}

static void quantise(const uint16_t *halves, int channels, int mantissa, uint8_t zero,
                     uint8_t *block, float *scale)
{
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    __m512i top = _mm512_setzero_si512();
    for (int c = 0; c < channels; c += 32) {
        __mmask32 lanes = channels - c >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << (channels - c)) - 1;
        __m512i bits = _mm512_maskz_loadu_epi16(lanes, halves + c);
        top = _mm512_max_epu16(top, _mm512_and_si512(bits, magnitude));
    }
    unsigned largest = largest_of_16(
        _mm256_max_epu16(_mm512_castsi512_si256(top), _mm512_extracti64x4_epi64(top, 1)));
    struct quantiser by = make_quantiser(mantissa, zero);
    by.inverse = vf_set(block_scale(largest, mantissa, scale));
    int c = 0, bytes = (int)bfp_block_bytes(channels);
    for (; c + BFP_LANES <= channels; c += BFP_LANES)
        put_elements(block + c, vf_half(halves + c), &by);
    for (; c < bytes; c += BFP_LANES)
        put_elements(block + c, vf_half_n(halves + c, channels > c ? channels - c : 0), &by);
}

#include "../rows.inc"

/* Float16 without NaN or -0 <-> 16-bit integers of the same order. */
static inline __m512i ordered(__m512i halves)
{
    __m512i negative = _mm512_srai_epi16(halves, 15);
    return _mm512_xor_si512(halves, _mm512_and_si512(negative, _mm512_set1_epi16(0x7fff)));
}

static void maximum(const uint16_t *const *x, int count, uint16_t *out, int n)
{
    for (int c = 0; c < n; c += 32) {
        __mmask32 lanes = n - c >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << (n - c)) - 1;
        __m512i top = ordered(_mm512_maskz_loadu_epi16(lanes, x[0] + c));
        for (int i = 1; i < count; i++)
            top = _mm512_max_epi16(top, ordered(_mm512_maskz_loadu_epi16(lanes, x[i] + c)));
        _mm512_mask_storeu_epi16(out + c, lanes, ordered(top));
    }
}

/* End of a chain for 128 or 64 rows, in registers: the common cases of `finish_rows`.
 *
 * A value that float16 cannot hold becomes infinite in the conversion and shows as the largest; such a
 * pixel is left to finish_rows, which saturates and counts. */

enum { HALF_INFINITE = 0x7c00 };

#define ROWS_64(M) M(0) M(1) M(2) M(3)
#define ROWS_128(M) ROWS_64(M) M(4) M(5) M(6) M(7)

#define LOAD_BIAS(v) const __m512 bias##v = _mm512_loadu_ps(to->bias + 16 * v);
#define ADD_BIAS(v) __m512 t##v = _mm512_add_ps(_mm512_loadu_ps(sum + 16 * v), bias##v);
#define ADD_RESIDUAL(v) t##v = _mm512_add_ps(t##v, vf_half(residual + 16 * v));
#define CLIP_LOW(v) t##v = _mm512_max_ps(t##v, _mm512_setzero_ps());
#define CLIP_HIGH(v) t##v = _mm512_min_ps(t##v, _mm512_set1_ps(6.0f));
#define TO_HALF(v) __m256i h##v = to_half_bits(t##v);
#define NO_NEGATIVE_ZERO(v)                                                                        \
    h##v = _mm256_maskz_mov_epi16(_mm256_test_epi16_mask(h##v, magnitude), h##v);
#define LARGEST(v) top = _mm256_max_epu16(top, _mm256_and_si256(h##v, magnitude));
#define PUT(v) _mm256_storeu_si256((__m256i *)(halves + 16 * v), h##v);
#define QUANTISE(v) put_elements(block + 16 * v, _mm512_cvtph_ps(h##v), &by);

#define DEFINE_FINISH(ROWS)                                                                        \
    static uint64_t finish_##ROWS(int pixels, const float *sums, size_t sums_stride,               \
                                  const struct bfp_finish *to)                                     \
    {                                                                                              \
        const __m256i magnitude = _mm256_set1_epi16(0x7fff);                                       \
        struct quantiser by = make_quantiser(to->mantissa, to->zero);                              \
        uint64_t over = 0;                                                                         \
        ROWS_##ROWS(LOAD_BIAS)                                                                     \
        for (int p = 0; p < pixels; p++) {                                                         \
            const float *sum = sums + (size_t)p * sums_stride;                                     \
            ROWS_##ROWS(ADD_BIAS)                                                                  \
            if (to->residual != NULL) {                                                            \
                const uint16_t *residual = to->residual + (size_t)p * to->residual_stride;         \
                ROWS_##ROWS(ADD_RESIDUAL)                                                          \
            }                                                                                      \
            if (to->activation != BFP_NONE) {                                                      \
                ROWS_##ROWS(CLIP_LOW)                                                              \
            }                                                                                      \
            if (to->activation == BFP_RELU6) {                                                     \
                ROWS_##ROWS(CLIP_HIGH)                                                             \
            }                                                                                      \
            ROWS_##ROWS(TO_HALF)                                                                   \
            if (to->activation == BFP_NONE) {                                                      \
                ROWS_##ROWS(NO_NEGATIVE_ZERO)                                                      \
            }                                                                                      \
            __m256i top = _mm256_setzero_si256();                                                  \
            ROWS_##ROWS(LARGEST)                                                                   \
            unsigned largest = largest_of_16(top);                                                 \
            if (largest >= HALF_INFINITE) {                                                        \
                over += finish_pixel(p, ROWS, sum, to);                                            \
                continue;                                                                          \
            }                                                                                      \
            if (to->halves != NULL) {                                                              \
                uint16_t *halves = to->halves + (size_t)p * to->halves_stride;                     \
                ROWS_##ROWS(PUT)                                                                   \
            }                                                                                      \
            if (to->block != NULL) {                                                               \
                uint8_t *block = to->block + (size_t)p * to->block_stride;                         \
                float *scale = to->scale + (size_t)p * to->scale_stride;                           \
                by.inverse = vf_set(block_scale(largest, to->mantissa, scale));                    \
                ROWS_##ROWS(QUANTISE)                                                              \
            }                                                                                      \
        }                                                                                          \
        return over;                                                                               \
    }

/* One pixel of many, by finish_rows. */
static uint64_t finish_pixel(int pixel, int rows, const float *sum, const struct bfp_finish *to)
{
    struct bfp_finish one = *to;
    size_t p = (size_t)pixel;
    one.residual = to->residual != NULL ? to->residual + p * to->residual_stride : NULL;
    one.halves = to->halves != NULL ? to->halves + p * to->halves_stride : NULL;
    one.block = to->block != NULL ? to->block + p * to->block_stride : NULL;
    one.scale = to->block != NULL ? to->scale + p * to->scale_stride : NULL;
    return finish_rows(1, rows, sum, 0, &one);
}

DEFINE_FINISH(64)
DEFINE_FINISH(128)

static uint64_t finish(int pixels, int rows, const float *sums, size_t sums_stride,
                       const struct bfp_finish *to)
{
    if (rows == 128)
        return finish_128(pixels, sums, sums_stride, to);
    if (rows == 64)
        return finish_64(pixels, sums, sums_stride, to);
    return finish_rows(pixels, rows, sums, sums_stride, to);
}

/* The dot products of one tile, for up to 6 pixels and NV vectors of 16 rows.
 *
 * One step multiplies 4 channels: NV loads of weights, then for each pixel a broadcast and NV dot
 * products. 24 accumulators, 4 vectors of weights and the broadcast fill the registers, so every one
 * has a name of its own, and the dot product is an asm of one instruction: from arrays, or from the
 * intrinsic, gcc 12 moves accumulators to the stack and back at every step and reaches half the speed.
 *
 * dot * (scale * scale) is exact (NPU.md 1.4), so the fused addition rounds as the specification. */


#define EACH_PIXEL_1(M) M(0)
#define EACH_PIXEL_2(M) EACH_PIXEL_1(M) M(1)
#define EACH_PIXEL_3(M) EACH_PIXEL_2(M) M(2)
#define EACH_PIXEL_4(M) EACH_PIXEL_3(M) M(3)
#define EACH_PIXEL_5(M) EACH_PIXEL_4(M) M(4)
#define EACH_PIXEL_6(M) EACH_PIXEL_5(M) M(5)

#define EACH_VECTOR_1(M, p) M(p, 0)
#define EACH_VECTOR_2(M, p) EACH_VECTOR_1(M, p) M(p, 1)
#define EACH_VECTOR_3(M, p) EACH_VECTOR_2(M, p) M(p, 2)
#define EACH_VECTOR_4(M, p) EACH_VECTOR_3(M, p) M(p, 3)

#define START(p, v) __m512i a##p##v = s##v;
#define DOT(p, v) __asm__("vpdpbusd %2, %1, %0" : "+v"(a##p##v) : "v"(x), "v"(w##v));
#define KEEP(p, v)                                                                                 \
    {                                                                                              \
        __m512 dot = _mm512_cvtepi32_ps(a##p##v), by = _mm512_mul_ps(scale, f##v);                 \
        float *at = to + 16 * v;                                                                   \
        _mm512_storeu_ps(at, first ? _mm512_mul_ps(dot, by)                                        \
                                   : _mm512_fmadd_ps(dot, by, _mm512_loadu_ps(at)));               \
    }

#define LOAD_START(p, v) __m512i s##v = _mm512_loadu_si512(tile->start + 16 * v);
#define LOAD_WEIGHTS(p, v) __m512i w##v = _mm512_load_si512(weights + 64 * v);
#define LOAD_SCALE(p, v) __m512 f##v = _mm512_loadu_ps(tile->scale + 16 * v);
#define POINTER(p) const uint8_t *x##p = x_of[p] + offset;

#define DEFINE(PIXELS, VECTORS)                                                                    \
    static void multiply_##PIXELS##_##VECTORS(                                                     \
        const uint8_t *const *x_of, size_t offset, const float *const *x_scale, size_t block,      \
        const struct bfp_tile *tile, float *sums, size_t sums_stride, int first)                   \
    {                                                                                              \
        const int8_t *weights = tile->weights;                                                     \
        EACH_PIXEL_##PIXELS(POINTER)                                                               \
        EACH_VECTOR_##VECTORS(LOAD_START, 0)                                                       \
        EACH_PIXEL_##PIXELS(START_PIXEL_##VECTORS)                                                 \
        for (long c = 0; c < tile->channels; c += 4, weights += 64 * VECTORS) {                    \
            EACH_VECTOR_##VECTORS(LOAD_WEIGHTS, 0)                                                 \
            EACH_PIXEL_##PIXELS(DOT_PIXEL_##VECTORS)                                               \
        }                                                                                          \
        EACH_VECTOR_##VECTORS(LOAD_SCALE, 0)                                                       \
        EACH_PIXEL_##PIXELS(KEEP_PIXEL_##VECTORS)                                                  \
    }

#define BROADCAST(p)                                                                               \
    int32_t four##p;                                                                               \
    memcpy(&four##p, x##p + c, 4);                                                                 \
    __m512i x = _mm512_set1_epi32(four##p);

#define START_PIXEL_1(p) EACH_VECTOR_1(START, p)
#define START_PIXEL_2(p) EACH_VECTOR_2(START, p)
#define START_PIXEL_3(p) EACH_VECTOR_3(START, p)
#define START_PIXEL_4(p) EACH_VECTOR_4(START, p)
#define DOT_PIXEL_1(p) { BROADCAST(p) EACH_VECTOR_1(DOT, p) }
#define DOT_PIXEL_2(p) { BROADCAST(p) EACH_VECTOR_2(DOT, p) }
#define DOT_PIXEL_3(p) { BROADCAST(p) EACH_VECTOR_3(DOT, p) }
#define DOT_PIXEL_4(p) { BROADCAST(p) EACH_VECTOR_4(DOT, p) }
#define KEEP_START(p)                                                                              \
    __m512 scale = _mm512_set1_ps(x_scale[p][block]);                                              \
    float *to = sums + p * sums_stride;
#define KEEP_PIXEL_1(p) { KEEP_START(p) EACH_VECTOR_1(KEEP, p) }
#define KEEP_PIXEL_2(p) { KEEP_START(p) EACH_VECTOR_2(KEEP, p) }
#define KEEP_PIXEL_3(p) { KEEP_START(p) EACH_VECTOR_3(KEEP, p) }
#define KEEP_PIXEL_4(p) { KEEP_START(p) EACH_VECTOR_4(KEEP, p) }

#define DEFINE_ALL(VECTORS)                                                                        \
    DEFINE(1, VECTORS)                                                                             \
    DEFINE(2, VECTORS)                                                                             \
    DEFINE(3, VECTORS)                                                                             \
    DEFINE(4, VECTORS)                                                                             \
    DEFINE(5, VECTORS)                                                                             \
    DEFINE(6, VECTORS)

DEFINE_ALL(1)
DEFINE_ALL(2)
DEFINE_ALL(3)
DEFINE_ALL(4)

enum { PIXELS = 6 };

typedef void multiply_few(const uint8_t *const *, size_t, const float *const *, size_t,
                          const struct bfp_tile *, float *, size_t, int);

#define FEW(VECTORS)                                                                               \
    {                                                                                              \
        multiply_1_##VECTORS, multiply_2_##VECTORS, multiply_3_##VECTORS, multiply_4_##VECTORS,    \
            multiply_5_##VECTORS, multiply_6_##VECTORS                                             \
    }

static multiply_few *const few[4][PIXELS] = {FEW(1), FEW(2), FEW(3), FEW(4)};

static void multiply(int pixels, const uint8_t *const *x, size_t offset, const float *const *x_scale,
                     size_t block, const struct bfp_tile *tile, float *sums, size_t sums_stride,
                     int first)
{
    multiply_few *const *by_pixels = few[tile->rows / BFP_LANES - 1];
    int bytes = tile->rows * tile->channels, turns = (pixels + PIXELS - 1) / PIXELS;
    int ahead = (bytes / turns + 63) / 64 * 64;
    const int8_t *next = tile->weights + bytes;
    for (int p = 0; p < pixels; p += PIXELS) {
        for (int i = 0; i < ahead; i += 64, next += 64)
            _mm_prefetch((const char *)next, _MM_HINT_T0);
        int count = pixels - p < PIXELS ? pixels - p : PIXELS;
        by_pixels[count - 1](x + p, offset, x_scale + p, block, tile,
                             sums + (size_t)p * sums_stride, sums_stride, first);
    }
}

static uint64_t to_half_row(const float *x, uint16_t *out, size_t n)
{
    uint64_t bad = 0;
    for (size_t i = 0; i < n; i += BFP_LANES) {
        int left = n - i < BFP_LANES ? (int)(n - i) : BFP_LANES;
        __mmask16 lanes = first_lanes(left);
        vf v = _mm512_maskz_loadu_ps(lanes, x + i);
        __mmask16 good = _mm512_cmp_ps_mask(_mm512_abs_ps(v), vf_set(65520.0f), _CMP_LT_OQ);
        bad += (uint64_t)__builtin_popcount((unsigned)(lanes & ~good));
        v = vf_add(vf_round_half(_mm512_maskz_mov_ps(good, v)), vf_set(0.0f));
        vf_put_n(out + i, v, left);
    }
    return bad;
}

static void to_float_row(const uint16_t *x, float *out, size_t n)
{
    for (size_t i = 0; i < n; i += BFP_LANES) {
        int left = n - i < BFP_LANES ? (int)(n - i) : BFP_LANES;
        _mm512_mask_storeu_ps(out + i, first_lanes(left), vf_half_n(x + i, left));
    }
}

const struct bfp_kernels bfp_avx512vnni = {
    .name = "avx512vnni",
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
