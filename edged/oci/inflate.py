"""Decompression of what nobody vouched for: gzip, a piece at a time, with a bound."""

from __future__ import annotations

import zlib
from typing import Protocol

from edged.errors import ModelError
from edged.oci.digest import CHUNK


class Source(Protocol):
    """Where the compressed bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, nothing at the end."""


class Inflater:
    """Reads a gzip stream, of one member or several, with little more than a chunk in memory.

    Args:
        source: the compressed bytes.
        limit: most decompressed bytes; it stops a stream that grows for ever.
        what: named in errors.
    """

    def __init__(self, source: Source, limit: int, what: str) -> None:
        self._source = source
        self._zlib = _gzip_member()
        self._pending = b""
        self._limit = limit
        self._what = what

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` decompressed bytes, nothing at the end."""
        while True:
            data = self._pending or self._source.read(CHUNK)
            if self._zlib.eof:
                if not data:
                    return b""
                self._zlib = _gzip_member()
            elif not data:
                raise ModelError(f"cannot read {self._what}: the gzip data ends early")
            try:
                out = self._zlib.decompress(data, size)
            except zlib.error as exc:
                raise ModelError(f"cannot read {self._what}: damaged gzip data ({exc})") from exc
            self._pending = self._zlib.unused_data or self._zlib.unconsumed_tail
            self._limit -= len(out)
            if self._limit < 0:
                raise ModelError(f"cannot read {self._what}: it decompresses to too many bytes")
            if out:
                return out


def _gzip_member() -> zlib._Decompress:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
