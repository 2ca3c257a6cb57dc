"""A real broker, mosquitto, on ports of its own: plain and with TLS, killed and started again."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tests.fakes.authority import Authority, Issued
from tests.fakes.registry import free_port, program

LIMIT = 30.0  # seconds in which it starts, ends or says what is waited for


class Broker:
    """A mosquitto. It keeps its ports over every restart; ``close`` ends it.

    Args:
        folder: made; its configuration and what it remembers.
        authority: gives it a second listener, with TLS and a certificate of this authority.
        users: their passwords; everybody may come in if None.
        certificates: whether clients of the TLS listener need one of the authority's, whose common
            name is then their user name.
        remembers: whether retained messages outlive a restart, also one after ``kill``.
        settings: more lines for its configuration.

    Attributes:
        host: its address.
        port: of the plain listener.
        tls_port: of the other one; 0 if there is none.
        log: the lines it wrote.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        *,
        authority: Authority | None = None,
        users: Mapping[str, str] | None = None,
        certificates: bool = False,
        remembers: bool = True,
        settings: str = "",
    ) -> None:
        self._program = program("mosquitto")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.tls_port = free_port() if authority else 0
        self.log: list[str] = []
        self._said = threading.Condition()
        self._authority = authority
        self._shown = Issued(authority.certificate, authority.key) if authority else None
        self._users = None if users is None else dict(users)
        self._certificates = certificates
        self._remembers = remembers
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    # -- its life

    def start(self) -> None:
        """Starts it and returns when it listens, which it says as it says it to systemd."""
        assert self._process is None, "it runs already"
        self._write()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            # By a name in the abstract space: a folder's path may be too long for a socket's.
            name = f"edged-test-broker-{os.getpid()}-{self.port}"
            notices.bind(f"\0{name}")
            self._process = subprocess.Popen(
                [self._program, "-c", str(self.folder / "mosquitto.conf")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, "NOTIFY_SOCKET": f"@{name}"},
            )
            self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
            self._reader.start()
            self._wait_ready(self._process, notices)

    def stop(self) -> None:
        """Ends it in an orderly way: clients are told by the end of their connections."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kills it and starts it again, on the same ports."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stops it where it is: connections stand, and nothing answers any more."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Lets a frozen one go on."""
        self._running().send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it if it runs, frozen or not."""
        if self._process is not None:
            self.kill()

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what it is told

    def set_password(self, user: str, password: str) -> None:
        """Changes a user's password, while it runs."""
        assert self._users is not None, "it asks for no passwords"
        self._users[user] = password
        self._write()
        if self._process is not None:
            seen = len(self.log)
            self._process.send_signal(signal.SIGHUP)
            self.wait_for("Reloading config", after=seen)

    def show(self, issued: Issued) -> None:
        """Starts it again with another certificate."""
        assert self._authority is not None, "it does not speak TLS"
        self._shown = issued
        if self._process is not None:
            self.stop()
        self.start()

    # -- what it says

    def wait_for(self, text: str, *, after: int = 0) -> str:
        """Returns the first line of its log with this text, once there is one.

        Args:
            text: looked for.
            after: number of lines to leave out; ``len(broker.log)`` waits for a new one.
        """

        def found() -> str | None:
            return next((line for line in self.log[after:] if text in line), None)

        with self._said:
            line = self._said.wait_for(found, LIMIT)
        assert line, f"mosquitto did not say {text!r}; its log:\n{self._tail()}"
        return line

    # -- inside

    def _write(self) -> None:
        lines = [
            "user root",  # or it gives up its rights, and with them the test's folders
            "log_dest stderr",
            "log_type all",
            "connection_messages true",
            "set_tcp_nodelay true",
            "max_queued_messages 0",  # none is dropped for a slow test
            *self._memory(),
            *self._rights(),
            f"listener {self.port} {self.host}",
        ]
        if self._shown is not None:
            lines += self._tls(self._shown)
        (self.folder / "mosquitto.conf").write_text("\n".join([*lines, self._settings, ""]))

    def _memory(self) -> list[str]:
        if not self._remembers:
            return ["persistence false"]
        # Written at every change: a killed one has it all again.
        return [
            "persistence true",
            f"persistence_location {self.folder}/",
            "autosave_on_changes true",
            "autosave_interval 1",
        ]

    def _rights(self) -> list[str]:
        if self._users is None:
            return ["allow_anonymous true"]
        path = self.folder / "passwords"
        path.write_text("".join(f"{user}:{word}\n" for user, word in self._users.items()))
        path.chmod(0o600)
        hashed = subprocess.run(
            [program("mosquitto_passwd"), "-U", str(path)],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert hashed.returncode == 0, hashed.stderr
        return ["allow_anonymous false", f"password_file {path}"]

    def _tls(self, shown: Issued) -> list[str]:
        assert self._authority is not None
        needs = str(self._certificates).lower()
        return [
            f"listener {self.tls_port} {self.host}",
            f"cafile {self._authority.ca}",
            f"certfile {shown.certificate}",
            f"keyfile {shown.key}",
            f"require_certificate {needs}",
            f"use_identity_as_username {needs}",
        ]

    def _wait_ready(self, process: subprocess.Popen[bytes], notices: socket.socket) -> None:
        deadline = time.monotonic() + LIMIT
        handle = os.pidfd_open(process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(notices, selectors.EVENT_READ)
                selector.register(handle, selectors.EVENT_READ)
                while (left := deadline - time.monotonic()) > 0:
                    ready = {key.fileobj for key, _ in selector.select(left)}
                    if notices in ready and b"READY=1" in notices.recv(4096):
                        return
                    if handle in ready:
                        break
        finally:
            os.close(handle)
        self.close()
        raise AssertionError(f"mosquitto does not listen; its log:\n{self._tail()}")

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                with self._said:
                    self.log.append(line.decode(errors="replace").rstrip("\n"))
                    self._said.notify_all()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it does not run"
        return self._process

    def _end(self, number: int) -> None:
        process, self._process = self._running(), None
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # a frozen one cannot end
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        assert self._reader is not None
        self._reader.join()

    def _tail(self) -> str:
        return "\n".join(self.log[-40:])
