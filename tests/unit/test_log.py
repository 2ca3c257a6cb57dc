"""A line has what happened and its fields, for people and for the journal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from edged import log

Output: TypeAlias = Callable[[], str]


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Iterator[Output]:
    root, ours = logging.getLogger(), logging.getLogger("edged")
    before = (root.handlers[:], root.level, ours.level)
    yield lambda: capsys.readouterr().err
    root.handlers[:], level, own = before
    root.setLevel(level)
    ours.setLevel(own)


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


def test_the_journal_gets_a_priority_on_each_line(output: Output) -> None:
    log.setup("debug", {"JOURNAL_STREAM": "8:1"})
    try:
        int("x")
    except ValueError:
        logging.getLogger("edged").exception("failed")
    logging.getLogger("edged").debug("step")
    lines = output().splitlines()
    assert lines[0] == "<3>edged: failed"
    assert all(line.startswith("<3>") for line in lines[:-1])
    assert lines[-1] == "<7>edged: step"
