/* Block floating point kernels: one table per instruction set, all equal to the bit.
 *
 * This library knows rows, pixels and blocks; programs, chains and feature maps are npu/'s.
 * The definition of every function is edged/npu/reference.py.
 *
 * Blocks in memory
 *   A pixel's channels are cut into blocks of 128. Elements are bytes q + zero, zero being 0 where
 *   every element is known not to be negative, else 128: the unsigned operand of a dot product. A
 *   block of k channels takes bfp_block_bytes(k) bytes; those beyond k hold `zero`. One float a block,
 *   2^(E - 15 - (m - 1)), is its scale.
 *
 * Weights in memory ("tile")
 *   The weights of one group of rows that meet one block: steps of 4 channels, each step
 *   [row of the group][4 channels] signed bytes. A group has at most BFP_GROUP_ROWS rows, padded with
 *   zero rows to a multiple of BFP_LANES. The tile that is needed next lies behind it, as a rule.
 */
#ifndef EDGED_BFP_KERNELS_H
#define EDGED_BFP_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum {
    BFP_BLOCK = 128,      /* channels of a block: the native dimension */
    BFP_LANES = 16,       /* rows come in multiples of this */
    BFP_GROUP_ROWS = 64,  /* rows of a tile at most */
    BFP_BLOCK_ALIGN = 64, /* bytes a block in memory is padded to */
    BFP_STEP_ALIGN = 16,  /* channels a dot product is padded to */
    BFP_PARTS = 72,       /* parts of a convolution at most */
    BFP_PART_PIXELS = 64  /* its pixels at most */
};

enum bfp_activation { BFP_NONE = 0, BFP_RELU = 1, BFP_RELU6 = 2 };

/* One tile and what belongs to it. */
struct bfp_tile {
    const int8_t *weights; /* 64-byte aligned */
    const float *scale;    /* [rows] 2^(Ew - 15 - (m - 1)) */
    const int32_t *start;  /* [rows] -zero * sum of the row's weights: where the dot product begins */
    int rows;              /* multiple of BFP_LANES */
    int channels;          /* multiple of BFP_STEP_ALIGN */
    uint8_t *plan;         /* plan_bytes of the kernels for every BFP_LANES rows, theirs alone */
};

/* What happens to a row of sums at the end of a chain. */
struct bfp_finish {
    const float *bias;        /* [channels rounded up to BFP_LANES] */
    const uint16_t *residual; /* float16, or NULL */
    size_t residual_stride;   /* halves from pixel to pixel */
    enum bfp_activation activation;
    uint16_t *halves; /* float16 memory, or NULL */
    size_t halves_stride;
    uint8_t *block; /* block memory, or NULL */
    size_t block_stride;
    float *scale; /* of the block, with `block` */
    size_t scale_stride;
    int mantissa; /* bits, with `block` */
    uint8_t zero; /* with `block` */
};

/* The elements that meet one tile of every group, for some pixels. */
struct bfp_part {
    const uint8_t *const *x; /* a pointer a pixel, to which `offset` bytes are added */
    size_t offset;
    const float *x_scale; /* [BFP_PART_PIXELS], the first `pixels` of them used */
};

/* The end of a chain, where sums are never seen: values go to `raw` as float16 first. */
struct bfp_ending {
    struct bfp_finish to; /* of a residual's row up to the next multiple of BFP_LANES is read */
    int rows;             /* of the row block, at most BFP_BLOCK */
    uint16_t *raw;        /* [pixel][rows, rounded up to BFP_LANES]; may be to.halves */
    size_t raw_stride;
};

/* A row block by some pixels, over parts in their order. */
struct bfp_convolution {
    int pixels, count, groups;
    const struct bfp_part *parts; /* [count] */
    const struct bfp_tile *tiles; /* of group g and part i at g * tiles_stride + i */
    size_t tiles_stride;
    uint8_t from_zero; /* what the elements store 0 as */
    int first;         /* sums begin at 0 */
    float *sums;       /* [pixel][BFP_BLOCK]: read unless `first`, written without `ending` */
    const struct bfp_ending *ending;
    int by_rows;        /* many weights meet few pixels */
    const int8_t *next; /* weights of the row block that may be needed next, to be fetched */
    size_t next_bytes;
};

struct bfp_kernels {
    const char *name;

