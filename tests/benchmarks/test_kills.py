"""Broker kills in small; many are ``python -m tests.benchmarks.kills``."""

from __future__ import annotations

import pytest

from tests.benchmarks import kills


def test_a_device_outlives_broker_kills_in_the_middle_of_swaps() -> None:
    outcome = kills.run("plain", kills=3, seed=1, away=0.5)
    assert outcome.faults() == []
    assert outcome.kills == 3
    assert outcome.swaps > 1


@pytest.mark.long
@pytest.mark.parametrize("dialect", ["plain", "iothub"])
def test_fifty_of_them(dialect: str) -> None:
    outcome = kills.run(dialect, kills=50, seed=50)
    assert outcome.faults() == []
    assert outcome.swaps >= 25
