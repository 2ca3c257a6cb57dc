# cython: language_level=3, boundscheck=True, wraparound=False
"""The emulator's C library for Python: a validated program in, feature maps computed.

Nothing is decided here. ``edged.npu.emulator`` hands over programs that ``edged.npu.validate`` accepted
and arrays of the ports' shapes; this file only turns them into what ``npu.h`` declares.
"""

from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free

cimport npu

import numpy as np


def available():
    """Returns the names of the kernels this CPU can run, best first."""
    cdef const char *const *names = npu.bfp_available()
    found = []
    while names[len(found)] != NULL:
        found.append(names[len(found)].decode())
    return tuple(found)


def quantise(const uint16_t[::1] halves, int mantissa, int zero, str isa):
    """Returns a block's bytes and scale by one instruction set's kernel, for tests.

    Args:
        halves: 1 to 128 float16 values, as their bits.
        mantissa: bits of the number format.
        zero: what element 0 is stored as, 0 or 128.
        isa: name of the kernels.
    """
    cdef const npu.bfp_kernels *kernels = _kernels(isa)
    if not 1 <= halves.shape[0] <= 128:
        raise ValueError("a block has 1 to 128 channels")
    block = np.empty(npu.bfp_block_bytes(<int> halves.shape[0]), np.uint8)
    cdef uint8_t[::1] to = block
    cdef float scale
    kernels.quantise(&halves[0], <int> halves.shape[0], mantissa, <uint8_t> zero, &to[0], &scale)
    return block, scale


def peak(str isa, double seconds):
    """Returns the most 8-bit multiplications and additions a second that the calling thread could do.

    Args:
        isa: name of the kernels.
        seconds: how long to measure.

    Returns:
        0.0 where an instruction set has no dot product of its own (portable).

    Raises:
        ValueError: this CPU has no such kernels, or the time is not within 0 to 10 seconds.
    """
    cdef double rate
    if not 0 < seconds <= 10:
        raise ValueError("a peak is measured for more than 0 and at most 10 seconds")
    _kernels(isa)
    name = isa.encode()
    cdef const char *named = name
    with nogil:
        rate = npu.bfp_peak(named, seconds)
    return rate


cdef const npu.bfp_kernels *_kernels(str isa) except NULL:
    cdef const npu.bfp_kernels *kernels
    name = None if isa is None else isa.encode()
    kernels = npu.bfp_select(NULL if name is None else <const char *> name)
    if kernels == NULL:
        raise ValueError(f"no kernels {isa!r} on this CPU, there are {', '.join(available())}")
    return kernels


cdef void _fill(int *to, values):
    for i, value in enumerate(values):
        to[i] = value


cdef const uint16_t *_halves(array) except? NULL:
    cdef const uint16_t[::1] view = array
    return &view[0]


