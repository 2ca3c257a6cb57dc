"""Tar streams, written so that equal content gives equal bytes and read as untrusted input.

The writer makes plain ustar: root's files, time 0, nothing of the machine it ran on. The reader
understands ustar, pax (``path`` and ``size``) and GNU long names, which is what container tools
write. It is our own because the standard library's keeps extended headers of any length in memory
and its writer's bytes may change with the Python version, which would change digests.

Invariants:
- The reader never holds more than one block and one extended header (``EXTENDED_LIMIT``) in memory.
- Every number is range-checked, every header's checksum is checked, a truncated stream is an error.
- It does not judge names or types: that is ``unpack``'s job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from edged.errors import ModelError

BLOCK = 512
END = bytes(2 * BLOCK)
EXTENDED_LIMIT = 64 << 10  # bytes of one pax header or long name
SIZE_LIMIT = 1 << 40  # bytes of one member

FILE, FOLDER = "file", "folder"
_KINDS = {
    b"0": FILE,
    b"\0": FILE,
    b"5": FOLDER,
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "character device",
    b"4": "block device",
    b"6": "named pipe",
}


class Source(Protocol):
    """What a tar is read from: any stream with ``read``."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, nothing at the end."""


@dataclass(frozen=True)
class Entry:
    """One member: its name as written, what it is, its size and where its data starts."""

    name: str
    kind: str
    size: int
    offset: int


def header(name: str, size: int | None) -> bytes:
    """The header block of a file of ``size`` bytes, or of a folder (``None``).

    Raises:
        ModelError: the name does not fit ustar (100 bytes, or 155 + 100 at a slash).
    """
    text = name if size is not None else name + "/"
    prefix, short = _split_name(text.encode())
    block = bytearray(BLOCK)

    def put(offset: int, data: bytes) -> None:
        block[offset : offset + len(data)] = data

    put(0, short)
    put(100, b"%07o\0" % (0o644 if size is not None else 0o755))
    put(108, b"%07o\0" % 0)
    put(116, b"%07o\0" % 0)
    put(124, _octal(size or 0))
    put(136, b"%011o\0" % 0)
    put(156, b"0" if size is not None else b"5")
    put(257, b"ustar\x0000")
    put(345, prefix)
    put(148, b"%06o\0 " % _checksum(block))
    return bytes(block)


def padding(size: int) -> bytes:
    """The zeros after ``size`` bytes of data."""
    return bytes(-size % BLOCK)


def _octal(size: int) -> bytes:
    if size < 1 << 33:
        return b"%011o\0" % size
    return b"\x80" + size.to_bytes(11, "big")  # GNU's base 256, read by every tool


def _split_name(name: bytes) -> tuple[bytes, bytes]:
    if len(name) <= 100:
        return b"", name
    cut = name.find(b"/", len(name) - 101)
    if cut <= 0 or cut > 155:
        raise ModelError(f"cannot write tar member {name.decode()!r}: the name is too long")
    return name[:cut], name[cut + 1 :]


def _checksum(block: bytes | bytearray) -> int:
    return sum(block[:148]) + 8 * 32 + sum(block[156:])


