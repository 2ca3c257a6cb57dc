"""Pauses: full jitter below a bound that doubles, up to five minutes."""

from __future__ import annotations

from edged.mqtt.backoff import Backoff


def test_bounds_double_up_to_five_minutes() -> None:
    backoff = Backoff(chance=lambda: 1.0)
    pauses = [backoff.pause() for _ in range(12)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_pauses_are_anywhere_below_the_bound() -> None:
    pauses = []
    for _ in range(400):
        backoff = Backoff()
        backoff.pause()
        pauses.append(backoff.pause())
    assert min(pauses) < 0.2
    assert max(pauses) > 1.8
    assert 0.8 < sum(pauses) / len(pauses) < 1.2


def test_a_connection_that_stood_as_long_as_the_bound_begins_it_anew() -> None:
    backoff = Backoff(chance=lambda: 1.0)
    for _ in range(4):
        backoff.pause()
    assert backoff.pause(stood=15.9) == 16
    assert backoff.pause(stood=32.0) == 1


def test_what_the_other_side_asks_for_comes_on_top_within_bounds() -> None:
    backoff = Backoff(chance=lambda: 1.0)
    assert backoff.pause(after=10) == 11
    assert backoff.pause(after=1e9) == 302
    assert backoff.pause(after=-5) == 4
