"""One image on its way into the store, over links that break."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from edged.errors import FetchError, ModelError, VerifyError
from edged.oci import companion, signature, spec
from edged.oci.digest import CHUNK, Prefix
from edged.oci.image import Image
from edged.oci.layout import LayoutFolder
from edged.oci.partial import Partial
from edged.oci.retry import PassingError, Patience, Pause
from edged.osutil import atomic

logger = logging.getLogger(__name__)


class Fetch:
    """Brings the blobs of one image.

    Args:
        layout: where to.
        partials: the folder of what has come of blobs that are not whole.
        image: from elsewhere.
        tell: called with the bytes that are here, and all of the image's.
        stop: called often; what it raises ends the fetch.
        patience: seconds without a byte after which it is given up.
    """

    def __init__(
        self,
        layout: LayoutFolder,
        partials: Path,
        image: Image,
        tell: Callable[[int, int], None] | None,
        stop: Callable[[], None] | None,
        patience: float,
    ) -> None:
        self._layout = layout
        self._partials = partials
        self._image = image
        self._tell = tell or (lambda *_: None)
        self._stop = stop or (lambda: None)
        self._patience = patience
        self._pause = Pause()
        self._blobs = list({blob.digest: blob for blob in image.blobs()}.values())
        self._total = sum(blob.size for blob in self._blobs)
        self._done = 0  # bytes of blobs that are whole
        self._before = image.layout.resent
        self._thrown = 0  # bytes thrown away

    @property
    def resent(self) -> int:
        """Bytes that came although they were here already, or were thrown away."""
        return self._image.layout.resent - self._before + self._thrown

    def wake(self) -> None:
        """Ends a wait in another thread, which then asks ``stop``."""
        self._pause.wake()
        self._image.layout.wake()

    def blobs(self) -> None:
        """Returns when every blob is whole, verified and durable.

        Raises:
            FetchError, VerifyError, StoreError: see ``BlobStore.fetch``.
        """
        for blob in self._blobs:
            self._stop()
            if not self._is_whole(blob):
                with contextlib.closing(Partial(self._partials, blob)) as part:
                    self._bring(blob, part)
            self._done += blob.size
            self._tell(self._done, self._total)

    def signatures(self) -> list[signature.Signature]:
        """What stands beside the image where it comes from.

        Raises:
            FetchError, ModelError, VerifyError: it cannot be read.
        """

        def read() -> list[signature.Signature]:
            self._stop()
            return self._image.signatures()

        return self._patient().run(read)

    def companions(self) -> dict[str, list[companion.Part]]:
        """What else stands beside the image; what cannot be read is left out, being for people."""
        found = {}
        for kind in companion.FOR_PEOPLE:
            self._stop()
            try:
                parts = companion.read(
                    self._image.layout, self._image.digest, kind, companion.PART_LIMIT
                )
            except (FetchError, ModelError, VerifyError) as exc:
                logger.info("left out: %s", exc)
                continue
            if parts:
                found[kind] = parts
        return found

    def _patient(self) -> Patience:
        return Patience(self._patience, sleep=self._pause.sleep)

    def _bring(self, blob: spec.Descriptor, part: Partial) -> None:
        patience = self._patient()
        inherited = part.prefix.size > 0
        self._tell(self._done + part.size, self._total)
        while True:
            try:
                self._receive(blob, part, patience)
                break
            except PassingError as exc:
                self._stop()
                logger.info("fetching goes on: %s", exc, extra={"event": "link"})
                patience.wait(exc)
            except VerifyError:
                # What was here before may be at fault, or the mirror. The registry is not asked
                # for the same bytes twice.
                again = inherited or self._image.layout.blame()
                self._thrown += part.size
                part.restart()
                if not again:
                    raise
                inherited = False
        part.finish(self._layout.blob_path(blob.digest))

    def _receive(self, blob: spec.Descriptor, part: Partial, patience: Patience) -> None:
        """Reads the rest of a blob, over one connection."""
        self._stop()
        if part.prefix.size == blob.size:  # all but the end came, or the last rename did not
            return _check(blob, part.prefix)
        with self._image.open_blob(blob, part.prefix) as source:
            try:
                while chunk := source.read(CHUNK):
                    part.write(chunk)
                    patience.progressed()
                    if part.due:
                        part.mark(source.prefix)
                    self._tell(self._done + part.size, self._total)
                    self._stop()
            finally:
                part.prefix = source.prefix

    def _is_whole(self, blob: spec.Descriptor) -> bool:
        """Whether the blob is here; one that proves damaged is removed."""
        path = self._layout.blob_path(blob.digest)
        if not path.exists():
            return False
        try:
            with self._layout.open_blob(blob) as stored:
                stored.drain()
        except (VerifyError, OSError):
            atomic.unlink(path, what="blob")
            return False
        return True


def _check(blob: spec.Descriptor, whole: Prefix) -> None:
    got = whole.content.hexdigest()
    if got != blob.digest.hex:
        raise VerifyError(f"cannot fetch blob: expected {blob.digest}, got sha256:{got}")
