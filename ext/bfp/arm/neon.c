/* Kernels for 64-bit ARM with the dot product instructions (Armv8.2 DotProd). */

#include <arm_neon.h>
#include <string.h>

#include "../block.h"
#include "../kernels.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define EACH(i) UNROLL for (int i = 0; i < 4; i++)

enum { HALF_INFINITE = 0x7c00 };

typedef float32x4x4_t vf;

/* 16 halves; lanes from n on are 0 and are not read. */
INLINE uint16x8x2_t load_halves(const uint16_t *p, int n)
{
    uint16_t some[BFP_LANES] = {0};
    if (n < BFP_LANES) {
        for (int i = 0; i < n; i++)
            some[i] = p[i];
        p = some;
    }
    uint16x8x2_t r = {{vld1q_u16(p), vld1q_u16(p + 8)}};
    return r;
}

INLINE void store_halves(uint16_t *p, uint16x8x2_t halves, int n)
{
    uint16_t some[BFP_LANES];
    uint16_t *to = n < BFP_LANES ? some : p;
    vst1q_u16(to, halves.val[0]);
    vst1q_u16(to + 8, halves.val[1]);
    for (int i = 0; n < BFP_LANES && i < n; i++)
        p[i] = some[i];
}

INLINE vf from_halves(uint16x8x2_t halves)
{
    float16x8_t low = vreinterpretq_f16_u16(halves.val[0]);
    float16x8_t high = vreinterpretq_f16_u16(halves.val[1]);
    vf r = {{vcvt_f32_f16(vget_low_f16(low)), vcvt_high_f32_f16(low),
             vcvt_f32_f16(vget_low_f16(high)), vcvt_high_f32_f16(high)}};
    return r;
}

/* The rounding is the processor's, which is to nearest even unless somebody changed it. */
INLINE uint16x8x2_t to_halves(vf a)
{
    float16x8_t low = vcvt_high_f16_f32(vcvt_f16_f32(a.val[0]), a.val[1]);
    float16x8_t high = vcvt_high_f16_f32(vcvt_f16_f32(a.val[2]), a.val[3]);
    uint16x8x2_t r = {{vreinterpretq_u16_f16(low), vreinterpretq_u16_f16(high)}};
    return r;
}

INLINE vf vf_set(float x)
{
    vf r;
    EACH(i) r.val[i] = vdupq_n_f32(x);
    return r;
}

INLINE vf vf_load(const float *p)
{
    vf r;
    EACH(i) r.val[i] = vld1q_f32(p + 4 * i);
    return r;
}

INLINE void vf_store(float *p, vf a)
{
    EACH(i) vst1q_f32(p + 4 * i, a.val[i]);
}

INLINE vf vf_half(const uint16_t *p)
{
    return from_halves(load_halves(p, BFP_LANES));
}

INLINE vf vf_half_n(const uint16_t *p, int n)
{
    return from_halves(load_halves(p, n));
}

INLINE void vf_put(uint16_t *p, vf a)
{
    store_halves(p, to_halves(a), BFP_LANES);
}

INLINE void vf_put_n(uint16_t *p, vf a, int n)
{
    store_halves(p, to_halves(a), n);
}

INLINE vf vf_round_half(vf a)
{
    return from_halves(to_halves(a));
}

INLINE vf vf_add(vf a, vf b)
{
    EACH(i) a.val[i] = vaddq_f32(a.val[i], b.val[i]);
    return a;
}

INLINE vf vf_mul(vf a, vf b)
{
    EACH(i) a.val[i] = vmulq_f32(a.val[i], b.val[i]);
    return a;
}

INLINE vf vf_div(vf a, vf b)
{
    EACH(i) a.val[i] = vdivq_f32(a.val[i], b.val[i]);
    return a;
}

INLINE vf vf_sqrt(vf a)
{
    EACH(i) a.val[i] = vsqrtq_f32(a.val[i]);
    return a;
}

INLINE vf vf_max(vf a, vf b)
{
    EACH(i) a.val[i] = vmaxq_f32(a.val[i], b.val[i]);
    return a;
}

