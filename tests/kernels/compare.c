/* compare [NAME...]: holds sets of kernels (all that this CPU has, or those named) to the portable one.
 *
 * Every function is called twice with the same random and extreme inputs, once of each set, and writes
 * into memory that was filled alike: afterwards all of it must be the same, what lies around the output
 * too. Inputs lie at the end of memory of their own, so that ASan sees what reads beyond them.
 *
 * Ends with 0 and a line a set; with 1 and the first difference; with 2 where a set cannot be run. With
 * REPEATS=n in the environment all is done n times, with EVERY=n only one case of n. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bfp/kernels.h"

#define MANY(array) ((int)(sizeof(array) / sizeof *(array)))

enum { PIXELS = 60, LARGEST = 1 << 16 };

static const int LENGTHS[] = {1,  2,  3,  7,  8,  9,   15,  16,  17,  19,  31, 32,
                              33, 47, 48, 63, 64, 65, 79, 96, 100, 112, 113, 127, 128};
static const int MANTISSAS[] = {2, 3, 5, 7};
static const enum bfp_activation ACTIVATIONS[] = {BFP_NONE, BFP_RELU, BFP_RELU6};

static const struct bfp_kernels *one; /* under test */
static int repeats = 1, every = 1;
static char about[200]; /* the call under way */

/* ------------------------------------------------------------------------------------ random inputs */

static uint64_t state = 0x9e3779b97f4a7c15;

static uint32_t random_bits(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static int random_below(int limit)
{
    return (int)(random_bits() % (uint32_t)limit);
}

static void *allocate(size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 64, bytes ? bytes : 1) != 0)
        abort();
    return memory;
}

enum fill { ZEROS, HIGHEST, LOWEST, ALTERNATING, SPARSE, OUTLIER, TINY, WIDE, ANY, FILLS };

/* A float16 that is finite; -0 as the memories have it: never. */
static uint16_t random_half(enum fill fill, int at)
{
    uint16_t half = (uint16_t)random_bits(), sign = half & 0x8000;
    int exponent = 13 + random_below(4);
    switch (fill) {
    case ZEROS:
        return 0;
    case HIGHEST:
        return 0x7bff;
    case LOWEST:
        return 0xfbff;
    case ALTERNATING:
        return at % 2 ? 0x7bff : 0xfbff;
    case SPARSE:
        exponent = random_below(4) ? 0 : 15;
        half = exponent ? half : 0;
        break;
    case OUTLIER:
        exponent = random_below(40) ? 10 : 30;
        break;
    case TINY:
        exponent = 0;
        break;
    case WIDE:
        exponent = random_below(31);
        break;
    default:
        break;
    }
    half = (uint16_t)(sign | (uint16_t)(exponent << 10) | (half & 0x3ff));
    return half == 0x8000 ? 0 : half;
}

