"""Small JSON documents in the state folder: read with suspicion, written durably, whole.

Invariants:
- A document is replaced in one step; a crash leaves the old one or the new one.
- One that cannot be read (a damaged disk, somebody's edit, another version of edged) is put aside
  as ``NAME.damaged`` and said in the log; edged goes on without it, since serving matters more.

The pointer to the current model is no such document: without it edged would not know what to serve.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from edged.errors import StoreError
from edged.osutil import atomic

logger = logging.getLogger(__name__)

SCHEMA = 1
LIMIT = 1024 * 1024  # bytes


class Document:
    """The document at ``path``, whose folder must exist."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, Any]:
        """Returns the fields; none if there is no document, or none that can be used."""
        try:
            return self._load()
        except OSError as exc:
            logger.error("cannot read %s: %s", self._path, exc.strerror)  # noqa: TRY400
        except (ValueError, RecursionError) as exc:
            self.put_aside(str(exc))
        return {}

    def look(self) -> dict[str, Any]:
        """Returns the fields for whoever only looks: nothing is put aside.

        Raises:
            StoreError: the document cannot be used.
        """
        try:
            return self._load()
        except (OSError, ValueError, RecursionError) as exc:
            raise StoreError(f"cannot use {self._path}: {exc}") from exc

    def fault(self) -> str | None:
        """Returns why the document cannot be used; None if it can, or is not there."""
        try:
            self.look()
        except StoreError as exc:
            return str(exc)
        return None

    def _load(self) -> dict[str, Any]:
        try:
            with self._path.open("rb") as file:
                data = file.read(LIMIT + 1)
        except FileNotFoundError:
            return {}
        if len(data) > LIMIT:
            raise ValueError(f"expected at most {LIMIT} bytes")
        document = json.loads(data)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ValueError(f"expected an object of schema {SCHEMA}")
        return document

    def write(self, **fields: Any) -> None:
        """Replaces the document.

        Raises:
            StoreError: the old one is untouched.
        """
        # In one line: the encoder that indents is slow, and leaves much to be collected.
        data = json.dumps({"schema": SCHEMA, **fields}).encode() + b"\n"
        atomic.write_file(self._path, data)

    def put_aside(self, why: str) -> None:
        """Moves a document away that cannot be used."""
        logger.error("cannot use %s: %s; it is kept as %s.damaged", self._path, why, self._path)
        try:
            atomic.rename(self._path, self._path.with_name(self._path.name + ".damaged"))
        except StoreError as exc:
            logger.error("%s", exc)  # noqa: TRY400 - the text says it all
