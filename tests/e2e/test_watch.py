"""``edged status --watch``: on a terminal, in a pipe, over a restart of the daemon."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.e2e.device import ROOT, Device
from tests.fakes import images

LIMIT = 60.0


class Watching:
    """The command, and what it has written so far."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.process = process
        self._end = end
        self.text = ""

    def until(self, wanted: str, since: int = 0) -> int:
        """Reads until the text has come; returns where it ends."""
        deadline = time.monotonic() + LIMIT
        while wanted not in self.text[since:]:
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self._end], [], [], left)[0]
            assert ready, f"{wanted!r} has not come: {self.text[since:]!r}"
            self._read()
        return self.text.index(wanted, since) + len(wanted)

    def _read(self) -> bool:
        try:
            data = os.read(self._end, 65536)
        except OSError:  # of a terminal that nobody is at any more
            data = b""
        self.text += data.decode()
        return bool(data)

    def end(self, number: int = signal.SIGINT) -> int:
        """Ends it; returns its exit status."""
        self.process.send_signal(number)
        status = self.process.wait(LIMIT)
        while self._read():
            pass
        return status


@contextlib.contextmanager
def watching(device: Device, *arguments: str, terminal: bool = False) -> Iterator[Watching]:
    command = [sys.executable, "-m", "edged", "status", "--watch", "0.2", *arguments]
    ours, theirs = pty.openpty() if terminal else os.pipe()
    environ = {**os.environ, "EDGED_RUN_DIR": str(device.run), "COLUMNS": "60", "LINES": "40"}
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=theirs)
    os.close(theirs)
    try:
        yield Watching(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_in_a_pipe_one_status_follows_another_with_rates(serving: Device) -> None:
    with watching(serving) as seen:
        seen.until("state       serving")
        place = seen.until("a second    ")
        for _ in range(50):
            serving.predict(b"x")
        place = seen.until("a second    ", place)
        while True:
            end = seen.until("\n", place)
            answered = float(seen.text[place:end].split(" ")[0].strip("-\n") or 0)
            if answered > 0:
                break
            place = seen.until("a second    ", end)
        assert "\033" not in seen.text
        assert seen.end() == 0
    assert seen.text.count("state       serving") > 1


def test_a_program_gets_an_object_a_line_also_while_nobody_answers(serving: Device) -> None:
    with watching(serving, "--json") as seen:
        place = seen.until("\n")
        first = json.loads(seen.text[:place])
        assert (first["state"], first["per_second"]) == ("serving", None)
        place = seen.until('"per_second": {"answered"', place)
        serving.stop()
        place = seen.until('"state": null', place)
        serving.start()
        place = seen.until('"state": "serving"', place)
        seen.until('"per_second": {"answered"', place)
        assert seen.end() == 0
    pids = {json.loads(line).get("pid") for line in seen.text.splitlines() if line.endswith("}")}
    assert len(pids - {None}) == 2
    rates = [json.loads(line).get("per_second") for line in seen.text.splitlines()]
    assert all(value >= 0 for rate in rates if rate for value in rate.values())


def test_a_terminal_is_drawn_in_place_and_given_back(serving: Device) -> None:
    with watching(serving, terminal=True) as seen:
        seen.until("a second")
        place = seen.until("\033[H", len(seen.text))
        seen.until("state", place)
        serving.stop()
        place = seen.until("no answer, waiting", place)
        serving.start()
        seen.until("serving", place)
        assert seen.end() == 0
    assert seen.text.startswith("\033[?1049h")
    drawn, _, after = seen.text.rpartition("\033[?1049l")
    assert drawn.endswith("\033[?25h"), "the cursor is there again"
    assert "state       serving" in after, "the last picture stays"
    longest = max(len(line.partition("\033[K")[0]) for line in drawn.split("\r\n"))
    assert longest <= 60 + len("\033[?1049h\033[?25l\033[H"), "no line wraps"


def test_names_from_elsewhere_do_not_reach_the_terminal(device: Device) -> None:
    device.start()
    device.deploy(images.write(device.folder / "image", "fake\x1b]0;title\x07"))
    with watching(device, terminal=True) as seen:
        seen.until("a second")
        assert seen.end(signal.SIGTERM) == 0
    assert "\x1b]" not in seen.text
    assert "\033[?1049l" in seen.text, "the terminal is given back then, too"


def test_a_daemon_that_was_never_there_is_waited_for(device: Device) -> None:
    with watching(device) as seen:
        seen.until("no answer, waiting: cannot reach edged")
        device.start()
        seen.until("state       not_serving")
        assert seen.end() == 0


@pytest.mark.parametrize("pace", ["0", "x", "-1", "1e9", "nan"])
def test_a_pace_that_makes_no_sense_is_wrong_usage(device: Device, pace: str) -> None:
    done = device.edged("status", f"--watch={pace}")
    assert done.returncode == 2
    assert "expected seconds from 0.2 to 3600" in done.stderr
