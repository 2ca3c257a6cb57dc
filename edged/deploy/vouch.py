"""Vouches for a model that is about to be loaded from the store: nothing on a disk is believed.

The image's manifest proves its layers, a trusted key's signature the manifest, and the layers every
byte of the unpacked model. What was unpacked can rot or be written to; then it is unpacked again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edged.errors import StoreError, VerifyError

if TYPE_CHECKING:
    from edged.deploy.admission import Trust
    from edged.deploy.store import Store
    from edged.deploy.types import Slot

logger = logging.getLogger(__name__)


class Voucher:
    """Vouches for the models in ``store``. Called in a thread: it reads whole models.

    Args:
        store: that has them.
        trust: whose images may run.
    """

    def __init__(self, store: Store, trust: Trust) -> None:
        self._store = store
        self._trust = trust

    def __call__(self, slot: Slot) -> bool:
        """Returns whether the files were as they should be; if not, they are now.

        Raises:
            VerifyError: the image is damaged too, or nobody who is trusted signed it.
            FetchError: the image is not kept any more.
            ModelError, StoreError: it cannot be read, or not be unpacked.
        """
        try:
            return self._vouch(slot)
        except OSError as exc:  # from a disk that fails in an unexpected place
            raise StoreError(f"cannot verify {slot.digest}: {exc}") from exc

    def _vouch(self, slot: Slot) -> bool:
        image = self._store.kept_image(slot)
        self._trust.signer(image)
        try:
            image.compare_model(slot.folder)
        except VerifyError as exc:
            logger.warning("%s; it is unpacked again", exc, extra={"digest": slot.digest})
            self._store.unpack(image, slot.reference)
            return False
        return True
