/* The NPU emulator: loads a program and runs it (NPU.md, part 1).
 *
 * A specification is handed over decoded and validated (edged/npu/validate.py): every index, extent
 * and constant's length is in bounds. Nothing here reads a file or raises; what can fail returns a
 * status. A device runs one request at a time; the caller sees to that. */
#ifndef EDGED_NPU_H
#define EDGED_NPU_H

#include <stdint.h>

#include "../bfp/kernels.h"
#include "pool.h"

enum npu_memory { NPU_FLOAT16 = 1, NPU_BLOCK = 2, NPU_OUTPUT = 4 };
enum npu_layout { NPU_NCHW = 0, NPU_NHWC = 1, NPU_NC = 2 };
enum npu_numerics { NPU_BFP = 0, NPU_FLOAT32 = 1 };

enum npu_kind {
    NPU_CONVOLUTION = 0,
    NPU_SCALE = 1,
    NPU_ADD = 2,
    NPU_ACTIVATE = 3,
    NPU_MAX_POOL = 4,
    NPU_AVERAGE_POOL = 5,
    NPU_NORM = 6,
    NPU_COPY = 7
};

/* A feature map. */
struct npu_map {
    int height, width, channels;
    int memories; /* of enum npu_memory */
};

/* One chain; fields that a kind does not use are 0. Constants are float16 and must outlive npu_load. */
struct npu_chain {
    enum npu_kind kind;
    int source, other, target; /* maps; other is -1 where there is none */
    int kernel[2], stride[2], pads[4], dilation[2];
    int expander, include_pad;
    enum bfp_activation activation;
    const uint16_t *weights, *bias, *scale;
    int start[3], step[3], extent[3], offset[3]; /* copy: row, column, channel */
};

struct npu_port {
    int map;
    enum npu_layout layout;
};

struct npu_specification {
    const struct npu_map *maps;
    const struct npu_chain *chains;
    const struct npu_port *inputs, *outputs;
    int map_count, chain_count, input_count, output_count;
    int mantissa; /* bits of the number format */
};

struct npu_counters {
    uint64_t runs;
    uint64_t chains;
    uint64_t tile_operations; /* 128 x 128 tiles times pixels */
    uint64_t saturated;       /* values that float16 could not hold at the end of a chain */
};

struct npu;

/* Loads a program: weights are quantised and packed, memory is planned. NULL when memory is short.
 * Kernels and pool must outlive it. */
struct npu *npu_load(const struct npu_specification *specification, enum npu_numerics numerics,
                     const struct bfp_kernels *kernels, struct pool *pool);
void npu_unload(struct npu *npu);

/* Runs one item. Arrays are float32 in the ports' layouts. Returns -1, or the number of the first input
 * that holds a value float16 cannot; then outputs are unchanged. Allocates nothing. */
int npu_run(struct npu *npu, const float *const *inputs, float *const *outputs);

void npu_read_counters(const struct npu *npu, struct npu_counters *to);

/* Nanoseconds of entry, every chain and exit in the last run, chain_count + 2 numbers. What chains that ran
 * together took is shared out among them by some panels that were timed. */
void npu_read_times(const struct npu *npu, uint64_t *to);

#endif
