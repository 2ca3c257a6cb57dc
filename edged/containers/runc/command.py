"""Calls ``runc``, within a time, and says why it failed in its own words.

Invariants:
- A call that is too slow, or given up, is killed with its process group before it returns.
- runc's own reasons go to a log file: what it writes to standard error would be the container's,
  which gets the descriptors that runc was given and keeps them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from edged.containers.runc import children
from edged.containers.runc.children import PLACES
from edged.errors import ConfigError, DeviceError

# Seconds. All of them together take a twentieth of one where nothing is wrong.
LIMIT = 10.0
LOG_TAIL = 64 * 1024
REASON_LIMIT = 500
NOWHERE: Mapping[int, int] = {}


def program() -> Path:
    """Returns where runc is.

    Raises:
        ConfigError: it is nowhere.
    """
    found = shutil.which("runc", path=f"{os.environ.get('PATH', '')}:{PLACES}")
    if found is None:
        raise ConfigError(
            "cannot run models in containers: there is no runc on this host; install it (on Debian "
            "and Ubuntu the package runc), or use runtime 'process'"
        )
    return Path(found)


class Runc:
    """The program, with the folder of its own state.

    Args:
        path: of the program.
        root: where it keeps what it knows of containers; see ``runc --root ROOT list``.
        ignore_cgroups: it need not be able to make cgroups.
    """

    def __init__(self, path: Path, root: Path, *, ignore_cgroups: bool) -> None:
        self.root = root
        self._path = path
        self._rootless = "true" if ignore_cgroups else "auto"

    async def run(
        self, name: str, bundle: Path, pid_file: Path, log: Path, files: Mapping[int, int]
    ) -> None:
        """Sets a container up and lets it run: ``create`` and ``start`` in one call.

        They are one because nothing is to happen between them, and this process, which may be busy
        starting itself, is not asked again in the middle.

        Args:
            name: of the container.
            bundle: its folder.
            pid_file: gets its process id.
            log: gets runc's reasons.
            files: our descriptors by their number inside; those above 2 begin at 3, without gaps.

        Raises:
            DeviceError: with runc's reason.
        """
        handed = sum(number > 2 for number in files)
        options = ["--detach", "--bundle", str(bundle), "--pid-file", str(pid_file)]
        options += ["--preserve-fds", str(handed)] if handed else []
        await self._call("run", name, options, log, files)

    async def delete(self, name: str, log: Path, *, force: bool = False) -> None:
        """Removes what is left of a container that has ended.

        Args:
            name: of the container.
            log: gets runc's reasons.
            force: end it first, and do not mind if there is no such container.

        Raises:
            DeviceError: with runc's reason.
        """
        await self._call("delete", name, ["--force"] if force else [], log, NOWHERE)

    async def _call(
        self, verb: str, name: str, options: list[str], log: Path, files: Mapping[int, int]
    ) -> None:
        _forget(log)
        globals_ = ["--root", str(self.root), "--rootless", self._rootless]
        globals_ += ["--log", str(log), "--log-format", "json"]
        what = f"cannot {verb} container {name}"
        try:
            status = await children.run(
                [str(self._path), *globals_, verb, *options, name], files, LIMIT
            )
        except asyncio.TimeoutError as exc:  # since Python 3.11 an OSError, too
            raise DeviceError(f"{what}: runc has not ended within {LIMIT:g} s") from exc
        except OSError as exc:
            raise DeviceError(f"{what}: cannot run {self._path}: {exc.strerror}") from exc
        if status != 0:
            raise DeviceError(f"{what}: {reason(log) or f'runc ended with status {status}'}")


def _forget(log: Path) -> None:
    """Removes what an earlier call said."""
    with contextlib.suppress(OSError):
        log.unlink()


def reason(log: Path) -> str:
    """Returns the last error in a log of runc's, without what it says in every one of them."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("level") in ("error", "fatal"):
            text = str(record.get("msg", "")).removeprefix("runc run failed: ")
            return " ".join(text.split())[:REASON_LIMIT]
    return ""
