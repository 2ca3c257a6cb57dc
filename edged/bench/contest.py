"""Engines on one network in one run: turns, medians, ratios.

Only ratios of one run can be relied on: a machine's absolute times drift. A turn begins when the
machine has come to rest: engines' threads spin after a run, and there may be other work. A turn in
which such work kept the engine waiting is taken again, and if that does not help does not count,
whatever its times were; unless that is so for most turns, and then the figures say it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edged.bench.contender import Contender, Turn
from edged.bench.engines import AGAIN, ALONE, EDGED, Spec
from edged.bench.rounds import median, percentile, take_turns
from edged.errors import DeviceError

SETTLE = 0.2  # seconds at least before a turn
PATIENCE = 60.0
"""Seconds to wait for a machine to come to rest, in all of a comparison."""
_LOOK = 0.1  # seconds between two looks at how busy the machine is
_IDLE = 0.1  # of one processor's time in a look
_LONGEST = 10.0  # seconds to wait before one turn

DISTURBED = 0.01
"""Share of a turn's time that an engine may have waited for a processor."""
REPEATS = 3

ENOUGH_FOR_P99 = 100


def busy_seconds() -> float:
    """Returns how long this machine's processors have worked since it started, in all."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    ticks = dict(zip(names, map(int, fields), strict=False))
    worked = sum(count for name, count in ticks.items() if name not in {"idle", "iowait"})
    return worked / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: turns of each engine.
        runs: in a turn.
        warm_up: runs before them that do not count.
        tail: runs in one stretch after the rounds, for the tail; 0 for none.
        patience: seconds to wait for the machine to come to rest, in all.
    """

    rounds: int = 9
    runs: int = 20
    warm_up: int = 3
    tail: int = 0
    patience: float = PATIENCE


