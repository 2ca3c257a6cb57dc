/* Kernels in plain C: always there, and what every instruction set's file is compared with. */

#include <math.h>
#include <string.h>

#include "block.h"
#include "kernels.h"

typedef struct {
    float v[BFP_LANES];
} vf;

#define LANES(i) for (int i = 0; i < BFP_LANES; i++)

static inline float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Exponent and fraction moved to float32's places are 2^112 too small, subnormals included. */
static inline float from_half(uint16_t half)
{
    float magnitude = float_of((uint32_t)(half & 0x7fff) << 13) * 0x1p112f;
    return float_of(bits_of(magnitude) | (uint32_t)(half & 0x8000) << 16);
}

/* |value| is below 65520. Below 2^-14 adding 1/2 puts the last place where a subnormal's is. */
static inline uint16_t to_half_bits(float value)
{
    uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    uint32_t normal = (bits + 0xfff + (bits >> 13 & 1)) >> 13;
    uint32_t small = bits_of(float_of(bits) + 0.5f) - bits_of(0.5f);
    return (uint16_t)(sign | (bits < 0x38800000 ? small : normal - (112u << 10)));
}

static inline vf vf_set(float x)
{
    vf r;
    LANES(i) r.v[i] = x;
    return r;
}

static inline vf vf_load(const float *p)
{
    vf r;
    memcpy(r.v, p, sizeof r.v);
    return r;
}

static inline void vf_store(float *p, vf a)
{
    memcpy(p, a.v, sizeof a.v);
}

static inline vf vf_half(const uint16_t *p)
{
    vf r;
    LANES(i) r.v[i] = from_half(p[i]);
    return r;
}

static inline vf vf_half_n(const uint16_t *p, int n)
{
    vf r;
    LANES(i) r.v[i] = i < n ? from_half(p[i]) : 0.0f;
    return r;
}

static inline void vf_put(uint16_t *p, vf a)
{
    LANES(i) p[i] = to_half_bits(a.v[i]);
}

static inline void vf_put_n(uint16_t *p, vf a, int n)
{
    for (int i = 0; i < n; i++)
        p[i] = to_half_bits(a.v[i]);
}

static inline vf vf_round_half(vf a)
{
    LANES(i) a.v[i] = from_half(to_half_bits(a.v[i]));
    return a;
}

static inline vf vf_add(vf a, vf b)
{
    LANES(i) a.v[i] += b.v[i];
    return a;
}

static inline vf vf_mul(vf a, vf b)
{
    LANES(i) a.v[i] *= b.v[i];
    return a;
}

static inline vf vf_div(vf a, vf b)
{
    LANES(i) a.v[i] /= b.v[i];
    return a;
}

static inline vf vf_sqrt(vf a)
{
    LANES(i) a.v[i] = sqrtf(a.v[i]);
    return a;
}

