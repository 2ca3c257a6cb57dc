"""The images a device keeps, and how they get there: by byte, over links that break.

::

    FOLDER/                 an OCI image layout; its index lists the images that are whole
    FOLDER/partial/         blobs on their way (see ``partial``), and what they are for
    FOLDER/pinned/<hex>     an empty file for each image that is kept whatever happens

Invariants:
- A blob has its name only when all of it was verified; an image is listed only when all its blobs,
  and its signatures, are there. So nothing half-fetched is ever used.
- What was fetched is kept over broken links, killed processes and power cuts, and is re-hashed, not
  believed, when the fetch goes on.
- ``collect`` keeps what it is told to, what is pinned, and what is being fetched.
- One process fetches and collects at a time (the daemon's lock sees to that); within it the methods
  may be called from several threads, ``fetch`` from one of them. Others may read, pin and unpin.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from edged.errors import EdgedError, ModelError, StoreError
from edged.oci import companion, inventory, partial, signature, spec
from edged.oci.digest import Digest
from edged.oci.fetch import Fetch
from edged.oci.image import Image, load_image
from edged.oci.layout import LayoutArchive, LayoutFolder
from edged.oci.unpack import Limits
from edged.osutil import atomic

logger = logging.getLogger(__name__)

PATIENCE = 300.0  # seconds without a byte after which a fetch is given up
READ_PATIENCE = 30.0  # the same, while somebody waits
IMAGE_BYTES = Limits().total_bytes + (64 << 20)  # of all layers: files and a tar's headers
SPARE_BYTES = 64 << 20  # left free for everything else that the device writes
_WANTED = "wanted.json"
_WANTED_LIMIT = 64 * 1024  # bytes


class BlobStore:
    """The store in ``folder``, which is made if need be.

    Args:
        folder: an image layout of our own.
        patience: seconds without a byte after which a fetch is given up.

    Attributes:
        resent: bytes that the last fetch received although it had them already.

    Raises:
        StoreError: the folder cannot be used.
    """

    def __init__(self, folder: Path, patience: float = PATIENCE) -> None:
        self.layout = LayoutFolder.create(folder)
        self.resent = 0
        self._partials = folder / inventory.PARTIAL
        self._patience = patience
        self._fetch: Fetch | None = None
        self._lock = threading.Lock()
        atomic.make_folder(self._partials)
        atomic.make_folder(folder / inventory.PINNED)

    def sweep(self) -> None:
        """Removes what a crash left of files that never got their name.

        Raises:
            StoreError: something cannot be removed.
        """
        blobs = self.layout.path / "blobs" / "sha256"
        for folder in (self.layout.path, blobs, self._partials):
            atomic.sweep(folder)

    # -- images in

    def needed(self, image: Image) -> int:
        """Bytes of the image that would have to be fetched."""
        return sum(
            blob.size - partial.size_of(self._partials, blob)
            for blob in image.blobs()
            if not _is_here(self.layout, blob)
        )

    def reserve(self, image: Image, unpacked: int | None = None) -> int:
        """Makes sure that the image fits: its blobs, and the model unpacked from them.

        Args:
            image: from anywhere.
            unpacked: bytes of the model; that of its layers if not given.

        Returns:
            The bytes that will be needed.

        Raises:
            StoreError: it does not fit beside what is there.
            ModelError: it is larger than any image may be.
        """
        layers = sum(layer.size for layer in image.manifest.layers)
        unpacked = layers if unpacked is None else unpacked
        if layers > IMAGE_BYTES:
            raise ModelError(
                f"cannot store {image.digest}: layers of {layers} bytes, expected at most "
                f"{IMAGE_BYTES}"
            )
        needed = self.needed(image) + unpacked + SPARE_BYTES
        free = shutil.disk_usage(self.layout.path).free
        if free < needed:
            raise StoreError(
                f"cannot store {image.digest}: it needs {needed} bytes on {self.layout.path} "
                f"({self.needed(image)} to fetch, {unpacked} unpacked, {SPARE_BYTES} to spare), "
                f"{free} are free"
            )
        return needed

    def fetch(
        self,
        image: Image,
        tell: Callable[[int, int], None] | None = None,
        stop: Callable[[], None] | None = None,
    ) -> Image:
        """Brings an image into the store and lists it there.

        Args:
            image: from a registry, a layout or an archive.
            tell: called with the bytes that are here, and all of the image's.
            stop: called often; what it raises ends the fetch. What has come stays for the next one.

        Returns:
            The image as the store has it.

        Raises:
            FetchError: a blob is missing there, or nothing came for too long.
            VerifyError: a blob is not what was announced.
            StoreError: there is no room, or the disk failed.
        """
        self.reserve(image)
        self._want(blob.digest for blob in image.blobs())
        fetch = Fetch(self.layout, self._partials, image, tell, stop, self._patience)
        self._fetch = fetch
        try:
            fetch.blobs()
            signatures, companions = fetch.signatures(), fetch.companions()
        finally:
            self._fetch = None
            self.resent = fetch.resent
        with self._lock:
            if signatures and signatures != signature.read(self.layout, image.digest):
                signature.write(self.layout, image.digest, signatures)
            for kind, parts in companions.items():
                if parts != companion.read(self.layout, image.digest, kind, companion.PART_LIMIT):
                    companion.write(self.layout, image.digest, kind, parts)
            said = {inventory.REFERENCE: image.reference} if image.reference else {}
            self.layout.add(image.descriptor, said)
        return load_image(self.layout, image.descriptor)

    def wake(self) -> None:
        """Ends what ``fetch`` waits for in another thread, so that it asks ``stop`` at once."""
        fetch = self._fetch
        if fetch is not None:
            fetch.wake()

    def settled(self) -> None:
        """To be told that what was fetched last is not needed for itself any more.

        Until then, or until another image is fetched, ``collect`` keeps it, so that a fetch that
        was broken off can go on.

        Raises:
            StoreError: the disk failed.
        """
        atomic.unlink(self._partials / _WANTED, missing_ok=True)

    def _want(self, digests: Iterable[Digest]) -> None:
        document = {"blobs": sorted(digest.hex for digest in digests)}
        atomic.write_file(self._partials / _WANTED, json.dumps(document).encode() + b"\n")

    def _wanted(self) -> set[str]:
        try:
            with (self._partials / _WANTED).open("rb") as file:
                document = json.loads(file.read(_WANTED_LIMIT))
            return {str(each) for each in document["blobs"]}
        except FileNotFoundError:
            return set()
        except (OSError, ValueError, KeyError, TypeError) as exc:
            logger.warning("cannot read %s: %r", self._partials / _WANTED, exc)
            return set()

    # -- what is there

    def images(self) -> list[inventory.Stored]:
        """The images that are whole, in the order they came; see ``inventory``."""
        return inventory.images(self.layout)

    def find(self, digest: Digest) -> Image | None:
        """An image that is whole; None if it is not here.

        Raises:
            ModelError, VerifyError, FetchError: it is damaged.
        """
        listed = self.layout.index().manifests
        known = next((d for d in listed if d.digest == digest and inventory.is_image(d)), None)
        return None if known is None else load_image(self.layout, known)

    def check(self) -> list[str]:
        """Reads everything, and says in sentences what is wrong; nothing is changed.

        What a crash may leave behind without harm is no fault.
        """
        return list(inventory.faults(self.layout))

    # -- what is not needed any more

    def collect(self, keep: Iterable[Digest]) -> int:
        """Removes the images that are neither in ``keep`` nor pinned nor being fetched.

        Returns:
            The bytes that were freed.

        Raises:
            StoreError: something cannot be removed, or what is to be kept cannot be read; then no
                blob is removed.
        """
        with self._lock:
            wanted = self._wanted()
            images = {digest.hex for digest in (*keep, *inventory.pinned(self.layout))}
            kept = images | wanted
            try:
                self.layout.keep(lambda each: not inventory.owners(each).isdisjoint(kept))
                blobs = wanted | inventory.blobs_of(self.layout, images)
            except (EdgedError, OSError) as exc:
                raise StoreError(f"cannot clear up {self.layout.path}: {exc}") from exc
            freed = partial.discard(self._partials, wanted | {_WANTED})
            for path in sorted((self.layout.path / "blobs" / "sha256").iterdir()):
                if path.name not in blobs:
                    freed += path.lstat().st_size
                    atomic.unlink(path, missing_ok=True, what="unneeded")
        return freed


def at_hand(image: Image, folder: Path) -> Image:
    """The same image on this machine, for whoever reads it once.

    Args:
        image: one in a registry is fetched, over whatever link; others are as they are.
        folder: receives what is fetched; need not exist.

    Raises:
        FetchError, VerifyError, StoreError: as ``BlobStore.fetch``.
    """
    local = isinstance(image.layout, LayoutFolder | LayoutArchive)
    return image if local else BlobStore(folder, READ_PATIENCE).fetch(image)


def _is_here(layout: LayoutFolder, blob: spec.Descriptor) -> bool:
    path = layout.blob_path(blob.digest)
    return path.is_file() and path.stat().st_size == blob.size
