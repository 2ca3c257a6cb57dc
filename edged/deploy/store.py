"""The models on the disk, and the one pointer that says which of them is in service.

::

    STATE/images/       OCI image layout with the blobs of the current and the previous image
    STATE/models/<hex>/ one unpacked model per image, complete or not there, never changed
    STATE/current.json  the pointer

Invariants:
- The pointer moves in one durable step, after everything it points to is on the disk. A crash at
  any point leaves the old pointer or the new one, and both are good.
- What the pointer names, and what it named before, is kept; ``collect`` removes everything else.
- A blob is verified when it is copied in, and again when it is unpacked.

One daemon at a time: ``edged.daemon`` holds a lock on the folder.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edged.deploy.types import Slot
from edged.errors import EdgedError, StoreError, VerifyError
from edged.oci.digest import CHUNK, Digest
from edged.oci.image import Image, load_image
from edged.oci.layout import LayoutFolder
from edged.oci.spec import MANIFEST, Descriptor
from edged.osutil import atomic

logger = logging.getLogger(__name__)

SCHEMA = 1
FRESH, STALE = ".fresh", ".stale"  # of a model's folder that is being replaced
POINTER_LIMIT = 64 * 1024  # bytes
# Left free on the disk for everything else that the device writes.
SPARE_BYTES = 64 * 1024 * 1024


class Store:
    """The store in the folder ``state``, which must exist.

    Raises:
        StoreError: the folder, or the pointer in it, cannot be used.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._models = state / "models"
        self._pointer = state / "current.json"
        self.current: Slot | None = None
        self.previous: Slot | None = None
        try:
            atomic.make_folder(self._models)
            self._read_pointer()
            self._recover()
            atomic.sweep(self._models)
            atomic.sweep(state)
        except (OSError, StoreError) as exc:
            raise StoreError(f"cannot use {state}: {exc}") from exc

    # -- images in

    def reserve(self, image: Image) -> int:
        """Makes sure that the image fits beside what is kept; returns the bytes of its blobs.

        Raises:
            StoreError: it does not fit.
        """
        size = sum(blob.size for blob in image.blobs())
        # Once as blobs, once unpacked.
        needed = 2 * size + SPARE_BYTES
        free = shutil.disk_usage(self._state).free
        if free < needed:
            raise StoreError(
                f"cannot store {image.digest}: it needs {needed} bytes on {self._state}, "
                f"{free} are free"
            )
        return size

    def copy(self, image: Image, tell: Callable[[int], None]) -> Image:
        """Copies the image's blobs in, verified; returns the image as the store has it.

        Args:
            image: from elsewhere.
            tell: called with the bytes copied so far; what it raises ends the copying.

        Raises:
            FetchError: a blob is missing where the image is.
            VerifyError: a blob is not what was announced.
            StoreError: the disk failed.
        """
        layout = LayoutFolder.create(self._state / "images")
        done = 0
        for blob in image.blobs():
            if not _is_present(layout, blob):
                with image.open_blob(blob) as source, layout.new_blob() as out:
                    while chunk := source.read(CHUNK):
                        out.write(chunk)
                        tell(done + out.size)
            done += blob.size
            tell(done)
        return load_image(layout, image.descriptor)

    def unpack(self, image: Image, reference: str) -> Slot:
        """Returns the slot with the image's model unpacked in it.

        What an earlier deployment unpacked is replaced: it may be why there is another one.

        Raises:
            ModelError: the image asks for something that is not allowed.
            VerifyError: a blob was damaged on the disk.
            StoreError: the disk failed.
        """
        folder = self._models / image.digest.hex
        fresh, stale = folder.with_suffix(FRESH), folder.with_suffix(STALE)
        for left in (fresh, stale):  # by a crash
            if left.exists():
                atomic.rmtree(left, what="left")
        image.unpack_model(fresh)
        if folder.exists():
            atomic.rename(folder, stale, what="away")  # _recover brings it back
        atomic.move_folder(fresh, folder)
        if stale.exists():
            atomic.rmtree(stale, what="stale")
        return Slot(str(image.digest), reference, folder)

    # -- the pointer

    def commit(self, slot: Slot | None, previous: Slot | None) -> None:
        """Makes ``slot`` the current model, durably; None for no model.

        Args:
            slot: what is in service from now on.
            previous: what to go back to.

        Raises:
            StoreError: the pointer was not moved.
        """
        document = {
            "schema": SCHEMA,
            "current": _to_document(slot),
            "previous": _to_document(previous),
        }
        atomic.write_file(self._pointer, json.dumps(document, indent=2).encode() + b"\n")
        self.current, self.previous = slot, previous

    def _read_pointer(self) -> None:
        try:
            with self._pointer.open("rb") as file:
                data = file.read(POINTER_LIMIT + 1)
        except FileNotFoundError:
            return
        try:
            document = json.loads(data)
            if document["schema"] != SCHEMA:
                raise StoreError(
                    f"cannot read {self._pointer}: expected schema {SCHEMA}, "
                    f"got {document['schema']!r}; another version of edged wrote it"
                )
            self.current = self._to_slot(document["current"])
            self.previous = self._to_slot(document["previous"])
        except (ValueError, KeyError, TypeError, VerifyError) as exc:
            # It was written durably, so the disk is damaged, or somebody edited it.
            raise StoreError(
                f"cannot read {self._pointer}: {exc!r}; remove it to start without a model"
            ) from exc

    def _to_slot(self, document: dict[str, Any] | None) -> Slot | None:
        if document is None:
            return None
        digest = Digest.parse(document["digest"])
        return Slot(
            str(digest),
            str(document["reference"]),
            self._models / digest.hex,
            int(document["deployed_unix_us"]),
        )

    def _recover(self) -> None:
        """Puts a model in its place that was being replaced when the power went."""
        for slot in (self.current, self.previous):
            if slot is None or slot.folder.exists():
                continue
            for suffix in (FRESH, STALE):  # both are whole; the fresh one was verified last
                if (left := slot.folder.with_suffix(suffix)).exists():
                    atomic.move_folder(left, slot.folder)
                    break

    # -- what is not needed any more

    def collect(self) -> None:
        """Removes images and models that are neither current nor previous.

        What cannot be removed is logged and left: it costs room, nothing else.
        """
        kept = [Digest.parse(s.digest) for s in (self.current, self.previous) if s is not None]
        try:
            _remove_others(self._models, {digest.hex for digest in kept})
            blobs = self._state / "images" / "blobs" / "sha256"
            if blobs.is_dir():
                _remove_others(blobs, self._blobs_of(kept))
        except (OSError, EdgedError) as exc:
            logger.warning("cannot remove what is not needed from %s: %s", self._state, exc)

    def _blobs_of(self, digests: list[Digest]) -> set[str]:
        layout = LayoutFolder(self._state / "images")
        names: set[str] = set()
        for digest in digests:
            size = layout.blob_path(digest).stat().st_size
            image = load_image(layout, Descriptor(MANIFEST, digest, size))
            names.update(blob.digest.hex for blob in image.blobs())
        return names


def _is_present(layout: LayoutFolder, blob: Descriptor) -> bool:
    """Returns whether the store has the blob, whole; a damaged one is removed."""
    path = layout.blob_path(blob.digest)
    if not path.exists():
        return False
    try:
        with layout.open_blob(blob) as stored:
            stored.drain()
    except VerifyError:
        atomic.unlink(path, what="blob")
        return False
    return True


def _remove_others(folder: Path, kept: set[str]) -> None:
    for entry in folder.iterdir():
        if entry.name in kept:
            continue
        if entry.is_dir() and not entry.is_symlink():
            atomic.rmtree(entry, what="unneeded")
        else:
            atomic.unlink(entry, missing_ok=True, what="unneeded")


def _to_document(slot: Slot | None) -> dict[str, Any] | None:
    if slot is None:
        return None
    return {
        "digest": slot.digest,
        "reference": slot.reference,
        "deployed_unix_us": slot.deployed_unix_us,
    }
