"""The downgrade counter: per model name and signing key, the highest that was ever in service.

Who can replay an old, rightly signed image must not be able to bring its faults back. So an image
carries a counter (annotation ``org.edged.model.counter``, 0 if absent), and one that is lower than
what was in service before needs ``edged rollback`` or ``--allow-downgrade``.

Invariants:
- The highest only grows, also when an operator allowed a downgrade.
- It is on the disk once a model is committed; if the power goes in between, the next start reads it
  from the pointer.
"""

from __future__ import annotations

import logging
from pathlib import Path

from edged.deploy.document import Document
from edged.deploy.types import Slot
from edged.errors import StoreError, VerifyError

logger = logging.getLogger(__name__)

KEPT = 1024
UNSIGNED = "unverified"


class Counters:
    """The counters of the device whose state folder is ``state``."""

    def __init__(self, state: Path) -> None:
        self._document = Document(state / "counters.json")
        self._highest: dict[tuple[str, str], int] = {}
        try:
            for each in self._document.read().get("highest", []):
                self._highest[str(each["name"]), str(each["key"])] = int(each["counter"])
        except (KeyError, TypeError, ValueError) as exc:
            self._document.put_aside(repr(exc))

    def check(self, name: str, key: str, counter: int) -> None:
        """Raises if a model of that name and key with a higher counter was in service.

        Raises:
            VerifyError: names both counters and what would allow it.
        """
        highest = self._highest.get((name, key), 0)
        if counter < highest:
            signer = f"signed by {key[:12]}" if key else UNSIGNED
            raise VerifyError(
                f"cannot go back: {name!r}, {signer}, has counter {counter}, and one with counter "
                f"{highest} was in service; use 'edged rollback', or --allow-downgrade if you mean "
                "it"
            )

    def note(self, slot: Slot) -> None:
        """Keeps in mind that a model is in service; a disk that fails is logged."""
        known = slot.name, slot.key
        if not slot.name or slot.counter <= self._highest.get(known, 0):
            return
        self._highest.pop(known, None)
        self._highest[known] = slot.counter
        while len(self._highest) > KEPT:
            del self._highest[next(iter(self._highest))]
        listed = [{"name": n, "key": k, "counter": c} for (n, k), c in self._highest.items()]
        try:
            self._document.write(highest=listed)
        except StoreError as exc:
            logger.error("%s", exc)  # noqa: TRY400 - the text says it all
