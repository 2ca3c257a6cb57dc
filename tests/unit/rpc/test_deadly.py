"""Requests that ended a process rest before they are run again, each by itself and for a while."""

from __future__ import annotations

from edged.rpc import deadly
from edged.rpc.deadly import Deadly


class Clock:
    """Time that moves when the test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def known(clock: Clock) -> Deadly:
    made = Deadly(clock)
    made.serve("model")
    return made


def test_each_death_doubles_the_rest_up_to_five_minutes() -> None:
    clock = Clock()
    made = known(clock)
    for rest in (10, 20, 40, 80, 160, 300, 300):
        made.note(b"poison", "model")
        refusal = made.refusal(b"poison")
        assert refusal is not None
        assert refusal.code == "INTERNAL"
        assert f"not run again for {rest} s" in str(refusal)
        clock.now += rest - 0.1
        assert made.refusal(b"poison") is not None
        clock.now += 0.2
        assert made.refusal(b"poison") is None


def test_others_are_not_concerned() -> None:
    made = known(Clock())
    made.note(b"poison", "model")
    assert made.refusal(b"person") is None
    assert made.refusal(b"") is None


def test_an_answer_another_model_and_time_make_it_forgotten() -> None:
    clock = Clock()
    made = known(clock)
    made.note(b"poison", "model")
    made.answered(b"person")
    assert made.refusal(b"poison") is not None
    made.answered(b"poison")
    assert made.refusal(b"poison") is None
    made.note(b"poison", "model")
    made.serve("model")
    assert made.refusal(b"poison") is not None
    made.serve("next")
    assert made.refusal(b"poison") is None
    made.note(b"poison", "next")
    clock.now += deadly.MEMORY + 1
    assert made.refusal(b"other!") is None
    made.note(b"poison", "next")
    assert "once" in str(made.refusal(b"poison"))


def test_what_a_model_died_of_that_has_left_is_not_held_against_the_next() -> None:
    made = known(Clock())
    made.serve("next")
    made.note(b"poison", "model")
    assert made.refusal(b"poison") is None


def test_only_the_last_ones_are_kept() -> None:
    made = known(Clock())
    for number in range(deadly.LIMIT + 1):
        made.note(b"%02d" % number, "model")
    made.note(b"01", "model")
    made.note(b"xx", "model")
    assert [made.refusal(body) is None for body in (b"00", b"01", b"02", b"03")] == [
        True,
        False,
        True,
        False,
    ]
