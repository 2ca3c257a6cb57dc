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
    names = list(contenders)
    found: dict[str, list[list[T]]] = {name: [] for name in names}
    for number in range(plan.rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            run = contenders[name]
            pause(PAUSE)
            for _ in range(WARM_UP):
                run()
            found[name].append([run() for _ in range(plan.runs)])
        if progress is not None:
            progress(number + 1, plan.rounds)
    return found


def median(values: Sequence[float]) -> float:
    """Returns the middle value."""
    return float(statistics.median(values))


def percentile(values: Sequence[float], part: float) -> float:
    """Returns the smallest value that at least ``part`` per cent of the values do not exceed."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * part // 100))
    return float(ordered[int(rank) - 1])