class TarReader:
    """Walks over a tar stream once; ``read`` gives the data of the member iterated last.

    Args:
        source: the stream, at its start.
        what: named in errors.
        entry_limit: most headers, extended ones included.
        seek: goes to an absolute position of the source, where it can; data nobody reads is then
            passed over instead of read.
        open_end: whether the last padding and the end's marks may be missing, as some tools leave
            them out; for streams that are held to a digest, so that nothing can be cut off.
    """

    def __init__(
        self,
        source: Source,
        what: str,
        entry_limit: int = 100_000,
        seek: Callable[[int], object] | None = None,
        open_end: bool = False,
    ) -> None:
        self._source = source
        self._open_end = open_end
        self._seek = seek
        self._what = what
        self._left_headers = entry_limit
        self._position = 0
        self._left = 0  # bytes of the current member not read yet
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        extended: dict[str, str] = {}
        while (block := self._next_header()) is not None:
            size = self._number(block[124:136], "size")
            flag = block[156:157]
            if flag in (b"x", b"g", b"L"):
                found = self._extended(flag, size)
                if flag != b"g":
                    extended.update(found)
                continue
            if "size" in extended:
                size = self._decimal(extended["size"])
            name = extended.get("path") or self._name(block)
            extended = {}
            kind = _KINDS.get(flag, f"member of type {flag!r}")
            if kind == FILE and name.endswith("/"):  # how tar said "folder" before ustar
                kind = FOLDER
            self._begin(size if kind == FILE else 0)
            yield Entry(name, kind, size if kind == FILE else 0, self._position)

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes of the current member, nothing at its end.

        Raises:
            ModelError: the stream ends within the member.
        """
        data = self._take(size)
        if not data and size and self._left:
            raise self._error("it ends within a member (truncated)")
        return data

    def _take(self, size: int) -> bytes:
        """Up to ``size`` bytes of the current member, nothing at its end or the stream's."""
        want = min(size, self._left)
        data = self._source.read(want) if want else b""
        self._left -= len(data)
        self._position += len(data)
        return data

    def _begin(self, size: int) -> None:
        if size > SIZE_LIMIT:
            raise self._error(f"a member of {size} bytes, expected at most {SIZE_LIMIT}")
        self._left = size
        self._padding = -size % BLOCK

    def _next_header(self) -> bytes | None:
        self._skip()
        if self._left_headers == 0:
            raise self._error("too many members")
        self._left_headers -= 1
        block = self._block()
        if block is None or block.count(0) == BLOCK:
            return None
        if self._number(block[148:156], "checksum") != _checksum(block):
            raise self._error(f"wrong header checksum at byte {self._position - BLOCK}")
        return block

    def _skip(self) -> None:
        if self._seek is not None:
            self._position += self._left + self._padding
            self._left = self._padding = 0
            self._seek(self._position)
            return
        while self._left:
            self.read(min(self._left, 1 << 20))
        self._left, self._padding = self._padding, 0
        while self._left:
            if not self._take(self._left):
                if not self._open_end:
                    raise self._error("it ends within a member (truncated)")
                self._left = 0

    def _block(self) -> bytes | None:
        """The next block; None at the end of the stream, where that is allowed."""
        self._left = BLOCK
        parts = [self._take(BLOCK)]
        if not parts[0] and self._open_end:
            return None
        while self._left:
            parts.append(self.read(self._left))
        return b"".join(parts)

    def _extended(self, flag: bytes, size: int) -> dict[str, str]:
        if size > EXTENDED_LIMIT:
            raise self._error(f"an extended header of {size} bytes, limit {EXTENDED_LIMIT}")
        self._begin(size)
        data = b"".join(iter(lambda: self.read(BLOCK * 8), b""))
        if flag == b"L":
            return {"path": self._decode(data.rstrip(b"\0"))}
        records = self._pax(data)
        if any(key.startswith("GNU.sparse") for key in records):
            raise self._error("sparse members are not supported")
        if flag == b"g" and records.keys() & {"path", "size"}:
            raise self._error("a global header sets the name or size of its members")
        return {key: value for key, value in records.items() if key in ("path", "size")}

    def _pax(self, data: bytes) -> dict[str, str]:
        """Records ``<length> <key>=<value>`` and a newline, the length counting all of it."""
        records: dict[str, str] = {}
        while data.rstrip(b"\0"):
            digits, space, _ = data[:20].partition(b" ")
            length = self._decimal(digits.decode("latin-1")) if space else 0
            record = data[len(digits) + 1 : length]
            key, equals, value = record.partition(b"=")
            if not equals or length > len(data) or not record.endswith(b"\n"):
                raise self._error("a damaged pax header")
            records[self._decode(key)] = value[:-1].decode("utf-8", "surrogateescape")
            data = data[length:]
        return records

    def _name(self, block: bytes) -> str:
        name = block[:100].split(b"\0", 1)[0]
        if block[257:262] == b"ustar" and block[262:263] != b" ":  # GNU's has other data there
            prefix = block[345:500].split(b"\0", 1)[0]
            name = prefix + b"/" + name if prefix else name
        return self._decode(name)

    def _decode(self, data: bytes) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise self._error(f"a name that is not UTF-8: {data[:80]!r}") from exc

    def _number(self, data: bytes, what: str) -> int:
        if data[0] == 0x80:
            return int.from_bytes(data[1:], "big")
        text = data.strip(b" \0") or b"0"
        if not all(0x30 <= digit <= 0x37 for digit in text):
            raise self._error(f"a header whose {what} is not a number: {data!r}")
        return int(text, 8)

    def _decimal(self, text: str) -> int:
        if not (text.isascii() and text.isdigit()) or len(text) > 15:
            raise self._error(f"a pax number that is none: {text[:40]!r}")
        return int(text)

    def _error(self, cause: str) -> ModelError:
        return ModelError(f"cannot read tar {self._what}: {cause}")
