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
static void quantise(const uint16_t *halves, int channels, int mantissa, uint8_t zero,
                     uint8_t *block, float *scale)
{
    int largest = 0;
    for (int c = 0; c < channels; c++)
        largest = (halves[c] & 0x7fff) > largest ? halves[c] & 0x7fff : largest;
    float inverse = bfp_block_scale((unsigned)largest, mantissa, scale);
    float limit = (float)((1 << mantissa) - 1);
    for (int c = 0; c < channels; c++) {
        float q = from_half(halves[c]) * inverse;
        q = q > limit ? limit : q < -limit ? -limit : q;
        q = (q + 0x1.8p23f) - 0x1.8p23f;
        block[c] = (uint8_t)((int)q + zero);
    }
    memset(block + channels, zero, bfp_block_bytes(channels) - (size_t)channels);
}

#include "rows.inc"

static void multiply(int pixels, const uint8_t *const *x, size_t offset, const float *const *x_scale,
                     size_t block, const struct bfp_tile *tile, float *sums, size_t sums_stride,
                     int first)
{
    for (int p = 0; p < pixels; p++) {
        int32_t dot[BFP_GROUP_ROWS];
        const uint8_t *elements = x[p] + offset;
        const int8_t *weights = tile->weights;
        memcpy(dot, tile->start, sizeof(int32_t) * (size_t)tile->rows);
        for (int c = 0; c < tile->channels; c += 4, weights += 4 * tile->rows) {
            int a = elements[c], b = elements[c + 1], d = elements[c + 2], e = elements[c + 3];
            for (int r = 0; r < tile->rows; r++)
                dot[r] += a * weights[4 * r] + b * weights[4 * r + 1] + d * weights[4 * r + 2] +
                          e * weights[4 * r + 3];
        }
        float scale = x_scale[p][block], *sum = sums + (size_t)p * sums_stride;
        for (int r = 0; r < tile->rows; r++) {
            float product = (float)dot[r] * (tile->scale[r] * scale);
            sum[r] = first ? product : sum[r] + product;
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
    .scale = scale_row,
    .add = add_row,
    .activate = activate_row,
    .maximum = maximum_row,
    .mean = mean_row,
    .norm = norm_row,
    .to_half = to_half_row,
    .to_float = to_float_row,
};
