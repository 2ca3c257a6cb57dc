"""Hours on a link that comes and goes. ``python -m tests.benchmarks.soak --help``.

A device answers requests, sends telemetry and results, gets another model now and then, and loses
its broker now and then. Its daemon's memory and open files are looked at all the while: they must
be flat. What is compared are the first and the last third of the time after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.callers import calling
from tests.e2e.mqtt.world import World, lies, world
from tests.fakes import images

WORK = b"work 5000 x"  # five milliseconds of it
MEBIBYTE = 1 << 20
GROWTH = 4.0  # MiB that the daemon may have more in the last third than in the first
FILES = 2  # descriptors likewise
THREADS = 1


@dataclass(frozen=True)
class Sample:
    """One look at the daemon: seconds since the start, MiB in memory, files, threads."""

    at: float
    memory: float
    files: int
    threads: int


@dataclass
class Outcome:
    """What a run gave."""

    samples: list[Sample] = field(default_factory=list)
    swaps: int = 0
    outages: int = 0
    answers: int = 0
    errors: list[str] = field(default_factory=list)
    lies: list[str] = field(default_factory=list)

    def thirds(self) -> tuple[list[Sample], list[Sample]]:
        """The first and the last third, without the warm-up, which is a tenth."""
        last = self.samples[-1].at
        steady = [each for each in self.samples if each.at >= last / 10]
        count = max(len(steady) // 3, 1)
        return steady[:count], steady[-count:]

    def growth(self) -> dict[str, float]:
        """By how much the last third's medians are above those of the first."""
        first, last = self.thirds()

        def median(samples: list[Sample], what: str) -> float:
            return statistics.median(float(getattr(each, what)) for each in samples)

        return {
            what: round(median(last, what) - median(first, what), 2)
            for what in ("memory", "files", "threads")
        }

    def faults(self) -> list[str]:
        """Returns what is not as it must be."""
        limits = {"memory": GROWTH, "files": FILES, "threads": THREADS}
        found = [
            f"{what} grew by {value}, at most {limits[what]} is flat"
            for what, value in self.growth().items()
            if value > limits[what]
        ]
        found += [f"a request was lost: {each}" for each in self.errors]
        return found + [f"the report lies: {each}" for each in self.lies]

    def facts(self) -> dict[str, object]:
        """Returns the figures."""
        first, last = self.samples[0], self.samples[-1]
        return {
            "seconds": round(last.at),
            "samples": len(self.samples),
            "memory_mib": {
                "first": round(first.memory, 1),
                "last": round(last.memory, 1),
                "most": round(max(each.memory for each in self.samples), 1),
            },
            "files": {"first": first.files, "last": last.files},
            "growth": self.growth(),
            "swaps": self.swaps,
            "outages": self.outages,
            "requests": self.answers,
            "faults": self.faults(),
        }


def run(
    dialect: str, *, seconds: float, swap_every: float, outage_every: float, look_every: float
) -> Outcome:
    """Runs for so long; all times in seconds."""
    outcome, chance, wait = Outcome(), random.Random(1), threading.Event().wait
    settings: dict[str, Any] = {
        "retry_limit": 2,
        "keepalive": 10,
        "results": True,
        "results_rate": 20,
        "telemetry_interval": 1,
    }
    with world(dialect, **settings) as made:
        device = made.device
        models = [images.write(device.folder / name, name) for name in ("red", "blue")]
        device.start()
        made.want(models[0], "first")
        made.until_applied("first")
        began = time.monotonic()
        next_swap, next_outage = swap_every, outage_every
        with calling(device, count=1, body=WORK) as callers:
            while (now := time.monotonic() - began) < seconds:
                outcome.samples.append(_look(made, now))
                if now >= next_swap:
                    outcome.swaps += 1
                    next_swap += swap_every
                    made.want(models[outcome.swaps % 2], f"swap-{outcome.swaps}")
                    made.until_applied(f"swap-{outcome.swaps}")
                if now >= next_outage:
                    outcome.outages += 1
                    next_outage += outage_every
                    _outage(made, chance.uniform(0.1, 5.0))
                wait(look_every)
        made.want(models[0], "last")
        outcome.lies = lies(device, made.until_applied("last"))
        outcome.answers = len(callers.answers)
        outcome.errors = [str(each) for each in callers.errors]
    return outcome


def _look(made: World, now: float) -> Sample:
    assert made.device.daemon is not None
    process = Path(f"/proc/{made.device.daemon.pid}")
    status = dict(
        line.split(":\t", 1)
        for line in (process / "status").read_text().splitlines()
        if ":" in line
    )
    return Sample(
        now,
        int(status["VmRSS"].split()[0]) / 1024,
        len(list((process / "fd").iterdir())),
        int(status["Threads"]),
    )


def _outage(made: World, seconds: float) -> None:
    made.take_away()
    threading.Event().wait(seconds)
    made.bring_back()
    seen = len(made.way.reports())
    made.way.until(lambda: len(made.way.reports()) > seen, 60.0, "the device's return")


def main() -> int:
    """Runs it and prints what it gave; 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--dialect", choices=["plain", "iothub"], default="plain")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--swap-every", type=float, default=20.0, help="seconds")
    parser.add_argument("--outage-every", type=float, default=30.0, help="seconds")
    parser.add_argument("--look-every", type=float, default=1.0, help="seconds")
    parser.add_argument("--samples", type=Path, help="file for all samples, as JSON lines")
    given = parser.parse_args()
    outcome = run(
        given.dialect,
        seconds=given.seconds,
        swap_every=given.swap_every,
        outage_every=given.outage_every,
        look_every=given.look_every,
    )
    if given.samples:
        lines = [json.dumps(vars(each)) for each in outcome.samples]
        given.samples.write_text("\n".join([*lines, ""]))
    print(json.dumps(outcome.facts(), indent=2))
    return int(bool(outcome.faults()))


if __name__ == "__main__":
    sys.exit(main())
