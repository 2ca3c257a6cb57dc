"""One setting's value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged.config.keys import Key

HIDDEN = "(hidden)"
DEFAULT = "default"


@dataclass(frozen=True)
class Setting:
    """One value and where it is from.

    Attributes:
        key: which setting.
        value: typed; None if it is not set and has no default.
        origin: ``default``, ``FILE:LINE``, ``variable NAME`` or ``flag --NAME``.
        line: in the file, if it is from there.
    """

    key: Key
    value: Any
    origin: str = DEFAULT
    line: int | None = None

    @property
    def shown(self) -> Any:
        """The value for people and JSON; a secret is hidden."""
        if self.key.secret and self.value:
            return HIDDEN
        if isinstance(self.value, Path):
            return str(self.value)
        return f"{self.value:04o}" if self.key.name.endswith("_mode") else self.value
