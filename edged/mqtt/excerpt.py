"""``python -m edged.mqtt.excerpt``: what a controller wants to see of the models' logs.

A process of its own, behind all others and with limits, because it runs regular expressions that
came from the network over megabytes: one that never ends costs this process, and nobody else.

On its standard input is a JSON object: ``folder``, ``names`` (of modules), ``items``, ``encoding``,
``contentType`` and ``limit`` (bytes of the answer), as ``module_logs`` has checked them; on its
output the answer: ``{"logs": [...]}`` or ``{"error": "..."}``.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edged.containers.records import Reader, Record
from edged.errors import StoreError

CPU_LIMIT = 10  # seconds
MEMORY_LIMIT = 1 << 30
LEVELS = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}
PLAIN_LEVEL = 6  # of a line that does not say its own


def level(text: str) -> int:
    """Returns the severity of a line, as syslog counts."""
    return LEVELS.get(text.partition(" ")[0], PLAIN_LEVEL)


def choose(records: Sequence[Record], wanted: dict[str, Any]) -> list[Record]:
    """Returns the records that pass an item's filter, oldest first.

    Args:
        records: oldest first.
        wanted: may have ``since`` and ``until`` (as records have times), ``loglevel``, ``regex``
            and ``tail``.
    """
    pattern = re.compile(wanted["regex"]) if wanted.get("regex") else None
    found = [
        each
        for each in records
        if wanted.get("since", "") <= each.time <= wanted.get("until", "~")
        and wanted.get("loglevel", level(each.text)) == level(each.text)
        and (pattern is None or pattern.search(each.text))
    ]
    tail = wanted.get("tail")
    return found if tail is None else found[len(found) - min(tail, len(found)) :]


def pack(records: Sequence[Record], asked: dict[str, Any], room: int) -> dict[str, Any]:
    """Returns the newest of the records that fit into ``room`` bytes, packed as asked."""
    lines: list[str] = []
    left = room if asked["encoding"] == "none" else room * 8  # about what logs shrink by
    for each in reversed(records):
        line = _line(each, as_json=asked["contentType"] == "json")
        left -= len(json.dumps(line).encode())
        if left < 0:
            break
        lines.append(line)
    while True:
        text = "".join(f"{line}\n" for line in reversed(lines))
        if asked["encoding"] == "none":
            return {"payload": text}
        packed = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
        if len(packed) <= room:
            return {"payloadBytes": packed}
        del lines[len(lines) // 2 :]


def _line(record: Record, *, as_json: bool) -> str:
    if not as_json:
        return f"<{level(record.text)}> {record.time} {record.text}"
    fields = {"timestamp": record.time, "loglevel": level(record.text), "text": record.text}
    return json.dumps({**fields, "container": record.container})


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Returns the logs that were asked for."""
    folder = Path(asked["folder"])
    records = Reader(folder).new() if folder.is_dir() else []
    chosen: dict[str, list[Record]] = {}
    for item in asked["items"]:
        pattern = re.compile(item["id"])
        for name in asked["names"]:
            if name not in chosen and pattern.search(name):
                chosen[name] = choose(records, item["filter"])
    room = asked["limit"] // max(len(chosen), 1) - 256
    return {"logs": [{"id": name, **pack(each, asked, room)} for name, each in chosen.items()]}


def main() -> None:
    """Answers once."""
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    try:
        told = answer(json.load(sys.stdin))
    except (re.error, RecursionError, OverflowError) as exc:
        told = {"error": f"cannot use a regular expression: {str(exc)[:200]}"}
    except (MemoryError, StoreError) as exc:
        told = {"error": f"cannot read the logs: {str(exc)[:200] or 'out of memory'}"}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