static uint16_t *random_halves(int count, enum fill fill)
{
    uint16_t *halves = allocate(sizeof *halves * (size_t)count);
    for (int i = 0; i < count; i++)
        halves[i] = random_half(fill, i);
    return halves;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* What a sum may be: near zero, beyond float16, on the border of rounding. */
static float random_float(enum fill fill)
{
    static const float EDGES[] = {0.0f,     -0.0f,     65503.9f, 65519.9f,  65520.0f, -65520.0f,
                                  1e30f,    0x1p-25f,  -0x1p-26f, 0x1p-24f, 6.0f,     5.9999995f,
                                  0x1p-14f, 0x1.ffcp-15f, 2049.0f, -0x1p-149f};
    uint32_t bits = random_bits();
    if (fill == ZEROS)
        return bits & 1 ? 0.0f : -0.0f;
    if (fill == OUTLIER && random_below(3) == 0)
        return EDGES[random_below(MANY(EDGES))];
    if (fill == HIGHEST || fill == LOWEST)
        return fill == HIGHEST ? 1e6f : -1e6f;
    uint32_t exponent = fill == TINY ? 96 + bits % 20 : fill == WIDE ? 80 + bits % 64 : 122 + bits % 8;
    return float_of((random_bits() & 0x807fffff) | exponent << 23);
}

static float *random_floats(int count, enum fill fill)
{
    float *values = allocate(sizeof *values * (size_t)count);
    for (int i = 0; i < count; i++)
        values[i] = random_float(fill);
    return values;
}

/* ---------------------------------------------------------------------------------- what both wrote */

/* Memory for the outputs of a call, of the portable kernels and of the others. */
static uint8_t written[2][LARGEST];

static void clear(void)
{
    memset(written[0], 0xa5, LARGEST);
    memset(written[1], 0xa5, LARGEST);
}

static const struct bfp_kernels *set(int which)
{
    return which ? one : &bfp_portable;
}

static void must_be_same(uint64_t counted, uint64_t expected)
{
    if (counted != expected) {
        printf("%s: %s: counted %llu, expected %llu\n", one->name, about, (unsigned long long)counted,
               (unsigned long long)expected);
        exit(1);
    }
    if (memcmp(written[0], written[1], LARGEST) == 0)
        return; /* in a hundredth of the instructions, all of which may be emulated */
    for (int i = 0; i < LARGEST; i++)
        if (written[0][i] != written[1][i]) {
            printf("%s: %s: byte %d is %02x, expected %02x\n", one->name, about, i, written[1][i],
                   written[0][i]);
            exit(1);
        }
}

#define SAY(...) snprintf(about, sizeof about, __VA_ARGS__)

/* Whether this is no case that EVERY leaves. */
static int left_out(void)
{
    static unsigned cases;
    return cases++ % (unsigned)every != 0;
}

/* ------------------------------------------------------------------------------------- the functions */

static void compare_quantise(void)
{
    for (int m = 0; m < MANY(MANTISSAS); m++)
        for (int n = 1; n <= BFP_BLOCK; n++)
            for (int fill = 0; fill < FILLS; fill++) {
                if (left_out())
                    continue;
                uint16_t *halves = random_halves(n, (enum fill)fill);
                uint8_t zero = random_bits() & 1 ? 128 : 0;
                SAY("quantise, %d channels, %d bits, zero %d, fill %d", n, MANTISSAS[m], zero, fill);
                clear();
                for (int k = 0; k < 2; k++)
                    set(k)->quantise(halves, n, MANTISSAS[m], zero, written[k] + 64,
                                     (float *)written[k]);
                must_be_same(0, 0);
                free(halves);
            }
}

/* Values beyond the exponent become anything, so there are none. */
static void compare_windows(void)
{
    enum { MOST = 700 };
    for (int i = 0; one->quantise_as != NULL && i < 400; i++) {
        int n = i < 130 ? 1 + i : 1 + random_below(MOST), length = 1 + random_below(60);
        enum fill fill = (enum fill)random_below(FILLS);
        uint16_t *halves = random_halves(n, fill);
        int most = 1;
        for (int k = 0; k < n; k++)
            most = (halves[k] >> 10 & 31) > most ? halves[k] >> 10 & 31 : most;
        int exponent = most + random_below(31 - most), mantissa = MANTISSAS[random_below(4)];
        uint8_t zero = random_bits() & 1 ? 128 : 0;
        SAY("quantise_as, larger, slide, %d values, exponent %d, %d bits, %d long", n, exponent, mantissa,
            length);
        clear();
        for (int k = 0; k < 2; k++) {
            uint16_t *top = (uint16_t *)(written[k] + 2048);
            set(k)->quantise_as(halves, n, exponent, mantissa, zero, written[k] + 64);
            memset(written[k] + 64 + n, 0, BFP_BLOCK_ALIGN);
            memset(top, 0, sizeof *top * (size_t)n);
            set(k)->larger(halves, top, n);
            set(k)->larger(halves + n / 2, top, n - n / 2);
            set(k)->slide(top, n, length);
        }
        must_be_same(0, 0);
        free(halves);
    }
}

static int8_t random_weight(enum fill fill, int most, int at)
{
    switch (fill) {
    case ZEROS:
        return 0;
    case HIGHEST:
        return (int8_t)most;
    case LOWEST:
        return (int8_t)-most;
    case ALTERNATING:
        return (int8_t)(at % 2 ? most : -most);
    case SPARSE:
        return random_below(4) ? 0 : (int8_t)(random_below(2 * most + 1) - most);
    case TINY:
        return (int8_t)(random_below(3) - 1);
    case OUTLIER:
        return random_below(100) ? (int8_t)(random_below(most) / 2 - most / 4) : (int8_t)most;
    default:
        return (int8_t)(random_below(2 * most + 1) - most);
    }
}

/* A tile of random weights by random elements, two times: the second adds to the first. */
static void compare_multiply_of(int mantissa, int rows, int channels, int pixels, enum fill fill,
                                enum fill elements)
{
    if (left_out())
        return;
    enum { BLOCKS = 3, STRIDE = BFP_BLOCK + 16 };
    int most = (1 << mantissa) - 1, count = rows * channels;
    uint8_t zero = random_bits() & 1 ? 128 : 0;
    int8_t *weights = allocate((size_t)count);
    int32_t *start = allocate(sizeof *start * (size_t)rows);
    float *scale = allocate(sizeof *scale * (size_t)rows);
    uint8_t *memory = allocate((size_t)pixels * BLOCKS * BFP_BLOCK);
    float *scales = allocate(sizeof *scales * (size_t)pixels * BLOCKS);
    const uint8_t *x[PIXELS];
    const float *x_scale[PIXELS];
    for (int r = 0; r < rows; r++) {
        int sum = 0;
        for (int c = 0; c < channels; c++)
            sum += weights[(c / 4 * rows + r) * 4 + c % 4] = random_weight(fill, most, c / 2 + r);
        start[r] = -zero * sum;
        scale[r] = ldexpf(1, random_below(30) - 15);
    }
    for (int i = 0; i < pixels * BLOCKS * BFP_BLOCK; i++) {
        int q = random_weight(elements, most, i / 2);
        memory[i] = (uint8_t)(zero + (zero || q > 0 ? q : -q));
    }
    for (int i = 0; i < pixels * BLOCKS; i++)
        scales[i] = ldexpf(1, random_below(30) - 15);
    for (int p = 0; p < pixels; p++) {
        int from = random_below(pixels); /* not in order, as around the border of an image */
        x[p] = memory + from * BLOCKS * BFP_BLOCK;
        x_scale[p] = scales + from * BLOCKS;
    }
    SAY("multiply, %d bits, zero %d, %d rows, %d channels, %d pixels, fills %d %d", mantissa, zero,
        rows, channels, pixels, fill, elements);
    clear();
    for (int k = 0; k < 2; k++) {
        int8_t *laid_out = allocate((size_t)count);
        uint8_t *plan = allocate((size_t)(rows / BFP_LANES * set(k)->plan_bytes));
        struct bfp_tile tile = {.weights = laid_out, .scale = scale, .start = start, .rows = rows,
                                .channels = channels, .plan = plan};
        memcpy(laid_out, weights, (size_t)count);
        if (set(k)->prepare != NULL)
            set(k)->prepare(&tile, mantissa, zero);
        for (int block = 1; block < BLOCKS; block++)
            set(k)->multiply(pixels, x, (size_t)block * BFP_BLOCK, x_scale, (size_t)block, &tile,
                             (float *)written[k] + 16, STRIDE, block == 1);
        free(laid_out);
        free(plan);
    }
    must_be_same(0, 0);
    free(weights);
    free(start);
    free(scale);
    free(memory);
    free(scales);
}

static void compare_multiply(void)
{
    for (int m = 0; m < MANY(MANTISSAS); m++)
        for (int rows = BFP_LANES; rows <= BFP_GROUP_ROWS; rows += BFP_LANES) {
            for (int channels = BFP_STEP_ALIGN; channels <= BFP_BLOCK; channels += BFP_STEP_ALIGN)
                for (int i = 0; i < 4; i++)
                    compare_multiply_of(MANTISSAS[m], rows, channels, 1 + random_below(14),
                                        (enum fill)random_below(FILLS), (enum fill)random_below(FILLS));
            for (int fill = 0; fill < FILLS; fill++)
                for (int elements = 0; elements < FILLS; elements++)
                    compare_multiply_of(MANTISSAS[m], rows, BFP_BLOCK, 5, (enum fill)fill,
                                        (enum fill)elements);
        }
    for (int pixels = 1; pixels <= PIXELS; pixels++)
        compare_multiply_of(7, BFP_GROUP_ROWS, BFP_BLOCK, pixels, ANY, ANY);
}

static void compare_finish_of(int rows, int pixels, enum fill fill)
{
    if (left_out())
        return;
    enum { STRIDE = BFP_BLOCK };
    int padded = (rows + BFP_LANES - 1) / BFP_LANES * BFP_LANES, what = random_below(8);
    float *sums = random_floats(pixels * STRIDE, fill);
    float *bias = random_floats(padded, random_below(2) ? ANY : ZEROS); /* tiny sums stay tiny */
    uint16_t *residual = random_halves(pixels * rows, (enum fill)random_below(FILLS));
    uint64_t over[2];
    SAY("finish, %d rows, %d pixels, fill %d, kind %d", rows, pixels, fill, what);
    clear();
    struct bfp_finish to = {
        .bias = bias,
        .residual = what & 1 ? residual : NULL,
        .residual_stride = (size_t)rows,
        .activation = ACTIVATIONS[random_below(3)],
        .halves_stride = (size_t)rows + 5,
        .block_stride = BFP_BLOCK,
        .scale_stride = 3,
        .mantissa = MANTISSAS[random_below(4)],
        .zero = random_bits() & 1 ? 128 : 0,
    };
    for (int k = 0; k < 2; k++) {
        to.halves = what & 2 || !(what & 4) ? (uint16_t *)(written[k] + 30000) : NULL;
        to.block = what & 4 ? written[k] + 64 : NULL;
        to.scale = what & 4 ? (float *)(written[k] + 20000) : NULL;
        over[k] = set(k)->finish(pixels, rows, sums, STRIDE, &to);
    }
    must_be_same(over[1], over[0]);
    free(sums);
    free(bias);
    free(residual);
}

static void compare_finish(void)
{
    for (int rows = 1; rows <= BFP_BLOCK; rows++)
        for (int fill = 0; fill < FILLS; fill++)
            compare_finish_of(rows, 1 + random_below(6), (enum fill)fill);
    for (int i = 0; i < 60; i++)
        compare_finish_of(i % 2 ? 64 : 128, 1 + random_below(54), (enum fill)random_below(FILLS));
}

/* A row block of a convolution of some parts, in one go or two, held to multiply and finish. */
static void compare_convolve_of(int rows, int pixels, int count, enum fill fill)
{
    if (left_out())
        return;
    enum { PARTS = 5 };
    int mantissa = MANTISSAS[random_below(4)], most = (1 << mantissa) - 1, group = one->group_rows;
    int groups = (rows + group - 1) / group, what = random_below(16), split = random_below(count);
    int padded = (rows + BFP_LANES - 1) / BFP_LANES * BFP_LANES;
    uint8_t zero = random_bits() & 1 ? 128 : 0;
    int8_t *weights = allocate((size_t)count * BFP_BLOCK * BFP_BLOCK + 64);
    int32_t *starts = allocate(sizeof *starts * (size_t)count * BFP_BLOCK);
    float *scales = allocate(sizeof *scales * (size_t)count * BFP_BLOCK);
    uint8_t *memory = allocate((size_t)pixels * PARTS * BFP_BLOCK);
    static float part_scales[PARTS * BFP_PART_PIXELS], sums[2][BFP_PART_PIXELS * BFP_BLOCK];
    static uint16_t raw[BFP_PART_PIXELS * BFP_BLOCK];
    const uint8_t *x[BFP_PART_PIXELS];
    const float *x_scale[BFP_PART_PIXELS];
    struct bfp_tile tiles[BFP_BLOCK / BFP_LANES * PARTS];
    struct bfp_part parts[PARTS];
    int8_t *weight = weights;
    for (int g = 0; g < groups; g++)
        for (int i = 0; i < count; i++) {
            int first = g * group, all = padded - first < group ? padded - first : group;
            int channels = i % 2 ? 16 * (1 + random_below(8)) : BFP_BLOCK;
            if (g > 0)
                channels = tiles[i].channels;
            struct bfp_tile *tile = &tiles[g * count + i];
            *tile = (struct bfp_tile){.weights = weight, .scale = scales + i * BFP_BLOCK + first,
                                      .start = starts + i * BFP_BLOCK + first, .rows = all,
                                      .channels = channels};
            for (int r = 0; r < all; r++) {
                int sum = 0;
                for (int c = 0; c < channels; c++) {
                    int8_t w = first + r < rows ? random_weight(fill, most, c / 2 + r) : 0;
                    sum += weight[(c / 4 * all + r) * 4 + c % 4] = w;
                }
                starts[i * BFP_BLOCK + first + r] = -zero * sum;
                scales[i * BFP_BLOCK + first + r] = ldexpf(1, random_below(12) - 15);
            }
            weight += all * channels;
        }
    for (int i = 0; i < pixels * PARTS * BFP_BLOCK; i++) {
        int q = random_weight(ANY, most, i);
        memory[i] = (uint8_t)(zero + (zero || q > 0 ? q : -q));
    }
    for (int i = 0; i < PARTS * BFP_PART_PIXELS; i++)
        part_scales[i] = ldexpf(1, random_below(12) - 8);
    for (int p = 0; p < pixels; p++) {
        x[p] = memory + random_below(pixels) * PARTS * BFP_BLOCK;
        x_scale[p] = part_scales + p;
    }
    for (int i = 0; i < count; i++)
        parts[i] = (struct bfp_part){x, (size_t)i * BFP_BLOCK, part_scales + i * BFP_PART_PIXELS};
    float *bias = random_floats(padded, random_below(2) ? ANY : ZEROS);
    for (int r = rows; r < padded; r++)
        bias[r] = 0;
    uint16_t *residual = random_halves((pixels - 1) * rows + padded, ANY);
    int halves_apart = rows + 5;
    uint64_t over[2] = {0, 0};
    SAY("convolve, %d bits, zero %d, %d rows, %d pixels, %d parts, fill %d, kind %d", mantissa, zero,
        rows, pixels, count, fill, what);
    clear();
    struct bfp_finish to = {
        .bias = bias,
        .residual = what & 1 ? residual : NULL,
        .residual_stride = (size_t)rows,
        .activation = ACTIVATIONS[random_below(3)],
        .halves_stride = (size_t)halves_apart,
        .block_stride = BFP_BLOCK,
        .scale_stride = 3,
        .mantissa = MANTISSAS[random_below(4)],
        .zero = random_bits() & 1 ? 128 : 0,
    };
    for (int k = 0; k < 2; k++) {
        to.halves = what & 2 || !(what & 4) ? (uint16_t *)(written[k] + 30000) : NULL;
        to.block = what & 4 ? written[k] + 64 : NULL;
        to.scale = what & 4 ? (float *)(written[k] + 20000) : NULL;
        if (k == 0) {
            for (int g = 0; g < groups; g++)
                for (int i = 0; i < count; i++)
                    bfp_portable.multiply(pixels, x, (size_t)i * BFP_BLOCK, x_scale,
                                          (size_t)i * BFP_PART_PIXELS, &tiles[g * count + i],
                                          sums[0] + g * group, BFP_BLOCK, i == 0);
            over[0] = bfp_portable.finish(pixels, rows, sums[0], BFP_BLOCK, &to);
            continue;
        }
        struct bfp_ending ending = {to, rows, raw, BFP_BLOCK};
        if (to.halves != NULL && rows == padded) {
            ending.raw = to.halves;
            ending.raw_stride = to.halves_stride;
        }
        struct bfp_convolution job = {.pixels = pixels, .count = count, .groups = groups,
                                      .parts = parts, .tiles = tiles, .tiles_stride = (size_t)count,
                                      .from_zero = zero, .first = 1, .sums = sums[1],
                                      .by_rows = what >> 3, .next = weights, .next_bytes = 200};
        if (split > 0) {
            job.count = split;
            one->convolve(&job);
            job.first = 0;
            job.count = count - split;
            job.parts += split;
            job.tiles += split;
        }
        job.ending = &ending;
        over[1] = one->convolve(&job);
    }
    must_be_same(over[1], over[0]);
    free(weights);
    free(starts);
    free(scales);
    free(memory);
    free(bias);
    free(residual);
}

static void compare_convolve(void)
{
    for (int rows = 1; rows <= BFP_BLOCK; rows++)
        for (int i = 0; i < 12; i++)
            compare_convolve_of(rows, 1 + random_below(30), 1 + random_below(5),
                                (enum fill)random_below(FILLS));
    for (int pixels = 1; pixels <= BFP_PART_PIXELS; pixels++)
        compare_convolve_of(pixels % 2 ? 64 : 128, pixels, 2, ANY);
}

/* The functions on rows of n channels. */
static void compare_rows_of(int n, enum fill fill)
{
    enum { MOST = 9 };
    int padded = (n + BFP_LANES - 1) / BFP_LANES * BFP_LANES, count = 1 + random_below(MOST);
    uint16_t *x[MOST];
    for (int i = 0; i < MOST; i++)
        x[i] = random_halves(n, i < 2 ? fill : (enum fill)random_below(FILLS));
    float *scale = random_floats(padded, ANY), *bias = random_floats(padded, ANY);
    enum bfp_activation activation = ACTIVATIONS[random_below(3)];
    uint64_t over[2] = {0, 0};
    SAY("rows, %d channels, fill %d, %d of them, activation %d", n, fill, count, activation);
    clear();
    for (int k = 0; k < 2; k++) {
        uint16_t *out = (uint16_t *)written[k] + 8;
        size_t apart = (size_t)n + 8;
        over[k] += set(k)->scale(x[0], scale, bias, activation, out, n);
        over[k] += set(k)->add(x[0], x[1], activation, out += apart, n);
        set(k)->activate(x[0], activation, out += apart, n);
        set(k)->maximum((const uint16_t *const *)x, count, out += apart, n);
        set(k)->mean((const uint16_t *const *)x, count, 1.0f / (float)count, out += apart, n);
        set(k)->norm(x[0], NULL, out += apart, n);
        set(k)->norm(x[0], scale, out += apart, n);
        set(k)->to_float(x[0], (float *)(written[k] + 16384), (size_t)n);
    }
    must_be_same(over[1], over[0]);
    for (int i = 0; i < MOST; i++)
        free(x[i]);
    free(scale);
    free(bias);
}

/* Channels of one block that are scaled and quantised at once. */
static void compare_scale_block_of(int n, enum fill fill, int mantissa)
{
    int padded = (n + BFP_LANES - 1) / BFP_LANES * BFP_LANES;
    uint16_t *x = random_halves(n, fill);
    float *scale = random_floats(padded, ANY), *bias = random_floats(padded, ANY);
    enum bfp_activation activation = ACTIVATIONS[random_below(3)];
    uint8_t zero = activation == BFP_NONE ? 128 : 0;
    uint64_t over[2];
    SAY("scale_block, %d channels, fill %d, activation %d, %d bits", n, fill, activation, mantissa);
    clear();
    for (int k = 0; k < 2; k++)
        over[k] = set(k)->scale_block(x, scale, bias, activation, n, mantissa, zero, written[k] + 64,
                                      (float *)written[k]);
    must_be_same(over[1], over[0]);
    free(x);
    free(scale);
    free(bias);
}

static void compare_scale_block(void)
{
    for (int n = 1; n <= BFP_BLOCK; n++)
        for (int fill = 0; fill < FILLS; fill++)
            if (!left_out())
                compare_scale_block_of(n, (enum fill)fill, MANTISSAS[random_below(4)]);
}

static void compare_rows(void)
{
    for (int i = 0; i < MANY(LENGTHS); i++)
        for (int fill = 0; fill < FILLS; fill++) {
            compare_rows_of(LENGTHS[i], (enum fill)fill);
            compare_rows_of(LENGTHS[i] + BFP_BLOCK, (enum fill)fill);
        }
}

/* What arrives from outside may be anything at all. */
static void compare_to_half(void)
{
    for (int turn = 0; turn < 400; turn++) {
        int n = LENGTHS[turn % MANY(LENGTHS)];
        float *values = random_floats(n, (enum fill)(turn % FILLS));
        for (int i = 0; i < n; i++)
            if (turn % 3 == 0 && random_below(8) == 0)
                values[i] = float_of(random_bits() & 1 ? random_bits() : 0x7f800000 | random_bits() << 20);
        uint64_t bad[2];
        SAY("to_half, %d values, turn %d", n, turn);
        clear();
        for (int k = 0; k < 2; k++)
            bad[k] = set(k)->to_half(values, (uint16_t *)written[k] + 3, (size_t)n);
        must_be_same(bad[1], bad[0]);
        free(values);
    }
}

/* Every float16 there is, to float32 and back. */
static void compare_all_halves(void)
{
    for (int first = 0; first < 0x10000; first += 0x2000) {
        uint16_t *halves = allocate(0x2000 * sizeof *halves);
        for (int i = 0; i < 0x2000; i++)
            halves[i] = (uint16_t)((first + i) % 0x8000 < 0x7c00 ? first + i : 0);
        SAY("to_float, the 8,192 float16 from %d", first);
        clear();
        for (int k = 0; k < 2; k++)
            set(k)->to_float(halves, (float *)written[k], 0x2000);
        must_be_same(0, 0);
        for (int k = 0; k < 2; k++)
            set(k)->to_half((const float *)written[0], (uint16_t *)(written[k] + 0x8000), 0x2000);
        must_be_same(0, 0);
        free(halves);
    }
}

static void compare(const struct bfp_kernels *kernels)
{
    one = kernels;
    for (int i = 0; i < repeats; i++) {
        compare_quantise();
        compare_windows();
        if (kernels->convolve != NULL) {
            compare_convolve();
        } else {
            compare_multiply();
            compare_finish();
        }
        compare_rows();
        compare_scale_block();
        compare_to_half();
        compare_all_halves();
    }
    printf("%s equals portable\n", kernels->name);
}

static int number_in(const char *name)
{
    const char *given = getenv(name);
    return given != NULL && atoi(given) > 0 ? atoi(given) : 1;
}

int main(int argc, char **argv)
{
    repeats = number_in("REPEATS");
    every = number_in("EVERY");
    for (int i = 1; i < argc; i++) {
        const struct bfp_kernels *kernels = bfp_select(argv[i]);
        if (kernels == NULL) {
            printf("this CPU has no kernels %s\n", argv[i]);
            return 2;
        }
        compare(kernels);
    }
    for (const char *const *name = bfp_available(); argc == 1 && *name != NULL; name++)
        compare(bfp_select(*name));
    return 0;
}
