"""Runs a client of another's: a script of ``tests/clients/scripts`` in an environment of its own.

A script prints one JSON object a line for those who test it; what it or the client's own code
prints besides is kept. It is at an end when its process is, and no process outlives the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.device import ROOT

LIMIT = 180.0  # seconds; TensorFlow alone takes ten to import on a busy machine


@dataclass(frozen=True)
class Outcome:
    """What one of a script's cases came to: a value, or an error with gRPC's code and details."""

    value: Any = None
    error: str = ""
    code: str = ""
    details: str = ""


class Script:
    """A script that runs.

    Args:
        python: of its environment.
        name: of the script's module.
        arguments: for it, as JSON.
        folder: for its files; becomes its home, and has edged and the scripts in it.
    """

    def __init__(self, python: Path, name: str, arguments: dict[str, Any], folder: Path) -> None:
        self.printed: list[str] = []
        self._name = name
        self._errors = folder / f"{name}.log"
        self._lines: queue.Queue[str | None] = queue.Queue()
        for package in ("edged", "tests"):
            link = folder / package
            if not link.exists():
                link.symlink_to(ROOT / package)
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [python, "-m", f"tests.clients.scripts.{name}", json.dumps(arguments)],
                cwd=folder,
                env=_environ(folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        # A thread, because a line can only be waited for with a limit from outside.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def until_printed(self, text: str) -> None:
        """Returns when the script has printed a line with this text."""
        for line in self._until_end():
            if text in line:
                return
        raise AssertionError(f"{self._name} ended and never printed {text!r}:\n{self.told()}")

    def next(self) -> dict[str, Any]:
        """Returns the next JSON object that the script prints."""
        for line in self._until_end():
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    return value
        raise AssertionError(f"{self._name} ended too early:\n{self.told()}")

    def outcomes(self) -> dict[str, Outcome]:
        """Returns what became of each case, when the script has ended."""
        outcomes: dict[str, Outcome] = {}
        for line in self._until_end():
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    case = value.pop("case")
                    outcomes[case] = Outcome(**value)
        status = self._process.wait(LIMIT)
        assert status == 0, f"{self._name} ended with status {status}:\n{self.told()}"
        return outcomes

    def told(self) -> str:
        """Returns what it printed, for errors."""
        log = self._errors.read_text(errors="replace")
        return "\n".join([*self.printed[-20:], "on standard error:", log[-4000:]])

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _until_end(self) -> Iterator[str]:
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.0))
            except queue.Empty:
                raise AssertionError(f"{self._name} hangs:\n{self.told()}") from None
            if line is None:
                self._lines.put(None)
                return
            self.printed.append(line)
            yield line


@contextlib.contextmanager
def running(python: Path, name: str, arguments: dict[str, Any], folder: Path) -> Iterator[Script]:
    """A script, ended with the block."""
    script = Script(python, name, arguments, folder)
    try:
        yield script
    finally:
        script.close()


def run(python: Path, name: str, arguments: dict[str, Any], folder: Path) -> dict[str, Outcome]:
    """Runs a script of cases to its end."""
    with running(python, name, arguments, folder) as script:
        return script.outcomes()


def _environ(folder: Path) -> dict[str, str]:
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))
    }
    return environ | {
        "HOME": str(folder),  # some write settings and usage there
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "no_proxy": "127.0.0.1,localhost",
    }
