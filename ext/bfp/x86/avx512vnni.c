/* Kernels for AVX-512 F, BW, VL, DQ and VNNI. */

#include <immintrin.h>
#include <string.h>

#include "../block.h"
#include "../kernels.h"

enum { HALF_INFINITE = 0x7c00 };

typedef __m512 vf;

static inline __mmask16 first_lanes(int n)
{
    return n >= BFP_LANES ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
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

static inline __m256i to_halves(vf a)
{
    return _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline void vf_put(uint16_t *p, vf a)
{
    _mm256_storeu_si256((__m256i *)p, to_halves(a));
}

static inline void vf_put_n(uint16_t *p, vf a, int n)
{
    _mm256_mask_storeu_epi16(p, first_lanes(n), to_halves(a));
}

static inline vf vf_round_half(vf a)
{
    return _mm512_cvtph_ps(to_halves(a));
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

/* Largest of 16 unsigned 16-bit numbers: the instruction finds the smallest, so of their complements. */
static inline unsigned largest_of(__m256i v)
{
    __m128i most = _mm_max_epu16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    __m128i complement = _mm_minpos_epu16(_mm_xor_si128(most, _mm_set1_epi16(-1)));
    return 0xffffu ^ (unsigned)_mm_extract_epi16(complement, 0);
}

/* What every element of a block needs to be quantised. */
struct quantiser {
    __m512 inverse;
    __m512i limit, floor, zero; /* of 64 bytes */
};

static inline struct quantiser make_quantiser(float inverse, int mantissa, uint8_t zero)
{
    const char limit = (char)((1 << mantissa) - 1);
    struct quantiser q = {_mm512_set1_ps(inverse), _mm512_set1_epi8(limit),
                          _mm512_set1_epi8((char)-limit), _mm512_set1_epi8((char)zero)};
    return q;
}

/* 64 float16 values as floats -> elements. |x / scale| is below 2^7 + 1 and the conversion to integers
 * rounds to nearest even, so it is exact. The packs work within quarters of a vector: of each quarter
 * of a, b, c and d they make four neighbours, which are then put in order. */
static inline void put_elements(uint8_t *block, vf a, vf b, vf c, vf d, const struct quantiser *by)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i ab = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(a, by->inverse)),
                                    _mm512_cvtps_epi32(_mm512_mul_ps(b, by->inverse)));
    __m512i cd = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(c, by->inverse)),
                                    _mm512_cvtps_epi32(_mm512_mul_ps(d, by->inverse)));
    __m512i q = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(ab, cd));
    q = _mm512_max_epi8(_mm512_min_epi8(q, by->limit), by->floor);
    _mm512_storeu_si512(block, _mm512_add_epi8(q, by->zero));
}

/* Float16 bits of the largest magnitude of a row. */
static inline unsigned largest_of_row(const uint16_t *halves, int channels)
{
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    __m512i top = _mm512_setzero_si512();
    int c = 0;
    for (; c + 32 <= channels; c += 32)
        top = _mm512_max_epu16(top, _mm512_and_si512(_mm512_loadu_si512(halves + c), magnitude));
    if (c < channels) {
        __mmask32 lanes = ((__mmask32)1 << (channels - c)) - 1;
        __m512i bits = _mm512_maskz_loadu_epi16(lanes, halves + c);
        top = _mm512_max_epu16(top, _mm512_and_si512(bits, magnitude));
    }
    return largest_of(
        _mm256_max_epu16(_mm512_castsi512_si256(top), _mm512_extracti64x4_epi64(top, 1)));
}

/* Elements of a row, up to a multiple of 64. */
static inline void put_row(const uint16_t *halves, int channels, struct quantiser by, uint8_t *block)
{
    int c = 0;
    for (; c + 64 <= channels; c += 64)
        put_elements(block + c, vf_half(halves + c), vf_half(halves + c + 16),
                     vf_half(halves + c + 32), vf_half(halves + c + 48), &by);
    if (c < channels)
        put_elements(block + c, vf_half_n(halves + c, channels - c),
                     vf_half_n(halves + c + 16, channels - c - 16),
                     vf_half_n(halves + c + 32, channels - c - 32),
                     vf_half_n(halves + c + 48, channels - c - 48), &by);
}

/* Quantises a row whose largest magnitude is known. */
static inline void quantise_by(unsigned largest, const uint16_t *halves, int channels, int mantissa,
                               uint8_t zero, uint8_t *block, float *scale)
{
    float inverse = bfp_block_scale(largest, mantissa, scale);
    put_row(halves, channels, make_quantiser(inverse, mantissa, zero), block);
}

static void quantise(const uint16_t *halves, int channels, int mantissa, uint8_t zero,
                     uint8_t *block, float *scale)
{
    quantise_by(largest_of_row(halves, channels), halves, channels, mantissa, zero, block, scale);
}

static void quantise_as(const uint16_t *halves, int n, int exponent, int mantissa, uint8_t zero,
                        uint8_t *elements)
{
    float scale, inverse = bfp_block_scale((unsigned)exponent << 10, mantissa, &scale);
    put_row(halves, n, make_quantiser(inverse, mantissa, zero), elements);
}

static inline __mmask32 first_32(int n)
{
    return n >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << n) - 1;
}

static void larger(const uint16_t *halves, uint16_t *top, int n)
{
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    for (int i = 0; i < n; i += 32) {
        __mmask32 lanes = first_32(n - i);
        __m512i v = _mm512_and_si512(_mm512_maskz_loadu_epi16(lanes, halves + i), magnitude);
        v = _mm512_max_epu16(v, _mm512_maskz_loadu_epi16(lanes, top + i));
        _mm512_mask_storeu_epi16(top + i, lanes, v);
    }
}

static inline void slide_by(uint16_t *top, int n, int by)
{
    for (int i = 0; i + by < n; i += 32) {
        __mmask32 lanes = first_32(n - by - i);
        __m512i v = _mm512_max_epu16(_mm512_maskz_loadu_epi16(lanes, top + i),
                                     _mm512_maskz_loadu_epi16(lanes, top + i + by));
        _mm512_mask_storeu_epi16(top + i, lanes, v);
    }
}

#include "../rows.inc"
#include "blocks.inc"
#include "avx512vnni_convolve.inc"

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
    .group_rows = 32,
    .convolve = convolve,
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
