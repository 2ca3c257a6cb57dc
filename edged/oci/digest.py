"""Content digests, and streams that are checked against one while they are read.

Invariants:
- A digest is SHA-256 in lower-case hexadecimal; nothing else parses.
- A ``VerifiedReader`` that reached its end without an error delivered exactly the announced bytes,
  together with those before it that its ``prefix`` stands for. Nothing read from it may be trusted
  before that.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol

from edged.errors import VerifyError

_TEXT = re.compile(r"sha256:([0-9a-f]{64})")
_HEX = re.compile(r"[0-9a-f]{64}")
CHUNK = 256 * 1024  # bytes read at once; a heap keeps some of them for the next time


@dataclass(frozen=True, order=True)
class Digest:
    """The SHA-256 of some bytes, written ``sha256:<64 hexadecimal digits>``."""

    hex: str

    def __post_init__(self) -> None:
        if not _HEX.fullmatch(self.hex):
            raise VerifyError(
                f"cannot read digest {self.hex[:80]!r}: expected 64 lower-case hexadecimal digits"
            )

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``sha256:<hex>``.

        Raises:
            VerifyError: another algorithm, another length or other characters.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise VerifyError(
                f"cannot read digest {text[:80]!r}: expected 'sha256:' and 64 lower-case "
                "hexadecimal digits"
            )
        return cls(match.group(1))

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The digest of ``data``."""
        return cls(hashlib.sha256(data).hexdigest())

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


class Source(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, nothing at the end."""

    def close(self) -> None:
        """No more is read."""


@dataclass(frozen=True)
class Prefix:
    """The first bytes of a blob: how many they are, and their SHA-256 so far."""

    size: int
    content: hashlib._Hash


class VerifiedReader:
    """Reads a stream that was announced with a digest and a size, and holds it to both.

    The check happens on the read that finds the end, so a reader has to go on until ``read``
    returns nothing.

    Args:
        stream: where the bytes come from; closed with the reader.
        digest: what their SHA-256 must be.
        size: how many there must be.
        what: named in errors.
        prefix: what was read before, if the stream goes on from there.

    Attributes:
        digest: what the content is held to.
    """

    def __init__(
        self, stream: Source, digest: Digest, size: int, what: str, prefix: Prefix | None = None
    ) -> None:
        self._stream = stream
        self.digest = digest
        self._size = size
        self._what = what
        self._hash = prefix.content.copy() if prefix else hashlib.sha256()
        self._seen = prefix.size if prefix else 0
        self._checked = False

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, all that is left if negative; nothing at the verified end.

        Raises:
            VerifyError: more or fewer bytes than announced, or another digest.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        data = self._stream.read(size)
        self._seen += len(data)
        if self._seen > self._size:
            raise VerifyError(
                f"cannot read {self._what}: expected {self._size} bytes, got more (the content "
                "is not what its descriptor announces)"
            )
        self._hash.update(data)
        if not data and size > 0:
            self._check()
        return data

    def _check(self) -> None:
        if self._checked:
            return
        if self._seen != self._size:
            raise VerifyError(
                f"cannot read {self._what}: expected {self._size} bytes, got {self._seen}"
            )
        got = self._hash.hexdigest()
        if got != self.digest.hex:
            raise VerifyError(f"cannot read {self._what}: expected {self.digest}, got sha256:{got}")
        self._checked = True

    @property
    def prefix(self) -> Prefix:
        """What was read so far, together with what the reader began with."""
        return Prefix(self._seen, self._hash.copy())

    def drain(self) -> None:
        """Read what is left, so that the whole stream is verified."""
        while self.read(CHUNK):
            pass

    def close(self) -> None:
        """Close the underlying stream."""
        self._stream.close()

    def __enter__(self) -> VerifiedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
