"""Records administrative acts as they end, for whoever carries them out.

Invariants:
- A record is made when the act has ended, with its outcome; a refused act has one too. One whose
  caller has left goes on without them, and its record says so: 'edged history' has the outcome.
- Nobody waits for the record's way to the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from edged.access import audit
from edged.access.audit import Act, Audit
from edged.access.roles import Caller
from edged.errors import EdgedError


@dataclass
class Outcome:
    """How an act went so far, in words."""

    text: str = "done"


class Recorder:
    """Makes the records of a daemon. Used in its event loop.

    Args:
        records: where they are kept.
    """

    def __init__(self, records: Audit) -> None:
        self._records = records
        self._writing: set[asyncio.Future[None]] = set()

    @contextlib.contextmanager
    def act(self, caller: Caller, what: str, subject: str = "") -> Iterator[Outcome]:
        """Notes what happened in the block; how it ended is what the block says of it last.

        Args:
            caller: whose act it is.
            what: as in ``Act``.
            subject: what it is done to.
        """
        outcome = Outcome()
        try:
            yield outcome
        except EdgedError as exc:
            outcome.text = f"refused: {exc}"
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome.text = f"{outcome.text} when its caller left; see 'edged history'"
            raise
        except Exception as exc:
            outcome.text = f"failed: {exc!r}"
            raise
        finally:
            via = caller.peer or "edged"
            self.note(Act(caller.name, via, what, subject.strip(), outcome.text))

    def note(self, act: Act) -> None:
        """Makes a record of an act; does not wait for the disk."""
        audit.announce(act)
        writing = asyncio.get_running_loop().run_in_executor(None, self._records.keep, act)
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
