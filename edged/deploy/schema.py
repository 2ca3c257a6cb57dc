"""Which version of edged a state folder is for: looked at before anything in it is touched.

``STATE/version.json`` has the number of the store's layout, and which edged wrote it last. A folder
without it is of layout 1, from before there was that file. Beside it, every document of the state
folder and every image layout has a number of its own.

Invariants:
- Looking changes nothing, and a number that this edged does not know ends it. So an edged that was
  put back to an older version neither misreads what a newer one has written nor throws it away.
- What cannot be read at all is no newer version: it is dealt with where it is used.
- An older layout is taken as it is. What a newer one needs is made where it is missing, and last
  the number is raised; a crash in between leaves the older one, which is taken again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edged.config import version
from edged.errors import StoreError
from edged.osutil import atomic

LAYOUT = 1
NAME = "version.json"
LIMIT = 1024 * 1024  # bytes of a document
SCHEMA = 1  # of every document of this edged
IMAGES = "1.0.0"  # imageLayoutVersion of the OCI image specification


def check(state: Path) -> None:
    """Raises if a newer edged has written to ``state``, which need not exist.

    Raises:
        StoreError: names what was found, what this edged knows and what to do.
    """
    for what, found, known in _numbers(state):
        if _is_newer(found, known):
            raise StoreError(
                f"cannot use {state}: {what} is of version {found}, this edged ({version.VERSION}) "
                f"knows {known}{_writer(state)}; install that edged again, or give another "
                "state_dir; nothing was changed"
            )


def layout_of(state: Path) -> int | None:
    """Returns the number of the layout; None where there is no store yet.

    Raises:
        StoreError: ``version.json`` cannot be read.
    """
    path = state / NAME
    if not path.exists():
        return 1 if (state / "current.json").exists() or (state / "images").exists() else None
    document = _read(path)
    number = document.get("layout") if isinstance(document, dict) else None
    if type(number) is not int:
        raise StoreError(f"cannot read {path}: expected a number as layout, got {number!r}")
    return number


def mark(state: Path) -> None:
    """Notes that the folder has this edged's layout; writes only what is not so yet.

    Raises:
        StoreError: the disk failed.
    """
    path, wanted = state / NAME, {"layout": LAYOUT, "edged": version.VERSION}
    if _read(path) != {"schema": SCHEMA, **wanted}:
        data = json.dumps({"schema": SCHEMA, **wanted}, indent=1).encode() + b"\n"
        atomic.write_file(path, data)


def _numbers(state: Path) -> Iterator[tuple[str, Any, Any]]:
    """Yields what has a number, the number, and the one that this edged knows."""
    paths = sorted(state.glob("*.json")) if state.is_dir() else []
    for path in (state / NAME, *(path for path in paths if path.name != NAME)):
        document = _read(path)
        if isinstance(document, dict):
            if path.name == NAME:
                yield "its layout", document.get("layout"), LAYOUT
            yield path.name, document.get("schema"), SCHEMA
    layout = _read(state / "images" / "oci-layout")
    if isinstance(layout, dict):
        yield "its layout of images", layout.get("imageLayoutVersion"), IMAGES


def _is_newer(found: Any, known: Any) -> bool:
    if isinstance(known, str):
        return isinstance(found, str) and found != known
    return type(found) is int and found > known


def _writer(state: Path) -> str:
    document = _read(state / NAME)
    wrote = document.get("edged") if isinstance(document, dict) else None
    if not isinstance(wrote, str) or not wrote.isprintable():
        return ""
    return f"; edged {wrote[:64]} wrote it last"


def _read(path: Path) -> Any:
    """The document; None if there is none, or none that can be read."""
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
        return json.loads(data) if len(data) <= LIMIT else None
    except (OSError, ValueError, RecursionError):
        return None
