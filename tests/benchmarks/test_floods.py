"""Good callers go on while others flood the device; what the others can make it hold is bounded."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import pytest

from tests.benchmarks.floods import FLOODS, Good, attack, calling, device, ended, measure, resident
from tests.e2e.secured import Elsewhere, Secured

CONNECTIONS = 40
LIMITS = {
    "limits__connections": str(CONNECTIONS),
    "limits__handshake": "1",
    "limits__idle": "2",
    "limits__body": "1",
}
pytestmark = [
    pytest.mark.skipif(not Elsewhere.possible(), reason="cannot make a network namespace here"),
    pytest.mark.alone,
]


@pytest.fixture(scope="module")
def there() -> Iterator[Elsewhere]:
    with Elsewhere(13) as there:
        yield there


@pytest.fixture(scope="module")
def flooded(there: Elsewhere) -> Iterator[tuple[Secured, str]]:
    """A device with tight limits."""
    with device(there, **LIMITS) as known:
        yield known


def flood(
    there: Elsewhere, known: tuple[Secured, str], kind: str, number: int, seconds: float
) -> tuple[Good, dict[str, int]]:
    """Floods the device; returns what good callers got, and what became of the attempts."""
    secured, token = known
    target = f"{there.host}:{secured.device.address.rpartition(':')[2]}"
    with calling(secured, token, target) as good:
        attacker = attack(there, kind, target, secured.authority.ca, number, seconds, token)
        counts = ended(attacker)
    assert good.latencies
    assert good.errors == []
    return good, counts


def test_wrong_tokens_are_refused_late_and_told_once(
    there: Elsewhere, flooded: tuple[Secured, str]
) -> None:
    before = resident(flooded[0])
    _, counts = flood(there, flooded, "tokens", 1000, 3)
    assert set(counts) <= {"UNAUTHENTICATED", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert counts["UNAUTHENTICATED"] < 1000
    assert flooded[0].device.log_text().count("refused_caller") <= 2
    assert resident(flooded[0]) - before < 100


def test_connections_that_say_nothing_are_closed(
    there: Elsewhere, flooded: tuple[Secured, str]
) -> None:
    _, counts = flood(there, flooded, "idle", 200, 8)
    assert counts == {"opened": 200, "closed": 200}


def test_connections_that_only_greet_are_few_and_closed_in_time(
    there: Elsewhere, flooded: tuple[Secured, str]
) -> None:
    _, counts = flood(there, flooded, "silent", 200, 10)
    assert counts["refused"] >= 200 - CONNECTIONS
    assert counts.get("kept", 0) == 0
    assert 0 < counts["opened"] <= CONNECTIONS + counts["closed"]


def test_headers_that_do_not_end_are_cut_off(
    there: Elsewhere, flooded: tuple[Secured, str]
) -> None:
    _, counts = flood(there, flooded, "loris", 20, 10)
    assert counts == {"opened": 20, "closed": 20}


def test_a_body_that_does_not_come_ends_its_call(
    there: Elsewhere, flooded: tuple[Secured, str]
) -> None:
    # The call is over after a second, so that the connection is idle.
    _, counts = flood(there, flooded, "body", 20, 10)
    assert counts == {"opened": 20, "closed": 20}


@pytest.mark.long
@pytest.mark.parametrize("kind", FLOODS)
def test_good_callers_wait_at_most_twice_as_long(there: Elsewhere, kind: str) -> None:
    with device(there) as (secured, token):
        rounds = [measure(secured, there, token, kind, FLOODS[kind], 8) for _ in range(3)]
    assert sum(each["errors"] for each in rounds) == 0
    assert statistics.median(each["ratio"] for each in rounds) <= 2.0, rounds
