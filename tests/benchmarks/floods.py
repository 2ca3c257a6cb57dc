"""What good callers notice of a flood. ``python -m tests.benchmarks.floods --help``.

A device listens beyond loopback, with TLS and tokens. Two callers with a token send requests, one
after the other, that keep the device for 5 ms each; attackers come from another network namespace,
at the lowest priority, since on a real line their processor is not the device's. The figures are
the good callers' 99th percentile without and with each flood, alternating, and what became of the
attackers' attempts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edged.access.roles import Role
from tests.e2e.device import ROOT, Device
from tests.e2e.secured import Elsewhere, Secured, ask
from tests.fakes import images

CALLERS = 2
WORK = b"work 5000"  # microseconds
FLOODS = {"tokens": 10_000, "idle": 10_000, "silent": 1000, "loris": 1000, "body": 128}


@dataclass
class Good:
    """What good callers got; latencies in seconds."""

    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def p99(self) -> float:
        """The 99th percentile, in milliseconds."""
        return statistics.quantiles(self.latencies, n=100)[98] * 1e3


@contextlib.contextmanager
def calling(secured: Secured, token: str, target: str, callers: int = CALLERS) -> Iterator[Good]:
    """Good callers, each over a connection of its own, until the block ends."""
    good, done = Good(), threading.Event()
    ready = threading.Barrier(callers + 1)

    def run() -> None:
        with secured.channel(target=target) as channel:
            ask(channel, token, WORK)
            ready.wait(60)
            while not done.is_set():
                began = time.perf_counter()
                answer = ask(channel, token, WORK)
                good.latencies.append(time.perf_counter() - began)
                if answer.isupper():  # the name of a status
                    good.errors.append(answer)

    threads = [threading.Thread(target=run) for _ in range(callers)]
    for thread in threads:
        thread.start()
    ready.wait(60)
    try:
        yield good
    finally:
        done.set()
        for thread in threads:
            thread.join(60)


def attack(
    there: Elsewhere, kind: str, target: str, ca: Path, number: int, seconds: float, token: str
) -> subprocess.Popen[str]:
    """Starts an attacker; returns when it is at it."""
    command = [sys.executable, "-m", "tests.e2e.floods", kind, target, str(ca), str(number)]
    attacker = subprocess.Popen(
        there.command(["nice", "-n", "19", *command, str(seconds)]),
        cwd=ROOT,
        env={**os.environ, "EDGED_TEST_TOKEN": token},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert attacker.stdout is not None
    assert attacker.stdout.readline() == "began\n"
    return attacker


def ended(attacker: subprocess.Popen[str]) -> dict[str, int]:
    """Returns what became of an attacker's attempts."""
    out, _ = attacker.communicate(timeout=300)
    counts: dict[str, int] = json.loads(out)
    return counts


def measure(
    secured: Secured, there: Elsewhere, token: str, kind: str, number: int, seconds: float
) -> dict[str, Any]:
    """Returns the figures of one flood: calm first, then the flood."""
    target = f"{there.host}:{secured.device.address.rpartition(':')[2]}"
    with calling(secured, token, target) as calm:
        threading.Event().wait(seconds)
    with calling(secured, token, target) as flooded:
        attacker = attack(there, kind, target, secured.authority.ca, number, seconds, token)
        counts = ended(attacker)
    return {
        "flood": kind,
        "attempts": number,
        "became": counts,
        "calm_p99_ms": calm.p99,
        "flooded_p99_ms": flooded.p99,
        "ratio": flooded.p99 / calm.p99,
        "requests": len(flooded.latencies),
        "errors": len(calm.errors) + len(flooded.errors),
    }


@contextlib.contextmanager
def device(there: Elsewhere, **settings: str) -> Iterator[tuple[Secured, str]]:
    """A device that others can reach, and a token."""
    folder = Path(tempfile.mkdtemp(prefix="edged-"))
    secured = Secured(Device(folder, "tests.fakes.daemon"))
    try:
        token = secured.token("line4", Role.PREDICT)
        own = secured.authority.server(there.host)
        files = {"tls__cert_file": str(own.certificate), "tls__key_file": str(own.key)}
        secured.device.start(*secured.flags(**files, **settings))
        event = secured.device.deploy(images.write(folder / "image"))[-1]
        assert event.state == "committed", event.error
        yield secured, token
    finally:
        secured.device.close()
        shutil.rmtree(folder)


def resident(secured: Secured) -> float:
    """Returns the daemon's memory, in MiB."""
    assert secured.device.daemon is not None
    text = Path(f"/proc/{secured.device.daemon.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> int:
    """Measures and prints a table; 1 if a good caller had an error or waited too long."""
    parser = argparse.ArgumentParser(description="What good callers notice of a flood.")
    parser.add_argument("--flood", action="append", choices=FLOODS, help="default: all of them")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each flood (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, help="of each flood (default: 3)")
    parser.add_argument("--limit", type=float, default=2.0, help="ratio of medians to exceed")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    args = parser.parse_args()
    failed = False
    with Elsewhere(12) as there, device(there) as (secured, token):
        for kind in args.flood or FLOODS:
            before = resident(secured)
            rounds = [
                measure(secured, there, token, kind, FLOODS[kind], args.seconds)
                for _ in range(args.rounds)
            ]
            ratio = statistics.median(each["ratio"] for each in rounds)
            errors = sum(each["errors"] for each in rounds)
            failed = failed or ratio > args.limit or errors > 0
            facts = {
                "flood": kind,
                "attempts": FLOODS[kind],
                "became": rounds[-1]["became"],
                "calm_p99_ms": statistics.median(each["calm_p99_ms"] for each in rounds),
                "flooded_p99_ms": statistics.median(each["flooded_p99_ms"] for each in rounds),
                "ratio": ratio,
                "ratios": [round(each["ratio"], 2) for each in rounds],
                "errors": errors,
                "memory_mib": [round(before), round(resident(secured))],
            }
            print(json.dumps(facts) if args.json else _line(facts), flush=True)
    return int(failed)


def _line(facts: dict[str, Any]) -> str:
    became = ", ".join(f"{count} {name}" for name, count in facts["became"].items())
    return (
        f"{facts['flood']:7} {facts['attempts']:6}  calm {facts['calm_p99_ms']:6.1f} ms  flooded "
        f"{facts['flooded_p99_ms']:6.1f} ms  ratio {facts['ratio']:.2f} {facts['ratios']}  errors "
        f"{facts['errors']}  memory {facts['memory_mib']} MiB  attempts: {became}"
    )


if __name__ == "__main__":
    sys.exit(main())
