"""One target under atheris, in a process of its own: ``python -m tests.fuzz.harness TARGET REPORT
FLAG...``, where the flags are libFuzzer's and the corpus's folder.

Bytecode of edged and Pillow is instrumented, so that the fuzzer sees where new bytes lead. Compiled
code (protobuf, Pillow's decoders, edged's own kernels) is not: it runs, and its crashes are found,
but the fuzzer cannot steer by it.

Every ``STEP`` inputs the memory is read, and the report written anew: a target whose memory grows
by more than ``GROWTH`` once it has warmed up is a finding, like an exception. So is an input that
takes more than ``INPUT_SECONDS``; one that never ends is libFuzzer's to find.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("PILLOW_BLOCK_SIZE", "192m")  # as the worker has it

import atheris

# The definition is not under test, and atheris never frees what a comparison of arrays gives.
with atheris.instrument_imports(include=["edged", "PIL"], exclude=["edged.npu.reference"]):
    from tests.fuzz import mutate, targets

INPUT_SECONDS = 5  # of the processor, for one input on any machine
STEP = 1000
WARM = 50_000  # inputs until caches, the corpus and the allocator's arenas are about full
GROWTH = 256 * 1024 * 1024  # bytes; libFuzzer keeps its corpus, and what it counts, in memory too


class Watched:
    """A target with its memory watched.

    Args:
        name: of the target.
        report: where what happened so far is written.
    """

    def __init__(self, name: str, report: Path) -> None:
        self._target = targets.TARGETS[name]()
        self._mutate = mutate.MUTATIONS[name]
        self._seeds = list(self._target.seeds())
        self._report = report
        self._start = time.monotonic()
        self._warm = 0
        self._runs = 0
        self._accepted = 0

    def run(self, data: bytes) -> None:
        """Calls the target."""
        began = time.process_time()
        self._accepted += bool(self._target(data))
        spent = time.process_time() - began
        if spent > INPUT_SECONDS:
            raise AssertionError(f"one input took {spent:.1f} s of the processor")
        self._runs += 1
        if self._runs % STEP == 0:
            self._watch()

    def change(self, data: bytes, limit: int, seed: int) -> bytes:
        """Mutates by what the bytes mean, or as libFuzzer does.

        Half of the time what is changed is a seed: the corpus fills up with inputs that are refused
        in many ways, and what is behind the decoders is not reached from there.
        """
        choice = random.Random(seed)
        if choice.random() < 0.5:
            data = choice.choice(self._seeds)
        if choice.random() < 0.4:
            return bytes(atheris.Mutate(data, limit))
        return self._mutate(bytes(data), choice)[:limit]

    def _watch(self) -> None:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        size = pages * resource.getpagesize()
        if self._runs == WARM:
            self._warm = size
        facts: dict[str, Any] = {
            "inputs": self._runs,
            "accepted": self._accepted,
            "seconds": round(time.monotonic() - self._start, 1),
            "memory_bytes": size,
            "warm_memory_bytes": self._warm,
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        self._report.write_text(json.dumps(facts), encoding="ascii")
        if self._warm and size > self._warm + GROWTH:
            raise AssertionError(f"memory grew from {self._warm} to {size} bytes: {facts}")


def main() -> None:
    """Runs the fuzzer; does not return."""
    name, report, *flags = sys.argv[1:]
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as in the worker
    watched = Watched(name, Path(report))
    atheris.Setup(
        [sys.argv[0], *flags], watched.run, custom_mutator=watched.change, internal_libfuzzer=True
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
