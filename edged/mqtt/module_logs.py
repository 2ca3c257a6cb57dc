"""``GetModuleLogs``: what of the models' logs a controller wants to see, read and checked.

The grammar is that of an IoT Edge agent: items with a regular expression over module names and a
filter, an encoding, a content type. The work is done by ``excerpt``, in a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged.errors import DeviceError, RequestError
from edged.mqtt.fields import Fields, wrong

ITEMS_LIMIT = 16
PATTERN_LIMIT = 512  # characters
TAIL_LIMIT = 100_000  # lines
ANSWER_LIMIT = 112 * 1024  # bytes; a hub takes 128 KiB
TIME_LIMIT = 10.0  # seconds for the process
FILTER_KEYS = ("tail", "since", "until", "loglevel", "regex")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PART = re.compile(r"([0-9]{1,9})\s*(w|d|h|m|s)[a-z]*\s*")
_WORDS = re.compile(r"(weeks?|days?|hours?|minutes?|mins?|seconds?|secs?|[wdhms])")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9:]+)"
)


@dataclass(frozen=True)
class Wanted:
    """What is wanted of the logs.

    Attributes:
        items: each a regular expression ``id`` and a ``filter``, checked.
        encoding: none or gzip.
        content_type: text or json.
    """

    items: Sequence[Mapping[str, Any]]
    encoding: str
    content_type: str


def parse(fields: Fields, now: float) -> Wanted:
    """Returns what a payload asks for.

    Args:
        fields: of the payload.
        now: seconds since 1970, for times that are so long ago.

    Raises:
        RequestError: it cannot be used.
    """
    items = fields.raw("items")
    if isinstance(items, Mapping):  # one item need not be in a list
        items = [items]
    if not isinstance(items, list) or not 0 < len(items) <= ITEMS_LIMIT:
        raise wrong(f"{fields.where}: items", f"a list of 1 to {ITEMS_LIMIT} items", items)
    return Wanted(
        [_item(Fields(each, f"{fields.where}: items"), now) for each in items],
        fields.choice("encoding", ("none", "gzip"), "none"),
        fields.choice("contentType", ("text", "json"), "text"),
    )


def _item(fields: Fields, now: float) -> dict[str, Any]:
    fields.only(("id", "filter"))
    pattern = fields.text("id", "", PATTERN_LIMIT)
    if not pattern:
        raise wrong(f"{fields.where}: id", "a regular expression, such as .*", pattern)
    given = fields.fields("filter")
    given.only(FILTER_KEYS)
    found: dict[str, Any] = {}
    for key, most in (("tail", TAIL_LIMIT), ("loglevel", 7)):
        if (number := given.number(key, 0, most)) is not None:
            found[key] = number
    for key in ("since", "until"):
        if key in given:
            found[key] = _moment(given, key, now)
    if regex := given.text("regex", "", PATTERN_LIMIT):
        found["regex"] = regex
    return {"id": pattern, "filter": found}


def _moment(fields: Fields, key: str, now: float) -> str:
    """Returns a time as the logs have it, of one in any of the forms that agents take."""
    value = fields.raw(key)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40:
        return _stamp(value)
    text = fields.text(key, "", 64).strip()
    if text.isascii() and text.isdigit() and len(text) <= 12:
        return _stamp(int(text))
    if _RFC3339.fullmatch(text):
        with contextlib.suppress(ValueError):
            return _stamp(_unix(text))
    ago, at = 0, 0
    lower = text.lower()
    while (part := _PART.match(lower, at)) and _WORDS.fullmatch(
        part[0].lstrip("0123456789 ").strip()
    ):
        ago, at = ago + int(part[1]) * _UNITS[part[2]], part.end()
    if not text or at != len(lower):
        raise wrong(
            f"{fields.where}: {key}", "a duration (90m, 2 days 3 hours), RFC 3339 or seconds", value
        )
    return _stamp(max(now - ago, 0))


def _unix(text: str) -> float:
    from datetime import datetime

    found = _RFC3339.fullmatch(text)
    assert found is not None  # noqa: S101 - the caller has looked
    date, clock, fraction, zone = found.groups()
    zone = "+00:00" if zone in "Zz" else zone
    whole = datetime.fromisoformat(f"{date}T{clock}{zone}").timestamp()
    return whole + float(fraction or 0)


def _stamp(unix: float) -> str:
    whole = int(unix)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{text}.{int((unix - whole) * 1e6):06}Z"


async def read(wanted: Wanted, folder: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the logs of the modules that are wanted.

    Args:
        wanted: what of them.
        folder: of the logs.
        names: by which the model is known as a module.

    Raises:
        RequestError: a regular expression is none, or takes too long.
        DeviceError: they could not be read.
    """
    asked = {
        "folder": str(folder),
        "names": list(names),
        "items": list(wanted.items),
        "encoding": wanted.encoding,
        "contentType": wanted.content_type,
        "limit": ANSWER_LIMIT,
    }
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edged.containers.launch", str(os.getpid())),
            "edged.mqtt.excerpt",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
    except OSError as exc:
        raise DeviceError(f"cannot read the logs: {exc.strerror}") from exc
    try:
        out, _ = await asyncio.wait_for(process.communicate(json.dumps(asked).encode()), TIME_LIMIT)
    except asyncio.TimeoutError as exc:
        raise RequestError(
            "DEADLINE_EXCEEDED",
            f"cannot read the logs within {TIME_LIMIT:g} s; ask for a shorter tail, and a simpler "
            "regular expression",
        ) from exc
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return _told(out)


def _told(out: bytes) -> list[dict[str, Any]]:
    try:
        told = json.loads(out)
    except ValueError as exc:
        raise RequestError(
            "INVALID_ARGUMENT",
            "cannot read the logs: what was asked for takes too much time or memory; ask for a "
            "shorter tail, and a simpler regular expression",
        ) from exc
    if "error" in told:
        raise RequestError("INVALID_ARGUMENT", f"{told['error']}; mend it")
    logs: list[dict[str, Any]] = told["logs"]
    return logs
