"""An engine in a process of its own, which measures itself when it is told to.

So engines share neither threads nor memory nor environment, each one's memory can be read, and one
that dies takes nobody along. The processes stay in the caller's process group: ctrl-C ends all.

``python -m edged.bench.contender --folder DIR --spec JSON``: a line of JSON in, a line of JSON out.
It ends when its standard input does. What a library prints goes to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edged import errors
from edged.bench.engines import Engine, Spec, open_engine
from edged.errors import ConfigError, DeviceError

START_LIMIT = 300.0  # seconds; a large network's int8 form takes OpenVINO a while
TURN_LIMIT = 600.0
STOP_LIMIT = 10.0


@dataclass(frozen=True)
class Turn:
    """Some runs in a row.

    Attributes:
        times: microseconds of each run, or of each part of one.
        disturbed: how long the engine's threads could have run but had no processor, as a share of
            the time: what others on this machine took from it.
    """

    times: list[float]
    disturbed: float


class Contender:
    """Starts an engine's process and asks it.

    Args:
        spec: which engine.
        folder: the network's files (``edged.bench.subject``).

    Raises:
        ConfigError, DeviceError, ModelError: as ``open_engine``, or the process died.
    """

    def __init__(self, spec: Spec, folder: Path) -> None:
        self.spec = spec
        command = [sys.executable, "-m", "edged.bench.contender", "--folder", str(folder)]
        self._process = subprocess.Popen(
            [*command, "--spec", json.dumps(spec.document())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **spec.environment()},
        )
        try:
            self.facts: dict[str, Any] = self._read(START_LIMIT)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def __enter__(self) -> Contender:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def turn(self, runs: int, warm_up: int) -> Turn:
        """Returns the times of so many runs, after some that do not count."""
        answer = self._ask(do="run", runs=runs, warm_up=warm_up)
        times = [float(each) / 1e3 for each in answer["ns"]]
        return Turn(times, answer["waited_ns"] / 1e3 / sum(times))

    def chain_times(self, runs: int, warm_up: int) -> Turn:
        """Returns the median microseconds of entry, each chain and exit; of ours only."""
        answer = self._ask(do="chains", runs=runs, warm_up=warm_up)
        times = [float(each) for each in answer["us"]]
        return Turn(times, answer["waited_ns"] / 1e3 / (sum(times) * runs))

    def outputs(self, path: Path) -> None:
        """Runs once and writes the outputs to an .npz file."""
        self._ask(do="outputs", path=str(path))

    def resident_bytes(self) -> int:
        """Returns how much of its memory is resident."""
        return resident_bytes(self.pid)

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _ask(self, **question: Any) -> dict[str, Any]:
        if self._process.stdin is None:
            raise DeviceError(f"cannot ask {self.spec.label}: it has no input")
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None
        return self._read(TURN_LIMIT)

    def _read(self, limit: float) -> dict[str, Any]:
        out = self._process.stdout
        if out is None:
            raise DeviceError(f"cannot hear {self.spec.label}: it has no output")
        ready, _, _ = select.select([out], [], [], limit)
        if not ready:
            raise DeviceError(f"cannot measure {self.spec.label}: no answer within {limit:g} s")
        line = out.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = getattr(errors, answer["error"], DeviceError)
            raise kind(answer["text"])
        return answer

    def _died(self) -> DeviceError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_LIMIT)
        status = self._process.poll()
        return DeviceError(f"cannot measure {self.spec.label}: its process ended, status {status}")


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process: anonymous, of files and shared (VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise DeviceError(f"cannot read the memory of process {pid}: it has ended")


def waiting_ns() -> int:
    """Returns the nanoseconds that this process's threads could have run but had no processor."""
    waited = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that ends meanwhile
            waited += int((task / "schedstat").read_text().split()[1])
    return waited


def usable(threads: int) -> set[int]:
    """Returns the processors for so many threads: the first ones we may use.

    Raises:
        ConfigError: there are fewer.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if threads > len(cpus):
        raise ConfigError(f"cannot measure with {threads} threads: there are {len(cpus)} CPUs")
    return set(cpus[:threads])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs an engine's process."""
    parser = argparse.ArgumentParser(description="an engine that measures itself on request")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--spec", required=True, metavar="JSON")
    given = parser.parse_args(arguments)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        _serve(Spec(**json.loads(given.spec)), given.folder, answers)
    return 0


def _serve(spec: Spec, folder: Path, answers: Any) -> None:
    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        # Before any library counts processors.
        os.sched_setaffinity(0, usable(spec.threads))
        engine = open_engine(spec, folder)
    except errors.EdgedError as exc:
        say({"error": type(exc).__name__, "text": str(exc)})
        return
    except Exception as exc:  # noqa: BLE001 - a foreign library's error of any kind
        say({"error": "DeviceError", "text": f"cannot open {spec.label}: {exc}"})
        return
    say({"load_ms": engine.load_ms, **engine.settings})
    for line in sys.stdin:
        question = json.loads(line)
        say(_answer(engine, question))


def _answer(engine: Engine, question: dict[str, Any]) -> dict[str, Any]:
    if question["do"] == "outputs":
        engine.run()
        arrays: dict[str, Any] = dict(engine.outputs())
        np.savez(question["path"], **arrays)
        return {}
    for _ in range(question["warm_up"]):
        engine.run()
    waited = waiting_ns()
    answer: dict[str, Any] = {}
    if question["do"] == "chains":
        answer["us"] = _chain_medians(engine, question["runs"])
    else:
        answer["ns"] = _times(engine, question["runs"])
    return {**answer, "waited_ns": waiting_ns() - waited}


def _times(engine: Engine, runs: int) -> list[int]:
    clock, run, taken = time.perf_counter_ns, engine.run, []
    for _ in range(runs):
        began = clock()
        run()
        taken.append(clock() - began)
    return taken


def _chain_medians(engine: Engine, runs: int) -> list[float]:
    if engine.chain_times is None:
        raise DeviceError("cannot time chains: only ours has them")
    rows = []
    for _ in range(runs):
        engine.run()
        rows.append(engine.chain_times())
    return [float(each) for each in np.median(np.array(rows), axis=0)]


if __name__ == "__main__":
    sys.exit(main())
