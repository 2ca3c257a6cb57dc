/* Memory, and where feature maps live in it: one arena, in which maps that are never alive together share bytes. */

#include <string.h>
#include <sys/mman.h>

#include "internal.h"

enum {
    HUGE_PAGE = 2 << 20,
    STORE_BYTES = 2 * HUGE_PAGE /* of a piece of a store at least */
};

/* In huge pages, where the system gives them: processors fetch ahead within a page only. */
static void *allocate_huge(size_t bytes)
{
    void *memory = aligned_alloc(HUGE_PAGE, (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
    if (memory != NULL)
        madvise(memory, bytes, MADV_HUGEPAGE); /* a wish: refused, it is slower */
    return memory;
}

void *npu_allocate(size_t count, size_t size)
{
    size_t bytes;
    void *memory;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - CACHE_LINE)
        return NULL;
    bytes = (bytes + CACHE_LINE) / CACHE_LINE * CACHE_LINE;
    memory = bytes < HUGE_PAGE ? aligned_alloc(CACHE_LINE, bytes) : allocate_huge(bytes);
    return memory != NULL ? memset(memory, 0, bytes) : NULL;
}

/* A piece of a store: its memory follows in the same allocation. */
struct store_piece {
    struct store_piece *before;
};

void *npu_store(struct store *store, size_t bytes)
{
    bytes = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    if (bytes > store->left) {
        size_t whole = bytes + CACHE_LINE > STORE_BYTES ? bytes + CACHE_LINE : STORE_BYTES;
        struct store_piece *piece = whole > bytes ? allocate_huge(whole) : NULL;
        if (piece == NULL)
            return NULL;
        piece->before = store->last;
        store->last = piece;
        store->next = (uint8_t *)piece + CACHE_LINE;
        store->left = whole - CACHE_LINE;
    }
    void *memory = store->next;
    store->next += bytes;
    store->left -= bytes;
    return memset(memory, 0, bytes);
}

void npu_free_store(struct store *store)
{
    for (struct store_piece *piece = store->last, *before; piece != NULL; piece = before) {
        before = piece->before;
        free(piece);
    }
}

struct span {
    size_t bytes, at;
    int first, last; /* steps between which it is alive, -1 is entry */
};

static size_t aligned(size_t bytes)
{
    return (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

static size_t halves_bytes(const struct npu_map *map)
{
    return aligned((size_t)pixels_of(map) * (size_t)map->channels * 2);
}

static size_t block_bytes(const struct map_place *place)
{
    return aligned((size_t)pixels_of(&place->map) * place->block_stride);
}

size_t npu_block_stride(const struct npu_map *map)
{
    int whole = map->channels / BFP_BLOCK, rest = map->channels % BFP_BLOCK;
    return (size_t)whole * BFP_BLOCK + (rest > 0 ? bfp_block_bytes(rest) : 0);
}

static void describe(const struct npu *npu, struct map_place *place, struct span *span)
{
    const struct npu_map *map = &place->map;
    place->blocks = ceil_div(map->channels, BFP_BLOCK);
    place->block_stride = npu_block_stride(map);
    if (npu->numerics == NPU_FLOAT32) {
        span->bytes = aligned((size_t)pixels_of(map) * (size_t)map->channels * sizeof(float));
        return;
    }
    if (place->within < 0 && map->memories & (NPU_FLOAT16 | NPU_OUTPUT))
        span->bytes += halves_bytes(map);
    if (map->memories & NPU_BLOCK && !place->passing)
        span->bytes += block_bytes(place) +
                       aligned((size_t)pixels_of(map) * (size_t)place->blocks * sizeof(float));
}

static void live(struct span *span, int first, int last)
{
    span->first = smaller(span->first, first);
    span->last = span->last > last ? span->last : last;
}

/* Threads are at different steps of a band, so all its maps live as long as it does. */
static void live_through_bands(const struct npu *npu, struct span *spans)
{
    for (int b = 0; b < npu->band_count; b++) {
        int first = npu->bands[b].first, last = npu->bands[b].last;
        for (int s = first; s <= last; s++) {
            const struct npu_chain *chain = &npu->steps[s].chain;
            live(&spans[chain->source], first, last);
            live(&spans[chain->target], first, last);
            if (chain->other >= 0)
                live(&spans[chain->other], first, last);
        }
    }
}

static void lifetimes(const struct npu *npu, struct span *spans)
{
    for (int m = 0; m < npu->map_count; m++)
        spans[m].first = npu->step_count;
    for (int i = 0; i < npu->input_count; i++)
        spans[npu->inputs[i].map].first = -1;
    for (int s = 0; s < npu->step_count; s++) {
        const struct npu_chain *chain = &npu->steps[s].chain;
        if (spans[chain->target].first > s)
            spans[chain->target].first = s;
        spans[chain->target].last = s;
        spans[chain->source].last = s;
        if (chain->other >= 0)
            spans[chain->other].last = s;
    }
    for (int i = 0; i < npu->output_count; i++)
        spans[npu->outputs[i].map].last = npu->step_count;
    live_through_bands(npu, spans);
    for (int m = 0; m < npu->map_count; m++) /* a map lives as long as those inside it */
        live(&spans[npu->maps[m].root], spans[m].first, spans[m].last);
}

/* The lowest place that is free while the span is alive, among those placed before it. */
static size_t lowest(const struct span *spans, const int *order, int placed, const struct span *span)
{
    size_t at = 0;
    for (int moved = 1; moved;) {
        moved = 0;
        for (int i = 0; i < placed; i++) {
            const struct span *other = &spans[order[i]];
            int together = other->first <= span->last && span->first <= other->last;
            if (together && at < other->at + other->bytes && other->at < at + span->bytes) {
                at = other->at + other->bytes;
                moved = 1;
            }
        }
    }
    return at;
}

static void point(const struct npu *npu, struct map_place *place, const struct span *span)
{
    uint8_t *at = npu->arena + span->at;
    if (npu->numerics == NPU_FLOAT32) {
        place->floats = (float *)at;
        return;
    }
    if (place->within < 0 && place->map.memories & (NPU_FLOAT16 | NPU_OUTPUT)) {
        place->halves = (uint16_t *)at;
        at += halves_bytes(&place->map);
    }
    if (place->map.memories & NPU_BLOCK && !place->passing) {
        place->block = at;
        place->scale = (float *)(at + block_bytes(place));
    }
}

/* Larger maps first, each at the lowest free place: close to the peak of what is alive. */
static int compare_bytes(const void *one, const void *other)
{
    const struct span *const *a = one, *const *b = other;
    if ((*a)->bytes != (*b)->bytes)
        return (*a)->bytes < (*b)->bytes ? 1 : -1;
    return *a < *b ? -1 : *a > *b;
}

int npu_place_maps(struct npu *npu)
{
    size_t count = (size_t)npu->map_count, total = 0;
    struct span *spans = calloc(count, sizeof *spans);
    const struct span **sorted = calloc(count, sizeof *sorted);
    int *order = calloc(count, sizeof *order);
    int done = spans != NULL && sorted != NULL && order != NULL;
    if (done) {
        for (size_t m = 0; m < count; m++) {
            describe(npu, &npu->maps[m], &spans[m]);
            sorted[m] = &spans[m];
        }
        lifetimes(npu, spans);
        qsort(sorted, count, sizeof *sorted, compare_bytes);
        for (int i = 0; i < npu->map_count; i++) {
            order[i] = (int)(sorted[i] - spans);
            struct span *span = &spans[order[i]];
            span->at = lowest(spans, order, i, span);
            if (span->at + span->bytes > total)
                total = span->at + span->bytes;
        }
        npu->arena = npu_allocate(total + CACHE_LINE, 1);
        done = npu->arena != NULL;
    }
    for (int m = 0; done && m < npu->map_count; m++)
        point(npu, &npu->maps[m], &spans[m]);
    for (int m = 0; done && m < npu->map_count; m++)
        if (npu->maps[m].within >= 0)
            npu->maps[m].halves = npu->maps[npu->maps[m].root].halves + npu->maps[m].root_shift;
    free(spans);
    free(sorted);
    free(order);
    return done;
}
