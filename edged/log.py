"""How edged's processes log: one line per record on standard error, or one record in the journal.

INFO is for changes of state and lifecycle, with fields (``extra={"event": ..., "digest": ...}``),
DEBUG for steps.

- On standard error the fields are ``name=value`` at the end of the line.
- Where systemd has connected standard error to the journal, records go there through its own
  interface: the fields are ``EDGED_EVENT``, ``EDGED_MODEL``, ``EDGED_DIGEST`` and so on,
  ``REQUEST_ID``, and the event's ``MESSAGE_ID`` (``edged.events``).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from edged.events import EVENTS

FIELDS = (
    *("event", "model", "digest", "state", "pid", "listen", "code", "seconds", "request_id"),
    *("who", "what", "outcome"),  # of administrative acts
)
PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
OTHER_NAMES = {"request_id": "REQUEST_ID"}


class Formatter(logging.Formatter):
    """Formats a record as text with ``field=value`` for each of ``FIELDS`` that it has.

    Args:
        journal: for a stream that the journal reads: it adds the time itself, and takes the
            priority from the ``<n>`` in front (sd-daemon(3)).
    """

    def __init__(self, *, journal: bool) -> None:
        super().__init__(datefmt="%Y-%m-%d %H:%M:%S")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Returns one line, and the traceback's if there is one."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        text = self.text(record, fields)
        if self._journal:
            return "\n".join(f"<{_priority(record)}>{line}" for line in text.splitlines())
        time = self.formatTime(record, self.datefmt)
        return f"{time}.{int(record.msecs):03d} {record.levelname:7} {text}"

    def text(self, record: logging.LogRecord, fields: str = "") -> str:
        """Returns what is said, without time and priority."""
        text = f"{record.name}: {record.getMessage()}{fields}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return text


class Journal(logging.Handler):
    """Sends records to systemd's journal, with their fields.

    Args:
        send: of ``systemd.journal``.
    """

    def __init__(self, send: Callable[..., object]) -> None:
        super().__init__()
        self._send = send
        self._texts = Formatter(journal=True)
        self.setFormatter(self._texts)

    def emit(self, record: logging.LogRecord) -> None:
        """Sends one record; as a line on standard error if the journal does not take it."""
        try:
            self._send(self._texts.text(record), **journal_fields(record))
        except OSError:
            print(self.format(record), file=sys.stderr)  # noqa: T201 - the last resort
        except Exception:  # noqa: BLE001 - what logging does with a handler's own faults
            self.handleError(record)


def journal_fields(record: logging.LogRecord) -> dict[str, Any]:
    """Returns a record's fields in the journal, beside its text."""
    fields = _fields(record)
    found: dict[str, Any] = {
        OTHER_NAMES.get(name, f"EDGED_{name.upper()}"): str(value) for name, value in fields.items()
    }
    if (event := EVENTS.get(str(fields.get("event")))) is not None:
        found["MESSAGE_ID"] = event.id
    return {
        **found,
        "PRIORITY": str(_priority(record)),
        "SYSLOG_IDENTIFIER": "edged",
        "LOGGER": record.name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": record.lineno,
        "CODE_FUNC": record.funcName,
    }


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}


def _priority(record: logging.LogRecord) -> int:
    return next(number for level, number in PRIORITIES if record.levelno >= level)


def is_journal(environ: Mapping[str, str] = os.environ) -> bool:
    """Returns whether standard error is what systemd has connected to the journal.

    The variable alone does not say so: it is handed on to every child process, whatever that
    child's own standard error is (systemd.exec(5), ``JOURNAL_STREAM``).
    """
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # closed, or no file
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"


def setup(level: str = "info", environ: Mapping[str, str] = os.environ) -> None:
    """Sends records from ``level`` (``debug`` to ``error``) up to where they belong."""
    root = logging.getLogger()
    root.handlers[:] = [_handler(environ)]
    root.setLevel(logging.WARNING)
    logging.getLogger("edged").setLevel(level.upper())


def _handler(environ: Mapping[str, str]) -> logging.Handler:
    if is_journal(environ):
        from systemd import journal

        return Journal(journal.send)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(journal=False))
    return handler
