/* Between float32 arrays in a graph's layout and feature maps. */

#include <string.h>

#include "internal.h"

struct port_job {
    struct npu *npu;
    const struct map_place *map;
    enum npu_layout layout;
    const float *from;
    float *to;
};

/* Element (channel, row, 0) of an NCHW array. */
static size_t plane_at(const struct npu_map *map, int channel, int row)
{
    return ((size_t)channel * (size_t)map->height + (size_t)row) * (size_t)map->width;
}

static const float *enter_row(const struct port_job *job, struct scratch *scratch, int row)
{
    const struct npu_map *map = &job->map->map;
    size_t channels = (size_t)map->channels, width = (size_t)map->width;
    if (job->layout != NPU_NCHW)
        return job->from + (size_t)row * width * channels;
    for (int c = 0; c < map->channels; c++) {
        const float *plane = job->from + plane_at(map, c, row);
        for (size_t x = 0; x < width; x++)
            scratch->plane[x * channels + (size_t)c] = plane[x];
    }
    return scratch->plane;
}

static void enter_item(void *argument, int row, int thread)
{
    const struct port_job *job = argument;
    const struct map_place *place = job->map;
    struct scratch *scratch = &job->npu->scratch[thread];
    const struct npu_map *map = &place->map;
    size_t channels = (size_t)map->channels, count = (size_t)map->width * channels;
    const float *from = enter_row(job, scratch, row);
    uint16_t *halves = place->halves != NULL ? place->halves + (size_t)row * count
                                             : (uint16_t *)(scratch->plane + count);
    if (job->npu->numerics == NPU_FLOAT32)
        halves = (uint16_t *)(scratch->plane + count);
    scratch->not_finite += job->npu->kernels->to_half(from, halves, count);
    if (place->floats != NULL)
        memcpy(place->floats + (size_t)row * count, from, count * sizeof(float));
    for (int x = 0; place->block != NULL && x < map->width; x++)
        npu_quantise_pixel(job->npu, place, row * map->width + x, 0, map->channels,
                           halves + (size_t)x * channels);
}

int npu_enter(struct npu *npu, const float *const *inputs)
{
    for (int i = 0; i < npu->input_count; i++) {
        const struct map_place *map = &npu->maps[npu->inputs[i].map];
        struct port_job job = {npu, map, npu->inputs[i].layout, inputs[i], NULL};
        uint64_t bad = 0;
        pool_run(npu->pool, enter_item, &job, map->map.height);
        for (int t = 0; t < pool_threads(npu->pool); t++) {
            bad += npu->scratch[t].not_finite;
            npu->scratch[t].not_finite = 0;
        }
        if (bad > 0)
            return i;
    }
    return -1;
}

static void leave_item(void *argument, int row, int thread)
{
    const struct port_job *job = argument;
    const struct map_place *place = job->map;
    const struct npu_map *map = &place->map;
    size_t channels = (size_t)map->channels, width = (size_t)map->width, count = width * channels;
    float *plane = job->npu->scratch[thread].plane;
    float *to = job->layout == NPU_NCHW ? plane : job->to + (size_t)row * count;
    if (place->floats != NULL)
        memcpy(to, place->floats + (size_t)row * count, count * sizeof(float));
    else
        job->npu->kernels->to_float(place->halves + (size_t)row * count, to, count);
    for (int c = 0; job->layout == NPU_NCHW && c < map->channels; c++) {
        float *out = job->to + plane_at(map, c, row);
        for (size_t x = 0; x < width; x++)
            out[x] = plane[x * channels + (size_t)c];
    }
}

void npu_leave(struct npu *npu, float *const *outputs)
{
    for (int i = 0; i < npu->output_count; i++) {
        const struct map_place *map = &npu->maps[npu->outputs[i].map];
        struct port_job job = {npu, map, npu->outputs[i].layout, NULL, outputs[i]};
        pool_run(npu->pool, leave_item, &job, map->map.height);
    }
}
