"""What is in a support bundle: each part is a name and a function that tells its text.

None of them changes anything, and each has its bounds. What a part cannot have it says in its own
words; an error is noted in the bundle, and the other parts go on.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edged import config as configuration
from edged.deploy.schema import LIMIT as DOCUMENT_LIMIT
from edged.doctor import files, portrait
from edged.doctor.checks import GROUPS
from edged.doctor.examine import examine
from edged.doctor.texts import as_json, run
from edged.doctor.unit import UNIT
from edged.doctor.world import World
from edged.errors import EdgedError

LOG_LIMIT = 256 * 1024  # bytes of each log, from its end
JOURNAL_LINES, JOURNAL_LIMIT = 2000, 10.0  # lines, seconds

Part = tuple[str, Callable[[World], str]]


def parts(world: World) -> Iterator[Part]:
    """Yields the parts in the order they are in the bundle."""
    yield "versions.json", portrait.versions
    yield "host.json", portrait.host
    yield "configuration.json", _configuration
    yield "environment.json", _environment
    yield "status.json", _status
    yield "doctor.json", _doctor
    yield "unit.json", lambda world: as_json(dict(world.unit()))
    yield "process.json", _process
    yield "store.txt", files.listing
    for name, path in files.documents(world):
        yield f"state/{name}", files.reads(path, DOCUMENT_LIMIT)
    for name, path in files.logs(world):
        yield f"logs/{name}", files.reads(path, LOG_LIMIT)
    yield "journal.txt", _journal


def _configuration(world: World) -> str:
    examined = configuration.examine(world.flags, world.environ, world.config_file)
    return as_json(
        {
            "file": examined.file,
            "settings": {
                name: {"value": each.shown, "origin": each.origin}
                for name, each in examined.settings.items()
            },
            "problems": [str(each) for each in examined.problems],
        }
    )


def _environment(world: World) -> str:
    mine = {key: value for key, value in sorted(world.environ.items()) if _is_told(key)}
    facts: dict[str, Any] = {"doctor": mine}
    if world.running:
        try:
            data = Path(f"/proc/{world.status.pid}/environ").read_bytes()
            pairs = (each.partition("=") for each in data.decode("utf-8", "replace").split("\0"))
            facts["daemon"] = {name: value for name, _, value in sorted(pairs) if _is_told(name)}
        except OSError as exc:
            facts["daemon"] = str(exc)
    return as_json(facts)


def _is_told(name: str) -> bool:
    wanted = ("PATH", "HOME", "LANG", "TZ", "USER", "NOTIFY_SOCKET", "JOURNAL_STREAM")
    folders = ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CONFIGURATION_DIRECTORY")
    return name.startswith(("EDGED_", "XDG_", "LC_", "WATCHDOG_")) or name in (*wanted, *folders)


def _status(world: World) -> str:
    from google.protobuf.json_format import MessageToDict

    status = world.ask_status()
    return as_json(MessageToDict(status, preserving_proto_field_name=True))


def _doctor(world: World) -> str:
    return as_json(
        [
            {
                "group": each.group,
                "check": each.check,
                "result": each.finding.level.value,
                "reason": each.finding.reason,
                "fix": each.finding.fix,
                "seconds": round(each.seconds, 3),
            }
            for each in examine(GROUPS, world)
        ]
    )


def _process(world: World) -> str:
    """The daemon and the model's process, as the kernel sees them."""
    status = world.status
    pids = {"daemon": status.pid, "worker": status.model.worker_pid}
    facts: dict[str, Any] = {}
    for who, pid in pids.items():
        if not pid:
            continue
        facts[who] = {"pid": pid}
        for file in ("status", "limits", "cgroup", "cmdline"):
            try:
                data = Path(f"/proc/{pid}/{file}").read_bytes()[:LOG_LIMIT]
            except OSError as exc:
                facts[who][file] = str(exc)
            else:
                text = data.decode("utf-8", "replace").replace("\0", " ")
                facts[who][file] = text.splitlines()
    return as_json(facts)


def _journal(_: World) -> str:
    program = shutil.which("journalctl")
    if program is None:
        raise EdgedError("there is no journalctl here")
    command = (program, "--unit", UNIT, "--no-pager", "--output", "short-iso-precise", "--quiet")
    lines = (*command, "--lines", str(JOURNAL_LINES))
    try:
        return run(lines, JOURNAL_LIMIT)
    except subprocess.TimeoutExpired as exc:
        raise EdgedError(f"journalctl has not ended within {JOURNAL_LIMIT:g} s") from exc
