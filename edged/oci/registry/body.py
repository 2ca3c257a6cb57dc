"""A blob's bytes from where we left off, whatever the server makes of the request.

Invariants:
- What ``read`` gives is the blob from the wanted offset on, in order, without gap; a server that
  says otherwise about itself is refused, one that lies is found out by the digest.
- An end before the announced size is a broken link, not an end.
"""

from __future__ import annotations

import re

from edged.errors import FetchError, ModelError, VerifyError
from edged.oci import spec
from edged.oci.digest import CHUNK
from edged.oci.registry.http import Answer
from edged.oci.retry import PassingError

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


class Body:
    """The bytes of a blob from ``offset`` on.

    Args:
        answer: with status 200 or 206.
        blob: what is fetched.
        offset: where to begin.

    Attributes:
        skipped: bytes that came a second time, because the server began before ``offset``.

    Raises:
        FetchError: the answer cannot be used for that.
        VerifyError: the server announces another size than the image does.
    """

    def __init__(self, answer: Answer, blob: spec.Descriptor, offset: int) -> None:
        self._answer = answer
        self._what = f"blob {blob.digest} from {answer.url}"
        start = self._start(blob, offset)
        self._source = answer.body(blob.size - start + 1)
        self._skip = offset - start
        self._left = blob.size - offset
        self.skipped = 0

    def read(self, size: int, /) -> bytes:
        """What has come, at most ``size`` bytes, nothing at the end.

        Raises:
            PassingError: the link broke.
            FetchError: the data is compressed and damaged.
        """
        while self._skip:
            data = self._receive(min(self._skip, CHUNK))
            if not data:
                raise self._early()
            self._skip -= len(data)
            self.skipped += len(data)
        data = self._receive(size)
        self._left -= len(data)
        if not data and size and self._left > 0:
            raise self._early()
        return data

    def abort(self) -> None:
        """Ends a read that another thread is in."""
        self._answer.abort()

    def close(self) -> None:
        """No more is read."""
        self._answer.close(reuse=self._left == 0)

    def _receive(self, size: int) -> bytes:
        try:
            return self._source.read(size)
        except ModelError as exc:
            raise FetchError(f"cannot fetch {self._what}: {exc}") from exc

    def _early(self) -> PassingError:
        return PassingError(f"cannot fetch {self._what}: it ended {self._left} bytes early")

    def _start(self, blob: spec.Descriptor, offset: int) -> int:
        """Where in the blob the answer begins."""
        answer = self._answer
        start, end = 0, blob.size
        if answer.status == 206:
            start, end = self._range(blob)
            if start > offset:
                raise FetchError(
                    f"cannot fetch {self._what}: asked from byte {offset}, it answers from {start}"
                )
        length = answer.number("Content-Length")
        if length is not None and not answer.encoding and length != end - start:
            raise VerifyError(
                f"cannot fetch {self._what}: expected {end - start} bytes, it announces {length}"
            )
        return start

    def _range(self, blob: spec.Descriptor) -> tuple[int, int]:
        text = self._answer.headers.get("Content-Range", "").strip()
        match = _CONTENT_RANGE.fullmatch(text)
        if match is None or self._answer.encoding:
            raise FetchError(f"cannot fetch {self._what}: a part without place: {text[:80]!r}")
        if match[3] != "*" and int(match[3]) != blob.size:
            raise VerifyError(
                f"cannot fetch {self._what}: expected {blob.size} bytes, it has {match[3]}"
            )
        start, end = int(match[1]), int(match[2]) + 1
        if not start < end <= blob.size:
            raise FetchError(f"cannot fetch {self._what}: a part that cannot be: {text[:80]!r}")
        return start, end
