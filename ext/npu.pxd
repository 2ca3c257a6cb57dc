# Declarations of the C libraries npu/ and bfp/, used as npu.x.
from libc.stdint cimport uint8_t, uint16_t, uint64_t

cdef extern from "bfp/kernels.h" nogil:
    cdef enum bfp_activation:
        pass

    cdef struct bfp_kernels:
        const char *name
        void (*quantise)(const uint16_t *halves, int channels, int mantissa, uint8_t zero,
                         uint8_t *block, float *scale) noexcept

    size_t bfp_block_bytes(int channels)
    const bfp_kernels *bfp_select(const char *name)
    const char *const *bfp_available()

cdef extern from "bfp/peak.h" nogil:
    double bfp_peak(const char *name, double seconds)

cdef extern from "npu/pool.h" nogil:
    cdef struct pool:
        pass

    pool *pool_open(int threads)
    void pool_close(pool *which)

cdef extern from "npu/npu.h" nogil:
    cdef enum npu_layout:
        pass
    cdef enum npu_kind:
        pass
    cdef enum npu_numerics:
        pass

    cdef struct npu_map:
        int height, width, channels
        int memories

    cdef struct npu_chain:
        npu_kind kind
        int source, other, target
        int kernel[2]
        int stride[2]
        int pads[4]
        int dilation[2]
        int expander, include_pad
        bfp_activation activation
        const uint16_t *weights
        const uint16_t *bias
        const uint16_t *scale
        int start[3]
        int step[3]
        int extent[3]
        int offset[3]

    cdef struct npu_port:
        int map
        npu_layout layout

    cdef struct npu_specification:
        const npu_map *maps
        const npu_chain *chains
        const npu_port *inputs
        const npu_port *outputs
        int map_count, chain_count, input_count, output_count
        int mantissa

    cdef struct npu_counters:
        uint64_t runs, chains, tile_operations, saturated

    cdef struct npu:
        pass

    npu *npu_load(const npu_specification *specification, npu_numerics numerics,
                  const bfp_kernels *kernels, pool *which)
    void npu_unload(npu *which)
    int npu_run(npu *which, const float *const *inputs, float *const *outputs)
    void npu_read_counters(const npu *which, npu_counters *to)
    void npu_read_times(const npu *which, uint64_t *to)
