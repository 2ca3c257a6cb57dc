"""Telemetry: counts, percentiles, events and results, cheap for those who are served."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edged.deploy.types import Slot
from edged.mqtt.device import Counters
from edged.mqtt.meter import Histogram, Meter
from edged.mqtt.telemetry import MESSAGE_LIMIT, Settings, Telemetry
from tests.fakes.steered import Steered

DIGEST = "sha256:" + "a" * 64
TIMES, TOP = '{"image":10,"npu":5000}', '[{"index":1,"label":"dent","score":0.75}]'


class Box:
    """An outbox that keeps all."""

    pending, dropped = 2, 3

    def __init__(self) -> None:
        self.kept: list[tuple[str, dict[str, Any]]] = []
        self.sizes: list[int] = []
        self.news = asyncio.Event()

    def put(self, kind: str, payload: bytes) -> None:
        self.kept.append((kind, json.loads(payload)))
        self.sizes.append(len(payload))
        self.news.set()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [facts for each, facts in self.kept if each == kind]


def running(
    settings: Settings, test: Callable[[Steered, Telemetry, Box], Coroutine[Any, Any, None]]
) -> Box:
    async def run() -> Box:
        device, box = Steered(), Box()
        telemetry = Telemetry(device, Meter(), box, settings, "boot", lambda: None)
        await test(device, telemetry, box)
        return box

    return asyncio.run(run())


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_percentiles_are_right_to_an_eighth(share: float) -> None:
    histogram, values = Histogram(), [n * n for n in range(1, 2000)]
    for value in values:
        histogram.add(value)
    exact = values[math.ceil(share * len(values)) - 1]
    assert exact <= histogram.percentile(share) <= exact * 1.13 + 1


def test_the_histogram_takes_whatever_comes() -> None:
    histogram = Histogram()
    for value in (0, 1, 7, 8, 15, 16, 1 << 41, 1 << 60, -5):
        histogram.add(value)
    assert histogram.total == 9
    assert histogram.percentile(1.0) == histogram.most == 1 << 60
    assert Histogram().percentile(0.99) == 0


def test_what_a_worker_says_of_its_times_is_not_trusted() -> None:
    meter = Meter()
    for text in ("{", "[]", '{"npu":"x"}', '{"npu":true}', '{"npu":-1}', '{"npu":7}', "[" * 9999):
        meter.note(text, DIGEST, 0.001)
    assert meter.npu_us(DIGEST) == 7
    assert meter.npu_us("sha256:other") == 0


def test_counts_come_on_the_interval_and_are_those_of_it() -> None:
    async def test(device: Steered, telemetry: Telemetry, box: Box) -> None:
        device.change(model=Slot(DIGEST, "", Path("/m")), state="serving")
        for _ in range(10):
            telemetry.answered(TIMES, TOP, DIGEST, 0.008)
        device.now = replace(device.now, counters=Counters(answered=10, queued=1))
        work = asyncio.ensure_future(telemetry.run())
        for wanted in (1, 2):
            while len(box.of("telemetry")) < wanted:
                box.news.clear()
                await asyncio.wait_for(box.news.wait(), 10)
        work.cancel()

    first, second = running(Settings(interval=0.05), test).of("telemetry")[:2]
    assert first["counts"]["answered"] == 10
    assert first["latency_us"]["count"] == 10
    assert 7000 < first["latency_us"]["p99"] <= 9000
    assert first["stages_us"] == {"image": 10.0, "npu": 5000.0}
    assert first["outbox"] == {"pending": 2, "dropped": 3}
    assert "time" not in first, "the clock could not be trusted"
    assert second["counts"]["answered"] == second["latency_us"]["count"] == 0
    assert second["seq"] == first["seq"] + 1


def test_what_happens_is_told_once() -> None:
    async def test(device: Steered, _telemetry: Telemetry, _box: Box) -> None:
        device.record("committed", digest=DIGEST, reason="")
        device.change(state="swapping")
        device.record("reverted", digest=DIGEST, reason="wrong answers")
        device.change(counters=Counters(deaths=1))
        device.change(counters=Counters(deaths=1))

    events = running(Settings(), test).of("event")
    assert [each["event"] for each in events] == ["committed", "reverted", "death"]
    assert events[1]["reason"] == "wrong answers"
    assert [each["seq"] for each in events] == [1, 2, 3]


def test_results_are_sent_only_when_asked_for_and_not_faster_than_allowed() -> None:
    async def test(_device: Steered, telemetry: Telemetry, _box: Box) -> None:
        for _ in range(100):
            telemetry.answered(TIMES, TOP, DIGEST, 0.008)
        await asyncio.sleep(0)

    assert running(Settings(results=0), test).kept == []
    results = running(Settings(results=1), test).of("result")
    assert len(results) == 5
    assert results[0]["top"] == [{"index": 1, "label": "dent", "score": 0.75}]
    assert results[0]["times_us"]["npu"] == 5000
    assert (results[0]["digest"], results[0]["latency_us"]) == (DIGEST, 8000)


def test_those_left_out_are_counted() -> None:
    async def test(_device: Steered, telemetry: Telemetry, _box: Box) -> None:
        for _ in range(20):
            telemetry.answered(TIMES, TOP, DIGEST, 0.008)
        telemetry._filled -= 1.0  # a second later
        telemetry.answered(TIMES, TOP, DIGEST, 0.008)
        await asyncio.sleep(0)

    assert running(Settings(results=1), test).of("result")[-1]["left_out"] == 15


@pytest.mark.parametrize("top", ["[", "x" * 100_000, '"' + "y" * 2000 + '"', '{"a":1}', ""])
def test_a_message_is_small_whatever_a_worker_says(top: str) -> None:
    async def test(device: Steered, telemetry: Telemetry, _box: Box) -> None:
        telemetry.answered(top, top, "\U0001f600" * 9999, 1e9)
        device.record("failed", digest="x" * 9999, reason="\U0001f600" * 99_999)
        await asyncio.sleep(0)

    box = running(Settings(results=10), test)
    assert len(box.sizes) == 2
    assert max(box.sizes) <= MESSAGE_LIMIT


def test_noting_an_answer_costs_microseconds() -> None:
    """The bound is loose, for machines that are busy; it is about one microsecond at rest."""

    async def test(_device: Steered, telemetry: Telemetry, _box: Box) -> None:
        best = min(_time(telemetry) for _ in range(20))
        assert best < 20e-6

    def _time(telemetry: Telemetry) -> float:
        began = time.perf_counter()
        for _ in range(1000):
            telemetry.answered(TIMES, TOP, DIGEST, 0.008)
        return (time.perf_counter() - began) / 1000

    running(Settings(results=1), test)
