/* mv_mul chains: weights packed once, then panels of output pixels by blocks of 128 output channels.
 *
 * A work item is one panel and one row block (all row blocks with the expander, which forms the
 * panel's windows once). Within it, a tile of weights stays in the L1 cache while all pixels of the
 * panel pass, and the sums stay there until the end of the chain. The input is read where it lies:
 * per kernel position a pointer a pixel, to a row of zeros outside the image. */

#include <string.h>

#include "internal.h"

enum { GROUPS = BFP_BLOCK / BFP_GROUP_ROWS };

static int padded_rows(int rows)
{
    return ceil_div(rows, BFP_LANES) * BFP_LANES;
}

static int padded_channels(int channels)
{
    return ceil_div(channels, BFP_STEP_ALIGN) * BFP_STEP_ALIGN;
}

/* Rows of a group: 0 where the row block has only one. */
static int group_rows(int rows, int row_block, int group)
{
    int left = rows - row_block * BFP_BLOCK - group * BFP_GROUP_ROWS;
    return left < 0 ? 0 : smaller(left, BFP_GROUP_ROWS);
}

static struct bfp_tile *tile_at(const struct convolution *conv, int row_block, int group,
                                int position, int block)
{
    size_t position_at = (size_t)row_block * (size_t)conv->positions + (size_t)position;
    size_t group_at = position_at * GROUPS + (size_t)group;
    return conv->tiles + group_at * (size_t)conv->blocks + block;
}

struct packing {
    struct npu *npu;
    const struct npu_chain *chain;
    struct convolution *conv;
    int rows;
    uint8_t zero;
};

/* Quantises the weights of one tile, row by row, and lays them out in steps of 4 channels. */
static void pack_tile(const struct packing *packing, struct bfp_tile *tile, int first_row, int rows,
                      int position, int block)
{
    const struct convolution *conv = packing->conv;
    size_t length = (size_t)conv->positions * (size_t)conv->channels;
    int8_t *weights = (int8_t *)tile->weights;
    float *scales = (float *)tile->scale;
    int32_t *starts = (int32_t *)tile->start;
    int channels = smaller(conv->channels - block * BFP_BLOCK, BFP_BLOCK);
    for (int r = 0; r < tile->rows; r++) {
        uint8_t elements[BFP_BLOCK];
        int32_t sum = 0;
        if (r >= rows) {
            scales[r] = 0.0f; /* a row of padding: its weights are zero already */
            continue;
        }
        const uint16_t *row = packing->chain->weights + (size_t)(first_row + r) * length +
                              (size_t)position * (size_t)conv->channels + (size_t)block * BFP_BLOCK;
        packing->npu->kernels->quantise(row, channels, packing->npu->mantissa, 0, elements,
                                        &scales[r]);
        for (int c = 0; c < channels; c++) {
            int8_t q = (int8_t)elements[c];
            weights[(c / 4 * tile->rows + r) * 4 + c % 4] = q;
            sum += q;
        }
        starts[r] = -(int32_t)packing->zero * sum;
    }
    if (packing->npu->kernels->prepare != NULL)
        packing->npu->kernels->prepare(tile, packing->npu->mantissa, packing->zero);
}

static void pack_row_block(void *job, int row_block, int thread)
{
    const struct packing *packing = job;
    const struct convolution *conv = packing->conv;
    (void)thread;
    for (int group = 0; group < GROUPS; group++) {
        int rows = group_rows(packing->rows, row_block, group);
        int first = row_block * BFP_BLOCK + group * BFP_GROUP_ROWS;
        for (int position = 0; rows > 0 && position < conv->positions; position++)
            for (int block = 0; block < conv->blocks; block++)
                pack_tile(packing, tile_at(conv, row_block, group, position, block), first, rows,
                          position, block);
    }
}

/* Gives every tile its place, in the order in which `multiply` reads them: the kernels fetch the next
 * bytes ahead. Returns how many weights and rows that takes in all. */
static void lay_out(struct convolution *conv, int rows, size_t *weights, size_t *all_rows)
{
    *weights = *all_rows = 0;
    for (int row_block = 0; row_block < conv->row_blocks; row_block++)
        for (int position = 0; position < conv->positions; position++)
            for (int group = 0; group < GROUPS; group++)
                for (int block = 0; block < conv->blocks; block++) {
                    struct bfp_tile *tile = tile_at(conv, row_block, group, position, block);
                    int left = smaller(conv->channels - block * BFP_BLOCK, BFP_BLOCK);
                    tile->rows = padded_rows(group_rows(rows, row_block, group));
                    tile->channels = padded_channels(left);
                    if (conv->weights != NULL) {
                        tile->weights = conv->weights + *weights;
                        tile->scale = conv->scales + *all_rows;
                        tile->start = conv->starts + *all_rows;
                    }
                    *weights += (size_t)tile->rows * (size_t)tile->channels;
                    *all_rows += (size_t)tile->rows;
                }
}

