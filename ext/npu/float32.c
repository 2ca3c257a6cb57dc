/* The float32 mode: the same chains without blocks and without rounding between them, so that a mapping
 * error shows apart from rounding. Plain loops: it is for judging, not for serving. */

#include <math.h>
#include <string.h>

#include "internal.h"

enum { ITEM_PIXELS = 32 };

struct floats {
    struct npu *npu;
    const struct step *step;
    const struct map_place *source, *other, *target;
};

/* [row][position][channel] float16 -> [position][channel][row] float32. */
float *npu_unpack_float32(const struct npu *npu, const struct npu_chain *chain)
{
    size_t rows = (size_t)npu->maps[chain->target].map.channels;
    size_t columns = (size_t)chain->kernel[0] * (size_t)chain->kernel[1] *
                     (size_t)npu->maps[chain->source].map.channels;
    float *weights = npu_allocate(rows * columns, sizeof *weights);
    float *row = npu_allocate(columns, sizeof *row);
    for (size_t r = 0; weights != NULL && row != NULL && r < rows; r++) {
        npu->kernels->to_float(chain->weights + r * columns, row, columns);
        for (size_t c = 0; c < columns; c++)
            weights[c * rows + r] = row[c];
    }
    if (row == NULL) {
        free(weights);
        weights = NULL;
    }
    free(row);
    return weights;
}

static float *pixel_of(const struct map_place *map, int pixel)
{
    return map->floats + (size_t)pixel * (size_t)map->map.channels;
}

static void activate(float *t, int n, enum bfp_activation activation)
{
    for (int c = 0; activation != BFP_NONE && c < n; c++) {
        t[c] = t[c] > 0.0f ? t[c] : 0.0f;
        if (activation == BFP_RELU6 && t[c] > 6.0f)
            t[c] = 6.0f;
    }
}

static void multiply(const struct floats *job, int y, int x, int position, float *to)
{
    const struct map_place *source = job->source;
    int channels = source->map.channels, rows = job->target->map.channels;
    const float *in = pixel_of(source, y * source->map.width + x);
    const float *weights = job->step->weights + (size_t)position * (size_t)channels * (size_t)rows;
    for (int c = 0; c < channels; c++, weights += rows)
        for (int r = 0; r < rows; r++)
            to[r] += in[c] * weights[r];
}

static void combine(const struct floats *job, int y, int x, float *to, int first)
{
    const float *in = pixel_of(job->source, y * job->source->map.width + x);
    int n = job->target->map.channels, maximum = job->step->chain.kind == NPU_MAX_POOL;
    for (int c = 0; c < n; c++)
        to[c] = first ? in[c] : maximum ? fmaxf(to[c], in[c]) : to[c] + in[c];
}

/* A chain that reads windows: convolution and pools. */
static void window_pixel(const struct floats *job, int pixel, float *to)
{
    const struct npu_chain *chain = &job->step->chain;
    const struct npu_map *map = &job->source->map;
    int top = pixel / job->target->map.width * chain->stride[0] - chain->pads[0];
    int left = pixel % job->target->map.width * chain->stride[1] - chain->pads[1];
    int count = 0, padded = 0, rows = job->target->map.channels;
    memset(to, 0, (size_t)rows * sizeof *to);
    for (int position = 0; position < chain->kernel[0] * chain->kernel[1]; position++) {
        int y = top + position / chain->kernel[1] * chain->dilation[0];
        int x = left + position % chain->kernel[1] * chain->dilation[1];
        padded += y >= -chain->pads[0] && y < map->height + chain->pads[2] && x >= -chain->pads[1] &&
                  x < map->width + chain->pads[3];
        if (y < 0 || y >= map->height || x < 0 || x >= map->width)
            continue;
        if (chain->kind == NPU_CONVOLUTION)
            multiply(job, y, x, position, to);
        else
            combine(job, y, x, to, count == 0);
        count++;
    }
    if (chain->kind == NPU_AVERAGE_POOL)
        for (int r = 0; r < rows; r++)
            to[r] *= 1.0f / (float)(chain->include_pad ? padded : count);
}

static void norm(const struct floats *job, const float *x, float *to, int n)
{
    double sum = 0;
    for (int c = 0; c < n; c++)
        sum += (double)x[c] * x[c];
    float by = (float)(1.0 / sqrt(sum > 1e-12 ? sum : 1e-12));
    for (int c = 0; c < n; c++)
        to[c] = x[c] * by * (job->step->scale != NULL ? job->step->scale[c] : 1.0f);
}

static void run_pixel(const struct floats *job, int pixel)
{
    const struct step *step = job->step;
    const struct npu_chain *chain = &step->chain;
    int n = job->target->map.channels;
    float *to = pixel_of(job->target, pixel);
    if (chain->kind == NPU_CONVOLUTION || chain->kind == NPU_MAX_POOL ||
        chain->kind == NPU_AVERAGE_POOL) {
        window_pixel(job, pixel, to);
        for (int r = 0; chain->kind == NPU_CONVOLUTION && r < n; r++)
            to[r] += step->bias[r] + (job->other != NULL ? pixel_of(job->other, pixel)[r] : 0.0f);
    } else {
        const float *x = pixel_of(job->source, pixel);
        if (chain->kind == NPU_NORM)
            norm(job, x, to, n);
        for (int c = 0; chain->kind != NPU_NORM && c < n; c++)
            to[c] = chain->kind == NPU_SCALE ? x[c] * step->scale[c] + step->bias[c]
                    : chain->kind == NPU_ADD ? x[c] + pixel_of(job->other, pixel)[c]
                                             : x[c];
    }
    activate(to, n, chain->activation);
}

static void float_item(void *argument, int item, int thread)
{
    const struct floats *job = argument;
    int last = smaller((item + 1) * ITEM_PIXELS, pixels_of(&job->target->map));
    (void)thread;
    for (int pixel = item * ITEM_PIXELS; pixel < last; pixel++)
        run_pixel(job, pixel);
}

static void copy(const struct floats *job)
{
    const struct npu_chain *chain = &job->step->chain;
    const struct npu_map *in = &job->source->map, *out = &job->target->map;
    if (job->step->clears)
        memset(job->target->floats, 0,
               (size_t)pixels_of(out) * (size_t)out->channels * sizeof(float));
    for (int i = 0; i < chain->extent[0]; i++)
        for (int j = 0; j < chain->extent[1]; j++) {
            int y = chain->start[0] + i * chain->step[0], x = chain->start[1] + j * chain->step[1];
            const float *from = pixel_of(job->source, y * in->width + x) + chain->start[2];
            int at = (chain->offset[0] + i) * out->width + chain->offset[1] + j;
            float *to = pixel_of(job->target, at) + chain->offset[2];
            for (int c = 0; c < chain->extent[2]; c++)
                to[c] = from[(size_t)c * (size_t)chain->step[2]];
        }
}

void npu_run_float32(struct npu *npu, const struct step *step)
{
    const struct npu_chain *chain = &step->chain;
    struct floats job = {npu, step, &npu->maps[chain->source],
                         chain->other >= 0 ? &npu->maps[chain->other] : NULL,
                         &npu->maps[chain->target]};
    if (chain->kind == NPU_COPY)
        copy(&job);
    else
        pool_run(npu->pool, float_item, &job, ceil_div(pixels_of(&job.target->map), ITEM_PIXELS));
}
