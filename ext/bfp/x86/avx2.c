/* Kernels for AVX2 with FMA, F16C and POPCNT.
 *
 * The dot product of four channels is vpmaddubsw (bytes x times bytes w, unsigned by signed, neighbours
 * added to 16 bits with saturation) and vpmaddwd by ones (neighbours added to 32 bits). Both are
 * multiplications to the processor, of which it does two a cycle at best, so the second is done once for
 * a group of up to four steps, whose 16-bit sums are added first.
 *
 * Why nothing saturates or wraps. Elements in memory are 0 to top = zero + 2^m - 1: q is 0 to 2^m - 1
 * where zero is 0, and -(2^m - 1) to 2^m - 1 where zero is 128. A 16-bit lane sums x * w over two
 * channels of each step of its group. As no x is negative, that sum and all sums on the way to it, in any
 * order, lie between -top * N and top * P, where P and N are the sums of its positive weights and of its
 * negative ones' magnitudes. `prepare` puts steps together only where top * P and top * N are at most
 * 32767 in every lane, so the choice is made from the weights alone and holds for any elements. A step by
 * itself fits whatever its weights are, except in the last of these cases:
 *
 *   m = 7, zero 0      top 127: 2 * 127 * 127 = 32258
 *   m = 5, zero 128    top 159: 2 * 159 * 31 = 9858; with zero 0, top 31: 1922
 *   m = 3 and 2        top at most 135 and 131: 2 * 135 * 7 = 1890; 2 * 131 * 3 = 786
 *   m = 7, zero 128    top 255: 2 * 255 * 127 = 64770
 *
 * Where a step does not fit, signs are moved in all of its slice: q * w = |q| * (w with the sign of q),
 * both at most 127, and the first bound holds. q and w are never -128, which has no opposite.
 *
 * Which steps are put together is free: sums of integers do not depend on their order. Weights of trained
 * and of random networks nearly all go in threes and fours. */

#include "ymm.inc"

enum {
    PIXELS = 4,
    STEPS = BFP_BLOCK / 4,
    TOGETHER = 4, /* steps of a group at most */
    STEP_BYTES = 4 * BFP_LANES
};

/* How a slice of BFP_LANES rows is taken: groups of 1, 2, 3 and 4 steps, the largest first; none at all
 * where signs are moved. Its weights lie in this order, `channel` says which elements belong to them. */
struct plan {
    uint8_t groups[TOGETHER + 1];
    uint8_t channel[STEPS];
};

/* For each 16-bit lane of BFP_LANES rows, the sum of its positive weights and minus the negative ones'. */
struct sums {
    __m256i lanes[4];
};

INLINE struct sums sums_of(const int8_t *weights)
{
    const __m256i ones = _mm256_set1_epi8(1), none = _mm256_setzero_si256();
    struct sums sums;
    UNROLL for (int v = 0; v < 2; v++) {
        __m256i w = _mm256_load_si256((const __m256i *)(weights + 32 * v));
        __m256i negated = _mm256_sub_epi8(none, w);
        sums.lanes[2 * v] = _mm256_maddubs_epi16(ones, _mm256_max_epi8(w, none));
        sums.lanes[2 * v + 1] = _mm256_maddubs_epi16(ones, _mm256_max_epi8(negated, none));
    }
    return sums;
}

INLINE struct sums add_sums(struct sums a, const struct sums *b)
{
    UNROLL for (int i = 0; i < 4; i++)
        a.lanes[i] = _mm256_add_epi16(a.lanes[i], b->lanes[i]);
    return a;
}

INLINE int largest_sum(const struct sums *of)
{
    __m256i a = _mm256_max_epu16(of->lanes[0], of->lanes[1]);
    return (int)largest_of(_mm256_max_epu16(a, _mm256_max_epu16(of->lanes[2], of->lanes[3])));
}

/* Steps of a slice in groups, while they are made. */
struct grouping {
    int count;
    int sizes[STEPS];
    uint8_t steps[STEPS][TOGETHER];
    struct sums sums[STEPS];
};