static void divide_pixels(struct convolution *conv, int pixels)
{
    conv->panel = smaller(pixels, PANEL_PIXELS);
    conv->panels = ceil_div(pixels, conv->panel);
}

static int allocate(const struct npu *npu, struct convolution *conv, const struct npu_chain *chain)
{
    int rows = npu->maps[chain->target].map.channels;
    size_t weights, all_rows;
    conv->tiles = npu_allocate((size_t)conv->row_blocks * GROUPS * (size_t)conv->positions *
                                   (size_t)conv->blocks,
                               sizeof *conv->tiles);
    conv->bias = npu_allocate((size_t)conv->row_blocks * BFP_BLOCK, sizeof *conv->bias);
    if (conv->tiles == NULL || conv->bias == NULL)
        return 0;
    lay_out(conv, rows, &weights, &all_rows);
    conv->weights = npu_allocate(weights, 1);
    conv->scales = npu_allocate(all_rows, sizeof *conv->scales);
    conv->starts = npu_allocate(all_rows, sizeof *conv->starts);
    if (conv->weights == NULL || conv->scales == NULL || conv->starts == NULL)
        return 0;
    lay_out(conv, rows, &weights, &all_rows);
    npu->kernels->to_float(chain->bias, conv->bias, (size_t)rows);
    return 1;
}

struct convolution *npu_pack(struct npu *npu, const struct npu_chain *chain)
{
    const struct map_place *source = &npu->maps[chain->source], *target = &npu->maps[chain->target];
    int kernel = chain->kernel[0] * chain->kernel[1], channels = source->map.channels;
    struct convolution *conv = calloc(1, sizeof *conv);
    if (conv == NULL)
        return NULL;
    conv->positions = chain->expander ? 1 : kernel;
    conv->channels = chain->expander ? kernel * channels : channels;
    conv->blocks = ceil_div(conv->channels, BFP_BLOCK);
    conv->row_blocks = ceil_div(target->map.channels, BFP_BLOCK);
    divide_pixels(conv, pixels_of(&target->map));
    if (!allocate(npu, conv, chain)) {
        npu_free_convolution(conv);
        return NULL;
    }
    struct packing packing = {npu, chain, conv, target->map.channels, source->zero};
    pool_run(npu->pool, pack_row_block, &packing, conv->row_blocks);
    return conv;
}

void npu_free_convolution(struct convolution *conv)
{
    if (conv == NULL)
        return;
    free(conv->tiles);
    free(conv->weights);
    free(conv->scales);
    free(conv->starts);
    free(conv->bias);
    free(conv);
}

struct convolving {
    struct npu *npu;
    const struct step *step;
    const struct map_place *source, *target;
};

/* First source position of every output pixel of a panel. */
static void find_windows(const struct convolving *job, struct scratch *scratch, int first, int pixels)
{
    const struct npu_chain *chain = &job->step->chain;
    int width = job->target->map.width, y = first / width, x = first % width;
    for (int p = 0; p < pixels; p++) {
        scratch->top[p] = y * chain->stride[0] - chain->pads[0];
        scratch->left[p] = x * chain->stride[1] - chain->pads[1];
        if (++x == width) {
            x = 0;
            y++;
        }
    }
}

static void point_at(const struct convolving *job, struct scratch *scratch, int position, int pixels)
{
    const struct npu_chain *chain = &job->step->chain;
    const struct map_place *source = job->source;
    int dy = position / chain->kernel[1] * chain->dilation[0];
    int dx = position % chain->kernel[1] * chain->dilation[1];
    for (int p = 0; p < pixels; p++) {
        int y = scratch->top[p] + dy, x = scratch->left[p] + dx;
        int inside = y >= 0 && y < source->map.height && x >= 0 && x < source->map.width;
        size_t at = inside ? (size_t)y * (size_t)source->map.width + (size_t)x : 0;
        scratch->elements[p] = inside ? source->block + at * source->block_stride
                                      : job->npu->zero_row[source->zero != 0];
        scratch->element_scale[p] =
            inside ? source->scale + at * (size_t)source->blocks : job->npu->zero_scale;
    }
}

/* Copies in steps of 32 bytes: reads and writes up to COPY_STEP - 1 halves too many, for which the arena
 * and the window have room. */
