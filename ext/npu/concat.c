/* Concatenation without copies: a map that a concatenation reads lies inside its result from the start.
 *
 * A copy can be left out where it takes a whole map into channels of its own of another one, because
 * whoever makes that map can write it there at once, a pixel of the larger map apart. So results of
 * results (as in dense blocks) all lie in the last of them. Bits are the same either way. */

#include "internal.h"

/* Whether a copy fills some channels of its target, all rows and columns. */
static int takes_planes(const struct npu *npu, const struct npu_chain *copy)
{
    const struct npu_map *from = &npu->maps[copy->source].map, *to = &npu->maps[copy->target].map;
    for (int axis = 0; axis < 2; axis++)
        if (copy->start[axis] != 0 || copy->step[axis] != 1 || copy->offset[axis] != 0)
            return 0;
    return copy->extent[0] == to->height && copy->extent[1] == to->width &&
           from->height == to->height && from->width == to->width;
}

/* Channels of each map that copies put beside each other in their order, -1 where they do otherwise. A map
 * that is full then needs not be cleared first. */
static void find_tiled(const struct npu *npu, int *channels)
{
    for (int s = 0; s < npu->step_count; s++) {
        const struct npu_chain *chain = &npu->steps[s].chain;
        int *full = &channels[chain->target];
        if (chain->kind != NPU_COPY)
            continue;
        if (*full < 0 || chain->offset[2] != *full || !takes_planes(npu, chain))
            *full = -1;
        else
            *full += chain->extent[2];
    }
}

/* Whether the source of a copy may lie in its target. Vectors of 16 that are written past a map's last
 * channel would hurt its neighbours there, so that both ends are multiples. */
static int can_lie_in(const struct npu *npu, int map, const struct npu_chain *copy)
{
    const struct map_place *place = &npu->maps[map];
    for (int i = 0; i < npu->input_count; i++)
        if (npu->inputs[i].map == map)
            return 0;
    return place->within < 0 && place->map.memories == NPU_FLOAT16 && copy->start[2] == 0 &&
           copy->step[2] == 1 && copy->extent[2] == place->map.channels &&
           place->map.channels % BFP_LANES == 0 && copy->offset[2] % BFP_LANES == 0;
}

/* Follows maps outwards: where a map's pixels begin, and how far apart they are. */
static void find_places(struct npu *npu)
{
    for (int m = 0; m < npu->map_count; m++) {
        struct map_place *place = &npu->maps[m];
        size_t shift = 0;
        int outer = m;
        for (; npu->maps[outer].within >= 0; outer = npu->maps[outer].within)
            shift += npu->maps[outer].shift;
        place->root = outer;
        place->root_shift = shift;
        place->pitch = (size_t)npu->maps[outer].map.channels;
    }
}

int npu_join_maps(struct npu *npu)
{
    int *channels = calloc((size_t)npu->map_count, sizeof *channels);
    if (channels == NULL)
        return 0;
    for (int m = 0; m < npu->map_count; m++)
        npu->maps[m].within = -1;
    if (npu->numerics == NPU_BFP)
        find_tiled(npu, channels);
    for (int s = 0; s < npu->step_count; s++) {
        struct step *step = &npu->steps[s];
        const struct npu_chain *chain = &step->chain;
        if (chain->kind != NPU_COPY || channels[chain->target] != npu->maps[chain->target].map.channels)
            continue;
        step->clears = 0;
        if (!can_lie_in(npu, chain->source, chain))
            continue;
        npu->maps[chain->source].within = chain->target;
        npu->maps[chain->source].shift = (size_t)chain->offset[2];
        step->in_place = 1;
    }
    find_places(npu);
    free(channels);
    return 1;
}
