/* What the files of the emulator share. */
#ifndef EDGED_NPU_INTERNAL_H
#define EDGED_NPU_INTERNAL_H

#include <stddef.h>
#include <stdlib.h>

#include "npu.h"

enum {
    PANEL_PIXELS = 56,   /* output pixels of a work item at most: their sums and one tile fit the L1 cache */
    ITEM_WORK = 5000000, /* products of a work item, about */
    TILE_PIXELS = 7,     /* a panel is a multiple of this, the pixels that kernels take at once */
    EXPANDER_BLOCKS = 64, /* of a window at most, where planes are used */
    COPY_PIXELS = 64,    /* pixels of a work item of the row operations */
    CACHE_LINE = 64,
    COPY_STEP = 16       /* halves */
};

/* A feature map's place in the arena; pointers are NULL for memories it does not have. */
struct map_place {
    struct npu_map map;
    uint16_t *halves; /* [pixel][channel] float16 */
    uint8_t *block;   /* [pixel][block_stride] elements */
    float *scale;     /* [pixel][blocks] */
    float *floats;    /* [pixel][channel], in the float32 mode only */
    int blocks;
    size_t block_stride; /* bytes of a pixel's elements */
    size_t pitch;        /* halves from pixel to pixel */
    int within;          /* the map that its float16 values lie inside, or -1 */
    size_t shift;        /* there: the channel of its first */
    int root;            /* the outermost of these maps, itself if there is none */
    size_t root_shift;   /* there: likewise */
    uint8_t zero;        /* what element 0 is stored as: 0 where nothing is negative, else 128 */
    int passing;         /* blocks of one panel exist, in memory of the thread that has it in hand */
    size_t passing_at;   /* where in that memory */
    int origin;          /* the pixel that `block` and `scale` begin with */
};

struct planes; /* expander.c */

/* A convolution's weights, packed. */
struct convolution {
    int positions; /* kernel positions that are read apart; 1 with the expander */
    int blocks;    /* of one position */
    int channels;  /* of one position */
    int rows, row_blocks;
    int group_rows;    /* rows of a group at most */
    int chunk;         /* parts that are taken in one go */
    int panel, panels; /* output pixels of an item, items a row block */
    int by_rows;       /* threads divide rows, not pixels */
    struct bfp_tile *tiles; /* [row block][group][position][block] */
    int8_t *weights;
    size_t row_block_bytes; /* weights of a row block, on average */
    float *scales;
    int32_t *starts;
    uint8_t *plans; /* of all tiles: plan_bytes for every BFP_LANES rows */
    size_t plan_bytes;
    float *bias; /* [row blocks * 128], 0 beyond the rows */
    struct planes *planes; /* expander: the quantised source, where that is worth it */
};

/* Steps that are run together, a panel at a time. */
struct band {
    int first, last;   /* steps */
    int panel, panels; /* output pixels of an item, items */
};

/* One thread's working memory. */
struct scratch {
    float *sums;                 /* [PANEL_PIXELS][128] */
    uint16_t *raw;               /* [PANEL_PIXELS][128] float16 before saturation */
    const uint8_t **elements;    /* [position of a chunk][BFP_PART_PIXELS] */
    const float **element_scale; /* [PANEL_PIXELS], for `multiply` */
    struct bfp_part *parts;      /* of a chunk */
    float *part_scales;          /* [part of a chunk][BFP_PART_PIXELS] */
    uint16_t *windows;           /* expander: [PANEL_PIXELS] windows, and COPY_STEP halves of room */
    uint8_t *window_blocks;      /* expander: [PANEL_PIXELS] windows, a block of room each */
    float *window_scales;
    uint16_t *line, *largest;    /* expander: one row of the source with its border */
    uint16_t *row;         /* one pixel's channels */
    float *plane;          /* one image row of every channel, at the ports */
    const uint16_t **many; /* the pixels under a pool's window */
    struct map_place *maps; /* as the thread sees them, in a band */
    uint8_t *passing;       /* blocks of the maps that pass */
    uint64_t *spent;        /* nanoseconds on each step of a band */
    uint64_t saturated;
    uint64_t not_finite;
};

struct step {
    struct npu_chain chain;
    struct convolution *convolution;
    const struct convolution *next; /* the one after it */
    const struct band *band;        /* that begins with this step */
    float *scale, *bias; /* constants of the row operations as floats, padded to BFP_LANES */
    float *weights;      /* float32 mode: [position][channel][row] */
    int clears;          /* a copy that is the first into its target */
    int completes;       /* a copy that is the last into its target */
    int in_place;        /* a copy whose source lies there already */
};

