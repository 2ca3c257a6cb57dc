/* Every chain without a matrix: one pixel at a time, in ranges of 128 channels. */

#include <string.h>

#include "internal.h"

enum { ENOUGH_ITEMS = 4 };

struct rows {
    struct npu *npu;
    const struct step *step;
    const struct map_place *source, *other, *target;
    int channel_items; /* items that share a pixel */
};

static uint8_t *block_of(const struct map_place *map, int pixel)
{
    return map->block + (size_t)(pixel - map->origin) * map->block_stride;
}

static float *scale_of(const struct map_place *map, int pixel)
{
    return map->scale + (size_t)(pixel - map->origin) * (size_t)map->blocks;
}

void npu_quantise_pixel(const struct npu *npu, const struct map_place *map, int pixel, int from,
                        int to, const uint16_t *halves)
{
    for (int c = from; c < to; c += BFP_BLOCK)
        npu->kernels->quantise(halves + (c - from), smaller(to - c, BFP_BLOCK), npu->mantissa,
                               map->zero, block_of(map, pixel) + c, scale_of(map, pixel) + c / BFP_BLOCK);
}

static const uint16_t *row_of(const struct map_place *map, int pixel, int channel)
{
    return map->halves + (size_t)pixel * map->pitch + channel;
}

/* Collects the pixels inside the image under a window; returns how many. */
static int look_under(const struct rows *job, struct scratch *scratch, int pixel, int channel)
{
    const struct npu_chain *chain = &job->step->chain;
    const struct npu_map *map = &job->source->map;
    int top = pixel / job->target->map.width * chain->stride[0] - chain->pads[0];
    int left = pixel % job->target->map.width * chain->stride[1] - chain->pads[1];
    int count = 0;
    for (int ky = 0; ky < chain->kernel[0]; ky++) {
        int y = top + ky * chain->dilation[0];
        for (int kx = 0; y >= 0 && y < map->height && kx < chain->kernel[1]; kx++) {
            int x = left + kx * chain->dilation[1];
            if (x >= 0 && x < map->width)
                scratch->many[count++] = row_of(job->source, y * map->width + x, channel);
        }
    }
    return count;
}

/* Positions of a window along one axis that lie in the padded image. */
static int padded_count(const struct npu_chain *chain, int axis, int index, int inside)
{
    int start = index * chain->stride[axis] - chain->pads[axis], count = 0;
    for (int k = 0; k < chain->kernel[axis]; k++) {
        int at = start + k * chain->dilation[axis];
        count += at >= -chain->pads[axis] && at < inside + chain->pads[axis + 2];
    }
    return count;
}

static void average(const struct rows *job, struct scratch *scratch, int pixel, int channel, int n,
                    uint16_t *out)
{
    const struct npu_chain *chain = &job->step->chain;
    const struct npu_map *map = &job->source->map;
    int width = job->target->map.width;
    int inside = look_under(job, scratch, pixel, channel), count = inside;
    if (chain->include_pad)
        count = padded_count(chain, 0, pixel / width, map->height) *
                padded_count(chain, 1, pixel % width, map->width);
    job->npu->kernels->mean(scratch->many, inside, 1.0f / (float)count, out, n);
}

static void run_pixel(const struct rows *job, struct scratch *scratch, int pixel, int channel, int n,
                      uint16_t *out)
{
    const struct bfp_kernels *kernels = job->npu->kernels;
    const struct step *step = job->step;
    enum bfp_activation activation = step->chain.activation;
    int pools = step->chain.kind == NPU_MAX_POOL || step->chain.kind == NPU_AVERAGE_POOL;
    const uint16_t *x = pools ? NULL : row_of(job->source, pixel, channel);
    switch (step->chain.kind) {
    case NPU_SCALE:
        scratch->saturated += kernels->scale(x, step->scale + channel, step->bias + channel,
                                             activation, out, n);
        return;
    case NPU_ADD:
        scratch->saturated += kernels->add(x, row_of(job->other, pixel, channel), activation, out, n);
        return;
    case NPU_ACTIVATE:
        kernels->activate(x, activation, out, n);
        return;
    case NPU_NORM:
        kernels->norm(x, step->scale, out, n);
        return;
    case NPU_MAX_POOL:
        kernels->maximum(scratch->many, look_under(job, scratch, pixel, channel), out, n);
        return;
    case NPU_AVERAGE_POOL:
        average(job, scratch, pixel, channel, n, out);
        return;
    default:
        return;
    }
}

/* A scale chain whose values are quantised only. */
static void scale_pixel(const struct rows *job, struct scratch *scratch, int pixel, int from, int to)
{
    const struct map_place *target = job->target;
    const uint16_t *x = row_of(job->source, pixel, 0);
    for (int c = from; c < to; c += BFP_BLOCK)
        scratch->saturated += job->npu->kernels->scale_block(
            x + c, job->step->scale + c, job->step->bias + c, job->step->chain.activation,
            smaller(to - c, BFP_BLOCK), job->npu->mantissa, target->zero, block_of(target, pixel) + c,
            scale_of(target, pixel) + c / BFP_BLOCK);
}

