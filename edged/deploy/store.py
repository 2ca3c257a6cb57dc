"""The models on the disk, and the one pointer that says which of them is in service.

::

    STATE/images/       the images, pinned ones too, and parts of those that are being fetched
    STATE/models/<hex>/ one unpacked model per image, complete or not there, never changed
    STATE/current.json  the pointer: the current model, the previous one, whether the current one
                        is still in its window of good behaviour
    STATE/version.json  the layout of all this, and which edged wrote it last

Invariants:
- A folder that a newer edged has written to is refused before anything in it is touched
  (``schema``).
- The pointer moves in one durable step, after everything it points to is on the disk. A crash at
  any point leaves the old pointer or the new one, and both are good.
- What the pointer names, and what it named before, is kept; ``collect`` removes everything else but
  pinned images.
- A blob is verified when it is copied in, and again when it is unpacked.

One daemon at a time: ``edged.daemon`` holds a lock on the folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edged.deploy import schema
from edged.deploy.types import Slot
from edged.errors import EdgedError, FetchError, StoreError, VerifyError
from edged.oci.blobs import BlobStore
from edged.oci.digest import Digest
from edged.oci.image import Image
from edged.osutil import atomic

logger = logging.getLogger(__name__)

SCHEMA = 1
FRESH, STALE = ".fresh", ".stale"  # of a model's folder that is being replaced
POINTER_LIMIT = 64 * 1024  # bytes


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
        self.on_trial = False
        schema.check(state)
        try:
            atomic.make_folder(self._models)
            self._read_pointer()
            self._recover()
            atomic.sweep(self._models)
            atomic.sweep(state)
            self._blobs = BlobStore(state / "images")
            self._blobs.sweep()
        except (OSError, StoreError) as exc:
            raise StoreError(f"cannot use {state}: {exc}") from exc
        try:
            schema.mark(state)
        except StoreError as exc:
            logger.warning("%s; it is noted at the next start", exc)

    # -- images in

    def reserve(self, image: Image) -> int:
        """Makes sure that the image fits beside what is kept; returns the bytes of its blobs.

        Raises:
            StoreError: it does not fit.
        """
        try:
            self._blobs.reserve(image)
        except StoreError:
            self.collect()
            self._blobs.reserve(image)
        return sum(blob.size for blob in image.blobs())

    def copy(
        self,
        image: Image,
        tell: Callable[[int], None],
        stop: Callable[[], None] | None = None,
    ) -> Image:
        """Fetches the image's blobs, verified; returns the image as the store has it.

        What has come is kept if it is broken off, and the next copying goes on from there.

        Args:
            image: from elsewhere.
            tell: called with the bytes that are here; what it raises ends the copying.
            stop: called also while nothing comes; what it raises ends the copying.

        Raises:
            FetchError: a blob is missing where the image is, or the link stayed down.
            VerifyError: a blob is not what was announced.
            StoreError: there is no room, or the disk failed.
        """
        return self._blobs.fetch(image, lambda done, _: tell(done), stop)

    def wake(self) -> None:
        """Ends what ``copy`` waits for in another thread, so that it asks ``stop``."""
        self._blobs.wake()

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

    def kept_image(self, slot: Slot) -> Image:
        """Returns the image of a slot as the store has it.

        Raises:
            FetchError: it is not kept any more.
            VerifyError: a document of it was damaged on the disk.
        """
        image = self._blobs.find(Digest.parse(slot.digest))
        if image is None:
            raise FetchError(f"cannot use {slot.digest}: it is not kept any more; deploy it again")
        return image

    # -- the pointer

    def commit(self, slot: Slot | None, previous: Slot | None, *, on_trial: bool = False) -> None:
        """Makes ``slot`` the current model, durably; None for no model.

        Args:
            slot: what is in service from now on.
            previous: what to go back to.
            on_trial: whether a window of good behaviour begins.

        Raises:
            StoreError: the pointer was not moved.
        """
        try:
            self._write_pointer(slot, previous, on_trial=on_trial)
        except StoreError:
            # It may have been moved all the same, and then nobody knows for how long.
            with contextlib.suppress(StoreError):
                self._write_pointer(self.current, self.previous, on_trial=self.on_trial)
            raise
        changed = slot != self.current
        self.current, self.previous, self.on_trial = slot, previous, on_trial
        if changed:
            try:
                self._blobs.settled()
            except StoreError as exc:  # the pointer has moved, and what is kept costs room alone
                logger.warning("%s", exc)

    def _write_pointer(self, slot: Slot | None, previous: Slot | None, *, on_trial: bool) -> None:
        document = {
            "schema": SCHEMA,
            "current": _to_document(slot),
            "previous": _to_document(previous),
            "on_trial": on_trial,
        }
        atomic.write_file(self._pointer, json.dumps(document).encode() + b"\n")

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
            self.on_trial = document.get("on_trial") is True
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
            str(document.get("name", "")),
            str(document.get("version", "")),
            int(document.get("counter", 0)),
            str(document.get("key", "")),
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
        """Removes images and models that are neither current nor previous, nor pinned.

        What cannot be removed is logged and left: it costs room, nothing else.
        """
        kept = [Digest.parse(s.digest) for s in (self.current, self.previous) if s is not None]
        try:
            _remove_others(self._models, {digest.hex for digest in kept})
            self._blobs.collect(kept)
        except (OSError, EdgedError) as exc:
            logger.warning("cannot remove what is not needed from %s: %s", self._state, exc)


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
        "name": slot.name,
        "version": slot.version,
        "counter": slot.counter,
        "key": slot.key,
    }


def pointed(state: Path) -> dict[str, str]:
    """What the pointer in ``state`` says, for whoever only looks: by digest, ``current`` or so.

    Raises:
        StoreError: it cannot be read.
    """
    path = state / "current.json"
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(POINTER_LIMIT))
        slots = {role: document[role] for role in ("previous", "current")}
        return {str(slot["digest"]): role for role, slot in slots.items() if slot is not None}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise StoreError(f"cannot read {path}: {exc!r}") from exc
