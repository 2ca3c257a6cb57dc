"""``edged status --watch``: the status again and again, with what happens a second.

On a terminal it is drawn in place, on the screen that full-screen programs have; what was there
before comes back at the end, with the last picture below it. Elsewhere one status follows another.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from edged.cli._meter import Meter
from edged.errors import RequestError

if TYPE_CHECKING:
    from edged import messages

SECONDS = 2.0  # between two looks, unless it is said
LEAST, MOST = 0.2, 3600.0
PATIENCE = 5.0  # seconds for one answer
AWAY = ("UNAVAILABLE", "DEADLINE_EXCEEDED")  # of a daemon that may be back
_COUNTED = ("answered", "failed", "refused", "expired", "cancelled")
_SCREEN, _BACK = "\033[?1049h\033[?25l", "\033[?25h\033[?1049l"
_HOME, _LINE_END, _BELOW = "\033[H", "\033[K", "\033[J"


class Rates:
    """What happens a second, of one daemon after another."""

    def __init__(self) -> None:
        self._of: tuple[int, int] | None = None  # process, its uptime
        self._meters: dict[str, Meter] = {}

    def note(self, status: messages.StatusReply) -> dict[str, float] | None:
        """Returns how many requests a second ended so; None until two looks at one daemon."""
        process, uptime = self._of or (0, 0)
        if process != status.pid or status.uptime_us < uptime:
            self._meters = {name: Meter() for name in _COUNTED}
        self._of = status.pid, status.uptime_us
        found = {
            name: meter.rate(getattr(status.counters, name), status.uptime_us)
            for name, meter in self._meters.items()
        }
        return {name: rate for name, rate in found.items() if rate is not None} or None


def watch(
    ask: Callable[[], messages.StatusReply],
    show: Callable[[messages.StatusReply], str],
    facts: Callable[[messages.StatusReply], dict[str, Any]] | None,
    seconds: float,
    out: TextIO | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Shows the status until ctrl-C; a daemon that goes away is waited for.

    Args:
        ask: for the status.
        show: makes a text of it.
        facts: makes a document of it instead, one a line; None for the text.
        seconds: between two looks.
        out: standard output.
        pause: waits.

    Returns:
        0, as ctrl-C is how it ends.

    Raises:
        RequestError: the daemon is there and refuses.
    """
    out = out or sys.stdout
    drawn = out.isatty() and facts is None
    rates, last = Rates(), ""
    picture: Callable[[str], None] = _Terminal(out).draw if drawn else _Plain(out).put
    try:
        with _screen(out) if drawn else contextlib.nullcontext():
            for status, why in _looks(ask, seconds, pause):
                found = rates.note(status) if status is not None else None
                if facts is not None:
                    last = _line(facts, status, why, found)
                else:
                    last = _text(show, status, why, found)
                picture(last)
    except KeyboardInterrupt:
        if drawn:
            print("\n".join(map(_clean, last.splitlines())), file=out)
    return 0


def _looks(
    ask: Callable[[], messages.StatusReply], seconds: float, pause: Callable[[float], None]
) -> Iterator[tuple[messages.StatusReply | None, str]]:
    """Yields the status, or None and why there is none, at a steady pace."""
    due = time.monotonic()
    while True:
        try:
            yield ask(), ""
        except RequestError as exc:
            if exc.code not in AWAY:
                raise
            yield None, str(exc)
        due = max(due + seconds, time.monotonic())  # what was missed is not made up for
        pause(max(0.0, due - time.monotonic()))


def _text(
    show: Callable[[messages.StatusReply], str],
    status: messages.StatusReply | None,
    why: str,
    rates: dict[str, float] | None,
) -> str:
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if status is None:
        return f"{'time':12}{now}\n{'state':12}no answer, waiting: {why}"
    said = "-"
    if rates is not None:
        parts = [f"{rate:.1f} {name}" for name, rate in rates.items() if rate or name == "answered"]
        said = ", ".join(parts)
    return f"{'time':12}{now}\n{show(status)}\n{'a second':12}{said}"


def _line(
    facts: Callable[[messages.StatusReply], dict[str, Any]],
    status: messages.StatusReply | None,
    why: str,
    rates: dict[str, float] | None,
) -> str:
    now = {"unix": round(time.time(), 3)}
    if status is None:
        return json.dumps({**now, "state": None, "reason": why})
    per_second = None if rates is None else {name: round(rate, 2) for name, rate in rates.items()}
    return json.dumps({**now, **facts(status), "per_second": per_second})


class _Plain:
    """One after the other, with an empty line between those that have several."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def put(self, text: str) -> None:
        """Writes the next one."""
        end = "\n\n" if "\n" in text else "\n"
        print(text, end=end, file=self._out, flush=True)


class _Terminal:
    """One in the place of the other, within the window as it is now."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def draw(self, text: str) -> None:
        """Draws over the picture before."""
        size = shutil.get_terminal_size()
        lines = [_clean(line)[: size.columns] for line in text.splitlines()[: size.lines - 1]]
        body = "".join(f"{line}{_LINE_END}\n" for line in lines)
        print(f"{_HOME}{body}{_BELOW}", end="", file=self._out, flush=True)


@contextlib.contextmanager
def _screen(out: TextIO) -> Iterator[None]:
    # Whoever ends it so wants their terminal back, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(_SCREEN, end="", file=out, flush=True)
    try:
        yield
    finally:
        print(_BACK, end="", file=out, flush=True)


def _clean(text: str) -> str:
    # Names come from whoever made the model, and go to a terminal.
    return "".join(c if c.isprintable() else "?" for c in text)
