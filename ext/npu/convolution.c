/* mv_mul chains: weights packed once, then panels of output pixels by blocks of 128 output channels.
 *
 * A work item is one panel and one row block (all row blocks with the expander, which forms the
 * panel's windows once). Within it, a tile of weights stays in the L1 cache while all pixels of the
 * panel pass, and the sums stay there until the end of the chain. The input is read where it lies:
 * per kernel position a pointer a pixel, to a row of zeros outside the image. */

#include <string.h>

#include "internal.h"

static int padded_rows(int rows)
{
    return ceil_div(rows, BFP_LANES) * BFP_LANES;
}

static int padded_channels(int channels)
{
    return ceil_div(channels, BFP_STEP_ALIGN) * BFP_STEP_ALIGN;
}

/* Rows of a group: 0 where the row block has no such group. */
static int group_rows(const struct convolution *conv, int row_block, int group)
{
    int left = conv->rows - row_block * BFP_BLOCK - group * conv->group_rows;
    return left < 0 ? 0 : smaller(left, conv->group_rows);
}

static int groups_of(const struct convolution *conv)
{
    return BFP_BLOCK / conv->group_rows;
}

/* Tiles of a group of rows: one a kernel position and block of channels, in the order of addition. */
static int parts_of(const struct convolution *conv)
{
    return conv->positions * conv->blocks;
}

static struct bfp_tile *tile_at(const struct convolution *conv, int row_block, int group, int part)
{
    size_t group_at = (size_t)row_block * (size_t)groups_of(conv) + (size_t)group;
    return conv->tiles + group_at * (size_t)parts_of(conv) + part;
}

struct packing {
    struct npu *npu;
    const struct npu_chain *chain;
    struct convolution *conv;
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
    for (int group = 0; group < groups_of(conv); group++) {
        int rows = group_rows(conv, row_block, group);
        int first = row_block * BFP_BLOCK + group * conv->group_rows;
        for (int part = 0; rows > 0 && part < parts_of(conv); part++)
            pack_tile(packing, tile_at(conv, row_block, group, part), first, rows,
                      part / conv->blocks, part % conv->blocks);
    }
}

static void place_tile(struct convolution *conv, int row_block, int group, int part, size_t *weights,
                       size_t *all_rows)
{
    struct bfp_tile *tile = tile_at(conv, row_block, group, part);
    int left = smaller(conv->channels - part % conv->blocks * BFP_BLOCK, BFP_BLOCK);
    tile->rows = padded_rows(group_rows(conv, row_block, group));
    tile->channels = padded_channels(left);
    if (conv->weights != NULL) {
        tile->weights = conv->weights + *weights;
        tile->scale = conv->scales + *all_rows;
        tile->start = conv->starts + *all_rows;
        tile->plan = conv->plans + *all_rows / BFP_LANES * conv->plan_bytes;
    }
    *weights += (size_t)tile->rows * (size_t)tile->channels;
    *all_rows += (size_t)tile->rows;
}

/* Gives every tile its place, in the order in which they are read: the kernels fetch the next bytes
 * ahead. Returns how many weights and rows that takes in all. */
static void lay_out(struct convolution *conv, size_t *weights, size_t *all_rows)
{
    *weights = *all_rows = 0;
    for (int row_block = 0; row_block < conv->row_blocks; row_block++)
        for (int first = 0; first < parts_of(conv); first += conv->chunk)
            for (int group = 0; group < groups_of(conv); group++)
                for (int part = first; part < smaller(first + conv->chunk, parts_of(conv)); part++)
                    place_tile(conv, row_block, group, part, weights, all_rows);
}

/* How many parts are taken in one go: where the kernels keep sums in registers over many parts, all if
 * possible; else those of one kernel position. */
static int choose_chunk(const struct npu *npu, const struct convolution *conv)
{
    if (npu->kernels->convolve == NULL)
        return conv->blocks;
    return ceil_div(parts_of(conv), ceil_div(parts_of(conv), BFP_PARTS));
}

/* Threads get neighbouring items, so these share what is larger: by pixels, a thread reads all weights and
 * mostly what it wrote itself in the chain before; by rows, half of the weights and the whole source. */