cdef class Loaded:
    """A program that is loaded, with threads of its own.

    Args:
        maps: (height, width, channels, memories) of each feature map.
        chains: one dict a chain: the fields of ``npu_chain``, constants as flat uint16 arrays.
        inputs, outputs: (map, layout) of each port.
        mantissa: bits of the number format.
        numerics: 0 the specification, 1 float32.
        threads: how many run, the caller's included.
        isa: name of the kernels, or None for the best.

    Raises:
        ValueError: this CPU has no such kernels.
        MemoryError: memory or threads are short.
    """

    cdef npu.npu *_npu
    cdef npu.pool *_pool
    cdef const npu.bfp_kernels *_chosen
    cdef int _inputs, _outputs, _steps
    cdef const float **_from
    cdef float **_to

    def __cinit__(self, list maps, list chains, list inputs, list outputs, int mantissa, int numerics,
                  int threads, isa):
        cdef npu.npu_specification spec
        self._chosen = _kernels(isa)
        self._inputs, self._outputs, self._steps = len(inputs), len(outputs), len(chains)
        self._from = <const float **> calloc(self._inputs + 1, sizeof(float *))
        self._to = <float **> calloc(self._outputs + 1, sizeof(float *))
        if self._from == NULL or self._to == NULL:
            raise MemoryError("cannot load a program: memory is short")
        self._pool = npu.pool_open(threads)
        if self._pool == NULL:
            raise MemoryError(f"cannot start {threads} threads")
        cdef npu.npu_map *map_list = <npu.npu_map *> calloc(len(maps), sizeof(npu.npu_map))
        cdef npu.npu_chain *chain_list = <npu.npu_chain *> calloc(
            len(chains) + 1, sizeof(npu.npu_chain))
        cdef npu.npu_port *ports = <npu.npu_port *> calloc(
            len(inputs) + len(outputs), sizeof(npu.npu_port))
        cdef npu.npu_numerics mode = <npu.npu_numerics> numerics
        try:
            if map_list == NULL or chain_list == NULL or ports == NULL:
                raise MemoryError("cannot load a program: memory is short")
            for i, each in enumerate(maps):
                map_list[i].height, map_list[i].width, map_list[i].channels = each[:3]
                map_list[i].memories = each[3]
            for i, chain in enumerate(chains):
                _set_chain(&chain_list[i], chain)
            for i, port in enumerate(inputs + outputs):
                ports[i].map = port[0]
                ports[i].layout = <npu.npu_layout> <int> port[1]
            spec.maps, spec.map_count = map_list, len(maps)
            spec.chains, spec.chain_count = chain_list, len(chains)
            spec.inputs, spec.input_count = ports, self._inputs
            spec.outputs, spec.output_count = ports + self._inputs, self._outputs
            spec.mantissa = mantissa
            with nogil:
                self._npu = npu.npu_load(&spec, mode, self._chosen, self._pool)
            if self._npu == NULL:
                raise MemoryError("cannot load a program: memory is short")
        finally:
            free(map_list)
            free(chain_list)
            free(ports)

    def __dealloc__(self):
        npu.npu_unload(self._npu)
        npu.pool_close(self._pool)
        free(self._from)
        free(self._to)

    @property
    def isa(self):
        """Name of the kernels in use."""
        return self._chosen.name.decode()

    def run(self, list inputs, list outputs):
        """Runs one item.

        Args:
            inputs, outputs: flat float32 arrays, one a port, of the ports' sizes.

        Returns:
            -1, or the number of the first input that holds a value float16 cannot.
        """
        cdef const float[::1] source
        cdef float[::1] target
        cdef int bad
        if len(inputs) != self._inputs or len(outputs) != self._outputs:
            raise ValueError("wrong number of arrays")
        for i, array in enumerate(inputs):
            source = array
            self._from[i] = &source[0]
        for i, array in enumerate(outputs):
            target = array
            self._to[i] = &target[0]
        with nogil:
            bad = npu.npu_run(self._npu, self._from, self._to)
        return bad

    def times(self):
        """Returns the nanoseconds of entry, every chain and exit in the last run."""
        times = np.zeros(self._steps + 2, np.uint64)
        cdef uint64_t[::1] to = times
        npu.npu_read_times(self._npu, &to[0])
        return times

    def counters(self):
        """Returns the device's counters by name."""
        cdef npu.npu_counters c
        npu.npu_read_counters(self._npu, &c)
        return {
            "runs": c.runs,
            "chains": c.chains,
            "tile_operations": c.tile_operations,
            "saturated": c.saturated,
        }


cdef int _set_chain(npu.npu_chain *to, dict chain) except -1:
    to.kind = <npu.npu_kind> <int> chain["kind"]
    to.source, to.other, to.target = chain["source"], chain["other"], chain["target"]
    _fill(to.kernel, chain["kernel"])
    _fill(to.stride, chain["stride"])
    _fill(to.pads, chain["pads"])
    _fill(to.dilation, chain["dilation"])
    _fill(to.start, chain["start"])
    _fill(to.step, chain["step"])
    _fill(to.extent, chain["extent"])
    _fill(to.offset, chain["offset"])
    to.expander, to.include_pad = chain["expander"], chain["include_pad"]
    to.activation = <npu.bfp_activation> <int> chain["activation"]
    for name in ("weights", "bias", "scale"):
        if chain[name] is None:
            continue
        if name == "weights":
            to.weights = _halves(chain[name])
        elif name == "bias":
            to.bias = _halves(chain[name])
        else:
            to.scale = _halves(chain[name])
    return 0
