"""On a machine that drifts, is busy now and then, and whose engines spin, the ratios are right.

The machine is simulated, so that what the harness must find is known: every engine takes a fixed
time, slowed by what the machine does. No clock is read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, cast

import pytest

from edged.bench import contest
from edged.bench.contender import Contender, Turn
from edged.bench.contest import Plan, Referee
from edged.bench.engines import Spec


class Machine:
    """Time passes in turns and waits only."""

    def __init__(self, drift: float = 0.0, spin: float = 0.0, others: frozenset[int] | None = None):
        self.now = 0.0
        self.worked = 0.0
        self._drift = drift
        self._spin = spin
        self._others = others or frozenset()
        self._spins_until = 0.0
        self.turns = 0

    def turn(self, milliseconds: float, runs: int) -> Turn:
        """Runs an engine: slower as the time goes, and while the one before spins."""
        self.turns += 1
        disturbed = self.turns in self._others
        factor = (1 + self._drift * self.now) * (1.1 if self.now < self._spins_until else 1.0)
        taken = [1e3 * milliseconds * factor * (3 if disturbed else 1)] * runs
        self.now += sum(taken) / 1e6
        self._spins_until = self.now + self._spin
        return Turn(taken, 0.5 if disturbed else 0.0)

    def wait(self, seconds: float) -> None:
        spun = max(0.0, min(self.now + seconds, self._spins_until) - self.now)
        self.now += seconds
        self.worked += spun

    def busy(self) -> float:
        return self.worked


class Fake:
    """An engine of that machine."""

    def __init__(self, spec: Spec, machine: Machine, milliseconds: float) -> None:
        self.spec = spec
        self._machine = machine
        self._milliseconds = milliseconds

    def turn(self, runs: int, warm_up: int) -> Turn:
        del warm_up
        return self._machine.turn(self._milliseconds, runs)


def measured(machine: Machine, times: dict[str, float], rounds: int = 9) -> Callable[..., Any]:
    fakes = {
        label: cast("Contender", Fake(Spec(label, 2), machine, taken))
        for label, taken in times.items()
    }
    referee = Referee(60.0, machine.busy, machine.wait)
    found = contest.measure(fakes, Plan(rounds, 20), referee)
    return lambda one, other: contest.ratio(found, one, other)


TIMES = {"edged": 5.0, "twin": 5.0, "other": 4.0, "slow": 15.0}


def check(machine: Machine) -> None:
    ratio = measured(machine, TIMES)
    assert ratio("edged", "twin")["ratio"] == pytest.approx(1.0, abs=0.02)
    assert ratio("edged", "other")["ratio"] == pytest.approx(1.25, abs=0.03)
    assert ratio("edged", "slow")["ratio"] == pytest.approx(1 / 3, abs=0.01)


def test_a_steady_machine() -> None:
    machine = Machine()
    check(machine)
    assert machine.turns == 9 * len(TIMES)


def test_a_machine_that_slows_down_by_a_third() -> None:
    machine = Machine(drift=0.02)
    check(machine)
    assert 1.2 < 1 + 0.02 * machine.now < 1.6


def test_engines_whose_threads_spin_after_a_run() -> None:
    check(Machine(spin=1.5))
    # Without the pause the next one would have been measured a tenth too slow.
    hurried = Machine(spin=1.5)
    assert hurried.turn(5.0, 1).times == [5000.0]
    assert hurried.turn(5.0, 1).times == [pytest.approx(5500.0)]


def test_other_work_that_comes_and_goes() -> None:
    machine = Machine(others=frozenset(range(2, 40, 3)))
    check(machine)
    assert machine.turns > 9 * len(TIMES)  # disturbed turns were taken again


def test_other_work_that_never_ends_is_told() -> None:
    machine = Machine(others=frozenset(range(10_000)))
    fakes = {"edged": cast("Contender", Fake(Spec("edged", 2), machine, 5.0))}
    found = contest.measure(fakes, Plan(3, 20), Referee(60.0, machine.busy, machine.wait))
    assert contest.figures(found)["edged"]["disturbed"] == 3
    assert machine.turns == 3 * (1 + contest.REPEATS)


def test_nobody_always_follows_the_same_one() -> None:
    seen: list[str] = []
    machine = Machine()

    class Told(Fake):
        def turn(self, runs: int, warm_up: int) -> Turn:
            seen.append(self.spec.label)
            return super().turn(runs, warm_up)

    fakes = {name: cast("Contender", Told(Spec(name, 2), machine, 1.0)) for name in "abc"}
    contest.measure(fakes, Plan(6, 1), Referee(0.0, machine.busy, machine.wait))
    followed = set(itertools.pairwise(seen))
    assert {(a, b) for a in "abc" for b in "abc" if a != b} <= followed
