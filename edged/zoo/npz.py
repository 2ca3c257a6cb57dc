"""Arrays out of an .npz file that nobody vouches for.

Invariants:
- Nothing is unpickled or evaluated: an array's header is matched, not read as Python.
- What is not asked for is not read, and of what is asked for no more than its shape holds, whatever
  the archive promises or inflates to.
- Whatever is wrong is one ModelError that names file and variable.

Formats: ZIP stored or deflated; .npy 1.0, 2.0 and 3.0 (NumPy Enhancement Proposal 1).
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import numpy.typing as npt

from edged.errors import ConfigError, ModelError

Array = npt.NDArray[np.float32]

MEMBER_LIMIT = 10_000
"""Arrays in a file; a checkpoint of the largest network here has 1,500 with an optimiser's."""

_DIRECTORY_LIMIT = 4 << 20  # bytes of a ZIP's list of members
_HEADER_LIMIT = 1 << 12  # bytes of an array's; NumPy writes 118
_CHUNK = 1 << 20  # bytes read at once
_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[A-Za-z][0-9]{0,5})', 'fortran_order': (True|False), "
    rb"'shape': \(([0-9, ]{0,200})\),? ?\} *\n?"
)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGES = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,  # encrypted; NotImplementedError is one as well
    OverflowError,
)


class _Directory(io.FileIO):
    """A file that is not read in larger pieces than a list of members may be.

    ``zipfile`` reads that list at once, with the size that the file itself states.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = _DIRECTORY_LIMIT + 1 if size is None or size < 0 else size
        data = super().read(min(wanted, _DIRECTORY_LIMIT + 1)) or b""
        if len(data) > _DIRECTORY_LIMIT:
            raise zipfile.BadZipFile(f"its list of members is longer than {_DIRECTORY_LIMIT} bytes")
        return data


@dataclass(frozen=True)
class Header:
    """What an array says of itself: type as NumPy writes it (``<f4``), order and shape."""

    descr: str
    fortran: bool
    shape: tuple[int, ...]

    @property
    def type_name(self) -> str:
        """The type's name (``float32``), or what is written where NumPy has none."""
        try:
            return np.dtype(self.descr).name if self.descr[0] != ">" else f"big-endian {self.descr}"
        except TypeError:
            return repr(self.descr)


class Archive:
    """An open file; names are those of its variables, without ``.npy`` and TensorFlow's ``:0``.

    Args:
        path: of the file.

    Raises:
        ConfigError: there is no such file.
        ModelError: it is no such archive.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        if not self._path.is_file():
            raise ConfigError(
                f"cannot use weights {self._path}: no such file; expected random:SEED or an .npz"
            )
        try:
            self._file = _Directory(self._path, "r")
        except OSError as exc:
            raise ConfigError(f"cannot use weights {self._path}: {exc.strerror}") from exc
        try:
            with self._damage("expected an .npz file"):
                self._zip = zipfile.ZipFile(self._file)
            self._members = self._named()
        except ModelError:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._zip.close()
        self._file.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all arrays, in the file's order."""
        return tuple(self._members)

    def error(self, cause: str) -> ModelError:
        """Returns the error that this file is of no use because of ``cause``."""
        return ModelError(f"cannot use weights {self._path}: {cause}")

    def header(self, name: str) -> Header:
        """Returns type and shape of an array, without its values.

        Raises:
            ModelError: they cannot be read.
        """
        with self._damage(f"variable {name!r}"), self._open(name) as stream:
            return _read_header(stream)

    def array(self, name: str, shape: tuple[int, ...]) -> Array:
        """Returns a float32 array of just this shape, with finite values.

        Raises:
            ModelError: it is another one; the text says what was expected and what is there.
        """
        with self._damage(f"variable {name!r}"), self._open(name) as stream:
            header = _read_header(stream)
            if header.shape != shape:
                raise self.error(
                    f"variable {name!r}: expected shape {list(shape)}, got {list(header.shape)}"
                )
            if header.descr != "<f4":
                raise self.error(f"variable {name!r}: expected float32, got {header.type_name}")
            values = _read_values(stream, math.prod(shape))
        array = values.reshape(shape, order="F" if header.fortran else "C")
        finite = np.isfinite(array)
        if not finite.all():
            place = np.argwhere(~finite)[0].tolist()
            raise self.error(
                f"variable {name!r}: expected finite values, got {array[tuple(place)]} at {place} "
                f"({array.size - int(finite.sum())} of {array.size} are not finite)"
            )
        return array

    def _named(self) -> dict[str, zipfile.ZipInfo]:
        members = self._zip.infolist()
        if len(members) > MEMBER_LIMIT:
            raise self.error(f"expected at most {MEMBER_LIMIT} variables, got {len(members)}")
        found: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            if not member.filename.endswith(".npy"):
                raise self.error(f"expected only .npy members, got {member.filename[:100]!r}")
            name = member.filename.removesuffix(".npy").removesuffix(":0")
            if name in found:
                raise self.error(f"variable {name[:100]!r} is there twice")
            found[name] = member
        return found

    def _open(self, name: str) -> IO[bytes]:
        member = self._members[name]
        if member.compress_type not in _METHODS:
            raise NotImplementedError("it is neither stored nor deflated")
        return self._zip.open(member)

    @contextmanager
    def _damage(self, what: str) -> Iterator[None]:
        try:
            yield
        except _DAMAGES as exc:
            raise self.error(f"{what}: {exc}") from exc


def _read_header(stream: IO[bytes]) -> Header:
    """Reads up to where the values begin; ValueError where it is not a plain array's."""
    start = stream.read(8)
    if start[:6] != _MAGIC or start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("it is no .npy array of format 1.0 to 3.0")
    size = int.from_bytes(stream.read(2 if start[6] == 1 else 4), "little")
    text = stream.read(min(size, _HEADER_LIMIT))
    match = _HEADER.fullmatch(text)
    if match is None or len(text) != size:
        raise ValueError("its header is not that of a plain array")
    descr, fortran, shape = match.groups()
    sizes = tuple(int(each) for each in shape.split(b",") if each.strip())
    return Header(descr.decode(), fortran == b"True", sizes)


def _read_values(stream: IO[bytes], count: int) -> Array:
    """Reads all there is, which must be this many values."""
    data = bytearray(4 * count)
    filled = 0
    while filled < len(data):
        chunk = stream.read(min(_CHUNK, len(data) - filled))
        if not chunk:
            raise ValueError(f"expected {len(data)} bytes of values, got {filled}")
        data[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    if stream.read(1):
        raise ValueError(f"expected {len(data)} bytes of values, got more")
    return np.frombuffer(data, "<f4").astype(np.float32, copy=False)
