"""How it stands with the newest document that a controller sent; remembered over a restart.

Invariants:
- Neither a document nor a secret in it is kept on the disk: only its key, which is a digest.
- What is remembered is written after each outcome. A disk that fails is logged; then a document
  may be applied once more after a restart, which finds its model in service.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edged.deploy.document import Document
from edged.deploy.types import Fault
from edged.errors import StoreError

logger = logging.getLogger(__name__)

NONE, APPLYING, APPLIED = "none", "applying", "applied"
WAITING, FAILED, INVALID, SUPERSEDED = "waiting", "failed", "invalid", "superseded"
OUTCOMES = (NONE, APPLYING, APPLIED, WAITING, FAILED, INVALID, SUPERSEDED)
SETTLED = (APPLIED, FAILED, SUPERSEDED)  # not tried again when the same document comes again
TEXT_LIMIT = 1024  # characters


@dataclass(frozen=True)
class Verdict:
    """What became of one module of a manifest.

    Attributes:
        code: as of HTTP.
        text: why it is not 200.
        digest: of its image, if it is the model that the manifest deploys.
    """

    code: int
    text: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Standing:
    """The newest document, and what became of it.

    Attributes:
        key: of the document; empty if there never was one.
        source: who it came from: ``plain``, ``twin`` or ``manifest``.
        version: of it, where its source has versions.
        id: whoever asked's name for it.
        outcome: none, applying, applied, waiting (to be tried again), failed, invalid, or
            superseded by what somebody asked for at the device or by a method.
        fault: whose it is that it was not applied.
        code: as of HTTP.
        error: why it was not applied.
        fix: what to do about that.
        reference: of the image; empty for no model.
        digest: of the image, once it is known.
        quarantined: whether that image was in quarantine when it failed.
        record: number of the newest record of the history when that was known.
        verdicts: by module, of a manifest.
    """

    key: str = ""
    source: str = ""
    version: int = 0
    id: str = ""
    outcome: str = NONE
    fault: Fault = Fault.NONE
    code: int = 0
    error: str = ""
    fix: str = ""
    reference: str = ""
    digest: str = ""
    quarantined: bool = False
    record: int = 0
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """Whether the same document need not be tried again."""
        return self.outcome in SETTLED


class Memory:
    """Keeps a standing in the folder ``folder``, which must exist."""

    def __init__(self, folder: Path) -> None:
        self._document = Document(folder / "desired.json")
        self._written: Standing | None = None
        self._lock = threading.Lock()

    def read(self) -> Standing:
        """Returns what was kept; a fresh one if nothing was, or nothing of use."""
        fields = self._document.read()
        if "key" not in fields:
            return Standing()
        try:
            return _parse(fields)
        except (KeyError, TypeError, ValueError) as exc:
            self._document.put_aside(repr(exc))
            return Standing()

    def write(self, newest: Callable[[], Standing]) -> None:
        """Keeps the newest standing, if it is another one; takes the time of a disk.

        Args:
            newest: gives it when its turn has come: of two threads the later one knows better.
        """
        with self._lock:
            standing = newest()
            if standing != self._written:
                self._write(standing)

    def _write(self, standing: Standing) -> None:
        fields = {each.name: getattr(standing, each.name) for each in dataclasses.fields(Standing)}
        fields["fault"] = standing.fault.value
        fields["verdicts"] = {
            name: dataclasses.asdict(each) for name, each in standing.verdicts.items()
        }
        try:
            self._document.write(**fields)
        except StoreError as exc:
            logger.warning("%s; the desired document may be applied again after a restart", exc)
        else:
            self._written = standing


def _parse(fields: Mapping[str, Any]) -> Standing:
    """Returns the standing in a document.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    texts = ("key", "source", "id", "error", "fix", "reference", "digest")
    outcome = str(fields["outcome"])
    if outcome not in OUTCOMES:
        raise ValueError(f"unknown outcome {outcome[:40]!r}")
    return Standing(
        **{name: str(fields[name])[:TEXT_LIMIT] for name in texts},
        version=int(fields["version"]),
        outcome=outcome,
        fault=Fault(fields["fault"]),
        code=int(fields["code"]),
        quarantined=fields["quarantined"] is True,
        record=int(fields["record"]),
        verdicts={
            str(name): Verdict(int(each["code"]), str(each["text"]), str(each["digest"]))
            for name, each in fields["verdicts"].items()
        },
    )
