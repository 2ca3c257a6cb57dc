"""A device for tests: folders, the daemon's real process, and callers of it.

Nothing is polled: the daemon says when it is ready as it says to systemd, and processes are waited
for.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from edged import messages
from edged.client import OPTIONS, Client
from edged.errors import RequestError
from edged.messages.calls import request_error

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 60.0  # seconds; machines that run this are small and shared
CALL_LIMIT = 60.0
PREDICT = "/tensorflow.serving.PredictionService/Predict"
CONTROL = "/edged.control.v1.Control"


class Device:
    """One device.

    Args:
        folder: with a short path, for the sockets.
        module: what runs the daemon: ``edged`` or ``tests.fakes.daemon``.
        prefix: goes before the daemon's command, such as what makes it another user's.
    """

    def __init__(self, folder: Path, module: str, prefix: Sequence[str] = ()) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.run = folder / "run"
        self.notes = folder / "notes"
        self.log = folder / "log"
        self._module = module
        self._prefix = prefix
        self.daemon: subprocess.Popen[bytes] | None = None
        self.status_texts: list[str] = []

    # -- the daemon

    def start(self, *flags: str) -> None:
        """Starts the daemon and returns when it says READY."""
        path = str(self.folder / "notify")
        Path(path).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.bind(path)
            Path(path).chmod(0o777)
            self.daemon = self.spawn(*flags, notify=path)
            self._wait_ready(self.daemon, notices)

    def spawn(self, *flags: str, notify: str = "") -> subprocess.Popen[bytes]:
        """Starts a daemon on the device's folders."""
        verb = ["run"] if self._module == "edged" else []
        folders = ["--state-dir", str(self.state), "--run-dir", str(self.run)]
        environ = {
            "EDGED_VERIFY": "off",  # most tests' images are not signed
            **os.environ,
            "EDGED_TEST_NOTES": str(self.notes),
        }
        if notify:
            environ["NOTIFY_SOCKET"] = notify
        if "--listen" not in flags:
            flags = (*flags, "--listen", "127.0.0.1:0")
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self._prefix, sys.executable, "-m", self._module, *verb, *folders, *flags],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                start_new_session=True,
            )

    def _wait_ready(self, daemon: subprocess.Popen[bytes], notices: socket.socket) -> None:
        deadline = time.monotonic() + START_LIMIT
        process = os.pidfd_open(daemon.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(notices, selectors.EVENT_READ)
                selector.register(process, selectors.EVENT_READ)
                while (left := deadline - time.monotonic()) > 0:
                    ready = {key.fileobj for key, _ in selector.select(left)}
                    if notices in ready and b"READY=1" in notices.recv(4096).split(b"\n"):
                        return
                    if process in ready:
                        break
        finally:
            os.close(process)
        raise AssertionError(f"the daemon did not become ready; its log:\n{self.log_text()}")

    def send(self, number: int) -> None:
        """Sends a signal to the daemon."""
        assert self.daemon is not None
        self.daemon.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stops the daemon; returns its exit status."""
        self.send(number)
        return self.wait()

    def wait(self) -> int:
        """Returns the daemon's exit status when it has ended."""
        assert self.daemon is not None
        status = self.daemon.wait(START_LIMIT)
        self.daemon = None
        return status

    def close(self) -> None:
        """Stops the daemon if it still runs; it must end in an orderly way."""
        daemon, self.daemon = self.daemon, None
        if daemon is None:
            return
        daemon.send_signal(signal.SIGTERM)
        try:
            status = daemon.wait(START_LIMIT)
        except subprocess.TimeoutExpired:
            daemon.kill()
            status = daemon.wait()
        assert status == 0, self.log_text()

    def log_text(self) -> str:
        """Returns the daemons' output."""
        return self.log.read_text(errors="replace")

    # -- callers

    @property
    def facts(self) -> dict[str, Any]:
        """What the daemon says about itself in its run folder."""
        facts: dict[str, Any] = json.loads((self.run / "daemon.json").read_bytes())
        return facts

    @property
    def address(self) -> str:
        """The TCP address it listens on."""
        return str(self.facts["listen"][0])

    @contextlib.contextmanager
    def channel(self, target: str = "") -> Iterator[grpc.Channel]:
        """A plain gRPC channel to the data edge, or to ``target``."""
        channel = grpc.insecure_channel(target or self.address, options=OPTIONS)
        try:
            yield channel
        finally:
            channel.close()

    def client(self) -> Client:
        """A client of the data edge."""
        return Client(f"unix:{self.run}/grpc.sock")

    def predict(self, body: bytes, timeout: float = CALL_LIMIT) -> bytes:
        """Sends bytes as they are and returns the answer's.

        Raises:
            RequestError: the daemon's answer is an error.
        """
        with self.channel() as channel:
            return call(channel, body, timeout)

    def ran(self) -> list[bytes]:
        """Returns the requests that the fake worker was given, in order."""
        return self.notes.read_bytes().splitlines() if self.notes.exists() else []

    def change_behaviour(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Has fake workers that start from now on do other things, by their model's name."""
        self.notes.with_name(self.notes.name + ".behaviour").write_text(json.dumps(changes))

    # -- operators

    def deploy(
        self,
        reference: str,
        *,
        force: bool = False,
        allow_downgrade: bool = False,
        origin: str = "",
    ) -> list[messages.DeployEvent]:
        """Deploys and returns all events; the last has the outcome."""
        request = messages.DeployRequest(
            reference=reference, force=force, allow_downgrade=allow_downgrade, origin=origin
        )
        return self._events("Deploy", request)

    def rollback(self, *, force: bool = False) -> list[messages.DeployEvent]:
        """Rolls back and returns all events; the last has the outcome."""
        return self._events("Rollback", messages.RollbackRequest(force=force))

    def _events(self, method: str, request: Any) -> list[messages.DeployEvent]:
        with self.channel(f"unix:{self.run}/control.sock") as channel:
            call = channel.unary_stream(
                f"{CONTROL}/{method}",
                type(request).SerializeToString,
                messages.DeployEvent.FromString,
            )
            try:
                return list(call(request, timeout=CALL_LIMIT))
            except grpc.RpcError as exc:
                raise request_error(exc, "control", "no daemon") from exc

    def undeploy(self, *, force: bool = False) -> str:
        """Undeploys and returns the digest that was in service."""
        request = messages.UndeployRequest(force=force)
        return str(self._ask("Undeploy", request, messages.UndeployReply).digest)

    def history(self) -> list[messages.Record]:
        """Returns what was deployed, newest first."""
        return list(self._ask("History", messages.HistoryRequest(), messages.HistoryReply).records)

    def quarantine(self) -> list[messages.Quarantined]:
        """Returns the images in quarantine."""
        reply = self._ask("Quarantine", messages.QuarantineRequest(), messages.QuarantineReply)
        return list(reply.images)

    def _ask(self, method: str, request: Any, reply: Any) -> Any:
        with self.channel(f"unix:{self.run}/control.sock") as channel:
            call = channel.unary_unary(
                f"{CONTROL}/{method}", type(request).SerializeToString, reply.FromString
            )
            try:
                return call(request, timeout=CALL_LIMIT)
            except grpc.RpcError as exc:
                raise request_error(exc, "control", "no daemon") from exc

    def kill_worker(self) -> None:
        """Kills the worker and waits for its end: while it dies it can still take a request."""
        worker = self.status().model.worker_pid
        ended = os.pidfd_open(worker)
        try:
            os.kill(worker, signal.SIGKILL)
            assert select.select([ended], [], [], CALL_LIMIT)[0]
        finally:
            os.close(ended)

    def status(self) -> messages.StatusReply:
        """Returns the daemon's status."""
        reply: messages.StatusReply
        reply = self._ask("Status", messages.StatusRequest(), messages.StatusReply)
        return reply

    def edged(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the ``edged`` command as an operator of this device."""
        return subprocess.run(
            [sys.executable, "-m", "edged", *arguments],
            cwd=ROOT,
            env={**os.environ, "EDGED_RUN_DIR": str(self.run)},
            capture_output=True,
            text=True,
            timeout=CALL_LIMIT,
            check=False,
        )


def call(channel: grpc.Channel, body: bytes, timeout: float = CALL_LIMIT) -> bytes:
    """Sends bytes as they are over an open channel."""
    try:
        return raw(channel)(body, timeout=timeout)
    except grpc.RpcError as exc:
        raise request_error(exc, "device", "no daemon") from exc


def raw(channel: grpc.Channel, method: str = PREDICT) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
    """Returns a method that takes and gives bytes."""
    return channel.unary_unary(method, _same, _same)


def _same(data: bytes) -> bytes:
    return data


def refusal(device: Device, body: bytes, timeout: float = CALL_LIMIT) -> RequestError:
    """Returns the error that a request is answered with."""
    try:
        answer = device.predict(body, timeout)
    except RequestError as exc:
        return exc
    raise AssertionError(f"expected an error, got {answer[:100]!r}")
