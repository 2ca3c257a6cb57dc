"""What the daemon knows of the model in service beside its process: who it is, what it takes.

From the manifest in the store, which does not change under a digest; so it is known while the
model's process is started, and when that does not succeed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from edged.deploy.types import Slot
from edged.errors import ModelError
from edged.manifest import Manifest
from edged.model.service import Service
from edged.rpc.models import Model

logger = logging.getLogger(__name__)

MANIFEST_LIMIT = 1024 * 1024  # bytes; the manifest's own limit is lower


class Catalogue:
    """Knows the one model.

    Args:
        service: whose model it is.
        current: gives the slot that ``service`` brings into service first.
    """

    def __init__(self, service: Service, current: Callable[[], Slot | None]) -> None:
        self._service = service
        self._current = current
        self._read: tuple[str, Manifest | None] = ("", None)

    def model(self) -> Model | None:
        """Returns the model; None if none is deployed."""
        condition = self._service.condition
        slot = self._service.serving
        if slot is None and condition.state == "starting":
            slot = self._current()
        if slot is None:
            return None
        manifest = self._manifest(slot)
        if manifest is None:
            return Model("", "", None, condition.state, condition.reason)
        return Model(
            manifest.name, manifest.version, manifest.signature, condition.state, condition.reason
        )

    def _manifest(self, slot: Slot) -> Manifest | None:
        if self._read[0] != slot.digest:
            self._read = (slot.digest, _load(slot.folder))
        return self._read[1]


def _load(folder: Path) -> Manifest | None:
    path = folder / "manifest.json"
    try:
        with path.open("rb") as file:
            return Manifest.parse(file.read(MANIFEST_LIMIT))
    except (OSError, ModelError) as exc:
        logger.error("cannot read %s: %s", path, exc)  # noqa: TRY400 - the text says it all
        return None
