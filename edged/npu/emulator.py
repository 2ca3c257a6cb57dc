"""The device: runs programs on this CPU, equal to ``edged.npu.reference`` to the bit.

A device holds one program at a time and has threads of its own, which spin while a request runs and
sleep otherwise. It is private to its process and takes no lock; the daemon's worker is told when
it has the one NPU of the host.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edged.errors import DeviceError
from edged.npu import _native
from edged.npu.chains import (
    ACTIVATIONS,
    Activate,
    Add,
    AveragePool,
    Chain,
    Convolution,
    Copy,
    Halves,
    MaxPool,
    Norm,
    Scale,
    Window,
)
from edged.npu.listing import LAYOUTS, Port
from edged.npu.ports import bind, not_finite
from edged.npu.program import Program
from edged.npu.reference import Numerics

Array = npt.NDArray[np.float32]
_KINDS = (Convolution, Scale, Add, Activate, MaxPool, AveragePool, Norm, Copy)  # order of npu.h
_NUMERICS: tuple[Numerics, ...] = ("bfp", "float32")
THREAD_LIMIT = 256


def open(  # noqa: A001 - the module's verb, as in gzip.open
    *, threads: int | None = None, isa: str | None = None, numerics: Numerics = "bfp"
) -> Device:
    """Returns a device without a program.

    Args:
        threads: how many run a request, the caller's included; None for one a usable CPU.
        isa: kernels to use, such as ``"portable"``; None for ``EDGED_ISA`` or the best here.
        numerics: ``"bfp"`` is the specification; ``"float32"`` runs the same chains without blocks.

    Raises:
        DeviceError: this CPU has no such kernels, or an argument is out of bounds.
    """
    return Device(threads or len(os.sched_getaffinity(0)), isa, numerics)


class Device:
    """One emulated NPU; see ``open``. Use from several threads is serialised."""

    def __init__(self, threads: int, isa: str | None, numerics: Numerics) -> None:
        isa = isa or os.environ.get("EDGED_ISA") or None
        if isa is not None and isa not in _native.available():
            raise DeviceError(
                f"cannot open the NPU: this CPU has no kernels {isa!r}, "
                f"expected one of {', '.join(_native.available())}"
            )
        if not 1 <= threads <= THREAD_LIMIT or numerics not in _NUMERICS:
            raise DeviceError(
                f"cannot open the NPU: threads {threads} must be 1 to {THREAD_LIMIT} "
                f"and numerics {numerics!r} one of {', '.join(_NUMERICS)}"
            )
        self.threads = threads
        self.numerics: Numerics = numerics
        self.isa: str = isa or _native.available()[0]
        self._inputs: tuple[Port, ...] = ()
        self._outputs: tuple[Port, ...] = ()
        self._loaded: _native.Loaded | None = None
        self._lock = threading.Lock()

    def load(self, program: Program) -> None:
        """Takes a program, in place of the one before: packs its weights, plans its memory.

        Nothing of the program is kept but its ports: without it, its weights' memory is free.

        Raises:
            DeviceError: memory or threads are short; the program before stays.
        """
        try:
            loaded = _native.Loaded(
                [
                    (t.height, t.width, t.channels, int(held))
                    for t, held in zip(program.tensors, program.memories, strict=True)
                ],
                [_fields(chain) for chain in program.chains],
                [(p.tensor, LAYOUTS.index(p.layout)) for p in program.inputs],
                [(p.tensor, LAYOUTS.index(p.layout)) for p in program.outputs],
                program.number_format.mantissa_bits,
                _NUMERICS.index(self.numerics),
                self.threads,
                self.isa,
            )
        except MemoryError as exc:
            raise DeviceError(f"cannot load the program: {exc}") from exc
        with self._lock:
            self._inputs, self._outputs = program.inputs, program.outputs
            self._loaded = loaded

    def run(self, x: npt.ArrayLike | Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
        """Returns the outputs by name, float32 in the graph's own layout; batch N is N runs.

        Args:
            x: the input, or inputs by name; batch first, any number of items.

        Raises:
            DeviceError: no program is loaded.
            RequestError: an input is missing, has another shape, or is not finite in float16.
        """
        with self._lock:
            if self._loaded is None:
                raise DeviceError("cannot run: the NPU holds no program, load one first")
            items = [
                _run_item(self._loaded, self._inputs, self._outputs, item)
                for item in bind(self._inputs, x)
            ]
            return {
                port.name: _joined([item[i] for item in items])
                for i, port in enumerate(self._outputs)
            }

    def counters(self) -> dict[str, int]:
        """Returns what the device counted since the program was loaded.

        ``runs`` items, ``chains`` run, ``tile_operations`` of 128 x 128 weights, and values that
        ``saturated`` at the end of a chain.
        """
        with self._lock:
            return self._loaded.counters() if self._loaded is not None else {}

    def times_us(self) -> list[float]:
        """Returns the microseconds of entry, every chain and exit in the last item's run."""
        with self._lock:
            return [] if self._loaded is None else (self._loaded.times() / 1e3).tolist()

    def close(self) -> None:
        """Gives threads and memory back; the device may load again."""
        with self._lock:
            self._loaded = None


def _run_item(
    loaded: _native.Loaded, inputs: tuple[Port, ...], outputs: tuple[Port, ...], item: list[Array]
) -> list[Array]:
    arrays = [np.empty(port.shape, np.float32) for port in outputs]
    bad = loaded.run([array.reshape(-1) for array in item], [out.reshape(-1) for out in arrays])
    if bad >= 0:
        raise not_finite(inputs[bad])
    return arrays


def _joined(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _bits(array: Halves | None) -> npt.NDArray[np.uint16] | None:
    return None if array is None else np.ascontiguousarray(array).reshape(-1).view(np.uint16)


def _fields(chain: Chain) -> dict[str, Any]:
    """Returns the fields of ``npu_chain`` (npu.h)."""
    window = getattr(chain, "window", Window())
    other = chain.residual if isinstance(chain, Convolution) else getattr(chain, "other", None)
    return {
        "kind": _KINDS.index(type(chain)),
        "source": chain.source,
        "other": -1 if other is None else other,
        "target": chain.target,
        "kernel": window.kernel,
        "stride": window.stride,
        "pads": window.pads,
        "dilation": window.dilation,
        "expander": int(getattr(chain, "expander", False)),
        "include_pad": int(getattr(chain, "include_pad", False)),
        "activation": ACTIVATIONS.index(getattr(chain, "activation", "none")),
        "weights": _bits(getattr(chain, "weights", None)),
        "bias": _bits(getattr(chain, "bias", None)),
        "scale": _bits(getattr(chain, "scale", None)),
        "start": getattr(chain, "start", (0, 0, 0)),
        "step": getattr(chain, "step", (0, 0, 0)),
        "extent": getattr(chain, "extent", (0, 0, 0)),
        "offset": getattr(chain, "offset", (0, 0, 0)),
    }


__all__ = ["Device", "Port", "open"]
