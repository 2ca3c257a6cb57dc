"""The link in ``edged status``, and a deployment far away as it is shown."""

from __future__ import annotations

import io
from typing import Any

import pytest

from edged import messages
from edged.cli import _link, _progress, status


def link(**fields: Any) -> messages.Link:
    return messages.Link(dialect="plain", device="line4", host="h.example", **fields)


def test_a_link_that_stands_takes_a_line() -> None:
    rows = _link.rows(link(up=True, since_us=12_000_000, desired="applied"))
    assert rows == [
        ("link", "plain at h.example as line4, up for 12 s"),
        ("desired", "applied"),
    ]


def test_one_that_does_not_says_why_what_to_do_and_when_it_tries_again() -> None:
    rows = _link.rows(
        link(
            since_us=5_000_000,
            attempts=3,
            next_try_us=7_400_000,
            reason="cannot connect: wrong password\x1b[2J",
            fix="look at password_file",
            clock_doubt="it reads 1970-01-01",
            skew_s=-3600.0,
            pending=7,
            dropped=2,
            outbox_fault="no space",
            desired="failed",
            desired_error="wrong answers",
        )
    )
    assert rows == [
        ("link", "plain at h.example as line4, DOWN for 5 s; 3 attempts, the next in 7 s"),
        ("", "cannot connect: wrong password?[2J"),
        ("", "-> look at password_file"),
        ("clock", "NOT BELIEVED: it reads 1970-01-01"),
        ("clock", "-3600 s beside the controller's"),
        ("desired", "failed: wrong answers"),
        ("outbox", "7 messages wait, 2 were lost"),
        ("outbox", "no space"),
    ]


def test_programs_get_every_field_or_none() -> None:
    assert status.facts(messages.StatusReply())["link"] is None
    facts = status.facts(messages.StatusReply(link=link(up=True)))["link"]
    assert (facts["up"], facts["host"], facts["reason"]) == (True, "h.example", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_bar_that_moves() -> None:
    out = Terminal()
    shown = _progress.Progress(out)
    fetching = {"phase": "fetch", "percent": 50, "bytes_done": 1_000_000, "bytes_total": 2_000_000}
    shown.show(fetching)
    shown.show({"phase": "probe", "percent": 98})
    shown.end()
    assert "[###############...............]  50 % fetch, 1.0 of 2.0 MB" in out.getvalue()
    assert "98 % probe" in out.getvalue()
    assert "\n" not in out.getvalue()


def test_anything_else_gets_a_line_for_each_phase() -> None:
    out = io.StringIO()
    shown = _progress.Progress(out)
    for percent in (1, 2, 3):
        shown.show({"phase": "fetch", "percent": percent})
    shown.show({"phase": "probe"})
    shown.show({"phase": 7})
    shown.show({})
    shown.end()
    assert out.getvalue() == "fetch\nprobe\n"


@pytest.mark.parametrize("percent", [None, "x", True, -1, 101, float("nan"), 1e400])
def test_a_percentage_that_is_none_is_an_empty_bar(percent: object) -> None:
    assert _progress.bar(percent).startswith("[.....")
