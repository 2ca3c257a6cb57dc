"""A deployment that is told of now and then: a bar on a terminal, else a line a phase."""

from __future__ import annotations

from typing import Any, TextIO

WIDTH = 30


class Progress:
    """Shows how far a deployment is.

    Args:
        out: where to.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._phase = ""
        self._begun = False

    def show(self, deployment: dict[str, Any]) -> None:
        """Shows what a device says of its deployment, which is not trusted to make sense."""
        phase = deployment.get("phase")
        if not isinstance(phase, str):
            return
        phase = "".join(char for char in phase[:20] if char.isprintable())
        if self._out.isatty():
            self._out.write(f"\r\033[K{bar(deployment.get('percent'))} {phase}{_bytes(deployment)}")
            self._begun = True
        elif phase != self._phase:
            self._out.write(f"{phase}\n")
        self._phase = phase
        self._out.flush()

    def end(self) -> None:
        """Leaves the line of the bar."""
        if self._begun:
            self._out.write("\r\033[K")
            self._out.flush()


def bar(percent: object) -> str:
    """Returns a bar for a number from 0 to 100; an empty one for anything else."""
    is_number = isinstance(percent, int | float) and not isinstance(percent, bool)
    share = float(percent) if is_number and 0 <= percent <= 100 else 0.0  # type: ignore[operator,arg-type]
    done = round(WIDTH * share / 100)
    return f"[{'#' * done}{'.' * (WIDTH - done)}] {share:3.0f} %"


def _bytes(deployment: dict[str, Any]) -> str:
    done, total = deployment.get("bytes_done", 0), deployment.get("bytes_total", 0)
    if not (isinstance(done, int) and isinstance(total, int) and total):
        return ""
    return f", {done / 1e6:.1f} of {total / 1e6:.1f} MB"
