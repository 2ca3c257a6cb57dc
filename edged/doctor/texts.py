"""Facts as text: JSON of them, and what a command says."""

from __future__ import annotations

import json
import subprocess
from typing import Any

LIMIT = 5.0  # seconds


def as_json(facts: Any) -> str:
    """Returns a document; what JSON has no form for, such as a path, is a text there."""
    return json.dumps(facts, indent=1, ensure_ascii=False, default=str) + "\n"


def run(command: tuple[str, ...], limit: float = LIMIT) -> str:
    """Returns what a command writes, whatever its status.

    Raises:
        OSError: it cannot be run.
        subprocess.TimeoutExpired: it has not ended in time, and was killed.
    """
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=limit,
        check=False,
    )
    return done.stdout.decode("utf-8", "replace")
