"""Runs targets under atheris and reports.

``python -m tests.fuzz [--seconds N | --runs N] [TARGET...]``; ``packaging/fuzz`` sets up what it
needs.

Corpora, logs and findings are kept in ``build/fuzz``: a later run goes on where an earlier one
ended. The exit status is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "fuzz"
NAMES = ("request", "picture", "program")
# After so many seconds of the clock an input counts as hanging. Virtual machines stand still for a
# minute now and then; what an input may take of the processor, the harness watches.
HANG_SECONDS = 300
MEMORY_MEGABYTES = 2048
INPUT_BYTES = 8192


@dataclass(frozen=True)
class Outcome:
    """What became of one target.

    Attributes:
        name: of the target.
        facts: the harness's last report.
        findings: files with inputs that did harm.
        status: of the fuzzer's process.
        log: what it said.
    """

    name: str
    facts: dict[str, Any]
    findings: tuple[Path, ...]
    status: int
    log: Path

    @property
    def clean(self) -> bool:
        """Whether nothing was found, and something was done."""
        return self.status == 0 and not self.findings and self.facts.get("inputs", 0) > 0


def run(name: str, folder: Path, *, seconds: int = 0, runs: int = 0, seed: int = 0) -> Outcome:
    """Fuzzes one target.

    Args:
        name: of the target.
        folder: for corpus, log and findings.
        seconds: how long; 0 for as long as ``runs`` take.
        runs: how many inputs; 0 for as many as ``seconds`` allow.
        seed: of the fuzzer; 0 for another one each time.
    """
    corpus, report, log = folder / name, folder / f"{name}.json", folder / f"{name}.log"
    corpus.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    write_seeds(name, corpus)
    flags = [
        f"-max_total_time={seconds}",
        f"-atheris_runs={runs}" if runs else "-runs=-1",
        f"-timeout={HANG_SECONDS}",
        f"-report_slow_units={HANG_SECONDS}",
        f"-rss_limit_mb={MEMORY_MEGABYTES}",
        f"-max_len={INPUT_BYTES}",
        f"-artifact_prefix={folder}/found-{name}-",
        f"-seed={seed}",
        # Few changes on top of each other: most bytes are refused early anyway.
        "-mutate_depth=2",
        "-print_final_stats=1",
    ]
    before = set(folder.glob(f"found-{name}-*"))
    with log.open("wb") as output:
        command = [sys.executable, "-m", "tests.fuzz.harness", name, str(report), *flags]
        done = subprocess.run(
            [*command, str(corpus)], cwd=ROOT, stdout=output, stderr=output, check=False
        )
    facts = json.loads(report.read_bytes()) if report.exists() else {}
    found = sorted(set(folder.glob(f"found-{name}-*")) - before)
    return Outcome(name, facts, tuple(found), done.returncode, log)


def write_seeds(name: str, corpus: Path) -> None:
    """Writes where to begin, as libFuzzer names files: by what is in them."""
    from tests.fuzz import seeds

    made = {"request": seeds.requests, "picture": seeds.pictures, "program": seeds.programs}
    for data in made[name]():
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzzes; returns the exit status."""
    parser = argparse.ArgumentParser(prog="packaging/fuzz", description="Fuzzes edged.")
    bound = parser.add_mutually_exclusive_group()
    bound.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    bound.add_argument("--runs", type=int, default=0, help="inputs for each target, instead")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}")
    given = parser.parse_args(arguments)
    unknown = set(given.targets) - set(NAMES)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; expected {', '.join(NAMES)}")
    if importlib.util.find_spec("atheris") is None:
        print(
            "atheris is not installed: it has no wheel for this Python or machine", file=sys.stderr
        )
        return 1
    seconds = 0 if given.runs else given.seconds
    outcomes = []
    for name in given.targets or NAMES:
        outcomes.append(run(name, FOLDER, seconds=seconds, runs=given.runs))
        print(line(outcomes[-1]), flush=True)
    return 0 if all(outcome.clean for outcome in outcomes) else 1


def line(outcome: Outcome) -> str:
    """Returns what a person wants to know of an outcome."""
    facts = outcome.facts
    if outcome.clean:
        return (
            f"{outcome.name}: {facts['inputs']} inputs in {facts['seconds']} s, "
            f"{facts['accepted']} accepted, no finding; memory "
            f"{facts['memory_bytes'] / 1e6:.0f} MB, at most {facts['peak_memory_bytes'] / 1e6:.0f}"
        )
    files = ", ".join(map(str, outcome.findings)) or "no input kept"
    return f"{outcome.name}: FOUND SOMETHING (status {outcome.status}): {files}; {outcome.log}"


if __name__ == "__main__":
    sys.exit(main())
