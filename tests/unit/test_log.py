"""A record has what happened and its fields, for people on a terminal and for the journal."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from edged import log
from edged.events import EVENTS

Output: TypeAlias = Callable[[], str]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Iterator[Output]:
    root, ours = logging.getLogger(), logging.getLogger("edged")
    before = (root.handlers[:], root.level, ours.level)
    yield lambda: capsys.readouterr().err
    root.handlers[:], level, own = before
    root.setLevel(level)
    ours.setLevel(own)


def journal(send: Callable[..., object]) -> logging.Logger:
    """A logger whose records go to a function instead of the journal."""
    logger = logging.getLogger("tests.journal")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.handlers[:] = [log.Journal(send)]
    return logger


@pytest.fixture
def sent() -> list[dict[str, Any]]:
    """The records that ``sending`` loggers have sent."""
    return []


@pytest.fixture
def sending(sent: list[dict[str, Any]]) -> logging.Logger:
    return journal(lambda text, **fields: sent.append({"MESSAGE": text, **fields}))


def test_a_record_is_one_line_with_its_fields(output: Output) -> None:
    log.setup("info", {})
    logger = logging.getLogger("edged.deploy")
    logger.info("in service", extra={"event": "deploy", "digest": "sha256:1"})
    logger.debug("not shown")
    line = output()
    assert line.endswith(" INFO    edged.deploy: in service event=deploy digest=sha256:1\n")
    assert line.count("\n") == 1


def test_others_are_heard_only_from_warning_up(output: Output) -> None:
    log.setup("debug", {})
    logging.getLogger("grpc").info("chatter")
    logging.getLogger("grpc").warning("trouble")
    assert output().splitlines()[0].endswith("WARNING grpc: trouble")


def test_the_journal_gets_fields_by_which_records_are_found(
    sending: logging.Logger, sent: list[dict[str, Any]]
) -> None:
    fields = {"event": "deploy", "digest": "sha256:1", "model": "surface", "request_id": "a-1"}
    sending.info("in service", extra=fields)
    record = sent.pop()
    assert record["MESSAGE"] == "tests.journal: in service"
    assert record["EDGED_EVENT"] == "deploy"
    assert record["EDGED_DIGEST"] == "sha256:1"
    assert record["EDGED_MODEL"] == "surface"
    assert record["REQUEST_ID"] == "a-1"
    assert record["MESSAGE_ID"] == EVENTS["deploy"].id
    assert record["SYSLOG_IDENTIFIER"] == "edged"
    assert record["PRIORITY"] == "6"


def test_a_fault_is_one_record_with_its_traceback(
    sending: logging.Logger, sent: list[dict[str, Any]]
) -> None:
    try:
        int("x")
    except ValueError:
        sending.exception("failed")
    (record,) = sent
    assert record["PRIORITY"] == "3"
    assert "MESSAGE_ID" not in record
    assert "Traceback" in record["MESSAGE"]
    assert record["MESSAGE"].endswith("'x'")


def test_a_journal_that_takes_nothing_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(_text: str, **_fields: object) -> None:
        raise OSError(105, "No buffer space available")

    journal(refuse).error("trouble", extra={"event": "death"})
    assert capsys.readouterr().err == "<3>tests.journal: trouble event=death\n"


def test_the_journal_is_used_only_where_standard_error_leads_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, write = os.pipe()
    with os.fdopen(read), os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        found = os.fstat(write)
        assert log.is_journal({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        # As a child process of a service has it whose output goes elsewhere.
        assert not log.is_journal({"JOURNAL_STREAM": "8:1"})
        assert not log.is_journal({})


def test_every_event_in_the_code_has_an_id_of_its_own_and_words() -> None:
    named = {
        name
        for path in (ROOT / "edged").rglob("*.py")
        for name in re.findall(r'"event": "([^"]*)"', path.read_text())
    } - {"..."}
    assert named <= EVENTS.keys(), "these have no message id; add them to edged/events.py"
    ids = [event.id for event in EVENTS.values()]
    assert len(set(ids)) == len(ids)
    for name, event in EVENTS.items():
        assert re.fullmatch(r"[0-9a-f]{32}", event.id), name
        assert re.fullmatch(r"[a-z_]+", name)
        assert event.subject
        assert event.text.endswith(".")