int npu_divides_rows(const struct npu *npu, const struct npu_chain *chain)
{
    const struct npu_map *source = &npu->maps[chain->source].map;
    int rows = npu->maps[chain->target].map.channels;
    int64_t depth = (int64_t)chain->kernel[0] * chain->kernel[1] * source->channels;
    return !chain->expander && ceil_div(rows, BFP_BLOCK) % pool_threads(npu->pool) == 0 &&
           depth * rows > (int64_t)pixels_of(source) * source->channels;
}

static void make_panels(int pixels, int panels, int *panel, int *made)
{
    *panel = ceil_div(ceil_div(pixels, panels), TILE_PIXELS) * TILE_PIXELS;
    *made = ceil_div(pixels, *panel);
}

/* Items are large enough not to be felt and small enough that threads end together. */
void npu_divide_pixels(const struct npu *npu, int pixels, int64_t work, int *panel, int *panels)
{
    int threads = pool_threads(npu->pool);
    int most = work > 0 && ITEM_WORK / work < PANEL_PIXELS ? (int)(ITEM_WORK / work) : PANEL_PIXELS;
    int least = ceil_div(pixels, most < TILE_PIXELS ? TILE_PIXELS : most);
    make_panels(pixels, ceil_div(least, threads) * threads, panel, panels);
}

static void divide(const struct npu *npu, struct convolution *conv, const struct npu_chain *chain)
{
    int pixels = pixels_of(&npu->maps[chain->target].map);
    int64_t depth = (int64_t)conv->positions * conv->channels;
    conv->by_rows = npu_divides_rows(npu, chain);
    if (conv->by_rows)
        make_panels(pixels, ceil_div(pixels, PANEL_PIXELS), &conv->panel, &conv->panels);
    else
        npu_divide_pixels(npu, pixels, depth * smaller(conv->rows, BFP_BLOCK), &conv->panel,
                          &conv->panels);
}

static int allocate(struct npu *npu, struct convolution *conv, const struct npu_chain *chain)
{
    size_t weights, all_rows;
    conv->tiles = npu_allocate((size_t)conv->row_blocks * (size_t)groups_of(conv) *
                                   (size_t)parts_of(conv),
                               sizeof *conv->tiles);
    conv->bias = npu_allocate((size_t)conv->row_blocks * BFP_BLOCK, sizeof *conv->bias);
    if (conv->tiles == NULL || conv->bias == NULL)
        return 0;
    lay_out(conv, &weights, &all_rows);
    conv->weights = npu_store(&npu->weights, weights);
    conv->scales = npu_allocate(all_rows, sizeof *conv->scales);
    conv->starts = npu_allocate(all_rows, sizeof *conv->starts);
    conv->plan_bytes = (size_t)npu->kernels->plan_bytes;
    conv->plans = npu_allocate(all_rows / BFP_LANES + 1, conv->plan_bytes + 1);
    if (conv->weights == NULL || conv->scales == NULL || conv->starts == NULL || conv->plans == NULL)
        return 0;
    lay_out(conv, &weights, &all_rows);
    conv->row_block_bytes = weights / (size_t)conv->row_blocks;
    npu->kernels->to_float(chain->bias, conv->bias, (size_t)conv->rows);
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
    conv->rows = target->map.channels;
    conv->row_blocks = ceil_div(conv->rows, BFP_BLOCK);
    conv->group_rows = npu->kernels->group_rows > 0 ? npu->kernels->group_rows : BFP_GROUP_ROWS;
    conv->chunk = choose_chunk(npu, conv);
    divide(npu, conv, chain);
    if (!allocate(npu, conv, chain) || (chain->expander && !npu_make_planes(npu, chain, conv))) {
        npu_free_convolution(conv);
        return NULL;
    }
    struct packing packing = {npu, chain, conv, source->zero};
    pool_run(npu->pool, pack_row_block, &packing, conv->row_blocks);
    return conv;
}

void npu_free_convolution(struct convolution *conv)
{
    if (conv == NULL)
        return;
    free(conv->tiles);
    free(conv->scales);
    free(conv->starts);
    free(conv->plans);
    free(conv->bias);
    npu_free_planes(conv->planes);
    free(conv);
}

