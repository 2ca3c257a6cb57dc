"""Broker kills while models are swapped. ``python -m tests.benchmarks.kills --help``.

Callers ask a device without a pause. A controller asks for one of two models in turns; in the
middle of that the broker is killed, stays away for a while and comes back, again and again, at
random. In the end the device must be connected and have what was asked for last, its report must be
the truth, and every request must have been answered as it should. Results that the device sends as
telemetry are numbered: none may be missing.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.callers import calling
from tests.e2e.mqtt.ways import ByPlain, ByTwin
from tests.e2e.mqtt.world import World, lies, world
from tests.fakes import images

WORK = b"work 2000 x"  # two milliseconds of it
PAUSE = 2  # seconds that the device waits between two attempts, at most
RETURN_LIMIT = 60.0  # seconds until it is connected again


@dataclass
class Outcome:
    """What a run gave; times in seconds.

    Attributes:
        kills: how often the broker was killed.
        returns: how long after its return the device had reported.
        swaps: deployments that came into service.
        answers: requests that were answered.
        errors: the others.
        strange: answers that no model would give.
        lies: where the last report was not the truth.
        results: how many results arrived.
        missing: numbers of results that did not.
        slowest: seconds that the slowest request took.
    """

    kills: int = 0
    returns: list[float] = field(default_factory=list)
    swaps: int = 0
    answers: int = 0
    errors: list[str] = field(default_factory=list)
    strange: list[bytes] = field(default_factory=list)
    lies: list[str] = field(default_factory=list)
    results: int = 0
    missing: list[int] = field(default_factory=list)
    slowest: float = 0.0

    def faults(self) -> list[str]:
        """Returns what is not as it must be."""
        found = [f"the report lies: {each}" for each in self.lies]
        found += [f"a request was lost: {each}" for each in self.errors]
        found += [f"a strange answer: {each!r}" for each in self.strange]
        if self.missing:
            found.append(f"{len(self.missing)} results are missing, such as {self.missing[0]}")
        if not self.results:
            found.append("no results arrived")
        return found

    def facts(self) -> dict[str, object]:
        """Returns the figures."""
        return {
            "kills": self.kills,
            "worst_return_s": round(max(self.returns, default=0), 2),
            "swaps": self.swaps,
            "requests": self.answers,
            "slowest_request_ms": round(self.slowest * 1e3, 1),
            "results": self.results,
            "faults": self.faults(),
        }


def run(dialect: str, *, kills: int, seed: int, away: float = 2.0) -> Outcome:
    """Kills the broker so often.

    Args:
        dialect: ``plain`` or ``iothub``.
        kills: how often.
        seed: of the times.
        away: seconds that the broker is away, at most.
    """
    outcome, chance = Outcome(), random.Random(seed)
    settings: dict[str, Any] = {"retry_limit": PAUSE, "keepalive": 10}
    settings |= {"results": True, "results_rate": 20}
    with world(dialect, **settings) as made:
        device = made.device
        models = [images.write(device.folder / name, name) for name in ("red", "blue")]
        device.start()
        made.want(models[0], "first")
        made.until_applied("first")
        with calling(device, count=2, body=WORK) as callers:
            for number in range(kills):
                _kill(made, models[(number + 1) % 2], f"kill-{number}", chance, away, outcome)
            made.want(models[kills % 2], "last")
            report = made.until_applied("last")
        outcome.lies = lies(device, report)
        outcome.swaps = device.status().counters.deployments
        outcome.answers = len(callers.answers)
        outcome.errors = [str(each) for each in callers.errors]
        outcome.strange = sorted(callers.bodies - {b"done"})
        outcome.slowest = max(seconds for _, seconds in callers.answers)
        _count_results(made, outcome)
    return outcome


def _kill(
    made: World, model: str, mark: str, chance: random.Random, away: float, outcome: Outcome
) -> None:
    """One kill, some time into a swap."""
    wait = threading.Event().wait
    made.want(model, mark)
    wait(chance.uniform(0, 0.5))
    made.take_away()
    outcome.kills += 1
    wait(chance.uniform(0, away))
    made.bring_back()
    back, seen = time.monotonic(), len(made.way.reports())
    made.way.until(lambda: len(made.way.reports()) > seen, RETURN_LIMIT, "the device's return")
    outcome.returns.append(time.monotonic() - back)


def _count_results(made: World, outcome: Outcome) -> None:
    """Waits until all that was sent has arrived, and looks for gaps.

    A broker that is killed may lose what it has acknowledged; the hub's front does not.
    """
    until = time.monotonic() + RETURN_LIMIT
    while (left := made.device.status().link.pending) and time.monotonic() < until:
        pass  # it answers when it can
    assert not left, f"{left} messages are still in the outbox"
    numbers = [each["seq"] for each in _results(made)]
    outcome.results = len(set(numbers))
    if isinstance(made.way, ByTwin):
        outcome.missing = sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers))


def _results(made: World) -> list[dict[str, Any]]:
    if isinstance(made.way, ByPlain):
        return [each.json() for each in made.way.plant.heard("result")]
    assert isinstance(made.way, ByTwin)
    sent = [each.json() for each in made.way.hub.telemetry() if not each.will]
    return [each for each in sent if each.get("kind") == "result"]


def main() -> int:
    """Runs it and prints what it gave; 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--dialect", choices=["plain", "iothub"], default="iothub")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--away", type=float, default=2.0, help="seconds without it, at most")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--log", type=Path, help="file for the figures, besides")
    given = parser.parse_args()
    outcome = run(given.dialect, kills=given.kills, seed=given.seed, away=given.away)
    text = json.dumps({"seed": given.seed, **outcome.facts()}, indent=2)
    print(text)
    if given.log:
        given.log.write_text(text)
    return int(bool(outcome.faults()))


if __name__ == "__main__":
    sys.exit(main())
