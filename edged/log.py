"""How edged's processes log: one line per record on standard error, with fields at its end.

INFO is for changes of state and lifecycle, with fields (``extra={"event": ..., "digest": ...}``),
DEBUG for steps. Under systemd the journal adds the time itself and reads the priority from the
``<n>`` in front (sd-daemon(3)).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

FIELDS = ("event", "digest", "state", "pid", "listen", "code", "seconds")
PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


class Formatter(logging.Formatter):
    """Formats a record as text with ``field=value`` for each of ``FIELDS`` that it has."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__(datefmt="%Y-%m-%d %H:%M:%S")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Returns one line, and the traceback's if there is one."""
        fields = "".join(
            f" {name}={getattr(record, name)}" for name in FIELDS if hasattr(record, name)
        )
        text = f"{record.name}: {record.getMessage()}{fields}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if self._journal:
            priority = next(n for level, n in PRIORITIES if record.levelno >= level)
            return "\n".join(f"<{priority}>{line}" for line in text.splitlines())
        time = self.formatTime(record, self.datefmt)
        return f"{time}.{int(record.msecs):03d} {record.levelname:7} {text}"


def setup(level: str = "info", environ: Mapping[str, str] = os.environ) -> None:
    """Sends the process's records from ``level`` (``debug`` to ``error``) up to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(journal="JOURNAL_STREAM" in environ))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("edged").setLevel(level.upper())