    /* NULL, or called for every tile once its weights are in place, before it is multiplied: writes its
     * plan, and may lay its weights out anew. mantissa and zero are those of the blocks it will meet. */
    int plan_bytes;
    void (*prepare)(struct bfp_tile *tile, int mantissa, uint8_t zero);

    /* Rows of a group, 0 for BFP_GROUP_ROWS. */
    int group_rows;

    /* NULL, or what `multiply` and `finish` do at once, which are NULL then. Returns how many values
     * saturated. */
    uint64_t (*convolve)(const struct bfp_convolution *job);

    /* sums[pixel][row] = (first ? 0 : sums) + dot(x block, weights) * scales; one rounding a block.
     * x and x_scale: one pointer a pixel, to which `offset` bytes and `block` floats are added. */
    void (*multiply)(int pixels, const uint8_t *const *x, size_t offset, const float *const *x_scale,
                     size_t block, const struct bfp_tile *tile, float *sums, size_t sums_stride,
                     int first);

    /* End of a convolution for at most 128 rows of `pixels` pixels. Returns how many saturated. */
    uint64_t (*finish)(int pixels, int rows, const float *sums, size_t sums_stride,
                       const struct bfp_finish *to);

    /* Quantises 1 to 128 float16 channels. */
    void (*quantise)(const uint16_t *halves, int channels, int mantissa, uint8_t zero, uint8_t *block,
                     float *scale);

    /* For windows that share elements; all or none of these is NULL.
     * Quantises n float16 values by an exponent, 1 to 30, that none of those that matter exceeds. Writes
     * up to a multiple of BFP_BLOCK_ALIGN elements. */
    void (*quantise_as)(const uint16_t *halves, int n, int exponent, int mantissa, uint8_t zero,
                        uint8_t *elements);
    /* top[i] = max(top[i], |halves[i]|), as float16's bits. */
    void (*larger)(const uint16_t *halves, uint16_t *top, int n);
    /* top[i] = the largest of top[i] to top[i + length - 1], as far as there are n. */
    void (*slide)(uint16_t *top, int n, int length);

    /* The rest works on n float16 channels of one pixel; outputs are float16, -0 as +0. Counts are of
     * values that saturated. */
    uint64_t (*scale)(const uint16_t *x, const float *scale, const float *bias,
                      enum bfp_activation activation, uint16_t *out, int n);
    /* `scale`, then `quantise`, of 1 to 128 channels: their values are not kept. */
    uint64_t (*scale_block)(const uint16_t *x, const float *scale, const float *bias,
                            enum bfp_activation activation, int channels, int mantissa, uint8_t zero,
                            uint8_t *block, float *block_scale);
    uint64_t (*add)(const uint16_t *a, const uint16_t *b, enum bfp_activation activation,
                    uint16_t *out, int n);
    void (*activate)(const uint16_t *x, enum bfp_activation activation, uint16_t *out, int n);
    void (*maximum)(const uint16_t *const *x, int count, uint16_t *out, int n);
    void (*mean)(const uint16_t *const *x, int count, float factor, uint16_t *out, int n);
    void (*norm)(const uint16_t *x, const float *scale, uint16_t *out, int n);

    /* float32 <-> float16. to_half returns how many values are NaN or beyond float16. */
    uint64_t (*to_half)(const float *x, uint16_t *out, size_t n);
    void (*to_float)(const uint16_t *x, float *out, size_t n);
};

/* Bytes of a block of 1 to 128 channels in memory. */
static inline size_t bfp_block_bytes(int channels)
{
    return ((size_t)channels + BFP_BLOCK_ALIGN - 1) / BFP_BLOCK_ALIGN * BFP_BLOCK_ALIGN;
}

extern const struct bfp_kernels bfp_portable;
#if defined(EDGED_X86)
extern const struct bfp_kernels bfp_avx2, bfp_avxvnni, bfp_avx512vnni;
#elif defined(EDGED_ARM64)
extern const struct bfp_kernels bfp_neon;
#endif

/* The kernels of that name, the best this CPU has for NULL; NULL where there are none or this CPU
 * cannot run them. */
const struct bfp_kernels *bfp_select(const char *name);

/* Names of the kernels this CPU can run, best first, ended by NULL. */
const char *const *bfp_available(void);

#endif