struct convolving {
    struct npu *npu;
    const struct step *step;
    const struct map_place *source, *target;
};

/* Where the elements of a kernel position are to be told, for the pixels of a panel. */
struct told {
    const uint8_t **elements;
    const float **scale; /* pointers, or NULL where the values of some blocks are wanted */
    float *values;       /* [block][BFP_PART_PIXELS] */
    int block, blocks;   /* the first, how many */
};

/* Pixels that read one row of the source, from x on in steps. */
struct reading {
    int pixel, count; /* of the panel: the first, how many */
    int x, step;
};

static void tell_outside(const struct convolving *job, const struct told *to, int from, int end)
{
    for (int p = from; p < end; p++) {
        to->elements[p] = job->npu->zero_row[job->source->zero != 0];
        if (to->scale != NULL)
            to->scale[p] = job->npu->zero_scale;
    }
    for (int b = 0; b < to->blocks; b++)
        for (int p = from; p < end; p++)
            to->values[b * BFP_PART_PIXELS + p] = 0.0f;
}

/* Pixels from `from` on read the source at `at`, `at + step`, ... */
static void tell_inside(const struct map_place *source, const struct told *to, int from, int end,
                        ptrdiff_t at, ptrdiff_t step)
{
    const uint8_t *elements =
        source->block + (at - source->origin) * (ptrdiff_t)source->block_stride;
    const float *scale = source->scale + (at - source->origin) * source->blocks;
    ptrdiff_t bytes = step * (ptrdiff_t)source->block_stride, floats = step * source->blocks;
    for (int p = from; p < end; p++, elements += bytes)
        to->elements[p] = elements;
    for (int p = from; to->scale != NULL && p < end; p++)
        to->scale[p] = scale + (p - from) * floats;
    for (int b = 0; b < to->blocks; b++) {
        const float *of_block = scale + to->block + b;
        for (int p = from; p < end; p++, of_block += floats)
            to->values[b * BFP_PART_PIXELS + p] = *of_block;
    }
}

static void tell_row(const struct convolving *job, const struct reading *row, int y,
                     const struct told *to)
{
    const struct map_place *source = job->source;
    int width = source->map.width, first = row->pixel, last = first + row->count;
    int from = row->x < 0 ? smaller(ceil_div(-row->x, row->step), row->count) : 0;
    int end = row->x < width ? smaller(ceil_div(width - row->x, row->step), row->count) : 0;
    if (y < 0 || y >= source->map.height || from >= end) {
        tell_outside(job, to, first, last);
        return;
    }
    tell_outside(job, to, first, first + from);
    tell_inside(source, to, first + from, first + end,
                (ptrdiff_t)y * width + row->x + (ptrdiff_t)from * row->step, row->step);
    tell_outside(job, to, first + end, last);
}

static void tell_position(const struct convolving *job, int position, int first, int pixels,
                          const struct told *to)
{
    const struct npu_chain *chain = &job->step->chain;
    int dy = position / chain->kernel[1] * chain->dilation[0] - chain->pads[0];
    int dx = position % chain->kernel[1] * chain->dilation[1] - chain->pads[1];
    int width = job->target->map.width, y = first / width, x = first % width;
    for (int p = 0; p < pixels; y++, x = 0) {
        int step = chain->stride[1];
        struct reading row = {p, smaller(width - x, pixels - p), x * step + dx, step};
        tell_row(job, &row, y * chain->stride[0] + dy, to);
        p += row.count;
    }
}

static void multiply(const struct convolving *job, struct scratch *scratch, int row_block, int first,
                     int pixels)
{
    const struct convolution *conv = job->step->convolution;
    for (int position = 0; position < conv->positions; position++) {
        struct told to = {scratch->elements, scratch->element_scale, NULL, 0, 0};
        if (!job->step->chain.expander)
            tell_position(job, position, first, pixels, &to);
        for (int group = 0; group < groups_of(conv); group++) {
            const struct bfp_tile *tiles =
                tile_at(conv, row_block, group, position * conv->blocks);
            float *sums = scratch->sums + group * conv->group_rows;
            for (int block = 0; tiles->rows > 0 && block < conv->blocks; block++)
                job->npu->kernels->multiply(pixels, scratch->elements, (size_t)block * BFP_BLOCK,
                                            scratch->element_scale, (size_t)block, &tiles[block],
                                            sums, BFP_BLOCK, position == 0 && block == 0);
        }
    }
}

