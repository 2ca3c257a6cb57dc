"""Trying again: with random pauses, as long as something comes."""

from __future__ import annotations

import threading
import time

import pytest

from edged.errors import FetchError
from edged.oci.retry import FIRST_PAUSE, LONGEST_PAUSE, PassingError, Patience, Pause


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def patience(clock: Clock, limit: float, chance: float = 1.0) -> Patience:
    return Patience(limit, clock=clock, chance=lambda: chance, sleep=clock.sleep)


def test_pauses_double_up_to_a_bound_and_are_random_below_it() -> None:
    clock = Clock()
    waiting = patience(clock, 10_000)
    for _ in range(12):
        waiting.wait(PassingError("x"))
    assert clock.slept[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert clock.slept[-1] == LONGEST_PAUSE
    lucky = Clock()
    patience(lucky, 10_000, chance=0.25).wait(PassingError("x"))
    assert lucky.slept == [FIRST_PAUSE / 4]


def test_progress_makes_patience_and_pauses_start_anew() -> None:
    clock = Clock()
    waiting = patience(clock, 60)
    for _ in range(100):
        clock.now += 50
        waiting.progressed()
        waiting.wait(PassingError("x"))
    assert set(clock.slept) == {FIRST_PAUSE}


def test_without_progress_it_ends_and_says_how_long_it_was() -> None:
    clock = Clock()

    def work() -> None:
        raise PassingError("the link")

    with pytest.raises(FetchError, match=r"the link \(no progress for \d+ s; given up\)") as caught:
        patience(clock, 60).run(work)
    assert not isinstance(caught.value, PassingError), "nobody tries again after that"
    assert clock.now <= 1060


def test_what_the_other_side_asks_for_is_waited_for_with_jitter_on_top() -> None:
    clock = Clock()
    patience(clock, 60, chance=0.5).wait(PassingError("busy", after=20.0))
    assert clock.slept == [20.0 + FIRST_PAUSE / 2]


def test_work_is_tried_until_it_is_done() -> None:
    clock = Clock()
    answers = iter([PassingError("a"), PassingError("b"), None])

    def work() -> str:
        error = next(answers)
        if error is not None:
            raise error
        return "done"

    assert patience(clock, 60).run(work) == "done"
    assert len(clock.slept) == 2


def test_an_error_that_stays_is_not_tried_again() -> None:
    clock = Clock()

    def work() -> None:
        raise FetchError("gone")

    with pytest.raises(FetchError, match="gone"):
        patience(clock, 60).run(work)
    assert clock.slept == []


def test_a_pause_can_be_ended_by_another_thread() -> None:
    pause = Pause()
    threading.Thread(target=pause.wake).start()
    start = time.monotonic()
    pause.sleep(60)
    assert time.monotonic() - start < 30
