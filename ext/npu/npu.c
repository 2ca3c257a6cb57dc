/* Loading, running and unloading a program. */

#include "npu.h"

#include <fenv.h>
#include <string.h>

#include "clock.h"
#include "internal.h"

static float *constant(const struct npu *npu, const uint16_t *halves, int count, int *failed)
{
    if (halves == NULL)
        return NULL;
    float *floats = npu_allocate((size_t)count + BFP_BLOCK, sizeof *floats);
    if (floats != NULL)
        npu->kernels->to_float(halves, floats, (size_t)count);
    else
        *failed = 1;
    return floats;
}

/* Elements are stored without an offset where no value can be negative, which the chains tell. */
static void find_signs(struct npu *npu)
{
    for (int m = 0; m < npu->map_count; m++)
        npu->maps[m].zero = 0;
    for (int i = 0; i < npu->input_count; i++)
        npu->maps[npu->inputs[i].map].zero = 128;
    for (int s = 0; s < npu->step_count; s++) {
        const struct npu_chain *chain = &npu->steps[s].chain;
        int copies = chain->kind == NPU_MAX_POOL || chain->kind == NPU_AVERAGE_POOL ||
                     chain->kind == NPU_COPY;
        if (copies ? npu->maps[chain->source].zero != 0 : chain->activation == BFP_NONE)
            npu->maps[chain->target].zero = 128;
    }
}

/* Which copies begin and complete their targets; a target written in pieces needs its float16s. */
static void find_copies(struct npu *npu)
{
    for (int s = 0; s < npu->step_count; s++) {
        struct step *step = &npu->steps[s];
        if (step->chain.kind != NPU_COPY)
            continue;
        npu->maps[step->chain.target].map.memories |= NPU_FLOAT16;
        step->clears = step->completes = 1;
        for (int before = s - 1; before >= 0; before--)
            if (npu->steps[before].chain.target == step->chain.target) {
                step->clears = npu->steps[before].completes = 0;
                break;
            }
    }
}

static int load_step(struct npu *npu, struct step *step)
{
    const struct npu_chain *chain = &step->chain;
    int channels = npu->maps[chain->target].map.channels, failed = 0;
    if (npu->numerics == NPU_BFP && chain->kind == NPU_CONVOLUTION) {
        step->convolution = npu_pack(npu, chain);
        return step->convolution != NULL;
    }
    step->scale = constant(npu, chain->scale, channels, &failed);
    step->bias = constant(npu, chain->bias, channels, &failed);
    if (chain->kind == NPU_CONVOLUTION) {
        step->weights = npu_unpack_float32(npu, chain);
        failed |= step->weights == NULL;
    }
    return !failed;
}

