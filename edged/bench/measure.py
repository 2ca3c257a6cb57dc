"""What ``edged bench`` measures: a picture's way over gRPC, beside onnxruntime on its graph."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edged.bench.rounds import Plan, interleave, median, percentile
from edged.client import Client, Prediction

EDGED, FLOAT32, INT8 = "edged", "onnxruntime float32", "onnxruntime int8"
NPU = "npu"
_QUALITY = 90  # of the JPEG that is drawn
_CELL = 32  # pixels over which its light changes


@dataclass(frozen=True)
class Sample:
    """One run: microseconds in all and, for a request, in each stage."""

    total_us: float
    stages_us: Mapping[str, float]

    @property
    def overhead_us(self) -> float:
        """What no stage of the pipeline accounts for."""
        return self.total_us - sum(self.stages_us.values())


def draw_jpeg(height: int, width: int, seed: int = 0) -> bytes:
    """Returns a JPEG of smooth light with a grain, which costs a decoder what a photograph does."""
    from PIL import Image

    random = np.random.default_rng(seed)
    points = random.integers(0, 256, (height // _CELL + 2, width // _CELL + 2, 3), np.uint8)
    light = Image.fromarray(points).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(light, np.int16) + random.integers(-12, 13, (height, width, 3))
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def request(client: Client, name: str, picture: bytes) -> Callable[[], Sample]:
    """Returns what sends the picture once."""

    def run() -> Sample:
        answer: Prediction = client.predict({name: picture}, timeout=60)
        stages = {stage: float(spent) for stage, spent in answer.times_us.items()}
        return Sample(float(answer.total_us), stages)

    return run


def session_run(session: Any, feed: Mapping[str, npt.NDArray[Any]]) -> Callable[[], Sample]:
    """Returns what runs an onnxruntime session once."""

    def run() -> Sample:
        began = time.perf_counter_ns()
        session.run(None, dict(feed))
        return Sample((time.perf_counter_ns() - began) / 1e3, {})

    return run


def measure(
    contenders: Mapping[str, Callable[[], Sample]],
    plan: Plan,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Runs the contenders in turns and returns the figures, in milliseconds.

    Args:
        contenders: ``EDGED``, and the baselines it is held against, if any.
        plan: how much.
        progress: called with the rounds done and all.
    """
    found = interleave(contenders, plan, progress=progress)
    requests = [sample for turn in found[EDGED] for sample in turn]
    figures = {"rounds": plan.rounds, "runs": plan.runs, **_served(requests)}
    npu = [_middle([s.stages_us.get(NPU, 0.0) for s in turn]) for turn in found[EDGED]]
    figures["npu"] = _turns(npu, [s.stages_us.get(NPU, 0.0) / 1e3 for s in requests])
    for name in (FLOAT32, INT8):
        if name in found:
            turns = [_middle([s.total_us for s in turn]) for turn in found[name]]
            runs = [s.total_us / 1e3 for turn in found[name] for s in turn]
            figures[name] = _turns(turns, runs)
            figures[f"npu / {name}"] = round(figures["npu"]["p50"] / figures[name]["p50"], 3)
    figures["load"] = [round(load, 2) for load in os.getloadavg()]
    return figures


def _served(requests: list[Sample]) -> dict[str, Any]:
    totals = [sample.total_us / 1e3 for sample in requests]
    stages = dict.fromkeys(stage for sample in requests for stage in sample.stages_us)
    overhead = [sample.overhead_us for sample in requests]
    return {
        "requests": len(requests),
        "end_to_end": {
            "p50": round(median(totals), 3),
            "p99": round(percentile(totals, 99), 3),
            "min": round(min(totals), 3),
        },
        "stages": {
            stage: _middle([sample.stages_us.get(stage, 0.0) for sample in requests])
            for stage in stages
        },
        "overhead": _middle(overhead),
    }


def _middle(microseconds: list[float]) -> float:
    return round(median(microseconds) / 1e3, 3)


def _turns(turns: list[float], runs: list[float]) -> dict[str, Any]:
    """The median over all runs, the fastest, and the median of every round."""
    return {"p50": round(median(runs), 3), "min": round(min(runs), 3), "by_round": turns}
