/* The expander: windows of a few channels, formed and quantised for one panel at a time (NPU.md 1.5).
 *
 * A window's blocks are quantised by their own largest value, but neighbouring windows share most
 * elements and nearly always the exponent too. So, where the kernels can and the source is not large,
 * the exponents of all windows' blocks are found first, by maxima that slide along the rows; then the
 * source is quantised once by each exponent that occurs, to a plane with a border of zeros; and a window
 * is put together from stretches of the planes' rows, as bytes.
 *
 * Else every window is gathered as float16 and quantised on its own. */

#include <string.h>

#include "internal.h"

enum {
    EXPONENTS = 31,         /* 1 to 30 occur */
    PLANES_LIMIT = 1 << 20, /* bytes of a plane at most */
    ROOM = 64               /* bytes that may be read or written beyond what is asked for */
};

/* Elements of a block that lie side by side in a row of the source. */
struct stretch {
    int block, at;   /* where they begin in the window's block */
    int row, from;   /* kernel row, element of that row */
    int count;
};

struct planes {
    int stretches, span;      /* elements of a row, with its border, that windows read */
    size_t row_bytes;
    struct stretch *stretch;
    uint8_t *zero_row;
    uint8_t *plane[EXPONENTS]; /* [row][row_bytes] */
    uint8_t *exponents;        /* [block][output pixel] */
    uint32_t *used;            /* [threads]: a bit an exponent */
    int occur[EXPONENTS], occurring;
};

struct expanding {
    struct npu *npu;
    const struct step *step;
    const struct map_place *source, *target;
    struct planes *planes;
};

static struct expanding make_job(struct npu *npu, const struct step *step)
{
    struct expanding job = {npu, step, &npu->maps[step->chain.source], &npu->maps[step->chain.target],
                            step->convolution->planes};
    return job;
}

/* ------------------------------------------------------------------------------------------- loading */

static void cut_window(const struct npu_chain *chain, int channels, struct planes *planes)
{
    int row_count = chain->kernel[1] * channels, n = 0;
    for (int row = 0; row < chain->kernel[0]; row++)
        for (int from = 0; from < row_count; n++) {
            int element = row * row_count + from, at = element % BFP_BLOCK;
            int count = smaller(row_count - from, BFP_BLOCK - at);
            planes->stretch[n] = (struct stretch){element / BFP_BLOCK, at, row, from, count};
            from += count;
        }
    planes->stretches = n;
}

