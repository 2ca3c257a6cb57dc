"""The figures of a load: milliseconds and counts, as they go into JSON.

Percentiles are of requests that were answered; the others are counted by code. A percentile that
too few requests stand behind is None: p99 needs a hundred of them, p99.9 a thousand.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from edged.bench.load import OK, Shot
from edged.bench.rounds import median, percentile

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


def answered(shots: Sequence[Shot]) -> list[Shot]:
    """Returns the requests that were answered."""
    return [shot for shot in shots if shot.reply.code == OK]


def latencies(shots: Sequence[Shot]) -> list[float]:
    """Returns the milliseconds of each answered request."""
    return [shot.latency * 1e3 for shot in answered(shots)]


def distribution(values: Sequence[float]) -> dict[str, float | None]:
    """Returns percentiles, mean and extremes; nothing where there is nothing."""
    if not values:
        return {}
    found: dict[str, float | None] = {
        f"p{part:g}": _round(percentile(values, part)) if _enough(values, part) else None
        for part in PERCENTILES
    }
    mean = sum(values) / len(values)
    return found | {"mean": _round(mean), "min": _round(min(values)), "max": _round(max(values))}


def of_load(shots: Sequence[Shot]) -> dict[str, Any]:
    """Returns the figures of a load."""
    good = answered(shots)
    elapsed = max((shot.ended for shot in shots), default=0.0)
    rate = len(good) / elapsed if elapsed else 0.0
    parts = [_stages(shot) for shot in good]
    sums = [sum(stages.values()) for stages in parts]
    queued = [_number(shot, "edged-queued-us") / 1e3 for shot in good]
    busy = sum(sums) / len(sums) / 1e3 if sums else 0.0
    overhead = [
        shot.latency * 1e3 - stages - waited
        for shot, stages, waited in zip(good, sums, queued, strict=True)
    ]
    return {
        "requests": len(shots),
        "answered": len(good),
        "errors": dict(Counter(s.reply.code for s in shots if s.reply.code != OK).most_common()),
        "elapsed_s": _round(elapsed),
        "throughput_per_s": _round(rate),
        # One over the stages' time is what the NPU's line could do without any gap.
        "throughput_by_stages": _round(rate * busy) if busy else None,
        "end_to_end_ms": distribution(latencies(shots)),
        "stages_ms": _by_stage(parts),
        "queued_ms": distribution(queued),
        "overhead_ms": distribution(overhead),
        "lag_ms": distribution([shot.lag * 1e3 for shot in shots]),
    }


def of_turns(requests: Sequence[Shot], echoes: Sequence[Shot]) -> dict[str, Any]:
    """Returns the figures of one caller who sent requests and echoes in turns."""
    parts = [_stages(shot) for shot in answered(requests)]
    overhead = [
        whole - sum(stages.values())
        for whole, stages in zip(latencies(requests), parts, strict=True)
    ]
    bare = latencies(echoes)
    return {
        "pairs": len(requests),
        "failed": len(requests) - len(parts) + len(echoes) - len(bare),
        "end_to_end_ms": distribution(latencies(requests)),
        "stages_ms": _by_stage(parts),
        "overhead_ms": distribution(overhead),
        "echo_ms": distribution(bare),
        "above_echo_ms": _round(median(overhead) - median(bare)) if overhead and bare else None,
    }


def stage_sums(shots: Sequence[Shot]) -> list[float]:
    """Returns the milliseconds in all stages of each answered request."""
    return [sum(_stages(shot).values()) for shot in answered(shots)]


def _by_stage(parts: Sequence[dict[str, float]]) -> dict[str, dict[str, float | None]]:
    names = dict.fromkeys(name for stages in parts for name in stages)
    return {name: distribution([stages.get(name, 0.0) for stages in parts]) for name in names}


def _stages(shot: Shot) -> dict[str, float]:
    times = json.loads(shot.reply.said.get("edged-times-us", "{}"))
    return {str(stage): float(spent) / 1e3 for stage, spent in times.items()}


def _number(shot: Shot, key: str) -> float:
    return float(shot.reply.said.get(key, "0"))


def _enough(values: Sequence[float], part: float) -> bool:
    return part <= 50 or len(values) * (100 - part) >= 99.999


def _round(value: float) -> float:
    return round(value, 4)
