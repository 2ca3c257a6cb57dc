"""The support bundle: everything that helps to find a fault from afar, in one file, no secrets.

Invariants:
- Every text passes the redactor on its way in; there is no other way in.
- The same parts come in the same order, all below ``edged-support/``: regular files, no links.
- It has bounds: of each part, and of all. What does not fit is cut at its beginning, and says so.
- A part that fails is noted in ``summary.json``; the others come all the same.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tarfile
import time
from collections.abc import Callable
from typing import Any

from edged.config import version
from edged.doctor import parts, secrets
from edged.doctor.redact import Redactor
from edged.doctor.skip import SkipError
from edged.doctor.texts import as_json
from edged.doctor.world import World
from edged.errors import EdgedError

FOLDER = "edged-support"
PART_LIMIT = 2 * 1024 * 1024  # bytes of one part
LIMIT = 24 * 1024 * 1024  # bytes of all
README = """\
What edged collected about this device: see summary.json for what is here and what could not be had.
Passwords, tokens and private keys were taken out, also what only looks like one: [hidden].
Pictures, models and answers are not in here. Names of models, registries and folders are.
"""


def make(world: World, tell: Callable[[str], None] = lambda _: None) -> bytes:
    """Returns a tar.gz.

    Args:
        world: the device.
        tell: called with the name of each part before it is collected.
    """
    redact = Redactor(secrets.known(world))
    began, left = time.time(), LIMIT
    kept: list[tuple[str, bytes]] = []
    listed: list[dict[str, Any]] = []
    for name, collect in parts.parts(world):
        tell(name)
        text, why = _collect(world, collect)
        facts: dict[str, Any] = {"part": name}
        if text is None:
            facts["missing"] = redact(why)
        else:
            data = _cut(_clean(redact, text).encode("utf-8", "replace"), min(PART_LIMIT, left))
            left -= len(data)
            facts["bytes"] = len(data)
            kept.append((name, data))
        listed.append(facts)
    summary = {
        "edged": version.VERSION,
        "unix": round(began),
        "seconds": round(time.time() - began, 1),
        "parts": listed,
    }
    first = [("README", README.encode()), ("summary.json", as_json(summary).encode())]
    return _packed([*first, *kept], round(began))


def _collect(world: World, collect: Callable[[World], str]) -> tuple[str | None, str]:
    """The part's text, or None and why there is none."""
    try:
        return collect(world), ""
    except (SkipError, EdgedError) as exc:
        return None, str(exc)
    except Exception as exc:  # noqa: BLE001 - the other parts are worth having
        return None, repr(exc)


def _clean(redact: Redactor, text: str) -> str:
    """The text without secrets; a JSON document stays one."""
    if text.startswith(("{", "[")):
        with contextlib.suppress(ValueError, RecursionError):
            return as_json(redact.document(json.loads(text)))
    return redact(text)


def _cut(data: bytes, limit: int) -> bytes:
    """The end of it, in whole lines, if it is too long."""
    if len(data) <= limit:
        return data
    note = b"[the beginning was cut]\n"
    end = data[len(data) - max(limit - len(note), 0) :] if limit > len(note) else b""
    return note + end[end.find(b"\n") + 1 :]


def _packed(files: list[tuple[str, bytes]], when: int) -> bytes:
    out = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", 6, out, when) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, data in files:
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), when, 0o600
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()