/* Memory that is not touched until it is used: most exponents never are. */
static uint8_t *untouched(size_t bytes)
{
    return aligned_alloc(CACHE_LINE, (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
}

int npu_make_planes(const struct npu *npu, const struct npu_chain *chain, struct convolution *conv)
{
    const struct npu_map *source = &npu->maps[chain->source].map, *target = &npu->maps[chain->target].map;
    int64_t span = (int64_t)((target->width - 1) * (int64_t)chain->stride[1] + chain->kernel[1]) *
                   source->channels;
    if (npu->kernels->quantise_as == NULL || chain->dilation[1] != 1 || conv->blocks > EXPANDER_BLOCKS ||
        (span + ROOM) * source->height > PLANES_LIMIT)
        return 1;
    struct planes *planes = conv->planes = calloc(1, sizeof *planes);
    if (planes == NULL)
        return 0;
    planes->span = (int)span;
    planes->row_bytes = ((size_t)span + ROOM + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    size_t bytes = planes->row_bytes * (size_t)source->height, pixels = (size_t)pixels_of(target);
    planes->stretch = calloc((size_t)(chain->kernel[0] + conv->blocks), sizeof *planes->stretch);
    planes->zero_row = npu_allocate(planes->row_bytes, 1);
    planes->exponents = npu_allocate((size_t)conv->blocks * pixels, 1);
    planes->used = npu_allocate((size_t)pool_threads(npu->pool) * CACHE_LINE, 1);
    int done = planes->stretch != NULL && planes->zero_row != NULL && planes->exponents != NULL &&
               planes->used != NULL;
    for (int e = 1; e < EXPONENTS; e++)
        done &= (planes->plane[e] = untouched(bytes)) != NULL;
    if (!done)
        return 0;
    memset(planes->zero_row, npu->maps[chain->source].zero, planes->row_bytes);
    cut_window(chain, source->channels, planes);
    return 1;
}

size_t npu_line_halves(const struct planes *planes)
{
    return planes != NULL ? planes->row_bytes : 0;
}

void npu_free_planes(struct planes *planes)
{
    if (planes == NULL)
        return;
    free(planes->stretch);
    free(planes->zero_row);
    free(planes->exponents);
    free(planes->used);
    for (int e = 0; e < EXPONENTS; e++)
        free(planes->plane[e]);
    free(planes);
}

/* --------------------------------------------------------------------------------- exponents, planes */

/* Elements of a source row that lie in the planes: how many, behind a border of how many. */
static int inside(const struct expanding *job, int *border)
{
    const struct npu_map *map = &job->source->map;
    *border = smaller(job->step->chain.pads[1] * map->channels, job->planes->span);
    return smaller(map->width * map->channels, job->planes->span - *border);
}

static const uint16_t *row_at(const struct expanding *job, int y)
{
    const struct npu_map *map = &job->source->map;
    return job->source->halves + (size_t)y * (size_t)map->width * (size_t)map->channels;
}

/* The largest magnitude in each window's part of some stretches of one place and length: first of the
 * rows above each other, then along. */
static void slide(const struct expanding *job, struct scratch *scratch, int top, int first, int last)
{
    const struct npu_chain *chain = &job->step->chain;
    const struct stretch *stretch = &job->planes->stretch[first];
    const struct bfp_kernels *kernels = job->npu->kernels;
    int border, count = inside(job, &border);
    memset(scratch->line, 0, job->planes->row_bytes * sizeof *scratch->line);
    for (int i = first; i < last; i++) {
        int y = top + job->planes->stretch[i].row * chain->dilation[0];
        if (y >= 0 && y < job->source->map.height)
            kernels->larger(row_at(job, y), scratch->line + border, count);
    }
    int span = job->planes->span;
    kernels->slide(scratch->line + stretch->from, span - stretch->from, stretch->count);
    kernels->larger(scratch->line + stretch->from, scratch->largest, span - stretch->from);
}

static uint8_t *exponents_of(const struct expanding *job, int block, int y)
{
    const struct npu_map *target = &job->target->map;
    return job->planes->exponents + (size_t)block * (size_t)pixels_of(target) +
           (size_t)y * (size_t)target->width;
}

/* Exponents of the windows of one output row. */
static void find_exponents_item(void *argument, int y, int thread)
{
    const struct expanding *job = argument;
    const struct npu_chain *chain = &job->step->chain;
    struct planes *planes = job->planes;
    struct scratch *scratch = &job->npu->scratch[thread];
    int width = job->target->map.width, step = chain->stride[1] * job->source->map.channels;
    int top = y * chain->stride[0] - chain->pads[0];
    uint32_t used = 0;
    for (int i = 0; i < planes->stretches;) {
        const struct stretch *first = &planes->stretch[i];
        uint8_t *exponents = exponents_of(job, first->block, y);
        memset(scratch->largest, 0, planes->row_bytes * sizeof *scratch->largest);
        for (; i < planes->stretches && planes->stretch[i].block == first->block;) {
            const struct stretch *next = &planes->stretch[i];
            int end = i + 1;
            while (end < planes->stretches && planes->stretch[end].block == first->block &&
                   planes->stretch[end].from == next->from && planes->stretch[end].count == next->count)
                end++;
            slide(job, scratch, top, i, end);
            i = end;
        }
        for (int x = 0; x < width; x++) {
            int exponent = scratch->largest[x * step] >> 10;
            exponent = exponent < 1 ? 1 : exponent; /* a subnormal counts as 1 */
            exponents[x] = (uint8_t)exponent;
            used |= 1u << exponent;
        }
    }
    planes->used[(size_t)thread * (CACHE_LINE / sizeof *planes->used)] |= used;
}

static void quantise_row_item(void *argument, int item, int thread)
{
    const struct expanding *job = argument;
    struct planes *planes = job->planes;
    int y = item % job->source->map.height;
    int exponent = planes->occur[item / job->source->map.height];
    int border, count = inside(job, &border);
    uint8_t *to = planes->plane[exponent] + (size_t)y * planes->row_bytes;
    (void)thread;
    memset(to, job->source->zero, (size_t)border);
    job->npu->kernels->quantise_as(row_at(job, y), count, exponent, job->npu->mantissa,
                                   job->source->zero, to + border);
    memset(to + border + count, job->source->zero, planes->row_bytes - (size_t)(border + count));
}

void npu_prepare_expander(struct npu *npu, const struct step *step)
{
    struct expanding job = make_job(npu, step);
    struct planes *planes = job.planes;
    uint32_t used = 0;
    if (planes == NULL)
        return;
    pool_run(npu->pool, find_exponents_item, &job, job.target->map.height);
    for (int t = 0; t < pool_threads(npu->pool); t++) {
        uint32_t *of_thread = &planes->used[(size_t)t * (CACHE_LINE / sizeof *planes->used)];
        used |= *of_thread;
        *of_thread = 0;
    }
    planes->occurring = 0;
    for (int e = 1; e < EXPONENTS; e++)
        if (used >> e & 1)
            planes->occur[planes->occurring++] = e;
    pool_run(npu->pool, quantise_row_item, &job, planes->occurring * job.source->map.height);
}

/* ------------------------------------------------------------------------------------ windows of a panel */

/* Bytes from window to window in the thread's memory: what is copied beyond a window's end may not reach
 * the next one, which is there already. */
static size_t window_bytes(const struct convolution *conv)
{
    return (size_t)conv->blocks * BFP_BLOCK + ROOM;
}

/* Copies in steps: reads and writes up to ROOM / 2 bytes too many, for which there is room. */
static inline void copy_bytes(uint8_t *to, const uint8_t *from, int count)
{
    for (int i = 0; i < count; i += ROOM / 2)
        memcpy(to + i, from + i, ROOM / 2);
}

static float scale_of(int exponent, int mantissa)
{
    uint32_t bits = (uint32_t)(127 + exponent - 15 - (mantissa - 1)) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

/* The windows of some pixels of an output row, a stretch after the other. What lies beyond a window's
 * last element meets weights of 0. */
static void put_together(const struct expanding *job, struct scratch *scratch, int p, int y, int x,
                         int count)
{
    const struct npu_chain *chain = &job->step->chain;
    const struct planes *planes = job->planes;
    size_t blocks = (size_t)job->step->convolution->blocks;
    size_t step = window_bytes(job->step->convolution);
    size_t apart = (size_t)(chain->stride[1] * job->source->map.channels);
    for (int i = 0; i < planes->stretches; i++) {
        const struct stretch *s = &planes->stretch[i];
        const uint8_t *exponents = exponents_of(job, s->block, y) + x;
        int row = y * chain->stride[0] - chain->pads[0] + s->row * chain->dilation[0];
        int outside = row < 0 || row >= job->source->map.height;
        size_t from = outside ? 0 : (size_t)row * planes->row_bytes;
        from += (size_t)x * apart + (size_t)s->from;
        uint8_t *to = scratch->window_blocks + (size_t)p * step + s->block * BFP_BLOCK + s->at;
        for (int k = 0; k < count; k++, from += apart, to += step)
            copy_bytes(to, (outside ? planes->zero_row : planes->plane[exponents[k]]) + from, s->count);
    }
    for (size_t b = 0; b < blocks; b++)
        for (int k = 0; k < count; k++)
            scratch->window_scales[(size_t)(p + k) * blocks + b] =
                scale_of(exponents_of(job, (int)b, y)[x + k], job->npu->mantissa);
}

static void expand_from_planes(const struct expanding *job, struct scratch *scratch, int first, int pixels)
{
    int width = job->target->map.width, y = first / width, x = first % width;
    for (int p = 0; p < pixels; y++, x = 0) {
        int count = smaller(width - x, pixels - p);
        put_together(job, scratch, p, y, x, count);
        p += count;
    }
}

/* Copies in steps of 32 bytes: reads and writes up to COPY_STEP - 1 halves too many, for which the arena
 * and the window have room. */
static inline void copy_over(uint16_t *to, const uint16_t *from, size_t count)
{
    for (size_t i = 0; i < count; i += COPY_STEP)
        memcpy(to + i, from + i, COPY_STEP * sizeof *to);
}

/* The window of one output pixel, zeros outside the image. */
static void gather(const struct expanding *job, int top, int left, uint16_t *to)
{
    const struct npu_chain *chain = &job->step->chain;
    const struct npu_map *map = &job->source->map;
    size_t channels = (size_t)map->channels, row_count = (size_t)chain->kernel[1] * channels;
    int together = chain->dilation[1] == 1 && left >= 0 && left + chain->kernel[1] <= map->width;
    for (int ky = 0; ky < chain->kernel[0]; ky++, to += row_count) {
        int y = top + ky * chain->dilation[0];
        if (y < 0 || y >= map->height) {
            memset(to, 0, row_count * sizeof *to);
            continue;
        }
        const uint16_t *row = job->source->halves + (size_t)y * (size_t)map->width * channels;
        if (together) {
            copy_over(to, row + (size_t)left * channels, row_count);
            continue;
        }
        for (int kx = 0; kx < chain->kernel[1]; kx++) {
            int x = left + kx * chain->dilation[1];
            uint16_t *at = to + (size_t)kx * channels;
            if (x >= 0 && x < map->width)
                memcpy(at, row + (size_t)x * channels, channels * sizeof *to);
            else
                memset(at, 0, channels * sizeof *to);
        }
    }
}

/* All are gathered before the first is quantised, so that no load waits for the smaller stores before
 * it. */
static void expand_one_by_one(const struct expanding *job, struct scratch *scratch, int first, int pixels)
{
    const struct convolution *conv = job->step->convolution;
    const struct npu_chain *chain = &job->step->chain;
    size_t blocks = (size_t)conv->blocks, stride = blocks * BFP_BLOCK;
    int width = job->target->map.width;
    for (int p = 0; p < pixels; p++)
        gather(job, (first + p) / width * chain->stride[0] - chain->pads[0],
               (first + p) % width * chain->stride[1] - chain->pads[1],
               scratch->windows + (size_t)p * stride);
    for (int p = 0; p < pixels; p++)
        for (int block = 0; block < conv->blocks; block++)
            job->npu->kernels->quantise(
                scratch->windows + (size_t)p * stride + block * BFP_BLOCK,
                smaller(conv->channels - block * BFP_BLOCK, BFP_BLOCK), job->npu->mantissa,
                job->source->zero,
                scratch->window_blocks + (size_t)p * window_bytes(conv) + block * BFP_BLOCK,
                scratch->window_scales + (size_t)p * blocks + block);
}

void npu_expand(struct npu *npu, const struct step *step, struct scratch *scratch, int first, int pixels)
{
    struct expanding job = make_job(npu, step);
    size_t blocks = (size_t)step->convolution->blocks;
    if (job.planes != NULL)
        expand_from_planes(&job, scratch, first, pixels);
    else
        expand_one_by_one(&job, scratch, first, pixels);
    for (int p = 0; p < pixels; p++) {
        scratch->elements[p] = scratch->window_blocks + (size_t)p * window_bytes(step->convolution);
        scratch->element_scale[p] = scratch->window_scales + (size_t)p * blocks;
    }
}
