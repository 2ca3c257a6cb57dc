"""The rate that a fetch is shown with."""

from __future__ import annotations

from edged.cli._meter import Meter


def test_what_was_there_before_does_not_count() -> None:
    meter = Meter()
    assert meter.rate(50_000_000, 1_000_000) is None
    assert meter.rate(51_000_000, 2_000_000) == 1_000_000


def test_the_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter()
    for second in range(11):
        meter.rate(second * 1000, second * 1_000_000)
    for second in range(11, 17):
        rate = meter.rate(10_000 + (second - 10) * 500, second * 1_000_000)
    assert rate == 500


def test_two_events_of_one_moment_have_no_rate() -> None:
    meter = Meter()
    meter.rate(1, 5)
    assert meter.rate(2, 5) is None
