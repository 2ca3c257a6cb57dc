/* Bands: steps that follow each other and are run together, a panel of pixels at a time.
 *
 * A convolution with a 1 x 1 kernel, and most chains without a matrix, read of a map just the pixels that
 * they write. So whoever has computed a panel can go on with it: the panel is still in the cache, and threads
 * need not wait for each other in between. In residual networks a 3 x 3 convolution, the 1 x 1 that widens
 * its result and the 1 x 1 that narrows it again are one band, in dense blocks a 3 x 3 convolution, the
 * pre-activation of all channels so far and the bottleneck. Each value is computed once and in the same way,
 * so bits are the same.
 *
 * Of a map that only its band reads no more than a panel exists, in the thread's own memory. */

#include "clock.h"
#include "internal.h"

enum {
    BAND_WEIGHTS = 512 << 10, /* bytes: every panel passes all of them, so they must stay in the L2 cache */
    TIMED_ITEMS = 4           /* of which the steps of one are timed: asking the clock costs time too */
};

/* ------------------------------------------------------------------------------------------- loading */

static int is_one_by_one(const struct npu_chain *chain)
{
    for (int axis = 0; axis < 2; axis++)
        if (chain->kernel[axis] != 1 || chain->stride[axis] != 1 || chain->pads[axis] != 0 ||
            chain->pads[axis + 2] != 0)
            return 0;
    return 1;
}

static int may_begin(const struct npu *npu, const struct npu_chain *chain)
{
    if (chain->kind == NPU_CONVOLUTION)
        return !chain->expander && !npu_divides_rows(npu, chain);
    return chain->kind == NPU_SCALE || chain->kind == NPU_ADD || chain->kind == NPU_ACTIVATE;
}

/* A copy that nothing is left to do for. */
static int is_done_already(const struct npu *npu, const struct step *step)
{
    return step->in_place &&
           !(step->completes && npu->maps[step->chain.target].map.memories & NPU_BLOCK);
}

static int may_follow(const struct npu *npu, const struct step *step)
{
    return is_done_already(npu, step) ||
           (may_begin(npu, &step->chain) &&
            (step->chain.kind != NPU_CONVOLUTION || is_one_by_one(&step->chain)));
}

/* Products for each value of a chain's result. */
static int64_t depth_of(const struct npu *npu, const struct npu_chain *chain)
{
    if (chain->kind != NPU_CONVOLUTION)
        return 0;
    return (int64_t)chain->kernel[0] * chain->kernel[1] * npu->maps[chain->source].map.channels;
}

static int64_t weights_of(const struct npu *npu, const struct npu_chain *chain)
{
    return depth_of(npu, chain) * npu->maps[chain->target].map.channels;
}

/* Products of the largest row block of a band, a pixel: as that step would divide its pixels, all do. */
static int64_t largest_work(const struct npu *npu, const struct band *band)
{
    int64_t most = 0;
    for (int s = band->first; s <= band->last; s++) {
        const struct npu_chain *chain = &npu->steps[s].chain;
        int rows = smaller(npu->maps[chain->target].map.channels, BFP_BLOCK);
        int64_t work = depth_of(npu, chain) * rows;
        most = work > most ? work : most;
    }
    return most;
}

static int same_pixels(const struct npu_map *a, const struct npu_map *b)
{
    return a->height == b->height && a->width == b->width;
}

/* The last step of the longest band that begins with a step. */
static int find_last(const struct npu *npu, int first)
{
    const struct npu_map *pixels = &npu->maps[npu->steps[first].chain.target].map;
    int64_t weights = weights_of(npu, &npu->steps[first].chain);
    int last = first;
    for (int s = first + 1; s < npu->step_count; s++) {
        const struct npu_chain *chain = &npu->steps[s].chain;
        int64_t more = weights_of(npu, chain);
        if (!may_follow(npu, &npu->steps[s]) || weights + more > BAND_WEIGHTS ||
            !same_pixels(&npu->maps[chain->target].map, pixels))
            break;
        weights += more;
        if (!is_done_already(npu, &npu->steps[s]))
            last = s;
    }
    return last;
}

/* Whether a map is read by steps of a band alone. */
static int stays_within(const struct npu *npu, int map, const struct band *band)
{
    for (int i = 0; i < npu->output_count; i++)
        if (npu->outputs[i].map == map)
            return 0;
    for (int s = 0; s < npu->step_count; s++) {
        const struct npu_chain *chain = &npu->steps[s].chain;
        if ((chain->source == map || chain->other == map) && (s < band->first || s > band->last))
            return 0;
    }
    return 1;
}

