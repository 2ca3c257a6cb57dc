"""The NPU stage: the model's program on this process's device.

Invariants:
- A stage that exists holds a loaded program that is what the manifest says of it; the file is no
  longer mapped, the device has what it needs.

Whether this process may use the host's one NPU now is ``edged.worker.main``'s to know.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edged import npu
from edged.errors import ModelError
from edged.manifest import Manifest
from edged.npu import timing
from edged.npu.reference import Numerics


class NpuStage:
    """The program of a model, loaded and encoded.

    Args:
        folder: of the model.
        manifest: of the model; its NPU stage names the program.
        threads: of the emulator; None for one a usable CPU.
        isa: of the emulator; None for the best here.
        numerics: ``"bfp"``, or ``"float32"`` for the same program without block rounding.

    Attributes:
        device: has the program.
        predicted_us: microseconds that the program's board would take; see ``edged.npu.timing``.

    Raises:
        ModelError: there is no valid program, or not the one the manifest describes.
        DeviceError: this machine cannot run it so.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        threads: int | None = None,
        isa: str | None = None,
        numerics: Numerics = "bfp",
    ) -> None:
        program = npu.Program.from_bytes(_mapped(folder / manifest.npu.program))
        _check(manifest, program)
        self._inputs = program.inputs
        self.predicted_us = round(sum(timing.predicted_us(program)), 1)
        self.device = npu.open(threads=threads, isa=isa, numerics=numerics)
        self.device.load(program)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the program's inputs, batch of 1 first."""
        return {port.name: port.shape for port in self._inputs}

    def run(
        self, values: Mapping[str, npt.NDArray[np.float32]]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Returns the program's outputs by name for one item.

        Args:
            values: the program's inputs by name, float32; others are not looked at.

        Raises:
            RequestError: an input has another shape, or is not finite in float16.
        """
        return self.device.run({port.name: values[port.name] for port in self._inputs})

    def close(self) -> None:
        """Gives the device's threads and memory back."""
        self.device.close()


def _mapped(path: Path) -> mmap.mmap | bytes:
    """Returns a file's bytes where the kernel has them: a copy takes longer than packing them.

    Only for a file that nobody cuts short, as a model's are: they are written once, under another
    name.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return b""  # which cannot be mapped
            flags = mmap.MAP_PRIVATE | mmap.MAP_POPULATE
            return mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ)
    except OSError as exc:
        raise ModelError(f"cannot read program {path.name}: {exc.strerror}") from exc


def _check(manifest: Manifest, program: npu.Program) -> None:
    stage = manifest.npu
    found = {
        "sku": program.sku,
        "format": program.format,
        "memory": program.memory_bytes,
        "inputs": sorted(port.name for port in program.inputs),
        "outputs": sorted(port.name for port in program.outputs),
    }
    said = {
        "sku": manifest.sku,
        "format": manifest.format,
        "memory": manifest.memory,
        "inputs": sorted(stage.inputs),
        "outputs": sorted(stage.outputs),
    }
    for key, value in found.items():
        if value != said[key]:
            raise ModelError(
                f"cannot use program {stage.program}: its {key} is {value!r}, "
                f"the manifest says {said[key]!r}"
            )