INLINE vf vf_min(vf a, vf b)
{
    EACH(i) a.val[i] = vminq_f32(a.val[i], b.val[i]);
    return a;
}

INLINE int vf_over(vf a, int n)
{
    float lanes[BFP_LANES];
    uint32x4_t any = vdupq_n_u32(0), limit = vreinterpretq_u32_f32(vdupq_n_f32(65520.0f));
    int count = 0;
    EACH(i) any = vorrq_u32(any, vcgeq_u32(vreinterpretq_u32_f32(vabsq_f32(a.val[i])), limit));
    if (vmaxvq_u32(any) == 0)
        return 0;
    vf_store(lanes, a);
    for (int i = 0; i < n; i++)
        count += __builtin_fabsf(lanes[i]) >= 65520.0f;
    return count;
}

/* 16 halves -> elements. |x / scale| is below 2^7 + 1 and the conversion to integers rounds to nearest
 * even, so it is exact. Narrowing saturates at -128 and 127; the format's limit comes after. */
INLINE uint8x16_t elements_of(uint16x8x2_t halves, float inverse, int mantissa, uint8_t zero)
{
    vf x = from_halves(halves);
    int32x4_t q[4];
    EACH(i) q[i] = vcvtnq_s32_f32(vmulq_n_f32(x.val[i], inverse));
    int16x8_t low = vqmovn_high_s32(vqmovn_s32(q[0]), q[1]);
    int16x8_t high = vqmovn_high_s32(vqmovn_s32(q[2]), q[3]);
    int8x16_t limit = vdupq_n_s8((int8_t)((1 << mantissa) - 1));
    int8x16_t element = vminq_s8(vqmovn_high_s16(vqmovn_s16(low), high), limit);
    element = vmaxq_s8(element, vnegq_s8(limit));
    return vaddq_u8(vreinterpretq_u8_s8(element), vdupq_n_u8(zero));
}

/* Quantises channels whose largest magnitude has these float16 bits, and pads the block. */
static inline void quantise_by(unsigned largest, const uint16_t *halves, int channels, int mantissa,
                               uint8_t zero, uint8_t *block, float *scale)
{
    float inverse = bfp_block_scale(largest, mantissa, scale);
    int bytes = (int)bfp_block_bytes(channels);
    for (int c = 0; c < bytes; c += BFP_LANES) {
        uint16x8x2_t some = load_halves(halves + c, channels > c ? channels - c : 0);
        vst1q_u8(block + c, elements_of(some, inverse, mantissa, zero));
    }
}

INLINE uint16x8_t larger(uint16x8_t top, uint16x8x2_t halves)
{
    const uint16x8_t magnitude = vdupq_n_u16(0x7fff);
    top = vmaxq_u16(top, vandq_u16(halves.val[0], magnitude));
    return vmaxq_u16(top, vandq_u16(halves.val[1], magnitude));
}

static void quantise(const uint16_t *halves, int channels, int mantissa, uint8_t zero,
                     uint8_t *block, float *scale)
{
    uint16x8_t top = vdupq_n_u16(0);
    for (int c = 0; c < channels; c += BFP_LANES)
        top = larger(top, load_halves(halves + c, channels - c));
    quantise_by(vmaxvq_u16(top), halves, channels, mantissa, zero, block, scale);
}

#include "../rows.inc"

/* Float16 without NaN or -0 <-> 16-bit integers of the same order. */
INLINE int16x8_t ordered(int16x8_t halves)
{
    return veorq_s16(halves, vandq_s16(vshrq_n_s16(halves, 15), vdupq_n_s16(0x7fff)));
}

static void maximum(const uint16_t *const *x, int count, uint16_t *out, int n)
{
    for (int c = 0; c < n; c += BFP_LANES) {
        int16x8_t top[2] = {vdupq_n_s16(INT16_MIN), vdupq_n_s16(INT16_MIN)};
        for (int i = 0; i < count; i++) {
            uint16x8x2_t some = load_halves(x[i] + c, n - c);
            UNROLL for (int v = 0; v < 2; v++)
                top[v] = vmaxq_s16(top[v], ordered(vreinterpretq_s16_u16(some.val[v])));
        }
        uint16x8x2_t best = {{vreinterpretq_u16_s16(ordered(top[0])),
                              vreinterpretq_u16_s16(ordered(top[1]))}};
        store_halves(out + c, best, n - c);
    }
}