/* Puts a step into the first group that has room for it. */
static void put_step(struct grouping *to, int step, const struct sums *sums, int most)
{
    for (int group = 0; group < to->count; group++) {
        struct sums with = add_sums(*sums, &to->sums[group]);
        if (to->sizes[group] == TOGETHER || largest_sum(&with) > most)
            continue;
        to->steps[group][to->sizes[group]++] = (uint8_t)step;
        to->sums[group] = with;
        return;
    }
    to->sizes[to->count] = 1;
    to->steps[to->count][0] = (uint8_t)step;
    to->sums[to->count++] = *sums;
}

/* Steps with large weights first: small ones find room between them. Returns 0 if one does not fit. */
static int group_steps(const int8_t *weights, long stride, int count, int most, struct grouping *to)
{
    struct sums sums[STEPS];
    int largest[STEPS], order[STEPS];
    for (int step = 0; step < count; step++) {
        int at = step;
        sums[step] = sums_of(weights + step * stride);
        largest[step] = largest_sum(&sums[step]);
        if (largest[step] > most)
            return 0;
        for (; at > 0 && largest[order[at - 1]] < largest[step]; at--)
            order[at] = order[at - 1];
        order[at] = step;
    }
    to->count = 0;
    for (int i = 0; i < count; i++)
        put_step(to, order[i], &sums[order[i]], most);
    return 1;
}

/* Writes the plan, larger groups first, and lays the slice's weights out by it. */
static void follow(const struct grouping *grouping, int8_t *weights, long stride, struct plan *plan)
{
    int8_t moved[STEPS][STEP_BYTES];
    int to = 0;
    for (int size = TOGETHER; size > 0; size--)
        for (int group = 0; group < grouping->count; group++) {
            if (grouping->sizes[group] != size)
                continue;
            plan->groups[size]++;
            for (int i = 0; i < size; i++, to++) {
                int step = grouping->steps[group][i];
                plan->channel[to] = (uint8_t)(4 * step);
                memcpy(moved[to], weights + step * stride, STEP_BYTES);
            }
        }
    for (int i = 0; i < to; i++)
        memcpy(weights + i * stride, moved[i], STEP_BYTES);
}

static void prepare(struct bfp_tile *tile, int mantissa, uint8_t zero)
{
    int most = INT16_MAX / (zero + (1 << mantissa) - 1);
    struct plan *plan = (struct plan *)tile->plan;
    struct grouping grouping;
    for (int row = 0; row < tile->rows; row += BFP_LANES, plan++) {
        int8_t *weights = (int8_t *)tile->weights + 4 * row;
        memset(plan, 0, sizeof *plan);
        if (group_steps(weights, 4L * tile->rows, tile->channels / 4, most, &grouping))
            follow(&grouping, weights, 4L * tile->rows, plan);
    }
}

/* 16-bit sums one after the other: gcc 12 would add them as a tree, for which there are no registers. */
INLINE __m256i add_16(__m256i a, __m256i b)
{
    __asm__ volatile("vpaddw %1, %0, %0" : "+x"(a) : "x"(b));
    return a;
}

/* Where a slice's weights are read. */
struct reader {
    const int8_t *weights;
    const uint8_t *channel;
    long step;
};

/* So many groups of `steps` steps. */
INLINE void multiply_groups(const int steps, const int pixels, int groups, const uint8_t *const *x,
                            struct reader *at, __m256i dot[][2])
{
    const __m256i ones = _mm256_set1_epi16(1);
    for (; groups > 0; groups--, at->weights += steps * at->step, at->channel += steps) {
        __m256i sums[PIXELS][2];
        UNROLL for (int i = 0; i < steps; i++) {
            const int8_t *weights = at->weights + i * at->step;
            __m256i low = _mm256_load_si256((const __m256i *)weights);
            __m256i high = _mm256_load_si256((const __m256i *)(weights + 32));
            size_t channel = at->channel[i];
            UNROLL for (int p = 0; p < pixels; p++) {
                __m256i elements = broadcast_4(x[p] + channel);
                __m256i product = _mm256_maddubs_epi16(elements, low);
                sums[p][0] = i == 0 ? product : add_16(sums[p][0], product);
                product = _mm256_maddubs_epi16(elements, high);
                sums[p][1] = i == 0 ? product : add_16(sums[p][1], product);
            }
        }
        UNROLL for (int p = 0; p < pixels; p++)
            UNROLL for (int v = 0; v < 2; v++)
                dot[p][v] = _mm256_add_epi32(dot[p][v], _mm256_madd_epi16(sums[p][v], ones));
    }
}

