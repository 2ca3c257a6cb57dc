/* Pre-activations: a scale chain (batch normalisation, ReLU) in front of the one convolution that reads its
 * result, as in dense blocks.
 *
 * Such a map need not exist as a whole. Where the convolution has a 1 x 1 kernel, a panel's pixels are all
 * that the panel reads, so whoever computes the panel scales and quantises them first, into memory of its
 * own that stays in the L1 or L2 cache: the map is neither written nor read, and threads need not wait for
 * each other in between. Bits are the same either way. */

#include "internal.h"

enum { ROOM = CACHE_LINE }; /* beyond a pixel, so that pixels do not all meet in a few sets of the cache */

/* How many chains read a map, ports not counted. */
static int readers(const struct npu *npu, int map)
{
    int count = 0;
    for (int s = 0; s < npu->step_count; s++) {
        const struct npu_chain *chain = &npu->steps[s].chain;
        count += (chain->source == map) + (chain->other == map);
    }
    return count;
}

static int is_output(const struct npu *npu, int map)
{
    for (int i = 0; i < npu->output_count; i++)
        if (npu->outputs[i].map == map)
            return 1;
    return 0;
}

/* Whether an item may make what it reads: every pixel is read once, and by one item. An item then takes all
 * row blocks, so threads could not divide the rows, which they should where these have more work. */
static int reads_its_own(const struct npu *npu, const struct npu_chain *chain)
{
    const struct npu_map *target = &npu->maps[chain->target].map;
    return chain->kind == NPU_CONVOLUTION && !chain->expander && chain->kernel[0] == 1 &&
           chain->kernel[1] == 1 && chain->stride[0] == 1 && chain->stride[1] == 1 &&
           chain->pads[0] == 0 && chain->pads[1] == 0 && chain->pads[2] == 0 && chain->pads[3] == 0 &&
           (target->channels <= BFP_BLOCK || target->channels <= pixels_of(target));
}

void npu_find_preactivations(struct npu *npu)
{
    for (int s = 0; npu->numerics == NPU_BFP && s < npu->step_count; s++) {
        struct step *step = &npu->steps[s];
        int map = step->chain.source;
        struct map_place *place = &npu->maps[map];
        if (!reads_its_own(npu, &step->chain) || place->map.memories != NPU_BLOCK ||
            readers(npu, map) != 1 || is_output(npu, map))
            continue;
        for (int before = 0; before < s; before++)
            if (npu->steps[before].chain.target == map && npu->steps[before].chain.kind == NPU_SCALE) {
                step->before = &npu->steps[before];
                npu->steps[before].is_before = 1;
                place->passing = 1;
            }
    }
}

void npu_preactivate(struct npu *npu, const struct step *step, struct scratch *scratch, int first,
                     int pixels)
{
    const struct step *before = step->before;
    const struct map_place *source = &npu->maps[before->chain.source];
    const struct map_place *between = &npu->maps[before->chain.target];
    int channels = between->map.channels, blocks = between->blocks;
    size_t apart = (size_t)blocks * BFP_BLOCK + ROOM;
    for (int p = 0; p < pixels; p++) {
        const uint16_t *row = source->halves + (size_t)(first + p) * source->pitch;
        uint8_t *elements = scratch->own_blocks + (size_t)p * apart;
        float *scales = scratch->own_scales + (size_t)p * (size_t)blocks;
        scratch->elements[p] = elements;
        scratch->element_scale[p] = scales;
        for (int c = 0; c < channels; c += BFP_BLOCK)
            scratch->saturated += npu->kernels->scale_block(
                row + c, before->scale + c, before->bias + c, before->chain.activation,
                smaller(channels - c, BFP_BLOCK), npu->mantissa, between->zero, elements + c,
                scales + c / BFP_BLOCK);
    }
}