/* Channels of some pixels. */
static void run_pixels(const struct rows *job, struct scratch *scratch, int first, int last, int from,
                       int to)
{
    const struct map_place *target = job->target;
    int scales = job->step->chain.kind == NPU_SCALE && target->halves == NULL;
    for (int pixel = first; pixel < last; pixel++) {
        if (scales) {
            scale_pixel(job, scratch, pixel, from, to);
            continue;
        }
        uint16_t *out = target->halves != NULL ? (uint16_t *)row_of(target, pixel, from) : scratch->row;
        run_pixel(job, scratch, pixel, from, to - from, out);
        if (target->block != NULL)
            npu_quantise_pixel(job->npu, target, pixel, from, to, out);
    }
}

static void rows_item(void *argument, int item, int thread)
{
    const struct rows *job = argument;
    const struct map_place *target = job->target;
    int channels = target->map.channels, split = job->channel_items > 1;
    int from = split ? item % job->channel_items * BFP_BLOCK : 0;
    int to = split ? smaller(from + BFP_BLOCK, channels) : channels;
    int first = item / job->channel_items * COPY_PIXELS;
    int last = smaller(first + COPY_PIXELS, pixels_of(&target->map));
    run_pixels(job, &job->npu->scratch[thread], first, last, from, to);
}

/* One row of the box that is copied. */
static void copy_item(void *argument, int item, int thread)
{
    const struct rows *job = argument;
    const struct npu_chain *chain = &job->step->chain;
    const int *extent = chain->extent;
    int y = chain->start[0] + item * chain->step[0];
    (void)thread;
    for (int i = 0; i < extent[1]; i++) {
        int x = chain->start[1] + i * chain->step[1];
        const uint16_t *from = row_of(job->source, y * job->source->map.width + x, chain->start[2]);
        int pixel = (chain->offset[0] + item) * job->target->map.width + chain->offset[1] + i;
        uint16_t *to = (uint16_t *)row_of(job->target, pixel, chain->offset[2]);
        if (chain->step[2] == 1)
            memcpy(to, from, (size_t)extent[2] * sizeof *to);
        else
            for (int c = 0; c < extent[2]; c++)
                to[c] = from[(size_t)c * (size_t)chain->step[2]];
    }
}

static void quantise_item(void *argument, int item, int thread)
{
    const struct rows *job = argument;
    const struct map_place *target = job->target;
    int last = smaller((item + 1) * COPY_PIXELS, pixels_of(&target->map));
    (void)thread;
    for (int pixel = item * COPY_PIXELS; pixel < last; pixel++)
        npu_quantise_pixel(job->npu, target, pixel, 0, target->map.channels,
                           row_of(target, pixel, 0));
}

static void run_copy(struct npu *npu, struct rows *job)
{
    const struct map_place *target = job->target;
    int pixels = pixels_of(&target->map);
    if (job->step->clears)
        memset(target->halves, 0, (size_t)pixels * (size_t)target->map.channels * sizeof(uint16_t));
    if (!job->step->in_place)
        pool_run(npu->pool, copy_item, job, job->step->chain.extent[0]);
    if (job->step->completes && target->block != NULL)
        pool_run(npu->pool, quantise_item, job, ceil_div(pixels, COPY_PIXELS));
}

static struct rows make_job(struct npu *npu, const struct step *step, const struct map_place *maps)
{
    const struct npu_chain *chain = &step->chain;
    struct rows job = {npu, step, &maps[chain->source], chain->other >= 0 ? &maps[chain->other] : NULL,
                       &maps[chain->target], 1};
    return job;
}

void npu_run_rows_panel(struct npu *npu, const struct step *step, int thread, int first, int pixels)
{
    struct scratch *scratch = &npu->scratch[thread];
    struct rows job = make_job(npu, step, scratch->maps);
    run_pixels(&job, scratch, first, first + pixels, 0, job.target->map.channels);
}

void npu_run_rows(struct npu *npu, const struct step *step)
{
    const struct npu_chain *chain = &step->chain;
    struct rows job = make_job(npu, step, npu->maps);
    if (chain->kind == NPU_COPY) {
        run_copy(npu, &job);
        return;
    }
    int pixel_items = ceil_div(pixels_of(&job.target->map), COPY_PIXELS);
    /* A pixel's channels lie together, so they are taken together where that leaves enough items. */
    if (chain->kind != NPU_NORM && (chain->kind != NPU_SCALE || pixel_items < ENOUGH_ITEMS))
        job.channel_items = job.target->blocks;
    pool_run(npu->pool, rows_item, &job, pixel_items * job.channel_items);
}
