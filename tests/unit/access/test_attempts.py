"""Wrong credentials cost time, in bounded memory, and fill no log."""

from __future__ import annotations

import pytest

from edged.access import attempts
from edged.access.attempts import Attempts, address_of


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_failures_are_answered_at_once_and_the_others_late() -> None:
    clock = Clock()
    known = Attempts(clock)
    delays = [known.failed("10.0.0.1").delay for _ in range(200)]
    assert delays[: attempts.FREE] == [0.0] * attempts.FREE
    assert 0.75 <= delays[attempts.FREE] <= 1.25
    assert 7.5 <= min(delays[100:]) <= max(delays[100:]) <= 12.5
    assert known.failed("10.0.0.2").delay == 0.0, "another address"
    clock.now += 10_000
    assert known.failed("10.0.0.1").delay == 0.0, "forgiven"


def test_a_flood_is_told_once_a_minute_with_its_number() -> None:
    clock = Clock()
    known = Attempts(clock)
    told = [known.failed("10.0.0.1").log for _ in range(1000)]
    assert (told[0], sum(told)) == (1, 1)
    clock.now += attempts.LOG_EVERY
    assert known.failed("10.0.0.1").log == 1000
    assert known.total == 1001


def test_memory_is_bounded_and_the_latest_are_known() -> None:
    known = Attempts(Clock())
    for number in range(10_000):
        known.failed(f"10.0.{number // 256}.{number % 256}")
    assert len(known._peers) == attempts.PEERS
    for _ in range(attempts.FREE):
        known.failed("10.0.39.15")
    assert known.failed("10.0.39.15").delay > 0


def test_so_many_answers_are_held_back_and_no_more() -> None:
    known = Attempts(Clock())
    for _ in range(attempts.FREE):
        known.failed("a")
    for _ in range(attempts.HELD):
        assert known.failed("a").delay > 0
        known.hold()
    assert known.failed("a").delay == 0.0
    known.release()
    assert known.failed("a").delay > 0


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.168.1.7:51234", "192.168.1.7"),
        ("ipv6:[2001:db8:1:2:3:4:5:6]:9", "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2::1%5D:9", "2001:db8:1:2::/64"),
        ("ipv6:[::ffff:10.1.2.3]:9", "10.1.2.3"),
        ("ipv6:[fe80::1%eth0]:9", "fe80::/64"),
        ("unix:", "unix"),
        ("", ""),
    ],
)
def test_failures_count_for_a_host(peer: str, address: str) -> None:
    assert address_of(peer) == address