static inline vf vf_max(vf a, vf b)
{
    LANES(i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
    return a;
}

static inline vf vf_min(vf a, vf b)
{
    LANES(i) a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
    return a;
}

static inline int vf_over(vf a, int n)
{
    int count = 0;
    for (int i = 0; i < n; i++)
        count += fabsf(a.v[i]) >= 65520.0f;
    return count;
}

/* NPU.md 1.3. Adding 1.5 * 2^23 rounds to an integer, nearest even: |x / scale| is below 2^8, so one
 * addition does it exactly. */
static void put_elements(const uint16_t *halves, int n, float inverse, int mantissa, uint8_t zero,
                         uint8_t *elements)
{
    float limit = (float)((1 << mantissa) - 1);
    for (int c = 0; c < n; c++) {
        float q = from_half(halves[c]) * inverse;
        q = q > limit ? limit : q < -limit ? -limit : q;
        q = (q + 0x1.8p23f) - 0x1.8p23f;
        elements[c] = (uint8_t)((int)q + zero);
    }
}

static void quantise(const uint16_t *halves, int channels, int mantissa, uint8_t zero,
                     uint8_t *block, float *scale)
{
    int largest = 0;
    for (int c = 0; c < channels; c++)
        largest = (halves[c] & 0x7fff) > largest ? halves[c] & 0x7fff : largest;
    float inverse = bfp_block_scale((unsigned)largest, mantissa, scale);
    put_elements(halves, channels, inverse, mantissa, zero, block);
    memset(block + channels, zero, bfp_block_bytes(channels) - (size_t)channels);
}

static void quantise_as(const uint16_t *halves, int n, int exponent, int mantissa, uint8_t zero,
                        uint8_t *elements)
{
    float scale, inverse = bfp_block_scale((unsigned)exponent << 10, mantissa, &scale);
    put_elements(halves, n, inverse, mantissa, zero, elements);
}

static void larger(const uint16_t *halves, uint16_t *top, int n)
{
    for (int i = 0; i < n; i++) {
        uint16_t magnitude = halves[i] & 0x7fff;
        top[i] = magnitude > top[i] ? magnitude : top[i];
    }
}

/* Largest of 2, 4, 8, ... neighbours, then of two such runs that overlap. In place: what is read lies
 * ahead of what is written. */
static void slide(uint16_t *top, int n, int length)
{
    int run = 1;
    for (; 2 * run <= length; run *= 2)
        for (int i = 0; i + run < n; i++)
            top[i] = top[i + run] > top[i] ? top[i + run] : top[i];
    for (int i = 0; i + length - run < n; i++)
        top[i] = top[i + length - run] > top[i] ? top[i + length - run] : top[i];
}

#include "rows.inc"

/* Dot products are sums of products of 16-bit numbers over rows that lie together: what compilers make
 * into the multiply-add of SSE2 or NEON by themselves. */

enum { TOGETHER = 4 /* pixels that share a load of weights */ };

typedef int16_t vector[BFP_BLOCK];

/* The weights of each row of a tile, one after the other. */
static void unpack_rows(const struct bfp_tile *tile, vector *rows)
{
    for (int r = 0; r < tile->rows; r++) {
        int8_t row[BFP_BLOCK];
        const int8_t *step = tile->weights + 4 * r;
        for (int c = 0; c < tile->channels; c += 4, step += 4 * tile->rows)
            memcpy(row + c, step, 4);
        for (int c = 0; c < tile->channels; c++)
            rows[r][c] = row[c];
    }
}

/* One row by four pixels. By itself, so that the loop stays a loop: it is short and runs often. */
static __attribute__((noinline)) void dot_products(const int16_t *x, const int16_t *weights,
                                                   int channels, int32_t *dots)
{
    int32_t a = 0, b = 0, c = 0, d = 0;
    size_t count = (size_t)channels / BFP_STEP_ALIGN * BFP_STEP_ALIGN; /* vectors, no remainder */
    for (size_t i = 0; i < count; i++) {
        a += x[i] * weights[i];
        b += x[i + BFP_BLOCK] * weights[i];
        c += x[i + 2 * BFP_BLOCK] * weights[i];
        d += x[i + 3 * BFP_BLOCK] * weights[i];
    }
    dots[0 * BFP_GROUP_ROWS] = a;
    dots[1 * BFP_GROUP_ROWS] = b;
    dots[2 * BFP_GROUP_ROWS] = c;
    dots[3 * BFP_GROUP_ROWS] = d;
}

static void multiply(int pixels, const uint8_t *const *x, size_t offset, const float *const *x_scale,
                     size_t block, const struct bfp_tile *tile, float *sums, size_t sums_stride,
                     int first)
{
    vector weights[BFP_GROUP_ROWS], elements[TOGETHER] = {{0}};
    int32_t dots[TOGETHER][BFP_GROUP_ROWS];
    unpack_rows(tile, weights);
    for (int from = 0; from < pixels; from += TOGETHER) {
        int count = pixels - from < TOGETHER ? pixels - from : TOGETHER;
        for (int p = 0; p < count; p++)
            for (int c = 0; c < tile->channels; c++)
                elements[p][c] = x[from + p][offset + (size_t)c];
        for (int r = 0; r < tile->rows; r++)
            dot_products(elements[0], weights[r], tile->channels, &dots[0][r]);
        for (int p = 0; p < count; p++) {
            float scale = x_scale[from + p][block];
            float *sum = sums + (size_t)(from + p) * sums_stride;
            for (int r = 0; r < tile->rows; r++) {
                float product = (float)(dots[p][r] + tile->start[r]) * (tile->scale[r] * scale);
                sum[r] = first ? product : sum[r] + product;
            }
        }
    }
}

static uint64_t to_half_row(const float *x, uint16_t *out, size_t n)
{
    uint64_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        int good = fabsf(x[i]) < 65520.0f; /* false for NaN */
        bad += !good;
        out[i] = to_half_bits(good ? x[i] : 0.0f);
        out[i] = out[i] == 0x8000 ? 0 : out[i];
    }
    return bad;
}

static void to_float_row(const uint16_t *x, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = from_half(x[i]);
}

const struct bfp_kernels bfp_portable = {
    .name = "portable",
    .multiply = multiply,
    .finish = finish_rows,
    .quantise = quantise,
    .quantise_as = quantise_as,
    .larger = larger,
    .slide = slide,
    .scale = scale_row,
    .scale_block = scale_block_in_steps,
    .add = add_row,
    .activate = activate_row,
    .maximum = maximum_row,
    .mean = mean_row,
    .norm = norm_row,
    .to_half = to_half_row,
    .to_float = to_float_row,
};
