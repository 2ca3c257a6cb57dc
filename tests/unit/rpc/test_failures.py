"""Requests that fail within the device are found in its log by their id; a flood of them is not."""

from __future__ import annotations

import logging

import pytest

from edged.errors import RequestError
from edged.rpc.failures import MOST, PERIOD, Failures

FAULT = RequestError("INTERNAL", "the model's process ended")


def test_a_failed_request_is_logged_under_the_id_that_its_caller_was_given(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Failures().note("ab12-7", FAULT)
    (record,) = caplog.records
    assert record.getMessage() == "request failed: the model's process ended"
    assert vars(record)["request_id"] == "ab12-7"
    assert vars(record)["event"] == "request_failed"
    assert record.levelno == logging.WARNING


def test_what_a_caller_did_wrong_is_not(caplog: pytest.LogCaptureFixture) -> None:
    for code in ("INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"):
        Failures().note("ab12-7", RequestError(code, "yours"))
    assert not caplog.records


def test_a_flood_is_cut_and_said_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    failures = Failures(lambda: now)
    for number in range(MOST + 5):
        failures.note(f"a-{number}", FAULT)
    assert len(caplog.records) == MOST
    now = PERIOD
    failures.note("a-last", FAULT)
    assert caplog.records[-1].getMessage().endswith("(5 more before it were not logged)")