class Referee:
    """Says when a turn begins and whether it counts, as long as the patience lasts.

    Args:
        patience: seconds to wait in all, beyond the pause before each turn.
        busy: seconds that the machine's processors have worked, in all.
        wait: waits that many seconds.
    """

    def __init__(
        self,
        patience: float = PATIENCE,
        busy: Callable[[], float] = busy_seconds,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._left = patience
        self._busy = busy
        self._wait = wait

    def settle(self) -> bool:
        """Returns when the machine has come to rest; False if it has not while we had patience."""
        self._wait(SETTLE)
        before, waited = self._busy(), 0.0
        while waited < _LONGEST and self._left > 0:
            self._wait(_LOOK)
            waited += _LOOK
            now = self._busy()
            if now - before <= _IDLE * _LOOK:
                return True
            self._left -= _LOOK
            before = now
        return False

    def undisturbed(self, take: Callable[[], Turn]) -> Turn:
        """Returns a turn that had the machine to itself, or the least disturbed of some."""
        best = take()
        for _ in range(REPEATS):
            if best.disturbed <= DISTURBED or self._left <= 0:
                break
            self.settle()
            began = time.monotonic()
            best = min(best, take(), key=lambda turn: turn.disturbed)
            self._left -= time.monotonic() - began
        return best


def measure(
    contenders: Mapping[str, Contender],
    plan: Plan,
    referee: Referee,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[Turn]]:
    """Returns every turn by engine and round."""

    def turn(contender: Contender) -> Callable[[], Turn]:
        return lambda: referee.undisturbed(lambda: contender.turn(plan.runs, plan.warm_up))

    turns = {label: turn(each) for label, each in contenders.items()}
    return take_turns(turns, plan.rounds, referee.settle, progress)


def tails(
    contenders: Mapping[str, Contender], plan: Plan, referee: Referee
) -> dict[str, dict[str, float]]:
    """Returns the tail of each engine's runs in one stretch."""
    found = {}
    for label, contender in contenders.items():
        referee.settle()
        turn = referee.undisturbed(partial(contender.turn, plan.tail, plan.warm_up))
        found[label] = {**tail(turn.times), "disturbed": round(turn.disturbed, 4)}
    return found


def tail(microseconds: Sequence[float]) -> dict[str, float]:
    """Returns p50, p99, the largest, and p99 over p50."""
    p50, p99 = median(microseconds), percentile(microseconds, 99)
    return {
        "runs": len(microseconds),
        "p50_ms": _ms(p50),
        "p99_ms": _ms(p99),
        "max_ms": _ms(max(microseconds)),
        "p99 / p50": round(p99 / p50, 3),
    }


def figures(found: Mapping[str, Sequence[Turn]]) -> dict[str, dict[str, Any]]:
    """Returns each engine's milliseconds: the median of all runs that count, and of each round.

    ``spread`` is how far the middle half of the rounds' medians lies apart, as a share of the
    median; ``disturbed`` how many turns others on the machine kept waiting.
    """
    made = {}
    for label, turns in found.items():
        counting = [
            turn.times for turn, counts in zip(turns, _counts(turns), strict=True) if counts
        ]
        runs, by_round = [each for turn in counting for each in turn], list(map(median, counting))
        p50 = median(runs)
        half = percentile(by_round, 75) - percentile(by_round, 25)
        made[label] = {
            "p50_ms": _ms(p50),
            "min_ms": _ms(min(runs)),
            "p99_ms": _ms(percentile(runs, 99)) if len(runs) >= ENOUGH_FOR_P99 else None,
            "by_round_ms": [_ms(median(turn.times)) for turn in turns],
            "spread": round(half / p50, 4),
            "disturbed": sum(turn.disturbed > DISTURBED for turn in turns),
        }
    return made


def ratio(found: Mapping[str, Sequence[Turn]], one: str, other: str) -> dict[str, float | str]:
    """Returns the time of one engine over another's: of the medians, and round by round.

    Only rounds count in which neither was disturbed, where there are enough of them.
    """
    both = zip(_counts(found[one]), _counts(found[other]), strict=True)
    counting = [a and b for a, b in both]
    if not any(counting):
        counting = [True] * len(counting)
    ours, theirs = (
        [turn.times for turn, counts in zip(found[name], counting, strict=True) if counts]
        for name in (one, other)
    )
    by_round = [median(a) / median(b) for a, b in zip(ours, theirs, strict=True)]
    medians = [median([each for turn in turns for each in turn]) for turns in (ours, theirs)]
    return {
        "of": one,
        "to": other,
        "ratio": round(medians[0] / medians[1], 4),
        "rounds": len(by_round),
        "rounds_median": round(median(by_round), 4),
        "rounds_min": round(min(by_round), 4),
        "rounds_max": round(max(by_round), 4),
    }


def _counts(turns: Sequence[Turn]) -> list[bool]:
    """Says of each turn whether it counts: the undisturbed ones, or all if those are too few."""
    good = [turn.disturbed <= DISTURBED for turn in turns]
    return good if 2 * sum(good) >= len(good) else [True] * len(good)


def ratios(
    found: Mapping[str, Sequence[Turn]], specs: Sequence[Spec]
) -> list[dict[str, float | str]]:
    """Returns ours over each other engine, and each engine over itself once more.

    Ours is the one on as many threads and with the same instruction set, where there is one.
    """
    made = []
    for spec in specs:
        if spec.mark == AGAIN:
            made.append(ratio(found, replace(spec, mark="").label, spec.label))
            continue
        ours = _ours(spec, specs)
        if ours is not None and ours != spec:
            made.append(ratio(found, ours.label, spec.label))
    return made


def _ours(other: Spec, specs: Sequence[Spec]) -> Spec | None:
    """Returns whom of ours an engine is held against."""
    likely = [each for each in specs if each.name == EDGED and each.mark == other.mark]
    same = [each for each in likely if each.isa == other.isa]
    if other.name != EDGED and same:
        return same[0]
    return likely[0] if likely else None


def speedups(found: Mapping[str, Sequence[Turn]], specs: Sequence[Spec]) -> dict[str, float]:
    """Returns how much faster each engine is with its threads than with one."""
    made = {}
    for spec in specs:
        alone = replace(spec, threads=1, mark=ALONE).label
        if not spec.mark and alone in found:
            made[spec.label] = float(ratio(found, alone, spec.label)["ratio"])
    return made


def likeness(outputs: Path, reference: Path) -> float:
    """Returns the cosine between two engines' outputs: that they ran the same network.

    Int8 comes to 0.9 and more; an engine with the wrong graph or input to nothing.

    Raises:
        DeviceError: they have not the same outputs.
    """
    with np.load(outputs) as found, np.load(reference) as wanted:
        pairs = _paired(dict(found), dict(wanted))
    x = np.concatenate([a.reshape(-1).astype(np.float64) for a, _ in pairs])
    y = np.concatenate([b.reshape(-1).astype(np.float64) for _, b in pairs])
    if x.shape != y.shape:
        raise DeviceError(f"cannot compare engines: they answered {x.size} and {y.size} values")
    return float(x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-30))


def _paired(found: dict[str, Any], wanted: dict[str, Any]) -> list[tuple[Any, Any]]:
    if set(found) != set(wanted):
        raise DeviceError(
            f"cannot compare engines: outputs are {sorted(found)} and {sorted(wanted)}"
        )
    return [(found[name], wanted[name]) for name in wanted]


def _ms(microseconds: float) -> float:
    return round(microseconds / 1e3, 4)
