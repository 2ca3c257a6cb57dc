"""What the worker answers where no request can bring it: limits, and faults of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.messages.link import Ask, Frame, Kind, ProtocolError
from edged.worker import service
from edged.worker.pipeline import Pipeline, Result
from edged.worker.service import Service
from tests.unit.worker.daemon import predict
from tests.unit.worker.pictures import encoded, noise

PICTURE = encoded(noise(12, 12))


@pytest.fixture
def active(pipeline: Pipeline, built_model: Path) -> Service:
    made = Service(pipeline, built_model)
    made.answer(Frame(Kind.ACTIVATE))
    return made


def test_a_fault_of_our_own_is_internal_and_logged(
    active: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object, **_named: object) -> Result:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(Pipeline, "run", fail)
    with caplog.at_level(logging.ERROR):
        answer = active.answer(Frame(Kind.PREDICT, 9, body=predict(PICTURE)))
    assert (answer.kind, answer.id, answer.meta["code"]) == (Kind.ERROR, 9, "INTERNAL")
    assert "secret" not in answer.meta["message"]
    assert "secret" in caplog.text


def test_an_answer_too_large_for_the_link_is_an_error(
    active: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_self: Pipeline, _inputs: Mapping[str, Any], *_: object, **__: object) -> Result:
        return Result({"probabilities": np.zeros((4000, 5), np.float32)}, {})

    monkeypatch.setattr(Pipeline, "run", run)
    monkeypatch.setattr(service, "BODY_LIMIT", 100_000)
    answer = active.answer(Frame(Kind.PREDICT, 9, body=predict(PICTURE)))
    assert answer.meta["code"] == "RESOURCE_EXHAUSTED"
    assert "send fewer items" in answer.meta["message"]


@pytest.mark.parametrize("kind", [Kind.HELLO, Kind.RESULT, Kind.STOP])
def test_what_is_no_question_ends_the_service(active: Service, kind: Kind) -> None:
    with pytest.raises(ProtocolError):
        active.answer(Frame(kind))


def test_too_little_memory_for_a_request_is_said(
    active: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_named: object) -> Result:
        raise MemoryError

    monkeypatch.setattr(Pipeline, "run", fail)
    answer = active.answer(Frame(Kind.PREDICT, 9, body=predict(PICTURE)))
    assert (answer.id, answer.meta["code"]) == (9, "RESOURCE_EXHAUSTED")
    assert "not enough memory" in answer.meta["message"]


def test_a_batch_that_would_run_too_long_is_ended_before_the_daemon_ends_the_worker(
    active: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "RUN_LIMIT", 0.01)
    for deadline in (0, time.monotonic_ns() // 1000 + 60_000_000):
        body = predict(*[PICTURE] * 5000)
        answer = active.answer(Frame(Kind.PREDICT, 9, body=body, ask=Ask(deadline)))
        assert answer.meta["code"] == "RESOURCE_EXHAUSTED"
        assert "of 5000 items were done: send fewer" in answer.meta["message"]
        assert "a request may run 0.01 s" in answer.meta["message"]


@pytest.mark.parametrize("character", ["x", "\u00fc", "\u4e2d", "\U0001f600", "\ud800"])
def test_errors_are_cut_to_what_fits_a_header(character: str) -> None:
    text = str(service.error("INTERNAL", character * 5000).meta["message"])
    assert text.endswith("...TRUNCATED")
    assert 1000 < len(text.encode()) <= 1024 + len("...TRUNCATED")