/* Which maps of a band need not exist as a whole; their places in a thread's memory follow each other. */
static void find_passing(struct npu *npu, const struct band *band)
{
    size_t bytes = 0;
    for (int s = band->first; s <= band->last; s++) {
        int map = npu->steps[s].chain.target;
        struct map_place *place = &npu->maps[map];
        if (place->map.memories != NPU_BLOCK || !stays_within(npu, map, band))
            continue;
        place->passing = 1;
        place->passing_at = bytes;
        bytes += PANEL_PIXELS * (npu_block_stride(&place->map) +
                                 (size_t)ceil_div(place->map.channels, BFP_BLOCK) * sizeof(float));
        bytes = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    }
    npu->passing_bytes = bytes > npu->passing_bytes ? bytes : npu->passing_bytes;
}

int npu_find_bands(struct npu *npu)
{
    npu->bands = calloc((size_t)npu->step_count + 1, sizeof *npu->bands);
    if (npu->bands == NULL)
        return 0;
    for (int s = 0; npu->numerics == NPU_BFP && s < npu->step_count; s++) {
        struct band *band = &npu->bands[npu->band_count];
        if (!may_begin(npu, &npu->steps[s].chain))
            continue;
        int last = find_last(npu, s);
        if (last == s)
            continue;
        const struct npu_map *map = &npu->maps[npu->steps[s].chain.target].map;
        *band = (struct band){.first = s, .last = last};
        npu_divide_pixels(npu, pixels_of(map), largest_work(npu, band), &band->panel, &band->panels);
        npu->steps[s].band = band;
        find_passing(npu, band);
        npu->band_count++;
        s = last;
    }
    return 1;
}

int npu_make_passing(struct npu *npu, struct scratch *scratch)
{
    scratch->maps = npu_allocate((size_t)npu->map_count, sizeof *scratch->maps);
    scratch->passing = npu_allocate(npu->passing_bytes, 1);
    scratch->spent = npu_allocate((size_t)npu->step_count, sizeof *scratch->spent);
    if (scratch->maps == NULL || scratch->passing == NULL || scratch->spent == NULL)
        return 0;
    for (int m = 0; m < npu->map_count; m++) {
        struct map_place *place = &scratch->maps[m];
        *place = npu->maps[m];
        if (!place->passing)
            continue;
        place->block = scratch->passing + place->passing_at; /* aligned, which the scales need not be */
        place->scale = (float *)(place->block + PANEL_PIXELS * place->block_stride);
    }
    return 1;
}

/* ------------------------------------------------------------------------------------------- running */

struct band_job {
    struct npu *npu;
    const struct band *band;
};

static void run_on_panel(struct npu *npu, const struct step *step, int thread, int first, int pixels)
{
    npu->scratch[thread].maps[step->chain.target].origin =
        npu->maps[step->chain.target].passing ? first : 0;
    if (step->convolution != NULL)
        npu_convolve_panel(npu, step, thread, first, pixels);
    else
        npu_run_rows_panel(npu, step, thread, first, pixels);
}

static void band_item(void *argument, int item, int thread)
{
    const struct band_job *job = argument;
    struct npu *npu = job->npu;
    struct scratch *scratch = &npu->scratch[thread];
    int all = pixels_of(&npu->maps[npu->steps[job->band->first].chain.target].map);
    int first = item * job->band->panel, timed = item % TIMED_ITEMS == 0;
    int pixels = smaller(job->band->panel, all - first);
    uint64_t since = timed ? nanoseconds() : 0;
    for (int s = job->band->first; s <= job->band->last; s++) {
        if (npu->steps[s].chain.kind != NPU_COPY)
            run_on_panel(npu, &npu->steps[s], thread, first, pixels);
        if (timed)
            scratch->spent[s] += lap(&since);
    }
}

void npu_run_band(struct npu *npu, const struct band *band)
{
    struct band_job job = {npu, band};
    pool_run(npu->pool, band_item, &job, band->panels);
}

void npu_share_time(struct npu *npu, const struct band *band, uint64_t took)
{
    uint64_t whole = 0;
    for (int s = band->first; s <= band->last; s++) {
        npu->times[s + 1] = 0;
        for (int t = 0; t < pool_threads(npu->pool); t++) {
            npu->times[s + 1] += npu->scratch[t].spent[s];
            npu->scratch[t].spent[s] = 0;
        }
        whole += npu->times[s + 1];
    }
    for (int s = band->first; s <= band->last; s++)
        npu->times[s + 1] = whole == 0 ? 0 :
            (uint64_t)((double)took * (double)npu->times[s + 1] / (double)whole);
}
