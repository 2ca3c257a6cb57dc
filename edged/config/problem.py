"""What is wrong with a configuration, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        source: file, variable or flag.
        message: what was expected, what came, what to do.
        line: in the file, from 1 on; None if the source has none, or it is not known.
        key: the setting, with its tables; empty if none is meant.
        nearest: the valid name that an unknown one is most like.
    """

    source: str
    message: str
    line: int | None = None
    key: str = ""
    nearest: str = ""

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"

    def facts(self) -> dict[str, Any]:
        """Returns it for programs."""
        return {
            "source": self.source,
            "line": self.line,
            "key": self.key or None,
            "message": self.message,
            "nearest": self.nearest or None,
        }


def sentence(problems: Sequence[Problem]) -> str:
    """Returns all of them as one error's text."""
    listed = "; ".join(str(each) for each in problems)
    return f"cannot use {listed}"