static int rows_of(const struct convolving *job, int row_block)
{
    return smaller(job->target->map.channels - row_block * BFP_BLOCK, BFP_BLOCK);
}

/* Where a row block's values go, from the first pixel of a panel on. */
static struct bfp_finish find_end(const struct convolving *job, int row_block, int first)
{
    const struct npu_chain *chain = &job->step->chain;
    const struct map_place *target = job->target;
    const struct map_place *other = chain->other < 0 ? NULL : &job->npu->maps[chain->other];
    size_t row = (size_t)row_block * BFP_BLOCK;
    struct bfp_finish to = {
        .bias = job->step->convolution->bias + row,
        .residual_stride = other == NULL ? 0 : other->pitch,
        .activation = chain->activation,
        .halves_stride = target->pitch,
        .block_stride = target->block_stride,
        .scale_stride = (size_t)target->blocks,
        .mantissa = job->npu->mantissa,
        .zero = target->zero,
    };
    if (other != NULL)
        to.residual = other->halves + (size_t)first * other->pitch + row;
    if (target->halves != NULL)
        to.halves = target->halves + (size_t)first * target->pitch + row;
    if (target->block != NULL) {
        size_t at = (size_t)(first - target->origin);
        to.block = target->block + at * target->block_stride + row;
        to.scale = target->scale + at * (size_t)target->blocks + row_block;
    }
    return to;
}

static void finish(const struct convolving *job, struct scratch *scratch, int row_block, int first,
                   int pixels)
{
    struct bfp_finish to = find_end(job, row_block, first);
    scratch->saturated += job->npu->kernels->finish(pixels, rows_of(job, row_block), scratch->sums,
                                                    BFP_BLOCK, &to);
}

/* Raw values go into the float16 memory at once, unless there is none or its pixels are not whole
 * vectors. */
static struct bfp_ending make_ending(const struct convolving *job, struct scratch *scratch,
                                     int row_block, int first)
{
    struct bfp_ending ending = {find_end(job, row_block, first), rows_of(job, row_block), scratch->raw,
                                BFP_BLOCK};
    if (ending.to.halves != NULL && ending.to.halves_stride % BFP_LANES == 0) {
        ending.raw = ending.to.halves;
        ending.raw_stride = ending.to.halves_stride;
    }
    return ending;
}

/* Finds the elements of a chunk's parts. */
static void find_parts(const struct convolving *job, struct scratch *scratch, int part, int count,
                       int first, int pixels)
{
    int blocks = job->step->convolution->blocks, begin = part / blocks;
    for (int i = 0; i < count;) {
        int position = (part + i) / blocks, block = (part + i) % blocks;
        int some = smaller(blocks - block, count - i);
        struct told to = {scratch->elements + (position - begin) * BFP_PART_PIXELS, NULL,
                          scratch->part_scales + i * BFP_PART_PIXELS, block, some};
        if (!job->step->chain.expander)
            tell_position(job, position, first, pixels, &to);
        for (int b = 0; b < some; b++, i++) {
            float *values = to.values + b * BFP_PART_PIXELS;
            for (int p = 0; job->step->chain.expander && p < pixels; p++)
                values[p] = scratch->element_scale[p][block + b];
            scratch->parts[i] =
                (struct bfp_part){to.elements, (size_t)(block + b) * BFP_BLOCK, values};
        }
    }
}

/* What a thread's next item needs, as far as that is known, to be fetched during this one: the next row
 * block, or the beginning of the next convolution. */
static void find_next(const struct convolving *job, int row_block, int thread, struct bfp_convolution *of)
{
    const struct convolution *conv = job->step->convolution;
    int threads = pool_threads(job->npu->pool), next = row_block + 1;
    if (next == conv->row_blocks || (conv->by_rows && next % (conv->row_blocks / threads) == 0)) {
        conv = job->step->next;
        next = conv == NULL || !conv->by_rows ? 0 : conv->row_blocks / threads * thread;
    }
    if (conv == NULL)
        return;
    of->next = tile_at(conv, next, 0, 0)->weights;
    of->next_bytes = conv->row_block_bytes;
}