INLINE void multiply_plan(const int pixels, int turns, const uint8_t *const *x_of,
                          const float *const *x_scale, struct slice *at)
{
    const struct plan *plan = (const struct plan *)at->plan;
    for (; turns > 0; turns--, x_of += pixels, x_scale += pixels) {
        struct reader reader = {at->weights, plan->channel, at->step};
        __m256i dot[PIXELS][2];
        const uint8_t *x[PIXELS];
        fetch_ahead(at);
        UNROLL for (int p = 0; p < pixels; p++) {
            x[p] = x_of[p] + at->offset;
            UNROLL for (int v = 0; v < 2; v++)
                dot[p][v] = _mm256_loadu_si256((const __m256i *)(at->start + 8 * v));
        }
        multiply_groups(4, pixels, plan->groups[4], x, &reader, dot);
        multiply_groups(3, pixels, plan->groups[3], x, &reader, dot);
        multiply_groups(2, pixels, plan->groups[2], x, &reader, dot);
        multiply_groups(1, pixels, plan->groups[1], x, &reader, dot);
        keep_sums(pixels, dot, x_scale, at);
    }
}

/* For a slice without groups, where elements are q + 128. `start` makes up for that 128 and has no part
 * here. */
INLINE void multiply_signed(const int pixels, int turns, const uint8_t *const *x_of,
                            const float *const *x_scale, struct slice *at)
{
    const __m256i ones = _mm256_set1_epi16(1), zero = _mm256_set1_epi8((char)128);
    for (; turns > 0; turns--, x_of += pixels, x_scale += pixels) {
        __m256i dot[PIXELS][2];
        const uint8_t *x[PIXELS];
        const int8_t *weights = at->weights;
        fetch_ahead(at);
        UNROLL for (int p = 0; p < pixels; p++) {
            x[p] = x_of[p] + at->offset;
            dot[p][0] = dot[p][1] = _mm256_setzero_si256();
        }
        for (long c = 0; c < at->channels; c += 4, weights += at->step) {
            __m256i w[2];
            UNROLL for (int v = 0; v < 2; v++)
                w[v] = _mm256_load_si256((const __m256i *)(weights + 32 * v));
            UNROLL for (int p = 0; p < pixels; p++) {
                __m256i q = _mm256_xor_si256(broadcast_4(x[p] + c), zero);
                __m256i magnitude = _mm256_abs_epi8(q);
                UNROLL for (int v = 0; v < 2; v++) {
                    __m256i sums = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(w[v], q));
                    dot[p][v] = _mm256_add_epi32(dot[p][v], _mm256_madd_epi16(sums, ones));
                }
            }
        }
        keep_sums(pixels, dot, x_scale, at);
    }
}

#define DEFINE(PIXELS)                                                                             \
    static void multiply_##PIXELS(int turns, const uint8_t *const *x, const float *const *x_scale, \
                                  struct slice *at)                                                \
    {                                                                                              \
        const uint8_t *groups = ((const struct plan *)at->plan)->groups;                           \
        if (groups[1] + groups[2] + groups[3] + groups[4] > 0)                                     \
            multiply_plan(PIXELS, turns, x, x_scale, at);                                          \
        else                                                                                       \
            multiply_signed(PIXELS, turns, x, x_scale, at);                                        \
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
    multiply_by(by_pixels, PIXELS, sizeof(struct plan), pixels, x, offset, x_scale, block, tile, sums,
                sums_stride, first);
}

const struct bfp_kernels bfp_avx2 = {
    .name = "avx2",
    .plan_bytes = sizeof(struct plan),
    .prepare = prepare,
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
