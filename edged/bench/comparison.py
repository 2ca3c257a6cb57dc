"""A comparison of engines on one network, from files to figures.

``compare`` starts a process for every engine, lets them take turns, and says beside the times what
they have to be judged by: the work, this machine's peak, what a board is predicted to take.
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edged.bench import chains, contest
from edged.bench.contender import Contender
from edged.bench.contest import Plan, Referee
from edged.bench.engines import APART, EDGED, INT8, Spec
from edged.bench.peak import Peak
from edged.bench.subject import Subject
from edged.errors import EdgedError
from edged.npu import timing

CHAIN_RUNS = 30
"""Runs that the times of the chains are medians of."""

TRIAL_RUNS = 8

LIKE = "onnxruntime-float32"
"""The engine whose outputs the others' are held against, where it takes part."""


@dataclass(frozen=True)
class Compared:
    """What was measured of one network.

    Attributes:
        figures: JSON values.
        series: milliseconds of every run, by engine and round, for a plot.
    """

    figures: dict[str, Any]
    series: Mapping[str, Sequence[Sequence[float]]]


def compare(
    subject: Subject,
    specs: Sequence[Spec],
    plan: Plan,
    peak: Peak | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    optional: bool = False,
) -> Compared:
    """Measures engines on a network.

    Args:
        subject: the network's files.
        specs: the engines; those of the same label are one.
        plan: how much.
        peak: of this machine with the threads of ours, if known.
        progress: called with the rounds done and all.
        optional: whether others than ours that cannot run it here are left out, and said.

    Raises:
        ConfigError, DeviceError, ModelError: an engine cannot run it here.
    """
    with contextlib.ExitStack() as stack:
        contenders, missing = _start(subject, specs, stack, optional=optional)
        specs = [each.spec for each in contenders.values()]
        referee = contest.Referee(plan.patience)
        found = contest.measure(contenders, plan, referee, progress)
        engines = contest.figures(found)
        for label, contender in contenders.items():
            engines[label] |= _facts(contender)
        for label, cosine in _likeness(contenders).items():
            engines[label]["likeness"] = cosine
        figures: dict[str, Any] = {
            **work(subject),
            "missing": missing,
            "engines": engines,
            "ratios": contest.ratios(found, specs),
            "speedup": contest.speedups(found, specs),
        }
        ours = _ours(contenders.values())
        if ours is not None:
            figures |= _chains(subject, ours, engines[ours.spec.label]["p50_ms"], peak, referee)
        if plan.tail:
            figures["tail"] = contest.tails(contenders, plan, referee)
    series = {
        label: [[each / 1e3 for each in turn.times] for turn in turns]
        for label, turns in found.items()
    }
    return Compared(figures, series)


def machine() -> dict[str, Any]:
    """Returns what the figures depend on of this machine, as far as it tells."""
    model = "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "CPU part")):
                model = line.partition(":")[2].strip()
                break
    return {
        "kind": platform.machine(),
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def work(subject: Subject) -> dict[str, Any]:
    """Returns what a network is, and what its board would take for it."""
    program = subject.program
    return {
        "network": subject.name,
        "format": program.format,
        "sku": program.sku,
        "chains": len(program.chains),
        "tile_operations": sum(timing.tile_operations(program, c) for c in program.chains),
        "gmac": round(sum(timing.macs(program, c) for c in program.chains) / 1e9, 4),
        "predicted_ms": round(sum(timing.predicted_us(program)) / 1e3, 4),
        "notes": list(subject.notes),
    }


def _start(
    subject: Subject, specs: Sequence[Spec], stack: contextlib.ExitStack, *, optional: bool
) -> tuple[dict[str, Contender], dict[str, str]]:
    """Starts the engines; returns them by label, and why others are missing."""
    contenders, missing = {}, {}
    for spec in specs:
        try:
            contenders[spec.label] = stack.enter_context(_faster(subject, spec))
        except EdgedError as exc:
            if not optional or spec.name == EDGED:
                raise
            missing[spec.label] = str(exc)
    return contenders, missing


def _faster(subject: Subject, spec: Spec) -> Contender:
    """Starts an engine, an int8 one with whichever of the two quantised graphs suits it better."""
    if not spec.int8 or not (subject.folder / APART).is_file():
        return Contender(spec, subject.folder)
    tried: list[tuple[float, Spec]] = []
    why: EdgedError | None = None
    for graph in (INT8, APART):
        try:
            with Contender(replace(spec, graph=graph), subject.folder) as contender:
                tried.append((min(contender.turn(TRIAL_RUNS, 2).times), contender.spec))
        except EdgedError as exc:
            why = exc
    if not tried and why is not None:
        raise why
    return Contender(min(tried, key=lambda each: each[0])[1], subject.folder)


def _ours(contenders: Iterable[Contender]) -> Contender | None:
    return next((each for each in contenders if each.spec.name == EDGED), None)


def _facts(contender: Contender) -> dict[str, Any]:
    facts = {key: value for key, value in contender.facts.items() if key != "load_ms"}
    return {
        "load_ms": round(contender.facts["load_ms"], 1),
        "resident_mib": round(contender.resident_bytes() / 2**20, 1),
        "settings": facts | ({"graph": contender.spec.graph} if contender.spec.int8 else {}),
    }


def _likeness(contenders: Mapping[str, Contender]) -> dict[str, float]:
    """Returns how like the float32 answer each engine's is, where somebody computes that."""
    if LIKE not in contenders:
        return {}
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as name:
        paths = {label: Path(name, f"{number}.npz") for number, label in enumerate(contenders)}
        for label, contender in contenders.items():
            contender.outputs(paths[label])
        return {
            label: round(contest.likeness(path, paths[LIKE]), 5) for label, path in paths.items()
        }


def _chains(
    subject: Subject, ours: Contender, p50_ms: float, peak: Peak | None, referee: Referee
) -> dict[str, Any]:
    """Returns the time of our chains, and their share of what this machine could do."""
    program = subject.program
    referee.settle()
    taken = referee.undisturbed(lambda: ours.chain_times(CHAIN_RUNS, 5)).times
    work = [timing.macs(program, chain) for chain in program.chains]
    rows = chains.rows(program, taken)
    for row, macs in zip(rows, work, strict=True):
        row["peak_share"] = _share(macs, row["measured_us"], peak)
    spent = sum(each for each, macs in zip(taken[1:-1], work, strict=True) if macs)
    return {
        "entry_us": round(taken[0], 2),
        "exit_us": round(taken[-1], 2),
        "convolutions_us": round(spent, 2),
        "chains_us": round(sum(taken), 2),
        "peak_share": {
            "convolutions": _share(sum(work), spent, peak),
            "whole": _share(sum(work), p50_ms * 1e3, peak),
        },
        "layers": rows,
    }


def _share(macs: int, microseconds: float, peak: Peak | None) -> float | None:
    if peak is None or not macs or not microseconds:
        return None
    return round(macs / (microseconds * 1e-6) / peak.together, 4)
