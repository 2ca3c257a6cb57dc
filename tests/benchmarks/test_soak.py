"""The soak's short form; the hour is ``python -m tests.benchmarks.soak``."""

from __future__ import annotations

import pytest

from tests.benchmarks import soak


@pytest.mark.long
@pytest.mark.parametrize("dialect", ["plain", "iothub"])
def test_five_minutes_leave_memory_and_descriptors_flat(dialect: str) -> None:
    outcome = soak.run(dialect, seconds=300, swap_every=10, outage_every=15, look_every=0.5)
    assert outcome.faults() == []
    assert outcome.swaps > 15
    assert outcome.outages > 10
