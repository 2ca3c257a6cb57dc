"""The deployment that is under way, so that a power cut or a crash does not forget it.

Invariants:
- It is noted before a deployment's first step and crossed out after its last. One that is found at
  the start is taken up again from its first step: each step finds what it had done before.
- It is not tried for ever: what edged did not survive ``ATTEMPTS`` times is given up.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from edged.deploy.document import Document
from edged.deploy.types import Cause, Options
from edged.errors import StoreError

logger = logging.getLogger(__name__)

ATTEMPTS = 3


@dataclass(frozen=True)
class Unfinished:
    """A deployment that edged did not see the end of.

    Attributes:
        cause: deploy or rollback.
        reference: what was to be deployed.
        options: what the operator had allowed.
        attempts: how often it was begun.
        digest: of its image; empty until that is known.
    """

    cause: Cause
    reference: str
    options: Options
    attempts: int = 1
    digest: str = ""


class Journal:
    """The journal in the state folder ``state``."""

    def __init__(self, state: Path) -> None:
        self._document = Document(state / "deploying.json")

    def read(self) -> Unfinished | None:
        """Returns what was under way when edged ended; None if nothing was."""
        fields = self._document.read()
        if "reference" not in fields:
            return None
        try:
            return Unfinished(
                Cause(fields["cause"]),
                str(fields["reference"]),
                Options(
                    force=fields["force"] is True,
                    allow_downgrade=fields["allow_downgrade"] is True,
                    digest=str(fields.get("wanted_digest", "")),
                    counter=_number(fields.get("wanted_counter")),
                    origin=str(fields.get("origin", "")),
                ),
                int(fields["attempts"]),
                str(fields["digest"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            self._document.put_aside(repr(exc))
            return None

    def note(self, unfinished: Unfinished) -> None:
        """Notes how far one is; a disk that fails is logged, it is not taken up again then."""
        options = unfinished.options
        self._write(
            cause=unfinished.cause.value,
            reference=unfinished.reference,
            force=options.force,
            allow_downgrade=options.allow_downgrade,
            wanted_digest=options.digest,
            wanted_counter=options.counter,
            origin=options.origin,
            attempts=unfinished.attempts,
            digest=unfinished.digest,
        )

    def end(self) -> None:
        """Crosses it out."""
        self._write()

    def _write(self, **fields: object) -> None:
        try:
            self._document.write(**fields)
        except StoreError as exc:
            logger.warning("%s", exc)


def _number(value: object) -> int | None:
    return None if value is None else int(str(value))
