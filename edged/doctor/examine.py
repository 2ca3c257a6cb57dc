"""Runs checks: all at once, each in a thread of its own, each within its time.

Invariants:
- Every check has at least one result, whatever it does; none can end or delay the others.
- A check that hangs is left behind, in a thread that does not keep the process from ending.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

from edged.doctor.check import Check, Finding, Group, Result, error, skipped
from edged.doctor.skip import SkipError
from edged.doctor.world import World
from edged.errors import EdgedError

_HUNG = "whatever it waits for hangs; look at the reasons beside it"
_FAULT = "this is a fault of edged; report it with the output of 'edged support-bundle'"


def examine(groups: Sequence[Group], world: World) -> Iterator[Result]:
    """Yields the results in the order of the checks, each as soon as it is known."""
    begun = [_Asked(group.name, check, world) for group in groups for check in group.checks]
    for asked in begun:
        yield from asked.results()


class _Asked:
    """A check that runs."""

    def __init__(self, group: str, check: Check, world: World) -> None:
        self._group = group
        self._check = check
        self._world = world
        self._found: list[Finding] = []
        self._seconds = 0.0
        self._began = time.monotonic()
        self._done = threading.Event()
        threading.Thread(target=self._ask, name=f"check {check.name}", daemon=True).start()

    def _ask(self) -> None:
        try:
            found = _findings(self._check, self._world)
        except BaseException as exc:  # noqa: BLE001 - nothing may get lost in a thread
            found = [error(f"the check itself failed: {exc!r}", _FAULT)]
        self._found, self._seconds = found, time.monotonic() - self._began
        self._done.set()

    def results(self) -> list[Result]:
        """Waits for the check, within its time."""
        left = self._began + self._check.limit - time.monotonic()
        if self._done.wait(max(left, 0.0)):
            found, seconds = self._found, self._seconds
        else:
            found = [error(f"not done within {self._check.limit:g} s", _HUNG)]
            seconds = self._check.limit
        return [Result(self._group, self._check.name, each, seconds) for each in found]


def _findings(check: Check, world: World) -> list[Finding]:
    try:
        found = check.look(world)
    except SkipError as exc:
        return [skipped(str(exc))]
    except EdgedError as exc:
        return [error(str(exc), "do what the reason says")]
    except PermissionError as exc:
        what = exc.filename or "what this is about"
        return [skipped(f"you may not look at {what}; run edged doctor as root")]
    except Exception as exc:  # noqa: BLE001 - a check that fails must not break the others
        return [error(f"the check itself failed: {exc!r}", _FAULT)]
    listed = [found] if isinstance(found, Finding) else list(found)
    return listed or [skipped("there is nothing to look at")]
