"""What a check is: a name, a question to the ``World``, and findings as its answer."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from edged.doctor.world import World

LIMIT = 10.0  # seconds for one check, unless it says otherwise


class Level(str, enum.Enum):
    """How bad a finding is. The order is the one of badness."""

    SKIPPED = "skipped"
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        level: how bad it is.
        reason: what was seen, in a sentence without a full stop.
        fix: what to do about it; empty where nothing is to be done.
    """

    level: Level
    reason: str
    fix: str = ""


Look: TypeAlias = "Callable[[World], Finding | Sequence[Finding]]"


@dataclass(frozen=True)
class Check:
    """One question.

    Attributes:
        name: unique in its group.
        look: asks. It may raise ``SkipError``; an ``EdgedError`` is a finding of level error, and
            anything else is too, as a fault of the check itself. It may be left running when its
            time is over, so it must not hold anything that others need.
        limit: seconds.
    """

    name: str
    look: Look
    limit: float = LIMIT


@dataclass(frozen=True)
class Group:
    """Checks that belong together, in the order they are shown."""

    name: str
    checks: Sequence[Check]


@dataclass(frozen=True)
class Result:
    """A finding with where it came from.

    Attributes:
        group: name of the group.
        check: name of the check; some find several things.
        finding: what it found.
        seconds: how long the check took.
    """

    group: str
    check: str
    finding: Finding
    seconds: float


def ok(reason: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, reason)


def warning(reason: str, fix: str) -> Finding:
    """It works, but somebody should look at it."""
    return Finding(Level.WARNING, reason, fix)


def error(reason: str, fix: str) -> Finding:
    """It does not work, or will not."""
    return Finding(Level.ERROR, reason, fix)


def skipped(reason: str) -> Finding:
    """It was not looked at."""
    return Finding(Level.SKIPPED, reason)
