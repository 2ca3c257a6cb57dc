"""Images that were tried here and are at fault themselves: refused before anything is fetched.

Invariants:
- Only a fault of the model's own brings it here; a full disk, a slow host or a broken link never.
- An entry stays until an operator clears it; of more than ``KEPT`` the oldest go.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edged.deploy.document import Document
from edged.errors import ModelError, RequestError, StoreError

logger = logging.getLogger(__name__)

KEPT = 256
TEXT_LIMIT = 1024  # characters


@dataclass(frozen=True)
class Entry:
    """One image.

    Attributes:
        digest: of its manifest.
        name: of its model.
        version: of its model.
        reason: what it did.
        since_unix_us: microseconds since 1970 by the wall clock.
    """

    digest: str
    name: str
    version: str
    reason: str
    since_unix_us: int


class Quarantine:
    """The quarantine of the device whose state folder is ``state``."""

    def __init__(self, state: Path) -> None:
        self._document = Document(state / "quarantine.json")
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        try:
            for each in self._document.read().get("entries", []):
                digest, name, version = (str(each[k]) for k in ("digest", "name", "version"))
                since = int(each["since_unix_us"])
                entry = Entry(digest, name, version, str(each["reason"]), since)
                self._entries[entry.digest] = entry
        except (KeyError, TypeError, ValueError) as exc:
            self._document.put_aside(repr(exc))

    @property
    def entries(self) -> list[Entry]:
        """All of them, oldest first."""
        return list(self._entries.values())

    def add(self, entry: Entry) -> None:
        """Puts an image in; a disk that fails is logged, and it is in until edged ends."""
        entry = dataclasses.replace(entry, reason=entry.reason[:TEXT_LIMIT])
        fields = {"event": "quarantine", "digest": entry.digest}
        logger.warning("in quarantine: %s", entry.reason, extra=fields)
        with self._lock:
            entries = [each for each in self.entries if each.digest != entry.digest]
            self._entries = {each.digest: each for each in [*entries, entry][-KEPT:]}
            try:
                self._write(self._entries)
            except StoreError as exc:
                logger.error("%s", exc)  # noqa: TRY400 - the text says it all

    def clear(self, digest: str) -> list[Entry]:
        """Takes one image out, or ``all``; returns what was taken out.

        Args:
            digest: with or without ``sha256:``, or the first eight digits of it or more.

        Raises:
            RequestError: it is not there, or it is not the only one that begins so.
            StoreError: the disk failed, and they are still in.
        """
        with self._lock:
            out = self.entries if digest == "all" else [self._named(digest)]
            left = {each.digest: each for each in self.entries if each not in out}
            self._write(left)
            self._entries = left
        return out

    def check(self, digest: str) -> None:
        """Raises if the image is in quarantine.

        Raises:
            ModelError: it is; says why it was put there and how it comes out.
        """
        entry = self._entries.get(digest)
        if entry is not None:
            raise ModelError(
                f"cannot use {digest}: it is in quarantine ({entry.reason}); deploy a mended one, "
                f"or allow it again with 'edged quarantine clear {digest}'"
            )

    def _named(self, digest: str) -> Entry:
        wanted = digest.removeprefix("sha256:")
        found = [
            entry
            for entry in self._entries.values()
            if len(wanted) >= 8 and entry.digest.removeprefix("sha256:").startswith(wanted)
        ]
        if len(found) != 1:
            raise RequestError(
                "NOT_FOUND",
                f"cannot clear {digest[:100]}: {len(found)} images in quarantine begin so; give "
                "the digest that 'edged quarantine' shows",
            )
        return found[0]

    def _write(self, entries: Mapping[str, Entry]) -> None:
        self._document.write(entries=[dataclasses.asdict(each) for each in entries.values()])