static inline void copy_over(uint16_t *to, const uint16_t *from, size_t count)
{
    for (size_t i = 0; i < count; i += COPY_STEP)
        memcpy(to + i, from + i, COPY_STEP * sizeof *to);
}

/* Expander: the window of one output pixel, zeros outside the image. */
static void gather(const struct convolving *job, int top, int left, uint16_t *to)
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

/* Expander: the windows of a panel, quantised, in the thread's own memory. All are gathered before the
 * first is quantised, so that no load waits for the smaller stores before it. */
static void expand(const struct convolving *job, struct scratch *scratch, int pixels)
{
    const struct convolution *conv = job->step->convolution;
    size_t blocks = (size_t)conv->blocks, stride = blocks * BFP_BLOCK;
    for (int p = 0; p < pixels; p++)
        gather(job, scratch->top[p], scratch->left[p], scratch->windows + (size_t)p * stride);
    for (int p = 0; p < pixels; p++) {
        uint8_t *elements = scratch->window_blocks + (size_t)p * stride;
        float *scale = scratch->window_scales + (size_t)p * blocks;
        for (int block = 0; block < conv->blocks; block++)
            job->npu->kernels->quantise(scratch->windows + (size_t)p * stride + block * BFP_BLOCK,
                                        smaller(conv->channels - block * BFP_BLOCK, BFP_BLOCK),
                                        job->npu->mantissa, job->source->zero,
                                        elements + block * BFP_BLOCK, scale + block);
        scratch->elements[p] = elements;
        scratch->element_scale[p] = scale;
    }
}

static void multiply(const struct convolving *job, struct scratch *scratch, int row_block, int pixels)
{
    const struct convolution *conv = job->step->convolution;
    for (int position = 0; position < conv->positions; position++) {
        if (!job->step->chain.expander)
            point_at(job, scratch, position, pixels);
        for (int group = 0; group < GROUPS; group++) {
            const struct bfp_tile *tiles = tile_at(conv, row_block, group, position, 0);
            float *sums = scratch->sums + group * BFP_GROUP_ROWS;
            for (int block = 0; tiles->rows > 0 && block < conv->blocks; block++)
                job->npu->kernels->multiply(pixels, scratch->elements, (size_t)block * BFP_BLOCK,
                                            scratch->element_scale, (size_t)block, &tiles[block],
                                            sums, BFP_BLOCK, position == 0 && block == 0);
        }
    }
}

static void finish(const struct convolving *job, struct scratch *scratch, int row_block, int first,
                   int pixels)
{
    const struct npu_chain *chain = &job->step->chain;
    const struct map_place *target = job->target;
    size_t channels = (size_t)target->map.channels, row = (size_t)row_block * BFP_BLOCK;
    size_t at = (size_t)first * channels + row;
    struct bfp_finish to = {
        .bias = job->step->convolution->bias + row,
        .residual_stride = channels,
        .activation = chain->activation,
        .halves_stride = channels,
        .block_stride = target->block_stride,
        .scale_stride = (size_t)target->blocks,
        .mantissa = job->npu->mantissa,
        .zero = target->zero,
    };
    if (chain->other >= 0)
        to.residual = job->npu->maps[chain->other].halves + at;
    if (target->halves != NULL)
        to.halves = target->halves + at;
    if (target->block != NULL) {
        to.block = target->block + (size_t)first * target->block_stride + row;
        to.scale = target->scale + (size_t)first * (size_t)target->blocks + row_block;
    }
    scratch->saturated += job->npu->kernels->finish(
        pixels, smaller(target->map.channels - (int)row, BFP_BLOCK), scratch->sums, BFP_BLOCK, &to);
}

static void convolve_item(void *argument, int item, int thread)
{
    const struct convolving *job = argument;
    const struct convolution *conv = job->step->convolution;
    struct scratch *scratch = &job->npu->scratch[thread];
    int expander = job->step->chain.expander;
    int first = item % conv->panels * conv->panel, row_block = item / conv->panels;
    int pixels = smaller(conv->panel, pixels_of(&job->target->map) - first);
    int last = expander ? conv->row_blocks : row_block + 1;
    find_windows(job, scratch, first, pixels);
    if (expander)
        expand(job, scratch, pixels);
    for (; row_block < last; row_block++) {
        multiply(job, scratch, row_block, pixels);
        finish(job, scratch, row_block, first, pixels);
    }
}

void npu_convolve(struct npu *npu, const struct step *step)
{
    struct convolving job = {npu, step, &npu->maps[step->chain.source],
                             &npu->maps[step->chain.target]};
    int row_blocks = step->chain.expander ? 1 : step->convolution->row_blocks;
    pool_run(npu->pool, convolve_item, &job, row_blocks * step->convolution->panels);
}
