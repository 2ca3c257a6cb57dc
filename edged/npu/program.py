"""Programs: what the compiler makes and the device runs (NPU.md 1.8).

Weights are float16, as folded: the device quantises them to the program's format when it loads
them, so that the same program also runs without block rounding, which tells mapping errors from
rounding.

Invariants:
- A ``Program`` that exists is valid: ``edged.npu.validate`` is the one place where sizes, offsets
  and indices are checked, whether the compiler made the program or a file held it; the device
  (``ext/npu``) is handed nothing else.
- Equal programs have equal bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from mmap import mmap
from os import PathLike
from pathlib import Path

from edged.errors import ModelError
from edged.npu import fileform
from edged.npu.listing import Listing
from edged.npu.validate import validate


@dataclass(frozen=True, eq=False)
class Program(Listing):
    """A valid listing, with its file form.

    Raises:
        ModelError: the parts do not make a program that a device could run.
    """

    def __post_init__(self) -> None:
        validate(self)

    def to_bytes(self) -> bytes:
        """Returns the file form (``edged.npu.fileform``)."""
        return fileform.write(self)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the file form to a path."""
        Path(path).write_bytes(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes | mmap) -> Program:
        """Returns the program that the bytes hold; its weights stay there, and are not copied.

        Raises:
            ModelError: they are not a valid program; the text says what is wrong and where.
        """
        found = fileform.read(data)
        program = cls(
            found.format, found.sku, found.tensors, found.inputs, found.outputs, found.chains
        )
        if fileform.tables(program) != data[: len(data) - fileform.data_bytes(program)]:
            raise ModelError(
                "cannot read program: the bytes are not the file form of what they list; "
                "a memory size, a write or a reserved field is wrong"
            )
        return program

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Program:
        """Returns the program in a file.

        Raises:
            ModelError: the file cannot be read or does not hold a valid program.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as exc:
            raise ModelError(f"cannot read program {path}: {exc.strerror}") from exc
        return cls.from_bytes(data)
