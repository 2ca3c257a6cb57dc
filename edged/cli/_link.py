"""The link to a controller, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edged import messages


def rows(link: messages.Link) -> list[tuple[str, str]]:
    """Returns the rows of the status that a link takes, names first."""
    return list(_rows(link))


def _rows(link: messages.Link) -> Iterator[tuple[str, str]]:
    where = f"{link.dialect} at {link.host}" if link.host else link.dialect
    who = f" as {link.device}" if link.device else ""
    for_so_long = f"for {link.since_us / 1e6:.0f} s"
    if link.up:
        yield "link", f"{where}{who}, up {for_so_long}"
    else:
        yield "link", f"{where}{who}, DOWN {for_so_long}{_trying(link)}"
    if not link.up and link.reason:
        yield "", _printable(link.reason)
    if not link.up and link.fix:
        yield "", f"-> {_printable(link.fix)}"
    if link.clock_doubt:
        yield "clock", f"NOT BELIEVED: {_printable(link.clock_doubt)}"
    if abs(link.skew_s) >= 1:
        yield "clock", f"{link.skew_s:+.0f} s beside the controller's"
    if link.desired not in ("", "none"):
        error = f": {_printable(link.desired_error)}" if link.desired_error else ""
        yield "desired", f"{link.desired}{error}"
    if link.pending or link.dropped:
        yield "outbox", f"{link.pending} messages wait, {link.dropped} were lost"
    if link.outbox_fault:
        yield "outbox", _printable(link.outbox_fault)


def _trying(link: messages.Link) -> str:
    if not link.attempts:
        return ""
    then = f"the next in {link.next_try_us / 1e6:.0f} s" if link.next_try_us else "one is under way"
    return f"; {link.attempts} attempts, {then}"


def _printable(text: str) -> str:
    """Returns a text from elsewhere as a terminal may have it."""
    return "".join(char if char.isprintable() else "?" for char in text)