/* A row block of a panel by kernels that do it at once. */
static void convolve(const struct convolving *job, int thread, int row_block, int first, int pixels)
{
    struct scratch *scratch = &job->npu->scratch[thread];
    const struct convolution *conv = job->step->convolution;
    struct bfp_ending ending = make_ending(job, scratch, row_block, first);
    for (int part = 0; part < parts_of(conv); part += conv->chunk) {
        struct bfp_convolution of = {
            .pixels = pixels,
            .count = smaller(conv->chunk, parts_of(conv) - part),
            .groups = ceil_div(ending.rows, conv->group_rows),
            .parts = scratch->parts,
            .tiles = tile_at(conv, row_block, 0, part),
            .tiles_stride = (size_t)parts_of(conv),
            .from_zero = job->source->zero,
            .first = part == 0,
            .sums = scratch->sums,
            .by_rows = conv->by_rows && conv->panels == 1,
        };
        if (first + pixels == pixels_of(&job->target->map))
            find_next(job, row_block, thread, &of);
        if (part + of.count == parts_of(conv))
            of.ending = &ending;
        find_parts(job, scratch, part, of.count, first, pixels);
        scratch->saturated += job->npu->kernels->convolve(&of);
    }
}

/* Panel and row block of an item: within a thread's range, all panels of a row block after each other, so
 * that its weights stay in the L2 cache. */
static void find_item(const struct convolving *job, int item, int *panel, int *row_block)
{
    const struct convolution *conv = job->step->convolution;
    int ranges = conv->by_rows ? 1 : pool_threads(job->npu->pool);
    if (conv->panels % ranges != 0)
        ranges = 1;
    int panels = conv->panels / ranges, items = panels * conv->row_blocks;
    *panel = item / items * panels + item % items % panels;
    *row_block = item % items / panels;
}

/* A row block of a panel, whose windows are there with the expander. */
static void convolve_row_block(const struct convolving *job, int thread, int row_block, int first,
                               int pixels)
{
    struct scratch *scratch = &job->npu->scratch[thread];
    if (job->npu->kernels->convolve != NULL) {
        convolve(job, thread, row_block, first, pixels);
        return;
    }
    multiply(job, scratch, row_block, first, pixels);
    finish(job, scratch, row_block, first, pixels);
}

static void convolve_item(void *argument, int item, int thread)
{
    const struct convolving *job = argument;
    const struct convolution *conv = job->step->convolution;
    int panel, row_block, last = conv->row_blocks;
    if (job->step->chain.expander) {
        panel = item;
        row_block = 0;
    } else {
        find_item(job, item, &panel, &row_block);
        last = row_block + 1;
    }
    int first = panel * conv->panel;
    int pixels = smaller(conv->panel, pixels_of(&job->target->map) - first);
    if (job->step->chain.expander)
        npu_expand(job->npu, job->step, &job->npu->scratch[thread], first, pixels);
    for (; row_block < last; row_block++)
        convolve_row_block(job, thread, row_block, first, pixels);
}

void npu_convolve_panel(struct npu *npu, const struct step *step, int thread, int first, int pixels)
{
    const struct map_place *maps = npu->scratch[thread].maps;
    struct convolving job = {npu, step, &maps[step->chain.source], &maps[step->chain.target]};
    for (int row_block = 0; row_block < step->convolution->row_blocks; row_block++)
        convolve_row_block(&job, thread, row_block, first, pixels);
}

void npu_convolve(struct npu *npu, const struct step *step)
{
    struct convolving job = {npu, step, &npu->maps[step->chain.source],
                             &npu->maps[step->chain.target]};
    int row_blocks = step->chain.expander ? 1 : step->convolution->row_blocks;
    if (step->chain.expander)
        npu_prepare_expander(npu, step);
    pool_run(npu->pool, convolve_item, &job, row_blocks * step->convolution->panels);
}