/* End of a chain for one pixel of 16, 32, ... rows. Returns how many values saturated.
 *
 * A value that float16 cannot hold becomes infinite in the conversion and shows as the largest; such a
 * pixel is left to finish_rows, which saturates and counts. */
static uint64_t finish_pixel(int rows, const float *sums, const struct bfp_finish *to)
{
    uint16_t kept[BFP_BLOCK];
    uint16_t *halves = to->halves != NULL ? to->halves : kept;
    uint16x8_t top = vdupq_n_u16(0);
    for (int r = 0; r < rows; r += BFP_LANES) {
        vf t = vf_add(vf_load(sums + r), vf_load(to->bias + r));
        if (to->residual != NULL)
            t = vf_add(t, vf_half(to->residual + r));
        uint16x8x2_t h = to_halves(row_activate(t, to->activation));
        top = larger(top, h);
        UNROLL for (int v = 0; v < 2; v++) /* -0 becomes +0 */
            h.val[v] = vbicq_u16(h.val[v], vceqq_u16(h.val[v], vdupq_n_u16(0x8000)));
        store_halves(halves + r, h, BFP_LANES);
    }
    unsigned largest = vmaxvq_u16(top);
    if (largest >= HALF_INFINITE)
        return finish_rows(1, rows, sums, 0, to);
    if (to->block != NULL)
        quantise_by(largest, halves, rows, to->mantissa, to->zero, to->block, to->scale);
    return 0;
}

static uint64_t finish(int pixels, int rows, const float *sums, size_t sums_stride,
                       const struct bfp_finish *to)
{
    struct bfp_finish pixel = *to;
    uint64_t over = 0;
    if (rows % BFP_LANES != 0)
        return finish_rows(pixels, rows, sums, sums_stride, to);
    for (int p = 0; p < pixels; p++, sums += sums_stride) {
        over += finish_pixel(rows, sums, &pixel);
        if (pixel.residual != NULL)
            pixel.residual += to->residual_stride;
        if (pixel.halves != NULL)
            pixel.halves += to->halves_stride;
        if (pixel.block != NULL) {
            pixel.block += to->block_stride;
            pixel.scale += to->scale_stride;
        }
    }
    return over;
}

/* The dot product is of signed by signed bytes, so elements lose the `zero` they are stored with: q + 128
 * and q differ in the highest bit only. `start`, which makes up for it, has no part here. */
static void prepare(struct bfp_tile *tile, int mantissa, uint8_t zero)
{
    (void)mantissa;
    memset(tile->plan, zero, (size_t)tile->rows / BFP_LANES);
}

enum { PIXELS = 4 };

/* Where one call of multiply_pixels works: 16 rows of a tile. */
struct slice {
    const int8_t *weights; /* of the first step; `step` bytes to the next */
    long step, channels;
    uint8_t zero;
    const float *scale;
    float *sums;
    size_t sums_stride, offset, block;
    int first;
};

/* One step of 4 channels: `lane` of 16 elements of each pixel. */
#define STEP(lane)                                                                                 \
    {                                                                                              \
        int8x16_t w[4];                                                                            \
        EACH(v) w[v] = vld1q_s8(weights + 16 * v);                                                 \
        weights += at->step;                                                                       \
        UNROLL for (int p = 0; p < pixels; p++)                                                    \
            EACH(v) dot[p][v] = vdotq_laneq_s32(dot[p][v], w[v], x[p], lane);                      \
    }