/* Memory for the weights of all convolutions, close together. */
struct store {
    struct store_piece *last;
    uint8_t *next;
    size_t left;
};

struct npu {
    const struct bfp_kernels *kernels;
    struct pool *pool;
    enum npu_numerics numerics;
    int mantissa;
    struct map_place *maps;
    int map_count;
    struct step *steps;
    int step_count;
    struct band *bands;
    int band_count;
    size_t passing_bytes; /* of a thread */
    struct npu_port *inputs, *outputs;
    int input_count, output_count;
    uint8_t *arena;
    struct store weights;
    uint8_t *zero_row[2]; /* elements outside the image: all 0, all 128 */
    float *zero_scale;
    struct scratch *scratch; /* [threads] */
    struct npu_counters counters;
    uint64_t tile_operations; /* of one run */
    uint64_t *times;          /* nanoseconds: entry, each step, exit */
};

/* memory.c */
/* Zeroed memory, aligned to a cache line, that is freed with the store only; NULL when short. */
void *npu_store(struct store *store, size_t bytes);
void npu_free_store(struct store *store);
/* Aligned, zeroed memory; NULL when short. Freed by free(). */
void *npu_allocate(size_t count, size_t size);
/* Bytes from pixel to pixel of a map's elements. */
size_t npu_block_stride(const struct npu_map *map);
/* Places maps in an arena by their lifetimes. Returns 0 when memory is short. */
int npu_place_maps(struct npu *npu);

/* concat.c */
/* Finds the maps that lie inside others. Returns 0 when memory is short. */
int npu_join_maps(struct npu *npu);

/* band.c */
/* Finds the steps that are run together, before maps are placed. Returns 0 when memory is short. */
int npu_find_bands(struct npu *npu);
/* Makes a thread's own view of the maps, after they are placed. Returns 0 when memory is short. */
int npu_make_passing(struct npu *npu, struct scratch *scratch);
void npu_run_band(struct npu *npu, const struct band *band);
/* Divides the nanoseconds that a band took among its steps. */
void npu_share_time(struct npu *npu, const struct band *band, uint64_t took);

/* convolution.c */
/* Whether threads divide a convolution's rows among them, not its pixels. */
int npu_divides_rows(const struct npu *npu, const struct npu_chain *chain);
/* Panels for so many pixels, each of so many products. */
void npu_divide_pixels(const struct npu *npu, int pixels, int64_t work, int *panel, int *panels);
struct convolution *npu_pack(struct npu *npu, const struct npu_chain *chain);
/* Some pixels of a convolution without expander, in a band. */
void npu_convolve_panel(struct npu *npu, const struct step *step, int thread, int first, int pixels);
void npu_free_convolution(struct convolution *convolution);
void npu_convolve(struct npu *npu, const struct step *step);

/* expander.c */
/* Makes room for the quantised source, if that is worth it; 0 when memory is short. */
int npu_make_planes(const struct npu *npu, const struct npu_chain *chain, struct convolution *conv);
void npu_free_planes(struct planes *planes);
/* Room for a row of the source with its border. */
size_t npu_line_halves(const struct planes *planes);
void npu_prepare_expander(struct npu *npu, const struct step *step);
/* The windows of a panel, quantised, in the thread's own memory. */
void npu_expand(struct npu *npu, const struct step *step, struct scratch *scratch, int first, int pixels);

/* rows.c: every other chain, and quantising of maps that were written in pieces. */
void npu_run_rows(struct npu *npu, const struct step *step);
/* Some pixels of a chain that reads one pixel for each, in a band. */
void npu_run_rows_panel(struct npu *npu, const struct step *step, int thread, int first, int pixels);
void npu_quantise_pixel(const struct npu *npu, const struct map_place *map, int pixel, int from,
                        int to, const uint16_t *halves);

/* ports.c */
int npu_enter(struct npu *npu, const float *const *inputs);
void npu_leave(struct npu *npu, float *const *outputs);

/* float32.c */
float *npu_unpack_float32(const struct npu *npu, const struct npu_chain *chain);
void npu_run_float32(struct npu *npu, const struct step *step);

static inline int ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

static inline int smaller(int a, int b)
{
    return a < b ? a : b;
}

static inline int pixels_of(const struct npu_map *map)
{
    return map->height * map->width;
}

#endif
