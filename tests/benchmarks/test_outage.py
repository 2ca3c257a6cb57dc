"""An outage in small; the long one is ``python -m tests.benchmarks.outage``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.benchmarks import outage

MEBIBYTE = 1 << 20
LIMIT = 4 * MEBIBYTE  # the smallest that there is


def short(folder: Path, *, messages: int, size: int) -> outage.Outcome:
    """The broker is away for a second and a half."""
    return asyncio.run(
        outage.run(folder, messages=messages, down=1.5, size=size, limit=LIMIT, pause=0.5)
    )


def test_telemetry_of_an_outage_arrives_whole_and_in_order(tmp_path: Path) -> None:
    outcome = short(tmp_path, messages=2000, size=300)
    assert outcome.faults() == []
    assert outcome.dropped == 0
    assert outcome.file > 0, "it waited on the disk"


def test_what_is_beyond_the_cap_is_dropped_oldest_first_and_counted(tmp_path: Path) -> None:
    outcome = short(tmp_path, messages=4000, size=2000)
    assert outcome.faults() == []
    assert outcome.dropped > 1000
    assert outcome.file <= LIMIT


@pytest.mark.long
def test_a_minute_with_ten_thousand_messages(tmp_path: Path) -> None:
    outcome = asyncio.run(
        outage.run(tmp_path, messages=10_000, down=60.0, size=500, limit=64 * MEBIBYTE)
    )
    assert outcome.faults() == []
    assert outcome.dropped == 0
