"""Measuring several contenders fairly on one machine: interleaved rounds, medians.

Absolute times drift by a third within minutes, and onnxruntime's threads go on spinning after a
run. So contenders take turns in every round, another one begins each time, and each is preceded by
a pause and a few runs that do not count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

PAUSE = 0.5  # seconds; onnxruntime's threads sleep well before
WARM_UP = 3  # runs

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """How much is measured: ``rounds`` turns of ``runs`` runs for each contender."""

    rounds: int
    runs: int


def interleave(
    contenders: Mapping[str, Callable[[], T]],
    plan: Plan,
    pause: Callable[[float], None] = time.sleep,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[list[T]]]:
    """Runs everybody and returns what each run gave, by contender and round.

    Args:
        contenders: a call is one run.
        plan: how much.
        pause: waits that many seconds.
        progress: called with the rounds done and all.
    """

    def turn(run: Callable[[], T]) -> list[T]:
        for _ in range(WARM_UP):
            run()
        return [run() for _ in range(plan.runs)]

    turns = {name: partial(turn, run) for name, run in contenders.items()}
    return take_turns(turns, plan.rounds, lambda: pause(PAUSE), progress)


def take_turns(
    contenders: Mapping[str, Callable[[], T]],
    rounds: int,
    settle: Callable[[], object],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[T]]:
    """Gives everybody one turn a round and returns what each turn gave.

    Args:
        contenders: a call is one turn.
        rounds: how many.
        settle: returns when the one before has come to rest.
        progress: called with the rounds done and all.
    """
    names = list(contenders)
    found: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        for name in order(names, number):
            settle()
            found[name].append(contenders[name]())
        if progress is not None:
            progress(number + 1, rounds)
    return found


def order(names: Sequence[str], number: int) -> list[str]:
    """Returns who runs after whom in a round.

    Another one begins each time; once everybody has begun, the order is reversed, so that nobody
    always follows the same one.
    """
    times, first = divmod(number, len(names))
    rotated = [*names[first:], *names[:first]]
    return rotated if times % 2 == 0 else rotated[::-1]


def median(values: Sequence[float]) -> float:
    """Returns the middle value."""
    return float(statistics.median(values))


def percentile(values: Sequence[float], part: float) -> float:
    """Returns the smallest value that at least ``part`` per cent of the values do not exceed."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * part // 100))
    return float(ordered[int(rank) - 1])
