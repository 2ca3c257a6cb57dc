"""What goes on at the front, counted on the way of every request: cheap, and bounded in memory.

Latencies go to a histogram whose buckets grow with the value, eight for each power of two, so a
percentile is right to an eighth. The stages' times are a line of JSON that is parsed only when
somebody asks, for the latest ``SAMPLES`` requests.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field

SAMPLES = 64
_STEPS = 8  # buckets for each power of two
_BUCKETS = 40 * _STEPS  # up to 2^42 us


@dataclass
class Histogram:
    """Counts of microseconds."""

    counts: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    total: int = 0
    most: int = 0

    def add(self, us: int) -> None:
        """Counts one value."""
        self.total += 1
        self.most = max(self.most, us)
        self.counts[_bucket(us)] += 1

    def percentile(self, share: float) -> int:
        """Returns a value that so many of those counted do not exceed, to an eighth; 0 for none."""
        wanted = share * self.total
        for index, seen in enumerate(itertools.accumulate(self.counts)):
            if seen >= wanted and seen:
                return self.most if index == _BUCKETS - 1 else min(_upper(index), self.most)
        return self.most


def _bucket(us: int) -> int:
    if us < _STEPS:
        return max(us, 0)
    shift = us.bit_length() - 4  # leaves the four leading bits: 8 to 15
    return min((shift + 1) * _STEPS + (us >> shift) - _STEPS, _BUCKETS - 1)


def _upper(index: int) -> int:
    """Returns the largest value of a bucket."""
    if index < _STEPS:
        return index
    shift, step = divmod(index - _STEPS, _STEPS)
    return ((step + _STEPS + 1) << shift) - 1


class Meter:
    """Counts answers.

    Attributes:
        latency: of all answers since ``take``, in microseconds from arrival to answer.
    """

    def __init__(self) -> None:
        self.latency = Histogram()
        self._times: list[str] = [""] * SAMPLES
        self._next = 0
        self._digest = ""

    def note(self, times: str, digest: str, seconds: float) -> None:
        """Counts an answer.

        Args:
            times: JSON object of microseconds by stage, as the worker said it.
            digest: of the model.
            seconds: from the request's arrival to its answer.
        """
        self.latency.add(int(seconds * 1e6))
        if digest != self._digest:
            self._times, self._digest, self._next = [""] * SAMPLES, digest, 0
        self._times[self._next % SAMPLES] = times
        self._next += 1

    def take(self) -> Histogram:
        """Returns the latencies since the last call."""
        latency, self.latency = self.latency, Histogram()
        return latency

    def npu_us(self, digest: str) -> float:
        """Returns the median of a model's latest times on the NPU; 0 if there are none."""
        return self._median("npu") if digest == self._digest else 0.0

    def stages_us(self) -> dict[str, float]:
        """Returns the median of each stage of the latest requests."""
        stages = list(dict.fromkeys(stage for each in self._parsed() for stage in each))
        return {stage: self._median(stage) for stage in stages[:16]}

    def _median(self, stage: str) -> float:
        found = sorted(each[stage] for each in self._parsed() if stage in each)
        return found[len(found) // 2] if found else 0.0

    def _parsed(self) -> list[dict[str, float]]:
        return [found for text in self._times if text and (found := _numbers(text))]


def _numbers(text: str) -> dict[str, float]:
    """Returns what a worker said; it is not trusted to say it well."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {
        key: float(each)
        for key, each in value.items()
        if isinstance(each, int | float) and not isinstance(each, bool) and 0 <= each < 1e12
        if len(key) <= 32
    }
