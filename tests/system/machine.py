"""A system that boots: systemd as process 1 of its own namespaces, with no network but ``lo``."""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BOOT_LIMIT = 90.0  # seconds
RUN_LIMIT = 180.0
STOP_LIMIT = 60.0
ENVIRON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


class Machine:
    """One machine, from its boot to its end.

    Args:
        root: of its file system.
        folder: for what is beside it; with a short path.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self._folder = folder
        self._log = folder / "console"
        self._leader = 0
        self._nspawn: subprocess.Popen[bytes] | None = None

    def boot(self) -> float:
        """Boots; returns after how many seconds it said that it is up."""
        began = time.monotonic()
        address = self._folder / "notify"
        address.unlink(missing_ok=True)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices,
            self._log.open("ab") as log,
        ):
            notices.bind(str(address))
            self._nspawn = subprocess.Popen(
                [
                    *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot"),
                    *("--directory", str(self.root), "--machine", "device", "--private-network"),
                    # What runc needs that nspawn would not let a container have.
                    *("--capability=all", "--system-call-filter=add_key keyctl bpf"),
                    *("--notify-ready=yes", "--console=pipe"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(address)},
                start_new_session=True,
            )
            self._wait_until_up(notices, began + BOOT_LIMIT)
        return time.monotonic() - began

    def _wait_until_up(self, notices: socket.socket, deadline: float) -> None:
        assert self._nspawn is not None
        while (left := deadline - time.monotonic()) > 0:
            if self._nspawn.poll() is not None:
                break
            if not select.select([notices], [], [], min(left, 1.0))[0]:
                continue
            for line in notices.recv(8192).decode().splitlines():
                name, _, value = line.partition("=")
                if name == "X_NSPAWN_LEADER_PID":
                    self._leader = int(value)
                elif line == "READY=1":
                    return
        raise AssertionError(f"it did not boot; the console:\n{self._log.read_text()[-4000:]}")

    def run(
        self, *command: str, user: str = "root", status: int | None = 0, limit: float = RUN_LIMIT
    ) -> str:
        """Returns what a command in the machine wrote to its standard output and error.

        Args:
            command: words, not a shell's line.
            user: who runs it.
            status: that it must end with; None for any.
            limit: seconds.
        """
        enter = ["nsenter", "--target", str(self._leader), "--all"]
        environ = dict(ENVIRON)
        if user != "root":
            environ["HOME"] = f"/home/{user}"
            enter += ["runuser", "-u", user, "--"]
        result = subprocess.run(
            [*enter, "env", "-i", *(f"{k}={v}" for k, v in environ.items()), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
            check=False,
        )
        if status is not None and result.returncode != status:
            raise AssertionError(
                f"{shlex.join(command)} ended with {result.returncode}, expected {status}:\n"
                f"{result.stdout[-4000:]}\n{self.journal()[-4000:]}"
            )
        return result.stdout

    def signal(self, name: str, pid: str) -> None:
        """Sends a signal to a process, by its number in the machine."""
        self.run("sh", "-c", f"kill -{name} {int(pid)}")

    def journal(self, *matches: str) -> str:
        """Returns the journal's texts of the service."""
        command = ["journalctl", "--unit", "edged", "--no-pager", "--output", "short-precise"]
        return self.run(*command, *matches, status=None)

    def records(self, *matches: str) -> list[dict[str, Any]]:
        """Returns the journal's records with all their fields."""
        text = self.run("journalctl", "--no-pager", "--output", "json", "--all", *matches)
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def show(self, *names: str) -> dict[str, str]:
        """Returns properties of the service, as systemd has them."""
        text = self.run("systemctl", "show", "edged", *(f"--property={name}" for name in names))
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def wait_text(self, name: str, part: str, limit: float = 60.0) -> str:
        """Returns a property of the service as soon as it has a part."""
        self.wait(lambda: part in self.show(name)[name], limit, f"{name} has {part}")
        return self.show(name)[name]

    def status(self) -> dict[str, Any]:
        """Returns what ``edged status`` says; nothing if it cannot be asked."""
        text = self.run("edged", "status", "--json", status=None)
        found: dict[str, Any] = json.loads(text) if text.startswith("{") else {}
        return found

    def wait(self, check: Callable[[], bool], limit: float, what: str) -> float:
        """Returns after how many seconds something was so that nobody tells of."""
        began = time.monotonic()
        while time.monotonic() - began < limit:
            if check():
                return time.monotonic() - began
            time.sleep(0.1)
        raise AssertionError(f"not within {limit:g} s: {what}\n{self.journal()[-6000:]}")

    def close(self) -> None:
        """Switches it off; it must go down in an orderly way."""
        nspawn, self._nspawn = self._nspawn, None
        if nspawn is None:
            return
        nspawn.send_signal(signal.SIGTERM)
        try:
            nspawn.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            nspawn.kill()
            nspawn.wait()
            raise AssertionError("it did not go down") from None