struct need {
    size_t window_blocks, line, row, plane, many, stride, blocks;
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static struct need find_need(const struct npu *npu)
{
    struct need need = {0};
    for (int m = 0; m < npu->map_count; m++) {
        const struct map_place *place = &npu->maps[m];
        size_t channels = (size_t)place->map.channels;
        need.row = larger(need.row, channels + BFP_BLOCK);
        /* An image row as floats, and once more as float16. */
        need.plane = larger(need.plane, 2 * channels * (size_t)place->map.width);
        need.stride = larger(need.stride, place->block_stride);
        need.blocks = larger(need.blocks, (size_t)place->blocks);
    }
    for (int s = 0; s < npu->step_count; s++) {
        const struct npu_chain *chain = &npu->steps[s].chain;
        const struct npu_map *source = &npu->maps[chain->source].map;
        size_t rows = (size_t)smaller(chain->kernel[0], source->height);
        need.many = larger(need.many, rows * (size_t)smaller(chain->kernel[1], source->width));
        if (npu->steps[s].convolution != NULL && chain->expander) {
            size_t blocks = (size_t)npu->steps[s].convolution->blocks;
            need.window_blocks = larger(need.window_blocks, blocks);
            need.line = larger(need.line, npu_line_halves(npu->steps[s].convolution->planes));
        }
    }
    return need;
}

static int allocate_scratch(struct npu *npu)
{
    struct need need = find_need(npu);
    int threads = pool_threads(npu->pool), done = 1;
    npu->scratch = npu_allocate((size_t)threads, sizeof *npu->scratch);
    npu->zero_scale = npu_allocate(need.blocks, sizeof *npu->zero_scale);
    for (int i = 0; i < 2; i++)
        npu->zero_row[i] = npu_allocate(need.stride, 1);
    if (npu->scratch == NULL || npu->zero_scale == NULL || npu->zero_row[0] == NULL ||
        npu->zero_row[1] == NULL)
        return 0;
    memset(npu->zero_row[1], 128, need.stride);
    for (int t = 0; t < threads; t++) {
        struct scratch *s = &npu->scratch[t];
        size_t blocks = PANEL_PIXELS * need.window_blocks;
        done &= (s->sums = npu_allocate(PANEL_PIXELS * BFP_BLOCK, sizeof(float))) != NULL;
        done &= (s->raw = npu_allocate(PANEL_PIXELS * BFP_BLOCK, sizeof(uint16_t))) != NULL;
        done &= (s->elements = npu_allocate(BFP_PARTS * BFP_PART_PIXELS, sizeof(uint8_t *))) != NULL;
        done &= (s->element_scale = npu_allocate(PANEL_PIXELS, sizeof(float *))) != NULL;
        done &= (s->parts = npu_allocate(BFP_PARTS, sizeof *s->parts)) != NULL;
        done &= (s->part_scales = npu_allocate(BFP_PARTS * BFP_PART_PIXELS, sizeof(float))) != NULL;
        done &= (s->line = npu_allocate(need.line, sizeof(uint16_t))) != NULL;
        done &= (s->largest = npu_allocate(need.line, sizeof(uint16_t))) != NULL;
        done &= (s->windows = npu_allocate(blocks * BFP_BLOCK + COPY_STEP, sizeof(uint16_t))) != NULL;
        done &= (s->window_blocks = npu_allocate(blocks + PANEL_PIXELS, BFP_BLOCK)) != NULL;
        done &= (s->window_scales = npu_allocate(blocks, sizeof(float))) != NULL;
        done &= (s->row = npu_allocate(need.row, sizeof(uint16_t))) != NULL;
        done &= (s->plane = npu_allocate(need.plane, sizeof(float))) != NULL;
        done &= (s->many = npu_allocate(need.many, sizeof(uint16_t *))) != NULL;
        done &= npu_make_passing(npu, s);
    }
    return done;
}

static void link_convolutions(struct npu *npu)
{
    const struct convolution *next = NULL;
    for (int s = npu->step_count - 1; s >= 0; s--) {
        npu->steps[s].next = next;
        if (npu->steps[s].convolution != NULL)
            next = npu->steps[s].convolution;
    }
}

static void count_work(struct npu *npu)
{
    for (int s = 0; s < npu->step_count; s++) {
        const struct npu_chain *chain = &npu->steps[s].chain;
        if (chain->kind != NPU_CONVOLUTION)
            continue;
        const struct npu_map *target = &npu->maps[chain->target].map;
        int positions = chain->kernel[0] * chain->kernel[1];
        int channels = npu->maps[chain->source].map.channels;
        int blocks = chain->expander ? ceil_div(positions * channels, BFP_BLOCK)
                                     : positions * ceil_div(channels, BFP_BLOCK);
        npu->tile_operations += (uint64_t)blocks * (uint64_t)ceil_div(target->channels, BFP_BLOCK) *
                                (uint64_t)pixels_of(target);
    }
}

/* Copies what the specification lists; 0 when memory is short. */
static int take(struct npu *npu, const struct npu_specification *from)
{
    npu->mantissa = from->mantissa;
    npu->map_count = from->map_count;
    npu->step_count = from->chain_count;
    npu->input_count = from->input_count;
    npu->output_count = from->output_count;
    npu->maps = calloc((size_t)from->map_count, sizeof *npu->maps);
    npu->steps = calloc((size_t)from->chain_count + 1, sizeof *npu->steps);
    npu->inputs = calloc((size_t)from->input_count, sizeof *npu->inputs);
    npu->outputs = calloc((size_t)from->output_count, sizeof *npu->outputs);
    npu->times = calloc((size_t)from->chain_count + 2, sizeof *npu->times);
    if (npu->maps == NULL || npu->steps == NULL || npu->inputs == NULL || npu->outputs == NULL ||
        npu->times == NULL)
        return 0;
    for (int m = 0; m < from->map_count; m++)
        npu->maps[m].map = from->maps[m];
    for (int s = 0; s < from->chain_count; s++)
        npu->steps[s].chain = from->chains[s];
    memcpy(npu->inputs, from->inputs, (size_t)from->input_count * sizeof *npu->inputs);
    memcpy(npu->outputs, from->outputs, (size_t)from->output_count * sizeof *npu->outputs);
    return 1;
}

struct npu *npu_load(const struct npu_specification *specification, enum npu_numerics numerics,
                     const struct bfp_kernels *kernels, struct pool *pool)
{
    struct npu *npu = calloc(1, sizeof *npu);
    if (npu == NULL)
        return NULL;
    npu->kernels = kernels;
    npu->pool = pool;
    npu->numerics = numerics;
    int done = take(npu, specification);
    if (done) {
        find_signs(npu);
        find_copies(npu);
        done = npu_join_maps(npu) && npu_find_bands(npu) && npu_place_maps(npu);
    }
    pool_wake(pool);
    for (int s = 0; done && s < npu->step_count; s++)
        done = load_step(npu, &npu->steps[s]);
    pool_rest(pool);
    done = done && allocate_scratch(npu);
    if (!done) {
        npu_unload(npu);
        return NULL;
    }
    link_convolutions(npu);
    count_work(npu);
    return npu;
}

static void free_scratch(struct npu *npu)
{
    for (int t = 0; npu->scratch != NULL && t < pool_threads(npu->pool); t++) {
        struct scratch *s = &npu->scratch[t];
        free(s->sums);
        free(s->raw);
        free(s->parts);
        free(s->part_scales);
        free(s->elements);
        free(s->element_scale);
        free(s->line);
        free(s->largest);
        free(s->windows);
        free(s->window_blocks);
        free(s->window_scales);
        free(s->row);
        free(s->plane);
        free(s->many);
        free(s->maps);
        free(s->passing);
        free(s->spent);
    }
    free(npu->scratch);
}

void npu_unload(struct npu *npu)
{
    if (npu == NULL)
        return;
    for (int s = 0; npu->steps != NULL && s < npu->step_count; s++) {
        npu_free_convolution(npu->steps[s].convolution);
        free(npu->steps[s].scale);
        free(npu->steps[s].bias);
        free(npu->steps[s].weights);
    }
    npu_free_store(&npu->weights);
    free_scratch(npu);
    free(npu->zero_row[0]);
    free(npu->zero_row[1]);
    free(npu->zero_scale);
    free(npu->arena);
    free(npu->maps);
    free(npu->steps);
    free(npu->bands);
    free(npu->inputs);
    free(npu->outputs);
    free(npu->times);
    free(npu);
}

static void run_step(struct npu *npu, const struct step *step)
{
    if (npu->numerics == NPU_FLOAT32)
        npu_run_float32(npu, step);
    else if (step->convolution != NULL)
        npu_convolve(npu, step);
    else
        npu_run_rows(npu, step);
}

int npu_run(struct npu *npu, const float *const *inputs, float *const *outputs)
{
    fenv_t environment;
    fegetenv(&environment);
    fesetenv(FE_DFL_ENV); /* another library may have told this thread to flush subnormals */
    pool_wake(npu->pool);
    uint64_t since = nanoseconds();
    int bad = npu_enter(npu, inputs);
    npu->times[0] = lap(&since);
    for (int s = 0; bad < 0 && s < npu->step_count; s++) {
        const struct band *band = npu->steps[s].band;
        if (band != NULL) {
            npu_run_band(npu, band);
            npu_share_time(npu, band, lap(&since));
            s = band->last;
            continue;
        }
        run_step(npu, &npu->steps[s]);
        npu->times[s + 1] = lap(&since);
    }
    if (bad < 0)
        npu_leave(npu, outputs);
    npu->times[npu->step_count + 1] = lap(&since);
    pool_rest(npu->pool);
    fesetenv(&environment);
    if (bad < 0) {
        npu->counters.runs++;
        npu->counters.chains += (uint64_t)npu->step_count;
        npu->counters.tile_operations += npu->tile_operations;
    }
    for (int t = 0; t < pool_threads(npu->pool); t++) {
        npu->counters.saturated += npu->scratch[t].saturated;
        npu->scratch[t].saturated = 0;
    }
    return bad;
}

void npu_read_times(const struct npu *npu, uint64_t *to)
{
    memcpy(to, npu->times, ((size_t)npu->step_count + 2) * sizeof *to);
}

void npu_read_counters(const struct npu *npu, struct npu_counters *to)
{
    *to = npu->counters;
}