/* dot * (scale * scale) is exact (NPU.md 1.4), so the fused addition rounds as the specification. */
INLINE void multiply_pixels(const int pixels, const uint8_t *const *x_of,
                            const float *const *x_scale, const struct slice *at)
{
    int32x4_t dot[PIXELS][4];
    const int8_t *weights = at->weights;
    const uint8x16_t zero = vdupq_n_u8(at->zero);
    UNROLL for (int p = 0; p < pixels; p++)
        EACH(v) dot[p][v] = vdupq_n_s32(0);
    for (long c = 0; c < at->channels; c += BFP_STEP_ALIGN) {
        int8x16_t x[PIXELS];
        UNROLL for (int p = 0; p < pixels; p++)
            x[p] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(x_of[p] + at->offset + c), zero));
        STEP(0)
        STEP(1)
        STEP(2)
        STEP(3)
    }
    UNROLL for (int p = 0; p < pixels; p++) {
        float *sums = at->sums + (size_t)p * at->sums_stride;
        float scale = x_scale[p][at->block];
        EACH(v) {
            float32x4_t by = vmulq_n_f32(vld1q_f32(at->scale + 4 * v), scale);
            float32x4_t value = vcvtq_f32_s32(dot[p][v]);
            vst1q_f32(sums + 4 * v, at->first ? vmulq_f32(value, by)
                                              : vfmaq_f32(vld1q_f32(sums + 4 * v), value, by));
        }
    }
}

typedef void multiply_slice(const uint8_t *const *, const float *const *, const struct slice *);

#define DEFINE(PIXELS)                                                                             \
    static void multiply_##PIXELS(const uint8_t *const *x, const float *const *x_scale,            \
                                  const struct slice *at)                                          \
    {                                                                                              \
        multiply_pixels(PIXELS, x, x_scale, at);                                                   \
    }

DEFINE(1)
DEFINE(2)
DEFINE(3)
DEFINE(4)

static void multiply(int pixels, const uint8_t *const *x, size_t offset, const float *const *x_scale,
                     size_t block, const struct bfp_tile *tile, float *sums, size_t sums_stride,
                     int first)
{
    static multiply_slice *const by_pixels[PIXELS] = {multiply_1, multiply_2, multiply_3, multiply_4};
    for (int p = 0; p < pixels; p += PIXELS) {
        int count = pixels - p < PIXELS ? pixels - p : PIXELS;
        for (int row = 0; row < tile->rows; row += BFP_LANES) {
            struct slice at = {tile->weights + 4 * row, 4L * tile->rows, tile->channels,
                               tile->plan[0], tile->scale + row,
                               sums + (size_t)p * sums_stride + row, sums_stride, offset, block, first};
            by_pixels[count - 1](x + p, x_scale + p, &at);
        }
    }
}

static uint64_t to_half_row(const float *x, uint16_t *out, size_t n)
{
    uint64_t bad = 0;
    for (size_t i = 0; i < n; i += BFP_LANES) {
        int left = n - i < BFP_LANES ? (int)(n - i) : BFP_LANES;
        float some[BFP_LANES] = {0};
        for (int k = 0; k < left; k++) {
            int good = __builtin_fabsf(x[i + (size_t)k]) < 65520.0f; /* false for NaN */
            some[k] = good ? x[i + (size_t)k] : 0.0f;
            bad += !good;
        }
        vf v = vf_add(vf_round_half(vf_load(some)), vf_set(0.0f));
        store_halves(out + i, to_halves(v), left);
    }
    return bad;
}

static void to_float_row(const uint16_t *x, float *out, size_t n)
{
    for (size_t i = 0; i < n; i += BFP_LANES) {
        int left = n - i < BFP_LANES ? (int)(n - i) : BFP_LANES;
        float some[BFP_LANES];
        if (left == BFP_LANES) {
            vf_store(out + i, vf_half(x + i));
            continue;
        }
        vf_store(some, vf_half_n(x + i, left));
        memcpy(out + i, some, (size_t)left * sizeof *out);
    }
}

const struct bfp_kernels bfp_neon = {
    .name = "neon",
    .plan_bytes = 1,
    .prepare = prepare,
    .multiply = multiply,
    .finish = finish,
    .quantise = quantise,
    .scale = scale_row,
    .scale_block = scale_block_in_steps,
    .add = add_row,
    .activate = activate_row,
    .maximum = maximum,
    .mean = mean_row,
    .norm = norm_row,
    .to_half = to_half_row,
    .to_float = to_float_row,
};
