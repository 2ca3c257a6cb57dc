"""The parts of a manifest: the signature's tensors, the stages, the golden test.

What the parts must be to each other is ``edged.manifest.model``'s to check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from edged.manifest.preprocess import Preprocess

TYPES = (
    *("float32", "float16", "float64", "string", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
"""Types of a signature's tensors: NumPy's names, and ``string`` for pictures (JPEG or PNG)."""

DETECTIONS = ("boxes", "scores", "classes")
"""Names of a detector's outputs, all float32, best first, what is left over being zero:

- boxes ``[N, K, 4]``: top, left, bottom and right in parts of the picture;
- scores ``[N, K]``;
- classes ``[N, K]``: their numbers, 0 being none.
"""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the signature.

    Attributes:
        name: what callers call it, and the name of the value in the pipeline.
        aliases: other names callers may use for it.
        type: one of ``TYPES``.
        shape: dimensions, -1 for any; a leading -1 is the batch.
    """

    name: str
    aliases: tuple[str, ...]
    type: str
    shape: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The name and the aliases."""
        return (self.name, *self.aliases)

    @property
    def batched(self) -> bool:
        """Whether the first dimension is the batch."""
        return self.shape[:1] == (-1,)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape is such a tensor."""
        return len(shape) == len(self.shape) and all(
            expected in (-1, got) for expected, got in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True)
class Signature:
    """What callers send and get."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class ImageStage:
    """Pictures as JPEG or PNG bytes to a tensor; ``edged.worker.stages.image``."""

    input: str
    output: str
    preprocess: Preprocess

    kind = "image"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the values it reads."""
        return (self.input,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the values it makes."""
        return (self.output,)


@dataclass(frozen=True)
class NpuStage:
    """A program on the NPU; names are its ports'. ``program`` is a path in the model's folder."""

    program: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    kind = "npu"


@dataclass(frozen=True)
class OnnxStage:
    """A graph on the CPU; names are its own. ``model`` is a path in the model's folder."""

    model: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    kind = "onnx"


Stage: TypeAlias = ImageStage | NpuStage | OnnxStage


@dataclass(frozen=True)
class Golden:
    """What the golden test compares; paths are .npz files in the model's folder.

    A ``string`` input ``images`` is stored as one uint8 array of bytes for each picture, named
    ``images/0``, ``images/1`` and so on.

    Attributes:
        npu_inputs: arrays by the names of the program's inputs.
        npu_outputs: what the NPU must answer, to the bit.
        npu_sha256: SHA-256 in hex of each NPU output's values (float32, little-endian, row-major)
            by name, in order of names.
        pipeline_inputs: arrays by the names of the signature's inputs.
        pipeline_outputs: what the whole pipeline must answer.
        tolerance: largest difference allowed there, as a part of the output's largest magnitude,
            or absolute where that is below 1.
    """

    npu_inputs: str
    npu_outputs: str
    npu_sha256: tuple[tuple[str, str], ...]
    pipeline_inputs: str
    pipeline_outputs: str
    tolerance: float
