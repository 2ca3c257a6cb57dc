"""The p99 that is shown is that of the newest answers of the model in service."""

from __future__ import annotations

import pytest

from edged.rpc.latency import KEPT, Latencies


def test_without_answers_there_is_none() -> None:
    assert Latencies().quantile(0.99) is None


def test_it_is_the_time_within_which_so_many_answers_came() -> None:
    times = Latencies()
    for milliseconds in range(100, 0, -1):
        times.note(milliseconds / 1000)
    assert times.quantile(0.99) == pytest.approx(0.099)
    assert times.quantile(0.5) == pytest.approx(0.050)
    assert times.quantile(1.0) == pytest.approx(0.100)


def test_old_answers_do_not_count() -> None:
    times = Latencies()
    times.note(60.0)
    for _ in range(KEPT):
        times.note(0.01)
    assert len(times) == KEPT
    assert times.quantile(1.0) == pytest.approx(0.01)


def test_those_of_the_model_before_do_not_count_either() -> None:
    times = Latencies()
    times.serve("sha256:1")
    times.note(1.0)
    times.serve("sha256:1")  # its process was started again
    assert len(times) == 1
    times.serve("sha256:2")
    assert len(times) == 0
